//! `nnc inspect`: what a model costs, layer by layer, and what the compiler made of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use nnc::{Compilation, Model};
use nnc_ir::onnx::Fault;
use nnc_runtime::abi::ProgramDesc;
use nnc_runtime::artefact::Imprint;
use serde_json::{Value, json};

use super::args::CompileArgs;
use super::open_dims;
use super::ports::{declared_json, defaulted, heading, port_json, ports};
use super::progress::Progress;
use super::slow;
use super::source::{self, How};
use super::table;
use super::units;

/// Show each layer: operator, kind of code, shape, arithmetic, parameters, bytes moved, and what was fused into it
#[derive(Args, Clone, Debug)]
pub struct Inspect {
    /// An ONNX model, or a program compiled by `nnc compile`
    pub model: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub compile: CompileArgs,
}

impl Inspect {
    /// Runs the command.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        if source::is_artefact(&self.model) {
            let ready = source::ready(&self.model, &How::from(&self.compile), None)?;
            let imprint = Imprint::of_file(&self.model)?;
            return artefact(out, &self.model, &imprint, ready.program.desc(), self.json);
        }
        let options = source::options(&self.compile)?;
        let progress = Progress::new("compiling");
        let model = Model::open_with(&self.model, self.compile.limits.limits())?;
        let compilation = match model.lower(&options) {
            Err(nnc::Error::Read(error)) if matches!(*error.fault, Fault::Unbound(_)) => {
                drop(progress);
                return open_dims::show(out, &self.model, &model, &error.fault, self.json);
            }
            lowered => lowered?,
        };
        drop(progress);
        slow::warn(&compilation.report().slow);
        if self.json {
            as_json(out, &self.model, &model, &compilation)
        } else {
            as_table(out, &self.model, &model, &compilation)
        }
    }
}

/// Sums over all layers.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    macc: u64,
    params: u64,
    read: u64,
    written: u64,
}

fn totals(compilation: &Compilation) -> Totals {
    let mut totals = Totals::default();
    for step in &compilation.plan().steps {
        totals.macc += step.macc;
        totals.params += step.params;
        totals.read += step.traffic.read;
        totals.written += step.traffic.written;
    }
    totals
}

fn as_table(out: &mut dyn Write, path: &Path, model: &Model, compilation: &Compilation) -> Result<()> {
    let (plan, onnx) = (compilation.plan(), model.onnx());
    heading(out, path, onnx)?;
    ports(out, &plan.inputs, &defaulted(onnx, &plan.inputs), &plan.outputs)?;
    writeln!(out)?;
    let mut table =
        table::new(["layer", "op", "kind", "result", "MACC", "params", "read", "written", "fused or why"]);
    table::numbers(&mut table, &[4, 5, 6, 7]);
    let number = |n: u64| if n == 0 { String::new() } else { units::count(n) };
    for step in &plan.steps {
        // The operators alone: with their names the table would be as wide as the model is deep. JSON has both.
        let absorbed = compilation.report().passes.fusions.absorbed(&step.name);
        let mut notes: Vec<&str> = absorbed.iter().map(|a| a.op).collect();
        notes.extend(step.merged.iter().map(|merged| merged.op));
        notes.extend(step.note.iter().chain(step.refused.as_ref().map(|r| &r.why)).map(String::as_str));
        table.add_row([
            table::name(&step.name),
            step.op_and_times(),
            step.code.kind().to_string(),
            step.shape.clone(),
            number(step.macc),
            number(step.params),
            units::bytes(step.traffic.read),
            units::bytes(step.traffic.written),
            notes.join(", "),
        ]);
    }
    let t = totals(compilation);
    table.add_row([
        "total".to_string(),
        format!("{} steps", plan.steps.len()),
        String::new(),
        String::new(),
        units::count(t.macc),
        units::count(t.params),
        units::bytes(t.read),
        units::bytes(t.written),
        String::new(),
    ]);
    writeln!(out, "{}\n", table.trim_fmt())?;
    super::run::fused(out, compilation.report())?;
    writeln!(
        out,
        "memory   arena {} (buffers that live at once {}, tensors {}), scratch {} a thread, constants {}",
        units::bytes(plan.arena_bytes),
        units::bytes(plan.memory.planned_peak),
        units::bytes(plan.memory.logical_peak),
        units::bytes(plan.scratch_bytes),
        units::bytes(plan.constants.len() as u64)
    )?;
    Ok(())
}

