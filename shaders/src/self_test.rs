//! Whether an adapter's kernels give the CPU's answers: signatures by fresh keys, half of them with something changed.

use aws_lc_rs::{
    rand::{SecureRandom, SystemRandom},
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{Ed25519KeyPair, KeyPair, RSA_PSS_SHA256},
};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa::RecoverableSignature};
use sha2::{Digest, Sha256};

use crate::cpu;
use crate::device::Lost;
use crate::gpu::{Gpu, Scheme};
use crate::signature::{Ed25519, RsaPss, Secp256k1, Signer};

/// Different keys of each scheme.
const KEYS: usize = 4;
/// Different valid signatures of RSA: making one costs milliseconds.
const RSA_SIGNATURES: usize = 64;
/// Signatures that are verified at once.
const TOGETHER: usize = 4096;

/// What came of one scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The scheme's name; of RSA with the modulus's length in bits.
    pub name: &'static str,
    /// Signatures verified.
    pub items: usize,
    /// How many of them the CPU says are valid.
    pub valid: usize,
    /// How many of them the GPU answered otherwise.
    pub disagreements: usize,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The GPU went away.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The system gave no random numbers, or no key could be made of them.
    #[error("no keys could be made to sign with")]
    NoKeys,
}

impl From<aws_lc_rs::error::Unspecified> for Error {
    fn from(_: aws_lc_rs::error::Unspecified) -> Error {
        Error::NoKeys
    }
}

/// Verifies about `count` signatures of each scheme on `gpu` and on the CPU. RSA counts twice, once for each length.
///
/// # Errors
/// See [`Error`].
pub fn run(gpu: &Gpu, count: usize) -> Result<Vec<Outcome>, Error> {
    let threads = cpu::cores();
    let mut outcomes = Vec::new();
    for (name, size, bytes) in [("rsa_pss 2048", KeySize::Rsa2048, 256), ("rsa_pss 4096", KeySize::Rsa4096, 512)] {
        let signed = rsa_pss(size, bytes, count.min(RSA_SIGNATURES))?;
        outcomes
            .push(compare(gpu, name, &signed, count, change_rsa_pss, |items| cpu::rsa_pss::verify(items, threads))?);
    }
    let signed = ed25519(count)?;
    outcomes.push(compare(gpu, Ed25519::NAME, &signed, count, change_ed25519, |items| {
        cpu::ed25519::verify(items, threads)
    })?);
    let signed = secp256k1(count)?;
    outcomes.push(compare(gpu, Secp256k1::NAME, &signed, count, change_secp256k1, |items| {
        cpu::secp256k1::verify(items, threads)
    })?);
    Ok(outcomes)
}

/// Every other item as it was signed, the others changed.
fn compare<S: Scheme + Clone>(
    gpu: &Gpu,
    name: &'static str,
    signed: &[S],
    count: usize,
    change: impl Fn(&mut S, [u8; 4]),
    on_cpu: impl Fn(&[S]) -> Vec<bool>,
) -> Result<Outcome, Error> {
    let random = SystemRandom::new();
    let mut outcome = Outcome { name, items: 0, valid: 0, disagreements: 0 };
    while outcome.items < count {
        let items = (0..TOGETHER.min(count - outcome.items)).map(|at| {
            let nth = outcome.items + at;
            // Where valid ones repeat, each comes changed and unchanged.
            let mut item = signed[nth / 2 % signed.len()].clone();
            if !nth.is_multiple_of(2) {
                let mut choice = [0; 4];
                random.fill(&mut choice)?;
                change(&mut item, choice);
            }
            Ok(item)
        });
        let items = items.collect::<Result<Vec<S>, Error>>()?;
        let expected = on_cpu(&items);
        let found = gpu.verify::<S>(items.into())?;
        outcome.items += expected.len();
        outcome.valid += expected.iter().filter(|valid| **valid).count();
        outcome.disagreements += expected.iter().zip(&found).filter(|(expected, found)| expected != found).count();
    }
    Ok(outcome)
}

/// `count` valid signatures by a fresh key with a modulus of `bytes`, which is what `size` says.
pub(crate) fn rsa_pss(size: KeySize, bytes: usize, count: usize) -> Result<Vec<RsaPss>, Error> {
    let random = SystemRandom::new();
    let pair = RsaKeyPair::generate(size)?;
    // The DER form of the key ends with the modulus and the five bytes of 65537.
    let der = pair.public_key().as_ref();
    let modulus = der.len().checked_sub(5 + bytes).and_then(|from| der.get(from..from + bytes)).ok_or(Error::NoKeys)?;
    let sign = |nth: usize| {
        let message = nth.to_le_bytes();
        let mut signature = vec![0; bytes];
        pair.sign(&RSA_PSS_SHA256, &random, &message, &mut signature)?;
        Ok(RsaPss { modulus: modulus.into(), signature: signature.into(), digest: Sha256::digest(message).into() })
    };
    (0..count).map(sign).collect()
}

