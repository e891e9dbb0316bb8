//! Whatever the bytes: a model, or an error.

use nnc_ir::Limits;
use nnc_ir::onnx::{Bindings, Model};
use proptest::prelude::*;

use crate::build::{int, ints, onnx};

/// A model with something of everything.
fn seed() -> Vec<u8> {
    onnx(13)
        .input("x", &["n", "2", "6", "6"])
        .floats("w", &[4, 1, 3, 3], &[0.5; 36])
        .floats("v", &[4], &[0.25; 4])
        .ints("shape", &[0, -1])
        .ints("starts", &[1])
        .ints("ends", &[-1])
        .output("y")
        .node(
            "Conv",
            &["x", "w"],
            &["c"],
            &[int("group", 2), ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])],
        )
        .node("BatchNormalization", &["c", "v", "v", "v", "v"], &["b"], &[])
        .node("MaxPool", &["b"], &["p"], &[ints("kernel_shape", &[2, 2]), int("ceil_mode", 1)])
        .node("Slice", &["p", "starts", "ends"], &["s"], &[])
        .node("Split", &["p"], &["q", "r"], &[int("axis", 1)])
        .node("Concat", &["r", "q"], &["t"], &[int("axis", 1)])
        .node("Transpose", &["t"], &["u"], &[ints("perm", &[0, 2, 3, 1])])
        .node("Reshape", &["u", "shape"], &["y"], &[])
        .bytes()
}

/// Small enough that no guess of a size takes time or memory.
fn limits() -> Limits {
    Limits {
        file_bytes: 1 << 16,
        tensor_bytes: 1 << 20,
        weight_bytes: 1 << 20,
        nodes: 100,
        ..Limits::default()
    }
}

fn read(bytes: Vec<u8>) {
    if let Ok(model) = Model::from_bytes_with(bytes, None, limits()) {
        let mut bindings = Bindings::new();
        for name in model.named_dims() {
            bindings.dims.insert(name.to_string(), 2);
        }
        if let Ok(graph) = model.graph(&bindings) {
            graph.verify().unwrap();
        }
    }
}

#[test]
fn the_seed_of_the_mutations_is_sound() {
    let mut bindings = Bindings::new();
    bindings.bind_dim("n=2").unwrap();
    let graph = Model::from_bytes_with(seed(), None, limits()).unwrap().graph(&bindings).unwrap();
    assert_eq!(graph.ty(graph.outputs()[0].1).to_string(), "f32[2x16]");
}

#[test]
fn every_truncation_is_refused_or_read() {
    let bytes = seed();
    for end in 0..bytes.len() {
        read(bytes[..end].to_vec());
    }
}

#[test]
fn every_single_byte_may_be_wrong() {
    let bytes = seed();
    for at in 0..bytes.len() {
        for wrong in [0x00, 0x01, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(8)] {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            read(bytes);
        }
    }
}

proptest! {
    #[test]
    fn mutated_models_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = seed();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(bytes);
    }

    #[test]
    fn random_attribute_values_never_panic(
        op in prop::sample::select(vec![
            "Conv", "ConvTranspose", "MaxPool", "AveragePool", "Pad", "Slice", "Split", "Reshape", "Transpose", "Gather",
            "Tile", "Expand", "Squeeze", "Unsqueeze", "Flatten", "DepthToSpace", "SpaceToDepth", "ConstantOfShape", "Range",
            "TopK", "CumSum", "Trilu", "GatherElements", "GatherND", "OneHot",
        ]),
        opset in 7i64..=22,
        list in prop::collection::vec(extreme(), 0..6),
        more in prop::collection::vec(extreme(), 0..6),
        number in extreme(),
    ) {
        let attribute_names: &[&str] = match op {
            "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" => &["kernel_shape", "strides", "dilations", "pads"],
            "Transpose" => &["perm"],
            "Slice" => &["starts", "ends", "axes"],
            "Squeeze" | "Unsqueeze" => &["axes"],
            "Split" => &["split"],
            "Pad" => &["pads"],
            _ => &[],
        };
        let number_names: &[&str] = match op {
            "Conv" | "ConvTranspose" => &["group"],
            "DepthToSpace" | "SpaceToDepth" => &["blocksize"],
            "Flatten" | "Gather" | "Split" | "TopK" | "GatherElements" | "OneHot" => &["axis"],
            "GatherND" => &["batch_dims"],
            _ => &[],
        };
        let mut attributes: Vec<_> = attribute_names.iter().enumerate()
            .filter(|(i, _)| opset % 2 == 0 || *i == 0)
            .map(|(i, name)| ints(name, if i % 2 == 0 { &list } else { &more }))
            .collect();
        attributes.extend(number_names.iter().map(|name| int(name, number)));
        let weights = matches!(op, "Conv" | "ConvTranspose");
        let operands: &[&str] = match op {
            "ConstantOfShape" => &["list"],
            "Range" => &["list", "more", "number"],
            _ if weights => &["x", "w"],
            "Slice" if opset >= 10 => &["x", "list", "more"],
            "Pad" if opset < 11 => &["x"],
            "Squeeze" | "Unsqueeze" | "Split" if opset < 13 => &["x"],
            "OneHot" => &["list", "number", "more"],
            "CumSum" | "Trilu" => &["x", "number"],
            "TopK" if opset < 10 => &["x"],
            "TopK" => &["x", "number"],
            "GatherElements" | "GatherND" => &["x", "list"],
            "Pad" | "Reshape" | "Gather" | "Tile" | "Expand" | "Squeeze" | "Unsqueeze" | "Split" => &["x", "list"],
            _ => &["x"],
        };
        let model = onnx(opset)
            .input("x", &["1", "4", "5", "6"])
            .floats("w", &[4, 4, 3, 3], &[0.5; 144])
            .ints("list", &list)
            .ints("more", &more)
            .ints("number", &[number])
            .output("y")
            .node(op, operands, &["y"], &attributes);
        read(model.bytes());
    }
}

/// Numbers as they should be, and as they should not.
fn extreme() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -3i64..8,
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, i64::MIN + 1, 1 << 31, 1 << 32, -(1 << 31), 1 << 62, 65536]),
    ]
}
