//! Why an object of the code generator cannot become an artefact.

use nnc_ir::Setting;
use nnc_runtime::encode::EncodeError;

use super::relocate::RelocationError;

/// An object that cannot become an artefact.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Bytes that are no relocatable ELF file.
    #[error("the object cannot be read; this is a mistake in the code generator")]
    Object(#[from] object::read::Error),
    /// Something that an artefact cannot hold.
    #[error(
        "section \"{section}\" of the object is {what}, which an artefact cannot hold; this is a mistake in the \
         code generator"
    )]
    Section {
        /// Its name.
        section: String,
        /// What it is.
        what: &'static str,
    },
    /// A call or an address of something that is not in the object.
    #[error(
        "the code uses \"{name}\", which an artefact cannot import; choose a machine that has the instruction with {}",
        Setting::Target
    )]
    Undefined {
        /// The symbol.
        name: String,
    },
    /// A function of the table that the object does not have.
    #[error("function \"{name}\" is not in the object; this is a mistake in the code generator")]
    NoSuchFunction {
        /// The symbol.
        name: String,
    },
    /// A relocation that we do not know, or that does not reach.
    #[error("byte {at} of section \"{section}\" cannot be linked; this is a mistake in the code generator")]
    Relocation {
        /// The section.
        section: String,
        /// Where in it.
        at: u64,
        /// What is wrong.
        #[source]
        source: RelocationError,
    },
    /// No memory for the file.
    #[error(
        "cannot get {bytes} bytes of memory for the program's file; free some memory or use a smaller model"
    )]
    Memory {
        /// How many there should be.
        bytes: u64,
    },
    /// Parts that are not what the description says.
    #[error("{found} {what} come with a description of {expected}; this is a mistake in the code generator")]
    Mismatch {
        /// What is counted: functions, or bytes of constants.
        what: &'static str,
        /// What the description says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A description that a file cannot hold.
    #[error(transparent)]
    Description(#[from] EncodeError),
    /// More code than distances in it can span.
    #[error("the program has {0} bytes of code and tables, more than 1 GiB; split the model")]
    TooLarge(u64),
    /// A file that cannot be laid out.
    #[error("the artefact cannot be laid out; this is a mistake in the code generator")]
    Layout(#[from] object::write::Error),
}
