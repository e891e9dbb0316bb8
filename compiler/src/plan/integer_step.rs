//! From a convolution of integers to a step: of bytes that are multiplied in quads, or with channels in lanes where it does not sum over
//! them.
//!
//! ```text
//!   Σ over taps inside (x − zero) · w   =   Σ over all taps x · w  −  zero · Σ w        where the padding holds the zero point
//! ```
//!
//! So the kernels know nothing of the zero point of what they read: sums start at the bias less what it comes to. Where it is not 0, a
//! picture with padding is copied with its border, once; where it is, taps outside are left out as those of floats are.
//!
//! A caller's picture lies in a few planes. There a quad is four neighbours of a row, and the taps of a row of the window are its channels:
//!
//! ```text
//!   3 planes, 3×3      channels side by side   9 taps of a quad that lacks one         rows   3 · 3 rows of a quad that lacks one
//! ```
//!
//! A quad is four bytes side by side ([`quads`](super::quads)). Where channels lie so that too few of these count, the image is copied.

use std::collections::BTreeMap;

use nnc_ir::op::{IntegerConv, Op, Pad, PadMode};
use nnc_ir::{DType, Tensor, TensorError, TensorType, Value};

use super::PlanError;
use super::border::border;
use super::dense_step::Placed;
use super::fits::KernelLayer;
use super::image::{Image, Slot};
use super::lanes::LanesOp;
use super::own::{Own, Parameter};
use super::packing::{QUAD, WORD};
use super::pitch::Extent;
use super::planner::{Place, Planner};
use super::quads::Quads;
use super::sweep::Axis;
use crate::code::float::Float;
use crate::code::sums;
use crate::code::tile::programs::dense::Products;
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::programs::rescale::Rescale;
use crate::code::tile::programs::window::KernelPrologue;
use crate::code::view::View;

/// Of so many quads, one may be lost to runs that do not fill theirs before channels are copied to other places than they had.
const MOST_LOST: usize = 4;

/// Sums in a vector.
const SUMS: usize = 16;

/// Products of vectors that take as long as to copy a run of channels of a pixel.
const COPIED_RUN: usize = 4;

/// Products of a sum from which matrix registers take less time than vectors, with a copy of the picture.
const DEEP: usize = 128;

