//! Nests that become one with those that read them, and those that must not.

use nnc::plan;
use nnc::target::Target;
use nnc_ir::text;

use super::everywhere::same_everywhere;

/// What it is about, the steps that are left (each with those that it computes besides), and the graph.
const CASES: &[(&str, &[&str], &str)] = &[
    (
        "a chain with casts",
        &["y: d r a c"],
        "%x = input : f32[3x40]
         %s = const f32[] {0.5}
         %z = const f32[40] hash(seed=1, scale=3)
         %d = div %x, %s : f32[3x40]
         %r = round %d : f32[3x40]
         %a = add %r, %z : f32[3x40]
         %c = clip %a {min=0, max=255} : f32[3x40]
         %y = cast %c {to=u8} : u8[3x40]
         output y = %y",
    ),
    (
        "a value that is an output, too",
        &["a", "y"],
        "%x = input : f32[300]
         %a = neg %x : f32[300]
         %y = abs %a : f32[300]
         output a = %a
         output y = %y",
    ),
    (
        "two readers of what is as cheap to compute as to read",
        &["y: d", "z: d"],
        "%x = input : f32[7x40]
         %k = input : f32[40]
         %d = sub %x, %k : f32[7x40]
         %y = abs %d : f32[7x40]
         %z = neg %d : f32[7x40]
         output y = %y
         output z = %z",
    ),
    (
        "two readers of what is not",
        &["e", "y", "z"],
        "%x = input : f32[7x40]
         %e = exp %x : f32[7x40]
         %y = abs %e : f32[7x40]
         %z = neg %e : f32[7x40]
         output y = %y
         output z = %z",
    ),
    (
        "the place of the largest of a row, which kernels find or nobody",
        &["y.0", "y.1", "z.0", "z.1"],
        "%x = input : f32[1x64]
         %y = arg_max %x {axes=[1]} : i64[1x1]
         %h = input : f32[2x40]
         %z = arg_min %h {axes=[1], keep_dims=false} : i64[2]
         output y = %y
         output z = %z",
    ),
    (
        "two polynomials",
        &["n: e", "y"],
        "%x = input : f32[7x40]
         %e = exp %x : f32[7x40]
         %n = neg %e : f32[7x40]
         %y = tanh %n : f32[7x40]
         output y = %y",
    ),
    (
        "a reduction of a map, and a map of that",
        &["y: q m e"],
        "%x = input : f32[9x64]
         %q = mul %x, %x : f32[9x64]
         %m = reduce_mean %q {axes=[1]} : f32[9x1]
         %eps = const f32[] {0.5}
         %e = add %m, %eps : f32[9x1]
         %y = sqrt %e : f32[9x1]
         output y = %y",
    ),
    (
        "a row that is read for each of its elements",
        &["m", "y"],
        "%x = input : f32[9x64]
         %m = reduce_sum %x {axes=[1]} : f32[9x1]
         %y = sub %x, %m : f32[9x64]
         output y = %y",
    ),
    (
        "a reduction of columns of what lies in rows",
        &["y: e"],
        "%x = input : f32[6x50]
         %e = exp %x : f32[6x50]
         %y = reduce_sum %e {axes=[0], keep_dims=false} : f32[50]
         output y = %y",
    ),
    (
        "loops over two axes of what was written over three",
        &["y: a"],
        "%x = input : f32[4x6x10]
         %k = input : f32[6x1]
         %a = add %x, %k : f32[4x6x10]
         %r = reshape %a {shape=24x10} : f32[24x10]
         %l = input : f32[10]
         %y = mul %r, %l : f32[24x10]
         output y = %y",
    ),
    (
        "a part of what is written",
        &["y: a"],
        "%x = input : f32[4x100]
         %a = abs %x : f32[4x100]
         %s = slice %a {axes=[1:10..70]} : f32[4x60]
         %y = neg %s : f32[4x60]
         output y = %y",
    ),
    (
        "a comparison and a choice",
        &["y: c"],
        "%x = input : f32[5x64]
         %k = input : f32[5x64]
         %c = less %x, %k : bool[5x64]
         %y = where %c, %x, %k : f32[5x64]
         output y = %y",
    ),
    (
        "what a layer reads stays",
        &["a", "p", "y"],
        "%x = input : f32[20x64]
         %k = input : f32[20x64]
         %w = const f32[64x32] hash(seed=1, scale=1)
         %a = add %x, %k : f32[20x64]
         %p = mat_mul %a, %w : f32[20x32]
         %y = sin %p : f32[20x32]
         output y = %y",
    ),
    (
        "what a layer reads, too, and is still there behind it",
        &["n", "p", "y: a"],
        "%x = input : f32[20x64]
         %k = input : f32[20x64]
         %n = sin %x : f32[20x64]
         %w = const f32[64x64] hash(seed=1, scale=1)
         %a = add %n, %k : f32[20x64]
         %p = mat_mul %n, %w : f32[20x64]
         %y = sub %a, %p : f32[20x64]
         output y = %y",
    ),
    (
        "a state of which each element is read before it is written",
        &["y.first", "y.next: n t u", "y.output"],
        "%s = input : f32[300]
         %k = input : f32[300]
         %y = loop %s, %k {trips=3, states=1} body {
           %i = input : i64[]
           %s = input : f32[300]
           %k = input : f32[300]
           %n = sub %k, %s : f32[300]
           %t = abs %n : f32[300]
           %u = add %t, %k : f32[300]
           output s = %u
         } : f32[300]
         output y = %y",
    ),
];

/// The steps of a plan, each with the names of those that it computes besides.
fn steps(source: &str) -> Vec<String> {
    let graph = text::parse(source).unwrap();
    let target = Target::host().unwrap();
    let plan = plan::plan(&graph, &target, &plan::PlanOptions::default(), &Default::default()).unwrap();
    let step = |step: &plan::PlanStep| {
        let besides: Vec<String> = step.merged.iter().map(|merged| format!(" {}", merged.name)).collect();
        if besides.is_empty() { step.name.clone() } else { format!("{}:{}", step.name, besides.concat()) }
    };
    plan.steps.iter().map(step).collect()
}

#[test]
fn nests_become_one_where_that_moves_less() {
    for (what, expected, source) in CASES {
        assert_eq!(steps(source), *expected, "{what}");
    }
}

#[test]
fn merged_nests_compute_the_same_in_every_form() {
    for (what, _, source) in CASES {
        same_everywhere(what, source);
    }
}
