//! What the rewriting must not change: the same module, as it is and rewritten, under the same engine.

use arbitrary::Unstructured;
use wasmtime::{Caller, Config, Engine, Extern, Instance, Linker, Module, Store, Trap, Val, ValType};

use super::*;

fn engine() -> Engine {
    let mut config = Config::new();
    config.wasm_memory64(true).wasm_multi_memory(true).wasm_threads(true).wasm_branch_hinting(true);
    Engine::new(&config).unwrap()
}

fn rewritten(source: &str) -> Vec<u8> {
    instrument(&wat::parse_str(source).unwrap(), false).unwrap().wasm
}

/// Whether the rewriting left the module's first memory with 64-bit addresses.
fn is_wide(wasm: &[u8]) -> bool {
    let memory = Parser::new(0).parse_all(wasm).find_map(|payload| match payload.unwrap() {
        Payload::MemorySection(memories) => memories.into_iter().next(),
        _ => None,
    });
    memory.unwrap().unwrap().memory64
}

/// Number of functions with a body.
fn bodies(wasm: &[u8]) -> usize {
    Parser::new(0).parse_all(wasm).filter(|payload| matches!(payload, Ok(Payload::CodeSectionEntry(_)))).count()
}

/// How a call ended, in a form to compare.
fn ended(returned: wasmtime::Result<()>, results: &[Val]) -> String {
    match returned {
        Ok(()) => results.iter().map(bits).collect::<Vec<_>>().join(" "),
        Err(error) => match error.downcast_ref::<Trap>() {
            Some(trap) => format!("{trap:?}"),
            None => format!("{error:#}"),
        },
    }
}

/// A value; of a NaN only that it is one, since its bits are not the rewriting's business.
fn bits(val: &Val) -> String {
    match val {
        Val::F32(bits) if f32::from_bits(*bits).is_nan() => "NaN".into(),
        Val::F64(bits) if f64::from_bits(*bits).is_nan() => "NaN".into(),
        Val::FuncRef(function) => format!("function {}", function.is_some()),
        Val::ExternRef(reference) => format!("extern {}", reference.is_some()),
        other => format!("{other:?}"),
    }
}

/// Everything that can be seen of a module: how each export ends for some arguments, and then globals and memory.
fn seen(engine: &Engine, wasm: &[u8]) -> Vec<String> {
    let module = Module::new(engine, wasm).unwrap();
    let mut store = Store::new(engine, ());
    let instance = match Instance::new(&mut store, &module, &[]) {
        Ok(instance) => instance,
        Err(error) => return vec![ended(Err(error), &[])],
    };
    let mut seen = Vec::new();
    for export in module.exports().filter(|export| !export.name().starts_with(PREFIX)) {
        match instance.get_export(&mut store, export.name()).unwrap() {
            Extern::Func(function) => {
                let ty = function.ty(&store);
                for number in [0i64, 8, -1, 65_530, 1 << 32, (1 << 40) + 5] {
                    let args: Vec<Val> = ty
                        .params()
                        .map(|ty| match ty {
                            ValType::I32 => Val::I32(number as i32),
                            ValType::I64 => Val::I64(number),
                            ValType::F32 => Val::F32((number as f32).to_bits()),
                            ValType::F64 => Val::F64((number as f64).to_bits()),
                            ValType::V128 => Val::V128((number as u128).into()),
                            ValType::Ref(ty) => Val::null_ref(ty.heap_type()),
                        })
                        .collect();
                    let mut results = vec![Val::I32(0); ty.results().len()];
                    let returned = function.call(&mut store, &args, &mut results);
                    seen.push(format!("{}({number}): {}", export.name(), ended(returned, &results)));
                }
            }
            Extern::Memory(memory) => {
                let data = memory.data(&store);
                seen.push(format!("{} bytes of memory, {}", data.len(), blake3::hash(data)));
            }
            Extern::Global(global) => seen.push(format!("{}: {}", export.name(), bits(&global.get(&mut store)))),
            _ => {}
        }
    }
    seen
}

