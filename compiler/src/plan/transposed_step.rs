//! From a transposed convolution in the graph to steps: each [band](crate::code::phases) of phases is a convolution of stride 1, whose
//! pixels are written a stride apart. The phases of a band are channels of it:
//!
//! ```text
//!   2×2, stride 2: one band, with 4 channels for each of the result        y[2i, 2j] y[2i, 2j + 1]     channels  0 1
//!                                                                          y[2i + 1, 2j] …                       2 3
//! ```
//!
//! Where each channel is a group of its own, kernels have channels in lanes, and each phase is a step.

use nnc_ir::op::{ConvTranspose, Op};
use nnc_ir::{Graph, Tensor, Value};

use super::PlanError;
use super::buffer::BufferId;
use super::dense_step::{FEW_PIXELS, Placed, far_channels};
use super::fits::KernelLayer;
use super::image::{Image, Slot};
use super::lanes::LanesOp;
use super::own::{ComputedElements, Own, Parameter};
use super::panels::f32_elems;
use super::pitch::{Extent, Pitch};
use super::planner::{Place, Planner};
use super::sweep::Axis;
use crate::code::phases::{PhaseBand, bands};
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::window::KernelPrologue;

/// The pixels of some phases as channels of an image of its own, over the same bytes.
struct Part {
    image: Image,
    buffer: BufferId,
    own: Own,
}

