//! The vocabulary that every architecture is written in: one method per layer.
//!
//! A [`Net`] collects ONNX nodes and weights; a [`Map`] is the handle of a feature map, which knows its shape and,
//! by formula, what its values look like (see [`crate::moments`]). A layer is named by its dotted path, as the
//! modules of common frameworks are, and the names in the file follow from it:
//!
//! ```text
//! net.conv("features.0", &x, Conv::new(32, 3))      node         /features/0/Conv
//!                                                   output       /features/0/Conv_output_0
//!                                                   initializer  features.0.weight
//! ```
//!
//! Where rows of features matter and not pictures, the handle is [`Tokens`]; a [`Tensor`] is what has some other shape and
//! no meaning of its own, such as queries and keys split into heads. Here are the layers of convolutional networks; the
//! files below this one have the words that fewer networks need.
//!
//! While it builds, a `Net` counts multiply-accumulates and parameters into a [`Cost`].

mod activation;
mod grow;
mod handle;
mod recurrent;
mod shape;
mod tokens;
mod window;

pub(crate) use handle::{Features, Handle, Map, Tensor, Tokens};
pub(crate) use window::{Conv, Padding, Window};

use onnx_protobuf::{AttributeProto, ModelProto, NodeProto, TensorProto};

use crate::moments::{Moments, tap_coverage};
use crate::proto;
use crate::weights::{Stream, he_bound};

/// What one run of a network takes, in the units of the papers' tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Multiply-accumulates of convolutions, fully connected layers, matrix products and recurrent layers.
    pub macc: u64,
    /// Trainable parameters: weights, biases, the scales and shifts of normalisation, embeddings.
    pub params: u64,
}

/// How batch normalisation's scales (γ) are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gamma {
    /// Around one.
    Unit,
    /// Around one half: the last normalisation of a residual branch, which keeps sums from growing with depth.
    Damped,
    /// Around one, and around three for one channel in eight, so that ReLU6 meets its upper bound.
    Wide,
    /// Around two: where SiLU and its like bend as ReLU does. Nearer to zero they are straight, and a deviation that is
    /// off by a little would be off by more behind each of them.
    Twice,
}

/// How borders enter an average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// Padding counts as zeros.
    Counted,
    /// The average is over the pixels inside.
    LeftOut,
}

/// A network under construction.
#[derive(Debug)]
pub(crate) struct Net {
    seed: u64,
    input: [usize; 3],
    balanced: bool,
    epsilon: f32,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    cost: Cost,
}

const INPUT: &str = "input";

impl Net {
    /// An empty network for a picture of `[channels, height, width]`, and its input.
    ///
    /// In a `balanced` network the weights of each filter add up to zero: what is wrong with the expected means is
    /// alike in all channels, and would otherwise grow from layer to layer. The seeds are older than that.
    pub(crate) fn new(seed: u64, input: [usize; 3], balanced: bool) -> (Self, Map) {
        let cost = Cost::default();
        let net = Self { seed, input, balanced, epsilon: 1e-5, nodes: vec![], initializers: vec![], cost };
        let [channels, height, width] = input;
        // Inputs are uniform in [-2, 2) where networks are tested and measured.
        let var = if balanced { 4.0 / 3.0 } else { 1.0 };
        let moments = Moments::uniform(channels, 0.0, var);
        (net, Map { name: INPUT.into(), channels, height, width, moments })
    }

    /// Sets the ε of the normalisations that follow.
    pub(crate) fn set_epsilon(&mut self, epsilon: f32) {
        self.epsilon = epsilon;
    }

    /// The finished model, which gives `result` under the name `output`, and its cost.
    pub(crate) fn finish(mut self, name: &str, output: &str, result: &Tensor) -> (ModelProto, Cost) {
        for value in self.nodes.iter_mut().flat_map(|node| &mut node.output) {
            if *value == result.name {
                *value = output.into();
            }
        }
        let [channels, height, width] = self.input;
        let input = [1, channels, height, width];
        let (nodes, initializers) = (self.nodes, self.initializers);
        let model = proto::model(name, nodes, initializers, (INPUT, &input), (output, &result.dims));
        (model, self.cost)
    }

    // ---- layers with weights -------------------------------------------------------------------------------

    /// A convolution without bias, whose scale and shift a batch normalisation takes care of.
    pub(crate) fn conv(&mut self, path: &str, x: &Map, conv: Conv) -> Map {
        let weights = self.conv_weights(path, x, conv);
        let moments = conv_moments(x, conv, &weights);
        self.push_conv(path, x, conv, &weights, None, moments)
    }

