//! Other names of targets: what compilers, package managers and people call the same machines.
//!
//! ```text
//!   triple                     the least that is generated for the architecture
//!   architecture's other name  the same
//!   processor                  the best target whose features all processors of that name have
//! ```
//!
//! A program that is compiled for an alias is the one for the name: the same bytes.

/// Alias and name, in the order of the names.
const ALIASES: &[(&str, &str)] = &[
    ("x86_64", "x86-64-v2"),
    ("amd64", "x86-64-v2"),
    ("x86_64-unknown-linux-gnu", "x86-64-v2"),
    ("x86_64-unknown-linux-musl", "x86-64-v2"),
    ("x86_64-linux-gnu", "x86-64-v2"),
    ("nehalem", "x86-64-v2"),
    ("sandybridge", "x86-64-v2"),
    ("haswell", "x86-64-v3"),
    ("skylake", "x86-64-v3"),
    ("znver1", "x86-64-v3"),
    ("znver2", "x86-64-v3"),
    ("znver3", "x86-64-v3"),
    ("raptorlake", "alderlake"),
    ("meteorlake", "alderlake"),
    ("skylake-avx512", "x86-64-v4"),
    ("cascadelake", "x86-64-v4+vnni"),
    ("cooperlake", "x86-64-v4+bf16"),
    ("znver5", "znver4"),
    ("emeraldrapids", "sapphirerapids"),
    ("graniterapids", "sapphirerapids"),
    ("arm64", "aarch64"),
    ("aarch64-unknown-linux-gnu", "aarch64"),
    ("aarch64-unknown-linux-musl", "aarch64"),
    ("aarch64-linux-gnu", "aarch64"),
];

/// All aliases.
pub fn aliases() -> impl Iterator<Item = &'static str> {
    ALIASES.iter().map(|(alias, _)| *alias)
}

/// The other names of a target.
pub fn aliases_of(name: &str) -> impl Iterator<Item = &'static str> {
    ALIASES.iter().filter(move |(_, of)| *of == name).map(|(alias, _)| *alias)
}

/// The name that `name` stands for: itself, where it is no alias.
pub fn resolve(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, of)| of)
}
