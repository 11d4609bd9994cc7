//! Pushing: from a scheduled item to its result, from the result to the next items, and so on.
//!
//! What one result asks for is scheduled in the result's order (messages, spawns, assignments); the results of those are then
//! asked for side by side.

use std::sync::Arc;

use lockstep_cu::item::{DataItem, Draft, Tag, parse_id, tags, to_base64url};

use super::outbox::{Assignment, Message, Outbox, Spawn};
use super::{CuError, Messenger, RETRIES_MAX};
use crate::devnet::http::off_io;
use crate::devnet::scheduler::{AssignOptions, Refusal};

/// An item whose result is to be pushed.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The process whose schedule it is in.
    pub process: String,
    /// What the compute unit knows it by: message id, assignment id, or the process's own id for its boot.
    pub id: String,
    /// The item a person sent that all this came from; none for crons.
    pub pushed_for: Option<String>,
}

/// Why an errand ends.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    Cu(#[from] CuError),
    #[error("the result of {0} is lost: {1}")]
    Lost(String, String),
    #[error("not scheduled: {0}")]
    Refused(#[from] Refusal),
    #[error("cannot be sent: {0}")]
    Unsendable(String),
}

impl Messenger {
    /// Asks for an item's result and sends on what it says, beside everything else.
    pub fn push(self: &Arc<Self>, origin: Origin) {
        let messenger = self.clone();
        self.spawn("push", async move {
            match messenger.result(&origin).await {
                Ok(outbox) => messenger.deliver(&origin.process, origin.pushed_for.as_deref(), outbox).await,
                Err(error) => tracing::warn!(process = origin.process, id = origin.id, %error, "nothing is pushed"),
            }
        });
    }

    /// Sends on what a result of `process` says.
    pub(super) async fn deliver(self: &Arc<Self>, process: &str, pushed_for: Option<&str>, outbox: Outbox) {
        if outbox.skipped > 0 {
            tracing::warn!(process, "{} malformed messages are left out", outbox.skipped);
        }
        let failed = |what: &str, error: PushError| tracing::warn!(process, what, %error, "an errand ends here");
        for message in outbox.messages {
            match self.send_message(process, pushed_for, message).await {
                Ok(Some(next)) => self.push(next),
                Ok(None) => {}
                Err(error) => failed("message", error),
            }
        }
        for spawn in outbox.spawns {
            match self.send_spawn(process, pushed_for, &spawn).await {
                Ok(child) => self.report_spawn(process.to_owned(), pushed_for.map(str::to_owned), spawn, child),
                Err(error) => failed("spawn", error),
            }
        }
        for assignment in outbox.assignments {
            for target in &assignment.processes {
                match self.send_assignment(target, pushed_for, &assignment).await {
                    Ok(next) => self.push(next),
                    Err(error) => failed("assignment", error),
                }
            }
        }
    }

    async fn result(&self, origin: &Origin) -> Result<Outbox, PushError> {
        let path = format!("/result/{}?process-id={}&no-busy=1", origin.id, origin.process);
        let result = self.ask(&path, RETRIES_MAX).await?;
        Outbox::read(&result).map_err(|why| PushError::Lost(origin.id.clone(), why))
    }

    async fn send_message(
        self: &Arc<Self>,
        process: &str,
        pushed_for: Option<&str>,
        message: Message,
    ) -> Result<Option<Origin>, PushError> {
        let unsendable = |why: String| PushError::Unsendable(why);
        let target = message.target.ok_or_else(|| unsendable("it has no target".into()))?;
        let target_id = parse_id(&target).ok_or_else(|| unsendable(format!("its target {target:?} is no id")))?;
        let anchor = match message.anchor {
            None => None,
            Some(text) => Some(
                text.as_bytes().try_into().map_err(|_| unsendable(format!("its anchor {text:?} has not 32 bytes")))?,
            ),
        };
        const OURS: [&str; 5] = ["Data-Protocol", "Type", "From-Process", "From-Module", "Assignments"];
        let mut tags = without(message.tags, &OURS);
        tags.extend([
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Type", "Message"),
            Tag::new("From-Process", process),
            Tag::new("From-Module", self.module_of(process).unwrap_or_default()),
        ]);
        tags.extend(pushed_for.map(|id| Tag::new("Pushed-For", id)));
        let item = self.sign(Draft { target: Some(target_id), anchor, tags, data: message.data }).await?;
        let ledger = self.scheduler.ledger();
        if self.scheduler.process(&target_id).is_none() && !ledger.contains(&target_id) {
            // Nobody schedules for a wallet: the item goes to "Arweave", and that is all.
            ledger.insert_item(item);
            return Ok(None);
        }
        let id = item.id_text();
        self.schedule(item).await?;
        Ok(Some(Origin { process: target, id, pushed_for: pushed_for.map(str::to_owned) }))
    }

