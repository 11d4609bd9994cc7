//! Bodies that Asyncify instrumented, without the detours.
//!
//! Binaryen's Asyncify lets a guest be suspended: every function that may have to asks a global, over and over, whether
//! the guest runs (0), is being unwound (1) or rewound (2), and carries code for all three. Almost always it runs. So each
//! such body is compiled twice: as it is, and for a call that begins while the guest runs. In the second the questions
//! whose answers follow are answered beforehand, and what they guard is left out. The function asks once, on entry, which
//! of the two it is.
//!
//! What follows, follows from this: only the four exported switches change the global, no code inside the module can call
//! them, and the host begins a rewinding only when no frame of the guest is left (as every user of Asyncify must). So a
//! frame that began while the guest ran sees 0 until it calls something, and then 0 or 1.

use std::collections::{BTreeSet, HashMap};

use wasmparser::{FrameKind, Operator};

use super::{
    flow::{Facts, Flow},
    survey::Survey,
};

/// The switches, in the order of [`Bodies::find`]'s values.
const SWITCHES: [(&str, i32); 4] = [
    ("asyncify_start_unwind", 1),
    ("asyncify_stop_unwind", 0),
    ("asyncify_start_rewind", 2),
    ("asyncify_stop_rewind", 0),
];

/// What the survey reads of a module for this.
#[derive(Default)]
pub struct Traces {
    /// Exported functions, by name.
    pub exports: HashMap<String, u32>,
    /// Mutable `i32` globals that begin as 0.
    pub zeros: BTreeSet<u32>,
    /// Functions that are reached other than by a direct call: from a table, by reference, as the start function.
    pub referenced: BTreeSet<u32>,
    /// The module's own functions, in order.
    pub bodies: Vec<Trace>,
}

/// What the survey reads of a body.
#[derive(Default)]
pub struct Trace {
    /// Its first two instructions, if they set a global to a constant.
    pub sets_first: Option<(u32, i32)>,
    /// Globals it sets.
    pub sets: BTreeSet<u32>,
    /// Functions it calls.
    pub calls: BTreeSet<u32>,
    /// Whether it calls through a table.
    pub calls_indirectly: bool,
}

/// A module that Asyncify instrumented.
pub struct Asyncify {
    /// The global that holds the guest's state.
    pub state: u32,
    /// For each function, imports included, whether the state may change while it runs.
    changes_state: Vec<bool>,
}

impl Asyncify {
    /// Recognises such a module; none if anything of what has to hold does not.
    pub fn find(traces: &Traces, imported_functions: u32, usegas: Option<u32>) -> Option<Self> {
        let mut switches = BTreeSet::new();
        let mut state = None;
        for (name, value) in SWITCHES {
            let function = *traces.exports.get(name)?;
            let body = traces.bodies.get(function.checked_sub(imported_functions)? as usize)?;
            let (global, set_to) = body.sets_first?;
            if set_to != value || *state.get_or_insert(global) != global {
                return None;
            }
            switches.insert(function);
        }
        let state = state.filter(|state| traces.zeros.contains(state))?;
        for (function, body) in (imported_functions..).zip(&traces.bodies) {
            if (body.sets.contains(&state) && !switches.contains(&function)) || !body.calls.is_disjoint(&switches) {
                return None;
            }
        }
        let changes_state = changing(traces, imported_functions, usegas);
        traces.referenced.is_disjoint(&switches).then_some(Self { state, changes_state })
    }

    fn changes_state(&self, function: u32) -> bool {
        self.changes_state.get(function as usize).is_none_or(|changes| *changes)
    }
}

/// The functions while which the host may run: imports, and whatever may call one.
fn changing(traces: &Traces, imported_functions: u32, usegas: Option<u32>) -> Vec<bool> {
    let mut callers: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut reached: Vec<u32> = (0..imported_functions).filter(|import| Some(*import) != usegas).collect();
    for (function, body) in (imported_functions..).zip(&traces.bodies) {
        body.calls.iter().for_each(|callee| callers.entry(*callee).or_default().push(function));
        if body.calls_indirectly {
            reached.push(function);
        }
    }
    let mut changes = vec![false; imported_functions as usize + traces.bodies.len()];
    while let Some(function) = reached.pop() {
        if !std::mem::replace(&mut changes[function as usize], true) {
            reached.extend(callers.get(&function).into_iter().flatten());
        }
    }
    changes
}

/// What is known of the state in a frame that began while the guest ran.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Unwinding,
    Either,
}

impl Facts for State {
    fn meet(&mut self, other: &Self) {
        if self != other {
            *self = Self::Either;
        }
    }
}

/// What is known of an operand.
#[derive(Clone, Copy, Default)]
enum Operand {
    #[default]
    Unknown,
    Constant(i32),
    /// Not 0.
    True,
    /// The state itself, 0 or 1, as it was read at this version.
    State {
        version: u32,
    },
    /// 1 if the state is running (unwinding, if `negated`), and 0 if not.
    IsRunning {
        negated: bool,
        version: u32,
    },
}

