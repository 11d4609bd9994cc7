//! The ordered entries of a process, as a stream: schedule and crons merged, assignments filled in, the process itself
//! put first where its scheduler does not supply it.

use std::sync::Arc;

use futures::StreamExt;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Boundary, Checkpoint, End, Entry, Kind, Position, Process, Start,
    cron::{Timetable, parse_crons},
    dedup,
    gap::{Gap, Next},
    hash_chain::{CHECKED_FROM_BLOCK, HashChain},
    page::{Assignment, Node},
    pager::{From, Pager, To},
    upstream::Inner,
};
use crate::{
    Error,
    gateway::{Gateway, Transaction, Without, text_of},
    message::{self, Item, Slotting},
    tags::Tags,
    verify::Refused,
};

/// Entries made ahead of the consumer, besides the page that is being fetched.
const ENTRIES_AHEAD: usize = 8;
/// Assigned items fetched from the gateway at the same time, for one process.
const ITEMS_AT_ONCE: usize = 4;

/// A scheduler shows a message some time after the timestamp it gives it (it signs in between: 20 to 70 ms were seen).
/// Crons of the last gap fall only up to this long before the present, or a message could come to stand before a cron
/// that was evaluated. ms
const SETTLING_MS: u64 = 1000;

/// Entries in order. The next page is fetched while this one is consumed. Dropping it stops its work.
pub struct EntryStream {
    entries: mpsc::Receiver<Given>,
    /// Aborts its tasks when dropped.
    tasks: JoinSet<()>,
    ended: bool,
}

enum Given {
    // Boxed: an entry is large, the others are not.
    Entry(Box<Entry>),
    Failed(Error),
    /// Without this, a channel that closes is a reader that died, not the end.
    End,
}

impl EntryStream {
    pub(crate) fn open(upstream: Arc<Inner>, process: Arc<Process>, start: Start, end: End) -> Self {
        let mut tasks = JoinSet::new();
        // One page waits here while one is consumed and none is fetched before there is room for it.
        let (pages_in, pages) = mpsc::channel(1);
        let (entries_in, entries) = mpsc::channel(ENTRIES_AHEAD);
        let boot_only = matches!(&end, End::Message(Position { nonce: None, is_process: true, .. }));
        if !boot_only {
            let to = match &end {
                End::Message(position) => To { nonce: position.nonce, timestamp: Some(position.timestamp) },
                End::Timestamp(timestamp) => To { nonce: None, timestamp: Some(*timestamp) },
                End::Latest => To::default(),
            };
            let page_size = upstream.page_size;
            let pager = Pager::new(upstream.clone(), process.clone(), From::start(&start), to, page_size);
            tasks.spawn(read_pages(upstream.clone(), pager, pages_in));
        }
        let merger = Merger::new(upstream, process, start, end, pages, entries_in.clone());
        tasks.spawn(async move {
            let last = match merger {
                Ok(mut merger) => merger.run().await,
                Err(error) => Err(error),
            };
            let last = match last {
                Ok(()) => Given::End,
                Err(Stop::Failed(error)) => Given::Failed(error),
                Err(Stop::NobodyListens) => return,
            };
            let _ = entries_in.send(last).await;
        });
        Self { entries, tasks, ended: false }
    }

    /// The next entry; `None` after the last one, and after an error.
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        if self.ended {
            return None;
        }
        let given = self.entries.recv().await;
        self.take(given)
    }

    /// [`next`](Self::next) for a thread outside the runtime.
    ///
    /// # Panics
    /// On a thread that drives the runtime.
    pub fn next_blocking(&mut self) -> Option<Result<Entry, Error>> {
        if self.ended {
            return None;
        }
        let given = self.entries.blocking_recv();
        self.take(given)
    }

    fn take(&mut self, given: Option<Given>) -> Option<Result<Entry, Error>> {
        if let Some(Given::Entry(entry)) = given {
            return Some(Ok(*entry));
        }
        self.ended = true;
        self.tasks.abort_all();
        match given {
            Some(Given::End) => None,
            Some(Given::Failed(error)) => Some(Err(error)),
            _ => Some(Err(Error::Internal("the reader of the schedule stopped".to_owned()))),
        }
    }
}

/// What a page gives.
struct Read {
    nodes: Vec<Node>,
    /// What must not be evaluated.
    refused: Refused,
}

