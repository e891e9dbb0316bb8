use std::collections::BTreeSet;

use proptest::prelude::*;

use super::ops::{Described, blank, keyword};
use super::select::Sources;
use super::*;
use crate::eval;
use crate::graph::Graph;
use crate::op::*;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// The text is read back as a graph that prints the same.
#[track_caller]
fn assert_fixpoint(text: &str) -> Graph {
    let graph = parse(text).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    assert_eq!(print_full(&graph), text);
    graph
}

fn fault(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const NETWORK: &str = "\
%x = input : f32[1x3x8x8]
%w = const f32[8x3x3x3] hash(seed=1, scale=0.5)
%b = const f32[8] splat(0.25)
%c1 = conv %x, %w, %b {strides=2x2, pads=1x1:1x1, epilogue=relu6} : f32[1x8x4x4]
%s = split %c1 {axis=1, parts=[4, 4]} : f32[1x4x4x4], f32[1x4x4x4]
%y = channel_select %s:1, %s {select=[zip(0[0..4], 1[0..4])]} : f32[1x8x4x4]
%pool = global_average_pool %y {activation=leaky_relu(alpha=0.25)} : f32[1x8x1x1]
output logits = %pool
output \"split / 1\" = %s:1
";

#[test]
fn a_network_is_printed_as_it_was_written() {
    let graph = assert_fixpoint(NETWORK);
    graph.verify().unwrap();
    assert_eq!(print(&graph), NETWORK);
}

#[test]
fn what_is_read_back_computes_the_same() {
    let graph = parse(NETWORK).unwrap();
    let x = hash(TensorType::f32([1, 3, 8, 8]), 7, 1.0).unwrap();
    let again = parse(&print_full(&graph)).unwrap();
    assert_eq!(eval::run(&graph, std::slice::from_ref(&x)).unwrap(), eval::run(&again, &[x]).unwrap());
}

#[test]
fn white_space_and_comments_mean_nothing() {
    let text = "// first\n%x=input:f32[2]// x\n  %y\n=relu %x:f32[ 2 ]  output y=%y";
    assert_eq!(print(&parse(text).unwrap()), "%x = input : f32[2]\n%y = relu %x : f32[2]\noutput y = %y\n");
}

#[test]
fn names_that_repeat_are_odd_or_empty_survive() {
    let mut graph = Graph::new();
    let mut value = graph.add_input("a \"b\"\n\\", TensorType::f32([1]));
    for name in ["", "same", "same", "12", "/block/conv.0", "", "ü", "//"] {
        value = graph.add(name, Op::Unary(Unary::Relu), &[Some(value)]).unwrap().into();
    }
    graph.add_output("", value);
    let text = print_full(&graph);
    let labels: Vec<&str> = text.lines().map(|l| l.split(" = ").next().unwrap()).collect();
    assert_eq!(
        labels,
        [
            "%\"a \\\"b\\\"\\u{a}\\\\\"",
            "%0",
            "%same",
            "%same#2",
            "%\"12\"",
            "%/block/conv.0",
            "%1",
            "%\"ü\"",
            "%\"//\"",
            "output \"\""
        ]
    );
    let again = assert_fixpoint(&text);
    let names = |g: &Graph| g.node_ids().map(|id| g.node(id).name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&again), names(&graph));
}

#[test]
fn operands_may_be_left_out() {
    assert_fixpoint(
        "%x = input : f32[1x2x4]\n%w = const f32[2x2x1] {1, 2, 3, 4}\n%r = input : f32[1x2x4]\n\
         %y = conv %x, %w, _, %r {epilogue=residual+relu} : f32[1x2x4]\noutput y = %y\n"
            .replace("%r = input : f32[1x2x4]\n", "")
            .replace("%w = const", "%r = input : f32[1x2x4]\n%w = const")
            .as_str(),
    );
}

#[test]
fn what_a_layer_stores_comes_last_in_its_epilogue() {
    for (epilogue, residual) in
        [("bf16", false), ("relu+bf16", false), ("residual+bf16", true), ("relu6+residual+bf16", true)]
    {
        let (r, operand) = if residual { ("%r = input : bf16[1x2x4]\n", ", _, %r") } else { ("", "") };
        let text = format!(
            "%x = input : f32[1x2x4]\n{r}%w = const f32[2x2x1] {{1, 2, 3, 4}}\n\
             %y = conv %x, %w{operand} {{epilogue={epilogue}}} : bf16[1x2x4]\noutput y = %y\n"
        );
        assert_fixpoint(&text);
        assert_eq!(print(&parse(&text).unwrap()), text);
    }
}

