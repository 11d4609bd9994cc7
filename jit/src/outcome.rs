//! What an evaluation gives back, whichever engine ran it.

use std::time::Duration;

use serde_json::Value;

/// The result of one message, as the reference folds it: what goes to the store and on the wire.
///
/// Absent members stay absent here (`Value::Null` never stands for "missing"); the wire's defaults (`[]`, `""`) are
/// filled in by whoever renders.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Outgoing messages, as the guest gave them.
    pub messages: Option<Value>,
    /// Assignments of existing messages to processes.
    pub assignments: Option<Value>,
    /// Processes to create.
    pub spawns: Option<Value>,
    /// What the guest printed or returned.
    pub output: Option<Value>,
    /// Device patches (newer loaders only); never on the legacy wire.
    pub patches: Option<Value>,
    /// What went wrong: the guest's own error value; `{}` for traps and out of gas; an `ExitStatus` for `exit`.
    pub error: Option<Value>,
    /// Gas; 0 for formats that meter none, absent when evaluation threw.
    pub gas_used: Option<u64>,
}

/// One finished evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The folded result.
    pub outcome: Outcome,
    /// Whether the message's writes became the process's state.
    pub kept: bool,
    /// Gas spent, also when the outcome carries none because evaluation threw; 0 where nothing is metered.
    pub gas_spent: u64,
    /// Time inside the engine.
    pub elapsed: Duration,
    /// Why a thrown evaluation ended (`out of gas!`, the trap's text, ...), for logs; the wire's `Error` is `{}`.
    pub thrown: Option<String>,
}

impl Evaluation {
    /// What another evaluation of the same message came to instead, in words; none: the same, whatever time either took.
    pub fn difference(&self, other: &Evaluation) -> Option<String> {
        let Evaluation { outcome, kept, gas_spent, .. } = self;
        let is_equal = (outcome, kept, gas_spent) == (&other.outcome, &other.kept, &other.gas_spent);
        (!is_equal).then(|| {
            format!(
                "{outcome:?} (kept {kept}, gas {gas_spent}), not {:?} (kept {}, gas {})",
                other.outcome, other.kept, other.gas_spent
            )
        })
    }
}
