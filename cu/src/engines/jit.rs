//! The product's engines: Cranelift's code for every module, and lanes on the adapter that the operator chose, which is opened
//! when the first module is to be compiled for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lockstep_jit::{
    Call, Engine, Error, Evaluation, Instance, Module, ModuleFormat,
    gpu::{Choice, Device, Lost, OpenError},
    lanes::{Alignment, Bail, Came, Change, HandedBack, Lanes, Seats, Shape, Stamp, Visit},
};

use super::{Evaluator, Live, Program, Seating};

/// Larger modules are not kept for lanes, whose kernels are much smaller.
const WASM_BYTES_MAX: usize = 1 << 20;
/// Lanes of one group at most, whatever the adapter's memory.
const LANES_MAX: u32 = 4096;
/// Fewest lanes of a group: a tile.
const LANES_MIN: u32 = 64;
/// A page of linear memory.
const PAGE_BYTES: usize = 1 << 16;
/// Room for a message and its environment that every lane has.
const TEXT_BYTES_MIN: usize = 8192;
/// Room for them that no lane has more than.
const TEXT_BYTES_MAX: usize = 1 << 18;

/// Both engines.
pub(crate) struct Jit {
    engine: Engine,
    adapter: Arc<Adapter>,
    keeps_wasm: bool,
}

impl Jit {
    /// `adapter`: on which lanes run.
    pub(crate) fn new(engine: Engine, adapter: Choice) -> Self {
        let keeps_wasm = adapter != Choice::Off;
        let adapter = Arc::new(Adapter { choice: adapter, device: Mutex::default() });
        Self { engine, adapter, keeps_wasm }
    }

    /// Opens the adapter now, and tells whether that can be done. Blocking.
    ///
    /// # Errors
    /// There is none, or the driver refuses.
    pub(crate) fn open_adapter(&self) -> Result<(), Error> {
        self.adapter.device().map(drop)
    }
}

impl Evaluator for Jit {
    fn load(&self, wasm: &[u8], format: ModuleFormat) -> Result<Arc<dyn Program>, Error> {
        let module = self.engine.load(wasm, format)?;
        let wasm = (self.keeps_wasm && wasm.len() <= WASM_BYTES_MAX).then(|| Arc::from(wasm));
        Ok(Arc::new(Loaded { module, wasm, adapter: Arc::clone(&self.adapter) }))
    }
}

/// The adapter for lanes.
struct Adapter {
    choice: Choice,
    device: Mutex<Option<Device>>,
}

impl Adapter {
    /// The device, opened if it is not, and again if it was lost. `Error::Module`: there is none to open.
    fn device(&self) -> Result<Device, Error> {
        let mut held = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = held.as_ref().filter(|device| !device.is_lost()) {
            return Ok(device.clone());
        }
        let opened = Device::open(&self.choice).map_err(|error| match error {
            // That does not change while the unit runs, and is no fault where nobody asked for lanes.
            OpenError::NoAdapter { .. } => Error::Module(error.to_string()),
            other => Error::Host(format!("lanes: {other}")),
        })?;
        let device = opened.ok_or_else(|| Error::Host("lanes have no adapter: the GPU is off".into()))?;
        *held = Some(device.clone());
        Ok(device)
    }
}

struct Loaded {
    module: Module,
    /// If lanes may want it.
    wasm: Option<Arc<[u8]>>,
    adapter: Arc<Adapter>,
}

impl Program for Loaded {
    fn instance(&self) -> Result<Box<dyn Live>, Error> {
        Ok(Box::new(Instance::new(&self.module)?))
    }

    fn lanes(&self) -> Result<Box<dyn Seating>, Error> {
        let Some(wasm) = &self.wasm else {
            return Err(Error::Module(format!("lanes take modules of at most {WASM_BYTES_MAX} bytes")));
        };
        let device = self.adapter.device()?;
        let lanes = Lanes::new(&device, &self.module, wasm, Alignment::Hinted)?;
        let seating = Seated {
            device,
            module: self.module.clone(),
            wasm: wasm.clone(),
            lanes,
            is_hinted: true,
            seats: None,
            text_bytes: TEXT_BYTES_MIN,
            memory_bytes: 0,
        };
        if seating.lanes_max() == 0 {
            return Err(Error::Module("a tile of its lanes does not fit the adapter".into()));
        }
        Ok(Box::new(seating))
    }

    fn code_bytes(&self) -> u64 {
        self.module.code_bytes()
    }

    fn compile_time(&self) -> Duration {
        self.module.compile_time()
    }
}

/// A module's lanes, as many and as large as were needed so far.
struct Seated {
    device: Device,
    module: Module,
    wasm: Arc<[u8]>,
    lanes: Lanes,
    /// Whether the kernel trusts the module's alignment hints.
    is_hinted: bool,
    seats: Option<Seats>,
    /// Room that the seats have for a message and its environment.
    text_bytes: usize,
    /// Size of the memories that they were made for, without room to grow.
    memory_bytes: usize,
}

impl Seated {
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

    /// A kernel that takes accesses of any alignment, from now on. If the driver refuses it, all stays as it is.
    fn trust_no_hints(&mut self) {
        self.is_hinted = false;
        match Lanes::new(&self.device, &self.module, &self.wasm, Alignment::Any) {
            Ok(lanes) => (self.lanes, self.seats) = (lanes, None),
            Err(error) => {
                tracing::info!(%error, "accesses that are not aligned as the module says stay with the native engine")
            }
        }
    }
}

impl Seating for Seated {
    fn lanes_max(&self) -> usize {
        self.lanes.processes_max(&self.lanes.shape(TEXT_BYTES_MIN, 0)).min(LANES_MAX) as usize
    }

    fn adapter(&self) -> &str {
        &self.device.found.name
    }

    fn evaluate(&mut self, visits: &[Visit<'_>], deadline: Instant) -> Result<Vec<Came>, Lost> {
        let text = |visit: &Visit<'_>| visit.call.message.len() + visit.call.environment.len();
        let text = visits.iter().map(text).max().unwrap_or(0);
        let memory = visits.iter().map(|visit| visit.memory.len()).max().unwrap_or(0);
        let count = u32::try_from(visits.len()).unwrap_or(u32::MAX);
        let Some(seats) = self.seats(count, text, memory)? else {
            return Ok(visits.iter().map(|_| Came::HandedBack(HandedBack::Room)).collect());
        };
        let came = seats.evaluate(visits, deadline)?;
        let is_crooked = |came: &Came| matches!(came, Came::HandedBack(HandedBack::Bail(Bail::Alignment)));
        if self.is_hinted && came.iter().any(is_crooked) {
            self.trust_no_hints();
        }
        Ok(came)
    }
}

impl Live for Instance {
    fn evaluate(&mut self, call: &Call<'_>) -> Result<Evaluation, Error> {
        Self::evaluate(self, call)
    }

    fn is_broken(&self) -> bool {
        Self::is_broken(self)
    }

    fn has_state(&self) -> bool {
        Self::has_state(self)
    }

    fn memory(&mut self) -> &[u8] {
        Self::memory(self)
    }

    fn stamp(&self) -> Option<Stamp> {
        Self::stamp(self)
    }

    fn take_over(&mut self, change: &Change) -> Result<(), Error> {
        Self::take_over(self, change)
    }

    fn fork(&mut self) -> Result<Box<dyn Live>, Error> {
        Ok(Box::new(Self::fork(self)?))
    }

    fn resident_bytes(&self) -> u64 {
        Self::resident_bytes(self)
    }
}
