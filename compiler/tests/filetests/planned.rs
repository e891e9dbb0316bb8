//! File tests of plans: for which targets, a graph, and how it is planned, in one text file.
//!
//! ```text
//! // What this file is about.
//! // targets: x86-64-v3 aarch64
//! // passes: all                    (or none, as without this line)
//! // strips: 4                      (as many of all that can; or never)
//! // winograd: never
//! // panels: common
//! // constants: 400                 (per cent of the weights)
//!
//! %x = input : f32[1x4x8x8]
//! …
//! ----
//! // x86-64-v3
//! input   x F32 [1, 4, 8, 8]
//! …
//!    0 dense conv : f32[1x8x8x8]
//!      …
//!      Conv: macc 18432  params 288  code 81a0c3f2d5b9e674  memory 5bd1e995a3f0c821
//! …
//! constants 9ae16a3b2f90404f
//! ```
//!
//! Not all of a plan is text: the digest of a step's code is over everything that decides its function, that of its memory over the
//! bytes that it may touch, and that of the constants over the weights as they are packed.

use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::path::Path;

use nnc::passes::{self, PassOptions};
use nnc::plan::{self, ConstantsLimit, PanelWidth, Plan, PlanOptions, StripRule, Winograd};
use nnc::target::Target;
use nnc_ir::text;

use super::filetest::{SEPARATOR, accept, chain};

/// Runs one file test; the error says what differs.
pub fn run(path: &Path) -> Result<(), String> {
    let file = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let given = file.split_once(SEPARATOR).map_or(&*file, |(given, _)| given);
    let setting = |name: &str| {
        given.lines().find_map(|line| line.strip_prefix("// ")?.strip_prefix(name)?.strip_prefix(": "))
    };
    let mut graph = text::parse(given).map_err(|e| e.to_string())?;
    if setting("passes") == Some("all") {
        passes::optimise(&mut graph, &PassOptions::default()).map_err(|e| chain(&e))?;
    }
    let number = |text: &str| text.parse::<u32>().map_err(|e| format!("{text}: {e}"));
    let options = PlanOptions {
        strips: match setting("strips") {
            None => StripRule::WhereFaster,
            Some("never") => StripRule::Never,
            Some(count) => StripRule::Always(number(count)? as usize),
        },
        winograd: if setting("winograd") == Some("never") { Winograd::Never } else { Winograd::WhereFaster },
        panels: if setting("panels") == Some("common") { PanelWidth::Common } else { PanelWidth::Fastest },
        constants: match setting("constants") {
            Some(percent) => ConstantsLimit { percent: number(percent)? },
            None => ConstantsLimit::default(),
        },
        ..PlanOptions::default()
    };
    let targets = setting("targets").ok_or("no line \"// targets: TARGET …\" says for which targets")?;
    let mut got = String::new();
    for name in targets.split_whitespace() {
        let target = Target::named(name).map_err(|e| e.to_string())?;
        let plan = plan::plan(&graph, &target, &options, &Default::default()).map_err(|e| chain(&e))?;
        got += &format!("// {name}\n{}", printed(&plan)?);
    }
    accept(path, &file, &got)
}

/// A plan as text, with digests of what its text leaves out.
fn printed(plan: &Plan) -> Result<String, String> {
    let mut out = String::new();
    let mut steps = plan.steps.iter();
    let mut last = None;
    for line in plan.to_string().lines() {
        // A step begins with its number, in four columns; its other lines are indented further.
        if !line.starts_with("     ") {
            digests(&mut out, last.take())?;
        }
        if line.get(..4).is_some_and(|number| number.trim().parse::<usize>().is_ok()) {
            last = steps.next();
        }
        writeln!(out, "{line}").map_err(|e| e.to_string())?;
    }
    digests(&mut out, last)?;
    writeln!(out, "constants {:016x}", digest(&plan.constants.bytes())).map_err(|e| e.to_string())?;
    Ok(out)
}

fn digests(out: &mut String, step: Option<&plan::PlanStep>) -> Result<(), String> {
    let Some(step) = step else { return Ok(()) };
    let memory = &step.memory;
    let ranges = memory.args.iter().chain(&memory.displaced).map(|r| (r.start, r.end)).collect::<Vec<_>>();
    let (code, memory) = (digest(&step.code), digest(&(ranges, memory.scratch)));
    let (op, macc, params) = (step.op_and_times(), step.macc, step.params);
    writeln!(out, "     {op}: macc {macc}  params {params}  code {code:016x}  memory {memory:016x}")
        .map_err(|e| e.to_string())
}

/// FNV-1a, which no version of a library changes.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn digest(what: &impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    what.hash(&mut hasher);
    hasher.finish()
}
