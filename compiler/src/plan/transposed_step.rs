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
use super::dense_step::ONE_PANEL;
use super::fits::KernelLayer;
use super::image::Slot;
use super::lanes::LanesOp;
use super::own::{ComputedElements, Own, Parameter};
use super::panels::f32_elems;
use super::pitch::{Extent, Pitch};
use super::planner::{Place, Planner};
use super::sweep::Axis;
use super::volume_step::Volume;
use crate::code::phases::{PhaseBand, bands};
use crate::code::tile::programs::dense::Products;
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::window::KernelPrologue;

/// The pixels of some phases as channels of a volume of its own, over the same bytes.
struct Part {
    volume: Volume,
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
        if self.transposed_over_planes(layer, epilogue)? {
            return Ok(());
        }
        let conv = transposed_conv(self.graph, layer)?;
        let own = self.own(layer)?;
        let shape = &self.graph.ty(output).shape;
        let window = &conv.window;
        // Windows that do not overlap are one product.
        let apart = window.kernel == window.strides
            && [&window.pads_begin, &window.pads_end].iter().all(|pads| pads.iter().all(|&pad| pad == 0));
        let results = window.strides.iter().fold(shape[1], |all, &stride| all.saturating_mul(stride));
        let is_read_once = apart && results <= ONE_PANEL;
        let image = self.volume_input(id, layer.x, own.is_computed(), output, is_read_once)?;
        let (out_image, _) = self.dense_output(id, output, &image, None);
        let (input, result) = (self.volume(layer.x, &image)?, self.volume(output, &out_image)?);
        let mut is_first = true;
        for window in windows(conv, &result) {
            let part = self.part(&result, conv, &own, &window)?;
            let Extent { h, w, .. } = input.picture.extent;
            let [slices, y, x] = [0, 1, 2].map(|axis| axis_of(&window[axis], [input.slices, h, w][axis]));
            let layer = KernelLayer { axes: (y, x), slices, ..*layer };
            self.volume_steps(&layer, &part.own, epilogue, (&input, &part.volume, None), is_first)?;
            is_first = false;
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
        let image = self.image_or_copy(layer.node, layer.x)?;
        let all = self.lanes_output(layer, image)?;
        let (input, result) = (all.input.extent, self.volume(output, &all.output)?);
        let apart = |window: &PartWindow| {
            let [z, y, x] = window;
            let all = |x: PhaseBand| y.apart().map(|y| [z.clone(), y, x.clone()]).collect::<Vec<_>>();
            x.apart().flat_map(all).collect::<Vec<_>>()
        };
        let mut is_first = true;
        for window in windows(conv, &result).iter().flat_map(apart) {
            let part = self.part(&result, conv, &own, &window)?;
            let axes = (axis_of(&window[1], input.h), axis_of(&window[2], input.w));
            let layer = KernelLayer { axes, ..*layer };
            let picture = part.volume.picture;
            let buffer = picture.slots.first().map_or(all.buffer, |slot| slot.buffer);
            let placed = all.with_output(picture, buffer);
            let work = (LanesOp::Depthwise, KernelPrologue::default(), epilogue);
            self.lanes_steps(&layer, work, Some(&part.own), &placed, is_first)?;
            is_first = false;
        }
        self.place(output, Place::Image(all.output));
        Ok(())
    }

