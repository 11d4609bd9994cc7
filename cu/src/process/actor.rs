//! A process actor: everything that happens to one process happens here, one thing after another.
//!
//! All requests for a process go through its one mailbox, so that there are never two streams of one schedule. The
//! actor opens one stream, to the farthest goal it knows, and serves nearer goals as it passes them; what comes later
//! and lies farther waits for the next stream.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use futures::{FutureExt, future::BoxFuture};
use lockstep_jit::OwnedCall;
use tokio::sync::{mpsc, watch};

use super::{
    Shared,
    evaluate::{self, Ground, Lane, Mark, State, Turn, Verdict},
    goal::{Fork, Goal, Got, Next, Standing, Waiter, Want, farther},
    pool::{Lost, Refused, closing},
    programs::Loaded,
    progress::Progress,
    source::{Feed, Source},
    stuck::Stuck,
    view::View,
};
use crate::{
    Error,
    engines::Given,
    message::environment_json,
    schedule::{End, Entry, Kind, Position, Start},
    store::{Known, Place},
};

/// Requests that may wait for one process.
pub(super) const MAILBOX_MAX: usize = 4096;
/// Entries looked at ahead of the one being evaluated.
const AHEAD_MAX: usize = 64;
/// How long an actor whose process is not in memory waits for more to do, before it ends too.
const LINGER: std::time::Duration = std::time::Duration::from_secs(10);

/// What is put into an actor's mailbox.
pub(super) enum Mail {
    /// A request.
    Bring(Waiter),
    /// Its place in memory is needed; obeyed if nothing is to be done.
    Leave,
}

pub(super) struct Actor {
    pub(super) pid: String,
    pub(super) shared: Arc<Shared>,
    mail: mpsc::Receiver<Mail>,
    own_mail: mpsc::WeakSender<Mail>,
    stopping: watch::Receiver<bool>,
    view: Arc<View>,
    pub(super) ground: Option<Arc<Ground>>,
    pub(super) state: Option<State>,
    pub(super) fork: Option<(u64, Weak<Fork>)>,
    waiters: Vec<Waiter>,
    /// For the next stream.
    later: Vec<Waiter>,
    /// The message that ran out of time last, if the process still stands before it.
    stuck: Option<Stuck>,
}

impl Actor {
    pub(super) fn new(
        pid: &str,
        shared: Arc<Shared>,
        mail: mpsc::Receiver<Mail>,
        own_mail: mpsc::WeakSender<Mail>,
        view: Arc<View>,
    ) -> Self {
        let stopping = shared.stopping.subscribe();
        Self {
            pid: pid.to_owned(),
            shared,
            mail,
            own_mail,
            stopping,
            view,
            ground: None,
            state: None,
            fork: None,
            waiters: Vec::new(),
            later: Vec::new(),
            stuck: None,
        }
    }

    /// Works until told to stop or left alone for long enough. `leave` takes the actor out of the directory, if nobody
    /// wrote to it meanwhile.
    pub(super) async fn run(mut self, leave: impl Fn() + Send) {
        loop {
            let patience = if self.state.is_some() { self.shared.limits.idle_ttl } else { LINGER };
            let mail = tokio::select! {
                mail = tokio::time::timeout(patience, self.mail.recv()) => mail,
                () = stopped(&mut self.stopping) => break,
            };
            match mail {
                Ok(Some(Mail::Bring(waiter))) => self.waiters.push(waiter),
                Ok(Some(Mail::Leave)) => self.drop_state("the memory budget"),
                Err(_) if self.state.is_some() => self.drop_state("idleness"),
                // Nobody can write any more, or nobody did for long enough.
                Ok(None) | Err(_) => break,
            }
            while !self.waiters.is_empty() && !*self.stopping.borrow() {
                self.collect(None);
                self.serve().await;
                self.waiters.append(&mut self.later);
            }
            self.rest();
        }
        leave();
        self.mail.close();
        self.waiters.append(&mut self.later);
        let stopping = *self.stopping.borrow();
        while let Ok(mail) = self.mail.try_recv() {
            if let Mail::Bring(waiter) = mail {
                self.waiters.push(waiter);
            }
        }
        if stopping {
            refuse(std::mem::take(&mut self.waiters), &closing());
        }
        // Whoever is left unanswered here asks again, and finds the next actor.
    }

