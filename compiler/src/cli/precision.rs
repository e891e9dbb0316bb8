//! What a precision costs: the outputs of a program that stores its layers in 16 bits, beside those of the same program in `f32`.
//!
//! ```text
//!   from f32   the largest deviation of an element, as a fraction of the largest element
//!   cosine     of the angle between both, as vectors
//!   same top   rows along the last axis in which the largest element stands at the same place
//! ```
//!
//! Layer by layer, one alone has the precision and all others are kept in `f32`: so what it loses is told apart from what others lose.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nnc::{Pool, Program, Session};
use nnc_ir::{DType, Tensor};

use super::args::{CompileArgs, ThreadArgs};
use super::numbers::numbers;
use super::progress::Progress;
use super::source::{self, How, Ready};
use super::table;
use super::tensors::{self, InputTensors};

/// The outputs of a program, by name.
pub fn results(program: &Program, inputs: &[Tensor], threads: ThreadArgs) -> Result<Vec<(String, Tensor)>> {
    let mut session = Session::new(program, &Pool::new(threads.count())?)?;
    let inputs = InputTensors::new(program.inputs(), inputs);
    tensors::outputs(program.outputs(), &session.run(&inputs.refs())?)
}

/// A model, and what it is run on.
pub struct PrecisionCheck<'a> {
    pub path: &'a Path,
    pub how: &'a How<'a>,
    pub inputs: &'a [Tensor],
    pub threads: ThreadArgs,
}

impl PrecisionCheck<'_> {
    /// Compares the program with its form in `f32`, and both with the outputs of a case where there are any.
    pub fn run(
        &self,
        out: &mut dyn Write,
        ready: &Ready,
        (case, shown): (&[(String, Tensor)], &str),
        (most, layers): (Option<f64>, bool),
    ) -> Result<()> {
        let narrow = results(&ready.program, self.inputs, self.threads)?;
        let plain = CompileArgs { precision: None, keep_f32: Vec::new(), ..self.how.compile.clone() };
        let wide = self.results(&plain)?;
        let mut headings = vec!["output", "type", "from f32", "cosine", "same top"];
        let from_case = [format!("from {shown}"), "f32 from that".to_string()];
        if !case.is_empty() {
            headings.extend(from_case.iter().map(String::as_str));
        }
        let mut rows = table::new(headings);
        table::numbers(&mut rows, &[2, 3, 4, 5, 6]);
        let mut far = Vec::new();
        for ((name, narrow), (_, wide)) in narrow.iter().zip(&wide) {
            let loss = Loss::of(narrow, wide).with_context(|| format!("output \"{name}\""))?;
            let mut row = vec![name.clone(), wide.ty().to_string()];
            row.extend([format!("{:.3e}", loss.deviation), format!("{:.6}", loss.cosine), loss.top()]);
            if let Some((_, golden)) = case.iter().find(|(golden, _)| golden == name) {
                for result in [narrow, wide] {
                    row.push(format!("{:.3e}", Loss::of(result, golden)?.deviation));
                }
            }
            rows.add_row(row);
            if most.is_some_and(|most| loss.deviation > most) {
                far.push(format!(
                    "output \"{name}\" is off by {:.3e} of its largest element",
                    loss.deviation
                ));
            }
        }
        writeln!(out, "{}", rows.trim_fmt())?;
        if layers {
            self.layers(out, ready, &wide)?;
        }
        out.flush()?;
        match most {
            Some(most) if !far.is_empty() => {
                bail!("{} loses too much: {} (tolerance {most:e})", ready.name, far.join("; "))
            }
            _ => Ok(()),
        }
    }

    /// Shows how far outputs are when one layer alone has the precision, the worst first.
    fn layers(&self, out: &mut dyn Write, ready: &Ready, wide: &[(String, Tensor)]) -> Result<()> {
        let Some(report) = &ready.report else {
            bail!("what the layers are is known when the model is compiled; leave --cache out");
        };
        let layers = &report.passes.narrowed;
        let progress = Progress::new("compiling for each layer");
        let mut losses = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            progress.say(format!("layer {} of {}: {layer}", number + 1, layers.len()));
            let others = layers.iter().filter(|other| *other != layer).cloned();
            let keep_f32 = self.how.compile.keep_f32.iter().cloned().chain(others).collect();
            let alone = self.results(&CompileArgs { keep_f32, ..self.how.compile.clone() })?;
            let mut worst = 0.0f64;
            for ((_, alone), (_, wide)) in alone.iter().zip(wide) {
                worst = worst.max(Loss::of(alone, wide)?.deviation);
            }
            losses.push((worst, layer));
        }
        drop(progress);
        losses.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut rows = table::new(["layer", "alone, from f32"]);
        table::numbers(&mut rows, &[1]);
        for (loss, layer) in losses {
            rows.add_row([layer.clone(), format!("{loss:.3e}")]);
        }
        writeln!(out, "\n{}", rows.trim_fmt())?;
        Ok(())
    }

    /// The outputs of the model as it is compiled otherwise.
    fn results(&self, compile: &CompileArgs) -> Result<Vec<(String, Tensor)>> {
        let how = How { compile, cache: None, ..*self.how };
        let ready = source::ready(self.path, &how, None)?;
        results(&ready.program, self.inputs, self.threads)
    }
}

