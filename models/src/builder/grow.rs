//! Layers that make feature maps larger.

use super::{Map, Net, weighted_sums};
use crate::moments::Moments;
use crate::proto;
use crate::weights::{Stream, he_bound};

impl Net {
    /// A transposed convolution with bias whose windows of 2 × 2 lie side by side, so that each pixel becomes four.
    pub(crate) fn conv_transpose(&mut self, path: &str, x: &Map, channels: usize) -> Map {
        const FACTOR: usize = 2;
        const TAPS: usize = FACTOR * FACTOR;
        let mut weights = Stream::new(self.seed, &format!("{path}.weight"))
            .uniforms(x.channels * channels * TAPS, he_bound(x.channels));
        // Each of a channel's four pixels sees one pixel of all input channels, through weights of its own.
        let tap = |channel: usize, tap: usize| {
            let column = (0..x.channels).map(|input| weights[(input * channels + channel) * TAPS + tap]);
            weighted_sums(&column.collect::<Vec<f32>>(), &x.moments.mean, &x.moments.var)
        };
        let sums = |channel: usize| {
            let taps = (0..TAPS).map(|index| tap(channel, index));
            let (mean, var) = taps.fold((0.0, 0.0), |sum, tap| (sum.0 + tap.0, sum.1 + tap.1));
            (mean / TAPS as f64, var / TAPS as f64)
        };
        let (mean, var) = (0..channels).map(sums).unzip();
        let mut moments = Moments { mean, var };
        let bias = self.centre(path, &mut weights, &mut moments, 1.0);
        let dims = [x.channels, channels, FACTOR, FACTOR];
        let inputs = vec![
            x.name.clone(),
            self.parameter(&format!("{path}.weight"), &dims, &weights),
            self.parameter(&format!("{path}.bias"), &[channels], &bias),
        ];
        let two = [FACTOR as i64; 2];
        let attributes = vec![
            proto::ints("dilations", &[1, 1]),
            proto::int("group", 1),
            proto::ints("kernel_shape", &two),
            proto::ints("pads", &[0; 4]),
            proto::ints("strides", &two),
        ];
        let name = self.push(path, "ConvTranspose", inputs, attributes);
        self.cost.macc += (weights.len() * x.height * x.width) as u64;
        Map { name, channels, height: FACTOR * x.height, width: FACTOR * x.width, moments }
    }

    /// Each pixel becomes `factor` × `factor` of the same: a `Resize` by a scale, rounded down as PyTorch does.
    pub(crate) fn upsample_nearest(&mut self, path: &str, x: &Map, factor: usize) -> Map {
        let scales = [1.0, 1.0, factor as f32, factor as f32];
        let scales = self.constant(path, "scales", proto::f32_tensor("", &[4], &scales));
        let attributes = vec![
            proto::string("coordinate_transformation_mode", "asymmetric"),
            proto::string("mode", "nearest"),
            proto::string("nearest_mode", "floor"),
        ];
        // The second operand, a region, is for another mode.
        let name = self.push(path, "Resize", vec![x.name.clone(), String::new(), scales], attributes);
        Map { name, height: factor * x.height, width: factor * x.width, ..x.clone() }
    }

    /// Of `factor`² channels each, one with `factor` times the rows and columns (Shi et al. 2016, equation 4): PyTorch's
    /// `PixelShuffle`.
    pub(crate) fn pixel_shuffle(&mut self, path: &str, x: &Map, factor: usize) -> Map {
        let channels = x.channels / (factor * factor);
        let attributes = vec![proto::int("blocksize", factor as i64), proto::string("mode", "CRD")];
        let name = self.push(path, "DepthToSpace", vec![x.name.clone()], attributes);
        let moments = x.moments.select(channels, |i| i * factor * factor);
        Map { name, channels, height: factor * x.height, width: factor * x.width, moments }
    }
}