    /// One stream, from where the process stands to the farthest goal.
    async fn serve(&mut self) {
        self.settle(Next::Unknown).await;
        if self.waiters.is_empty() {
            return;
        }
        if let Some(stuck) = self.stuck.as_ref().filter(|stuck| stuck.holds()) {
            let behind = |w: &Waiter| stuck.is_before(&w.goal);
            let (held_back, free) = std::mem::take(&mut self.waiters).into_iter().partition(behind);
            self.waiters = free;
            refuse(held_back, &stuck.error());
            if self.waiters.is_empty() {
                return;
            }
        }
        let ground = match self.ground().await {
            Ok(ground) => ground,
            Err(error) => return self.fail(&error),
        };
        self.collect(None);
        self.settle(Next::Unknown).await;
        let Some(end) = self.waiters.iter().map(|w| w.goal.end()).max_by(farther) else {
            return;
        };
        self.waiters.iter_mut().for_each(|w| w.aboard = true);
        let start = match self.state.as_ref().and_then(|s| s.checkpoint.clone()) {
            Some(checkpoint) => Start::After(checkpoint),
            None => Start::Cold,
        };
        let entries = self.shared.source.entries(Arc::clone(&ground.process), start, end.clone());
        self.view.runs(true);
        let outcome = self.follow(&ground, Feed::open(entries), &end).await;
        self.view.runs(false);
        self.backlog(0);
        if let Err(error) = outcome {
            self.fail(&error);
        }
    }

    async fn follow(&mut self, ground: &Arc<Ground>, mut feed: Feed, end: &End) -> Result<(), Error> {
        let mut ahead: VecDeque<Entry> = VecDeque::new();
        let mut fault = None;
        let mut over = false;
        let mut progress = Progress::new(&self.pid);
        loop {
            if ahead.is_empty() && !over {
                let entry = tokio::select! {
                    entry = feed.next() => entry,
                    () = stopped(&mut self.stopping) => return Err(closing()),
                };
                take(entry, &mut ahead, &mut fault, &mut over);
            }
            while ahead.len() < AHEAD_MAX && !over {
                let Some(entry) = feed.ready() else { break };
                take(Some(entry), &mut ahead, &mut fault, &mut over);
            }
            self.collect(Some(end));
            let next = match (ahead.front(), &fault) {
                (Some(entry), _) => Next::Entry(entry),
                (None, None) if over => Next::End(end),
                _ => Next::Unknown,
            };
            self.settle(next).await;
            if self.waiters.iter().all(|w| w.reply.is_closed()) {
                self.waiters.clear();
                return Ok(());
            }
            if ahead.is_empty() {
                if let Some(error) = fault {
                    return Err(error);
                }
                if over {
                    return self.disembark(end);
                }
                continue;
            }
            self.advance(ground, &mut ahead, &mut progress).await?;
            if *self.stopping.borrow() {
                return Err(closing());
            }
        }
    }

    /// One turn: as many entries as may be evaluated before somebody wants to see the process stand still.
    async fn advance(
        &mut self,
        ground: &Arc<Ground>,
        ahead: &mut VecDeque<Entry>,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let reset = self.shared.limits.memory_reset && ahead.front().is_some_and(|e| is_reset(e, ground));
        let under_way = ground.gate.enter();
        // Lanes take one message of a process at a time.
        let in_lane = !reset && ground.gate.prefers_lanes();
        let count = if reset || in_lane { 1 } else { self.unobserved(ground, ahead) };
        let rest = ahead.split_off(count);
        let entries = std::mem::replace(ahead, rest);
        let first = if reset { Some(first_message(&self.shared, ground).await?) } else { None };
        if let Some(state) = &self.state {
            self.account(state.instance.resident_bytes(), true);
        }
        let lane = match entries.front() {
            Some(entry) if in_lane => self.visit(ground, entry).await?.map_or(Lane::Closed, Lane::Done),
            _ if self.state.is_some() => Lane::Open,
            // A process is made natively.
            _ => Lane::Closed,
        };
        let job = {
            let (ground, keeper, state) = (Arc::clone(ground), self.shared.keeper.clone(), self.state.take());
            let view = Arc::clone(&self.view);
            move || turn(&ground, &keeper, state, entries, first, lane, &view)
        };
        let turn = match self.shared.pool.run(job) {
            Ok(done) => done.await,
            Err(Refused::Closed | Refused::Full) => Err(Lost::Closed),
        };
        let turn = match turn {
            Ok(turn) => turn,
            Err(lost) => {
                self.forget_state();
                return Err(lost.into_error(&format!("evaluation of process {}", self.pid)));
            }
        };
        drop(under_way);
        for entry in turn.rest.into_iter().rev() {
            ahead.push_front(entry);
        }
        self.state = turn.state;
        match &self.state {
            Some(state) => {
                self.view.reached(state);
                self.account(state.instance.resident_bytes(), true);
            }
            None => self.forget_state(),
        }
        let remaining = ahead.front().and_then(|e| e.remaining.map(|n| n + 1));
        self.backlog(remaining.unwrap_or(ahead.len() as u64));
        progress.add(turn.done.len());
        if progress.is_due() {
            let nonce = self.state.as_ref().and_then(State::nonce);
            let remaining = match remaining {
                Some(remaining) => Some(remaining),
                None => missing(&*self.shared.source, ground, nonce).await,
            };
            progress.tell(nonce, remaining);
        }
        self.deliver(&turn.done);
        if !turn.done.is_empty() {
            self.stuck = None;
        }
        let Some(failure) = turn.failure else {
            return Ok(());
        };
        if failure.out_of_time
            && let Some(entry) = ahead.front()
        {
            let before = self.stuck.take();
            self.stuck = Some(Stuck::at(entry, failure.error.clone(), self.shared.keeper.time_limit, before));
        }
        Err(failure.error)
    }

