//! From a transposed convolution in the graph to dense steps.
//!
//! Element `o` of the result gets tap `t` from element `i` of the image where `o = i · s + t · d - p`: only every `s`-th tap. So the
//! result is cut into phases, `o = s · q + f`. In each, the taps that meet are an ordinary convolution of stride 1, whose pixels are
//! written `s` apart:
//!
//! ```text
//!   stride 2, kernel 4, pad 1      phase 0:  y[2q]     = w[3]·x[q - 1] + w[1]·x[q]
//!                                  phase 1:  y[2q + 1] = w[2]·x[q]     + w[0]·x[q + 1]
//! ```

use nnc_ir::op::{ConvTranspose, Op};
use nnc_ir::{Tensor, Value};

use super::PlanError;
use super::buffer::BufferId;
use super::dense_step::{FEW_PIXELS, Placed, far_channels};
use super::fits::KernelLayer;
use super::image::{Image, Slot};
use super::panels::f32_elems;
use super::pitch::{Extent, Pitch};
use super::planner::{Place, Planner};
use super::sweep::Axis;
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::window::KernelPrologue;

/// One phase along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    /// Its first element of the result.
    first: usize,
    /// The convolution that it is.
    axis: Axis,
    /// Which tap of the kernel each of its taps is.
    taps: Vec<usize>,
}

impl Planner<'_> {
    /// Plans a transposed convolution that sums over channels.
    pub(super) fn transposed(
        &mut self,
        layer: &KernelLayer,
        epilogue: KernelEpilogue,
    ) -> Result<(), PlanError> {
        let (id, output) = (layer.node, Value::from(layer.node));
        let Op::ConvTranspose(conv) = &self.graph.node(id).op else {
            return Err(PlanError::Internal("a layer is no transposed convolution".into()));
        };
        let mut image = self.image_or_copy(id, layer.x)?;
        if let Some(far) = far_channels(&image) {
            image = self.relayout(id, &image, far)?;
        }
        if self.float_of(&image).is_half() && self.extent(output).pixels() > FEW_PIXELS {
            image = self.widened(id, &image, "its half floats are widened once")?;
        }
        let (out_image, buffer) = self.dense_output(id, output, &image, None);
        let weights = self.parameter(layer.weights)?;
        let (input, result) = (image.extent, out_image.extent);
        let rows = phases(conv, 0, input.h, result.h);
        let columns = phases(conv, 1, input.w, result.w);
        let mut is_first = true;
        for y in &rows {
            for x in &columns {
                let (part, part_buffer) = self.every(&out_image, buffer, conv, y, x)?;
                let weights = phase_weights(&weights, conv, y, x)?;
                let layer = KernelLayer { axes: (y.axis, x.axis), ..*layer };
                let placed =
                    Placed { input: &image, output: &part, output_buffer: part_buffer, residual: None };
                self.direct(&layer, &weights, KernelPrologue::default(), epilogue, &placed, is_first)?;
                is_first = false;
            }
        }
        self.place(output, Place::Image(out_image));
        Ok(())
    }

    /// The pixels of a phase, as an image of its own over the same bytes.
    fn every(
        &mut self,
        image: &Image,
        buffer: BufferId,
        conv: &ConvTranspose,
        y: &Phase,
        x: &Phase,
    ) -> Result<(Image, BufferId), PlanError> {
        let none = || PlanError::Internal("the result of a transposed convolution is no image".into());
        let pitch = self.pitch(buffer).ok_or_else(none)?;
        let (down, right) = (conv.window.strides[0], conv.window.strides[1]);
        let extent = Extent { n: image.extent.n, h: y.axis.output, w: x.axis.output };
        let apart = Pitch { pixel: pitch.pixel * right, row: pitch.row * down, ..pitch };
        let part = self.seen_as(buffer, extent, apart);
        let shift = y.first * pitch.row + x.first * pitch.pixel;
        let slots = image.slots.iter().map(|slot| Slot { buffer: part, at: slot.at + shift }).collect();
        Ok((Image { extent, slots }, part))
    }
}

