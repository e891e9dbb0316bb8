//! Fuzzing: random networks and random bytes, through the whole compiler.
//!
//! ```text
//!   seed, number ─┬─▶ network/ ─▶ Graph ─▶ stages.rs:  text, each pass, each lowering, JIT, artefact, threads ┐
//!                 │                          ▲                                                                ├─▶ ok, or what is wrong
//!                 └─▶ corpus/, mutate.rs ─▶ bytes ─▶ models.rs:  an error, or a graph that is compiled        ┘
//!
//!   campaign.rs  many cases, in a process of their own (worker.rs): whatever they do, the process is what it happens to
//!   shrink/      a failing case made small
//!   saved.rs     … and kept as a file test, which is replayed from then on
//! ```
//!
//! A case is its seed and number, so each can be made again. Panics are caught where they happen, which costs nothing; what would take
//! the process along (signals, aborts, memory without end, loops without end) ends a worker, which the campaign notices.

pub mod campaign;
pub mod case;
pub mod choices;
pub mod compare;
pub mod corpus;
pub mod lowerings;
pub mod models;
pub mod mutate;
pub mod network;
pub mod saved;
pub mod shrink;
pub mod stages;
pub mod worker;
