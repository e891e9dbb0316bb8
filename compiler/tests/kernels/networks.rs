//! The seed networks: kernels do every convolution and pool of theirs.

use nnc::passes::{self, PassOptions};
use nnc::plan::Winograd;
use nnc::target::Target;
use nnc_ir::onnx::{Bindings, Model};
use nnc_models::{Family, Spec};

use super::support::{TARGETS, nests, planned};

#[test]
fn no_layer_of_a_seed_network_is_a_nest() {
    let seeds = nnc_models::list().iter().filter(|architecture| architecture.family != Family::More);
    for (architecture, target) in seeds.zip(TARGETS.iter().cycle()) {
        let name = architecture.name;
        let resolution = if name == "alexnet" { 63 } else { 32 };
        let spec = Spec::new(name).resolution(resolution).classes(10);
        let model = nnc_models::encode(&spec).expect("a network");
        let model = Model::from_bytes(model, None).expect("a model");
        let mut graph = model.graph(&Bindings::new()).expect("a graph");
        passes::optimise(&mut graph, &PassOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let plan = planned(&graph, &Target::named(target).expect("a target"), Winograd::WhereFaster);
        assert_eq!(nests(&plan), [""; 0], "{name}");
    }
}
