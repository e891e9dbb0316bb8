//! Convolutions of integers: exactly what the evaluator says, for every form that networks have, on targets of all sorts.

use nnc::plan::Winograd;
use nnc::target::Target;
use nnc::{InputRef, Pool, Session, emit};
use nnc_ir::op::{
    ByteTable, ChannelSelect, ChannelSource, Dequantize, Epilogue, IntegerConv, PoolKind, Prologue, Quantize,
    Requantize, Window,
};
use nnc_ir::{DType, Graph, Tensor, TensorType, Value, eval, text};
use nnc_runtime::abi::ElemType;

use super::support::{nests, planned};
use super::watchdog::Watchdog;

/// Targets with an instruction for products of bytes, and without.
const TARGETS: [&str; 8] = [
    "x86-64-v2",
    "x86-64-v3",
    "x86-64-v3-clif",
    "x86-64-v3+vnni",
    "x86-64-v4",
    "x86-64-v4+vnni",
    "x86-64-v4+vnni-clif",
    "aarch64",
];

/// Any bytes.
fn bytes(ty: TensorType, seed: usize) -> Tensor {
    let any = |i: usize| (i * 89 + i / 7 * 31 + seed * 57 + i * i) as u8;
    let bytes = (0..ty.shape.elems()).map(any).collect();
    Tensor::from_bytes(ty, bytes).expect("a tensor of bytes")
}

/// A layer.
#[derive(Clone, Debug)]
struct Case {
    x: [usize; 4],
    w: [usize; 4],
    groups: usize,
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [isize; 4],
    x_zero: i32,
    bias: bool,
    shift: bool,
    result: Requantize,
}

/// A convolution of stride 1 to steps around 0.
fn case(x: [usize; 4], w: [usize; 4]) -> Case {
    let result = Requantize::steps(DType::U8, 0);
    let groups = x[1] / w[1];
    Case {
        x,
        w,
        groups,
        strides: [1; 2],
        dilations: [1; 2],
        pads: [0; 4],
        x_zero: 0,
        bias: true,
        shift: false,
        result,
    }
}

impl Case {
    fn padded(self) -> Case {
        let [y, x] = [self.w[2], self.w[3]].map(|kernel| kernel as isize / 2);
        Case { pads: [y, x, y, x], ..self }
    }

    /// Adds the layer to a graph.
    fn add(&self, graph: &mut Graph, x: Value) -> Value {
        let m = self.w[0];
        let floats = |shape: &[usize], seed, scale| {
            text::hash(TensorType::f32(shape), seed, scale).expect("parameters")
        };
        let products = self.w[1..].iter().product::<usize>() as f32;
        let w = graph.add_constant("w", bytes(TensorType::new(DType::I8, self.w), 3));
        let bias = text::hash(TensorType::new(DType::I32, [m]), 5, 9000.0).expect("a bias");
        let bias = self.bias.then(|| graph.add_constant("bias", bias));
        // So that steps go beyond both ends.
        let scale = floats(&[m], 7, 0.03 / products.sqrt());
        let sums = self.result == Requantize::SUMS;
        let scale = (!sums).then(|| graph.add_constant("scale", scale));
        let shift = (self.shift && !sums).then(|| graph.add_constant("shift", floats(&[m], 9, 30.0)));
        let [top, left, bottom, right] = self.pads;
        let window = Window {
            kernel: self.w[2..].to_vec(),
            strides: self.strides.to_vec(),
            dilations: self.dilations.to_vec(),
            pads_begin: vec![top, left],
            pads_end: vec![bottom, right],
        };
        let op = IntegerConv { window, groups: self.groups, x_zero: self.x_zero, result: self.result };
        graph.add("y", op.into(), &[Some(x), Some(w), bias, scale, shift]).expect("a layer").into()
    }

    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        let x = graph.add_input("x", TensorType::new(DType::U8, self.x));
        let y = self.add(&mut graph, x);
        graph.add_output("y", y);
        graph
    }
}

