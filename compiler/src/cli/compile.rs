//! `nnc compile`: from a model to a file that runs without the compiler, or to any of the stages on the way there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use nnc::artefact::{Linked, write_pkg_config};
use nnc::passes;
use nnc::{CName, Code, Compilation, Model};
use nnc_ir::dot::dot;
use nnc_ir::{Graph, text};

use super::args::{CompileArgs, TimingsArgs};
use super::failure::usage;
use super::native;
use super::output::Output;
use super::progress::Progress;
use super::slow;
use super::source;
use super::stats::timed;
use super::timings;
use super::units;

/// Compile a model to a file that `nnc run`, a Rust host or a C host loads; or several models to one library
#[derive(Args, Clone, Debug)]
pub struct Compile {
    /// An ONNX model. Several become one library, with `--emit static,header -o NAME`
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<PathBuf>,

    /// Where to write: a file, or a folder if several are written; `-` is standard output. Of several models, what the names of the files begin with [default: beside the
    /// model, MODEL.nnc.so; text to standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// What C knows the program by: NAME_run, NAME_INPUT_0_BYTES. Also begins the names of files without -o [default: the name
    /// of the model's file, made an identifier]
    #[arg(long, value_name = "NAME", value_parser = CName::new)]
    pub name: Option<CName>,

    /// What to write
    #[arg(long, value_enum, value_delimiter = ',', default_value = "so")]
    pub emit: Vec<Emit>,

    /// Print the graph each time this pass has changed it
    #[arg(long, value_name = "PASS")]
    pub print_after: Option<String>,

    /// Write every stage into a folder: the graph after each pass, plan, Cranelift IR, machine code, object
    #[arg(long, value_name = "FOLDER")]
    pub dump_to: Option<PathBuf>,

    #[command(flatten)]
    pub timings: TimingsArgs,

    #[command(flatten)]
    pub compile: CompileArgs,
}

/// What `nnc compile` writes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// A compiled program: an ELF shared object with code and weights (MODEL.nnc.so)
    So,
    /// A relocatable object, for a linker (MODEL.nnc.o)
    Obj,
    /// A static library, for a linker (MODEL.nnc.a)
    Static,
    /// The C header of the program (MODEL.nnc.h)
    Header,
    /// A Rust module with the shared object that is written, too, and the types of its inputs and outputs (MODEL.rs)
    Rust,
    /// What pkg-config tells of the library that is written, too (MODEL.pc)
    Pc,
    /// The graph after all passes, as text
    Ir,
    /// The plan: steps, tiles, memory
    Plan,
    /// The Cranelift IR of each function
    Clif,
    /// The machine code of each function, disassembled
    Asm,
    /// The graph after all passes, for Graphviz
    Dot,
}

impl Emit {
    /// The ending of its file beside the model; `None` for text, which goes to standard output.
    pub(super) fn ending(self) -> Option<&'static str> {
        match self {
            Emit::So => Some("nnc.so"),
            Emit::Obj => Some("nnc.o"),
            Emit::Static => Some("nnc.a"),
            Emit::Header => Some("nnc.h"),
            Emit::Rust => Some("rs"),
            Emit::Pc => Some("pc"),
            Emit::Ir | Emit::Plan | Emit::Clif | Emit::Asm | Emit::Dot => None,
        }
    }

    /// Whether it is a file with code that may run elsewhere.
    fn holds_code(self) -> bool {
        matches!(self, Emit::So | Emit::Obj | Emit::Static)
    }

    /// Whether code must be made for it.
    fn needs_code(self) -> bool {
        !matches!(self, Emit::Ir | Emit::Plan | Emit::Dot | Emit::Pc)
    }
}

/// Where a result goes.
pub(super) enum Destination {
    File(Output),
    Stdout,
}

impl Destination {
    /// The name of a file that others will look for.
    pub(super) fn file_name(&self) -> Option<String> {
        match self {
            Destination::File(output) => Some(output.file_name()),
            Destination::Stdout => None,
        }
    }
}

impl Compile {
    /// Runs the command for one model.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        self.refuse_artefacts()?;
        // Several are a matter of `compile_library`.
        let Some(file) = self.models.first() else { return Ok(()) };
        if let Some(pass) = &self.print_after {
            passes::find(pass).map_err(nnc::Error::from)?;
        }
        let options = source::options(&self.compile)?;

        let progress = Progress::new("reading the model");
        let (model, load_ms) = timed(|| Model::open_with(file, self.compile.limits.limits()));
        let model = model?;
        let destinations = self.destinations(file)?;
        let library = self.library(&destinations)?;
        let shared = self.shared_object(&destinations)?;
        let mut stages = Stages::new(self)?;
        progress.say("compiling");
        let (compilation, lower_ms) =
            timed(|| model.lower_observed(&options, &mut |pass, graph| stages.see(pass, graph)));
        let compilation = compilation?;
        let needs_code = self.dump_to.is_some() || self.emit.iter().any(|e| e.needs_code());
        let (code, code_ms) =
            timed(|| needs_code.then(|| compilation.code_called(&self.name(file))).transpose());
        let code = code?;
        progress.say("writing");
        let needs_graph =
            self.dump_to.is_some() || self.emit.iter().any(|e| matches!(e, Emit::Ir | Emit::Dot));
        let graph = needs_graph.then(|| model.optimised(&options)).transpose()?;
        stages.finish(out, graph.as_ref(), &compilation, code.as_ref())?;

