//! The best classes of a classifier's output.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nnc_ir::{DType, Tensor};

/// One class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Its index.
    pub index: usize,
    /// What the network says.
    pub score: f32,
    /// Its probability.
    pub probability: f32,
}

/// Names of classes, one a line of a file.
#[derive(Clone, Debug, Default)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Reads a file of names.
    pub fn read(path: &Path) -> Result<Labels> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the labels \"{}\"", path.display()))?;
        Ok(Labels(text.lines().map(|line| line.trim().to_string()).collect()))
    }

    /// Refuses labels that are not as many as the classes.
    pub fn check(&self, path: &Path, classes: usize) -> Result<()> {
        if self.0.len() != classes {
            bail!(
                "\"{}\" has {} labels, the model has {classes} classes; give a file with one line for each class",
                path.display(),
                self.0.len()
            );
        }
        Ok(())
    }
}

/// The scores of an output that looks like one score for each class: f32, all extents 1 but one.
pub fn scores(output: &Tensor) -> Option<Vec<f32>> {
    let wide = output.shape().iter().filter(|&&d| d != 1).count();
    if output.dtype() != DType::F32 || wide != 1 || output.shape().rank() < 2 {
        return None;
    }
    output.elems::<f32>().ok().map(|e| e.into_owned())
}

/// Whether the scores are probabilities already: none negative, one in all.
pub fn are_probabilities(scores: &[f32]) -> bool {
    let sum: f32 = scores.iter().sum();
    scores.iter().all(|&s| s >= 0.0) && (sum - 1.0).abs() < 1e-3
}

/// The `k` classes with the highest scores; of equals, the one with the lower index first.
pub fn top(scores: &[f32], k: usize) -> Vec<Class> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let score = |i: usize| scores.get(i).copied().unwrap_or(f32::NEG_INFINITY);
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = scores.iter().map(|s| (s - max).exp()).sum();
    let given = are_probabilities(scores);
    let class = |i: usize| {
        let score = score(i);
        Class { index: i, score, probability: if given { score } else { (score - max).exp() / total } }
    };
    order.into_iter().take(k).map(class).collect()
}

/// Prints classes, best first.
pub fn print(out: &mut dyn Write, classes: &[Class], labels: &Labels) -> std::io::Result<()> {
    for class in classes {
        let percent = class.probability * 100.0;
        let label = labels.0.get(class.index).map(String::as_str).unwrap_or_default();
        let line = format!("  {percent:6.2} %  class {:<5} score {:9.4}  {label}", class.index, class.score);
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_classes_come_first_and_equals_by_index() {
        let best: Vec<usize> = top(&[0.5, 2.0, -1.0, 2.0], 3).iter().map(|c| c.index).collect();
        assert_eq!(best, [1, 3, 0]);
    }

    #[test]
    fn logits_become_probabilities_and_probabilities_stay() {
        let half = top(&[3.0, 3.0], 1);
        assert_eq!(half[0].probability, 0.5);
        assert_eq!(top(&[0.25, 0.75], 1)[0].probability, 0.75);
        // Large logits do not overflow.
        assert_eq!(top(&[1e30, 0.0], 1)[0].probability, 1.0);
    }

    #[test]
    fn only_one_wide_axis_makes_a_classifier() {
        assert!(scores(&Tensor::new([1, 3, 1, 1], &[0f32; 3]).unwrap()).is_some());
        assert!(scores(&Tensor::new([2, 3], &[0f32; 6]).unwrap()).is_none());
        assert!(scores(&Tensor::new([1, 3], &[0i64; 3]).unwrap()).is_none());
    }
}
