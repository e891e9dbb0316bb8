//! `NAME_run`: a whole program as one C function, for hosts that `dlopen` an artefact and link nothing of ours.
//!
//! ```c
//! int NAME_run(const void *const *inputs, void *const *outputs, void *workspace);
//! int NAME_supported(void);
//! ```
//!
//! It is generated code like the layers, so it imports nothing. A network has hundreds of steps; a call spelt out for each
//! would be larger than the layers themselves. So the steps are a table of records in read-only data, and the code is one
//! loop over it, whose size depends on the number of *functions* only:
//!
//! ```text
//!   regions = [workspace, constants, scratch, inputs…, outputs…]   on the stack
//!   for each record:
//!       func u32, begin u32, end u32, args u32                     16 bytes
//!       per arg: offset u64, region u32, 0                         16 bytes
//!     bases[k] = regions[arg.region] + arg.offset                  on the stack
//!     switch func:  case i: f_i(bases, begin, end, scratch)
//!   until func is none of them: return 0
//! ```
//!
//! A step is one record. Steps that run strip by strip are one record for each step and strip.
//!
//! Loops are loops of the code, around walks over the records of their steps: the table has an end behind each stretch of steps
//! between the beginnings and ends of loops. A base pointer that moves on in a loop has a region of its own, which is computed
//! anew before each walk over its step. How many iterations there are stands behind the records.
//!
//! The calls go through a jump table of distances rather than a table of function addresses: addresses in data would
//! have to be relocated by whoever loads the file.
//!
//! Before all that, it asks whether the processor can run the layers ([`cpu_check`](super::cpu_check)). In a virtual machine
//! the answer takes longer than a small network, so that it was good is noted at the end of the workspace, and the next call
//! with that workspace finds it there:
//!
//! ```text
//!   workspace   0 arena … │ scratch … │ notes: checked u64, 56 bytes unused │ scratch of other parts …
//! ```
//!
//! `NAME_supported` asks the same of nobody's workspace. `NAME_run_parallel` has the steps done on threads of the host
//! ([`parallel`](super::parallel)); the last part of the workspace is for it alone.
//!
//! Layers run with the floating-point environment that the program asks for, as in a session; the caller's is back when it
//! returns ([`float_mode`](super::float_mode)).
//!
//! Beside it come three data symbols: `NAME_abi_version` (`uint32_t`), `NAME_workspace_bytes` (`uint64_t`) and `NAME_info`, a
//! text in JSON that says what the inputs and outputs are.

use std::fmt::Write as _;
use std::ops::Range;

use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, BlockCall, FuncRef, GlobalValue, GlobalValueData, InstBuilder, JumpTableData,
    MemFlagsData, Signature, StackSlot, StackSlotData, StackSlotKind, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, ModuleError};
use nnc_runtime::abi::{Arg, CpuFeatures, Denormals, IndexCheck, Port, ProgramDesc, Region, Repeat, Step};
use nnc_runtime::artefact::ABI_VERSION;
use target_lexicon::Architecture;

use super::name::Export;
use super::parallel::{self, Host, ITEM, PARTS, PartFunction, SCRATCH_GAP, job_slot};
use super::records::{ARENA, CONSTANTS, PORTS, RECORD, SCRATCH};
use super::{CName, MADE_BY, cpu_check, float_mode, json};

/// Alignment of the workspace: that of the arena and of scratch.
pub const WORKSPACE_ALIGN: u64 = 64;
/// What a run notes behind arena and scratch for the next one.
const NOTES_BYTES: u64 = 64;
/// The note that the processor has been found to be right: nothing that memory contains by chance.
pub(super) const CHECKED: u64 = u64::from_le_bytes(*b"nnc: cpu");

/// What `NAME_run` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All is computed.
    Ok = 0,
    /// A pointer is null or not aligned; nothing was computed.
    Buffer = 1,
    /// The processor, or its operating system, lacks what the code needs; nothing was computed.
    Cpu = 2,
    /// The data contain an index that leads outside of what it points into; the outputs mean nothing.
    Index = 3,
}

/// A program that `NAME_run` cannot be made for.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The code generator refused.
    #[error("the C function of the program cannot be generated; this is a mistake in the code generator")]
    Module(#[from] Box<ModuleError>),
    /// Sizes beyond what a C function can be given.
    #[error(
        "the program needs {what} for one call of its C function; use smaller extents or split the model"
    )]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
}

impl From<ModuleError> for DriverError {
    fn from(error: ModuleError) -> DriverError {
        DriverError::Module(Box::new(error))
    }
}

/// Where things are in the memory that `NAME_run` works in, each from a multiple of 64. The arena comes first.
#[derive(Clone, Copy)]
pub(super) struct Workspace {
    scratch: u64,
    pub(super) notes: u64,
    end: u64,
    /// From the scratch of one part to that of the next, and where it ends.
    stride: u64,
    parallel_end: u64,
}

impl Workspace {
    pub(super) fn of(desc: &ProgramDesc) -> Result<Workspace, DriverError> {
        let lay_out = || {
            let scratch = desc.arena_bytes.checked_next_multiple_of(WORKSPACE_ALIGN)?;
            let bytes = desc.scratch_bytes.checked_next_multiple_of(WORKSPACE_ALIGN)?;
            let notes = scratch.checked_add(bytes)?;
            let end = notes.checked_add(NOTES_BYTES)?;
            let stride = bytes.checked_add(SCRATCH_GAP)?;
            let parallel_end = stride.checked_mul(PARTS - 1)?.checked_add(end)?;
            let workspace = Workspace { scratch, notes, end, stride, parallel_end };
            i64::try_from(parallel_end).is_ok().then_some(workspace)
        };
        lay_out().ok_or(DriverError::TooLarge { what: "more memory than there are addresses" })
    }
}

