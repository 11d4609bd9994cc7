//! The GPU as the rest of the program sees it: a thread that owns the device and its kernels, and a handle to it.
//!
//! Work is handed over with a callback, so that no caller has to wait, least of all an asynchronous runtime's threads. When
//! the device is lost, what is in flight and in the queue is answered with [`Lost`] and the caller does it on the CPU; the
//! device is opened anew for the work that comes later.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cpu;
use crate::device::{Choice, Device, Found, Lost, OpenError};
use crate::kernels::ed25519::{Ed25519Kernel, Rule};
use crate::kernels::rsa_pss::RsaKernel;
use crate::kernels::secp256k1::Secp256k1Kernel;
use crate::signature::{Ed25519, RsaPss, Secp256k1, Signer};
use crate::variants::Variants;

/// How to open the GPU.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which adapter.
    pub choice: Choice,
    /// Which Ed25519 signatures are valid where RFC 8032 leaves it open.
    pub rule: Rule,
    /// The kernels' variants; `None` measures what is fastest on the adapter.
    pub variants: Option<Variants>,
    /// Threads for the host's side of the work; `None`: one for each core.
    pub threads: Option<NonZeroUsize>,
    /// A directory of this program's own for what the driver compiled. Whoever can write to it is trusted.
    pub cache: Option<PathBuf>,
}

/// The least time between two attempts to open a lost device.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

mod sealed {
    /// Keeps [`super::Scheme`] to the three that there are kernels for.
    pub trait Sealed {}
    impl Sealed for super::RsaPss {}
    impl Sealed for super::Ed25519 {}
    impl Sealed for super::Secp256k1 {}
}

/// A signature scheme that the GPU verifies.
pub trait Scheme: sealed::Sealed + Send + Sync + Sized + 'static {
    /// Its name.
    const NAME: &'static str;

    /// A signature that costs what a valid one costs: for measuring.
    fn sample() -> Self;

    #[doc(hidden)]
    fn run(kernels: &mut Kernels, items: &[Self]) -> Result<Vec<bool>, Lost>;
}

/// A device and the kernels compiled for it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Kernels {
    device: Device,
    variants: Variants,
    rsa_2048: RsaKernel,
    rsa_4096: RsaKernel,
    ed25519: Ed25519Kernel,
    secp256k1: Secp256k1Kernel,
}

impl Scheme for RsaPss {
    const NAME: &'static str = "rsa_pss";

    fn sample() -> RsaPss {
        RsaPss { modulus: [0xff; 512].into(), signature: [0x55; 512].into(), digest: [1; 32] }
    }

    fn run(kernels: &mut Kernels, items: &[RsaPss]) -> Result<Vec<bool>, Lost> {
        let long: Vec<bool> = items.iter().map(|item| item.modulus.len() > 256).collect();
        if long.iter().all(|long| *long) {
            return kernels.rsa_4096.verify(&kernels.device, items);
        }
        let of = |wanted: bool| -> Vec<RsaPss> {
            items.iter().zip(&long).filter(|(_, long)| **long == wanted).map(|(item, _)| item.clone()).collect()
        };
        let mut short = kernels.rsa_2048.verify(&kernels.device, &of(false))?.into_iter();
        let mut longer = kernels.rsa_4096.verify(&kernels.device, &of(true))?.into_iter();
        // Each has as many answers as there were questions.
        Ok(long.iter().map(|long| if *long { longer.next() } else { short.next() }.unwrap_or(false)).collect())
    }
}

impl Scheme for Ed25519 {
    const NAME: &'static str = "ed25519";

    fn sample() -> Ed25519 {
        // The first test vector of RFC 8032, section 7.1: an empty message.
        Ed25519 {
            public_key: [
                0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
                0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
            ],
            signature: [
                0xe5, 0x56, 0x43, 0x00, 0xc3, 0x60, 0xac, 0x72, 0x90, 0x86, 0xe2, 0xcc, 0x80, 0x6e, 0x82, 0x8a, 0x84,
                0x87, 0x7f, 0x1e, 0xb8, 0xe5, 0xd9, 0x74, 0xd8, 0x73, 0xe0, 0x65, 0x22, 0x49, 0x01, 0x55, 0x5f, 0xb8,
                0x82, 0x15, 0x90, 0xa3, 0x3b, 0xac, 0xc6, 0x1e, 0x39, 0x70, 0x1c, 0xf9, 0xb4, 0x6b, 0xd2, 0x5b, 0xf5,
                0xf0, 0x59, 0x5b, 0xbe, 0x24, 0x65, 0x51, 0x41, 0x43, 0x8e, 0x7a, 0x10, 0x0b,
            ],
            message: [].into(),
        }
    }

