//! BatchNormalization, whose versions say in different ways whose statistics normalise.
//!
//! | opset | training mode, with the statistics of the batch | results then |
//! |---|---|---|
//! | 1, 6 | `is_test = 0`, and more than one output | running mean and variance, those of the batch |
//! | 7, 9 | more than one output, whether anything reads it or not | the same |
//! | 14 | `training_mode = 1` | running mean and variance |
//!
//! Else there is one result, made with the statistics that the model brings.

use super::Results;
use super::normalize::epsilon;
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::elementwise::BinaryFn;
use crate::op::{BatchNorm, ReduceKind, Unary};
use crate::types::DType;

/// What a BatchNormalization does with the elements of a batch.
struct Norm {
    epsilon: f32,
    /// Whether statistics are those of a channel, or else of each element of a batch's members.
    by_channel: bool,
}

/// BatchNormalization, since 1.
pub(in crate::onnx) fn batch_norm(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let [scale, bias] = [n.operand(1, "scale")?, n.operand(2, "B")?];
    let running = [n.operand(3, "input_mean")?, n.operand(4, "input_var")?];
    let momentum = n.attributes.float("momentum")?.unwrap_or(0.9);
    let by_channel = if n.opset < 9 { n.attributes.flag("spatial", true)? } else { true };
    let norm = Norm { epsilon: epsilon(n)?, by_channel };
    if n.opset < 6 {
        n.attributes.ignore("consumed_inputs");
    }
    let training = is_training(n)?;
    // Numbers without channels are members of a batch that has one.
    let shape = n.shape(x);
    let flat = if shape.rank() == 1 { n.reshape(x, vec![shape[0], 1])? } else { x };
    if !training {
        let y = norm.apply(n, flat, [scale, bias], running)?;
        return Ok(vec![n.reshape(y, shape.to_vec())?]);
    }
    let batch = norm.statistics(n, flat)?;
    let y = norm.apply(n, flat, [scale, bias], batch)?;
    let mut results = vec![n.reshape(y, shape.to_vec())?];
    let mut saved = Vec::new();
    for (running, batch) in running.into_iter().zip(batch) {
        let batch = n.cast(batch, n.dtype(running))?;
        let old = n.binary_with(BinaryFn::Mul, running, f64::from(momentum))?;
        let new = n.binary_with(BinaryFn::Mul, batch, 1.0 - f64::from(momentum))?;
        results.push(n.binary(BinaryFn::Add, old, new)?);
        saved.push(batch);
    }
    if n.opset < 14 {
        results.append(&mut saved);
    }
    Ok(results)
}

/// Whether the statistics are those of the batch.
fn is_training(n: &mut NodeReader<'_, '_>) -> Result<bool, NodeFault> {
    let more = (1..n.output_count()).any(|index| n.output_named(index));
    let (asked, by) = match n.opset {
        ..=6 => (!n.attributes.flag("is_test", false)?, "is_test"),
        7..=13 => return Ok(more),
        _ => (n.attributes.flag("training_mode", false)?, "training_mode"),
    };
    match (asked, more) {
        (false, true) => Err(NodeFault::invalid(format!(
            "asks for inference (attribute \"{by}\"), which has one output, but names more; leave the others out"
        ))),
        (true, false) if n.opset <= 6 => Err(NodeFault::unsupported(
            "training mode (attribute \"is_test\" is 0) with the one output of inference; export the model for inference",
        )),
        _ => Ok(asked),
    }
}

impl Norm {
    /// Mean and variance of a batch, in `f32` at least.
    fn statistics(&self, n: &mut NodeReader<'_, '_>, x: Value) -> Result<[Value; 2], NodeFault> {
        let x = if n.dtype(x).bytes() < 4 { n.cast(x, DType::F32)? } else { x };
        let rank = n.ty(x).shape.rank();
        let axes: Vec<usize> =
            (0..rank).filter(|&axis| axis == 0 || (self.by_channel && axis != 1)).collect();
        let mean = n.reduce(ReduceKind::Mean, x, axes.clone(), true)?;
        let distance = n.binary(BinaryFn::Sub, x, mean)?;
        let square = n.binary(BinaryFn::Mul, distance, distance)?;
        let variance = n.reduce(ReduceKind::Mean, square, axes, false)?;
        let extents = n.shape(variance).to_vec();
        Ok([n.reshape(mean, extents)?, variance])
    }

    /// `(x - mean) / √(variance + epsilon) · scale + bias`.
    fn apply(
        &self,
        n: &mut NodeReader<'_, '_>,
        x: Value,
        [scale, bias]: [Value; 2],
        [mean, variance]: [Value; 2],
    ) -> Result<Value, NodeFault> {
        if self.by_channel {
            return n.emit(BatchNorm { epsilon: self.epsilon }, &[x, scale, bias, mean, variance]);
        }
        let shape = n.shape(x);
        for (value, name) in [(scale, "scale"), (bias, "B"), (mean, "mean"), (variance, "var")] {
            if n.ty(value).shape[..] != shape[1..] {
                let ty = n.ty(value);
                return Err(NodeFault::invalid(format!(
                    "{name} has type {ty}, expected one number for each element of a member of the batch (attribute \
                     \"spatial\" is 0), whose shape is {shape}"
                )));
            }
        }
        let to = n.dtype(x);
        let wide = if to.bytes() < 4 { DType::F32 } else { to };
        let mut at = |value| n.cast(value, wide);
        let (x, mean, variance) = (at(x)?, at(mean)?, at(variance)?);
        let (scale, bias) = (at(scale)?, at(bias)?);
        let distance = n.binary(BinaryFn::Sub, x, mean)?;
        let variance = n.binary_with(BinaryFn::Add, variance, f64::from(self.epsilon))?;
        let deviation = n.unary(Unary::Sqrt, variance)?;
        let normal = n.binary(BinaryFn::Div, distance, deviation)?;
        let scaled = n.binary(BinaryFn::Mul, normal, scale)?;
        let y = n.binary(BinaryFn::Add, scaled, bias)?;
        n.cast(y, to)
    }
}
