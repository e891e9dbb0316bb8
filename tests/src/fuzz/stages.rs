//! What must hold of a graph, stage by stage.
//!
//! ```text
//!   graph ─ text ─▶ the same graph
//!     │
//!     ├─ each pass alone ──▶ ┐
//!     ├─ pass ─ pass ─ … ──▶ ┤ evaluated: as before; exactly where a pass only moves data
//!     ▼                      ┘
//!   graph after all passes ─▶ plan ─▶ addresses stay inside, and read what was written
//!                              ├─▶ JIT       ─▶ run on 1 and 2 threads ─▶ the same bits; as evaluated
//!                              └─▶ artefact  ─▶ load, run              ─▶ the same bits
//!
//! graph after all passes, its layers stored in 16 bits ─▶ with all layers kept: as before, exactly
//!                                                      └─▶ plan, JIT and artefact, as above, beside what it evaluates to itself
//! ```

use std::collections::BTreeMap;

use nnc::passes::{self, PASSES};
use nnc::plan::{LayerCode, PlanOptions, StripRule, Winograd};
use nnc::target::Target;
use nnc_ir::eval::EvalError;
use nnc_ir::{DType, Graph, OpError, Tensor, eval, text};
use nnc_runtime::RunError;

use super::compare::{self, Rounding, close, equal, inputs, jumps, magnified, overflows};
use super::lowerings::{Lowering, lowerings};
use crate::addresses::Audit;
use crate::pipeline;

/// Passes that move data and compute nothing anew, or just as the evaluator does: results stay the same numbers.
const MOVING: &[&str] = &[
    "byte_tables",
    "channel_views",
    "cse",
    "dead_code",
    "fold_constants",
    "fuse_pad",
    "identities",
    "quantised_moves",
    "transposes",
    "unsigned_bytes",
];

/// Rounds of passes after which there must be nothing more to do.
const ROUNDS: usize = 8;

/// How often each stage was passed.
pub type Tally = BTreeMap<String, u64>;

/// Counts something.
pub fn count(tally: &mut Tally, stage: &str) {
    *tally.entry(stage.to_string()).or_default() += 1;
}

/// What may be made of numbers that were rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jumps {
    /// Nothing that jumps: comparisons, roundings and the like look at exact numbers alone.
    Nowhere,
    /// Anything.
    Anywhere,
}

/// Checks a graph through all stages for these targets; `turn` chooses what is forced.
///
/// # Errors
///
/// What is wrong: the stage, a colon, and details.
pub fn check(
    graph: &Graph,
    targets: &[Target],
    turn: usize,
    jumping: Jumps,
    tally: &mut Tally,
) -> Result<(), String> {
    graph.verify().map_err(|e| format!("verify: {e}"))?;
    let inputs = inputs(graph)?;
    as_text(graph)?;
    count(tally, "text");
    let expected = match eval::run(graph, &inputs) {
        Ok(expected) => expected,
        Err(error) if leads_outside(&error) => return refused(graph, &inputs, targets, turn, tally),
        Err(error) => return Err(format!("eval: {error}")),
    };
    let oracle = Oracle { graph, inputs: &inputs, expected: &expected, jumping, least: 0.0 };
    each_pass(&oracle, tally)?;
    let optimised = all_passes(&oracle, tally)?;
    for target in targets {
        let mut plain: Option<Vec<Tensor>> = None;
        for lowering in lowerings(target, turn) {
            lower(&oracle, &optimised, &lowering, &mut plain, tally)?;
        }
    }
    let to = [DType::BF16, DType::F16][turn % 2];
    narrow(&oracle, &optimised, to, targets, tally)
}

/// Layers stored in 16 bits: a graph of its own, which is what programs are compared with.
fn narrow(
    oracle: &Oracle<'_>,
    optimised: &Graph,
    to: DType,
    targets: &[Target],
    tally: &mut Tally,
) -> Result<(), String> {
    let stage = format!("narrow to {to}");
    let fault = |e: passes::PassError| format!("{stage}: {}", chain(&e));
    let mut graph = optimised.clone();
    let (_, layers) = passes::narrow(&mut graph, to, &[]).map_err(fault)?;
    if layers.is_empty() {
        return Ok(());
    }
    let mut kept = optimised.clone();
    passes::narrow(&mut kept, to, &layers).map_err(fault)?;
    if !equal(&oracle.eval(&stage, optimised)?, &oracle.eval(&stage, &kept)?) {
        return Err(format!("{stage}: with all layers kept in f32, results are others"));
    }
    let expected = oracle.eval(&stage, &graph)?;
    let oracle = Oracle { graph: &graph, expected: &expected, least: compare::tolerance(to), ..*oracle };
    for target in targets {
        for lowering in lowerings(target, 0).into_iter().take(1) {
            lower(&oracle, &graph, &lowering, &mut None, tally).map_err(|e| format!("{stage}, {e}"))?;
        }
    }
    count(tally, &stage);
    Ok(())
}