/// Size of the memory that `NAME_run` works in.
pub fn workspace_bytes(desc: &ProgramDesc) -> Result<u64, DriverError> {
    Ok(Workspace::of(desc)?.end)
}

/// Size of the memory that `NAME_run_parallel` works in.
pub fn parallel_workspace_bytes(desc: &ProgramDesc) -> Result<u64, DriverError> {
    Ok(Workspace::of(desc)?.parallel_end)
}

/// Adds the C functions and the data symbols to `module`, for a program that is called `name`. `funcs` are the layer functions in
/// the order of the function table, of type `(bases, begin, end, scratch)`, all `i64`, System V, and defined in `module`.
pub fn define(
    module: &mut dyn Module,
    name: &CName,
    desc: &ProgramDesc,
    funcs: &[FuncId],
) -> Result<(), DriverError> {
    let workspace = Workspace::of(desc)?;
    define_data_symbols(module, name, desc, &[], &workspace)?;
    let names = Names { program: name, version: None };
    let cpu_check = define_cpu_check(module, &names, desc)?;
    define_supported(module, name, cpu_check)?;
    define_runs(module, &names, desc, funcs, &workspace, cpu_check, &[])?;
    Ok(())
}

/// Adds the data symbols of a program: what C sees of it is `desc`, and if there are several versions, they are these.
pub(super) fn define_data_symbols(
    module: &mut dyn Module,
    name: &CName,
    desc: &ProgramDesc,
    versions: &[&ProgramDesc],
    workspace: &Workspace,
) -> Result<(), DriverError> {
    let mut export = |symbol, align, bytes: &[u8]| {
        define_data(module, &name.symbol(symbol), Linkage::Export, align, bytes.to_vec())
    };
    export(Export::AbiVersion, 4, &ABI_VERSION.to_le_bytes())?;
    export(Export::WorkspaceBytes, 8, &workspace.end.to_le_bytes())?;
    export(Export::Info, 1, &[info(desc, versions, workspace).as_bytes(), &[0]].concat())?;
    Ok(())
}

/// A version and its layer functions, in the order of the function table.
#[derive(Clone, Copy, Debug)]
pub struct VersionCode<'a> {
    /// What the version is.
    pub desc: &'a ProgramDesc,
    /// Its functions.
    pub functions: &'a [FuncId],
}

/// What runs a version of a program, for the functions that choose one.
pub(super) struct VersionRuns {
    /// As `NAME_run` and `NAME_run_parallel`; neither asks for the processor.
    pub(super) alone: FuncId,
    pub(super) parallel: FuncId,
    /// Asks for it; `None` where every processor is right.
    pub(super) cpu_check: Option<FuncId>,
}

/// A number of the arena that all versions have at one place in the end.
#[derive(Clone, Copy)]
pub(super) struct CountCopy {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Adds what runs a version of a program, in a workspace for all of them.
pub(super) fn define_version(
    module: &mut dyn Module,
    name: &CName,
    number: usize,
    version: &VersionCode<'_>,
    workspace: &Workspace,
    counts: &[CountCopy],
) -> Result<VersionRuns, DriverError> {
    let names = Names { program: name, version: Some(number) };
    let cpu_check = define_cpu_check(module, &names, version.desc)?;
    let (desc, functions) = (version.desc, version.functions);
    let [alone, parallel] = define_runs(module, &names, desc, functions, workspace, None, counts)?;
    Ok(VersionRuns { alone, parallel, cpu_check })
}

/// How the symbols of a program, or of a version of it, are called.
struct Names<'a> {
    program: &'a CName,
    version: Option<usize>,
}

impl Names<'_> {
    /// A symbol that nobody sees.
    fn local(&self, what: &str) -> String {
        match self.version {
            None => self.program.local(what),
            Some(number) => self.program.local(&format!("v{number}_{what}")),
        }
    }

    /// A function that hosts call; of a version, one that another function calls.
    fn function(&self, what: Export) -> (String, Linkage) {
        match self.version {
            None => (self.program.symbol(what), Linkage::Export),
            Some(_) => (self.local(what.ending()), Linkage::Local),
        }
    }
}

/// Adds the two functions that run a program, on the calling thread and on those of the host.
fn define_runs(
    module: &mut dyn Module,
    names: &Names<'_>,
    desc: &ProgramDesc,
    funcs: &[FuncId],
    workspace: &Workspace,
    cpu_check: Option<FuncId>,
    counts: &[CountCopy],
) -> Result<[FuncId; 2], DriverError> {
    let table = StepTable::of(desc)?;
    let steps = define_data(module, &names.local("steps"), Linkage::Local, 16, table.bytes.clone())?;
    let consts = module.declare_data(&names.program.constants(), Linkage::Import, false, false)?;
    let float_mode = FloatMode::define(module, names, desc.denormals)?;
    let items = define_data(module, &names.local("items"), Linkage::Local, 16, table.items.clone())?;
    let part = define_part(module, names, desc, funcs, &float_mode, workspace)?;
    let shared = Shared { desc, table: &table, workspace, steps, consts, cpu_check, funcs, counts };
    let alone = shared.define(module, names, Way::Alone(&float_mode))?;
    let parallel = shared.define(module, names, Way::Parallel { part, items })?;
    Ok([alone, parallel])
}

/// How the steps are done.
enum Way<'a> {
    /// By the calling thread.
    Alone(&'a FloatMode),
    /// In parts, by threads of the host.
    Parallel { part: FuncId, items: DataId },
}

/// What the functions that run the program have in common.
struct Shared<'a> {
    desc: &'a ProgramDesc,
    table: &'a StepTable,
    workspace: &'a Workspace,
    steps: DataId,
    consts: DataId,
    cpu_check: Option<FuncId>,
    funcs: &'a [FuncId],
    /// What is copied to where all versions have it.
    counts: &'a [CountCopy],
}

