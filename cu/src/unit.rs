//! SKELETON of the face of the compute unit (placeholder, being replaced): what the api room calls.
use crate::{Error, UnitSettings};
use lockstep_jit::Outcome;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Either the answer or "still evaluating".
pub enum Reply<T> {
    Ready(T),
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Asc,
    Desc,
}

/// A place in a process's order of results: (timestamp, ordinate, cron).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub timestamp: u64,
    pub ordinate: Option<String>,
    pub cron: Option<String>,
}

/// Bounds of /results and /cron: `from` exclusive (a bare timestamp includes that timestamp's rows), `to` inclusive.
#[derive(Clone, Debug)]
pub struct Range {
    pub from: Option<Cursor>,
    pub to: Option<Cursor>,
    pub sort: Sort,
    pub limit: u64,
}

pub struct Edge {
    pub cursor: Cursor,
    pub outcome: Outcome,
}
pub struct Page {
    pub edges: Vec<Edge>,
    pub has_next: bool,
}

pub struct State {
    pub memory: Option<Vec<u8>>,
    pub last_timestamp: Option<u64>,
    pub last_ordinate: Option<String>,
    pub last_block_height: Option<u64>,
}

/// A dry run's body, already checked for types; fields as the contract's 1.6, JSON order of 2.4 is made by cu.
#[derive(Clone, Debug, Default)]
pub struct DryRun {
    pub body: serde_json::Map<String, Value>,
    pub to: Option<String>,
    pub max_age: Option<Duration>,
}

pub struct Status {
    pub processes_live: usize,
    pub processes_live_bytes: u64,
    pub evaluations_running: usize,
    pub backlog: u64,
    pub results_stored: u64,
}

#[derive(Clone)]
pub struct Unit(Arc<()>);
impl Unit {
    pub async fn open(_settings: UnitSettings) -> Result<Self, Error> {
        todo!()
    }
    /// `busy_after`: give up waiting (evaluation goes on) and answer `Busy`.
    pub async fn result(
        &self,
        _process: &str,
        _uid: &str,
        _busy_after: Option<Duration>,
    ) -> Result<Reply<Outcome>, Error> {
        todo!()
    }
    pub async fn results(&self, _process: &str, _range: Range) -> Result<Page, Error> {
        todo!()
    }
    pub async fn cron(&self, _process: &str, _range: Range) -> Result<Page, Error> {
        todo!()
    }
    pub async fn state(&self, _process: &str, _to: Option<u64>) -> Result<State, Error> {
        todo!()
    }
    /// The second member: answered from the dry-run result cache (the rate limiter un-counts it).
    pub async fn dry_run(
        &self,
        _process: &str,
        _run: DryRun,
        _busy_after: Option<Duration>,
    ) -> Result<(Reply<Outcome>, bool), Error> {
        todo!()
    }
    pub fn status(&self) -> Status {
        todo!()
    }
    /// Puts the unit's metric families into a registry (reference names under ao_cu_, ours under lockstep_).
    pub fn register_metrics(&self, _registry: &mut prometheus_client::registry::Registry) {
        todo!()
    }
    /// Finishes what is in flight (bounded), commits the store.
    pub async fn shutdown(&self) {
        todo!()
    }
}
