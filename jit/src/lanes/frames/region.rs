//! A loop that keeps its part of the frame in locals: loads before it, stores behind it, and checks of everything that
//! the loads and stores rest on.

use std::collections::{BTreeSet, HashMap};

use wasmparser::{BlockType, MemArg, Operator, ValType};

use super::{
    GUARD,
    access::Access,
    known::{Known, STACK_ALIGNMENT},
    walk::{Piece, Walker},
};
use crate::lanes::{layout::PAGE_BYTES, plan::accesses};

/// Words of a frame that a loop keeps in locals.
const WORDS_MAX: usize = 256;

/// More words than this are loaded and stored by loops, so many in a turn: drivers' compile time goes with the places
/// that reach memory.
const TURN_WORDS: usize = 8;

/// Where a loop's frame is found when it is entered.
pub struct Region {
    /// A local that holds an address of the frame, and does not change.
    pub base: u32,
    /// The address, from where the stack pointer was when the function was entered.
    pub base_offset: i32,
    /// The stack pointer, likewise.
    pub pointer: i32,
}

/// Words of the frame and the locals that they are kept in.
struct Slots {
    /// Where the words begin, from the stack pointer at the function's entry.
    start: i32,
    /// Where they end.
    end: i32,
    /// The local of each word that is kept.
    locals: Vec<Option<u32>>,
    /// Words that are written.
    written: BTreeSet<usize>,
    /// The lowest address that an access adds its offset to.
    lowest: i32,
    /// The local that holds the address of the first word.
    origin: u32,
}

/// A loop may reach memory in so many places more than it did, if its turns do so half as often.
const PLACES_MORE_MAX: u32 = 32;

/// The region's instructions with its frame in locals; none if that is not possible, or not worth it. What they stand
/// for reaches memory in so many places.
pub fn promoted<'a>(
    walker: &mut Walker<'_, 'a>,
    region: &Region,
    pieces: &[Piece<'a>],
    before: u32,
) -> Option<Vec<Piece<'a>>> {
    // How often a turn reaches memory, and how often that is the frame.
    let (mut all, mut saved) = (0, 0);
    for piece in pieces {
        let places = accesses(&piece.op);
        all += places;
        saved += if matches!(piece.place, Some(Known::Frame(_))) { places } else { 0 };
    }
    let slots = Slots::find(walker, pieces)?;
    let mut rewriter = Rewriter { walker, slots, out: Vec::new(), scratch: HashMap::new() };
    rewriter.enter(region);
    rewriter.leave_through_one_door(pieces)?;
    let after: u32 = rewriter.out.iter().map(|piece| accesses(&piece.op)).sum();
    (after < before || 2 * saved > all && after <= before + PLACES_MORE_MAX).then_some(rewriter.out)
}

