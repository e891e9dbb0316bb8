//! AlexNet in its one-tower form.
//! Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", as torchvision has it.

use crate::builder::{Border, Conv, Map, Net, Padding, Tensor, Window};
use crate::catalogue::Config;

/// The classifier sees 6 × 6 pixels.
const POOLED: usize = 6;
/// Features of the two hidden fully connected layers.
const HIDDEN: usize = 4096;

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let pool = Window::new(3, 2, Padding::Each(0));
    let x = conv_relu(net, 0, input, Conv::new(64, 11).stride(4).pad(2));
    let x = net.max_pool("features.2", &x, pool);
    let x = conv_relu(net, 3, &x, Conv::new(192, 5).centred());
    let x = net.max_pool("features.5", &x, pool);
    let x = conv_relu(net, 6, &x, Conv::new(384, 3).centred());
    let x = conv_relu(net, 8, &x, Conv::new(256, 3).centred());
    let x = conv_relu(net, 10, &x, Conv::new(256, 3).centred());
    let x = net.max_pool("features.12", &x, pool);
    let x = adaptive_avg_pool(net, &x);

    let x = net.flatten("flatten", &x);
    let x = net.linear("classifier.1", &x, HIDDEN);
    let x = net.relu("classifier.2", &x);
    let x = net.linear("classifier.4", &x, HIDDEN);
    let x = net.relu("classifier.5", &x);
    net.logits("classifier.6", &x, config.classes)
}

fn conv_relu(net: &mut Net, index: usize, x: &Map, conv: Conv) -> Map {
    let x = net.conv_bias(&format!("features.{index}"), x, conv);
    net.relu(&format!("features.{}", index + 1), &x)
}

/// Adaptive pooling to 6 × 6, which exporters write where it is a plain average (at 224 × 224: over one pixel).
/// Other resolutions keep the map they have, and the first fully connected layer is as large as that.
fn adaptive_avg_pool(net: &mut Net, x: &Map) -> Map {
    if !x.height.is_multiple_of(POOLED) {
        return x.clone();
    }
    let factor = x.height / POOLED;
    net.avg_pool("avgpool", x, Window::new(factor, factor, Padding::Each(0)), Border::Counted)
}