    /// A convolution with bias: weights and biases are scaled such that the outputs have about unit variance and
    /// means of up to ± 1/2.
    pub(crate) fn conv_bias(&mut self, path: &str, x: &Map, conv: Conv) -> Map {
        self.conv_deviation(path, x, conv, 1.0)
    }

    /// The same with outputs of about this deviation.
    pub(crate) fn conv_deviation(&mut self, path: &str, x: &Map, conv: Conv, deviation: f64) -> Map {
        let mut weights = self.conv_weights(path, x, conv);
        let mut moments = conv_moments(x, conv, &weights);
        let bias = self.centre(path, &mut weights, &mut moments, deviation);
        self.push_conv(path, x, conv, &weights, Some(bias), moments)
    }

    /// A 1 × 1 convolution into one channel whose weights are known.
    pub(crate) fn weighted_sum(&mut self, path: &str, x: &Map, weights: &[f32]) -> Map {
        let conv = Conv::pointwise(1);
        let moments = conv_moments(x, conv, weights);
        self.push_conv(path, x, conv, weights, None, moments)
    }

    fn conv_weights(&self, path: &str, x: &Map, conv: Conv) -> Vec<f32> {
        assert!(
            x.channels.is_multiple_of(conv.groups) && conv.channels.is_multiple_of(conv.groups),
            "{path}"
        );
        let fan_in = x.channels / conv.groups * conv.window.kernel * conv.window.kernel;
        let mut weights = Stream::new(self.seed, &format!("{path}.weight"))
            .uniforms(conv.channels * fan_in, he_bound(fan_in));
        // A filter over one channel sees one mean, and must see more than differences.
        if self.balanced && conv.groups < x.channels {
            for filter in weights.chunks_exact_mut(fan_in) {
                let mean = filter.iter().sum::<f32>() / fan_in as f32;
                filter.iter_mut().for_each(|w| *w -= mean);
            }
        }
        weights
    }

    fn push_conv(
        &mut self,
        path: &str,
        x: &Map,
        conv: Conv,
        weights: &[f32],
        bias: Option<Vec<f32>>,
        moments: Moments,
    ) -> Map {
        let kernel = conv.window.kernel;
        let dims = [conv.channels, x.channels / conv.groups, kernel, kernel];
        let mut inputs = vec![x.name.clone(), self.parameter(&format!("{path}.weight"), &dims, weights)];
        if let Some(bias) = bias {
            inputs.push(self.parameter(&format!("{path}.bias"), &[conv.channels], &bias));
        }
        let mut attributes = vec![proto::ints("dilations", &[1, 1]), proto::int("group", conv.groups as i64)];
        attributes.extend(conv.window.attributes(x));
        let name = self.push(path, "Conv", inputs, attributes);
        let (height, width) = conv.window.output(x);
        self.cost.macc += weights.len() as u64 * (height * width) as u64;
        Map { name, channels: conv.channels, height, width, moments }
    }

    /// Batch normalisation with the statistics that the input is expected to have, each a little off.
    pub(crate) fn batch_norm(&mut self, path: &str, x: &Map, gamma: Gamma) -> Map {
        let channels = x.channels;
        let mut draw = Stream::new(self.seed, path);
        let [mut scale, mut shift, mut mean, mut var] = [(); 4].map(|()| Vec::with_capacity(channels));
        let mut moments = Moments { mean: vec![], var: vec![] };
        for (&m, &v) in x.moments.mean.iter().zip(&x.moments.var) {
            let centre = match gamma {
                Gamma::Unit => 1.0,
                Gamma::Damped => 0.5,
                Gamma::Twice => 2.0,
                Gamma::Wide => {
                    if draw.one_in(8) {
                        3.0
                    } else {
                        1.0
                    }
                }
            };
            let sign = if draw.one_in(16) { -1.0 } else { 1.0 };
            let g = sign * centre * (1.0 + 0.3 * draw.uniform());
            let b = 0.1 + 0.4 * draw.uniform();
            let mu = (m + 0.2 * v.sqrt() * f64::from(draw.uniform())) as f32;
            let sigma2 = ((v + 1e-3) * f64::from(1.0 + 0.3 * draw.uniform())) as f32;
            let slope = f64::from(g) / f64::from(sigma2 + self.epsilon).sqrt();
            moments.mean.push(slope * (m - f64::from(mu)) + f64::from(b));
            moments.var.push(slope * slope * v);
            scale.push(g);
            shift.push(b);
            mean.push(mu);
            var.push(sigma2);
        }
        let inputs = vec![
            x.name.clone(),
            self.parameter(&format!("{path}.weight"), &[channels], &scale),
            self.parameter(&format!("{path}.bias"), &[channels], &shift),
            self.initializer(&format!("{path}.running_mean"), &[channels], &mean),
            self.initializer(&format!("{path}.running_var"), &[channels], &var),
        ];
        let attributes = vec![
            proto::float("epsilon", self.epsilon),
            proto::float("momentum", 0.9),
            proto::int("training_mode", 0),
        ];
        let name = self.push(path, "BatchNormalization", inputs, attributes);
        Map { name, moments, ..x.clone() }
    }

