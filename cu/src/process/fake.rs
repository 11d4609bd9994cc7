//! Stand-ins for tests: a network whose schedules are lists in memory, and an engine whose guests do what a message's
//! `Data` says.
//!
//! A guest is a counter. `Data` is one of: `inc` (count, and say so), `say` (the count, unchanged), `error` (count, then
//! an `Error`, so that the count is not kept), `throw`, `random` (a result that is never the same), `grow N` (hold N bytes),
//! `sleep N` (ms), `gate` (wait until let go, then `inc`), `timeout-once`, `break-once`, `panic-once` (fail once, then `inc`), `timeout`.
//! In lanes they do the same, but for `lane-bail` (comes back), `lane-lost` and `lane-panic` (the adapter fails, once),
//! `lane-frame N` (`sleep N`, which comes back until lanes are compiled again), `lane-never` (comes back, and lanes
//! that are compiled again for it are refused), `lane-wrong` (says something else there) and `lane-astray` (has another
//! memory afterwards).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use lockstep_jit::{
    Call, Evaluation, ModuleFormat, Outcome,
    gpu::Lost,
    lanes::{Bail, Came, Change, HandedBack, Stamp, Visit},
};
use serde_json::{Value, json};

use super::source::{Entries, Source};
use crate::{
    Error,
    engines::{Evaluator, Live, Program, Seating},
    module::ModuleInfo,
    schedule::{Boundary, Checkpoint, End, Entry, Kind, Position, Process, Start},
    tags::Tags,
};

/// Timestamp of nonce 0; nonce `n` stands at `ORIGIN + 10 * n` unless said otherwise.
pub const ORIGIN: u64 = 1_000_000;

/// A network of schedules.
#[derive(Default)]
pub struct Network {
    schedules: Mutex<HashMap<String, Schedule>>,
    /// Modules' bytes, by id; a process's module is `module-<process>` unless it has its own.
    pub shared_module: AtomicBool,
    pub streams_opened: AtomicUsize,
    pub streams_open_max: AtomicUsize,
    pub module_fetches: AtomicUsize,
    pub entry_delay_ms: AtomicU64,
}

#[derive(Default)]
struct Schedule {
    entries: Vec<Entry>,
    broken: HashSet<u64>,
    streams_open: Arc<AtomicUsize>,
}

impl Network {
    /// A process that its scheduler supplies as nonce 0, followed by these messages.
    pub fn spawn(&self, pid: &str, messages: &[&str]) {
        self.push(pid, entry(pid, 0, ORIGIN, "say", Some(pid.to_owned())));
        for data in messages {
            self.append(pid, data);
        }
    }

    /// A process that its scheduler does not supply.
    pub fn spawn_old(&self, pid: &str, messages: &[&str]) {
        let mut boot = entry(pid, 0, ORIGIN - 1, "inc", Some(pid.to_owned()));
        (boot.kind, boot.nonce, boot.epoch, boot.store) = (Kind::Process, None, None, false);
        (boot.assignment_id, boot.checkpoint.nonce, boot.checkpoint.assignment_id) = (None, None, None);
        boot.checkpoint.last_scheduled = Some(Boundary { timestamp: ORIGIN - 1, ..Boundary::default() });
        self.push(pid, boot);
        for data in messages {
            self.append(pid, data);
        }
    }

    /// One more message; gives its id.
    pub fn append(&self, pid: &str, data: &str) -> String {
        let nonce = self.next_nonce(pid);
        self.append_at(pid, data, ORIGIN + 10 * nonce)
    }

    pub fn append_at(&self, pid: &str, data: &str, timestamp: u64) -> String {
        let nonce = self.next_nonce(pid);
        let entry = entry(pid, nonce, timestamp, data, None);
        let id = entry.message_id.clone().unwrap();
        self.push(pid, entry);
        id
    }

    /// A forwarded message with this content.
    pub fn append_forwarded(&self, pid: &str, data: &str, content: &str) -> String {
        let id = self.append(pid, data);
        self.change_last(pid, |entry| entry.dedup_key = Some(content.to_owned()));
        id
    }

