//! What is decided before the crate is built.

mod link;
mod sources;

fn main() -> std::io::Result<()> {
    link::in_order();
    sources::number()
}
