//! The `lockstep` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything could begin a thread.
    lockstep_shaders::llvmpipe::widen_vectors();
    lockstep_api::cli::main()
}
