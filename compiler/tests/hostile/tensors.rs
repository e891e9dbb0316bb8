//! Constant data that are not what they say, or lie where they should not be looked for; types that are no tensors.

use nnc_ir::Tensor;
use onnx_protobuf::{SparseTensorProto, TensorProto, type_proto};
use protobuf::{EnumOrUnknown, MessageField};

use crate::case::{Beside, Case};
use crate::model::*;

/// `y = x + w`.
fn sum(w: TensorProto) -> HostileModel {
    model().input("x", &[2]).tensor(w).node("Add", &["x", "w"], &["y"], &[]).output("y")
}

/// Initializers.
pub fn initializers() -> Vec<Case> {
    let with = |name, about: &str, w: TensorProto, words| Case::refused(name, about, sum(w).bytes(), words);
    let raw = |bytes: usize| TensorProto { raw_data: vec![0; bytes], ..tensor("w", F32, &[2]) };
    let needs = &["tensor \"w\"", "needs 8 bytes"][..];
    let mut cases = vec![
        with("raw_too_short", "7 bytes for two floats", raw(7), needs),
        with("raw_too_long", "9 bytes for two floats", raw(9), needs),
        with("no_data", "two floats without data", tensor("w", F32, &[2]), needs),
        with("list_too_short", "a list of one for two", floats("w", &[2], &[1.0]), needs),
        with(
            "list_of_another_type",
            "integers in the list of floats",
            TensorProto { float_data: vec![0.0; 2], ..tensor("w", I64, &[2]) },
            &["tensor \"w\"", "needs 16 bytes"],
        ),
        with(
            "two_ways",
            "raw data and a list",
            TensorProto { float_data: vec![1.0; 2], ..raw(8) },
            &["tensor \"w\"", "several ways"],
        ),
        with(
            "out_of_range",
            "256 as a byte",
            TensorProto { int32_data: vec![0, 256], ..tensor("w", 2, &[2]) },
            &["256 is outside the range"],
        ),
        with("negative_dim", "a dim of -2", floats("w", &[-2], &[1.0; 2]), &["tensor \"w\"", "-2"]),
        with("dim_min", "a dim of -2^63", floats("w", &[i64::MIN], &[1.0; 2]), &["tensor \"w\""]),
        with(
            "overflow",
            "2^62 · 2^62 elements",
            floats("w", &[1 << 62, 1 << 62], &[1.0; 2]),
            &["tensor \"w\"", "--limit-tensor"],
        ),
        with(
            "overflow_to_two",
            "(2^63 + 1) · 2 elements, which is 2 when it overflows",
            floats("w", &[(1 << 62) + 1, 4, 2], &[1.0; 2]),
            &["tensor \"w\"", "--limit-tensor"],
        ),
        with(
            "terabyte",
            "a terabyte that is said to be there",
            tensor("w", F32, &[1 << 38]),
            &["tensor \"w\"", "1099511627776 bytes", "--limit-tensor"],
        ),
        with(
            "gigabyte",
            "a gigabyte that is said to be there",
            tensor("w", F32, &[1 << 28]),
            &["tensor \"w\"", "needs 1073741824 bytes of data, it has 0"],
        ),
        with("rank_1000", "1,000 axes", floats("w", &[1; 1000], &[1.0]), &["tensor \"w\"", "--limit-rank"]),
        with(
            "no_type",
            "no element type",
            floats("w", &[2], &[1.0; 2]).typed(0),
            &["tensor \"w\"", "not given"],
        ),
        with(
            "type_99",
            "an element type that does not exist",
            floats("w", &[2], &[1.0; 2]).typed(99),
            &["99"],
        ),
        with(
            "type_min",
            "element type -2^31",
            floats("w", &[2], &[1.0; 2]).typed(i32::MIN),
            &["tensor \"w\""],
        ),
        with(
            "strings",
            "texts",
            TensorProto { string_data: vec![b"a".to_vec(); 2], ..tensor("w", STRING, &[2]) },
            &["tensor \"w\"", "string"],
        ),
        with("no_name", "an initializer without a name", floats("", &[2], &[1.0; 2]), &["needs a name"]),
        with(
            "segment",
            "a part of a tensor",
            TensorProto { segment: MessageField::some(Default::default()), ..floats("w", &[2], &[1.0; 2]) },
            &["tensor \"w\"", "segments"],
        ),
        with(
            "location_of_unknown_kind",
            "data at a location of kind 5",
            TensorProto { data_location: EnumOrUnknown::from_i32(5), ..raw(8) },
            &["tensor \"w\"", "unknown kind 5"],
        ),
    ];
    let empty = sum(floats("w", &[0, 2], &[])).bytes();
    let nothing = [("y", array(&[0, 2], &[]))];
    cases.push(Case::right(
        "zero_rows",
        "no rows at all",
        empty,
        &[("x", array(&[2], &[1.0, 2.0]))],
        &nothing,
    ));
    cases
}