        let mut written = Vec::new();
        for (&emit, destination) in self.emit.iter().zip(&destinations) {
            // The graphs were printed already, at the stage that was asked for.
            if emit == Emit::Ir && self.print_after.is_some() && matches!(destination, Destination::Stdout) {
                continue;
            }
            let bytes = match emit {
                Emit::Pc => self.pkg_config(file, library.as_deref(), &compilation.target().name),
                Emit::Rust => {
                    let module =
                        code.as_ref().map(|code| code.rust_module(shared.as_deref().unwrap_or_default()));
                    module.unwrap_or_default().into_bytes()
                }
                _ => self.render(emit, destination, graph.as_ref(), &compilation, code.as_ref())?,
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
        slow::warn(&compilation.report().slow);
        let for_others = self.emit.iter().any(|emit| emit.holds_code()) && !written.is_empty();
        if let Some(code) = code.as_ref().filter(|_| for_others && self.compile.targets.is_empty()) {
            native::note(&compilation, code.desc().features);
        }
        if !written.is_empty() {
            self.summary(out, &compilation, code.as_ref(), [load_ms, lower_ms, code_ms], &written)?;
        }
        Ok(())
    }

    /// What is compiled already is not compiled again.
    pub(super) fn refuse_artefacts(&self) -> Result<()> {
        if let Some(artefact) = self.models.iter().find(|model| source::is_artefact(model)) {
            usage!("\"{}\" is compiled already; run it with `nnc run`", artefact.display());
        }
        Ok(())
    }

    /// Finds out where everything goes and whether it can go there, before the work begins.
    pub(super) fn destinations(&self, model: &Path) -> Result<Vec<Destination>> {
        let folder = self.output.as_deref().filter(|path| self.emit.len() > 1 && path.is_dir());
        if self.output.is_some() && folder.is_none() && self.emit.len() > 1 {
            usage!(
                "-o names one file, but --emit asks for {}; give one of them, or a folder with -o, or leave -o out",
                self.emit.len()
            );
        }
        let read = [model];
        let in_folder = |folder: &Path, ending| {
            let name = self.beside(model, ending);
            folder.join(name.file_name().unwrap_or_default())
        };
        let destination = |emit: &Emit| match (&self.output, emit.ending()) {
            (Some(_), None) if folder.is_some() => Ok(Destination::Stdout),
            (Some(folder), Some(ending)) if self.emit.len() > 1 => {
                Output::check(&in_folder(folder, ending), &read).map(Destination::File)
            }
            (Some(path), _) if path == Path::new("-") => Ok(Destination::Stdout),
            (Some(path), _) => Output::check(path, &read).map(Destination::File),
            (None, None) => Ok(Destination::Stdout),
            (None, Some(ending)) => Output::check(&self.beside(model, ending), &read).map(Destination::File),
        };
        self.emit.iter().map(destination).collect()
    }

    /// What C knows the program by.
    pub(super) fn name(&self, model: &Path) -> CName {
        self.name.clone().unwrap_or_else(|| CName::of_file(model))
    }

    /// The name of a file that is written.
    fn file_of(&self, kind: Emit, destinations: &[Destination]) -> Option<String> {
        let written = self.emit.iter().zip(destinations).find(|(emit, _)| **emit == kind);
        written.and_then(|(_, destination)| destination.file_name())
    }

    /// The shared object that a Rust module holds.
    pub(super) fn shared_object(&self, destinations: &[Destination]) -> Result<Option<String>> {
        let found = self.file_of(Emit::So, destinations);
        if found.is_none() && self.emit.contains(&Emit::Rust) {
            usage!("--emit rust holds a shared object, but writes none; ask for both: --emit so,rust");
        }
        Ok(found)
    }

    /// The file of the library that is written, for `--emit pc`: static where there are both kinds.
    pub(super) fn library(&self, destinations: &[Destination]) -> Result<Option<String>> {
        let file = |kind| self.file_of(kind, destinations);
        let found = [Emit::Static, Emit::Obj, Emit::So].into_iter().find_map(file);
        if found.is_none() && self.emit.contains(&Emit::Pc) {
            usage!(
                "--emit pc tells of a library, but writes none; ask for one, too: --emit static,header,pc"
            );
        }
        Ok(found)
    }

    /// What pkg-config tells of the library.
    pub(super) fn pkg_config(&self, model: &Path, library: Option<&str>, target: &str) -> Vec<u8> {
        let file = library.unwrap_or_default();
        let linked = match self.emit.iter().any(|emit| matches!(emit, Emit::Static | Emit::Obj)) {
            true => Linked::Static(file),
            false => Linked::Shared(file),
        };
        let about = format!("compiled by nnc for {target}");
        write_pkg_config(&self.name(model).to_string(), &about, linked).into_bytes()
    }

    /// The file beside the model for a result.
    fn beside(&self, model: &Path, ending: &str) -> PathBuf {
        match &self.name {
            Some(name) => model.with_file_name(format!("{name}.{ending}")),
            None => source::beside(model, ending),
        }
    }

    fn render(
        &self,
        emit: Emit,
        destination: &Destination,
        graph: Option<&Graph>,
        compilation: &Compilation,
        code: Option<&Code<'_>>,
    ) -> Result<Vec<u8>> {
        Ok(match (emit, code) {
            (Emit::Ir, _) => graph.map(text::print).unwrap_or_default().into_bytes(),
            (Emit::Dot, _) => graph.map(dot).unwrap_or_default().into_bytes(),
            (Emit::Plan, _) => compilation.plan().to_string().into_bytes(),
            (Emit::So, Some(code)) => match destination.file_name() {
                Some(name) => code.artefact_in(&name)?,
                None => code.artefact()?,
            },
            (Emit::Obj, Some(code)) => code.object()?,
            (Emit::Static, Some(code)) => code.static_library()?,
            (Emit::Header, Some(code)) => code.header()?.into_bytes(),
            (Emit::Clif, Some(code)) => code.clif()?.into_bytes(),
            (Emit::Asm, Some(code)) => code.asm()?.into_bytes(),
            (Emit::Pc | Emit::Rust, _) | (_, None) => Vec::new(),
        })
    }

    /// What was done, and what it takes.
    fn summary(
        &self,
        out: &mut dyn Write,
        compilation: &Compilation,
        code: Option<&Code<'_>>,
        [load_ms, lower_ms, code_ms]: [f64; 3],
        written: &[(PathBuf, u64)],
    ) -> Result<()> {
        let plan = compilation.plan();
        super::run::fused(out, compilation.report())?;
        write!(out, "program  {} steps", plan.steps.len())?;
        if let Some(code) = code {
            let (functions, bytes) = (code.desc().functions, units::bytes(code.bytes()));
            write!(out, " that share {functions} functions, {bytes} of code")?;
        }
        writeln!(out, ", for {}", compilation.target().name)?;
        writeln!(
            out,
            "memory   arena {}, scratch {} a thread, constants {}",
            units::bytes(plan.arena_bytes),
            units::bytes(plan.scratch_bytes),
            units::bytes(plan.constants.len() as u64)
        )?;
        write!(out, "times    load {}, passes and plan {}", units::ms(load_ms), units::ms(lower_ms))?;
        if code.is_some() {
            write!(out, ", code {}", units::ms(code_ms))?;
        }
        writeln!(out)?;
        if self.timings.timings {
            timings::show(out, &code.map_or_else(|| compilation.report().clone(), Code::report))?;
        }
        for (path, bytes) in written {
            writeln!(out, "wrote    {} ({})", path.display(), units::bytes(*bytes))?;
        }
        Ok(())
    }
}

/// The graph at each stage, for `--print-after` and `--dump-to`.
struct Stages<'a> {
    print_after: Option<&'a str>,
    dump_to: Option<&'a Path>,
    /// Name of the pass and the graph after it, for each time that it changed something of interest.
    seen: Vec<(String, String)>,
}

