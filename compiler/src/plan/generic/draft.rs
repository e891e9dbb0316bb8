//! A nest as an operator writes it, and how it is scheduled.
//!
//! An operator says what is computed over which index space, axis by axis of its result, with the operands as views
//! over those axes. [`NestDraft::schedule`] then decides, from strides alone:
//!
//! 1. order: loops by falling stride of the result, so that stores walk through memory;
//! 2. merging: neighbouring loops that every operand walks through alike become one, so that inner loops are long;
//! 3. lanes: the innermost loop, or the innermost reduction, where all strides allow it;
//! 4. units: leading loops, enough of them for a few threads, none of them tiny; a single long loop is cut into chunks.

use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;

use crate::code::math::power;
use crate::code::nest::{
    Accumulator, Bound, COLUMNS, Constant, Expr, Fold, GROUP, LANES, Nest, Operand, ReduceAxis, Table,
    Vectorised,
};
use crate::code::units::{ENOUGH_UNITS, UNIT_WORK};
use crate::code::view::View;

/// The shortest innermost loop that is worth the call of a kernel.
const KERNEL_ELEMENTS: usize = 16;

/// The shortest one where the kernel goes through the loop around it, too.
const SHORT_ROW_ELEMENTS: usize = 4;

/// The shortest row that is worth a kernel which gives one number for it.
pub(crate) const ROW_ELEMENTS: usize = 32;

/// The shortest row that is worth a kernel which gives a row for it, in place of several nests.
const STORED_ROW_ELEMENTS: usize = 8;

/// A nest before scheduling: its loops are the axes of the result, its reduction axes follow in each operand's shape.
#[derive(Clone, Debug)]
pub(in crate::plan) struct NestDraft {
    nest: Nest,
    /// What goes in vectors, where it is decided before its loops are.
    planes: Option<Vectorised>,
    /// What it is scheduled to, where that was asked before.
    known: Option<Vec<Nest>>,
}

impl From<Nest> for NestDraft {
    fn from(nest: Nest) -> NestDraft {
        NestDraft { nest, planes: None, known: None }
    }
}

impl NestDraft {
    /// The nest, of which nothing is decided yet.
    pub(in crate::plan) fn nest(&self) -> &Nest {
        &self.nest
    }

    /// Whether it may become part of another nest, or another one of it: what is done in one certain way stays as it is.
    pub(in crate::plan) fn is_open(&self) -> bool {
        self.planes.is_none() && !self.nest.accumulators.iter().any(|a| a.fold.goes_on())
    }

    /// `result[i] = value(operands[i])`; operands have the shape of the result.
    pub(super) fn map(operands: &[View], result: &View, value: Expr) -> NestDraft {
        NestDraft::reduce(operands, result, &[], Vec::new(), value)
    }

    /// `result[i] = value(operands[i, …], accumulators over operands[i, r])`; operands have the shape of the result
    /// followed by the reduced extents (an operand may leave those out: it does not depend on them).
    pub(super) fn reduce(
        operands: &[View],
        result: &View,
        reduced: &[usize],
        accumulators: Vec<Accumulator>,
        value: Expr,
    ) -> NestDraft {
        let all = result.shape.len() + reduced.len();
        let operand = |v: &View| {
            let mut strides = v.strides.clone();
            strides.resize(all, 0);
            Operand { arg: v.arg, offset: v.offset, dtype: v.dtype, strides, tables: Vec::new() }
        };
        let nest = Nest {
            loops: result.shape.clone(),
            unit_axes: 0,
            reduce: reduced.iter().map(|&extent| ReduceAxis { extent, bound: None }).collect(),
            operands: operands.iter().map(operand).collect(),
            result: Operand {
                arg: result.arg,
                offset: result.offset,
                dtype: result.dtype,
                strides: result.strides.clone(),
                tables: Vec::new(),
            },
            accumulators,
            value,
            vectorised: Vectorised::Scalar,
        };
        NestDraft { nest, planes: None, known: None }
    }