/// The phases of an axis that have elements.
fn phases(conv: &ConvTranspose, axis: usize, input: usize, output: usize) -> Vec<Phase> {
    let window = &conv.window;
    let (stride, dilation, kernel) = (window.strides[axis], window.dilations[axis], window.kernel[axis]);
    let pad = window.pads_begin[axis];
    let phase = |first: usize| {
        let positions = (output - first).div_ceil(stride);
        // Tap t of element q is element q + (target - t · dilation) / stride of the image.
        let target = first as isize + pad;
        let from = |tap: usize| target - (tap * dilation) as isize;
        // From the last tap that meets, so that the image is walked through forwards.
        let taps: Vec<usize> =
            (0..kernel).rev().filter(|&tap| from(tap).rem_euclid(stride as isize) == 0).collect();
        let start = taps.first().map_or(0, |&tap| from(tap) / stride as isize);
        let next = match taps[..] {
            [a, b, ..] => ((a - b) * dilation / stride).max(1),
            _ => 1,
        };
        let whole =
            Axis { input, output: positions, kernel: taps.len(), stride: 1, dilation: next, pad: -start };
        let axis = match taps.is_empty() {
            // A tap that is always outside: what nothing meets is the bias.
            true => Axis { kernel: 1, pad: positions as isize, ..whole },
            false => whole,
        };
        Phase { first, axis, taps }
    };
    (0..stride.min(output)).map(phase).collect()
}

/// The weights of a phase as those of a convolution, `[M, C / groups, taps…]`, of weights `[C, M / groups, kernel…]`.
fn phase_weights(weights: &Tensor, conv: &ConvTranspose, y: &Phase, x: &Phase) -> Result<Tensor, PlanError> {
    let elems = f32_elems(weights)?;
    let [channels, each, height, width] = weights.shape()[..] else {
        return Err(PlanError::Internal("the weights of a transposed convolution have other axes".into()));
    };
    let inner = channels / conv.groups;
    let (rows, columns) = (y.axis.kernel, x.axis.kernel);
    let mut packed = Vec::with_capacity(conv.groups * each * inner * rows * columns);
    for result in 0..conv.groups * each {
        let (group, result) = (result / each, result % each);
        for c in group * inner..(group + 1) * inner {
            let kernel = &elems[(c * each + result) * height * width..][..height * width];
            for row in 0..rows {
                for column in 0..columns {
                    let tap = y.taps.get(row).zip(x.taps.get(column));
                    packed.push(tap.map_or(0.0, |(row, column)| kernel[row * width + column]));
                }
            }
        }
    }
    Ok(Tensor::new([conv.groups * each, inner, rows, columns], &packed)?)
}

#[cfg(test)]
mod tests {
    use nnc_ir::op::Window;

    use super::*;

    /// The phases of one axis, and an axis of one element.
    fn of(
        kernel: usize,
        stride: usize,
        dilation: usize,
        pad: isize,
        input: usize,
        output: usize,
    ) -> Vec<Phase> {
        let window = Window {
            kernel: vec![kernel, 1],
            strides: vec![stride, 1],
            dilations: vec![dilation, 1],
            pads_begin: vec![pad, 0],
            pads_end: vec![0, 0],
        };
        let conv = ConvTranspose { window, output_padding: vec![0, 0], groups: 1, activation: None };
        phases(&conv, 0, input, output)
    }

    /// Every pair of element and tap that meets is in one phase, and no other.
    #[test]
    fn each_element_meets_the_taps_that_the_definition_says() {
        for (kernel, stride, dilation, pad, extra) in [
            (4, 2, 1, 1, 0),
            (3, 2, 1, 1, 1),
            (3, 1, 1, 1, 0),
            (2, 2, 1, 0, 0),
            (2, 3, 1, 0, 2),
            (3, 2, 2, 0, 0),
            (3, 4, 2, 1, 1),
            (5, 3, 2, -1, 0),
        ] {
            let input = 6;
            let output = ((input - 1) * stride + (kernel - 1) * dilation + 1 + extra) as isize - 2 * pad;
            let output = output as usize;
            let mut met = Vec::new();
            for phase in of(kernel, stride, dilation, pad, input, output) {
                for q in 0..phase.axis.output {
                    for tap in phase.axis.taps(q) {
                        let from = phase.axis.position(q, tap) as usize;
                        let tap = phase.taps.get(tap).expect("no tap of an empty phase is inside");
                        met.push((phase.first + q * stride, *tap, from));
                    }
                }
            }
            let mut expected = Vec::new();
            for i in 0..input {
                for t in 0..kernel {
                    let o = (i * stride + t * dilation) as isize - pad;
                    if (0..output as isize).contains(&o) {
                        expected.push((o as usize, t, i));
                    }
                }
            }
            met.sort_unstable();
            expected.sort_unstable();
            assert_eq!(met, expected, "kernel {kernel} stride {stride} dilation {dilation} pad {pad}");
        }
    }
}
