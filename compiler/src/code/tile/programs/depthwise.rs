//! A block of a depthwise convolution: a few output rows and columns, channels in lanes.
//!
//! Each input vector is loaded once and multiplied into every output that it touches; the weights are registers as
//! far as they fit ([`Weights`]). A call computes several blocks, along a row or across channels ([`Along`]).
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
//! | `Tiles` | number of blocks; if [`Window::tiles`] > 1 |
//! | `Scale`, `Shift` | `[lanes]`; if the prologue is affine |
//! | `Bias` | `[lanes]`; if the epilogue has a bias |
//! | `Residual` | as `Output`; if the epilogue has a residual |

use super::super::error::TileError;
use super::super::ir::{Builder, Int, Kind, Operand, Program, Role, Vector, at};
use super::Displacements;
use super::epilogue::{Epilogue, Residual};
use super::window::{self, Along, Inputs, Prologue, Window};
use crate::target::Target;

/// Where the weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weights {
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
    pub window: Window,
    /// Where the weights are.
    pub weights: Weights,
    /// Bytes from one pixel of the residual to the next.
    pub residual_pixel: i32,
    /// Bytes from one row of the residual to the next.
    pub residual_row: i32,
    /// What happens to the input.
    pub prologue: Prologue,
    /// What happens before the store.
    pub epilogue: Epilogue,
}

impl DepthwiseTile {
    /// A name that tells kernels apart for people.
    pub fn name(&self) -> String {
        let Window { rows, cols, kernel: (kh, kw), stride, .. } = &self.window;
        let (rows, cols, stride, epilogue) = (rows.len(), cols.len(), stride.1, self.epilogue.word());
        let floats = self.window.floats.word();
        format!("depthwise_{floats}_{rows}x{cols}_k{kh}x{kw}s{stride}{epilogue}")
    }

    /// The same block with its weights where the target does best, the first of [`Weights`] that fits its registers, and
    /// its program.
    /// A Cranelift target spills what does not fit, so there it counts the registers of the architecture.
    pub fn fitted(mut self, target: &Target) -> Result<(DepthwiseTile, Program), TileError> {
        let inputs = self.window.inputs();
        for weights in [Weights::Held, Weights::Rows] {
            self.weights = weights;
            let program = self.program_over(&inputs)?;
            if super::super::fits_registers(&program, target).is_ok() {
                return Ok((self, program));
            }
        }
        self.weights = Weights::Memory;
        let program = self.program_over(&inputs)?;
        super::super::fits_registers(&program, target)?;
        Ok((self, program))
    }

    /// The program.
    pub fn program(&self) -> Result<Program, TileError> {
        self.program_over(&self.window.inputs())
    }

