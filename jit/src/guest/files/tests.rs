//! Facts about files that are worth naming; `golden.rs` has the rest.

use super::*;
use crate::guest::clock::Clock;

fn boot(glue: Glue) -> (Files, Clock) {
    let mut clock = Clock::new();
    let files = Files::boot(glue, "message", &mut clock);
    (files, clock)
}

fn errno<T: std::fmt::Debug>(result: FilesResult<T>) -> Errno {
    match result {
        Err(FilesError::Errno(errno)) => errno,
        other => panic!("expected an error number, found {other:?}"),
    }
}

const CREATE: i32 = 0o1101;
const READ: i32 = 0;

fn open(files: &mut Files, clock: &mut Clock, path: &str, flags: i32) -> i32 {
    files.openat(AT_FDCWD, &path.into(), flags, 0o666, clock).expect("opens")
}

#[test]
fn starting_reads_the_clock_once_for_each_standard_stream_and_for_data() {
    for glue in [Glue::Emscripten2, Glue::Emscripten3, Glue::Emscripten4, Glue::Wasm64] {
        assert_eq!(boot(glue).1.next_ms, 10_000 + Files::boot_readings(glue));
    }
    assert_eq!(boot(Glue::Emscripten2).1.next_ms, 10_003);
    assert_eq!(boot(Glue::Emscripten3).1.next_ms, 10_003);
    assert_eq!(boot(Glue::Emscripten4).1.next_ms, 10_004);
    assert_eq!(boot(Glue::Wasm64).1.next_ms, 10_004);
}

#[test]
fn only_the_newer_formats_have_a_data_directory() {
    for (glue, has) in
        [(Glue::Emscripten2, false), (Glue::Emscripten3, false), (Glue::Emscripten4, true), (Glue::Wasm64, true)]
    {
        assert_eq!(boot(glue).0.stat(&"/data".into()).is_ok(), has, "{glue:?}");
    }
}

#[test]
fn what_is_written_can_be_read_back() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    let fd = open(&mut files, &mut clock, "/tmp/t", CREATE);
    assert_eq!(fd, 3);
    assert_eq!(files.write(fd, b"abc", &mut clock), Ok(3));
    files.close(fd).expect("closes");
    let fd = open(&mut files, &mut clock, "/tmp/t", READ);
    let mut buffer = [0; 8];
    assert_eq!(files.read(fd, &mut buffer, &mut clock), Ok(3));
    assert_eq!(&buffer[..3], b"abc");
    assert_eq!(files.read(fd, &mut buffer, &mut clock), Ok(0));
}

#[test]
fn creating_and_each_piece_written_read_the_clock_once_and_reading_never() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    let start = clock.next_ms;
    let fd = open(&mut files, &mut clock, "/tmp/t", 0o102);
    files.write(fd, b"abc", &mut clock).expect("writes");
    files.write(fd, b"", &mut clock).expect("writes nothing");
    files.write(fd, b"def", &mut clock).expect("writes");
    files.seek(fd, 0, 0).expect("seeks");
    files.read(fd, &mut [0; 8], &mut clock).expect("reads");
    files.close(fd).expect("closes");
    assert_eq!(clock.next_ms - start, 3);
}

#[test]
fn a_file_that_was_renamed_over_comes_back_when_the_new_one_goes() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    for (name, text) in [("/tmp/old", b"old"), ("/tmp/new", b"new")] {
        let fd = open(&mut files, &mut clock, name, CREATE);
        files.write(fd, text, &mut clock).expect("writes");
        files.close(fd).expect("closes");
    }
    let (old, new) = (JsString::from("/tmp/old"), JsString::from("/tmp/new"));
    files.renameat(AT_FDCWD, &new, AT_FDCWD, &old, &mut clock).expect("moves");
    files.unlinkat(AT_FDCWD, &old, 0, &mut clock).expect("removes");
    let fd = open(&mut files, &mut clock, "/tmp/old", READ);
    let mut buffer = [0; 3];
    files.read(fd, &mut buffer, &mut clock).expect("reads");
    assert_eq!(&buffer, b"old");
}

#[test]
fn the_random_devices_depend_on_the_message_alone() {
    let read = |seed: &str, device: &str| {
        let mut clock = Clock::new();
        let mut files = Files::boot(Glue::Wasm64, seed, &mut clock);
        let fd = open(&mut files, &mut clock, device, READ);
        let mut bytes = [0; 32];
        files.read(fd, &mut bytes, &mut clock).expect("reads");
        bytes
    };
    assert_eq!(read("m", "/dev/random"), read("m", "/dev/urandom"));
    assert_ne!(read("m", "/dev/random"), read("n", "/dev/random"));
}

#[test]
fn standard_input_is_at_its_end_or_unreadable() {
    let read = |glue, stdin| {
        let (files, mut clock) = boot(glue);
        files.with_stdin(stdin).read(0, &mut [0; 4], &mut clock)
    };
    assert_eq!(read(Glue::Wasm64, Stdin::AtEnd), Ok(0));
    assert_eq!(errno(read(Glue::Wasm64, Stdin::Unreadable)), Errno::EIO);
    assert_eq!(errno(read(Glue::Emscripten2, Stdin::AtEnd)), Errno::EIO);
}

