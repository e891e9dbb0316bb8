//! Stores what lies between layers, and the weights of layers that sum over channels, in sixteen bits.
//!
//! ```text
//!   x ─▶ conv ─▶ depthwise ─▶ conv ─▶ softmax           all f32
//!                       ▼
//!   x ─▶ conv ─▶ depthwise ─▶ conv ─▶ softmax
//!        [bf16]      [bf16]   [f32]                     what each stores; the weights of the second conv are bf16
//! ```
//!
//! A layer is a convolution, a product of matrices or a pool that kernels do. It computes in `f32` whatever it reads, and rounds once, when it
//! stores: so that is all that the graph says, too, and evaluating it is the definition of what the program computes.
//!
//! | stays `f32` | because |
//! |---|---|
//! | inputs and outputs, and what no layer is in front of or behind | it is the caller's, or numbers such as coordinates, of which eight bits are too few |
//! | what operators read and make that are no layers (softmax, normalisations, exponentials …) | they lose too much; their loop nests convert while they load and store |
//! | bias, scale and shift, weights of depthwise layers | they are small |
//! | what is added to a result that stays `f32` | it would be rounded for nothing: the sums that run through a transformer |
//! | a layer that is named, and the first ones, which read what is `f32` | so it was asked; rounding the picture would be a pass over it |
//! | what is inside of loops and branches | states are rounded again and again there |
//!
//! What only moves elements moves what there is. This runs once, behind all passes: it changes types, and so makes a new graph.

use std::collections::{BTreeMap, BTreeSet};

use nnc_ir::nearest::nearest;
use nnc_ir::op::{Cast, Conv, Epilogue, MatMul, Pool};
use nnc_ir::{DType, Graph, GraphError, NodeId, Op, Tensor, TensorError, Value};

use super::Notes;
use crate::code::float::Float;
use crate::code::layers::{self, Layer};

/// What the layers of a network are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As the model has them.
    #[default]
    F32,
    /// Upper halves of `f32`: their range, and three digits.
    Bf16,
    /// IEEE half precision: numbers up to 65504, and four digits.
    F16,
}

impl Precision {
    /// What is stored; `None` for `f32`.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Precision::F32 => None,
            Precision::Bf16 => Some(DType::BF16),
            Precision::F16 => Some(DType::F16),
        }
    }

    /// Its name, as `from_name` reads it.
    pub fn name(self) -> &'static str {
        self.dtype().unwrap_or(DType::F32).name()
    }

    /// The inverse of [`Precision::name`].
    pub fn from_name(name: &str) -> Option<Precision> {
        [Precision::F32, Precision::Bf16, Precision::F16]
            .into_iter()
            .find(|precision| precision.name() == name)
    }
}

/// Why a graph could not be narrowed.
#[derive(Debug, thiserror::Error)]
pub enum NarrowError {
    /// A layer that is to stay `f32` is none of the graph.
    #[error("there is no layer \"{name}\" to keep in f32; {hint}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Which ones there are.
        hint: String,
    },
    /// By the graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Weights could not be converted.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// A graph that was narrowed.
pub(super) struct Narrowed {
    pub graph: Graph,
    /// Names of the layers that read sixteen bits.
    pub layers: Vec<String>,
}

/// How many names an error lists.
const LISTED: usize = 5;

