//! A static library: an archive with one object, as linkers read it.
//!
//! ```text
//!   !<arch>
//!   header /        which symbols the object defines, and where its header is     for linkers, so that they need not look
//!   header //       the object's name, as headers have no room for long ones
//!   header /0       the object
//! ```
//!
//! This is the format of System V, with names as GNU has them. Headers are text of 60 bytes, and each part begins at an even
//! place. Times, owners and modes are those of nobody: the same object gives the same bytes.

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSymbol};

use super::fault::LinkError;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;
/// What the text of a size has room for.
const MOST_BYTES: usize = 9_999_999_999;

/// The archive with `object`, a relocatable ELF file of that name.
pub fn write_archive(object: &[u8], name: &str) -> Result<Vec<u8>, LinkError> {
    if object.len() > MOST_BYTES {
        return Err(LinkError::TooLarge(object.len() as u64));
    }
    let symbols = symbols(object)?;
    // How many there are, and for each, where the header of its object is.
    let index_bytes = (symbols.len() + 1) * 4 + symbols.iter().map(|name| name.len() + 1).sum::<usize>();
    let names = format!("{name}/\n");
    let place =
        MAGIC.len() + 2 * HEADER_BYTES + index_bytes.next_multiple_of(2) + names.len().next_multiple_of(2);
    let place = u32::try_from(place).map_err(|_| LinkError::TooLarge(place as u64))?;
    let mut index = Vec::with_capacity(index_bytes);
    index.extend((symbols.len() as u32).to_be_bytes());
    symbols.iter().for_each(|_| index.extend(place.to_be_bytes()));
    symbols.iter().for_each(|name| index.extend([name.as_slice(), &[0]].concat()));

    let mut archive = MAGIC.to_vec();
    archive.reserve_exact(place as usize + HEADER_BYTES + object.len() + 1);
    part(&mut archive, "/", &index);
    part(&mut archive, "//", names.as_bytes());
    part(&mut archive, "/0", object);
    Ok(archive)
}

/// The names that others may use.
fn symbols(object: &[u8]) -> Result<Vec<Vec<u8>>, LinkError> {
    let object = ElfFile64::<LittleEndian>::parse(object)?;
    let visible = object.symbols().filter(|symbol| symbol.is_global() && !symbol.is_undefined());
    visible.map(|symbol| Ok(symbol.name_bytes()?.to_vec())).collect()
}

fn part(archive: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let size = bytes.len();
    archive.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, "644").bytes());
    archive.extend(bytes);
    if size % 2 == 1 {
        archive.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use object::read::archive::ArchiveFile;
    use object::write::{StandardSection, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};

    use super::*;

    fn object(symbols: &[(&str, SymbolScope)]) -> Vec<u8> {
        let mut object =
            object::write::Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = object.section_id(StandardSection::Text);
        let value = object.append_section_data(text, &[0xc3], 1);
        for (name, scope) in symbols {
            object.add_symbol(Symbol {
                name: name.as_bytes().to_vec(),
                value,
                size: 1,
                kind: SymbolKind::Text,
                scope: *scope,
                weak: false,
                section: SymbolSection::Section(text),
                flags: SymbolFlags::None,
            });
        }
        object.write().unwrap()
    }

    #[test]
    fn linkers_find_the_object_by_what_it_defines() {
        use SymbolScope::{Compilation, Dynamic};
        for symbols in [&[("net_run", Dynamic), ("layer", Compilation), ("net_info", Dynamic)][..], &[]] {
            for name in ["a.o", "a_rather_long_name_of_a_model.nnc.o"] {
                let object = object(symbols);
                let bytes = write_archive(&object, name).unwrap();
                let archive = ArchiveFile::parse(&*bytes).unwrap();
                let members: Vec<_> = archive.members().map(Result::unwrap).collect();
                assert_eq!(members.len(), 1);
                assert_eq!(members[0].name(), name.as_bytes());
                assert_eq!(members[0].data(&*bytes).unwrap(), object);
                let found = archive.symbols().unwrap().expect("an index").map(Result::unwrap);
                let found: Vec<_> = found.map(|symbol| (symbol.name().to_vec(), symbol.offset())).collect();
                let names: Vec<&[u8]> = found.iter().map(|(name, _)| name.as_slice()).collect();
                let visible = symbols.iter().filter(|(_, scope)| *scope == Dynamic);
                assert_eq!(names, visible.map(|(name, _)| name.as_bytes()).collect::<Vec<_>>());
                for (_, offset) in found {
                    assert_eq!(archive.member(offset).unwrap().name(), name.as_bytes());
                }
                assert_eq!(bytes.len() % 2, 0);
            }
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(matches!(write_archive(b"text", "a.o"), Err(LinkError::Object(_))));
    }
}
