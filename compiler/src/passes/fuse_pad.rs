//! Moves pads and crops into the windows of convolutions and pools.
//!
//! ```text
//!   x ─▶ pad [0,1] ─▶ conv, pads [0,0]                        x ─▶ conv, pads [0,1]
//!   x ─▶ pad [0,1] ─▶ slice [1:] ─▶ average pool    becomes   x ─▶ average pool, pads [-1,1]
//! ```
//!
//! Pads and crops that follow each other are one pad, as far as a pad can say it: what is cropped does not come back as padding, and what
//! is put around an image is not cropped from the other side.
//!
//! A crop is negative padding: the window starts inside. What is put around an image must be what the window takes
//! there: zeros for a convolution, or the zero point of one of integers, and zeros for an average that counts its padding; for a maximum,
//! what never wins.

use nnc_ir::op::{Conv, IntegerConv, Pad, PadMode, Pool, PoolKind, Window};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{each_node, is_float, is_non_negative, rewrite, zeros_add_nothing};
use super::wide_windows::has_wide_borders;
use super::{EditError, Notes};
use crate::code::layers::can_absorb;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        if merge(graph, id)? {
            notes.count("merged");
        }
        let Some(border) = border(graph, id) else { return Ok(()) };
        let readers = graph.consumers(id.into());
        if readers.is_empty() || graph.is_output(id.into()) {
            return Ok(());
        }
        let ops: Option<Vec<Op>> =
            readers.iter().map(|&(reader, input)| bordered(graph, reader, input, &border)).collect();
        let Some(ops) = ops else { return Ok(()) };
        let (name, op) = (graph.node(id).name.clone(), graph.node(id).op.name());
        for ((reader, _), op_with_pads) in readers.into_iter().zip(ops) {
            let mut operands = graph.operands(reader);
            operands[Conv::X] = Some(border.x);
            // The last rewrite prunes the pad.
            rewrite(graph, reader, op_with_pads, &operands)?;
            notes.absorbed(&graph.node(reader).name, &name, op, "padding");
            notes.count("moved into a window");
        }
        Ok(())
    })
}

/// What a Pad or a Slice puts around the spatial axes of an image.
struct Border {
    x: Value,
    /// For each axis; negative where it crops.
    begin: Vec<isize>,
    end: Vec<isize>,
    value: f64,
}

/// Reads a Pad with a constant, or a Slice without steps, as a border.
fn border(graph: &Graph, id: NodeId) -> Option<Border> {
    let x = graph.operand(id, 0)?;
    let shape = &graph.ty(x).shape;
    match &graph.node(id).op {
        Op::Pad(Pad { begin, end, mode: PadMode::Constant(value) }) => {
            Some(Border { x, begin: begin.clone(), end: end.clone(), value: *value })
        }
        Op::Slice(slice) => {
            let (mut begin, mut end) = (vec![0; shape.rank()], vec![0; shape.rank()]);
            for a in &slice.axes {
                if a.step != 1 || a.len == 0 {
                    return None;
                }
                let behind = shape.get(a.axis)?.checked_sub(a.start)?.checked_sub(a.len)?;
                *begin.get_mut(a.axis)? = -isize::try_from(a.start).ok()?;
                *end.get_mut(a.axis)? = -isize::try_from(behind).ok()?;
            }
            Some(Border { x, begin, end, value: 0.0 })
        }
        _ => None,
    }
}

impl Border {
    fn pads_something(&self) -> bool {
        self.begin.iter().chain(&self.end).any(|&n| n > 0)
    }

    fn is_spatial(&self) -> bool {
        self.begin.iter().take(2).chain(self.end.iter().take(2)).all(|&n| n == 0)
    }
}

/// Padding of one side that does what `first` and then `second` do. What is cropped cannot come back as padding.
fn one_after_another(first: &[isize], second: &[isize]) -> Option<Vec<isize>> {
    if first.len() != second.len() {
        return None;
    }
    first.iter().zip(second).map(|(&a, &b)| if a >= 0 || b <= 0 { a.checked_add(b) } else { None }).collect()
}