    /// What bands of slices, rows and columns make.
    fn part(
        &mut self,
        result: &Volume,
        conv: &ConvTranspose,
        own: &Own,
        window: &PartWindow,
    ) -> Result<Part, PlanError> {
        let Volume { picture, pitch, apart, .. } = result;
        let [z, y, x] = window;
        let strides: Vec<usize> =
            [&vec![1; 3 - conv.window.strides.len()], &conv.window.strides[..]].concat();
        let extent = Extent { n: picture.extent.n, h: y.positions, w: x.positions };
        let pitch = Pitch { pixel: pitch.pixel * strides[2], row: pitch.row * strides[1], ..*pitch };
        let each = picture.channels() / conv.groups;
        let slots = channels(conv.groups, window, each).map(|channel| {
            let [slice, row, column] = [0, 1, 2].map(|axis| window[axis].first + channel.phase[axis]);
            let at = slice * apart + row * result.pitch.row + column * result.pitch.pixel;
            let slot = picture.slots[channel.group * each + channel.of_group];
            Slot { at: slot.at + at, ..slot }
        });
        let slots: Vec<Slot> = slots.collect();
        let picture = self.seen(&slots, extent, pitch);
        let volume = Volume { picture, pitch, slices: z.positions, apart: apart * strides[0] };
        let weights = match &own.weights {
            Parameter::Known(tensor) => Parameter::Known(known(tensor, conv.groups, window)?),
            Parameter::Computed(elements) => self.computed(elements, conv.groups, each, window)?,
        };
        let bias = own.bias.as_ref().map(|bias| {
            let which = channels(conv.groups, window, each).map(|c| c.group * each + c.of_group);
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
        Ok(Part {
            volume,
            own: Own { weights, bias: bias.transpose()?, products: Products::Floats, rescale: None },
        })
    }

    /// The weights of bands that the run computes, of elements as `[C, M / groups, kernel…]`.
    fn computed(
        &mut self,
        elements: &ComputedElements,
        groups: usize,
        each: usize,
        window: &PartWindow,
    ) -> Result<Parameter, PlanError> {
        let inner = elements.channels.len() / groups;
        let results = channels(groups, window, each);
        let axes = [elements.slices, elements.taps[0], elements.taps[1]];
        let count = |band: &PhaseBand| band.taps[0].len();
        if window.iter().any(|band| count(band) == 0) {
            let zero = self.constant("zero", &Tensor::new([1], &[0.0f32])?);
            let [slices, rows, columns] = [0, 1, 2].map(|axis| (count(&window[axis]).max(1), 0));
            return Ok(Parameter::Computed(ComputedElements {
                buffer: BufferId(zero.arg as u32),
                dtype: zero.dtype,
                channels: vec![0; results.count()],
                summands: vec![0; inner],
                taps: [rows, columns],
                slices,
            }));
        }
        // What of a phase comes first, and how far on the next one is: all phases of a band have as many.
        let walk = |axis: usize| {
            let all = &window[axis].taps[0];
            let next = all.get(1).map_or(0, |&tap| tap as i64 - all[0] as i64);
            (all.len(), next * axes[axis].1)
        };
        let first = |c: Channel| {
            let taps = (0..3).map(|axis| window[axis].taps[c.phase[axis]][0] as i64 * axes[axis].1);
            elements.channels[c.group * inner] + elements.summands[c.of_group] + taps.sum::<i64>()
        };
        Ok(Parameter::Computed(ComputedElements {
            buffer: elements.buffer,
            dtype: elements.dtype,
            channels: results.map(first).collect(),
            summands: (0..inner).map(|i| elements.channels[i] - elements.channels[0]).collect(),
            taps: [walk(1), walk(2)],
            slices: walk(0),
        }))
    }
}

/// Bands of slices, rows and columns; of a picture, one slice.
type PartWindow = [PhaseBand; 3];

/// All windows of bands.
fn windows(conv: &ConvTranspose, result: &Volume) -> Vec<PartWindow> {
    let front = conv.window.kernel.len() - 2;
    let Extent { h, w, .. } = result.picture.extent;
    let one = || vec![PhaseBand { first: 0, taps: vec![vec![0]], start: 0, next: 1, positions: 1 }];
    let slices = if front == 0 { one() } else { bands(&conv.window, 0, result.slices) };
    let (rows, columns) = (bands(&conv.window, front, h), bands(&conv.window, front + 1, w));
    let mut windows = Vec::new();
    for z in &slices {
        for y in &rows {
            windows.extend(columns.iter().map(|x| [z.clone(), y.clone(), x.clone()]));
        }
    }
    windows
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
    /// The phases, from the first of each band.
    phase: [usize; 3],
    /// The channel of the result in its group.
    of_group: usize,
}

/// All channels: groups, phases, channels of the result.
fn channels(groups: usize, window: &PartWindow, each: usize) -> impl Iterator<Item = Channel> + use<> {
    let [slices, rows, columns] = [0, 1, 2].map(|axis| window[axis].taps.len());
    (0..groups * slices * rows * columns * each).map(move |i| Channel {
        group: i / (slices * rows * columns * each),
        phase: [i / (rows * columns * each) % slices, i / (columns * each) % rows, i / each % columns],
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

/// The weights of bands as those of a convolution, `[channel, C / groups, taps…]`, of weights `[C, M / groups, kernel…]`. A picture's have no
/// axis of slices.
fn known(weights: &Tensor, groups: usize, window: &PartWindow) -> Result<Tensor, PlanError> {
    let elems = f32_elems(weights)?;
    let shape = weights.shape();
    let (&[inputs, each, ..], &[.., height, width]) = (&shape[..], &shape[..]) else {
        return Err(PlanError::Internal("the weights of a transposed convolution have other axes".into()));
    };
    let (inner, size) = (inputs / groups, shape[2..].iter().product::<usize>());
    let taps = window.each_ref().map(|band| band.taps[0].len().max(1));
    let all: usize = taps.iter().product();
    let mut packed = Vec::new();
    for channel in channels(groups, window, each) {
        let of = |axis: usize, tap: usize| window[axis].taps[channel.phase[axis]].get(tap).copied();
        for c in channel.group * inner..(channel.group + 1) * inner {
            let kernel = &elems[(c * each + channel.of_group) * size..][..size];
            packed.extend((0..all).map(|tap| {
                let [z, y, x] = [tap / (taps[1] * taps[2]), tap / taps[2] % taps[1], tap % taps[2]];
                let at = of(0, z).zip(of(1, y)).zip(of(2, x));
                at.map_or(0.0, |((z, y), x)| kernel[(z * height + y) * width + x])
            }));
        }
    }
    let count = packed.len() / (inner * all).max(1);
    let shape = [&[count, inner], &taps[5 - shape.rank()..]].concat();
    Ok(Tensor::new(shape, &packed)?)
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
