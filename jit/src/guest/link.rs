//! Binding a module's imports to host functions.

use wasmtime::{Caller, ExternType, FuncType, Linker, Module, Val, ValType};

use super::{
    control, files_calls as files,
    host::{Guest, Host},
    time,
};
use crate::{Error, ModuleFormat};

/// An argument as the glue sees it: 32-bit integers are also 64-bit ones, by their type's rule.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    bits: u64,
    is_64: bool,
}

impl Arg {
    /// As a signed integer.
    pub fn int(self) -> i64 {
        if self.is_64 { self.bits as i64 } else { i64::from(self.bits as i32) }
    }

    /// As a signed 32-bit integer (file descriptors, flags).
    pub fn i32(self) -> i32 {
        self.bits as i32
    }

    /// As an address or size.
    pub fn pointer(self) -> u64 {
        if self.is_64 { self.bits } else { u64::from(self.bits as u32) }
    }

    /// Whether the module declares it 64 bits wide.
    pub fn is_64(self) -> bool {
        self.is_64
    }
}

/// What a host function returns. JavaScript's `undefined` is 0.
#[derive(Clone, Copy, Debug)]
pub enum Ret {
    /// An integer or a pointer.
    Int(i64),
    /// A double.
    Double(f64),
}

impl From<i32> for Ret {
    fn from(n: i32) -> Self {
        Self::Int(i64::from(n))
    }
}

impl From<i64> for Ret {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<u64> for Ret {
    fn from(n: u64) -> Self {
        Self::Int(n as i64)
    }
}

impl From<()> for Ret {
    fn from((): ()) -> Self {
        Self::Int(0)
    }
}

/// A host function: arguments missing in the module's declaration read as 0.
pub type HostFn = fn(&mut Guest<'_, '_>, &Args<'_>) -> wasmtime::Result<Ret>;

/// The arguments of a call.
pub struct Args<'a>(pub &'a [Arg]);

impl Args<'_> {
    /// The argument at `index`.
    pub fn at(&self, index: usize) -> Arg {
        self.0.get(index).copied().unwrap_or(Arg { bits: 0, is_64: false })
    }

