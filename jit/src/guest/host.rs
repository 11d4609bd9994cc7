//! What a running guest's host functions share: clock, files, exports to call back, and guest memory seen as the
//! JavaScript glue sees it.

use wasmtime::{AsContext, AsContextMut, Caller, Global, Memory, Table, TypedFunc};

use super::{
    clock::Clock,
    environ::GuestEnv,
    files::{Files, Glue, Stdin},
    text::JsString,
};
use crate::ModuleFormat;

/// Why a guest's call ended other than by returning.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Throw {
    /// `longjmp`: caught by the innermost `invoke_*`.
    #[error("longjmp outside of an invoke")]
    LongJump,
    /// `exit(status)`.
    #[error("Program terminated with exit({0})")]
    Exit(i32),
    /// `abort`, a failed assertion of the glue, a host function asked for the impossible.
    #[error("Aborted({0})")]
    Abort(String),
    /// The inline counter passed the limit inside a host call.
    #[error("out of gas!")]
    OutOfGas,
}

/// Guest exports that host functions call. Which exist depends on the format.
#[derive(Clone, Default)]
pub struct Exports {
    /// The function table.
    pub table: Option<Table>,
    /// Calls a table entry of type `(ptr, ptr)`, where Asyncify needs calls to go through the guest.
    pub dyn_call: Option<DynCall>,
    /// The stack pointer's accessors.
    pub stack: Option<Stack>,
    /// `setThrew(threw, value)`.
    pub set_threw: Option<Pointers2>,
    /// `malloc(bytes)`.
    pub malloc: Option<Pointers1>,
    /// `free(pointer)`.
    pub free: Option<Drop1>,
    /// `__errno_location()`.
    pub errno_location: Option<TypedFunc<(), i32>>,
    /// `emscripten_builtin_memalign(alignment, bytes)`, for the two formats that map files.
    pub memalign: Option<TypedFunc<(i32, i32), i32>>,
    /// Asyncify's four switches, in the order start/stop unwind, start/stop rewind.
    pub asyncify: Option<AsyncifyExports>,
}

/// `dynCall_vii` or `dynCall_vjj`.
#[derive(Clone)]
pub enum DynCall {
    /// 32-bit.
    Vii(TypedFunc<(i32, i32, i32), ()>),
    /// 64-bit.
    Vjj(TypedFunc<(i32, i64, i64), ()>),
}

/// Stack pointer accessors.
#[derive(Clone)]
pub enum Stack {
    /// 32-bit: save, restore, allocate.
    Narrow(TypedFunc<(), i32>, TypedFunc<i32, ()>, TypedFunc<i32, i32>),
    /// 64-bit.
    Wide(TypedFunc<(), i64>, TypedFunc<i64, ()>, TypedFunc<i64, i64>),
}

/// `f(pointer) -> pointer`.
#[derive(Clone)]
pub enum Pointers1 {
    /// 32-bit.
    Narrow(TypedFunc<i32, i32>),
    /// 64-bit.
    Wide(TypedFunc<i64, i64>),
}

/// `f(pointer)`.
#[derive(Clone)]
pub enum Drop1 {
    /// 32-bit.
    Narrow(TypedFunc<i32, ()>),
    /// 64-bit.
    Wide(TypedFunc<i64, ()>),
}

/// `f(pointer, int)`.
#[derive(Clone)]
pub enum Pointers2 {
    /// 32-bit.
    Narrow(TypedFunc<(i32, i32), ()>),
    /// 64-bit.
    Wide(TypedFunc<(i64, i32), ()>),
}

/// `asyncify_{start,stop}_{unwind,rewind}`.
#[derive(Clone)]
pub struct AsyncifyExports {
    /// `asyncify_start_unwind(data)`.
    pub start_unwind: Drop1,
    /// `asyncify_stop_unwind()`.
    pub stop_unwind: TypedFunc<(), ()>,
    /// `asyncify_start_rewind(data)`.
    pub start_rewind: Drop1,
    /// `asyncify_stop_rewind()`.
    pub stop_rewind: TypedFunc<(), ()>,
}

impl Stack {
    /// The stack pointer.
    pub fn save(&self, cx: impl AsContextMut<Data = Host>) -> wasmtime::Result<u64> {
        Ok(match self {
            Self::Narrow(save, ..) => u64::from(save.call(cx, ())? as u32),
            Self::Wide(save, ..) => save.call(cx, ())? as u64,
        })
    }

    /// Puts the stack pointer back.
    pub fn restore(&self, cx: impl AsContextMut<Data = Host>, to: u64) -> wasmtime::Result<()> {
        match self {
            Self::Narrow(_, restore, _) => restore.call(cx, to as i32),
            Self::Wide(_, restore, _) => restore.call(cx, to as i64),
        }
    }

    /// Allocates on the stack; the guest aligns.
    pub fn allocate(&self, cx: impl AsContextMut<Data = Host>, bytes: u64) -> wasmtime::Result<u64> {
        Ok(match self {
            Self::Narrow(.., allocate) => u64::from(allocate.call(cx, bytes as i32)? as u32),
            Self::Wide(.., allocate) => allocate.call(cx, bytes as i64)? as u64,
        })
    }
}

