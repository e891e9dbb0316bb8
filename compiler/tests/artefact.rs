//! From functions to a file and back: the artefact runs as the description says, in our runtime and in the platform's
//! dynamic loader, and cannot be damaged unnoticed.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "../../runtime/tests/common/watchdog.rs"]
mod watchdog;

use std::ffi::{CStr, CString, c_int, c_void};
use std::path::Path;

use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, BlockArg, InstBuilder, MemFlagsData, Signature, Value, types};
use cranelift_codegen::isa::CallConv;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, FuncId, Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use iced_x86::code_asm::*;
use nnc::artefact::driver::{Status, VersionCode};
use nnc::artefact::{CName, LinkError, LinkedVersion, driver, versions};
use nnc_runtime::abi::{
    Arg, CpuFeatures, Denormals, ElemType, Port, ProgramDesc, Region, Step, Strip, Strips,
};
use nnc_runtime::artefact::{HEADER_BYTES, HEADER_OFFSET};
use nnc_runtime::{InputRef, LoadError, Pool, Program, Session};
use watchdog::Watchdog;

const N: usize = 50;
/// Elements of a strip of the second round.
const STRIP: usize = 8;

/// `y = x·k + x`, `z = y·k + x`, with `k` constant: two functions, each used twice, the second time strip by strip.
fn desc() -> ProgramDesc {
    let port = |name: &str| Port {
        name: name.to_owned(),
        elem: ElemType::F32,
        shape: vec![1, N],
        counts: Vec::new(),
    };
    let arg = |region, offset| Arg { region, offset };
    let step = |name: &str, func, args| Step { name: name.to_owned(), func, units: N as u32, args };
    let product = arg(Region::Arena, 192);
    let in_strip = arg(Region::Strip(0), 0);
    let strip = |units: std::ops::Range<u32>| Strip {
        units: vec![units.clone(); 2],
        origins: vec![u64::from(units.start) * 4],
    };
    let (x, k) = (arg(Region::Input(0), 0), arg(Region::Const, 64));
    let (y, z) = (arg(Region::Output(0), 0), arg(Region::Output(1), 0));
    ProgramDesc {
        target: "x86-64".to_owned(),
        features: CpuFeatures::default(),
        denormals: Denormals::Flush,
        index_checks: Vec::new(),
        inputs: vec![port("x")],
        outputs: vec![port("y"), port("z")],
        arena_bytes: 192 + 4 * N as u64,
        scratch_bytes: 24 + 4 * STRIP as u64,
        const_bytes: 64 + 4 * N as u64,
        functions: 2,
        steps: vec![
            step("y.product", 0, vec![x, k, product]),
            step("y.sum", 1, vec![product, x, y]),
            step("z.product", 0, vec![y, k, in_strip]),
            step("z.sum", 1, vec![in_strip, x, z]),
        ],
        strips: vec![Strips {
            first: 2,
            buffers: vec![24],
            strips: (0..N as u32)
                .step_by(STRIP)
                .map(|at| strip(at..(at + STRIP as u32).min(N as u32)))
                .collect(),
        }],
        repeats: vec![],
    }
}

fn factors() -> Vec<f32> {
    (0..N).map(|n| 1.5 - n as f32 * 0.125).collect()
}

fn consts() -> Vec<u8> {
    std::iter::repeat_n(0xee, 64).chain(factors().iter().flat_map(|k| k.to_le_bytes())).collect()
}

fn input() -> Vec<f32> {
    (0..N).map(|n| (n as f32).sqrt() - 3.0).collect()
}

fn expected() -> [Vec<f32>; 2] {
    let round = |values: &[f32]| -> Vec<f32> {
        values.iter().zip(factors()).zip(input()).map(|((v, k), x)| v * k + x).collect()
    };
    let y = round(&input());
    let z = round(&y);
    [y, z]
}

fn layer_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature
}

fn module() -> ObjectModule {
    let mut flags = settings::builder();
    flags.set("is_pic", "true").unwrap();
    flags.set("opt_level", "speed").unwrap();
    let isa = cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap();
    ObjectModule::new(ObjectBuilder::new(isa, "test", default_libcall_names()).unwrap())
}

fn define(
    module: &mut ObjectModule,
    id: FuncId,
    signature: Signature,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &mut ObjectModule, &[Value]),
) {
    let mut context = Context::new();
    context.func.signature = signature;
    let mut frontend = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut frontend);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let params = builder.block_params(entry).to_vec();
    body(&mut builder, module, &params);
    builder.seal_all_blocks();
    builder.finalize(module.target_config());
    module.define_function(id, &mut context).unwrap();
}

