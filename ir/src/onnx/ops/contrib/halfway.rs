//! Where it matters in which order a quantised operator computes.
//!
//! ```text
//!   onnxruntime   c = a · a_scale/c_scale + b · b_scale/c_scale + fixed                     rounded with the zero point
//!   floats        c = ((a − a_zero) · a_scale + (b − b_zero) · b_scale) / c_scale           rounded before it
//! ```
//!
//! Both are the same number but for its last bits, so the same step, unless it falls halfway between two. With scales as calibration
//! finds them that is one result in tens of thousands; where ratios of scales are halves it is every second one. Which of these it is
//! shows in some thousands of operands, of which both forms are computed.

use crate::op::number;
use crate::types::DType;

/// Scale and zero point of all elements of an operand.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownScale {
    pub(super) scale: f32,
    pub(super) zero: i32,
}

impl KnownScale {
    fn real(self, q: i32) -> f32 {
        (q - self.zero) as f32 * self.scale
    }

    fn steps(self, real: f32) -> f32 {
        (real / self.scale).round_ties_even() + self.zero as f32
    }
}

/// How many operands are looked at.
const SAMPLES: usize = 4096;

/// The share of results that may be another step: one of so many.
const RARE: usize = 1000;

/// Whether results of the two forms differ next to never. Those beyond the range of their type are the same.
fn is_rare(to: DType, samples: impl Iterator<Item = [f32; 2]>) -> bool {
    let (least, most) = number::integer_range(to);
    let held = |step: f32| step.clamp(least as f32, most as f32);
    let (mut count, mut differ) = (0, 0);
    for [one, other] in samples {
        count += 1;
        // NaN differs from itself.
        differ += usize::from(held(one) != held(other));
    }
    differ * RARE <= count
}

/// Pairs of elements of two types, of all differences and sums.
fn pairs([a, b]: [DType; 2]) -> impl Iterator<Item = [i32; 2]> {
    let [a, b] = [a, b].map(|dtype| number::integer_range(dtype).0 as i32);
    (0..SAMPLES as i32).map(move |i| [a + i % 256, b + (i * 167 + i / 256 * 41) % 256])
}

/// `x · factor + more`, rounded once.
fn product_and_sum(x: f32, factor: f32, more: f32) -> f32 {
    x.mul_add(factor, more)
}

/// Of QLinearAdd with elements of these types.
pub(super) fn is_rare_in_sums(types: [DType; 2], [a, b]: [KnownScale; 2], c: KnownScale) -> bool {
    let ratios = [a.scale / c.scale, b.scale / c.scale];
    let taken = product_and_sum(a.zero as f32, ratios[0], ratios[1] * b.zero as f32);
    let fixed = c.zero as f32 - taken;
    is_rare(
        types[0],
        pairs(types).map(|[x, y]| {
            let sum = product_and_sum(y as f32, ratios[1], fixed);
            let sum = product_and_sum(x as f32, ratios[0], sum);
            [sum.round_ties_even(), c.steps(a.real(x) + b.real(y))]
        }),
    )
}

/// Of QLinearMul with elements of these types.
pub(super) fn is_rare_in_products(types: [DType; 2], [a, b]: [KnownScale; 2], c: KnownScale) -> bool {
    let factor = a.scale * b.scale / c.scale;
    is_rare(
        types[0],
        pairs(types).map(|[x, y]| {
            let steps = ((x - a.zero) * (y - b.zero)) as f32 * factor;
            [(steps + c.zero as f32).round_ties_even(), c.steps(a.real(x) * b.real(y))]
        }),
    )
}

/// How far a mean of floats may be from that of integers, in steps: their sum is rounded again and again.
const NOISE: f32 = 1.0 / 4096.0;

/// Of QLinearGlobalAveragePool over so many elements: sums of integers, with one factor.
pub(super) fn is_rare_in_means(dtype: DType, x: KnownScale, y: KnownScale, count: usize) -> bool {
    let factor = x.scale / (y.scale * count as f32);
    let (least, most) = number::integer_range(dtype);
    let [least, most] = [least, most].map(|end| (end as f64 - f64::from(x.zero)) * count as f64);
    // 64 neighbours at 64 places, so that all remainders are met.
    let sum = |i: usize| least + ((most - least) * (i / 64) as f64 / 64.0).round() + (i % 64) as f64;
    is_rare(
        dtype,
        (0..SAMPLES).map(|i| {
            let steps = sum(i) as f32 * factor;
            [steps - NOISE, steps + NOISE].map(|steps| steps.round_ties_even() + y.zero as f32)
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const U8: [DType; 2] = [DType::U8; 2];

    fn known(scale: f32, zero: i32) -> KnownScale {
        KnownScale { scale, zero }
    }

    #[test]
    fn scales_as_they_are_found_next_to_never_make_halves() {
        let [a, b, c] = [known(0.021_43, 113), known(0.017_71, 128), known(0.031_17, 121)];
        assert!(is_rare_in_sums(U8, [a, b], c));
        assert!(is_rare_in_products(U8, [a, b], c));
        assert!(is_rare_in_means(DType::U8, a, c, 49));
        assert!(is_rare_in_means(DType::U8, a, c, 112 * 112));
    }

    #[test]
    fn sums_over_twice_the_scale_are_halves_every_second_time() {
        let [a, c] = [known(0.25, 128), known(0.5, 3)];
        assert!(!is_rare_in_sums(U8, [a, a], c), "an odd zero point is added before or behind");
        assert!(is_rare_in_sums(U8, [a, a], known(0.5, 4)), "an even one does not matter");
        let third = 0.1 / 3.0;
        assert!(!is_rare_in_sums(U8, [known(third, 0); 2], known(2.0 * third, 0)), "reals are rounded");
        assert!(!is_rare_in_products([DType::I8; 2], [a, a], known(0.125, 1)));
        assert!(!is_rare_in_means(DType::U8, a, a, 64));
        assert!(is_rare_in_means(DType::U8, a, a, 49), "no seventh is a half");
    }

    #[test]
    fn what_is_beyond_the_range_is_the_same() {
        let [a, c] = [known(0.25, 0), known(0.000_01, 1)];
        assert!(is_rare_in_sums(U8, [a, a], c));
        assert!(is_rare_in_products(U8, [a, a], c));
    }
}
