//! Batches: signatures from many callers, gathered per scheme, verified where it is faster.
//!
//! A batch is sent when it is full or when its oldest signature has waited long enough. It goes to the GPU if it is at least
//! as large as the measured crossover, else to the CPU; a batch that the GPU loses goes to the CPU. The answers are the
//! same either way, and come by callback, in the order of the questions.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rsa::KeySize;

use crate::cpu;
use crate::device::Lost;
use crate::gpu::{Gpu, Scheme};
use crate::self_test;
use crate::signature::{Ed25519, RsaPss, Secp256k1};

/// When a batch is sent, and how much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A batch with this many signatures is sent at once.
    pub max_items: usize,
    /// No signature waits longer for others.
    pub max_wait: Duration,
    /// How many signatures may be unanswered before callers have to wait.
    pub max_unanswered: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { max_items: 8192, max_wait: Duration::from_millis(2), max_unanswered: 65_536 }
    }
}

/// What was verified where.
#[derive(Debug, Default)]
pub struct Counts {
    /// Signatures verified on the CPU.
    pub cpu: AtomicU64,
    /// Signatures verified on the GPU.
    pub gpu: AtomicU64,
    /// Signatures verified on the CPU because the GPU lost them.
    pub lost: AtomicU64,
    /// Batches verified on the CPU, those that the GPU lost among them.
    pub cpu_batches: AtomicU64,
    /// Batches verified on the GPU.
    pub gpu_batches: AtomicU64,
}

impl Counts {
    /// One more batch, verified on the CPU.
    pub fn on_cpu(&self, items: usize) {
        self.cpu.fetch_add(items as u64, Ordering::Relaxed);
        self.cpu_batches.fetch_add(1, Ordering::Relaxed);
    }

    /// One more batch, verified on the GPU.
    fn on_gpu(&self, items: usize) {
        self.gpu.fetch_add(items as u64, Ordering::Relaxed);
        self.gpu_batches.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long the CPU and the GPU take for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Signatures in the batch.
    pub items: usize,
    /// On the CPU.
    pub cpu: Duration,
    /// On the GPU.
    pub gpu: Duration,
}

/// Batch sizes that are measured.
const SIZES: [usize; 7] = [1, 8, 64, 256, 1024, 4096, 16_384];
/// No larger batch is measured after one that took either side this long.
const LONG_ENOUGH: Duration = Duration::from_millis(250);
/// Times that are measured more than once, and how often.
const SHORT: Duration = Duration::from_millis(20);
const TRIES: usize = 5;

/// What was measured of every scheme on an adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// RSA-PSS with moduli of 4096 bits.
    pub rsa_pss: Vec<Measured>,
    /// Ed25519.
    pub ed25519: Vec<Measured>,
    /// ECDSA on secp256k1, by recovered address.
    pub secp256k1: Vec<Measured>,
}

impl Calibration {
    /// Measures every scheme on `gpu` and on so many `threads` of the CPU. Takes seconds. `None` once `go_on` says no,
    /// which is asked before each scheme.
    ///
    /// # Errors
    /// [`Lost`] if the GPU was lost meanwhile.
    pub fn measure(gpu: &Gpu, threads: NonZeroUsize, go_on: impl Fn() -> bool) -> Result<Option<Calibration>, Lost> {
        let mut measured = Calibration::default();
        if go_on() {
            // On the CPU an invalid one costs several times as much: lengths of salts are tried.
            let signed = self_test::rsa_pss(KeySize::Rsa4096, 512, 1).unwrap_or_default();
            let sample = signed.into_iter().next().unwrap_or_else(RsaPss::sample);
            measured.rsa_pss = calibrate(gpu, &sample, |items| cpu::rsa_pss::verify(items, threads))?;
        }
        if go_on() {
            measured.ed25519 = calibrate(gpu, &Ed25519::sample(), |items| cpu::ed25519::verify(items, threads))?;
        }
        if go_on() {
            measured.secp256k1 = calibrate(gpu, &Secp256k1::sample(), |items| cpu::secp256k1::verify(items, threads))?;
        }
        Ok(go_on().then_some(measured))
    }

