//! `lockstep inspect`: what a module is and needs.

use std::path::PathBuf;

/// Arguments of `lockstep inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// The module, a WebAssembly binary.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs `lockstep inspect`.
pub fn run(args: Args) -> super::Ending {
    Err(format!("{}: not yet", args.file.display()).into())
}
