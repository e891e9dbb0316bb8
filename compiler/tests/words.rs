//! The libraries speak of their fields and functions, and only the command of its flags: whoever calls a library has no command
//! line. `nnc_ir::Setting` is how an error names what both can set.

use std::fs;
use std::path::Path;

/// Places in the code of a library, as `file: line`, that write a flag.
fn flags(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "cli") {
                flags(&path, found);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let lines = text.lines().filter(|line| is_flagged(line));
            found.extend(lines.map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }
}

/// Whether code, as opposed to a comment, has two hyphens before a letter: no operator of Rust is written so.
fn is_flagged(line: &str) -> bool {
    let code = line.split("// ").next().unwrap_or(line).trim_start();
    let is_comment = code.starts_with("//");
    !is_comment && code.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

#[test]
fn no_text_of_a_library_names_a_flag() {
    let compiler = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "../ir/src", "../runtime/src"] {
        flags(&compiler.join(folder), &mut found);
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn flags_are_found_in_texts_and_not_in_comments() {
    assert!(is_flagged("    #[error(\"name a target with --target\")]"));
    assert!(!is_flagged("/// As `--target` says."));
    assert!(!is_flagged("let x = 1; // for --target"));
    assert!(!is_flagged("x - -y; // ---- what does not ----"));
}
