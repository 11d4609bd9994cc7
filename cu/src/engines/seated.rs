//! A module's lanes on one adapter, or spread over several that are alike.

use std::{collections::HashSet, panic::resume_unwind, sync::Arc, thread, time::Instant};

use lockstep_jit::{
    Error, Module,
    gpu::{Device, Lost},
    lanes::{Came, HandedBack, Lanes, Seats, Shape, Stamp, Trust, Visit},
};

use super::{
    Seating,
    doubts::Doubts,
    spread::{Place, deal},
};

/// Lanes of one adapter at most, whatever its memory.
const LANES_MAX: u32 = 4096;
/// Fewest lanes of an adapter: a tile.
const LANES_MIN: u32 = 64;
/// A page of linear memory.
const PAGE_BYTES: usize = 1 << 16;
/// Room for a message and its environment that every lane has.
const TEXT_BYTES_MIN: usize = 8192;
/// Room for them that no lane has more than.
const TEXT_BYTES_MAX: usize = 1 << 18;

/// A module's lanes.
pub(super) struct Seated {
    module: Module,
    wasm: Arc<[u8]>,
    /// What they run on, and with which driver.
    adapter: String,
    /// What the kernels trust.
    doubts: Doubts,
    /// Those of each adapter.
    parts: Vec<Part>,
}

impl Seated {
    /// `devices` are alike, and one at least. Blocking, for seconds.
    pub fn new(devices: Vec<Device>, module: &Module, wasm: &Arc<[u8]>) -> Result<Self, Error> {
        let found = &devices[0].found;
        let times = if devices.len() == 1 { String::new() } else { format!("{} x ", devices.len()) };
        let adapter = format!("{times}{} ({})", found.name, found.driver);
        let parts = compiled(devices, module, wasm, Trust::FULL)?;
        let (module, wasm) = (module.clone(), Arc::clone(wasm));
        Ok(Self { module, wasm, adapter, doubts: Doubts::new(Trust::FULL), parts })
    }

    /// Which of the adapters has a memory.
    #[cfg(test)]
    pub fn place_of(&self, stamp: Stamp) -> Option<usize> {
        self.parts.iter().position(|part| part.stamps().contains(&stamp))
    }
}

/// A module's kernels, for each device at once.
fn compiled(devices: Vec<Device>, module: &Module, wasm: &[u8], trust: Trust) -> Result<Vec<Part>, Error> {
    let parts = devices.into_iter().map(|device| move || Part::new(device, module, wasm, trust));
    side_by_side(parts.collect()).into_iter().collect()
}

