//! Rewritten functions against what they were: natively, and in lanes.

use wasm_encoder::reencode::{Error, Reencode};
use wasmparser::FunctionBody;

use super::*;
use crate::lanes::{
    Bail, Ending, Form, Frames, Integers, Kernel, Trust,
    differential::{Both, forms},
    program::Program,
    tests::device,
};

/// Writes a module with the functions that a program has now. Gas is counted in global 2; a lane that would hand its
/// message back sets global 1 and traps.
struct Rewritten<'p, 'a> {
    program: &'p Program<'a>,
    next: usize,
}

impl Reencode for Rewritten<'_, '_> {
    type Error = std::convert::Infallible;

    fn parse_function_body(
        &mut self,
        code: &mut wasm_encoder::CodeSection,
        _: FunctionBody<'_>,
    ) -> Result<(), Error<Self::Error>> {
        use wasm_encoder::{BlockType, Instruction as I};
        let function = &self.program.functions[self.next];
        self.next += 1;
        let params = self.program.types[function.ty as usize].params().len();
        let mut locals = Vec::new();
        for ty in &function.locals[params..] {
            locals.push((1, self.val_type(*ty)?));
        }
        let mut body = wasm_encoder::Function::new(locals);
        for (op, charge) in &function.ops {
            if *charge > 0 {
                for op in [I::GlobalGet(2), I::I64Const(*charge as i64), I::I64Add, I::GlobalSet(2)] {
                    body.instruction(&op);
                }
            }
            match op {
                Operator::Call { function_index: GUARD } => {
                    for op in [I::If(BlockType::Empty), I::I32Const(1), I::GlobalSet(1), I::Unreachable, I::End] {
                        body.instruction(&op);
                    }
                }
                op => {
                    body.instruction(&self.instruction(op.clone())?);
                }
            }
        }
        code.function(&body);
        Ok(())
    }
}

fn encoded(program: &Program<'_>, wasm: &[u8]) -> Vec<u8> {
    let mut module = wasm_encoder::Module::new();
    Rewritten { program, next: 0 }.parse_core_module(&mut module, wasmparser::Parser::new(0), wasm).unwrap();
    module.finish()
}

/// A module before and after.
struct Twins {
    wasm: Vec<u8>,
    engine: wasmtime::Engine,
    modules: [wasmtime::Module; 2],
    is_changed: bool,
    accesses: [u32; 2],
}

#[derive(Debug, PartialEq)]
struct Seen {
    ended: Result<(), String>,
    gas: i64,
    pointer: i32,
    memory: Vec<u8>,
}

impl Twins {
    fn new(wat: &str) -> Twins {
        let wasm = wat::parse_str(wat).unwrap();
        let mut program = Program::read(&wasm, true).unwrap();
        let accesses = |program: &Program<'_>| {
            let ops = program.functions.iter().flat_map(|function| &function.ops);
            ops.map(|(op, _)| crate::lanes::plan::accesses(op)).sum()
        };
        let engine = wasmtime::Engine::default();
        let module = |program: &Program<'_>| wasmtime::Module::new(&engine, encoded(program, &wasm)).unwrap();
        let (before, accesses_before) = (module(&program), accesses(&program));
        let is_changed = promote(&mut program);
        let (after, accesses_after) = (module(&program), accesses(&program));
        let (modules, accesses) = ([before, after], [accesses_before, accesses_after]);
        Twins { modules, accesses, is_changed, wasm: wasm.clone(), engine }
    }

    /// What `run` comes to, and whether the lane would have handed it back.
    fn run(&self, which: usize, pointer: i32, arguments: [i32; 2]) -> (Seen, bool) {
        let mut store = wasmtime::Store::new(&self.engine, ());
        let instance = wasmtime::Instance::new(&mut store, &self.modules[which], &[]).unwrap();
        let [stack, bailed, gas] =
            ["stack", "bailed", "gas"].map(|name| instance.get_global(&mut store, name).unwrap());
        stack.set(&mut store, wasmtime::Val::I32(pointer)).unwrap();
        let run = instance.get_typed_func::<(i32, i32), ()>(&mut store, "run").unwrap();
        let ended = run.call(&mut store, arguments.into()).map_err(|e| e.root_cause().to_string());
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        // Nothing of what traps is kept.
        let memory = if ended.is_ok() { memory.data(&store).to_vec() } else { Vec::new() };
        let pointer = if ended.is_ok() { stack.get(&mut store).unwrap_i32() } else { 0 };
        let gas = gas.get(&mut store).unwrap_i64();
        (Seen { ended, gas, pointer, memory }, bailed.get(&mut store).unwrap_i32() != 0)
    }

    /// Whether both do the same, or it would be handed back.
    fn agree(&self, pointer: i32, arguments: [i32; 2]) -> bool {
        let (before, after) = (self.run(0, pointer, arguments), self.run(1, pointer, arguments));
        if !after.1 {
            assert!(
                before.0 == after.0,
                "{pointer} {arguments:x?}: {:?} {} {}, rewritten {:?} {} {}",
                before.0.ended,
                before.0.gas,
                before.0.pointer,
                after.0.ended,
                after.0.gas,
                after.0.pointer
            );
        }
        !after.1
    }
}

