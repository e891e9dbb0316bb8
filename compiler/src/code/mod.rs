//! The languages in which the work of a layer is written. A plan is made of their words;
//! `emit`, above it, makes machine code of them.
//!
//! | language | what it says | who reads it |
//! |---|---|---|
//! | [`tile`] | one tile: a straight program over vector registers | AVX-512, AVX2 and CLIF lowerings, an interpreter |
//! | [`nest`] | loops around an expression for each element, with reductions | one emitter, over 128-bit vectors or scalars |
//! | [`routine`] | assignments, loops and conditions where data decide addresses | one emitter, an interpreter |
//!
//! Each has its words, its check, its interpreter or oracle, and its lowerings in its own folder. None knows of graphs, of plans, or of
//! who calls it. Functions of numbers ([`math`]) and the two formats of half floats ([`half`]) are below all of them. [`layers`] says
//! which layers of a graph kernels do, [`phases`] which convolutions a transposed one is.

pub mod bytes;
pub mod features;
pub mod float;
pub mod half;
pub mod isa;
pub mod kernels;
pub mod layers;
pub mod math;
pub mod nest;
pub mod phases;
pub mod routine;
pub mod sums;
pub mod tile;
pub(crate) mod units;
pub mod view;