    /// Has a lane evaluate an entry; none: the native engine has to.
    async fn visit(&mut self, ground: &Arc<Ground>, entry: &Entry) -> Result<Option<Given>, Error> {
        let keeper = &self.shared.keeper;
        // What is repeated is skipped, and an error comes again in the turn.
        let skips = keeper.is_duplicate(&self.pid, entry).unwrap_or(true);
        let Some(mut state) = self.state.take_if(|_| !skips) else {
            return Ok(None);
        };
        let seed = evaluate::seed_of(entry, &self.pid);
        let call = evaluate::call_of(ground, keeper, entry, &seed);
        let call = OwnedCall::of(&call, Some(&ground.environment));
        let visited = tokio::select! {
            visited = ground.gate.evaluate(state.instance, call) => visited,
            () = stopped(&mut self.stopping) => {
                self.forget_state();
                return Err(closing());
            }
        };
        let Some((instance, given)) = visited else {
            self.forget_state();
            return Err(Error::Internal(format!("evaluation of process {} ended with its lanes", self.pid)));
        };
        state.instance = instance;
        self.state = Some(state);
        Ok(given)
    }

    /// How many of the entries ahead can be evaluated in one go: up to where a waiter wants to look at the process.
    fn unobserved(&self, ground: &Ground, ahead: &VecDeque<Entry>) -> usize {
        let exact = || self.waiters.iter().filter(|w| w.is_exact());
        for (index, entry) in ahead.iter().enumerate() {
            let before = exact().any(|w| w.goal.ends_before(entry));
            let resets = self.shared.limits.memory_reset && is_reset(entry, ground);
            if index > 0 && (before || resets) {
                return index;
            }
            let mark = Mark::of(entry, &self.pid);
            if exact().any(|w| matches!(&w.goal, Goal::Message(position) if mark.is_at(position))) {
                return index + 1;
            }
        }
        ahead.len()
    }

    /// Answers every waiter that the process as it stands can answer.
    async fn settle(&mut self, next: Next<'_>) {
        let mut index = 0;
        while index < self.waiters.len() {
            let waiter = &self.waiters[index];
            let answer = match waiter.want {
                Want::Verdict => self.known(&waiter.goal).transpose(),
                _ => None,
            };
            // What a stream found when it was opened says nothing about what came since.
            let next = match next {
                Next::End(_) if !waiter.aboard => Next::Unknown,
                next => next,
            };
            let (standing, want) = (waiter.goal.standing(self.state.as_ref(), next), waiter.want);
            let answer = match (answer, standing, want) {
                (Some(known), ..) => known.map(Got::Verdict),
                (None, Standing::Before, _) => {
                    index += 1;
                    continue;
                }
                (None, Standing::At | Standing::Past, Want::Arrival) => Ok(Got::Arrived),
                (None, Standing::At, Want::Memory) => self.memory().await,
                (None, Standing::At, Want::Fork) => self.fork().await,
                (None, ..) => Err(self.waiters[index].goal.too_early(self.state.as_ref())),
            };
            let waiter = self.waiters.swap_remove(index);
            // The one who asked may have gone.
            let _ = waiter.reply.send(answer);
        }
    }

