//! Windows of convolutions and pools: automatic padding and `ceil_mode` become explicit pads.

use crate::onnx::attribute::{Attributes, value};
use crate::onnx::error::NodeFault;
use crate::op::{OpError, Window};

/// How pads are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// By the attribute `pads`.
    Explicit,
    /// So that the result has `⌈input / stride⌉` elements, an odd one at the end.
    SameUpper,
    /// Likewise, an odd one at the beginning.
    SameLower,
    /// None.
    Valid,
}

/// The attributes that all windows share, checked against each other.
pub(super) struct WindowAttributes {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    /// Begins, then ends; zeros unless `auto_pad` is [`AutoPad::Explicit`].
    pub pads: Vec<i64>,
    pub auto_pad: AutoPad,
}

impl WindowAttributes {
    /// Reads them for `rank` spatial axes. `weight` is the kernel's shape where weights say it.
    pub(super) fn read(
        a: &mut Attributes<'_>,
        rank: usize,
        weight: Option<&[usize]>,
    ) -> Result<WindowAttributes, NodeFault> {
        let kernel = positive(a, "kernel_shape", rank)?;
        let kernel = match (kernel, weight) {
            (Some(k), Some(w)) if k != w => {
                return Err(value("kernel_shape", format!("is {k:?}, the weights have {w:?}")));
            }
            (None, Some(w)) => w.to_vec(),
            (Some(k), _) => k,
            (None, None) => return Err(value("kernel_shape", "is missing")),
        };
        let strides = positive(a, "strides", rank)?.unwrap_or_else(|| vec![1; rank]);
        let dilations = positive(a, "dilations", rank)?.unwrap_or_else(|| vec![1; rank]);
        let auto_pad = a.choice(
            "auto_pad",
            AutoPad::Explicit,
            &[
                ("NOTSET", AutoPad::Explicit),
                ("SAME_UPPER", AutoPad::SameUpper),
                ("SAME_LOWER", AutoPad::SameLower),
                ("VALID", AutoPad::Valid),
            ],
        )?;
        let pads = match a.ints("pads")? {
            None => vec![0; 2 * rank],
            Some(pads) if pads.len() != 2 * rank => {
                return Err(value("pads", format!("must have {} entries, it has {}", 2 * rank, pads.len())));
            }
            Some(pads) if auto_pad != AutoPad::Explicit && pads.iter().any(|&p| p != 0) => {
                return Err(value("pads", "contradicts attribute \"auto_pad\""));
            }
            Some(pads) => pads.to_vec(),
        };
        if let Some(p) = pads.iter().find(|&&p| i32::try_from(p).is_err() || p < 0) {
            return Err(value("pads", format!("must not be negative or huge, it has {p}")));
        }
        Ok(WindowAttributes { kernel, strides, dilations, pads, auto_pad })
    }

    /// The window over an input, and of its pads at the end those that `ceil_mode` adds.
    pub(super) fn over(
        mut self,
        input: &[usize],
        ceil_mode: bool,
    ) -> Result<(Window, Vec<usize>), NodeFault> {
        let rank = input.len();
        let mut pads_begin = Vec::with_capacity(rank);
        let mut pads_end = Vec::with_capacity(rank);
        let mut ceil_pads = Vec::with_capacity(rank);
        for (axis, &extent) in input.iter().enumerate() {
            let stride = self.strides[axis];
            let reach = reach(self.kernel[axis], self.dilations[axis])?;
            let (begin, end, ceil) = match self.auto_pad {
                AutoPad::Valid => (0, 0, 0),
                AutoPad::SameUpper | AutoPad::SameLower => {
                    let total = same_padding(extent, reach, stride)?;
                    let less = total / 2;
                    match self.auto_pad {
                        AutoPad::SameUpper => (less, total - less, 0),
                        _ => (total - less, less, 0),
                    }
                }
                AutoPad::Explicit => {
                    let pad = |i: usize| {
                        usize::try_from(self.pads[i]).map_err(|_| NodeFault::Op(OpError::Overflow))
                    };
                    let (begin, end) = (pad(axis)?, pad(axis + rank)?);
                    let ceil = if ceil_mode { ceil_padding(extent, begin, end, reach, stride)? } else { 0 };
                    (begin, end.checked_add(ceil).ok_or(OpError::Overflow)?, ceil)
                }
            };
            // What a single window or a single tap makes irrelevant may be any number, and is none that counts on.
            let padded =
                extent.checked_add(begin).and_then(|n| n.checked_add(end)).ok_or(OpError::Overflow)?;
            self.strides[axis] = stride.min(padded.saturating_sub(reach) + 1);
            if self.kernel[axis] == 1 {
                self.dilations[axis] = 1;
            }
            pads_begin.push(signed(begin)?);
            pads_end.push(signed(end)?);
            ceil_pads.push(ceil);
        }
        let WindowAttributes { kernel, strides, dilations, .. } = self;
        Ok((Window { kernel, strides, dilations, pads_begin, pads_end }, ceil_pads))
    }
}

