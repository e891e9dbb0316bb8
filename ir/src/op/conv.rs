//! Convolutions: [`Conv`] (ONNX Conv, opsets 1, 11, 22) and [`ConvTranspose`] (1, 11, 22), and what passes fuse into them.

use super::number::Number;
use super::windows::Windows;
use super::{
    Arithmetic, OpError, Operator, Tensors, Types, Unary, check, number, optional, required, strided,
};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// How a window slides over the spatial axes; one entry per axis, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Extent of the window in taps.
    pub kernel: Vec<usize>,
    /// Distance between neighbouring windows, in elements of the input.
    pub strides: Vec<usize>,
    /// Distance between neighbouring taps, in elements of the input.
    pub dilations: Vec<usize>,
    /// Elements of padding before the first; negative where the window starts inside.
    pub pads_begin: Vec<isize>,
    /// Elements of padding after the last; negative likewise.
    pub pads_end: Vec<isize>,
}

/// What is done to a value on its way in: `activation(x · scale[c] + shift[c])`. Padding comes after it: padded
/// elements stay zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prologue {
    /// Whether operands `scale` and `shift` (one element a channel) are applied.
    pub affine: bool,
    /// Applied after them.
    pub activation: Option<Unary>,
}

impl Prologue {
    /// Whether it does nothing.
    pub fn is_none(&self) -> bool {
        !self.affine && self.activation.is_none()
    }
}

/// Where a residual is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Residual {
    /// `activation(y + residual)`: ResNet, ShuffleNet v1.
    BeforeActivation,
    /// `activation(y) + residual`: MobileNet v2 (without activation), NASNet.
    AfterActivation,
}

/// What is done to a result before it is stored, in registers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// Whether and where operand `residual` (of the result's type) is added.
    pub residual: Option<Residual>,
    /// The activation.
    pub activation: Option<Unary>,
    /// What the result is stored as, where that is another float than what the layer reads: it is rounded once, at the end.
    pub stored: Option<DType>,
}

impl Epilogue {
    /// Whether it does nothing.
    pub fn is_none(&self) -> bool {
        self.residual.is_none() && self.activation.is_none() && self.stored.is_none()
    }

    /// The element type of the result of a layer that reads elements of a type.
    pub(crate) fn result(&self, read: DType) -> Result<DType, OpError> {
        match self.stored {
            Some(stored) if !stored.is_float() => Err(OpError::Mismatch(format!(
                "results are stored as {stored}, expected a floating-point type"
            ))),
            Some(stored) => Ok(stored),
            None => Ok(read),
        }
    }
}

/// ONNX Conv with what was fused into it; of integers too, which wrap around (ConvInteger is one over `i32`).
///
/// Operands: 0 `x` `[N, C, spatial…]`, 1 `w` `[M, C / groups, kernel…]`, 2 `b` `[M]` (optional), 3 `residual` (the result's
/// type, when the epilogue has one), 4 `scale` `[C]` and 5 `shift` `[C]` (when the prologue is affine).
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// How the window slides.
    pub window: Window,
    /// Number of groups.
    pub groups: usize,
    /// Applied to `x`.
    pub prologue: Prologue,
    /// Applied to the result.
    pub epilogue: Epilogue,
}

impl Conv {
    /// Position of operand `x`.
    pub const X: usize = 0;
    /// Position of operand `w`.
    pub const W: usize = 1;
    /// Position of operand `b`.
    pub const B: usize = 2;
    /// Position of operand `residual`.
    pub const RESIDUAL: usize = 3;
    /// Position of operand `scale`.
    pub const SCALE: usize = 4;
    /// Position of operand `shift`.
    pub const SHIFT: usize = 5;
}

/// ONNX ConvTranspose.
///
/// Operands: 0 `x` `[N, C, spatial…]`, 1 `w` `[C, M / groups, kernel…]`, 2 `b` `[M]` (optional).
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    /// How the window slides over the *result*; pads are cut off the full result.
    pub window: Window,
    /// Elements added at the end of each axis of the result.
    pub output_padding: Vec<usize>,
    /// Number of groups.
    pub groups: usize,
    /// Applied to the result (no residual).
    pub activation: Option<Unary>,
}

