//! Whether steps that run strip by strip may do so.
//!
//! A strip is a few units of each of some steps. It may read of the images in between only what it has itself written, and
//! what no other image has written over since: all of them lie in the scratch of one thread, one over the other where the
//! one is done with before the next begins. Outside of scratch strips must have nothing to do with each other, as they have
//! no order:
//!
//! ```text
//!   strip 0   scratch: ▮▮▮▮ image 0 ▮▮▮▮ image 1      result: ▮▮▮▮····
//!   strip 1   scratch: ▮▮▮▮ image 0 ▮▮▮▮ image 1      result: ····▮▮▮▮
//! ```
//!
//! What some units touch is found by cutting the decision of a step to them, and walking through that.

use std::collections::BTreeMap;
use std::ops::Range;

use nnc::plan::dense::{DenseArg, DensePlan};
use nnc::plan::lanes::{AxisBlocks, LanesArg, LanesPlan};
use nnc::plan::sweep::{BytePitch, XTiles};
use nnc::plan::{LayerCode, Plan, PlanStep};
use nnc_runtime::abi::{Arg, Region, Strip, Strips};

use super::{Intervals, Walk, walk};

/// All that is wrong with the strips of a plan.
///
/// # Errors
///
/// A step does not fit its decision, or cannot be cut.
pub fn strips(plan: &Plan) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    for group in &plan.strips {
        let steps = plan.steps.get(group.steps()).ok_or("strips of steps that do not exist")?;
        let fault = |strip: usize, what: String| format!("strip {strip} of \"{}\" {what}", steps[0].name);
        let mut outside = Vec::new();
        for (number, strip) in group.strips.iter().enumerate() {
            match alone(plan, group, steps, strip)? {
                Ok(walk) => outside.push(walk),
                Err(what) => faults.push(fault(number, what)),
            }
        }
        faults.extend(dependence(&outside).map(|what| fault(0, what)));
        let last = steps.last().ok_or("strips of no steps")?;
        let result = outside.iter().fold(Walk::default(), union);
        if result.written != walk(plan, last)?.written {
            faults.push(fault(0, format!("and the others write something else than \"{}\"", last.name)));
        }
    }
    Ok(faults)
}

/// Follows one strip through its steps. Gives what it touches outside of scratch, or says what is wrong.
fn alone(
    plan: &Plan,
    group: &Strips,
    steps: &[PlanStep],
    strip: &Strip,
) -> Result<Result<Walk, String>, String> {
    let mut outside = Walk::default();
    // What each image holds, as addresses in scratch.
    let mut held = vec![Intervals::default(); group.buffers.len()];
    for (step, units) in steps.iter().zip(&strip.units) {
        let name = &step.name;
        let touched = part(plan, step, units.start as usize..units.end as usize)?;
        let place = |image: u32| {
            let arg = Arg { region: Region::Strip(image), offset: 0 };
            group.offset(strip, &arg) as i64
        };
        let own = match &step.code {
            LayerCode::Dense(code) => code.scratch() as i64,
            _ => 0,
        };
        for (region, bytes) in &touched.read {
            let Region::Strip(image) = *region else { continue };
            let missing = bytes.moved(place(image)).minus(&held[image as usize]).bytes();
            if missing > 0 {
                return Ok(Err(format!("lacks {missing} bytes of image {image} that \"{name}\" reads")));
            }
        }
        for (region, bytes) in &touched.written {
            let Region::Strip(image) = *region else { continue };
            // Padding behind the channels of a pixel is nobody's, and is read with the rest: pixels are taken as a whole.
            let bounds = bytes.moved(place(image)).bounds();
            let whole = std::iter::once(bounds.start..(bounds.end + 15) / 16 * 16).collect::<Intervals>();
            let bounds = whole.bounds();
            if bounds.start < own || bounds.end > plan.scratch_bytes as i64 {
                return Ok(Err(format!("writes bytes {bounds:?} of scratch in \"{name}\"")));
            }
            held.iter_mut().for_each(|other| *other = other.minus(&whole));
            held[image as usize] = whole;
        }
        outside = union(outside, &touched);
    }
    for touched in [&mut outside.read, &mut outside.written] {
        touched.retain(|region, _| !matches!(region, Region::Strip(_)));
    }
    Ok(Ok(outside))
}

/// Why strips cannot be done in any order, if they cannot.
fn dependence(strips: &[Walk]) -> Option<String> {
    for (number, one) in strips.iter().enumerate() {
        for other in strips.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, walk)| walk) {
            for (region, bytes) in &one.written {
                let meets = |touched: &BTreeMap<Region, Intervals>| {
                    touched.get(region).is_some_and(|other| bytes.minus(other).bytes() != bytes.bytes())
                };
                if meets(&other.written) {
                    return Some(format!("and strip {number} write the same bytes of {region:?}"));
                }
                if meets(&other.read) {
                    return Some(format!("reads what strip {number} writes of {region:?}"));
                }
            }
        }
    }
    None
}

