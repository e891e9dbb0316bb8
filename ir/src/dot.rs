//! A graph for Graphviz: `dot -Tsvg`. Boxes are operators with what is fused into them and their shapes; constants are
//! left out.

use std::fmt::Write;

use crate::graph::Graph;
use crate::op::Op;
use crate::text;
use crate::types::TensorType;

/// The graph in the DOT language.
pub fn dot(graph: &Graph) -> String {
    let mut out = String::from(
        "digraph {\n  rankdir=TB;\n  node [shape=box, style=rounded, fontname=\"sans-serif\", fontsize=10];\n  \
         edge [fontname=\"sans-serif\", fontsize=8];\n",
    );
    let nodes = graph.order().unwrap_or_else(|_| graph.node_ids().collect());
    for id in nodes {
        let node = graph.node(id);
        if matches!(node.op, Op::Constant(_)) {
            continue;
        }
        let operands = graph.operands(id);
        let types: Vec<Option<&TensorType>> = operands.iter().map(|v| v.map(|v| graph.ty(v))).collect();
        let shapes: Vec<String> = node.outputs.iter().map(ToString::to_string).collect();
        let mut label = vec![node.name.clone(), node.op.name().to_string()];
        label.extend(weight(&node.op, &types));
        label.extend(split_attributes(&text::attributes(&node.op, &types)));
        label.push(shapes.join(", "));
        label.retain(|line| !line.is_empty());
        let style = if matches!(node.op, Op::Input) { ", shape=ellipse" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(out, "  n{} [label={}{style}];", id.index(), quoted(&label.join("\n")));
        for (input, value) in operands.iter().enumerate() {
            let Some(value) = value.filter(|v| graph.constant(*v).is_none()) else { continue };
            let first = operands.iter().flatten().next() == Some(&value);
            let role = if first && input == 0 { String::new() } else { role(&node.op, input) };
            let label = match (value.output, role.is_empty()) {
                (0, true) => String::new(),
                (0, false) => role,
                (output, true) => format!("output {output}"),
                (output, false) => format!("output {output} as {role}"),
            };
            let label = if label.is_empty() { label } else { format!(" [label={}]", quoted(&label)) };
            let _ = writeln!(out, "  n{} -> n{}{label};", value.node.index(), id.index());
        }
    }
    for (index, (name, value)) in graph.outputs().iter().enumerate() {
        let _ = writeln!(out, "  out{index} [shape=ellipse, label={}];", quoted(name));
        let _ = writeln!(out, "  n{} -> out{index};", value.node.index());
    }
    out.push_str("}\n");
    out
}

/// The extents of a weight, which the graph does not show as a box.
fn weight(op: &Op, operands: &[Option<&TensorType>]) -> Option<String> {
    let index = match op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) => 1,
        _ => return None,
    };
    operands.get(index).copied().flatten().map(|ty| format!("weight {}", ty.shape))
}

/// What an operand is to an operator, where that is not plain.
fn role(op: &Op, input: usize) -> String {
    use crate::op::{Conv, Pool};
    let residual = match op {
        Op::Conv(_) => input == Conv::RESIDUAL,
        Op::Pool(_) => input == Pool::RESIDUAL,
        _ => false,
    };
    if residual { "residual".to_string() } else { String::new() }
}

/// One line for each attribute that is short enough to be read in a box.
fn split_attributes(attributes: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut depth = 0usize;
    let mut line = String::new();
    for c in attributes.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == ',' && depth == 0 {
            lines.push(std::mem::take(&mut line));
        } else {
            line.push(c);
        }
    }
    lines.push(line);
    lines.iter().map(|l| l.trim().to_string()).map(|l| shortened(&l, 48)).collect()
}

fn shortened(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_string();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

/// A string of the DOT language.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
