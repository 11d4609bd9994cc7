//! Lanes held against the native engine while they work.
//!
//! A driver compiles every kernel anew, and drivers' compilers have faults: one that makes a module's lanes wrong would have
//! this unit answer what no other does. So of what lanes do, a little is done natively as well before anyone is told of it:
//! of a kernel's first group some messages, later as many as cost a small part of the time that lanes take.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use lockstep_jit::{
    Error, Evaluation,
    lanes::{Came, Change},
};

use super::group::Offer;

/// Messages of a kernel's first group that are compared at most; it goes on for no longer than the group took.
const FIRST_MAX: usize = 16;
/// Part of the time that lanes take, for which later groups are compared.
const SHARE: f64 = 0.02;
/// Where in a group to look next, as a part of it: the golden ratio, which comes near everything soon.
const STRIDE: f64 = 0.618_033_988_749_895;

/// What one kernel's lanes have been seen to do.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Whether any message was compared yet.
    has_looked: bool,
    /// Time that may go into comparing, seconds; below 0: what comparing took too long.
    credit: f64,
    /// The place in a group to look at next, 0 to 1.
    place: f64,
}

impl Witness {
    /// Compares messages of a group that took so long in lanes, as many as there is time for, and says how many. `learn` is
    /// told of each that the native engine has evaluated.
    ///
    /// # Errors
    /// What lanes did otherwise than the native engine, in words.
    pub fn look(
        &mut self,
        group: &mut [Offer],
        came: &[Came],
        took: Duration,
        learn: impl Fn(&Evaluation),
    ) -> Result<u64, String> {
        let evaluated: Vec<_> = came
            .iter()
            .enumerate()
            .filter_map(|(at, came)| match came {
                Came::Evaluated { evaluation, change } => Some((at, evaluation, change.as_ref())),
                Came::HandedBack(_) => None,
            })
            .collect();
        let is_first = !self.has_looked;
        let most = if is_first { FIRST_MAX.min(evaluated.len()) } else { evaluated.len() };
        self.credit += took.as_secs_f64() * if is_first { 1.0 } else { SHARE };
        let (mut looked_at, mut compared) = (HashSet::new(), 0);
        for _ in 0..most {
            if self.credit <= 0.0 {
                break;
            }
            self.place = (self.place + STRIDE).fract();
            let (at, evaluation, change) = evaluated[(self.place * evaluated.len() as f64) as usize % evaluated.len()];
            if !looked_at.insert(at) {
                continue;
            }
            let begun = Instant::now();
            let difference = compare(&mut group[at], evaluation, change, &learn);
            self.credit -= begun.elapsed().as_secs_f64();
            match difference {
                Ok(None) => (compared, self.has_looked) = (compared + 1, true),
                Ok(Some(difference)) => return Err(difference),
                // That says nothing of lanes.
                Err(error) => tracing::warn!(%error, "a message of lanes cannot be held against the native engine"),
            }
        }
        if is_first {
            // Neither what is left of its time nor what it took too long is of later groups' concern.
            self.credit = 0.0;
        }
        Ok(compared)
    }
}

/// What a lane made of an offer against what the native engine makes of it, on a copy of the process.
fn compare(
    offer: &mut Offer,
    evaluation: &Evaluation,
    change: Option<&Change>,
    learn: impl Fn(&Evaluation),
) -> Result<Option<String>, Error> {
    let mut twin = offer.live.fork()?;
    let native = twin.evaluate(&offer.call.borrow())?;
    learn(&native);
    let difference = evaluation.difference(&native);
    let Some(change) = change.filter(|_| difference.is_none()) else { return Ok(difference) };
    let mut memory = offer.live.memory().to_vec();
    memory.resize(change.size, 0);
    for (at, bytes) in &change.parts {
        memory[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    let natively = twin.memory();
    if memory == natively {
        return Ok(None);
    }
    let at =
        memory.iter().zip(natively).position(|(own, other)| own != other).unwrap_or(memory.len().min(natively.len()));
    Ok(Some(format!("memory of {} bytes, not {}, that is another from byte {at} on", memory.len(), natively.len())))
}
