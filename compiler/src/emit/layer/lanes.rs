//! The loops around the tiles of a layer with channels in lanes.

use cranelift_codegen::ir::Value;

use super::LayerEmitter;
use crate::code::kernels::KernelRef;
use crate::code::tile::ir::ParamRole;
use crate::code::tile::programs::dense::Col;
use crate::code::tile::programs::depthwise::{DepthwiseTile, WeightPlace};
use crate::code::tile::programs::pool::{GlobalPoolTile, PoolFunction, PoolTile};
use crate::code::tile::programs::window::{Along, PixelBlock};
use crate::emit::CodegenError;
use crate::plan::dense::Progression;
use crate::plan::lanes::{AxisBlocks, LanesArg, LanesOp, LanesPlan, VectorRun};

/// Base pointers, loaded once.
struct Bases {
    output: Value,
    weights: Value,
    bias: Value,
    factor: Value,
    addend: Value,
    residual: Value,
    scale: Value,
    shift: Value,
    inputs: Vec<Value>,
}

/// Where a picture, or a block of rows of it, is.
struct RowsAt {
    /// One for each buffer of the input.
    inputs: Vec<Value>,
    output: Value,
    residual: Value,
}

pub(super) fn emit(e: &mut LayerEmitter<'_, '_, '_>, plan: &LanesPlan) -> Result<(), CodegenError> {
    let bases = Bases {
        output: e.base(LanesArg::Output as usize),
        weights: e.base(LanesArg::Weights as usize),
        bias: e.base(LanesArg::Bias as usize),
        factor: e.base(LanesArg::Factor as usize),
        addend: e.base(LanesArg::Addend as usize),
        residual: e.base(LanesArg::Residual as usize),
        scale: e.base(LanesArg::Scale as usize),
        shift: e.base(LanesArg::Shift as usize),
        inputs: (0..plan.inputs.len()).map(|i| e.base(LanesArg::Inputs as usize + i)).collect(),
    };
    match plan.op {
        LanesOp::GlobalPool(_) => whole_pictures(e, plan, &bases),
        LanesOp::Depthwise | LanesOp::Pool(_) | LanesOp::Convert => by_rows(e, plan, &bases),
    }
}

/// A unit is a block of rows.
fn by_rows(e: &mut LayerEmitter<'_, '_, '_>, plan: &LanesPlan, bases: &Bases) -> Result<(), CodegenError> {
    let (begin, end) = (e.begin, e.end);
    e.range(begin, end, &mut |e, unit| {
        let (image, block) = e.div_rem(unit, plan.blocks_per_image());
        let picture = picture(e, plan, bases, image);
        let mut first = 0;
        for blocks in &plan.blocks {
            let (low, high) = (first as i64, (first + blocks.count) as i64);
            e.when_within(block, low, high, &mut |e| {
                let index = e.add(block, -low);
                let rows = rows(e, plan, &picture, blocks, index);
                for tiles in &plan.tiles {
                    row_of_tiles(e, plan, bases, &rows, blocks, tiles)?;
                }
                Ok(())
            })?;
            first += blocks.count;
        }
        Ok(())
    })
}

/// Equal tiles of a block of rows.
fn row_of_tiles(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &LanesPlan,
    bases: &Bases,
    rows: &RowsAt,
    blocks: &AxisBlocks,
    tiles: &AxisBlocks,
) -> Result<(), CodegenError> {
    match plan.along {
        Along::Columns => plan.vectors.iter().try_for_each(|vectors| {
            let kernel = window_kernel(e, plan, blocks, tiles, vectors, tiles.count)?;
            let tile = e.int(0);
            e.repeat(vectors.count, &mut |e, v| {
                call(e, plan, bases, &kernel, rows, (tiles, tile), (vectors, v), tiles.count)
            })
        }),
        Along::Channels => {
            // Runs whose vectors do not touch are called vector by vector.
            let kernels = plan.vectors.iter().map(|vectors| {
                let together = if vectors.touch(plan.floats(vectors)) { vectors.count } else { 1 };
                Ok((vectors, together, window_kernel(e, plan, blocks, tiles, vectors, together)?))
            });
            let kernels = kernels.collect::<Result<Vec<_>, CodegenError>>()?;
            e.repeat(tiles.count, &mut |e, tile| {
                kernels.iter().try_for_each(|(vectors, together, kernel)| {
                    e.repeat(vectors.count / together, &mut |e, v| {
                        call(e, plan, bases, kernel, rows, (tiles, tile), (vectors, v), *together)
                    })
                })
            })
        }
    }
}

