//! Runs passes: in order, until nothing changes, each one timed and, in debug builds, verified.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nnc_ir::nearest::Hint;
use nnc_ir::{DType, Graph, GraphError};
use nnc_ir::{Deadline, Exceeded};

use super::edit::EditError;
use super::known_sums::KnownSums;
use super::narrow::{NarrowError, Precision, narrowed};
use super::notes::{FusionLog, Notes, RefusedEdit, add_count, write_counts};
use super::order::in_order;
use super::*;

/// A rewrite of the graph that keeps what it computes.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Its name: that of its file.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    run: fn(&mut Graph, &mut Notes) -> Result<(), EditError>,
}

macro_rules! passes {
    ($($name:ident: $about:literal,)*) => {
        /// All passes, in the order in which [`optimise`] runs them.
        pub const PASSES: &[Pass] =
            &[$(Pass { name: stringify!($name), about: $about, run: $name::run },)*];
    };
}

passes! {
    dead_code: "drops what no output depends on",
    fold_constants: "computes what depends on constants alone",
    captures: "gives loops and branches the constants that they read, and nothing that they don't read",
    einsum_products: "turns a sum of products over names into a product of matrices",
    identities: "drops operators that change nothing, merges reshapes and transposes that follow each other",
    cse: "computes once what is computed twice",
    layer_norm: "turns a normalisation of rows that is written out into the operator",
    byte_pictures: "takes pictures of bytes for the steps that they are",
    quantised_moves: "lets what only moves elements move bytes",
    unsigned_bytes: "makes the bytes between layers unsigned",
    byte_tables: "makes a table of a function of one byte",
    transposes: "cancels the transposes of channels-last exporters",
    signals: "makes images with one row of signals, for the layers over them",
    fuse_bias: "turns an addition of one constant a channel into the bias of the layer before",
    scale_product: "folds the scaling of a matrix product into its constant weights",
    decompose: "turns composite spellings of an operator into the operator",
    channel_views: "turns concat, split, slice and shuffle along the channels into channel selects",
    fuse_pad: "moves pads and crops into the windows of convolutions and pools",
    wide_windows: "lays the padding of wide windows around the image",
    pool_stride: "turns a subsampling in front of a 1x1 convolution into its stride",
    fold_batch_norm: "folds batch norms into weights, or else into prologues",
    flatten_gemm: "turns a fully connected layer over an image into a convolution",
    fuse_activation: "moves activations into the layer before, or else into prologues of the layers behind",
    integer_layers: "makes layers of integers of those between dequantising and quantising",
    integer_sums: "makes sums of integers of additions between dequantising and quantising",
    fuse_residual: "moves additions into the epilogue of a layer that makes one of the terms",
    columns: "lays images of one column on their side",
}

/// Rounds after which [`optimise`] stops even if a pass still changes something. Networks need two or three.
const MAX_ROUNDS: usize = 8;

/// What may go wrong in a pass.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// No pass has this name.
    #[error("there is no pass \"{name}\"; {hint}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Which ones there are.
        hint: Hint,
    },
    /// An edit of the graph was refused.
    #[error("pass {pass}")]
    Edit {
        /// Name of the pass.
        pass: &'static str,
        /// What is wrong.
        source: EditError,
    },
    /// What lies between layers could not be stored in sixteen bits.
    #[error(transparent)]
    Narrow(#[from] NarrowError),
    /// The graph has no order.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The time is up.
    #[error(transparent)]
    Limit(#[from] Exceeded),
    /// The graph does not verify after the pass.
    #[error("pass {pass} left a graph that does not hold together")]
    Broken {
        /// Name of the pass.
        pass: &'static str,
        /// What is wrong.
        source: GraphError,
    },
}

/// What one pass did, over all rounds.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// Name of the pass.
    pub name: &'static str,
    /// What it did, and how often.
    pub counts: Vec<(&'static str, usize)>,
    /// Edits that the graph refused, in the last round.
    pub refused: Vec<RefusedEdit>,
    /// How long it took.
    pub time: Duration,
}

impl PassReport {
    /// Whether there is nothing to tell.
    pub fn is_silent(&self) -> bool {
        self.counts.is_empty() && self.refused.is_empty()
    }
}

impl fmt::Display for PassReport {
    /// `fold_batch_norm: 52 folded into convolutions, 1 as prologue`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        write_counts(f, &self.counts)?;
        self.refused.iter().try_for_each(|refusal| write!(f, "; {refusal}"))
    }
}

