//! Folds the factors and the transpose of a Gemm into its constants.
//!
//! ```text
//!   alpha · A · Bᵀ + beta · C        becomes        A · B′ + C′
//! ```
//!
//! Afterwards a Gemm with constant weights has them as [K, N], the order in which they are packed.

use nnc_ir::op::Gemm;
use nnc_ir::{Graph, NodeId, Op, Tensor, Value};

use super::edit::{each_node, floats, rewrite};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        if fold_factors(graph, id)? {
            notes.count("freed of its factors");
        }
        if graph.contains(id) && fold_transpose(graph, id)? {
            notes.count("freed of its transpose");
        }
        Ok(())
    })
}

/// Folds alpha into B and beta into C where they are constants.
pub(super) fn fold_factors(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Op::Gemm(gemm) = &graph.node(id).op else { return Ok(false) };
    let mut gemm = gemm.clone();
    let mut operands = graph.operands(id);
    let mut changed = false;
    for (factor, position) in [(&mut gemm.alpha, 1), (&mut gemm.beta, 2)] {
        if *factor == 1.0 {
            continue;
        }
        let scaled = match operands.get(position).copied().flatten() {
            // Only C may be missing.
            None => None,
            Some(value) => match scaled(graph, value, *factor)? {
                Some(value) => Some(value),
                None => continue,
            },
        };
        if let (Some(slot), Some(value)) = (operands.get_mut(position), scaled) {
            *slot = Some(value);
        }
        *factor = 1.0;
        changed = true;
    }
    if changed {
        rewrite(graph, id, gemm, &operands)?;
    }
    Ok(changed)
}

/// A constant times a factor, as a new constant. None where that is not finite: `alpha · Σ a · b` is another infinity or NaN than
/// `Σ a · (alpha · b)`.
fn scaled(graph: &mut Graph, value: Value, factor: f32) -> Result<Option<Value>, EditError> {
    let Some(elems) = floats(graph, value) else { return Ok(None) };
    let elems: Vec<f32> = elems.iter().map(|x| x * factor).collect();
    if !elems.iter().all(|x| x.is_finite()) {
        return Ok(None);
    }
    let tensor = Tensor::new(graph.ty(value).shape.clone(), &elems)?;
    let name = graph.node(value.node).name.clone();
    Ok(Some(graph.add_constant(name, tensor)))
}

/// Gives a Gemm its constant B as [K, N].
fn fold_transpose(graph: &mut Graph, id: NodeId) -> Result<bool, EditError> {
    let Op::Gemm(gemm) = &graph.node(id).op else { return Ok(false) };
    if !gemm.trans_b {
        return Ok(false);
    }
    let gemm = Gemm { trans_b: false, ..gemm.clone() };
    let mut operands = graph.operands(id);
    let Some(Some(b)) = operands.get(1).copied() else { return Ok(false) };
    let Some(elems) = floats(graph, b) else { return Ok(false) };
    let [n, k] = graph.ty(b).shape[..] else { return Ok(false) };
    let tensor = Tensor::new([k, n], &transposed(&elems, n, k))?;
    let name = graph.node(b.node).name.clone();
    operands[1] = Some(graph.add_constant(name, tensor));
    rewrite(graph, id, gemm, &operands)?;
    Ok(true)
}

/// The transpose of a matrix of `rows` × `columns`, in blocks that stay in the cache.
pub(super) fn transposed(elems: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let mut result = vec![0.0; elems.len()];
    for row in (0..rows).step_by(BLOCK) {
        for column in (0..columns).step_by(BLOCK) {
            for r in row..(row + BLOCK).min(rows) {
                for c in column..(column + BLOCK).min(columns) {
                    result[c * rows + r] = elems[r * columns + c];
                }
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_that_is_transposed_has_its_rows_as_columns() {
        let elems: Vec<f32> = (0..70 * 45).map(|i| i as f32).collect();
        let t = transposed(&elems, 70, 45);
        for r in 0..70 {
            for c in 0..45 {
                assert_eq!(t[c * 70 + r], elems[r * 45 + c]);
            }
        }
    }
}
