//! Steps of a scale, and the operators that do to them what they do to the numbers they stand for.
//!
//! ```text
//!   number = (step − zero) · scale          scale > 0: a larger step is a larger number
//! ```
//!
//! An operator that only moves elements does not mind what they stand for, and one that picks the largest does not mind either, as long as
//! larger ones stay larger. What a Pad puts around is the only element that such an operator has of its own.

use std::ops::Range;

use nnc_ir::op::{
    BinaryFn, Dequantize, GlobalPool, Pad, PadMode, Pool, PoolKind, Quantize, ReduceKind, ResizeMode, Window,
};
use nnc_ir::{DType, Graph, NodeId, Op, Tensor, TensorError, Value};

use super::edit::floats;

/// Scale and zero point that all elements of a value have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grain {
    /// What a step is worth.
    pub scale: f32,
    /// The step that stands for 0.
    pub zero: i32,
    /// The type of steps.
    pub dtype: DType,
}

impl Grain {
    /// That of the steps which a Dequantize reads, or a Quantize makes: one for all, known, and such that numbers go to steps and back
    /// without overflow.
    pub fn of(graph: &Graph, node: NodeId) -> Option<Grain> {
        let steps = match graph.node(node).op {
            Op::Dequantize(_) => graph.operand(node, Dequantize::X)?,
            Op::Quantize(_) => node.into(),
            _ => return None,
        };
        let dtype = graph.ty(steps).dtype;
        let &[scale] = &floats(graph, graph.operand(node, Quantize::SCALE)?)?[..] else { return None };
        let zero = match graph.operand(node, Quantize::ZERO) {
            None => 0,
            Some(zero) => match *integers(graph.constant(zero)?)?.as_slice() {
                [zero] => zero,
                _ => return None,
            },
        };
        (Quantize::steps(dtype) && is_moderate(scale)).then_some(Grain { scale, zero, dtype })
    }

    /// The step of a number, as Quantize has it; `None` for NaN.
    pub fn step(&self, number: f32) -> Option<f64> {
        let (least, most) = range(self.dtype)?;
        let step = f64::from((number / self.scale).round_ties_even()) + f64::from(self.zero);
        (!number.is_nan()).then(|| step.clamp(least.into(), most.into()))
    }

    /// The number that a step stands for.
    pub fn number(&self, step: f64) -> f32 {
        (step - f64::from(self.zero)) as f32 * self.scale
    }

    /// The step that stands for just this number, if there is one.
    pub fn exact_step(&self, number: f32) -> Option<f64> {
        self.step(number).filter(|&step| self.number(step) == number)
    }

    /// Adds scale and zero point to a graph, without axes.
    pub fn add(&self, graph: &mut Graph, name: &str) -> Result<[Value; 2], TensorError> {
        let zero = step_tensor(self.dtype, self.zero)?;
        let scale = graph.add_constant(format!("{name}:scale"), Tensor::new([], &[self.scale])?);
        Ok([scale, graph.add_constant(format!("{name}:zero"), zero)])
    }
}

/// Whether numbers of up to 65535 steps of a scale are normal: then as many steps come back from them.
pub(super) fn is_moderate(scale: f32) -> bool {
    (1e-30..=1e30).contains(&scale)
}

/// A step without axes.
pub(super) fn step_tensor(dtype: DType, step: i32) -> Result<Tensor, TensorError> {
    match dtype {
        DType::I8 => Tensor::new([], &[step as i8]),
        DType::U8 => Tensor::new([], &[step as u8]),
        DType::I16 => Tensor::new([], &[step as i16]),
        _ => Tensor::new([], &[step as u16]),
    }
}

/// The least and the largest step of a type.
fn range(dtype: DType) -> Option<(i32, i32)> {
    match dtype {
        DType::I8 => Some((i8::MIN.into(), i8::MAX.into())),
        DType::U8 => Some((0, u8::MAX.into())),
        DType::I16 => Some((i16::MIN.into(), i16::MAX.into())),
        DType::U16 => Some((0, u16::MAX.into())),
        _ => None,
    }
}

/// The elements of a constant of integers of up to 32 bits.
pub(super) fn integers(tensor: &Tensor) -> Option<Vec<i32>> {
    fn all<T: nnc_ir::tensor::Element + Into<i32>>(tensor: &Tensor) -> Option<Vec<i32>> {
        Some(tensor.elems::<T>().ok()?.iter().map(|&v| v.into()).collect())
    }
    match tensor.dtype() {
        DType::I8 => all::<i8>(tensor),
        DType::U8 => all::<u8>(tensor),
        DType::I16 => all::<i16>(tensor),
        DType::U16 => all::<u16>(tensor),
        DType::I32 => all::<i32>(tensor),
        _ => None,
    }
}

/// The operands of an operator that only moves or chooses elements which are such elements; the others say which.
pub(super) fn elements_of(op: &Op, operands: usize) -> Range<usize> {
    match op {
        Op::Where(_) => 1..operands,
        Op::GatherAt(_) | Op::GatherElements(_) | Op::GatherNd(_) => 0..1,
        _ => 0..operands,
    }
}

