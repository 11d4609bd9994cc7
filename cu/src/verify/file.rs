//! Signed things from a stream of bytes: an item, a bundle with bundles in it, or JSON. Files may have any length; what is
//! held of them at a time is bounded.

use std::io::{self, Read};

use sha2::{Digest, Sha384};

use super::{Outcome, Subject, read_json};
use crate::item::{
    Head, Id,
    bundle::{self, BUNDLE_ITEMS_MAX},
    deep_hash::{self, Blobs, DEEP_HASH_BYTES},
    head::HEAD_BYTES_MAX,
    to_base64url,
};

/// Items up to this length are read whole, to be hashed by other threads; longer ones are hashed as they come.
const WHOLE_BYTES_MAX: u64 = 256 << 10;
/// Longest JSON.
const JSON_BYTES_MAX: u64 = 256 << 20;
/// Bundles in bundles in bundles.
const DEPTH_MAX: usize = 8;
/// Bytes of an entry in a bundle's table: length and id.
const ENTRY_BYTES: usize = 64;
/// Entries of a bundle's table read at once.
const ENTRIES_AT_ONCE: usize = 1024;
/// Why reading ends when the taker wants no more.
const STOPPED: &str = "stopped";

/// Something found in a stream.
#[derive(Debug)]
pub enum Piece {
    /// An item of a bundle, as its bytes; it may be a bundle again.
    Whole {
        /// The item.
        bytes: Vec<u8>,
        /// Its id by the bundle's table.
        expected: Id,
        /// How many bundles it is in.
        depth: usize,
    },
    /// Something read.
    Read(Subject),
    /// A bundle inside an item that is none, or breaks off. What comes after it is read all the same.
    Broken(String),
}

impl Piece {
    /// Bytes that it holds, about.
    pub fn weight(&self) -> usize {
        match self {
            Self::Whole { bytes, .. } => bytes.len(),
            // A key, a signature and a message.
            Self::Read(_) => 2048,
            Self::Broken(why) => why.len(),
        }
    }
}

/// Takes what is found; `false` ends the reading.
pub type Take<'a> = dyn FnMut(Piece) -> bool + 'a;

