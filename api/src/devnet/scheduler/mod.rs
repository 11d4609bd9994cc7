//! The scheduler: gives every item a place in its process's schedule and signs for it.
//!
//! It behaves as the real one does with PostgreSQL (exact pages), error texts included. Known differences: it refuses a
//! process posted twice, where the real one leaves a hole in the nonces; it takes base-layer assignments, which the real one
//! checks and then refuses; `limit=0` is an error instead of a closed connection; of signatures it checks Arweave's only.

pub mod routes;
pub mod schedule;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use dashmap::DashMap;
use sha2::{Digest, Sha256};

use lockstep_cu::item::{DataItem, Draft, Id, Tag, Wallet, deep_hash, parse_id, tags, to_base64url};

use super::clock::now_ms;
use super::ledger::Ledger;
use schedule::{Birth, DeepHash, Entry, Place, Schedule, Tip};

/// Entries of a page that does not say how many it wants.
const PAGE_LIMIT_DEFAULT: i64 = 100;
/// Confirmations a base-layer transaction needs before it can be assigned, unless the process's tag `Settlement-Depth` says.
const SETTLEMENT_DEPTH_DEFAULT: u64 = 20;

/// Why the scheduler does not do what it was asked: always status 400 with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// An answer to a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// Of the item; for an assignment, of the assignment.
    pub id: Id,
    /// When it was answered, ms: not the item's timestamp.
    pub timestamp: u64,
}

/// What an assignment may say besides process and message.
#[derive(Debug, Clone, Default)]
pub struct AssignOptions {
    /// The message is a transaction of the base layer.
    pub base_layer: bool,
    /// Parts of the message to leave out, comma-separated.
    pub exclude: Option<String>,
}

/// Bounds of a page.
#[derive(Debug, Clone, Default)]
pub struct PageQuery {
    /// Timestamps: after this,
    pub from: Option<i64>,
    /// and up to this.
    pub to: Option<i64>,
    /// Nonces: after this (either of the two switches timestamps off),
    pub from_nonce: Option<i64>,
    /// and up to this.
    pub to_nonce: Option<i64>,
    /// Entries, the process included.
    pub limit: Option<i64>,
    /// Assignments' binary anchors are wanted.
    pub show_anchor: bool,
}

/// Entries found for a page.
#[derive(Debug)]
pub struct Found {
    /// The process, if the page begins with it.
    pub birth: Option<Arc<Birth>>,
    /// Entries in order.
    pub entries: Vec<Entry>,
    /// Whether more follow.
    pub has_next: bool,
    /// Whether cursors are nonces.
    pub by_nonce: bool,
}

/// The scheduler.
#[derive(Debug)]
pub struct Scheduler {
    wallet: Arc<Wallet>,
    ledger: Arc<Ledger>,
    schedules: DashMap<Id, Arc<Schedule>>,
    /// Message and assignment ids to where they stand; the oldest place of each.
    places: DashMap<Id, (Id, usize)>,
    /// Assignments of processes to their processes.
    births: DashMap<Id, Id>,
}

/// Holding a process's tip only hashes and signs: nothing there panics.
const UNPOISONED: &str = "no panics while a schedule's tip is held";

impl Scheduler {
    /// A scheduler without processes.
    pub fn new(wallet: Arc<Wallet>, ledger: Arc<Ledger>) -> Self {
        Self { wallet, ledger, schedules: DashMap::new(), places: DashMap::new(), births: DashMap::new() }
    }

    /// Its address, as it is written.
    pub fn address(&self) -> String {
        to_base64url(self.wallet.address())
    }

    /// The store it shares with the gateway.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// A process that was spawned here.
    pub fn process(&self, process: &Id) -> Option<Arc<Birth>> {
        self.schedule(process)?.birth()
    }

    /// Block height as it is written: 12 digits.
    pub fn height_text(&self) -> String {
        format!("{:012}", self.ledger.clock().height())
    }

