//! NonMaxSuppression: the best box, then the best of those that share little with it, and so on.
//!
//! ```text
//!   scores, as items        a [`Tournament`] of them: most are never looked at again
//!   the best box            held against sixteen of those kept at once
//!   kept   top    0 3 …     five rows, a column for each box, so that sixteen of them are a few vectors
//!          area   4 9 …
//! ```

use nnc_ir::DType;
use nnc_ir::op::NonMaxSuppression;
use nnc_ir::op::elementwise::BinaryFn;

use super::rank::ItemOrder;
use super::tournament::{self, Tournament};
use super::{GenericError, Lowering, copy};
use crate::code::routine::write::Mem;
use crate::code::routine::{MemoryUse, RoutineExpr, Writer};
use crate::code::view::View;

/// Two routines: each class by itself, in parallel; then all of them one after another.
pub(super) fn non_max_suppression(l: &mut Lowering<'_>, op: &NonMaxSuppression) -> Result<(), GenericError> {
    let scores = l.input(1)?;
    let (selected, count) = (l.result(0)?, l.result(1)?);
    copy::zeros(l, &selected)?;
    if selected.is_empty() {
        return copy::zeros(l, &count);
    }
    let (classes, n) = (&scores.shape[..2], scores.shape[2]);
    let most = op.most.min(n);
    let kept = l.temp(DType::I64, &[classes, &[most]].concat());
    let counts = l.temp(DType::I64, classes);
    class_by_class(l, op, &kept, &counts)?;

    let mut w = Writer::new();
    let (kept, counts) = (w.memory(&kept, MemoryUse::Read), w.memory(&counts, MemoryUse::Read));
    let (to, count) = (w.memory(&selected, MemoryUse::Update), w.memory(&count, MemoryUse::Write));
    let row = w.local(DType::I64);
    w.nested(classes, Vec::new(), |w, at| {
        let there = w.load(counts, at);
        w.for_each(
            RoutineExpr::int(0),
            there.max(RoutineExpr::int(0)).min(RoutineExpr::index(most)),
            |w, i| {
                let number = w.load(kept, &[at, &[i]].concat());
                for (column, v) in at.iter().cloned().chain([number]).enumerate() {
                    w.store(to, &[row.get(), RoutineExpr::index(column)], v);
                }
                w.set(row, row.get() + RoutineExpr::int(1));
            },
        );
    });
    w.store(count, &[], row.get());
    l.push_routine(w)
}

fn class_by_class(
    l: &mut Lowering<'_>,
    op: &NonMaxSuppression,
    kept: &View,
    counts: &View,
) -> Result<(), GenericError> {
    let (boxes, scores) = (l.input(0)?, l.input(1)?);
    let (classes, n, most) = (&scores.shape[..2], scores.shape[2], kept.shape[2]);
    let threshold = |index: usize| -> Result<Option<View>, GenericError> {
        let Some(view) = l.optional(index) else { return Ok(None) };
        view.reshaped(&[]).map(Some).ok_or_else(|| l.misfit("a threshold is no scalar"))
    };
    let (iou, least, count) = (threshold(2)?, threshold(3)?, l.optional(4));
    let mut w = Writer::new();
    let candidates = Candidates::new(l, &mut w, &scores, least, count)?;
    let kept_boxes = KeptBoxes::new(l, &mut w, classes, most);
    let boxes = w.memory(&boxes, MemoryUse::Read);
    let [kept, counts] = [kept, counts].map(|view| w.memory(view, MemoryUse::Write));
    let iou = iou.map(|view| w.memory(&view, MemoryUse::Read));
    let work = n.saturating_mul(most.saturating_add(8));
    w.over(classes, work, |w, at| {
        let iou = match iou {
            Some(iou) => w.load(iou, &[]),
            None => RoutineExpr::constant(DType::F32, 0.0),
        };
        candidates.enter(w, at);
        let sides = |w: &mut Writer, i: &RoutineExpr| {
            let mut part = |k: usize| w.load(boxes, &[at[0].clone(), i.clone(), RoutineExpr::index(k)]);
            let [a, b, c, d] = [part(0), part(1), part(2), part(3)];
            let half = |e: RoutineExpr| e / RoutineExpr::constant(DType::F32, 2.0);
            let box_ = match op.center_point_box {
                true => [b.clone() - half(d.clone()), a.clone() - half(c.clone()), b + half(d), a + half(c)],
                false => [lower(&a, &c), lower(&b, &d), higher(&a, &c), higher(&b, &d)],
            };
            let [top, left, bottom, right] = box_.map(|corner| w.value(corner));
            let area = (bottom.clone() - top.clone()) * (right.clone() - left.clone());
            [top, left, bottom, right, w.value(area)]
        };
        let (selected, item) = (w.local(DType::I64), w.local(DType::I64));
        w.set(selected, RoutineExpr::int(0));
        let best = candidates.best(w, at);
        w.set(item, best);
        let more = item.get().equals(tournament::none()).not();
        let more = more.and(selected.get().less(RoutineExpr::index(most)));
        w.repeat(more, n as u64, |w| {
            let candidate = candidates.take(w, at, item.get());
            let own = sides(w, &candidate);
            let free = kept_boxes.share_nothing_with(w, at, &own, &selected.get(), &iou);
            w.when(free, |w| {
                let number = selected.get();
                w.store(kept, &[at, std::slice::from_ref(&number)].concat(), candidate);
                kept_boxes.keep(w, at, &number, &own);
                w.set(selected, number + RoutineExpr::int(1));
            });
            let best = candidates.best(w, at);
            w.set(item, best);
        });
        w.store(counts, at, selected.get());
    });
    l.push_routine(w)
}

