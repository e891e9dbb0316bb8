//! From a convolution whose image and result are planes of the caller to a product that reads and writes them as they lie.
//!
//! ```text
//!   y [M, pixels]  =  W [M, K] · x [K, pixels]      a row of W for each channel of the result, a plane for each summand
//!
//!   1×1                            the planes are the rows of x
//!   one channel, along one axis    x[k, i] = signal[stride · i + k]
//!   transposed, windows apart      rows are channels and taps: [M · ky · kx, pixels], then every pixel becomes a window
//! ```
//!
//! Channels innermost, as images have them, would take two changes of the layout, which cost more than packing x in panels: a copy of rows,
//! and none where there are few rows of W.

use nnc_ir::op::{Conv, ConvTranspose, Op, Window};
use nnc_ir::{DType, TensorType, Value};

use super::PlanError;
use super::fits::KernelLayer;
use super::panels::f32_elems;
use super::planner::Planner;
use super::product_step::{Multiplication, Operands, RowBias, shares_sets};
use crate::code::tile::programs::epilogue::{KernelEpilogue, KernelResidual};
use crate::code::view::View;

/// Pixels of a plane from which on vectors of them are as good as vectors of channels, and up to which a plan of panels of them is small.
const PIXELS: std::ops::RangeInclusive<usize> = 128..=1 << 16;

/// Pixels of a vector of the widest kind.
const VECTOR: usize = 16;

/// A pixel in this many may be one that only fills up a vector.
const SPARE_PIXELS: usize = 16;

/// An image as the second matrix of a product.
struct Planes {
    /// `[N, groups, K, pixels]`.
    x: View,
    groups: usize,
}

