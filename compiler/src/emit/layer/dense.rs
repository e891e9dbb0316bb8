//! The loops around the tiles of a dense layer.

use cranelift_codegen::ir::Value;

use super::LayerEmitter;
use crate::code::kernels::KernelRef;
use crate::code::tile::ir::{ParamRole, TileProgram};
use crate::code::tile::programs::dense::{Accumulators, Broadcast, DenseTile, Products};
use crate::code::tile::programs::stage::StageTile;
use crate::emit::CodegenError;
use crate::plan::dense::{DenseArg, DensePlan, LoopOrder, PanelRun};
use crate::plan::sweep::XTiles;
use crate::plan::tiling::Registers;

/// Base pointers, loaded once.
struct Bases {
    input: Value,
    weights: Value,
    output: Value,
    table: Value,
    bias: Value,
    factor: Value,
    addend: Value,
    residual: Value,
    scale: Value,
    shift: Value,
    ahead: Value,
}

/// Where one output row is, and which kernel rows it has.
#[derive(Clone, Copy)]
struct RowAt {
    /// First input row with a tap, at column 0.
    input: Value,
    output: Value,
    residual: Value,
    weights: Value,
    /// Kernel rows left out at the top.
    skipped: Value,
    kernel_rows: Value,
}

pub(super) fn emit(e: &mut LayerEmitter<'_, '_, '_>, plan: &DensePlan) -> Result<(), CodegenError> {
    let mut base = |arg: DenseArg| e.base(arg as usize);
    let bases = Bases {
        input: base(DenseArg::Input),
        weights: base(DenseArg::Weights),
        output: base(DenseArg::Output),
        table: base(DenseArg::Table),
        bias: base(DenseArg::Bias),
        factor: base(DenseArg::Factor),
        addend: base(DenseArg::Addend),
        residual: base(DenseArg::Residual),
        scale: base(DenseArg::Scale),
        shift: base(DenseArg::Shift),
        ahead: base(DenseArg::Ahead),
    };
    with_matrices(e, plan, &mut |e| match plan.order {
        LoopOrder::Tiles => by_tiles(e, plan, &bases),
        LoopOrder::Panels => by_panels(e, plan, &bases),
    })
}

