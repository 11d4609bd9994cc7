//! What processes in lanes cost on an AMD GPU that need not be there: Mesa's RADV driver compiles their kernels for it
//! and counts.
//!
//! ```text
//! VK_DRIVER_FILES=/usr/share/vulkan/icd.d/radeon_icd.x86_64.json:/usr/share/vulkan/icd.d/lvp_icd.x86_64.json \
//!     RADV_FORCE_FAMILY=gfx1100 MESA_SHADER_CACHE_DISABLE=true \
//!     cargo bench -p lockstep-jit --bench lanes_cost -- [--program NAME]
//! ```
//!
//! Registers, spills and occupancy are those of the whole kernels. Rates are modelled: what a piece of a kernel costs,
//! times how often it runs.
//!
//! *Pieces.* A piece is what one state of the machine does, but for its loop; one turn of that loop; or one turn of a
//! loop in the prelude (copying memory). Each is cut out of the kernel and compiled once and twice in a row: the
//! difference is its cost, without what brings variables in and out. The compiler counts a loop eight times, a loop in
//! a loop 32 times, and what is under a condition three quarters of a time, as probes check first. Cost is its inverse
//! throughput (cycles for which a wave of 64 lanes keeps a SIMD busy), or its latency shared among as many waves as
//! the whole kernel leaves room for, whichever is more. Loops in which a message spends much are doubled within the
//! whole kernel too, which has fewer registers left for them: then their latency there counts, and two cycles for each
//! instruction more that they have there.
//!
//! *How often.* The same kernel with a counter in every state and loop runs on another adapter, lavapipe say, where
//! one lane evaluates a message of two sizes. What grows is counted for so much more work, which leaves reading the
//! message apart.
//!
//! All lanes of a wave are taken to go the same way, the adapter to be full, and memory and bus to be as fast as they
//! are asked; what they would have to move is printed, and what they allow where that is less. What the host does is
//! not in it.

mod programs;
mod radv;

use std::{
    collections::{BTreeSet, HashMap},
    process::ExitCode,
    time::{Duration, Instant},
};

use lockstep_jit::{
    Call, Engine, EngineSettings, Instance, ModuleFormat, gas,
    gpu::{Choice, Device},
    lanes::{Compiled, Ending, Form, Group, Integers, Kernel, TILE_LANES, Trust},
    spawn_evaluator,
};
use naga::{
    Block, Expression, Function, GlobalVariable, Handle, Literal, LocalVariable, Module, Span, Statement, Type,
    TypeInner, valid::Capabilities,
};
use programs::{Program, UNEVEN};
use radv::{CLOCK_HZ, Driver, LANES, SIMDS};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Cores that the GPU is held against: as many as a desktop processor of its class has.
const CORES: f64 = 16.0;

/// Bytes a second of an RX 7900 XTX's memory (AMD's data sheet).
const MEMORY_BYTES: f64 = 960e9;

fn main() -> ExitCode {
    let ended = spawn_evaluator("bench".into(), run).map(|thread| thread.join());
    match ended {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(why))) => {
            eprintln!("lanes_cost: {why}");
            ExitCode::FAILURE
        }
        Ok(Err(_)) | Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<(), Failure> {
    let mut wanted = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            // Cargo says so.
            "--bench" => {}
            "--program" => wanted = Some(words.next().ok_or("--program wants a name")?),
            other => return Err(format!("{other}: expected --program NAME").into()),
        }
    }
    let driver = Driver::open()
        .map_err(|why| format!("{why}; this bench needs RADV, told by RADV_FORCE_FAMILY what to compile for"))?;
    // RADV without a device computes nothing.
    let device = Device::open(&Choice::Named("llvmpipe".into()))?.ok_or("there is no adapter to count on")?;
    let probes = Probes::take(&driver)?;
    println!(
        "compiled for {}; rates are *modelled* for an RX 7900 XTX: {SIMDS} SIMDs at {} GHz, waves of {LANES} lanes",
        driver.name,
        CLOCK_HZ / 1e9
    );
    println!(
        "probes: a loop's turn counts {:.2} times, of a loop in a loop {:.2} times, {:.2} times more for each loop more, what is under a condition {:.2} \
         times; a state passed by costs {:.1} cycles a wave; counted on {}",
        probes.turns, probes.turns_within, probes.deeper, probes.conditional, probes.passed, device.found.name
    );
    // In the model all lanes go the same way.
    for program in Program::all().into_iter().filter(|program| program.name != UNEVEN) {
        if wanted.as_ref().is_none_or(|name| name == program.name) {
            model(&driver, &device, &probes, &program).map_err(|why| format!("{}: {why}", program.name))?;
        }
    }
    Ok(())
}

/// What the compiler's statistics make of things whose cost is known otherwise.
struct Probes {
    /// How often a loop's body is counted.
    turns: f64,
    /// How often that of a loop in a loop.
    turns_within: f64,
    /// How much more often for each loop more around it.
    deeper: f64,
    /// How often what is under a condition.
    conditional: f64,
    /// Cycles of `if state == k { ... }` where it is not.
    passed: f64,
}

