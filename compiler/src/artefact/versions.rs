//! One program in versions for several processors: C functions that take the best that runs.
//!
//! ```text
//!   NAME_supported()            1 if any of the checks says so
//!   NAME_run(…)                 note in the workspace?  ── yes ─▶ run of that version
//!                               │ no
//!                               check 0 ── fits ─▶ note it, run 0       the best version first
//!                               check 1 ── fits ─▶ note it, run 1
//!                               none ─▶ ERROR_CPU
//! ```
//!
//! To a host, they are one program: the workspace has room for whichever version needs most, inputs and outputs are the same, and
//! constants are one range, of which each version uses what it needs. Where data decide how large an output is, every version has that
//! number elsewhere in its arena; so it is copied behind the arenas, to a place that all have.

use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, FuncRef, InstBuilder, MemFlagsData, Signature, Value, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{Linkage, Module};
use nnc_runtime::abi::{Count, ProgramDesc};

use super::CName;
use super::driver::{
    CHECKED, CountCopy, DriverError, Status, VersionCode, VersionRuns, WORKSPACE_ALIGN, Workspace,
    define_data_symbols, define_version,
};
use super::name::Export;

/// What C sees of versions, which are there and have the same inputs and outputs: memory for the one that needs most.
pub fn merged(versions: &[&ProgramDesc]) -> Option<ProgramDesc> {
    let (first, more) = versions.split_first()?;
    if more.is_empty() {
        return Some((*first).clone());
    }
    let most = |bytes: fn(&ProgramDesc) -> u64| versions.iter().map(|desc| bytes(desc)).max().unwrap_or(0);
    let mut all = (*first).clone();
    all.target = versions.iter().map(|desc| desc.target.as_str()).collect::<Vec<_>>().join(", ");
    // What every processor has that runs any of them.
    all.features.0 = versions.iter().fold(u64::MAX, |common, desc| common & desc.features.0);
    all.scratch_bytes = most(|desc| desc.scratch_bytes);
    all.arena_bytes = most(|desc| desc.arena_bytes).next_multiple_of(WORKSPACE_ALIGN);
    for port in &mut all.outputs {
        for Count { at, .. } in &mut port.counts {
            *at = all.arena_bytes;
            all.arena_bytes += 8;
        }
    }
    Some(all)
}

