//! Random call sequences against what the loader's own JavaScript gave for them.
//!
//! The records are made by `tests/golden/files.mjs` (beside the data; it says how) from `@permaweb/ao-loader` 0.0.49.

use super::{Errno, Fcntl, Files, FilesError, FilesResult, Glue, Ioctl, Stat, TERMIOS_CHARACTERS, TERMIOS_FLAGS};
use crate::guest::{clock::Clock, text::JsString};

/// What guest memory holds before a call stores anything.
const UNTOUCHED: u8 = 0xAA;
/// What the recorded devices give as random bytes.
const RECORDED_RANDOM: u8 = 0x52;

struct Outcome {
    value: Option<i64>,
    ticks: u64,
    stored: String,
}

/// Bytes stored in guest memory by a call, at offsets from where it was told to store them.
#[derive(Default)]
struct Stored(Vec<u8>);

impl Stored {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), UNTOUCHED);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn hex(&self) -> String {
        let end = self.0.iter().rposition(|byte| *byte != UNTOUCHED).map_or(0, |at| at + 1);
        self.0[..end].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How a system call reports an error.
fn negated(result: FilesResult<i64>) -> Option<i64> {
    match result {
        Ok(value) => Some(value),
        Err(FilesError::Errno(Errno(number))) => Some(-i64::from(number)),
        Err(FilesError::Abort(_)) => None,
    }
}

/// How an `fd_` function reports an error.
fn plain(result: FilesResult<()>) -> Option<i64> {
    negated(result.map(|()| 0)).map(i64::abs)
}

fn run(files: &mut Files, glue: Glue, words: &[&str], clock: &mut Clock) -> Outcome {
    let before = clock.next_ms;
    let number = |at: usize| words[at].parse::<i64>().expect("a number");
    let int = |at: usize| number(at) as i32;
    let mut out = Stored::default();
    let mut plain_text = None;
    let stat = |result: FilesResult<Stat>, out: &mut Stored| {
        negated(result.and_then(|stat| {
            let mut bytes = vec![UNTOUCHED; Stat::bytes(glue)];
            stat.store(glue, &mut bytes)?;
            out.put(0, &bytes);
            Ok(0)
        }))
    };
    let done = |result: FilesResult<()>| negated(result.map(|()| 0));
    let value = match words[0] {
        "openat" => negated(files.openat(int(1), &JsString::unquote(words[2]), int(3), int(4), clock).map(i64::from)),
        "close" => plain(files.close(int(1))),
        "read" => {
            let mut buffer = vec![UNTOUCHED; int(2) as usize];
            let result = files.read(int(1), &mut buffer, clock);
            if let Ok(count) = result {
                out.put(0, &buffer[..count]);
                plain_text = Some(format!("{count} {}", out.hex()).trim_end().to_owned());
            }
            plain(result.map(|_| ()))
        }
        "write" => {
            let length = int(2) as usize;
            let data: Vec<u8> = (0..length).map(|i| b'A' + ((i + length) % 26) as u8).collect();
            plain(files.write(int(1), &data, clock).map(|count| assert_eq!(count, length)))
        }
        "seek" => plain(files.seek(int(1), number(2), int(3)).map(|at| out.put(0, &at.to_le_bytes()))),
        "fdstat" => plain(files.fdstat(int(1)).map(|file_type| {
            out.put(0, &[file_type]);
            if glue != Glue::Emscripten2 {
                out.put(2, &[0; 2]);
                out.put(8, &[0; 16]);
            }
        })),
        "stat" => stat(files.stat(&JsString::unquote(words[1])), &mut out),
        "lstat" => stat(files.lstat(&JsString::unquote(words[1])), &mut out),
        "fstat" => stat(files.fstat(int(1)), &mut out),
        "newfstatat" => stat(files.newfstatat(int(1), &JsString::unquote(words[2]), int(3)), &mut out),
        "mkdirat" => done(files.mkdirat(int(1), &JsString::unquote(words[2]), int(3), clock)),
        "rmdir" => done(files.rmdir(&JsString::unquote(words[1]), clock)),
        "unlinkat" => done(files.unlinkat(int(1), &JsString::unquote(words[2]), int(3), clock)),
        "renameat" => {
            done(files.renameat(int(1), &JsString::unquote(words[2]), int(3), &JsString::unquote(words[4]), clock))
        }
        "readlinkat" => negated(files.readlinkat(int(1), &JsString::unquote(words[2]), number(3)).map(|link| {
            out.put(0, &link.bytes);
            i64::from(link.length)
        })),
        "faccessat" => done(files.faccessat(int(1), &JsString::unquote(words[2]), int(3), int(4))),
        "chmod" => done(files.chmod(&JsString::unquote(words[1]), int(2), clock)),
        "fchmod" => done(files.fchmod(int(1), int(2), clock)),
        "fchown" => done(files.fchown(int(1), clock)),
        "ftruncate" => negated(files.ftruncate(int(1), number(2), clock).map(i64::from)),
        "utimensat" => {
            let times = (words[3] != "now").then(|| {
                let ms = |seconds: i64, nanoseconds: i64| seconds as f64 * 1e3 + nanoseconds as f64 / 1e6;
                (ms(number(3), number(4)), ms(5, 7))
            });
            done(files.utimensat(int(1), &JsString::unquote(words[2]), times, int(5), clock))
        }
        "dup3" => negated(files.dup3(int(1), int(2), int(3)).map(i64::from)),
        "fcntl" => negated(files.fcntl(int(1), int(2), int(3)).map(|answer| match answer {
            Fcntl::Value(value) => value.into(),
            Fcntl::Unlocked => {
                out.put(0, &[2, 0]);
                0
            }
            Fcntl::MinusOne => -1,
        })),
        "getcwd" => negated(files.getcwd(number(1) as u64).map(|cwd| {
            out.put(0, cwd);
            cwd.len() as i64
        })),
        "ioctl" => negated(files.ioctl(int(1), int(2)).map(|answer| {
            match answer {
                Ioctl::Nothing => {}
                Ioctl::Termios => {
                    for (at, flags) in TERMIOS_FLAGS.iter().enumerate() {
                        out.put(at * 4, &flags.to_le_bytes());
                    }
                    out.put(17, &TERMIOS_CHARACTERS);
                }
                Ioctl::ProcessGroup => out.put(0, &[0; 4]),
                Ioctl::WindowSize => out.put(0, &[24, 0, 80, 0]),
            }
            0
        })),
        "sync" => plain(files.sync(int(1))),
        other => panic!("no operation is called {other}"),
    };
    Outcome { value, ticks: clock.next_ms - before, stored: plain_text.unwrap_or_else(|| out.hex()) }
}

fn is_recorded_random(stored: &str) -> bool {
    let Some((_, hex)) = stored.split_once(' ') else {
        return false;
    };
    hex.as_bytes().chunks(2).all(|pair| pair == format!("{RECORDED_RANDOM:02x}").as_bytes())
}

/// Replays `records`; gives the number of calls.
fn replay(glue: Glue, records: &str) -> usize {
    let mut calls = 0;
    let mut state = None;
    let mut sequence = 0;
    for (at, line) in records.lines().enumerate() {
        let (call, expected) = line.split_once(" = ").expect("a call and what it gave");
        let words: Vec<&str> = call.split_whitespace().collect();
        if words == ["boot"] {
            sequence += 1;
            let mut clock = Clock::new();
            let files = Files::boot(glue, "message", &mut clock);
            assert_eq!((clock.next_ms - 10_000).to_string(), expected, "readings at the start");
            clock.tick();
            state = Some((files, clock));
            continue;
        }
        let (files, clock) = state.as_mut().expect("a sequence starts with boot");
        // The recorder reads the clock before and after each call.
        clock.tick();
        let outcome = run(files, glue, &words, clock);
        clock.tick();
        // Where the loader runs out of room for an array, we say that there is no space.
        let value = outcome.value.filter(|value| value.abs() != i64::from(Errno::ENOSPC.0));
        let Some(value) = value else {
            assert!(expected.starts_with("abort"), "line {}: {line}: aborted", at + 1);
            continue;
        };
        let mut given = format!("{value} {} {}", outcome.ticks, outcome.stored);
        if words[0] == "read" && expected.splitn(3, ' ').nth(2).is_some_and(is_recorded_random) {
            let count = |text: &str| text.split(' ').nth(2).map(str::to_owned);
            assert_eq!(count(&given), count(expected), "line {}: {line}", at + 1);
            given = expected.to_owned();
        }
        assert_eq!(given.trim_end(), expected, "line {} (sequence {sequence}): {line}", at + 1);
        calls += 1;
    }
    calls
}

#[test]
fn the_second_format_does_as_the_loader_did() {
    assert!(replay(Glue::Emscripten2, include_str!("../../../tests/golden/files-em2.txt")) > 1_000);
}

#[test]
fn the_third_format_does_as_the_loader_did() {
    assert!(replay(Glue::Emscripten3, include_str!("../../../tests/golden/files-em3.txt")) > 1_000);
}

#[test]
fn the_fourth_format_does_as_the_loader_did() {
    assert!(replay(Glue::Emscripten4, include_str!("../../../tests/golden/files-em4.txt")) > 1_000);
}

#[test]
fn the_64_bit_format_does_as_the_loader_did() {
    assert!(replay(Glue::Wasm64, include_str!("../../../tests/golden/files-w64.txt")) > 1_000);
}

/// Replays records made for this run, in quantity: `LOCKSTEP_GOLDEN_FILES=em4:PATH`.
#[test]
#[ignore = "needs records made with files.mjs"]
fn records_from_elsewhere_do_as_the_loader_did() {
    let Ok(which) = std::env::var("LOCKSTEP_GOLDEN_FILES") else {
        return;
    };
    let (format, file) = which.split_once(':').expect("FORMAT:PATH");
    let glue = match format {
        "em2" => Glue::Emscripten2,
        "em3" => Glue::Emscripten3,
        "em4" => Glue::Emscripten4,
        "w64" => Glue::Wasm64,
        other => panic!("no format is called {other}"),
    };
    println!("{} calls", replay(glue, &std::fs::read_to_string(file).expect("the records")));
}