#[test]
fn random_modules_do_the_same_after_the_rewriting() {
    let engine = engine();
    let count = std::env::var("LOCKSTEP_FUZZ_MODULES").map_or(400, |n| n.parse().unwrap());
    let (mut narrowed, mut metered) = (0, 0);
    for seed in 0..count {
        let mut bytes = vec![0; 4096];
        blake3::Hasher::new().update(&u64::to_le_bytes(seed)).finalize_xof().fill(&mut bytes);
        let config = wasm_smith::Config {
            allow_start_export: false,
            bulk_memory_enabled: true,
            canonicalize_nans: false,
            custom_page_sizes_enabled: false,
            exceptions_enabled: false,
            export_everything: true,
            extended_const_enabled: false,
            gc_enabled: false,
            max_imports: 0,
            max_memories: 1,
            max_memory32_bytes: 10 << 16,
            max_memory64_bytes: 10 << 16,
            memory64_enabled: true,
            memory_max_size_required: true,
            min_funcs: 1,
            min_memories: 1,
            reference_types_enabled: seed % 2 == 0,
            relaxed_simd_enabled: false,
            shared_everything_threads_enabled: false,
            simd_enabled: seed % 3 == 0,
            tail_call_enabled: false,
            threads_enabled: false,
            wide_arithmetic_enabled: false,
            ..wasm_smith::Config::default()
        };
        let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(&bytes)).unwrap();
        module.ensure_termination(1_000).unwrap();
        let wasm = module.to_bytes();
        let Ok(plain) = instrument(&wasm, false) else { continue };
        let expected = seen(&engine, &wasm);
        narrowed += usize::from(is_wide(&wasm) && !is_wide(&plain.wasm));
        assert_eq!(seen(&engine, &plain.wasm), expected, "module {seed}");
        if let Ok(gas) = instrument(&wasm, true) {
            metered += 1;
            // The counter begins at 0 here, which is the limit: run it with room, as the host does.
            assert_eq!(seen(&engine, &with_room(&gas.wasm)), expected, "module {seed}, metered");
        }
    }
    assert!(narrowed * 5 > count as usize && metered * 20 > count as usize, "{narrowed} narrowed, {metered} metered");
}

/// The module with its gas counter beginning far below the limit.
fn with_room(wasm: &[u8]) -> Vec<u8> {
    struct Room;
    impl Reencode for Room {
        type Error = std::convert::Infallible;
        fn parse_global_section(
            &mut self,
            globals: &mut GlobalSection,
            section: wasmparser::GlobalSectionReader<'_>,
        ) -> Result<(), reencode::Error> {
            let count = section.count();
            for (at, global) in section.into_iter().enumerate() {
                let global = global?;
                if at as u32 + 1 == count {
                    let ty = GlobalType { val_type: ValType2::I64, mutable: true, shared: false };
                    globals.global(ty, &ConstExpr::i64_const(i64::MIN / 2));
                } else {
                    reencode::utils::parse_global(self, globals, global)?;
                }
            }
            Ok(())
        }
    }
    use wasm_encoder::ValType as ValType2;
    let mut module = wasm_encoder::Module::new();
    Room.parse_core_module(&mut module, Parser::new(0), wasm).unwrap();
    module.finish()
}