/// Whether an index from the data is at fault.
fn leads_outside(error: &EvalError) -> bool {
    matches!(error, EvalError::Op { source: OpError::Index { .. }, .. })
}

/// Where data contain an index that leads outside, programs say so, too, unless nobody needs what it leads to.
fn refused(
    graph: &Graph,
    inputs: &[Tensor],
    targets: &[Target],
    turn: usize,
    tally: &mut Tally,
) -> Result<(), String> {
    let optimised = pipeline::optimise(graph).map_err(|e| format!("passes: {}", chain(&*e)))?;
    let expected = match eval::run(&optimised, inputs) {
        Err(error) if leads_outside(&error) => true,
        Err(error) => return Err(format!("passes: {error}")),
        Ok(_) => false,
    };
    for lowering in targets.iter().flat_map(|target| lowerings(target, turn)) {
        let Lowering { target, options } = &lowering;
        let stage = stage(&lowering);
        let fault = |e: pipeline::Failure| format!("{stage}: {}", chain(&*e));
        let plan = pipeline::plan_with(&optimised, target, options).map_err(fault)?;
        let program = pipeline::jit(&plan, target).map_err(fault)?;
        let told = |threads| match pipeline::run_tensors(&program, inputs, threads) {
            Ok(_) => Ok(None),
            Err(e) if matches!(e.downcast_ref(), Some(RunError::Index { .. })) => Ok(Some(e.to_string())),
            Err(e) => Err(fault(e)),
        };
        let (one, two) = (told(1)?, told(2)?);
        if one != two || one.is_some() != expected {
            return Err(format!("{stage}: an index outside is told of as {one:?} and {two:?}"));
        }
    }
    count(tally, "an index outside");
    Ok(())
}

/// What a graph computes, as the evaluator says.
struct Oracle<'a> {
    /// The graph as it was.
    graph: &'a Graph,
    inputs: &'a [Tensor],
    /// What comes out.
    expected: &'a [Tensor],
    jumping: Jumps,
    /// How far off results may be in any case, relative to the largest element.
    least: f64,
}

impl Oracle<'_> {
    /// Whether results are as they should be; `stage` says where they come from.
    fn compare(
        &self,
        stage: &str,
        got: &[Tensor],
        rounding: Rounding,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let Err(difference) = close(self.graph, self.expected, got, self.least) else { return Ok(()) };
        let jumps = self.jumping == Jumps::Anywhere && (jumps(self.graph) || overflows(self.graph));
        if jumps || magnified(self.graph, self.inputs, self.expected, got, (rounding, self.least))? {
            count(tally, "ill-conditioned");
            return Ok(());
        }
        Err(format!("{stage}: {difference}"))
    }

    fn eval(&self, stage: &str, graph: &Graph) -> Result<Vec<Tensor>, String> {
        graph.verify().map_err(|e| format!("{stage}: {e}"))?;
        eval::run(graph, self.inputs).map_err(|e| format!("{stage}: {e}"))
    }
}

/// The text of a graph reads back as the same graph.
fn as_text(graph: &Graph) -> Result<(), String> {
    let written = text::print_full(graph);
    let read = text::parse(&written).map_err(|e| format!("text: {e}"))?;
    match text::print_full(&read) == written {
        true => Ok(()),
        false => Err("text: reads back as another graph".into()),
    }
}

/// Every pass on the graph as it is: none may rely on another one.
fn each_pass(oracle: &Oracle<'_>, tally: &mut Tally) -> Result<(), String> {
    for pass in PASSES {
        let mut graph = oracle.graph.clone();
        if run_pass(pass.name, &mut graph)? {
            let stage = format!("pass {} alone", pass.name);
            let got = oracle.eval(&stage, &graph)?;
            kept(&stage, pass.name, oracle.expected, &got)?;
            oracle.compare(&stage, &got, Rounding::Products, tally)?;
            count(tally, &format!("pass {}", pass.name));
        }
    }
    Ok(())
}

