//! Strips: neighbouring layers that run band by band, so that what lies between them never leaves the cache.
//!
//! A layer of a compact network does little with each value, and the first ones make more values than the second-level
//! cache holds: written to memory, they are read back once. In a strip a thread computes a band of the last layer's rows and,
//! layer after layer, just what the band needs. The images in between are a few rows each, in the thread's scratch.
//!
//! ```text
//!   112×112×32 ─ expand ─▶ 112×112×96 ─ depthwise ─▶ 56×56×96 ─ project ─▶ 56×56×24
//!                            4.6 MiB                   1.1 MiB                          step by step
//!                            17 rows                   8 rows                8 rows     in 7 strips
//! ```
//!
//! Rows that two strips need are computed by both. The more strips, the more of that; the fewer, the more rows. What is
//! won and lost is estimated in cycles, and layers run in strips only where that is a gain ([`Costs`]).
//!
//! A strip that is too large for the second-level cache may stay in the last one: of a batch, whose images would go to memory, that is worth
//! as much as it is that those of a single picture do not.
//!
//! Layers qualify that go through their units in the order of pixels: tiles of a dense layer, rows of a layer with channels
//! in lanes, picture by picture. A batch is a tall picture whose windows stay in theirs: strips are parts of a picture, or some
//! pictures where these are small. An image between them may be read by any layer of the group, but by no other, and not through a
//! table of displacements, which are those of the arena.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use nnc_runtime::abi::{Strip, Strips};

use super::arena::{ALIGN, Arena, Lifetime};
use super::buffer::{Buffer, BufferId, Home};
use super::dense::DenseArg;
use super::draft::Draft;
use super::lanes::LanesArg;
use super::memory;
use super::unit_sweep::Sweep;
use super::{LayerCode, PlanError, StripRule};
use crate::target::{FMA_PER_CYCLE, Target};

/// The most layers of a group.
const LONGEST: usize = 8;
/// The fewest and the most strips of a group over one picture: fewer leave nothing to do for a thread that is ahead of the others.
const FEWEST_STRIPS: usize = 8;
const MOST_STRIPS: usize = 64;
/// The most of a batch: each takes some bytes of the program.
const MOST_OF_BATCH: usize = 4096;
/// The part of the second-level cache that a strip may fill: its images, and what it reads and writes of others.
const PART_OF_L2: u64 = 3;
/// The part of what a core has of the last-level cache that a strip may fill in its place.
const PART_OF_L3: u64 = 2;
/// Cycles that a byte costs that leaves the second-level cache and comes back. (Measured on MobileNet's first layers, whose
/// times were compared with those of layers of the same kind that fit.)
const CYCLES_PER_BYTE: f64 = 0.075;
/// The same where the bytes leave the last-level cache, too. (Measured on MobileNet v2's first layers over 32 pictures.)
const CYCLES_PER_BYTE_OF_MEMORY: f64 = 0.5;
/// Bytes of images that a layer with little arithmetic reads and writes in a cycle while they are in the second-level cache.
const BYTES_PER_CYCLE: f64 = 10.0;
/// Cycles that it takes to call a layer function.
const CYCLES_PER_CALL: f64 = 150.0;

/// The groups of a plan.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// In order.
    pub groups: Vec<Group>,
}

/// Steps that run strip by strip.
#[derive(Debug)]
pub(super) struct Group {
    /// The steps.
    pub steps: Range<usize>,
    /// Images between them, in the order of [`nnc_runtime::abi::Region::Strip`].
    pub buffers: Vec<BufferId>,
    /// Where each is, from the start of the group's part of scratch.
    offsets: Vec<u64>,
    /// How large each is, and at which of the steps it is alive.
    lives: Vec<Lifetime>,
    /// Bytes of that part.
    pub bytes: u64,
    strips: Vec<Strip>,
}

impl Groups {
    /// The group of a step.
    pub fn of(&self, step: usize) -> Option<&Group> {
        self.groups.iter().find(|group| group.steps.contains(&step))
    }

    /// The steps at which something is alive that a step touches: all of its group, whose strips have no order.
    pub fn span(&self, step: usize) -> (usize, usize) {
        self.of(step).map_or((step, step), |group| (group.steps.start, group.steps.end - 1))
    }

