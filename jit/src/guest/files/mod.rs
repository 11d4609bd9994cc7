//! The files an ao guest sees: the loader's in-memory file system, its descriptors and devices.
//!
//! Guests are Emscripten modules, and the JavaScript loader gives them Emscripten's MEMFS. What the guest reads back
//! (bytes, error numbers, attributes) becomes part of its memory, and each change of a node's time reads the clock, so
//! both follow the loader exactly, its oddities included; where one is reproduced on purpose a comment says so.
//! Nothing here reaches the host: no files, no time, no randomness.
//!
//! Output to the terminal is discarded. Operations that the loader stamps with a time take the
//! [`Clock`](crate::guest::clock::Clock); no other operation reads it.

mod boot;
mod error;
mod node;
mod ops;
mod path;
mod special;
mod stat;
mod stream;
mod tree;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use error::{Abort, Errno, FilesError, FilesResult};
pub use ops::js_offset;
pub use special::{Fcntl, Ioctl, ReadLink, TERMIOS_CHARACTERS, TERMIOS_FLAGS};
pub use stat::Stat;

use crate::guest::{
    random::Random,
    text::{self, JsString},
};

/// Most bytes that all files of a guest hold together; more is `ENOSPC`.
pub const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Most inodes that exist at a time; more is `EMFILE`.
pub const MAX_NODES: usize = 65_536;
/// Most descriptors that are open at a time; more is `EMFILE`.
pub const MAX_STREAMS: usize = 8_192;
/// Longest path, in 16-bit units; a longer one is `ENAMETOOLONG`. (The loader has no such bound.)
pub const MAX_PATH_UNITS: usize = text::MAX_UNITS;

/// The `dirfd` that stands for the current directory.
pub const AT_FDCWD: i32 = -100;

/// Which of the loader's file systems: they differ in layouts, in a few error numbers and in what they stamp. The
/// first module format has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Glue {
    /// `wasm32-unknown-emscripten2`.
    Emscripten2,
    /// `wasm32-unknown-emscripten3`.
    Emscripten3,
    /// `wasm32-unknown-emscripten4`, metered or not.
    Emscripten4,
    /// The 64-bit formats.
    Wasm64,
}

/// What reading standard input gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdin {
    /// No bytes: the loader on a main thread with nothing to read.
    #[default]
    AtEnd,
    /// `EIO`: the loader in a worker thread, where node has no standard input; so in the reference unit. The second
    /// format gives this in every case.
    Unreadable,
}

/// A guest's file system and open descriptors.
#[derive(Clone, Debug)]
pub struct Files {
    glue: Glue,
    tree: tree::Tree,
    streams: stream::Streams,
    random: Random,
    stdin: Stdin,
}

impl Files {
    /// Bytes in all files.
    #[cfg(test)]
    pub fn file_bytes(&self) -> u64 {
        self.tree.file_bytes()
    }

    /// Number of inodes.
    #[cfg(test)]
    pub fn nodes(&self) -> usize {
        self.tree.count()
    }

    /// Number of open descriptors.
    #[cfg(test)]
    pub fn streams(&self) -> usize {
        self.streams.count()
    }

    fn lookup(&self, path: &JsString, walk: tree::Walk) -> FilesResult<Option<node::Found>> {
        if path.len() > MAX_PATH_UNITS {
            return Err(Errno::ENAMETOOLONG.into());
        }
        self.tree.lookup(path, walk, &self.streams)
    }
}
