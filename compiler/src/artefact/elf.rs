//! The file itself: an ELF shared object whose addresses are its file offsets.
//!
//! ```text
//!   segment        sections
//!   LOAD    r--    headers .nnc .hash .dynsym .dynstr .nnc.program .nnc.functions .rodata
//!   LOAD    r-x    .text
//!   LOAD    rw-    .dynamic      GNU_RELRO: r-- once loaded; glibc before 2.35 adds the base address to its entries
//!   LOAD    r--    .nnc.constants
//!                  .symtab .strtab .shstrtab, section headers
//! ```
//!
//! Its `DT_SONAME` is the name under which whoever has linked with it looks for it.
//!
//! Each segment begins at a page, no segment is writable and executable, and the constants come last: what must reach
//! them needs the distance to their start only, however large they are.

use std::ops::Range;

use nnc_runtime::artefact::{HEADER_BYTES, HEADER_OFFSET, Machine};
use object::elf;
use object::endian::Endianness;
use object::write::StringId;
use object::write::elf::{FileHeader, ProgramHeader, SectionHeader, SectionIndex, Sym, Writer};

use super::input::{DATA_ALIGN, LinkSymbol, Section, SectionOffset};

const PROGRAM_HEADERS: u32 = 7;
const DYNAMIC_ENTRIES: usize = 7;

/// What goes into the file. Of the code and the read-only data only the sizes are known before the layout is.
pub(super) struct Contents<'a> {
    pub(super) machine: Machine,
    pub(super) soname: &'a str,
    pub(super) desc: &'a [u8],
    pub(super) table: &'a [u8],
    pub(super) rodata_len: usize,
    pub(super) text_len: usize,
    pub(super) consts: &'a [u8],
    pub(super) symbols: &'a [LinkSymbol],
}

/// Where things are: file offsets, and addresses from the start of the image.
#[derive(Clone, Debug, Default)]
pub(super) struct FileLayout {
    pub(super) hash: u64,
    pub(super) dynsym: u64,
    pub(super) dynstr: Range<u64>,
    pub(super) desc: Range<u64>,
    pub(super) table: Range<u64>,
    pub(super) rodata: Range<u64>,
    pub(super) text: Range<u64>,
    pub(super) dynamic: Range<u64>,
    pub(super) consts: Range<u64>,
}

impl FileLayout {
    /// The address of a byte of a section.
    pub(super) fn address(&self, place: SectionOffset) -> u64 {
        let section = match place.section {
            Section::Text => &self.text,
            Section::ReadOnlyData => &self.rodata,
            Section::Constants => &self.consts,
        };
        section.start.saturating_add(place.offset)
    }
}

/// A file that is laid out and can be written.
pub(super) struct SharedObject<'a> {
    pub(super) layout: FileLayout,
    writer: Writer<'a>,
    sections: Sections,
    soname: StringId,
    /// Names of all symbols, for debuggers and profilers, and of those that hosts may look up.
    names: Vec<StringId>,
    exports: Vec<(StringId, &'a LinkSymbol)>,
}

/// Sections that the writer has no notion of, by name and index.
struct Sections {
    header: (StringId, SectionIndex),
    desc: (StringId, SectionIndex),
    table: (StringId, SectionIndex),
    rodata: (StringId, SectionIndex),
    text: (StringId, SectionIndex),
    consts: (StringId, SectionIndex),
}

impl<'a> SharedObject<'a> {
    /// Finds a place for everything. The writer wants names and indices first, then file ranges in the order in which
    /// they will be written.
    pub(super) fn lay_out(file: &'a mut Vec<u8>, contents: &Contents<'a>) -> SharedObject<'a> {
        let mut writer = Writer::new(Endianness::Little, true, file);
        let section = |writer: &mut Writer<'a>, name: &'static str| {
            (writer.add_section_name(name.as_bytes()), writer.reserve_section_index())
        };
        let header = section(&mut writer, ".nnc");
        writer.reserve_hash_section_index();
        writer.reserve_dynsym_section_index();
        writer.reserve_dynstr_section_index();
        let desc = section(&mut writer, ".nnc.program");
        let table = section(&mut writer, ".nnc.functions");
        let rodata = section(&mut writer, ".rodata");
        let text = section(&mut writer, ".text");
        writer.reserve_dynamic_section_index();
        let consts = section(&mut writer, ".nnc.constants");
        writer.reserve_symtab_section_index();
        writer.reserve_strtab_section_index();
        writer.reserve_shstrtab_section_index();
        let sections = Sections { header, desc, table, rodata, text, consts };

