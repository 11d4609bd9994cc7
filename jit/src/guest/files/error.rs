//! How a file operation fails.

/// An error number of Emscripten's (WASI's) numbering. System calls give it negated, `fd_*` functions as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

#[allow(missing_docs)] // The names are POSIX's.
impl Errno {
    pub const EACCES: Self = Self(2);
    pub const EBADF: Self = Self(8);
    pub const EBUSY: Self = Self(10);
    pub const EEXIST: Self = Self(20);
    pub const EINVAL: Self = Self(28);
    pub const EIO: Self = Self(29);
    pub const EISDIR: Self = Self(31);
    pub const ELOOP: Self = Self(32);
    pub const EMFILE: Self = Self(33);
    pub const ENAMETOOLONG: Self = Self(37);
    pub const ENODEV: Self = Self(43);
    pub const ENOENT: Self = Self(44);
    pub const ENOSPC: Self = Self(51);
    pub const ENOSYS: Self = Self(52);
    pub const ENOTDIR: Self = Self(54);
    pub const ENOTEMPTY: Self = Self(55);
    pub const ENOTTY: Self = Self(59);
    pub const ENXIO: Self = Self(60);
    pub const EOVERFLOW: Self = Self(61);
    pub const EPERM: Self = Self(63);
    pub const ERANGE: Self = Self(68);
    pub const ESPIPE: Self = Self(70);
    pub const EXDEV: Self = Self(75);
}

/// The loader would throw something that is no error number (a failed assertion, an unsupported flag, one of its own
/// bugs): the evaluation ends here. The text is for logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Abort(pub String);

impl Abort {
    pub(super) fn because(why: &str) -> FilesError {
        FilesError::Abort(why.to_owned())
    }
}

/// Why a file operation did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// The guest gets an error number.
    #[error("errno {}", .0.0)]
    Errno(Errno),
    /// The evaluation ends (see [`Abort`]).
    #[error("{0}")]
    Abort(String),
}

impl From<Errno> for FilesError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Abort> for FilesError {
    fn from(abort: Abort) -> Self {
        Self::Abort(abort.0)
    }
}

/// What a file operation gives.
pub type FilesResult<T> = Result<T, FilesError>;
