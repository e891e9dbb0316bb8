//! Completions and manual pages, from the same definition as the help.

use std::io::Write;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a script that completes nnc's command line in a shell: source <(nnc completions bash)
#[derive(Args, Clone, Debug)]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

/// Print the manual page of nnc, or of one of its commands: nnc man run | man -l -
#[derive(Args, Clone, Debug)]
pub struct Man {
    /// Which command
    command: Option<String>,
}

impl Completions {
    /// Runs the command.
    pub fn run(&self, mut out: &mut dyn Write) -> Result<()> {
        clap_complete::generate(self.shell, &mut super::Cli::command(), "nnc", &mut out);
        Ok(())
    }
}

impl Man {
    /// Runs the command.
    pub fn run(&self, mut out: &mut dyn Write) -> Result<()> {
        let nnc = super::Cli::command();
        let command = match &self.command {
            None => nnc,
            Some(name) => {
                let names: Vec<&str> =
                    nnc.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name()).collect();
                match nnc.find_subcommand(name) {
                    Some(command) => command.clone(),
                    None => super::failure::usage!(
                        "nnc has no command \"{name}\"; {}",
                        nnc_ir::nearest::Hint::new(name, &names)
                    ),
                }
            }
        };
        clap_mangen::Man::new(command).render(&mut out)?;
        Ok(())
    }
}
