//! How many bytes a nest moves, each counted once.
//!
//! Most loops of an operand never meet: its elements are as many as the product of their extents. Windows do, where a step
//! of one loop is no longer than the reach of those inside of it; such loops are gone through together:
//!
//! ```text
//!   out[x, c] = max over s of in[2x + s, c]       c    0 4 8 …          C elements
//!                                                 x s  0 1 2, 2 3 4 …   2·X + 1 pixels, not 3·X
//! ```
//!
//! Operands that walk through the same elements, in whatever order of loops, count once. Otherwise this is a bound: what a
//! table of offsets names twice counts twice, for a nest does not know its tables' entries, and so do elements that two
//! operands share in part. Of what tables name, there is no more than from the lowest to the highest of their entries.

use super::{Bound, Nest, Operand, Table};

/// The most indices of loops that meet which are gone through. Beyond, each counts as an element of its own.
const MOST: usize = 1 << 20;

/// Loops that are counted together: the elements that they reach, and from the first to the last of them in bytes.
struct LoopGroup {
    axes: Vec<usize>,
    elements: usize,
    reach: u64,
}

impl Nest {
    /// Bytes read.
    pub fn read_bytes(&self) -> u64 {
        let mut bytes = 0u64;
        for (number, operand) in self.operands.iter().enumerate() {
            if self.operands[..number].iter().any(|other| self.same_elements(other, operand)) {
                continue;
            }
            let elements = self.elements(operand);
            bytes = bytes.saturating_add(elements.saturating_mul(operand.dtype.bytes() as u64));
            let entries = |table: &Table| self.product(&table.strides).saturating_mul(4);
            bytes = operand.tables.iter().map(entries).fold(bytes, u64::saturating_add);
        }
        bytes
    }

    /// Bytes written.
    pub fn written_bytes(&self) -> u64 {
        self.product(&self.result.strides).saturating_mul(self.result.dtype.bytes() as u64)
    }

    /// Whether two operands surely read the same elements.
    fn same_elements(&self, a: &Operand, b: &Operand) -> bool {
        let steps = |operand: &Operand| {
            let steps =
                self.extents().zip(operand.strides.iter().copied()).filter(|(_, stride)| *stride != 0);
            let mut steps: Vec<(usize, i64)> = steps.collect();
            steps.sort_unstable();
            steps
        };
        let plain = |o: &Operand| {
            o.tables.is_empty() && (0..o.strides.len()).all(|axis| self.bound_of(o, axis).is_none())
        };
        let alike = (a.arg, a.offset, a.dtype) == (b.arg, b.offset, b.dtype);
        a == b || (alike && plain(a) && plain(b) && steps(a) == steps(b))
    }

    /// Elements of a strided access whose loops never meet.
    fn product(&self, strides: &[i64]) -> u64 {
        let extents = self.extents().zip(strides).filter(|(_, stride)| **stride != 0);
        extents.fold(1, |n, (extent, _)| n.saturating_mul(extent as u64))
    }

    /// Different elements of an operand that are read.
    fn elements(&self, operand: &Operand) -> u64 {
        let (apart, tabled): (Vec<usize>, Vec<usize>) = (0..operand.strides.len())
            .filter(|&axis| operand.strides[axis] != 0 || operand.depends_on_table(axis))
            .partition(|&axis| !operand.depends_on_table(axis));
        let extent = |axis: &usize| self.extents().nth(*axis).unwrap_or(0) as u64;
        let named = tabled.iter().map(extent).fold(1, u64::saturating_mul);
        let reach = |table: &Table| u64::from(table.high.abs_diff(table.low)) / operand.dtype.bytes() as u64;
        let reached = operand.tables.iter().map(reach).fold(1, u64::saturating_add);
        let moves = tabled.iter().any(|&axis| operand.strides[axis] != 0);
        let named = if moves { named } else { named.min(reached) };
        let groups = self.groups(operand, apart).into_iter();
        groups.fold(named, |n, group| n.saturating_mul(group.elements as u64))
    }

