//! What is in the written models: valid graphs, in the form of common exporters, the same bytes every time.

use std::collections::BTreeSet;

use nnc_models::{Allowed, Architecture, Family, Half, Spec, build, encode, list};
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};

/// A quick variant of every architecture: the least resolution, and few classes.
fn small() -> impl Iterator<Item = Spec> {
    list().iter().map(least)
}

fn least(architecture: &Architecture) -> Spec {
    let resolution = match &architecture.resolution.allowed {
        Allowed::OneOf(values) => values[0],
        Allowed::Within(pixels) | Allowed::Multiples(_, pixels) => *pixels.start(),
    };
    let classes = architecture.classes.as_ref().map(|_| 4);
    Spec { classes, ..Spec::new(architecture.name) }.resolution(resolution)
}

/// The name of the only output.
fn output(graph: &GraphProto) -> &str {
    assert_eq!(graph.output.len(), 1);
    &graph.output[0].name
}

fn graph(spec: &Spec) -> GraphProto {
    build(spec).expect("the specification is valid").model.graph.unwrap_or_default()
}

fn count(graph: &GraphProto, op: &str) -> usize {
    graph.node.iter().filter(|node| node.op_type == op).count()
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    tensor.raw_data.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn every_value_is_defined_once_and_before_its_use() {
    for spec in small() {
        let graph = graph(&spec);
        let mut defined: BTreeSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(
            defined.len(),
            graph.initializer.len(),
            "{}: an initializer's name occurs twice",
            spec.name
        );
        defined.insert("input");
        for node in &graph.node {
            // An operand without a name is left out.
            for input in node.input.iter().filter(|input| !input.is_empty()) {
                assert!(defined.contains(input.as_str()), "{}: \"{}\" reads {input}", spec.name, node.name);
            }
            for output in &node.output {
                assert!(defined.insert(output), "{}: \"{}\" writes {output} again", spec.name, node.name);
            }
        }
        assert!(defined.contains(output(&graph)), "{}", spec.name);
    }
}

#[test]
fn every_node_has_a_name_of_its_own() {
    for spec in small() {
        let graph = graph(&spec);
        let names: BTreeSet<&str> = graph.node.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names.len(), graph.node.len(), "{}", spec.name);
    }
}

#[test]
fn every_computed_value_and_every_weight_is_used() {
    for spec in small() {
        let graph = graph(&spec);
        let read: BTreeSet<&str> =
            graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
        let written = graph.node.iter().flat_map(|node| &node.output);
        for value in written.chain(graph.initializer.iter().map(|tensor| &tensor.name)) {
            assert!(
                read.contains(value.as_str()) || value == output(&graph),
                "{}: {value} is not used",
                spec.name
            );
        }
    }
}

#[test]
fn the_same_specification_gives_the_same_bytes_and_another_seed_gives_others() {
    for spec in small() {
        let bytes = encode(&spec).expect("the specification is valid");
        assert_eq!(bytes, encode(&spec).expect("the specification is valid"), "{}", spec.name);
        assert_ne!(
            bytes,
            encode(&spec.clone().seed(1)).expect("the specification is valid"),
            "{}",
            spec.name
        );
    }
}

#[test]
fn batch_normalisation_is_a_node_with_statistics_that_differ_from_channel_to_channel() {
    let seeds = list().iter().filter(|a| a.family != Family::More).map(least);
    for spec in seeds.filter(|s| !s.name.starts_with("squeezenet") && s.name != "alexnet") {
        let graph = graph(&spec);
        let norms: Vec<&NodeProto> =
            graph.node.iter().filter(|n| n.op_type == "BatchNormalization").collect();
        assert!(norms.len() >= 20, "{} has {} of them", spec.name, norms.len());
        for norm in norms {
            for parameter in &norm.input[1..] {
                let tensor = graph.initializer.iter().find(|t| t.name == *parameter).expect("an initializer");
                let mut bits: Vec<u32> = floats(tensor).iter().map(|v| v.to_bits()).collect();
                let channels = bits.len();
                bits.sort_unstable();
                bits.dedup();
                // Two of many random numbers may be the same.
                assert!(bits.len() * 10 >= channels * 9, "{}: {parameter} repeats itself", spec.name);
            }
        }
    }
}

#[test]
fn variances_are_positive_and_all_weights_finite() {
    for spec in small() {
        for tensor in &graph(&spec).initializer {
            let values = floats(tensor);
            assert!(values.iter().all(|v| v.is_finite()), "{}: {}", spec.name, tensor.name);
            if tensor.name.ends_with("running_var") {
                assert!(values.iter().all(|&v| v > 0.0), "{}: {}", spec.name, tensor.name);
            }
        }
    }
}

#[test]
fn relu6_is_a_clip_between_constants() {
    let graph = graph(&Spec::new("mobilenet-v2").resolution(32).classes(4));
    // The stem, two in each of 17 blocks but for the first, which has no expansion, and the last convolution.
    assert_eq!(count(&graph, "Clip"), 1 + 2 * 17 - 1 + 1);
    assert_eq!(count(&graph, "Relu"), 0);
    let constants: BTreeSet<&String> =
        graph.node.iter().filter(|n| n.op_type == "Constant").flat_map(|n| &n.output).collect();
    for clip in graph.node.iter().filter(|n| n.op_type == "Clip") {
        assert!(clip.input[1..].iter().all(|bound| constants.contains(bound)), "\"{}\"", clip.name);
    }
}

