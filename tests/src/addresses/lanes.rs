//! The addresses of a layer with channels in lanes: depthwise convolutions, pools, global pools.
//!
//! ```text
//!   for each picture, block of rows, tile of columns, vector:
//!     read   input[pixels that some window of the block sees][vector]
//!     read   weights[vector][ky][kx][lanes], bias, scale and shift [vector][lanes]
//!     read   residual[pixel][vector], write output[pixel][vector]
//! ```
//!
//! Every block of rows meets every tile of columns, so the rows and the columns that are touched are independent sets.

use nnc::code::float::Float;
use nnc::code::tile::programs::epilogue::KernelResidual;
use nnc::code::tile::programs::pool::PoolFunction;
use nnc::plan::dense::Progression;
use nnc::plan::lanes::{AxisBlocks, LanesArg, LanesOp, LanesPlan, VectorRun};
use nnc::plan::sweep::Axis;

use super::{Bases, Intervals, Walk, over_pixels, sorted, steps};

/// What the blocks of one axis touch, in pixels.
struct Sweep {
    input: Vec<i64>,
    output: Vec<i64>,
    kernel: Vec<i64>,
}

impl Sweep {
    /// Of windows, in blocks.
    fn blocks(axis: &Axis, blocks: &[AxisBlocks]) -> Sweep {
        let (mut input, mut output, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
        for group in blocks {
            for block in steps(group.count, group.taps.len() as i64) {
                for (at, taps) in (group.first as i64 + block..).zip(&group.taps) {
                    let first = at * axis.stride as i64 - axis.pad as i64;
                    output.push(at);
                    input.extend(taps.clone().map(|tap| first + i64::from(tap) * axis.dilation as i64));
                    kernel.extend(taps.clone().map(i64::from));
                }
            }
        }
        Sweep { input: sorted(input), output: sorted(output), kernel: sorted(kernel) }
    }

    /// Of the whole axis, for one output.
    fn whole(axis: &Axis) -> Sweep {
        Sweep { input: (0..axis.input as i64).collect(), output: vec![0], kernel: Vec::new() }
    }

    fn both(plan: &LanesPlan) -> (Sweep, Sweep) {
        match plan.op {
            LanesOp::GlobalPool(_) => (Sweep::whole(&plan.y), Sweep::whole(&plan.x)),
            LanesOp::Depthwise | LanesOp::Pool(_) | LanesOp::Convert => {
                (Sweep::blocks(&plan.y, &plan.blocks), Sweep::blocks(&plan.x, &plan.tiles))
            }
        }
    }
}

pub(super) fn walk(plan: &LanesPlan, bases: Bases<'_>) -> Result<Walk, String> {
    let mut walk = activations(plan, bases)?;
    let (y, x) = Sweep::both(plan);
    let arg = |arg: LanesArg| bases.arg(arg as usize);
    for vectors in &plan.vectors {
        let vector = i64::from(vectors.lanes.bytes());
        let all = |bytes: Intervals, at: Progression| bytes.spread(vector_steps(vectors, at));
        if plan.op == LanesOp::Depthwise {
            let kernel = Intervals::first(vector)
                .spread(x.kernel.iter().map(|tap| tap * vector))
                .spread(y.kernel.iter().map(|tap| tap * vector * plan.x.kernel as i64));
            walk.reads(arg(LanesArg::Weights)?, &all(kernel, vectors.weights));
        }
        if plan.epilogue.bias {
            walk.reads(arg(LanesArg::Bias)?, &all(Intervals::first(vector), vectors.parameters));
        }
        if plan.prologue.affine {
            let parameters = all(Intervals::first(4 * i64::from(vectors.used)), vectors.parameters);
            walk.reads(arg(LanesArg::Scale)?, &parameters);
            walk.reads(arg(LanesArg::Shift)?, &parameters);
        }
    }
    Ok(walk)
}

fn vector_steps(vectors: &VectorRun, at: Progression) -> impl Iterator<Item = i64> + use<> {
    steps(vectors.count, at.step).map(move |offset| at.start + offset)
}

/// Input, residual and output alone.
fn activations(plan: &LanesPlan, bases: Bases<'_>) -> Result<Walk, String> {
    let mut walk = Walk::default();
    let (y, x) = Sweep::both(plan);
    let mut input = vec![Intervals::default(); plan.inputs.len()];
    let (mut residual, mut output) = (Intervals::default(), Intervals::default());
    for vectors in &plan.vectors {
        let floats = plan.floats(vectors);
        let all = |at: Progression, float: Float| {
            Intervals::first(float.span(vectors.used)).spread(vector_steps(vectors, at))
        };
        let source = input.get_mut(vectors.source).ok_or("a vector has no source")?;
        *source = source.or(&all(vectors.input, floats.input));
        residual = residual.or(&all(vectors.residual, floats.residual));
        output = output.or(&all(vectors.output, floats.output));
    }
    for (number, (pixel, pitch)) in input.iter().zip(&plan.inputs).enumerate() {
        let input = over_pixels(pixel, *pitch, &x.input, &y.input, plan.images);
        walk.reads(bases.arg(LanesArg::Inputs as usize + number)?, &input);
    }
    let everywhere = |pixel, pitch| over_pixels(pixel, pitch, &x.output, &y.output, plan.images);
    walk.writes(bases.arg(LanesArg::Output as usize)?, &everywhere(&output, plan.output));
    if plan.epilogue.residual != KernelResidual::None {
        walk.reads(bases.arg(LanesArg::Residual as usize)?, &everywhere(&residual, plan.residual));
    }
    Ok(walk)
}

/// The activations that each lane by itself reads and writes, vector by vector.
pub(super) fn lanes(plan: &LanesPlan, bases: Bases<'_>) -> Result<Vec<Vec<Walk>>, String> {
    let plan = &byte_by_byte(plan);
    let mut all = Vec::new();
    for vectors in &plan.vectors {
        for vector in 0..vectors.count as i64 {
            let floats = plan.floats(vectors);
            let lane = |lane: u32| {
                let moved = |at: Progression, float: Float| Progression {
                    start: at.start + vector * at.step + float.span(1) * i64::from(lane),
                    step: 0,
                };
                let alone = VectorRun {
                    count: 1,
                    used: 1,
                    input: moved(vectors.input, floats.input),
                    output: moved(vectors.output, floats.output),
                    residual: moved(vectors.residual, floats.residual),
                    ..vectors.clone()
                };
                activations(&LanesPlan { vectors: vec![alone], ..plan.clone() }, bases)
            };
            all.push((0..vectors.used).map(lane).collect::<Result<_, _>>()?);
        }
    }
    Ok(all)
}

/// A layer whose lanes have four bytes each as one of bytes.
fn byte_by_byte(plan: &LanesPlan) -> LanesPlan {
    let mut plan = plan.clone();
    if plan.op == LanesOp::Pool(PoolFunction::MaxBytes) {
        let pitches = plan.inputs.iter_mut().chain([&mut plan.output, &mut plan.residual]);
        pitches.for_each(|pitch| pitch.float = Float::U8);
        plan.vectors.iter_mut().for_each(|vectors| vectors.used *= QUAD);
    }
    plan
}

/// Bytes of a lane.
const QUAD: u32 = 4;

#[cfg(test)]
pub(super) mod sample {
    //! A small layer to test with.

