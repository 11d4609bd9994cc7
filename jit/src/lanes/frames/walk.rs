//! Going through a function with what is known of its numbers. Within a loop that may keep its frame in locals,
//! functions are compiled where they are called, and loops whose turns are known are written out.

use std::collections::{HashMap, HashSet};

use wasmparser::{BlockType, Operator, SubType, ValType};

use super::{
    access::Access,
    known::{Known, computed},
    region::{Region, promoted},
};
use crate::lanes::program::{Function, Host, Program};

/// Turns of a loop that is written out.
const TURNS_MAX: usize = 64;

/// Instructions of a loop with everything written out.
const OPERATORS_MAX: usize = 24_000;

/// How deep functions are compiled into each other.
const INLINE_DEPTH_MAX: usize = 3;

/// Instructions of a function that is compiled where it is called.
const INLINE_OPERATORS_MAX: usize = 2_000;

/// Instructions that are only gone past, and numbers that are only copied, count as so much less work.
const SCANNED: usize = 16;

/// Why something is left as it is.
pub struct Refused;

/// An instruction as it is written, the gas before it, and for a load or store what is known of its address.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    pub op: Operator<'a>,
    pub charge: u64,
    pub place: Option<Known>,
}

impl<'a> Piece<'a> {
    pub fn new(op: Operator<'a>) -> Piece<'a> {
        Piece { op, charge: 0, place: None }
    }
}

/// What is known at some point.
#[derive(Clone, Debug)]
pub struct State {
    pub locals: Vec<Known>,
    /// Of the stack pointer.
    pub pointer: Known,
    /// Whether that rests on a called function's having put it back.
    is_assumed: bool,
}

impl State {
    fn join(&mut self, other: &State) {
        for (at, known) in self.locals.iter_mut().enumerate() {
            *known = known.join(other.locals.get(at).copied().unwrap_or(Known::Nothing));
        }
        self.pointer = self.pointer.join(other.pointer);
        self.is_assumed |= other.is_assumed;
    }
}

fn join(into: &mut Option<State>, state: &State) {
    match into {
        Some(known) => known.join(state),
        None => *into = Some(state.clone()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    Block,
    Loop,
    /// A loop that is being written out.
    Turns,
}

/// A block that is open.
#[derive(Clone)]
struct Frame {
    opened: Opened,
    height: usize,
    params: usize,
    results: usize,
    /// What is known where its branches arrive.
    joined: Option<State>,
    /// Of an `if`: what is known where its other arm begins.
    other: Option<State>,
    /// The stack pointer at a loop's head.
    pointer: Known,
    /// Whether the code now is out of reach.
    is_dead: bool,
    /// Of a loop that is written out: whether there is another turn.
    is_again: bool,
}

/// A function's code, and where its locals lie among those of the function being written.
#[derive(Clone, Copy)]
struct Code<'p, 'a> {
    ops: &'p [(Operator<'a>, u64)],
    first_local: u32,
    /// The block that is the function's body.
    body: usize,
}

/// What a rewritten function is.
pub struct Walked<'a> {
    pub locals: Vec<ValType>,
    pub ops: Vec<(Operator<'a>, u64)>,
    /// Bytes of memory that it takes for constant.
    pub constants: Option<(u32, u32)>,
}

pub struct Walker<'p, 'a> {
    pub program: &'p Program<'a>,
    /// The global that is the stack pointer.
    pub pointer: u32,
    pub locals: Vec<ValType>,
    state: State,
    stack: Vec<Known>,
    frames: Vec<Frame>,
    out: Vec<Piece<'a>>,
    /// The block that is the loop which may keep its frame in locals.
    root: Option<usize>,
    /// What functions are being compiled in place, and where their locals lie.
    inlining: Vec<u32>,
    inlined_locals: HashMap<u32, u32>,
    /// Accesses that functions which were compiled in place have where they stand.
    inlined_accesses: u32,
    /// Bytes that are taken for constant.
    constants: Option<(u32, u32)>,
    region_constants: Option<(u32, u32)>,
    is_changed: bool,
    /// Instructions that may still be looked at.
    work: &'p mut usize,
}

/// The form of a module that instructions of fixed arity do not ask for.
struct NoModule;

impl wasmparser::ModuleArity for NoModule {
    fn sub_type_at(&self, _: u32) -> Option<&SubType> {
        None
    }
    fn tag_type_arity(&self, _: u32) -> Option<(u32, u32)> {
        None
    }
    fn type_index_of_function(&self, _: u32) -> Option<u32> {
        None
    }
    fn func_type_of_cont_type(&self, _: &wasmparser::ContType) -> Option<&wasmparser::FuncType> {
        None
    }
    fn sub_type_of_ref_type(&self, _: &wasmparser::RefType) -> Option<&SubType> {
        None
    }
    fn control_stack_height(&self) -> u32 {
        0
    }
    fn label_block(&self, _: u32) -> Option<(BlockType, wasmparser::FrameKind)> {
        None
    }
}

impl<'p, 'a> Walker<'p, 'a> {
    /// Goes through a function; none if nothing of it changes.
    pub fn walk_function(
        program: &'p Program<'a>,
        pointer: u32,
        function: &'p Function<'a>,
        constants: Option<(u32, u32)>,
        work: &'p mut usize,
    ) -> Option<Walked<'a>> {
        let params = program.types[function.ty as usize].params().len();
        let known = |at: usize| {
            if at < params || function.locals[at] != ValType::I32 { Known::Nothing } else { Known::Number(0) }
        };
        let locals = (0..function.locals.len()).map(known).collect();
        let state = State { locals, pointer: Known::Frame(0), is_assumed: false };
        let mut walker = Walker {
            program,
            pointer,
            locals: function.locals.clone(),
            state,
            stack: Vec::new(),
            frames: Vec::new(),
            out: Vec::new(),
            root: None,
            inlining: Vec::new(),
            inlined_locals: HashMap::new(),
            inlined_accesses: 0,
            constants,
            region_constants: None,
            is_changed: false,
            work,
        };
        let results = program.types[function.ty as usize].results().len();
        walker.open(Opened::Block, 0, results);
        let code = Code { ops: &function.ops, first_local: 0, body: 0 };
        walker.walk(code, 0, function.ops.len()).ok()?;
        let constants = walker.constants;
        let ops = walker.out.into_iter().map(|piece| (piece.op, piece.charge)).collect();
        walker.is_changed.then_some(Walked { locals: walker.locals, ops, constants })
    }

