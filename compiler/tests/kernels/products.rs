//! Products of matrices: of constants and of what is computed, of any rank and extent, however operands lie.

use nnc::plan::Winograd;
use nnc::target::Target;

use super::support::{graph, keeps_its_kernel, planned};

/// `x` by a constant and by an input, each given as it is and as its transpose.
fn all_forms(batch: &[usize], b_batch: &[usize], [m, k, n]: [usize; 3], dtype: &str) {
    let shape = |dims: &[&[usize]]| dims.concat().iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let out_batch = if batch.len() >= b_batch.len() { batch } else { b_batch };
    let out_batch: Vec<usize> = (0..out_batch.len())
        .map(|i| {
            let of = |b: &[usize]| (i + b.len()).checked_sub(out_batch.len()).map_or(1, |i| b[i]);
            of(batch).max(of(b_batch))
        })
        .collect();
    let (x, y) = (shape(&[batch, &[m, k]]), shape(&[&out_batch, &[m, n]]));
    let (w, t) = (shape(&[b_batch, &[k, n]]), shape(&[b_batch, &[n, k]]));
    keeps_its_kernel(&format!(
        "%x = input : {dtype}[{x}]
%w = const {dtype}[{w}] hash(seed=2, scale=1)
%t = const {dtype}[{t}] hash(seed=3, scale=1)
%v = input : {dtype}[{w}]
%u = input : {dtype}[{t}]
%y1 = mat_mul %x, %w : {dtype}[{y}]
%y2 = mat_mul %x, %t {{trans_b=true}} : {dtype}[{y}]
%y3 = mat_mul %x, %v : {dtype}[{y}]
%y4 = mat_mul %x, %u {{trans_b=true}} : {dtype}[{y}]
output y1 = %y1
output y2 = %y2
output y3 = %y3
output y4 = %y4"
    ));
}

#[test]
fn matrices_of_all_extents() {
    for extents in [[1, 1, 1], [1, 64, 100], [2, 7, 3], [5, 1, 17], [13, 33, 16], [49, 8, 40], [130, 20, 65]]
    {
        all_forms(&[], &[], extents, "f32");
    }
    all_forms(&[], &[], [3, 300, 1], "f32");
}

#[test]
fn batches_of_matrices_some_of_which_are_the_same() {
    for (a, b) in [
        (&[3][..], &[][..]),
        (&[3], &[3]),
        (&[], &[3]),
        (&[2, 3], &[3]),
        (&[2, 3], &[2, 1]),
        (&[2, 1, 2], &[3, 1]),
        (&[2, 3, 2, 2], &[2, 1, 2, 1]),
        (&[1, 3, 2, 2], &[2, 1, 2, 2]),
    ] {
        all_forms(a, b, [4, 9, 21], "f32");
        all_forms(a, b, [1, 9, 5], "f32");
    }
}

#[test]
fn few_rows_by_whole_vectors_that_are_computed() {
    for extents in [[1, 1, 16], [1, 9, 48], [2, 64, 176], [3, 5, 528], [4, 33, 32], [5, 8, 64]] {
        for (a, b) in
            [(&[][..], &[][..]), (&[3], &[3]), (&[2, 3], &[3]), (&[2, 3], &[2, 1]), (&[1], &[2, 1, 2])]
        {
            all_forms(a, b, extents, "f32");
        }
    }
    all_forms(&[2], &[2], [1, 20, 32], "f16");
    // A part of larger matrices, backwards, and turned.
    keeps_its_kernel(
        "%x = input : f32[3x2x7]
%m = input : f32[3x9x40]
%part = slice %m {axes=[1:1..8 by 1, 2:4..36 by 1]} : f32[3x7x32]
%back = slice %part {axes=[0:2..-1 by -1, 1:6..-1 by -1]} : f32[3x7x32]
%t = input : f32[7x3x32]
%turned = transpose %t {perm=[1, 0, 2]} : f32[3x7x32]
%one = input : f32[3x2x1]
%row = slice %m {axes=[1:1..2 by 1, 2:4..36 by 1]} : f32[3x1x32]
%r = input : f32[3x2x32]
%y1 = mat_mul %x, %part, _, %r {epilogue=residual+relu} : f32[3x2x32]
%y2 = mat_mul %x, %back : f32[3x2x32]
%y3 = mat_mul %x, %turned : f32[3x2x32]
%y4 = mat_mul %one, %row : f32[3x2x32]
output y1 = %y1
output y2 = %y2
output y3 = %y3
output y4 = %y4",
    );
}

