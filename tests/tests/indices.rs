//! Indices from data that lead outside of what they point into: an error of the run that says which one, the same from the evaluator, for
//! any number of threads, in memory and from a file; and nothing of it is left in the next run.

use nnc::plan::{self, Indices};
use nnc::target::Target;
use nnc_ir::eval::EvalError;
use nnc_ir::{Graph, OpError, Tensor, eval, text};
use nnc_runtime::{Program, RunError};
use nnc_tests::pipeline::{self, Failure};

/// An operator of each kind, with so many indices that several units look at them.
const GRAPHS: [&str; 6] = [
    "
%x = input : f32[3x50x4]
%i = input : i64[40x70]
%n = gather_at %x, %i {axis=1} : f32[3x40x70x4]
output n = %n
",
    "
%x = input : f32[60x50]
%i = input : i64[90x50]
%n = gather_elements %x, %i {axis=0} : f32[90x50]
output n = %n
",
    "
%x = input : f32[7x50x50]
%i = input : i64[7x800x2]
%n = gather_nd %x, %i {batch_dims=1} : f32[7x800]
output n = %n
",
    "
%x = input : f32[50x60]
%i = input : i64[50x60]
%n = scatter_elements %x, %i, %x {axis=0} : f32[50x60]
output n = %n
",
    "
%x = input : f32[50x60]
%i = input : i64[50x60]
%n = scatter_elements %x, %i, %x {axis=1, reduction=add} : f32[50x60]
output n = %n
",
    "
%x = input : f32[50x50x3]
%i = input : i64[50x50x2]
%n = scatter_nd %x, %i, %x : f32[50x50x3]
output n = %n
",
];

/// Inputs of a graph: numbers, and indices inside of 50 elements but where some are said to be others.
fn inputs(graph: &Graph, outside: &[(usize, i64)]) -> Vec<Tensor> {
    let types: Vec<_> = graph.inputs().iter().map(|&id| graph.ty(id.into()).clone()).collect();
    let x: Vec<f32> = (0..types[0].shape.elems()).map(|i| i as f32).collect();
    let mut indices: Vec<i64> = (0..types[1].shape.elems() as i64).map(|i| i * 37 % 100 - 50).collect();
    for &(at, index) in outside {
        indices[at] = index;
    }
    let tensor = |ty: &nnc_ir::TensorType, bytes: &[u8]| Tensor::from_bytes(ty.clone(), bytes.to_vec());
    vec![
        tensor(&types[0], bytemuck::cast_slice(&x)).expect("numbers"),
        tensor(&types[1], bytemuck::cast_slice(&indices)).expect("indices"),
    ]
}

fn programs(graph: &Graph, indices: Indices) -> Result<Vec<Program>, Failure> {
    let target = Target::host()?;
    let options = plan::PlanOptions { indices, ..Default::default() };
    let plan = pipeline::plan_with(graph, &target, &options)?;
    Ok(vec![pipeline::jit(&plan, &target)?, pipeline::load(&pipeline::artefact(&plan, &target)?)?])
}

/// What a run says of an index outside.
fn told(program: &Program, inputs: &[Tensor], threads: usize) -> (String, usize, i64, usize) {
    let error = pipeline::run_tensors(program, inputs, threads).expect_err("an index outside");
    match error.downcast_ref::<RunError>() {
        Some(RunError::Index { node, axis, index, extent }) => (node.clone(), *axis, *index, *extent),
        _ => panic!("{error}"),
    }
}

