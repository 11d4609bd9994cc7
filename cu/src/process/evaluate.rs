//! One turn of a process on an evaluating thread: a few entries in order, each with its result kept.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lockstep_jit::{Call, Evaluation, Outcome};

use super::pool::panic_text;
use crate::{
    Error,
    engines::{Gate, Given, Live, Program},
    metrics::Counted,
    module::ModuleInfo,
    schedule::{Checkpoint, Entry, Kind, Position, Process},
    store::{Duplicate, Place, Row, Saved, Seen, Store},
};

/// A turn ends after this long, so that processes share the threads; a single message may take longer.
const TURN: Duration = Duration::from_millis(25);
/// Outcomes remembered in memory where results are not kept in the store.
const RECENT_MAX: usize = 64;

/// What stays the same for a process while it lives.
pub(super) struct Ground {
    pub process: Arc<Process>,
    pub module: Arc<ModuleInfo>,
    pub program: Arc<dyn Program>,
    pub gate: Arc<Gate>,
    pub environment: Arc<str>,
}

/// Whether the first entry of a turn was in a lane.
pub(super) enum Lane {
    /// It was not, and all may go there if that turns out to be better.
    Open,
    /// It may not go there any more.
    Closed,
    /// A lane did it.
    Done(Given),
}

/// What a turn needs of the unit.
#[derive(Clone)]
pub(super) struct Keeper {
    pub store: Arc<Store>,
    pub metrics: Counted,
    pub time_limit: Duration,
    /// Whether results are kept in the store (and answered from it).
    pub keep_results: bool,
}

/// A process in memory.
pub(super) struct State {
    pub instance: Box<dyn Live>,
    /// After the last entry that was evaluated or skipped; none: nothing was yet.
    pub checkpoint: Option<Checkpoint>,
    /// The last entry that was evaluated.
    pub last: Option<Last>,
    /// What the boot gave, if this state saw it.
    pub boot: Option<Verdict>,
    /// The latest verdicts, where the store does not keep them.
    pub recent: VecDeque<(Mark, Verdict)>,
    /// Changes with every entry.
    pub version: u64,
}

/// The last evaluated entry, for those who ask how old a state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// ms since 1970.
    pub timestamp: u64,
    /// As the schedule has it.
    pub ordinate: String,
    /// Arweave block height.
    pub block_height: u64,
}

/// What became of an entry.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It was evaluated; this is the result that counts.
    Evaluated(Arc<Outcome>),
    /// Its content had been evaluated before; it changes nothing and says nothing.
    Skipped,
}

/// What tells an entry from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub kind: Kind,
    pub timestamp: u64,
    pub nonce: Option<u64>,
    pub message_id: Option<String>,
    pub assignment_id: Option<String>,
    pub is_boot: bool,
}

impl Mark {
    pub(super) fn of(entry: &Entry, process_id: &str) -> Self {
        let is_itself = entry.kind != Kind::Cron && entry.message_id.as_deref() == Some(process_id);
        Self {
            kind: entry.kind,
            timestamp: entry.timestamp,
            nonce: entry.nonce,
            message_id: entry.message_id.clone(),
            assignment_id: entry.assignment_id.clone(),
            is_boot: entry.kind == Kind::Process || is_itself,
        }
    }

    /// Whether this is the entry that stands at `position`.
    pub(super) fn is_at(&self, position: &Position) -> bool {
        if position.is_process {
            return self.is_boot;
        }
        if matches!(self.kind, Kind::Cron | Kind::Process) {
            return false;
        }
        match (self.nonce, position.nonce) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => {
                self.timestamp == position.timestamp
                    && (position.message_id.is_some() && self.message_id == position.message_id
                        || position.assignment_id.is_some() && self.assignment_id == position.assignment_id)
            }
        }
    }
}

/// What a turn did.
pub(super) struct Turn {
    /// None: the state was lost, or there never was one.
    pub state: Option<State>,
    pub done: Vec<(Mark, Verdict)>,
    /// Not reached in this turn.
    pub rest: VecDeque<Entry>,
    /// Why `rest` begins with an entry that could not be evaluated.
    pub failure: Option<Failure>,
}

