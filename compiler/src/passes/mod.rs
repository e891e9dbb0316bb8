//! Graph to graph: from what the exporter wrote to the layers that code is made for.
//!
//! ```text
//!   conv ─▶ batch norm ─▶ relu ─┐
//!                               concat ─▶ reshape ─▶ transpose ─▶ reshape ─▶ split ─▶ …
//!   x ──────────────────────────┘
//!                      ▼
//!   conv [relu] ─┐
//!                channel select ─▶ …
//!   x ───────────┘
//! ```
//!
//! Each pass is one file, does one thing, and keeps what the graph computes: exactly where it only moves data, up
//! to rounding where it folds constants into weights. [`optimise`] runs all of them, in the order of [`PASSES`],
//! until none finds anything more, and leaves the nodes in the order of the model's layers. In debug builds the graph is
//! verified after each.
//!
//! Graphs inside of nodes, the bodies of loops and branches, are graphs like others: each pass runs on them, too.
//!
//! No pass turns a graph that compiles into one that does not: an edit that the graph refuses leaves it as it was, and the pass says so
//! ([`RefusedEdit`]).
//!
//! Passes leave nothing behind that nobody reads: whoever takes a node's last reader away prunes it. So "is the only
//! reader" means what it says, at any time.

mod edit;
pub mod einsum_products;
mod manager;
mod notes;
mod order;
mod steps;

pub mod byte_pictures;
pub mod byte_tables;
pub mod captures;
pub mod channel_views;
pub mod columns;
pub mod cse;
pub mod dead_code;
pub mod decompose;
pub mod flatten_gemm;
pub mod fold_batch_norm;
pub mod fold_constants;
pub mod fuse_activation;
pub mod fuse_bias;
pub mod fuse_pad;
pub mod fuse_residual;
pub mod identities;
pub mod integer_layers;
pub mod integer_sums;
pub mod known_sums;
pub mod layer_norm;
pub mod narrow;
pub mod pool_stride;
pub mod quantised_moves;
pub mod scale_product;
pub mod signals;
pub mod transposes;
pub mod unsigned_bytes;
pub mod wide_windows;

pub use edit::EditError;
pub use fuse_activation::is_fusable;
pub use known_sums::KnownSums;
pub use manager::{
    OptimiseReport, PASSES, Pass, PassError, PassOptions, PassReport, find, narrow, optimise,
    optimise_before, optimise_observed, run,
};
pub use narrow::{NarrowError, Precision};
pub use notes::{Absorbed, FusionLog, Notes, RefusedEdit};