/// What the evaluator says of it.
fn expected(graph: &Graph, inputs: &[Tensor]) -> (String, usize, i64, usize) {
    match eval::run(graph, inputs) {
        Err(EvalError::Op { node, source: OpError::Index { index, axis, extent }, .. }) => {
            (node, axis, index, extent)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_index_outside_is_told_of_whoever_finds_it() -> Result<(), Failure> {
    for source in GRAPHS {
        let graph = text::parse(source)?;
        let count = graph.ty(graph.inputs()[1].into()).shape.elems();
        let good = inputs(&graph, &[]);
        let right = eval::run(&graph, &good)?;
        for program in programs(&graph, Indices::Checked)? {
            for outside in [
                vec![(0, 60)],
                vec![(count - 1, i64::MIN)],
                vec![(count / 2 + 1, -61), (count / 2, i64::MAX), (count - 1, 99)],
                (0..count).rev().map(|at| (at, 1000 + at as i64)).collect(),
            ] {
                let bad = inputs(&graph, &outside);
                let expected = expected(&graph, &bad);
                assert_eq!(expected.0, "n");
                for threads in [1, 2, 3] {
                    assert_eq!(told(&program, &bad, threads), expected, "{threads} threads: {source}");
                }
            }
            assert_eq!(pipeline::run_tensors(&program, &good, 2)?, right, "{source}");
        }
    }
    Ok(())
}

#[test]
fn a_session_goes_on_behind_an_error() -> Result<(), Failure> {
    use nnc_runtime::{InputRef, Pool, Session};
    let graph = text::parse(
        "
%x = input : f32[4]
%i = input : i64[2]
%j = input : i64[2]
%first = gather_at %x, %i {axis=0} : f32[2]
%second = gather_at %x, %j {axis=0} : f32[2]
output first = %first
output second = %second
",
    )?;
    for program in programs(&graph, Indices::Checked)? {
        let mut session = Session::new(&program, &Pool::new(2)?)?;
        let x = [1.0f32, 2.0, 3.0, 4.0];
        let mut run = |i: [i64; 2], j: [i64; 2]| -> Result<Vec<f32>, String> {
            let result = session.run(&[InputRef::new(&x), InputRef::new(&i), InputRef::new(&j)]);
            result
                .and_then(|outputs| Ok([outputs.get::<f32>(0)?, outputs.get::<f32>(1)?].concat()))
                .map_err(|e| e.to_string())
        };
        for _ in 0..2 {
            assert_eq!(run([0, -1], [2, -4]), Ok(vec![1.0, 4.0, 3.0, 1.0]));
            let error = run([0, 1], [7, 8]).expect_err("an index outside");
            assert!(
                error.starts_with("node \"second\": index 7 lies outside of axis 0, which has 4"),
                "{error}"
            );
            let error = run([0, 5], [7, 8]).expect_err("an index outside");
            assert!(error.starts_with("node \"first\": index 5 lies"), "of the lower step: {error}");
        }
    }
    Ok(())
}

#[test]
fn programs_that_clamp_say_nothing() -> Result<(), Failure> {
    for source in GRAPHS {
        let graph = text::parse(source)?;
        for program in programs(&graph, Indices::Clamped)? {
            assert_eq!(program.desc().index_checks, []);
            for threads in [1, 2] {
                pipeline::run_tensors(&program, &inputs(&graph, &[(0, 60), (5, i64::MIN)]), threads)?;
            }
        }
    }
    Ok(())
}

/// A model of some inputs and nodes (operator, operands, axis, result), whose output is the last result.
fn model(inputs: &[(&str, i32, &[i64])], nodes: &[(&str, &[&str], Option<i64>, &str)]) -> Vec<u8> {
    use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
    use onnx_protobuf::{
        AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
    };
    let input = |&(name, elem_type, extents): &(&str, i32, &[i64])| {
        let mut info = ValueInfoProto { name: name.into(), ..Default::default() };
        let tensor = info.type_.mut_or_insert_default().mut_tensor_type();
        tensor.elem_type = elem_type;
        let dims = extents.iter().map(|&extent| {
            let value = Some(dimension::Value::DimValue(extent));
            Dimension { value, ..Default::default() }
        });
        tensor.shape.mut_or_insert_default().dim.extend(dims);
        info
    };
    let node = |&(op, inputs, axis, output): &(&str, &[&str], Option<i64>, &str)| NodeProto {
        name: output.into(),
        op_type: op.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        attribute: (axis.iter())
            .map(|&axis| AttributeProto {
                name: "axis".into(),
                type_: onnx_protobuf::attribute_proto::AttributeType::INT.into(),
                i: axis,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let output = nodes.last().map_or("", |(.., output)| output);
    let graph = GraphProto {
        name: "g".into(),
        input: inputs.iter().map(input).collect(),
        node: nodes.iter().map(node).collect(),
        output: vec![ValueInfoProto { name: output.into(), ..Default::default() }],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { version: 13, ..Default::default() }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph).into(), ..Default::default() };
    model.write_to_bytes().expect("a model")
}

const F32: i32 = 1;
const I64: i32 = 7;
const BOOL: i32 = 9;

/// `y = x` with what is not zero negated: `ScatterElements(x, NonZero(x) + offset, -x[NonZero(x) + offset])`, where the run says how
/// many updates there are.
fn negate_what_is_not_zero() -> Vec<u8> {
    model(
        &[("x", F32, &[4]), ("offset", I64, &[1])],
        &[
            ("NonZero", &["x"], None, "places"),
            ("Squeeze", &["places"], None, "row"),
            ("Add", &["row", "offset"], None, "indices"),
            ("Gather", &["x", "row"], None, "picked"),
            ("Neg", &["picked"], None, "updates"),
            ("ScatterElements", &["x", "indices", "updates"], None, "y"),
        ],
    )
}

/// What the data count is what an index is held against, and what is told is the index that the data have.
#[test]
fn an_index_outside_of_what_is_there_is_told_of_as_it_is() -> Result<(), Failure> {
    // Along axis 0 of x [6, 4], three rows are there.
    let cases: [(&str, &[i64], Option<i64>, &[i64], usize); 5] = [
        ("Gather", &[2, 2], Some(0), &[0, -3, 2, -1], 2),
        ("GatherElements", &[2, 4], Some(0), &[0, -3, 2, -1, 1, 1, 1, 1], 7),
        ("GatherND", &[2, 2], None, &[0, 3, -3, -4], 2),
        ("ScatterElements", &[1, 4], Some(0), &[2, -3, 0, 1], 1),
        ("ScatterND", &[2, 1], None, &[0, -1], 1),
    ];
    let chosen = Tensor::bools([6], &[true, false, true, false, true, false])?;
    let x: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let x = Tensor::new([6, 4], &x)?;
    for (op, shape, axis, good, at) in cases {
        let dims: Vec<usize> = shape.iter().map(|&extent| extent as usize).collect();
        let updates: Vec<i64> = if op == "ScatterND" { vec![2, 4] } else { shape.to_vec() };
        let operands: &[&str] = if op.starts_with("Scatter") { &["r", "i", "u"] } else { &["r", "i"] };
        let bytes = model(
            &[("x", F32, &[6, 4]), ("c", BOOL, &[6]), ("i", I64, shape), ("u", F32, &updates)],
            &[("Compress", &["x", "c"], Some(0), "r"), (op, operands, axis, "n")],
        );
        let graph = nnc::Model::from_bytes(bytes)?.graph(&nnc::Options::default())?;
        let updates: Vec<usize> = updates.iter().map(|&extent| extent as usize).collect();
        let u = Tensor::new(updates.clone(), &vec![0.5f32; updates.iter().product()])?;
        let run = |indices: &[i64]| -> Result<Vec<Tensor>, Failure> {
            Ok(vec![x.clone(), chosen.clone(), Tensor::new(dims.clone(), indices)?, u.clone()])
        };
        let right = eval::run(&graph, &run(good)?)?;
        for program in programs(&graph, Indices::Checked)? {
            assert_eq!(pipeline::run_tensors(&program, &run(good)?, 2)?, right, "{op}");
            for index in [3, -4, 4, 5, 6, -6, -7, i64::MAX, i64::MIN] {
                let mut indices = good.to_vec();
                indices[at] = index;
                let bad = run(&indices)?;
                let expected = expected(&graph, &bad);
                assert_eq!(expected, ("n".to_owned(), 0, index, 3), "{op}");
                for threads in [1, 2] {
                    assert_eq!(told(&program, &bad, threads), expected, "{op}");
                }
            }
        }
        for program in programs(&graph, Indices::Clamped)? {
            let mut indices = good.to_vec();
            indices[at] = 5;
            let found = pipeline::run_tensors(&program, &run(&indices)?, 1)?;
            // Readers see the last row that is there; writers leave the update out.
            indices[at] = 2;
            let nearest = eval::run(&graph, &run(&indices)?)?;
            match op.starts_with("Scatter") {
                false => assert_eq!(found, nearest, "{op}"),
                true => assert_ne!(found, nearest, "{op}"),
            }
        }
    }
    Ok(())
}

#[test]
fn as_many_updates_as_the_run_says_go_where_they_belong_or_are_told_of() -> Result<(), Failure> {
    use nnc_runtime::{InputRef, Pool, Session};
    let program = nnc::Model::from_bytes(negate_what_is_not_zero())?.compile(&nnc::Options::default())?;
    let mut session = Session::new(&program, &Pool::new(1)?)?;
    let x = [0.0f32, 5.0, 7.0, 0.0];
    let mut run = |offset: i64| -> Result<Vec<f32>, String> {
        let outputs = session.run(&[InputRef::new(&x), InputRef::new(&[offset])]);
        outputs.and_then(|y| Ok(y.get::<f32>(0)?.to_vec())).map_err(|e| e.to_string())
    };
    assert_eq!(run(0), Ok(vec![0.0, -5.0, -7.0, 0.0]));
    assert_eq!(run(-4), Ok(vec![0.0, -5.0, -7.0, 0.0]), "from the end");
    assert_eq!(run(1), Ok(vec![0.0, 5.0, -5.0, -7.0]));
    for offset in [2, 3, -6, -7, 100] {
        let error = run(offset).expect_err("an index outside");
        // The first place is 1.
        let outside = if (0..4).contains(&(1 + offset)) { 2 + offset } else { 1 + offset };
        let text = format!("index {outside} lies outside of axis 0, which has 4 elements");
        assert!(error.contains(&text), "{offset}: {error}");
    }
    assert_eq!(run(-4), Ok(vec![0.0, -5.0, -7.0, 0.0]));
    Ok(())
}
