"""rten: a process in Rust, `rust_peers/rten`."""

from engines.base import RustEngine

ENGINE = RustEngine("rten", crate="rten")
