//! The lanes engine: a module becomes one kernel, and every lane of a dispatch is one process of it.
//!
//! A lane may hand its message back ([`Bail`]), and is then as if it had never run; what it says otherwise is what the
//! native engine would say, to the bit.

mod build;
#[cfg(any(test, feature = "differential"))]
pub mod differential;
mod ending;
mod frames;
mod group;
mod kernel;
mod layout;
mod lower;
mod module;
mod order;
mod pace;
mod plan;
mod processes;
mod program;
mod seats;
#[cfg(test)]
mod tests;
mod turn;

pub use ending::{Bail, Ending, Trap};
pub use group::{Call, Compiled, Group, Returned};
pub use kernel::{Alignment, Form, Frames, Integers, Kernel, Trust};
pub use layout::{Shape, TILE_LANES};
pub use module::Lanes;
pub use processes::Processes;
pub use seats::{Came, Change, HandedBack, Seats, Stamp, Visit};