/// `product`, in Cranelift's language; it calls `times` for each element, so that there is a call to link.
fn define_product(module: &mut ObjectModule) -> FuncId {
    let mut pair = Signature::new(CallConv::SystemV);
    pair.params = vec![AbiParam::new(types::F32); 2];
    pair.returns = vec![AbiParam::new(types::F32)];
    let times = module.declare_function("times", Linkage::Local, &pair).unwrap();
    // Visible in the object; the artefact shows what its header declares and nothing else.
    let product = module.declare_function("product", Linkage::Export, &layer_signature()).unwrap();
    define(module, product, layer_signature(), |b, module, params| {
        let &[bases, begin, end, _scratch] = params else { panic!("four parameters") };
        let flags = MemFlagsData::trusted();
        let [x, k, y] = [0, 8, 16].map(|at| b.ins().load(types::I64, flags, bases, at));
        let [head, body, exit] = [(); 3].map(|()| b.create_block());
        let at = b.append_block_param(head, types::I64);
        b.ins().jump(head, &[BlockArg::from(begin)]);
        b.switch_to_block(head);
        let more = b.ins().icmp(IntCC::UnsignedLessThan, at, end);
        b.ins().brif(more, body, &[], exit, &[]);
        b.switch_to_block(body);
        let offset = b.ins().ishl_imm_u(at, 2);
        let [x, k, y] = [x, k, y].map(|base| b.ins().iadd(base, offset));
        let x = b.ins().load(types::F32, flags, x, 0);
        let k = b.ins().load(types::F32, flags, k, 0);
        let times = module.declare_func_in_func(times, b.func);
        let call = b.ins().call(times, &[x, k]);
        let result = b.inst_results(call)[0];
        b.ins().store(flags, result, y, 0);
        let next = b.ins().iadd_imm_s(at, 1);
        b.ins().jump(head, &[BlockArg::from(next)]);
        b.switch_to_block(exit);
        b.ins().return_(&[]);
    });
    define(module, times, pair, |b, _, params| {
        let result = b.ins().fmul(params[0], params[1]);
        b.ins().return_(&[result]);
    });
    product
}

/// `sum`, as bytes that an assembler made.
fn define_sum(module: &mut ObjectModule) -> FuncId {
    let mut a = CodeAssembler::new(64).unwrap();
    let (mut head, mut done) = (a.create_label(), a.create_label());
    a.mov(rax, ptr(rdi)).unwrap();
    a.mov(r8, ptr(rdi + 8)).unwrap();
    a.mov(r9, ptr(rdi + 16)).unwrap();
    a.set_label(&mut head).unwrap();
    a.cmp(rsi, rdx).unwrap();
    a.jae(done).unwrap();
    a.movss(xmm0, dword_ptr(rax + rsi * 4)).unwrap();
    a.addss(xmm0, dword_ptr(r8 + rsi * 4)).unwrap();
    a.movss(dword_ptr(r9 + rsi * 4), xmm0).unwrap();
    a.inc(rsi).unwrap();
    a.jmp(head).unwrap();
    a.set_label(&mut done).unwrap();
    a.ret().unwrap();
    let bytes = a.assemble(0).unwrap();
    let sum = module.declare_function("sum", Linkage::Local, &layer_signature()).unwrap();
    module.define_function_bytes(sum, 64, &bytes, &[]).unwrap();
    sum
}

fn object() -> Vec<u8> {
    let mut module = module();
    let funcs = [define_product(&mut module), define_sum(&mut module)];
    driver::define(&mut module, &name(), &desc(), &funcs).unwrap();
    module.finish().emit().unwrap()
}

fn name() -> CName {
    CName::new("net").unwrap()
}

fn write_shared_object(
    object: &[u8],
    funcs: &[String],
    desc: &ProgramDesc,
    consts: &[u8],
) -> Result<Vec<u8>, LinkError> {
    nnc::artefact::write_shared_object(object, &name(), "libnet.so", funcs, desc, consts)
}

fn names() -> Vec<String> {
    ["product", "sum"].map(str::to_owned).to_vec()
}

fn artefact() -> Vec<u8> {
    write_shared_object(&object(), &names(), &desc(), &consts()).unwrap()
}

fn from_bytes(file: &[u8]) -> Result<Program, LoadError> {
    // SAFETY: this test made the file, or damaged one, which is refused.
    unsafe { Program::from_bytes(file) }
}

fn on_disk(file: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.so");
    std::fs::write(&path, file).unwrap();
    (folder, path)
}

#[test]
fn an_artefact_runs_in_the_runtime() {
    let _watchdog = Watchdog::seconds(60);
    let (_folder, path) = on_disk(&artefact());
    // SAFETY: this test made the file.
    let program = unsafe { Program::load(&path) }.unwrap();
    run_and_compare(&program);
}

#[test]
fn a_mapped_program_and_one_that_is_part_of_the_host_compute_the_same() {
    let _watchdog = Watchdog::seconds(60);
    let (_folder, path) = on_disk(&artefact());
    // SAFETY: this test made the file, and leaves it alone.
    let mapped = unsafe { Program::map(&path) }.unwrap();
    run_and_compare(&mapped);
    // What the kernel says of each range of addresses: a line with the file, and some with numbers.
    let ranges = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut ours = 0;
    let mut inside = false;
    for line in ranges.lines() {
        match line.split_once(' ') {
            Some((name, rest)) if name.ends_with(':') => {
                let own = inside && name == "Anonymous:";
                assert!(!own || rest.trim() == "0 kB", "pages of its own: {line}");
                ours += usize::from(own);
            }
            _ => inside = line.ends_with(path.to_str().unwrap()),
        }
    }
    assert!(ours >= 3, "in front of the code, code, and behind it");
    drop(mapped);
    for offset in [0, 16] {
        let memory = vec![0; artefact().len() + offset + 64].leak();
        let start = memory.as_ptr().addr().next_multiple_of(64) - memory.as_ptr().addr() + offset;
        memory[start..start + artefact().len()].copy_from_slice(&artefact());
        // SAFETY: this test made it.
        let program = unsafe { Program::from_static(&memory[start..start + artefact().len()]) };
        run_and_compare(&program.unwrap());
    }
}

