//! Checks a program before it is lowered: a program that passes touches no byte outside the ranges of its parameters,
//! whatever counts (up to the stated maxima) it is called with, and reads no register before it is written.
//!
//! The check runs the body once on intervals. A pointer is a parameter plus an interval of byte offsets. A loop shifts
//! a pointer by the same interval `d` each round, so with at most `n` rounds the pointer lies, at the start of a round,
//! in `p + [min(0, (n-1)·d.lo), max(0, (n-1)·d.hi)]`: no fixpoint is needed.

use super::error::TileError;
use super::ir::{
    Addr, BinOp, ByteRange, Inst, Int, MATRICES, MATRIX_ROWS, Matrix, MatrixShape, ParamKind, Source,
    TileProgram, Trips, Vector,
};
use crate::code::float::Float;

/// Checks registers, widths, constants and ranges.
pub fn verify(program: &TileProgram) -> Result<(), TileError> {
    let touched = footprints(program)?;
    for (param, touched) in program.params.iter().zip(touched) {
        let allowed = match &param.kind {
            ParamKind::Read { range } | ParamKind::Write { range } => *range,
            ParamKind::Table { classes } => {
                ByteRange::new(0, classes.iter().map(|(entries, _)| 4 * i64::from(*entries)).sum())
            }
            ParamKind::Count { .. } => continue,
        };
        if !allowed.contains(touched) {
            let (program, role) = (program.name.clone(), param.role);
            return Err(TileError::OutOfExtent { program, role, touched, allowed });
        }
    }
    Ok(())
}

/// The bytes that a program touches through each parameter at its largest counts; empty for counts. Checks all
/// but the ranges on the way.
pub fn footprints(program: &TileProgram) -> Result<Vec<ByteRange>, TileError> {
    footprints_when(program, Assume::default())
}

/// What is assumed of a program's parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assume {
    /// What each count is; anything up to its largest value unless given.
    pub count: Option<u32>,
    /// The one class of a table that leads anywhere, all entries of it to 0; entries of all classes may have any of their
    /// values unless given.
    pub class: Option<usize>,
}

/// As [`footprints`], under an assumption.
pub fn footprints_when(program: &TileProgram, assume: Assume) -> Result<Vec<ByteRange>, TileError> {
    let touched = vec![ByteRange::default(); program.params.len()];
    let mut check = TileCheck { program, assume, touched, recording: true };
    check.sizes()?;
    let mut state = State {
        vectors: vec![false; program.vectors.len()],
        ints: vec![None; program.ints as usize],
        matrices: vec![false; program.matrices.len()],
    };
    for (i, place) in state.ints.iter_mut().enumerate().take(program.params.len()) {
        *place = Some(PointsTo { param: i, lo: 0, hi: 0, nowhere: false });
    }
    check.body(&program.body, &mut state)?;
    Ok(check.touched)
}

/// Where a pointer may point: a parameter plus an offset in `lo..=hi`.
#[derive(Clone, Copy, Debug)]
struct PointsTo {
    param: usize,
    lo: i64,
    hi: i64,
    /// Whether it comes from an entry of a table that is assumed to lead nowhere.
    nowhere: bool,
}

/// What is known before an instruction. `None` is an integer register without a value.
#[derive(Clone, Debug)]
struct State {
    vectors: Vec<bool>,
    ints: Vec<Option<PointsTo>>,
    matrices: Vec<bool>,
}

struct TileCheck<'a> {
    program: &'a TileProgram,
    assume: Assume,
    touched: Vec<ByteRange>,
    recording: bool,
}