/// Work whose kernels use matrix registers, between what configures these and what gives them up, if the plan says so.
fn with_matrices(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &DensePlan,
    work: &mut dyn FnMut(&mut LayerEmitter<'_, '_, '_>) -> Result<(), CodegenError>,
) -> Result<(), CodegenError> {
    let Accumulators::Matrices(tile) = plan.accumulators else { return work(e) };
    let [configure, release] = TileProgram::configuration(&tile.shapes());
    let configure = e.kernel(Ok(configure))?;
    e.call(&configure, &|_| None)?;
    work(e)?;
    let release = e.kernel(Ok(release))?;
    e.call(&release, &|_| None)
}

/// A unit is a tile of pixels.
fn by_tiles(e: &mut LayerEmitter<'_, '_, '_>, plan: &DensePlan, bases: &Bases) -> Result<(), CodegenError> {
    let (begin, end) = (e.begin, e.end);
    e.range(begin, end, &mut |e, unit| {
        let (line, tile) = e.div_rem(unit, plan.tiles_per_row());
        let (image, y) = e.div_rem(line, plan.y.output);
        let row = row(e, plan, bases, image, y);
        let mut first = 0;
        for tiles in &plan.tiles {
            let count = tiles.count;
            e.when_within(tile, first as i64, (first + count) as i64, &mut |e| {
                let index = e.add(tile, -(first as i64));
                let at = at_tile(e, plan, row, tiles, index);
                let at = stage(e, plan, bases, tiles, at, (image, y, index))?;
                let mut first_panel = 0;
                for panels in &plan.panels {
                    let kernel =
                        e.kernel(descriptor(Registers::of(e.target), plan, tiles, panels).program())?;
                    e.repeat(panels.count, &mut |e, panel| {
                        let number = e.add(panel, first_panel as i64);
                        let number = e.offset(number, unit, plan.panel_count() as i64);
                        let ahead = ahead(e, plan, bases.ahead, number);
                        call(e, plan, bases, &kernel, at, panels, (panel, ahead))
                    })?;
                    first_panel += panels.count;
                }
                Ok(())
            })?;
            first += count;
        }
        Ok(())
    })
}

/// A unit is a panel of channels.
fn by_panels(e: &mut LayerEmitter<'_, '_, '_>, plan: &DensePlan, bases: &Bases) -> Result<(), CodegenError> {
    let mut first = 0;
    for panels in &plan.panels {
        e.units_of(first, panels.count, &mut |e, panel| {
            let next = e.add(bases.weights, panels.weights.start + panels.bytes(plan));
            let next = e.offset(next, panel, panels.weights.step);
            e.repeat(plan.images, &mut |e, image| {
                e.repeat(plan.y.output, &mut |e, y| {
                    let row = row(e, plan, bases, image, y);
                    let line = e.offset(y, image, plan.y.output as i64);
                    let mut first_tile = 0;
                    for tiles in &plan.tiles {
                        let kernel =
                            e.kernel(descriptor(Registers::of(e.target), plan, tiles, panels).program())?;
                        e.repeat(tiles.count, &mut |e, index| {
                            let at = at_tile(e, plan, row, tiles, index);
                            let tile = e.add(index, first_tile as i64);
                            let tile = e.offset(tile, line, plan.tiles_per_row() as i64);
                            let ahead = ahead(e, plan, next, tile);
                            call(e, plan, bases, &kernel, at, panels, (panel, ahead))
                        })?;
                        first_tile += tiles.count;
                    }
                    Ok(())
                })
            })
        })?;
        first += panels.count;
    }
    Ok(())
}

/// Addresses of an output row. Kernel rows above and below the picture are left out.
fn row(e: &mut LayerEmitter<'_, '_, '_>, plan: &DensePlan, bases: &Bases, image: Value, y: Value) -> RowAt {
    let axis = &plan.y;
    let input = e.offset(bases.input, image, plan.input.image);
    let output = e.offset(bases.output, image, plan.output.image);
    let output = e.offset(output, y, plan.output.row);
    let residual = e.offset(bases.residual, image, plan.residual.image);
    let residual = e.offset(residual, y, plan.residual.row);
    let weights = e.offset(bases.weights, image, plan.weights.image);
    let weights = e.offset(weights, y, plan.weights.row);
    // First input row of the window, possibly above the picture.
    let zero = e.int(0);
    let top = e.offset(zero, y, axis.stride as i64);
    let top = e.add(top, -(axis.pad as i64));
    let whole = (0..axis.output).all(|o| axis.taps(o) == (0..axis.kernel));
    let (skipped, kernel_rows) = if whole {
        (zero, e.int(axis.kernel as i64))
    } else {
        let dilation = axis.dilation as i64;
        // Taps with top + t·d ≥ 0 and top + t·d < input.
        let above = e.negate(top);
        let first = e.div_up(above, dilation);
        let first = e.at_least(first, 0);
        let below = e.add(above, axis.input as i64);
        let last = e.div_up(below, dilation);
        let last = e.at_most(last, axis.kernel as i64);
        let count = e.sub(last, first);
        (first, e.at_least(count, 0))
    };
    let input = e.offset(input, top, plan.input.row);
    let input = e.offset(input, skipped, plan.input.row * axis.dilation as i64);
    RowAt { input, output, residual, weights, skipped, kernel_rows }
}

/// The row's addresses at a tile.
fn at_tile(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &DensePlan,
    row: RowAt,
    tiles: &XTiles,
    index: Value,
) -> RowAt {
    let mut at = |base: Value, pitch: i64| {
        let base = e.add(base, tiles.x as i64 * pitch);
        e.offset(base, index, tiles.width as i64 * pitch)
    };
    RowAt {
        input: at(row.input, plan.input.pixel * plan.x.stride as i64),
        output: at(row.output, plan.output.pixel),
        residual: at(row.residual, plan.residual.pixel),
        ..row
    }
}

/// Copies a tile's channels to scratch and applies the prologue, if the plan says so. Pixels outside the picture are left
/// out: no kernel reads them.
fn stage(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &DensePlan,
    bases: &Bases,
    tiles: &XTiles,
    at: RowAt,
    (image, y, index): (Value, Value, Value),
) -> Result<RowAt, CodegenError> {
    let (Some(stage), Some(inside)) = (&plan.stage, tiles.taps.first()) else { return Ok(at) };
    let scratch = e.scratch;
    if inside.is_empty() {
        return Ok(RowAt { input: scratch, ..at });
    }
    let columns = (tiles.x + inside.start) * plan.x.stride;
    let left = columns as i64 - plan.x.pad as i64;
    let top = plan.y.pad as i64;
    e.when_within(at.kernel_rows, 1, 2, &mut |e| {
        let mut channels = 0i64;
        for (number, source) in stage.sources.iter().enumerate() {
            let tile = StageTile {
                rows: inside.len() as u32,
                runs: source.runs.iter().map(|&(offset, len)| (offset as i32, len as u32)).collect(),
                input: source.pitch.float,
                output: plan.staged(),
                input_pixel: (source.pitch.pixel * plan.x.stride as i64) as i32,
                output_pixel: stage.pixel as i32,
                affine: stage.affine,
                activation: stage.activation,
            };
            let kernel = e.kernel(tile.program(e.lanes()))?;
            let input = e.base(DenseArg::Staged as usize + number);
            let input = e.offset(input, image, source.pitch.image);
            let input = e.offset(input, y, source.pitch.row * plan.y.stride as i64);
            let input = e.add(input, left * source.pitch.pixel - top * source.pitch.row);
            let input = e.offset(input, index, (tiles.width * plan.x.stride) as i64 * source.pitch.pixel);
            let before = plan.staged().span(channels as u32);
            let output = e.add(scratch, inside.start as i64 * stage.pixel + before);
            let scale = e.add(bases.scale, channels * 4);
            let shift = e.add(bases.shift, channels * 4);
            e.call(&kernel, &|role| {
                Some(match role {
                    ParamRole::Input => input,
                    ParamRole::Output => output,
                    ParamRole::Scale => scale,
                    ParamRole::Shift => shift,
                    _ => return None,
                })
            })?;
            channels += source.runs.iter().map(|r| r.1 as i64).sum::<i64>();
        }
        Ok(())
    })?;
    Ok(RowAt { input: scratch, ..at })
}

/// How many sums a kernel of `rows` by `vectors` makes of each output, and how it broadcasts.
pub(super) fn sums(registers: Registers, rows: usize, vectors: usize) -> (u32, Broadcast) {
    let split = registers.split(rows, vectors);
    let free = registers.count.saturating_sub(rows * vectors * split + vectors);
    // Where no instruction has a broadcast as its operand, each of them would take the register, and a load, anew.
    let enough = if registers.embed() { 2 } else { 1 };
    // What is read once needs no register of its own where an instruction reads it.
    let again = vectors > 1 || !registers.embed();
    (split as u32, if free >= enough && again { Broadcast::Register } else { Broadcast::Embedded })
}

/// The kernel of a tile and a panel.
fn descriptor(registers: Registers, plan: &DensePlan, tiles: &XTiles, panels: &PanelRun) -> DenseTile {
    let staged = plan.stage.as_ref();
    let pitch = staged.map_or(plan.input.pixel * plan.x.stride as i64, |s| s.pixel);
    let accumulators = plan.matrices(tiles.width).map_or(Accumulators::Vectors, Accumulators::Matrices);
    let (split, broadcast) = match plan.products {
        _ if accumulators != Accumulators::Vectors => (1, Broadcast::Register),
        Products::Floats | Products::Widened(_) | Products::Halves => {
            sums(registers, tiles.width, panels.cols.len())
        }
        // Those of the input are no operand in memory of the instruction that multiplies them.
        Products::Bytes | Products::Words => (1, Broadcast::Register),
    };
    DenseTile {
        rows: tiles.width as u32,
        a_pixel: pitch as i32,
        cols: panels.cols.clone(),
        taps: plan.taps(tiles),
        a_row: (plan.input.row * plan.y.dilation as i64) as i32,
        // With a limit of one there is no count: rows that lie outside as a whole need one.
        kernel_rows: match accumulators {
            Accumulators::Matrices(_) => 1,
            Accumulators::Vectors if plan.y.always_touches() => plan.y.kernel as u32,
            Accumulators::Vectors => plan.y.kernel.max(2) as u32,
        },
        accumulators,
        k: panels.k.clone(),
        c_pixel: plan.output.pixel as i32,
        residual_pixel: plan.residual.pixel as i32,
        split,
        weights_row: Some(plan.weights.channel as i32).filter(|&row| row != 0),
        ahead: plan.ahead.lines,
        broadcast,
        products: plan.products,
        floats: plan.kernel_floats(),
        epilogue: plan.epilogue,
    }
}

/// Calls the kernel of one tile and one panel.
fn call(
    e: &mut LayerEmitter<'_, '_, '_>,
    plan: &DensePlan,
    bases: &Bases,
    kernel: &KernelRef,
    at: RowAt,
    panels: &PanelRun,
    (panel, ahead): (Value, Value),
) -> Result<(), CodegenError> {
    let kernel_row = panels.bytes(plan) / plan.y.kernel as i64;
    let mut step = |base: Value, s: crate::plan::dense::Progression| {
        let base = e.add(base, s.start);
        e.offset(base, panel, s.step)
    };
    let input = match plan.stage {
        Some(_) => at.input,
        None => step(at.input, panels.input),
    };
    let weights = step(at.weights, panels.weights);
    let output = step(at.output, panels.output);
    let table = step(bases.table, panels.table);
    let bias = step(bases.bias, panels.bias);
    let factor = step(bases.factor, panels.bias);
    let addend = step(bases.addend, panels.bias);
    let residual = step(at.residual, panels.residual);
    let weights = e.offset(weights, at.skipped, kernel_row);
    let scratch = e.scratch;
    e.call(kernel, &|role| {
        Some(match role {
            ParamRole::Input => input,
            ParamRole::Weights => weights,
            ParamRole::Output => output,
            ParamRole::KernelRows => at.kernel_rows,
            ParamRole::Table => table,
            ParamRole::Bias => bias,
            ParamRole::Factor => factor,
            ParamRole::Addend => addend,
            ParamRole::Residual => residual,
            ParamRole::Ahead => ahead,
            ParamRole::Scratch => scratch,
            _ => return None,
        })
    })
}

/// Where what the `call`-th call asks for starts.
fn ahead(e: &mut LayerEmitter<'_, '_, '_>, plan: &DensePlan, base: Value, call: Value) -> Value {
    match plan.ahead.lines {
        0 => base,
        _ => {
            let (_, share) = e.div_rem(call, plan.ahead.period);
            e.offset(base, share, plan.ahead_share())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    #[test]
    fn a_broadcast_has_a_register_where_several_multiply_by_it_or_none_reads_memory() {
        let of = |name: &str, rows, vectors| {
            sums(Registers::of(&Target::named(name).expect("a target")), rows, vectors).1
        };
        assert_eq!(of("x86-64-v4", 14, 2), Broadcast::Register);
        assert_eq!(of("x86-64-v4", 28, 1), Broadcast::Embedded, "once");
        assert_eq!(of("x86-64-v4", 15, 2), Broadcast::Embedded, "no register is left");
        assert_eq!(of("x86-64-v3", 4, 3), Broadcast::Register, "the last one");
        assert_eq!(of("x86-64-v3", 12, 1), Broadcast::Register, "each would be a load");
    }
}