/// Checks that a graph has a kernel for each layer on all targets, and what it computes on those that run here: exactly, or, where a target
/// rounds twice what others round once, with a neighbour now and then.
fn check(graph: &Graph) {
    let inputs: Vec<Tensor> = graph
        .inputs()
        .iter()
        .enumerate()
        .map(|(seed, id)| bytes(graph.node(*id).outputs[0].clone(), seed))
        .collect();
    let expected = eval::run(graph, &inputs).expect("the results");
    let inputs: Vec<InputRef<'_>> =
        inputs.iter().map(|x| InputRef::from_bytes(ElemType::U8, x.bytes())).collect();
    for name in TARGETS {
        let target = Target::named(name).expect("a target");
        let plan = planned(graph, &target, Winograd::Never);
        assert_eq!(nests(&plan), [""; 0], "{name}\n{}", text::print(graph));
        if !target.runs_here() {
            let compiled = emit::object::compile(&plan, &target, emit::object::ConstantPlace::Outside);
            compiled.unwrap_or_else(|e| panic!("{name}: {e}\n{}", text::print(graph)));
            continue;
        }
        let program = emit::jit::compile(plan, &target).unwrap_or_else(|e| panic!("{name}: {e}"));
        let _watchdog = Watchdog::seconds(60);
        let mut session = Session::new(&program, &Pool::new(2).expect("threads")).expect("a session");
        let outputs = session.run(&inputs).expect("a run");
        for (index, expected) in expected.iter().enumerate() {
            let got = outputs.bytes(index).expect("an output");
            let same = match (expected.dtype(), target.fma) {
                (_, true) => got == expected.bytes(),
                (DType::I32, false) => got == expected.bytes(),
                (DType::U8, false) => {
                    got.iter().zip(expected.bytes()).all(|(got, expected)| got.abs_diff(*expected) <= 1)
                }
                (_, false) => {
                    let got = got.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x));
                    let expected = expected.elems::<f32>().expect("real numbers");
                    got.zip(expected.iter())
                        .all(|(got, expected)| (got - expected).abs() <= 1e-5 * expected.abs().max(1.0))
                }
            };
            let at = got.iter().zip(expected.bytes()).position(|(got, expected)| got != expected);
            assert!(same, "{name}: output {index} differs at byte {at:?}\n{}", text::print(graph));
        }
    }
}

#[test]
fn dense_layers_of_any_number_of_channels() {
    for (channels, results) in [(1, 1), (3, 16), (4, 5), (5, 33), (16, 8), (31, 48), (64, 17), (130, 70)] {
        for (h, w) in [(1, 1), (3, 5), (7, 7)] {
            check(&case([1, channels, h, w], [results, channels, 1, 1]).graph());
        }
        check(&case([2, channels, 6, 9], [results, channels, 3, 3]).padded().graph());
    }
}

#[test]
fn windows_of_every_kind() {
    let strided = |kernel: usize, stride: usize| Case {
        strides: [stride, stride + 1],
        ..case([1, 6, 13, 17], [20, 6, kernel, kernel]).padded()
    };
    check(&strided(1, 2).graph());
    check(&strided(3, 2).graph());
    check(&strided(5, 1).graph());
    check(&Case { dilations: [2, 3], pads: [2, 3, 1, 0], ..strided(3, 1) }.graph());
    check(&Case { pads: [-1, -2, 0, -1], ..strided(3, 1) }.graph());
    check(&Case { pads: [0, 4, 3, 0], ..case([1, 8, 2, 3], [8, 8, 3, 3]) }.graph());
    check(&case([1, 5, 1, 40], [9, 5, 1, 7]).padded().graph());
}

#[test]
fn groups_whose_quads_reach_into_others() {
    for (groups, each, results) in [(2, 3, 4), (3, 4, 16), (2, 5, 7), (4, 1, 3), (8, 6, 2)] {
        let layer = case([1, groups * each, 5, 6], [groups * results, each, 1, 1]);
        check(&layer.graph());
        check(&case([2, groups * each, 5, 6], [groups * results, each, 3, 3]).padded().graph());
    }
}

#[test]
fn layers_over_single_channels() {
    for (channels, each) in [(2, 1), (16, 1), (23, 1), (40, 2)] {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (7, 3)] {
            let layer = case([1, channels, 11, 14], [channels * each, 1, kernel, kernel]).padded();
            check(&Case { strides: [stride, stride], ..layer.clone() }.graph());
            check(&Case { x_zero: 7, shift: true, strides: [stride, stride], ..layer }.graph());
        }
    }
}

#[test]
fn zero_points_anywhere_and_what_padding_has() {
    for x_zero in [1, 128, 255] {
        let layer = Case { x_zero, ..case([1, 7, 6, 5], [18, 7, 3, 3]).padded() };
        for zero in [0, 1, 127, 255] {
            check(&Case { result: Requantize::steps(DType::U8, zero), ..layer.clone() }.graph());
        }
        check(&Case { bias: false, strides: [2, 2], ..layer }.graph());
    }
}