/// Why an entry could not be evaluated.
pub(super) struct Failure {
    pub error: Error,
    pub out_of_time: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, out_of_time: false }
    }
}

/// Evaluates entries until they or the turn's time are used up, or lanes have become the better way. `passed` hears of each.
pub(super) fn turn(
    ground: &Ground,
    keeper: &Keeper,
    state: Option<State>,
    entries: VecDeque<Entry>,
    lane: Lane,
    passed: impl Fn(&State),
) -> Turn {
    let mut turn = Turn { state: None, done: Vec::new(), rest: entries, failure: None };
    let mut state = match state.map_or_else(|| State::new(ground), Ok) {
        Ok(state) => state,
        Err(failure) => {
            turn.failure = Some(failure.into());
            return turn;
        }
    };
    let began = Instant::now();
    let is_open = matches!(lane, Lane::Open);
    let mut by = if let Lane::Done(given) = lane { By::Lane(given) } else { By::Itself };
    while !(is_open && ground.gate.prefers_lanes())
        && let Some(entry) = turn.rest.pop_front()
    {
        match step(ground, keeper, &mut state, &entry, std::mem::replace(&mut by, By::Itself)) {
            Ok(verdict) => {
                passed(&state);
                turn.done.push((Mark::of(&entry, &ground.process.id), verdict));
            }
            Err(fault) => {
                turn.rest.push_front(entry);
                turn.failure = Some(fault.failure);
                if fault.state_is_good {
                    turn.state = Some(state);
                }
                return turn;
            }
        }
        if began.elapsed() >= TURN {
            break;
        }
    }
    turn.state = Some(state);
    turn
}

/// Evaluates an owner's `Reset-Memory`: a new instance runs the first message of the process again, and what that
/// gives is the result of `entry`.
pub(super) fn reset(ground: &Ground, keeper: &Keeper, mut state: State, entry: Entry, first: &Entry) -> Turn {
    let mut turn = Turn { state: None, done: Vec::new(), rest: VecDeque::new(), failure: None };
    let fresh = match State::new(ground) {
        Ok(fresh) => fresh.instance,
        Err(failure) => {
            turn.rest.push_front(entry);
            return Turn { state: Some(state), failure: Some(failure.into()), ..turn };
        }
    };
    let before = std::mem::replace(&mut state.instance, fresh);
    match step(ground, keeper, &mut state, &entry, By::Other(first)) {
        Ok(verdict) => turn.done.push((Mark::of(&entry, &ground.process.id), verdict)),
        Err(fault) => {
            turn.failure = Some(fault.failure);
            turn.rest.push_front(entry);
            state.instance = before;
        }
    }
    turn.state = Some(state);
    turn
}

struct Fault {
    failure: Failure,
    /// Whether the state is that before the entry; otherwise it must not be used again.
    state_is_good: bool,
}

impl Fault {
    fn before(error: Error) -> Self {
        Self { failure: error.into(), state_is_good: true }
    }

    fn ruined(error: Error) -> Self {
        Self { failure: error.into(), state_is_good: false }
    }
}

/// How an entry is evaluated.
enum By<'a> {
    /// Natively.
    Itself,
    /// Natively, another one in its place.
    Other(&'a Entry),
    /// A lane did it.
    Lane(Given),
}