    /// The loops of an operand, those together that a bound joins or that meet.
    fn groups(&self, operand: &Operand, mut axes: Vec<usize>) -> Vec<LoopGroup> {
        let stride = |axis: &usize| operand.strides[*axis].unsigned_abs();
        axes.sort_by_key(stride);
        let mut groups: Vec<LoopGroup> = Vec::new();
        let mut reach = 0u64;
        while let Some(&axis) = axes.first() {
            let mut joined = vec![axis];
            let bounding = |other: &usize| self.bound_of(operand, *other).map(|bound| bound.axis);
            if let Some(outer) = bounding(&axis) {
                joined.push(outer);
            }
            let with_it = |a: &&usize| bounding(a).is_some_and(|outer| joined.contains(&outer));
            let bounded: Vec<usize> = axes.iter().filter(with_it).copied().collect();
            joined.extend(bounded);
            if reach >= stride(&axis)
                && let Some(inner) = groups.pop()
            {
                reach -= inner.reach;
                joined.extend(inner.axes);
            }
            joined.sort_unstable();
            joined.dedup();
            axes.retain(|axis| !joined.contains(axis));
            let group = self.group(operand, joined);
            reach = reach.saturating_add(group.reach);
            groups.push(group);
        }
        groups
    }

    /// Goes through some loops.
    fn group(&self, operand: &Operand, axes: Vec<usize>) -> LoopGroup {
        let extents: Vec<usize> = axes.iter().map(|&axis| self.extents().nth(axis).unwrap_or(0)).collect();
        let stride = |axis: usize| operand.strides.get(axis).copied().unwrap_or(0);
        let all = extents.iter().fold(1usize, |n, &extent| n.saturating_mul(extent));
        let bounded = axes.iter().any(|&axis| self.bound_of(operand, axis).is_some());
        if all > MOST || (axes.len() == 1 && !bounded) {
            let reach = |(&axis, &extent): (&usize, &usize)| {
                stride(axis).unsigned_abs().saturating_mul(extent.saturating_sub(1) as u64)
            };
            let reach = axes.iter().zip(&extents).map(reach).fold(0, u64::saturating_add);
            return LoopGroup { axes, elements: all, reach };
        }
        let mut indices = vec![0i64; axes.len()];
        let mut offsets: Vec<i64> = Vec::new();
        for number in 0..all {
            let mut left = number;
            for (index, extent) in indices.iter_mut().zip(&extents) {
                *index = (left % extent) as i64;
                left /= extent;
            }
            let index = |axis: usize| axes.iter().position(|&a| a == axis).map_or(0, |at| indices[at]);
            let inside = |&axis: &usize| {
                self.bound_of(operand, axis).is_none_or(|bound| {
                    let position = bound.base + bound.scale * index(bound.axis) + bound.step * index(axis);
                    (0..bound.extent).contains(&position)
                })
            };
            if axes.iter().all(inside) {
                let moves = axes.iter().zip(&indices).map(|(&axis, &i)| stride(axis).wrapping_mul(i));
                offsets.push(moves.fold(0, i64::wrapping_add));
            }
        }
        offsets.sort_unstable();
        offsets.dedup();
        let reach = offsets.last().zip(offsets.first()).map_or(0, |(last, first)| last.abs_diff(*first));
        LoopGroup { axes, elements: offsets.len(), reach }
    }

    /// The bound of a reduction axis that an operand depends on. What the stored value reads is read behind the reduction.
    fn bound_of(&self, operand: &Operand, axis: usize) -> Option<Bound> {
        let reduce = self.reduce.get(axis.checked_sub(self.loops.len())?)?;
        let stored = self.reads(&self.value).any(|o| o == operand);
        let moves = operand.strides.get(axis).is_some_and(|&stride| stride != 0);
        reduce.bound.filter(|_| !stored && moves)
    }
}

impl Operand {
    fn depends_on_table(&self, axis: usize) -> bool {
        self.tables.iter().any(|table| table.strides.get(axis).is_some_and(|&stride| stride != 0))
    }
}