/// Runs a program in the runtime, on several numbers of threads.
fn run_and_compare(program: &Program) {
    assert_eq!(program.desc(), &desc());
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads).unwrap();
        let mut session = Session::new(program, &pool).unwrap();
        let x = input();
        let outputs = session.run(&[InputRef::new(&x)]).unwrap();
        for (at, expected) in expected().iter().enumerate() {
            assert_eq!(outputs.get::<f32>(at).unwrap(), expected);
        }
    }
}

#[test]
fn a_program_outlives_its_file() {
    let (folder, path) = on_disk(&artefact());
    // SAFETY: this test made the file.
    let program = unsafe { Program::load(&path) }.unwrap();
    std::fs::write(&path, b"").unwrap();
    drop(folder);
    let mut session = Session::new(&program, &Pool::new(1).unwrap()).unwrap();
    let x = input();
    assert_eq!(session.run(&[InputRef::new(&x)]).unwrap().get::<f32>(1).unwrap(), expected()[1]);
}

/// A library that the platform's loader holds.
struct Library(*mut c_void);

impl Library {
    fn open(path: &Path) -> Library {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the file is an artefact of this test; it has no initialisers.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        // SAFETY: after a failure there is a message.
        assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
        Library(handle)
    }

    fn symbol(&self, name: &str) -> *mut c_void {
        let name = CString::new(name).unwrap();
        // SAFETY: the handle is open.
        unsafe { libc::dlsym(self.0, name.as_ptr()) }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nothing of the library is used after its `Library`.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
    }
}

type Run = unsafe extern "C" fn(*const *const c_void, *const *mut c_void, *mut c_void) -> c_int;

#[repr(C, align(64))]
struct Workspace([u8; 1024]);

#[test]
fn an_artefact_runs_in_the_dynamic_loader() {
    let (_folder, path) = on_disk(&artefact());
    let library = Library::open(&path);
    assert!(library.symbol("product").is_null(), "only the C functions are visible");
    assert!(library.symbol("nnc_steps_net").is_null());
    // SAFETY: the symbols have the types that the generated header gives them.
    let (version, bytes, info, run) = unsafe {
        (
            *library.symbol("net_abi_version").cast::<u32>(),
            *library.symbol("net_workspace_bytes").cast::<u64>(),
            CStr::from_ptr(library.symbol("net_info").cast()).to_str().unwrap(),
            std::mem::transmute::<*mut c_void, Run>(library.symbol("net_run")),
        )
    };
    assert_eq!(version, nnc_runtime::artefact::ABI_VERSION);
    assert_eq!(bytes, driver::workspace_bytes(&desc()).unwrap());
    assert_eq!(bytes, 448 + 64 + 64);
    assert_eq!(
        info,
        "{\"made_by\":\"nnc 0.1.0\",\"abi_version\":8,\"target\":\"x86-64\",\"cpu_features\":\"\",\"denormals\":\"flush\",\"workspace_bytes\":576,\
         \"parallel_workspace_bytes\":3456,\"workspace_align\":64,\"inputs\":[{\"name\":\"x\",\"type\":\"f32\",\"shape\":[1, 50],\"bytes\":200}],\
         \"outputs\":[{\"name\":\"y\",\"type\":\"f32\",\"shape\":[1, 50],\"bytes\":200},\
         {\"name\":\"z\",\"type\":\"f32\",\"shape\":[1, 50],\"bytes\":200}]}"
    );

    let x = input();
    let (mut y, mut z) = (vec![0.0_f32; N], vec![0.0_f32; N]);
    let mut workspace = Workspace([0; 1024]);
    let inputs = [x.as_ptr().cast()];
    let outputs = [y.as_mut_ptr().cast(), z.as_mut_ptr().cast()];
    let memory: *mut c_void = workspace.0.as_mut_ptr().cast();
    let null = std::ptr::null_mut::<c_void>();
    // SAFETY: the buffers have the sizes of the ports; those that are null or misaligned are refused before use.
    unsafe {
        assert_eq!(run(inputs.as_ptr(), outputs.as_ptr(), memory), 0);
        assert_eq!(run(std::ptr::null(), outputs.as_ptr(), memory), 1);
        assert_eq!(run(inputs.as_ptr(), std::ptr::null(), memory), 1);
        assert_eq!(run(inputs.as_ptr(), outputs.as_ptr(), null), 1);
        assert_eq!(run(inputs.as_ptr(), outputs.as_ptr(), memory.byte_add(32)), 1);
        assert_eq!(run([null.cast_const()].as_ptr(), outputs.as_ptr(), memory), 1);
        assert_eq!(run([x.as_ptr().byte_add(2).cast()].as_ptr(), outputs.as_ptr(), memory), 1);
        assert_eq!(run(inputs.as_ptr(), [outputs[0], null].as_ptr(), memory), 1);
    }
    assert_eq!([y, z], expected());
    let untouched = bytes as usize;
    assert!(workspace.0[untouched..].iter().all(|&b| b == 0), "the workspace ends where it says");
}

