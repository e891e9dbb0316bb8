//! Lays the padding of wide windows around the image, as a copy, so that all pixels of a row are computed by the same code.
//!
//! ```text
//!   x [N,C,1,W] ─▶ conv 1x256, pads 127:127        becomes    x ─▶ pad 127:127 ─▶ conv 1x256
//! ```
//!
//! Near the border of an image each pixel has taps of its own inside it. Kernels have that written out, tap by tap, which is little for
//! 3 or 7 columns; for the hundreds that filters of signals have it would be a hundred kilobytes of code for each block of pixels.
//! The copy is nothing beside the hundreds of products for each of its elements.

use nnc_ir::op::{Conv, Pad, PadMode, Window};
use nnc_ir::{Graph, NodeId, Op};

use super::edit::{each_node, rewrite, zeros_add_nothing};
use super::{EditError, Notes};
use crate::code::layers;

/// The most columns of a kernel whose borders are written out.
const MOST_COLUMNS: usize = 48;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some(conv) = padded(graph, id) else { return Ok(()) };
        lay(graph, id, conv)?;
        notes.count("laid around an image");
        Ok(())
    })
}

/// Whether the borders of the rows would be more code than they are worth.
pub(super) fn has_wide_borders(window: &Window) -> bool {
    let last = |of: &[isize]| of.last().is_some_and(|&n| n > 0);
    window.kernel.last().is_some_and(|&columns| columns > MOST_COLUMNS)
        && (last(&window.pads_begin) || last(&window.pads_end))
}

/// A convolution that kernels do, with such a window, whose padding may be elements of the image.
fn padded(graph: &Graph, id: NodeId) -> Option<Conv> {
    let Op::Conv(conv) = &graph.node(id).op else { return None };
    let fits = has_wide_borders(&conv.window)
        // What a prologue makes of zeros is no padding.
        && conv.prologue.is_none()
        && layers::of(graph, id).is_some()
        && zeros_add_nothing(graph, id);
    fits.then(|| conv.clone())
}

fn lay(graph: &mut Graph, id: NodeId, mut conv: Conv) -> Result<(), EditError> {
    let mut operands = graph.operands(id);
    let (Some(x), name) = (operands[Conv::X], graph.node(id).name.clone()) else { return Ok(()) };
    let rank = graph.ty(x).shape.rank();
    let around = |pads: &mut Vec<isize>| {
        let mut around = vec![0; rank];
        if let (Some(outside), Some(pad)) = (around.last_mut(), pads.last_mut().filter(|pad| **pad > 0)) {
            *outside = std::mem::take(pad);
        }
        around
    };
    let (begin, end) = (around(&mut conv.window.pads_begin), around(&mut conv.window.pads_end));
    let pad = Pad { begin, end, mode: PadMode::Constant(0.0) };
    operands[Conv::X] = Some(graph.add(format!("{name}:padded"), pad.into(), &[Some(x)])?.into());
    rewrite(graph, id, conv, &operands)
}
