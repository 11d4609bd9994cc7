//! Where a process actor gets things to evaluate from.
//!
//! [`Upstream`] is the network; tests put a schedule of their own making here.

use std::sync::Arc;

use futures::future::BoxFuture;
use prometheus_client::metrics::{counter::Counter, family::Family};
use tokio::sync::mpsc;

use crate::{
    Error,
    gateway::QueryLabels,
    module::ModuleInfo,
    schedule::{End, Entry, Position, Process, Start, Upstream},
    verify::{Engines, Signatures},
};

/// Schedulers and gateways, as far as this part of the room needs them.
pub trait Source: Send + Sync + 'static {
    /// The verified process.
    fn process<'a>(&'a self, pid: &'a str) -> BoxFuture<'a, Result<Arc<Process>, Error>>;
    /// What its module's tags say, admitted.
    fn module<'a>(&'a self, process: &'a Process) -> BoxFuture<'a, Result<Arc<ModuleInfo>, Error>>;
    /// The module's bytes.
    fn module_bytes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Arc<[u8]>, Error>>;
    /// Where a message stands.
    fn locate<'a>(&'a self, process: &'a Process, uid: &'a str) -> BoxFuture<'a, Result<Position, Error>>;
    /// The newest scheduled entry.
    fn latest<'a>(&'a self, process: &'a Process) -> BoxFuture<'a, Result<Position, Error>>;
    /// Signatures checked, by scheme, outcome and place.
    fn signatures(&self) -> Signatures {
        Signatures::default()
    }
    /// Who checks them.
    fn engines(&self) -> Engines {
        Engines::default()
    }
    /// GraphQL queries, by name and outcome.
    fn graphql_queries(&self) -> Family<QueryLabels, Counter> {
        Family::default()
    }
    /// The entries after `start` up to `end`, in order.
    fn entries(&self, process: Arc<Process>, start: Start, end: End) -> Box<dyn Entries>;
}

/// Entries in order.
pub trait Entries: Send + 'static {
    /// The next one; `None` after the last and after an error.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Entry, Error>>>;
}

impl Source for Upstream {
    fn signatures(&self) -> Signatures {
        Self::signatures(self)
    }

    fn engines(&self) -> Engines {
        Self::engines(self)
    }

    fn graphql_queries(&self) -> Family<QueryLabels, Counter> {
        Self::graphql_queries(self)
    }

    fn process<'a>(&'a self, pid: &'a str) -> BoxFuture<'a, Result<Arc<Process>, Error>> {
        Box::pin(Self::process(self, pid))
    }

    fn module<'a>(&'a self, process: &'a Process) -> BoxFuture<'a, Result<Arc<ModuleInfo>, Error>> {
        Box::pin(Self::module(self, process))
    }

    fn module_bytes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Arc<[u8]>, Error>> {
        Box::pin(Self::module_bytes(self, id))
    }

    fn locate<'a>(&'a self, process: &'a Process, uid: &'a str) -> BoxFuture<'a, Result<Position, Error>> {
        Box::pin(self.locate_message(process, uid))
    }

    fn latest<'a>(&'a self, process: &'a Process) -> BoxFuture<'a, Result<Position, Error>> {
        Box::pin(Self::latest(self, process))
    }

    fn entries(&self, process: Arc<Process>, start: Start, end: End) -> Box<dyn Entries> {
        Box::new(Self::entries(self, process, start, end))
    }
}

impl Entries for crate::schedule::EntryStream {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Entry, Error>>> {
        Box::pin(Self::next(self))
    }
}

/// Entries that may be made ready while earlier ones are evaluated.
const FEED_ENTRIES_MAX: usize = 64;

/// A stream of entries, read ahead by a task of its own, so that waiting for the next one can be given up and taken up
/// again without losing any.
pub(super) struct Feed {
    ready: mpsc::Receiver<Result<Entry, Error>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Feed {
    pub(super) fn open(mut entries: Box<dyn Entries>) -> Self {
        let (send, ready) = mpsc::channel(FEED_ENTRIES_MAX);
        let reader = tokio::spawn(async move {
            while let Some(entry) = entries.next().await {
                if send.send(entry).await.is_err() {
                    break;
                }
            }
        });
        Self { ready, reader }
    }

    /// The next entry; `None` after the last and after an error. May be given up at any time.
    pub(super) async fn next(&mut self) -> Option<Result<Entry, Error>> {
        self.ready.recv().await
    }

    /// The next entry if it need not be waited for.
    pub(super) fn ready(&mut self) -> Option<Result<Entry, Error>> {
        self.ready.try_recv().ok()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
