//! Code in a file: a plan becomes a relocatable object.

use std::collections::BTreeSet;
use std::time::Instant;

use cranelift_module::default_libcall_names;
use cranelift_object::{ObjectBuilder, ObjectModule};
use nnc_ir::Deadline;
use nnc_runtime::abi::ProgramDesc;

use super::earlier::Earlier;
use super::{CodeTimes, CodegenError, describe, emit};
use crate::artefact::driver::VersionCode;
use crate::artefact::{CName, driver, versions};
use crate::code::isa;
use crate::parallel;
use crate::plan::Plan;
use crate::plan::merged::MergedConstants;
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
    let mut module = module(target)?;
    let plans: Vec<&Plan> = programs.iter().map(|(_, plan)| *plan).collect();
    let functions = emit(&mut module, &plans, target, threads, deadline, None, &mut Earlier::default())?;
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

/// An empty object. What is put into it as instructions of Cranelift, the C functions, runs on any processor: they ask what it has.
fn module(target: &Target) -> Result<ObjectModule, CodegenError> {
    let mut builder = ObjectBuilder::new(isa::for_any(target)?, "nnc", default_libcall_names())?;
    builder.per_function_section(false);
    Ok(ObjectModule::new(builder))
}

/// A relocatable object with versions of a program for several targets, and C functions that take the best that runs.
#[derive(Debug)]
pub struct VersionsObject {
    /// The object file.
    pub bytes: Vec<u8>,
    /// For each version, the symbols of its function table, and what it is, the best first.
    pub versions: Vec<(Vec<String>, ProgramDesc)>,
    /// How many functions there are, of layers and kernels.
    pub functions: usize,
    /// What it took to make them.
    pub times: CodeTimes,
}

/// Compiles plans of one model for several targets of one architecture, the best first, into an object that C knows by `name`. Their
/// constants are `merged`, in this order. What their code has in common is there once.
pub fn compile_versions(
    name: &CName,
    plans: &[(&Plan, &Target)],
    merged: &MergedConstants,
    constants: ConstantPlace,
    threads: usize,
    deadline: Deadline,
) -> Result<VersionsObject, CodegenError> {
    let start = Instant::now();
    let Some((_, least)) = plans.last() else {
        return Err(CodegenError::Module("an object without a program".into()));
    };
    let mut module = module(least)?;
    let (mut earlier, mut times) = (Earlier::default(), CodeTimes::default());
    let (mut described, mut ids, mut all) = (Vec::new(), Vec::new(), BTreeSet::new());
    // The least first: what the others have in common with it bears plain names.
    for (number, (plan, target)) in plans.iter().enumerate().rev() {
        let mut functions = emit(&mut module, &[plan], target, threads, deadline, None, &mut earlier)?;
        times = times.with(functions.times);
        let table = functions.programs.pop().unwrap_or_default();
        let mut desc = describe(plan, &table, target);
        merged.move_constants(number, &mut desc);
        let used = table.layers.iter().chain(&functions.kernels).map(|function| function.id);
        all.extend(used);
        let (of_version, names): (Vec<_>, Vec<_>) = table.layers.into_iter().map(|f| (f.id, f.name)).unzip();
        described.push((names, desc));
        ids.push(of_version);
    }
    described.reverse();
    ids.reverse();
    let versions = described.iter().zip(&ids).map(|((_, desc), functions)| VersionCode { desc, functions });
    versions::define(&mut module, name, &versions.collect::<Vec<_>>())?;
    if constants == ConstantPlace::Inside {
        driver::define_constants(&mut module, name, merged.bytes())?;
    }
    let bytes = module.finish().emit().map_err(|e| CodegenError::Module(e.to_string()))?;
    Ok(VersionsObject { bytes, versions: described, functions: all.len(), times: times.since(start) })
}
