//! Makes a table of any function of one byte, of which the compiler computes all 256 results.
//!
//! ```text
//!               ┌─▶ hard sigmoid ─┐
//!   dequantize ─┤                 mul ─▶ quantize        becomes      byte table
//!               └─────────────────┘
//! ```
//!
//! Another scale is such a function, too. A table that only keeps its operand between two bounds becomes the bounds of the layer of integers
//! in front of it.

use std::collections::BTreeMap;

use nnc_ir::op::{ByteTable, Dequantize, IntegerConv, Quantize, Requantize};
use nnc_ir::{DType, Graph, NodeId, Op, Tensor, Value};

use super::edit::{each_node, replace, rewrite};
use super::{EditError, Notes};

/// How many nodes may lie one behind the other.
const DEPTH: usize = 16;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some((bytes, table)) = function(graph, id).or_else(|| chain(graph, id)) else {
            return Ok(());
        };
        notes.count(if table.changes() { "tables" } else { "dropped" });
        if !table.changes() {
            return replace(graph, id, bytes);
        }
        let entries = graph.add_constant(format!("{}:table", graph.node(id).name), table.tensor()?);
        rewrite(graph, id, ByteTable, &[Some(bytes), Some(entries)])
    })?;
    each_node(graph, notes, |graph, notes, id| {
        let Some((layer, op)) = bounded(graph, id) else { return Ok(()) };
        let operands = graph.operands(layer);
        let how = (op, &operands[..]);
        super::edit::take_over(graph, notes, layer, how, id, "bounds")?;
        notes.count("bounds of layers");
        Ok(())
    })
}

/// What becomes of each byte.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ByteFunction([u8; ByteTable::LEN]);

impl ByteFunction {
    fn of(tensor: &Tensor) -> Option<ByteFunction> {
        let bytes = (tensor.dtype() == DType::U8).then(|| tensor.bytes())?;
        Some(ByteFunction(bytes.try_into().ok()?))
    }

    fn identity() -> ByteFunction {
        ByteFunction(std::array::from_fn(|byte| byte as u8))
    }

    fn changes(&self) -> bool {
        *self != ByteFunction::identity()
    }

    /// This one, and another one of its results.
    fn then(&self, next: &ByteFunction) -> ByteFunction {
        ByteFunction(self.0.map(|byte| next.0[usize::from(byte)]))
    }

    /// The bounds between which it keeps its operand, if that is all it does.
    fn bounds(&self) -> Option<(u8, u8)> {
        let (low, high) = (self.0[0], self.0[ByteTable::LEN - 1]);
        (low <= high && *self == ByteFunction(ByteFunction::identity().0.map(|byte| byte.clamp(low, high))))
            .then_some((low, high))
    }

    fn tensor(&self) -> Result<Tensor, nnc_ir::TensorError> {
        Tensor::new([ByteTable::LEN], &self.0)
    }
}

/// The function of bytes that ends with a Quantize.
fn function(graph: &Graph, id: NodeId) -> Option<(Value, ByteFunction)> {
    let Op::Quantize(Quantize { to: DType::U8 }) = graph.node(id).op else { return None };
    let mut numbers = Numbers { graph, bytes: None, of: BTreeMap::new() };
    let table = numbers.of_node(id, DEPTH)?;
    Some((numbers.bytes?, ByteFunction::of(&table)?))
}

/// A table behind another one.
fn chain(graph: &Graph, id: NodeId) -> Option<(Value, ByteFunction)> {
    let (middle, _) = table(graph, id)?;
    table(graph, middle.node)?;
    Some(looked_up(graph, id.into()))
}

/// The bytes that a value is a function of, and which one: tables in front of it are looked through.
fn looked_up(graph: &Graph, value: Value) -> (Value, ByteFunction) {
    let (mut bytes, mut function) = (value, ByteFunction::identity());
    while let Some((before, first)) = table(graph, bytes.node) {
        (bytes, function) = (before, first.then(&function));
    }
    (bytes, function)
}