/// The operator that does to steps what this one, which only moves elements, does to numbers, and the other way round; `fill` is what
/// becomes of an element that it puts in.
pub(super) fn moving(op: &Op, fill: impl Fn(f64) -> Option<f64>) -> Option<Op> {
    match op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Expand(_) | Op::Slice(_) | Op::Split(_) => Some(op.clone()),
        Op::Concat(_) | Op::ChannelSelect(_) | Op::Where(_) => Some(op.clone()),
        Op::Gather(_) | Op::GatherAt(_) | Op::GatherElements(_) | Op::GatherNd(_) => Some(op.clone()),
        Op::Resize(resize) => {
            (matches!(resize.mode, ResizeMode::Nearest(_)) && resize.crop.is_none()).then(|| op.clone())
        }
        Op::Pad(pad) => {
            let mode = match pad.mode {
                PadMode::Constant(value) => PadMode::Constant(fill(value)?),
                other => other,
            };
            Some(Pad { mode, ..pad.clone() }.into())
        }
        _ => None,
    }
}

/// The operator that does to steps what this node, which picks the largest or the least of elements, does to numbers. Where there is
/// nothing to pick from, the least step is no infinity.
pub(super) fn choosing(graph: &Graph, id: NodeId) -> Option<Op> {
    let op = &graph.node(id).op;
    let shape = &graph.ty(graph.operand(id, 0)?).shape;
    if shape.elems() == 0 || shape.rank() == 0 {
        return None;
    }
    match op {
        Op::Pool(pool)
            if pool.kind == PoolKind::Max && pool.prologue.is_none() && pool.epilogue.is_none() =>
        {
            let positions = &graph.ty(id.into()).shape[2..];
            let some =
                |axis: usize| (0..positions[axis]).all(|p| reads(&pool.window, axis, p, shape[2 + axis]));
            (0..positions.len()).all(some).then(|| op.clone())
        }
        // Of integers, a pool with a window.
        Op::GlobalPool(GlobalPool { kind: PoolKind::Max, prologue, activation: None })
            if prologue.is_none() =>
        {
            let spatial = shape.rank() - 2;
            let window = Window {
                kernel: shape[2..].to_vec(),
                strides: vec![1; spatial],
                dilations: vec![1; spatial],
                pads_begin: vec![0; spatial],
                pads_end: vec![0; spatial],
            };
            let ceil_pads = vec![0; spatial];
            let (kind, prologue, epilogue) = (PoolKind::Max, Default::default(), Default::default());
            Some(Pool { kind, window, ceil_pads, prologue, epilogue }.into())
        }
        Op::Reduce(reduce) if matches!(reduce.kind, ReduceKind::Max | ReduceKind::Min) => Some(op.clone()),
        Op::Binary(binary) => {
            let picks =
                matches!(binary.function, BinaryFn::Max | BinaryFn::Min) && binary.activation.is_none();
            picks.then(|| op.clone())
        }
        _ => None,
    }
}

/// Whether a window at this position has a tap on an axis of this extent.
fn reads(window: &Window, axis: usize, position: usize, extent: usize) -> bool {
    let start = (position * window.strides[axis]) as isize - window.pads_begin[axis];
    let element = |tap: usize| start + (tap * window.dilations[axis]) as isize;
    (0..window.kernel[axis]).any(|tap| (0..extent as isize).contains(&element(tap)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_step_that_quantizing_gives_it_and_is_exact_if_it_comes_back() {
        let grain = Grain { scale: 0.5, zero: 10, dtype: DType::U8 };
        assert_eq!(grain.step(0.75), Some(12.0), "ties to even");
        assert_eq!(grain.step(f32::NEG_INFINITY), Some(0.0));
        assert_eq!(grain.step(f32::NAN), None);
        assert_eq!(grain.exact_step(0.0), Some(10.0));
        assert_eq!(grain.exact_step(-5.0), Some(0.0));
        assert_eq!(grain.exact_step(0.75), None);
        assert_eq!(grain.exact_step(-5.5), None);
    }

    #[test]
    fn as_many_steps_come_back_from_every_moderate_scale() {
        for scale in [1e-30f32, 3.1e-5, 0.1, 1.0 / 3.0, 0.007_843_138, 7.3, 1e30] {
            assert!(is_moderate(scale));
            for dtype in [DType::U8, DType::I8, DType::U16, DType::I16] {
                let grain = Grain { scale, zero: 3, dtype };
                let (least, most) = range(dtype).expect("steps");
                for step in least..=most {
                    let number = grain.number(step.into());
                    assert_eq!(grain.step(number), Some(step.into()), "{scale} {dtype}");
                }
            }
        }
        assert!(![0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40].into_iter().any(is_moderate));
    }

    #[test]
    fn a_window_may_lie_beside_the_picture() {
        let window = Window {
            kernel: vec![2],
            strides: vec![3],
            dilations: vec![2],
            pads_begin: vec![3],
            pads_end: vec![3],
        };
        // Taps on -3 and -1, on 0 and 2, on 3 and 5.
        assert!(!reads(&window, 0, 0, 4));
        assert!(reads(&window, 0, 1, 4));
        assert!(reads(&window, 0, 2, 4));
        assert!(!reads(&window, 0, 2, 3));
    }
}
