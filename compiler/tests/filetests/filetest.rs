//! File tests of passes: which passes to run, a graph, and what becomes of it, in one text file.
//!
//! ```text
//! // What this file is about.
//! // run: channel_views fuse_activation
//!
//! %x = input : f32[1x4x8x8]
//! …
//! output y = %r
//!
//! ----
//! // channel_views: 1 concats
//! // fuse_activation: 2 fused through a channel select
//! %x = input : f32[1x4x8x8]
//! …
//! ```
//!
//! `// run: all` stands for the whole pipeline. With a line `// precision: bf16`, what lies between layers is stored so behind the passes, but
//! for those that a line `// keep: LAYER …` names. Besides the comparison of the text, the graph is evaluated before and
//! after. With `NNC_BLESS=1` in the environment, what comes out is written behind the `----` instead of being compared.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use nnc::passes::{self, PassOptions, Precision};
use nnc_ir::{DType, Graph, Tensor, eval, text};

/// The line between a graph and what becomes of it.
pub const SEPARATOR: &str = "----\n";

/// All file tests in a folder, by name.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "nnir") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Runs one file test; the error says what differs.
pub fn run(path: &Path) -> Result<(), String> {
    let file = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let given = file.split_once(SEPARATOR).map_or(&*file, |(given, _)| given);
    let before = text::parse(given).map_err(|e| e.to_string())?;
    let mut after = before.clone();
    let mut got = run_passes(given, &mut after)?;
    let precision =
        setting(given, "// precision:").map(|name| Precision::from_name(name.trim()).ok_or("no precision"));
    let precision = precision.transpose()?.unwrap_or_default();
    if let Some(to) = precision.dtype() {
        let keep = setting(given, "// keep:")
            .unwrap_or("")
            .split_whitespace()
            .map(str::to_string)
            .collect::<Vec<_>>();
        let (report, _) = passes::narrow(&mut after, to, &keep).map_err(|e| chain(&e))?;
        got = format!("// {report}\n{}", got + &text::print(&after));
    } else {
        got += &text::print(&after);
    }
    after.verify().map_err(|e| e.to_string())?;
    compare(&before, &after, rounding(precision))?;
    accept(path, &file, &got)
}

/// By how much of the largest element a result may differ: some units of the last place that is stored.
fn rounding(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::F16 => 4.0 * 2f32.powi(-11),
        Precision::Bf16 => 4.0 * 2f32.powi(-8),
    }
}

/// What a line of a file's first part says.
fn setting<'f>(given: &'f str, name: &str) -> Option<&'f str> {
    given.lines().find_map(|line| line.strip_prefix(name))
}

/// Compares what came out of a file's first part with its second one; writes it there where that is asked for.
pub fn accept(path: &Path, file: &str, got: &str) -> Result<(), String> {
    let (given, expected) = file.split_once(SEPARATOR).unwrap_or((file, ""));
    if std::env::var_os("NNC_BLESS").is_some_and(|v| v == "1") {
        let blessed = format!("{}\n\n{SEPARATOR}{got}", given.trim_end());
        return std::fs::write(path, blessed).map_err(|e| e.to_string());
    }
    match got == expected {
        true => Ok(()),
        false => Err(format!("{}\nNNC_BLESS=1 accepts what came out", difference(expected, got))),
    }
}

/// Runs the passes that the file names; returns their reports as text.
fn run_passes(given: &str, graph: &mut Graph) -> Result<String, String> {
    let run = setting(given, "// run:").ok_or("no line \"// run: PASS …\" says which passes to run")?;
    let reports = if run.trim() == "all" {
        let report = passes::optimise(graph, &PassOptions::default()).map_err(|e| chain(&e))?;
        report.passes.into_iter().filter(|p| !p.is_silent()).collect()
    } else {
        let run: Result<Vec<_>, _> = run.split_whitespace().map(|pass| passes::run(pass, graph)).collect();
        run.map_err(|e| chain(&e))?
    };
    let mut out = String::new();
    for report in reports {
        writeln!(out, "// {report}").map_err(|e| e.to_string())?;
    }
    Ok(out)
}

pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Evaluates both graphs on the same pseudo-random inputs; outputs agree within so much of the largest element.
pub fn compare(before: &Graph, after: &Graph, tolerance: f32) -> Result<(), String> {
    let inputs: Result<Vec<Tensor>, _> = before
        .inputs()
        .iter()
        .zip(1..)
        .map(|(id, seed)| text::hash(before.node(*id).outputs[0].clone(), seed, 2.0))
        .collect();
    let inputs = inputs.map_err(|e| e.to_string())?;
    let expected = eval::run(before, &inputs).map_err(|e| format!("before the passes: {e}"))?;
    let got = eval::run(after, &inputs).map_err(|e| format!("after the passes: {e}"))?;
    for (((name, _), expected), got) in before.outputs().iter().zip(&expected).zip(&got) {
        if expected.ty() != got.ty() {
            return Err(format!("output {name} was {}, is {}", expected.ty(), got.ty()));
        }
        if expected.dtype() != DType::F32 {
            if expected != got {
                return Err(format!("output {name} has changed"));
            }
            continue;
        }
        let (a, b) = (expected.elems::<f32>(), got.elems::<f32>());
        let (a, b) = (a.map_err(|e| e.to_string())?, b.map_err(|e| e.to_string())?);
        let largest = a.iter().filter(|x| x.is_finite()).fold(0.0f32, |m, x| m.max(x.abs()));
        let close = |(a, b): (&f32, &f32)| {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * largest
        };
        if let Some(i) = a.iter().zip(&*b).position(|pair| !close(pair)) {
            return Err(format!("output {name}[{i}] was {}, is {}", a[i], b[i]));
        }
    }
    Ok(())
}

/// Both texts, with a mark at each line that the other doesn't have.
fn difference(expected: &str, got: &str) -> String {
    let mut text = String::new();
    for line in expected.lines() {
        text += if got.lines().any(|l| l == line) { "  " } else { "- " };
        text += line;
        text += "\n";
    }
    for line in got.lines().filter(|line| !expected.lines().any(|l| l == *line)) {
        text += "+ ";
        text += line;
        text += "\n";
    }
    text
}