impl Slots {
    fn find(walker: &mut Walker<'_, '_>, pieces: &[Piece<'_>]) -> Option<Slots> {
        let (mut start, mut end, mut lowest) = (i32::MAX, i32::MIN, i32::MAX);
        let (mut touched, mut stored) = (BTreeSet::new(), BTreeSet::new());
        for piece in pieces {
            let (Some(access), Some(place)) = (Access::of(&piece.op), piece.place) else { continue };
            match place {
                // It is part of the frame, and nobody knows which.
                Known::Somewhere => return None,
                Known::Nothing | Known::Number(_) => continue,
                Known::Frame(base) => {
                    let at = base.checked_add(i32::try_from(access.memarg.offset).ok()?)?;
                    let (first, last) = (at & !3, (at + access.bytes as i32 - 1) & !3);
                    // What lies across words stays together only if it is two whole ones.
                    if first != last && at & 3 != 0 {
                        return None;
                    }
                    for word in [first, last] {
                        touched.insert(word);
                        if access.is_store {
                            stored.insert(word);
                        }
                    }
                    (start, end, lowest) = (start.min(first), end.max(last + 4), lowest.min(base));
                }
            }
        }
        if touched.is_empty() || end.checked_sub(start)? > 4 * WORDS_MAX as i32 {
            return None;
        }
        let is_many = touched.len() > TURN_WORDS;
        if is_many {
            // Whole turns, towards the end of the stack.
            let turn = 4 * TURN_WORDS as i32;
            start = end - (end - start + turn - 1) / turn * turn;
        }
        let words = ((end - start) / 4) as usize;
        let word = |at: &i32| ((at - start) / 4) as usize;
        let touched: BTreeSet<usize> = touched.iter().map(word).collect();
        let locals =
            (0..words).map(|word| (is_many || touched.contains(&word)).then(|| walker.local(ValType::I32))).collect();
        let written =
            if is_many && !stored.is_empty() { (0..words).collect() } else { stored.iter().map(word).collect() };
        let lowest = lowest.min(start);
        if end - lowest > PAGE_BYTES as i32 {
            return None;
        }
        let origin = walker.local(ValType::I32);
        Some(Slots { start, end, locals, written, lowest, origin })
    }

    fn bytes(&self) -> i32 {
        self.end - self.start
    }

    fn local(&self, word: usize) -> u32 {
        self.locals[word].expect("accesses are to words that are kept")
    }

    fn is_many(&self) -> bool {
        self.locals.len() > TURN_WORDS && self.locals.iter().all(Option::is_some)
    }
}

struct Rewriter<'w, 'p, 'a> {
    walker: &'w mut Walker<'p, 'a>,
    slots: Slots,
    out: Vec<Piece<'a>>,
    /// Locals that hold nothing for long, by type and use.
    scratch: HashMap<(ValType, u8), u32>,
}

const fn get(local_index: u32) -> Operator<'static> {
    Operator::LocalGet { local_index }
}
const fn set(local_index: u32) -> Operator<'static> {
    Operator::LocalSet { local_index }
}
const fn tee(local_index: u32) -> Operator<'static> {
    Operator::LocalTee { local_index }
}
const fn constant(value: i32) -> Operator<'static> {
    Operator::I32Const { value }
}
const fn word_at(offset: u64) -> MemArg {
    MemArg { align: 2, max_align: 2, offset, memory: 0 }
}
const GUARDED: Operator<'static> = Operator::Call { function_index: GUARD };

impl<'a> Rewriter<'_, '_, 'a> {
    fn put(&mut self, ops: impl IntoIterator<Item = Operator<'a>>) {
        self.out.extend(ops.into_iter().map(Piece::new));
    }

    fn scratch(&mut self, ty: ValType, number: u8) -> u32 {
        let walker = &mut *self.walker;
        *self.scratch.entry((ty, number)).or_insert_with(|| walker.local(ty))
    }

    /// What runs before the loop: its assumptions are checked, and the words loaded.
    fn enter(&mut self, region: &Region) {
        use Operator::*;
        let (origin, start) = (self.slots.origin, self.slots.start);
        let span = self.slots.end - self.slots.lowest;
        self.put([get(region.base), constant(start.wrapping_sub(region.base_offset)), I32Add, set(origin)]);
        // The stack is aligned as the conventions say.
        self.put([get(origin), constant(start), I32Sub, constant(STACK_ALIGNMENT - 1), I32And, GUARDED]);
        // Functions that were called have put the stack pointer back.
        let pointer = GlobalGet { global_index: self.walker.pointer };
        self.put([pointer, get(origin), I32Sub, constant(region.pointer.wrapping_sub(start)), I32Ne, GUARDED]);
        // All of the frame that is reached lies in memory, and addresses of it do not wrap.
        let lowest = self.slots.lowest.wrapping_sub(start);
        self.put([MemorySize { mem: 0 }, constant(PAGE_BYTES.trailing_zeros() as i32), I32Shl, constant(span), I32Sub]);
        self.put([get(origin), constant(lowest), I32Add, I32LtU, GUARDED]);
        let words: Vec<_> = (0..self.slots.locals.len()).collect();
        self.transfer(&words, false);
    }

