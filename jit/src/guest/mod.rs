//! The host that an ao guest sees: its imports, files, calendar and randomness.

pub mod imports;
