//! A group of lanes that processes visit, one message at a time. The process itself lives elsewhere; a lane that still has its
//! memory from the last visit takes it again, and only others are given theirs.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lockstep_shaders::device::Lost;

use super::{
    ending::{Bail, Ending, Trap},
    group::{Call, Group, Returned},
    layout::{PAGE_BYTES, Shape},
    module::Lanes,
    turn::{Inbox, TURN},
};
use crate::{
    Evaluation,
    guest::response::{self, Folded},
    native,
};

/// Bytes first read of a response that is not among what its message wrote.
const TEXT_BYTES: u32 = 4096;

/// Names a state of a process's memory: equal stamps, equal memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// What every process of a module begins with.
    pub const BEGINNING: Stamp = Stamp(0);

    /// A name that no other state has.
    pub fn fresh() -> Stamp {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Stamp(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A process with its message.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// What its memory is, if that has a name.
    pub stamp: Option<Stamp>,
    /// Its linear memory.
    pub memory: &'a [u8],
    /// The message.
    pub call: native::Call<'a>,
}

/// What became of a message in a lane.
#[derive(Debug)]
pub enum Came {
    /// It was evaluated: the same as the native engine's, but that its time is its share of the dispatch's.
    Evaluated {
        /// The result.
        evaluation: Box<Evaluation>,
        /// What the message made of the memory, if it is kept.
        change: Option<Change>,
    },
    /// It has to be evaluated natively; nothing has changed.
    HandedBack(HandedBack),
}

/// What a message made of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its size now, bytes.
    pub size: usize,
    /// What was written: where, and what.
    pub parts: Vec<(usize, Vec<u8>)>,
    /// The state's name.
    pub stamp: Stamp,
}

/// Why a message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandedBack {
    /// The lane could not go on.
    Bail(Bail),
    /// It trapped: the native engine says what of, in its own words.
    Trap(Trap),
    /// It charged more than its limit.
    Gas,
    /// What it returned is no text in its memory.
    Response,
    /// The message, or the process's memory, has no room in a lane of this shape.
    Room,
}

impl HandedBack {
    /// The reason in a word.
    pub fn name(self) -> &'static str {
        match self {
            HandedBack::Bail(bail) => bail.name(),
            HandedBack::Trap(_) => "trap",
            HandedBack::Gas => "gas",
            HandedBack::Response => "response",
            HandedBack::Room => "room",
        }
    }
}

/// The lanes, and what is in them.
pub struct Seats {
    lanes: Lanes,
    group: Group,
    /// By lane: what its memory is; none: nothing's.
    seated: Vec<Option<Stamp>>,
}

/// A visit that has a lane.
struct Seated<'a> {
    /// Which visit.
    visit: usize,
    lane: u32,
    inbox: Inbox,
    call: &'a native::Call<'a>,
    pages: u32,
}

impl Seats {
    /// So many lanes of a shape; in each is what a process begins with.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone or has no room.
    ///
    /// # Panics
    /// If there are more than [`Lanes::processes_max`].
    pub fn new(lanes: &Lanes, shape: Shape, count: u32) -> Result<Seats, Lost> {
        let group = Group::new(&lanes.compiled, shape, count, &lanes.memory)?;
        Ok(Seats { lanes: lanes.clone(), group, seated: vec![Some(Stamp::BEGINNING); count as usize] })
    }

    /// How many lanes there are.
    pub fn count(&self) -> u32 {
        self.group.lanes()
    }

    /// Their sizes.
    pub fn shape(&self) -> &Shape {
        self.group.shape()
    }

