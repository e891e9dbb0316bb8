//! What the compiler did, and how long it took.

use std::fmt;
use std::time::Duration;

use crate::emit::CodeTimes;
use crate::{passes, plan};

/// A large layer that becomes a loop nest, which is many times slower than a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowLayer {
    /// Its name in the model.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Its multiply-accumulates.
    pub macc: u64,
    /// Why no kernel does it.
    pub why: String,
}

impl SlowLayer {
    pub(crate) fn of(step: &plan::PlanStep) -> Option<SlowLayer> {
        let plan::Refusal { layer: name, why } = step.refused.clone()?;
        Some(SlowLayer { name, op: step.op.clone(), macc: step.macc, why })
    }
}

/// What the compiler did.
#[derive(Clone, Debug)]
pub struct CompileReport {
    /// What each pass did, and what was fused into which layer.
    pub passes: passes::OptimiseReport,
    /// Number of steps of the program.
    pub steps: usize,
    /// Bytes of memory for activations.
    pub arena_bytes: u64,
    /// Bytes of packed weights and tables.
    pub const_bytes: u64,
    /// Large layers that no kernel does: they take most of the time of a model that has some.
    pub slow: Vec<SlowLayer>,
    /// What the time went into.
    pub times: CompileTimes,
}

/// What the time to compile went into: from the start of each stage to its end, however many threads it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompileTimes {
    /// To read and check the model. Weights that a file has stay there until they are packed.
    pub read: Duration,
    /// To bind shapes and build the graph.
    pub import: Duration,
    /// Of all passes; each has its own in [`OptimiseReport`](passes::OptimiseReport).
    pub passes: Duration,
    /// To plan.
    pub plan: Duration,
    /// To read, transform and pack the weights.
    pub pack: Duration,
    /// To make code, if code was made.
    pub code: Option<CodeTimes>,
}

impl CompileTimes {
    /// Each stage by its name, in their order.
    pub fn stages(&self) -> Vec<(&'static str, Duration)> {
        let mut stages = vec![
            ("read", self.read),
            ("graph", self.import),
            ("passes", self.passes),
            ("plan", self.plan),
            ("packing", self.pack),
        ];
        if let Some(CodeTimes { layers, kernels, link }) = self.code {
            stages.extend([("layers", layers), ("kernels", kernels), ("link", link)]);
        }
        stages
    }
}

impl fmt::Display for CompileReport {
    /// One line for each pass that did something, then the sizes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for pass in self.passes.passes.iter().filter(|p| !p.is_silent()) {
            writeln!(f, "{pass}")?;
        }
        write!(
            f,
            "{} steps, arena {} bytes, constants {} bytes",
            self.steps, self.arena_bytes, self.const_bytes
        )
    }
}
