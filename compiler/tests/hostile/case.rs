//! One model, what it is, and what must happen.

use nnc_ir::Tensor;

/// Bytes of address space that a process may take: the code generator sets 256 MiB of it aside, and threads their stacks.
pub const MEMORY: u64 = 1 << 30;
/// Seconds that a process may take.
pub const SECONDS: u64 = 30;

/// A malformed or malicious model.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its family and name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// The model file.
    pub model: Vec<u8>,
    /// What lies beside it.
    pub beside: Vec<Beside>,
    /// Flags.
    pub flags: Vec<&'static str>,
    /// What must happen.
    pub expect: Expect,
}

/// What must happen.
#[derive(Clone, Debug)]
pub enum Expect {
    /// An error with all of these words. The code says who is at fault: 1 the model, 2 the command line.
    Refused(i32, Vec<&'static str>),
    /// These inputs give these outputs.
    Right(Vec<(&'static str, Tensor)>, Vec<(&'static str, Tensor)>),
    /// These inputs give some outputs: which, ONNX leaves open.
    Runs(Vec<(&'static str, Tensor)>),
    /// The same, or an error with one of these words.
    RunsOrRefused(Vec<(&'static str, Tensor)>, Vec<&'static str>),
    /// It is compiled, and not run: it may take more memory than there is.
    Compiled,
    /// It is compiled, or an error with one of these words says why not.
    CompiledOrRefused(Vec<&'static str>),
}

/// A file in the model's folder, or around it.
#[derive(Clone, Debug)]
pub enum Beside {
    /// A file of these bytes.
    File(&'static str, Vec<u8>),
    /// A folder.
    Folder(&'static str),
    /// A symbolic link, and where it leads.
    Link(&'static str, &'static str),
    /// A second name of a file.
    HardLink(&'static str, &'static str),
    /// A pipe that nobody writes to.
    Pipe(&'static str),
}

impl Case {
    /// A model that must be refused as the model's fault, with all of these words.
    pub fn refused(
        name: impl Into<String>,
        about: impl Into<String>,
        model: Vec<u8>,
        words: &[&'static str],
    ) -> Case {
        Case::new(name, about, model, Expect::Refused(1, words.to_vec()))
    }

    /// A model whose outputs must be these.
    pub fn right(
        name: impl Into<String>,
        about: impl Into<String>,
        model: Vec<u8>,
        inputs: &[(&'static str, Tensor)],
        outputs: &[(&'static str, Tensor)],
    ) -> Case {
        Case::new(name, about, model, Expect::Right(inputs.to_vec(), outputs.to_vec()))
    }

    /// A model that must run to its end.
    pub fn runs(
        name: impl Into<String>,
        about: impl Into<String>,
        model: Vec<u8>,
        inputs: &[(&'static str, Tensor)],
    ) -> Case {
        Case::new(name, about, model, Expect::Runs(inputs.to_vec()))
    }

    /// A model that must run to its end, or be refused with one of these words.
    pub fn runs_or_refused(
        name: impl Into<String>,
        about: impl Into<String>,
        model: Vec<u8>,
        inputs: &[(&'static str, Tensor)],
        words: &[&'static str],
    ) -> Case {
        Case::new(name, about, model, Expect::RunsOrRefused(inputs.to_vec(), words.to_vec()))
    }

    /// A model that must be compiled.
    pub fn compiled(name: impl Into<String>, about: impl Into<String>, model: Vec<u8>) -> Case {
        Case::new(name, about, model, Expect::Compiled)
    }

    /// A model that may be compiled or refused with one of these words, but nothing else.
    pub fn bounded(
        name: impl Into<String>,
        about: impl Into<String>,
        model: Vec<u8>,
        words: &[&'static str],
    ) -> Case {
        Case::new(name, about, model, Expect::CompiledOrRefused(words.to_vec()))
    }

    fn new(name: impl Into<String>, about: impl Into<String>, model: Vec<u8>, expect: Expect) -> Case {
        let (name, about) = (name.into(), about.into());
        Case { name, about, model, beside: vec![], flags: vec![], expect }
    }

    /// With files around the model.
    pub fn beside(mut self, beside: impl IntoIterator<Item = Beside>) -> Case {
        self.beside.extend(beside);
        self
    }

    /// With flags of the command.
    pub fn flags(mut self, flags: &[&'static str]) -> Case {
        self.flags.extend(flags);
        self
    }

    /// With another exit code.
    pub fn code(mut self, code: i32) -> Case {
        if let Expect::Refused(expected, _) = &mut self.expect {
            *expected = code;
        }
        self
    }

    /// A case of a family.
    pub fn of(mut self, family: &str) -> Case {
        self.name = format!("{family}::{}", self.name);
        self
    }
}
