//! What the routes need of a compute unit, so that they can be driven without one.

use std::time::Duration;

use futures::future::BoxFuture;
use lockstep_cu::{
    Error, Unit,
    unit::{DryRun, Page, Range, Reply, State, Status},
};
use lockstep_jit::Outcome;
use prometheus_client::registry::Registry;

/// An answer in the making.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// The calls the routes make; each means what the method of the same name of [`Unit`] does.
pub trait Compute: Send + Sync + 'static {
    /// The result of the message `uid` on `process`.
    fn result<'a>(&'a self, process: &'a str, uid: &'a str, busy_after: Option<Duration>)
    -> Answer<'a, Reply<Outcome>>;
    /// Results already there.
    fn results<'a>(&'a self, process: &'a str, range: Range) -> Answer<'a, Page>;
    /// Results of cron messages, evaluated first.
    fn cron<'a>(&'a self, process: &'a str, range: Range) -> Answer<'a, Page>;
    /// A process's memory after everything up to `to` (milliseconds; none: all of it).
    fn state<'a>(&'a self, process: &'a str, to: Option<u64>) -> Answer<'a, State>;
    /// A dry run's result, and whether it was given before.
    fn dry_run<'a>(
        &'a self,
        process: &'a str,
        run: DryRun,
        busy_after: Option<Duration>,
    ) -> Answer<'a, (Reply<Outcome>, bool)>;
    /// Numbers for `/status`.
    fn status(&self) -> Status;
    /// Puts the unit's metrics into `registry`.
    fn register_metrics(&self, registry: &mut Registry);
}

impl Compute for Unit {
    fn result<'a>(
        &'a self,
        process: &'a str,
        uid: &'a str,
        busy_after: Option<Duration>,
    ) -> Answer<'a, Reply<Outcome>> {
        Box::pin(self.result(process, uid, busy_after))
    }

    fn results<'a>(&'a self, process: &'a str, range: Range) -> Answer<'a, Page> {
        Box::pin(self.results(process, range))
    }

    fn cron<'a>(&'a self, process: &'a str, range: Range) -> Answer<'a, Page> {
        Box::pin(self.cron(process, range))
    }

    fn state<'a>(&'a self, process: &'a str, to: Option<u64>) -> Answer<'a, State> {
        Box::pin(self.state(process, to))
    }

    fn dry_run<'a>(
        &'a self,
        process: &'a str,
        run: DryRun,
        busy_after: Option<Duration>,
    ) -> Answer<'a, (Reply<Outcome>, bool)> {
        Box::pin(self.dry_run(process, run, busy_after))
    }

    fn status(&self) -> Status {
        self.status()
    }

    fn register_metrics(&self, registry: &mut Registry) {
        self.register_metrics(registry);
    }
}
