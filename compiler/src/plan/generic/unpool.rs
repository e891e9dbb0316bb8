//! The largest element of a window with its place, and the way back.

use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{MaxPoolArg, MaxUnpool, Unary};

use super::{GenericError, Lowering, copy};
use crate::code::nest::Constant;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};

/// The least number of a type.
fn least(dtype: DType) -> RoutineExpr {
    match dtype {
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => {
            RoutineExpr::Const(Constant::Int(dtype, i64::MIN >> (64 - 8 * dtype.bytes())))
        }
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => RoutineExpr::constant(dtype, f64::NEG_INFINITY),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::Bool => {
            RoutineExpr::Const(Constant::Int(dtype, 0))
        }
    }
}

pub(super) fn max_pool_arg(l: &mut Lowering<'_>, op: &MaxPoolArg) -> Result<(), GenericError> {
    let (x, y) = (l.input(0)?, l.output()?);
    let places = l.outputs.get(1).cloned().ok_or_else(|| l.misfit("there are no places"))?;
    if y.is_empty() {
        return Ok(());
    }
    if x.is_empty() {
        return Err(l.unsupported("an image without elements"));
    }
    let strides = op.place_strides(&x.shape);
    let window = &op.window;
    let mut w = Writer::new();
    let (from, to, places) =
        (w.memory(&x, MemoryUse::Read), w.memory(&y, MemoryUse::Write), w.memory(&places, MemoryUse::Write));
    let dtype = w.value_type(from);
    let taps = window.kernel.iter().fold(1usize, |n, &k| n.saturating_mul(k));
    w.over(&y.shape, taps.saturating_mul(4), |w, at| {
        let (best, place, found) = (w.local(dtype), w.local(DType::I64), w.local(DType::Bool));
        w.set(best, least(dtype));
        w.set(place, RoutineExpr::int(0));
        w.set(found, RoutineExpr::bool(false));
        w.nested(&window.kernel, Vec::new(), |w, tap| {
            let (mut source, mut inside) = (at[..2].to_vec(), RoutineExpr::bool(true));
            for (axis, tap) in tap.iter().enumerate() {
                let position = at[2 + axis].clone() * RoutineExpr::index(window.strides[axis]);
                let reach = tap.clone() * RoutineExpr::index(window.dilations[axis]);
                let element = w.value(position + reach - RoutineExpr::int(window.pads_begin[axis] as i64));
                let extent = RoutineExpr::index(x.shape[2 + axis]);
                inside =
                    inside.and(RoutineExpr::int(-1).less(element.clone())).and(element.clone().less(extent));
                source.push(element);
            }
            w.when(inside, |w| {
                let v = w.load(from, &source);
                let mut better = found.get().not().or(best.get().less(v.clone()));
                if dtype.is_float() {
                    let is_nan = |e: RoutineExpr| e.unary(Unary::IsNan);
                    better = better.or(is_nan(v.clone()).and(is_nan(best.get()).not()));
                }
                w.when(better, |w| {
                    let moved = source.iter().zip(&strides).map(|(i, &s)| i.clone() * RoutineExpr::index(s));
                    w.set(place, moved.reduce(|a, b| a + b).unwrap_or(RoutineExpr::int(0)));
                    w.set(best, v);
                    w.set(found, RoutineExpr::bool(true));
                });
            });
        });
        w.store(to, at, best.get());
        w.store(places, at, place.get());
    });
    l.push_routine(w)
}

pub(super) fn max_unpool(l: &mut Lowering<'_>, _: &MaxUnpool) -> Result<(), GenericError> {
    let (x, places, y) = (l.input(0)?, l.input(1)?, l.output()?);
    copy::zeros(l, &y)?;
    if x.is_empty() || y.is_empty() {
        return Ok(());
    }
    let mut w = Writer::new();
    let (from, to) = (w.moved(&x, MemoryUse::Read), w.moved(&y, MemoryUse::Update));
    let places = w.memory(&places, MemoryUse::Read);
    // Any two places may be the same: all by one unit, in order.
    w.nested(&x.shape, Vec::new(), |w, at| {
        let place = w.load(places, at);
        let inside =
            RoutineExpr::int(-1).less(place.clone()).and(place.clone().less(RoutineExpr::index(y.elems())));
        w.when(inside, |w| {
            let (mut target, mut left) = (vec![RoutineExpr::int(0); y.rank()], place);
            for (axis, &extent) in y.shape.iter().enumerate().rev() {
                target[axis] =
                    w.value(left.clone().binary(BinaryFn::Mod { fmod: true }, RoutineExpr::index(extent)));
                left = w.value(left / RoutineExpr::index(extent));
            }
            let element = w.load(from, at);
            w.store(to, &target, element);
        });
    });
    l.push_routine(w)
}
