//! What holds for every process, shown on a small guest written for it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::{Error, ModuleFormat, gas};

/// A guest of the fourth format whose message's first letter says what it does. `c` counts at address 1024 and answers
/// the count's last two digits; every other letter counts too, and then: `e` answers an error, `t` traps, `l` loops for
/// ever, `r` recurses for ever, `g` grows memory by a page and writes the count there, `h` does that and answers an
/// error, `o` answers with an address far outside, `m` grows as far as it can, `s` sets a global, `q` answers the global.
fn guest(fields: &str, extra: &str) -> Vec<u8> {
    let source = format!(
        r#"(module
  {fields}
  (memory (export "memory") 2 100)
  (table (export "__indirect_function_table") 1 funcref)
  (global $sp (mut i32) (i32.const 65536))
  (global $hidden (mut i64) (i64.const 7))
  (data (i32.const 2048) "{{\"ok\":true,\"response\":{{\"Output\":\"00\"}}}}\00")
  (data (i32.const 3072) "{{\"ok\":true,\"response\":{{\"Error\":\"no\"}}}}\00")
  (func (export "emscripten_stack_init"))
  (func (export "emscripten_stack_get_end") (result i32) (i32.const 32768))
  (func (export "emscripten_stack_get_current") (result i32) (global.get $sp))
  (func (export "_emscripten_stack_restore") (param i32) (global.set $sp (local.get 0)))
  (func (export "_emscripten_stack_alloc") (param i32) (result i32)
    (global.set $sp (i32.and (i32.sub (global.get $sp) (local.get 0)) (i32.const -16))) (global.get $sp))
  (func (export "__wasm_call_ctors"))
  (func $forever (param i32) (result i32) (i32.add (call $forever (local.get 0)) (i32.const 1)))
  (func $answer (param $n i32) (result i32)
    (i32.store8 (i32.const 2081) (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10))))
    (i32.store8 (i32.const 2082) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
    (i32.const 2048))
  (func (export "handle") (param $message i32) (param $environment i32) (result i32)
    (local $letter i32) (local $n i32)
    (local.set $letter (i32.load8_u (local.get $message)))
    (local.set $n (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
    (i32.store (i32.const 1024) (local.get $n))
    {extra}
    (if (i32.eq (local.get $letter) (i32.const 101)) (then (return (i32.const 3072))))
    (if (i32.eq (local.get $letter) (i32.const 116)) (then unreachable))
    (if (i32.eq (local.get $letter) (i32.const 108)) (then (loop $l (br $l))))
    (if (i32.eq (local.get $letter) (i32.const 114)) (then (return (call $forever (i32.const 0)))))
    (if (i32.or (i32.eq (local.get $letter) (i32.const 103)) (i32.eq (local.get $letter) (i32.const 104)))
      (then (i32.store (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)) (local.get $n))))
    (if (i32.eq (local.get $letter) (i32.const 104)) (then (return (i32.const 3072))))
    (if (i32.eq (local.get $letter) (i32.const 111)) (then (return (i32.const -4))))
    (if (i32.eq (local.get $letter) (i32.const 109)) (then (loop $m (br_if $m (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))))
    (if (i32.eq (local.get $letter) (i32.const 115)) (then (global.set $hidden (i64.const 42))))
    (if (i32.eq (local.get $letter) (i32.const 113)) (then (return (call $answer (i32.wrap_i64 (global.get $hidden))))))
    (call $answer (local.get $n))))"#
    );
    wat::parse_str(source).expect("the test guest is valid")
}

fn engine() -> Engine {
    Engine::new(EngineSettings::default()).expect("an engine")
}

fn process_of(wasm: &[u8], format: ModuleFormat) -> Instance {
    let module = engine().load(wasm, format).expect("the guest loads");
    Instance::new(&module).expect("an instance")
}

fn process() -> Instance {
    process_of(&guest("", ""), ModuleFormat::Emscripten4)
}