impl Shared<'_> {
    /// Defines `NAME_run` or `NAME_run_parallel`.
    fn define(
        &self,
        module: &mut dyn Module,
        names: &Names<'_>,
        way: Way<'_>,
    ) -> Result<FuncId, DriverError> {
        let (symbol, params) = match way {
            Way::Alone(_) => (Export::Run, 3),
            Way::Parallel { .. } => (Export::RunParallel, 5),
        };
        let mut signature = Signature::new(CallConv::SystemV);
        signature.params = vec![AbiParam::new(types::I64); params];
        signature.returns = vec![AbiParam::new(types::I32)];
        let (symbol, linkage) = names.function(symbol);
        let id = module.declare_function(&symbol, linkage, &signature)?;
        let mut context = Context::new();
        context.func.signature = signature;
        let func = &mut context.func;
        let steps = module.declare_data_in_func(self.steps, func);
        let consts = module.declare_data_in_func(self.consts, func);
        // The linker puts the constants into the same file, so their address is a distance from the code.
        if let GlobalValueData::Symbol { colocated, .. } = &mut func.global_values[consts] {
            *colocated = true;
        }
        let cpu_check = self.cpu_check.map(|check| module.declare_func_in_func(check, func));
        let (mode, callees) = match &way {
            Way::Alone(float) => {
                let switch = module.declare_func_in_func(float.switch, func);
                let callees = self.funcs.iter().map(|&callee| module.declare_func_in_func(callee, func));
                (Mode::Alone { switch, wanted: float.wanted }, callees.collect())
            }
            Way::Parallel { part, items } => {
                let part = module.declare_func_in_func(*part, func);
                let items = module.declare_data_in_func(*items, func);
                (Mode::Parallel { part, items }, Vec::new())
            }
        };
        let mut frontend = FunctionBuilderContext::new();
        let builder = FunctionBuilder::new(func, &mut frontend);
        let run = RunFunction::new(builder, self.desc, self.table, *self.workspace, steps, consts, callees)?;
        run.build(self.desc, self.table, cpu_check, mode, self.counts, module);
        module.define_function(id, &mut context)?;
        Ok(id)
    }
}

/// How the function at hand does the steps.
#[derive(Clone, Copy)]
enum Mode {
    /// By itself, in a floating-point environment that it switches to.
    Alone { switch: FuncRef, wanted: u64 },
    /// By asking its host, for parts of items.
    Parallel { part: FuncRef, items: GlobalValue },
}

/// `NAME_supported`: whether the processor is right, 1 or 0.
fn define_supported(
    module: &mut dyn Module,
    name: &CName,
    cpu_check: Option<FuncId>,
) -> Result<(), DriverError> {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.returns = vec![AbiParam::new(types::I32)];
    let id = module.declare_function(&name.symbol(Export::Supported), Linkage::Export, &signature)?;
    let mut context = Context::new();
    context.func.signature = signature;
    let check = cpu_check.map(|check| module.declare_func_in_func(check, &mut context.func));
    let mut frontend = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut frontend);
    let entry = builder.create_block();
    builder.switch_to_block(entry);
    let called = check.map(|check| builder.ins().call(check, &[]));
    let verdict = called.and_then(|call| builder.inst_results(call).first().copied());
    let right = match verdict {
        Some(verdict) => {
            let right = builder.ins().icmp_imm_s(IntCC::NotEqual, verdict, 0);
            builder.ins().uextend(types::I32, right)
        }
        None => builder.ins().iconst(types::I32, 1),
    };
    builder.ins().return_(&[right]);
    builder.seal_all_blocks();
    builder.finalize(module.target_config());
    module.define_function(id, &mut context)?;
    Ok(())
}

/// The function that does a part of an item.
fn define_part(
    module: &mut dyn Module,
    names: &Names<'_>,
    desc: &ProgramDesc,
    funcs: &[FuncId],
    float_mode: &FloatMode,
    workspace: &Workspace,
) -> Result<FuncId, DriverError> {
    let signature = parallel::part_signature();
    let id = module.declare_function(&names.local("part"), Linkage::Local, &signature)?;
    let mut context = Context::new();
    context.func.signature = signature;
    let func = &mut context.func;
    let callees = funcs.iter().map(|&callee| module.declare_func_in_func(callee, func)).collect();
    let float_mode = (module.declare_func_in_func(float_mode.switch, func), float_mode.wanted);
    let mut frontend = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(func, &mut frontend);
    let bases = pointers(&mut builder, most_args(desc))?;
    let part = PartFunction { builder, callees, bases, float_mode, scratch_stride: workspace.stride };
    let PartFunction { mut builder, .. } = part.build();
    builder.seal_all_blocks();
    builder.finalize(module.target_config());
    module.define_function(id, &mut context)?;
    Ok(id)
}

/// Room for some pointers on the stack.
fn pointers(builder: &mut FunctionBuilder<'_>, count: usize) -> Result<StackSlot, DriverError> {
    let bytes = u32::try_from(count.max(1)).ok().filter(|&count| count < 1 << 16).map(|count| count * 8);
    let bytes = bytes.ok_or(DriverError::TooLarge { what: "more than 65535 buffers" })?;
    Ok(builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3)))
}

/// The most base pointers that a step has.
fn most_args(desc: &ProgramDesc) -> usize {
    desc.steps.iter().map(|step| step.args.len()).max().unwrap_or(0)
}

/// The function that looks whether the processor is right; `None` where every processor is.
fn define_cpu_check(
    module: &mut dyn Module,
    names: &Names<'_>,
    desc: &ProgramDesc,
) -> Result<Option<FuncId>, DriverError> {
    if desc.features == CpuFeatures::default() {
        return Ok(None);
    }
    let code = match module.isa().triple().architecture {
        Architecture::X86_64 => cpu_check::x86_64(desc.features),
        // Targets of other architectures need nothing that not every processor of theirs has.
        _ => return Ok(None),
    };
    let mut signature = Signature::new(CallConv::SystemV);
    signature.returns = vec![AbiParam::new(types::I32)];
    let id = module.declare_function(&names.local("cpu_check"), Linkage::Local, &signature)?;
    module.define_function_bytes(id, 16, &code, &[])?;
    Ok(Some(id))
}