    /// How many the module passes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// The function that `format` provides for an import, or none.
pub fn resolve(format: ModuleFormat, module: &str, name: &str) -> Option<HostFn> {
    use ModuleFormat::*;
    if module == "metering" {
        return (name == "usegas").then_some(control::use_gas as HostFn);
    }
    let name = match format {
        Emscripten => {
            if module != "a" {
                return None;
            }
            return minified(name);
        }
        _ if module == "env" || module == "wasi_snapshot_preview1" => name,
        _ => return None,
    };
    let f: HostFn = match (format, name) {
        // Control.
        (Emscripten2 | Emscripten3 | Emscripten4 | EmscriptenMetering, "invoke_vii") => control::invoke,
        (Wasm64 | Wasm64Metering, "invoke_vjj") => control::invoke,
        (_, "_emscripten_throw_longjmp") => control::throw_longjmp,
        (_, "exit") => control::exit,
        (Emscripten2 | Emscripten3, "abort") => control::abort,
        (Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "_abort_js") => control::abort,
        (Emscripten2 | Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "__assert_fail") => {
            control::assert_fail
        }
        (Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "__cxa_throw") => control::cxa_throw,
        (_, "emscripten_resize_heap") => control::resize_heap,
        (_, "emscripten_get_heap_max") => control::heap_max,
        (Emscripten2, "emscripten_memcpy_big") => control::memcpy,
        (Emscripten3, "emscripten_memcpy_js") => control::memcpy,
        (Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "_emscripten_memcpy_js") => control::memcpy,
        (Emscripten2, "getTempRet0") => control::get_temp_ret0,
        (Emscripten2, "setTempRet0") => control::set_temp_ret0,
        (Emscripten2, "_dlinit") => control::nothing,
        (Emscripten2, "_dlopen_js" | "_dlsym_js") => control::no_dynamic_linking,
        (Emscripten2, "system") => control::system_errno,
        (Emscripten3 | Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "_emscripten_system") => {
            control::system
        }
        (Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "metering_gasUsed") => control::gas_used,
        (Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "__asyncjs__weavedrive_open") => {
            control::weavedrive_open
        }
        (
            Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering,
            "__asyncjs__weavedrive_read" | "__asyncjs__weavedrive_close",
        ) => control::weavedrive_absent,
        (Wasm64 | Wasm64Metering, "emscripten_err") => control::nothing,
        (_, "environ_get") => control::environ_get,
        (_, "environ_sizes_get") => control::environ_sizes_get,
        // Time.
        (Emscripten2, "_emscripten_date_now") => time::epoch,
        (Emscripten3 | Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "emscripten_date_now") => {
            time::date_now
        }
        (Emscripten2, "emscripten_get_now") => time::not_a_number,
        (_, "emscripten_get_now") => time::date_now,
        (_, "_emscripten_get_now_is_monotonic") => time::is_monotonic,
        (_, "_gmtime_js") => time::gmtime,
        (_, "_localtime_js") => time::localtime,
        (_, "_mktime_js") => time::mktime,
        (_, "_tzset_js") => time::tzset,
        (_, "strftime") => time::strftime,
        (Emscripten4 | EmscriptenMetering | Wasm64 | Wasm64Metering, "strftime_l") => time::strftime,
        // Files.
        (_, "__syscall_chmod") => files::chmod,
        (_, "__syscall_dup3") => files::dup3,
        (_, "__syscall_faccessat") => files::faccessat,
        (_, "__syscall_fchmod") => files::fchmod,
        (_, "__syscall_fchown32") => files::fchown,
        (_, "__syscall_fcntl64") => files::fcntl,
        (_, "__syscall_fstat64") => files::fstat,
        (_, "__syscall_ftruncate64") => files::ftruncate,
        (_, "__syscall_getcwd") => files::getcwd,
        (_, "__syscall_ioctl") => files::ioctl,
        (_, "__syscall_lstat64") => files::lstat,
        (_, "__syscall_mkdirat") => files::mkdirat,
        (_, "__syscall_newfstatat") => files::newfstatat,
        (_, "__syscall_openat") => files::openat,
        (_, "__syscall_readlinkat") => files::readlinkat,
        (_, "__syscall_renameat") => files::renameat,
        (_, "__syscall_rmdir") => files::rmdir,
        (_, "__syscall_stat64") => files::stat,
        (_, "__syscall_unlinkat") => files::unlinkat,
        (_, "__syscall_utimensat") => files::utimensat,
        (Emscripten2 | Emscripten3, "_mmap_js") => files::mmap,
        (_, "_munmap_js") => files::munmap,
        (_, "fd_close") => files::fd_close,
        (_, "fd_fdstat_get") => files::fd_fdstat_get,
        (_, "fd_read") => files::fd_read,
        (_, "fd_seek") => files::fd_seek,
        (_, "fd_sync") => files::fd_sync,
        (_, "fd_write") => files::fd_write,
        _ => return None,
    };
    Some(f)
}

/// The first format's imports: one letter each, and a file system of constants.
fn minified(name: &str) -> Option<HostFn> {
    Some(match name {
        "a" => time::epoch,
        "b" => control::set_temp_ret0,
        "c" | "y" => control::not_supported,
        "d" | "e" | "g" | "r" | "s" | "t" | "w" | "z" => control::nothing,
        "f" => files::discard_write,
        "h" => control::get_temp_ret0,
        "i" => time::mktime,
        "j" => time::tzset,
        "k" => control::memcpy,
        "l" => control::exit,
        "m" => control::system_errno,
        "n" => time::strftime,
        "o" => control::no_seek,
        "p" => control::throw_longjmp,
        "q" => control::resize_heap,
        "u" => control::environ_get,
        "v" => control::environ_sizes_get,
        "x" => control::invoke,
        "A" => time::is_monotonic,
        "B" => time::gmtime,
        "C" => time::localtime,
        "D" => control::abort,
        _ => return None,
    })
}

/// Defines every import of `module` in `linker`.
///
/// # Errors
/// [`Error::Module`] naming an import that nobody provides.
pub fn link(linker: &mut Linker<Host>, module: &Module, format: ModuleFormat) -> Result<(), Error> {
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        let ExternType::Func(ty) = import.ty() else {
            return Err(Error::Module(format!("imports {from}.{name}, which is not a function")));
        };
        let Some(f) = resolve(format, from, name) else {
            return Err(Error::Module(format!("imports {from}.{name}, which nobody provides for {format}")));
        };
        define(linker, from, name, ty, f).map_err(|e| Error::Module(format!("import {from}.{name}: {e}")))?;
    }
    Ok(())
}

