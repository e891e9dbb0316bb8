//! One graph, run in every way there is.

use std::ffi::{CString, c_int, c_void};

use nnc::plan::Plan;
use nnc::target::Target;
use nnc::{artefact, emit, passes, plan};
use nnc_ir::{DType, Graph, Tensor, TensorType, eval, text};
use nnc_runtime::{InputRef, Pool, Program, Session};

/// Inputs that are the same each time: small whole numbers, and trues and falses.
fn inputs(graph: &Graph, seed: usize) -> Vec<Tensor> {
    let of = |(place, ty): (usize, &TensorType)| {
        let number = |i: usize| ((i * 7 + place * 5 + seed * 3) % 9) as i64 - 4;
        let elems = 0..ty.shape.elems();
        match ty.dtype {
            DType::F32 => Tensor::new(ty.shape.clone(), &elems.map(|i| number(i) as f32).collect::<Vec<_>>()),
            DType::I64 => {
                Tensor::new(ty.shape.clone(), &elems.map(|i| number(i) + seed as i64).collect::<Vec<_>>())
            }
            DType::U8 => Tensor::new(ty.shape.clone(), &elems.map(|i| number(i) as u8).collect::<Vec<_>>()),
            DType::Bool => Tensor::bools(
                ty.shape.clone(),
                &elems.map(|i| (i + seed).is_multiple_of(2)).collect::<Vec<_>>(),
            ),
            other => panic!("no inputs of {other}"),
        }
        .unwrap()
    };
    graph.inputs().iter().map(|&id| graph.ty(id.into())).enumerate().map(of).collect()
}

fn words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(8)
        .map(|c| u64::from_le_bytes(std::array::from_fn(|i| c.get(i).copied().unwrap_or(0))))
        .collect()
}

/// The bytes of the outputs, whatever data say how much of them there is.
fn run(program: &Program, inputs: &[Tensor], threads: usize) -> Vec<Vec<u8>> {
    let mut session = Session::new(program, &Pool::new(threads).unwrap()).unwrap();
    let aligned: Vec<Vec<u64>> = inputs.iter().map(|input| words(input.bytes())).collect();
    let refs = program.inputs().iter().zip(inputs).zip(&aligned).map(|((port, input), words)| {
        // SAFETY: `u64`s are bytes.
        let bytes = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), input.bytes().len()) };
        InputRef::from_bytes(port.elem, bytes)
    });
    let refs: Vec<InputRef<'_>> = refs.collect();
    // Twice: what a run leaves behind changes nothing.
    session.run(&refs).unwrap();
    let outputs = session.run(&refs).unwrap();
    (0..outputs.count()).map(|i| outputs.bytes(i).unwrap().to_vec()).collect()
}

/// The outputs that the C function of an artefact gives.
fn run_c(bytes: &[u8], plan: &Plan, inputs: &[Tensor]) -> Vec<Vec<u8>> {
    type Run = unsafe extern "C" fn(*const *const c_void, *const *mut c_void, *mut c_void) -> c_int;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let path = CString::new(file.path().to_str().unwrap()).unwrap();
    let aligned: Vec<Vec<u64>> = inputs.iter().map(|input| words(input.bytes())).collect();
    let given: Vec<*const c_void> = aligned.iter().map(|words| words.as_ptr().cast()).collect();
    let mut room: Vec<Vec<u64>> = plan.outputs.iter().map(|port| vec![0; port.bytes().div_ceil(8)]).collect();
    let results: Vec<*mut c_void> = room.iter_mut().map(|words| words.as_mut_ptr().cast()).collect();
    // SAFETY: the file is an artefact of this test; its symbols have these types, and the buffers the sizes of the ports.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!library.is_null());
        let size = *libc::dlsym(library, c"model_workspace_bytes".as_ptr()).cast::<u64>();
        let run = std::mem::transmute::<*mut c_void, Run>(libc::dlsym(library, c"model_run".as_ptr()));
        let mut workspace = vec![0xa5_u8; size as usize + 64];
        let start = workspace.as_ptr().align_offset(64);
        for _ in 0..2 {
            assert_eq!(run(given.as_ptr(), results.as_ptr(), workspace[start..].as_mut_ptr().cast()), 0);
        }
        assert_eq!(libc::dlclose(library), 0);
    }
    let cut = |(words, port): (&Vec<u64>, &nnc_runtime::abi::Port)| {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes[..port.bytes()].to_vec()
    };
    room.iter().zip(&plan.outputs).map(cut).collect()
}

/// Whether two outputs are equal, floats up to what summing in another order makes of them.
fn close(a: &[u8], b: &[u8], dtype: DType) -> bool {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    };
    match dtype {
        DType::F32 => {
            let (a, b) = (floats(a), floats(b));
            a.len() == b.len()
                && a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + a.abs().max(b.abs())))
        }
        _ => a == b,
    }
}

pub fn same_everywhere(name: &str, source: &str) {
    let graph = text::parse(source).unwrap_or_else(|e| panic!("{name}: {e}"));
    graph.verify().unwrap();
    let mut passed = graph.clone();
    passes::optimise(&mut passed, &passes::PassOptions::default()).unwrap();
    passed.verify().unwrap();
    let target = Target::host().unwrap();
    for (graph, which) in [(&graph, "as read"), (&passed, "after the passes")] {
        let plan = plan::plan(graph, &target, &plan::PlanOptions::default(), &Default::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let program = emit::jit::compile(plan.clone(), &target).unwrap_or_else(|e| panic!("{name}: {e}"));
        let object = emit::object::compile(&plan, &target, emit::object::ConstantPlace::Outside).unwrap();
        let consts = plan.constants.bytes();
        let file = artefact::write_shared_object(
            &object.bytes,
            &artefact::CName::default(),
            "graph.so",
            &object.functions,
            &object.desc,
            &consts,
        )
        .unwrap();
        // SAFETY: the bytes come from the compiler, just now.
        let loaded = unsafe { Program::from_bytes(&file) }.unwrap();
        for seed in 0..3 {
            let inputs = inputs(graph, seed);
            let expected = eval::run(graph, &inputs).unwrap();
            let found = run(&program, &inputs, 1);
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    close(found, expected.bytes(), expected.dtype()),
                    "{name} {which}, seed {seed}: output {index} is {found:?}, expected {:?}\n{plan}",
                    expected.bytes()
                );
            }
            assert_eq!(run(&program, &inputs, 2), found, "{name} {which}: two threads");
            assert_eq!(run(&loaded, &inputs, 2), found, "{name} {which}: from a file");
            let c = run_c(&file, &plan, &inputs);
            for (c, found) in c.iter().zip(&found) {
                assert_eq!(c[..found.len()], found[..], "{name} {which}: the C function");
            }
        }
    }
}
