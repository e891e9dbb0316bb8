//! Every built-in architecture is read, and costs what its builder counts.

use nnc_ir::Op;
use nnc_ir::onnx::{Bindings, Model};
use nnc_models::{Spec, build};
use onnx_protobuf::Message;

#[test]
fn every_architecture_is_read_with_the_cost_that_its_builder_counts() {
    for architecture in nnc_models::list() {
        let network = build(&Spec::new(architecture.name)).unwrap();
        let bytes = network.model.write_to_bytes().unwrap();
        let model = Model::from_bytes(bytes, None).unwrap();
        let graph = model.graph(&Bindings::new()).unwrap_or_else(|e| panic!("{}: {e}", architecture.name));
        graph.verify().unwrap();

        let (name, output) = &graph.outputs()[0];
        assert_eq!(name, architecture.output);
        if let ("logits", Some(classes)) = (architecture.output, &architecture.classes) {
            assert_eq!(graph.ty(*output).shape.last(), Some(&classes.default), "{}", architecture.name);
        }

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
        assert_eq!(macc, network.cost.macc, "{}", architecture.name);
        if let Some(constants) = constants(architecture.name) {
            assert_eq!(params, network.cost.params + constants, "{}", architecture.name);
        }
    }
}

/// How many numbers an architecture has that no training changes, and that a graph counts as it counts weights: those of
/// written out functions and the table of a detector's pixels. Unknown where weights go through other nodes first.
fn constants(name: &str) -> Option<u64> {
    const GELU: u64 = 3;
    match name {
        // A sum and a quotient in each gate.
        "ghostnet" => Some(2 * 7),
        "convnext-atto" => Some(GELU * 12),
        // And the scale of attention.
        "vit-tiny-16" => Some((GELU + 1) * 12),
        "mobilevit-xxs" => Some(2 * 9),
        // Two centres for each pixel, which both corners of its box take, its stride, and half of a sum.
        "yolo-v8n" => Some((2 * 2 + 1) * 8400 + 1),
        // Its recurrent layers are read as loops, for which their weights are cut to pieces.
        "crnn" => None,
        _ => Some(0),
    }
}
