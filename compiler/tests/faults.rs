//! What goes wrong around the compiler and not in it: no memory, no room on the disk, a process that is killed, files that are
//! damaged or are no files. Nothing crashes, nothing damaged is used, and the next command does well.
#![cfg(all(feature = "cli", target_arch = "x86_64", target_os = "linux"))]

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use nnc::{CacheUse, Model, Options, Program};
use nnc_runtime::LoadError;
use nnc_runtime::artefact::HEADER_OFFSET;
use tempfile::TempDir;

const NNC: &str = env!("CARGO_BIN_EXE_nnc");

/// Runs `nnc` from a shell that has said `limits` first.
fn limited(limits: &str, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{limits}; exec \"$@\"")).arg("sh").arg(NNC).args(args);
    command.output().expect("sh runs")
}

/// Where ELF's header says where the table of sections begins.
const ELF_SECTIONS: Range<usize> = 40..48;

/// Where an artefact's header says how much is loaded.
const LOADED: Range<usize> = HEADER_OFFSET + 16..HEADER_OFFSET + 24;

/// Whether a command was refused: exit code 1, one paragraph with these words, and nothing on standard output.
fn refused(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{:?}: {text}", output.status);
    assert!(text.starts_with("error: ") && text.trim_end().lines().count() == 1, "{text}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

fn small() -> Vec<u8> {
    let spec = nnc_models::Spec::new("mobilenet-v2").width(0.35).resolution(32).classes(10);
    nnc_models::encode(&spec).expect("a network")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

// ---- no memory -----------------------------------------------------------------------------------------------------

/// A model of one 1x1 convolution with 256 MiB of weights beside it, which take no room on the disk.
fn large(folder: &Path) -> String {
    use onnx_protobuf::Message;
    let text = |bytes: &[u8], number: u8| [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat();
    // A tensor of [8192, 8192, 1, 1] in "w.bin", as TensorProto writes it.
    let entry = [text(b"location", 1), text(b"w.bin", 2)].concat();
    let tensor = [
        &[8, 0x80, 0x40, 8, 0x80, 0x40, 8, 1, 8, 1, 0x10, 1][..],
        &text(b"w", 8),
        &text(&entry, 13),
        &[0x70, 1],
    ]
    .concat();
    let node = [text(b"x", 1), text(b"w", 1), text(b"y", 2), text(b"Conv", 4)].concat();
    let one = text(&[8, 1], 1);
    let dims = [&one[..], &text(&[8, 0x80, 0x40], 1), &one, &one].concat();
    let kind = text(&[&[8, 1][..], &text(&dims, 2)].concat(), 1);
    let input = [text(b"x", 1), text(&kind, 2)].concat();
    let graph = [text(&node, 1), text(b"g", 2), text(&tensor, 5), text(&input, 11), text(&text(b"y", 1), 12)]
        .concat();
    let model = [&[8, 8][..], &text(&[0x10, 17], 8), &text(&graph, 7)].concat();
    assert!(onnx_protobuf::ModelProto::parse_from_bytes(&model).is_ok());
    File::create(folder.join("w.bin")).and_then(|f| f.set_len(256 << 20)).expect("a file with a hole");
    let path = folder.join("large.onnx");
    fs::write(&path, model).expect("written");
    path.display().to_string()
}

/// Whether a command was refused for want of memory; or did well, which is false. Only a small block, which nobody counts on
/// failing, may end the process.
fn out_of_memory(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return false;
    }
    if let Some(bytes) = text.strip_prefix("memory allocation of ") {
        let bytes = bytes.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        assert!(bytes.is_some_and(|bytes| bytes < 1 << 20), "{text}");
        return true;
    }
    refused(output, &["memory"]);
    true
}

#[test]
fn without_memory_for_large_blocks_there_is_an_error_at_every_stage() {
    let folder = TempDir::new().expect("a folder");
    let model = large(folder.path());
    let out = folder.path().join("out.so").display().to_string();
    let compile = |mebibytes: u64| {
        limited(&format!("ulimit -v {}", mebibytes << 10), &["compile", &model, "-o", &out, "--jobs", "1"])
    };
    // From no memory for the weights to memory for the weights, the packed weights, the file that holds them, and the code.
    let failed = (150..1000).step_by(115).filter(|&mebibytes| out_of_memory(&compile(mebibytes))).count();
    assert!(failed >= 2, "{failed}");
    let _ = fs::remove_file(&out);
    assert!(!out_of_memory(&compile(4000)));
    assert_eq!(names(folder.path()), ["large.onnx", "out.so", "w.bin"]);

    let hole = folder.path().join("hole.onnx");
    File::create(&hole).and_then(|f| f.set_len(512 << 20)).expect("a file with a hole");
    let hole = hole.display().to_string();
    // Its structure is read piece by piece, so there is memory to see what it is.
    refused(
        &limited("ulimit -v 256000", &["compile", &hole, "-o", &out]),
        &["hole.onnx", "not an ONNX model"],
    );
}

#[test]
fn without_memory_for_a_program_loading_and_running_it_is_an_error() {
    let folder = TempDir::new().expect("a folder");
    let model = folder.path().join("net.onnx");
    fs::write(&model, small()).expect("written");
    let program = folder.path().join("net.so");
    let compiled = Command::new(NNC).arg("compile").arg(&model).arg("-o").arg(&program).status();
    assert!(compiled.expect("it runs").success());
    // The file is made longer than memory, without a table of sections behind what is loaded: lengths are read before the checksum.
    let length: u64 = 1 << 30;
    let mut file = fs::read(&program).expect("the file");
    file[ELF_SECTIONS].fill(0);
    file[LOADED].copy_from_slice(&length.to_le_bytes());
    fs::write(&program, file).expect("written");
    File::options().write(true).open(&program).and_then(|f| f.set_len(length)).expect("a file with a hole");
    let program = program.display().to_string();
    refused(
        &limited("ulimit -v 500000", &["bench", &program]),
        &["net.so", "bytes of memory for the program"],
    );
}

// ---- no room -------------------------------------------------------------------------------------------------------

/// Files end after a few kilobytes, with an error instead of a signal.
const FULL: &str = "trap '' XFSZ; ulimit -f 16";

#[test]
fn a_program_that_finds_no_room_on_the_disk_is_not_written_by_half() {
    let folder = TempDir::new().expect("a folder");
    let model = folder.path().join("net.onnx");
    fs::write(&model, small()).expect("written");
    let model = model.display().to_string();
    let out = folder.path().join("net.so");
    fs::write(&out, "what was here before").expect("written");
    let out = out.display().to_string();
    refused(&limited(FULL, &["compile", &model, "-o", &out]), &["cannot write", "net.so"]);
    assert_eq!(names(folder.path()), ["net.onnx", "net.so"]);
    assert_eq!(fs::read(&out).expect("the file"), b"what was here before");
    for stage in ["obj", "asm"] {
        refused(&limited(FULL, &["compile", &model, "--emit", stage, "-o", &out]), &["cannot write"]);
    }
    assert_eq!(fs::read(&out).expect("the file"), b"what was here before");
}

#[test]
fn a_cache_without_room_costs_the_time_to_compile_and_holds_no_half_entry() {
    let folder = TempDir::new().expect("a folder");
    let model = folder.path().join("net.onnx");
    fs::write(&model, small()).expect("written");
    let (model, cache) = (model.display().to_string(), folder.path().join("cache"));
    let args = ["bench", &model, "--seconds", "0.01", "--cache", &cache.display().to_string()];
    let output = limited(FULL, &args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("compiled, but not kept"), "{output:?}");
    assert_eq!(names(&cache), [] as [String; 0]);
    let output = limited("true", &args);
    assert!(String::from_utf8_lossy(&output.stdout).contains("compiled, kept in"), "{output:?}");
}

// ---- killed --------------------------------------------------------------------------------------------------------

#[test]
fn a_process_that_is_killed_at_any_moment_leaves_a_cache_that_works() {
    let folder = TempDir::new().expect("a folder");
    let model = folder.path().join("net.onnx");
    fs::write(&model, small()).expect("written");
    let args = |cache: &Path| {
        let (model, cache) = (model.display().to_string(), cache.display().to_string());
        ["bench", &model, "--seconds", "0.01", "--threads", "1", "--cache", &cache].map(str::to_owned)
    };
    let whole = folder.path().join("whole");
    assert!(Command::new(NNC).args(args(&whole)).output().expect("it runs").status.success());
    let entry = names(&whole).remove(0);
    let expected = fs::read(whole.join(&entry)).expect("the entry");

    let cache = folder.path().join("cache");
    let mut found = 0;
    for round in 0..16u64 {
        let mut child = Command::new(NNC)
            .args(args(&cache))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        // As soon as anything is there, and at other moments: while it is written, renamed, loaded, run.
        let deadline = SystemTime::now() + Duration::from_secs(20);
        while round % 4 != 3 && names(&cache).is_empty() && SystemTime::now() < deadline {
            std::thread::sleep(Duration::from_micros(100));
        }
        std::thread::sleep(Duration::from_micros(round * 331));
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        for name in names(&cache) {
            let bytes = fs::read(cache.join(&name)).expect("a file");
            if name == entry {
                assert!(bytes == expected, "an entry of other bytes in round {round}");
                fs::remove_file(cache.join(&name)).expect("removed");
                found += 1;
            } else {
                assert!(name.starts_with('.') && name.ends_with(".tmp"), "{name}");
                assert!(expected.starts_with(&bytes));
                fs::remove_file(cache.join(&name)).expect("removed");
            }
        }
    }
    // Whatever was left in the last rounds, the next process makes the same entry.
    assert!(Command::new(NNC).args(args(&cache)).output().expect("it runs").status.success());
    assert!(
        fs::read(cache.join(&entry)).expect("the entry") == expected,
        "{found} of 16 rounds wrote an entry"
    );
}

#[test]
fn temporary_files_of_killed_processes_are_removed_when_they_are_old() {
    let folder = TempDir::new().expect("a folder");
    let (old, new) = (folder.path().join(".a.nnc.so.1.0.tmp"), folder.path().join(".b.nnc.so.1.0.tmp"));
    let other = folder.path().join("somebody's.tmp");
    for path in [&old, &new, &other] {
        let file = File::create(path).expect("a file");
        let age = if path == &new { 60 } else { 7200 };
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("a time");
    }
    let model = Model::from_bytes(small()).expect("a model");
    let compiled = model.compile_reported(&Options::default().cache(folder.path())).expect("a program");
    assert!(matches!(compiled.cache, Some(CacheUse::Stored(_))));
    assert!(!old.exists() && new.exists() && other.exists());
}

// ---- damaged -------------------------------------------------------------------------------------------------------

#[test]
fn whatever_is_in_the_place_of_a_cache_entry_the_model_is_compiled() {
    let folder = TempDir::new().expect("a folder");
    let model = Model::from_bytes(small()).expect("a model");
    let compile =
        || model.compile_reported(&Options::default().cache(folder.path())).expect("a program").cache;
    let Some(CacheUse::Stored(path)) = compile() else { panic!("nothing was stored") };
    let whole = fs::read(&path).expect("the entry");
    let pipe = |path: &PathBuf| assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    let locked = |path: &PathBuf| {
        fs::write(path, &whole).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).expect("locked");
    };
    let replace: [(&str, &dyn Fn(&PathBuf)); 5] = [
        ("an empty folder", &|path| fs::create_dir(path).expect("a folder")),
        ("a link to nowhere", &|path| symlink("nowhere", path).expect("a link")),
        ("a link to a device", &|path| symlink("/dev/zero", path).expect("a link")),
        ("a pipe", &pipe),
        ("a file that may not be read", &locked),
    ];
    for (what, replace) in replace {
        fs::remove_file(&path).expect("removed");
        replace(&path);
        // The superuser may read everything.
        let readable = what.starts_with("a file") && File::open(&path).is_ok();
        let cache = compile();
        assert!(readable || matches!(cache, Some(CacheUse::Stored(_))), "{what}: {cache:?}");
        assert!(matches!(compile(), Some(CacheUse::Hit(_))), "{what}");
        assert!(fs::read(&path).expect("the entry") == whole, "{what}");
    }
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join("a file"), "in it").expect("written");
    let cache = compile();
    assert!(matches!(cache, Some(CacheUse::NotStored { .. })), "{cache:?}");
    assert_eq!(names(folder.path()).len(), 1, "no temporary file is left");
}

/// A small artefact: a Relu of four numbers.
fn artefact() -> Vec<u8> {
    let spec = nnc_models::Spec::new("squeezenet-1.1").resolution(32).classes(2);
    let model = Model::from_bytes(nnc_models::encode(&spec).expect("a network")).expect("a model");
    let compilation = model.lower(&Options::default()).expect("a plan");
    compilation.code().and_then(|code| code.artefact()).expect("an artefact")
}

fn load(bytes: &[u8]) -> Result<Program, LoadError> {
    // SAFETY: the program is never run, and damaged ones are refused.
    unsafe { Program::from_bytes(bytes) }
}

#[test]
fn an_artefact_with_a_bit_flipped_or_bytes_missing_anywhere_is_refused() {
    let whole = artefact();
    let written = load(&whole).expect("it is whole");
    let loaded = u64::from_le_bytes(whole[LOADED].try_into().expect("eight bytes")) as usize;
    assert!(loaded > whole.len() / 2);
    let mut file = whole.clone();
    let step = whole.len() / 400;
    // All of the headers, and bits all over the rest.
    let places = (0..1024).step_by(3).chain((1024..whole.len()).step_by(step)).chain([whole.len() - 1]);
    for (number, at) in places.enumerate() {
        file[at] ^= 1 << (number % 8);
        // What is in front and behind are ELF's header and names for tools, of which nothing is loaded.
        let unused = at < HEADER_OFFSET || at >= loaded;
        assert!(unused || load(&file).is_err(), "bit {} of byte {at}", number % 8);
        if let Ok(program) = load(&file) {
            assert!(program.desc() == written.desc(), "bit {} of byte {at}", number % 8);
        }
        file[at] = whole[at];
        assert!(load(&whole[..at]).is_err(), "the first {at} bytes");
    }
    assert!(file == whole);
    let longer = [&whole[..], b"more"].concat();
    assert!(load(&longer).is_err());
    let twice = [&whole[..], &whole[..]].concat();
    assert!(load(&twice).is_err());
}

#[test]
fn code_for_a_cpu_that_this_is_not_is_refused() {
    let model = Model::from_bytes(small()).expect("a model");
    let options = Options::default().target("aarch64").expect("a target");
    let compilation = model.lower(&options).expect("a plan");
    let artefact = compilation.code().and_then(|code| code.artefact()).expect("an artefact");
    let error = load(&artefact).unwrap_err();
    assert!(matches!(error, LoadError::Machine { .. }), "{error}");
}
