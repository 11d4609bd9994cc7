//! What a request wants of a process, and how far that is from where the process stands.

use std::cmp::Ordering;

use tokio::sync::oneshot;

use super::evaluate::{Last, State, Verdict};
use crate::{
    Error,
    engines::Live,
    schedule::{End, Entry, Position},
};

/// How far a process is to be brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Up to this message, itself included.
    Message(Position),
    /// Through everything up to this time, ms since 1970.
    Until(u64),
    /// Through everything there is now.
    Latest,
}

/// What is wanted once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// What became of the message.
    Verdict,
    /// That the process got at least so far.
    Arrival,
    /// A copy of its memory, exactly there.
    Memory,
    /// An independent copy of the process, exactly there.
    Fork,
}

/// What a request gets.
pub enum Got {
    /// For [`Want::Verdict`].
    Verdict(Verdict),
    /// For [`Want::Arrival`].
    Arrived,
    /// For [`Want::Memory`]; no memory: no evaluation was kept yet.
    Memory { memory: Option<Vec<u8>>, last: Option<Last> },
    /// For [`Want::Fork`].
    Fork(std::sync::Arc<Fork>),
}

/// A process as it stood at one moment, for dry runs.
pub struct Fork {
    /// Locked only to fork it again.
    pub instance: std::sync::Mutex<Box<dyn Live>>,
    /// Its environment text.
    pub environment: std::sync::Arc<str>,
    /// Gas of one evaluation.
    pub gas_limit: u64,
    /// The last entry behind it.
    pub last: Option<Last>,
    /// Host memory it holds, bytes.
    pub bytes: u64,
}

/// One request, waiting.
pub struct Waiter {
    pub goal: Goal,
    pub want: Want,
    pub reply: oneshot::Sender<Result<Got, Error>>,
    /// Whether it was there before the current stream was opened, so that the stream must serve it.
    pub(super) aboard: bool,
}

impl Waiter {
    pub fn new(goal: Goal, want: Want) -> (Self, oneshot::Receiver<Result<Got, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Self { goal, want, reply, aboard: false }, answer)
    }

    /// Whether the process must stop exactly there for it.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.want, Want::Memory | Want::Fork)
    }
}

/// What is known to come next.
#[derive(Clone, Copy)]
pub(super) enum Next<'a> {
    Unknown,
    Entry(&'a Entry),
    /// Nothing, as far as the current stream was to go.
    End(&'a End),
}

/// Where a process stands as seen from a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Before,
    At,
    Past,
}

impl Goal {
    /// Whether evaluating `entry` would go beyond this goal.
    pub(super) fn ends_before(&self, entry: &Entry) -> bool {
        match self {
            Self::Message(_) | Self::Latest => false,
            // A cron due exactly then belongs to what follows: crons stand between one moment and the next.
            Self::Until(time) => entry.timestamp > *time || entry.cron.is_some() && entry.timestamp == *time,
        }
    }

    /// Where `state` stands.
    pub(super) fn standing(&self, state: Option<&State>, next: Next<'_>) -> Standing {
        let behind = state.and_then(|s| s.checkpoint.as_ref().map(|c| (s, c)));
        match (self, behind) {
            (Self::Message(position), Some((state, checkpoint))) => {
                let order = match (state.nonce(), position.nonce) {
                    _ if position.is_process => Ordering::Greater,
                    (Some(own), Some(wanted)) => own.cmp(&wanted),
                    // Nothing scheduled is behind it yet.
                    (None, Some(_)) => Ordering::Less,
                    _ => checkpoint.timestamp.cmp(&position.timestamp),
                };
                match order {
                    Ordering::Less => Standing::Before,
                    Ordering::Equal if checkpoint.cron.is_none() => Standing::At,
                    // The boot is exactly where a process stands that has nothing else behind it.
                    _ if position.is_process && state.version == 1 => Standing::At,
                    _ => Standing::Past,
                }
            }
            (Self::Message(_), None) => Standing::Before,
            (Self::Until(time), Some((_, checkpoint))) if checkpoint.timestamp > *time => Standing::Past,
            (Self::Until(time), _) => match next {
                Next::Entry(entry) if self.ends_before(entry) => Standing::At,
                Next::End(end) if reaches(end, *time) => Standing::At,
                _ => Standing::Before,
            },
            (Self::Latest, _) => match next {
                Next::End(End::Latest) => Standing::At,
                _ => Standing::Before,
            },
        }
    }

    /// Where a stream must end to serve this goal.
    pub(super) fn end(&self) -> End {
        match self {
            Self::Message(position) => End::Message(position.clone()),
            Self::Until(time) => End::Timestamp(*time),
            Self::Latest => End::Latest,
        }
    }

    /// Whether a stream to `end` passes through this goal, if what it asks for was there when the stream was opened.
    pub(super) fn is_within(&self, end: &End) -> bool {
        match self {
            Self::Latest => false,
            _ => farther(&self.end(), end) != Ordering::Greater,
        }
    }

    /// As the error says that names a message which is gone.
    pub(super) fn too_early(&self, state: Option<&State>) -> Error {
        let at = match self {
            Self::Message(Position { nonce: Some(nonce), is_process: false, .. }) => format!("nonce {nonce}"),
            Self::Message(position) => format!("timestamp {}", position.timestamp),
            Self::Until(time) => format!("timestamp {time}"),
            Self::Latest => "the present".to_owned(),
        };
        let ordinate = state.and_then(|s| s.checkpoint.as_ref()).map_or("0", |c| c.ordinate.as_str());
        Error::TooEarly(format!("message at {at} not found cached, and earlier than latest known nonce {ordinate}"))
    }
}

fn reaches(end: &End, time: u64) -> bool {
    match end {
        End::Latest => true,
        End::Timestamp(end) => *end >= time,
        End::Message(position) => position.timestamp > time,
    }
}

/// Which of two ends lies farther in a schedule.
pub(super) fn farther(a: &End, b: &End) -> Ordering {
    match (a, b) {
        (End::Latest, End::Latest) => Ordering::Equal,
        (End::Latest, _) => Ordering::Greater,
        (_, End::Latest) => Ordering::Less,
        (End::Timestamp(a), End::Timestamp(b)) => a.cmp(b),
        (End::Message(a), End::Timestamp(b)) if a.timestamp <= *b => Ordering::Less,
        (End::Message(_), End::Timestamp(_)) => Ordering::Greater,
        (End::Timestamp(_), End::Message(_)) => farther(b, a).reverse(),
        (End::Message(a), End::Message(b)) => match (a.is_process, b.is_process, a.nonce, b.nonce) {
            (true, true, ..) => Ordering::Equal,
            (true, false, ..) => Ordering::Less,
            (false, true, ..) => Ordering::Greater,
            (_, _, Some(a), Some(b)) => a.cmp(&b),
            _ => a.timestamp.cmp(&b.timestamp),
        },
    }
}
