//! Layers that read a sequence step by step.

use super::{Net, Tensor, Tokens};
use crate::moments::Moments;
use crate::proto;
use crate::weights::Stream;

/// Input, output, forget gate, and what is written to the cell.
const GATES: usize = 4;
const DIRECTIONS: usize = 2;

impl Net {
    /// Two LSTMs over rows `[steps, 1, features]` (Hochreiter and Schmidhuber 1997), one from the front, one from the
    /// back, and their states side by side: `[steps, 1, 2 · hidden]`.
    ///
    /// ```text
    /// x ── LSTM [steps, directions, 1, hidden] ── Transpose [steps, 1, directions, hidden] ── Reshape ──►
    /// ```
    pub(crate) fn bidirectional_lstm(&mut self, path: &str, x: &Tokens, hidden: usize) -> Tokens {
        let [steps, batch, features] = x.dims;
        let rows = GATES * hidden;
        // What a gate sees of the input has about unit variance; of the state, whose values are small, about a third.
        let square = x.moments.average_square() * features as f64;
        let input_bound = (3.0 / square).sqrt() as f32;
        let state_bound = (3.0 / hidden as f32).sqrt();
        let mut weights = |what: &str, dims: &[usize], bound: f32| {
            let name = format!("{path}.{what}");
            let values = Stream::new(self.seed, &name).uniforms(dims.iter().product(), bound);
            self.parameter(&name, dims, &values)
        };
        let inputs = vec![
            x.name.clone(),
            weights("weight_ih", &[DIRECTIONS, rows, features], input_bound),
            weights("weight_hh", &[DIRECTIONS, rows, hidden], state_bound),
            // Both have biases, which are added up.
            weights("bias", &[DIRECTIONS, 2 * rows], 0.25),
            // All sequences are as long as the longest one.
            String::new(),
            self.zeros(path, "initial_h", &[DIRECTIONS, batch, hidden]),
            self.zeros(path, "initial_c", &[DIRECTIONS, batch, hidden]),
        ];
        let attributes =
            vec![proto::string("direction", "bidirectional"), proto::int("hidden_size", hidden as i64)];
        let name = self.push(path, "LSTM", inputs, attributes);
        self.cost.macc += (steps * batch * DIRECTIONS * rows * (features + hidden)) as u64;

        let states = Tensor { name, dims: vec![steps, DIRECTIONS, batch, hidden] };
        let turned = self.transpose(path, &states, &[0, 2, 1, 3]);
        let count = DIRECTIONS * hidden;
        // The product of a gate and a tangent.
        let moments = Moments::uniform(count, 0.0, 0.1);
        self.reshape(path, &turned, &[steps, batch, count]).into_tokens(moments)
    }

    fn zeros(&mut self, path: &str, what: &str, dims: &[usize]) -> String {
        let zeros = vec![0.0; dims.iter().product()];
        self.constant(path, what, proto::f32_tensor("", dims, &zeros))
    }
}
