//! GridSample: for each position of the grid the taps and their weights, then their sum for each channel.

use nnc_ir::DType;
use nnc_ir::op::{GridSample, SampleMode, SamplePadding, Unary};

use super::copy::{channels_innermost, copy, innermost_memory};
use super::{GenericError, Lowering};
use crate::code::float::Float;
use crate::code::nest::computed;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};

/// An element of the image, as long as it is inside, and its weight.
struct SampleTap {
    index: RoutineExpr,
    inside: Option<RoutineExpr>,
    weight: RoutineExpr,
}

/// Writes the places of one axis in a float type.
struct GridAxis<'a> {
    op: &'a GridSample,
    dtype: DType,
    extent: usize,
}

impl GridAxis<'_> {
    fn constant(&self, v: f64) -> RoutineExpr {
        RoutineExpr::constant(self.dtype, v)
    }

    /// The place that a number of the grid means; each operation is one of the evaluator's.
    fn place(&self, w: &mut Writer, at: RoutineExpr) -> RoutineExpr {
        let (one, two) = (self.constant(1.0), self.constant(2.0));
        let (size, last) = (self.constant(self.extent as f64), self.constant(self.extent as f64 - 1.0));
        let x = match self.op.align_corners {
            true => (at + one) / two * last.clone(),
            false => ((at + one.clone()) * size - one) / two,
        };
        let x = if self.op.mode == SampleMode::Nearest { x.unary(Unary::Round) } else { x };
        let x = w.value(x);
        let (low, high) = self.op.border(self.extent);
        match self.op.padding_of_places() {
            SamplePadding::Zeros => x,
            SamplePadding::Border => {
                let outside = x.clone().less(self.constant(low)).or(self.constant(high).less(x.clone()));
                let clamped = x.clone().max(self.constant(0.0)).min(last);
                w.value(outside.select(clamped, x))
            }
            SamplePadding::Reflection => self.reflected(w, x),
        }
    }

    /// A place outside of the border, mirrored at it until it is inside.
    fn reflected(&self, w: &mut Writer, x: RoutineExpr) -> RoutineExpr {
        let (low, high) = self.op.border(self.extent);
        let range = high - low;
        let (low, high) = (self.constant(low), self.constant(high));
        if range <= 0.0 {
            return w.value(x.clone().equals(x.clone()).select(low, x));
        }
        let below = w.value(x.clone().less(low.clone()));
        let outside = w.value(below.clone().or(high.clone().less(x.clone())));
        let beyond = w.value(below.clone().select(low.clone() - x.clone(), x.clone() - high.clone()));
        let times = w.value((beyond.clone() / self.constant(range)).unary(Unary::Floor));
        let rest = w.value(beyond - times.clone() * self.constant(range));
        let even = (times.clone() * self.constant(0.5)).unary(Unary::Floor) * self.constant(2.0);
        let is_odd = w.value(even.less(times));
        // From the lower border upwards: it is the near one, or the far one after an odd number of times.
        let upwards = below.clone().and(is_odd.clone().not()).or(below.not().and(is_odd));
        let mirrored = upwards.select(low + rest.clone(), high - rest);
        w.value(outside.select(mirrored, x))
    }

    /// Keys' weights at distances from 0 to 1 (`near`) and 1 to 2.
    fn keys(&self, d: RoutineExpr, near: bool) -> RoutineExpr {
        const A: f64 = -0.75;
        let k = |v: f64| self.constant(v);
        if near {
            ((k(A + 2.0) * d.clone() - k(A + 3.0)) * d.clone()) * d + k(1.0)
        } else {
            ((k(A) * d.clone() - k(5.0 * A)) * d.clone() + k(8.0 * A)) * d - k(4.0 * A)
        }
    }

    /// The taps around a place.
    fn taps(&self, w: &mut Writer, x: RoutineExpr) -> Vec<SampleTap> {
        let floor = w.value(x.clone().unary(Unary::Floor));
        let one = self.constant(1.0);
        let f = w.value(x.clone() - floor.clone());
        let taps = match self.op.mode {
            SampleMode::Nearest => vec![(x, one)],
            SampleMode::Linear => vec![(floor.clone(), one.clone() - f.clone()), (floor + one, f)],
            SampleMode::Cubic => {
                let back = w.value(one.clone() - f.clone());
                vec![
                    (floor.clone() - one.clone(), self.keys(f.clone() + one.clone(), false)),
                    (floor.clone(), self.keys(f, true)),
                    (floor.clone() + one.clone(), self.keys(back.clone(), true)),
                    (floor + self.constant(2.0), self.keys(back + one, false)),
                ]
            }
        };
        taps.into_iter()
            .map(|(index, weight)| {
                let index = w.value(index);
                let last = self.constant(self.extent as f64 - 1.0);
                // Outside of all borders, a load takes the element at the edge.
                let (index, inside) = match self.op.padding {
                    SamplePadding::Zeros => {
                        let low = self.constant(0.0).binary(LESS_OR_EQUAL, index.clone());
                        let inside = low.and(index.clone().binary(LESS_OR_EQUAL, last));
                        (index, Some(w.value(inside)))
                    }
                    SamplePadding::Border => (index, None),
                    SamplePadding::Reflection => (self.reflected(w, index), None),
                };
                SampleTap { index: w.value(index.cast(DType::I64)), inside, weight: w.value(weight) }
            })
            .collect()
    }
}

