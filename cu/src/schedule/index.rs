//! Which ids stand where, as seen on pages.
//!
//! Schedulers are asked for a message's place only if it is not known from here: some stop resolving an id once the
//! message has also been assigned to another process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use super::page::Node;
use crate::ids;

/// Processes remembered; the one that was added to the longest ago goes first.
const PROCESSES_MAX: usize = 256;
/// Ids remembered of one process; the oldest go first.
const IDS_MAX: usize = 8192;

/// Where an id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub nonce: u64,
    /// ms
    pub timestamp: u64,
    pub is_process: bool,
}

/// The newest element seen of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub epoch: u64,
    pub nonce: u64,
    /// ms
    pub timestamp: u64,
    pub assignment_id: String,
}

#[derive(Default)]
struct Known {
    places: HashMap<[u8; 32], Place>,
    order: VecDeque<[u8; 32]>,
    newest: Option<Newest>,
    /// Ids of every nonce from this one to the newest are known.
    complete_from: u64,
    used: u64,
}

/// What is known of all processes.
#[derive(Default)]
pub(crate) struct Index {
    processes: Mutex<(HashMap<String, Known>, u64)>,
}

impl Index {
    /// Remembers consecutive elements of a process's schedule.
    pub fn add(&self, process: &str, nodes: &[Node]) {
        let Some(last) = nodes.last() else { return };
        let mut guard = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let (processes, clock) = &mut *guard;
        *clock += 1;
        if !processes.contains_key(process) && processes.len() >= PROCESSES_MAX {
            let oldest = processes.iter().min_by_key(|(_, known)| known.used).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| processes.remove(&oldest));
        }
        let known = processes.entry(process.to_owned()).or_default();
        known.used = *clock;
        let first = nodes[0].assignment.nonce;
        if known.newest.as_ref().is_none_or(|newest| first > newest.nonce + 1) {
            known.complete_from = first;
        } else if last.assignment.nonce + 1 >= known.complete_from {
            known.complete_from = known.complete_from.min(first);
        }
        for node in nodes {
            let assignment = &node.assignment;
            let place = Place {
                nonce: assignment.nonce,
                timestamp: assignment.timestamp,
                is_process: node.message_id() == assignment.process,
            };
            known.add(&assignment.id, place);
            known.add(node.message_id(), place);
        }
        let newest = &last.assignment;
        if known.newest.as_ref().is_none_or(|seen| (seen.epoch, seen.nonce) < (newest.epoch, newest.nonce)) {
            known.newest = Some(Newest {
                epoch: newest.epoch,
                nonce: newest.nonce,
                timestamp: newest.timestamp,
                assignment_id: newest.id.clone(),
            });
        }
    }

    /// Where `id` stands in a process's schedule.
    pub fn find(&self, process: &str, id: &str) -> Option<Place> {
        let guard = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        guard.0.get(process)?.places.get(&key(id)?).copied()
    }

    /// The nonce from which on to the newest every id of a process's schedule is known here.
    pub fn complete_from(&self, process: &str) -> Option<u64> {
        let guard = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        guard.0.get(process).map(|known| known.complete_from)
    }

    /// The newest element seen of a process's schedule.
    pub fn newest(&self, process: &str) -> Option<Newest> {
        let guard = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        guard.0.get(process)?.newest.clone()
    }
}

impl Known {
    /// The first place of an id stays: a message assigned twice is asked for by its message id where it first stood.
    fn add(&mut self, id: &str, place: Place) {
        let Some(key) = key(id) else { return };
        if self.places.contains_key(&key) {
            return;
        }
        self.places.insert(key, place);
        self.order.push_back(key);
        if self.order.len() > IDS_MAX {
            let oldest = self.order.pop_front();
            let forgotten = oldest.and_then(|oldest| self.places.remove(&oldest));
            let nonce = forgotten.map_or(0, |place| place.nonce);
            self.complete_from = self.complete_from.max(nonce + 1);
        }
    }
}

/// Ids of 32 bytes, all that the network makes.
fn key(id: &str) -> Option<[u8; 32]> {
    let bytes: [u8; 32] = ids::decode_leniently(id).try_into().ok()?;
    (ids::encode(&bytes) == id).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::page::Assignment;

    fn id(n: u64) -> String {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        ids::encode(&bytes)
    }

    fn node(nonce: u64) -> Node {
        let assignment = Assignment {
            id: id(nonce),
            process: "P".into(),
            epoch: 0,
            nonce,
            timestamp: nonce * 10,
            block_height: 0,
            hash_chain: None,
            message: Some(id(nonce + 1_000_000)),
            exclude: vec![],
        };
        Node { assignment, item: None }
    }

    #[test]
    fn both_ids_lead_to_the_place_and_only_in_their_process() {
        let index = Index::default();
        index.add("P", &[node(3), node(4)]);
        let place = Place { nonce: 4, timestamp: 40, is_process: false };
        assert_eq!(index.find("P", &id(4)), Some(place));
        assert_eq!(index.find("P", &id(1_000_004)), Some(place));
        assert_eq!(index.find("Q", &id(4)), None);
        assert_eq!(index.find("P", "4"), None);
        assert_eq!(index.newest("P").unwrap().nonce, 4);
        index.add("P", &[node(1)]);
        assert_eq!(index.newest("P").unwrap().nonce, 4, "the newest stays");
    }

    #[test]
    fn it_knows_from_where_on_it_knows_all() {
        let index = Index::default();
        let from = || index.complete_from("P");
        assert_eq!(from(), None);
        index.add("P", &[node(5), node(6)]);
        assert_eq!(from(), Some(5));
        index.add("P", &[node(7)]);
        assert_eq!(from(), Some(5));
        index.add("P", &[node(0), node(1)]);
        assert_eq!(from(), Some(5), "2 to 4 are not known");
        index.add("P", &[node(2), node(3), node(4)]);
        assert_eq!(from(), Some(2), "a lower bound will do");
        index.add("P", &[node(9)]);
        assert_eq!(from(), Some(9));
    }

    #[test]
    fn memory_is_bounded_in_ids_and_processes() {
        let index = Index::default();
        for n in 0..IDS_MAX as u64 {
            index.add("P", &[node(n)]);
        }
        assert_eq!(index.find("P", &id(0)), None);
        assert_eq!(index.complete_from("P"), Some(IDS_MAX as u64 / 2));
        assert!(index.find("P", &id(IDS_MAX as u64 - 1)).is_some());
        for n in 0..PROCESSES_MAX {
            index.add(&format!("Q{n}"), &[node(1)]);
        }
        assert_eq!(index.newest("P"), None);
        assert!(index.newest("Q0").is_some());
        assert_eq!(index.processes.lock().unwrap().0.len(), PROCESSES_MAX);
    }
}