fn call(message: &str) -> Call<'_> {
    Call { message, environment: "{}", seed: "", gas_limit: gas::DEFAULT_LIMIT, time_limit: Duration::from_secs(20) }
}

/// Evaluates and gives the output's text.
fn output(process: &mut Instance, message: &str) -> String {
    let evaluation = process.evaluate(&call(message)).expect("no fault");
    match evaluation.outcome.output {
        Some(serde_json::Value::String(text)) => text,
        other => panic!("{message}: {other:?}, {:?}", evaluation.thrown),
    }
}

#[test]
fn rollback_restores_every_byte_and_the_size_after_each_kind_of_failure() {
    let mut process = process();
    for count in 1..=5 {
        assert_eq!(output(&mut process, "c"), format!("{count:02}"));
    }
    for letter in ["e", "t", "r", "h", "o"] {
        let before = process.memory().to_vec();
        let evaluation = process.evaluate(&call(letter)).expect("a guest's failure is no fault");
        assert!(!evaluation.kept, "{letter}");
        assert!(evaluation.outcome.error.is_some(), "{letter}");
        assert!(process.memory() == before, "{letter} left something behind");
    }
    assert_eq!(output(&mut process, "c"), "06");
}

#[test]
fn a_failure_far_from_the_undo_point_keeps_the_messages_between() {
    let mut process = process();
    for round in 0..40 {
        assert_eq!(output(&mut process, "c"), format!("{:02}", round + 1));
        if round % 7 == 3 {
            assert!(!process.evaluate(&call("e")).expect("no fault").kept);
        }
    }
}

#[test]
fn growth_is_kept_with_its_contents_and_undone_with_them() {
    let mut process = process();
    output(&mut process, "c");
    let before = process.memory_bytes();
    assert_eq!(output(&mut process, "g"), "02");
    assert_eq!(process.memory_bytes(), before + 65_536);
    assert!(!process.evaluate(&call("h")).expect("no fault").kept);
    assert_eq!(process.memory_bytes(), before + 65_536);
    assert_eq!(process.memory()[before as usize], 2);
    for count in 3..40 {
        assert_eq!(output(&mut process, "c"), format!("{count:02}"));
    }
    assert_eq!(process.memory()[before as usize], 2);
}

#[test]
fn globals_are_at_rest_before_every_message() {
    let mut process = process();
    assert_eq!(output(&mut process, "s"), "01");
    assert_eq!(output(&mut process, "q"), "07");
}