impl Probes {
    fn take(driver: &Driver) -> Result<Probes, Failure> {
        let begin = "@group(0) @binding(0) var<storage, read_write> words: array<u32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            var x = words[id.x]; let y = words[id.x + 64u]; var n = words[id.x + 128u]; var i = 0u;\n";
        let end = "words[id.x] = x; }\n";
        let cost = |middle: &str| -> Result<f64, Failure> {
            let module = naga::front::wgsl::parse_str(&format!("{begin}{middle}{end}"))?;
            Ok(driver.compile(&module, Capabilities::empty(), false)?.of("Inverse Throughput"))
        };
        // So much arithmetic that nothing else counts.
        let work = "x = (x ^ y) * 0x01000193u + (x >> 3u);\n".repeat(200);
        let each = cost(&work)? - cost("")?;
        let looped = format!("loop {{ {work} i += 1u; if i >= n {{ break; }} }}\n");
        let turns = (cost(&looped)? - cost("")?) / each;
        let within = format!("loop {{ {looped} n -= 1u; if n < y {{ break; }} }}\n");
        let turns_within = (cost(&within)? - cost("")?) / each;
        let around = format!("loop {{ {within} n += 3u; if n > y {{ break; }} }}\n");
        let deeper = (cost(&around)? - cost("")?) / each / turns_within;
        let condition = format!("if x == n {{ {work} }}\n");
        let conditional = (cost(&condition)? - cost("")?) / each;
        // Stores cannot be made unconditional: what remains of a conditional one is the condition.
        let states = |count: u32, is_conditional: bool| -> Result<f64, Failure> {
            let store = |k: u32| format!("words[y + {k}u * 64u] = x;");
            let state = |k: u32| match is_conditional {
                true => format!("if x == {k}u {{ {} x = {}u; }}\n", store(k), k + 1),
                false => format!("{} x = x + y;\n", store(k)),
            };
            cost(&(0..count).map(state).collect::<String>())
        };
        let state = |is_conditional| -> Result<f64, Failure> {
            Ok((states(128, is_conditional)? - states(64, is_conditional)?) / 64.0)
        };
        let passed = (state(true)? - conditional * state(false)?).max(1.0);
        Ok(Probes { turns, turns_within, deeper, conditional, passed })
    }
}

fn kernel_of(program: &Program) -> Result<Kernel, Failure> {
    let form = Form { integers: Integers::Native, trust: Trust::FULL };
    Ok(Kernel::of_process(program.wasm, ModuleFormat::Emscripten4, form)?)
}

fn model(driver: &Driver, device: &Device, probes: &Probes, program: &Program) -> Result<(), Failure> {
    let mut kernel = kernel_of(program)?;
    let begun = Instant::now();
    let whole = driver.compile(&kernel.module, Capabilities::SHADER_INT64, false)?;
    println!(
        "\n{}: {}; compiled in {:.1} s ({} states, {} memory accesses)",
        program.name,
        whole.line(),
        begun.elapsed().as_secs_f64(),
        kernel.states,
        kernel.accesses
    );
    let pieces = Pieces::of(&kernel.module);
    // A SIMD has 768 registers of 64 lanes, and room for 16 waves (AMD's RDNA3 instruction set, 2023).
    let waves = (768.0 / whole.of("VGPRs")).floor().min(16.0);
    println!("  {:.0} processes fill the adapter with {waves} waves a SIMD", waves * SIMDS * LANES);
    let mut costs: Vec<Cost> = pieces
        .all
        .iter()
        .map(|piece| cost(driver, probes, &kernel.module, &pieces, piece, waves))
        .collect::<Result<_, _>>()?;
    let moved: Vec<f64> = pieces.all.iter().map(|piece| pieces.words(&kernel.module, piece)).collect();

    let before = program.before();
    let module = kernel.module.clone();
    pieces.count_in(&mut kernel.module);
    let counting = Counting::new(device, kernel, program, pieces.all.len())?;
    let small = counting.of(before.as_deref(), &program.message(0, program.work.min(WORK_COUNTED.0)))?;
    let mut rows: Vec<(&str, u32, Vec<f64>)> = Vec::new();
    if program.work == 0 {
        rows.push(("message", 0, small));
    } else {
        let large = counting.of(before.as_deref(), &program.message(0, WORK_COUNTED.1))?;
        let at = |work: u32| -> Vec<f64> {
            let (from, to) = (f64::from(WORK_COUNTED.0), f64::from(WORK_COUNTED.1));
            let more = (f64::from(work) - from) / (to - from);
            small.iter().zip(&large).map(|(small, large)| (small + (large - small) * more).max(0.0)).collect()
        };
        rows.push(("without work", 0, at(0)));
        rows.push(("whole message", program.work, at(program.work)));
    }
    let (_, _, counts) = rows.last().expect("there is a row");
    let spent: Vec<f64> = counts.iter().zip(&costs).map(|(count, cost)| count * cost.cycles).collect();
    let all: f64 = spent.iter().sum();
    for (number, piece) in pieces.all.iter().enumerate().filter(|(number, _)| spent[*number] > HEAVY * all) {
        if let Piece::Turn { path, conditions, turn } = piece {
            let (latency, instructions) = turn_in_whole(driver, probes, &module, (path, *conditions), turn)?;
            let alone = costs[number];
            let more = (instructions - alone.instructions).max(0.0);
            let whole = (alone.busy + INSTRUCTION_CYCLES * more).max(latency / waves);
            println!(
                "  a turn in state {}: alone {:.0} cycles, {:.0} instructions; in the whole kernel \
                 {instructions:.0} instructions, latency {latency:.0} among {waves} waves: {whole:.0} cycles",
                place(path),
                alone.cycles,
                alone.instructions
            );
            costs[number].cycles = whole;
        }
    }
    for (what, work, counts) in rows {
        let name = if work == 0 { what.to_owned() } else { format!("{what} ({work} {})", program.unit) };
        print_row(&pieces, &name, &counts, &costs, &moved, (work == program.work).then_some(program))?;
    }
    Ok(())
}

