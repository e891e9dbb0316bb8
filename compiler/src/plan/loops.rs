//! Loop nests of neighbouring steps become one: what a step computes for each element, its readers compute themselves.
//!
//! ```text
//!   q = x / s     ─┐
//!   r = round(q)   │                         y = cast(clip(round(x / s) + z, 0, 255))
//!   a = r + z      ├─▶  one step:            reads x once, writes y once
//!   c = clip(a)    │
//!   y = cast(c)   ─┘
//!
//!   d = x - m  ─▶ v = mean of d²  ─▶ √(v + ε)         d is read twice, but takes no more to compute than to read:
//!      └────────▶ d · g                               √(mean of (x - m)² + ε),   (x - m) · g
//! ```
//!
//! It is done before loops are put in order, since what they become together decides their order, lanes and units. A step is taken
//! away where
//!
//! * nothing but nests reads what it wrote, before that is overwritten, in the same iterations of loops;
//! * what it reads is still there when they run;
//! * they compute no more than they save ([`is_cheap`]), in vectors as wide as before ([`Steps::kept_lanes`]).

use std::collections::{BTreeMap, BTreeSet};

use super::LayerCode;
use nnc_ir::{Deadline, Exceeded};

use super::buffer::{Buffer, BufferId, Home};
use super::dense::DenseArg;
use super::draft::StepDraft;
use super::generic::{NestDraft, weight};
use super::lanes::LanesArg;
use super::repeat::RepeatDraft;
use super::winograd::WinogradArg;
use crate::code::nest::{Expr, Nest, Operand, Vectorised};

/// The most operands of a nest that several steps became: each is a stream of its own.
const MOST_OPERANDS: usize = 8;

/// The most operations of an element ([`weight`]) of such a nest: beside one polynomial, moving an element still counts; of two in
/// one loop, neither has the registers that it would have alone.
const MOST_WORK: usize = 48;

/// Operations that cost no more than to load an element.
const CHEAP: usize = 4;

/// How often an element may be computed instead of once.
const MOST_TIMES: usize = 4;

/// Operations of an element beside which moving it takes long; in vectors, twice as many.
const LIGHT: usize = 16;

/// Elements for which it does not matter how they are computed.
const FEW_ELEMENTS: usize = 256;

/// How a step touches a buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Touch {
    reads: bool,
    writes: bool,
}

/// Steps that became part of others: for each that is left, those that it computes besides.
pub(super) type Merged = BTreeMap<usize, Vec<usize>>;

/// Takes steps into those that read their results, and their places in the list away. Buffers in `kept` are read by others than steps.
pub(super) fn merge(
    steps: &mut [Option<StepDraft>],
    buffers: &[Buffer],
    repeats: &[RepeatDraft],
    kept: &BTreeSet<BufferId>,
    deadline: Deadline,
) -> Result<Merged, Exceeded> {
    let mut merged = Merged::new();
    let mut steps = Steps::new(steps, buffers, repeats);
    for step in 0..steps.list.len() {
        let name = || steps.list[step].as_ref().map_or("", StepDraft::name);
        deadline.check(|| format!("the plan of step \"{}\"", name()))?;
        let Some(readers) = steps.readers(step, kept).and_then(|readers| steps.take(step, &readers)) else {
            continue;
        };
        let within = merged.remove(&step).unwrap_or_default();
        for (reader, nest, lanes) in readers {
            steps.put(reader, nest, lanes);
            let names = merged.entry(reader).or_default();
            names.extend(within.iter().copied().chain([step]));
        }
        steps.remove(step);
    }
    Ok(merged)
}

/// All steps, and who touches what.
struct Steps<'p> {
    list: &'p mut [Option<StepDraft>],
    buffers: &'p [Buffer],
    repeats: &'p [RepeatDraft],
    touches: BTreeMap<BufferId, BTreeMap<usize, Touch>>,
    /// What goes in vectors, of nests for which that was asked.
    lanes: BTreeMap<usize, VectorWidth>,
}

/// How wide vectors are: none, 128 bits, those of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum VectorWidth {
    One,
    Narrow,
    Wide,
}