/// Every operator at least once, with attributes that are not defaults, and types of operands that it takes.
fn samples() -> Vec<(Op, Vec<Option<TensorType>>)> {
    let f = |dims: &[usize]| Some(TensorType::f32(dims));
    let window = |kernel: [usize; 2]| Window {
        kernel: kernel.to_vec(),
        strides: vec![2, 1],
        dilations: vec![1, 2],
        pads_begin: vec![1, 2],
        pads_end: vec![-1, 3],
    };
    let clip = Some(Unary::Clip { min: -1.5, max: f32::INFINITY });
    let affine = Prologue { affine: true, activation: Some(Unary::Relu) };
    let epilogue = |residual| Epilogue { residual: Some(residual), activation: clip, stored: None };
    let image = || f(&[1, 4, 9, 9]);
    let mut samples: Vec<(Op, Vec<Option<TensorType>>)> = vec![
        (
            Conv {
                window: window([3, 2]),
                groups: 2,
                prologue: affine,
                epilogue: epilogue(Residual::AfterActivation),
            }
            .into(),
            vec![image(), f(&[6, 2, 3, 2]), f(&[6]), f(&[1, 6, 4, 12]), f(&[4]), f(&[4])],
        ),
        (
            ConvTranspose { window: window([3, 3]), output_padding: vec![1, 0], groups: 2, activation: clip }
                .into(),
            vec![image(), f(&[4, 3, 3, 3])],
        ),
        (
            MatMul { trans_b: true, epilogue: Epilogue { residual: None, activation: clip, stored: None } }
                .into(),
            vec![f(&[5, 2, 3]), f(&[4, 3]), f(&[4])],
        ),
        (MatMul::default().into(), vec![f(&[2, 3]), f(&[3])]),
        (
            Einsum { terms: vec!["0ij".chars().collect(), "jK".chars().collect()], result: vec!['0', 'K'] }
                .into(),
            vec![f(&[2, 3, 4]), f(&[4, 5])],
        ),
        (Col2Im { image: vec![9, 9], window: window([3, 2]) }.into(), vec![f(&[1, 24, 48])]),
        (BitCast { to: DType::U32 }.into(), vec![f(&[3])]),
        (
            GridSample { mode: SampleMode::Cubic, padding: SamplePadding::Reflection, align_corners: true }
                .into(),
            vec![image(), f(&[1, 3, 5, 2])],
        ),
        (
            RoiAlign { bins: [3, 2], samples: 2, scale: 0.5, half_pixel: false, max: true }.into(),
            vec![image(), f(&[5, 4]), Some(TensorType::new(DType::I64, [5]))],
        ),
        (MaxRoiPool { bins: [3, 2], scale: 0.5 }.into(), vec![image(), f(&[5, 5])]),
        (
            IntegerConv {
                window: window([3, 2]),
                groups: 2,
                x_zero: 7,
                result: Requantize { to: DType::I8, zero: -3, low: -3, high: 100 },
            }
            .into(),
            vec![
                Some(TensorType::new(DType::U8, [1, 4, 9, 9])),
                Some(TensorType::new(DType::I8, [6, 2, 3, 2])),
                Some(TensorType::new(DType::I32, [6])),
                f(&[6]),
                f(&[6]),
            ],
        ),
        (Quantize { to: DType::I16 }.into(), vec![image(), f(&[])]),
        (Dequantize.into(), vec![Some(TensorType::new(DType::U16, [2, 3])), f(&[3])]),
        (
            IntegerSum {
                factors: vec![0.5, -0.25],
                shift: 1.5,
                result: Requantize { to: DType::I8, zero: -3, low: -3, high: 100 },
            }
            .into(),
            vec![Some(TensorType::new(DType::U8, [2, 3])); 2],
        ),
        (
            ByteTable.into(),
            vec![Some(TensorType::new(DType::U8, [2, 3])), Some(TensorType::new(DType::I16, [256]))],
        ),
        (
            DeformConv { window: window([3, 2]), groups: 2, offset_groups: 4 }.into(),
            vec![image(), f(&[6, 2, 3, 2]), f(&[1, 48, 4, 12]), f(&[6]), f(&[1, 24, 4, 12])],
        ),
        (Det.into(), vec![f(&[2, 3, 3])]),
        (BatchNorm { epsilon: 0.001 }.into(), vec![image(), f(&[4]), f(&[4]), f(&[4]), f(&[4])]),
        (ChannelAffine { activation: clip }.into(), vec![image(), f(&[4]), f(&[4])]),
        (InstanceNorm { epsilon: 0.001 }.into(), vec![image(), f(&[4]), f(&[4])]),
        (LayerNorm { axis: 2, epsilon: 0.001 }.into(), vec![image(), f(&[9, 9]), f(&[9])]),
        (Lrn { size: 5, alpha: 0.25, beta: 0.5, bias: 2.0 }.into(), vec![image()]),
        (Where.into(), vec![Some(TensorType::new(DType::Bool, [])), f(&[2]), f(&[1])]),
        (Cast { to: DType::BF16 }.into(), vec![f(&[])]),
        (Softmax { axis: 1 }.into(), vec![image()]),
        (LogSoftmax { axis: 3 }.into(), vec![image()]),
        (Concat { axis: 1 }.into(), vec![image(), image()]),
        (Split { axis: 2, parts: vec![4, 0, 5] }.into(), vec![image()]),
        (
            Slice {
                axes: vec![
                    AxisSlice { axis: 1, start: 3, step: -1, len: 4 },
                    AxisSlice { axis: 3, start: 2, step: 3, len: 2 },
                ],
            }
            .into(),
            vec![image()],
        ),
        (Reshape { shape: vec![] }.into(), vec![f(&[1, 1])]),
        (Transpose { perm: vec![0, 2, 3, 1] }.into(), vec![image()]),
        (Expand { shape: vec![2, 3] }.into(), vec![f(&[3])]),
        (GatherAt { axis: 1 }.into(), vec![image(), Some(TensorType::new(DType::I64, [2, 1]))]),
        (GatherElements { axis: 1 }.into(), vec![image(), Some(TensorType::new(DType::I64, [1, 2, 1, 1]))]),
        (
            ScatterElements { axis: 2, reduction: ScatterReduction::Add }.into(),
            vec![
                image(),
                Some(TensorType::new(DType::I64, [1, 2, 1, 1])),
                Some(TensorType::f32([1, 2, 1, 1])),
            ],
        ),
        (
            ScatterNd { reduction: ScatterReduction::Replace }.into(),
            vec![
                Some(TensorType::f32([4, 2])),
                Some(TensorType::new(DType::I64, [3, 1])),
                Some(TensorType::f32([3, 2])),
            ],
        ),
        (TopK { axis: 1, k: 2, largest: false }.into(), vec![image()]),
        (
            Cumulative { kind: CumulativeKind::Sum, axis: 0, exclusive: false, reverse: true }.into(),
            vec![image()],
        ),
        (MaxPoolArg { window: window([3, 2]), column_major: true }.into(), vec![image()]),
        (
            Cumulative { kind: CumulativeKind::Prod, axis: 1, exclusive: true, reverse: false }.into(),
            vec![image()],
        ),
        (
            ReverseSequence { batch_axis: 1, time_axis: 0 }.into(),
            vec![Some(TensorType::f32([4, 2])), Some(TensorType::new(DType::I64, [2]))],
        ),
        (
            MaxUnpool { sizes: vec![5] }.into(),
            vec![Some(TensorType::f32([1, 2, 3])), Some(TensorType::new(DType::I64, [1, 2, 3]))],
        ),
        (NonZero.into(), vec![image()]),
        (Compress { axis: Some(1) }.into(), vec![image(), Some(TensorType::new(DType::Bool, [2]))]),
        (Unique { axis: None, sorted: false }.into(), vec![image()]),
        (
            NonMaxSuppression { most: 7, center_point_box: true }.into(),
            vec![Some(TensorType::f32([1, 6, 4])), Some(TensorType::f32([1, 2, 6]))],
        ),
        (
            Inside { axis: 2, outside: Outside::Nowhere }.into(),
            vec![Some(TensorType::new(DType::I32, [3, 2])), Some(TensorType::new(DType::I64, [2]))],
        ),
        (
            Prefix { axes: vec![1, 3] }.into(),
            [image(), Some(TensorType::new(DType::I64, [])), Some(TensorType::new(DType::I64, []))].into(),
        ),
        (
            Loop { trips: 1, by_data: true, states: 1, scanned: 1, body: body().into() }.into(),
            vec![Some(TensorType::new(DType::Bool, [])), f(&[2]), image(), f(&[2])],
        ),
        (
            If { then: body().into(), otherwise: body().into() }.into(),
            [(); 2].iter().fold(vec![Some(TensorType::new(DType::Bool, []))], |operands, ()| {
                let inputs = [Some(TensorType::new(DType::I64, [])), f(&[2]), f(&[4, 9, 9]), f(&[2])];
                [&operands[..], &inputs].concat()
            }),
        ),
        (GatherNd { batch_dims: 1 }.into(), vec![image(), Some(TensorType::new(DType::I64, [1, 2, 1]))]),
        (Gather { axis: 1, indices: Tensor::new([2, 1], &[3i64, 0]).unwrap() }.into(), vec![image()]),
        (
            ChannelSelect { sources: vec![ChannelSource { operand: 1, channel: 3 }] }.into(),
            vec![image(), image()],
        ),
    ];
    let modes =
        [PadMode::Constant(0.0), PadMode::Constant(-0.5), PadMode::Reflect, PadMode::Edge, PadMode::Wrap];
    samples.extend(
        modes.map(|mode| {
            (Pad { begin: vec![0, -1, 2, 0], end: vec![0, 0, 0, -2], mode }.into(), vec![image()])
        }),
    );
    let modes = [
        ResizeMode::Nearest(NearestMode::Floor),
        ResizeMode::Nearest(NearestMode::RoundPreferFloor),
        ResizeMode::Linear,
        ResizeMode::Cubic { coeff_a: -0.5 },
    ];
    samples.extend(modes.map(|mode| {
        let (sizes, scales) = (vec![1, 4, 18, 5], vec![1.0, 1.0, 2.0, 0.6]);
        (Resize::new(sizes, scales, mode, CoordinateMode::Asymmetric).into(), vec![image()])
    }));
    let filtered =
        Resize::new([1, 4, 4, 4], [1.0, 1.0, 0.5, 0.5], ResizeMode::Linear, CoordinateMode::HalfPixel);
    samples
        .push((Resize { antialias: true, exclude_outside: true, ..filtered.clone() }.into(), vec![image()]));
    let (begin, end) = (vec![0.0, 0.0, 0.25, -0.5], vec![1.0, 1.0, 0.75, 1.5]);
    samples.push((
        Resize { crop: Some(Crop { begin, end, extrapolation: 2.5 }), ..filtered }.into(),
        vec![image()],
    ));
    samples.extend(PoolKind::blanks().into_iter().flat_map(|kind| {
        let pool = Pool {
            kind,
            window: window([3, 2]),
            ceil_pads: vec![0, 1],
            prologue: affine,
            epilogue: epilogue(Residual::BeforeActivation),
        };
        let global = GlobalPool { kind, prologue: affine, activation: clip };
        [
            (pool.into(), vec![image(), f(&[1, 4, 4, 12]), f(&[4]), f(&[4])]),
            (global.into(), vec![image(), f(&[4]), f(&[4])]),
        ]
    }));
    samples.extend(Unary::blanks().into_iter().map(|unary| {
        let dtype = if unary == Unary::Not { DType::Bool } else { DType::F32 };
        (unary.into(), vec![Some(TensorType::new(dtype, [3]))])
    }));
    samples.extend(BinaryFn::blanks().into_iter().map(|function| {
        let dtype = DType::ALL.into_iter().find(|&d| function.result_dtype(d, d).is_some()).unwrap();
        let ty = Some(TensorType::new(dtype, [3]));
        (Binary { function, activation: None }.into(), vec![ty.clone(), ty])
    }));
    samples.extend(
        ReduceKind::blanks()
            .into_iter()
            .map(|kind| (Reduce { kind, axes: vec![1], keep_dims: false }.into(), vec![image()])),
    );
    samples
}

