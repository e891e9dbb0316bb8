//! From a dense tile to its program.

use std::ops::Range;

use super::super::super::error::TileError;
use super::super::super::ir::{
    Addr, Builder, ByteRange, Inst, Int, Lanes, ParamKind, ParamRole, Source, TileProgram, Trips, UnOp,
    Vector, at,
};
use super::super::Displacements;
use super::super::epilogue::{Clamp, KernelResidual};
use super::super::rescale::{LanesAt, Rescale, RescaleParams};
use super::panel::{Col, flat_width, together};
use super::{
    Accumulators, Broadcast, DenseTile, LINE, Products, RunClass, Runs, Tap, UNROLL, UNROLL_RUN, panel_width,
};
use crate::code::float::Float;

/// The program of a tile that has been checked.
pub(super) fn program(tile: &DenseTile) -> Result<TileProgram, TileError> {
    let mut emit = DenseEmitter::new(tile);
    emit.start();
    if tile.kernel_rows > 1 {
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

/// Consecutive taps whose channels follow one another in memory, so that one loop can go through all.
pub(super) struct Stretch {
    pub disp: i64,
    rows: Range<u32>,
    pub taps: u32,
}

/// Taps over `k` contiguous channels, neighbours joined where that keeps each channel's part of so many.
pub(super) fn stretches(taps: &[Tap], k: u32, float: Float, parts: u32) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for tap in taps {
        let (disp, rows) = (i64::from(tap.disp), tap.rows.clone());
        match stretches.last_mut() {
            Some(last)
                if last.rows == rows
                    && last.disp + float.span(k) * i64::from(last.taps) == disp
                    && k.is_multiple_of(parts) =>
            {
                last.taps += 1;
            }
            _ => stretches.push(Stretch { disp, rows, taps: 1 }),
        }
    }
    stretches
}

/// Where a round of channels is.
struct RoundAt {
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

/// An address of floats of a type.
const fn at_float(base: Int, disp: i32, float: Float) -> Addr {
    at(base, disp).of(float)
}

/// How a vector of sums is rescaled.
#[derive(Clone, Copy)]
pub(super) struct Rescaled {
    pub rescale: Rescale,
    pub factor: LanesAt,
    pub addend: Option<LanesAt>,
}

pub(super) struct DenseEmitter<'a> {
    pub tile: &'a DenseTile,
    pub b: Builder,
    pub displacements: Displacements,
    pub input: Int,
    pub weights: Int,
    pub output: Int,
    kernel_rows: Trips,
    pub table: Option<Int>,
    pub bias: Option<Int>,
    pub rescale: Option<(Rescale, RescaleParams)>,
    pub residual: Option<Int>,
    pub ahead: Option<Int>,
    pub scratch: Option<Int>,
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

impl<'a> DenseEmitter<'a> {
    pub(super) fn new(tile: &'a DenseTile) -> DenseEmitter<'a> {
        let mut b = Builder::new(tile.name());
        let input = b.param(ParamRole::Input, ParamKind::Read { range: tile.input_range() });
        let weights = b.param(ParamRole::Weights, ParamKind::Read { range: tile.weights_range() });
        let output = b.param(
            ParamRole::Output,
            ParamKind::Write { range: tile.output_range(tile.c_pixel, tile.floats.output) },
        );
        let kernel_rows = match tile.kernel_rows {
            0 | 1 => Trips::Imm(1),
            max => Trips::Param(b.param(ParamRole::KernelRows, ParamKind::Count { max })),
        };
        let table = match &tile.k {
            Runs::Table(classes) => {
                let range = |c: &RunClass| ByteRange::new(i64::from(c.least), i64::from(c.most) + 1);
                let classes = classes.iter().map(|c| (c.count, range(c))).collect();
                Some(b.param(ParamRole::Table, ParamKind::Table { classes }))
            }
            Runs::Contiguous(_) | Runs::Stepped { .. } => None,
        };
        let bias = tile.epilogue.bias.then(|| {
            let range = ByteRange::new(0, 4 * i64::from(panel_width(&tile.cols)));
            b.param(ParamRole::Bias, ParamKind::Read { range })
        });
        let rescale = tile.epilogue.rescale.map(|rescale| {
            let range = ByteRange::new(0, 4 * i64::from(panel_width(&tile.cols)));
            (rescale, rescale.params(&mut b, range))
        });
        let residual = (tile.epilogue.residual != KernelResidual::None).then(|| {
            let range = tile.output_range(tile.residual_pixel, tile.floats.residual);
            b.param(ParamRole::Residual, ParamKind::Read { range })
        });
        let ahead = (tile.ahead > 0)
            .then(|| b.param(ParamRole::Ahead, ParamKind::Read { range: ByteRange::default() }));
        let scratch = match tile.accumulators {
            Accumulators::Vectors => None,
            Accumulators::Matrices(matrix) => {
                let range = ByteRange::new(0, matrix.scratch(tile.rows, tile.cols.len()));
                Some(b.param(ParamRole::Scratch, ParamKind::Write { range }))
            }
        };
        let widest = tile.cols.iter().map(|c| c.lanes).max().unwrap_or(Lanes::X4);
        DenseEmitter {
            tile,
            b,
            displacements: Displacements::default(),
            input,
            weights,
            output,
            kernel_rows,
            table,
            bias,
            rescale,
            residual,
            ahead,
            scratch,
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
                let step = self.tile.floats.input.bytes() as i32;
                let parts = self.tile.split * self.tile.products.together();
                for stretch in stretches(&self.tile.taps, *k, self.tile.floats.input, parts) {
                    self.evenly(stretch.taps * k, step, stretch.disp, stretch.rows);
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
        let panel_row = self.tile.channel_row();
        let pair = self.tile.products.together();
        if rows.is_empty() {
            self.panel_used += panel_row * i64::from(count.div_ceil(pair));
            return;
        }
        // Pairs are gone through as channels are, and what has no partner comes last.
        let alone = count % pair;
        let (count, step) = (count / pair, i64::from(step) * i64::from(pair));
        let mut from = disp - self.input_moved;
        let mut done = 0;
        let rounds = count / UNROLL;
        if rounds > 2 {
            let panel = self.panel_used - self.weights_moved;
            self.b.begin();
            for u in (0..UNROLL).step_by(self.together as usize) {
                let (disp, panel) = (from + i64::from(u) * step, panel + i64::from(u) * panel_row);
                self.round(&RoundAt { base: self.input, disp, step, panel, position: u }, rows.clone(), true);
            }
            self.prefetched();
            let (a, w) = (i64::from(UNROLL) * step, i64::from(UNROLL) * panel_row);
            let (move_a, move_w) = (self.displacements.get(a), self.displacements.get(w));
            self.b.advance(self.input, move_a);
            self.b.advance(self.weights, move_w);
            self.b.end(Trips::Imm(rounds));
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
            self.round(&RoundAt { base: self.input, disp, step, panel, position: k }, rows.clone(), false);
            self.panel_used += panel_row * i64::from(self.together);
        }
        if alone > 0 {
            let panel = self.panel_used - self.weights_moved;
            self.step(self.input, from + i64::from(count) * step, panel, rows, (count, true));
            self.panel_used += panel_row;
        }
    }

    /// Runs of channels from the table, class by class.
    fn by_table(&mut self, classes: &[RunClass], disp: i64, rows: Range<u32>) {
        let Some(table) = self.table else { return };
        let panel_row = self.tile.panel_step();
        if rows.is_empty() {
            self.panel_used += panel_row * self.tile.k.rows(self.tile.products) as i64;
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
            let steps = length.div_ceil(self.tile.products.together());
            while !(together * steps).is_multiple_of(self.tile.split) {
                together += 1;
            }
            let rounds = count / together;
            let round = |emit: &mut Self, entry: i64, entries: u32, mut position: u32| {
                for e in 0..entries {
                    let at_entry = at(table, emit.displacements.get(entry + 4 * i64::from(e)));
                    emit.run(at_entry, length, disp, rows.clone(), position);
                    position += steps;
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
                self.b.end(Trips::Imm(rounds));
                let rounds = i64::from(rounds);
                self.table_moved += rounds * a;
                self.weights_moved = moved + rounds * w;
                self.panel_used = used + rounds * w;
                // Relative to the moved pointer, the next entry is where this loop's first one was.
            } else {
                round(self, entry, rounds * together, position);
                entry += 4 * i64::from(rounds * together);
            }
            position += rounds * together * steps;
            let left = count - rounds * together;
            round(self, entry, left, position);
            entry += 4 * i64::from(left);
            position += left * steps;
        }
    }

    /// One run of contiguous channels whose displacement is at `entry`; `position` is its first channel's place in the
    /// tap.
    fn run(&mut self, entry: Addr, length: u32, disp: i64, rows: Range<u32>, position: u32) {
        let panel_row = self.tile.panel_step();
        let run = self.b.pointer();
        self.b.push(Inst::Lookup { dst: run, base: self.input, entry });
        let pair = self.tile.products.together();
        let alone = length % pair == 1 && pair > 1;
        let (length, step) = (length / pair, self.tile.floats.input.span(pair));
        let disp = disp - self.input_moved;
        let (mut done, mut moved) = (0, 0);
        if length > UNROLL_RUN {
            let rounds = length / UNROLL;
            let panel = self.panel_used - self.weights_moved;
            self.b.begin();
            for u in 0..UNROLL {
                let k = i64::from(u);
                let at = (position + u, false);
                self.step(run, disp + k * step, panel + k * panel_row, rows.clone(), at);
            }
            let w = i64::from(UNROLL) * panel_row;
            let move_w = self.displacements.get(w);
            self.b.advance(run, (i64::from(UNROLL) * step) as i32);
            self.b.advance(self.weights, move_w);
            self.b.end(Trips::Imm(rounds));
            self.weights_moved += i64::from(rounds) * w;
            self.panel_used += i64::from(rounds) * w;
            done = rounds * UNROLL;
            moved = i64::from(done) * step;
        }
        for k in done..length + u32::from(alone) {
            let panel = self.panel_used - self.weights_moved;
            let at = (position + k, k == length);
            self.step(run, disp + i64::from(k) * step - moved, panel, rows.clone(), at);
            self.panel_used += panel_row;
        }
    }

    /// As many channels as columns are folded by, `step` bytes apart: all rows of the panel that come together.
    fn round(&mut self, place: &RoundAt, rows: Range<u32>, prefetch: bool) {
        let weights = self.tile.products.weights();
        let panel_row = weights.span(1) * flat_width(&self.tile.cols);
        for u in 0..self.together {
            let (disp, panel) =
                (place.disp + i64::from(u) * place.step, place.panel + i64::from(u) * panel_row);
            self.step(place.base, disp, panel, rows.clone(), (place.position + u, false));
            if prefetch {
                self.prefetch((place.position + u) % UNROLL);
            }
        }
        let mut panel = place.panel + i64::from(self.together) * panel_row;
        for (v, col) in self.tile.cols.iter().enumerate().filter(|(_, col)| col.fold > 1) {
            for k in (0..self.together).step_by(col.fold as usize) {
                let register = col.register();
                let addr = at(self.weights, self.displacements.get(panel)).of(weights);
                let column = self.b.load(register, register.count(), addr);
                panel += weights.span(register.count());
                let part = ((place.position + k) / col.fold % self.tile.split) as usize;
                for r in rows.clone() {
                    let disp = place.disp + i64::from(k) * place.step;
                    let disp = self.displacements.get(disp + i64::from(r) * i64::from(self.tile.a_pixel));
                    let addr = at(place.base, disp).of(self.tile.floats.input);
                    let value = self.b.spread(register, addr, col.fold);
                    self.b.fma(self.sums[part][r as usize][v], column, Source::Reg(value));
                }
            }
        }
    }

    /// One channel, or a pair: a row of the panel times one value of each pixel, for the columns that are not folded. `position` is its place
    /// in its tap; a channel without a partner is `alone`.
    fn step(&mut self, base: Int, disp: i64, panel: i64, rows: Range<u32>, (position, alone): (u32, bool)) {
        let part = (position % self.tile.split) as usize;
        let weights = self.tile.products.weights();
        let (input, broadcast) = match (self.tile.products, alone) {
            (Products::Halves, false) => (Float::F32, self.tile.broadcast),
            // Widened, it has zero as its lower half.
            (Products::Halves, true) => (Float::Bf16, Broadcast::Register),
            _ => (self.tile.floats.input, self.tile.broadcast),
        };
        let mut offset = panel;
        let mut columns = Vec::new();
        for (v, col) in self.tile.cols.iter().enumerate().filter(|(_, col)| col.fold == 1) {
            let addr = at(self.weights, self.displacements.get(offset)).of(weights);
            columns.push((v, self.b.load(col.lanes, col.lanes.count(), addr)));
            offset += weights.span(col.lanes.count());
        }
        if columns.is_empty() {
            return;
        }
        for r in rows {
            let disp = self.displacements.get(disp + i64::from(r) * i64::from(self.tile.a_pixel));
            let addr = at(base, disp).of(input);
            let value = match broadcast {
                Broadcast::Embedded => Source::Splat(addr),
                Broadcast::Register => Source::Reg(self.b.splat(self.widest, addr)),
            };
            for &(v, column) in &columns {
                let sum = self.sums[part][r as usize][v];
                match self.tile.products {
                    Products::Floats | Products::Widened(_) => self.b.fma(sum, column, value),
                    Products::Halves => self.b.dot_halves(sum, column, value),
                    Products::Bytes => self.b.dot(sum, column, value),
                    Products::Words => self.b.dot_words(sum, column, value),
                }
            }
        }
    }

    /// Adds the parts of each sum, and what is folded into it.
    fn sum_up(&mut self) -> Vec<Vec<Vector>> {
        use super::super::super::ir::BinOp::Add;
        let mut sums = Vec::new();
        for r in 0..self.tile.rows as usize {
            let mut row = Vec::new();
            let mut offset = 0;
            for (v, col) in self.tile.cols.iter().enumerate() {
                let parts: Vec<Vector> = self.sums.iter().map(|rows| rows[r][v]).collect();
                let mut sum = parts[0];
                for pair in parts.chunks_exact(2) {
                    self.b.bin(Add, pair[0], pair[0], Source::Reg(pair[1]));
                }
                if parts.len() == 4 {
                    self.b.bin(Add, sum, sum, Source::Reg(parts[2]));
                }
                while self.b.lanes(sum) > col.lanes {
                    let half = Lanes::holding(self.b.lanes(sum).count() / 2).unwrap_or(Lanes::X4);
                    let dst = self.b.vector(half);
                    self.b.push(Inst::Fold { dst, src: sum });
                    sum = dst;
                }
                if let Some(bias) = self.bias.filter(|_| col.fold > 1) {
                    self.b.bin(Add, sum, sum, Source::Mem(at(bias, offset)));
                }
                offset += col.lanes.bytes();
                row.push(sum);
            }
            sums.push(row);
        }
        sums
    }

    /// Stores results of a pixel, of which each has a column, and channels before it: bytes of full columns side by side together.
    fn store(&mut self, at: i64, results: &mut Vec<(Vector, Col, u32)>) {
        let float = self.tile.floats.output;
        let mut rest = &results[..];
        while let Some(&(sum, col, channel)) = rest.first() {
            let to = at_float(self.output, self.displacements.get(at + float.span(channel)), float);
            let is_full = |c: &Col| c.used == c.lanes.count() && c.lanes == col.lanes;
            let full = rest.iter().take_while(|(_, c, _)| is_full(c)).count();
            let together = match full {
                4.. => 4,
                2 | 3 => 2,
                _ => 1,
            };
            if float == Float::U8 && together > 1 {
                let parts: Vec<Vector> = rest[..together].iter().map(|(sum, ..)| *sum).collect();
                self.b.pack(&parts, to);
                rest = &rest[together..];
            } else {
                self.b.store(sum, col.used, to);
                rest = &rest[1..];
            }
        }
        results.clear();
    }

    /// What rescaled sums of the `lane`-th lanes of a panel are multiplied by, and what is added, where they lie.
    fn rescaled(&self, lane: i32) -> Option<Rescaled> {
        let (rescale, params) = self.rescale?;
        let place = |base: Int| LanesAt::Memory(at(base, lane));
        Some(Rescaled { rescale, factor: place(params.factor), addend: params.addend.map(place) })
    }

    /// Turns the sums of a pixel into what is stored; `at` are the bytes from the first pixel's output and residual.
    pub(super) fn pixel(
        &mut self,
        sums: &[Vector],
        rescaled: &[Option<Rescaled>],
        constants: Clamp,
        at: [i64; 2],
    ) {
        let floats = self.tile.floats;
        let mut channel = 0;
        let mut results: Vec<(Vector, Col, u32)> = Vec::new();
        for ((&sum, &col), rescaled) in sums.iter().zip(&self.tile.cols).zip(rescaled) {
            let residual = self.residual.map(|base| {
                let at = at[1] + floats.residual.span(channel);
                (at_float(base, self.displacements.get(at), floats.residual), col.used)
            });
            if let Some(Rescaled { rescale, factor, addend }) = *rescaled {
                if self.tile.products.is_of_integers() {
                    self.b.push(Inst::Un { op: UnOp::Number, dst: sum, src: sum });
                }
                rescale.apply(&mut self.b, sum, factor, addend);
            }
            self.tile.epilogue.apply(&mut self.b, constants, sum, residual);
            results.push((sum, col, channel));
            channel += col.used;
            if floats.output != Float::U8 {
                self.store(at[0], &mut results);
            }
        }
        self.store(at[0], &mut results);
    }

    /// Sums up, applies the epilogue and stores.
    fn finish(mut self) -> Result<TileProgram, TileError> {
        let sums = self.sum_up();
        let constants = self.tile.epilogue.begin(&mut self.b, self.widest);
        let lanes = self.tile.cols.iter().scan(0, |lane, col| {
            let first = *lane;
            *lane += col.lanes.bytes();
            Some(first)
        });
        let rescaled: Vec<_> = lanes.map(|lane| self.rescaled(lane)).collect();
        for (r, sums) in sums.into_iter().enumerate() {
            let at = [self.tile.c_pixel, self.tile.residual_pixel].map(|pixel| r as i64 * i64::from(pixel));
            self.pixel(&sums, &rescaled, constants, at);
        }
        self.done()
    }

    /// The finished program.
    pub(super) fn done(self) -> Result<TileProgram, TileError> {
        self.displacements.check(&self.tile.name())?;
        Ok(self.b.finish())
    }
}
