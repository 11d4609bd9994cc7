//! The product's engines: Cranelift's code for every module, and lanes on the adapter that the operator chose, which is opened
//! when the first module is to be compiled for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lockstep_jit::{
    Call, Engine, Error, Evaluation, Instance, Module, ModuleFormat,
    gpu::{Choice, Device, Lost, OpenError},
    lanes::{Came, Change, HandedBack, Lanes, Seats, Shape, Stamp, Trust, Visit},
};

use super::{Evaluator, Live, Program, Seating, doubts::Doubts};

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
        Ok(Box::new(Seated {
            lanes: compiled(&device, &self.module, wasm, Trust::FULL)?,
            device,
            module: self.module.clone(),
            wasm: wasm.clone(),
            doubts: Doubts::new(Trust::FULL),
            seats: None,
            text_bytes: TEXT_BYTES_MIN,
            memory_bytes: 0,
        }))
    }

    fn code_bytes(&self) -> u64 {
        self.module.code_bytes()
    }

    fn compile_time(&self) -> Duration {
        self.module.compile_time()
    }
}

/// A module's kernel, of which a tile at least fits the device.
fn compiled(device: &Device, module: &Module, wasm: &[u8], trust: Trust) -> Result<Lanes, Error> {
    let lanes = Lanes::new(device, module, wasm, trust)?;
    match lanes_max(&lanes) {
        0 => Err(Error::Module("a tile of its lanes does not fit the adapter".into())),
        _ => Ok(lanes),
    }
}

/// Lanes of a group at most.
fn lanes_max(lanes: &Lanes) -> u32 {
    lanes.processes_max(&lanes.shape(TEXT_BYTES_MIN, 0)).min(LANES_MAX)
}

/// A module's lanes, as many and as large as were needed so far.
struct Seated {
    device: Device,
    module: Module,
    wasm: Arc<[u8]>,
    lanes: Lanes,
    /// What the kernel trusts.
    doubts: Doubts,
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
}

impl Seating for Seated {
    fn lanes_max(&self) -> usize {
        lanes_max(&self.lanes) as usize
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
        self.doubts.note(&came);
        Ok(came)
    }

    fn complaint(&self) -> Option<&'static str> {
        self.doubts.better().map(|(_, why)| why)
    }

    fn compile_again(&mut self) -> Result<(), Error> {
        let Some((trust, _)) = self.doubts.better() else { return Ok(()) };
        match compiled(&self.device, &self.module, &self.wasm, trust) {
            Ok(lanes) => {
                (self.lanes, self.seats) = (lanes, None);
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

#[cfg(test)]
mod tests {
    use lockstep_jit::{EngineSettings, lanes::Bail};

    use super::*;

    /// A loop over a frame, which it also reaches through a pointer that lies in memory: the message says whether.
    const PASSES_ITS_FRAME_ON: &str = r#"(module
      (memory (export "memory") 1 1)
      (global $sp (mut i32) (i32.const 4096))
      (data (i32.const 8192) "{\"ok\":true,\"response\":{\"Output\":\"0\"}}")
      (func (export "__wasm_call_ctors"))
      (func (export "emscripten_stack_init"))
      (func (export "emscripten_stack_get_end") (result i32) (i32.const 16))
      (func (export "emscripten_stack_get_current") (result i32) (global.get $sp))
      (func (export "_emscripten_stack_restore") (param i32) (global.set $sp (local.get 0)))
      (func (export "_emscripten_stack_alloc") (param i32) (result i32)
        (global.set $sp (i32.and (i32.sub (global.get $sp) (local.get 0)) (i32.const -16))) (global.get $sp))
      (func (export "handle") (param i32 i32) (result i32) (local $fp i32) (local $p i32) (local $n i32) (local $t i32)
        (global.set $sp (local.tee $fp (i32.sub (global.get $sp) (i32.const 64))))
        (i32.store (i32.const 12288) (i32.const 16384))
        (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 102)) (then (i32.store (i32.const 12288) (local.get $fp))))
        (local.set $p (i32.load (i32.const 12288)))
        (i32.store (local.get $fp) (i32.const 1))
        (i32.store offset=4 (local.get $fp) (i32.const 3))
        (local.set $n (i32.const 5))
        (loop $again
          (i32.store offset=4 (local.get $fp)
            (i32.add (i32.load (local.get $fp)) (i32.mul (i32.load offset=4 (local.get $fp)) (i32.const 5))))
          (i32.store (local.get $fp) (i32.add (i32.load (local.get $fp)) (i32.load offset=4 (local.get $fp))))
          (local.set $t (i32.add (local.get $t) (i32.load (local.get $p))))
          (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.store8 (i32.const 8226) (i32.add (i32.const 48) (i32.and (local.get $t) (i32.const 7))))
        (global.set $sp (i32.add (local.get $fp) (i32.const 64)))
        (i32.const 8192)))"#;

    #[test]
    fn a_module_that_passes_its_frames_on_is_compiled_again_and_stays_in_its_lanes() {
        let engine = Engine::new(EngineSettings::default()).unwrap();
        let jit = Jit::new(engine, Choice::Required);
        if let Err(error) = jit.open_adapter() {
            assert!(std::env::var_os("LOCKSTEP_REQUIRE_GPU").is_none(), "{error}");
            return eprintln!("skipped: {error}");
        }
        let wasm = wat::parse_str(PASSES_ITS_FRAME_ON).unwrap();
        let program = jit.load(&wasm, ModuleFormat::Emscripten4).unwrap();
        let mut seating = program.lanes().unwrap();
        let call = |message| {
            let time_limit = Duration::from_secs(20);
            Call { message, environment: "{}", seed: "", gas_limit: 9_000_000_000_000, time_limit }
        };
        let mut natives: Vec<_> = (0..32).map(|_| program.instance().unwrap()).collect();
        let mut visit = |seating: &mut dyn Seating, crooked: usize| -> Vec<bool> {
            let message = |at: usize| if at < crooked { "f" } else { "x" };
            let memories: Vec<_> = natives.iter_mut().map(|native| native.memory().to_vec()).collect();
            let visits: Vec<_> = (memories.iter().enumerate())
                .map(|(at, memory)| Visit { stamp: None, memory, call: call(message(at)) })
                .collect();
            let came = seating.evaluate(&visits, Instant::now() + Duration::from_secs(20)).unwrap();
            let natives = natives.iter_mut().enumerate().zip(came);
            let stayed = natives.map(|((at, native), came)| {
                let expected = native.evaluate(&call(message(at))).unwrap();
                match came {
                    Came::Evaluated { evaluation, .. } => {
                        assert_eq!(evaluation.outcome, expected.outcome, "{at}");
                        true
                    }
                    Came::HandedBack(why) => {
                        assert_eq!(why, HandedBack::Bail(Bail::Frame), "{at}");
                        false
                    }
                }
            });
            stayed.collect()
        };
        // Some of them do not spoil it for the others.
        assert_eq!(visit(&mut *seating, 8).iter().filter(|stayed| **stayed).count(), 24);
        assert_eq!(seating.complaint(), None);
        assert_eq!(visit(&mut *seating, 32), [false; 32]);
        assert!(seating.complaint().is_some());
        seating.compile_again().unwrap();
        assert_eq!(seating.complaint(), None);
        assert_eq!(visit(&mut *seating, 32), [true; 32]);
        assert_eq!(visit(&mut *seating, 16), [true; 32]);
        assert_eq!(seating.complaint(), None);
    }
}