impl Prologue {
    /// Checks operands `scale` and `shift` at their positions.
    pub(crate) fn check(
        &self,
        operands: &Types<'_>,
        [scale, shift]: [usize; 2],
        x: &TensorType,
    ) -> Result<(), OpError> {
        check::activation(self.activation, x)?;
        for (index, name) in [(scale, "scale"), (shift, "shift")] {
            if self.affine {
                check::parameters(operands, index, name, x.dtype, x.shape[1])?;
            } else {
                check::absent(operands, index, name, "the prologue is not affine")?;
            }
        }
        Ok(())
    }

    /// The elements of `x` `[N, C, …]` with the prologue applied.
    pub(crate) fn eval(
        &self,
        x: &Tensor,
        operands: &Tensors<'_>,
        [scale, shift]: [usize; 2],
    ) -> Result<Vec<f64>, OpError> {
        let mut values = number::floats(x)?;
        if self.affine {
            let scale = number::floats(required(operands, scale, "scale")?)?;
            let shift = number::floats(required(operands, shift, "shift")?)?;
            let (_, channels, plane) = strided::around(x.shape(), 1);
            for (i, plane) in values.chunks_mut(plane.max(1)).enumerate() {
                let c = i % channels;
                plane.iter_mut().for_each(|v| *v = *v * scale[c] + shift[c]);
            }
        }
        if let Some(activation) = self.activation {
            values.iter_mut().for_each(|v| *v = activation.apply(*v));
        }
        Ok(values)
    }

    /// Operations on each element.
    pub(crate) fn ops(&self) -> u64 {
        2 * self.affine as u64 + self.activation.is_some() as u64
    }
}

impl Epilogue {
    /// Checks operand `residual` at its position.
    pub(crate) fn check(&self, operands: &Types<'_>, index: usize, y: &TensorType) -> Result<(), OpError> {
        check::activation(self.activation, y)?;
        match self.residual {
            Some(_) => check::exactly(operands, index, "residual", y),
            None => check::absent(operands, index, "residual", "the epilogue has none"),
        }
    }

    /// Applies it to a result.
    pub(crate) fn eval(&self, y: &mut [f64], operands: &Tensors<'_>, index: usize) -> Result<(), OpError> {
        let residual = match self.residual {
            Some(place) => Some((place, number::floats(required(operands, index, "residual")?)?)),
            None => None,
        };
        let activation = |v: f64| self.activation.map_or(v, |a| a.apply(v));
        match residual {
            Some((Residual::BeforeActivation, r)) => {
                y.iter_mut().zip(r).for_each(|(v, r)| *v = activation(*v + r));
            }
            Some((Residual::AfterActivation, r)) => {
                y.iter_mut().zip(r).for_each(|(v, r)| *v = activation(*v) + r);
            }
            None => y.iter_mut().for_each(|v| *v = activation(*v)),
        }
        Ok(())
    }

    /// Operations on each element.
    pub(crate) fn ops(&self) -> u64 {
        self.residual.is_some() as u64 + self.activation.is_some() as u64
    }
}

/// Checks that a window's kernel is what the weight `w` holds.
fn check_weight(
    w: &TensorType,
    x: &TensorType,
    window: &Window,
    fits: impl Fn(&[usize]) -> bool,
    layout: &str,
) -> Result<(), OpError> {
    check::parameter(1, "w", w, x.dtype)?;
    if w.shape.rank() != x.shape.rank() || w.shape[2..] != window.kernel[..] || !fits(&w.shape) {
        return Err(check::unfit(1, "w", w, format_args!("{layout} for x of type {x}")));
    }
    Ok(())
}

