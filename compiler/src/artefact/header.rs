//! The C header of one artefact: what `--emit header` writes.
//!
//! It declares the functions and data that the artefact exports and gives the sizes and shapes of its model as macros, so
//! that a C host can allocate its buffers statically. All of them begin with the name of the program. Macro names are made
//! of the names in the model where those are unique as C identifiers, and of positions always.
//!
//! The guard's value is a digest of what the header says. So the header may be included twice, but two programs with one
//! name in one translation unit are an error instead of one workspace for both.

use std::fmt::Write as _;

use nnc_runtime::abi::{Count, Denormals, ElemType, Port, ProgramDesc};
use nnc_runtime::artefact::ABI_VERSION;

use super::CName;
use super::PARTS;
use super::driver::{DriverError, Status, WORKSPACE_ALIGN, parallel_workspace_bytes, workspace_bytes};

/// `@` stands for the name as it is, `%` for that of macros, `!` for what is done with denormals.
const DECLARATIONS: &str = r"
/* All of them are in the artefact itself, which imports nothing: link with it, or dlopen it and look them up. */

/* Equal to %_ABI_VERSION if this header belongs to the artefact. */
extern const uint32_t @_abi_version;

/* Size of the workspace that @_run needs, in bytes: %_WORKSPACE_BYTES. */
extern const uint64_t @_workspace_bytes;

/* What the program is, as JSON: target, CPU features, names, types and shapes of inputs and outputs. */
extern const char @_info[];

/* Runs the model once, on the calling thread.
 *
 * inputs and outputs are arrays of pointers to dense row-major tensors, in the order above, each aligned to its
 * elements. workspace has @_workspace_bytes bytes, is aligned to 64, is all zero before the first run, stays as a run
 * leaves it until the next one, and belongs to one call at a time; threads that run at once bring a workspace each.
 *
 * Whatever the floating-point environment of the caller is, the model runs in its own, which rounds to nearest and !;
 * the caller's is there again afterwards.
 *
 * Returns one of these. */
int @_run(const void *const *inputs, void *const *outputs, void *workspace);

/* Whether @_run can do anything on this processor: 1, or 0 if it would return %_ERROR_CPU. */
int @_supported(void);

/* A function of the host that calls task(argument, part) once for each part from 0 to parts - 1, at once or one after the
 * other, on any threads, and returns when all calls have returned and what they have written can be read. */
typedef void @_parallel_for(void *context, size_t parts, void (*task)(void *argument, size_t part), void *argument);

/* As @_run, with the same results bit for bit, but lets parallel_for(context, ...) do the work, in %_MOST_PARTS
 * parts at most. workspace has %_PARALLEL_WORKSPACE_BYTES bytes; all else is as above. */
int @_run_parallel(const void *const *inputs, void *const *outputs, void *workspace,
                   @_parallel_for *parallel_for, void *context);

";

/// What the function returns, what it is called, and when it does.
const STATUSES: [(Status, &str, &str); 4] = [
    (Status::Ok, "OK", "the outputs are there"),
    (Status::Buffer, "ERROR_BUFFER", "a pointer is null or not aligned; nothing was computed"),
    (
        Status::Cpu,
        "ERROR_CPU",
        "the processor, or the operating system, lacks what @_info lists under cpu_features; nothing was computed",
    ),
    (
        Status::Index,
        "ERROR_INDEX",
        "the data contain an index that leads outside of what it points into; the outputs mean nothing",
    ),
];

/// The header of the program that `desc` describes and that C knows by `name`.
pub fn write(desc: &ProgramDesc, name: &CName) -> Result<String, DriverError> {
    let body = body(desc, name)?;
    let digest = blake3::hash(body.as_bytes());
    let digest = digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let guard = format!("NNC_MODEL_{}_H", name.macros());
    Ok(format!(
        "/* {name}, compiled by nnc for {}. */\n\
         #ifdef {guard}\n\
         #if {guard} != 0x{digest:016x}u\n\
         #error \"two programs have the name {name}; give one of them another when you compile it\"\n\
         #endif\n\
         #else\n\
         #define {guard} 0x{digest:016x}u\n\n{body}\n#endif\n",
        comment(&desc.target)
    ))
}

