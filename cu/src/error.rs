//! Everything that can go wrong in this room, by what a caller can do about it. The api room maps variants to statuses.

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// An argument that cannot mean anything. -> 400 (the reference answers 500)
    #[error("{0}")]
    Invalid(String),
    /// -> 403
    #[error("Access denied for process {0}")]
    ProcessDenied(String),
    /// -> 403
    #[error("Access denied for process owner {0}")]
    OwnerDenied(String),
    /// An assigned or asked-for transaction the gateway does not have. -> 404
    #[error("{0}")]
    NotFound(String),
    /// Memory-Limit / Compute-Limit missing or above the unit's. -> 413
    #[error("{0}")]
    LimitExceeded(String),
    /// Unsupported format, encoding, extension; module that cannot run; `HashChain invalid on message <id>`. -> 422
    #[error("{0}")]
    Unprocessable(String),
    /// `message at nonce N not found cached, and earlier than latest known nonce M`. -> 425
    #[error("{0}")]
    TooEarly(String),
    /// -> 429
    #[error("{0}")]
    TooMany(String),
    /// `Nonce limit exceeded: ...`. -> 503
    #[error("{0}")]
    Hydrating(String),
    /// A scheduler or gateway failed us. -> 500 (texts as the contract has them)
    #[error("{0}")]
    Upstream(String),
    /// Our own infrastructure: disk, memory, wall-clock bound, shutdown. -> 500
    #[error("{0}")]
    Internal(String),
}
