//! Threads with room for a guest's deepest recursion.
//!
//! A guest may recurse until [`GUEST_STACK_BYTES`] of native stack are used, and then traps. A thread with less than that
//! would hit its guard page first and take the whole unit down, so evaluation happens only on threads made here.

use std::{cell::Cell, io, thread};

/// Native stack that compiled guest code may use. Where a runaway recursion traps depends on this and on Cranelift's
/// frame sizes; it is the same on all machines of one architecture and engine version.
pub const GUEST_STACK_BYTES: usize = 8 << 20;

/// Stack of an evaluation thread: the guest's, and as much again for host functions between guest frames.
pub const STACK_BYTES: usize = 2 * GUEST_STACK_BYTES;

thread_local! {
    static IS_EVALUATOR: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread that may evaluate.
///
/// # Errors
/// What the operating system says if it gives no thread.
pub fn spawn_evaluator<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
        IS_EVALUATOR.set(true);
        work()
    })
}

/// Runs `work` with room for a guest: here if this is an evaluation thread, else on one made for it.
pub fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if IS_EVALUATOR.get() {
        return Ok(work());
    }
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("evaluate".into()).stack_size(STACK_BYTES);
        let handle = builder.spawn_scoped(scope, move || {
            IS_EVALUATOR.set(true);
            work()
        })?;
        handle.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}
