//! RNN, GRU and LSTM: a loop over the steps of the sequence.
//!
//! ```text
//!   X [S, N, in] · Wᵀ + b  for all steps at once ─▶ ┌ slice t ─▶ + H · Rᵀ ─▶ gates ─▶ H, C ─▶ step t + 1 ┐
//! ```
//!
//! Sequences that are shorter than others keep their state, and show zeros, once they are over. What goes backwards is turned
//! around before the loop, and its results behind it.
//!
//! Gates lie next to each other in W, R and b: `i o f c` of an LSTM, `z r h` of a GRU. Formulas are those of ONNX's documents.
//!
//! DynamicQuantizeLSTM of ONNX Runtime has bytes for W and R, which are given as `Wᵀ` and `Rᵀ`; what they are multiplied with, X as a whole
//! and H of each step, is quantised by its extremes.

use super::Results;
use super::contrib::product::dynamic_product;
use super::control::turn;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, integers};
use crate::op::elementwise::BinaryFn;
use crate::op::{Loop, ReverseSequence, Unary};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

#[derive(Clone, Copy, PartialEq)]
enum CellKind {
    Rnn,
    Gru,
    Lstm,
}

impl CellKind {
    fn gates(self) -> usize {
        match self {
            CellKind::Rnn => 1,
            CellKind::Gru => 3,
            CellKind::Lstm => 4,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            CellKind::Rnn => &["Tanh"],
            CellKind::Gru => &["Sigmoid", "Tanh"],
            CellKind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// What one direction computes with.
#[derive(Clone)]
struct Cell {
    kind: CellKind,
    hidden: usize,
    /// `Rᵀ`, `[hidden, gates · hidden]`.
    r: Value,
    /// How `r` is quantised, where it is.
    r_bytes: Option<Quantised>,
    /// The bias of the recurrent part, `[gates · hidden]`, where it is not one with the other.
    r_bias: Option<Value>,
    /// Peepholes `i o f`, `[3 · hidden]`.
    peepholes: Option<Value>,
    activations: Vec<Unary>,
    clip: Option<f32>,
    linear_before_reset: bool,
    input_forget: bool,
}

/// Scale and zero point of a matrix of bytes: one number, or one for each column.
#[derive(Clone, Copy)]
struct Quantised {
    scale: Value,
    zero: Value,
}

/// RNN, GRU and LSTM, since 7; DynamicQuantizeLSTM.
pub(in crate::onnx) fn recurrent(n: &mut NodeReader<'_, '_>) -> Results {
    let kind = match n.op() {
        "RNN" => CellKind::Rnn,
        "GRU" => CellKind::Gru,
        _ => CellKind::Lstm,
    };
    let (x, w, r) = (n.operand(0, "X")?, n.operand(1, "W")?, n.operand(2, "R")?);
    let (bias, lens, initial) = (n.optional(3)?, n.optional(4)?, n.optional(5)?);
    let (initial_c, peepholes) =
        if kind == CellKind::Lstm { (n.optional(6)?, n.optional(7)?) } else { (None, None) };
    let bytes = match n.op() {
        "DynamicQuantizeLSTM" => Some([
            Quantised { scale: n.operand(8, "W_scale")?, zero: n.operand(9, "W_zero_point")? },
            Quantised { scale: n.operand(10, "R_scale")?, zero: n.operand(11, "R_zero_point")? },
        ]),
        _ => None,
    };
    let batch_first = n.attributes.flag("layout", false)?;
    let x = if batch_first { n.transpose(x, &[1, 0, 2])? } else { x };
    let x_shape = n.shape(x);
    // Of bytes, matrices are given the other way round.
    let [w_shape, r_shape] = [w, r].map(|matrices| match (&n.shape(matrices)[..], bytes) {
        (&[directions, columns, rows], Some(_)) => Shape::new([directions, rows, columns]),
        (shape, _) => Shape::new(shape),
    });
    let gates = kind.gates();
    let (&[steps, batch, _], &[directions, rows, _], &[_, _, hidden]) =
        (&x_shape[..], &w_shape[..], &r_shape[..])
    else {
        return Err(NodeFault::invalid(format!(
            "X, W and R must have three axes, they are {x_shape}, {w_shape} and {r_shape}"
        )));
    };
    if hidden.checked_mul(gates) != Some(rows) || r_shape[..2] != w_shape[..2] {
        return Err(NodeFault::invalid(format!("W of shape {w_shape} and R of shape {r_shape} do not fit")));
    }
    if n.attributes.int("hidden_size")?.is_some_and(|size| usize::try_from(size) != Ok(hidden)) {
        return Err(value("hidden_size", format!("is not that of R, {hidden}")));
    }
    let lens = match lens {
        Some(lens) => lengths(n, lens, steps, batch)?,
        None => None,
    };
    let turns: &[bool] = n.attributes.choice(
        "direction",
        &[false][..],
        &[("forward", &[false][..]), ("reverse", &[true][..]), ("bidirectional", &[false, true][..])],
    )?;
    if turns.len() != directions {
        return Err(value("direction", format!("has {} directions, W has {directions}", turns.len())));
    }
    let activations = activations(n, kind, directions)?;
    let clip = n.attributes.float("clip")?;
    let linear_before_reset = n.attributes.flag("linear_before_reset", false)?;
    let input_forget = n.attributes.flag("input_forget", false)?;

    let state_shape = [batch, hidden];
    let (mut all, mut last_h, mut last_c) = (Vec::new(), Vec::new(), Vec::new());
    for (direction, &reverse) in turns.iter().enumerate() {
        let of_direction = |n: &mut NodeReader<'_, '_>, v: Value, shape: &[usize]| {
            let part = n.part(v, 0, direction, 1, 1)?;
            n.reshape(part, shape)
        };
        let [(w, w_bytes), (r, r_bytes)] = match bytes {
            Some([of_w, of_r]) => [
                (matrix_of_direction(n, w, direction)?, Some(of_w.of_direction(n, direction)?)),
                (matrix_of_direction(n, r, direction)?, Some(of_r.of_direction(n, direction)?)),
            ],
            None => {
                let [w, r] = [(w, &w_shape), (r, &r_shape)].map(|(matrices, shape)| {
                    let own = of_direction(n, matrices, &shape[1..])?;
                    n.transpose(own, &[1, 0])
                });
                [(w?, None), (r?, None)]
            }
        };
        let mut inputs = product(n, x, w, w_bytes)?;
        let mut r_bias = None;
        if let Some(bias) = bias {
            let both = of_direction(n, bias, &[super::product(&[2, rows])?])?;
            let (own, recurrent) = (n.part(both, 0, 0, rows, 1)?, n.part(both, 0, rows, rows, 1)?);
            inputs = n.binary(BinaryFn::Add, inputs, own)?;
            r_bias = Some(recurrent);
        }
        let peepholes = match peepholes {
            Some(p) => Some(of_direction(n, p, &[3 * hidden])?),
            None => None,
        };
        let initial_state = |n: &mut NodeReader<'_, '_>, state: Option<Value>| match state {
            Some(state) => {
                let state = if batch_first { n.transpose(state, &[1, 0, 2])? } else { state };
                of_direction(n, state, &state_shape)
            }
            None => {
                let zero = n.scalar(n.dtype(x), 0.0)?;
                n.expand(zero, state_shape)
            }
        };
        let (h, c) = (initial_state(n, initial)?, initial_state(n, initial_c)?);
        let activations = activations.get(direction).cloned().unwrap_or_default();
        let cell = Cell {
            kind,
            hidden,
            r,
            r_bytes,
            r_bias,
            peepholes,
            activations,
            clip,
            linear_before_reset,
            input_forget,
        };
        let inputs = if reverse { backwards(n, inputs, lens)? } else { inputs };
        let (states, h, c) = cell.steps(n, inputs, (h, c), lens)?;
        let states = if reverse { backwards(n, states, lens)? } else { states };
        all.push(n.reshape(states, [steps, 1, batch, hidden])?);
        last_h.push(n.reshape(h, [1, batch, hidden])?);
        last_c.push(n.reshape(c, [1, batch, hidden])?);
    }
    let mut results = vec![n.concat(1, &all)?, n.concat(0, &last_h)?];
    if kind == CellKind::Lstm {
        results.push(n.concat(0, &last_c)?);
    }
    if batch_first {
        results[0] = n.transpose(results[0], &[2, 0, 1, 3])?;
        for state in &mut results[1..] {
            *state = n.transpose(*state, &[1, 0, 2])?;
        }
    }
    Ok(results)
}

/// The lengths of the sequences, an `i64` for each, if they are not known to be as long as X.
fn lengths(
    n: &mut NodeReader<'_, '_>,
    lens: Value,
    steps: usize,
    batch: usize,
) -> Result<Option<Value>, NodeFault> {
    if n.shape(lens)[..] != [batch] {
        let ty = n.ty(lens);
        return Err(NodeFault::invalid(format!("sequence_lens is {ty}, for {batch} sequences")));
    }
    if let Some(tensor) = n.constant_of(lens) {
        let lens = integers(tensor, "sequence_lens")?;
        let fits = |len: i64| usize::try_from(len).is_ok_and(|len| len <= steps);
        if let Some(len) = lens.iter().find(|&&len| !fits(len)) {
            return Err(NodeFault::invalid(format!("sequence_lens has {len}, X has {steps} steps")));
        }
        if lens.iter().all(|&len| usize::try_from(len) == Ok(steps)) {
            return Ok(None);
        }
    }
    n.cast(lens, DType::I64).map(Some)
}

/// Steps `[S, N, …]` in the other direction, each sequence for itself.
fn backwards(n: &mut NodeReader<'_, '_>, x: Value, lens: Option<Value>) -> Result<Value, NodeFault> {
    match lens {
        None => turn(n, x, 0, true),
        Some(lens) => n.emit(ReverseSequence { batch_axis: 1, time_axis: 0 }, &[x, lens]),
    }
}

/// The functions of each direction.
fn activations(
    n: &mut NodeReader<'_, '_>,
    kind: CellKind,
    directions: usize,
) -> Result<Vec<Vec<Unary>>, NodeFault> {
    for name in ["activation_alpha", "activation_beta"] {
        if n.attributes.has(name) {
            return Err(NodeFault::unsupported(format!(
                "other parameters of its functions (attribute \"{name}\")"
            )));
        }
    }
    let defaults = kind.activations();
    let names: Vec<&str> = match n.attributes.strings("activations")? {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => defaults.repeat(directions),
    };
    if names.len() != defaults.len() * directions {
        return Err(value("activations", format!("has {} functions", names.len())));
    }
    let function = |name: &&str| {
        Ok(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Unary::Sigmoid,
            "tanh" => Unary::Tanh,
            "relu" => Unary::Relu,
            "leakyrelu" => Unary::LeakyRelu { alpha: 0.01 },
            "hardsigmoid" => Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
            "elu" => Unary::Elu { alpha: 1.0 },
            "softsign" => Unary::Softsign,
            "softplus" => Unary::Softplus,
            _ => return Err(value("activations", format!("has \"{name}\", which is not supported"))),
        })
    };
    let functions = names.iter().map(function).collect::<Result<Vec<_>, NodeFault>>()?;
    Ok(functions.chunks(defaults.len()).map(<[Unary]>::to_vec).collect())
}

impl Cell {
    /// What all steps show, `[S, N, hidden]`, and the states after the last one.
    fn steps(
        &self,
        n: &mut NodeReader<'_, '_>,
        inputs: Value,
        (h, c): (Value, Value),
        lens: Option<Value>,
    ) -> Result<(Value, Value, Value), NodeFault> {
        let (all, state) = (n.ty(inputs).clone(), n.ty(h).clone());
        let steps = all.shape[0];
        let of_step = TensorType::new(all.dtype, all.shape[1..].to_vec());
        let shown = [&[steps], &state.shape[..]].concat();
        if steps == 0 {
            let none = n.add_constant(Tensor::zeros(TensorType::new(state.dtype, shown))?);
            return Ok((none, h, c));
        }
        if steps == 1 {
            let input = n.reshape(inputs, of_step.shape.to_vec())?;
            let first = n.integer(0)?;
            let (h, c, y) = self.counted_step(n, input, (h, c), (first, lens))?;
            return Ok((n.reshape(y, shown)?, h, c));
        }
        let has_c = self.kind == CellKind::Lstm;
        // Bytes that are known are so in the body, too, where they make a layer of integers.
        let known = |value: Value| n.constant_of(value).filter(|_| self.r_bytes.is_some()).cloned();
        let known = [Some(self.r), self.r_bytes.map(|bytes| bytes.zero)].map(|value| value.and_then(known));
        let nested = n.nested(&[], |n| {
            let step = n.input("step", TensorType::new(DType::I64, []));
            let h = n.input("h", state.clone());
            let c = if has_c { n.input("c", state) } else { h };
            let input = n.input("x", of_step);
            let [r, zero] = known.map(|tensor| tensor.map(|tensor| n.add_constant(tensor)));
            let mut take = |value: Value| n.captured(value);
            let cell = Cell {
                r: r.unwrap_or_else(|| take(self.r)),
                r_bytes: self.r_bytes.map(|bytes| Quantised {
                    scale: take(bytes.scale),
                    zero: zero.unwrap_or_else(|| take(bytes.zero)),
                }),
                r_bias: self.r_bias.map(&mut take),
                peepholes: self.peepholes.map(&mut take),
                ..self.clone()
            };
            let lens = lens.map(&mut take);
            let (h, c, y) = cell.counted_step(n, input, (h, c), (step, lens))?;
            Ok(if has_c { vec![h, c, y] } else { vec![h, y] })
        })?;
        let states = if has_c { vec![h, c] } else { vec![h] };
        let operands = [&states[..], &[inputs], &nested.captured].concat();
        let (trips, body) = (steps as u64, nested.graph.into());
        let op = Loop { trips, by_data: false, states: states.len(), scanned: 1, body };
        match n.emit_control(op, &operands)?[..] {
            [h, c, y] => Ok((y, h, c)),
            [h, y] => Ok((y, h, c)),
            _ => Err(NodeFault::invalid("a step has other results than it should")),
        }
    }

    /// The states after a step, and what it shows: of a sequence that is over, the states that there were, and zeros.
    fn counted_step(
        &self,
        n: &mut NodeReader<'_, '_>,
        input: Value,
        (h, c): (Value, Value),
        (step, lens): (Value, Option<Value>),
    ) -> Result<(Value, Value, Value), NodeFault> {
        let (new_h, new_c) = self.step(n, input, h, c)?;
        let Some(lens) = lens else { return Ok((new_h, new_c, new_h)) };
        let going = n.binary(BinaryFn::Less, step, lens)?;
        let batch = n.shape(going)[0];
        let going = n.reshape(going, [batch, 1])?;
        let zero = n.scalar(n.dtype(h), 0.0)?;
        let y = n.choose(going, new_h, zero)?;
        let c = if self.kind == CellKind::Lstm { n.choose(going, new_c, c)? } else { c };
        Ok((n.choose(going, new_h, h)?, c, y))
    }

    /// The states after a step.
    fn step(
        &self,
        n: &mut NodeReader<'_, '_>,
        input: Value,
        h: Value,
        c: Value,
    ) -> Result<(Value, Value), NodeFault> {
        match self.kind {
            CellKind::Rnn => {
                let sum = self.sum(n, input, h)?;
                Ok((self.activate(n, 0, sum)?, c))
            }
            CellKind::Gru => Ok((self.gru(n, input, h)?, c)),
            CellKind::Lstm => self.lstm(n, input, h, c),
        }
    }

    fn gru(&self, n: &mut NodeReader<'_, '_>, input: Value, h: Value) -> Result<Value, NodeFault> {
        // The gates z and r, and apart from them what the candidate takes from the input and from the state.
        let count = 2 * self.hidden;
        let r_gates = n.part(self.r, 1, 0, count, 1)?;
        let r_candidate = n.part(self.r, 1, count, self.hidden, 1)?;
        let bias = |n: &mut NodeReader<'_, '_>, start, len| match self.r_bias {
            Some(bias) => n.part(bias, 0, start, len, 1).map(Some),
            None => Ok(None),
        };
        let (gate_bias, candidate_bias) = (bias(n, 0, count)?, bias(n, count, self.hidden)?);
        let gates = n.part(input, 1, 0, count, 1)?;
        let gates = product_added(n, h, r_gates, gate_bias, Some(gates))?;
        let gates = self.activate(n, 0, gates)?;
        let (z, r) = (self.gate(n, gates, 0)?, self.gate(n, gates, 1)?);
        let candidate = n.part(input, 1, count, self.hidden, 1)?;
        let candidate = if self.linear_before_reset {
            let state = product_added(n, h, r_candidate, candidate_bias, None)?;
            let reset = n.binary(BinaryFn::Mul, r, state)?;
            n.binary(BinaryFn::Add, candidate, reset)?
        } else {
            let reset = n.binary(BinaryFn::Mul, r, h)?;
            product_added(n, reset, r_candidate, candidate_bias, Some(candidate))?
        };
        let candidate = self.activate(n, 1, candidate)?;
        // (1 − z) · candidate + z · h
        let distance = n.binary(BinaryFn::Sub, h, candidate)?;
        let kept = n.binary(BinaryFn::Mul, z, distance)?;
        n.binary(BinaryFn::Add, candidate, kept)
    }

    fn lstm(
        &self,
        n: &mut NodeReader<'_, '_>,
        input: Value,
        h: Value,
        c: Value,
    ) -> Result<(Value, Value), NodeFault> {
        let sum = self.sum(n, input, h)?;
        let [i, o, f, g] = [0, 1, 2, 3].map(|gate| self.gate(n, sum, gate));
        let (i, o, f, g) = (i?, o?, f?, g?);
        let i = self.peep(n, i, 0, c)?;
        let i = self.activate(n, 0, i)?;
        let f = if self.input_forget {
            let one = n.scalar(n.dtype(i), 1.0)?;
            n.binary(BinaryFn::Sub, one, i)?
        } else {
            let f = self.peep(n, f, 2, c)?;
            self.activate(n, 0, f)?
        };
        let g = self.activate(n, 1, g)?;
        let kept = n.binary(BinaryFn::Mul, f, c)?;
        let new = n.binary(BinaryFn::Mul, i, g)?;
        let c = n.binary(BinaryFn::Add, kept, new)?;
        let o = self.peep(n, o, 1, c)?;
        let o = self.activate(n, 0, o)?;
        let shown = match self.activations.get(2) {
            Some(function) => n.unary(*function, c)?,
            None => c,
        };
        Ok((n.binary(BinaryFn::Mul, o, shown)?, c))
    }

    /// `input + h · Rᵀ + bias`, all gates.
    fn sum(&self, n: &mut NodeReader<'_, '_>, input: Value, h: Value) -> Result<Value, NodeFault> {
        let sum = product(n, h, self.r, self.r_bytes)?;
        added(n, sum, self.r_bias, Some(input))
    }

    fn gate(&self, n: &mut NodeReader<'_, '_>, gates: Value, index: usize) -> Result<Value, NodeFault> {
        n.part(gates, 1, index * self.hidden, self.hidden, 1)
    }

    /// A gate that looks at the cell, too.
    fn peep(
        &self,
        n: &mut NodeReader<'_, '_>,
        gate: Value,
        index: usize,
        c: Value,
    ) -> Result<Value, NodeFault> {
        let Some(peepholes) = self.peepholes else {
            return Ok(gate);
        };
        let weights = n.part(peepholes, 0, index * self.hidden, self.hidden, 1)?;
        let seen = n.binary(BinaryFn::Mul, weights, c)?;
        n.binary(BinaryFn::Add, gate, seen)
    }

    fn activate(&self, n: &mut NodeReader<'_, '_>, index: usize, x: Value) -> Result<Value, NodeFault> {
        let x = match self.clip {
            Some(bound) => n.unary(Unary::Clip { min: -bound, max: bound }, x)?,
            None => x,
        };
        match self.activations.get(index) {
            Some(function) => n.unary(*function, x),
            None => Ok(x),
        }
    }
}

/// `a · b + bias + more`.
fn product_added(
    n: &mut NodeReader<'_, '_>,
    a: Value,
    b: Value,
    bias: Option<Value>,
    more: Option<Value>,
) -> Result<Value, NodeFault> {
    let sum = n.mat_mul(a, b)?;
    added(n, sum, bias, more)
}

/// `sum + bias + more`.
fn added(
    n: &mut NodeReader<'_, '_>,
    mut sum: Value,
    bias: Option<Value>,
    more: Option<Value>,
) -> Result<Value, NodeFault> {
    for part in [bias, more].into_iter().flatten() {
        sum = n.binary(BinaryFn::Add, sum, part)?;
    }
    Ok(sum)
}

/// `a · b`, for a matrix that may be quantised.
fn product(
    n: &mut NodeReader<'_, '_>,
    a: Value,
    b: Value,
    bytes: Option<Quantised>,
) -> Result<Value, NodeFault> {
    match bytes {
        Some(Quantised { scale, zero }) => dynamic_product(n, a, b, scale, Some(zero)),
        None => n.mat_mul(a, b),
    }
}

/// The matrix of one direction, of `[directions, rows, columns]`: known where they are, as layers of integers want their weights.
fn matrix_of_direction(
    n: &mut NodeReader<'_, '_>,
    matrices: Value,
    direction: usize,
) -> Result<Value, NodeFault> {
    let (dtype, shape) = (n.dtype(matrices), n.shape(matrices)[1..].to_vec());
    let Some(known) = n.constant_of(matrices) else {
        let own = n.part(matrices, 0, direction, 1, 1)?;
        return n.reshape(own, shape);
    };
    let ty = TensorType::new(dtype, shape);
    let own = known.bytes().get(direction * ty.bytes()..).and_then(|from| from.get(..ty.bytes()));
    let own = own.map(<[u8]>::to_vec).unwrap_or_default();
    let own = Tensor::from_bytes(ty, own)?;
    Ok(n.add_constant(own))
}

impl Quantised {
    /// Those of a direction, of `[directions]` or `[directions, columns]`.
    fn of_direction(self, n: &mut NodeReader<'_, '_>, direction: usize) -> Result<Quantised, NodeFault> {
        let mut part = |all: Value| {
            let shape = n.shape(all);
            if shape.first().is_none_or(|directions| direction >= *directions) {
                let ty = n.ty(all);
                return Err(NodeFault::invalid(format!(
                    "a scale or zero point is {ty}, with none for direction {direction}"
                )));
            }
            let own = n.part(all, 0, direction, 1, 1)?;
            n.reshape(own, &shape[1..])
        };
        Ok(Quantised { scale: part(self.scale)?, zero: part(self.zero)? })
    }
}
