//! Tile programs as AVX2 or AVX-512 machine code.
//!
//! Kernels are leaves: they save what they use of the caller's registers, which few need, and end with `vzeroupper` and `ret`. Code is position independent and the same bytes serve the JIT and a file.
//!
//! - AVX-512: 4, 8 and 16 lanes are xmm, ymm and zmm. Splat operands are embedded broadcasts; partial loads and stores
//!   use mask registers, set once at entry, and comparisons the one that these leave.
//! - AVX2: 16 lanes are two ymm. Splat operands go through a scratch register. Partial accesses are made of xmm and
//!   scalar pieces, because `vmaskmov` stores are microcoded on AMD.
//!
//! Constants of innermost loops are in registers, as far as there are any left ([`literals`]).
//!
//! - AMX: matrix registers are tiles, by the numbers that a program gives them ([`matrix`]).
//!
//! VEX encodings, which are shorter, are chosen wherever the instruction has one.

mod asm;
mod bytes;
mod gather;
mod halves;
mod literals;
mod matrix;
mod sine;
mod translate;

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use self::asm::{Asm, AsmError, Forward, Label};
pub use self::bytes::PACK_SCRATCH;
use super::error::TileError;
use super::ir::{Addr, BinOp, Inst, Lanes, Source, Test, TileProgram, Trips, UnOp, Vector};
use super::registers::{Counter, Lifetimes, RegisterFile, Regs, Sink, assign, measure};
use super::scale::CONSTANTS;
use crate::code::float::Float;

/// The vector instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// AVX2, FMA and F16C: 16 registers of 256 bits.
    Avx2,
    /// AVX-512 F, VL and BW: 32 registers of 512 bits, masks, embedded broadcasts.
    Avx512,
}

impl Level {
    /// The registers that a program may use: rows of matrix registers are as far apart as one of them says.
    fn registers_of(self, program: &TileProgram) -> RegisterFile {
        let file = self.registers();
        let taken = u32::from(!program.matrices.is_empty());
        RegisterFile { ints: file.ints - taken, saved: file.saved - taken, ..file }
    }

    /// The registers that a kernel may use.
    pub const fn registers(self) -> RegisterFile {
        let (ints, saved) = (INTS.len() as u32, SAVED as u32);
        match self {
            Level::Avx2 => RegisterFile { isa: "AVX2", vectors: 16, widest: Lanes::X8, ints, saved },
            Level::Avx512 => RegisterFile { isa: "AVX-512", vectors: 32, widest: Lanes::X16, ints, saved },
        }
    }
}

/// The integer registers of the System V convention: those of parameters in order, others that belong to the callee, and those that belong
/// to the caller.
const INTS: [Register; 15] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::RAX,
    Register::R10,
    Register::R11,
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// How many of them, the last ones, belong to the caller.
const SAVED: usize = 6;

/// The low halves of [`INTS`].
const INTS32: [Register; 15] = [
    Register::EDI,
    Register::ESI,
    Register::EDX,
    Register::ECX,
    Register::R8D,
    Register::R9D,
    Register::EAX,
    Register::R10D,
    Register::R11D,
    Register::EBX,
    Register::EBP,
    Register::R12D,
    Register::R13D,
    Register::R14D,
    Register::R15D,
];

/// Loops start at a multiple of this many bytes, a line of the decoded-instruction cache.
const LOOP_ALIGN: usize = 64;

/// Scratch registers that storing takes: all lanes, or a part of them.
pub const fn store_scratch(float: Float, level: Level, part: bool) -> usize {
    match float {
        Float::F32 => 0,
        Float::F16 | Float::Bf16 => halves::store_scratch(float, level, part),
        Float::U8 => bytes::store_scratch(level),
    }
}

/// What a machine does in one instruction, beyond its level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Multiplies four bytes of each lane and adds them up.
    pub dot: bool,
    /// Looks up bytes in a table of 128.
    pub look_up: bool,
    /// Multiplies two `bf16` of each lane and adds them up.
    pub dot_of_halves: bool,
    /// Rounds to `bf16`, denormals to zero.
    pub rounds_to_halves: bool,
}

/// The machine code of a verified program.
pub fn lower(program: &TileProgram, level: Level, with: Extensions) -> Result<Vec<u8>, TileError> {
    let encode = |e: AsmError| TileError::Encode { program: program.name.clone(), message: e.to_string() };
    let masks = if level == Level::Avx512 { masks(program)? } else { Vec::new() };
    let asm = Asm::new().map_err(encode)?;
    let lifetimes = Lifetimes::of(program);
    let file = level.registers_of(program);
    let used = measure(program, &lifetimes, file, &|inst| scratch(inst, program, level, with))?;
    let literals = literals::choose(program, used.vectors, level.registers().vectors);
    let saved = INTS[INTS.len() - SAVED..].iter().take(used.saved as usize).copied();
    let saved = saved.chain((!program.matrices.is_empty()).then_some(matrix::PITCH)).collect();
    let (loops, pitch) = (Vec::new(), None);
    let mut emitter = X86Emitter { program, level, with, asm, masks, literals, saved, loops, pitch };
    assign(program, &lifetimes, file, &mut emitter)?;
    emitter.leave().map_err(encode)?;
    Ok(emitter.asm.finish())
}

/// Whether a program fits the registers of a level.
pub fn fits(program: &TileProgram, level: Level, with: Extensions) -> Result<(), TileError> {
    if level == Level::Avx512 {
        masks(program)?;
    }
    let scratch = |inst: &Inst| scratch(inst, program, level, with);
    measure(program, &Lifetimes::of(program), level.registers_of(program), &scratch).map(|_| ())
}

/// Every other lane.
const EVEN_LANES: u16 = 0x5555;

/// The first lanes.
const fn first_lanes(n: u8) -> u16 {
    ((1u32 << n) - 1) as u16
}

/// What comparisons set.
const COMPARED: Register = Register::K7;

/// The different masks that a program needs, ascending: mask `i` is kept in `k(i+1)`.
fn masks(program: &TileProgram) -> Result<Vec<u16>, TileError> {
    fn collect(program: &TileProgram, body: &[Inst], masks: &mut Vec<u16>, rounds: &mut bool) {
        for inst in body {
            if let Inst::Store { addr, .. } | Inst::StorePart { addr, .. } = inst {
                *rounds |= addr.float == Float::Bf16;
            }
            match inst {
                Inst::LoadPart { dst: v, n, .. } | Inst::StorePart { src: v, n, .. }
                    if u32::from(*n) < program.lanes(*v).count() =>
                {
                    masks.push(first_lanes(*n))
                }
                Inst::Fold { .. } => masks.push(EVEN_LANES),
                Inst::Fill { dst, n, .. } if u32::from(*n) < program.lanes(*dst).count() => {
                    masks.push(!first_lanes(*n))
                }
                Inst::Across { .. } | Inst::Fill { .. } | Inst::Pick { .. } => {}
                Inst::Loop { body, .. } => collect(program, body, masks, rounds),
                Inst::Load { .. } | Inst::LoadPart { .. } | Inst::Splat { .. } | Inst::Spread { .. } => {}
                Inst::Store { .. } | Inst::StorePart { .. } | Inst::Const { .. } | Inst::Copy { .. } => {}
                Inst::Pack { .. } => {}
                Inst::DotWords { .. } | Inst::DotHalves { .. } | Inst::Translate { .. } => {}
                Inst::Gather { .. } => {}
                Inst::Fma { .. } | Inst::Dot { .. } | Inst::Bin { .. } | Inst::Shl { .. } => {}
                Inst::MulAdd { .. } | Inst::Scale { .. } => {}
                Inst::Shr { .. } | Inst::Un { .. } | Inst::Sine { .. } | Inst::Select { .. } => {}
                Inst::Prefetch { .. } | Inst::Advance { .. } | Inst::Lookup { .. } => {}
                Inst::Configure | Inst::Release | Inst::MatrixZero { .. } => {}
                Inst::MatrixLoad { .. } | Inst::MatrixDot { .. } | Inst::MatrixStore { .. } => {}
            }
        }
    }
    let (mut masks, mut rounds) = (Vec::new(), false);
    collect(program, &program.body, &mut masks, &mut rounds);
    masks.sort_unstable();
    masks.dedup();
    // Comparisons, and rounding to `bf16`, take the last one for themselves.
    let taken = usize::from(rounds || compares(program, &program.body));
    match masks.len() + taken {
        0..=7 => Ok(masks),
        _ => Err(TileError::MaskPressure { program: program.name.clone() }),
    }
}

