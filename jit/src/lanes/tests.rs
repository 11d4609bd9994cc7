//! Lanes against the native engine: results, traps, gas, memory and globals.

mod expressions;
mod spec;

use std::collections::HashMap;

use lockstep_shaders::device::{Choice, Device};

use super::{
    differential::{Both, bits, forms, random_calls},
    *,
};
use crate::{Engine, EngineSettings, Instance, ModuleFormat};

/// The best adapter, a program if there is no better.
pub fn device() -> Option<Device> {
    match Device::open(&Choice::Required) {
        Ok(device) => device,
        Err(error) if std::env::var_os("LOCKSTEP_REQUIRE_GPU").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

impl Both {
    /// Calls with all these arguments, on lanes side by side and one by one natively. Gives how many bailed.
    pub fn agree(&self, device: &Device, name: &str, calls: &[Vec<u64>]) -> usize {
        let mut bailed = 0;
        for integers in forms(device) {
            let (before, _) = self.native(name, &calls[0]);
            let named: Vec<_> = calls.iter().map(|arguments| (name, arguments.clone())).collect();
            let lanes = self.lanes(device, Form { integers, trust: Trust::FULL }, &before, &named).unwrap();
            for (arguments, (ending, lane)) in calls.iter().zip(lanes) {
                let (_, native) = self.native(name, arguments);
                match ending {
                    Ending::Bail(_) => bailed += 1,
                    Ending::Trap(_) => assert_eq!(lane.ended, native.ended, "{name} {arguments:x?}, {integers:?}"),
                    Ending::Done => lane.must_be(&native, &format!("{name} {arguments:x?}, {integers:?}")),
                }
            }
        }
        bailed
    }
}

/// A number that the environment gives.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().expect("a number"))
}

/// Text to both engines.
fn both(wat: &str) -> Both {
    Both::new(&wat::parse_str(wat).unwrap(), true)
}

#[test]
fn a_loop_counts() {
    let Some(device) = device() else { return };
    let both = both(
        r#"(module (memory (export "memory") 1) (global $g (mut i32) (i32.const 5))
          (func (export "sum") (param $n i32) (result i64) (local $s i64)
            (block $out (loop $again
              (br_if $out (i32.eqz (local.get $n)))
              (local.set $s (i64.add (local.get $s) (i64.extend_i32_u (local.get $n))))
              (i32.store offset=16 (i32.shl (local.get $n) (i32.const 2)) (local.get $n))
              (global.set $g (i32.add (global.get $g) (i32.const 3)))
              (local.set $n (i32.sub (local.get $n) (i32.const 1)))
              (br $again)))
            (local.get $s)))"#,
    );
    let calls: Vec<_> = [0, 1, 2, 3, 100, 16_379, 16_380, 16_381].into_iter().map(|n| vec![n]).collect();
    assert_eq!(both.agree(&device, "sum", &calls), 0);
}

/// Operands where carries, signs and shifts show.
const OPERANDS: [u64; 18] = [
    0,
    1,
    2,
    7,
    31,
    32,
    63,
    64,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_0000_0000,
    0xffff_ffff_ffff_ffff,
    0x0123_4567_89ab_cdef,
    0xfedc_ba98_7654_3210,
];

/// Every pair of them, and pairs at random.
fn pairs() -> Vec<Vec<u64>> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random ^ random >> 29
    };
    let listed = OPERANDS.iter().flat_map(|a| OPERANDS.iter().map(|b| vec![*a, *b]));
    listed.chain((0..188).map(|at| vec![next(), next() >> (at % 64)])).collect()
}