/// Reads pages, and has the signatures of each checked while the one before is evaluated.
async fn read_pages(upstream: Arc<Inner>, mut pager: Pager, pages: mpsc::Sender<Result<Read, Error>>) {
    while let Ok(room) = pages.reserve().await {
        match pager.next_page().await {
            Ok(Some(nodes)) => {
                let checked = match pager.take_body() {
                    Some(body) => upstream.witness.check_document(body).await,
                    None => Ok(Refused::default()),
                };
                match checked {
                    Ok(refused) => room.send(Ok(Read { nodes, refused })),
                    Err(error) => return room.send(Err(error)),
                }
            }
            Ok(None) => return,
            Err(error) => return room.send(Err(error)),
        }
    }
}

/// Why merging ended early.
enum Stop {
    Failed(Error),
    NobodyListens,
}

impl std::convert::From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

/// The last cron that was evaluated, in a gap that goes on.
struct Resume {
    timestamp: u64,
    block_height: u64,
    cron: String,
}

/// What closes a gap.
#[derive(Clone, Copy)]
enum RightEnd {
    /// The next scheduled entry.
    Scheduled { height: u64, nonce: u64 },
    /// The scheduler's present, or an earlier end that was asked for.
    Present { height: u64 },
}

impl RightEnd {
    fn at_nonce(self) -> String {
        match self {
            RightEnd::Scheduled { nonce, .. } => format!(" at nonce {nonce}"),
            RightEnd::Present { .. } => String::new(),
        }
    }
}

struct Merger {
    upstream: Arc<Inner>,
    process: Arc<Process>,
    end: End,
    pages: mpsc::Receiver<Result<Read, Error>>,
    entries: mpsc::Sender<Given>,
    timetable: Arc<Timetable>,
    chain: HashChain,
    /// Left end of the current gap.
    last: Boundary,
    resume: Option<Resume>,
    /// Whether the process itself may still have to be put first.
    boot_pending: bool,
}

impl Merger {
    fn new(
        upstream: Arc<Inner>,
        process: Arc<Process>,
        start: Start,
        end: End,
        pages: mpsc::Receiver<Result<Read, Error>>,
        entries: mpsc::Sender<Given>,
    ) -> Result<Self, Stop> {
        let crons = parse_crons(&process.tags)?;
        let timetable = Arc::new(Timetable::new(&crons, process.block_height, process.timestamp));
        let mut chain = HashChain { checked: process.block_height >= CHECKED_FROM_BLOCK, ..Default::default() };
        let boot_pending = start == Start::Cold;
        let (last, resume) = match start {
            Start::Cold => {
                let origin = Boundary {
                    timestamp: process.timestamp,
                    block_height: process.block_height,
                    nonce: None,
                    epoch: None,
                };
                (origin, None)
            }
            Start::After(checkpoint) => {
                let last = checkpoint.boundary();
                let resume = checkpoint.cron.map(|cron| Resume {
                    timestamp: checkpoint.timestamp,
                    block_height: checkpoint.block_height,
                    cron,
                });
                chain.assignment_id = checkpoint.assignment_id;
                chain.hash_chain = checkpoint.hash_chain;
                (last, resume)
            }
        };
        Ok(Self { upstream, process, end, pages, entries, timetable, chain, last, resume, boot_pending })
    }

    async fn run(&mut self) -> Result<(), Stop> {
        // Asked before the pages end: what is scheduled until now will be on them.
        let present = match self.end {
            End::Message(_) => None,
            _ if self.timetable.is_empty() => None,
            _ => Some(self.upstream.now(&self.process).await?),
        };
        if self.merge_schedule().await? {
            return Ok(());
        }
        if let Some((now, height)) = present {
            let settled = now.saturating_sub(SETTLING_MS);
            let right = match self.end {
                End::Timestamp(to) => to.min(settled),
                _ => settled,
            };
            if self.last.timestamp / 1000 < right / 1000 {
                self.merge_crons(right, RightEnd::Present { height }).await?;
            }
        }
        self.give_boot().await
    }

