//! A register block of a dense convolution or matrix product: some pixels of one output row by some vectors of output
//! channels.
//!
//! ```text
//!              weights (packed)  k ↓  [ lanes | lanes ]
//!                                       16      16
//!   input    pixel 0   ▸ ▸ ▸ ▸        [ sum0  | sum0 ]     output, row of pixels
//!            pixel 1   ▸ ▸ ▸ ▸        [ sum1  | sum1 ]
//!            …          channels
//! ```
//!
//! Each step of the inner loop loads one row of the weight panel and multiplies it by one channel of every pixel.
//! Input is addressed where it lies: a kernel tap is a displacement, a kernel row an advance of a pitch, channels are
//! contiguous, evenly spaced (planes of an NCHW image), or in runs listed in a table (channel shuffles). No halo is
//! stored: a tap says for which of the pixels it lies inside the image, and the caller leaves out kernel rows above and
//! below it by passing a later start and a smaller count. So 1×1, K×K, strided, dilated, grouped and fully connected
//! layers are all this program.
//!
//! # Few output channels
//!
//! Four output channels do not fill a register of sixteen lanes. So a column may be *folded*: its register holds sums of
//! two or four neighbouring input channels side by side, which are added up at the end:
//!
//! ```text
//!   folded by 4        weights        n0: k0 k1 k2 k3   n1: k0 k1 k2 k3   n2: …
//!                    × input              a0 a1 a2 a3       a0 a1 a2 a3       …      one load of four channels
//! ```
//!
//! A column of four channels then takes a quarter of the multiply-adds. The panel's rows come in rounds of as many
//! channels as its columns are folded by: first each channel's row of the columns that are not folded, then those that are,
//! `[k / fold][n][k % fold]` for each.
//!
//! # Numeric contract
//!
//! An output is `bias` (or 0), plus its products in the order kernel row, kernel column, channel, each added by one
//! fused multiply-add where the target has it. With [`DenseTile::split`] = s > 1 there are s such sums, the j-th over
//! the channels at positions j, j+s, … of each tap; the first starts at the bias, the others at 0, and they are added
//! pairwise at the end. Outputs of a folded column are sums of sums over every second or fourth channel, neighbours first,
//! to which the bias is added last. Taps outside the image contribute nothing. The result depends on the layer and on `split`
//! only, not on the tile that computes it.
//!
//! # Parameters, in this order, those not needed left out
//!
//! | role | meaning |
//! |---|---|
//! | `Input` | first pixel of the tile, at displacement 0 of the taps, in the first kernel row inside the image |
//! | `Weights` | the panel, at that kernel row |
//! | `Output` | first pixel and channel of the tile |
//! | `KernelRows` | number of kernel rows inside the image; if [`DenseTile::kernel_rows`] > 1 |
//! | `Table` | displacements of the channel runs; with [`Runs::Table`] |
//! | `Bias` | packed like one row of the panel; if the epilogue has a bias |
//! | `Residual` | as `Output`; if the epilogue has a residual |
//! | `Ahead` | where prefetching starts; if [`DenseTile::ahead`] > 0 |

use std::ops::Range;

use super::super::error::TileError;
use super::super::ir::{Builder, Count, Extent, Inst, Int, Kind, Lanes, Operand, Program, Role, Vector, at};
use super::epilogue::{Epilogue, Residual};
use super::{Displacements, strided};

/// One vector of output channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Col {
    /// Lanes that are computed, and that the panel holds.
    pub lanes: Lanes,
    /// Lanes that exist in the output. Fewer than `lanes` only where the output has no lane padding.
    pub used: u32,
    /// Input channels that are summed side by side: 1, 2 or 4.
    pub fold: u32,
}

impl Col {
    /// A vector that is stored as a whole.
    pub const fn full(lanes: Lanes) -> Col {
        Col::part(lanes, lanes.count())
    }

    /// A vector of which the first `used` lanes are stored.
    pub const fn part(lanes: Lanes, used: u32) -> Col {
        Col { lanes, used, fold: 1 }
    }