    /// Scratch that a thread needs, of which steps use the first `used` bytes.
    pub fn scratch(&self, used: u64) -> u64 {
        self.groups.iter().map(|group| start(used) + group.bytes).fold(used, u64::max)
    }

    /// Checks that no two images of a strip overlap that are alive at the same time.
    pub fn check(&self) -> Result<(), PlanError> {
        let overlap = |group: &Group| {
            memory::overlap(&group.lives, &Arena { offsets: group.offsets.clone(), bytes: group.bytes })
        };
        match self.groups.iter().find_map(overlap) {
            None => Ok(()),
            Some((a, b)) => Err(PlanError::Internal(format!("images {a} and {b} of a strip overlap"))),
        }
    }

    /// Where in scratch each image is, if steps use the first `used` bytes.
    pub fn places(&self, used: u64) -> BTreeMap<BufferId, Range<u64>> {
        let of_group = |group: &Group| {
            let places = group.offsets.iter().zip(&group.lives);
            let places =
                places.map(move |(offset, life)| start(used) + offset..start(used) + offset + life.bytes);
            group.buffers.clone().into_iter().zip(places.collect::<Vec<_>>())
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// The groups as the runtime reads them.
    pub fn describe(&self, used: u64) -> Vec<Strips> {
        let strips = |group: &Group| Strips {
            first: group.steps.start as u32,
            buffers: group.offsets.iter().map(|offset| start(used) + offset).collect(),
            strips: group.strips.clone(),
        };
        self.groups.iter().map(strips).collect()
    }
}

/// Where the part of scratch begins that strips use.
fn start(used: u64) -> u64 {
    used.next_multiple_of(ALIGN)
}

/// How a step touches an image, pixel by pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    /// It writes the pixels that its units are.
    Write,
    /// It reads them.
    Residual,
    /// It reads the pixels below its windows.
    Read,
    /// In some other way.
    Otherwise,
}

/// What each step touches, and what touches each buffer.
struct Steps<'p> {
    drafts: &'p [Draft],
    macc: &'p [u64],
    buffers: &'p [Buffer],
    sweeps: Vec<Option<Sweep>>,
    touches: Vec<Vec<(BufferId, Touch)>>,
    /// For each buffer, the steps that touch it.
    touched_by: BTreeMap<BufferId, Vec<usize>>,
    /// Buffers that are seen under several pitches.
    aliased: BTreeSet<BufferId>,
}