    /// As [`NestDraft::reduce`], with an element of the result for each index of the reduction: the result has the reduced extents
    /// behind its others.
    pub(super) fn rows(
        operands: &[View],
        result: &View,
        reduced: &[usize],
        accumulators: Vec<Accumulator>,
        value: Expr,
    ) -> NestDraft {
        let loops = result.rank().saturating_sub(reduced.len());
        let one = View { shape: result.shape[..loops].to_vec(), ..result.clone() };
        NestDraft::reduce(operands, &one, reduced, accumulators, value)
    }

    /// The draft if all that it is scheduled to goes through kernels. It is scheduled once for both, and is not to be changed any
    /// more.
    pub(super) fn in_kernels(self) -> Option<NestDraft> {
        let nests = self.clone().schedule();
        let all = nests.iter().all(|nest| nest.vectorised == Vectorised::Kernel);
        all.then_some(NestDraft { known: Some(nests), ..self })
    }

    /// The draft as windows over planes, which its reduction is; `None` where strides or types do not allow it.
    pub(super) fn over_windows(self) -> Option<NestDraft> {
        self.over_planes(Vectorised::Windows)
    }

    /// The draft over rows and columns of planes in a certain way, if that is how all of it is scheduled.
    pub(super) fn over_planes(self, vectorised: Vectorised) -> Option<NestDraft> {
        let draft = NestDraft { planes: Some(vectorised), ..self };
        let nests = draft.clone().schedule();
        nests.iter().all(|nest| nest.vectorised == vectorised).then_some(draft)
    }

    /// Whether kernels are known to do all of it.
    pub(in crate::plan) fn goes_through_kernels(&self) -> bool {
        self.planes.is_some() || self.known.is_some()
    }

    /// The draft, if its sums go on across rows in vectors; `None` where strides or types do not allow it.
    pub(super) fn across_rows(self) -> Option<NestDraft> {
        let nests = self.clone().schedule();
        nests.iter().all(|nest| nest.vectorised == Vectorised::Scan).then_some(self)
    }

    /// Restricts a reduction axis.
    pub(super) fn bounded(mut self, reduced: usize, bound: Bound) -> NestDraft {
        if let Some(axis) = self.nest.reduce.get_mut(reduced) {
            axis.bound = Some(bound);
        }
        self
    }

    /// Adds a table of byte offsets, a view of `i32` with the axes of an operand, to that operand.
    pub(super) fn with_table(mut self, operand: usize, table: &View, low: i32, high: i32) -> NestDraft {
        let all = self.nest.loops.len() + self.nest.reduce.len();
        if let Some(operand) = self.nest.operands.get_mut(operand) {
            let mut strides = table.strides.clone();
            strides.resize(all, 0);
            operand.tables.push(Table { arg: table.arg, offset: table.offset, strides, low, high });
        }
        self
    }

    /// Puts one reduction axis before the others.
    pub(super) fn with_reduction_first(mut self, axis: usize) -> NestDraft {
        let n = &mut self.nest;
        if axis >= n.reduce.len() {
            return self;
        }
        let (first, from) = (n.loops.len(), n.loops.len() + axis);
        let moved = |strides: &mut Vec<i64>| {
            let stride = strides.remove(from);
            strides.insert(first, stride);
        };
        for o in &mut n.operands {
            moved(&mut o.strides);
            o.tables.iter_mut().for_each(|t| moved(&mut t.strides));
        }
        let reduced = n.reduce.remove(axis);
        n.reduce.insert(0, reduced);
        self
    }

    /// Whether there is nothing to store.
    pub(super) fn is_empty(&self) -> bool {
        let no_rows = self.nest.stores_rows() && self.nest.reduce.iter().any(|r| r.extent == 0);
        no_rows || self.nest.loops.contains(&0)
    }

