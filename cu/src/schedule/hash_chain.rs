//! The hash chain over a process's schedule.
//!
//! `Hash-Chain(n) = base64url(SHA-256(bytes(assignment id n-1) || bytes(Hash-Chain n-1)))`. The first link of a schedule
//! is only required to be there. The chain follows the schedule, not evaluation: skipped duplicates are links too.

use sha2::{Digest, Sha256};

use crate::{Error, ids};

/// Processes born before this Arweave block have chains that nobody checks.
pub(crate) const CHECKED_FROM_BLOCK: u64 = 1_440_000;

/// The last link seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HashChain {
    /// Assignment id and `Hash-Chain` of the last scheduled entry, as far as they are known.
    pub assignment_id: Option<String>,
    pub hash_chain: Option<String>,
    /// Whether this process's chain is checked.
    pub checked: bool,
}

impl HashChain {
    /// The chain with the next link in it.
    ///
    /// # Errors
    /// [`Error::Unprocessable`] `HashChain invalid on message <id>`.
    pub fn with(&self, message_id: &str, assignment_id: &str, hash_chain: Option<&str>) -> Result<Self, Error> {
        let known = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let fits = match (known(&self.assignment_id), known(&self.hash_chain)) {
            (Some(assignment_id), Some(last)) => hash_chain == Some(&*link(&assignment_id, &last)),
            _ => hash_chain.is_some_and(|link| !link.is_empty()),
        };
        if self.checked && !fits {
            return Err(Error::Unprocessable(format!("HashChain invalid on message {message_id}")));
        }
        Ok(Self {
            assignment_id: Some(assignment_id.to_owned()),
            hash_chain: hash_chain.map(str::to_owned),
            checked: self.checked,
        })
    }
}

/// The link after an assignment.
pub(crate) fn link(assignment_id: &str, hash_chain: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(ids::decode_leniently(assignment_id));
    hash.update(ids::decode_leniently(hash_chain));
    ids::encode(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a real scheduler's page: the process's assignment, its link, and the next one's link.
    const FIRST: [&str; 2] =
        ["ayNnl41GfUoA6A-pDdn3dU0V_Zp0D0OXFT8Ue4YmKug", "bSorSA52-rwxFBC9SPuer5s20nFWOX4CC4W1lHzLvK8"];

    fn chain(checked: bool) -> HashChain {
        HashChain { checked, ..Default::default() }
    }

    #[test]
    fn the_first_link_need_only_be_there() {
        assert!(chain(true).with("m", FIRST[0], Some("anything")).is_ok());
        for missing in [None, Some("")] {
            match chain(true).with("m", FIRST[0], missing) {
                Err(Error::Unprocessable(text)) => {
                    assert_eq!(text, "HashChain invalid on message m")
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn only_the_link_of_the_one_before_fits() {
        let chain = chain(true).with("m", FIRST[0], Some(FIRST[1])).unwrap();
        assert!(chain.with("n", "assignment", Some(FIRST[1])).is_err());
        assert!(chain.with("n", "assignment", None).is_err());
        assert!(chain.with("n", "assignment", Some(&link(FIRST[0], FIRST[1]))).is_ok());
    }

    #[test]
    fn old_processes_are_not_checked() {
        let chain = chain(false).with("m", "a", None).unwrap().with("n", "b", Some("whatever")).unwrap();
        assert_eq!(chain.hash_chain.as_deref(), Some("whatever"));
    }
}