trait Typed {
    fn typed(self, data_type: i32) -> Self;
}

impl Typed for TensorProto {
    fn typed(self, data_type: i32) -> TensorProto {
        TensorProto { data_type, ..self }
    }
}

/// Data in files.
pub fn external_data() -> Vec<Case> {
    let at = |entries: &[(&str, &str)]| sum(external("w", &[2], entries)).bytes();
    let in_file = |path: &str| at(&[("location", path)]);
    let secret = || Beside::File("../secret", vec![0; 8]);
    let outside = &["tensor \"w\"", "outside the model's folder"][..];
    let refused = |name, about: &str, model, words, beside: Vec<Beside>| {
        Case::refused(name, about, model, words).beside(beside)
    };
    let bytes: Vec<u8> = [0.5f32, -1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let x = array(&[2], &[1.0, 2.0]);
    let y = array(&[2], &[1.5, 1.0]);
    let right = |name, about: &str, model, beside: Vec<Beside>| {
        Case::right(name, about, model, &[("x", x.clone())], &[("y", y.clone())]).beside(beside)
    };
    let whole = Beside::File("w.bin", bytes.clone());
    let past = &["tensor \"w\"", "needs 8 bytes from offset"][..];
    vec![
        refused("parent", "a file above the folder", in_file("../secret"), outside, vec![secret()]),
        refused(
            "parent_inside",
            "a path that goes down and then up too far",
            in_file("sub/../../secret"),
            outside,
            vec![secret(), Beside::Folder("sub")],
        ),
        refused("absolute", "an absolute path", in_file("/etc/passwd"), outside, vec![]),
        refused("backslash", "a path for another system", in_file("..\\secret"), outside, vec![secret()]),
        refused(
            "link_out",
            "a symbolic link out of the folder",
            in_file("link"),
            outside,
            vec![secret(), Beside::Link("link", "../secret")],
        ),
        refused(
            "folder_link_out",
            "a file in a folder that is a symbolic link out",
            in_file("up/secret"),
            outside,
            vec![secret(), Beside::Link("up", "..")],
        ),
        refused(
            "link_to_a_device",
            "a symbolic link to endless zeros",
            in_file("zero"),
            outside,
            vec![Beside::Link("zero", "/dev/zero")],
        ),
        refused(
            "link_circle",
            "symbolic links in a circle",
            in_file("a"),
            &["tensor \"w\"", "cannot be read"],
            vec![Beside::Link("a", "b"), Beside::Link("b", "a")],
        ),
        refused(
            "pipe",
            "a pipe that nobody writes to",
            in_file("pipe"),
            &["tensor \"w\"", "not in a regular file"],
            vec![Beside::Pipe("pipe")],
        ),
        refused(
            "folder",
            "a folder",
            in_file("sub"),
            &["tensor \"w\"", "not in a regular file"],
            vec![Beside::Folder("sub")],
        ),
        refused("missing", "a file that is not there", in_file("none"), &["tensor \"w\"", "none"], vec![]),
        refused(
            "nul",
            "a path with a zero byte",
            in_file("w\0.bin"),
            &["tensor \"w\"", "cannot be read"],
            vec![],
        ),
        refused("no_location", "no path", at(&[("offset", "0")]), &["tensor \"w\"", "no location"], vec![]),
        refused(
            "long_path",
            "a path of 100,000 bytes",
            in_file(&"d/".repeat(50_000)),
            &["tensor \"w\""],
            vec![],
        ),
        refused(
            "past_the_end",
            "an offset in the file, but too near its end",
            at(&[("location", "w.bin"), ("offset", "4")]),
            past,
            vec![whole.clone()],
        ),
        refused(
            "offset_max",
            "an offset of 2^64 - 4",
            at(&[("location", "w.bin"), ("offset", "18446744073709551612")]),
            past,
            vec![whole.clone()],
        ),
        refused(
            "offset_negative",
            "an offset of -8",
            at(&[("location", "w.bin"), ("offset", "-8")]),
            &["tensor \"w\"", "\"-8\", not a number"],
            vec![whole.clone()],
        ),
        refused(
            "other_length",
            "a length that is not the tensor's",
            at(&[("location", "w.bin"), ("length", "4")]),
            &["tensor \"w\"", "needs 8 bytes, its external data have 4"],
            vec![whole.clone()],
        ),
        refused(
            "too_short",
            "a gigabyte in a file of 8 bytes",
            sum(external("w", &[1 << 28], &[("location", "w.bin")])).bytes(),
            &["tensor \"w\"", "needs 1073741824 bytes from offset 0", "8 bytes long"],
            vec![whole.clone()],
        ),
        right("beside", "a file beside the model, which is as it should be", in_file("w.bin"), vec![whole]),
        right(
            "link_inside",
            "a symbolic link that stays in the folder",
            in_file("link"),
            vec![
                Beside::Folder("sub"),
                Beside::File("sub/w.bin", bytes.clone()),
                Beside::Link("link", "sub/w.bin"),
            ],
        ),
        right(
            "hard_link",
            "another name of a file outside: it cannot be told from the file itself",
            in_file("hard"),
            vec![Beside::File("../secret", bytes), Beside::HardLink("hard", "../secret")],
        ),
    ]
}

/// Inputs and initializers that are no dense tensors of numbers.
pub fn exotic_types() -> Vec<Case> {
    let relu = |model: HostileModel| model.node("Relu", &["x"], &["y"], &[]).output("y").bytes();
    let typed = |elem_type| relu(model().input_of("x", elem_type, &[2]));
    let sequence =
        type_proto::Sequence { elem_type: MessageField::some(tensor_type(F32, &[2])), ..Default::default() };
    let map = type_proto::Map {
        key_type: I64,
        value_type: MessageField::some(tensor_type(F32, &[2])),
        ..Default::default()
    };
    let optional =
        type_proto::Optional { elem_type: MessageField::some(tensor_type(F32, &[2])), ..Default::default() };
    let sparse = type_proto::SparseTensor { elem_type: F32, ..Default::default() };
    let no_tensor = &["input \"x\"", "is no tensor"][..];
    let mut sparse_weights = sum(floats("v", &[2], &[1.0; 2]));
    sparse_weights.graph().sparse_initializer.push(SparseTensorProto {
        values: MessageField::some(floats("w", &[1], &[1.0])),
        indices: MessageField::some(TensorProto { int64_data: vec![1 << 60], ..tensor("", I64, &[1]) }),
        dims: vec![1 << 61],
        ..Default::default()
    });
    let as_input = |value| relu(model().input_as("x", value));
    use type_proto::Value::*;
    vec![
        Case::refused("text_input", "an input of texts", typed(STRING), &["input \"x\"", "string"]),
        Case::refused("complex_input", "an input of complex numbers", typed(14), &["input \"x\"", "complex"]),
        Case::refused("float8_input", "an input of floats of 8 bits", typed(17), &["input \"x\"", "float8"]),
        Case::refused("type_0_input", "an input of no element type", typed(0), &["input \"x\""]),
        Case::refused("type_max_input", "an input of element type 2^31-1", typed(i32::MAX), &["input \"x\""]),
        Case::refused("sequence", "an input that is a sequence", as_input(SequenceType(sequence)), no_tensor),
        Case::refused("map", "an input that is a map", as_input(MapType(map)), no_tensor),
        Case::refused(
            "optional",
            "an input that may be missing",
            as_input(OptionalType(optional)),
            no_tensor,
        ),
        Case::refused(
            "sparse_input",
            "an input that is sparse",
            as_input(SparseTensorType(sparse)),
            no_tensor,
        ),
        Case::refused(
            "sparse_initializer",
            "a sparse initializer with an index past its end",
            sparse_weights.bytes(),
            &["sparse"],
        ),
        Case::refused(
            "text_constant",
            "a constant of texts",
            model().node("Constant", &[], &["y"], &[text("value_string", "a")]).output("y").bytes(),
            &["\"y\" (Constant"],
        ),
        Case::right(
            "odd_bools",
            "booleans that are neither 0 nor 1",
            model()
                .input("x", &[2])
                .tensor(TensorProto { raw_data: vec![0, 0xfe], ..tensor("c", BOOL, &[2]) })
                .floats("n", &[1], &[-9.0])
                .node("Where", &["c", "x", "n"], &["y"], &[])
                .output("y")
                .bytes(),
            &[("x", array(&[2], &[1.0, 2.0]))],
            &[("y", array(&[2], &[-9.0, 2.0]))],
        ),
        Case::right(
            "scalars",
            "inputs without axes",
            model().input("x", &[]).node("Neg", &["x"], &["y"], &[]).output("y").bytes(),
            &[("x", Tensor::new(vec![], &[3.5f32]).expect("a scalar"))],
            &[("y", Tensor::new(vec![], &[-3.5f32]).expect("a scalar"))],
        ),
    ]
}