#[test]
fn integer_instructions_are_exact() {
    let Some(device) = device() else { return };
    let two = "add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr";
    let compare = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u";
    for (ty, one) in
        [("i32", "clz ctz popcnt extend8_s extend16_s"), ("i64", "clz ctz popcnt extend8_s extend16_s extend32_s")]
    {
        let other = if ty == "i32" { "i64" } else { "i32" };
        let mut text = String::from("(module (memory (export \"memory\") 1)\n");
        let mut calls = String::new();
        // What traps has a function of its own; all else is gathered in one, of which each result is kept in memory.
        let mut gathered = 0;
        for op in two.split(' ').filter(|op| !op.contains("div") && !op.contains("rem")) {
            calls += &format!("({ty}.store offset={gathered} (i32.const 0) ({ty}.{op} (local.get 0) (local.get 1)))\n");
            gathered += 8;
        }
        for op in compare.split(' ') {
            calls += &format!("(i32.store offset={gathered} (i32.const 0) ({ty}.{op} (local.get 0) (local.get 1)))\n");
            gathered += 8;
        }
        for op in one.split(' ') {
            calls += &format!("({ty}.store offset={gathered} (i32.const 0) ({ty}.{op} (local.get 0)))\n");
            gathered += 8;
        }
        calls += &format!("(i32.store offset={gathered} (i32.const 0) ({ty}.eqz (local.get 0)))\n");
        gathered += 8;
        let conversions: &[&str] = if ty == "i32" { &["extend_i32_s", "extend_i32_u"] } else { &["wrap_i64"] };
        for op in conversions {
            calls += &format!("({other}.store offset={gathered} (i32.const 0) ({other}.{op} (local.get 0)))\n");
            gathered += 8;
        }
        text += &format!("(func (export \"all\") (param {ty} {ty}) {calls})\n");
        for op in ["div_s", "div_u", "rem_s", "rem_u"] {
            text += &format!(
                "(func (export \"{op}\") (param {ty} {ty}) (result {ty}) ({ty}.{op} (local.get 0) (local.get 1)))"
            );
        }
        let both = both(&format!("{text})"));
        for name in ["all", "div_s", "div_u", "rem_s", "rem_u"] {
            assert_eq!(both.agree(&device, name, &pairs()), 0, "{ty} {name}");
        }
    }
}

#[test]
fn memory_is_reached_byte_by_byte_and_not_beyond_its_end() {
    let Some(device) = device() else { return };
    let mut loads = String::new();
    for (at, op) in [
        "i32.load8_s",
        "i32.load8_u",
        "i32.load16_s align=1",
        "i32.load16_u align=1",
        "i32.load align=1",
        "i64.load8_s",
        "i64.load8_u",
        "i64.load16_s align=1",
        "i64.load16_u align=1",
        "i64.load32_s align=1",
        "i64.load32_u align=1",
        "i64.load align=1",
    ]
    .into_iter()
    .enumerate()
    {
        let (ty, rest) = op.split_at(3);
        let (name, align) = rest.split_once(' ').unwrap_or((rest, ""));
        loads +=
            &format!("({ty}.store offset={} (i32.const 4096) ({ty}{name} offset=3 {align} (local.get 0)))\n", 8 * at);
    }
    let both = both(&format!(
        r#"(module (memory (export "memory") 1 3)
          (data (i32.const 0) "\80\01\fe\7f\ff\00\c3\99\12\34\56\78\9a\bc\de\f0\0f\ed")
          (data (i32.const 65519) "\01\82\03\84\05\86\07\88\09\8a\0b\8c\0d\8e\0f\90\91")
          (func (export "loads") (param i32) {loads})
          (func (export "store8") (param i32 i64) (i64.store8 offset=1 (local.get 0) (local.get 1)))
          (func (export "store16") (param i32 i64) (i64.store16 offset=1 align=1 (local.get 0) (local.get 1)))
          (func (export "store32") (param i32 i64) (i64.store32 offset=1 align=1 (local.get 0) (local.get 1)))
          (func (export "store64") (param i32 i64) (i64.store offset=1 align=1 (local.get 0) (local.get 1)))
          (func (export "aligned") (param i32 i64) (result i64)
            (i32.store16 (local.get 0) (i32.const 0x1234))
            (i32.store offset=4 (local.get 0) (i32.wrap_i64 (local.get 1)))
            (i64.store offset=8 (local.get 0) (local.get 1))
            (i64.add (i64.load offset=8 (local.get 0)) (i64.load32_s offset=4 (local.get 0))))
          (func (export "grow") (param i32) (result i32)
            (i32.store (i32.const 0) (memory.grow (local.get 0)))
            (i32.store offset=4 (i32.const 0) (memory.size))
            (i32.store8 (i32.const 65536) (i32.const 1))
            (memory.size))
          (func (export "far") (param i32) (result i32) (i32.load offset=0xffffffff align=1 (local.get 0))))"#
    ));
    let places: Vec<u64> = (0..20).chain(65_500..65_540).chain([0x7fff_ffff, 0xffff_fff0, 0xffff_ffff]).collect();
    let one: Vec<_> = places.iter().map(|at| vec![*at]).collect();
    let two: Vec<_> = places.iter().map(|at| vec![*at, 0xf1e2_d3c4_b5a6_9788]).collect();
    for name in ["store8", "store16", "store32", "store64"] {
        assert_eq!(both.agree(&device, name, &two), 0, "{name}");
    }
    assert_eq!(both.agree(&device, "loads", &one), 0);
    assert_eq!(both.agree(&device, "far", &one), 0);
    assert_eq!(both.agree(&device, "grow", &[vec![0], vec![1], vec![2], vec![3], vec![65_536], vec![0xffff_ffff]]), 0);
    // Half of these are aligned.
    assert!(both.agree(&device, "aligned", &two) > 20);
}

