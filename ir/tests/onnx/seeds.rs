//! Every seed architecture is read, and costs what its builder counts.

use nnc_ir::Op;
use nnc_ir::onnx::{Bindings, Model};
use nnc_models::{Spec, build};
use onnx_protobuf::Message;

#[test]
fn every_seed_architecture_is_read_with_the_cost_that_its_builder_counts() {
    for architecture in nnc_models::list() {
        let network = build(&Spec::new(architecture.name)).unwrap();
        let bytes = network.model.write_to_bytes().unwrap();
        let model = Model::from_bytes(bytes, None).unwrap();
        let graph = model.graph(&Bindings::new()).unwrap_or_else(|e| panic!("{}: {e}", architecture.name));
        graph.verify().unwrap();

        let (name, logits) = &graph.outputs()[0];
        assert_eq!(name, "logits");
        assert_eq!(graph.ty(*logits).shape[..], [1, architecture.classes.default], "{}", architecture.name);

        let (mut macc, mut params) = (0, 0);
        for id in graph.node_ids() {
            let cost = graph.cost(id);
            macc += cost.macc;
            params += cost.params;
            // The builder counts what is trained; mean and variance are not.
            if matches!(graph.node(id).op, Op::BatchNorm(_)) {
                params -= cost.params / 2;
            }
        }
        assert_eq!((macc, params), (network.cost.macc, network.cost.params), "{}", architecture.name);
    }
}