    /// Gives the schedule and the crons between its elements. True: the end was reached, nothing comes after it.
    async fn merge_schedule(&mut self) -> Result<bool, Stop> {
        while let Some(page) = self.pages.recv().await {
            let upstream = self.upstream.clone();
            let Read { nodes, mut refused } = page?;
            let filled = nodes.into_iter().map(|node| {
                let upstream = upstream.clone();
                async move {
                    let assigned = match node.item {
                        Some(_) => None,
                        None => Some(fetch_assigned(&upstream, &node).await),
                    };
                    (node, assigned)
                }
            });
            let mut filled = futures::stream::iter(filled).buffered(ITEMS_AT_ONCE);
            while let Some((node, assigned)) = filled.next().await {
                let a = &node.assignment;
                match &self.end {
                    End::Timestamp(to) if a.timestamp > *to => return Ok(false),
                    End::Message(Position { nonce: Some(nonce), .. }) if a.nonce > *nonce => return Ok(true),
                    _ => {}
                }
                if let Some(why) = refused.why(&a.id).await {
                    return Err(Stop::Failed(Error::Upstream(format!(
                        "Encountered Error fetching scheduled messages from Scheduler Unit: schedule of process {}, \
                         nonce {}: {why}",
                        self.process.id, a.nonce
                    ))));
                }
                // Before its crons: a link that does not fit says nothing true about the time either.
                let chain = self.chain.with(node.message_id(), &a.id, a.hash_chain.as_deref())?;
                let right = RightEnd::Scheduled { height: a.block_height, nonce: a.nonce };
                self.merge_crons(a.timestamp, right).await?;
                self.chain = chain;
                if node.is_process() {
                    self.boot_pending = false;
                }
                self.give_boot().await?;
                let is_last = self.is_last(&node);
                match assigned {
                    Some(item) => self.give_scheduled(&node.assignment, &item?, Kind::Assignment).await?,
                    None => {
                        let item = node.item.as_ref().expect("what was not assigned was sent");
                        self.give_scheduled(&node.assignment, item, Kind::Scheduled).await?;
                    }
                }
                if is_last {
                    return Ok(true);
                }
            }
        }
        match &self.end {
            End::Message(Position { is_process: true, nonce: None, .. }) => {
                self.give_boot().await?;
                Ok(true)
            }
            End::Message(wanted) => {
                let reached = match self.last.nonce {
                    Some(nonce) if wanted.nonce.is_some_and(|wanted| nonce >= wanted) => {
                        return Ok(true);
                    }
                    Some(nonce) => format!("ends at nonce {nonce}"),
                    None => "is empty".to_owned(),
                };
                let wanted =
                    wanted.nonce.map_or(format!("timestamp {}", wanted.timestamp), |nonce| format!("nonce {nonce}"));
                Err(Stop::Failed(Error::Upstream(format!(
                    "Encountered Error fetching scheduled messages from Scheduler Unit: schedule of process {} {reached}, \
                     before the message at {wanted}",
                    self.process.id
                ))))
            }
            End::Timestamp(_) | End::Latest => Ok(false),
        }
    }

    fn is_last(&self, node: &Node) -> bool {
        let End::Message(wanted) = &self.end else {
            return false;
        };
        let a = &node.assignment;
        match wanted.nonce {
            Some(nonce) => a.nonce == nonce,
            None => {
                wanted.assignment_id.as_deref() == Some(&*a.id)
                    || wanted.message_id.as_deref() == Some(node.message_id())
                    || (wanted.assignment_id.is_none()
                        && wanted.message_id.is_none()
                        && a.timestamp >= wanted.timestamp)
            }
        }
    }

