//! Threads of our own for guest code: evaluation is never on the runtime's threads, whose work is input and output.
//!
//! There are as many as are meant to compute at a time. A message that takes long must not keep other processes waiting,
//! though: a thread that has been at one piece of work for [`RELIEF_AFTER`] while other work waits is relieved. Another
//! takes its place, the operating system shares the cores among them, and the relieved thread ends with its work.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::{Error, metrics::Counted};

type Work = Box<dyn FnOnce() + Send>;

/// How long a thread may be at one piece of work, while other work waits, before another takes its place. Long beside a
/// turn of many messages, short beside the patience of whoever waits.
const RELIEF_AFTER: Duration = Duration::from_secs(1);

/// How often the relief looks around.
const RELIEF_TICK: Duration = Duration::from_millis(200);

/// Threads relieved at a time, at most, for each thread of the pool.
const RELIEVED_MAX: usize = 32;

/// A number of threads and one queue.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Wakes the relief, which otherwise looks around by itself.
    closing: Condvar,
    name: String,
    queue_max: usize,
    relieved_max: usize,
    tasks: Gauge,
    running: Gauge,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    closed: bool,
    /// What each thread at work is at: since when, and whether it has been relieved.
    busy: HashMap<usize, Busy>,
    /// Number of threads begun so far, which names the next.
    begun: usize,
}

struct Busy {
    since: Instant,
    is_relieved: bool,
}

/// Work was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is as long as it may be.
    Full,
    /// The unit is shutting down.
    Closed,
}

/// Work was taken and gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It panicked, with this text.
    Panicked(String),
    /// The unit shut down before its turn came.
    Closed,
}

impl Lost {
    /// As an error of whatever `what` names.
    pub fn into_error(self, what: &str) -> Error {
        match self {
            Self::Panicked(text) => Error::Internal(format!("{what} ended in a fault of this unit: {text}")),
            Self::Closed => closing(),
        }
    }
}

/// What every request gets that comes too late.
pub fn closing() -> Error {
    Error::Internal("this unit is shutting down".to_owned())
}

/// What a caught panic said.
pub fn panic_text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast_ref::<&str>().map_or_else(|| "no reason given".to_owned(), |s| (*s).to_owned()),
    }
}

