//! Normalisations together with what comes before them in a transformer: a residual and a bias, or embeddings.

use super::activation::along_last;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::onnx::ops::Results;
use crate::onnx::ops::normalize::{rms_of, statistics};
use crate::onnx::ops::select::gathered;
use crate::op::elementwise::BinaryFn;
use crate::op::{LayerNorm, ReduceKind, Unary};
use crate::types::DType;

/// What ONNX Runtime takes where the attribute is not given.
fn epsilon(n: &mut NodeReader<'_, '_>) -> Result<f32, NodeFault> {
    Ok(n.attributes.float("epsilon")?.unwrap_or(1e-12))
}

/// SkipLayerNormalization: a normalisation of `input + skip + bias`. Results: the normal form, mean, inverse deviation, sum.
pub(in crate::onnx) fn skip(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, skip, gamma) = (n.operand(0, "input")?, n.operand(1, "skip")?, n.operand(2, "gamma")?);
    let (beta, bias) = (n.optional(3)?, n.optional(4)?);
    let epsilon = epsilon(n)?;
    let sum = residual_sum(n, x, skip, bias)?;
    let axis = n.shape(sum).rank() - 1;
    let y = n.emit_optional(LayerNorm { axis, epsilon }, &[Some(sum), Some(gamma), beta])?;
    let [mean, inverse] = statistics(n, sum, axis, epsilon, DType::F32)?;
    Ok(vec![y, mean, inverse, sum])
}

/// SkipSimplifiedLayerNormalization: the same by the root of the mean square, without `beta`.
pub(in crate::onnx) fn skip_simplified(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, skip, gamma) = (n.operand(0, "input")?, n.operand(1, "skip")?, n.operand(2, "gamma")?);
    let bias = n.optional(3)?;
    let epsilon = epsilon(n)?;
    let sum = residual_sum(n, x, skip, bias)?;
    let axis = n.shape(sum).rank() - 1;
    let (y, root) = rms_of(n, sum, gamma, axis, epsilon, DType::F32)?;
    let [mean, _] = statistics(n, sum, axis, epsilon, DType::F32)?;
    let inverse = n.unary(Unary::Reciprocal, root)?;
    Ok(vec![y, mean, inverse, sum])
}

/// `input + skip + bias`; the residual may lack the batch, or have one for all.
fn residual_sum(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    skip: Value,
    bias: Option<Value>,
) -> Result<Value, NodeFault> {
    if n.shape(x).rank() < 2 {
        return Err(NodeFault::invalid(format!("input must have two axes or three, it is {}", n.ty(x))));
    }
    let mut sum = n.binary(BinaryFn::Add, x, skip)?;
    if n.ty(sum) != n.ty(x) {
        return Err(NodeFault::invalid(format!(
            "skip, {}, does not broadcast to input, {}",
            n.ty(skip),
            n.ty(x)
        )));
    }
    if let Some(bias) = bias {
        sum = along_last(n, sum, bias)?;
    }
    Ok(sum)
}

/// EmbedLayerNormalization: rows of two or three tables, added up and normalised.
///
/// ```text
///   input_ids ───▶ word_embedding ────┐
///   position_ids ▶ position_embedding ┼─ + ─▶ LayerNormalization ─▶ output          embedding_sum is what goes in
///   segment_ids ─▶ segment_embedding ─┘
/// ```
///
/// Its second result counts the ones of each row of the mask.
pub(in crate::onnx) fn embed(n: &mut NodeReader<'_, '_>) -> Results {
    let (ids, segments) = (n.operand(0, "input_ids")?, n.optional(1)?);
    let (words, places) = (n.operand(2, "word_embedding")?, n.operand(3, "position_embedding")?);
    let segment_table = n.optional(4)?;
    let (gamma, beta) = (n.operand(5, "gamma")?, n.operand(6, "beta")?);
    let (mask, positions) = (n.optional(7)?, n.optional(8)?);
    let epsilon = epsilon(n)?;
    let kind = n.attributes.int("mask_index_type")?.unwrap_or(0);
    let shape = n.shape(ids);
    let [batch, len] = shape[..] else {
        return Err(NodeFault::invalid(format!("input_ids must have two axes, their shape is {shape}")));
    };
    let mut sum = gathered(n, words, ids, 0)?;
    let rows = match positions {
        Some(positions) => gathered(n, places, positions, 0)?,
        None if n.shape(places).first().is_some_and(|rows| len <= *rows) => n.part(places, 0, 0, len, 1)?,
        None => {
            return Err(NodeFault::invalid(format!(
                "position_embedding, {}, has no row for each of {len} positions",
                n.ty(places)
            )));
        }
    };
    sum = n.binary(BinaryFn::Add, sum, rows)?;
    match (segments, segment_table) {
        (Some(segments), Some(table)) => {
            let rows = gathered(n, table, segments, 0)?;
            sum = n.binary(BinaryFn::Add, sum, rows)?;
        }
        (None, None) => {}
        _ => return Err(NodeFault::invalid("needs segment_ids and segment_embedding together")),
    }
    let axis = n.shape(sum).rank() - 1;
    let y = n.emit(LayerNorm { axis, epsilon }, &[sum, gamma, beta])?;
    let counted = match (mask, kind) {
        (Some(mask), 0 | 1) => {
            let ones = n.binary_with(BinaryFn::Equal, mask, 1.0)?;
            let ones = n.cast(ones, DType::I32)?;
            n.reduce(ReduceKind::Sum, ones, vec![1], false)?
        }
        (None, 0 | 1) => {
            let zero = n.scalar(DType::I32, 0.0)?;
            n.expand(zero, [batch])?
        }
        (_, other) => return Err(value("mask_index_type", format!("is {other}, supported: 0, 1"))),
    };
    Ok(vec![y, counted, sum])
}