    pub fn append_cron(&self, pid: &str, data: &str, timestamp: u64, cron: &str) {
        let last = self.schedules.lock().unwrap()[pid].entries.last().unwrap().clone();
        let mut cron_entry = entry(pid, 0, timestamp, data, None);
        (cron_entry.kind, cron_entry.cron) = (Kind::Cron, Some(cron.to_owned()));
        (cron_entry.message_id, cron_entry.assignment_id, cron_entry.nonce, cron_entry.epoch) =
            (None, None, None, None);
        cron_entry.ordinate = last.ordinate.clone();
        cron_entry.name = cron.to_owned();
        cron_entry.checkpoint = Checkpoint {
            timestamp,
            ordinate: last.ordinate,
            nonce: None,
            epoch: None,
            block_height: 1,
            cron: Some(cron.to_owned()),
            ..last.checkpoint
        };
        self.push(pid, cron_entry);
    }

    pub fn change_last(&self, pid: &str, change: impl FnOnce(&mut Entry)) {
        change(self.schedules.lock().unwrap().get_mut(pid).unwrap().entries.last_mut().unwrap());
    }

    pub fn break_chain(&self, pid: &str, nonce: u64, broken: bool) {
        let mut schedules = self.schedules.lock().unwrap();
        let set = &mut schedules.get_mut(pid).unwrap().broken;
        if broken {
            set.insert(nonce)
        } else {
            set.remove(&nonce)
        };
    }

    fn push(&self, pid: &str, entry: Entry) {
        self.schedules.lock().unwrap().entry(pid.to_owned()).or_default().entries.push(entry);
    }

    fn next_nonce(&self, pid: &str) -> u64 {
        let schedules = self.schedules.lock().unwrap();
        let entries = schedules.get(pid).map_or(&[][..], |s| &s.entries);
        entries.iter().filter_map(|e| e.nonce).max().map_or(0, |n| n + 1)
    }
}

/// Id of the message at a nonce.
pub fn message_id(pid: &str, nonce: u64) -> String {
    format!("{pid}-message-{nonce}")
}

fn entry(pid: &str, nonce: u64, timestamp: u64, data: &str, id: Option<String>) -> Entry {
    let id = id.unwrap_or_else(|| message_id(pid, nonce));
    let assignment = format!("{pid}-assignment-{nonce}");
    Entry {
        kind: Kind::Scheduled,
        message_json: json!({ "Data": data, "Id": id }).to_string(),
        name: id.clone(),
        message_id: Some(id),
        timestamp,
        ordinate: nonce.to_string(),
        nonce: Some(nonce),
        epoch: Some(0),
        block_height: 1,
        cron: None,
        assignment_id: Some(assignment.clone()),
        hash_chain: Some("chain".into()),
        dedup_key: None,
        store: true,
        remaining: None,
        owner: "owner".into(),
        action: None,
        checkpoint: Checkpoint {
            timestamp,
            ordinate: nonce.to_string(),
            nonce: Some(nonce),
            epoch: Some(0),
            block_height: 1,
            cron: None,
            assignment_id: Some(assignment),
            hash_chain: Some("chain".into()),
            last_scheduled: Some(Boundary { timestamp, block_height: 1, nonce: Some(nonce), epoch: Some(0) }),
        },
    }
}

impl Source for Network {
    fn process<'a>(&'a self, pid: &'a str) -> BoxFuture<'a, Result<Arc<Process>, Error>> {
        let known = self.schedules.lock().unwrap().contains_key(pid);
        let module_id = match self.shared_module.load(Ordering::SeqCst) {
            true => "module-shared".to_owned(),
            false => format!("module-{pid}"),
        };
        let process = Process {
            id: pid.to_owned(),
            owner: "owner".into(),
            tags: Tags::default(),
            module_id,
            block_height: 1,
            timestamp: ORIGIN,
            signature: None,
            anchor: None,
            scheduler: "http://127.0.0.1:1".parse().unwrap(),
        };
        let missing = move || Error::Upstream(format!("TransactionNotFound: Process {pid} was not found on gateway"));
        async move { known.then(|| Arc::new(process)).ok_or_else(missing) }.boxed()
    }

    fn module<'a>(&'a self, process: &'a Process) -> BoxFuture<'a, Result<Arc<ModuleInfo>, Error>> {
        let info = ModuleInfo {
            id: process.module_id.clone(),
            owner: "owner".into(),
            tags: Tags::default(),
            format: ModuleFormat::Emscripten4,
            memory_limit: 1 << 30,
            gas_limit: 9_000_000_000_000,
            extensions: Vec::new(),
        };
        async move { Ok(Arc::new(info)) }.boxed()
    }