    /// Decides order, lanes and units. More than one nest where a single loop is cut into chunks and a rest.
    pub(in crate::plan) fn schedule(self) -> Vec<Nest> {
        if let Some(known) = self.known {
            return known;
        }
        if self.is_empty() {
            return Vec::new();
        }
        self.split_borders().into_iter().flat_map(NestDraft::schedule_part).collect()
    }

    /// Where the loop that would go in vectors bounds a reduction, its indices at which all of the reduction counts
    /// become a nest of their own, without bound; those before and after them keep it.
    fn split_borders(self) -> Vec<NestDraft> {
        let n = &self.nest;
        if self.planes.is_some() {
            return vec![self];
        }
        let bounding = n.reduce.iter().enumerate().find_map(|(r, axis)| {
            let bound = axis.bound?;
            (n.result.dtype == DType::F32 && n.result.strides[bound.axis] == 4).then_some((r, bound))
        });
        let Some((reduced, bound)) = bounding else { return vec![self] };
        let (extent, count) = (n.loops[bound.axis], n.reduce[reduced].extent as i64);
        let whole = |&i: &usize| bound.range(i as i64, count) == (0..count);
        let Some(first) = (0..extent).find(whole) else { return vec![self] };
        let last = (first..extent).rev().find(whole).unwrap_or(first);
        let mut parts = Vec::new();
        for (start, end) in [(0, first), (first, last + 1), (last + 1, extent)] {
            if start == end {
                continue;
            }
            let mut part = self.clone();
            part.narrow(bound.axis, start, end - start);
            if (start, end) == (first, last + 1) {
                part.nest.reduce[reduced].bound = None;
            }
            parts.push(part);
        }
        parts
    }

    /// Restricts a loop to `len` indices from `start`.
    fn narrow(&mut self, axis: usize, start: usize, len: usize) {
        let n = &mut self.nest;
        let start = start as i64;
        n.loops[axis] = len;
        for o in n.operands.iter_mut().chain([&mut n.result]) {
            o.offset += o.strides[axis] * start;
            o.tables.iter_mut().for_each(|t| t.offset += t.strides[axis] * start);
        }
        for bound in n.reduce.iter_mut().filter_map(|r| r.bound.as_mut()).filter(|b| b.axis == axis) {
            bound.base += bound.scale * start;
        }
    }

    fn schedule_part(mut self) -> Vec<Nest> {
        self.drop_what_is_not_read();
        self.widen_copies();
        self.drop_single_steps();
        self.order();
        self.merge_loops();
        self.order_reduction();
        self.merge_reduction();
        self.choose_lanes();
        self.choose_units()
    }

    /// Leaves out reductions over nothing, and operands that no expression reads.
    pub(super) fn drop_what_is_not_read(&mut self) {
        self.drop_empty_reduction();
        self.nest.compact();
    }

    /// A reduction over nothing leaves the accumulators as they start.
    fn drop_empty_reduction(&mut self) {
        let n = &mut self.nest;
        if n.reduce.iter().all(|r| r.extent > 0) {
            return;
        }
        let accumulators = std::mem::take(&mut n.accumulators);
        n.value.replace(&mut |e| match e {
            Expr::Acc(i) => accumulators.get(*i).map(|a| Expr::Const(a.init)),
            _ => None,
        });
        n.reduce.clear();
        let count = n.loops.len();
        for o in &mut n.operands {
            o.strides.truncate(count);
            o.tables.iter_mut().for_each(|t| t.strides.truncate(count));
        }
    }

