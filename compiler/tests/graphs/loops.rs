//! Loops and branches.

use nnc::plan::Plan;
use nnc::target::Target;
use nnc::{emit, passes, plan};
use nnc_ir::{Graph, text};
use nnc_runtime::{InputRef, Pool, Session};

use super::everywhere::same_everywhere;

/// Name and graph.
const CASES: &[(&str, &str)] = &[
    (
        "a state, a slice, a part and something captured",
        "%s = input : f32[2]
         %x = input : f32[3x2]
         %k = input : f32[2]
         %y = loop %s, %x, %k {trips=3, states=1, scanned=1} body {
           %i = input : i64[]
           %s = input : f32[2]
           %x = input : f32[2]
           %k = input : f32[2]
           %p = mul %x, %k : f32[2]
           %t = add %s, %p : f32[2]
           output s = %t
           output y = %t
         } : f32[2], f32[3x2]
         %z = neg %y : f32[2]
         output last = %z
         output all = %y:1",
    ),
    (
        "states that change places, and one that is shown before",
        "%a = input : f32[3]
         %b = input : f32[3]
         %y = loop %a, %b {trips=5, states=2} body {
           %i = input : i64[]
           %a = input : f32[3]
           %b = input : f32[3]
           %c = add %a, %b : f32[3]
           output a = %b
           output b = %c
           output old = %a
         } : f32[3], f32[3], f32[5x3]
         %z = loop %a, %b, %y {trips=3, states=3} body {
           %i = input : i64[]
           %a = input : f32[3]
           %b = input : f32[3]
           %c = input : f32[3]
           output a = %b
           output b = %c
           output c = %a
         } : f32[3], f32[3], f32[3]
         output a = %y
         output b = %y:1
         output old = %y:2
         output p = %z
         output q = %z:1
         output r = %z:2",
    ),
    (
        "a state that is transposed over itself",
        "%a = input : f32[3x3]
         %y = loop %a {trips=3, states=1} body {
           %i = input : i64[]
           %a = input : f32[3x3]
           %t = transpose %a {perm=[1, 0]} : f32[3x3]
           output a = %t
         } : f32[3x3]
         output a = %y",
    ),
    (
        "an end by data",
        "%go = input : bool[]
         %x = input : f32[]
         %y = loop %go, %x {trips=6, by_data=true, states=1} body {
           %i = input : i64[]
           %x = input : f32[]
           %limit = const f32[] {10}
           %one = const f32[] {1}
           %p = abs %x : f32[]
           %q = add %p, %one : f32[]
           %d = add %q, %q : f32[]
           %more = less %d, %limit : bool[]
           output go = %more
           output x = %d
         } : f32[], i64[]
         output x = %y
         output count = %y:1",
    ),
    (
        "loops in loops, over slices of slices",
        "%s = input : f32[2]
         %x = input : f32[3x4x2]
         %y = loop %s, %x {trips=3, states=1, scanned=1} body {
           %i = input : i64[]
           %s = input : f32[2]
           %x = input : f32[4x2]
           %z = loop %s, %x, %i {trips=4, states=1, scanned=1} body {
             %j = input : i64[]
             %s = input : f32[2]
             %x = input : f32[2]
             %i = input : i64[]
             %n = add %i, %j : i64[]
             %f = cast %n {to=f32} : f32[]
             %p = mul %x, %f : f32[2]
             %t = add %s, %p : f32[2]
             output s = %t
             output all = %t
             output n = %n
           } : f32[2], f32[4x2], i64[4]
           output s = %z
           output all = %z:1
           output n = %z:2
         } : f32[2], f32[3x4x2], i64[3x4]
         output last = %y
         output all = %y:1
         output n = %y:2",
    ),
    (
        "branches",
        "%c = input : bool[]
         %a = input : f32[2x3]
         %b = input : f32[3]
         %s = add %a, %b : f32[2x3]
         %y = if %c, %s, %b, %a then {
           %s = input : f32[2x3]
           %b = input : f32[3]
           %p = mul %s, %b : f32[2x3]
           %q = relu %p : f32[2x3]
           output y = %q
           output b = %b
         } else {
           %a = input : f32[2x3]
           %k = const f32[3] {1, 2, 3}
           output y = %a
           output b = %k
         } : f32[2x3], f32[3]
         %z = sub %y, %s : f32[2x3]
         output y = %z
         output b = %y:1",
    ),
    (
        "branches in a loop that ends by data, and a loop in a branch",
        "%go = const bool[] {true}
         %s = input : f32[2]
         %x = input : f32[2]
         %y = loop %go, %s, %x {trips=4, by_data=true, states=1} body {
           %i = input : i64[]
           %s = input : f32[2]
           %x = input : f32[2]
           %two = const i64[] {2}
           %zero = const i64[] {0}
           %three = const i64[] {3}
           %m = mod %i, %two : i64[]
           %even = equal %m, %zero : bool[]
           %t = if %even, %s, %x, %s then {
             %s = input : f32[2]
             %x = input : f32[2]
             %r = loop %s, %x {trips=2, states=1} body {
               %i = input : i64[]
               %s = input : f32[2]
               %x = input : f32[2]
               %t = add %s, %x : f32[2]
               output s = %t
             } : f32[2]
             output s = %r
           } else {
             %s = input : f32[2]
             %n = neg %s : f32[2]
             output s = %n
           } : f32[2]
           %more = less %i, %three : bool[]
           output go = %more
           output s = %t
         } : f32[2], i64[]
         output s = %y
         output count = %y:1",
    ),
    (
        "images: a state, slices beside something captured, parts",
        "%s = input : f32[1x4x6x6]
         %x = input : f32[3x1x4x6x6]
         %k = input : f32[1x4x6x6]
         %w = const f32[8x8x3x3] hash(seed=1, scale=0.25)
         %v = const f32[4x8x1x1] hash(seed=2, scale=0.25)
         %k2 = relu %k : f32[1x4x6x6]
         %y = loop %s, %x, %k2, %w, %v {trips=3, states=1, scanned=1} body {
           %i = input : i64[]
           %s = input : f32[1x4x6x6]
           %x = input : f32[1x4x6x6]
           %k = input : f32[1x4x6x6]
           %w = input : f32[8x8x3x3]
           %v = input : f32[4x8x1x1]
           %both = concat %x, %k {axis=1} : f32[1x8x6x6]
           %c = conv %both, %w {pads=1x1:1x1} : f32[1x8x6x6]
           %r = relu %c : f32[1x8x6x6]
           %p = conv %r, %v : f32[1x4x6x6]
           %t = add %p, %s : f32[1x4x6x6]
           output s = %t
           output y = %r
         } : f32[1x4x6x6], f32[3x1x8x6x6]
         %z = max_pool %y {kernel=2x2, strides=2x2} : f32[1x4x3x3]
         output last = %z
         output all = %y:1",
    ),
    (
        "slices of constants, backwards, along another axis, and of a reshaped result",
        "%x = input : f32[2x3]
         %c = const f32[3x2] {1, 2, 3, 4, 5, 6}
         %t = transpose %x {perm=[1, 0]} : f32[3x2]
         %b = slice %t {axes=[0:2..-1 by -1]} : f32[3x2]
         %y = loop %t, %b, %c {trips=3, scanned=3} body {
           %i = input : i64[]
           %t = input : f32[2]
           %b = input : f32[2]
           %c = input : f32[2]
           %p = mul %b, %c : f32[2]
           %q = add %p, %t : f32[2]
           output y = %q
         } : f32[3x2]
         %r = reshape %y {shape=6x1} : f32[6x1]
         %z = loop %r {trips=6, scanned=1} body {
           %i = input : i64[]
           %x = input : f32[1]
           %f = cast %i {to=f32} : f32[]
           %y = mul %x, %f : f32[1]
           output y = %y
         } : f32[6x1]
         output y = %y
         output z = %z",
    ),
    (
        "bodies that do next to nothing",
        "%a = input : f32[2]
         %b = input : f32[2]
         %none = loop %a, %b {trips=0, states=2} body {
           %i = input : i64[]
           %a = input : f32[2]
           %b = input : f32[2]
           output a = %b
           output b = %a
           output part = %a
         } : f32[2], f32[2], f32[0x2]
         %same = loop %none {trips=9, states=1} body {
           %i = input : i64[]
           %a = input : f32[2]
           output a = %a
         } : f32[2]
         %taken = loop %same, %b {trips=2, states=1} body {
           %i = input : i64[]
           %a = input : f32[2]
           %b = input : f32[2]
           output a = %b
           output i = %i
           output b = %b
         } : f32[2], i64[2], f32[2x2]
         %end = neg %b : f32[2]
         output none = %none
         output same = %same
         output taken = %taken
         output i = %taken:1
         output b = %taken:2
         output end = %end",
    ),
    (
        "values around a loop stay as they are while it runs",
        "%x = input : f32[64]
         %w = const f32[64x64] hash(seed=3, scale=0.1)
         %a = relu %x : f32[64]
         %b = neg %a : f32[64]
         %y = loop %a, %b, %w {trips=4, states=1} body {
           %i = input : i64[]
           %s = input : f32[64]
           %b = input : f32[64]
           %w = input : f32[64x64]
           %p = mat_mul %s, %w : f32[64]
           %q = sub %p, %b : f32[64]
           %r = mat_mul %q, %w : f32[64]
           %t = add %r, %b : f32[64]
           output s = %t
         } : f32[64]
         %z = add %y, %b : f32[64]
         output z = %z",
    ),
];