/// The body of a loop, with a loop in it.
fn body() -> Graph {
    parse(
        "%i = input : i64[]
         %\"a state\" = input : f32[2]
         %x = input : f32[4x9x9]
         %c = input : f32[2]
         %go = const bool[] {true}
         %l = loop %c {trips=2, states=1} body {
            // Names of its own: } { \"
            %i = input : i64[]
            %c = input : f32[2]
            output \"}\" = %c
         } : f32[2]
         %s = add %\"a state\", %l : f32[2]
         output go = %go
         output s = %s
         output part = %x",
    )
    .unwrap()
}

/// A graph of one operator, its operands inputs.
fn graph_of(op: Op, operands: &[Option<TensorType>]) -> Graph {
    let mut graph = Graph::new();
    let values: Vec<Option<crate::Value>> = operands
        .iter()
        .enumerate()
        .map(|(i, ty)| ty.clone().map(|ty| graph.add_input(format!("x{i}"), ty)))
        .collect();
    let y = graph.add("y", op, &values).unwrap();
    for output in 0..graph.node(y).outputs.len() as u32 {
        graph.add_output(format!("y{output}"), crate::Value { node: y, output });
    }
    graph
}

#[test]
fn every_operator_is_read_back_with_all_its_attributes() {
    for (op, operands) in samples() {
        let graph = graph_of(op.clone(), &operands);
        let again = assert_fixpoint(&print_full(&graph));
        let node = again.node_ids().find(|&id| again.node(id).name == "y").unwrap();
        assert_eq!(again.node(node).op, op);
    }
}

