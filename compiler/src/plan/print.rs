//! The plan as text: `nnc compile --emit plan`.

use std::fmt;

use nnc_runtime::abi::{Arg, Move, Region};

use super::dense::{DensePlan, LoopOrder};
use super::lanes::{AxisBlocks, LanesPlan};
use super::winograd::{StoredKernels, WinogradPlan};
use super::{LayerCode, Plan};
use crate::code::tile::programs::dense::{Accumulators, Col, MatrixTile};
use crate::code::tile::programs::window::Along;

/// Strips of a group that are written out.
const MOST_STRIPS: usize = 64;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for port in &self.inputs {
            writeln!(f, "input   {} {:?} {:?}", port.name, port.elem, port.shape)?;
        }
        for port in &self.outputs {
            writeln!(f, "output  {} {:?} {:?}", port.name, port.elem, port.shape)?;
        }
        writeln!(
            f,
            "arena   {} bytes (buffers {}, tensors {})",
            self.arena_bytes, self.memory.planned_peak, self.memory.logical_peak
        )?;
        writeln!(f, "scratch {} bytes a thread", self.scratch_bytes)?;
        writeln!(f, "consts  {} bytes", self.constants.len())?;
        for group in &self.strips {
            let (steps, count) = (group.steps(), group.strips.len());
            write!(f, "steps {} to {} in {count} strips:", steps.start, steps.end - 1)?;
            for strip in group.strips.iter().take(MOST_STRIPS) {
                let units: Vec<String> =
                    strip.units.iter().map(|u| format!("{}..{}", u.start, u.end)).collect();
                write!(f, "  {}", units.join(" "))?;
            }
            writeln!(f, "{}", if count > MOST_STRIPS { "  …" } else { "" })?;
        }
        for (i, step) in self.steps.iter().enumerate() {
            for repeat in self.repeats.iter().filter(|repeat| repeat.steps().start == i) {
                let (last, condition) = (repeat.steps().end - 1, repeat.going);
                match (repeat.trips, condition) {
                    (1, Some(at)) => writeln!(f, "steps {i} to {last} if arena+{at} is not 0:")?,
                    (trips, Some(at)) => {
                        writeln!(f, "steps {i} to {last} while arena+{at} is not 0, at most {trips} times:")?;
                    }
                    (trips, None) => writeln!(f, "steps {i} to {last}, {trips} times:")?,
                }
            }
            writeln!(f, "{i:4} {} {} : {}", step.code.kind(), step.name, step.shape)?;
            let moves = self.repeats.iter().flat_map(|repeat| &repeat.moves);
            let moves: Vec<&Move> = moves.filter(|moved| moved.step as usize == i).collect();
            let moved = |(index, place): (usize, &Arg)| {
                let strides = moves.iter().filter(|moved| moved.arg as usize == index);
                let strides: Vec<String> = strides.map(|moved| format!("{:+} each", moved.stride)).collect();
                [&[arg(place)], &strides[..]].concat().join("")
            };
            let args: Vec<String> = step.args.iter().enumerate().map(moved).collect();
            writeln!(
                f,
                "     units {}  reads {}  writes {}  args {}",
                step.units,
                step.traffic.read,
                step.traffic.written,
                args.join(" ")
            )?;
            if !step.merged.is_empty() {
                let names: Vec<&str> = step.merged.iter().map(|merged| merged.name.as_str()).collect();
                writeln!(f, "     computes {}", names.join(", "))?;
            }
            for reason in step.note.iter().chain(step.refused.as_ref().map(|r| &r.why)) {
                writeln!(f, "     because {reason}")?;
            }
            match &step.code {
                LayerCode::Dense(d) => dense(f, d)?,
                LayerCode::Winograd(w) => winograd(f, w)?,
                LayerCode::Lanes(l) => lanes(f, l)?,
                LayerCode::Nest(n) => writeln!(f, "     loops {:?} reduce {}", n.loops, n.reduce.len())?,
                LayerCode::Routine(r) => {
                    writeln!(
                        f,
                        "     units {:?} locals {} memory {}",
                        r.units,
                        r.locals.len(),
                        r.memory.len()
                    )?;
                }
            }
        }
        Ok(())
    }
}

fn arg(arg: &Arg) -> String {
    match arg.region {
        Region::Input(i) => format!("in{i}+{}", arg.offset),
        Region::Output(i) => format!("out{i}+{}", arg.offset),
        Region::Arena => format!("arena+{}", arg.offset),
        Region::Const => format!("const+{}", arg.offset),
        Region::Strip(i) => format!("strip{i}+{}", arg.offset),
    }
}

fn dense(f: &mut fmt::Formatter<'_>, d: &DensePlan) -> fmt::Result {
    let order = match d.order {
        LoopOrder::Tiles => "tiles",
        LoopOrder::Panels => "panels",
    };
    let tiles: Vec<String> = d.tiles.iter().map(|t| format!("{}x{}", t.count, t.width)).collect();
    writeln!(f, "     rows {}x{} of tiles [{}], outermost {order}", d.images, d.y.output, tiles.join(" "))?;
    if let Accumulators::Matrices(MatrixTile { height, widths: [first, second], sets, resident, .. }) =
        d.accumulators
    {
        let steps = if second == 0 { format!("{first}") } else { format!("{first} and {second}") };
        let held = if resident { ", the panel stays" } else { "" };
        writeln!(
            f,
            "     matrix registers of {height} pixels, steps of {steps} lanes, {sets} sets of sums{held}"
        )?;
    }
    for p in &d.panels {
        writeln!(f, "     {} panels [{}] reading {:?}", p.count, widths(&p.cols), p.k)?;
    }
    Ok(())
}

fn winograd(f: &mut fmt::Formatter<'_>, w: &WinogradPlan) -> fmt::Result {
    let (rows, cols) = w.grid();
    let (blocks, most) = (w.blocks(), w.tile_rows);
    writeln!(
        f,
        "     tiles {}x{rows}x{cols} in {blocks} blocks of {}, kernels of up to {most}, scratch {} bytes",
        w.images,
        w.block,
        w.scratch()
    )?;
    for p in &w.panels {
        let kernels = match w.kernels {
            StoredKernels::Transformed => "",
            StoredKernels::Plain(_) => ", kernels transformed before use",
        };
        writeln!(f, "     {} panels [{}] over {} channels{kernels}", p.count, widths(&p.cols), w.depth)?;
    }
    Ok(())
}

/// `16/16 5/8`: lanes that exist, of lanes that are computed.
fn widths(cols: &[Col]) -> String {
    cols.iter().map(|c| format!("{}/{}", c.used, c.lanes.count())).collect::<Vec<_>>().join(" ")
}

fn lanes(f: &mut fmt::Formatter<'_>, l: &LanesPlan) -> fmt::Result {
    let groups = |b: &[AxisBlocks]| {
        b.iter().map(|b| format!("{}x{}", b.count, b.taps.len())).collect::<Vec<_>>().join(" ")
    };
    let vectors: Vec<String> = l
        .vectors
        .iter()
        .map(|v| format!("{}x{}/{}@{}", v.count, v.used, v.lanes.count(), v.source))
        .collect();
    writeln!(
        f,
        "     blocks [{}] of tiles [{}], along {}, vectors [{}]",
        groups(&l.blocks),
        groups(&l.tiles),
        match l.along {
            Along::Columns => "columns",
            Along::Channels => "channels",
        },
        vectors.join(" ")
    )
}
