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

/// `cargo run` in the workspace needs no `--bin` as long as there is one binary.
#[cfg(feature = "cli")]
#[test]
fn the_first_command_of_the_readme_runs_the_only_binary() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", manifest])
        .output()
        .expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let targets = metadata["packages"].as_array().expect("packages").iter();
    let targets = targets.flat_map(|package| package["targets"].as_array().expect("targets"));
    let binaries: Vec<_> = targets.filter(|target| target["kind"][0] == "bin").map(|t| &t["name"]).collect();
    assert_eq!(binaries, ["nnc"]);
    assert!(include_str!("../../README.md").contains("cargo run --release -- run "));
}
