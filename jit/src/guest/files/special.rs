//! Descriptors as such: duplicating, asking, controlling, mapping.

use super::{
    Errno, Files, FilesResult, Glue,
    error::Abort,
    ops::{ACCESS, js_offset},
    stream::Ops,
};
use crate::guest::{clock::Clock, text::JsString};

/// What `readlinkat` leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadLink {
    /// Bytes to store at the guest's buffer: at most `length`. If the buffer's end cuts a character they stop before
    /// it, with a NUL.
    pub bytes: Vec<u8>,
    /// What the call gives.
    pub length: i32,
}

impl ReadLink {
    pub(super) fn new(target: &JsString, room: i64) -> Self {
        let whole = target.encode();
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let length = whole.len().min(room);
        let mut bytes = target.encode_within(room);
        // At the full length the loader puts back the byte that its terminator overwrites.
        if bytes.len() < length {
            bytes.push(0);
        }
        Self { bytes, length: i32::try_from(length).unwrap_or(i32::MAX) }
    }
}

/// What `fcntl` asks its caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fcntl {
    /// Give this value.
    Value(i32),
    /// Store the 16-bit number 2 (`F_UNLCK`) where the argument points, and give 0.
    Unlocked,
    /// Set the guest's `errno` to 28 (`EINVAL`) and give -1.
    MinusOne,
}

/// What `ioctl` asks its caller to do before it gives 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ioctl {
    /// Nothing.
    Nothing,
    /// Store the terminal's settings where the argument points: [`TERMIOS_FLAGS`] as four 32-bit numbers from byte 0,
    /// [`TERMIOS_CHARACTERS`] from byte 17; byte 16 stays.
    Termios,
    /// Store the 32-bit number 0 where the argument points.
    ProcessGroup,
    /// Store the 16-bit numbers 24 and 80 (rows, columns) where the argument points; the next four bytes stay.
    WindowSize,
}

