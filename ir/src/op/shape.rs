//! Operators that move elements and compute nothing.

use super::{Arithmetic, OpError, Operator, Tensors, Types, check, number, required, strided};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

/// ONNX Reshape, Flatten, Squeeze, Unsqueeze: the same elements in row-major order under another shape. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// The shape, resolved (no 0 or -1 with a meaning).
    pub shape: Vec<usize>,
}

/// ONNX Transpose. Operand: 0 `x`; axis `i` of the result is axis `perm[i]` of `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Transpose {
    /// The permutation.
    pub perm: Vec<usize>,
}

/// ONNX Concat. Operands: any number, equal but for the axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// The axis along which they are put one after another.
    pub axis: usize,
}

/// ONNX Split. Operand: 0 `x`; one result for each part.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The axis.
    pub axis: usize,
    /// Extent of each part.
    pub parts: Vec<usize>,
}

/// The part of one axis that a [`Slice`] takes: elements `start`, `start + step`, … `len` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AxisSlice {
    /// The axis.
    pub axis: usize,
    /// First element.
    pub start: usize,
    /// Distance to the next; may be negative.
    pub step: isize,
    /// How many.
    pub len: usize,
}

/// ONNX Slice (opsets 1 to 13), with bounds resolved. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Sliced axes, ascending; the others stay whole.
    pub axes: Vec<AxisSlice>,
}

/// What a [`Pad`] puts around.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum PadMode {
    Constant(f64),
    Reflect,
    Edge,
    Wrap,
}

/// ONNX Pad (opsets 2 to 21), with pads resolved. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Elements before the first, for each axis; negative ones crop.
    pub begin: Vec<isize>,
    /// Elements after the last, for each axis; negative ones crop.
    pub end: Vec<isize>,
    /// What they are.
    pub mode: PadMode,
}

/// ONNX Expand: broadcasts to a shape. Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Expand {
    /// The shape of the result.
    pub shape: Vec<usize>,
}

/// ONNX Gather with known indices: the result's shape is `x`'s with the axis replaced by the shape of the indices.
/// Operand: 0 `x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
    /// Which elements (`i64`, all in range and not negative).
    pub indices: Tensor,
}

/// Where one channel of a [`ChannelSelect`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelSource {
    /// Which operand.
    pub operand: u32,
    /// Which of its channels.
    pub channel: u32,
}

/// Any composition of concat, split, slice and shuffle along axis 1: channel `i` of the result is channel
/// `sources[i].channel` of operand `sources[i].operand`.
///
/// ```text
///   concat + shuffle + split of ShuffleNet v2:   a b c d | e f g h   ─▶   a e b f  and  c g d h
/// ```
///
/// It moves nothing where the plan can keep a map of channels instead. Operands: any number, equal but for axis 1.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSelect {
    /// One entry for each channel of the result.
    pub sources: Vec<ChannelSource>,
}

/// No arithmetic: all operators of this file.
const MOVES: Arithmetic = Arithmetic { macc: 0, ops: 0 };

impl Operator for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        let y = check::result(x.dtype, self.shape.clone())?;
        if x.shape.checked_elems() != y.shape.checked_elems() {
            return Err(OpError::Mismatch(format!("x of type {x} cannot be reshaped to {}", y.shape)));
        }
        Ok(vec![y])
    }

    fn eval(&self, operands: &Tensors<'_>, _: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![required(operands, 0, "x")?.reshaped(self.shape.clone())?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

impl Operator for Transpose {
    fn name(&self) -> &'static str {
        "Transpose"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        let mut sorted = self.perm.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..x.shape.rank()) {
            return Err(OpError::Mismatch(format!(
                "perm {:?} is no permutation of the axes of x of type {x}",
                self.perm
            )));
        }
        Ok(vec![TensorType::new(x.dtype, self.perm.iter().map(|&a| x.shape[a]).collect::<Vec<_>>())])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let dense = x.shape().strides();
        let strides: Vec<isize> = self.perm.iter().map(|&a| dense[a] as isize).collect();
        let bytes = strided::copy(x.bytes(), y.dtype.bytes(), &y.shape, 0, &strides);
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

/// Checks that all operands are there and have equal types but for the extent of `axis`; returns the first.
fn alike<'a>(operands: &Types<'a>, axis: usize) -> Result<&'a TensorType, OpError> {
    let first = required(operands, 0, "x")?;
    check::axis(axis, &first.shape)?;
    for index in 1..operands.len() {
        let ty = required(operands, index, "x")?;
        let same = ty.dtype == first.dtype
            && ty.shape.rank() == first.shape.rank()
            && ty.shape.iter().zip(first.shape.iter()).enumerate().all(|(a, (x, y))| a == axis || x == y);
        if !same {
            let expected = format!("the type of the first, {first}, in all but axis {axis}");
            return Err(check::unfit(index, "x", ty, expected));
        }
    }
    Ok(first)
}

