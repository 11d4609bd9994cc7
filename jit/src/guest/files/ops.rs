//! Opening, reading, writing, and what changes names and attributes.

use super::{
    AT_FDCWD, Errno, Files, FilesResult, Glue, MAX_PATH_UNITS, ReadLink, Stat, Stdin,
    error::Abort,
    node::{Found, Kind, NodeId, PERMISSIONS, TYPE_DEVICE, TYPE_DIR, TYPE_FILE, TYPE_LINK, TYPE_MASK, Wanted},
    path,
    stream::Ops,
    tree::Walk,
};
use crate::guest::{clock::Clock, text::JsString};

const O_ACCMODE: i32 = 3;
const O_CREAT: i32 = 0o100;
const O_EXCL: i32 = 0o200;
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;
const O_DIRECTORY: i32 = 0o200_000;
const O_NOFOLLOW: i32 = 0o400_000;
/// The bits that decide whether a stream reads or writes: the access mode and `O_PATH`.
pub(super) const ACCESS: i32 = 0o10_000_003;

const AT_SYMLINK_NOFOLLOW: i32 = 0x100;
const AT_REMOVEDIR: i32 = 0x200;
const AT_NO_AUTOMOUNT: i32 = 0x800;
const AT_EMPTY_PATH: i32 = 0x1000;

/// The whole numbers up to here are exact as JavaScript numbers; the loader refuses larger ones.
const MAX_SAFE: u64 = 1 << 53;

/// `value` as a JavaScript number, or nothing if the loader would not take it.
pub fn js_offset(value: i64) -> Option<f64> {
    (value.unsigned_abs() <= MAX_SAFE).then_some(value as f64)
}

impl Files {
    /// The path that `path` means, seen from directory `dirfd`.
    fn path_at(&self, dirfd: i32, path: &JsString, allow_empty: bool) -> FilesResult<JsString> {
        let path = self.path_seen_from(dirfd, path, allow_empty)?;
        if path.len() > MAX_PATH_UNITS {
            return Err(Errno::ENAMETOOLONG.into());
        }
        Ok(path)
    }

    fn path_seen_from(&self, dirfd: i32, path: &JsString, allow_empty: bool) -> FilesResult<JsString> {
        if path::is_absolute(path) {
            return Ok(path.clone());
        }
        let dir = if dirfd == AT_FDCWD { "/".into() } else { self.streams.get(dirfd)?.path.clone() };
        match path.is_empty() {
            true if allow_empty => Ok(dir),
            true => Err(Errno::ENOENT.into()),
            false => Ok(path::join(&dir, path)),
        }
    }

    // ---- streams ----

    /// Opens `path`; gives the descriptor. `mode` counts only for files it creates. Reads the clock once if it creates
    /// or truncates.
    pub fn openat(
        &mut self,
        dirfd: i32,
        path: &JsString,
        flags: i32,
        mode: i32,
        clock: &mut Clock,
    ) -> FilesResult<i32> {
        let path = self.path_at(dirfd, path, false)?;
        self.open_path(&path, flags, mode, clock)
    }

