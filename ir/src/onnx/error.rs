//! What can be wrong with a model: one enum for the file, one for a node in it.
//!
//! Every text names the file, the place (node, value, input, tensor) and, where there is one, the way out.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io;

use crate::limits::Exceeded;
use crate::op::OpError;
use crate::setting::{Setting, listed};
use crate::tensor::TensorError;
use crate::types::DType;

/// Why a model cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}")]
pub struct OnnxError {
    /// The file, or `model` when it came from memory.
    pub file: String,
    /// What is wrong.
    #[source]
    pub fault: Box<Fault>,
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read at all.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// A file was written to after the model had been opened.
    #[error("\"{file}\" has changed since the model was opened; open the model again")]
    Changed {
        /// The model's file, or one beside it.
        file: String,
    },
    /// The bytes are no ONNX model; says what they look like.
    #[error("not an ONNX model: {0}")]
    NotOnnx(String),
    /// Something is larger than the [`Limits`](super::Limits) allow.
    #[error(transparent)]
    Limit(#[from] Exceeded),
    /// The model imports operators of a version that is not known here, or of none.
    #[error("{0}")]
    Opset(String),
    /// The model uses a part of ONNX that is not read.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// A graph input or output is declared in a way that cannot be used.
    #[error("{kind} \"{name}\": {what}")]
    Port {
        /// `input` or `output`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// An initializer, or the tensor in an attribute, is damaged.
    #[error("tensor \"{tensor}\": {what}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        what: String,
    },
    /// A value has two sources.
    #[error("value \"{value}\" is made twice: by {first} and by {second}")]
    Duplicate {
        /// Its name.
        value: String,
        /// Who makes it first.
        first: String,
        /// Who makes it again.
        second: String,
    },
    /// A value has no source.
    #[error("{reader} reads \"{value}\", which is no input, no initializer and no node's output")]
    Undefined {
        /// Who wants it.
        reader: String,
        /// Its name.
        value: String,
    },
    /// Nodes depend on each other in a circle.
    #[error("{}", cycle_text(within.as_deref(), links))]
    Cycle {
        /// The node in whose graph they are, if they are not in the model's own.
        within: Option<String>,
        /// The nodes of the circle; each reads what the next one makes, and the last one what the first one does.
        links: Vec<Link>,
    },
    /// Some input dims are neither fixed by the model nor bound by the caller.
    #[error("{}", unbound_text(.0))]
    Unbound(Vec<UnboundInput>),
    /// A binding does not fit the model.
    #[error("{setting}: {what}{}", by.as_ref().map_or_else(String::new, |by| format!(" by {by}")))]
    Binding {
        /// The binding.
        setting: Setting,
        /// What does not fit.
        what: String,
        /// Another binding that says so.
        by: Option<Setting>,
    },
    /// Operators that are not read, all of them.
    #[error("{}", unsupported_text(.0))]
    Operators(Vec<UnsupportedOperator>),
    /// A node is wrong, or asks for what is not supported.
    #[error("node \"{node}\" ({op}, opset {opset}): {fault}")]
    Node {
        /// Its name, or its first output's.
        node: String,
        /// Its operator.
        op: String,
        /// The version of the operator set that the model imports.
        opset: i64,
        /// What is wrong.
        #[source]
        fault: Box<NodeFault>,
    },
}

/// A node in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub node: String,
    /// What it reads of the next one.
    pub value: String,
}

/// An input whose shape is not fully known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnboundInput {
    /// Its name.
    pub input: String,
    /// Its type, as declared: `f32[batch, 3, ?, ?]`.
    pub declared: String,
    /// What binds it.
    pub settings: Vec<Setting>,
}

