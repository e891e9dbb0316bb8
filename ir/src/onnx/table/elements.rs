//! Elements that an operator is read for.

use self::Elements::{Any, Bool, Floats, Integers, Numbers};

/// Elements that an operator is read for, in one word; ONNX has the list for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Of any type that nnc has.
    Any,
    /// Floating-point numbers.
    Floats,
    /// Floating-point numbers and integers.
    Numbers,
    /// Integers.
    Integers,
    /// Booleans.
    Bool,
}

impl Elements {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Any => "any",
            Floats => "floats",
            Numbers => "numbers",
            Integers => "integers",
            Bool => "bool",
        }
    }
}