/// Work of the two messages that are counted: numbers of one digit, so that they are equally long.
const WORK_COUNTED: (u32, u32) = (2, 8);

/// Bytes a second of PCI Express 4.0 with 16 lanes, each way.
const BUS_BYTES: f64 = 31.5e9;

/// Loops that take more than this of a message are looked at within the whole kernel.
const HEAVY: f64 = 0.1;

/// Most summands that are shown one by one.
const SHOWN: usize = 5;

/// What a message comes to, and beside the native engine if it is a whole one.
fn print_row(
    pieces: &Pieces,
    name: &str,
    counts: &[f64],
    costs: &[Cost],
    moved: &[f64],
    whole: Option<&Program>,
) -> Result<(), Failure> {
    let mut parts = Vec::new();
    for ((piece, count), cost) in pieces.all.iter().zip(counts).zip(costs) {
        let cycles = count * cost.cycles;
        parts.push((cycles, format!("{count:.0} {} x {:.0} = {cycles:.0}", piece.name(), cost.cycles)));
    }
    let cycles: f64 = parts.iter().map(|(cycles, _)| cycles).sum();
    let bytes: f64 = counts.iter().zip(moved).map(|(count, words)| 4.0 * count * words).sum();
    parts.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let shown: Vec<&str> = parts.iter().take(SHOWN).map(|(_, text)| text.as_str()).collect();
    let rest: f64 = parts.iter().skip(SHOWN).map(|(cycles, _)| cycles).sum();
    println!("  {name}: {} + others {rest:.0} = {cycles:.0} cycles a wave", shown.join(" + "));
    let rate = SIMDS * CLOCK_HZ / cycles * LANES;
    println!(
        "    *modelled* {rate:.0} messages/s; {:.1} KB a message, {:.2} TB/s at that rate",
        bytes / 1e3,
        rate * bytes / 1e12
    );
    let Some(program) = whole else { return Ok(()) };
    let core = native(program)?;
    let native = core * CORES;
    println!(
        "    native {core:.0} messages/s on one core here, x {CORES} cores = {native:.0}: *modelled* ratio {:.2}",
        rate / native
    );
    let text = program.environment().len() + program.message(0, program.work).len();
    for (what, bounded) in [
        ("if caches carried nothing, memory would allow", MEMORY_BYTES / bytes),
        ("the bus allows, for the messages' texts alone,", BUS_BYTES / text as f64),
    ] {
        if bounded < rate {
            println!("    {what} {bounded:.0} messages/s: *modelled* ratio {:.2}", bounded / native);
        }
    }
    Ok(())
}

