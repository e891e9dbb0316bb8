//! Sliding windows, and what a convolution does in one.

use onnx_protobuf::AttributeProto;

use super::Map;
use crate::proto;

/// How far a window reaches over the border, alike in both directions.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Padding {
    /// This many zeros on every side.
    Each(usize),
    /// These many zeros above and below, and left and right.
    Sides([usize; 2]),
    /// As many as make the output `⌈size / stride⌉`, the odd one at the end (TensorFlow's `SAME`).
    Same,
}

/// A square sliding window, which may move by another distance down than to the right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(super) kernel: usize,
    /// Down and to the right.
    pub(super) strides: [usize; 2],
    padding: Padding,
    pub(super) ceil: bool,
}

impl Window {
    pub(crate) fn new(kernel: usize, stride: usize, padding: Padding) -> Self {
        Self { kernel, strides: [stride; 2], padding, ceil: false }
    }

    /// Keeps a last, partly filled window (`ceil_mode`).
    pub(crate) fn ceil(self) -> Self {
        Self { ceil: true, ..self }
    }

    /// Moves by `down` and `right`.
    pub(crate) fn strides(self, down: usize, right: usize) -> Self {
        Self { strides: [down, right], ..self }
    }

    /// (padding before, padding after, output size) along the rows (axis 0) or the columns (axis 1).
    pub(super) fn along(&self, axis: usize, size: usize) -> (usize, usize, usize) {
        let stride = self.strides[axis];
        let (before, after) = match self.padding {
            Padding::Each(p) => (p, p),
            Padding::Sides(sides) => (sides[axis], sides[axis]),
            Padding::Same => {
                let reach = (size.div_ceil(stride) - 1) * stride + self.kernel;
                let total = reach.saturating_sub(size);
                (total / 2, total - total / 2)
            }
        };
        let padded = size + before + after;
        assert!(padded >= self.kernel, "the catalogue admits a resolution that this window does not fit");
        let span = padded - self.kernel;
        let steps = if self.ceil { span.div_ceil(stride) } else { span / stride };
        (before, after, steps + 1)
    }

    /// (height, width) of what the window makes of `x`.
    pub(super) fn output(&self, x: &Map) -> (usize, usize) {
        (self.along(0, x.height).2, self.along(1, x.width).2)
    }

    pub(super) fn attributes(&self, x: &Map) -> Vec<AttributeProto> {
        let (top, bottom, _) = self.along(0, x.height);
        let (left, right, _) = self.along(1, x.width);
        vec![
            proto::ints("kernel_shape", &[self.kernel as i64; 2]),
            proto::ints("pads", &[top as i64, left as i64, bottom as i64, right as i64]),
            proto::ints("strides", &self.strides.map(|stride| stride as i64)),
        ]
    }
}

/// A convolution with square kernels: what to compute, without its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub(super) channels: usize,
    pub(super) groups: usize,
    pub(super) window: Window,
}

impl Conv {
    /// `channels` output channels, a `kernel` × `kernel` window, stride 1, no padding, one group.
    pub(crate) fn new(channels: usize, kernel: usize) -> Self {
        Self { channels, groups: 1, window: Window::new(kernel, 1, Padding::Each(0)) }
    }

    /// A 1 × 1 convolution.
    pub(crate) fn pointwise(channels: usize) -> Self {
        Self::new(channels, 1)
    }

    /// One `kernel` × `kernel` filter per channel of `x`.
    pub(crate) fn depthwise(x: &Map, kernel: usize) -> Self {
        Self::new(x.channels, kernel).groups(x.channels)
    }

    pub(crate) fn stride(mut self, stride: usize) -> Self {
        self.window.strides = [stride; 2];
        self
    }

    pub(crate) fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// `pad` zeros on every side.
    pub(crate) fn pad(mut self, pad: usize) -> Self {
        self.window.padding = Padding::Each(pad);
        self
    }

    /// Half the kernel on every side, as is usual for odd kernels.
    pub(crate) fn centred(self) -> Self {
        let half = self.window.kernel / 2;
        self.pad(half)
    }

    /// TensorFlow's `SAME` padding.
    pub(crate) fn same(mut self) -> Self {
        self.window.padding = Padding::Same;
        self
    }
}
