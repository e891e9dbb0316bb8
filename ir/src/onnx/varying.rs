//! Values whose size only the run knows, while a model is read.
//!
//! Such a value has the shape of the most that there can be, and another value says how many there are along one axis. Operators that
//! treat the elements of that axis one by one hand both on; any other one would compute with what is not there, and is refused. At an
//! output of the graph, a [`Prefix`](crate::op::Prefix) says that only those that are there are meant.
//!
//! ```text
//!   NonZero ─▶ i64[2, 12], of which count along axis 1 ─▶ Transpose ─▶ i64[12, 2], along axis 0 ─▶ output
//! ```

use std::collections::BTreeMap;

use crate::graph::{Graph, Value};
use crate::op::Op;

/// The axis along which a value has less than its shape says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Varying {
    pub axis: usize,
    /// How many there are.
    pub count: Value,
}

/// What varies so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    all: BTreeMap<Value, Varying>,
}

impl Sizes {
    pub(super) fn get(&self, value: Value) -> Option<Varying> {
        self.all.get(&value).copied()
    }

    pub(super) fn set(&mut self, value: Value, varying: Varying) {
        self.all.insert(value, varying);
    }

    /// Hands on what varies from the operands of a node to its results, or says which operand cannot be read by it.
    pub(super) fn hand_on(
        &mut self,
        graph: &Graph,
        op: &Op,
        operands: &[Option<Value>],
        results: &[Value],
    ) -> Result<(), usize> {
        let varying: Vec<(usize, Value, Varying)> = operands
            .iter()
            .enumerate()
            .filter_map(|(i, v)| v.and_then(|v| Some((i, v, self.get(v)?))))
            .collect();
        let Some(&(first, ..)) = varying.first() else { return Ok(()) };
        let mut found: Option<Varying> = None;
        for &(index, value, varying) in &varying {
            let axis = carried(graph, op, index, value, varying.axis, results).ok_or(index)?;
            let here = Varying { axis, ..varying };
            if found.is_some_and(|found| found != here) {
                return Err(index);
            }
            found = Some(here);
        }
        let found = found.ok_or(first)?;
        // An operand that is all there beside one that is not, along the same axis: its elements would have no partner.
        for (index, value) in operands.iter().enumerate().filter_map(|(i, v)| v.map(|v| (i, v))) {
            let elementwise = matches!(op, Op::Binary(_) | Op::Where(_));
            if elementwise && self.get(value).is_none() && reaches(graph, value, found.axis, results) {
                return Err(index);
            }
        }
        for &result in results {
            self.all.insert(result, found);
        }
        Ok(())
    }
}

/// Whether an operand that is broadcast has more than one element along an axis of the result.
fn reaches(graph: &Graph, value: Value, axis: usize, results: &[Value]) -> bool {
    let Some(&result) = results.first() else { return false };
    let (from, to) = (&graph.ty(value).shape, &graph.ty(result).shape);
    (axis + from.rank()).checked_sub(to.rank()).is_some_and(|axis| from[axis] != 1)
}

/// The axis of the results that an axis of operand `index` becomes, where each element of it only concerns itself.
fn carried(
    graph: &Graph,
    op: &Op,
    index: usize,
    value: Value,
    axis: usize,
    results: &[Value],
) -> Option<usize> {
    let from = &graph.ty(value).shape;
    let to = &graph.ty(*results.first()?).shape;
    match op {
        Op::Unary(_) | Op::Cast(_) => Some(axis),
        // An axis that is broadcast would repeat what may not be there.
        Op::Binary(_) | Op::Where(_) => {
            Some(axis + to.rank() - from.rank()).filter(|&result| to[result] == from[axis])
        }
        Op::Transpose(op) => op.perm.iter().position(|&a| a == axis),
        Op::Slice(op) => op.axes.iter().all(|s| s.axis != axis).then_some(axis),
        Op::Split(op) => (op.axis != axis).then_some(axis),
        Op::Reshape(_) => {
            let before: usize = from[..axis].iter().product();
            let same = |&a: &usize| {
                to[..a].iter().product::<usize>() == before && to[a] == from[axis] && from[axis] != 1
            };
            (0..to.rank()).find(same)
        }
        Op::Gather(op) if op.axis != axis => {
            Some(if axis < op.axis { axis } else { axis + op.indices.shape().rank() - 1 })
        }
        Op::GatherAt(op) if index == 1 => Some(op.axis + axis),
        Op::GatherAt(op) if op.axis != axis => {
            Some(if axis < op.axis { axis } else { axis + to.rank() - from.rank() })
        }
        Op::GatherNd(op) if index == 1 => (axis >= op.batch_dims && axis + 1 < from.rank()).then_some(axis),
        _ => None,
    }
}