        writer.require_dynstr();
        // A string ends at its first zero.
        let soname = contents.soname.split('\0').next().unwrap_or_default();
        let soname = writer.add_dynamic_string(soname.as_bytes());
        writer.reserve_null_dynamic_symbol_index();
        let mut exports = Vec::new();
        for symbol in contents.symbols.iter().filter(|symbol| symbol.exported) {
            writer.reserve_dynamic_symbol_index();
            exports.push((writer.add_dynamic_string(&symbol.name), symbol));
        }
        writer.reserve_null_symbol_index();
        let mut names = Vec::with_capacity(contents.symbols.len());
        for symbol in contents.symbols {
            writer.reserve_symbol_index(None);
            names.push(writer.add_string(&symbol.name));
        }

        let page = contents.machine.page();
        let range = |start: usize, len: usize| start as u64..(start + len) as u64;
        let reserve =
            |writer: &mut Writer<'a>, len: usize, align: usize| range(writer.reserve(len, align), len);
        writer.reserve_file_header();
        writer.reserve_program_headers(PROGRAM_HEADERS);
        writer.reserve_until(HEADER_OFFSET);
        reserve(&mut writer, HEADER_BYTES, 1);
        let mut layout = FileLayout::default();
        let count = exports.len() as u32 + 1;
        layout.hash = writer.reserve_hash(count, count) as u64;
        layout.dynsym = writer.reserve_dynsym() as u64;
        layout.dynstr = {
            let start = writer.reserve_dynstr();
            range(start, writer.dynstr_len())
        };
        layout.desc = reserve(&mut writer, contents.desc.len(), 8);
        layout.table = reserve(&mut writer, contents.table.len(), 8);
        layout.rodata = reserve(&mut writer, contents.rodata_len, DATA_ALIGN);
        layout.text = reserve(&mut writer, contents.text_len, page);
        layout.dynamic = {
            reserve(&mut writer, 0, page);
            let start = writer.reserve_dynamic(DYNAMIC_ENTRIES);
            // A whole page, so that all of it can be protected again.
            range(start, page)
        };
        writer.reserve_until(layout.dynamic.end as usize);
        layout.consts = reserve(&mut writer, contents.consts.len(), page);
        writer.reserve_symtab();
        writer.reserve_strtab();
        writer.reserve_shstrtab();
        writer.reserve_section_headers();
        SharedObject { layout, writer, sections, soname, names, exports }
    }

    /// Writes the file, all but the contents of nnc's own header.
    pub(super) fn write(
        mut self,
        contents: &Contents<'_>,
        rodata: &[u8],
        text: &[u8],
    ) -> Result<(), object::write::Error> {
        self.writer.write_file_header(&FileHeader {
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            e_type: elf::ET_DYN,
            e_machine: contents.machine.0,
            e_entry: 0,
            e_flags: 0,
        })?;
        self.write_program_headers(contents.machine.page() as u64);
        self.pad_until(HEADER_OFFSET as u64 + HEADER_BYTES as u64);
        self.write_dynamic_symbols();
        for (place, bytes) in [
            (self.layout.desc.clone(), contents.desc),
            (self.layout.table.clone(), contents.table),
            (self.layout.rodata.clone(), rodata),
            (self.layout.text.clone(), text),
        ] {
            self.pad_until(place.start);
            self.writer.write(bytes);
        }
        self.write_dynamic()?;
        self.pad_until(self.layout.consts.start);
        self.writer.write(contents.consts);
        self.write_symbols(contents.symbols);
        self.writer.write_shstrtab();
        self.write_section_headers(contents.machine.page() as u64);
        Ok(())
    }

    fn pad_until(&mut self, offset: u64) {
        self.writer.pad_until(offset as usize);
    }

    fn write_program_headers(&mut self, page: u64) {
        let layout = &self.layout;
        let load = |flags, range: Range<u64>| {
            // A segment of no bytes is not for loading.
            let kind = if range.is_empty() { elf::PT_NULL } else { elf::PT_LOAD };
            (kind, flags, range, page)
        };
        let segments = [
            load(elf::PF_R, 0..layout.rodata.end),
            load(elf::PF_R | elf::PF_X, layout.text.clone()),
            load(elf::PF_R | elf::PF_W, layout.dynamic.clone()),
            load(elf::PF_R, layout.consts.clone()),
            (elf::PT_DYNAMIC, elf::PF_R | elf::PF_W, dynamic_entries(layout), 8),
            (elf::PT_GNU_RELRO, elf::PF_R, layout.dynamic.clone(), 1),
            // The stack is not executable.
            (elf::PT_GNU_STACK, elf::PF_R | elf::PF_W, 0..0, 16),
        ];
        self.writer.write_align_program_headers();
        for (p_type, p_flags, range, p_align) in segments {
            self.writer.write_program_header(&ProgramHeader {
                p_type,
                p_flags,
                p_offset: range.start,
                p_vaddr: range.start,
                p_paddr: range.start,
                p_filesz: range.end - range.start,
                p_memsz: range.end - range.start,
                p_align,
            });
        }
    }

    fn write_dynamic_symbols(&mut self) {
        let count = self.exports.len() as u32 + 1;
        let exports = &self.exports;
        self.writer.write_hash(count, count, |index| {
            let (_, symbol) = exports.get((index as usize).checked_sub(1)?)?;
            Some(elf::hash(&symbol.name))
        });
        self.writer.write_null_dynamic_symbol();
        for (name, symbol) in &self.exports {
            let entry = self.sections.symbol(*name, symbol, elf::STB_GLOBAL, &self.layout);
            self.writer.write_dynamic_symbol(&entry);
        }
        self.writer.write_dynstr();
    }

    fn write_dynamic(&mut self) -> Result<(), object::write::Error> {
        let entries = dynamic_entries(&self.layout);
        self.pad_until(entries.start);
        self.writer.write_align_dynamic();
        let layout = &self.layout;
        self.writer.write_dynamic_string(elf::DT_SONAME, self.soname)?;
        for (tag, value) in [
            (elf::DT_HASH, layout.hash),
            (elf::DT_STRTAB, layout.dynstr.start),
            (elf::DT_SYMTAB, layout.dynsym),
            (elf::DT_STRSZ, layout.dynstr.end - layout.dynstr.start),
            (elf::DT_SYMENT, size_of::<elf::Sym64<Endianness>>() as u64),
            (elf::DT_NULL, 0),
        ] {
            self.writer.write_dynamic(tag, value)?;
        }
        Ok(())
    }

    fn write_symbols(&mut self, symbols: &[LinkSymbol]) {
        self.writer.write_null_symbol();
        for (name, symbol) in self.names.iter().zip(symbols) {
            let entry = self.sections.symbol(*name, symbol, elf::STB_LOCAL, &self.layout);
            self.writer.write_symbol(&entry);
        }
        self.writer.write_strtab();
    }

    fn write_section_headers(&mut self, page: u64) {
        let layout = &self.layout;
        let sections = &self.sections;
        let header =
            |writer: &mut Writer<'_>, id: (StringId, SectionIndex), range: &Range<u64>, flags, align| {
                writer.write_section_header(&SectionHeader {
                    name: Some(id.0),
                    sh_type: elf::SHT_PROGBITS,
                    sh_flags: u64::from(elf::SHF_ALLOC | flags),
                    sh_addr: range.start,
                    sh_offset: range.start,
                    sh_size: range.end - range.start,
                    sh_link: 0,
                    sh_info: 0,
                    sh_addralign: align,
                    sh_entsize: 0,
                });
            };
        let writer = &mut self.writer;
        let nnc_header = HEADER_OFFSET as u64..(HEADER_OFFSET + HEADER_BYTES) as u64;
        writer.write_null_section_header();
        header(writer, sections.header, &nnc_header, 0, 1);
        writer.write_hash_section_header(layout.hash);
        writer.write_dynsym_section_header(layout.dynsym, 1);
        writer.write_dynstr_section_header(layout.dynstr.start);
        header(writer, sections.desc, &layout.desc, 0, 8);
        header(writer, sections.table, &layout.table, 0, 8);
        header(writer, sections.rodata, &layout.rodata, 0, DATA_ALIGN as u64);
        header(writer, sections.text, &layout.text, elf::SHF_EXECINSTR, page);
        writer.write_dynamic_section_header(dynamic_entries(layout).start);
        header(writer, sections.consts, &layout.consts, 0, page);
        writer.write_symtab_section_header(self.names.len() as u32 + 1);
        writer.write_strtab_section_header();
        writer.write_shstrtab_section_header();
    }
}

/// The entries of `.dynamic`, at the start of its page.
fn dynamic_entries(layout: &FileLayout) -> Range<u64> {
    let bytes = DYNAMIC_ENTRIES * size_of::<elf::Dyn64<Endianness>>();
    layout.dynamic.start..layout.dynamic.start + bytes as u64
}

impl Sections {
    fn symbol(&self, name: StringId, symbol: &LinkSymbol, binding: u8, layout: &FileLayout) -> Sym {
        let ((_, section), kind) = match symbol.place.section {
            Section::Text => (self.text, elf::STT_FUNC),
            Section::ReadOnlyData => (self.rodata, elf::STT_OBJECT),
            Section::Constants => (self.consts, elf::STT_OBJECT),
        };
        Sym {
            name: Some(name),
            section: Some(section),
            st_info: binding << 4 | kind,
            st_other: elf::STV_DEFAULT,
            st_shndx: 0,
            st_value: layout.address(symbol.place),
            st_size: symbol.size,
        }
    }
}
