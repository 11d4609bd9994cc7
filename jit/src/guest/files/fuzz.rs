//! No sequence of calls, however odd, makes the host panic or outgrow its bounds.

use proptest::prelude::*;

use super::*;
use crate::guest::clock::Clock;

#[derive(Clone, Debug)]
struct Call {
    what: u8,
    fd: i32,
    other_fd: i32,
    path: String,
    other_path: String,
    numbers: [i64; 3],
}

fn any_fd() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..8i32, 1 => any::<i32>(), 1 => Just(AT_FDCWD)]
}

fn any_path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => "[abc]", 2 => "tmp", 1 => "dev", 1 => "proc", 1 => "self", 1 => "fd", 1 => "stdin", 1 => "tty1",
        1 => "null", 1 => "urandom", 1 => "[0-9]", 1 => "\\.{1,3}", 1 => ".{0,4}",
    ];
    (any::<bool>(), prop::collection::vec(name, 0..5))
        .prop_map(|(absolute, names)| format!("{}{}", if absolute { "/" } else { "" }, names.join("/")))
}

fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 0..70i64, 2 => Just(0o102), 2 => Just(0o1101), 1 => Just(0o777), 1 => any::<i64>(),
        1 => Just(1 << 53), 1 => any::<i32>().prop_map(i64::from), 1 => Just(0x5413),
    ]
}

fn any_call() -> impl Strategy<Value = Call> {
    (0..26u8, any_fd(), any_fd(), any_path(), any_path(), [any_number(), any_number(), any_number()]).prop_map(
        |(what, fd, other_fd, path, other_path, numbers)| Call { what, fd, other_fd, path, other_path, numbers },
    )
}

fn run(files: &mut Files, glue: Glue, call: &Call, clock: &mut Clock) -> FilesResult<()> {
    let Call { what, fd, other_fd, path, other_path, numbers } = call;
    let (fd, other_fd) = (*fd, *other_fd);
    let (path, other_path) = (JsString::from(path.as_str()), JsString::from(other_path.as_str()));
    let ints = numbers.map(|number| number as i32);
    let mut buffer = vec![7; numbers[0].unsigned_abs().min(5_000) as usize];
    match what {
        0..=3 => drop(files.openat(fd, &path, ints[0], ints[1], clock)?),
        4 => files.close(fd)?,
        5 => drop(files.read(fd, &mut buffer, clock)?),
        6 | 7 => drop(files.write(fd, &buffer, clock)?),
        8 => drop(files.seek(fd, numbers[0], ints[1] % 4)?),
        9 => drop(files.fdstat(fd)?),
        10 => files.stat(&path)?.store(glue, &mut vec![0; Stat::bytes(glue)])?,
        11 => drop(files.lstat(&path)?),
        12 => drop(files.fstat(fd)?),
        13 => drop(files.newfstatat(fd, &path, ints[0])?),
        14 => files.mkdirat(fd, &path, ints[0], clock)?,
        15 => files.rmdir(&path, clock)?,
        16 => files.unlinkat(fd, &path, ints[0] & 0x200, clock)?,
        17 | 18 => files.renameat(fd, &path, other_fd, &other_path, clock)?,
        19 => drop(files.readlinkat(fd, &path, numbers[0])?),
        20 => files.chmod(&path, ints[0], clock)?,
        21 => drop(files.ftruncate(fd, numbers[0], clock)?),
        22 => {
            let times = (ints[0] % 2 == 0).then_some((numbers[1] as f64 / 7.0, f64::from_bits(numbers[2] as u64)));
            files.utimensat(fd, &path, times, 0, clock)?;
        }
        23 => drop(files.dup3(fd, other_fd, 0)?),
        24 => drop(files.fcntl(fd, ints[0] % 16, ints[1])?),
        _ => {
            files.ioctl(fd, ints[0])?;
            files.faccessat(fd, &path, ints[1], 0)?;
            files.munmap(fd, ints[0], ints[1], numbers[2], &buffer, clock)?;
            files.mmap(fd, numbers[0] as u64, numbers[1], ints[1], ints[2])?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_sequence_of_calls_panics_or_outgrows_its_bounds(
        glue in prop::sample::select(&[Glue::Emscripten2, Glue::Emscripten3, Glue::Emscripten4, Glue::Wasm64][..]),
        calls in prop::collection::vec(any_call(), 0..80),
    ) {
        let mut clock = Clock::new();
        let mut files = Files::boot(glue, "message", &mut clock);
        for call in &calls {
            let before = clock.next_ms;
            let _ = run(&mut files, glue, call, &mut clock);
            prop_assert!(clock.next_ms - before <= 1, "{call:?} read the clock {} times", clock.next_ms - before);
            prop_assert!(files.file_bytes() <= MAX_FILE_BYTES);
        }
    }
}