    /// A fully connected layer: `y = x · Wᵀ + b`, whose outputs have about unit variance.
    pub(crate) fn linear(&mut self, path: &str, x: &Features, count: usize) -> Features {
        self.gemm(path, x, count, 1.0)
    }

    /// The last fully connected layer. Logits of trained networks spread over a few units, and so do these.
    pub(crate) fn logits(&mut self, path: &str, x: &Features, classes: usize) -> Tensor {
        self.gemm(path, x, classes, 2.0).tensor()
    }

    fn gemm(&mut self, path: &str, x: &Features, count: usize, deviation: f64) -> Features {
        let mut weights =
            Stream::new(self.seed, &format!("{path}.weight")).uniforms(count * x.count, he_bound(x.count));
        let sums = |row: &[f32]| weighted_sums(row, &x.moments.mean, &x.moments.var);
        let (mean, var) = weights.chunks_exact(x.count).map(sums).unzip();
        let mut moments = Moments { mean, var };
        let bias = self.centre(path, &mut weights, &mut moments, deviation);
        let inputs = vec![
            x.name.clone(),
            self.parameter(&format!("{path}.weight"), &[count, x.count], &weights),
            self.parameter(&format!("{path}.bias"), &[count], &bias),
        ];
        let attributes = vec![proto::float("alpha", 1.0), proto::float("beta", 1.0), proto::int("transB", 1)];
        let name = self.push(path, "Gemm", inputs, attributes);
        self.cost.macc += weights.len() as u64;
        Features { name, count, moments }
    }

    /// Rescales weights and finds biases such that outputs have about this deviation and means of up to half of it.
    fn centre(&self, path: &str, weights: &mut [f32], moments: &mut Moments, deviation: f64) -> Vec<f32> {
        let gain = deviation / moments.average_var().max(1e-12).sqrt();
        weights.iter_mut().for_each(|w| *w = (f64::from(*w) * gain) as f32);
        moments.var.iter_mut().for_each(|v| *v *= gain * gain);
        let mut draw = Stream::new(self.seed, &format!("{path}.bias"));
        let shift = moments.mean.iter_mut().map(|mean| {
            let target = 0.5 * deviation * f64::from(draw.uniform());
            let bias = target - *mean * gain;
            *mean = target;
            bias as f32
        });
        shift.collect()
    }

    // ---- pooling -------------------------------------------------------------------------------------------

    pub(crate) fn max_pool(&mut self, path: &str, x: &Map, window: Window) -> Map {
        let mut attributes = vec![proto::int("ceil_mode", i64::from(window.ceil))];
        attributes.extend(window.attributes(x));
        let name = self.push(path, "MaxPool", vec![x.name.clone()], attributes);
        self.pooled(name, x, window, x.moments.max_pool())
    }

    pub(crate) fn avg_pool(&mut self, path: &str, x: &Map, window: Window, border: Border) -> Map {
        let mut attributes = vec![proto::int("count_include_pad", i64::from(border == Border::Counted))];
        attributes.extend(window.attributes(x));
        let name = self.push(path, "AveragePool", vec![x.name.clone()], attributes);
        self.pooled(name, x, window, x.moments.average_pool(window.kernel * window.kernel))
    }

    fn pooled(&self, name: String, x: &Map, window: Window, moments: Moments) -> Map {
        let (height, width) = window.output(x);
        Map { name, channels: x.channels, height, width, moments }
    }

    pub(crate) fn global_avg_pool(&mut self, path: &str, x: &Map) -> Map {
        let name = self.push(path, "GlobalAveragePool", vec![x.name.clone()], vec![]);
        let moments = x.moments.average_pool(x.height * x.width);
        Map { name, height: 1, width: 1, moments, ..x.clone() }
    }

