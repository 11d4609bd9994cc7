//! Host functions on files: arguments out of guest memory, the operation, results back into it.
//!
//! System calls give a negated error number, `fd_*` functions the number itself.

use super::{
    clock::Clock,
    files::{Errno, Fcntl, Files, FilesError, FilesResult, Ioctl, Stat, TERMIOS_CHARACTERS, TERMIOS_FLAGS, js_offset},
    host::{Guest, Throw, glue},
    link::{Args, Ret},
    text::JsString,
};

type Answer = wasmtime::Result<Ret>;

/// Most vectors that one read or write walks: as many as POSIX's `IOV_MAX` allows a C library to pass.
const VECTORS_MAX: u64 = 1024;

fn thrown(why: String) -> wasmtime::Error {
    Throw::Abort(why).into()
}

/// Runs an operation on the guest's files.
fn on_files<T>(
    guest: &mut Guest<'_, '_>,
    operation: impl FnOnce(&mut Files, &mut Clock) -> FilesResult<T>,
) -> FilesResult<T> {
    match guest.caller.data_mut().files() {
        Some((files, clock)) => operation(files, clock),
        None => Err(Errno::ENOSYS.into()),
    }
}

/// A system call's answer: its value, or the negated error number.
fn system_call(result: FilesResult<i32>) -> Answer {
    match result {
        Ok(value) => Ok(value.into()),
        Err(FilesError::Errno(errno)) => Ok((-errno.0).into()),
        Err(FilesError::Abort(why)) => Err(thrown(why)),
    }
}

/// An `fd_*` function's answer: 0, or the error number.
fn fd_call(result: FilesResult<()>) -> Answer {
    match result {
        Ok(()) => Ok(0.into()),
        Err(FilesError::Errno(errno)) => Ok(errno.0.into()),
        Err(FilesError::Abort(why)) => Err(thrown(why)),
    }
}

/// The path that argument `index` points at.
fn path(guest: &mut Guest<'_, '_>, args: &Args<'_>, index: usize) -> JsString {
    guest.read_string(args.at(index).pointer())
}

fn done(result: FilesResult<()>) -> Answer {
    system_call(result.map(|()| 0))
}

/// `__syscall_chmod(path, mode)`.
pub fn chmod(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 0);
    done(on_files(guest, |files, clock| files.chmod(&path, args.at(1).i32(), clock)))
}

/// `__syscall_dup3(fd, new, flags)`.
pub fn dup3(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    system_call(on_files(guest, |files, _| files.dup3(args.at(0).i32(), args.at(1).i32(), args.at(2).i32())))
}

/// `__syscall_faccessat(dirfd, path, amode, flags)`.
pub fn faccessat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 1);
    done(on_files(guest, |files, _| files.faccessat(args.at(0).i32(), &path, args.at(2).i32(), args.at(3).i32())))
}

/// `__syscall_fchmod(fd, mode)`.
pub fn fchmod(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    done(on_files(guest, |files, clock| files.fchmod(args.at(0).i32(), args.at(1).i32(), clock)))
}

/// `__syscall_fchown32(fd, owner, group)`.
pub fn fchown(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    done(on_files(guest, |files, clock| files.fchown(args.at(0).i32(), clock)))
}

/// `__syscall_fcntl64(fd, command, varargs)`.
pub fn fcntl(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let varargs = args.at(2).pointer();
    let argument = guest.read_i32(varargs);
    let result = on_files(guest, |files, _| files.fcntl(args.at(0).i32(), args.at(1).i32(), argument));
    match result {
        Ok(Fcntl::Unlocked) => {
            let lock = guest.read_pointer(varargs);
            guest.write_i16(lock, 2);
            Ok(0.into())
        }
        Ok(Fcntl::MinusOne) => {
            set_errno(guest, Errno::EINVAL)?;
            Ok((-1).into())
        }
        Ok(Fcntl::Value(value)) => Ok(value.into()),
        Err(error) => system_call(Err(error)),
    }
}

