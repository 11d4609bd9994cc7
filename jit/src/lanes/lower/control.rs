//! Blocks and branches.

use std::collections::HashSet;

use naga::BinaryOperator;
use wasmparser::{BlockType, FuncType, Operator};

use super::{Frame, Kind, LEAVE, Lowerer, Opened, Operand, Shape, Trap, kinds};
use crate::lanes::{ending::Bail, program::Host};

impl Frame {
    /// A block that has just been opened, with `level` blocks of the kernel open and `height` operands below its parameters.
    fn new(
        opened: Opened,
        shape: Shape,
        level: usize,
        height: usize,
        (params, results): (Vec<Kind>, Vec<Kind>),
    ) -> Self {
        Self {
            opened,
            shape,
            height,
            params,
            results,
            level,
            is_escaped_to: false,
            is_targeted: false,
            is_escaped_through: false,
            is_unreachable: false,
            then_is_unreachable: false,
            other: None,
            nest: None,
            turn: None,
        }
    }
}

impl Lowerer<'_, '_> {
    /// Writes an instruction of control; false if it is none.
    pub(super) fn control(&mut self, at: usize, op: &Operator<'_>) -> bool {
        match op {
            Operator::Nop => {}
            Operator::Unreachable => {
                self.trap(Trap::Unreachable);
                self.lose_reach();
            }
            Operator::Block { blockty } => self.open(at, Opened::Block, *blockty),
            Operator::Loop { blockty } => self.open(at, Opened::Loop, *blockty),
            Operator::If { blockty } => self.open(at, Opened::Then, *blockty),
            Operator::Else => self.other_arm(),
            Operator::End => self.close(),
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth as usize);
                self.lose_reach();
            }
            Operator::BrIf { relative_depth } => {
                let condition = self.condition();
                self.out.open_if(condition);
                self.branch(*relative_depth as usize);
                self.out.open_else();
            }
            Operator::BrTable { targets } => {
                let listed: Vec<u32> = targets.targets().map(|t| t.expect("validated")).collect();
                self.branch_table(&listed, targets.default());
                self.lose_reach();
            }
            Operator::Return => {
                let outermost = self.context_mut().frames.len() - 1;
                self.branch(outermost);
                self.lose_reach();
            }
            Operator::Call { function_index } => self.call(*function_index),
            Operator::CallIndirect { type_index, table_index } => self.call_indirect(*type_index, *table_index),
            _ => return false,
        }
        true
    }

    /// Pops a number and says whether it is not 0.
    pub(super) fn condition(&mut self) -> crate::lanes::build::Value {
        let (value, zero) = (self.pop(), self.out.word(0));
        self.out.binary(BinaryOperator::NotEqual, value, zero)
    }

    /// The code up to the block's end is not reached.
    pub(super) fn lose_reach(&mut self) {
        let height = self.frame_mut().height;
        self.context_mut().stack.truncate(height);
        self.frame_mut().is_unreachable = true;
    }

    /// What cannot stay in a state: openings that contain calls to the machine, or loops. And which of them are the outermost
    /// loops without such calls.
    pub(super) fn find_across(&self, ops: &[(Operator<'_>, u64)]) -> (HashSet<usize>, HashSet<usize>) {
        struct Open {
            at: usize,
            is_loop: bool,
            /// Whether something within it cannot stay in a state.
            is_across: bool,
            /// Whether it calls the machine.
            calls: bool,
        }
        let mut open: Vec<Open> = Vec::new();
        let (mut across, mut nests) = (HashSet::new(), HashSet::new());
        for (at, (op, _)) in ops.iter().enumerate() {
            let (mut leaves, mut calls) = (false, false);
            match op {
                Operator::Block { .. } | Operator::If { .. } | Operator::Loop { .. } => {
                    let is_loop = matches!(op, Operator::Loop { .. });
                    open.push(Open { at, is_loop, is_across: false, calls: false });
                }
                Operator::End => {
                    if let Some(closed) = open.pop() {
                        if closed.is_across {
                            across.insert(closed.at);
                        }
                        if closed.is_loop && closed.is_across && !closed.calls {
                            nests.retain(|inner| *inner < closed.at);
                            nests.insert(closed.at);
                        }
                        leaves = closed.is_loop || closed.is_across;
                        calls = closed.calls;
                    }
                }
                Operator::Call { function_index } => calls = self.is_machine_call(*function_index),
                Operator::CallIndirect { .. } => calls = true,
                _ => {}
            }
            if let Some(around) = open.last_mut() {
                around.is_across |= leaves | calls;
                around.calls |= calls;
            }
        }
        (across, nests)
    }

    fn is_machine_call(&self, function: u32) -> bool {
        self.program.own(function).is_some() && !self.plan.is_in_place(function)
    }

    pub(super) fn function_frame(&mut self, ty: &FuncType, shape: Shape) -> Frame {
        let level = self.out.level();
        Frame::new(Opened::Block, shape, level, 0, (Vec::new(), kinds(ty.results())))
    }

    pub(super) fn new_label(&mut self) -> u32 {
        self.labels += 1;
        self.labels
    }

    fn open(&mut self, at: usize, opened: Opened, ty: BlockType) {
        let (params, results) = match ty {
            BlockType::Empty => (Vec::new(), Vec::new()),
            BlockType::Type(ty) => (Vec::new(), kinds(&[ty])),
            BlockType::FuncType(ty) => {
                let ty = &self.program.types[ty as usize];
                (kinds(ty.params()), kinds(ty.results()))
            }
        };
        let condition = (opened == Opened::Then).then(|| self.condition());
        let is_across = self.context_mut().across.contains(&at);
        let height = self.context_mut().stack.len() - params.len();
        if is_across || opened == Opened::Loop {
            self.spill();
        } else if !params.is_empty() {
            // Either arm finds its parameters in the same place.
            (height..height + params.len()).for_each(|height| self.spill_at(height));
        }
        let shape = if is_across {
            let end = self.new_state();
            let target = if opened == Opened::Loop { self.new_state() } else { end };
            Shape::Across { target, end }
        } else {
            Shape::Inside { label: self.new_label() }
        };
        let mut frame = Frame::new(opened, shape, self.out.level(), height, (params, results));
        match (shape, condition) {
            (Shape::Across { target, .. }, _) if opened == Opened::Loop => {
                self.go_to(target);
                self.end_state();
                if self.context_mut().nests.contains(&at) {
                    frame.nest = Some(target);
                    self.open_nest();
                }
                self.begin_state(target);
            }
            (Shape::Across { .. }, Some(condition)) => {
                // The first arm goes on in this state; the other is a state, the end itself if there is none.
                let other = self.new_state();
                frame.other = Some(other);
                let taken = self.out.not(condition);
                self.out.open_if(taken);
                self.go_to(other);
                self.out.open_else();
            }
            (Shape::Across { .. } | Shape::Function, _) => {}
            (Shape::Inside { .. }, Some(condition)) => self.out.open_if(condition),
            (Shape::Inside { .. }, None) if opened == Opened::Loop => {
                // A state of its own: wherever a turn ends, the loop can be left, and gone on with later.
                let head = self.new_state();
                self.go_to(head);
                self.end_state();
                self.begin_state(head);
                frame.level = self.out.level();
                self.out.open_loop();
                let zero = self.out.word(0);
                self.out.set(self.escape, zero);
                let turn = self.out.later();
                self.out.run("tick", &[turn]);
                frame.turn = Some((turn, self.ticks));
            }
            (Shape::Inside { .. }, None) => {}
        }
        self.context_mut().frames.push(frame);
    }

    /// `else`.
    fn other_arm(&mut self) {
        let (shape, height, level) = {
            let frame = self.frame_mut();
            (frame.shape, frame.height, frame.level)
        };
        self.deliver_results();
        match shape {
            Shape::Inside { .. } => {
                self.out.close_to(level + 1);
                self.out.open_else();
            }
            Shape::Across { end, .. } => {
                if !self.frame_mut().is_unreachable {
                    self.go_to(end);
                    self.frame_mut().is_targeted = true;
                }
                let other = self.frame_mut().other.take().expect("an `if` across states has another arm's");
                self.end_state();
                self.begin_state(other);
            }
            Shape::Function => unreachable!("validated: `else` belongs to an `if`"),
        }
        let frame = self.frame_mut();
        frame.opened = Opened::Else;
        frame.then_is_unreachable = frame.is_unreachable;
        frame.is_unreachable = false;
        let params = frame.params.clone();
        let stack = &mut self.context_mut().stack;
        stack.truncate(height);
        stack.extend(params.into_iter().map(|kind| Operand { kind, value: None }));
    }

    /// Puts a block's results where its end looks for them, if control gets there.
    fn deliver_results(&mut self) {
        let frame = self.frame_mut();
        if !frame.is_unreachable {
            let (height, count) = (frame.height, frame.results.len());
            (height..height + count).for_each(|height| self.spill_at(height));
        }
    }

    /// `end`.
    fn close(&mut self) {
        match self.frame_mut().shape {
            Shape::Function => self.close_function(),
            Shape::Across { end, .. } => self.close_across(end),
            Shape::Inside { label } => self.close_inside(label),
        }
    }

    fn close_function(&mut self) {
        if !self.frame_mut().is_unreachable {
            self.branch(0);
        }
        self.end_state();
        self.context_mut().frames.pop();
        self.context_mut().stack.clear();
    }

    fn close_across(&mut self, end: u32) {
        if self.frame_mut().opened == Opened::Then {
            // There is no other arm; its state passes on, with the parameters as results.
            self.other_arm();
        }
        self.deliver_results();
        let frame = self.context_mut().frames.pop().expect("the caller saw it");
        let is_joined = frame.is_targeted && frame.opened != Opened::Loop;
        if is_joined || frame.is_unreachable || frame.nest.is_some() {
            if !frame.is_unreachable {
                self.go_to(end);
            }
            // If nothing goes to the end, what follows is a state that is never current.
            self.end_state();
            if let Some(first) = frame.nest {
                self.close_nest(&[(first, self.states)]);
            }
            self.begin_state(end);
        }
        self.take_results(&frame);
    }

    /// Opens a loop over the states that follow.
    pub(super) fn open_nest(&mut self) {
        self.out.open_loop();
        self.state_level += 1;
    }

    /// Closes it: another turn, if control is in a state from a first on and before an end.
    pub(super) fn close_nest(&mut self, states: &[(u32, u32)]) {
        let state = self.out.get(self.state);
        let mut again = self.out.truth(false);
        for (first, end) in states {
            let (first, end) = (self.out.word(*first), self.out.word(*end));
            let is_behind = self.out.binary(BinaryOperator::GreaterEqual, state, first);
            let is_before = self.out.binary(BinaryOperator::Less, state, end);
            let is_there = self.out.binary(BinaryOperator::LogicalAnd, is_behind, is_before);
            again = self.out.binary(BinaryOperator::LogicalOr, again, is_there);
        }
        self.close_loop(again);
        self.state_level -= 1;
    }

    fn close_inside(&mut self, label: u32) {
        self.deliver_results();
        let frame = self.context_mut().frames.pop().expect("the caller saw it");
        match frame.opened {
            Opened::Loop => {
                let (turn, before) = frame.turn.expect("a loop counts");
                self.out.settle(turn, self.ticks - before + 1);
                // Past guards: whoever branched to the head has set the label.
                self.out.close_to(frame.level + 1);
                let (escape, label) = (self.out.get(self.escape), self.out.word(label));
                let again = self.out.binary(BinaryOperator::Equal, escape, label);
                self.close_loop(again);
                // Another turn may be due here: because the dispatch is over for this lane, or because the driver bounds
                // loops of its own accord (Mesa's CPU driver does, silently). Then the state stays what it is.
                let (escape, zero) = (self.out.get(self.escape), self.out.word(0));
                let is_over = self.out.binary(BinaryOperator::Equal, escape, zero);
                self.out.open_if(is_over);
                self.take_results(&frame);
                return;
            }
            Opened::Then if frame.is_unreachable && !frame.is_escaped_to && !frame.is_targeted => {
                // Control is past the `if` only where its arm was not taken: what follows belongs there.
                self.out.close_to(frame.level + 1);
                self.out.open_else();
                self.take_results(&frame);
                return;
            }
            Opened::Else if frame.then_is_unreachable && !frame.is_escaped_to && !frame.is_targeted => {
                self.take_results(&frame);
                return;
            }
            _ => {}
        }
        self.out.close_to(frame.level);
        if frame.is_escaped_to {
            let (escape, label, zero) = (self.out.get(self.escape), self.out.word(label), self.out.word(0));
            let arrived = self.out.binary(BinaryOperator::Equal, escape, label);
            let escape = self.out.select(arrived, zero, escape);
            self.out.set(self.escape, escape);
        }
        if frame.is_escaped_through {
            let (escape, zero) = (self.out.get(self.escape), self.out.word(0));
            let stays = self.out.binary(BinaryOperator::Equal, escape, zero);
            self.out.open_if(stays);
        }
        self.take_results(&frame);
    }

    /// Pushes a closed block's results.
    fn take_results(&mut self, frame: &Frame) {
        let stack = &mut self.context_mut().stack;
        stack.truncate(frame.height);
        stack.extend(frame.results.iter().map(|kind| Operand { kind: *kind, value: None }));
    }

    /// Moves what a branch carries, and goes. The operands stay where they are: the branch may not be taken.
    fn branch(&mut self, depth: usize) {
        let frames = self.context_mut().frames.len();
        let target = frames - 1 - depth;
        let (shape, is_loop, height, carried) = {
            let frame = &self.context_mut().frames[target];
            let is_loop = frame.opened == Opened::Loop;
            (frame.shape, is_loop, frame.height, if is_loop { frame.params.clone() } else { frame.results.clone() })
        };
        let top = self.context_mut().stack.len() - carried.len();
        let values: Vec<_> = (0..carried.len()).map(|at| self.operand(top + at)).collect();
        for (at, (value, kind)) in values.into_iter().zip(&carried).enumerate() {
            let variable = match shape {
                Shape::Function => self.transfer(at, *kind),
                _ => self.slot(height + at, *kind),
            };
            self.write(variable, value);
        }
        let inside = |frame: &Frame| matches!(frame.shape, Shape::Inside { .. });
        let crossed = target + 1..frames;
        match shape {
            Shape::Inside { label } => {
                let frame = &mut self.context_mut().frames[target];
                if depth == 0 && !is_loop {
                    // What follows up to the end is in the other arm of the branch's own `if`, or out of reach.
                    frame.is_targeted = true;
                } else {
                    frame.is_escaped_to = true;
                    let label = self.out.word(label);
                    self.out.set(self.escape, label);
                }
            }
            Shape::Across { target: state, .. } => {
                self.context_mut().frames[target].is_targeted = true;
                self.go_to(state);
            }
            Shape::Function => {
                let return_to = self.context_mut().return_to.expect("functions of the machine return somewhere");
                let state = self.read(return_to);
                self.out.set(self.state, state);
            }
        }
        let mut crosses = false;
        for frame in &mut self.context_mut().frames[crossed] {
            crosses |= inside(frame);
            frame.is_escaped_through |= inside(frame);
        }
        if crosses && !matches!(shape, Shape::Inside { .. }) {
            let leave = self.out.word(LEAVE);
            self.out.set(self.escape, leave);
        }
    }

    fn branch_table(&mut self, listed: &[u32], default: u32) {
        let selector = self.pop();
        // A case for each target; the last for whatever is not listed.
        let mut targets: Vec<u32> = listed.iter().copied().filter(|target| *target != default).collect();
        targets.sort_unstable();
        targets.dedup();
        let mut cases: Vec<Vec<u32>> = targets
            .iter()
            .map(|target| (0..).zip(listed).filter(|(_, listed)| *listed == target).map(|(value, _)| value).collect())
            .collect();
        targets.push(default);
        cases.push(Vec::new());
        if targets.len() == 1 {
            self.branch(default as usize);
            return;
        }
        self.out.open_cases();
        for (at, target) in targets.iter().enumerate() {
            self.branch(*target as usize);
            self.out.next_case(std::mem::take(&mut cases[at]));
        }
        self.out.close_cases(selector);
    }

    /// A call of an imported function.
    pub(super) fn call_host(&mut self, function: u32) {
        let (ty, host) = self.program.imports[function as usize];
        let ty = self.program.types[ty as usize].clone();
        match host {
            Host::UseGas => {
                let mut amount = self.pop();
                if kinds(ty.params()) == [Kind::Word] {
                    amount = self.out.call("wide_from_signed", &[amount]);
                }
                self.out.run("charge", &[amount]);
            }
            Host::Other => self.refuse(Bail::Host, format!("calls the imported function {function}")),
        }
    }
}
