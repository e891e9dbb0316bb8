//! A block of a depthwise convolution: a few output rows and columns, channels in lanes.
//!
//! Each input vector is loaded once and multiplied into every output that it touches; the weights are registers as
//! far as they fit ([`WeightPlace`]). A call computes several blocks, along a row or across channels ([`Along`]).
//!
//! # Numeric contract
//!
//! An output is `bias` plus its products in the order kernel row, kernel column, each added by one fused multiply-add
//! where the target has it; without a bias the first product is where the sum starts. Elements of the kernel outside
//! the image contribute nothing. The result does not depend on the block that computes it.
//!
//! # Parameters, in this order, those not needed left out
//!
//! | role | meaning |
//! |---|---|
//! | `Input` | where kernel element (0, 0) of the first output lies, perhaps outside the image |
//! | `Weights` | `[ky][kx][lanes]`, all of the kernel |
//! | `Output` | the first output |
//! | `Tiles` | number of blocks; if [`PixelBlock::tiles`] > 1 |
//! | `Scale`, `Shift` | `[lanes]`; if the prologue is affine |
//! | `Bias` | `[lanes]`; if the epilogue has a bias |
//! | `Factor`, `Addend` | `[lanes]`; if the epilogue rescales, and adds |
//! | `Residual` | as `Output`; if the epilogue has a residual |

use std::collections::BTreeSet;

use super::super::error::TileError;
use super::super::ir::{
    Builder, Inst, Int, Lanes, ParamKind, ParamRole, Source, TileProgram, UnOp, Vector, at,
};
use super::Displacements;
use super::epilogue::{KernelEpilogue, KernelResidual};
use super::rescale::LanesAt;
use super::window::{self, Along, InputVectors, KernelPrologue, PixelBlock};
use crate::target::Target;

/// Where the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WeightPlace {
    /// All in registers, loaded once per call or once per vector of channels: best for 3×3.
    Held,
    /// Those of the kernel rows in use in registers, loaded again for each block: 5×5 and 7×7.
    Rows,
    /// Operands in memory: for register files that are too small for more.
    Memory,
}

/// A block of a depthwise convolution; see the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseTile {
    /// The outputs and what they see.
    pub block: PixelBlock,
    /// Where the weights are.
    pub weights: WeightPlace,
    /// Bytes from one pixel of the residual to the next.
    pub residual_pixel: i32,
    /// Bytes from one row of the residual to the next.
    pub residual_row: i32,
    /// What happens to the input.
    pub prologue: KernelPrologue,
    /// What happens before the store.
    pub epilogue: KernelEpilogue,
}