    /// The memories that are in the lanes.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.seated.iter().copied().flatten()
    }

    /// Whether a message of so many bytes (with its environment) to a process of so many has room in a lane.
    fn has_room(&self, text_bytes: usize, memory_bytes: usize) -> bool {
        let shape = self.group.shape();
        // Each text ends with a NUL, in a word of its own.
        let words = text_bytes / 4 + 4;
        words <= (shape.stack_word - shape.inbox_word) as usize
            && memory_bytes as u64 <= u64::from(shape.window_pages) * u64::from(PAGE_BYTES)
    }

    /// Evaluates messages of different processes, all at once, each in a lane. Those that are not over by the deadline, give
    /// or take a dispatch, come back.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone: nothing has changed, and these seats are of no more use.
    ///
    /// # Panics
    /// If there are more visits than lanes.
    pub fn evaluate(&mut self, visits: &[Visit<'_>], deadline: Instant) -> Result<Vec<Came>, Lost> {
        assert!(visits.len() <= self.seated.len(), "each visit has a lane");
        let started = Instant::now();
        let seated = self.seat(visits)?;
        let returned = {
            let globals = &self.lanes.globals;
            let calls: Vec<Call<'_>> = seated
                .iter()
                .map(|one| Call {
                    lane: one.lane,
                    entry: TURN,
                    arguments: &one.inbox.arguments,
                    globals,
                    pages: one.pages,
                    inbox: &one.inbox.words,
                })
                .collect();
            self.group.run(&calls, deadline)?
        };
        let granule = self.group.shape().granule_bytes();
        let is_done = |returned: &Returned| returned.ending == Ending::Done;
        let wanted: Vec<(u32, u32, u32)> = seated
            .iter()
            .zip(&returned)
            .filter(|(_, returned)| is_done(returned))
            .flat_map(|(one, returned)| {
                let parts = granules(returned.dirty, granule, returned.pages * PAGE_BYTES);
                parts.into_iter().map(|(at, bytes)| (one.lane, at, bytes))
            })
            .collect();
        let mut read = wanted.iter().zip(self.group.read_memory(&wanted)?).peekable();
        let share = started.elapsed() / u32::try_from(seated.len()).unwrap_or(u32::MAX).max(1);
        let mut all: Vec<Option<Came>> = visits.iter().map(|_| None).collect();
        for (one, returned) in seated.iter().zip(&returned) {
            let came = match returned.ending {
                Ending::Bail(bail) => Came::HandedBack(HandedBack::Bail(bail)),
                Ending::Trap(trap) => Came::HandedBack(HandedBack::Trap(trap)),
                Ending::Done => {
                    let mut parts = Vec::new();
                    while let Some(((_, at, _), bytes)) = read.next_if(|((lane, ..), _)| *lane == one.lane) {
                        parts.push((*at as usize, bytes));
                    }
                    self.outcome(one, returned, parts, share)?
                }
            };
            // What a lane's memory is worth is known only of messages that are kept.
            self.seated[one.lane as usize] = match &came {
                Came::Evaluated { change: Some(change), .. } => Some(change.stamp),
                _ => None,
            };
            all[one.visit] = Some(came);
        }
        Ok(all.into_iter().map(|came| came.unwrap_or(Came::HandedBack(HandedBack::Room))).collect())
    }

    /// Finds each visit a lane, those first whose memory is in one, and gives the others theirs.
    fn seat<'a>(&mut self, visits: &'a [Visit<'a>]) -> Result<Vec<Seated<'a>>, Lost> {
        let mut by_stamp: HashMap<Stamp, Vec<u32>> = HashMap::new();
        for (lane, stamp) in (0..).zip(&self.seated) {
            if let Some(stamp) = stamp {
                by_stamp.entry(*stamp).or_default().push(lane);
            }
        }
        let has_room = |visit: &Visit<'_>| {
            self.has_room(visit.call.message.len() + visit.call.environment.len(), visit.memory.len())
        };
        let mut lanes: Vec<Option<u32>> = vec![None; visits.len()];
        let mut taken = vec![false; self.seated.len()];
        for (visit, lane) in visits.iter().zip(&mut lanes).filter(|(visit, _)| has_room(visit)) {
            *lane = visit.stamp.and_then(|stamp| by_stamp.get_mut(&stamp)?.pop());
            if let Some(lane) = lane {
                taken[*lane as usize] = true;
            }
        }
        // Lanes that have nobody's memory first: the others may be wanted again.
        let (mut free, mut left): (Vec<u32>, Vec<u32>) = (0..)
            .zip(&taken)
            .filter(|(_, taken)| !**taken)
            .map(|(lane, _)| lane)
            .partition(|lane| self.seated[*lane as usize].is_none());
        let mut seated = Vec::with_capacity(visits.len());
        let mut brought: Vec<(u32, u32, Cow<'_, [u8]>)> = Vec::new();
        let window = self.group.shape().window_pages as usize * PAGE_BYTES as usize;
        for (at, (visit, lane)) in visits.iter().zip(lanes).enumerate().filter(|(_, (visit, _))| has_room(visit)) {
            let lane = lane.unwrap_or_else(|| {
                let lane = free.pop().or_else(|| left.pop()).expect("as many lanes as visits");
                let mut memory = Cow::Borrowed(visit.memory);
                if memory.len() < window {
                    // Whoever was there may have written beyond; memory that is grown is zero.
                    memory.to_mut().resize(window, 0);
                }
                brought.push((lane, 0, memory));
                lane
            });
            let (format, call) = (self.lanes.module.format(), &visit.call);
            let inbox = Inbox::new(format, call.message, call.environment);
            let pages = (visit.memory.len() / PAGE_BYTES as usize) as u32;
            seated.push(Seated { visit: at, lane, inbox, call, pages });
        }
        let brought: Vec<_> = brought.iter().map(|(lane, at, memory)| (*lane, *at, &**memory)).collect();
        self.group.write_memory(&brought)?;
        Ok(seated)
    }

    /// What a lane that is done has to say, after so much time.
    fn outcome(
        &self,
        one: &Seated<'_>,
        returned: &Returned,
        parts: Vec<(usize, Vec<u8>)>,
        elapsed: Duration,
    ) -> Result<Came, Lost> {
        let gas = returned.gas;
        if gas > one.call.gas_limit {
            return Ok(Came::HandedBack(HandedBack::Gas));
        }
        let size = returned.pages * PAGE_BYTES;
        let text = match u32::try_from(returned.results[0]) {
            Ok(at) if at < size => self.text(one.lane, at, size, &parts)?,
            _ => None,
        };
        let Some(text) = text else {
            return Ok(Came::HandedBack(HandedBack::Response));
        };
        let Folded { outcome, kept, thrown } = response::fold(&text, gas);
        let change = kept.then(|| Change { size: size as usize, parts, stamp: Stamp::fresh() });
        let evaluation = Evaluation { outcome, kept, gas_spent: gas, elapsed, thrown };
        Ok(Came::Evaluated { evaluation: Box::new(evaluation), change })
    }

    /// The text that begins at `at`, if there is one. What the native engine makes of other bytes is its business.
    fn text(&self, lane: u32, at: u32, size: u32, parts: &[(usize, Vec<u8>)]) -> Result<Option<String>, Lost> {
        let end = |bytes: &[u8]| bytes.iter().position(|byte| *byte == 0);
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let written = parts.iter().find_map(|(from, bytes)| bytes.get((at as usize).checked_sub(*from)?..));
        if let Some(bytes) = written
            && let Some(end) = end(bytes)
        {
            return Ok(text(&bytes[..end]));
        }
        // It is, or goes on, where the message wrote nothing.
        let from = at & !3;
        let mut length = TEXT_BYTES;
        loop {
            let count = length.min(size - from);
            let bytes = self.group.read_memory(&[(lane, from, count)])?.pop().unwrap_or_default();
            let bytes = bytes.get((at - from) as usize..).unwrap_or_default();
            match end(bytes) {
                Some(end) => return Ok(text(&bytes[..end])),
                None if count < length => return Ok(None),
                None => length = length.saturating_mul(4),
            }
        }
    }
}

/// The parts of memory that bits stand for, neighbours joined: where, and how many bytes.
fn granules(dirty: u32, granule: u32, size: u32) -> Vec<(u32, u32)> {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for bit in (0..32).filter(|bit| dirty >> bit & 1 == 1) {
        let at = bit * granule;
        let bytes = granule.min(size.saturating_sub(at));
        match parts.last_mut() {
            Some((begin, length)) if *begin + *length == at => *length += bytes,
            _ if bytes > 0 => parts.push((at, bytes)),
            _ => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granules_that_touch_are_one_part() {
        assert_eq!(granules(0, 4096, 131_072), []);
        assert_eq!(granules(0b1011, 4096, 131_072), [(0, 8192), (12_288, 4096)]);
        assert_eq!(granules(u32::MAX, 4096, 131_072), [(0, 131_072)]);
        assert_eq!(granules(0b110, 65_536, 100_000), [(65_536, 34_464)]);
    }
}