impl<'p> Steps<'p> {
    fn of(drafts: &'p [Draft], macc: &'p [u64], buffers: &'p [Buffer]) -> Steps<'p> {
        let aliased = buffers.iter().filter_map(|buffer| match buffer.home {
            Home::Alias(root) => Some(root),
            _ => None,
        });
        let touches: Vec<_> = drafts.iter().map(|draft| touches(draft, buffers)).collect();
        let mut touched_by: BTreeMap<BufferId, Vec<usize>> = BTreeMap::new();
        for (step, touches) in touches.iter().enumerate() {
            for (buffer, _) in touches {
                touched_by.entry(*buffer).or_default().push(step);
            }
        }
        let flat = |step: usize| {
            let output = touches[step].iter().find(|(_, touch)| *touch == Touch::Write);
            let image = output.and_then(|(id, _)| buffers[id.0 as usize].image);
            image.is_some_and(|(extent, pitch)| pitch.is_flat(extent))
        };
        let sweeps = drafts.iter().enumerate();
        let sweeps = sweeps.map(|(step, d)| Sweep::of(&d.code).filter(|_| flat(step))).collect();
        Steps { drafts, macc, buffers, sweeps, aliased: aliased.collect(), touches, touched_by }
    }

    fn output(&self, step: usize) -> Option<BufferId> {
        self.touches[step].iter().find(|(_, touch)| *touch == Touch::Write).map(|(id, _)| *id)
    }

    /// The images between some steps, if they can run in strips.
    fn between(&self, steps: &Range<usize>) -> Option<Vec<BufferId>> {
        let last = steps.end - 1;
        let mut between = Vec::new();
        for step in steps.start..last {
            let image = self.output(step)?;
            if between.contains(&image) || !self.is_local(image, step, steps) {
                return None;
            }
            between.push(image);
        }
        // Other strips still read what the steps before read: the last one may write over nothing of it.
        let result = self.output(last)?;
        let earlier = self.touches[steps.start..last].iter().flatten();
        let own = self.touches[last].iter().filter(|(id, _)| *id == result);
        let apart = !earlier.into_iter().any(|(id, _)| *id == result)
            && own.into_iter().all(|(_, touch)| matches!(touch, Touch::Write | Touch::Residual));
        apart.then_some(between)
    }

    /// Whether an image is made by one step as a whole and read by others of the group alone, pixel by pixel.
    fn is_local(&self, image: BufferId, maker: usize, steps: &Range<usize>) -> bool {
        let buffer = &self.buffers[image.0 as usize];
        // A single pixel may be seen at any pitch.
        let flat = buffer.image.is_some_and(|(extent, pitch)| {
            pitch.is_flat(extent) && pitch.bytes(pitch.pixel) as u64 * extent.pixels() as u64 >= buffer.bytes
        });
        let users = self.touched_by.get(&image).map(Vec::as_slice).unwrap_or_default();
        let fits = |&user: &usize| {
            let mut touches =
                self.touches[user].iter().filter(|(id, _)| *id == image).map(|(_, touch)| *touch);
            match user == maker {
                true => touches.all(|touch| touch == Touch::Write),
                false => {
                    user > maker
                        && steps.contains(&user)
                        && touches.all(|touch| matches!(touch, Touch::Read | Touch::Residual))
                }
            }
        };
        buffer.home == Home::Arena && flat && !self.aliased.contains(&image) && users.iter().all(fits)
    }

    /// Bytes of a pixel of an image.
    fn pixel(&self, image: BufferId) -> u64 {
        self.buffers[image.0 as usize].image.map_or(0, |(_, pitch)| pitch.bytes(pitch.pixel) as u64)
    }
}

/// How a step touches buffers that are not constant.
fn touches(draft: &Draft, buffers: &[Buffer]) -> Vec<(BufferId, Touch)> {
    let root = |id: BufferId| match buffers[id.0 as usize].home {
        Home::Alias(root) => Some(root),
        Home::Arena | Home::Input(_) | Home::Output(_) => Some(id),
        Home::Const(_) | Home::ArenaStart => None,
    };
    let role = |arg: usize| match &draft.code {
        LayerCode::Dense(_) if arg == DenseArg::Output as usize => Touch::Write,
        LayerCode::Dense(_) if arg == DenseArg::Residual as usize => Touch::Residual,
        LayerCode::Dense(_) if arg == DenseArg::Input as usize || arg >= DenseArg::Staged as usize => {
            Touch::Read
        }
        LayerCode::Lanes(_) if arg == LanesArg::Output as usize => Touch::Write,
        LayerCode::Lanes(_) if arg == LanesArg::Residual as usize => Touch::Residual,
        LayerCode::Lanes(_) if arg >= LanesArg::Inputs as usize => Touch::Read,
        _ => Touch::Otherwise,
    };
    let mut touches: Vec<(BufferId, Touch)> = Vec::new();
    for (arg, &(id, offset)) in draft.args.iter().enumerate() {
        let touch = if offset == 0 { role(arg) } else { Touch::Otherwise };
        touches.extend(root(id).map(|id| (id, touch)));
    }
    for id in draft.also_reads.iter().filter_map(|&id| root(id)) {
        if !touches.iter().any(|(known, touch)| *known == id && *touch == Touch::Read) {
            touches.push((id, Touch::Otherwise));
        }
    }
    touches
}

/// Where the images of a strip stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    Second,
    Last,
}

/// What is won and lost, in cycles.
struct Costs {
    rule: StripRule,
    l2: u64,
    l3: u64,
    cores: usize,
    /// Multiply-accumulates in a cycle.
    maccs: f64,
}

impl Costs {
    fn of(rule: StripRule, target: &Target) -> Costs {
        let maccs = f64::from(FMA_PER_CYCLE * target.isa.lanes());
        Costs {
            rule,
            l2: target.l2,
            l3: target.l3.max(target.l2),
            cores: target.cores.max(1) as usize,
            maccs,
        }
    }