    fn run(kernels: &mut Kernels, items: &[Ed25519]) -> Result<Vec<bool>, Lost> {
        kernels.ed25519.verify(&kernels.device, items)
    }
}

impl Scheme for Secp256k1 {
    const NAME: &'static str = "secp256k1";

    fn sample() -> Secp256k1 {
        // r = 1 is the x of a point, so that all is computed before the address turns out to be another.
        let mut signature = [1; 64];
        signature[..31].fill(0);
        let address = [0; 20];
        Secp256k1 { digest: [1; 32], signature, signer: Signer::Address { recovery: 0, address } }
    }

    fn run(kernels: &mut Kernels, items: &[Secp256k1]) -> Result<Vec<bool>, Lost> {
        kernels.secp256k1.verify(&kernels.device, items)
    }
}

impl Kernels {
    fn open(settings: &Settings) -> Result<Option<Kernels>, OpenError> {
        let Some(device) = Device::open_with(&settings.choice, settings.cache.as_deref())? else { return Ok(None) };
        let threads = settings.threads.unwrap_or_else(cpu::cores);
        let variants = match settings.variants {
            Some(variants) => variants,
            None => Variants::measure(&device, settings.rule, threads)?,
        };
        let kernels = Kernels::compile(&device, variants, settings.rule, threads)?;
        device.keep_pipelines();
        tracing::info!(adapter = device.found.name, backend = device.found.backend, %variants, "GPU opened");
        Ok(Some(kernels))
    }

    fn compile(device: &Device, variants: Variants, rule: Rule, threads: NonZeroUsize) -> Result<Kernels, OpenError> {
        let rsa = |modulus_bytes| {
            let mut kernel = RsaKernel::new(device, variants.rsa_pss, modulus_bytes, threads)?;
            kernel.use_lanes_up_to(variants.rsa_lanes_up_to);
            Ok::<_, OpenError>(kernel)
        };
        Ok(Kernels {
            device: device.clone(),
            variants,
            rsa_2048: rsa(256)?,
            rsa_4096: rsa(512)?,
            ed25519: Ed25519Kernel::new(device, variants.ed25519, rule, threads)?,
            secp256k1: Secp256k1Kernel::new(device, variants.secp256k1, threads)?,
        })
    }
}

type Job = Box<dyn FnOnce(Result<&mut Kernels, Lost>) -> Result<(), Lost> + Send>;

/// A handle to the GPU. Cheap to clone; dropping the last one waits until the device is given back.
#[derive(Clone, Debug)]
pub struct Gpu {
    thread: Arc<Thread>,
    shared: Arc<Shared>,
}

/// The GPU's thread, which ends when nobody can give it jobs.
#[derive(Debug)]
struct Thread {
    jobs: Option<Sender<Job>>,
    handle: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        // A program that ends while a driver's library is at work on another thread may crash. The thread itself drops the
        // last handle where a caller's function held it.
        if let Some(handle) = self.handle.take().filter(|handle| handle.thread().id() != std::thread::current().id()) {
            let _ = handle.join();
        }
    }
}

#[derive(Debug)]
struct Shared {
    found: Arc<Found>,
    variants: Variants,
    device: Mutex<Device>,
    losses: AtomicU64,
}

