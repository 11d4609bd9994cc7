//! Random dates against what the loader's own JavaScript made of them.
//!
//! The records are made by `tests/golden/calendar.mjs` (beside the data; it says how) from `@permaweb/ao-loader`
//! 0.0.49, with node's time zone set to UTC.

use super::*;
use crate::guest::text::JsString;

/// What the recorder puts into fields that a call may leave alone.
const UNTOUCHED: i32 = 9;

fn quote(bytes: &[u8]) -> String {
    let quoted = bytes.iter().map(|byte| match byte {
        b'%' | b'"' | 0..=0x20 | 0x7F.. => format!("%{byte:02x}"),
        _ => char::from(*byte).to_string(),
    });
    format!("\"{}\"", quoted.collect::<String>())
}

fn show(bytes: &[u8], wide: bool) -> String {
    let Tm { sec, min, hour, mday, mon, year, wday, yday, isdst, gmtoff } = Tm::load(bytes, wide);
    format!("{sec} {min} {hour} {mday} {mon} {year} {wday} {yday} {isdst} {gmtoff}")
}

fn tm(words: &[&str]) -> Tm {
    let int = |at: usize| words[at].parse().expect("a number");
    Tm {
        sec: int(0),
        min: int(1),
        hour: int(2),
        mday: int(3),
        mon: int(4),
        year: int(5),
        wday: int(6),
        yday: int(7),
        isdst: int(8),
        gmtoff: 9,
    }
}

/// What a call gives, written as the recorder writes it; nothing if it ends the evaluation.
fn run(glue: Glue, words: &[&str]) -> Option<String> {
    let wide = glue == Glue::Wasm64;
    let untouched = Tm {
        sec: UNTOUCHED,
        min: UNTOUCHED,
        hour: UNTOUCHED,
        mday: UNTOUCHED,
        mon: UNTOUCHED,
        year: UNTOUCHED,
        wday: UNTOUCHED,
        yday: UNTOUCHED,
        isdst: UNTOUCHED,
        gmtoff: UNTOUCHED.into(),
    };
    let mut memory = vec![0; Tm::bytes(wide)];
    untouched.store_localtime(&mut memory, wide);
    match words[0] {
        "tzset" => {
            let Zone { timezone, daylight, name } = zone(glue);
            let name = quote(name.as_bytes());
            // The last two tell in which order the old formats store the names they allocate, and how far apart.
            let apart = if glue == Glue::Emscripten2 { "1 27" } else { "0 0" };
            Some(format!("{timezone} {daylight} {name} {name} {apart}"))
        }
        "gmtime" => {
            gmtime(words[1].parse().expect("a number")).store_gmtime(&mut memory);
            Some(show(&memory, wide))
        }
        "localtime" => {
            localtime(glue, words[1].parse().expect("a number")).ok()?.store_localtime(&mut memory, wide);
            Some(show(&memory, wide))
        }
        "mktime" => {
            let (tm, seconds) = mktime(glue, &tm(&words[1..]));
            tm.store_localtime(&mut memory, wide);
            Some(format!("{seconds} {}", show(&memory, wide)))
        }
        "strftime" => {
            let mut gmtoff = words[10].parse().expect("a number");
            if !wide {
                gmtoff = i64::from(gmtoff as i32);
            }
            let tm = Tm { gmtoff, ..tm(&words[1..]) };
            let room = words[13].parse().expect("a number");
            Some(match strftime(&JsString::unquote(words[12]), &tm, &JsString::unquote(words[11]), room).ok()? {
                None => "0".to_owned(),
                Some(bytes) => {
                    let (end, text) = bytes.split_last().expect("a terminator");
                    format!("{} {} {end}", text.len(), quote(text))
                }
            })
        }
        other => panic!("no function is called {other}"),
    }
}

/// Replays `records`; gives their number.
fn replay(records: &str) -> usize {
    for (at, line) in records.lines().enumerate() {
        let (call, expected) = line.split_once(" = ").expect("a call and what it gave");
        let words: Vec<&str> = call.split_whitespace().collect();
        let glue = match words[0] {
            "v1" | "em2" => Glue::Emscripten2,
            "em3" => Glue::Emscripten3,
            "em4" => Glue::Emscripten4,
            "w64" => Glue::Wasm64,
            other => panic!("no format is called {other}"),
        };
        let given = run(glue, &words[1..]).unwrap_or_else(|| "abort".to_owned());
        assert_eq!(given, expected, "line {}: {line}", at + 1);
    }
    records.lines().count()
}

#[test]
fn dates_are_what_the_loader_made_of_them() {
    assert!(replay(include_str!("../../../tests/golden/calendar.txt")) > 1_000);
}

/// Replays records made for this run, in quantity: `LOCKSTEP_GOLDEN_CALENDAR=PATH`.
#[test]
#[ignore = "needs records made with calendar.mjs"]
fn dates_from_elsewhere_are_what_the_loader_made_of_them() {
    let Ok(file) = std::env::var("LOCKSTEP_GOLDEN_CALENDAR") else {
        return;
    };
    println!("{} calls", replay(&std::fs::read_to_string(file).expect("the records")));
}
