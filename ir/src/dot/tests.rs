use super::*;

#[test]
fn a_box_shows_the_operator_what_is_fused_and_the_shape() {
    let graph = text::parse(
        "%x = input : f32[1x2x4x4]\n%w = const f32[2x2x1x1] {1, 0, 0, 1}\n\
         %c = conv %x, %w, _, %x {epilogue=residual+relu} : f32[1x2x4x4]\n\
         %s = split %c {axis=1, parts=[1, 1]} : f32[1x1x4x4], f32[1x1x4x4]\noutput \"the \\\"end\\\"\" = %s:1\n",
    )
    .unwrap();
    let dot = dot(&graph);
    assert!(
        dot.contains("n2 [label=\"c\\nConv\\nweight 2x2x1x1\\nepilogue=residual+relu\\nf32[1x2x4x4]\"];")
    );
    assert!(dot.contains("n0 -> n2;\n") && dot.contains("n0 -> n2 [label=\"residual\"];"));
    assert!(dot.contains("out0 [shape=ellipse, label=\"the \\\"end\\\"\"];"));
    assert!(!dot.contains("n1 "), "a constant is shown: {dot}");
}
