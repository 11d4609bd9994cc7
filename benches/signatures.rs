//! How fast signatures are verified: `cargo bench -p lockstep-cu --bench signatures`.
//!
//! First, for each scheme, what the library alone does on all cores at once, item by item (Ed25519: dalek's batches of 256),
//! and what `lockstep verify` makes of a bundle of 10,000 items, reading and hashing included, the command's start and its
//! lines not; each by the clock and by a processor's time, the bundle between two measurements of the library. The library's
//! messages, and the keys of Ed25519, are decoded before the clock starts. The items have one target, and one owner or 16.
//! Where `SIGNATURES_BUNDLES` names a directory the bundles are left in it, for the command itself.
//!
//! Then a table of the rates of batches of each scheme, by the clock: on all cores, and on the GPU, which is the best adapter
//! there is, programs on the processor included, or the one that `LOCKSTEP_GPU` names. Flags, after `--`:
//!
//! - `--shares` leaves the table out, `--rates` all but the table;
//! - `--full` goes to batches of 65,536 instead of 1,024;
//! - `--plot FILE` draws the table as SVG.

#[path = "plot.rs"]
mod plot;

use std::{
    hint::black_box,
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rsa::PublicKeyComponents,
    signature::{RSA_PSS_2048_8192_SHA256, RsaParameters},
};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use lockstep_cu::{
    item::{Checks, DataItem, Draft, SignatureType, Tag, Wallet, bundle},
    verify::{Outcome, verify},
};
use lockstep_shaders::{
    cpu,
    device::Choice,
    gpu::{Gpu, Scheme, Settings},
    llvmpipe,
    signature::{Ed25519, RsaPss, Secp256k1},
};
use secp256k1::{
    Message, PublicKey, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId, Signature},
};
use sha3::{Digest, Keccak256};

use crate::plot::Line;

const GOLDEN: &str = include_str!("../tests/items/arbundles.json");
/// Different items of each scheme; larger batches repeat them.
const DIFFERENT: usize = 1024;
/// Items of a bundle.
const BUNDLED: usize = 10_000;
/// Keys that the elliptic curves' items are signed with.
const KEYS: usize = 16;
const BATCHES: [usize; 9] = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536];
/// Largest batch unless all are asked for: a program on the processor takes seconds for it already.
const BATCH_MAX: usize = 1024;
/// Each rate is measured for as long, and for one batch at least.
const RATE_TIME: Duration = Duration::from_millis(400);
/// As long as a raw rate is measured.
const RAW_TIME: Duration = Duration::from_secs(2);
static SALT_32: RsaParameters = RSA_PSS_2048_8192_SHA256;

fn draft(nth: usize) -> Draft {
    let tags = [("Data-Protocol", "ao"), ("Type", "Message"), ("Action", "Eval")];
    Draft {
        target: Some([7; 32]),
        anchor: None,
        tags: tags.into_iter().map(|(name, value)| Tag::new(name, value)).collect(),
        data: format!("return {nth}").into_bytes(),
    }
}

fn wallet() -> Wallet {
    let golden: serde_json::Value = serde_json::from_str(GOLDEN).expect("the golden file is JSON");
    Wallet::from_jwk(&golden["jwk"].to_string()).expect("the golden key is a wallet")
}

/// An item by a signer of a curve: `sign` gets the bytes to sign.
fn signed(kind: SignatureType, owner: &[u8], nth: usize, sign: impl Fn(&[u8]) -> Vec<u8>) -> DataItem {
    let item = |signature| DataItem::assemble(kind, signature, owner.to_vec(), draft(nth)).expect("its parts fit");
    let unsigned = item(vec![0; kind.signature_bytes()]);
    item(sign(&unsigned.signed_bytes()))
}

fn ed25519(nth: usize) -> DataItem {
    let key = SigningKey::from_bytes(&[1 + (nth % KEYS) as u8; 32]);
    signed(SignatureType::Ed25519, key.verifying_key().as_bytes(), nth, |message| key.sign(message).to_vec())
}

fn ethereum(nth: usize) -> DataItem {
    let key = SecretKey::from_secret_bytes([1 + (nth % KEYS) as u8; 32]).expect("small numbers are keys");
    let owner = PublicKey::from_secret_key(&key).serialize_uncompressed();
    signed(SignatureType::Ethereum, &owner, nth, |message| {
        let hash = Keccak256::new().chain_update("\x19Ethereum Signed Message:\n48").chain_update(message).finalize();
        let signature = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(hash.into()), &key);
        let (recovery, compact) = signature.serialize_compact();
        [&compact[..], &[27 + recovery.to_u8()]].concat()
    })
}

