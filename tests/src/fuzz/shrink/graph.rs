//! Parts of a graph.
//!
//! ```text
//!   x ─▶ a ─▶ b ─▶ c ─▶ d      ends:    x ─▶ a ─▶ b ─▶ c
//!                              starts:       b' ─▶ c ─▶ d     b' is an input
//!                              skips:   x ─▶ a ─▶ c ─▶ d      where b has the type of what it reads
//! ```

use std::collections::{BTreeMap, BTreeSet};

use nnc_ir::{Graph, Op, Value};

/// Graphs with less in them, those first that have much less.
pub fn simpler(graph: &Graph) -> Vec<Graph> {
    let Ok(order) = graph.order() else { return Vec::new() };
    let results: Vec<Value> = graph.outputs().iter().map(|(_, value)| *value).collect();
    let values = order.iter().flat_map(|&id| {
        let computed = !matches!(graph.node(id).op, Op::Input | Op::Constant(_));
        (0..graph.node(id).outputs.len() as u32)
            .filter(move |_| computed)
            .map(move |output| Value { node: id, output })
    });
    let values: Vec<Value> = values.collect();
    let mut cuts = Vec::new();
    cuts.extend(
        values
            .iter()
            .filter(|value| results != [**value])
            .map(|value| Cut { ends: vec![*value], ..Cut::default() }),
    );
    cuts.extend(
        values.iter().rev().map(|value| Cut { starts: BTreeSet::from([*value]), ..Cut::of(&results) }),
    );
    for value in &values {
        let like = graph
            .operands(value.node)
            .into_iter()
            .flatten()
            .find(|operand| graph.ty(*operand) == graph.ty(*value));
        cuts.extend(
            like.map(|operand| Cut { skips: BTreeMap::from([(*value, operand)]), ..Cut::of(&results) }),
        );
    }
    cuts.extend((0..results.len()).filter(|_| results.len() > 1).map(|at| {
        let mut ends = results.clone();
        ends.remove(at);
        Cut::of(&ends)
    }));
    let size = graph.len();
    let parts = cuts.iter().filter_map(|cut| cut.part(graph));
    // A part has fewer nodes, or as many with an input instead of an operator: no part is tried for ever.
    parts.filter(|part| part.len() < size || operators(part) < operators(graph)).collect()
}

fn operators(graph: &Graph) -> usize {
    graph.node_ids().filter(|&id| !matches!(graph.node(id).op, Op::Input | Op::Constant(_))).count()
}

/// What is taken of a graph.
#[derive(Debug, Default)]
struct Cut {
    /// The results.
    ends: Vec<Value>,
    /// Values that become inputs.
    starts: BTreeSet<Value>,
    /// Values in whose place another one is read.
    skips: BTreeMap<Value, Value>,
}

impl Cut {
    fn of(ends: &[Value]) -> Cut {
        Cut { ends: ends.to_vec(), ..Cut::default() }
    }

    fn place(&self, value: Value) -> Value {
        self.skips.get(&value).copied().unwrap_or(value)
    }

    /// The part; `None` where the graph does not hold together.
    fn part(&self, graph: &Graph) -> Option<Graph> {
        let mut needed: BTreeSet<Value> = BTreeSet::new();
        let mut stack: Vec<Value> = self.ends.iter().map(|end| self.place(*end)).collect();
        while let Some(value) = stack.pop() {
            if needed.insert(value) && !self.starts.contains(&value) {
                stack.extend(
                    graph.operands(value.node).into_iter().flatten().map(|operand| self.place(operand)),
                );
            }
        }
        let mut part = Graph::new();
        let mut made: BTreeMap<Value, Value> = BTreeMap::new();
        for id in graph.order().ok()? {
            let node = graph.node(id);
            let mut computed = false;
            for output in 0..node.outputs.len() as u32 {
                let value = Value { node: id, output };
                if needed.contains(&value) && (self.starts.contains(&value) || matches!(node.op, Op::Input)) {
                    made.insert(value, part.add_input(format!("in{}", part.len()), graph.ty(value).clone()));
                } else {
                    computed |= needed.contains(&value);
                }
            }
            if !computed {
                continue;
            }
            let new = match &node.op {
                Op::Constant(tensor) => part.add_constant(&node.name, tensor.clone()).node,
                op => {
                    let operands = graph.operands(id).into_iter();
                    let operands: Vec<Option<Value>> = operands
                        .map(|operand| operand.and_then(|v| made.get(&self.place(v)).copied()))
                        .collect();
                    part.add(&node.name, op.clone(), &operands).ok()?
                }
            };
            for output in 0..node.outputs.len() as u32 {
                made.entry(Value { node: id, output }).or_insert(Value { node: new, output });
            }
        }
        for (i, end) in self.ends.iter().enumerate() {
            part.add_output(format!("y{i}"), *made.get(&self.place(*end))?);
        }
        part.verify().ok()?;
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nnc_ir::text;

    use super::super::shrink;
    use super::*;

    #[test]
    fn what_does_not_matter_is_cut_off_on_all_sides() {
        let graph = text::parse(
            "%x = input : f32[1x2x4x4]\n%a = relu %x : f32[1x2x4x4]\n%b = tanh %a : f32[1x2x4x4]\n\
             %c = sigmoid %b : f32[1x2x4x4]\n%d = relu %c : f32[1x2x4x4]\noutput y = %d\noutput z = %a\n",
        )
        .unwrap();
        let has_sigmoid = |graph: &Graph| text::print(graph).contains("sigmoid");
        let small = shrink(graph, Duration::from_secs(60), simpler, has_sigmoid);
        assert_eq!(
            text::print(&small),
            "%in0 = input : f32[1x2x4x4]\n%c = sigmoid %in0 : f32[1x2x4x4]\noutput y0 = %c\n"
        );
    }
}