    /// How many strips are worth a try, of a result that has so many units, in so many pictures: a picture is cut into equal strips, or
    /// equal numbers of pictures are one.
    fn counts(&self, units: usize, images: usize) -> Vec<usize> {
        match self.rule {
            StripRule::Never => Vec::new(),
            StripRule::WhereFaster => {
                let pictures = (2..=images).rev().filter(|&n| images.is_multiple_of(n)).map(|n| images / n);
                let parts = (1..=MOST_STRIPS).map(|n| n * images);
                let fits = |&count: &usize| {
                    (FEWEST_STRIPS..=units.min(MOST_OF_BATCH)).contains(&count)
                        && count.is_multiple_of(self.cores)
                };
                pictures.chain(parts).filter(fits).collect()
            }
            StripRule::Always(count) => vec![count.clamp(1, units)],
        }
    }

    /// What is won if an image stays in a cache.
    fn image(&self, bytes: u64, cache: Cache) -> f64 {
        let per_byte = match self.rule {
            StripRule::Always(_) => return 1.0,
            StripRule::WhereFaster if 2 * bytes > self.l3 => CYCLES_PER_BYTE_OF_MEMORY,
            StripRule::WhereFaster if 2 * bytes > self.l2 => CYCLES_PER_BYTE,
            StripRule::WhereFaster | StripRule::Never => return 0.0,
        };
        let there = if cache == Cache::Last { CYCLES_PER_BYTE } else { 0.0 };
        bytes as f64 * (per_byte - there)
    }

    /// The cache that a strip stays in which touches so many bytes.
    fn cache(&self, bytes: u64) -> Option<Cache> {
        if self.rule != StripRule::WhereFaster || PART_OF_L2 * bytes <= self.l2 {
            return Some(Cache::Second);
        }
        (PART_OF_L3 * bytes <= self.l3 / self.cores as u64).then_some(Cache::Last)
    }

    /// What a group of `count` strips loses, of which these are some that are like all.
    fn group(&self, steps: &Steps<'_>, some: &Group, sweeps: &[&Sweep], count: usize) -> f64 {
        if let StripRule::Always(_) = self.rule {
            return 0.0;
        }
        let part = some.strips.len() as f64 / count as f64;
        let (mut whole, mut again) = (0.0, 0.0);
        for (at, (step, sweep)) in some.steps.clone().zip(sweeps).enumerate() {
            let time = self.step(&steps.drafts[step], steps.macc[step]);
            let done: u32 = some.strips.iter().map(|strip| strip.units[at].end - strip.units[at].start).sum();
            whole += time;
            again += time * (f64::from(done) / (sweep.units() as f64 * part) - 1.0);
        }
        let calls = (count * some.steps.len()) as f64 * CYCLES_PER_CALL;
        let idle = (count.div_ceil(self.cores) * self.cores) as f64 / count as f64 - 1.0;
        again + calls + whole * idle + self.weights(steps, some, count)
    }

    /// What it costs to read the weights for each strip that are read once for a whole batch, unless they stay in the cache.
    fn weights(&self, steps: &Steps<'_>, group: &Group, count: usize) -> f64 {
        let bytes: u64 = group.steps.clone().map(|step| steps.weights(step)).sum();
        let stay = steps.images(group.steps.clone()) == 1 || self.cache(bytes) == Some(Cache::Second);
        if stay { 0.0 } else { (count - 1) as f64 * bytes as f64 * CYCLES_PER_BYTE }
    }

    /// What a whole step takes whose data are near.
    fn step(&self, draft: &Draft, macc: u64) -> f64 {
        let bytes = (draft.traffic.read + draft.traffic.written) as f64;
        (macc as f64 / self.maccs).max(bytes / BYTES_PER_CYCLE)
    }
}

