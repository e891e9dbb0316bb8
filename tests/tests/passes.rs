//! All passes over all built-in architectures: what they compute stays, and what remains are the layers that code is made for.

use std::collections::BTreeMap;
use std::fmt::Write;

use nnc::passes::{self, OptimiseReport, PassOptions};
use nnc_ir::op::Prologue;
use nnc_ir::{Graph, Op, eval, onnx, text};
use nnc_models::Spec;

fn read(spec: &Spec) -> Graph {
    let bytes = nnc_models::encode(spec).expect("the model can be built");
    let model = onnx::Model::from_bytes(bytes, None).expect("the model can be read");
    model.graph(&onnx::Bindings::new()).expect("the model is a graph")
}

fn optimised(graph: &Graph) -> (Graph, OptimiseReport) {
    let mut graph = graph.clone();
    let report = passes::optimise(&mut graph, &PassOptions::default()).expect("the passes run");
    graph.verify().expect("the graph holds together");
    (graph, report)
}

/// Evaluates the network before and after the passes at a small resolution, and lists the operators that remain in the
/// network at its full size, what was fused into them, and what each pass did.
fn check(spec: Spec, small: Spec) {
    let before = read(&small);
    let (after, _) = optimised(&before);
    let input = text::hash(before.node(before.inputs()[0]).outputs[0].clone(), 1, 1.0).expect("an input");
    let expected = eval::run(&before, std::slice::from_ref(&input)).expect("evaluates before");
    let got = eval::run(&after, &[input]).expect("evaluates after");
    for (expected, got) in expected.iter().zip(&got) {
        let (a, b) = (expected.elems::<f32>().expect("f32"), got.elems::<f32>().expect("f32"));
        let largest = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let difference = a.iter().zip(&*b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(largest > 0.0 && largest.is_finite(), "the network says nothing");
        assert!(difference <= 1e-5 * largest, "differs by {difference}, the largest logit is {largest}");
    }

    let (graph, report) = optimised(&read(&spec));
    let mut name = spec.name.clone();
    if let Some(groups) = spec.groups {
        write!(name, "-g{groups}").expect("a string");
    }
    insta::assert_snapshot!(name, describe(&graph, &report));
}

/// How many nodes there are of each operator, with what is in them; and the summary lines of the passes.
fn describe(graph: &Graph, report: &OptimiseReport) -> String {
    let mut layers: BTreeMap<String, usize> = BTreeMap::new();
    for id in graph.node_ids() {
        let op = &graph.node(id).op;
        if !matches!(op, Op::Input | Op::Constant(_)) {
            *layers.entry(kind(op)).or_default() += 1;
        }
    }
    let mut text = String::new();
    for (kind, count) in layers {
        writeln!(text, "{count:4} {kind}").expect("a string");
    }
    writeln!(text, "\nafter {} rounds:", report.rounds).expect("a string");
    for pass in report.passes.iter().filter(|p| !p.counts.is_empty()) {
        writeln!(text, "{pass}").expect("a string");
    }
    text
}

fn kind(op: &Op) -> String {
    let prologue = |p: &Prologue| match (p.affine, p.activation) {
        (false, None) => String::new(),
        (true, None) => "affine > ".to_string(),
        (false, Some(a)) => format!("{a:?} > "),
        (true, Some(a)) => format!("affine {a:?} > "),
    };
    let mut text = match op {
        Op::Conv(c) => prologue(&c.prologue),
        Op::Pool(p) => prologue(&p.prologue),
        Op::GlobalPool(p) => prologue(&p.prologue),
        _ => String::new(),
    };
    text += op.name();
    let epilogue = match op {
        Op::Conv(c) => Some(c.epilogue),
        Op::Pool(p) => Some(p.epilogue),
        _ => None,
    };
    if let Some(epilogue) = epilogue {
        if let Some(residual) = epilogue.residual {
            write!(text, " > residual {residual:?}").expect("a string");
        }
        if let Some(activation) = epilogue.activation {
            write!(text, " > {activation:?}").expect("a string");
        }
    }
    text
}

macro_rules! networks {
    ($($test:ident: $name:literal $(.$option:ident($value:expr))*, small $(.$small:ident($small_value:expr))+;)*) => {
        $(#[test]
        fn $test() {
            let spec = Spec::new($name)$(.$option($value))*;
            check(spec.clone(), spec$(.$small($small_value))+);
        })*
    };
}

networks! {
    mobilenet_v1_becomes_convolutions: "mobilenet-v1", small.resolution(32);
    mobilenet_v2_becomes_convolutions: "mobilenet-v2", small.resolution(32);
    squeezenet_1_0_becomes_convolutions_and_channel_selects: "squeezenet-1.0", small.resolution(64);
    squeezenet_1_1_becomes_convolutions_and_channel_selects: "squeezenet-1.1", small.resolution(64);
    shufflenet_v1_g1_has_no_step_for_shuffles: "shufflenet-v1".groups(1), small.resolution(32);
    shufflenet_v1_g3_has_no_step_for_shuffles: "shufflenet-v1".groups(3), small.resolution(32);
    shufflenet_v1_g8_has_no_step_for_shuffles: "shufflenet-v1".groups(8), small.resolution(32);
    shufflenet_v2_has_no_step_for_shuffles_and_splits: "shufflenet-v2", small.resolution(32);
    nasnet_has_activations_pads_and_sums_in_its_layers: "nasnet-a-mobile", small.resolution(32);
    alexnet_becomes_convolutions: "alexnet", small.resolution(64).classes(10);
    resnet_18_has_its_sums_in_its_convolutions: "resnet-18", small.resolution(32);
    resnet_50_has_its_sums_in_its_convolutions: "resnet-50", small.resolution(32);
    densenet_121_has_its_batch_norms_in_its_convolutions: "densenet-121", small.resolution(32);
    xception_becomes_convolutions: "xception", small.resolution(32);
    mobilenet_v3_small_keeps_its_gates: "mobilenet-v3-small", small.resolution(32);
    mobilenet_v3_large_keeps_its_gates: "mobilenet-v3-large", small.resolution(32);
    efficientnet_b0_keeps_its_gates: "efficientnet-b0", small.resolution(32);
    ghostnet_has_no_step_for_concats_and_slices: "ghostnet", small.resolution(32);
    convnext_atto_keeps_its_layer_norms: "convnext-atto", small.resolution(32);
    vit_tiny_keeps_its_attention: "vit-tiny-16", small.resolution(32);
    mobilevit_xxs_keeps_its_attention: "mobilevit-xxs", small.resolution(64);
    yolo_v8n_becomes_convolutions_and_a_head: "yolo-v8n", small.resolution(32);
    unet_small_becomes_convolutions: "unet-small", small.resolution(16);
    espcn_becomes_convolutions_and_a_shuffle: "espcn-x3", small.resolution(8);
    crnn_keeps_its_loops: "crnn", small.resolution(8);
}
