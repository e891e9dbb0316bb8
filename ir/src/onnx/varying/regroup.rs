//! The same elements under another shape, where some extents vary.
//!
//! Elements stay where they are when each group of axes that become other ones varies along its first axis only: those that are there are the
//! first ones then, before and behind. Else each element of the result is fetched from where it is.
//!
//! ```text
//!   [n, 4] ─▶ [4·n]          in place: elements 0 … 4·n
//!   [2, n] ─▶ [2·n]          element i from [i / n, i mod n], which lies at (i / n) · bound + i mod n
//! ```

use super::amount::Amount;
use super::{NodeReader, size};
use crate::graph::Value;
use crate::onnx::error::NodeFault;
use crate::op::{BinaryFn, GatherAt, Reshape};

/// A product of extents: the known factor, and the others in order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ExtentProduct {
    known: i64,
    others: Vec<Amount>,
}

impl ExtentProduct {
    fn of<'a>(extents: impl IntoIterator<Item = &'a Amount>) -> ExtentProduct {
        let mut product = ExtentProduct { known: 1, others: Vec::new() };
        for extent in extents {
            let (factor, rest) = extent.factors();
            product.known = product.known.saturating_mul(factor);
            product.others.extend(rest);
        }
        if product.known == 0 {
            // Nothing, however much there is along other axes.
            product.others.clear();
        }
        product.others.sort();
        product
    }

    /// What is left when other extents are taken out.
    fn without(mut self, other: &ExtentProduct) -> Option<Amount> {
        if self.known == 0 {
            return Some(Amount::default());
        }
        for factor in &other.others {
            let at = self.others.iter().position(|own| own == factor)?;
            self.others.remove(at);
        }
        if other.known <= 0 || self.known % other.known != 0 {
            return None;
        }
        let known = Amount::from(self.known / other.known);
        Some(self.others.iter().fold(known, |product, factor| product.product(factor)))
    }
}

/// Axes before and behind that hold the same elements, as few as can be.
fn groups(from: &[Amount], to: &[Amount]) -> Vec<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut groups = Vec::new();
    let (mut first, mut second) = (0, 0);
    while first < from.len() || second < to.len() {
        let mut ends = (first..=from.len()).flat_map(|i| (second..=to.len()).map(move |j| (i, j)));
        let found = ends.find(|&(i, j)| {
            (i, j) != (first, second)
                && ExtentProduct::of(&from[first..i]) == ExtentProduct::of(&to[second..j])
        });
        let (i, j) = found.unwrap_or((from.len(), to.len()));
        groups.push((first..i, second..j));
        (first, second) = (i, j);
    }
    groups
}

/// Whether only the first of some extents that are not 1 may vary.
fn leads(extents: &[Amount]) -> bool {
    let mut extents = extents.iter().skip_while(|extent| extent.is_one());
    extents.next();
    extents.all(|extent| extent.known().is_some())
}

impl NodeReader<'_, '_> {
    /// The shape that a node asks for: 0 keeps an extent unless zeros are allowed, one −1 takes what is left.
    pub(in crate::onnx) fn resolved(
        &self,
        from: &[Amount],
        wanted: &[Amount],
        allow_zero: bool,
    ) -> Result<Vec<Amount>, NodeFault> {
        let cannot = || {
            NodeFault::invalid("the shape that is asked for does not fit data whose size only the run knows")
        };
        let mut shape = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (i, extent) in wanted.iter().enumerate() {
            shape.push(match extent.known() {
                Some(0) if !allow_zero => from.get(i).cloned().ok_or_else(cannot)?,
                Some(-1) if open.is_none() => {
                    open = Some(i);
                    1i64.into()
                }
                Some(number) if number < 0 => return Err(cannot()),
                _ => extent.clone(),
            });
        }
        if let Some(i) = open {
            shape[i] = ExtentProduct::of(from).without(&ExtentProduct::of(&shape)).ok_or_else(cannot)?;
        }
        if ExtentProduct::of(from) == ExtentProduct::of(&shape) { Ok(shape) } else { Err(cannot()) }
    }

