//! Models that are compiled for each shape that they meet: what programs share, which are kept, who waits for whom.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

#[path = "../../runtime/tests/common/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;

use nnc::plan::PanelWidth;
use nnc::{
    DynamicModel, InputRef, Limits, Model, Options, OutputMut, Pool, Program, Session, TensorRef, Usage,
};
use nnc_models::Spec;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{Message, ModelProto};
use watchdog::Watchdog;

/// A network whose input is `f32[batch, 3, height, width]`.
fn opened(name: &str) -> Vec<u8> {
    let spec = Spec::new(name).resolution(64).classes(10);
    let spec = if name == "mobilenet-v2" { spec.width(0.5) } else { spec };
    let bytes = nnc_models::encode(&spec).expect("a network");
    let mut model = ModelProto::parse_from_bytes(&bytes).expect("a model");
    let graph = model.graph.mut_or_insert_default();
    graph.value_info.clear();
    let name_dims = |ports: &mut [onnx_protobuf::ValueInfoProto], names: &[(usize, &str)]| {
        let shape = ports[0].type_.mut_or_insert_default().mut_tensor_type().shape.mut_or_insert_default();
        for &(axis, name) in names {
            let value = Some(dimension::Value::DimParam(name.into()));
            shape.dim[axis] = Dimension { value, ..Default::default() };
        }
    };
    name_dims(&mut graph.input, &[(0, "batch"), (2, "height"), (3, "width")]);
    name_dims(&mut graph.output, &[(0, "batch")]);
    model.write_to_bytes().expect("bytes")
}

fn model(name: &str) -> DynamicModel {
    Model::from_bytes(opened(name)).expect("a model").into()
}

fn picture(shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product()).map(|i: usize| (i * 7 % 31) as f32 * 0.0625 - 1.0).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// What a program of its own computes, and the program.
fn alone(name: &str, shape: &[usize]) -> (Vec<u32>, Program) {
    let model = Model::from_bytes(opened(name)).expect("a model");
    let port = model.inputs()[0].name.clone();
    let mut options = Options::default().shape(port, shape);
    options.plan.panels = PanelWidth::Common;
    let program = model.compile(&options).expect("a program");
    (run(&program, shape), program)
}

fn run(program: &Program, shape: &[usize]) -> Vec<u32> {
    let mut session = Session::new(program, &Pool::new(1).expect("a pool")).expect("a session");
    let outputs = session.run(&[InputRef::new(&picture(shape))]).expect("results");
    bits(outputs.get(0).expect("floats"))
}

/// The blocks that programs have their constants in, with their sizes.
fn blocks(programs: &[&Program]) -> BTreeMap<usize, u64> {
    let pieces = programs.iter().flat_map(|program| program.constants().pieces());
    pieces.map(|piece| (Arc::as_ptr(&piece.block).addr(), piece.block.mapped())).collect()
}

const SHAPES: [[usize; 4]; 4] = [[1, 3, 64, 64], [1, 3, 96, 64], [2, 3, 64, 96], [1, 3, 33, 47]];

#[test]
fn a_host_with_memory_of_its_own_learns_how_much_a_run_needs_and_gets_the_same_bits() {
    let model = model("squeezenet-1.1");
    let mut session = model.session(&Pool::new(1).expect("a pool"));
    for shape in [[1, 3, 64, 64], [2, 3, 48, 64]] {
        let picture = picture(&shape);
        let inputs = [TensorRef::new(&shape, &picture)];
        let expected = bits(session.run(&inputs).expect("results").get(0).expect("floats"));
        let ready = session.ready(&inputs).expect("a program");
        let mut result = vec![0f32; ready.program().outputs()[0].elems()];
        ready.run_into(&[inputs[0].data()], &mut [OutputMut::new(&mut result)]).expect("results");
        assert_eq!(bits(&result), expected);
    }
}

#[test]
fn every_shape_gives_the_bits_of_a_program_compiled_alone() {
    let _watchdog = Watchdog::seconds(600);
    for name in ["mobilenet-v2", "mobilenet-v1", "squeezenet-1.1", "resnet-18"] {
        let mut session = model(name).session(&Pool::new(2).expect("a pool"));
        let expected: Vec<Vec<u32>> = SHAPES.iter().map(|shape| alone(name, shape).0).collect();
        // Forwards and backwards, so that each is reached from a larger and from a smaller one.
        for at in [0, 1, 2, 3, 3, 2, 1, 0] {
            let shape = SHAPES[at];
            let outputs = session.run(&[TensorRef::new(&shape, &picture(&shape))]).expect("results");
            assert_eq!(outputs.shape(0).expect("a shape"), [shape[0], 10]);
            assert_eq!(bits(outputs.get(0).expect("floats")), expected[at], "{name} {shape:?}");
        }
        let usage = session.model().usage();
        assert_eq!((usage.programs, usage.compiled, usage.evicted), (4, 4, 0));
    }
}