fn step(ground: &Ground, keeper: &Keeper, state: &mut State, entry: &Entry, by: By<'_>) -> Result<Verdict, Fault> {
    let pid = ground.process.id.as_str();
    let place = place_of(entry).map_err(Fault::before)?;
    let verdict = if keeper.is_duplicate(pid, entry).map_err(Fault::before)? {
        let duplicate = Duplicate {
            place: &place,
            message_id: entry.message_id.as_deref(),
            assignment_id: entry.assignment_id.as_deref(),
        };
        keeper.store.skip(pid, duplicate).map_err(Fault::before)?;
        keeper.metrics.duplicates_skipped.inc();
        Verdict::Skipped
    } else {
        let evaluation = match by {
            By::Itself => run(ground, keeper, state, entry)?,
            By::Other(other) => run(ground, keeper, state, other)?,
            By::Lane(given) => take_over(pid, state, entry, given)?,
        };
        // The state has moved on: if the result cannot be kept, the state must go too, or it could never be had again.
        let outcome = keeper.keep(pid, entry, place, evaluation).map_err(Fault::ruined)?;
        state.last = Some(Last {
            timestamp: entry.timestamp,
            ordinate: entry.ordinate.clone(),
            block_height: entry.block_height,
        });
        Verdict::Evaluated(outcome)
    };
    state.version += 1;
    state.checkpoint = Some(entry.checkpoint.clone());
    let mark = Mark::of(entry, pid);
    if mark.is_boot {
        state.boot = Some(verdict.clone());
    }
    if !keeper.keep_results && entry.kind != Kind::Cron {
        state.recent.push_back((mark, verdict.clone()));
        if state.recent.len() > RECENT_MAX {
            state.recent.pop_front();
        }
    }
    Ok(verdict)
}

/// The inputs of an entry's evaluation; `seed`: of [`seed_of`].
pub(super) fn call_of<'a>(ground: &'a Ground, keeper: &Keeper, entry: &'a Entry, seed: &'a str) -> Call<'a> {
    Call {
        message: &entry.message_json,
        environment: &ground.environment,
        seed,
        gas_limit: ground.module.gas_limit,
        time_limit: keeper.time_limit,
    }
}

/// Makes what a lane made of an entry the process's state.
fn take_over(pid: &str, state: &mut State, entry: &Entry, given: Given) -> Result<Evaluation, Fault> {
    if let Some(change) = &given.change {
        let taken = state.instance.take_over(change);
        taken.map_err(|e| Fault::ruined(engine_error(e, &format!("{} of process {pid}", entry.name))))?;
    }
    Ok(*given.evaluation)
}

fn run(ground: &Ground, keeper: &Keeper, state: &mut State, entry: &Entry) -> Result<Evaluation, Fault> {
    let pid = ground.process.id.as_str();
    let seed = seed_of(entry, pid);
    let call = call_of(ground, keeper, entry, &seed);
    match catch_unwind(AssertUnwindSafe(|| state.instance.evaluate(&call))) {
        Ok(Ok(evaluation)) => {
            ground.gate.learn_native(&evaluation);
            if let Some(thrown) = &evaluation.thrown {
                tracing::debug!(process = pid, message = entry.name, thrown, "evaluation threw");
            }
            Ok(evaluation)
        }
        Ok(Err(error)) => {
            tracing::warn!(process = pid, message = entry.name, %error, "evaluation failed");
            let out_of_time = matches!(error, lockstep_jit::Error::Timeout(_));
            if out_of_time {
                keeper.metrics.time_limits_hit.inc();
            }
            let error = engine_error(error, &format!("{} of process {pid}", entry.name));
            Err(Fault { failure: Failure { error, out_of_time }, state_is_good: !state.instance.is_broken() })
        }
        Err(panic) => {
            let text = panic_text(panic);
            keeper.metrics.panics.inc();
            tracing::error!(process = pid, message = entry.name, text, "evaluation panicked; the process is dropped");
            Err(Fault::ruined(Error::Internal(format!(
                "{} of process {pid} ended in a fault of this unit: {text}",
                entry.name
            ))))
        }
    }
}

/// An engine's failure, naming what it happened to.
pub(crate) fn engine_error(error: lockstep_jit::Error, what: &str) -> Error {
    match error {
        lockstep_jit::Error::Module(_) => Error::Unprocessable(error.to_string()),
        lockstep_jit::Error::Timeout(_) | lockstep_jit::Error::Host(_) => Error::Internal(format!("{what}: {error}")),
    }
}

/// Stable over restarts and machines: what `/dev/urandom` gives is part of the answer.
pub(super) fn seed_of(entry: &Entry, pid: &str) -> String {
    match (&entry.message_id, &entry.cron) {
        (Some(id), None) => id.clone(),
        (_, cron) => {
            format!("{pid},{},{},{}", entry.timestamp, entry.ordinate, cron.as_deref().unwrap_or_default())
        }
    }
}

