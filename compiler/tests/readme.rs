//! What README.md shows is what is there, and so are the files and names of which the documents speak.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

/// `cargo run` in the workspace needs no `--bin` as long as there is one binary in what is built unless it is said otherwise.
#[cfg(feature = "cli")]
#[test]
fn the_first_command_of_the_readme_runs_the_only_binary() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", manifest])
        .output()
        .expect("cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let default = metadata["workspace_default_members"].as_array().expect("packages");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let packages = packages.filter(|package| default.contains(&package["id"]));
    let targets = packages.flat_map(|package| package["targets"].as_array().expect("targets"));
    let binaries: Vec<_> = targets.filter(|target| target["kind"][0] == "bin").map(|t| &t["name"]).collect();
    assert_eq!(binaries, ["nnc"]);
    assert!(include_str!("../../README.md").contains("cargo run --release -- run "));
}

/// What documents name and the sources do not: names that other people gave.
const NAMES_OF_OTHERS: [&str; 6] =
    ["SIGABRT", "PROPTEST_CASES", "dynamic_axes", "preprocess_input", "InputSpec", "fetch_name_0"];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

/// All files of the workspace but those that are built, by their paths in it.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        match path.is_dir() {
            true if name == "target" || name == ".git" => {}
            true => files(&path, found),
            false => found.push(path.strip_prefix(workspace()).expect("below the workspace").into()),
        }
    }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(move |c| !is_name(c)).filter(|word| word.starts_with(|c: char| !c.is_ascii_digit()))
}

/// What stands between single backquotes on a line, outside of blocks of code.
fn spans(document: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in document.lines() {
        match line.trim_start().starts_with("```") {
            true => in_block = !in_block,
            false if !in_block => found.extend(line.split('`').skip(1).step_by(2)),
            false => {}
        }
    }
    found
}

/// What is wrong with a span: a file that is not there, or a name. Commands and formulas say nothing of either.
fn fault(span: &str, paths: &[PathBuf], known: &BTreeSet<String>) -> Option<String> {
    let is = |all: &str| span.chars().all(|c| c.is_ascii_alphanumeric() || all.contains(c));
    let path = Path::new(span.trim_end_matches('/'));
    let folder = span.ends_with('/');
    if is("_./-") && (folder || has_ending(path, &["rs", "py", "md", "txt", "nnir", "toml"])) {
        let ours = |of: &PathBuf| match folder {
            true => of.ancestors().skip(1).any(|parent| parent.ends_with(path)),
            false => of.ends_with(path),
        };
        // NAME is for the reader to fill in; what is built is not always there.
        let given = span.contains("NAME") || span.starts_with("target/") || paths.iter().any(ours);
        return (!given).then(|| format!("no file {span}"));
    }
    let name = is("_:!()") && !span.is_empty();
    let unknown = |word: &&str| !known.contains(*word) && !NAMES_OF_OTHERS.contains(word);
    words(span).find(unknown).filter(|_| name).map(|word| format!("no name {word} in the sources"))
}

#[test]
fn the_documents_name_files_and_names_that_are_there() {
    let mut paths = Vec::new();
    files(workspace(), &mut paths);
    let mut known: BTreeSet<String> = BTreeSet::new();
    for path in paths.iter().filter(|path| has_ending(path, &["rs", "py", "toml", "h", "txt"])) {
        // This file names what is not there.
        if !path.ends_with(file!().rsplit('/').next().expect("a name")) {
            let text = fs::read(workspace().join(path)).expect("a file");
            known.extend(words(&String::from_utf8_lossy(&text)).map(String::from));
        }
        known.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    let documents = paths.iter().filter(|path| path.starts_with("docs") || path.ends_with("CONTRIBUTING.md"));
    let documents: Vec<&PathBuf> = documents.filter(|path| has_ending(path, &["md"])).collect();
    assert!(documents.len() > 5, "{documents:?}");
    let mut faults = Vec::new();
    for document in documents {
        let text = fs::read_to_string(workspace().join(document)).expect("text");
        let faulty = spans(&text).into_iter().filter_map(|span| fault(span, &paths, &known));
        faults.extend(faulty.map(|fault| format!("{}: {fault}", document.display())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_file_or_a_name_that_is_gone_is_seen() {
    let paths = ["ir/src/op/unary.rs".into(), "ir/src/lib.rs".into()];
    let known = ["Unary", "apply"].map(String::from).into();
    let document = "`op/unary.rs` has `Unary::apply()`, `op/` and `ir/src/`.\n```text\n`Gone`\n```\n\
        `op/binary.rs`, `ops/`, `Binary::apply`, `cargo test Binary`, `x + Binary`, `NAME.rs`";
    let faults: Vec<String> =
        spans(document).into_iter().filter_map(|span| fault(span, &paths, &known)).collect();
    assert_eq!(faults, ["no file op/binary.rs", "no file ops/", "no name Binary in the sources"]);
}

/// The links of a document to files of the repository or to headings, outside of blocks of code.
fn links(document: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in document.lines() {
        match line.trim_start().starts_with("```") {
            true => in_block = !in_block,
            false if !in_block => {
                let ends = line.match_indices("](").map(|(at, _)| &line[at + 2..]);
                found.extend(ends.filter_map(|rest| rest.split_once(')').map(|(link, _)| link)));
            }
            false => {}
        }
    }
    found.retain(|link| !link.contains("://"));
    found
}

/// What leads to each heading of a document.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Why a link of a document leads nowhere.
fn loose(link: &str, document: &Path) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let file = match path.is_empty() {
        true => document.to_path_buf(),
        false => document.parent().expect("a folder").join(path),
    };
    if !file.exists() {
        return Some(format!("no file {path}"));
    }
    let headings = |file| anchors(&fs::read_to_string(file).expect("text"));
    let gone = !anchor.is_empty() && !headings(&file).contains(anchor);
    gone.then(|| format!("no heading {link}"))
}

#[test]
fn the_links_of_the_documents_lead_to_files_and_headings() {
    let mut paths = Vec::new();
    files(workspace(), &mut paths);
    let mut faults = Vec::new();
    for document in paths.iter().filter(|path| has_ending(path, &["md"])) {
        let file = workspace().join(document);
        let text = fs::read_to_string(&file).expect("text");
        let faulty = links(&text).into_iter().filter_map(|link| loose(link, &file));
        faults.extend(faulty.map(|fault| format!("{}: {fault}", document.display())));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_seen() {
    let document =
        "# A b: `c`\n[x](#a-b-c), [y](#gone) [z](gone.md) and [w](https://e.org)\n```\n[v](none)\n```";
    assert_eq!(links(document), ["#a-b-c", "#gone", "gone.md"]);
    assert!(anchors(document).contains("a-b-c") && !anchors(document).contains("gone"));
    let readme = workspace().join("README.md");
    assert_eq!(loose("docs/ops.md", &readme), None);
    assert_eq!(loose("gone.md", &readme).as_deref(), Some("no file gone.md"));
    assert_eq!(loose("#gone", &readme).as_deref(), Some("no heading #gone"));
}
