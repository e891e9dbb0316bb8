//! Attention as ONNX Runtime's optimiser fuses it for transformers.
//!
//! ```text
//!   Attention            input · weights + bias ─▶ Q, K, V ─┐
//!   QAttention           the same product of bytes ─────────┤
//!   MultiHeadAttention   query, key, value + bias ──────────┴▶ Softmax(Q · Kᵀ · scale + mask + bias) · V
//!                                              past ++ K, V ─┘      heads are an axis: [N, heads, S, size]
//! ```
//!
//! What a mask leaves out gets a large negative number (`mask_filter_value`), not −∞: a query that sees nothing sees everything.

use super::activation::along_last;
use super::product::scaled_product;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::onnx::ops::Results;
use crate::onnx::ops::attention::{extents, with_heads, without_heads};
use crate::op::Softmax;
use crate::op::elementwise::BinaryFn;
use crate::types::DType;

/// Attributes that all of them have.
struct Common {
    heads: i64,
    scale: Option<f64>,
    filter: f64,
    causal: bool,
}

impl Common {
    fn read(n: &mut NodeReader<'_, '_>) -> Result<Common, NodeFault> {
        let heads = n.attributes.int("num_heads")?.ok_or_else(|| value("num_heads", "is missing"))?;
        let scale = n.attributes.float("scale")?.filter(|scale| *scale != 0.0).map(f64::from);
        let filter = f64::from(n.attributes.float("mask_filter_value")?.unwrap_or(-10_000.0));
        let causal = n.attributes.flag("unidirectional", false)?;
        if n.attributes.flag("do_rotary", false)? {
            return Err(NodeFault::unsupported("rotary embeddings inside of it (attribute \"do_rotary\")"));
        }
        n.attributes.ignore("rotary_embedding_dim");
        if n.attributes.flag("past_present_share_buffer", false)? {
            return Err(NodeFault::unsupported(
                "one buffer for past and present (attribute \"past_present_share_buffer\"); export without it",
            ));
        }
        Ok(Common { heads, scale, filter, causal })
    }
}

/// What is looked for, where, and what is found there: `[N, heads, S, size]`.
struct Qkv {
    q: Value,
    k: Value,
    v: Value,
}

impl Qkv {
    /// From three values with their heads side by side.
    fn with_heads(n: &mut NodeReader<'_, '_>, [q, k, v]: [Value; 3], heads: i64) -> Result<Qkv, NodeFault> {
        let heads = Some(heads);
        Ok(Qkv {
            q: with_heads(n, q, heads, "query")?,
            k: with_heads(n, k, heads, "key")?,
            v: with_heads(n, v, heads, "value")?,
        })
    }

    /// `[N, S, heads · size]`.
    fn attend(
        &self,
        n: &mut NodeReader<'_, '_>,
        common: &Common,
        mask: Option<Value>,
        bias: Option<Value>,
        past: usize,
    ) -> Result<Value, NodeFault> {
        let [batch, _, queries, size] = extents(n, self.q, "query")?;
        let keys = extents(n, self.k, "key")?[2];
        let scale = common.scale.unwrap_or(1.0 / (size as f64).sqrt());
        let turned = n.transpose(self.k, &[0, 1, 3, 2])?;
        let mut scores = n.mat_mul(self.q, turned)?;
        scores = n.binary_with(BinaryFn::Mul, scores, scale)?;
        if let Some(mask) = mask {
            let seen = seen(n, mask, batch, keys)?;
            let dtype = n.dtype(scores);
            let (zero, filter) = (n.scalar(dtype, 0.0)?, n.scalar(dtype, common.filter)?);
            let added = n.choose(seen, zero, filter)?;
            scores = n.binary(BinaryFn::Add, scores, added)?;
        }
        if let Some(bias) = bias {
            scores = n.binary(BinaryFn::Add, scores, bias)?;
        }
        if common.causal {
            let rows = n.counting(DType::I64, [queries, 1])?;
            let rows = n.binary_with(BinaryFn::Add, rows, past as f64)?;
            let columns = n.counting(DType::I64, [1, keys])?;
            let before = n.binary(BinaryFn::LessOrEqual, columns, rows)?;
            let never = n.scalar(n.dtype(scores), f64::NEG_INFINITY)?;
            scores = n.choose(before, scores, never)?;
        }
        let shares = n.emit(Softmax { axis: 3 }, &[scores])?;
        let y = n.mat_mul(shares, self.v)?;
        without_heads(n, y)
    }
}