#[test]
fn every_operator_has_a_sample_and_a_keyword_of_its_own() {
    let words =
        |ops: &mut dyn Iterator<Item = Op>| -> Vec<String> { ops.map(|op| keyword(op.name())).collect() };
    let all = words(&mut Op::blanks().into_iter());
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "two operators share a keyword");
    let sampled = words(&mut samples().into_iter().map(|(op, _)| op));
    assert_eq!(distinct, sampled.iter().collect());
    assert!(all.iter().all(|word| blank(word).is_some_and(|op| keyword(op.name()) == *word)));
}

#[test]
fn keywords_are_onnx_names_in_snake_case() {
    for (name, word) in [
        ("Conv", "conv"),
        ("GlobalAveragePool", "global_average_pool"),
        ("LRN", "lrn"),
        ("IsNaN", "is_nan"),
        ("PRelu", "p_relu"),
        ("ReduceL1", "reduce_l1"),
    ] {
        assert_eq!(keyword(name), word);
    }
}

#[test]
fn constants_of_every_type_are_read_back() {
    assert_fixpoint(
        "%0 = const f32[5] {0, -0, inf, NaN, 1e-45}\n%1 = const f16[2] {0.5, -65504}\n%2 = const bf16[1] {3}\n\
         %3 = const f64[2] {0.1, 1e300}\n%4 = const bool[3] {true, false, true}\n%5 = const i8[2] {-128, 127}\n\
         %6 = const u64[1] {18446744073709551615}\n%7 = const i64[2x3] splat(-1)\n%8 = const f32[0] {}\n\
         %9 = const f32[] {7}\n",
    );
}