    pub(super) fn open_path(
        &mut self,
        path: &JsString,
        mut flags: i32,
        mode: i32,
        clock: &mut Clock,
    ) -> FilesResult<i32> {
        if path.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        let path = path::normalize(path);
        let walk = if flags & O_NOFOLLOW != 0 { Walk::NoFollow } else { Walk::Follow };
        let mut found = match self.lookup(&path, walk) {
            Ok(found) => found,
            Err(super::FilesError::Errno(_)) => None,
            Err(abort) => return Err(abort),
        };
        let mut created = false;
        if flags & O_CREAT != 0 {
            if found.is_some() {
                if flags & O_EXCL != 0 {
                    return Err(Errno::EEXIST.into());
                }
            } else {
                let mode = mode & PERMISSIONS | TYPE_FILE;
                let kind = Kind::File { bytes: Vec::new() };
                let id = self.tree.make(&path, mode, 0, kind, &self.streams, clock)?;
                found = Some(Found::Node(id));
                created = true;
            }
        }
        let found = found.ok_or(Errno::ENOENT)?;
        let kind = self.tree.mode_of(&found) & TYPE_MASK;
        if kind == TYPE_DEVICE {
            flags &= !O_TRUNC;
        }
        if flags & O_DIRECTORY != 0 && kind != TYPE_DIR {
            return Err(Errno::ENOTDIR.into());
        }
        if !created {
            self.may_open(&found, flags)?;
        }
        let Found::Node(id) = found else {
            return Err(Errno::EACCES.into());
        };
        if flags & O_TRUNC != 0 && !created {
            self.truncate(id, 0.0, clock)?;
        }
        flags &= !(O_EXCL | O_TRUNC | O_NOFOLLOW);
        let fd = self.streams.free_from(0)?;
        let path = self.tree.path_of(id)?;
        let ops = Ops::of(self.tree.node(id));
        self.streams.open(fd, id, path, ops, flags)?;
        self.tree.open(id);
        Ok(fd)
    }

    fn may_open(&self, found: &Found, flags: i32) -> FilesResult<()> {
        let mode = self.tree.mode_of(found);
        let truncates = flags & O_TRUNC != 0;
        match mode & TYPE_MASK {
            TYPE_LINK => return Err(Errno::ELOOP.into()),
            TYPE_DIR if flags & O_ACCMODE != 0 || truncates => return Err(Errno::EISDIR.into()),
            _ => {}
        }
        let wanted = match flags & O_ACCMODE {
            0 => Wanted { read: true, write: truncates, execute: false },
            1 => Wanted::WRITE,
            2 => Wanted { read: true, write: true, execute: false },
            // No access mode has this number; with truncation the loader happens to ask for the right to write.
            _ if truncates => Wanted::WRITE,
            _ => {
                return Err(Abort::because("a file was opened with an access mode that does not exist"));
            }
        };
        if wanted.granted_by(mode) { Ok(()) } else { Err(Errno::EACCES.into()) }
    }

    /// Closes a descriptor.
    pub fn close(&mut self, fd: i32) -> FilesResult<()> {
        let node = self.streams.close(fd)?;
        self.tree.close(node);
        Ok(())
    }

    /// Reads into `buffer` (one element of a guest's vector); gives the number of bytes, less than asked for at the
    /// end. Random devices read the clock once if any byte is asked for.
    pub fn read(&mut self, fd: i32, buffer: &mut [u8], clock: &mut Clock) -> FilesResult<usize> {
        let stream = self.streams.get(fd)?;
        let (node, ops) = (stream.node, stream.ops);
        if self.streams.flags(fd)? & ACCESS == 1 {
            return Err(Errno::EBADF.into());
        }
        let position = self.streams.position(fd)?;
        let count = match ops {
            Ops::Dir | Ops::Nothing => return Err(Errno::EISDIR.into()),
            Ops::Null => 0,
            Ops::Terminal { second: true } => return Err(Errno::ENXIO.into()),
            Ops::Terminal { second: false } => {
                let unreadable = self.stdin == Stdin::Unreadable || self.glue == Glue::Emscripten2;
                if unreadable && !buffer.is_empty() {
                    return Err(Errno::EIO.into());
                }
                0
            }
            Ops::Random => {
                self.random.fill(buffer);
                if !buffer.is_empty() {
                    self.tree.node_mut(node).timestamp = clock.tick() as f64;
                }
                buffer.len()
            }
            Ops::File => {
                let bytes = self.tree.bytes(node);
                let rest = if position >= bytes.len() as f64 { &[][..] } else { &bytes[position as usize..] };
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                count
            }
        };
        self.streams.set_position(fd, position + count as f64)?;
        Ok(count)
    }

