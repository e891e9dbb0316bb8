//! Convolutions between planes of the caller, which are products that read and write them as they lie.

use nnc::plan::Winograd;
use nnc::target::Target;

use super::support::{TARGETS, check, graph, planned};

/// A layer from planes to planes that is a product of them, on targets of all sorts.
fn is_a_product(text: &str) {
    let graph = graph(text);
    assert!(goes_over_planes(&graph), "{text}");
    check(&graph, &graph, &TARGETS);
}

/// Whether nothing changes the layout, before or behind.
fn goes_over_planes(graph: &nnc_ir::Graph) -> bool {
    let plan = planned(graph, &Target::named("x86-64-v3").expect("a target"), Winograd::WhereFaster);
    !plan.steps.iter().any(|step| step.name.ends_with(".gather") || step.name.ends_with(".output"))
}

/// One with a bias and an activation.
fn layer(op: &str, x: &str, w: &str, attributes: &str, y: &str) -> String {
    let results = y.split('x').nth(1).expect("channels");
    format!(
        "%x = input : f32[{x}]
%w = const f32[{w}] hash(seed=2, scale=1)
%b = const f32[{results}] hash(seed=3, scale=1)
%y = {op} %x, %w, %b {{{attributes}}} : f32[{y}]
output y = %y"
    )
}

#[test]
fn windows_of_one_pixel() {
    for (x, w, attributes, y) in [
        ("1x8x16x12", "20x8x1x1", "epilogue=relu", "1x20x16x12"),
        ("1x37x31x29", "53x37x1x1", "epilogue=silu", "1x53x31x29"),
        ("3x6x12x12", "3x6x1x1", "groups=1", "3x3x12x12"),
        ("2x12x16x8", "6x4x1x1", "groups=3, epilogue=relu6", "2x6x16x8"),
        ("2x6x4x8x8", "8x6x1x1x1", "epilogue=relu", "2x8x4x8x8"),
    ] {
        is_a_product(&layer("conv", x, w, attributes, y));
    }
}

#[test]
fn windows_of_a_signal_and_of_whole_rows() {
    is_a_product(&layer("conv", "2x1x1x1300", "24x1x1x10", "strides=1x5, epilogue=relu", "2x24x1x259"));
    is_a_product(&layer("conv", "1x1x300x1", "4x1x7x1", "strides=2x1, dilations=3x1", "1x4x141x1"));
}

#[test]
fn signals_that_are_seen_as_images() {
    is_a_product(
        "%signal = input : f32[2x5x160]
%x = reshape %signal {shape=2x5x1x160} : f32[2x5x1x160]
%w = const f32[9x5x1x1] hash(seed=2, scale=1)
%y = conv %x, %w : f32[2x9x1x160]
%z = reshape %y {shape=2x9x160} : f32[2x9x160]
output z = %z",
    );
}

#[test]
fn weights_of_the_run_have_their_rows_as_they_lie() {
    is_a_product(
        "%x = input : f32[1x8x16x12]
%w = input : f32[20x8x1x1]
%y = conv %x, %w : f32[1x20x16x12]
output y = %y",
    );
}

#[test]
fn transposed_windows_that_lie_side_by_side() {
    for (x, w, attributes, y) in [
        ("1x6x16x10", "6x1x2x2", "strides=2x2", "1x1x32x20"),
        ("2x6x13x12", "6x5x3x2", "strides=3x2, activation=sigmoid", "2x5x39x24"),
        ("1x7x16x9", "7x3x8x8", "strides=8x8", "1x3x128x72"),
        ("1x4x4x6x8", "4x3x2x3x2", "strides=2x3x2, activation=relu", "1x3x8x18x16"),
    ] {
        is_a_product(&layer("conv_transpose", x, w, attributes, y));
    }
}

#[test]
fn what_has_no_even_rows_of_pixels_stays_an_image() {
    for (x, w, attributes, y) in [
        // Padding, windows of two axes, few pixels, pixels that fill few vectors, and strides of both axes.
        ("1x1x1x160", "4x1x1x3", "pads=0x1:0x1", "1x4x1x160"),
        ("1x3x16x16", "8x3x2x2", "groups=1", "1x8x15x15"),
        ("1x8x11x11", "20x8x1x1", "groups=1", "1x20x11x11"),
        ("1x8x13x10", "20x8x1x1", "groups=1", "1x20x13x10"),
        ("1x8x40x40", "20x8x1x1", "strides=2x2", "1x20x20x20"),
    ] {
        let graph = graph(&layer("conv", x, w, attributes, y));
        assert!(!goes_over_planes(&graph), "{x} {w}");
        check(&graph, &graph, &TARGETS);
    }
}
