//! The one door to schedulers and gateways.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::metrics::{counter::Counter, family::Family};
use serde_json::Value;
use tokio::sync::Semaphore;
use url::Url;

use super::{
    End, EntryStream, Position, Process, Start,
    index::{Index, Place},
    locate::Locator,
    page::{self, Node, Page},
    pager::{From, Pager, To},
};
use crate::{
    Error, UnitSettings,
    gateway::{Gateway, QueryLabels, Transaction, Without},
    http::{self, Failure, Http},
    ids,
    memo::Memo,
    module::{Admission, ModuleInfo},
    shape::{At, Mismatch},
    verify::{Engines, Signatures, Witness},
};

/// Processes remembered.
const PROCESSES_MAX: usize = 4096;
/// Modules' metadata remembered.
const MODULES_MAX: usize = 1024;
/// Transactions do not change.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a schedule is searched for an id that its scheduler does not resolve. A search that runs out of time goes on
/// from there when the id is asked for again.
const SEARCH_TIME: Duration = Duration::from_millis(700);
/// Searches at the same time.
const SEARCHES_MAX: usize = 8;

/// All talk with schedulers and gateways. Cheap to clone.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

pub(crate) struct Inner {
    pub http: Arc<Http>,
    pub gateway: Arc<Gateway>,
    pub index: Index,
    pub page_size: u32,
    /// Largest assigned item taken in, bytes.
    pub item_max: u64,
    pub witness: Arc<Witness>,
    engines: Engines,
    locator: Locator,
    admission: Admission,
    allow_owners: Vec<String>,
    searches: Semaphore,
    processes: Memo<Arc<Process>>,
    modules: Memo<Arc<Transaction>>,
}

impl Upstream {
    /// From a unit's settings. Touches neither network nor disk.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a URL that is not http or https; [`Error::Internal`]: no TLS, no GPU where one is required.
    pub fn new(settings: &UnitSettings) -> Result<Self, Error> {
        let http = Arc::new(Http::new(settings.upstream_timeout, settings.upstream_json_max_bytes)?);
        let gateway = Arc::new(Gateway::new(settings, http.clone())?);
        let locator = Locator::new(settings, http.clone(), gateway.clone())?;
        let engines = Engines::new(settings.gpu.clone())?;
        let item_max = settings.upstream_json_max_bytes.min(settings.upstream_data_max_bytes);
        Ok(Self(Arc::new(Inner {
            witness: Arc::new(Witness::new(settings.verify, Box::new(engines.clone()), gateway.clone(), item_max)?),
            http,
            gateway,
            index: Index::default(),
            page_size: settings.page_size,
            item_max,
            engines,
            locator,
            admission: Admission::new(settings),
            allow_owners: settings.allow_owners.clone(),
            searches: Semaphore::new(SEARCHES_MAX),
            processes: Memo::new(PROCESSES_MAX),
            modules: Memo::new(MODULES_MAX),
        })))
    }

    /// The verified process: it speaks ao, is a process and names one module. Kept as long as its scheduler's place holds.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no id; [`Error::OwnerDenied`]; [`Error::Upstream`]: not found, not a process;
    /// [`Error::Unprocessable`]: two modules.
    pub async fn process(&self, pid: &str) -> Result<Arc<Process>, Error> {
        ids::check("process id", pid)?;
        let (inner, id) = (self.0.clone(), pid.to_owned());
        let load = || async move { inner.load_process(&id).await };
        let process = self.0.processes.get_or_load(pid, load).await?;
        let allowed = &self.0.allow_owners;
        if allowed.is_empty() || allowed.contains(&process.owner) {
            return Ok(process);
        }
        Err(Error::OwnerDenied(process.owner.clone()))
    }

    /// The process's module: its tags checked against what this unit admits. Its metadata is kept.
    ///
    /// # Errors
    /// [`Error::Unprocessable`]: encodings, format, extensions; [`Error::LimitExceeded`]: limits;
    /// [`Error::Upstream`]: not found.
    pub async fn module(&self, process: &Process) -> Result<Arc<ModuleInfo>, Error> {
        let id = &process.module_id;
        ids::check("Module tag", id).map_err(|e| Error::Unprocessable(e.to_string()))?;
        let module = self.0.module_transaction(id).await?;
        self.0.admission.admit(process, id, module.owner.clone(), module.tags.clone()).map(Arc::new)
    }