    /// A new local.
    pub fn local(&mut self, ty: ValType) -> u32 {
        self.locals.push(ty);
        self.state.locals.push(Known::Nothing);
        self.locals.len() as u32 - 1
    }

    fn emit(&mut self, op: Operator<'a>, charge: u64) {
        self.out.push(Piece { op, charge, place: None });
    }

    /// Takes from the work that may still be done.
    fn pay(&mut self, work: usize) -> Result<(), Refused> {
        *self.work = self.work.checked_sub(work).ok_or(Refused)?;
        Ok(())
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the function's own block is open")
    }

    fn open(&mut self, opened: Opened, params: usize, results: usize) {
        let height = self.stack.len() - params;
        let pointer = self.state.pointer;
        let (joined, other, is_dead, is_again) = (None, None, false, false);
        self.frames.push(Frame { opened, height, params, results, joined, other, pointer, is_dead, is_again });
    }

    fn pop(&mut self) -> Result<Known, Refused> {
        self.stack.pop().ok_or(Refused)
    }

    /// What was known earlier says nothing of locals that have come since.
    fn know_new_locals(&mut self) {
        self.state.locals.resize(self.locals.len(), Known::Nothing);
    }

    fn arity(&self, ty: BlockType) -> (usize, usize) {
        match ty {
            BlockType::Empty => (0, 0),
            BlockType::Type(_) => (0, 1),
            BlockType::FuncType(ty) => {
                let ty = &self.program.types[ty as usize];
                (ty.params().len(), ty.results().len())
            }
        }
    }

