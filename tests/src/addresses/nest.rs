//! The addresses of a loop nest.
//!
//! An element's address is a sum over the loops of index times stride. Loops that have nothing to do with each other are
//! spread one after another; those that have are gone through together:
//!
//! ```text
//!   out[y, x, c] = max over r, s of in[2y + r - 1, 2x + s - 1, c]
//!
//!   {c}       0 1 2 …
//!   {x, s}    2x + s - 1 where that is inside: a bound joins x and s
//!   {y, r}    likewise
//! ```
//!
//! A table of offsets joins the loops that its entries depend on.

use nnc::code::nest::{Bound, Expr, Nest, Operand, Table};

use super::{Bases, Intervals, Walk, sorted, steps};

pub(super) fn walk(nest: &Nest, bases: Bases<'_>) -> Result<Walk, String> {
    let mut walk = Walk::default();
    for (number, operand) in nest.operands.iter().enumerate() {
        let (stored, accumulated) = readers(nest, number);
        if !stored && !accumulated {
            continue;
        }
        // What the stored value reads is read behind the reduction, whatever that has left out.
        let reduced = operand.strides.get(nest.loops.len()..).is_some_and(|s| s.iter().any(|&s| s != 0));
        let bounded = accumulated && !stored && reduced;
        Stream { nest, operand, bounded, bases }.read(&mut walk)?;
    }
    let result = &nest.result;
    let stored = nest.extents().zip(&result.strides).fold(
        Intervals::first(result.dtype.bytes() as i64).moved(result.offset),
        |bytes, (extent, &stride)| bytes.spread(steps(extent, stride)),
    );
    walk.writes(bases.arg(result.arg)?, &stored);
    Ok(walk)
}

/// Whether the stored value, and whether an accumulated one, reads an operand.
fn readers(nest: &Nest, number: usize) -> (bool, bool) {
    let reads = |e: &Expr| {
        let mut found = false;
        e.walk(&mut |e| found |= matches!(e, Expr::Operand(i) if *i == number));
        found
    };
    (reads(&nest.value), nest.accumulators.iter().any(|a| reads(&a.value)))
}

/// An operand on its way through the loops.
struct Stream<'a> {
    nest: &'a Nest,
    operand: &'a Operand,
    /// Whether the bounds of reductions hold for it.
    bounded: bool,
    bases: Bases<'a>,
}

impl Stream<'_> {
    fn read(&self, walk: &mut Walk) -> Result<(), String> {
        let mut bytes =
            Intervals::first(self.operand.dtype.bytes() as i64).moved(self.operand.offset + self.fixed()?);
        for axes in self.groups() {
            bytes = match axes.as_slice() {
                // One loop by itself.
                &[axis] if !self.depends_on_table(axis) => match self.stride(axis) {
                    0 => bytes,
                    stride => bytes.spread(steps(self.extent(axis), stride)),
                },
                axes => bytes.spread(self.offsets(axes)?),
            };
        }
        if !bytes.is_empty() {
            for table in &self.operand.tables {
                walk.reads(self.bases.arg(table.arg)?, &self.entries(table));
            }
        }
        walk.reads(self.bases.arg(self.operand.arg)?, &bytes);
        Ok(())
    }

    fn extent(&self, axis: usize) -> usize {
        self.nest.extents().nth(axis).unwrap_or(0)
    }

    fn stride(&self, axis: usize) -> i64 {
        self.operand.strides.get(axis).copied().unwrap_or(0)
    }

    fn depends_on_table(&self, axis: usize) -> bool {
        self.operand.tables.iter().any(|t| t.strides.get(axis).is_some_and(|&s| s != 0))
    }

    /// The bound of a reduction axis.
    fn bound(&self, axis: usize) -> Option<Bound> {
        let reduce = axis.checked_sub(self.nest.loops.len())?;
        self.nest.reduce.get(reduce)?.bound.filter(|_| self.bounded)
    }

    /// The loops, those together that depend on each other, smallest strides first so that neighbours join early.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = (0..self.nest.extents().count()).map(|axis| vec![axis]).collect();
        let mut couple = |axes: &[usize]| {
            let (mut joined, apart): (Vec<_>, Vec<_>) =
                groups.drain(..).partition(|group| group.iter().any(|axis| axes.contains(axis)));
            groups = apart;
            let mut joined: Vec<usize> = joined.drain(..).flatten().collect();
            joined.sort_unstable();
            groups.push(joined);
        };
        for axis in 0..self.nest.extents().count() {
            if let Some(bound) = self.bound(axis) {
                couple(&[bound.axis, axis]);
            }
        }
        for table in self.operand.tables.iter().map(axes_of).filter(|axes| !axes.is_empty()) {
            couple(&table);
        }
        groups.sort_by_key(|axes| axes.iter().map(|&axis| self.stride(axis).abs()).max());
        groups
    }

    /// What tables add that depend on no loop.
    fn fixed(&self) -> Result<i64, String> {
        let fixed = self.operand.tables.iter().filter(|table| axes_of(table).is_empty());
        fixed.map(|table| self.entry(table, &[], &[])).sum()
    }

    fn entry(&self, table: &Table, axes: &[usize], indices: &[i64]) -> Result<i64, String> {
        let at: i64 = axes.iter().zip(indices).map(|(&axis, index)| table.strides[axis] * index).sum();
        self.bases.entry(self.bases.arg(table.arg)?, table.offset + at)
    }

    /// Every entry of a table that is read.
    fn entries(&self, table: &Table) -> Intervals {
        axes_of(table).into_iter().fold(Intervals::first(4).moved(table.offset), |bytes, axis| {
            bytes.spread(steps(self.extent(axis), table.strides[axis]))
        })
    }

    /// The offsets that some loops add together, at all of their indices that count.
    fn offsets(&self, axes: &[usize]) -> Result<Vec<i64>, String> {
        let tables: Vec<&Table> = (self.operand.tables.iter())
            .filter(|table| axes_of(table).first().is_some_and(|first| axes.contains(first)))
            .collect();
        let mut offsets = Vec::new();
        for indices in self.indices(axes) {
            let mut offset: i64 = axes.iter().zip(&indices).map(|(&axis, i)| self.stride(axis) * i).sum();
            for table in &tables {
                offset += self.entry(table, axes, &indices)?;
            }
            offsets.push(offset);
        }
        Ok(sorted(offsets))
    }

    /// All indices of some loops together, without those that a bound leaves out.
    fn indices(&self, axes: &[usize]) -> Vec<Vec<i64>> {
        let mut all = vec![Vec::new()];
        for &axis in axes {
            let extent = self.extent(axis) as i64;
            all = all
                .iter()
                .flat_map(|outer: &Vec<i64>| {
                    let range = match self.bound(axis) {
                        Some(bound) => {
                            let at = axes.iter().position(|&a| a == bound.axis).map_or(0, |i| outer[i]);
                            let position = bound.base + bound.scale * at;
                            let inside = (0..extent)
                                .filter(|r| (0..bound.extent).contains(&(position + bound.step * r)));
                            inside.collect()
                        }
                        None => (0..extent).collect::<Vec<i64>>(),
                    };
                    range.into_iter().map(move |i| outer.iter().copied().chain([i]).collect::<Vec<i64>>())
                })
                .collect();
        }
        all
    }
}

