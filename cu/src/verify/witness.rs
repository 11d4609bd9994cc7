//! What a gateway says of signed things: of items that a scheduler's JSON does not hold whole, and of what comes from the
//! gateway itself (modules, assigned items, processes that no scheduler assigned).
//!
//! A gateway has an item in two parts, its description by GraphQL and its data by `/raw`; both together are everything that
//! was signed. A gateway is slow and may be anybody's: how much is asked of it at once, for each page and for how long is
//! bounded, what it lacks is not asked for again for a while, and after some faults nothing is.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, oneshot};

use super::{
    Outcome, Policy, Signatures, Subject, Verdict, Verifier,
    desk::{Checked, Desk, Doubtful, refusal},
    memory::Memory,
    written::{subject_of_gateway, subject_of_layer1},
};
use crate::{
    Error,
    gateway::{Gateway, Transaction, Without},
    ids,
};

/// Items asked of the gateway at the same time, for all processes.
const ASKED_AT_ONCE: usize = 8;
/// Pages with doubtful items, and things that the gateway gave, that may wait where nobody waits for them.
const WAITING_MAX: usize = 32;
/// How long an item is waited for, from when it is asked for.
const ASK_TIME: Duration = Duration::from_secs(10);
/// How long what the gateway does not give is not asked for again.
const ABSENCE_TIME: Duration = Duration::from_secs(60);
/// Ids of such items remembered.
const ABSENT_MAX: usize = 1 << 14;
/// Faults of the gateway in a row after which it is left alone, and for how long.
const FAULTS_MAX: u32 = 4;
const REST_TIME: Duration = Duration::from_secs(30);

/// Why elements of a page must not be evaluated, as far as it is known yet.
#[derive(Default)]
pub(crate) struct Refused {
    known: HashMap<String, String>,
    asked: HashMap<String, Vec<oneshot::Receiver<Option<String>>>>,
}

impl Refused {
    /// Why the element with this assignment's id must not be evaluated. Waits for the gateway where it was asked about it.
    pub async fn why(&mut self, assignment: &str) -> Option<String> {
        if let Some(why) = self.known.get(assignment) {
            return Some(why.clone());
        }
        for answer in self.asked.remove(assignment).into_iter().flatten() {
            if let Some(why) = heard(answer).await {
                return Some(why);
            }
        }
        None
    }

    /// Why any element must not be evaluated.
    pub async fn any(self) -> Option<String> {
        if let Some(why) = self.known.into_values().next() {
            return Some(why);
        }
        for answer in self.asked.into_values().flatten() {
            if let Some(why) = heard(answer).await {
                return Some(why);
            }
        }
        None
    }
}

async fn heard(answer: oneshot::Receiver<Option<String>>) -> Option<String> {
    answer.await.unwrap_or_else(|_| Some("the check of its signature stopped".to_owned()))
}

/// What is remembered of the gateway's answers.
#[derive(Default)]
struct Known {
    /// Until when what is not asked for again, and why not.
    absent: HashMap<String, (Instant, String)>,
    /// Faults in a row.
    faults: u32,
    rests_until: Option<Instant>,
    /// A scheduler's words that a gateway's item has confirmed.
    confirmed: Memory,
}

/// The desk, and the gateway beside it.
pub(crate) struct Witness {
    desk: Desk,
    gateway: Arc<Gateway>,
    /// Largest item asked for, bytes.
    item_max: u64,
    asking: Semaphore,
    waiting: Arc<Semaphore>,
    known: Mutex<Known>,
}

/// Why the gateway's answer is none.
enum Silence {
    /// It does not have it.
    Absent(String),
    /// It cannot be asked, or answers nonsense.
    Fault(String),
}

impl Witness {
    /// # Errors
    /// [`Error::Internal`]: the system gives no thread.
    pub fn new(
        policy: Policy,
        verifier: Box<dyn Verifier>,
        gateway: Arc<Gateway>,
        item_max: u64,
    ) -> Result<Self, Error> {
        Ok(Self {
            desk: Desk::with(policy, verifier)?,
            gateway,
            item_max,
            asking: Semaphore::new(ASKED_AT_ONCE),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            known: Mutex::default(),
        })
    }

    /// Whether anything is checked.
    pub fn is_open(&self) -> bool {
        self.desk.is_open()
    }

    /// The counter.
    pub fn signatures(&self) -> Signatures {
        self.desk.signatures()
    }