    /// Well-nested code from one instruction up to another.
    fn walk(&mut self, code: Code<'p, 'a>, mut at: usize, to: usize) -> Result<(), Refused> {
        while at < to {
            self.pay(1)?;
            if self.root.is_some() && self.out.len() > OPERATORS_MAX {
                return Err(Refused);
            }
            if self.frame().is_dead {
                let alive = past_dead(code.ops, at).min(to);
                self.pay((alive - at) / SCANNED)?;
                at = alive;
                if at == to {
                    break;
                }
            }
            let (op, charge) = &code.ops[at];
            if let Operator::Loop { blockty } = op {
                let end = end_of(code.ops, at);
                self.pay((end - at + self.frames.len() * self.locals.len()) / SCANNED)?;
                let is_done = match self.root {
                    None => self.try_region(code, at, end),
                    Some(_) => self.try_turns(code, at, end, *blockty),
                };
                if is_done {
                    at = end + 1;
                    continue;
                }
                self.open_loop(code, at, end, *blockty);
                self.emit(op.clone(), *charge);
            } else {
                self.step(code, op, *charge)?;
            }
            at += 1;
        }
        Ok(())
    }

    fn open_loop(&mut self, code: Code<'p, 'a>, at: usize, end: usize, ty: BlockType) {
        for (op, _) in &code.ops[at..end] {
            if let Operator::LocalSet { local_index } | Operator::LocalTee { local_index } = op {
                let known = &mut self.state.locals[(local_index + code.first_local) as usize];
                *known = known.changed();
            }
        }
        let (params, results) = self.arity(ty);
        // What comes along from one turn to the next is not what came in.
        let height = self.stack.len() - params;
        self.stack[height..].iter_mut().for_each(|known| *known = known.changed());
        // Functions that the turns call are trusted with the stack pointer, outside of regions.
        self.state.is_assumed |= self.root.is_none();
        self.open(Opened::Loop, params, results);
    }

