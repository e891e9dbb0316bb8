//! How much a model may ask for.
//!
//! A model of a few bytes can describe work and memory without end: a tensor of 2⁶⁰ elements, a chain of a million nodes,
//! constants that double at each node. Whatever grows with what a model says, and not with the bytes that it has, stands
//! under one of these limits; each is checked before the memory is taken or the work begun.
//!
//! ```text
//!   bytes ─▶ file ─▶ depth, nodes, parts ─▶ weights, tensor, rank, ports ─▶ time … ─▶ arena ─▶ program
//!            read      walk over the wire       decode, import                 passes, plan, code
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use crate::setting::Setting;
use crate::types::TensorType;

/// Bounds on what a model may ask for. The defaults let every model through that a CPU could sensibly run.
///
/// A model keeps the limits that it was opened with, for all that is compiled from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the model file. Protocol buffers end at 2 GiB; larger models keep their weights in external files.
    pub file_bytes: u64,
    /// Bytes of any one tensor: initializer, constant or intermediate value. An extent of 0 counts as 1. Never more than 1 TiB.
    pub tensor_bytes: u64,
    /// Bytes of all initializers and constant attributes together; and of all constants of a program, packed.
    pub weight_bytes: u64,
    /// Bytes of memory for the activations of a program. No program can address more than 2 GiB.
    pub arena_bytes: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of things that the file lists: nodes, names of their operands and results, attributes, dims, tensors. Each
    /// takes a few hundred bytes of memory once it is read, though it may have two bytes in the file.
    pub parts: usize,
    /// Number of inputs, and of outputs, of the graph.
    pub ports: usize,
    /// Number of axes of any one tensor.
    pub rank: usize,
    /// Messages within messages in the file; ONNX needs four for each level of subgraphs. The parser ends at 100.
    pub depth: usize,
    /// Time to compile a model, from its graph to code.
    pub compile_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            file_bytes: 2 << 30,
            tensor_bytes: 4 << 30,
            weight_bytes: 16 << 30,
            arena_bytes: 2 << 30,
            nodes: 1_000_000,
            parts: 4_000_000,
            ports: 4096,
            rank: 32,
            depth: 64,
            compile_time: Duration::from_secs(600),
        }
    }
}

/// Bytes that no tensor may have, whatever the limit: sums and products of a few sizes below it cannot overflow.
const LARGEST: u64 = 1 << 40;

impl Limits {
    /// Refuses a tensor type that is too large; `what` says whose it is.
    pub(crate) fn admit(&self, ty: &TensorType, what: impl Fn() -> String) -> Result<(), Exceeded> {
        if ty.shape.rank() > self.rank {
            let what = format!("{} of {} axes", what(), ty.shape.rank());
            return Err(Exceeded { what, limit: self.rank as u64, name: LimitName::Rank });
        }
        // An extent of 0 makes a tensor small, but not the products of its other extents, which planning multiplies.
        let bytes = ty.shape.iter().try_fold(ty.dtype.bytes(), |n, &extent| n.checked_mul(extent.max(1)));
        if bytes.is_none_or(|bytes| bytes as u64 > self.tensor_bytes.min(LARGEST)) {
            let size =
                bytes.map_or("more bytes than can be counted".into(), |bytes| format!("{bytes} bytes"));
            let what = format!("{} of type {ty} and {size}", what());
            return Err(Exceeded { what, limit: self.tensor_bytes, name: LimitName::TensorBytes });
        }
        Ok(())
    }
}

/// A field of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say it")]
pub enum LimitName {
    FileBytes,
    TensorBytes,
    WeightBytes,
    ArenaBytes,
    Nodes,
    Parts,
    Ports,
    Rank,
    Depth,
    CompileTime,
}

