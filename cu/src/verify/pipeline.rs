//! The signatures in a stream on many threads: this one reads, and what it has read is hashed and verified by the others, a
//! portion at a time, without one waiting for another. The answers are given in the stream's order.

use std::{
    collections::VecDeque,
    io::Read,
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use super::{
    Cpu, Verdict,
    file::{self, Piece},
    settle,
};
use crate::item::deep_hash::Blobs;

/// Pieces of a portion: an equation of Ed25519 or secp256k1 holds as many.
const PORTION_PIECES: usize = 256;
/// Bytes of a portion, about: they stay in a core's cache, and few large pieces do not wait for many.
const PORTION_BYTES: usize = 128 << 10;
/// Portions under way for each thread, so that none runs out of work while this one reads or gives answers.
const PORTIONS_AHEAD: usize = 4;

/// What a stream holds: a signed thing, or a bundle that is none or breaks off, and why.
pub type Found = Result<Verdict, String>;

/// Reads and verifies everything signed in a stream, on so many threads beside this one, which has little to do.
/// `take` gets what is found; `false` ends the reading.
///
/// # Errors
/// What is wrong and where: it is neither an item nor a bundle nor JSON, it breaks off, or it cannot be read. What was
/// found before has been given.
pub fn verify(stream: &mut dyn Read, threads: NonZeroUsize, take: &mut dyn FnMut(Found) -> bool) -> Result<(), String> {
    let (give, work) = mpsc::channel::<Portion>();
    let work = Mutex::new(work);
    let run = || {
        let mut known = Blobs::default();
        let next = || work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        while let Ok(portion) = next() {
            portion.verify(&mut known);
        }
    };
    thread::scope(|scope| {
        let threads = (0..threads.get())
            .filter(|_| thread::Builder::new().name("verify".to_owned()).spawn_scoped(scope, run).is_ok())
            .count();
        let give = (threads > 0).then_some(give);
        let ahead = threads * PORTIONS_AHEAD;
        let mut line = Line { give, ahead, under_way: VecDeque::new(), pieces: Vec::new(), bytes: 0, take };
        let end = file::read(stream, &mut |piece| line.push(piece));
        if line.hand_over() {
            line.take_until(0);
        }
        end
    })
}

/// What one thread verifies at a time.
struct Portion {
    pieces: Vec<Piece>,
    answer: Sender<Vec<Found>>,
}

impl Portion {
    fn verify(self, known: &mut Blobs) {
        let mut subjects = Vec::with_capacity(self.pieces.len());
        let mut found = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces {
            file::subjects(piece, known, &mut |subject| match subject {
                Ok(subject) => subjects.push(subject),
                Err(why) => found.push(Err(why)),
            });
        }
        found.extend(settle(&Cpu(NonZeroUsize::MIN), subjects).into_iter().map(Ok));
        // Whoever asked may want no more.
        let _ = self.answer.send(found);
    }
}

/// From what is read to what is answered.
struct Line<'a> {
    /// To the threads, if the system gave any.
    give: Option<Sender<Portion>>,
    /// Most portions under way.
    ahead: usize,
    /// What the portions handed over hold, once it is known; in order.
    under_way: VecDeque<Receiver<Vec<Found>>>,
    /// The next portion, and its bytes.
    pieces: Vec<Piece>,
    bytes: usize,
    take: &'a mut dyn FnMut(Found) -> bool,
}

impl Line<'_> {
    /// `false`: no more is wanted.
    fn push(&mut self, piece: Piece) -> bool {
        self.bytes += piece.weight();
        self.pieces.push(piece);
        (self.pieces.len() < PORTION_PIECES && self.bytes < PORTION_BYTES) || self.hand_over()
    }

    fn hand_over(&mut self) -> bool {
        let (answer, answered) = mpsc::channel();
        let portion = Portion { pieces: std::mem::take(&mut self.pieces), answer };
        self.bytes = 0;
        self.under_way.push_back(answered);
        match &self.give {
            Some(give) => give.send(portion).expect("the threads take until nothing more can come"),
            None => portion.verify(&mut Blobs::default()),
        }
        self.take_until(self.ahead)
    }

    /// Takes answers until no more than so many portions are under way.
    fn take_until(&mut self, under_way: usize) -> bool {
        while self.under_way.len() > under_way {
            let Some(first) = self.under_way.pop_front() else { break };
            let found = first.recv().expect("a thread that verifies does not panic");
            if !found.into_iter().all(&mut *self.take) {
                return false;
            }
        }
        true
    }
}
