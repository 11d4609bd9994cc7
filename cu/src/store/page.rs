//! Pages of results: always full when there is enough to fill them, and never falsely the last.

use std::ops::Bound;

use super::{Place, PlacePrefix, Row, Store, key, row};
use crate::Error;

/// Bytes of stored results in one page, whatever its limit says: beyond it the page ends and says that more follow.
pub const PAGE_BYTES_MAX: usize = 256 << 20;

/// One page.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// In the order asked for.
    pub rows: Vec<Row>,
    /// Whether a row that would be shown follows.
    pub has_next: bool,
}

/// What to look for.
#[derive(Clone, Debug)]
pub struct Query {
    /// After this place, or from this timestamp on.
    pub from: Option<PlacePrefix>,
    /// Up to this place, itself included.
    pub to: Option<PlacePrefix>,
    /// From the end backwards.
    pub descending: bool,
    /// Rows wanted.
    pub limit: u64,
    /// Only results of crons.
    pub only_cron: bool,
}

impl Store {
    /// Rows between two places. Rows with an error are not shown and do not count towards the limit, so that a page is
    /// shorter than its limit only when nothing follows.
    ///
    /// # Errors
    /// As [`Store::row`].
    pub fn page(&self, process_id: &str, query: &Query) -> Result<Rows, Error> {
        let lower = match &query.from {
            Some(from) => from.lower(process_id)?,
            None => key::process(process_id)?,
        };
        let upper = match &query.to {
            Some(to) => to.upper(process_id)?,
            None => key::process_end(process_id)?,
        };
        let mut page = Rows { rows: Vec::new(), has_next: false };
        if lower >= upper {
            return Ok(page);
        }
        let prefix_bytes = key::process(process_id)?.len();
        let range = (Bound::Included(lower), Bound::Excluded(upper));
        let mut found = self.rows.range::<Vec<u8>, _>(range);
        let mut bytes = 0;
        while let Some(guard) = if query.descending { found.next_back() } else { found.next() } {
            let (key, value) = guard.into_inner().map_err(|e| self.fail(&e))?;
            let place = key.get(prefix_bytes..).and_then(Place::decode);
            let place = place.ok_or_else(|| self.damaged(process_id, "a key"))?;
            if query.only_cron && place.cron.is_none() {
                continue;
            }
            let row = self.decode(process_id, place, &value)?;
            if row::is_hidden(&row.outcome) {
                continue;
            }
            if page.rows.len() as u64 >= query.limit || (bytes > 0 && bytes + value.len() > PAGE_BYTES_MAX) {
                page.has_next = true;
                break;
            }
            bytes += value.len();
            page.rows.push(row);
        }
        Ok(page)
    }

    /// Whether any row stands after a timestamp: then everything up to it was evaluated, because rows are made in order.
    ///
    /// # Errors
    /// `Internal`: the store cannot be read.
    pub fn has_after(&self, process_id: &str, timestamp: u64) -> Result<bool, Error> {
        let lower = PlacePrefix { timestamp, ordinate: None, cron: None }.upper(process_id)?;
        let range = (Bound::Included(lower), Bound::Excluded(key::process_end(process_id)?));
        match self.rows.range::<Vec<u8>, _>(range).next() {
            Some(guard) => guard.key().map(|_| true).map_err(|e| self.fail(&e)),
            None => Ok(false),
        }
    }
}