    /// The register that holds its sums.
    fn register(self) -> Lanes {
        Lanes::holding(self.lanes.count() * self.fold).unwrap_or(Lanes::X16)
    }
}

/// Channels whose rows of a panel come together: as many as its columns are folded by.
fn together(cols: &[Col]) -> u32 {
    cols.iter().map(|col| col.fold).max().unwrap_or(1)
}

/// Where one tap's panel has the weight of lane `lane` and the `k`-th channel, in floats.
pub fn position(cols: &[Col], lane: u32, k: u32) -> usize {
    let (round, k) = (k / together(cols), k % together(cols));
    let start = round * together(cols) * panel_width(cols);
    let flat: u32 = cols.iter().filter(|col| col.fold == 1).map(|col| col.lanes.count()).sum();
    let (mut lane, mut flat_before) = (lane, 0);
    let mut folded_before = flat * together(cols);
    for col in cols {
        let lanes = col.lanes.count();
        if lane >= lanes {
            lane -= lanes;
            match col.fold {
                1 => flat_before += lanes,
                _ => folded_before += lanes * together(cols),
            }
            continue;
        }
        let within = match col.fold {
            1 => k * flat + flat_before + lane,
            fold => folded_before + (k / fold * lanes + lane) * fold + k % fold,
        };
        return (start + within) as usize;
    }
    start as usize
}

/// One column of the convolution kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tap {
    /// Bytes from the tile's input pointer to the tap of pixel 0.
    pub disp: i32,
    /// The pixels of the tile for which the tap lies inside the image. A tap without pixels still has weights.
    pub rows: Range<u32>,
}

/// How the input channels of one tap lie in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Runs {
    /// That many, one after another.
    Contiguous(u32),
    /// Evenly spaced.
    Stepped {
        /// Number of channels.
        count: u32,
        /// Bytes from one to the next.
        step: i32,
    },
    /// Runs of contiguous channels that start where a table of displacements says.
    Table(Vec<RunClass>),
}

/// Runs of equal length that follow one another in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunClass {
    /// Channels of each run.
    pub length: u32,
    /// Number of runs.
    pub count: u32,
    /// The smallest of their displacements, in bytes.
    pub least: i32,
    /// The largest of their displacements, in bytes.
    pub most: i32,
}

impl RunClass {
    /// Groups runs, given by displacement in bytes and length in channels, into classes without changing their order.
    pub fn of(runs: impl IntoIterator<Item = (i32, u32)>) -> Vec<RunClass> {
        let mut classes: Vec<RunClass> = Vec::new();
        for (disp, length) in runs {
            match classes.last_mut() {
                Some(last) if last.length == length => {
                    last.count += 1;
                    last.least = last.least.min(disp);
                    last.most = last.most.max(disp);
                }
                _ => classes.push(RunClass { length, count: 1, least: disp, most: disp }),
            }
        }
        classes
    }
}

impl Runs {
    /// Number of channels.
    pub fn channels(&self) -> u64 {
        match self {
            Runs::Contiguous(count) | Runs::Stepped { count, .. } => u64::from(*count),
            Runs::Table(classes) => classes.iter().map(|c| u64::from(c.length) * u64::from(c.count)).sum(),
        }
    }

    /// Bytes that the channels of a tap occupy, from its displacement.
    fn extent(&self) -> Extent {
        match self {
            Runs::Contiguous(count) => Extent::new(0, 4 * i64::from(*count)),
            Runs::Stepped { count, step } => strided(*count, i64::from(*step), 4),
            Runs::Table(classes) => classes
                .iter()
                .filter(|c| c.count > 0 && c.length > 0)
                .map(|c| Extent::new(i64::from(c.least), i64::from(c.most) + 4 * i64::from(c.length)))
                .fold(Extent::default(), Extent::union),
        }
    }
}

/// How an input value gets into all lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broadcast {
    /// As an operand of each multiply-add: saves a register and an instruction, costs a load for each column.
    Embedded,
    /// Once, into a register.
    Register,
}

