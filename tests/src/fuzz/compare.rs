//! When two results are the same.

use nnc_ir::op::{BinaryFn, Lrn, ReduceKind, Unary};
use nnc_ir::{DType, Graph, Op, Tensor, eval, text};

use super::choices::Rng;

/// What sums in another order, or in `f32` instead of `f64`, may differ by, relative to the largest element.
pub const ROUNDING: f64 = 2e-5;

/// How many times farther off than a change in the last bits of everything that goes in a right result may be.
const AMPLIFIED: f64 = 32.0;

/// How many changes in the last bits are tried.
const NUDGES: u64 = 4;

/// Pseudo-random inputs for a graph, the same each time.
///
/// # Errors
///
/// An input is too large.
pub fn inputs(graph: &Graph) -> Result<Vec<Tensor>, String> {
    let ids = graph.inputs().iter().zip(1..);
    ids.map(|(id, seed)| text::hash(graph.node(*id).outputs[0].clone(), seed, 2.0).map_err(|e| e.to_string()))
        .collect()
}

/// What is different, by more than `least` and more than rounding; outputs are named as the graph does.
///
/// # Errors
///
/// Types, numbers of results or results differ: floats by more than rounding does, others at all.
pub fn close(graph: &Graph, expected: &[Tensor], got: &[Tensor], least: f64) -> Result<(), String> {
    if expected.len() != got.len() {
        return Err(format!("{} outputs where {} were expected", got.len(), expected.len()));
    }
    for (((name, value), expected), got) in graph.outputs().iter().zip(expected).zip(got) {
        if expected.ty() != got.ty() {
            return Err(format!("{name} is of type {} where {} was expected", got.ty(), expected.ty()));
        }
        let off = off(expected, got)?;
        if off > tolerance(expected.dtype()).max(least) {
            return Err(format!("{name} (node \"{}\") is off by {off:.1e}", graph.node(value.node).name));
        }
    }
    Ok(())
}

/// Whether results are the same numbers; 0 and -0 are.
pub fn equal(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.ty() == b.ty() && off(a, b) == Ok(0.0))
}

/// Whether all constants of a graph and all its results are finite.
pub fn finite(graph: &Graph, results: &[Tensor]) -> bool {
    let constants = graph.node_ids().filter_map(|id| graph.constant(id.into()));
    let finite =
        |tensor: &Tensor| floats(tensor).is_ok_and(|f| f.is_none_or(|f| f.iter().all(|v| v.is_finite())));
    constants.chain(results).all(finite)
}

/// What a computation rounds to the last bits of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Each product.
    Products,
    /// Sums of all products of a tile, as Winograd's algorithm does: a small weight beside a large one of the same filter has
    /// the large one's errors, also where the large one lies in the padding or on zeros.
    Tiles,
}

/// Whether results are off by no more than the graph itself magnifies changes in the last bits of what goes in and of what each
/// node makes of it. Several such changes are tried: one alone may leave a sum of few products where it was.
///
/// # Errors
///
/// The graph cannot be evaluated.
pub fn magnified(
    graph: &Graph,
    inputs: &[Tensor],
    expected: &[Tensor],
    got: &[Tensor],
    (rounding, least): (Rounding, f64),
) -> Result<bool, String> {
    let mut bounds: Vec<f64> = expected.iter().map(|t| tolerance(t.dtype()).max(least)).collect();
    for pattern in 0..NUDGES {
        let nudged = nudged(graph, Nudge { rounding, pattern })?;
        let nudge = Nudge { rounding: Rounding::Products, pattern };
        let inputs: Vec<Tensor> = inputs.iter().map(|input| nudge.of(input)).collect::<Result<_, _>>()?;
        let moved = eval::run_changed(&nudged, &inputs, |result| {
            if let Ok(moved) = nudge.of(result) {
                *result = moved;
            }
        });
        let moved = moved.map_err(|e| e.to_string())?;
        for (bound, (expected, moved)) in bounds.iter_mut().zip(expected.iter().zip(&moved)) {
            *bound = bound.max(AMPLIFIED * off(expected, moved)?);
        }
    }
    for (bound, (expected, got)) in bounds.iter().zip(expected.iter().zip(got)) {
        if expected.ty() != got.ty() || off(expected, got)? > *bound {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a graph jumps: what looks at computed numbers and decides may fall on either side, and which NaN or infinity comes of an
/// attribute that is none of the numbers is nobody's promise.
pub fn jumps(graph: &Graph) -> bool {
    let odd =
        |op: &Op| !matches!(op, Op::Constant(_)) && attributes(op).split(['=', ',', ' ', '}']).any(is_odd);
    graph.node_ids().any(|id| odd(&graph.node(id).op) || decides(&graph.node(id).op))
}

/// Whether a constant is so large that its product with another one may overflow: which of a sum and the scale behind it comes
/// first then decides between a number and infinity, and passes may change that.
pub fn overflows(graph: &Graph) -> bool {
    const LARGE: f64 = 1e18;
    let large = |tensor: &Tensor| {
        floats(tensor).is_ok_and(|f| f.is_some_and(|f| f.iter().any(|v| v.is_finite() && v.abs() > LARGE)))
    };
    graph.node_ids().filter_map(|id| graph.constant(id.into())).any(large)
}

fn attributes(op: &Op) -> String {
    let described = text::describe(op, &[]);
    described.split_once('{').map_or(String::new(), |(_, attributes)| attributes.to_string())
}

fn is_odd(word: &str) -> bool {
    word.parse::<f32>().is_ok_and(|number| !number.is_finite())
}

fn decides(op: &Op) -> bool {
    match op {
        Op::Unary(f) => matches!(
            f,
            Unary::Floor | Unary::Ceil | Unary::Round | Unary::Sign | Unary::ThresholdedRelu { .. }
        ),
        Op::Binary(b) => {
            use BinaryFn::*;
            matches!(b.function, Mod { .. } | Equal | Less | LessOrEqual | Greater | GreaterOrEqual)
        }
        Op::Reduce(r) => matches!(r.kind, ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. }),
        Op::Cast(cast) => !cast.to.is_float(),
        Op::Quantize(_)
        | Op::IntegerConv(_)
        | Op::IntegerSum(_)
        | Op::TopK(_)
        | Op::MaxPoolArg(_)
        | Op::GridSample(_)
        | Op::RoiAlign(_)
        | Op::MaxRoiPool(_) => true,
        Op::NonMaxSuppression(_) | Op::NonZero(_) | Op::Unique(_) | Op::Compress(_) | Op::DeformConv(_) => {
            true
        }
        _ => false,
    }
}

/// The largest difference, relative to the largest element; of what are no floats, 1 if there is any.
fn off(expected: &Tensor, got: &Tensor) -> Result<f64, String> {
    let (Some(expected), Some(got)) = (floats(expected)?, floats(got)?) else {
        return Ok(if expected == got { 0.0 } else { 1.0 });
    };
    let scale = expected.iter().filter(|e| e.is_finite()).fold(0.0f64, |largest, e| largest.max(e.abs()));
    let difference = expected.iter().zip(&got).fold(0.0f64, |largest, (e, g)| {
        match e == g || (e.is_nan() && g.is_nan()) {
            true => largest,
            false if (e - g).is_finite() => largest.max((e - g).abs()),
            false => f64::INFINITY,
        }
    });
    Ok(if difference == 0.0 { 0.0 } else { difference / scale.max(1e-30) })
}

/// What rounding to a type may change, relative to the largest element.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        // Half floats may be rounded to either neighbour.
        DType::F16 => 2e-3,
        DType::BF16 => 2e-2,
        _ => ROUNDING,
    }
}

