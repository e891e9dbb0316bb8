//! What a run computed, for people and for scripts.

use std::io::Write;

use anyhow::Result;
use nnc_ir::{DType, Tensor};
use serde_json::{Value, json};

use super::classes::{self, Class};
use super::labels::Labels;

/// Outputs of so few elements are shown element by element.
const FEW: usize = 16;

/// How results are shown.
pub struct Presentation<'a> {
    /// So many classes of each row.
    pub top: usize,
    /// Their names.
    pub labels: &'a Labels,
    /// What each member of the batch is called; empty where it has no name.
    pub rows: &'a [String],
    /// Members of the batch.
    pub batch: usize,
}

/// An output as it is shown.
enum Shown {
    /// The best classes of each member of the batch, and how many scores were no numbers.
    Classes(Vec<(Vec<Class>, usize)>),
    /// All elements, as text.
    Elements(Vec<String>),
    /// What there is to say of many elements.
    Range { min: String, max: String, mean: Option<f64>, nan: usize },
    /// There are none.
    Nothing,
}

impl Presentation<'_> {
    /// Writes outputs as text.
    pub fn print(&self, out: &mut dyn Write, results: &[(String, Tensor)]) -> Result<()> {
        for (index, (name, tensor)) in results.iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            writeln!(out, "{gap}{name}  {}", tensor.ty())?;
            match self.shown(tensor)? {
                Shown::Classes(rows) => {
                    for (index, (classes, nan)) in rows.iter().enumerate() {
                        if let Some(row) = self.rows.get(index).filter(|_| self.rows.len() > 1) {
                            writeln!(out, "  {row}")?;
                        }
                        self.print_classes(out, classes)?;
                        if *nan > 0 {
                            writeln!(out, "  {nan} of the scores are NaN")?;
                        }
                    }
                }
                Shown::Elements(elements) => writeln!(out, "  {}", elements.join("  "))?,
                Shown::Range { min, max, mean, nan } => {
                    let mean = mean.map(|mean| format!("  mean {mean:.4}")).unwrap_or_default();
                    let nan = if nan > 0 {
                        format!("  {nan} of {} are NaN", tensor.shape().elems())
                    } else {
                        String::new()
                    };
                    writeln!(out, "  min {min}  max {max}{mean}{nan}")?;
                }
                Shown::Nothing => writeln!(out, "  empty")?,
            }
        }
        Ok(())
    }

    fn print_classes(&self, out: &mut dyn Write, classes: &[Class]) -> Result<()> {
        for class in classes {
            let percent = class.probability * 100.0;
            let label = self.labels.get(class.index).unwrap_or_default();
            let line =
                format!("  {percent:6.2} %  class {:<5} score {:9.4}  {label}", class.index, class.score);
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Outputs as JSON: `[{name, dtype, shape, …}]`. Numbers that JSON has no word for are `null`.
    pub fn json(&self, results: &[(String, Tensor)]) -> Result<Value> {
        let output = |(name, tensor): &(String, Tensor)| -> Result<Value> {
            let mut entry =
                json!({"name": name, "dtype": tensor.dtype().to_string(), "shape": tensor.shape().to_vec()});
            let more = match self.shown(tensor)? {
                Shown::Classes(rows) => {
                    let rows: Vec<Value> =
                        rows.iter().map(|(classes, _)| self.json_classes(classes)).collect();
                    json!({"classes": rows})
                }
                Shown::Elements(elements) => {
                    json!({"elements": elements.iter().map(|e| number(e)).collect::<Vec<_>>()})
                }
                Shown::Range { min, max, mean, nan } => {
                    json!({"min": number(&min), "max": number(&max), "mean": mean, "nan": nan})
                }
                Shown::Nothing => json!({}),
            };
            if let (Value::Object(entry), Value::Object(more)) = (&mut entry, more) {
                entry.extend(more);
            }
            Ok(entry)
        };
        Ok(Value::Array(results.iter().map(output).collect::<Result<_>>()?))
    }

    fn json_classes(&self, classes: &[Class]) -> Value {
        let class = |c: &Class| json!({"index": c.index, "label": self.labels.get(c.index), "score": c.score, "probability": c.probability});
        classes.iter().map(class).collect()
    }

    fn shown(&self, tensor: &Tensor) -> Result<Shown> {
        if tensor.bytes().is_empty() {
            return Ok(Shown::Nothing);
        }
        if let Some(rows) = classes::scores(tensor, self.batch) {
            let row = |scores: &Vec<f32>| -> Result<_> {
                self.labels.check(scores.len())?;
                let nan = scores.iter().filter(|score| score.is_nan()).count();
                Ok((classes::top(scores, self.top), nan))
            };
            return Ok(Shown::Classes(rows.iter().map(row).collect::<Result<_>>()?));
        }
        if let Some(floats) = classes::floats(tensor) {
            if floats.len() <= FEW {
                return Ok(Shown::Elements(floats.iter().map(f32::to_string).collect()));
            }
            let nan = floats.iter().filter(|v| v.is_nan()).count();
            let min = floats.iter().copied().fold(f32::INFINITY, f32::min);
            let max = floats.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = floats.iter().filter(|v| !v.is_nan()).map(|&v| f64::from(v)).sum();
            let some = floats.len() - nan;
            let mean = (some > 0).then(|| sum / some as f64);
            return Ok(Shown::Range { min: format!("{min:.4}"), max: format!("{max:.4}"), mean, nan });
        }
        if tensor.dtype() == DType::Bool {
            let bytes = tensor.bytes();
            let yes = bytes.iter().filter(|&&b| b != 0).count();
            return Ok(match bytes.len() <= FEW {
                true => Shown::Elements(bytes.iter().map(|&b| (b != 0).to_string()).collect()),
                false => Shown::Range {
                    min: (yes == bytes.len()).to_string(),
                    max: (yes > 0).to_string(),
                    mean: Some(yes as f64 / bytes.len() as f64),
                    nan: 0,
                },
            });
        }
        let integers = integers(tensor)?;
        if integers.len() <= FEW {
            return Ok(Shown::Elements(integers.iter().map(i128::to_string).collect()));
        }
        let (min, max) = (integers.iter().min().copied(), integers.iter().max().copied());
        let text = |v: Option<i128>| v.unwrap_or_default().to_string();
        Ok(Shown::Range { min: text(min), max: text(max), mean: None, nan: 0 })
    }
}

/// A number as it is written; `null` for what JSON has no word for, such as NaN.
fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// The elements of a tensor of integers.
fn integers(tensor: &Tensor) -> Result<Vec<i128>> {
    macro_rules! all {
        ($t:ty) => {
            tensor.elems::<$t>()?.iter().map(|&v| i128::from(v)).collect()
        };
    }
    Ok(match tensor.dtype() {
        DType::U8 => all!(u8),
        DType::I8 => all!(i8),
        DType::U16 => all!(u16),
        DType::I16 => all!(i16),
        DType::U32 => all!(u32),
        DType::I32 => all!(i32),
        DType::U64 => all!(u64),
        DType::I64 => all!(i64),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Bool => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(batch: usize, rows: &[&str], tensor: Tensor) -> String {
        let rows: Vec<String> = rows.iter().map(|r| r.to_string()).collect();
        let presentation = Presentation { top: 1, labels: &Labels::default(), rows: &rows, batch };
        let mut out = Vec::new();
        presentation.print(&mut out, &[("y".into(), tensor)]).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_batch_has_a_row_of_classes_for_each_picture() {
        let y = Tensor::new([2, 3], &[0.0f32, 1.0, 0.0, 0.25, 0.25, 0.5]).unwrap();
        let shown = text(2, &["a.png", "b.png"], y);
        let lines: Vec<&str> = shown.lines().skip(1).map(str::trim).collect();
        assert_eq!(lines[0], "a.png");
        assert!(lines[1].contains("class 1"));
        assert_eq!(lines[2], "b.png");
        assert!(lines[3].contains("class 2"));
    }

    #[test]
    fn integers_and_truths_are_shown() {
        assert!(text(1, &[], Tensor::new([3], &[7i64, -1, 3]).unwrap()).contains("\n  7  -1  3\n"));
        let many: Vec<u8> = (0..100).collect();
        assert!(text(1, &[], Tensor::new([100], &many).unwrap()).contains("min 0  max 99\n"));
        let truth = Tensor::from_bytes(nnc_ir::TensorType::new(DType::Bool, [2]), vec![1, 0]).unwrap();
        assert!(text(1, &[], truth).contains("true  false"));
        assert!(text(1, &[], Tensor::new([0, 4], &[0f32; 0]).unwrap()).contains("empty"));
    }

    #[test]
    fn results_that_are_no_numbers_are_said_to_be() {
        let mut y = vec![1f32; 40];
        y[3] = f32::NAN;
        assert!(text(3, &[], Tensor::new([40], &y).unwrap()).contains("mean 1.0000  1 of 40 are NaN"));
        assert!(text(1, &[], Tensor::new([1, 40], &y).unwrap()).contains("1 of the scores are NaN"));
        let presentation = Presentation { top: 1, labels: &Labels::default(), rows: &[], batch: 1 };
        let few = Tensor::new([2], &[f32::NAN, 0.5]).unwrap();
        let json = presentation.json(&[("y".into(), few)]).unwrap();
        assert_eq!(json[0]["elements"], json!([null, 0.5]));
    }
}