/// `count` items, made on all cores, in order.
fn items(count: usize, make: impl Fn(usize) -> DataItem + Sync) -> Vec<DataItem> {
    let share = count.div_ceil(cpu::cores().get());
    thread::scope(|scope| {
        let make = &make;
        let threads: Vec<_> = (0..count)
            .step_by(share)
            .map(|from| scope.spawn(move || (from..count.min(from + share)).map(make).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("signing does not panic")).collect()
    })
}

fn checks(items: &[DataItem]) -> Vec<Checks> {
    items.iter().map(|item| item.checks().expect("signers make no flaws")).collect()
}

/// Batches of `items` signatures: how many a second, by the clock.
fn batch_rate(items: usize, mut verify: impl FnMut() -> Vec<bool>) -> f64 {
    assert!(verify().into_iter().all(|valid| valid));
    let begun = Instant::now();
    let mut done = 0;
    while done == 0 || begun.elapsed() < RATE_TIME {
        black_box(verify());
        done += items;
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

/// Prints a scheme's rates over batch size; gives them as lines for the plot.
fn rates<S: Scheme + Clone>(
    gpu: Option<&Gpu>,
    largest: usize,
    colour: &'static str,
    pool: &[S],
    on_cpu: impl Fn(&[S], NonZeroUsize) -> Vec<bool>,
) -> Vec<Line> {
    let line =
        |engine: &str, dashed| Line { name: format!("{} {engine}", S::NAME), colour, dashed, points: Vec::new() };
    let (mut by_cpu, mut by_gpu) = (line("CPU", false), line("GPU", true));
    for items in BATCHES.into_iter().filter(|items| *items <= largest) {
        let batch: Arc<[S]> = pool.iter().cycle().take(items).cloned().collect();
        let cpu = batch_rate(items, || on_cpu(black_box(&batch), cpu::cores()));
        by_cpu.points.push((items as f64, cpu));
        let gpu = gpu.map(|gpu| batch_rate(items, || gpu.verify(batch.clone()).expect("the GPU stays")));
        by_gpu.points.extend(gpu.map(|rate| (items as f64, rate)));
        let shown = gpu.map_or("-".to_owned(), |rate| format!("{rate:.0}"));
        println!("{:<10} {items:>6} {cpu:>12.0} {shown:>12}", S::NAME);
    }
    if by_gpu.points.is_empty() { vec![by_cpu] } else { vec![by_cpu, by_gpu] }
}

/// Time that all threads of this process have had of a processor, s: on a machine with other work to do it says more than
/// the clock does.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux says how long a process ran");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number of ticks");
    // User and system time, in hundredths (proc(5), fields 14 and 15).
    (ticks(11) + ticks(12)) / 100.0
}

/// Items a second of `work`, which does `count`, on every core at once: by the clock, and by a processor's time.
fn rate(count: usize, work: impl Fn() + Sync) -> [f64; 2] {
    work();
    let (begun, used) = (Instant::now(), cpu_seconds());
    let run = || {
        let mut done = 0;
        while begun.elapsed() < RAW_TIME {
            work();
            done += count;
        }
        done
    };
    let done: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..cpu::cores().get()).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("verifying does not panic")).sum()
    });
    [begun.elapsed().as_secs_f64(), cpu_seconds() - used].map(|seconds| done as f64 / seconds)
}

/// The same bundle read, hashed and verified as the command does it, for as long: by the clock, and by a processor's time.
fn bundle_rate(name: &str, items: &[DataItem]) -> [f64; 2] {
    let bytes = bundle::write(items);
    if let Some(directory) = std::env::var_os("SIGNATURES_BUNDLES") {
        std::fs::write(std::path::Path::new(&directory).join(name), &bytes).expect("the directory can be written to");
    }
    let once = || {
        let mut valid = 0;
        let end = verify(&mut &bytes[..], cpu::cores(), &mut |found| {
            valid += usize::from(found.expect("no bundle breaks off").outcome == Outcome::Valid);
            true
        });
        end.expect("a bundle that was written can be read");
        assert_eq!(valid, items.len());
    };
    once();
    let (begun, used) = (Instant::now(), cpu_seconds());
    let mut done = 0;
    while begun.elapsed() < RAW_TIME {
        once();
        done += items.len();
    }
    [begun.elapsed().as_secs_f64(), cpu_seconds() - used].map(|seconds| done as f64 / seconds)
}

/// The library alone, a bundle, and once more the library, since a machine with other work is never the same for long.
fn compare(name: &str, items: &[DataItem], raw: impl Fn() -> [f64; 2]) {
    let before = raw();
    let [by_clock, by_processor] = bundle_rate(name, items);
    let after = raw();
    let [raw_by_clock, raw_by_processor] = [0, 1].map(|by| f64::max(before[by], after[by]));
    println!(
        "{name:<9} by the clock on {} cores: library {raw_by_clock:>7.0}/s, bundle {by_clock:>7.0}/s, {:.2} of it; per \
         processor second: {raw_by_processor:>6.0}, {by_processor:>6.0}, {:.2}",
        cpu::cores(),
        by_clock / raw_by_clock,
        by_processor / raw_by_processor
    );
}

