//! The ao guest ABI: what a module finds around itself, and how a message goes in and a result comes out.

pub mod calendar;
pub mod clock;
pub mod control;
pub mod environ;
pub mod files;
pub mod files_calls;
pub mod host;
pub mod imports;
pub mod link;
pub mod random;
pub mod response;
pub mod text;
pub mod time;
