//! The ao room: ids, tags, owners, messages, schedules, process actors, evaluation order, crons, results.
//!
//! This room knows nothing of HTTP routes or the command line. (It is an HTTP *client* of schedulers and gateways.)
#![forbid(unsafe_code)]

mod dry_run;
mod engines;
pub mod error;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod ids;
pub mod item;
pub(crate) mod js;
pub(crate) mod memo;
pub mod message;
pub mod metrics;
pub mod module;
pub(crate) mod module_files;
pub(crate) mod owner;
pub mod process;
pub mod schedule;
pub mod settings;
pub(crate) mod shape;
pub mod store;
pub mod tags;
pub mod unit;
pub mod verify;

pub use error::Error;
pub use settings::UnitSettings;
pub use unit::Unit;