type Task = unsafe extern "C" fn(*mut c_void, usize);
type ParallelFor = unsafe extern "C" fn(*mut c_void, usize, Task, *mut c_void);
type RunParallel = unsafe extern "C" fn(
    *const *const c_void,
    *const *mut c_void,
    *mut c_void,
    Option<ParallelFor>,
    *mut c_void,
) -> c_int;

/// A host's function that takes the last part first, and notes in its context how many parts it was asked for.
unsafe extern "C" fn backwards(context: *mut c_void, parts: usize, task: Task, argument: *mut c_void) {
    // SAFETY: the tests pass a list, which nobody else uses now.
    unsafe { (*context.cast::<Vec<usize>>()).push(parts) };
    for part in (0..parts).rev() {
        // SAFETY: the program's promise.
        unsafe { task(argument, part) };
    }
}

/// A host's function that has a thread for each part.
unsafe extern "C" fn at_once(_: *mut c_void, parts: usize, task: Task, argument: *mut c_void) {
    let argument = argument.expose_provenance();
    std::thread::scope(|scope| {
        for part in 0..parts {
            // SAFETY: the program's promise: parts may be done at once, on any threads.
            scope.spawn(move || unsafe { task(std::ptr::with_exposed_provenance_mut(argument), part) });
        }
    });
}

#[repr(C, align(64))]
struct ParallelWorkspace([u8; 4096]);

/// Runs `net_run_parallel` of a program twice in the same workspace; returns what it returned, the results and how many parts
/// the host was asked for.
fn run_parallel(desc: &ProgramDesc, host: Option<ParallelFor>) -> (c_int, [Vec<f32>; 2], Vec<usize>) {
    let mut module = module();
    let funcs = [define_product(&mut module), define_sum(&mut module)];
    driver::define(&mut module, &name(), desc, &funcs).unwrap();
    let file = write_shared_object(&module.finish().emit().unwrap(), &names(), desc, &consts()).unwrap();
    let (_folder, path) = on_disk(&file);
    let library = Library::open(&path);
    let x = input();
    let (mut y, mut z) = (vec![0.0_f32; N], vec![0.0_f32; N]);
    let mut workspace = ParallelWorkspace([0; 4096]);
    let mut asked = Vec::<usize>::new();
    let outputs = [y.as_mut_ptr().cast(), z.as_mut_ptr().cast()];
    let mut status = 0;
    for _ in 0..2 {
        asked.clear();
        // SAFETY: the symbol has the type that the generated header gives it, the buffers have the sizes of the ports.
        status = unsafe {
            let run = std::mem::transmute::<*mut c_void, RunParallel>(library.symbol("net_run_parallel"));
            let memory = workspace.0.as_mut_ptr().cast();
            run([x.as_ptr().cast()].as_ptr(), outputs.as_ptr(), memory, host, (&raw mut asked).cast())
        };
    }
    let bytes = driver::parallel_workspace_bytes(desc).unwrap() as usize;
    assert!(workspace.0[bytes..].iter().all(|&b| b == 0), "the workspace ends where it says");
    (status, [y, z], asked)
}

#[test]
fn threads_of_the_host_compute_what_one_thread_does() {
    let most = nnc::artefact::PARTS as usize;
    let strips = N.div_ceil(STRIP);
    assert_eq!(run_parallel(&desc(), Some(backwards)), (0, expected(), vec![most, most, strips]));
    let _watchdog = Watchdog::seconds(60);
    assert_eq!(run_parallel(&desc(), Some(at_once)), (0, expected(), Vec::new()));
}

#[test]
fn a_host_that_has_no_threads_is_told_so_before_anything_is_computed() {
    let zeros = [vec![0.0; N], vec![0.0; N]];
    assert_eq!(run_parallel(&desc(), None), (1, zeros.clone(), Vec::new()));
    let foreign = ProgramDesc { features: CpuFeatures::NEON, ..desc() };
    assert_eq!(run_parallel(&foreign, Some(backwards)), (2, zeros, Vec::new()));
}

#[test]
fn steps_of_few_units_have_no_more_parts_than_units() {
    let with_units = |units| {
        let mut desc = desc();
        desc.strips.clear();
        desc.steps.iter_mut().for_each(|step| step.units = units);
        desc.steps.iter_mut().flat_map(|step| &mut step.args).for_each(|arg| {
            if matches!(arg.region, Region::Strip(_)) {
                *arg = Arg { region: Region::Arena, offset: 192 };
            }
        });
        run_parallel(&desc, Some(backwards))
    };
    let first = |n: usize| expected().map(|all| [&all[..n], &vec![0.0; N - n]].concat());
    assert_eq!(with_units(0), (0, first(0), vec![]));
    assert_eq!(with_units(1), (0, first(1), vec![]), "which the caller does");
    assert_eq!(with_units(3), (0, first(3), vec![3; 4]));
    assert_eq!(with_units(17), (0, first(17), vec![16; 4]));
}

