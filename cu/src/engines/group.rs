//! A module's messages gathered into groups, on a thread of the module's own: whoever is ready within a short wait goes into
//! the lanes together, and while they are there the next ones gather.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Weak,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use lockstep_jit::{
    Evaluation, OwnedCall,
    lanes::{Came, Change, Visit},
};
use tokio::sync::oneshot;

use super::{Gate, Live, Seating, rates::Group};
use crate::process::pool::panic_text;

/// How often a thread without work looks whether the unit is closing.
const IDLE: Duration = Duration::from_millis(200);

/// What a lane made of a message, before it is the process's.
pub(crate) struct Given {
    pub evaluation: Box<Evaluation>,
    /// Of the process's memory, if the message is kept.
    pub change: Option<Change>,
}

/// A process that gives its message, and itself, to the lanes for a while.
pub(super) struct Offer {
    pub live: Box<dyn Live>,
    pub call: OwnedCall,
    pub reply: oneshot::Sender<Visited>,
}

/// The process again, and what became of the message; none: the native engine has to do it.
pub(super) type Visited = (Box<dyn Live>, Option<Given>);

/// Takes offers until nobody can make any, or the adapter fails, which is the answer then.
pub(super) fn run(gate: &Weak<Gate>, mut seating: Box<dyn Seating>, offers: &Receiver<Offer>) -> Result<(), String> {
    loop {
        let first = match offers.recv_timeout(IDLE) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        // The gate must not be held while nobody is at it.
        let Some(gate) = gate.upgrade().filter(|gate| !gate.rules.is_closing()) else {
            return Ok(());
        };
        if let Some(first) = first {
            let group = gather(&gate, first, offers, seating.lanes_max().max(1));
            evaluate(&gate, &mut *seating, group)?;
            if let Some(why) = seating.complaint() {
                compile_again(&gate, &mut *seating, offers, why)?;
            }
        }
    }
}

/// The first offer, and those that come after it: no more than there is room for, no longer than it is worth, and without
/// waiting for more than are under way.
fn gather(gate: &Gate, first: Offer, offers: &Receiver<Offer>, lanes_max: usize) -> Vec<Offer> {
    let begun = Instant::now();
    let mut group = vec![first];
    while group.len() < lanes_max {
        let is_all = group.len() >= gate.ready();
        let left = gate.gathering(group.len()).saturating_sub(begun.elapsed());
        match offers.recv_timeout(if is_all { Duration::ZERO } else { left.min(gate.rules.wait) }) {
            Ok(offer) => group.push(offer),
            Err(_) => break,
        }
    }
    // Nobody waits for an answer that nobody wants.
    group.retain(|offer| !offer.reply.is_closed());
    group
}

fn evaluate(gate: &Gate, seating: &mut dyn Seating, mut group: Vec<Offer>) -> Result<(), String> {
    if group.is_empty() {
        return Ok(());
    }
    let Some(patience) = gate.admits(group.len()) else {
        // Too few have come.
        group.into_iter().for_each(decline);
        return Ok(());
    };
    let begun = Instant::now();
    let came = {
        let visits: Vec<Visit<'_>> = group
            .iter_mut()
            .map(|offer| Visit { stamp: offer.live.stamp(), memory: offer.live.memory(), call: offer.call.borrow() })
            .collect();
        let time_limit = visits.iter().map(|visit| visit.call.time_limit).min().unwrap_or_default();
        let deadline = begun + patience.min(time_limit);
        catch_unwind(AssertUnwindSafe(|| seating.evaluate(&visits, deadline)))
    };
    let took = begun.elapsed();
    let (came, ended) = match came {
        Ok(Ok(came)) => {
            gate.learn_group(&group_of(&came, took));
            (came, Ok(()))
        }
        Ok(Err(lost)) => (Vec::new(), Err(lost.to_string())),
        Err(panic) => (Vec::new(), Err(format!("the driver's library failed: {}", panic_text(panic)))),
    };
    let mut came = came.into_iter();
    for offer in group {
        let given = match came.next() {
            Some(Came::Evaluated { evaluation, change }) => Some(Given { evaluation, change }),
            Some(Came::HandedBack(why)) => {
                gate.count_handed_back(why);
                None
            }
            None => None,
        };
        // Whoever asked may have gone.
        let _ = offer.reply.send((offer.live, given));
    }
    ended
}

/// Compiles another kernel, for a reason. Meanwhile the native engine does everything.
fn compile_again(
    gate: &Gate,
    seating: &mut dyn Seating,
    offers: &Receiver<Offer>,
    why: &'static str,
) -> Result<(), String> {
    gate.pause();
    offers.try_iter().for_each(decline);
    let begun = Instant::now();
    let compiled = catch_unwind(AssertUnwindSafe(|| seating.compile_again()));
    let compiled = compiled.map_err(|panic| format!("the driver's library failed: {}", panic_text(panic)))?;
    gate.go_on(compiled.map(|()| begun.elapsed()), why);
    Ok(())
}

/// Gives a process back for the native engine.
pub(super) fn decline(Offer { live, reply, .. }: Offer) {
    // Whoever asked may have gone.
    let _ = reply.send((live, None));
}

fn group_of(came: &[Came], took: Duration) -> Group {
    let mut group = Group { messages: came.len(), evaluated: 0, gas: 0, took };
    for came in came {
        if let Came::Evaluated { evaluation, .. } = came {
            group.evaluated += 1;
            group.gas += evaluation.gas_spent;
        }
    }
    group
}
