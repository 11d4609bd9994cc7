//! Where the signatures of schedules are checked while others evaluate: a thread of its own takes pages from all processes,
//! puts those that wait into one batch, counts, logs, and tells whoever asked what must not be evaluated.

use std::{collections::HashMap, thread};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use tokio::sync::{mpsc, oneshot};

#[cfg(test)]
use super::Cpu;
use super::{
    Outcome, Placed, Question, Verdict, Verifier,
    memory::{self, Memory},
    read_json, settle,
};
use crate::{Error, item::SignatureType};

/// Documents that may wait. A scheduler's pages come one at a time for each process.
const WAITING_MAX: usize = 64;
/// Documents in one batch.
const TOGETHER_MAX: usize = 16;

/// What is done about signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Nothing.
    Off,
    /// They are checked, counted and logged.
    #[default]
    Report,
    /// What is invalid is not evaluated either. What is unverifiable is.
    Enforce,
}

/// Labels of the counter of signatures.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SignatureLabels {
    /// Signature type in a word; `unknown`.
    pub scheme: &'static str,
    /// `valid`, `invalid`, `unverifiable`, or `skipped` where the desk could not keep up.
    pub outcome: &'static str,
    /// `message`, `assignment`, `process`; `page` for what could not be read or was skipped.
    pub place: &'static str,
}

/// Signatures by scheme, outcome and place.
pub type Signatures = Family<SignatureLabels, Counter>;

/// Why an element of a page must not be evaluated, by its assignment's id. Under the empty text: why what has none must not.
pub(crate) type Refused = HashMap<String, String>;

struct Job {
    json: Vec<u8>,
    reply: Option<oneshot::Sender<Refused>>,
}

/// The way to the verifying thread, which ends with the last of them.
pub(crate) struct Desk {
    policy: Policy,
    jobs: mpsc::Sender<Job>,
    signatures: Signatures,
}

impl Desk {
    #[cfg(test)]
    pub fn new(policy: Policy) -> Result<Self, Error> {
        Self::with(policy, Box::new(Cpu::all()))
    }

    /// # Errors
    /// [`Error::Internal`]: the system gives no thread.
    pub fn with(policy: Policy, verifier: Box<dyn Verifier>) -> Result<Self, Error> {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let signatures = Signatures::default();
        if policy != Policy::Off {
            let signatures = signatures.clone();
            let thread = thread::Builder::new().name("signatures".to_owned());
            let work = move || Worker { verifier, signatures, memory: Memory::default() }.run(waiting);
            thread.spawn(work).map_err(|error| Error::Internal(format!("no thread for signatures: {error}")))?;
        }
        Ok(Self { policy, jobs, signatures })
    }

    /// Whether anything is checked.
    pub fn is_open(&self) -> bool {
        self.policy != Policy::Off
    }

    /// The counter.
    pub fn signatures(&self) -> Signatures {
        self.signatures.clone()
    }

    /// Has a document's signatures checked. Waits for the outcome only where it is going to be enforced.
    ///
    /// # Errors
    /// [`Error::Internal`]: the outcome is to be enforced and there is none.
    pub async fn check(&self, json: Vec<u8>) -> Result<Refused, Error> {
        match self.policy {
            Policy::Off => Ok(Refused::default()),
            Policy::Report => {
                if self.jobs.try_send(Job { json, reply: None }).is_err() {
                    let labels = SignatureLabels { scheme: "unknown", outcome: "skipped", place: "page" };
                    self.signatures.get_or_create(&labels).inc();
                }
                Ok(Refused::default())
            }
            Policy::Enforce => {
                let (reply, outcome) = oneshot::channel();
                let stopped = || Error::Internal("the thread that checks signatures stopped".to_owned());
                self.jobs.send(Job { json, reply: Some(reply) }).await.map_err(|_| stopped())?;
                outcome.await.map_err(|_| stopped())
            }
        }
    }
}

struct Worker {
    verifier: Box<dyn Verifier>,
    signatures: Signatures,
    memory: Memory,
}