#[test]
fn results_are_steps_between_bounds_or_real() {
    let layer = case([1, 20, 4, 6], [21, 20, 1, 1]);
    for (zero, low, high) in [(0, 10, 255), (3, 3, 255), (100, 100, 180), (0, 0, 6), (9, 9, 9)] {
        let result = Requantize { to: DType::U8, zero, low, high };
        for (bias, shift) in [(false, false), (true, true), (false, true)] {
            check(&Case { result, bias, shift, ..layer.clone() }.graph());
        }
    }
    for (bias, shift) in [(false, false), (true, true)] {
        check(&Case { result: Requantize::REAL, bias, shift, x_zero: 4, ..layer.clone() }.graph());
        let lanes = case([1, 9, 5, 5], [9, 1, 3, 3]).padded();
        check(&Case { result: Requantize::REAL, bias, shift, ..lanes }.graph());
    }
}

/// What a caller gives lies in planes, of which there are few: as it is, and behind a Quantize.
#[test]
fn pictures_of_a_few_planes() {
    for channels in [1, 2, 3, 4] {
        for (kernel, stride) in [(2, 1), (3, 2), (5, 1), (7, 2), (9, 4)] {
            let strides = [stride, stride];
            let layer = case([2, channels, 19, 23], [18, channels, kernel, kernel]);
            check(&Case { strides, ..layer.clone() }.graph());
            let padded = Case { strides, ..layer.padded() };
            check(&padded.graph());
            check(&Case { x_zero: 99, ..padded }.graph());
        }
        let odd = case([1, channels, 12, 5], [5, channels, 1, 3]);
        check(&Case { pads: [0, 3, 0, 2], x_zero: 1, ..odd.clone() }.graph());
        check(&Case { pads: [-1, -1, 0, -1], ..odd }.graph());
    }
}

#[test]
fn pools_take_the_largest_bytes() {
    for channels in [1, 3, 4, 11, 24, 70] {
        for (kernel, stride, pad) in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2)] {
            let window = Window {
                kernel: vec![kernel; 2],
                strides: vec![stride; 2],
                dilations: vec![1; 2],
                pads_begin: vec![pad; 2],
                pads_end: vec![pad; 2],
            };
            let mut graph = Graph::new();
            let x = graph.add_input("x", TensorType::new(DType::U8, [2, channels, 9, 11]));
            let first = case([2, channels, 9, 11], [channels, channels, 1, 1]).add(&mut graph, x);
            let pool = nnc_ir::op::Pool {
                kind: PoolKind::Max,
                window,
                ceil_pads: vec![0; 2],
                prologue: Prologue::default(),
                epilogue: Epilogue::default(),
            };
            let pooled: Value = graph.add("pooled", pool.into(), &[Some(first)]).expect("a pool").into();
            let [_, _, h, w] = graph.ty(pooled).shape[..] else { panic!("an image") };
            let y = case([2, channels, h, w], [5, channels, 1, 1]).add(&mut graph, pooled);
            graph.add_output("pooled", pooled);
            graph.add_output("y", y);
            check(&graph);
        }
    }
}

#[test]
fn results_are_sums() {
    for (channels, results) in [(1, 1), (20, 21), (64, 16)] {
        let layer = case([2, channels, 4, 6], [results, channels, 1, 1]);
        check(&Case { result: Requantize::SUMS, x_zero: 3, ..layer.clone() }.graph());
        check(&Case { result: Requantize::SUMS, bias: false, ..layer }.graph());
    }
    let lanes = Case { result: Requantize::SUMS, ..case([2, 19, 7, 6], [19, 1, 3, 3]).padded() };
    check(&lanes.graph());
    check(&Case { x_zero: 3, strides: [2, 1], ..lanes }.graph());
}

/// What one layer writes, the next one reads where it is.
#[test]
fn layers_read_what_others_wrote() {
    let mut graph = Graph::new();
    let x = graph.add_input("x", TensorType::new(DType::U8, [1, 10, 9, 9]));
    let first = case([1, 10, 9, 9], [30, 10, 1, 1]).add(&mut graph, x);
    let lanes = case([1, 30, 9, 9], [30, 1, 3, 3]).padded().add(&mut graph, first);
    let last = Case { x_zero: 2, ..case([1, 30, 9, 9], [6, 30, 3, 3]).padded() }.add(&mut graph, lanes);
    graph.add_output("last", last);
    graph.add_output("lanes", lanes);
    check(&graph);
}