/// Elements from the first to the last tap.
pub(super) fn reach(kernel: usize, dilation: usize) -> Result<usize, OpError> {
    (kernel.saturating_sub(1)).checked_mul(dilation).and_then(|n| n.checked_add(1)).ok_or(OpError::Overflow)
}

/// Pads that make `⌈extent / stride⌉` windows fit.
fn same_padding(extent: usize, reach: usize, stride: usize) -> Result<usize, OpError> {
    let windows = extent.div_ceil(stride);
    let covered = windows.saturating_sub(1).checked_mul(stride).and_then(|n| n.checked_add(reach));
    Ok(covered.ok_or(OpError::Overflow)?.saturating_sub(extent))
}

/// Pads at the end that let the last window hang over, unless it would lie in the padding altogether.
fn ceil_padding(
    extent: usize,
    begin: usize,
    end: usize,
    reach: usize,
    stride: usize,
) -> Result<usize, OpError> {
    let inside = extent.checked_add(begin).ok_or(OpError::Overflow)?;
    let padded = inside.checked_add(end).ok_or(OpError::Overflow)?;
    let Some(room) = padded.checked_sub(reach) else {
        // Not even one window fits: left to the operator to refuse.
        return Ok(0);
    };
    let mut last = room.div_ceil(stride);
    if last.checked_mul(stride).ok_or(OpError::Overflow)? >= inside {
        last = last.saturating_sub(1);
    }
    let covered = last.checked_mul(stride).and_then(|n| n.checked_add(reach)).ok_or(OpError::Overflow)?;
    Ok(covered.saturating_sub(padded))
}

pub(super) fn signed(n: usize) -> Result<isize, OpError> {
    isize::try_from(n).map_err(|_| OpError::Overflow)
}

/// An attribute with a positive number for each spatial axis.
fn positive(a: &mut Attributes<'_>, name: &str, rank: usize) -> Result<Option<Vec<usize>>, NodeFault> {
    let Some(list) = a.ints(name)? else {
        return Ok(None);
    };
    if list.len() != rank {
        return Err(value(name, format!("must have {rank} entries, it has {}", list.len())));
    }
    list.iter()
        .map(|&n| usize::try_from(n).ok().filter(|n| *n > 0))
        .collect::<Option<Vec<usize>>>()
        .map(Some)
        .ok_or_else(|| value(name, format!("must be positive, it is {list:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_keeps_the_extent_over_the_stride() {
        assert_eq!(same_padding(224, 3, 2).unwrap(), 1);
        assert_eq!(same_padding(112, 3, 1).unwrap(), 2);
        assert_eq!(same_padding(7, 1, 2).unwrap(), 0);
        assert_eq!(same_padding(1, 3, 4).unwrap(), 2);
    }

    #[test]
    fn ceil_mode_pads_what_the_last_window_lacks() {
        // SqueezeNet: 111 elements, kernel 3, stride 2: already exact.
        assert_eq!(ceil_padding(111, 0, 0, 3, 2).unwrap(), 0);
        assert_eq!(ceil_padding(112, 0, 0, 3, 2).unwrap(), 1);
        assert_eq!(ceil_padding(27, 0, 0, 3, 2).unwrap(), 0);
    }

    #[test]
    fn a_window_that_would_start_in_the_padding_is_dropped() {
        // 4 elements padded to 6, kernel 2, stride 3: starts 0, 3, and 6, which lies beyond the image.
        assert_eq!(ceil_padding(4, 1, 1, 1, 3).unwrap(), 0);
        assert_eq!(ceil_padding(2, 0, 0, 1, 2).unwrap(), 0);
    }
}
