//! `strftime` in the C locale, as the loader does it: by replacing text in the pattern, one conversion after another.
//!
//! Since each replacement works on what the ones before it left, patterns can collide (`%%c` loses its meaning of a
//! literal `%c`, for one). Guests can see that, so it is kept.

use super::{
    Tm,
    date::{Date, is_leap},
};
use crate::guest::{
    files::Abort,
    text::{JsString, MAX_UNITS},
};

/// Conversions that stand for others, in the loader's order.
const SHORTHANDS: [(&str, &str); 28] = [
    ("%c", "%a %b %d %H:%M:%S %Y"),
    ("%D", "%m/%d/%y"),
    ("%F", "%Y-%m-%d"),
    ("%h", "%b"),
    ("%r", "%I:%M:%S %p"),
    ("%R", "%H:%M"),
    ("%T", "%H:%M:%S"),
    ("%x", "%m/%d/%y"),
    ("%X", "%H:%M:%S"),
    ("%Ec", "%c"),
    ("%EC", "%C"),
    ("%Ex", "%m/%d/%y"),
    ("%EX", "%H:%M:%S"),
    ("%Ey", "%y"),
    ("%EY", "%Y"),
    ("%Od", "%d"),
    ("%Oe", "%e"),
    ("%OH", "%H"),
    ("%OI", "%I"),
    ("%Om", "%m"),
    ("%OM", "%M"),
    ("%OS", "%S"),
    ("%Ou", "%u"),
    ("%OU", "%U"),
    ("%OV", "%V"),
    ("%Ow", "%w"),
    ("%OW", "%W"),
    ("%Oy", "%y"),
];

/// Conversions that stand for a part of the date, in the loader's order.
const CONVERSIONS: &str = "aAbBCdegGHIjmMnpStuUVwWyYzZ%";

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// What the loader puts for a name that its tables lack.
const NO_NAME: &str = "undefined";

/// Longest text at any step, in 16-bit units: a guest's zone can hold marks that multiply the pattern.
const MAX_TEXT_UNITS: usize = 1 << 20;

/// The formatted date with its terminating NUL, ready to be stored; nothing if it is longer than `room` bytes (the
/// call then gives 0 and stores nothing; otherwise it gives the length without the NUL). `zone` is the text that the
/// zone's name leads to, empty for a null pointer.
///
/// # Errors
/// If a conversion needs a name or a week that the fields have none for, or if the pattern or the zone is longer than
/// [`MAX_UNITS`] or grows into more than a mebi-unit of text (the loader has no such bounds).
pub fn strftime(pattern: &JsString, tm: &Tm, zone: &JsString, room: u64) -> Result<Option<Vec<u8>>, Abort> {
    if pattern.len().max(zone.len()) > MAX_UNITS {
        return Err(too_long());
    }
    let mut text = pattern.units().to_vec();
    for (shorthand, meaning) in SHORTHANDS {
        text = replace(&text, &units(shorthand), |_| units(meaning))?;
    }
    let (percent, twice, mark) = (units("%"), units("%%"), vec![0, 0]);
    text = replace(&text, &twice, |_| mark.clone())?;
    for letter in CONVERSIONS.chars() {
        let conversion = units(&format!("%{letter}"));
        if !contains(&text, &conversion) {
            continue;
        }
        let part = if letter == 'Z' { zone.units().to_vec() } else { units(&convert(letter, tm)?) };
        let source = text.clone();
        text = replace(&text, &conversion, |at| expand(&part, &source, at, conversion.len()))?;
    }
    text = replace(&text, &mark, |_| percent.clone())?;
    let mut bytes = JsString::from(text).encode();
    bytes.push(0);
    Ok((bytes.len() as u64 <= room).then_some(bytes))
}

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn contains(text: &[u16], what: &[u16]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

/// Replaces every `what`, left to right; `with` gets the place.
fn replace(text: &[u16], what: &[u16], with: impl Fn(usize) -> Vec<u16>) -> Result<Vec<u16>, Abort> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(what) {
            out.extend(with(at));
            at += what.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
        if out.len() > MAX_TEXT_UNITS {
            return Err(too_long());
        }
    }
    Ok(out)
}

fn too_long() -> Abort {
    Abort("strftime: the pattern, the zone or what they make is too long".to_owned())
}