/// A concat, a shuffle and a split of channels are where they lie: runs of them, whose last quads are filled up by what comes behind.
#[test]
fn shuffled_channels_are_read_in_runs() {
    for (parts, channels) in [(2, 29), (3, 8), (2, 58)] {
        let mut graph = Graph::new();
        let x = graph.add_input("x", TensorType::new(DType::U8, [1, 12, 6, 7]));
        let layers: Vec<Value> =
            (0..parts).map(|_| case([1, 12, 6, 7], [channels, 12, 1, 1]).add(&mut graph, x)).collect();
        let all = parts * channels;
        let source = |c: usize| ChannelSource { operand: (c % parts) as u32, channel: (c / parts) as u32 };
        let operands: Vec<Option<Value>> = layers.iter().copied().map(Some).collect();
        let mut select = |range: std::ops::Range<usize>| {
            let op = ChannelSelect { sources: range.map(source).collect() };
            Value::from(graph.add("select", op.into(), &operands).expect("a select"))
        };
        let (shuffled, second) = (select(0..all), select(all / 2..all));
        let half = all - all / 2;
        let scalar = |graph: &mut Graph, scale: f32| {
            Some(graph.add_constant("scale", Tensor::new([], &[scale]).expect("a scalar")))
        };
        let (from, to) = (scalar(&mut graph, 0.5), scalar(&mut graph, 0.75));
        let real = graph.add("real", Dequantize.into(), &[Some(shuffled), from]).expect("numbers").into();
        let steps = Quantize { to: DType::U8 }.into();
        let steps = graph.add("steps", steps, &[Some(real), to]).expect("steps").into();
        let again = case([1, all, 6, 7], [9, all, 1, 1]).add(&mut graph, steps);
        let entries: Vec<u8> = (0..=255).map(|i: u8| i.wrapping_mul(37)).collect();
        let table = graph.add_constant("table", Tensor::new([ByteTable::LEN], &entries).expect("entries"));
        let operands = [Some(shuffled), Some(table)];
        let found = graph.add("found", ByteTable.into(), &operands).expect("bytes").into();
        let of_found = case([1, all, 6, 7], [9, all, 1, 1]).add(&mut graph, found);
        let whole = case([1, all, 6, 7], [20, all, 3, 3]).padded().add(&mut graph, shuffled);
        let part = case([1, half, 6, 7], [half, half, 1, 1]).add(&mut graph, second);
        let lanes = case([1, half, 6, 7], [half, 1, 3, 3]).padded().add(&mut graph, second);
        let groups = case([1, all, 6, 7], [2 * parts, channels, 1, 1]).add(&mut graph, shuffled);
        for (index, y) in [whole, part, lanes, groups, again, of_found].into_iter().enumerate() {
            graph.add_output(format!("y{index}"), y);
        }
        check(&graph);
    }
}

/// Channels that are picked here and there: quads with holes, of which the last begins before its pixel's last channels.
#[test]
fn picked_channels_are_read_by_quads_with_holes() {
    let picks: [&[usize]; 5] = [
        &[0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15],
        &[15, 14, 2, 1, 0, 5],
        &[14, 15, 13],
        &[3, 3, 4, 3],
        &[8, 2, 3, 12, 9, 1, 14, 15],
    ];
    for picks in picks {
        let mut graph = Graph::new();
        let x = graph.add_input("x", TensorType::new(DType::U8, [1, 5, 9, 7]));
        let image = case([1, 5, 9, 7], [16, 5, 1, 1]).add(&mut graph, x);
        let sources = picks.iter().map(|&channel| ChannelSource { operand: 0, channel: channel as u32 });
        let op = ChannelSelect { sources: sources.collect() };
        let picked = graph.add("select", op.into(), &[Some(image)]).expect("a select").into();
        let n = picks.len();
        for (index, w) in [[40, n, 1, 1], [5, n, 3, 3], [2 * n, n / 2, 1, 1]].into_iter().enumerate() {
            if w[1] * 2 == n || w[1] == n {
                let layer = case([1, n, 9, 7], w);
                let layer = if w[2] == 3 { layer.padded() } else { layer };
                let y = layer.add(&mut graph, picked);
                graph.add_output(format!("y{index}"), y);
            }
        }
        check(&graph);
    }
}