    /// Schedules a process or a message. Takes milliseconds of CPU: call it off the threads that do I/O.
    ///
    /// # Errors
    /// A [`Refusal`] for bytes that are no item, wrong signatures, missing tags, repeats.
    pub fn post(&self, bytes: &[u8]) -> Result<Scheduled, Refusal> {
        let item = DataItem::parse(bytes).map_err(|error| byte_error(&error.to_string()))?;
        item.verify().map_err(|error| byte_error(&error.to_string()))?;
        self.post_verified(Arc::new(item))
    }

    /// As [`Scheduler::post`], for an item whose signature the caller has checked or made.
    ///
    /// # Errors
    /// As [`Scheduler::post`].
    pub fn post_verified(&self, item: Arc<DataItem>) -> Result<Scheduled, Refusal> {
        let kind = item.tag_of(&["Type", "type"]).ok_or("Type tag not present")?;
        let is_process = match kind {
            "Process" => true,
            "Message" => false,
            _ => return Err("Unsupported Type tag value".into()),
        };
        let id = item.id();
        let target = match (is_process, item.target()) {
            (true, _) => id,
            (false, Some(target)) => *target,
            (false, None) => return Err("Length mismatch 32 - ".into()),
        };
        if item.tag_of(&["Data-Protocol", "data-protocol"]).is_none() {
            return Err("Data-Protocol tag not present".into());
        }
        if let Some(link) = item.tags().iter().find(|tag| tag.name.ends_with("+link") || tag.value.ends_with("+link")) {
            return Err(Refusal(format!("Tag {} cannot contain +link", link.name)));
        }
        let schedule = self.schedules.entry(target).or_default().clone();
        let mut tip = schedule.tip.lock().expect(UNPOISONED);
        if self.is_scheduled(&id) || (is_process && schedule.birth().is_some()) {
            return Err("MessageExists(\"Message already exists\")".into());
        }
        let place = tip.next(&target, now_ms());
        let assignment = if is_process {
            self.bear(&schedule, &item, place)?
        } else {
            let pushed = item.tag("From-Process").map(|_| deep_hash_of(&item));
            tip.refuse_repeat(pushed.as_ref())?;
            let assignment = self.assignment(&target, place, Some(&item.id_text()), None)?;
            tip.deep_hashes.extend(pushed);
            self.append(&schedule, target, id, Some(item.clone()), assignment, place)
        };
        tip.take(place, assignment.id());
        drop(tip);
        tracing::info!(kind, id = item.id_text(), process = to_base64url(&target), nonce = place.nonce, "scheduled");
        self.ledger.insert_item(item);
        self.ledger.insert_item(assignment);
        Ok(Scheduled { id, timestamp: now_ms() })
    }

    /// Assigns a message that is on the gateway to a process. As slow as [`Scheduler::post`].
    ///
    /// # Errors
    /// A [`Refusal`] for an unknown process or message, or a repeat.
    pub fn assign(&self, process: &str, message: &str, options: &AssignOptions) -> Result<Scheduled, Refusal> {
        let no_process = || Refusal::from("NotFound(\"Process not found\")");
        let process_id = parse_id(process).ok_or_else(no_process)?;
        let schedule = self.schedule(&process_id).ok_or_else(no_process)?;
        let birth = schedule.birth().ok_or_else(no_process)?;
        if message.len() != 43 {
            return Err(builder_error("assign param must be 43 characters"));
        }
        let unknown = || builder_error("Transaction not found");
        let transaction = parse_id(message).and_then(|id| self.ledger.get(&id)).ok_or_else(unknown)?;
        let deep_hash = if options.base_layer {
            let depth = birth.process.tag("Settlement-Depth").and_then(|depth| depth.parse().ok());
            let confirmations = self.ledger.clock().height().saturating_sub(transaction.height);
            if confirmations < depth.unwrap_or(SETTLEMENT_DEPTH_DEFAULT) {
                return Err(builder_error("Not enough confirmations to assign"));
            }
            None
        } else {
            Some(deep_hash_of_parts(
                transaction.recipient(),
                transaction.anchor(),
                transaction.tags(),
                transaction.data(),
            ))
        };
        let mut tip = schedule.tip.lock().expect(UNPOISONED);
        tip.refuse_repeat(deep_hash.as_ref())?;
        let place = tip.next(&process_id, now_ms());
        let assignment = self.assignment(&process_id, place, Some(message), options.exclude.as_deref())?;
        tip.deep_hashes.extend(deep_hash);
        let assignment = self.append(&schedule, process_id, transaction.id, None, assignment, place);
        tip.take(place, assignment.id());
        drop(tip);
        tracing::info!(kind = "Assignment", id = message, process, nonce = place.nonce, "scheduled");
        let id = assignment.id();
        self.ledger.insert_item(assignment);
        Ok(Scheduled { id, timestamp: now_ms() })
    }