fn body(desc: &ProgramDesc, name: &CName) -> Result<String, DriverError> {
    let workspace = workspace_bytes(desc)?;
    let macros = name.macros();
    let denormals = match desc.denormals {
        Denormals::Flush => "takes\n * denormals for zero",
        Denormals::Keep => "keeps\n * denormals",
    };
    let named =
        |text: &str| text.replace('@', &name.to_string()).replace('%', &macros).replace('!', denormals);
    let mut out = String::from(
        "#include <stddef.h>\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(out, "#define {macros}_ABI_VERSION {ABI_VERSION}u");
    let _ = writeln!(out, "#define {macros}_WORKSPACE_BYTES {workspace}ull");
    let _ = writeln!(out, "#define {macros}_PARALLEL_WORKSPACE_BYTES {}ull", parallel_workspace_bytes(desc)?);
    let _ = writeln!(out, "#define {macros}_MOST_PARTS {PARTS}u");
    let _ = writeln!(out, "#define {macros}_WORKSPACE_ALIGN {WORKSPACE_ALIGN}u");
    for (role, ports) in [("INPUT", &desc.inputs), ("OUTPUT", &desc.outputs)] {
        let _ = writeln!(out, "\n#define {macros}_{role}S {}u", ports.len());
        for (at, port) in ports.iter().enumerate() {
            write_port(&mut out, &format!("{macros}_{role}_{at}"), port);
            if let Some(port) = identifier(ports, at) {
                let _ = writeln!(out, "#define {macros}_{role}_{port} {at}u");
            }
        }
    }
    out.push_str(&named(DECLARATIONS));
    for (status, name, when) in STATUSES {
        let _ = writeln!(out, "#define {macros}_{name} {} /* {} */", status as u32, named(when));
    }
    out.push_str("\n#ifdef __cplusplus\n}\n#endif\n");
    Ok(out)
}

fn write_port(out: &mut String, prefix: &str, port: &Port) {
    let (name, elem, shape) = (comment(&port.name), port.elem, &port.shape);
    let _ = writeln!(out, "/* \"{name}\": {elem}{shape:?} */");
    let _ = writeln!(out, "#define {prefix}_TYPE {}", c_type(port.elem));
    let _ = writeln!(out, "#define {prefix}_ELEMENTS {}ull", port.elems());
    let _ = writeln!(out, "#define {prefix}_BYTES {}ull", port.bytes());
    for Count { axis, at } in &port.counts {
        // The workspace begins with the arena.
        let _ = writeln!(
            out,
            "/* The extent of axis {axis} is the most that can come out. How many there are, and stand first in"
        );
        let _ = writeln!(
            out,
            "   the buffer, as a dense tensor of that number: an int64_t so many bytes into the workspace. */"
        );
        let of_axis = if port.counts.len() > 1 { format!("_{axis}") } else { String::new() };
        let _ = writeln!(out, "#define {prefix}_COUNT_AT{of_axis} {at}ull");
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
            counts: Vec::new(),
        };
        ProgramDesc {
            target: "baseline".to_owned(),
            features: CpuFeatures::default(),
            denormals: Denormals::Flush,
            index_checks: Vec::new(),
            inputs: inputs.iter().map(port).collect(),
            outputs: vec![],
            arena_bytes: 65,
            scratch_bytes: 1,
            const_bytes: 0,
            functions: 0,
            steps: vec![],
            strips: vec![],
            repeats: vec![],
        }
    }

    fn header(inputs: &[&str], name: &str) -> String {
        write(&desc(inputs), &CName::new(name).unwrap()).unwrap()
    }

    #[test]
    fn sizes_are_macros() {
        let header = header(&["data.0"], "Net");
        for line in [
            "/* Net, compiled by nnc for baseline. */",
            "#define NET_WORKSPACE_BYTES 256ull",
            "#define NET_INPUTS 1u",
            "/* \"data.0\": f32[1, 3] */",
            "#define NET_INPUT_0_TYPE float",
            "#define NET_INPUT_0_BYTES 12ull",
            "#define NET_INPUT_DATA_0 0u",
            "#define NET_OUTPUTS 0u",
            "#define NET_PARALLEL_WORKSPACE_BYTES 3136ull",
            "int Net_run(const void *const *inputs, void *const *outputs, void *workspace);",
            "int Net_supported(void);",
            "#define NET_ERROR_BUFFER 1 /* a pointer is null or not aligned; nothing was computed */",
        ] {
            assert!(header.lines().any(|found| found == line), "no {line} in\n{header}");
        }
    }

    #[test]
    fn names_that_would_clash_get_no_macro() {
        let header = header(&["a.b", "a_b", "0", "c"], "net");
        assert!(!header.contains("NET_INPUT_A_B"));
        assert!(!header.contains("NET_INPUT_0 "));
        assert!(header.contains("#define NET_INPUT_C 3u"));
    }

    #[test]
    fn where_the_run_tells_how_many_there_are_is_named_for_each_axis() {
        let header_of = |counts: &[Count]| {
            let mut desc = desc(&["x"]);
            desc.outputs = vec![Port { counts: counts.to_vec(), ..desc.inputs[0].clone() }];
            write(&desc, &CName::new("net").unwrap()).unwrap()
        };
        let (first, second) = (Count { axis: 0, at: 64 }, Count { axis: 1, at: 8 });
        assert!(header_of(&[second]).contains("#define NET_OUTPUT_0_COUNT_AT 8ull\n"));
        let both = header_of(&[first, second]);
        assert!(both.contains("#define NET_OUTPUT_0_COUNT_AT_0 64ull\n"), "{both}");
        assert!(both.contains("#define NET_OUTPUT_0_COUNT_AT_1 8ull\n"), "{both}");
        assert!(!both.contains("COUNT_AT "), "{both}");
    }

    #[test]
    fn a_name_cannot_leave_its_comment() {
        let header = header(&["*/ int evil; /*", "**//", "a\n#error", "b\\"], "net");
        let comments = header.lines().filter(|line| line.starts_with("/* \""));
        assert_eq!(comments.clone().count(), 4);
        assert!(comments.clone().all(|line| line.find("*/") == Some(line.len() - 2)), "{header}");
        assert_eq!(header.lines().filter(|line| line.starts_with("#error")).count(), 1, "of the guard's own");
    }

    #[test]
    fn the_guard_tells_programs_apart() {
        let guard = |inputs: &[&str], name| {
            let header = header(inputs, name);
            let line =
                header.lines().find(|line| line.starts_with("#define NNC_MODEL_NET_H ")).unwrap().to_owned();
            (line, header)
        };
        assert_eq!(guard(&["a"], "net"), guard(&["a"], "net"));
        assert_ne!(guard(&["a"], "net").0, guard(&["b"], "net").0);
        assert_ne!(guard(&["a"], "net").0, guard(&["a"], "NET").0, "which has other functions");
    }
}
