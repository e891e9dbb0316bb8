//! Einsum: one nest over all names, with the operands as views along them.

use std::ops::Mul;

use nnc_ir::op::Einsum;

use super::draft::NestDraft;
use super::reduce::sum;
use super::{GenericError, Lowering};
use crate::code::nest::Expr;
use crate::code::view::View;

/// Loops along the names of the result, reduction along the others.
pub(super) fn einsum(l: &mut Lowering<'_>, op: &Einsum) -> Result<(), GenericError> {
    let y = l.output()?;
    let summed = op.summed();
    let axes: Vec<char> = op.result.iter().chain(&summed).copied().collect();
    let inputs: Vec<View> = (0..op.terms.len()).map(|i| l.input(i)).collect::<Result<_, _>>()?;
    let extent = |name: &char| {
        let of = op.terms.iter().zip(&inputs).flat_map(|(term, v)| term.iter().zip(&v.shape));
        let mut all = of.filter(|(other, _)| *other == name).map(|(_, &extent)| extent);
        // An extent of 0 or 1 gives way to any other but itself.
        let first = all.next().unwrap_or(1);
        all.fold(first, |known, next| if known == 1 { next } else { known })
    };
    let reduced: Vec<usize> = summed.iter().map(extent).collect();
    let shape = [&y.shape[..], &reduced].concat();
    let operands: Vec<View> = (inputs.iter().enumerate())
        .map(|(term, v)| View {
            shape: shape.clone(),
            strides: op.strides(term, &v.shape, &v.strides, &axes),
            ..*v
        })
        .collect();
    let product = (1..operands.len()).fold(Expr::Operand(0), |product, i| product.mul(Expr::Operand(i)));
    if reduced.is_empty() {
        return l.push(NestDraft::map(&operands, &y, product));
    }
    l.push(NestDraft::reduce(&operands, &y, &reduced, vec![sum(y.dtype, product)], Expr::Acc(0)))
}
