//! Processes of one module side by side: a message each, all in one dispatch.

use std::{sync::Arc, time::Instant};

use lockstep_shaders::device::{Device, Lost};

use super::{
    ending::{Bail, Ending, Trap},
    group::{Call, Compiled, Group},
    kernel::{Alignment, Form, Integers, Kernel},
    layout::{PAGE_BYTES, Shape},
    turn::{Inbox, TURN},
};
use crate::{
    Error, Evaluation, Instance, Module,
    guest::response::{self, Folded},
    native,
};

/// Words of nested calls that a lane has room for.
const STACK_WORDS: u32 = 2048;

/// A module whose processes can be lanes.
#[derive(Clone)]
pub struct Lanes {
    module: Module,
    compiled: Arc<Compiled>,
    /// What every process begins with.
    memory: Arc<Vec<u8>>,
    globals: Arc<Vec<u64>>,
    device: Device,
}

/// What became of a message in a lane.
#[derive(Debug)]
pub enum Came {
    /// It was evaluated: the same as the native engine's, but that a lane's time is the whole dispatch's.
    Evaluated(Box<Evaluation>),
    /// It has to be evaluated natively; the process is as it was.
    HandedBack(Returned),
}

/// Why a message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Returned {
    /// The lane could not go on.
    Bail(Bail),
    /// It trapped: the native engine says what of, in its own words.
    Trap(Trap),
    /// It charged more than its limit.
    Gas,
    /// What it returned is no text in its memory.
    Text,
}

