//! A live process: evaluation in place, and undoing what failed.
//!
//! Tracking what every single message writes would cost more than half of a short message. Evaluation is deterministic,
//! though, so replay is an undo log: the undo point is renewed every few messages, and a failure goes back to it and
//! replays the few that were kept since.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    engine::Module,
    live::{Ending, Live},
    memory::Image,
    stack::with_room,
};
use crate::{
    Error, Evaluation,
    guest::response::{self, Folded},
    lanes::{Change, Stamp},
};

/// Most messages between two undo points. A process writes much the same pages again and again, so an undo point costs
/// about the same however many messages it covers.
const INTERVAL_MAX: usize = 256;

/// Evaluation time after which a new undo point is due whatever the count, so that undoing stays cheap.
const REPLAY_TIME_MAX: Duration = Duration::from_millis(50);

/// Bytes of message text kept for replay at most (of one process; and one message more).
const REPLAY_BYTES_MAX: usize = 256 << 10;

/// A replayed message may take this much longer than its first run was allowed: the machine may be busier now.
const REPLAY_PATIENCE: u32 = 4;

/// One evaluation's inputs.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The message, exactly the JSON that the guest gets.
    pub message: &'a str,
    /// The environment (`Process` and `Module`), likewise.
    pub environment: &'a str,
    /// Seeds the guest's `/dev/urandom`: the message's id, or anything that is the same wherever it is evaluated.
    pub seed: &'a str,
    /// Compute-Limit, gas.
    pub gas_limit: u64,
    /// Wall-clock bound.
    pub time_limit: Duration,
}

/// One evaluation's inputs, owned.
#[derive(Clone, Debug)]
pub struct OwnedCall {
    message: String,
    /// Shared: hardly ever another than the message's before.
    environment: Arc<str>,
    seed: String,
    gas_limit: u64,
    time_limit: Duration,
}

impl OwnedCall {
    /// A copy of a call; of its environment none, if `known` is the same.
    pub fn of(call: &Call<'_>, known: Option<&Arc<str>>) -> Self {
        let known = known.filter(|known| ***known == *call.environment);
        Self {
            message: call.message.into(),
            environment: known.cloned().unwrap_or_else(|| call.environment.into()),
            seed: call.seed.into(),
            gas_limit: call.gas_limit,
            time_limit: call.time_limit,
        }
    }

    /// The call.
    pub fn borrow(&self) -> Call<'_> {
        Call {
            message: &self.message,
            environment: &self.environment,
            seed: &self.seed,
            gas_limit: self.gas_limit,
            time_limit: self.time_limit,
        }
    }

    fn bytes(&self) -> usize {
        self.message.len() + self.seed.len()
    }
}

/// A process in memory. `Send` but not `Sync`; its calls block, and belong on a thread from
/// [`spawn_evaluator`](super::spawn_evaluator) (elsewhere each call starts one).
pub struct Instance {
    module: Module,
    live: Option<Live>,
    has_state: bool,
    /// Messages kept since the undo point.
    past: Vec<OwnedCall>,
    past_time: Duration,
    interval: usize,
    broken: Option<String>,
    /// What its memory is, if a lane may have the same.
    stamp: Option<Stamp>,
}

impl Instance {
    /// A process that has evaluated nothing yet.
    ///
    /// # Errors
    /// [`Error::Module`] if the module cannot be instantiated, [`Error::Host`] if the host has no memory for it.
    pub fn new(module: &Module) -> Result<Self, Error> {
        with_room(|| {
            let image = module.resting()?.image.copy()?;
            Self::over(module, image, false, Some(Stamp::BEGINNING))
        })
        .map_err(|e| Error::host("cannot start a thread", e))?
    }

    /// A process with this memory: what another engine made of it.
    ///
    /// # Errors
    /// As [`Instance::new`].
    pub fn with_memory(module: &Module, memory: &[u8], has_state: bool) -> Result<Self, Error> {
        with_room(|| Self::over(module, Image::of(memory)?, has_state, None))
            .map_err(|e| Error::host("cannot start a thread", e))?
    }

    fn over(module: &Module, image: Image, has_state: bool, stamp: Option<Stamp>) -> Result<Self, Error> {
        let live = Live::new(module, image)?;
        Ok(Self {
            module: module.clone(),
            live: Some(live),
            has_state,
            past: Vec::new(),
            past_time: Duration::ZERO,
            interval: INTERVAL_MAX,
            broken: None,
            stamp,
        })
    }

    /// Evaluates one message in place. What goes wrong in the guest is an outcome with an error and `kept` false.
    ///
    /// # Errors
    /// [`Error::Timeout`]: memory is as before the message. [`Error::Host`]: memory may be lost, and the process has to
    /// be built again from its schedule (see [`Self::is_broken`]).
    pub fn evaluate(&mut self, call: &Call<'_>) -> Result<Evaluation, Error> {
        self.evaluate_observed(call, &mut |_| ())
    }

    /// As [`Self::evaluate`]; `observe` sees linear memory as the message left it, also where it is about to be undone.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_observed(
        &mut self,
        call: &Call<'_>,
        observe: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Evaluation, Error> {
        with_room(|| self.evaluate_here(call, observe)).map_err(|e| Error::host("cannot start a thread", e))?
    }

    fn evaluate_here(&mut self, call: &Call<'_>, observe: &mut dyn FnMut(&[u8])) -> Result<Evaluation, Error> {
        if let Some(why) = &self.broken {
            return Err(Error::Host(why.clone()));
        }
        let result = self.try_evaluate(call, observe);
        if let Err(Error::Host(why)) = &result {
            self.broken = Some(format!("the process's memory was lost earlier: {why}"));
        }
        result
    }