const LESS_OR_EQUAL: nnc_ir::op::elementwise::BinaryFn = nnc_ir::op::elementwise::BinaryFn::LessOrEqual;

pub(super) fn grid_sample(l: &mut Lowering<'_>, op: &GridSample) -> Result<(), GenericError> {
    let (x, grid, y) = (l.input(0)?, l.input(1)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let nearest = op.mode == SampleMode::Nearest;
    // Bits are moved as they are: half floats do not go through memory in between.
    let (x, result) = match nearest && Float::of(x.dtype).is_some_and(Float::is_half) {
        true => (x, None),
        false => (channels_innermost(l, &x)?, Some(y.clone())),
    };
    let y = result.as_ref().map_or(y, |y| innermost_memory(l, y));
    let image = x.shape[2..].to_vec();
    let (channels, axes) = (y.shape[1], image.len());
    let mut w = Writer::new();
    let places = w.memory(&grid, MemoryUse::Read);
    let (from, to) = match nearest {
        true => (w.moved(&x, MemoryUse::Read), w.moved(&y, MemoryUse::Write)),
        false => (w.memory(&x, MemoryUse::Read), w.memory(&y, MemoryUse::Write)),
    };
    let value = w.value_type(from);
    let positions = [&y.shape[..1], &y.shape[2..]].concat();
    let each: usize = match op.mode {
        SampleMode::Nearest => 1,
        SampleMode::Linear => 2,
        SampleMode::Cubic => 4,
    };
    let work = each.saturating_pow(axes as u32).saturating_mul(4 * channels).saturating_add(64);
    w.over(&positions, work, |w, at| {
        let mut all: Vec<SampleTap> =
            vec![SampleTap { index: RoutineExpr::int(0), inside: None, weight: RoutineExpr::int(0) }];
        let mut indices: Vec<Vec<RoutineExpr>> = vec![Vec::new()];
        for (i, &extent) in image.iter().enumerate() {
            let axis = GridAxis { op, dtype: computed(grid.dtype), extent };
            let number = w.load(places, &[at, &[RoutineExpr::index(axes - 1 - i)]].concat());
            let place = axis.place(w, number);
            let taps = axis.taps(w, place);
            // Every tap so far with every one of this axis.
            let (mut next, mut next_indices) = (Vec::new(), Vec::new());
            for (so_far, index) in all.iter().zip(&indices) {
                for tap in &taps {
                    let inside = match (&so_far.inside, &tap.inside) {
                        (Some(a), Some(b)) => Some(w.value(a.clone().and(b.clone()))),
                        (a, b) => a.clone().or(b.clone()),
                    };
                    let weight = match (i, nearest) {
                        (_, true) => RoutineExpr::int(0),
                        (0, _) => tap.weight.clone(),
                        _ => w.value(so_far.weight.clone() * tap.weight.clone()),
                    };
                    next.push(SampleTap { index: RoutineExpr::int(0), inside, weight });
                    next_indices.push([&index[..], std::slice::from_ref(&tap.index)].concat());
                }
            }
            (all, indices) = (next, next_indices);
        }
        let weights: Vec<RoutineExpr> = match nearest {
            true => Vec::new(),
            false => all.iter().map(|tap| w.value(tap.weight.clone().cast(value))).collect(),
        };
        w.for_each(RoutineExpr::int(0), RoutineExpr::index(channels), |w, channel| {
            let zero = RoutineExpr::constant(value, 0.0);
            let mut sum: Option<RoutineExpr> = None;
            for (i, (tap, index)) in all.iter().zip(&indices).enumerate() {
                let source = [&at[..1], std::slice::from_ref(&channel), index].concat();
                let element = w.load(from, &source);
                let term = match weights.get(i) {
                    Some(weight) => element * weight.clone(),
                    None => element,
                };
                let term = match &tap.inside {
                    Some(inside) => inside.clone().select(term, zero.clone()),
                    None => term,
                };
                sum = Some(match sum {
                    Some(sum) => w.value(sum + term),
                    None => term,
                });
            }
            let target = [&at[..1], &[channel], &at[1..]].concat();
            w.store(to, &target, sum.unwrap_or(zero));
        });
    });
    l.push_routine(w)?;
    match result {
        Some(result) if result != y => copy(l, &y, &result),
        _ => Ok(()),
    }
}
