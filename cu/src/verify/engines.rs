//! Who verifies a unit's signatures: the processor, and the GPU for batches with which it was measured to be faster.
//!
//! The GPU is opened, tested and measured on a thread of its own when the first signatures come, and nobody waits for it: until
//! then, and where there is none, whoever asks is answered by the processor at once. Batches for the GPU are gathered from
//! all who ask. Whatever becomes of the device, the answers are the same.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use lockstep_shaders::{
    batch::{Batcher, Bounds, Calibration, Counts, crossover},
    cpu,
    device::{Choice, Device},
    gpu::{Gpu, Scheme, Settings},
    self_test,
    signature::{Ed25519, RsaPss, Secp256k1},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::Verifier;
use crate::Error;

/// Signatures of each scheme that a GPU has to answer as the processor does before it is used.
const SELF_TEST: usize = 64;

/// Which GPU verifies signatures, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSettings {
    /// Which adapter.
    pub choice: Choice,
    /// How long a signature may wait for others to be verified with, where the GPU is used.
    pub wait: Duration,
    /// A directory of the unit's own for compiled kernels.
    pub cache: Option<PathBuf>,
}

impl GpuSettings {
    /// No GPU.
    pub const OFF: Self = Self { choice: Choice::Off, wait: Duration::ZERO, cache: None };
}