/// Does all of these, each on a thread of its own; one alone here.
fn side_by_side<T: Send>(work: Vec<impl FnOnce() -> T + Send>) -> Vec<T> {
    if work.len() == 1 {
        return work.into_iter().map(|one| one()).collect();
    }
    thread::scope(|scope| {
        let threads: Vec<_> = work.into_iter().map(|one| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

impl Seating for Seated {
    fn lanes_max(&self) -> usize {
        self.parts.iter().map(Part::room).sum()
    }

    fn adapter(&self) -> &str {
        &self.adapter
    }

    fn evaluate(&mut self, visits: &[Visit<'_>], deadline: Instant) -> Result<Vec<Came>, Lost> {
        let came = match &mut *self.parts {
            [part] => part.evaluate(visits, deadline)?,
            parts => evaluate_spread(parts, visits, deadline)?,
        };
        self.doubts.note(&came);
        Ok(came)
    }

    fn complaint(&self) -> Option<&'static str> {
        self.doubts.better().map(|(_, why)| why)
    }

    fn compile_again(&mut self) -> Result<(), Error> {
        let Some((trust, _)) = self.doubts.better() else { return Ok(()) };
        let devices = self.parts.iter().map(|part| part.device.clone()).collect();
        match compiled(devices, &self.module, &self.wasm, trust) {
            Ok(parts) => {
                self.parts = parts;
                self.doubts.compiled(trust);
                Ok(())
            }
            Err(error) => {
                self.doubts.refused(trust);
                Err(error)
            }
        }
    }
}

/// Evaluates on several adapters at once.
fn evaluate_spread(parts: &mut [Part], visits: &[Visit<'_>], deadline: Instant) -> Result<Vec<Came>, Lost> {
    let stamps: Vec<_> = visits.iter().map(|visit| visit.stamp).collect();
    let places: Vec<_> = parts.iter().map(|part| Place { room: part.room(), holds: part.stamps() }).collect();
    let dealt = deal(&stamps, &places);
    let work = parts.iter_mut().zip(&dealt).filter(|(_, own)| !own.is_empty()).map(|(part, own)| {
        move || {
            let visits: Vec<_> = own.iter().map(|at| visits[*at]).collect();
            part.evaluate(&visits, deadline).map(|came| own.iter().copied().zip(came).collect::<Vec<_>>())
        }
    });
    let mut all: Vec<_> = visits.iter().map(|_| Came::HandedBack(HandedBack::Room)).collect();
    for came in side_by_side(work.collect()) {
        came?.into_iter().for_each(|(at, came)| all[at] = came);
    }
    Ok(all)
}

/// A module's lanes on one adapter, as many and as large as were needed so far.
struct Part {
    device: Device,
    lanes: Lanes,
    seats: Option<Seats>,
    /// Room that the seats have for a message and its environment.
    text_bytes: usize,
    /// Size of the memories that they were made for, without room to grow.
    memory_bytes: usize,
}

impl Part {
    /// A module's kernel, of which a tile at least fits the device.
    fn new(device: Device, module: &Module, wasm: &[u8], trust: Trust) -> Result<Self, Error> {
        let lanes = Lanes::new(&device, module, wasm, trust)?;
        let part = Self { device, lanes, seats: None, text_bytes: TEXT_BYTES_MIN, memory_bytes: 0 };
        match part.room() {
            0 => Err(Error::Module("a tile of its lanes does not fit the adapter".into())),
            _ => Ok(part),
        }
    }

    /// Lanes of a group at most.
    fn room(&self) -> usize {
        self.lanes.processes_max(&self.lanes.shape(TEXT_BYTES_MIN, 0)).min(LANES_MAX) as usize
    }

    /// The memories that are in the lanes.
    fn stamps(&self) -> HashSet<Stamp> {
        self.seats.iter().flat_map(Seats::stamps).collect()
    }

    fn evaluate(&mut self, visits: &[Visit<'_>], deadline: Instant) -> Result<Vec<Came>, Lost> {
        let text = |visit: &Visit<'_>| visit.call.message.len() + visit.call.environment.len();
        let text = visits.iter().map(text).max().unwrap_or(0);
        let memory = visits.iter().map(|visit| visit.memory.len()).max().unwrap_or(0);
        let count = u32::try_from(visits.len()).unwrap_or(u32::MAX);
        let Some(seats) = self.seats(count, text, memory)? else {
            return Ok(visits.iter().map(|_| Came::HandedBack(HandedBack::Room)).collect());
        };
        seats.evaluate(visits, deadline)
    }

    /// Seats for so many, with room for so much if there can be; those there are, if they will do.
    fn seats(&mut self, count: u32, text_bytes: usize, memory_bytes: usize) -> Result<Option<&mut Seats>, Lost> {
        let text_bytes = text_bytes.next_power_of_two().clamp(self.text_bytes, TEXT_BYTES_MAX);
        let memory_bytes = memory_bytes.max(self.memory_bytes);
        // Memory that grows has room for one page more. What is too large for all may be too large for one alone.
        let sizes = [(text_bytes, memory_bytes, PAGE_BYTES), (text_bytes, memory_bytes, 0), (TEXT_BYTES_MIN, 0, 0)];
        let shapes = sizes.map(|(text, memory, more)| (self.lanes.shape(text, memory + more), text, memory));
        let fits = |shape: &Shape| self.lanes.processes_max(shape) >= count;
        let Some((shape, text, memory)) = shapes.into_iter().find(|(shape, ..)| fits(shape)) else {
            return Ok(None);
        };
        if !self.seats.as_ref().is_some_and(|seats| seats.count() >= count && *seats.shape() == shape) {
            let count = count.next_power_of_two().clamp(LANES_MIN, LANES_MAX).min(self.lanes.processes_max(&shape));
            // Not both at once: they may be large.
            self.seats = None;
            self.seats = Some(Seats::new(&self.lanes, shape, count)?);
            (self.text_bytes, self.memory_bytes) = (text, memory);
        }
        Ok(self.seats.as_mut())
    }
}
