//! Page after page of a schedule: every element once, in order, without holes.
//!
//! Every request carries both ways of saying "after this one": `from-nonce`, and `from` (a timestamp). A scheduler that
//! knows the first ignores the second; one that does not pages by time. For the latter, `from` is a millisecond before
//! the last element seen, and what was seen before is dropped: elements that share a millisecond are not lost, and if a
//! whole page lies within one millisecond, larger pages are asked for. So nothing has to be known about a scheduler.

use std::{collections::HashMap, sync::Arc};

use super::{
    Boundary, Process, Start,
    index::Newest,
    page::{self, Node},
    upstream::Inner,
};
use crate::{Error, http, http::Failure};

/// Smallest page asked for: with a limit of 1, some schedulers say that nothing follows.
const LIMIT_MIN: u32 = 2;
/// How much larger a page may get when one does not reach beyond a millisecond.
const LIMIT_GROWTH_MAX: u32 = 16;

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// From the first element.
    Beginning,
    /// After this element.
    Element { epoch: u64, nonce: u64, timestamp: u64, assignment_id: Option<String> },
    /// After this time (ms): a checkpoint that says no more.
    Time(u64),
}

impl From {
    pub fn start(start: &Start) -> Self {
        let Start::After(checkpoint) = start else {
            return From::Beginning;
        };
        let Boundary { timestamp, nonce, epoch, .. } = checkpoint.boundary();
        match nonce {
            Some(nonce) => From::Element {
                epoch: epoch.unwrap_or(0),
                nonce,
                timestamp,
                assignment_id: checkpoint.assignment_id.clone(),
            },
            None if checkpoint.last_scheduled.is_some() => From::Beginning,
            // The process itself, evaluated before its schedule.
            None if checkpoint.cron.is_none() && checkpoint.assignment_id.is_none() => From::Beginning,
            None => From::Time(timestamp),
        }
    }

    pub fn newest(newest: Newest) -> Self {
        let Newest { epoch, nonce, timestamp, assignment_id } = newest;
        From::Element { epoch, nonce, timestamp, assignment_id: Some(assignment_id) }
    }
}

/// Up to where, as far as a scheduler can be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct To {
    pub nonce: Option<u64>,
    /// ms
    pub timestamp: Option<u64>,
}

/// The last element seen.
#[derive(Clone, Debug)]
struct Last {
    epoch: u64,
    nonce: u64,
    timestamp: u64,
}

/// Reads a schedule page by page.
pub(crate) struct Pager {
    upstream: Arc<Inner>,
    process: Arc<Process>,
    from: From,
    to: To,
    last: Option<Last>,
    limit: u32,
    limit_max: u32,
    /// Assignment ids by (epoch, nonce), of the last page and the one before.
    seen: [HashMap<(u64, u64), String>; 2],
    /// The page that was given last, as it came, if its signatures are going to be checked.
    body: Option<Vec<u8>>,
    /// What ends the reading once the elements before it have been given.
    failed: Option<Error>,
    done: bool,
}

impl Pager {
    pub fn new(upstream: Arc<Inner>, process: Arc<Process>, from: From, to: To, page_size: u32) -> Self {
        let limit = page_size.max(LIMIT_MIN);
        let mut seen: [HashMap<_, _>; 2] = Default::default();
        let mut last = None;
        if let From::Element { epoch, nonce, timestamp, assignment_id } = &from {
            last = Some(Last { epoch: *epoch, nonce: *nonce, timestamp: *timestamp });
            if let Some(id) = assignment_id {
                seen[0].insert((*epoch, *nonce), id.clone());
            }
        }
        let limit_max = limit.saturating_mul(LIMIT_GROWTH_MAX);
        Self { upstream, process, from, to, last, limit, limit_max, seen, body: None, failed: None, done: false }
    }

