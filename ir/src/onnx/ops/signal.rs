//! Fourier transforms, as products with a matrix of sines and cosines, and the windows and filters that go with them.
//!
//! ```text
//!   [.., D, .., c] ─ axis to the end ─▶ [rows, D · c] ─ · matrix [D · c, K · 2] ─▶ [rows, K · 2] ─▶ [.., K, .., 2]
//! ```
//!
//! The product is in `f64`: what cancels leaves no more than the rounding of the input.

use std::f64::consts::PI;

use super::{Results, product, reshaped};
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::dtype::dtype;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, number};
use crate::op::elementwise::BinaryFn;
use crate::op::number::from_floats;
use crate::op::{AxisSlice, Binary, Cast, Gather, MatMul, OpError, Slice, Transpose};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Elements of a matrix of sines and cosines, or of a window, at most.
const MOST_ELEMS: usize = 1 << 22;

/// What is transformed into what.
struct Transform {
    /// Elements of the signal.
    length: usize,
    inverse: bool,
    /// Whether a spectrum is stored without its second half, which mirrors the first.
    onesided: bool,
}

impl Transform {
    /// Elements of a stored spectrum.
    fn bins(&self) -> usize {
        if self.onesided { self.length / 2 + 1 } else { self.length }
    }

    /// The matrix `[rows · c, columns · parts]` for an input of `rows` elements of `c` parts (real, imaginary).
    fn matrix(&self, rows: usize, c: usize) -> Result<(Tensor, usize, usize), NodeFault> {
        let real = self.onesided && self.inverse;
        let (columns, parts) = if real { (self.length, 1) } else { (self.bins(), 2) };
        let size =
            rows.checked_mul(c).and_then(|n| n.checked_mul(columns)).and_then(|n| n.checked_mul(parts));
        if size.is_none_or(|size| size > MOST_ELEMS) {
            return Err(NodeFault::unsupported(format!(
                "a Fourier transform of {} elements; its matrix may have {MOST_ELEMS}",
                self.length
            )));
        }
        let n = self.length.max(1);
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let scale = if self.inverse { 1.0 / n as f64 } else { 1.0 };
        let mut elems = Vec::new();
        for row in 0..rows {
            for part in 0..c {
                for column in 0..columns {
                    // The angle within one turn, so that it keeps its digits.
                    let angle = 2.0 * PI * (row as u128 * column as u128 % n as u128) as f64 / n as f64;
                    let (cos, sin) = (scale * angle.cos(), scale * sign * angle.sin());
                    let (to_real, to_imaginary) = if part == 0 { (cos, sin) } else { (-sin, cos) };
                    if real {
                        // Bins that have a mirror image count for it too.
                        let twice = row > 0 && 2 * row < n;
                        elems.push(if twice { 2.0 * to_real } else { to_real });
                    } else {
                        elems.extend([to_real, to_imaginary]);
                    }
                }
            }
        }
        Ok((Tensor::new([rows * c, columns * parts], &elems)?, columns, parts))
    }