impl Pointers1 {
    /// Calls it.
    pub fn call(&self, cx: impl AsContextMut<Data = Host>, a: u64) -> wasmtime::Result<u64> {
        Ok(match self {
            Self::Narrow(f) => u64::from(f.call(cx, a as i32)? as u32),
            Self::Wide(f) => f.call(cx, a as i64)? as u64,
        })
    }
}

impl Drop1 {
    /// Calls it.
    pub fn call(&self, cx: impl AsContextMut<Data = Host>, a: u64) -> wasmtime::Result<()> {
        match self {
            Self::Narrow(f) => f.call(cx, a as i32),
            Self::Wide(f) => f.call(cx, a as i64),
        }
    }
}

impl Pointers2 {
    /// Calls it.
    pub fn call(&self, cx: impl AsContextMut<Data = Host>, a: u64, b: i32) -> wasmtime::Result<()> {
        match self {
            Self::Narrow(f) => f.call(cx, (a as i32, b)),
            Self::Wide(f) => f.call(cx, (a as i64, b)),
        }
    }
}

/// Where Asyncify stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsyncifyState {
    /// Running.
    #[default]
    Normal,
    /// Leaving the guest's frames, saving them at this address.
    Unwinding(u64),
    /// Entering them again from there.
    Rewinding(u64),
}

/// The data of a guest's store.
pub struct Host {
    /// The format, which decides pointer width and glue.
    pub format: ModuleFormat,
    /// What `environ_get` gives.
    pub env: GuestEnv,
    /// The counter behind every clock.
    pub clock: Clock,
    /// What the guest's `/dev/urandom` is seeded by.
    seed: String,
    /// The file system, once the guest has used it.
    files: Option<Files>,
    /// The linear memory; set once instantiated.
    pub memory: Option<Memory>,
    /// Exports; set once instantiated.
    pub exports: Exports,
    /// Asyncify's state.
    pub asyncify: AsyncifyState,
    /// The gas counter's global, in metered modules: gas used minus [`Self::gas_limit`].
    pub gas: Option<Global>,
    /// The limit of this evaluation.
    pub gas_limit: u64,
    /// `setTempRet0`.
    pub temp_ret0: i32,
    /// Whether the two oldest glues have set the time zone in this instance.
    pub time_zone_is_set: bool,
    /// Most bytes that linear memory may reach, from the glue.
    pub heap_max: u64,
}

impl Host {
    /// Before an instance exists.
    pub fn new(format: ModuleFormat, env: GuestEnv) -> Self {
        let mut host = Self {
            format,
            env,
            clock: Clock::new(),
            seed: String::new(),
            files: None,
            memory: None,
            exports: Exports::default(),
            asyncify: AsyncifyState::Normal,
            gas: None,
            gas_limit: 0,
            temp_ret0: 0,
            time_zone_is_set: false,
            heap_max: match format {
                ModuleFormat::Emscripten | ModuleFormat::Emscripten2 => 524_288_000,
                ModuleFormat::Emscripten3 | ModuleFormat::Emscripten4 | ModuleFormat::EmscriptenMetering => {
                    4_294_901_760
                }
                ModuleFormat::Wasm64 | ModuleFormat::Wasm64Metering => 17_179_869_184,
            },
        };
        host.reset("");
        host
    }

    /// Makes everything that lives outside guest memory what a fresh instance has: evaluation is a function of module,
    /// memory and message alone.
    pub fn reset(&mut self, seed: &str) {
        self.clock = Clock::new();
        if let Some(glue) = glue(self.format) {
            self.clock.next_ms += Files::boot_readings(glue);
        }
        self.seed.clear();
        self.seed.push_str(seed);
        self.files = None;
        self.asyncify = AsyncifyState::Normal;
        self.temp_ret0 = 0;
        self.time_zone_is_set = false;
    }

    /// The file system, and the clock that operations on it read; none in the first format. Few messages use one, so it
    /// is made by the first that does, as it would have been before the message began.
    pub fn files(&mut self) -> Option<(&mut Files, &mut Clock)> {
        let glue = glue(self.format)?;
        let stdin = match self.env {
            GuestEnv::Reference => Stdin::Unreadable,
            GuestEnv::Empty => Stdin::AtEnd,
        };
        let files =
            self.files.get_or_insert_with(|| Files::boot(glue, &self.seed, &mut Clock::new()).with_stdin(stdin));
        Some((files, &mut self.clock))
    }
}

/// Which file system glue a format has.
pub fn glue(format: ModuleFormat) -> Option<Glue> {
    match format {
        ModuleFormat::Emscripten => None,
        ModuleFormat::Emscripten2 => Some(Glue::Emscripten2),
        ModuleFormat::Emscripten3 => Some(Glue::Emscripten3),
        ModuleFormat::Emscripten4 | ModuleFormat::EmscriptenMetering => Some(Glue::Emscripten4),
        ModuleFormat::Wasm64 | ModuleFormat::Wasm64Metering => Some(Glue::Wasm64),
    }
}

