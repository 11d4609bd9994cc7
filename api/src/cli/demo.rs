//! Placeholder of `lockstep demo`, so that the command line compiles before it arrives.

/// Arguments of `lockstep demo`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs `lockstep demo`.
pub fn run(_args: Args) -> super::Ending {
    Err("`demo` is not part of this build".into())
}