fn place_of(entry: &Entry) -> Result<Place, Error> {
    let ordinate = entry.ordinate.parse().map_err(|_| {
        Error::Upstream(format!("ordinate `{}` of message {} is not a number", entry.ordinate, entry.name))
    })?;
    Ok(Place { timestamp: entry.timestamp, ordinate, cron: entry.cron.clone() })
}

impl Keeper {
    /// A repeated message is one whose content was scheduled before: same process, same epoch, smaller nonce. That rule
    /// gives the same answer however often a schedule is replayed.
    pub(super) fn is_duplicate(&self, pid: &str, entry: &Entry) -> Result<bool, Error> {
        let (Some(key), Some(epoch), Some(nonce)) = (&entry.dedup_key, entry.epoch, entry.nonce) else {
            return Ok(false);
        };
        let seen = self.store.seen(pid, key)?;
        Ok(seen.is_some_and(|seen| seen.epoch == epoch && seen.nonce < nonce))
    }

    fn keep(&self, pid: &str, entry: &Entry, place: Place, evaluation: Evaluation) -> Result<Arc<Outcome>, Error> {
        let metrics = &self.metrics;
        if entry.kind != Kind::Process {
            metrics.evaluations.inc();
            metrics.gas.inc_by(evaluation.gas_spent);
            metrics.evaluation_seconds.observe(evaluation.elapsed.as_secs_f64());
            metrics.count_evaluation(entry.kind, &evaluation.outcome);
        }
        // A scheduled message counts as seen under its id, a forwarded one under its content.
        let key = match entry.kind {
            Kind::Cron | Kind::Process => None,
            Kind::Scheduled | Kind::Assignment => entry.dedup_key.as_deref().or(entry.message_id.as_deref()),
        };
        if !entry.store || !self.keep_results {
            if let (Some(key), Some(epoch), Some(nonce)) = (key, entry.epoch, entry.nonce) {
                self.store.see(pid, key, Seen { epoch, nonce })?;
            }
            return Ok(Arc::new(evaluation.outcome));
        }
        let row = Row {
            place,
            message_id: entry.message_id.clone(),
            assignment_id: entry.assignment_id.clone(),
            deep_hash: entry.dedup_key.clone().filter(|_| entry.kind == Kind::Scheduled),
            nonce: entry.nonce,
            epoch: entry.epoch,
            block_height: entry.block_height,
            outcome: evaluation.outcome,
            evaluated_at: now_ms(),
        };
        match self.store.save(pid, &row, key)? {
            Saved::First | Saved::Same => Ok(Arc::new(row.outcome)),
            Saved::Differs(kept) => {
                metrics.determinism_faults.inc();
                tracing::error!(
                    process = pid,
                    message = entry.name,
                    nonce = entry.nonce,
                    kept = excerpt(&kept.outcome),
                    second = excerpt(&row.outcome),
                    "the same message gave another result than before; the first one stays"
                );
                Ok(Arc::new(kept.outcome))
            }
        }
    }
}

impl State {
    fn new(ground: &Ground) -> Result<Self, Error> {
        let made = catch_unwind(AssertUnwindSafe(|| ground.program.instance()));
        let what = format!("process {}", ground.process.id);
        let instance = match made {
            Ok(made) => made.map_err(|e| engine_error(e, &what))?,
            Err(panic) => {
                return Err(Error::Internal(format!(
                    "making an instance for {what} ended in a fault of this unit: {}",
                    panic_text(panic)
                )));
            }
        };
        Ok(Self { instance, checkpoint: None, last: None, boot: None, recent: VecDeque::new(), version: 0 })
    }

    /// Nonce of the last scheduled entry behind this state.
    pub(super) fn nonce(&self) -> Option<u64> {
        self.checkpoint.as_ref().and_then(|c| c.boundary().nonce)
    }
}

/// Enough of an outcome to see in a log what differs.
fn excerpt(outcome: &Outcome) -> String {
    const CHARACTERS_MAX: usize = 2000;
    format!("{outcome:?}").chars().take(CHARACTERS_MAX).collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