fn as_json(out: &mut dyn Write, path: &Path, model: &Model, compilation: &Compilation) -> Result<()> {
    let plan = compilation.plan();
    let layers: Vec<Value> = plan
        .steps
        .iter()
        .map(|s| {
            json!({
                "name": s.name,
                "op": s.op,
                "kind": s.code.kind(),
                "result": s.shape,
                "times": s.times,
                "macc": s.macc,
                "params": s.params,
                "bytes_read": s.traffic.read,
                "bytes_written": s.traffic.written,
                "fused": s.fused,
                "merged": s.merged.iter().map(|merged| &merged.name).collect::<Vec<_>>(),
                "note": s.note,
                "refused": s.refused.as_ref().map(|r| &r.why),
            })
        })
        .collect();
    let passes: serde_json::Map<String, Value> = compilation
        .report()
        .passes
        .passes
        .iter()
        .map(|p| {
            let counts: serde_json::Map<String, Value> =
                p.counts.iter().map(|(what, n)| (what.to_string(), json!(n))).collect();
            (p.name.to_string(), Value::Object(counts))
        })
        .collect();
    let t = totals(compilation);
    let report = json!({
        "model": path.display().to_string(),
        "target": compilation.target().name,
        "inputs": plan.inputs.iter().map(port_json).collect::<Vec<_>>(),
        "defaults": defaulted(model.onnx(), &plan.inputs).iter().map(declared_json).collect::<Vec<_>>(),
        "outputs": plan.outputs.iter().map(port_json).collect::<Vec<_>>(),
        "layers": layers,
        "passes": passes,
        "totals": {
            "macc": t.macc,
            "params": t.params,
            "bytes_read": t.read,
            "bytes_written": t.written,
            "steps": plan.steps.len(),
        },
        "memory": {
            "arena": plan.arena_bytes,
            "planned_peak": plan.memory.planned_peak,
            "logical_peak": plan.memory.logical_peak,
            "scratch": plan.scratch_bytes,
            "constants": plan.constants.len(),
        },
    });
    writeln!(out, "{report:#}")?;
    Ok(())
}

/// A compiled program knows its steps, but no longer what they compute.
fn artefact(
    out: &mut dyn Write,
    path: &Path,
    imprint: &Imprint,
    desc: &ProgramDesc,
    json: bool,
) -> Result<()> {
    if json {
        let versions: Vec<Value> = imprint
            .versions
            .iter()
            .map(|(target, features)| json!({"target": target, "cpu_features": features.to_string()}))
            .collect();
        let steps: Vec<Value> = desc
            .steps
            .iter()
            .map(|s| json!({"name": s.name, "function": s.func, "units": s.units}))
            .collect();
        let report = json!({
            "model": path.display().to_string(),
            "target": desc.target,
            "made_by": imprint.made_by,
            "abi_version": imprint.abi_version,
            "versions": versions,
            "inputs": desc.inputs.iter().map(port_json).collect::<Vec<_>>(),
            "outputs": desc.outputs.iter().map(port_json).collect::<Vec<_>>(),
            "steps": steps,
            "functions": desc.functions,
            "memory": {"arena": desc.arena_bytes, "scratch": desc.scratch_bytes, "constants": desc.const_bytes},
        });
        writeln!(out, "{report:#}")?;
        return Ok(());
    }
    let made_by = if imprint.made_by.is_empty() { "another compiler" } else { &imprint.made_by };
    writeln!(
        out,
        "{}: compiled for {} by {made_by}, ABI {}",
        path.display(),
        desc.target,
        imprint.abi_version
    )?;
    if imprint.versions.len() > 1 {
        let versions: Vec<&str> = imprint.versions.iter().map(|(target, _)| target.as_str()).collect();
        writeln!(out, "versions {}", versions.join(", "))?;
    }
    ports(out, &desc.inputs, &[], &desc.outputs)?;
    writeln!(out)?;
    let mut table = table::new(["step", "function", "units of work"]);
    table::numbers(&mut table, &[1, 2]);
    for step in &desc.steps {
        table.add_row([table::name(&step.name), step.func.to_string(), step.units.to_string()]);
    }
    writeln!(out, "{}\n", table.trim_fmt())?;
    writeln!(
        out,
        "memory   arena {}, scratch {} a thread, constants {}; {} steps share {} functions",
        units::bytes(desc.arena_bytes),
        units::bytes(desc.scratch_bytes),
        units::bytes(desc.const_bytes),
        desc.steps.len(),
        desc.functions
    )?;
    Ok(())
}
