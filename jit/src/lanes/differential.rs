//! A module's functions on both engines, and random modules for them: what tests and the fuzzer compare.
//!
//! It panics where the engines differ.

use arbitrary::Unstructured;
use lockstep_shaders::device::Device;
use wasmtime::Val;

use super::*;
use crate::instrument::{GAS_EXPORT, instrument};

/// How integers of 64 bits can be computed here.
pub(super) fn forms(device: &Device) -> Vec<Integers> {
    if device.found.int64 { vec![Integers::Native, Integers::Pairs] } else { vec![Integers::Pairs] }
}

/// What a call came to, on either engine.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub ended: Result<Vec<u64>, String>,
    pub gas: Option<u64>,
    pub memory: Vec<u8>,
    pub globals: Vec<u64>,
}

impl Seen {
    /// Panics, naming `what`, if this is not what the native engine came to.
    pub fn must_be(&self, native: &Seen, what: &str) {
        assert!(
            self == native,
            "{what}: lane {:x?} {:?} {:x?}, native {:x?} {:?} {:x?}",
            self.ended,
            self.gas,
            self.globals,
            native.ended,
            native.gas,
            native.globals
        );
    }
}

pub(super) fn bits(value: &Val) -> u64 {
    match value {
        Val::I32(v) => u64::from(*v as u32),
        Val::I64(v) => *v as u64,
        Val::F32(v) => u64::from(*v),
        Val::F64(v) => *v,
        other => panic!("{other:?} has no bits here"),
    }
}

/// A module on both engines.
pub(super) struct Both {
    wasm: Vec<u8>,
    is_metered: bool,
    native: wasmtime::Engine,
    module: wasmtime::Module,
}

impl Both {
    pub fn new(wasm: &[u8], is_metered: bool) -> Both {
        let mut config = wasmtime::Config::new();
        config.wasm_multi_memory(true).wasm_threads(true).wasm_memory64(true);
        let native = wasmtime::Engine::new(&config).unwrap();
        let instrumented = instrument(wasm, is_metered).unwrap();
        let module = wasmtime::Module::new(&native, instrumented.wasm).unwrap();
        Both { wasm: wasm.to_vec(), is_metered, native, module }
    }

    /// Each call on a fresh instance; first what every instance begins with.
    pub fn native(&self, name: &str, arguments: &[u64]) -> (Seen, Seen) {
        let mut store = wasmtime::Store::new(&self.native, ());
        let instance = wasmtime::Instance::new(&mut store, &self.module, &[]).unwrap();
        let state = |store: &mut wasmtime::Store<()>, ended| {
            let names: Vec<_> = self.module.exports().map(|export| export.name().to_owned()).collect();
            let memory = names.iter().find_map(|name| instance.get_memory(&mut *store, name));
            let memory = memory.map(|m| m.data(&*store).to_vec());
            let mut globals: Vec<(usize, u64)> = names
                .iter()
                .filter_map(|name| {
                    let at = name.strip_prefix("lockstep.global.")?.parse().ok()?;
                    Some((at, bits(&instance.get_global(&mut *store, name)?.get(&mut *store))))
                })
                .collect();
            globals.sort_unstable();
            let gas = instance.get_global(&mut *store, GAS_EXPORT).map(|gas| bits(&gas.get(&mut *store)));
            Seen {
                ended,
                gas: gas.filter(|_| self.is_metered),
                memory: memory.unwrap_or_default(),
                globals: globals.into_iter().map(|(_, value)| value).collect(),
            }
        };
        let before = state(&mut store, Ok(Vec::new()));
        // The count is of gas above the limit.
        if let Some(gas) = instance.get_global(&mut store, GAS_EXPORT) {
            gas.set(&mut store, Val::I64(-(1 << 60))).unwrap();
        }
        let function = instance.get_func(&mut store, name).unwrap();
        let ty = function.ty(&store);
        let given: Vec<Val> = ty
            .params()
            .zip(arguments)
            .map(|(ty, value)| match ty {
                wasmtime::ValType::I32 => Val::I32(*value as i32),
                wasmtime::ValType::I64 => Val::I64(*value as i64),
                wasmtime::ValType::F32 => Val::F32(*value as u32),
                _ => Val::F64(*value),
            })
            .collect();
        let mut got = vec![Val::I32(0); ty.results().len()];
        let ended = match function.call(&mut store, &given, &mut got) {
            Ok(()) => Ok(got.iter().map(bits).collect()),
            Err(error) => Err(format!("{}", error.root_cause())),
        };
        let mut after = state(&mut store, ended);
        after.gas = after.gas.map(|gas| gas.wrapping_add(1 << 60));
        (before, after)
    }

