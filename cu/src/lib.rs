//! The ao room: ids, tags, owners, messages, schedules, process actors, evaluation order, crons, results.
//!
//! This room knows nothing of HTTP routes or the command line. (It is an HTTP *client* of schedulers and gateways.)
#![forbid(unsafe_code)]
#![allow(missing_docs, dead_code, unused)]

pub mod error;
pub mod item;
pub mod settings;
pub mod unit;
pub use error::Error;
pub use settings::UnitSettings;
pub use unit::Unit;