/// Which keys queries see, broadcasting to `[N, heads, S, T]`: from numbers of keys, their ends and starts, or a number for each key.
fn seen(n: &mut NodeReader<'_, '_>, mask: Value, batch: usize, keys: usize) -> Result<Value, NodeFault> {
    let shape = n.shape(mask);
    match shape[..] {
        [lens] if lens == batch => {
            let ends = n.reshape(mask, [batch, 1, 1, 1])?;
            let places = n.counting(n.dtype(mask), [1, 1, 1, keys])?;
            n.binary(BinaryFn::Less, places, ends)
        }
        [both] if both == 2 * batch => {
            let (ends, starts) = (n.part(mask, 0, 0, batch, 1)?, n.part(mask, 0, batch, batch, 1)?);
            let (ends, starts) = (n.reshape(ends, [batch, 1, 1, 1])?, n.reshape(starts, [batch, 1, 1, 1])?);
            let places = n.counting(n.dtype(mask), [1, 1, 1, keys])?;
            let ended = n.binary(BinaryFn::Less, places, ends)?;
            let begun = n.binary(BinaryFn::GreaterOrEqual, places, starts)?;
            n.binary(BinaryFn::And, ended, begun)
        }
        [rows, columns] if rows == batch && columns == keys => {
            let seen = n.binary_with(BinaryFn::Greater, mask, 0.0)?;
            n.reshape(seen, [batch, 1, 1, keys])
        }
        [rows, queries, columns] if rows == batch && columns == keys => {
            let seen = n.binary_with(BinaryFn::Greater, mask, 0.0)?;
            n.reshape(seen, [batch, 1, queries, keys])
        }
        _ => Err(NodeFault::unsupported(format!(
            "a mask of shape {shape}; read are [{batch}], [{}], [{batch}, {keys}] and [{batch}, queries, {keys}]",
            2 * batch
        ))),
    }
}

/// Attention: `input · weights + bias` has queries, keys and values side by side.
pub(in crate::onnx) fn attention(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, weights, bias) = (n.operand(0, "input")?, n.operand(1, "weights")?, n.optional(2)?);
    let (mask, past, added) = (n.optional(3)?, n.optional(4)?, n.optional(5)?);
    if n.is_given(6) {
        return Err(NodeFault::unsupported("a length of the past (operand 6, past_sequence_length)"));
    }
    let sizes = n.attributes.ints("qkv_hidden_sizes")?;
    let all = n.mat_mul(x, weights)?;
    let all = match bias {
        Some(bias) => along_last(n, all, bias)?,
        None => all,
    };
    packed(n, all, sizes, mask, past, added)
}

/// QAttention: the same of bytes, whose product is scaled before the bias is added.
pub(in crate::onnx) fn quantised(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, weights, bias) = (n.operand(0, "input")?, n.operand(1, "weight")?, n.operand(2, "bias")?);
    let (x_scale, w_scale) = (n.operand(3, "input_scale")?, n.operand(4, "weight_scale")?);
    let (mask, x_zero, w_zero, past) = (n.optional(5)?, n.optional(6)?, n.optional(7)?, n.optional(8)?);
    let all = scaled_product(n, [x, weights], [x_scale, w_scale], [x_zero, w_zero])?;
    let all = along_last(n, all, bias)?;
    packed(n, all, None, mask, past, None)
}

fn packed(
    n: &mut NodeReader<'_, '_>,
    all: Value,
    sizes: Option<&[i64]>,
    mask: Option<Value>,
    past: Option<Value>,
    added: Option<Value>,
) -> Results {
    let common = Common::read(n)?;
    let shape = n.shape(all);
    let [_, _, width] = shape[..] else {
        return Err(NodeFault::invalid(format!("input must have three axes, the product has shape {shape}")));
    };
    let sizes: Vec<usize> = match sizes {
        Some(sizes) => sizes.iter().filter_map(|size| usize::try_from(*size).ok()).collect(),
        None => vec![width / 3; 3],
    };
    if sizes.len() != 3 || sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size)) != Some(width) {
        return Err(NodeFault::invalid(format!(
            "{width} columns of weights are no queries, keys and values of {sizes:?}"
        )));
    }
    let q = n.part(all, 2, 0, sizes[0], 1)?;
    let k = n.part(all, 2, sizes[0], sizes[1], 1)?;
    let v = n.part(all, 2, sizes[0] + sizes[1], sizes[2], 1)?;
    let mut parts = Qkv::with_heads(n, [q, k, v], common.heads)?;
    let mut before = 0;
    if let Some(past) = past {
        let ty = n.shape(past);
        let [2, batch, heads, len, size] = ty[..] else {
            return Err(NodeFault::invalid(format!(
                "past must have shape [2, N, heads, P, size], it is {ty}"
            )));
        };
        before = len;
        for (index, part) in [&mut parts.k, &mut parts.v].into_iter().enumerate() {
            let old = n.part(past, 0, index, 1, 1)?;
            let old = n.reshape(old, [batch, heads, len, size])?;
            *part = n.concat(2, &[old, *part])?;
        }
    }
    let y = parts.attend(n, &common, mask, added, before)?;
    let mut results = vec![y];
    if n.output_count() > 1 {
        let mut both = Vec::new();
        for part in [parts.k, parts.v] {
            let shape = n.shape(part).to_vec();
            both.push(n.reshape(part, [&[1], &shape[..]].concat())?);
        }
        results.push(n.concat(0, &both)?);
    }
    Ok(results)
}