impl Operator for Conv {
    fn name(&self) -> &'static str {
        "Conv"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 6)?;
        let x = required(operands, Self::X, "x")?;
        if x.dtype == DType::Bool || x.shape.rank() < 3 {
            return Err(check::unfit(Self::X, "x", x, "numbers of rank 3 or more"));
        }
        let plain = self.prologue.is_none() && self.epilogue.is_none();
        if !x.dtype.is_float() && !plain {
            return Err(check::unfit(Self::X, "x", x, "floating-point elements for a prologue or epilogue"));
        }
        let w = required(operands, Self::W, "w")?;
        let positions = self.window.positions(&x.shape[2..])?;
        let (channels, groups) = (x.shape[1], self.groups);
        check_weight(
            w,
            x,
            &self.window,
            |w| groups > 0 && w[0] % groups == 0 && w[1].checked_mul(groups) == Some(channels),
            &format!("[M, C / {groups}, {}] with M a multiple of {groups}", by_x(&self.window.kernel)),
        )?;
        if optional(operands, Self::B).is_some() {
            check::parameters(operands, Self::B, "b", x.dtype, w.shape[0])?;
        }
        let dtype = self.epilogue.result(x.dtype)?;
        let y = check::result(dtype, [&[x.shape[0], w.shape[0]], &positions[..]].concat())?;
        self.epilogue.check(operands, Self::RESIDUAL, &y)?;
        self.prologue.check(operands, [Self::SCALE, Self::SHIFT], x)?;
        Ok(vec![y])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, Self::X, "x")?;
        let w = required(operands, Self::W, "w")?;
        let [y] = results else { return Ok(Vec::new()) };
        let bias = optional(operands, Self::B);
        if !y.dtype.is_float() {
            let (image, weights) = (number::integers(x)?, number::integers(w)?);
            let bias = bias.map(number::integers).transpose()?;
            let out = self.sums(x.shape(), &y.shape, &image, &weights, bias.as_deref());
            return Ok(vec![number::from_integers(y.clone(), &out)?]);
        }
        let image = self.prologue.eval(x, operands, [Self::SCALE, Self::SHIFT])?;
        let bias = number::optional_floats(bias)?;
        let mut out = self.sums(x.shape(), &y.shape, &image, &number::floats(w)?, bias.as_deref());
        self.epilogue.eval(&mut out, operands, Self::RESIDUAL)?;
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let elems = check::result_elems(results);
        let per_elem = optional(operands, Self::W).map_or(0, |w| check::count(w.shape.iter().skip(1)));
        let x = optional(operands, Self::X).map_or(0, |x| check::count(x.shape.iter()));
        let own = optional(operands, Self::B).is_some() as u64 + self.epilogue.ops();
        Arithmetic {
            macc: elems.saturating_mul(per_elem),
            ops: elems.saturating_mul(own).saturating_add(x.saturating_mul(self.prologue.ops())),
        }
    }
}

impl Conv {
    /// The sums over all windows of an image of shape `x`, `[N, M, positions…]`, for weights `[M, C / groups, taps…]`.
    pub(super) fn sums<T: Number>(
        &self,
        x: &[usize],
        y: &[usize],
        image: &[T],
        weights: &[T],
        bias: Option<&[T]>,
    ) -> Vec<T> {
        let windows = Windows::new(&self.window, &x[2..], &y[2..]);
        let (batch, in_channels, in_plane): (_, _, usize) = (x[0], x[1], x[2..].iter().product());
        let (out_channels, out_plane): (_, usize) = (y[1], y[2..].iter().product());
        let (group_in, group_out) = (in_channels / self.groups, out_channels / self.groups);
        let taps: usize = self.window.kernel.iter().product();

        let mut out = vec![T::ZERO; batch * out_channels * out_plane];
        for n in 0..batch {
            for m in 0..out_channels {
                let sums = &mut out[(n * out_channels + m) * out_plane..][..out_plane];
                sums.fill(bias.map_or(T::ZERO, |b| b[m]));
                for c in 0..group_in {
                    let channel = m / group_out * group_in + c;
                    let plane = &image[(n * in_channels + channel) * in_plane..][..in_plane];
                    let kernel = &weights[(m * group_in + c) * taps..][..taps];
                    for (&weight, runs) in kernel.iter().zip(windows.taps()) {
                        for run in runs {
                            let sums = &mut sums[run.position..run.position + run.len];
                            if windows.step == 1 {
                                let plane = &plane[run.element..run.element + run.len];
                                sums.iter_mut().zip(plane).for_each(|(s, &v)| *s = s.add(weight.mul(v)));
                            } else {
                                let plane = plane[run.element..].iter().step_by(windows.step);
                                sums.iter_mut().zip(plane).for_each(|(s, &v)| *s = s.add(weight.mul(v)));
                            }
                        }
                    }
                }
            }
        }
        out
    }
}

