//! Runs a program instruction by instruction: the meaning of the tile IR, against which both lowerings are tested.

use super::error::TileError;
use super::ir::{
    Addr, Inst, Int, MATRICES, Matrix, MatrixProducts, MatrixShape, Source, TileProgram, Trips, Vector,
};
use crate::code::float::Float;

/// No `f32` from here on is an `i32`.
const LARGE: f32 = 2_147_483_648.0;

/// The upper and the lower `bf16` of a lane, denormals as zero.
fn halves(pair: f32) -> [f32; 2] {
    let bits = pair.to_bits();
    [bits & 0xffff_0000, bits << 16].map(|bits| flushed(f32::from_bits(bits)))
}

/// Zero of its sign for a denormal.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// An argument of a call.
#[derive(Debug)]
pub enum KernelArg<'a> {
    /// A buffer, and the byte in it that the pointer points to.
    Memory {
        /// All bytes that the program may reach.
        bytes: &'a mut [u8],
        /// Position of the pointer.
        origin: usize,
    },
    /// A count.
    Count(u64),
}

/// Runs `program`. `fused` says whether `fma` rounds once. Access beyond a buffer is an error.
pub fn run(program: &TileProgram, args: &mut [KernelArg<'_>], fused: bool) -> Result<(), TileError> {
    if args.len() != program.params.len() {
        let message = format!("{} arguments for {} parameters", args.len(), program.params.len());
        return Err(TileError::Interpret { program: program.name.clone(), message });
    }
    let mut ints = vec![(0, 0); program.ints as usize];
    for (i, slot) in ints.iter_mut().enumerate().take(args.len()) {
        *slot = (i, 0);
    }
    let vectors = vec![[0.0; 16]; program.vectors.len()];
    let matrices = [[[0; 16]; 16]; MATRICES];
    Interpreter { program, args, fused, vectors, matrices, ints }.body(&program.body)
}

/// A matrix register: the bits of the lanes of its rows.
type Rows = [[u32; 16]; 16];

/// The sum of the products of four bytes, unsigned ones by signed ones.
fn dot_of_bytes(unsigned: u32, signed: u32) -> i32 {
    let pairs = unsigned.to_le_bytes().into_iter().zip(signed.to_le_bytes());
    pairs.map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum()
}

struct Interpreter<'a, 'b> {
    program: &'a TileProgram,
    args: &'a mut [KernelArg<'b>],
    fused: bool,
    vectors: Vec<[f32; 16]>,
    matrices: [Rows; MATRICES],
    /// A pointer is a parameter and an offset in bytes.
    ints: Vec<(usize, i64)>,
}

impl Interpreter<'_, '_> {
    fn fail(&self, message: impl Into<String>) -> TileError {
        TileError::Interpret { program: self.program.name.clone(), message: message.into() }
    }