/// Sets the guest's `errno`, if it exports where that is.
pub fn set_errno(guest: &mut Guest<'_, '_>, errno: Errno) -> wasmtime::Result<()> {
    if let Some(location) = guest.caller.data().exports.errno_location.clone() {
        let at = location.call(&mut *guest.caller, ())?;
        guest.write_i32(u64::from(at as u32), errno.0);
    }
    Ok(())
}

/// Writes a `struct stat`.
fn put_stat(guest: &mut Guest<'_, '_>, at: u64, stat: FilesResult<Stat>) -> Answer {
    let Some(glue) = glue(guest.caller.data().format) else { return done(Err(Errno::ENOSYS.into())) };
    let stat = match stat {
        Ok(stat) => stat,
        Err(error) => return done(Err(error)),
    };
    let slot = guest.bytes(at, Stat::bytes(glue) as u64);
    if slot.len() < Stat::bytes(glue) {
        return Err(thrown("stat buffer out of bounds".into()));
    }
    done(stat.store(glue, slot))
}

/// `__syscall_fstat64(fd, stat)`.
pub fn fstat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let stat = on_files(guest, |files, _| files.fstat(args.at(0).i32()));
    put_stat(guest, args.at(1).pointer(), stat)
}

/// `__syscall_lstat64(path, stat)`.
pub fn lstat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 0);
    let stat = on_files(guest, |files, _| files.lstat(&path));
    put_stat(guest, args.at(1).pointer(), stat)
}

/// `__syscall_stat64(path, stat)`.
pub fn stat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 0);
    let stat = on_files(guest, |files, _| files.stat(&path));
    put_stat(guest, args.at(1).pointer(), stat)
}

/// `__syscall_newfstatat(dirfd, path, stat, flags)`.
pub fn newfstatat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 1);
    let stat = on_files(guest, |files, _| files.newfstatat(args.at(0).i32(), &path, args.at(3).i32()));
    put_stat(guest, args.at(2).pointer(), stat)
}

/// A 64-bit argument at `index`: one `i64`, or low and high word. Gives it and the index of the next argument.
fn wide(args: &Args<'_>, index: usize) -> (i64, usize) {
    if args.at(index).is_64() {
        return (args.at(index).int(), index + 1);
    }
    let (low, high) = (args.at(index).i32() as u32, args.at(index + 1).i32());
    ((i64::from(high) << 32) | i64::from(low), index + 2)
}

/// `__syscall_ftruncate64(fd, length)`.
pub fn ftruncate(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    system_call(on_files(guest, |files, clock| files.ftruncate(args.at(0).i32(), wide(args, 1).0, clock)))
}

/// `__syscall_getcwd(buffer, bytes)`.
pub fn getcwd(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    match on_files(guest, |files, _| files.getcwd(args.at(1).pointer())) {
        Ok(cwd) => {
            guest.write_bytes(args.at(0).pointer(), cwd);
            Ok((cwd.len() as i64).into())
        }
        Err(error) => done(Err(error)),
    }
}

/// `__syscall_ioctl(fd, request, varargs)`.
pub fn ioctl(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let answer = match on_files(guest, |files, _| files.ioctl(args.at(0).i32(), args.at(1).i32())) {
        Ok(answer) => answer,
        Err(error) => return done(Err(error)),
    };
    let at = guest.read_pointer(args.at(2).pointer());
    match answer {
        Ioctl::Nothing => {}
        Ioctl::ProcessGroup => guest.write_i32(at, 0),
        Ioctl::WindowSize => {
            guest.write_i16(at, 24);
            guest.write_i16(at.wrapping_add(2), 80);
        }
        Ioctl::Termios => {
            for (i, flags) in (0..).zip(TERMIOS_FLAGS) {
                guest.write_i32(at.wrapping_add(4 * i), flags);
            }
            guest.write_bytes(at.wrapping_add(17), &TERMIOS_CHARACTERS);
        }
    }
    Ok(0.into())
}

/// `__syscall_mkdirat(dirfd, path, mode)`.
pub fn mkdirat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 1);
    done(on_files(guest, |files, clock| files.mkdirat(args.at(0).i32(), &path, args.at(2).i32(), clock)))
}