#[test]
fn another_size_of_the_picture_adds_next_to_no_weights() {
    for name in ["mobilenet-v2", "mobilenet-v1", "squeezenet-1.1", "resnet-18"] {
        // Which layers Winograd's algorithm does, and in which form, depends on the size.
        let model = model(name).with(Options::default().winograd(false));
        let sizes = [[1, 3, 256, 256], [1, 3, 256, 288], [1, 3, 288, 320]];
        let programs: Vec<Program> =
            sizes.iter().map(|shape| model.program(&[shape]).expect("a program")).collect();
        let all: Vec<&Program> = programs.iter().collect();
        let first: u64 = blocks(&all[..1]).values().sum();
        let together: u64 = blocks(&all).values().sum();
        assert_eq!(model.usage().constant_bytes, together);
        let weights = all[0].desc().const_bytes;
        assert!(first < weights + weights / 8, "{name}: {first} bytes of memory for {weights} of constants");
        let added = together - first;
        assert!(added <= weights / 50, "{name}: two more sizes add {added} bytes to {weights}");
        // The very same: nothing at all.
        assert_eq!(blocks(&[all[0], &model.program(&[&sizes[0]]).expect("a program")]), blocks(&all[..1]));
    }
}

#[test]
fn weights_go_with_the_last_program_that_has_them() {
    let model = model("mobilenet-v2");
    let program = model.program(&[&SHAPES[0]]).expect("a program");
    let weak: Vec<_> =
        program.constants().pieces().iter().map(|piece| Arc::downgrade(&piece.block)).collect();
    let other = model.program(&[&SHAPES[1]]).expect("a program");
    drop(model);
    drop(program);
    let kept = blocks(&[&other]);
    for block in &weak {
        let alive = block.upgrade().map(|block| Arc::as_ptr(&block).addr());
        assert!(
            alive.is_none_or(|address| kept.contains_key(&address)),
            "a block that nobody reads is alive"
        );
    }
    assert_eq!(run(&other, &SHAPES[1]), alone("mobilenet-v2", &SHAPES[1]).0);
    drop(other);
    assert!(weak.iter().all(|block| block.upgrade().is_none()));
}

#[test]
fn the_program_that_was_not_used_for_the_longest_time_goes() {
    let model = model("squeezenet-1.1").capacity(2);
    let [a, b, c, _] = SHAPES;
    let usage = || {
        let Usage { programs, compiled, evicted, .. } = model.usage();
        (programs, compiled, evicted)
    };
    let mut session = model.session(&Pool::new(1).expect("a pool"));
    let mut run = |shape: &[usize]| {
        session.run(&[TensorRef::new(shape, &picture(shape))]).expect("results");
    };
    [a, b, a].iter().for_each(|shape| run(shape));
    assert_eq!(usage(), (2, 2, 0));
    run(&c);
    assert_eq!(usage(), (2, 3, 1), "b goes");
    run(&a);
    assert_eq!(usage(), (2, 3, 1), "a is still there");
    run(&b);
    assert_eq!(usage(), (2, 4, 2), "c goes");
    run(&a);
    // A run with the same shapes as the one before counts as a use as well.
    [b, a, a, c].iter().for_each(|shape| run(shape));
    assert_eq!(usage(), (2, 5, 3), "b goes");
    run(&a);
    assert_eq!(usage().1, 5);
}

#[test]
fn bytes_are_a_limit_too_but_the_last_program_stays() {
    let model = model("mobilenet-v2").capacity_bytes(1);
    for shape in &SHAPES {
        model.program(&[shape]).expect("a program");
        assert_eq!(model.usage().programs, 1);
    }
    assert_eq!(model.usage().evicted, 3);
    let (_, program) = alone("mobilenet-v2", &SHAPES[0]);
    let roomy = model.capacity_bytes(2 * program.desc().const_bytes);
    for shape in &SHAPES[..2] {
        roomy.program(&[shape]).expect("a program");
    }
    assert_eq!(roomy.usage().programs, 2, "what is shared counts once");
}

#[test]
fn threads_that_want_the_same_shape_at_once_compile_it_once() {
    let _watchdog = Watchdog::seconds(600);
    let model = model("mobilenet-v1");
    let expected: Vec<Vec<u32>> = SHAPES.iter().map(|shape| alone("mobilenet-v1", shape).0).collect();
    let pool = Pool::new(2).expect("a pool");
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for caller in 0..8 {
            let (mut session, start, expected) = (model.session(&pool), &start, &expected);
            scope.spawn(move || {
                start.wait();
                for turn in 0..8 {
                    let at = (caller / 2 + turn) % SHAPES.len();
                    let outputs = session.run(&[TensorRef::new(&SHAPES[at], &picture(&SHAPES[at]))]);
                    assert_eq!(bits(outputs.expect("results").get(0).expect("floats")), expected[at]);
                }
            });
        }
    });
    assert_eq!(model.usage().compiled, SHAPES.len() as u64);
    let programs: Vec<Program> =
        SHAPES.iter().map(|shape| model.program(&[shape]).expect("a program")).collect();
    let together: u64 = blocks(&programs.iter().collect::<Vec<_>>()).values().sum();
    assert_eq!(model.usage().constant_bytes, together);
}