impl TileCheck<'_> {
    fn name(&self) -> String {
        self.program.name.clone()
    }

    fn bad(&self, what: impl Into<String>) -> TileError {
        TileError::BadConstant { program: self.name(), what: what.into() }
    }

    /// Whether matrix registers of these sizes exist.
    fn sizes(&self) -> Result<(), TileError> {
        let exists = |extent: u8| (1..=MATRIX_ROWS).contains(&extent);
        match self.program.matrices.iter().find(|m| !exists(m.rows) || !exists(m.lanes)) {
            Some(MatrixShape { rows, lanes }) => {
                Err(self.bad(format!("a matrix register of {rows} rows of {lanes} lanes")))
            }
            None if self.program.matrices.len() > MATRICES => {
                Err(self.bad(format!("a number of {} matrix registers", self.program.matrices.len())))
            }
            None => Ok(()),
        }
    }

    fn shape(&self, m: Matrix) -> Result<MatrixShape, TileError> {
        let what = || format!("matrix register {}", m.0);
        let missing = || TileError::BadRegister { program: self.name(), what: what() };
        self.program.shape(m).ok_or_else(missing)
    }

    fn has_rows(&self, m: Matrix, state: &State) -> Result<MatrixShape, TileError> {
        let shape = self.shape(m)?;
        match state.matrices.get(usize::from(m.0)) {
            Some(true) => Ok(shape),
            _ => Err(TileError::Undefined { program: self.name(), what: format!("matrix register {}", m.0) }),
        }
    }

    fn write_rows(m: Matrix, state: &mut State) {
        if let Some(defined) = state.matrices.get_mut(usize::from(m.0)) {
            *defined = true;
        }
    }

    /// Rows of a matrix register are read or written.
    fn rows(
        &mut self,
        addr: Addr,
        (shape, pitch): (MatrixShape, i32),
        write: bool,
        state: &State,
    ) -> Result<(), TileError> {
        let span = shape.span(pitch);
        for end in [span.lo, span.hi - 4] {
            let disp = i32::try_from(i64::from(addr.disp) + end);
            let disp = disp.map_err(|_| self.bad("the distance of a row"))?;
            self.access(Addr { disp, float: Float::F32, ..addr }, 1, write, state)?;
        }
        Ok(())
    }

    fn body(&mut self, body: &[Inst], state: &mut State) -> Result<(), TileError> {
        body.iter().try_for_each(|inst| self.inst(inst, state))
    }

    fn inst(&mut self, inst: &Inst, state: &mut State) -> Result<(), TileError> {
        let mut defined = Ok(());
        inst.vector_reads(|v| {
            if defined.is_ok() {
                defined = self.defined(v, state);
            }
        });
        defined?;
        match inst {
            Inst::Load { dst, addr } => self.access(*addr, self.lanes(*dst)?, false, state)?,
            Inst::LoadPart { dst, addr, n } => {
                self.part(*n, *dst)?;
                self.access(*addr, i64::from(*n), false, state)?;
            }
            Inst::Splat { addr, .. } => self.access(*addr, 1, false, state)?,
            Inst::Spread { addr, n, .. } => {
                if !matches!(n, 2 | 4) {
                    let what = "values to spread".into();
                    return Err(TileError::Width {
                        program: self.name(),
                        what,
                        found: u32::from(*n),
                        wanted: 4,
                    });
                }
                self.access(*addr, i64::from(*n), false, state)?
            }
            Inst::Fold { dst, src } => {
                let (found, wanted) = (self.lanes(*src)? as u32, 2 * self.lanes(*dst)? as u32);
                if found != wanted {
                    let what = format!("vector register {}, which is folded,", src.0);
                    return Err(TileError::Width { program: self.name(), what, found, wanted });
                }
            }
            Inst::Pick { dst, low, high, first } => {
                let wanted = self.lanes(*dst)? as u32;
                for v in [low, high] {
                    let found = self.lanes(*v)? as u32;
                    if found != wanted {
                        let what = format!("vector register {}, which is picked from,", v.0);
                        return Err(TileError::Width { program: self.name(), what, found, wanted });
                    }
                }
                if *first > 1 {
                    return Err(self.bad(format!("every second lane from lane {first}")));
                }
            }
            Inst::Store { src, addr } => self.access(*addr, self.lanes(*src)?, true, state)?,
            Inst::Pack { parts, addr } => {
                let Some(first) = parts.first().filter(|_| matches!(parts.len(), 2 | 4)) else {
                    return Err(self.bad(format!("{} registers that are packed", parts.len())));
                };
                let wanted = self.lanes(*first)?;
                for v in parts {
                    let found = self.lanes(*v)?;
                    if found != wanted {
                        let what = format!("vector register {}, which is packed,", v.0);
                        let (found, wanted) = (found as u32, wanted as u32);
                        return Err(TileError::Width { program: self.name(), what, found, wanted });
                    }
                }
                let all = wanted * parts.len() as i64;
                self.access(addr.of(Float::U8), all, true, state)?
            }
            Inst::StorePart { src, addr, n } => {
                self.part(*n, *src)?;
                self.access(*addr, i64::from(*n), true, state)?;
            }
            Inst::Scale { dst, src, by } => {
                self.wide_enough(*src, *dst)?;
                self.wide_enough(*by, *dst)?;
            }
            Inst::Bin { op: BinOp::MaxBytes, b: Source::Splat(_) | Source::Imm(_), .. } => {
                return Err(self.bad("one element beside bytes"));
            }
            Inst::Fma { acc: dst, a, b, .. }
            | Inst::Dot { acc: dst, a, b }
            | Inst::DotWords { acc: dst, a, b }
            | Inst::DotHalves { acc: dst, a, b }
            | Inst::Bin { dst, a, b, .. }
            | Inst::MulAdd { dst, x: a, add: b } => {
                self.wide_enough(*a, *dst)?;
                match b {
                    Source::Reg(b) => self.wide_enough(*b, *dst)?,
                    Source::Mem(addr) => self.access(*addr, self.lanes(*dst)?, false, state)?,
                    Source::Splat(addr) => self.access(*addr, 1, false, state)?,
                    Source::Imm(_) => {}
                }
            }
            Inst::Translate { dst, src, table } => {
                self.wide_enough(*src, *dst)?;
                self.access(table.of(Float::U8), 256, false, state)?;
            }
            Inst::Gather { dst, addr, places, among } => {
                self.wide_enough(*places, *dst)?;
                if !among.is_power_of_two() || i64::from(*among) < self.lanes(*dst)? {
                    return Err(self.bad(format!("a gather among {among}")));
                }
                self.access(addr.of(Float::F32), i64::from(*among), false, state)?;
            }
            Inst::Copy { dst, src } => self.wide_enough(*src, *dst)?,
            Inst::Across { .. } => {}
            Inst::Fill { dst, src, n, .. } => {
                self.wide_enough(*src, *dst)?;
                self.part(*n, *dst)?;
            }
            Inst::Un { dst, src, .. } | Inst::Sine { dst, src, .. } => self.wide_enough(*src, *dst)?,
            Inst::Select { x, y, dst, then, otherwise, .. } => {
                [x, y, then, otherwise].into_iter().try_for_each(|v| self.wide_enough(*v, *dst))?;
            }
            Inst::Shl { dst, src, by } | Inst::Shr { dst, src, by } => {
                self.wide_enough(*src, *dst)?;
                if !(1..32).contains(by) {
                    return Err(self.bad(format!("a shift by {by}")));
                }
            }
            Inst::Const { .. } => {}
            // Nothing is touched, so the range does not matter.
            Inst::Prefetch { addr } => {
                self.pointer(addr.base, state)?;
            }
            Inst::Advance { ptr, bytes } => {
                let place = self.pointer(*ptr, state)?;
                let moved = i64::from(*bytes);
                let place = PointsTo {
                    lo: place.lo.saturating_add(moved),
                    hi: place.hi.saturating_add(moved),
                    ..place
                };
                self.set(*ptr, place, state)?;
            }
            Inst::Lookup { dst, base, entry } => {
                if dst == base || *dst == entry.base || (dst.0 as usize) < self.program.params.len() {
                    return Err(self.bad_int(*dst));
                }
                let place = self.pointer(*base, state)?;
                let table = self.pointer(entry.base, state)?;
                let Some(ParamKind::Table { classes }) = self.kind(table.param) else {
                    return Err(self.bad_int(entry.base));
                };
                let first = table.lo.saturating_add(i64::from(entry.disp));
                let last = table.hi.saturating_add(i64::from(entry.disp));
                let at = ByteRange::new(first, last.saturating_add(4));
                let values = match self.assume.class {
                    Some(class) if class_meets(classes, class, at) => ByteRange::new(0, 1),
                    Some(_) => ByteRange::default(),
                    None => table_values(classes, at),
                };
                self.record(table, entry.disp, 4);
                let place = PointsTo {
                    param: place.param,
                    nowhere: self.assume.class.is_some() && values.is_empty(),
                    lo: place.lo.saturating_add(values.lo),
                    hi: place.hi.saturating_add((values.hi - 1).max(values.lo)),
                };
                self.set(*dst, place, state)?;
            }
            Inst::Configure => state.matrices.fill(true),
            Inst::Release => state.matrices.fill(false),
            Inst::MatrixZero { dst } => {
                self.shape(*dst)?;
                Self::write_rows(*dst, state);
            }
            Inst::MatrixLoad { dst, addr, pitch } => {
                let shape = self.shape(*dst)?;
                self.rows(*addr, (shape, *pitch), false, state)?;
                Self::write_rows(*dst, state);
            }
            Inst::MatrixDot { acc, a, b, .. } => {
                let [to, left, right] = [*acc, *a, *b].map(|m| self.has_rows(m, state));
                let (to, left, right) = (to?, left?, right?);
                if (left.rows, left.lanes, right.lanes) != (to.rows, right.rows, to.lanes) {
                    return Err(self.bad(format!(
                        "a product of {}x{} by {}x{} to {}x{}",
                        left.rows, left.lanes, right.rows, right.lanes, to.rows, to.lanes
                    )));
                }
            }
            Inst::MatrixStore { src, addr, pitch } => {
                let shape = self.has_rows(*src, state)?;
                self.rows(*addr, (shape, *pitch), true, state)?;
            }
            Inst::Loop { trips: count, body } => self.repeat(*count, body, state)?,
        }
        if let Some(v) = inst.vector_write() {
            self.lanes(v)?;
            if let Some(defined) = state.vectors.get_mut(v.0 as usize) {
                *defined = true;
            }
        }
        Ok(())
    }

    fn repeat(&mut self, count: Trips, body: &[Inst], state: &mut State) -> Result<(), TileError> {
        let (least, most) = match count {
            Trips::Imm(0) => return Err(self.bad("a loop of no rounds")),
            Trips::Imm(n) => (i64::from(n), i64::from(n)),
            Trips::Param(p) => {
                let place = self.int(p, state)?;
                match self.kind(place.param) {
                    Some(ParamKind::Count { max }) if p.0 as usize == place.param => {
                        match self.assume.count {
                            Some(count) => (i64::from(count), i64::from(count)),
                            None => (0, i64::from(*max)),
                        }
                    }
                    _ => return Err(self.bad_int(p)),
                }
            }
        };
        let before = state.clone();
        // A pointer that the body looks up anew has no value at the start of a round.
        let mut start = state.clone();
        lookups(body, &mut |dst| {
            if let Some(place) = start.ints.get_mut(dst.0 as usize) {
                *place = None;
            }
        });
        // A first round, only to see how far each pointer moves.
        let recording = std::mem::replace(&mut self.recording, false);
        let mut first = start.clone();
        self.body(body, &mut first)?;
        self.recording = recording;
        let moved = |i: usize| match (start.ints.get(i), first.ints.get(i)) {
            (Some(Some(p)), Some(Some(q))) => (q.lo - p.lo, q.hi - p.hi),
            _ => (0, 0),
        };
        // Any round: the start of the first one, widened by the moves of all rounds before the last.
        let mut any = start.clone();
        for (i, place) in any.ints.iter_mut().enumerate() {
            if let Some(p) = place {
                let (lo, hi) = moved(i);
                p.lo = p.lo.saturating_add(lo.saturating_mul(most - 1).min(0));
                p.hi = p.hi.saturating_add(hi.saturating_mul(most - 1).max(0));
            }
        }
        if most > 0 {
            self.body(body, &mut any)?;
        }
        for (i, place) in state.ints.iter_mut().enumerate() {
            *place = match start.ints.get(i).copied().flatten() {
                Some(p) => {
                    let (lo, hi) = moved(i);
                    let (a, b) = (lo.saturating_mul(least), lo.saturating_mul(most));
                    let (c, d) = (hi.saturating_mul(least), hi.saturating_mul(most));
                    Some(PointsTo {
                        lo: p.lo.saturating_add(a.min(b)),
                        hi: p.hi.saturating_add(c.max(d)),
                        ..p
                    })
                }
                None if least > 0 => any.ints.get(i).copied().flatten(),
                None => None,
            };
        }
        (state.vectors, state.matrices) =
            if least > 0 { (any.vectors, any.matrices) } else { (before.vectors, before.matrices) };
        Ok(())
    }

    fn kind(&self, param: usize) -> Option<&ParamKind> {
        self.program.params.get(param).map(|p| &p.kind)
    }

    fn bad_int(&self, r: Int) -> TileError {
        TileError::BadRegister { program: self.name(), what: format!("integer register {}", r.0) }
    }

    fn int(&self, r: Int, state: &State) -> Result<PointsTo, TileError> {
        match state.ints.get(r.0 as usize) {
            Some(Some(place)) => Ok(*place),
            Some(None) => {
                let what = format!("integer register {}", r.0);
                Err(TileError::Undefined { program: self.name(), what })
            }
            None => Err(self.bad_int(r)),
        }
    }

    fn pointer(&self, r: Int, state: &State) -> Result<PointsTo, TileError> {
        let place = self.int(r, state)?;
        match self.kind(place.param) {
            None | Some(ParamKind::Count { .. }) => Err(self.bad_int(r)),
            Some(_) => Ok(place),
        }
    }

    fn set(&self, r: Int, place: PointsTo, state: &mut State) -> Result<(), TileError> {
        *state.ints.get_mut(r.0 as usize).ok_or_else(|| self.bad_int(r))? = Some(place);
        Ok(())
    }

    /// So many floats are read or written.
    fn access(&mut self, addr: Addr, floats: i64, write: bool, state: &State) -> Result<(), TileError> {
        let place = self.pointer(addr.base, state)?;
        match self.kind(place.param) {
            Some(ParamKind::Read { .. }) if write => {
                let role = self.program.params[place.param].role;
                return Err(TileError::WritesReadOnly { program: self.name(), role });
            }
            Some(ParamKind::Read { .. } | ParamKind::Write { .. }) => {}
            // The bits of its entries.
            Some(ParamKind::Table { .. }) if !write => {}
            None | Some(ParamKind::Table { .. } | ParamKind::Count { .. }) => {
                return Err(self.bad_int(addr.base));
            }
        }
        self.record(place, addr.disp, floats * i64::from(addr.float.bytes()));
        Ok(())
    }

    fn record(&mut self, place: PointsTo, disp: i32, bytes: i64) {
        if !self.recording || place.nowhere {
            return;
        }
        let disp = i64::from(disp);
        let hi = place.hi.saturating_add(disp).saturating_add(bytes);
        let range = ByteRange::new(place.lo.saturating_add(disp), hi);
        if let Some(touched) = self.touched.get_mut(place.param) {
            *touched = touched.union(range);
        }
    }

    fn bad_vector(&self, v: Vector) -> TileError {
        TileError::BadRegister { program: self.name(), what: format!("vector register {}", v.0) }
    }

    fn lanes(&self, v: Vector) -> Result<i64, TileError> {
        let lanes = self.program.vectors.get(v.0 as usize).ok_or_else(|| self.bad_vector(v))?;
        Ok(i64::from(lanes.count()))
    }

    fn defined(&self, v: Vector, state: &State) -> Result<(), TileError> {
        match state.vectors.get(v.0 as usize) {
            Some(true) => Ok(()),
            Some(false) => {
                let what = format!("vector register {}", v.0);
                Err(TileError::Undefined { program: self.name(), what })
            }
            None => Err(self.bad_vector(v)),
        }
    }

    fn wide_enough(&self, source: Vector, result: Vector) -> Result<(), TileError> {
        let (found, wanted) = (self.lanes(source)?, self.lanes(result)?);
        if found < wanted {
            let what = format!("vector register {}", source.0);
            let (found, wanted) = (found as u32, wanted as u32);
            return Err(TileError::Width { program: self.name(), what, found, wanted });
        }
        Ok(())
    }

    fn part(&self, n: u8, v: Vector) -> Result<(), TileError> {
        match i64::from(n) {
            n if (1..=self.lanes(v)?).contains(&n) => Ok(()),
            n => Err(self.bad(format!("a part of {n} lanes"))),
        }
    }
}

