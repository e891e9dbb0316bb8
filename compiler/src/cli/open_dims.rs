//! What can be said of a model whose dims are open: which they are, where they stand, and how they are given. Layers have costs
//! only once they are known.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use nnc::Model;
use nnc_ir::onnx::{Dim, Fault, PortInfo};
use serde_json::{Value, json};

use super::flag::flag;
use super::ports::{declared_json, defaults, heading};

/// Where a dim with a name stands.
#[derive(Default)]
struct DimUses {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

/// The named dims of a model, and where they stand: `x axis 0`.
fn named(inputs: &[PortInfo], outputs: &[PortInfo]) -> BTreeMap<String, DimUses> {
    let mut dims: BTreeMap<String, DimUses> = BTreeMap::new();
    for (ports, is_input) in [(inputs, true), (outputs, false)] {
        for port in ports {
            for (axis, dim) in port.dims.iter().flatten().enumerate() {
                let Dim::Named(name) = dim else { continue };
                let places = dims.entry(name.clone()).or_default();
                let place = format!("{} axis {axis}", port.name);
                if is_input { places.inputs.push(place) } else { places.outputs.push(place) }
            }
        }
    }
    // A name that only results have is that of an extent which follows from the others.
    dims.retain(|_, places| !places.inputs.is_empty());
    dims
}

/// Shows a model that cannot be compiled before `fault`, that dims are open, is mended.
pub fn show(out: &mut dyn Write, path: &Path, model: &Model, fault: &Fault, as_json: bool) -> Result<()> {
    let onnx = model.onnx();
    let dims = named(onnx.inputs(), onnx.outputs());
    let flags: Vec<String> = match fault {
        Fault::Unbound(inputs) => inputs.iter().flat_map(|i| i.settings.iter().map(flag)).collect(),
        _ => Vec::new(),
    };
    if as_json {
        let ports = |ports: &[PortInfo]| ports.iter().map(|p| declared_json(&p)).collect::<Vec<_>>();
        let place = |(name, at): (&String, &DimUses)| {
            (name.clone(), json!({"inputs": at.inputs, "outputs": at.outputs}))
        };
        let report = json!({
            "model": path.display().to_string(),
            "opset": onnx.opset(),
            "nodes": onnx.node_count(),
            "inputs": ports(onnx.inputs()),
            "defaults": ports(onnx.defaults()),
            "outputs": ports(onnx.outputs()),
            "open_dims": dims.iter().map(place).collect::<serde_json::Map<String, Value>>(),
            "operators": onnx.operators(),
            "to_give": flags,
        });
        writeln!(out, "{report:#}")?;
        return Ok(());
    }
    heading(out, path, onnx)?;
    for input in onnx.inputs() {
        writeln!(out, "input    {} {input}", input.name)?;
    }
    defaults(out, &onnx.defaults().iter().collect::<Vec<_>>())?;
    for output in onnx.outputs() {
        writeln!(out, "output   {} {output}", output.name)?;
    }
    let mut head = "open";
    for (name, at) in &dims {
        let more = if at.outputs.is_empty() {
            String::new()
        } else {
            format!("; decides {}", at.outputs.join(", "))
        };
        writeln!(out, "{head:<8} \"{name}\": {}{more}", at.inputs.join(", "))?;
        head = "";
    }
    let mut operators: Vec<(&str, usize)> = onnx.operators().into_iter().collect();
    operators.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    let operators: Vec<String> = operators.iter().map(|(name, count)| format!("{count} {name}")).collect();
    writeln!(out, "nodes    {}", operators.join(", "))?;
    writeln!(out, "\nLayers are shown once the shapes are known: give {}", flags.join(" and "))?;
    Ok(())
}