/// Accesses of every kind through an address that is a parameter, and what the analysis must not forget: assignments,
/// branches that meet, loops.
const ACCESSES: &str = r#"(module (memory (export "memory") i64 1 3)
  (data (i64.const 8) "lockstep") (data $passive "0123456789")
  (func (export "load") (param i64) (result i64) (i64.load offset=3 (local.get 0)))
  (func (export "store") (param i64) (i64.store offset=3 (local.get 0) (i64.const 0x0102030405060708)))
  (func (export "store32") (param i64) (i64.store32 (local.get 0) (local.get 0)))
  (func (export "float") (param i64) (result f64) (f64.store (local.get 0) (f64.const 1.5)) (f64.load (local.get 0)))
  (func (export "twice") (param i64) (result i32)
    (i32.add (i32.load8_u (local.get 0)) (i32.load8_u offset=1 (local.get 0))))
  (func (export "reassigned") (param i64) (result i32)
    (drop (i32.load8_u (local.get 0)))
    (local.set 0 (i64.add (local.get 0) (i64.const 0x100000000)))
    (i32.load8_u (local.get 0)))
  (func (export "under") (param i64) (result i32) (local i64)
    (drop (i32.load8_u (local.tee 1 (i64.const 8))))
    (local.get 1) (local.set 1 (local.get 0)) (drop) (i32.load8_u (local.get 1)))
  (func (export "kept_below") (param i64) (result i32)
    (local.get 0) (local.set 0 (i64.const 8)) (i32.load8_u))
  (func (export "one_branch") (param i64) (result i32)
    (if (i64.eqz (local.get 0)) (then (drop (i32.load8_u (local.get 0)))))
    (i32.load8_u (local.get 0)))
  (func (export "both_branches") (param i64) (result i32)
    (if (i64.eqz (local.get 0)) (then (drop (i32.load8_u (local.get 0)))) (else (drop (i32.load8_u offset=1 (local.get 0)))))
    (i32.load8_u (local.get 0)))
  (func (export "past") (param i64) (result i32)
    (block (br_if 0 (i64.ne (local.get 0) (i64.const 8))) (drop (i32.load8_u (local.get 0))))
    (i32.load8_u (local.get 0)))
  (func (export "loop") (param i64) (result i32) (local i64 i32)
    (loop
      (local.set 2 (i32.load8_u (local.get 1)))
      (local.set 1 (i64.add (local.get 1) (i64.const 0x100000000)))
      (br_if 0 (i64.lt_u (local.get 1) (i64.const 0x200000000))))
    (local.get 2))
  (func (export "unreachable") (param i64) (result i32)
    (block (return (i32.load8_u (local.get 0))) (drop (i32.load8_u)) ) (i32.load8_u (local.get 0)))
  (func (export "copy") (param i64) (memory.copy (local.get 0) (i64.const 8) (i64.const 8)))
  (func (export "copy_from") (param i64) (memory.copy (i64.const 8) (local.get 0) (i64.const 8)))
  (func (export "copy_length") (param i64) (memory.copy (i64.const 8) (i64.const 16) (local.get 0)))
  (func (export "fill") (param i64) (memory.fill (local.get 0) (i32.const 7) (i64.const 3)))
  (func (export "fill_length") (param i64) (memory.fill (i64.const 65530) (i32.const 7) (local.get 0)))
  (func (export "init") (param i64) (memory.init $passive (local.get 0) (i32.const 1) (i32.const 5)))
  (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0)))
  (func (export "size") (result i64) (memory.size)))"#;

#[test]
fn every_access_ends_as_it_would_with_64_bit_addresses() {
    let engine = engine();
    let wasm = wat::parse_str(ACCESSES).unwrap();
    let narrow = instrument(&wasm, false).unwrap().wasm;
    assert!(is_wide(&wasm) && !is_wide(&narrow));
    let expected = seen(&engine, &wasm);
    assert_eq!(seen(&engine, &narrow), expected);
    // The oracle itself: an address with upper bits is out of bounds, and 8 is not.
    assert!(expected.contains(&"load(4294967296): MemoryOutOfBounds".to_owned()), "{expected:#?}");
    assert!(expected.iter().any(|line| line.starts_with("load(8): I64(")), "{expected:#?}");
}

#[test]
fn a_memory_that_may_grow_to_4_gib_keeps_its_addresses() {
    let of = |limits: &str, data: &str| rewritten(&format!("(module (memory i64 {limits}) {data})"));
    assert!(!is_wide(&of("1 65535", "")));
    for (limits, data) in [("1 65536", ""), ("1", ""), ("1 2", "(data (i64.const 0x100000000) \"\")")] {
        assert!(is_wide(&of(limits, data)), "{limits} {data}");
    }
    let offset = "(func (result i32) (i32.load offset=0x100000000 (i64.const 0)))";
    assert!(is_wide(&of("1 2", offset)));
}