/// A register block of a dense layer; see the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DenseTile {
    /// Number of output pixels.
    pub rows: u32,
    /// Bytes from the input of one output pixel to that of the next.
    pub a_pixel: i32,
    /// The vectors of output channels.
    pub cols: Vec<Col>,
    /// The columns of the kernel, in order.
    pub taps: Vec<Tap>,
    /// Bytes from one kernel row to the next in the input.
    pub a_row: i32,
    /// The most kernel rows that a call may ask for; with 1 there is no count parameter.
    pub kernel_rows: u32,
    /// The input channels.
    pub k: Runs,
    /// Bytes from one output pixel to the next.
    pub c_pixel: i32,
    /// Bytes from one pixel of the residual to the next.
    pub residual_pixel: i32,
    /// Independent sums per output: 1, 2 or 4.
    pub split: u32,
    /// How input values are broadcast.
    pub broadcast: Broadcast,
    /// Cache lines of what a later call reads that are asked for in four channels; with 0 there is no such parameter.
    pub ahead: u32,
    /// What happens before the store.
    pub epilogue: Epilogue,
}

/// Floats in one row of a panel.
pub fn panel_width(cols: &[Col]) -> u32 {
    cols.iter().map(|c| c.lanes.count()).sum()
}

/// Output channels of a panel.
pub fn panel_channels(cols: &[Col]) -> u32 {
    cols.iter().map(|c| c.used).sum()
}

/// The weights of one panel in order of use, `[ky][kx][k][lane]` where no column is folded, zero in lanes without a channel. `weight(n, k, ky, kx)`
/// is asked for output channels `0..panel_channels(cols)` and for channels `k` in the order in which the tile reads them.
pub fn pack(
    cols: &[Col],
    kernel: (u32, u32),
    channels: u32,
    weight: impl Fn(u32, u32, u32, u32) -> f32,
) -> Vec<f32> {
    let tap = channels as usize * panel_width(cols) as usize;
    let mut panel = vec![0.0; kernel.0 as usize * kernel.1 as usize * tap];
    let taps = (0..kernel.0).flat_map(|ky| (0..kernel.1).map(move |kx| (ky, kx)));
    for (panel, (ky, kx)) in panel.chunks_exact_mut(tap.max(1)).zip(taps) {
        let (mut lane, mut n) = (0, 0);
        for col in cols {
            for used in 0..col.used {
                for k in 0..channels {
                    panel[position(cols, lane + used, k)] = weight(n + used, k, ky, kx);
                }
            }
            lane += col.lanes.count();
            n += col.used;
        }
    }
    panel
}

/// One value per lane of a panel, zero in lanes without a channel: a bias, or a row of weights.
pub fn pack_row(cols: &[Col], value: impl Fn(u32) -> f32) -> Vec<f32> {
    let mut row = Vec::with_capacity(panel_width(cols) as usize);
    let mut first = 0;
    for col in cols {
        row.extend((0..col.lanes.count()).map(|l| if l < col.used { value(first + l) } else { 0.0 }));
        first += col.used;
    }
    row
}

/// Channels handled in one round of the inner loop.
pub const UNROLL: u32 = 4;
/// Bytes of a cache line.
pub const LINE: i32 = 64;
/// The longest run of a table that is unrolled as a whole.
const UNROLL_RUN: u32 = 16;

