//! Gives the compiler's sources a number, `NNC_SOURCES`. The cache of compiled programs has it in its keys: between two
//! releases the version stays while the code that is generated changes.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What decides the bytes of an artefact. In a published crate only the first is there; the others have versions then.
const SOURCES: [&str; 4] = ["src", "../ir/src", "../runtime/src", "../Cargo.lock"];

/// Tells it to the compiler as an environment variable.
pub fn number() -> io::Result<()> {
    let mut files = Vec::new();
    for source in SOURCES.map(Path::new).into_iter().filter(|source| source.exists()) {
        println!("cargo::rerun-if-changed={}", source.display());
        collect(source, &mut files)?;
    }
    files.sort();
    // FNV-1a, 64 bits: not for secrets, only to tell sources apart.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for file in files {
        for byte in file.to_string_lossy().bytes().chain(fs::read(&file)?) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo::rustc-env=NNC_SOURCES={version}-{hash:016x}");
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