    /// Writes `data` (one element of a guest's vector); gives its length. Files and terminals read the clock once if
    /// there is any byte.
    pub fn write(&mut self, fd: i32, data: &[u8], clock: &mut Clock) -> FilesResult<usize> {
        let stream = self.streams.get(fd)?;
        let (node, ops) = (stream.node, stream.ops);
        let flags = self.streams.flags(fd)?;
        if flags & ACCESS == 0 {
            return Err(Errno::EBADF.into());
        }
        if matches!(ops, Ops::Dir | Ops::Nothing) {
            return Err(Errno::EISDIR.into());
        }
        if ops.is_seekable() && flags & O_APPEND != 0 {
            self.seek(fd, 0, 2)?;
        }
        let position = self.streams.position(fd)?;
        if !data.is_empty() {
            match ops {
                Ops::File => {
                    self.tree.node_mut(node).timestamp = clock.tick() as f64;
                    self.tree.write(node, position, data)?;
                }
                Ops::Terminal { .. } => self.tree.node_mut(node).timestamp = clock.tick() as f64,
                Ops::Random => return Err(Errno::EIO.into()),
                Ops::Null | Ops::Dir | Ops::Nothing => {}
            }
        }
        self.streams.set_position(fd, position + data.len() as f64)?;
        Ok(data.len())
    }

    /// Sets the position: from the start (`whence` 0), from where it is (1) or from the end (2); gives the new one.
    pub fn seek(&mut self, fd: i32, offset: i64, whence: i32) -> FilesResult<i64> {
        let offset = js_offset(offset).ok_or(Errno::EOVERFLOW)?;
        let stream = self.streams.get(fd)?;
        if !stream.ops.can_seek() {
            return Err(Errno::ESPIPE.into());
        }
        let position = match whence {
            0 => offset,
            1 => offset + self.streams.position(fd)?,
            // Directories have no end.
            2 => offset + self.tree.bytes(stream.node).len() as f64,
            _ => return Err(Errno::EINVAL.into()),
        };
        if position < 0.0 {
            return Err(Errno::EINVAL.into());
        }
        self.streams.set_position(fd, position)?;
        Ok(position as i64)
    }

    /// Checks that `fd` is open: there is nothing to flush.
    pub fn sync(&self, fd: i32) -> FilesResult<()> {
        self.streams.get(fd)?;
        Ok(())
    }

    // ---- attributes ----

    fn stat_found(&self, found: Option<Found>) -> FilesResult<Stat> {
        let Found::Node(id) = found.ok_or(Errno::ENOENT)? else {
            return Err(Errno::EPERM.into());
        };
        let node = self.tree.node(id);
        let size = match &node.kind {
            Kind::Dir { .. } => 4096,
            Kind::File { bytes } => bytes.len() as u64,
            Kind::Link { target } => target.len() as u64,
            Kind::Device => 0,
            Kind::FdDir => return Err(Errno::EPERM.into()),
        };
        let dev = if matches!(node.kind, Kind::Device) { id } else { 1 };
        Ok(Stat { dev, ino: id, mode: node.mode, rdev: node.rdev, size, timestamp: node.timestamp })
    }

    fn stat_path(&self, path: &JsString, walk: Walk) -> FilesResult<Stat> {
        let found = self.lookup(path, walk).map_err(|error| match error {
            // The second format takes a directory it may not search for something that is no directory.
            super::FilesError::Errno(Errno::EACCES) if self.glue == Glue::Emscripten2 => Errno::ENOTDIR.into(),
            other => other,
        })?;
        self.stat_found(found)
    }

    /// The attributes of what `path` leads to.
    pub fn stat(&self, path: &JsString) -> FilesResult<Stat> {
        self.stat_path(path, Walk::Follow)
    }

    /// The attributes of `path` itself, if it is a symbolic link.
    pub fn lstat(&self, path: &JsString) -> FilesResult<Stat> {
        self.stat_path(path, Walk::NoFollow)
    }

    /// The attributes of what is now at the path that `fd` was opened with.
    pub fn fstat(&self, fd: i32) -> FilesResult<Stat> {
        self.stat(&self.streams.get(fd)?.path)
    }