impl Planner<'_> {
    /// Plans a convolution as a product over planes, if both of its ends are such.
    pub(super) fn over_planes(
        &mut self,
        layer: &KernelLayer,
        epilogue: KernelEpilogue,
    ) -> Result<bool, PlanError> {
        let graph = self.graph;
        let (id, output) = (layer.node, Value::from(layer.node));
        let Op::Conv(conv) = &graph.node(id).op else { return Ok(false) };
        let ty = graph.ty(output).clone();
        if !self.ends_are_planes(layer, &ty) || !conv.prologue.is_none() {
            return Ok(false);
        }
        let x = self.view(layer.x).and_then(|x| Planes::under(conv, &x, &ty.shape));
        let Some(Planes { x, groups }) = x.filter(|planes| self.is_worth_it(&planes.x)) else {
            return Ok(false);
        };
        let [n, .., k, pixels] = x.shape[..] else { return Ok(false) };
        let rows = ty.shape[1] / groups;
        if shares_sets(&View::dense(0, DType::F32, [rows, k])) {
            return Ok(false);
        }
        let weights = layer.weights.and_then(|weights| self.view(weights));
        let a = weights
            .filter(|weights| weights.dtype == DType::F32)
            .and_then(|weights| weights.reshaped(&[1, groups, rows, k])?.broadcast(&[n, groups, rows, k]));
        let Some(a) = a.filter(|a| a.strides[3] == 4) else { return Ok(false) };
        let out = self.generic_output(id, output, &ty, false, &[]);
        let misfit = || PlanError::Internal("the planes of a convolution do not fit".into());
        let out = out.reshaped(&[n, groups, rows, pixels]).ok_or_else(misfit)?;
        let strides = vec![0, rows as i64, 1];
        let of_rows = self.plane_bias(layer, 1)?.map(|values| RowBias { values, strides });
        self.multiplied(Multiplication {
            node: id,
            operands: Operands { a, b: x, out, residual: None },
            constant: None,
            bias: None,
            epilogue: with_row_bias(epilogue, &of_rows),
            of_rows,
            counts: true,
        })?;
        Ok(true)
    }

    /// Plans a transposed convolution whose windows lie side by side, likewise.
    pub(super) fn transposed_over_planes(
        &mut self,
        layer: &KernelLayer,
        epilogue: KernelEpilogue,
    ) -> Result<bool, PlanError> {
        let graph = self.graph;
        let (id, output) = (layer.node, Value::from(layer.node));
        let Op::ConvTranspose(conv) = &graph.node(id).op else { return Ok(false) };
        let ty = graph.ty(output).clone();
        if !self.ends_are_planes(layer, &ty) || !lie_side_by_side(conv) {
            return Ok(false);
        }
        let x = self.view(layer.x).and_then(|x| Planes::of_points(&x));
        let Some(Planes { x, .. }) = x.filter(|planes| self.is_worth_it(&planes.x)) else {
            return Ok(false);
        };
        let [n, _, k, pixels] = x.shape[..] else { return Ok(false) };
        let image = &graph.ty(layer.x).shape[2..];
        let taps = conv.window.kernel.iter().product::<usize>();
        let (results, rows) = (ty.shape[1], ty.shape[1] * taps);
        let weights = layer.weights.and_then(|weights| self.view(weights));
        let a = weights.filter(|weights| weights.dtype == DType::F32).and_then(|weights| {
            weights.reshaped(&[1, 1, k, rows])?.permuted(&[0, 1, 3, 2])?.broadcast(&[n, 1, rows, k])
        });
        let Some(a) = a.filter(|a| a.strides[2] == 4) else { return Ok(false) };
        let name = format!("{}.windows", graph.node(id).name);
        let windows = self.temporary(&name, &TensorType::new(DType::F32, vec![n, 1, rows, pixels]));
        let strides = vec![0, 0, 1];
        let of_rows = self.plane_bias(layer, taps)?.map(|values| RowBias { values, strides });
        self.multiplied(Multiplication {
            node: id,
            operands: Operands { a, b: x, out: windows.clone(), residual: None },
            constant: None,
            bias: None,
            epilogue: with_row_bias(epilogue, &of_rows),
            of_rows,
            counts: true,
        })?;
        // [N, M, taps…, pixels…] as [N, M, pixel, tap, …].
        let (axes, kernel) = (image.len(), &conv.window.kernel);
        let order: Vec<usize> =
            [0, 1].into_iter().chain((0..axes).flat_map(|i| [2 + axes + i, 2 + i])).collect();
        let apart = [&[n, results][..], kernel, image].concat();
        let windows = windows.reshaped(&apart).and_then(|windows| windows.permuted(&order));
        let out = self.generic_output(id, output, &ty, false, &[]);
        let misfit = || PlanError::Internal("the windows of a transposed convolution do not fit".into());
        let windows = windows.ok_or_else(misfit)?;
        let out = out.reshaped(&windows.shape).ok_or_else(misfit)?;
        self.copy(id, &name, windows, out, "every pixel becomes a window")?;
        Ok(true)
    }

    /// Whether a layer reads planes that it is given, and leaves such to the caller, and nothing of it is in the way of a product.
    fn ends_are_planes(&mut self, layer: &KernelLayer, ty: &TensorType) -> bool {
        let output = Value::from(layer.node);
        let known = |value: Option<Value>| value.is_none_or(|value| self.graph.constant(value).is_some());
        let plain = layer.residual.is_none() && known(layer.bias) && self.graph.constant(layer.x).is_none();
        let leads_out = self.row_major_output(output).is_some() && !self.is_wide(output);
        let floats = [ty, self.graph.ty(layer.x)].iter().all(|ty| ty.dtype == DType::F32);
        plain && leads_out && floats && ty.shape.iter().all(|&extent| extent > 0)
    }

    /// Whether vectors of pixels are full, and the panels of a picture stay in the cache where each of some has its own.
    fn is_worth_it(&self, x: &View) -> bool {
        let [n, groups, k, pixels] = x.shape[..] else { return false };
        let spare = pixels.next_multiple_of(VECTOR) - pixels;
        let stays = 2 * x.dtype.bytes() as u64 * (k as u64) * (pixels as u64) <= self.target.l2;
        PIXELS.contains(&pixels) && spare * SPARE_PIXELS <= pixels && (n * groups == 1 || stays)
    }

    /// The bias of each row of the weights, of which a channel has so many.
    fn plane_bias(&self, layer: &KernelLayer, each: usize) -> Result<Option<Vec<f32>>, PlanError> {
        let Some(bias) = layer.bias else { return Ok(None) };
        let bias = f32_elems(&self.parameter(Some(bias))?)?.into_owned();
        Ok(Some(bias.into_iter().flat_map(|value| std::iter::repeat_n(value, each)).collect()))
    }
}