#[test]
fn files_together_hold_no_more_than_the_bound() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    let first = open(&mut files, &mut clock, "/tmp/a", CREATE);
    let second = open(&mut files, &mut clock, "/tmp/b", CREATE);
    assert_eq!(files.ftruncate(first, MAX_FILE_BYTES as i64 - 1, &mut clock), Ok(0));
    assert_eq!(files.write(second, b"x", &mut clock), Ok(1));
    assert_eq!(errno(files.write(second, b"x", &mut clock)), Errno::ENOSPC);
    assert_eq!(errno(files.ftruncate(second, 2, &mut clock)), Errno::ENOSPC);
    assert_eq!(files.file_bytes(), MAX_FILE_BYTES);
    // Room comes back only when the last way to the bytes is gone.
    files.unlinkat(AT_FDCWD, &"/tmp/a".into(), 0, &mut clock).expect("removes");
    assert_eq!(errno(files.write(second, b"x", &mut clock)), Errno::ENOSPC);
    files.close(first).expect("closes");
    assert_eq!(files.file_bytes(), 1);
    assert_eq!(files.write(second, b"x", &mut clock), Ok(1));
}

#[test]
fn a_position_beyond_any_file_is_no_space_not_memory() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    let fd = open(&mut files, &mut clock, "/tmp/a", CREATE);
    files.seek(fd, 1 << 53, 0).expect("seeks");
    assert_eq!(errno(files.write(fd, b"x", &mut clock)), Errno::ENOSPC);
    assert_eq!(files.file_bytes(), 0);
}

#[test]
fn descriptors_are_bounded_however_they_are_made() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    let path = JsString::from("/dev/null");
    let refused = (0..5_000).map(|_| files.openat(AT_FDCWD, &path, READ, 0, &mut clock)).find_map(Result::err);
    assert_eq!(refused, Some(Errno::EMFILE.into()));
    assert_eq!(files.streams(), 4_097);
    let refused = (5_000..20_000).map(|new| files.dup3(0, new, 0)).find_map(Result::err);
    assert_eq!(refused, Some(Errno::EMFILE.into()));
    assert_eq!(files.streams(), MAX_STREAMS);
}

#[test]
fn inodes_are_bounded_and_come_back() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    let before = files.nodes();
    let mut make = |at: usize, files: &mut Files| {
        files.mkdirat(AT_FDCWD, &format!("/tmp/{at}").as_str().into(), 0o777, &mut clock)
    };
    let refused = (0..MAX_NODES + 1).map(|at| make(at, &mut files)).find_map(Result::err);
    assert_eq!(refused, Some(Errno::EMFILE.into()));
    assert_eq!(files.nodes(), MAX_NODES);
    let mut clock = Clock::new();
    for at in 0..MAX_NODES - before {
        files.rmdir(&format!("/tmp/{at}").as_str().into(), &mut clock).expect("removes");
    }
    assert_eq!(files.nodes(), before);
}

#[test]
fn a_directory_can_be_moved_into_itself_and_is_then_out_of_reach() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    for path in ["/a", "/a/.b"] {
        files.mkdirat(AT_FDCWD, &path.into(), 0o777, &mut clock).expect("makes");
    }
    files.renameat(AT_FDCWD, &"/a".into(), AT_FDCWD, &"/a/.b/c".into(), &mut clock).expect("moves");
    assert_eq!(errno(files.stat(&"/a".into())), Errno::ENOENT);
}

#[test]
fn a_copy_is_independent() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    let mut copy = files.clone();
    open(&mut files, &mut clock, "/tmp/a", CREATE);
    assert_eq!(errno(copy.openat(AT_FDCWD, &"/tmp/a".into(), READ, 0, &mut clock)), Errno::ENOENT);
}

#[test]
fn a_mapping_starts_with_the_files_bytes_and_writes_them_back() {
    let (mut files, mut clock) = boot(Glue::Emscripten3);
    let fd = open(&mut files, &mut clock, "/tmp/a", 0o102);
    assert!(matches!(files.mmap(fd, 10, 0, 1, 1), Err(FilesError::Abort(_))), "the loader cannot map an empty file");
    files.write(fd, b"abcdef", &mut clock).expect("writes");
    assert_eq!(files.mmap(fd, 3, 2, 3, 1), Ok(&b"cde"[..]));
    assert_eq!(files.mmap(fd, 99, 5, 3, 1), Ok(&b"f"[..]));
    let before = clock.next_ms;
    files.munmap(fd, 2, 1, 4, b"XYZ", &mut clock).expect("writes back");
    files.munmap(fd, 2, 2, 0, b"no", &mut clock).expect("ignores");
    assert_eq!(clock.next_ms - before, 1);
    assert_eq!(files.mmap(fd, 99, 0, 3, 1), Ok(&b"abcdXYZ"[..]));
    assert_eq!(errno(files.mmap(0, 1, 0, 1, 1)), Errno::ENODEV);
    assert_eq!(errno(files.munmap(99, 2, 1, 0, b"x", &mut clock)), Errno::EBADF);
}

#[test]
fn a_path_longer_than_the_bound_is_refused() {
    let (mut files, mut clock) = boot(Glue::Wasm64);
    let long = JsString::from("/".repeat(MAX_PATH_UNITS + 1).as_str());
    assert_eq!(errno(files.openat(AT_FDCWD, &long, READ, 0, &mut clock)), Errno::ENAMETOOLONG);
    assert_eq!(errno(files.stat(&long)), Errno::ENAMETOOLONG);
    assert_eq!(errno(files.rmdir(&long, &mut clock)), Errno::ENAMETOOLONG);
}
