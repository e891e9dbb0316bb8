//! What a model was read from.

use std::fs;

use nnc_ir::onnx::{Bindings, Model};
use onnx_protobuf::{StringStringEntryProto, TensorProto};
use protobuf::EnumOrUnknown;

use crate::build::onnx;

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
    assert_eq!(model.source().collect::<Vec<_>>(), [&bytes[..], &data]);

    // Weights are read in place, whatever their alignment.
    let graph = model.graph(&Bindings::new()).unwrap();
    let x = nnc_ir::Tensor::new([2], &[1.0f32, 1.0]).unwrap();
    let y = nnc_ir::eval::run(&graph, &[x]).unwrap().remove(0);
    assert_eq!(y.elems::<f32>().unwrap()[..], [1.5, -10.0]);
}