impl Gpu {
    /// Opens the GPU and compiles the kernels; `None` if the settings want none or it is `auto` and there is no hardware.
    /// Blocks for as long as that takes: seconds.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(settings: Settings) -> Result<Option<Gpu>, OpenError> {
        let Some(kernels) = Kernels::open(&settings)? else { return Ok(None) };
        let shared = Arc::new(Shared {
            found: kernels.device.found.clone(),
            variants: kernels.variants,
            device: Mutex::new(kernels.device.clone()),
            losses: AtomicU64::new(0),
        });
        let (jobs, queue) = mpsc::channel();
        // A device that is reopened is the same adapter's, with the same variants.
        let settings = Settings {
            choice: Choice::Named(kernels.device.found.name.clone()),
            variants: Some(kernels.variants),
            ..settings
        };
        let owner = Owner { settings, shared: shared.clone(), kernels: Some(kernels), tried: Instant::now() };
        let spawned = std::thread::Builder::new().name("gpu".into()).spawn(move || owner.serve(&queue));
        match spawned {
            Ok(handle) => {
                let thread = Thread { jobs: Some(jobs), handle: Some(handle) };
                Ok(Some(Gpu { thread: Arc::new(thread), shared }))
            }
            Err(error) => Err(Lost { reason: format!("no thread for it: {error}") }.into()),
        }
    }

    /// The adapter.
    pub fn found(&self) -> &Found {
        &self.shared.found
    }

    /// The kernels' variants.
    pub fn variants(&self) -> Variants {
        self.shared.variants
    }

    /// How often the device was lost.
    pub fn losses(&self) -> u64 {
        self.shared.losses.load(Ordering::Relaxed)
    }

    /// Ends the device as a driver's reset does: for tests of what then happens.
    pub fn destroy_device(&self) {
        self.shared.device.lock().unwrap_or_else(PoisonError::into_inner).destroy();
    }

    /// Verifies `items`; `done` gets the answers in their order, on the GPU's thread, which it must not keep. Does not
    /// block.
    pub fn submit<S: Scheme>(&self, items: Arc<[S]>, done: impl FnOnce(Result<Vec<bool>, Lost>) + Send + 'static) {
        let job: Job = Box::new(move |kernels| {
            // A panic inside a driver's library is a lost device, not the end of the program.
            let result = kernels.and_then(|kernels| {
                catch_unwind(AssertUnwindSafe(|| S::run(kernels, &items)))
                    .unwrap_or_else(|_| Err(Lost { reason: "the driver's library panicked".into() }))
            });
            let state = result.as_ref().map(|_| ()).map_err(Lost::clone);
            done(result);
            state
        });
        let refused = match &self.thread.jobs {
            Some(jobs) => jobs.send(job).err().map(|mpsc::SendError(job)| job),
            None => Some(job),
        };
        if let Some(job) = refused {
            // The job answers with the error it is given, and gives it back.
            let _ = job(Err(Lost { reason: "its thread has ended".into() }));
        }
    }

    /// Verifies `items` and waits for the answers, which are in their order.
    ///
    /// # Errors
    /// [`Lost`] if the device went away: nothing is known of any of them.
    pub fn verify<S: Scheme>(&self, items: Arc<[S]>) -> Result<Vec<bool>, Lost> {
        let (sender, answers) = mpsc::channel();
        self.submit(items, move |result| {
            // Whoever waits is still there: this function.
            let _ = sender.send(result);
        });
        answers.recv().unwrap_or_else(|_| Err(Lost { reason: "its thread has ended".into() }))
    }
}

/// What the GPU's thread has.
struct Owner {
    settings: Settings,
    shared: Arc<Shared>,
    kernels: Option<Kernels>,
    /// When the device was last opened, or tried to be.
    tried: Instant,
}

