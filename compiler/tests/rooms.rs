//! The order of the rooms: whose words a module may use. Data go down through the compiler, and so do imports.
//!
//! Inside a room there is no order written down, but there must be one: files that import each other are one file in two pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, lowest first; those of one line lie side by side, and one may know another that does not know it.
const ROOMS: [&[&str]; 11] = [
    &["parallel", "target", "npz", "temporary"],
    &["code"],
    &["passes"],
    &["plan"],
    &["artefact"],
    &["emit", "roofline"],
    &["error", "options"],
    &["report"],
    &["cache", "driver"],
    &["dynamic", "library", "versions"],
    &["cli"],
];

fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

/// The room of a source file, by its path below `src`.
fn room(path: &Path) -> String {
    path.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_string()
}

/// Where a file of a room uses a word of a higher one. `nnc::` is what the command calls its library.
fn arrows_up(room: &str, text: &str) -> Vec<String> {
    let own = floor(room).unwrap_or_else(|| panic!("no floor for the room \"{room}\": add it to ROOMS"));
    let of_the_crate = text.match_indices("crate::").map(|(at, word)| &text[at + word.len()..]);
    let rooms = of_the_crate.flat_map(|rest| match rest.strip_prefix('{') {
        Some(list) => names(list.split('}').next().unwrap_or(list)),
        None => names(rest.split([';', ' ', ',', '(', ')']).next().unwrap_or(rest)),
    });
    rooms.filter(|used| floor(used).is_some_and(|used| used > own)).collect()
}

/// The first parts of the paths of a `use` list.
fn names(list: &str) -> Vec<String> {
    let first = |path: &str| {
        let path = path.trim();
        path.find(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(path, |end| &path[..end]).to_string()
    };
    list.split(',').map(first).collect()
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

#[test]
fn no_module_uses_one_of_a_higher_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut faults = Vec::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap();
        let room = room(path);
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let up = arrows_up(&room, &fs::read_to_string(&file).unwrap());
        faults.extend(up.into_iter().map(|used| format!("{}: {room} uses {used}", path.display())));
    }
    assert!(faults.is_empty(), "arrows up:\n{}", faults.join("\n"));
}

#[test]
fn an_arrow_up_is_seen_however_it_is_written() {
    assert_eq!(arrows_up("code", "use crate::plan::Plan;"), ["plan"]);
    assert_eq!(arrows_up("code", "let x: crate::plan::Plan = y;"), ["plan"]);
    assert_eq!(arrows_up("plan", "use crate::{code::nest, emit::jit, target};"), ["emit"]);
    assert_eq!(arrows_up("passes", "/// As [`crate::driver`] says"), ["driver"]);
    assert!(arrows_up("plan", "use crate::code::nest::Nest; use crate::passes;").is_empty());
    assert!(arrows_up("driver", "use crate::cache::Entry;").is_empty());
}

/// A module by the names on its path: `["plan", "image"]`.
type Module = Vec<String>;

/// The module that a file below `src` is.
fn module(path: &Path) -> Module {
    let names = path.with_extension("");
    let mut names: Module = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if ["mod", "lib", "main"].map(Some).contains(&names.last().map(String::as_str)) {
        names.pop();
    }
    names
}

/// The paths that a file of `module` writes out, as paths from the crate's root. What tests use does not count.
fn paths(module: &Module, text: &str) -> Vec<Module> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or(line));
    let code: String = lines.flat_map(|line| [line, "\n"]).collect();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (start, up) in [("crate::", module.len()), ("self::", 0), ("super::", 1)] {
        for (at, _) in code.match_indices(start) {
            // Not the end of a longer name, nor the second of two `super::`.
            if code[..at].ends_with(|c| is_name(c) || c == ':') {
                continue;
            }
            let mut rest = &code[at + start.len()..];
            let mut base = module[..module.len().saturating_sub(up)].to_vec();
            while let Some(higher) = rest.strip_prefix("super::") {
                base.pop();
                rest = higher;
            }
            found.extend(leaves(rest).into_iter().map(|leaf| [base.clone(), leaf].concat()));
        }
    }
    found
}