/// The loops that a table's entries depend on.
fn axes_of(table: &Table) -> Vec<usize> {
    (0..table.strides.len()).filter(|&axis| table.strides[axis] != 0).collect()
}

#[cfg(test)]
mod tests {
    use nnc::code::nest::{Accumulator, Constant, Fold, ReduceAxis, Vectorised};
    use nnc::plan::Traffic;
    use nnc_ir::DType;
    use nnc_ir::op::elementwise::BinaryFn;
    use nnc_runtime::abi::{Arg, Region};

    use super::*;

    fn operand(arg: usize, strides: &[i64]) -> Operand {
        Operand { arg, offset: 0, dtype: DType::F32, strides: strides.to_vec(), tables: Vec::new() }
    }

    /// Maxima over windows of 3 taps, 2 pixels apart, of 5 channels in pixels of 8 slots; 4 outputs.
    fn windows(bound: Option<Bound>) -> Nest {
        Nest {
            loops: vec![4, 5],
            unit_axes: 1,
            reduce: vec![ReduceAxis { extent: 3, bound }],
            operands: vec![operand(0, &[64, 4, 32])],
            result: operand(1, &[20, 4]),
            accumulators: vec![Accumulator {
                init: Constant::F32(f32::NEG_INFINITY.to_bits()),
                fold: Fold::With(BinaryFn::Max),
                value: Expr::Operand(0),
            }],
            value: Expr::Acc(0),
            vectorised: Vectorised::Scalar,
        }
    }

    fn walked(nest: &Nest, constants: &[u8]) -> Walk {
        let place = |region, offset| Arg { region, offset };
        let args = [place(Region::Arena, 0), place(Region::Output(0), 0), place(Region::Const, 4)];
        walk(nest, Bases { args: &args, constants }).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn pixels_that_windows_share_are_read_once() {
        let walk = walked(&windows(None), &[]);
        assert_eq!(walk.traffic(), Traffic { read: 9 * 20, written: 80 });
        assert_eq!(walk.read[&Region::Arena], Intervals::first(20).spread(steps(9, 32)));
    }

    #[test]
    fn a_bound_leaves_out_what_lies_outside() {
        // From one pixel before the first one, so that pixels -1 and 7 are not read.
        let mut nest = windows(Some(Bound { axis: 0, scale: 2, step: 1, base: -1, extent: 7 }));
        nest.operands[0].offset = -32;
        let walk = walked(&nest, &[]);
        assert_eq!(walk.read[&Region::Arena], Intervals::first(20).spread(steps(7, 32)));
    }

    #[test]
    fn entries_of_a_table_are_read_and_followed() {
        let mut nest = windows(None);
        nest.operands[0].strides = vec![0, 4, 0];
        nest.operands[0].tables =
            vec![Table { arg: 2, offset: 0, strides: vec![4, 0, 0], low: 0, high: 640 }];
        let constants = [-1i32, 64, 640, 64, 0].map(i32::to_le_bytes).concat();
        let walk = walked(&nest, &constants);
        assert_eq!(walk.read[&Region::Arena], Intervals::first(20).spread([0, 64, 640]));
        assert_eq!(walk.read[&Region::Const], Intervals::first(16).moved(4));
    }

    #[test]
    fn an_operand_that_is_named_twice_is_read_once() {
        let mut nest = windows(None);
        (nest.reduce, nest.accumulators) = (Vec::new(), Vec::new());
        nest.operands = vec![operand(0, &[32, 4]), operand(0, &[32, 4])];
        nest.value = Expr::Binary(BinaryFn::Add, Box::new(Expr::Operand(0)), Box::new(Expr::Operand(1)));
        assert_eq!(walked(&nest, &[]).traffic(), Traffic { read: 80, written: 80 });
    }
}