/// What all passes did.
#[derive(Clone, Debug, Default)]
pub struct OptimiseReport {
    /// One entry for each pass, in order.
    pub passes: Vec<PassReport>,
    /// How often the passes ran, the last time finding nothing to do.
    pub rounds: usize,
    /// Which nodes went into which layer.
    pub fusions: FusionLog,
    /// Names of the layers that read sixteen bits because the precision says so.
    pub narrowed: Vec<String>,
}

/// Which passes [`optimise`] leaves out, and what layers are stored in behind them.
#[derive(Clone, Debug, Default)]
pub struct PassOptions {
    disabled: Vec<&'static str>,
    /// What lies between layers.
    pub precision: Precision,
    /// Names of layers that stay `f32` whatever the precision.
    pub keep_f32: Vec<String>,
}

impl PassOptions {
    /// Leaves a pass out, to find out which one is at fault.
    pub fn disable(&mut self, name: &str) -> Result<(), PassError> {
        self.disabled.push(find(name)?.name);
        Ok(())
    }
}

/// The pass of this name; for an unknown name an error with a hint.
pub fn find(name: &str) -> Result<&'static Pass, PassError> {
    PASSES.iter().find(|p| p.name == name).ok_or_else(|| {
        let known: Vec<&str> = PASSES.iter().map(|p| p.name).collect();
        PassError::Unknown { name: name.to_string(), hint: Hint::new(name, &known) }
    })
}

/// Runs all passes until they find nothing more. Nodes are numbered anew; names stay.
pub fn optimise(graph: &mut Graph, options: &PassOptions) -> Result<OptimiseReport, PassError> {
    optimise_observed(graph, options, &mut |_, _| ())
}

/// Like [`optimise`]; `observer` sees the graph after each pass of each round.
pub fn optimise_observed(
    graph: &mut Graph,
    options: &PassOptions,
    observer: &mut dyn FnMut(&str, &Graph),
) -> Result<OptimiseReport, PassError> {
    optimise_before(graph, options, &Arc::default(), observer, Deadline::never())
}

/// Like [`optimise_observed`], as a part of work that must be over by `deadline`. What is in `sums` is not made again.
pub fn optimise_before(
    graph: &mut Graph,
    options: &PassOptions,
    sums: &Arc<KnownSums>,
    observer: &mut dyn FnMut(&str, &Graph),
    deadline: Deadline,
) -> Result<OptimiseReport, PassError> {
    let passes: Vec<&Pass> = PASSES.iter().filter(|p| !options.disabled.contains(&p.name)).collect();
    let mut report = OptimiseReport::default();
    for pass in &passes {
        report.passes.push(PassReport {
            name: pass.name,
            counts: Vec::new(),
            refused: Vec::new(),
            time: Duration::ZERO,
        });
    }
    while report.rounds < MAX_ROUNDS {
        report.rounds += 1;
        let mut changed = false;
        for (pass, total) in passes.iter().zip(&mut report.passes) {
            deadline.check(|| format!("pass {}", pass.name))?;
            let one = run_logged(pass, graph, &mut report.fusions, sums)?;
            changed |= !one.counts.is_empty();
            total.time += one.time;
            total.refused = one.refused;
            for (what, n) in one.counts {
                add_count(&mut total.counts, what, n);
            }
            observer(pass.name, graph);
        }
        if !changed {
            break;
        }
    }
    if let Some(to) = options.precision.dtype() {
        let (narrow, layers) = narrow(graph, to, &options.keep_f32)?;
        report.passes.push(narrow);
        report.narrowed = layers;
        observer(NARROW, graph);
    }
    put_in_order(graph)?;
    let mut names = BTreeSet::new();
    collect_names(graph, &mut names);
    report.fusions.retain(|layer| names.contains(layer));
    for pass in &report.passes {
        tracing::debug!(time_us = pass.time.as_micros() as u64, "{pass}");
    }
    Ok(report)
}