impl<'a> Stages<'a> {
    fn new(args: &'a Compile) -> Result<Stages<'a>> {
        if let Some(folder) = &args.dump_to {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder \"{}\" of --dump-to", folder.display()))?;
        }
        Ok(Stages {
            print_after: args.print_after.as_deref(),
            dump_to: args.dump_to.as_deref(),
            seen: Vec::new(),
        })
    }

    fn see(&mut self, pass: &str, graph: &Graph) {
        if self.dump_to.is_none() && self.print_after != Some(pass) {
            return;
        }
        let graph = text::print(graph);
        // With --dump-to every change is kept once; what is printed are the changes of one pass.
        let last = self.seen.iter().rev().find(|(p, _)| self.dump_to.is_some() || p == pass);
        if last.is_none_or(|(_, before)| *before != graph) {
            self.seen.push((pass.to_string(), graph));
        }
    }

    fn finish(
        &self,
        out: &mut dyn Write,
        graph: Option<&Graph>,
        compilation: &Compilation,
        code: Option<&Code<'_>>,
    ) -> Result<()> {
        for (pass, graph) in &self.seen {
            if self.print_after == Some(pass) {
                writeln!(out, "// after {pass}\n{graph}")?;
            }
        }
        let Some(folder) = self.dump_to else { return Ok(()) };
        let write = |name: &str, bytes: &[u8]| Output::check(&folder.join(name), &[])?.write(bytes);
        for (index, (pass, graph)) in self.seen.iter().enumerate() {
            write(&format!("{:02}-{pass}.nnir", index + 1), graph.as_bytes())?;
        }
        if let Some(graph) = graph {
            write("graph.dot", dot(graph).as_bytes())?;
        }
        write("plan.txt", compilation.plan().to_string().as_bytes())?;
        if let Some(code) = code {
            write("code.clif", code.clif()?.as_bytes())?;
            write("code.asm", code.asm()?.as_bytes())?;
            write("code.o", &code.object()?)?;
        }
        Ok(())
    }
}