fn union(mut all: Walk, more: &Walk) -> Walk {
    for (touched, more) in [(&mut all.read, &more.read), (&mut all.written, &more.written)] {
        for (region, bytes) in more {
            let set = touched.entry(*region).or_default();
            *set = set.or(bytes);
        }
    }
    all
}

/// What some units of a step touch.
fn part(plan: &Plan, step: &PlanStep, units: Range<usize>) -> Result<Walk, String> {
    let mut all = Walk::default();
    let mut take = |code: LayerCode, args: Vec<Arg>| -> Result<(), String> {
        let units = match &code {
            LayerCode::Dense(code) => code.units(),
            LayerCode::Lanes(code) => code.units(),
            _ => 0,
        };
        let step = PlanStep { code, args, units, ..step.clone() };
        all = union(std::mem::take(&mut all), &walk(plan, &step)?);
        Ok(())
    };
    match &step.code {
        LayerCode::Lanes(code) => {
            for (image, units) in shares(&units, code.blocks_per_image()) {
                let blocks = blocks(&code.blocks, &units);
                let pitches =
                    [(LanesArg::Output as usize, code.output), (LanesArg::Residual as usize, code.residual)];
                let inputs = code.inputs.iter().enumerate();
                let inputs = inputs.map(|(number, pitch)| (LanesArg::Inputs as usize + number, *pitch));
                let args = picture(&step.args, image, pitches.into_iter().chain(inputs));
                take(LayerCode::Lanes(LanesPlan { images: 1, blocks, ..code.clone() }), args)?;
            }
        }
        LayerCode::Dense(code) => {
            let row = code.tiles_per_row();
            for (line, tiles) in shares(&units, row) {
                let (image, y) = (line / code.y.output, line % code.y.output);
                let pitches = [
                    (DenseArg::Output as usize, code.output),
                    (DenseArg::Residual as usize, code.residual),
                    (DenseArg::Input as usize, code.input),
                ];
                let staged = code.stage.iter().flat_map(|stage| &stage.sources).enumerate();
                let staged =
                    staged.map(|(number, source)| (DenseArg::Staged as usize + number, source.pitch));
                let mut args = picture(&step.args, image, pitches.into_iter().chain(staged));
                args[DenseArg::Weights as usize].offset += image as u64 * code.weights.image as u64;
                let (code, args) = row_of(&DensePlan { images: 1, ..code.clone() }, &args, y, tiles);
                take(LayerCode::Dense(code), args)?;
            }
        }
        _ => return Err(format!("\"{}\" cannot be cut", step.name)),
    }
    Ok(all)
}

/// Units in shares of so many each: which shares they are in, and which of each.
fn shares(units: &Range<usize>, size: usize) -> Vec<(usize, Range<usize>)> {
    let share = |n: usize| units.start.max(n * size) - n * size..units.end.min((n + 1) * size) - n * size;
    (units.start / size..units.end.div_ceil(size)).map(|n| (n, share(n))).collect()
}

/// Arguments that point at a picture of a batch instead of the first.
fn picture(args: &[Arg], image: usize, pitches: impl Iterator<Item = (usize, BytePitch)>) -> Vec<Arg> {
    let mut args = args.to_vec();
    for (arg, pitch) in pitches {
        // A layer has no residual, or no input of its own, where there is no such argument.
        if let Some(arg) = args.get_mut(arg) {
            arg.offset += image as u64 * pitch.image as u64;
        }
    }
    args
}

/// Some tiles of one row of a dense layer, as a layer of its own.
fn row_of(code: &DensePlan, args: &[Arg], y: usize, tiles: Range<usize>) -> (DensePlan, Vec<Arg>) {
    let mut cut = DensePlan { tiles: tiles_of(&code.tiles, &tiles), ..code.clone() };
    cut.y.output = 1;
    cut.y.pad -= (y * cut.y.stride) as isize;
    let mut args = args.to_vec();
    for (arg, pitch) in [(DenseArg::Output, code.output.row), (DenseArg::Residual, code.residual.row)] {
        args[arg as usize].offset += y as u64 * pitch as u64;
    }
    args[DenseArg::Weights as usize].offset += y as u64 * code.weights.row as u64;
    (cut, args)
}

fn tiles_of(groups: &[XTiles], tiles: &Range<usize>) -> Vec<XTiles> {
    let mut first = 0;
    let mut cut = Vec::new();
    for group in groups {
        let part = tiles.start.clamp(first, first + group.count)..tiles.end.clamp(first, first + group.count);
        let x = group.x + (part.start - first) * group.width;
        cut.push(XTiles { x, count: part.len(), ..group.clone() });
        first += group.count;
    }
    cut
}

fn blocks(groups: &[AxisBlocks], units: &Range<usize>) -> Vec<AxisBlocks> {
    let mut first = 0;
    let mut cut = Vec::new();
    for group in groups {
        let part = units.start.clamp(first, first + group.count)..units.end.clamp(first, first + group.count);
        let y = group.first + (part.start - first) * group.taps.len();
        cut.push(AxisBlocks { first: y, count: part.len(), ..group.clone() });
        first += group.count;
    }
    cut
}