/// Messages a second of one instance.
fn native(program: &Program) -> Result<f64, Failure> {
    let module = Engine::new(EngineSettings::default())?.load(program.wasm, ModuleFormat::Emscripten4)?;
    let mut instance = Instance::new(&module)?;
    let environment = program.environment();
    let mut evaluate = |message: &str| {
        instance.evaluate(&Call {
            message,
            environment: &environment,
            seed: "bench",
            gas_limit: gas::DEFAULT_LIMIT,
            time_limit: Duration::from_secs(60),
        })
    };
    if let Some(before) = program.before() {
        evaluate(&before)?;
    }
    let message = program.message(0, program.work);
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(1) {
        evaluate(&message)?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

// ---- Pieces of a kernel
// ------------------------------------------------------------------------------------------------------

/// Where a statement lies: which one of the machine's loop, which one of the loop over states that this is, and so on.
type Path = Vec<usize>;

/// Where a piece lies.
#[derive(Clone)]
enum Piece {
    /// Going past the states of a loop over states, without those in loops over states within.
    Pass { path: Path, states: u32 },
    /// What a state does, without its loop.
    State { path: Path, block: Block },
    /// The loop of a state, under so many conditions, the state's own among them.
    Turn { path: Path, conditions: i32, turn: Block },
    /// A loop in a function of the prelude.
    Prelude { function: Handle<Function>, name: String, turn: Block },
}

impl Piece {
    fn name(&self) -> String {
        match self {
            Piece::Pass { path, states } => format!("passes of {states} states at {}", place(path)),
            Piece::State { path, .. } => format!("times state {}", place(path)),
            Piece::Turn { path, .. } => format!("turns in state {}", place(path)),
            Piece::Prelude { name, .. } => format!("turns in {name}"),
        }
    }
}

fn place(path: &Path) -> String {
    if path.is_empty() {
        return "the machine".into();
    }
    path.iter().map(usize::to_string).collect::<Vec<_>>().join(".")
}

struct Pieces {
    all: Vec<Piece>,
}

/// Whether what is under an `if` of a loop over states is a state: the last one leaves the loop.
fn is_state(accept: &Block) -> bool {
    !matches!(accept.first(), Some(Statement::Break))
}

/// The pieces of a loop over states.
fn pieces_of_loop(body: &Block, path: &Path, all: &mut Vec<Piece>) {
    let is_one = |statement: &&Statement| matches!(statement, Statement::If { accept, .. } if is_state(accept));
    all.push(Piece::Pass { path: path.clone(), states: body.iter().filter(is_one).count() as u32 });
    for (number, statement) in body.iter().enumerate() {
        let path: Path = path.iter().copied().chain([number]).collect();
        match statement {
            Statement::If { accept, .. } if is_state(accept) => {
                let mut turns = Vec::new();
                let block = without_loops(accept, &mut turns);
                all.push(Piece::State { path: path.clone(), block });
                let conditions = conditions_above_loop(statement).unwrap_or(0);
                all.extend(turns.into_iter().map(|turn| Piece::Turn { path: path.clone(), conditions, turn }));
            }
            Statement::Loop { body, .. } => pieces_of_loop(body, &path, all),
            _ => {}
        }
    }
}

impl Pieces {
    fn of(module: &Module) -> Pieces {
        let mut all = Vec::new();
        pieces_of_loop(machine(&entry(module).body), &Path::new(), &mut all);
        for (function, of) in module.functions.iter() {
            let mut turns = Vec::new();
            without_loops(&of.body, &mut turns);
            let name = of.name.clone().unwrap_or_default();
            all.extend(turns.into_iter().map(|turn| Piece::Prelude { function, name: name.clone(), turn }));
        }
        Pieces { all }
    }

    /// Words of lanes' memory that a piece reads and writes.
    fn words(&self, module: &Module, piece: &Piece) -> f64 {
        let (function, block) = match piece {
            Piece::Pass { .. } => return 0.0,
            Piece::State { block, .. } => (entry(module), block),
            Piece::Turn { turn, .. } => (entry(module), turn),
            Piece::Prelude { function, turn, .. } => (&module.functions[*function], turn),
        };
        let mut memory = Memory { module, known: HashMap::new() };
        memory.words(function, block)
    }

    /// Puts a counter at the beginning of each, into the page of linear memory behind the module's own.
    fn count_in(&self, module: &mut Module) {
        let names = functions(module);
        let (load, store) = (names["load32"], names["store32"]);
        let count = |function: &mut Function, number: usize| -> Vec<Statement> {
            let add = |function: &mut Function, expression| function.expressions.append(expression, Span::UNDEFINED);
            let at = add(function, Expression::Literal(Literal::U32(COUNTERS_BYTE + 4 * number as u32)));
            let one = add(function, Expression::Literal(Literal::U32(1)));
            let before = add(function, Expression::CallResult(load));
            let op = naga::BinaryOperator::Add;
            let after = add(function, Expression::Binary { op, left: before, right: one });
            vec![
                Statement::Call { function: load, arguments: vec![at], result: Some(before) },
                Statement::Emit(naga::Range::new_from_bounds(after, after)),
                Statement::Call { function: store, arguments: vec![at, after], result: None },
            ]
        };
        let mut main = std::mem::take(&mut module.entry_points[0].function);
        let mut body = std::mem::take(&mut main.body);
        let mut number = 0;
        let mut next = || {
            number += 1;
            count(&mut main, number - 1)
        };
        count_in_loop(machine_mut(&mut body), &mut next);
        main.body = body;
        module.entry_points[0].function = main;
        let functions: BTreeSet<_> = self
            .all
            .iter()
            .filter_map(|piece| match piece {
                Piece::Prelude { function, .. } => Some(*function),
                _ => None,
            })
            .collect();
        for function in functions {
            let mut of = std::mem::take(&mut module.functions[function]);
            let mut body = std::mem::take(&mut of.body);
            each_loop(&mut body, &mut |turn| {
                prepend(turn, count(&mut of, number));
                number += 1;
            });
            of.body = body;
            module.functions[function] = of;
        }
        assert_eq!(number, self.all.len(), "pieces are counted in their order");
    }
}

/// Puts counters into a loop over states, in the order of [`pieces_of_loop`].
fn count_in_loop(body: &mut Block, next: &mut impl FnMut() -> Vec<Statement>) {
    let passes = next();
    for statement in body.iter_mut() {
        match statement {
            Statement::If { accept, .. } if is_state(accept) => {
                let begin = next();
                each_loop(accept, &mut |turn| prepend(turn, next()));
                prepend(accept, begin);
            }
            Statement::Loop { body, .. } => count_in_loop(body, next),
            _ => {}
        }
    }
    prepend(body, passes);
}

fn functions(module: &Module) -> HashMap<String, Handle<Function>> {
    module.functions.iter().filter_map(|(handle, of)| Some((of.name.clone()?, handle))).collect()
}

fn entry(module: &Module) -> &Function {
    &module.entry_points[0].function
}

/// The body of the machine's loop: the first in the `if` that the entry point ends in; behind it is the one that keeps words.
fn machine(body: &Block) -> &Block {
    let Some(Statement::If { accept, .. }) = body.last() else { panic!("a kernel ends in what runs") };
    let mut loops = accept.iter().filter_map(|statement| match statement {
        Statement::Loop { body, .. } => Some(body),
        _ => None,
    });
    loops.next().expect("a machine has a loop")
}

fn machine_mut(body: &mut Block) -> &mut Block {
    let Some(Statement::If { accept, .. }) = body.last_mut() else { panic!("a kernel ends in what runs") };
    let mut loops = accept.iter_mut().filter_map(|statement| match statement {
        Statement::Loop { body, .. } => Some(body),
        _ => None,
    });
    loops.next().expect("a machine has a loop")
}

fn prepend(block: &mut Block, statements: Vec<Statement>) {
    let behind = std::mem::take(block);
    statements.into_iter().for_each(|statement| block.push(statement, Span::UNDEFINED));
    behind.span_into_iter().for_each(|(statement, span)| block.push(statement, span));
}

/// Blocks directly within a statement, but for loops.
fn inner(statement: &mut Statement) -> Vec<&mut Block> {
    match statement {
        Statement::Block(block) => vec![block],
        Statement::If { accept, reject, .. } => vec![accept, reject],
        Statement::Switch { cases, .. } => cases.iter_mut().map(|case| &mut case.body).collect(),
        _ => Vec::new(),
    }
}

/// Does something with the body of each outermost loop.
fn each_loop(block: &mut Block, change: &mut impl FnMut(&mut Block)) {
    for statement in block.iter_mut() {
        if let Statement::Loop { body, .. } = statement {
            change(body);
        } else {
            inner(statement).into_iter().for_each(|block| each_loop(block, change));
        }
    }
}

/// A block without its outermost loops, which are put aside whole.
fn without_loops(block: &Block, turns: &mut Vec<Block>) -> Block {
    let mut kept = Block::new();
    for (statement, span) in block.clone().span_into_iter() {
        let mut statement = statement;
        if let Statement::Loop { .. } = statement {
            turns.push(Block::from_vec(vec![statement]));
            continue;
        }
        for block in inner(&mut statement) {
            *block = without_loops(block, turns);
        }
        kept.push(statement, span);
    }
    kept
}

/// Counts words of storage that code touches.
struct Memory<'m> {
    module: &'m Module,
    known: HashMap<Handle<Function>, f64>,
}

impl Memory<'_> {
    fn words(&mut self, function: &Function, block: &Block) -> f64 {
        let mut words = 0.0;
        for statement in block.iter() {
            words += match statement {
                Statement::Emit(range) => range.clone().filter(|handle| self.is_load(function, *handle)).count() as f64,
                Statement::Store { pointer, .. } if self.is_storage(function, *pointer) => 1.0,
                Statement::Call { function: callee, .. } => self.of_function(*callee),
                Statement::Block(block) => self.words(function, block),
                Statement::Loop { body, continuing, .. } => {
                    self.words(function, body) + self.words(function, continuing)
                }
                Statement::If { accept, reject, .. } => self.words(function, accept) + self.words(function, reject),
                Statement::Switch { cases, .. } => {
                    cases.iter().map(|case| self.words(function, &case.body)).fold(0.0, f64::max)
                }
                _ => 0.0,
            };
        }
        words
    }

    /// Without what its loops do: their turns are counted apart.
    fn of_function(&mut self, callee: Handle<Function>) -> f64 {
        if let Some(words) = self.known.get(&callee) {
            return *words;
        }
        let function = &self.module.functions[callee];
        let words = self.words(function, &without_loops(&function.body, &mut Vec::new()));
        self.known.insert(callee, words);
        words
    }

    fn is_load(&self, function: &Function, handle: Handle<Expression>) -> bool {
        matches!(function.expressions[handle], Expression::Load { pointer } if self.is_storage(function, pointer))
    }

    fn is_storage(&self, function: &Function, mut pointer: Handle<Expression>) -> bool {
        loop {
            match function.expressions[pointer] {
                Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => pointer = base,
                Expression::GlobalVariable(variable) => {
                    // Tables and the shape are the same for all lanes.
                    let variable = &self.module.global_variables[variable];
                    return variable.name.as_deref() == Some("words");
                }
                _ => return false,
            }
        }
    }
}