    /// Copies of whole words go as `f32`, which vectors take, whatever they hold: nothing is computed.
    fn widen_copies(&mut self) {
        let n = &mut self.nest;
        let [operand] = n.operands.as_mut_slice() else { return };
        let (from, to) = (operand.dtype, n.result.dtype);
        if n.value != Expr::Operand(0) || from != to || !n.accumulators.is_empty() {
            return;
        }
        if self.double() {
            return;
        }
        let n = &mut self.nest;
        let [operand] = n.operands.as_mut_slice() else { return };
        if from.bytes() == 2 {
            // Half floats are moved as integers.
            (operand.dtype, n.result.dtype) = (DType::U16, DType::U16);
        }
        if !operand.tables.is_empty() {
            return;
        }
        if from.bytes() == 4 {
            (operand.dtype, n.result.dtype) = (DType::F32, DType::F32);
            return;
        }
        // Along an axis on which both are dense, several elements make a word, or an element several words.
        let size = from.bytes() as i64;
        let dense = (0..n.loops.len()).find(|&a| operand.strides[a] == size && n.result.strides[a] == size);
        let Some(axis) = dense else { return };
        let bytes = n.loops[axis].saturating_mul(size as usize);
        if bytes.is_multiple_of(4) {
            n.loops[axis] = bytes / 4;
            (operand.strides[axis], n.result.strides[axis]) = (4, 4);
            (operand.dtype, n.result.dtype) = (DType::F32, DType::F32);
        }
    }

    /// A copy that has each element twice, side by side, writes elements of twice the size: the bits as a number, times 2^bits + 1.
    ///
    /// ```text
    ///   a b c …  ─▶  a a b b c c …
    /// ```
    fn double(&mut self) -> bool {
        let n = &mut self.nest;
        let [operand] = n.operands.as_mut_slice() else { return false };
        let bytes = operand.dtype.bytes();
        let (size, twice) = (bytes as i64, 2 * bytes as i64);
        let (narrow, wide) = match bytes {
            1 => (DType::U8, DType::U16),
            2 => (DType::U16, DType::U32),
            4 => (DType::U32, DType::U64),
            _ => return false,
        };
        let at = |axis: usize| (operand.strides[axis], n.result.strides[axis]);
        let axes = 0..n.loops.len();
        let doubled = axes.clone().find(|&a| n.loops[a] == 2 && at(a) == (0, size));
        let dense = axes.clone().any(|a| n.loops[a] >= GROUP && at(a) == (size, twice));
        let (Some(axis), true, true) = (doubled, dense, operand.tables.is_empty()) else { return false };
        (operand.dtype, n.result.dtype) = (narrow, wide);
        n.value =
            Expr::Operand(0).cast(narrow, wide) * Expr::constant(wide, (1u64 << (8 * bytes)) as f64 + 1.0);
        n.loops.remove(axis);
        self.remove_axis(axis);
        true
    }

    fn has_table(&self, axis: usize) -> bool {
        self.nest.operands.iter().any(|o| o.tables.iter().any(|t| t.strides[axis] != 0))
    }

    /// Puts the loops into this order: position `i` takes what is at `order[i]`. Loops left out must have one step.
    fn take_loops(&mut self, order: &[usize]) {
        let n = &mut self.nest;
        let count = n.loops.len();
        let moved = |strides: &mut Vec<i64>| {
            let rest = strides.get(count..).map(<[i64]>::to_vec).unwrap_or_default();
            *strides = order.iter().map(|&a| strides[a]).chain(rest).collect();
        };
        for o in n.operands.iter_mut().chain([&mut n.result]) {
            moved(&mut o.strides);
            o.tables.iter_mut().for_each(|t| moved(&mut t.strides));
        }
        n.loops = order.iter().map(|&a| n.loops[a]).collect();
        let place = |axis: usize| order.iter().position(|&a| a == axis);
        for r in &mut n.reduce {
            if let Some(bound) = &mut r.bound
                && let Some(axis) = place(bound.axis)
            {
                bound.axis = axis;
            }
        }
        let new_count = n.loops.len();
        let mut rename = |index: usize| match index.checked_sub(count) {
            Some(r) => new_count + r,
            None => place(index).unwrap_or(index),
        };
        n.rename_axes(&mut rename);
    }