#[test]
fn half_floats() {
    for dtype in ["f16", "bf16"] {
        all_forms(&[2], &[2], [3, 20, 18], dtype);
        all_forms(&[2, 3], &[], [5, 8, 33], dtype);
        all_forms(&[], &[], [1, 40, 7], dtype);
    }
}

#[test]
fn vectors_are_rows_or_columns() {
    keeps_its_kernel(
        "%x = input : f32[9]
%m = input : f32[4x9]
%w = const f32[9x5] hash(seed=2, scale=1)
%c = const f32[9] hash(seed=3, scale=1)
%b = input : f32[2x9x5]
%y1 = mat_mul %x, %w : f32[5]
%y2 = mat_mul %m, %c : f32[4]
%y3 = mat_mul %m, %x : f32[4]
%y4 = mat_mul %x, %x : f32[]
%y5 = mat_mul %x, %b : f32[2x5]
%y6 = mat_mul %m, %x {trans_b=true} : f32[4]
output y1 = %y1
output y2 = %y2
output y3 = %y3
output y4 = %y4
output y5 = %y5
output y6 = %y6",
    );
}

#[test]
fn a_bias_a_residual_and_an_activation() {
    for (epilogue, residual) in
        [("relu", "_"), ("residual", "%r"), ("residual+gelu", "%r"), ("silu+residual", "%r"), ("relu", "_")]
    {
        for bias in ["_", "%b"] {
            keeps_its_kernel(&format!(
                "%x = input : f32[2x7x12]
%w = const f32[12x37] hash(seed=2, scale=1)
%v = input : f32[2x12x37]
%b = const f32[37] hash(seed=3, scale=1)
%r = input : f32[2x7x37]
%y1 = mat_mul %x, %w, {bias}, {residual} {{epilogue={epilogue}}} : f32[2x7x37]
%y2 = mat_mul %x, %v, {bias}, {residual} {{epilogue={epilogue}}} : f32[2x7x37]
output y1 = %y1
output y2 = %y2"
            ));
        }
    }
}

#[test]
fn operands_and_residuals_that_lie_in_another_order() {
    keeps_its_kernel(
        "%x = input : f32[5x2x6x3]
%a = transpose %x {perm=[1, 3, 0, 2]} : f32[2x3x5x6]
%k = input : f32[6x2x3x7]
%b = transpose %k {perm=[1, 2, 0, 3]} : f32[2x3x6x7]
%q = input : f32[7x5x3x2]
%r = transpose %q {perm=[3, 2, 1, 0]} : f32[2x3x5x7]
%y = mat_mul %a, %b, _, %r {epilogue=residual} : f32[2x3x5x7]
%back = slice %a {axes=[2:4..-1 by -1, 3:5..-1 by -1]} : f32[2x3x5x6]
%z = mat_mul %back, %b : f32[2x3x5x7]
%c = transpose %b {perm=[0, 1, 3, 2]} : f32[2x3x7x6]
%t = mat_mul %a, %c {trans_b=true} : f32[2x3x5x7]
output y = %y
output z = %z
output t = %t",
    );
}