/// What `net_run` of a program that needs `features` returns, in two runs in the same workspace, if `net_supported` says the same.
fn run_needing(features: CpuFeatures) -> [c_int; 2] {
    let desc = ProgramDesc { features, ..desc() };
    let mut module = module();
    let funcs = [define_product(&mut module), define_sum(&mut module)];
    driver::define(&mut module, &name(), &desc, &funcs).unwrap();
    let file = write_shared_object(&module.finish().emit().unwrap(), &names(), &desc, &consts()).unwrap();
    let (_folder, path) = on_disk(&file);
    let library = Library::open(&path);
    let x = input();
    let (mut y, mut z) = (vec![0.0_f32; N], vec![0.0_f32; N]);
    let mut workspace = Workspace([0; 1024]);
    let inputs = [x.as_ptr().cast()];
    let outputs = [y.as_mut_ptr().cast(), z.as_mut_ptr().cast()];
    // SAFETY: the symbol has the type that the generated header gives it, the buffers have the sizes of the ports.
    let found = unsafe {
        let run = std::mem::transmute::<*mut c_void, Run>(library.symbol("net_run"));
        let found = [(); 2].map(|()| run(inputs.as_ptr(), outputs.as_ptr(), workspace.0.as_mut_ptr().cast()));
        let supported = library.symbol("net_supported");
        let supported = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(supported);
        assert_eq!(supported(), c_int::from(found[0] == 0), "{features}");
        found
    };
    match found {
        [0, _] => assert_eq!([y, z], expected()),
        _ => assert!(y.iter().chain(&z).all(|&value| value == 0.0), "nothing is computed"),
    }
    found
}

#[test]
fn a_processor_that_lacks_a_feature_is_an_error_and_no_signal() {
    for bit in 0..64 {
        let feature = CpuFeatures(1 << bit);
        let status = if CpuFeatures::detect().contains(feature) { 0 } else { 2 };
        assert_eq!(run_needing(feature), [status; 2], "{feature}");
    }
    let here = CpuFeatures::detect();
    assert_eq!(run_needing(here), [0; 2], "all at once");
    assert_eq!(run_needing(here.with(CpuFeatures::NEON)), [2; 2]);
    assert_eq!(run_needing(CpuFeatures::default()), [0; 2]);
}

/// A program in versions that need these features, the best first: which of them ran, found by `net_run` and `net_run_parallel` in two
/// runs each in one workspace, and by the runtime; or what they returned.
fn version_that_runs(features: &[CpuFeatures]) -> Result<usize, c_int> {
    // Version `n` multiplies by other factors than the others.
    let factors_of = |n: usize| factors().into_iter().map(move |k| k + n as f32).collect::<Vec<f32>>();
    let consts: Vec<u8> = (0..features.len()).flat_map(factors_of).flat_map(f32::to_le_bytes).collect();
    let desc_of = |n: usize| {
        let mut desc = ProgramDesc { features: features[n], const_bytes: consts.len() as u64, ..desc() };
        desc.target = n.to_string();
        // Another size, and so other places in the workspace, for each.
        desc.arena_bytes += 128 * n as u64;
        for arg in desc.steps.iter_mut().flat_map(|step| &mut step.args) {
            if arg.region == Region::Const {
                arg.offset = (n * N * 4) as u64;
            }
        }
        desc
    };
    let descs: Vec<ProgramDesc> = (0..features.len()).map(desc_of).collect();
    let mut module = module();
    let funcs = [define_product(&mut module), define_sum(&mut module)];
    let codes: Vec<_> = descs.iter().map(|desc| VersionCode { desc, functions: &funcs }).collect();
    versions::define(&mut module, &name(), &codes).unwrap();
    let functions = names();
    let linked: Vec<_> = descs.iter().map(|desc| LinkedVersion { functions: &functions, desc }).collect();
    let object = module.finish().emit().unwrap();
    let file = nnc::artefact::write_versions(&object, &name(), "libnet.so", &linked, &consts).unwrap();
    let (_folder, path) = on_disk(&file);
    let library = Library::open(&path);
    let x = input();
    let mut found = Vec::new();
    let which = |y: &[f32], z: &[f32]| {
        let of = |n: usize| {
            let y: Vec<f32> = x.iter().zip(factors_of(n)).map(|(x, k)| x * k + x).collect();
            let z: Vec<f32> = y.iter().zip(factors_of(n)).zip(&x).map(|((y, k), x)| y * k + x).collect();
            [y, z]
        };
        (0..features.len()).find(|&n| of(n) == [y, z]).expect("results of some version")
    };
    // SAFETY: the symbols have the types that the generated header gives them, the buffers have the sizes of the ports.
    let supported = unsafe {
        let run = std::mem::transmute::<*mut c_void, Run>(library.symbol("net_run"));
        let parallel = std::mem::transmute::<*mut c_void, RunParallel>(library.symbol("net_run_parallel"));
        for on_threads in [false, true] {
            let mut workspace = ParallelWorkspace([0; 4096]);
            let memory: *mut c_void = workspace.0.as_mut_ptr().cast();
            for _ in 0..2 {
                let (mut y, mut z) = (vec![0.0_f32; N], vec![0.0_f32; N]);
                let mut asked = Vec::<usize>::new();
                let inputs = [x.as_ptr().cast()];
                let outputs = [y.as_mut_ptr().cast(), z.as_mut_ptr().cast()];
                let status = match on_threads {
                    false => run(inputs.as_ptr(), outputs.as_ptr(), memory),
                    true => parallel(
                        inputs.as_ptr(),
                        outputs.as_ptr(),
                        memory,
                        Some(backwards),
                        (&raw mut asked).cast(),
                    ),
                };
                found.push(if status == 0 { Ok(which(&y, &z)) } else { Err(status) });
            }
        }
        let supported = library.symbol("net_supported");
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(supported)()
    };
    let result = found[0];
    assert_eq!(found, [result; 4]);
    assert_eq!(supported, c_int::from(result.is_ok()));
    match (from_bytes(&file), result) {
        (Ok(program), Ok(number)) => assert_eq!(program.desc(), &descs[number]),
        (Err(LoadError::MissingFeatures { target, .. }), Err(2)) => {
            assert_eq!(target, (features.len() - 1).to_string());
        }
        (program, result) => panic!("{program:?} and {result:?}"),
    }
    result
}

