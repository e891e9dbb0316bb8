//! The text form of a graph: for people, for file tests, for bug reports.
//!
//! ```text
//! // A comment.
//! %x = input : f32[1x3x32x32]
//! %w = const f32[8x3x3x3] hash(seed=1, scale=0.5)
//! %b = const f32[8] splat(0.25)
//! %c1 = conv %x, %w, %b {strides=2x2, pads=1x1:1x1, epilogue=relu6} : f32[1x8x16x16]
//! %s = split %c1 {axis=1, parts=[4, 4]} : f32[1x4x16x16], f32[1x4x16x16]
//! %y = concat %s:1, %s {axis=1} : f32[1x8x16x16]
//! output logits = %y
//! ```
//!
//! - One statement for each node, in an order in which each follows what it reads. White space means nothing.
//! - A value is `%name`, for the first output of the node of that name; `%name:1` is the second. A name that is not
//!   made of letters, digits and `_ . / -` alone is quoted; the second node of a name is `%name#2`; nodes without a
//!   name are numbered, `%0`.
//! - An operator is its ONNX name in lower snake case. An operand that is left out is `_`.
//! - Attributes stand in braces, as far as they differ from their defaults. Extents are `3x3`, lists `[0, 2]`, pads
//!   `begin:end`.
//! - What is fused is named in the order in which it applies: `prologue=affine+relu`, `epilogue=residual+relu6` adds
//!   the residual before the activation, `epilogue=relu+residual` after it.
//! - Graphs inside of an operator follow in braces, each behind a word: `loop %x {trips=3} body { … } : f32[3x2]`,
//!   `if %c then { … } else { … } : f32[2]`. They have names of their own.
//! - The types of the results follow a colon. They are checked against inference.
//! - The data of a constant are `{1, 2, 3}`, `splat(1)`, `hash(seed=3, scale=0.5)` (pseudo-random, see [`hash`]), or
//!   `bytes(…)` in hexadecimal. [`print()`] shows only a `digest(…)` of larger ones, which cannot be read back;
//!   [`print_full`] shows everything.
//!
//! The attributes of each operator are described once, in `ops.rs`; printer and parser both walk that description.

mod attrs;
mod constant;
mod ops;
mod parse;
mod print;
mod select;

pub use constant::hash;
pub use parse::{ParseError, parse};
pub(crate) use print::attributes;
pub use print::{describe, print, print_full};

#[cfg(test)]
mod tests;

/// Whether a name can be written without quotes. One of digits alone would be taken for a number, one that begins with
/// two slashes for a comment.
fn is_bare(name: &str) -> bool {
    name.chars().all(is_name_char) && !name.chars().all(|c| c.is_ascii_digit()) && !name.starts_with("//")
}

/// Characters of names that need no quotes.
fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./-".contains(c)
}

/// A name, in quotes if it needs them.
fn name(name: &str) -> String {
    if is_bare(name) {
        return name.to_string();
    }
    let mut text = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => text.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