impl Lanes {
    /// Compiles a module for a device. Blocks: seconds for a large module.
    ///
    /// # Errors
    /// [`Error::Module`] if lanes cannot take the module, with the reason; [`Error::Host`] for the driver's refusal.
    pub fn new(device: &Device, module: &Module, wasm: &[u8], alignment: Alignment) -> Result<Lanes, Error> {
        let integers = if device.found.int64 { Integers::Native } else { Integers::Pairs };
        let kernel = Kernel::of_process(wasm, module.format(), Form { integers, alignment })?;
        let begins = module.begins()?;
        let mut globals = kernel.initial_globals.clone();
        for (at, value) in begins.globals {
            globals[at] = value;
        }
        let compiled = Compiled::new(device, kernel).map_err(|e| Error::host("lanes", e))?;
        let (memory, globals) = (Arc::new(begins.memory), Arc::new(globals));
        Ok(Lanes { module: module.clone(), compiled, memory, globals, device: device.clone() })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Lanes for processes that begin anew, with room for texts of so many bytes.
    pub fn shape(&self, text_bytes: usize) -> Shape {
        let pages = (self.memory.len() as u64).div_ceil(u64::from(PAGE_BYTES)) as u32;
        self.compiled.shape((text_bytes / 4 + 4) as u32, STACK_WORDS, pages)
    }

    /// How many processes of a shape fit one group.
    pub fn processes_max(&self, shape: &Shape) -> u32 {
        self.compiled.lanes_max(shape)
    }

    /// New processes.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone or has no room.
    pub fn processes(&self, shape: Shape, count: u32) -> Result<Processes, Lost> {
        let group = Group::new(&self.compiled, shape, count, &self.memory)?;
        let process = || Process { memory: self.memory.to_vec(), has_state: false };
        Ok(Processes { lanes: self.clone(), group, processes: (0..count).map(|_| process()).collect() })
    }
}

/// What the host knows of a process in a lane.
struct Process {
    memory: Vec<u8>,
    has_state: bool,
}

/// Processes that live in lanes.
pub struct Processes {
    lanes: Lanes,
    group: Group,
    processes: Vec<Process>,
}

impl Processes {
    /// Evaluates a message for each of some processes, all at once.
    ///
    /// # Errors
    /// [`Lost`] if the device is gone; every process is then still as it was ([`Processes::memory`]).
    ///
    /// # Panics
    /// If a process is asked twice, or a text does not fit the shape's inbox.
    pub fn evaluate(&mut self, calls: &[(u32, native::Call<'_>)]) -> Result<Vec<Came>, Lost> {
        let started = Instant::now();
        let format = self.lanes.module.format();
        let inboxes: Vec<Inbox> =
            calls.iter().map(|(_, call)| Inbox::new(format, call.message, call.environment)).collect();
        let asked: Vec<Call<'_>> = calls
            .iter()
            .zip(&inboxes)
            .map(|((lane, _), inbox)| Call {
                lane: *lane,
                entry: TURN,
                arguments: &inbox.arguments,
                globals: &self.lanes.globals,
                pages: (self.processes[*lane as usize].memory.len() / PAGE_BYTES as usize) as u32,
                inbox: &inbox.words,
            })
            .collect();
        let patience = calls.iter().map(|(_, call)| call.time_limit).min().unwrap_or_default();
        let returned = self.group.run(&asked, started + patience)?;
        let granule = self.group.shape().granule_bytes();
        // What was written, of those that say something; what was written by others is put back below.
        let written: Vec<Vec<(u32, u32)>> =
            returned.iter().map(|returned| granules(returned.dirty, granule, returned.pages * PAGE_BYTES)).collect();
        let wanted: Vec<(u32, u32, u32)> = calls
            .iter()
            .zip(&returned)
            .zip(&written)
            .filter(|((_, returned), _)| returned.ending == Ending::Done)
            .flat_map(|(((lane, _), _), parts)| parts.iter().map(|(at, bytes)| (*lane, *at, *bytes)))
            .collect();
        let mut read = self.group.read_memory(&wanted)?.into_iter();
        let elapsed = started.elapsed();
        let (mut all, mut undone) = (Vec::new(), Vec::new());
        for (((lane, call), returned), parts) in calls.iter().zip(&returned).zip(&written) {
            let came = match returned.ending {
                Ending::Bail(bail) => Err(Returned::Bail(bail)),
                Ending::Trap(trap) => Err(Returned::Trap(trap)),
                Ending::Done => {
                    let process = &mut self.processes[*lane as usize];
                    // The memory after the message takes the place of the one before, unless it turns out not to be kept.
                    let size = (returned.pages * PAGE_BYTES) as usize;
                    let before_size = process.memory.len();
                    process.memory.resize(size, 0);
                    let mut before = Vec::new();
                    for (at, bytes) in parts {
                        let range = *at as usize..(*at + *bytes) as usize;
                        let now = read.next().expect("one for each part that was wanted");
                        before.push((range.start, process.memory[range.clone()].to_vec()));
                        process.memory[range].copy_from_slice(&now);
                    }
                    let folded = fold(&process.memory, returned.results[0], returned.gas, call.gas_limit);
                    if folded.as_ref().is_ok_and(|folded| folded.kept) {
                        process.has_state = true;
                    } else {
                        before
                            .into_iter()
                            .for_each(|(at, bytes)| process.memory[at..at + bytes.len()].copy_from_slice(&bytes));
                        process.memory.truncate(before_size);
                    }
                    folded
                }
            };
            let is_kept = came.as_ref().is_ok_and(|folded| folded.kept);
            if !is_kept {
                undone.extend(parts.iter().map(|(at, bytes)| (*lane, *at, *bytes)));
            }
            all.push(match came {
                Err(why) => Came::HandedBack(why),
                Ok(Folded { outcome, kept, thrown }) => {
                    Came::Evaluated(Box::new(Evaluation { outcome, kept, gas_spent: returned.gas, elapsed, thrown }))
                }
            });
        }
        self.put_back(&undone)?;
        Ok(all)
    }

    /// Gives lanes their memory again where a message that does not count wrote to it.
    fn put_back(&self, parts: &[(u32, u32, u32)]) -> Result<(), Lost> {
        let texts: Vec<(u32, u32, Vec<u8>)> = parts
            .iter()
            .map(|(lane, at, bytes)| {
                let memory = &self.processes[*lane as usize].memory;
                let begin = (*at as usize).min(memory.len());
                let end = ((*at + *bytes) as usize).min(memory.len());
                let mut part = memory[begin..end].to_vec();
                // Memory that was grown meanwhile is new when it is grown again.
                part.resize(*bytes as usize, 0);
                (*lane, *at, part)
            })
            .collect();
        let borrowed: Vec<_> = texts.iter().map(|(lane, at, part)| (*lane, *at, part.as_slice())).collect();
        self.group.write_memory(&borrowed)
    }

    /// A process's linear memory.
    pub fn memory(&self, lane: u32) -> &[u8] {
        &self.processes[lane as usize].memory
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.group.lanes()
    }

    /// Evaluates a message that came back, natively, and takes the process's new state into its lane.
    ///
    /// # Errors
    /// As [`Instance::evaluate`]; [`Error::Host`] also if the device or the window has no room for what came of it, and the
    /// process cannot stay in its lane.
    pub fn evaluate_natively(&mut self, lane: u32, call: &native::Call<'_>) -> Result<Evaluation, Error> {
        let process = &self.processes[lane as usize];
        let mut instance = Instance::with_memory(&self.lanes.module, &process.memory, process.has_state)?;
        let evaluation = instance.evaluate(call)?;
        if evaluation.kept {
            let room = u64::from(self.group.shape().window_pages) * u64::from(PAGE_BYTES);
            let memory = instance.memory();
            if memory.len() as u64 > room {
                return Err(Error::Host("the process has outgrown its lane".into()));
            }
            self.group.write_memory(&[(lane, 0, memory)]).map_err(|e| Error::host("lanes", e))?;
            let process = &mut self.processes[lane as usize];
            process.memory = memory.to_vec();
            process.has_state = true;
        }
        Ok(evaluation)
    }
}

/// The parts of memory that bits stand for, neighbours joined: where, and how many bytes.
fn granules(dirty: u32, granule: u32, size: u32) -> Vec<(u32, u32)> {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for bit in (0..32).filter(|bit| dirty >> bit & 1 == 1) {
        let at = bit * granule;
        let bytes = granule.min(size.saturating_sub(at));
        match parts.last_mut() {
            Some((begin, length)) if *begin + *length == at => *length += bytes,
            _ if bytes > 0 => parts.push((at, bytes)),
            _ => {}
        }
    }
    parts
}

/// What a lane's response comes to.
fn fold(memory: &[u8], response: u64, gas: u64, gas_limit: u64) -> Result<Folded, Returned> {
    if gas > gas_limit {
        return Err(Returned::Gas);
    }
    let rest = usize::try_from(response).ok().and_then(|at| memory.get(at..)).ok_or(Returned::Text)?;
    let length = rest.iter().position(|byte| *byte == 0).ok_or(Returned::Text)?;
    // What the native engine makes of other bytes is its business.
    let text = std::str::from_utf8(&rest[..length]).map_err(|_| Returned::Text)?;
    Ok(response::fold(text, gas))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granules_that_touch_are_one_part() {
        assert_eq!(granules(0, 4096, 131_072), []);
        assert_eq!(granules(0b1011, 4096, 131_072), [(0, 8192), (12_288, 4096)]);
        assert_eq!(granules(u32::MAX, 4096, 131_072), [(0, 131_072)]);
        assert_eq!(granules(0b110, 65_536, 100_000), [(65_536, 34_464)]);
    }
}
