//! Open streams.

use std::collections::BTreeMap;

use super::{
    MAX_STREAMS,
    error::Errno,
    node::{Kind, Node, NodeId, rdev},
};
use crate::guest::text::JsString;

/// Highest descriptor that is given out when the guest names none.
pub(super) const MAX_DESCRIPTOR: i32 = 4096;

/// Which operations a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ops {
    Dir,
    File,
    Null,
    /// A terminal: the first one can be read and answers questions, the second (standard error) is for writing.
    Terminal {
        second: bool,
    },
    Random,
    /// `/proc/self/fd`, or a symbolic link, which cannot be opened.
    Nothing,
}

impl Ops {
    pub fn of(node: &Node) -> Self {
        match (&node.kind, node.rdev) {
            (Kind::Dir { .. }, _) => Self::Dir,
            (Kind::File { .. }, _) => Self::File,
            (Kind::Device, rdev::NULL) => Self::Null,
            (Kind::Device, rdev::TTY) => Self::Terminal { second: false },
            (Kind::Device, rdev::TTY1) => Self::Terminal { second: true },
            (Kind::Device, rdev::RANDOM | rdev::URANDOM) => Self::Random,
            _ => Self::Nothing,
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Whether a position in the stream can be set.
    pub fn can_seek(self) -> bool {
        matches!(self, Self::Dir | Self::File)
    }

    /// Whether the stream counts as seekable, so that appending tries to set a position. (`/dev/null` does, but has
    /// no operation for it: appending to it fails.)
    pub fn is_seekable(self) -> bool {
        !matches!(self, Self::Terminal { .. } | Self::Random)
    }
}

/// What duplicated descriptors share.
#[derive(Clone, Debug)]
struct Shared {
    flags: i32,
    /// A JavaScript number: seeking can take it past what any file could hold.
    position: f64,
    descriptors: usize,
}

/// One descriptor.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub node: NodeId,
    /// The absolute path of the node when it was opened; not updated by renames.
    pub path: JsString,
    pub ops: Ops,
    shared: u64,
}

/// All descriptors. Guests can put one at any number by duplicating onto it, negative ones included.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    streams: BTreeMap<i32, Stream>,
    shared: BTreeMap<u64, Shared>,
    next_shared: u64,
}

impl Streams {
    pub fn get(&self, fd: i32) -> Result<&Stream, Errno> {
        self.streams.get(&fd).ok_or(Errno::EBADF)
    }

    pub fn contains(&self, fd: i32) -> bool {
        self.streams.contains_key(&fd)
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.streams.len()
    }

    fn shared(&self, fd: i32) -> Result<&Shared, Errno> {
        let stream = self.get(fd)?;
        Ok(self.shared.get(&stream.shared).expect("shared state lives as long as a descriptor of it"))
    }

    fn shared_mut(&mut self, fd: i32) -> Result<&mut Shared, Errno> {
        let shared = self.get(fd)?.shared;
        Ok(self.shared.get_mut(&shared).expect("shared state lives as long as a descriptor of it"))
    }

    pub fn flags(&self, fd: i32) -> Result<i32, Errno> {
        Ok(self.shared(fd)?.flags)
    }

    pub fn add_flags(&mut self, fd: i32, flags: i32) -> Result<(), Errno> {
        self.shared_mut(fd)?.flags |= flags;
        Ok(())
    }

    pub fn position(&self, fd: i32) -> Result<f64, Errno> {
        Ok(self.shared(fd)?.position)
    }

    pub fn set_position(&mut self, fd: i32, position: f64) -> Result<(), Errno> {
        self.shared_mut(fd)?.position = position;
        Ok(())
    }

    /// The lowest free descriptor from `start` on.
    pub fn free_from(&self, start: i32) -> Result<i32, Errno> {
        (start..=MAX_DESCRIPTOR).find(|fd| !self.contains(*fd)).ok_or(Errno::EMFILE)
    }

    /// Opens `fd`, which must be free.
    pub fn open(&mut self, fd: i32, node: NodeId, path: JsString, ops: Ops, flags: i32) -> Result<(), Errno> {
        if self.streams.len() >= MAX_STREAMS {
            return Err(Errno::EMFILE);
        }
        let shared = self.next_shared;
        self.next_shared += 1;
        self.shared.insert(shared, Shared { flags, position: 0.0, descriptors: 1 });
        self.streams.insert(fd, Stream { node, path, ops, shared });
        Ok(())
    }

    /// Makes `to`, which must be free, another descriptor of `from`; gives the node.
    pub fn duplicate(&mut self, from: i32, to: i32) -> Result<NodeId, Errno> {
        if self.streams.len() >= MAX_STREAMS {
            return Err(Errno::EMFILE);
        }
        let stream = self.get(from)?.clone();
        self.shared_mut(from)?.descriptors += 1;
        let node = stream.node;
        self.streams.insert(to, stream);
        Ok(node)
    }

    /// Closes `fd`; gives the node.
    pub fn close(&mut self, fd: i32) -> Result<NodeId, Errno> {
        self.shared_mut(fd)?.descriptors -= 1;
        let stream = self.streams.remove(&fd).ok_or(Errno::EBADF)?;
        if self.shared.get(&stream.shared).is_some_and(|shared| shared.descriptors == 0) {
            self.shared.remove(&stream.shared);
        }
        Ok(stream.node)
    }

    /// The path behind `/proc/self/fd/NAME`, with names read as JavaScript reads numbers.
    pub fn path_by_name(&self, name: &JsString) -> Option<JsString> {
        let number = js_number(&String::from_utf16_lossy(name.units()))?;
        if number.fract() != 0.0 || number < f64::from(i32::MIN) || number > f64::from(i32::MAX) {
            return None;
        }
        self.streams.get(&(number as i32)).map(|stream| stream.path.clone())
    }
}

/// The number that JavaScript's unary plus makes of `text`; nothing for NaN.
fn js_number(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c: char| c.is_whitespace() && c != '\u{85}' || c == '\u{FEFF}');
    if text.is_empty() {
        return Some(0.0);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        let (Some(head), Some(digits)) = (text.get(..2), text.get(2..)) else {
            continue;
        };
        if head.eq_ignore_ascii_case(prefix) {
            let digits = digits.chars().map(|c| c.to_digit(radix)).collect::<Option<Vec<_>>>()?;
            return (!digits.is_empty())
                .then(|| digits.into_iter().fold(0.0, |sum, digit| sum * f64::from(radix) + f64::from(digit)));
        }
    }
    // Rust also reads words (`inf`, `nan`); JavaScript's only word stands for no descriptor.
    let decimal = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if decimal { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Checked against `+text` in node 20.
    #[test]
    fn names_read_as_javascript_numbers() {
        for (text, number) in [
            ("1", Some(1.0)),
            ("01", Some(1.0)),
            (" 2 ", Some(2.0)),
            (" ", Some(0.0)),
            ("0x10", Some(16.0)),
            ("0B11", Some(3.0)),
            ("1e0", Some(1.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("-1", Some(-1.0)),
            ("+1", Some(1.0)),
            ("-0x1", None),
            ("0x", None),
            ("1_0", None),
            ("inf", None),
            ("e", None),
            (".", None),
            ("é", None),
        ] {
            assert_eq!(js_number(text), number, "{text:?}");
        }
    }
}