    /// What is known of a message without evaluating anything.
    fn known(&self, goal: &Goal) -> Result<Option<Verdict>, Error> {
        let Goal::Message(position) = goal else {
            return Ok(None);
        };
        let at = |mark: &Mark| mark.is_at(position);
        if let Some(state) = &self.state {
            if position.is_process && state.boot.is_some() {
                return Ok(state.boot.clone());
            }
            if let Some((_, verdict)) = state.recent.iter().rev().find(|(mark, _)| at(mark)) {
                return Ok(Some(verdict.clone()));
            }
        }
        if self.shared.keeper.keep_results { stored(&self.shared, &self.pid, position) } else { Ok(None) }
    }

    /// Answers the waiters whose messages were evaluated in a turn.
    fn deliver(&mut self, done: &[(Mark, Verdict)]) {
        for (mark, verdict) in done {
            let here = |w: &Waiter| {
                w.want == Want::Verdict && matches!(&w.goal, Goal::Message(position) if mark.is_at(position))
            };
            let (answered, left) = std::mem::take(&mut self.waiters).into_iter().partition(here);
            self.waiters = left;
            for waiter in answered {
                let _ = waiter.reply.send(Ok(Got::Verdict(verdict.clone())));
            }
        }
    }

    /// The stream is over. Who was aboard and has no answer never gets one; who joined on the way may have asked for
    /// something that was not there yet when the stream was opened, and gets another.
    fn disembark(&mut self, end: &End) -> Result<(), Error> {
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.aboard {
                let what = match &waiter.goal {
                    Goal::Message(Position { message_id, assignment_id, nonce, .. }) => format!(
                        "message {} (nonce {})",
                        message_id.as_deref().or(assignment_id.as_deref()).unwrap_or("without id"),
                        nonce.map_or_else(|| "unknown".to_owned(), |n| n.to_string())
                    ),
                    goal => format!("{goal:?}"),
                };
                let error = format!("the schedule of process {} ends before {what}", self.pid);
                tracing::warn!(process = self.pid, ?end, error);
                let _ = waiter.reply.send(Err(Error::Upstream(error)));
            } else {
                self.later.push(waiter);
            }
        }
        Ok(())
    }

    /// Takes what lies in the mailbox. While a stream runs to `end`, goals that it does not pass wait.
    fn collect(&mut self, end: Option<&End>) {
        while let Ok(mail) = self.mail.try_recv() {
            // Not idle, so not asked to leave any more.
            let Mail::Bring(waiter) = mail else { continue };
            match end {
                Some(end) if !waiter.goal.is_within(end) => self.later.push(waiter),
                _ => self.waiters.push(waiter),
            }
        }
    }

    fn fail(&mut self, error: &Error) {
        refuse(std::mem::take(&mut self.waiters), error);
    }

    async fn ground(&mut self) -> Result<Arc<Ground>, Error> {
        if let Some(ground) = &self.ground {
            return Ok(Arc::clone(ground));
        }
        let process = self.shared.source.process(&self.pid).await?;
        let module = self.shared.source.module(&process).await?;
        let Loaded { program, gate } = self.shared.programs.load(&module).await?;
        let environment = environment_json(&process, &module).into();
        let ground = Arc::new(Ground { process, module, program, gate, environment });
        self.ground = Some(Arc::clone(&ground));
        Ok(ground)
    }

    /// Nothing to do for now.
    fn rest(&mut self) {
        if let Some(state) = &self.state {
            self.account(state.instance.resident_bytes(), false);
        } else {
            // What the network said about it may change before it is needed again.
            self.ground = None;
        }
    }

    fn account(&self, bytes: u64, busy: bool) {
        self.shared.budget.holds(&self.pid, bytes, busy, &self.own_mail);
    }

    fn drop_state(&mut self, why: &str) {
        let Some(state) = self.state.take() else {
            return;
        };
        tracing::info!(process = self.pid, nonce = state.nonce(), why, "process dropped from memory");
        self.shared.keeper.metrics.processes_dropped.inc();
        // Giving memory back takes a while: not on a thread of the runtime. If the pool is closed it happens here.
        let _ = self.shared.pool.run(move || drop(state)).map(|done| tokio::spawn(done));
        self.ground = None;
        self.forget_state();
    }

    pub(super) fn forget_state(&mut self) {
        self.state = None;
        self.fork = None;
        self.view.gone();
        self.shared.budget.released(&self.pid);
    }

    fn backlog(&self, remaining: u64) {
        let change = self.view.waits(remaining);
        self.shared.keeper.metrics.backlog.inc_by(change);
    }
}

