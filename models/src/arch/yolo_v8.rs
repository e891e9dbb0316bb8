//! YOLOv8n: a detector with feature maps at three resolutions and no anchors.
//! Jocher et al. 2023, "Ultralytics YOLO", `yolov8.yaml` at scale n, in the form of its exporter: normalisation folded into
//! the convolutions, boxes and scores in one output. Its summary says, fused: 3,151,904 parameters, 8.7 GFLOPs (two
//! for each multiply-accumulate).

use crate::blocks::{c2f, conv_silu, detect, sppf};
use crate::builder::{Conv, Map, Net, Tensor};
use crate::catalogue::Config;

pub(crate) fn build(net: &mut Net, input: &Map, config: &Config) -> Tensor {
    let halve = |net: &mut Net, layer: usize, x: &Map, channels: usize| {
        conv_silu(net, &format!("model.{layer}"), x, Conv::new(channels, 3).stride(2))
    };
    let x = halve(net, 0, input, 16);
    let x = halve(net, 1, &x, 32);
    let x = c2f(net, "model.2", &x, 32, 1, true);
    let x = halve(net, 3, &x, 64);
    let fine = c2f(net, "model.4", &x, 64, 2, true);
    let x = halve(net, 5, &fine, 128);
    let middle = c2f(net, "model.6", &x, 128, 2, true);
    let x = halve(net, 7, &middle, 256);
    let x = c2f(net, "model.8", &x, 256, 1, true);
    let coarse = sppf(net, "model.9", &x);

    // Down the pyramid (Lin et al. 2017), then up again (Liu et al. 2018).
    let x = net.upsample_nearest("model.10", &coarse, 2);
    let x = net.concat("model.11", &[&x, &middle]);
    let middle = c2f(net, "model.12", &x, 128, 1, false);
    let x = net.upsample_nearest("model.13", &middle, 2);
    let x = net.concat("model.14", &[&x, &fine]);
    let fine = c2f(net, "model.15", &x, 64, 1, false);
    let x = halve(net, 16, &fine, 64);
    let x = net.concat("model.17", &[&x, &middle]);
    let middle = c2f(net, "model.18", &x, 128, 1, false);
    let x = halve(net, 19, &middle, 128);
    let x = net.concat("model.20", &[&x, &coarse]);
    let coarse = c2f(net, "model.21", &x, 256, 1, false);

    detect(net, "model.22", &[&fine, &middle, &coarse], &[8, 16, 32], config.classes)
}