#[test]
fn loops_and_branches_compute_the_same_in_every_form() {
    for (name, source) in CASES {
        same_everywhere(name, source);
    }
}

/// The `n`-th of some numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

/// Nodes of a random body over values of shape 3×3; the last values, and their text.
fn nodes(
    dice: &mut Dice,
    mut values: Vec<String>,
    count: usize,
    depth: usize,
    text: &mut String,
) -> Vec<String> {
    for n in 0..count {
        let pick = |dice: &mut Dice| values[dice.below(values.len())].clone();
        let (a, b, name) = (pick(dice), pick(dice), format!("%v{n}"));
        let ty = "f32[3x3]";
        text.push_str(&match dice.below(if depth > 0 { 9 } else { 7 }) {
            0 => format!("{name} = add {a}, {b} : {ty}\n"),
            1 => format!("{name} = sub {a}, {b} : {ty}\n"),
            2 => format!("{name} = max {a}, {b} : {ty}\n"),
            3 => format!("{name} = transpose {a} {{perm=[1, 0]}} : {ty}\n"),
            4 => format!("{name} = clip {a} {{min=-8, max=8}} : {ty}\n"),
            5 => format!("{name}p = mat_mul {a}, {b} : {ty}\n{name} = clip {name}p {{min=-8, max=8}} : {ty}\n"),
            6 => format!("{name} = neg {a} : {ty}\n"),
            7 => {
                let sum = format!("{name}s = reduce_sum {a} {{axes=[0, 1], keep_dims=false}} : f32[]\n{name}z = const f32[] {{0}}\n");
                let condition = format!("{name}c = less {name}s, {name}z : bool[]\n");
                let branch = |dice: &mut Dice| {
                    let mut inner = format!("%a = input : {ty}\n%b = input : {ty}\n");
                    let last = nodes(dice, vec!["%a".into(), "%b".into()], 3, depth - 1, &mut inner);
                    let chosen = &last[dice.below(last.len())];
                    format!("{inner}output y = {chosen}\n")
                };
                let (then, otherwise) = (branch(dice), branch(dice));
                format!("{sum}{condition}{name} = if {name}c, {a}, {b}, {b}, {a} then {{\n{then}}} else {{\n{otherwise}}} : {ty}\n")
            }
            _ => {
                let (trips, inner) = (1 + dice.below(3), body(dice, 2, depth - 1));
                let all = format!("f32[{trips}x3x3]");
                format!("{name} = loop {a}, {b}, {a} {{trips={trips}, states=2}} body {{\n{inner}}} : {ty}, {ty}, {all}\n")
            }
        });
        values.push(name);
    }
    values
}

