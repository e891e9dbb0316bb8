//! Normalisations.

use super::{
    Arithmetic, OpError, Operator, Tensors, Types, Unary, check, number, optional, required, strided,
};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

/// ONNX BatchNormalization in inference mode (opsets 7 to 15).
///
/// Operands: 0 `x` `[N, C, …]`, 1 `scale` `[C]`, 2 `bias` `[C]`, 3 `mean` `[C]`, 4 `var` `[C]`.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

/// `activation(x · scale[c] + shift[c])`: a BatchNorm with its statistics folded, where it could not go into a neighbour.
///
/// Operands: 0 `x` `[N, C, …]`, 1 `scale` `[C]`, 2 `shift` `[C]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelAffine {
    /// Applied last.
    pub activation: Option<Unary>,
}

/// ONNX InstanceNormalization (opset 6, 22). Operands: 0 `x` `[N, C, …]`, 1 `scale` `[C]`, 2 `bias` `[C]`.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

/// ONNX LayerNormalization (opset 17), first output only. Operands: 0 `x`, 1 `scale`, 2 `bias` (optional), both of the
/// shape of the normalised axes or broadcast to it.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// First normalised axis.
    pub axis: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// ONNX LRN (opsets 1, 13): `x / (bias + alpha / size · Σ x²)^beta` over `size` neighbouring channels. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lrn {
    /// Channels in a sum.
    pub size: usize,
    /// Scale of the sum.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the sum.
    pub bias: f32,
}

/// The operand at `index` must be one float for each channel of `x`.
fn per_channel(
    operands: &Types<'_>,
    index: usize,
    name: &'static str,
    x: &TensorType,
) -> Result<(), OpError> {
    let ty = check::float(operands, index, name)?;
    if ty.shape[..] == x.shape[1..2] {
        Ok(())
    } else {
        Err(check::unfit(index, name, ty, format_args!("shape {} for x of type {x}", x.shape[1])))
    }
}

/// `f(channel, element)` of every element of `x` `[N, C, …]`.
fn map_channels(x: &Tensor, f: impl Fn(usize, f64) -> f64) -> Result<Vec<f64>, OpError> {
    let (_, channels, plane) = strided::around(x.shape(), 1);
    let mut values = number::floats(x)?;
    for (i, plane) in values.chunks_mut(plane.max(1)).enumerate() {
        plane.iter_mut().for_each(|v| *v = f(i % channels, *v));
    }
    Ok(values)
}

/// Turns elements into `(x - mean) / sqrt(var + epsilon)`.
fn normalise(values: &mut [f64], epsilon: f32) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
    values.iter_mut().for_each(|v| *v = (*v - mean) * scale);
}

impl Operator for BatchNorm {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 5)?;
        let x = check::float_of_rank(operands, 0, "x", 2)?;
        for (index, name) in [(1, "scale"), (2, "bias"), (3, "mean"), (4, "var")] {
            per_channel(operands, index, name, x)?;
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let scale = number::floats(required(operands, 1, "scale")?)?;
        let bias = number::floats(required(operands, 2, "bias")?)?;
        let mean = number::floats(required(operands, 3, "mean")?)?;
        let variance = number::floats(required(operands, 4, "var")?)?;
        let [y] = results else { return Ok(Vec::new()) };
        let epsilon = f64::from(self.epsilon);
        let out =
            map_channels(x, |c, v| (v - mean[c]) / (variance[c] + epsilon).sqrt() * scale[c] + bias[c])?;
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(4) }
    }
}

impl Operator for ChannelAffine {
    fn name(&self) -> &'static str {
        "ChannelAffine"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let x = check::float_of_rank(operands, 0, "x", 2)?;
        per_channel(operands, 1, "scale", x)?;
        per_channel(operands, 2, "shift", x)?;
        check::activation(self.activation, x)?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let scale = number::floats(required(operands, 1, "scale")?)?;
        let shift = number::floats(required(operands, 2, "shift")?)?;
        let [y] = results else { return Ok(Vec::new()) };
        let out = map_channels(x, |c, v| {
            let v = v * scale[c] + shift[c];
            self.activation.map_or(v, |a| a.apply(v))
        })?;
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let each = 2 + self.activation.is_some() as u64;
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(each) }
    }
}

