//! From WebAssembly to a kernel: every function that the plan makes part of the machine becomes states of `main`.
//!
//! `main` is one loop over all states in the order in which they were written: `if state == k { ... }`. Control that goes
//! forward reaches its state in the same turn; calls that return, and loops that contain calls, take another. Loops around
//! other loops, without calls to the machine, have a loop of the kernel over their own states, and so have the machine's small
//! functions, which come last: a turn of theirs does not go past all others. Within a state control is structured: what
//! WebAssembly skips with a branch is skipped with `if escape == 0 { ... }`.
//!
//! Operands are values of the kernel as long as control stays in a state, and variables where it does not: each height of
//! a function's operand stack has its variable, its *slot*.

mod calls;
mod control;
mod kept;
mod operators;

use std::collections::{HashMap, HashSet};

use naga::{BinaryOperator, Handle, LocalVariable};
use wasmparser::{Operator, ValType};

use super::{
    build::{Builder, Kind, Value},
    ending::{Bail, Ending, Trap},
    kernel::{Alignment, EXPRESSIONS_MAX, LEVELS_MAX},
    layout::Header,
    plan::{Plan, accesses},
    program::Program,
};

type Variable = Handle<LocalVariable>;

/// An operand: its kind, and its value unless it lies in its slot.
#[derive(Clone, Copy)]
struct Operand {
    kind: Kind,
    value: Option<Value>,
}

/// What a block's branches do.
#[derive(Clone, Copy)]
enum Shape {
    /// Structured: `escape` is set to this where control leaves from deeper within.
    Inside { label: u32 },
    /// Between states: branches go to the state `target`; what follows the block's end is the state `end`.
    Across { target: u32, end: u32 },
    /// A function of the machine: branches return.
    Function,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    Block,
    Loop,
    Then,
    Else,
}

/// A block that is open.
struct Frame {
    opened: Opened,
    shape: Shape,
    /// Height of the operand stack below its parameters.
    height: usize,
    params: Vec<Kind>,
    results: Vec<Kind>,
    /// How many blocks of the kernel were open before it.
    level: usize,
    /// Whether `escape` may hold its label where it ends.
    is_escaped_to: bool,
    /// Whether any branch goes to its end.
    is_targeted: bool,
    /// Whether control may leave to somewhere outside from within.
    is_escaped_through: bool,
    /// Whether the code now is out of reach.
    is_unreachable: bool,
    /// Whether the end of its first arm can be reached.
    then_is_unreachable: bool,
    /// Of an `if` across states: the state of its other arm, until that begins.
    other: Option<u32>,
    /// Of a loop around loops that has a loop of the kernel over its states: the first of these.
    nest: Option<u32>,
    /// Of a loop: instructions in a turn, to be settled at its end; and the count where it began.
    turn: Option<(Value, u32)>,
}

/// A function being lowered: one of the machine, or one in place inside it.
struct Context {
    function: u32,
    locals: Vec<(Variable, Kind)>,
    slots: HashMap<(usize, Kind), Variable>,
    frames: Vec<Frame>,
    stack: Vec<Operand>,
    /// Whether it is compiled in place: its variables hold nothing once it is over, nor in another state.
    is_in_place: bool,
    /// Of a function of the machine: the state to return to.
    return_to: Option<Variable>,
    /// Openings (by place of the instruction) that contain calls to the machine.
    across: HashSet<usize>,
    /// Those of them that are loops which control leaves only at their end, the outermost.
    nests: HashSet<usize>,
}

/// Where a function of the module can be entered from outside.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The state to begin with.
    pub state: u32,
    /// Its parameters, each in two words of the header.
    pub params: Vec<Kind>,
    /// Its results, likewise.
    pub results: Vec<Kind>,
}

/// What lowering found that lanes cannot do.
pub type Refusals = Vec<(u32, String)>;

/// A lowered module.
pub struct Lowered {
    /// The entries, in the order in which they were asked for.
    pub entries: Vec<Entry>,
    /// For each table, its place among all tables' entries; and the entries: state and canonical type + 1, or zeros.
    pub tables: Vec<u32>,
    /// What makes a lane bail, by function.
    pub refusals: Refusals,
    /// Places that reach memory.
    pub accesses: u32,
    /// How many states there are.
    pub states: u32,
    /// Rows of words that a lane keeps from dispatch to dispatch.
    pub kept_rows: u32,
    /// Why it cannot be used, if it is not whole.
    pub too_large: Option<String>,
}