/// `3x3`
fn by_x(extents: &[usize]) -> String {
    extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

impl Operator for ConvTranspose {
    fn name(&self) -> &'static str {
        "ConvTranspose"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let x = check::float_of_rank(operands, 0, "x", 3)?;
        let w = required(operands, 1, "w")?;
        let spatial = &x.shape[2..];
        self.window.check(spatial.len())?;
        if self.output_padding.len() != spatial.len() {
            return Err(OpError::Mismatch(format!(
                "output_padding {:?} has {} entries where the image has {} spatial axes",
                self.output_padding,
                self.output_padding.len(),
                spatial.len()
            )));
        }
        let (channels, groups) = (x.shape[1], self.groups);
        check_weight(
            w,
            x,
            &self.window,
            |w| groups > 0 && channels % groups == 0 && w[0] == channels,
            &format!("[C, M / {groups}, {}] with C a multiple of {groups}", by_x(&self.window.kernel)),
        )?;
        let out_channels = w.shape[1].checked_mul(groups).ok_or(OpError::Overflow)?;
        if optional(operands, 2).is_some() {
            check::parameters(operands, 2, "b", x.dtype, out_channels)?;
        }
        let image = self.window.image(spatial, &self.output_padding)?;
        let y = check::result(x.dtype, [&[x.shape[0], out_channels], &image[..]].concat())?;
        check::activation(self.activation, &y)?;
        Ok(vec![y])
    }

    /// The convolution of which this is the transpose slides over the result: each element of `x` is one position
    /// of its window, and is added, times the weights, to what the window touches there.
    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let w = required(operands, 1, "w")?;
        let [y] = results else { return Ok(Vec::new()) };
        let windows = Windows::new(&self.window, &y.shape[2..], &x.shape()[2..]);
        let (batch, in_channels, in_plane) = (x.shape()[0], x.shape()[1], x.shape()[2..].iter().product());
        let (out_channels, out_plane) = (y.shape[1], y.shape[2..].iter().product());
        let image = number::floats(x)?;
        let weights = number::floats(w)?;
        let bias = number::optional_floats(optional(operands, 2))?;
        let (group_in, group_out) = (in_channels / self.groups, out_channels / self.groups);
        let taps: usize = self.window.kernel.iter().product();

        let mut out = vec![0.0; batch * out_channels * out_plane];
        for n in 0..batch {
            for m in 0..out_channels {
                let sums = &mut out[(n * out_channels + m) * out_plane..][..out_plane];
                sums.fill(bias.as_ref().map_or(0.0, |b| b[m]));
                for c in 0..group_in {
                    let channel = m / group_out * group_in + c;
                    let plane = &image[(n * in_channels + channel) * in_plane..][..in_plane];
                    let kernel = &weights[(channel * group_out + m % group_out) * taps..][..taps];
                    for (&weight, runs) in kernel.iter().zip(windows.taps()) {
                        for run in runs {
                            let plane = &plane[run.position..run.position + run.len];
                            let sums = sums[run.element..].iter_mut().step_by(windows.step);
                            sums.zip(plane).for_each(|(s, v)| *s += weight * v);
                        }
                    }
                }
            }
        }
        if let Some(activation) = self.activation {
            out.iter_mut().for_each(|v| *v = activation.apply(*v));
        }
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let x = optional(operands, 0).map_or(0, |x| check::count(x.shape.iter()));
        let per_elem = optional(operands, 1).map_or(0, |w| check::count(w.shape.iter().skip(1)));
        let own = optional(operands, 2).is_some() as u64 + self.activation.is_some() as u64;
        Arithmetic { macc: x.saturating_mul(per_elem), ops: check::result_elems(results).saturating_mul(own) }
    }
}

#[cfg(test)]
mod tests;
