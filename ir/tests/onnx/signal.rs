//! Fourier transforms, windows and filters, and other operators that are read as products and moves.

use nnc_ir::Tensor;

use crate::build::{f32s, float, int, ints, iota, one, onnx, string};

fn close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    let far = got.iter().zip(expected).find(|(g, e)| (*g - *e).abs() > 1e-5);
    assert_eq!(far, None, "{got:?}, expected {expected:?}");
}

#[test]
fn a_transform_and_its_inverse_give_back_the_signal() {
    let signal = Tensor::new([1, 5, 1], &[1f32, -2.0, 0.5, 3.0, 4.0]).unwrap();
    let model = |onesided: i64| {
        let both = [int("onesided", onesided)];
        let back = [int("onesided", onesided), int("inverse", 1)];
        onnx(20)
            .input("x", &["1", "5", "1"])
            .ints("five", &[5])
            .output("y")
            .node("DFT", &["x"], &["spectrum"], &both)
            .node("DFT", &["spectrum", "five"], &["y"], &back)
    };
    // One-sided, the spectrum has three bins, and the way back knows the length.
    close(&f32s(&model(1).run([signal.clone()])), &[1.0, -2.0, 0.5, 3.0, 4.0]);
    let y = f32s(&model(0).run([signal]));
    close(&y, &[1.0, 0.0, -2.0, 0.0, 0.5, 0.0, 3.0, 0.0, 4.0, 0.0]);
}

#[test]
fn a_transform_is_along_its_axis_and_of_its_length() {
    // A constant along axis 1 has all in the first bin; two zeros are added.
    let x = Tensor::new([2, 2, 1], &[1f32, 1.0, 2.0, 2.0]).unwrap();
    let model = one(17, "DFT", &["2", "2", "1"], &[("length", &[4])], &[int("axis", 1)]);
    let y = model.run([x]);
    assert_eq!(y.shape()[..], [2, 4, 2]);
    close(&f32s(&y)[..8], &[2.0, 0.0, 1.0, -1.0, 0.0, 0.0, 1.0, 1.0]);
    let error = one(17, "DFT", &["2", "2", "3"], &[], &[]).error();
    assert!(error.contains("expected floats whose last axis is 1 or 2"), "{error}");
}

#[test]
fn frames_are_transformed_one_by_one() {
    let model = onnx(17)
        .input("x", &["1", "6", "1"])
        .ints("step", &[2])
        .floats("window", &[2], &[1.0, 0.5])
        .output("y")
        .node("STFT", &["x", "step", "window"], &["y"], &[]);
    let y = model.run([iota(&[1, 6, 1])]);
    assert_eq!(y.shape()[..], [1, 3, 2, 2]);
    // Frames [0, ½], [2, 1½], [4, 2½]: their sums and differences.
    close(&f32s(&y), &[0.5, 0.0, -0.5, 0.0, 3.5, 0.0, 0.5, 0.0, 6.5, 0.0, 1.5, 0.0]);
}

#[test]
fn windows_are_periodic_or_symmetric() {
    let window = |op: &str, periodic: i64| {
        let model = onnx(17).ints("size", &[4]).output("y");
        f32s(&model.node(op, &["size"], &["y"], &[int("periodic", periodic)]).run([]))
    };
    close(&window("HannWindow", 1), &[0.0, 0.5, 1.0, 0.5]);
    close(&window("HannWindow", 0), &[0.0, 0.75, 0.75, 0.0]);
    close(&window("HammingWindow", 1)[..2], &[4.0 / 46.0, 25.0 / 46.0]);
    close(&window("BlackmanWindow", 1), &[0.0, 0.34, 1.0, 0.34]);
}