/// Whether a mask register is needed for comparisons.
fn compares(program: &TileProgram, body: &[Inst]) -> bool {
    body.iter().any(|inst| match inst {
        Inst::Select { .. } | Inst::Translate { .. } => true,
        Inst::Gather { dst, among, .. } => gather::takes_mask(program.lanes(*dst), *among),
        Inst::Loop { body, .. } => compares(program, body),
        _ => false,
    })
}

/// Number of scratch registers that an instruction needs.
fn scratch(inst: &Inst, program: &TileProgram, level: Level, with: Extensions) -> usize {
    let narrow = |addr: &Addr| addr.float.is_narrow();
    let upper_half = |v: &Vector, n: u8| program.lanes(*v) != Lanes::X4 && n % 8 > 4;
    match inst {
        Inst::Fold { .. } | Inst::Across { .. } => 1,
        Inst::Pick { dst, .. } => level.registers().pieces(program.lanes(*dst)),
        Inst::Gather { .. } => gather::SCRATCH,
        Inst::Fill { .. } => usize::from(level == Level::Avx2),
        Inst::Pack { .. } => bytes::PACK_SCRATCH,
        Inst::Store { addr, .. } => store_scratch(addr.float, level, false),
        Inst::StorePart { addr, .. } if narrow(addr) => store_scratch(addr.float, level, true),
        Inst::Scale { .. } => {
            if level == Level::Avx2 {
                2
            } else {
                0
            }
        }
        Inst::Dot { b, .. } => bytes::dot_scratch(b, with.dot),
        Inst::DotHalves { b, .. } => halves::dot_scratch(b, with.dot_of_halves),
        Inst::DotWords { b, .. } => 1 + usize::from(!matches!(b, Source::Reg(_))),
        Inst::Fma { b, .. } | Inst::Bin { b, .. } | Inst::MulAdd { add: b, .. } => match (b, level) {
            (Source::Mem(addr) | Source::Splat(addr), _) if narrow(addr) => 1,
            (Source::Splat(_) | Source::Imm(_), Level::Avx2) => 1,
            (Source::Reg(_) | Source::Mem(_) | Source::Splat(_) | Source::Imm(_), _) => 0,
        },
        Inst::LoadPart { dst: v, n, addr } | Inst::StorePart { src: v, n, addr } => {
            usize::from(level == Level::Avx2 && !narrow(addr) && upper_half(v, *n))
        }
        Inst::Sine { .. } => sine::SCRATCH,
        Inst::Translate { .. } => translate::scratch(with),
        Inst::Select { .. } => usize::from(level == Level::Avx2),
        Inst::Load { .. } | Inst::Splat { .. } | Inst::Spread { .. } => 0,
        Inst::Const { .. } | Inst::Copy { .. } | Inst::Shl { .. } | Inst::Shr { .. } | Inst::Un { .. } => 0,
        Inst::Prefetch { .. } | Inst::Advance { .. } | Inst::Lookup { .. } | Inst::Loop { .. } => 0,
        Inst::Configure | Inst::Release | Inst::MatrixZero { .. } | Inst::MatrixLoad { .. } => 0,
        Inst::MatrixDot { .. } | Inst::MatrixStore { .. } => 0,
    }
}

/// Width of a machine register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RegisterWidth {
    Xmm,
    Ymm,
    Zmm,
}

impl RegisterWidth {
    fn reg(self, n: u8) -> Register {
        let first = match self {
            RegisterWidth::Xmm => Register::XMM0,
            RegisterWidth::Ymm => Register::YMM0,
            RegisterWidth::Zmm => Register::ZMM0,
        };
        first + u32::from(n)
    }

    fn bytes(self) -> i32 {
        match self {
            RegisterWidth::Xmm => 16,
            RegisterWidth::Ymm => 32,
            RegisterWidth::Zmm => 64,
        }
    }
}

/// One instruction in its five encodings: VEX xmm, VEX ymm, EVEX xmm, EVEX ymm, EVEX zmm.
type Forms = [Code; 5];

const LOAD: Forms = [
    Code::VEX_Vmovups_xmm_xmmm128,
    Code::VEX_Vmovups_ymm_ymmm256,
    Code::EVEX_Vmovups_xmm_k1z_xmmm128,
    Code::EVEX_Vmovups_ymm_k1z_ymmm256,
    Code::EVEX_Vmovups_zmm_k1z_zmmm512,
];
const STORE: Forms = [
    Code::VEX_Vmovups_xmmm128_xmm,
    Code::VEX_Vmovups_ymmm256_ymm,
    Code::EVEX_Vmovups_xmmm128_k1z_xmm,
    Code::EVEX_Vmovups_ymmm256_k1z_ymm,
    Code::EVEX_Vmovups_zmmm512_k1z_zmm,
];
const COPY: Forms = [
    Code::VEX_Vmovaps_xmm_xmmm128,
    Code::VEX_Vmovaps_ymm_ymmm256,
    Code::EVEX_Vmovaps_xmm_k1z_xmmm128,
    Code::EVEX_Vmovaps_ymm_k1z_ymmm256,
    Code::EVEX_Vmovaps_zmm_k1z_zmmm512,
];
const SPLAT: Forms = [
    Code::VEX_Vbroadcastss_xmm_m32,
    Code::VEX_Vbroadcastss_ymm_m32,
    Code::EVEX_Vbroadcastss_xmm_k1z_xmmm32,
    Code::EVEX_Vbroadcastss_ymm_k1z_xmmm32,
    Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32,
];
const SPLAT_REGISTER: Forms = [
    Code::VEX_Vbroadcastss_xmm_xmm,
    Code::VEX_Vbroadcastss_ymm_xmm,
    Code::EVEX_Vbroadcastss_xmm_k1z_xmmm32,
    Code::EVEX_Vbroadcastss_ymm_k1z_xmmm32,
    Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32,
];
const PERMUTE: Forms = [
    Code::VEX_Vpermilps_xmm_xmmm128_imm8,
    Code::VEX_Vpermilps_ymm_ymmm256_imm8,
    Code::EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8,
    Code::EVEX_Vpermilps_ymm_k1z_ymmm256b32_imm8,
    Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8,
];
const SHUFFLE: Forms = [
    Code::VEX_Vshufps_xmm_xmm_xmmm128_imm8,
    Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8,
    Code::EVEX_Vshufps_xmm_k1z_xmm_xmmm128b32_imm8,
    Code::EVEX_Vshufps_ymm_k1z_ymm_ymmm256b32_imm8,
    Code::EVEX_Vshufps_zmm_k1z_zmm_zmmm512b32_imm8,
];
const SPREAD_TWO: Forms = [
    Code::VEX_Vmovddup_xmm_xmmm64,
    Code::VEX_Vbroadcastsd_ymm_m64,
    Code::EVEX_Vmovddup_xmm_k1z_xmmm64,
    Code::EVEX_Vbroadcastsd_ymm_k1z_xmmm64,
    Code::EVEX_Vbroadcastsd_zmm_k1z_xmmm64,
];
/// Four lanes are one xmm register.
const SPREAD_FOUR: Forms = [
    Code::VEX_Vmovups_xmm_xmmm128,
    Code::VEX_Vbroadcastf128_ymm_m128,
    Code::EVEX_Vmovups_xmm_k1z_xmmm128,
    Code::EVEX_Vbroadcastf32x4_ymm_k1z_m128,
    Code::EVEX_Vbroadcastf32x4_zmm_k1z_m128,
];
const FMA: Forms = [
    Code::VEX_Vfmadd231ps_xmm_xmm_xmmm128,
    Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256,
    Code::EVEX_Vfmadd231ps_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vfmadd231ps_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
];
/// The result is a factor.
const MUL_ADD: Forms = [
    Code::VEX_Vfmadd213ps_xmm_xmm_xmmm128,
    Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256,
    Code::EVEX_Vfmadd213ps_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vfmadd213ps_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er,
];
/// AVX-512 has it alone.
const SCALE: Forms = [
    Code::EVEX_Vscalefps_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vscalefps_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vscalefps_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vscalefps_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er,
];
const SUB_INTEGERS: Forms = [
    Code::VEX_Vpsubd_xmm_xmm_xmmm128,
    Code::VEX_Vpsubd_ymm_ymm_ymmm256,
    Code::EVEX_Vpsubd_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpsubd_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32,
];
const XOR: Forms = [
    Code::VEX_Vpxor_xmm_xmm_xmmm128,
    Code::VEX_Vpxor_ymm_ymm_ymmm256,
    Code::EVEX_Vpxord_xmm_k1z_xmm_xmmm128b32,
    Code::EVEX_Vpxord_ymm_k1z_ymm_ymmm256b32,
    Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32,
];
const SHL: Forms = [
    Code::VEX_Vpslld_xmm_xmm_imm8,
    Code::VEX_Vpslld_ymm_ymm_imm8,
    Code::EVEX_Vpslld_xmm_k1z_xmmm128b32_imm8,
    Code::EVEX_Vpslld_ymm_k1z_ymmm256b32_imm8,
    Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8,
];