#[test]
fn a_channel_shuffle_is_reshape_transpose_reshape() {
    for spec in [Spec::new("shufflenet-v1").groups(4), Spec::new("shufflenet-v2")] {
        let graph = graph(&spec.resolution(32).classes(4));
        let producer = |value: &String| graph.node.iter().find(|n| n.output.contains(value));
        let shuffles: Vec<&NodeProto> = graph.node.iter().filter(|n| n.op_type == "Transpose").collect();
        assert_eq!(shuffles.len(), 16, "one per unit");
        for transpose in shuffles {
            let before = producer(&transpose.input[0]).expect("a node");
            let after = graph.node.iter().find(|n| n.input.contains(&transpose.output[0])).expect("a node");
            assert_eq!((before.op_type.as_str(), after.op_type.as_str()), ("Reshape", "Reshape"));
            assert_eq!(transpose.attribute[0].ints, [0, 2, 1, 3, 4]);
        }
    }
}

#[test]
fn shufflenet_v1_without_groups_has_no_shuffle() {
    let graph = graph(&Spec::new("shufflenet-v1").groups(1).resolution(32).classes(4));
    assert_eq!(count(&graph, "Transpose"), 0);
}

#[test]
fn shufflenet_v2_splits_every_unit_of_stride_one() {
    let graph = graph(&Spec::new("shufflenet-v2").resolution(32).classes(4));
    assert_eq!(count(&graph, "Split"), 16 - 3);
}

#[test]
fn nasnet_reaches_odd_pixels_by_pad_slice_and_average_over_one() {
    let graph = graph(&Spec::new("nasnet-a-mobile").resolution(64).classes(4));
    // Where the two inputs of a cell differ in size: the second stem cell and the first normal cell of each stage.
    assert_eq!(count(&graph, "Pad"), 4);
    assert_eq!(count(&graph, "Slice"), 4);
}

#[test]
fn an_exposed_value_is_a_further_output() {
    let mut network =
        build(&Spec::new("mobilenet-v1").resolution(32).classes(4)).expect("the specification is valid");
    network.expose(["/features/0/Clip_output_0"]);
    let outputs: Vec<&str> = network.model.graph.output.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(outputs, ["logits", "/features/0/Clip_output_0"]);
}

#[test]
fn attention_is_two_products_and_a_softmax_in_each_block() {
    for (name, blocks, takes_apart) in
        [("vit-tiny-16", 12, ("Gather", 3)), ("mobilevit-xxs", 9, ("Squeeze", 3))]
    {
        let architecture = list().iter().find(|a| a.name == name).expect("an architecture");
        let graph = graph(&least(architecture));
        assert_eq!(count(&graph, "Softmax"), blocks, "{name}");
        // Queries by keys and weights by values, and four fully connected layers.
        assert_eq!(count(&graph, "MatMul"), (2 + 4) * blocks, "{name}");
        let (op, each) = takes_apart;
        // The classifier of the first one picks the class token.
        assert_eq!(count(&graph, op), each * blocks + usize::from(op == "Gather"), "{name}");
    }
}

#[test]
fn gelu_is_spelled_by_erf_and_swish_by_sigmoid() {
    let ops = |name: &str, op: &str| {
        let architecture = list().iter().find(|a| a.name == name).expect("an architecture");
        count(&graph(&least(architecture)), op)
    };
    assert_eq!(ops("convnext-atto", "Erf"), 12);
    assert_eq!(ops("vit-tiny-16", "Erf"), 12);
    // The stem, four in each of 16 blocks but for the first, which has no expansion, and the last convolution.
    assert_eq!(ops("efficientnet-b0", "Sigmoid"), 1 + 4 * 16 - 1 + 1);
    assert_eq!(ops("mobilenet-v3-large", "HardSigmoid"), 8);
}

#[test]
fn a_detector_has_a_box_and_scores_for_each_pixel_of_three_maps() {
    let graph = graph(&Spec::new("yolo-v8n").resolution(64));
    let shape = &graph.output[0].type_.tensor_type().shape;
    let dims: Vec<i64> = shape.dim.iter().map(|dim| dim.dim_value()).collect();
    assert_eq!(dims, [1, 4 + 80, 8 * 8 + 4 * 4 + 2 * 2]);
}

#[test]
fn scales_of_a_resize_stay_f32_in_half_floats() {
    let mut network = build(&Spec::new("yolo-v8n").resolution(32)).expect("the specification is valid");
    network.halve(Half::F16);
    let graph = network.model.graph;
    let scales: Vec<&String> =
        graph.node.iter().filter(|n| n.op_type == "Resize").map(|n| &n.input[2]).collect();
    assert_eq!(scales.len(), 2);
    for node in graph.node.iter().filter(|n| n.op_type == "Constant" && scales.contains(&&n.output[0])) {
        assert_eq!(node.attribute[0].t.raw_data.len(), 4 * size_of::<f32>(), "\"{}\"", node.name);
    }
}
