//! `nnc compile a.onnx b.onnx`: several models in one library, each with the name of its file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nnc::artefact::{Linked, write_pkg_config};
use nnc::{CName, Compilation, Library, Model};

use super::compile::{Compile, Emit};
use super::failure::usage;
use super::output::Output;
use super::progress::Progress;
use super::slow;
use super::source;
use super::stats::timed;
use super::units;

/// Runs the command for several models.
pub fn run(args: &Compile, out: &mut dyn Write) -> Result<()> {
    args.refuse_artefacts()?;
    let base = check(args)?;
    let options = source::options(&args.compile)?;
    let read: Vec<&Path> = args.models.iter().map(PathBuf::as_path).collect();
    let file = |emit: &Emit| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!(".{}", emit.ending().unwrap_or_default()));
        Ok((*emit, Output::check(Path::new(&name), &read)?))
    };
    let files = args.emit.iter().map(file).collect::<Result<Vec<_>>>()?;

    let progress = Progress::new("compiling");
    let (compilations, lower_ms) = timed(|| {
        args.models
            .iter()
            .map(|path| -> Result<(CName, Compilation)> {
                let model = Model::open_with(path, args.compile.limits.limits())?;
                Ok((CName::of_file(path), model.lower(&options)?))
            })
            .collect::<Result<Vec<_>>>()
    });
    let compilations = compilations?;
    let programs: Vec<_> =
        compilations.iter().map(|(name, compilation)| (name.clone(), compilation)).collect();
    let (library, code_ms) = timed(|| Library::new(&programs));
    let library = library?;
    progress.say("writing");
    let mut written = Vec::new();
    for (emit, file) in &files {
        let bytes = match emit {
            Emit::Obj => library.object().to_vec(),
            Emit::Static => library.static_library(&beside(&base, Emit::Obj))?,
            Emit::Header => library.header()?.into_bytes(),
            // `check` lets no other pass.
            _ => pkg_config(&base, &args.emit, &programs).into_bytes(),
        };
        file.write(&bytes)?;
        written.push((file.path(), bytes.len() as u64));
    }
    drop(progress);
    for (name, compilation) in &compilations {
        slow::warn(&compilation.report().slow);
        let plan = compilation.plan();
        writeln!(
            out,
            "program  {name}: {} steps, arena {}, constants {}",
            plan.steps.len(),
            units::bytes(plan.arena_bytes),
            units::bytes(plan.constants.len() as u64)
        )?;
    }
    let target = &compilations.first().map(|(_, compilation)| compilation.target().name.clone());
    writeln!(
        out,
        "library  {} functions, {} of code, for {}",
        library.functions(),
        units::bytes(library.bytes()),
        target.as_deref().unwrap_or_default()
    )?;
    writeln!(out, "times    load, passes and plan {}, code {}", units::ms(lower_ms), units::ms(code_ms))?;
    for (path, bytes) in written {
        writeln!(out, "wrote    {} ({})", path.display(), units::bytes(bytes))?;
    }
    Ok(())
}

/// Refuses what is for one model; returns what the names of the files begin with.
fn check(args: &Compile) -> Result<PathBuf> {
    let one = [
        (args.name.is_some(), "--name"),
        (args.print_after.is_some(), "--print-after"),
        (args.dump_to.is_some(), "--dump-to"),
        (args.timings.timings, "--timings"),
    ];
    if let Some((_, flag)) = one.into_iter().find(|(given, _)| *given) {
        usage!("{flag} is for one model; compile the models one by one with it");
    }
    let of_many = [Emit::Obj, Emit::Static, Emit::Header, Emit::Pc];
    if args.emit.iter().any(|emit| !of_many.contains(emit)) {
        usage!(
            "several models become a library to link with; ask for one with --emit static,header, or obj, or pc beside one of them"
        );
    }
    if args.emit.contains(&Emit::Pc) && !args.emit.iter().any(|emit| matches!(emit, Emit::Static | Emit::Obj))
    {
        usage!("--emit pc tells of a library, but writes none; ask for one, too: --emit static,header,pc");
    }
    match &args.output {
        Some(base) if base.is_dir() => {
            usage!(
                "\"{}\" is a folder; add what the names of the files begin with: -o models",
                base.display()
            )
        }
        Some(base) if base.file_name().is_some() => Ok(base.clone()),
        _ => {
            usage!("name the library of several models with -o, such as -o models, which writes models.nnc.a")
        }
    }
}

/// The name of a file of the library.
fn beside(base: &Path, emit: Emit) -> String {
    format!(
        "{}.{}",
        base.file_name().unwrap_or_default().to_string_lossy(),
        emit.ending().unwrap_or_default()
    )
}

fn pkg_config(base: &Path, emit: &[Emit], programs: &[(CName, &Compilation)]) -> String {
    let kind = if emit.contains(&Emit::Static) { Emit::Static } else { Emit::Obj };
    let names: Vec<String> = programs.iter().map(|(name, _)| name.to_string()).collect();
    let name = base.file_name().unwrap_or_default().to_string_lossy();
    write_pkg_config(
        &name,
        &format!("{}, compiled by nnc", names.join(", ")),
        Linked::Static(&beside(base, kind)),
    )
}