/// How far an output is from another one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Loss {
    /// Largest difference, by the largest element; infinite where NaN or infinity stand at different places.
    deviation: f64,
    cosine: f64,
    /// Rows with the largest element at the same place, of so many; none for whole numbers.
    same: usize,
    rows: usize,
}

impl Loss {
    fn of(result: &Tensor, reference: &Tensor) -> Result<Loss> {
        if result.ty() != reference.ty() {
            bail!("the model gives {}, the reference is {}", result.ty(), reference.ty());
        }
        let (a, b) = (numbers(result)?, numbers(reference)?);
        let largest = b.iter().filter(|b| b.is_finite()).fold(0.0f64, |most, b| most.max(b.abs()));
        let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
        let apart = |(&a, &b): (&f64, &f64)| match (a.is_finite() && b.is_finite(), same(a, b)) {
            (_, true) => 0.0,
            (true, false) => (a - b).abs(),
            (false, false) => f64::INFINITY,
        };
        let most = a.iter().zip(&b).map(apart).fold(0.0, f64::max);
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let lengths = dot(&a, &a).sqrt() * dot(&b, &b).sqrt();
        let columns = reference.shape().last().copied().unwrap_or(1);
        let ranked = columns > 1 && !matches!(reference.dtype(), DType::Bool);
        let rows = if ranked { a.chunks(columns).zip(b.chunks(columns)).collect() } else { Vec::new() };
        Ok(Loss {
            deviation: if most == 0.0 { 0.0 } else { most / largest },
            cosine: if lengths > 0.0 { dot(&a, &b) / lengths } else { 1.0 },
            same: rows.iter().filter(|(a, b)| top(a) == top(b)).count(),
            rows: rows.len(),
        })
    }

    fn top(&self) -> String {
        if self.rows == 0 { String::new() } else { format!("{} of {}", self.same, self.rows) }
    }
}

/// Where the largest element is, the first of several.
fn top(row: &[f64]) -> Option<usize> {
    let at = |best: Option<usize>, i: usize| match best {
        Some(b) if row[b] >= row[i] => Some(b),
        _ => Some(i),
    };
    (0..row.len()).fold(None, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(a: &[f32], b: &[f32], columns: usize) -> Loss {
        let tensor = |elems: &[f32]| Tensor::new([elems.len() / columns, columns], elems).unwrap();
        Loss::of(&tensor(a), &tensor(b)).unwrap()
    }

    #[test]
    fn a_deviation_is_a_fraction_of_the_largest_element_and_rows_agree_in_where_theirs_is() {
        let found = loss(&[1.0, 4.5, 3.0, 2.0], &[1.0, 4.0, 3.0, 3.5], 2);
        assert_eq!((found.deviation, found.same, found.rows), (0.375, 1, 2));
        assert!(found.cosine > 0.9 && found.cosine < 1.0, "{found:?}");
        assert_eq!(found.top(), "1 of 2");
        let same = loss(&[0.0, 0.0], &[0.0, 0.0], 1);
        assert_eq!((same.deviation, same.cosine, same.top()), (0.0, 1.0, String::new()));
    }

    #[test]
    fn nan_and_infinity_at_another_place_are_infinitely_far() {
        assert_eq!(loss(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY], 2).deviation, 0.0);
        for (a, b) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::INFINITY, 1.0)] {
            assert_eq!(loss(&[a, 2.0], &[b, 2.0], 2).deviation, f64::INFINITY);
        }
    }
}
