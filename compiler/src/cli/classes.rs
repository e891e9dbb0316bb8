//! The best classes of a classifier's output.

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

/// The scores of an output that looks like one score for each class, for each member of a batch: floats, `batch` rows, and of the
/// other axes all but one of extent 1.
pub fn scores(output: &Tensor, batch: usize) -> Option<Vec<Vec<f32>>> {
    let (&first, rest) = output.shape().split_first()?;
    let wide = rest.iter().filter(|&&extent| extent != 1).count();
    if first != batch || wide != 1 || output.bytes().is_empty() {
        return None;
    }
    let all = floats(output)?;
    Some(all.chunks(all.len() / batch).map(<[f32]>::to_vec).collect())
}

/// The elements of a tensor of floats.
pub fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    Some(match tensor.dtype() {
        DType::F32 => tensor.elems::<f32>().ok()?.into_owned(),
        DType::F64 => tensor.elems::<f64>().ok()?.iter().map(|&v| v as f32).collect(),
        DType::F16 => tensor.elems::<half::f16>().ok()?.iter().map(|v| v.to_f32()).collect(),
        DType::BF16 => tensor.elems::<half::bf16>().ok()?.iter().map(|v| v.to_f32()).collect(),
        _ => return None,
    })
}

/// Whether the scores are probabilities already: none negative, one in all.
fn are_probabilities(scores: &[f32]) -> bool {
    let sum: f32 = scores.iter().sum();
    scores.iter().all(|&s| s >= 0.0) && (sum - 1.0).abs() < 1e-3
}

/// The `k` classes with the highest scores; of equals, the one with the lower index first. Scores that are no numbers come last.
pub fn top(scores: &[f32], k: usize) -> Vec<Class> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let score = |i: usize| scores.get(i).copied().unwrap_or(f32::NEG_INFINITY);
    let rank = |i: usize| if score(i).is_nan() { f32::NEG_INFINITY } else { score(i) };
    order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)).then(a.cmp(&b)));
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = scores.iter().map(|s| (s - max).exp()).sum();
    let given = are_probabilities(scores);
    let class = |i: usize| {
        let score = score(i);
        Class { index: i, score, probability: if given { score } else { (score - max).exp() / total } }
    };
    order.into_iter().take(k).map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_classes_come_first_and_equals_by_index() {
        let best: Vec<usize> = top(&[0.5, 2.0, -1.0, 2.0], 3).iter().map(|c| c.index).collect();
        assert_eq!(best, [1, 3, 0]);
        let best: Vec<usize> = top(&[f32::NAN, 2.0, 3.0], 3).iter().map(|c| c.index).collect();
        assert_eq!(best, [2, 1, 0]);
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
    fn a_classifier_has_a_row_for_each_of_a_batch_and_one_wide_axis() {
        let rows = |shape: &[usize], batch| {
            let tensor = Tensor::new(shape.to_vec(), &vec![0f32; shape.iter().product()]).unwrap();
            scores(&tensor, batch).map(|rows| rows.len())
        };
        assert_eq!(rows(&[1, 3, 1, 1], 1), Some(1));
        assert_eq!(rows(&[2, 3], 2), Some(2));
        assert_eq!(rows(&[2, 3], 1), None);
        assert_eq!(rows(&[1, 3, 3], 1), None);
        assert_eq!(rows(&[3], 1), None);
        assert_eq!(rows(&[0, 3], 0), None);
        assert!(scores(&Tensor::new([1, 3], &[0i64; 3]).unwrap(), 1).is_none());
        assert!(scores(&Tensor::new([1, 3], &[half::f16::ONE; 3]).unwrap(), 1).is_some());
    }
}