/// The compiler of one module.
pub struct Lowerer<'p, 'a> {
    program: &'p Program<'a>,
    plan: &'p Plan,
    alignment: Alignment,
    out: &'p mut Builder,
    contexts: Vec<Context>,
    /// The state that each function of the machine begins with.
    begins: HashMap<u32, u32>,
    states: u32,
    labels: u32,
    /// Instructions of the state being written, and the constant that will say how many.
    ticks: u32,
    state_ticks: Option<Value>,
    state: Variable,
    escape: Variable,
    return_to: Variable,
    transfers: HashMap<(usize, Kind), Variable>,
    /// Variables that functions in place have given back.
    free: HashMap<Kind, Vec<Variable>>,
    /// Variables of functions in place: they hold nothing from state to state.
    temporary: HashSet<Variable>,
    /// The state being written.
    state_number: u32,
    /// How many blocks are open at its beginning.
    state_level: usize,
    /// For each variable, the last state that has certainly written it.
    written: HashMap<Variable, u32>,
    /// Variables that a state reads from another.
    exposed: HashSet<Variable>,
    table_starts: Vec<u32>,
    /// Bytes of memory (from, to) that functions take for constant.
    constants: Option<(u32, u32)>,
    refusals: Refusals,
    accesses: u32,
    too_large: Option<String>,
}

/// How many blocks are open at the beginning of a state: what runs at all, the loop over states, and the state's own. In a nest
/// of loops it is one more.
const STATE_LEVEL: usize = 3;

/// What `escape` holds when control leaves the state.
const LEAVE: u32 = u32::MAX;

impl<'p, 'a> Lowerer<'p, 'a> {
    /// Writes the whole machine into `out`.
    pub fn lower(
        program: &'p Program<'a>,
        plan: &'p Plan,
        alignment: Alignment,
        out: &'p mut Builder,
        entries: &[u32],
    ) -> Lowered {
        let state = out.variable(Kind::Word);
        let escape = out.variable(Kind::Word);
        let return_to = out.variable(Kind::Word);
        let mut lowerer = Lowerer {
            program,
            plan,
            alignment,
            out,
            contexts: Vec::new(),
            begins: HashMap::new(),
            states: 0,
            labels: 0,
            ticks: 0,
            state_ticks: None,
            state,
            escape,
            return_to,
            transfers: HashMap::new(),
            free: HashMap::new(),
            temporary: HashSet::new(),
            state_number: u32::MAX,
            state_level: STATE_LEVEL,
            written: HashMap::new(),
            exposed: HashSet::new(),
            table_starts: Vec::new(),
            constants: None,
            refusals: Vec::new(),
            accesses: 0,
            too_large: None,
        };
        lowerer.machine(entries)
    }

    fn machine(&mut self, entries: &[u32]) -> Lowered {
        for &function in &self.plan.machine {
            let state = self.new_state();
            self.begins.insert(function, state);
        }
        let mut tables = self.lay_out_tables();
        let constants = program_constants(self.program, &mut tables);
        self.constants = constants.map(|(from, count, _)| (from, from + 4 * count));
        self.declare_globals();
        let beginning = self.out.mark();
        self.out.run("resume", &[]);
        // Not lanes that are over, or that nobody called.
        let running = self.out.call("is_running", &[]);
        self.out.open_if(running);
        self.out.open_loop();
        let entries: Vec<Entry> = entries.iter().map(|function| self.entry(*function, constants)).collect();
        let begins = self.plan.machine.len() as u32;
        let mut tails = Vec::new();
        for (at, &function) in self.plan.machine.iter().enumerate() {
            if self.plan.tails.contains(&at) {
                self.open_nest();
                tails.push((at as u32, self.states));
            }
            self.function(function);
        }
        for (function, first) in tails.into_iter().rev() {
            self.close_nest(&[(function, begins), (first, self.states)]);
        }
        for entry in &entries {
            self.leave(entry);
        }
        let stays = self.out.truth(true);
        self.close_loop(stays);
        let rows = self.rows();
        self.out.run("pause", &[]);
        self.keep(&rows);
        self.out.close();
        let behind = self.out.cut(beginning);
        self.bring(&rows);
        self.out.append(behind);
        Lowered {
            entries,
            tables,
            refusals: std::mem::take(&mut self.refusals),
            accesses: self.accesses,
            states: self.states,
            kept_rows: rows.len() as u32,
            too_large: self.too_large.take(),
        }
    }