    // ---- joins and data movement ---------------------------------------------------------------------------

    pub(crate) fn add<H: Handle>(&mut self, path: &str, a: &H, b: &H) -> H {
        assert_eq!(a.dims(), b.dims(), "{path}");
        let name = self.push(path, "Add", vec![a.name().into(), b.name().into()], vec![]);
        a.with(name, a.moments().add(b.moments()))
    }

    /// Multiplies each channel by its `gate`, a map of one pixel.
    pub(crate) fn gate(&mut self, path: &str, x: &Map, gate: &Map) -> Map {
        assert_eq!((x.channels, 1, 1), (gate.channels, gate.height, gate.width), "{path}");
        let name = self.push(path, "Mul", vec![x.name.clone(), gate.name.clone()], vec![]);
        x.with(name, x.moments.product(&gate.moments))
    }

    /// Multiplies each channel by a parameter of about one half (Touvron et al. 2021, LayerScale).
    pub(crate) fn layer_scale(&mut self, path: &str, x: &Map) -> Map {
        let mut draw = Stream::new(self.seed, &format!("{path}.gamma"));
        let gamma: Vec<f32> = (0..x.channels).map(|_| 0.5 + 0.15 * draw.uniform()).collect();
        let parameter = self.parameter(&format!("{path}.gamma"), &[1, x.channels, 1, 1], &gamma);
        let name = self.push(path, "Mul", vec![x.name.clone(), parameter], vec![]);
        let scale = Moments { mean: gamma.iter().map(|&g| g.into()).collect(), var: vec![0.0; x.channels] };
        x.with(name, x.moments.product(&scale))
    }

    /// Joins along channels.
    pub(crate) fn concat(&mut self, path: &str, parts: &[&Map]) -> Map {
        let first = parts[0];
        assert!(parts.iter().all(|p| (p.height, p.width) == (first.height, first.width)), "{path}");
        let inputs = parts.iter().map(|part| part.name.clone()).collect();
        let name = self.push(path, "Concat", inputs, vec![proto::int("axis", 1)]);
        let channels = parts.iter().map(|part| part.channels).sum();
        Map { name, channels, moments: Moments::concat(parts.iter().map(|p| &p.moments)), ..first.clone() }
    }

    /// Splits the channels into two halves.
    pub(crate) fn split_halves(&mut self, path: &str, x: &Map) -> (Map, Map) {
        let half = x.channels / 2;
        let sizes = self.constant(path, "split", i64_vector(&[half as i64; 2]));
        let node = node_name(path, "Split");
        let outputs = vec![format!("{node}_output_0"), format!("{node}_output_1")];
        let mut proto_node = proto::node("Split", &node, vec![x.name.clone(), sizes], outputs.clone());
        proto_node.attribute = vec![proto::int("axis", 1)];
        self.nodes.push(proto_node);
        let part = |name: &String, from: usize| Map {
            name: name.clone(),
            channels: half,
            moments: x.moments.select(half, |i| i + from),
            ..x.clone()
        };
        (part(&outputs[0], 0), part(&outputs[1], half))
    }

    /// The first `channels` channels: a `Slice`, also where that is all of them.
    pub(crate) fn first_channels(&mut self, path: &str, x: &Map, channels: usize) -> Map {
        let [starts, ends, axes] = [("starts", 0), ("ends", channels as i64), ("axes", 1)]
            .map(|(what, value)| self.constant(path, what, i64_vector(&[value])));
        let name = self.push(path, "Slice", vec![x.name.clone(), starts, ends, axes], vec![]);
        Map { name, channels, moments: x.moments.select(channels, |i| i), ..x.clone() }
    }

    /// Channel shuffle (Zhang et al. 2017, section 3.1) as exporters write it: the channels seen as a `groups` × n
    /// matrix, transposed.
    pub(crate) fn channel_shuffle(&mut self, path: &str, x: &Map, groups: usize) -> Map {
        let each = x.channels / groups;
        let [h, w] = [x.height as i64, x.width as i64];
        let matrix = self.constant(path, "split", i64_vector(&[1, groups as i64, each as i64, h, w]));
        let flat = self.constant(path, "join", i64_vector(&[1, x.channels as i64, h, w]));
        let split = self.push(&format!("{path}.split"), "Reshape", vec![x.name.clone(), matrix], vec![]);
        let perm = vec![proto::ints("perm", &[0, 2, 1, 3, 4])];
        let swapped = self.push(path, "Transpose", vec![split], perm);
        let name = self.push(&format!("{path}.join"), "Reshape", vec![swapped, flat], vec![]);
        let moments = x.moments.select(x.channels, |i| i % groups * each + i / groups);
        Map { name, moments, ..x.clone() }
    }