/// A random body with states and something captured.
fn body(dice: &mut Dice, states: usize, depth: usize) -> String {
    let mut text = String::from("%i = input : i64[]\n");
    let mut values = Vec::new();
    for name in (0..states).map(|n| format!("%s{n}")).chain(["%k".to_string()]) {
        text.push_str(&format!("{name} = input : f32[3x3]\n"));
        values.push(name);
    }
    let values = nodes(dice, values, 4, depth, &mut text);
    for output in 0..=states {
        let value = &values[dice.below(values.len())];
        text.push_str(&format!("output y{output} = {value}\n"));
    }
    text
}

#[test]
fn random_bodies_compute_the_same_in_every_form() {
    for seed in 0..24 {
        let mut dice = Dice(seed);
        let trips = 2 + dice.below(4);
        let inner = body(&mut dice, 2, 2);
        let source = format!(
            "%a = input : f32[3x3]
             %b = input : f32[3x3]
             %k = input : f32[3x3]
             %y = loop %a, %b, %k {{trips={trips}, states=2}} body {{
             {inner}}} : f32[3x3], f32[3x3], f32[{trips}x3x3]
             output a = %y
             output b = %y:1
             output all = %y:2"
        );
        same_everywhere(&format!("seed {seed}: {source}"), &source);
    }
}