/// How the floating-point environment is switched, and to what.
struct FloatMode {
    switch: FuncId,
    wanted: u64,
}

impl FloatMode {
    fn define(
        module: &mut dyn Module,
        names: &Names<'_>,
        denormals: Denormals,
    ) -> Result<FloatMode, DriverError> {
        let (code, wanted) = match module.isa().triple().architecture {
            Architecture::X86_64 => (float_mode::X86_64, u64::from(denormals.mxcsr())),
            // The only other one that targets have.
            _ => (float_mode::AARCH64, denormals.fpcr()),
        };
        let mut signature = Signature::new(CallConv::SystemV);
        signature.params = vec![AbiParam::new(types::I64)];
        signature.returns = vec![AbiParam::new(types::I64)];
        let switch = module.declare_function(&names.local("float_mode"), Linkage::Local, &signature)?;
        module.define_function_bytes(switch, 16, code, &[])?;
        Ok(FloatMode { switch, wanted })
    }
}

/// Puts the constants of a program into `module` itself, for an object that goes to a linker instead of into an artefact.
pub fn define_constants(module: &mut dyn Module, name: &CName, consts: &[u8]) -> Result<(), DriverError> {
    define_data(module, &name.constants(), Linkage::Local, nnc_runtime::PAGE as u64, consts.to_vec())?;
    Ok(())
}

fn define_data(
    module: &mut dyn Module,
    name: &str,
    linkage: Linkage,
    align: u64,
    bytes: Vec<u8>,
) -> Result<DataId, DriverError> {
    let id = module.declare_data(name, linkage, false, false)?;
    let mut data = DataDescription::new();
    data.set_align(align);
    data.define(bytes.into_boxed_slice());
    module.define_data(id, &data)?;
    Ok(id)
}

/// The table that the loop walks, and how it is walked through.
struct StepTable {
    bytes: Vec<u8>,
    /// What can be divided between threads: see [`parallel`](super::parallel).
    items: Vec<u8>,
    way: Vec<Stop>,
    /// Base pointers that move on in loops, in the order of their steps.
    moving: Vec<Moving>,
    /// Where the numbers of iterations begin.
    trips: usize,
}

/// What `nnc_run` does, one thing after the other.
enum Stop {
    /// Walks over the records from a byte of the table on, or over the items that stand for them, after it has computed some of
    /// the moving base pointers.
    Walk { at: usize, items: usize, moving: Range<usize> },
    /// Begins the repeat of this number.
    Enter(usize),
    /// Ends an iteration of it.
    Again(usize),
}

/// A base pointer that is somewhere else in each iteration.
struct Moving {
    /// The region it leads into.
    region: u32,
    /// With which repeats it moves, and how many bytes each time.
    strides: Vec<(usize, i64)>,
}

impl StepTable {
    fn of(desc: &ProgramDesc) -> Result<StepTable, DriverError> {
        let mut table =
            StepTable { bytes: Vec::new(), items: Vec::new(), way: Vec::new(), moving: Vec::new(), trips: 0 };
        let mut groups = desc.strips.iter().peekable();
        let mut repeats = desc.repeats.iter().enumerate().peekable();
        let mut inside: Vec<(usize, &Repeat)> = Vec::new();
        let mut at = 0;
        let mut walks = false;
        while let Some(step) = desc.steps.get(at) {
            while let Some((number, repeat)) = repeats.next_if(|(_, repeat)| repeat.steps().start == at) {
                table.end(&mut walks);
                table.way.push(Stop::Enter(number));
                inside.push((number, repeat));
            }
            if !walks {
                let moving = table.moving.len();
                let (at, items) = (table.bytes.len(), table.items.len());
                table.way.push(Stop::Walk { at, items, moving: moving..moving });
                walks = true;
            }
            let start = table.bytes.len();
            let Some(group) = groups.next_if(|group| group.first as usize == at) else {
                table.item(start, 0);
                table.step(desc, at, step, &inside)?;
                at += 1;
                while let Some((number, _)) = inside.pop_if(|(_, repeat)| repeat.steps().end == at) {
                    table.end(&mut walks);
                    table.way.push(Stop::Again(number));
                }
                continue;
            };
            let steps = desc.steps.get(group.steps()).unwrap_or_default();
            table.item(start, group.strips.len());
            for strip in &group.strips {
                for (step, units) in steps.iter().zip(&strip.units) {
                    table.record(step, units.clone(), &|_, arg| {
                        (region_index(desc, arg.region), group.offset(strip, arg))
                    });
                }
            }
            // The records of all strips are equally many, of the same steps.
            let strip_bytes = (table.bytes.len() - start) / group.strips.len().max(1);
            table.set_strip_bytes(strip_bytes);
            at += steps.len().max(1);
        }
        table.end(&mut walks);
        table.trips = table.bytes.len();
        table.bytes.extend(desc.repeats.iter().flat_map(|repeat| repeat.trips.to_le_bytes()));
        Ok(table)
    }

