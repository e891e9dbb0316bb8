//! Attention and what comes with it: rotary embeddings, causal convolutions with a state, gates.

use super::Results;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::dtype::dtype;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, integers};
use crate::op::elementwise::BinaryFn;
use crate::op::{Conv, Epilogue, Gather, OpError, Prologue, ReduceKind, Softmax, Unary, Window};
use crate::tensor::Tensor;
use crate::types::DType;

/// Attention, since 23, as the function that ONNX defines it to be.
///
/// ```text
///   Q · √scale ─┐
///              MatMul ─▶ softcap ─▶ + bias ─▶ Softmax ─▶ MatMul ─▶ Y       heads are an axis: [N, heads, S, size]
///   past ++ K ─┘                                           │
///   past ++ V ─────────────────────────────────────────────┘
/// ```
///
/// Mask, causal frontier, window and number of valid keys all add to the bias; a query that sees no key gives 0.
pub(in crate::onnx) fn attention(n: &mut NodeReader<'_, '_>) -> Results {
    let (q, k, v) = (n.operand(0, "Q")?, n.operand(1, "K")?, n.operand(2, "V")?);
    let (mask, past_k, past_v) = (n.optional(3)?, n.optional(4)?, n.optional(5)?);
    let valid = if n.opset >= 24 { n.optional(6)? } else { None };
    let flat = n.ty(q).shape.rank() == 3;
    let query_heads = n.attributes.int("q_num_heads")?;
    let key_heads = n.attributes.int("kv_num_heads")?;
    let q = with_heads(n, q, query_heads, "Q")?;
    let k = with_heads(n, k, key_heads, "K")?;
    let v = with_heads(n, v, key_heads, "V")?;
    let (present_k, present_v) = match (past_k, past_v) {
        (Some(past_k), Some(past_v)) => (n.concat(2, &[past_k, k])?, n.concat(2, &[past_v, v])?),
        (None, None) => (k, v),
        _ => return Err(NodeFault::invalid("needs past_key and past_value together")),
    };
    let [_, heads, queries, size] = extents(n, q, "Q")?;
    let [_, _, keys, _] = extents(n, present_k, "K")?;
    let scale = n.attributes.float("scale")?.map_or(1.0 / (size as f64).sqrt(), f64::from);
    let softcap = n.attributes.float("softcap")?.map_or(0.0, f64::from);
    let exposed = n.attributes.int("qk_matmul_output_mode")?.unwrap_or(0);
    let precision = match n.attributes.int("softmax_precision")? {
        Some(code) => dtype(code).map_err(|what| value("softmax_precision", format!("asks for {what}")))?,
        None => n.dtype(q),
    };

    let repeated = (repeat_heads(n, present_k, heads)?, repeat_heads(n, present_v, heads)?);
    // Half of it on each side, as ONNX says: half floats round both.
    let root = scale.sqrt();
    let scaled = n.binary_with(BinaryFn::Mul, q, root)?;
    let turned = n.transpose(repeated.0, &[0, 1, 3, 2])?;
    let turned = n.binary_with(BinaryFn::Mul, turned, root)?;
    let raw = n.mat_mul(scaled, turned)?;
    let mut capped = raw;
    if softcap > 0.0 {
        capped = n.binary_with(BinaryFn::Div, capped, softcap)?;
        capped = n.unary(Unary::Tanh, capped)?;
        capped = n.binary_with(BinaryFn::Mul, capped, softcap)?;
    }
    let sight =
        Sight { queries, keys, past: if past_k.is_some() { Past::Cache(k) } else { Past::of(valid) } };
    let bias = bias(n, n.dtype(q), mask, valid, &sight)?;
    let biased = match bias {
        Some(bias) => n.binary(BinaryFn::Add, capped, bias)?,
        None => capped,
    };
    let precise = n.cast(biased, precision)?;
    let mut shares = n.emit(Softmax { axis: 3 }, &[precise])?;
    if let Some(bias) = bias {
        let last = n.ty(bias).shape.rank() - 1;
        let best = n.reduce(ReduceKind::Max, bias, vec![last], true)?;
        let blind = n.binary_with(BinaryFn::Equal, best, f64::NEG_INFINITY)?;
        let nothing = n.scalar(precision, 0.0)?;
        shares = n.choose(blind, nothing, shares)?;
    }
    let shares = n.cast(shares, n.dtype(q))?;
    let y = n.mat_mul(shares, repeated.1)?;
    let y = if flat { without_heads(n, y)? } else { y };
    let fourth = match exposed {
        0 => raw,
        1 => capped,
        2 => biased,
        3 => shares,
        other => return Err(value("qk_matmul_output_mode", format!("must be 0 to 3, it is {other}"))),
    };
    Ok(vec![y, present_k, present_v, fourth])
}