    fn module_bytes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Arc<[u8]>, Error>> {
        self.module_fetches.fetch_add(1, Ordering::SeqCst);
        async move {
            // Long enough for others to ask meanwhile.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(Arc::from(id.as_bytes()))
        }
        .boxed()
    }

    fn locate<'a>(&'a self, process: &'a Process, uid: &'a str) -> BoxFuture<'a, Result<Position, Error>> {
        let schedules = self.schedules.lock().unwrap();
        let entries = &schedules[&process.id].entries;
        let is = |e: &&Entry| {
            e.cron.is_none() && (e.message_id.as_deref() == Some(uid) || e.assignment_id.as_deref() == Some(uid))
        };
        let found = entries.iter().find(is).map(|e| Position {
            timestamp: e.timestamp,
            nonce: e.nonce,
            message_id: e.message_id.clone(),
            assignment_id: e.assignment_id.clone(),
            is_process: uid == process.id,
        });
        let missing = move || Error::Upstream(format!("{uid}: not found"));
        async move { found.ok_or_else(missing) }.boxed()
    }

    fn latest<'a>(&'a self, process: &'a Process) -> BoxFuture<'a, Result<Position, Error>> {
        let schedules = self.schedules.lock().unwrap();
        let last = schedules[&process.id].entries.iter().rev().find(|e| e.nonce.is_some()).unwrap();
        let position = Position {
            timestamp: last.timestamp,
            nonce: last.nonce,
            message_id: last.message_id.clone(),
            assignment_id: last.assignment_id.clone(),
            is_process: false,
        };
        async move { Ok(position) }.boxed()
    }

    fn entries(&self, process: Arc<Process>, start: Start, end: End) -> Box<dyn Entries> {
        self.streams_opened.fetch_add(1, Ordering::SeqCst);
        let schedules = self.schedules.lock().unwrap();
        let schedule = &schedules[&process.id];
        let open = schedule.streams_open.fetch_add(1, Ordering::SeqCst) + 1;
        self.streams_open_max.fetch_max(open, Ordering::SeqCst);
        let all = &schedule.entries;
        let first = match &start {
            Start::Cold => 0,
            Start::After(checkpoint) => 1 + all.iter().position(|e| e.checkpoint == *checkpoint).unwrap(),
        };
        let mut left = VecDeque::new();
        for entry in &all[first..] {
            let beyond = match &end {
                End::Latest => false,
                End::Timestamp(t) => entry.timestamp > *t || entry.cron.is_some() && entry.timestamp == *t,
                End::Message(p) if p.is_process && p.nonce.is_none() => entry.kind != Kind::Process,
                End::Message(p) => match (entry.nonce, entry.ordinate.parse::<u64>().unwrap()) {
                    (Some(nonce), _) => Some(nonce) > p.nonce,
                    (None, ordinate) => entry.cron.is_some() && Some(ordinate) >= p.nonce,
                },
            };
            if beyond {
                break;
            }
            if entry.nonce.is_some_and(|n| schedule.broken.contains(&n)) {
                left.push_back(Err(Error::Unprocessable(format!("HashChain invalid on message {}", entry.name))));
                break;
            }
            left.push_back(Ok(entry.clone()));
        }
        let count = left.len() as u64;
        for (index, entry) in left.iter_mut().enumerate() {
            if let Ok(entry) = entry {
                entry.remaining = Some(count - 1 - index as u64);
            }
        }
        let delay = Duration::from_millis(self.entry_delay_ms.load(Ordering::SeqCst));
        Box::new(Stream { left, delay, open: Arc::clone(&schedule.streams_open) })
    }
}

struct Stream {
    left: VecDeque<Result<Entry, Error>>,
    delay: Duration,
    open: Arc<AtomicUsize>,
}

impl Entries for Stream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Entry, Error>>> {
        async {
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
            }
            self.left.pop_front()
        }
        .boxed()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An engine of counters.
#[derive(Clone, Default)]
pub struct Counters(Arc<Script>);