impl Worker {
    fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut jobs = vec![first];
            while jobs.len() < TOGETHER_MAX
                && let Ok(job) = waiting.try_recv()
            {
                jobs.push(job);
            }
            self.work(jobs);
        }
    }

    fn work(&mut self, jobs: Vec<Job>) {
        let mut replies = Vec::with_capacity(jobs.len());
        let (mut places, mut subjects) = (Vec::new(), Vec::new());
        for (index, Job { json, reply }) in jobs.into_iter().enumerate() {
            match read_json(&json) {
                Ok(placed) => {
                    for Placed { place, assignment, subject } in placed {
                        places.push((index, place, assignment.unwrap_or_default()));
                        subjects.push(subject);
                    }
                }
                Err(why) => {
                    tracing::warn!(why, "signatures that cannot be read");
                    self.count("unknown", "unverifiable", "page");
                }
            }
            replies.push((reply, Refused::default()));
        }
        let marks: Vec<_> = subjects
            .iter_mut()
            .map(|subject| {
                let Question::Open { any_of, .. } = &subject.question else { return None };
                let [(_, checks)] = &any_of[..] else { return None };
                let mark = memory::mark(checks);
                if self.memory.has(&mark) {
                    subject.question = Question::Settled(Outcome::Valid);
                }
                Some(mark)
            })
            .collect();
        let verdicts = settle(&*self.verifier, subjects);
        for (((job, place, assignment), mark), verdict) in places.into_iter().zip(marks).zip(verdicts) {
            let Verdict { id, signature_type, outcome } = verdict;
            self.count(scheme(signature_type), outcome.name(), place);
            match outcome {
                Outcome::Valid => {
                    if let Some(mark) = mark.filter(|mark| !self.memory.has(mark)) {
                        self.memory.add(mark);
                    }
                }
                Outcome::Unverifiable(why) => tracing::debug!(id, place, why, "unverifiable signature"),
                Outcome::Invalid(why) => {
                    tracing::warn!(id, place, why, "invalid signature");
                    let why = format!("{place} {id:.64} is not signed as it stands: {why}");
                    replies[job].1.entry(assignment).or_insert(why);
                }
            }
        }
        for (reply, refused) in replies {
            // Whoever asked may have gone.
            let _ = reply.map(|reply| reply.send(refused));
        }
    }

    fn count(&self, scheme: &'static str, outcome: &'static str, place: &'static str) {
        self.signatures.get_or_create(&SignatureLabels { scheme, outcome, place }).inc();
    }
}

/// A signature type in a word.
fn scheme(number: Option<u16>) -> &'static str {
    match number.and_then(SignatureType::from_number) {
        Some(SignatureType::Arweave) => "arweave",
        Some(SignatureType::Ed25519) => "ed25519",
        Some(SignatureType::Ethereum) => "ethereum",
        Some(SignatureType::Solana) => "solana",
        Some(SignatureType::InjectedAptos) => "aptos",
        Some(SignatureType::MultiAptos) => "multi-aptos",
        Some(SignatureType::TypedEthereum) => "typed-ethereum",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use lockstep_shaders::signature::{Ed25519, RsaPss, Secp256k1};

    use super::*;

    const PAGE: &str = include_str!("../../../tests/items/real-page.json");

    /// Counts what it is given.
    struct Counting(Arc<AtomicUsize>);

    impl Verifier for Counting {
        fn rsa_pss(&self, items: &[RsaPss]) -> Vec<bool> {
            self.0.fetch_add(items.len(), Ordering::Relaxed);
            Cpu::all().rsa_pss(items)
        }

        fn ed25519(&self, items: &[Ed25519]) -> Vec<bool> {
            Cpu::all().ed25519(items)
        }

        fn secp256k1(&self, items: &[Secp256k1]) -> Vec<bool> {
            Cpu::all().secp256k1(items)
        }
    }

    fn changed_page() -> Vec<u8> {
        let mut page: serde_json::Value = serde_json::from_str(PAGE).unwrap();
        let message = &mut page["edges"][1]["node"]["message"];
        message["anchor"] = "".into();
        message["data"] = "another".into();
        page.to_string().into_bytes()
    }

    fn count(desk: &Desk, outcome: &'static str, place: &'static str) -> u64 {
        let labels = SignatureLabels { scheme: "arweave", outcome, place };
        desk.signatures().get_or_create(&labels).get()
    }

    #[tokio::test]
    async fn enforcing_names_what_is_invalid_and_checks_nothing_twice() {
        let asked = Arc::new(AtomicUsize::new(0));
        let desk = Desk::with(Policy::Enforce, Box::new(Counting(asked.clone()))).unwrap();
        assert!(desk.check(PAGE.into()).await.unwrap().is_empty());
        assert_eq!(asked.load(Ordering::Relaxed), 4);
        assert!(desk.check(PAGE.into()).await.unwrap().is_empty());
        assert_eq!(asked.load(Ordering::Relaxed), 4);

        let refused = desk.check(changed_page()).await.unwrap();
        let page: serde_json::Value = serde_json::from_str(PAGE).unwrap();
        let node = &page["edges"][1]["node"];
        let (message, assignment) =
            (node["message"]["id"].as_str().unwrap(), node["assignment"]["id"].as_str().unwrap());
        assert_eq!(refused.len(), 1);
        assert!(refused[assignment].starts_with(&format!("message {message} is not signed")), "{refused:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 5, "only what changed");
        assert_eq!((count(&desk, "valid", "message"), count(&desk, "invalid", "message")), (5, 1));
        assert_eq!(count(&desk, "valid", "assignment"), 6);
    }

    #[tokio::test]
    async fn reporting_refuses_nothing_and_still_counts() {
        let desk = Desk::new(Policy::Report).unwrap();
        assert!(desk.check(changed_page()).await.unwrap().is_empty());
        for _ in 0..500 {
            if count(&desk, "invalid", "message") == 1 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the page was not checked");
    }

    #[tokio::test]
    async fn what_is_off_or_unreadable_refuses_nothing() {
        let off = Desk::new(Policy::Off).unwrap();
        assert!(!off.is_open() && off.check(changed_page()).await.unwrap().is_empty());
        assert_eq!(count(&off, "invalid", "message"), 0);
        let desk = Desk::new(Policy::Enforce).unwrap();
        assert!(desk.check(b"{}".to_vec()).await.unwrap().is_empty());
    }
}
