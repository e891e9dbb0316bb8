//! What a channel's values are expected to look like: the mean and variance that make random networks behave.
//!
//! A trained network's batch normalisation holds the statistics of its own activations. Random statistics in a
//! random network would let activations die out or blow up within twenty layers. So the builder follows each
//! channel's mean and variance through the graph, by formula, and writes statistics that fit:
//!
//! ```text
//! input          conv                     BN                     ReLU
//! (m, v)[c] ──►  m' = Σ w·m[c]      ──►   γ·(m' - μ)/σ + β ──►   moments of the rectified Gaussian
//!                v' = Σ w²·v[c]           with μ ≈ m', σ² ≈ v'
//! ```
//!
//! Channels and positions are taken as independent and Gaussian, which is wrong in detail and right enough: the
//! values stay near unit scale through a hundred layers. Nothing here calls a platform's `libm`, so the written
//! statistics are the same bits everywhere.

/// Mean and variance, one of each per channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    pub(crate) mean: Vec<f64>,
    pub(crate) var: Vec<f64>,
}

impl Moments {
    /// The same mean and variance for every channel.
    pub(crate) fn uniform(channels: usize, mean: f64, var: f64) -> Self {
        Self { mean: vec![mean; channels], var: vec![var; channels] }
    }

    fn map(&self, f: impl Fn(f64, f64) -> (f64, f64)) -> Self {
        let (mean, var) = self.mean.iter().zip(&self.var).map(|(&m, &v)| f(m, v)).unzip();
        Self { mean, var }
    }

    /// The variance averaged over channels.
    pub(crate) fn average_var(&self) -> f64 {
        self.var.iter().sum::<f64>() / self.var.len() as f64
    }

    /// After `max(x, 0)`.
    pub(crate) fn relu(&self) -> Self {
        self.map(|mean, var| {
            let (first, second) = rectified(mean, var.sqrt());
            (first, (second - first * first).max(0.0))
        })
    }

    /// After `min(max(x, 0), 6)`, which is `relu(x) - relu(x - 6)`.
    pub(crate) fn relu6(&self) -> Self {
        self.map(|mean, var| {
            let (first, second) = rectified(mean, var.sqrt());
            let (over_first, over_second) = rectified(mean - 6.0, var.sqrt());
            let mean = first - over_first;
            let second = second - over_second - 12.0 * over_first;
            (mean, (second - mean * mean).max(0.0))
        })
    }

    /// After a function of each element: its mean and mean square over 33 points of the Gaussian, up to four deviations.
    pub(crate) fn through(&self, f: impl Fn(f64) -> f64) -> Self {
        const REACH: i32 = 16;
        let points = || (-REACH..=REACH).map(|i| f64::from(i) / 4.0);
        let total: f64 = points().map(gaussian_density).sum();
        self.map(|mean, var| {
            let deviation = var.sqrt();
            let (first, second) = points().fold((0.0, 0.0), |(first, second), z| {
                let (weight, value) = (gaussian_density(z) / total, f(mean + deviation * z));
                (first + weight * value, second + weight * value * value)
            });
            (first, (second - first * first).max(0.0))
        })
    }

    /// The mean square, averaged over channels.
    pub(crate) fn average_square(&self) -> f64 {
        self.mean.iter().zip(&self.var).map(|(m, v)| v + m * m).sum::<f64>() / self.mean.len() as f64
    }

    /// After subtracting the mean over all channels and dividing by their deviation.
    pub(crate) fn normalised(&self) -> Self {
        let mean = self.mean.iter().sum::<f64>() / self.mean.len() as f64;
        let var = (self.average_square() - mean * mean).max(1e-12);
        self.map(|m, v| ((m - mean) / var.sqrt(), v / var))
    }

