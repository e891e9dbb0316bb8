//! Pools over regions that data name: RoiAlign and MaxRoiPool. Each operation is one of the evaluator's, in the type in which
//! elements are computed.

use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::roi::MOST_SAMPLES;
use nnc_ir::op::{MaxRoiPool, RoiAlign, Unary};

use super::copy::{channels_innermost, copy, innermost_memory};
use super::{GenericError, Lowering};
use crate::code::nest::computed;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};

/// Operations that find the place of a bin.
const WORK: usize = 64;

/// Two neighbours along an axis, how far a sample is from the first to the second, and whether it counts.
struct Pair {
    first: RoutineExpr,
    second: RoutineExpr,
    part: RoutineExpr,
    inside: RoutineExpr,
}

/// One axis of regions.
struct RoiAxis {
    dtype: DType,
    bins: usize,
    extent: usize,
}

impl RoiAxis {
    fn constant(&self, v: f64) -> RoutineExpr {
        RoutineExpr::constant(self.dtype, v)
    }

    /// Where a bin begins, how large it is, and how many samples it has.
    fn bin(
        &self,
        w: &mut Writer,
        op: &RoiAlign,
        [begin, end]: [RoutineExpr; 2],
        bin: &RoutineExpr,
    ) -> [RoutineExpr; 3] {
        let (scale, offset) = (self.constant(op.scale.into()), self.constant(0.5));
        let moved = |w: &mut Writer, v: RoutineExpr| {
            let scaled = v * scale.clone();
            w.value(if op.half_pixel { scaled - offset.clone() } else { scaled })
        };
        let (begin, end) = (moved(w, begin), moved(w, end));
        let size = end - begin.clone();
        let size = if op.half_pixel { size } else { size.max(self.constant(1.0)) };
        let size = w.value(size / self.constant(self.bins as f64));
        let count = match op.samples {
            0 => {
                let pixels = size.clone().unary(Unary::Ceil).max(self.constant(0.0)).cast(DType::I64);
                w.value(pixels.max(RoutineExpr::int(0)).min(RoutineExpr::index(MOST_SAMPLES)))
            }
            samples => RoutineExpr::index(samples),
        };
        let start = w.value(begin + bin.clone().cast(self.dtype) * size.clone());
        [start, size, count]
    }

    /// A sample of a bin.
    fn sample(&self, w: &mut Writer, [start, size, count]: &[RoutineExpr; 3], sample: RoutineExpr) -> Pair {
        let middle = sample.cast(self.dtype) + self.constant(0.5);
        let at = start.clone() + middle * size.clone() / count.clone().cast(self.dtype);
        let at = w.value(at);
        let last = self.extent.saturating_sub(1);
        let low = self.constant(-1.0).binary(BinaryFn::LessOrEqual, at.clone());
        let inside = low.and(at.clone().binary(BinaryFn::LessOrEqual, self.constant(self.extent as f64)));
        let at = w.value(at.max(self.constant(0.0)));
        let floor = w.value(at.clone().unary(Unary::Floor));
        let at_edge = self.constant(last as f64).binary(BinaryFn::LessOrEqual, floor.clone());
        let part = w.value(at_edge.select(self.constant(0.0), at - floor.clone()));
        let first = w.value(floor.cast(DType::I64).min(RoutineExpr::index(last)));
        let second = w.value((first.clone() + RoutineExpr::int(1)).min(RoutineExpr::index(last)));
        Pair { first, second, part, inside: w.value(inside) }
    }

    /// A number rounded to the nearest integer, halves away from zero.
    fn rounded(&self, w: &mut Writer, v: RoutineExpr) -> RoutineExpr {
        let v = w.value(v);
        let size = w.value(v.clone().unary(Unary::Abs));
        let floor = w.value(size.clone().unary(Unary::Floor));
        let up = self.constant(0.5).binary(BinaryFn::LessOrEqual, size - floor.clone());
        let size = w.value(up.select(floor.clone() + self.constant(1.0), floor));
        w.value(v.less(self.constant(0.0)).select(size.clone().unary(Unary::Neg), size))
    }

