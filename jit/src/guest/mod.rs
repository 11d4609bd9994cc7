//! The host that an ao guest sees: its imports, files, calendar and randomness.

pub mod calendar;
pub mod clock;
pub mod files;
pub mod imports;
pub mod random;
pub mod text;