    /// All elements in a row.
    pub(super) fn flattened(&mut self, x: Value) -> Result<Value, NodeFault> {
        let all = self.extents(x).iter().fold(Amount::from(1i64), |n, extent| n.product(extent));
        self.regrouped(x, &[all])
    }

    /// A shape that is given by bounds: in each group of axes, one takes as many as are there.
    pub(super) fn reshape_varying(&mut self, x: Value, bounds: &[usize]) -> Result<Value, NodeFault> {
        let from = self.extents(x);
        let old: Vec<Amount> = self.shape(x).iter().map(|&bound| bound.into()).collect();
        let new: Vec<Amount> = bounds.iter().map(|&bound| bound.into()).collect();
        let mut to = new.clone();
        for (before, behind) in groups(&old, &new) {
            if from[before.clone()].iter().all(|extent| extent.known().is_some()) {
                continue;
            }
            let all = ExtentProduct::of(&from[before.clone()]);
            let taken = behind.clone().find_map(|axis| {
                let others = behind.clone().filter(|&other| other != axis).map(|other| &new[other]);
                let rest = all.clone().without(&ExtentProduct::of(others))?;
                (rest.range().high == i64::try_from(bounds[axis]).ok()?).then_some((axis, rest))
            });
            let Some((axis, rest)) = taken else {
                let axis = before.clone().find(|&axis| from[axis].known().is_none()).unwrap_or(0);
                return Err(self.refused(x, axis));
            };
            to[axis] = rest;
        }
        self.regrouped(x, &to)
    }

    /// The elements of a value under another shape of as many.
    pub(in crate::onnx) fn regrouped(&mut self, x: Value, to: &[Amount]) -> Result<Value, NodeFault> {
        let from = self.extents(x);
        let to = to.iter().map(|extent| self.bounded(extent)).collect::<Result<Vec<_>, _>>()?;
        let bounds = to.iter().map(size).collect::<Result<Vec<usize>, _>>()?;
        if from == to {
            return Ok(x);
        }
        let shape = self.shape(x);
        if !self.varies(x) {
            return self.emit(Reshape { shape: bounds }, &[x]);
        }
        let elems = super::super::ops::product;
        let in_place = groups(&from, &to).into_iter().all(|(before, behind)| {
            let same = match (elems(&shape[before.clone()]), elems(&bounds[behind.clone()])) {
                (Ok(before), Ok(behind)) => before == behind,
                _ => false,
            };
            same && leads(&from[before]) && leads(&to[behind])
        });
        let zeros = self.importer.sizes.all.get(&x).is_none_or(|varying| varying.zeros);
        if in_place || shape.contains(&0) {
            let shape = bounds;
            let y = self.plain(Reshape { shape }, &[x])?;
            return self.sized(y, &to, zeros);
        }
        let all = elems(&bounds)?;
        self.make(all, crate::types::DType::I64)?;
        // The number of each element among those that are there.
        let mut number = self.integer(0)?;
        let mut stride = Amount::from(1i64);
        for axis in (0..to.len()).rev() {
            let numbers = self.numbers_along(to.len(), axis, bounds[axis])?;
            let step = self.amount(&stride)?;
            let part = self.number(BinaryFn::Mul, numbers, step)?;
            number = self.number(BinaryFn::Add, part, number)?;
            stride = stride.product(&to[axis]);
        }
        // Where that one lies.
        let (mut place, mut pitch) = (self.integer(0)?, 1i64);
        for axis in (0..from.len()).rev() {
            let extent = self.amount(&from[axis].larger(&1i64.into()))?;
            let within = self.number(BinaryFn::Mod { fmod: false }, number, extent)?;
            let step = self.integer(pitch)?;
            let part = self.number(BinaryFn::Mul, within, step)?;
            place = self.number(BinaryFn::Add, place, part)?;
            number = self.number(BinaryFn::Sub, number, within)?;
            number = self.number(BinaryFn::Div, number, extent)?;
            pitch = pitch.saturating_mul(shape[axis] as i64);
        }
        let flat = elems(&shape)?;
        let flat = self.plain(Reshape { shape: vec![flat] }, &[x])?;
        let y = self.plain(GatherAt { axis: 0 }, &[flat, place])?;
        self.sized(y, &to, false)
    }
}
