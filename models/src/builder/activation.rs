//! Functions of single elements, in the nodes that exporters write for them.

use super::{Handle, Net};
use crate::moments::{Moments, gelu, sigmoid, tanh};
use crate::proto;

impl Net {
    pub(crate) fn relu<H: Handle>(&mut self, path: &str, x: &H) -> H {
        self.element(path, "Relu", x, Moments::relu)
    }

    /// ReLU6 as exporters write it: `Clip` between two constants.
    pub(crate) fn relu6<H: Handle>(&mut self, path: &str, x: &H) -> H {
        let name = self.clip_to_six(path, x.name().into());
        x.with(name, x.moments().relu6())
    }

    pub(crate) fn tanh<H: Handle>(&mut self, path: &str, x: &H) -> H {
        self.element(path, "Tanh", x, |moments| moments.through(tanh))
    }

    pub(crate) fn sigmoid<H: Handle>(&mut self, path: &str, x: &H) -> H {
        self.element(path, "Sigmoid", x, |moments| moments.through(sigmoid))
    }

    /// `x · min(max(x + 3, 0), 6) / 6`
    pub(crate) fn hard_swish<H: Handle>(&mut self, path: &str, x: &H) -> H {
        self.element(path, "HardSwish", x, |moments| moments.through(|x| x * hard_sigmoid(x)))
    }

    /// `min(max(x + 3, 0), 6) / 6` as one node.
    pub(crate) fn hard_sigmoid<H: Handle>(&mut self, path: &str, x: &H) -> H {
        let slope = vec![proto::float("alpha", 1.0 / 6.0)];
        let name = self.push(path, "HardSigmoid", vec![x.name().into()], slope);
        x.with(name, x.moments().through(hard_sigmoid))
    }

    /// The same as a sum, a `Clip` and a quotient, from modules that write it out.
    pub(crate) fn clipped_sum<H: Handle>(&mut self, path: &str, x: &H) -> H {
        let sum = self.with_scalar(path, "Add", x.name(), 3.0);
        let clipped = self.clip_to_six(path, sum);
        let name = self.with_scalar(path, "Div", &clipped, 6.0);
        x.with(name, x.moments().through(hard_sigmoid))
    }

    /// `x · σ(x)` (SiLU, Swish): exporters write both factors.
    pub(crate) fn silu<H: Handle>(&mut self, path: &str, x: &H) -> H {
        let factor = self.push(path, "Sigmoid", vec![x.name().into()], vec![]);
        let name = self.push(path, "Mul", vec![x.name().into(), factor], vec![]);
        x.with(name, x.moments().through(|x| x * sigmoid(x)))
    }

    /// `x · Φ(x)` (Hendrycks and Gimpel 2016) spelled by `Erf`: `x · (erf(x / √2) + 1) · 0.5`.
    pub(crate) fn gelu<H: Handle>(&mut self, path: &str, x: &H) -> H {
        let quotient = self.with_scalar(path, "Div", x.name(), std::f32::consts::SQRT_2);
        let erf = self.push(path, "Erf", vec![quotient], vec![]);
        let sum = self.with_scalar(path, "Add", &erf, 1.0);
        let twice = self.push(path, "Mul", vec![x.name().into(), sum], vec![]);
        let name = self.with_scalar(&format!("{path}.half"), "Mul", &twice, 0.5);
        x.with(name, x.moments().through(gelu))
    }

    fn element<H: Handle>(&mut self, path: &str, op: &str, x: &H, f: impl Fn(&Moments) -> Moments) -> H {
        let name = self.push(path, op, vec![x.name().into()], vec![]);
        x.with(name, f(x.moments()))
    }

    fn clip_to_six(&mut self, path: &str, x: String) -> String {
        let low = self.constant(path, "min", proto::f32_tensor("", &[], &[0.0]));
        let high = self.constant(path, "max", proto::f32_tensor("", &[], &[6.0]));
        self.push(path, "Clip", vec![x, low, high], vec![])
    }

    /// `op` of a value and a scalar.
    pub(super) fn with_scalar(&mut self, path: &str, op: &str, x: &str, scalar: f32) -> String {
        let what = op.to_lowercase();
        let scalar = self.constant(path, &what, proto::f32_tensor("", &[], &[scalar]));
        self.push(path, op, vec![x.into(), scalar], vec![])
    }
}

fn hard_sigmoid(x: f64) -> f64 {
    (x + 3.0).clamp(0.0, 6.0) / 6.0
}
