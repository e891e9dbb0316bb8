//! The command line: a thin layer over the library. One file for each command; what they share stands beside them.

mod args;
mod bench;
mod classes;
mod compile;
mod compile_library;
mod compile_versions;
mod failure;
mod flag;
mod inspect;
mod interrupt;
mod labels;
mod models;
mod native;
mod numbers;
mod open_dims;
mod output;
mod picture;
mod ports;
mod precision;
mod profile;
mod progress;
mod results;
mod run;
mod shots;
mod slow;
mod source;
mod stats;
mod table;
mod tensors;
mod texts;
mod timings;
mod units;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use nnc_ir::setting::worded;

/// A compiler from ONNX models to native code
///
/// Exit codes: 0 all went well, 1 the model or the data are at fault, 2 the command line is.
#[derive(Parser, Debug)]
#[command(name = "nnc", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Compile(compile::Compile),
    Run(Box<run::Run>),
    Verify(verify::Verify),
    Bench(bench::Bench),
    Profile(profile::Profile),
    Inspect(inspect::Inspect),
    Models(models::Models),
    Completions(texts::Completions),
    Man(texts::Man),
}

/// Reads the command line, does what it says, and turns errors into exit codes.
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version are errors to clap, with exit code 0. That nobody reads them is not ours to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Err(error) = interrupt::watch() {
        return failure::report(&anyhow::Error::new(error).context("signals cannot be caught"));
    }
    let mut out = std::io::BufWriter::new(anstream::stdout().lock());
    worded(flag::flag, || match run(&command, &mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What was printed before the error comes before it.
            let _ = out.flush();
            failure::report(&error)
        }
    })
}

fn run(command: &Command, out: &mut dyn Write) -> Result<()> {
    match command {
        Command::Compile(compile) if compile.compile.targets.len() > 1 => compile_versions::run(compile, out),
        Command::Compile(compile) if compile.models.len() > 1 => compile_library::run(compile, out),
        Command::Compile(compile) => compile.run(out),
        Command::Run(run) => run.run(out),
        Command::Verify(verify) => verify.run(out),
        Command::Bench(bench) => bench.run(out),
        Command::Profile(profile) => profile.run(out),
        Command::Inspect(inspect) => inspect.run(out),
        Command::Models(models) => models.run(out),
        Command::Completions(completions) => completions.run(out),
        Command::Man(man) => man.run(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
