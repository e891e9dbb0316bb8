//! Reading the code generator's object: sections of one kind joined, symbols and relocations as places in them.

use std::collections::BTreeMap;

use nnc_runtime::PAGE;
use nnc_runtime::artefact::Machine;
use object::read::elf::ElfFile64;
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionFlags,
    SymbolIndex, SymbolKind, SymbolSection, elf,
};

use super::CName;
use super::fault::LinkError;

/// Distances are 32 bits with a sign; what has to reach all of the code and its data stays well below.
const MAX_BYTES: usize = 1 << 30;
/// Alignment of the read-only data: that of cache lines and the widest vectors.
pub(super) const DATA_ALIGN: usize = 64;

/// What an object contains, in the form that linking needs.
pub(super) struct LinkInput {
    pub(super) machine: Machine,
    /// All code, each section at its alignment.
    pub(super) text: Vec<u8>,
    /// All read-only data, likewise.
    pub(super) rodata: Vec<u8>,
    /// What is defined, in order of place.
    pub(super) symbols: Vec<LinkSymbol>,
    /// The distances to fill in.
    pub(super) fixups: Vec<Fixup>,
}

/// The sections of a program that symbols are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    ReadOnlyData,
    Text,
    Constants,
}

/// A byte of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SectionOffset {
    pub(super) section: Section,
    pub(super) offset: u64,
}

impl SectionOffset {
    fn plus(self, bytes: u64) -> SectionOffset {
        SectionOffset { offset: self.offset.saturating_add(bytes), ..self }
    }
}

/// A function or a data object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkSymbol {
    pub(super) place: SectionOffset,
    pub(super) name: Vec<u8>,
    pub(super) size: u64,
    /// Whether hosts may look it up.
    pub(super) exported: bool,
}

/// A distance to fill in.
pub(super) struct Fixup {
    /// Name of the section, for errors.
    pub(super) section: String,
    pub(super) place: SectionOffset,
    pub(super) r_type: u32,
    pub(super) target: SectionOffset,
    pub(super) addend: i64,
}

type Elf<'a> = ElfFile64<'a, LittleEndian>;

impl LinkInput {
    /// What is in `object`, the code of a program that is called `name`.
    pub(super) fn read(object: &[u8], name: &CName) -> Result<LinkInput, LinkError> {
        let object = Elf::parse(object)?;
        let mut input = LinkInput {
            machine: Machine(object.elf_header().e_machine.get(LittleEndian)),
            text: Vec::new(),
            rodata: Vec::new(),
            symbols: Vec::new(),
            fixups: Vec::new(),
        };
        let sections = input.place_sections(&object)?;
        input.read_symbols(&object, &sections, name)?;
        input.read_fixups(&object, &sections, name)?;
        Ok(input)
    }

    /// The function called `name`.
    pub(super) fn function(&self, name: &str) -> Option<SectionOffset> {
        let named =
            |symbol: &&LinkSymbol| symbol.name == name.as_bytes() && symbol.place.section == Section::Text;
        self.symbols.iter().find(named).map(|symbol| symbol.place)
    }

    /// Joins the sections; returns where each begins.
    fn place_sections(&mut self, object: &Elf<'_>) -> Result<BTreeMap<usize, SectionOffset>, LinkError> {
        let mut places = BTreeMap::new();
        for section in object.sections() {
            let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
            if sh_flags & u64::from(elf::SHF_ALLOC) == 0 || section.size() == 0 {
                continue;
            }
            let refuse = |what| LinkError::Section { section: name(&section), what };
            if sh_flags & u64::from(elf::SHF_TLS) != 0 {
                return Err(refuse("thread-local"));
            }
            // Data with relocations is writable for those who relocate it at run time. We do it now.
            let relocated_once = section.name_bytes()?.starts_with(b".data.rel.ro");
            if sh_flags & u64::from(elf::SHF_WRITE) != 0 && !relocated_once {
                return Err(refuse("writable"));
            }
            let (part, bytes, most) = match sh_flags & u64::from(elf::SHF_EXECINSTR) {
                0 => (Section::ReadOnlyData, &mut self.rodata, DATA_ALIGN),
                _ => (Section::Text, &mut self.text, PAGE),
            };
            let align = usize::try_from(section.align().max(1)).unwrap_or(usize::MAX);
            if align > most || !align.is_power_of_two() {
                return Err(refuse("aligned to more than a page or cache line"));
            }
            let start = bytes.len().next_multiple_of(align);
            let data = section.data()?;
            let end = start.saturating_add(data.len());
            if end > MAX_BYTES {
                return Err(LinkError::TooLarge(end as u64));
            }
            bytes.resize(start, 0);
            bytes.extend_from_slice(data);
            places.insert(section.index().0, SectionOffset { section: part, offset: start as u64 });
        }
        Ok(places)
    }

    fn read_symbols(
        &mut self,
        object: &Elf<'_>,
        sections: &BTreeMap<usize, SectionOffset>,
        program: &CName,
    ) -> Result<(), LinkError> {
        for symbol in object.symbols() {
            let SymbolSection::Section(section) = symbol.section() else { continue };
            let Some(section) = sections.get(&section.0) else { continue };
            if !matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data | SymbolKind::Unknown) {
                continue;
            }
            let name = symbol.name_bytes()?.to_vec();
            self.symbols.push(LinkSymbol {
                place: section.plus(symbol.address()),
                exported: symbol.is_global() && program.exports(&name),
                name,
                size: symbol.size(),
            });
        }
        self.symbols.sort();
        Ok(())
    }

    fn read_fixups(
        &mut self,
        object: &Elf<'_>,
        sections: &BTreeMap<usize, SectionOffset>,
        program: &CName,
    ) -> Result<(), LinkError> {
        for section in object.sections() {
            let Some(place) = sections.get(&section.index().0) else { continue };
            for (offset, relocation) in section.relocations() {
                let (RelocationTarget::Symbol(symbol), RelocationFlags::Elf { r_type }) =
                    (relocation.target(), relocation.flags())
                else {
                    continue;
                };
                self.fixups.push(Fixup {
                    section: name(&section),
                    place: place.plus(offset),
                    r_type,
                    target: target(object, sections, symbol, program)?,
                    addend: relocation.addend(),
                });
            }
        }
        Ok(())
    }
}

/// Where a symbol that the code uses is.
fn target(
    object: &Elf<'_>,
    sections: &BTreeMap<usize, SectionOffset>,
    symbol: SymbolIndex,
    program: &CName,
) -> Result<SectionOffset, LinkError> {
    let symbol = object.symbol_by_index(symbol)?;
    let section = match symbol.section() {
        SymbolSection::Section(section) => sections.get(&section.0),
        _ => None,
    };
    match section {
        Some(section) => Ok(section.plus(symbol.address())),
        None if symbol.name_bytes()? == program.constants().as_bytes() => {
            Ok(SectionOffset { section: Section::Constants, offset: 0 })
        }
        None => {
            Err(LinkError::Undefined { name: String::from_utf8_lossy(symbol.name_bytes()?).into_owned() })
        }
    }
}

fn name<'a>(section: &impl ObjectSection<'a>) -> String {
    String::from_utf8_lossy(section.name_bytes().unwrap_or_default()).into_owned()
}