#[test]
fn of_several_versions_the_best_runs_that_the_processor_can() {
    let (none, here) = (CpuFeatures::default(), CpuFeatures::detect());
    let future = [CpuFeatures(1 << 63), CpuFeatures(1 << 62).with(here)];
    assert_eq!(version_that_runs(&[here, none]), Ok(0));
    assert_eq!(version_that_runs(&[future[0], here, none]), Ok(1));
    assert_eq!(version_that_runs(&[future[0], future[1], none]), Ok(2));
    assert_eq!(version_that_runs(&[none, future[0]]), Ok(0));
    assert_eq!(version_that_runs(&future), Err(Status::Cpu as c_int));
}

fn mxcsr() -> u32 {
    let mut word = 0_u32;
    // SAFETY: the instruction writes these four bytes.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut word, options(nostack, preserves_flags)) };
    word
}

fn set_mxcsr(word: u32) {
    // SAFETY: the callers set what they or the thread had before, with other denormals or rounding; no reserved bit is set.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &word, options(nostack, preserves_flags)) };
}

#[test]
fn the_c_function_treats_denormals_as_the_program_says_whatever_its_caller_does() {
    let tiny = f32::MIN_POSITIVE / 4.0;
    // y = x·k + x, and k is not what it was: with x so small, y is small as well.
    let kept: Vec<f32> = factors().iter().map(|k| tiny * k + tiny).collect();
    for (denormals, expected) in [(Denormals::Flush, vec![0.0; N]), (Denormals::Keep, kept)] {
        let desc = ProgramDesc { denormals, ..desc() };
        let mut module = module();
        let funcs = [define_product(&mut module), define_sum(&mut module)];
        driver::define(&mut module, &name(), &desc, &funcs).unwrap();
        let file = write_shared_object(&module.finish().emit().unwrap(), &names(), &desc, &consts()).unwrap();
        let (_folder, path) = on_disk(&file);
        let library = Library::open(&path);
        let x = [tiny; N];
        let (mut y, mut z) = (vec![1.0_f32; N], vec![1.0_f32; N]);
        let mut workspace = Workspace([0; 1024]);
        let inputs = [x.as_ptr().cast()];
        let outputs = [y.as_mut_ptr().cast(), z.as_mut_ptr().cast()];
        let before = mxcsr();
        // As it is by default, flushing, and rounding down.
        for outside in [0x1f80, 0x9fc0, 0x3f80] {
            // SAFETY: the symbol has the type that the generated header gives it, the buffers have the sizes of the ports.
            let (status, behind) = unsafe {
                let run = std::mem::transmute::<*mut c_void, Run>(library.symbol("net_run"));
                set_mxcsr(outside);
                let status = run(inputs.as_ptr(), outputs.as_ptr(), workspace.0.as_mut_ptr().cast());
                let behind = mxcsr();
                set_mxcsr(before);
                (status, behind)
            };
            assert_eq!((status, behind), (0, outside));
            let bits = |all: &[f32]| all.iter().map(|x| x.to_bits() << 1).collect::<Vec<_>>();
            assert_eq!(bits(&y), bits(&expected), "{denormals:?}, called with {outside:#x}");
        }
    }
}

