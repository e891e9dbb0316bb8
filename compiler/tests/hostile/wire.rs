//! Bytes that are no sound protocol buffer, or one that is nested without end.

use onnx_protobuf::{GraphProto, NodeProto, TypeProto, type_proto};
use protobuf::MessageField;

use crate::case::Case;
use crate::model::*;

/// A small network with a bit of everything.
fn network() -> Vec<u8> {
    model()
        .input("x", &[1, 2, 8, 8])
        .floats("w", &[4, 2, 3, 3], &[0.25; 72])
        .floats("s", &[4], &[0.5; 4])
        .ints("flat", &[1, -1])
        .node("Conv", &["x", "w"], &["c"], &[ints("pads", &[1, 1, 1, 1])])
        .node("BatchNormalization", &["c", "s", "s", "s", "s"], &["b"], &[])
        .node("Relu", &["b"], &["r"], &[])
        .node("MaxPool", &["r"], &["p"], &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
        .node("Reshape", &["p", "flat"], &["y"], &[])
        .output("y")
        .bytes()
}

/// Models that end too early.
pub fn truncation() -> Vec<Case> {
    let whole = network();
    let mut cases = vec![
        Case::refused("empty", "a file of no bytes", vec![], &["the file is empty"]),
        Case::refused("one_byte", "the first byte alone", whole[..1].to_vec(), &["not an ONNX model"]),
        Case::refused("version_only", "the first field alone", whole[..2].to_vec(), &["holds no graph"]),
        Case::refused(
            "no_graph",
            "the fields in front of the graph",
            whole[..6].to_vec(),
            &["holds no graph"],
        ),
    ];
    for part in 1..=12 {
        let len = whole.len() * part / 13;
        let about = format!("the first {part} of 13 parts of a network");
        cases.push(Case::refused(
            format!("at_{part}_of_13"),
            about,
            whole[..len].to_vec(),
            &["not an ONNX model", "bytes"],
        ));
    }
    let (about, short) = ("all but the last byte", whole[..whole.len() - 1].to_vec());
    cases.push(Case::refused("last_byte", about, short, &["not an ONNX model"]));
    cases
}

/// Bytes that make no sense.
pub fn wire() -> Vec<Case> {
    let not = &["not an ONNX model"][..];
    let mut cases = vec![];
    for seed in 1..=4 {
        let bytes = noise(seed * 0x9e37_79b9).take(4096).collect();
        cases.push(Case::refused(format!("noise_{seed}"), "4096 bytes of noise", bytes, not));
    }
    for (number, every) in [(1, 7), (2, 31), (3, 101)] {
        let mut bytes = network();
        let places = (20..bytes.len()).step_by(every);
        places.zip(noise(number)).for_each(|(at, byte)| bytes[at] = byte);
        let about = format!("a network with every {every}th byte overwritten");
        cases.push(Case::bounded(format!("damaged_{every}"), about, bytes, &["error: "]));
    }
    let with = |name, about: &str, bytes: Vec<u8>, words| Case::refused(name, about, bytes, words);
    cases.extend([
        with("graph_is_a_number", "the field of the graph holds a number", vec![7 << 3, 5], not),
        with("group_bomb", "100,000 groups within each other", vec![0x0b; 100_000], not),
        with("field_zero", "a field with number 0", vec![0x02, 0x00], not),
        with("wire_type_seven", "a wire type that does not exist", vec![0x0f, 0x00], not),
        with("endless_varint", "a number of twelve bytes", vec![0xff; 12], not),
        with(
            "length_of_2_63",
            "a field that says that it is 2^63 bytes long",
            [vec![7 << 3 | 2], varint(1 << 63), vec![0; 16]].concat(),
            not,
        ),
        with("zip", "a zip archive", b"PK\x03\x04 and so on".to_vec(), &["zip archive"]),
        with("text", "a text", b"import torch\nmodel = torch.load(\n".to_vec(), &["text file"]),
        with("elf_in_disguise", "an ELF file's first bytes", b"\x7fELFx".to_vec(), &["compiled already"]).code(2),
        with(
            "name_is_no_text",
            "an operator whose name is no UTF-8",
            field(7, &field(1, &[field(4, &[0xff, 0xfe]), field(2, b"y")].concat())),
            &["not an ONNX model", "cannot be parsed"],
        ),
        with("graph_of_nothing", "a graph of no fields", field(7, &[]), &["its ir_version is 0"]),
        with(
            "format_of_nothing",
            "a version of the format before the first",
            [network(), varint(1 << 3), varint(0)].concat(),
            &["its ir_version is 0"],
        ),
        with(
            "two_graphs",
            "the network, and a second graph that some parsers merge with the first and others take in its place",
            [network(), field(7, &field(1, &[field(2, b"c"), field(4, b"Relu")].concat()))].concat(),
            &["not an ONNX model", "two graphs"],
        ),
    ]);
    cases
}

/// Messages within messages.
pub fn nesting() -> Vec<Case> {
    let deep = |levels: usize| {
        let mut inner = vec![];
        for _ in 0..levels {
            // A graph with a node with an attribute that is a graph.
            inner = field(1, &field(5, &field(6, &inner)));
        }
        field(7, &inner)
    };
    let mut types = tensor_type(F32, &[1]);
    for _ in 0..30 {
        let sequence = type_proto::Sequence { elem_type: MessageField::some(types), ..Default::default() };
        types = TypeProto { value: Some(type_proto::Value::SequenceType(sequence)), ..Default::default() };
    }
    let types = types.value.expect("a type");
    let mut branch = GraphProto::default();
    for _ in 0..12 {
        let attributes = [graph("then_branch", branch.clone()), graph("else_branch", branch)];
        let node: NodeProto = node("If", &["c"], &["y"], &attributes);
        branch = GraphProto { node: vec![node], ..Default::default() };
    }
    let conditions = model().input_of("c", BOOL, &[]).output("y");
    let mut doubling = conditions.clone();
    doubling.graph().node = branch.node;
    vec![
        Case::refused("graphs_30", "30 levels of subgraphs", deep(30), &["nesting", "--limit-depth"]),
        Case::refused("graphs_5000", "5,000 levels of subgraphs", deep(5000), &["nesting", "--limit-depth"]),
        Case::refused(
            "beyond_the_parser",
            "40 levels of subgraphs, allowed by the flag, but more than the parser follows",
            deep(40),
            &["not an ONNX model", "cannot be parsed"],
        )
        .flags(&["--limit-depth", "1000"]),
        Case::refused(
            "sequences_30",
            "an input that is a sequence of sequences, 30 times",
            model().input_as("x", types).output("x").bytes(),
            &["nesting", "--limit-depth"],
        ),
        Case::refused(
            "branches_double",
            "an If whose branches are Ifs, 12 levels deep: 8,190 nodes",
            doubling.bytes(),
            &["error: "],
        ),
    ]
}
