//! What a lane keeps from one dispatch to the next: its header, the module's globals and the variables that some state reads from
//! another. A dispatch brings them all in one loop and keeps them in another, a row of words in each turn.

use naga::BinaryOperator;

use super::{Kind, Lowerer, Value, Variable, global_name, kind};
use crate::lanes::layout::{Header, ROW_WORDS};

/// One or two words of a row.
pub(super) enum Kept {
    /// A variable of the kernel.
    Variable(Variable, Kind),
    /// A variable of the lane that the prelude declares, or this for a global.
    Private(String, Kind),
    /// Nothing, in a word: it is not brought, and kept as 0.
    Nothing,
}

impl Kept {
    fn words(&self) -> u32 {
        match self {
            Kept::Variable(_, Kind::Wide) | Kept::Private(_, Kind::Wide) => 2,
            Kept::Variable(..) | Kept::Private(..) | Kept::Nothing => 1,
        }
    }
}

impl Lowerer<'_, '_> {
    /// Declares the globals that are variables.
    pub(super) fn declare_globals(&mut self) {
        for (at, global) in (0..).zip(&self.program.globals) {
            if let (Some(kind), None) = (kind(global.ty), global.constant()) {
                self.out.private(&global_name(at), kind);
            }
        }
    }

    /// What is kept, in rows, once all states are written; wide variables first, so that none lies in two rows.
    pub(super) fn rows(&self) -> Vec<Vec<Kept>> {
        let lane = |name: &str, kind| Kept::Private(name.to_owned(), kind);
        // As in `layout::Header`.
        let mut all = vec![
            lane("status", Kind::Word),
            Kept::Variable(self.state, Kind::Word),
            lane("gas", Kind::Wide),
            lane("pages", Kind::Word),
            lane("dirty", Kind::Word),
            lane("spent", Kind::Word),
            lane("depth", Kind::Word),
        ];
        for (at, global) in (0..).zip(&self.program.globals) {
            match (kind(global.ty), global.constant()) {
                (Some(Kind::Wide), None) => all.push(Kept::Private(global_name(at), Kind::Wide)),
                (Some(Kind::Word), None) => all.extend([Kept::Private(global_name(at), Kind::Word), Kept::Nothing]),
                _ => all.extend([Kept::Nothing, Kept::Nothing]),
            }
        }
        let mut exposed = self.out.variables();
        exposed.retain(|(variable, _)| self.exposed.contains(variable));
        exposed.sort_by_key(|(_, kind)| *kind == Kind::Word);
        all.extend(exposed.into_iter().map(|(variable, kind)| Kept::Variable(variable, kind)));
        let (mut rows, mut room) = (Vec::<Vec<Kept>>::new(), 0);
        for kept in all {
            if room == 0 {
                rows.push(Vec::new());
                room = ROW_WORDS;
            }
            room -= kept.words();
            rows.last_mut().expect("there is one now").push(kept);
        }
        rows
    }

    /// Writes them all.
    pub(super) fn keep(&mut self, rows: &[Vec<Kept>]) {
        let at = self.open_rows();
        let number = self.out.get(at);
        let zero = self.out.word(0);
        let mut words = [zero; ROW_WORDS as usize];
        for (row, all) in (0..).zip(rows) {
            let is_here = self.is_row(number, row);
            let mut words = words.iter_mut();
            for kept in all {
                let parts = match self.kept(kept) {
                    Some((kind, whole)) => self.parts(kind, whole),
                    None => vec![zero],
                };
                for part in parts {
                    let word = words.next().expect("a row holds no more");
                    *word = self.out.select(is_here, part, *word);
                }
            }
        }
        for (place, word) in (0..).zip(words) {
            let at = self.kept_word(number, place);
            self.out.run("set_header_word", &[at, word]);
        }
        self.close_rows(at);
        // The driver may have bounded this loop too: then nothing of the lane can be gone on with.
        let (reached, count) = (self.out.get(at), self.out.call("kept_rows", &[]));
        let is_cut = self.out.binary(BinaryOperator::Less, reached, count);
        self.out.open_if(is_cut);
        self.out.run("lose", &[]);
        self.out.close();
    }

    /// Reads them back. What no state has written yet in this call is nobody's business.
    pub(super) fn bring(&mut self, rows: &[Vec<Kept>]) {
        let at = self.open_rows();
        let number = self.out.get(at);
        let mut words = Vec::new();
        for place in 0..ROW_WORDS {
            let at = self.kept_word(number, place);
            words.push(self.out.call("header_word", &[at]));
        }
        for (row, all) in (0..).zip(rows) {
            let is_here = self.is_row(number, row);
            let mut words = words.iter();
            let mut word = || *words.next().expect("a row holds no more");
            for kept in all {
                let low = word();
                let now = match self.kept(kept) {
                    Some((Kind::Wide, before)) => {
                        let whole = self.out.call("wide", &[low, word()]);
                        self.out.call("wide_select", &[before, whole, is_here])
                    }
                    Some((Kind::Word, before)) => self.out.select(is_here, low, before),
                    None => continue,
                };
                match kept {
                    Kept::Variable(variable, _) => self.out.set(*variable, now),
                    Kept::Private(name, _) => self.out.set_global(name, now),
                    Kept::Nothing => {}
                }
            }
        }
        self.close_rows(at);
    }

    /// The value of what is kept.
    fn kept(&mut self, kept: &Kept) -> Option<(Kind, Value)> {
        match kept {
            Kept::Variable(variable, kind) => Some((*kind, self.out.get(*variable))),
            Kept::Private(name, kind) => Some((*kind, self.out.get_global(name))),
            Kept::Nothing => None,
        }
    }

    /// Whether a turn is a row's.
    fn is_row(&mut self, number: Value, row: u32) -> Value {
        let row = self.out.word(row);
        self.out.binary(BinaryOperator::Equal, number, row)
    }

    /// Where a row's word lies in the lane.
    fn kept_word(&mut self, row: Value, place: u32) -> Value {
        let (row_words, first) = (self.out.word(ROW_WORDS), self.out.word(Header::KEPT + place));
        let behind = self.out.binary(BinaryOperator::Multiply, row, row_words);
        self.out.binary(BinaryOperator::Add, behind, first)
    }

    /// A loop over rows. How many there are the kernel is told when it runs: drivers write out loops whose turns they know.
    fn open_rows(&mut self) -> Variable {
        let at = self.out.variable(Kind::Word);
        let zero = self.out.word(0);
        self.out.set(at, zero);
        self.out.open_loop();
        let (here, count) = (self.out.get(at), self.out.call("kept_rows", &[]));
        let is_over = self.out.binary(BinaryOperator::GreaterEqual, here, count);
        self.out.open_if(is_over);
        self.out.leave_loop();
        self.out.close();
        at
    }

    fn close_rows(&mut self, at: Variable) {
        let (here, one) = (self.out.get(at), self.out.word(1));
        let next = self.out.binary(BinaryOperator::Add, here, one);
        self.out.set(at, next);
        self.out.close();
    }
}