    /// One instruction that begins no loop.
    fn step(&mut self, code: Code<'p, 'a>, op: &Operator<'a>, charge: u64) -> Result<(), Refused> {
        use Operator::*;
        match op {
            Block { blockty } => {
                let (params, results) = self.arity(*blockty);
                self.open(Opened::Block, params, results);
                self.emit(op.clone(), charge);
            }
            If { blockty } => {
                self.pop()?;
                let (params, results) = self.arity(*blockty);
                self.open(Opened::Block, params, results);
                self.frame().other = Some(self.state.clone());
                self.emit(op.clone(), charge);
            }
            Else => {
                self.arrive();
                let other = self.frame().other.take().ok_or(Refused)?;
                self.state = other;
                self.know_new_locals();
                self.frame().is_dead = false;
                let (height, params) = (self.frame().height, self.frame().params);
                self.stack.truncate(height);
                self.stack.resize(height + params, Known::Nothing);
                self.emit(op.clone(), charge);
            }
            End => {
                self.emit(op.clone(), charge);
                self.close();
            }
            Br { relative_depth } => self.branch(*relative_depth, charge)?,
            BrIf { relative_depth } => self.branch_if(*relative_depth, charge)?,
            BrTable { targets } => {
                self.pop()?;
                let all: Result<HashSet<u32>, _> = targets.targets().chain([Ok(targets.default())]).collect();
                for depth in all.map_err(|_| Refused)? {
                    self.note_branch(depth)?;
                }
                self.emit(op.clone(), charge);
                self.frame().is_dead = true;
            }
            Return => {
                let depth = (self.frames.len() - 1 - code.body) as u32;
                if code.body == 0 {
                    // Leaving a loop that keeps its frame in locals is a branch, which carries nothing.
                    self.note_branch(depth)?;
                    let op = if self.root.is_some() { Br { relative_depth: depth } } else { Return };
                    self.emit(op, charge);
                } else {
                    self.note_branch(depth)?;
                    self.emit(Br { relative_depth: depth }, charge);
                }
                self.frame().is_dead = true;
            }
            Unreachable => {
                self.emit(op.clone(), charge);
                self.frame().is_dead = true;
            }
            Call { function_index } => self.call(*function_index, charge)?,
            CallIndirect { type_index, .. } => {
                self.pop()?;
                let ty = self.program.types[*type_index as usize].clone();
                self.called(&ty)?;
                self.emit(op.clone(), charge);
            }
            LocalGet { local_index } => {
                let local_index = local_index + code.first_local;
                let known = self.state.locals[local_index as usize];
                self.stack.push(known);
                match known {
                    Known::Number(value) if self.root.is_some() => self.emit(I32Const { value }, charge),
                    _ => self.emit(LocalGet { local_index }, charge),
                }
            }
            LocalSet { local_index } | LocalTee { local_index } => {
                let local_index = local_index + code.first_local;
                let known = self.pop()?;
                self.state.locals[local_index as usize] = known;
                if matches!(op, LocalTee { .. }) {
                    self.stack.push(known);
                    self.emit(LocalTee { local_index }, charge);
                } else {
                    self.emit(LocalSet { local_index }, charge);
                }
            }
            GlobalGet { global_index } if *global_index == self.pointer => {
                let known = if self.state.is_assumed { Known::Nothing } else { self.state.pointer };
                self.stack.push(known);
                self.emit(op.clone(), charge);
            }
            GlobalSet { global_index } if *global_index == self.pointer => {
                self.state.pointer = self.pop()?;
                self.state.is_assumed = false;
                self.emit(op.clone(), charge);
            }
            MemoryGrow { .. } | MemoryCopy { .. } | MemoryFill { .. } | MemoryInit { .. } if self.root.is_some() => {
                return Err(Refused);
            }
            _ => self.plain(op, charge)?,
        }
        Ok(())
    }

    /// An instruction that takes and gives as many operands as all of its name.
    fn plain(&mut self, op: &Operator<'a>, charge: u64) -> Result<(), Refused> {
        let (takes, gives) = op.operator_arity(&NoModule).ok_or(Refused)?;
        let height = self.stack.len().checked_sub(takes as usize).ok_or(Refused)?;
        let access = Access::of(op);
        if let (Some(access), true) = (access, self.root.is_some()) {
            let address = self.stack[height];
            self.stack.truncate(height);
            if let Some(value) = self.constant(access, address) {
                self.stack.push(if access.ty == ValType::I32 { Known::Number(value as i32) } else { Known::Nothing });
                self.emit(Operator::Drop, charge);
                self.emit(super::number(access.ty, value).ok_or(Refused)?, 0);
                return Ok(());
            }
            self.stack.resize(height + gives as usize, Known::Nothing);
            self.out.push(Piece { op: op.clone(), charge, place: Some(address) });
            return Ok(());
        }
        let known = if gives == 1 { computed(op, &self.stack[height..]) } else { Known::Nothing };
        self.stack.truncate(height);
        self.stack.resize(height + gives as usize, known);
        self.emit(op.clone(), charge);
        Ok(())
    }