    /// Has the signatures of a scheduler's document checked, and the gateway asked about what it does not tell. Waits for
    /// the desk, but not for the gateway, where outcomes are going to be enforced; else for nothing.
    ///
    /// # Errors
    /// [`Error::Internal`]: the outcome is to be enforced and there is none.
    pub async fn check_document(self: &Arc<Self>, json: Vec<u8>) -> Result<Refused, Error> {
        match self.desk.policy() {
            Policy::Off => Ok(Refused::default()),
            Policy::Report => {
                if let Some(checked) = self.desk.submit(json) {
                    let witness = self.clone();
                    tokio::spawn(async move {
                        if let Ok(Checked { doubtful, .. }) = checked.await {
                            witness.hear_all(doubtful).await;
                        }
                    });
                }
                Ok(Refused::default())
            }
            Policy::Enforce => {
                let Checked { refused: known, doubtful } = self.desk.check(json).await?;
                let mut asked: HashMap<String, Vec<_>> = HashMap::new();
                for doubtful in doubtful {
                    let (reply, answer) = oneshot::channel();
                    asked.entry(doubtful.assignment.clone()).or_default().push(answer);
                    let witness = self.clone();
                    tokio::spawn(async move { witness.hear_for(doubtful, reply).await });
                }
                Ok(Refused { known, asked })
            }
        }
    }

    /// Has checked what the gateway gave: `data` of the item or transaction `id` which `found` describes. Waits, for the
    /// description too, only where outcomes are going to be enforced. `Ok(Err(why))`: it must not be used.
    ///
    /// # Errors
    /// As `found`, and [`Error::Internal`], where the outcome is to be enforced and there is none.
    pub async fn check_given(
        self: &Arc<Self>,
        place: &'static str,
        id: &str,
        found: impl Future<Output = Result<Transaction, Error>> + Send + 'static,
        data: Arc<[u8]>,
    ) -> Result<Result<(), String>, Error> {
        match self.desk.policy() {
            Policy::Off => Ok(Ok(())),
            Policy::Report => {
                let Ok(permit) = self.waiting.clone().try_acquire_owned() else {
                    self.desk.skip(place);
                    return Ok(Ok(()));
                };
                let (witness, id) = (self.clone(), id.to_owned());
                tokio::spawn(async move {
                    let verdict = match found.await {
                        Ok(found) => witness.verdict(Arc::new(found), data).await,
                        Err(error) => Err(error),
                    };
                    match verdict {
                        Ok(verdict) => witness.desk.note(place, &verdict),
                        Err(error) => witness.cannot_check(place, &id, &error.to_string()),
                    }
                    drop(permit);
                });
                Ok(Ok(()))
            }
            Policy::Enforce => {
                let verdict = self.verdict(Arc::new(found.await?), data).await?;
                self.desk.note(place, &verdict);
                Ok(match &verdict.outcome {
                    Outcome::Invalid(why) => Err(refusal(place, &verdict.id, why)),
                    _ => Ok(()),
                })
            }
        }
    }

    /// Counts what cannot be checked.
    pub fn cannot_check(&self, place: &'static str, id: &str, why: &str) {
        let outcome = Outcome::Unverifiable(why.to_owned());
        self.desk.note(place, &Verdict { id: id.to_owned(), signature_type: None, outcome });
    }

    /// Asks about all, for nobody who waits.
    async fn hear_all(&self, doubtful: Vec<Doubtful>) {
        if doubtful.is_empty() {
            return;
        }
        let Ok(_permit) = self.waiting.try_acquire() else {
            for Doubtful { id, place, why, .. } in doubtful {
                self.cannot_check(place, &id, &format!("{why}; and too much waits for the gateway to ask it"));
            }
            return;
        };
        let each = |doubtful: Doubtful| async move {
            let verdict = self.hear(&doubtful).await;
            self.desk.note(doubtful.place, &verdict);
        };
        futures::stream::iter(doubtful).for_each_concurrent(ASKED_AT_ONCE, each).await;
    }

    /// Asks about one, for somebody who waits, as long as somebody does.
    async fn hear_for(&self, doubtful: Doubtful, mut reply: oneshot::Sender<Option<String>>) {
        let verdict = tokio::select! {
            verdict = self.hear(&doubtful) => verdict,
            () = reply.closed() => return self.cannot_check(doubtful.place, &doubtful.id, &doubtful.why),
        };
        self.desk.note(doubtful.place, &verdict);
        let why = match &verdict.outcome {
            Outcome::Invalid(why) => Some(refusal(doubtful.place, &doubtful.id, why)),
            _ => None,
        };
        // Whoever asked may have gone.
        let _ = reply.send(why);
    }

    /// What the gateway makes of something doubtful.
    async fn hear(&self, doubtful: &Doubtful) -> Verdict {
        let (signature_type, outcome) = match self.outcome(doubtful).await {
            Ok(found) => found,
            Err(reason) => {
                let why = format!("{}; and {reason}", doubtful.why);
                (doubtful.signature_type, Outcome::Unverifiable(why))
            }
        };
        Verdict { id: doubtful.id.clone(), signature_type, outcome }
    }

