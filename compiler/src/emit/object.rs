//! Code in a file: a plan becomes a relocatable object.

use std::collections::BTreeSet;
use std::time::Instant;

use cranelift_module::default_libcall_names;
use cranelift_object::{ObjectBuilder, ObjectModule};
use nnc_ir::Deadline;
use nnc_runtime::abi::ProgramDesc;

use super::{CodeTimes, CodegenError, describe, emit};
use crate::artefact::{CName, driver};
use crate::code::isa;
use crate::parallel;
use crate::plan::Plan;
use crate::target::Target;

/// Where the constants of an object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstantPlace {
    /// In the object: it is for a linker.
    Inside,
    /// Left out: the artefact adds them, on pages of their own.
    Outside,
}

/// A relocatable object with a plan's code and the C function that runs it.
#[derive(Debug)]
pub struct Object {
    /// The object file.
    pub bytes: Vec<u8>,
    /// Symbols of the function table, in order.
    pub functions: Vec<String>,
    /// What the functions are for.
    pub desc: ProgramDesc,
    /// What it took to make them.
    pub times: CodeTimes,
}

/// Compiles a plan into an object that C knows by `name`, on all cores. The program has the default name.
pub fn compile(plan: &Plan, target: &Target, constants: ConstantPlace) -> Result<Object, CodegenError> {
    compile_on(plan, target, &CName::default(), constants, parallel::available(), Deadline::never())
}

/// Compiles a plan into an object that C knows by `name`, on up to `threads` threads and by `deadline`: the same bytes for any number of threads.
pub fn compile_on(
    plan: &Plan,
    target: &Target,
    name: &CName,
    constants: ConstantPlace,
    threads: usize,
    deadline: Deadline,
) -> Result<Object, CodegenError> {
    let library = compile_library(&[(name, plan)], target, constants, threads, deadline)?;
    let LibraryObject { bytes, mut programs, times, .. } = library;
    let (functions, desc) =
        programs.pop().ok_or_else(|| CodegenError::Module("an object without a program".into()))?;
    Ok(Object { bytes, functions, desc, times })
}

/// A relocatable object with the code of some plans, and a C function for each.
#[derive(Debug)]
pub struct LibraryObject {
    /// The object file.
    pub bytes: Vec<u8>,
    /// For each plan, the symbols of its function table, and what they are for.
    pub programs: Vec<(Vec<String>, ProgramDesc)>,
    /// How many functions there are, of layers and kernels.
    pub functions: usize,
    /// What it took to make them.
    pub times: CodeTimes,
}

/// Compiles some plans into one object, in which what their code has in common is once. Names are those by which C knows the
/// programs; no two are the same.
pub fn compile_library(
    programs: &[(&CName, &Plan)],
    target: &Target,
    constants: ConstantPlace,
    threads: usize,
    deadline: Deadline,
) -> Result<LibraryObject, CodegenError> {
    let start = Instant::now();
    let isa = isa::for_layers(target, true)?;
    let mut builder = ObjectBuilder::new(isa, "nnc", default_libcall_names())?;
    builder.per_function_section(false);
    let mut module = ObjectModule::new(builder);
    let plans: Vec<&Plan> = programs.iter().map(|(_, plan)| *plan).collect();
    let functions = emit(&mut module, &plans, target, threads, deadline, None)?;
    let layers = functions.programs.iter().flat_map(|table| &table.layers).map(|layer| layer.id);
    let count = layers.collect::<BTreeSet<_>>().len() + functions.kernels.len();
    let mut described = Vec::with_capacity(programs.len());
    for ((name, plan), table) in programs.iter().zip(functions.programs) {
        let desc = describe(plan, &table, target);
        let (ids, names): (Vec<_>, Vec<_>) = table.layers.into_iter().map(|f| (f.id, f.name)).unzip();
        driver::define(&mut module, name, &desc, &ids)?;
        if constants == ConstantPlace::Inside {
            driver::define_constants(&mut module, name, &plan.constants.bytes())?;
        }
        described.push((names, desc));
    }
    let bytes = module.finish().emit().map_err(|e| CodegenError::Module(e.to_string()))?;
    Ok(LibraryObject { bytes, programs: described, functions: count, times: functions.times.since(start) })
}
