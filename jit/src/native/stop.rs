//! The wall-clock bound: a byte that a guest looks at wherever it could go on for ever, and that the host sets when the
//! guest's time is up.
//!
//! The byte lies in a second memory that the rewriting gives every module and that no code but the rewriting's sees.

use std::{
    ptr::NonNull,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap_anonymous, munmap},
};

use crate::Error;

/// Resolution of the wall-clock bound.
const TICK: Duration = Duration::from_millis(10);

/// Size of the memory around the byte: one page of WebAssembly, of which one of the host is ever touched.
const BYTES: usize = 65_536;

/// One guest's byte.
#[derive(Debug)]
pub struct Stop(NonNull<u8>);

// SAFETY: a mapping of our own that lives as long as `self`; the one byte that is used is only ever accessed atomically,
// by the host through `Self::flag` and by guests with an atomic load.
unsafe impl Send for Stop {}
// SAFETY: as above.
unsafe impl Sync for Stop {}

impl Stop {
    /// A byte that is not set.
    ///
    /// # Errors
    /// [`Error::Host`] if the host has no address space for it.
    pub fn new() -> Result<Arc<Self>, Error> {
        let failed = |e: Errno| Error::host("no address space for the wall clock's byte", e);
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            mmap_anonymous(std::ptr::null_mut(), BYTES, protection, MapFlags::PRIVATE | MapFlags::NORESERVE)
        };
        let base = NonNull::new(base.map_err(failed)?.cast()).ok_or(Errno::NOMEM).map_err(failed)?;
        Ok(Arc::new(Self(base)))
    }

    fn flag(&self) -> &AtomicU8 {
        // SAFETY: the byte is mapped for as long as `self` lives, needs no alignment, and all accesses to it are atomic.
        unsafe { AtomicU8::from_ptr(self.0.as_ptr()) }
    }

    /// Whether the guest has been told to stop.
    pub fn is_set(&self) -> bool {
        self.flag().load(Ordering::Relaxed) != 0
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and this is its last owner: wasmtime's handle and ours share it by `Arc`.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), BYTES) };
    }
}

/// What wasmtime holds of the memory around the byte.
pub struct Guest(pub Arc<Stop>);

// SAFETY: `as_ptr` is stable for the mapping's life, `[0, byte_size)` is mapped readable and writable, and it never
// grows. No guard follows it and no more address space than that is reserved: the only code that reaches this memory is
// what the rewriting inserts, a load of the byte at the constant address 0 (guests are validated without a second memory).
unsafe impl wasmtime::LinearMemory for Guest {
    fn byte_size(&self) -> usize {
        BYTES
    }

    fn byte_capacity(&self) -> usize {
        BYTES
    }

    fn grow_to(&mut self, _: usize) -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg("the wall clock's memory does not grow"))
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.0.as_ptr()
    }
}

/// Runs among guests and stops those whose time is up.
#[derive(Debug, Default)]
pub struct WallClock(Mutex<Vec<(Instant, Arc<Stop>)>>);

impl WallClock {
    /// Starts the clock; it ends with its last owner.
    ///
    /// # Errors
    /// [`Error::Host`] if no thread can be started.
    pub fn start() -> Result<Arc<Self>, Error> {
        let clock = Arc::new(Self::default());
        let weak = Arc::downgrade(&clock);
        let run = move || {
            while let Some(clock) = Weak::upgrade(&weak) {
                let now = Instant::now();
                for (_, stop) in clock.running().iter().filter(|(deadline, _)| *deadline <= now) {
                    stop.flag().store(1, Ordering::Relaxed);
                }
                drop(clock);
                thread::sleep(TICK);
            }
        };
        let spawned = thread::Builder::new().name("wall-clock".into()).spawn(run);
        spawned.map_err(|e| Error::host("cannot start the wall clock", e))?;
        Ok(clock)
    }

    /// Bounds what the guest behind `stop` does until the answer is dropped.
    pub fn bound(self: &Arc<Self>, stop: &Arc<Stop>, limit: Duration) -> Bounded {
        let now = Instant::now();
        // A bound beyond what the clock can count is none.
        if let Some(deadline) = now.checked_add(limit) {
            self.running().push((deadline, stop.clone()));
        }
        Bounded { clock: self.clone(), stop: stop.clone() }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Arc<Stop>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest whose time is bounded while this is there.
pub struct Bounded {
    clock: Arc<WallClock>,
    stop: Arc<Stop>,
}

impl Drop for Bounded {
    fn drop(&mut self) {
        let mut running = self.clock.running();
        if let Some(at) = running.iter().position(|(_, stop)| Arc::ptr_eq(stop, &self.stop)) {
            running.swap_remove(at);
        }
        // Under the lock: the clock must not set it for a guest that has ended.
        self.stop.flag().store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_stopped_after_its_time_and_not_before_or_later() {
        let clock = WallClock::start().unwrap();
        let (short, long) = (Stop::new().unwrap(), Stop::new().unwrap());
        let bounded = clock.bound(&short, Duration::from_millis(1));
        let _long = clock.bound(&long, Duration::MAX);
        let waited = Instant::now();
        while !short.is_set() && waited.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(short.is_set() && !long.is_set());
        drop(bounded);
        assert!(!short.is_set());
        thread::sleep(5 * TICK);
        assert!(!short.is_set(), "nothing bounds it any more");
    }
}