    /// After a scale and a shift of each channel.
    pub(crate) fn affine(&self, scale: &[f32], shift: &[f32]) -> Self {
        let scaled = |(&m, (&scale, &shift)): (&f64, (&f32, &f32))| m * f64::from(scale) + f64::from(shift);
        let channels = || scale.iter().zip(shift);
        Self {
            mean: self.mean.iter().zip(channels()).map(scaled).collect(),
            var: self.var.iter().zip(scale).map(|(&v, &scale)| v * f64::from(scale * scale)).collect(),
        }
    }

    /// The product of two independent values.
    pub(crate) fn product(&self, other: &Self) -> Self {
        let square = |m: f64, v: f64| v + m * m;
        let pairs = || (0..self.mean.len()).map(|i| (self.mean[i], self.var[i], other.mean[i], other.var[i]));
        Self {
            mean: pairs().map(|(m, _, n, _)| m * n).collect(),
            var: pairs().map(|(m, v, n, w)| square(m, v) * square(n, w) - m * m * n * n).collect(),
        }
    }

    /// The sum of two independent values.
    pub(crate) fn add(&self, other: &Self) -> Self {
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x + y).collect();
        Self { mean: sum(&self.mean, &other.mean), var: sum(&self.var, &other.var) }
    }

    /// The channels of all parts, in order.
    pub(crate) fn concat<'a>(parts: impl Iterator<Item = &'a Self> + Clone) -> Self {
        Self {
            mean: parts.clone().flat_map(|part| part.mean.iter().copied()).collect(),
            var: parts.flat_map(|part| part.var.iter().copied()).collect(),
        }
    }

    /// Channel `i` of the result is channel `of(i)` of this one.
    pub(crate) fn select(&self, channels: usize, of: impl Fn(usize) -> usize) -> Self {
        Self {
            mean: (0..channels).map(|i| self.mean[of(i)]).collect(),
            var: (0..channels).map(|i| self.var[of(i)]).collect(),
        }
    }

    /// After an average over `count` neighbours, of which about `√count` are independent.
    pub(crate) fn average_pool(&self, count: usize) -> Self {
        let shrink = (count as f64).sqrt();
        self.map(|mean, var| (mean, var / shrink))
    }

    /// After the maximum over a 3 × 3 window of values that are partly alike. (Nine independent values of a
    /// rectified Gaussian would be 1.9 deviations up, with 1.05 of the variance.)
    pub(crate) fn max_pool(&self) -> Self {
        self.map(|mean, var| (mean + 1.7 * var.sqrt(), var))
    }
}

/// The fraction of output positions at which each tap of a window lies inside the picture, not in the padding.
///
/// `size` and `output` are the extents before and after, `before` the padding in front.
pub(crate) fn tap_coverage(
    size: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    before: usize,
) -> Vec<f64> {
    (0..kernel)
        .map(|tap| {
            let inside = |&position: &usize| (before..before + size).contains(&(position * stride + tap));
            (0..output).filter(inside).count() as f64 / output as f64
        })
        .collect()
}

/// First and second moment of `max(x, 0)` for a Gaussian `x`.
fn rectified(mean: f64, deviation: f64) -> (f64, f64) {
    if deviation == 0.0 {
        let value = mean.max(0.0);
        return (value, value * value);
    }
    let z = mean / deviation;
    let (density, below) = (gaussian_density(z), gaussian_distribution(z));
    let first = mean * below + deviation * density;
    let second = (mean * mean + deviation * deviation) * below + mean * deviation * density;
    (first.max(0.0), second.max(0.0))
}

/// `1 / (1 + e⁻ˣ)`
pub(crate) fn sigmoid(x: f64) -> f64 {
    let power = exp_negative(x.abs());
    if x < 0.0 { power / (1.0 + power) } else { 1.0 / (1.0 + power) }
}

pub(crate) fn tanh(x: f64) -> f64 {
    2.0 * sigmoid(2.0 * x) - 1.0
}

/// `x · Φ(x)`
pub(crate) fn gelu(x: f64) -> f64 {
    x * gaussian_distribution(x)
}