#[test]
fn control_goes_where_it_should() {
    let Some(device) = device() else { return };
    let both = both(
        r#"(module (memory (export "memory") 1) (global $g (mut i32) (i32.const 0))
          (func $note (param i32)
            (global.set $g (i32.add (i32.mul (global.get $g) (i32.const 10)) (local.get 0))))
          (func (export "table") (param i32) (result i32)
            (block $d (block $c (block $b (block $a
              (br_table $a $b $c $a $d (local.get 0)))
              (call $note (i32.const 1)) (br $c))
              (call $note (i32.const 2)))
              (call $note (i32.const 3)) (br_if $d (i32.eq (local.get 0) (i32.const 3))) (call $note (i32.const 4)))
            (global.get $g))
          (func (export "values") (param i32) (result i32)
            (i32.add (i32.const 100)
              (block $a (result i32)
                (i32.add (i32.const 7)
                  (block $b (result i32)
                    (br_table $a $b $a (i32.mul (local.get 0) (i32.const 11)) (local.get 0)))))))
          (func (export "arms") (param i32) (result i32)
            (block $out
              (if (i32.and (local.get 0) (i32.const 1))
                (then (call $note (i32.const 1)) (br_if $out (i32.and (local.get 0) (i32.const 2))) (call $note (i32.const 2)))
                (else (if (i32.and (local.get 0) (i32.const 4)) (then (call $note (i32.const 3)) (br $out))) (call $note (i32.const 4))))
              (if (i32.and (local.get 0) (i32.const 8)) (then (return (i32.const 77))))
              (call $note (i32.const 5)))
            (if (result i32) (i32.eqz (global.get $g)) (then (i32.const 1)) (else (global.get $g))))
          (func (export "loops") (param $n i32) (result i32) (local $i i32) (local $j i32) (local $s i32)
            (block $done
              (loop $outer
                (local.set $j (i32.const 0))
                (loop $inner
                  (local.set $s (i32.add (local.get $s) (i32.xor (local.get $i) (local.get $j))))
                  (br_if $done (i32.gt_u (local.get $s) (i32.const 5000)))
                  (local.set $j (i32.add (local.get $j) (i32.const 1)))
                  (if (i32.eq (local.get $j) (i32.const 5)) (then
                    (br_if $outer (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n)))
                    (br $done)))
                  (br $inner))))
            (local.get $s))
          (func (export "loop_values") (param $n i32) (result i32)
            (i32.const 3) (local.get $n)
            (loop $l (param i32 i32) (result i32)
              (local.set $n) (i32.add (local.get $n)) (local.get $n) (i32.const 1) (i32.sub)
              (local.tee $n) (br_if $l (local.get $n)) (i32.add)))
          (func (export "stop") (param i32) (result i32)
            (if (i32.gt_s (local.get 0) (i32.const 2)) (then unreachable))
            (loop $l (br_if $l (i32.eqz (local.get 0))))
            (local.get 0)))"#,
    );
    let calls: Vec<_> = (0..20).chain([100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]).map(|n| vec![n]).collect();
    for name in ["table", "values", "arms", "loops"] {
        assert_eq!(both.agree(&device, name, &calls), 0, "{name}");
    }
    let few: Vec<_> = (1..20).map(|n| vec![n]).collect();
    assert_eq!(both.agree(&device, "loop_values", &few), 0);
    assert_eq!(both.agree(&device, "stop", &few), 0);
}