#[test]
fn those_who_link_find_the_file_by_the_name_that_it_was_given() {
    use object::read::elf::{Dyn, ElfFile64, FileHeader as _};
    use object::{Endianness, elf};
    let file = artefact();
    let endian = Endianness::Little;
    let parsed = ElfFile64::<Endianness>::parse(&*file).unwrap();
    let sections = parsed.elf_header().sections(endian, &*file).unwrap();
    let (entries, link) = sections.dynamic(endian, &*file).unwrap().expect("a dynamic section");
    let strings = sections.strings(endian, &*file, link).unwrap();
    let soname = entries.iter().find(|entry| entry.tag32(endian) == Some(elf::DT_SONAME as _)).unwrap();
    assert_eq!(soname.string(endian, strings).unwrap(), b"libnet.so");
}

#[test]
fn the_same_program_gives_the_same_bytes() {
    assert_eq!(artefact(), artefact());
}

#[test]
fn nothing_is_writable_and_executable() {
    use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
    use object::{Endianness, Object, ObjectSection, elf};
    let file = artefact();
    let parsed = ElfFile64::<Endianness>::parse(&*file).unwrap();
    let endian = Endianness::Little;
    let headers = parsed.elf_header().program_headers(endian, &*file).unwrap();
    let mut executable = 0;
    for header in headers {
        let flags = header.p_flags(endian);
        assert_ne!(flags & (elf::PF_W | elf::PF_X), elf::PF_W | elf::PF_X);
        executable += u32::from(flags & elf::PF_X != 0);
        if header.p_type(endian) == elf::PT_LOAD {
            assert_eq!(header.p_offset(endian), header.p_vaddr(endian));
            assert_eq!(header.p_offset(endian) % 4096, 0);
        }
    }
    assert_eq!(executable, 1, "the text alone, so not the stack");
    assert_eq!(parsed.imports().unwrap().len(), 0);
    assert!(parsed.dynamic_relocations().is_none_or(|mut all| all.next().is_none()));
    let constants = parsed.section_by_name(".nnc.constants").unwrap();
    assert_eq!(constants.data().unwrap(), consts());
}

/// How many bytes of a file are loaded.
fn loaded(file: &[u8]) -> usize {
    u64::from_le_bytes(file[HEADER_OFFSET + 16..HEADER_OFFSET + 24].try_into().unwrap()) as usize
}

/// What takes symbols away, where it is installed.
const STRIPPERS: [(&str, &[&str]); 4] = [
    ("strip", &[]),
    ("strip", &["--strip-debug"]),
    ("llvm-strip", &[]),
    ("llvm-strip", &["--strip-sections"]),
];

/// Loads a file as C hosts do, and runs it.
fn run_in_the_dynamic_loader(path: &Path) {
    let library = Library::open(path);
    // SAFETY: the symbol has the type that the generated header gives it.
    let run = unsafe { std::mem::transmute::<*mut c_void, Run>(library.symbol("net_run")) };
    let x = input();
    let (mut y, mut z) = (vec![0.0_f32; N], vec![0.0_f32; N]);
    let mut workspace = Workspace([0; 1024]);
    let outputs = [y.as_mut_ptr().cast(), z.as_mut_ptr().cast()];
    // SAFETY: the buffers have the sizes of the ports.
    let status =
        unsafe { run([x.as_ptr().cast()].as_ptr(), outputs.as_ptr(), workspace.0.as_mut_ptr().cast()) };
    assert_eq!((status, [y, z]), (0, expected()));
}

#[test]
fn a_stripped_artefact_runs_in_the_runtime_and_a_cut_one_is_refused() {
    let mut stripped = 0;
    for (tool, flags) in STRIPPERS {
        let (_folder, path) = on_disk(&artefact());
        let Ok(done) = std::process::Command::new(tool).args(flags).arg(&path).output() else {
            eprintln!("{tool} is not installed, so nothing is said about it");
            continue;
        };
        assert!(done.status.success(), "{tool}: {}", String::from_utf8_lossy(&done.stderr));
        stripped += 1;
        let file = std::fs::read(&path).unwrap();
        if flags.is_empty() {
            assert!(file.len() < artefact().len(), "{tool} took nothing away");
        }
        let program = from_bytes(&file).unwrap_or_else(|error| panic!("{tool} {flags:?}: {error}"));
        run_and_compare(&program);
        for len in [file.len() - 1, loaded(&file), loaded(&file) - 1] {
            if len < file.len() {
                assert!(matches!(from_bytes(&file[..len]), Err(LoadError::Length { .. })), "{tool}: {len}");
            }
        }
        run_in_the_dynamic_loader(&path);
    }
    assert!(stripped > 0, "install binutils or llvm");
}

