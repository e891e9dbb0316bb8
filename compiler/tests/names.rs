//! One word for one thing: a type that other files see has its name alone, and is imported by that name.
//!
//! Where two types have one name, readers of a file have to look up which one it means; and whoever needs both gives one of
//! them a third name, so that there are two words for one thing as well. `docs/glossary.md` has the words.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates that are held against each other. Others speak of networks in words of their own.
const CRATES: [&str; 3] = ["ir", "compiler", "runtime"];

/// Names of several types, each with its reason. The list only gets shorter.
const SHARED: [(&str, &str); 6] = [
    ("Block", "a block of bytes in both crates: pages that run, and memory of tensors"),
    ("Cores", "of one machine or another: only one of them is compiled"),
    ("Error", "as Rust's libraries have it: what the module that is named before it fails with"),
    ("Model", "an ONNX model for the reader, and for the compiler's users: names of public interfaces"),
    ("Pool", "ONNX's operator, and the threads of the runtime: names of public interfaces"),
    ("Thread", "of one machine or another: only one of them is compiled"),
];

/// A type definition.
#[derive(Debug)]
struct Definition {
    name: String,
    krate: &'static str,
    /// Whether other files may see it.
    visible: bool,
    file: String,
}

/// The types that a line of code begins to define: their name, and whether other files may see it.
fn defined(line: &str) -> Option<(&str, bool)> {
    let code = line.trim_start();
    let (visible, code) = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => (true, rest.split_once(')')?.1.trim_start()),
        Some(rest) => (true, rest.trim_start()),
        // Types of traits are indented, and are no words of the crate.
        None if line.starts_with(' ') && code.starts_with("type ") => return None,
        None => (false, code),
    };
    let code = code.strip_prefix("unsafe ").unwrap_or(code);
    let name =
        ["struct ", "enum ", "union ", "trait ", "type "].iter().find_map(|word| code.strip_prefix(word))?;
    let name = &name[..name.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(name.len())];
    name.starts_with(char::is_uppercase).then_some((name, visible))
}

/// The imports of own types under another name, as they are written. `modules` are the names of all modules: a path may
/// begin with one.
fn aliases<'t>(text: &'t str, modules: &[String]) -> Vec<&'t str> {
    let is_use = |line: &str| line.trim_start().trim_start_matches("pub ").starts_with("use ");
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if is_use(line) {
            let tree = text[at..].trim_start().trim_start_matches("pub ").trim_start_matches("use ");
            let tree = tree.split(';').next().unwrap_or(tree);
            let root = tree.split("::").next().unwrap_or(tree).trim();
            let own = ["crate", "self", "super", "nnc"].contains(&root)
                || root.starts_with("nnc_")
                || modules.iter().any(|module| module == root);
            found.extend(
                tree.split([',', '{', '}'])
                    .filter(|leaf| own && !leaf.trim_end().ends_with(" as _"))
                    .filter_map(|leaf| leaf.split_once(" as "))
                    .filter(|(path, _)| {
                        let name = path.rsplit("::").next().unwrap_or(path);
                        name.trim_start().starts_with(char::is_uppercase)
                    })
                    .map(|(path, _)| path.trim()),
            );
        }
        at += line.len();
    }
    found
}

/// Code without the tests behind it.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

/// The names that several types have of which other files see one: all of one crate, and the visible ones of all crates.
fn shared(definitions: &[Definition]) -> BTreeMap<&str, Vec<&str>> {
    let mut by_name: BTreeMap<&str, Vec<&Definition>> = BTreeMap::new();
    for definition in definitions {
        by_name.entry(&definition.name).or_default().push(definition);
    }
    let meet = |a: &Definition, b: &Definition| match a.krate == b.krate {
        true => a.visible || b.visible,
        false => a.visible && b.visible,
    };
    let several = |of: &[&Definition]| of.iter().enumerate().any(|(i, a)| of[..i].iter().any(|b| meet(a, b)));
    by_name.retain(|_, of| several(of));
    by_name.into_iter().map(|(name, of)| (name, of.into_iter().map(|d| d.file.as_str()).collect())).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
}

