//! Writing one entry point in naga's intermediate form: expressions in the order in which they are computed, and blocks
//! that are open.

use std::collections::HashMap;

use naga::{
    Arena, BinaryOperator, Block, Expression, Function, GlobalVariable, Handle, Literal, LocalVariable, MathFunction,
    Module, Range, ScalarKind, Span, Statement, SwitchCase, SwitchValue, Type, UnaryOperator,
};

/// A computed value, or a pointer to a variable.
pub type Value = Handle<Expression>;

/// What a WebAssembly value is in a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 32 bits: `i32`, and the bits of `f32`.
    Word,
    /// 64 bits: `i64`, and the bits of `f64`.
    Wide,
}

/// A block that waits for its end.
enum Opening {
    Accept { condition: Value },
    Reject { condition: Value, accept: Block },
    Loop,
}

/// The entry point under construction, in the module of the prelude.
pub struct Builder {
    module: Module,
    function: Function,
    openings: Vec<Opening>,
    /// One more than there are openings; the last is written to.
    blocks: Vec<Block>,
    /// Cases that are open, innermost last: each with its numbers.
    cases: Vec<Vec<(Vec<u32>, Block)>>,
    literals: HashMap<u32, Value>,
    locals: HashMap<Handle<LocalVariable>, Value>,
    globals: HashMap<Handle<GlobalVariable>, Value>,
    functions: HashMap<String, Handle<Function>>,
    global_names: HashMap<String, Handle<GlobalVariable>>,
    /// How many expressions each of the prelude's functions is, with what it calls written into it.
    sizes: HashMap<Handle<Function>, usize>,
    /// How many expressions calls of the prelude are, written out.
    called: usize,
    word: Handle<Type>,
    wide: Handle<Type>,
}

impl Builder {
    /// Goes on with the only entry point of a module that declares `Wide` and at least one function that gives one.
    pub fn new(mut module: Module) -> Builder {
        let function = std::mem::take(&mut module.entry_points[0].function);
        let functions: HashMap<_, _> =
            module.functions.iter().filter_map(|(handle, function)| Some((function.name.clone()?, handle))).collect();
        let global_names = module
            .global_variables
            .iter()
            .filter_map(|(handle, variable)| Some((variable.name.clone()?, handle)))
            .collect();
        let result = |name: &str| {
            let function = &module.functions[functions[name]];
            function.result.as_ref().expect("the prelude's functions of these names give a value").ty
        };
        let (word, wide) = (result("wide_low"), result("wide"));
        let mut sizes = HashMap::new();
        // Functions come after those that they call.
        for (handle, function) in module.functions.iter() {
            let size = function.expressions.len() + called_size(&function.body, &sizes);
            sizes.insert(handle, size);
        }
        let mut function = function;
        let block = std::mem::take(&mut function.body);
        Builder {
            module,
            function,
            openings: Vec::new(),
            blocks: vec![block],
            cases: Vec::new(),
            literals: HashMap::new(),
            locals: HashMap::new(),
            globals: HashMap::new(),
            functions,
            global_names,
            sizes,
            called: 0,
            word,
            wide,
        }
    }

    /// The finished module.
    pub fn finish(mut self) -> Module {
        assert!(self.openings.is_empty(), "every block is closed");
        self.function.body = self.blocks.pop().expect("the outermost block is there");
        // The prelude's entry point ends in a return, which would end the kernel before it began.
        self.function.body = without_returns(self.function.body);
        self.module.entry_points[0].function = self.function;
        self.module
    }

    fn push(&mut self, statement: Statement) {
        self.blocks.last_mut().expect("the outermost block is there").push(statement, Span::UNDEFINED);
    }

    fn emit(&mut self, expression: Expression) -> Value {
        let value = self.function.expressions.append(expression, Span::UNDEFINED);
        self.push(Statement::Emit(Range::new_from_bounds(value, value)));
        value
    }

    /// A constant word.
    pub fn word(&mut self, value: u32) -> Value {
        let expressions = &mut self.function.expressions;
        *self.literals.entry(value).or_insert_with(|| literal(expressions, value))
    }

    /// A constant word whose value is said later.
    pub fn later(&mut self) -> Value {
        literal(&mut self.function.expressions, 0)
    }

    /// Says what a constant is.
    pub fn settle(&mut self, constant: Value, value: u32) {
        self.function.expressions[constant] = Expression::Literal(Literal::U32(value));
    }

    /// A constant of 64 bits.
    pub fn wide(&mut self, value: u64) -> Value {
        let (low, high) = (self.word(value as u32), self.word((value >> 32) as u32));
        self.call("wide", &[low, high])
    }

    /// A new variable of the entry point.
    pub fn variable(&mut self, kind: Kind) -> Handle<LocalVariable> {
        let ty = self.ty(kind);
        let variable = LocalVariable { name: None, ty, init: None };
        self.function.local_variables.append(variable, Span::UNDEFINED)
    }

