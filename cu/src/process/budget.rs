//! How much memory live processes may hold together, and who goes first when it is too much.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::mpsc;

use super::actor::Mail;
use crate::metrics::Counted;

/// The memory account of all live processes.
pub(super) struct Budget {
    bytes_max: u64,
    metrics: Counted,
    slots: Mutex<HashMap<String, Slot>>,
}

struct Slot {
    bytes: u64,
    used: Instant,
    busy: bool,
    /// Was asked to go, and has not answered yet.
    leaving: bool,
    mail: mpsc::WeakSender<Mail>,
}

impl Budget {
    pub(super) fn new(bytes_max: u64, metrics: Counted) -> Self {
        Self { bytes_max, metrics, slots: Mutex::default() }
    }

    /// A process is in memory, holds this much, and is or is not at work. Makes room if that is too much.
    pub(super) fn holds(&self, pid: &str, bytes: u64, busy: bool, mail: &mpsc::WeakSender<Mail>) {
        let mut slots = self.lock();
        let slot = Slot { bytes, used: Instant::now(), busy, leaving: false, mail: mail.clone() };
        if slots.insert(pid.to_owned(), slot).is_none() {
            self.metrics.live(1);
        }
        self.make_room(&mut slots, pid);
        self.measure(&slots);
    }

    /// A process is no longer in memory.
    pub(super) fn released(&self, pid: &str) {
        let mut slots = self.lock();
        if slots.remove(pid).is_some() {
            self.metrics.live(-1);
        }
        self.measure(&slots);
    }

    pub(super) fn processes(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lock().values().map(|slot| slot.bytes).sum()
    }

    /// Idle processes are asked to go, least recently used first. The one that was used last stays even if it alone is
    /// over the budget: dropping it would make its every message a replay from the beginning.
    fn make_room(&self, slots: &mut HashMap<String, Slot>, latest: &str) {
        let mut held: u64 = slots.values().filter(|slot| !slot.leaving).map(|slot| slot.bytes).sum();
        while held > self.bytes_max {
            let oldest = slots
                .iter_mut()
                .filter(|(pid, slot)| !slot.busy && !slot.leaving && pid.as_str() != latest)
                .min_by_key(|(_, slot)| slot.used);
            let Some((_, slot)) = oldest else { break };
            slot.leaving = true;
            held -= slot.bytes;
            if let Some(mail) = slot.mail.upgrade() {
                // A full mailbox belongs to a process that is not idle after all.
                let _ = mail.try_send(Mail::Leave);
            }
        }
    }

    fn measure(&self, slots: &HashMap<String, Slot>) {
        self.metrics.process_bytes.set(slots.values().map(|slot| slot.bytes).sum());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tenant {
        _keep: mpsc::Sender<Mail>,
        mail: mpsc::Receiver<Mail>,
        weak: mpsc::WeakSender<Mail>,
    }

    fn tenant() -> Tenant {
        let (send, mail) = mpsc::channel(4);
        Tenant { weak: send.downgrade(), _keep: send, mail }
    }

    fn told_to_leave(tenant: &mut Tenant) -> bool {
        matches!(tenant.mail.try_recv(), Ok(Mail::Leave))
    }

    #[test]
    fn the_idle_process_used_longest_ago_is_asked_to_go_first() {
        let budget = Budget::new(100, Counted::default());
        let (mut a, mut b, mut c) = (tenant(), tenant(), tenant());
        budget.holds("a", 40, false, &a.weak);
        budget.holds("b", 40, false, &b.weak);
        budget.holds("a", 40, false, &a.weak);
        budget.holds("c", 40, true, &c.weak);
        assert!(!told_to_leave(&mut a) && told_to_leave(&mut b) && !told_to_leave(&mut c));
        assert_eq!(budget.bytes(), 120);
        budget.released("b");
        assert_eq!((budget.bytes(), budget.processes()), (80, 2));
    }

    #[test]
    fn processes_at_work_and_the_one_used_last_stay() {
        let budget = Budget::new(10, Counted::default());
        let (mut a, mut b) = (tenant(), tenant());
        budget.holds("a", 40, true, &a.weak);
        budget.holds("b", 40, false, &b.weak);
        assert!(!told_to_leave(&mut a) && !told_to_leave(&mut b));
    }

    #[test]
    fn nobody_is_asked_twice() {
        let budget = Budget::new(50, Counted::default());
        let (mut a, b) = (tenant(), tenant());
        budget.holds("a", 40, false, &a.weak);
        budget.holds("b", 40, true, &b.weak);
        assert!(told_to_leave(&mut a));
        budget.holds("b", 41, true, &b.weak);
        assert!(!told_to_leave(&mut a));
    }
}