/// What a node looks up, and where.
fn table(graph: &Graph, id: NodeId) -> Option<(Value, ByteFunction)> {
    let Op::ByteTable(_) = graph.node(id).op else { return None };
    let table = graph.constant(graph.operand(id, ByteTable::TABLE)?)?;
    Some((graph.operand(id, ByteTable::X)?, ByteFunction::of(table)?))
}

/// The numbers that nodes make of each byte.
struct Numbers<'g> {
    graph: &'g Graph,
    /// What is dequantised, the same everywhere.
    bytes: Option<Value>,
    /// What was computed already.
    of: BTreeMap<Value, Tensor>,
}

impl Numbers<'_> {
    /// What a node makes of all 256 bytes. `None` if its result depends on anything else.
    fn of_node(&mut self, id: NodeId, depth: usize) -> Option<Tensor> {
        let depth = depth.checked_sub(1)?;
        let op = &self.graph.node(id).op;
        let all = match op {
            Op::Dequantize(_) => {
                let (bytes, function) = looked_up(self.graph, self.graph.operand(id, Dequantize::X)?);
                let same = *self.bytes.get_or_insert(bytes) == bytes;
                let is_known = self.graph.constant(bytes).is_some();
                if !same || is_known || self.graph.ty(bytes).dtype != DType::U8 {
                    return None;
                }
                function.tensor().ok()
            }
            Op::Quantize(_) | Op::Unary(_) | Op::Binary(_) => None,
            _ => return None,
        };
        let floats = matches!(op, Op::Quantize(_)) || self.graph.ty(id.into()).dtype == DType::F32;
        let operands = self.graph.operands(id).into_iter().enumerate();
        let tensors = operands.map(|(index, value)| match (&all, value) {
            (Some(all), Some(_)) if index == Dequantize::X => Some(Some(all.clone())),
            (_, Some(value)) => self.of_value(value, depth).map(Some),
            (_, None) => Some(None),
        });
        let tensors: Vec<Option<Tensor>> = tensors.collect::<Option<_>>()?;
        let tensors: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
        let result = op.eval(&tensors).ok()?.into_iter().next()?;
        let same_shape =
            self.bytes.is_some_and(|bytes| self.graph.ty(bytes).shape == self.graph.ty(id.into()).shape);
        (floats && same_shape && result.shape()[..] == [ByteTable::LEN]).then_some(result)
    }

    /// The same of a value, or the one number that it is.
    fn of_value(&mut self, value: Value, depth: usize) -> Option<Tensor> {
        if let Some(constant) = self.graph.constant(value) {
            return constant.reshaped(Vec::new()).ok();
        }
        if let Some(known) = self.of.get(&value) {
            return Some(known.clone());
        }
        let numbers = self.of_node(value.node, depth)?;
        self.of.insert(value, numbers.clone());
        Some(numbers)
    }
}

/// The layer of integers in front of a table that does nothing but bound what it makes, with these bounds.
fn bounded(graph: &Graph, id: NodeId) -> Option<(NodeId, Op)> {
    let (bytes, table) = table(graph, id)?;
    let (low, high) = table.bounds()?;
    let layer = bytes.node;
    let Op::IntegerConv(conv) = &graph.node(layer).op else { return None };
    graph.single_consumer(bytes)?;
    let within = |step: i32| step.clamp(low.into(), high.into());
    let result = Requantize { low: within(conv.result.low), high: within(conv.result.high), ..conv.result };
    Some((layer, IntegerConv { result, ..conv.clone() }.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(of: impl Fn(u8) -> u8) -> ByteFunction {
        ByteFunction(ByteFunction::identity().0.map(of))
    }

    #[test]
    fn bounds_are_told_from_other_tables() {
        assert_eq!(table(|b| b.clamp(3, 200)).bounds(), Some((3, 200)));
        assert_eq!(table(|b| b.max(128)).bounds(), Some((128, 255)));
        assert_eq!(table(|b| b.saturating_add(1)).bounds(), None);
        assert_eq!(table(|b| 255 - b).bounds(), None);
        assert!(!table(|b| b).changes());
    }

    #[test]
    fn tables_follow_each_other() {
        let both = table(|b| b / 2).then(&table(|b| b.wrapping_add(100)));
        assert_eq!(both, table(|b| b / 2 + 100));
    }
}