// ---- What a piece costs
// ------------------------------------------------------------------------------------------------------

fn cost(
    driver: &Driver,
    probes: &Probes,
    module: &Module,
    pieces: &Pieces,
    piece: &Piece,
    waves: f64,
) -> Result<Cost, Failure> {
    if let Piece::Pass { states, .. } = piece {
        let cycles = f64::from(*states) * probes.passed;
        return Ok(Cost { busy: cycles, cycles, instructions: 0.0 });
    }
    let times = |times: usize| -> Result<(f64, f64, f64), Failure> {
        let module = match piece {
            Piece::Pass { .. } => unreachable!("returned above"),
            Piece::State { block, .. } => reduced(module, block, times),
            Piece::Turn { turn, .. } => reduced(module, turn, times),
            Piece::Prelude { function, .. } => reduced(module, &call_of(pieces, *function), times),
        };
        let of = driver.compile(&module, Capabilities::SHADER_INT64, false);
        let of = of.map_err(|why| format!("{} cannot be compiled alone: {why}", piece.name()))?;
        Ok((of.of("Inverse Throughput"), of.of("Latency"), of.of("Instructions")))
    };
    let (once, twice) = (times(1)?, times(2)?);
    let turns = if let Piece::State { .. } = piece { 1.0 } else { probes.turns };
    let busy = (twice.0 - once.0).max(0.0) / turns;
    let cycles = busy.max((twice.1 - once.1) / waves / turns);
    Ok(Cost { busy, cycles, instructions: twice.2 - once.2 })
}

