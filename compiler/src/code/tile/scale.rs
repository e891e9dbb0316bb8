//! How a number is multiplied by a power of two, where the machine has no instruction for it.
//!
//! The exponent `n` goes in halves, `h` = n / 2 rounded and n - h, for each of which the power is a normal number; so the result may
//! be a denormal, or infinite. Added to 1½ · 2²³, a whole number stands in the low bits of the sum, from where a shift moves it to those of an
//! exponent:
//!
//! ```text
//!   low  = ½ · n + (1½ · 2²³ + 127)       127 + h           in the low bits
//!   both =     n + (1½ · 2²³ + 254)       254 + n
//!   high = both - low, as integers        127 + (n - h)
//!   x · (low << 23) · (high << 23)
//! ```

/// What the first number is multiplied by, and what is added to it and to the second.
pub(super) const CONSTANTS: [f32; 3] = [0.5, 12_582_912.0 + 127.0, 12_582_912.0 + 254.0];