impl DenseTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let (width, taps) = (panel_channels(&self.cols), self.taps.len());
        let (rows, k, epilogue) = (self.rows, self.k.channels(), self.epilogue.word());
        format!("dense_f32_{rows}x{width}_k{}x{taps}x{k}{epilogue}", self.kernel_rows)
    }

    /// Bytes of the panel for one kernel row.
    pub fn panel_row_bytes(&self) -> i64 {
        4 * i64::from(panel_width(&self.cols)) * self.taps.len() as i64 * self.k.channels() as i64
    }

    /// The program.
    pub fn program(&self) -> Result<Program, TileError> {
        self.check()?;
        let mut emit = Emit::new(self);
        emit.start();
        if self.kernel_rows > 1 {
            emit.b.begin();
            emit.kernel_row();
            emit.next_kernel_row();
            let rows = emit.kernel_rows;
            emit.b.end(rows);
        } else {
            emit.kernel_row();
        }
        emit.finish()
    }

    fn check(&self) -> Result<(), TileError> {
        let wrong = |what: &str| Err(TileError::Descriptor { program: self.name(), what: what.into() });
        if self.rows == 0 || self.cols.is_empty() {
            return wrong("a tile needs at least one pixel and one column");
        }
        if self.cols.iter().any(|c| c.used == 0 || c.used > c.lanes.count()) {
            return wrong("a column stores at least one lane and at most all");
        }
        let fits = |c: &Col| matches!(c.fold, 1 | 2 | 4) && c.lanes.count() * c.fold <= 16;
        if !self.cols.iter().all(fits) {
            return wrong("a column is folded by 1, 2 or 4, in at most 16 lanes");
        }
        let (channels, round) = (self.k.channels(), u64::from(together(&self.cols)));
        if round > 1 && !(matches!(self.k, Runs::Contiguous(_)) && channels.is_multiple_of(round)) {
            return wrong("folded columns need contiguous channels, and as many as fill all rounds");
        }
        if self.taps.iter().any(|t| t.rows.end > self.rows) {
            return wrong("a tap names a pixel that the tile does not have");
        }
        if !matches!(self.split, 1 | 2 | 4) {
            return wrong("the number of sums per output must be 1, 2 or 4");
        }
        if self.kernel_rows == 0 {
            return wrong("a tile needs at least one kernel row");
        }
        Ok(())
    }

    fn input_extent(&self) -> Extent {
        let run = self.k.extent();
        let rows = strided(self.kernel_rows, i64::from(self.a_row), 0);
        let taps = self.taps.iter().filter(|t| !t.rows.is_empty() && !run.is_empty()).map(|tap| {
            let pixels = [tap.rows.start, tap.rows.end - 1].map(|r| i64::from(r) * i64::from(self.a_pixel));
            let (first, last) = (pixels[0].min(pixels[1]), pixels[0].max(pixels[1]));
            let disp = i64::from(tap.disp);
            Extent::new(disp + first + rows.lo + run.lo, disp + last + rows.hi + run.hi)
        });
        taps.fold(Extent::default(), Extent::union)
    }

    fn output_extent(&self, pixel: i32) -> Extent {
        strided(self.rows, i64::from(pixel), 4 * i64::from(panel_channels(&self.cols)))
    }
}

/// Consecutive taps whose channels follow one another in memory, so that one loop can go through all.
struct Stretch {
    disp: i64,
    rows: Range<u32>,
    taps: u32,
}

/// Where a round of channels is.
struct Place {
    base: Int,
    /// Bytes from there to the first channel of pixel 0.
    disp: i64,
    /// Bytes from one channel to the next.
    step: i64,
    /// Bytes from the weights' pointer to the round's rows of the panel.
    panel: i64,
    /// Place of the first channel in its tap.
    position: u32,
}

/// Floats of the columns that are not folded, in one row of a panel.
fn flat_width(cols: &[Col]) -> i64 {
    cols.iter().filter(|col| col.fold == 1).map(|col| i64::from(col.lanes.count())).sum()
}

struct Emit<'a> {
    tile: &'a DenseTile,
    b: Builder,
    displacements: Displacements,
    input: Int,
    weights: Int,
    output: Int,
    kernel_rows: Count,
    table: Option<Int>,
    bias: Option<Int>,
    residual: Option<Int>,
    ahead: Option<Int>,
    /// The widest column.
    widest: Lanes,
    /// Channels that come together.
    together: u32,
    /// `sums[split][row][col]`
    sums: Vec<Vec<Vec<Vector>>>,
    /// How far the pointers have moved since the kernel row began.
    input_moved: i64,
    weights_moved: i64,
    table_moved: i64,
    /// Bytes of the panel used since the kernel row began.
    panel_used: i64,
}