#[test]
fn calls_nest_and_come_back() {
    let Some(device) = device() else { return };
    let both = both(
        r#"(module (memory (export "memory") 1) (global $g (mut i32) (i32.const 1))
          (type $one (func (param i32) (result i32))) (type $none (func))
          (table 6 funcref) (elem (i32.const 0) $fib $even $odd $big $nothing)
          (func $fib (export "fib") (param i32) (result i32)
            (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
              (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
          (func $even (export "even") (param i32) (result i32)
            (if (result i32) (local.get 0) (then (call $odd (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 1))))
          (func $odd (param i32) (result i32)
            (if (result i32) (local.get 0) (then (call $even (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 0))))
          (func $nothing)
          (func $big (param i32) (result i32) (local i64)
            (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 8) (i32.const 1))
            (i32.store (i32.const 16) (i32.const 2)) (i32.store (i32.const 24) (i32.const 2)) (i32.store (i32.const 32) (i32.const 2))
            (local.set 1 (i64.extend_i32_u (local.get 0)))
            (if (i32.and (local.get 0) (i32.const 1)) (then (return (i32.const 1000))))
            (i32.wrap_i64 (i64.mul (local.get 1) (local.get 1))))
          (func (export "many") (param i32) (result i32) (local $i i32) (local $s i32)
            (loop $l
              (local.set $s (i32.add (i32.mul (local.get $s) (i32.const 3))
                (i32.sub (call $big (local.get $i)) (call $big (i32.add (local.get $i) (local.get $s))))))
              (if (i32.eq (i32.and (local.get $i) (i32.const 3)) (i32.const 2))
                (then (local.set $s (call $big (local.get $s))))
                (else (global.set $g (i32.add (global.get $g) (call $big (global.get $g))))))
              (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get 0))))
            (block $b (result i32)
              (drop (br_if $b (local.get $s) (call $big (local.get $s))))
              (call $big (i32.const 6))))
          (func (export "indirect") (param i32 i32) (result i32)
            (i32.add (global.get $g) (call_indirect (type $one) (local.get 0) (local.get 1)))))"#,
    );
    let calls: Vec<_> = (0..16).map(|n| vec![n]).collect();
    for name in ["fib", "even", "many"] {
        assert_eq!(both.agree(&device, name, &calls), 0, "{name}");
    }
    let calls: Vec<_> = (0..6).flat_map(|n| [0, 1, 2, 3, 4, 5, 6, 1 << 31].map(|at| vec![n, at])).collect();
    assert_eq!(both.agree(&device, "indirect", &calls), 0);
    // More frames than the lane's stack has room for.
    assert_eq!(both.agree(&device, "even", &[vec![100_000], vec![10]]), forms(&device).len());
}

/// A kernel for these lanes, all with the same memory.
fn group(device: &Device, wat: &str, exports: &[&str], window_pages: u32, lanes: u32, memory: &[u8]) -> Group {
    let wasm = wat::parse_str(wat).unwrap();
    let form = Form { integers: forms(device)[0], trust: Trust { alignment: Alignment::Any, ..Trust::FULL } };
    let kernel = Kernel::compile(&wasm, false, form, exports).unwrap();
    let compiled = Compiled::new(device, kernel).unwrap();
    Group::new(&compiled, compiled.shape(0, 256, window_pages), lanes, memory).unwrap()
}

fn soon() -> std::time::Instant {
    std::time::Instant::now() + std::time::Duration::from_secs(20)
}

#[test]
fn no_lane_reaches_another_s_memory() {
    let Some(device) = device() else { return };
    let stores = "i32.store8 i32.store16 i32.store i64.store8 i64.store16 i64.store32 i64.store f32.store f64.store";
    let mut functions = String::new();
    let mut names = Vec::new();
    for store in stores.split(' ') {
        for offset in [1u32, 0x7fff_ffff, 0xffff_ffff] {
            let name = format!("{store} {offset}");
            let value = format!("({}.const 85)", &store[..3]);
            functions +=
                &format!("(func (export \"{name}\") (param i32) ({store} offset={offset} (local.get 0) {value}))");
            names.push(name);
        }
    }
    for (name, rest) in
        [("memory.fill", "(i32.const 85) (i32.const 9)"), ("memory.copy", "(i32.const 0) (i32.const 900)")]
    {
        functions += &format!("(func (export \"{name}\") (param i32) ({name} (local.get 0) {rest}))");
        names.push(name.into());
    }
    let exports: Vec<&str> = names.iter().map(String::as_str).collect();
    let canary: Vec<u8> = (0..65_536u32).map(|at| (at % 251) as u8 ^ 0xa5).collect();
    let lanes = 130;
    let wat = format!("(module (memory 1 1) {functions})");
    let group = group(&device, &wat, &exports, 1, lanes, &canary);
    let hostile = [
        0u32,
        1,
        3,
        65_527,
        65_533,
        65_535,
        65_536,
        65_540,
        1 << 18,
        0x3fff_ffff,
        0x7fff_ffff,
        1 << 31,
        u32::MAX - 8,
        u32::MAX,
    ];
    // Lanes whose number is a multiple of 3 do their worst; the others are not called, or are called and do nothing wrong.
    for (round, name) in exports.iter().enumerate() {
        let arguments: Vec<[u64; 1]> =
            (0..lanes).map(|lane| [u64::from(hostile[(lane as usize + round) % hostile.len()])]).collect();
        let calls: Vec<_> = (0..lanes)
            .step_by(3)
            .map(|lane| Call {
                lane,
                entry: name,
                arguments: &arguments[lane as usize],
                globals: &[],
                pages: 1,
                inbox: &[],
            })
            .collect();
        for (call, returned) in calls.iter().zip(group.run(&calls, soon()).unwrap()) {
            assert!(
                !matches!(returned.ending, Ending::Bail(_)),
                "{name} at {:x?}: {}",
                call.arguments,
                returned.ending
            );
        }
    }
    let quiet: Vec<_> = (0..lanes).filter(|lane| lane % 3 != 0).map(|lane| (lane, 0, 65_536)).collect();
    for ((lane, ..), memory) in quiet.iter().zip(group.read_memory(&quiet).unwrap()) {
        assert!(memory == canary, "lane {lane} was written to");
    }
}

#[test]
fn whatever_lanes_cannot_do_is_handed_back_with_its_reason() {
    let Some(device) = device() else { return };
    let cases = [
        (Bail::Budget, "(module (func (export \"f\") (loop $l (br $l))))"),
        (Bail::Window, "(module (memory 1 9) (func (export \"f\") (drop (memory.grow (i32.const 4)))))"),
        (Bail::Stack, "(module (func $f (export \"f\") (call $f)))"),
        (Bail::Host, "(module (import \"a\" \"b\" (func $b)) (func (export \"f\") (call $b)))"),
        (
            Bail::Instruction,
            "(module (memory 1) (data \"x\") (func (export \"f\") (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 0))))",
        ),
        (
            Bail::Table,
            "(module (table 1 funcref) (func $f (export \"f\") (table.set (i32.const 0) (ref.null func)) (call_indirect (i32.const 0))))",
        ),
    ];
    for (bail, wat) in cases {
        let group = group(&device, wat, &["f"], 2, 1, &[]);
        group.set_budget(10_000);
        let call = Call { lane: 0, entry: "f", arguments: &[], globals: &[], pages: 0, inbox: &[] };
        let returned = group.run(&[call], soon()).unwrap();
        // A table that changes is met before the call through it.
        let seen = returned[0].ending;
        let is_it = seen == Ending::Bail(bail) || bail == Bail::Table && seen == Ending::Bail(Bail::Instruction);
        assert!(is_it, "{bail:?}: {seen}");
    }
}

#[test]
fn modules_that_are_too_much_are_refused_and_say_why() {
    let form = Form { integers: Integers::Pairs, trust: Trust::FULL };
    let nested = |before: &str, after: &str| {
        format!("(module (func (export \"f\") (param i32) {} {}))", before.repeat(20_000), after.repeat(20_000))
    };
    let calls = "(call $g (local.get 0))".repeat(5_000);
    let body = "(global.set 0 (i32.add (global.get 0) (i32.rotl (local.get 0) (global.get 0))))".repeat(15);
    let large = "(global.set 0 (i32.const 1))".repeat(100);
    let cases = [
        (nested("local.get 0 if ", "end "), "nests deeper"),
        (nested("(br_if 0 (local.get 0))", ""), "nests deeper"),
        (
            format!(
                "(module (global (mut i32) (i32.const 0)) (func $g (param i32) {body}) (func (export \"f\") (param i32) {calls}))"
            ),
            "expressions",
        ),
        (
            format!(
                "(module (global (mut i32) (i32.const 0)) (func $g (param i32) {large}) (func (export \"f\") (param i32) {calls}))"
            ),
            "calls and loops",
        ),
        (
            format!(
                "(module (func (export \"f\") (param f64) {}))",
                "(local.set 0 (f64.div (local.get 0) (local.get 0)))".repeat(1_000)
            ),
            "expressions",
        ),
        (
            format!(
                "(module (memory 1) (func (export \"f\") (param i32) {}))",
                "(i32.store (local.get 0) (local.get 0))".repeat(3_000)
            ),
            "memory accesses",
        ),
        (format!("(module {} (func (export \"f\")))", "(global i32 (i32.const 0))".repeat(2_000)), "globals"),
    ];
    for (wat, why) in cases {
        let error = Kernel::compile(&wat::parse_str(&wat).unwrap(), false, form, &["f"])
            .err()
            .unwrap_or_else(|| panic!("{why}"))
            .to_string();
        assert!(error.contains(why), "{error}");
    }
    // Much, but not too much.
    let targets = "0 ".repeat(50_000);
    let functions = "(func)".repeat(5_000);
    let wat =
        format!("(module {functions} (func (export \"f\") (param i32) (block (br_table {targets} (local.get 0)))))");
    Kernel::compile(&wat::parse_str(&wat).unwrap(), false, form, &["f"]).unwrap();
}

/// A shipped process, and of a vector file the environment and the messages.
fn shipped(name: &str, vectors: &str) -> (Vec<u8>, String, Vec<String>) {
    let folder = format!("{}/../tests/processes", env!("CARGO_MANIFEST_DIR"));
    let wasm = std::fs::read(format!("{folder}/{name}.wasm")).unwrap();
    let file = crate::json::parse(&std::fs::read_to_string(format!("{folder}/{vectors}.json")).unwrap()).unwrap();
    let messages = file["records"].as_array().unwrap().iter().map(|record| crate::json::to_js_string(&record["msg"]));
    (wasm, crate::json::to_js_string(&file["env"]), messages.collect())
}

fn turn<'a>(message: &'a str, environment: &'a str) -> crate::Call<'a> {
    let time_limit = std::time::Duration::from_secs(20);
    crate::Call { message, environment, seed: "", gas_limit: crate::gas::DEFAULT_LIMIT, time_limit }
}

/// Every message of a shipped process, in as many lanes as there are copies, against the native engine.
fn processes_agree(name: &str, format: ModuleFormat, copies: u32) {
    variants_agree(name, name, format, copies);
}

/// The same of another process that takes those messages.
fn variants_agree(name: &str, vectors: &str, format: ModuleFormat, copies: u32) {
    let Some(device) = device() else { return };
    let (wasm, environment, messages) = shipped(name, vectors);
    let engine = Engine::new(EngineSettings::default()).unwrap();
    let module = engine.load(&wasm, format).unwrap();
    let begun = std::time::Instant::now();
    let lanes = Lanes::new(&device, &module, &wasm, Trust::FULL).unwrap();
    let compiled = begun.elapsed();
    let longest = messages.iter().map(|message| message.len() + environment.len()).max().unwrap();
    let mut processes = Processes::new(&lanes, lanes.shape(longest, 0), copies).unwrap();
    let mut native = Instance::new(&module).unwrap();
    let mut handed_back = 0;
    for (at, message) in messages.iter().enumerate() {
        let call = turn(message, &environment);
        let expected = native.evaluate(&call).unwrap();
        let calls: Vec<_> = (0..copies).map(|lane| (lane, call)).collect();
        for ((lane, call), came) in calls.iter().zip(processes.evaluate(&calls).unwrap()) {
            let evaluation = match came {
                Ok(evaluation) => evaluation,
                Err(why) => {
                    handed_back += 1;
                    eprintln!("{name} {at}: {why:?}");
                    processes.evaluate_natively(*lane, call).unwrap()
                }
            };
            assert_eq!(evaluation.outcome, expected.outcome, "{name} {at}, lane {lane}");
            assert_eq!((evaluation.kept, evaluation.gas_spent), (expected.kept, expected.gas_spent), "{name} {at}");
            assert!(processes.memory(*lane) == native.memory(), "{name} {at}, lane {lane}: memory");
        }
    }
    eprintln!("{name}: compiled in {compiled:?}, {handed_back} handed back");
    assert_eq!(handed_back, 0, "{name}");
}

/// A memory that a message grows by one page, up to three, and the byte that it wrote there last.
const GROWS: &str = r#"(module
  (memory (export "memory") 1 3)
  (global $sp (mut i32) (i32.const 4096))
  (data (i32.const 8192) "{\"ok\":true,\"response\":{\"Output\":\"0\"}}")
  (func (export "__wasm_call_ctors"))
  (func (export "emscripten_stack_init"))
  (func (export "emscripten_stack_get_end") (result i32) (i32.const 16))
  (func (export "emscripten_stack_get_current") (result i32) (global.get $sp))
  (func (export "_emscripten_stack_restore") (param i32) (global.set $sp (local.get 0)))
  (func (export "_emscripten_stack_alloc") (param i32) (result i32)
    (global.set $sp (i32.and (i32.sub (global.get $sp) (local.get 0)) (i32.const -16))) (global.get $sp))
  (func (export "handle") (param i32 i32) (result i32) (local $at i32)
    ;; A message that begins with `e` fails after it has written.
    (local.set $at (i32.shl (memory.grow (i32.const 1)) (i32.const 16)))
    (if (i32.ge_s (local.get $at) (i32.const 0)) (then
      (i32.store8 (i32.const 8226) (i32.add (i32.const 48) (i32.load8_u (local.get $at))))
      (i32.store8 (local.get $at) (i32.const 7))))
    (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 101)) (then (i32.store8 (i32.const 8192) (i32.const 0))))
    (i32.const 8192)))"#;

