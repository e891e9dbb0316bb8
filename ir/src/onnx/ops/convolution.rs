//! Conv and ConvTranspose.

use super::Results;
use super::window::{AutoPad, WindowAttributes, reach, signed};
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::{Conv, ConvTranspose, Epilogue, OpError, Pad, PadMode, Prologue, Window};
use crate::tensor::Tensor;
use crate::types::DType;

/// Extents of the spatial axes of an image or a kernel.
fn spatial<'a>(shape: &'a [usize], operand: &str) -> Result<&'a [usize], NodeFault> {
    match shape.get(2..) {
        Some(dims) if !dims.is_empty() => Ok(dims),
        _ => Err(NodeFault::invalid(format!(
            "operand {operand} needs at least one spatial axis, its shape is {shape:?}"
        ))),
    }
}

fn same_rank(x: &[usize], w: &[usize]) -> Result<(), NodeFault> {
    if x.len() == w.len() {
        return Ok(());
    }
    Err(NodeFault::invalid(format!("X has {} spatial axes, W has {}", x.len(), w.len())))
}

/// Conv, since 1.
pub(in crate::onnx) fn conv(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, w, b) = (n.operand(0, "X")?, n.operand(1, "W")?, n.optional(2)?);
    let (mut window, groups) = window(n, x, w)?;
    let x = if is_padded(&window) && has_odd_numbers(n, w) { pad(n, x, &mut window)? } else { x };
    let op = Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
    Ok(vec![n.emit_optional(op, &[Some(x), Some(w), b])?])
}

/// The window and the groups of a convolution of `x` with weights `w`.
pub(super) fn window(n: &mut NodeReader<'_, '_>, x: Value, w: Value) -> Result<(Window, usize), NodeFault> {
    let (x_shape, w_shape) = (n.shape(x), n.shape(w));
    let (image, kernel) = (spatial(&x_shape, "X")?, spatial(&w_shape, "W")?);
    same_rank(image, kernel)?;
    let groups = n.attributes.count("group", 1)?;
    let attributes = WindowAttributes::read(&mut n.attributes, image.len(), Some(kernel))?;
    let (window, _) = attributes.over(image, false)?;
    Ok((window, groups))
}

fn is_padded(window: &Window) -> bool {
    window.pads_begin.iter().chain(&window.pads_end).any(|&pad| pad > 0)
}

/// Whether weights that are known are NaN or infinite somewhere.
fn has_odd_numbers(n: &NodeReader<'_, '_>, weights: Value) -> bool {
    let Some(tensor) = n.constant_of(weights) else { return false };
    match tensor.dtype() {
        DType::F32 => any(tensor, |bytes| !f32::from_le_bytes(bytes).is_finite()),
        DType::F16 => any(tensor, |bytes| !half::f16::from_le_bytes(bytes).is_finite()),
        DType::BF16 => any(tensor, |bytes| !half::bf16::from_le_bytes(bytes).is_finite()),
        _ => false,
    }
}

/// Bytes of a tensor that are looked at together.
const PIECE: usize = 64 << 10;

/// Whether something holds for the bytes of any element. Weights that are in a file stay there: they are read piece by piece.
fn any<const SIZE: usize>(tensor: &Tensor, holds: impl Fn([u8; SIZE]) -> bool) -> bool {
    let len = tensor.ty().bytes();
    let mut room = Vec::new();
    (0..len).step_by(PIECE).any(|at| {
        let part = at..len.min(at + PIECE);
        let piece = tensor.at_hand(part.clone()).unwrap_or_else(|| {
            room.resize(part.len(), 0);
            tensor.read(part, &mut room);
            &room
        });
        // Without a way out in between, it goes in vectors.
        piece.as_chunks().0.iter().fold(false, |any, bytes| any | holds(*bytes))
    })
}