/// A guest as Asyncify leaves it: `run` adds 1 to a cell, calls `pause` twice round a loop, and adds 100 after each. While
/// it is unwound it keeps the loop's counter and which call it was in.
fn suspendable(extra: &str) -> String {
    format!(
        r#"(module
  (import "host" "pause" (func $pause))
  (memory (export "memory") 1 1)
  (global $state (mut i32) (i32.const 0))
  (global $data (mut i32) (i32.const 0))
  (func $start_unwind (export "asyncify_start_unwind") (param i32)
    (global.set $state (i32.const 1)) (global.set $data (local.get 0)))
  (func (export "asyncify_stop_unwind") (global.set $state (i32.const 0)))
  (func (export "asyncify_start_rewind") (param i32)
    (global.set $state (i32.const 2)) (global.set $data (local.get 0)))
  (func (export "asyncify_stop_rewind") (global.set $state (i32.const 0)))
  {extra}
  (func (export "stale") (result i32)
    (if (global.get $state) (then (unreachable)))
    (call $pause) (global.get $state) (call $pause)
    (if (result i32) (then (i32.const 10)) (else (global.get $state))))
  (func $quiet (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func (export "run") (param $n i32) (result i32) (local $call i32) (local $cell i32)
    (if (i32.eq (global.get $state) (i32.const 2)) (then
      (i32.store (global.get $data) (i32.sub (i32.load (global.get $data)) (i32.const 4)))
      (local.set $n (i32.load (i32.load (global.get $data))))))
    (local.set $call (block $unwind (result i32)
      (if (i32.eq (global.get $state) (i32.const 2)) (then
        (i32.store (global.get $data) (i32.sub (i32.load (global.get $data)) (i32.const 4)))
        (local.set $call (i32.load (i32.load (global.get $data))))))
      (if (i32.eqz (global.get $state)) (then
        (i32.store (i32.const 1024) (call $quiet (i32.load (i32.const 1024))))))
      (loop $again
        (if (i32.or (i32.eqz (global.get $state)) (i32.eqz (local.get $call))) (then
          (call $pause)
          (drop (br_if $unwind (i32.const 0) (i32.eq (global.get $state) (i32.const 1))))))
        (local.set $cell (if (result i32) (global.get $state)
          (then (local.get $cell))
          (else (i32.add (i32.load (i32.const 1024)) (i32.const 100)))))
        (if (i32.eqz (global.get $state)) (then
          (i32.store (i32.const 1024) (local.get $cell))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))))
        (br_if $again (i32.or (i32.gt_s (local.get $n) (i32.const 0)) (i32.eq (global.get $state) (i32.const 2)))))
      (return (i32.load (i32.const 1024)))))
    (i32.store (i32.load (global.get $data)) (local.get $call))
    (i32.store (global.get $data) (i32.add (i32.load (global.get $data)) (i32.const 4)))
    (i32.store (i32.load (global.get $data)) (local.get $n))
    (i32.store (global.get $data) (i32.add (i32.load (global.get $data)) (i32.const 4)))
    (i32.const 0)))"#
    )
}

#[derive(Default)]
struct Pauses {
    count: u32,
    is_rewinding: bool,
}

/// Where Asyncify keeps what it needs.
const DATA: i32 = 2048;

/// An instance of [`suspendable`] that is suspended at the calls of `pause` that `suspends` names by number.
fn suspending(engine: &Engine, wasm: &[u8], suspends: fn(u32) -> bool) -> (Store<Pauses>, Instance) {
    let module = Module::new(engine, wasm).unwrap();
    let mut store = Store::new(engine, Pauses::default());
    let mut linker = Linker::new(engine);
    let pause = move |mut caller: Caller<'_, Pauses>| -> wasmtime::Result<()> {
        let switch = |name: &str, caller: &mut Caller<'_, Pauses>, args: &[Val]| {
            let Some(Extern::Func(function)) = caller.get_export(name) else { panic!("{name}") };
            function.call(caller, args, &mut [])
        };
        if std::mem::take(&mut caller.data_mut().is_rewinding) {
            return switch("asyncify_stop_rewind", &mut caller, &[]);
        }
        caller.data_mut().count += 1;
        if suspends(caller.data().count) {
            return switch("asyncify_start_unwind", &mut caller, &[Val::I32(DATA)]);
        }
        Ok(())
    };
    linker.func_wrap("host", "pause", pause).unwrap();
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    memory.write(&mut store, DATA as usize, &(DATA + 8).to_le_bytes()).unwrap();
    (store, instance)
}

