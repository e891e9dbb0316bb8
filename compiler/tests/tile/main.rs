//! Tile programs: the lowerings against the interpreter, and the kernel programs against plain loops.

mod activation;
mod dense;
mod floats;
mod functions;
mod halves;
mod matrix;
mod object;
mod operators;
mod pairs;
mod random;
mod refuse;
mod rows;
mod support;
mod window;
mod windows;
mod winograd;