    use nnc::code::tile::ir::Lanes;
    use nnc::code::tile::programs::epilogue::KernelEpilogue;
    use nnc::code::tile::programs::window::{Along, KernelPrologue};
    use nnc::plan::lanes::blocks;
    use nnc::plan::sweep::BytePitch;
    use nnc_runtime::abi::{Arg, Region};

    use super::*;

    /// A window of 3 × 3 over 5 × 5 pixels of 6 channels in 8 slots.
    pub fn plan(op: LanesOp, stride: usize, pad: isize) -> LanesPlan {
        let output = (5 + 2 * pad as usize - 3) / stride + 1;
        let axis = Axis { input: 5, output, kernel: 3, stride, dilation: 1, pad };
        let pitch = |side: usize| BytePitch { pixel: 32, row: 32 * side as i64, image: 0, float: Float::F32 };
        let vector = |slot: i64, weights: i64, used| {
            let at = |start| Progression { start, step: 0 };
            VectorRun {
                count: 1,
                lanes: Lanes::X4,
                used,
                source: 0,
                input: at(slot),
                output: at(slot),
                weights: at(weights),
                parameters: at(slot),
                residual: at(slot),
            }
        };
        LanesPlan {
            op,
            images: 1,
            y: axis,
            x: axis,
            blocks: blocks(&axis, 2),
            tiles: blocks(&axis, 2),
            inputs: vec![pitch(5)],
            output: pitch(output),
            residual: pitch(output),
            vectors: vec![vector(0, 0, 4), vector(16, 144, 2)],
            along: Along::Columns,
            prologue: KernelPrologue::default(),
            epilogue: KernelEpilogue::default(),
        }
    }