impl<'p> Steps<'p> {
    fn new(
        list: &'p mut [Option<StepDraft>],
        buffers: &'p [Buffer],
        repeats: &'p [RepeatDraft],
    ) -> Steps<'p> {
        let (touches, lanes) = (BTreeMap::new(), BTreeMap::new());
        let mut steps = Steps { list, buffers, repeats, touches, lanes };
        (0..steps.list.len()).for_each(|step| steps.add_touches(step));
        steps
    }

    fn nest(&self, step: usize) -> Option<&Nest> {
        match &self.list[step] {
            Some(StepDraft::Loops(loops)) if loops.nest.is_open() => Some(loops.nest.nest()),
            Some(StepDraft::Loops(_)) => None,
            Some(StepDraft::Layer(_)) | None => None,
        }
    }

    /// The buffer that has the bytes.
    fn root(&self, arg: usize) -> BufferId {
        match self.buffers[arg].home {
            Home::Alias(root) => root,
            _ => BufferId(arg as u32),
        }
    }

    fn is_constant(&self, buffer: BufferId) -> bool {
        matches!(self.buffers[buffer.0 as usize].home, Home::Const(_) | Home::Input(_))
    }

    /// Whether a buffer lies at another place in each iteration of a loop.
    fn moves(&self, operand: &Operand) -> bool {
        !self.buffers[operand.arg].moves.is_empty()
    }

    /// What a step touches, one argument after the other.
    fn touched(&self, step: usize) -> Vec<(BufferId, Touch)> {
        let mut touched: Vec<(BufferId, Touch)> = Vec::new();
        let (read, written) = (Touch { reads: true, writes: false }, Touch { reads: false, writes: true });
        match &self.list[step] {
            None => {}
            Some(StepDraft::Loops(loops)) => {
                let nest = loops.nest.nest();
                for operand in &nest.operands {
                    touched.push((self.root(operand.arg), read));
                    touched.extend(operand.tables.iter().map(|table| (self.root(table.arg), read)));
                }
                touched.push((self.root(nest.result.arg), written));
            }
            Some(StepDraft::Layer(layer)) => {
                for (arg, (buffer, _)) in layer.args.iter().enumerate() {
                    let output = match &layer.code {
                        LayerCode::Dense(_) => Some(DenseArg::Output as usize),
                        LayerCode::Winograd(_) => Some(WinogradArg::Output as usize),
                        LayerCode::Lanes(_) => Some(LanesArg::Output as usize),
                        LayerCode::Nest(_) | LayerCode::Routine(_) => None,
                    };
                    let touch = match output {
                        Some(output) if output == arg => written,
                        Some(_) => read,
                        None => Touch { reads: true, writes: true },
                    };
                    touched.push((self.root(buffer.0 as usize), touch));
                }
                touched.extend(layer.also_reads.iter().map(|b| (self.root(b.0 as usize), read)));
            }
        }
        touched
    }

    fn add_touches(&mut self, step: usize) {
        for (buffer, Touch { reads, writes }) in self.touched(step) {
            let touch = self.touches.entry(buffer).or_default().entry(step).or_default();
            touch.reads |= reads;
            touch.writes |= writes;
        }
    }

    fn drop_touches(&mut self, step: usize) {
        for (buffer, _) in self.touched(step) {
            if let Some(touches) = self.touches.get_mut(&buffer) {
                touches.remove(&step);
            }
        }
        self.lanes.remove(&step);
    }

    fn remove(&mut self, step: usize) {
        self.drop_touches(step);
        self.list[step] = None;
    }

    /// Gives a step another nest, of which it is known what goes in vectors.
    fn put(&mut self, step: usize, nest: Nest, lanes: VectorWidth) {
        self.drop_touches(step);
        self.lanes.insert(step, lanes);
        if let Some(StepDraft::Loops(loops)) = &mut self.list[step] {
            loops.nest = NestDraft::from(nest);
        }
        self.add_touches(step);
    }

    /// The loops around a step.
    fn around(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        let inside = move |(_, repeat): &(usize, &RepeatDraft)| repeat.steps.contains(&step);
        self.repeats.iter().enumerate().filter(inside).map(|(number, _)| number)
    }

    /// The steps that read what a nest writes, if nests are all there are.
    fn readers(&self, step: usize, kept: &BTreeSet<BufferId>) -> Option<Vec<usize>> {
        let nest = self.nest(step).filter(|nest| nest.can_be_inlined())?;
        let result = self.root(nest.result.arg);
        if self.buffers[result.0 as usize].home != Home::Arena
            || kept.contains(&result)
            || self.moves(&nest.result)
        {
            return None;
        }
        let touches = &self.touches[&result];
        // What the next iteration finds there.
        let outermost = self.around(step).map(|repeat| self.repeats[repeat].steps.start).min();
        if outermost.is_some_and(|start| touches.range(start..step).any(|(_, touch)| touch.reads)) {
            return None;
        }
        let mut readers = Vec::new();
        for (&other, touch) in touches.range(step + 1..) {
            if touch.reads {
                readers.push(other);
            }
            if touch.writes {
                // Of what is overwritten in part, the rest is read by others.
                let over = &self.nest(other)?.result;
                if !same_elements(nest, &nest.result, self.nest(other)?, over) {
                    return None;
                }
                break;
            }
        }
        let (&last, loops) = (readers.last()?, self.around(step).collect::<Vec<_>>());
        if readers.iter().any(|&reader| !self.around(reader).eq(loops.iter().copied())) {
            return None;
        }
        // What it reads is still there.
        for operand in &nest.operands {
            let buffer = self.root(operand.arg);
            let written = |(_, touch): (&usize, &Touch)| touch.writes;
            if !self.is_constant(buffer) && self.touches[&buffer].range(step + 1..last).any(written) {
                return None;
            }
        }
        Some(readers)
    }

    /// What readers become with a step in them, and what goes in vectors then, if that pays for all.
    fn take(&mut self, step: usize, readers: &[usize]) -> Option<Vec<(usize, Nest, VectorWidth)>> {
        let producer = self.nest(step)?.clone();
        let written = self.root(producer.result.arg);
        let mut taken = Vec::new();
        let mut times = 0;
        for &reader in readers {
            let nest = self.nest(reader)?;
            let reads = |&o: &usize| self.root(nest.operands[o].arg) == written;
            let operands: Vec<usize> = (0..nest.operands.len()).filter(reads).collect();
            // Entries of tables are no elements.
            let mut tables = nest.operands.iter().flat_map(|o| &o.tables);
            let moves = operands.iter().any(|&o| self.moves(&nest.operands[o]));
            if moves || tables.any(|table| self.root(table.arg) == written) {
                return None;
            }
            times += operands.iter().map(|&o| evaluations(nest, o)).sum::<usize>();
            let both = nest.inlined(&producer, &operands)?;
            if both.operands.len() > MOST_OPERANDS || weight(&both) > MOST_WORK || !self.is_safe(&both) {
                return None;
            }
            taken.push((reader, both));
        }
        let reduces = !producer.reduce.is_empty() || !producer.accumulators.is_empty();
        let once = times <= producer.loops.iter().product();
        if !once && (reduces || !is_cheap(&producer, times)) {
            return None;
        }
        let lanes = |(reader, both)| self.kept_lanes(step, reader, &both).map(|lanes| (reader, both, lanes));
        taken.into_iter().map(lanes).collect()
    }

    /// Whether a nest reads each element of its result's buffer before it writes that, if it reads any.
    fn is_safe(&self, nest: &Nest) -> bool {
        let (result, written) = (&nest.result, self.root(nest.result.arg));
        let same = |o: &Operand| {
            let mut steps = nest.extents().zip(o.strides.iter().zip(&result.strides));
            o.offset == result.offset && steps.all(|(extent, (read, written))| extent == 1 || read == written)
        };
        let mut own = nest.operands.iter().filter(|o| self.root(o.arg) == written);
        own.all(|o| nest.reduce.is_empty() && same(o))
    }

    /// What goes in vectors of a nest, if these are as wide as those of both that it is made of. For little work it is enough that
    /// neither waits for more than before.
    fn kept_lanes(&mut self, producer: usize, reader: usize, both: &Nest) -> Option<VectorWidth> {
        let parts = NestDraft::from(both.clone()).schedule();
        let lanes = lanes_of(&parts);
        // Some rows are reduced by kernels or not at all.
        if !parts.iter().all(Nest::lanes_fit) {
            return None;
        }
        if both.extents().product::<usize>() <= FEW_ELEMENTS {
            return Some(lanes);
        }
        let (first, second) = (self.lanes(producer), self.lanes(reader));
        let kept = if self.nest(producer).is_some_and(|nest| !nest.reduce.is_empty()) {
            // What reduces does more for an element than the map behind it.
            lanes >= first
        } else {
            let light = if lanes == VectorWidth::One { LIGHT } else { 2 * LIGHT };
            lanes >= first.max(second) || (lanes >= first.min(second) && weight(both) <= light)
        };
        kept.then_some(lanes)
    }

    fn lanes(&mut self, step: usize) -> VectorWidth {
        if let Some(known) = self.lanes.get(&step) {
            return *known;
        }
        let parts = |nest: &Nest| NestDraft::from(nest.clone()).schedule();
        let lanes = self.nest(step).map_or(VectorWidth::One, |nest| lanes_of(&parts(nest)));
        self.lanes.insert(step, lanes);
        lanes
    }
}

