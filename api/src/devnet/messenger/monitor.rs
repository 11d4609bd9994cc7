//! Monitoring: polling the compute unit for what a process's crons said.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use lockstep_cu::item::{Id, to_base64url};

use super::Messenger;
use super::outbox::Outbox;

/// Processes monitored at once.
const MONITORS_MAX: usize = 1024;
/// Results asked for at a time.
const PAGE: usize = 50;

/// A poll that goes on until this is dropped.
#[derive(Debug)]
pub struct Monitor {
    _alive: watch::Sender<()>,
}

/// Why monitoring did not begin or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MonitorError {
    /// It was begun before.
    #[error("Process already being monitored")]
    Already,
    /// It was never begun.
    #[error("Process monitor not found")]
    Unknown,
    /// There are too many.
    #[error("{MONITORS_MAX} processes are being monitored, and no more can be")]
    TooMany,
}

impl Messenger {
    /// Begins to monitor a process.
    ///
    /// # Errors
    /// [`MonitorError::Already`], [`MonitorError::TooMany`].
    pub fn monitor(self: &Arc<Self>, process: Id) -> Result<(), MonitorError> {
        if self.monitors.len() >= MONITORS_MAX {
            return Err(MonitorError::TooMany);
        }
        let (alive, mut gone) = watch::channel(());
        match self.monitors.entry(process) {
            dashmap::Entry::Occupied(_) => return Err(MonitorError::Already),
            dashmap::Entry::Vacant(vacant) => vacant.insert(Monitor { _alive: alive }),
        };
        let (messenger, mut stop) = (self.clone(), self.stop.clone());
        let process = to_base64url(&process);
        tokio::spawn(async move {
            tokio::select! {
                () = messenger.poll(&process) => {}
                _ = gone.changed() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        Ok(())
    }

    /// Ends the monitoring of a process.
    ///
    /// # Errors
    /// [`MonitorError::Unknown`].
    pub fn unmonitor(&self, process: &Id) -> Result<(), MonitorError> {
        self.monitors.remove(process).map(|_| ()).ok_or(MonitorError::Unknown)
    }

    async fn poll(self: &Arc<Self>, process: &str) {
        let mut cursor = None;
        loop {
            tokio::time::sleep(self.settings.poll_interval).await;
            if cursor.is_none() {
                cursor = self.newest_cursor(process).await;
            }
            let path = match &cursor {
                Some(cursor) => format!("/cron/{process}?from={cursor}&limit={PAGE}"),
                None => format!("/cron/{process}"),
            };
            // The next poll is the retry.
            let page = match self.ask(&path, 0).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(process, %error, "no cron results");
                    continue;
                }
            };
            let edges = page["edges"].as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(last) = edges.last().and_then(|edge| edge["cursor"].as_str()) {
                cursor = Some(last.to_owned());
            }
            match outboxes(edges) {
                Ok(outboxes) => {
                    for outbox in outboxes {
                        self.deliver(process, None, outbox).await;
                    }
                }
                Err(why) => tracing::warn!(process, why, "a page of cron results is dropped"),
            }
        }
    }

    /// Where the process stands when monitoring begins: what came before was pushed already, or is nobody's business.
    async fn newest_cursor(&self, process: &str) -> Option<String> {
        let path = format!("/results/{process}?sort=DESC&limit=1&processId={process}");
        match self.ask(&path, 0).await {
            Ok(page) => page["edges"][0]["cursor"].as_str().map(str::to_owned),
            Err(error) => {
                tracing::warn!(process, %error, "no results to start from");
                None
            }
        }
    }
}

/// The errands of a page; one malformed message drops them all, as it does in the real messenger.
fn outboxes(edges: &[Value]) -> Result<Vec<Outbox>, String> {
    let read = |edge: &Value| {
        let outbox = Outbox::read(&edge["node"])?;
        if outbox.skipped > 0 { Err("a message is malformed".to_owned()) } else { Ok(outbox) }
    };
    edges.iter().map(read).collect()
}