impl Planner<'_> {
    /// Plans a transposed convolution that sums over channels.
    pub(super) fn transposed(
        &mut self,
        layer: &KernelLayer,
        epilogue: KernelEpilogue,
    ) -> Result<(), PlanError> {
        let (id, output) = (layer.node, Value::from(layer.node));
        let conv = transposed_conv(self.graph, layer)?;
        let own = self.own(layer)?;
        let mut image = self.image_or_copy(id, layer.x)?;
        if let Some(far) = far_channels(&image) {
            image = self.relayout(id, &image, far)?;
        } else if own.is_computed() && image.affine().is_none() {
            image =
                self.relayout(id, &image, "weights that are computed are packed in the order of channels")?;
        }
        if self.float_of(&image).is_half() && self.extent(output).pixels() > FEW_PIXELS {
            image = self.widened(id, &image, "its half floats are widened once")?;
        }
        let (out_image, buffer) = self.dense_output(id, output, &image, None);
        let (input, result) = (image.extent, out_image.extent);
        let rows = bands(&conv.window, 0, result.h);
        let columns = bands(&conv.window, 1, result.w);
        let mut is_first = true;
        for y in &rows {
            for x in &columns {
                let part = self.part(&out_image, buffer, conv, &own, (y, x))?;
                let layer = KernelLayer { axes: (axis_of(y, input.h), axis_of(x, input.w)), ..*layer };
                let placed =
                    Placed { input: &image, output: &part.image, output_buffer: part.buffer, residual: None };
                self.direct(&layer, &part.own, KernelPrologue::default(), epilogue, &placed, is_first)?;
                is_first = false;
            }
        }
        self.place(output, Place::Image(out_image));
        Ok(())
    }

    /// Plans a transposed convolution of which each channel is a group.
    pub(super) fn transposed_lanes(
        &mut self,
        layer: &KernelLayer,
        epilogue: KernelEpilogue,
    ) -> Result<(), PlanError> {
        let output = Value::from(layer.node);
        let conv = transposed_conv(self.graph, layer)?;
        let own = self.own(layer)?;
        let all = self.lanes_output(layer)?;
        let (input, result) = (all.input.extent, all.output.extent);
        let mut is_first = true;
        for y in bands(&conv.window, 0, result.h).iter().flat_map(PhaseBand::apart) {
            for x in bands(&conv.window, 1, result.w).iter().flat_map(PhaseBand::apart) {
                let part = self.part(&all.output, all.buffer, conv, &own, (&y, &x))?;
                let layer = KernelLayer { axes: (axis_of(&y, input.h), axis_of(&x, input.w)), ..*layer };
                let placed = all.with_output(part.image, part.buffer);
                let prologue = KernelPrologue::default();
                let step = (LanesOp::Depthwise, prologue, epilogue);
                self.lanes_steps(&layer, step, Some(&part.own), &placed, is_first)?;
                is_first = false;
            }
        }
        self.place(output, Place::Image(all.output));
        Ok(())
    }

    /// What a band of rows and a band of columns make.
    fn part(
        &mut self,
        image: &Image,
        buffer: BufferId,
        conv: &ConvTranspose,
        own: &Own,
        (y, x): (&PhaseBand, &PhaseBand),
    ) -> Result<Part, PlanError> {
        let none = || PlanError::Internal("the result of a transposed convolution is no image".into());
        let pitch = self.pitch(buffer).ok_or_else(none)?;
        let (down, right) = (conv.window.strides[0], conv.window.strides[1]);
        let extent = Extent { n: image.extent.n, h: y.positions, w: x.positions };
        let apart = Pitch { pixel: pitch.pixel * right, row: pitch.row * down, ..pitch };
        let part = self.seen_as(buffer, extent, apart);
        let each = image.channels() / conv.groups;
        let slots = channels(conv.groups, y, x, each).map(|channel| {
            let at = (y.first + channel.row) * pitch.row + (x.first + channel.column) * pitch.pixel;
            Slot { buffer: part, at: image.slots[channel.group * each + channel.of_group].at + at }
        });
        let image = Image { extent, slots: slots.collect() };
        let weights = match &own.weights {
            Parameter::Known(tensor) => Parameter::Known(known(tensor, conv.groups, y, x)?),
            Parameter::Computed(elements) => self.computed(elements, conv.groups, each, (y, x))?,
        };
        let bias = own.bias.as_ref().map(|bias| {
            let which = channels(conv.groups, y, x, each).map(|c| c.group * each + c.of_group);
            Ok::<_, PlanError>(match bias {
                Parameter::Known(tensor) => {
                    let elems = f32_elems(tensor)?;
                    let bias: Vec<f32> = which.map(|channel| elems[channel]).collect();
                    Parameter::Known(Tensor::new([bias.len()], &bias)?)
                }
                Parameter::Computed(elements) => Parameter::Computed(ComputedElements {
                    channels: which.map(|channel| elements.channels[channel]).collect(),
                    ..elements.clone()
                }),
            })
        });
        Ok(Part { image, buffer: part, own: Own { weights, bias: bias.transpose()? } })
    }

    /// The weights of bands that the run computes, of elements as `[C, M / groups, kernel…]`.
    fn computed(
        &mut self,
        elements: &ComputedElements,
        groups: usize,
        each: usize,
        (y, x): (&PhaseBand, &PhaseBand),
    ) -> Result<Parameter, PlanError> {
        let inner = elements.channels.len() / groups;
        let ([rows, columns], results) = (elements.taps, channels(groups, y, x, each));
        // What of a phase comes first, and how far on the next one is: all phases have as many.
        let walk = |band: &PhaseBand, taps: (usize, i64)| {
            let all = &band.taps[0];
            let next = all.get(1).map_or(0, |&tap| tap as i64 - all[0] as i64);
            (all.len(), next * taps.1)
        };
        if y.taps[0].is_empty() || x.taps[0].is_empty() {
            let zero = self.constant("zero", &Tensor::new([1], &[0.0f32])?);
            let zero = ComputedElements {
                buffer: BufferId(zero.arg as u32),
                dtype: zero.dtype,
                channels: vec![0; results.count()],
                summands: vec![0; inner],
                taps: [y, x].map(|band| (band.taps[0].len().max(1), 0)),
            };
            return Ok(Parameter::Computed(zero));
        }
        let first = |c: Channel| {
            let tap = y.taps[c.row][0] as i64 * rows.1 + x.taps[c.column][0] as i64 * columns.1;
            elements.channels[c.group * inner] + elements.summands[c.of_group] + tap
        };
        Ok(Parameter::Computed(ComputedElements {
            buffer: elements.buffer,
            dtype: elements.dtype,
            channels: results.map(first).collect(),
            summands: (0..inner).map(|i| elements.channels[i] - elements.channels[0]).collect(),
            taps: [walk(y, rows), walk(x, columns)],
        }))
    }
}

fn transposed_conv<'g>(graph: &'g Graph, layer: &KernelLayer) -> Result<&'g ConvTranspose, PlanError> {
    match &graph.node(layer.node).op {
        Op::ConvTranspose(conv) => Ok(conv),
        _ => Err(PlanError::Internal("a layer is no transposed convolution".into())),
    }
}

/// A channel of the convolution that bands are.
#[derive(Clone, Copy)]
struct Channel {
    group: usize,
    /// The phase, from the first of the band.
    row: usize,
    column: usize,
    /// The channel of the result in its group.
    of_group: usize,
}