/// A replacement text as JavaScript reads it: `$$` is a dollar, `$&` what is replaced, `` $` `` and `$'` what lies
/// before and after it. Only a zone's name, which is the guest's, can have a dollar.
fn expand(part: &[u16], source: &[u16], at: usize, length: usize) -> Vec<u16> {
    const DOLLAR: u16 = b'$' as u16;
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [unit, tail @ ..] = rest {
        if out.len() > MAX_TEXT_UNITS {
            // Too long already, as the caller will find.
            break;
        }
        let special = tail.first().filter(|_| *unit == DOLLAR).and_then(|next| u8::try_from(*next).ok());
        let replaced: &[u16] = match special {
            Some(b'$') => &[DOLLAR],
            Some(b'&') => &source[at..at + length],
            Some(b'`') => &source[..at],
            Some(b'\'') => &source[at + length..],
            _ => {
                out.push(*unit);
                rest = tail;
                continue;
            }
        };
        out.extend_from_slice(replaced);
        rest = &tail[1..];
    }
    out
}

fn convert(letter: char, tm: &Tm) -> Result<String, Abort> {
    let year = i64::from(tm.year) + 1900;
    let (wday, yday) = (i64::from(tm.wday), i64::from(tm.yday));
    Ok(match letter {
        'a' => short(&WEEKDAYS, tm.wday)?,
        'A' => name(&WEEKDAYS, tm.wday).unwrap_or(NO_NAME).to_owned(),
        'b' => short(&MONTHS, tm.mon)?,
        'B' => name(&MONTHS, tm.mon).unwrap_or(NO_NAME).to_owned(),
        'C' => padded(year / 100, 2),
        'd' => padded(tm.mday.into(), 2),
        'e' => pad(tm.mday.to_string(), 2, ' '),
        'g' => without_century(week_based_year(tm)?),
        'G' => week_based_year(tm)?.to_string(),
        'H' => padded(tm.hour.into(), 2),
        'I' => padded(
            match tm.hour {
                0 => 12,
                hour if hour > 12 => i64::from(hour) - 12,
                hour => hour.into(),
            },
            2,
        ),
        'j' => match days_before(year, tm.mon) {
            Some(days) => padded(i64::from(tm.mday) + days, 3),
            None => "NaN".to_owned(),
        },
        'm' => padded(i64::from(tm.mon) + 1, 2),
        'M' => padded(tm.min.into(), 2),
        'n' => "\n".to_owned(),
        'p' => if (0..12).contains(&tm.hour) { "AM" } else { "PM" }.to_owned(),
        'S' => padded(tm.sec.into(), 2),
        't' => "\t".to_owned(),
        'u' => if wday == 0 { 7 } else { wday }.to_string(),
        'U' => padded((yday + 7 - wday).div_euclid(7), 2),
        'V' => padded(iso_week(tm.year.into(), wday, yday), 2),
        'w' => wday.to_string(),
        'W' => padded((yday + 7 - (wday + 6) % 7).div_euclid(7), 2),
        'y' => without_century(year),
        'Y' => year.to_string(),
        'z' => offset(tm.gmtoff),
        _ => "%".to_owned(),
    })
}