impl Operator for InstanceNorm {
    fn name(&self) -> &'static str {
        "InstanceNormalization"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let x = check::float_of_rank(operands, 0, "x", 3)?;
        per_channel(operands, 1, "scale", x)?;
        per_channel(operands, 2, "bias", x)?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let scale = number::floats(required(operands, 1, "scale")?)?;
        let bias = number::floats(required(operands, 2, "bias")?)?;
        let [y] = results else { return Ok(Vec::new()) };
        let (_, channels, plane) = strided::around(x.shape(), 1);
        let mut out = number::floats(x)?;
        for (i, plane) in out.chunks_mut(plane.max(1)).enumerate() {
            normalise(plane, self.epsilon);
            plane.iter_mut().for_each(|v| *v = *v * scale[i % channels] + bias[i % channels]);
        }
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(6) }
    }
}

impl Operator for LayerNorm {
    fn name(&self) -> &'static str {
        "LayerNormalization"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 3)?;
        let x = check::float(operands, 0, "x")?;
        check::axis(self.axis, &x.shape)?;
        let normalised = &x.shape[self.axis..];
        for (index, name) in [(1, "scale"), (2, "bias")] {
            if index == 2 && optional(operands, index).is_none() {
                continue;
            }
            let ty = check::float(operands, index, name)?;
            if !check::broadcasts_to(&ty.shape, normalised) {
                let expected = format!("a shape that broadcasts to {}", Shape::from(normalised));
                return Err(check::unfit(index, name, ty, expected));
            }
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let normalised = &x.shape()[self.axis..];
        let full = |t: &Tensor| -> Result<Vec<f64>, OpError> {
            Ok(strided::broadcast_to(&number::floats(t)?, t.shape(), normalised))
        };
        let scale = full(required(operands, 1, "scale")?)?;
        let bias = optional(operands, 2).map(full).transpose()?;
        let mut out = number::floats(x)?;
        for row in out.chunks_mut(normalised.iter().product::<usize>().max(1)) {
            normalise(row, self.epsilon);
            for (i, v) in row.iter_mut().enumerate() {
                *v = *v * scale[i] + bias.as_ref().map_or(0.0, |b| b[i]);
            }
        }
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(6) }
    }
}

impl Operator for Lrn {
    fn name(&self) -> &'static str {
        "LRN"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = check::float_of_rank(operands, 0, "x", 2)?;
        if self.size == 0 {
            return Err(OpError::mismatch("size is 0, expected 1 or more"));
        }
        Ok(vec![x.clone()])
    }

    /// The sum at channel `c` is over channels `c - ⌊(size - 1) / 2⌋` to `c + ⌈(size - 1) / 2⌉`, as far as they exist.
    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let (_, channels, plane) = strided::around(x.shape(), 1);
        let values = number::floats(x)?;
        let mut out = values.clone();
        let image = (channels * plane).max(1);
        let factor = f64::from(self.alpha) / self.size as f64;
        for (values, out) in values.chunks(image).zip(out.chunks_mut(image)) {
            for c in 0..channels {
                let first = c.saturating_sub((self.size - 1) / 2);
                let end = c.saturating_add(self.size / 2 + 1).min(channels);
                for i in 0..plane {
                    let sum: f64 = (first..end).map(|n| values[n * plane + i].powi(2)).sum();
                    let norm = f64::from(self.bias) + factor * sum;
                    out[c * plane + i] /= norm.powf(f64::from(self.beta));
                }
            }
        }
        Ok(vec![number::from_floats(y.clone(), &out)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        let each = (self.size as u64).saturating_mul(2).saturating_add(3);
        Arithmetic { macc: 0, ops: check::result_elems(results).saturating_mul(each) }
    }
}

#[cfg(test)]
mod tests;