fn refuse(waiters: Vec<Waiter>, error: &Error) {
    for waiter in waiters {
        // The one who asked may have gone.
        let _ = waiter.reply.send(Err(error.clone()));
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.shared.budget.released(&self.pid);
        self.backlog(0);
    }
}

fn turn(
    ground: &Ground,
    keeper: &evaluate::Keeper,
    state: Option<State>,
    mut entries: VecDeque<Entry>,
    first: Option<Entry>,
    lane: Lane,
    view: &View,
) -> Turn {
    match (first, state) {
        (Some(first), Some(state)) if entries.len() == 1 => {
            let entry = entries.pop_front().expect("there is one");
            evaluate::reset(ground, keeper, state, entry, &first)
        }
        (_, state) => evaluate::turn(ground, keeper, state, entries, lane, |state| view.reached(state)),
    }
}

/// How many nonces a process that stands at `nonce` lacks to the newest, if its scheduler says so.
fn missing<'a>(source: &'a dyn Source, ground: &'a Ground, nonce: Option<u64>) -> BoxFuture<'a, Option<u64>> {
    async move {
        let newest = source.latest(&ground.process).await.ok()?.nonce?;
        Some(newest.saturating_sub(nonce?))
    }
    .boxed()
}

/// The first message of a process's schedule, for `Reset-Memory`.
async fn first_message(shared: &Shared, ground: &Ground) -> Result<Entry, Error> {
    let zero = Position {
        timestamp: ground.process.timestamp,
        nonce: Some(0),
        message_id: None,
        assignment_id: None,
        is_process: false,
    };
    let process = Arc::clone(&ground.process);
    let mut entries = shared.source.entries(process, Start::Cold, End::Message(zero));
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        if matches!(entry.kind, Kind::Scheduled | Kind::Assignment) {
            return Ok(entry);
        }
    }
    Err(Error::Upstream(format!("the schedule of process {} has no first message", ground.process.id)))
}

fn is_reset(entry: &Entry, ground: &Ground) -> bool {
    matches!(entry.kind, Kind::Scheduled | Kind::Assignment)
        && entry.action.as_deref() == Some("Reset-Memory")
        && entry.owner == ground.process.owner
}

fn take(entry: Option<Result<Entry, Error>>, ahead: &mut VecDeque<Entry>, fault: &mut Option<Error>, over: &mut bool) {
    match entry {
        Some(Ok(entry)) => ahead.push_back(entry),
        Some(Err(error)) => {
            *fault = Some(error);
            *over = true;
        }
        None => *over = true,
    }
}

/// What the store says about a message.
pub(super) fn stored(shared: &Shared, pid: &str, position: &Position) -> Result<Option<Verdict>, Error> {
    let store = &shared.keeper.store;
    if let (Some(nonce), false) = (position.nonce, position.is_process) {
        let place = Place { timestamp: position.timestamp, ordinate: nonce, cron: None };
        if let Some(row) = store.row(pid, &place)? {
            return Ok(Some(Verdict::Evaluated(Arc::new(row.outcome))));
        }
    }
    let ids = if position.is_process {
        [Some(pid), None]
    } else {
        [position.assignment_id.as_deref(), position.message_id.as_deref()]
    };
    for id in ids.into_iter().flatten() {
        // An item may stand in a schedule twice, sent once and assigned later: only the one asked for will do.
        match store.named(pid, id)? {
            Some(known) if position.is_process || is_at(&known, position) => {
                return Ok(Some(verdict(known)));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn is_at(known: &Known, position: &Position) -> bool {
    let place = match known {
        Known::Evaluated(row) => &row.place,
        Known::Skipped(place) => place,
    };
    place.timestamp == position.timestamp && position.nonce.is_none_or(|nonce| nonce == place.ordinate)
}

pub(super) fn verdict(known: Known) -> Verdict {
    match known {
        Known::Evaluated(row) => Verdict::Evaluated(Arc::new(row.outcome)),
        Known::Skipped(_) => Verdict::Skipped,
    }
}

/// Returns once the unit stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the unit is gone altogether.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
