//! Axes of a nest: its loops, then its reduction axes.

use super::{Expr, Nest, ReduceAxis};

impl Nest {
    /// Whether an expression or a bound names the index of an axis.
    pub fn names(&self, axis: usize) -> bool {
        let mut named = self.reduce.iter().any(|r| r.bound.is_some_and(|b| b.axis == axis));
        let mut visit = |e: &Expr| named |= *e == Expr::Index(axis);
        self.value.walk(&mut visit);
        self.accumulators.iter().for_each(|a| a.value.walk(&mut visit));
        named || axis.checked_sub(self.loops.len()).is_some_and(|r| self.reduce[r].bound.is_some())
    }

    /// Gives other numbers to the axes that expressions name.
    pub fn rename_axes(&mut self, rename: &mut dyn FnMut(usize) -> usize) {
        let mut renamed = |e: &Expr| match e {
            Expr::Index(i) => Some(Expr::Index(rename(*i))),
            _ => None,
        };
        self.value.replace(&mut renamed);
        self.accumulators.iter_mut().for_each(|a| a.value.replace(&mut renamed));
    }

    /// An axis becomes two, the inner one of extent `inner`, which divides (or cuts off) the extent. `None` where something names it.
    pub fn split_axis(&mut self, axis: usize, inner: usize) -> Option<()> {
        if self.names(axis) {
            return None;
        }
        let step = i64::try_from(inner).ok()?;
        let split = |strides: &mut Vec<i64>| {
            // The result of a reduction has no strides for its axes.
            if let Some(&stride) = strides.get(axis) {
                strides.insert(axis, stride * step);
            }
        };
        for o in self.operands.iter_mut().chain([&mut self.result]) {
            split(&mut o.strides);
            o.tables.iter_mut().for_each(|t| split(&mut t.strides));
        }
        match axis.checked_sub(self.loops.len()) {
            None => {
                let outer = std::mem::replace(&mut self.loops[axis], inner) / inner;
                self.loops.insert(axis, outer);
            }
            Some(reduced) => {
                let outer = std::mem::replace(&mut self.reduce[reduced].extent, inner) / inner;
                self.reduce.insert(reduced, ReduceAxis { extent: outer, bound: None });
            }
        }
        for bound in self.reduce.iter_mut().filter_map(|r| r.bound.as_mut()) {
            bound.axis += usize::from(bound.axis > axis);
        }
        self.rename_axes(&mut |index| index + usize::from(index > axis));
        Some(())
    }
}
