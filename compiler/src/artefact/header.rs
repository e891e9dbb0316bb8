//! The C header of one artefact: what `--emit header` writes.
//!
//! It declares the functions and data that the artefact exports and gives the sizes and shapes of its model as macros, so
//! that a C host can allocate its buffers statically. Macro names are made of the names in the model where those are
//! unique as C identifiers, and of positions always.

use std::fmt::Write as _;

use nnc_runtime::abi::{Count, ElemType, Port, ProgramDesc};
use nnc_runtime::artefact::ABI_VERSION;

use super::driver::{DriverError, WORKSPACE_ALIGN, workspace_bytes};

const DECLARATIONS: &str = r"
/* All of them are in the artefact itself, which imports nothing: link with it, or dlopen it and look them up. */

/* Equal to NNC_ABI_VERSION if this header belongs to the artefact. */
extern const uint32_t nnc_abi_version;

/* Size of the workspace that nnc_run needs, in bytes. */
extern const uint64_t nnc_workspace_bytes;

/* What the program is, as JSON: target, CPU features, names, types and shapes of inputs and outputs. */
extern const char nnc_info[];

/* Runs the model once, on the calling thread.
 *
 * inputs and outputs are arrays of pointers to dense row-major tensors, in the order above, each aligned to its
 * elements. workspace has nnc_workspace_bytes bytes, is aligned to 64, is all zero before the first run, and belongs
 * to one call at a time; threads that run at once bring a workspace each. The floating-point environment is the
 * default one: round to nearest, no flush to zero. The CPU has what nnc_info lists under cpu_features.
 *
 * Returns 0, or 1 if a pointer is null or not aligned; then nothing was computed. */
int nnc_run(const void *const *inputs, void *const *outputs, void *workspace);
";

/// The header of the program that `desc` describes; `name` goes into its first line.
pub fn write(desc: &ProgramDesc, name: &str) -> Result<String, DriverError> {
    let workspace = workspace_bytes(desc)?;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "/* {}, compiled by nnc for {}. */", comment(name), comment(&desc.target));
    out.push_str("#ifndef NNC_MODEL_H\n#define NNC_MODEL_H\n\n#include <stdint.h>\n\n");
    out.push_str("#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    let _ = writeln!(out, "#define NNC_ABI_VERSION {ABI_VERSION}u");
    let _ = writeln!(out, "#define NNC_WORKSPACE_BYTES {workspace}ull");
    let _ = writeln!(out, "#define NNC_WORKSPACE_ALIGN {WORKSPACE_ALIGN}u");
    for (role, ports) in [("INPUT", &desc.inputs), ("OUTPUT", &desc.outputs)] {
        let _ = writeln!(out, "\n#define NNC_{role}S {}u", ports.len());
        for (at, port) in ports.iter().enumerate() {
            write_port(&mut out, &format!("NNC_{role}_{at}"), port);
            if let Some(name) = identifier(ports, at) {
                let _ = writeln!(out, "#define NNC_{role}_{name} {at}u");
            }
        }
    }
    out.push_str(DECLARATIONS);
    out.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n");
    Ok(out)
}

fn write_port(out: &mut String, prefix: &str, port: &Port) {
    let (name, elem, shape) = (comment(&port.name), port.elem, &port.shape);
    let _ = writeln!(out, "/* \"{name}\": {elem}{shape:?} */");
    let _ = writeln!(out, "#define {prefix}_TYPE {}", c_type(port.elem));
    let _ = writeln!(out, "#define {prefix}_ELEMENTS {}ull", port.elems());
    let _ = writeln!(out, "#define {prefix}_BYTES {}ull", port.bytes());
    if let Some(Count { axis, at }) = port.count {
        // The workspace begins with the arena.
        let _ = writeln!(
            out,
            "/* The extent of axis {axis} is the most that can come out. How many there are, and stand first in"
        );
        let _ = writeln!(
            out,
            "   the buffer, as a dense tensor of that number: an int64_t so many bytes into the workspace. */"
        );
        let _ = writeln!(out, "#define {prefix}_COUNT_AT {at}ull");
    }
}

/// The C type of an element; half-precision numbers are given as their bits.
fn c_type(elem: ElemType) -> &'static str {
    match elem {
        ElemType::F32 => "float",
        ElemType::F64 => "double",
        ElemType::U8 | ElemType::Bool => "uint8_t",
        ElemType::U16 | ElemType::F16 | ElemType::BF16 => "uint16_t",
        ElemType::U32 => "uint32_t",
        ElemType::U64 => "uint64_t",
        ElemType::I8 => "int8_t",
        ElemType::I16 => "int16_t",
        ElemType::I32 => "int32_t",
        ElemType::I64 => "int64_t",
    }
}

/// The port's name as a macro is named, if no other port has the same and it cannot be taken for a position.
fn identifier(ports: &[Port], at: usize) -> Option<String> {
    let name = macro_name(&ports.get(at)?.name);
    let unique = ports.iter().filter(|port| macro_name(&port.name) == name).count() == 1;
    (unique && name.starts_with(|first: char| first.is_ascii_uppercase())).then_some(name)
}

fn macro_name(name: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(upper).collect()
}

/// Text that cannot end a comment or a line.
fn comment(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while out.contains("*/") {
        out = out.replace("*/", "* /");
    }
    // A backslash before the end of a line, also spelt `??/`, would join it to the next.
    out.replace(['\\', '?'], "_")
}

#[cfg(test)]
mod tests {
    use nnc_runtime::abi::CpuFeatures;

    use super::*;

    fn desc(inputs: &[&str]) -> ProgramDesc {
        let port = |name: &&str| Port {
            name: (*name).to_owned(),
            elem: ElemType::F32,
            shape: vec![1, 3],
            count: None,
        };
        ProgramDesc {
            target: "baseline".to_owned(),
            features: CpuFeatures::default(),
            inputs: inputs.iter().map(port).collect(),
            outputs: vec![],
            arena_bytes: 65,
            scratch_bytes: 1,
            const_bytes: 0,
            functions: 0,
            steps: vec![],
            strips: vec![],
        }
    }

    #[test]
    fn sizes_are_macros() {
        let header = write(&desc(&["data.0"]), "net").unwrap();
        for line in [
            "/* net, compiled by nnc for baseline. */",
            "#define NNC_WORKSPACE_BYTES 192ull",
            "#define NNC_INPUTS 1u",
            "/* \"data.0\": f32[1, 3] */",
            "#define NNC_INPUT_0_TYPE float",
            "#define NNC_INPUT_0_BYTES 12ull",
            "#define NNC_INPUT_DATA_0 0u",
            "#define NNC_OUTPUTS 0u",
        ] {
            assert!(header.lines().any(|found| found == line), "no {line} in\n{header}");
        }
    }

    #[test]
    fn names_that_would_clash_get_no_macro() {
        let header = write(&desc(&["a.b", "a_b", "0", "c"]), "net").unwrap();
        assert!(!header.contains("NNC_INPUT_A_B"));
        assert!(!header.contains("NNC_INPUT_0 "));
        assert!(header.contains("#define NNC_INPUT_C 3u"));
    }

    #[test]
    fn a_name_cannot_leave_its_comment() {
        let header = write(&desc(&["*/ int evil; /*", "**//", "a\n#error", "b\\"]), "x*/").unwrap();
        let comments = header.lines().filter(|line| line.starts_with("/* \""));
        assert_eq!(comments.clone().count(), 4);
        assert!(comments.clone().all(|line| line.find("*/") == Some(line.len() - 2)), "{header}");
        assert!(!header.lines().any(|line| line.starts_with("#error")));
    }
}