    /// The module's bytes, from the disk cache or the gateway. They are not checked to be a module, but to be what its
    /// owner signed.
    ///
    /// # Errors
    /// [`Error::Upstream`]: not found, out of reach, larger than the unit's bound, or (where that is enforced) not what was
    /// signed, of which nothing is kept then.
    pub async fn module_bytes(&self, module_id: &str) -> Result<Arc<[u8]>, Error> {
        let inner = &self.0;
        let bytes = inner.gateway.module_bytes(module_id).await?;
        if inner.witness.is_open() {
            let (asked, id) = (inner.clone(), module_id.to_owned());
            let found = async move { asked.module_transaction(&id).await.map(|found| (*found).clone()) };
            if let Err(why) = inner.witness.check_given("module", module_id, found, bytes.clone()).await? {
                inner.modules.forget(module_id);
                inner.gateway.forget_module(module_id).await;
                return Err(Error::Upstream(why));
            }
        }
        Ok(bytes)
    }

    /// Where a message stands in the schedule: `uid` is a message id, an assignment id, the process id (boot) or a nonce.
    ///
    /// What was seen on pages is known without asking. A scheduler that does not resolve the id (or resolves it in
    /// another process) does not have the last word: the schedule itself is searched from the newest element seen on.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no id; [`Error::Upstream`]: out of reach, or not in the schedule as far as it was searched.
    pub async fn locate_message(&self, process: &Process, uid: &str) -> Result<Position, Error> {
        ids::check("message id", uid)?;
        let inner = &self.0;
        if uid == process.id {
            return inner.boot_position(process).await;
        }
        if let Some(place) = inner.index.find(&process.id, uid) {
            return Ok(known(place));
        }
        if let Some(nonce) = as_nonce(uid) {
            return inner.position_of_nonce(process, nonce).await;
        }
        let fail = |why: &dyn std::fmt::Display| {
            Error::Upstream(format!("Error Encountered when loading message from Scheduler Unit: {why}"))
        };
        let mut url = http::join(&process.scheduler, &[uid]);
        url.query_pairs_mut().append_pair("process-id", &process.id);
        let path = url.path().to_owned();
        let refusal = match inner.ask_scheduler(process, url).await {
            Ok(answer) => match read_position(&answer, &process.id, uid).map_err(|e| fail(&format!("{path}: {e}")))? {
                Found::Here(position) => return Ok(position),
                Found::Elsewhere(other) => {
                    format!("message {uid} is in the schedule of process {other}, not of {}", process.id)
                }
            },
            Err(failure) if failure.is_refusal() => failure.to_string(),
            Err(failure) => return Err(fail(&failure)),
        };
        match inner.search_unseen(process, uid).await {
            Some(position) => Ok(position),
            None => Err(fail(&refusal)),
        }
    }

    /// Looks for a message id or assignment id in the schedule after `after`, for about a second.
    ///
    /// # Errors
    /// [`Error::Upstream`]: the schedule cannot be read.
    pub async fn find_in_schedule(
        &self,
        process: &Process,
        uid: &str,
        after: &Start,
    ) -> Result<Option<Position>, Error> {
        if let Some(place) = self.0.index.find(&process.id, uid) {
            return Ok(Some(known(place)));
        }
        self.0.search(process, uid, From::start(after), To::default()).await
    }

    /// The newest scheduled entry; the process itself where there is no other.
    ///
    /// # Errors
    /// [`Error::Upstream`]: out of reach, or an answer that makes no sense.
    pub async fn latest(&self, process: &Process) -> Result<Position, Error> {
        let fail = |why: &dyn std::fmt::Display| {
            Error::Upstream(format!("Error Encountered when loading latest message from Scheduler Unit: {why}"))
        };
        let url = http::join(&process.scheduler, &[&process.id, "latest"]);
        let path = url.path().to_owned();
        match self.0.ask_scheduler(process, url).await {
            Ok(answer) => match read_position(&answer, &process.id, "").map_err(|e| fail(&format!("{path}: {e}")))? {
                Found::Here(position) => Ok(position),
                Found::Elsewhere(other) => Err(fail(&format!("{path}: it belongs to process {other}"))),
            },
            // Schedulers say so while a process has no message besides itself.
            Err(failure) if failure.is_refusal() => self.0.boot_position(process).await,
            Err(failure) => Err(fail(&failure)),
        }
    }

    /// The scheduler's present: (ms since 1970, block height).
    ///
    /// # Errors
    /// [`Error::Upstream`].
    pub async fn now(&self, process: &Process) -> Result<(u64, u64), Error> {
        self.0.now(process).await
    }

    /// How many GraphQL queries were made, by name and result, for the unit's metrics.
    pub fn graphql_queries(&self) -> Family<QueryLabels, Counter> {
        self.0.gateway.queries.clone()
    }

    /// Signatures checked, by scheme, outcome and place, for the unit's metrics.
    pub fn signatures(&self) -> Signatures {
        self.0.witness.signatures()
    }

    /// Who checks them.
    pub fn engines(&self) -> Engines {
        self.0.engines.clone()
    }

    /// The entries after `start` up to `end`, in order. Dropping the stream stops its work.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn entries(&self, process: Arc<Process>, start: Start, end: End) -> EntryStream {
        EntryStream::open(self.0.clone(), process, start, end)
    }
}

