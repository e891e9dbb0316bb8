//! NASNet-A mobile (4 @ 1056): searched cells, stacked.
//! Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", figures 2 and 4, with the
//! details (padding, path adjustment) of the authors' code.

use crate::blocks::{classifier, normal_cell, reduction_cell};
use crate::builder::{Conv, Gamma, Map, Net, Tensor};
use crate::catalogue::Config;

/// Normal cells per stage (N).
const REPEATS: usize = 4;
/// Filters of a normal cell of the first stage: 1056 final channels / (6 per cell × 4 for two doublings).
const FILTERS: usize = 1056 / 24;

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    net.set_epsilon(1e-3);
    let x = net.conv("stem.conv", input, Conv::new(32, 3).stride(2));
    let x = net.batch_norm("stem.bn", &x, Gamma::Unit);

    let cell1 = reduction_cell(net, "stem.cell1", &x, None, FILTERS / 4);
    let cell2 = reduction_cell(net, "stem.cell2", &cell1, Some(&x), FILTERS / 2);

    // The outputs of the last cell and of the one before it.
    let (mut last, mut before) = (cell2, cell1);
    let mut index = 0;
    for (stage, filters) in [FILTERS, 2 * FILTERS, 4 * FILTERS].into_iter().enumerate() {
        if stage > 0 {
            let next = reduction_cell(net, &format!("reduce{stage}"), &last, Some(&before), filters);
            (last, before) = (next, last);
        }
        for _ in 0..REPEATS {
            let next = normal_cell(net, &format!("cell{index}"), &last, Some(&before), filters);
            (last, before) = (next, last);
            index += 1;
        }
    }
    let x = net.relu("relu", &last);
    classifier(net, "classifier", &x, config.classes)
}