    fn ty(&self, kind: Kind) -> Handle<Type> {
        match kind {
            Kind::Word => self.word,
            Kind::Wide => self.wide,
        }
    }

    /// Every variable of the entry point, with its kind.
    pub fn variables(&self) -> Vec<(Handle<LocalVariable>, Kind)> {
        let all = self.function.local_variables.iter();
        all.map(|(handle, variable)| (handle, if variable.ty == self.wide { Kind::Wide } else { Kind::Word })).collect()
    }

    /// A new variable of the lane that functions of the prelude could see.
    pub fn private(&mut self, name: &str, kind: Kind) {
        let ty = self.ty(kind);
        let variable = GlobalVariable {
            name: Some(name.into()),
            space: naga::AddressSpace::Private,
            binding: None,
            ty,
            init: None,
            memory_decorations: naga::MemoryDecorations::empty(),
        };
        let handle = self.module.global_variables.append(variable, Span::UNDEFINED);
        self.global_names.insert(name.into(), handle);
    }

    fn local_pointer(&mut self, variable: Handle<LocalVariable>) -> Value {
        let expressions = &mut self.function.expressions;
        *self
            .locals
            .entry(variable)
            .or_insert_with(|| expressions.append(Expression::LocalVariable(variable), Span::UNDEFINED))
    }

    fn global_pointer(&mut self, name: &str) -> Value {
        let variable = self.global_names[name];
        let expressions = &mut self.function.expressions;
        *self
            .globals
            .entry(variable)
            .or_insert_with(|| expressions.append(Expression::GlobalVariable(variable), Span::UNDEFINED))
    }

    /// Reads a variable.
    pub fn get(&mut self, variable: Handle<LocalVariable>) -> Value {
        let pointer = self.local_pointer(variable);
        self.emit(Expression::Load { pointer })
    }

    /// Writes a variable.
    pub fn set(&mut self, variable: Handle<LocalVariable>, value: Value) {
        let pointer = self.local_pointer(variable);
        self.push(Statement::Store { pointer, value });
    }

    /// Reads a variable of the lane.
    pub fn get_global(&mut self, name: &str) -> Value {
        let pointer = self.global_pointer(name);
        self.emit(Expression::Load { pointer })
    }

    /// Writes a variable of the lane.
    pub fn set_global(&mut self, name: &str, value: Value) {
        let pointer = self.global_pointer(name);
        self.push(Statement::Store { pointer, value });
    }

    /// `left op right`.
    pub fn binary(&mut self, op: BinaryOperator, left: Value, right: Value) -> Value {
        self.emit(Expression::Binary { op, left, right })
    }

    /// Whether not.
    pub fn not(&mut self, expr: Value) -> Value {
        self.emit(Expression::Unary { op: UnaryOperator::LogicalNot, expr })
    }

    /// A function of one word.
    pub fn math(&mut self, fun: MathFunction, arg: Value) -> Value {
        self.emit(Expression::Math { fun, arg, arg1: None, arg2: None, arg3: None })
    }

    /// The same bits as a signed number.
    pub fn signed(&mut self, expr: Value) -> Value {
        self.emit(Expression::As { expr, kind: ScalarKind::Sint, convert: None })
    }

    /// The same bits as an unsigned number.
    pub fn unsigned(&mut self, expr: Value) -> Value {
        self.emit(Expression::As { expr, kind: ScalarKind::Uint, convert: None })
    }

    /// One of two values.
    pub fn select(&mut self, condition: Value, accept: Value, reject: Value) -> Value {
        self.emit(Expression::Select { condition, accept, reject })
    }

    /// Whether the prelude has a function of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// Calls a function of the prelude that gives a value.
    pub fn call(&mut self, name: &str, arguments: &[Value]) -> Value {
        let function = self.function_of_prelude(name);
        let result = self.function.expressions.append(Expression::CallResult(function), Span::UNDEFINED);
        self.push(Statement::Call { function, arguments: arguments.to_vec(), result: Some(result) });
        result
    }

    fn function_of_prelude(&mut self, name: &str) -> Handle<Function> {
        let function = self.functions[name];
        self.called += self.sizes[&function];
        function
    }

    /// Calls a function of the prelude that gives nothing.
    pub fn run(&mut self, name: &str, arguments: &[Value]) {
        let function = self.function_of_prelude(name);
        self.push(Statement::Call { function, arguments: arguments.to_vec(), result: None });
    }

    /// A constant truth.
    pub fn truth(&mut self, value: bool) -> Value {
        self.function.expressions.append(Expression::Literal(Literal::Bool(value)), Span::UNDEFINED)
    }

    /// A place in the innermost block, to come back to while that is open.
    pub fn mark(&self) -> usize {
        self.blocks.last().expect("the outermost block is there").len()
    }

