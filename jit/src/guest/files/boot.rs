//! The tree a guest finds.

use super::{
    Files, FilesResult, Glue, Stdin,
    node::{Kind, NodeId, READ, TYPE_DEVICE, TYPE_DIR, rdev},
    stream::Streams,
    tree::Tree,
};
use crate::guest::{clock::Clock, random::Random, text::JsString};

const O_RDONLY: i32 = 0;
const O_WRONLY: i32 = 1;

impl Files {
    /// The tree before the loader takes over the clock: directories and devices, no descriptors. Their times are the
    /// clock's first reading (in the loader, whatever the host's clock said), and no reading is used up.
    pub fn new(glue: Glue, seed: &str) -> Self {
        let mut files = Self {
            glue,
            tree: Tree::new(glue),
            streams: Streams::default(),
            random: Random::new(seed),
            stdin: Stdin::default(),
        };
        files.plant(&mut Clock::new()).expect("nothing is in the way in an empty tree");
        files
    }

    /// A guest's file system as it is when the loader hands over: the tree, standard streams 0, 1 and 2, and in the
    /// newer formats the directory `/data`.
    ///
    /// Reads the clock [`Self::boot_readings`] times.
    pub fn boot(glue: Glue, seed: &str, clock: &mut Clock) -> Self {
        let mut files = Self::new(glue, seed);
        files.open_standard_streams(clock);
        if matches!(glue, Glue::Emscripten4 | Glue::Wasm64) {
            files.create_data_dir(clock);
        }
        files
    }

    /// How often [`Self::boot`] reads the clock: three times for the standard streams, and once more for `/data`.
    pub fn boot_readings(glue: Glue) -> u64 {
        if matches!(glue, Glue::Emscripten4 | Glue::Wasm64) { 4 } else { 3 }
    }

    /// The same files with another standard input.
    pub fn with_stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// The first step after the clock is taken over: links to the terminals, and descriptors 0, 1 and 2 on them. The
    /// loader does this before the guest's constructors run.
    pub fn open_standard_streams(&mut self, clock: &mut Clock) {
        for (target, name) in [("/dev/tty", "/dev/stdin"), ("/dev/tty", "/dev/stdout"), ("/dev/tty1", "/dev/stderr")] {
            self.tree.make_link(target, name, clock).expect("the names are free");
        }
        for (name, flags) in [("/dev/stdin", O_RDONLY), ("/dev/stdout", O_WRONLY), ("/dev/stderr", O_WRONLY)] {
            self.open_path(&name.into(), flags, 0, clock).expect("terminals can be opened");
        }
    }

    /// The second step, after the guest's constructors: the loader's own `/data`. Only the formats
    /// `Emscripten4` and `Wasm64` have it. Does nothing if the name is taken.
    pub fn create_data_dir(&mut self, clock: &mut Clock) {
        // The loader does not look at the outcome either.
        let _ = self.dir("/data", clock);
    }

    fn dir(&mut self, path: &str, clock: &mut Clock) -> FilesResult<NodeId> {
        let kind = Kind::Dir { entries: Default::default() };
        self.tree.make(&JsString::from(path), TYPE_DIR | 0o777, 0, kind, &self.streams, clock)
    }

    fn device(&mut self, path: &str, permissions: i32, rdev: i32, clock: &mut Clock) -> FilesResult<NodeId> {
        let mode = TYPE_DEVICE | permissions;
        self.tree.make(&JsString::from(path), mode, rdev, Kind::Device, &self.streams, clock)
    }

    /// In the loader's order, which decides the inode numbers. `clock` is not the guest's.
    fn plant(&mut self, clock: &mut Clock) -> FilesResult<()> {
        let start = clock.next_ms as f64;
        for path in ["/tmp", "/home", "/home/web_user", "/dev"] {
            self.dir(path, clock)?;
        }
        self.device("/dev/null", 0o666, rdev::NULL, clock)?;
        self.device("/dev/tty", 0o666, rdev::TTY, clock)?;
        self.device("/dev/tty1", 0o666, rdev::TTY1, clock)?;
        self.device("/dev/random", READ | 0o111, rdev::RANDOM, clock)?;
        self.device("/dev/urandom", READ | 0o111, rdev::URANDOM, clock)?;
        for path in ["/dev/shm", "/dev/shm/tmp", "/proc"] {
            self.dir(path, clock)?;
        }
        let this = self.dir("/proc/self", clock)?;
        let covered = self.dir("/proc/self/fd", clock)?;
        self.tree.mount_descriptors(this, covered)?;
        self.tree.set_all_times(start);
        Ok(())
    }
}
