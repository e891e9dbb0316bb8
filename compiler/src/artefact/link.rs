//! From a relocatable object to a shared object: what a linker does, for the few things that our objects contain.
//!
//! An object from the code generator has functions that call each other, read-only data that they point to, and nothing
//! else: no imports, no writable data, no addresses. So linking is placing sections and writing distances into the code:
//!
//! ```text
//!   object                               shared object
//!   .text     f0 f1 NAME_run               512  header, description, function table [f0, f1]
//!   .rodata   NAME_info, step records           .rodata
//!   calls, and addresses of data          page  .text            distances filled in
//!   its constants  undefined              page  constants        here they are
//! ```

use nnc_runtime::abi::ProgramDesc;
use nnc_runtime::artefact::{Header, header, versions};

use super::elf::{Contents, SharedObject};
use super::fault::LinkError;
use super::input::{LinkInput, Section};
use super::relocate::{Relocation, relocate};
use super::{CName, MADE_BY};

/// Bytes of a file for headers, and for parts that begin at a page.
const PADDING: usize = 1 << 20;

/// A version of a program, as it is in an object.
#[derive(Clone, Copy, Debug)]
pub struct LinkedVersion<'a> {
    /// The symbols of its layer functions, in the order of the function table.
    pub functions: &'a [String],
    /// What it is.
    pub desc: &'a ProgramDesc,
}

/// Turns `object`, a relocatable ELF file, into an artefact: a shared object with the code, the program's description
/// and its constants. `name` is what the program is called in the object, `soname` what those who link with the file will look
/// for. `funcs` are the symbols of the layer functions, in the order of the function table. The same arguments give the same
/// bytes.
pub fn write_shared_object(
    object: &[u8],
    name: &CName,
    soname: &str,
    funcs: &[String],
    desc: &ProgramDesc,
    consts: &[u8],
) -> Result<Vec<u8>, LinkError> {
    write_versions(object, name, soname, &[LinkedVersion { functions: funcs, desc }], consts)
}

/// Like [`write_shared_object`], for a program in several versions, the best first, which have the constants in common.
pub fn write_versions(
    object: &[u8],
    name: &CName,
    soname: &str,
    versions: &[LinkedVersion<'_>],
    consts: &[u8],
) -> Result<Vec<u8>, LinkError> {
    let mut input = LinkInput::read(object, name)?;
    let mut table = Vec::new();
    for LinkedVersion { functions, desc } in versions {
        let counts = [
            ("functions", u64::from(desc.functions), functions.len() as u64),
            ("bytes of constants", desc.const_bytes, consts.len() as u64),
        ];
        for (what, expected, found) in counts {
            if found != expected {
                return Err(LinkError::Mismatch { what, expected, found });
            }
        }
        table.extend(function_table(&input, functions)?);
    }
    let descs: Vec<&ProgramDesc> = versions.iter().map(|version| version.desc).collect();
    let encoded = versions::write(&descs)?;

    let contents = Contents {
        machine: input.machine,
        soname,
        desc: &encoded,
        table: &table,
        rodata_len: input.rodata.len(),
        text_len: input.text.len(),
        consts,
        symbols: &input.symbols,
    };
    let mut file = Vec::new();
    let bytes = [object.len(), encoded.len(), table.len(), consts.len()]
        .into_iter()
        .fold(PADDING, usize::saturating_add);
    file.try_reserve(bytes).map_err(|_| LinkError::Memory { bytes: bytes as u64 })?;
    let shared = SharedObject::lay_out(&mut file, &contents);
    let layout = shared.layout.clone();

    for fixup in &input.fixups {
        let bytes = match fixup.place.section {
            Section::Text => &mut input.text,
            _ => &mut input.rodata,
        };
        let relocation = Relocation {
            machine: input.machine,
            r_type: fixup.r_type,
            from: layout.address(fixup.place),
            to: layout.address(fixup.target).wrapping_add_signed(fixup.addend),
        };
        relocate(bytes, fixup.place.offset, &relocation).map_err(|source| LinkError::Relocation {
            section: fixup.section.clone(),
            at: fixup.place.offset,
            source,
        })?;
    }

    shared.write(&contents, &input.rodata, &input.text)?;
    let header = Header {
        machine: input.machine,
        versions: versions.len() as u32,
        functions: (table.len() / size_of::<u32>()) as u32,
        table: layout.table.start,
        program: layout.desc,
        made_by: MADE_BY.to_owned(),
        text: layout.text,
        consts: layout.consts,
    };
    // The constants come last of what is loaded; behind them are symbols.
    match header::seal(&mut file, header.consts.end as usize, &header) {
        true => Ok(file),
        false => Err(LinkError::TooLarge(file.len() as u64)),
    }
}

/// Where each function begins, counted from the start of the text.
fn function_table(input: &LinkInput, funcs: &[String]) -> Result<Vec<u8>, LinkError> {
    let mut table = Vec::with_capacity(funcs.len().saturating_mul(4));
    for name in funcs {
        let place = input.function(name).ok_or_else(|| LinkError::NoSuchFunction { name: name.clone() })?;
        let offset = u32::try_from(place.offset).map_err(|_| LinkError::TooLarge(place.offset))?;
        table.extend(offset.to_le_bytes());
    }
    Ok(table)
}
