//! Compiled programs as files.
//!
//! An artefact is an ELF shared object. The tools of the platform read it, C hosts `dlopen` it, and this module loads it
//! without the dynamic loader, because the file must be verified before any of its code is mapped executable.
//!
//! ```text
//!   offset = address
//!        0  ELF header, program headers        ┐
//!      512  nnc's header, with checksum        │ r--
//!           dynamic symbols, versions with     │
//!           descriptions, function table,      │
//!           read-only data                     ┘
//!     page  text                                 r-x
//!     page  .dynamic                             r-- here; relocated by the dynamic loader, then r--
//!     page  constants                            r--
//!           section headers, symbols             not loaded; `strip` takes them away
//! ```
//!
//! Every byte has the same place in the file and in memory, relative to its start. So loading is: read the file into
//! anonymous memory, verify that memory, take away the right to write, give the text the right to run. No byte is copied
//! twice or relocated, what was verified is what runs, and a file that changes or shrinks later does no harm.
//!
//! A host that vouches for a file may also have it mapped ([`Program::map`]), and one that has a program in itself has its
//! constants used where they are ([`Program::from_static`]).
//!
//! The checksum shows that the file is as the compiler wrote it. It does not show who wrote it: see [`Program::load`].

mod checksum;
pub mod header;
mod imprint;
pub mod versions;

use std::fs::File;
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::header::{
    ABI_VERSION, FORMAT_VERSION, HEADER_BYTES, HEADER_OFFSET, Header, Machine, OLDEST_ABI_VERSION,
    OLDEST_FORMAT_VERSION,
};
pub use self::imprint::Imprint;
use self::versions::Version;
use crate::abi::{CpuFeatures, LayerFn, ProgramDesc};
use crate::constants::Constants;
pub use crate::cpu::{MaskError, WITHOUT};
use crate::encode::{self, DecodeError};
use crate::memory::{Block, LoadedFile, MemoryError, PAGE, Pages, system_page};
use crate::program::{Program, ProgramError};