fn name(names: &[&'static str], at: i32) -> Option<&'static str> {
    names.get(usize::try_from(at).ok()?).copied()
}

fn short(names: &[&'static str], at: i32) -> Result<String, Abort> {
    let name = name(names, at).ok_or_else(|| Abort(format!("strftime: no weekday or month has number {at}")))?;
    Ok(name[..3].to_owned())
}

fn pad(text: String, digits: usize, with: char) -> String {
    let missing = digits.saturating_sub(text.len());
    std::iter::repeat_n(with, missing).chain(text.chars()).collect()
}

fn padded(number: i64, digits: usize) -> String {
    pad(number.to_string(), digits, '0')
}

/// The year without its first two characters, whatever they are.
fn without_century(year: i64) -> String {
    year.to_string().get(2..).unwrap_or_default().to_owned()
}

/// Days of the year before month `mon`; none for months after December.
fn days_before(year: i64, mon: i32) -> Option<i64> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let count = usize::try_from(mon).unwrap_or(0);
    let days: i64 = LENGTHS.get(..count)?.iter().sum();
    Some(days + i64::from(count > 1 && is_leap(year)))
}

/// The number of the ISO week; leap years are judged by the year field itself, counted from 1900.
fn iso_week(year: i64, wday: i64, yday: i64) -> i64 {
    let mut week = (yday + 7 - (wday + 6) % 7).div_euclid(7);
    if (wday + 371 - yday - 2) % 7 <= 2 {
        week += 1;
    }
    if week == 0 {
        week = 52;
        let last_day = (wday + 7 - yday - 1) % 7;
        if last_day == 4 || last_day == 5 && is_leap(year % 400 - 1) {
            week += 1;
        }
    } else if week == 53 {
        let first_day = (wday + 371 - yday) % 7;
        if first_day != 4 && (first_day != 3 || !is_leap(year)) {
            week = 1;
        }
    }
    week
}

/// The year that the ISO week belongs to. Days of the year below 1 count as the first of January.
fn week_based_year(tm: &Tm) -> Result<i64, Abort> {
    let no_date = || Abort("strftime: the week of something that is no date".to_owned());
    let new_year = Date::from_fields(i64::from(tm.year) + 1900, 0, 1, [0; 3]).ok_or_else(no_date)?;
    let day = new_year.plus_days(tm.yday.max(0).into()).ok_or_else(no_date)?;
    let year = i64::from(day.year());
    let day = calendar_day(day);
    let this = first_week(year).ok_or_else(no_date)?;
    let next = first_week(year + 1).ok_or_else(no_date)?;
    Ok(match (this <= day, next <= day) {
        (true, true) => year + 1,
        (true, false) => year,
        (false, _) => year - 1,
    })
}

/// Year, month, day: JavaScript dates here are compared by these alone.
fn calendar_day(date: Date) -> (i32, i32, i32) {
    date.year_month_day()
}

/// The Monday of the week with January 4th; nothing if either is out of a date's range. Years 0 to 99 get the Monday
/// of a year in the 20th century.
fn first_week(year: i64) -> Option<(i32, i32, i32)> {
    let fourth = Date::from_fields(year, 0, 4, [0; 3])?;
    let after_monday = (fourth.weekday() + 6) % 7;
    fourth.plus_days(-i64::from(after_monday)).map(calendar_day)
}

/// Hours and minutes east of UTC, as the last four characters of what the loader computes in doubles.
fn offset(gmtoff: i64) -> String {
    let sign = if gmtoff >= 0 { '+' } else { '-' };
    let minutes = (gmtoff as f64).abs() / 60.0;
    let number = minutes / 60.0 * 100.0 + minutes % 60.0;
    let text = format!("0000{}", ryu_js::Buffer::new().format(number));
    format!("{sign}{}", &text[text.len() - 4..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn format(pattern: &str, tm: &Tm) -> String {
        let bytes = strftime(&pattern.into(), tm, &"UTC".into(), 1000).expect("formats").expect("fits");
        String::from_utf8(bytes[..bytes.len() - 1].to_vec()).expect("UTF-8")
    }

    const TM: Tm =
        Tm { sec: 20, min: 13, hour: 22, mday: 14, mon: 10, year: 123, wday: 2, yday: 317, isdst: 0, gmtoff: 0 };

    #[test]
    fn a_date_is_formatted_as_in_the_c_locale() {
        assert_eq!(format("%c|%x|%X|%p|%Z|%z", &TM), "Tue Nov 14 22:13:20 2023|11/14/23|22:13:20|PM|UTC|+0000");
        assert_eq!(format("%G-W%V-%u %j %U %W", &TM), "2023-W46-2 318 46 46");
    }

    #[test]
    fn a_doubled_percent_does_not_protect_a_shorthand() {
        assert_eq!(format("%%d %%c", &TM), "%d %a Nov 14 22:13:20 2023");
    }

    #[test]
    fn what_does_not_fit_gives_nothing() {
        let format = |room| strftime(&"%Y".into(), &TM, &"".into(), room).expect("formats");
        assert_eq!(format(4), None);
        assert_eq!(format(5), Some(b"2023\0".to_vec()));
    }

    #[test]
    fn a_dollar_in_the_zone_is_read_as_javascript_does() {
        let format = |zone: &str| {
            let bytes = strftime(&"<%Z>".into(), &TM, &zone.into(), 100).expect("formats").expect("fits");
            String::from_utf8(bytes[..bytes.len() - 1].to_vec()).expect("UTF-8")
        };
        assert_eq!(format("a$$b"), "<a$b>");
        assert_eq!(format("$&"), "<%Z>");
        assert_eq!(format("$`$'$1$"), "<<>$1$>");
    }

    #[test]
    fn a_zone_that_multiplies_the_pattern_is_refused() {
        let (pattern, zone) = ("%Z".repeat(5_000), "$`".repeat(5_000));
        assert!(strftime(&pattern.as_str().into(), &TM, &zone.as_str().into(), 100).is_err());
    }

    #[test]
    fn a_weekday_that_does_not_exist_ends_the_evaluation_only_where_it_is_shortened() {
        let tm = Tm { wday: 7, ..TM };
        assert!(strftime(&"%a".into(), &tm, &"".into(), 100).is_err());
        assert_eq!(format("%A", &tm), "undefined");
    }

    proptest! {
        #[test]
        fn any_pattern_and_any_fields_can_be_formatted(
            pattern in "[%a-zA-Z$ ]{0,20}",
            ints in any::<[i32; 9]>(),
            gmtoff in any::<i64>(),
        ) {
            let [sec, min, hour, mday, mon, year, wday, yday, isdst] = ints;
            let tm = Tm { sec, min, hour, mday, mon, year, wday, yday, isdst, gmtoff };
            let _ = strftime(&pattern.as_str().into(), &tm, &"$`%Z".into(), 100);
        }
    }
}
