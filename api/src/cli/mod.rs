//! The command line: a file a subcommand, each with its `Args` and a `run`.

pub mod demo;
pub mod devnet;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How a subcommand ends: an exit code, or a reason that is printed after `lockstep: `.
pub type Ending = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(
    name = "lockstep",
    version,
    about = "A compute unit for ao",
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a small development network: scheduler, messenger, gateway and bundler.
    Devnet(devnet::Args),
    /// Run network and compute unit together, send messages, and show how fast they are answered.
    Demo(demo::Args),
}

/// Runs what the process's arguments ask for.
pub fn main() -> ExitCode {
    let ending = match Cli::parse().command {
        Command::Devnet(args) => devnet::run(args),
        Command::Demo(args) => demo::run(args),
    };
    ending.unwrap_or_else(|error| {
        eprintln!("lockstep: {error}");
        ExitCode::FAILURE
    })
}