    /// Loads words into their locals, or stores what these hold.
    fn transfer(&mut self, words: &[usize], stores: bool) {
        if self.slots.is_many() {
            return self.transfer_in_turns(words.len() / TURN_WORDS, stores);
        }
        let origin = self.slots.origin;
        for &word in words {
            let (Some(local), memarg) = (self.slots.locals[word], word_at(4 * word as u64)) else { continue };
            if stores {
                self.put([get(origin), get(local), Operator::I32Store { memarg }]);
            } else {
                self.put([get(origin), Operator::I32Load { memarg }, set(local)]);
            }
        }
    }

    /// The same with few places that reach memory: a turn for each handful of words.
    fn transfer_in_turns(&mut self, turns: usize, stores: bool) {
        use Operator::*;
        let (turn, at) = (self.scratch(ValType::I32, 100), self.scratch(ValType::I32, 101));
        let passing: Vec<u32> = (0..TURN_WORDS as u8).map(|n| self.scratch(ValType::I32, n)).collect();
        let loads = |word: usize| {
            let memarg = word_at(4 * word as u64);
            [get(at), I32Load { memarg }, set(passing[word])]
        };
        self.put([constant(0), set(turn), get(self.slots.origin), set(at), Loop { blockty: BlockType::Empty }]);
        if !stores {
            self.put((0..TURN_WORDS).flat_map(loads));
        }
        // A block for each turn's words, and one around them that is left when they are done.
        self.put((0..=turns).map(|_| Block { blockty: BlockType::Empty }));
        self.put([get(turn)]);
        self.switch(turns);
        for done in 0..turns {
            self.put([End]);
            for (word, passing) in (done * TURN_WORDS..).zip(&passing) {
                let local = self.slots.local(word);
                self.put(if stores { [get(local), set(*passing)] } else { [get(*passing), set(local)] });
            }
            self.put([Br { relative_depth: (turns - 1 - done) as u32 }]);
        }
        self.put([End]);
        if stores {
            for (word, passing) in passing.iter().enumerate() {
                let memarg = word_at(4 * word as u64);
                self.put([get(at), get(*passing), I32Store { memarg }]);
            }
        }
        self.put([get(at), constant(4 * TURN_WORDS as i32), I32Add, set(at)]);
        self.put([get(turn), constant(1), I32Add, tee(turn), constant(turns as i32), I32LtU]);
        self.put([BrIf { relative_depth: 0 }, End]);
    }

    /// Goes to block 0, 1, 2 and so on by the number on the stack; numbers behind them to the last.
    fn switch(&mut self, blocks: usize) {
        self.put([Operator::BrTable { targets: super::ascending(blocks - 1) }]);
    }