/// A module around functions; memory is filled so that stale bytes show.
fn module(stack: i32, functions: &str) -> String {
    let bytes: String = (0..65_536u32).map(|at| format!("\\{:02x}", (at.wrapping_mul(167) >> 3) & 0xff)).collect();
    format!(
        r#"(module (memory (export "memory") 1 1)
             (global $sp (export "stack") (mut i32) (i32.const {stack}))
             (global (export "bailed") (mut i32) (i32.const 0)) (global (export "gas") (mut i64) (i64.const 0))
             (data (i32.const 0) "{bytes}") {functions})"#
    )
}

/// A frame of so many bytes around statements, as clang writes it.
fn with_frame(bytes: u32, statements: &str) -> String {
    format!(
        r#"(func $run (export "run") (param $n i32) (param $p i32)
             (local $fp i32) (local $i i32) (local $j i32) (local $t i32) (local $w i64)
             (global.set $sp (local.tee $fp (i32.sub (global.get $sp) (i32.const {bytes}))))
             {statements}
             (global.set $sp (i32.add (local.get $fp) (i32.const {bytes}))))"#
    )
}

/// The SHA-256 schedule's shape: an array filled, extended and summed, turn after turn.
const SCHEDULE: &str = r#"
  (loop $again
    (local.set $i (i32.const 0))
    (loop $fill
      (i32.store (i32.add (local.get $fp) (local.get $i)) (i32.load (i32.add (local.get $p) (local.get $i))))
      (br_if $fill (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 64))))
    (local.set $i (i32.const 0))
    (loop $extend
      (i32.store offset=64 (local.tee $j (i32.add (local.get $fp) (local.get $i)))
        (i32.add (i32.rotl (i32.load (local.get $j)) (i32.const 7)) (i32.load offset=36 (local.get $j))))
      (br_if $extend (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 64))))
    (local.set $i (i32.const 0))
    (block $summed (loop $sum
      (local.set $t (i32.add (local.get $t) (i32.load (i32.add (i32.or (local.get $fp) (i32.const 4)) (local.get $i)))))
      (br_if $summed (i32.eq (local.get $i) (i32.const 120)))
      (local.set $i (i32.add (local.get $i) (i32.const 4)))
      (br $sum)))
    (i32.store8 offset=127 (local.get $fp) (local.get $t))
    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
  (i32.store (i32.const 0) (local.get $t))"#;

#[test]
fn a_schedule_is_kept_in_locals_and_memory_is_as_it_would_be() {
    let twins = Twins::new(&module(1024, &with_frame(128, SCHEDULE)));
    assert!(twins.is_changed);
    for n in [1, 2, 7] {
        for at in [1024, 2000, 65_472, 65_476, 0, 768, 829, 832] {
            assert!(twins.agree(1024, [n, at]), "{n} {at}");
        }
        // What is read may be the frame itself.
        for at in [833, 836, 895, 896, 1000, 1023] {
            assert!(!twins.agree(1024, [n, at]), "{n} {at}");
        }
        assert!(twins.agree(1024, [n, 1024]));
    }
}

