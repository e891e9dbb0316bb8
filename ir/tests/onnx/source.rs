//! What a model is read from, and when.

use std::fs;
use std::io::Write;

use nnc_ir::Tensor;
use nnc_ir::onnx::{Bindings, Fault, Model, SourcePart};
use onnx_protobuf::{StringStringEntryProto, TensorProto};
use protobuf::EnumOrUnknown;

use crate::build::{Onnx, onnx};

fn whole(part: &SourcePart<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    part.read(|piece| bytes.extend_from_slice(piece)).unwrap();
    assert_eq!((bytes.len() as u64, bytes.is_empty()), (part.len(), part.is_empty()));
    bytes
}

/// `x · w`, with more weights than a window over a file shows.
fn product() -> Onnx {
    let weights = TensorProto {
        name: "w".into(),
        data_type: 1,
        dims: vec![20_000],
        raw_data: (0..20_000).flat_map(|i| (i as f32).to_le_bytes()).collect(),
        ..Default::default()
    };
    let mut model = onnx(13).input("x", &["20000"]).output("y").node("Mul", &["x", "w"], &["y"], &[]);
    model.graph_mut().initializer.push(weights);
    model
}

fn twos() -> Tensor {
    Tensor::new([20_000], &[2.0f32; 20_000]).unwrap()
}

#[test]
fn the_source_of_a_model_holds_its_bytes_and_those_of_files_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let entry =
        StringStringEntryProto { key: "location".into(), value: "w.bin".into(), ..Default::default() };
    let outside = TensorProto {
        name: "w".into(),
        data_type: 1,
        dims: vec![2],
        external_data: vec![entry],
        data_location: EnumOrUnknown::from_i32(1),
        ..Default::default()
    };
    let inside = TensorProto {
        name: "v".into(),
        data_type: 1,
        dims: vec![2],
        raw_data: [1.0f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect(),
        ..Default::default()
    };
    let mut model = onnx(13).input("x", &["2"]).output("y");
    model.graph_mut().initializer = vec![outside, inside];
    let bytes = model.node("Add", &["x", "w"], &["z"], &[]).node("Mul", &["z", "v"], &["y"], &[]).bytes();
    let path = folder.path().join("model.onnx");
    fs::write(&path, &bytes).unwrap();

    let data = [0.5f32.to_le_bytes(), 4.0f32.to_le_bytes()].concat();
    fs::write(folder.path().join("w.bin"), &data).unwrap();
    let model = Model::open(&path).unwrap();
    let parts: Vec<Vec<u8>> = model.source().map(|part| whole(&part)).collect();
    assert_eq!(parts, [bytes, data]);

    let graph = model.graph(&Bindings::new()).unwrap();
    let x = Tensor::new([2], &[1.0f32, 1.0]).unwrap();
    let y = nnc_ir::eval::run(&graph, &[x]).unwrap().remove(0);
    assert_eq!(y.elems::<f32>().unwrap()[..], [1.5, -10.0]);
}

#[test]
fn each_graph_of_a_model_in_a_file_has_weights_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, product().bytes()).unwrap();
    let model = Model::open(&path).unwrap();
    let mut first = model.graph(&Bindings::new()).unwrap();
    let second = model.graph(&Bindings::new()).unwrap();
    let constants: Vec<_> = first.node_ids().filter(|id| first.constant((*id).into()).is_some()).collect();
    first.constant_bytes_mut(constants[0].into()).unwrap().fill(0);
    let last = |graph| nnc_ir::eval::run(graph, &[twos()]).unwrap()[0].elems::<f32>().unwrap()[19_999];
    assert_eq!((last(&first), last(&second)), (0.0, 2.0 * 19_999.0));
}

#[test]
fn a_model_that_was_written_to_after_it_was_opened_makes_no_graph() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let bytes = product().bytes();
    fs::write(&path, &bytes).unwrap();
    let model = Model::open(&path).unwrap();

    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&[0]).unwrap();
    let longer = model.graph(&Bindings::new()).unwrap_err();
    file.set_len(bytes.len() as u64 / 2).unwrap();
    let shorter = model.graph(&Bindings::new()).unwrap_err();
    for error in [longer, shorter] {
        assert!(matches!(*error.fault, Fault::Changed { .. }), "{error}");
        let expected = "has changed since the model was opened; open the model again";
        assert!(error.to_string().ends_with(expected), "{error}");
    }
    assert!(model.source().any(|part| part.read(|_| ()).is_err()));
}

#[test]
fn another_file_under_the_same_name_does_not_disturb_an_open_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, product().bytes()).unwrap();
    let model = Model::open(&path).unwrap();
    fs::write(folder.path().join("new"), b"something else").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    let graph = model.graph(&Bindings::new()).unwrap();
    let y = nnc_ir::eval::run(&graph, &[twos()]).unwrap().remove(0);
    assert_eq!(y.elems::<f32>().unwrap()[7], 14.0);
}

#[test]
fn a_model_is_the_same_from_a_file_and_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let bytes = product().bytes();
    fs::write(&path, &bytes).unwrap();
    let text = |model: Model| nnc_ir::text::print(&model.graph(&Bindings::new()).unwrap());
    assert_eq!(text(Model::open(&path).unwrap()), text(Model::from_bytes(bytes, None).unwrap()));
}