/// Boxes that one question is about.
const BLOCK: usize = 16;

/// What is kept of a box: its corners and its area.
const SIDES: usize = 5;

/// The boxes whose scores count, the best first.
///
/// Block `b` has the boxes `b`, `b + blocks`, `b + 2·blocks` …, so that the largest scores of neighbouring blocks are maxima of vectors, and
/// a block of which nothing counts is passed over. What is left at the end is a block by itself.
struct Candidates {
    order: ItemOrder,
    tournament: Tournament,
    scores: Mem,
    numbers: Mem,
    /// The threshold, and the largest score of each block.
    least: Option<(Mem, Mem)>,
    count: Option<Mem>,
    boxes: usize,
    blocks: usize,
}

impl Candidates {
    fn new(
        l: &mut Lowering<'_>,
        w: &mut Writer,
        scores: &View,
        least: Option<View>,
        count: Option<View>,
    ) -> Result<Candidates, GenericError> {
        let (classes, boxes) = (&scores.shape[..2], scores.shape[2]);
        let order = ItemOrder::of(scores.dtype, boxes, true).ok_or_else(|| l.unsupported("so many boxes"))?;
        let blocks = boxes / tournament::BLOCK;
        let slots = Tournament::memory(l, classes, boxes);
        let highest = l.temp(DType::F32, &[classes, &[blocks.max(1)]].concat());
        Ok(Candidates {
            numbers: order.numbers(w, scores),
            order,
            tournament: Tournament::new(w, &slots, boxes),
            scores: w.memory(scores, MemoryUse::Read),
            least: least
                .map(|least| (w.memory(&least, MemoryUse::Read), w.memory(&highest, MemoryUse::Write))),
            count: count.map(|count| w.memory(&count, MemoryUse::Read)),
            boxes,
            blocks,
        })
    }