/// A file that is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read \"{}\"", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Something else.
    #[error("this is not a program compiled by nnc; compile the model with `nnc compile`")]
    NotAnArtefact,
    /// Cut short, or something was added.
    #[error("the program should have {expected} bytes but has {found}; copy or compile it again")]
    Length {
        /// What its header says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// Some byte has changed.
    #[error("the program is damaged: its checksum does not match; copy or compile it again")]
    Checksum,
    /// Another layout of the file.
    #[error("the program{} has format version {found}; {}", by(.made_by), age(*.found, OLDEST_FORMAT_VERSION..=FORMAT_VERSION))]
    FormatVersion {
        /// The file's.
        found: u32,
        /// The compiler that made the file, if it is known.
        made_by: String,
    },
    /// Another way for code and runtime to work together.
    #[error("the program{} has ABI version {found}; {}", by(.made_by), age(*.found, OLDEST_ABI_VERSION..=ABI_VERSION))]
    AbiVersion {
        /// The file's.
        found: u32,
        /// The compiler that made the file, if it is known.
        made_by: String,
    },
    /// Code for another kind of CPU.
    #[error(
        "the program was compiled for {found}, but this is {}; compile the model for it",
        std::env::consts::ARCH
    )]
    Machine {
        /// The file's.
        found: Machine,
    },
    /// Code calls as programs do under Linux.
    #[error(
        "compiled programs run under Linux, and this is {}; run it there, or in a container",
        std::env::consts::OS
    )]
    System,
    /// Code that this CPU cannot run.
    #[error(
        "the program was compiled for {target}, but this CPU lacks {missing}; compile the model here, or for a \
         target that this CPU is"
    )]
    MissingFeatures {
        /// The target's name.
        target: String,
        /// What the CPU lacks.
        missing: CpuFeatures,
    },
    /// An environment variable that names what no processor has.
    #[error(transparent)]
    Masked(#[from] MaskError),
    /// The checksum matches, but the parts do not fit together.
    #[error("the program has {0}; compile the model again")]
    Inconsistent(&'static str),
    /// A description that is none.
    #[error(transparent)]
    Description(#[from] DecodeError),
    /// A description that does not fit.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Who made a program, for errors.
fn by(made_by: &str) -> String {
    if made_by.is_empty() { String::new() } else { format!(", made by {made_by},") }
}

/// What to do with a program of a version that is not among those that this runtime has.
fn age(found: u32, ours: RangeInclusive<u32>) -> String {
    let (oldest, newest) = ours.into_inner();
    let ours = if oldest == newest { newest.to_string() } else { format!("{oldest} to {newest}") };
    match found > newest {
        true => format!(
            "this runtime, {RUNTIME}, is older and reads {ours}: use a newer one, or compile the model with nnc {}",
            env!("CARGO_PKG_VERSION")
        ),
        false => format!("this runtime, {RUNTIME}, reads {ours}: compile the model again"),
    }
}

/// This runtime, for errors.
const RUNTIME: &str = concat!("nnc-runtime ", env!("CARGO_PKG_VERSION"));

impl Program {
    /// Loads a program from a file that `nnc compile` wrote.
    ///
    /// # Safety
    ///
    /// The file's code will run in this process. Its checksum, its sizes and its description are verified first, so a
    /// file that is damaged, incomplete, or from another version is refused; but whoever can write the file can give it
    /// the right checksum. The caller guarantees that the file was written by nnc and comes from somebody it trusts.
    pub unsafe fn load(path: impl AsRef<Path>) -> Result<Program, LoadError> {
        let (pages, checksum) = opened(path.as_ref())?;
        // SAFETY: the caller's promise.
        unsafe { from_pages(pages, &checksum) }
    }

    /// Loads a program from the bytes of such a file.
    ///
    /// # Safety
    ///
    /// As for [`Program::load`].
    pub unsafe fn from_bytes(file: &[u8]) -> Result<Program, LoadError> {
        let loaded = header::loaded_bytes(file, file.len() as u64)?;
        let loaded = file.get(..loaded).ok_or(LoadError::NotAnArtefact)?;
        let pages = Pages::copy_of(loaded, "the program")?;
        let checksum = checksum::of(pages.get(HEADER_OFFSET..).unwrap_or_default());
        // SAFETY: the caller's promise.
        unsafe { from_pages(pages, &checksum) }
    }

    /// Loads a program that is part of the host, as [`include_program!`](crate::include_program) puts it there. Its constants are used
    /// where they lie, so that they are in memory once, however many processes of the host there are; code is copied. Without
    /// the alignment that the macro gives, constants are copied as well.
    ///
    /// # Safety
    ///
    /// As for [`Program::load`].
    pub unsafe fn from_static(file: &'static [u8]) -> Result<Program, LoadError> {
        let loaded = header::loaded_bytes(file, file.len() as u64)?;
        let loaded = file.get(..loaded).ok_or(LoadError::NotAnArtefact)?;
        let checksum = checksum::of(loaded.get(HEADER_OFFSET..).unwrap_or_default());
        let content = Content::new(loaded, Some(&checksum))?;
        let FileParts { text, consts, .. } = &content.parts;
        let in_place = loaded.get(consts.clone()).unwrap_or_default();
        if in_place.as_ptr().addr() % CONSTANTS_ALIGN != 0 || consts.start < text.end {
            // SAFETY: the caller's promise.
            return unsafe { from_pages(Pages::copy_of(loaded, "the program")?, &checksum) };
        }
        let code = loaded.get(..text.end).unwrap_or_default();
        let code = LoadedFile::new(Pages::copy_of(code, "code")?, text.clone())?;
        let constants = Constants::in_block(Arc::new(Block::of_host(in_place)), 0..in_place.len());
        // SAFETY: the caller's promise; what was verified cannot change.
        unsafe { content.program(code, constants) }
    }

    /// Loads a program from a file that `nnc compile` wrote, without reading it: its pages are mapped, come into memory when they are
    /// touched, and are shared by all processes that map the file.
    ///
    /// The checksum is not computed, as that would read all of it. That the file is complete, of this version and for this
    /// CPU, and that its description fits, is verified.
    ///
    /// # Safety
    ///
    /// As for [`Program::load`]; and the file is undamaged, and nobody changes or shortens it while the program lives: its code
    /// would be other code, or the process would end. Who replaces such a file renames another one to its name.
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Program, LoadError> {
        let path = path.as_ref();
        let failed = |error| match error {
            ReadError::Io(source) => LoadError::Read { path: path.to_owned(), source },
            ReadError::Load(error) => error,
        };
        let (file, loaded) = open(path).map_err(failed)?;
        // SAFETY: the caller's promise.
        let block = unsafe { Block::of_file(&file, loaded, "the program") }?;
        let content = Content::new(&block, None)?;
        let (text, consts) = (content.parts.text.clone(), content.parts.consts.clone());
        let code = LoadedFile::in_block(block, text)?;
        let constants = Constants::in_block(Arc::clone(code.block()), consts);
        // SAFETY: the caller's promise.
        unsafe { content.program(code, constants) }
    }
}

/// The bytes of an artefact as part of the host, aligned so that [`Program::from_static`] uses its constants where they lie. The path is
/// one that `include_bytes!` takes.
///
/// ```text
/// static MODEL: &[u8] = nnc_runtime::include_program!("model.nnc.so");
/// ```
#[macro_export]
macro_rules! include_program {
    ($path:expr $(,)?) => {{
        /// On pages of their own.
        #[repr(C, align(4096))]
        struct Aligned<T: ?Sized>(T);
        const PROGRAM: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &PROGRAM.0
    }};
}

/// As sessions expect constants to be aligned.
const CONSTANTS_ALIGN: usize = 64;

enum ReadError {
    Io(io::Error),
    Load(LoadError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

/// Opens a file, and tells how much of it is loaded. Reads no more than its start.
fn open(path: &Path) -> Result<(File, usize), ReadError> {
    // Asked before opening: opening a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(ReadError::Load(LoadError::NotAnArtefact));
    }
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut start = Vec::with_capacity(HEADER_OFFSET + HEADER_BYTES);
    file.by_ref().take(start.capacity() as u64).read_to_end(&mut start)?;
    let loaded = header::loaded_bytes(&start, metadata.len()).map_err(ReadError::Load)?;
    Ok((file, loaded))
}

/// What is loaded of the file at a path, and its checksum.
fn opened(path: &Path) -> Result<(Pages, [u8; 32]), LoadError> {
    read(path).map_err(|error| match error {
        ReadError::Io(source) => LoadError::Read { path: path.to_owned(), source },
        ReadError::Load(error) => error,
    })
}

/// Reads what is loaded of a file, and computes its checksum on the way.
fn read(path: &Path) -> Result<(Pages, [u8; 32]), ReadError> {
    let (file, loaded) = open(path)?;
    let mut pages =
        Pages::zeroed(loaded as u64, "the program").map_err(|error| ReadError::Load(error.into()))?;
    let (front, rest) = pages.split_at_mut(HEADER_OFFSET.min(loaded));
    read_exact_at(&file, front, 0)?;
    let read = |offset: usize, block: &mut [u8]| read_exact_at(&file, block, (HEADER_OFFSET + offset) as u64);
    let checksum = checksum::of_filled(rest, read)?;
    Ok((pages, checksum))
}

/// Fills a block with the bytes of a file from an offset on.
#[cfg(unix)]
fn read_exact_at(file: &File, block: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, block, offset)
}

/// Fills a block with the bytes of a file from an offset on.
#[cfg(windows)]
fn read_exact_at(file: &File, mut block: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !block.is_empty() {
        match file.seek_read(block, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                block = block.get_mut(read..).unwrap_or_default();
                offset += read as u64;
            }
        }
    }
    Ok(())
}

/// # Safety
/// The memory holds what nnc wrote, if its checksum matches.
unsafe fn from_pages(pages: Pages, checksum: &[u8; 32]) -> Result<Program, LoadError> {
    let content = Content::new(&pages, Some(checksum))?;
    let (text, consts) = (content.parts.text.clone(), content.parts.consts.clone());
    let code = LoadedFile::new(pages, text)?;
    let constants = Constants::in_block(Arc::clone(code.block()), consts);
    // SAFETY: the caller's promise.
    unsafe { content.program(code, constants) }
}

/// What is in a file, verified.
struct Content {
    parts: FileParts,
    desc: ProgramDesc,
    /// Where functions begin, from the start of the text.
    functions: Vec<usize>,
}

impl Content {
    /// Of all that is loaded of a file, the version for this processor; without a checksum, that is not looked at.
    fn new(file: &[u8], checksum: Option<&[u8; 32]>) -> Result<Content, LoadError> {
        let available = CpuFeatures::usable()?;
        let header = header::verify(file, checksum)?;
        if !cfg!(any(target_os = "linux", target_os = "android")) {
            return Err(LoadError::System);
        }
        if Some(header.machine) != Machine::host() {
            return Err(LoadError::Machine { found: header.machine });
        }
        let parts = FileParts::new(&header, file.len())?;
        let program = bytes(file, &parts.program)?;
        let versions = versions::read(program, header.versions)?;
        let wanted = versions.iter().fold(CpuFeatures::default(), |all, version| all.with(version.features));
        let available = available.permitted(wanted);
        let version = match versions::best(&versions, available) {
            Some(version) => version,
            None => return Err(no_version(program, &versions, available)),
        };
        let desc = encode::decode(bytes(program, &version.desc)?)?;
        desc.verify()?;
        let missing = desc.features.missing_from(available);
        if missing != CpuFeatures::default() {
            return Err(LoadError::MissingFeatures { target: desc.target, missing });
        }
        let functions = function_offsets(bytes(file, &parts.table)?, &parts.text)?;
        let functions = functions.get(version.functions.clone());
        let functions = functions.ok_or(LoadError::Inconsistent("a function outside its table"))?.to_vec();
        Ok(Content { parts, desc, functions })
    }

    /// # Safety
    /// `code` has the file's text at its place, as nnc wrote it, and neither it nor the constants change.
    unsafe fn program(self, code: LoadedFile, constants: Constants) -> Result<Program, LoadError> {
        let function = |offset| {
            let address = code.base().wrapping_add(self.parts.text.start + offset);
            // SAFETY: the compiler put a function of this type there, by the caller's promise. It is callable while
            // the code lives, and the program holds it.
            unsafe { std::mem::transmute::<*mut u8, LayerFn>(address) }
        };
        let functions = self.functions.into_iter().map(function).collect();
        // SAFETY: the owner keeps the code; that the code keeps the contract is the caller's promise.
        Ok(unsafe { Program::from_parts(self.desc, functions, constants, Arc::new(code)) }?)
    }
}

/// That a processor runs none of the versions: what it lacks for the last one, which needs least.
fn no_version(program: &[u8], versions: &[Version], available: CpuFeatures) -> LoadError {
    let describe = || -> Result<LoadError, LoadError> {
        let least = versions.last().ok_or(LoadError::Inconsistent("no version"))?;
        let desc = encode::decode(bytes(program, &least.desc)?)?;
        let missing = least.features.missing_from(available);
        Ok(LoadError::MissingFeatures { target: desc.target, missing })
    };
    describe().unwrap_or_else(|error| error)
}

/// The parts of a file, all inside it, those with a protection of their own on pages of their own.
struct FileParts {
    program: Range<usize>,
    table: Range<usize>,
    text: Range<usize>,
    consts: Range<usize>,
}

impl FileParts {
    fn new(header: &Header, file: usize) -> Result<FileParts, LoadError> {
        let inside = |range: &Range<u64>| {
            let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
            (start <= end && end <= file).then_some(start..end)
        };
        let place =
            |range: &Range<u64>| inside(range).ok_or(LoadError::Inconsistent("a part outside the file"));
        let table_end = header.table.saturating_add(u64::from(header.functions) * 4);
        let parts = FileParts {
            program: place(&header.program)?,
            table: place(&(header.table..table_end))?,
            text: place(&header.text)?,
            consts: place(&header.consts)?,
        };
        if !parts.text.start.is_multiple_of(system_page()) {
            return Err(LoadError::Inconsistent("code that shares a page with data"));
        }
        if !parts.consts.start.is_multiple_of(PAGE) {
            return Err(LoadError::Inconsistent("constants that are not aligned"));
        }
        let executable_end = parts.text.end.next_multiple_of(system_page());
        let data = [&parts.program, &parts.table, &parts.consts];
        if data.iter().any(|part| part.start < executable_end && part.end > parts.text.start) {
            return Err(LoadError::Inconsistent("code that shares a page with data"));
        }
        Ok(parts)
    }
}

fn bytes<'a>(file: &'a [u8], place: &Range<usize>) -> Result<&'a [u8], LoadError> {
    file.get(place.clone()).ok_or(LoadError::Inconsistent("a part outside the file"))
}

/// The function table: where in the text each function begins.
fn function_offsets(table: &[u8], text: &Range<usize>) -> Result<Vec<usize>, LoadError> {
    let (entries, _) = table.as_chunks::<4>();
    let offsets = entries.iter().map(|&entry| u32::from_le_bytes(entry) as usize);
    let offsets: Vec<usize> = offsets.collect();
    match offsets.iter().all(|&offset| offset < text.len()) {
        true => Ok(offsets),
        false => Err(LoadError::Inconsistent("a function outside its code")),
    }
}
