//! What holds of every operator: its name, how much it computes, what it refuses, and that the images of a batch know nothing of each
//! other. Operators are written as in the text of a graph, with types in place of operands.

mod batches;
mod refusals;
mod work;

use super::{Op, OpError, testing};
use crate::{Graph, NodeId, text};

/// A graph of one node: `gather_at f32[4x3], i64[2] {axis=1} : f32[4x2]`. An operand that is left out is `_`; what follows the operands
/// begins with a brace, a colon, or a new line.
pub fn parsed(statement: &str) -> Result<(Graph, NodeId), String> {
    let (head, tail) = statement.split_at(statement.find([':', '{', '\n']).unwrap_or(statement.len()));
    let (word, operands) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
    let mut lines = String::new();
    let mut names = Vec::new();
    for (index, ty) in operands.split(", ").map(str::trim).filter(|ty| !ty.is_empty()).enumerate() {
        match ty {
            "_" => names.push("_".to_owned()),
            _ => {
                lines += &format!("%x{index} = input : {ty}\n");
                names.push(format!("%x{index}"));
            }
        }
    }
    lines += &format!("%node = {word} {} {tail}\noutput y = %node\n", names.join(", "));
    let graph = text::parse(&lines).map_err(|e| e.to_string())?;
    let node = graph.outputs()[0].1.node;
    Ok((graph, node))
}

#[test]
fn inputs_have_no_operands_and_constants_are_their_value() {
    let three = testing::tensor([1], &[3i32]);
    assert_eq!(Op::Constant(three.clone()).infer(&[]).unwrap(), [three.ty().clone()]);
    assert_eq!(Op::Constant(three.clone()).eval(&[]).unwrap(), [three]);
    let told = |e: OpError| e.to_string();
    assert_eq!(Op::Input.infer(&[]).map_err(told), Err("an input has no operands to infer from".into()));
    assert_eq!(Op::Input.eval(&[]).map_err(told), Err("an input has no value of its own".into()));
}