/// What `run(n)` gives, how often it was entered, and the memory it leaves.
fn run_suspended(engine: &Engine, wasm: &[u8], n: i32, suspends: fn(u32) -> bool) -> (i32, u32, Vec<u8>) {
    let (mut store, instance) = suspending(engine, wasm, suspends);
    let run = instance.get_typed_func::<i32, i32>(&mut store, "run").unwrap();
    let call = |store: &mut Store<Pauses>, name: &str, args: &[Val]| {
        instance.get_func(&mut *store, name).unwrap().call(store, args, &mut []).unwrap();
    };
    for entered in 1.. {
        let before = store.data().count;
        let result = run.call(&mut store, n).unwrap();
        let paused = store.data().count;
        if paused == before || !suspends(paused) {
            let memory = instance.get_memory(&mut store, "memory").unwrap();
            return (result, entered, memory.data(&store).to_vec());
        }
        call(&mut store, "asyncify_stop_unwind", &[]);
        store.data_mut().is_rewinding = true;
        call(&mut store, "asyncify_start_rewind", &[Val::I32(DATA)]);
    }
    unreachable!()
}

#[test]
fn a_suspended_guest_goes_on_as_it_would_have() {
    let engine = engine();
    let wasm = wat::parse_str(suspendable("")).unwrap();
    let special = instrument(&wasm, false).unwrap().wasm;
    assert_eq!(bodies(&special), bodies(&wasm) + 2, "`run` and `stale` ask for the state");
    for suspends in [|_| false, |pause| pause == 1, |pause| pause == 2, |pause| pause % 2 == 0, |_| true] {
        for n in [1, 2, 5] {
            let expected = run_suspended(&engine, &wasm, n, suspends);
            assert_eq!(run_suspended(&engine, &special, n, suspends), expected, "{n} rounds");
            assert_eq!(expected.0, 1 + 100 * n);
        }
    }
}

#[test]
fn what_was_read_of_the_state_before_a_call_says_nothing_of_it_after() {
    let engine = engine();
    let wasm = wat::parse_str(suspendable("")).unwrap();
    for (suspends, expected) in
        [(|_| false) as fn(u32) -> bool, |pause| pause == 2, |pause| pause == 1].into_iter().zip([0, 1, 10])
    {
        for wasm in [&wasm, &instrument(&wasm, false).unwrap().wasm] {
            let (mut store, instance) = suspending(&engine, wasm, suspends);
            let stale = instance.get_typed_func::<(), i32>(&mut store, "stale").unwrap();
            assert_eq!(stale.call(&mut store, ()).unwrap(), expected);
        }
    }
}

#[test]
fn asyncify_is_left_as_it_is_where_the_guest_could_switch_by_itself() {
    let body_count = |extra: &str| {
        let wasm = wat::parse_str(suspendable(extra)).unwrap();
        (bodies(&instrument(&wasm, false).unwrap().wasm), bodies(&wasm))
    };
    for extra in [
        "(func (call $start_unwind (i32.const 0)))",
        "(func (global.set $state (i32.const 2)))",
        "(table 1 funcref) (elem (i32.const 0) $start_unwind)",
        "(table 1 funcref) (elem (i32.const 0) funcref (ref.func $start_unwind))",
        "(elem declare func $start_unwind) (func (drop (ref.func $start_unwind)))",
    ] {
        let (after, before) = body_count(extra);
        assert_eq!(after, before, "{extra}");
    }
    let (after, before) = body_count("(func (drop (global.get $data)))");
    assert_eq!(after, before + 2);
}
