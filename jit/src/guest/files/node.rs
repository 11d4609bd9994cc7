//! What the tree is made of.

use std::collections::HashSet;

use crate::guest::text::JsString;

/// Inode number: the order of creation, from 1.
pub(super) type NodeId = u32;

pub(super) const TYPE_MASK: i32 = 0o170_000;
pub(super) const TYPE_DIR: i32 = 0o040_000;
pub(super) const TYPE_FILE: i32 = 0o100_000;
pub(super) const TYPE_LINK: i32 = 0o120_000;
pub(super) const TYPE_DEVICE: i32 = 0o020_000;
/// All permission bits, set-id and sticky bits included.
pub(super) const PERMISSIONS: i32 = 0o7777;

pub(super) const READ: i32 = 0o444;
pub(super) const WRITE: i32 = 0o222;
pub(super) const EXECUTE: i32 = 0o111;

/// What a node holds. The kind and the type bits of the mode always agree.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A directory and the names in it. Names are found through the tree's name table; this set only decides whether
    /// the directory is empty, and the two can differ (see `Tree::rename`).
    Dir { entries: HashSet<JsString> },
    /// A file and its bytes.
    File { bytes: Vec<u8> },
    /// A symbolic link and where it points.
    Link { target: JsString },
    /// A character device; which one is in `Node::rdev`.
    Device,
    /// `/proc/self/fd`: a directory whose names are the open descriptors.
    FdDir,
}

/// The device numbers, `major << 8 | minor`.
pub(super) mod rdev {
    pub const NULL: i32 = 1 << 8 | 3;
    pub const TTY: i32 = 5 << 8;
    pub const TTY1: i32 = 6 << 8;
    pub const RANDOM: i32 = 64 << 8;
    pub const URANDOM: i32 = 65 << 8;
    /// What the node of `/proc/self/fd` carries; nobody reads it.
    pub const FD_DIR: i32 = 73;
}

/// The two file systems: renaming from one into the other is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mount {
    Root,
    Descriptors,
}

/// An inode.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub id: NodeId,
    /// The directory it is in; the root is its own parent.
    pub parent: NodeId,
    pub name: JsString,
    pub mode: i32,
    pub rdev: i32,
    pub mount: Mount,
    /// The root of the file system mounted here.
    pub mounted: Option<NodeId>,
    /// Access, change and modification time in one, in milliseconds; guests can set any number, fractions too.
    pub timestamp: f64,
    pub kind: Kind,
    /// Whether the name table leads here.
    pub linked: bool,
    /// How many open streams are on it.
    pub open: usize,
    /// How many existing nodes have it as their parent.
    pub children: usize,
}

impl Node {
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Dir { .. } | Kind::FdDir)
    }

    /// Whether times and modes can be read and set: not so for `/proc/self/fd`.
    pub fn has_attributes(&self) -> bool {
        !matches!(self.kind, Kind::FdDir)
    }
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Node(NodeId),
    /// `/proc/self/fd/N`: no inode, only a name for the path that descriptor N was opened with.
    Descriptor(JsString),
}

/// Permissions asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Wanted {
    pub const EXECUTE: Self = Self { read: false, write: false, execute: true };
    pub const WRITE: Self = Self { read: false, write: true, execute: false };
    pub const CHANGE_DIR: Self = Self { read: false, write: true, execute: true };

    /// Whether `mode` grants all of it; one class of users is enough.
    pub fn granted_by(self, mode: i32) -> bool {
        (!self.read || mode & READ != 0) && (!self.write || mode & WRITE != 0) && (!self.execute || mode & EXECUTE != 0)
    }
}
