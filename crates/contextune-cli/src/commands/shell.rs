//! `contextune completions` and `contextune man`: what a shell and `man` know about the program.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Command;
use clap_complete::Shell;

use crate::output;

/// Print completions for a shell.
///
/// Example: contextune completions bash > ~/.local/share/bash-completion/completions/contextune
#[derive(Debug, clap::Args)]
pub struct CompletionArguments {
    /// The shell.
    shell: Shell,
}

/// Write manual pages, one for each command.
///
/// Example: contextune man ~/.local/share/man/man1
#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// The folder they go to; made if it is not there.
    folder: PathBuf,
}

/// Prints.
pub fn complete(arguments: &CompletionArguments, mut program: Command) -> Result<()> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, name, &mut script);
    output::print(format_args!("{}", String::from_utf8(script)?));
    Ok(())
}

/// Writes.
pub fn man(arguments: &ManArguments, program: Command) -> Result<()> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(program, folder))
        .with_context(|| format!("cannot write manual pages to {}", folder.display()))
}