    async fn send_spawn(
        self: &Arc<Self>,
        process: &str,
        pushed_for: Option<&str>,
        spawn: &Spawn,
    ) -> Result<String, PushError> {
        let mut tags = without(self.with_module(process, spawn.tags.clone()), &["Data-Protocol", "Type", "Variant"]);
        tags.extend([
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Type", "Process"),
            Tag::new("Variant", "ao.TN.1"),
            Tag::new("From-Process", process),
        ]);
        tags.extend(pushed_for.map(|id| Tag::new("Pushed-For", id)));
        if tags::first(&tags, "Scheduler").is_none() {
            tags.push(Tag::new("Scheduler", self.scheduler.address()));
        }
        let child = self.sign(Draft { target: None, anchor: None, tags, data: spawn.data.clone() }).await?;
        let id = child.id_text();
        self.schedule(child).await?;
        Ok(id)
    }

    /// Tells the parent of its child, then pushes the results of the child's boot and of the news.
    fn report_spawn(self: &Arc<Self>, parent: String, pushed_for: Option<String>, spawn: Spawn, child: String) {
        let messenger = self.clone();
        self.spawn("spawn", async move {
            let boot = Origin { process: child.clone(), id: child.clone(), pushed_for: pushed_for.clone() };
            let booted = match messenger.result(&boot).await {
                Ok(booted) => booted,
                Err(error) => {
                    tracing::warn!(process = child, %error, "the spawned process has no boot result");
                    Outbox::default()
                }
            };
            match messenger.send_spawned(&parent, &pushed_for, spawn, &child).await {
                Ok(news) => messenger.push(news),
                Err(error) => tracing::warn!(process = parent, %error, "the parent is not told of its child"),
            }
            messenger.deliver(&child, pushed_for.as_deref(), booted).await;
        });
    }

    async fn send_spawned(
        self: &Arc<Self>,
        parent: &str,
        pushed_for: &Option<String>,
        spawn: Spawn,
        child: &str,
    ) -> Result<Origin, PushError> {
        let variant = tags::first(&spawn.tags, "Variant").unwrap_or("ao.TN.1").to_owned();
        let mut tags = self.with_module(parent, spawn.tags);
        tags.retain(|tag| !(tag.name == "Data-Protocol" && tag.value == "ao"));
        let mut tags = without(tags, &["Variant", "Type"]);
        tags.extend([
            Tag::new("Data-Protocol", "ao"),
            Tag::new("Type", "Message"),
            Tag::new("Process", child),
            Tag::new("Action", "Spawned"),
            Tag::new("Variant", variant),
        ]);
        let target = parse_id(parent).ok_or_else(|| PushError::Unsendable(format!("{parent:?} is no id")))?;
        let item = self.sign(Draft { target: Some(target), anchor: None, tags, data: b" ".to_vec() }).await?;
        let id = item.id_text();
        self.schedule(item).await?;
        Ok(Origin { process: parent.to_owned(), id, pushed_for: pushed_for.clone() })
    }

    async fn send_assignment(
        self: &Arc<Self>,
        process: &str,
        pushed_for: Option<&str>,
        assignment: &Assignment,
    ) -> Result<Origin, PushError> {
        let (scheduler, to, message) = (self.scheduler.clone(), process.to_owned(), assignment.message.clone());
        let options = AssignOptions { base_layer: assignment.base_layer, exclude: assignment.exclude.clone() };
        let scheduled = off_io(move || scheduler.assign(&to, &message, &options)).await?;
        let id = to_base64url(&scheduled.id);
        Ok(Origin { process: process.to_owned(), id, pushed_for: pushed_for.map(str::to_owned) })
    }

    async fn sign(&self, draft: Draft) -> Result<Arc<DataItem>, PushError> {
        let wallet = self.wallet.clone();
        let signed = off_io(move || wallet.sign(draft)).await;
        signed.map(Arc::new).map_err(|error| PushError::Unsendable(error.to_string()))
    }

    async fn schedule(&self, item: Arc<DataItem>) -> Result<(), PushError> {
        let scheduler = self.scheduler.clone();
        off_io(move || scheduler.post_verified(item)).await?;
        Ok(())
    }

    fn module_of(&self, process: &str) -> Option<String> {
        let birth = self.scheduler.process(&parse_id(process)?)?;
        birth.process.tag("Module").map(str::to_owned)
    }

    /// `From-Module` tags that tell the truth.
    fn with_module(&self, process: &str, mut tags: Vec<Tag>) -> Vec<Tag> {
        let module = self.module_of(process).unwrap_or_default();
        for tag in tags.iter_mut().filter(|tag| tag.name == "From-Module") {
            tag.value.clone_from(&module);
        }
        tags
    }
}

fn without(mut tags: Vec<Tag>, names: &[&str]) -> Vec<Tag> {
    tags.retain(|tag| !names.contains(&tag.name.as_str()));
    tags
}
