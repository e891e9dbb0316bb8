//! How large constants become, as the options bound it.

use nnc::plan::{self, ConstantsLimit, LayerCode, PlanOptions};
use nnc::target::Target;

use super::support::graph;

/// Layers of equal size that Winograd's algorithm does with transformed kernels where it may: each is 9 KiB times four then, and there
/// are other weights of no use to it.
const LAYERS: &str = "%x = input : f32[1x32x96x96]
%w1 = const f32[32x32x3x3] hash(seed=1, scale=0.1)
%c1 = conv %x, %w1 {pads=1x1:1x1, epilogue=relu} : f32[1x32x96x96]
%w2 = const f32[32x32x3x3] hash(seed=2, scale=0.1)
%c2 = conv %c1, %w2 {pads=1x1:1x1, epilogue=relu} : f32[1x32x96x96]
%w3 = const f32[32x32x3x3] hash(seed=3, scale=0.1)
%c3 = conv %c2, %w3 {pads=1x1:1x1, epilogue=relu} : f32[1x32x96x96]
%w4 = const f32[600x32x1x1] hash(seed=4, scale=0.1)
%c4 = conv %c3, %w4 : f32[1x600x96x96]
output y = %c4
";

#[test]
fn transformed_kernels_take_no_more_than_the_limit() {
    let weights = 4 * (3 * 32 * 32 * 9 + 600 * 32);
    let target = Target::named("x86-64-v4").expect("a target");
    let of = |percent: u32| {
        let options = PlanOptions { constants: ConstantsLimit { percent }, ..PlanOptions::default() };
        let plan = plan::plan(&graph(LAYERS), &target, &options, &Default::default()).expect("a plan");
        let winograd = plan.steps.iter().filter(|step| matches!(step.code, LayerCode::Winograd(_))).count();
        (plan.constants.len(), winograd)
    };
    let (plain, half_as_much_again, more) = (of(100), of(150), of(1000));
    // Panels are padded to whole vectors.
    assert!(plain.0 <= weights + weights / 20, "{plain:?} of {weights}");
    assert!(half_as_much_again.0 <= weights * 3 / 2 + weights / 20, "{half_as_much_again:?} of {weights}");
    assert!(more.0 > weights * 2, "{more:?} of {weights}");
    assert_eq!(more.1, 3, "all three by Winograd's algorithm where there is room");
}
