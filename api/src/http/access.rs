//! Which processes this unit serves.

use std::collections::HashSet;

use super::{
    failure::Failure,
    query::{Param, Query},
};

/// The deny list and the allow list.
pub struct Access {
    denied: HashSet<String>,
    /// Empty: all.
    allowed: HashSet<String>,
}

impl Access {
    /// `allowed` empty: every process that is not denied.
    pub fn new(denied: &[String], allowed: &[String]) -> Self {
        Self { denied: denied.iter().cloned().collect(), allowed: allowed.iter().cloned().collect() }
    }

    /// Refuses a process with 403.
    pub fn check(&self, process: &str) -> Result<(), Failure> {
        let is_allowed = self.allowed.is_empty() || self.allowed.contains(process);
        if self.denied.contains(process) || !is_allowed { Err(Failure::denied(process)) } else { Ok(()) }
    }

    /// The same for the process a query names; one it does not name is none that is allowed.
    pub fn check_query(&self, query: &Query) -> Result<(), Failure> {
        match query.param("process-id") {
            Param::Absent => self.check("undefined"),
            Param::One(process) => self.check(process),
            Param::Many(processes) => processes.into_iter().try_for_each(|process| self.check(process)),
        }
    }
}
