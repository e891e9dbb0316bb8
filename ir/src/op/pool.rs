//! Pools: [`Pool`] (ONNX MaxPool, AveragePool, LpPool) and [`GlobalPool`].

use super::number::Number;
use super::windows::{Odometer, Windows};
use super::{
    Arithmetic, Epilogue, OpError, Operator, Prologue, Tensors, Types, Window, check, number, optional,
    required,
};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// How a window is reduced to one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The largest element; padding never wins.
    Max,
    /// The mean; over the whole window, or over the elements that lie inside the image.
    Average {
        /// Whether padding counts as zeros.
        count_include_pad: bool,
    },
    /// `(Σ |x|^p)^(1/p)`.
    Lp {
        /// The exponent.
        p: u32,
    },
}

/// ONNX MaxPool (opsets 1 to 22, without its second output), AveragePool (1 to 22), LpPool (1 to 22).
///
/// Operands: 0 `x` `[N, C, spatial…]`, 1 `residual` (when the epilogue has one), 2 `scale` `[C]` and 3 `shift` `[C]` (when
/// the prologue is affine).
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// How the window is reduced.
    pub kind: PoolKind,
    /// How it slides. `ceil_mode` is resolved: a window that hangs over the end has more padding here.
    pub window: Window,
    /// Of the padding at the end of each axis, how much comes from `ceil_mode` and never counts in an average.
    pub ceil_pads: Vec<usize>,
    /// Applied to `x`.
    pub prologue: Prologue,
    /// Applied to the result.
    pub epilogue: Epilogue,
}

impl Pool {
    /// Position of operand `x`.
    pub const X: usize = 0;
    /// Position of operand `residual`.
    pub const RESIDUAL: usize = 1;
    /// Position of operand `scale`.
    pub const SCALE: usize = 2;
    /// Position of operand `shift`.
    pub const SHIFT: usize = 3;
}

/// ONNX GlobalAveragePool, GlobalMaxPool, GlobalLpPool: one window over the whole image.
///
/// Operands: 0 `x` `[N, C, spatial…]`, 1 `scale` `[C]` and 2 `shift` `[C]` (when the prologue is affine).
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalPool {
    /// How the image is reduced.
    pub kind: PoolKind,
    /// Applied to `x`.
    pub prologue: Prologue,
    /// Applied to the result.
    pub activation: Option<super::Unary>,
}

impl GlobalPool {
    /// Position of operand `x`.
    pub const X: usize = 0;
    /// Position of operand `scale`.
    pub const SCALE: usize = 1;
    /// Position of operand `shift`.
    pub const SHIFT: usize = 2;
}

impl PoolKind {
    fn check(self, x: &TensorType) -> Result<(), OpError> {
        match self {
            PoolKind::Max if x.dtype != DType::Bool => Ok(()),
            PoolKind::Max | PoolKind::Average { .. } | PoolKind::Lp { .. } if !x.dtype.is_float() => {
                Err(check::unfit(0, "x", x, "floating-point elements (or integers for the largest)"))
            }
            PoolKind::Lp { p: 0 } => Err(OpError::mismatch("exponent p is 0, expected 1 or more")),
            _ => Ok(()),
        }
    }

    /// What a window's reduction starts from: padding never wins, and adds nothing.
    fn start(self) -> f64 {
        if self == PoolKind::Max { f64::NEG_INFINITY } else { 0.0 }
    }

    fn accumulate(self, sum: &mut f64, v: f64) {
        match self {
            PoolKind::Max => *sum = sum.max_nan(v),
            PoolKind::Average { .. } => *sum += v,
            PoolKind::Lp { p } => *sum += v.abs().powi(p.min(i32::MAX as u32) as i32),
        }
    }

    fn finish(self, sum: f64, count: f64) -> f64 {
        match self {
            PoolKind::Max => sum,
            PoolKind::Average { .. } => sum / count.max(1.0),
            PoolKind::Lp { p } => sum.powf(1.0 / p as f64),
        }
    }
}

impl Pool {
    /// For each window position of an axis, how many of its taps count in an average. Elements of the image always
    /// do, padding if `count_include_pad` says so, what hangs over because of `ceil_mode` never.
    fn counts(&self, axis: usize, extent: usize, positions: usize) -> Vec<f64> {
        let pads = match self.kind {
            PoolKind::Average { count_include_pad: true } => {
                let end = self.window.pads_end[axis].saturating_sub_unsigned(self.ceil_pads[axis]);
                (self.window.pads_begin[axis].max(0), end.max(0))
            }
            _ => (0, 0),
        };
        let end = (extent as isize).saturating_add(pads.1);
        (0..positions)
            .map(|p| {
                let elements = (0..self.window.kernel[axis]).map(|tap| self.window.element(axis, tap, p));
                elements.filter(|e| (-pads.0..end).contains(e)).count() as f64
            })
            .collect()
    }