impl<'a> Emit<'a> {
    fn new(tile: &'a DenseTile) -> Emit<'a> {
        let mut b = Builder::new(tile.name());
        let panel = tile.panel_row_bytes().saturating_mul(i64::from(tile.kernel_rows));
        let input = b.param(Role::Input, Kind::Read { extent: tile.input_extent() });
        let weights = b.param(Role::Weights, Kind::Read { extent: Extent::new(0, panel) });
        let output = b.param(Role::Output, Kind::Write { extent: tile.output_extent(tile.c_pixel) });
        let kernel_rows = match tile.kernel_rows {
            0 | 1 => Count::Imm(1),
            max => Count::Param(b.param(Role::KernelRows, Kind::Count { max })),
        };
        let table = match &tile.k {
            Runs::Table(classes) => {
                let range = |c: &RunClass| Extent::new(i64::from(c.least), i64::from(c.most) + 1);
                let classes = classes.iter().map(|c| (c.count, range(c))).collect();
                Some(b.param(Role::Table, Kind::Table { classes }))
            }
            Runs::Contiguous(_) | Runs::Stepped { .. } => None,
        };
        let bias = tile.epilogue.bias.then(|| {
            let extent = Extent::new(0, 4 * i64::from(panel_width(&tile.cols)));
            b.param(Role::Bias, Kind::Read { extent })
        });
        let residual = (tile.epilogue.residual != Residual::None)
            .then(|| b.param(Role::Residual, Kind::Read { extent: tile.output_extent(tile.residual_pixel) }));
        let ahead = (tile.ahead > 0).then(|| b.param(Role::Ahead, Kind::Read { extent: Extent::default() }));
        let widest = tile.cols.iter().map(|c| c.lanes).max().unwrap_or(Lanes::X4);
        Emit {
            tile,
            b,
            displacements: Displacements::default(),
            input,
            weights,
            output,
            kernel_rows,
            table,
            bias,
            residual,
            ahead,
            widest,
            together: together(&tile.cols),
            sums: Vec::new(),
            input_moved: 0,
            weights_moved: 0,
            table_moved: 0,
            panel_used: 0,
        }
    }

    /// Gives every sum its first value.
    fn start(&mut self) {
        for part in 0..self.tile.split {
            let mut rows: Vec<Vec<Vector>> = Vec::new();
            for _ in 0..self.tile.rows {
                let mut offset = 0;
                let mut row = Vec::new();
                for (v, col) in self.tile.cols.iter().enumerate() {
                    let bias = self.bias.filter(|_| part == 0 && col.fold == 1);
                    let sum = match (bias, rows.first()) {
                        (Some(bias), None) => self.b.load(col.lanes, col.lanes.count(), at(bias, offset)),
                        (Some(_), Some(first)) => {
                            let dst = self.b.vector(col.lanes);
                            self.b.push(Inst::Copy { dst, src: first[v] });
                            dst
                        }
                        _ => self.b.constant(col.register(), 0.0),
                    };
                    offset += col.lanes.bytes();
                    row.push(sum);
                }
                rows.push(row);
            }
            self.sums.push(rows);
        }
    }

    /// All taps of one kernel row.
    fn kernel_row(&mut self) {
        match &self.tile.k {
            Runs::Contiguous(k) => {
                for stretch in self.stretches(*k) {
                    self.evenly(stretch.taps * k, 4, stretch.disp, stretch.rows);
                }
            }
            Runs::Stepped { count, step } => {
                for tap in &self.tile.taps {
                    self.evenly(*count, *step, i64::from(tap.disp), tap.rows.clone());
                }
            }
            Runs::Table(classes) => {
                for tap in &self.tile.taps {
                    self.by_table(classes, i64::from(tap.disp), tap.rows.clone());
                }
            }
        }
    }

    /// Moves the pointers from where the kernel row left them to the next one.
    fn next_kernel_row(&mut self) {
        let input = self.displacements.get(i64::from(self.tile.a_row) - self.input_moved);
        self.b.advance(self.input, input);
        let weights = self.displacements.get(self.panel_used - self.weights_moved);
        self.b.advance(self.weights, weights);
        if let Some(table) = self.table {
            let back = self.displacements.get(-self.table_moved);
            self.b.advance(table, back);
        }
    }

    /// Taps over `k` contiguous channels, neighbours joined where that keeps each channel's part of the split.
    fn stretches(&self, k: u32) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for tap in &self.tile.taps {
            let (disp, rows) = (i64::from(tap.disp), tap.rows.clone());
            match stretches.last_mut() {
                Some(last)
                    if last.rows == rows
                        && last.disp + 4 * i64::from(k) * i64::from(last.taps) == disp
                        && k.is_multiple_of(self.tile.split) =>
                {
                    last.taps += 1;
                }
                _ => stretches.push(Stretch { disp, rows, taps: 1 }),
            }
        }
        stretches
    }