    fn drop_single_steps(&mut self) {
        let loops = self.nest.loops.len();
        // Each plane has its own factors, so a plane of one row keeps it.
        let windows = self.planes == Some(Vectorised::Windows);
        let is_row = |a: usize| windows && self.nest.weighs() && a + 2 >= loops;
        let order: Vec<usize> = (0..loops)
            .filter(|&a| self.nest.loops[a] > 1 || self.nest.names(a) || self.has_table(a) || is_row(a))
            .collect();
        self.take_loops(&order);
    }

    /// By falling stride of the result; loops that the result does not move along (there are none but of one step)
    /// stay outside.
    fn order(&mut self) {
        let n = &self.nest;
        let mut order: Vec<usize> = (0..n.loops.len()).collect();
        order.sort_by_key(|&a| std::cmp::Reverse(n.result.strides[a].unsigned_abs()));
        self.take_loops(&order);
    }

    /// What is folded in any order is read in the order in which it lies, if all that is read lies in the same one: all of an image, say.
    fn order_reduction(&mut self) {
        let n = &mut self.nest;
        let loops = n.loops.len();
        let in_any_order = n.accumulators.iter().all(|a| matches!(a.fold, Fold::With(_)));
        let is_plain =
            self.planes.is_none() && !n.stores_rows() && n.reduce.iter().all(|r| r.bound.is_none());
        let mut reads =
            n.operands.iter().filter_map(|o| o.strides.get(loops..).filter(|s| s.iter().any(|&s| s != 0)));
        let Some(lies) = reads.next().map(<[i64]>::to_vec) else { return };
        let one_order = reads.all(|strides| strides == lies);
        let named = (loops..loops + lies.len()).any(|axis| n.names(axis));
        let with_table = n.operands.iter().any(|o| !o.tables.is_empty());
        if !in_any_order || !is_plain || !one_order || named || with_table {
            return;
        }
        let mut order: Vec<usize> = (0..lies.len()).collect();
        order.sort_by_key(|&axis| std::cmp::Reverse(lies[axis].unsigned_abs()));
        for o in &mut n.operands {
            if let Some(strides) = o.strides.get_mut(loops..) {
                let before = strides.to_vec();
                strides.iter_mut().zip(&order).for_each(|(stride, &axis)| *stride = before[axis]);
            }
        }
        let before = std::mem::take(&mut n.reduce);
        n.reduce = order.iter().map(|&axis| before[axis].clone()).collect();
    }

    /// Whether axis `outer` continues axis `inner` (extent `extent`) in a list of strides.
    fn continues(strides: &[i64], outer: usize, inner: usize, extent: usize) -> bool {
        i64::try_from(extent).ok().and_then(|e| strides[inner].checked_mul(e)) == Some(strides[outer])
    }

    fn mergeable(&self, outer: usize, inner: usize, extent: usize) -> bool {
        let n = &self.nest;
        let fits = |s: &Vec<i64>| s.len() <= inner || Self::continues(s, outer, inner, extent);
        !self.nest.names(outer)
            && !self.nest.names(inner)
            && n.operands.iter().chain([&n.result]).all(|o| fits(&o.strides))
            && n.operands.iter().flat_map(|o| &o.tables).all(|t| fits(&t.strides))
    }

    fn remove_axis(&mut self, axis: usize) {
        let n = &mut self.nest;
        for o in n.operands.iter_mut().chain([&mut n.result]) {
            if axis < o.strides.len() {
                o.strides.remove(axis);
            }
            o.tables.iter_mut().for_each(|t| {
                t.strides.remove(axis);
            });
        }
        for r in &mut n.reduce {
            if let Some(bound) = &mut r.bound {
                bound.axis -= usize::from(bound.axis > axis);
            }
        }
        let mut rename = |index: usize| index - usize::from(index > axis);
        n.rename_axes(&mut rename);
    }