#[test]
fn seats_are_given_up_and_taken_again() {
    let Some(device) = device() else { return };
    let wasm = wat::parse_str(GROWS).unwrap();
    let module = Engine::new(EngineSettings::default()).unwrap().load(&wasm, ModuleFormat::Emscripten4).unwrap();
    let lanes = Lanes::new(&device, &module, &wasm, Trust::FULL).unwrap();
    let mut seats = Seats::new(&lanes, lanes.shape(64, 3 << 16), 2).unwrap();
    // Five processes visit two seats in turn; each has a twin that never saw a lane.
    let mut processes: Vec<_> = (0..5).map(|_| [(); 2].map(|()| Instance::new(&module).unwrap())).collect();
    let (mut in_lanes, mut seed) = (0, 7u32);
    for round in 0..40 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let pair =
            [(seed >> 8) as usize % 5, (seed >> 8) as usize % 5 + 1 + (seed >> 16) as usize % 4].map(|at| at % 5);
        let message = if seed >> 28 == 3 { "e" } else { "x" };
        let call = turn(message, "{}");
        let memories = pair.map(|at| processes[at][0].memory().to_vec());
        let visits: Vec<_> = pair
            .iter()
            .zip(&memories)
            .map(|(at, memory)| Visit { stamp: processes[*at][0].stamp(), memory, call })
            .collect();
        let came = seats.evaluate(&visits, soon()).unwrap();
        for (at, came) in pair.into_iter().zip(came) {
            let [visitor, twin] = &mut processes[at];
            let expected = twin.evaluate(&call).unwrap();
            let evaluation = match came {
                Came::Evaluated { evaluation, change } => {
                    in_lanes += 1;
                    assert_eq!(change.is_some(), evaluation.kept);
                    if let Some(change) = &change {
                        visitor.take_over(change).unwrap();
                    }
                    *evaluation
                }
                Came::HandedBack(_) => visitor.evaluate(&call).unwrap(),
            };
            assert_eq!((evaluation.outcome, evaluation.kept), (expected.outcome, expected.kept), "{round}: {at}");
            assert!(visitor.memory() == twin.memory(), "{round}: memory of {at}");
            // Now and then a process does something elsewhere.
            if seed >> 24 & 7 == at as u32 {
                for process in [visitor, twin] {
                    process.evaluate(&call).unwrap();
                }
            }
        }
    }
    assert!(in_lanes > 40, "{in_lanes} of 80");
    // What does not fit comes back.
    let long = "x".repeat(1000);
    let memory = processes[0][0].memory().to_vec();
    let came = seats.evaluate(&[Visit { stamp: None, memory: &memory, call: turn(&long, "{}") }], soon()).unwrap();
    assert!(matches!(came[0], Came::HandedBack(HandedBack::Room)), "{came:?}");
}