    /// A variable's value.
    fn read(&mut self, variable: Variable) -> Value {
        // Whether this state has certainly written it before.
        if self.written.get(&variable) != Some(&self.state_number) && !self.temporary.contains(&variable) {
            self.exposed.insert(variable);
        }
        self.out.get(variable)
    }

    fn write(&mut self, variable: Variable, value: Value) {
        if self.out.level() == self.state_level {
            self.written.insert(variable, self.state_number);
        }
        self.out.set(variable, value);
    }

    /// Closes a loop of the kernel: it is left at the end of a turn unless another is due, and may be begun.
    fn close_loop(&mut self, again: Value) {
        let leaves = self.out.call("leaves", &[again]);
        self.out.open_if(leaves);
        self.out.leave_loop();
        self.out.close();
        self.out.close();
    }

    fn new_state(&mut self) -> u32 {
        self.states += 1;
        self.states - 1
    }

    /// Opens what runs in a state.
    fn begin_state(&mut self, state: u32) {
        let (current, wanted) = (self.out.get(self.state), self.out.word(state));
        let is_here = self.out.binary(BinaryOperator::Equal, current, wanted);
        self.out.open_if(is_here);
        debug_assert_eq!(self.out.level(), self.state_level);
        self.state_number = state;
        let zero = self.out.word(0);
        self.out.set(self.escape, zero);
        let ticks = self.out.later();
        self.out.run("tick", &[ticks]);
        self.state_ticks = Some(ticks);
        self.ticks = 0;
    }

    /// Closes it; every way through it has said which state is next.
    fn end_state(&mut self) {
        let ticks = self.state_ticks.take().expect("a state has begun");
        self.out.settle(ticks, self.ticks + 1);
        self.out.close_to(self.state_level - 1);
    }

    fn go_to(&mut self, state: u32) {
        let state = self.out.word(state);
        self.out.set(self.state, state);
    }

    /// The entry from outside: arguments from the header, and where to return to. Constants are compared here.
    fn entry(&mut self, function: u32, constants: Option<(u32, u32, u32)>) -> Entry {
        let ty = self.program.function_type(function).clone();
        let state = self.new_state();
        let entry = Entry { state, params: kinds(ty.params()), results: kinds(ty.results()) };
        self.begin_state(state);
        for (at, kind) in entry.params.iter().enumerate() {
            let value = self.header_value(Header::value(at), *kind);
            let variable = self.transfer(at, *kind);
            self.write(variable, value);
        }
        if let Some((from, count, at)) = constants {
            let arguments = [from, count, at].map(|n| self.out.word(n));
            self.out.run("check_constants", &arguments);
            self.accesses += 1;
        }
        let leave = self.new_state();
        let leave = self.out.word(leave);
        self.write(self.return_to, leave);
        match self.begins.get(&function) {
            Some(begin) => self.go_to(*begin),
            None => self.end(Ending::Bail(Bail::Host)),
        }
        self.end_state();
        entry
    }

    /// Where an entry's function returns to: the state behind the entry's own.
    fn leave(&mut self, entry: &Entry) {
        self.begin_state(entry.state + 1);
        for (at, kind) in entry.results.iter().enumerate() {
            let variable = self.transfer(at, *kind);
            let value = self.read(variable);
            self.set_header_value(Header::value(at), *kind, value);
        }
        self.end(Ending::Done);
        self.end_state();
    }

    fn header_value(&mut self, at: u32, kind: Kind) -> Value {
        let low = self.out.word(at);
        let low = self.out.call("header_word", &[low]);
        if kind == Kind::Word {
            return low;
        }
        let high = self.out.word(at + 1);
        let high = self.out.call("header_word", &[high]);
        self.out.call("wide", &[low, high])
    }

    fn set_header_value(&mut self, at: u32, kind: Kind, value: Value) {
        for (at, part) in (at..).zip(self.parts(kind, value)) {
            let at = self.out.word(at);
            self.out.run("set_header_word", &[at, part]);
        }
    }

    /// A value's words, low one first.
    fn parts(&mut self, kind: Kind, value: Value) -> Vec<Value> {
        match kind {
            Kind::Word => vec![value],
            Kind::Wide => vec![self.out.call("wide_low", &[value]), self.out.call("wide_high", &[value])],
        }
    }

