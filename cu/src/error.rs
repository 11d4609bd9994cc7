//! Everything that can go wrong in this room, by what a caller can do about it. The api room maps variants to statuses.

/// A failure that is not a result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// An argument that cannot mean anything.
    #[error("{0}")]
    Invalid(String),
    /// The unit does not serve this process.
    #[error("Access denied for process {0}")]
    ProcessDenied(String),
    /// The unit does not serve this owner's processes.
    #[error("Access denied for process owner {0}")]
    OwnerDenied(String),
    /// An assigned or asked-for transaction the gateway does not have.
    #[error("{0}")]
    NotFound(String),
    /// Memory-Limit / Compute-Limit missing or above the unit's.
    #[error("{0}")]
    LimitExceeded(String),
    /// Unsupported format, encoding, extension; module that cannot run; `HashChain invalid on message <id>`.
    #[error("{0}")]
    Unprocessable(String),
    /// `message at nonce N not found cached, and earlier than latest known nonce M`.
    #[error("{0}")]
    TooEarly(String),
    /// A queue or a rate is full.
    #[error("{0}")]
    TooMany(String),
    /// `Nonce limit exceeded: ...`: the process is behind by more messages than a request waits for.
    #[error("{0}")]
    Hydrating(String),
    /// A scheduler or gateway failed us.
    #[error("{0}")]
    Upstream(String),
    /// Our own infrastructure: disk, memory, wall-clock bound, shutdown.
    #[error("{0}")]
    Internal(String),
}