const SHR: Forms = [
    Code::VEX_Vpsrld_xmm_xmm_imm8,
    Code::VEX_Vpsrld_ymm_ymm_imm8,
    Code::EVEX_Vpsrld_xmm_k1z_xmmm128b32_imm8,
    Code::EVEX_Vpsrld_ymm_k1z_ymmm256b32_imm8,
    Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8,
];
const SQRT: Forms = [
    Code::VEX_Vsqrtps_xmm_xmmm128,
    Code::VEX_Vsqrtps_ymm_ymmm256,
    Code::EVEX_Vsqrtps_xmm_k1z_xmmm128b32,
    Code::EVEX_Vsqrtps_ymm_k1z_ymmm256b32,
    Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er,
];
const ROUND: Forms = [
    Code::VEX_Vroundps_xmm_xmmm128_imm8,
    Code::VEX_Vroundps_ymm_ymmm256_imm8,
    Code::EVEX_Vrndscaleps_xmm_k1z_xmmm128b32_imm8,
    Code::EVEX_Vrndscaleps_ymm_k1z_ymmm256b32_imm8,
    Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae,
];

const fn arithmetic(op: BinOp) -> Forms {
    match op {
        BinOp::Add => [
            Code::VEX_Vaddps_xmm_xmm_xmmm128,
            Code::VEX_Vaddps_ymm_ymm_ymmm256,
            Code::EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32,
            Code::EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32,
            Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er,
        ],
        BinOp::Sub => [
            Code::VEX_Vsubps_xmm_xmm_xmmm128,
            Code::VEX_Vsubps_ymm_ymm_ymmm256,
            Code::EVEX_Vsubps_xmm_k1z_xmm_xmmm128b32,
            Code::EVEX_Vsubps_ymm_k1z_ymm_ymmm256b32,
            Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er,
        ],
        BinOp::Mul => [
            Code::VEX_Vmulps_xmm_xmm_xmmm128,
            Code::VEX_Vmulps_ymm_ymm_ymmm256,
            Code::EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32,
            Code::EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32,
            Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er,
        ],
        BinOp::Div => [
            Code::VEX_Vdivps_xmm_xmm_xmmm128,
            Code::VEX_Vdivps_ymm_ymm_ymmm256,
            Code::EVEX_Vdivps_xmm_k1z_xmm_xmmm128b32,
            Code::EVEX_Vdivps_ymm_k1z_ymm_ymmm256b32,
            Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er,
        ],
        BinOp::Max => [
            Code::VEX_Vmaxps_xmm_xmm_xmmm128,
            Code::VEX_Vmaxps_ymm_ymm_ymmm256,
            Code::EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32,
            Code::EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32,
            Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae,
        ],
        BinOp::Min => [
            Code::VEX_Vminps_xmm_xmm_xmmm128,
            Code::VEX_Vminps_ymm_ymm_ymmm256,
            Code::EVEX_Vminps_xmm_k1z_xmm_xmmm128b32,
            Code::EVEX_Vminps_ymm_k1z_ymm_ymmm256b32,
            Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae,
        ],
        BinOp::And => [
            Code::VEX_Vpand_xmm_xmm_xmmm128,
            Code::VEX_Vpand_ymm_ymm_ymmm256,
            Code::EVEX_Vpandd_xmm_k1z_xmm_xmmm128b32,
            Code::EVEX_Vpandd_ymm_k1z_ymm_ymmm256b32,
            Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32,
        ],
        BinOp::Or => [
            Code::VEX_Vpor_xmm_xmm_xmmm128,
            Code::VEX_Vpor_ymm_ymm_ymmm256,
            Code::EVEX_Vpord_xmm_k1z_xmm_xmmm128b32,
            Code::EVEX_Vpord_ymm_k1z_ymm_ymmm256b32,
            Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32,
        ],
        BinOp::Xor => XOR,
        BinOp::MaxBytes => [
            Code::VEX_Vpmaxub_xmm_xmm_xmmm128,
            Code::VEX_Vpmaxub_ymm_ymm_ymmm256,
            Code::EVEX_Vpmaxub_xmm_k1z_xmm_xmmm128,
            Code::EVEX_Vpmaxub_ymm_k1z_ymm_ymmm256,
            Code::EVEX_Vpmaxub_zmm_k1z_zmm_zmmm512,
        ],
    }
}

/// The encoding for a width: VEX where all vector registers are among the first 16 and no feature of EVEX is needed.
fn form(forms: Forms, width: RegisterWidth, needs_evex: bool) -> Code {
    match (width, needs_evex) {
        (RegisterWidth::Xmm, false) => forms[0],
        (RegisterWidth::Ymm, false) => forms[1],
        (RegisterWidth::Xmm, true) => forms[2],
        (RegisterWidth::Ymm, true) => forms[3],
        (RegisterWidth::Zmm, _) => forms[4],
    }
}

fn high(regs: &[u8]) -> bool {
    regs.iter().any(|r| *r >= 16)
}

