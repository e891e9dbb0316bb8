//! What inputs and outputs are, in words of C.

use std::ffi::{CString, c_char};

use nnc_runtime::Program;
use nnc_runtime::abi::Port;

use crate::failure::{CallError, c_string};

/// `nnc_tensor`.
#[repr(C)]
#[derive(Debug)]
pub struct TensorInfo {
    /// Name in the model, in UTF-8.
    pub name: *const c_char,
    /// Element type, an `nnc_type`.
    pub elem: u32,
    /// Number of extents.
    pub rank: u32,
    /// Extents, outermost first.
    pub shape: *const u64,
    /// Size of a dense tensor.
    pub bytes: u64,
}

/// Those of a program, which all models of it share.
pub(crate) struct CTensors {
    pub inputs: Vec<CTensor>,
    pub outputs: Vec<CTensor>,
}

/// Inputs or outputs.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Inputs,
    Outputs,
}

/// What [`TensorInfo`] points to.
pub(crate) struct CTensor {
    name: CString,
    elem: u32,
    shape: Vec<u64>,
    bytes: u64,
}

impl CTensors {
    pub fn new(program: &Program) -> CTensors {
        let all = |ports: &[Port]| ports.iter().map(CTensor::new).collect();
        CTensors { inputs: all(program.inputs()), outputs: all(program.outputs()) }
    }

    fn side(&self, side: Side) -> &[CTensor] {
        match side {
            Side::Inputs => &self.inputs,
            Side::Outputs => &self.outputs,
        }
    }

    pub fn info(&self, side: Side, index: u32) -> Result<TensorInfo, CallError> {
        let all = self.side(side);
        let tensor = all.get(index as usize);
        let missing = || CallError::Index { role: side.role(), index, count: all.len() };
        tensor.map(CTensor::info).ok_or_else(missing)
    }

    pub fn find(&self, side: Side, name: &str) -> Result<u32, CallError> {
        let all = self.side(side);
        let found = all.iter().position(|tensor| tensor.name.to_bytes() == name.as_bytes());
        found.map(|index| index as u32).ok_or_else(|| {
            let known = all.iter().map(|tensor| format!("\"{}\"", tensor.name.to_string_lossy()));
            CallError::Name { role: side.role(), name: name.into(), known: known.collect() }
        })
    }
}

impl Side {
    fn role(self) -> &'static str {
        match self {
            Side::Inputs => "input",
            Side::Outputs => "output",
        }
    }
}

impl CTensor {
    fn new(port: &Port) -> CTensor {
        CTensor {
            name: c_string(&port.name),
            elem: port.elem as u32,
            shape: port.shape.iter().map(|&extent| extent as u64).collect(),
            bytes: port.bytes() as u64,
        }
    }

    fn info(&self) -> TensorInfo {
        TensorInfo {
            name: self.name.as_ptr(),
            elem: self.elem,
            rank: self.shape.len() as u32,
            shape: self.shape.as_ptr(),
            bytes: self.bytes,
        }
    }
}
