//! What a model says about itself.

use onnx_protobuf::StringStringEntryProto;

use crate::build::onnx;

#[test]
fn a_model_tells_who_wrote_it_and_what_its_users_keep_in_it() {
    let mut model = onnx(13).input("x", &["3"]).output("y").node("Neg", &["x"], &["y"], &[]);
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: key.into(),
        value: value.into(),
        ..StringStringEntryProto::new()
    };
    model.proto.producer_name = "writer".into();
    model.proto.producer_version = "1.2".into();
    model.proto.domain = "org.example".into();
    model.proto.model_version = 7;
    model.proto.doc_string = "turns signs".into();
    model.proto.metadata_props = vec![entry("labels", "a\nb"), entry("author", "x"), entry("author", "y")];
    model.graph_mut().doc_string = "one node".into();

    let model = model.read().unwrap();
    let about = model.about();
    assert_eq!(model.producer(), "writer 1.2");
    assert_eq!((about.domain.as_str(), about.version), ("org.example", 7));
    assert_eq!((about.description.as_str(), about.graph_description.as_str()), ("turns signs", "one node"));
    assert_eq!(about.graph_name, "test");
    let properties: Vec<_> = about.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(properties, [("author", "y"), ("labels", "a\nb")]);
}
