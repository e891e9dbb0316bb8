//! The graph that nnc compiles: operators with ONNX meaning, the ONNX reader, text and DOT printers, the evaluator.
//!
//! ```text
//!   model.onnx ──onnx──▶ Graph ──▶ (passes, plan, code: the `nnc` crate)
//!                          ├─ text:  print and parse, for people and file tests
//!                          └─ eval:  plain evaluation, the oracle of every test
//! ```

mod block;
pub mod dot;
pub mod eval;
pub mod factors;
pub mod graph;
pub mod limits;
pub mod nearest;
pub mod onnx;
pub mod op;
pub mod setting;
pub mod tensor;
pub mod text;
pub mod types;

pub use eval::EvalError;
pub use factors::Factors;
pub use graph::{Graph, GraphError, Node, NodeId, Value};
pub use limits::{Deadline, Exceeded, LimitName, Limits};
pub use op::{Cost, Op, OpError};
pub use setting::Setting;
pub use tensor::{Tensor, TensorError, TensorOrigin};
pub use types::{DType, Shape, TensorType};
