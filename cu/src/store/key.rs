//! Keys of the results store: byte order is the order of evaluation.

use crate::Error;

/// A place in a process's order of evaluations.
///
/// Ordered by timestamp, then ordinate as a **number**, then cron (a scheduled message before the crons that inherit
/// its ordinate). The reference keeps ordinates as text, so that within one timestamp "10" sorts before "9" and a
/// reader who pages across them sees the tenth message first; numeric order is the order in which they were evaluated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Milliseconds since 1970.
    pub timestamp: u64,
    /// Nonce of the scheduled message, or of the last one before a cron.
    pub ordinate: u64,
    /// `<index>-<interval>` for crons.
    pub cron: Option<String>,
}

/// One bound of a range of places, as cursors express it: what is left out is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacePrefix {
    /// Milliseconds since 1970.
    pub timestamp: u64,
    /// None: every ordinate of the timestamp.
    pub ordinate: Option<u64>,
    /// None with an ordinate: the scheduled message itself.
    pub cron: Option<String>,
}

const SCHEDULED: u8 = 0;
const CRON: u8 = 1;
/// Timestamp, ordinate, kind.
const FIXED_BYTES: usize = 8 + 8 + 1;
/// Process ids are 43 characters; anything near this bound is not one.
const ID_BYTES_MAX: usize = 1024;
/// `Cron-Interval` tags are a few characters; the database takes keys of up to 64 KiB.
const CRON_BYTES_MAX: usize = 16 << 10;

impl Place {
    /// The part of a key that follows the process.
    pub(super) fn encode(&self) -> Vec<u8> {
        let cron = self.cron.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(FIXED_BYTES + cron.len());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ordinate.to_be_bytes());
        out.push(if self.cron.is_some() { CRON } else { SCHEDULED });
        out.extend_from_slice(cron.as_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (timestamp, rest) = bytes.split_first_chunk::<8>()?;
        let (ordinate, rest) = rest.split_first_chunk::<8>()?;
        let (kind, cron) = rest.split_first()?;
        Some(Self {
            timestamp: u64::from_be_bytes(*timestamp),
            ordinate: u64::from_be_bytes(*ordinate),
            cron: match *kind {
                SCHEDULED if cron.is_empty() => None,
                CRON => Some(String::from_utf8(cron.to_vec()).ok()?),
                _ => return None,
            },
        })
    }
}

/// `<length><process>`: the prefix that all of a process's keys share and no other process's keys have.
pub(super) fn process(id: &str) -> Result<Vec<u8>, Error> {
    let length = u16::try_from(id.len())
        .ok()
        .filter(|n| usize::from(*n) <= ID_BYTES_MAX)
        .ok_or_else(|| Error::Invalid(format!("an id of {} bytes is longer than {ID_BYTES_MAX}", id.len())))?;
    let mut out = Vec::with_capacity(2 + id.len() + 64);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(id.as_bytes());
    Ok(out)
}

/// Key of a row.
pub(super) fn row(process_id: &str, place: &Place) -> Result<Vec<u8>, Error> {
    if place.cron.as_ref().is_some_and(|cron| cron.len() > CRON_BYTES_MAX) {
        return Err(Error::Invalid(format!("an interval of a cron is longer than {CRON_BYTES_MAX} bytes")));
    }
    let mut key = process(process_id)?;
    key.extend_from_slice(&place.encode());
    Ok(key)
}

/// Key of anything else that a process knows by a text: a message id, a deduplication key.
pub(super) fn named(process_id: &str, name: &str) -> Result<Vec<u8>, Error> {
    if name.len() > ID_BYTES_MAX {
        return Err(Error::Invalid(format!("an id of {} bytes is longer than {ID_BYTES_MAX}", name.len())));
    }
    let mut key = process(process_id)?;
    key.extend_from_slice(name.as_bytes());
    Ok(key)
}

impl PlacePrefix {
    fn write(&self, process_id: &str) -> Result<Vec<u8>, Error> {
        if self.cron.as_ref().is_some_and(|cron| cron.len() > CRON_BYTES_MAX) {
            return Err(Error::Invalid(format!("a cron longer than {CRON_BYTES_MAX} bytes is in no cursor")));
        }
        let mut key = process(process_id)?;
        key.extend_from_slice(&self.timestamp.to_be_bytes());
        if let Some(ordinate) = self.ordinate {
            key.extend_from_slice(&ordinate.to_be_bytes());
            key.push(if self.cron.is_some() { CRON } else { SCHEDULED });
            key.extend_from_slice(self.cron.as_deref().unwrap_or_default().as_bytes());
        }
        Ok(key)
    }

