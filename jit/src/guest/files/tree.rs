//! The tree of inodes: looking up, creating, moving and removing names.
//!
//! The loader keeps names twice: in a table keyed by parent and name, which lookups use, and in each directory, which
//! only the emptiness test uses. Its operations do not keep the two in step, and guests can see that (a file that was
//! renamed over comes back when the new one is unlinked). So both are kept here, changed where the loader changes
//! them.

use std::collections::{HashMap, HashSet};

use super::{
    Glue, MAX_FILE_BYTES, MAX_NODES,
    error::{Abort, Errno, FilesResult},
    node::{Found, Kind, Mount, Node, NodeId, TYPE_DIR, TYPE_LINK, TYPE_MASK, Wanted, rdev},
    path,
    stream::Streams,
};
use crate::guest::{
    clock::{CLOCK_START_MS, Clock},
    text::JsString,
};

/// Deepest nesting of symbolic links while looking up a path.
const MAX_LINK_DEPTH: u32 = 8;
/// Most symbolic links followed in a row, less one.
const MAX_LINKS_IN_A_ROW: u32 = 40;
/// A name that JavaScript objects treat as special: the loader can enter it into a directory, never remove it.
const UNREMOVABLE: &str = "__proto__";

/// How a lookup treats the last name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// Stop before it: the directory that has, or would have, the name.
    Parent,
    /// Follow it if it is a symbolic link.
    Follow,
    /// Take it as it is.
    NoFollow,
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    glue: Glue,
    nodes: HashMap<NodeId, Node>,
    /// Nodes by parent and name, the newest last: lookups see only that.
    table: HashMap<(NodeId, JsString), Vec<NodeId>>,
    next_id: NodeId,
    /// Bytes in all files.
    file_bytes: u64,
}

pub(super) const ROOT: NodeId = 1;

