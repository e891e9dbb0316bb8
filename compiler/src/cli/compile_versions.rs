//! `nnc compile model.onnx --target x86-64-v2,x86-64-v3`: one file with a version of the program for each target.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use nnc::target::Target;
use nnc::{Model, Versions};

use super::compile::{Compile, Destination, Emit};
use super::failure::usage;
use super::progress::Progress;
use super::slow;
use super::source;
use super::stats::timed;
use super::units;

/// Runs the command for one model and several targets.
pub fn run(args: &Compile, out: &mut dyn Write) -> Result<()> {
    args.refuse_artefacts()?;
    check(args)?;
    let [file] = args.models.as_slice() else {
        usage!(
            "a library of several models is for one target; compile it for each, or the models one by one"
        );
    };
    let targets = args.compile.targets.iter().map(|name| Target::named(name));
    let targets = targets.collect::<Result<Vec<_>, _>>().map_err(nnc::Error::from)?;
    let options = source::options_for(&args.compile, None)?;
    let destinations = args.destinations(file)?;
    let library = args.library(&destinations)?;
    let shared = args.shared_object(&destinations)?;

    let progress = Progress::new("reading the model");
    let (model, load_ms) = timed(|| Model::open_with(file, args.compile.limits.limits()));
    let model = model?;
    progress.say("compiling");
    let (versions, code_ms) = timed(|| Versions::new(&model, &options, &targets, &args.name(file)));
    let versions = versions?;
    progress.say("writing");
    let mut written = Vec::new();
    for (&emit, destination) in args.emit.iter().zip(&destinations) {
        let bytes = match emit {
            Emit::So => match destination.file_name() {
                Some(name) => versions.artefact_in(&name)?,
                None => versions.artefact()?,
            },
            Emit::Obj => versions.object()?,
            Emit::Static => versions.static_library()?,
            Emit::Header => versions.header()?.into_bytes(),
            Emit::Rust => versions.rust_module(shared.as_deref().unwrap_or_default()).into_bytes(),
            // `check` lets no other pass.
            _ => args.pkg_config(file, library.as_deref(), &versions.desc().target),
        };
        match destination {
            Destination::Stdout => out.write_all(&bytes)?,
            Destination::File(output) => {
                output.write(&bytes)?;
                written.push((output.path().to_owned(), bytes.len() as u64));
            }
        }
    }
    drop(progress);
    if let Some(compilation) = versions.compilations().first() {
        slow::warn(&compilation.report().slow);
    }
    if !written.is_empty() {
        summary(out, &versions, [load_ms, code_ms], &written)?;
    }
    Ok(())
}

/// Refuses what is for one target.
fn check(args: &Compile) -> Result<()> {
    let one = [
        (args.print_after.is_some(), "--print-after"),
        (args.dump_to.is_some(), "--dump-to"),
        (args.timings.timings, "--timings"),
    ];
    if let Some((_, flag)) = one.into_iter().find(|(given, _)| *given) {
        usage!("{flag} is for one target; compile for the targets one by one with it");
    }
    let texts = [Emit::Ir, Emit::Plan, Emit::Clif, Emit::Asm, Emit::Dot];
    if args.emit.iter().any(|emit| texts.contains(emit)) {
        usage!(
            "a text tells of one target; name one with --target, or ask for so, obj, static, header, rust or pc"
        );
    }
    Ok(())
}

/// What was done, and what it takes.
fn summary(
    out: &mut dyn Write,
    versions: &Versions,
    [load_ms, code_ms]: [f64; 2],
    written: &[(PathBuf, u64)],
) -> Result<()> {
    for compilation in versions.compilations() {
        let plan = compilation.plan();
        writeln!(
            out,
            "version  {}: {} steps, arena {}, constants {}",
            compilation.target().name,
            plan.steps.len(),
            units::bytes(plan.arena_bytes),
            units::bytes(plan.constants.len() as u64)
        )?;
    }
    writeln!(
        out,
        "program  {} functions, {} of code, constants {}",
        versions.functions(),
        units::bytes(versions.bytes()),
        units::bytes(versions.const_bytes())
    )?;
    writeln!(out, "times    load {}, passes, plans and code {}", units::ms(load_ms), units::ms(code_ms))?;
    for (path, bytes) in written {
        writeln!(out, "wrote    {} ({})", path.display(), units::bytes(*bytes))?;
    }
    Ok(())
}
