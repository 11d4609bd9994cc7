//! Every way this room fails that is not a result of the guest.

use std::time::Duration;

/// An engine's failure. A guest's own failures (`Error` results, traps, out of gas) are outcomes, not errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The module can never run here: malformed, an import nobody provides, a missing export, a refused feature, a
    /// memory above the bound. Deterministic for a given module and configuration.
    #[error("module cannot run: {0}")]
    Module(String),
    /// The wall-clock bound passed. State is as before the message, and no result may be stored.
    #[error("evaluation stopped after {0:?}, the wall-clock bound of this unit")]
    Timeout(Duration),
    /// The host could not provide memory, a file or a mapping. State is as before the message.
    #[error("{0}")]
    Host(String),
}

impl Error {
    /// A host failure with what was being done when it happened.
    pub(crate) fn host(doing: &str, cause: impl std::fmt::Display) -> Self {
        Self::Host(format!("{doing}: {cause}"))
    }
}
