//! Placeholder of `lockstep devnet`, so that the command line compiles before it arrives.

/// Arguments of `lockstep devnet`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `lockstep devnet`.
pub fn run(_args: Args) -> super::Ending {
    Err("`devnet` is not part of this build".into())
}