    /// The pixels of a bin: the first, and one past the last.
    fn pixels(
        &self,
        w: &mut Writer,
        scale: f32,
        [begin, end]: [RoutineExpr; 2],
        bin: &RoutineExpr,
    ) -> [RoutineExpr; 2] {
        let scale = self.constant(scale.into());
        let begin = self.rounded(w, begin * scale.clone());
        let end = self.rounded(w, end * scale);
        let one = self.constant(1.0);
        let size = (end - begin.clone() + one.clone()).max(one);
        let size = w.value(size / self.constant(self.bins as f64));
        let mut edge = |bin: RoutineExpr, rounding: Unary| {
            let at = (bin.cast(self.dtype) * size.clone()).unary(rounding) + begin.clone();
            let at = at.max(self.constant(0.0)).min(self.constant(self.extent as f64)).cast(DType::I64);
            w.value(at.max(RoutineExpr::int(0)).min(RoutineExpr::index(self.extent)))
        };
        [edge(bin.clone(), Unary::Floor), edge(bin.clone() + RoutineExpr::int(1), Unary::Ceil)]
    }
}

/// Bin by bin: the place and the weights of a sample are found once, and what is sampled is added to the bin of each channel, which
/// lie side by side.
pub(super) fn roi_align(l: &mut Lowering<'_>, op: &RoiAlign) -> Result<(), GenericError> {
    let (x, rois, batches, result) = (l.input(0)?, l.input(1)?, l.input(2)?, l.output()?);
    if result.is_empty() {
        return Ok(());
    }
    let dtype = computed(x.dtype);
    let x = channels_innermost(l, &x)?;
    let mut y = innermost_memory(l, &result);
    if y.dtype != dtype {
        // Sums are rounded once.
        y = l.temp(dtype, &result.shape);
    }
    let rows = RoiAxis { dtype, bins: op.bins[0], extent: x.shape[2] };
    let columns = RoiAxis { dtype, bins: op.bins[1], extent: x.shape[3] };
    let channels = x.shape[1];
    let mut w = Writer::new();
    let (image, regions) = (w.memory(&x, MemoryUse::Read), w.memory(&rois, MemoryUse::Read));
    let (batches, to) = (w.memory(&batches, MemoryUse::Read), w.memory(&y, MemoryUse::Write));
    let samples = op.samples.max(2);
    let work = (WORK + 4 * channels).saturating_mul(samples.saturating_mul(samples));
    w.over(&[y.shape[0], y.shape[2], y.shape[3]], work, |w, at| {
        let [region, bin_row, bin_column] = at else { return };
        let bin = |channel: RoutineExpr| [region.clone(), channel, bin_row.clone(), bin_column.clone()];
        let each = |w: &mut Writer, body: &dyn Fn(&mut Writer, &[RoutineExpr; 4], RoutineExpr)| {
            w.for_each(RoutineExpr::int(0), RoutineExpr::index(channels), |w, channel| {
                body(w, &bin(channel.clone()), channel);
            });
        };
        let batch = w.load(batches, std::slice::from_ref(region));
        let [left, top, right, bottom] =
            [0, 1, 2, 3].map(|i| w.load(regions, &[region.clone(), RoutineExpr::index(i)]));
        let row = rows.bin(w, op, [top, bottom], bin_row);
        let column = columns.bin(w, op, [left, right], bin_column);
        let zero = || RoutineExpr::constant(dtype, 0.0);
        each(w, &|w, bin, _| w.store(to, bin, zero()));
        let some = w.local(DType::Bool);
        w.set(some, RoutineExpr::bool(false));
        w.for_each(RoutineExpr::int(0), row[2].clone(), |w, i| {
            let vertical = rows.sample(w, &row, i);
            w.for_each(RoutineExpr::int(0), column[2].clone(), |w, j| {
                let horizontal = columns.sample(w, &column, j);
                let one = || RoutineExpr::constant(dtype, 1.0);
                let mut corners = Vec::new();
                for (i, by_row) in [
                    (&vertical.first, one() - vertical.part.clone()),
                    (&vertical.second, vertical.part.clone()),
                ] {
                    for (j, by_column) in [
                        (&horizontal.first, one() - horizontal.part.clone()),
                        (&horizontal.second, horizontal.part.clone()),
                    ] {
                        corners.push((i.clone(), j.clone(), w.value(by_row.clone() * by_column)));
                    }
                }
                let inside = w.value(vertical.inside.clone().and(horizontal.inside));
                let sample = |w: &mut Writer, channel: &RoutineExpr| {
                    let mut products = Vec::new();
                    for (i, j, weight) in &corners {
                        let at = [batch.clone(), channel.clone(), i.clone(), j.clone()];
                        let element = w.load(image, &at);
                        products.push(w.value(weight.clone() * element));
                    }
                    let joined = products.into_iter().reduce(|a, b| if op.max { a.max(b) } else { a + b });
                    w.value(inside.clone().select(joined.unwrap_or(zero()), zero()))
                };
                let joins = |first: bool| {
                    let sample = &sample;
                    move |w: &mut Writer, bin: &[RoutineExpr; 4], channel: RoutineExpr| {
                        let value = sample(w, &channel);
                        let old = w.load(to, bin);
                        let new = match (op.max, first) {
                            (true, true) => value,
                            (true, false) => old.max(value),
                            (false, _) => old + value,
                        };
                        w.store(to, bin, new);
                    }
                };
                match op.max {
                    true => {
                        w.choose(some.get(), |w| each(w, &joins(false)), |w| each(w, &joins(true)));
                        w.set(some, RoutineExpr::bool(true));
                    }
                    false => each(w, &joins(false)),
                }
            });
        });
        if !op.max {
            let count = (row[2].clone() * column[2].clone()).max(RoutineExpr::int(1));
            let count = w.value(count.cast(dtype));
            each(w, &|w, bin, _| {
                let sum = w.load(to, bin);
                w.store(to, bin, sum / count.clone());
            });
        }
    });
    l.push_routine(w)?;
    if y == result { Ok(()) } else { copy(l, &y, &result) }
}