    /// Asks for the lines ahead that fall to the `u`-th channel of a round.
    fn prefetch(&mut self, u: u32) {
        let Some(ahead) = self.ahead else { return };
        for line in self.tile.ahead * u / UNROLL..self.tile.ahead * (u + 1) / UNROLL {
            self.b.push(Inst::Prefetch { addr: at(ahead, LINE * line as i32) });
        }
    }

    /// Moves on to the lines of the next round.
    fn prefetched(&mut self) {
        if let Some(ahead) = self.ahead {
            self.b.advance(ahead, LINE * self.tile.ahead as i32);
        }
    }

    /// `count` channels `step` bytes apart.
    fn evenly(&mut self, count: u32, step: i32, disp: i64, rows: Range<u32>) {
        let panel_row = 4 * i64::from(panel_width(&self.tile.cols));
        if rows.is_empty() {
            self.panel_used += panel_row * i64::from(count);
            return;
        }
        let step = i64::from(step);
        let mut from = disp - self.input_moved;
        let mut done = 0;
        let rounds = count / UNROLL;
        if rounds > 2 {
            let panel = self.panel_used - self.weights_moved;
            self.b.begin();
            for u in (0..UNROLL).step_by(self.together as usize) {
                let (disp, panel) = (from + i64::from(u) * step, panel + i64::from(u) * panel_row);
                self.round(&Place { base: self.input, disp, step, panel, position: u }, rows.clone(), true);
            }
            self.prefetched();
            let (a, w) = (i64::from(UNROLL) * step, i64::from(UNROLL) * panel_row);
            let (move_a, move_w) = (self.displacements.get(a), self.displacements.get(w));
            self.b.advance(self.input, move_a);
            self.b.advance(self.weights, move_w);
            self.b.end(Count::Imm(rounds));
            let rounds = i64::from(rounds);
            self.input_moved += rounds * a;
            self.weights_moved += rounds * w;
            self.panel_used += rounds * w;
            from -= rounds * a;
            done = count / UNROLL * UNROLL;
        }
        for k in (done..count).step_by(self.together as usize) {
            let panel = self.panel_used - self.weights_moved;
            let disp = from + i64::from(k) * step;
            self.round(&Place { base: self.input, disp, step, panel, position: k }, rows.clone(), false);
            self.panel_used += panel_row * i64::from(self.together);
        }
    }