    /// As many lanes as there are calls, all in one dispatch.
    pub fn lanes(
        &self,
        device: &Device,
        form: Form,
        before: &Seen,
        calls: &[(&str, Vec<u64>)],
    ) -> Result<Vec<(Ending, Seen)>, crate::Error> {
        let mut names: Vec<&str> = calls.iter().map(|(name, _)| *name).collect();
        names.dedup();
        let kernel = Kernel::compile(&self.wasm, self.is_metered, form, &names)?;
        let program = program::Program::read(&self.wasm, self.is_metered).unwrap();
        let compiled = Compiled::new(device, kernel).unwrap();
        let pages = before.memory.len() / 65_536;
        let shape = compiled.shape(0, 4096, (pages as u32 + 2).max(2));
        let group = Group::new(&compiled, shape, calls.len() as u32, &before.memory).unwrap();
        let mut mutable = before.globals.iter();
        let globals: Vec<u64> = program
            .globals
            .iter()
            .map(|global| if global.is_mutable { *mutable.next().unwrap() } else { global.initial.unwrap_or(0) })
            .collect();
        let asked: Vec<_> = (0..)
            .zip(calls)
            .map(|(lane, (name, arguments))| Call {
                lane,
                entry: name,
                arguments,
                globals: &globals,
                pages: pages as u32,
                inbox: &[],
            })
            .collect();
        let returned = group.run(&asked, std::time::Instant::now() + std::time::Duration::from_secs(20)).unwrap();
        let memory: Vec<_> = (0..).zip(&returned).map(|(lane, r)| (lane, 0, r.pages * 65_536)).collect();
        let memory = group.read_memory(&memory).unwrap();
        let seen = returned
            .into_iter()
            .zip(memory)
            .map(|(returned, memory)| {
                let kept = |at: &usize| program.globals[*at].is_mutable;
                let came = Seen {
                    ended: match returned.ending {
                        Ending::Done => Ok(returned.results),
                        ending => Err(ending.to_string()),
                    },
                    gas: self.is_metered.then_some(returned.gas),
                    memory,
                    globals: (0..program.globals.len()).filter(kept).map(|at| returned.globals[at]).collect(),
                };
                (returned.ending, came)
            })
            .collect();
        Ok(seen)
    }
}

/// Calls a random module's functions with random arguments on both engines, and compares. Gives for each call why it bailed, if
/// it did; none: the bytes make no module that can be called.
///
/// # Errors
/// Why there is no kernel.
///
/// # Panics
/// If the engines differ.
pub fn random_calls(device: &Device, seed: u64, bytes: &[u8]) -> Option<Result<Vec<Option<Bail>>, crate::Error>> {
    let (wasm, names) = random_module(seed, bytes)?;
    Some(compare_calls(device, seed, &wasm, &names))
}

fn compare_calls(device: &Device, seed: u64, wasm: &[u8], names: &[String]) -> Result<Vec<Option<Bail>>, crate::Error> {
    let both = Both::new(wasm, instrument(wasm, true).is_ok());
    let mut asked = Vec::new();
    for name in names {
        for turn in 0..3 {
            let digest = blake3::hash(format!("{seed} {name} {turn}").as_bytes());
            let whole = digest.as_bytes().chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
            // Small numbers reach memory.
            let arguments: Vec<u64> =
                whole.cycle().take(16).map(|n| if turn == 0 { n % 3 } else { n >> (n % 64) }).collect();
            asked.push((name.as_str(), arguments));
        }
    }
    let (before, _) = both.native(&names[0], &asked[0].1);
    // Where integers can be computed both ways, half of the modules are.
    let forms = forms(device);
    let integers = forms[seed as usize / 4 % forms.len()];
    let lanes = both.lanes(device, Form { integers, trust: Trust::FULL }, &before, &asked)?;
    let compare = |((name, arguments), (ending, lane)): (&(&str, Vec<u64>), (Ending, Seen))| {
        if let Ending::Bail(bail) = ending {
            return Some(bail);
        }
        let (_, native) = both.native(name, arguments);
        if native.ended.as_ref().is_err_and(|why| why.contains("call stack exhausted")) {
            return None;
        }
        match ending {
            Ending::Done => lane.must_be(&native, &format!("module {seed} {name}, {integers:?}")),
            _ => assert_eq!(lane.ended, native.ended, "module {seed} {name}, {integers:?}"),
        }
        None
    };
    Ok(asked.iter().zip(lanes).map(compare).collect())
}

/// A module from the authors of the parser that ends, and the functions that it exports.
fn random_module(seed: u64, bytes: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
    let config = wasm_smith::Config {
        allow_start_export: false,
        bulk_memory_enabled: seed % 4 == 1,
        // Which NaN an instruction gives depends on how Cranelift orders its operands.
        canonicalize_nans: true,
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        export_everything: true,
        extended_const_enabled: false,
        gc_enabled: false,
        max_imports: 0,
        max_memories: 1,
        max_memory32_bytes: 4 << 16,
        max_memory64_bytes: 4 << 16,
        memory64_enabled: seed % 4 == 2,
        memory_max_size_required: true,
        min_funcs: 1,
        max_funcs: 6,
        min_memories: 1,
        max_instructions: 120,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    };
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(bytes)).ok()?;
    module.ensure_termination(1_000).ok()?;
    let wasm = module.to_bytes();
    instrument(&wasm, false).ok()?;
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, &wasm).ok()?;
    let fits = |ty: &wasmtime::FuncType| {
        let plain = |ty: wasmtime::ValType| ty.is_i32() || ty.is_i64() || ty.is_f32() || ty.is_f64();
        ty.params().all(plain) && ty.results().all(plain) && ty.params().len() <= 16 && ty.results().len() <= 16
    };
    let names: Vec<String> = module
        .exports()
        .filter(|export| export.ty().func().is_some_and(&fits))
        .map(|export| export.name().to_owned())
        .collect();
    let memory_is_one = module.exports().any(|export| export.ty().memory().is_some());
    let mut store = wasmtime::Store::new(&engine, ());
    wasmtime::Instance::new(&mut store, &module, &[]).ok()?;
    (!names.is_empty() && memory_is_one).then_some((wasm, names))
}