#[test]
fn frames_are_at_either_end_of_memory_or_the_message_is_handed_back() {
    let twins = Twins::new(&module(1024, &with_frame(128, SCHEDULE)));
    assert!(twins.is_changed);
    for (pointer, stays) in
        [(65_536, true), (128, true), (112, false), (65_552, false), (0, false), (-16, false), (1028, false)]
    {
        assert_eq!(twins.agree(pointer, [3, 4096]), stays, "{pointer}");
    }
}

#[test]
fn a_callee_that_keeps_the_stack_pointer_is_handed_back() {
    let keeps = r#"(func $keep (global.set $sp (i32.sub (global.get $sp) (i32.const 16))))"#;
    let functions = format!("{keeps} {}", with_frame(128, &format!("(call $keep) {SCHEDULE}")));
    let twins = Twins::new(&module(1024, &functions));
    assert!(twins.is_changed);
    assert!(!twins.agree(1024, [1, 4096]));
}

#[test]
fn functions_that_may_be_active_twice_are_left_as_they_are() {
    let again = format!(
        "(if (i32.gt_s (local.get $n) (i32.const 4)) (then (call $run (i32.const 2) (i32.const 0)))) {SCHEDULE}"
    );
    assert!(!Twins::new(&module(1024, &with_frame(128, &again))).is_changed);
    let indirect = format!("(call_indirect (i32.const 0)) {SCHEDULE}");
    let table = "(table 1 funcref) (elem (i32.const 0) $other) (func $other (call $run (i32.const 2) (i32.const 0)))";
    assert!(!Twins::new(&module(1024, &format!("{table} {}", with_frame(128, &indirect)))).is_changed);
    // An indirect call that does not come back is none of these.
    let table = "(table 1 funcref) (elem (i32.const 0) $other) (func $other)";
    let twins = Twins::new(&module(1024, &format!("{table} {}", with_frame(128, &indirect))));
    assert!(twins.is_changed && twins.agree(1024, [3, 4096]));
}