/// The processor and perhaps a GPU. Cheap to clone; dropping the last one waits for a GPU that is being opened.
#[derive(Clone, Debug)]
pub struct Engines(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: GpuSettings,
    queues: Arc<Queues>,
    /// Whether somebody has asked for something.
    asked: AtomicBool,
    /// Tells the opening thread that nobody wants its GPU any more.
    ending: Arc<AtomicBool>,
    opening: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Queues {
    /// Of the processor, for one batch.
    threads: NonZeroUsize,
    rsa_pss: Queue<RsaPss>,
    ed25519: Queue<Ed25519>,
    secp256k1: Queue<Secp256k1>,
    adapter: OnceLock<Adapter>,
}

/// What is known of an adapter that was opened.
#[derive(Debug)]
struct Adapter {
    name: String,
    driver: String,
    variants: String,
    /// The device, if any scheme is verified on it.
    gpu: Option<Gpu>,
}

/// One scheme.
#[derive(Debug)]
struct Queue<S: Scheme> {
    /// Verified without the batcher.
    direct: Counts,
    /// There if the GPU verifies batches from some size on.
    batcher: OnceLock<(Batcher<S>, usize)>,
}

impl<S: Scheme> Default for Queue<S> {
    fn default() -> Self {
        Self { direct: Counts::default(), batcher: OnceLock::new() }
    }
}

type OnCpu<S> = fn(&[S], NonZeroUsize) -> Vec<bool>;

impl<S: Scheme + Clone> Queue<S> {
    fn verify(&self, items: &[S], threads: NonZeroUsize, on_cpu: OnCpu<S>) -> Vec<bool> {
        if items.is_empty() {
            return Vec::new();
        }
        if let Some((batcher, _)) = self.batcher.get() {
            return batcher.verify(items.to_vec());
        }
        let answers = on_cpu(items, threads);
        self.direct.on_cpu(items.len());
        answers
    }

    /// From now on batches of at least `crossover` items go to the GPU.
    fn attach(&self, gpu: &Gpu, crossover: usize, wait: Duration, threads: NonZeroUsize, on_cpu: OnCpu<S>) {
        let bounds = Bounds { max_wait: wait, ..Bounds::default() };
        let on_cpu = move |items: &[S]| on_cpu(items, threads);
        match Batcher::new(bounds, Some((gpu.clone(), crossover)), on_cpu) {
            // There is one opening thread.
            Ok(batcher) => drop(self.batcher.set((batcher, crossover))),
            Err(error) => tracing::warn!(%error, scheme = S::NAME, "no thread for batches: the processor verifies"),
        }
    }

    /// Sum of a count here and in the batcher.
    fn count(&self, of: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        let batched = self.batcher.get().map_or(0, |(batcher, _)| of(batcher.counts()).load(Ordering::Relaxed));
        of(&self.direct).load(Ordering::Relaxed) + batched
    }
}

impl Queues {
    fn attach(&self, gpu: Gpu, [rsa_pss, ed25519, secp256k1]: [Option<usize>; 3], wait: Duration) {
        let found = gpu.found();
        let (name, driver) = (found.name.clone(), format!("{} {}", found.backend, found.driver));
        let variants = gpu.variants().to_string();
        if let Some(crossover) = rsa_pss {
            self.rsa_pss.attach(&gpu, crossover, wait, self.threads, cpu::rsa_pss::verify);
        }
        if let Some(crossover) = ed25519 {
            self.ed25519.attach(&gpu, crossover, wait, self.threads, cpu::ed25519::verify);
        }
        if let Some(crossover) = secp256k1 {
            self.secp256k1.attach(&gpu, crossover, wait, self.threads, cpu::secp256k1::verify);
        }
        let used = rsa_pss.or(ed25519).or(secp256k1).is_some();
        let _ = self.adapter.set(Adapter { name, driver, variants, gpu: used.then_some(gpu) });
    }

    /// Opens the GPU, measures it, and has it used for what it is faster at.
    fn open(&self, settings: &GpuSettings, ending: &AtomicBool) {
        let go_on = || !ending.load(Ordering::Relaxed);
        if !go_on() {
            return;
        }
        let opened = Gpu::open(Settings {
            choice: settings.choice.clone(),
            threads: Some(self.threads),
            cache: settings.cache.clone(),
            ..Settings::default()
        });
        let gpu = match opened {
            Ok(Some(gpu)) => gpu,
            Ok(None) => return tracing::debug!("no GPU: the processor verifies signatures"),
            Err(error) => return tracing::warn!(%error, "the processor verifies signatures"),
        };
        match self_test::run(&gpu, SELF_TEST) {
            Ok(outcomes) if outcomes.iter().all(|outcome| outcome.disagreements == 0) => {}
            Ok(outcomes) => {
                return tracing::error!(?outcomes, "the GPU is wrong: the processor verifies signatures");
            }
            Err(error) => {
                return tracing::warn!(%error, "the GPU could not be tested: the processor verifies signatures");
            }
        }
        match Calibration::measure(&gpu, self.threads, go_on) {
            Ok(Some(measured)) => {
                let crossovers = measured.tables().map(|(scheme, table)| {
                    let from_items = crossover(table);
                    match from_items {
                        Some(items) => tracing::info!(scheme, items, "verified on the GPU from so many items on"),
                        None => tracing::info!(scheme, "verified on the processor, which is faster"),
                    }
                    from_items
                });
                self.attach(gpu, crossovers, settings.wait);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the GPU could not be measured: the processor verifies signatures"),
        }
    }
}

impl Default for Engines {
    /// The processor alone.
    fn default() -> Self {
        Self::with(GpuSettings::OFF)
    }
}

impl Engines {
    /// Opens nothing yet, but where a certain GPU is asked for, or any, looks whether there is one.
    ///
    /// # Errors
    /// [`Error::Internal`]: there is none such.
    pub fn new(settings: GpuSettings) -> Result<Self, Error> {
        if matches!(settings.choice, Choice::Required | Choice::Named(_)) {
            Device::open(&settings.choice).map_err(|error| Error::Internal(format!("no GPU: {error}")))?;
        }
        Ok(Self::with(settings))
    }

    fn with(settings: GpuSettings) -> Self {
        // Half of the cores: the others evaluate.
        let threads = NonZeroUsize::new(cpu::cores().get() / 2).unwrap_or(NonZeroUsize::MIN);
        let queues = Queues {
            threads,
            rsa_pss: Queue::default(),
            ed25519: Queue::default(),
            secp256k1: Queue::default(),
            adapter: OnceLock::new(),
        };
        Self(Arc::new(Inner {
            settings,
            queues: Arc::new(queues),
            asked: AtomicBool::new(false),
            ending: Arc::default(),
            opening: Mutex::default(),
        }))
    }

    /// Opens no GPU any more, and waits for one that is being opened: a program that ends while a driver's library is at
    /// work may crash. What is asked from now on is still answered.
    pub fn close(&self) {
        self.0.close();
    }

    /// The queues; the first call begins to open the GPU.
    fn queues(&self) -> &Queues {
        let inner = &*self.0;
        let wanted = inner.settings.choice != Choice::Off && !inner.ending.load(Ordering::Relaxed);
        if wanted && !inner.asked.swap(true, Ordering::Relaxed) {
            let (queues, settings) = (inner.queues.clone(), inner.settings.clone());
            let ending = inner.ending.clone();
            // A panic in a driver's library ends this thread and nothing else.
            let opening = move || queues.open(&settings, &ending);
            match thread::Builder::new().name("gpu-opening".to_owned()).spawn(opening) {
                Ok(thread) => *inner.opening.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread),
                Err(error) => tracing::warn!(%error, "no thread to open the GPU: the processor verifies signatures"),
            }
        }
        &inner.queues
    }
}

impl Inner {
    fn close(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
        // If it panicked there is no GPU.
        let _ = opening.map(JoinHandle::join);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Verifier for Engines {
    fn rsa_pss(&self, items: &[RsaPss]) -> Vec<bool> {
        let queues = self.queues();
        queues.rsa_pss.verify(items, queues.threads, cpu::rsa_pss::verify)
    }

    fn ed25519(&self, items: &[Ed25519]) -> Vec<bool> {
        let queues = self.queues();
        queues.ed25519.verify(items, queues.threads, cpu::ed25519::verify)
    }

    fn secp256k1(&self, items: &[Secp256k1]) -> Vec<bool> {
        let queues = self.queues();
        queues.secp256k1.verify(items, queues.threads, cpu::secp256k1::verify)
    }
}

/// A scheme's numbers for the metrics.
struct Numbers {
    scheme: &'static str,
    /// By engine: batches, signatures.
    engines: [(&'static str, u64, u64); 2],
    lost: u64,
    /// From so many items on the GPU verifies a batch.
    from_items: Option<u64>,
}

fn numbers<S: Scheme + Clone>(queue: &Queue<S>) -> Numbers {
    Numbers {
        scheme: S::NAME,
        engines: [
            ("cpu", queue.count(|counts| &counts.cpu_batches), queue.count(|counts| &counts.cpu)),
            ("gpu", queue.count(|counts| &counts.gpu_batches), queue.count(|counts| &counts.gpu)),
        ],
        lost: queue.count(|counts| &counts.lost),
        from_items: queue.batcher.get().map(|(_, crossover)| *crossover as u64),
    }
}

impl Collector for Engines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let queues = &self.0.queues;
        let all = [numbers(&queues.rsa_pss), numbers(&queues.ed25519), numbers(&queues.secp256k1)];
        let mut family = |name: &str, help: &str, samples: &[(Vec<(&str, &str)>, u64)], counts: bool| {
            let kind = if counts { ConstCounter::new(0u64).metric_type() } else { ConstGauge::new(0u64).metric_type() };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in samples {
                let one = family.encode_family(labels)?;
                if counts { ConstCounter::new(*value).encode(one)? } else { ConstGauge::new(*value).encode(one)? }
            }
            Ok::<_, std::fmt::Error>(())
        };
        let by_engine = |value: fn(&(&'static str, u64, u64)) -> u64| -> Vec<_> {
            let sample = |scheme: &'static str, of: &(&'static str, u64, u64)| {
                (vec![("engine", of.0), ("scheme", scheme)], value(of))
            };
            all.iter().flat_map(|one| one.engines.iter().map(|of| sample(one.scheme, of))).collect()
        };
        family(
            "signature_batches",
            "Batches of signatures verified, by engine and scheme",
            &by_engine(|(_, batches, _)| *batches),
            true,
        )?;
        family(
            "signatures_verified",
            "Signatures verified, by engine and scheme",
            &by_engine(|(_, _, items)| *items),
            true,
        )?;
        let lost: Vec<_> = all.iter().map(|one| (vec![("scheme", one.scheme)], one.lost)).collect();
        family("signatures_lost", "Signatures that a lost GPU left to the processor, by scheme", &lost, true)?;
        let adapter = queues.adapter.get();
        let losses = adapter.and_then(|adapter| adapter.gpu.as_ref()).map_or(0, Gpu::losses);
        let adapter: Vec<_> = adapter
            .iter()
            .map(|adapter| {
                let labels =
                    vec![("adapter", &*adapter.name), ("driver", &*adapter.driver), ("variants", &*adapter.variants)];
                (labels, u64::from(adapter.gpu.is_some()))
            })
            .collect();
        family("gpu", "The GPU that was measured; 1 if it verifies any scheme's signatures", &adapter, false)?;
        let from: Vec<_> = all.iter().filter_map(|one| Some((vec![("scheme", one.scheme)], one.from_items?))).collect();
        family("gpu_batch_min", "Signatures from which on a batch goes to the GPU, by scheme", &from, false)?;
        let losses = ConstCounter::new(losses);
        losses.encode(encoder.encode_descriptor(
            "gpu_losses",
            "How often the GPU was lost",
            None,
            losses.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lockstep_shaders::{limbs::Form, variants::Variants};
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;
    use crate::{
        item::{DataItem, from_base64url},
        verify::{Outcome, Subject, settle},
    };

    /// As the tests of the kernels do: see `LOCKSTEP_REQUIRE_GPU` in `tests/run`.
    fn gpu() -> Option<Gpu> {
        let choice = std::env::var("LOCKSTEP_GPU").map_or(Choice::Required, Choice::Named);
        let variants = Some(Variants::all(Form::THIN));
        match Gpu::open(Settings { choice, variants, ..Settings::default() }) {
            Ok(gpu) => gpu,
            Err(error) if std::env::var_os("LOCKSTEP_REQUIRE_GPU").is_some() => panic!("no GPU to test on: {error}"),
            Err(error) => {
                eprintln!("NOT TESTED: {error}");
                None
            }
        }
    }

    /// Items of every signer, each as it is and changed, and which are valid.
    fn subjects() -> (Vec<Subject>, Vec<bool>) {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../../tests/items/signers.json")).unwrap();
        let (mut subjects, mut valid) = (Vec::new(), Vec::new());
        for item in file["items"].as_array().unwrap() {
            let mut raw = from_base64url(item["raw"].as_str().unwrap()).unwrap();
            for _ in 0..2 {
                let item = DataItem::parse(&raw).unwrap();
                subjects.push(Subject::of_item(&item));
                valid.push(item.verify().is_ok());
                *raw.last_mut().unwrap() ^= 1;
            }
        }
        assert!(valid.iter().any(|valid| *valid) && valid.iter().any(|valid| !valid));
        (subjects, valid)
    }

    fn verdicts(engines: &Engines, subjects: &[Subject]) -> Vec<bool> {
        let verdicts = settle(engines, subjects.to_vec());
        verdicts.into_iter().map(|verdict| verdict.outcome == Outcome::Valid).collect()
    }

    fn metrics(engines: &Engines) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(engines.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn metric(engines: &Engines, name: &str) -> u64 {
        let lines = metrics(engines);
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {lines:#?}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn without_a_gpu_the_processor_answers_and_is_counted() {
        let (subjects, valid) = subjects();
        let engines = Engines::default();
        assert_eq!(verdicts(&engines, &subjects), valid);
        assert!(verdicts(&engines, &[]).is_empty());
        assert_eq!(metric(&engines, r#"signature_batches_total{engine="cpu",scheme="rsa_pss"}"#), 1);
        assert_eq!(metric(&engines, r#"signature_batches_total{engine="gpu",scheme="rsa_pss"}"#), 0);
        assert_eq!(metric(&engines, "gpu_losses_total"), 0);
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_only_where_it_is_asked_for_by_name() {
        let choice = Choice::Named("no adapter has this name".to_owned());
        let error = Engines::new(GpuSettings { choice, ..GpuSettings::OFF }).unwrap_err().to_string();
        assert!(error.starts_with("no GPU: no adapter fits the name \"no adapter has this name\""), "{error}");
        let auto = GpuSettings { choice: Choice::Auto, ..GpuSettings::OFF };
        let begun = Instant::now();
        let engines = Engines::new(auto).unwrap();
        assert!(begun.elapsed() < Duration::from_millis(100), "nothing is opened before it is needed");
        let (subjects, valid) = subjects();
        assert_eq!(verdicts(&engines, &subjects), valid);
    }

    #[test]
    fn batches_go_to_the_gpu_from_the_crossover_on() {
        let Some(gpu) = gpu() else { return };
        let (subjects, valid) = subjects();
        let engines = Engines::default();
        engines.0.queues.attach(gpu, [None, Some(1), Some(10_000)], Duration::from_millis(1));
        assert_eq!(verdicts(&engines, &subjects), valid);
        for (scheme, [cpu, gpu]) in [("rsa_pss", [1, 0]), ("ed25519", [0, 1]), ("secp256k1", [1, 0])] {
            for (engine, batches) in [("cpu", cpu), ("gpu", gpu)] {
                let name = format!("signature_batches_total{{engine=\"{engine}\",scheme=\"{scheme}\"}}");
                assert_eq!(metric(&engines, &name), batches, "{name}");
            }
        }
        assert_eq!(metric(&engines, r#"gpu_batch_min{scheme="ed25519"}"#), 1);
        assert!(metrics(&engines).iter().any(|line| line.starts_with("gpu{adapter=") && line.ends_with(" 1")));
    }

    #[test]
    fn a_device_destroyed_under_way_changes_no_verdict() {
        let Some(gpu) = gpu() else { return };
        let (subjects, valid) = subjects();
        let engines = Engines::default();
        engines.0.queues.attach(gpu.clone(), [Some(1); 3], Duration::from_millis(1));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..4).for_each(|_| assert_eq!(verdicts(&engines, &subjects), valid)));
            }
            while metric(&engines, r#"signature_batches_total{engine="gpu",scheme="rsa_pss"}"#) == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            gpu.destroy_device();
        });
        assert_eq!(verdicts(&engines, &subjects), valid);
        assert!(metric(&engines, "gpu_losses_total") >= 1);
        let lost: u64 = ["rsa_pss", "ed25519", "secp256k1"]
            .map(|scheme| metric(&engines, &format!("signatures_lost_total{{scheme=\"{scheme}\"}}")))
            .iter()
            .sum();
        assert!(lost > 0, "none was on its way");
    }
}