#[cfg(test)]
mod tests {
    use nnc_ir::DType;
    use nnc_ir::op::elementwise::BinaryFn;

    use super::super::{Accumulator, Constant, Expr, Fold, ReduceAxis, Vectorised};
    use super::*;

    fn operand(arg: usize, strides: &[i64]) -> Operand {
        Operand { arg, offset: 0, dtype: DType::F32, strides: strides.to_vec(), tables: Vec::new() }
    }

    /// Maxima over windows of 3, 2 apart, of 8 channels; 4 outputs.
    fn windows(bound: Option<Bound>) -> Nest {
        Nest {
            loops: vec![4, 8],
            unit_axes: 1,
            reduce: vec![ReduceAxis { extent: 3, bound }],
            operands: vec![operand(0, &[64, 4, 32])],
            result: operand(1, &[32, 4]),
            accumulators: vec![Accumulator {
                init: Constant::F32(f32::NEG_INFINITY.to_bits()),
                fold: Fold::With(BinaryFn::Max),
                value: Expr::Operand(0),
            }],
            value: Expr::Acc(0),
            vectorised: Vectorised::Scalar,
        }
    }

    #[test]
    fn pixels_that_two_windows_share_are_read_once() {
        let nest = windows(None);
        assert_eq!((nest.read_bytes(), nest.written_bytes()), (9 * 8 * 4, 4 * 8 * 4));
    }

    #[test]
    fn taps_outside_of_the_picture_are_not_read() {
        let bound = Bound { axis: 0, scale: 2, step: 1, base: -1, extent: 7 };
        assert_eq!(windows(Some(bound)).read_bytes(), 7 * 8 * 4);
    }

    #[test]
    fn an_operand_that_is_named_twice_is_read_once() {
        let nest = Nest {
            loops: vec![4, 8],
            unit_axes: 1,
            reduce: Vec::new(),
            operands: vec![operand(0, &[32, 4]), operand(0, &[32, 4]), operand(1, &[0, 4])],
            result: operand(2, &[32, 4]),
            accumulators: Vec::new(),
            value: Expr::Binary(BinaryFn::Add, Box::new(Expr::Operand(0)), Box::new(Expr::Operand(1))),
            vectorised: Vectorised::Scalar,
        };
        assert_eq!(nest.read_bytes(), (4 * 8 + 8) * 4);
    }

    #[test]
    fn a_sum_over_what_is_also_added_reads_it_once() {
        let mut nest = windows(None);
        nest.loops = vec![8, 3];
        nest.operands = vec![operand(0, &[4, 0, 32]), operand(0, &[4, 32, 0])];
        nest.value = Expr::Binary(BinaryFn::Add, Box::new(Expr::Acc(0)), Box::new(Expr::Operand(1)));
        assert_eq!(nest.read_bytes(), 3 * 8 * 4);
    }

    #[test]
    fn what_tables_name_twice_is_read_once_where_there_is_no_more() {
        let mut nest = windows(None);
        nest.operands[0].strides = vec![0, 4, 0];
        let table =
            |strides: &[i64], high| Table { arg: 2, offset: 0, strides: strides.to_vec(), low: 0, high };
        nest.operands[0].tables = vec![table(&[4, 0, 0], 4), table(&[0, 0, 4], 8)];
        // 0, 4, 8 and 12 bytes, 8 channels of each; the tables have 4 and 3 entries.
        assert_eq!(nest.read_bytes(), (4 * 8 + 4 + 3) * 4);
    }

    #[test]
    fn tables_are_read_too() {
        let mut nest = windows(None);
        nest.operands[0].strides = vec![0, 4, 0];
        nest.operands[0].tables =
            vec![Table { arg: 2, offset: 0, strides: vec![12, 0, 4], low: 0, high: 1024 }];
        assert_eq!(nest.read_bytes(), (4 * 3 * 8 + 4 * 3) * 4);
    }
}
