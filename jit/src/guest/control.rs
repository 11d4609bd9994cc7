//! Host functions that steer a guest: calls through tables, long jumps, exits, memory growth, environment, gas, and the
//! WeaveDrive entry points that suspend through Asyncify.

use super::{
    files::Errno,
    files_calls::set_errno,
    host::{AsyncifyState, DynCall, Guest, Throw},
    link::{Args, Ret},
};

type Answer = wasmtime::Result<Ret>;

/// Emscripten's ENOSYS.
const ENOSYS: i32 = 52;
/// Emscripten's ESPIPE.
const ESPIPE: i32 = 70;

fn abort_with(what: impl Into<String>) -> wasmtime::Error {
    Throw::Abort(what.into()).into()
}

/// Does nothing and gives 0.
pub fn nothing(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(().into())
}

/// Gives ENOSYS, as the first format's files do.
pub fn not_supported(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(ENOSYS.into())
}

/// Gives ESPIPE, as the first format's seek does.
pub fn no_seek(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(ESPIPE.into())
}

/// `_dlopen_js`, `_dlsym_js`.
pub fn no_dynamic_linking(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Err(abort_with("dynamic linking is not enabled"))
}

/// `getTempRet0`.
pub fn get_temp_ret0(guest: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(guest.caller.data().temp_ret0.into())
}

/// `setTempRet0(value)`.
pub fn set_temp_ret0(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    guest.caller.data_mut().temp_ret0 = args.at(0).i32();
    Ok(().into())
}

/// `invoke_vii(index, a, b)` and `invoke_vjj`: calls a table entry; a long jump inside comes back as `setThrew(1, 0)`.
pub fn invoke(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let exports = &guest.caller.data().exports;
    let stack = exports.stack.clone().ok_or_else(|| abort_with("the module exports no stack accessors"))?;
    let sp = stack.save(&mut *guest.caller)?;
    match call_indirect(guest, args) {
        Ok(()) => Ok(().into()),
        Err(thrown) => {
            stack.restore(&mut *guest.caller, sp)?;
            if !matches!(thrown.downcast_ref(), Some(Throw::LongJump)) {
                return Err(thrown);
            }
            let set_threw = guest.caller.data().exports.set_threw.clone();
            set_threw.ok_or_else(|| abort_with("the module exports no setThrew"))?.call(&mut *guest.caller, 1, 0)?;
            Ok(().into())
        }
    }
}