    /// The transform of `x` along an axis; its last axis holds the real and, if there is one, the imaginary part.
    fn apply(&self, n: &mut NodeReader<'_, '_>, x: Value, axis: usize) -> Result<Value, NodeFault> {
        let ty = n.ty(x).clone();
        let last = ty.shape.rank() - 1;
        let c = ty.shape[last];
        if !ty.dtype.is_float() || !(1..=2).contains(&c) || axis >= last {
            return Err(NodeFault::invalid(format!(
                "transforms {ty}, expected floats whose last axis is 1 or 2"
            )));
        }
        if self.onesided && (c == 2) != self.inverse {
            return Err(NodeFault::invalid("a one-sided transform is from real numbers, or back to them"));
        }
        let whole = if self.inverse { self.bins() } else { self.length };
        let rows = ty.shape[axis].min(whole);
        let mut x = x;
        if rows < ty.shape[axis] {
            x = n.emit(Slice { axes: vec![AxisSlice { axis, start: 0, step: 1, len: rows }] }, &[x])?;
        }
        let mut order: Vec<usize> = (0..last).filter(|&a| a != axis).collect();
        let outer: Vec<usize> = order.iter().map(|&a| ty.shape[a]).collect();
        order.extend([axis, last]);
        let sorted = order.is_sorted();
        if !sorted {
            x = n.emit(Transpose { perm: order.clone() }, &[x])?;
        }
        let (matrix, columns, parts) = self.matrix(rows, c)?;
        let flat = vec![product(&outer)?, rows.checked_mul(c).ok_or(OpError::Overflow)?];
        let x = reshaped(n, x, flat)?;
        let x = if ty.dtype == DType::F64 { x } else { n.emit(Cast { to: DType::F64 }, &[x])? };
        let matrix = n.add_constant(matrix);
        let y = n.emit(MatMul::default(), &[x, matrix])?;
        let y = if ty.dtype == DType::F64 { y } else { n.emit(Cast { to: ty.dtype }, &[y])? };
        let y = reshaped(n, y, [&outer[..], &[columns, parts]].concat())?;
        if sorted {
            return Ok(y);
        }
        let mut back = vec![0; order.len()];
        order.iter().enumerate().for_each(|(from, &to)| back[to] = from);
        n.emit(Transpose { perm: back }, &[y])
    }
}

/// A constant scalar that is no less than 0.
fn size(n: &mut NodeReader<'_, '_>, index: usize, name: &'static str) -> Result<Option<usize>, NodeFault> {
    let Some(tensor) = n.constant(index, name)? else { return Ok(None) };
    let size = number(&tensor, name)?;
    if (0.0..=MOST_ELEMS as f64).contains(&size) {
        Ok(Some(size as usize))
    } else {
        Err(NodeFault::invalid(format!("operand {name} is {size}, expected 0 to {MOST_ELEMS}")))
    }
}

/// DFT, since 17; since 20 its axis is an operand.
pub(in crate::onnx) fn dft(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let length = size(n, 1, "dft_length")?;
    let rank = n.ty(x).shape.rank();
    let along = if n.opset < 20 {
        n.attributes.int("axis")?.unwrap_or(1)
    } else {
        match n.ints(2, "axis")?.as_deref() {
            None => -2,
            Some([along]) => *along,
            Some(_) => return Err(NodeFault::invalid("operand axis must be a scalar")),
        }
    };
    let along = axis(along, rank)?;
    let inverse = n.attributes.flag("inverse", false)?;
    let onesided = n.attributes.flag("onesided", false)?;
    let extent = n.ty(x).shape[along];
    let default = if inverse && onesided { extent.saturating_sub(1).saturating_mul(2) } else { extent };
    let transform = Transform { length: length.unwrap_or(default), inverse, onesided };
    Ok(vec![transform.apply(n, x, along)?])
}

/// STFT, since 17: transforms of frames that overlap.
pub(in crate::onnx) fn stft(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "signal")?;
    let step = size(n, 1, "frame_step")?.filter(|&step| step > 0);
    let step = step.ok_or_else(|| NodeFault::invalid("operand frame_step must be 1 or more"))?;
    let window = n.optional(2)?;
    let length = size(n, 3, "frame_length")?;
    let onesided = n.attributes.flag("onesided", true)?;
    let shape = n.shape(x);
    let &[_, extent, parts] = &shape[..] else {
        return Err(NodeFault::invalid(format!(
            "the signal has shape {shape}, expected [batch, length, parts]"
        )));
    };
    let of_window = window.and_then(|w| n.ty(w).shape.first().copied());
    let length = length.or(of_window).unwrap_or(extent);
    if length == 0 || length > extent || window.is_some_and(|w| n.ty(w).shape[..] != [length]) {
        return Err(NodeFault::invalid(format!("has frames of {length} elements for a signal of {extent}")));
    }
    let frames = (extent - length) / step + 1;
    if frames.checked_mul(length).is_none_or(|all| all > MOST_ELEMS) {
        return Err(NodeFault::unsupported(format!("{frames} frames of {length} elements")));
    }
    let indices: Vec<i64> =
        (0..frames).flat_map(|f| (0..length).map(move |i| (f * step + i) as i64)).collect();
    let indices = Tensor::new([frames, length], &indices)?;
    let mut x = n.emit(Gather { axis: 1, indices }, &[x])?;
    if let Some(window) = window {
        let window = reshaped(n, window, vec![length, 1])?;
        x = n.emit(Binary { function: BinaryFn::Mul, activation: None }, &[x, window])?;
    }
    let transform = Transform { length, inverse: false, onesided: onesided && parts == 1 };
    Ok(vec![transform.apply(n, x, 2)?])
}