/// The four extents of a value with an axis of heads.
pub(super) fn extents(n: &NodeReader<'_, '_>, x: Value, name: &str) -> Result<[usize; 4], NodeFault> {
    let shape = n.shape(x);
    <[usize; 4]>::try_from(&shape[..])
        .map_err(|_| NodeFault::invalid(format!("{name} must have rank 3 or 4, its shape is {shape}")))
}

/// `[N, S, heads · size]` as `[N, heads, S, size]`; values of rank 4 are so already.
pub(super) fn with_heads(
    n: &mut NodeReader<'_, '_>,
    x: Value,
    heads: Option<i64>,
    name: &'static str,
) -> Result<Value, NodeFault> {
    let shape = n.shape(x);
    let [batch, len, hidden] = shape[..] else {
        return extents(n, x, name).map(|_| x);
    };
    let heads = heads.and_then(|h| usize::try_from(h).ok()).filter(|h| *h > 0 && hidden.is_multiple_of(*h));
    let heads = heads.ok_or_else(|| {
        NodeFault::invalid(format!(
            "the {hidden} elements of {name} need a number of heads that divides them"
        ))
    })?;
    let split = n.reshape(x, [batch, len, heads, hidden / heads])?;
    n.transpose(split, &[0, 2, 1, 3])
}

pub(super) fn without_heads(n: &mut NodeReader<'_, '_>, x: Value) -> Result<Value, NodeFault> {
    let [batch, heads, len, size] = extents(n, x, "Y")?;
    let turned = n.transpose(x, &[0, 2, 1, 3])?;
    n.reshape(turned, [batch, len, super::product(&[heads, size])?])
}

/// Each head of the keys or values as often as there are queries for it.
fn repeat_heads(n: &mut NodeReader<'_, '_>, x: Value, wanted: usize) -> Result<Value, NodeFault> {
    let [batch, heads, len, size] = extents(n, x, "K")?;
    if heads == wanted {
        return Ok(x);
    }
    if heads == 0 || !wanted.is_multiple_of(heads) {
        return Err(NodeFault::invalid(format!("{heads} heads of keys do not divide {wanted} of queries")));
    }
    let apart = n.reshape(x, [batch, heads, 1, len, size])?;
    let repeated = n.expand(apart, [batch, heads, wanted / heads, len, size])?;
    n.reshape(repeated, [batch, wanted, len, size])
}

/// Which keys a query may see.
struct Sight {
    queries: usize,
    keys: usize,
    past: Past,
}

/// How many keys there are before the first query's own.
enum Past {
    None,
    /// A cache comes before these keys.
    Cache(Value),
    /// All keys are given, so many are valid, and the last of them are the queries' own.
    Valid(Value),
}

impl Past {
    fn of(valid: Option<Value>) -> Past {
        valid.map_or(Past::None, Past::Valid)
    }
}

/// What is added to the products: 0 or -∞, or the mask; `None` when every query sees all keys.
fn bias(
    n: &mut NodeReader<'_, '_>,
    dtype: DType,
    mask: Option<Value>,
    valid: Option<Value>,
    sight: &Sight,
) -> Result<Option<Value>, NodeFault> {
    let causal = n.attributes.flag("is_causal", false)?;
    let mut window = [("left_window_size", -1), ("right_window_size", -1)];
    for (name, size) in &mut window {
        *size = n.attributes.int(name)?.unwrap_or(-1);
        if *size < -1 {
            return Err(value(name, format!("must be -1 or more, it is {size}")));
        }
    }
    let [(_, left), (_, right)] = window;
    let mut allowed: Vec<Value> = Vec::new();
    if causal || left >= 0 || right >= 0 {
        let ahead = ahead(n, sight)?;
        let mut bounds = Vec::new();
        bounds.extend(causal.then_some((BinaryFn::LessOrEqual, 0)));
        bounds.extend((right >= 0).then_some((BinaryFn::LessOrEqual, right)));
        bounds.extend((left >= 0).then_some((BinaryFn::GreaterOrEqual, -left)));
        for (function, bound) in bounds {
            let bound = n.integer(bound)?;
            allowed.push(n.binary(function, ahead, bound)?);
        }
    }
    if let Some(valid) = valid {
        let lens = per_batch(n, valid)?;
        let keys = n.counting(DType::I64, [1, 1, 1, sight.keys])?;
        allowed.push(n.binary(BinaryFn::Less, keys, lens)?);
    }
    let mut added = None;
    if let Some(mask) = mask {
        let boolean = n.dtype(mask) == DType::Bool;
        let mask = full_mask(n, mask, sight.keys)?;
        match boolean {
            true => allowed.push(mask),
            false => added = Some(n.cast(mask, dtype)?),
        }
    }
    let mut all = None;
    for one in allowed {
        all = Some(match all {
            None => one,
            Some(all) => n.binary(BinaryFn::And, all, one)?,
        });
    }
    let Some(all) = all else {
        return Ok(added);
    };
    let (zero, never) = (n.scalar(dtype, 0.0)?, n.scalar(dtype, f64::NEG_INFINITY)?);
    let bias = n.choose(all, zero, never)?;
    match added {
        Some(mask) => n.binary(BinaryFn::Add, bias, mask).map(Some),
        None => Ok(Some(bias)),
    }
}

