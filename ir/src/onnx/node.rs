//! A node while it is read: its operands, attributes and what it becomes.

use super::attribute::Attributes;
use super::error::{NodeFault, Origin, Remedy};
use super::import::{Importer, Item};
use super::model::NodeDef;
use super::subgraph::GraphDef;
use super::varying::Amount;
use crate::graph::{GraphError, Value};
use crate::op::number::to_be_narrowed;
use crate::op::{Op, OpError};
use crate::setting::Setting;
use crate::tensor::{Element, Tensor};
use crate::types::{DType, Shape, TensorType};

/// Results up to this many elements are evaluated while reading, when all operands are constants …
const FOLD_ELEMS: usize = 1 << 16;
/// … and the arithmetic stays below this many operations. The rest is left to constant folding on the graph.
const FOLD_OPERATIONS: u64 = 1 << 20;

/// What a constructor in the table works with.
pub(super) struct NodeReader<'i, 'm> {
    pub(super) importer: &'i mut Importer<'m>,
    def: &'m NodeDef,
    /// The version of the node's operator set.
    pub opset: i64,
    /// Attributes that are not read yet.
    pub attributes: Attributes<'m>,
    /// Number of operands that the constructor has asked for.
    asked: usize,
    /// The result, when it is a sequence.
    sequence: Option<Vec<Value>>,
}

impl<'i, 'm> NodeReader<'i, 'm> {
    pub(super) fn new(importer: &'i mut Importer<'m>, def: &'m NodeDef) -> NodeReader<'i, 'm> {
        let attributes = Attributes::new(&def.attributes);
        NodeReader { importer, def, opset: def.opset, attributes, asked: 0, sequence: None }
    }

    /// Refuses attributes and operands that the constructor did not ask for; gives the result that is a sequence.
    pub(super) fn finish(self) -> Result<Option<Vec<Value>>, NodeFault> {
        self.attributes.finish()?;
        let got = self.def.inputs.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        if got > self.asked {
            return Err(NodeFault::Operands { max: self.asked, got });
        }
        Ok(self.sequence)
    }

    /// Reads a graph of the node for these arguments; its outputs.
    pub(super) fn body(&mut self, body: &'m GraphDef, arguments: &[Value]) -> Result<Vec<Value>, NodeFault> {
        self.importer.body(body, arguments)
    }

    /// Lets no more than some nodes be written out while `attempt` runs.
    pub(super) fn tentatively<T>(
        &mut self,
        nodes: usize,
        attempt: impl FnOnce(&mut Self) -> Result<T, NodeFault>,
    ) -> Result<T, NodeFault> {
        let most = self.importer.most_unrolled;
        self.importer.most_unrolled = most.min(self.importer.unrolled.saturating_add(nodes));
        let outcome = attempt(self);
        self.importer.most_unrolled = most;
        outcome
    }

    /// Counts bytes of constants that a constructor makes, before it does; too many are refused.
    pub(super) fn make(&mut self, elems: usize, dtype: DType) -> Result<(), NodeFault> {
        self.importer.make(elems.saturating_mul(dtype.bytes()))
    }

    /// Number of operands that the model names.
    pub(super) fn operand_count(&self) -> usize {
        self.def.inputs.len()
    }

    /// Whether an operand is there.
    pub(super) fn is_given(&mut self, index: usize) -> bool {
        self.asked = self.asked.max(index + 1);
        self.def.inputs.get(index).is_some_and(|name| !name.is_empty())
    }

    /// An operand that is a sequence.
    pub(super) fn sequence(&mut self, index: usize, name: &'static str) -> Result<Vec<Value>, NodeFault> {
        let sequence = self.optional_sequence(index)?;
        sequence.ok_or_else(|| NodeFault::invalid(format!("operand {index} ({name}) must be a sequence")))
    }

    /// An operand, if it is a sequence.
    pub(super) fn optional_sequence(&mut self, index: usize) -> Result<Option<Vec<Value>>, NodeFault> {
        self.asked = self.asked.max(index + 1);
        match self.def.inputs.get(index).map(|name| self.importer.item(name)) {
            Some(Some(Item::Sequence(list))) => Ok(Some(list)),
            _ => Ok(None),
        }
    }

    /// Makes the result a sequence.
    pub(super) fn give_sequence(&mut self, list: Vec<Value>) {
        self.sequence = Some(list);
    }