impl LimitName {
    /// All of them, in the order of the fields.
    pub const ALL: [LimitName; 10] = [
        LimitName::FileBytes,
        LimitName::TensorBytes,
        LimitName::WeightBytes,
        LimitName::ArenaBytes,
        LimitName::Nodes,
        LimitName::Parts,
        LimitName::Ports,
        LimitName::Rank,
        LimitName::Depth,
        LimitName::CompileTime,
    ];
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitName::FileBytes => "file_bytes",
            LimitName::TensorBytes => "tensor_bytes",
            LimitName::WeightBytes => "weight_bytes",
            LimitName::ArenaBytes => "arena_bytes",
            LimitName::Nodes => "nodes",
            LimitName::Parts => "parts",
            LimitName::Ports => "ports",
            LimitName::Rank => "rank",
            LimitName::Depth => "depth",
            LimitName::CompileTime => "compile_time",
        })
    }
}

/// Something is larger than a limit allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} is over the limit of {limit} ({name}); if you trust the model, raise it with {}",
    Setting::Limit(*.name)
)]
pub struct Exceeded {
    /// What is too large, and how large it is.
    pub what: String,
    /// The limit: bytes, a number, or seconds.
    pub limit: u64,
    /// Which limit.
    pub name: LimitName,
}

/// The moment at which compiling a model must be over. Whoever does work that grows with the model asks it now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    end: Option<Instant>,
    limit: Duration,
}

impl Deadline {
    /// So much time from now.
    pub fn after(limit: Duration) -> Deadline {
        Deadline { end: Instant::now().checked_add(limit), limit }
    }

    /// What is left of so much time, when some of it is spent already.
    pub fn after_some(limit: Duration, spent: Duration) -> Deadline {
        Deadline { limit, ..Deadline::after(limit.saturating_sub(spent)) }
    }

    /// No end.
    pub fn never() -> Deadline {
        Deadline { end: None, limit: Duration::MAX }
    }

    /// An error if the time is up; `at` says what would come next.
    pub fn check(&self, at: impl FnOnce() -> String) -> Result<(), Exceeded> {
        match self.end {
            Some(end) if Instant::now() >= end => Err(Exceeded {
                what: format!("the time to compile the model ({} was next)", at()),
                limit: self.limit.as_secs(),
                name: LimitName::CompileTime,
            }),
            _ => Ok(()),
        }
    }
}

impl Default for Deadline {
    fn default() -> Deadline {
        Deadline::never()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_passed_is_named_with_its_value_and_field() {
        let error =
            Exceeded { what: "tensor \"w\" of 80 bytes".into(), limit: 64, name: LimitName::TensorBytes };
        assert_eq!(
            error.to_string(),
            "tensor \"w\" of 80 bytes is over the limit of 64 (tensor_bytes); if you trust the model, raise it with \
             Limits::tensor_bytes"
        );
    }

    #[test]
    fn an_extent_of_0_does_not_hide_the_others() {
        let admit = |dims: &[usize]| Limits::default().admit(&TensorType::f32(dims), || "it".into());
        assert!(admit(&[0, 4, 224, 224]).is_ok());
        assert!(admit(&[0, 4, 1 << 40, 1 << 40]).is_err());
        let limits = Limits { tensor_bytes: u64::MAX, ..Limits::default() };
        assert!(limits.admit(&TensorType::f32([1 << 38]), || "it".into()).is_ok());
        assert!(limits.admit(&TensorType::f32([1 << 39]), || "it".into()).is_err());
    }

    #[test]
    fn a_deadline_that_has_passed_says_what_was_next() {
        assert_eq!(Deadline::never().check(|| unreachable!()), Ok(()));
        assert_eq!(Deadline::after(Duration::MAX).check(|| unreachable!()), Ok(()));
        assert!(Deadline::after_some(Duration::MAX, Duration::from_secs(9)).check(|| unreachable!()).is_ok());
        let spent = Deadline::after_some(Duration::from_secs(7), Duration::from_secs(9));
        assert_eq!(spent.check(String::new).unwrap_err().limit, 7);
        let error = Deadline::after(Duration::ZERO).check(|| "pass cse".into()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the time to compile the model (pass cse was next) is over the limit of 0 (compile_time); if you trust \
             the model, raise it with Limits::compile_time"
        );
    }
}
