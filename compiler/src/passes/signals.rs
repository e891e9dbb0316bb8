//! Makes images with one row of signals, so that layers over them get the kernels of images.
//!
//! ```text
//!   x [N,C,L] ─▶ conv k ─▶ batch norm ─▶ pool k ─▶ y [N,C,L′]
//!
//!       becomes
//!
//!   x ─▶ reshape [N,C,1,L] ─▶ conv 1×k ─▶ batch norm ─▶ pool 1×k ─▶ reshape [N,C,L′] ─▶ y
//! ```
//!
//! A layer whose window slides along one axis starts it; what reads its result only through the reshape behind it, and does
//! not mind an axis of one element, follows: so the reshapes sink to where the signal ends. They are views: nothing is copied.

use nnc_ir::op::{
    Concat, Conv, ConvTranspose, Pad, Pool, Reduce, Reshape, Resize, Slice, Softmax, Split, Window,
};
use nnc_ir::{DType, Graph, NodeId, Op, Value};

use super::edit::{input_of, producer};
use super::{EditError, Notes};

/// Where the axis of one element goes.
const ROW: usize = 2;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    for id in graph.order()? {
        if !graph.contains(id) || !is_signal(graph, id.into()) || has_weights_of_bytes(graph, id) {
            continue;
        }
        let Some(op) = with_row(&graph.node(id).op) else { continue };
        if !starts(&op) && !follows(graph, id) {
            continue;
        }
        if lift(graph, id, op)? {
            notes.count("layers over one axis made layers over images");
        }
    }
    Ok(())
}

/// Whether a value has the shape [N, C, L], and elements that images may have.
fn is_signal(graph: &Graph, value: Value) -> bool {
    let ty = graph.ty(value);
    let of_images = ty.dtype.is_float() || ty.dtype == DType::U8;
    ty.shape.rank() == 3 && of_images && ty.shape.elems() > 0
}

/// Whether a layer's weights are steps yet. `integer_layers` makes an image of its signal, or numbers of its weights.
fn has_weights_of_bytes(graph: &Graph, id: NodeId) -> bool {
    let weights = match graph.node(id).op {
        Op::Conv(_) => graph.operand(id, Conv::W),
        Op::ConvTranspose(_) => graph.operand(id, 1),
        _ => None,
    };
    weights.is_some_and(|weights| matches!(producer(graph, weights), Op::Dequantize(_)))
}

/// Operators that are worth a reshape.
fn starts(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Pool(_) | Op::GlobalPool(_))
}

/// Whether all that a node reads are images with one row, seen as signals, and constants: at least one image.
fn follows(graph: &Graph, id: NodeId) -> bool {
    let operands = graph.operands(id);
    let mut images = 0;
    operands.iter().flatten().all(|&value| {
        let is_image = image_of(graph, value).is_some();
        images += usize::from(is_image);
        is_image || graph.constant(value).is_some()
    }) && images > 0
}

/// The image of one row that a signal is a view of.
fn image_of(graph: &Graph, value: Value) -> Option<Value> {
    let Op::Reshape(_) = producer(graph, value) else { return None };
    let image = input_of(graph, value)?;
    let (from, to) = (&graph.ty(image).shape, &graph.ty(value).shape);
    (to.rank() == 3 && **from == with_axis(to)[..]).then_some(image)
}

fn with_axis(shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    shape.insert(ROW, 1);
    shape
}

