//! What outlives the process: results, what a message id stands for, and what was seen before.
//!
//! One `fjall` database. A commit is one batch across its keyspaces: after `kill -9` a result is there with its index
//! entries, or none of them is. Rows are never overwritten.

mod key;
mod page;
mod row;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use lockstep_jit::{ModuleFormat, Outcome};

use crate::Error;
pub use key::{Place, PlacePrefix};
pub use page::{PAGE_BYTES_MAX, Query, Rows};
pub use row::Row;

/// What the store in a directory was written as. Another value: another version of this program.
const VERSION: &str = "lockstep-results-1";
/// Bytes of blocks kept in memory.
const BLOCK_CACHE_BYTES: u64 = 64 << 20;
/// Threads that flush and compact.
const MAINTENANCE_THREADS: usize = 1;

/// The results store. Blocking, but quick (memory and page cache): a read or a commit takes microseconds.
pub struct Store {
    path: PathBuf,
    database: Database,
    rows: Keyspace,
    names: Keyspace,
    seen: Keyspace,
    rates: Keyspace,
    count: AtomicU64,
    unsynced: AtomicBool,
}

/// What became of a row that was offered.
#[derive(Clone, Debug, PartialEq)]
pub enum Saved {
    /// It was the first for its place.
    First,
    /// An equal one was there.
    Same,
    /// Another one was there, and stays: a determinism fault.
    Differs(Box<Row>),
}

/// What a message or assignment id stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It was evaluated.
    Evaluated(Box<Row>),
    /// The protocol skips it: the same content had been evaluated at a smaller nonce.
    Skipped(Place),
}

/// A scheduled message that the protocol skips.
#[derive(Clone, Copy, Debug)]
pub struct Duplicate<'a> {
    /// Where it stands.
    pub place: &'a Place,
    /// Id of its data item.
    pub message_id: Option<&'a str>,
    /// Id of its assignment.
    pub assignment_id: Option<&'a str>,
}

/// The first time something was scheduled on a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The schedule's epoch.
    pub epoch: u64,
    /// Its slot.
    pub nonce: u64,
}

const NAME_EVALUATED: u8 = 0;
const NAME_SKIPPED: u8 = 1;