struct X86Emitter<'a> {
    program: &'a TileProgram,
    level: Level,
    /// What there are instructions for.
    with: Extensions,
    asm: Asm,
    /// The lanes of partial accesses; `masks[i]` is in `k(i+1)`.
    masks: Vec<u16>,
    /// Constants that are in a register from the start.
    literals: Vec<(u32, u8)>,
    /// What the program takes of the registers that belong to the caller.
    saved: Vec<Register>,
    loops: Vec<(Label, Option<Forward>)>,
    /// What [`matrix::PITCH`] is known to hold.
    pitch: Option<i32>,
}

impl Sink for X86Emitter<'_> {
    fn temps(&self, inst: &Inst, program: &TileProgram) -> usize {
        scratch(inst, program, self.level, self.with)
    }

    fn enter(&mut self, regs: &Regs) -> Result<(), TileError> {
        self.prologue(regs).map_err(|e| self.refused(e))
    }

    fn inst(&mut self, inst: &Inst, regs: &Regs) -> Result<(), TileError> {
        self.one(inst, regs).map_err(|e| self.refused(e))
    }

    fn begin(&mut self, counter: Counter) -> Result<(), TileError> {
        self.loop_begin(counter).map_err(|e| self.refused(e))
    }

    fn end(&mut self, counter: Counter) -> Result<(), TileError> {
        self.loop_end(counter).map_err(|e| self.refused(e))
    }
}

