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
    Outcome, Placed, Question, Subject, Verdict, Verifier,
    memory::{self, Memory},
    read_json, settle,
    written::{Said, said},
};
use crate::{Error, item::SignatureType};

/// Documents that may wait. A scheduler's pages come one at a time for each process.
const WAITING_MAX: usize = 64;
/// Doubtful things of one document that a gateway may be asked about. The others are unverifiable.
pub(super) const DOUBTFUL_MAX: usize = 64;
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
    /// `message`, `assignment`, `process`, `module`, `assigned`; `page` for what could not be read or was skipped.
    pub place: &'static str,
}

/// Signatures by scheme, outcome and place.
pub type Signatures = Family<SignatureLabels, Counter>;

/// What is found out about a document.
#[derive(Default)]
pub(super) struct Checked {
    /// Why an element of a page must not be evaluated, by its assignment's id. Under the empty text: why what has none must
    /// not.
    pub refused: HashMap<String, String>,
    /// What cannot be told from the document. Not counted yet.
    pub doubtful: Vec<Doubtful>,
}

/// A message or process of which the scheduler's words do not tell whether it is as its owner signed it.
pub(super) struct Doubtful {
    pub id: String,
    pub place: &'static str,
    /// Its assignment's id, or the empty text.
    pub assignment: String,
    pub signature_type: Option<u16>,
    pub why: String,
    pub said: Said,
}

enum Job {
    Document { json: Vec<u8>, reply: oneshot::Sender<Checked> },
    Subjects { subjects: Vec<Subject>, reply: oneshot::Sender<Vec<Verdict>> },
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

    /// What is done about signatures.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Has a document's signatures checked if there is room; `None` and a count of it if not.
    pub(super) fn submit(&self, json: Vec<u8>) -> Option<oneshot::Receiver<Checked>> {
        let (reply, outcome) = oneshot::channel();
        if self.jobs.try_send(Job::Document { json, reply }).is_err() {
            self.skip("page");
            return None;
        }
        Some(outcome)
    }

    /// Has a document's signatures checked, and waits for the outcome.
    ///
    /// # Errors
    /// [`Error::Internal`]: there is none.
    pub(super) async fn check(&self, json: Vec<u8>) -> Result<Checked, Error> {
        let (reply, outcome) = oneshot::channel();
        self.jobs.send(Job::Document { json, reply }).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())
    }

    /// The outcome for a subject. Not counted.
    ///
    /// # Errors
    /// [`Error::Internal`]: there is none.
    pub(super) async fn settle(&self, subject: Subject) -> Result<Verdict, Error> {
        let (reply, outcome) = oneshot::channel();
        self.jobs.send(Job::Subjects { subjects: vec![subject], reply }).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?.pop().ok_or_else(stopped)
    }

    /// Counts and logs an outcome.
    pub(super) fn note(&self, place: &'static str, verdict: &Verdict) {
        note(&self.signatures, place, verdict);
    }

    /// Counts what there was no room for.
    pub(super) fn skip(&self, place: &'static str) {
        count(&self.signatures, "unknown", "skipped", place);
    }
}

fn stopped() -> Error {
    Error::Internal("the thread that checks signatures stopped".to_owned())
}

fn count(signatures: &Signatures, scheme: &'static str, outcome: &'static str, place: &'static str) {
    signatures.get_or_create(&SignatureLabels { scheme, outcome, place }).inc();
}

fn note(signatures: &Signatures, place: &'static str, verdict: &Verdict) {
    let Verdict { id, signature_type, outcome } = verdict;
    count(signatures, scheme(*signature_type), outcome.name(), place);
    match outcome {
        Outcome::Valid => {}
        Outcome::Unverifiable(why) => tracing::debug!(id, place, why, "unverifiable signature"),
        Outcome::Invalid(why) => tracing::warn!(id, place, why, "invalid signature"),
    }
}

