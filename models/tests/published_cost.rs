//! Multiply-accumulates and parameters of every architecture against what was published.
//!
//! Papers count multiply-accumulates of convolutions and fully connected layers (and often call them FLOPs) and give
//! them to two or three digits; frameworks' model tables give parameters exactly.

use nnc_models::{Cost, Spec, build};

fn cost(spec: Spec) -> Cost {
    build(&spec).expect("the specification is valid").cost
}

/// Fails unless `counted` is within one percent of `published`.
#[track_caller]
fn assert_near(counted: u64, published: f64) {
    let ratio = counted as f64 / published;
    assert!((ratio - 1.0).abs() <= 0.01, "counted {counted}, published {published}, ratio {ratio:.4}");
}

#[test]
fn mobilenet_v1_costs_what_the_authors_model_table_says() {
    // TensorFlow slim, mobilenet_v1.md: MobileNet_v1_1.0_224 and MobileNet_v1_0.50_160.
    let full = cost(Spec::new("mobilenet-v1"));
    assert_near(full.macc, 569e6);
    assert_near(full.params, 4.24e6);
    let half = cost(Spec::new("mobilenet-v1").width(0.5).resolution(160));
    assert_near(half.macc, 76e6);
    assert_near(half.params, 1.34e6);
}

#[test]
fn mobilenet_v2_costs_what_the_paper_and_torchvision_say() {
    let cost = cost(Spec::new("mobilenet-v2"));
    // Paper, table 4: 300 M multiply-adds. Its 3.4 M parameters leave out batch normalisation (34 k) and are rounded
    // down; torchvision counts all.
    assert_near(cost.macc, 300e6);
    assert_eq!(cost.params, 3_504_872);
}

#[test]
fn squeezenet_costs_what_torchvision_says() {
    // The paper's table 1 has the same number of parameters for 1.0.
    let first = cost(Spec::new("squeezenet-1.0"));
    assert_near(first.macc, 0.819e9);
    assert_eq!(first.params, 1_248_424);
    let second = cost(Spec::new("squeezenet-1.1"));
    assert_near(second.macc, 0.349e9);
    assert_eq!(second.params, 1_235_496);
}

#[test]
fn shufflenet_v1_costs_what_table_1_of_the_paper_says_for_every_number_of_groups() {
    // Whole millions in the paper, so half a million either way is rounding.
    for (groups, published) in [(1, 143e6), (2, 140e6), (3, 137e6), (4, 133e6), (8, 137e6)] {
        let counted = cost(Spec::new("shufflenet-v1").groups(groups)).macc as f64;
        let nearest = counted.clamp(published - 0.5e6, published + 0.5e6);
        assert!((counted / nearest - 1.0).abs() <= 0.01, "{groups} groups: {counted} instead of {published}");
    }
}

#[test]
fn shufflenet_v1_costs_what_the_authors_repository_says_for_every_width() {
    // megvii-model/ShuffleNet-Series, README: FLOPs and parameters to two digits. Their classifier has no bias,
    // which is a thousand parameters less.
    for (width, groups, macc, params) in [
        (0.5, 3, 38e6, 0.7e6),
        (0.5, 8, 40e6, 1.0e6),
        (1.0, 3, 138e6, 1.9e6),
        (1.0, 8, 138e6, 2.4e6),
        (1.5, 3, 292e6, 3.4e6),
        (1.5, 8, 290e6, 4.3e6),
        (2.0, 3, 524e6, 5.4e6),
        (2.0, 8, 522e6, 6.5e6),
    ] {
        let counted = cost(Spec::new("shufflenet-v1").width(width).groups(groups));
        let millions = (counted.macc as f64 / 1e6).round();
        assert!((millions - macc / 1e6).abs() <= 1.0, "{width} g={groups}: {millions} M instead of {macc}");
        let without_bias = counted.params - 1000;
        assert!((without_bias as f64 - params).abs() <= 0.055e6, "{width} g={groups}: {without_bias}");
    }
}

#[test]
fn shufflenet_v2_costs_what_torchvision_says() {
    for (width, macc, paper, params) in [
        (0.5, 0.0405e9, 41e6, 1_366_792),
        (1.0, 0.145e9, 146e6, 2_278_604),
        (1.5, 0.296e9, 299e6, 3_503_624),
        (2.0, 0.583e9, 591e6, 7_393_996),
    ] {
        let counted = cost(Spec::new("shufflenet-v2").width(width));
        assert_near(counted.macc, macc);
        assert_eq!(counted.params, params);
        // The paper's table 5 has up to 1.4 % more for the same layers, and does not say what else it counts.
        assert!(counted.macc as f64 <= paper && counted.macc as f64 >= 0.986 * paper, "{width}: {counted:?}");
    }
}