#[test]
fn what_cannot_be_followed_is_left_as_it_is() {
    for (why, statements) in [
        (
            "an index that only the argument knows",
            "(loop $l (i32.store (i32.add (local.get $fp) (local.get $p)) (i32.load (local.get $fp)))
               (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))",
        ),
        (
            "words that overlap",
            "(loop $l (i32.store offset=2 align=2 (local.get $fp) (i32.load (local.get $fp)))
               (i32.store (local.get $fp) (i32.const 1))
               (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))",
        ),
        (
            "a call that may write anywhere",
            "(loop $l (call_indirect (i32.const 0))
               (i32.store (local.get $fp) (i32.load (local.get $fp)))
               (i32.store (local.get $fp) (i32.const 1))
               (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))",
        ),
        (
            "memory that is moved",
            "(loop $l (memory.copy (local.get $p) (local.get $fp) (i32.const 8))
               (i32.store (local.get $fp) (i32.load (local.get $fp)))
               (i32.store (local.get $fp) (i32.const 1))
               (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))",
        ),
    ] {
        let twins = Twins::new(&module(1024, &format!("(table 1 funcref) {}", with_frame(64, statements))));
        assert!(!twins.is_changed, "{why}");
    }
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(n)) as u32
    }

    /// An aligned access of the frame or of what `$p` points to.
    fn address(&mut self, bytes: u32) -> (String, u32) {
        let base = ["$fp", "$fp", "$fp", "$fp", "$fp", "$p"][self.below(6) as usize];
        (format!("(local.get {base})"), self.below(48 / bytes) * bytes)
    }

    fn statement(&mut self, depth: u32) -> String {
        let t = |value: &str| format!("(local.set $t (i32.add (i32.rotl (local.get $t) (i32.const 5)) {value}))");
        let w = |value: &str| format!("(local.set $w (i64.add (i64.rotl (local.get $w) (i64.const 9)) {value}))");
        match self.below(if depth < 3 { 12 } else { 8 }) {
            0 | 1 => {
                let (op, bytes) = [("load", 4), ("load8_s", 1), ("load8_u", 1), ("load16_s", 2), ("load16_u", 2)]
                    [self.below(5) as usize];
                let (at, offset) = self.address(bytes);
                t(&format!("(i32.{op} offset={offset} {at})"))
            }
            2 => {
                let (op, bytes) = [("load", 8), ("load8_s", 1), ("load16_u", 2), ("load32_s", 4), ("load32_u", 4)]
                    [self.below(5) as usize];
                let (at, offset) = self.address(bytes);
                // Two words need no more than a word's alignment.
                let at = if bytes == 8 { format!("(i32.add {at} (i32.const 4))") } else { at };
                w(&format!("(i64.{op} offset={offset} {} {at})", if bytes == 8 { "align=4" } else { "" }))
            }
            3 | 4 => {
                let (op, bytes) = [("store", 4), ("store8", 1), ("store16", 2)][self.below(3) as usize];
                let (at, offset) = self.address(bytes);
                format!("(i32.{op} offset={offset} {at} (local.get $t))")
            }
            5 => {
                let (op, bytes) = [("store", 8), ("store8", 1), ("store16", 2), ("store32", 4)][self.below(4) as usize];
                let (at, offset) = self.address(bytes);
                format!("(i64.{op} offset={offset} {at} (local.get $w))")
            }
            6 => {
                let (at, offset) = self.address(8);
                match self.below(4) {
                    0 => format!("(f32.store offset={offset} {at} (f32.reinterpret_i32 (local.get $t)))"),
                    1 => format!("(f64.store offset={offset} {at} (f64.reinterpret_i64 (local.get $w)))"),
                    2 => t(&format!("(i32.reinterpret_f32 (f32.load offset={offset} {at}))")),
                    _ => w(&format!("(i64.reinterpret_f64 (f64.load offset={offset} {at}))")),
                }
            }
            7 => {
                format!("(br_if $out (i32.eq (i32.and (local.get $t) (i32.const 63)) (i32.const {})))", self.below(64))
            }
            8 => {
                let (then, other) = (self.statements(depth + 1, 2), self.statements(depth + 1, 1));
                let condition = format!("(i32.and (local.get $t) (i32.const {}))", 1 << self.below(8));
                format!("(if {condition} (then {then}) (else {other}))")
            }
            9 => format!("(call $leaf (i32.add (local.get $fp) (i32.const {})) (local.get $t))", 4 * self.below(8)),
            // Loops over an array, as clang writes them.
            _ => {
                let counter = if depth.is_multiple_of(2) { "$i" } else { "$j" };
                let (step, turns) = (1 << self.below(3), 1 + self.below(9));
                let (first, last) = (4 * self.below(3), step * turns);
                let element = format!("(i32.add (i32.add (local.get $fp) (i32.const {first})) (local.get {counter}))");
                let access = match step {
                    4 => format!("(i32.store {element} (i32.add (i32.load offset=4 {element}) (local.get $t)))"),
                    2 => format!("(i32.store16 {element} (i32.load16_u offset=2 {element}))"),
                    _ => format!(
                        "(i32.store8 {element} (i32.add (i32.load8_u offset=1 {element}) (local.get {counter})))"
                    ),
                };
                let more = if self.below(3) == 0 { self.statements(3, 1) } else { String::new() };
                let next = format!("(local.tee {counter} (i32.add (local.get {counter}) (i32.const {step})))");
                let begin = format!("(local.set {counter} (i32.const 0))");
                if self.below(2) == 0 {
                    format!("{begin} (loop $l {access} {more} (br_if $l (i32.ne {next} (i32.const {last}))))")
                } else {
                    format!(
                        "{begin} (block $b (loop $l {access} (br_if $b (i32.ge_u {next} (i32.const {last}))) {more} (br $l)))"
                    )
                }
            }
        }
    }

    fn statements(&mut self, depth: u32, count: u32) -> String {
        (0..count).map(|_| self.statement(depth)).collect::<Vec<_>>().join("\n")
    }

    /// A loop with branches out of it, and a function that it calls.
    fn functions(&mut self) -> String {
        let (count, step) = (4 + self.below(8), self.below(3));
        let body = self.statements(0, count);
        let statements = format!(
            r#"(local.set $t (local.get $p))
               (i32.store offset=8 (local.get $fp) (local.get $n)) (i64.store offset=16 (local.get $fp) (i64.const -3))
               (block $past (block $out
                 (loop $again {body}
                   (br_if $past (i32.eq (local.get $t) (i32.const {step})))
                   (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                 (i32.store offset=4 (local.get $fp) (i32.const 77)))
               (i32.store offset=12 (local.get $fp) (local.get $t)))
               (i32.store (i32.const 64) (local.get $t)) (i64.store (i32.const 72) (local.get $w))"#
        );
        let leaf = r#"(func $leaf (param $a i32) (param $b i32) (local $fp i32) (local $k i32)
            (global.set $sp (local.tee $fp (i32.sub (global.get $sp) (i32.const 32))))
            (loop $l
              (i32.store (i32.add (local.get $fp) (local.get $k))
                (i32.add (local.get $b) (i32.load (i32.add (local.get $a) (local.get $k)))))
              (br_if $l (i32.ne (local.tee $k (i32.add (local.get $k) (i32.const 4))) (i32.const 16))))
            (if (i32.and (local.get $b) (i32.const 1)) (then
              (i32.store offset=4 (local.get $a) (i32.load offset=8 (local.get $fp)))))
            (global.set $sp (i32.add (local.get $fp) (i32.const 32))))"#;
        format!("{leaf} {}", with_frame(96, &statements))
    }
}

