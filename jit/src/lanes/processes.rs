//! Processes of one module side by side, with nowhere else to live: what measures and compares uses these.

use std::time::Instant;

use lockstep_shaders::device::Lost;

use super::{
    layout::Shape,
    module::Lanes,
    seats::{Came, HandedBack, Seats, Stamp, Visit},
};
use crate::{Error, Evaluation, Instance, native};

/// What a process is between two messages.
struct Process {
    memory: Vec<u8>,
    stamp: Option<Stamp>,
    has_state: bool,
}

/// Processes and their lanes.
pub struct Processes {
    lanes: Lanes,
    seats: Seats,
    processes: Vec<Process>,
}

impl Processes {
    /// New processes.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone or has no room.
    ///
    /// # Panics
    /// If there are more than [`Lanes::processes_max`].
    pub fn new(lanes: &Lanes, shape: Shape, count: u32) -> Result<Processes, Lost> {
        let seats = Seats::new(lanes, shape, count)?;
        let process = || Process { memory: lanes.memory.to_vec(), stamp: Some(Stamp::BEGINNING), has_state: false };
        Ok(Processes { lanes: lanes.clone(), seats, processes: (0..count).map(|_| process()).collect() })
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.seats.count()
    }

    /// A process's linear memory.
    pub fn memory(&self, process: u32) -> &[u8] {
        &self.processes[process as usize].memory
    }

    /// Evaluates a message for each of some processes, all at once.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone; every process is then still as it was.
    ///
    /// # Panics
    /// If there are more calls than processes.
    pub fn evaluate(&mut self, calls: &[(u32, native::Call<'_>)]) -> Result<Vec<Result<Evaluation, HandedBack>>, Lost> {
        let patience = calls.iter().map(|(_, call)| call.time_limit).min().unwrap_or_default();
        let visits: Vec<Visit<'_>> = calls
            .iter()
            .map(|(process, call)| {
                let process = &self.processes[*process as usize];
                Visit { stamp: process.stamp, memory: &process.memory, call: *call }
            })
            .collect();
        let came = self.seats.evaluate(&visits, Instant::now() + patience)?;
        let came = calls.iter().zip(came).map(|((process, _), came)| match came {
            Came::HandedBack(why) => Err(why),
            Came::Evaluated { evaluation, change } => {
                if let Some(change) = change {
                    let process = &mut self.processes[*process as usize];
                    process.memory.resize(change.size, 0);
                    for (at, bytes) in &change.parts {
                        process.memory[*at..*at + bytes.len()].copy_from_slice(bytes);
                    }
                    (process.stamp, process.has_state) = (Some(change.stamp), true);
                }
                Ok(*evaluation)
            }
        });
        Ok(came.collect())
    }

    /// Evaluates a message that came back, natively.
    ///
    /// # Errors
    /// As [`Instance::evaluate`].
    pub fn evaluate_natively(&mut self, process: u32, call: &native::Call<'_>) -> Result<Evaluation, Error> {
        let process = &mut self.processes[process as usize];
        let mut instance = Instance::with_memory(&self.lanes.module, &process.memory, process.has_state)?;
        let evaluation = instance.evaluate(call)?;
        if evaluation.kept {
            process.memory = instance.memory().to_vec();
            (process.stamp, process.has_state) = (None, true);
        }
        Ok(evaluation)
    }
}
