//! What README.md shows is what is there.

/// The example of README.md is the example that is compiled.
#[test]
fn the_readme_shows_the_embedding_example_as_it_is() {
    let example = include_str!("../examples/embed.rs");
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!("```rust\n{example}```\n")), "README.md and embed.rs differ");
    assert!(example.lines().count() < 15, "embedding takes too many lines");
}

#[test]
fn the_readme_shows_the_example_of_open_shapes_as_it_is() {
    let example = include_str!("../examples/dynamic.rs");
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!("```rust\n{example}```\n")), "README.md and dynamic.rs differ");
}