impl DepthwiseTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let PixelBlock { rows, cols, kernel: (kh, kw), stride, .. } = &self.block;
        let (rows, cols, stride, epilogue) = (rows.len(), cols.len(), stride.1, self.epilogue.word());
        let floats = self.block.floats.word();
        format!("depthwise_{floats}_{rows}x{cols}_k{kh}x{kw}s{stride}{epilogue}")
    }

    /// The same block with its weights where the target does best, the first of [`WeightPlace`] that fits its registers, and
    /// its program.
    /// A Cranelift target spills what does not fit, so there it counts the registers of the architecture.
    pub fn fitted(mut self, target: &Target) -> Result<(DepthwiseTile, TileProgram), TileError> {
        let inputs = self.block.inputs();
        for weights in [WeightPlace::Held, WeightPlace::Rows] {
            self.weights = weights;
            if weights == WeightPlace::Held
                && self.held_at_once(&inputs) > registers(target, self.block.lanes)
            {
                continue;
            }
            let program = self.program_over(&inputs)?;
            if super::super::fits_registers(&program, target).is_ok() {
                return Ok((self, program));
            }
        }
        self.weights = WeightPlace::Memory;
        let program = self.program_over(&inputs)?;
        super::super::fits_registers(&program, target)?;
        Ok((self, program))
    }

    /// Vectors that are live at once, at least, where all weights are held: these, the sums, and an input.
    fn held_at_once(&self, inputs: &InputVectors) -> usize {
        let weights: BTreeSet<(u32, u32)> =
            inputs.iter().flat_map(|(_, uses)| uses).map(|u| (u.ky, u.kx)).collect();
        weights.len() + self.block.outputs() + 1
    }

    /// The program.
    pub fn program(&self) -> Result<TileProgram, TileError> {
        self.program_over(&self.block.inputs())
    }

    fn program_over(&self, inputs: &InputVectors) -> Result<TileProgram, TileError> {
        let block = &self.block;
        block.check(&self.name())?;
        let (lanes, used) = (block.lanes, block.used);
        let vector = i64::from(lanes.bytes());
        let mut displacements = Displacements::default();
        let mut b = Builder::new(self.name());
        let kernel_bytes = vector * i64::from(block.kernel.0) * i64::from(block.kernel.1);
        let input = b.param(ParamRole::Input, ParamKind::Read { range: block.input_range(inputs) });
        let range = block.parameter_range(kernel_bytes, kernel_bytes);
        let weights = b.param(ParamRole::Weights, ParamKind::Read { range });
        let output_range = block.output_range(block.c_pixel, block.c_row, block.floats.output);
        let output = b.param(ParamRole::Output, ParamKind::Write { range: output_range });
        let tiles = block.count(&mut b);
        let prologue = self.prologue.params(&mut b, block.parameter_range(vector, 4 * i64::from(used)));
        let range = block.parameter_range(vector, vector);
        let bias = self.epilogue.bias.then(|| b.param(ParamRole::Bias, ParamKind::Read { range }));
        let rescale = self
            .epilogue
            .rescale
            .map(|rescale| (rescale, rescale.params(&mut b, block.parameter_range(vector, vector))));
        let residual = (self.epilogue.residual != KernelResidual::None).then(|| {
            let float = block.floats.residual;
            let range = block.output_range(self.residual_pixel, self.residual_row, float);
            b.param(ParamRole::Residual, ParamKind::Read { range })
        });

        // What is the same for all blocks of a call is loaded in front of their loop.
        if block.along == Along::Channels {
            b.begin();
        }
        let prepared = self.prologue.begin(&mut b, prologue, 0, lanes, used);
        let mut kernel = KernelRegisters {
            held: vec![None; (block.kernel.0 * block.kernel.1) as usize],
            base: weights,
            tile: self,
        };
        if self.weights == WeightPlace::Held {
            kernel.load_all(&mut b, inputs);
        }
        if block.along == Along::Columns {
            b.begin();
        }
        // A sum that began with its first product would be -0 where all products are.
        let sums: Vec<Vector> = match bias {
            Some(bias) => {
                let first = b.load(lanes, lanes.count(), at(bias, 0));
                let copies = (1..block.outputs()).map(|_| window::copy(&mut b, first));
                std::iter::once(first).chain(copies).collect()
            }
            None => (0..block.outputs()).map(|_| b.constant(lanes, 0.0)).collect(),
        };
        for (disp, uses) in inputs.iter() {
            let x =
                prepared.load(&mut b, lanes, used, at(input, displacements.get(disp)).of(block.floats.input));
            for u in uses {
                let w = kernel.operand(&mut b, u.ky, u.kx);
                b.fma(sums[u.output], x, w);
            }
        }
        let constants = self.epilogue.begin(&mut b, lanes);
        for (i, sum) in sums.into_iter().enumerate() {
            let residual = residual.map(|base| {
                let disp = block.output_disp(i, self.residual_pixel, self.residual_row);
                (at(base, displacements.get(disp)).of(block.floats.residual), used)
            });
            if let Some((rescale, params)) = rescale {
                let place = |base: Int| LanesAt::Memory(at(base, 0));
                rescale.apply(&mut b, sum, place(params.factor), params.addend.map(place));
            }
            self.epilogue.apply(&mut b, constants, sum, residual);
            if self.epilogue.sums {
                b.push(Inst::Un { op: UnOp::Integer, dst: sum, src: sum });
            }
            let disp = block.output_disp(i, block.c_pixel, block.c_row);
            b.store(sum, used, at(output, displacements.get(disp)).of(block.floats.output));
        }
        if block.tiles > 1 {
            let output_step = block.output_step(block.c_pixel, block.floats.output);
            let mut steps = vec![(input, block.input_step()), (output, output_step)];
            let residual_step = block.output_step(self.residual_pixel, block.floats.residual);
            steps.extend(residual.map(|r| (r, residual_step)));
            steps.push((weights, block.parameter_step(kernel_bytes)));
            let parameters = bias.into_iter().chain(prologue.into_iter().flat_map(|(a, b)| [a, b]));
            let rescaled = rescale.into_iter().flat_map(|(_, params)| [Some(params.factor), params.addend]);
            let parameters = parameters.chain(rescaled.flatten());
            steps.extend(parameters.map(|p| (p, block.parameter_step(vector))));
            window::step(&mut b, &mut displacements, &steps);
        }
        b.end(tiles);
        displacements.check(&self.name())?;
        Ok(b.finish())
    }
}

/// How many vectors of so many lanes the registers of a target hold.
fn registers(target: &Target, lanes: Lanes) -> usize {
    let pieces = lanes.count().div_ceil(target.isa.lanes());
    (target.isa.registers(target.arch) / pieces) as usize
}

/// The weights that have been loaded, by kernel element.
struct KernelRegisters<'a> {
    held: Vec<Option<Vector>>,
    base: Int,
    tile: &'a DepthwiseTile,
}

impl KernelRegisters<'_> {
    fn element(&self, ky: u32, kx: u32) -> usize {
        (ky * self.tile.block.kernel.1 + kx) as usize
    }

    /// Loads every weight that some output uses.
    fn load_all(&mut self, b: &mut Builder, inputs: &InputVectors) {
        for (_, uses) in inputs.iter() {
            uses.iter().for_each(|u| {
                self.operand(b, u.ky, u.kx);
            });
        }
    }

    /// A weight: a register, loaded at its first use, or memory.
    fn operand(&mut self, b: &mut Builder, ky: u32, kx: u32) -> Source {
        let (i, lanes) = (self.element(ky, kx), self.tile.block.lanes);
        let addr = at(self.base, i as i32 * lanes.bytes());
        if self.tile.weights == WeightPlace::Memory {
            return Source::Mem(addr);
        }
        let w = match self.held[i] {
            Some(w) => w,
            None => b.load(lanes, lanes.count(), addr),
        };
        self.held[i] = Some(w);
        Source::Reg(w)
    }
}

/// The weights of one vector of channels, `[ky][kx][lane]`, zero in lanes without a channel.
pub fn pack(
    window_lanes: u32,
    used: u32,
    kernel: (u32, u32),
    weight: impl Fn(u32, u32, u32) -> f32,
) -> Vec<f32> {
    let mut packed = Vec::new();
    for ky in 0..kernel.0 {
        for kx in 0..kernel.1 {
            packed.extend((0..window_lanes).map(|c| if c < used { weight(c, ky, kx) } else { 0.0 }));
        }
    }
    packed
}