    /// Adds an item whose records begin at a byte of the table: a step, or so many strips.
    fn item(&mut self, at: usize, strips: usize) {
        // What is larger has no place in the address space of a distance: the linker refuses it.
        let words = [at as u32, strips as u32, 0, 0];
        self.items.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    /// How many bytes of records a strip of the last item has.
    fn set_strip_bytes(&mut self, bytes: usize) {
        let at = self.items.len().saturating_sub(ITEM as usize) + 8;
        if let Some(place) = self.items.get_mut(at..at + 4) {
            place.copy_from_slice(&(bytes as u32).to_le_bytes());
        }
    }

    fn words(&mut self, words: [u32; 4]) {
        words.iter().for_each(|word| self.bytes.extend(word.to_le_bytes()));
    }

    fn record(&mut self, step: &Step, units: Range<u32>, place: &dyn Fn(usize, &Arg) -> (u32, u64)) {
        self.words([step.func, units.start, units.end, step.args.len() as u32]);
        for (index, arg) in step.args.iter().enumerate() {
            let (region, offset) = place(index, arg);
            self.words([offset as u32, (offset >> 32) as u32, region, 0]);
        }
    }

    /// A step as a whole, inside of some repeats.
    fn step(
        &mut self,
        desc: &ProgramDesc,
        number: usize,
        step: &Step,
        inside: &[(usize, &Repeat)],
    ) -> Result<(), DriverError> {
        let mut regions = Vec::new();
        for (index, arg) in step.args.iter().enumerate() {
            let strides = inside.iter().flat_map(|&(repeat, of)| {
                let moves = of.moves.iter().filter(|m| (m.step as usize, m.arg as usize) == (number, index));
                moves.map(move |moved| (repeat, moved.stride))
            });
            let strides: Vec<(usize, i64)> = strides.collect();
            let region = region_index(desc, arg.region);
            if strides.is_empty() {
                regions.push(region);
                continue;
            }
            let own = u32::try_from(fixed_regions(desc).saturating_add(self.moving.len()));
            regions.push(own.map_err(|_| DriverError::TooLarge { what: "more than 65535 buffers" })?);
            self.moving.push(Moving { region, strides });
            if let Some(Stop::Walk { moving, .. }) = self.way.last_mut() {
                moving.end = self.moving.len();
            }
        }
        self.record(step, 0..step.units, &|index, arg| {
            (regions.get(index).copied().unwrap_or_default(), arg.offset)
        });
        Ok(())
    }

    /// Ends a walk, if there is one.
    fn end(&mut self, walks: &mut bool) {
        if std::mem::take(walks) {
            // No function has this index, and no record begins there.
            self.words([u32::MAX, 0, 0, 0]);
            self.item(u32::MAX as usize, 0);
        }
    }
}

/// How many regions there are that don't move.
fn fixed_regions(desc: &ProgramDesc) -> usize {
    desc.inputs.len().saturating_add(desc.outputs.len()).saturating_add(PORTS as usize)
}

/// Where the start of a region is kept.
fn region_index(desc: &ProgramDesc, region: Region) -> u32 {
    match region {
        Region::Arena => ARENA,
        Region::Const => CONSTANTS,
        Region::Strip(_) => SCRATCH,
        Region::Input(port) => port.saturating_add(PORTS),
        Region::Output(port) => port.saturating_add(PORTS).saturating_add(desc.inputs.len() as u32),
    }
}

/// `NAME_info`: what a host that knows nothing of the model needs to call `NAME_run`. Where there are several versions, they are
/// listed, the best first.
fn info(desc: &ProgramDesc, versions: &[&ProgramDesc], workspace: &Workspace) -> String {
    let mut out = String::new();
    let Workspace { end, parallel_end, .. } = workspace;
    let target = json::string(&desc.target);
    let features = json::string(&desc.features.to_string());
    let denormals = match desc.denormals {
        Denormals::Flush => "flush",
        Denormals::Keep => "keep",
    };
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{{\"made_by\":\"{MADE_BY}\",\"abi_version\":{ABI_VERSION},\"target\":{target},\"cpu_features\":{features},\"denormals\":\"{denormals}\",\
         \"workspace_bytes\":{end},\"parallel_workspace_bytes\":{parallel_end},\"workspace_align\":{WORKSPACE_ALIGN}"
    );
    if !versions.is_empty() {
        let list = versions.iter().map(|version| {
            let (target, features) = (json::string(&version.target), version.features.to_string());
            format!("{{\"target\":{target},\"cpu_features\":{}}}", json::string(&features))
        });
        let _ = write!(out, ",\"versions\":[{}]", list.collect::<Vec<_>>().join(","));
    }
    for (key, ports) in [("inputs", &desc.inputs), ("outputs", &desc.outputs)] {
        let _ = write!(out, ",\"{key}\":[");
        for (at, port) in ports.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let (name, elem, bytes) = (json::string(&port.name), port.elem, port.bytes());
            let shape = &port.shape;
            let _ = write!(
                out,
                "{comma}{{\"name\":{name},\"type\":\"{elem}\",\"shape\":{shape:?},\"bytes\":{bytes}}}"
            );
        }
        out.push(']');
    }
    out.push('}');
    out
}

/// How the steps are done, with what that takes.
#[derive(Clone, Copy)]
enum Doing {
    Alone { switch: FuncRef, wanted: u64, scratch: Value },
    Parallel(Host),
}

/// The function while it is built.
struct RunFunction<'a> {
    builder: FunctionBuilder<'a>,
    steps: GlobalValue,
    consts: GlobalValue,
    callees: Vec<FuncRef>,
    regions: StackSlot,
    bases: StackSlot,
    workspace: Workspace,
    /// The iteration of each repeat.
    iterations: StackSlot,
    /// Where a walk goes on that has come to its end, by the number of the walk.
    walk: StackSlot,
    /// Returns [`Status::Buffer`].
    refuse: Block,
}