/// The graph with what lies between its layers in `to`, but for the layers in `keep`.
pub(super) fn narrowed(
    graph: &Graph,
    to: DType,
    keep: &[String],
    notes: &mut Notes,
) -> Result<Narrowed, NarrowError> {
    let order = graph.order()?;
    let layer = |id: NodeId| is_layer(graph, id);
    let known: Vec<&str> = order
        .iter()
        .map(|&id| graph.node(id))
        .filter(|node| is_step(&node.op))
        .map(|node| &node.name[..])
        .collect();
    if let Some(name) = keep.iter().find(|name| !known.contains(&&name[..])) {
        let layers: Vec<&str> =
            order.iter().filter(|id| layer(**id)).map(|&id| &graph.node(id).name[..]).collect();
        return Err(NarrowError::Unknown { name: name.clone(), hint: hint(name, &known, &layers) });
    }
    let behind = behind_layers(graph, &order);
    let kept: BTreeSet<NodeId> =
        order.iter().copied().filter(|&id| keep.contains(&graph.node(id).name)).collect();
    let reading = order.iter().copied().filter(|&id| layer(id) && reads_narrow(graph, id, &behind));
    let reading: BTreeSet<NodeId> = reading.filter(|id| !kept.contains(id)).collect();
    let wanted = wanted(graph, &order, (&behind, &reading, &kept));
    let narrow = Narrow {
        from: graph,
        graph: Graph::new(),
        to,
        reading,
        wanted,
        kept,
        values: BTreeMap::new(),
        casts: BTreeMap::new(),
        narrow_weights: BTreeMap::new(),
        layers: Vec::new(),
    };
    narrow.run(&order, notes)
}

fn hint(name: &str, known: &[&str], layers: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if layers.is_empty() => "there are none".into(),
        None => {
            let listed: Vec<String> = layers.iter().take(LISTED).map(|name| format!("\"{name}\"")).collect();
            let more = layers.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("layers are {}{more}", listed.join(", "))
        }
    }
}

fn is_step(op: &Op) -> bool {
    !matches!(op, Op::Input | Op::Constant(_))
}

/// Whether a node is a layer over `f32` that may store something else.
fn is_layer(graph: &Graph, id: NodeId) -> bool {
    let is_f32 = |value: Value| graph.ty(value).dtype == DType::F32;
    let reads_f32 = graph.operand(id, 0).is_some_and(is_f32);
    let kind = layers::of(graph, id).is_some_and(|layer| !matches!(layer, Layer::Integers { .. }));
    kind && reads_f32 && is_f32(id.into())
}

/// Whether a node moves elements of any type.
fn only_moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape(_)
            | Op::Transpose(_)
            | Op::ChannelSelect(_)
            | Op::Concat(_)
            | Op::Split(_)
            | Op::Slice(_)
            | Op::Expand(_)
    )
}

/// The operands of a layer that are images or matrices which it multiplies, or pools.
fn factors(op: &Op) -> &'static [usize] {
    match op {
        Op::MatMul(_) => &[MatMul::A, MatMul::B],
        _ => &[0],
    }
}

/// The operand that a layer adds to its result.
fn residual(op: &Op) -> Option<usize> {
    match op {
        Op::Conv(_) => Some(Conv::RESIDUAL),
        Op::MatMul(_) => Some(MatMul::RESIDUAL),
        Op::Pool(_) => Some(Pool::RESIDUAL),
        _ => None,
    }
}

/// Values that a layer is in front of.
fn behind_layers(graph: &Graph, order: &[NodeId]) -> BTreeSet<NodeId> {
    let mut behind = BTreeSet::new();
    for &id in order {
        let operands = graph.operands(id);
        if is_layer(graph, id) || operands.iter().flatten().any(|value| behind.contains(&value.node)) {
            behind.insert(id);
        }
    }
    behind
}

/// Whether layers are in front of all that a layer multiplies, or pools, and that is no constant: what no layer is in front of is not
/// rounded for this one alone.
fn reads_narrow(graph: &Graph, id: NodeId, behind: &BTreeSet<NodeId>) -> bool {
    let values = factors(&graph.node(id).op).iter().filter_map(|&index| graph.operand(id, index));
    let mut computed = values.filter(|value| graph.constant(*value).is_none()).peekable();
    computed.peek().is_some() && computed.all(|value| behind.contains(&value.node))
}

