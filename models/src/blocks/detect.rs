//! YOLOv8's head: for each pixel of some feature maps, a box and the scores of all classes.

use super::conv_silu;
use crate::builder::{Conv, Handle, Map, Net, Tensor};
use crate::moments::Moments;

/// Distances to a box's four sides are means over so many bins.
const BINS: usize = 16;
const SIDES: usize = 4;

/// `[1, 4 + classes, pixels of all maps]`: centre, width and height of a box in pixels of the picture, then its scores.
/// Map `i` has a pixel for `strides[i]` pixels of the picture.
///
/// ```text
/// map 8   ─┬─ 3×3 ── 3×3 ── 1×1 to 4 · 16 ──────┐
///          └─ 3×3 ── 3×3 ── 1×1 to classes ─────┴─ concat ── [1, 64 + classes, h · w] ─┐
/// map 16  ─…───────────────────────────────────────────────────────────────────────────┼─ concat ─┐
/// map 32  ─…───────────────────────────────────────────────────────────────────────────┘          │
///    ┌─────────────────────────────────────────────────────────────────────────────────────────────┘
///    └ split ─┬─ bins ── softmax ── mean bin ── distances ── boxes ── · stride ─┬─ concat ──►
///             └─ classes ── sigmoid ────────────────────────────────────────────┘
/// ```
pub(crate) fn detect(net: &mut Net, path: &str, maps: &[&Map], strides: &[usize], classes: usize) -> Tensor {
    // As narrow as the finest map asks for.
    let first = maps[0].channels;
    let box_channels = (first / 4).max(4 * BINS);
    let class_channels = first.max(classes.min(100));
    let outputs = SIDES * BINS + classes;
    let mut flat = vec![];
    for (level, map) in maps.iter().enumerate() {
        let bins = branch(net, &format!("{path}.cv2.{level}"), map, box_channels, SIDES * BINS);
        let scores = branch(net, &format!("{path}.cv3.{level}"), map, class_channels, classes);
        let path = format!("{path}.level{level}");
        let both = net.concat(&path, &[&bins, &scores]);
        flat.push(net.reshape(&path, &both.tensor(), &[1, outputs, map.height * map.width]));
    }
    let all = net.join(path, &flat, 2);
    let [bins, scores] = net.split(path, &all, 1, [SIDES * BINS, classes]);
    let distances = mean_bins(net, &format!("{path}.dfl"), &bins);
    let boxes = boxes(net, &format!("{path}.boxes"), &distances, maps, strides);
    let scores = net.sigmoid_of(&format!("{path}.scores"), &scores);
    net.join(&format!("{path}.all"), &[boxes, scores], 1)
}

fn branch(net: &mut Net, path: &str, x: &Map, inner: usize, outputs: usize) -> Map {
    let y = conv_silu(net, &format!("{path}.0"), x, Conv::new(inner, 3));
    let y = conv_silu(net, &format!("{path}.1"), &y, Conv::new(inner, 3));
    net.conv_bias(&format!("{path}.2"), &y, Conv::pointwise(outputs))
}

/// The mean of a distribution over bins (Li et al. 2020, "Generalized Focal Loss", equation 5), as a convolution whose
/// weights are 0, 1, 2 …: `[1, 4 · 16, n]` becomes `[1, 4, n]`.
fn mean_bins(net: &mut Net, path: &str, x: &Tensor) -> Tensor {
    let pixels = x.dims[2];
    let y = net.reshape(&format!("{path}.bins"), x, &[1, SIDES, BINS, pixels]);
    let y = net.transpose(path, &y, &[0, 2, 1, 3]);
    let y = net.softmax(path, &y, 1);
    let weights: Vec<f32> = (0..BINS).map(|bin| bin as f32).collect();
    let y = y.into_map(Moments::uniform(BINS, 1.0 / BINS as f64, 0.0));
    let y = net.weighted_sum(&format!("{path}.conv"), &y, &weights);
    net.reshape(&format!("{path}.distances"), &y.tensor(), &[1, SIDES, pixels])
}

/// From the distances of each pixel's centre to the left, top, right and bottom.
fn boxes(net: &mut Net, path: &str, distances: &Tensor, maps: &[&Map], strides: &[usize]) -> Tensor {
    let (mut x, mut y, mut stride) = (vec![], vec![], vec![]);
    for (map, &each) in maps.iter().zip(strides) {
        for (row, column) in (0..map.height).flat_map(|row| (0..map.width).map(move |c| (row, c))) {
            x.push(column as f32 + 0.5);
            y.push(row as f32 + 0.5);
            stride.push(each as f32);
        }
    }
    let pixels = stride.len();
    x.extend(y);
    let centres = net.table(path, "centres", &[1, 2, pixels], &x);
    let strides = net.table(path, "strides", &[1, pixels], &stride);

    let [before, behind] = net.split(path, distances, 1, [2, 2]);
    let begin = net.binary(&format!("{path}.begin"), "Sub", &centres, &before);
    let end = net.binary(&format!("{path}.end"), "Add", &centres, &behind);
    let sum = net.binary(&format!("{path}.sum"), "Add", &begin, &end);
    let centre = net.scalar(&format!("{path}.centre"), "Div", &sum, 2.0);
    let size = net.binary(&format!("{path}.size"), "Sub", &end, &begin);
    let boxes = net.join(path, &[centre, size], 1);
    net.binary(path, "Mul", &boxes, &strides)
}
