//! Losses of classifiers: how improbable the right class is.

use super::{Results, product};
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::elementwise::BinaryFn;
use crate::op::{LogSoftmax, ReduceKind, Unary};
use crate::types::DType;

/// NegativeLogLikelihoodLoss, since 12.
pub(in crate::onnx) fn negative_log_likelihood(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, target, weight) = (n.operand(0, "input")?, n.operand(1, "target")?, n.optional(2)?);
    Ok(vec![loss(n, x, target, weight)?])
}

/// SoftmaxCrossEntropyLoss, since 12: the loss of the logarithms of a softmax, which are the second result.
pub(in crate::onnx) fn softmax_cross_entropy(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, target, weight) = (n.operand(0, "scores")?, n.operand(1, "labels")?, n.optional(2)?);
    if n.ty(x).shape.rank() < 2 {
        return Err(NodeFault::invalid(format!("scores must be [N, C, …], they are {}", n.ty(x))));
    }
    let logarithms = n.emit(LogSoftmax { axis: 1 }, &[x])?;
    Ok(vec![loss(n, logarithms, target, weight)?, logarithms])
}

#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    None,
    Sum,
    Mean,
}

/// `−x` at the class that `target` names, weighted, and summed up as the node asks.
///
/// ```text
///   x [N, C, D]  target [N, 1, D] == 0 … C−1  ─▶  where(…, x, 0) summed over C  ─▶  · −weight of the class
/// ```
fn loss(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    target: Value,
    weight: Option<Value>,
) -> Result<Value, NodeFault> {
    let choices = [("none", Reduction::None), ("sum", Reduction::Sum), ("mean", Reduction::Mean)];
    let reduction = n.attributes.choice("reduction", Reduction::Mean, &choices)?;
    let ignored = n.attributes.int("ignore_index")?;
    let (shape, dtype) = (n.shape(x), n.dtype(x));
    let [batch, classes, rest @ ..] = &shape[..] else {
        return Err(NodeFault::invalid(format!("the scores must be [N, C, …], they are {shape}")));
    };
    let (batch, classes) = (*batch, *classes);
    let targets = [&[batch], rest].concat();
    if n.shape(target)[..] != targets {
        return Err(NodeFault::invalid(format!("the classes are {}, the scores {shape}", n.shape(target))));
    }
    let places = product(rest)?;
    let x = n.reshape(x, [batch, classes, places])?;
    let target = n.cast(target, DType::I64)?;
    let target = n.reshape(target, [batch, 1, places])?;
    let zero = n.scalar(dtype, 0.0)?;
    let counted = n.counting(DType::I64, [1, classes, 1])?;
    let hit = n.binary(BinaryFn::Equal, counted, target)?;
    let mut pick = |values: Value| {
        let picked = n.choose(hit, values, zero)?;
        n.reduce(ReduceKind::Sum, picked, vec![1], true)
    };
    let right = pick(x)?;
    let mut weights = match weight {
        Some(weight) => {
            let weight = n.reshape(weight, [1, classes, 1])?;
            let picked = n.choose(hit, weight, zero)?;
            Some(n.reduce(ReduceKind::Sum, picked, vec![1], true)?)
        }
        None => None,
    };
    if let Some(ignored) = ignored {
        let ignored = n.integer(ignored)?;
        let skip = n.binary(BinaryFn::Equal, target, ignored)?;
        let one = n.scalar(dtype, 1.0)?;
        weights = Some(n.choose(skip, zero, weights.unwrap_or(one))?);
    }
    let mut losses = n.unary(Unary::Neg, right)?;
    if let Some(weights) = weights {
        losses = n.binary(BinaryFn::Mul, losses, weights)?;
    }
    let all = vec![0, 1, 2];
    match (reduction, weights) {
        (Reduction::None, _) => n.reshape(losses, targets),
        (Reduction::Sum, _) => n.reduce(ReduceKind::Sum, losses, all, false),
        (Reduction::Mean, None) => n.reduce(ReduceKind::Mean, losses, all, false),
        (Reduction::Mean, Some(weights)) => {
            let sum = n.reduce(ReduceKind::Sum, losses, all.clone(), false)?;
            let total = n.reduce(ReduceKind::Sum, weights, all, false)?;
            n.binary(BinaryFn::Div, sum, total)
        }
    }
}