/// Adds the C functions and data symbols of a program of some versions, the best first, to `module`.
pub fn define(
    module: &mut dyn Module,
    name: &CName,
    versions: &[VersionCode<'_>],
) -> Result<(), DriverError> {
    let descs: Vec<&ProgramDesc> = versions.iter().map(|version| version.desc).collect();
    let Some(all) = merged(&descs) else { return Ok(()) };
    let workspace = Workspace::of(&all)?;
    define_data_symbols(module, name, &all, &descs, &workspace)?;
    let mut runs = Vec::with_capacity(versions.len());
    for (number, version) in versions.iter().enumerate() {
        let counts = count_copies(version.desc, &all);
        runs.push(define_version(module, name, number, version, &workspace, &counts)?);
    }
    define_supported(module, name, &runs)?;
    for (export, params) in [(Export::Run, 3), (Export::RunParallel, 5)] {
        define_choice(module, name, export, params, &runs, &workspace)?;
    }
    Ok(())
}

/// From where to where the numbers are copied that say how large outputs are.
fn count_copies(version: &ProgramDesc, all: &ProgramDesc) -> Vec<CountCopy> {
    let counts = |desc: &ProgramDesc| -> Vec<u64> {
        desc.outputs.iter().flat_map(|port| port.counts.iter().map(|count| count.at)).collect()
    };
    counts(version).into_iter().zip(counts(all)).map(|(from, to)| CountCopy { from, to }).collect()
}

/// `NAME_supported`: whether the processor runs any version, 1 or 0.
fn define_supported(module: &mut dyn Module, name: &CName, runs: &[VersionRuns]) -> Result<(), DriverError> {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.returns = vec![AbiParam::new(types::I32)];
    define_function(module, &name.symbol(Export::Supported), signature, |builder, module| {
        let entry = builder.create_block();
        builder.switch_to_block(entry);
        for run in runs {
            let right = match run.cpu_check {
                Some(check) => {
                    let check = module.declare_func_in_func(check, builder.func);
                    asked(builder, check)
                }
                None => builder.ins().iconst(types::I32, 1),
            };
            let [yes, next] = [(); 2].map(|()| builder.create_block());
            builder.ins().brif(right, yes, &[], next, &[]);
            builder.switch_to_block(yes);
            let one = builder.ins().iconst(types::I32, 1);
            builder.ins().return_(&[one]);
            builder.switch_to_block(next);
        }
        let zero = builder.ins().iconst(types::I32, 0);
        builder.ins().return_(&[zero]);
    })
}

/// `NAME_run` or `NAME_run_parallel`: that of the best version that runs.
fn define_choice(
    module: &mut dyn Module,
    name: &CName,
    export: Export,
    params: usize,
    runs: &[VersionRuns],
    workspace: &Workspace,
) -> Result<(), DriverError> {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); params];
    signature.returns = vec![AbiParam::new(types::I32)];
    define_function(module, &name.symbol(export), signature, |builder, module| {
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let params = builder.block_params(entry).to_vec();
        // All functions of a program have the workspace third.
        let Some(&memory) = params.get(2) else { return };
        let [refuse, lacks] = [(); 2].map(|()| builder.create_block());
        let mask = builder.ins().iconst(types::I64, WORKSPACE_ALIGN as i64 - 1);
        let below = builder.ins().band(memory, mask);
        for (condition, value) in [(IntCC::Equal, memory), (IntCC::NotEqual, below)] {
            let bad = builder.ins().icmp_imm_s(condition, value, 0);
            let next = builder.create_block();
            builder.ins().brif(bad, refuse, &[], next, &[]);
            builder.switch_to_block(next);
        }
        let notes = builder.ins().iadd_imm_s(memory, workspace.notes as i64);
        let noted = builder.ins().load(types::I64, MemFlagsData::trusted(), notes, 0);
        let calls: Vec<_> = runs.iter().map(|_| builder.create_block()).collect();
        for (number, &call) in calls.iter().enumerate() {
            let mark = builder.ins().iconst(types::I64, mark(number));
            let known = builder.ins().icmp(IntCC::Equal, noted, mark);
            let next = builder.create_block();
            builder.ins().brif(known, call, &[], next, &[]);
            builder.switch_to_block(next);
        }
        for (number, (run, &call)) in runs.iter().zip(&calls).enumerate() {
            let [fits, next] = [(); 2].map(|()| builder.create_block());
            match run.cpu_check {
                Some(check) => {
                    let check = module.declare_func_in_func(check, builder.func);
                    let verdict = asked(builder, check);
                    builder.ins().brif(verdict, fits, &[], next, &[]);
                }
                None => {
                    builder.ins().jump(fits, &[]);
                }
            }
            builder.switch_to_block(fits);
            let mark = builder.ins().iconst(types::I64, mark(number));
            builder.ins().store(MemFlagsData::trusted(), mark, notes, 0);
            builder.ins().jump(call, &[]);
            builder.switch_to_block(next);
        }
        builder.ins().jump(lacks, &[]);
        for (run, &call) in runs.iter().zip(&calls) {
            builder.switch_to_block(call);
            let callee = if export == Export::Run { run.alone } else { run.parallel };
            let callee = module.declare_func_in_func(callee, builder.func);
            let status = asked_with(builder, callee, &params);
            builder.ins().return_(&[status]);
        }
        for (block, status) in [(refuse, Status::Buffer), (lacks, Status::Cpu)] {
            builder.switch_to_block(block);
            let code = builder.ins().iconst(types::I32, status as i64);
            builder.ins().return_(&[code]);
        }
    })
}

/// The note that a version is the one for this processor.
fn mark(number: usize) -> i64 {
    CHECKED.wrapping_add(1 + number as u64) as i64
}

/// Calls a function without parameters that returns a number.
fn asked(builder: &mut FunctionBuilder<'_>, callee: FuncRef) -> Value {
    asked_with(builder, callee, &[])
}

fn asked_with(builder: &mut FunctionBuilder<'_>, callee: FuncRef, args: &[Value]) -> Value {
    let call = builder.ins().call(callee, args);
    match builder.inst_results(call) {
        &[result] => result,
        // The functions that are called here return one number.
        _ => builder.ins().iconst(types::I32, Status::Cpu as i64),
    }
}

/// Defines a function that others see.
fn define_function(
    module: &mut dyn Module,
    symbol: &str,
    signature: Signature,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &mut dyn Module),
) -> Result<(), DriverError> {
    let id = module.declare_function(symbol, Linkage::Export, &signature)?;
    let mut context = Context::new();
    context.func.signature = signature;
    let mut frontend = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut frontend);
    body(&mut builder, module);
    builder.seal_all_blocks();
    builder.finalize(module.target_config());
    module.define_function(id, &mut context)?;
    Ok(())
}