/// The same operator over images of one row; `None` where it is none of signals, or minds the axis.
fn with_row(op: &Op) -> Option<Op> {
    let axis = |a: usize| if a < ROW { a } else { a + 1 };
    let inserted = |list: &[isize]| {
        let mut list = list.to_vec();
        list.insert(ROW, 0);
        list
    };
    Some(match op {
        Op::Conv(conv) => Conv { window: of_row(&conv.window), ..conv.clone() }.into(),
        Op::ConvTranspose(conv) => {
            let output_padding = [&[0], conv.output_padding.as_slice()].concat();
            ConvTranspose { window: of_row(&conv.window), output_padding, ..conv.clone() }.into()
        }
        Op::Pool(pool) => {
            let ceil_pads = [&[0], pool.ceil_pads.as_slice()].concat();
            Pool { window: of_row(&pool.window), ceil_pads, ..pool.clone() }.into()
        }
        Op::GlobalPool(_) | Op::BatchNorm(_) | Op::ChannelAffine(_) | Op::InstanceNorm(_) | Op::Lrn(_) => {
            op.clone()
        }
        Op::Unary(_) | Op::Binary(_) | Op::Where(_) | Op::Cast(_) | Op::ChannelSelect(_) => op.clone(),
        Op::Concat(concat) => Concat { axis: axis(concat.axis) }.into(),
        Op::Split(split) => Split { axis: axis(split.axis), parts: split.parts.clone() }.into(),
        Op::Softmax(softmax) => Softmax { axis: axis(softmax.axis) }.into(),
        Op::Slice(slice) => {
            let mut axes = slice.axes.clone();
            axes.iter_mut().for_each(|a| a.axis = axis(a.axis));
            Slice { axes }.into()
        }
        Op::Pad(pad) => Pad { begin: inserted(&pad.begin), end: inserted(&pad.end), mode: pad.mode }.into(),
        // One that drops axes gives no signal.
        Op::Reduce(reduce) => {
            let axes = reduce.axes.iter().map(|&a| axis(a)).collect();
            Reduce { axes, ..reduce.clone() }.into()
        }
        Op::Resize(resize) if resize.crop.is_none() => {
            let mut scales = resize.scales.clone();
            scales.insert(ROW, 1.0);
            Resize { sizes: with_axis(&resize.sizes), scales, ..resize.clone() }.into()
        }
        _ => return None,
    })
}

/// The window of one row.
fn of_row(window: &Window) -> Window {
    let before = |first: usize, list: &[usize]| [&[first], list].concat();
    let unpadded = |list: &[isize]| [&[0], list].concat();
    Window {
        kernel: before(1, &window.kernel),
        strides: before(1, &window.strides),
        dilations: before(1, &window.dilations),
        pads_begin: unpadded(&window.pads_begin),
        pads_end: unpadded(&window.pads_end),
    }
}

/// Puts `op` over images in the place of a node over signals.
fn lift(graph: &mut Graph, id: NodeId, op: Op) -> Result<bool, EditError> {
    let mut operands = Vec::new();
    for value in graph.operands(id) {
        operands.push(match value {
            Some(value) => Some(lifted(graph, value, &op)?),
            None => None,
        });
    }
    let (name, count) = (graph.node(id).name.clone(), graph.node(id).outputs.len() as u32);
    let images = graph.add(name.clone(), op, &operands)?;
    let mut signals = Vec::new();
    for output in 0..count {
        let shape = graph.ty(Value { node: id, output }).shape.to_vec();
        let image = Value { node: images, output };
        let signal = graph.add(format!("{name}:signal"), Reshape { shape }.into(), &[Some(image)])?;
        graph.replace_value(Value { node: id, output }, signal.into())?;
        signals.push(signal);
    }
    // Those that nobody reads, when all are there: the last one would take the images along.
    signals.into_iter().for_each(|signal| graph.prune(signal));
    graph.prune(id);
    Ok(true)
}

/// An operand with the axis of one element: signals and the weights of windows have rank 3, and broadcast constants are filled
/// up to it; vectors of one element a channel stay.
fn lifted(graph: &mut Graph, value: Value, op: &Op) -> Result<Value, EditError> {
    if let Some(image) = image_of(graph, value) {
        return Ok(image);
    }
    let mut shape = graph.ty(value).shape.to_vec();
    if matches!(op, Op::Binary(_) | Op::Where(_)) && shape.len() > 1 {
        shape = [vec![1; 3 - shape.len().min(3)], shape].concat();
    }
    if shape.len() != 3 {
        return Ok(value);
    }
    let shape = with_axis(&shape);
    let name = graph.node(value.node).name.clone();
    if let Some(tensor) = graph.constant(value) {
        let tensor = tensor.clone().reshaped(shape)?;
        return Ok(graph.add_constant(name, tensor));
    }
    Ok(graph.add(format!("{name}:image"), Reshape { shape }.into(), &[Some(value)])?.into())
}
