//! Turns a normalisation of rows that is written out into the operator.
//!
//! ```text
//!   m = mean x       d = x - m       v = mean d²
//!   d / √(v + ε) · g + b              becomes    layer norm of x, ε, g, b
//! ```
//!
//! So exporters wrote it before ONNX had the operator (opset 17). As one operator it goes over a row that stays in the first-level
//! cache; in its parts, over the whole of it five times.
//!
//! Means are over the last axes, whose shape the gain and the shift have; without those, the gain is 1.

use nnc_ir::op::{BinaryFn, LayerNorm, Reduce, ReduceKind, Unary};
use nnc_ir::{Graph, NodeId, Op, Shape, Tensor, Value};

use super::edit::{each_node, floats, is_float, number, plus_constant, read_only_by, rewrite, unary};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some(mut found) = normalised(graph, id) else { return Ok(()) };
        let Some((last, gain, shift)) = parameters(graph, id, &found) else { return Ok(()) };
        let name = graph.node(last).name.clone();
        let mut add = |what: &str, elems: Vec<f32>| -> Result<Value, EditError> {
            let tensor = Tensor::new(found.row.clone(), &elems)?;
            Ok(graph.add_constant(format!("{name}:{what}"), tensor))
        };
        let mut operands = vec![Some(found.x), Some(add("gain", gain)?)];
        if let Some(shift) = shift {
            operands.push(Some(add("shift", shift)?));
        }
        let op = LayerNorm { axis: found.axis, epsilon: std::mem::take(&mut found.epsilon) };
        rewrite(graph, last, op, &operands)?;
        notes.count("normalisations");
        Ok(())
    })
}

/// Rows of mean 0 and variance 1.
struct Normalised {
    x: Value,
    /// The first axis of a row.
    axis: usize,
    /// The shape of a row.
    row: Shape,
    epsilon: f32,
}

/// What a node divides by its deviation, with all of that for itself.
fn normalised(graph: &Graph, id: NodeId) -> Option<Normalised> {
    let (difference, variance) = quotient(graph, id)?;
    let (of_squares, epsilon) = plus_constant(graph, variance)?;
    let squares = mean(graph, of_squares)?;
    if square(graph, squares)? != difference {
        return None;
    }
    let (x, of_x) = binary(graph, difference.node, BinaryFn::Sub)?;
    let (axis, same) = (first_axis(graph, of_x)?, first_axis(graph, of_squares)?);
    let alone = read_only_by(graph, of_x, difference.node)
        && read_only_by(graph, of_squares, variance.node)
        && read_only_by(graph, squares, of_squares.node)
        && graph.consumers(difference).iter().all(|&(reader, _)| [squares.node, id].contains(&reader))
        && !graph.is_output(difference);
    let fits = mean(graph, of_x)? == x && axis == same && is_float(graph, x) && alone;
    let row = Shape::from(&graph.ty(x).shape[axis..]);
    fits.then_some(Normalised { x, axis, row, epsilon })
}

/// `a / √b`, however it is written: `a` and `b`.
fn quotient(graph: &Graph, id: NodeId) -> Option<(Value, Value)> {
    if let Some((a, root)) = binary(graph, id, BinaryFn::Div) {
        return Some((a, power(graph, root, 0.5).filter(|_| read_only_by(graph, root, id))?));
    }
    let (a, b) = binary(graph, id, BinaryFn::Mul)?;
    [(a, b), (b, a)].into_iter().find_map(|(a, inverse)| {
        let of = power(graph, inverse, -0.5).or_else(|| {
            let root = inverse_of(graph, inverse)?;
            power(graph, root, 0.5).filter(|_| read_only_by(graph, root, inverse.node))
        });
        Some((a, of.filter(|_| read_only_by(graph, inverse, id))?))
    })
}

/// `b`, where a value is `1 / b`.
fn inverse_of(graph: &Graph, value: Value) -> Option<Value> {
    if let Some((Unary::Reciprocal, of)) = unary(graph, value) {
        return Some(of);
    }
    let (one, of) = binary(graph, value.node, BinaryFn::Div)?;
    (number(graph, one)? == 1.0).then_some(of)
}

/// `b`, where a value is that to a power.
fn power(graph: &Graph, value: Value, wanted: f32) -> Option<Value> {
    match unary(graph, value) {
        Some((Unary::Sqrt, of)) if wanted == 0.5 => return Some(of),
        Some((Unary::Power { exponent }, of)) if exponent == wanted => return Some(of),
        _ => {}
    }
    let (of, exponent) = binary(graph, value.node, BinaryFn::Pow)?;
    (number(graph, exponent)? == wanted && graph.ty(of) == graph.ty(value)).then_some(of)
}

/// `b`, where a value is `b²`.
fn square(graph: &Graph, value: Value) -> Option<Value> {
    match binary(graph, value.node, BinaryFn::Mul) {
        Some((a, b)) => (a == b).then_some(a),
        None => power(graph, value, 2.0),
    }
}

/// The operands of a node that is a function of two.
fn binary(graph: &Graph, id: NodeId, function: BinaryFn) -> Option<(Value, Value)> {
    let Op::Binary(op) = &graph.node(id).op else { return None };
    let plain = op.function == function && op.activation.is_none();
    plain.then_some((graph.operand(id, 0)?, graph.operand(id, 1)?))
}

/// Of what a value is the mean.
fn mean(graph: &Graph, value: Value) -> Option<Value> {
    first_axis(graph, value).and_then(|_| graph.operand(value.node, 0))
}

/// The first axis that a mean over the last axes, which it keeps, is over.
fn first_axis(graph: &Graph, value: Value) -> Option<usize> {
    let Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, keep_dims: true }) = &graph.node(value.node).op
    else {
        return None;
    };
    let (&first, rank) = (axes.first()?, graph.ty(value).shape.rank());
    axes.iter().copied().eq(first..rank).then_some(first)
}

/// The last node of what is written out, with the gain and the shift of each element of a row.
fn parameters(graph: &Graph, id: NodeId, found: &Normalised) -> Option<(NodeId, Vec<f32>, Option<Vec<f32>>)> {
    let behind = |node: NodeId, function: BinaryFn| {
        let (next, _) = graph.single_consumer(node.into())?;
        let (a, b) = binary(graph, next, function)?;
        let other = if a == node.into() { b } else { a };
        Some((next, elements(graph, other, found)?))
    };
    let (scaled, gain) = match behind(id, BinaryFn::Mul) {
        Some(scaled) => scaled,
        None => (id, vec![1.0; found.row.elems()]),
    };
    Some(match behind(scaled, BinaryFn::Add) {
        Some((last, shift)) => (last, gain, Some(shift)),
        None => (scaled, gain, None),
    })
}

/// A constant as one float for each element of a row, if broadcasting it to rows says just that.
fn elements(graph: &Graph, value: Value, found: &Normalised) -> Option<Vec<f32>> {
    let shape = &graph.ty(value).shape;
    let own = shape.iter().position(|&extent| extent != 1).unwrap_or(shape.rank());
    if shape.rank() > graph.ty(found.x).shape.rank() {
        return None;
    }
    match (floats(graph, value)?.into_owned(), &shape[own..]) {
        (elems, []) => elems.first().map(|&one| vec![one; found.row.elems()]),
        (elems, own) => {
            let row = &found.row[found.row.iter().take_while(|&&extent| extent == 1).count()..];
            (own == row).then_some(elems)
        }
    }
}