impl Inner {
    /// GET from a process's scheduler. If it is out of reach, the process is looked up anew next time: it may have moved.
    pub async fn ask_scheduler(&self, process: &Process, url: Url) -> Result<Value, Failure> {
        let answer = self.http.get_json(url).await;
        self.note_absence(process, &answer);
        answer
    }

    /// GET of a page of a process's schedule.
    pub async fn ask_page(&self, process: &Process, url: Url) -> Result<Page, Failure> {
        let read = if self.witness.is_open() { page::read_and_keep_body } else { page::read_body };
        let answer = self.http.get(url, read).await;
        self.note_absence(process, &answer);
        answer
    }

    fn note_absence<T>(&self, process: &Process, answer: &Result<T, Failure>) {
        if matches!(answer, Err(Failure::Unreachable(_))) && !self.locator.is_fixed() {
            self.processes.forget(&process.id);
        }
    }

    /// A module's metadata, which is kept.
    async fn module_transaction(&self, id: &str) -> Result<Arc<Transaction>, Error> {
        let (gateway, module, is_checked) = (self.gateway.clone(), id.to_owned(), self.witness.is_open());
        let load = || async move {
            let without = Without { signature: !is_checked, anchor: !is_checked, tags: false };
            let found = gateway.transaction(&module, without).await?;
            let found =
                found.ok_or_else(|| Error::Upstream(format!("Gateway returned no transaction for '{module}'")))?;
            Ok((Arc::new(found), FOREVER))
        };
        self.modules.get_or_load(id, load).await
    }

    async fn load_process(&self, id: &str) -> Result<(Arc<Process>, Duration), Error> {
        let (scheduler, holds) = self.locator.scheduler(id).await?;
        let fail = |why: &dyn std::fmt::Display| {
            Error::Upstream(format!("Error Encountered when loading process from Scheduler Unit: {why}"))
        };
        let url = http::join(&scheduler, &["processes", id]);
        let path = url.path().to_owned();
        let answer = self.http.get_json(url).await.map_err(|failure| fail(&failure))?;
        let process = Process::read(&answer, id, scheduler).map_err(|mismatch| fail(&format!("{path}: {mismatch}")))?;
        let process = process.verified()?;
        if self.witness.is_open()
            && let Some(why) = self.witness.check_document(answer.to_string().into_bytes()).await?.any().await
        {
            return Err(fail(&format!("{path}: {why}")));
        }
        Ok((Arc::new(process), holds))
    }

    pub async fn now(&self, process: &Process) -> Result<(u64, u64), Error> {
        let mut url = http::join(&process.scheduler, &["timestamp"]);
        url.query_pairs_mut().append_pair("process-id", &process.id);
        let path = url.path().to_owned();
        let fail = |why: &dyn std::fmt::Display| {
            let text = format!("Error Encountered when loading timestamp for process from Scheduler Unit: {why}");
            Error::Upstream(text)
        };
        let answer = self.ask_scheduler(process, url).await.map_err(|failure| fail(&failure))?;
        let root = At::root(&answer);
        let read = || Ok((root.member("timestamp").whole()?, root.member("block_height").whole()?));
        read().map_err(|mismatch: Mismatch| fail(&format!("{path}: {mismatch}")))
    }

    /// Where the process itself stands: at nonce 0 if its scheduler assigned it, else before its schedule.
    async fn boot_position(self: &Arc<Self>, process: &Process) -> Result<Position, Error> {
        if let Some(place) = self.index.find(&process.id, &process.id) {
            return Ok(known(place));
        }
        let mut pager = self.pager(process, From::Beginning, To::default(), 2);
        let first = pager.next_page().await?.and_then(|nodes| nodes.into_iter().next());
        if let Some(first) = first.filter(Node::is_process) {
            return Ok(Position { is_process: true, ..position(&first) });
        }
        Ok(Position {
            timestamp: process.timestamp,
            nonce: None,
            message_id: Some(process.id.clone()),
            assignment_id: None,
            is_process: true,
        })
    }