    /// Gives the crons from the last scheduled entry to `right` (ms, exclusive).
    async fn merge_crons(&mut self, right: u64, end: RightEnd) -> Result<(), Stop> {
        let mut resume = self.resume.take();
        if self.timetable.is_empty() {
            return Ok(());
        }
        let table = self.timetable.clone();
        let rules: Vec<_> = table.rules().collect();
        let from = resume.as_ref().map(|resume| (resume.timestamp, resume.block_height));
        let mut gap = Gap::new(&table, self.last.timestamp, self.last.block_height, right, from);
        loop {
            match gap.next() {
                Next::End => return Ok(()),
                Next::NeedBlock(after) => {
                    let block = self.upstream.gateway.block_after(after).await?;
                    let missing = block.is_none_or(|block| block.height > after + 1 && gap.needs_block_after(after));
                    let passed = match end {
                        RightEnd::Scheduled { height, .. } | RightEnd::Present { height } => after < height,
                    };
                    // Crons of time only take a block's height with them; crons of blocks would be lost.
                    if missing && passed && table.counts_blocks() {
                        match end {
                            RightEnd::Present { .. } if block.is_none() => gap.stop_at_last_block(),
                            RightEnd::Present { height } | RightEnd::Scheduled { height, .. } => {
                                return Err(Stop::Failed(Error::Upstream(format!(
                                    "Can not communicate with gateway to retrieve block metadata: it does not have block \
                                     {}, and the schedule of process {} is at block {height}{}",
                                    after + 1,
                                    self.process.id,
                                    end.at_nonce()
                                ))));
                            }
                        }
                        continue;
                    }
                    gap.give_block(block);
                }
                Next::Tick(tick) => {
                    let rule = rules[tick.rule];
                    if let Some(last) = &resume {
                        // What was evaluated before does not fall again; it ends with the very last of it.
                        let is_last = tick.timestamp == last.timestamp && rule.id == last.cron;
                        let is_before = tick.timestamp <= last.timestamp;
                        if is_last || !is_before {
                            resume = None;
                        }
                        if is_last || is_before {
                            continue;
                        }
                    }
                    self.give_boot().await?;
                    let ordinate = self.ordinate();
                    let checkpoint = Checkpoint {
                        timestamp: tick.timestamp,
                        ordinate: ordinate.clone(),
                        nonce: None,
                        epoch: None,
                        block_height: tick.block_height,
                        cron: Some(rule.id.clone()),
                        assignment_id: self.chain.assignment_id.clone(),
                        hash_chain: self.chain.hash_chain.clone(),
                        last_scheduled: Some(self.last.clone()),
                    };
                    let entry = Entry {
                        kind: Kind::Cron,
                        message_json: message::cron_json(&self.process, &rule.tags, tick.timestamp, tick.block_height),
                        message_id: None,
                        name: format!("Cron Message {},{ordinate},{}", tick.timestamp, rule.id),
                        timestamp: tick.timestamp,
                        ordinate,
                        nonce: None,
                        epoch: None,
                        block_height: tick.block_height,
                        cron: Some(rule.id.clone()),
                        assignment_id: None,
                        hash_chain: None,
                        dedup_key: None,
                        store: true,
                        remaining: self.remaining(self.last.nonce),
                        owner: self.process.owner.clone(),
                        action: rule.tags.first("Action").map(str::to_owned),
                        checkpoint,
                    };
                    self.give(entry).await?;
                }
            }
        }
    }

    /// Gives the process itself, if it still has to come first.
    async fn give_boot(&mut self) -> Result<(), Stop> {
        if !std::mem::take(&mut self.boot_pending) {
            return Ok(());
        }
        let process = self.process.clone();
        let upstream = &self.upstream;
        let bytes: Arc<[u8]> = upstream.gateway.data(&process.id, upstream.item_max).await?.into();
        let data = text_of(&bytes);
        if upstream.witness.is_open() {
            let (gateway, id) = (upstream.gateway.clone(), process.id.clone());
            let found = async move { transaction(&gateway, &id, Without::default()).await };
            upstream.witness.check_given("process", &process.id, found, bytes).await?.map_err(Error::Upstream)?;
        }
        let ordinate = "0".to_owned();
        let origin =
            Boundary { timestamp: process.timestamp, block_height: process.block_height, nonce: None, epoch: None };
        let checkpoint = Checkpoint {
            timestamp: process.timestamp,
            ordinate: ordinate.clone(),
            nonce: None,
            epoch: None,
            block_height: process.block_height,
            cron: None,
            assignment_id: None,
            hash_chain: None,
            last_scheduled: Some(origin),
        };
        self.give(Entry {
            kind: Kind::Process,
            message_json: message::process_json(&process, &data),
            message_id: Some(process.id.clone()),
            name: format!("Process Message {}", process.id),
            timestamp: process.timestamp,
            ordinate,
            nonce: None,
            epoch: None,
            block_height: process.block_height,
            cron: None,
            assignment_id: None,
            hash_chain: None,
            dedup_key: None,
            store: false,
            remaining: self.remaining(None),
            owner: process.owner.clone(),
            action: process.tags.first("Action").map(str::to_owned),
            checkpoint,
        })
        .await
    }