/// A unit is a vector of slots of one picture.
fn whole_pictures(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &LanesPlan,
    bases: &Bases,
) -> Result<(), CodegenError> {
    let LanesOp::GlobalPool(pool) = plan.op else { return Ok(()) };
    let (begin, end) = (e.begin, e.end);
    let per_picture: usize = plan.vectors.iter().map(|v| v.count).sum();
    e.range(begin, end, &mut |e, unit| {
        let (image, vector) = e.div_rem(unit, per_picture);
        let picture = picture(e, plan, bases, image);
        let mut first = 0;
        for vectors in &plan.vectors {
            let tile = GlobalPoolTile {
                cols: vec![Col::part(vectors.lanes, vectors.used)],
                width: plan.x.input as u32,
                height: plan.y.input as u32,
                floats: plan.floats(vectors),
                a_pixel: plan.inputs[vectors.source].pixel as i32,
                a_row: plan.inputs[vectors.source].row as i32,
                pool,
                prologue: plan.prologue,
                activation: plan.epilogue.activation,
            };
            let kernel = e.kernel(tile.program())?;
            let low = first as i64;
            e.when_within(vector, low, low + vectors.count as i64, &mut |e| {
                let v = e.add(vector, -low);
                let input = step(e, picture.inputs[vectors.source], vectors.input, v);
                let output = step(e, picture.output, vectors.output, v);
                let scale = step(e, bases.scale, vectors.parameters, v);
                let shift = step(e, bases.shift, vectors.parameters, v);
                e.call(&kernel, &|role| {
                    Some(match role {
                        ParamRole::Input => input,
                        ParamRole::Output => output,
                        ParamRole::Scale => scale,
                        ParamRole::Shift => shift,
                        _ => return None,
                    })
                })
            })?;
            first += vectors.count;
        }
        Ok(())
    })
}

fn step(e: &mut LayerEmitter<'_, '_, '_>, base: Value, at: Progression, index: Value) -> Value {
    let base = e.add(base, at.start);
    e.offset(base, index, at.step)
}

fn picture(e: &mut LayerEmitter<'_, '_, '_>, plan: &LanesPlan, bases: &Bases, image: Value) -> RowsAt {
    let inputs = bases.inputs.iter().zip(&plan.inputs).map(|(&b, p)| e.offset(b, image, p.image)).collect();
    let output = e.offset(bases.output, image, plan.output.image);
    let residual = e.offset(bases.residual, image, plan.residual.image);
    RowsAt { inputs, output, residual }
}

/// The addresses of a block of rows: kernel element (0, 0) of its first row, perhaps above the picture.
fn rows(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &LanesPlan,
    at: &RowsAt,
    blocks: &AxisBlocks,
    index: Value,
) -> RowsAt {
    let (y, n) = (blocks.first as i64, blocks.taps.len() as i64);
    let stride = plan.y.stride as i64;
    let top = y * stride - plan.y.pad as i64;
    let mut move_to = |base: Value, row: i64, first: i64, step: i64| {
        let base = e.add(base, first * row);
        e.offset(base, index, step * row)
    };
    let inputs =
        at.inputs.iter().zip(&plan.inputs).map(|(&b, p)| move_to(b, p.row, top, n * stride)).collect();
    let output = move_to(at.output, plan.output.row, y, n);
    let residual = move_to(at.residual, plan.residual.row, y, n);
    RowsAt { inputs, output, residual }
}

