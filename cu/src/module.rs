//! What a module's tags say, and whether this unit admits it.

use lockstep_jit::ModuleFormat;

use crate::tags::Tags;

/// A module this unit admits for one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Its id.
    pub id: String,
    /// The owner's address.
    pub owner: String,
    /// All its tags, unfiltered.
    pub tags: Tags,
    /// How it was built.
    pub format: ModuleFormat,
    /// `Memory-Limit` of the process or the module, bytes. An admission check only: the module's own maximum rules.
    pub memory_limit: u64,
    /// `Compute-Limit` of the process or the module: gas per message, where gas is metered.
    pub gas_limit: u64,
    /// `Extension` tags; each is one that the unit lists.
    pub extensions: Vec<String>,
}