    /// Moves the picture up and left by one pixel; zeros come in at the bottom and right: a `Pad` and a `Slice`.
    pub(crate) fn shift_up_left(&mut self, path: &str, x: &Map) -> Map {
        let pads = self.constant(path, "pads", i64_vector(&[0, 0, 0, 0, 0, 0, 1, 1]));
        let padded = self.push(path, "Pad", vec![x.name.clone(), pads], vec![]);
        let starts = self.constant(path, "starts", i64_vector(&[1, 1]));
        let ends = self.constant(path, "ends", i64_vector(&[i64::MAX; 2]));
        let axes = self.constant(path, "axes", i64_vector(&[2, 3]));
        let name = self.push(path, "Slice", vec![padded, starts, ends, axes], vec![]);
        Map { name, ..x.clone() }
    }

    /// All values of a feature map in one row.
    pub(crate) fn flatten(&mut self, path: &str, x: &Map) -> Features {
        let name = self.push(path, "Flatten", vec![x.name.clone()], vec![proto::int("axis", 1)]);
        let area = x.height * x.width;
        let count = x.channels * area;
        Features { name, count, moments: x.moments.select(count, |i| i / area) }
    }

    // ---- nodes and constants -------------------------------------------------------------------------------

    fn push(&mut self, path: &str, op: &str, inputs: Vec<String>, attributes: Vec<AttributeProto>) -> String {
        let name = node_name(path, op);
        let output = format!("{name}_output_0");
        let mut node = proto::node(op, &name, inputs, vec![output.clone()]);
        node.attribute = attributes;
        self.nodes.push(node);
        output
    }

    /// A `Constant` node, which is how exporters write shapes and bounds.
    fn constant(&mut self, path: &str, what: &str, value: TensorProto) -> String {
        self.push(
            &format!("{path}.{what}"),
            "Constant",
            vec![],
            vec![proto::tensor_attribute("value", value)],
        )
    }

    /// An initializer that training would change.
    fn parameter(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.cost.params += values.len() as u64;
        self.initializer(name, dims, values)
    }

    fn initializer(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.initializers.push(proto::f32_tensor(name, dims, values));
        name.into()
    }
}

/// `features.0` and `Conv` give `/features/0/Conv`.
fn node_name(path: &str, op: &str) -> String {
    format!("/{}/{op}", path.replace('.', "/"))
}

fn i64_vector(values: &[i64]) -> TensorProto {
    proto::i64_tensor("", &[values.len()], values)
}

/// Mean and variance of `Σ w·x` over independent `x`.
fn weighted_sums(weights: &[f32], mean: &[f64], var: &[f64]) -> (f64, f64) {
    weights.iter().zip(mean.iter().zip(var)).fold((0.0, 0.0), |(sum, square), (&w, (&m, &v))| {
        let w = f64::from(w);
        (sum + w * m, square + w * w * v)
    })
}

/// The moments of a convolution's outputs. At a border, taps that lie in the padding see zeros.
fn conv_moments(x: &Map, conv: Conv, weights: &[f32]) -> Moments {
    let Window { kernel, strides, .. } = conv.window;
    let cover = |axis: usize, size: usize| {
        let (before, _, output) = conv.window.along(axis, size);
        tap_coverage(size, output, kernel, strides[axis], before)
    };
    let (rows, columns) = (cover(0, x.height), cover(1, x.width));
    let taps: Vec<f64> = rows.iter().flat_map(|r| columns.iter().map(move |c| r * c)).collect();

    // Every tap of every input channel, in the order of the weights of one output channel.
    let (mut mean, mut var) = (vec![], vec![]);
    for (&m, &v) in x.moments.mean.iter().zip(&x.moments.var) {
        mean.extend(taps.iter().map(|inside| inside * m));
        var.extend(taps.iter().map(|inside| inside * (v + m * m) - inside * inside * m * m));
    }
    let fan_in = x.channels / conv.groups * taps.len();
    let per_group = conv.channels / conv.groups;
    let outputs = weights.chunks_exact(fan_in).enumerate().map(|(channel, filter)| {
        let from = channel / per_group * fan_in;
        weighted_sums(filter, &mean[from..from + fan_in], &var[from..from + fan_in])
    });
    let (mean, var) = outputs.unzip();
    Moments { mean, var }
}