/// The name of what stores layers in sixteen bits: it is no pass, as it changes types.
const NARROW: &str = "narrow";

/// Stores what lies between the layers of a graph in sixteen bits, but for those that are named; returns the names of those that read
/// that.
pub fn narrow(graph: &mut Graph, to: DType, keep: &[String]) -> Result<(PassReport, Vec<String>), PassError> {
    let (start, mut notes) = (Instant::now(), Notes::default());
    let narrowed = narrowed(graph, to, keep, &mut notes)?;
    *graph = narrowed.graph;
    let (counts, _, refused) = notes.into_parts();
    Ok((PassReport { name: NARROW, counts, refused, time: start.elapsed() }, narrowed.layers))
}

/// Runs one pass, once.
pub fn run(name: &str, graph: &mut Graph) -> Result<PassReport, PassError> {
    run_logged(find(name)?, graph, &mut FusionLog::default(), &Arc::default())
}

/// Puts the nodes of a graph, and of those inside of it, in order.
fn put_in_order(graph: &mut Graph) -> Result<(), GraphError> {
    *graph = in_order(graph)?;
    for id in graph.node_ids().collect::<Vec<_>>() {
        graph.bodies_mut(id).into_iter().try_for_each(put_in_order)?;
    }
    Ok(())
}

fn collect_names<'g>(graph: &'g Graph, names: &mut BTreeSet<&'g str>) {
    for id in graph.node_ids() {
        let node = graph.node(id);
        names.insert(&node.name);
        node.op.bodies().into_iter().for_each(|body| collect_names(body.graph(), names));
    }
}

/// Runs a pass on a graph, then on those inside of it.
fn run_inside(pass: &Pass, graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    (pass.run)(graph, notes)?;
    for id in graph.node_ids().collect::<Vec<_>>() {
        graph.bodies_mut(id).into_iter().try_for_each(|body| run_inside(pass, body, notes))?;
    }
    Ok(())
}

fn run_logged(
    pass: &Pass,
    graph: &mut Graph,
    log: &mut FusionLog,
    sums: &Arc<KnownSums>,
) -> Result<PassReport, PassError> {
    let start = Instant::now();
    let mut notes = Notes::new(std::mem::take(log), Arc::clone(sums));
    run_inside(pass, graph, &mut notes).map_err(|source| PassError::Edit { pass: pass.name, source })?;
    let time = start.elapsed();
    if cfg!(debug_assertions) {
        graph.verify().map_err(|source| PassError::Broken { pass: pass.name, source })?;
    }
    let (counts, fusions, refused) = notes.into_parts();
    for refusal in &refused {
        tracing::warn!("pass {}: {refusal}", pass.name);
    }
    *log = fusions;
    Ok(PassReport { name: pass.name, counts, refused, time })
}

#[cfg(test)]
mod tests {
    use nnc_ir::Op;
    use nnc_ir::op::{Pad, PadMode, Unary};

    use super::*;

    #[test]
    fn an_unknown_pass_name_is_refused_with_the_nearest_one() {
        let error = find("fold_batchnorm").unwrap_err().to_string();
        assert_eq!(error, "there is no pass \"fold_batchnorm\"; did you mean \"fold_batch_norm\"?");
        assert!(PassOptions::default().disable("ces").unwrap_err().to_string().contains("\"cse\""));
    }