#[test]
fn shapes_that_do_not_fit_are_refused_before_anything_is_compiled() {
    let model = model("squeezenet-1.1").with(Options::default().dim("batch", 1));
    let port = &model.inputs()[0].name.clone();
    let declared = model.inputs()[0].to_string();
    let mut session = model.session(&Pool::new(1).expect("a pool"));
    let data = picture(&[2, 4, 64, 64]);
    let mut refusal = |shape: &[usize]| {
        let elems = shape.iter().product();
        session.run(&[TensorRef::new(shape, &data[..elems])]).expect_err("a refusal").to_string()
    };
    let unfit =
        |shape: &str, why: &str| format!("input \"{port}\" is {declared}, it cannot be {shape}: {why}");
    assert_eq!(refusal(&[3, 64, 64]), unfit("[3, 64, 64]", "it has 3 dims; pass a tensor of 4 dims"));
    let fixed = "dim 1 is 4, but the model fixes it at 3; pass 3 there";
    assert_eq!(refusal(&[1, 4, 64, 64]), unfit("[1, 4, 64, 64]", fixed));
    let fixed =
        "dim 0 is 2, but fixed at 1 by Bindings::dims[\"batch\"] = 1; pass 1 there, or leave that out";
    assert_eq!(refusal(&[2, 3, 64, 64]), unfit("[2, 3, 64, 64]", fixed));
    let mut given = |inputs: &[TensorRef<'_>]| session.run(inputs).expect_err("a refusal").to_string();
    assert_eq!(
        given(&[TensorRef::new(&[1, 3, 64, 64], &data[..7])]),
        format!(
            "input \"{port}\" is said to be f32[1, 3, 64, 64] but has 28 bytes; pass a dense tensor of that shape"
        )
    );
    let overflowing = [1, 3, usize::MAX, usize::MAX];
    assert!(given(&[TensorRef::new(&overflowing, &data)]).contains("is said to be"));
    assert_eq!(given(&[]), "the model has 1 inputs but got 0; pass each once");
    assert_eq!(
        given(&[TensorRef::new(&[1], &data[..1]).named("picture")]),
        format!("the model has no input \"picture\"; it has \"{port}\"")
    );
    assert_eq!(model.usage(), Usage::default());
    let fine = SHAPES[0];
    session.run(&[TensorRef::new(&fine, &picture(&fine)).named(port)]).expect("the session still works");
}

#[test]
fn dims_of_one_name_must_agree_between_inputs() {
    let mut model = ModelProto::parse_from_bytes(&opened("squeezenet-1.1")).expect("a model");
    let graph = model.graph.mut_or_insert_default();
    let mut second = graph.input[0].clone();
    second.name = "again".into();
    graph.input.push(second);
    let model =
        DynamicModel::new(Model::from_bytes(model.write_to_bytes().expect("bytes")).expect("a model"));
    let error = model.program(&[&[1, 3, 64, 64], &[1, 3, 64, 96]]).expect_err("a refusal").to_string();
    let first = &model.inputs()[0].name;
    let unequal =
        format!("dim 3, \"width\", is 96, but 64 by input \"{first}\"; pass the same extent for both");
    assert!(error.ends_with(&unequal), "{error}");
    model.program(&[&[1, 3, 64, 64], &[1, 3, 64, 64]]).expect("a program");
}

#[test]
fn a_shape_that_cannot_be_compiled_leaves_the_others_alone() {
    let limits = Limits { arena_bytes: 4 << 20, ..Limits::default() };
    let model = DynamicModel::new(Model::from_bytes_with(opened("resnet-18"), limits).expect("a model"));
    let mut session = model.session(&Pool::new(1).expect("a pool"));
    let small = SHAPES[0];
    session.run(&[TensorRef::new(&small, &picture(&small))]).expect("results");
    for _ in 0..2 {
        let large = [4, 3, 256, 256];
        let error = session.run(&[TensorRef::new(&large, &picture(&large))]).expect_err("a refusal");
        assert!(error.to_string().contains("arena_bytes"), "{error}");
    }
    session.run(&[TensorRef::new(&small, &picture(&small))]).expect("results");
    assert_eq!((model.usage().programs, model.usage().compiled), (1, 1));
}

#[test]
fn a_cache_folder_keeps_the_programs_of_all_shapes() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..2 {
        let model = model("mobilenet-v2").with(Options::default().cache(folder.path()));
        for shape in &SHAPES[..2] {
            let program = model.program(&[shape]).expect("a program");
            assert_eq!(run(&program, shape), alone("mobilenet-v2", shape).0, "round {round}");
        }
        assert_eq!(folder.path().read_dir().expect("entries").count(), 2);
    }
}