    fn try_evaluate(&mut self, call: &Call<'_>, observe: &mut dyn FnMut(&[u8])) -> Result<Evaluation, Error> {
        self.commit_if_due()?;
        if self.module.has_hidden_state() {
            self.renew()?;
        }
        let started = Instant::now();
        let (folded, gas_spent) = match self.run(call)? {
            Some(ran) => ran,
            None => {
                self.undo()?;
                return Err(Error::Timeout(call.time_limit));
            }
        };
        let elapsed = started.elapsed();
        observe(self.memory());
        if folded.kept {
            self.has_state = true;
            self.stamp = None;
            let known = self.past.last().map(|last| &last.environment);
            self.past.push(OwnedCall::of(call, known));
            self.past_time += elapsed;
        } else {
            self.undo()?;
        }
        Ok(Evaluation { outcome: folded.outcome, kept: folded.kept, gas_spent, elapsed, thrown: folded.thrown })
    }

    /// Runs a message; none if the wall-clock bound passed.
    fn run(&mut self, call: &Call<'_>) -> Result<Option<(Folded, u64)>, Error> {
        let resting = &self.module.resting()?.globals;
        let live = self.live.as_mut().expect("an unbroken process is live");
        let ran = live.run(call, resting);
        Ok(match ran.ending {
            Ending::Returned(text) => Some((response::fold(&text, ran.gas), ran.gas)),
            Ending::Threw(error, why) => Some((response::threw(error, why), ran.gas)),
            Ending::TimedOut => None,
        })
    }

    fn commit_if_due(&mut self) -> Result<(), Error> {
        let bytes: usize = self.past.iter().map(OwnedCall::bytes).sum();
        let due = self.past.len() >= self.interval
            || self.past_time >= REPLAY_TIME_MAX
            || bytes >= REPLAY_BYTES_MAX
            || (self.module.has_hidden_state() && !self.past.is_empty());
        if due {
            self.commit()?;
            self.interval = (self.interval * 2).min(INTERVAL_MAX);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        if !self.past.is_empty() {
            self.live.as_mut().expect("an unbroken process is live").memory.commit()?;
            self.past.clear();
            self.past_time = Duration::ZERO;
        }
        Ok(())
    }

    /// Back to before the message that just ran: to the undo point, then through what was kept since.
    fn undo(&mut self) -> Result<(), Error> {
        let live = self.live.as_mut().expect("an unbroken process is live");
        if live.memory.has_grown() || self.module.has_hidden_state() {
            self.renew()?;
        } else {
            live.memory.revert()?;
        }
        let past = std::mem::take(&mut self.past);
        for past in &past {
            let call = past.borrow();
            match self.run(&Call { time_limit: call.time_limit * REPLAY_PATIENCE, ..call })? {
                Some((folded, _)) if folded.kept => {}
                _ => return Err(Error::Host("a message ended otherwise when it was replayed".into())),
            }
        }
        self.past = past;
        // Failures come in runs: with an undo point right here, the next one costs no replay.
        self.commit()?;
        self.interval = (self.interval / 2).max(1);
        Ok(())
    }

    /// A new instance over the undo point.
    fn renew(&mut self) -> Result<(), Error> {
        let image = self.live.take().expect("an unbroken process is live").into_image();
        self.live = Some(Live::new(&self.module, image)?);
        Ok(())
    }

    /// An independent process with the same state. Costs the pages that hold something.
    ///
    /// # Errors
    /// [`Error::Host`] if the host has no memory for it.
    pub fn fork(&mut self) -> Result<Self, Error> {
        if let Some(why) = &self.broken {
            return Err(Error::Host(why.clone()));
        }
        self.commit()?;
        let image = self.live.as_ref().expect("an unbroken process is live").memory.image().copy()?;
        Self::over(&self.module, image, self.has_state, self.stamp)
    }

    /// What its memory is, where lanes know it by name.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Makes what a lane made of a message the state of this process, which must be the one that visited the lane.
    ///
    /// # Errors
    /// [`Error::Host`] if the host has no memory for it; memory is then lost (see [`Self::is_broken`]).
    pub fn take_over(&mut self, change: &Change) -> Result<(), Error> {
        let taken = with_room(|| self.take_over_here(change)).map_err(|e| Error::host("cannot start a thread", e))?;
        if let Err(error) = &taken {
            self.broken.get_or_insert_with(|| format!("the process's memory was lost earlier: {error}"));
        }
        taken
    }

    fn take_over_here(&mut self, change: &Change) -> Result<(), Error> {
        if let Some(why) = &self.broken {
            return Err(Error::Host(why.clone()));
        }
        let live = self.live.as_mut().expect("an unbroken process is live");
        live.overwrite(change.size, &change.parts)?;
        live.memory.commit()?;
        self.past.clear();
        self.past_time = Duration::ZERO;
        (self.has_state, self.stamp) = (true, Some(change.stamp));
        Ok(())
    }

    /// False until a message was kept: until then a process has no state to show.
    pub fn has_state(&self) -> bool {
        self.has_state
    }

    /// Whether the host failed so that memory is lost; every call then fails.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Size of the linear memory, bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.memory.len() as u64)
    }

    /// The whole linear memory. The process cannot evaluate while it is borrowed.
    pub fn memory(&mut self) -> &[u8] {
        self.live.as_mut().map_or(&[], |live| live.memory.bytes())
    }

    /// Host memory that the process holds, bytes: pages written up to the last undo point.
    pub fn resident_bytes(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.memory.resident_bytes())
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }
}