/// One pass after another, until none finds anything, evaluated after each; then the manager's order.
fn all_passes(oracle: &Oracle<'_>, tally: &mut Tally) -> Result<Graph, String> {
    let mut graph = oracle.graph.clone();
    let mut last = oracle.expected.to_vec();
    for round in 1.. {
        let mut changed = false;
        for pass in PASSES {
            if run_pass(pass.name, &mut graph)? {
                changed = true;
                let stage = format!("pass {}", pass.name);
                let got = oracle.eval(&stage, &graph)?;
                kept(&stage, pass.name, &last, &got)?;
                oracle.compare(&stage, &got, Rounding::Products, tally)?;
                last = got;
            }
        }
        if !changed {
            break;
        }
        if round == ROUNDS {
            return Err(format!("passes: still changing after {ROUNDS} rounds"));
        }
    }
    let optimised = pipeline::optimise(oracle.graph).map_err(|e| format!("passes: {e}"))?;
    if !optimised.order().map_err(|e| format!("passes: {e}"))?.is_sorted() {
        return Err("passes: nodes do not stand in the order of a walk".into());
    }
    let got = oracle.eval("passes", &optimised)?;
    if !equal(&last, &got) {
        return Err("passes: the order of the nodes changes results".into());
    }
    count(tally, "passes");
    Ok(optimised)
}

fn run_pass(name: &str, graph: &mut Graph) -> Result<bool, String> {
    let report = passes::run(name, graph).map_err(|e| format!("pass {name}: {}", chain(&e)))?;
    // The graph is as it was, but the pass had not meant that.
    match report.refused.first() {
        Some(refusal) => Err(format!("pass {name}: {refusal}")),
        None => Ok(!report.counts.is_empty()),
    }
}

fn kept(stage: &str, pass: &str, before: &[Tensor], after: &[Tensor]) -> Result<(), String> {
    match MOVING.contains(&pass) && !equal(before, after) {
        true => Err(format!("{stage}: changes numbers, though it only moves data")),
        false => Ok(()),
    }
}

/// Plans, compiles and runs. Leaves what the first lowering of a target gives in `plain`.
fn lower(
    oracle: &Oracle<'_>,
    graph: &Graph,
    lowering: &Lowering,
    plain: &mut Option<Vec<Tensor>>,
    tally: &mut Tally,
) -> Result<(), String> {
    let Lowering { target, options } = lowering;
    let stage = stage(lowering);
    let fault = |e: pipeline::Failure| format!("{stage}: {}", chain(&*e));
    let plan = pipeline::plan_with(graph, target, options).map_err(fault)?;
    let by_winograd = plan.steps.iter().filter(|s| matches!(s.code, LayerCode::Winograd(_))).count();
    if matches!(options.winograd, Winograd::Always(..)) && by_winograd == 0
        || matches!(options.strips, StripRule::Always(_)) && plan.strips.is_empty()
    {
        return Ok(());
    }
    let audit = Audit::of(&plan).map_err(|e| format!("{stage}, addresses: {e}"))?;
    if let Some(fault) = audit.faults().next() {
        return Err(format!("{stage}, addresses: {fault}"));
    }
    let program = pipeline::jit(&plan, target).map_err(fault)?;
    let one = pipeline::run_tensors(&program, oracle.inputs, 1).map_err(fault)?;
    // Winograd's algorithm sums whole tiles: it makes NaN of what is around an infinity, by promise.
    match by_winograd {
        0 => oracle.compare(&stage, &one, Rounding::Products, tally)?,
        _ if compare::finite(oracle.graph, oracle.expected) => {
            oracle.compare(&stage, &one, Rounding::Tiles, tally)?
        }
        _ => count(tally, "not finite, by Winograd"),
    }
    let two = pipeline::run_tensors(&program, oracle.inputs, 2).map_err(fault)?;
    same(&format!("{stage}, two threads"), &one, &two)?;
    drop(program);
    count(tally, &format!("jit {}", target.name));
    if by_winograd > 0 {
        count(tally, "winograd");
    }
    if !plan.strips.is_empty() {
        count(tally, "strips");
    }
    match plain {
        Some(plain) if matches!(options.strips, StripRule::Always(_)) => {
            same(&format!("{stage}, strips"), plain, &one)?
        }
        Some(_) => {}
        None => *plain = Some(one.clone()),
    }
    if *options == PlanOptions::default() {
        let bytes = pipeline::artefact(&plan, target).map_err(fault)?;
        let loaded = pipeline::load(&bytes).map_err(fault)?;
        let from_file = pipeline::run_tensors(&loaded, oracle.inputs, 2).map_err(fault)?;
        same(&format!("{stage}, artefact"), &one, &from_file)?;
        count(tally, "artefact");
    }
    Ok(())
}

fn stage(Lowering { target, options }: &Lowering) -> String {
    match *options == PlanOptions::default() {
        true => target.name.clone(),
        false => format!("{} ({:?}, {:?})", target.name, options.winograd, options.strips),
    }
}