impl Operator for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        let first = alike(operands, self.axis)?;
        let mut dims = first.shape.to_vec();
        dims[self.axis] = operands
            .iter()
            .flatten()
            .try_fold(0usize, |n, ty| n.checked_add(ty.shape[self.axis]))
            .ok_or(OpError::Overflow)?;
        Ok(vec![check::result(first.dtype, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let [y] = results else { return Ok(Vec::new()) };
        let size = y.dtype.bytes();
        let (outer, _, inner) = strided::around(&y.shape, self.axis);
        let mut bytes = Vec::with_capacity(y.bytes());
        for o in 0..outer {
            for x in operands.iter().flatten() {
                let block = x.shape()[self.axis] * inner * size;
                bytes.extend_from_slice(&x.bytes()[o * block..][..block]);
            }
        }
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

impl Operator for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        check::axis(self.axis, &x.shape)?;
        let sum = self.parts.iter().try_fold(0usize, |n, &p| n.checked_add(p));
        if sum != Some(x.shape[self.axis]) {
            return Err(OpError::Mismatch(format!(
                "parts {:?} do not add up to axis {} of x of type {x}",
                self.parts, self.axis
            )));
        }
        Ok(self
            .parts
            .iter()
            .map(|&part| {
                let mut dims = x.shape.to_vec();
                dims[self.axis] = part;
                TensorType::new(x.dtype, dims)
            })
            .collect())
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let size = x.dtype().bytes();
        let mut start = 0;
        results
            .iter()
            .map(|y| {
                let indices: Vec<Option<usize>> = (start..start + y.shape[self.axis]).map(Some).collect();
                start += y.shape[self.axis];
                let bytes = strided::pick(x.bytes(), size, x.shape(), self.axis, &indices, &[]);
                Ok(Tensor::from_bytes(y.clone(), bytes)?)
            })
            .collect()
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

impl Operator for Slice {
    fn name(&self) -> &'static str {
        "Slice"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        if !self.axes.is_sorted_by(|a, b| a.axis < b.axis) {
            return Err(OpError::mismatch("sliced axes are not ascending"));
        }
        let mut dims = x.shape.to_vec();
        for s in &self.axes {
            check::axis(s.axis, &x.shape)?;
            let last = s.start as i128 + (s.len as i128 - 1) * s.step as i128;
            let extent = dims[s.axis];
            let inside = s.len == 0 || (s.start < extent && (0..extent as i128).contains(&last));
            if s.step == 0 || !inside {
                return Err(OpError::Mismatch(format!(
                    "{} elements from {} in steps of {} are not inside axis {} of x of type {x}",
                    s.len, s.start, s.step, s.axis
                )));
            }
            dims[s.axis] = s.len;
        }
        Ok(vec![check::result(x.dtype, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let dense = x.shape().strides();
        let mut strides: Vec<isize> = dense.iter().map(|&s| s as isize).collect();
        let mut start = 0;
        if y.shape.elems() > 0 {
            for s in &self.axes {
                start += s.start * dense[s.axis];
                // One element needs no step, and its step may be anything.
                strides[s.axis] = if s.len > 1 { dense[s.axis] as isize * s.step } else { 0 };
            }
        }
        if let Some(start) = strided::piece(x.shape(), &y.shape, start, &strides)
            && let Some(piece) = x.piece_in_file(y, start * y.dtype.bytes())
        {
            return Ok(vec![piece]);
        }
        let bytes = strided::copy(x.bytes(), y.dtype.bytes(), &y.shape, start, &strides);
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

impl Pad {
    /// For each element of an axis of the result, which element of `x` it is; `None` where it is the constant.
    ///
    /// Negative pads crop first: what is reflected, repeated or wrapped is what is left.
    pub fn sources(&self, axis: usize, extent: usize) -> impl Iterator<Item = Option<usize>> + Clone + use<> {
        let (begin, end, mode) = (self.begin[axis] as i128, self.end[axis] as i128, self.mode);
        let first = (-begin).max(0);
        let rest = extent as i128 - first + end.min(0);
        (0..(extent as i128 + begin + end).max(0)).map(move |i| {
            let at = i - begin.max(0);
            let inside = match mode {
                PadMode::Constant(_) => (0..rest).contains(&at).then_some(at),
                _ if (0..rest).contains(&at) => Some(at),
                PadMode::Edge => Some(at.clamp(0, rest - 1)),
                PadMode::Wrap => Some(at.rem_euclid(rest)),
                PadMode::Reflect => {
                    let around = at.rem_euclid((2 * (rest - 1)).max(1));
                    Some(around.min(2 * (rest - 1) - around))
                }
            };
            inside.and_then(|at| usize::try_from(first + at).ok())
        })
    }
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        let rank = x.shape.rank();
        if self.begin.len() != rank || self.end.len() != rank {
            return Err(OpError::Mismatch(format!(
                "pads for {} and {} axes, expected {rank} for x of type {x}",
                self.begin.len(),
                self.end.len()
            )));
        }
        let mut dims = Vec::with_capacity(rank);
        for axis in 0..rank {
            let (begin, end) = (self.begin[axis], self.end[axis]);
            let rest = x.shape[axis] as i128 + begin.min(0) as i128 + end.min(0) as i128;
            let extent = rest + begin.max(0) as i128 + end.max(0) as i128;
            let repeats = !matches!(self.mode, PadMode::Constant(_)) && (begin > 0 || end > 0);
            if rest < 0 || (repeats && rest == 0) {
                return Err(OpError::Mismatch(format!(
                    "pads {begin} and {end} leave nothing of axis {axis} of x of type {x}"
                )));
            }
            dims.push(usize::try_from(extent).map_err(|_| OpError::Overflow)?);
        }
        Ok(vec![check::result(x.dtype, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let fill = match self.mode {
            PadMode::Constant(v) => number::from_floats(TensorType::new(y.dtype, []), &[v])?.bytes().to_vec(),
            _ => vec![0; y.dtype.bytes()],
        };
        let mut shape = x.shape().to_vec();
        let mut bytes = x.bytes().to_vec();
        for axis in 0..shape.len() {
            let sources: Vec<Option<usize>> = self.sources(axis, shape[axis]).collect();
            bytes = strided::pick(&bytes, y.dtype.bytes(), &shape, axis, &sources, &fill);
            shape[axis] = sources.len();
        }
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

impl Operator for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        if !check::broadcasts_to(&x.shape, &self.shape) {
            return Err(OpError::Mismatch(format!(
                "x of type {x} does not broadcast to {}",
                Shape::from(&self.shape[..])
            )));
        }
        Ok(vec![check::result(x.dtype, self.shape.clone())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let strides = strided::broadcast_strides(x.shape(), &y.shape);
        let bytes = strided::copy(x.bytes(), y.dtype.bytes(), &y.shape, 0, &strides);
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

impl Operator for Gather {
    fn name(&self) -> &'static str {
        "Gather"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 1)?;
        let x = required(operands, 0, "x")?;
        check::axis(self.axis, &x.shape)?;
        let extent = x.shape[self.axis];
        for &index in self.indices.elems::<i64>()?.iter() {
            if usize::try_from(index).is_ok_and(|i| i < extent) {
                continue;
            }
            return Err(OpError::Mismatch(format!(
                "index {index} is outside axis {} of x of type {x}",
                self.axis
            )));
        }
        let dims = [&x.shape[..self.axis], self.indices.shape(), &x.shape[self.axis + 1..]].concat();
        Ok(vec![check::result(x.dtype, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let x = required(operands, 0, "x")?;
        let [y] = results else { return Ok(Vec::new()) };
        let indices: Vec<Option<usize>> =
            self.indices.elems::<i64>()?.iter().map(|&i| usize::try_from(i).ok()).collect();
        let bytes = strided::pick(x.bytes(), y.dtype.bytes(), x.shape(), self.axis, &indices, &[]);
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

impl Operator for ChannelSelect {
    fn name(&self) -> &'static str {
        "ChannelSelect"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        let first = alike(operands, 1)?;
        for (i, source) in self.sources.iter().enumerate() {
            let channels =
                operands.get(source.operand as usize).copied().flatten().map_or(0, |ty| ty.shape[1]);
            if source.channel as usize >= channels {
                return Err(OpError::Mismatch(format!(
                    "channel {i} of the result is channel {} of operand {}, which has {channels}",
                    source.channel, source.operand
                )));
            }
        }
        let mut dims = first.shape.to_vec();
        dims[1] = self.sources.len();
        Ok(vec![check::result(first.dtype, dims)?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let [y] = results else { return Ok(Vec::new()) };
        let (batch, _, inner) = strided::around(&y.shape, 1);
        let plane = inner * y.dtype.bytes();
        let mut bytes = Vec::with_capacity(y.bytes());
        for n in 0..batch {
            for source in &self.sources {
                let x = required(operands, source.operand as usize, "x")?;
                let at = (n * x.shape()[1] + source.channel as usize) * plane;
                bytes.extend_from_slice(&x.bytes()[at..at + plane]);
            }
        }
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, _: &[TensorType]) -> Arithmetic {
        MOVES
    }
}

#[cfg(test)]
mod tests;
