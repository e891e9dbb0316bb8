//! Runs a case in a process of its own and compares what happens with what must.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nnc_ir::{DType, Tensor};
use tempfile::TempDir;

use crate::case::{Beside, Case, Expect, MEMORY, SECONDS};

/// Characters that an error may have: a paragraph, whatever names the model has.
const PARAGRAPH: usize = 2500;

/// What a process did.
struct Outcome {
    code: Option<i32>,
    signal: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Whether what must happen with a model happens.
pub fn check(case: &Case) -> Result<(), String> {
    let outer = TempDir::new().map_err(|e| e.to_string())?;
    let folder = outer.path().join("model");
    lay_out(case, &folder).map_err(|e| format!("the case cannot be laid out: {e}"))?;
    let model = folder.join("model.onnx").display().to_string();
    let output = folder.join("output.file").display().to_string();
    let mut args = match &case.expect {
        Expect::Right(inputs, _) | Expect::Runs(inputs) | Expect::RunsOrRefused(inputs, _) => {
            let mut args = vec!["run".to_string(), model, "--output".into(), output.clone()];
            args.extend(["--threads".into(), "2".into()]);
            for (name, tensor) in inputs {
                let file = outer.path().join(format!("{name}.npy"));
                fs::write(&file, npy(tensor)).map_err(|e| e.to_string())?;
                args.extend(["--input".into(), format!("{name}={}", file.display())]);
            }
            args
        }
        _ => vec!["compile".to_string(), model, "-o".into(), output.clone()],
    };
    args.extend(case.flags.iter().map(ToString::to_string));
    let before = names(outer.path());
    let outcome = run(&args)?;
    let told = |what: &str| {
        let Outcome { code, signal, stdout, stderr } = &outcome;
        let shown = |text: &str| text.chars().take(2000).collect::<String>();
        format!(
            "{}: {what}\n  code {code:?}, signal {signal:?}\n  stderr: {}\n  stdout: {}",
            case.about,
            shown(stderr),
            shown(stdout)
        )
    };
    if outcome.signal.is_some() || outcome.stderr.contains("panicked") {
        return Err(told("the process did not end by itself"));
    }
    let refused = |code: i32| -> Result<(), String> {
        let text = outcome.stderr.trim_end();
        let one = text.starts_with("error: ") && text.lines().count() == 1;
        if outcome.code != Some(code) || !one || text.chars().count() > PARAGRAPH {
            return Err(told(&format!("one paragraph and exit code {code} were expected")));
        }
        if text.chars().any(|c| c.is_control()) {
            return Err(told("the error has control characters"));
        }
        if !outcome.stdout.is_empty() {
            return Err(told("something was printed before the error"));
        }
        match names(outer.path()) == before {
            true => Ok(()),
            false => Err(told("files were left behind")),
        }
    };
    let well = || match outcome.code {
        Some(0) => Ok(()),
        _ => Err(told("it was expected to go well")),
    };
    match &case.expect {
        Expect::Refused(code, words) => {
            refused(*code)?;
            match words.iter().find(|word| !outcome.stderr.contains(**word)) {
                Some(word) => Err(told(&format!("the error does not say {word:?}"))),
                None => Ok(()),
            }
        }
        Expect::Compiled | Expect::Runs(_) => well(),
        Expect::CompiledOrRefused(words) | Expect::RunsOrRefused(_, words) if outcome.code != Some(0) => {
            refused(1)?;
            match words.iter().any(|word| outcome.stderr.contains(*word)) {
                true => Ok(()),
                false => Err(told(&format!("the error says none of {words:?}"))),
            }
        }
        Expect::CompiledOrRefused(_) | Expect::RunsOrRefused(..) => well(),
        Expect::Right(_, expected) => {
            well()?;
            let results = nnc::npz::read_npz(Path::new(&output)).map_err(|e| told(&e.to_string()))?;
            for (name, expected) in expected {
                match results.iter().find(|(n, _)| n == name) {
                    Some((_, tensor)) if same(tensor, expected) => {}
                    Some((_, tensor)) => return Err(told(&format!("{name} is {}", shown(tensor)))),
                    None => return Err(told(&format!("there is no output {name}"))),
                }
            }
            Ok(())
        }
    }
}

/// Runs `nnc` with a limit of memory and of time.
fn run(args: &[String]) -> Result<Outcome, String> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -v {}; exec \"$@\"", MEMORY >> 10)).arg("sh");
    command.arg(env!("CARGO_BIN_EXE_nnc")).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|e| format!("sh cannot be run: {e}"))?;
    let id = child.id();
    let waiting = std::thread::spawn(move || child.wait_with_output());
    let end = Instant::now() + Duration::from_secs(SECONDS);
    while !waiting.is_finished() {
        if Instant::now() >= end {
            let killed = Command::new("kill").args(["-9", &id.to_string()]).status();
            return Err(format!("nnc {args:?} was still running after {SECONDS} s ({killed:?})"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = waiting.join().map_err(|_| "the waiting thread")?.map_err(|e| e.to_string())?;
    Ok(Outcome {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn lay_out(case: &Case, folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::symlink;
    fs::create_dir(folder)?;
    fs::write(folder.join("model.onnx"), &case.model)?;
    for beside in &case.beside {
        match beside {
            Beside::File(path, bytes) => fs::write(folder.join(path), bytes)?,
            Beside::Folder(path) => fs::create_dir(folder.join(path))?,
            Beside::Link(path, to) => symlink(to, folder.join(path))?,
            Beside::HardLink(path, of) => fs::hard_link(folder.join(of), folder.join(path))?,
            Beside::Pipe(path) => {
                let made = Command::new("mkfifo").arg(folder.join(path)).status()?;
                assert!(made.success(), "mkfifo");
            }
        }
    }
    Ok(())
}

/// All files below a folder.
fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
            names.push(entry.path());
        }
    }
    names.sort();
    names
}

/// A tensor as a file of NumPy.
fn npy(tensor: &Tensor) -> Vec<u8> {
    let kind = match tensor.dtype() {
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        _ => "<f4",
    };
    let shape: Vec<String> = tensor.shape().iter().map(|n| format!("{n},")).collect();
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}\n", shape.join(" "));
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(tensor.bytes());
    bytes
}

/// Whether two tensors are equal, one NaN being like another.
fn same(a: &Tensor, b: &Tensor) -> bool {
    if a.ty() != b.ty() {
        return false;
    }
    match (a.elems::<f32>(), b.elems::<f32>()) {
        (Ok(a), Ok(b)) => a.iter().zip(b.iter()).all(|(a, b)| a == b || (a.is_nan() && b.is_nan())),
        _ => a.bytes() == b.bytes(),
    }
}

fn shown(tensor: &Tensor) -> String {
    match tensor.elems::<f32>() {
        Ok(elems) => format!("{} {:?}", tensor.ty(), &elems[..elems.len().min(16)]),
        Err(_) => format!("{} {:?}", tensor.ty(), &tensor.bytes()[..tensor.bytes().len().min(64)]),
    }
}