/// Makes the padding of a window one of its operand. Taps outside of an image are left out, as zeros add nothing; but zero
/// times NaN or infinity is NaN.
fn pad(n: &mut NodeReader<'_, '_>, x: Value, window: &mut Window) -> Result<Value, NodeFault> {
    let all = |pads: &[isize]| [&[0, 0], pads].concat();
    let (begin, end) = (all(&window.pads_begin), all(&window.pads_end));
    window.pads_begin.fill(0);
    window.pads_end.fill(0);
    n.emit(Pad { begin, end, mode: PadMode::Constant(0.0) }, &[x])
}

/// ConvTranspose, since 1. Pads are what is cut off the full result; `output_shape` decides them when it is given.
pub(in crate::onnx) fn conv_transpose(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, w, b) = (n.operand(0, "X")?, n.operand(1, "W")?, n.optional(2)?);
    let (x_shape, w_shape) = (n.shape(x), n.shape(w));
    let (image, kernel) = (spatial(&x_shape, "X")?, spatial(&w_shape, "W")?);
    same_rank(image, kernel)?;
    let rank = image.len();
    let groups = n.attributes.count("group", 1)?;
    let a = WindowAttributes::read(&mut n.attributes, rank, Some(kernel))?;
    let mut output_padding = extents(n, "output_padding", rank)?.unwrap_or_else(|| vec![0; rank]);
    // Some exporters write the batch and channel too.
    let output_shape = match n.attributes.ints("output_shape")? {
        None => None,
        Some(list) if list.len() == rank || list.len() == rank + 2 => {
            Some(non_negative("output_shape", &list[list.len() - rank..])?)
        }
        Some(list) => {
            return Err(value("output_shape", format!("must have {rank} entries, it has {}", list.len())));
        }
    };
    let (mut pads_begin, mut pads_end) = (Vec::new(), Vec::new());
    for axis in 0..rank {
        let full = image[axis]
            .saturating_sub(1)
            .checked_mul(a.strides[axis])
            .and_then(|n| n.checked_add(output_padding[axis]))
            .and_then(|n| n.checked_add(reach(a.kernel[axis], a.dilations[axis]).ok()?))
            .ok_or(OpError::Overflow)?;
        let wanted = match (&output_shape, a.auto_pad) {
            (Some(shape), _) => Some(shape[axis]),
            (None, AutoPad::SameUpper | AutoPad::SameLower) => {
                Some(image[axis].checked_mul(a.strides[axis]).ok_or(OpError::Overflow)?)
            }
            (None, AutoPad::Explicit | AutoPad::Valid) => None,
        };
        let (begin, end) = match wanted {
            None => (a.pads[axis] as isize, a.pads[axis + rank] as isize),
            Some(wanted) if wanted > full => {
                // More than the full result: the rest is bias alone, as if it were output padding.
                output_padding[axis] =
                    output_padding[axis].checked_add(wanted - full).ok_or(OpError::Overflow)?;
                (0, 0)
            }
            Some(wanted) => {
                let cut = full - wanted;
                let less = cut / 2;
                let (begin, end) =
                    if a.auto_pad == AutoPad::SameUpper { (less, cut - less) } else { (cut - less, less) };
                (signed(begin)?, signed(end)?)
            }
        };
        pads_begin.push(begin);
        pads_end.push(end);
    }
    let window =
        Window { kernel: a.kernel, strides: a.strides, dilations: a.dilations, pads_begin, pads_end };
    let op = ConvTranspose { window, output_padding, groups, activation: None };
    Ok(vec![n.emit_optional(op, &[Some(x), Some(w), b])?])
}

fn extents(n: &mut NodeReader<'_, '_>, name: &str, rank: usize) -> Result<Option<Vec<usize>>, NodeFault> {
    match n.attributes.ints(name)? {
        None => Ok(None),
        Some(list) if list.len() == rank => non_negative(name, list).map(Some),
        Some(list) => Err(value(name, format!("must have {rank} entries, it has {}", list.len()))),
    }
}

fn non_negative(name: &str, list: &[i64]) -> Result<Vec<usize>, NodeFault> {
    list.iter()
        .map(|&v| {
            usize::try_from(v).map_err(|_| value(name, format!("must not be negative, it is {list:?}")))
        })
        .collect()
}