#[derive(Default)]
struct Script {
    loads: AtomicUsize,
    evaluations: AtomicUsize,
    fork_evaluations: AtomicUsize,
    unlike: AtomicU64,
    lane_evaluations: AtomicUsize,
    lane_groups_max: AtomicUsize,
    lane_compilations: AtomicUsize,
    failed_once: Mutex<HashSet<String>>,
    open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Counters {
    pub fn loads(&self) -> usize {
        self.0.loads.load(Ordering::SeqCst)
    }

    pub fn evaluations(&self) -> usize {
        self.0.evaluations.load(Ordering::SeqCst)
    }

    /// How many of them were evaluated by copies of processes.
    pub fn fork_evaluations(&self) -> usize {
        self.0.fork_evaluations.load(Ordering::SeqCst)
    }

    /// How many messages were evaluated in lanes.
    pub fn lane_evaluations(&self) -> usize {
        self.0.lane_evaluations.load(Ordering::SeqCst)
    }

    /// The largest group.
    pub fn lane_groups_max(&self) -> usize {
        self.0.lane_groups_max.load(Ordering::SeqCst)
    }

    /// How often a module was compiled for lanes.
    pub fn lane_compilations(&self) -> usize {
        self.0.lane_compilations.load(Ordering::SeqCst)
    }

    /// How many guests wait at the gate.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    /// Lets everyone through the gate, now and later.
    pub fn open_gate(&self) {
        *self.0.open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }
}

impl Evaluator for Counters {
    fn load(&self, wasm: &[u8], _format: ModuleFormat) -> Result<Arc<dyn Program>, lockstep_jit::Error> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        if wasm.ends_with(b"bad") {
            return Err(lockstep_jit::Error::Module("is not WebAssembly".into()));
        }
        let bytes = if wasm.ends_with(b"unstartable") { 0 } else { 100 };
        Ok(Arc::new(Counter::new(&self.0, bytes)))
    }
}

#[derive(Clone)]
struct Counter {
    script: Arc<Script>,
    /// The count.
    memory: [u8; 8],
    bytes: u64,
    kept: bool,
    broken: bool,
    is_fork: bool,
    stamp: Option<Stamp>,
}

impl Counter {
    fn new(script: &Arc<Script>, bytes: u64) -> Self {
        let script = Arc::clone(script);
        Self {
            script,
            memory: [0; 8],
            bytes,
            kept: false,
            broken: false,
            is_fork: false,
            stamp: Some(Stamp::BEGINNING),
        }
    }
}

impl Program for Counter {
    fn instance(&self) -> Result<Box<dyn Live>, lockstep_jit::Error> {
        if self.bytes == 0 {
            return Err(lockstep_jit::Error::Module("fails at start-up".into()));
        }
        Ok(Box::new(self.clone()))
    }

    fn lanes(&self) -> Result<Box<dyn Seating>, lockstep_jit::Error> {
        self.script.lane_compilations.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Lanes { script: Arc::clone(&self.script), complaint: None, is_second: false }))
    }

    fn code_bytes(&self) -> u64 {
        1000
    }

    fn compile_time(&self) -> Duration {
        Duration::from_millis(1)
    }
}