/// The files of a crate, by their paths from the workspace.
fn files(krate: &str) -> Vec<(String, String)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut paths = Vec::new();
    sources(&workspace.join(krate).join("src"), &mut paths);
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(workspace).unwrap().display().to_string();
        (name, fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

fn definitions(krate: &'static str, file: &str, text: &str) -> Vec<Definition> {
    let of =
        |(name, visible): (&str, bool)| Definition { name: name.into(), krate, visible, file: file.into() };
    without_tests(text).lines().filter_map(defined).map(of).collect()
}

#[test]
fn a_type_that_other_files_see_has_its_name_alone() {
    let of_a_crate = |krate: &'static str| {
        files(krate).into_iter().flat_map(move |(file, text)| definitions(krate, &file, &text))
    };
    let definitions: Vec<Definition> = CRATES.into_iter().flat_map(of_a_crate).collect();
    let mut found = shared(&definitions);
    let gone: Vec<&str> =
        SHARED.iter().map(|(name, _)| *name).filter(|name| found.remove(name).is_none()).collect();
    assert!(found.is_empty(), "several types have one name: {found:#?}");
    assert!(gone.is_empty(), "one type has the name now, so take it off the list: {gone:?}");
}

#[test]
fn a_type_is_imported_by_its_name() {
    let mut faults = Vec::new();
    for krate in CRATES {
        let files = files(krate);
        let stem = |file: &str| Path::new(file).file_stem().unwrap().to_string_lossy().into_owned();
        let modules: Vec<String> = files.iter().map(|(file, _)| stem(file)).collect();
        for (file, text) in &files {
            faults.extend(aliases(text, &modules).into_iter().map(|path| format!("{file}: {path}")));
        }
    }
    assert!(faults.is_empty(), "imported under other names:\n{}", faults.join("\n"));
}

#[test]
fn a_name_that_two_types_have_is_seen() {
    let names = |files: &[(&'static str, &str)]| {
        let all = files.iter().flat_map(|(krate, text)| definitions(krate, "file", text));
        let all: Vec<Definition> = all.collect();
        shared(&all).into_keys().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&[("a", "pub struct Run {"), ("a", "pub(super) enum Run {")]), ["Run"]);
    assert_eq!(names(&[("a", "pub type Run = u8;"), ("a", "    pub unsafe trait Run {")]), ["Run"]);
    assert_eq!(names(&[("a", "pub(crate) struct Run<'a>(&'a u8);"), ("a", "struct Run;")]), ["Run"]);
    assert_eq!(names(&[("a", "pub struct Run;"), ("b", "pub struct Run;")]), ["Run"]);
    assert!(names(&[("a", "pub struct Run;"), ("b", "struct Run;")]).is_empty());
    assert!(names(&[("a", "struct Run;"), ("a", "struct Run;")]).is_empty());
    assert!(names(&[("a", "pub struct Run;"), ("a", "    type Run = u8;")]).is_empty());
    assert!(
        names(&[("a", "pub struct Run;"), ("a", "#[cfg(test)]\nmod tests {\n    struct Run;")]).is_empty()
    );
}

#[test]
fn an_import_under_another_name_is_seen_however_it_is_written() {
    let seen = |text| aliases(text, &["plan".to_owned()]);
    assert_eq!(seen("use crate::plan::Strips as Rule;"), ["crate::plan::Strips"]);
    assert_eq!(seen("pub use super::{\n    Plan,\n    Strips as Rule,\n};"), ["Strips"]);
    assert_eq!(seen("use nnc_ir::op::{Conv, Epilogue as Behind};"), ["Epilogue"]);
    assert_eq!(seen("fn f() {\n    use plan::Strips as Rule;\n}"), ["plan::Strips"]);
    assert!(seen("use cranelift_codegen::CodegenError as CraneliftError;").is_empty());
    assert!(seen("use crate::plan::Word as _;\nuse super::pad as onnx_pad;").is_empty());
}