    /// Runs of channels from the table, class by class.
    fn by_table(&mut self, classes: &[RunClass], disp: i64, rows: Range<u32>) {
        let Some(table) = self.table else { return };
        let panel_row = 4 * i64::from(panel_width(&self.tile.cols));
        if rows.is_empty() {
            self.panel_used += panel_row * self.tile.k.channels() as i64;
            return;
        }
        // The table starts over for each tap, from wherever the last one left the pointer.
        let mut entry = -self.table_moved;
        let mut position = 0;
        for &RunClass { length, count, .. } in classes {
            if length == 0 || count == 0 {
                entry += 4 * i64::from(count);
                continue;
            }
            // Entries in one round: as many as make about four channels. With several sums a round must keep each
            // channel's part, so it covers a multiple of them.
            let mut together = UNROLL.div_ceil(length);
            while !(together * length).is_multiple_of(self.tile.split) {
                together += 1;
            }
            let rounds = count / together;
            let round = |emit: &mut Self, entry: i64, entries: u32, mut position: u32| {
                for e in 0..entries {
                    let at_entry = at(table, emit.displacements.get(entry + 4 * i64::from(e)));
                    emit.run(at_entry, length, disp, rows.clone(), position);
                    position += length;
                }
            };
            if rounds > 1 {
                let moved = self.weights_moved;
                let used = self.panel_used;
                self.b.begin();
                round(self, entry, together, position);
                let a = 4 * i64::from(together);
                // Leave the weights pointer where the next round expects it.
                let w = self.panel_used - used;
                let rest = w - (self.weights_moved - moved);
                let (move_t, move_w) = (self.displacements.get(a), self.displacements.get(rest));
                self.b.advance(table, move_t);
                self.b.advance(self.weights, move_w);
                self.b.end(Count::Imm(rounds));
                let rounds = i64::from(rounds);
                self.table_moved += rounds * a;
                self.weights_moved = moved + rounds * w;
                self.panel_used = used + rounds * w;
                // Relative to the moved pointer, the next entry is where this loop's first one was.
            } else {
                round(self, entry, rounds * together, position);
                entry += 4 * i64::from(rounds * together);
            }
            position += rounds * together * length;
            let left = count - rounds * together;
            round(self, entry, left, position);
            entry += 4 * i64::from(left);
            position += left * length;
        }
    }

    /// One run of contiguous channels whose displacement is at `entry`; `position` is its first channel's place in the
    /// tap.
    fn run(
        &mut self,
        entry: super::super::ir::Addr,
        length: u32,
        disp: i64,
        rows: Range<u32>,
        position: u32,
    ) {
        let panel_row = 4 * i64::from(panel_width(&self.tile.cols));
        let run = self.b.pointer();
        self.b.push(Inst::Lookup { dst: run, base: self.input, entry });
        let disp = disp - self.input_moved;
        let (mut done, mut moved) = (0, 0);
        if length > UNROLL_RUN {
            let rounds = length / UNROLL;
            let panel = self.panel_used - self.weights_moved;
            self.b.begin();
            for u in 0..UNROLL {
                let k = i64::from(u);
                self.step(run, disp + 4 * k, panel + k * panel_row, rows.clone(), position + u);
            }
            let w = i64::from(UNROLL) * panel_row;
            let move_w = self.displacements.get(w);
            self.b.advance(run, 4 * UNROLL as i32);
            self.b.advance(self.weights, move_w);
            self.b.end(Count::Imm(rounds));
            self.weights_moved += i64::from(rounds) * w;
            self.panel_used += i64::from(rounds) * w;
            done = rounds * UNROLL;
            moved = 4 * i64::from(done);
        }
        for k in done..length {
            let panel = self.panel_used - self.weights_moved;
            self.step(run, disp + 4 * i64::from(k) - moved, panel, rows.clone(), position + k);
            self.panel_used += panel_row;
        }
    }

    /// As many channels as columns are folded by, `step` bytes apart: all rows of the panel that come together.
    fn round(&mut self, place: &Place, rows: Range<u32>, prefetch: bool) {
        let panel_row = 4 * flat_width(&self.tile.cols);
        for u in 0..self.together {
            let (disp, panel) =
                (place.disp + i64::from(u) * place.step, place.panel + i64::from(u) * panel_row);
            self.step(place.base, disp, panel, rows.clone(), place.position + u);
            if prefetch {
                self.prefetch((place.position + u) % UNROLL);
            }
        }
        let mut panel = place.panel + i64::from(self.together) * panel_row;
        for (v, col) in self.tile.cols.iter().enumerate().filter(|(_, col)| col.fold > 1) {
            for k in (0..self.together).step_by(col.fold as usize) {
                let register = col.register();
                let addr = at(self.weights, self.displacements.get(panel));
                let column = self.b.load(register, register.count(), addr);
                panel += i64::from(register.bytes());
                let part = ((place.position + k) / col.fold % self.tile.split) as usize;
                for r in rows.clone() {
                    let disp = place.disp + i64::from(k) * place.step;
                    let disp = self.displacements.get(disp + i64::from(r) * i64::from(self.tile.a_pixel));
                    let value = self.b.spread(register, at(place.base, disp), col.fold);
                    self.b.fma(self.sums[part][r as usize][v], column, Operand::Reg(value));
                }
            }
        }
    }