#[test]
fn an_endless_loop_stops_at_the_wall_clock_and_leaves_the_state() {
    let mut process = process();
    output(&mut process, "c");
    let started = Instant::now();
    let limit = Duration::from_millis(200);
    let error = process.evaluate(&Call { time_limit: limit, ..call("l") }).expect_err("it never returns");
    assert!(matches!(error, Error::Timeout(l) if l == limit), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    assert_eq!(output(&mut process, "c"), "02");
}

#[test]
fn endless_recursion_is_a_trap_also_on_a_thread_with_a_small_stack() {
    let small = std::thread::Builder::new().stack_size(128 << 10);
    let evaluation =
        small.spawn(|| process().evaluate(&call("r")).expect("no fault")).expect("a thread").join().expect("no crash");
    assert_eq!(evaluation.outcome.error, Some(json!({})));
    assert!(evaluation.thrown.expect("thrown").contains("stack"), "says why");
}

#[test]
fn a_pointer_out_of_range_is_an_empty_response_and_so_an_error() {
    let evaluation = process().evaluate(&call("o")).expect("no fault");
    assert_eq!(evaluation.outcome.error, Some(json!({})));
    assert!(!evaluation.kept);
}

#[test]
fn memory_stops_growing_at_the_modules_maximum_and_at_the_units() {
    let mut process = process();
    output(&mut process, "m");
    assert_eq!(process.memory_bytes(), 100 * 65_536);
    let engine =
        Engine::new(EngineSettings { memory_bytes_max: 10 * 65_536, ..EngineSettings::default() }).expect("an engine");
    let module = engine.load(&guest("", ""), ModuleFormat::Emscripten4).expect("loads");
    let mut bounded = Instance::new(&module).expect("an instance");
    output(&mut bounded, "m");
    assert_eq!(bounded.memory_bytes(), 10 * 65_536);
}

#[test]
fn a_module_that_begins_above_the_bound_is_refused_by_name() {
    let engine =
        Engine::new(EngineSettings { memory_bytes_max: 65_536, ..EngineSettings::default() }).expect("an engine");
    let module = engine.load(&guest("", ""), ModuleFormat::Emscripten4).expect("loads");
    let error = Instance::new(&module).err().expect("two pages are too many");
    assert!(error.to_string().contains("131072 bytes"), "{error}");
}

#[test]
fn a_fork_is_the_same_state_and_shares_nothing() {
    let mut process = process();
    output(&mut process, "c");
    output(&mut process, "g");
    let mut fork = process.fork().expect("a fork");
    assert!(fork.memory() == process.memory());
    assert!(fork.has_state());
    assert_eq!(output(&mut fork, "c"), "03");
    assert_eq!(output(&mut fork, "c"), "04");
    assert_eq!(output(&mut process, "c"), "03");
}

#[test]
fn two_processes_of_one_module_do_not_see_each_other() {
    let module = engine().load(&guest("", ""), ModuleFormat::Emscripten4).expect("loads");
    let (mut a, mut b) = (Instance::new(&module).expect("an instance"), Instance::new(&module).expect("an instance"));
    for count in 1..=40 {
        assert_eq!(output(&mut a, "c"), format!("{count:02}"));
    }
    assert_eq!(output(&mut b, "c"), "01");
}

#[test]
fn a_process_has_no_state_until_a_message_is_kept() {
    let mut process = process();
    assert!(!process.has_state());
    assert!(!process.evaluate(&call("e")).expect("no fault").kept);
    assert!(!process.has_state());
    output(&mut process, "c");
    assert!(process.has_state());
}

#[test]
fn a_guest_that_changes_its_table_finds_it_as_built_each_time() {
    // Slot 0 of the table is null at rest; the message sets it and answers 1 if it was set already.
    let extra = r#"(local.set $n (i32.add (local.get $n) (i32.mul (i32.const 50) (i32.eqz (ref.is_null (table.get (i32.const 0)))))))
        (table.set (i32.const 0) (ref.func $answer))"#;
    let mut process = process_of(&guest("(elem declare func $answer)", extra), ModuleFormat::Emscripten4);
    assert_eq!(output(&mut process, "c"), "01");
    assert_eq!(output(&mut process, "c"), "02");
    assert!(!process.evaluate(&call("e")).expect("no fault").kept);
    assert_eq!(output(&mut process, "c"), "03");
}

#[test]
fn gas_is_charged_by_segment_and_its_exhaustion_changes_nothing() {
    let mut process = process_of(&guest("", ""), ModuleFormat::EmscriptenMetering);
    let first = process.evaluate(&call("c")).expect("no fault");
    let spent = first.outcome.gas_used.expect("metered");
    assert!(spent > 72_000, "two divisions alone cost 72,000; {spent}");
    let exact = process.evaluate(&Call { gas_limit: spent, ..call("c") }).expect("no fault");
    assert_eq!((exact.kept, exact.outcome.gas_used), (true, Some(spent)), "the limit itself may be used");
    let short = process.evaluate(&Call { gas_limit: spent - 1, ..call("c") }).expect("no fault");
    assert_eq!(short.thrown.as_deref(), Some("out of gas!"));
    assert_eq!((short.kept, &short.outcome.error, short.outcome.gas_used), (false, &Some(json!({})), None));
    assert_eq!(output(&mut process, "c"), "03");
    let endless = process.evaluate(&Call { gas_limit: 1_000_000, ..call("l") }).expect("no fault");
    assert_eq!(endless.thrown.as_deref(), Some("out of gas!"));
}

#[test]
fn metering_changes_neither_outputs_nor_memory() {
    let (mut plain, mut metered) = (process(), process_of(&guest("", ""), ModuleFormat::EmscriptenMetering));
    for letter in ["c", "g", "e", "t", "c", "r", "h", "c", "m", "c"] {
        let (a, b) =
            (plain.evaluate(&call(letter)).expect("no fault"), metered.evaluate(&call(letter)).expect("no fault"));
        assert_eq!((a.kept, a.outcome.output), (b.kept, b.outcome.output), "{letter}");
        assert!(plain.memory() == metered.memory(), "{letter}");
    }
}

#[test]
fn a_module_metered_at_build_time_is_charged_what_it_asks_for() {
    let metered = r#"(call $usegas (i32.const 1000))"#;
    let wasm = guest(r#"(import "metering" "usegas" (func $usegas (param i32)))"#, metered);
    let mut process = process_of(&wasm, ModuleFormat::Emscripten4);
    assert_eq!(process.evaluate(&call("c")).expect("no fault").outcome.gas_used, Some(1000));
    let short = process.evaluate(&Call { gas_limit: 999, ..call("c") }).expect("no fault");
    assert_eq!(short.thrown.as_deref(), Some("out of gas!"));
    let error = engine().load(&wasm, ModuleFormat::EmscriptenMetering).err().expect("metered twice");
    assert!(error.to_string().contains("importing metering function is not allowed"), "{error}");
}

#[test]
fn an_import_nobody_provides_is_named() {
    let wasm = guest(r#"(import "env" "launch_missiles" (func (param i32)))"#, "");
    let error = engine().load(&wasm, ModuleFormat::Emscripten4).err().expect("refused");
    assert!(error.to_string().contains("env.launch_missiles"), "{error}");
}

#[test]
fn truncated_and_garbled_modules_are_errors() {
    let wasm = guest("", "");
    let engine = engine();
    for len in 0..wasm.len() {
        // Cut between two sections, what is left may be a module; without its code it is none that can be a process.
        let instance = engine.load(&wasm[..len], ModuleFormat::Emscripten4).and_then(|module| Instance::new(&module));
        assert!(instance.is_ok() || matches!(instance, Err(Error::Module(_))), "{len} bytes");
        assert!(instance.is_err() || len > wasm.len() / 2, "{len} bytes");
    }
    for at in 8..wasm.len() {
        let mut garbled = wasm.clone();
        garbled[at] ^= 0x41;
        // Some changes leave a valid module; none may panic.
        let _ = engine.load(&garbled, ModuleFormat::Emscripten4);
    }
}

#[test]
fn compiled_code_is_taken_from_disk_and_gives_the_same_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = EngineSettings { artifacts_dir: Some(dir.path().into()), ..EngineSettings::default() };
    for cached in [false, true] {
        let engine = Engine::new(settings.clone()).expect("an engine");
        let module = engine.load(&guest("", ""), ModuleFormat::Emscripten4).expect("loads");
        assert_eq!(module.from_cache(), cached);
        assert_eq!(output(&mut Instance::new(&module).expect("an instance"), "c"), "01");
    }
}

#[test]
fn start_up_code_that_never_ends_is_stopped_by_the_clock() {
    let engine =
        Engine::new(EngineSettings { boot_time_limit: Duration::from_millis(100), ..EngineSettings::default() });
    let wasm = guest("(func $spin (loop $l (br $l))) (start $spin)", "");
    let module = engine.expect("an engine").load(&wasm, ModuleFormat::Emscripten4).expect("loads");
    let error = Instance::new(&module).err().expect("it never starts");
    assert!(matches!(error, Error::Timeout(_)), "{error}");
}