impl<'a> RunFunction<'a> {
    fn new(
        mut builder: FunctionBuilder<'a>,
        desc: &ProgramDesc,
        table: &StepTable,
        workspace: Workspace,
        steps: GlobalValue,
        consts: GlobalValue,
        callees: Vec<FuncRef>,
    ) -> Result<RunFunction<'a>, DriverError> {
        let regions = pointers(&mut builder, fixed_regions(desc).saturating_add(table.moving.len()))?;
        let iterations = pointers(&mut builder, desc.repeats.len())?;
        let walk = pointers(&mut builder, 1)?;
        let bases = pointers(&mut builder, most_args(desc))?;
        let refuse = builder.create_block();
        Ok(RunFunction {
            builder,
            steps,
            consts,
            callees,
            regions,
            bases,
            workspace,
            iterations,
            walk,
            refuse,
        })
    }

    fn build(
        mut self,
        desc: &ProgramDesc,
        table: &StepTable,
        cpu_check: Option<FuncRef>,
        mode: Mode,
        counts: &[CountCopy],
        module: &dyn Module,
    ) {
        let entry = self.builder.create_block();
        self.builder.append_block_params_for_function_params(entry);
        self.builder.switch_to_block(entry);
        if let &[inputs, outputs, workspace, ref host @ ..] = self.builder.block_params(entry) {
            let host: Vec<Value> = host.to_vec();
            self.keep_region(ARENA, workspace, WORKSPACE_ALIGN, true);
            let consts = self.builder.ins().symbol_value(types::I64, self.consts);
            self.keep_region(CONSTANTS, consts, 1, false);
            let scratch = self.builder.ins().iadd_imm_s(workspace, self.workspace.scratch as i64);
            self.keep_region(SCRATCH, scratch, 1, false);
            self.keep_buffers(inputs, &desc.inputs, PORTS);
            self.keep_buffers(outputs, &desc.outputs, PORTS + desc.inputs.len() as u32);
            if let Some(check) = cpu_check {
                self.check_cpu(check, workspace);
            }
            let records = desc.index_records();
            self.clear_records(workspace, &records);
            let doing = match (mode, host.as_slice()) {
                (Mode::Parallel { part, items }, &[parallel_for, context]) => {
                    Doing::Parallel(self.ask_host(workspace, parallel_for, context, part, items))
                }
                (Mode::Alone { switch, wanted }, _) => Doing::Alone { switch, wanted, scratch },
                // `Shared::define` gives a function that asks its host both.
                (Mode::Parallel { .. }, _) => return,
            };
            let done = self.way(desc, table, workspace, doing);
            self.builder.switch_to_block(done);
            self.look_at_records(workspace, &records);
            for CountCopy { from, to } in counts {
                let [from, to] = [from, to].map(|&at| self.builder.ins().iadd_imm_s(workspace, at as i64));
                let count = self.builder.ins().load(types::I64, MemFlagsData::trusted(), from, 0);
                self.builder.ins().store(MemFlagsData::trusted(), count, to, 0);
            }
            self.leave(Status::Ok);
        }
        self.return_in(self.refuse, Status::Buffer);
        self.builder.seal_all_blocks();
        self.builder.finalize(module.target_config());
    }

    /// Takes the caller's buffers from an array of pointers.
    fn keep_buffers(&mut self, array: Value, ports: &[Port], first: u32) {
        if !ports.is_empty() {
            self.refuse_if_null(array);
        }
        for (index, port) in (first..).zip(ports) {
            let offset = (index - first) as i32 * 8;
            let buffer = self.builder.ins().load(types::I64, MemFlagsData::trusted(), array, offset);
            self.keep_region(index, buffer, port.elem.bytes() as u64, port.bytes() > 0);
        }
    }

    fn keep_region(&mut self, index: u32, start: Value, align: u64, needed: bool) {
        if needed {
            self.refuse_if_null(start);
        }
        if align > 1 {
            let mask = self.builder.ins().iconst(types::I64, align as i64 - 1);
            let below = self.builder.ins().band(start, mask);
            self.refuse_if(IntCC::NotEqual, below);
        }
        self.builder.ins().stack_store(types::I64, start, self.regions, index as i32 * 8);
    }

    fn refuse_if_null(&mut self, pointer: Value) {
        self.refuse_if(IntCC::Equal, pointer);
    }

    /// Refuses if `value` compares so with 0.
    fn refuse_if(&mut self, condition: IntCC, value: Value) {
        let bad = self.builder.ins().icmp_imm_s(condition, value, 0);
        let next = self.builder.create_block();
        self.builder.ins().brif(bad, self.refuse, &[], next, &[]);
        self.builder.switch_to_block(next);
    }

    /// Goes on only if the processor is right, or was when this workspace was used before.
    fn check_cpu(&mut self, check: FuncRef, workspace: Value) {
        let [ask, fits, lacks, next] = [(); 4].map(|()| self.builder.create_block());
        let notes = self.builder.ins().iadd_imm_s(workspace, self.workspace.notes as i64);
        let noted = self.builder.ins().load(types::I64, MemFlagsData::trusted(), notes, 0);
        let checked = self.builder.ins().iconst(types::I64, CHECKED as i64);
        let known = self.builder.ins().icmp(IntCC::Equal, noted, checked);
        self.builder.ins().brif(known, next, &[], ask, &[]);

        self.builder.switch_to_block(ask);
        let call = self.builder.ins().call(check, &[]);
        if let &[verdict] = self.builder.inst_results(call) {
            self.builder.ins().brif(verdict, fits, &[], lacks, &[]);
        }
        self.return_in(lacks, Status::Cpu);

        self.builder.switch_to_block(fits);
        self.builder.ins().store(MemFlagsData::trusted(), checked, notes, 0);
        self.builder.ins().jump(next, &[]);
        self.builder.switch_to_block(next);
    }

    /// Walks and loops, one after the other; returns the block behind them. There is one loop over records, which all walks go
    /// through.
    fn way(&mut self, desc: &ProgramDesc, table: &StepTable, arena: Value, doing: Doing) -> Block {
        // Parts switch the environment themselves, each on the thread that does it.
        let switched = match doing {
            Doing::Alone { switch, wanted, .. } => {
                let wanted = self.builder.ins().iconst(types::I64, wanted as i64);
                let switched = self.builder.ins().call(switch, &[wanted]);
                self.builder.inst_results(switched).first().map(|&before| (switch, before))
            }
            Doing::Parallel(_) => None,
        };
        let record = self.builder.create_block();
        let mut behind = Vec::new();
        // For each repeat that is open, the block of its first stop and the one behind it.
        let mut open = Vec::new();
        for stop in &table.way {
            match stop {
                Stop::Walk { at, items, moving } => {
                    for index in moving.clone() {
                        if let Some(moving) = table.moving.get(index) {
                            self.move_on(fixed_regions(desc) + index, moving);
                        }
                    }
                    let number = self.builder.ins().iconst(types::I32, behind.len() as i64);
                    self.builder.ins().stack_store(types::I64, number, self.walk, 0);
                    let (start, at) = match doing {
                        Doing::Alone { .. } => (self.steps, *at),
                        Doing::Parallel(host) => (host.items, *items),
                    };
                    let first = self.builder.ins().symbol_value(types::I64, start);
                    let first = self.builder.ins().iadd_imm_s(first, at as i64);
                    self.builder.ins().jump(record, &[BlockArg::from(first)]);
                    let next = self.builder.create_block();
                    behind.push(next);
                    self.builder.switch_to_block(next);
                }
                Stop::Enter(number) => {
                    let [check, body, end] = [(); 3].map(|()| self.builder.create_block());
                    let zero = self.builder.ins().iconst(types::I64, 0);
                    self.builder.ins().stack_store(types::I64, zero, self.iterations, *number as i32 * 8);
                    self.builder.ins().jump(check, &[]);
                    self.builder.switch_to_block(check);
                    let going = desc.repeats.get(*number).and_then(|repeat| repeat.going);
                    self.leave_unless_going(table, *number, going.map(|at| (arena, at)), body, end);
                    self.builder.switch_to_block(body);
                    open.push((check, end));
                }
                Stop::Again(number) => {
                    let Some((check, end)) = open.pop() else { continue };
                    let at = *number as i32 * 8;
                    let done = self.builder.ins().stack_load(types::I64, types::I64, self.iterations, at);
                    let done = self.builder.ins().iadd_imm_s(done, 1);
                    self.builder.ins().stack_store(types::I64, done, self.iterations, at);
                    self.builder.ins().jump(check, &[]);
                    self.builder.switch_to_block(end);
                }
            }
        }
        if let Some((switch, before)) = switched {
            self.builder.ins().call(switch, &[before]);
        }
        let done = self.builder.create_block();
        self.builder.ins().jump(done, &[]);
        let ended = match doing {
            Doing::Alone { scratch, .. } => self.walk(record, scratch),
            Doing::Parallel(host) => host.walk(&mut self.builder, record, self.steps),
        };
        self.go_on(ended, &behind);
        done
    }

    /// Makes ready what parts of items are asked for with.
    fn ask_host(
        &mut self,
        workspace: Value,
        parallel_for: Value,
        context: Value,
        part: FuncRef,
        items: GlobalValue,
    ) -> Host {
        self.refuse_if_null(parallel_for);
        let signature = self.builder.import_signature(parallel::host_signature());
        let job = job_slot(&mut self.builder);
        let host = Host { parallel_for, context, signature, part, items, job };
        let more = self.builder.ins().iadd_imm_s(workspace, self.workspace.end as i64);
        host.prepare(&mut self.builder, self.regions, more);
        host
    }

    /// Goes on in `body` if there is an iteration, and else in `end`. `going` is where a byte is that says so, too.
    fn leave_unless_going(
        &mut self,
        table: &StepTable,
        number: usize,
        going: Option<(Value, u64)>,
        body: Block,
        end: Block,
    ) {
        let done = self.builder.ins().stack_load(types::I64, types::I64, self.iterations, number as i32 * 8);
        let trips = self.builder.ins().symbol_value(types::I64, self.steps);
        let trips = self.builder.ins().iadd_imm_s(trips, (table.trips + number * 8) as i64);
        let trips = self.builder.ins().load(types::I64, MemFlagsData::trusted(), trips, 0);
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, done, trips);
        let Some((arena, at)) = going else {
            self.builder.ins().brif(more, body, &[], end, &[]);
            return;
        };
        let look = self.builder.create_block();
        self.builder.ins().brif(more, look, &[], end, &[]);
        self.builder.switch_to_block(look);
        let at = self.builder.ins().iadd_imm_s(arena, at as i64);
        let going = self.builder.ins().uload8(types::I32, MemFlagsData::trusted(), at, 0);
        self.builder.ins().brif(going, body, &[], end, &[]);
    }

    /// Computes where a moving base pointer is in the iterations at hand.
    fn move_on(&mut self, index: usize, moving: &Moving) {
        let mut start =
            self.builder.ins().stack_load(types::I64, types::I64, self.regions, moving.region as i32 * 8);
        for &(repeat, stride) in &moving.strides {
            let done =
                self.builder.ins().stack_load(types::I64, types::I64, self.iterations, repeat as i32 * 8);
            let distance = self.builder.ins().imul_imm_s(done, stride);
            start = self.builder.ins().iadd(start, distance);
        }
        self.builder.ins().stack_store(types::I64, start, self.regions, index as i32 * 8);
    }

    /// The loop over the records, which begins at `step` with the first of them. At the end of a walk it goes on in the block that is
    /// returned.
    fn walk(&mut self, step: Block, scratch: Value) -> Block {
        let [arg, take_arg, dispatch, done] = [(); 4].map(|()| self.builder.create_block());
        let trusted = MemFlagsData::trusted();
        let record = self.start(step);
        let ins = self.builder.ins();
        let args = ins.uload32(trusted, record, 12);
        let bytes = self.builder.ins().imul_imm_s(args, i64::from(RECORD));
        let first_arg = self.builder.ins().iadd_imm_s(record, i64::from(RECORD));
        let next_record = self.builder.ins().iadd(first_arg, bytes);
        let bases = self.builder.ins().stack_addr(types::I64, self.bases, 0);
        let regions = self.builder.ins().stack_addr(types::I64, self.regions, 0);
        self.builder.ins().jump(arg, &[BlockArg::from(first_arg), BlockArg::from(bases)]);

        let from = self.start(arg);
        let to = self.builder.append_block_param(arg, types::I64);
        let all = self.builder.ins().icmp(IntCC::Equal, from, next_record);
        self.builder.ins().brif(all, dispatch, &[], take_arg, &[]);

        self.builder.switch_to_block(take_arg);
        let offset = self.builder.ins().load(types::I64, trusted, from, 0);
        let region = self.builder.ins().uload32(trusted, from, 8);
        let region = self.builder.ins().imul_imm_s(region, 8);
        let region = self.builder.ins().iadd(regions, region);
        let start = self.builder.ins().load(types::I64, trusted, region, 0);
        let base = self.builder.ins().iadd(start, offset);
        self.builder.ins().store(trusted, base, to, 0);
        let from = self.builder.ins().iadd_imm_s(from, i64::from(RECORD));
        let to = self.builder.ins().iadd_imm_s(to, 8);
        self.builder.ins().jump(arg, &[BlockArg::from(from), BlockArg::from(to)]);

        self.builder.switch_to_block(dispatch);
        let func = self.builder.ins().load(types::I32, trusted, record, 0);
        let begin = self.builder.ins().uload32(trusted, record, 4);
        let end = self.builder.ins().uload32(trusted, record, 8);
        let cases: Vec<Block> = self.callees.iter().map(|_| self.builder.create_block()).collect();
        let pool = &mut self.builder.func.dfg.value_lists;
        let table = cases.iter().map(|&case| BlockCall::new(case, [], pool)).collect::<Vec<_>>();
        let table = JumpTableData::new(BlockCall::new(done, [], pool), &table);
        let table = self.builder.create_jump_table(table);
        self.builder.ins().br_table(func, table);
        for (case, callee) in cases.into_iter().zip(std::mem::take(&mut self.callees)) {
            self.builder.switch_to_block(case);
            self.builder.ins().call(callee, &[bases, begin, end, scratch]);
            self.builder.ins().jump(step, &[BlockArg::from(next_record)]);
        }
        done
    }

    /// Goes on behind the walk that has ended.
    fn go_on(&mut self, ended: Block, behind: &[Block]) {
        self.builder.switch_to_block(ended);
        let number = self.builder.ins().stack_load(types::I64, types::I32, self.walk, 0);
        let pool = &mut self.builder.func.dfg.value_lists;
        let table = behind.iter().map(|&block| BlockCall::new(block, [], pool)).collect::<Vec<_>>();
        let table = JumpTableData::new(BlockCall::new(self.refuse, [], pool), &table);
        let table = self.builder.create_jump_table(table);
        self.builder.ins().br_table(number, table);
    }

    /// Makes the records of indices outside ready: see [`IndexCheck`].
    fn clear_records(&mut self, workspace: Value, records: &Range<u64>) {
        let none = self.builder.ins().iconst(types::I64, 0);
        self.each_record(workspace, records, |builder, record, seen| {
            builder.ins().store(MemFlagsData::trusted(), none, record, 0);
            seen
        });
    }

    /// Leaves with an error if one of them is used.
    fn look_at_records(&mut self, workspace: Value, records: &Range<u64>) {
        let found = self.each_record(workspace, records, |builder, record, seen| {
            let position = builder.ins().load(types::I64, MemFlagsData::trusted(), record, 0);
            builder.ins().bor(seen, position)
        });
        let Some(found) = found else { return };
        let [outside, next] = [(); 2].map(|()| self.builder.create_block());
        self.builder.ins().brif(found, outside, &[], next, &[]);
        self.return_in(outside, Status::Index);
        self.builder.switch_to_block(next);
    }

    /// A loop over records that carries a number, 0 at first; returns its last value, or `None` if there are no records.
    fn each_record(
        &mut self,
        workspace: Value,
        records: &Range<u64>,
        body: impl FnOnce(&mut FunctionBuilder<'_>, Value, Value) -> Value,
    ) -> Option<Value> {
        if records.is_empty() {
            return None;
        }
        let [head, behind] = [(); 2].map(|()| self.builder.create_block());
        let [record, seen] = [(); 2].map(|()| self.builder.append_block_param(head, types::I64));
        let result = self.builder.append_block_param(behind, types::I64);
        let first = self.builder.ins().iadd_imm_s(workspace, records.start as i64);
        let end = self.builder.ins().iadd_imm_s(workspace, records.end as i64);
        let none = self.builder.ins().iconst(types::I64, 0);
        self.builder.ins().jump(head, &[BlockArg::from(first), BlockArg::from(none)]);
        self.builder.switch_to_block(head);
        let seen = body(&mut self.builder, record, seen);
        let next = self.builder.ins().iadd_imm_s(record, IndexCheck::RECORD as i64);
        let more = self.builder.ins().icmp(IntCC::NotEqual, next, end);
        let again = [BlockArg::from(next), BlockArg::from(seen)];
        self.builder.ins().brif(more, head, &again, behind, &[BlockArg::from(seen)]);
        self.builder.switch_to_block(behind);
        Some(result)
    }

    /// Continues in `block`; returns its new parameter.
    fn start(&mut self, block: Block) -> Value {
        self.builder.switch_to_block(block);
        self.builder.append_block_param(block, types::I64)
    }

    fn return_in(&mut self, block: Block, status: Status) {
        self.builder.switch_to_block(block);
        self.leave(status);
    }

    fn leave(&mut self, status: Status) {
        let code = self.builder.ins().iconst(types::I32, status as i64);
        self.builder.ins().return_(&[code]);
    }
}