#[test]
fn every_header_byte_and_a_sample_of_the_others_is_guarded() {
    let file = artefact();
    let loaded = loaded(&file);
    // Of ELF's header, the magic and where the file ends.
    let places = (0..4)
        .chain(40..48)
        .chain(58..62)
        .chain(HEADER_OFFSET..HEADER_OFFSET + HEADER_BYTES)
        .chain((HEADER_OFFSET..loaded).step_by(101))
        .chain([loaded - 1]);
    for at in places {
        for bit in [0, 7] {
            let mut file = file.clone();
            file[at] ^= 1 << bit;
            let error = from_bytes(&file).unwrap_err();
            let guarded = matches!(
                error,
                LoadError::Checksum
                    | LoadError::NotAnArtefact
                    | LoadError::FormatVersion { .. }
                    | LoadError::Length { .. }
            );
            assert!(guarded, "byte {at}: {error}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = artefact();
    for len in (0..file.len()).step_by(53) {
        let error = from_bytes(&file[..len]).unwrap_err();
        assert!(matches!(error, LoadError::NotAnArtefact | LoadError::Length { .. }), "{len}: {error}");
    }
}

#[test]
fn an_import_is_refused_by_name() {
    let mut module = module();
    let outside = module.declare_function("ceilf", Linkage::Import, &layer_signature()).unwrap();
    let product = module.declare_function("product", Linkage::Local, &layer_signature()).unwrap();
    define(&mut module, product, layer_signature(), |b, module, params| {
        let outside = module.declare_func_in_func(outside, b.func);
        b.ins().call(outside, params);
        b.ins().return_(&[]);
    });
    define_sum(&mut module);
    let object = module.finish().emit().unwrap();
    let error = write_shared_object(&object, &names(), &desc(), &consts()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the code uses \"ceilf\", which an artefact cannot import; choose a machine that has the instruction with \
         Options::target"
    );
}

#[test]
fn an_address_in_data_is_refused() {
    let mut module = module();
    let funcs = [define_product(&mut module), define_sum(&mut module)];
    let table = module.declare_data("table", Linkage::Local, false, false).unwrap();
    let mut data = DataDescription::new();
    data.define(Box::new([0; 8]));
    let sum = module.declare_func_in_data(funcs[1], &mut data);
    data.write_function_addr(0, sum);
    module.define_data(table, &data).unwrap();
    let object = module.finish().emit().unwrap();
    let error = write_shared_object(&object, &names(), &desc(), &consts()).unwrap_err();
    assert!(matches!(error, LinkError::Relocation { .. }), "{error}");
}

#[test]
fn writable_data_is_refused() {
    let mut module = module();
    define_product(&mut module);
    define_sum(&mut module);
    let counter = module.declare_data("counter", Linkage::Local, true, false).unwrap();
    let mut data = DataDescription::new();
    data.define(Box::new([1; 8]));
    module.define_data(counter, &data).unwrap();
    let object = module.finish().emit().unwrap();
    let error = write_shared_object(&object, &names(), &desc(), &consts()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "section \".data\" of the object is writable, which an artefact cannot hold; this is a mistake in the code \
         generator"
    );
}

#[test]
fn parts_that_do_not_match_are_refused() {
    let object = object();
    let refusal = |funcs: &[String], consts: &[u8]| {
        write_shared_object(&object, funcs, &desc(), consts).unwrap_err().to_string()
    };
    let mistake = "this is a mistake in the code generator";
    assert_eq!(
        refusal(&names()[..1], &consts()),
        format!("1 functions come with a description of 2; {mistake}")
    );
    assert_eq!(
        refusal(&names(), &[]),
        format!("0 bytes of constants come with a description of 264; {mistake}")
    );
    let unknown = [names()[0].clone(), "times2".to_owned()];
    assert_eq!(refusal(&unknown, &consts()), format!("function \"times2\" is not in the object; {mistake}"));
    assert!(write_shared_object(b"", &names(), &desc(), &consts()).is_err());
}

#[test]
fn a_program_without_constants_loads_in_both_ways() {
    let mut desc = desc();
    desc.const_bytes = 0;
    desc.strips.clear();
    desc.steps.retain(|step| step.func == 1);
    desc.steps.iter_mut().for_each(|step| step.args[0] = Arg { region: Region::Input(0), offset: 0 });
    let mut module = module();
    let funcs = [define_product(&mut module), define_sum(&mut module)];
    driver::define(&mut module, &name(), &desc, &funcs).unwrap();
    let file = write_shared_object(&module.finish().emit().unwrap(), &names(), &desc, &[]).unwrap();
    let (_folder, path) = on_disk(&file);
    assert!(!Library::open(&path).symbol("net_run").is_null());
    let program = from_bytes(&file).unwrap();
    let _watchdog = Watchdog::seconds(60);
    let mut session = Session::new(&program, &Pool::new(2).unwrap()).unwrap();
    let x = input();
    let doubled: Vec<f32> = x.iter().map(|x| x + x).collect();
    assert_eq!(session.run(&[InputRef::new(&x)]).unwrap().get::<f32>(0).unwrap(), doubled);
}

#[test]
fn the_code_of_the_driver_grows_with_functions_not_with_steps() {
    use object::{Object, ObjectSection};
    let text_bytes = |repeat: usize| {
        let mut desc = desc();
        desc.steps = desc.steps.iter().cycle().take(desc.steps.len() * repeat).cloned().collect();
        let mut module = module();
        let funcs = [define_product(&mut module), define_sum(&mut module)];
        driver::define(&mut module, &name(), &desc, &funcs).unwrap();
        let object = module.finish().emit().unwrap();
        let object = object::File::parse(&*object).unwrap();
        object.section_by_name(".text").unwrap().size()
    };
    assert_eq!(text_bytes(1), text_bytes(100));
}
