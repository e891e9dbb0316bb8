//! The Rust module of one artefact: what `--emit rust` writes.
//!
//! It holds the artefact itself, and gives its inputs and outputs names and types: a host that passes too few elements, or
//! elements of another type, does not compile. It is plain source for whoever has `nnc-runtime`:
//!
//! ```text
//!   mod net { include!("net.rs"); }
//!
//!   let mut model = net::Model::new(&Pool::for_this_machine()?)?;
//!   let outputs = model.run(net::Inputs { x: &picture })?;       x: &[f32; 150528]
//!   println!("{:?}", outputs.scores);                            scores: &[f32]
//! ```

use std::fmt::Write as _;

use nnc_runtime::abi::{ElemType, Port, ProgramDesc};

use super::CName;

/// What all modules have in common; words in capitals are places to fill in.
const MODULE: &str = include_str!("rust_module.txt");

/// The module for the artefact in `file`, which lies beside it.
pub fn write_rust_module(desc: &ProgramDesc, name: &CName, file: &str) -> String {
    let [mut inputs, mut outputs, mut passed, mut taken] = [const { String::new() }; 4];
    // Writing to a string cannot fail.
    for (port, field) in desc.inputs.iter().zip(fields(&desc.inputs, "input")) {
        let (about, count) = (about(port), port.elems());
        let _ = match number(port.elem) {
            Some(number) => {
                let _ = write!(passed, "\n            ::nnc_runtime::InputRef::new(inputs.{field}),");
                write!(inputs, "\n    {about}\n    pub {field}: &'a [{number}; {count}],")
            }
            None => {
                let elem = format!("::nnc_runtime::abi::ElemType::{:?}", port.elem);
                let _ = write!(
                    passed,
                    "\n            ::nnc_runtime::InputRef::from_bytes({elem}, inputs.{field}),"
                );
                write!(inputs, "\n    {about}, as bytes.\n    pub {field}: &'a [u8; {}],", port.bytes())
            }
        };
    }
    for (at, (port, field)) in desc.outputs.iter().zip(fields(&desc.outputs, "output")).enumerate() {
        let about = about(port);
        let _ = match number(port.elem) {
            Some(number) => {
                let _ = write!(taken, "\n            {field}: outputs.get({at})?,");
                write!(outputs, "\n    {about}\n    pub {field}: &'a [{number}],")
            }
            None => {
                let _ = write!(taken, "\n            {field}: outputs.bytes({at})?,");
                write!(outputs, "\n    {about}, as bytes.\n    pub {field}: &'a [u8],")
            }
        };
    }
    let line = |text: &str| text.replace(char::is_control, " ");
    // From the end to the start, as names of a model may be those of places.
    MODULE
        .replacen("TAKEN", &taken, 1)
        .replacen("PASSED", &passed, 1)
        .replacen("OUTPUTS", &outputs, 1)
        .replacen("INPUTS", &inputs, 1)
        .replacen("FILE", &format!("{file:?}"), 1)
        .replacen('%', &line(&desc.target), 1)
        .replacen('@', &name.to_string(), 1)
}

/// The Rust type of an element, if it has one whose bits all are values.
fn number(elem: ElemType) -> Option<&'static str> {
    Some(match elem {
        ElemType::F32 => "f32",
        ElemType::F64 => "f64",
        ElemType::U8 => "u8",
        ElemType::U16 => "u16",
        ElemType::U32 => "u32",
        ElemType::U64 => "u64",
        ElemType::I8 => "i8",
        ElemType::I16 => "i16",
        ElemType::I32 => "i32",
        ElemType::I64 => "i64",
        ElemType::Bool | ElemType::F16 | ElemType::BF16 => return None,
    })
}

/// A line about a port.
fn about(port: &Port) -> String {
    let most = if port.counts.is_empty() { "" } else { " at most" };
    let name = port.name.replace(char::is_control, " ");
    format!("/// \"{name}\": {}{:?}{most}", port.elem, port.shape)
}

/// Names of fields: those of the ports where these make names that differ, or else their positions.
fn fields(ports: &[Port], role: &str) -> Vec<String> {
    let names: Vec<String> = ports.iter().map(|port| field(&port.name)).collect();
    let mut different = names.clone();
    different.sort();
    different.dedup();
    match different.len() == names.len() && names.iter().all(|name| !name.is_empty()) {
        true => names,
        false => (0..ports.len()).map(|at| format!("{role}_{at}")).collect(),
    }
}

/// A name of a model as that of a field, which is never one of Rust's own words; empty if nothing is left of it.
fn field(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("_").to_ascii_lowercase();
    match name.as_bytes() {
        [b'0'..=b'9', ..] => format!("_{name}"),
        _ if WORDS.contains(&name.as_str()) => format!("{name}_"),
        _ => name,
    }
}

/// Words of Rust that no field can be called, in lower case.
const WORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str) -> Port {
        Port { name: name.into(), elem: ElemType::F32, shape: vec![2, 3], counts: Vec::new() }
    }

    #[test]
    fn fields_are_named_after_ports_where_that_can_be() {
        let of = |names: &[&str]| fields(&names.iter().map(|name| port(name)).collect::<Vec<_>>(), "input");
        assert_eq!(
            of(&["x", "Data.0", "images/left", "type", "3d"]),
            ["x", "data_0", "images_left", "type_", "_3d"]
        );
        assert_eq!(of(&["a.b", "a_b"]), ["input_0", "input_1"]);
        assert_eq!(of(&["x", "图"]), ["input_0", "input_1"]);
        assert_eq!(of(&["Self"]), ["self_"]);
    }

    #[test]
    fn a_name_cannot_leave_its_comment() {
        assert_eq!(about(&port("a\n}fn evil() {")), "/// \"a }fn evil() {\": f32[2, 3]");
    }
}