#[test]
fn nasnet_a_mobile_costs_what_the_paper_and_keras_say() {
    let cost = cost(Spec::new("nasnet-a-mobile"));
    // Paper, table 3.
    assert_near(cost.macc, 564e6);
    // Keras: 5,326,716, of which 36,738 are running means and variances.
    assert_eq!(cost.params, 5_326_716 - 36_738);
}

#[test]
fn alexnet_costs_what_torchvision_says() {
    let cost = cost(Spec::new("alexnet"));
    assert_near(cost.macc, 0.714e9);
    assert_eq!(cost.params, 61_100_840);
}

#[test]
fn resnet_costs_what_torchvision_says() {
    let small = cost(Spec::new("resnet-18"));
    assert_near(small.macc, 1.814e9);
    assert_eq!(small.params, 11_689_512);
    let large = cost(Spec::new("resnet-50"));
    assert_near(large.macc, 4.089e9);
    assert_eq!(large.params, 25_557_032);
}

#[test]
fn densenet_121_costs_what_torchvision_says() {
    let cost = cost(Spec::new("densenet-121"));
    assert_near(cost.macc, 2.834e9);
    assert_eq!(cost.params, 7_978_856);
}

#[test]
fn xception_costs_what_keras_and_timm_say() {
    let cost = cost(Spec::new("xception"));
    // timm's table of benchmark results: 8.4 G multiply-accumulates at 299 × 299.
    assert_near(cost.macc, 8.4e9);
    // Keras: 22,910,480, of which 54,528 are running means and variances.
    assert_eq!(cost.params, 22_910_480 - 54_528);
}

#[test]
fn mobilenet_v3_costs_what_torchvision_says() {
    let small = cost(Spec::new("mobilenet-v3-small"));
    assert_near(small.macc, 0.057e9);
    assert_eq!(small.params, 2_542_856);
    let large = cost(Spec::new("mobilenet-v3-large"));
    assert_near(large.macc, 0.217e9);
    assert_eq!(large.params, 5_483_032);
}

#[test]
fn efficientnet_b0_costs_what_torchvision_says() {
    let cost = cost(Spec::new("efficientnet-b0"));
    assert_near(cost.macc, 0.386e9);
    assert_eq!(cost.params, 5_288_548);
}

#[test]
fn ghostnet_costs_what_table_7_of_the_paper_and_timm_say() {
    let cost = cost(Spec::new("ghostnet"));
    assert_near(cost.macc, 141e6);
    assert_near(cost.params, 5.18e6);
}

#[test]
fn convnext_atto_costs_what_timm_says() {
    let cost = cost(Spec::new("convnext-atto"));
    assert_near(cost.macc, 0.55e9);
    assert_near(cost.params, 3.70e6);
}

#[test]
fn vit_tiny_costs_what_timm_says() {
    let cost = cost(Spec::new("vit-tiny-16"));
    assert_near(cost.macc, 1.26e9);
    assert_eq!(cost.params, 5_717_416);
}

#[test]
fn mobilevit_xxs_costs_what_timm_says() {
    let cost = cost(Spec::new("mobilevit-xxs"));
    // 0.4 G on its card.
    assert_eq!((cost.macc as f64 / 1e8).round(), 4.0);
    assert_near(cost.params, 1.27e6);
}

#[test]
fn yolo_v8n_costs_what_its_authors_summary_says() {
    let cost = cost(Spec::new("yolo-v8n"));
    // 8.7 GFLOPs, two for each multiply-accumulate.
    assert_near(cost.macc, 8.7e9 / 2.0);
    assert_eq!(cost.params, 3_151_904);
}

#[test]
fn unet_small_has_as_many_parameters_as_on_pytorch_hub() {
    assert_eq!(cost(Spec::new("unet-small")).params, 7_763_041);
}

#[test]
fn espcn_has_the_parameters_of_the_layers_that_the_paper_lists() {
    let layers = [(5, 1, 64), (3, 64, 32), (3, 32, 9)];
    let expected: u64 = layers.iter().map(|(kernel, from, to)| (kernel * kernel * from + 1) * to).sum();
    assert_eq!((cost(Spec::new("espcn-x3")).params, expected), (expected, 22_729));
}

#[test]
fn crnn_costs_what_table_2_of_the_paper_says() {
    assert_near(cost(Spec::new("crnn")).params, 8.3e6);
}