fn define(linker: &mut Linker<Host>, from: &str, name: &str, ty: FuncType, f: HostFn) -> wasmtime::Result<()> {
    let params: Vec<_> = ty.params().collect();
    let results: Vec<_> = ty.results().collect();
    let is = |p: [ValType; 3]| params.len() == 3 && params.iter().zip(&p).all(|(a, b)| ValType::eq(a, b));
    // The calls that Lua makes all the time go without boxing their arguments.
    if results.is_empty() && is([ValType::I32, ValType::I32, ValType::I32]) {
        linker.func_wrap(from, name, move |mut caller: Caller<'_, Host>, a: i32, b: i32, c: i32| {
            let args = [a, b, c].map(|v| Arg { bits: u64::from(v as u32), is_64: false });
            f(&mut Guest { caller: &mut caller }, &Args(&args)).map(drop)
        })?;
        return Ok(());
    }
    if results.is_empty() && is([ValType::I64, ValType::I64, ValType::I64]) {
        linker.func_wrap(from, name, move |mut caller: Caller<'_, Host>, a: i64, b: i64, c: i64| {
            let args = [a, b, c].map(|v| Arg { bits: v as u64, is_64: true });
            f(&mut Guest { caller: &mut caller }, &Args(&args)).map(drop)
        })?;
        return Ok(());
    }
    linker.func_new(from, name, ty, move |mut caller, params, out| {
        let args: Vec<Arg> = params.iter().map(arg).collect();
        let ret = f(&mut Guest { caller: &mut caller }, &Args(&args))?;
        for (slot, ty) in out.iter_mut().zip(&results) {
            *slot = value(ret, ty);
        }
        Ok(())
    })?;
    Ok(())
}

fn arg(val: &Val) -> Arg {
    match val {
        Val::I32(v) => Arg { bits: u64::from(*v as u32), is_64: false },
        Val::I64(v) => Arg { bits: *v as u64, is_64: true },
        // JavaScript would hand over the number; no function of the glue takes one that is not an integer.
        Val::F32(bits) => Arg { bits: f32::from_bits(*bits) as i64 as u64, is_64: true },
        Val::F64(bits) => Arg { bits: f64::from_bits(*bits) as i64 as u64, is_64: true },
        _ => Arg { bits: 0, is_64: false },
    }
}

fn value(ret: Ret, ty: &ValType) -> Val {
    match (ret, ty) {
        (Ret::Int(n), ValType::I64) => Val::I64(n),
        (Ret::Int(n), ValType::F64) => Val::F64((n as f64).to_bits()),
        (Ret::Int(n), ValType::F32) => Val::F32((n as f32).to_bits()),
        (Ret::Int(n), _) => Val::I32(n as i32),
        (Ret::Double(d), ValType::F64) => Val::F64(d.to_bits()),
        (Ret::Double(d), ValType::F32) => Val::F32((d as f32).to_bits()),
        (Ret::Double(d), ValType::I64) => Val::I64(d as i64),
        (Ret::Double(d), _) => Val::I32(d as i32),
    }
}