impl Owner {
    fn serve(mut self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            self.reopen_if_lost();
            let kernels = match &mut self.kernels {
                Some(kernels) => Ok(kernels),
                None => Err(Lost { reason: "it could not be opened again yet".into() }),
            };
            let was_open = kernels.is_ok();
            if job(kernels).is_err() && was_open {
                self.lose();
            }
        }
    }

    fn lose(&mut self) {
        self.shared.losses.fetch_add(1, Ordering::Relaxed);
        self.kernels = None;
    }

    fn reopen_if_lost(&mut self) {
        if self.kernels.as_ref().is_some_and(|kernels| kernels.device.is_lost()) {
            self.lose();
        }
        if self.kernels.is_some() || self.tried.elapsed() < REOPEN_AFTER {
            return;
        }
        self.tried = Instant::now();
        let opened = catch_unwind(AssertUnwindSafe(|| Kernels::open(&self.settings)));
        match opened {
            Ok(Ok(Some(kernels))) => {
                *self.shared.device.lock().unwrap_or_else(PoisonError::into_inner) = kernels.device.clone();
                self.kernels = Some(kernels);
            }
            Ok(Ok(None)) => tracing::warn!("the GPU is gone"),
            Ok(Err(error)) => tracing::warn!(%error, "the GPU could not be opened again"),
            Err(_) => tracing::warn!("the driver's library panicked while the GPU was opened"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_numbers::{device, quick_form};

    /// With the variants measured, or in a form that runs at once.
    fn gpu(measured: bool) -> Option<Gpu> {
        let device = device()?;
        let name = device.found.name.clone();
        let variants = (!measured).then(|| Variants::all(quick_form(&device)));
        Gpu::open(Settings { choice: Choice::Named(name), variants, ..Settings::default() }).unwrap()
    }

    #[test]
    fn no_gpu_is_opened_where_none_is_wanted_and_a_missing_one_is_an_error() {
        assert!(Gpu::open(Settings { choice: Choice::Off, ..Settings::default() }).unwrap().is_none());
        let choice = "no adapter has this name".parse().unwrap();
        let error = Gpu::open(Settings { choice, ..Settings::default() }).unwrap_err();
        assert!(error.to_string().contains("no adapter fits the name"), "{error}");
    }

    #[test]
    fn moduli_of_both_lengths_and_of_none_are_answered_in_order() {
        use crate::kernels::rsa_pss::tests::sign;
        let Some(gpu) = gpu(false) else { return };
        let (short, long) = (sign(256, b"short"), sign(512, b"long"));
        let with = |item: &RsaPss, change: &dyn Fn(&mut Vec<u8>, &mut Vec<u8>)| {
            let (mut modulus, mut signature) = (item.modulus.to_vec(), item.signature.to_vec());
            change(&mut modulus, &mut signature);
            RsaPss { modulus: modulus.into(), signature: signature.into(), digest: item.digest }
        };
        let mut items = vec![(long.clone(), true), (short.clone(), true), (long.clone(), true)];
        for item in [&short, &long] {
            let length = item.modulus.len();
            items.extend([
                (with(item, &|n, _| n.clear()), false),
                (with(item, &|_, s| s.clear()), false),
                (with(item, &|n, s| (*n, *s) = (vec![], vec![])), false),
                (with(item, &|n, _| n.fill(0)), false),
                (with(item, &|n, _| n[length - 1] ^= 1), false),
                (with(item, &|n, _| n[0] = 0), false),
                (with(item, &|n, s| (n[0], s[0]) = (0, 0)), false),
                (with(item, &|n, s| s.copy_from_slice(n)), false),
                (with(item, &|_, s| s.fill(0)), false),
                (with(item, &|_, s| s.insert(0, 0)), false),
                (with(item, &|n, s| (*n, *s) = ([&[0], &n[..]].concat(), [&[0], &s[..]].concat())), false),
                (with(item, &|n, s| (*n, *s) = (vec![0xff; 384], vec![1; 384])), false),
                (with(item, &|n, s| (*n, *s) = (vec![0xff; 5000], vec![1; 5000])), false),
                (item.clone(), true),
            ]);
        }
        let (items, valid): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        assert_eq!(gpu.verify::<RsaPss>(items.into()), Ok(valid));
    }

    #[test]
    fn the_variants_are_measured_and_usable() {
        let Some(gpu) = gpu(true) else { return };
        let variants = gpu.variants();
        println!("fastest on {}: {variants}", gpu.found().name);
        let forms = [variants.rsa_pss, variants.ed25519, variants.secp256k1];
        assert!(gpu.found().int64 || forms.iter().all(|form| !form.wide));
        assert_eq!(gpu.verify::<Secp256k1>(vec![Secp256k1::sample(); 3].into()), Ok(vec![false; 3]));
    }

    #[test]
    fn a_device_destroyed_under_way_loses_no_answer_and_is_opened_again() {
        let Some(gpu) = gpu(false) else { return };
        let items: Arc<[Secp256k1]> = vec![Secp256k1::sample(); 256].into();
        assert_eq!(gpu.verify(items.clone()), Ok(vec![false; 256]));
        let (sender, answers) = mpsc::channel();
        for _ in 0..8 {
            let sender = sender.clone();
            gpu.submit(items.clone(), move |result| sender.send(result).unwrap());
        }
        // The first is under way, the others wait.
        std::thread::sleep(Duration::from_millis(30));
        gpu.destroy_device();
        let results: Vec<_> =
            (0..8).map(|_| answers.recv_timeout(Duration::from_secs(60)).expect("every batch is answered")).collect();
        assert!(results.iter().any(Result::is_err), "none was lost");
        assert!(results.iter().flatten().all(|answers| *answers == [false; 256]));
        assert_eq!(gpu.losses(), 1);
        std::thread::sleep(REOPEN_AFTER);
        assert_eq!(gpu.verify(items), Ok(vec![false; 256]));
        assert_eq!(gpu.losses(), 1);
    }
}