/// What a piece costs a wave.
#[derive(Clone, Copy)]
struct Cost {
    /// Cycles for which it keeps a SIMD busy.
    busy: f64,
    /// Those, or its latency shared among the waves there are.
    cycles: f64,
    instructions: f64,
}

/// Cycles for which a wave of 64 lanes keeps a SIMD of RDNA3 busy with one instruction of a kind that is done at full
/// rate.
const INSTRUCTION_CYCLES: f64 = 2.0;

/// A call of a function, as it stands somewhere in the machine.
fn call_of(pieces: &Pieces, wanted: Handle<Function>) -> Block {
    fn find(block: &Block, wanted: Handle<Function>) -> Option<Block> {
        let mut before = Block::new();
        for statement in block.iter() {
            if matches!(statement, Statement::Call { function, .. } if *function == wanted) {
                before.push(statement.clone(), Span::UNDEFINED);
                return Some(before);
            }
            for block in inner(&mut statement.clone()) {
                if let Some(found) = find(block, wanted) {
                    before.extend_block(found);
                    return Some(before);
                }
            }
            if !matches!(statement, Statement::If { .. } | Statement::Switch { .. } | Statement::Loop { .. }) {
                before.push(statement.clone(), Span::UNDEFINED);
            }
        }
        None
    }
    let states = pieces.all.iter().filter_map(|piece| match piece {
        Piece::State { block, .. } => Some(block),
        _ => None,
    });
    states.into_iter().find_map(|block| find(block, wanted)).unwrap_or_default()
}

/// A kernel that does nothing but a block, so many times: variables come from the lane's registers and go there.
fn reduced(module: &Module, block: &Block, times: usize) -> Module {
    let mut module = module.clone();
    let names = functions(&module);
    let mut main = std::mem::take(&mut module.entry_points[0].function);
    // The block becomes a function, since no expression may be computed in two places.
    let shared = share(&mut module, &mut main, block);
    let piece = Function { body: block.clone(), expressions: main.expressions.clone(), ..Function::default() };
    let piece = module.functions.append(piece, Span::UNDEFINED);
    let mut all: Vec<Statement> = main.body.iter().cloned().collect();
    all.pop();
    let add = |main: &mut Function, expression| main.expressions.append(expression, Span::UNDEFINED);
    let mut behind = Vec::new();
    for (number, global) in shared.into_iter().enumerate() {
        let is_wide =
            matches!(&module.types[module.global_variables[global].ty].inner, TypeInner::Scalar(s) if s.width == 8);
        let pointer = add(&mut main, Expression::GlobalVariable(global));
        let mut halves = Vec::new();
        for half in 0..if is_wide { 2 } else { 1 } {
            let at = add(&mut main, Expression::Literal(Literal::U32(100 + 2 * number as u32 + half)));
            let word = add(&mut main, Expression::CallResult(names["header_word"]));
            let function = names["header_word"];
            all.push(Statement::Call { function, arguments: vec![at], result: Some(word) });
            halves.push((at, word));
        }
        let value = if is_wide {
            let value = add(&mut main, Expression::CallResult(names["wide"]));
            let arguments = halves.iter().map(|(_, word)| *word).collect();
            all.push(Statement::Call { function: names["wide"], arguments, result: Some(value) });
            value
        } else {
            halves[0].1
        };
        all.push(Statement::Store { pointer, value });
        let now = add(&mut main, Expression::Load { pointer });
        behind.push(Statement::Emit(naga::Range::new_from_bounds(now, now)));
        for (half, (at, _)) in halves.into_iter().enumerate() {
            let word = if is_wide {
                let function = names[["wide_low", "wide_high"][half]];
                let word = add(&mut main, Expression::CallResult(function));
                behind.push(Statement::Call { function, arguments: vec![now], result: Some(word) });
                word
            } else {
                now
            };
            behind.push(Statement::Call {
                function: names["set_header_word"],
                arguments: vec![at, word],
                result: None,
            });
        }
    }
    let run = Statement::Call { function: piece, arguments: Vec::new(), result: None };
    all.extend(std::iter::repeat_n(run, times));
    all.extend(behind);
    all.push(Statement::Call { function: names["pause"], arguments: Vec::new(), result: None });
    // What the block did to the lane counts: it is kept.
    for (at, name) in (64..).zip(["status", "pages", "dirty", "spent", "depth", "gas"]) {
        let named = |(_, variable): &(_, &naga::GlobalVariable)| variable.name.as_deref() == Some(name);
        let Some((global, _)) = module.global_variables.iter().find(named) else { continue };
        let pointer = add(&mut main, Expression::GlobalVariable(global));
        let value = add(&mut main, Expression::Load { pointer });
        all.push(Statement::Emit(naga::Range::new_from_bounds(value, value)));
        let mut words = vec![value];
        if name == "gas" {
            words = Vec::new();
            for function in ["wide_low", "wide_high"].map(|name| names[name]) {
                let word = add(&mut main, Expression::CallResult(function));
                all.push(Statement::Call { function, arguments: vec![value], result: Some(word) });
                words.push(word);
            }
        }
        for (at, word) in (at..).zip(words) {
            let at = add(&mut main, Expression::Literal(Literal::U32(at)));
            let function = names["set_header_word"];
            all.push(Statement::Call { function, arguments: vec![at, word], result: None });
        }
    }
    main.body = Block::from_vec(all);
    module.entry_points[0].function = main;
    naga::compact::compact(&mut module, naga::compact::KeepUnused::No);
    module
}