    /// As [`stat`](Self::stat), seen from `dirfd`.
    pub fn newfstatat(&self, dirfd: i32, path: &JsString, flags: i32) -> FilesResult<Stat> {
        let mut known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
        if self.glue != Glue::Emscripten2 {
            known |= AT_NO_AUTOMOUNT;
        }
        if flags & !known != 0 {
            return Err(Abort::because("unknown flags in __syscall_newfstatat"));
        }
        let path = self.path_at(dirfd, path, flags & AT_EMPTY_PATH != 0)?;
        self.stat_path(&path, if flags & AT_SYMLINK_NOFOLLOW != 0 { Walk::NoFollow } else { Walk::Follow })
    }

    /// Sets permission bits. Reads the clock once.
    pub fn chmod(&mut self, path: &JsString, mode: i32, clock: &mut Clock) -> FilesResult<()> {
        let found = self.lookup(path, Walk::Follow)?.ok_or_else(|| Abort::because("chmod of an empty path"))?;
        let Found::Node(id) = found else {
            return Err(Errno::EPERM.into());
        };
        self.set_mode(id, mode, clock)
    }

    /// As [`chmod`](Self::chmod), for an open descriptor.
    pub fn fchmod(&mut self, fd: i32, mode: i32, clock: &mut Clock) -> FilesResult<()> {
        let id = self.streams.get(fd)?.node;
        self.set_mode(id, mode, clock)
    }

    fn set_mode(&mut self, id: NodeId, mode: i32, clock: &mut Clock) -> FilesResult<()> {
        let node = self.tree.node_mut(id);
        if !node.has_attributes() {
            return Err(Errno::EPERM.into());
        }
        node.mode = mode & PERMISSIONS | node.mode & !PERMISSIONS;
        node.timestamp = clock.tick() as f64;
        Ok(())
    }

    /// Changes no owner, there is only one; but sets the time. Reads the clock once.
    pub fn fchown(&mut self, fd: i32, clock: &mut Clock) -> FilesResult<()> {
        let id = self.streams.get(fd)?.node;
        let node = self.tree.node_mut(id);
        if !node.has_attributes() {
            return Err(Errno::EPERM.into());
        }
        node.timestamp = clock.tick() as f64;
        Ok(())
    }

    /// Gives an open file a new length. Reads the clock once. The value is what the system call gives: newer formats
    /// report a length out of range as a **positive** error number.
    pub fn ftruncate(&mut self, fd: i32, length: i64, clock: &mut Clock) -> FilesResult<i32> {
        let Some(length) = js_offset(length) else {
            return match self.glue {
                Glue::Emscripten2 => Err(Errno::EOVERFLOW.into()),
                _ => Ok(Errno::EOVERFLOW.0),
            };
        };
        let node = self.streams.get(fd)?.node;
        if self.streams.flags(fd)? & ACCESS == 0 {
            return Err(Errno::EINVAL.into());
        }
        self.truncate(node, length, clock)?;
        Ok(0)
    }

    fn truncate(&mut self, id: NodeId, length: f64, clock: &mut Clock) -> FilesResult<()> {
        if length < 0.0 {
            return Err(Errno::EINVAL.into());
        }
        let node = self.tree.node_mut(id);
        match node.kind {
            Kind::FdDir => return Err(Errno::EPERM.into()),
            Kind::Dir { .. } => return Err(Errno::EISDIR.into()),
            Kind::Link { .. } | Kind::Device => return Err(Errno::EINVAL.into()),
            Kind::File { .. } => {}
        }
        if !Wanted::WRITE.granted_by(node.mode) {
            return Err(Errno::EACCES.into());
        }
        node.timestamp = clock.tick() as f64;
        self.tree.resize(id, length)?;
        Ok(())
    }