fn with_row_bias(epilogue: KernelEpilogue, bias: &Option<RowBias>) -> KernelEpilogue {
    let residual = match bias {
        Some(_) => KernelResidual::BeforeActivation,
        None => KernelResidual::None,
    };
    KernelEpilogue { bias: false, residual, ..epilogue }
}

/// Whether a transposed convolution makes of each pixel a window of its own.
fn lie_side_by_side(conv: &ConvTranspose) -> bool {
    let Window { kernel, strides, dilations, pads_begin, pads_end } = &conv.window;
    let whole = [pads_begin, pads_end].iter().all(|pads| pads.iter().all(|&pad| pad == 0));
    let apart = kernel == strides && dilations.iter().all(|&dilation| dilation == 1);
    conv.groups == 1 && whole && apart && conv.output_padding.iter().all(|&n| n == 0)
}

impl Planes {
    /// The planes under the windows of a convolution, if its summands are evenly apart, and its positions.
    fn under(conv: &Conv, x: &View, result: &[usize]) -> Option<Planes> {
        let window = &conv.window;
        let padded =
            [&window.pads_begin, &window.pads_end].iter().any(|pads| pads.iter().any(|&pad| pad != 0));
        if padded || !are_planes(x) || !x.shape[1].is_multiple_of(conv.groups) {
            return None;
        }
        let channels = x.shape[1] / conv.groups;
        let along = |apart: &[usize], axis: usize| x.strides[2 + axis] * apart[axis] as i64;
        let taps = (0..window.kernel.len()).map(|axis| (window.kernel[axis], along(&window.dilations, axis)));
        let summands = std::iter::once((channels, x.strides[1])).chain(taps);
        let positions = (0..window.kernel.len()).map(|axis| (result[2 + axis], along(&window.strides, axis)));
        let ((k, summand), (pixels, position)) = (one_axis(summands)?, one_axis(positions)?);
        let x = View {
            shape: vec![x.shape[0], conv.groups, k, pixels],
            strides: vec![x.strides[0], x.strides[1] * channels as i64, summand, position],
            ..x.clone()
        };
        Some(Planes { x, groups: conv.groups })
    }

    /// All pixels of planes.
    fn of_points(x: &View) -> Option<Planes> {
        let pixels = (2..x.rank()).map(|axis| (x.shape[axis], x.strides[axis]));
        let (pixels, stride) = one_axis(pixels).filter(|_| are_planes(x))?;
        let x = View {
            shape: vec![x.shape[0], 1, x.shape[1], pixels],
            strides: vec![x.strides[0], 0, x.strides[1], stride],
            ..x.clone()
        };
        Some(Planes { x, groups: 1 })
    }
}

/// Whether the pixels of each channel lie side by side.
fn are_planes(x: &View) -> bool {
    let (Some(&columns), Some(&stride)) = (x.shape.last(), x.strides.last()) else { return false };
    x.rank() > 2 && (stride == x.dtype.bytes() as i64 || columns == 1)
}

/// Axes that lie evenly in each other, as one: how long it is, and its stride.
fn one_axis(axes: impl Iterator<Item = (usize, i64)>) -> Option<(usize, i64)> {
    let mut one: Option<(usize, i64)> = None;
    for (extent, stride) in axes.filter(|&(extent, _)| extent != 1) {
        one = Some(match one {
            None => (extent, stride),
            Some((outer, apart)) if apart == stride * extent as i64 => (outer * extent, stride),
            Some(_) => return None,
        });
    }
    Some(one.unwrap_or((1, 4)))
}
