//! A guest in memory: instantiated, booted, and called.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use wasmtime::{Global, Instance, Store, Trap, TypedFunc, Val};

use super::{
    engine::Module,
    instance::Call,
    memory::{Image, Memory},
    stop::{Stop, WallClock},
};
use crate::{
    Error, ModuleFormat, gas,
    guest::{
        environ::REFERENCE_PROGRAM,
        host::{
            AsyncifyExports, AsyncifyState, Drop1, DynCall, Exports, Host, Pointers1, Pointers2, Stack, Throw,
            read_string,
        },
    },
    instrument::GAS_EXPORT,
};

/// What every process of a module begins with: memory and globals after start-up.
pub struct Resting {
    pub image: Image,
    pub globals: Vec<Val>,
}

/// `handle(message, environment) -> response`.
enum Handle {
    Narrow(TypedFunc<(i32, i32), i32>),
    Wide(TypedFunc<(i64, i64), i64>),
}

/// How a call of `handle` ended.
pub enum Ending {
    /// It returned this text.
    Returned(String),
    /// It threw: the error value that goes on the wire, and what happened, in words.
    Threw(serde_json::Value, String),
    /// The wall-clock bound passed.
    TimedOut,
}

/// An instance and its memory.
pub struct Live {
    store: Store<Host>,
    instance: Instance,
    handle: Handle,
    globals: Vec<Global>,
    pub memory: Memory,
    stop: Arc<Stop>,
    wall_clock: Arc<WallClock>,
}

impl Live {
    /// Instantiates `module` over `image`; an empty image means that the module's own data is wanted.
    pub fn new(module: &Module, image: Image) -> Result<Self, Error> {
        let mut store = Store::new(module.engine().wasmtime(), Host::new(module.format(), module.env()));
        let limit = module.engine().boot_time_limit();
        let wall_clock = module.engine().wall_clock().clone();
        let stop = Stop::new()?;
        let bounded = wall_clock.bound(&stop, limit);
        let (memory, instance) = Memory::attach(image, module.engine().pagemap(), stop.clone(), || {
            let made = module.pre().instantiate(&mut store);
            made.map_err(|e| start_up_error("cannot be instantiated", &e, &stop, limit))
        })?;
        drop(bounded);
        let names = Names::of(module.format());
        let wide = module.format().is_64();
        let Some(guest_memory) = instance.get_memory(&mut store, names.memory) else {
            return Err(Error::Module(format!("exports no memory `{}`", names.memory)));
        };
        let missing = |e: wasmtime::Error| Error::Module(format!("export `{}`: {e:#}", names.handle));
        let handle = if wide {
            Handle::Wide(instance.get_typed_func(&mut store, names.handle).map_err(missing)?)
        } else {
            Handle::Narrow(instance.get_typed_func(&mut store, names.handle).map_err(missing)?)
        };
        let gas = instance.get_global(&mut store, GAS_EXPORT);
        let globals = module
            .globals()
            .iter()
            .map(|name| instance.get_global(&mut store, name).expect("the rewriting exported every mutable global"))
            .collect();
        let exports = names.bind(&mut store, instance, wide);
        let host = store.data_mut();
        host.memory = Some(guest_memory);
        host.gas = gas;
        host.exports = exports;
        Ok(Self { store, instance, handle, globals, memory, stop, wall_clock })
    }

    /// Runs a module's start-up code as its format wants, and gives the state it leaves.
    pub fn boot(module: &Module) -> Result<Resting, Error> {
        let mut live = Self::new(module, Image::new()?)?;
        let limit = module.engine().boot_time_limit();
        live.reset("", gas::DEFAULT_LIMIT);
        let bounded = live.wall_clock.bound(&live.stop, limit);
        live.start_up(module).map_err(|e| start_up_error("fails at start-up", &e, &live.stop, limit))?;
        drop(bounded);
        live.memory.commit()?;
        let globals = live.globals.iter().map(|g| g.get(&mut live.store)).collect();
        Ok(Resting { image: live.into_image(), globals })
    }

    /// Drops the instance and gives back its undo point.
    pub fn into_image(self) -> Image {
        let Self { store, memory, .. } = self;
        drop(store);
        memory.into_image()
    }