/// The graph of an LSTM's loop, which runs so many times.
fn recurrent(steps: usize) -> Graph {
    let source = format!(
        "%h = input : f32[1x16]
         %x = input : f32[{steps}x1x16]
         %r = const f32[16x16] hash(seed=1, scale=0.3)
         %y = loop %h, %x, %r {{trips={steps}, states=1, scanned=1}} body {{
           %i = input : i64[]
           %h = input : f32[1x16]
           %x = input : f32[1x16]
           %r = input : f32[16x16]
           %p = mat_mul %h, %r : f32[1x16]
           %s = add %p, %x : f32[1x16]
           %t = tanh %s : f32[1x16]
           output h = %t
           output y = %t
         }} : f32[1x16], f32[{steps}x1x16]
         output y = %y:1"
    );
    let mut graph = text::parse(&source).unwrap();
    passes::optimise(&mut graph, &passes::PassOptions::default()).unwrap();
    graph
}

#[test]
fn code_and_plan_are_as_long_for_a_thousand_iterations_as_for_ten() {
    let target = Target::host().unwrap();
    let size = |steps: usize| {
        let graph = recurrent(steps);
        let plan = plan::plan(&graph, &target, &plan::PlanOptions::default(), &Default::default()).unwrap();
        let object = emit::object::compile(&plan, &target, emit::object::ConstantPlace::Outside).unwrap();
        (plan.steps.len(), plan.arena_bytes, emit::disassemble::code_bytes(&object.bytes))
    };
    assert_eq!(size(10), size(1000));
}

fn planned(name: &str, options: &plan::PlanOptions) -> Plan {
    let (_, source) = CASES.iter().find(|(case, _)| *case == name).unwrap();
    let graph = text::parse(source).unwrap();
    plan::plan(&graph, &Target::host().unwrap(), options, &Default::default()).unwrap()
}

#[test]
fn a_base_pointer_that_would_leave_its_buffer_is_never_compiled() {
    let target = Target::host().unwrap();
    let name = "a state, a slice, a part and something captured";
    let plan = planned(name, &plan::PlanOptions::default());
    emit::prove(&plan, &target).unwrap();
    let moves = plan.repeats[0].moves.len();
    assert!(moves >= 2, "a slice and a part move: {plan}");
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        let error = emit::prove(&plan, &target).unwrap_err().to_string();
        assert!(error.contains("would read bytes") || error.contains("would write bytes"), "{error}");
    };
    refused(&|plan| plan.repeats[0].trips += 1);
    for index in 0..moves {
        refused(&|plan| plan.repeats[0].moves[index].stride *= 2);
        refused(&|plan| plan.repeats[0].moves[index].stride *= -1);
        refused(&|plan| plan.repeats[0].moves[index].stride = i64::MAX);
    }
}

#[test]
fn steps_in_loops_run_as_a_whole() {
    let name = "images: a state, slices beside something captured, parts";
    let options = plan::PlanOptions { strips: plan::StripRule::Always(3), ..plan::PlanOptions::default() };
    let plan = planned(name, &options);
    let apart = |group: &nnc_runtime::abi::Strips, repeat: &nnc_runtime::abi::Repeat| {
        group.steps().end <= repeat.steps().start || repeat.steps().end <= group.steps().start
    };
    assert!(plan.strips.iter().all(|group| plan.repeats.iter().all(|repeat| apart(group, repeat))), "{plan}");
    let text = plan.to_string();
    assert!(text.contains(", 3 times:") && text.contains(" each"), "{text}");
}

#[test]
fn an_index_that_leads_outside_in_any_iteration_is_an_error_of_the_run() {
    let source = "
        %x = input : f32[4]
        %at = input : i64[3x1]
        %y = loop %at, %x {trips=3, scanned=1} body {
          %i = input : i64[]
          %at = input : i64[1]
          %x = input : f32[4]
          %y = gather_at %x, %at {axis=0} : f32[1]
          output y = %y
        } : f32[3x1]
        output y = %y";
    let target = Target::host().unwrap();
    let graph = text::parse(source).unwrap();
    let plan = plan::plan(&graph, &target, &plan::PlanOptions::default(), &Default::default()).unwrap();
    let program = emit::jit::compile(plan, &target).unwrap();
    for threads in [1, 2] {
        let mut session = Session::new(&program, &Pool::new(threads).unwrap()).unwrap();
        let mut run = |at: [i64; 3]| {
            let outputs = session.run(&[InputRef::new(&[1f32, 2.0, 3.0, 4.0]), InputRef::new(&at)]);
            outputs.map(|outputs| outputs.get::<f32>(0).unwrap().to_vec()).map_err(|error| error.to_string())
        };
        assert_eq!(run([3, 0, 1]), Ok(vec![4.0, 1.0, 2.0]));
        for at in [[9, 0, 1], [0, 9, 1], [0, 1, 9]] {
            let error = run(at).unwrap_err();
            assert!(error.contains("index 9"), "{error}");
        }
        assert_eq!(run([0, 0, 2]), Ok(vec![1.0, 1.0, 3.0]));
    }
}
