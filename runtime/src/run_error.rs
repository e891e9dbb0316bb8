//! What is wrong with a run.

use std::fmt;

use crate::abi::ElemType;
use crate::memory::MemoryError;

/// A run that cannot start, so that nothing was computed, or whose data turned out to be wrong ([`RunError::Index`]), so that its
/// outputs mean nothing. The session can be used again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Too few or too many tensors.
    #[error("the program has {expected} {role}s but got {found}; pass each once")]
    Count {
        /// Inputs or outputs.
        role: Role,
        /// How many the program has.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// A name that the program does not have.
    #[error("the program has no {role} \"{name}\"; it has {}", list(.known))]
    NoSuchName {
        /// Inputs or outputs.
        role: Role,
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The same tensor twice.
    #[error("{role} \"{name}\" is given twice; pass each once")]
    Twice {
        /// Inputs or outputs.
        role: Role,
        /// The name.
        name: String,
    },
    /// A tensor of the wrong element type.
    #[error("{role} \"{name}\" takes {expected} but got {found}; convert the tensor")]
    Type {
        /// Inputs or outputs.
        role: Role,
        /// The name.
        name: String,
        /// What the program takes.
        expected: ElemType,
        /// What came.
        found: ElemType,
    },
    /// A tensor of the wrong size.
    #[error(
        "{role} \"{name}\" is {elem}{shape:?} and takes {expected} bytes but got {found}; \
         pass a dense tensor of that shape"
    )]
    Size {
        /// Inputs or outputs.
        role: Role,
        /// The name.
        name: String,
        /// The element type.
        elem: ElemType,
        /// The shape.
        shape: Vec<usize>,
        /// Bytes that it takes.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// A tensor whose extents are said and are others.
    #[error("{role} \"{name}\" has the shape {expected:?} but got {found:?}; pass a tensor of that shape")]
    Shape {
        /// Inputs or outputs.
        role: Role,
        /// The name.
        name: String,
        /// The shape.
        expected: Vec<usize>,
        /// That of the tensor that came.
        found: Vec<usize>,
    },
    /// A tensor that does not begin at a multiple of its element's size.
    #[error("{role} \"{name}\" must be aligned to {align} bytes; copy it to an aligned buffer")]
    Misaligned {
        /// Inputs or outputs.
        role: Role,
        /// The name.
        name: String,
        /// The alignment in bytes.
        align: usize,
    },
    /// A pointer from C that is null.
    #[error("{role} \"{name}\" is null; pass a buffer")]
    Null {
        /// Inputs or outputs.
        role: Role,
        /// The name.
        name: String,
    },
    /// An output that the program does not have.
    #[error("the program has {count} outputs, so there is no output {index}, counted from 0")]
    NoSuchOutput {
        /// Which one was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// An index that the data contain leads outside of what it points into. Of several, this is the first one of the first node.
    #[error(
        "node \"{node}\": index {index} lies outside of axis {axis}, which has {extent} elements; correct the data that it comes \
         from, or compile the model so that such indices are clamped"
    )]
    Index {
        /// The node that follows the index.
        node: String,
        /// The axis of its first operand.
        axis: usize,
        /// The index, as the data have it.
        index: i64,
        /// How many elements there are along the axis.
        extent: usize,
    },
    /// No memory for the outputs.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Which side of a program a tensor is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An input.
    Input,
    /// An output.
    Output,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Input => "input",
            Role::Output => "output",
        })
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { format!("\"{}\"", names.join("\", \"")) }
}