    fn lay_out_tables(&mut self) -> Vec<u32> {
        let mut words = Vec::new();
        for table in &self.program.tables {
            self.table_starts.push((words.len() / 2) as u32);
            for entry in &table.entries {
                words.extend(match entry {
                    None => [0, 0],
                    Some(function) => {
                        let ty = match self.program.own(*function) {
                            Some(own) => own.ty,
                            None => self.program.imports[*function as usize].0,
                        };
                        // What no indirect call of the entries reaches has no state, and no call gets this far.
                        let state = self.begins.get(function).copied().unwrap_or(u32::MAX);
                        [state, self.program.canonical_type(ty) + 1]
                    }
                });
            }
        }
        words
    }

    /// A function of the machine.
    fn function(&mut self, function: u32) {
        let ty = self.program.function_type(function).clone();
        self.begin_state(self.begins[&function]);
        let context = self.context(function, false);
        self.contexts.push(context);
        let return_to = self.out.variable(Kind::Word);
        let value = self.read(self.return_to);
        self.write(return_to, value);
        let own = self.program.own(function).expect("only own functions are planned");
        let (across, nests) = self.find_across(&own.ops);
        let frame = self.function_frame(&ty, Shape::Function);
        let context = self.context_mut();
        context.return_to = Some(return_to);
        (context.across, context.nests) = (across, nests);
        context.frames.push(frame);
        for at in 0..ty.params().len() {
            let (local, kind) = self.context_mut().locals[at];
            let variable = self.transfer(at, kind);
            let value = self.read(variable);
            self.write(local, value);
        }
        self.clear_locals(ty.params().len());
        self.body(function);
        self.contexts.pop();
    }

    /// Whether the kernel will be refused anyway. Hostile modules would not end otherwise, or exhaust the stacks of those
    /// who read nested blocks.
    fn is_too_large(&mut self) -> bool {
        if self.out.size() > EXPRESSIONS_MAX {
            self.too_large = Some(format!("more than {EXPRESSIONS_MAX} expressions"));
        } else if self.out.level() > LEVELS_MAX {
            self.too_large = Some(format!("control nests deeper than {LEVELS_MAX} blocks"));
        }
        self.too_large.is_some()
    }