    fn start_up(&mut self, module: &Module) -> wasmtime::Result<()> {
        let format = module.format();
        let names = Names::of(format);
        if format != ModuleFormat::Emscripten {
            self.call_void("emscripten_stack_init")?;
            let end = if format.is_64() {
                self.export::<(), i64>("emscripten_stack_get_end")?.call(&mut self.store, ())? as u64
            } else {
                u64::from(self.export::<(), i32>("emscripten_stack_get_end")?.call(&mut self.store, ())? as u32)
            };
            let end = if end == 0 { 4 } else { end };
            self.write(end, &0x0213_5467_u32.to_le_bytes());
            self.write(end + 4, &0x89BA_CDFE_u32.to_le_bytes());
            self.write(0, &0x6373_6D65_u32.to_le_bytes());
        }
        self.call_void(names.ctors)?;
        if let Some(main) = names.main {
            let (argc, argv) = if format == ModuleFormat::Emscripten2 { self.push_arguments()? } else { (0, 0) };
            let main = self.export::<(i32, i32), i32>(main)?;
            match main.call(&mut self.store, (argc, argv)) {
                // The glue leaves through `exit` in any case, which start-up takes as an end like any other.
                Err(e) if matches!(e.downcast_ref(), Some(Throw::Exit(_))) => {}
                ended => drop(ended?),
            }
        }
        Ok(())
    }

    /// The second glue passes the program's name to `main` on the stack and never takes it back.
    fn push_arguments(&mut self) -> wasmtime::Result<(i32, i32)> {
        let stack = self.stack()?;
        let argv = stack.allocate(&mut self.store, 8)?;
        // The glue allocates four bytes for each UTF-16 unit, and one.
        let name = stack.allocate(&mut self.store, 4 * REFERENCE_PROGRAM.len() as u64 + 1)?;
        self.write(name, REFERENCE_PROGRAM.as_bytes());
        self.write(name + REFERENCE_PROGRAM.len() as u64, &[0]);
        self.write(argv, &(name as u32).to_le_bytes());
        self.write(argv + 4, &0u32.to_le_bytes());
        Ok((1, argv as i32))
    }

    fn export<P: wasmtime::WasmParams, R: wasmtime::WasmResults>(
        &mut self,
        name: &str,
    ) -> wasmtime::Result<TypedFunc<P, R>> {
        self.instance.get_typed_func(&mut self.store, name)
    }

    fn call_void(&mut self, name: &str) -> wasmtime::Result<()> {
        self.export::<(), ()>(name)?.call(&mut self.store, ())
    }

    /// Grows memory to a size and writes these parts of it.
    ///
    /// # Errors
    /// [`Error::Host`] if it cannot be of that size, or a part lies beyond it.
    pub fn overwrite(&mut self, size: usize, parts: &[(usize, Vec<u8>)]) -> Result<(), Error> {
        let failed = |why: String| Error::host("cannot take over a lane's memory", why);
        let memory = self.store.data().memory.expect("set when instantiated");
        let more = size.checked_sub(memory.data_size(&self.store)).ok_or_else(|| failed("it shrank".into()))?;
        if more > 0 {
            let pages = more as u64 / memory.page_size(&self.store);
            memory.grow(&mut self.store, pages).map_err(|e| failed(format!("{e:#}")))?;
        }
        let bytes = memory.data_mut(&mut self.store);
        for (at, part) in parts {
            let slot = bytes.get_mut(*at..).and_then(|rest| rest.get_mut(..part.len()));
            slot.ok_or_else(|| failed(format!("a part at {at} lies beyond its end")))?.copy_from_slice(part);
        }
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let memory = self.store.data().memory.expect("set when instantiated");
        let memory = memory.data_mut(&mut self.store);
        if let Some(slot) = usize::try_from(at).ok().and_then(|at| memory.get_mut(at..at.checked_add(bytes.len())?)) {
            slot.copy_from_slice(bytes);
        }
    }
}

/// Gas and ending of one call.
pub struct Ran {
    pub ending: Ending,
    pub gas: u64,
}

impl Live {
    /// Makes everything but memory what a fresh instance has.
    pub fn reset(&mut self, seed: &str, gas_limit: u64) {
        let gas_limit = i64::try_from(gas_limit).unwrap_or(i64::MAX);
        let host = self.store.data_mut();
        host.reset(seed);
        host.gas_limit = gas_limit as u64;
        if let Some(gas) = host.gas {
            gas.set(&mut self.store, Val::I64(-gas_limit)).expect("the counter is a mutable i64");
        }
    }

    /// Puts the module's own globals back to their resting values.
    pub fn rest(&mut self, resting: &[Val]) {
        for (global, value) in self.globals.iter().zip(resting) {
            global.set(&mut self.store, *value).expect("the value came from this global");
        }
    }

