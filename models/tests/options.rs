//! What a specification may ask for, and how a wrong one is answered.

use nnc_models::{Allowed, Error, Spec, build, list};

/// The text of the error that this specification gets.
fn refusal(spec: Spec) -> String {
    build(&spec).map(|network| network.cost).expect_err("the specification is wrong").to_string()
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest_right_one() {
    let error = build(&Spec::new("mobilnet-v2")).expect_err("misspelt");
    assert!(matches!(&error, Error::UnknownModel { name, .. } if name == "mobilnet-v2"), "{error:?}");
    assert_eq!(error.to_string(), "there is no model \"mobilnet-v2\"; did you mean \"mobilenet-v2\"?");
}

#[test]
fn an_option_that_does_not_apply_is_refused_with_the_ones_that_do() {
    assert_eq!(
        refusal(Spec::new("resnet-50").width(0.5)),
        "model \"resnet-50\" has no option width; leave it out (it has resolution, classes and seed)"
    );
    assert_eq!(
        refusal(Spec::new("mobilenet-v1").groups(2)),
        "model \"mobilenet-v1\" has no option groups; leave it out (it has width, resolution, classes and seed)"
    );
    assert_eq!(
        refusal(Spec::new("espcn-x3").classes(2)),
        "model \"espcn-x3\" has no option classes; leave it out (it has resolution and seed)"
    );
}

#[test]
fn a_value_out_of_range_is_refused_with_the_values_that_exist() {
    assert_eq!(
        refusal(Spec::new("shufflenet-v1").groups(5)),
        "model \"shufflenet-v1\" cannot have groups 5; choose one of 1, 2, 3, 4, 8"
    );
    assert_eq!(
        refusal(Spec::new("alexnet").resolution(32)),
        "model \"alexnet\" cannot have resolution 32; choose 63 to 4096"
    );
    assert_eq!(
        refusal(Spec::new("yolo-v8n").resolution(100)),
        "model \"yolo-v8n\" cannot have resolution 100; choose multiples of 32 from 32 to 4096"
    );
    assert!(refusal(Spec::new("mobilenet-v2").width(f64::NAN)).contains("cannot have width NaN"));
    assert!(refusal(Spec::new("mobilenet-v2").classes(0)).contains("cannot have classes 0"));
}

#[test]
fn the_smallest_resolution_of_every_architecture_still_leaves_a_pixel_for_every_layer() {
    for architecture in list() {
        let (least, step) = match &architecture.resolution.allowed {
            Allowed::OneOf(_) => panic!("{} has a list of resolutions", architecture.name),
            Allowed::Within(pixels) => (*pixels.start(), 1),
            Allowed::Multiples(of, pixels) => (*pixels.start(), *of),
        };
        for beyond in [0, 1, 2, 5] {
            let resolution = least + beyond * step;
            let spec =
                Spec { classes: architecture.classes.as_ref().map(|_| 2), ..Spec::new(architecture.name) };
            let network = build(&spec.resolution(resolution));
            assert!(network.is_ok(), "{} at {resolution}", architecture.name);
        }
    }
}

#[test]
fn any_width_of_the_mobilenets_has_channels_in_multiples_of_eight() {
    for name in ["mobilenet-v1", "mobilenet-v2"] {
        for width in [0.1, 0.35, 0.77, 1.3] {
            let model =
                build(&Spec::new(name).width(width).resolution(32).classes(2)).expect("any width").model;
            for weight in model.graph.initializer.iter().filter(|t| t.name.ends_with("conv.weight")) {
                assert_eq!(weight.dims[0] % 8, 0, "{name} {width}: \"{}\" {:?}", weight.name, weight.dims);
            }
        }
    }
}