    async fn give_scheduled(&mut self, a: &Assignment, item: &Item, kind: Kind) -> Result<(), Stop> {
        let at = Slotting {
            epoch: a.epoch,
            nonce: a.nonce,
            timestamp: a.timestamp,
            block_height: a.block_height,
            hash_chain: a.hash_chain.as_deref(),
        };
        let dedup_key = match kind {
            Kind::Assignment => Some(item.id.clone()),
            _ => item.forwarded_by().map(|_| dedup::deep_hash(item)),
        };
        let what = if kind == Kind::Assignment { "Assigned" } else { "Scheduled" };
        self.last = Boundary {
            timestamp: a.timestamp,
            block_height: a.block_height,
            nonce: Some(a.nonce),
            epoch: Some(a.epoch),
        };
        let checkpoint = Checkpoint {
            timestamp: a.timestamp,
            ordinate: a.nonce.to_string(),
            nonce: Some(a.nonce),
            epoch: Some(a.epoch),
            block_height: a.block_height,
            cron: None,
            assignment_id: Some(a.id.clone()),
            hash_chain: a.hash_chain.clone(),
            last_scheduled: Some(self.last.clone()),
        };
        self.give(Entry {
            kind,
            message_json: message::scheduled_json(item, at),
            message_id: Some(item.id.clone()),
            name: format!("{what} Message {} {}:{}", item.id, a.timestamp, a.nonce),
            timestamp: a.timestamp,
            ordinate: a.nonce.to_string(),
            nonce: Some(a.nonce),
            epoch: Some(a.epoch),
            block_height: a.block_height,
            cron: None,
            assignment_id: Some(a.id.clone()),
            hash_chain: a.hash_chain.clone(),
            dedup_key,
            store: true,
            remaining: self.remaining(Some(a.nonce)),
            owner: item.owner.clone(),
            action: item.tags.first("Action").map(str::to_owned),
            checkpoint,
        })
        .await
    }

    async fn give(&self, entry: Entry) -> Result<(), Stop> {
        self.entries.send(Given::Entry(Box::new(entry))).await.map_err(|_| Stop::NobodyListens)
    }

    /// Place of a cron among results: that of the scheduled entry before it.
    fn ordinate(&self) -> String {
        self.last.nonce.unwrap_or(0).to_string()
    }

    /// Nonces after `nonce` up to the end's.
    fn remaining(&self, nonce: Option<u64>) -> Option<u64> {
        let End::Message(wanted) = &self.end else {
            return None;
        };
        match (wanted.nonce, nonce) {
            (Some(wanted), Some(nonce)) => Some(wanted.saturating_sub(nonce)),
            (Some(wanted), None) => Some(wanted + 1),
            (None, _) => wanted.is_process.then_some(0),
        }
    }
}

/// The item that an assignment names, from the gateway, without what the assignment excludes.
async fn fetch_assigned(upstream: &Inner, node: &Node) -> Result<Item, Error> {
    let id = node.message_id();
    let excluded = |part: &str| node.assignment.exclude.iter().any(|excluded| excluded == part);
    let without = Without { signature: excluded("Signature"), anchor: excluded("Anchor"), tags: excluded("Tags") };
    let data = async {
        match excluded("Data") {
            true => Ok(None),
            false => upstream.gateway.data(id, upstream.item_max).await.map(|data| Some(Arc::<[u8]>::from(data))),
        }
    };
    // All of an item is needed to check it, whatever of it the process is going to see.
    let witness = &upstream.witness;
    let asked = if witness.is_open() { Without::default() } else { without };
    // A description that is missing counts after data that are: what clients are told then is that there is nothing.
    let (found, data) = futures::future::try_join(upstream.gateway.transaction(id, asked), data).await?;
    let found = found.ok_or_else(|| no_transaction(id))?;
    if witness.is_open() {
        let given = found.clone();
        match &data {
            Some(data) => {
                let given = async move { Ok(given) };
                witness.check_given("assigned", id, given, data.clone()).await?.map_err(Error::Upstream)?;
            }
            None => witness.cannot_check("assigned", id, "its assignment excludes its data"),
        }
    }
    Ok(Item {
        id: found.id,
        // A gateway may give more than it was asked for.
        signature: found.signature.filter(|_| !without.signature),
        data: data.map(|data| Value::String(text_of(&data))),
        owner: found.owner,
        target: found.recipient,
        anchor: found.anchor.filter(|_| !without.anchor),
        tags: if without.tags { Tags::default() } else { found.tags },
        sent: false,
    })
}

async fn transaction(gateway: &Gateway, id: &str, without: Without) -> Result<Transaction, Error> {
    let found = gateway.transaction(id, without).await?;
    found.ok_or_else(|| no_transaction(id))
}

fn no_transaction(id: &str) -> Error {
    Error::Upstream(format!("Gateway returned no transaction for '{id}'"))
}
