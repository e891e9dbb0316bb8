//! Reductions: which axes they take, and what is left of them without any.

use nnc_ir::{DType, Tensor};

use crate::build::{I64, Onnx, f32s, int, one, onnx, typed};

/// A reduction of `data` of `[2, 3]` without axes: left out, or an empty list.
fn without_axes(op: &str, empty_list: bool, elem_type: i32, noop: i64) -> Onnx {
    let opset = if op == "ReduceSum" { 13 } else { 18 };
    let model = onnx(opset).input_of("x", elem_type, &["2", "3"]).output("y");
    let (model, operands) = match empty_list {
        true => (model.ints("axes", &[]), vec!["x", "axes"]),
        false => (model, vec!["x"]),
    };
    model.node(op, &operands, &["y"], &[int("noop_with_empty_axes", noop), int("keepdims", 0)])
}

const X: [f32; 6] = [-2.0, -0.5, 0.0, 1.0, 3.0, 1000.0];

#[test]
fn a_reduction_over_no_axes_keeps_what_it_does_to_elements() {
    let same = |v: f32| v;
    let cases: [(&str, fn(f32) -> f32); 10] = [
        ("ReduceSum", same),
        ("ReduceMean", same),
        ("ReduceMax", same),
        ("ReduceMin", same),
        ("ReduceProd", same),
        ("ReduceLogSumExp", same),
        ("ReduceL1", f32::abs),
        ("ReduceL2", f32::abs),
        ("ReduceSumSquare", |v| v * v),
        ("ReduceLogSum", f32::ln),
    ];
    let x = Tensor::new([2, 3], &X).unwrap();
    for (op, element) in cases {
        for empty_list in [false, true] {
            let y = without_axes(op, empty_list, 1, 1).run([x.clone()]);
            assert_eq!(y.ty(), x.ty(), "{op}");
            for (got, v) in f32s(&y).into_iter().zip(X) {
                let expected = element(v);
                let same = got == expected || (got.is_nan() && expected.is_nan());
                assert!(same || (got - expected).abs() < 1e-6, "{op} of {v} is {got}, expected {expected}");
            }
        }
    }
}

#[test]
fn integers_alone_stay_integers() {
    let x = Tensor::new([2, 3], &[-7i64, -1, 0, 1, 3, 1 << 20]).unwrap();
    for (op, expected) in [
        ("ReduceL1", [7, 1, 0, 1, 3, 1 << 20]),
        ("ReduceL2", [7, 1, 0, 1, 3, 1 << 20]),
        ("ReduceSumSquare", [49, 1, 0, 1, 9, 1 << 40]),
        ("ReduceMean", [-7, -1, 0, 1, 3, 1 << 20]),
    ] {
        assert_eq!(
            without_axes(op, false, I64, 1).run([x.clone()]).elems::<i64>().unwrap()[..],
            expected,
            "{op}"
        );
    }
    let x = Tensor::new([2, 3], &[1i64, 2, 3, 8, 20, 21]).unwrap();
    let y = without_axes("ReduceLogSum", false, I64, 1).run([x]);
    assert_eq!(y.elems::<i64>().unwrap()[..], [0, 0, 1, 2, 2, 3]);
}

#[test]
fn without_the_attribute_all_axes_are_reduced() {
    let x = Tensor::new([2, 3], &X).unwrap();
    for empty_list in [false, true] {
        let y = without_axes("ReduceL1", empty_list, 1, 0).run([x.clone()]);
        assert_eq!(y.ty().to_string(), "f32[]");
        assert_eq!(f32s(&y), [1006.5]);
    }
    // An attribute of newer versions.
    let old = one(13, "ReduceMax", &["2"], &[], &[int("noop_with_empty_axes", 1)]).error();
    assert!(old.contains("\"noop_with_empty_axes\" is not one of this operator"), "{old}");
}

#[test]
fn a_scalar_is_reduced_to_what_is_done_to_it() {
    for (op, expected) in [("ReduceSumSquare", 9.0), ("ReduceL1", 3.0), ("ReduceMean", -3.0)] {
        let model = typed(18, op, &[("x", 1, &[])], &["y"], &[int("noop_with_empty_axes", 1)]);
        let y = model.run([Tensor::new(Vec::new(), &[-3.0f32]).unwrap()]);
        assert_eq!((y.dtype(), f32s(&y)), (DType::F32, vec![expected]), "{op}");
    }
}
