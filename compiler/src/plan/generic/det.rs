//! Det: Gauss's elimination on a copy of each matrix, with the largest element of a column as pivot.

use nnc_ir::DType;
use nnc_ir::op::Unary;

use super::draft::NestDraft;
use super::{GenericError, Lowering};
use crate::code::nest;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};

pub(super) fn det(l: &mut Lowering<'_>) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let size = x.shape.last().copied().unwrap_or(0);
    if size == 0 {
        return l.push(NestDraft::map(&[], &y, nest::Expr::constant(y.dtype, 1.0)));
    }
    let scratch = l.temp(x.dtype, &x.shape);
    super::copy::copy(l, &x, &scratch)?;
    let dtype = scratch.dtype;
    let mut w = Writer::new();
    let (a, to) = (w.memory(&scratch, MemoryUse::Update), w.memory(&y, MemoryUse::Write));
    let work = size.saturating_mul(size).saturating_mul(size);
    let (int, end) = (RoutineExpr::int, RoutineExpr::index(size));
    w.over(&y.shape, work, |w, batch| {
        let at = |row: &RoutineExpr, column: &RoutineExpr| [batch, &[row.clone(), column.clone()]].concat();
        let (product, regular, pivot) = (w.local(dtype), w.local(DType::I64), w.local(DType::I64));
        w.set(product, RoutineExpr::constant(dtype, 1.0));
        w.set(regular, int(1));
        w.for_each(int(0), end.clone(), |w, column| {
            w.when(regular.get().equals(int(1)), |w| {
                w.set(pivot, column.clone());
                w.for_each(column.clone() + int(1), end.clone(), |w, row| {
                    let (candidate, best) =
                        (w.load(a, &at(&row, &column)), w.load(a, &at(&pivot.get(), &column)));
                    let larger = best.unary(Unary::Abs).less(candidate.unary(Unary::Abs));
                    w.set(pivot, larger.select(row, pivot.get()));
                });
                w.when(pivot.get().equals(column.clone()).not(), |w| {
                    w.for_each(int(0), end.clone(), |w, i| {
                        let (upper, lower) = (w.load(a, &at(&column, &i)), w.load(a, &at(&pivot.get(), &i)));
                        w.store(a, &at(&column, &i), lower);
                        w.store(a, &at(&pivot.get(), &i), upper);
                    });
                    w.set(product, product.get().unary(Unary::Neg));
                });
                let top = w.load(a, &at(&column, &column));
                w.set(product, product.get() * top.clone());
                w.choose(
                    top.clone().equals(RoutineExpr::constant(dtype, 0.0)),
                    |w| w.set(regular, int(0)),
                    |w| {
                        w.for_each(column.clone() + int(1), end.clone(), |w, row| {
                            let factor = w.load(a, &at(&row, &column)) / top;
                            let factor = w.value(factor);
                            w.for_each(column.clone(), end.clone(), |w, i| {
                                let (here, above) = (w.load(a, &at(&row, &i)), w.load(a, &at(&column, &i)));
                                w.store(a, &at(&row, &i), here - factor.clone() * above);
                            });
                        });
                    },
                );
            });
        });
        w.store(to, batch, product.get());
    });
    l.push_routine(w)
}