#[test]
fn the_heads_of_attention_are_read_where_they_lie() {
    keeps_its_kernel(
        "%x = input : f32[2x9x12]
%wq = const f32[12x12] hash(seed=2, scale=1)
%wk = const f32[12x12] hash(seed=3, scale=1)
%wv = const f32[12x12] hash(seed=4, scale=1)
%q = mat_mul %x, %wq : f32[2x9x12]
%k = mat_mul %x, %wk : f32[2x9x12]
%v = mat_mul %x, %wv : f32[2x9x12]
%q4 = reshape %q {shape=2x9x3x4} : f32[2x9x3x4]
%k4 = reshape %k {shape=2x9x3x4} : f32[2x9x3x4]
%v4 = reshape %v {shape=2x9x3x4} : f32[2x9x3x4]
%qt = transpose %q4 {perm=[0, 2, 1, 3]} : f32[2x3x9x4]
%kt = transpose %k4 {perm=[0, 2, 3, 1]} : f32[2x3x4x9]
%vt = transpose %v4 {perm=[0, 2, 1, 3]} : f32[2x3x9x4]
%s = mat_mul %qt, %kt : f32[2x3x9x9]
%p = softmax %s {axis=3} : f32[2x3x9x9]
%o = mat_mul %p, %vt : f32[2x3x9x4]
%ot = transpose %o {perm=[0, 2, 1, 3]} : f32[2x9x3x4]
%or = reshape %ot {shape=2x9x12} : f32[2x9x12]
output y = %or",
    );
}

#[test]
fn a_product_of_an_image_and_what_a_convolution_makes() {
    keeps_its_kernel(
        "%x = input : f32[1x6x7x5]
%w = const f32[8x6x1x1] hash(seed=2, scale=1)
%c = conv %x, %w : f32[1x8x7x5]
%rows = reshape %c {shape=1x8x35} : f32[1x8x35]
%pixels = transpose %rows {perm=[0, 2, 1]} : f32[1x35x8]
%gram = mat_mul %pixels, %rows : f32[1x35x35]
%m = const f32[8x4] hash(seed=3, scale=1)
%y = mat_mul %pixels, %m : f32[1x35x4]
output gram = %gram
output y = %y",
    );
}

#[test]
fn products_inside_of_loops() {
    keeps_its_kernel(
        "%x = input : f32[4x1x3x6]
%s = input : f32[3x6]
%m = input : f32[6x6]
%y = loop %s, %x, %m {trips=4, states=1, scanned=1} body {
  %i = input : i64[]
  %s = input : f32[3x6]
  %x = input : f32[1x3x6]
  %m = input : f32[6x6]
  %w = const f32[6x6] hash(seed=2, scale=0.5)
  %u = mat_mul %x, %w : f32[1x3x6]
  %v = mat_mul %s, %m : f32[3x6]
  %g = mat_mul %x, %s {trans_b=true} : f32[1x3x3]
  %n = add %s, %v : f32[3x6]
  output s = %n
  output u = %u
  output g = %g
} : f32[3x6], f32[4x1x3x6], f32[4x1x3x3]
output last = %y
output u = %y:1
output g = %y:2",
    );
}

/// The keys of a decoder lie row by row, and each is multiplied with one row of queries, which lies between the heads.
#[test]
fn one_row_by_rows_that_are_computed_is_not_packed() {
    let text = "%q = input : f32[3x1x5x70]
%keys = input : f32[3x5x41x70]
%mask = input : f32[3x5x1x41]
%row = transpose %q {perm=[0, 2, 1, 3]} : f32[3x5x1x70]
%scores = mat_mul %row, %keys, _, %mask {trans_b=true, epilogue=residual} : f32[3x5x1x41]
%turned = transpose %keys {perm=[0, 1, 3, 2]} : f32[3x5x70x41]
%again = mat_mul %row, %turned : f32[3x5x1x41]
output scores = %scores
output again = %again";
    keeps_its_kernel(text);
    let plan = planned(&graph(text), &Target::named("x86-64-v4").expect("a target"), Winograd::Never);
    assert!(!plan.steps.iter().any(|step| step.name.ends_with(".pack")));
}

#[test]
fn rows_that_share_a_matrix_have_it_packed() {
    let text = "%x = input : f32[6x1x64]
%m = input : f32[40x64]
%y = mat_mul %x, %m {trans_b=true} : f32[6x1x40]
output y = %y";
    keeps_its_kernel(text);
    let plan = planned(&graph(text), &Target::named("x86-64-v4").expect("a target"), Winograd::Never);
    assert!(plan.steps.iter().any(|step| step.name.ends_with(".pack")));
}
