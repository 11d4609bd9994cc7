//! The one door to schedulers and gateways.

use std::sync::Arc;

use super::{End, EntryStream, Position, Process, Start};
use crate::{Error, UnitSettings, module::ModuleInfo};

/// All talk with schedulers and gateways. Cheap to clone.
#[derive(Clone)]
pub struct Upstream(Arc<()>);

impl Upstream {
    /// From a unit's settings. Touches neither network nor disk.
    pub fn new(settings: &UnitSettings) -> Result<Self, Error> {
        todo!()
    }

    /// The verified process. Cached.
    pub async fn process(&self, pid: &str) -> Result<Arc<Process>, Error> {
        todo!()
    }

    /// The process's module: its tags checked against what this unit admits. Cached.
    pub async fn module(&self, process: &Process) -> Result<Arc<ModuleInfo>, Error> {
        todo!()
    }

    /// The module's bytes, from the disk cache or the gateway.
    pub async fn module_bytes(&self, module_id: &str) -> Result<Arc<[u8]>, Error> {
        todo!()
    }

    /// Where a message stands in the schedule: `uid` is a message id, an assignment id, the process id (boot) or a nonce.
    pub async fn locate_message(&self, process: &Process, uid: &str) -> Result<Position, Error> {
        todo!()
    }

    /// Looks for `uid` in the schedule after `after`, bounded in pages and time.
    pub async fn find_in_schedule(&self, process: &Process, uid: &str, after: &Start) -> Result<Option<Position>, Error> {
        todo!()
    }

    /// The newest scheduled entry.
    pub async fn latest(&self, process: &Process) -> Result<Position, Error> {
        todo!()
    }

    /// The scheduler's present: (ms since 1970, block height).
    pub async fn now(&self, process: &Process) -> Result<(u64, u64), Error> {
        todo!()
    }

    /// The entries after `start` up to `end`, in order. Dropping the stream stops its work.
    pub fn entries(&self, process: Arc<Process>, start: Start, end: End) -> EntryStream {
        todo!()
    }
}
