//! What is known of the numbers in small tensors: how many there are of something, and what nodes compute of it.
//!
//! Nodes are looked at backwards from the tensor in question. Arithmetic goes over to [`Amount`]s; what only moves elements is evaluated
//! with labels in place of elements; whatever else there is becomes an element of its own, of which the range may be known.

use std::collections::BTreeMap;

use super::MOST_WEIGHT;
use super::amount::{Amount, Formula, Range};
use crate::graph::{Graph, Value};
use crate::op::{BinaryFn, Op, ReduceKind, Unary};
use crate::tensor::Tensor;
use crate::types::{DType, Shape};

/// Elements of tensors that are looked at one by one.
const MOST_ELEMS: usize = 64;
/// Elements of constants whose range is looked for.
const MOST_RANGED: usize = 1 << 12;
/// Nodes that are looked at behind each other.
const DEPTH: usize = 48;

/// The elements of a tensor; `None` for one that may be no whole number.
pub(super) type Amounts = Vec<Option<Amount>>;

/// What has been found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    numbers: BTreeMap<Value, Amounts>,
    ranges: BTreeMap<Value, Range>,
}

/// The integers that elements of a type can be without rounding.
fn exact(dtype: DType) -> Range {
    let symmetric = |n: i64| Range::new(-n, n);
    match dtype {
        DType::Bool => Range::BOOL,
        DType::F64 => symmetric(1 << 53),
        DType::F32 => symmetric(1 << 24),
        DType::F16 => symmetric(1 << 11),
        DType::BF16 => symmetric(1 << 8),
        DType::I8 => Range::new(i8::MIN.into(), i8::MAX.into()),
        DType::U8 => Range::new(0, u8::MAX.into()),
        DType::I16 => Range::new(i16::MIN.into(), i16::MAX.into()),
        DType::U16 => Range::new(0, u16::MAX.into()),
        DType::I32 => Range::new(i32::MIN.into(), i32::MAX.into()),
        DType::U32 => Range::new(0, u32::MAX.into()),
        DType::I64 => symmetric(1 << 62),
        DType::U64 => Range::new(0, 1 << 62),
    }
}

/// What a type alone says of its elements.
fn of_type(dtype: DType) -> Range {
    match dtype {
        DType::I64 => Range::ANY,
        DType::U64 => Range::new(0, i64::MAX),
        _ if dtype.is_float() => Range::ANY,
        _ => exact(dtype),
    }
}

/// The whole numbers of a constant.
fn constants(tensor: &Tensor) -> Option<Vec<Option<i64>>> {
    let numbers = crate::onnx::node::numbers(tensor).ok()?;
    if tensor.dtype() == DType::I64 {
        return Some(tensor.elems::<i64>().ok()?.iter().map(|&n| Some(n)).collect());
    }
    let whole = |v: f64| (v.fract() == 0.0 && v.abs() < 9e15).then_some(v as i64);
    Some(numbers.into_iter().map(whole).collect())
}

impl Known {
    /// Says what the elements of a value are that has just been made.
    pub fn tell(&mut self, value: Value, numbers: Vec<Amount>) {
        self.numbers.insert(value, numbers.into_iter().map(Some).collect());
    }

    /// The elements of a value, if it is small.
    pub fn numbers(&mut self, graph: &Graph, value: Value) -> Option<Amounts> {
        self.look(graph, value, DEPTH)
    }

    fn look(&mut self, graph: &Graph, value: Value, depth: usize) -> Option<Amounts> {
        let ty = graph.ty(value);
        let count = ty.shape.checked_elems().filter(|&n| n <= MOST_ELEMS)?;
        if let Some(known) = self.numbers.get(&value) {
            return Some(known.clone());
        }
        let dtype = ty.dtype;
        let found = depth.checked_sub(1).and_then(|depth| self.computed(graph, value, depth));
        let found = found.filter(|list| list.len() == count).unwrap_or_else(|| vec![None; count]);
        let range = self.range(graph, value, depth.min(8));
        // Past what a type holds numbers wrap around or are rounded: then they are what they are.
        let fits = |n: &Amount| {
            n.known().is_some()
                || matches!(n.formula(), Formula::Element { .. })
                || exact(dtype).contains(n.range())
        };
        let settle = |(index, number): (usize, Option<Amount>)| {
            number
                .filter(|n| n.weight() <= MOST_WEIGHT && fits(n))
                .or_else(|| (!dtype.is_float()).then(|| Amount::element(value, index, range)))
        };
        let numbers: Amounts = found.into_iter().enumerate().map(settle).collect();
        self.numbers.insert(value, numbers.clone());
        Some(numbers)
    }

