//! Dates: what the loader's `_gmtime_js`, `_localtime_js`, `_mktime_js`, `_tzset_js` and `strftime` do, always in UTC.
//!
//! The loader computes with JavaScript dates, so their range (100,000,000 days either side of 1970), their way of
//! carrying over out-of-range fields and the special treatment of years 0 to 99 are part of what guests see. The first
//! module format behaves as [`Glue::Emscripten2`] here.

mod date;
mod strftime;

#[cfg(test)]
mod golden;

use date::Date;
pub use strftime::strftime;

use super::files::{Abort, Glue};

/// Broken-down time, with C's meanings: months and days of the year from 0, years from 1900, Sunday 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The names are C's.
pub struct Tm {
    pub sec: i32,
    pub min: i32,
    pub hour: i32,
    pub mday: i32,
    pub mon: i32,
    pub year: i32,
    pub wday: i32,
    pub yday: i32,
    pub isdst: i32,
    /// Seconds east of UTC.
    pub gmtoff: i64,
}

impl Tm {
    /// Bytes that a guest's `struct tm` takes.
    pub fn bytes(wide: bool) -> usize {
        if wide { 56 } else { 44 }
    }

    /// Reads a guest's `struct tm`, which must be at least [`Tm::bytes`] long; `wide` is for 64-bit guests.
    pub fn load(bytes: &[u8], wide: bool) -> Self {
        let int = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Self {
            sec: int(0),
            min: int(4),
            hour: int(8),
            mday: int(12),
            mon: int(16),
            year: int(20),
            wday: int(24),
            yday: int(28),
            isdst: int(32),
            gmtoff: if wide {
                i64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes"))
            } else {
                int(36).into()
            },
        }
    }

    /// The address of the zone's name in a guest's `struct tm`.
    pub fn load_zone(bytes: &[u8], wide: bool) -> u64 {
        if wide {
            u64::from_le_bytes(bytes[48..56].try_into().expect("eight bytes"))
        } else {
            u32::from_le_bytes(bytes[40..44].try_into().expect("four bytes")).into()
        }
    }

    /// Stores what `_gmtime_js` stores: the first eight fields.
    pub fn store_gmtime(&self, out: &mut [u8]) {
        let fields = [self.sec, self.min, self.hour, self.mday, self.mon, self.year, self.wday, self.yday];
        for (at, field) in fields.into_iter().enumerate() {
            out[at * 4..at * 4 + 4].copy_from_slice(&field.to_le_bytes());
        }
    }

    /// Stores what `_localtime_js` stores: all fields but the zone's name.
    pub fn store_localtime(&self, out: &mut [u8], wide: bool) {
        self.store_gmtime(out);
        out[32..36].copy_from_slice(&self.isdst.to_le_bytes());
        if wide {
            out[40..48].copy_from_slice(&self.gmtoff.to_le_bytes());
        } else {
            out[36..40].copy_from_slice(&(self.gmtoff as i32).to_le_bytes());
        }
    }
}

/// `_gmtime_js`: the date `seconds` after 1970. Only the first eight fields count. What is out of range has all fields
/// 0.
pub fn gmtime(seconds: i64) -> Tm {
    let date = in_seconds(seconds);
    let mut tm = fields(date);
    // Counted from a January that the loader finds by year number: for years 0 to 99 that is one in the 20th century.
    tm.yday = days_since_new_year(date);
    tm
}

/// `_localtime_js`: the date `seconds` after 1970, in UTC. The fields are those of [`Tm::store_localtime`].
///
/// # Errors
/// In the 64-bit format, if `seconds` is out of a date's range.
pub fn localtime(glue: Glue, seconds: i64) -> Result<Tm, Abort> {
    let date = in_seconds(seconds);
    if glue == Glue::Wasm64 && date.is_none() {
        return Err(Abort("localtime of something that is no date".to_owned()));
    }
    let mut tm = fields(date);
    tm.yday = day_of_year(glue, date);
    Ok(tm)
}

/// `_mktime_js`: the seconds since 1970 that `tm` stands for, fields out of range carried over, and `tm` with the
/// fields as the loader stores them; hand the result to [`Tm::store_localtime`], `gmtoff` is unchanged.
///
/// What is out of a date's range gives -1 and fields of 0; in the second format, 0. That format also keeps the year
/// field as it was, and the seconds wrap at 32 bits.
pub fn mktime(glue: Glue, tm: &Tm) -> (Tm, i64) {
    let date = Date::from_fields(
        i64::from(tm.year) + 1900,
        tm.mon.into(),
        tm.mday.into(),
        [tm.hour.into(), tm.min.into(), tm.sec.into()],
    )
    // Told that it is summer, the loader compares with the zone's offset in January, which the first year lacks.
    .filter(|date| tm.isdst <= 0 || Date::from_fields(date.year().into(), 0, 1, [0; 3]).is_some());
    let mut out = fields(date);
    out.yday = day_of_year(glue, date);
    // There is no summer time in UTC.
    out.isdst = if tm.isdst < 0 { 0 } else { tm.isdst };
    out.gmtoff = tm.gmtoff;
    let old = glue == Glue::Emscripten2;
    if old {
        out.year = tm.year;
    }
    let seconds = match date {
        Some(date) if old => i64::from((date.ms() / 1000) as i32),
        Some(date) => date.ms() / 1000,
        None if old => 0,
        None => -1,
    };
    (out, seconds)
}