/// `__syscall_openat(dirfd, path, flags, varargs)`.
pub fn openat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 1);
    let varargs = args.at(3).pointer();
    let mode = if varargs == 0 { 0 } else { guest.read_i32(varargs) };
    system_call(on_files(guest, |files, clock| files.openat(args.at(0).i32(), &path, args.at(2).i32(), mode, clock)))
}

/// `__syscall_readlinkat(dirfd, path, buffer, bytes)`.
pub fn readlinkat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 1);
    match on_files(guest, |files, _| files.readlinkat(args.at(0).i32(), &path, args.at(3).int())) {
        Ok(link) => {
            guest.write_bytes(args.at(2).pointer(), &link.bytes);
            Ok(link.length.into())
        }
        Err(error) => done(Err(error)),
    }
}

/// `__syscall_renameat(old_dirfd, old, new_dirfd, new)`.
pub fn renameat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let (old, new) = (path(guest, args, 1), path(guest, args, 3));
    done(on_files(guest, |files, clock| files.renameat(args.at(0).i32(), &old, args.at(2).i32(), &new, clock)))
}

/// `__syscall_rmdir(path)`.
pub fn rmdir(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 0);
    done(on_files(guest, |files, clock| files.rmdir(&path, clock)))
}

/// `__syscall_unlinkat(dirfd, path, flags)`.
pub fn unlinkat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 1);
    done(on_files(guest, |files, clock| files.unlinkat(args.at(0).i32(), &path, args.at(2).i32(), clock)))
}

/// `__syscall_utimensat(dirfd, path, times, flags)`.
pub fn utimensat(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let path = path(guest, args, 1);
    let times = args.at(2).pointer();
    let times = (times != 0).then(|| {
        let mut milliseconds = |at: u64| {
            let seconds = f64::from(guest.read_i32(at) as u32) + f64::from(guest.read_i32(at + 4)) * 4_294_967_296.0;
            seconds * 1e3 + f64::from(guest.read_i32(at + 8)) / 1e6
        };
        (milliseconds(times), milliseconds(times + 16))
    });
    done(on_files(guest, |files, clock| files.utimensat(args.at(0).i32(), &path, times, args.at(3).i32(), clock)))
}

/// `_mmap_js(length, prot, flags, fd, offset, allocated[, address])`: a copy of the file in memory the guest allocates.
pub fn mmap(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    const WASM_PAGE: u64 = 65_536;
    let length = args.at(0).pointer();
    let (fd, prot, flags) = (args.at(3).i32(), args.at(1).i32(), args.at(2).i32());
    // The second glue passes a 32-bit offset and no address; the third both words and where to put the address.
    let (offset, next) = if args.len() <= 6 { (args.at(4).int(), 5) } else { wide(args, 4) };
    if js_offset(offset).is_none() {
        return done(Err(Errno::EOVERFLOW.into()));
    }
    let contents = match on_files(guest, |files, _| files.mmap(fd, length, offset, prot, flags).map(<[u8]>::to_vec)) {
        Ok(contents) => contents,
        Err(error) => return done(Err(error)),
    };
    let memalign = guest.caller.data().exports.memalign.clone();
    let memalign = memalign.ok_or_else(|| thrown("the module exports no emscripten_builtin_memalign".into()))?;
    let room = length.div_ceil(WASM_PAGE) * WASM_PAGE;
    let at = memalign.call(&mut *guest.caller, (WASM_PAGE as i32, room as i32))?;
    if at == 0 {
        return done(Err(Errno(48).into()));
    }
    let at = u64::from(at as u32);
    guest.bytes(at, room).fill(0);
    guest.write_bytes(at, &contents);
    guest.write_i32(args.at(next).pointer(), 1);
    if args.len() <= 6 {
        return Ok(at.into());
    }
    guest.write_pointer(args.at(next + 1).pointer(), at);
    Ok(0.into())
}