#[test]
fn mel_filters_are_triangles() {
    let model = onnx(17)
        .ints("bands", &[2])
        .ints("length", &[16])
        .ints("rate", &[8192])
        .floats("low", &[], &[0.0])
        .floats("high", &[], &[4096.0])
        .output("y")
        .node("MelWeightMatrix", &["bands", "length", "rate", "low", "high"], &["y"], &[]);
    let y = model.run([]);
    assert_eq!(y.shape()[..], [9, 2]);
    let y = f32s(&y);
    let column = |band: usize| y.iter().skip(band).step_by(2).copied().collect::<Vec<f32>>();
    assert!(column(0).iter().chain(&column(1)).all(|v| (0.0..=1.0).contains(v)));
    assert_eq!(column(0).iter().filter(|v| **v == 1.0).count(), 1);
    let outside = onnx(17)
        .ints("bands", &[2])
        .ints("length", &[16])
        .ints("rate", &[100])
        .floats("low", &[], &[0.0])
        .floats("high", &[], &[4096.0])
        .output("y")
        .node("MelWeightMatrix", &["bands", "length", "rate", "low", "high"], &["y"], &[]);
    assert!(outside.error().contains("lie outside of the transform"), "{}", outside.error());
}

#[test]
fn an_equation_of_three_operands_is_multiplied_pair_by_pair() {
    let model = onnx(12).input("a", &["2", "3"]).input("b", &["3", "4"]).input("c", &["4"]).output("y").node(
        "Einsum",
        &["a", "b", "c"],
        &["y"],
        &[string("equation", "ij,jk,k->i")],
    );
    let y = model.run([iota(&[2, 3]), iota(&[3, 4]), iota(&[4])]);
    // b · c = [14, 38, 62]
    assert_eq!(f32s(&y), [162.0, 504.0]);
    let error = one(12, "Einsum", &["2", "3"], &[], &[string("equation", "i->i")]).error();
    assert!(error.contains("does not fit an operand of rank 2"), "{error}");
}

#[test]
fn columns_become_an_image() {
    let constants: [(&str, &[i64]); 2] = [("image", &[1, 3]), ("block", &[1, 2])];
    let y = one(18, "Col2Im", &["1", "2", "2"], &constants, &[]).run([iota(&[1, 2, 2])]);
    assert_eq!((y.shape()[..].to_vec(), f32s(&y)), (vec![1, 1, 1, 3], vec![0.0, 3.0, 3.0]));
    let strided = one(18, "Col2Im", &["1", "2", "2"], &constants, &[ints("pads", &[0, 0, 0, 1])]);
    assert!(strided.error().contains("expected numbers [N, C · 2, 3]"), "{}", strided.error());
}

#[test]
fn a_layer_norm_gives_its_statistics_where_they_are_read() {
    let model = onnx(17)
        .input("x", &["2", "2"])
        .floats("scale", &[2], &[1.0, 1.0])
        .output("y")
        .output("mean")
        .output("inverse")
        .node("LayerNormalization", &["x", "scale"], &["y", "mean", "inverse"], &[float("epsilon", 0.0)]);
    let x = Tensor::new([2, 2], &[1f32, 3.0, 0.0, 8.0]).unwrap();
    let results = nnc_ir::eval::run(&model.graph(), &[x]).unwrap();
    let results: Vec<Vec<f32>> = results.iter().map(f32s).collect();
    assert_eq!(results, [vec![-1.0, 1.0, -1.0, 1.0], vec![2.0, 4.0], vec![1.0, 0.25]]);
}

#[test]
fn upsampling_of_the_first_version_scales_height_and_width() {
    let attributes = [float("height_scale", 2.0), float("width_scale", 1.5)];
    let y = one(1, "Upsample", &["1", "1", "1", "2"], &[], &attributes).run([iota(&[1, 1, 1, 2])]);
    assert_eq!((y.shape()[..].to_vec(), f32s(&y)), (vec![1, 1, 2, 3], vec![0.0, 0.0, 1.0, 0.0, 0.0, 1.0]));
}

#[test]
fn a_crop_reads_its_region() {
    let model =
        onnx(19).input("x", &["5"]).floats("roi", &[2], &[0.5, 1.5]).ints("sizes", &[3]).output("y").node(
            "Resize",
            &["x", "roi", "", "sizes"],
            &["y"],
            &[
                string("mode", "linear"),
                string("coordinate_transformation_mode", "tf_crop_and_resize"),
                float("extrapolation_value", 9.0),
            ],
        );
    assert_eq!(f32s(&model.run([iota(&[5])])), [2.0, 4.0, 9.0]);
}