/// What `_tzset_js` stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Seconds west of UTC.
    pub timezone: i32,
    /// Whether there is summer time.
    pub daylight: i32,
    /// The zone's name, without its terminator. The third and later formats store it, with a NUL, at both name
    /// arguments; the second (and the first) allocate it twice with the guest's `malloc`, 27 bytes each, store the
    /// **second** address in the first name slot and the first in the second, and do all this only once for an
    /// instance.
    pub name: &'static str,
}

/// The zone of a guest: UTC, under the name that each format's loader finds for it.
pub fn zone(glue: Glue) -> Zone {
    let name = match glue {
        Glue::Emscripten2 => "Coordinated Universal Time",
        // Cut to the six bytes that C demands of a zone's name.
        Glue::Emscripten3 => "Coordi",
        Glue::Emscripten4 | Glue::Wasm64 => "UTC",
    };
    Zone { timezone: 0, daylight: 0, name }
}

fn in_seconds(seconds: i64) -> Option<Date> {
    seconds.checked_mul(1000).and_then(Date::from_ms)
}

/// All fields but the day of the year; 0 for no date.
fn fields(date: Option<Date>) -> Tm {
    let Some(date) = date else {
        return Tm::default();
    };
    let (year, month, day) = date.year_month_day();
    let [hour, min, sec] = date.time();
    Tm { sec, min, hour, mday: day, mon: month, year: year - 1900, wday: date.weekday(), ..Tm::default() }
}

fn day_of_year(glue: Glue, date: Option<Date>) -> i32 {
    match (glue, date) {
        (Glue::Emscripten2, date) => days_since_new_year(date),
        (_, Some(date)) => date.day_of_year(),
        (_, None) => 0,
    }
}

/// Days since the January that JavaScript makes of the year number.
fn days_since_new_year(date: Option<Date>) -> i32 {
    let Some(date) = date else { return 0 };
    let (year, ..) = date.year_month_day();
    let new_year = Date::from_fields(year.into(), 0, 1, [0; 3]);
    // The first year of the range has no January; no day of it counts then.
    new_year.map_or(0, |start| ((date.ms() - start.ms()) / date::DAY_MS) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_a_thursday() {
        assert_eq!(gmtime(0), Tm { mday: 1, year: 70, wday: 4, ..Tm::default() });
    }

    #[test]
    fn the_last_second_of_the_range_is_a_date_and_the_next_is_none() {
        assert_eq!(gmtime(8_640_000_000_000).year, 275_760 - 1900);
        assert_eq!(gmtime(8_640_000_000_001), Tm::default());
        assert_eq!(gmtime(i64::MAX), Tm::default());
        assert_eq!(localtime(Glue::Emscripten4, i64::MIN), Ok(Tm::default()));
        assert!(localtime(Glue::Wasm64, i64::MIN).is_err());
    }

    #[test]
    fn fields_out_of_range_carry_over() {
        let tm = Tm { year: 124, mon: 12, mday: 0, hour: -1, isdst: -1, ..Tm::default() };
        let (out, seconds) = mktime(Glue::Wasm64, &tm);
        assert_eq!(seconds, 1_735_599_600);
        assert_eq!((out.year, out.mon, out.mday, out.hour, out.isdst), (124, 11, 30, 23, 0));
        assert_eq!((out.wday, out.yday), (1, 364));
    }

    #[test]
    fn what_is_no_date_is_minus_one_but_zero_in_the_second_format() {
        let tm = Tm { year: i32::MAX, ..Tm::default() };
        assert_eq!(mktime(Glue::Emscripten4, &tm), (Tm::default(), -1));
        assert_eq!(mktime(Glue::Emscripten2, &tm), (Tm { year: i32::MAX, ..Tm::default() }, 0));
    }

    #[test]
    fn a_guests_structure_survives_loading_and_storing() {
        for wide in [false, true] {
            let bytes: Vec<u8> = (0..Tm::bytes(wide) as u8).collect();
            let tm = Tm::load(&bytes, wide);
            let mut out = vec![0; bytes.len()];
            tm.store_localtime(&mut out, wide);
            let zone = if wide { 48 } else { 40 };
            let kept = |at: usize| if wide { !(36..40).contains(&at) } else { true };
            assert!((0..zone).all(|at| out[at] == if kept(at) { bytes[at] } else { 0 }));
            assert_eq!(Tm::load_zone(&bytes, wide) & 0xFF, zone as u64);
        }
    }
}
