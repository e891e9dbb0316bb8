//! Graphs, node by node.

use std::collections::BTreeSet;

use nnc_ir::op::*;
use nnc_ir::{DType, Graph, Op, Tensor, TensorType, Value, text};

/// A graph under construction, whose constants have names and short descriptions.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    /// What there is so far.
    pub graph: Graph,
    constants: u32,
    /// Values that no rounding went into: what jumps (comparisons, roundings, sorting) may look at these alone, because elsewhere
    /// two right results may fall on different sides.
    exact: BTreeSet<Value>,
}

impl GraphBuilder {
    /// An input of `f32`.
    pub fn input(&mut self, shape: &[usize]) -> Value {
        self.input_of(DType::F32, shape)
    }

    /// An input of any type.
    pub fn input_of(&mut self, dtype: DType, shape: &[usize]) -> Value {
        let name = format!("x{}", self.graph.inputs().len());
        let value = self.graph.add_input(name, TensorType::new(dtype, shape));
        self.exact.insert(value);
        value
    }

    /// A node.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        let op = op.into();
        let name = format!("{}{}", op.name().to_lowercase(), self.graph.len());
        let exact = keeps_exact(&op) && operands.iter().all(|v| self.is_exact(*v));
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        let id = self.graph.add(name, op, &operands).unwrap_or_else(|error| panic!("{error}"));
        if exact {
            let outputs = 0..self.graph.node(id).outputs.len() as u32;
            self.exact.extend(outputs.map(|output| Value { node: id, output }));
        }
        id.into()
    }

    /// Further results of a node.
    pub fn output(&self, value: Value, output: u32) -> Value {
        Value { node: value.node, output }
    }

    /// Whether no rounding went into a value.
    pub fn is_exact(&self, value: Value) -> bool {
        self.exact.contains(&value) || self.graph.constant(value).is_some()
    }

    /// Says so of a value of which the builder cannot know.
    pub fn is_known_to_be_exact(&mut self, value: Value) {
        self.exact.insert(value);
    }

    /// A constant of elements within `±bound`.
    pub fn constant(&mut self, shape: &[usize], bound: f32) -> Value {
        self.constants += 1;
        // Seeds and bounds that the text form of a graph can show.
        let bound: f32 = format!("{bound:.2e}").parse().unwrap_or(bound);
        let tensor = text::hash(TensorType::f32(shape), self.constants % 255 + 1, bound);
        self.tensor(tensor.unwrap_or_else(|error| panic!("{error}")))
    }

    /// A constant of elements from 0.5 to 1.5: factors, variances.
    pub fn positive(&mut self, shape: &[usize]) -> Value {
        let len: usize = shape.iter().product();
        let start = self.constants as usize * 7;
        let elems: Vec<f32> = (start..start + len).map(|i| 0.5 + (i * 5 % 17) as f32 / 16.0).collect();
        self.tensor(Tensor::new(shape, &elems).unwrap_or_else(|error| panic!("{error}")))
    }

    /// A constant without axes.
    pub fn scalar(&mut self, value: f32) -> Value {
        self.tensor(Tensor::new(Vec::new(), &[value]).unwrap_or_else(|error| panic!("{error}")))
    }

    /// A given constant.
    pub fn tensor(&mut self, tensor: Tensor) -> Value {
        self.constants += 1;
        self.graph.add_constant(format!("c{}", self.constants), tensor)
    }

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> Vec<usize> {
        self.graph.ty(value).shape.to_vec()
    }

    /// The shape of an image.
    pub fn image(&self, value: Value) -> [usize; 4] {
        self.shape(value)[..].try_into().unwrap_or_else(|_| panic!("an image"))
    }

    /// A convolution of any rank.
    pub fn conv(&mut self, x: Value, channels: usize, groups: usize, window: Window, bias: bool) -> Value {
        let c = self.shape(x)[1];
        let taps: usize = window.kernel.iter().product();
        let bound = 1.7 / ((c / groups * taps) as f32).sqrt();
        let w = self.constant(&[&[channels, c / groups], &window.kernel[..]].concat(), bound);
        let conv = Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
        match bias {
            true => {
                let b = self.constant(&[channels], 0.5);
                self.add(conv, &[x, w, b])
            }
            false => self.add(conv, &[x, w]),
        }
    }

    /// The same convolution, with weights and bias that depend on what it reads.
    pub fn with_computed_weights(&mut self, y: Value) -> Value {
        let op = self.graph.node(y.node).op.clone();
        let operands: Vec<Value> = self.graph.operands(y.node).into_iter().flatten().collect();
        let axes = (0..self.shape(operands[0]).len()).collect();
        let mean = self.add(Reduce { kind: ReduceKind::Mean, axes, keep_dims: false }, &operands[..1]);
        let factor = self.add(Unary::Sigmoid, &[mean]);
        let scaled = operands[1..].iter().map(|&own| self.binary(BinaryFn::Mul, own, factor));
        let operands: Vec<Value> = [operands[0]].into_iter().chain(scaled).collect();
        self.add(op, &operands)
    }

    /// A convolution of 1×1.
    pub fn pointwise(&mut self, x: Value, channels: usize) -> Value {
        self.conv(x, channels, 1, square(1, 1, 0), false)
    }

    /// A batch norm with statistics.
    pub fn batch_norm(&mut self, x: Value) -> Value {
        let c = [self.shape(x)[1]];
        let (scale, shift) = (self.positive(&c), self.constant(&c, 0.5));
        let (mean, variance) = (self.constant(&c, 0.5), self.positive(&c));
        self.add(BatchNorm { epsilon: 1e-5 }, &[x, scale, shift, mean, variance])
    }

    /// A pool without anything fused.
    pub fn pool(&mut self, kind: PoolKind, window: Window, ceil_pads: Vec<usize>, x: Value) -> Value {
        let (prologue, epilogue) = (Prologue::default(), Epilogue::default());
        self.add(Pool { kind, window, ceil_pads, prologue, epilogue }, &[x])
    }

    /// A function of two values.
    pub fn binary(&mut self, function: BinaryFn, a: Value, b: Value) -> Value {
        self.add(Binary { function, activation: None }, &[a, b])
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, x: Value, shape: &[usize]) -> Value {
        self.add(Reshape { shape: shape.to_vec() }, &[x])
    }

    /// Axes in another order.
    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Value {
        self.add(Transpose { perm: perm.to_vec() }, &[x])
    }

    /// The channels in two parts.
    pub fn split(&mut self, x: Value, at: usize) -> [Value; 2] {
        let c = self.shape(x)[1];
        let first = self.add(Split { axis: 1, parts: vec![at, c - at] }, &[x]);
        [first, self.output(first, 1)]
    }

    /// The shuffle of ShuffleNet, as exporters write it.
    pub fn shuffle(&mut self, x: Value, groups: usize) -> Value {
        let [n, c, h, w] = self.image(x);
        let y = self.reshape(x, &[n, groups, c / groups, h, w]);
        let y = self.transpose(y, &[0, 2, 1, 3, 4]);
        self.reshape(y, &[n, c, h, w])
    }

    /// As `f32`.
    pub fn float(&mut self, x: Value) -> Value {
        match self.graph.ty(x).dtype {
            DType::F32 => x,
            _ => self.add(Cast { to: DType::F32 }, &[x]),
        }
    }
}

/// Operators whose results are as exact as their operands.
fn keeps_exact(op: &Op) -> bool {
    match op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Concat(_) | Op::Split(_) | Op::Slice(_) | Op::Expand(_) => {
            true
        }
        Op::Pad(_) | Op::Gather(_) | Op::Where(_) | Op::TopK(_) => true,
        // Everybody rounds the same quotient, and the same product.
        Op::Quantize(_) | Op::Dequantize(_) => true,
        Op::Resize(resize) => matches!(resize.mode, ResizeMode::Nearest(_)),
        Op::Reduce(reduce) => matches!(reduce.kind, ReduceKind::Max | ReduceKind::Min),
        Op::GlobalPool(pool) => pool.kind == PoolKind::Max,
        Op::Unary(f) => matches!(f, Unary::Relu | Unary::Clip { .. } | Unary::Neg | Unary::Abs | Unary::Not),
        Op::Binary(b) => matches!(b.function, BinaryFn::Max | BinaryFn::Min),
        Op::Pool(pool) => pool.kind == PoolKind::Max,
        _ => false,
    }
}

/// A square window with the same padding on all sides.
pub fn square(kernel: usize, stride: usize, pad: isize) -> Window {
    Window {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
    }
}
