//! The outside of Lockstep: HTTP routes and their JSON, settings, metrics, logs, the command line, and a development
//! network.
//!
//! This room knows nothing of how anything is evaluated: it asks [`lockstep_cu::Unit`] and renders the answer.
#![forbid(unsafe_code)]

pub mod cli;
pub mod devnet;
pub mod http;
pub mod identity;
pub mod logging;
pub mod metrics;
pub mod rate_limit;
pub mod settings;
pub mod wire;