    /// The entry of a message or assignment id: the oldest with it, and a bare assignment only by its own id.
    pub fn find(&self, id: &Id) -> Option<Entry> {
        let (process, index) = *self.places.get(id)?;
        let entry = self.schedule(&process)?.entry(index)?;
        (entry.message.is_some() || entry.assignment.id() == *id).then_some(entry)
    }

    /// The process whose page an id asks for: a process's id or that of its assignment.
    pub fn process_of(&self, id: &Id) -> Option<Id> {
        self.process(id).map(|_| *id).or_else(|| self.births.get(id).map(|process| *process))
    }

    /// The newest message of a process; none while it has only itself.
    pub fn latest(&self, process: &Id) -> Option<Entry> {
        self.schedule(process)?.latest()
    }

    /// A page of a process that was spawned here.
    ///
    /// # Errors
    /// A [`Refusal`] for limits that cannot be met, and unknown processes.
    pub fn page(&self, process: &Id, query: &PageQuery) -> Result<Found, Refusal> {
        let unknown = || Refusal::from("Message or Process not found");
        let schedule = self.schedule(process).ok_or_else(unknown)?;
        let birth = schedule.birth().ok_or_else(unknown)?;
        let by_nonce = query.from_nonce.is_some() || query.to_nonce.is_some();
        let begins = if by_nonce { query.from_nonce.is_none_or(|nonce| nonce == -1) } else { query.from.is_none() };
        let limit = query.limit.unwrap_or(PAGE_LIMIT_DEFAULT) - i64::from(begins);
        let limit = usize::try_from(limit).map_err(|_| {
            Refusal(format!("DatabaseError(\"limit {} is too small\")", query.limit.unwrap_or_default()))
        })?;
        let (from, to) = if by_nonce { (query.from_nonce, query.to_nonce) } else { (query.from, query.to) };
        let key = |entry: &Entry| {
            let key = if by_nonce { entry.nonce } else { entry.timestamp };
            i64::try_from(key).unwrap_or(i64::MAX)
        };
        let (entries, has_next) = schedule.slice(
            |entry| from.is_some_and(|from| key(entry) <= from),
            |entry| to.is_none_or(|to| key(entry) <= to),
            limit,
        );
        Ok(Found { birth: begins.then_some(birth), entries, has_next, by_nonce })
    }

    fn schedule(&self, process: &Id) -> Option<Arc<Schedule>> {
        self.schedules.get(process).map(|schedule| schedule.value().clone())
    }

    /// Whether this message stands in a schedule as itself.
    fn is_scheduled(&self, id: &Id) -> bool {
        self.find(id).is_some_and(|entry| entry.message.is_some())
    }

    fn bear(&self, schedule: &Schedule, process: &Arc<DataItem>, place: Place) -> Result<Arc<DataItem>, Refusal> {
        if process.tag("Module").is_none() || process.tag("Scheduler").is_none() {
            return Err("Required Module and Scheduler tags for Process type not present".into());
        }
        if let Some(boot) = process.tag("On-Boot").filter(|boot| *boot != "Data")
            && !parse_id(boot).is_some_and(|id| self.ledger.contains(&id))
        {
            return Err("Invalid tx id for On-Boot tag".into());
        }
        let id = process.id();
        let assignment = self.assignment(&id, place, None, None)?;
        self.births.insert(assignment.id(), id);
        schedule.bear(Birth {
            process: process.clone(),
            assignment: assignment.clone(),
            nonce: place.nonce,
            timestamp: place.timestamp,
            block: assignment.tag("Block-Height").unwrap_or_default().to_owned(),
        });
        Ok(assignment)
    }