fn ed25519(count: usize) -> Result<Vec<Ed25519>, Error> {
    let pairs = (0..KEYS).map(|_| Ed25519KeyPair::generate()).collect::<Result<Vec<_>, _>>()?;
    let sign = |nth: usize| {
        let pair = &pairs[nth % KEYS];
        let message = vec![nth as u8; nth % 150];
        Ok(Ed25519 {
            public_key: pair.public_key().as_ref().try_into().map_err(|_| Error::NoKeys)?,
            signature: pair.sign(&message).as_ref().try_into().map_err(|_| Error::NoKeys)?,
            message: message.into(),
        })
    };
    (0..count).map(sign).collect()
}

fn secp256k1(count: usize) -> Result<Vec<Secp256k1>, Error> {
    let random = SystemRandom::new();
    let key = |_| {
        let mut bytes = [0; 32];
        random.fill(&mut bytes)?;
        SecretKey::from_secret_bytes(bytes).map_err(|_| Error::NoKeys)
    };
    let keys = (0..KEYS).map(key).collect::<Result<Vec<_>, Error>>()?;
    let sign = |nth: usize| {
        let key = &keys[nth % KEYS];
        let digest = Sha256::digest(nth.to_le_bytes()).into();
        let (recovery, signature) =
            RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(digest), key).serialize_compact();
        let public = PublicKey::from_secret_key(key).serialize_uncompressed();
        let public: [u8; 64] = public[1..].try_into().map_err(|_| Error::NoKeys)?;
        let signer = match nth / KEYS % 3 {
            0 => Signer::Key(public),
            1 => Signer::Recovered { recovery: recovery.to_u8(), key: public },
            _ => Signer::Address { recovery: recovery.to_u8(), address: cpu::secp256k1::address_of(&public) },
        };
        Ok(Secp256k1 { digest, signature, signer })
    };
    (0..count).map(sign).collect()
}

/// Turns one bit.
fn flip(bytes: &mut [u8], choice: [u8; 4]) {
    let bit = usize::from(u16::from_le_bytes([choice[2], choice[3]])) % (8 * bytes.len());
    bytes[bit / 8] ^= 1 << (bit % 8);
}

fn change_rsa_pss(item: &mut RsaPss, choice: [u8; 4]) {
    match choice[0] % 4 {
        0 => flip(&mut item.digest, choice),
        1 => flip(&mut item.modulus, choice),
        _ => flip(&mut item.signature, choice),
    }
}

fn change_ed25519(item: &mut Ed25519, choice: [u8; 4]) {
    match choice[0] % 4 {
        0 => flip(&mut item.public_key, choice),
        1 => item.message = [&item.message[..], &choice].concat().into(),
        2 => flip(&mut item.signature[..32], choice),
        _ => flip(&mut item.signature[32..], choice),
    }
}

fn change_secp256k1(item: &mut Secp256k1, choice: [u8; 4]) {
    match (choice[0] % 4, &mut item.signer) {
        (0, _) => flip(&mut item.digest, choice),
        (1, Signer::Key(key)) => flip(key, choice),
        (1, Signer::Recovered { key, .. }) if choice[1] < 128 => flip(key, choice),
        (1, Signer::Address { address, .. }) if choice[1] < 128 => flip(address, choice),
        (1, Signer::Recovered { recovery, .. } | Signer::Address { recovery, .. }) => {
            *recovery = (*recovery + 1 + choice[1] % 4) % 5
        }
        _ => flip(&mut item.signature, choice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Choice;
    use crate::gpu::Settings;
    use crate::test_numbers::{cases, device, quick_form};
    use crate::variants::Variants;

    #[test]
    fn kernels_and_processor_agree_on_signed_and_changed_items() {
        let Some(device) = device() else { return };
        let choice = Choice::Named(device.found.name.clone());
        let variants = Some(Variants::all(quick_form(&device)));
        let gpu = Gpu::open(Settings { choice, variants, ..Settings::default() }).unwrap().unwrap();
        let count = cases(300);
        let outcomes = run(&gpu, count).unwrap();
        assert_eq!(outcomes.len(), 4);
        for outcome in outcomes {
            println!("{outcome:?}");
            assert_eq!((outcome.items, outcome.disagreements), (count, 0), "{outcome:?}");
            assert!((count / 2..count * 6 / 10).contains(&outcome.valid), "{outcome:?}");
        }
    }
}