/// All channels: groups, phases, channels of the result.
fn channels<'a>(
    groups: usize,
    y: &'a PhaseBand,
    x: &'a PhaseBand,
    each: usize,
) -> impl Iterator<Item = Channel> + 'a {
    let (rows, columns) = (y.taps.len(), x.taps.len());
    (0..groups * rows * columns * each).map(move |i| Channel {
        group: i / (rows * columns * each),
        row: i / (columns * each) % rows,
        column: i / each % columns,
        of_group: i % each,
    })
}

/// The axis of the convolution that a band is.
fn axis_of(band: &PhaseBand, input: usize) -> Axis {
    let taps = band.taps.first().map_or(0, Vec::len);
    let output = band.positions;
    match taps {
        // A tap that is always outside: what nothing meets is the bias.
        0 => Axis { input, output, kernel: 1, stride: 1, dilation: 1, pad: output as isize },
        kernel => Axis { input, output, kernel, stride: 1, dilation: band.next, pad: -band.start },
    }
}

/// The weights of bands as those of a convolution, `[channel, C / groups, taps…]`, of weights `[C, M / groups, kernel…]`.
fn known(weights: &Tensor, groups: usize, y: &PhaseBand, x: &PhaseBand) -> Result<Tensor, PlanError> {
    let elems = f32_elems(weights)?;
    let [inputs, each, height, width] = weights.shape()[..] else {
        return Err(PlanError::Internal("the weights of a transposed convolution have other axes".into()));
    };
    let inner = inputs / groups;
    let taps = |band: &PhaseBand| band.taps[0].len().max(1);
    let (rows, columns) = (taps(y), taps(x));
    let count = groups * y.taps.len() * x.taps.len() * each;
    let mut packed = Vec::with_capacity(count * inner * rows * columns);
    for channel in channels(groups, y, x, each) {
        let (down, right) = (&y.taps[channel.row], &x.taps[channel.column]);
        for c in channel.group * inner..(channel.group + 1) * inner {
            let kernel = &elems[(c * each + channel.of_group) * height * width..][..height * width];
            for row in 0..rows {
                for column in 0..columns {
                    let tap = down.get(row).zip(right.get(column));
                    packed.push(tap.map_or(0.0, |(row, column)| kernel[row * width + column]));
                }
            }
        }
    }
    Ok(Tensor::new([count, inner, rows, columns], &packed)?)
}

#[cfg(test)]
mod tests {
    use nnc_ir::op::Window;

    use super::*;

    /// The bands of one axis, and an axis of one element.
    fn of(kernel: usize, stride: usize, dilation: usize, pad: isize, output: usize) -> Vec<PhaseBand> {
        let window = Window {
            kernel: vec![kernel, 1],
            strides: vec![stride, 1],
            dilations: vec![dilation, 1],
            pads_begin: vec![pad, 0],
            pads_end: vec![0, 0],
        };
        bands(&window, 0, output)
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
            (8, 4, 1, 2, 0),
            (7, 6, 4, 3, 2),
        ] {
            let input = 6;
            let output = ((input - 1) * stride + (kernel - 1) * dilation + 1 + extra) as isize - 2 * pad;
            let output = output as usize;
            let mut met = Vec::new();
            for band in of(kernel, stride, dilation, pad, output).iter().flat_map(PhaseBand::apart) {
                let axis = axis_of(&band, input);
                for q in 0..axis.output {
                    for tap in axis.taps(q) {
                        let from = axis.position(q, tap) as usize;
                        let tap = band.taps[0].get(tap).expect("no tap of an empty phase is inside");
                        met.push((band.first + q * stride, *tap, from));
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

    #[test]
    fn phases_that_read_the_same_elements_are_one_band() {
        let counts = |bands: Vec<PhaseBand>| bands.iter().map(|band| band.taps.len()).collect::<Vec<_>>();
        assert_eq!(counts(of(2, 2, 1, 0, 12)), [2]);
        assert_eq!(counts(of(4, 2, 1, 0, 14)), [2]);
        assert_eq!(counts(of(4, 2, 1, 1, 12)), [1, 1]);
        assert_eq!(counts(of(16, 8, 1, 4, 48)), [4, 4]);
        assert_eq!(counts(of(128, 128, 1, 0, 768)), [128]);
        assert_eq!(counts(of(1, 3, 1, 0, 16)), [1, 2], "and those that no tap meets");
    }
}
