//! Copies of a process as it stands, made on an evaluating thread while nothing else happens to it.

use std::sync::{Arc, Mutex};

use super::{
    actor::Actor,
    evaluate,
    goal::{Fork, Got},
    pool::{Lost, Refused},
};
use crate::Error;

impl Actor {
    /// A copy of the whole memory.
    pub(super) async fn memory(&mut self) -> Result<Got, Error> {
        let Some(mut state) = self.state.take() else {
            return Ok(Got::Memory { memory: None, last: None });
        };
        let copy = self.shared.pool.run(move || {
            let memory = state.instance.has_state().then(|| state.instance.memory().to_vec());
            (state, memory)
        });
        let (state, memory) = self.lent(copy, "copying the memory").await?;
        let last = state.last.clone();
        self.state = Some(state);
        Ok(Got::Memory { memory, last })
    }

    /// An independent process with the same state; the one made last, if nothing was evaluated since.
    pub(super) async fn fork(&mut self) -> Result<Got, Error> {
        let (Some(mut state), Some(ground)) = (self.state.take(), self.ground.clone()) else {
            return Err(Error::Internal(format!("process {} has no state to run on", self.pid)));
        };
        if let Some((version, fork)) = &self.fork
            && *version == state.version
            && let Some(fork) = fork.upgrade()
        {
            self.state = Some(state);
            return Ok(Got::Fork(fork));
        }
        let copy = self.shared.pool.run(move || {
            let fork = state.instance.fork();
            (state, fork)
        });
        let (state, forked) = self.lent(copy, "copying").await?;
        let fork = forked.map(|instance| {
            Arc::new(Fork {
                bytes: instance.resident_bytes(),
                instance: Mutex::new(instance),
                environment: ground.environment.clone(),
                gas_limit: ground.module.gas_limit,
                last: state.last.clone(),
            })
        });
        let version = state.version;
        self.state = Some(state);
        let fork = fork.map_err(|e| evaluate::engine_error(e, &format!("copying process {}", self.pid)))?;
        self.fork = Some((version, Arc::downgrade(&fork)));
        Ok(Got::Fork(fork))
    }

    /// Waits for work that holds the state. If it does not bring it back, the process is no longer in memory.
    async fn lent<T>(
        &mut self,
        work: Result<impl Future<Output = Result<T, Lost>>, Refused>,
        what: &str,
    ) -> Result<T, Error> {
        let done = match work {
            Ok(work) => work.await,
            Err(Refused::Closed | Refused::Full) => Err(Lost::Closed),
        };
        done.map_err(|lost| {
            self.forget_state();
            lost.into_error(&format!("{what} of process {}", self.pid))
        })
    }
}
