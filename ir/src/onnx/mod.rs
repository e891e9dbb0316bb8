//! Reading ONNX models.
//!
//! ```text
//!   bytes ──wire──▶ sound protobuf ──decode──▶ Model ──import + Bindings──▶ Graph
//!          is it one?      names, nodes, tensors,          every shape known,
//!                          order, limits                   every attribute resolved
//! ```
//!
//! [`Model::open`] reads a file and checks what does not depend on input shapes. A [`Bindings`] says what the model
//! leaves open (`batch`, height, width); [`Model::graph`] then walks over the nodes once and builds the
//! [`Graph`](crate::Graph).
//!
//! # Example
//! ```no_run
//! use nnc_ir::onnx::{Bindings, Model};
//!
//! let model = Model::open("detector.onnx")?;
//! let mut bindings = Bindings::new();
//! bindings.bind_shape("x=1x3x640x640").unwrap();
//! let graph = model.graph(&bindings)?;
//! # Ok::<(), nnc_ir::onnx::OnnxError>(())
//! ```
//!
//! # How to add an operator
//! 1. If nothing in [`op`](crate::op) computes it: one struct there, with its `infer`, `eval` and arithmetic.
//! 2. Its constructor in `ops/`: ask for every attribute and operand, resolve what ONNX leaves implicit, emit.
//!    Attributes and operands that nobody asks for make the node an error, so that none is silently ignored.
//! 3. Its row in `table.rs`: name, first and last version, elements, constructor, and what is not read of it.
//!
//! An operand that decides a shape must be constant; `NodeReader::ints` and `constant` say so to the user when it is
//! not. Constants of a model, of `Shape` nodes and of small computations over them all count. One that may be computed of sizes that only
//! the run knows is asked for with `NodeReader::amounts`, and `varying/carry.rs` says of each operator what of its operands may vary.

mod about;
mod attribute;
mod bindings;
mod decode;
mod dtype;
mod end;
mod error;
mod external;
mod functions;
mod import;
mod model;
mod narrow;
mod nested;
mod node;
mod ops;
mod order;
mod signature;
mod source;
mod split;
mod subgraph;
mod table;
mod tensor;
mod varying;
mod weights;
mod wire;

pub use about::ModelInfo;
pub use bindings::Bindings;
pub use error::{Fault, Link, NodeFault, OnnxError, Origin, Remedy, UnboundInput, UnsupportedOperator};
pub use model::{Dim, Model, PortInfo, SourcePart, read_tensor};
pub use table::{Elements, Supported, operators};