    fn merge_loops(&mut self) {
        let mut outer = 0;
        while outer + 1 < self.nest.loops.len() {
            let extent = self.nest.loops[outer + 1];
            match self.nest.loops[outer].checked_mul(extent) {
                Some(both) if self.mergeable(outer, outer + 1, extent) => {
                    self.remove_axis(outer);
                    self.nest.loops.remove(outer);
                    self.nest.loops[outer] = both;
                }
                _ => outer += 1,
            }
        }
    }

    fn merge_reduction(&mut self) {
        let mut outer = 0;
        while outer < self.nest.reduce.len() {
            let axis = self.nest.loops.len() + outer;
            if self.nest.reduce[outer].extent == 1 && !self.nest.names(axis) && !self.has_table(axis) {
                self.remove_axis(axis);
                self.nest.reduce.remove(outer);
                continue;
            }
            let Some(inner) = self.nest.reduce.get(outer + 1) else { break };
            let extent = inner.extent;
            match self.nest.reduce[outer].extent.checked_mul(extent) {
                Some(both) if self.mergeable(axis, axis + 1, extent) => {
                    self.remove_axis(axis);
                    self.nest.reduce.remove(outer);
                    self.nest.reduce[outer].extent = both;
                }
                _ => outer += 1,
            }
        }
    }

    fn choose_lanes(&mut self) {
        let n = &mut self.nest;
        let unroll = match weight(n) {
            0..=8 => 4,
            _ => 2,
        };
        let inner = n.loops.last().copied().unwrap_or(1);
        let reduced = n.reduce.last().map_or(0, |r| r.extent);
        let row = if n.stores_rows() { STORED_ROW_ELEMENTS } else { ROW_ELEMENTS };
        let least = if n.map_rows().is_some() { SHORT_ROW_ELEMENTS } else { KERNEL_ELEMENTS };
        let candidates = [
            (self.planes.is_some(), self.planes.unwrap_or(Vectorised::Scalar)),
            (n.accumulators.iter().any(|a| a.fold.goes_on()), Vectorised::Scan),
            (inner >= least, Vectorised::Bytes),
            (if n.reduce.is_empty() { inner >= least } else { reduced >= row }, Vectorised::Kernel),
            (inner >= LANES, Vectorised::Loop { unroll, rows: 1 }),
            (inner >= GROUP, Vectorised::Groups { unroll: groups(n) }),
            (reduced >= LANES, Vectorised::Reduce { unroll: unroll.max(2) }),
            (
                inner >= LANES && n.loops.iter().rev().nth(1).is_some_and(|&e| e >= LANES),
                Vectorised::Transpose,
            ),
        ];
        for (worth, lanes) in candidates {
            n.vectorised = lanes;
            if worth && n.lanes_fit() && n.kernel_fits() {
                return self.choose_rows();
            }
        }
        n.vectorised = Vectorised::Scalar;
        self.choose_transpose();
    }

    /// In a reduction in lanes, steps of a loop that vectors do not depend on are taken together: a matrix product
    /// then loads four elements and two vectors for eight vector products.
    fn choose_rows(&mut self) {
        let n = &self.nest;
        let Vectorised::Loop { .. } = n.vectorised else { return };
        let Some(inner) = n.loops.len().checked_sub(1) else { return };
        let shares = |axis: usize| n.operands.iter().any(|o| o.strides[axis] == 0 && o.strides[inner] != 0);
        let candidate = (0..inner)
            .filter(|&a| n.loops[a] > 1 && !self.nest.names(a) && !self.has_table(a) && shares(a))
            .max_by_key(|&a| (n.loops[a].min(8), a));
        let Some(axis) = candidate.filter(|_| !n.reduce.is_empty() && !n.accumulators.is_empty()) else {
            return;
        };
        let order: Vec<usize> = (0..inner).filter(|&a| a != axis).chain([axis, inner]).collect();
        let before = self.clone();
        self.take_loops(&order);
        let rows = self.nest.loops[inner - 1].min(4) as u8;
        self.nest.vectorised = Vectorised::Loop { unroll: 2, rows };
        if !self.nest.lanes_fit() {
            *self = before;
        }
    }

