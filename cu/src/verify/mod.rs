//! Signatures of whatever the network hands us: from items, bundles, transactions and schedulers' pages to an answer for
//! each, in batches by scheme.
//!
//! A [`Subject`] is one signed thing as far as it could be read. [`settle`] puts the checks of many subjects together, one
//! batch a scheme, and asks a [`Verifier`]; who that is (the processor, a GPU) makes no difference to the answers.

mod batch;
mod desk;
mod engines;
mod file;
mod memory;
mod pipeline;
mod witness;
mod written;

pub use batch::{Cpu, Verifier, settle};
pub use desk::{Policy, SignatureLabels, Signatures};
pub use engines::{Engines, GpuSettings};
pub use pipeline::{Found, verify};
pub(crate) use witness::{Refused, Witness};
pub use written::{Placed, read_json};

use crate::item::{Checks, DataItem, Head, Id, deep_hash::DEEP_HASH_BYTES, to_base64url};

/// What is found out about a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The owner signed exactly this.
    Valid,
    /// The owner did not sign this. Why.
    Invalid(String),
    /// What was signed cannot be told from what there is. Why.
    Unverifiable(String),
}

impl Outcome {
    /// `valid`, `invalid` or `unverifiable`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid(_) => "invalid",
            Self::Unverifiable(_) => "unverifiable",
        }
    }

    /// Why it is not valid.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Valid => None,
            Self::Invalid(why) | Self::Unverifiable(why) => Some(why),
        }
    }
}

/// One signed thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its id as it is written; empty if it has none.
    pub id: String,
    /// Number of its signature type, as far as it is known; transactions count as 1.
    pub signature_type: Option<u16>,
    /// What remains to be found out.
    pub question: Question,
}

/// What remains to be found out about a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Nothing.
    Settled(Outcome),
    /// Whether one of these holds.
    Open {
        /// Signature type and checks. More than one where the type is not known.
        any_of: Vec<(u16, Checks)>,
        /// The outcome if none does.
        otherwise: Outcome,
    },
}

/// The outcome for a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its id as it is written; empty if it has none.
    pub id: String,
    /// Number of its signature type, as far as it is known.
    pub signature_type: Option<u16>,
    /// What was found out.
    pub outcome: Outcome,
}

impl Subject {
    fn settled(id: String, signature_type: Option<u16>, outcome: Outcome) -> Self {
        Self { id, signature_type, question: Question::Settled(outcome) }
    }

    fn open(id: String, signature_type: u16, checks: Checks) -> Self {
        let question = Question::Open { any_of: vec![(signature_type, checks)], otherwise: failed() };
        Self { id, signature_type: Some(signature_type), question }
    }

    /// Of an item that is whole.
    pub fn of_item(item: &DataItem) -> Self {
        Self::of_head(item.head(), &item.signed_bytes(), None)
    }

    /// Of an item's head and what its owner signed; `expected`: the id under which it was found.
    fn of_head(head: &Head, signed: &[u8; DEEP_HASH_BYTES], expected: Option<&Id>) -> Self {
        let (id, number) = (head.id(), head.signature_type().number());
        let invalid = |why: String| Self::settled(to_base64url(&id), Some(number), Outcome::Invalid(why));
        if let Some(expected) = expected.filter(|expected| **expected != id) {
            return invalid(format!("its bundle's table has the id {} in its place", to_base64url(expected)));
        }
        match Checks::of(head, signed) {
            Ok(checks) => Self::open(to_base64url(&id), number, checks),
            Err(flaw) => invalid(flaw.to_string()),
        }
    }
}

fn failed() -> Outcome {
    Outcome::Invalid("the signature is not the owner's over this content".to_owned())
}