/// An operator that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedOperator {
    /// Its domain; empty for ONNX's own.
    pub domain: String,
    /// Its name.
    pub op: String,
    /// The version of its domain that the model imports.
    pub opset: i64,
    /// The versions that are read, when there are any.
    pub supported: Option<String>,
    /// What to do when its whole domain is not read.
    pub advice: Option<String>,
    /// The nodes that use it.
    pub nodes: Vec<String>,
}

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NodeFault {
    /// An attribute is missing, of another type, or has a value that makes no sense.
    #[error("attribute \"{name}\" {what}")]
    Attribute {
        /// Its name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// An attribute that the operator does not have.
    #[error(
        "attribute \"{0}\" is not one of this operator; the model may need a newer operator set than it imports"
    )]
    UnknownAttribute(String),
    /// An operand decides a shape, but it is not known when the model is compiled.
    #[error("operand {index} ({operand}) must be known at compile time, but \"{value}\" {origin}")]
    NotConstant {
        /// Its position.
        index: usize,
        /// Its name in the ONNX operator.
        operand: &'static str,
        /// The value's name.
        value: String,
        /// Where it comes from, and what to do.
        origin: Origin,
        /// The graph inputs that it is computed from.
        inputs: Vec<String>,
    },
    /// What is only known when the program runs decides what there is.
    #[error("unsupported: {what}; it has to be known at compile time: {remedy}")]
    RunTime {
        /// What depends on it.
        what: String,
        /// What to do.
        remedy: Remedy,
    },
    /// More operands than the operator takes.
    #[error("has {got} operands, the operator takes {max}")]
    Operands {
        /// How many it takes.
        max: usize,
        /// How many there are.
        got: usize,
    },
    /// More outputs than the operator has.
    #[error("has {got} outputs, the operator has {max}")]
    Outputs {
        /// How many it has.
        max: usize,
        /// How many the node names.
        got: usize,
    },
    /// An operand of elements that the operator does not take.
    #[error("operand {index} ({operand}) holds {got}, the operator takes {}", names(.allowed))]
    ElementType {
        /// Its position.
        index: usize,
        /// Its name in the ONNX operator.
        operand: &'static str,
        /// Its element type.
        got: DType,
        /// Element types that it may have.
        allowed: Vec<DType>,
    },
    /// A result of elements that the operator does not give.
    #[error("result {index} ({result}) would hold {got}, the operator gives {}", names(.allowed))]
    ResultType {
        /// Its position.
        index: usize,
        /// Its name in the ONNX operator.
        result: &'static str,
        /// Its element type.
        got: DType,
        /// Element types that it may have.
        allowed: Vec<DType>,
    },
    /// Two operands of different elements, where the operator wants the same.
    #[error(
        "operand {index} ({operand}) holds {got}, but operand {first} ({same}) holds {expected}; they must hold the same"
    )]
    ElementTypes {
        /// Position of the second one.
        index: usize,
        /// Its name in the ONNX operator.
        operand: &'static str,
        /// Its element type.
        got: DType,
        /// Position of the first one.
        first: usize,
        /// Its name in the ONNX operator.
        same: &'static str,
        /// Its element type.
        expected: DType,
    },
    /// An output that is not computed here, but used.
    #[error("output {index} (\"{value}\") is used, but only the first {supported} can be computed")]
    Output {
        /// Its position.
        index: usize,
        /// Its name.
        value: String,
        /// How many are computed.
        supported: usize,
    },
    /// Attributes and operands do not fit together.
    #[error("{0}")]
    Invalid(String),
    /// What ONNX allows but is not read.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The operator refuses its operands.
    #[error(transparent)]
    Op(#[from] OpError),
    /// A node of a graph inside of it.
    #[error("in its node \"{node}\" ({op}): {fault}")]
    Inside {
        /// Its name, or its first output's.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        #[source]
        fault: Box<NodeFault>,
    },
    /// A result is larger than the [`Limits`](super::Limits) allow.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

/// Where a value comes from that should have been constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// It is a graph input, which this would bind.
    Input(Setting),
    /// It is made by nodes that depend on no input.
    Nodes,
    /// It is computed from what an input holds, and other data as this input is: a picture, or the like.
    Data(String),
    /// It is computed from inputs, which these would bind.
    Inputs(Vec<Setting>),
}

/// What makes a value known when the model is compiled.
#[derive(Debug, Clone, PartialEq)]
pub enum Remedy {
    /// Inputs have to be bound.
    Bind(Vec<Setting>),
    /// Nothing does: the program has to end before.
    EndBefore,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Input(setting) => write!(f, "is a graph input; bind it with {setting}"),
            Origin::Nodes => f.write_str("is computed at run time"),
            Origin::Data(input) => {
                write!(f, "is computed at run time from what \"{input}\" holds; {}", Remedy::EndBefore)
            }
            Origin::Inputs(settings) => {
                let settings = listed(settings);
                write!(f, "is computed at run time; binding what it depends on would help: {settings}")
            }
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remedy::Bind(settings) => f.write_str(&listed(settings)),
            Remedy::EndBefore => {
                let until = Setting::Until { name: None };
                write!(
                    f,
                    "end the program at a node before this one with {until}, and do the rest in the host"
                )
            }
        }
    }
}