    /// Calls `handle` with a message. Memory is left as the guest leaves it.
    pub fn run(&mut self, call: &Call<'_>, resting: &[Val]) -> Ran {
        self.rest(resting);
        self.reset(call.seed, call.gas_limit);
        let bounded = self.wall_clock.bound(&self.stop, call.time_limit);
        let returned = self.handle(call);
        let timed_out = returned.as_ref().is_err_and(|e| is_stopped(e, &self.stop));
        drop(bounded);
        let headroom = self.store.data().gas.map(|gas| gas.get(&mut self.store).unwrap_i64());
        let gas = headroom.map_or(0, |h| h.wrapping_add(self.store.data().gas_limit as i64).max(0) as u64);
        let out_of_gas = headroom.is_some_and(|h| h > 0);
        let ending = match returned {
            Ok(_) | Err(_) if out_of_gas => Ending::Threw(json!({}), "out of gas!".into()),
            Ok(text) => Ending::Returned(text),
            Err(_) if timed_out => Ending::TimedOut,
            Err(e) => match e.downcast_ref::<Throw>() {
                Some(throw @ Throw::Exit(status)) => Ending::Threw(
                    json!({ "name": "ExitStatus", "message": throw.to_string(), "status": status }),
                    throw.to_string(),
                ),
                _ => Ending::Threw(json!({}), format!("{e:#}")),
            },
        };
        Ran { ending, gas }
    }

    fn handle(&mut self, call: &Call<'_>) -> wasmtime::Result<String> {
        // The glue saves and restores the stack pointer through guest functions, which cost gas like any other.
        let stack = self.stack()?;
        let sp = stack.save(&mut self.store)?;
        let message = self.push_string(call.message)?;
        let environment = self.push_string(call.environment)?;
        loop {
            let response = match &self.handle {
                Handle::Narrow(f) => u64::from(f.call(&mut self.store, (message as i32, environment as i32))? as u32),
                Handle::Wide(f) => f.call(&mut self.store, (message as i64, environment as i64))? as u64,
            };
            let AsyncifyState::Unwinding(data) = self.store.data().asyncify else {
                stack.restore(&mut self.store, sp)?;
                let memory = self.store.data().memory.expect("set when instantiated");
                return Ok(read_string(memory.data(&self.store), response));
            };
            // The guest has left all its frames; what it waited for is there at once, so it goes straight back in.
            let asyncify = self.store.data().exports.asyncify.clone().expect("the guest was unwound through these");
            asyncify.stop_unwind.call(&mut self.store, ())?;
            self.store.data_mut().asyncify = AsyncifyState::Rewinding(data);
            asyncify.start_rewind.call(&mut self.store, data)?;
        }
    }

    /// The guest's stack accessors.
    fn stack(&self) -> wasmtime::Result<Stack> {
        let stack = self.store.data().exports.stack.clone();
        stack.ok_or_else(|| wasmtime::Error::msg("the module exports no stack accessors"))
    }

    /// Puts a string on the guest's stack, with as much room as the format's glue gives it.
    fn push_string(&mut self, text: &str) -> wasmtime::Result<u64> {
        let stack = self.stack()?;
        let bytes = Names::text_bytes(self.store.data().format, text);
        let at = stack.allocate(&mut self.store, bytes + 1)?;
        self.write(at, text.as_bytes());
        self.write(at + text.len() as u64, &[0]);
        Ok(at)
    }
}

/// What a failure before the first message means: the module's fault, but for the wall-clock bound, which is ours.
fn start_up_error(what: &str, error: &wasmtime::Error, stop: &Stop, limit: Duration) -> Error {
    if is_stopped(error, stop) { Error::Timeout(limit) } else { Error::Module(format!("{what}: {error:#}")) }
}

/// Whether a call ended because its guest saw that its time was up.
fn is_stopped(error: &wasmtime::Error, stop: &Stop) -> bool {
    stop.is_set() && matches!(error.downcast_ref(), Some(Trap::UnreachableCodeReached))
}