/// Reads everything signed in a stream.
///
/// # Errors
/// What is wrong and where: it is neither an item nor a bundle nor JSON, it breaks off, or it cannot be read. What was
/// found before has been given.
pub fn read(stream: &mut dyn Read, take: &mut Take<'_>) -> Result<(), String> {
    let mut first = [0; 32];
    let filled = fill(stream, &mut first).map_err(unreadable)?;
    let first = &first[..filled];
    let mut stream = first.chain(stream);
    let text = first.iter().position(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    // A bundle begins with a number of 32 bytes, of which the last 24 are zeros; a signature would not be.
    if filled == 32 && first[8..].iter().all(|byte| *byte == 0) {
        read_bundle(&mut stream, 0, take)
    } else if text.is_some_and(|at| matches!(first[at], b'{' | b'[')) {
        let mut json = Vec::new();
        stream.take(JSON_BYTES_MAX + 1).read_to_end(&mut json).map_err(unreadable)?;
        if json.len() as u64 > JSON_BYTES_MAX {
            return Err(format!("JSON of more than {JSON_BYTES_MAX} bytes"));
        }
        read_json(&json)?.into_iter().all(|placed| take(Piece::Read(placed.subject)));
        Ok(())
    } else {
        let subject = read_item(&mut stream, None, 0, take)?;
        take(Piece::Read(subject));
        Ok(())
    }
}

/// Gives the subjects of a piece in order. `Err`: a bundle that breaks off.
pub fn subjects(piece: Piece, known: &mut Blobs, give: &mut dyn FnMut(Result<Subject, String>)) {
    let (bytes, expected, depth) = match piece {
        Piece::Read(subject) => return give(Ok(subject)),
        Piece::Broken(why) => return give(Err(why)),
        Piece::Whole { bytes, expected, depth } => (bytes, expected, depth),
    };
    let subject = match Head::parse(&bytes) {
        Ok((head, mut data)) if holds_bundle(&head, depth) => {
            let mut take = |piece| {
                subjects(piece, known, give);
                true
            };
            read_data(&head, &mut data, Some(&expected), depth, &mut take)
        }
        Ok((head, data)) => {
            let signed = head.signed_bytes_of_many(&deep_hash::blob(data), known);
            Ok(Subject::of_head(&head, &signed, Some(&expected)))
        }
        Err(error) => Err(error.to_string()),
    };
    give(Ok(subject.unwrap_or_else(|why| unread(&expected, why))));
}

/// An item of a bundle that is none.
fn unread(expected: &Id, why: String) -> Subject {
    Subject::settled(to_base64url(expected), None, Outcome::Invalid(why))
}

/// Reads an item to the stream's end: gives the items of the bundle that it may be, and then itself.
fn read_item(
    stream: &mut dyn Read,
    expected: Option<&Id>,
    depth: usize,
    take: &mut Take<'_>,
) -> Result<Subject, String> {
    let mut begin = Vec::new();
    stream.take(HEAD_BYTES_MAX as u64).read_to_end(&mut begin).map_err(unreadable)?;
    let (head, data) = Head::parse(&begin).map_err(|error| error.to_string())?;
    read_data(&head, &mut data.chain(stream), expected, depth, take)
}

/// Whether an item inside so many bundles is read as a bundle.
fn holds_bundle(head: &Head, depth: usize) -> bool {
    depth < DEPTH_MAX && bundle::is_bundle(head.tags())
}

/// Reads an item's data to the stream's end, as [`read_item`].
fn read_data(
    head: &Head,
    stream: &mut dyn Read,
    expected: Option<&Id>,
    depth: usize,
    take: &mut Take<'_>,
) -> Result<Subject, String> {
    let mut data = Hashed { stream, hash: Sha384::new(), length: 0 };
    if holds_bundle(head, depth) {
        match read_bundle(&mut data, depth + 1, take) {
            Err(why) if why == STOPPED => return Err(why),
            Err(why) => {
                take(Piece::Broken(format!("in item {}: {why}", to_base64url(&head.id()))));
            }
            Ok(()) => {}
        }
    }
    io::copy(&mut data, &mut io::sink()).map_err(unreadable)?;
    let hash: [u8; DEEP_HASH_BYTES] = data.hash.finalize().into();
    let signed = head.signed_bytes(&deep_hash::blob_of(data.length, &hash));
    Ok(Subject::of_head(head, &signed, expected))
}

fn read_bundle(stream: &mut dyn Read, depth: usize, take: &mut Take<'_>) -> Result<(), String> {
    let mut count = [0; 32];
    if fill(stream, &mut count).map_err(unreadable)? < 32 {
        return Err("bundle ends inside the number of its items".to_owned());
    }
    let count = bundle::get_u256(&count).filter(|count| *count <= BUNDLE_ITEMS_MAX as u64);
    let count = count.ok_or_else(|| format!("bundle announces more than {BUNDLE_ITEMS_MAX} items"))? as usize;
    // As it comes: what is announced need not follow.
    let mut table = Vec::new();
    while table.len() < count {
        let mut entries = vec![0; ENTRY_BYTES * ENTRIES_AT_ONCE.min(count - table.len())];
        let filled = fill(stream, &mut entries).map_err(unreadable)?;
        if filled < entries.len() {
            let index = table.len() + filled / ENTRY_BYTES;
            return Err(format!("bundle of {count} items ends inside entry {index} of its table"));
        }
        table.extend(entries.chunks_exact(ENTRY_BYTES).map(|entry| {
            let id: Id = entry[32..].try_into().expect("an entry's second half has 32 bytes");
            (bundle::get_u256(&entry[..32]), id)
        }));
    }
    for (index, (length, id)) in table.into_iter().enumerate() {
        let length = length.ok_or_else(|| format!("bundle's item {index} has a length beyond 64 bits"))?;
        let ends = |found: u64| format!("bundle ends inside item {index}, which has {length} bytes: {found} are there");
        let goes_on = if length <= WHOLE_BYTES_MAX {
            let mut bytes = vec![0; length as usize];
            let filled = fill(stream, &mut bytes).map_err(unreadable)?;
            if filled < bytes.len() {
                return Err(ends(filled as u64));
            }
            take(Piece::Whole { bytes, expected: id, depth })
        } else {
            let mut item = (&mut *stream).take(length);
            let subject = read_item(&mut item, Some(&id), depth, take);
            io::copy(&mut item, &mut io::sink()).map_err(unreadable)?;
            if item.limit() > 0 {
                return Err(ends(length - item.limit()));
            }
            match subject {
                Err(why) if why == STOPPED => return Err(why),
                subject => take(Piece::Read(subject.unwrap_or_else(|why| unread(&id, why)))),
            }
        };
        if !goes_on {
            return Err(STOPPED.to_owned());
        }
    }
    match io::copy(stream, &mut io::sink()).map_err(unreadable)? {
        0 => Ok(()),
        trailing => Err(format!("bundle has {trailing} bytes after its last item")),
    }
}

/// Hashes and counts what is read through it.
struct Hashed<'a> {
    stream: &'a mut dyn Read,
    hash: Sha384,
    length: u64,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.length += read as u64;
        Ok(read)
    }
}