#[test]
fn a_large_constant_is_a_digest_for_the_eye_and_bytes_for_the_parser() {
    let elems: Vec<f32> = (0..40).map(|i| (i * i) as f32).collect();
    let mut graph = Graph::new();
    let c = graph.add_constant("c", Tensor::new([40], &elems).unwrap());
    graph.add_output("c", c);
    let brief = print(&graph);
    assert!(brief.starts_with("%c = const f32[40] digest("), "{brief}");
    assert!(fault(&brief).contains("a digest is all that a brief print shows"));
    let again = assert_fixpoint(&print_full(&graph));
    assert_eq!(eval::run(&again, &[]).unwrap(), eval::run(&graph, &[]).unwrap());
}

#[test]
fn a_nan_with_a_payload_keeps_its_bits() {
    let bits = [f32::from_bits(0x7fc0_1234), 1.0];
    let mut graph = Graph::new();
    graph.add_constant("c", Tensor::new([2], &bits).unwrap());
    assert_eq!(print_full(&graph), "%c = const f32[2] bytes(3412c07f0000803f)\n");
    assert_fixpoint(&print_full(&graph));
}

#[test]
fn pseudo_random_data_are_the_same_everywhere() {
    let t = hash(TensorType::f32([3]), 1, 1.0).unwrap();
    let mix = |mut x: u32| {
        for (shift, factor) in [(16, 0x7feb_352d), (15, 0x846c_a68b)] {
            x ^= x >> shift;
            x = x.wrapping_mul(factor);
        }
        x ^ (x >> 16)
    };
    for (i, &v) in t.elems::<f32>().unwrap().iter().enumerate() {
        let h = mix(mix(1).wrapping_add(i as u32)) >> 8;
        assert_eq!(f64::from(v), f64::from(h) / 8388608.0 - 1.0);
    }
    let ints = hash(TensorType::new(DType::I8, [100]), 3, 5.0).unwrap();
    let ints = ints.elems::<i8>().unwrap();
    assert!(ints.contains(&4) && ints.contains(&-4) && ints.iter().all(|v| (-5..=5).contains(v)));
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let x = "%x = input : f32[1x4x8x8]\n";
    let at = |rest: &str| fault(&format!("{x}{rest}"));
    assert_eq!(
        at("%y = relo %x : f32[1]"),
        "line 2, column 6: unknown operator relo; expected an ONNX name such as max_pool"
    );
    assert_eq!(at("%y = relu %z : f32[1]"), "line 2, column 11: no value %z is defined above");
    assert_eq!(
        at("%y = relu %x : f32[1x4x8x9]"),
        "line 2, column 16: inference finds f32[1x4x8x8], not f32[1x4x8x9]"
    );
    assert_eq!(at("%y = softmax %x {axes=1} : f32[1x4x8x8]"), "line 2, column 6: attribute axis is missing");
    assert_eq!(
        at("%y = softmax %x {axis=1, axes=1} : f32[1x4x8x8]"),
        "line 2, column 26: unknown attribute axes; expected axis"
    );
    assert_eq!(
        at("%y = softmax %x {axis=1, axis=2} : f32[1x4x8x8]"),
        "line 2, column 26: attribute axis is given twice"
    );
    assert_eq!(
        at("%y = softmax %x {axis=x} : f32[1x4x8x8]"),
        "line 2, column 23: expected a number of elements for attribute axis, got x"
    );
    assert_eq!(
        at("%y = softmax %x {axis=9} : f32[1x4x8x8]"),
        "line 2, column 6: node \"y\" (Softmax): axis 9 does not exist in shape 1x4x8x8 of rank 4"
    );
    assert_eq!(at("%x = relu %x : f32[1]"), "line 2, column 1: a value of this name is defined above");
    assert_eq!(at("%y = relu %x"), "line 2, column 13: expected :, got the end");
    assert_eq!(at("%y = relu %x:1 : f32[1]"), "line 2, column 11: this node has 1 outputs, numbered from 0");
    assert_eq!(at("%y = const f32[2] {1}"), "line 2, column 19: expected 2 elements for f32[2], got 1");
    assert_eq!(
        at("%y = const i8[1] {128}"),
        "line 2, column 18: expected elements of type i8, which 128 does not fit"
    );
    assert_eq!(
        at("  what"),
        "line 2, column 3: expected a definition such as %y = relu %x, or output name = %y, got what"
    );
    assert_eq!(
        at("%y = const f32[1x] {1}"),
        "line 2, column 12: expected a type such as f32[1x3x32x32], got f32"
    );
}