/// The library alone beside a whole bundle, for each scheme.
fn shares(bundles: &[Vec<DataItem>; 3], ed: &[Ed25519], secp: &[Secp256k1]) {
    let raw_rsa = || {
        let messages: Vec<_> = bundles[0][..DIFFERENT].iter().map(DataItem::signed_bytes).collect();
        rate(DIFFERENT, || {
            for (item, message) in bundles[0].iter().zip(&messages) {
                let key = PublicKeyComponents { n: item.owner(), e: &[1u8, 0, 1][..] };
                key.verify(&SALT_32, message, item.signature()).expect("it is valid");
            }
        })
    };
    let raw_ed = || {
        let messages: Vec<&[u8]> = ed.iter().map(|item| &*item.message).collect();
        let signatures: Vec<_> = ed.iter().map(|item| ed25519_dalek::Signature::from_bytes(&item.signature)).collect();
        let keys: Vec<_> = ed.iter().map(|item| VerifyingKey::from_bytes(&item.public_key).expect("a key")).collect();
        rate(DIFFERENT, || {
            for at in (0..DIFFERENT).step_by(256) {
                let end = at + 256;
                ed25519_dalek::verify_batch(&messages[at..end], &signatures[at..end], &keys[at..end]).expect("valid");
            }
        })
    };
    let recover = |item: &Secp256k1, recovery: u8| {
        let recovery = RecoveryId::try_from(i32::from(recovery)).expect("0 or 1");
        let signature = RecoverableSignature::from_compact(&item.signature, recovery).expect("a signature");
        signature.recover(Message::from_digest(item.digest)).expect("a key")
    };
    let recoveries: Vec<u8> = bundles[2].iter().map(|item| item.signature()[64] - 27).collect();
    let keys: Vec<_> = secp.iter().zip(&recoveries).map(|(item, recovery)| recover(item, *recovery)).collect();
    let [_, raw_verify] = rate(DIFFERENT, || {
        for (item, key) in secp.iter().zip(&keys) {
            let signature = Signature::from_compact(&item.signature).expect("a signature");
            signature.verify(Message::from_digest(item.digest), key).expect("it is valid");
        }
    });
    let raw_recover = || {
        rate(DIFFERENT, || {
            for (item, recovery) in secp.iter().zip(&recoveries) {
                black_box(recover(item, *recovery));
            }
        })
    };
    compare("arweave", &bundles[0], raw_rsa);
    compare("ed25519", &bundles[1], raw_ed);
    compare("ethereum", &bundles[2], raw_recover);
    println!(
        "(libsecp256k1 with the key given, where items need the key recovered: {raw_verify:.0} per processor second)"
    );
}

fn main() {
    // Before there is a second thread, and as the command does.
    llvmpipe::widen_vectors();
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let plot = arguments
        .iter()
        .position(|argument| argument == "--plot")
        .map(|at| arguments.get(at + 1).expect("--plot is followed by a file"));
    let wallet = wallet();
    let arweave = |nth| wallet.sign(draft(nth)).expect("the tags fit");
    let count = if has("--rates") { DIFFERENT } else { BUNDLED };
    println!("signing 3 x {count} items");
    let bundles = [items(count, arweave), items(count, ed25519), items(count, ethereum)];
    let mut rsa: Vec<RsaPss> = Vec::new();
    let mut ed: Vec<Ed25519> = Vec::new();
    let mut secp: Vec<Secp256k1> = Vec::new();
    for check in bundles.iter().flat_map(|items| checks(&items[..DIFFERENT])) {
        match check {
            Checks::RsaPss(item) => rsa.push(item),
            Checks::Ed25519(items) => ed.extend(items),
            Checks::Secp256k1(item) => secp.push(item),
        }
    }

    if !has("--rates") {
        shares(&bundles, &ed, &secp);
    }
    if has("--shares") {
        return;
    }
    let choice = std::env::var("LOCKSTEP_GPU").map_or(Choice::Required, Choice::Named);
    let gpu = match Gpu::open(Settings { choice, ..Settings::default() }) {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("without GPU: {error}");
            None
        }
    };
    let adapter = gpu.as_ref().map_or("no GPU".to_owned(), |gpu| format!("{}, {}", gpu.found().name, gpu.variants()));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    println!("signatures a second by the clock, load {load} at the start; GPU: {adapter}");
    println!("{:<10} {:>6} {:>12} {:>12}", "scheme", "batch", format!("CPU, {} cores", cpu::cores()), "GPU");
    let largest = if has("--full") { usize::MAX } else { BATCH_MAX };
    let lines = [
        rates(gpu.as_ref(), largest, "#b03030", &rsa, cpu::rsa_pss::verify),
        rates(gpu.as_ref(), largest, "#2060b0", &ed, cpu::ed25519::verify),
        rates(gpu.as_ref(), largest, "#308040", &secp, cpu::secp256k1::verify),
    ]
    .concat();
    if let Some(file) = plot {
        let name = gpu.as_ref().map_or("no GPU", |gpu| &gpu.found().name);
        let title = format!("Signatures a second on {} cores and on {name}", cpu::cores());
        std::fs::write(file, plot::svg(&title, &lines)).expect("the plot can be written");
    }
}