/// Decides which steps run in strips. `macc` is the arithmetic of each step; `alone` says which steps are in loops and branches,
/// and so have no neighbours.
pub(super) fn choose(
    rule: StripRule,
    drafts: &[Draft],
    macc: &[u64],
    buffers: &[Buffer],
    alone: &[bool],
    target: &Target,
) -> Groups {
    if rule == StripRule::Never {
        return Groups::default();
    }
    let costs = Costs::of(rule, target);
    let mut steps = Steps::of(drafts, macc, buffers);
    for (sweep, _) in steps.sweeps.iter_mut().zip(alone).filter(|(_, alone)| **alone) {
        *sweep = None;
    }
    // For the last steps, from none to all: what their best groups win, and the first of these if it begins there, as its steps and the
    // number of its strips.
    let mut best: Vec<(f64, Option<(Range<usize>, usize)>)> = vec![(0.0, None)];
    for first in (0..drafts.len()).rev() {
        let mut choice = (best[drafts.len() - first - 1].0, None);
        for end in first + 2..=(first + LONGEST).min(drafts.len()) {
            let Some(sweeps) = steps.sweeps(first..end) else { break };
            let Some((gain, count)) = steps.best(first..end, &sweeps, &costs) else { continue };
            let gain = gain + best[drafts.len() - end].0;
            if gain > choice.0 {
                choice = (gain, Some((first..end, count)));
            }
        }
        best.push(choice);
    }
    let mut groups = Groups::default();
    let mut at = 0;
    while at < drafts.len() {
        match best[drafts.len() - at].1.take() {
            Some((range, count)) => {
                at = range.end;
                groups.groups.extend(steps.group(range, count));
            }
            None => at += 1,
        }
    }
    groups
}