    /// A depthwise convolution that keeps the picture's size and takes padding for channels.
    pub fn whole_vectors() -> LanesPlan {
        let mut plan = plan(LanesOp::Depthwise, 1, 1);
        plan.vectors.truncate(1);
        let vectors = &mut plan.vectors[0];
        vectors.count = 2;
        (vectors.input.step, vectors.output.step, vectors.weights.step) = (16, 16, 144);
        plan
    }

    /// Input at the start of the arena, output at some byte of it, parameters a KiB apart.
    pub fn args(output: u64) -> Vec<Arg> {
        let place = |region, offset| Arg { region, offset };
        let mut args = vec![place(Region::Arena, 0); LanesArg::Inputs as usize + 1];
        args[LanesArg::Output as usize] = place(Region::Arena, output);
        let parameters = [LanesArg::Weights, LanesArg::Bias, LanesArg::Scale, LanesArg::Shift];
        for (number, arg) in (0..).zip(parameters) {
            args[arg as usize] = place(Region::Const, 1024 * number);
        }
        args
    }
}

#[cfg(test)]
mod tests {
    use nnc::code::tile::programs::epilogue::Activation;
    use nnc::code::tile::programs::pool::PoolFunction;
    use nnc::code::tile::programs::window::KernelPrologue;
    use nnc::plan::Traffic;
    use nnc_runtime::abi::Region;

    use super::sample::{args, plan};
    use super::*;

    fn walked(plan: &LanesPlan) -> Walk {
        walk(plan, Bases { args: &args(4096), constants: &[] }).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_depthwise_convolution_reads_each_pixel_and_each_weight_once() {
        let mut plan = plan(LanesOp::Depthwise, 1, 1);
        plan.epilogue.bias = true;
        // 25 pixels of 6 channels; 9 taps and a bias for two vectors of 4 lanes.
        assert_eq!(walked(&plan).traffic(), Traffic { read: 600 + 288 + 32, written: 600 });
    }

    #[test]
    fn pixels_behind_the_last_window_are_not_read() {
        let mut plan = plan(LanesOp::Pool(PoolFunction::Max), 3, 0);
        plan.prologue = KernelPrologue { affine: true, activation: Activation::Relu };
        // One window of 9 pixels; scale and shift of 6 channels.
        assert_eq!(walked(&plan).traffic(), Traffic { read: 9 * 24 + 48, written: 24 });
    }

    #[test]
    fn a_global_pool_reads_the_picture_and_writes_one_pixel() {
        let mut plan = plan(LanesOp::GlobalPool(PoolFunction::MeanInside), 1, 0);
        (plan.blocks, plan.tiles) = (Vec::new(), Vec::new());
        assert_eq!(walked(&plan).traffic(), Traffic { read: 600, written: 24 });
    }

    #[test]
    fn one_lane_is_one_channel_of_all_pixels() -> Result<(), String> {
        let lanes = lanes(&plan(LanesOp::Depthwise, 1, 1), Bases { args: &args(4096), constants: &[] })?;
        assert_eq!(lanes.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
        let last = &lanes[1][1];
        assert_eq!(last.traffic(), Traffic { read: 100, written: 100 });
        assert_eq!(last.read[&Region::Arena].bounds(), 20..24 * 32 + 24);
        Ok(())
    }
}