/// The element type that an attribute asks for, `f32` without it.
fn output_type(n: &mut NodeReader<'_, '_>) -> Result<DType, NodeFault> {
    let code = n.attributes.int("output_datatype")?.unwrap_or(1);
    dtype(code).map_err(|what| value("output_datatype", format!("asks for {what}")))
}

/// HannWindow, HammingWindow and BlackmanWindow, since 17.
pub(in crate::onnx) fn window(n: &mut NodeReader<'_, '_>) -> Results {
    let length = size(n, 0, "size")?.ok_or_else(|| NodeFault::invalid("has no size"))?;
    let to = output_type(n)?;
    let turn = if n.attributes.flag("periodic", true)? { length } else { length.saturating_sub(1) };
    // The first terms of a cosine series.
    let terms: &[f64] = match n.op() {
        "HannWindow" => &[0.5, -0.5],
        "HammingWindow" => &[25.0 / 46.0, -21.0 / 46.0],
        _ => &[0.42, -0.5, 0.08],
    };
    let at = |i: usize| {
        let angle = 2.0 * PI * i as f64 / turn.max(1) as f64;
        terms.iter().enumerate().map(|(k, term)| term * (angle * k as f64).cos()).sum()
    };
    let elems: Vec<f64> = (0..length).map(at).collect();
    Ok(vec![n.add_constant(from_floats(TensorType::new(to, [length]), &elems)?)])
}

/// MelWeightMatrix, since 17: triangles between frequencies that lie at equal distances on the mel scale.
pub(in crate::onnx) fn mel_weight_matrix(n: &mut NodeReader<'_, '_>) -> Results {
    let mut operands = Vec::new();
    for (index, name) in ["num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz"]
        .into_iter()
        .enumerate()
    {
        let tensor = n.constant(index, name)?.ok_or(OpError::Missing { index, name })?;
        operands.push(number(&tensor, name)?);
    }
    let &[bands, length, rate, lower, upper] = &operands[..] else { return Ok(Vec::new()) };
    let to = output_type(n)?;
    let sound = (1.0..65536.0).contains(&bands) && (1.0..=MOST_ELEMS as f64).contains(&length) && rate > 0.0;
    let bins = (length / 2.0).floor() as usize + 1;
    let size = bins.checked_mul(bands as usize).filter(|&size| sound && size <= MOST_ELEMS);
    let (Some(size), bands) = (size, bands as usize) else {
        return Err(NodeFault::invalid(format!(
            "{bands} bands of a transform of {length} elements make no sense"
        )));
    };
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (low, high) = (mel(lower), mel(upper));
    let edge = |i: usize| {
        let mel = low + i as f64 * (high - low) / (bands + 2) as f64;
        let hertz = 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
        ((length + 1.0) * hertz / rate).floor()
    };
    let edges: Vec<f64> = (0..bands + 2).map(edge).collect();
    if edges.iter().any(|edge| !(0.0..bins as f64).contains(edge)) {
        return Err(NodeFault::invalid(format!(
            "frequencies {lower} to {upper} lie outside of the transform"
        )));
    }
    let mut elems = vec![0.0; size];
    for band in 0..bands {
        let (left, centre, right) =
            (edges[band] as usize, edges[band + 1] as usize, edges[band + 2] as usize);
        for bin in left..=centre {
            let rising = if centre == left { 1.0 } else { (bin - left) as f64 / (centre - left) as f64 };
            elems[bin * bands + band] = rising;
        }
        for bin in centre..right {
            elems[bin * bands + band] = (right - bin) as f64 / (right - centre) as f64;
        }
    }
    Ok(vec![n.add_constant(from_floats(TensorType::new(to, [bins, bands]), &elems)?)])
}
