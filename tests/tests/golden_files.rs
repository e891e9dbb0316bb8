//! The golden files are complete and fit the networks they belong to.

use std::collections::BTreeSet;

use nnc_tests::goldens::{Suite, TOLERANCE, cases, deviation, input, output_stride, sample_stride};

#[test]
fn every_case_has_its_output_and_sampled_tensors() {
    for case in cases() {
        let golden = case.golden().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let architecture = nnc_models::list().iter().find(|a| a.name == case.spec.name).expect("a network");
        assert_eq!(golden.output.name, architecture.output, "{}", case.name);
        let kept = golden.output.elements.len();
        if architecture.resolution.default == 224 && architecture.output == "logits" {
            assert_eq!(kept, case.spec.classes.unwrap_or(1000), "{}", case.name);
        }
        assert!((1..=4096).contains(&kept), "{}: {kept}", case.name);
        let sampled = match case.spec.name.as_str() {
            // It has no more.
            "espcn-x3" => 5,
            // Boxes and scores are of different sizes, so both are sampled, too.
            "yolo-v8n" => 8 + 2,
            _ => 8,
        };
        assert_eq!(golden.samples.len(), sampled, "{}", case.name);
        assert!(golden.samples.iter().all(|s| (1..=64).contains(&s.elements.len())), "{}", case.name);
    }
}

#[test]
fn every_sampled_tensor_is_a_value_of_its_network() {
    for case in cases().into_iter().filter(|case| case.suite == Suite::Small) {
        let network = nnc_models::build(&case.spec).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let values: BTreeSet<&String> =
            network.model.graph.node.iter().flat_map(|node| &node.output).collect();
        for sample in case.golden().unwrap_or_else(|error| panic!("{}: {error}", case.name)).samples {
            assert!(values.contains(&sample.value), "{}: {}", case.name, sample.value);
        }
    }
}

#[test]
fn outputs_are_finite_and_spread_over_at_most_a_few_tens() {
    for case in cases() {
        let output = case.golden().unwrap_or_else(|error| panic!("{}: {error}", case.name)).output.elements;
        let count = output.len() as f64;
        let mean = output.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let deviation = (output.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count).sqrt();
        // Boxes are about as large as a picture.
        let most = if case.spec.name == "yolo-v8n" { 2.0 * case.input_shape()[3] as f64 } else { 30.0 };
        assert!((0.1..most).contains(&deviation), "{}: {deviation}", case.name);
    }
}

#[test]
fn every_architecture_is_there_in_both_suites() {
    for suite in [Suite::Small, Suite::Full] {
        let cases = cases();
        let there: BTreeSet<&str> =
            cases.iter().filter(|case| case.suite == suite).map(|case| case.spec.name.as_str()).collect();
        let all: BTreeSet<&str> = nnc_models::list().iter().map(|architecture| architecture.name).collect();
        assert_eq!(there, all, "{suite:?}");
    }
}

#[test]
fn case_names_are_distinct() {
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
}

#[test]
fn the_input_has_the_documented_first_elements_and_stays_within_two() {
    let values = input(100_000);
    assert_eq!(values[..4], [-2.0, -0.729_604_7, -1.235_060_9, 0.092_816_35]);
    assert!(values.iter().all(|v| (-2.0..2.0).contains(v)));
}

#[test]
fn sample_strides_are_odd_and_leave_at_most_64_elements() {
    for len in [1, 64, 65, 128, 4096, 150_528] {
        let stride = sample_stride(len);
        assert_eq!(stride % 2, 1, "{len}");
        assert!(len.div_ceil(stride) <= 64, "{len}");
    }
}

#[test]
fn outputs_are_whole_up_to_4096_elements() {
    assert_eq!([1, 1000, 4096].map(output_stride), [1; 3]);
    assert_eq!([4097, 65_536, 451_584, 705_600].map(output_stride), [5, 17, 113, 173]);
}

#[test]
fn a_deviation_is_relative_to_the_largest_reference_value() {
    assert_eq!(deviation(&[1.0, -8.0], &[1.0, -8.0]), 0.0);
    assert_eq!(deviation(&[1.5, -8.0], &[1.0, -8.0]), 0.0625);
    assert!(deviation(&[f32::NAN, -8.0], &[1.0, -8.0]) > TOLERANCE);
    assert!(deviation(&[1.0, f32::NAN], &[1.0, f32::NAN]) > TOLERANCE);
    assert!(deviation(&[1.0], &[1.0, -8.0]) > TOLERANCE);
}
