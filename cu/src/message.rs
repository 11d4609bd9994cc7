//! The exact JSON texts that a guest sees.

use serde_json::{Map, Value};

use crate::{Error, module::ModuleInfo, schedule::Process};

/// The environment text: `{"Process":{"Id","Owner","Tags"},"Module":{"Id","Owner","Tags"}}`.
pub fn environment_json(process: &Process, module: &ModuleInfo) -> String {
    todo!()
}

/// The message text of a dry run: `body` (the client's JSON object) over the defaults.
///
/// `last_timestamp` (ms) and `last_block_height` are of the last evaluated entry. Errors are [`Error::Invalid`].
pub fn dry_run_json(
    process_id: &str,
    body: &Map<String, Value>,
    last_timestamp: u64,
    last_block_height: u64,
) -> Result<String, Error> {
    todo!()
}
