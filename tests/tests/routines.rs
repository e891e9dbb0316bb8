//! Operators whose addresses or sizes depend on data, from the text of a graph to the results of its program.

use nnc::target::Target;
use nnc_ir::{DType, Graph, Tensor, eval, text};
use nnc_runtime::abi::ElemType;
use nnc_runtime::{InputRef, OutputMut, Pool, Program, Session};
use nnc_tests::addresses::Audit;
use nnc_tests::pipeline::{self, Failure};
use nnc_tests::watchdog::Watchdog;

/// A graph of all of them, in which some write over what others have read.
const GRAPH: &str = "
%x = input : f32[1x6x5x4]
%i = input : i64[1x3x5x4]
%rows = input : i32[7]
%boxes = input : f32[1x20x4]
%scores = input : f32[1x3x20]
%r = relu %x : f32[1x6x5x4]
%g = gather_at %r, %rows {axis=1} : f32[1x7x5x4]
%e = gather_elements %r, %i {axis=1} : f32[1x3x5x4]
%s = scatter_elements %r, %i, %e {axis=1, reduction=add} : f32[1x6x5x4]
%t = top_k %s {axis=2, k=3} : f32[1x6x3x4], i64[1x6x3x4]
%c = cum_sum %t {axis=3} : f32[1x6x3x4]
%n = non_zero %s : i64[4x120], i64[]
%positions = prefix %n, %n:1 {axes=[1]} : i64[4x120]
%chosen = non_max_suppression %boxes, %scores {most=5} : i64[15x3], i64[]
%selected = prefix %chosen, %chosen:1 {axes=[0]} : i64[15x3]
%u = unique %rows : i32[7], i64[7], i64[7], i64[7], i64[]
%values = prefix %u, %u:4 {axes=[0]} : i32[7]
%corner = prefix %c, %u:4, %chosen:1 {axes=[1, 3]} : f32[1x6x3x4]
output g = %g
output c = %c
output places = %t:1
output positions = %positions
output selected = %selected
output values = %values
output inverse = %u:2
output corner = %corner
";

fn graph() -> Graph {
    text::parse(GRAPH).unwrap_or_else(|e| panic!("{e}"))
}

/// Inputs that differ with a number.
fn inputs(seed: u64) -> Vec<Tensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let floats = |shape: &[usize], next: &mut dyn FnMut(u64) -> u64| {
        let n: usize = shape.iter().product();
        let all: Vec<f32> = (0..n).map(|_| next(40) as f32 / 8.0 - 2.5).collect();
        Tensor::new(shape.to_vec(), &all).expect("a tensor")
    };
    let x = floats(&[1, 6, 5, 4], &mut next);
    let i: Vec<i64> = (0..60).map(|_| next(12) as i64 - 6).collect();
    let rows: Vec<i32> = (0..7).map(|_| next(5) as i32 - 2).collect();
    let (boxes, scores) = (floats(&[1, 20, 4], &mut next), floats(&[1, 3, 20], &mut next));
    let i = Tensor::new([1, 3, 5, 4], &i).expect("a tensor");
    vec![x, i, Tensor::new([7], &rows).expect("a tensor"), boxes, scores]
}

fn refs(inputs: &[Tensor]) -> Vec<(ElemType, Vec<u64>, usize)> {
    let aligned = |tensor: &Tensor| {
        let elem = match tensor.dtype() {
            DType::F32 => ElemType::F32,
            DType::I32 => ElemType::I32,
            _ => ElemType::I64,
        };
        let mut words = vec![0u64; tensor.bytes().len().div_ceil(8)];
        bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..tensor.bytes().len()]
            .copy_from_slice(tensor.bytes());
        (elem, words, tensor.bytes().len())
    };
    inputs.iter().map(aligned).collect()
}