impl Steps<'_> {
    /// How some steps sweep, if all do.
    fn sweeps(&self, steps: Range<usize>) -> Option<Vec<&Sweep>> {
        self.sweeps[steps].iter().map(Option::as_ref).collect()
    }

    /// Into how many strips some steps are best cut, and how many cycles that wins; `None` if none do.
    fn best(&self, steps: Range<usize>, sweeps: &[&Sweep], costs: &Costs) -> Option<(f64, usize)> {
        let between = self.between(&steps)?;
        let won = |cache: Cache| -> f64 {
            between.iter().map(|id| costs.image(self.buffers[id.0 as usize].bytes, cache)).sum()
        };
        if won(Cache::Second) == 0.0 {
            return None;
        }
        let images = self.images(steps.clone());
        let mut best: Option<(f64, usize)> = None;
        for count in costs.counts(sweeps.last()?.units(), images) {
            // The strips of one picture tell what those of others do, and the one in the middle whether they are too large, as they
            // are for most counts.
            let of_picture = (count / images).max(1);
            let middle = self.band(&steps, &between, sweeps, count, of_picture / 2);
            let least = costs.cache(self.least(&steps, &between, sweeps, &middle));
            if least.is_none_or(|cache| won(cache) <= 0.0) {
                continue;
            }
            let some = self.cut(steps.clone(), &between, sweeps, count, of_picture);
            let Some(cache) = costs.cache(self.outside(&some, sweeps) + some.bytes) else { continue };
            let gain = won(cache) - costs.group(self, &some, sweeps, count);
            if gain > best.map_or(0.0, |(known, _)| known) {
                best = Some((gain, count));
            }
        }
        best
    }

    /// Some steps in so many strips.
    fn group(&self, steps: Range<usize>, count: usize) -> Option<Group> {
        let (between, sweeps) = (self.between(&steps)?, self.sweeps(steps.clone())?);
        Some(self.cut(steps, &between, &sweeps, count, count))
    }

    /// Pictures of the result of the last of some steps.
    fn images(&self, steps: Range<usize>) -> usize {
        let result = steps.last().and_then(|last| self.output(last));
        let image = result.and_then(|id| self.buffers[id.0 as usize].image);
        image.map_or(1, |(extent, _)| extent.n.max(1))
    }

    /// Bytes of the constants of a step.
    fn weights(&self, step: usize) -> u64 {
        let buffers = self.drafts[step].args.iter().map(|(id, _)| &self.buffers[id.0 as usize]);
        buffers.filter(|buffer| matches!(buffer.home, Home::Const(_))).map(|buffer| buffer.bytes).sum()
    }

    /// One of `count` strips of the result of the last step, and what it needs of the steps before.
    fn band(
        &self,
        steps: &Range<usize>,
        between: &[BufferId],
        sweeps: &[&Sweep],
        count: usize,
        strip: usize,
    ) -> Band {
        let last = sweeps.len() - 1;
        let units = sweeps[last].units();
        let mut band = Band { units: vec![0..0; sweeps.len()], pixels: vec![0..0; between.len()] };
        for at in (0..=last).rev() {
            band.units[at] = match at == last {
                true => units * strip / count..units * (strip + 1) / count,
                false => sweeps[at].covering(&band.pixels[at]),
            };
            let (written, read) = (sweeps[at].written(&band.units[at]), sweeps[at].read(&band.units[at]));
            for (id, touch) in &self.touches[steps.start + at] {
                let Some(image) = between.iter().position(|b| b == id) else { continue };
                let needed = &mut band.pixels[image];
                match touch {
                    Touch::Write => *needed = written.clone(),
                    Touch::Residual => *needed = hull(needed, &written),
                    Touch::Read | Touch::Otherwise => *needed = hull(needed, &read),
                }
            }
        }
        band
    }

    /// Bytes that a strip touches at least: of images outside, and of those between which one of its steps needs at once.
    fn least(&self, steps: &Range<usize>, between: &[BufferId], sweeps: &[&Sweep], band: &Band) -> u64 {
        let of_step = |step: usize| -> u64 {
            let touched = between.iter().zip(&band.pixels);
            let touched = touched.filter(|(id, _)| self.touches[step].iter().any(|(other, _)| other == *id));
            touched.map(|(id, pixels)| pixels.len() as u64 * self.pixel(*id)).sum()
        };
        let inside = steps.clone().map(of_step).max().unwrap_or(0);
        inside + self.outside_of(steps, between, sweeps, &band.units)
    }

    /// Cuts the result of the last step into `count` strips, and finds what each of the first `some` needs of the steps before.
    fn cut(
        &self,
        steps: Range<usize>,
        between: &[BufferId],
        sweeps: &[&Sweep],
        count: usize,
        some: usize,
    ) -> Group {
        let mut sizes = vec![0u64; between.len()];
        let mut strips = Vec::with_capacity(some);
        for strip in 0..some {
            let band = self.band(&steps, between, sweeps, count, strip);
            let bytes = |(pixels, &id): (&Range<usize>, &BufferId)| {
                (pixels.start as u64 * self.pixel(id), pixels.len() as u64 * self.pixel(id))
            };
            let places: Vec<(u64, u64)> = band.pixels.iter().zip(between).map(bytes).collect();
            sizes.iter_mut().zip(&places).for_each(|(size, (_, bytes))| *size = (*size).max(*bytes));
            strips.push(Strip {
                units: band.units.iter().map(|units| units.start as u32..units.end as u32).collect(),
                origins: places.into_iter().map(|(origin, _)| origin).collect(),
            });
        }
        let lives: Vec<Lifetime> = (between.iter().zip(&sizes).enumerate())
            .map(|(at, (id, &bytes))| {
                let users = self.touched_by.get(id).map(Vec::as_slice).unwrap_or_default();
                let last = users.iter().map(|user| user - steps.start).max().unwrap_or(at);
                Lifetime { bytes, first: at, last }
            })
            .collect();
        let place = memory::allocate(&lives);
        Group { steps, buffers: between.to_vec(), offsets: place.offsets, lives, bytes: place.bytes, strips }
    }

    /// The most bytes that a strip reads and writes of images outside.
    fn outside(&self, group: &Group, sweeps: &[&Sweep]) -> u64 {
        let of_strip = |strip: &Strip| -> u64 {
            let units: Vec<_> = strip.units.iter().map(|u| u.start as usize..u.end as usize).collect();
            self.outside_of(&group.steps, &group.buffers, sweeps, &units)
        };
        group.strips.iter().map(of_strip).max().unwrap_or(0)
    }

    /// Bytes that some units of the steps read and write of images outside.
    fn outside_of(
        &self,
        steps: &Range<usize>,
        between: &[BufferId],
        sweeps: &[&Sweep],
        units: &[Range<usize>],
    ) -> u64 {
        let touched = steps.clone().zip(sweeps).zip(units).flat_map(|((step, sweep), units)| {
            let outside = self.touches[step].iter().filter(|(id, _)| !between.contains(id));
            outside.map(move |(id, touch)| {
                let pixels = match touch {
                    Touch::Write | Touch::Residual => sweep.written(units),
                    Touch::Read | Touch::Otherwise => sweep.read(units),
                };
                pixels.len() as u64 * self.pixel(*id)
            })
        });
        touched.sum()
    }
}