impl Planner<'_> {
    /// Plans a convolution of integers.
    pub(super) fn integers(
        &mut self,
        layer: &KernelLayer,
        in_lanes: bool,
        rescale: Option<Rescale>,
    ) -> Result<(), PlanError> {
        let (id, output) = (layer.node, Value::from(layer.node));
        let Op::IntegerConv(conv) = &self.graph.node(id).op else {
            return Err(PlanError::Internal("a layer of integers is none".into()));
        };
        let mut own = self.integer_own(layer, conv, in_lanes)?;
        let mut layer = *layer;
        let mut image = self.image_or_copy(id, layer.x)?;
        let in_planes = !in_lanes && are_planes(&layer, &image);
        if in_planes {
            image = self.planes(&mut layer, &mut own, &image, conv)?;
        } else if !layer.is_inside() && (conv.x_zero != 0 || self.wants_border(&layer, &image, in_lanes)) {
            image = self.bordered(&mut layer, &image, Float::U8, conv.x_zero)?;
        }
        let sums = in_lanes && rescale.is_none();
        let epilogue =
            KernelEpilogue { bias: own.bias.is_some(), rescale, sums, ..KernelEpilogue::default() };
        let prologue = KernelPrologue::default();
        if in_lanes {
            if sums && image.affine().is_none_or(|(_, _, step)| step != 1) {
                image = self.relayout(id, &image, "its sums lie in the order of channels")?;
            }
            let place = self.lanes_output(&layer, image)?;
            let work = (LanesOp::Depthwise, prologue, epilogue);
            self.lanes_parts(&layer, work, Some(&own), &place, None, true)?;
            if sums {
                return self.place_sums(output, &place.output);
            }
            self.place(output, Place::Image(place.output));
            return Ok(());
        }
        let depth = image.channels() / layer.groups;
        if in_planes {
            // They lie as they are read.
        } else if own.products == Products::Words {
            image = self.as_words(&layer, &image)?;
        } else if !self.reads_quads(&layer, &image) {
            image = self.in_quads(&layer, &image, depth)?;
        }
        if rescale.is_none() {
            return self.sums(&layer, &own, epilogue, &image);
        }
        let (out_image, output_buffer) = self.dense_output(id, output, &image, None);
        let placed = Placed { input: &image, output: &out_image, output_buffer, residual: None };
        self.direct(&layer, &own, prologue, epilogue, &placed, true)?;
        self.place(output, Place::Image(out_image));
        Ok(())
    }

    /// Whether a layer is worth a copy of the picture with its padding, which matrix registers need.
    fn wants_border(&self, layer: &KernelLayer, image: &Image, in_lanes: bool) -> bool {
        let depth = image.channels() / layer.groups * layer.axes.0.kernel * layer.axes.1.kernel;
        self.target.has_matrices() && !in_lanes && depth >= DEEP
    }

    /// A copy of an image whose channels fill quads: run by run as they lie, which takes as many copies as there are runs, or in their order.
    fn in_quads(&mut self, layer: &KernelLayer, image: &Image, depth: usize) -> Result<Image, PlanError> {
        let name = format!("{}.gather", self.graph.node(layer.node).name);
        let why = "its channels are multiplied in fours";
        let runs = image.runs();
        let padded: usize = runs.iter().map(|run| run.len.next_multiple_of(QUAD)).sum();
        let extent = image.extent;
        if layer.groups > 1 || padded > image.channels() + image.channels().div_ceil(MOST_LOST) + QUAD {
            let slots = image.channels() - depth + depth.next_multiple_of(QUAD);
            let buffer = self.image_buffer(&name, extent, slots, Float::U8);
            let copy = Image::contiguous(extent, image.channels(), buffer, 0);
            self.copy_channels(layer.node, &name, image, &copy, why)?;
            return Ok(copy);
        }
        let buffer = self.image_buffer(&name, extent, padded, Float::U8);
        let mut places = BTreeMap::new();
        let mut next = 0;
        for run in runs {
            let from: Vec<Slot> = (0..run.len).map(|i| Slot { buffer: run.buffer, at: run.at + i }).collect();
            let to: Vec<Slot> = (0..run.len).map(|i| Slot { buffer, at: next + i }).collect();
            places.extend(from.iter().copied().zip(to.iter().copied()));
            let [from, to] = [from, to].map(|slots| Image { extent, slots });
            self.copy_channels(layer.node, &name, &from, &to, why)?;
            next += run.len.next_multiple_of(QUAD);
        }
        let slots = image.slots.iter().filter_map(|slot| places.get(slot).copied()).collect();
        Ok(Image { extent, slots })
    }

    /// The picture in planes with its padding around them, and the layer that reads several pixels of a row as one of more channels.
    fn planes(
        &mut self,
        layer: &mut KernelLayer,
        own: &mut Own,
        image: &Image,
        conv: &IntegerConv,
    ) -> Result<Image, PlanError> {
        let id = layer.node;
        let refused = || PlanError::Internal("planes have no layout".into());
        let word = if own.products == Products::Words { WORD } else { 1 };
        let together = QUAD / word;
        let (y, x) = layer.axes;
        let kernel = x.kernel.div_ceil(together);
        let ([top, bottom], [left, _]) = (border(y).into(), <[usize; 2]>::from(border(x)));
        let Extent { n, h, w } = image.extent;
        let first = (-x.pad).max(0) as usize;
        let width = (first + (x.output - 1) * x.stride + together * kernel).max(left + w);
        let (height, channels) = (top + h + bottom, image.channels());
        let name = format!("{}.border", self.graph.node(id).name);
        let pad = Pad {
            mode: PadMode::Constant(conv.x_zero.into()),
            begin: vec![0, 0, top as isize, left as isize],
            end: vec![0, 0, bottom as isize, (width - left - w) as isize],
        };
        let from = self.image_view(image).ok_or_else(refused)?;
        let mut to = self.temporary(&name, &TensorType::new(DType::U8, [n, channels, height, width]));
        let why = "rows of a picture, with the zero point around it";
        self.generic_steps(id, &name, &pad.into(), &[Some(from)], std::slice::from_ref(&to), Some(why))?;
        if own.products == Products::Words {
            let name = format!("{}.words", self.graph.node(id).name);
            let words = self.temporary(&name, &TensorType::new(DType::U16, to.shape.clone()));
            self.copy(id, &name, to, words.clone(), "the target multiplies words")?;
            to = View { dtype: DType::U8, ..words };
        }
        if let Parameter::Known(weights) = &mut own.weights {
            *weights = in_rows(weights, together, kernel)?;
        }
        layer.axes.0 = Axis { input: height, pad: y.pad - top as isize, ..y };
        layer.axes.1 = Axis { input: width, kernel, dilation: together, pad: x.pad - left as isize, ..x };
        self.window_as_image(&to).ok_or_else(refused)
    }

    /// A copy of an image whose bytes are words, in two slots each: for targets that multiply no bytes.
    fn as_words(&mut self, layer: &KernelLayer, image: &Image) -> Result<Image, PlanError> {
        let (id, channels) = (layer.node, image.channels());
        let name = format!("{}.words", self.graph.node(id).name);
        let from = match self.image_view(image) {
            Some(view) => view,
            None => {
                let gathered = self.relayout(id, image, "its operator reads channels at equal distances")?;
                let refused = || PlanError::Internal("a gathered image is not regular".into());
                self.image_view(&gathered).ok_or_else(refused)?
            }
        };
        let depth = channels / layer.groups;
        let all = channels - depth + depth.next_multiple_of(QUAD / WORD);
        let buffer = self.image_buffer(&name, image.extent, WORD * all, Float::U8);
        let slots = (0..channels).map(|c| Slot { buffer, at: WORD * c }).collect();
        let words = Image { extent: image.extent, slots };
        let to = self.image_view(&words);
        let to = to.ok_or_else(|| PlanError::Internal(format!("\"{name}\" has no layout")))?;
        let to = View { dtype: DType::U16, ..to };
        self.copy(id, &name, from, to, "the target multiplies words")?;
        Ok(words)
    }

    /// Plans a layer whose result are the sums: they lie as an image of elements that are as wide.
    fn sums(
        &mut self,
        layer: &KernelLayer,
        own: &Own,
        epilogue: KernelEpilogue,
        input: &Image,
    ) -> Result<(), PlanError> {
        let output = Value::from(layer.node);
        let (extent, channels) = (self.extent(output), self.graph.ty(output).shape[1]);
        let name = self.graph.node(layer.node).name.clone();
        let buffer = self.image_buffer(&name, extent, channels, Float::F32);
        let image = Image::contiguous(extent, channels, buffer, 0);
        let placed = Placed { input, output: &image, output_buffer: buffer, residual: None };
        self.direct(layer, own, KernelPrologue::default(), epilogue, &placed, true)?;
        self.place_sums(output, &image)
    }

    /// Places sums that lie as an image of elements that are as wide.
    fn place_sums(&mut self, output: Value, image: &Image) -> Result<(), PlanError> {
        let view = self.image_view(image);
        let view = view.ok_or_else(|| PlanError::Internal("sums have no layout".into()))?;
        self.place(output, Place::Window(View { dtype: DType::I32, ..view }));
        Ok(())
    }

    /// Whether a layer reads its channels by quads where they are: inside of pixels, from buffers that displacements lead to, if there are
    /// several, and for less than it takes to bring them together.
    fn reads_quads(&self, layer: &KernelLayer, image: &Image) -> bool {
        let buffers = image.buffers();
        let Some(pitch) = buffers.first().and_then(|&b| self.pitch(b)) else { return false };
        let in_arena = buffers.iter().all(|&b| self.pitch(b) == Some(pitch) && self.in_arena(b));
        if pitch.pixel > pitch.row.min(pitch.image) || !(buffers.len() == 1 || in_arena) {
            return false;
        }
        let per_group = image.channels() / layer.groups;
        let groups: Option<Vec<Quads>> =
            image.slots.chunks(per_group.max(1)).map(|slots| Quads::of(slots, pitch.pixel)).collect();
        let Some(groups) = groups else { return false };
        let Some(count) = groups.first().map(Quads::count) else { return false };
        if !groups.iter().all(|quads| quads.count() == count && (quads.runs.len() == 1 || in_arena)) {
            return false;
        }
        let (y, x) = layer.axes;
        let lost = count - per_group.div_ceil(QUAD);
        let outputs = self.graph.ty(Value::from(layer.node)).shape[1];
        let vectors = layer.groups * (outputs / layer.groups).div_ceil(SUMS);
        let products = lost * vectors * y.output * x.output * y.kernel * x.kernel;
        products <= COPIED_RUN * image.runs().len() * image.extent.h * image.extent.w
    }

    /// What the layer has of its own: weights, where sums start, and what they are rescaled by.
    fn integer_own(&self, layer: &KernelLayer, conv: &IntegerConv, in_lanes: bool) -> Result<Own, PlanError> {
        let parameter = |index: usize| {
            let value = self.graph.operand(layer.node, index);
            value.map(|value| self.parameter(Some(value))).transpose()
        };
        let weights = self.parameter(layer.weights)?;
        let starts = sums::starts(&weights, parameter(IntegerConv::BIAS)?.as_ref(), conv.x_zero)?;
        let channels = weights.shape()[0];
        let bias = match (starts, in_lanes) {
            (None, _) => None,
            (Some(starts), false) => Some(Tensor::new([channels], &starts)?),
            (Some(starts), true) => {
                let starts: Vec<f32> = starts.iter().map(|&start| start as f32).collect();
                Some(Tensor::new([channels], &starts)?)
            }
        };
        let products = match (in_lanes, self.target.has_dot()) {
            (true, _) => Products::Floats,
            (false, true) => Products::Bytes,
            (false, false) => Products::Words,
        };
        let weights = match in_lanes {
            true => {
                let elems: Vec<f32> = weights.elems::<i8>()?.iter().map(|&w| f32::from(w)).collect();
                Tensor::new(weights.shape().to_vec(), &elems)?
            }
            false => weights,
        };
        Ok(Own {
            weights: Parameter::Known(weights),
            products,
            bias: bias.map(Parameter::Known),
            rescale: parameter(IntegerConv::SCALE)?.zip(Some(parameter(IntegerConv::SHIFT)?)),
        })
    }
}

/// Whether a layer reads a picture that a caller gave in planes: few of them, so that neighbours of a row fill quads better than channels do.
fn are_planes(layer: &KernelLayer, image: &Image) -> bool {
    let apart = image.affine().is_some_and(|(_, _, step)| step != 1 || image.channels() == 1);
    let x = &layer.axes.1;
    apart && layer.groups == 1 && image.channels() <= QUAD && x.kernel > 1 && x.dilation == 1
}

/// Weights `[M, C, ky, kx]` as `[M, C · together, ky, kernel]`: neighbouring taps of a row are channels.
fn in_rows(weights: &Tensor, together: usize, kernel: usize) -> Result<Tensor, TensorError> {
    let &[m, c, ky, kx] = &weights.shape()[..] else { return Ok(weights.clone()) };
    let elems = weights.elems::<i8>()?;
    let mut rows = vec![0i8; m * c * together * ky * kernel];
    for (at, &weight) in elems.iter().enumerate() {
        let (of, tap) = (at / (ky * kx), at % (ky * kx));
        let (y, x) = (tap / kx, tap % kx);
        let channel = of * together + x % together;
        rows[(channel * ky + y) * kernel + x / together] = weight;
    }
    Tensor::new([m, c * together, ky, kernel], &rows)
}