impl NodeFault {
    fn inputs_to_bind(&self) -> &[String] {
        match self {
            NodeFault::NotConstant { inputs, .. } => inputs,
            NodeFault::Inside { fault, .. } => fault.inputs_to_bind(),
            _ => &[],
        }
    }

    /// A [`NodeFault::Invalid`].
    pub fn invalid(text: impl Into<String>) -> NodeFault {
        NodeFault::Invalid(text.into())
    }

    /// A [`NodeFault::Unsupported`].
    pub fn unsupported(text: impl Into<String>) -> NodeFault {
        NodeFault::Unsupported(text.into())
    }
}

fn names(list: &[DType]) -> String {
    list.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ")
}

impl From<TensorError> for NodeFault {
    fn from(e: TensorError) -> NodeFault {
        NodeFault::Op(OpError::Tensor(e))
    }
}

impl OnnxError {
    /// The graph inputs that a shape depends on, when that is what is wrong: bound to constants by
    /// [`Bindings::constants`](super::Bindings::constants), the model may be read.
    pub fn inputs_to_bind(&self) -> &[String] {
        match &*self.fault {
            Fault::Node { fault, .. } => fault.inputs_to_bind(),
            _ => &[],
        }
    }
}

impl Fault {
    pub(super) fn in_file(self, file: &str) -> OnnxError {
        OnnxError { file: file.to_string(), fault: Box::new(self) }
    }
}

fn cycle_text(within: Option<&str>, links: &[Link]) -> String {
    let mut text = match within {
        Some(node) => format!("the nodes in a graph of node \"{node}\" form a cycle: "),
        None => "the nodes form a cycle: ".to_string(),
    };
    for (i, link) in links.iter().take(LISTED).enumerate() {
        let maker = &links[(i + 1) % links.len()].node;
        let start = if i == 0 { format!("node \"{}\"", link.node) } else { ", which".to_string() };
        let _ = write!(text, "{start} reads \"{}\" of node \"{maker}\"", link.value);
    }
    if links.len() > LISTED {
        let _ = write!(text, ", and so on through {} nodes", links.len());
    }
    text
}

fn unbound_text(inputs: &[UnboundInput]) -> String {
    let mut text = String::from("some input dims are not known; ");
    for (i, input) in inputs.iter().take(LISTED).enumerate() {
        let gap = if i == 0 { "" } else { "; " };
        let _ = write!(
            text,
            "{gap}input \"{}\" is {}: give {}",
            input.input,
            input.declared,
            listed(&input.settings)
        );
    }
    if inputs.len() > LISTED {
        let _ = write!(text, "; … and {} more", inputs.len() - LISTED);
    }
    text.push_str(" (a number for each ?)");
    text
}

/// Entries of a list that an error names; of more it gives the number.
pub(super) const LISTED: usize = 24;

fn unsupported_text(ops: &[UnsupportedOperator]) -> String {
    const NAMED: usize = 3;
    let mut text = String::from("operators that nnc does not read: ");
    for (i, op) in ops.iter().take(LISTED).enumerate() {
        text.push_str(if i == 0 { "" } else { "; " });
        let _ = write!(text, "{} ", op);
        let names: Vec<String> = op.nodes.iter().take(NAMED).map(|n| format!("\"{n}\"")).collect();
        let more = if op.nodes.len() > NAMED { ", …" } else { "" };
        let _ = write!(text, "× {} ({}{more})", op.nodes.len(), names.join(", "));
    }
    if ops.len() > LISTED {
        let _ = write!(text, "; … and {} more", ops.len() - LISTED);
    }
    let advice: BTreeSet<&str> = ops.iter().filter_map(|op| op.advice.as_deref()).collect();
    for advice in advice {
        let _ = write!(text, "; {advice}");
    }
    text
}

impl fmt::Display for UnsupportedOperator {
    /// `com.microsoft:FusedConv of opset 1`, `LSTM of opset 14`, `Add of opset 6 (read: 7 and later)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.domain.is_empty() {
            write!(f, "{}:", self.domain)?;
        }
        write!(f, "{} of opset {}", self.op, self.opset)?;
        match &self.supported {
            Some(range) => write!(f, " (read: {range})"),
            None => Ok(()),
        }
    }
}