/// Input, output, control and local flags of the terminal.
pub const TERMIOS_FLAGS: [i32; 4] = [25_856, 5, 191, 35_387];
/// Control characters of the terminal.
pub const TERMIOS_CHARACTERS: [u8; 32] =
    [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const FILE_TYPE_TERMINAL: u8 = 2;
const FILE_TYPE_FILE: u8 = 4;

const PROT_WRITE: i32 = 2;
const MAP_PRIVATE: i32 = 2;
const MS_INVALIDATE: i32 = 2;

impl Files {
    /// The file type byte of `fd_fdstat_get`: 2 for a terminal, 4 for anything else (directories too). The second
    /// format stores this byte alone; newer ones also store zeros at bytes 2..4 and 8..24.
    pub fn fdstat(&self, fd: i32) -> FilesResult<u8> {
        let terminal = self.streams.get(fd)?.ops.is_terminal();
        Ok(if terminal { FILE_TYPE_TERMINAL } else { FILE_TYPE_FILE })
    }

    /// Makes `new` another descriptor of `old`'s stream, closing what it was before; gives it.
    pub fn dup3(&mut self, old: i32, new: i32, flags: i32) -> FilesResult<i32> {
        self.streams.get(old)?;
        if flags != 0 {
            return Err(Abort::because("flags in __syscall_dup3"));
        }
        if old == new {
            return Err(Errno::EINVAL.into());
        }
        if self.streams.contains(new) {
            self.close(new)?;
        }
        // Newer formats take -1 for "any".
        let new = if new == -1 && self.glue != Glue::Emscripten2 { self.streams.free_from(0)? } else { new };
        self.duplicate(old, new)
    }

    fn duplicate(&mut self, old: i32, new: i32) -> FilesResult<i32> {
        let node = self.streams.duplicate(old, new)?;
        self.tree.open(node);
        Ok(new)
    }

    /// `fcntl`; `argument` is the call's 32-bit argument (any number if it has none).
    pub fn fcntl(&mut self, fd: i32, command: i32, argument: i32) -> FilesResult<Fcntl> {
        const F_DUPFD: i32 = 0;
        const F_GETFD: i32 = 1;
        const F_SETFD: i32 = 2;
        const F_GETFL: i32 = 3;
        const F_SETFL: i32 = 4;
        // The lock commands have other numbers where the guest's C library is built for 32 bits with 64-bit offsets.
        let (get_lock, set_lock, set_lock_wait) = match self.glue {
            Glue::Emscripten3 | Glue::Emscripten4 => (12, 13, 14),
            Glue::Emscripten2 | Glue::Wasm64 => (5, 6, 7),
        };
        self.streams.get(fd)?;
        match command {
            F_DUPFD if argument < 0 => Err(Errno::EINVAL.into()),
            F_DUPFD => {
                let new = match self.glue {
                    Glue::Emscripten2 => self.streams.free_from(argument)?,
                    _ => (argument..=i32::MAX).find(|fd| !self.streams.contains(*fd)).ok_or(Errno::EMFILE)?,
                };
                self.duplicate(fd, new).map(Fcntl::Value)
            }
            F_GETFD | F_SETFD => Ok(Fcntl::Value(0)),
            F_GETFL => Ok(Fcntl::Value(self.streams.flags(fd)?)),
            F_SETFL => {
                self.streams.add_flags(fd, argument)?;
                Ok(Fcntl::Value(0))
            }
            _ if command == get_lock => Ok(Fcntl::Unlocked),
            _ if command == set_lock || command == set_lock_wait => Ok(Fcntl::Value(0)),
            9 if self.glue == Glue::Emscripten2 => Ok(Fcntl::MinusOne),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// `ioctl`: terminals answer, nothing else does.
    pub fn ioctl(&self, fd: i32, request: i32) -> FilesResult<Ioctl> {
        const TCGETS: i32 = 0x5401;
        const TCSETS: i32 = 0x5402;
        const TCSETSF: i32 = 0x5404;
        const TCGETA: i32 = 0x5405;
        const TCSETAF: i32 = 0x5408;
        const TCFLSH: i32 = 0x540B;
        const TIOCGPGRP: i32 = 0x540F;
        const TIOCSPGRP: i32 = 0x5410;
        const TIOCGWINSZ: i32 = 0x5413;
        const TIOCSWINSZ: i32 = 0x5414;
        const FIONREAD: i32 = 0x541B;
        let ops = self.streams.get(fd)?.ops;
        let old = self.glue == Glue::Emscripten2;
        // Only the first terminal has settings and a size, and only in newer formats.
        let talks = !old && ops == Ops::Terminal { second: false };
        let answer = match request {
            TCGETS if talks => Ok(Ioctl::Termios),
            TIOCGWINSZ if talks => Ok(Ioctl::WindowSize),
            TCGETS | TIOCGWINSZ | TCSETS..=TCSETSF | TCGETA..=TCSETAF | TIOCSWINSZ => Ok(Ioctl::Nothing),
            TCFLSH if !old => Ok(Ioctl::Nothing),
            TIOCGPGRP => Ok(Ioctl::ProcessGroup),
            TIOCSPGRP => Err(Errno::EINVAL.into()),
            FIONREAD => return Err(Errno::ENOTTY.into()),
            _ if old => return Err(Abort::because(&format!("bad ioctl syscall {request}"))),
            _ => return Err(Errno::EINVAL.into()),
        };
        if ops.is_terminal() { answer } else { Err(Errno::ENOTTY.into()) }
    }

    /// The current directory with its terminating NUL; the call gives the length, NUL included.
    pub fn getcwd(&self, room: u64) -> FilesResult<&'static [u8]> {
        const CWD: &[u8] = b"/\0";
        match room {
            0 => Err(Errno::EINVAL.into()),
            _ if room < CWD.len() as u64 => Err(Errno::ERANGE.into()),
            _ => Ok(CWD),
        }
    }

    /// The bytes that a mapping of `length` bytes from `position` on starts with (at most `length`; the rest is zero).
    /// The caller allocates the mapping in the guest, aligned to 64 KiB and zeroed.
    ///
    /// An offset that [`js_offset`] refuses is the caller's to report.
    pub fn mmap(&self, fd: i32, length: u64, position: i64, prot: i32, flags: i32) -> FilesResult<&[u8]> {
        let stream = self.streams.get(fd)?;
        let access = self.streams.flags(fd)? & ACCESS;
        if prot & PROT_WRITE != 0 && flags & MAP_PRIVATE == 0 && access != 2 || access == 1 {
            return Err(Errno::EACCES.into());
        }
        if stream.ops != Ops::File {
            return Err(Errno::ENODEV.into());
        }
        let bytes = self.tree.bytes(stream.node);
        let (false, Ok(start)) = (bytes.is_empty(), usize::try_from(position)) else {
            return Err(Abort::because("a mapping of nothing"));
        };
        let rest = &bytes[start.min(bytes.len())..];
        Ok(&rest[..rest.len().min(usize::try_from(length).unwrap_or(usize::MAX))])
    }

    /// Writes a mapping's bytes back, if it was made writable and shared. Reads the clock once if there are any.
    ///
    /// `data` is the mapping's memory. The second format takes a closed descriptor for success.
    pub fn munmap(
        &mut self,
        fd: i32,
        prot: i32,
        flags: i32,
        offset: i64,
        data: &[u8],
        clock: &mut Clock,
    ) -> FilesResult<()> {
        let stream = match self.streams.get(fd) {
            Err(_) if self.glue == Glue::Emscripten2 => return Ok(()),
            stream => stream?,
        };
        if prot & PROT_WRITE == 0 {
            return Ok(());
        }
        let node = stream.node;
        if stream.ops != Ops::File {
            // The second format ignores streams that cannot be written back; newer ones check the kind first.
            return if self.glue == Glue::Emscripten2 { Ok(()) } else { Err(Errno::ENODEV.into()) };
        }
        if flags & MS_INVALIDATE != 0 || data.is_empty() {
            return Ok(());
        }
        let position = js_offset(offset)
            .filter(|position| *position >= 0.0)
            .ok_or_else(|| Abort::because("a mapping outside of any file"))?;
        self.tree.node_mut(node).timestamp = clock.tick() as f64;
        self.tree.write(node, position, data)?;
        Ok(())
    }
}