    /// What a load from a known address gives, if those bytes are the module's and are taken for constant.
    fn constant(&mut self, access: Access, address: Known) -> Option<u64> {
        let Known::Number(address) = address else { return None };
        let address = u32::try_from(u64::from(address as u32) + access.memarg.offset).ok()?;
        if access.is_store {
            return None;
        }
        let value = self.program.constant_number(address, access.bytes)?;
        let end = address + access.bytes;
        let (start, end) = self.region_constants.map_or((address, end), |(a, b)| (a.min(address), b.max(end)));
        if !self.program.may_be_constant(start, end) {
            return None;
        }
        self.region_constants = Some((start, end));
        let bits = 8 * access.bytes;
        Some(match (access.is_signed, access.ty) {
            (true, ValType::I32) => u64::from((((value << (64 - bits)) as i64) >> (64 - bits)) as u32),
            (true, _) => (((value << (64 - bits)) as i64) >> (64 - bits)) as u64,
            (false, _) => value,
        })
    }

    /// Joins what is known into the innermost block's end, if control gets there.
    fn arrive(&mut self) {
        let state = self.state.clone();
        let frame = self.frame();
        if !frame.is_dead {
            join(&mut frame.joined, &state);
        }
    }

    fn close(&mut self) {
        let is_loop = self.frame().opened == Opened::Loop;
        if is_loop {
            // Branches go to its head.
            self.frame().joined = None;
        }
        self.arrive();
        let frame = self.frames.pop().expect("blocks are closed once");
        let mut joined = frame.joined;
        if let Some(other) = &frame.other {
            join(&mut joined, other);
        }
        self.stack.truncate(frame.height);
        self.stack.resize(frame.height + frame.results, Known::Nothing);
        match joined {
            Some(state) => self.state = state,
            None if !self.frames.is_empty() => {
                self.emit(Operator::Unreachable, 0);
                self.frame().is_dead = true;
            }
            None => {}
        }
        self.know_new_locals();
    }

    /// Says at a branch's target what is known here.
    fn note_branch(&mut self, depth: u32) -> Result<(), Refused> {
        let target = self.frames.len() - 1 - depth as usize;
        if let Some(root) = self.root
            && target < root
        {
            let results = if self.frames[target].opened == Opened::Loop {
                self.frames[target].params
            } else {
                self.frames[target].results
            };
            if results > 0 {
                return Err(Refused);
            }
        }
        let state = &self.state;
        let frame = &mut self.frames[target];
        match frame.opened {
            Opened::Block => join(&mut frame.joined, state),
            Opened::Loop if frame.pointer == state.pointer => {}
            Opened::Loop | Opened::Turns => return Err(Refused),
        }
        Ok(())
    }

    fn branch(&mut self, depth: u32, charge: u64) -> Result<(), Refused> {
        if depth == 0 && self.frame().opened == Opened::Turns {
            self.emit(Operator::Nop, charge);
            self.turn_again();
            return Ok(());
        }
        self.note_branch(depth)?;
        self.emit(Operator::Br { relative_depth: depth }, charge);
        self.frame().is_dead = true;
        Ok(())
    }

    fn branch_if(&mut self, depth: u32, charge: u64) -> Result<(), Refused> {
        let condition = self.pop()?;
        let is_turns = depth == 0 && self.frame().opened == Opened::Turns;
        match condition {
            Known::Number(condition) if self.root.is_some() => {
                self.emit(Operator::Drop, charge);
                if condition == 0 {
                    return Ok(());
                }
                if is_turns {
                    self.turn_again();
                    return Ok(());
                }
                self.branch(depth, 0)
            }
            _ => {
                self.note_branch(depth)?;
                self.emit(Operator::BrIf { relative_depth: depth }, charge);
                Ok(())
            }
        }
    }

    /// The loop being written out has another turn.
    fn turn_again(&mut self) {
        let height = self.frame().height;
        for _ in height..self.stack.len() {
            self.emit(Operator::Drop, 0);
        }
        self.stack.truncate(height);
        let frame = self.frame();
        (frame.is_again, frame.is_dead) = (true, true);
    }

    fn called(&mut self, ty: &wasmparser::FuncType) -> Result<(), Refused> {
        let height = self.stack.len().checked_sub(ty.params().len()).ok_or(Refused)?;
        if self.root.is_some() {
            return Err(Refused);
        }
        self.stack.truncate(height);
        self.stack.resize(height + ty.results().len(), Known::Nothing);
        self.state.is_assumed = true;
        Ok(())
    }