    fn append(
        &self,
        schedule: &Schedule,
        process: Id,
        message_id: Id,
        message: Option<Arc<DataItem>>,
        assignment: Arc<DataItem>,
        place: Place,
    ) -> Arc<DataItem> {
        let Place { nonce, timestamp, .. } = place;
        let index = schedule.append(Entry { message, assignment: assignment.clone(), nonce, timestamp });
        for id in [message_id, assignment.id()] {
            self.places.entry(id).or_insert((process, index));
        }
        assignment
    }

    fn assignment(
        &self,
        process: &Id,
        place: Place,
        message: Option<&str>,
        exclude: Option<&str>,
    ) -> Result<Arc<DataItem>, Refusal> {
        let mut tags = vec![
            Tag::new("Process", to_base64url(process)),
            Tag::new("Epoch", "0"),
            Tag::new("Nonce", place.nonce.to_string()),
            Tag::new("Hash-Chain", to_base64url(&place.chain)),
            Tag::new("Block-Height", self.height_text()),
            Tag::new("Timestamp", place.timestamp.to_string()),
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Type", "Assignment"),
            Tag::new("Variant", "ao.TN.1"),
        ];
        tags.extend(message.map(|id| Tag::new("Message", id)));
        tags.extend(exclude.into_iter().flat_map(|list| list.split(',')).map(|part| Tag::new("Exclude", part)));
        // The real one's anchors are random; derived ones differ as surely, since no place is taken twice.
        let anchor = Sha256::new().chain_update(place.chain).chain_update(place.timestamp.to_le_bytes()).finalize();
        let draft = Draft { target: None, anchor: Some(anchor.into()), tags, data: Vec::new() };
        self.wallet.sign(draft).map(Arc::new).map_err(|error| builder_error(&error.to_string()))
    }
}

impl Tip {
    fn refuse_repeat(&self, pushed: Option<&DeepHash>) -> Result<(), Refusal> {
        match pushed {
            Some(hash) if self.deep_hashes.contains(hash) => Err("MessageExists(\"Deep hash already exists\")".into()),
            _ => Ok(()),
        }
    }
}

/// How the real scheduler words what is wrong inside an item.
fn byte_error(text: &str) -> Refusal {
    builder_error(&format!("Byte error in builder: ByteError({text:?})"))
}

fn builder_error(text: &str) -> Refusal {
    Refusal(format!("error in builder: BuilderError({text:?})"))
}

/// What tells pushed messages apart: everything but who signed it and what it was pushed for.
fn deep_hash_of(item: &DataItem) -> DeepHash {
    let target = item.target().map_or(&[][..], |id| id);
    deep_hash_of_parts(target, item.anchor().map_or(&[], |anchor| anchor), item.tags(), item.data())
}

fn deep_hash_of_parts(target: &[u8], anchor: &[u8], all_tags: &[Tag], data: &[u8]) -> DeepHash {
    let mut kept: Vec<Tag> = all_tags.iter().filter(|tag| tag.name != "Pushed-For").cloned().collect();
    kept.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    let tags = tags::encode(&kept).expect("these tags, or more, have been encoded before");
    deep_hash::list(&[b"dataitem", b"1", b"1", b"", target, anchor, &tags, data])
}

/// Reading the first tag of several spellings.
trait Spelt {
    fn tag_of(&self, spellings: &[&str]) -> Option<&str>;
}

impl Spelt for DataItem {
    fn tag_of(&self, spellings: &[&str]) -> Option<&str> {
        let spelt = |tag: &&Tag| spellings.contains(&tag.name.as_str());
        self.tags().iter().find(spelt).map(|tag| tag.value.as_str())
    }
}