/// `_munmap_js(address, length, prot, flags, fd, offset)`.
pub fn munmap(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let data = guest.bytes(args.at(0).pointer(), args.at(1).pointer()).to_vec();
    let offset = if args.len() <= 6 { args.at(5).int() } else { wide(args, 5).0 };
    let (prot, flags, fd) = (args.at(2).i32(), args.at(3).i32(), args.at(4).i32());
    done(on_files(guest, |files, clock| files.munmap(fd, prot, flags, offset, &data, clock)))
}

/// `fd_close(fd)`.
pub fn fd_close(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    fd_call(on_files(guest, |files, _| files.close(args.at(0).i32())))
}

/// `fd_fdstat_get(fd, stat)`.
pub fn fd_fdstat_get(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let at = args.at(1).pointer();
    match on_files(guest, |files, _| files.fdstat(args.at(0).i32())) {
        Ok(kind) => {
            guest.write_bytes(at, &[kind]);
            if guest.caller.data().format != crate::ModuleFormat::Emscripten2 {
                guest.write_i16(at + 2, 0);
                guest.write_i64(at + 8, 0);
                guest.write_i64(at + 16, 0);
            }
            Ok(0.into())
        }
        Err(error) => fd_call(Err(error)),
    }
}

/// The vectors `(address, length)` at `at`.
fn vectors(guest: &mut Guest<'_, '_>, at: u64, count: u64) -> wasmtime::Result<Vec<(u64, u64)>> {
    if count > VECTORS_MAX {
        return Err(thrown(format!("{count} vectors in one call")));
    }
    let pointer = guest.pointer_bytes();
    Ok((0..count)
        .map(|i| {
            let vector = at.wrapping_add(i * 2 * pointer);
            (guest.read_pointer(vector), guest.read_pointer(vector.wrapping_add(pointer)))
        })
        .collect())
}

/// `fd_read(fd, vectors, count, read)`.
pub fn fd_read(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let mut total = 0u64;
    for (at, length) in vectors(guest, args.at(1).pointer(), args.at(2).pointer())? {
        let mut buffer = vec![0; guest.bytes(at, length).len()];
        match on_files(guest, |files, clock| files.read(args.at(0).i32(), &mut buffer, clock)) {
            Ok(count) => {
                guest.write_bytes(at, &buffer[..count]);
                total += count as u64;
                if (count as u64) < length {
                    break;
                }
            }
            Err(error) => return fd_call(Err(error)),
        }
    }
    guest.write_pointer(args.at(3).pointer(), total);
    Ok(0.into())
}

/// `fd_write(fd, vectors, count, written)`.
pub fn fd_write(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let mut total = 0u64;
    for (at, length) in vectors(guest, args.at(1).pointer(), args.at(2).pointer())? {
        let data = guest.bytes(at, length).to_vec();
        match on_files(guest, |files, clock| files.write(args.at(0).i32(), &data, clock)) {
            Ok(count) => total += count as u64,
            Err(error) => return fd_call(Err(error)),
        }
    }
    guest.write_pointer(args.at(3).pointer(), total);
    Ok(0.into())
}

/// `fd_write` of the first format: takes everything, keeps nothing.
pub fn discard_write(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let vectors = vectors(guest, args.at(1).pointer(), args.at(2).pointer())?;
    let total = vectors.iter().fold(0u64, |sum, (_, length)| sum.wrapping_add(*length));
    guest.write_pointer(args.at(3).pointer(), total);
    Ok(0.into())
}

/// `fd_seek(fd, offset, whence, position)`.
pub fn fd_seek(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    let (offset, next) = wide(args, 1);
    match on_files(guest, |files, _| files.seek(args.at(0).i32(), offset, args.at(next).i32())) {
        Ok(position) => {
            let at = args.at(next + 1).pointer();
            guest.write_i32(at, position as i32);
            guest.write_i32(at.wrapping_add(4), (position >> 32) as i32);
            Ok(0.into())
        }
        Err(error) => fd_call(Err(error)),
    }
}

/// `fd_sync(fd)`.
pub fn fd_sync(guest: &mut Guest<'_, '_>, args: &Args<'_>) -> Answer {
    fd_call(on_files(guest, |files, _| files.sync(args.at(0).i32())))
}