/// Makes the variables that a block shares with the entry point the lane's, so that functions see them.
fn share(module: &mut Module, main: &mut Function, block: &Block) -> Vec<Handle<GlobalVariable>> {
    let mut shared = HashMap::new();
    let mut all = Vec::new();
    for variable in variables(main, block) {
        let global = private(module, main.local_variables[variable].ty);
        shared.insert(variable, global);
        all.push(global);
    }
    for (_, expression) in main.expressions.iter_mut() {
        if let Expression::LocalVariable(variable) = expression
            && let Some(global) = shared.get(variable)
        {
            *expression = Expression::GlobalVariable(*global);
        }
    }
    all
}

fn private(module: &mut Module, ty: Handle<Type>) -> Handle<GlobalVariable> {
    let private = GlobalVariable {
        name: None,
        space: naga::AddressSpace::Private,
        binding: None,
        ty,
        init: None,
        memory_decorations: naga::MemoryDecorations::empty(),
    };
    module.global_variables.append(private, Span::UNDEFINED)
}

/// A turn of a state's loop in the whole kernel, with the registers that are left there and what is spilled for the
/// want of them: its latency, and its instructions. Both are what the kernel has more with the loop twice.
fn turn_in_whole(
    driver: &Driver,
    probes: &Probes,
    module: &Module,
    (path, conditions): (&Path, i32),
    turn: &Block,
) -> Result<(f64, f64), Failure> {
    let cost = |times: usize| -> Result<(f64, f64), Failure> {
        let of = driver.compile(&whole_with(module, path, turn, times), Capabilities::SHADER_INT64, false)?;
        Ok((of.of("Latency"), of.of("Instructions")))
    };
    let (once, twice) = (cost(1)?, cost(2)?);
    let loops = probes.turns_within * probes.deeper.powi(path.len() as i32 - 1);
    // Whether the lane runs at all is a condition too.
    let counted = loops * probes.conditional.powi(1 + conditions);
    Ok(((twice.0 - once.0) / counted, twice.1 - once.1))
}

/// The body of the loop over states that a path ends in, and which of its statements is meant.
fn at<'b>(mut body: &'b mut Block, path: &Path) -> (&'b mut Block, usize) {
    let (last, loops) = path.split_last().expect("a state is somewhere");
    for number in loops {
        let Some(Statement::Loop { body: within, .. }) = body.get_mut(*number) else { panic!("a loop over states") };
        body = within;
    }
    (body, *last)
}

/// How many conditions a loop is under, in a statement that holds one.
fn conditions_above_loop(statement: &Statement) -> Option<i32> {
    let within = |block: &Block| block.iter().find_map(conditions_above_loop);
    match statement {
        Statement::Loop { .. } => Some(0),
        Statement::Block(block) => within(block),
        Statement::If { accept, reject, .. } => within(accept).or_else(|| within(reject)).map(|above| above + 1),
        _ => None,
    }
}