/// Nodes whose results are stored in sixteen bits: layers read them so, as they are or moved, or add them to what they store so.
fn wanted(
    graph: &Graph,
    order: &[NodeId],
    (behind, reading, kept): (&BTreeSet<NodeId>, &BTreeSet<NodeId>, &BTreeSet<NodeId>),
) -> BTreeSet<NodeId> {
    let mut wanted = BTreeSet::new();
    for &id in order.iter().rev() {
        let op = &graph.node(id).op;
        let mut reads: Vec<usize> = Vec::new();
        if is_layer(graph, id) {
            if reading.contains(&id) {
                reads.extend(factors(op));
            }
            if wanted.contains(&id) && !kept.contains(&id) {
                reads.extend(residual(op));
            }
        } else if only_moves(op) && wanted.contains(&id) {
            reads.extend(0..graph.operands(id).len());
        }
        let values = reads.into_iter().filter_map(|index| graph.operand(id, index));
        let narrows = |value: &Value| graph.ty(*value).dtype == DType::F32 && behind.contains(&value.node);
        wanted.extend(values.filter(narrows).map(|value| value.node));
    }
    wanted
}

/// A graph that becomes another one.
struct Narrow<'g> {
    from: &'g Graph,
    graph: Graph,
    to: DType,
    reading: BTreeSet<NodeId>,
    wanted: BTreeSet<NodeId>,
    kept: BTreeSet<NodeId>,
    /// The values of the new graph.
    values: BTreeMap<Value, Value>,
    /// What was cast already.
    casts: BTreeMap<(Value, DType), Value>,
    narrow_weights: BTreeMap<Value, Value>,
    /// Names of the layers that read sixteen bits.
    layers: Vec<String>,
}