    fn body(&mut self, body: &[Inst]) -> Result<(), TileError> {
        body.iter().try_for_each(|inst| self.inst(inst))
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), TileError> {
        match inst {
            Inst::Load { dst, addr } => {
                let value = self.lanes_at(*addr, self.program.lanes(*dst).count())?;
                self.set(*dst, value)
            }
            Inst::LoadPart { dst, addr, n } => {
                let value = self.lanes_at(*addr, u32::from(*n))?;
                self.set(*dst, value)
            }
            Inst::Splat { dst, addr } => {
                let value = [self.lanes_at(*addr, 1)?[0]; 16];
                self.set(*dst, value)
            }
            Inst::Spread { dst, addr, n } => {
                let few = self.lanes_at(*addr, u32::from(*n))?;
                self.set(*dst, std::array::from_fn(|lane| few[lane % usize::from(*n)]))
            }
            Inst::Fold { dst, src } => {
                let value = self.get(*src)?;
                let (pairs, _) = value.as_chunks::<2>();
                self.set(*dst, std::array::from_fn(|lane| pairs.get(lane).map_or(0.0, |[a, b]| a + b)))
            }
            Inst::Pick { dst, low, high, first } => {
                let lanes = self.program.lanes(*dst).count() as usize;
                let (low, high) = (self.get(*low)?, self.get(*high)?);
                let both: Vec<f32> = low.into_iter().take(lanes).chain(high).collect();
                let picked = |i: usize| both.get(2 * i + usize::from(*first)).copied().unwrap_or(0.0);
                self.set(*dst, std::array::from_fn(picked))
            }
            Inst::Gather { dst, addr, places, among } => {
                let floats = self.floats_at(addr.of(Float::F32), *among)?;
                let place = |lane: f32| (lane.to_bits() % among) as usize;
                let gathered = self.get(*places)?.map(|lane| floats.get(place(lane)).copied().unwrap_or(0.0));
                self.set(*dst, gathered)
            }
            Inst::Across { op, dst, src } => {
                let mut lanes = self.get(*src)?;
                let mut left = self.program.lanes(*src).count() as usize;
                while left > 1 {
                    left /= 2;
                    let (low, high) = lanes.split_at_mut(left);
                    low.iter_mut().zip(high).for_each(|(a, b)| *a = op.apply(*a, *b));
                }
                self.set(*dst, [lanes[0]; 16])
            }
            Inst::Fill { dst, src, n, bits } => {
                let mut lanes = self.get(*src)?;
                lanes.iter_mut().skip(usize::from(*n)).for_each(|lane| *lane = f32::from_bits(*bits));
                self.set(*dst, lanes)
            }
            Inst::Const { dst, bits } => self.set(*dst, [f32::from_bits(*bits); 16]),
            Inst::Copy { dst, src } => {
                let value = self.get(*src)?;
                self.set(*dst, value)
            }
            Inst::Store { src, addr } => self.store(*src, *addr, self.program.lanes(*src).count()),
            Inst::StorePart { src, addr, n } => self.store(*src, *addr, u32::from(*n)),
            Inst::Pack { parts, addr } => {
                let mut at = *addr;
                for part in parts {
                    let lanes = self.program.lanes(*part).count();
                    let (param, range) = self.locate(at, lanes)?;
                    // What has no integer is the least one.
                    let bytes =
                        self.get(*part)?.map(|x| if x < LARGE { x.round_ties_even() as u8 } else { 0 });
                    if let Some(KernelArg::Memory { bytes: memory, .. }) = self.args.get_mut(param) {
                        memory[range].iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
                    }
                    at.disp += lanes as i32;
                }
                Ok(())
            }
            Inst::Fma { acc, a, b, once } => {
                let (a, b) = (self.get(*a)?, self.operand(b, *acc)?);
                let mut sum = self.get(*acc)?;
                for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
                    *s = if self.fused || *once { a.mul_add(b, *s) } else { *s + a * b };
                }
                self.set(*acc, sum)
            }
            Inst::Dot { acc, a, b } => {
                let (a, b) = (self.get(*a)?, self.operand(b, *acc)?);
                let mut sum = self.get(*acc)?;
                for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
                    let pairs = a.to_bits().to_le_bytes().into_iter().zip(b.to_bits().to_le_bytes());
                    let products = pairs.map(|(a, b)| i32::from(a as i8) * i32::from(b)).sum::<i32>();
                    *s = f32::from_bits((s.to_bits() as i32).wrapping_add(products) as u32);
                }
                self.set(*acc, sum)
            }
            Inst::DotWords { acc, a, b } => {
                let (a, b) = (self.get(*a)?, self.operand(b, *acc)?);
                let mut sum = self.get(*acc)?;
                let words = |x: f32| [x.to_bits() as i16, (x.to_bits() >> 16) as i16].map(i32::from);
                for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
                    let ([a, c], [b, d]) = (words(a), words(b));
                    let products = (a * b).wrapping_add(c * d);
                    *s = f32::from_bits((s.to_bits() as i32).wrapping_add(products) as u32);
                }
                self.set(*acc, sum)
            }
            Inst::DotHalves { acc, a, b } => {
                let (a, b) = (self.get(*a)?, self.operand(b, *acc)?);
                let mut sum = self.get(*acc)?;
                for ((s, a), b) in sum.iter_mut().zip(a).zip(b) {
                    let (a, b) = (halves(a), halves(b));
                    for (a, b) in a.into_iter().zip(b) {
                        let total = if self.fused { a.mul_add(b, flushed(*s)) } else { flushed(*s) + a * b };
                        *s = flushed(total);
                    }
                }
                self.set(*acc, sum)
            }
            Inst::Translate { dst, src, table } => {
                let (param, range) = self.locate(table.of(Float::U8), 256)?;
                let Some(KernelArg::Memory { bytes, .. }) = self.args.get(param) else {
                    return Err(self.fail("a table is no memory"));
                };
                let entries = &bytes[range];
                let value = self.get(*src)?.map(|x| {
                    let places = x.to_bits().to_le_bytes();
                    f32::from_bits(u32::from_le_bytes(places.map(|place| entries[usize::from(place)])))
                });
                self.set(*dst, value)
            }
            Inst::MulAdd { dst, x, add } => {
                let (x, add) = (self.get(*x)?, self.operand(add, *dst)?);
                let mut product = self.get(*dst)?;
                for ((p, x), add) in product.iter_mut().zip(x).zip(add) {
                    *p = if self.fused { p.mul_add(x, add) } else { *p * x + add };
                }
                self.set(*dst, product)
            }
            Inst::Scale { dst, src, by } => {
                let (src, by) = (self.get(*src)?, self.get(*by)?);
                // The product of f64 is exact.
                let lane = |i: usize| (f64::from(src[i]) * 2f64.powi(by[i] as i32)) as f32;
                self.set(*dst, std::array::from_fn(lane))
            }
            Inst::Bin { op, dst, a, b } => {
                let (mut a, b) = (self.get(*a)?, self.operand(b, *dst)?);
                a.iter_mut().zip(b).for_each(|(a, b)| *a = op.apply(*a, b));
                self.set(*dst, a)
            }
            Inst::Shl { dst, src, by } => {
                let value = self.get(*src)?.map(|x| f32::from_bits(x.to_bits() << by));
                self.set(*dst, value)
            }
            Inst::Shr { dst, src, by } => {
                let value = self.get(*src)?.map(|x| f32::from_bits(x.to_bits() >> by));
                self.set(*dst, value)
            }
            Inst::Un { op, dst, src } => {
                let value = self.get(*src)?.map(|x| op.apply(x));
                self.set(*dst, value)
            }
            Inst::Sine { dst, src, cosine } => {
                let lane = |x: f32| if *cosine { f64::from(x).cos() } else { f64::from(x).sin() };
                let value = self.get(*src)?.map(|x| lane(x) as f32);
                self.set(*dst, value)
            }
            Inst::Select { test, x, y, dst, then, otherwise } => {
                let (x, y, then, otherwise) =
                    (self.get(*x)?, self.get(*y)?, self.get(*then)?, self.get(*otherwise)?);
                let lane = |i: usize| if test.apply(x[i], y[i]) { then[i] } else { otherwise[i] };
                self.set(*dst, std::array::from_fn(lane))
            }
            Inst::Prefetch { .. } | Inst::Release => Ok(()),
            Inst::Configure => {
                self.matrices = [[[0; 16]; 16]; MATRICES];
                Ok(())
            }
            Inst::MatrixZero { dst } => self.set_rows(*dst, [[0; 16]; 16]),
            Inst::MatrixLoad { dst, addr, pitch } => {
                let shape = self.shape(*dst)?;
                let mut rows = [[0; 16]; 16];
                for (r, row) in rows.iter_mut().enumerate().take(usize::from(shape.rows)) {
                    let addr = Addr { disp: addr.disp + r as i32 * pitch, float: Float::F32, ..*addr };
                    let lanes = self.lanes_at(addr, u32::from(shape.lanes))?;
                    row.iter_mut().zip(lanes).for_each(|(lane, x)| *lane = x.to_bits());
                }
                self.set_rows(*dst, rows)
            }
            Inst::MatrixDot { acc, a, b, products } => self.dot_of_rows(*acc, [*a, *b], *products),
            Inst::MatrixStore { src, addr, pitch } => {
                let (shape, rows) = (self.shape(*src)?, self.rows(*src)?);
                for (r, row) in rows.iter().enumerate().take(usize::from(shape.rows)) {
                    let addr = Addr { disp: addr.disp + r as i32 * pitch, float: Float::F32, ..*addr };
                    self.store_lanes(row.map(f32::from_bits), addr, u32::from(shape.lanes))?;
                }
                Ok(())
            }
            Inst::Advance { ptr, bytes } => {
                let (param, offset) = self.int(*ptr)?;
                self.set_int(*ptr, (param, offset + i64::from(*bytes)))
            }
            Inst::Lookup { dst, base, entry } => {
                let (param, offset) = self.int(*base)?;
                let disp = self.lanes_at(entry.of(Float::F32), 1)?[0].to_bits() as i32;
                self.set_int(*dst, (param, offset + i64::from(disp)))
            }
            Inst::Loop { trips: count, body } => {
                let rounds = match count {
                    Trips::Imm(n) => u64::from(*n),
                    Trips::Param(p) => match self.args.get(self.int(*p)?.0) {
                        Some(KernelArg::Count(n)) => *n,
                        _ => return Err(self.fail("a loop counts by a parameter that is no count")),
                    },
                };
                (0..rounds).try_for_each(|_| self.body(body))
            }
        }
    }

    fn shape(&self, m: Matrix) -> Result<MatrixShape, TileError> {
        self.program.shape(m).ok_or_else(|| self.fail("no such matrix register"))
    }

    fn rows(&self, m: Matrix) -> Result<Rows, TileError> {
        self.matrices.get(usize::from(m.0)).copied().ok_or_else(|| self.fail("no such matrix register"))
    }

    fn set_rows(&mut self, m: Matrix, rows: Rows) -> Result<(), TileError> {
        match self.matrices.get_mut(usize::from(m.0)) {
            Some(slot) => *slot = rows,
            None => return Err(self.fail("no such matrix register")),
        }
        Ok(())
    }

    fn dot_of_rows(
        &mut self,
        acc: Matrix,
        [a, b]: [Matrix; 2],
        products: MatrixProducts,
    ) -> Result<(), TileError> {
        let (of_acc, of_a) = (self.shape(acc)?, self.shape(a)?);
        let (mut sums, a, b) = (self.rows(acc)?, self.rows(a)?, self.rows(b)?);
        let depth = usize::from(of_a.lanes);
        for (sums, a) in sums.iter_mut().zip(&a).take(usize::from(of_acc.rows)) {
            for (n, sum) in sums.iter_mut().enumerate().take(usize::from(of_acc.lanes)) {
                let pairs = a.iter().zip(b.iter().map(|row| row[n])).take(depth);
                *sum = match products {
                    MatrixProducts::Bytes => {
                        pairs.fold(*sum as i32, |sum, (&a, b)| sum.wrapping_add(dot_of_bytes(a, b))) as u32
                    }
                    MatrixProducts::Halves => {
                        let [upper, lower] = pairs.fold([0.0f32; 2], |sums, (&a, b)| {
                            let (a, b) = (halves(f32::from_bits(a)), halves(f32::from_bits(b)));
                            std::array::from_fn(|i| flushed(a[i].mul_add(b[i], sums[i])))
                        });
                        let step = flushed(upper + lower);
                        flushed(flushed(f32::from_bits(*sum)) + step).to_bits()
                    }
                };
            }
        }
        self.set_rows(acc, sums)
    }

    fn get(&self, v: Vector) -> Result<[f32; 16], TileError> {
        self.vectors.get(v.0 as usize).copied().ok_or_else(|| self.fail("no such vector register"))
    }

    fn set(&mut self, v: Vector, value: [f32; 16]) -> Result<(), TileError> {
        match self.vectors.get_mut(v.0 as usize) {
            Some(slot) => *slot = value,
            None => return Err(self.fail("no such vector register")),
        }
        Ok(())
    }

    fn int(&self, r: Int) -> Result<(usize, i64), TileError> {
        self.ints.get(r.0 as usize).copied().ok_or_else(|| self.fail("no such integer register"))
    }

    fn set_int(&mut self, r: Int, value: (usize, i64)) -> Result<(), TileError> {
        match self.ints.get_mut(r.0 as usize) {
            Some(slot) => *slot = value,
            None => return Err(self.fail("no such integer register")),
        }
        Ok(())
    }

    fn operand(&self, b: &Source, result: Vector) -> Result<[f32; 16], TileError> {
        match b {
            Source::Reg(v) => self.get(*v),
            Source::Mem(addr) => self.lanes_at(*addr, self.program.lanes(result).count()),
            Source::Splat(addr) => Ok([self.lanes_at(*addr, 1)?[0]; 16]),
            Source::Imm(bits) => Ok([f32::from_bits(*bits); 16]),
        }
    }

    /// Position in the buffer of `n` floats at an address.
    fn locate(&self, addr: Addr, n: u32) -> Result<(usize, std::ops::Range<usize>), TileError> {
        let size = addr.float.span(n) as usize;
        let (param, offset) = self.int(addr.base)?;
        let Some(KernelArg::Memory { bytes, origin }) = self.args.get(param) else {
            return Err(self.fail("an address is based on a parameter that is no pointer"));
        };
        let start = *origin as i64 + offset + i64::from(addr.disp);
        match usize::try_from(start) {
            Ok(start) if start + size <= bytes.len() => Ok((param, start..start + size)),
            _ => {
                let role = self.program.params.get(param).map(|p| p.role);
                Err(self
                    .fail(format!("touches byte {} of {role:?}, outside its buffer", start - *origin as i64)))
            }
        }
    }

    fn lanes_at(&self, addr: Addr, n: u32) -> Result<[f32; 16], TileError> {
        let mut lanes = [0.0; 16];
        lanes.iter_mut().zip(self.floats_at(addr, n)?).for_each(|(lane, float)| *lane = float);
        Ok(lanes)
    }

    fn floats_at(&self, addr: Addr, n: u32) -> Result<Vec<f32>, TileError> {
        let (param, range) = self.locate(addr, n)?;
        let Some(KernelArg::Memory { bytes, .. }) = self.args.get(param) else { return Ok(Vec::new()) };
        Ok(bytes[range].chunks(addr.float.bytes() as usize).map(|float| addr.float.read(float)).collect())
    }

    fn store(&mut self, src: Vector, addr: Addr, n: u32) -> Result<(), TileError> {
        self.store_lanes(self.get(src)?, addr, n)
    }

    fn store_lanes(&mut self, value: [f32; 16], addr: Addr, n: u32) -> Result<(), TileError> {
        let (param, range) = self.locate(addr, n)?;
        if let Some(KernelArg::Memory { bytes, .. }) = self.args.get_mut(param) {
            for (lane, float) in value.iter().zip(bytes[range].chunks_mut(addr.float.bytes() as usize)) {
                addr.float.write(*lane, float);
            }
        }
        Ok(())
    }
}