/// How far each key is ahead of each query: `key − (query + past)`.
fn ahead(n: &mut NodeReader<'_, '_>, sight: &Sight) -> Result<Value, NodeFault> {
    let queries = n.counting(DType::I64, [sight.queries, 1])?;
    let keys = n.counting(DType::I64, [1, sight.keys])?;
    let ahead = n.binary(BinaryFn::Sub, keys, queries)?;
    let past = match sight.past {
        Past::None => return Ok(ahead),
        Past::Cache(own) => {
            let own = extents(n, own, "K")?[2];
            n.scalar(DType::I64, sight.keys.saturating_sub(own) as f64)?
        }
        Past::Valid(valid) => {
            let lens = per_batch(n, valid)?;
            n.binary_with(BinaryFn::Sub, lens, sight.queries as f64)?
        }
    };
    n.binary(BinaryFn::Sub, ahead, past)
}

fn per_batch(n: &mut NodeReader<'_, '_>, valid: Value) -> Result<Value, NodeFault> {
    let batch = super::product(&n.shape(valid))?;
    n.reshape(valid, [batch, 1, 1, 1])
}

/// A mask that covers all keys: what it leaves out is not seen.
fn full_mask(n: &mut NodeReader<'_, '_>, mask: Value, keys: usize) -> Result<Value, NodeFault> {
    let shape = n.shape(mask);
    let Some((&covered, before)) = shape.split_last() else {
        return Err(NodeFault::invalid("attn_mask must not be a scalar"));
    };
    if covered >= keys {
        return Ok(mask);
    }
    let dtype = n.dtype(mask);
    let unseen = if dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    let unseen = n.scalar(dtype, unseen)?;
    let mut rest = before.to_vec();
    rest.push(keys - covered);
    let rest = n.expand(unseen, rest)?;
    n.concat(shape.rank() - 1, &[mask, rest])
}