#[test]
fn a_short_text_cannot_ask_for_all_the_memory() {
    assert!(fault("%c = const f32[1048576x1048576] splat(0)").contains("at most 1073741824 bytes"));
    assert!(fault("%c = const f32[4294967296x4294967296x4294967296] {}").contains("expected a type"));
    let select = "%x = input : f32[1x2]\n%y = channel_select %x {select=[0[0..4000000000]]} : f32[1x2]";
    assert!(fault(select).contains("at most 1048576 channels"));
}

fn sources() -> impl Strategy<Value = Vec<ChannelSource>> {
    let any = prop::collection::vec((0..3u32, 0..40u32), 0..24);
    let shuffled = (1..5u32, 1..9u32, 0..2u32, 1..4u32).prop_map(|(groups, each, operand, step)| {
        let pairs =
            (0..each).flat_map(move |i| (0..groups).map(move |g| (operand + g % 2, (g * each + i) * step)));
        pairs.collect::<Vec<_>>()
    });
    let parts = prop::collection::vec(prop_oneof![any, shuffled], 0..4);
    parts.prop_map(|p| {
        p.concat().into_iter().map(|(operand, channel)| ChannelSource { operand, channel }).collect()
    })
}

#[test]
fn shuffles_and_runs_are_short() {
    use super::attrs::Attr;
    let text = |pairs: Vec<(u32, u32)>| {
        Sources(pairs.into_iter().map(|(operand, channel)| ChannelSource { operand, channel }).collect())
            .write()
    };
    assert_eq!(text((0..58).map(|i| (0, i)).chain([(1, 4)]).collect()), "[0[0..58], 1[4]]");
    assert_eq!(text((0..58).map(|i| (i % 2, i / 2)).collect()), "[zip(0[0..29], 1[0..29])]");
    let groups = (0..240).map(|i| (0, i % 3 * 80 + i / 3)).collect();
    assert_eq!(text(groups), "[zip(0[0..80], 0[80..160], 0[160..240])]");
    assert_eq!(text((0..29).map(|i| (0, 2 * i + 1)).collect()), "[0[1..58 by 2]]");
    assert_eq!(text(vec![(0, 5), (0, 9), (0, 2)]), "[0[5], 0[9], 0[2]]");
}