impl Store {
    /// Opens the store in `path`, or begins one there.
    ///
    /// # Errors
    /// `Internal`, naming the directory: not writable, in use by another process, damaged, or of another version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fail = |what: String| Error::Internal(format!("results store in {}: {what}", path.display()));
        std::fs::create_dir_all(path).map_err(|e| fail(format!("cannot make the directory: {e}")))?;
        let database =
            Database::builder(path).cache_size(BLOCK_CACHE_BYTES).worker_threads(MAINTENANCE_THREADS).open().map_err(
                |e| match e {
                    fjall::Error::Locked => fail("another process uses it".into()),
                    fjall::Error::InvalidVersion(found) => fail(format!(
                        "its files are of another version ({}); move it away to begin a new one",
                        found.map_or_else(|| "unknown".to_owned(), |v| v.to_string())
                    )),
                    other => fail(other.to_string()),
                },
            )?;
        let keyspace = |name: &str| {
            let options = || KeyspaceCreateOptions::default().expect_point_read_hits(false);
            database.keyspace(name, options).map_err(|e| fail(format!("keyspace {name}: {e}")))
        };
        let meta = keyspace("meta")?;
        let found = meta.get("version").map_err(|e| fail(e.to_string()))?;
        match found {
            Some(found) if *found == *VERSION.as_bytes() => {}
            Some(found) => {
                return Err(fail(format!(
                    "it was written as `{}` and this version reads `{VERSION}`; move it away to begin a new one",
                    String::from_utf8_lossy(&found)
                )));
            }
            None => {
                meta.insert("version", VERSION).map_err(|e| fail(e.to_string()))?;
                database.persist(PersistMode::SyncAll).map_err(|e| fail(e.to_string()))?;
            }
        }
        let rows = keyspace("results")?;
        let count = AtomicU64::new(rows.approximate_len() as u64);
        Ok(Self {
            path: path.to_owned(),
            names: keyspace("names")?,
            seen: keyspace("seen")?,
            rates: keyspace("rates")?,
            rows,
            database,
            count,
            unsynced: AtomicBool::new(false),
        })
    }

    /// Rows kept, about.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The row at a place.
    ///
    /// # Errors
    /// `Internal`: the store cannot be read, or what is there is not a row.
    pub fn row(&self, process_id: &str, place: &Place) -> Result<Option<Row>, Error> {
        let found = self.rows.get(key::row(process_id, place)?).map_err(|e| self.fail(&e))?;
        found.map(|bytes| self.decode(process_id, place.clone(), &bytes)).transpose()
    }

    /// What a message id or assignment id stands for on a process, as far as it was evaluated here.
    ///
    /// # Errors
    /// As [`Store::row`].
    pub fn named(&self, process_id: &str, id: &str) -> Result<Option<Known>, Error> {
        let Some(bytes) = self.names.get(key::named(process_id, id)?).map_err(|e| self.fail(&e))? else {
            return Ok(None);
        };
        let entry = bytes.split_first().and_then(|(kind, place)| Some((*kind, Place::decode(place)?)));
        match entry {
            Some((NAME_EVALUATED, place)) => {
                Ok(self.row(process_id, &place)?.map(|row| Known::Evaluated(Box::new(row))))
            }
            Some((NAME_SKIPPED, place)) => Ok(Some(Known::Skipped(place))),
            _ => Err(self.damaged(process_id, id)),
        }
    }

    /// Offers a row. The first for a place is kept for ever; its ids, and the deduplication key under which it was
    /// scheduled, are kept with it in one commit.
    ///
    /// # Errors
    /// `Internal`: the store cannot be written. Nothing of the row is kept then.
    pub fn save(&self, process_id: &str, row: &Row, key: Option<&str>) -> Result<Saved, Error> {
        if let Some(kept) = self.row(process_id, &row.place)? {
            let same = kept.outcome == row.outcome && text_of(&kept.outcome) == text_of(&row.outcome);
            return Ok(if same { Saved::Same } else { Saved::Differs(Box::new(kept)) });
        }
        let mut batch = self.database.batch();
        batch.insert(&self.rows, key::row(process_id, &row.place)?, row.encode());
        let ids = [row.message_id.as_deref(), row.assignment_id.as_deref()];
        self.index(&mut batch, process_id, ids, NAME_EVALUATED, &row.place)?;
        if let (Some(key), Some(epoch), Some(nonce)) = (key, row.epoch, row.nonce) {
            self.note(&mut batch, process_id, key, Seen { epoch, nonce })?;
        }
        self.commit(batch)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(Saved::First)
    }

    /// Remembers that the protocol skips a message, so that its ids have an answer later.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn skip(&self, process_id: &str, duplicate: Duplicate<'_>) -> Result<(), Error> {
        let mut batch = self.database.batch();
        let ids = [duplicate.message_id, duplicate.assignment_id];
        self.index(&mut batch, process_id, ids, NAME_SKIPPED, duplicate.place)?;
        self.commit(batch)
    }

    /// When a deduplication key was first scheduled on a process.
    ///
    /// # Errors
    /// As [`Store::row`].
    pub fn seen(&self, process_id: &str, key: &str) -> Result<Option<Seen>, Error> {
        let Some(bytes) = self.seen.get(key::named(process_id, key)?).map_err(|e| self.fail(&e))? else {
            return Ok(None);
        };
        let seen = bytes.split_first_chunk::<8>().and_then(|(epoch, rest)| {
            let nonce = rest.try_into().ok()?;
            Some(Seen { epoch: u64::from_be_bytes(*epoch), nonce: u64::from_be_bytes(nonce) })
        });
        seen.map(Some).ok_or_else(|| self.damaged(process_id, key))
    }

    /// Remembers when a deduplication key was scheduled; of one epoch, the smallest nonce is kept.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn see(&self, process_id: &str, key: &str, at: Seen) -> Result<(), Error> {
        let mut batch = self.database.batch();
        self.note(&mut batch, process_id, key, at)?;
        if batch.is_empty() { Ok(()) } else { self.commit(batch) }
    }

    /// What was learnt of the engines' rates with a module, as its gate wrote it.
    ///
    /// # Errors
    /// `Internal`: the store cannot be read.
    pub fn rates(&self, module: &str, format: ModuleFormat) -> Result<Option<String>, Error> {
        let found = self.rates.get(format!("{module} {format}")).map_err(|e| self.fail(&e))?;
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Keeps that, in the place of what was kept before.
    ///
    /// # Errors
    /// `Internal`: the store cannot be written.
    pub fn keep_rates(&self, module: &str, format: ModuleFormat, text: &str) -> Result<(), Error> {
        self.rates.insert(format!("{module} {format}"), text).map_err(|e| self.fail(&e))?;
        self.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    /// Puts what was committed onto the disk itself; a commit alone survives the death of this process, not that of
    /// the machine.
    ///
    /// # Errors
    /// `Internal`: the disk refused.
    pub fn sync(&self) -> Result<(), Error> {
        if self.unsynced.swap(false, Ordering::AcqRel) {
            self.database.persist(PersistMode::SyncData).map_err(|e| self.fail(&e))?;
        }
        Ok(())
    }

    fn index(
        &self,
        batch: &mut fjall::OwnedWriteBatch,
        process_id: &str,
        ids: [Option<&str>; 2],
        kind: u8,
        place: &Place,
    ) -> Result<(), Error> {
        for id in ids.into_iter().flatten() {
            let key = key::named(process_id, id)?;
            if !self.names.contains_key(&key).map_err(|e| self.fail(&e))? {
                let mut value = vec![kind];
                value.extend_from_slice(&place.encode());
                batch.insert(&self.names, key, value);
            }
        }
        Ok(())
    }

    fn note(&self, batch: &mut fjall::OwnedWriteBatch, process_id: &str, key: &str, at: Seen) -> Result<(), Error> {
        match self.seen(process_id, key)? {
            Some(known) if known.epoch != at.epoch || known.nonce <= at.nonce => {}
            _ => {
                let mut value = at.epoch.to_be_bytes().to_vec();
                value.extend_from_slice(&at.nonce.to_be_bytes());
                batch.insert(&self.seen, key::named(process_id, key)?, value);
            }
        }
        Ok(())
    }

    fn commit(&self, batch: fjall::OwnedWriteBatch) -> Result<(), Error> {
        batch.commit().map_err(|e| self.fail(&e))?;
        self.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    fn decode(&self, process_id: &str, place: Place, bytes: &[u8]) -> Result<Row, Error> {
        let at = format!("{},{}", place.timestamp, place.ordinate);
        Row::decode(place, bytes).ok_or_else(|| self.damaged(process_id, &at))
    }

    fn damaged(&self, process_id: &str, what: &str) -> Error {
        Error::Internal(format!(
            "results store in {}: what it has for {what} of process {process_id} cannot be read",
            self.path.display()
        ))
    }

    fn fail(&self, error: &fjall::Error) -> Error {
        Error::Internal(format!("results store in {}: {error}", self.path.display()))
    }
}

/// Byte-for-byte comparison: equal values may still differ in the order of their keys.
fn text_of(outcome: &Outcome) -> Vec<u8> {
    serde_json::to_vec(&row::Members::of(outcome)).expect("a JSON value with text keys always serialises")
}

#[cfg(test)]
mod tests;