    /// The outcome, or why the gateway is of no help.
    async fn outcome(&self, doubtful: &Doubtful) -> Result<(Option<u16>, Outcome), String> {
        let id = &doubtful.id;
        ids::check("its id", id).map_err(|error| error.to_string())?;
        let mark = Sha256::digest(doubtful.said.to_bytes()).into();
        if self.lock().confirmed.has(&mark) {
            return Ok((doubtful.signature_type, Outcome::Valid));
        }
        let _permit = self.asking.acquire().await.map_err(|closed| closed.to_string())?;
        self.may_ask(id)?;
        let timed_out = |_| Err(Silence::Fault(format!("the gateway did not give it within {ASK_TIME:?}")));
        let fetched = tokio::time::timeout(ASK_TIME, self.fetch(id)).await.unwrap_or_else(timed_out);
        let (found, data) = self.remember(id, fetched)?;
        let verdict = self.verdict(found.clone(), data.clone()).await.map_err(|error| error.to_string())?;
        match verdict.outcome {
            Outcome::Valid => {
                let outcome = doubtful.said.holds(&found, &data);
                if outcome == Outcome::Valid {
                    self.lock().confirmed.add(mark);
                }
                Ok((verdict.signature_type, outcome))
            }
            Outcome::Invalid(why) | Outcome::Unverifiable(why) => {
                Err(format!("what the gateway has under its id does not verify either: {why}"))
            }
        }
    }

    async fn fetch(&self, id: &str) -> Result<(Arc<Transaction>, Arc<[u8]>), Silence> {
        let fault = |error: Error| Silence::Fault(error.to_string());
        let found = self.gateway.transaction(id, Without::default()).await.map_err(fault)?;
        let found = found.ok_or_else(|| Silence::Absent("the gateway does not have it".to_owned()))?;
        let data = self.gateway.data(id, self.item_max).await.map_err(|error| match error {
            Error::NotFound(_) => Silence::Absent("the gateway does not have its data".to_owned()),
            other => fault(other),
        })?;
        Ok((Arc::new(found), data.into()))
    }

    /// The outcome for what a gateway gives as an item; if it is none, as a base-layer transaction.
    async fn verdict(&self, found: Arc<Transaction>, data: Arc<[u8]>) -> Result<Verdict, Error> {
        let (of, bytes) = (found.clone(), data.clone());
        let as_item = self.desk.settle(aside(move || subject_of_gateway(&of, &bytes)).await?).await?;
        // Only RSA signs for the base layer, and its type number is 1. Without a key the type is not known.
        let may_be_layer1 = matches!(as_item.signature_type, None | Some(1));
        if as_item.outcome == Outcome::Valid || !may_be_layer1 {
            return Ok(as_item);
        }
        let layer1 = match self.gateway.base_layer(&found.id).await {
            Ok(Some(layer1)) => layer1,
            Ok(None) => return Ok(as_item),
            Err(error) => {
                let why = format!("it is no item, and whether it is a base-layer transaction cannot be told: {error}");
                return Ok(Verdict { outcome: Outcome::Unverifiable(why), ..as_item });
            }
        };
        let subject = aside(move || subject_of_layer1(&found, &data, &layer1)).await?;
        let as_layer1 = self.desk.settle(subject).await?;
        Ok(if as_layer1.outcome == Outcome::Valid { as_layer1 } else { as_item })
    }

    fn may_ask(&self, id: &str) -> Result<(), String> {
        let (now, mut known) = (Instant::now(), self.lock());
        if known.rests_until.is_some_and(|until| now < until) {
            return Err("the gateway is left alone for a while after its faults".to_owned());
        }
        match known.absent.get(id) {
            Some((until, why)) if now < *until => Err(why.clone()),
            Some(_) => {
                known.absent.remove(id);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn remember<T>(&self, id: &str, fetched: Result<T, Silence>) -> Result<T, String> {
        let (now, mut known) = (Instant::now(), self.lock());
        let why = match fetched {
            Ok(found) => {
                known.faults = 0;
                return Ok(found);
            }
            Err(Silence::Absent(why)) => {
                known.faults = 0;
                why
            }
            Err(Silence::Fault(why)) => {
                known.faults += 1;
                if known.faults >= FAULTS_MAX {
                    known.faults = 0;
                    known.rests_until = Some(now + REST_TIME);
                }
                why
            }
        };
        if known.absent.len() >= ABSENT_MAX {
            known.absent.retain(|_, (until, _)| now < *until);
        }
        if known.absent.len() < ABSENT_MAX {
            known.absent.insert(id.to_owned(), (now + ABSENCE_TIME, why.clone()));
        }
        Err(why)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashing is work: off the threads that wait for sockets.
async fn aside(make: impl FnOnce() -> Subject + Send + 'static) -> Result<Subject, Error> {
    let made = tokio::task::spawn_blocking(make).await;
    made.map_err(|error| Error::Internal(format!("reading an item to check it stopped: {error}")))
}

#[cfg(test)]
mod tests;