/// A host function's view of its guest. Memory is read and written as the glue's typed arrays do it: out of bounds (and,
/// with 64-bit pointers, misaligned) reads give 0 and writes do nothing, and 32-bit addresses are rounded down to the
/// element's size.
pub struct Guest<'a, 'b> {
    /// The call in progress.
    pub caller: &'a mut Caller<'b, Host>,
}

impl Guest<'_, '_> {
    /// Whether pointers are 64 bits wide.
    pub fn is_wide(&self) -> bool {
        self.caller.data().format.is_64()
    }

    /// Size of a pointer, bytes.
    pub fn pointer_bytes(&self) -> u64 {
        if self.is_wide() { 8 } else { 4 }
    }

    /// All of linear memory, with the store's data beside it. Empty while a start function runs.
    pub fn split(&mut self) -> (&mut [u8], &mut Host) {
        match self.caller.data().memory {
            Some(memory) => memory.data_and_store_mut(&mut *self.caller),
            None => (&mut [], self.caller.data_mut()),
        }
    }

    /// All of linear memory.
    pub fn memory(&mut self) -> &mut [u8] {
        self.split().0
    }

    fn element(&mut self, at: u64, bytes: u64) -> Option<&mut [u8]> {
        let at = match self.is_wide() {
            true if !at.is_multiple_of(bytes) => return None,
            true => at,
            false => at & !(bytes - 1),
        };
        let at = usize::try_from(at).ok()?;
        self.memory().get_mut(at..at.checked_add(bytes as usize)?)
    }

    /// An `i32` element.
    pub fn read_i32(&mut self, at: u64) -> i32 {
        self.element(at, 4).map_or(0, |b| i32::from_le_bytes((&*b).try_into().expect("four bytes")))
    }

    /// Writes an `i32` element.
    pub fn write_i32(&mut self, at: u64, value: i32) {
        if let Some(b) = self.element(at, 4) {
            b.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Writes an `i16` element.
    pub fn write_i16(&mut self, at: u64, value: i16) {
        if let Some(b) = self.element(at, 2) {
            b.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Writes an `i64` element.
    pub fn write_i64(&mut self, at: u64, value: i64) {
        if let Some(b) = self.element(at, 8) {
            b.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// A pointer or `size_t`.
    pub fn read_pointer(&mut self, at: u64) -> u64 {
        let bytes = self.pointer_bytes();
        self.element(at, bytes).map_or(0, |b| {
            let mut wide = [0; 8];
            wide[..b.len()].copy_from_slice(b);
            u64::from_le_bytes(wide)
        })
    }

    /// Writes a pointer or `size_t`.
    pub fn write_pointer(&mut self, at: u64, value: u64) {
        let bytes = self.pointer_bytes();
        if let Some(b) = self.element(at, bytes) {
            let len = b.len();
            b.copy_from_slice(&value.to_le_bytes()[..len]);
        }
    }

    /// Writes bytes one by one, as far as memory reaches.
    pub fn write_bytes(&mut self, at: u64, bytes: &[u8]) {
        let memory = self.memory();
        let Ok(at) = usize::try_from(at) else { return };
        if at < memory.len() {
            let len = bytes.len().min(memory.len() - at);
            memory[at..at + len].copy_from_slice(&bytes[..len]);
        }
    }

    /// The NUL-terminated string at `at`, as the glue reads one.
    pub fn read_string(&mut self, at: u64) -> JsString {
        JsString::from_guest(self.memory(), usize::try_from(at).unwrap_or(usize::MAX))
    }

    /// `length` bytes at `at`, or fewer where memory ends.
    pub fn bytes(&mut self, at: u64, length: u64) -> &mut [u8] {
        let memory = self.memory();
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(memory.len());
        let (begin, end) = (clamp(at), clamp(at.saturating_add(length)));
        &mut memory[begin..end]
    }
}

/// The NUL-terminated UTF-8 string at `at` of `memory`, decoded as a browser's `TextDecoder` does: what is not UTF-8
/// becomes U+FFFD.
pub fn read_string(memory: &[u8], at: u64) -> String {
    let Some(tail) = usize::try_from(at).ok().filter(|at| *at != 0).and_then(|at| memory.get(at..)) else {
        return String::new();
    };
    let end = tail.iter().position(|b| *b == 0).unwrap_or(tail.len());
    String::from_utf8_lossy(&tail[..end]).into_owned()
}

impl<'b> AsContext for Guest<'_, 'b> {
    type Data = Host;

    fn as_context(&self) -> wasmtime::StoreContext<'_, Host> {
        self.caller.as_context()
    }
}

impl AsContextMut for Guest<'_, '_> {
    fn as_context_mut(&mut self) -> wasmtime::StoreContextMut<'_, Host> {
        self.caller.as_context_mut()
    }
}