    fn program_over(&self, inputs: &Inputs) -> Result<Program, TileError> {
        let window = &self.window;
        window.check(&self.name())?;
        let (lanes, used) = (window.lanes, window.used);
        let vector = i64::from(lanes.bytes());
        let mut displacements = Displacements::default();
        let mut b = Builder::new(self.name());
        let kernel_bytes = vector * i64::from(window.kernel.0) * i64::from(window.kernel.1);
        let input = b.param(Role::Input, Kind::Read { extent: window.input_extent(inputs) });
        let extent = window.parameter_extent(kernel_bytes, kernel_bytes);
        let weights = b.param(Role::Weights, Kind::Read { extent });
        let output_extent = window.output_extent(window.c_pixel, window.c_row, window.floats.output);
        let output = b.param(Role::Output, Kind::Write { extent: output_extent });
        let tiles = window.count(&mut b);
        let prologue = self.prologue.params(&mut b, window.parameter_extent(vector, 4 * i64::from(used)));
        let extent = window.parameter_extent(vector, vector);
        let bias = self.epilogue.bias.then(|| b.param(Role::Bias, Kind::Read { extent }));
        let residual = (self.epilogue.residual != Residual::None).then(|| {
            let float = window.floats.residual;
            let extent = window.output_extent(self.residual_pixel, self.residual_row, float);
            b.param(Role::Residual, Kind::Read { extent })
        });

        // What is the same for all blocks of a call is loaded in front of their loop.
        if window.along == Along::Channels {
            b.begin();
        }
        let prepared = self.prologue.begin(&mut b, prologue, 0, lanes, used);
        let mut kernel = KernelRegisters {
            held: vec![None; (window.kernel.0 * window.kernel.1) as usize],
            base: weights,
            tile: self,
        };
        if self.weights == Weights::Held {
            kernel.load_all(&mut b, inputs);
        }
        if window.along == Along::Columns {
            b.begin();
        }
        // A sum that began with its first product would be -0 where all products are.
        let sums: Vec<Vector> = match bias {
            Some(bias) => {
                let first = b.load(lanes, lanes.count(), at(bias, 0));
                let copies = (1..window.outputs()).map(|_| window::copy(&mut b, first));
                std::iter::once(first).chain(copies).collect()
            }
            None => (0..window.outputs()).map(|_| b.constant(lanes, 0.0)).collect(),
        };
        for (disp, uses) in inputs.iter() {
            let x = prepared.load(
                &mut b,
                lanes,
                used,
                at(input, displacements.get(disp)).of(window.floats.input),
            );
            for u in uses {
                let w = kernel.operand(&mut b, u.ky, u.kx);
                b.fma(sums[u.output], x, w);
            }
        }
        let constants = self.epilogue.begin(&mut b, lanes);
        for (i, sum) in sums.into_iter().enumerate() {
            let residual = residual.map(|base| {
                let disp = window.output_disp(i, self.residual_pixel, self.residual_row);
                (at(base, displacements.get(disp)).of(window.floats.residual), used)
            });
            self.epilogue.apply(&mut b, constants, sum, residual);
            let disp = window.output_disp(i, window.c_pixel, window.c_row);
            b.store(sum, used, at(output, displacements.get(disp)).of(window.floats.output));
        }
        if window.tiles > 1 {
            let output_step = window.output_step(window.c_pixel, window.floats.output);
            let mut steps = vec![(input, window.input_step()), (output, output_step)];
            let residual_step = window.output_step(self.residual_pixel, window.floats.residual);
            steps.extend(residual.map(|r| (r, residual_step)));
            steps.push((weights, window.parameter_step(kernel_bytes)));
            let parameters = bias.into_iter().chain(prologue.into_iter().flat_map(|(a, b)| [a, b]));
            steps.extend(parameters.map(|p| (p, window.parameter_step(vector))));
            window::step(&mut b, &mut displacements, &steps);
        }
        b.end(tiles);
        displacements.check(&self.name())?;
        Ok(b.finish())
    }
}

/// The weights that have been loaded, by kernel element.
struct KernelRegisters<'a> {
    held: Vec<Option<Vector>>,
    base: Int,
    tile: &'a DepthwiseTile,
}

impl KernelRegisters<'_> {
    fn element(&self, ky: u32, kx: u32) -> usize {
        (ky * self.tile.window.kernel.1 + kx) as usize
    }

    /// Loads every weight that some output uses.
    fn load_all(&mut self, b: &mut Builder, inputs: &Inputs) {
        for (_, uses) in inputs.iter() {
            uses.iter().for_each(|u| {
                self.operand(b, u.ky, u.kx);
            });
        }
    }

    /// A weight: a register, loaded at its first use, or memory.
    fn operand(&mut self, b: &mut Builder, ky: u32, kx: u32) -> Operand {
        let (i, lanes) = (self.element(ky, kx), self.tile.window.lanes);
        let addr = at(self.base, i as i32 * lanes.bytes());
        if self.tile.weights == Weights::Memory {
            return Operand::Mem(addr);
        }
        let w = match self.held[i] {
            Some(w) => w,
            None => b.load(lanes, lanes.count(), addr),
        };
        self.held[i] = Some(w);
        Operand::Reg(w)
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