    fn call(&mut self, function: u32, charge: u64) -> Result<(), Refused> {
        if function == crate::lanes::turn::COPY_IN {
            return Err(Refused);
        }
        let ty = self.program.function_type(function).clone();
        if self.root.is_some() && self.program.own(function).is_some() {
            return self.inline(function, &ty, charge);
        }
        if self.program.imports.get(function as usize).is_some_and(|(_, host)| *host == Host::UseGas) {
            self.pop()?;
        } else {
            self.called(&ty)?;
        }
        self.emit(Operator::Call { function_index: function }, charge);
        Ok(())
    }

    /// Writes a function where it is called.
    fn inline(&mut self, function: u32, ty: &wasmparser::FuncType, charge: u64) -> Result<(), Refused> {
        let own = self.program.own(function).ok_or(Refused)?;
        let blockty = match ty.results() {
            [] => BlockType::Empty,
            [ty] => BlockType::Type(*ty),
            _ => return Err(Refused),
        };
        if self.inlining.len() >= INLINE_DEPTH_MAX
            || self.inlining.contains(&function)
            || own.ops.len() > INLINE_OPERATORS_MAX
        {
            return Err(Refused);
        }
        let first_local = match self.inlined_locals.get(&function) {
            Some(first) => *first,
            None => {
                let first = self.locals.len() as u32;
                own.locals.iter().for_each(|ty| {
                    self.local(*ty);
                });
                self.inlined_locals.insert(function, first);
                first
            }
        };
        self.emit(Operator::Nop, charge);
        for at in (0..ty.params().len() as u32).rev() {
            let known = self.pop()?;
            self.state.locals[(first_local + at) as usize] = known;
            self.emit(Operator::LocalSet { local_index: first_local + at }, 0);
        }
        for (at, ty) in (0..).zip(&own.locals).skip(ty.params().len()) {
            let zero = super::number(*ty, 0).ok_or(Refused)?;
            self.state.locals[(first_local + at) as usize] =
                if *ty == ValType::I32 { Known::Number(0) } else { Known::Nothing };
            self.emit(zero, 0);
            self.emit(Operator::LocalSet { local_index: first_local + at }, 0);
        }
        self.inlined_accesses += own.ops.iter().map(|(op, _)| crate::lanes::plan::accesses(op)).sum::<u32>();
        self.open(Opened::Block, 0, ty.results().len());
        self.emit(Operator::Block { blockty }, 0);
        let body = self.frames.len() - 1;
        self.inlining.push(function);
        let walked = self.walk(Code { ops: &own.ops, first_local, body }, 0, own.ops.len());
        self.inlining.pop();
        walked
    }

    /// Writes a loop's turns one after another, if what is known says how many there are.
    fn try_turns(&mut self, code: Code<'p, 'a>, at: usize, end: usize, ty: BlockType) -> bool {
        let (params, results) = self.arity(ty);
        if params > 0 || !branches_from_its_own_level(&code.ops[at + 1..end]) {
            return false;
        }
        let (state, stack, frames) = (self.state.clone(), self.stack.clone(), self.frames.clone());
        let (written, constants, accesses) = (self.out.len(), self.region_constants, self.inlined_accesses);
        let inlining = self.inlining.len();
        if self.turns(code, at, end, ty, results).is_ok() {
            return true;
        }
        (self.state, self.stack, self.frames) = (state, stack, frames);
        self.out.truncate(written);
        (self.region_constants, self.inlined_accesses) = (constants, accesses);
        self.inlining.truncate(inlining);
        self.know_new_locals();
        false
    }