fn call_indirect(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> wasmtime::Result<()> {
    let exports = &guest.caller.data().exports;
    match &exports.dyn_call {
        Some(DynCall::Vii(f)) => {
            let f = f.clone();
            f.call(&mut *guest.caller, (args.at(0).i32(), args.at(1).i32(), args.at(2).i32()))
        }
        Some(DynCall::Vjj(f)) => {
            let f = f.clone();
            f.call(&mut *guest.caller, (args.at(0).i32(), args.at(1).int(), args.at(2).int()))
        }
        None => {
            let table = exports.table.ok_or_else(|| abort_with("the module exports no function table"))?;
            let entry = table.get(&mut *guest.caller, args.at(0).pointer());
            let function = entry.as_ref().and_then(|e| e.as_func().flatten()).copied();
            let function = function.ok_or_else(|| abort_with("table entry is not a function"))?;
            let typed = function.typed::<(i32, i32), ()>(&*guest.caller)?;
            typed.call(&mut *guest.caller, (args.at(1).i32(), args.at(2).i32()))
        }
    }
}

/// `_emscripten_throw_longjmp`.
pub fn throw_longjmp(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Err(Throw::LongJump.into())
}

/// `exit(status)`.
pub fn exit(_: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    Err(Throw::Exit(args.at(0).i32()).into())
}

/// `abort`.
pub fn abort(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Err(abort_with("native code called abort()"))
}

/// `__assert_fail(condition, file, line, function)`.
pub fn assert_fail(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let condition = guest.read_string(args.at(0).pointer());
    let file = guest.read_string(args.at(1).pointer());
    Err(abort_with(format!("Assertion failed: {condition}, at: {file}:{}", args.at(2).int())))
}

/// `__cxa_throw`: C++ exceptions are not enabled in these modules.
pub fn cxa_throw(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Err(abort_with("Exception thrown, but exception catching is not enabled"))
}

/// `emscripten_resize_heap(bytes)`: grows by a fifth (then a tenth, then a twentieth) or to what is asked, whichever is
/// more, at most 96 MiB beyond it. 1 if memory grew.
pub fn resize_heap(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    const WASM_PAGE: u64 = 65_536;
    const HEADROOM: u64 = 96 << 20;
    let requested = args.at(0).pointer();
    let host = guest.caller.data();
    let (heap_max, format) = (host.heap_max, host.format);
    let Some(memory) = host.memory else { return Ok(0.into()) };
    let old = memory.data_size(&*guest.caller) as u64;
    use crate::ModuleFormat::{Emscripten, Emscripten2};
    if requested <= old && !matches!(format, Emscripten | Emscripten2) {
        return Err(abort_with("Assertion failed"));
    }
    if requested > heap_max {
        return Ok(0.into());
    }
    for cut in [1.0, 2.0, 4.0] {
        let overgrown = (old as f64 * (1.0 + 0.2 / cut)).min((requested + HEADROOM) as f64);
        // The glue rounds up a fraction too: x + (65536 - x % 65536) % 65536 over doubles.
        let wanted = overgrown.max(requested as f64);
        let rest = wanted % WASM_PAGE as f64;
        let aligned = if rest == 0.0 { wanted } else { wanted + (WASM_PAGE as f64 - rest) };
        let new = aligned.min(heap_max as f64);
        let pages = ((new - old as f64 + (WASM_PAGE - 1) as f64) / WASM_PAGE as f64).max(0.0) as u64;
        if memory.grow(&mut *guest.caller, pages).is_ok() {
            return Ok(1.into());
        }
    }
    Ok(0.into())
}

/// `emscripten_get_heap_max`.
pub fn heap_max(guest: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Ok(guest.caller.data().heap_max.into())
}

/// `memcpy_big`/`memcpy_js(to, from, bytes)`: clamped to memory, as `copyWithin` is.
pub fn memcpy(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let memory = guest.memory();
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(memory.len());
    let (to, from) = (clamp(args.at(0).pointer()), clamp(args.at(1).pointer()));
    let end = clamp(args.at(1).pointer().saturating_add(args.at(2).pointer()));
    let len = end.saturating_sub(from).min(memory.len() - to);
    memory.copy_within(from..from + len, to);
    Ok(args.at(0).int().into())
}

/// `_emscripten_system(command)`: there is no shell.
pub fn system(_: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    Ok(if args.at(0).pointer() == 0 { 0 } else { -ENOSYS }.into())
}

/// `system(command)` of the two oldest glues: the same through `errno`.
pub fn system_errno(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    if args.at(0).pointer() == 0 {
        return Ok(0.into());
    }
    set_errno(guest, Errno(ENOSYS))?;
    Ok((-1).into())
}

/// `environ_sizes_get(count, bytes)`.
pub fn environ_sizes_get(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let strings = guest.caller.data().env.strings();
    guest.write_pointer(args.at(0).pointer(), strings.len() as u64);
    guest.write_pointer(args.at(1).pointer(), strings.iter().map(|s| s.len() as u64 + 1).sum());
    Ok(0.into())
}

/// `environ_get(pointers, bytes)`.
pub fn environ_get(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let (mut slot, mut at) = (args.at(0).pointer(), args.at(1).pointer());
    for string in guest.caller.data().env.strings() {
        guest.write_pointer(slot, at);
        guest.write_bytes(at, string.as_bytes());
        guest.write_bytes(at + string.len() as u64, &[0]);
        slot += guest.pointer_bytes();
        at += string.len() as u64 + 1;
    }
    Ok(0.into())
}

/// `metering.usegas(amount)` where it is called other than directly (direct calls are inline).
pub fn use_gas(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let gas = guest.caller.data().gas.ok_or_else(|| abort_with("the module has no gas counter"))?;
    let used = gas.get(&mut *guest.caller).unwrap_i64().saturating_add(args.at(0).int());
    gas.set(&mut *guest.caller, wasmtime::Val::I64(used))?;
    if used > 0 { Err(Throw::OutOfGas.into()) } else { Ok(().into()) }
}

/// `metering_gasUsed`.
pub fn gas_used(guest: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    let (gas, limit) = (guest.caller.data().gas, guest.caller.data().gas_limit);
    let used = gas.map_or(0, |gas| gas.get(&mut *guest.caller).unwrap_i64().wrapping_add(limit as i64));
    Ok(used.into())
}

/// `__asyncjs__weavedrive_open(name, mode)`: no WeaveDrive is mounted, so it gives the null descriptor, but only after
/// the guest was unwound and rewound as the reference does, since Asyncify's own buffers stay visible in memory.
pub fn weavedrive_open(guest: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    const ASYNCIFY_STACK_BYTES: u64 = 41_943_040;
    let exports = guest.caller.data().exports.clone();
    let missing = || abort_with("the module lacks Asyncify's exports");
    let asyncify = exports.asyncify.ok_or_else(missing)?;
    match guest.caller.data().asyncify {
        AsyncifyState::Normal => {
            let pointer = guest.pointer_bytes();
            let header = 3 * pointer;
            let data = exports.malloc.ok_or_else(missing)?.call(&mut *guest.caller, header + ASYNCIFY_STACK_BYTES)?;
            guest.write_pointer(data, data + header);
            guest.write_pointer(data + pointer, data + header + ASYNCIFY_STACK_BYTES);
            // The function to rewind into: the first that this instance ever suspended, `handle`, has number 0.
            guest.write_i32(data + 2 * pointer, 0);
            guest.caller.data_mut().asyncify = AsyncifyState::Unwinding(data);
            asyncify.start_unwind.call(&mut *guest.caller, data)?;
        }
        AsyncifyState::Rewinding(data) => {
            guest.caller.data_mut().asyncify = AsyncifyState::Normal;
            asyncify.stop_rewind.call(&mut *guest.caller, ())?;
            exports.free.ok_or_else(missing)?.call(&mut *guest.caller, data)?;
        }
        AsyncifyState::Unwinding(_) => return Err(abort_with("invalid state: 1")),
    }
    Ok(0.into())
}

/// `__asyncjs__weavedrive_read`, `_close`: in the reference these never return without a WeaveDrive.
pub fn weavedrive_absent(_: &mut Guest<'_, '_>, _: &Args<'_>) -> Answer {
    Err(abort_with("no WeaveDrive is mounted"))
}