    fn computed(&mut self, graph: &Graph, value: Value, depth: usize) -> Option<Amounts> {
        let node = graph.node(value.node);
        let operands = graph.operands(value.node);
        let dtype = graph.ty(value).dtype;
        let operand = |i: usize| operands.get(i).copied().flatten();
        match &node.op {
            Op::Constant(tensor) => {
                Some(constants(tensor)?.into_iter().map(|n| n.map(Amount::from)).collect())
            }
            Op::Binary(op) if op.activation.is_none() => {
                let (a, b) = (operand(0)?, operand(1)?);
                let shape = &graph.ty(value).shape;
                let a_list = spread(self.look(graph, a, depth)?, &graph.ty(a).shape, shape)?;
                let b_list = spread(self.look(graph, b, depth)?, &graph.ty(b).shape, shape)?;
                let pairs = a_list.into_iter().zip(b_list);
                Some(pairs.map(|(a, b)| binary(op.function, dtype, &a?, &b?)).collect())
            }
            Op::Unary(function) => {
                let list = self.look(graph, operand(0)?, depth)?;
                let integers = list.iter().cloned().map(|n| unary(*function, &n?));
                if !matches!(function, Unary::Floor | Unary::Ceil | Unary::Round) {
                    return Some(integers.collect());
                }
                let rounded = integers.enumerate();
                Some(
                    rounded.map(|(i, n)| n.or_else(|| Some(Amount::element(value, i, Range::ANY)))).collect(),
                )
            }
            Op::Cast(_) => {
                let list = self.look(graph, operand(0)?, depth)?;
                Some(list.into_iter().map(|n| if dtype == DType::Bool { is_set(&n?) } else { n }).collect())
            }
            Op::Where(_) => {
                let shape = &graph.ty(value).shape;
                let mut lists = Vec::new();
                for i in 0..3 {
                    let from = operand(i)?;
                    lists.push(spread(self.look(graph, from, depth)?, &graph.ty(from).shape, shape)?);
                }
                let chosen = |i: usize| {
                    let (condition, a, b) =
                        (lists[0][i].as_ref()?, lists[1][i].clone()?, lists[2][i].clone()?);
                    match condition.known() {
                        Some(0) => Some(b),
                        Some(_) => Some(a),
                        None if a == b => Some(a),
                        None => Some(Amount::element(value, i, a.range().hull(b.range()))),
                    }
                };
                Some((0..shape.elems()).map(chosen).collect())
            }
            Op::Reduce(op) if graph.ty(value).shape.elems() == 1 && operand(0).is_some() => {
                let list =
                    self.look(graph, operand(0)?, depth)?.into_iter().collect::<Option<Vec<Amount>>>()?;
                let (first, rest) = list.split_first()?;
                let fold =
                    |f: fn(&Amount, &Amount) -> Amount| rest.iter().fold(first.clone(), |a, b| f(&a, b));
                Some(vec![Some(match op.kind {
                    ReduceKind::Sum => fold(Amount::plus),
                    ReduceKind::Prod => fold(Amount::product),
                    ReduceKind::Min => fold(Amount::smaller),
                    ReduceKind::Max => fold(Amount::larger),
                    _ => return None,
                })])
            }
            Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Split(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::Expand(_) => self.moved(graph, value, operands.len(), depth),
            // Behind the indices, elements are only moved as well.
            Op::GatherAt(_) => self.moved(graph, value, 1, depth),
            _ => None,
        }
    }

    /// The elements of what only moves those of its first `moved` operands, from where these labels come out; the other operands are known.
    fn moved(&mut self, graph: &Graph, value: Value, moved: usize, depth: usize) -> Option<Amounts> {
        let mut all: Amounts = Vec::new();
        let mut labels: Vec<Tensor> = Vec::new();
        for (index, from) in graph.operands(value.node).into_iter().enumerate() {
            let from = from?;
            let list = self.look(graph, from, depth)?;
            let shape = graph.ty(from).shape.clone();
            let numbers: Vec<i64> = if index < moved {
                let first = all.len();
                all.extend(list);
                (first..all.len()).map(|label| label as i64).collect()
            } else {
                list.into_iter().map(|n| n?.known()).collect::<Option<_>>()?
            };
            labels.push(Tensor::new(shape, &numbers).ok()?);
        }
        let operands: Vec<Option<&Tensor>> = labels.iter().map(Some).collect();
        let results = graph.node(value.node).op.eval(&operands).ok()?;
        let places = results.get(value.output as usize)?.elems::<i64>().ok()?.into_owned();
        places.into_iter().map(|label| all.get(usize::try_from(label).ok()?).cloned()).collect()
    }

    /// Where all elements of a value lie.
    fn range(&mut self, graph: &Graph, value: Value, depth: usize) -> Range {
        if let Some(&known) = self.ranges.get(&value) {
            return known;
        }
        let ty = graph.ty(value);
        let own = of_type(ty.dtype);
        let found = depth.checked_sub(1).and_then(|depth| self.ranged(graph, value, depth));
        // A range that does not fit into the type has wrapped around somewhere.
        let range = found.filter(|&range| own.contains(range)).unwrap_or(own);
        self.ranges.insert(value, range);
        range
    }

    fn ranged(&mut self, graph: &Graph, value: Value, depth: usize) -> Option<Range> {
        let node = graph.node(value.node);
        let operands = graph.operands(value.node);
        let ty = graph.ty(value);
        let operand = |i: usize| operands.get(i).copied().flatten();
        let elems = |value: Value| graph.ty(value).shape.checked_elems().and_then(|n| i64::try_from(n).ok());
        if let Op::Constant(tensor) = &node.op {
            let few = tensor.shape().elems() <= MOST_RANGED;
            let numbers = constants(tensor).filter(|_| few)?.into_iter().collect::<Option<Vec<i64>>>()?;
            return Some(Range::new(*numbers.iter().min()?, *numbers.iter().max()?));
        }
        match &node.op {
            // How many of them there are is the last result.
            Op::NonZero(_) | Op::Compress(_) | Op::Unique(_) | Op::NonMaxSuppression(_)
                if value.output as usize + 1 == node.outputs.len() =>
            {
                let first = node.outputs.first()?;
                let bound = match &node.op {
                    Op::NonZero(_) => first.shape.last().copied()?,
                    Op::Compress(op) => first.shape[op.axis.unwrap_or(0)],
                    Op::Unique(op) => first.shape[op.axis.unwrap_or(0)],
                    _ => first.shape[0],
                };
                Some(Range::new(0, i64::try_from(bound).ok()?))
            }
            Op::Loop(op) if op.by_data && value.output as usize + 1 == node.outputs.len() => {
                Some(Range::new(0, i64::try_from(op.trips).ok()?))
            }
            Op::Binary(op) if op.activation.is_none() => {
                if ty.dtype == DType::Bool {
                    return Some(Range::BOOL);
                }
                let a = self.range(graph, operand(0)?, depth);
                let b = self.range(graph, operand(1)?, depth);
                match op.function {
                    BinaryFn::Add => Some(a.add(b)),
                    BinaryFn::Sub => Some(a.add(b.mul(Range::one(-1)))),
                    BinaryFn::Mul => Some(a.mul(b)),
                    BinaryFn::Min => Some(a.min(b)),
                    BinaryFn::Max => Some(a.max(b)),
                    BinaryFn::Div if a.low >= 0 && b.low >= 1 => Some(Range::new(0, a.high / b.low)),
                    _ => None,
                }
            }
            Op::Cast(_) => {
                let from = operand(0)?;
                (!graph.ty(from).dtype.is_float()).then(|| self.range(graph, from, depth))
            }
            Op::Where(_) => {
                Some(self.range(graph, operand(1)?, depth).hull(self.range(graph, operand(2)?, depth)))
            }
            Op::Reduce(op) if !ty.dtype.is_float() => {
                let from = operand(0)?;
                let shape = &graph.ty(from).shape;
                let range = self.range(graph, from, depth);
                match op.kind {
                    ReduceKind::Sum => Some(range.mul(Range::one(elems(from)?)).hull(range)),
                    ReduceKind::Max | ReduceKind::Min if !shape.contains(&0) => Some(range),
                    ReduceKind::ArgMax { .. } | ReduceKind::ArgMin { .. } => {
                        Some(Range::new(0, i64::try_from(*shape.get(*op.axes.first()?)?).ok()? - 1))
                    }
                    _ => None,
                }
            }
            Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Split(_)
            | Op::Gather(_)
            | Op::Expand(_) => Some(self.range(graph, operand(0)?, depth)),
            Op::Concat(_) => {
                let mut parts = operands.iter().copied().flatten();
                let first = self.range(graph, parts.next()?, depth);
                Some(parts.fold(first, |all, part| all.hull(self.range(graph, part, depth))))
            }
            _ => None,
        }
    }
}

/// The elements of an operand that is broadcast.
fn spread(list: Amounts, from: &Shape, to: &Shape) -> Option<Amounts> {
    if from == to {
        return Some(list);
    }
    let labels: Vec<i64> = (0..list.len() as i64).collect();
    let labels = Tensor::new(from.clone(), &labels).ok()?;
    let spread = Op::from(crate::op::Expand { shape: to.to_vec() }).eval(&[Some(&labels)]).ok()?.pop()?;
    let places = spread.elems::<i64>().ok()?.into_owned();
    places.into_iter().map(|label| list.get(usize::try_from(label).ok()?).cloned()).collect()
}

/// 1 where a number is not 0.
fn is_set(n: &Amount) -> Option<Amount> {
    let range = n.range();
    if range == Range::BOOL {
        return Some(n.clone());
    }
    match n.known() {
        Some(number) => Some(Amount::from(i64::from(number != 0))),
        None => (range.low > 0 || range.high < 0).then(|| Amount::from(1i64)),
    }
}

fn unary(function: Unary, n: &Amount) -> Option<Amount> {
    match function {
        Unary::Floor | Unary::Ceil | Unary::Round => Some(n.clone()),
        Unary::Neg => Some(n.times(-1)),
        Unary::Relu => Some(n.larger(&0i64.into())),
        Unary::Abs => Some(n.larger(&n.times(-1))),
        _ => None,
    }
}

fn binary(function: BinaryFn, dtype: DType, a: &Amount, b: &Amount) -> Option<Amount> {
    let range = a.minus(b).range();
    let decided = |yes: bool, no: bool| (yes || no).then(|| Amount::from(i64::from(yes)));
    match function {
        BinaryFn::Add => Some(a.plus(b)),
        BinaryFn::Sub => Some(a.minus(b)),
        BinaryFn::Mul => Some(a.product(b)),
        BinaryFn::Min => Some(a.smaller(b)),
        BinaryFn::Max => Some(a.larger(b)),
        BinaryFn::Div => {
            let by = b.known().filter(|&by| by > 0)?;
            match a.divided(by) {
                Some(exact) => Some(exact),
                None => (!dtype.is_float() && a.range().low >= 0).then(|| a.quotient(by)),
            }
        }
        BinaryFn::Mod { .. } => {
            let by = b.known().filter(|&by| by > 0 && a.range().low >= 0)?;
            Some(a.minus(&a.quotient(by).times(by)))
        }
        BinaryFn::Equal => decided(range == Range::one(0), range.low > 0 || range.high < 0),
        BinaryFn::Less => decided(range.high < 0, range.low >= 0),
        BinaryFn::LessOrEqual => decided(range.high <= 0, range.low > 0),
        BinaryFn::Greater => decided(range.low > 0, range.high <= 0),
        BinaryFn::GreaterOrEqual => decided(range.low >= 0, range.high < 0),
        BinaryFn::And => Some(a.smaller(b)),
        BinaryFn::Or => Some(a.larger(b)),
        _ => None,
    }
}