    /// Each scheme's name and table.
    pub fn tables(&self) -> [(&'static str, &[Measured]); 3] {
        [(RsaPss::NAME, &self.rsa_pss[..]), (Ed25519::NAME, &self.ed25519), (Secp256k1::NAME, &self.secp256k1)]
    }
}

/// Measures a scheme on both sides, with batches of `sample` alone, after the GPU has run once for what a driver puts off
/// until then. Of short times the least of several counts: whatever else a machine does only adds to them.
///
/// # Errors
/// [`Lost`] if the GPU was lost meanwhile.
pub fn calibrate<S: Scheme + Clone>(
    gpu: &Gpu,
    sample: &S,
    cpu: impl Fn(&[S]) -> Vec<bool>,
) -> Result<Vec<Measured>, Lost> {
    let mut table = Vec::new();
    gpu.verify::<S>([sample.clone()].into())?;
    for items in SIZES {
        let batch: Arc<[S]> = vec![sample.clone(); items].into();
        let on_cpu = least_time(|| {
            cpu(&batch);
            Ok(())
        })?;
        let on_gpu = least_time(|| gpu.verify(batch.clone()).map(drop))?;
        let row = Measured { items, cpu: on_cpu, gpu: on_gpu };
        table.push(row);
        if row.cpu.max(row.gpu) > LONG_ENOUGH {
            break;
        }
    }
    Ok(table)
}

/// How long `run` takes: the least of up to [`TRIES`] times, fewer where one is not short.
fn least_time(mut run: impl FnMut() -> Result<(), Lost>) -> Result<Duration, Lost> {
    let mut least = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        run()?;
        least = least.min(begun.elapsed());
        if least > SHORT {
            break;
        }
    }
    Ok(least)
}

/// The smallest batch from which on the GPU was faster at every size measured; `None` if it was not at the largest.
pub fn crossover(table: &[Measured]) -> Option<usize> {
    table.iter().rev().take_while(|row| row.gpu < row.cpu).last().map(|row| row.items)
}

type Done = Box<dyn FnOnce(Vec<bool>) + Send>;

struct Request<S> {
    items: Vec<S>,
    done: Done,
    since: Instant,
}

/// A batch under way: who asked for how many.
type Callers = Vec<(usize, Done)>;

enum Event<S> {
    Asked(Request<S>),
    /// The GPU has answered.
    Answered(Arc<[S]>, Callers, Result<Vec<bool>, Lost>),
    /// Nobody can ask any more.
    End,
}

/// How many signatures are unanswered, and who waits for fewer.
#[derive(Debug, Default)]
struct Gate {
    unanswered: Mutex<usize>,
    fewer: Condvar,
}

impl Gate {
    fn held(&self) -> std::sync::MutexGuard<'_, usize> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever is asked fits if nothing else is unanswered.
    fn fits(unanswered: usize, items: usize, most: usize) -> bool {
        unanswered == 0 || unanswered + items <= most
    }

    fn leave(&self, items: usize) {
        *self.held() -= items;
        self.fewer.notify_all();
    }
}

/// Gathers signatures of one scheme. Dropping it waits until all are answered.
#[derive(Debug)]
pub struct Batcher<S: Scheme> {
    events: Sender<Event<S>>,
    gate: Arc<Gate>,
    counts: Arc<Counts>,
    bounds: Bounds,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<S: Scheme> Batcher<S> {
    /// Starts a thread that sends batches of at least `crossover` signatures to `gpu` and calls `cpu` for the others, which
    /// answers each of the signatures it is given.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn new(
        bounds: Bounds,
        gpu: Option<(Gpu, usize)>,
        cpu: impl Fn(&[S]) -> Vec<bool> + Send + 'static,
    ) -> std::io::Result<Batcher<S>> {
        let (events, inbox) = mpsc::channel();
        let (gate, counts) = (Arc::new(Gate::default()), Arc::new(Counts::default()));
        let worker =
            Worker { bounds, gpu, cpu, events: events.clone(), gate: gate.clone(), counts: counts.clone(), on_gpu: 0 };
        let thread =
            std::thread::Builder::new().name(format!("verify-{}", S::NAME)).spawn(move || worker.run(&inbox))?;
        Ok(Batcher { events, gate, counts, bounds, thread: Some(thread) })
    }