/// What an open block is in the body that is written.
#[derive(Clone, Copy)]
enum Open {
    /// What it was.
    Same,
    /// A loop, its place in the body, and what was taken to hold at its head.
    Loop { at: usize, assumed: State },
    /// The first branch of an `if` without the other, as a plain block.
    First,
    /// The second branch likewise.
    Second,
}

/// Writes a body, with the gas to charge before each instruction, as it is for a frame that begins while the guest runs.
/// None if nothing can be left out.
pub fn specialize<'o>(
    asyncify: &Asyncify,
    survey: &Survey,
    body_type: u32,
    ops: &[(Operator<'o>, u64)],
) -> Option<Vec<(Operator<'o>, u64)>> {
    if !ops.iter().any(|(op, _)| matches!(op, Operator::GlobalGet { global_index } if *global_index == asyncify.state))
    {
        return None;
    }
    let ends = Ends::of(ops);
    // Loops at whose heads the state is not what it was before them. Found by trying: each round that is wrong about one
    // finds it, and one that found many gives up on all.
    let mut loose = BTreeSet::new();
    for round in 0.. {
        let mut writer = Specializer {
            asyncify,
            flow: Flow::new(survey, body_type, State::Running),
            open: vec![Open::Same],
            version: 0,
            out: Vec::with_capacity(ops.len()),
            folded: false,
            loose: &loose,
            assumes_nothing: round > 3,
            wrong: Vec::new(),
        };
        let mut at = 0;
        while at < ops.len() {
            at = writer.step(at, ops, &ends);
        }
        if writer.wrong.is_empty() {
            return writer.folded.then_some(writer.out);
        }
        let wrong = writer.wrong;
        loose.extend(wrong);
    }
    None
}

/// Where each `if` goes on, by its place in the body.
struct Ends {
    elses: HashMap<usize, usize>,
    ends: HashMap<usize, usize>,
}

impl Ends {
    fn of(ops: &[(Operator<'_>, u64)]) -> Self {
        let mut found = Self { elses: HashMap::new(), ends: HashMap::new() };
        let mut open = Vec::new();
        for (at, (op, _)) in ops.iter().enumerate() {
            match op {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => open.push(at),
                Operator::Else => drop(open.last().map(|begin| found.elses.insert(*begin, at))),
                Operator::End => drop(open.pop().map(|begin| found.ends.insert(begin, at))),
                _ => {}
            }
        }
        found
    }
}

struct Specializer<'a, 'o> {
    asyncify: &'a Asyncify,
    flow: Flow<'a, Operand, State>,
    open: Vec<Open>,
    /// Of the state: how often it may have changed so far, in the order of the text.
    version: u32,
    out: Vec<(Operator<'o>, u64)>,
    folded: bool,
    loose: &'a BTreeSet<usize>,
    assumes_nothing: bool,
    wrong: Vec<usize>,
}

impl<'o> Specializer<'_, 'o> {
    /// Writes what becomes of the instruction at `at`; gives the place of the next.
    fn step(&mut self, at: usize, ops: &[(Operator<'o>, u64)], ends: &Ends) -> usize {
        let (op, charge) = &ops[at];
        let arity = self.flow.arity(op);
        match op {
            Operator::GlobalGet { global_index } if *global_index == self.asyncify.state => {
                let (put, operand) = match self.flow.facts {
                    State::Running => (Operator::I32Const { value: 0 }, Operand::Constant(0)),
                    State::Unwinding => (Operator::I32Const { value: 1 }, Operand::Constant(1)),
                    State::Either => (op.clone(), Operand::State { version: self.version }),
                };
                self.out.push((put, *charge));
                self.flow.push(operand);
                return at + 1;
            }
            Operator::If { blockty } => {
                let condition = self.operand(0);
                let params = arity.0.saturating_sub(1);
                self.flow.pop();
                let Some(taken) = condition.constant() else {
                    let (yes, no) = condition.refine(self.flow.facts);
                    self.flow.facts = yes;
                    self.flow.enter(FrameKind::If, *blockty, params, Some(no));
                    self.open.push(Open::Same);
                    self.out.push((op.clone(), *charge));
                    return at + 1;
                };
                self.folded = true;
                self.out.push((Operator::Drop, *charge));
                let Some(end) = ends.ends.get(&at) else { return at + 1 };
                let begin = match (taken, ends.elses.get(&at)) {
                    (true, _) => at,
                    (false, Some(other)) => *other,
                    (false, None) => return end + 1,
                };
                self.out.push((Operator::Block { blockty: *blockty }, 0));
                self.flow.enter(FrameKind::Block, *blockty, params, None);
                self.open.push(if taken { Open::First } else { Open::Second });
                return begin + 1;
            }
            Operator::BrIf { relative_depth } => {
                let condition = self.operand(0);
                self.flow.pop();
                match condition.constant() {
                    Some(taken) => {
                        self.folded = true;
                        self.out.push((Operator::Drop, *charge));
                        if taken {
                            let br = Operator::Br { relative_depth: *relative_depth };
                            self.flow.jump(&br);
                            self.out.push((br, 0));
                        }
                    }
                    None => {
                        let (yes, no) = condition.refine(self.flow.facts);
                        self.flow.branch(*relative_depth, &yes);
                        self.flow.facts = no;
                        self.out.push((op.clone(), *charge));
                    }
                }
                return at + 1;
            }
            Operator::Else if matches!(self.open.last(), Some(Open::First)) => {
                // The charge of a segment that is nothing but this.
                self.out.push((Operator::Nop, *charge));
                return skip_to_end(at, ops);
            }
            Operator::Else => self.flow.otherwise(),
            Operator::End => {
                let ended = self.flow.end();
                if let (Some(Open::Loop { at, assumed }), Some(frame)) = (self.open.pop(), ended)
                    && frame.at_label.is_some_and(|again| *again != assumed && assumed != State::Either)
                {
                    self.wrong.push(at);
                }
            }
            Operator::Block { blockty } => {
                self.flow.enter(FrameKind::Block, *blockty, arity.0, None);
                self.open.push(Open::Same);
            }
            Operator::Loop { blockty } => {
                if self.assumes_nothing || self.loose.contains(&at) {
                    self.flow.facts = State::Either;
                }
                self.open.push(Open::Loop { at, assumed: self.flow.facts });
                self.flow.enter(FrameKind::Loop, *blockty, arity.0, None);
            }
            _ if self.flow.jump(op) => {}
            _ => {
                let result = self.result(op);
                self.flow.replace(arity, result);
                let changes = match op {
                    Operator::Call { function_index } => self.asyncify.changes_state(*function_index),
                    Operator::CallIndirect { .. } => true,
                    _ => false,
                };
                if changes {
                    self.version += 1;
                    self.flow.facts = State::Either;
                }
            }
        }
        self.out.push((op.clone(), *charge));
        at + 1
    }

    /// An operand; what it says of a state that may have changed since says nothing.
    fn operand(&self, depth: usize) -> Operand {
        match self.flow.peek(depth) {
            Operand::State { version } | Operand::IsRunning { version, .. } if version != self.version => {
                Operand::Unknown
            }
            operand => operand,
        }
    }

    /// What an instruction gives that combines conditions.
    fn result(&self, op: &Operator<'_>) -> Operand {
        use Operand::*;
        let (top, below) = (self.operand(0), self.operand(1));
        match op {
            Operator::I32Const { value } => Constant(*value),
            Operator::I32Eqz => match top {
                Constant(c) => Constant(i32::from(c == 0)),
                True => Constant(0),
                State { version } => IsRunning { negated: false, version },
                IsRunning { negated, version } => IsRunning { negated: !negated, version },
                Unknown => Unknown,
            },
            Operator::I32Eq => match (top, below) {
                (Constant(a), Constant(b)) => Constant(i32::from(a == b)),
                (Constant(k), State { version }) | (State { version }, Constant(k)) => match k {
                    0 | 1 => IsRunning { negated: k == 1, version },
                    // The third state is never seen here.
                    _ => Constant(0),
                },
                _ => Unknown,
            },
            Operator::I32Or => match (top, below) {
                (Constant(0), other) | (other, Constant(0)) => other,
                (Constant(_) | True, _) | (_, Constant(_) | True) => True,
                _ => Unknown,
            },
            Operator::I32And => match (top, below) {
                (Constant(0), _) | (_, Constant(0)) => Constant(0),
                _ => Unknown,
            },
            _ => Unknown,
        }
    }
}

impl Operand {
    /// Whether a condition holds, if that is known.
    fn constant(self) -> Option<bool> {
        match self {
            Self::Constant(c) => Some(c != 0),
            Self::True => Some(true),
            _ => None,
        }
    }

    /// What is known of the state where a condition held, and where it did not.
    fn refine(self, facts: State) -> (State, State) {
        match self {
            Self::State { .. } | Self::IsRunning { negated: true, .. } => (State::Unwinding, State::Running),
            Self::IsRunning { negated: false, .. } => (State::Running, State::Unwinding),
            _ => (facts, facts),
        }
    }
}

/// The place of the `end` that closes the block in which `at` lies.
fn skip_to_end(at: usize, ops: &[(Operator<'_>, u64)]) -> usize {
    let mut depth = 0u32;
    for (place, (op, _)) in ops.iter().enumerate().skip(at + 1) {
        match op {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End if depth == 0 => return place,
            Operator::End => depth -= 1,
            _ => {}
        }
    }
    ops.len()
}