    /// One channel: a row of the panel times one value of each pixel, for the columns that are not folded. `position` is
    /// the channel's place in its tap.
    fn step(&mut self, base: Int, disp: i64, panel: i64, rows: Range<u32>, position: u32) {
        let part = (position % self.tile.split) as usize;
        let mut offset = panel;
        let mut columns = Vec::new();
        for (v, col) in self.tile.cols.iter().enumerate().filter(|(_, col)| col.fold == 1) {
            let addr = at(self.weights, self.displacements.get(offset));
            columns.push((v, self.b.load(col.lanes, col.lanes.count(), addr)));
            offset += i64::from(col.lanes.bytes());
        }
        if columns.is_empty() {
            return;
        }
        for r in rows {
            let disp = self.displacements.get(disp + i64::from(r) * i64::from(self.tile.a_pixel));
            let value = match self.tile.broadcast {
                Broadcast::Embedded => Operand::Splat(at(base, disp)),
                Broadcast::Register => Operand::Reg(self.b.splat(self.widest, at(base, disp))),
            };
            for &(v, column) in &columns {
                self.b.fma(self.sums[part][r as usize][v], column, value);
            }
        }
    }

    /// Adds the parts of each sum, and what is folded into it.
    fn sum_up(&mut self) -> Vec<Vec<Vector>> {
        use super::super::ir::BinOp::Add;
        let mut sums = Vec::new();
        for r in 0..self.tile.rows as usize {
            let mut row = Vec::new();
            let mut offset = 0;
            for (v, col) in self.tile.cols.iter().enumerate() {
                let parts: Vec<Vector> = self.sums.iter().map(|rows| rows[r][v]).collect();
                let mut sum = parts[0];
                for pair in parts.chunks_exact(2) {
                    self.b.bin(Add, pair[0], pair[0], Operand::Reg(pair[1]));
                }
                if parts.len() == 4 {
                    self.b.bin(Add, sum, sum, Operand::Reg(parts[2]));
                }
                while self.b.lanes(sum) > col.lanes {
                    let half = Lanes::holding(self.b.lanes(sum).count() / 2).unwrap_or(Lanes::X4);
                    let dst = self.b.vector(half);
                    self.b.push(Inst::Fold { dst, src: sum });
                    sum = dst;
                }
                if let Some(bias) = self.bias.filter(|_| col.fold > 1) {
                    self.b.bin(Add, sum, sum, Operand::Mem(at(bias, offset)));
                }
                offset += col.lanes.bytes();
                row.push(sum);
            }
            sums.push(row);
        }
        sums
    }

    /// Sums up, applies the epilogue and stores.
    fn finish(mut self) -> Result<Program, TileError> {
        let sums = self.sum_up();
        let constants = self.tile.epilogue.begin(&mut self.b, self.widest);
        for (r, sums) in sums.into_iter().enumerate() {
            let mut offset = 0;
            for (sum, col) in sums.into_iter().zip(&self.tile.cols) {
                let place = |emit: &mut Displacements, pixel: i32| {
                    emit.get(r as i64 * i64::from(pixel) + i64::from(offset))
                };
                let residual = self.residual.map(|base| {
                    (at(base, place(&mut self.displacements, self.tile.residual_pixel)), col.used)
                });
                self.tile.epilogue.apply(&mut self.b, constants, sum, residual);
                let to = place(&mut self.displacements, self.tile.c_pixel);
                self.b.store(sum, col.used, at(self.output, to));
                offset += 4 * col.used as i32;
            }
        }
        self.displacements.check(&self.tile.name())?;
        Ok(self.b.finish())
    }
}