    /// Writes a function's instructions; its frame is open.
    fn body(&mut self, function: u32) {
        let own = self.program.own(function).expect("only own functions are planned");
        let mut skipped = 0usize;
        for (at, (op, charge)) in own.ops.iter().enumerate() {
            if self.is_too_large() {
                self.lose_reach();
            }
            let unreachable = self.context_mut().frames.last().is_some_and(|frame| frame.is_unreachable);
            if unreachable {
                match op {
                    Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                        skipped += 1;
                        continue;
                    }
                    Operator::End if skipped > 0 => {
                        skipped -= 1;
                        continue;
                    }
                    Operator::Else if skipped > 0 => continue,
                    Operator::End | Operator::Else => {}
                    _ => continue,
                }
            } else if *charge > 0 {
                let amount = self.out.wide(*charge);
                self.out.run("charge", &[amount]);
            }
            self.ticks += 1;
            self.accesses += accesses(op);
            if !self.control(at, op) {
                self.operator(op);
            }
        }
    }

    fn context(&mut self, function: u32, is_in_place: bool) -> Context {
        let own = self.program.own(function).expect("only own functions are lowered");
        let locals = own
            .locals
            .iter()
            .map(|ty| {
                let kind = kind(*ty).unwrap_or(Kind::Word);
                (self.allocate(kind, is_in_place), kind)
            })
            .collect();
        Context {
            function,
            locals,
            slots: HashMap::new(),
            frames: Vec::new(),
            stack: Vec::new(),
            is_in_place,
            return_to: None,
            across: HashSet::new(),
            nests: HashSet::new(),
        }
    }

    fn clear_locals(&mut self, from: usize) {
        for at in from..self.context_mut().locals.len() {
            let (local, kind) = self.context_mut().locals[at];
            let zero = self.zero(kind);
            self.write(local, zero);
        }
    }

    /// Gives back the variables of a function that was compiled in place.
    fn release(&mut self, context: Context) {
        let locals = context.locals.into_iter();
        let slots = context.slots.into_iter().map(|((_, kind), variable)| (variable, kind));
        for (variable, kind) in locals.chain(slots) {
            self.free.entry(kind).or_default().push(variable);
        }
    }

    /// A variable that is not in use. What lives longer than a state has variables of its own for good.
    fn allocate(&mut self, kind: Kind, is_in_place: bool) -> Variable {
        let free = if is_in_place { self.free.get_mut(&kind).and_then(Vec::pop) } else { None };
        let variable = free.unwrap_or_else(|| self.out.variable(kind));
        if is_in_place {
            self.temporary.insert(variable);
        }
        variable
    }

    fn zero(&mut self, kind: Kind) -> Value {
        match kind {
            Kind::Word => self.out.word(0),
            Kind::Wide => self.out.wide(0),
        }
    }

    fn transfer(&mut self, at: usize, kind: Kind) -> Variable {
        *self.transfers.entry((at, kind)).or_insert_with(|| self.out.variable(kind))
    }

    fn context_mut(&mut self) -> &mut Context {
        self.contexts.last_mut().expect("a function is being lowered")
    }

    fn frame_mut(&mut self) -> &mut Frame {
        self.context_mut().frames.last_mut().expect("the function's own frame is open")
    }

    fn slot(&mut self, height: usize, kind: Kind) -> Variable {
        if let Some(variable) = self.context_mut().slots.get(&(height, kind)) {
            return *variable;
        }
        let is_in_place = self.context_mut().is_in_place;
        let variable = self.allocate(kind, is_in_place);
        self.context_mut().slots.insert((height, kind), variable);
        variable
    }

    fn push(&mut self, kind: Kind, value: Value) {
        self.context_mut().stack.push(Operand { kind, value: Some(value) });
    }

    fn push_word(&mut self, value: Value) {
        self.push(Kind::Word, value);
    }

    fn push_wide(&mut self, value: Value) {
        self.push(Kind::Wide, value);
    }

    /// The value of the operand at a height.
    fn operand(&mut self, height: usize) -> Value {
        let Operand { kind, value } = self.context_mut().stack[height];
        match value {
            Some(value) => value,
            None => {
                let slot = self.slot(height, kind);
                self.read(slot)
            }
        }
    }

    fn pop(&mut self) -> Value {
        let height = self.context_mut().stack.len() - 1;
        let value = self.operand(height);
        self.context_mut().stack.pop();
        value
    }

    /// Puts every operand into its slot, where other states find it.
    fn spill(&mut self) {
        for height in 0..self.context_mut().stack.len() {
            self.spill_at(height);
        }
    }

    fn spill_at(&mut self, height: usize) {
        let Operand { kind, value } = self.context_mut().stack[height];
        if let Some(value) = value {
            let slot = self.slot(height, kind);
            self.write(slot, value);
            self.context_mut().stack[height].value = None;
        }
    }

    /// Ends the lane.
    fn end(&mut self, ending: Ending) {
        let status = self.out.word(ending.status());
        self.out.run("end", &[status]);
    }

    fn trap(&mut self, trap: Trap) {
        self.end(Ending::Trap(trap));
    }

    /// Ends the lane because of something that lanes do not have, and says so. What follows is out of reach.
    fn refuse(&mut self, bail: Bail, what: String) {
        let function = self.context_mut().function;
        if !self.refusals.iter().any(|(f, w)| (*f, w) == (function, &what)) {
            self.refusals.push((function, what));
        }
        self.end(Ending::Bail(bail));
        self.lose_reach();
    }
}

/// What a value type is in a kernel; none for vectors and references.
pub fn kind(ty: ValType) -> Option<Kind> {
    match ty {
        ValType::I32 | ValType::F32 => Some(Kind::Word),
        ValType::I64 | ValType::F64 => Some(Kind::Wide),
        ValType::V128 | ValType::Ref(_) => None,
    }
}

/// The kinds of some types; vectors and references, which no lane ever holds, count as words.
fn kinds(types: &[ValType]) -> Vec<Kind> {
    types.iter().map(|ty| kind(*ty).unwrap_or(Kind::Word)).collect()
}

/// Lays out what functions take for constant behind the tables: where it is in memory, how many words, and where here.
fn program_constants(program: &Program<'_>, tables: &mut Vec<u32>) -> Option<(u32, u32, u32)> {
    let (from, words) = program.constant_words()?;
    let at = tables.len() as u32;
    tables.extend(&words);
    Some((from, words.len() as u32, at))
}

fn global_name(at: u32) -> String {
    format!("global_{at}")
}