    /// Name of the operator.
    pub(super) fn op(&self) -> &'m str {
        &self.def.op
    }

    /// Number of outputs that the model names.
    pub(super) fn output_count(&self) -> usize {
        self.def.outputs.len()
    }

    /// Whether the model gives an output a name.
    pub(super) fn output_named(&self, index: usize) -> bool {
        self.def.outputs.get(index).is_some_and(|name| !name.is_empty())
    }

    /// Whether the model reads an output.
    pub(super) fn output_used(&self, index: usize) -> bool {
        self.def.outputs.get(index).is_some_and(|name| self.importer.used.contains(name.as_str()))
    }

    /// An operand that may be left out.
    pub(super) fn optional(&mut self, index: usize) -> Result<Option<Value>, NodeFault> {
        self.asked = self.asked.max(index + 1);
        match self.def.inputs.get(index) {
            Some(name) if !name.is_empty() => match self.importer.item(name) {
                Some(Item::Value(value)) => Ok(Some(value)),
                Some(Item::Sequence(_)) => {
                    Err(NodeFault::invalid(format!("operand {index} (\"{name}\") is a sequence")))
                }
                None => Err(NodeFault::invalid(format!("operand {index} (\"{name}\") has no source"))),
            },
            _ => Ok(None),
        }
    }

    /// An operand.
    pub(super) fn operand(&mut self, index: usize, name: &'static str) -> Result<Value, NodeFault> {
        self.optional(index)?.ok_or(NodeFault::Op(OpError::Missing { index, name }))
    }

    /// All operands of an operator that takes any number.
    pub(super) fn operands(&mut self, name: &'static str) -> Result<Vec<Value>, NodeFault> {
        (0..self.def.inputs.len().max(1)).map(|index| self.operand(index, name)).collect()
    }

    /// Type of a value.
    pub(super) fn ty(&self, value: Value) -> &TensorType {
        self.importer.graph.ty(value)
    }

    /// Shape of a value.
    pub(super) fn shape(&self, value: Value) -> Shape {
        self.ty(value).shape.clone()
    }

    /// Element type of a value.
    pub(super) fn dtype(&self, value: Value) -> DType {
        self.ty(value).dtype
    }

    /// The tensor of a value that is constant, and so large whatever the data are.
    pub(super) fn constant_of(&self, value: Value) -> Option<&Tensor> {
        self.importer.graph.constant(value).filter(|_| !self.varies(value))
    }

    /// An operand that decides shapes and so must be constant; `None` when it is left out.
    pub(super) fn constant(
        &mut self,
        index: usize,
        operand: &'static str,
    ) -> Result<Option<Tensor>, NodeFault> {
        let Some(value) = self.optional(index)? else {
            return Ok(None);
        };
        match self.constant_of(value).cloned().or_else(|| self.settled(value)) {
            Some(tensor) => Ok(Some(tensor)),
            None => {
                let inputs = self.sources(value);
                Err(NodeFault::NotConstant {
                    index,
                    operand,
                    value: self.def.inputs.get(index).cloned().unwrap_or_default(),
                    origin: self.origin(value, &inputs),
                    inputs,
                })
            }
        }
    }

    /// The fault that what only the run knows decides what there is; `what` says what.
    pub(super) fn decided_at_run_time(&self, value: Value, what: String) -> NodeFault {
        let settings = self.to_bind(&self.sources(value));
        let remedy = if settings.is_empty() { Remedy::EndBefore } else { Remedy::Bind(settings) };
        NodeFault::RunTime { what, remedy }
    }

    /// Where a value comes from that should have been constant.
    fn origin(&self, value: Value, inputs: &[String]) -> Origin {
        let node = self.importer.graph.node(value.node);
        if matches!(node.op, Op::Input) {
            // Whoever has a setting as the operand itself can bind it, whatever it looks like.
            return Origin::Input(Setting::constant(&node.name));
        }
        let settings = self.to_bind(inputs);
        match inputs.first() {
            None => Origin::Nodes,
            Some(data) if settings.is_empty() => Origin::Data(data.clone()),
            Some(_) => Origin::Inputs(settings),
        }
    }

    /// What would make known what is computed from these inputs. Nobody binds a picture.
    fn to_bind(&self, inputs: &[String]) -> Vec<Setting> {
        let bound = inputs.iter().filter(|name| !self.is_data(name)).take(3);
        bound.map(|name| Setting::constant(name)).collect()
    }

    /// Whether an input is what the model is about, a picture or the like, and not a setting of it.
    fn is_data(&self, name: &str) -> bool {
        let graph = &self.importer.graph;
        let input = graph.inputs().iter().find(|&&id| graph.node(id).name == name);
        input.is_some_and(|&id| {
            let ty = graph.ty(Value::from(id));
            ty.dtype.is_float() && ty.shape.rank() >= 3
        })
    }

    /// Names of the graph inputs that a value is computed from.
    fn sources(&self, value: Value) -> Vec<String> {
        self.importer.sources(value)
    }

    /// A constant operand of integers.
    pub(super) fn ints(
        &mut self,
        index: usize,
        operand: &'static str,
    ) -> Result<Option<Vec<i64>>, NodeFault> {
        match self.constant(index, operand)? {
            Some(tensor) => integers(&tensor, operand).map(Some),
            None => Ok(None),
        }
    }

    /// Integers that older versions have as an attribute and newer ones as an operand.
    pub(super) fn ints_of_version(
        &mut self,
        name: &'static str,
        operand_since: i64,
        index: usize,
    ) -> Result<Option<Vec<i64>>, NodeFault> {
        if self.opset >= operand_since {
            self.ints(index, name)
        } else {
            Ok(self.attributes.ints(name)?.map(<[i64]>::to_vec))
        }
    }

    /// The same, where what only the run knows has bounds.
    pub(super) fn amounts_of_version(
        &mut self,
        name: &'static str,
        operand_since: i64,
        index: usize,
    ) -> Result<Option<Vec<Amount>>, NodeFault> {
        if self.opset >= operand_since {
            self.amounts(index, name)
        } else {
            Ok(self.attributes.ints(name)?.map(|list| list.iter().map(|&n| n.into()).collect()))
        }
    }

    /// A constant made by the reader.
    pub(super) fn add_constant(&mut self, tensor: Tensor) -> Value {
        let name = format!("{}.const", self.def.name);
        self.importer.graph.add_constant(name, tensor)
    }

    /// A scalar constant of an element type.
    pub(super) fn scalar(&mut self, dtype: DType, number: f64) -> Result<Value, NodeFault> {
        let tensor = scalar_tensor(dtype, number)?;
        Ok(self.add_constant(tensor))
    }

    /// Adds an operator with one result.
    pub(super) fn emit(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Value, NodeFault> {
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        self.emit_optional(op, &operands)
    }

    /// Adds an operator with one result, some of whose operands may be left out.
    pub(super) fn emit_optional(
        &mut self,
        op: impl Into<Op>,
        operands: &[Option<Value>],
    ) -> Result<Value, NodeFault> {
        let results = self.emit_all(op, operands)?;
        results.first().copied().ok_or_else(|| NodeFault::invalid("has no results"))
    }

    /// Adds an operator. When all it reads is constant and small, it is evaluated at once.
    pub(super) fn emit_all(
        &mut self,
        op: impl Into<Op>,
        operands: &[Option<Value>],
    ) -> Result<Vec<Value>, NodeFault> {
        let op = op.into();
        if operands.iter().flatten().any(|&value| self.varies(value)) {
            return self.emit_varying(op, operands);
        }
        let results = self.emit_plain(op, operands)?;
        Ok(self.follow(operands, results))
    }

    /// Adds an operator that sees all that the shapes of its operands say.
    pub(super) fn emit_plain(&mut self, op: Op, operands: &[Option<Value>]) -> Result<Vec<Value>, NodeFault> {
        if let Some(results) = self.fold(&op, operands)? {
            return Ok(results);
        }
        if let Some(results) = self.counted_before(&op, operands) {
            return Ok(results);
        }
        let graph = &mut self.importer.graph;
        let id = graph.add(&self.def.name, op, operands).map_err(|e| match e {
            GraphError::Op { source, .. } => NodeFault::Op(source),
            other => NodeFault::Invalid(other.to_string()),
        })?;
        let mut results = Vec::new();
        for (output, ty) in graph.node(id).outputs.iter().enumerate() {
            self.importer.model.limits.admit(ty, || "its result".into())?;
            results.push(Value { node: id, output: output as u32 });
        }
        self.remember_counter(id, operands, &results);
        Ok(results)
    }

    fn fold(&mut self, op: &Op, operands: &[Option<Value>]) -> Result<Option<Vec<Value>>, NodeFault> {
        // Passes look for the steps behind constant numbers.
        if matches!(op, Op::Dequantize(_)) {
            return Ok(None);
        }
        let graph = &self.importer.graph;
        let mut tensors = Vec::with_capacity(operands.len());
        for operand in operands {
            match operand.map(|v| graph.constant(v)) {
                None => tensors.push(None),
                Some(Some(t)) if t.shape().elems() <= FOLD_ELEMS => tensors.push(Some(t)),
                Some(_) => return Ok(None),
            }
        }
        if tensors.iter().all(Option::is_none) {
            return Ok(None);
        }
        let types: Vec<Option<&TensorType>> = tensors.iter().map(|t| t.map(Tensor::ty)).collect();
        let results = op.infer(&types)?;
        let small = |ty: &TensorType| ty.shape.checked_elems().is_some_and(|n| n <= FOLD_ELEMS);
        let work = op.arithmetic(&types, &results);
        if !results.iter().all(small) || work.macc.saturating_add(work.ops) > FOLD_OPERATIONS {
            return Ok(None);
        }
        let bytes = results.iter().map(TensorType::bytes).sum();
        // Past the budget nodes stay what they are: run time computes them as well.
        let Some(left) = self.importer.foldable.checked_sub(bytes) else { return Ok(None) };
        for ty in &results {
            self.importer.model.limits.admit(ty, || "its result".into())?;
        }
        let results = op.eval(&tensors)?;
        self.importer.foldable = left;
        let name = &self.def.name;
        Ok(Some(results.into_iter().map(|t| self.importer.graph.add_constant(name, t)).collect()))
    }
}