/// Makes one Pad of a Pad or Slice that follows another.
fn merge(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Some(second) = border(graph, id) else { return Ok(false) };
    let Some(first) = border(graph, second.x.node) else { return Ok(false) };
    if first.pads_something() && second.pads_something() && first.value.to_bits() != second.value.to_bits() {
        return Ok(false);
    }
    let begin = one_after_another(&first.begin, &second.begin);
    let end = one_after_another(&first.end, &second.end);
    let (Some(begin), Some(end)) = (begin, end) else { return Ok(false) };
    // A crop that goes through the whole image into the padding behind it is none of the image.
    let shape = &graph.ty(first.x).shape;
    let cropped = |at: usize| begin[at].min(0).unsigned_abs().saturating_add(end[at].min(0).unsigned_abs());
    if (0..shape.rank()).any(|at| cropped(at) > shape[at]) {
        return Ok(false);
    }
    let value = if second.pads_something() { second.value } else { first.value };
    rewrite(graph, id, Pad { begin, end, mode: PadMode::Constant(value) }, &[Some(first.x)])?;
    Ok(true)
}

/// Whether an operator reads the bytes of quantised images, whose padding is their zero point.
fn reads_steps(op: &Op) -> bool {
    matches!(op, Op::IntegerConv(_))
}

/// The reader with the border in its window, if that computes the same.
fn bordered(graph: &Graph, reader: NodeId, input: usize, border: &Border) -> Option<Op> {
    let op = &graph.node(reader).op;
    if input != Conv::X || !border.is_spatial() || !(is_float(graph, border.x) || reads_steps(op)) {
        return None;
    }
    // What `wide_windows` lays around an image stays there.
    let stays =
        |op: &Op| matches!(op, Op::Conv(conv) if border.pads_something() && has_wide_borders(&conv.window));
    widened_by(graph, reader, border).filter(|op| !stays(op) && can_absorb(graph, reader, op))
}

fn widened_by(graph: &Graph, reader: NodeId, border: &Border) -> Option<Op> {
    let widen = |window: &Window| widened(window, border.begin.get(2..)?, border.end.get(2..)?);
    let padded = border.pads_something();
    match &graph.node(reader).op {
        // A prologue comes before the padding of the window, but after the border.
        Op::Conv(conv) => {
            let fits = !padded
                || (border.value == 0.0 && conv.prologue.is_none() && zeros_add_nothing(graph, reader));
            fits.then_some(Conv { window: widen(&conv.window)?, ..conv.clone() }.into())
        }
        Op::IntegerConv(conv) => {
            let fits = !padded || border.value == f64::from(conv.x_zero);
            fits.then_some(IntegerConv { window: widen(&conv.window)?, ..conv.clone() }.into())
        }
        Op::Pool(pool) if !padded => Some(Pool { window: widen(&pool.window)?, ..pool.clone() }.into()),
        Op::Pool(pool) if pool.prologue.is_none() => {
            let window = widen(&pool.window)?;
            let kind = match pool.kind {
                PoolKind::Average { count_include_pad } if border.value == 0.0 => {
                    let own = pool.window.pads_begin.iter().any(|&n| n > 0)
                        || pool.window.pads_end.iter().zip(&pool.ceil_pads).any(|(&n, &c)| n > c as isize);
                    if own && !count_include_pad {
                        return None;
                    }
                    PoolKind::Average { count_include_pad: true }
                }
                PoolKind::Max if never_wins(graph, border) && every_window_sees_the_image(&window) => {
                    PoolKind::Max
                }
                PoolKind::Lp { p } if border.value == 0.0 => PoolKind::Lp { p },
                _ => return None,
            };
            Some(Pool { kind, window, ..pool.clone() }.into())
        }
        _ => None,
    }
}

/// The window with more padding, where a window may have that much. What `ceil_mode` added to that of a pool comes last and stays last.
fn widened(window: &Window, begin: &[isize], end: &[isize]) -> Option<Window> {
    let window = Window {
        pads_begin: one_after_another(begin, &window.pads_begin)?,
        pads_end: one_after_another(end, &window.pads_end)?,
        ..window.clone()
    };
    window.check(window.kernel.len()).is_ok().then_some(window)
}

fn never_wins(graph: &Graph, border: &Border) -> bool {
    border.value == f64::NEG_INFINITY || (border.value == 0.0 && is_non_negative(graph, border.x))
}

/// Whether no window can lie in the padding altogether.
fn every_window_sees_the_image(window: &Window) -> bool {
    (0..window.kernel.len()).all(|i| {
        let extent = window.kernel[i] as isize;
        window.dilations[i] == 1 && window.pads_begin[i] < extent && window.pads_end[i] < extent
    })
}