/// The whole kernel with a state's loop so many times.
fn whole_with(module: &Module, path: &Path, turn: &Block, times: usize) -> Module {
    let mut module = module.clone();
    let mut main = std::mem::take(&mut module.entry_points[0].function);
    share(&mut module, &mut main, turn);
    let piece = Function { body: turn.clone(), expressions: main.expressions.clone(), ..Function::default() };
    let piece = module.functions.append(piece, Span::UNDEFINED);
    let run = Statement::Call { function: piece, arguments: Vec::new(), result: None };
    let mut body = std::mem::take(&mut main.body);
    let (around, last) = at(machine_mut(&mut body), path);
    if let Some(Statement::If { accept, .. }) = around.get_mut(last) {
        replace_loops(accept, &vec![run; times]);
    }
    main.body = body;
    module.entry_points[0].function = main;
    naga::compact::compact(&mut module, naga::compact::KeepUnused::No);
    module
}

fn replace_loops(block: &mut Block, with: &[Statement]) {
    for statement in block.iter_mut() {
        if let Statement::Loop { .. } = statement {
            *statement = Statement::Block(Block::from_vec(with.to_vec()));
        } else {
            inner(statement).into_iter().for_each(|block| replace_loops(block, with));
        }
    }
}

/// Variables that a block reads or writes.
fn variables(function: &Function, block: &Block) -> BTreeSet<Handle<LocalVariable>> {
    let variable = |pointer: Handle<Expression>| match function.expressions[pointer] {
        Expression::LocalVariable(variable) => Some(variable),
        _ => None,
    };
    let mut found = BTreeSet::new();
    for statement in block.iter() {
        match statement {
            Statement::Emit(range) => {
                found.extend(range.clone().filter_map(|handle| match function.expressions[handle] {
                    Expression::Load { pointer } => variable(pointer),
                    _ => None,
                }))
            }
            Statement::Store { pointer, .. } => found.extend(variable(*pointer)),
            Statement::Loop { body, .. } => found.extend(variables(function, body)),
            other => {
                for block in inner(&mut other.clone()) {
                    found.extend(variables(function, block));
                }
            }
        }
    }
    found
}

// ---- How often it runs
// -------------------------------------------------------------------------------------------------------

/// Where counters begin: behind the 128 KiB that shipped processes have.
const COUNTERS_BYTE: u32 = 131_072;

/// A kernel with counters, on an adapter that computes.
struct Counting {
    compiled: std::sync::Arc<Compiled>,
    memory: Vec<u8>,
    globals: Vec<u64>,
    environment: String,
    counters: usize,
}

impl Counting {
    fn new(device: &Device, mut kernel: Kernel, program: &Program, counters: usize) -> Result<Counting, Failure> {
        let module = Engine::new(EngineSettings::default())?.load(program.wasm, ModuleFormat::Emscripten4)?;
        // Globals are as declared: shipped processes have no start that changes them.
        let (memory, globals) = (Instance::new(&module)?.memory().to_vec(), kernel.initial_globals.clone());
        if memory.len() != COUNTERS_BYTE as usize {
            return Err(format!("{} bytes of memory, not {COUNTERS_BYTE}", memory.len()).into());
        }
        kernel.pages_max += 1;
        let compiled = Compiled::new(device, kernel).map_err(|why| why.to_string())?;
        Ok(Counting { compiled, memory, globals, environment: program.environment(), counters })
    }

    /// The counters after a message, of one lane.
    fn of(&self, before: Option<&str>, message: &str) -> Result<Vec<f64>, Failure> {
        let longest = before.unwrap_or_default().len().max(message.len()) + self.environment.len();
        let shape = self.compiled.shape((longest / 4 + 4) as u32, 2048, 3);
        let group = Group::new(&self.compiled, shape, TILE_LANES, &self.memory)?;
        let mut last = vec![0.0; self.counters];
        let mut counts = last.clone();
        for message in before.into_iter().chain([message]) {
            let (words, arguments) = inbox(message, &self.environment);
            let call = lockstep_jit::lanes::Call {
                lane: 0,
                entry: "lockstep.turn",
                arguments: &arguments,
                globals: &self.globals,
                pages: 2,
                inbox: &words,
            };
            let returned = group.run(&[call], Instant::now() + Duration::from_secs(120))?;
            if returned[0].ending != Ending::Done {
                return Err(format!("the lane that counts has ended: {}", returned[0].ending).into());
            }
            let bytes = &group.read_memory(&[(0, COUNTERS_BYTE, 4 * self.counters as u32)])?[0];
            let now: Vec<f64> = bytes
                .chunks_exact(4)
                .map(|word| f64::from(u32::from_le_bytes(word.try_into().expect("four bytes"))))
                .collect();
            counts = now.iter().zip(&last).map(|(now, last)| now - last).collect();
            last = now;
        }
        Ok(counts)
    }
}

/// Both texts with their NULs, each from a word on, and what says so: as `lanes` passes a message.
fn inbox(message: &str, environment: &str) -> (Vec<u32>, Vec<u64>) {
    let mut words: Vec<u32> = Vec::new();
    let mut starts = Vec::new();
    for text in [message, environment] {
        starts.push(words.len() as u64);
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() / 4 * 4 + 4, 0);
        words.extend(bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))));
    }
    let sizes = [message, environment].map(|text| text.len() as u64 + 1);
    // The loader's stack allocation takes room for four bytes a character: it does not change what is counted.
    (words, vec![sizes[0], sizes[1], sizes[0], sizes[1], starts[1]])
}