/// The integers of an `i64` or `i32` tensor.
pub(super) fn integers(tensor: &Tensor, operand: &'static str) -> Result<Vec<i64>, NodeFault> {
    match tensor.dtype() {
        DType::I64 => Ok(tensor.elems::<i64>()?.to_vec()),
        DType::I32 => Ok(tensor.elems::<i32>()?.iter().map(|&v| i64::from(v)).collect()),
        other => Err(NodeFault::invalid(format!("operand {operand} must hold integers, it holds {other}"))),
    }
}

/// A scalar of an element type, rounded as that type rounds.
pub(super) fn scalar_tensor(dtype: DType, number: f64) -> Result<Tensor, NodeFault> {
    fn of<T: Element>(v: T) -> Result<Tensor, NodeFault> {
        Ok(Tensor::new(Shape::default(), &[v])?)
    }
    match dtype {
        DType::F32 => of(number as f32),
        DType::F64 => of(number),
        DType::F16 => of(half::f16::from_f32(to_be_narrowed(number))),
        DType::BF16 => of(half::bf16::from_f32(to_be_narrowed(number))),
        DType::I8 => of(number as i8),
        DType::U8 => of(number as u8),
        DType::I16 => of(number as i16),
        DType::U16 => of(number as u16),
        DType::I32 => of(number as i32),
        DType::U32 => of(number as u32),
        DType::I64 => of(number as i64),
        DType::U64 => of(number as u64),
        DType::Bool => Ok(Tensor::bools(Shape::default(), &[number != 0.0])?),
    }
}

