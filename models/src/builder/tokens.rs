//! Layers over rows of features, as transformers have them.

use super::{Features, Handle, Map, Net, Tokens, weighted_sums};
use crate::moments::Moments;
use crate::proto;
use crate::weights::{Stream, he_bound};

impl Net {
    /// The pixels of a feature map as rows, in row-major order: `Reshape` and `Transpose`.
    pub(crate) fn pixels(&mut self, path: &str, x: &Map) -> Tokens {
        let flat = self.reshape(path, &x.tensor(), &[1, x.channels, x.height * x.width]);
        self.transpose(path, &flat, &[0, 2, 1]).into_tokens(x.moments.clone())
    }

    /// A fully connected layer on each row, `MatMul` and `Add`, whose outputs have about this deviation.
    pub(crate) fn rows(&mut self, path: &str, x: &Tokens, count: usize, deviation: f64) -> Tokens {
        let fan_in = x.features();
        let mut weights =
            Stream::new(self.seed, &format!("{path}.weight")).uniforms(count * fan_in, he_bound(fan_in));
        let sums = |row: &[f32]| weighted_sums(row, &x.moments.mean, &x.moments.var);
        let (mean, var) = weights.chunks_exact(fan_in).map(sums).unzip();
        let mut moments = Moments { mean, var };
        let bias = self.centre(path, &mut weights, &mut moments, deviation);
        // Exporters write the weights as `MatMul` reads them: transposed.
        let transposed: Vec<f32> =
            (0..weights.len()).map(|i| weights[i % count * fan_in + i / count]).collect();
        let weight = self.parameter(&format!("{path}.weight"), &[fan_in, count], &transposed);
        let bias = self.parameter(&format!("{path}.bias"), &[count], &bias);
        let product = self.push(path, "MatMul", vec![x.name.clone(), weight], vec![]);
        let name = self.push(path, "Add", vec![bias, product], vec![]);
        let [batch, rows, _] = x.dims;
        self.cost.macc += (batch * rows * weights.len()) as u64;
        Tokens { name, dims: [batch, rows, count], moments }
    }

    /// Layer normalisation of each row (Ba et al. 2016).
    pub(crate) fn layer_norm(&mut self, path: &str, x: &Tokens) -> Tokens {
        let (name, moments) = self.push_layer_norm(path, x.name.clone(), &x.moments);
        x.with(name, moments)
    }

    /// Layer normalisation over the channels of each pixel, between transposes that bring them to the end and back.
    pub(crate) fn layer_norm_channels(&mut self, path: &str, x: &Map) -> Map {
        let last = self.transpose(&format!("{path}.last"), &x.tensor(), &[0, 2, 3, 1]);
        let (name, moments) = self.push_layer_norm(path, last.name.clone(), &x.moments);
        let normed = super::Tensor { name, dims: last.dims };
        self.transpose(&format!("{path}.back"), &normed, &[0, 3, 1, 2]).into_map(moments)
    }

    fn push_layer_norm(&mut self, path: &str, x: String, moments: &Moments) -> (String, Moments) {
        let count = moments.mean.len();
        let mut draw = Stream::new(self.seed, path);
        let scale: Vec<f32> = (0..count).map(|_| 1.0 + 0.3 * draw.uniform()).collect();
        let shift: Vec<f32> = (0..count).map(|_| 0.1 + 0.4 * draw.uniform()).collect();
        let inputs = vec![
            x,
            self.parameter(&format!("{path}.weight"), &[count], &scale),
            self.parameter(&format!("{path}.bias"), &[count], &shift),
        ];
        let attributes = vec![proto::int("axis", -1), proto::float("epsilon", self.epsilon)];
        let name = self.push(path, "LayerNormalization", inputs, attributes);
        (name, moments.normalised().affine(&scale, &shift))
    }

    /// Puts a learned row in front of the others, which collects what the classifier sees.
    pub(crate) fn class_token(&mut self, path: &str, x: &Tokens) -> Tokens {
        let [batch, rows, features] = x.dims;
        let token = self.embedding(path, &[1, 1, features]);
        let dims = [batch, 1, features].map(|dim| dim as i64);
        let shape = self.constant(path, "shape", super::i64_vector(&dims));
        let expanded = self.push(path, "Expand", vec![token, shape], vec![]);
        let name = self.push(path, "Concat", vec![expanded, x.name.clone()], vec![proto::int("axis", 1)]);
        Tokens { name, dims: [batch, rows + 1, features], ..x.clone() }
    }

    /// Adds a learned row to each row.
    pub(crate) fn positions(&mut self, path: &str, x: &Tokens) -> Tokens {
        let [_, rows, features] = x.dims;
        let embedding = self.embedding(path, &[1, rows, features]);
        let name = self.push(path, "Add", vec![x.name.clone(), embedding], vec![]);
        let uniform = Moments::uniform(features, 0.0, f64::from(EMBEDDING * EMBEDDING) / 3.0);
        x.with(name, x.moments.add(&uniform))
    }

    fn embedding(&mut self, path: &str, dims: &[usize]) -> String {
        let values = Stream::new(self.seed, path).uniforms(dims.iter().product(), EMBEDDING);
        self.parameter(path, dims, &values)
    }

    /// One of the rows: a `Gather`.
    pub(crate) fn row(&mut self, path: &str, x: &Tokens, index: usize) -> Features {
        let row = self.pick(path, &x.tensor(), 1, index);
        Features { name: row.name, count: x.features(), moments: x.moments.clone() }
    }
}

/// The bound of embeddings: near that of what they are added to, so that positions tell.
const EMBEDDING: f32 = 1.0;
