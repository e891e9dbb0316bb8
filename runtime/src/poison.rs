//! Poison: a way to run in which reading what was never written does not go unnoticed.
//!
//! With `NNC_POISON` in the environment, every run begins with arena, scratch and outputs full of signalling NaNs, where they
//! otherwise have what the run before has left, or zeros. What a program computes must not change by a bit:
//!
//! ```text
//!   first run       0 0 0 0 0 0 0 0     a sum over something unwritten is right by chance
//!   with poison     ☠ ☠ ☠ ☠ ☠ ☠ ☠ ☠     … and NaN here
//! ```
//!
//! It is meant for tests, as guard pages are ([`crate::guard`]).

use std::sync::OnceLock;

/// A signalling NaN as an `f32`, and NaN in both halves as an `f16`; as an integer, an index outside of everything.
const SIGNALLING: u32 = 0x7fa0_7da0;

/// Whether the environment asks for it.
pub(crate) fn wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| std::env::var_os("NNC_POISON").is_some_and(|value| value != "0"))
}

/// Fills memory.
pub(crate) fn spread(memory: &mut [u8]) {
    let pattern = SIGNALLING.to_le_bytes();
    for (byte, poison) in memory.iter_mut().zip(pattern.into_iter().cycle()) {
        *byte = poison;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_of_poisoned_memory_is_a_signalling_nan() {
        let mut memory = [0; 27];
        spread(&mut memory);
        let (floats, rest) = memory.as_chunks::<4>();
        for bits in floats.iter().map(|bytes| u32::from_le_bytes(*bytes)) {
            assert!(f32::from_bits(bits).is_nan());
            assert_eq!(bits & 1 << 22, 0, "quiet");
            for half in [bits as u16, (bits >> 16) as u16] {
                assert!(
                    half & 0x7c00 == 0x7c00 && half & 0x3ff != 0,
                    "{half:#x}: a number in half precision"
                );
            }
        }
        assert_ne!(rest, [0; 3]);
    }
}
