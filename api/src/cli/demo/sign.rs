//! Signing everything beforehand, on all cores: two milliseconds of one core an item, which would hide everything else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lockstep_cu::item::{DataItem, Draft, Tag, TagError, Wallet};

use super::workload::Workload;
use super::{bar, cores};
use crate::devnet::http::off_io;

/// A process and its messages, in the order they are to be sent.
#[derive(Debug)]
pub struct Signed {
    /// The process.
    pub process: DataItem,
    /// Its id, as it is written.
    pub id: String,
    /// Its messages.
    pub messages: Vec<DataItem>,
}

/// Everything that is going to be sent.
#[derive(Debug)]
pub struct SignedAll {
    /// By process.
    pub processes: Vec<Arc<Signed>>,
    /// Messages in all.
    pub messages: u64,
    /// How long it took to sign the messages.
    pub took: Duration,
}

/// Signs the processes and their messages. No process is left without a message: there are as many as there are messages, at
/// most.
///
/// # Errors
/// Tags that no item can have.
pub async fn sign_all(
    user: Arc<Wallet>,
    workload: Arc<Workload>,
    tags: Vec<Tag>,
    processes: u64,
    messages: u64,
) -> Result<SignedAll, TagError> {
    off_io(move || {
        let processes = processes.min(messages);
        let draft = |_| Draft { tags: tags.clone(), data: b" ".to_vec(), ..Draft::default() };
        let born = sign_drafts(&user, processes, &draft, &bar("processes", processes))?;
        let ids: Vec<_> = born.iter().map(DataItem::id).collect();
        let began = Instant::now();
        let draft = |nth: u64| workload.message(&ids[(nth % processes) as usize], nth);
        let signed = sign_drafts(&user, messages, &draft, &bar("signing", messages))?;
        let took = began.elapsed();
        let mut all: Vec<Signed> =
            born.into_iter().map(|process| Signed { id: process.id_text(), process, messages: Vec::new() }).collect();
        for (nth, message) in (0..).zip(signed) {
            all[(nth % processes) as usize].messages.push(message);
        }
        Ok(SignedAll { processes: all.into_iter().map(Arc::new).collect(), messages, took })
    })
    .await
}

/// Signs `count` drafts on all cores; the order of the drafts is kept.
fn sign_drafts(
    user: &Wallet,
    count: u64,
    draft: &(impl Fn(u64) -> Draft + Sync),
    progress: &indicatif::ProgressBar,
) -> Result<Vec<DataItem>, TagError> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut mine = Vec::new();
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= count {
                return Ok(mine);
            }
            mine.push((nth, user.sign(draft(nth))?));
            progress.inc(1);
        }
    };
    let parts: Vec<Result<Vec<(u64, DataItem)>, TagError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("signing does not panic")).collect()
    });
    progress.finish_and_clear();
    let mut signed = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    for part in parts {
        signed.extend(part?);
    }
    signed.sort_unstable_by_key(|(nth, _)| *nth);
    Ok(signed.into_iter().map(|(_, item)| item).collect())
}