    /// All whose scores count come in.
    fn enter(&self, w: &mut Writer, at: &[RoutineExpr]) {
        let blocks = RoutineExpr::index(self.blocks);
        let least = self.least.map(|(least, highest)| (w.load(least, &[]), highest));
        let there = self.count.map(|count| w.load(count, &[]));
        let score =
            |w: &mut Writer, i: &RoutineExpr| w.load(self.scores, &[at, std::slice::from_ref(i)].concat());
        let item = |w: &mut Writer, i: &RoutineExpr| {
            let number = w.load(self.numbers, &[at, std::slice::from_ref(i)].concat());
            let item = match least {
                Some(_) => self.order.item_of_number(w, number, i),
                None => self.order.item(w, number, i),
            };
            let high = least.as_ref().map(|(least, _)| {
                let score = score(w, i);
                least.clone().less(score)
            });
            let among = there.as_ref().map(|there| i.clone().less(there.clone()));
            let counts = high.into_iter().chain(among).reduce(RoutineExpr::and);
            w.value(counts.map_or(item.clone(), |counts| counts.select(item, tournament::none())))
        };
        let members = |w: &mut Writer, block: &RoutineExpr| -> Vec<RoutineExpr> {
            (0..tournament::BLOCK)
                .map(|j| w.value(block.clone() + RoutineExpr::index(j * self.blocks)))
                .collect()
        };
        if let (Some((_, highest)), 1..) = (&least, self.blocks) {
            w.for_each(RoutineExpr::int(0), blocks.clone(), |w, block| {
                let mut high = RoutineExpr::constant(DType::F32, f64::NEG_INFINITY);
                for i in members(w, &block) {
                    let score = score(w, &i);
                    // What is no number is not higher.
                    high = w.value(high.clone().less(score.clone()).select(score, high));
                }
                w.store(*highest, &[at, &[block]].concat(), high);
            });
        }
        if self.blocks > 0 {
            w.for_each(RoutineExpr::int(0), blocks.clone(), |w, block| {
                let enter = |w: &mut Writer| {
                    let items = members(w, &block).iter().map(|i| item(w, i)).collect();
                    self.tournament.enter(w, at, &block, items);
                };
                match &least {
                    Some((least, highest)) => {
                        let high = w.load(*highest, &[at, std::slice::from_ref(&block)].concat());
                        w.choose(least.clone().less(high), enter, |w| self.tournament.leave(w, at, &block));
                    }
                    None => enter(w),
                }
            });
        }
        if !self.boxes.is_multiple_of(tournament::BLOCK) {
            let rest = (self.blocks * tournament::BLOCK..self.boxes)
                .map(|i| item(w, &RoutineExpr::index(i)))
                .collect();
            self.tournament.enter(w, at, &blocks, rest);
        }
        self.tournament.begin(w, at);
    }

    fn best(&self, w: &mut Writer, at: &[RoutineExpr]) -> RoutineExpr {
        self.tournament.best(w, at)
    }

    /// Takes an item away; the box that it stands for.
    fn take(&self, w: &mut Writer, at: &[RoutineExpr], item: RoutineExpr) -> RoutineExpr {
        let index = self.order.index(w, item);
        let last = RoutineExpr::index(self.boxes.saturating_sub(1));
        let index = w.value(index.max(RoutineExpr::int(0)).min(last));
        let slot = if self.blocks == 0 {
            index.clone()
        } else {
            let blocks = RoutineExpr::index(self.blocks);
            let member = w.value(index.clone() / blocks.clone());
            let block = w.value(index.clone() - member.clone() * blocks);
            let slot = block * RoutineExpr::index(tournament::BLOCK) + member.clone();
            let in_rest = RoutineExpr::index(tournament::BLOCK - 1).less(member);
            let slot = w.value(in_rest.select(index.clone(), slot));
            let last = RoutineExpr::index(self.boxes - 1);
            w.value(slot.max(RoutineExpr::int(0)).min(last))
        };
        self.tournament.remove(w, at, &slot);
        index
    }
}

/// The boxes that were selected, by sides.
struct KeptBoxes {
    sides: Mem,
    /// Whether a box of a block is hit: a float that is not zero, and two of them at a time as an integer.
    hits: Mem,
    pairs: Mem,
    most: usize,
}

impl KeptBoxes {
    fn new(l: &mut Lowering<'_>, w: &mut Writer, classes: &[usize], most: usize) -> KeptBoxes {
        let most = most.next_multiple_of(BLOCK);
        let sides = l.temp(DType::F32, &[classes, &[SIDES, most]].concat());
        let hits = l.temp(DType::F32, &[classes, &[BLOCK]].concat());
        let mut pairs = View { dtype: DType::I64, ..hits.clone() };
        if let (Some(extent), Some(stride)) = (pairs.shape.last_mut(), pairs.strides.last_mut()) {
            (*extent, *stride) = (*extent / 2, *stride * 2);
        }
        let [sides, hits] = [&sides, &hits].map(|view| w.memory(view, MemoryUse::Write));
        // The same memory as the hits, which are written before.
        let pairs = w.memory(&pairs, MemoryUse::Write);
        KeptBoxes { sides, hits, pairs, most }
    }

    fn side(&self, at: &[RoutineExpr], side: usize, number: RoutineExpr) -> Vec<RoutineExpr> {
        [at, &[RoutineExpr::index(side), number]].concat()
    }