/// As many bytes as there are, up to the buffer's length.
fn fill(stream: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::num::NonZeroUsize;

    use super::super::{Question, verify};
    use super::*;
    use crate::item::{DataItem, Draft, Tag, Wallet};

    fn wallet() -> Wallet {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/items/arbundles.json")).unwrap();
        Wallet::from_jwk(&golden["jwk"].to_string()).unwrap()
    }

    fn item(wallet: &Wallet, data: Vec<u8>, bundle: bool) -> DataItem {
        let tags = if bundle {
            vec![Tag::new("Bundle-Format", "binary"), Tag::new("Bundle-Version", "2.0.0")]
        } else {
            vec![Tag::new("a", "b")]
        };
        wallet.sign(Draft { tags, data, ..Draft::default() }).unwrap()
    }

    type AllRead = (Vec<(String, String)>, Vec<String>, Result<(), String>);

    /// Ids with outcomes, what was broken inside, and how the reading ended.
    fn read_all(mut bytes: &[u8]) -> AllRead {
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        let end = verify(&mut bytes, NonZeroUsize::new(2).unwrap(), &mut |one| {
            match one {
                Ok(verdict) => found.push((verdict.id, verdict.outcome.name().to_owned())),
                Err(why) => broken.push(why),
            }
            true
        });
        (found, broken, end)
    }

    fn valid(items: &[&DataItem]) -> Vec<(String, String)> {
        items.iter().map(|item| (item.id_text(), "valid".to_owned())).collect()
    }

    #[test]
    fn bundles_in_bundles_are_read_to_the_innermost_item() {
        let wallet = wallet();
        let (a, b) = (item(&wallet, b"a".to_vec(), false), item(&wallet, vec![7; WHOLE_BYTES_MAX as usize], false));
        let inner = item(&wallet, bundle::write(&[a.clone(), b.clone()]), true);
        let outer = bundle::write(&[inner.clone(), a.clone()]);
        let (found, broken, end) = read_all(&outer);
        assert_eq!((found, broken, end), (valid(&[&a, &b, &inner, &a]), vec![], Ok(())));
        let carrier = item(&wallet, outer, true);
        let (found, broken, end) = read_all(&carrier.to_bytes());
        assert_eq!((found, broken, end), (valid(&[&a, &b, &inner, &a, &carrier]), vec![], Ok(())));
        assert_eq!(read_all(&bundle::write(&[])), (vec![], vec![], Ok(())));
    }

    #[test]
    fn one_bad_item_leaves_the_others_as_they_are() {
        let wallet = wallet();
        let items: Vec<_> = (0..3u8).map(|i| item(&wallet, vec![i], false)).collect();
        let mut bytes = bundle::write(&items);
        let length = items[0].to_bytes().len();
        let second = 32 + 3 * ENTRY_BYTES + length;
        // A presence byte that is none; a changed signature, and with it an id.
        bytes[second + 1026] = 9;
        bytes[second + length + 5] ^= 1;
        let (found, broken, end) = read_all(&bytes);
        assert_eq!((found[0].1.as_str(), found[1].1.as_str(), found[2].1.as_str()), ("valid", "invalid", "invalid"));
        assert_eq!(found[1].0, items[1].id_text());
        assert_ne!(found[2].0, items[2].id_text());
        assert_eq!((broken, end), (vec![], Ok(())));
    }

    #[test]
    fn a_stream_that_breaks_off_says_where() {
        let wallet = wallet();
        let one = item(&wallet, vec![1], false);
        let bytes = bundle::write(&[one.clone(), one.clone()]);
        for length in (0..bytes.len()).step_by(7) {
            let (found, broken, end) = read_all(&bytes[..length]);
            assert!(end.is_err(), "{length}");
            assert!(broken.is_empty() && found.len() <= 1, "{length}");
        }
        assert!(read_all(&bytes[..40]).2.unwrap_err().contains("entry 0"));
        assert!(read_all(&bytes[..bytes.len() - 1]).2.unwrap_err().contains("inside item 1"));
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(read_all(&longer).2.unwrap_err(), "bundle has 1 bytes after its last item");
        // Lengths and counts that are lies.
        for (at, byte) in [(0, 200), (2, 9), (3, 9), (32 + 2, 1), (32 + 7, 0xff), (32 + 20, 1)] {
            let mut lie = bytes.clone();
            lie[at] = byte;
            assert!(read_all(&lie).2.is_err(), "{at}");
        }
        // Inside an item, what follows is still read.
        let broken = item(&wallet, bytes[..200].to_vec(), true);
        let (found, why, end) = read_all(&bundle::write(&[broken.clone(), one.clone()]));
        assert_eq!((found, end), (valid(&[&broken, &one]), Ok(())));
        assert!(why[0].starts_with(&format!("in item {}: bundle ends inside item 0", broken.id_text())), "{why:?}");
    }

    #[test]
    fn bundles_deeper_than_the_bound_are_data() {
        let wallet = wallet();
        let mut last = item(&wallet, vec![1], false);
        for _ in 0..DEPTH_MAX + 3 {
            last = item(&wallet, bundle::write(&[last]), true);
        }
        let (found, broken, end) = read_all(&last.to_bytes());
        assert_eq!((found.len(), broken, end), (DEPTH_MAX + 1, vec![], Ok(())));
    }

    #[test]
    fn a_stream_without_end_is_hashed_in_little_memory() {
        let item = item(&wallet(), Vec::new(), false);
        // 64 MiB of zeros after the head: another item than was signed.
        let bytes = item.to_bytes();
        let mut stream = bytes[..].chain(io::repeat(0).take(64 << 20));
        let mut found = None;
        read(&mut stream, &mut |piece| {
            found = Some(piece);
            true
        })
        .unwrap();
        assert!(matches!(found, Some(Piece::Read(Subject { question: Question::Open { .. }, .. }))));
    }

    #[test]
    fn the_taker_can_end_the_reading() {
        let wallet = wallet();
        let items: Vec<_> = (0..4u8).map(|i| item(&wallet, vec![i], false)).collect();
        let mut seen = 0;
        let end = read(&mut &bundle::write(&items)[..], &mut |_| {
            seen += 1;
            seen < 2
        });
        assert_eq!((seen, end), (2, Err(STOPPED.to_owned())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), kind in 0u8..10, json: bool) {
            let mut bytes = bytes;
            if json && !bytes.is_empty() {
                bytes[0] = b'{';
            } else if bytes.len() > 64 {
                bytes[0] = kind;
                bytes[1] = 0;
                if kind > 7 {
                    bytes[2..32].fill(0);
                    bytes[34..64].fill(0);
                }
            }
            let _ = read_all(&bytes);
        }
    }
}