    async fn position_of_nonce(self: &Arc<Self>, process: &Process, nonce: u64) -> Result<Position, Error> {
        let to = To { nonce: Some(nonce), timestamp: None };
        let from = match nonce.checked_sub(1) {
            Some(before) => {
                // Its scheduler pages by time if this is ignored; then the schedule is read from its beginning.
                let url = &mut http::join(&process.scheduler, &[&process.id]);
                url.query_pairs_mut()
                    .append_pair("process-id", &process.id)
                    .append_pair("from-nonce", &before.to_string())
                    .append_pair("to-nonce", &nonce.to_string())
                    .append_pair("limit", "2");
                let page = self.ask_page(process, url.clone()).await;
                let nodes = page.map(|page| page.nodes).unwrap_or_default();
                let fits = |node: &&Node| node.assignment.nonce == nonce && node.assignment.process == process.id;
                if let Some(node) = nodes.iter().find(fits) {
                    return Ok(position(node));
                }
                From::Beginning
            }
            None => From::Beginning,
        };
        let begun = Instant::now();
        let mut pager = self.pager(process, from, to, self.page_size);
        while let Some(nodes) = pager.next_page().await? {
            if let Some(node) = nodes.iter().find(|node| node.assignment.nonce >= nonce) {
                return Ok(position(node));
            }
            if begun.elapsed() > SEARCH_TIME {
                break;
            }
        }
        let text = format!("no nonce {nonce} in the schedule of process {}", process.id);
        Err(Error::Upstream(format!("Error Encountered when loading message from Scheduler Unit: {text}")))
    }

    fn pager(self: &Arc<Self>, process: &Process, from: From, to: To, page_size: u32) -> Pager {
        Pager::new(self.clone(), Arc::new(process.clone()), from, to, page_size)
    }

    /// Looks for an id in what has not been seen of a schedule: first after the newest element seen, then before what is
    /// remembered. A fault on the way is no answer.
    async fn search_unseen(self: &Arc<Self>, process: &Process, uid: &str) -> Option<Position> {
        // Searches are for the rare id; more of them would only load schedulers.
        let _permit = self.searches.try_acquire().ok()?;
        let newest = self.index.newest(&process.id).map_or(From::Beginning, From::newest);
        if let Ok(Some(position)) = self.search(process, uid, newest, To::default()).await {
            return Some(position);
        }
        let before = self.index.complete_from(&process.id)?.checked_sub(1)?;
        let to = To { nonce: Some(before), timestamp: None };
        self.search(process, uid, From::Beginning, to).await.ok().flatten()
    }

    async fn search(
        self: &Arc<Self>,
        process: &Process,
        uid: &str,
        from: From,
        to: To,
    ) -> Result<Option<Position>, Error> {
        let begun = Instant::now();
        let mut pager = self.pager(process, from, to, self.page_size);
        while let Some(nodes) = pager.next_page().await? {
            let fits = |node: &&Node| node.assignment.id == uid || node.message_id() == uid;
            if let Some(node) = nodes.iter().find(fits) {
                return Ok(Some(position(node)));
            }
            if begun.elapsed() > SEARCH_TIME {
                break;
            }
        }
        Ok(None)
    }
}

fn position(node: &Node) -> Position {
    let assignment = &node.assignment;
    Position {
        timestamp: assignment.timestamp,
        nonce: Some(assignment.nonce),
        message_id: Some(node.message_id().to_owned()),
        assignment_id: Some(assignment.id.clone()),
        is_process: node.message_id() == assignment.process,
    }
}

fn known(place: Place) -> Position {
    Position {
        timestamp: place.timestamp,
        nonce: Some(place.nonce),
        message_id: None,
        assignment_id: None,
        is_process: place.is_process,
    }
}

/// A nonce in decimal; nothing that could be an id (43 characters).
fn as_nonce(uid: &str) -> Option<u64> {
    let digits = uid.len() <= 16 && uid.bytes().all(|b| b.is_ascii_digit());
    uid.parse().ok().filter(|_| digits)
}

enum Found {
    Here(Position),
    /// In the schedule of this process.
    Elsewhere(String),
}

/// Reads a scheduler's answer about one message: `{message, assignment}`, the flat form of old schedulers, or, for the
/// id of a process's own assignment, the first page of its schedule.
fn read_position(answer: &Value, process: &str, uid: &str) -> Result<Found, Mismatch> {
    let root = At::root(answer);
    if root.member("edges").is_some() {
        let page = page::read_page(answer)?;
        let node = page.nodes.iter().find(|node| node.assignment.id == uid || node.message_id() == uid);
        let node = node.ok_or_else(|| root.member("edges").mismatch("a page with the message"))?;
        return Ok(if node.assignment.process == process {
            Found::Here(position(node))
        } else {
            Found::Elsewhere(node.assignment.process.clone())
        });
    }
    let assignment = root.member("assignment");
    if !assignment.is_some() {
        let of = root.member("process_id").text()?;
        let position = Position {
            timestamp: root.member("timestamp").whole()?,
            nonce: Some(root.member("nonce").whole()?),
            message_id: None,
            assignment_id: None,
            is_process: false,
        };
        return Ok(if of == process { Found::Here(position) } else { Found::Elsewhere(of.to_owned()) });
    }
    let node = page::read_node(&root)?;
    Ok(if node.assignment.process == process {
        Found::Here(position(&node))
    } else {
        Found::Elsewhere(node.assignment.process)
    })
}