    /// A pass that makes pads of all activations: of Relu one that cuts off too much.
    const WRONG: Pass = Pass {
        name: "wrong",
        about: "makes mistakes",
        run: |graph, notes| {
            super::super::edit::each_node(graph, notes, |graph, notes, id| {
                let Op::Unary(function) = graph.node(id).op else { return Ok(()) };
                notes.count("padded");
                let cut = if function == Unary::Relu { -9 } else { 0 };
                let (begin, end) = (vec![0, cut], vec![0, -cut]);
                let x = graph.operand(id, 0);
                let pad = Pad { begin, end, mode: PadMode::Constant(0.0) };
                graph.add("left behind", Unary::Abs.into(), &[x])?;
                super::super::edit::rewrite(graph, id, pad, &[x])
            })
        },
    };

    #[test]
    fn an_edit_that_the_graph_refuses_leaves_it_as_it_was_and_is_told() {
        let text = "%x = input : f32[2x3]
%a = relu %x : f32[2x3]
%b = tanh %a : f32[2x3]
output y = %b
";
        let mut graph = nnc_ir::text::parse(text).expect("a graph");
        let report =
            run_logged(&WRONG, &mut graph, &mut FusionLog::default(), &Arc::default()).expect("no error");
        assert_eq!(report.counts, [("padded", 1)], "what is refused does not count");
        let [refusal] = &report.refused[..] else { panic!("{:?}", report.refused) };
        assert_eq!(refusal.node, "a");
        assert!(refusal.why.contains("leave nothing of axis 1"), "{refusal}");
        graph.verify().expect("a graph");
        let after = nnc_ir::text::print(&graph);
        assert!(after.contains("%a = relu %x") && after.contains("%b = pad %a"), "{after}");
    }

    #[test]
    fn passes_run_again_until_none_finds_anything_and_layers_that_are_left_tell_what_went_into_them() {
        let text = "%x = input : f32[1x2x3x3]
%w = const f32[2x2x1x1] {1, 2, 3, 4}
%unread = tanh %x : f32[1x2x3x3]
%c = conv %x, %w : f32[1x2x3x3]
%s = add %c, %x : f32[1x2x3x3]
%r = relu %s : f32[1x2x3x3]
%again = relu %s : f32[1x2x3x3]
%l = loop %r {trips=3, states=1} body {
  %i = input : i64[]
  %state = input : f32[1x2x3x3]
  %v = const f32[2x2x1x1] {4, 3, 2, 1}
  %inner = conv %state, %v : f32[1x2x3x3]
  %bounded = clip %inner {max=2} : f32[1x2x3x3]
  output state = %bounded
} : f32[1x2x3x3]
output a = %again
output b = %l
";
        let mut graph = nnc_ir::text::parse(text).expect("a graph");
        let report = optimise(&mut graph, &PassOptions::default()).expect("no error");
        let changed = report.passes.iter().filter(|pass| !pass.is_silent());
        let changed: Vec<&str> = changed.map(|pass| pass.name).collect();
        assert_eq!(changed, ["dead_code", "cse", "fuse_activation", "fuse_residual"]);
        assert_eq!(report.rounds, 2, "the second one finds nothing");
        let fused = report.fusions.layers().map(|(layer, absorbed)| {
            let absorbed: Vec<&str> = absorbed.iter().map(|absorbed| absorbed.name.as_str()).collect();
            (layer, absorbed)
        });
        let fused: Vec<(&str, Vec<&str>)> = fused.collect();
        assert_eq!(fused, [("c", vec!["r", "s"]), ("inner", vec!["bounded"])], "\"s\" is no layer any more");
    }

    #[test]
    fn a_report_reads_as_one_line() {
        let mut report = PassReport { name: "cse", counts: vec![], refused: vec![], time: Duration::ZERO };
        assert_eq!(report.to_string(), "cse: nothing to do");
        report.counts = vec![("merged", 3), ("constants merged", 1)];
        assert_eq!(report.to_string(), "cse: 3 merged, 1 constants merged");
        report.refused = vec![RefusedEdit { node: "x".into(), why: "it is another".into() }];
        assert_eq!(
            report.to_string(),
            "cse: 3 merged, 1 constants merged; an edit of \"x\" was refused: it is another"
        );
    }
}