#[test]
fn a_counter_in_lanes_is_a_counter() {
    processes_agree("counter", ModuleFormat::Emscripten4, 3);
}

#[test]
fn a_token_ledger_in_lanes_counts_its_gas() {
    processes_agree("token", ModuleFormat::EmscriptenMetering, 2);
}

#[test]
fn a_miner_in_lanes_finds_what_a_miner_finds() {
    processes_agree("miner", ModuleFormat::Emscripten4, 70);
}

#[test]
fn a_miner_with_its_schedule_in_memory_finds_them_in_lanes_too() {
    variants_agree("miner-array", "miner", ModuleFormat::EmscriptenMetering, 9);
}

#[test]
fn options_in_lanes_cost_what_they_cost() {
    processes_agree("pricing", ModuleFormat::EmscriptenMetering, 9);
}

#[test]
fn weights_in_lanes_make_the_same_products() {
    processes_agree("matvec", ModuleFormat::EmscriptenMetering, 9);
}

#[test]
fn planets_in_lanes_move_to_the_bit_as_natively() {
    processes_agree("nbody", ModuleFormat::EmscriptenMetering, 9);
}

#[test]
fn loops_are_as_long_as_they_are() {
    let Some(device) = device() else { return };
    let both = both(
        r#"(module (memory (export "memory") 1)
          (func $far (export "far") (param $n i32) (result i32) (local $s i32)
            (loop $again
              (local.set $s (i32.xor (i32.mul (local.get $s) (i32.const 5)) (local.get $n)))
              (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (local.get $s))
          (func (export "farther") (param $n i32) (result i32) (local $s i32)
            (loop $again
              (local.set $s (i32.add (i32.mul (local.get $s) (i32.const 5)) (call $far (i32.const 2))))
              (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (local.get $s)))"#,
    );
    let calls: Vec<_> = [10_000, 65_000, 66_000, 100_000, 1_000_000, 8_400_000].map(|n| vec![n]).into();
    assert_eq!(both.agree(&device, "far", &calls), 0);
    assert_eq!(both.agree(&device, "farther", &calls), 0);
}

/// A vector of 512 bits has 16 lanes.
#[test]
fn dispatches_that_a_driver_cut_short_are_shorter_from_then_on() {
    let Some(device) = device() else { return };
    let (arms, variables) = (0..16, 0..40);
    let each = |range: std::ops::Range<u64>, text: &dyn Fn(u64) -> String| range.map(text).collect::<String>();
    let declared = each(variables.clone(), &|n| format!("(local $v{n} i32)"));
    let set = each(variables.clone(), &|n| format!("(local.set $v{n} (i32.mul (local.get $n) (i32.const {})))", 3 + n));
    let added = each(variables, &|n| format!("(local.set $s (i32.add (local.get $s) (local.get $v{n})))"));
    let opened = each(arms.clone(), &|arm| format!("(block $b{} ", 15 - arm));
    let targets = each(arms.clone(), &|arm| format!("$b{arm} "));
    let loops = each(arms.clone(), &|arm| {
        format!(
            ") (loop $l
              (local.set $s (i32.add (i32.mul (local.get $s) (i32.const {})) (local.get $n)))
              (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (br $end)",
            3 + 2 * arm
        )
    });
    let wat = format!(
        r#"(module (memory (export "memory") 1)
          (func (export "arm") (param $arm i32) (param $n i32) (result i32) (local $s i32) {declared}
            {set}
            (block $end {opened} (br_table {targets} (local.get $arm)) {loops})
            {added}
            (local.get $s)))"#
    );
    let asked: Vec<_> = arms.cycle().take(64).map(|arm| [arm, 150_000 + arm]).collect();
    let both = both(&wat);
    let native: Vec<_> = asked.iter().map(|arguments| both.native("arm", arguments).1.ended).collect();
    let group = group(&device, &wat, &["arm"], 1, 64, &[0; 65_536]);
    let calls: Vec<_> = (0..)
        .zip(&asked)
        .map(|(lane, arguments)| Call { lane, entry: "arm", arguments, globals: &[], pages: 1, inbox: &[] })
        .collect();
    let run = || {
        let returned = group.run(&calls, soon()).unwrap();
        let mut cut = 0;
        for (returned, native) in returned.into_iter().zip(&native) {
            match returned.ending {
                Ending::Bail(Bail::Driver) => cut += 1,
                _ => assert_eq!(Ok(returned.results), *native, "{}", returned.ending),
            }
        }
        cut
    };
    let cut: Vec<_> = (0..4).map(|_| run()).collect();
    eprintln!("cut short: {cut:?}");
    assert_eq!(cut[3], 0, "{cut:?}");
}

/// As many modules as `LOCKSTEP_FUZZ_LANES` says, from the seed that `LOCKSTEP_FUZZ_SEED` says on.
#[test]
fn random_modules_do_the_same_in_lanes() {
    let Some(device) = device() else { return };
    let count = asked("LOCKSTEP_FUZZ_LANES").unwrap_or(500);
    let first = asked("LOCKSTEP_FUZZ_SEED").unwrap_or(0);
    let (mut modules, mut calls, mut refused, mut bailed) = (0, 0, 0, HashMap::<&str, usize>::new());
    let mut seed = first;
    while modules < count {
        assert!(seed - first < 50 * count, "hardly any seed gives a module");
        let mut bytes = vec![0; 2048];
        blake3::Hasher::new().update(b"lanes").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        // A driver that crashes says nothing.
        if first > 0 {
            eprintln!("seed {seed}");
        }
        if let Some(compared) = random_calls(&device, seed, &bytes) {
            modules += 1;
            match compared {
                Ok(endings) => {
                    calls += endings.len();
                    for bail in endings.into_iter().flatten() {
                        *bailed.entry(bail.name()).or_default() += 1;
                    }
                }
                Err(why) => {
                    refused += 1;
                    eprintln!("module {seed}: {why}");
                }
            }
        }
        seed += 1;
    }
    eprintln!("{modules} modules, {calls} calls, {refused} kernels refused, handed back: {bailed:?}");
    assert!(refused * 10 < modules, "{refused} of {modules} refused");
    let handed_back: usize = bailed.values().sum();
    assert!(handed_back * 2 < calls, "{handed_back} of {calls} handed back: {bailed:?}");
}
