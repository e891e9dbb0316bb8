//! What goes into a model and what comes out, as `nnc inspect` shows it: of a program, and of a model whose dims are open.

use std::io::Write;
use std::path::Path;

use nnc_ir::onnx::PortInfo;
use nnc_runtime::abi::Port;
use serde_json::{Value, json};

use super::tensors::type_of;

/// What a model says of itself.
pub fn heading(out: &mut dyn Write, path: &Path, model: &nnc_ir::onnx::Model) -> std::io::Result<()> {
    let (opset, nodes) = (model.opset(), model.node_count());
    let producer = match model.producer() {
        none if none.is_empty() => "no producer named".into(),
        named => named,
    };
    writeln!(out, "{}: opset {opset}, {nodes} nodes, {producer}", path.display())
}

/// The ports of a program, and the inputs that have a default.
pub fn ports(
    out: &mut dyn Write,
    inputs: &[Port],
    defaulted: &[&PortInfo],
    outputs: &[Port],
) -> std::io::Result<()> {
    for port in inputs {
        writeln!(out, "input    {} {}", port.name, type_of(port))?;
    }
    defaults(out, defaulted)?;
    for port in outputs {
        writeln!(out, "output   {} {}", port.name, type_of(port))?;
    }
    Ok(())
}

/// The inputs that nobody has to give, as they have a default, and that are none of the program's.
pub fn defaulted<'m>(model: &'m nnc_ir::onnx::Model, inputs: &[Port]) -> Vec<&'m PortInfo> {
    let open = |input: &&PortInfo| inputs.iter().all(|port| port.name != input.name);
    model.defaults().iter().filter(open).collect()
}

/// The first of them: models of old versions of ONNX have all their weights there.
pub fn defaults(out: &mut dyn Write, inputs: &[&PortInfo]) -> std::io::Result<()> {
    const SHOWN: usize = 8;
    for input in inputs.iter().take(SHOWN) {
        writeln!(out, "input    {} {input}, has a default value", input.name)?;
    }
    match inputs.len().checked_sub(SHOWN) {
        Some(more @ 1..) => writeln!(out, "         and {more} more inputs that have a default value"),
        _ => Ok(()),
    }
}

/// A port of a program.
pub fn port_json(port: &Port) -> Value {
    json!({"name": port.name, "dtype": port.elem.to_string(), "shape": port.shape})
}

/// An input as the model declares it.
pub fn declared_json(port: &&PortInfo) -> Value {
    json!({"name": port.name, "type": port.to_string()})
}