    /// A copy whose operand is dense along another loop than the innermost: that loop goes next to it.
    fn choose_transpose(&mut self) {
        let n = &self.nest;
        let Some(inner) = n.loops.len().checked_sub(1) else { return };
        let [operand] = n.operands.as_slice() else { return };
        let size = operand.dtype.bytes() as i64;
        let Some(dense) = (0..inner).rev().find(|&a| operand.strides[a] == size && n.loops[a] > 1) else {
            return;
        };
        if n.loops[inner] < LANES {
            return;
        }
        let mut order: Vec<usize> = (0..inner).filter(|&a| a != dense).collect();
        order.extend([dense, inner]);
        let before = self.clone();
        self.take_loops(&order);
        self.nest.vectorised = Vectorised::Transpose;
        if !self.nest.lanes_fit() {
            *self = before;
        }
    }

    /// Flattens leading loops into units; cuts the outermost of the rest where they are too few.
    fn choose_units(mut self) -> Vec<Nest> {
        let n = &mut self.nest;
        let per_element = weight(n).max(1).saturating_mul(n.reduce.iter().map(|r| r.extent.max(1)).product());
        // The loops that lanes need stay inside of the units.
        let kept = match n.vectorised {
            Vectorised::Kernel if !n.reduce.is_empty() => 0,
            Vectorised::Kernel | Vectorised::Bytes if n.map_rows().is_some() => 2,
            Vectorised::Loop { rows: 1, .. } | Vectorised::Kernel | Vectorised::Groups { .. } => 1,
            Vectorised::Scan | Vectorised::Bytes => 1,
            Vectorised::Loop { .. } | Vectorised::Transpose | Vectorised::Windows => 2,
            Vectorised::Resampled { .. } => 2,
            Vectorised::Scalar | Vectorised::Reduce { .. } => 0,
        };
        let work = |n: &Nest| n.loops[n.unit_axes..].iter().product::<usize>().saturating_mul(per_element);
        while n.unit_axes + kept < n.loops.len() && n.units() < ENOUGH_UNITS {
            let inner = work(n) / n.loops[n.unit_axes];
            if n.unit_axes > 0 && inner < UNIT_WORK {
                break;
            }
            if n.unit_axes == 0 && work(n) < 2 * UNIT_WORK {
                break;
            }
            n.unit_axes += 1;
        }
        if n.units() < ENOUGH_UNITS && n.unit_axes < n.loops.len() && work(n) >= 2 * UNIT_WORK {
            return self.cut(per_element);
        }
        if n.units() > 4 * ENOUGH_UNITS || (n.units() > 1 && work(n) < UNIT_WORK) {
            return self.coarsen(per_element);
        }
        vec![self.nest]
    }

    /// Cuts the outermost loop inside of the units into chunks that become units, and a rest.
    fn cut(mut self, per_element: usize) -> Vec<Nest> {
        let axis = self.nest.unit_axes;
        let extent = self.nest.loops[axis];
        let inner: usize = self.nest.loops[axis + 1..].iter().product::<usize>().saturating_mul(per_element);
        let parts = ENOUGH_UNITS.div_ceil(self.nest.units());
        let least = UNIT_WORK.div_ceil(inner.max(1));
        let least = extent.div_ceil(parts).max(least);
        // Sums that go on across rows keep to whole columns of a kernel, bytes that are transposed to whole blocks.
        let (grain, whole) = match self.nest.vectorised {
            Vectorised::Scan => (COLUMNS, COLUMNS),
            Vectorised::Transpose if self.nest.result.dtype.bytes() == 1 => {
                (if extent.is_multiple_of(4 * LANES) { 4 * LANES } else { 2 * LANES }, 4 * LANES)
            }
            _ => (LANES, 4 * LANES),
        };
        let least = least.max(grain);
        // Without a rest, where the extent has a divisor of about that size.
        let even = (least..=least.saturating_mul(4))
            .find(|&c| c < extent && c % grain == 0 && extent.is_multiple_of(c));
        let chunk = even.unwrap_or(least.next_multiple_of(whole));
        if chunk >= extent || self.nest.names(axis) {
            return vec![self.nest];
        }
        let rest = extent % chunk;
        let mut nests = Vec::new();
        if rest > 0 {
            let mut tail = self.clone();
            tail.narrow(axis, extent - rest, rest);
            // Where the rows of a transposing copy are cut, too few may be left for a block.
            if !tail.nest.lanes_fit() {
                tail.nest.vectorised = Vectorised::Scalar;
            }
            nests.push(tail.nest);
        }
        self.nest.split_axis(axis, chunk);
        self.nest.unit_axes += 1;
        nests.insert(0, self.nest);
        nests
    }

