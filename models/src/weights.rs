//! Random numbers that are the same on every machine.
//!
//! Every tensor draws from a stream of its own, seeded by the model's seed and the tensor's name:
//!
//! ```text
//! seed ─┐
//!       ├─ mix ── SplitMix64 ── top 24 bits ── uniform in [-1, 1), exact in f32
//! name ─┘
//! ```
//!
//! so a tensor's values depend neither on the order in which a network is built nor on its neighbours, and
//! only integer arithmetic, `*`, `+` and `sqrt` are used, which IEEE 754 rounds alike everywhere.

/// A stream of uniform numbers for one tensor.
#[derive(Debug, Clone)]
pub(crate) struct Stream(u64);

impl Stream {
    /// The stream of the tensor called `name` in a model with this `seed`.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, 64 bits.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(mix(seed.wrapping_add(GOLDEN)) ^ hash)
    }

    /// A number uniform in `[-1, 1)`: a multiple of 2⁻²³.
    pub(crate) fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let bits = (mix(self.0) >> 40) as i32;
        (bits - (1 << 23)) as f32 / (1 << 23) as f32
    }

    /// True once in `n` draws, on average.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0).is_multiple_of(n)
    }

    /// `count` numbers uniform in `[-bound, bound)`.
    pub(crate) fn uniforms(&mut self, count: usize, bound: f32) -> Vec<f32> {
        (0..count).map(|_| self.uniform() * bound).collect()
    }
}

/// The bound of He's uniform distribution, whose variance is `2 / fan_in` (He et al. 2015, equation 10).
pub(crate) fn he_bound(fan_in: usize) -> f32 {
    (6.0 / fan_in as f32).sqrt()
}

/// 2⁶⁴ / φ, the increment of SplitMix64 (Steele, Lea and Flood 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_seed_and_name_alone() {
        let draw = |seed, name| Stream::new(seed, name).uniforms(8, 1.0);
        assert_eq!(draw(0, "conv.weight"), draw(0, "conv.weight"));
        assert_ne!(draw(0, "conv.weight"), draw(1, "conv.weight"));
        assert_ne!(draw(0, "conv.weight"), draw(0, "conv.bias"));
    }

    #[test]
    fn uniform_numbers_have_the_variance_of_he() {
        let fan_in = 64;
        let draws = Stream::new(7, "w").uniforms(100_000, he_bound(fan_in));
        let variance = draws.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>() / draws.len() as f64;
        assert!((variance * fan_in as f64 / 2.0 - 1.0).abs() < 0.02, "{variance}");
    }
}
