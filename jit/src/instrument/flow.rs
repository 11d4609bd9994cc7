//! Following a body forwards: its blocks, its operand stack, and facts that hold at each point.
//!
//! Two analyses use it. Each has its own idea of an operand and of a fact; what they share is how blocks nest, which
//! edges meet where, and what can be reached.

use wasmparser::{BlockType, FrameKind, ModuleArity, Operator};

use super::survey::Survey;

/// What is known at a point of a body.
pub trait Facts: Clone {
    /// Keeps what holds on both of two edges.
    fn meet(&mut self, other: &Self);
}

/// A block that is open.
pub struct Frame<F> {
    pub kind: FrameKind,
    ty: BlockType,
    /// Operands below the block's own parameters.
    height: usize,
    /// What holds on every edge that leads to the block's label so far (its end, or a loop's head); none: no edge yet.
    pub at_label: Option<Box<F>>,
    /// What holds where an `if` that is not taken goes on.
    at_else: Option<Box<F>>,
    /// Whether the block itself can be reached.
    is_reachable: bool,
}

/// Where an analysis is. `O` is what it knows of an operand; the default is nothing.
pub struct Flow<'a, O, F> {
    survey: &'a Survey,
    frames: Vec<Frame<F>>,
    stack: Vec<O>,
    pub facts: F,
    is_reachable: bool,
}

impl<'a, O: Copy + Default, F: Facts> Flow<'a, O, F> {
    /// At the begin of a body of this type.
    pub fn new(survey: &'a Survey, body_type: u32, facts: F) -> Self {
        let ty = BlockType::FuncType(body_type);
        let body = Frame { kind: FrameKind::Block, ty, height: 0, at_label: None, at_else: None, is_reachable: true };
        Self { survey, frames: vec![body], stack: Vec::new(), facts, is_reachable: true }
    }

    /// How many operands `op` takes and gives here. Of a validated body all are known; were one not, nothing that lies on
    /// the stack would be taken for known after it.
    pub fn arity(&self, op: &Operator<'_>) -> (u32, u32) {
        op.operator_arity(self).unwrap_or((u32::MAX, 0))
    }

    /// What is known of the operand `depth` below the top.
    pub fn peek(&self, depth: usize) -> O {
        let at = self.stack.len().checked_sub(depth + 1).filter(|at| *at >= self.floor());
        at.map_or(O::default(), |at| self.stack[at])
    }

    pub fn pop(&mut self) -> O {
        let top = self.peek(0);
        self.stack.truncate(self.stack.len().saturating_sub(1).max(self.floor()));
        top
    }

    pub fn push(&mut self, operand: O) {
        self.stack.push(operand);
    }

    /// Takes operands from the stack and puts `operand` there for each result.
    pub fn replace(&mut self, (takes, gives): (u32, u32), operand: O) {
        for _ in 0..takes.min(self.stack.len() as u32) {
            self.pop();
        }
        self.stack.extend((0..gives).map(|_| operand));
    }

    fn floor(&self) -> usize {
        self.frames.last().map_or(0, |frame| frame.height)
    }

    /// Opens a block with `params` parameters. For an `if`, `otherwise` holds where it is not taken.
    pub fn enter(&mut self, kind: FrameKind, ty: BlockType, params: u32, otherwise: Option<F>) {
        let height = self.stack.len().saturating_sub(params as usize).max(self.floor());
        if kind == FrameKind::Loop {
            // What a later round finds here is not what was there before the loop.
            self.stack[height..].fill(O::default());
        }
        let at_else = otherwise.map(Box::new);
        self.frames.push(Frame { kind, ty, height, at_label: None, at_else, is_reachable: self.is_reachable });
    }

    /// Control may go from here to the label `depth` blocks out, where then `facts` hold.
    pub fn branch(&mut self, depth: u32, facts: &F) {
        let target = self.frames.len().checked_sub(depth as usize + 1);
        if let Some(target) = target.filter(|_| self.is_reachable) {
            meet(&mut self.frames[target].at_label, facts);
        }
    }

    /// At an `else`.
    pub fn otherwise(&mut self) {
        let (_, params) = self.arity(&Operator::Else);
        let reachable = self.is_reachable;
        let Some(frame) = self.frames.last_mut() else { return };
        if reachable {
            meet(&mut frame.at_label, &self.facts);
        }
        frame.kind = FrameKind::Else;
        self.is_reachable = frame.is_reachable;
        if let Some(facts) = frame.at_else.take() {
            self.facts = *facts;
        }
        self.stack.truncate(frame.height);
        self.stack.extend((0..params).map(|_| O::default()));
    }

    /// At an `end`. Gives the block that ended; for a loop, `at_label` is what holds on its back edges.
    pub fn end(&mut self) -> Option<Frame<F>> {
        let (_, gives) = self.arity(&Operator::End);
        let mut frame = self.frames.pop()?;
        self.stack.truncate(frame.height);
        self.stack.extend((0..gives).map(|_| O::default()));
        if frame.kind == FrameKind::Loop {
            return Some(frame);
        }
        if self.is_reachable {
            meet(&mut frame.at_label, &self.facts);
        }
        // An `if` without `else` also ends where it began.
        if let Some(at_else) = frame.at_else.take().filter(|_| frame.is_reachable) {
            meet(&mut frame.at_label, &at_else);
        }
        self.is_reachable = frame.at_label.is_some();
        if let Some(facts) = &frame.at_label {
            self.facts = F::clone(facts);
        }
        Some(frame)
    }

    /// Follows a branch that does not depend on an operand, or ends in every case. Gives whether `op` is one.
    pub fn jump(&mut self, op: &Operator<'_>) -> bool {
        let facts = self.facts.clone();
        match op {
            Operator::Br { relative_depth } => self.branch(*relative_depth, &facts),
            Operator::BrTable { targets } => {
                self.branch(targets.default(), &facts);
                targets.targets().flatten().for_each(|target| self.branch(target, &facts));
            }
            Operator::Return | Operator::Unreachable => {}
            _ => return false,
        }
        self.is_reachable = false;
        true
    }
}

fn meet<F: Facts>(at: &mut Option<Box<F>>, facts: &F) {
    match at {
        Some(at) => at.meet(facts),
        None => *at = Some(Box::new(facts.clone())),
    }
}

impl<O, F> ModuleArity for Flow<'_, O, F> {
    fn sub_type_at(&self, type_index: u32) -> Option<&wasmparser::SubType> {
        self.survey.types.get(type_index as usize)
    }

    fn tag_type_arity(&self, _: u32) -> Option<(u32, u32)> {
        None
    }

    fn type_index_of_function(&self, function: u32) -> Option<u32> {
        self.survey.function_types.get(function as usize).copied()
    }

    fn func_type_of_cont_type(&self, _: &wasmparser::ContType) -> Option<&wasmparser::FuncType> {
        None
    }

    fn sub_type_of_ref_type(&self, _: &wasmparser::RefType) -> Option<&wasmparser::SubType> {
        None
    }

    fn control_stack_height(&self) -> u32 {
        self.frames.len() as u32
    }

    fn label_block(&self, depth: u32) -> Option<(BlockType, FrameKind)> {
        let frame = &self.frames[self.frames.len().checked_sub(depth as usize + 1)?];
        Some((frame.ty, frame.kind))
    }
}