fn floats(tensor: &Tensor) -> Result<Option<Vec<f64>>, String> {
    let fault = |e: nnc_ir::TensorError| e.to_string();
    Ok(match tensor.dtype() {
        DType::F32 => Some(tensor.elems::<f32>().map_err(fault)?.iter().map(|v| f64::from(*v)).collect()),
        DType::F64 => Some(tensor.elems::<f64>().map_err(fault)?.to_vec()),
        DType::F16 => Some(tensor.elems::<half::f16>().map_err(fault)?.iter().map(|v| v.to_f64()).collect()),
        DType::BF16 => {
            Some(tensor.elems::<half::bf16>().map_err(fault)?.iter().map(|v| v.to_f64()).collect())
        }
        _ => None,
    })
}

/// A change of numbers in their last bits.
#[derive(Clone, Copy, Debug)]
struct Nudge {
    rounding: Rounding,
    /// Which elements go up and which go down.
    pattern: u64,
}

impl Nudge {
    /// Each `f32` moved by one or two units in the last place: its own, or that of the largest element of its filter. A half float becomes a
    /// neighbour, or stays.
    fn of(self, tensor: &Tensor) -> Result<Tensor, String> {
        if matches!(tensor.dtype(), DType::F16 | DType::BF16) {
            let mut rng = Rng::new(1, self.pattern);
            let infinite = if tensor.dtype() == DType::F16 { 0x7c00 } else { 0x7f80 };
            // Zero and infinity have a neighbour on one side only, and stay.
            let next = |bits: u16| match bits & 0x7fff {
                magnitude if (1..infinite - 1).contains(&magnitude) => bits + [0, 1, 2][rng.below(3)] - 1,
                _ => bits,
            };
            let halves = tensor.bytes().as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half));
            let moved = halves.map(next).flat_map(u16::to_le_bytes).collect();
            return Tensor::from_bytes(tensor.ty().clone(), moved).map_err(|e| e.to_string());
        }
        let Ok(elems) = tensor.elems::<f32>() else { return Ok(tensor.clone()) };
        let shape = tensor.shape();
        let filter = match self.rounding {
            Rounding::Tiles if shape.rank() == 4 => shape[1..].iter().product(),
            _ => 1,
        };
        let mut moved = elems.to_vec();
        let mut rng = Rng::new(0, self.pattern);
        for filter in moved.chunks_mut(std::cmp::max(filter, 1)) {
            let largest = filter.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            let units = std::iter::repeat_with(|| [-2.0, -1.0, 1.0, 2.0][rng.below(4)]);
            for (v, units) in filter.iter_mut().zip(units).filter(|_| largest.is_finite()) {
                *v += units * largest * f32::EPSILON;
            }
        }
        Tensor::new(shape.to_vec(), &moved).map_err(|e| e.to_string())
    }
}

/// The graph with all its `f32` constants nudged, and what operators have as attributes but add to what they compute.
fn nudged(graph: &Graph, nudge: Nudge) -> Result<Graph, String> {
    let mut nudged = graph.clone();
    for id in graph.node_ids() {
        match &graph.node(id).op {
            Op::Constant(tensor) => {
                let moved = nudge.of(tensor)?;
                if let Some(bytes) = nudged.constant_bytes_mut(id.into()) {
                    bytes.copy_from_slice(moved.bytes());
                }
            }
            Op::Lrn(lrn) => {
                let moved = Lrn { bias: lrn.bias * (1.0 + f32::EPSILON), ..lrn.clone() };
                nudged.rewrite(id, moved.into(), &graph.operands(id)).map_err(|e| e.to_string())?;
            }
            _ => {}
        }
    }
    Ok(nudged)
}