    /// Whether none of the first `count` boxes shares more of the union with a box than a threshold.
    fn share_nothing_with(
        &self,
        w: &mut Writer,
        at: &[RoutineExpr],
        own: &[RoutineExpr; SIDES],
        count: &RoutineExpr,
        threshold: &RoutineExpr,
    ) -> RoutineExpr {
        let free = w.local(DType::Bool);
        w.set(free, RoutineExpr::bool(true));
        let filled = (count.clone() + RoutineExpr::index(BLOCK - 1)) / RoutineExpr::index(BLOCK);
        let filled = filled.max(RoutineExpr::int(0)).min(RoutineExpr::index(self.most / BLOCK));
        let filled = has_area(own).select(filled, RoutineExpr::int(0));
        w.for_each(RoutineExpr::int(0), filled, |w, block| {
            w.when(free.get(), |w| {
                let start = w.value(block * RoutineExpr::index(BLOCK));
                w.for_each(RoutineExpr::int(0), RoutineExpr::index(BLOCK), |w, i| {
                    let other = w.value(start.clone() + i.clone());
                    let that: [RoutineExpr; SIDES] =
                        std::array::from_fn(|k| w.load(self.sides, &self.side(at, k, other.clone())));
                    let [one, none] = [1.0, 0.0].map(|v| RoutineExpr::constant(DType::F32, v));
                    let hit = overlap(w, own, &that, threshold.clone()).select(one, none);
                    w.store(self.hits, &[at, &[i]].concat(), hit);
                });
                let pair = |w: &mut Writer, i| w.load(self.pairs, &[at, &[RoutineExpr::index(i)]].concat());
                let mut hits: Vec<RoutineExpr> = (0..BLOCK / 2).map(|i| pair(w, i)).collect();
                while hits.len() > 1 {
                    let half = hits.split_off(hits.len() / 2);
                    hits = hits.into_iter().zip(half).map(|(a, b)| a.binary(BinaryFn::BitOr, b)).collect();
                }
                for hits in hits {
                    w.set(free, hits.equals(RoutineExpr::int(0)));
                }
            });
        });
        free.get()
    }

    /// Keeps a box, as this number; one without area as one in which nothing is.
    fn keep(&self, w: &mut Writer, at: &[RoutineExpr], number: &RoutineExpr, own: &[RoutineExpr; SIDES]) {
        let place = number.clone().binary(BinaryFn::BitAnd, RoutineExpr::index(BLOCK - 1));
        // A block begins with boxes that share nothing.
        w.when(place.equals(RoutineExpr::int(0)), |w| {
            w.nested(&[SIDES, BLOCK], Vec::new(), |w, empty| {
                let i = number.clone() + empty[1].clone();
                let to = [at, &[empty[0].clone(), i]].concat();
                w.store(self.sides, &to, RoutineExpr::constant(DType::F32, 0.0));
            });
        });
        w.when(has_area(own), |w| {
            for (k, v) in own.iter().enumerate() {
                w.store(self.sides, &self.side(at, k, number.clone()), v.clone());
            }
        });
    }
}

/// The smaller one. Of two that a comparison does not tell apart, both this and [`higher`] pick the second: a box with a corner that is no
/// number has no area, or none that is a number, and shares nothing.
fn lower(a: &RoutineExpr, b: &RoutineExpr) -> RoutineExpr {
    a.clone().less(b.clone()).select(a.clone(), b.clone())
}

fn higher(a: &RoutineExpr, b: &RoutineExpr) -> RoutineExpr {
    b.clone().less(a.clone()).select(a.clone(), b.clone())
}

fn is_positive(e: RoutineExpr) -> RoutineExpr {
    RoutineExpr::constant(DType::F32, 0.0).less(e)
}

fn has_area([.., area]: &[RoutineExpr; SIDES]) -> RoutineExpr {
    is_positive(area.clone())
}

/// Whether two boxes, each with an area or with nothing in it, share more of their union than a threshold. What they share is no larger
/// than either of them, so the union is not empty.
fn overlap(
    w: &mut Writer,
    [top_a, left_a, bottom_a, right_a, area_a]: &[RoutineExpr; SIDES],
    [top_b, left_b, bottom_b, right_b, area_b]: &[RoutineExpr; SIDES],
    threshold: RoutineExpr,
) -> RoutineExpr {
    let height = w.value(lower(bottom_a, bottom_b) - higher(top_a, top_b));
    let width = w.value(lower(right_a, right_b) - higher(left_a, left_b));
    let shared = w.value(height.clone() * width.clone());
    let all = area_a.clone() + area_b.clone() - shared.clone();
    let meet = is_positive(lower(&height, &width));
    meet.and((shared / all).binary(BinaryFn::Greater, threshold))
}