    /// First key after this place; at a bare timestamp, the first key of that timestamp.
    pub(super) fn lower(&self, process_id: &str) -> Result<Vec<u8>, Error> {
        let mut key = self.write(process_id)?;
        if self.ordinate.is_some() {
            key.push(0);
        }
        Ok(key)
    }

    /// First key beyond what this place, inclusive, covers; at a bare timestamp, beyond all of that timestamp.
    pub(super) fn upper(&self, process_id: &str) -> Result<Vec<u8>, Error> {
        let mut key = self.write(process_id)?;
        match self.ordinate {
            Some(_) => key.push(0),
            None => match self.timestamp.checked_add(1) {
                Some(next) => {
                    key = process(process_id)?;
                    key.extend_from_slice(&next.to_be_bytes());
                }
                None => return process_end(process_id),
            },
        }
        Ok(key)
    }
}

/// First key beyond a process's last.
pub(super) fn process_end(process_id: &str) -> Result<Vec<u8>, Error> {
    let mut key = process(process_id)?;
    // The last of these bytes is a row's kind, which is never 0xff.
    key.extend_from_slice(&[0xff; FIXED_BYTES]);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(timestamp: u64, ordinate: u64, cron: Option<&str>) -> Place {
        Place { timestamp, ordinate, cron: cron.map(str::to_owned) }
    }

    #[test]
    fn ordinates_sort_as_numbers_within_a_timestamp() {
        assert!(row("p", &place(5, 9, None)).unwrap() < row("p", &place(5, 10, None)).unwrap());
    }

    #[test]
    fn a_scheduled_message_sorts_before_the_crons_that_inherit_its_ordinate() {
        assert!(row("p", &place(5, 9, None)).unwrap() < row("p", &place(5, 9, Some("0-1-hour"))).unwrap());
        assert!(row("p", &place(5, 9, Some("0-1-hour"))).unwrap() < row("p", &place(6, 9, None)).unwrap());
    }

    #[test]
    fn a_bare_timestamp_from_includes_it_and_a_cursor_excludes_itself() {
        let key = row("p", &place(5, 9, None)).unwrap();
        let bare = PlacePrefix { timestamp: 5, ordinate: None, cron: None };
        let exact = PlacePrefix { timestamp: 5, ordinate: Some(9), cron: None };
        assert!(bare.lower("p").unwrap() <= key && key < bare.upper("p").unwrap());
        assert!(key < exact.lower("p").unwrap() && key < exact.upper("p").unwrap());
    }

    #[test]
    fn an_upper_cursor_of_a_scheduled_message_leaves_its_crons_out() {
        let cron = row("p", &place(5, 9, Some("0-1-hour"))).unwrap();
        assert!(cron >= PlacePrefix { timestamp: 5, ordinate: Some(9), cron: None }.upper("p").unwrap());
        assert!(cron < PlacePrefix { timestamp: 5, ordinate: None, cron: None }.upper("p").unwrap());
    }

    #[test]
    fn the_last_timestamp_there_is_has_an_upper_bound() {
        let key = row("p", &place(u64::MAX, u64::MAX, Some("zz"))).unwrap();
        assert!(key < PlacePrefix { timestamp: u64::MAX, ordinate: None, cron: None }.upper("p").unwrap());
    }

    #[test]
    fn ids_that_are_too_long_are_refused() {
        assert!(matches!(process(&"x".repeat(70_000)), Err(Error::Invalid(_))));
        assert!(matches!(named("p", &"x".repeat(70_000)), Err(Error::Invalid(_))));
    }

    prop_compose! {
        fn places()(timestamp in any::<u64>(), ordinate in any::<u64>(), cron in proptest::option::of("[ -~]{0,20}")) -> Place {
            Place { timestamp, ordinate, cron }
        }
    }

    proptest! {
        #[test]
        fn byte_order_is_the_order_of_places(a in places(), b in places()) {
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }

        #[test]
        fn places_survive_encoding(a in places()) {
            prop_assert_eq!(Place::decode(&a.encode()), Some(a));
        }

        #[test]
        fn no_process_owns_a_key_of_another(a in "[a-z]{1,6}", b in "[a-z]{1,6}", p in places()) {
            prop_assume!(a != b);
            prop_assert!(!row(&a, &p).unwrap().starts_with(&process(&b).unwrap()));
        }
    }
}