impl Pool {
    /// Starts the threads. `queue_max` bounds the work that waits for one.
    ///
    /// # Errors
    /// `Internal`: the system has no more threads.
    pub fn start(name: &str, threads: usize, queue_max: usize, metrics: &Counted) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            closing: Condvar::new(),
            name: name.to_owned(),
            queue_max,
            relieved_max: threads.max(1) * RELIEVED_MAX,
            tasks: metrics.worker_tasks.clone(),
            running: metrics.evaluations_running.clone(),
        });
        let pool = Self { shared };
        let fail = |e: std::io::Error| Error::Internal(format!("cannot start a thread that evaluates: {e}"));
        for _ in 0..threads.max(1) {
            pool.shared.begin_thread(&mut pool.shared.lock()).map_err(fail)?;
        }
        let shared = Arc::clone(&pool.shared);
        std::thread::Builder::new().name(format!("{name}-relief")).spawn(move || shared.relieve()).map_err(fail)?;
        Ok(pool)
    }

    /// Queues work; its answer arrives through the future. If the future is dropped before the work's turn comes, the
    /// work is dropped as well.
    ///
    /// # Errors
    /// [`Refused`]: nothing was queued, and `work` is dropped.
    pub fn run<T, F>(&self, work: F) -> Result<impl Future<Output = Result<T, Lost>> + Send + 'static, Refused>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = move || {
            if answer.is_closed() {
                return;
            }
            let done = catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Lost::Panicked(panic_text(panic)));
            // The one who asked may have gone: then nobody misses it.
            let _ = answer.send(done);
        };
        self.shared.push(Box::new(job))?;
        Ok(async move { answered.await.unwrap_or(Err(Lost::Closed)) })
    }

    /// Whether [`Pool::run`] would be refused now.
    pub fn is_full(&self) -> bool {
        self.shared.lock().waiting.len() >= self.shared.queue_max
    }

    /// Takes no more work, drops what waits, and lets each thread finish what it has begun.
    pub fn close(&self) {
        let dropped = {
            let mut queue = self.shared.lock();
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        self.shared.tasks.dec_by(i64::try_from(dropped.len()).unwrap_or(i64::MAX));
        self.shared.wake.notify_all();
        self.shared.closing.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, work: Work) -> Result<(), Refused> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Refused::Closed);
        }
        if queue.waiting.len() >= self.queue_max {
            return Err(Refused::Full);
        }
        queue.waiting.push_back(work);
        self.tasks.inc();
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    fn begin_thread(self: &Arc<Self>, queue: &mut Queue) -> std::io::Result<()> {
        let (shared, number) = (Arc::clone(self), queue.begun);
        lockstep_jit::spawn_evaluator(format!("{}-{number}", self.name), move || shared.work(number))?;
        queue.begun += 1;
        Ok(())
    }

    /// Puts other threads in the place of those that have been at one piece of work for long, until the pool is closed.
    fn relieve(self: &Arc<Self>) {
        let mut queue = self.lock();
        while !queue.closed {
            if !queue.waiting.is_empty() {
                let relieved = queue.busy.values().filter(|busy| busy.is_relieved).count();
                let is_due = |busy: &Busy| !busy.is_relieved && busy.since.elapsed() >= RELIEF_AFTER;
                let due: Vec<usize> = queue.busy.iter().filter(|(_, busy)| is_due(busy)).map(|(n, _)| *n).collect();
                for number in due.into_iter().take(self.relieved_max.saturating_sub(relieved)) {
                    match self.begin_thread(&mut queue) {
                        Ok(()) => drop(queue.busy.get_mut(&number).map(|busy| busy.is_relieved = true)),
                        Err(error) => tracing::warn!(%error, "no thread takes the place of one whose work takes long"),
                    }
                }
            }
            queue = self.closing.wait_timeout(queue, RELIEF_TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn work(&self, number: usize) {
        while let Some(work) = self.next(number) {
            self.running.inc();
            work();
            self.running.dec();
            self.tasks.dec();
            if self.lock().busy.remove(&number).is_some_and(|busy| busy.is_relieved) {
                return;
            }
        }
    }

    fn next(&self, number: usize) -> Option<Work> {
        let mut queue = self.lock();
        loop {
            if let Some(work) = queue.waiting.pop_front() {
                queue.busy.insert(number, Busy { since: Instant::now(), is_relieved: false });
                return Some(work);
            }
            if queue.closed {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    fn pool(threads: usize, queue_max: usize) -> Pool {
        Pool::start("test", threads, queue_max, &Counted::default()).unwrap()
    }

    #[tokio::test]
    async fn work_that_takes_long_is_relieved_and_its_thread_ends_with_it() {
        let pool = pool(1, 10);
        let (release, held) = mpsc::channel::<()>();
        let long = pool.run(move || held.recv().is_ok()).unwrap();
        let name = pool.run(|| std::thread::current().name().map(str::to_owned)).unwrap();
        let name = tokio::time::timeout(20 * RELIEF_AFTER, name).await.expect("another thread takes its place");
        assert_eq!(name.unwrap().as_deref(), Some("test-1"));
        release.send(()).unwrap();
        assert_eq!(long.await, Ok(true));
        // One thread is left, and it is the second.
        for _ in 0..5 {
            let name = pool.run(|| std::thread::current().name().map(str::to_owned)).unwrap().await.unwrap();
            assert_eq!(name.as_deref(), Some("test-1"));
        }
    }

    #[tokio::test]
    async fn work_is_done_on_a_thread_of_the_pool_with_a_large_stack() {
        fn recurse(n: u64) -> u64 {
            let room = std::hint::black_box([n; 512]);
            if n == 0 { 0 } else { room[0] - (n - 1) + recurse(n - 1) }
        }
        let pool = pool(2, 10);
        let work = || (std::thread::current().name().map(str::to_owned), recurse(2_000));
        let (name, depth) = pool.run(work).unwrap().await.unwrap();
        assert!(name.unwrap().starts_with("test-"));
        assert_eq!(depth, 2_000);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_thread_goes_on() {
        let pool = pool(1, 10);
        let lost = pool.run(|| -> () { panic!("on purpose {}", 7) }).unwrap().await.unwrap_err();
        assert_eq!(lost, Lost::Panicked("on purpose 7".to_owned()));
        assert_eq!(pool.run(|| 5).unwrap().await, Ok(5));
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let pool = pool(1, 1);
        let (release, held) = mpsc::channel::<()>();
        let (started, begun) = mpsc::channel();
        let first = pool.run(move || (started.send(()), held.recv())).unwrap();
        begun.recv().unwrap();
        let second = pool.run(|| 2).unwrap();
        assert!(pool.is_full());
        assert_eq!(pool.run(|| 3).err(), Some(Refused::Full));
        release.send(()).unwrap();
        first.await.unwrap().1.unwrap();
        assert_eq!(second.await, Ok(2));
    }

    #[tokio::test]
    async fn closing_finishes_what_was_begun_and_drops_what_waits() {
        let pool = pool(1, 10);
        let (release, held) = mpsc::channel::<()>();
        let (started, begun) = mpsc::channel();
        let first = pool.run(move || (started.send(()), held.recv().is_ok()).1).unwrap();
        begun.recv().unwrap();
        let second = pool.run(|| 2).unwrap();
        pool.close();
        assert_eq!(second.await, Err(Lost::Closed));
        assert_eq!(pool.run(|| 3).err(), Some(Refused::Closed));
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        while Arc::strong_count(&pool.shared) > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn work_nobody_waits_for_is_not_begun() {
        let pool = pool(1, 10);
        let (release, held) = mpsc::channel::<()>();
        let first = pool.run(move || held.recv().is_ok()).unwrap();
        let (tell, told) = mpsc::channel();
        drop(pool.run(move || tell.send(())).unwrap());
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        pool.run(|| ()).unwrap().await.unwrap();
        assert!(told.try_recv().is_err());
    }
}
