//! A bounded memory of answers: least recently used out first, each with its time to live, each asked for once at a time.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{Shared, WeakShared},
};

use crate::Error;

type Pending<V> = Pin<Box<dyn Future<Output = Result<V, Error>> + Send>>;

/// Answers by name.
pub struct Memo<V: Clone> {
    capacity: usize,
    state: Arc<Mutex<State<V>>>,
}

struct State<V: Clone> {
    kept: HashMap<String, Kept<V>>,
    /// Loads under way. Weak: when nobody waits any more, the load ends with them.
    pending: HashMap<String, WeakShared<Pending<V>>>,
    /// Counts uses; the smallest `used` is the least recent.
    clock: u64,
}

struct Kept<V> {
    value: V,
    until: Instant,
    used: u64,
}

impl<V: Clone + Send + Sync + 'static> Memo<V> {
    /// Keeps at most `capacity` answers.
    pub fn new(capacity: usize) -> Self {
        let state = State { kept: HashMap::new(), pending: HashMap::new(), clock: 0 };
        Self { capacity: capacity.max(1), state: Arc::new(Mutex::new(state)) }
    }

    /// The answer for `key`: kept, or that of the load under way, or of `load` now. `load` gives the answer and how long
    /// it holds. Errors reach everyone who waits and are not kept.
    pub async fn get_or_load<F>(&self, key: &str, load: impl FnOnce() -> F) -> Result<V, Error>
    where
        F: Future<Output = Result<(V, Duration), Error>> + Send + 'static,
    {
        let shared = {
            let mut state = lock(&self.state);
            if let Some(value) = state.get(key) {
                return Ok(value);
            }
            match state.pending.get(key).and_then(WeakShared::upgrade) {
                Some(shared) => shared,
                None => {
                    let shared = self.start(key.to_owned(), load());
                    if let Some(weak) = shared.downgrade() {
                        state.pending.insert(key.to_owned(), weak);
                    }
                    shared
                }
            }
        };
        // If every waiter leaves, its dead entry stays until the next load of the same key, or this sweep.
        let answer = shared.await;
        lock(&self.state).pending.retain(|_, weak| weak.upgrade().is_some());
        answer
    }

    fn start<F>(&self, key: String, load: F) -> Shared<Pending<V>>
    where
        F: Future<Output = Result<(V, Duration), Error>> + Send + 'static,
    {
        let (state, capacity) = (self.state.clone(), self.capacity);
        let keep = async move {
            let answer = load.await;
            let mut state = lock(&state);
            state.pending.remove(&key);
            let (value, holds) = answer?;
            state.insert(key, value.clone(), holds, capacity);
            Ok(value)
        };
        (Box::pin(keep) as Pending<V>).shared()
    }

    /// Forgets an answer.
    pub fn forget(&self, key: &str) {
        lock(&self.state).kept.remove(key);
    }
}

impl<V: Clone> State<V> {
    fn get(&mut self, key: &str) -> Option<V> {
        self.clock += 1;
        let kept = self.kept.get_mut(key)?;
        if kept.until <= Instant::now() {
            self.kept.remove(key);
            return None;
        }
        kept.used = self.clock;
        Some(kept.value.clone())
    }

    fn insert(&mut self, key: String, value: V, holds: Duration, capacity: usize) {
        self.clock += 1;
        while self.kept.len() >= capacity && !self.kept.contains_key(&key) {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            match oldest {
                Some(oldest) => self.kept.remove(&oldest),
                None => break,
            };
        }
        let used = self.clock;
        self.kept.insert(key, Kept { value, until: Instant::now() + holds, used });
    }
}

/// A state that a panicking thread left is still whole: every change above is one insertion or removal.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_load() {
        let memo = Memo::new(4);
        let loads = AtomicUsize::new(0);
        let ask = || {
            memo.get_or_load("k", || {
                loads.fetch_add(1, Ordering::Relaxed);
                async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok((7, LONG))
                }
            })
        };
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (7, 7, 7));
        assert_eq!(ask().await.unwrap(), 7);
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_error_is_told_but_not_kept() {
        let memo = Memo::new(4);
        let failed = memo.get_or_load("k", || async { Err(Error::Upstream("down".into())) }).await;
        assert!(matches!(failed, Err(Error::Upstream(_))));
        assert_eq!(memo.get_or_load("k", || async { Ok((1, LONG)) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_waiter_that_leaves_does_not_take_the_load_with_it() {
        let memo = Memo::new(4);
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok((1, LONG))
        };
        let gone = tokio::time::timeout(Duration::from_millis(5), memo.get_or_load("k", slow));
        let (gone, stayed) = tokio::join!(gone, memo.get_or_load("k", slow));
        assert!(gone.is_err());
        assert_eq!(stayed.unwrap(), 1);
        // And when all have left, a new caller starts anew.
        let all_gone = tokio::time::timeout(Duration::from_millis(5), memo.get_or_load("l", slow)).await;
        assert!(all_gone.is_err());
        assert_eq!(memo.get_or_load("l", || async { Ok((2, LONG)) }).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first_and_time_runs_out() {
        let memo = Memo::new(2);
        let put =
            |key: &'static str, value: u32, holds| memo.get_or_load(key, move || async move { Ok((value, holds)) });
        put("a", 1, LONG).await.unwrap();
        put("b", 1, LONG).await.unwrap();
        put("a", 2, LONG).await.unwrap();
        put("c", 1, LONG).await.unwrap();
        assert_eq!(put("a", 3, LONG).await.unwrap(), 1, "used since, kept");
        assert_eq!(put("b", 3, LONG).await.unwrap(), 3, "least recently used, gone");
        put("d", 1, Duration::ZERO).await.unwrap();
        assert_eq!(put("d", 2, LONG).await.unwrap(), 2, "out of time");
    }
}