/// Why something must not be evaluated, in words for whoever asked for it.
pub(super) fn refusal(place: &str, id: &str, why: &str) -> String {
    format!("{place} {id:.64} is not signed as it stands: {why}")
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
        let mut subjects = Vec::new();
        // How each job's share of the verdicts is answered.
        let mut shares = Vec::with_capacity(jobs.len());
        for job in jobs {
            let before = subjects.len();
            let answer = match job {
                Job::Subjects { subjects: asked, reply } => {
                    subjects.extend(asked);
                    Answer::Verdicts(reply)
                }
                Job::Document { json, reply } => {
                    let placed = read_json(&json).unwrap_or_else(|why| {
                        tracing::warn!(why, "signatures that cannot be read");
                        count(&self.signatures, "unknown", "unverifiable", "page");
                        Vec::new()
                    });
                    let mut places = Vec::with_capacity(placed.len());
                    for Placed { place, assignment, subject } in placed {
                        places.push((place, assignment.unwrap_or_default()));
                        subjects.push(subject);
                    }
                    Answer::Document { json, places, reply }
                }
            };
            shares.push((subjects.len() - before, answer));
        }
        let mut verdicts = self.settle(subjects).into_iter();
        for (share, answer) in shares {
            let verdicts: Vec<_> = verdicts.by_ref().take(share).collect();
            match answer {
                // Whoever asked may have gone.
                Answer::Verdicts(reply) => drop(reply.send(verdicts)),
                Answer::Document { json, places, reply } => self.answer(&json, places, verdicts, reply),
            }
        }
    }

    /// The outcome for every subject; what is remembered as valid is not checked again.
    fn settle(&mut self, mut subjects: Vec<Subject>) -> Vec<Verdict> {
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
        for (mark, verdict) in marks.into_iter().zip(&verdicts) {
            if verdict.outcome == Outcome::Valid
                && let Some(mark) = mark.filter(|mark| !self.memory.has(mark))
            {
                self.memory.add(mark);
            }
        }
        verdicts
    }

    fn answer(
        &self,
        json: &[u8],
        places: Vec<(&'static str, String)>,
        verdicts: Vec<Verdict>,
        reply: oneshot::Sender<Checked>,
    ) {
        let mut checked = Checked::default();
        let (mut doubted, mut doubtful) = (Vec::new(), Vec::new());
        for (nth, ((place, assignment), verdict)) in places.into_iter().zip(verdicts).enumerate() {
            match verdict.outcome {
                Outcome::Unverifiable(why)
                    if matches!(place, "message" | "process") && doubted.len() < DOUBTFUL_MAX =>
                {
                    doubted.push(nth);
                    doubtful.push((verdict.id, place, assignment, verdict.signature_type, why));
                }
                _ => {
                    note(&self.signatures, place, &verdict);
                    if let Outcome::Invalid(why) = &verdict.outcome {
                        let why = refusal(place, &verdict.id, why);
                        checked.refused.entry(assignment).or_insert(why);
                    }
                }
            }
        }
        if !doubted.is_empty() {
            let said = said(json, &doubted);
            checked.doubtful = doubtful
                .into_iter()
                .zip(said)
                .map(|((id, place, assignment, signature_type, why), said)| Doubtful {
                    id,
                    place,
                    assignment,
                    signature_type,
                    why,
                    said,
                })
                .collect();
        }
        if let Err(unheard) = reply.send(checked) {
            for Doubtful { id, place, signature_type, why, .. } in unheard.doubtful {
                let verdict = Verdict { id, signature_type, outcome: Outcome::Unverifiable(why) };
                note(&self.signatures, place, &verdict);
            }
        }
    }
}

/// How a job is answered.
enum Answer {
    Verdicts(oneshot::Sender<Vec<Verdict>>),
    Document { json: Vec<u8>, places: Vec<(&'static str, String)>, reply: oneshot::Sender<Checked> },
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
        Arc, Mutex,
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

    /// Answers when nobody holds it up.
    struct Held(Arc<Mutex<()>>);

    impl Verifier for Held {
        fn rsa_pss(&self, items: &[RsaPss]) -> Vec<bool> {
            let _free = self.0.lock().unwrap();
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
        assert!(desk.check(PAGE.into()).await.unwrap().refused.is_empty());
        assert_eq!(asked.load(Ordering::Relaxed), 4);
        assert!(desk.check(PAGE.into()).await.unwrap().refused.is_empty());
        assert_eq!(asked.load(Ordering::Relaxed), 4);

        let refused = desk.check(changed_page()).await.unwrap().refused;
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
    async fn what_is_doubtful_is_handed_back_and_counted_only_if_nobody_takes_it() {
        let mut page: serde_json::Value = serde_json::from_str(PAGE).unwrap();
        page["edges"][1]["node"]["message"]["data"] = "another".into();
        page["edges"][1]["node"]["message"]["anchor"] = serde_json::Value::Null;
        let free = Arc::new(Mutex::new(()));
        let desk = Desk::with(Policy::Enforce, Box::new(Held(free.clone()))).unwrap();
        let checked = desk.check(page.to_string().into_bytes()).await.unwrap();
        assert!(checked.refused.is_empty());
        assert_eq!((checked.doubtful.len(), checked.doubtful[0].place), (1, "message"));
        assert_eq!(count(&desk, "unverifiable", "message"), 0);
        {
            // Nobody takes it by the time there is an answer.
            let _held = free.lock().unwrap();
            drop(desk.submit(page.to_string().into_bytes()));
        }
        for _ in 0..500 {
            if count(&desk, "unverifiable", "message") == 1 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the page was not counted");
    }

    #[tokio::test]
    async fn what_is_unreadable_refuses_nothing() {
        let desk = Desk::new(Policy::Enforce).unwrap();
        assert!(desk.check(b"{}".to_vec()).await.unwrap().refused.is_empty());
    }
}