pub(super) fn max_roi_pool(l: &mut Lowering<'_>, op: &MaxRoiPool) -> Result<(), GenericError> {
    let (x, rois, y) = (l.input(0)?, l.input(1)?, l.output()?);
    if y.is_empty() {
        return Ok(());
    }
    let dtype = computed(x.dtype);
    let rows = RoiAxis { dtype, bins: op.bins[0], extent: x.shape[2] };
    let columns = RoiAxis { dtype, bins: op.bins[1], extent: x.shape[3] };
    let mut w = Writer::new();
    let (image, regions) = (w.memory(&x, MemoryUse::Read), w.memory(&rois, MemoryUse::Read));
    let to = w.memory(&y, MemoryUse::Write);
    let pixels = (x.shape[2] / op.bins[0] + 1).saturating_mul(x.shape[3] / op.bins[1] + 1);
    w.over(&y.shape, pixels.saturating_add(WORK), |w, at| {
        let (region, channel) = (at[0].clone(), at[1].clone());
        let [batch, left, top, right, bottom] =
            [0, 1, 2, 3, 4].map(|i| w.load(regions, &[region.clone(), RoutineExpr::index(i)]));
        let batch = w.value(batch.cast(DType::I64));
        let [first_row, last_row] = rows.pixels(w, op.scale, [top, bottom], &at[2]);
        let [first_column, last_column] = columns.pixels(w, op.scale, [left, right], &at[3]);
        let (result, some) = (w.local(dtype), w.local(DType::I64));
        w.set(result, RoutineExpr::constant(dtype, 0.0));
        w.set(some, RoutineExpr::int(0));
        w.for_each(first_row, last_row, |w, i| {
            w.for_each(first_column, last_column, |w, j| {
                let element = w.load(image, &[batch, channel, i, j]);
                let first = some.get().equals(RoutineExpr::int(0));
                w.set(result, first.select(element.clone(), result.get().max(element)));
                w.set(some, RoutineExpr::int(1));
            });
        });
        w.store(to, at, result.get());
    });
    l.push_routine(w)
}