/// What a format calls the exports that the host needs.
pub(crate) struct Names {
    memory: &'static str,
    table: &'static str,
    pub handle: &'static str,
    ctors: &'static str,
    main: Option<&'static str>,
    /// Functions that give, set and lower the stack pointer.
    pub stack: [&'static str; 3],
    set_threw: &'static str,
    malloc: &'static str,
    errno_location: &'static str,
    /// Called through the guest where Asyncify must see the frames.
    dyn_call: Option<&'static str>,
}

impl Names {
    pub fn of(format: ModuleFormat) -> Self {
        let named = Self {
            memory: "memory",
            table: "__indirect_function_table",
            handle: "handle",
            ctors: "__wasm_call_ctors",
            main: None,
            stack: ["emscripten_stack_get_current", "_emscripten_stack_restore", "_emscripten_stack_alloc"],
            set_threw: "setThrew",
            malloc: "malloc",
            errno_location: "__errno_location",
            dyn_call: None,
        };
        match format {
            ModuleFormat::Emscripten => Self {
                memory: "E",
                table: "I",
                handle: "G",
                ctors: "F",
                main: Some("H"),
                stack: ["M", "N", "O"],
                set_threw: "L",
                malloc: "J",
                errno_location: "K",
                dyn_call: None,
            },
            ModuleFormat::Emscripten2 | ModuleFormat::Emscripten3 => {
                Self { main: Some("main"), stack: ["stackSave", "stackRestore", "stackAlloc"], ..named }
            }
            ModuleFormat::Emscripten4 | ModuleFormat::EmscriptenMetering => {
                Self { dyn_call: Some("dynCall_vii"), ..named }
            }
            ModuleFormat::Wasm64 | ModuleFormat::Wasm64Metering => Self { dyn_call: Some("dynCall_vjj"), ..named },
        }
    }

    /// Bytes that the format's glue gives a text on the stack, beside its NUL.
    pub fn text_bytes(format: ModuleFormat, text: &str) -> u64 {
        match format {
            ModuleFormat::Emscripten | ModuleFormat::Emscripten2 | ModuleFormat::Emscripten3 => {
                4 * text.encode_utf16().count() as u64
            }
            _ => text.len() as u64,
        }
    }

    /// Binds what the instance has. What it lacks is missed only by the host function that needs it.
    fn bind(&self, store: &mut Store<Host>, instance: Instance, wide: bool) -> Exports {
        let [save, restore, allocate] = self.stack;
        let mut pointer_taker = |name: &str| -> Option<Drop1> {
            Some(if wide {
                Drop1::Wide(instance.get_typed_func(&mut *store, name).ok()?)
            } else {
                Drop1::Narrow(instance.get_typed_func(&mut *store, name).ok()?)
            })
        };
        let free = pointer_taker("free");
        let (start_unwind, start_rewind) =
            (pointer_taker("asyncify_start_unwind"), pointer_taker("asyncify_start_rewind"));
        let stop_unwind = instance.get_typed_func(&mut *store, "asyncify_stop_unwind").ok();
        let stop_rewind = instance.get_typed_func(&mut *store, "asyncify_stop_rewind").ok();
        let asyncify = (|| {
            Some(AsyncifyExports {
                start_unwind: start_unwind?,
                stop_unwind: stop_unwind?,
                start_rewind: start_rewind?,
                stop_rewind: stop_rewind?,
            })
        })();
        let mut typed = |wide: bool| -> (Option<Stack>, Option<Pointers1>, Option<Pointers2>, Option<DynCall>) {
            macro_rules! get {
                ($name:expr) => {
                    instance.get_typed_func(&mut *store, $name).ok()
                };
            }
            if wide {
                let stack = (|| Some(Stack::Wide(get!(save)?, get!(restore)?, get!(allocate)?)))();
                let malloc = get!(self.malloc).map(Pointers1::Wide);
                let set_threw = get!(self.set_threw).map(Pointers2::Wide);
                let dyn_call = self.dyn_call.and_then(|name| get!(name)).map(DynCall::Vjj);
                (stack, malloc, set_threw, dyn_call)
            } else {
                let stack = (|| Some(Stack::Narrow(get!(save)?, get!(restore)?, get!(allocate)?)))();
                let malloc = get!(self.malloc).map(Pointers1::Narrow);
                let set_threw = get!(self.set_threw).map(Pointers2::Narrow);
                let dyn_call = self.dyn_call.and_then(|name| get!(name)).map(DynCall::Vii);
                (stack, malloc, set_threw, dyn_call)
            }
        };
        let (stack, malloc, set_threw, dyn_call) = typed(wide);
        Exports {
            table: instance.get_table(&mut *store, self.table),
            dyn_call,
            stack,
            set_threw,
            malloc,
            free,
            errno_location: instance.get_typed_func(&mut *store, self.errno_location).ok(),
            memalign: instance.get_typed_func(&mut *store, "emscripten_builtin_memalign").ok(),
            asyncify,
        }
    }
}
