//! Turns a sum of products over names into a product of matrices.
//!
//! ```text
//!   einsum bqhd,bkhd->bhqk        names in both and the result    b h     batches
//!                                 in the first and the result     q       rows
//!                                 in the second and the result    k       columns
//!                                 in both alone                   d       what is summed over
//!
//!   transpose [b,h,q,d] ─┐
//!   transpose [b,h,d,k] ─┴▶ matmul [b,h,q,k] ─▶ transpose, where the result names them in another order
//! ```
//!
//! Transposes are other views of the same bytes. The operand whose name comes last in the result has the columns. Several names of one
//! kind are one axis, but for rows, of which all but the last are batches in which the second operand is the same.

use nnc_ir::op::{Einsum, MatMul, Reshape, Transpose};
use nnc_ir::{Graph, NodeId, Op, Value};

use super::edit::{each_node, is_float, rewrite};
use super::{EditError, Notes};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<(), EditError> {
    each_node(graph, notes, |graph, notes, id| {
        let Some(product) = NamedProduct::of(graph, id) else { return Ok(()) };
        product.write(graph, id)?;
        notes.count("turned into matrix products");
        Ok(())
    })
}

/// A name and its extent.
type Name = (char, usize);

/// The names of a sum by what they are to a product of matrices.
#[derive(Debug)]
struct NamedProduct {
    a: (Value, Vec<char>),
    b: (Value, Vec<char>),
    batch: Vec<Name>,
    rows: Vec<Name>,
    columns: Vec<Name>,
    summed: Vec<Name>,
    result: Vec<char>,
}

impl NamedProduct {
    /// The product that a node is: of two operands of floats, whose names each stand for one axis of one extent, and are all in the
    /// result or in both operands.
    fn of(graph: &Graph, id: NodeId) -> Option<NamedProduct> {
        let Op::Einsum(Einsum { terms, result }) = &graph.node(id).op else { return None };
        let [first, second] = &terms[..] else { return None };
        let (x, y) = (graph.operand(id, 0)?, graph.operand(id, 1)?);
        if !is_float(graph, x) || graph.ty(x).dtype != graph.ty(y).dtype {
            return None;
        }
        let shapes = [&graph.ty(x).shape, &graph.ty(y).shape];
        let axes = |shape: &[usize], names: &[char]| {
            names.iter().copied().zip(shape.to_vec()).collect::<Vec<Name>>()
        };
        let named = [axes(shapes[0], first), axes(shapes[1], second)];
        let twice = |names: &[char]| (1..names.len()).any(|i| names[..i].contains(&names[i]));
        if twice(first) || twice(second) || twice(result) {
            return None;
        }
        // The columns are those of the operand that has the last name of the result, and has it alone.
        let last = result.last()?;
        let swapped = match (first.contains(last), second.contains(last)) {
            (false, true) => false,
            (true, false) => true,
            _ => return None,
        };
        let (a, b) = if swapped { (1, 0) } else { (0, 1) };
        let values = [x, y];
        let names = [first, second];
        let other = |name: &char, of: &[Name]| of.iter().find(|(n, _)| n == name).map(|(_, extent)| *extent);
        let (mut batch, mut rows, mut columns, mut summed) = (vec![], vec![], vec![], vec![]);
        for &(name, extent) in &named[a] {
            match (other(&name, &named[b]), result.contains(&name)) {
                (Some(same), true) if same == extent => batch.push((name, extent)),
                (Some(same), false) if same == extent => summed.push((name, extent)),
                (None, true) => rows.push((name, extent)),
                _ => return None,
            }
        }
        for &(name, extent) in &named[b] {
            match (other(&name, &named[a]), result.contains(&name)) {
                (None, true) => columns.push((name, extent)),
                (None, false) => return None,
                _ => {}
            }
        }
        if summed.is_empty() || graph.ty(id.into()).shape.elems() == 0 {
            return None;
        }
        // In the order of the result, so that it has to be turned as little as possible.
        for names in [&mut batch, &mut rows, &mut columns] {
            names.sort_by_key(|(name, _)| result.iter().position(|n| n == name));
        }
        Some(NamedProduct {
            a: (values[a], names[a].clone()),
            b: (values[b], names[b].clone()),
            batch,
            rows,
            columns,
            summed,
            result: result.clone(),
        })
    }

    /// Puts the product in the place of the node.
    fn write(&self, graph: &mut Graph, id: NodeId) -> Result<(), EditError> {
        let name = graph.node(id).name.clone();
        let NamedProduct { batch, rows, columns, summed, .. } = self;
        let extent = |names: &[Name]| names.iter().map(|(_, extent)| extent).product::<usize>();
        let extents = |names: &[Name]| names.iter().map(|(_, extent)| *extent).collect::<Vec<usize>>();
        let (outer, row) = rows.split_at(rows.len().saturating_sub(1));
        let shape_a = [&extents(batch)[..], &extents(outer), &[extent(row), extent(summed)]].concat();
        let shape_b =
            [&extents(batch)[..], &vec![1; outer.len()], &[extent(summed), extent(columns)]].concat();
        let a = laid_out(graph, &format!("{name}:a"), &self.a, &[batch, rows, summed], shape_a)?;
        let b = laid_out(graph, &format!("{name}:b"), &self.b, &[batch, summed, columns], shape_b)?;
        let product = graph.add(name.clone(), MatMul::default().into(), &[Some(a), Some(b)])?;
        let made: Vec<Name> = [&batch[..], rows, columns].concat();
        let apart = graph.add(
            format!("{name}:names"),
            Reshape { shape: extents(&made) }.into(),
            &[Some(product.into())],
        )?;
        let place = |name: &char| made.iter().position(|(n, _)| n == name);
        let perm: Vec<usize> = self.result.iter().filter_map(place).collect();
        graph.rename(id, format!("{name}:turned"));
        rewrite(graph, id, Transpose { perm }, &[Some(apart.into())])
    }
}

/// An operand with its axes in the order of some names, under a shape.
fn laid_out(
    graph: &mut Graph,
    name: &str,
    (value, names): &(Value, Vec<char>),
    order: &[&Vec<Name>],
    shape: Vec<usize>,
) -> Result<Value, EditError> {
    let place = |(name, _): &Name| names.iter().position(|n| n == name);
    let perm: Vec<usize> = order.iter().flat_map(|names| names.iter().filter_map(place)).collect();
    let turned = graph.add(format!("{name}:turned"), Transpose { perm }.into(), &[Some(*value)])?;
    Ok(graph.add(name.to_string(), Reshape { shape }.into(), &[Some(turned.into())])?.into())
}
