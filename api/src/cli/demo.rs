//! Placeholder.

/// Arguments of `lockstep demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the demo.
pub fn run(_args: Args) -> super::Ending {
    Err("not yet".into())
}