proptest! {
    #[test]
    fn any_channels_are_read_back(sources in sources()) {
        use super::attrs::Attr;
        let sources = Sources(sources);
        prop_assert_eq!(Sources::read(&sources.write()), Ok(sources));
    }

    #[test]
    fn any_convolution_is_read_back(
        (kernel, strides, dilations) in (uniform(1..4usize), uniform(1..4usize), uniform(1..4usize)),
        (begin, end) in (uniform(-2..4isize), uniform(-2..4isize)),
        groups in 1..3usize,
        (residual, before, activation) in (any::<bool>(), any::<bool>(), 0..Unary::blanks().len() + 1),
    ) {
        let window = Window { kernel, strides, dilations, pads_begin: begin, pads_end: end };
        let x = TensorType::f32([1, 2, 12, 12]);
        let w = TensorType::f32([[4, 2 / groups].as_slice(), &window.kernel].concat());
        let activation = Unary::blanks().get(activation).copied().filter(|u| u.result_dtype(DType::F32) == Some(DType::F32));
        let mut conv = Conv { window, groups, prologue: Prologue::default(), epilogue: Epilogue::default() };
        let plain = Op::from(conv.clone()).infer(&[Some(&x), Some(&w)]);
        prop_assume!(plain.is_ok());
        let y = plain.unwrap().remove(0);
        let place = if before { Residual::BeforeActivation } else { Residual::AfterActivation };
        conv.epilogue = Epilogue { residual: residual.then_some(place), activation, stored: None };
        let operands = [Some(x), Some(w), None, residual.then_some(y)];
        let text = print_full(&graph_of(conv.into(), &operands));
        let again = parse(&text).map_err(|e| TestCaseError::fail(format!("{e} in\n{text}")))?;
        prop_assert_eq!(print_full(&again), text);
    }

    #[test]
    fn any_name_is_read_back(name in ".*") {
        let mut graph = Graph::new();
        let x = graph.add_input(name.clone(), TensorType::f32([1]));
        graph.add_output(name.clone(), x);
        let again = parse(&print(&graph)).unwrap();
        prop_assert_eq!(&again.node(again.inputs()[0]).name, &name);
        prop_assert_eq!(&again.outputs()[0].0, &name);
    }

    #[test]
    fn any_data_are_read_back(bits in prop::collection::vec(any::<u32>(), 0..24)) {
        let elems: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let mut graph = Graph::new();
        graph.add_constant("c", Tensor::new([elems.len()], &elems).unwrap());
        let again = parse(&print_full(&graph)).unwrap();
        let id = again.node_ids().next().unwrap();
        prop_assert_eq!(again.constant(id.into()).unwrap().bytes(), bytemuck::cast_slice::<u32, u8>(&bits));
    }

    #[test]
    fn hashed_data_show_their_seed(seed in 0..256u32, scale in 1..999u32, digits in 0..4i32) {
        let scale: f32 = format!("{scale}e-{digits}").parse().unwrap();
        let text = format!("%c = const f32[17] hash(seed={seed}, scale={})\n", super::attrs::Attr::write(&scale));
        prop_assert_eq!(print(&parse(&text).unwrap()), text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[%a-z0-9 =:{}\\[\\](),#\"\\\\x.+_\n-]{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_damage_to_a_graph_makes_the_parser_panic(at in 0..NETWORK.len(), len in 0..9usize, put in ".{0,4}") {
        let end = (at + len).min(NETWORK.len());
        let _ = parse(&format!("{}{put}{}", &NETWORK[..at], &NETWORK[end..]));
    }
}

fn uniform<T: std::fmt::Debug>(range: std::ops::Range<T>) -> impl Strategy<Value = Vec<T>>
where
    std::ops::Range<T>: Strategy<Value = T>,
{
    prop::collection::vec(range, 2..=2)
}
