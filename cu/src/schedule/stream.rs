//! The ordered entries of a process, as a stream.

use super::Entry;
use crate::Error;

/// Entries in order. The next page is fetched while this one is consumed. Dropping it stops its work.
pub struct EntryStream(());

impl EntryStream {
    /// The next entry; `None` after the last one, and after an error.
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        todo!()
    }

    /// [`next`](Self::next) for a thread outside the runtime.
    pub fn next_blocking(&mut self) -> Option<Result<Entry, Error>> {
        todo!()
    }
}
