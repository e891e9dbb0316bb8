//! What is in the written models: valid graphs, in the form of common exporters, the same bytes every time.

use std::collections::BTreeSet;

use nnc_models::{Spec, build, encode, list};
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};

/// A quick variant of every architecture.
fn small() -> impl Iterator<Item = Spec> {
    list().iter().map(|a| Spec::new(a.name).resolution(if a.name == "alexnet" { 63 } else { 32 }).classes(4))
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
            for input in &node.input {
                assert!(defined.contains(input.as_str()), "{}: \"{}\" reads {input}", spec.name, node.name);
            }
            for output in &node.output {
                assert!(defined.insert(output), "{}: \"{}\" writes {output} again", spec.name, node.name);
            }
        }
        assert!(defined.contains("logits"), "{}", spec.name);
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
            assert!(read.contains(value.as_str()) || value == "logits", "{}: {value} is not used", spec.name);
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
    for spec in small().filter(|s| !s.name.starts_with("squeezenet") && s.name != "alexnet") {
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