#[test]
fn functions_that_nobody_wrote_do_the_same_with_their_frames_in_locals() {
    let count = std::env::var("LOCKSTEP_FUZZ_FRAMES").map_or(400, |n| n.parse().unwrap());
    let (mut changed, mut stayed, mut handed_back) = (0, 0, 0);
    for seed in 0..count {
        let mut random = Random(seed);
        let twins = Twins::new(&module(4096, &random.functions()));
        changed += u64::from(twins.is_changed);
        assert!(twins.accesses[1] <= twins.accesses[0] + 40, "{seed}: {:?}", twins.accesses);
        if !twins.is_changed {
            continue;
        }
        for (pointer, p) in [
            (4096, 8192),
            (4096, 4096),
            (4096, 4000 + random.below(90) as i32),
            (4096, 65_500),
            (65_536, 128),
            (128, 4096),
            (4100, 8192),
            (16, 8192),
        ] {
            for n in [1, 2, 5] {
                if twins.agree(pointer, [n, p]) { stayed += 1 } else { handed_back += 1 }
            }
        }
    }
    eprintln!("{count} functions, {changed} rewritten; {stayed} calls, and {handed_back} handed back");
    assert!(5 * changed > 2 * count && stayed > 5 * changed && handed_back > 2 * changed);
}

#[test]
fn functions_that_nobody_wrote_do_the_same_in_lanes() {
    let Some(device) = device() else { return };
    let mut promoted = 0;
    for seed in (0..).filter(|seed| Twins::new(&module(4096, &Random(*seed).functions())).is_changed).take(8) {
        for stack in [4096, 65_536] {
            let twins = Twins::new(&module(stack, &Random(seed).functions()));
            let both = Both::new(&twins.wasm, true);
            let calls: Vec<_> = [1u64, 2, 5]
                .iter()
                .flat_map(|n| [8192, 8193, 4096, 4040, 65_532, 65_472].map(|p| vec![*n, p]))
                .collect();
            let bailed = both.agree(&device, "run", &calls);
            promoted += 2 * calls.len() - bailed;
        }
    }
    assert!(promoted > 200, "{promoted} calls stayed in their lanes");
}

/// A loop over a table of constants, which a function writes to if it is told so.
const TABLE: &str = r#"
  (func $poke (param $at i32) (param $value i32) (i32.store8 (local.get $at) (local.get $value)))
  (func (export "run") (param $n i32) (param $p i32) (local $fp i32) (local $i i32) (local $t i32)
    (global.set $sp (local.tee $fp (i32.sub (global.get $sp) (i32.const 32))))
    (loop $again
      (local.set $i (i32.const 0))
      (loop $sum
        (i32.store (i32.add (local.get $fp) (local.get $i))
          (i32.add (i32.load (i32.add (local.get $fp) (local.get $i)))
            (i32.xor (local.get $t) (i32.load offset=512 (local.get $i)))))
        (local.set $t (i32.add (local.get $t) (i32.load16_s offset=544 (local.get $i))))
        (br_if $sum (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 32))))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (call $poke (local.get $p) (local.get $t))
    (global.set $sp (i32.add (local.get $fp) (i32.const 32))))"#;

