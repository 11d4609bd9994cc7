//! The outside of Lockstep.
#![forbid(unsafe_code)]

pub mod cli;
pub mod devnet;