    /// The loop, with every way out of it leading past the stores.
    fn leave_through_one_door(&mut self, pieces: &[Piece<'a>]) -> Option<()> {
        use Operator::*;
        let way = self.walker.local(ValType::I32);
        self.put([Block { blockty: BlockType::Empty }]);
        let mut ways: Vec<u32> = Vec::new();
        // Blocks that are open within the region.
        let mut depth = 0;
        for (at, piece) in pieces.iter().enumerate() {
            let mut number = |target: u32| {
                let found = ways.iter().position(|way| *way == target);
                found.unwrap_or_else(|| {
                    ways.push(target);
                    ways.len() - 1
                }) as i32
                    + 1
            };
            match &piece.op {
                Block { .. } | Loop { .. } | If { .. } => depth += 1,
                End => {
                    depth -= 1;
                    if depth == 0 {
                        debug_assert_eq!(at + 1, pieces.len());
                    }
                }
                Br { relative_depth } if *relative_depth >= depth => {
                    let number = number(*relative_depth - depth);
                    self.out.push(Piece { charge: piece.charge, ..Piece::new(constant(number)) });
                    self.put([set(way), Br { relative_depth: depth }]);
                    continue;
                }
                BrIf { relative_depth } if *relative_depth >= depth => {
                    let number = number(*relative_depth - depth);
                    let op = If { blockty: BlockType::Empty };
                    self.out.push(Piece { charge: piece.charge, ..Piece::new(op) });
                    self.put([constant(number), set(way), Br { relative_depth: depth + 1 }, End]);
                    continue;
                }
                BrTable { targets } => {
                    let mut all = targets.targets().chain([Ok(targets.default())]);
                    if all.any(|target| target.map_or(true, |target| target >= depth)) {
                        return None;
                    }
                }
                _ => {}
            }
            self.piece(piece)?;
        }
        self.put([constant(0), set(way), End]);
        let written: Vec<_> = self.slots.written.iter().copied().collect();
        if !written.is_empty() {
            self.transfer(&written, true);
        }
        for (number, target) in (1..).zip(ways) {
            self.put([get(way), constant(number), I32Eq, BrIf { relative_depth: target }]);
        }
        Some(())
    }

    /// An instruction: of the frame's locals, if it reached the frame.
    fn piece(&mut self, piece: &Piece<'a>) -> Option<()> {
        let written = self.out.len();
        match (Access::of(&piece.op), piece.place) {
            (Some(access), Some(Known::Frame(base))) => {
                let at = base + access.memarg.offset as i32 - self.slots.start;
                if access.is_store { self.store(access, at as usize) } else { self.load(access, at as usize) }
            }
            (Some(access), Some(_)) => self.guarded(access, &piece.op),
            _ => self.put([piece.op.clone()]),
        }
        self.out[written].charge = piece.charge;
        Some(())
    }

    /// An access that may not reach the words that are kept in locals.
    fn guarded(&mut self, access: Access, op: &Operator<'a>) {
        use Operator::*;
        let (address, value) = (self.scratch(ValType::I32, 102), self.scratch(access.ty, 103));
        if access.is_store {
            self.put([set(value)]);
        }
        // How far behind the words' beginning it ends; all that end before it are far behind.
        let last = (access.memarg.offset as u32).wrapping_add(access.bytes - 1) as i32;
        self.put([tee(address), get(address), get(self.slots.origin), I32Sub, constant(last), I32Add]);
        self.put([constant(self.slots.bytes() + access.bytes as i32 - 1), I32LtU, GUARDED]);
        if access.is_store {
            self.put([get(value)]);
        }
        self.put([op.clone()]);
    }

    fn load(&mut self, access: Access, at: usize) {
        use Operator::*;
        let (word, bit, bits) = (at / 4, 8 * (at % 4) as i32, 8 * access.bytes as i32);
        let low = get(self.slots.local(word));
        self.put([Drop]);
        if bits == 64 {
            let high = get(self.slots.local(word + 1));
            self.put([high, I64ExtendI32U, I64Const { value: 32 }, I64Shl, low, I64ExtendI32U, I64Or]);
        } else if bits == 32 {
            self.put([low]);
        } else if access.is_signed {
            self.put([low, constant(32 - bits - bit), I32Shl, constant(32 - bits), I32ShrS]);
        } else {
            self.put([low, constant(bit), I32ShrU, constant((1 << bits) - 1), I32And]);
        }
        match access.ty {
            ValType::F32 => self.put([F32ReinterpretI32]),
            ValType::F64 => self.put([F64ReinterpretI64]),
            ValType::I64 if bits < 64 => self.put([if access.is_signed { I64ExtendI32S } else { I64ExtendI32U }]),
            _ => {}
        }
    }

    fn store(&mut self, access: Access, at: usize) {
        use Operator::*;
        let (word, bit, bits) = (at / 4, 8 * (at % 4) as i32, 8 * access.bytes as i32);
        let low = self.slots.local(word);
        match access.ty {
            ValType::F32 => self.put([I32ReinterpretF32]),
            ValType::F64 => self.put([I64ReinterpretF64]),
            ValType::I64 if bits < 64 => self.put([I32WrapI64]),
            _ => {}
        }
        if bits == 64 {
            let (both, high) = (self.scratch(ValType::I64, 104), self.slots.local(word + 1));
            self.put([tee(both), I32WrapI64, set(low)]);
            self.put([get(both), I64Const { value: 32 }, I64ShrU, I32WrapI64, set(high), Drop]);
        } else if bits == 32 {
            self.put([set(low), Drop]);
        } else {
            let mask = (1 << bits) - 1;
            self.put([constant(mask), I32And, constant(bit), I32Shl]);
            self.put([get(low), constant(!(mask << bit)), I32And, I32Or, set(low), Drop]);
        }
    }
}