    fn eval_integers(&self, x: &Tensor, y: &TensorType, windows: &Windows) -> Result<Tensor, OpError> {
        let values = number::integers(x)?;
        let (in_plane, out_plane): (usize, usize) =
            (x.shape()[2..].iter().product(), y.shape[2..].iter().product());
        let mut out = vec![number::integer_range(y.dtype).0; y.shape.elems()];
        for (plane, out) in values.chunks(in_plane.max(1)).zip(out.chunks_mut(out_plane.max(1))) {
            for run in windows.taps().flatten() {
                for i in 0..run.len {
                    let o = &mut out[run.position + i];
                    *o = (*o).max(plane[run.element + i * windows.step]);
                }
            }
        }
        number::from_integers(y.clone(), &out)
    }
}

impl Operator for Pool {
    fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "MaxPool",
            PoolKind::Average { .. } => "AveragePool",
            PoolKind::Lp { .. } => "LpPool",
        }
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 4)?;
        let x = required(operands, Self::X, "x")?;
        self.kind.check(x)?;
        if x.shape.rank() < 3 {
            return Err(check::unfit(Self::X, "x", x, "rank 3 or more"));
        }
        let plain = self.prologue.is_none() && self.epilogue.is_none();
        if !x.dtype.is_float() && !plain {
            return Err(check::unfit(Self::X, "x", x, "floating-point elements for a prologue or epilogue"));
        }
        let positions = self.window.positions(&x.shape[2..])?;
        if self.ceil_pads.len() != positions.len() {
            return Err(OpError::Mismatch(format!(
                "ceil_pads has {} entries where the image has {} spatial axes",
                self.ceil_pads.len(),
                positions.len()
            )));
        }
        let dtype = self.epilogue.result(x.dtype)?;
        let y = check::result(dtype, [&x.shape[..2], &positions].concat())?;
        self.epilogue.check(operands, Self::RESIDUAL, &y)?;
        self.prologue.check(operands, [Self::SCALE, Self::SHIFT], x)?;
        Ok(vec![y])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, Self::X, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let (image, positions) = (&x.shape()[2..], &y.shape[2..]);
        let windows = Windows::new(&self.window, image, positions);
        if !x.dtype().is_float() {
            return Ok(vec![self.eval_integers(x, y, &windows)?]);
        }
        let values = self.prologue.eval(x, operands, [Self::SCALE, Self::SHIFT])?;
        let counts: Vec<Vec<f64>> =
            (0..image.len()).map(|a| self.counts(a, image[a], positions[a])).collect();
        let counts: Vec<f64> =
            Odometer::new(positions).map(|p| p.iter().zip(&counts).map(|(&i, c)| c[i]).product()).collect();
        let (in_plane, out_plane): (usize, usize) = (image.iter().product(), positions.iter().product());
        let mut out = vec![self.kind.start(); y.shape.elems()];
        for (plane, out) in values.chunks(in_plane.max(1)).zip(out.chunks_mut(out_plane.max(1))) {
            for run in windows.taps().flatten() {
                for i in 0..run.len {
                    self.kind.accumulate(&mut out[run.position + i], plane[run.element + i * windows.step]);
                }
            }
            out.iter_mut().zip(&counts).for_each(|(v, &count)| *v = self.kind.finish(*v, count));
        }
        self.epilogue.eval(&mut out, operands, Self::RESIDUAL)?;
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let elems = check::result_elems(results);
        let x = optional(operands, Self::X).map_or(0, |x| check::count(x.shape.iter()));
        let own = check::count(self.window.kernel.iter()).saturating_add(self.epilogue.ops());
        Arithmetic {
            macc: 0,
            ops: elems.saturating_mul(own).saturating_add(x.saturating_mul(self.prologue.ops())),
        }
    }
}

impl Operator for GlobalPool {
    fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "GlobalMaxPool",
            PoolKind::Average { .. } => "GlobalAveragePool",
            PoolKind::Lp { .. } => "GlobalLpPool",
        }
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let x = check::float_of_rank(operands, Self::X, "x", 3)?;
        self.kind.check(x)?;
        if x.shape[2..].contains(&0) {
            return Err(check::unfit(Self::X, "x", x, "an image that is not empty"));
        }
        let y = check::result(x.dtype, [&x.shape[..2], &vec![1; x.shape.rank() - 2]].concat())?;
        check::activation(self.activation, &y)?;
        self.prologue.check(operands, [Self::SCALE, Self::SHIFT], x)?;
        Ok(vec![y])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, Self::X, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let plane: usize = x.shape()[2..].iter().product();
        let values = self.prologue.eval(x, operands, [Self::SCALE, Self::SHIFT])?;
        let out: Vec<f64> = values
            .chunks(plane.max(1))
            .map(|plane| {
                let mut sum = self.kind.start();
                plane.iter().for_each(|&v| self.kind.accumulate(&mut sum, v));
                let y = self.kind.finish(sum, plane.len() as f64);
                self.activation.map_or(y, |a| a.apply(y))
            })
            .collect();
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, operands: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let x = optional(operands, Self::X).map_or(0, |x| check::count(x.shape.iter()));
        let own = self.activation.is_some() as u64;
        Arithmetic {
            macc: 0,
            ops: x
                .saturating_mul(1 + self.prologue.ops())
                .saturating_add(check::result_elems(results).saturating_mul(own)),
        }
    }
}

#[cfg(test)]
mod tests;