impl X86Emitter<'_> {
    fn refused(&self, e: AsmError) -> TileError {
        TileError::Encode { program: self.program.name.clone(), message: e.to_string() }
    }

    /// What belongs to the caller, masks through rax while it is free, then the parameters on the stack.
    fn prologue(&mut self, regs: &Regs) -> Result<(), AsmError> {
        for &register in &self.saved {
            self.asm.emit(&Instruction::with1(Code::Push_r64, register)?)?;
        }
        for (i, mask) in self.masks.clone().into_iter().enumerate() {
            let k = Register::K1 + i as u32;
            self.asm.emit(&Instruction::with2(Code::Mov_r32_imm32, Register::EAX, u32::from(mask))?)?;
            self.asm.emit(&Instruction::with2(Code::VEX_Kmovw_kr_r32, k, Register::EAX)?)?;
        }
        for i in 6..self.program.params.len() as u32 {
            if let Some(reg) = regs.int(super::ir::Int(i)) {
                // Above what was saved and the return address, 8 bytes each.
                let above = self.saved.len() as i64;
                let slot = MemoryOperand::with_base_displ(Register::RSP, 8 * (above + i64::from(i) - 5));
                self.asm.emit(&Instruction::with2(Code::Mov_r64_rm64, INTS[reg as usize], slot)?)?;
            }
        }
        for (bits, reg) in std::mem::take(&mut self.literals) {
            let width = self.widest();
            self.constant(width, reg, bits)?;
            self.literals.push((bits, reg));
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), AsmError> {
        self.asm.emit(&Instruction::with(Code::VEX_Vzeroupper))?;
        for &register in self.saved.iter().rev() {
            self.asm.emit(&Instruction::with1(Code::Pop_r64, register)?)?;
        }
        self.asm.emit(&Instruction::with(Code::Retnq))
    }

    fn loop_begin(&mut self, counter: Counter) -> Result<(), AsmError> {
        let reg = INTS[counter.reg as usize];
        let mut skip = None;
        match counter.count {
            Trips::Imm(n) => {
                self.asm.emit(&Instruction::with2(Code::Mov_r32_imm32, INTS32[counter.reg as usize], n)?)?
            }
            Trips::Param(_) => {
                if let Some(from) = counter.from {
                    self.asm.emit(&Instruction::with2(Code::Mov_r64_rm64, reg, INTS[from as usize])?)?;
                }
                self.asm.emit(&Instruction::with2(Code::Test_rm64_r64, reg, reg)?)?;
                skip = Some(self.asm.branch_forward(Code::Je_rel32_64)?);
            }
        }
        let head = self.asm.aligned_label(LOOP_ALIGN);
        self.loops.push((head, skip));
        self.pitch = None;
        Ok(())
    }

    fn loop_end(&mut self, counter: Counter) -> Result<(), AsmError> {
        let reg = INTS[counter.reg as usize];
        if let Some((head, skip)) = self.loops.pop() {
            match counter.count {
                Trips::Imm(_) => {
                    self.asm.emit(&Instruction::with1(Code::Dec_rm32, INTS32[counter.reg as usize])?)?
                }
                Trips::Param(_) => self.asm.emit(&Instruction::with1(Code::Dec_rm64, reg)?)?,
            }
            self.asm.branch_back(Code::Jne_rel8_64, Code::Jne_rel32_64, head)?;
            if let Some(skip) = skip {
                self.asm.bind(skip);
                self.pitch = None;
            }
        }
        Ok(())
    }

    /// The width of the widest machine registers in use.
    fn widest(&self) -> RegisterWidth {
        let widths = (0..self.program.vectors.len() as u32).map(|v| self.width(Vector(v)));
        widths.max_by_key(|width| width.bytes()).unwrap_or(RegisterWidth::Xmm)
    }

    /// The register that a constant is in from the start.
    fn literal(&self, bits: u32) -> Option<u8> {
        self.literals.iter().find(|(b, _)| *b == bits).map(|(_, reg)| *reg)
    }

    /// The width of the machine registers that hold `v`.
    fn width(&self, v: Vector) -> RegisterWidth {
        match (self.program.lanes(v), self.level) {
            (Lanes::X4, _) => RegisterWidth::Xmm,
            (Lanes::X8, _) | (Lanes::X16, Level::Avx2) => RegisterWidth::Ymm,
            (Lanes::X16, Level::Avx512) => RegisterWidth::Zmm,
        }
    }

    /// A memory operand `offset` bytes after an address.
    fn memory(&self, addr: Addr, offset: i32, regs: &Regs) -> MemoryOperand {
        let base = regs.int(addr.base).map_or(Register::None, |r| INTS[r as usize]);
        match i64::from(addr.disp) + i64::from(offset) {
            0 => MemoryOperand::with_base(base),
            // Beyond 32 bits the encoder refuses it.
            disp => MemoryOperand::with_base_displ(base, disp),
        }
    }

    fn one(&mut self, inst: &Inst, regs: &Regs) -> Result<(), AsmError> {
        match inst {
            Inst::Load { dst, addr } => {
                let width = self.width(*dst);
                for (i, &d) in regs.vector(*dst).iter().enumerate() {
                    self.load_piece(width, d, *addr, i, regs)?;
                }
            }
            Inst::Store { src, addr } if addr.float.is_half() => {
                self.store_halves(*src, *addr, None, regs)?
            }
            Inst::Store { src, addr } if addr.float == Float::U8 => {
                self.store_bytes(*src, *addr, None, regs)?
            }
            Inst::Store { src, addr } => {
                let width = self.width(*src);
                for (i, &s) in regs.vector(*src).iter().enumerate() {
                    let m = self.memory(*addr, i as i32 * width.bytes(), regs);
                    self.store(width, s, m)?;
                }
            }
            Inst::LoadPart { dst, addr, n } if u32::from(*n) == self.program.lanes(*dst).count() => {
                self.one(&Inst::Load { dst: *dst, addr: *addr }, regs)?
            }
            Inst::StorePart { src, addr, n } if u32::from(*n) == self.program.lanes(*src).count() => {
                self.one(&Inst::Store { src: *src, addr: *addr }, regs)?
            }
            Inst::LoadPart { dst, addr, n } if addr.float.is_half() => {
                self.load_part_of_halves(*dst, *addr, *n, regs)?
            }
            Inst::StorePart { src, addr, n } if addr.float.is_half() => {
                self.store_halves(*src, *addr, Some(*n), regs)?
            }
            Inst::LoadPart { dst, addr, n } if addr.float == Float::U8 => {
                self.load_part_of_bytes(*dst, *addr, *n, regs)?
            }
            Inst::StorePart { src, addr, n } if addr.float == Float::U8 => {
                self.store_bytes(*src, *addr, Some(*n), regs)?
            }
            Inst::Pack { parts, addr } => self.pack(parts, *addr, regs)?,
            Inst::LoadPart { dst, addr, n } => self.load_part(*dst, *addr, *n, regs)?,
            Inst::StorePart { src, addr, n } => self.store_part(*src, *addr, *n, regs)?,
            Inst::Splat { dst, addr } => {
                for &d in regs.vector(*dst) {
                    self.spread(self.width(*dst), d, *addr, 1, regs)?;
                }
            }
            Inst::Spread { dst, addr, n } => {
                for &d in regs.vector(*dst) {
                    self.spread(self.width(*dst), d, *addr, *n, regs)?;
                }
            }
            Inst::Fold { dst, src } => self.fold(*dst, *src, regs)?,
            Inst::Pick { dst, low, high, first } => self.pick(*dst, [*low, *high], *first, regs)?,
            Inst::Gather { dst, addr, places, among } => self.gather(*dst, *addr, *places, *among, regs)?,
            Inst::Across { op, dst, src } => self.across(*op, *dst, *src, regs)?,
            Inst::Fill { dst, src, n, bits } => self.fill(*dst, *src, *n, *bits, regs)?,
            Inst::Const { dst, bits } => {
                let width = self.width(*dst);
                for &d in regs.vector(*dst) {
                    self.constant(width, d, *bits)?;
                }
            }
            Inst::Copy { dst, src } => {
                let width = self.width(*dst);
                for (&d, &s) in regs.vector(*dst).iter().zip(regs.vector(*src)) {
                    let code = form(COPY, width, high(&[d, s]));
                    self.asm.emit(&Instruction::with2(code, width.reg(d), width.reg(s))?)?;
                }
            }
            Inst::Shl { dst, src, by } => self.with_number(SHL, *dst, *src, u32::from(*by), regs)?,
            Inst::Shr { dst, src, by } => self.with_number(SHR, *dst, *src, u32::from(*by), regs)?,
            Inst::Un { op: UnOp::Sqrt, dst, src } => {
                let width = self.width(*dst);
                for (&d, &s) in regs.vector(*dst).iter().zip(regs.vector(*src)) {
                    let code = form(SQRT, width, high(&[d, s]));
                    self.asm.emit(&Instruction::with2(code, width.reg(d), width.reg(s))?)?;
                }
            }
            Inst::Un { op: UnOp::Integer, dst, src } => {
                let width = self.width(*dst);
                for (&d, &s) in regs.vector(*dst).iter().zip(regs.vector(*src)) {
                    let code = form(bytes::TO_INTEGERS, width, high(&[d, s]));
                    self.asm.emit(&Instruction::with2(code, width.reg(d), width.reg(s))?)?;
                }
            }
            Inst::Un { op: UnOp::Number, dst, src } => {
                let width = self.width(*dst);
                for (&d, &s) in regs.vector(*dst).iter().zip(regs.vector(*src)) {
                    self.numbers(width, d, s)?;
                }
            }
            // The numbers of vroundps, without a signal that something was rounded.
            Inst::Un { op: UnOp::Nearest, dst, src } => self.with_number(ROUND, *dst, *src, 8, regs)?,
            Inst::Un { op: UnOp::Floor, dst, src } => self.with_number(ROUND, *dst, *src, 9, regs)?,
            Inst::Un { op: UnOp::Ceil, dst, src } => self.with_number(ROUND, *dst, *src, 10, regs)?,
            Inst::Sine { dst, src, cosine } => self.sine(*dst, *src, *cosine, regs)?,
            Inst::Select { test, x, y, dst, then, otherwise } => {
                self.select(*test, [*x, *y], *dst, [*then, *otherwise], regs)?
            }
            Inst::Fma { acc, a, b, .. } => self.ternary(FMA, *acc, *a, *b, regs)?,
            Inst::Dot { acc, a, b } => self.dot(*acc, *a, *b, false, regs)?,
            Inst::DotWords { acc, a, b } => self.dot(*acc, *a, *b, true, regs)?,
            Inst::DotHalves { acc, a, b } => self.dot_halves(*acc, *a, *b, regs)?,
            Inst::Translate { dst, src, table } => self.translate(*dst, *src, *table, regs)?,
            Inst::MulAdd { dst, x, add } => self.ternary(MUL_ADD, *dst, *x, *add, regs)?,
            Inst::Scale { dst, src, by } => match self.level {
                Level::Avx512 => self.ternary(SCALE, *dst, *src, Source::Reg(*by), regs)?,
                Level::Avx2 => self.scale(*dst, *src, *by, regs)?,
            },
            Inst::Bin { op, dst, a, b } => self.ternary(arithmetic(*op), *dst, *a, *b, regs)?,
            Inst::Prefetch { addr } => {
                let m = self.memory(*addr, 0, regs);
                self.asm.emit(&Instruction::with1(Code::Prefetcht1_m8, m)?)?;
            }
            Inst::Advance { ptr, bytes } => {
                if let Some(r) = regs.int(*ptr) {
                    let code =
                        if i8::try_from(*bytes).is_ok() { Code::Add_rm64_imm8 } else { Code::Add_rm64_imm32 };
                    self.asm.emit(&Instruction::with2(code, INTS[r as usize], *bytes)?)?;
                }
            }
            Inst::Lookup { dst, base, entry } => {
                if let (Some(d), Some(b)) = (regs.int(*dst), regs.int(*base)) {
                    let m = self.memory(*entry, 0, regs);
                    let (d, b) = (INTS[d as usize], INTS[b as usize]);
                    self.asm.emit(&Instruction::with2(Code::Movsxd_r64_rm32, d, m)?)?;
                    self.asm.emit(&Instruction::with2(Code::Add_rm64_r64, d, b)?)?;
                }
            }
            Inst::Configure => self.configure()?,
            Inst::Release => self.asm.emit(&Instruction::with(Code::VEX_Tilerelease))?,
            Inst::MatrixZero { dst } => {
                self.asm.emit(&Instruction::with1(Code::VEX_Tilezero_tmm, matrix::register(*dst))?)?
            }
            Inst::MatrixLoad { dst, addr, pitch } => self.load_rows(*dst, *addr, *pitch, regs)?,
            Inst::MatrixDot { acc, a, b, products } => self.dot_of_rows(*acc, [*a, *b], *products)?,
            Inst::MatrixStore { src, addr, pitch } => self.store_rows(*src, *addr, *pitch, regs)?,
            Inst::Loop { .. } => {}
        }
        Ok(())
    }

    /// An instruction with a result, a source, and a number.
    fn with_number(
        &mut self,
        forms: Forms,
        dst: Vector,
        src: Vector,
        number: u32,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        for (&d, &s) in regs.vector(dst).iter().zip(regs.vector(src)) {
            let code = form(forms, width, high(&[d, s]));
            self.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(s), number)?)?;
        }
        Ok(())
    }

    /// A comparison and what follows from it.
    fn select(
        &mut self,
        test: Test,
        [x, y]: [Vector; 2],
        dst: Vector,
        [then, otherwise]: [Vector; 2],
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        // Ordered, and quiet about NaN.
        let number = match test {
            Test::Less => 0x11,
            Test::LessOrEqual => 0x12,
            Test::Equal => 0x00,
        };
        for (i, &d) in regs.vector(dst).iter().enumerate() {
            let piece = |v: Vector| regs.vector(v).get(i).map(|&r| width.reg(r));
            let (Some(x), Some(y), Some(then), Some(otherwise)) =
                (piece(x), piece(y), piece(then), piece(otherwise))
            else {
                continue;
            };
            let d = width.reg(d);
            match (self.level, regs.temps().first()) {
                (Level::Avx512, _) => {
                    let (compare, blend) = match width {
                        RegisterWidth::Xmm => (
                            Code::EVEX_Vcmpps_kr_k1_xmm_xmmm128b32_imm8,
                            Code::EVEX_Vblendmps_xmm_k1z_xmm_xmmm128b32,
                        ),
                        RegisterWidth::Ymm => (
                            Code::EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8,
                            Code::EVEX_Vblendmps_ymm_k1z_ymm_ymmm256b32,
                        ),
                        RegisterWidth::Zmm => (
                            Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae,
                            Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32,
                        ),
                    };
                    self.asm.emit(&Instruction::with4(compare, COMPARED, x, y, number)?)?;
                    let mut inst = Instruction::with3(blend, d, otherwise, then)?;
                    inst.set_op_mask(COMPARED);
                    self.asm.emit(&inst)?;
                }
                (Level::Avx2, Some(&t)) => {
                    let t = width.reg(t);
                    let (compare, blend) = match width {
                        RegisterWidth::Xmm => {
                            (Code::VEX_Vcmpps_xmm_xmm_xmmm128_imm8, Code::VEX_Vblendvps_xmm_xmm_xmmm128_xmm)
                        }
                        RegisterWidth::Ymm | RegisterWidth::Zmm => {
                            (Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm)
                        }
                    };
                    self.asm.emit(&Instruction::with4(compare, t, x, y, number)?)?;
                    self.asm.emit(&Instruction::with4(blend, d, otherwise, then, t)?)?;
                }
                (Level::Avx2, None) => {}
            }
        }
        Ok(())
    }

    /// Sums of neighbouring lanes. `dst` may share registers with `src`: it is written last.
    fn fold(&mut self, dst: Vector, src: Vector, regs: &Regs) -> Result<(), AsmError> {
        let width = self.width(src);
        let (&[d], Some(&t)) = (regs.vector(dst), regs.temps().first()) else { return Ok(()) };
        let (rd, rt) = (width.reg(d), width.reg(t));
        match (regs.vector(src), self.level) {
            // Odd lanes beside even ones; then the even sums move together.
            (&[s], Level::Avx512) => {
                let (copy, compress) = match width {
                    RegisterWidth::Zmm => {
                        (Code::EVEX_Vmovshdup_zmm_k1z_zmmm512, Code::EVEX_Vcompressps_zmmm512_k1z_zmm)
                    }
                    _ => (Code::EVEX_Vmovshdup_ymm_k1z_ymmm256, Code::EVEX_Vcompressps_ymmm256_k1z_ymm),
                };
                let rs = width.reg(s);
                self.asm.emit(&Instruction::with2(copy, rt, rs)?)?;
                let add = form(arithmetic(BinOp::Add), width, high(&[s, t]));
                self.asm.emit(&Instruction::with3(add, rt, rs, rt)?)?;
                let mut inst = Instruction::with2(compress, rd, rt)?;
                inst.set_op_mask(self.mask(EVEN_LANES));
                inst.set_zeroing_masking(true);
                self.asm.emit(&inst)
            }
            // Horizontal sums come within halves of 128 bits, alternating where there are two sources.
            (&[s], Level::Avx2) => self.fold_halves(d, s, s, t),
            (&[low, high], Level::Avx2) => self.fold_halves(d, low, high, t),
            _ => Ok(()),
        }
    }

    fn fold_halves(&mut self, d: u8, low: u8, high: u8, t: u8) -> Result<(), AsmError> {
        let [d, low, high, t] = [d, low, high, t].map(|r| RegisterWidth::Ymm.reg(r));
        self.asm.emit(&Instruction::with3(Code::VEX_Vhaddps_ymm_ymm_ymmm256, t, low, high)?)?;
        self.asm.emit(&Instruction::with3(Code::VEX_Vpermpd_ymm_ymmm256_imm8, d, t, 0b11_01_10_00)?)
    }

    /// Every second lane of two registers. `dst` may share registers with them: it is written last.
    fn pick(
        &mut self,
        dst: Vector,
        [low, high]: [Vector; 2],
        first: u8,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        let both = [regs.vector(low), regs.vector(high)].concat();
        let pieces: Vec<(u8, u8)> =
            regs.vector(dst).iter().copied().zip(regs.temps().iter().copied()).collect();
        for (pair, &(_, t)) in both.chunks_exact(2).zip(&pieces) {
            let [t, low, high] = [t, pair[0], pair[1]].map(|r| width.reg(r));
            match width {
                RegisterWidth::Zmm => {
                    let places: Vec<u32> = (0..16).map(|lane| 2 * lane + u32::from(first)).collect();
                    self.asm.emit_literals(&places, |m| Instruction::with2(form(LOAD, width, true), t, m))?;
                    let code = Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32;
                    self.asm.emit(&Instruction::with3(code, t, low, high)?)?;
                }
                // Two lanes of each, in each half of 128 bits.
                _ => {
                    let lanes = if first == 0 { 0b10_00_10_00 } else { 0b11_01_11_01 };
                    let evex = self::high(&[pair[0], pair[1]]) || pieces.iter().any(|p| p.1 >= 16);
                    let code = form(SHUFFLE, width, evex);
                    self.asm.emit(&Instruction::with4(code, t, low, high, lanes)?)?;
                }
            }
        }
        for &(d, t) in &pieces {
            let (code, order) = match width {
                RegisterWidth::Ymm if self::high(&[d, t]) => {
                    (Code::EVEX_Vpermpd_ymm_k1z_ymmm256b64_imm8, Some(0b11_01_10_00))
                }
                RegisterWidth::Ymm => (Code::VEX_Vpermpd_ymm_ymmm256_imm8, Some(0b11_01_10_00)),
                _ => (form(COPY, width, self::high(&[d, t])), None),
            };
            let (d, t) = (width.reg(d), width.reg(t));
            self.asm.emit(&match order {
                Some(order) => Instruction::with3(code, d, t, order)?,
                None => Instruction::with2(code, d, t)?,
            })?;
        }
        Ok(())
    }

    /// All lanes as one, in every lane: halves of 512, 256, 128 and 64 bits, then two lanes. `dst` may share registers with `src`,
    /// which is read once, and is where the upper halves go.
    fn across(&mut self, op: BinOp, dst: Vector, src: Vector, regs: &Regs) -> Result<(), AsmError> {
        let (&[d, ..], Some(&t)) = (regs.vector(dst), regs.temps().first()) else { return Ok(()) };
        let (mut all, mut width) = match *regs.vector(src) {
            [one] => (one, self.width(src)),
            [low, high] => {
                self.apply(op, RegisterWidth::Ymm, t, low, high)?;
                (t, RegisterWidth::Ymm)
            }
            _ => return Ok(()),
        };
        // The upper half of what is in `all` goes to `t` as long as `all` is the source, which has to stay.
        while width != RegisterWidth::Xmm {
            let upper = if all == t { d } else { t };
            let (code, half) = match width {
                RegisterWidth::Zmm => (Code::EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8, RegisterWidth::Ymm),
                _ if high(&[all, upper]) => {
                    (Code::EVEX_Vextractf32x4_xmmm128_k1z_ymm_imm8, RegisterWidth::Xmm)
                }
                _ => (Code::VEX_Vextractf128_xmmm128_ymm_imm8, RegisterWidth::Xmm),
            };
            self.asm.emit(&Instruction::with3(code, half.reg(upper), width.reg(all), 1)?)?;
            self.apply(op, half, t, all, upper)?;
            (all, width) = (t, half);
        }
        for order in [0b11_10_11_10, 0b01_01_01_01] {
            let upper = if all == t { d } else { t };
            let code = form(PERMUTE, RegisterWidth::Xmm, high(&[all, upper]));
            self.asm.emit(&Instruction::with3(
                code,
                RegisterWidth::Xmm.reg(upper),
                RegisterWidth::Xmm.reg(all),
                order,
            )?)?;
            self.apply(op, RegisterWidth::Xmm, t, all, upper)?;
            all = t;
        }
        let width = self.width(dst);
        for &d in regs.vector(dst) {
            let code = form(SPLAT_REGISTER, width, high(&[d, all]));
            self.asm.emit(&Instruction::with2(code, width.reg(d), RegisterWidth::Xmm.reg(all))?)?;
        }
        Ok(())
    }

    fn apply(&mut self, op: BinOp, width: RegisterWidth, d: u8, a: u8, b: u8) -> Result<(), AsmError> {
        let code = form(arithmetic(op), width, high(&[d, a, b]));
        self.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(a), width.reg(b))?)
    }

    /// The first lanes of a register, and a constant in the others.
    fn fill(&mut self, dst: Vector, src: Vector, n: u8, bits: u32, regs: &Regs) -> Result<(), AsmError> {
        let width = self.width(dst);
        let lanes = width.bytes() / 4;
        for (i, (&d, &s)) in regs.vector(dst).iter().zip(regs.vector(src)).enumerate() {
            let kept = (i32::from(n) - lanes * i as i32).clamp(0, lanes);
            if kept == 0 {
                self.constant(width, d, bits)?;
                continue;
            }
            match regs.temps().first() {
                Some(&t) if kept < lanes => {
                    self.constant(width, t, bits)?;
                    let code = match width {
                        RegisterWidth::Xmm => Code::VEX_Vblendps_xmm_xmm_xmmm128_imm8,
                        RegisterWidth::Ymm | RegisterWidth::Zmm => Code::VEX_Vblendps_ymm_ymm_ymmm256_imm8,
                    };
                    let from_constant = (0xffu32 << kept) & ((1 << lanes) - 1);
                    let [d, s, t] = [d, s, t].map(|r| width.reg(r));
                    self.asm.emit(&Instruction::with4(code, d, s, t, from_constant)?)?;
                }
                _ => {
                    if d != s {
                        let code = form(COPY, width, high(&[d, s]));
                        self.asm.emit(&Instruction::with2(code, width.reg(d), width.reg(s))?)?;
                    }
                    if kept < lanes {
                        let mask = self.mask(!first_lanes(n));
                        let code = form(SPLAT, width, true);
                        self.asm.emit_literal(bits, |m| {
                            let mut inst = Instruction::with2(code, width.reg(d), m)?;
                            inst.set_op_mask(mask);
                            Ok(inst)
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The `piece`-th machine register of a vector register from memory.
    fn load_piece(
        &mut self,
        width: RegisterWidth,
        d: u8,
        addr: Addr,
        piece: usize,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let bytes = width.bytes() / 4 * addr.float.bytes() as i32;
        let m = self.memory(addr, piece as i32 * bytes, regs);
        match addr.float {
            Float::F32 => self.load(width, d, m),
            half @ (Float::F16 | Float::Bf16) => self.load_halves(half, width, d, m),
            Float::U8 => self.load_bytes(width, d, m),
        }
    }

    /// `n` floats (1, 2 or 4) from memory over and over in all lanes of a machine register.
    fn spread(
        &mut self,
        width: RegisterWidth,
        d: u8,
        addr: Addr,
        n: u8,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let m = self.memory(addr, 0, regs);
        let forms = match (addr.float, n) {
            (half @ (Float::F16 | Float::Bf16), _) => return self.spread_halves(half, width, d, m, n),
            (Float::U8, _) => return self.spread_bytes(width, d, m, n),
            (Float::F32, 1) => SPLAT,
            (Float::F32, 2) => SPREAD_TWO,
            (Float::F32, _) => SPREAD_FOUR,
        };
        self.asm.emit(&Instruction::with2(form(forms, width, high(&[d])), width.reg(d), m)?)
    }

    fn load(&mut self, width: RegisterWidth, d: u8, m: MemoryOperand) -> Result<(), AsmError> {
        let code = form(LOAD, width, high(&[d]));
        self.asm.emit(&Instruction::with2(code, width.reg(d), m)?)
    }

    fn store(&mut self, width: RegisterWidth, s: u8, m: MemoryOperand) -> Result<(), AsmError> {
        let code = form(STORE, width, high(&[s]));
        self.asm.emit(&Instruction::with2(code, m, width.reg(s))?)
    }

    fn constant(&mut self, width: RegisterWidth, d: u8, bits: u32) -> Result<(), AsmError> {
        if bits == 0 {
            // Clearing the low 128 bits clears all, in the shortest encoding.
            let (width, evex) = if high(&[d]) { (width, true) } else { (RegisterWidth::Xmm, false) };
            let r = width.reg(d);
            return self.asm.emit(&Instruction::with3(form(XOR, width, evex), r, r, r)?);
        }
        if let Some(s) = self.literal(bits) {
            let code = form(COPY, width, high(&[d, s]));
            return self.asm.emit(&Instruction::with2(code, width.reg(d), width.reg(s))?);
        }
        let code = form(SPLAT, width, high(&[d]));
        self.asm.emit_literal(bits, |m| Instruction::with2(code, width.reg(d), m))
    }

    /// A product with a power of two, by two of them: see [`scale`](super::scale).
    fn scale(&mut self, dst: Vector, src: Vector, by: Vector, regs: &Regs) -> Result<(), AsmError> {
        let width = self.width(dst);
        let &[low, high] = regs.temps() else { return Ok(()) };
        let [half, first, second] = CONSTANTS.map(f32::to_bits);
        for (i, &d) in regs.vector(dst).iter().enumerate() {
            let (Some(&x), Some(&n)) = (regs.vector(src).get(i), regs.vector(by).get(i)) else { continue };
            let three = |e: &mut Self, forms: Forms, d: u8, a: u8, b: u8| {
                let code = form(forms, width, self::high(&[d, a, b]));
                e.asm.emit(&Instruction::with3(code, width.reg(d), width.reg(a), width.reg(b))?)
            };
            self.constant(width, low, first)?;
            self.constant(width, high, half)?;
            three(self, FMA, low, n, high)?;
            self.constant(width, high, second)?;
            three(self, arithmetic(BinOp::Add), high, n, high)?;
            three(self, SUB_INTEGERS, high, high, low)?;
            for r in [low, high] {
                let code = form(SHL, width, self::high(&[r]));
                self.asm.emit(&Instruction::with3(code, width.reg(r), width.reg(r), 23)?)?;
            }
            three(self, arithmetic(BinOp::Mul), d, x, low)?;
            three(self, arithmetic(BinOp::Mul), d, d, high)?;
        }
        Ok(())
    }

    /// An instruction with a result (and, for `fma`, summand or factor) and two sources.
    fn ternary(
        &mut self,
        forms: Forms,
        dst: Vector,
        a: Vector,
        b: Source,
        regs: &Regs,
    ) -> Result<(), AsmError> {
        let width = self.width(dst);
        let literal = if let Source::Imm(bits) = b { self.literal(bits) } else { None };
        let scratch = literal.or(regs.temps().first().copied());
        match (b, scratch) {
            (Source::Imm(_), Some(_)) if literal.is_some() => {}
            (Source::Splat(addr), Some(t)) => self.spread(width, t, addr, 1, regs)?,
            (Source::Imm(bits), Some(t)) => self.constant(width, t, bits)?,
            _ => {}
        }
        for (i, (&d, &a)) in regs.vector(dst).iter().zip(regs.vector(a)).enumerate() {
            let (rd, ra) = (width.reg(d), width.reg(a));
            match (b, scratch) {
                (Source::Reg(b), _) => {
                    if let Some(&b) = regs.vector(b).get(i) {
                        let code = form(forms, width, high(&[d, a, b]));
                        self.asm.emit(&Instruction::with3(code, rd, ra, width.reg(b))?)?;
                    }
                }
                (Source::Mem(addr), Some(t)) => {
                    self.load_piece(width, t, addr, i, regs)?;
                    let code = form(forms, width, high(&[d, a, t]));
                    self.asm.emit(&Instruction::with3(code, rd, ra, width.reg(t))?)?;
                }
                (Source::Mem(addr), None) => {
                    let m = self.memory(addr, i as i32 * width.bytes(), regs);
                    let code = form(forms, width, high(&[d, a]));
                    self.asm.emit(&Instruction::with3(code, rd, ra, m)?)?;
                }
                (Source::Splat(_) | Source::Imm(_), Some(t)) => {
                    let code = form(forms, width, high(&[d, a, t]));
                    self.asm.emit(&Instruction::with3(code, rd, ra, width.reg(t))?)?;
                }
                (Source::Splat(addr), None) => {
                    let m = broadcast(self.memory(addr, 0, regs));
                    self.asm.emit(&Instruction::with3(form(forms, width, true), rd, ra, m)?)?;
                }
                (Source::Imm(bits), None) => {
                    let code = form(forms, width, true);
                    self.asm.emit_literal(bits, |m| Instruction::with3(code, rd, ra, broadcast(m)))?;
                }
            }
        }
        Ok(())
    }

    fn mask(&self, mask: u16) -> Register {
        let i = self.masks.iter().position(|m| *m == mask).unwrap_or(0);
        Register::K1 + i as u32
    }

    fn load_part(&mut self, dst: Vector, addr: Addr, n: u8, regs: &Regs) -> Result<(), AsmError> {
        let width = self.width(dst);
        if self.level == Level::Avx512 {
            for &d in regs.vector(dst) {
                let m = self.memory(addr, 0, regs);
                let mut inst = Instruction::with2(form(LOAD, width, true), width.reg(d), m)?;
                inst.set_op_mask(self.mask(first_lanes(n)));
                inst.set_zeroing_masking(true);
                self.asm.emit(&inst)?;
            }
            return Ok(());
        }
        let scratch = regs.temps().first().copied();
        let mut left = i32::from(n);
        for (i, &d) in regs.vector(dst).iter().enumerate() {
            let at = i as i32 * width.bytes();
            match (left, scratch) {
                (..=0, _) => self.constant(width, d, 0)?,
                (1..=4, _) => self.load_low(d, addr, at, left, regs)?,
                (5..=7, Some(t)) => {
                    self.load_low(d, addr, at, 4, regs)?;
                    self.load_low(t, addr, at + 16, left - 4, regs)?;
                    let (y, x) = (RegisterWidth::Ymm.reg(d), RegisterWidth::Xmm.reg(t));
                    self.asm.emit(&Instruction::with4(
                        Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8,
                        y,
                        y,
                        x,
                        1,
                    )?)?;
                }
                _ => {
                    let m = self.memory(addr, at, regs);
                    self.load(width, d, m)?;
                }
            }
            left -= 8;
        }
        Ok(())
    }

    fn store_part(&mut self, src: Vector, addr: Addr, n: u8, regs: &Regs) -> Result<(), AsmError> {
        let width = self.width(src);
        if self.level == Level::Avx512 {
            for &s in regs.vector(src) {
                let m = self.memory(addr, 0, regs);
                let mut inst = Instruction::with2(form(STORE, width, true), m, width.reg(s))?;
                inst.set_op_mask(self.mask(first_lanes(n)));
                self.asm.emit(&inst)?;
            }
            return Ok(());
        }
        let scratch = regs.temps().first().copied();
        let mut left = i32::from(n);
        for (i, &s) in regs.vector(src).iter().enumerate() {
            let at = i as i32 * width.bytes();
            match (left, scratch) {
                (..=0, _) => {}
                (1..=4, _) => self.store_low(s, addr, at, left, regs)?,
                (5..=7, Some(t)) => {
                    let (x, y) = (RegisterWidth::Xmm.reg(t), RegisterWidth::Ymm.reg(s));
                    self.asm.emit(&Instruction::with3(Code::VEX_Vextractf128_xmmm128_ymm_imm8, x, y, 1)?)?;
                    self.store_low(s, addr, at, 4, regs)?;
                    self.store_low(t, addr, at + 16, left - 4, regs)?;
                }
                _ => {
                    let m = self.memory(addr, at, regs);
                    self.store(width, s, m)?;
                }
            }
            left -= 8;
        }
        Ok(())
    }

    /// The first `n` lanes (1 to 4) of an xmm register from memory, the rest cleared.
    fn load_low(&mut self, d: u8, addr: Addr, at: i32, n: i32, regs: &Regs) -> Result<(), AsmError> {
        let (x, m) = (RegisterWidth::Xmm.reg(d), self.memory(addr, at, regs));
        match n {
            1 => self.asm.emit(&Instruction::with2(Code::VEX_Vmovss_xmm_m32, x, m)?),
            2 => self.asm.emit(&Instruction::with2(Code::VEX_Vmovsd_xmm_m64, x, m)?),
            3 => {
                self.asm.emit(&Instruction::with2(Code::VEX_Vmovsd_xmm_m64, x, m)?)?;
                let third = self.memory(addr, at + 8, regs);
                // Memory into lane 2, nothing cleared.
                let inst = Instruction::with4(Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8, x, x, third, 0x20)?;
                self.asm.emit(&inst)
            }
            _ => self.load(RegisterWidth::Xmm, d, m),
        }
    }

    /// The first `n` lanes (1 to 4) of an xmm register to memory.
    fn store_low(&mut self, s: u8, addr: Addr, at: i32, n: i32, regs: &Regs) -> Result<(), AsmError> {
        let (x, m) = (RegisterWidth::Xmm.reg(s), self.memory(addr, at, regs));
        match n {
            1 => self.asm.emit(&Instruction::with2(Code::VEX_Vmovss_m32_xmm, m, x)?),
            2 => self.asm.emit(&Instruction::with2(Code::VEX_Vmovlps_m64_xmm, m, x)?),
            3 => {
                self.asm.emit(&Instruction::with2(Code::VEX_Vmovlps_m64_xmm, m, x)?)?;
                let third = self.memory(addr, at + 8, regs);
                self.asm.emit(&Instruction::with3(Code::VEX_Vextractps_rm32_xmm_imm8, third, x, 2)?)
            }
            _ => self.store(RegisterWidth::Xmm, s, m),
        }
    }
}

/// The same memory operand as an embedded broadcast of one f32.
fn broadcast(mut m: MemoryOperand) -> MemoryOperand {
    m.is_broadcast = true;
    m
}