/// MultiHeadAttention.
///
/// Keys and values come side by side, with heads as an axis already, or packed: `key` as `[N, T, heads, 2, size]`, or all
/// three in `query` as `[N, S, heads, 3, size]`.
pub(in crate::onnx) fn multi_head(n: &mut NodeReader<'_, '_>) -> Results {
    let (query, key, found) = (n.operand(0, "query")?, n.optional(1)?, n.optional(2)?);
    let (bias, mask, added) = (n.optional(3)?, n.optional(4)?, n.optional(5)?);
    let past = [n.optional(6)?, n.optional(7)?];
    if n.is_given(8) || n.is_given(9) {
        return Err(NodeFault::unsupported(
            "a cache in a buffer of its own (operands 8 and 9); export with past and present of real lengths",
        ));
    }
    let common = Common::read(n)?;
    let mut qkv: Vec<Value> = match (key, found) {
        (None, None) => unpacked(n, query, 3)?,
        (Some(key), None) => [vec![query], unpacked(n, key, 2)?].concat(),
        (Some(key), Some(found)) => vec![query, key, found],
        (None, Some(_)) => return Err(NodeFault::invalid("has values without keys")),
    };
    if let Some(bias) = bias {
        let widths: Vec<usize> = qkv.iter().map(|part| hidden(n, *part)).collect();
        let mut start = 0;
        for (part, width) in qkv.iter_mut().zip(widths) {
            let own = n.part(bias, 0, start, width, 1)?;
            start += width;
            // Keys with heads are those of an encoder, whose bias was added when they were made.
            if n.shape(*part).rank() == 3 {
                *part = along_last(n, *part, own)?;
            }
        }
    }
    let [q, k, v] = qkv[..] else {
        return Err(NodeFault::invalid("needs queries, keys and values"));
    };
    let mut parts = Qkv::with_heads(n, [q, k, v], common.heads)?;
    let mut before = 0;
    match past {
        [Some(keys), Some(values)] => {
            before = extents(n, keys, "past_key")?[2];
            parts.k = n.concat(2, &[keys, parts.k])?;
            parts.v = n.concat(2, &[values, parts.v])?;
        }
        [None, None] => {}
        _ => return Err(NodeFault::invalid("needs past_key and past_value together")),
    }
    let y = parts.attend(n, &common, mask, added, before)?;
    Ok(vec![y, parts.k, parts.v])
}

/// Elements of a position, of all heads.
fn hidden(n: &NodeReader<'_, '_>, part: Value) -> usize {
    match n.shape(part)[..] {
        [_, _, width] => width,
        [_, heads, _, size] => heads * size,
        _ => 0,
    }
}

/// `[N, S, heads, count, size]` as so many values `[N, S, heads · size]`.
fn unpacked(n: &mut NodeReader<'_, '_>, x: Value, count: usize) -> Result<Vec<Value>, NodeFault> {
    let shape = n.shape(x);
    let [batch, len, heads, inner, size] = shape[..] else {
        return Err(NodeFault::invalid(format!(
            "has one packed operand, which must have five axes, not {shape}"
        )));
    };
    if inner != count {
        return Err(NodeFault::invalid(format!(
            "{count} parts are packed in axis 3, not {inner} of {shape}"
        )));
    }
    let mut parts = Vec::new();
    for index in 0..count {
        let part = n.part(x, 3, index, 1, 1)?;
        parts.push(n.reshape(part, [batch, len, crate::onnx::ops::product(&[heads, size])?])?);
    }
    Ok(parts)
}
