//! Large layers that no kernel does are named, with a reason that says what about them it is.

use nnc::passes::{self, PassOptions};
use nnc::plan::Winograd;
use nnc::target::Target;

use super::support::{graph, planned};

/// The large layers of a network that became nests, and why.
fn refusals(source: &str) -> Vec<(String, String)> {
    let mut graph = graph(source);
    passes::optimise(&mut graph, &PassOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    let plan = planned(&graph, &Target::named("x86-64-v3").expect("a target"), Winograd::Never);
    plan.steps.into_iter().filter_map(|step| step.refused).map(|r| (r.layer, r.why)).collect()
}

#[test]
fn a_large_layer_without_kernels_has_a_reason() {
    let cases = [
        (
            "%x = input : f32[1x2x4x8x16x16]\n%w = const f32[8x2x3x3x3x3] hash(seed=1, scale=1)\n\
             %y = conv %x, %w {pads=1x1x1x1:1x1x1x1} : f32[1x8x4x8x16x16]\noutput y = %y\n",
            "its window has 4 axes, and kernels slide along three at most",
        ),
        (
            "%x = input : f64[1x16x32x32]\n%w = const f64[16x16x3x3] hash(seed=1, scale=1)\n\
             %y = conv %x, %w {pads=1x1:1x1} : f64[1x16x32x32]\noutput y = %y\n",
            "its elements are f64, and kernels compute with f32",
        ),
        (
            "%x = input : f32[1x16x32x32]\n%w = const f32[16x16x9x9] hash(seed=1, scale=1)\n\
             %y = conv_transpose %x, %w {strides=9x9, dilations=4x4} : f32[1x16x312x312]\noutput y = %y\n",
            "no kernel does transposed convolutions of so many phases",
        ),
        (
            "%x = input : f32[64x100]\n%w = input : f32[100x200]\n%b = input : f32[200]\n\
             %y = mat_mul %x, %w, %b : f32[64x200]\noutput y = %y\n",
            "its bias is computed while the model runs",
        ),
    ];
    for (source, why) in cases {
        assert_eq!(refusals(source), [("y".to_string(), why.to_string())], "{source}");
    }
}

#[test]
fn nothing_is_said_of_small_layers_and_of_those_with_kernels() {
    let large = "%x = input : f32[1x16x32x32]\n%w = const f32[16x16x3x3] hash(seed=1, scale=1)\n\
                 %y = conv %x, %w {pads=1x1:1x1} : f32[1x16x32x32]\noutput y = %y\n";
    let small = "%x = input : f64[1x2x8x8]\n%w = const f64[2x2x3x3] hash(seed=1, scale=1)\n\
                 %y = conv %x, %w {pads=1x1:1x1} : f64[1x2x8x8]\noutput y = %y\n";
    for source in [large, small] {
        assert_eq!(refusals(source), [], "{source}");
    }
}