fn window_kernel(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &LanesPlan,
    blocks: &AxisBlocks,
    tiles: &AxisBlocks,
    vectors: &VectorRun,
    together: usize,
) -> Result<KernelRef, CodegenError> {
    let pair = |f: fn(&crate::plan::sweep::Axis) -> usize| (f(&plan.y) as u32, f(&plan.x) as u32);
    let window = PixelBlock {
        rows: blocks.taps.clone(),
        cols: tiles.taps.clone(),
        kernel: pair(|a| a.kernel),
        stride: pair(|a| a.stride),
        dilation: pair(|a| a.dilation),
        floats: plan.floats(vectors),
        a_pixel: plan.inputs[vectors.source].pixel as i32,
        a_row: plan.inputs[vectors.source].row as i32,
        c_pixel: plan.output.pixel as i32,
        c_row: plan.output.row as i32,
        lanes: vectors.lanes,
        used: vectors.used,
        tiles: together as u32,
        along: plan.along,
    };
    let program = match plan.op {
        LanesOp::Depthwise => DepthwiseTile {
            block: window,
            weights: WeightPlace::Held,
            residual_pixel: plan.residual.pixel as i32,
            residual_row: plan.residual.row as i32,
            prologue: plan.prologue,
            epilogue: plan.epilogue,
        }
        .fitted(e.target)
        .map(|(_, program)| program),
        LanesOp::Pool(_) | LanesOp::GlobalPool(_) | LanesOp::Convert => PoolTile {
            block: window,
            pool: match plan.op {
                LanesOp::Pool(pool) | LanesOp::GlobalPool(pool) => pool,
                // The mean of one element.
                LanesOp::Depthwise | LanesOp::Convert => PoolFunction::MeanOf(1),
            },
            residual_pixel: plan.residual.pixel as i32,
            residual_row: plan.residual.row as i32,
            prologue: plan.prologue,
            epilogue: plan.epilogue,
        }
        .program(),
    };
    e.kernel(program)
}

/// Calls the kernel for so many blocks from a tile and a vector on.
fn call(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &LanesPlan,
    bases: &Bases,
    kernel: &KernelRef,
    rows: &RowsAt,
    (tiles, tile): (&AxisBlocks, Value),
    (vectors, v): (&VectorRun, Value),
    together: usize,
) -> Result<(), CodegenError> {
    let left = tiles.first as i64 * plan.x.stride as i64 - plan.x.pad as i64;
    let columns = tiles.taps.len() as i64;
    let source = plan.inputs[vectors.source].pixel;
    let input = step(e, rows.inputs[vectors.source], vectors.input, v);
    let input = e.add(input, left * source);
    let input = e.offset(input, tile, columns * plan.x.stride as i64 * source);
    let output = step(e, rows.output, vectors.output, v);
    let output = e.add(output, tiles.first as i64 * plan.output.pixel);
    let output = e.offset(output, tile, columns * plan.output.pixel);
    let residual = step(e, rows.residual, vectors.residual, v);
    let residual = e.add(residual, tiles.first as i64 * plan.residual.pixel);
    let residual = e.offset(residual, tile, columns * plan.residual.pixel);
    let weights = step(e, bases.weights, vectors.weights, v);
    let bias = step(e, bases.bias, vectors.parameters, v);
    let factor = step(e, bases.factor, vectors.parameters, v);
    let addend = step(e, bases.addend, vectors.parameters, v);
    let scale = step(e, bases.scale, vectors.parameters, v);
    let shift = step(e, bases.shift, vectors.parameters, v);
    let count = e.int(together as i64);
    e.call(kernel, &|role| {
        Some(match role {
            ParamRole::Input => input,
            ParamRole::Weights => weights,
            ParamRole::Output => output,
            ParamRole::Tiles => count,
            ParamRole::Bias => bias,
            ParamRole::Factor => factor,
            ParamRole::Addend => addend,
            ParamRole::Residual => residual,
            ParamRole::Scale => scale,
            ParamRole::Shift => shift,
            _ => return None,
        })
    })
}