/// The one element of a tensor as a number.
pub(super) fn number(tensor: &Tensor, operand: &'static str) -> Result<f64, NodeFault> {
    if tensor.shape().elems() != 1 {
        return Err(NodeFault::invalid(format!("operand {operand} must be a scalar, it is {}", tensor.ty())));
    }
    numbers(tensor)?.first().copied().ok_or_else(|| NodeFault::invalid(format!("operand {operand} is empty")))
}

/// The elements of a tensor as numbers.
pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f64>, NodeFault> {
    macro_rules! cast {
        ($t:ty) => {
            tensor.elems::<$t>()?.iter().map(|&v| v as f64).collect()
        };
    }
    Ok(match tensor.dtype() {
        DType::F32 => cast!(f32),
        DType::F64 => cast!(f64),
        DType::F16 => tensor.elems::<half::f16>()?.iter().map(|v| v.to_f64()).collect(),
        DType::BF16 => tensor.elems::<half::bf16>()?.iter().map(|v| v.to_f64()).collect(),
        DType::I8 => cast!(i8),
        DType::U8 => cast!(u8),
        DType::I16 => cast!(i16),
        DType::U16 => cast!(u16),
        DType::I32 => cast!(i32),
        DType::U32 => cast!(u32),
        DType::I64 => cast!(i64),
        DType::U64 => cast!(u64),
        DType::Bool => tensor.to_bools()?.into_iter().map(|b| f64::from(u8::from(b))).collect(),
    })
}

/// An axis that may count from the end, for a tensor of some rank.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, NodeFault> {
    let r = rank as i64;
    let normal = if axis < 0 { axis.checked_add(r) } else { Some(axis) };
    match normal.and_then(|a| usize::try_from(a).ok()) {
        Some(a) if a < rank => Ok(a),
        _ => Err(NodeFault::invalid(format!("axis {axis} is outside a tensor of rank {rank}"))),
    }
}

/// Axes that may count from the end: ascending, each once.
pub(super) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, NodeFault> {
    let mut axes = list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    match axes.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(NodeFault::invalid(format!("axis {} is given twice", pair[0]))),
        None => Ok(axes),
    }
}