/// RotaryEmbedding, since 23: pairs of elements are points that turn by an angle that grows with their position.
///
/// ```text
///   x1, x2 ─▶ cos · x1 − sin · x2,  sin · x1 + cos · x2        halves of the first elements, or every other one
/// ```
pub(in crate::onnx) fn rotary_embedding(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let caches = [n.operand(1, "cos_cache")?, n.operand(2, "sin_cache")?];
    let positions = n.constant(3, "position_ids")?;
    let flat = n.ty(x).shape.rank() == 3;
    let heads = n.attributes.int("num_heads")?.filter(|h| *h != 0);
    let interleaved = n.attributes.flag("interleaved", false)?;
    let x = with_heads(n, x, heads, "X")?;
    let [batch, _, len, size] = extents(n, x, "X")?;
    let turned = match n.attributes.int("rotary_embedding_dim")? {
        None | Some(0) => size,
        Some(dim) => usize::try_from(dim)
            .ok()
            .filter(|dim| *dim <= size)
            .ok_or_else(|| value("rotary_embedding_dim", format!("is {dim}, a head has {size} elements")))?,
    };
    if !turned.is_multiple_of(2) {
        return Err(NodeFault::invalid(format!("{turned} elements do not make pairs")));
    }
    let half = turned / 2;
    let mut angles = Vec::new();
    for mut cache in caches {
        if let Some(positions) = &positions {
            let rows = n.shape(cache).first().copied().unwrap_or(0);
            let list = integers(positions, "position_ids")?;
            if let Some(row) = list.iter().find(|row| usize::try_from(**row).map_or(true, |row| row >= rows))
            {
                return Err(NodeFault::invalid(format!("position {row} is outside a cache of {rows} rows")));
            }
            let indices = Tensor::new(positions.shape().clone(), &list)?;
            cache = n.emit(Gather { axis: 0, indices }, &[cache])?;
        }
        if n.shape(cache)[..] != [batch, len, half] {
            return Err(NodeFault::invalid(format!(
                "the angles have shape {}, needed are {batch}x{len}x{half}",
                n.shape(cache)
            )));
        }
        angles.push(n.reshape(cache, [batch, 1, len, half])?);
    }
    let (cos, sin) = (angles[0], angles[1]);
    let (second, step) = if interleaved { (1, 2) } else { (half, 1) };
    let (x1, x2) = (n.part(x, 3, 0, half, step)?, n.part(x, 3, second, half, step)?);
    let mut product = |a, b| n.binary(BinaryFn::Mul, a, b);
    let (cos1, sin1, cos2, sin2) =
        (product(cos, x1)?, product(sin, x1)?, product(cos, x2)?, product(sin, x2)?);
    let (real, imaginary) = (n.binary(BinaryFn::Sub, cos1, sin2)?, n.binary(BinaryFn::Add, sin1, cos2)?);
    let mut y = if interleaved {
        let heads = n.ty(x).shape[1];
        let real = n.reshape(real, [batch, heads, len, half, 1])?;
        let imaginary = n.reshape(imaginary, [batch, heads, len, half, 1])?;
        let pairs = n.concat(4, &[real, imaginary])?;
        n.reshape(pairs, [batch, heads, len, turned])?
    } else {
        n.concat(3, &[real, imaginary])?
    };
    if turned < size {
        let rest = n.part(x, 3, turned, size - turned, 1)?;
        y = n.concat(3, &[y, rest])?;
    }
    Ok(vec![if flat { without_heads(n, y)? } else { y }])
}

/// CausalConvWithState, since 27: a depthwise convolution over the past and the present, and the past of the next call.
pub(in crate::onnx) fn causal_conv(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, w, b, past) = (n.operand(0, "input")?, n.operand(1, "weight")?, n.optional(2)?, n.optional(3)?);
    let silu =
        n.attributes.choice("activation", false, &[("none", false), ("silu", true), ("swish", true)])?;
    let (shape, kernel) = (n.shape(x), n.shape(w));
    let ([_, channels, len], [_, 1, taps]) = (&shape[..], &kernel[..]) else {
        return Err(NodeFault::invalid(format!(
            "input must be [N, C, L] and weight [C, 1, k], they are {shape} and {kernel}"
        )));
    };
    let (channels, len, taps) = (*channels, *len, *taps);
    let before =
        taps.checked_sub(1).ok_or_else(|| NodeFault::invalid("a kernel of 0 taps makes no sense"))?;
    let padded = match past {
        Some(past) => n.concat(2, &[past, x])?,
        None => n.pad(x, 2, before, 0, 0.0)?,
    };
    let window = Window {
        kernel: vec![taps],
        strides: vec![1],
        dilations: vec![1],
        pads_begin: vec![0],
        pads_end: vec![0],
    };
    let op = Conv { window, groups: channels, prologue: Prologue::default(), epilogue: Epilogue::default() };
    let mut y = n.emit_optional(op, &[Some(padded), Some(w), b])?;
    if silu {
        y = n.unary(Unary::Silu, y)?;
    }
    let present = n.part(padded, 2, len, before, 1)?;
    Ok(vec![y, present])
}

/// SwiGLU, since 28: `swish(A) · B`.
pub(in crate::onnx) fn swiglu(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b) = (n.operand(0, "A")?, n.operand(1, "B")?);
    if n.ty(a) != n.ty(b) {
        let what = format!("operand 1 (B) has type {}, expected {}", n.ty(b), n.ty(a));
        return Err(NodeFault::Op(OpError::mismatch(what)));
    }
    let alpha = n.attributes.float("alpha")?.unwrap_or(1.0);
    let gate = super::activation::swish_of(n, a, alpha)?;
    Ok(vec![n.binary(BinaryFn::Mul, gate, b)?])
}
