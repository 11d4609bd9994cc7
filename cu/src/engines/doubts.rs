//! Whether what a kernel takes for granted of its module holds, by how its messages came back.

use lockstep_jit::lanes::{Alignment, Bail, Came, Frames, HandedBack, Trust};

/// Part of the messages that comes back for their frames or constants from which on these are better left in memory.
/// Frames in locals save about half of what a loop reaches of memory: with half of the messages lost, nothing is won.
const FRAMES_SHARE: f64 = 0.5;
/// Messages after which that is judged: the fewest that are tried in lanes together.
const MESSAGES_MIN: u32 = 16;
/// Messages after which earlier ones count for half.
const MESSAGES_MAX: u32 = 1024;

/// What is trusted, and what speaks against it.
#[derive(Debug)]
pub(super) struct Doubts {
    trust: Trust,
    /// Messages that ran in this kernel's lanes,
    messages: u32,
    /// those among them that came back for their frames or constants,
    frames: u32,
    /// and whether one came back for its alignment.
    is_crooked: bool,
    /// What no kernel could be had with.
    refused: Vec<Trust>,
}

impl Doubts {
    /// Of a kernel of which nothing is known yet.
    pub fn new(trust: Trust) -> Self {
        Self { trust, messages: 0, frames: 0, is_crooked: false, refused: Vec::new() }
    }

    /// Messages are back.
    pub fn note(&mut self, came: &[Came]) {
        for came in came {
            match came {
                // It was in no lane.
                Came::HandedBack(HandedBack::Room) => continue,
                Came::HandedBack(HandedBack::Bail(Bail::Alignment)) => self.is_crooked = true,
                Came::HandedBack(HandedBack::Bail(Bail::Frame | Bail::Constants)) => self.frames += 1,
                _ => {}
            }
            self.messages += 1;
        }
        while self.messages > MESSAGES_MAX {
            (self.messages, self.frames) = (self.messages / 2, self.frames / 2);
        }
    }

    /// What should be trusted instead, and why.
    pub fn better(&self) -> Option<(Trust, &'static str)> {
        let is_lost =
            self.messages >= MESSAGES_MIN && f64::from(self.frames) >= FRAMES_SHARE * f64::from(self.messages);
        let any = Trust { alignment: Alignment::Any, ..self.trust };
        let in_memory = Trust { frames: Frames::InMemory, ..self.trust };
        let wanted = [
            (self.is_crooked, any, "accesses are not aligned as the module says"),
            (is_lost, in_memory, "messages reach frames or constants that were taken to be out of reach"),
        ];
        let is_new = |trust: &Trust| *trust != self.trust && !self.refused.contains(trust);
        wanted.into_iter().find_map(|(is_wanted, trust, why)| (is_wanted && is_new(&trust)).then_some((trust, why)))
    }

    /// There is a kernel that trusts this.
    pub fn compiled(&mut self, trust: Trust) {
        *self = Self { refused: std::mem::take(&mut self.refused), ..Self::new(trust) };
    }

    /// There cannot be one.
    pub fn refused(&mut self, trust: Trust) {
        self.refused.push(trust);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(count: usize, bail: Bail) -> Vec<Came> {
        (0..count).map(|_| Came::HandedBack(HandedBack::Bail(bail))).collect()
    }

    fn noted(groups: &[(usize, Bail)]) -> Doubts {
        let mut doubts = Doubts::new(Trust::FULL);
        groups.iter().for_each(|(count, bail)| doubts.note(&back(*count, *bail)));
        doubts
    }

    const IN_MEMORY: Trust = Trust { frames: Frames::InMemory, ..Trust::FULL };
    const ANY: Trust = Trust { alignment: Alignment::Any, ..Trust::FULL };

    fn better(doubts: &Doubts) -> Option<Trust> {
        doubts.better().map(|(trust, _)| trust)
    }

    #[test]
    fn frames_are_left_in_memory_when_half_of_the_messages_come_back_for_them() {
        assert_eq!(better(&noted(&[(15, Bail::Frame)])), None, "too few to judge by");
        assert_eq!(better(&noted(&[(16, Bail::Frame)])), Some(IN_MEMORY));
        assert_eq!(better(&noted(&[(16, Bail::Constants)])), Some(IN_MEMORY));
        assert_eq!(better(&noted(&[(50, Bail::Frame), (50, Bail::Constants), (100, Bail::Stack)])), Some(IN_MEMORY));
        assert_eq!(better(&noted(&[(99, Bail::Frame), (101, Bail::Stack)])), None);
        // What had no room says nothing.
        let mut doubts = noted(&[(15, Bail::Frame)]);
        doubts.note(&[Came::HandedBack(HandedBack::Room)]);
        assert_eq!(better(&doubts), None);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut doubts = noted(&[(100_000, Bail::Stack)]);
        (0..20).for_each(|_| doubts.note(&back(100, Bail::Frame)));
        assert_eq!(better(&doubts), Some(IN_MEMORY));
        assert_eq!(better(&noted(&[(100_000, Bail::Stack), (400, Bail::Frame)])), None);
    }

    #[test]
    fn one_access_that_is_not_aligned_is_enough() {
        assert_eq!(better(&noted(&[(1000, Bail::Stack), (1, Bail::Alignment)])), Some(ANY));
    }

    #[test]
    fn a_kernel_that_trusts_less_begins_anew_and_one_that_is_refused_is_not_asked_for_again() {
        let mut doubts = noted(&[(16, Bail::Frame), (1, Bail::Alignment)]);
        doubts.refused(ANY);
        assert_eq!(better(&doubts), Some(IN_MEMORY));
        doubts.compiled(IN_MEMORY);
        assert_eq!(better(&doubts), None);
        doubts.note(&back(1, Bail::Alignment));
        let neither = Trust { alignment: Alignment::Any, ..IN_MEMORY };
        assert_eq!(better(&doubts), Some(neither));
        doubts.compiled(neither);
        doubts.note(&back(100, Bail::Frame));
        doubts.note(&back(100, Bail::Alignment));
        assert_eq!(better(&doubts), None);
    }
}
