//! Numbers nearer to zero than floating point has all digits for: zero in a run by default, themselves where that is asked for,
//! the same bits for any number of threads, in memory and from a file; and the caller's environment is as it was.

use nnc::Denormals;
use nnc::plan;
use nnc::target::Target;
use nnc_ir::{Graph, Tensor, eval, text};
use nnc_runtime::{InputRef, Pool, Program, Session};
use nnc_tests::pipeline::{self, Failure};
use nnc_tests::watchdog::Watchdog;

/// Every kind of layer that multiplies. With inputs and weights of 2⁻⁷⁰ all products are denormals, whose sums are exact in any
/// order.
const UNDERFLOWS: &str = "
%x = input : f32[1x32x6x6]
%w = const f32[32x32x1x1] splat(8.470329e-22)
%v = const f32[32x1x3x3] splat(8.470329e-22)
%u = const f32[6x5] splat(8.470329e-22)
%dense = conv %x, %w : f32[1x32x6x6]
%depthwise = conv %x, %v {groups=32} : f32[1x32x4x4]
%product = mat_mul %x, %u : f32[1x32x6x5]
%square = mul %x, %x : f32[1x32x6x6]
output dense = %dense
output depthwise = %depthwise
output product = %product
output square = %square
";

/// What reads denormals: with 2⁻¹⁴⁰ as input, the results are ordinary numbers if they are kept.
const READS: &str = "
%x = input : f32[1x32x6x6]
%large = const f32[1] {1.0995116e12}
%scaled = mul %x, %large : f32[1x32x6x6]
%sum = reduce_sum %scaled {axes=[1, 2, 3]} : f32[1x1x1x1]
output scaled = %scaled
output sum = %sum
";

const TINY: f32 = f32::from_bits((127 - 70) << 23);
const DENORMAL: f32 = f32::from_bits(1 << 9);
const COUNT: usize = 32 * 6 * 6;

fn plan(graph: &Graph, target: &Target, denormals: Denormals) -> Result<plan::Plan, Failure> {
    pipeline::plan_with(graph, target, &plan::PlanOptions { denormals, ..Default::default() })
}

/// The bits of all outputs; the same in memory and from a file, on one thread and on several.
fn bits(graph: &Graph, input: f32, target: &Target, denormals: Denormals) -> Result<Vec<Vec<u32>>, Failure> {
    let plan = plan(graph, target, denormals)?;
    let in_memory = pipeline::jit(&plan, target)?;
    let from_file = pipeline::load(&pipeline::artefact(&plan, target)?)?;
    let of = |program: &Program, threads| {
        pipeline::run(program, &[&[input; COUNT]], threads).map(|outputs| pipeline::bits(&outputs))
    };
    let first = of(&in_memory, 1)?;
    for (program, threads) in [(&in_memory, 2), (&in_memory, 3), (&from_file, 1), (&from_file, 2)] {
        assert_eq!(of(program, threads)?, first, "{threads} threads");
    }
    Ok(first)
}

fn targets() -> impl Iterator<Item = Target> {
    ["native", "native-clif", "x86-64-v3", "x86-64-v2"]
        .into_iter()
        .filter_map(|name| Target::named(name).ok().filter(Target::runs_here))
}

#[test]
fn runs_take_denormals_for_zero_unless_they_are_to_be_kept() -> Result<(), Failure> {
    for (source, input) in [(UNDERFLOWS, TINY), (READS, DENORMAL)] {
        let graph = text::parse(source)?;
        let x = Tensor::new([1, 32, 6, 6], &[input; COUNT])?;
        let exact = eval::run(&graph, &[x])?;
        let exact: Vec<Vec<u32>> = exact
            .iter()
            .map(|tensor| Ok(tensor.elems::<f32>()?.iter().map(|x| x.to_bits()).collect()))
            .collect::<Result<_, Failure>>()?;
        assert!(exact.iter().flatten().all(|&bits| bits != 0), "the evaluator keeps them");
        for target in targets() {
            assert_eq!(bits(&graph, input, &target, Denormals::Keep)?, exact, "{}", target.name);
            let flushed = bits(&graph, input, &target, Denormals::Flush)?;
            assert!(flushed.iter().flatten().all(|&bits| bits == 0), "{}: {flushed:?}", target.name);
        }
    }
    Ok(())
}

#[test]
fn zero_is_what_runs_do_when_nobody_says_anything() {
    assert_eq!(plan::PlanOptions::default().denormals, Denormals::Flush);
}

/// Small numbers of a half float are ordinary ones in the `f32` that is computed with.
#[test]
fn denormals_of_half_floats_are_numbers_in_both_ways() -> Result<(), Failure> {
    let graph = text::parse(
        "
%x = input : f16[1024]
%k = const f16[1] {1024}
%y = mul %x, %k : f16[1024]
%z = add %x, %x : f16[1024]
output y = %y
output z = %z
",
    )?;
    // All of them, and -0.
    let bits: Vec<u16> = (0..1024).map(|n| n | 0x8000).collect();
    let x =
        Tensor::from_bytes(graph.ty(graph.inputs()[0].into()).clone(), bytemuck::cast_slice(&bits).to_vec())?;
    let exact = eval::run(&graph, std::slice::from_ref(&x))?;
    for target in targets() {
        for denormals in [Denormals::Flush, Denormals::Keep] {
            let program = pipeline::jit(&plan(&graph, &target, denormals)?, &target)?;
            let found = pipeline::run_tensors(&program, std::slice::from_ref(&x), 1)?;
            assert_eq!(found, exact, "{} {denormals:?}", target.name);
        }
    }
    Ok(())
}

#[test]
fn what_is_only_moved_is_not_changed() -> Result<(), Failure> {
    let graph = text::parse(
        "
%x = input : f32[1x32x6x6]
%t = transpose %x {perm=[3, 2, 1, 0]} : f32[6x6x32x1]
%r = reshape %t {shape=36x32} : f32[36x32]
output r = %r
",
    )?;
    for target in targets() {
        let found = bits(&graph, DENORMAL, &target, Denormals::Flush)?;
        assert!(found.iter().flatten().all(|&bits| bits == DENORMAL.to_bits()), "{}", target.name);
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_callers_environment_is_the_same_behind_a_run() -> Result<(), Failure> {
    use std::arch::asm;
    fn mxcsr() -> u32 {
        let mut word = 0_u32;
        // SAFETY: the instruction writes these four bytes.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut word, options(nostack, preserves_flags)) };
        // Without the flags of what has happened.
        word & !0x3f
    }
    let target = Target::host()?;
    let graph = text::parse(READS)?;
    let before = mxcsr();
    for denormals in [Denormals::Flush, Denormals::Keep] {
        let program = pipeline::jit(&plan(&graph, &target, denormals)?, &target)?;
        for threads in [1, 2] {
            let _watchdog = Watchdog::seconds(60);
            let mut session = Session::new(&program, &Pool::new(threads)?)?;
            let x = [DENORMAL; COUNT];
            session.run(&[InputRef::new(&x)])?;
            assert_eq!(mxcsr(), before);
            assert!(session.run(&[InputRef::new(&x[1..])]).is_err());
            assert_eq!(mxcsr(), before);
        }
    }
    Ok(())
}