#[test]
fn constants_are_compiled_in_and_messages_that_write_there_are_handed_back() {
    let Some(device) = device() else { return };
    let wat = module(4096, TABLE);
    let twins = Twins::new(&wat);
    assert!(twins.is_changed);
    let program = {
        let mut program = Program::read(&twins.wasm, true).unwrap();
        assert!(promote(&mut program));
        program.constant_words().unwrap()
    };
    assert_eq!((program.0, program.1.len()), (512, 16));
    let both = Both::new(&twins.wasm, true);
    let (before, _) = both.native("run", &[1, 0]);
    let form = Form { integers: Integers::Pairs, trust: Trust::FULL };
    let places = [511, 512, 540, 575, 576, 8192];
    let calls: Vec<_> = places.iter().map(|at| ("run", vec![3, *at])).collect();
    let lanes = both.lanes(&device, form, &before, &calls).unwrap();
    for ((at, (_, arguments)), (ending, lane)) in places.iter().zip(&calls).zip(lanes) {
        if (512..576).contains(at) {
            assert_eq!(ending, Ending::Bail(Bail::Constants), "{at}");
        } else {
            let (_, native) = both.native("run", arguments);
            assert!(ending == Ending::Done && lane == native, "{at}: {ending}");
        }
    }
    // A memory in which a constant is another.
    let mut changed = before;
    changed.memory[560] ^= 1;
    let lanes = both.lanes(&device, form, &changed, &calls).unwrap();
    assert!(lanes.iter().all(|(ending, _)| *ending == Ending::Bail(Bail::Constants)));
}

#[test]
fn what_is_handed_back_for_its_frames_or_constants_is_done_in_lanes_that_leave_them_in_memory() {
    let Some(device) = device() else { return };
    let schedule = with_frame(128, SCHEDULE);
    // What is read is the frame itself; what is written is among the constants.
    for (stack, functions, arguments, bail) in
        [(1024, &*schedule, [3, 836], Bail::Frame), (4096, TABLE, [3, 540], Bail::Constants)]
    {
        let both = Both::new(&wat::parse_str(module(stack, functions)).unwrap(), true);
        let (before, native) = both.native("run", &arguments);
        let calls = vec![("run", arguments.to_vec()); 3];
        for integers in forms(&device) {
            let lanes = |frames| {
                let form = Form { integers, trust: Trust { frames, ..Trust::FULL } };
                both.lanes(&device, form, &before, &calls).unwrap()
            };
            assert!(lanes(Frames::InLocals).iter().all(|(ending, _)| *ending == Ending::Bail(bail)), "{bail:?}");
            for (ending, lane) in lanes(Frames::InMemory) {
                assert_eq!(ending, Ending::Done, "{bail:?}");
                lane.must_be(&native, &format!("{bail:?}, {integers:?}"));
            }
        }
    }
}

#[test]
fn kernels_of_shipped_processes_grow_no_larger() {
    for (name, is_promoted) in [
        ("counter", false),
        ("token", false),
        ("miner", false),
        ("miner-array", true),
        ("pricing", false),
        ("matvec", false),
        ("nbody", false),
    ] {
        let wasm = std::fs::read(format!("{}/../tests/processes/{name}.wasm", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut program = Program::read(&wasm, true).unwrap();
        let form = Form { integers: Integers::Native, trust: Trust::FULL };
        let before = Kernel::of_program(&program, form, &["handle"]).unwrap();
        let is_changed = promote(&mut program);
        let after = Kernel::of_program(&program, form, &["handle"]).unwrap();
        eprintln!(
            "{name}: {is_changed}, accesses {} -> {}, states {} -> {}, variables {} -> {}, constants {:?}",
            before.accesses,
            after.accesses,
            before.states,
            after.states,
            before.kept_rows,
            after.kept_rows,
            program.constants
        );
        assert_eq!(is_changed, is_promoted, "{name}");
        assert!(
            after.accesses <= before.accesses + 8,
            "{name}: {} accesses, {} before",
            after.accesses,
            before.accesses
        );
    }
}
