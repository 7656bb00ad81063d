//! The command `contextune`: arguments, progress and printing around the library.
// They panic where nobody reads; `output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod errors;
mod examples;
mod interrupt;
mod learned;
mod measuring;
mod options;
mod output;
mod picture_paths;
mod screen;
mod style;
mod training;
mod watch;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use output::{Unwritable, note};

#[global_allocator]
static ALLOCATOR: contextune_allocator::MiMalloc = contextune_allocator::MiMalloc;

/// Learn prompts for frozen vision-language models.
///
/// Try it now, offline: contextune demo
#[derive(Debug, Parser)]
#[command(
    name = "contextune",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Arguments {
    #[command(flatten)]
    everywhere: options::Everywhere,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(commands::demo::Arguments),
    Classify(commands::classify::Arguments),
    Train(commands::train::Arguments),
    Resume(commands::resume::Arguments),
    Sweep(commands::sweep::Arguments),
    Eval(commands::eval::Arguments),
    Predict(commands::predict::Arguments),
    Explain(commands::explain::Arguments),
    Report(commands::report::Arguments),
    Serve(commands::serve::Arguments),
    Import(commands::import::Arguments),
    Export(commands::export::Arguments),
    Encode(commands::encode::Arguments),
    Data(commands::data::Arguments),
    Cache(commands::cache::Arguments),
    Models(commands::models::Arguments),
    Doctor(commands::doctor::Arguments),
    Tokenize(commands::tokenize::Arguments),
    Pretrain(commands::pretrain::Arguments),
    Completions(commands::shell::CompletionArguments),
    Man(commands::shell::ManArguments),
}

fn main() -> ExitCode {
    contextune_allocator::keep_pages();
    let arguments = Arguments::parse();
    let outcome = arguments
        .everywhere
        .setup()
        .and_then(|context| match arguments.command {
            Command::Demo(arguments) => commands::demo::run(arguments, &context),
            Command::Classify(arguments) => commands::classify::run(arguments, &context),
            Command::Train(arguments) => commands::train::run(arguments, &context),
            Command::Resume(arguments) => commands::resume::run(arguments, &context),
            Command::Sweep(arguments) => commands::sweep::run(arguments, &context),
            Command::Eval(arguments) => commands::eval::run(arguments, &context),
            Command::Predict(arguments) => commands::predict::run(arguments, &context),
            Command::Explain(arguments) => commands::explain::run(arguments, &context),
            Command::Report(arguments) => commands::report::run(arguments, &context),
            Command::Serve(arguments) => commands::serve::run(arguments, &context),
            Command::Import(arguments) => commands::import::run(arguments, &context),
            Command::Export(arguments) => commands::export::run(arguments, &context),
            Command::Encode(arguments) => commands::encode::run(arguments, &context),
            Command::Data(arguments) => commands::data::run(arguments, &context),
            Command::Cache(arguments) => commands::cache::run(arguments, &context),
            Command::Models(arguments) => commands::models::run(&arguments, &context),
            Command::Doctor(arguments) => commands::doctor::run(&arguments, &context),
            Command::Tokenize(arguments) => commands::tokenize::run(arguments, &context),
            Command::Pretrain(arguments) => commands::pretrain::run(arguments, &context),
            Command::Completions(arguments) => {
                commands::shell::complete(&arguments, Arguments::command())
            }
            Command::Man(arguments) => commands::shell::man(&arguments, Arguments::command()),
        });
    // Whoever closes the pipe has read what they wanted.
    match outcome.and_then(|()| Ok(output::check()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.is::<interrupt::Stopped>() {
                note!("{error}");
                return ExitCode::from(interrupt::EXIT_CODE);
            }
            if error.downcast_ref().is_some_and(Unwritable::is_closed_pipe) {
                return ExitCode::SUCCESS;
            }
            let style = style::ERROR;
            note!("{style}error:{style:#} {}", errors::text(&error));
            match error.is::<options::WrongUsage>() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}