    /// Sets the time to the later of `times` (access and modification, in milliseconds since 1970); without them to
    /// now, which reads the clock once, whatever the outcome.
    pub fn utimensat(
        &mut self,
        dirfd: i32,
        path: &JsString,
        times: Option<(f64, f64)>,
        flags: i32,
        clock: &mut Clock,
    ) -> FilesResult<()> {
        if flags != 0 {
            return Err(Abort::because("flags in __syscall_utimensat"));
        }
        let path = self.path_at(dirfd, path, true)?;
        let (accessed, modified) = times.unwrap_or_else(|| {
            let now = clock.tick() as f64;
            (now, now)
        });
        match self.lookup(&path, Walk::Follow)? {
            Some(Found::Node(id)) if self.tree.node(id).has_attributes() => {
                self.tree.node_mut(id).timestamp = accessed.max(modified);
                Ok(())
            }
            _ => Err(Abort::because("utimensat on something without times")),
        }
    }

    /// Whether the guest may read (4), write (2), execute (1) what `path` leads to; 0 asks only whether it is there.
    pub fn faccessat(&self, dirfd: i32, path: &JsString, amode: i32, flags: i32) -> FilesResult<()> {
        if flags != 0 {
            return Err(Abort::because("flags in __syscall_faccessat"));
        }
        let path = self.path_at(dirfd, path, false)?;
        if amode & !7 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let found = self.lookup(&path, Walk::Follow)?.ok_or(Errno::ENOENT)?;
        let wanted = Wanted { read: amode & 4 != 0, write: amode & 2 != 0, execute: amode & 1 != 0 };
        if wanted.granted_by(self.tree.mode_of(&found)) { Ok(()) } else { Err(Errno::EACCES.into()) }
    }

    // ---- names ----

    /// Creates a directory. Reads the clock once.
    pub fn mkdirat(&mut self, dirfd: i32, path: &JsString, mode: i32, clock: &mut Clock) -> FilesResult<()> {
        let path = path::without_trailing_slash(path::normalize(&self.path_at(dirfd, path, false)?));
        let kind = Kind::Dir { entries: Default::default() };
        self.tree.make(&path, mode & 0o1777 | TYPE_DIR, 0, kind, &self.streams, clock)?;
        Ok(())
    }

    /// Removes an empty directory. Reads the clock once.
    pub fn rmdir(&mut self, path: &JsString, clock: &mut Clock) -> FilesResult<()> {
        if path.len() > MAX_PATH_UNITS {
            return Err(Errno::ENAMETOOLONG.into());
        }
        self.tree.remove_dir(path, &self.streams, clock)
    }

    /// Removes a file (`flags` 0) or an empty directory (`AT_REMOVEDIR`). Reads the clock once.
    pub fn unlinkat(&mut self, dirfd: i32, path: &JsString, flags: i32, clock: &mut Clock) -> FilesResult<()> {
        let path = self.path_at(dirfd, path, false)?;
        match flags {
            0 => self.tree.remove(&path, &self.streams, clock),
            AT_REMOVEDIR => self.tree.remove_dir(&path, &self.streams, clock),
            _ => Err(Abort::because("invalid flags passed to unlinkat")),
        }
    }

    /// Moves a name. Reads the clock once, or not at all if both names lead to the same node.
    pub fn renameat(
        &mut self,
        old_dirfd: i32,
        old: &JsString,
        new_dirfd: i32,
        new: &JsString,
        clock: &mut Clock,
    ) -> FilesResult<()> {
        let old = self.path_at(old_dirfd, old, false)?;
        let new = self.path_at(new_dirfd, new, false)?;
        self.tree.rename(&old, &new, &self.streams, clock)
    }

    /// Where a symbolic link leads, as an absolute path. `room` is the size of the guest's buffer, sign-extended.
    pub fn readlinkat(&self, dirfd: i32, path: &JsString, room: i64) -> FilesResult<ReadLink> {
        let path = self.path_at(dirfd, path, false)?;
        let room = match self.glue {
            Glue::Emscripten3 | Glue::Emscripten4 => i64::from(room as u32),
            Glue::Emscripten2 | Glue::Wasm64 => room,
        };
        if room <= 0 {
            return Err(Errno::EINVAL.into());
        }
        let target = self.tree.read_link(&path, &self.streams)?;
        Ok(ReadLink::new(&target, room))
    }
}