/// Compares every output of a run, at its real size, with the evaluator.
fn check(session: &mut Session, graph: &Graph, seed: u64) -> Result<Vec<usize>, Failure> {
    let tensors = inputs(seed);
    let expected = eval::run(graph, &tensors)?;
    let words = refs(&tensors);
    let given: Vec<InputRef<'_>> =
        words.iter().map(|(e, w, n)| InputRef::from_bytes(*e, &bytemuck::cast_slice(w)[..*n])).collect();
    let outputs = session.run(&given)?;
    for (index, expected) in expected.iter().enumerate() {
        let name = &graph.outputs()[index].0;
        assert_eq!(outputs.shape(index)?, expected.shape().to_vec(), "{name} of {seed}");
        assert!(outputs.bytes(index)? == expected.bytes(), "{name} of {seed}");
    }
    Ok(expected.iter().map(|t| t.shape().elems()).collect())
}

#[test]
fn a_program_makes_as_much_as_its_data_say() -> Result<(), Failure> {
    let (graph, target) = (graph(), Target::host()?);
    let plan = pipeline::plan(&pipeline::optimise(&graph)?, &target)?;
    let in_memory = pipeline::jit(&plan, &target)?;
    let artefact = pipeline::artefact(&plan, &target)?;
    // SAFETY: the bytes come from the compiler, just now.
    let from_file = unsafe { Program::from_bytes(&artefact)? };
    for (program, threads) in [(&in_memory, 1), (&in_memory, 2), (&from_file, 2)] {
        let _watchdog = Watchdog::seconds(600);
        let mut session = Session::new(program, &Pool::new(threads)?)?;
        let sizes: Vec<Vec<usize>> =
            (0..20).map(|seed| check(&mut session, &graph, seed)).collect::<Result<_, _>>()?;
        assert!(sizes.iter().any(|s| s != &sizes[0]), "the sizes are the same for all data");
    }
    Ok(())
}

#[test]
fn addresses_lie_inside_and_meet_only_what_is_written() -> Result<(), Failure> {
    let plan = pipeline::plan(&pipeline::optimise(&graph())?, &Target::host()?)?;
    let audit = Audit::of(&plan)?;
    assert_eq!(audit.faults().collect::<Vec<_>>(), [""; 0]);
    Ok(())
}

#[test]
fn a_callers_buffer_has_room_for_the_most_and_gets_what_there_is() -> Result<(), Failure> {
    let graph = text::parse(
        "%x = input : f32[4]\n%n = non_zero %x : i64[1x4], i64[]\n%y = prefix %n, %n:1 {axes=[1]} : i64[1x4]\noutput y = %y",
    )?;
    let target = Target::host()?;
    let program = pipeline::jit(&pipeline::plan(&graph, &target)?, &target)?;
    let mut session = Session::new(&program, &Pool::new(1)?)?;
    assert_eq!(program.outputs()[0].shape, [1, 4]);
    for (x, expected) in
        [([0.0f32, 2.0, 0.0, 3.0], &[1i64, 3][..]), ([0.0; 4], &[]), ([1.0; 4], &[0, 1, 2, 3])]
    {
        let mut room = [-1i64; 4];
        session.run_into(&[InputRef::new(&x)], &mut [OutputMut::new(&mut room)])?;
        assert_eq!(session.output_shape(0)?, [1, expected.len()]);
        assert_eq!(room[..expected.len()], *expected);
    }
    assert!(session.output_shape(1).is_err());
    Ok(())
}

#[test]
fn a_value_of_unknown_size_inside_of_a_graph_is_refused() -> Result<(), Failure> {
    let graph = text::parse(
        "%x = input : f32[4]\n%n = non_zero %x : i64[1x4], i64[]\n%y = prefix %n, %n:1 {axes=[1]} : i64[1x4]\n\
         %z = neg %y : i64[1x4]\noutput z = %z",
    )?;
    let error = pipeline::plan(&graph, &Target::host()?).map(drop).unwrap_err();
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("no output of the graph"), "{error}: {source}");
    Ok(())
}