/// What a strip computes: the units of each step, and the pixels that it needs of each image between them.
struct Band {
    units: Vec<Range<usize>>,
    pixels: Vec<Range<usize>>,
}

/// The smallest range that holds two; an empty one holds nothing.
fn hull(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.clone(),
        (_, true) => a.clone(),
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_of_a_batch_are_equal_parts_of_pictures_or_some_pictures() {
        let mut target = Target::named("x86-64-v3").unwrap();
        target.cores = 2;
        let costs = Costs::of(StripRule::WhereFaster, &target);
        assert_eq!(costs.counts(96, 24)[..6], [8, 12, 24, 48, 72, 96]);
        let (units, images) = (56 * 300, 300);
        assert_eq!(costs.counts(units, images).last(), Some(&3900), "a program has only so many");
    }

    #[test]
    fn what_leaves_the_last_cache_costs_more() {
        let target = Target::named("x86-64-v3").unwrap();
        let costs = Costs::of(StripRule::WhereFaster, &target);
        let image = |bytes: u64| costs.image(bytes, Cache::Second);
        assert!(image(target.l3) > 3.0 * image(target.l3 / 2));
    }

    #[test]
    fn what_costs_more_than_it_wins_is_left_alone() {
        let target = Target::named("x86-64-v3").unwrap();
        let costs = Costs::of(StripRule::WhereFaster, &target);
        assert_eq!(costs.image(target.l2 / 2, Cache::Second), 0.0, "it stays in the cache anyway");
        assert!(costs.image(target.l2, Cache::Second) > 0.0);
        assert!(costs.counts(5, 1).is_empty(), "too few rows for strips");
        assert!(costs.counts(100, 1).iter().all(|count| count.is_multiple_of(target.cores as usize)));
    }

    #[test]
    fn what_an_image_wins_is_the_way_of_its_bytes_from_where_it_would_be() {
        let target = Target::named("x86-64-v3").unwrap();
        let costs = Costs::of(StripRule::WhereFaster, &target);
        let l3 = target.l3;
        assert_eq!(costs.image(l3, Cache::Second), l3 as f64 * CYCLES_PER_BYTE_OF_MEMORY);
        assert_eq!(costs.image(l3 / 2, Cache::Second), (l3 / 2) as f64 * CYCLES_PER_BYTE);
        let from_memory = CYCLES_PER_BYTE_OF_MEMORY - CYCLES_PER_BYTE;
        assert_eq!(costs.image(l3, Cache::Last), l3 as f64 * from_memory);
        assert_eq!(costs.image(l3 / 2, Cache::Last), 0.0, "it is there anyway");
    }

    #[test]
    fn a_strip_stays_in_the_second_cache_or_in_what_its_core_has_of_the_last_one() {
        let mut target = Target::named("x86-64-v3").unwrap();
        target.cores = 2;
        let costs = Costs::of(StripRule::WhereFaster, &target);
        let (l2, of_l3) = (target.l2 / PART_OF_L2, target.l3 / 2 / PART_OF_L3);
        assert_eq!([l2, l2 + 1].map(|bytes| costs.cache(bytes)), [Some(Cache::Second), Some(Cache::Last)]);
        assert_eq!([of_l3, of_l3 + 1].map(|bytes| costs.cache(bytes)), [Some(Cache::Last), None]);
        let always = Costs::of(StripRule::Always(2), &target);
        assert_eq!(always.cache(target.l3), Some(Cache::Second), "who asks for strips has them");
    }

    #[test]
    fn a_hull_holds_both_and_nothing_where_there_is_nothing() {
        assert_eq!(hull(&(1..2), &(4..6)), 1..6);
        assert_eq!(hull(&(4..6), &(1..2)), 1..6);
        assert_eq!([hull(&(3..5), &(9..9)), hull(&(0..0), &(3..5))], [3..5, 3..5]);
    }
}