    /// What was verified where so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Verifies `items`; `done` gets the answers in their order, on a thread that it must not keep. Waits while too many
    /// are unanswered.
    pub fn submit(&self, items: Vec<S>, done: impl FnOnce(Vec<bool>) + Send + 'static) {
        let most = self.bounds.max_unanswered;
        let held = self.gate.held();
        let mut held = self
            .gate
            .fewer
            .wait_while(held, |unanswered| !Gate::fits(*unanswered, items.len(), most))
            .unwrap_or_else(PoisonError::into_inner);
        *held += items.len();
        drop(held);
        self.send(items, Box::new(done));
    }

    /// As [`Batcher::submit`], but gives the items back where that would wait: for threads that may not.
    ///
    /// # Errors
    /// The items, if too many are unanswered.
    pub fn try_submit(&self, items: Vec<S>, done: impl FnOnce(Vec<bool>) + Send + 'static) -> Result<(), Vec<S>> {
        let mut held = self.gate.held();
        if !Gate::fits(*held, items.len(), self.bounds.max_unanswered) {
            return Err(items);
        }
        *held += items.len();
        drop(held);
        self.send(items, Box::new(done));
        Ok(())
    }

    fn send(&self, items: Vec<S>, done: Done) {
        let request = Request { items, done, since: Instant::now() };
        if self.events.send(Event::Asked(request)).is_err() {
            // The thread ends only when this is dropped, or with a panic of the caller's own functions.
            tracing::error!(scheme = S::NAME, "the verifying thread has ended");
        }
    }

    /// Verifies `items` and waits for the answers.
    pub fn verify(&self, items: Vec<S>) -> Vec<bool> {
        let count = items.len();
        let (sender, answers) = mpsc::channel();
        self.submit(items, move |result| {
            // Whoever waits is still there: this function.
            let _ = sender.send(result);
        });
        // Nothing is valid that was not verified.
        answers.recv().unwrap_or_else(|_| vec![false; count])
    }
}