impl Tree {
    /// The root directory alone.
    pub fn new(glue: Glue) -> Self {
        let root = Node {
            id: ROOT,
            parent: ROOT,
            name: "/".into(),
            mode: TYPE_DIR | 0o777,
            rdev: 0,
            mount: Mount::Root,
            mounted: None,
            timestamp: CLOCK_START_MS as f64,
            kind: Kind::Dir { entries: HashSet::new() },
            linked: true,
            open: 0,
            children: 0,
        };
        Self {
            glue,
            nodes: HashMap::from([(ROOT, root)]),
            // The loader enters the root into itself.
            table: HashMap::from([((ROOT, "/".into()), vec![ROOT])]),
            next_id: ROOT + 1,
            file_bytes: 0,
        }
    }

    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).expect("nodes live as long as a name, a child or a stream leads to them")
    }

    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("nodes live as long as a name, a child or a stream leads to them")
    }

    /// Gives every node the same time.
    pub fn set_all_times(&mut self, ms: f64) {
        self.nodes.values_mut().for_each(|node| node.timestamp = ms);
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    #[cfg(test)]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    // ---- looking up ----

    /// Where `path` leads; nothing if it is empty.
    pub fn lookup(&self, path: &JsString, walk: Walk, fds: &Streams) -> FilesResult<Option<Found>> {
        self.lookup_at(path, walk, fds, 0)
    }

    fn lookup_at(&self, path: &JsString, walk: Walk, fds: &Streams, depth: u32) -> FilesResult<Option<Found>> {
        if path.is_empty() {
            return Ok(None);
        }
        if depth > MAX_LINK_DEPTH {
            return Err(Errno::ELOOP.into());
        }
        let names = path::names(path);
        let mut current = Found::Node(ROOT);
        // Where the lookup is, as text: `base`, then the names since. Only symbolic links need it.
        let (mut base, mut since) = (JsString::from("/"), 0);
        for (at, name) in names.iter().enumerate() {
            let is_last = at + 1 == names.len();
            if is_last && walk == Walk::Parent {
                break;
            }
            current = self.child(&current, name, fds)?;
            if let Found::Node(id) = current
                && let Some(root) = self.node(id).mounted
            {
                current = Found::Node(root);
            }
            if is_last && walk != Walk::Follow {
                continue;
            }
            let mut followed = 0;
            while self.link_target(&current).is_some() {
                let here = names[since..=at].iter().fold(base, |path, name| path::join(&path, name));
                let link = self.read_link(&here, fds)?;
                base = path::resolve(&path::dirname(&here), &link);
                since = at + 1;
                current = self
                    .lookup_at(&base, Walk::NoFollow, fds, depth + 1)?
                    .ok_or_else(|| Abort::because("a symbolic link leads nowhere"))?;
                if followed > MAX_LINKS_IN_A_ROW {
                    return Err(Errno::ELOOP.into());
                }
                followed += 1;
            }
        }
        Ok(Some(current))
    }

    fn link_target(&self, found: &Found) -> Option<&JsString> {
        match found {
            Found::Node(id) => match &self.node(*id).kind {
                Kind::Link { target } => Some(target),
                _ => None,
            },
            Found::Descriptor(_) => None,
        }
    }

    /// The absolute path that the symbolic link at `path` points to.
    pub fn read_link(&self, path: &JsString, fds: &Streams) -> FilesResult<JsString> {
        match self.lookup(path, Walk::NoFollow, fds)? {
            None => Err(Errno::ENOENT.into()),
            Some(Found::Descriptor(target)) => Ok(path::resolve(&"/".into(), &target)),
            Some(Found::Node(id)) => {
                let target = self.link_target(&Found::Node(id)).ok_or(Errno::EINVAL)?;
                Ok(path::resolve(&self.path_of(self.node(id).parent)?, target))
            }
        }
    }

    /// The node called `name` in `parent`, mounts not yet crossed.
    pub fn child(&self, parent: &Found, name: &JsString, fds: &Streams) -> FilesResult<Found> {
        let id = match parent {
            Found::Node(id) => *id,
            Found::Descriptor(_) if self.glue == Glue::Emscripten2 => {
                return Err(Errno::EACCES.into());
            }
            Found::Descriptor(_) => return Err(Errno::ENOTDIR.into()),
        };
        let node = self.node(id);
        if !node.is_dir() {
            // The second format does not know "not a directory" here.
            let errno = if self.glue == Glue::Emscripten2 { Errno::EACCES } else { Errno::ENOTDIR };
            return Err(errno.into());
        }
        if !Wanted::EXECUTE.granted_by(node.mode) {
            return Err(Errno::EACCES.into());
        }
        if let Some(newest) = self.table.get(&(id, name.clone())).and_then(|nodes| nodes.last()) {
            return Ok(Found::Node(*newest));
        }
        match node.kind {
            Kind::FdDir => fds.path_by_name(name).map(Found::Descriptor).ok_or_else(|| Errno::EBADF.into()),
            _ => Err(Errno::ENOENT.into()),
        }
    }

    /// The absolute path of a node.
    pub fn path_of(&self, id: NodeId) -> FilesResult<JsString> {
        let mut names = Vec::new();
        let mut node = self.node(id);
        while node.id != node.parent {
            // Directories can be renamed into themselves (the loader's check misses names with a leading dot).
            if names.len() > self.nodes.len() {
                return Err(Abort::because("a directory contains itself"));
            }
            names.push(node.name.units());
            node = self.node(node.parent);
        }
        names.push(&[]);
        names.reverse();
        let slash = b'/' as u16;
        Ok(if names.len() == 1 { "/".into() } else { names.join(&slash).into() })
    }

    /// The mode of what was found; a descriptor's name has none, and so grants nothing.
    pub fn mode_of(&self, found: &Found) -> i32 {
        match found {
            Found::Node(id) => self.node(*id).mode,
            Found::Descriptor(_) => 0,
        }
    }

    fn permitted(&self, found: &Found, wanted: Wanted) -> Result<(), Errno> {
        if wanted.granted_by(self.mode_of(found)) { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn may_create(&self, dir: &Found, name: &JsString, fds: &Streams) -> Result<(), Errno> {
        if self.child(dir, name, fds).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.permitted(dir, Wanted::CHANGE_DIR)
    }

    fn may_delete(&self, dir: &Found, name: &JsString, as_dir: bool, fds: &Streams) -> FilesResult<()> {
        let found = self.child(dir, name, fds)?;
        self.permitted(dir, Wanted::CHANGE_DIR)?;
        let is_dir = self.mode_of(&found) & TYPE_MASK == TYPE_DIR;
        if as_dir && !is_dir {
            return Err(Errno::ENOTDIR.into());
        }
        if as_dir && matches!(found, Found::Node(ROOT)) {
            return Err(Errno::EBUSY.into());
        }
        if !as_dir && is_dir {
            return Err(Errno::EISDIR.into());
        }
        Ok(())
    }

    /// The directory and name that a path ends in.
    fn split(&self, path: &JsString, fds: &Streams) -> FilesResult<(Option<Found>, JsString)> {
        Ok((self.lookup(path, Walk::Parent, fds)?, path::basename(path)))
    }

    /// The id of an ordinary directory, or `EPERM` for whatever has no operation to change its names.
    fn ordinary_dir(&self, found: &Found) -> Result<NodeId, Errno> {
        match found {
            Found::Node(id) if matches!(self.node(*id).kind, Kind::Dir { .. }) => Ok(*id),
            _ => Err(Errno::EPERM),
        }
    }

    // ---- changing ----

    /// Creates a node; `mode` has its type bits. Reads the clock once.
    pub fn make(
        &mut self,
        path: &JsString,
        mode: i32,
        rdev: i32,
        kind: Kind,
        fds: &Streams,
        clock: &mut Clock,
    ) -> FilesResult<NodeId> {
        let (parent, name) = self.split(path, fds)?;
        if name.is_empty() || path::is_dots(&name) {
            return Err(Errno::EINVAL.into());
        }
        let parent = parent.ok_or_else(|| Abort::because("a node without a directory"))?;
        self.may_create(&parent, &name, fds)?;
        let parent = self.ordinary_dir(&parent)?;
        let id = self.insert(parent, name.clone(), mode, rdev, kind)?;
        let now = clock.tick() as f64;
        self.node_mut(id).timestamp = now;
        self.enter(parent, name, now);
        Ok(id)
    }

    /// Creates a symbolic link.
    pub fn make_link(&mut self, target: &str, path: &str, clock: &mut Clock) -> FilesResult<NodeId> {
        self.make(&path.into(), TYPE_LINK | 0o777, 0, Kind::Link { target: target.into() }, &Streams::default(), clock)
    }

    /// Mounts the directory of descriptors on the directory called `fd` in `parent`. Its root gets the same parent and
    /// name as the directory it covers, so lookups meet it first.
    pub fn mount_descriptors(&mut self, parent: NodeId, covered: NodeId) -> FilesResult<()> {
        let name = self.node(covered).name.clone();
        let id = self.insert(parent, name, TYPE_DIR | 0o777, rdev::FD_DIR, Kind::FdDir)?;
        let root = self.node_mut(id);
        root.mount = Mount::Descriptors;
        // The mount leads to it even when its own name is gone.
        root.open += 1;
        self.node_mut(covered).mounted = Some(id);
        Ok(())
    }

    fn insert(&mut self, parent: NodeId, name: JsString, mode: i32, rdev: i32, kind: Kind) -> Result<NodeId, Errno> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Errno::EMFILE);
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1).ok_or(Errno::EMFILE)?;
        let mount = self.node(parent).mount;
        let node = Node {
            id,
            parent,
            name,
            mode,
            rdev,
            mount,
            mounted: None,
            timestamp: CLOCK_START_MS as f64,
            kind,
            linked: false,
            open: 0,
            children: 0,
        };
        self.node_mut(parent).children += 1;
        self.nodes.insert(id, node);
        self.link(id);
        Ok(id)
    }

    fn link(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.linked = true;
        let key = (node.parent, node.name.clone());
        self.table.entry(key).or_default().push(id);
    }

    fn unlink_node(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.linked = false;
        let key = (node.parent, node.name.clone());
        if let Some(nodes) = self.table.get_mut(&key) {
            nodes.retain(|other| *other != id);
            if nodes.is_empty() {
                self.table.remove(&key);
            }
        }
    }

    fn enter(&mut self, dir: NodeId, name: JsString, now: f64) {
        let node = self.node_mut(dir);
        node.timestamp = now;
        if let Kind::Dir { entries } = &mut node.kind {
            entries.insert(name);
        }
    }

    fn leave(&mut self, dir: NodeId, name: &JsString, now: f64) {
        let node = self.node_mut(dir);
        node.timestamp = now;
        if let Kind::Dir { entries } = &mut node.kind
            && name != UNREMOVABLE
        {
            entries.remove(name);
        }
    }

    fn is_empty_dir(&self, found: &Found) -> bool {
        match found {
            Found::Node(id) => match &self.node(*id).kind {
                Kind::Dir { entries } => entries.is_empty(),
                _ => true,
            },
            Found::Descriptor(_) => true,
        }
    }

    fn is_mountpoint(&self, found: &Found) -> bool {
        matches!(found, Found::Node(id) if self.node(*id).mounted.is_some())
    }

    /// Takes a name away for good.
    fn destroy(&mut self, dir: NodeId, name: &JsString, found: &Found, clock: &mut Clock) {
        let now = clock.tick() as f64;
        self.leave(dir, name, now);
        if let Found::Node(id) = found {
            self.unlink_node(*id);
            self.free(*id);
        }
    }

    /// Removes an empty directory. Reads the clock once.
    pub fn remove_dir(&mut self, path: &JsString, fds: &Streams, clock: &mut Clock) -> FilesResult<()> {
        let (parent, name) = self.split(path, fds)?;
        let parent = parent.ok_or_else(|| Abort::because("rmdir of an empty path"))?;
        let found = self.child(&parent, &name, fds)?;
        self.may_delete(&parent, &name, true, fds)?;
        let dir = self.ordinary_dir(&parent)?;
        if self.is_mountpoint(&found) {
            return Err(Errno::EBUSY.into());
        }
        if !self.is_empty_dir(&found) {
            return Err(Errno::ENOTEMPTY.into());
        }
        self.destroy(dir, &name, &found, clock);
        Ok(())
    }

    /// Removes a name that is no directory. Reads the clock once.
    pub fn remove(&mut self, path: &JsString, fds: &Streams, clock: &mut Clock) -> FilesResult<()> {
        let (parent, name) = self.split(path, fds)?;
        let parent = parent.ok_or(Errno::ENOENT)?;
        let found = self.child(&parent, &name, fds)?;
        self.may_delete(&parent, &name, false, fds)?;
        let dir = self.ordinary_dir(&parent)?;
        if self.is_mountpoint(&found) {
            return Err(Errno::EBUSY.into());
        }
        self.destroy(dir, &name, &found, clock);
        Ok(())
    }

    /// Moves a name. Reads the clock once, unless both names already lead to one node.
    ///
    /// What the new name led to is not destroyed: it stays in the name table behind the newcomer, as in the loader.
    pub fn rename(&mut self, old: &JsString, new: &JsString, fds: &Streams, clock: &mut Clock) -> FilesResult<()> {
        let (old_dir, old_name) = self.split(old, fds)?;
        let (new_dir, new_name) = self.split(new, fds)?;
        let (Some(old_dir), Some(new_dir)) = (old_dir, new_dir) else {
            return Err(Errno::ENOENT.into());
        };
        let (Found::Node(old_id), Found::Node(new_id)) = (&old_dir, &new_dir) else {
            return Err(Errno::EXDEV.into());
        };
        let (old_id, new_id) = (*old_id, *new_id);
        if self.node(old_id).mount != self.node(new_id).mount {
            return Err(Errno::EXDEV.into());
        }
        let moved = self.child(&old_dir, &old_name, fds)?;
        if !path::starts_with_dot(&path::relative(old, &path::dirname(new))) {
            return Err(Errno::EINVAL.into());
        }
        if !path::starts_with_dot(&path::relative(new, &path::dirname(old))) {
            return Err(Errno::ENOTEMPTY.into());
        }
        let target = self.child(&new_dir, &new_name, fds).ok();
        if let (Found::Node(from), Some(Found::Node(to))) = (&moved, &target)
            && from == to
        {
            return Ok(());
        }
        let as_dir = self.mode_of(&moved) & TYPE_MASK == TYPE_DIR;
        self.may_delete(&old_dir, &old_name, as_dir, fds)?;
        match &target {
            Some(_) => self.may_delete(&new_dir, &new_name, as_dir, fds)?,
            None => self.may_create(&new_dir, &new_name, fds)?,
        }
        self.ordinary_dir(&old_dir)?;
        if self.is_mountpoint(&moved) || target.as_ref().is_some_and(|found| self.is_mountpoint(found)) {
            return Err(Errno::EBUSY.into());
        }
        let Found::Node(moved) = moved else {
            return Err(Errno::EPERM.into());
        };
        if as_dir && target.is_some_and(|found| !self.is_empty_dir(&found)) {
            // The loader takes the node out of its table and puts it back before it reports this.
            self.unlink_node(moved);
            self.link(moved);
            return Err(Errno::ENOTEMPTY.into());
        }
        match &self.node(new_id).kind {
            Kind::Dir { .. } => {}
            // The loader stores the name as a property of the file's byte array, if there is one.
            Kind::File { bytes } if !bytes.is_empty() => {}
            _ => return Err(Abort::because("rename into something that is no directory")),
        }
        self.unlink_node(moved);
        let now = clock.tick() as f64;
        self.leave(old_id, &old_name, now);
        self.enter(new_id, new_name.clone(), now);
        let node = self.node_mut(moved);
        node.name = new_name;
        node.parent = new_id;
        self.node_mut(new_id).children += 1;
        self.node_mut(old_id).children -= 1;
        self.link(moved);
        Ok(())
    }

    // ---- streams and bytes ----

    /// Counts a stream on `id`.
    pub fn open(&mut self, id: NodeId) {
        self.node_mut(id).open += 1;
    }

    /// Uncounts a stream on `id`.
    pub fn close(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.open = node.open.saturating_sub(1);
        self.free(id);
    }

    /// Drops a node that nothing leads to any more, and then its parents if they were kept for it alone.
    fn free(&mut self, mut id: NodeId) {
        loop {
            let node = self.node(id);
            if node.linked || node.open > 0 || node.children > 0 || node.id == node.parent {
                return;
            }
            let parent = node.parent;
            if let Some(Node { kind: Kind::File { bytes }, .. }) = self.nodes.remove(&id) {
                self.file_bytes -= bytes.len() as u64;
            }
            self.node_mut(parent).children -= 1;
            id = parent;
        }
    }

    /// The bytes of a file; none for anything else.
    pub fn bytes(&self, id: NodeId) -> &[u8] {
        match &self.node(id).kind {
            Kind::File { bytes } => bytes,
            _ => &[],
        }
    }

    /// Gives a file a new size, with zeros for what is new.
    ///
    /// # Errors
    /// `ENOSPC` if all files together would exceed [`MAX_FILE_BYTES`].
    pub fn resize(&mut self, id: NodeId, size: f64) -> Result<(), Errno> {
        let others = self.file_bytes - self.bytes(id).len() as u64;
        if size > (MAX_FILE_BYTES - others) as f64 {
            return Err(Errno::ENOSPC);
        }
        let size = size as usize;
        if let Kind::File { bytes } = &mut self.node_mut(id).kind {
            let more = size.saturating_sub(bytes.len());
            bytes.try_reserve(more).map_err(|_| Errno::ENOSPC)?;
            bytes.resize(size, 0);
            if size == 0 {
                *bytes = Vec::new();
            }
            self.file_bytes = others + size as u64;
        }
        Ok(())
    }

    /// Writes into a file at `position`, growing it as needed.
    ///
    /// # Errors
    /// As [`resize`](Self::resize); nothing is written then.
    pub fn write(&mut self, id: NodeId, position: f64, data: &[u8]) -> Result<(), Errno> {
        let end = position + data.len() as f64;
        if end > self.bytes(id).len() as f64 {
            self.resize(id, end)?;
        }
        let start = position as usize;
        if let Kind::File { bytes } = &mut self.node_mut(id).kind
            && let Some(room) = bytes.get_mut(start..start + data.len())
        {
            room.copy_from_slice(data);
        }
        Ok(())
    }
}
