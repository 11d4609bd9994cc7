//! Many subjects' checks as one batch a scheme.

use std::{num::NonZeroUsize, ops::Range};

use lockstep_shaders::{
    cpu,
    signature::{Ed25519, RsaPss, Secp256k1},
};

use super::{Outcome, Question, Subject, Verdict};
use crate::item::Checks;

/// Whoever checks batches: one `bool` an item, in order. All verifiers give the same answers.
pub trait Verifier: Send + Sync {
    /// RSA-PSS: see [`cpu::rsa_pss`] for the rule.
    fn rsa_pss(&self, items: &[RsaPss]) -> Vec<bool>;
    /// Ed25519: see [`cpu::ed25519`] for the rule.
    fn ed25519(&self, items: &[Ed25519]) -> Vec<bool>;
    /// ECDSA on secp256k1: see [`cpu::secp256k1`] for the rule.
    fn secp256k1(&self, items: &[Secp256k1]) -> Vec<bool>;
}

/// The processor, on so many threads.
#[derive(Clone, Copy, Debug)]
pub struct Cpu(pub NonZeroUsize);

impl Cpu {
    /// On all of the machine's cores.
    pub fn all() -> Self {
        Self(cpu::cores())
    }
}

impl Verifier for Cpu {
    fn rsa_pss(&self, items: &[RsaPss]) -> Vec<bool> {
        cpu::rsa_pss::verify(items, self.0)
    }

    fn ed25519(&self, items: &[Ed25519]) -> Vec<bool> {
        cpu::ed25519::verify(items, self.0)
    }

    fn secp256k1(&self, items: &[Secp256k1]) -> Vec<bool> {
        cpu::secp256k1::verify(items, self.0)
    }
}

/// A way in which a subject may be valid.
struct Alternative {
    /// Number of its signature type.
    number: u16,
    /// No check has spoken against it.
    holds: bool,
}

/// The outcome for every subject, in their order.
pub fn settle(verifier: &dyn Verifier, subjects: Vec<Subject>) -> Vec<Verdict> {
    let (mut rsa, mut ed, mut secp) = (Vec::new(), Vec::new(), Vec::new());
    // Of which alternative an item of a batch is a check.
    let (mut rsa_asked, mut ed_asked, mut secp_asked) = (Vec::new(), Vec::new(), Vec::new());
    let mut alternatives = Vec::with_capacity(subjects.len());
    let mut ends = Vec::with_capacity(subjects.len());
    for Subject { id, signature_type, question } in subjects {
        let first = alternatives.len();
        let otherwise = match question {
            Question::Settled(outcome) => outcome,
            Question::Open { any_of, otherwise } => {
                for (number, checks) in any_of {
                    let asked = alternatives.len();
                    match checks {
                        Checks::RsaPss(item) => {
                            rsa.push(item);
                            rsa_asked.push(asked);
                        }
                        Checks::Ed25519(items) => {
                            ed_asked.extend(items.iter().map(|_| asked));
                            ed.extend(items);
                        }
                        Checks::Secp256k1(item) => {
                            secp.push(item);
                            secp_asked.push(asked);
                        }
                    }
                    alternatives.push(Alternative { number, holds: true });
                }
                otherwise
            }
        };
        ends.push((id, signature_type, first..alternatives.len(), otherwise));
    }
    for (asked, answers) in [
        (rsa_asked, verifier.rsa_pss(&rsa)),
        (ed_asked, verifier.ed25519(&ed)),
        (secp_asked, verifier.secp256k1(&secp)),
    ] {
        assert_eq!(asked.len(), answers.len(), "a verifier answers every item");
        for (asked, answer) in asked.into_iter().zip(answers) {
            alternatives[asked].holds &= answer;
        }
    }
    let verdict = |(id, signature_type, any_of, otherwise): (_, _, Range<usize>, _)| match alternatives[any_of]
        .iter()
        .find(|one| one.holds)
    {
        Some(Alternative { number, .. }) => Verdict { id, signature_type: Some(*number), outcome: Outcome::Valid },
        None => Verdict { id, signature_type, outcome: otherwise },
    };
    ends.into_iter().map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{DataItem, from_base64url};

    #[test]
    fn every_subject_gets_its_own_answer_whatever_stands_beside_it() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../../tests/items/signers.json")).unwrap();
        let mut subjects = Vec::new();
        let mut expected = Vec::new();
        for item in file["items"].as_array().unwrap() {
            let raw = from_base64url(item["raw"].as_str().unwrap()).unwrap();
            for changed in [false, true] {
                let mut raw = raw.clone();
                let last = raw.len() - 1;
                raw[last] ^= u8::from(changed);
                let item = DataItem::parse(&raw).unwrap();
                subjects.push(Subject::of_item(&item));
                expected.push((item.id_text(), item.signature_type().number(), item.verify().is_ok()));
            }
        }
        let found: Vec<_> = settle(&Cpu::all(), subjects)
            .into_iter()
            .map(|verdict| (verdict.id, verdict.signature_type.unwrap(), verdict.outcome == Outcome::Valid))
            .collect();
        assert_eq!(found, expected);
        assert!(settle(&Cpu::all(), Vec::new()).is_empty());
    }
}
