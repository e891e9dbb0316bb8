//! What a program is called in C.
//!
//! A host may hold several programs, in one translation unit as in one process. So whatever a program shows to C bears its
//! name, and nothing else of it is visible:
//!
//! ```text
//!   CName "resnet"   functions and data   resnet_run  resnet_run_parallel  resnet_supported
//!                                         resnet_info  resnet_abi_version  resnet_workspace_bytes
//!                    macros               RESNET_INPUT_0_ELEMENTS …
//!                    guard                NNC_MODEL_RESNET_H
//! ```

use std::fmt;
use std::path::Path;

/// What a program that has no name of its own is called; what is no identifier is made one with it.
const DEFAULT: &str = "model";
/// What the runtime library's own functions begin with, and symbols that nobody sees.
const RUNTIME: &str = "nnc";

/// The compiler, as artefacts tell of it.
pub const MADE_BY: &str = concat!("nnc ", env!("CARGO_PKG_VERSION"));

/// The name of a program in C: an identifier that is also a good beginning of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CName(String);

/// A text that C names cannot be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{name}\" cannot be a name in C: {problem}; use letters, digits and single underscores, such as \"{nearest}\""
)]
pub struct CNameError {
    name: String,
    problem: &'static str,
    nearest: CName,
}

impl Default for CName {
    fn default() -> CName {
        CName(DEFAULT.to_owned())
    }
}

impl fmt::Display for CName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CName {
    /// The name as it is given.
    pub fn new(name: &str) -> Result<CName, CNameError> {
        match problem(name) {
            None => Ok(CName(name.to_owned())),
            Some(problem) => {
                Err(CNameError { name: name.to_owned(), problem, nearest: CName::nearest(name) })
            }
        }
    }

    /// The name of a file without its ending, made an identifier.
    pub fn of_file(path: &Path) -> CName {
        CName::nearest(&path.file_stem().unwrap_or_default().to_string_lossy())
    }

    /// `text`, if it is a name, or else one that shows where it comes from.
    fn nearest(text: &str) -> CName {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let name = words.collect::<Vec<_>>().join("_");
        match problem(&name) {
            None => CName(name),
            Some(_) if name.is_empty() => CName::default(),
            Some(_) => CName(format!("{DEFAULT}_{name}")),
        }
    }

    /// A function or a data object of the program.
    pub(super) fn symbol(&self, what: Export) -> String {
        format!("{self}_{}", what.ending())
    }

    /// Whether `symbol` is one of these.
    pub(super) fn exports(&self, symbol: &[u8]) -> bool {
        Export::ALL.iter().any(|&what| self.symbol(what).as_bytes() == symbol)
    }

    /// The symbol of the program's constants: the driver uses it, the linker says where it is.
    pub(super) fn constants(&self) -> String {
        self.local("consts")
    }

    /// A symbol that nobody sees, but which has to differ from those of other programs in one object.
    pub(super) fn local(&self, what: &str) -> String {
        format!("{RUNTIME}_{what}_{self}")
    }

    /// What the program's macros begin with.
    pub(super) fn macros(&self) -> String {
        self.0.to_ascii_uppercase()
    }

    /// The name of the program's file, as [`Code`](crate::Code) has it unless it is told otherwise.
    pub fn file(&self) -> String {
        format!("{self}.nnc.so")
    }
}

/// What a program shows to C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Export {
    Run,
    RunParallel,
    Supported,
    Info,
    AbiVersion,
    WorkspaceBytes,
}

impl Export {
    const ALL: [Export; 6] = [
        Export::Run,
        Export::RunParallel,
        Export::Supported,
        Export::Info,
        Export::AbiVersion,
        Export::WorkspaceBytes,
    ];

    pub(super) fn ending(self) -> &'static str {
        match self {
            Export::Run => "run",
            Export::RunParallel => "run_parallel",
            Export::Supported => "supported",
            Export::Info => "info",
            Export::AbiVersion => "abi_version",
            Export::WorkspaceBytes => "workspace_bytes",
        }
    }
}

/// Why identifiers cannot begin with `name`.
fn problem(name: &str) -> Option<&'static str> {
    let ascii = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let runtime = name.strip_prefix(RUNTIME).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    match name {
        "" => Some("it is empty"),
        _ if !name.chars().all(ascii) => Some("it has other characters than letters, digits and underscores"),
        _ if !name.starts_with(|c: char| c.is_ascii_alphabetic()) => Some("it does not begin with a letter"),
        _ if name.contains("__") || name.ends_with('_') => {
            Some("C++ keeps names with two underscores in a row for itself, and one is added at the end")
        }
        _ if runtime => Some("names with nnc at their beginning are those of nnc's runtime library"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_a_name_whatever_it_is_called() {
        for (file, name) in [
            ("resnet.onnx", "resnet"),
            ("zoo/ResNet-50 (v1.5).onnx", "ResNet_50_v1_5"),
            ("3d.onnx", "model_3d"),
            ("__init__.onnx", "init"),
            ("größe.onnx", "gr_e"),
            ("模型.onnx", "model"),
            ("nnc.onnx", "model_nnc"),
            ("nnc_model.onnx", "model_nnc_model"),
            ("nncx.onnx", "nncx"),
            ("", "model"),
        ] {
            let found = CName::of_file(Path::new(file));
            assert_eq!(found.to_string(), name);
            assert_eq!(CName::new(name), Ok(found), "what is made of {file} is a name");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_one_that_is() {
        for name in ["", "3d", "a-b", "_a", "a__b", "a_", "größe", "nnc", "nnc_model", "a b", "a\n"] {
            let error = CName::new(name).unwrap_err();
            assert_eq!(CName::new(&error.nearest.0), Ok(error.nearest));
        }
        assert_eq!(
            CName::new("a-b").unwrap_err().to_string(),
            "\"a-b\" cannot be a name in C: it has other characters than letters, digits and underscores; use letters, \
             digits and single underscores, such as \"a_b\""
        );
    }

    #[test]
    fn only_what_the_header_declares_is_exported() {
        let name = CName::new("net").unwrap();
        assert!(name.exports(b"net_run") && name.exports(b"net_info"));
        assert!(!name.exports(b"net_steps") && !name.exports(b"net_run_") && !name.exports(b"other_run"));
    }
}