fn same(stage: &str, a: &[Tensor], b: &[Tensor]) -> Result<(), String> {
    match a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.ty() == b.ty() && a.bytes() == b.bytes()) {
        true => Ok(()),
        false => Err(format!("{stage}: other bits")),
    }
}

/// An error and what it comes from.
pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use nnc_ir::Value;
    use nnc_ir::op::{BinaryFn, PoolKind, Unary};

    use super::super::lowerings::targets;
    use super::super::network::{GraphBuilder, square};
    use super::*;

    /// All that kernels apply.
    const ACTIVATIONS: [Unary; 7] = [
        Unary::Relu,
        Unary::Clip { min: 0.0, max: 6.0 },
        Unary::HardSwish,
        Unary::LeakyRelu { alpha: 0.125 },
        Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Unary::Silu,
        Unary::Sigmoid,
    ];

    #[test]
    fn every_activation_fits_beside_the_accumulators_of_a_tall_tile() {
        for residual in [false, true] {
            for activation in ACTIVATIONS {
                for channels in [8, 11, 16, 24] {
                    let mut b = GraphBuilder::default();
                    let x = b.input(&[1, channels, 11, 10]);
                    let y = b.conv(x, channels, 1, square(1, 1, 0), true);
                    let y = if residual { b.binary(BinaryFn::Add, y, x) } else { y };
                    let y = b.add(activation, &[y]);
                    b.graph.add_output("y", y);
                    check(&b.graph, &targets(), 0, Jumps::Nowhere, &mut Tally::default())
                        .unwrap_or_else(|error| panic!("{activation:?}, {channels}: {error}"));
                }
            }
        }
    }

    /// Layers that have the most outputs in registers that they can.
    fn layers() -> Vec<fn(&mut GraphBuilder, Value) -> Value> {
        vec![
            |b, x| b.conv(x, 16, 1, square(1, 1, 0), false),
            |b, x| b.conv(x, 16, 1, square(3, 2, 1), true),
            |b, x| b.conv(x, 16, 16, square(1, 1, 0), true),
            |b, x| b.conv(x, 16, 16, square(3, 1, 1), false),
            |b, x| b.conv(x, 16, 16, square(3, 2, 1), true),
            |b, x| b.conv(x, 16, 16, square(5, 1, 2), true),
            |b, x| b.conv(x, 16, 16, square(7, 2, 3), true),
            |b, x| b.pool(PoolKind::Max, square(2, 2, 0), vec![0; 2], x),
            |b, x| b.pool(PoolKind::Max, square(3, 2, 1), vec![0; 2], x),
            |b, x| b.pool(PoolKind::Max, square(3, 1, 1), vec![0; 2], x),
            |b, x| b.pool(PoolKind::Average { count_include_pad: false }, square(3, 1, 1), vec![0; 2], x),
            |b, x| b.pool(PoolKind::Average { count_include_pad: true }, square(2, 2, 0), vec![0; 2], x),
        ]
    }

    #[test]
    fn prologues_and_epilogues_fit_beside_the_outputs_of_every_layer() {
        let prologues: [fn(&mut GraphBuilder, Value) -> Value; 3] = [
            |_, x| x,
            |b, x| b.add(Unary::Relu, &[x]),
            |b, x| {
                let scaled = b.batch_norm(x);
                b.add(Unary::Relu, &[scaled])
            },
        ];
        for (number, layer) in layers().into_iter().enumerate() {
            for (prologue, activation, residual) in (prologues.iter().enumerate())
                .flat_map(|p| ACTIVATIONS.map(|a| (p, a)))
                .flat_map(|(p, a)| ["none", "before", "after"].map(|r| (p, a, r)))
            {
                let mut b = GraphBuilder::default();
                let x = b.input(&[1, 16, 12, 13]);
                let pointwise = b.pointwise(x, 16);
                let x = prologue.1(&mut b, pointwise);
                let mut y = layer(&mut b, x);
                let other = b.input(&b.shape(y));
                if residual == "before" {
                    y = b.binary(BinaryFn::Add, y, other);
                }
                y = b.add(activation, &[y]);
                if residual == "after" {
                    y = b.binary(BinaryFn::Add, y, other);
                }
                b.graph.add_output("y", y);
                let graph = pipeline::optimise(&b.graph).unwrap();
                for target in targets() {
                    let compiled = pipeline::plan_with(&graph, &target, &PlanOptions::default())
                        .and_then(|plan| pipeline::jit(&plan, &target));
                    if let Err(error) = compiled {
                        let what = format!("layer {number}, prologue {}, {activation:?}", prologue.0);
                        panic!("{what}, residual {residual}, {}: {}", target.name, chain(&*error));
                    }
                }
            }
        }
    }
}