    /// The next elements; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Upstream`]: no page, no readable page, a hole, a repeat, or time that runs backwards. What stands before
    /// the fault on its page has been given before.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Node>>, Error> {
        loop {
            if let Some(failed) = self.failed.take() {
                self.done = true;
                return Err(failed);
            }
            if self.done {
                return Ok(None);
            }
            let page = match self.fetch().await {
                Ok(page) => page,
                Err(Failure::TooLarge(_)) if self.limit > LIMIT_MIN => {
                    self.limit = (self.limit / 4).max(LIMIT_MIN);
                    continue;
                }
                Err(failure) => {
                    self.done = true;
                    let text = format!("Encountered Error fetching scheduled messages from Scheduler Unit: {failure}");
                    return Err(Error::Upstream(text));
                }
            };
            let full = page.edges >= self.limit as usize;
            let new = self.take_new(page.nodes);
            // The broken element stands behind all that were taken; a fault among those comes first.
            if let (None, Some(mismatch)) = (&self.failed, page.broken) {
                self.failed = Some(self.fault(&mismatch));
            }
            self.upstream.index.add(&self.process.id, &new);
            if !new.is_empty() {
                self.body = page.body;
                // A full page may be the last whatever the scheduler says: only asking again tells.
                self.done = !full && !page.has_next && self.failed.is_none();
                return Ok(Some(new));
            }
            if self.failed.is_some() {
                continue;
            }
            if page.edges == 0 || (!full && !page.has_next) {
                self.done = true;
            } else if self.limit >= self.limit_max {
                self.failed = Some(self.fault(&format!("{} elements, none of them new", page.edges)));
            } else {
                self.limit = self.limit.saturating_mul(2).min(self.limit_max);
            }
        }
    }

    /// The page that was given last, as it came, if signatures are checked.
    pub fn take_body(&mut self) -> Option<Vec<u8>> {
        self.body.take()
    }

    async fn fetch(&self) -> Result<page::Page, Failure> {
        let mut url = http::join(&self.process.scheduler, &[&self.process.id]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("process-id", &self.process.id);
            match (&self.last, &self.from) {
                (Some(last), _) => {
                    query.append_pair("from-nonce", &last.nonce.to_string());
                    query.append_pair("from", &last.timestamp.saturating_sub(1).to_string());
                }
                (None, From::Time(timestamp)) => {
                    query.append_pair("from", &timestamp.to_string());
                }
                // -1 includes the process itself. No `from`: with one, the process would be left out.
                (None, _) => {
                    query.append_pair("from-nonce", "-1");
                }
            }
            for (name, bound) in [("to-nonce", self.to.nonce), ("to", self.to.timestamp)] {
                if let Some(bound) = bound {
                    query.append_pair(name, &bound.to_string());
                }
            }
            query.append_pair("limit", &self.limit.to_string());
            if self.upstream.witness.is_open() {
                // Without their anchors assignments cannot be verified. Schedulers that do not know this ignore it.
                query.append_pair("show-anchor", "1");
            }
        }
        self.upstream.ask_page(&self.process, url).await
    }

    /// The elements that have not been seen. At the first fault, what is left is dropped and the fault kept for later.
    fn take_new(&mut self, nodes: Vec<Node>) -> Vec<Node> {
        let mut new = Vec::with_capacity(nodes.len());
        let mut seen = HashMap::with_capacity(nodes.len());
        for node in nodes {
            match self.check(&node, &seen) {
                Ok(true) => {
                    let a = &node.assignment;
                    self.last = Some(Last { epoch: a.epoch, nonce: a.nonce, timestamp: a.timestamp });
                    seen.insert((a.epoch, a.nonce), a.id.clone());
                    new.push(node);
                }
                Ok(false) => {}
                Err(what) => {
                    self.failed = Some(self.fault(&what));
                    break;
                }
            }
        }
        if !seen.is_empty() {
            self.seen.rotate_right(1);
            self.seen[0] = seen;
        }
        new
    }

    /// Whether the element is new (true) or a repeat of what was seen.
    fn check(&self, node: &Node, page: &HashMap<(u64, u64), String>) -> Result<bool, String> {
        let a = &node.assignment;
        if a.process != self.process.id {
            return Err(format!("assignment {} (nonce {}) names process {}", a.id, a.nonce, a.process));
        }
        let key = (a.epoch, a.nonce);
        let Some(last) = &self.last else {
            let begins = !matches!(self.from, From::Beginning) || a.epoch > 0 || a.nonce == 0;
            return if begins { Ok(true) } else { Err(format!("expected nonce 0 first, found nonce {}", a.nonce)) };
        };
        if key <= (last.epoch, last.nonce) {
            return match [page, &self.seen[0], &self.seen[1]].into_iter().find_map(|seen| seen.get(&key)) {
                Some(id) if *id == a.id => Ok(false),
                Some(id) => Err(format!("nonce {} is assignment {} now, and was {id}", a.nonce, a.id)),
                // Paging by time gives what shares the last millisecond again; longer ago than that it is disorder.
                None if a.timestamp <= last.timestamp => Ok(false),
                None => Err(format!("nonce {} stands after nonce {}", a.nonce, last.nonce)),
            };
        }
        if a.epoch == last.epoch && a.nonce != last.nonce + 1 {
            return Err(format!(
                "expected nonce {} after nonce {}, found nonce {}",
                last.nonce + 1,
                last.nonce,
                a.nonce
            ));
        }
        if a.timestamp < last.timestamp {
            let why = format!(
                "nonce {} has timestamp {}, before {} of nonce {}",
                a.nonce, a.timestamp, last.timestamp, last.nonce
            );
            return Err(why);
        }
        Ok(true)
    }

    fn fault(&self, what: &str) -> Error {
        let after = match &self.last {
            Some(last) => format!("after nonce {}", last.nonce),
            None => "from the beginning".to_owned(),
        };
        Error::Upstream(format!(
            "Encountered Error fetching scheduled messages from Scheduler Unit: schedule of process {} {after}: {what}",
            self.process.id
        ))
    }
}
