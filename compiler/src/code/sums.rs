//! Sums of products of bytes: where they start, whether `f32` holds them, and how large they become.

use nnc_ir::{Tensor, TensorError};

/// Where the sums of each channel start; `None` where that is 0 for all.
pub fn starts(weights: &Tensor, bias: Option<&Tensor>, x_zero: i32) -> Result<Option<Vec<i32>>, TensorError> {
    let channels = weights.shape()[0];
    let each = weights.shape().elems() / channels.max(1);
    let mut starts = match bias {
        Some(bias) => bias.elems::<i32>()?.into_owned(),
        None => vec![0; channels],
    };
    if x_zero != 0 {
        for (start, weights) in starts.iter_mut().zip(weights.elems::<i8>()?.chunks(each.max(1))) {
            let sum: i32 = weights.iter().map(|&w| i32::from(w)).sum();
            *start = start.wrapping_sub(x_zero.wrapping_mul(sum));
        }
    }
    Ok(starts.iter().any(|&start| start != 0).then_some(starts))
}

/// Whether all sums of a layer are numbers that `f32` holds.
pub fn are_exact(weights: &Tensor, bias: Option<&Tensor>, x_zero: i32) -> bool {
    let Ok(starts) = starts(weights, bias, x_zero) else { return false };
    let Ok(elems) = weights.elems::<i8>() else { return false };
    let each = elems.len() / weights.shape()[0].max(1);
    elems.chunks(each.max(1)).enumerate().all(|(m, weights)| {
        let most: i64 = weights.iter().map(|w| 255 * i64::from(w.unsigned_abs())).sum();
        let start = starts.as_ref().and_then(|starts| starts.get(m)).copied().unwrap_or(0);
        most + i64::from(start).abs() <= 1 << f32::MANTISSA_DIGITS
    })
}

/// What no rescaled sum of a layer exceeds, whatever bytes its operands have.
pub fn largest(
    weights: &Tensor,
    bias: Option<&Tensor>,
    scale: &Tensor,
    shift: Option<&Tensor>,
) -> Option<f64> {
    let products = weights.shape().elems() / weights.shape()[0].max(1);
    // Elements, and the zero point, are at most 255.
    let most = 2.0 * 255.0 * 128.0 * products as f64;
    let bias = bias.map(|bias| bias.elems::<i32>()).transpose().ok()?;
    let shift = shift.map(|shift| shift.elems::<f32>()).transpose().ok()?;
    let rescaled = |(m, scale): (usize, &f32)| {
        let start = bias.as_ref().map_or(0.0, |bias| f64::from(bias[m]).abs());
        let shift = shift.as_ref().map_or(0.0, |shift| f64::from(shift[m]).abs());
        (start + most) * f64::from(*scale).abs() + shift
    };
    let all = scale.elems::<f32>().ok()?;
    Some(all.iter().enumerate().map(rescaled).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_start_at_the_bias_less_what_the_zero_point_comes_to() {
        let weights = Tensor::new([2, 3, 1, 1], &[1i8, 2, 3, -1, -128, 127]).unwrap();
        let bias = Tensor::new([2], &[100i32, -5]).unwrap();
        assert_eq!(starts(&weights, Some(&bias), 10).unwrap(), Some(vec![100 - 60, -5 + 20]));
        assert_eq!(starts(&weights, None, 0).unwrap(), None);
        let none = Tensor::new([2], &[0i32, 0]).unwrap();
        assert_eq!(starts(&weights, Some(&none), 0).unwrap(), None, "which no kernel has to load");
    }

    #[test]
    fn sums_are_exact_up_to_what_f32_holds() {
        let weights = Tensor::new([1, 2, 1, 1], &[127i8, -128]).unwrap();
        let most = (1 << 24) - 255 * 255;
        let bias = |b: i32| Tensor::new([1], &[b]).unwrap();
        assert!(are_exact(&weights, Some(&bias(most)), 0));
        assert!(!are_exact(&weights, Some(&bias(most + 1)), 0));
        assert!(!are_exact(&weights, Some(&bias(-most - 1)), 0));
        assert!(are_exact(&weights, Some(&bias(-most - 1)), 255), "the zero point counts");
    }
}
