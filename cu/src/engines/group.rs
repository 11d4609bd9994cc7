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
    gpu::Lost,
    lanes::{Came, Change, Visit},
};
use tokio::sync::oneshot;

use super::{Gate, Live, Seating, rates::Group, witness::Witness};
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

/// Why a module's lanes ended.
pub(super) enum End {
    /// Nobody can make offers any more, or lanes are not to be trusted with any.
    Closed,
    /// The adapter, or its driver's library, failed.
    Failed(String),
}

/// Takes offers until there is a reason to end.
pub(super) fn run(gate: &Weak<Gate>, mut seating: Box<dyn Seating>, offers: &Receiver<Offer>) -> End {
    let mut witness = Witness::default();
    loop {
        let first = match offers.recv_timeout(IDLE) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return End::Closed,
        };
        // The gate must not be held while nobody is at it.
        let Some(gate) = gate.upgrade().filter(|gate| !gate.rules.is_closing()) else {
            return End::Closed;
        };
        if let Some(first) = first {
            let group = gather(&gate, first, offers, seating.lanes_max().max(1));
            if let Err(end) = evaluate(&gate, &mut *seating, &mut witness, group) {
                return end;
            }
            if let Some(why) = seating.complaint() {
                if let Err(end) = compile_again(&gate, &mut *seating, offers, why) {
                    return end;
                }
                witness = Witness::default();
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

/// Has lanes evaluate a group, and tells its processes what came of it, once that was witnessed.
fn evaluate(gate: &Gate, seating: &mut dyn Seating, witness: &mut Witness, mut group: Vec<Offer>) -> Result<(), End> {
    if group.is_empty() {
        return Ok(());
    }
    let Some(patience) = gate.admits(group.len()) else {
        // Too few have come.
        group.into_iter().for_each(decline);
        return Ok(());
    };
    let (came, ended) = match witnessed(gate, seating, witness, &mut group, patience) {
        Ok(came) => (came, Ok(())),
        Err(end) => (Vec::new(), Err(end)),
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

/// What became of a group's messages in lanes, if a look at some of them says nothing against it.
fn witnessed(
    gate: &Gate,
    seating: &mut dyn Seating,
    witness: &mut Witness,
    group: &mut [Offer],
    patience: Duration,
) -> Result<Vec<Came>, End> {
    let visited = caught(|| visit(seating, group, patience))?;
    let (came, took) = visited.map_err(|lost| End::Failed(lost.to_string()))?;
    match caught(|| witness.look(group, &came, took, |native| gate.learn_native(native)))? {
        Ok(compared) => {
            gate.learn_group(&group_of(&came, took), compared);
            Ok(came)
        }
        // What of the others is right, nobody knows.
        Err(difference) => {
            gate.distrust(&difference);
            Err(End::Closed)
        }
    }
}

/// Has a group's messages evaluated in lanes; how long that took, too.
fn visit(seating: &mut dyn Seating, group: &mut [Offer], patience: Duration) -> Result<(Vec<Came>, Duration), Lost> {
    let begun = Instant::now();
    let visits: Vec<Visit<'_>> = group
        .iter_mut()
        .map(|offer| Visit { stamp: offer.live.stamp(), memory: offer.live.memory(), call: offer.call.borrow() })
        .collect();
    let time_limit = visits.iter().map(|visit| visit.call.time_limit).min().unwrap_or_default();
    let came = seating.evaluate(&visits, begun + patience.min(time_limit))?;
    Ok((came, begun.elapsed()))
}

/// Does this. A panic in it ends the lanes, not their thread, which has others' processes in hand.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, End> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| End::Failed(format!("a fault of this unit or the driver's library: {}", panic_text(panic))))
}

/// Compiles another kernel, for a reason. Meanwhile the native engine does everything.
fn compile_again(
    gate: &Gate,
    seating: &mut dyn Seating,
    offers: &Receiver<Offer>,
    why: &'static str,
) -> Result<(), End> {
    gate.pause();
    offers.try_iter().for_each(decline);
    let begun = Instant::now();
    let compiled = caught(|| seating.compile_again())?;
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