impl<S: Scheme> Drop for Batcher<S> {
    fn drop(&mut self) {
        // If the thread has ended, there is nothing to end.
        let _ = self.events.send(Event::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker<S: Scheme, C> {
    bounds: Bounds,
    gpu: Option<(Gpu, usize)>,
    cpu: C,
    events: Sender<Event<S>>,
    gate: Arc<Gate>,
    counts: Arc<Counts>,
    /// Batches that the GPU has not answered yet.
    on_gpu: usize,
}

impl<S: Scheme, C: Fn(&[S]) -> Vec<bool>> Worker<S, C> {
    fn run(mut self, inbox: &Receiver<Event<S>>) {
        let mut waiting: Vec<Request<S>> = Vec::new();
        let mut items = 0;
        let mut ending = false;
        while !ending || self.on_gpu > 0 || !waiting.is_empty() {
            let oldest = waiting.first().map(|request| request.since);
            let due = ending || items >= self.bounds.max_items;
            let patience = match oldest {
                Some(_) if due => Duration::ZERO,
                Some(since) => self.bounds.max_wait.saturating_sub(since.elapsed()),
                None => Duration::from_secs(3600),
            };
            if !waiting.is_empty() && patience.is_zero() {
                items = 0;
                self.dispatch(std::mem::take(&mut waiting));
                continue;
            }
            match inbox.recv_timeout(patience) {
                Ok(Event::Asked(request)) => {
                    items += request.items.len();
                    waiting.push(request);
                }
                Ok(Event::Answered(batch, callers, result)) => {
                    self.on_gpu -= 1;
                    self.settle(&batch, callers, result);
                }
                Ok(Event::End) => ending = true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn dispatch(&mut self, requests: Vec<Request<S>>) {
        let mut batch = Vec::with_capacity(requests.iter().map(|request| request.items.len()).sum());
        let mut callers = Vec::with_capacity(requests.len());
        for request in requests {
            callers.push((request.items.len(), request.done));
            batch.extend(request.items);
        }
        match &self.gpu {
            Some((gpu, crossover)) if batch.len() >= *crossover => {
                self.on_gpu += 1;
                let batch: Arc<[S]> = batch.into();
                let events = self.events.clone();
                gpu.submit(batch.clone(), move |result| {
                    // The worker stays until every batch is back.
                    let _ = events.send(Event::Answered(batch, callers, result));
                });
            }
            _ => self.on_cpu(&batch, callers),
        }
    }

    fn on_cpu(&self, batch: &[S], callers: Callers) {
        let answers = (self.cpu)(batch);
        self.counts.on_cpu(batch.len());
        self.answer(callers, &answers);
    }

    fn settle(&self, batch: &[S], callers: Callers, result: Result<Vec<bool>, Lost>) {
        match result {
            Ok(answers) => {
                self.counts.on_gpu(batch.len());
                self.answer(callers, &answers);
            }
            Err(error) => {
                tracing::debug!(%error, scheme = S::NAME, items = batch.len(), "verified on the CPU instead");
                self.counts.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
                self.on_cpu(batch, callers);
            }
        }
    }

    fn answer(&self, callers: Callers, answers: &[bool]) {
        let mut rest = answers;
        for (count, done) in callers {
            let (own, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            let mut own = own.to_vec();
            // Nothing is valid that has no answer.
            own.resize(count, false);
            self.gate.leave(count);
            done(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Choice;
    use crate::gpu::Settings;
    use crate::test_numbers::{device, quick_form};
    use crate::variants::Variants;

    fn gpu() -> Option<Gpu> {
        let device = device()?;
        let choice = Choice::Named(device.found.name.clone());
        let variants = Some(Variants::all(quick_form(&device)));
        Gpu::open(Settings { choice, variants, ..Settings::default() }).unwrap()
    }

    /// The vector is valid, and not with a message of another length.
    fn items(count: usize) -> (Vec<Ed25519>, Vec<bool>) {
        let items: Vec<_> =
            (0..count).map(|index| Ed25519 { message: vec![0; index % 3].into(), ..Ed25519::sample() }).collect();
        let valid = items.iter().map(|item| item.message.is_empty()).collect();
        (items, valid)
    }

    fn on_cpu(items: &[Ed25519]) -> Vec<bool> {
        items.iter().map(|item| item.message.is_empty()).collect()
    }

    #[test]
    fn answers_come_to_their_callers_in_order_and_no_later_than_the_wait() {
        let bounds = Bounds { max_items: 1000, max_wait: Duration::from_millis(20), ..Bounds::default() };
        let batcher = Arc::new(Batcher::new(bounds, None, on_cpu).unwrap());
        let callers: Vec<_> = (0..20)
            .map(|count| {
                let batcher = batcher.clone();
                std::thread::spawn(move || {
                    let (items, valid) = items(count);
                    assert_eq!(batcher.verify(items), valid);
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(batcher.counts().cpu.load(Ordering::Relaxed), (0..20).sum::<u64>());
        assert!(batcher.counts().cpu_batches.load(Ordering::Relaxed) < 20, "they were gathered");
    }

    #[test]
    fn who_asks_too_much_waits_or_gets_it_back() {
        let (open, closed) = mpsc::channel::<()>();
        let bounds = Bounds { max_items: 1, max_wait: Duration::ZERO, max_unanswered: 10 };
        let batcher = Batcher::new(bounds, None, move |items: &[Ed25519]| {
            closed.recv().unwrap();
            on_cpu(items)
        })
        .unwrap();
        let (sender, answers) = mpsc::channel();
        let done = sender.clone();
        batcher.submit(items(8).0, move |result| done.send(result).unwrap());
        assert_eq!(batcher.try_submit(items(3).0, |_| ()).unwrap_err().len(), 3);
        let done = sender.clone();
        batcher.try_submit(items(2).0, move |result| done.send(result).unwrap()).unwrap();
        open.send(()).unwrap();
        open.send(()).unwrap();
        assert_eq!([answers.recv().unwrap(), answers.recv().unwrap()], [items(8).1, items(2).1]);
    }

    #[test]
    fn dropping_a_batcher_answers_what_waits() {
        let bounds = Bounds { max_wait: Duration::from_secs(60), ..Bounds::default() };
        let batcher = Batcher::new(bounds, None, on_cpu).unwrap();
        let (sender, answers) = mpsc::channel();
        batcher.submit(items(5).0, move |result| sender.send(result).unwrap());
        drop(batcher);
        assert_eq!(answers.recv().unwrap(), items(5).1);
    }

    #[test]
    fn large_batches_go_to_the_gpu_and_lost_ones_to_the_cpu() {
        let Some(gpu) = gpu() else { return };
        let batcher = Batcher::new(Bounds::default(), Some((gpu.clone(), 16)), on_cpu).unwrap();
        let counts = || {
            [&batcher.counts().cpu, &batcher.counts().gpu, &batcher.counts().lost]
                .map(|count| count.load(Ordering::Relaxed))
        };
        assert_eq!(batcher.verify(items(15).0), items(15).1);
        assert_eq!(counts(), [15, 0, 0]);
        assert_eq!(batcher.verify(items(77).0), items(77).1);
        assert_eq!(counts(), [15, 77, 0]);
        gpu.destroy_device();
        // Whether the device is lost before or while it works, every answer is right.
        for _ in 0..3 {
            assert_eq!(batcher.verify(items(77).0), items(77).1);
        }
        let [cpu, on_gpu, lost] = counts();
        assert_eq!((cpu - lost, on_gpu + lost), (15, 4 * 77));
        assert!(lost > 0);
    }

    #[test]
    fn short_times_are_measured_more_than_once_and_the_least_counts() {
        let mut runs = 0;
        let least = least_time(|| {
            runs += 1;
            std::thread::sleep(if runs == 3 { Duration::ZERO } else { Duration::from_millis(5) });
            Ok(())
        });
        assert!(least.unwrap() < Duration::from_millis(5));
        assert_eq!(runs, TRIES);
        runs = 0;
        least_time(|| {
            runs += 1;
            std::thread::sleep(2 * SHORT);
            Ok(())
        })
        .unwrap();
        assert_eq!(runs, 1);
    }

    #[test]
    fn the_faster_side_is_found() {
        let row =
            |items, cpu, gpu| Measured { items, cpu: Duration::from_micros(cpu), gpu: Duration::from_micros(gpu) };
        assert_eq!(crossover(&[row(1, 10, 500), row(8, 80, 500), row(64, 640, 510)]), Some(64));
        assert_eq!(crossover(&[row(1, 10, 5), row(8, 80, 500), row(64, 640, 510)]), Some(64));
        assert_eq!(crossover(&[row(1, 10, 5), row(8, 80, 7)]), Some(1));
        assert_eq!(crossover(&[row(1, 10, 500), row(8, 80, 510)]), None);
        assert_eq!(crossover(&[]), None);
        let Some(gpu) = gpu() else { return };
        // A CPU that takes no time is faster always, one that takes a second for each never.
        assert_eq!(crossover(&calibrate(&gpu, &Ed25519::sample(), on_cpu).unwrap()), None);
        let slow = |items: &[Ed25519]| {
            std::thread::sleep(Duration::from_millis(300));
            on_cpu(items)
        };
        assert_eq!(crossover(&calibrate(&gpu, &Ed25519::sample(), slow).unwrap()), Some(1));
    }

    #[test]
    fn batches_go_to_the_side_that_calibration_found_faster() {
        let Some(gpu) = gpu() else { return };
        let slow = |items: &[Ed25519]| {
            std::thread::sleep(Duration::from_millis(300));
            on_cpu(items)
        };
        for (cpu, on_the_gpu) in [(&on_cpu as &(dyn Fn(&[Ed25519]) -> Vec<bool> + Sync), 0), (&slow, 40)] {
            let crossover = crossover(&calibrate(&gpu, &Ed25519::sample(), cpu).unwrap());
            let chosen = crossover.map(|crossover| (gpu.clone(), crossover));
            let batcher = Batcher::new(Bounds::default(), chosen, on_cpu).unwrap();
            assert_eq!(batcher.verify(items(40).0), items(40).1);
            let counts = [&batcher.counts().cpu, &batcher.counts().gpu].map(|count| count.load(Ordering::Relaxed));
            assert_eq!(counts, [40 - on_the_gpu, on_the_gpu]);
        }
    }
}