/// What a path or a `use` tree names: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn leaves(tree: &str) -> Vec<Module> {
    let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    let of = |leaf: Module| [vec![name.to_owned()], leaf].concat();
    match rest.strip_prefix("::") {
        _ if tree.starts_with('{') => branches(&tree[1..]).into_iter().flat_map(leaves).collect(),
        Some(below) if !name.is_empty() => {
            let below = leaves(below);
            if below.is_empty() { vec![of(Vec::new())] } else { below.into_iter().map(of).collect() }
        }
        _ if name.is_empty() => Vec::new(),
        _ => vec![of(Vec::new())],
    }
}

/// The parts of a list up to the brace that closes it.
fn branches(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                parts.push(list[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    parts
}

/// For each folder, which of its modules use which others.
type Uses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn uses(files: &[(Module, String)]) -> Uses {
    let modules: BTreeSet<&[String]> = files.iter().map(|(module, _)| module.as_slice()).collect();
    let mut uses = Uses::new();
    for (module, text) in files {
        for path in paths(module, text) {
            let used = (1..=path.len()).rev().map(|n| &path[..n]).find(|part| modules.contains(part));
            let used = used.unwrap_or_default();
            let common = module.iter().zip(used).take_while(|(a, b)| a == b).count();
            if let (Some(user), Some(used)) = (module.get(common), used.get(common)) {
                let folder = uses.entry(module[..common].join("/")).or_default();
                folder.entry(user.clone()).or_default().insert(used.clone());
            }
        }
    }
    uses
}

/// The modules that one uses, and those that they use, and so on.
fn reached<'a>(uses: &'a BTreeMap<String, BTreeSet<String>>, from: &'a String) -> BTreeSet<&'a String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        open.extend(uses.get(module).into_iter().flatten().filter(|used| seen.insert(*used)));
    }
    seen
}

/// The sets of modules of one folder that each reach all others of the set.
fn circles(uses: &Uses) -> Vec<(String, Vec<String>)> {
    let mut found = BTreeSet::new();
    for (folder, uses) in uses {
        for module in uses.keys() {
            let circle =
                reached(uses, module).into_iter().filter(|other| reached(uses, other).contains(module));
            let circle: Vec<String> = circle.cloned().collect();
            if !circle.is_empty() {
                found.insert((folder.clone(), circle));
            }
        }
    }
    found.into_iter().collect()
}

#[test]
fn no_modules_of_a_room_use_each_other() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let read = |file: &PathBuf| (module(file.strip_prefix(&src).unwrap()), fs::read_to_string(file).unwrap());
    let files: Vec<(Module, String)> = files.iter().map(read).collect();
    let found = circles(&uses(&files));
    assert!(found.is_empty(), "modules that use each other: {found:?}");
}

#[test]
fn a_circle_is_seen_however_it_is_written() {
    let circle = |a: &str, b: &str| {
        let file = |path: &str, text: &str| (module(Path::new(path)), text.to_owned());
        circles(&uses(&[file("room/mod.rs", ""), file("room/a.rs", a), file("room/b/mod.rs", b)]))
    };
    let both = [("room".to_owned(), vec!["a".to_owned(), "b".to_owned()])];
    assert_eq!(circle("use super::b::B;", "use super::a::A;"), both);
    assert_eq!(circle("use crate::room::{b::{B, C}, D};", "fn f(a: crate::room::a::A) {}"), both);
    assert_eq!(circle("use super::{D, b};", "use super::super::room::a;"), both);
    assert!(circle("use super::b::B;", "use super::D;").is_empty());
    assert!(circle("use super::b::B;", "// as super::a::A says").is_empty());
    assert!(
        circle("use super::b::B;", "#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}").is_empty()
    );
}