/// What goes in vectors in the largest part of a nest that is scheduled.
fn lanes_of(parts: &[Nest]) -> VectorWidth {
    let largest = parts.iter().max_by_key(|part| part.extents().product::<usize>());
    largest.map_or(VectorWidth::Wide, |part| match part.vectorised {
        Vectorised::Scalar => VectorWidth::One,
        Vectorised::Loop { .. }
        | Vectorised::Groups { .. }
        | Vectorised::Reduce { .. }
        | Vectorised::Transpose => VectorWidth::Narrow,
        Vectorised::Kernel
        | Vectorised::Bytes
        | Vectorised::Windows
        | Vectorised::Resampled { .. }
        | Vectorised::Scan => VectorWidth::Wide,
    })
}

/// Whether readers that compute what a nest does, so many times in all, do less than it takes to write and read it.
fn is_cheap(producer: &Nest, times: usize) -> bool {
    let elements = producer.loops.iter().product::<usize>();
    let work = weight(producer) <= CHEAP && times <= elements.saturating_mul(MOST_TIMES);
    work && producer.read_bytes() <= producer.written_bytes() * 5 / 4
}

/// How often a nest computes what one of its operands is.
fn evaluations(nest: &Nest, operand: usize) -> usize {
    let loops = nest.loops.iter().product::<usize>();
    let reduced = nest.reduce.iter().map(|r| r.extent).product::<usize>();
    let named = |e: &Expr| {
        let mut times = 0;
        e.walk(&mut |e| times += usize::from(*e == Expr::Operand(operand)));
        times
    };
    let summed: usize = nest.accumulators.iter().map(|a| named(&a.value)).sum();
    let stored = named(&nest.value) * if nest.stores_rows() { reduced } else { 1 };
    loops.saturating_mul(summed.saturating_mul(reduced).saturating_add(stored))
}

/// Whether a result and another one are the same elements.
fn same_elements(a: &Nest, of_a: &Operand, b: &Nest, of_b: &Operand) -> bool {
    let walk = |nest: &Nest, operand: &Operand| {
        let mut steps: Vec<(i64, usize)> = Vec::new();
        let mut axes: Vec<(i64, usize)> = operand.strides.iter().copied().zip(nest.extents()).collect();
        axes.retain(|&(_, extent)| extent > 1);
        axes.sort_unstable();
        for (stride, extent) in axes {
            match steps.last_mut() {
                Some((inner, count)) if inner.checked_mul(*count as i64) == Some(stride) => *count *= extent,
                _ => steps.push((stride, extent)),
            }
        }
        steps
    };
    (of_a.offset, of_a.dtype.bytes()) == (of_b.offset, of_b.dtype.bytes()) && walk(a, of_a) == walk(b, of_b)
}