    fn turns(
        &mut self,
        code: Code<'p, 'a>,
        at: usize,
        end: usize,
        blockty: BlockType,
        results: usize,
    ) -> Result<(), Refused> {
        self.emit(Operator::Block { blockty }, code.ops[at].1);
        self.open(Opened::Turns, 0, results);
        for _ in 0..TURNS_MAX {
            self.walk(code, at + 1, end)?;
            let frame = self.frame();
            if !frame.is_again {
                self.emit(Operator::End, code.ops[end].1);
                // Nothing branches to where a loop ends.
                self.close();
                return Ok(());
            }
            (frame.is_again, frame.is_dead) = (false, false);
        }
        Err(Refused)
    }

    /// Keeps the frame in locals for as long as a loop lasts, if that is possible and worth it.
    fn try_region(&mut self, code: Code<'p, 'a>, at: usize, end: usize) -> bool {
        let Operator::Loop { blockty: BlockType::Empty } = code.ops[at].0 else { return false };
        if !matches!(self.state.pointer, Known::Frame(_)) {
            return false;
        }
        let (state, stack, frames) = (self.state.clone(), self.stack.clone(), self.frames.clone());
        let (locals, out) = (self.locals.len(), std::mem::take(&mut self.out));
        self.region_constants = self.constants;
        self.inlined_accesses = 0;
        let region = self.region(code, at, end);
        self.root = None;
        self.inlining.clear();
        self.inlined_locals.clear();
        let pieces = std::mem::replace(&mut self.out, out);
        let before: u32 = code.ops[at..=end].iter().map(|(op, _)| crate::lanes::plan::accesses(op)).sum();
        let before = before + self.inlined_accesses;
        let promoted = region.ok().and_then(|region| promoted(self, &region, &pieces, before));
        match promoted {
            Some(pieces) => {
                self.out.extend(pieces);
                self.constants = self.region_constants;
                self.is_changed = true;
                true
            }
            None => {
                (self.state, self.stack, self.frames) = (state, stack, frames);
                self.locals.truncate(locals);
                false
            }
        }
    }

    fn region(&mut self, code: Code<'p, 'a>, at: usize, end: usize) -> Result<Region, Refused> {
        self.root = Some(self.frames.len());
        self.open_loop(code, at, end, BlockType::Empty);
        let pointer = self.state.pointer;
        // Checked where the loop is entered.
        self.state.is_assumed = false;
        let base = self.state.locals.iter().enumerate().find_map(|(local, known)| match known {
            Known::Frame(offset) => Some((local as u32, *offset)),
            _ => None,
        });
        let (Some((base, base_offset)), Known::Frame(pointer)) = (base, pointer) else { return Err(Refused) };
        self.emit(code.ops[at].0.clone(), code.ops[at].1);
        self.walk(code, at + 1, end + 1)?;
        Ok(Region { base, base_offset, pointer })
    }
}

/// The `end` of what an instruction opens.
fn end_of(ops: &[(Operator<'_>, u64)], at: usize) -> usize {
    let mut depth = 0;
    for (at, (op, _)) in ops.iter().enumerate().skip(at) {
        match op {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    ops.len()
}

/// The next `end` or `else` of the block that an instruction stands in.
fn past_dead(ops: &[(Operator<'_>, u64)], at: usize) -> usize {
    let mut depth = 0;
    for (at, (op, _)) in ops.iter().enumerate().skip(at) {
        match op {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End if depth == 0 => return at,
            Operator::Else if depth == 0 => return at,
            Operator::End => depth -= 1,
            _ => {}
        }
    }
    ops.len()
}

/// Whether a loop's body branches to its head from no block within.
fn branches_from_its_own_level(body: &[(Operator<'_>, u64)]) -> bool {
    let mut depth = 0;
    for (op, _) in body {
        match op {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth -= 1,
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth }
                if *relative_depth == depth && depth > 0 =>
            {
                return false;
            }
            Operator::BrTable { targets } => {
                let mut all = targets.targets().chain([Ok(targets.default())]);
                if all.any(|target| target.map_or(true, |target| target == depth)) {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}
