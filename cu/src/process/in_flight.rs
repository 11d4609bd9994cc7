//! Equal requests at the same time share one piece of work.

use std::{hash::Hash, sync::Arc};

use dashmap::{DashMap, Entry};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::watch;

use super::pool::closing;
use crate::Error;

/// Work that any number of requests wait for.
pub(crate) type Flow<T> = Shared<BoxFuture<'static, Result<T, Error>>>;

/// The work under way, by what it is for.
pub(crate) struct InFlight<K, T> {
    flows: Arc<DashMap<K, Flow<T>>>,
    count: watch::Sender<usize>,
}

impl<K, T> InFlight<K, T>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self { flows: Arc::default(), count: watch::Sender::new(0) }
    }

    /// The work for `key`: what is under way, or else `begin`'s, in a task of its own that goes on whoever leaves. The
    /// second member says whether there was something to share.
    pub(crate) fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> (Flow<T>, bool)
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        match self.flows.entry(key) {
            Entry::Occupied(entry) => (entry.get().clone(), true),
            Entry::Vacant(entry) => {
                self.count.send_modify(|count| *count += 1);
                let last =
                    Leave { key: entry.key().clone(), flows: Arc::clone(&self.flows), count: self.count.clone() };
                let work = begin();
                let task = tokio::spawn(async move {
                    let _last = last;
                    work.await
                });
                let flow = async move {
                    match task.await {
                        Ok(done) => done,
                        Err(lost) if lost.is_panic() => {
                            Err(Error::Internal("a request ended in a fault of this unit".to_owned()))
                        }
                        Err(_) => Err(closing()),
                    }
                };
                (entry.insert(flow.boxed().shared()).clone(), false)
            }
        }
    }

    /// Waits until nothing is under way.
    pub(crate) async fn finished(&self) {
        // The sender lives as long as this.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

struct Leave<K: Eq + Hash, T> {
    key: K,
    flows: Arc<DashMap<K, Flow<T>>>,
    count: watch::Sender<usize>,
}

impl<K: Eq + Hash, T> Drop for Leave<K, T> {
    fn drop(&mut self) {
        // Whoever joined keeps the flow; whoever comes now begins anew (and finds what this one has stored).
        self.flows.remove(&self.key);
        self.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn equal_requests_share_one_piece_of_work_and_later_ones_begin_anew() {
        let flights = InFlight::<u32, usize>::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let join = |key| {
            let (runs, gate) = (Arc::clone(&runs), Arc::clone(&gate));
            flights.join(key, move || async move {
                gate.acquire().await.expect("it is never closed").forget();
                Ok(runs.fetch_add(1, Ordering::SeqCst))
            })
        };
        let (first, shared) = join(1);
        assert!(!shared);
        let (second, shared) = join(1);
        assert!(shared);
        gate.add_permits(1);
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (0, 0));
        flights.finished().await;
        let (third, shared) = join(1);
        assert!(!shared);
        gate.add_permits(1);
        assert_eq!(third.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_all_and_is_not_kept() {
        let flights = InFlight::<u32, usize>::new();
        let (flow, _) = flights.join(1, || async { panic!("on purpose") });
        assert!(matches!(flow.await, Err(Error::Internal(_))));
        flights.finished().await;
        assert_eq!(flights.join(1, || async { Ok(3) }).0.await.unwrap(), 3);
    }
}
