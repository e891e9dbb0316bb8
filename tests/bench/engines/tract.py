"""tract: a process in Rust, `rust_peers/tract`."""

from engines.base import RustEngine

ENGINE = RustEngine("tract", crate="tract-onnx")
