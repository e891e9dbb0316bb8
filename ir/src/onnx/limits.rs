//! How large a model may be.

/// Bounds on what a model may ask for. The defaults let every model through that a CPU could sensibly run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the model file. Protocol buffers end at 2 GiB; larger models keep their weights in external files.
    pub file_bytes: u64,
    /// Bytes of any one tensor: initializer, constant or intermediate value.
    pub tensor_bytes: u64,
    /// Bytes of all initializers and constant attributes together.
    pub weight_bytes: u64,
    /// Number of nodes.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { file_bytes: 2 << 30, tensor_bytes: 4 << 30, weight_bytes: 16 << 30, nodes: 1_000_000 }
    }
}