impl Live for Counter {
    fn evaluate(&mut self, call: &Call<'_>) -> Result<Evaluation, lockstep_jit::Error> {
        let begun = Instant::now();
        let message: Value = serde_json::from_str(call.message).expect("a message is JSON");
        let data = message["Data"].as_str().unwrap_or_default();
        let (verb, number) = data.split_once(' ').unwrap_or((data, "0"));
        let number: u64 = number.parse().unwrap_or(0);
        let once = |what: &str| self.script.failed_once.lock().unwrap().insert(format!("{what} {}", message["Id"]));
        match verb {
            "timeout" => return Err(lockstep_jit::Error::Timeout(call.time_limit)),
            "timeout-once" if once("timeout") => {
                return Err(lockstep_jit::Error::Timeout(call.time_limit));
            }
            "break-once" if once("break") => {
                self.broken = true;
                return Err(lockstep_jit::Error::Host("no memory, on purpose".into()));
            }
            "panic-once" if once("panic") => panic!("a fault on purpose"),
            "sleep" | "lane-frame" => std::thread::sleep(Duration::from_millis(number)),
            "gate" => {
                self.script.waiting.fetch_add(1, Ordering::SeqCst);
                let open = self.script.open.lock().unwrap();
                drop(self.script.opened.wait_while(open, |open| !*open).unwrap());
                self.script.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
        self.script.evaluations.fetch_add(1, Ordering::SeqCst);
        self.script.fork_evaluations.fetch_add(usize::from(self.is_fork), Ordering::SeqCst);
        let before = u64::from_be_bytes(self.memory);
        let count = if verb == "say" { before } else { before + 1 };
        let mut outcome = Outcome {
            messages: Some(json!([])),
            assignments: Some(json!([])),
            spawns: Some(json!([])),
            output: Some(json!(count.to_string())),
            gas_used: Some(7),
            ..Outcome::default()
        };
        match verb {
            "error" => outcome.error = Some(json!("an error of the process")),
            "throw" => outcome = Outcome { error: Some(json!({})), ..Outcome::default() },
            "random" => outcome.output = Some(json!(self.script.unlike.fetch_add(1, Ordering::SeqCst))),
            "grow" => self.bytes = number,
            _ => {}
        }
        let kept = outcome.error.is_none();
        if kept {
            (self.memory, self.kept, self.stamp) = (count.to_be_bytes(), true, None);
        }
        Ok(Evaluation { outcome, kept, gas_spent: 7, elapsed: begun.elapsed(), thrown: None })
    }

    fn is_broken(&self) -> bool {
        self.broken
    }

    fn has_state(&self) -> bool {
        self.kept
    }

    fn memory(&mut self) -> &[u8] {
        &self.memory
    }

    fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    fn take_over(&mut self, change: &Change) -> Result<(), lockstep_jit::Error> {
        for (at, bytes) in &change.parts {
            self.memory[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        (self.kept, self.stamp) = (true, Some(change.stamp));
        Ok(())
    }

    fn fork(&mut self) -> Result<Box<dyn Live>, lockstep_jit::Error> {
        Ok(Box::new(Self { is_fork: true, ..self.clone() }))
    }

    fn resident_bytes(&self) -> u64 {
        self.bytes
    }
}

/// Lanes of counters: each visit takes as long as its message would alone, and they take as long together.
struct Lanes {
    script: Arc<Script>,
    /// What came back for its frames.
    complaint: Option<&'static str>,
    /// Whether they were compiled again.
    is_second: bool,
}

impl Seating for Lanes {
    fn lanes_max(&self) -> usize {
        100
    }

    fn adapter(&self) -> &str {
        "a fake"
    }

    fn evaluate(&mut self, visits: &[Visit<'_>], _deadline: Instant) -> Result<Vec<Came>, Lost> {
        self.script.lane_groups_max.fetch_max(visits.len(), Ordering::SeqCst);
        let has = |data: &str| visits.iter().any(|visit| visit.call.message.contains(data));
        let once = |what: &str| self.script.failed_once.lock().unwrap().insert(what.to_owned());
        if has("lane-lost") && once("lost") {
            return Err(Lost { reason: "on purpose".into() });
        }
        assert!(!has("lane-panic") || !once("panic"), "a fault of the driver, on purpose");
        let never = has("lane-never") && once("never");
        let is_unlike = has("lane-frame") && !self.is_second;
        self.complaint = never.then_some("lane-never").or(is_unlike.then_some("lane-frame"));
        let (script, is_second) = (&self.script, self.is_second);
        let visit = |visit: &Visit<'_>| {
            let says = |data: &str| visit.call.message.contains(data);
            if says("lane-bail") {
                return Came::HandedBack(HandedBack::Bail(Bail::Host));
            }
            if says("lane-never") || says("lane-frame") && !is_second {
                return Came::HandedBack(HandedBack::Bail(Bail::Frame));
            }
            let mut counter = Counter::new(script, 100);
            counter.memory.copy_from_slice(visit.memory);
            let mut evaluation = Box::new(counter.evaluate(&visit.call).expect("no such verb is used in lanes"));
            if says("lane-wrong") {
                evaluation.outcome.output = Some(json!("something else"));
            }
            if says("lane-astray") {
                counter.memory[0] = 1;
            }
            script.lane_evaluations.fetch_add(1, Ordering::SeqCst);
            let change = || Change { size: 8, parts: vec![(0, counter.memory.to_vec())], stamp: Stamp::fresh() };
            Came::Evaluated { change: evaluation.kept.then(change), evaluation }
        };
        // Side by side, each on a thread of its own.
        Ok(std::thread::scope(|scope| {
            let threads: Vec<_> = visits.iter().map(|one| scope.spawn(move || visit(one))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        }))
    }

    fn complaint(&self) -> Option<&'static str> {
        self.complaint
    }

    fn compile_again(&mut self) -> Result<(), lockstep_jit::Error> {
        self.script.lane_compilations.fetch_add(1, Ordering::SeqCst);
        // Longer than a group that came back keeps the native engine busy.
        std::thread::sleep(Duration::from_millis(600));
        if self.complaint.take() == Some("lane-never") {
            return Err(lockstep_jit::Error::Module("too large, on purpose".into()));
        }
        self.is_second = true;
        Ok(())
    }
}