fn gaussian_density(z: f64) -> f64 {
    const INV_SQRT_TAU: f64 = 0.398_942_280_401_432_7;
    INV_SQRT_TAU * exp_negative(0.5 * z * z)
}

/// Φ(z) to 7.5e-8 (Abramowitz and Stegun 1964, formula 26.2.17).
fn gaussian_distribution(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let polynomial = t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let upper = gaussian_density(z) * polynomial;
    if z < 0.0 { upper } else { 1.0 - upper }
}

/// `e⁻ˣ` for `x ≥ 0` from multiplications alone: the Taylor series of `x / 256`, squared eight times.
fn exp_negative(x: f64) -> f64 {
    if x > 700.0 {
        return 0.0;
    }
    let y = -x / 256.0;
    let series =
        1.0 + y * (1.0 + y / 2.0 * (1.0 + y / 3.0 * (1.0 + y / 4.0 * (1.0 + y / 5.0 * (1.0 + y / 6.0)))));
    (0..8).fold(series, |power, _| power * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rectified_standard_gaussian_has_the_known_moments() {
        let after = Moments::uniform(1, 0.0, 1.0).relu();
        assert!((after.mean[0] - 0.398_942_28).abs() < 1e-6);
        assert!((after.var[0] - (0.5 - 0.159_154_94)).abs() < 1e-6);
    }

    #[test]
    fn the_upper_bound_of_relu6_caps_the_mean() {
        let after = Moments::uniform(1, 100.0, 1.0).relu6();
        assert!((after.mean[0] - 6.0).abs() < 1e-6, "{after:?}");
        assert!(after.var[0] < 1e-4, "{after:?}");
    }

    #[test]
    fn a_function_of_each_element_has_the_moments_that_the_closed_form_has() {
        let before = Moments { mean: vec![0.0, 0.7, -1.2], var: vec![1.0, 0.3, 2.0] };
        let (sampled, closed) = (before.through(|x| x.max(0.0)), before.relu());
        for (a, b) in sampled.mean.iter().zip(&closed.mean).chain(sampled.var.iter().zip(&closed.var)) {
            assert!((a - b).abs() < 1e-2, "{sampled:?} {closed:?}");
        }
    }

    #[test]
    fn sigmoid_tangent_and_gelu_agree_with_the_platforms() {
        for x in [-30.0, -3.0, -0.1, 0.0, 0.5, 2.0, 30.0_f64] {
            assert!((sigmoid(x) - 1.0 / (1.0 + (-x).exp())).abs() < 1e-9, "{x}");
            assert!((tanh(x) - x.tanh()).abs() < 1e-9, "{x}");
        }
        // Hendrycks and Gimpel's function at 1 is Φ(1).
        assert!((gelu(1.0) - 0.841_344_75).abs() < 1e-6);
    }

    #[test]
    fn normalised_channels_have_mean_zero_and_mean_square_one() {
        let after = Moments { mean: vec![1.0, 2.0, -4.0], var: vec![1.0, 0.5, 3.0] }.normalised();
        assert!(after.mean.iter().sum::<f64>().abs() < 1e-12);
        assert!((after.average_square() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_product_with_a_constant_is_scaled() {
        let after = Moments::uniform(1, 3.0, 2.0).product(&Moments::uniform(1, 0.5, 0.0));
        assert_eq!((after.mean[0], after.var[0]), (1.5, 0.5));
    }

    #[test]
    fn the_exponential_agrees_with_the_platforms() {
        for x in [0.0, 1e-3, 0.5, 1.0, 3.0, 20.0] {
            assert!((exp_negative(x) - (-x).exp()).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn on_a_single_pixel_only_the_middle_tap_of_a_padded_window_counts() {
        assert_eq!(tap_coverage(1, 1, 3, 1, 1), [0.0, 1.0, 0.0]);
        assert_eq!(tap_coverage(4, 4, 3, 1, 1), [0.75, 1.0, 0.75]);
    }
}