/// The range of the entries of a table at the bytes `at`.
fn table_values(classes: &[(u32, ByteRange)], at: ByteRange) -> ByteRange {
    let mut start = 0;
    let mut values = ByteRange::default();
    for (entries, range) in classes {
        let end = start + 4 * i64::from(*entries);
        if start < at.hi && at.lo < end {
            values = values.union(*range);
        }
        start = end;
    }
    values
}

/// Whether some of the bytes `at` of a table are of a class.
fn class_meets(classes: &[(u32, ByteRange)], class: usize, at: ByteRange) -> bool {
    let entries = |classes: &[(u32, ByteRange)]| classes.iter().map(|c| 4 * i64::from(c.0)).sum::<i64>();
    let start = entries(classes.get(..class).unwrap_or_default());
    let end = start + entries(classes.get(class..=class).unwrap_or_default());
    start < at.hi && at.lo < end
}

/// Calls `f` for each integer register that a body looks up, nested loops included.
fn lookups(body: &[Inst], f: &mut dyn FnMut(Int)) {
    for inst in body {
        match inst {
            Inst::Lookup { dst, .. } => f(*dst),
            Inst::Loop { body, .. } => lookups(body, f),
            Inst::Load { .. } | Inst::LoadPart { .. } | Inst::Splat { .. } | Inst::Spread { .. } => {}
            Inst::Store { .. } | Inst::StorePart { .. } | Inst::Const { .. } | Inst::Copy { .. } => {}
            Inst::Fold { .. } | Inst::Fma { .. } | Inst::Bin { .. } | Inst::Shl { .. } => {}
            Inst::Pack { .. } => {}
            Inst::DotWords { .. } | Inst::DotHalves { .. } => {}
            Inst::Dot { .. }
            | Inst::Shr { .. }
            | Inst::Un { .. }
            | Inst::Sine { .. }
            | Inst::Select { .. } => {}
            Inst::Across { .. } | Inst::Fill { .. } | Inst::MulAdd { .. } | Inst::Scale { .. } => {}
            Inst::Pick { .. } | Inst::Translate { .. } | Inst::Gather { .. } => {}
            Inst::Prefetch { .. } | Inst::Advance { .. } => {}
            Inst::Configure | Inst::Release | Inst::MatrixZero { .. } | Inst::MatrixLoad { .. } => {}
            Inst::MatrixDot { .. } | Inst::MatrixStore { .. } => {}
        }
    }
}
