//! Many subjects' checks as one batch a scheme.

use std::num::NonZeroUsize;

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

/// Whose check an item of a batch is: subject, and which of its alternatives.
type Asked = (usize, usize);

/// The outcome for every subject, in their order.
pub fn settle(verifier: &dyn Verifier, subjects: Vec<Subject>) -> Vec<Verdict> {
    let (mut rsa, mut ed, mut secp) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rsa_asked, mut ed_asked, mut secp_asked) = (Vec::<Asked>::new(), Vec::<Asked>::new(), Vec::<Asked>::new());
    // The first alternative that no check has spoken against; numbers of types; and what it is if there is none.
    let mut open: Vec<Option<Vec<bool>>> = Vec::with_capacity(subjects.len());
    let mut ends = Vec::with_capacity(subjects.len());
    for (index, subject) in subjects.into_iter().enumerate() {
        let Subject { id, signature_type, question } = subject;
        let (types, otherwise) = match question {
            Question::Settled(outcome) => {
                open.push(None);
                (Vec::new(), outcome)
            }
            Question::Open { any_of, otherwise } => {
                open.push(Some(vec![true; any_of.len()]));
                let types = any_of.into_iter().enumerate().map(|(alternative, (number, checks))| {
                    match checks {
                        Checks::RsaPss(item) => {
                            rsa.push(item);
                            rsa_asked.push((index, alternative));
                        }
                        Checks::Ed25519(items) => {
                            ed_asked.extend(items.iter().map(|_| (index, alternative)));
                            ed.extend(items);
                        }
                        Checks::Secp256k1(item) => {
                            secp.push(item);
                            secp_asked.push((index, alternative));
                        }
                    }
                    number
                });
                (types.collect(), otherwise)
            }
        };
        ends.push((id, signature_type, types, otherwise));
    }
    for (asked, answers) in [
        (rsa_asked, verifier.rsa_pss(&rsa)),
        (ed_asked, verifier.ed25519(&ed)),
        (secp_asked, verifier.secp256k1(&secp)),
    ] {
        assert_eq!(asked.len(), answers.len(), "a verifier answers every item");
        for ((index, alternative), answer) in asked.into_iter().zip(answers) {
            if let Some(open) = &mut open[index] {
                open[alternative] &= answer;
            }
        }
    }
    let verdict = |((id, signature_type, types, otherwise), open): ((_, _, Vec<u16>, _), Option<Vec<bool>>)| match open
        .and_then(|open| open.into_iter().position(|holds| holds))
    {
        Some(at) => Verdict { id, signature_type: Some(types[at]), outcome: Outcome::Valid },
        None => Verdict { id, signature_type, outcome: otherwise },
    };
    ends.into_iter().zip(open).map(verdict).collect()
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