    /// Too many units: those of the innermost unit loop go in chunks, where a divisor of its extent allows it.
    fn coarsen(mut self, per_element: usize) -> Vec<Nest> {
        let axis = self.nest.unit_axes - 1;
        let extent = self.nest.loops[axis];
        let inner = self.nest.loops[axis + 1..].iter().product::<usize>().saturating_mul(per_element);
        let least = UNIT_WORK.div_ceil(inner.max(1)).max(self.nest.units() / (4 * ENOUGH_UNITS));
        if self.nest.names(axis) {
            return vec![self.nest];
        }
        let Some(chunk) = (least..=extent).find(|&c| c > 1 && extent.is_multiple_of(c)) else {
            return vec![self.nest];
        };
        if chunk == extent {
            self.nest.unit_axes -= 1;
        } else {
            self.nest.split_axis(axis, chunk);
        }
        vec![self.nest]
    }
}

/// Scalar operations of an element, beyond which there is enough to do in one group.
const LONG: usize = 24;

/// Scalar operations of an element, roughly; a polynomial counts as twelve.
pub(in crate::plan) fn weight(n: &Nest) -> usize {
    let mut weight = 0;
    let mut visit = |e: &Expr| {
        weight += match e {
            Expr::Unary(f, _) => {
                use nnc_ir::op::Unary::*;
                match f.0 {
                    Relu | Clip { .. } | Abs | Neg | Floor | Ceil | Round | IsNan | Not => 1,
                    LeakyRelu { .. } | ThresholdedRelu { .. } | Sqrt | Reciprocal | Sign | IsInf { .. } => 2,
                    HardSigmoid { .. } | HardSwish | Softsign => 4,
                    Power { exponent } if power::Power::of(exponent).is_some() => 4,
                    Power { .. } => 48,
                    _ => 24,
                }
            }
            Expr::Binary(BinaryFn::Pow | BinaryFn::Mod { .. }, _, _) => 48,
            Expr::MulAdd(..)
            | Expr::Binary(..)
            | Expr::Entry(..)
            | Expr::Select(..)
            | Expr::Cast(..)
            | Expr::Operand(_) => 1,
            Expr::Const(_) | Expr::Index(_) | Expr::Acc(_) => 0,
        }
    };
    n.value.walk(&mut visit);
    n.accumulators.iter().for_each(|a| a.value.walk(&mut visit));
    weight
}

/// Groups of elements in flight, so that about eight vectors are; one of those whose functions are long.
fn groups(n: &Nest) -> u8 {
    if weight(n) >= LONG {
        return 1;
    }
    let bytes = n.operands.iter().chain([&n.result]).map(|o| o.dtype.bytes()).max();
    (8 / bytes.unwrap_or(1)).clamp(1, 4) as u8
}

/// An accumulator that folds `value` by a function, from its neutral element.
pub(super) fn folded(function: BinaryFn, dtype: DType, neutral: f64, value: Expr) -> Accumulator {
    Accumulator { init: Constant::of(dtype, neutral), fold: Fold::With(function), value }
}