    /// Takes away what was written behind a mark.
    pub fn cut(&mut self, mark: usize) -> Vec<(Statement, Span)> {
        let block = self.blocks.last_mut().expect("the outermost block is there");
        let mut all: Vec<_> = std::mem::take(block).span_into_iter().collect();
        let behind = all.split_off(mark);
        self.append(all);
        behind
    }

    /// Writes what was cut.
    pub fn append(&mut self, statements: Vec<(Statement, Span)>) {
        let block = self.blocks.last_mut().expect("the outermost block is there");
        statements.into_iter().for_each(|(statement, span)| block.push(statement, span));
    }

    /// How many blocks are open.
    pub fn level(&self) -> usize {
        self.openings.len()
    }

    /// Opens what runs if `condition`.
    pub fn open_if(&mut self, condition: Value) {
        self.openings.push(Opening::Accept { condition });
        self.blocks.push(Block::new());
    }

    /// Goes over to what runs if not.
    pub fn open_else(&mut self) {
        let Some(Opening::Accept { condition }) = self.openings.pop() else { panic!("only an `if` has an `else`") };
        let accept = self.blocks.pop().expect("an opening has its block");
        self.openings.push(Opening::Reject { condition, accept });
        self.blocks.push(Block::new());
    }

    /// Opens what runs until it breaks.
    pub fn open_loop(&mut self) {
        self.openings.push(Opening::Loop);
        self.blocks.push(Block::new());
    }

    /// Leaves the innermost loop.
    pub fn leave_loop(&mut self) {
        self.push(Statement::Break);
    }

    /// Closes the innermost block.
    pub fn close(&mut self) {
        let block = self.blocks.pop().expect("an opening has its block");
        let statement = match self.openings.pop().expect("something is open") {
            Opening::Accept { condition } => Statement::If { condition, accept: block, reject: Block::new() },
            Opening::Reject { condition, accept } => Statement::If { condition, accept, reject: block },
            Opening::Loop => Statement::Loop { body: block, continuing: Block::new(), break_if: None },
        };
        self.push(statement);
    }

    /// Closes blocks until so many are open.
    pub fn close_to(&mut self, level: usize) {
        while self.level() > level {
            self.close();
        }
    }

    /// Opens the first of several blocks of which a number chooses one.
    pub fn open_cases(&mut self) {
        self.cases.push(Vec::new());
        self.blocks.push(Block::new());
    }

    /// Ends a case, which runs for these numbers, and begins the next.
    pub fn next_case(&mut self, numbers: Vec<u32>) {
        let block = std::mem::take(self.blocks.last_mut().expect("a case is open"));
        self.cases.last_mut().expect("a case is open").push((numbers, block));
    }

    /// Closes the cases. The last one runs for all numbers that none has.
    pub fn close_cases(&mut self, selector: Value) {
        self.blocks.pop();
        let mut cases = Vec::new();
        let mut written = self.cases.pop().expect("cases are open");
        let default = written.pop().expect("there is a case for the rest");
        for (numbers, body) in written {
            let Some((last, others)) = numbers.split_last() else { continue };
            let empty =
                |number: &u32| SwitchCase { value: SwitchValue::U32(*number), body: Block::new(), fall_through: true };
            cases.extend(others.iter().map(empty));
            cases.push(SwitchCase { value: SwitchValue::U32(*last), body, fall_through: false });
        }
        cases.push(SwitchCase { value: SwitchValue::Default, body: default.1, fall_through: false });
        self.push(Statement::Switch { selector, cases });
    }

    /// How many expressions there are once calls of the prelude are written out, as drivers do: what memory and compile time
    /// go with.
    pub fn size(&self) -> usize {
        self.function.expressions.len() + self.called
    }
}

/// How many expressions the calls in a block are, written out.
fn called_size(block: &Block, sizes: &HashMap<Handle<Function>, usize>) -> usize {
    let of = |block: &Block| called_size(block, sizes);
    block
        .iter()
        .map(|statement| match statement {
            Statement::Call { function, .. } => sizes[function],
            Statement::Block(block) => of(block),
            Statement::If { accept, reject, .. } => of(accept) + of(reject),
            Statement::Switch { cases, .. } => cases.iter().map(|case| of(&case.body)).sum(),
            Statement::Loop { body, continuing, .. } => of(body) + of(continuing),
            _ => 0,
        })
        .sum()
}

fn literal(expressions: &mut Arena<Expression>, value: u32) -> Value {
    expressions.append(Expression::Literal(Literal::U32(value)), Span::UNDEFINED)
}

fn without_returns(block: Block) -> Block {
    let mut kept = Block::new();
    for (statement, span) in block.span_into_iter() {
        if !matches!(statement, Statement::Return { .. }) {
            kept.push(statement, span);
        }
    }
    kept
}
