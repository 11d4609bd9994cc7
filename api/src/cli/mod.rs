//! The command line: a file a subcommand, each with its `Args` and a `run`.

pub mod demo;
pub mod devnet;
pub mod eval;
pub mod gpu;
pub mod inspect;
mod open_files;
pub mod serve;
pub mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How a subcommand ends: an exit code, or a reason that is printed after `lockstep: `.
pub type Ending = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

/// Exit code of a run that failed.
const FAILED: u8 = 1;
/// Exit code of a run that could not begin: bad arguments or configuration (clap's own code for the former).
const BAD_SETTINGS: u8 = 2;

#[derive(Parser)]
#[command(name = "lockstep", version, about = "A compute unit for ao", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the compute unit.
    Serve(Box<serve::Args>),
    /// Evaluate the records of a vector file on one process, and check them.
    Eval(eval::Args),
    /// Show what a module is, needs, and would be refused for.
    Inspect(inspect::Args),
    /// Check the signatures in items, bundles, transactions and schedulers' pages.
    Verify(verify::Args),
    /// Show the GPUs there are, how fast one of them verifies signatures beside the processor, and whether it is right.
    Gpu(gpu::Args),
    /// Run a small development network: scheduler, messenger, gateway and bundler.
    Devnet(devnet::Args),
    /// Run network and compute unit together, send messages, and show how fast they are answered.
    Demo(demo::Args),
}

/// Runs what the process's arguments ask for.
pub fn main() -> ExitCode {
    let ending = match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Eval(args) => eval::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Gpu(args) => gpu::run(args),
        Command::Devnet(args) => devnet::run(args),
        Command::Demo(args) => demo::run(args),
    };
    ending.unwrap_or_else(|error| {
        eprintln!("lockstep: {error}");
        ExitCode::from(if error.is::<crate::settings::Error>() { BAD_SETTINGS } else { FAILED })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