impl Narrow<'_> {
    fn run(mut self, order: &[NodeId], notes: &mut Notes) -> Result<Narrowed, NarrowError> {
        let from = self.from;
        for &id in from.inputs() {
            let node = from.node(id);
            if let [ty] = node.outputs.as_slice() {
                let input = self.graph.add_input(node.name.clone(), ty.clone());
                self.values.insert(id.into(), input);
            }
        }
        for &id in order.iter().filter(|id| is_step(&from.node(**id).op)) {
            let new = if is_layer(from, id) {
                self.layer(id, notes)?
            } else if only_moves(&from.node(id).op) && self.wanted.contains(&id) {
                self.moved(id)?
            } else {
                self.other(id)?
            };
            for output in 0..from.node(id).outputs.len() as u32 {
                self.values.insert(Value { node: id, output }, Value { node: new, output });
            }
        }
        for (name, value) in from.outputs() {
            let output = self.as_type(*value, from.ty(*value).dtype)?;
            self.graph.add_output(name.clone(), output);
        }
        self.graph.verify()?;
        Ok(Narrowed { graph: self.graph, layers: self.layers })
    }

    /// A value in the new graph, as it is there; a constant is added when it is first asked for.
    fn value(&mut self, value: Value) -> Result<Value, NarrowError> {
        if let Some(new) = self.values.get(&value) {
            return Ok(*new);
        }
        let name = self.from.node(value.node).name.clone();
        let Some(tensor) = self.from.constant(value) else { return Err(GraphError::Cycle(name).into()) };
        let new = self.graph.add_constant(name, tensor.clone());
        self.values.insert(value, new);
        Ok(new)
    }

    /// A value in the new graph as another type.
    fn as_type(&mut self, value: Value, to: DType) -> Result<Value, NarrowError> {
        if self.from.constant(value).is_some() && to == self.to {
            return self.narrow_constant(value);
        }
        let new = self.value(value)?;
        if self.graph.ty(new).dtype == to {
            return Ok(new);
        }
        if let Some(cast) = self.casts.get(&(new, to)) {
            return Ok(*cast);
        }
        let name = format!("{}:{}", self.graph.node(new.node).name, to.name());
        let cast = self.graph.add(name, Cast { to }.into(), &[Some(new)])?.into();
        self.casts.insert((new, to), cast);
        Ok(cast)
    }

    /// A constant, rounded.
    fn narrow_constant(&mut self, value: Value) -> Result<Value, NarrowError> {
        if let Some(new) = self.narrow_weights.get(&value) {
            return Ok(*new);
        }
        let (Some(tensor), Some(float)) = (self.from.constant(value), Float::of(self.to)) else {
            return self.value(value);
        };
        let Some(elems) = Float::elems(tensor).filter(|_| tensor.dtype() == DType::F32) else {
            return self.value(value);
        };
        let size = float.bytes() as usize;
        let mut bytes = vec![0; elems.len() * size];
        elems.iter().zip(bytes.chunks_exact_mut(size)).for_each(|(elem, to)| float.write(*elem, to));
        let ty = nnc_ir::TensorType::new(self.to, tensor.shape().to_vec());
        let tensor = Tensor::from_bytes(ty, bytes)?;
        let new = self.graph.add_constant(self.from.node(value.node).name.clone(), tensor);
        self.narrow_weights.insert(value, new);
        Ok(new)
    }

    /// A layer: it reads what there is, or all of it as `f32`, and stores what its readers want.
    fn layer(&mut self, id: NodeId, notes: &mut Notes) -> Result<NodeId, NarrowError> {
        let from = self.from;
        let narrows = self.reading.contains(&id);
        let read = if narrows { self.to } else { DType::F32 };
        let stored = if self.wanted.contains(&id) { self.to } else { DType::F32 };
        let mut op = from.node(id).op.clone();
        let epilogue = epilogue_of(&mut op);
        // What has no place for it stores what it reads; whoever wants it otherwise converts it.
        let result = if epilogue.is_some() { stored } else { read };
        if let Some(epilogue) = epilogue.filter(|_| stored != read) {
            epilogue.stored = Some(stored);
        }
        let (factors, residual) = (factors(&from.node(id).op), residual(&from.node(id).op));
        let weights = match layers::of(from, id) {
            Some(Layer::Dense { .. }) => Some(Conv::W),
            Some(Layer::Transposed { .. }) => Some(1),
            _ => None,
        };
        let mut operands = Vec::new();
        for (index, operand) in from.operands(id).into_iter().enumerate() {
            let Some(value) = operand else {
                operands.push(None);
                continue;
            };
            let new = if Some(index) == residual {
                self.as_type(value, result)?
            } else if factors.contains(&index) || (Some(index) == weights && from.constant(value).is_some()) {
                self.as_type(value, read)?
            } else {
                self.as_type(value, DType::F32)?
            };
            operands.push(Some(new));
        }
        if narrows {
            self.layers.push(from.node(id).name.clone());
        }
        notes.count(match (narrows, self.kept.contains(&id)) {
            (true, _) => "layers",
            (false, true) => "layers kept",
            (false, false) => "layers that read f32",
        });
        Ok(self.graph.add(from.node(id).name.clone(), op, &operands)?)
    }

    /// What moves elements that a layer reads.
    fn moved(&mut self, id: NodeId) -> Result<NodeId, NarrowError> {
        let node = self.from.node(id);
        let mut operands = Vec::new();
        for operand in self.from.operands(id) {
            operands.push(operand.map(|value| self.as_type(value, self.to)).transpose()?);
        }
        Ok(self.graph.add(node.name.clone(), node.op.clone(), &operands)?)
    }

    /// Any other node, with operands of the types that they had.
    fn other(&mut self, id: NodeId) -> Result<NodeId, NarrowError> {
        let node = self.from.node(id);
        let mut operands = Vec::new();
        for operand in self.from.operands(id) {
            let as_before = |value: Value| self.as_type(value, self.from.ty(value).dtype);
            operands.push(operand.map(as_before).transpose()?);
        }
        Ok(self.graph.add(node.name.clone(), node.op.clone(), &operands)?)
    }
}

fn epilogue_of(op: &mut Op) -> Option<&mut Epilogue> {
    match op {
        Op::Conv(conv) => Some(&mut conv.epilogue),
        Op::MatMul(product) => Some(&mut product.epilogue),
        Op::Pool(pool) => Some(&mut pool.epilogue),
        _ => None,
    }
}
