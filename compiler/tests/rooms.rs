//! The order of the rooms: whose words a module may use. Data go down through the compiler, and so do imports.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, lowest first; those of one line lie side by side and may know each other.
const ROOMS: [&[&str]; 9] = [
    &["nearest", "parallel", "target", "npz", "temporary"],
    &["code"],
    &["passes"],
    &["plan"],
    &["artefact"],
    &["emit", "roofline"],
    &["cache", "driver"],
    &["dynamic"],
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
