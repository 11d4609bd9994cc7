//! The product's engines: Cranelift's code for every module, and lanes on the adapters that the operator chose, which are
//! opened when the first module is to be compiled for them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lockstep_jit::{
    Call, Engine, Error, Evaluation, Instance, Module, ModuleFormat,
    gpu::{Choice, Device, OpenError},
    lanes::{Change, Stamp},
};

use super::{Evaluator, Live, Program, Seating, seated::Seated};

/// Larger modules are not kept for lanes, whose kernels are much smaller.
const WASM_BYTES_MAX: usize = 1 << 20;

/// Both engines.
pub(crate) struct Jit {
    engine: Engine,
    adapters: Arc<Adapters>,
    keeps_wasm: bool,
}

impl Jit {
    /// `choice`: the adapter on which lanes run, and with it all that are like it.
    pub(crate) fn new(engine: Engine, choice: Choice) -> Self {
        let keeps_wasm = choice != Choice::Off;
        let adapters = Arc::new(Adapters { choice, devices: Mutex::default() });
        Self { engine, adapters, keeps_wasm }
    }

    /// Opens the adapters now, and tells whether that can be done. Blocking.
    ///
    /// # Errors
    /// There is none, or the driver refuses.
    pub(crate) fn open_adapters(&self) -> Result<(), Error> {
        self.adapters.devices().map(drop)
    }
}

impl Evaluator for Jit {
    fn load(&self, wasm: &[u8], format: ModuleFormat) -> Result<Arc<dyn Program>, Error> {
        let module = self.engine.load(wasm, format)?;
        let wasm = (self.keeps_wasm && wasm.len() <= WASM_BYTES_MAX).then(|| Arc::from(wasm));
        Ok(Arc::new(Loaded { module, wasm, adapters: Arc::clone(&self.adapters) }))
    }
}

/// The adapters for lanes.
struct Adapters {
    choice: Choice,
    devices: Mutex<Vec<Device>>,
}

impl Adapters {
    /// The devices, opened if they are not, and all of them again if one was lost. `Error::Module`: there are none to open.
    fn devices(&self) -> Result<Vec<Device>, Error> {
        let mut held = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_empty() || held.iter().any(Device::is_lost) {
            held.clear();
            *held = Device::open_all(&self.choice).map_err(|error| match error {
                // That does not change while the unit runs, and is no fault where nobody asked for lanes.
                OpenError::NoAdapter { .. } => Error::Module(error.to_string()),
                other => Error::Host(format!("lanes: {other}")),
            })?;
        }
        match held.is_empty() {
            true => Err(Error::Host("lanes have no adapter: the GPU is off".into())),
            false => Ok(held.clone()),
        }
    }
}

struct Loaded {
    module: Module,
    /// If lanes may want it.
    wasm: Option<Arc<[u8]>>,
    adapters: Arc<Adapters>,
}

impl Program for Loaded {
    fn instance(&self) -> Result<Box<dyn Live>, Error> {
        Ok(Box::new(Instance::new(&self.module)?))
    }

    fn lanes(&self) -> Result<Box<dyn Seating>, Error> {
        let Some(wasm) = &self.wasm else {
            return Err(Error::Module(format!("lanes take modules of at most {WASM_BYTES_MAX} bytes")));
        };
        let devices = self.adapters.devices()?;
        Ok(Box::new(Seated::new(devices, &self.module, wasm)?))
    }

    fn code_bytes(&self) -> u64 {
        self.module.code_bytes()
    }

    fn compile_time(&self) -> Duration {
        self.module.compile_time()
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
    use std::time::Instant;

    use lockstep_jit::{
        EngineSettings,
        lanes::{Bail, Came, HandedBack, Visit},
    };

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
        (i32.store8 (i32.const 8225) (i32.add (i32.const 48) (i32.and (local.get $t) (i32.const 7))))
        (global.set $sp (i32.add (local.get $fp) (i32.const 64)))
        (i32.const 8192)))"#;

    const TIME_LIMIT: Duration = Duration::from_secs(60);

    fn call(message: &str) -> Call<'_> {
        Call { message, environment: "{}", seed: "", gas_limit: 9_000_000_000_000, time_limit: TIME_LIMIT }
    }

    /// The module, and the adapters that there are; none: there need not be any.
    fn loaded() -> Option<(Module, Arc<[u8]>, Adapters)> {
        let engine = Engine::new(EngineSettings::default()).unwrap();
        let adapters = Adapters { choice: Choice::Required, devices: Mutex::default() };
        if let Err(error) = adapters.devices() {
            assert!(std::env::var_os("LOCKSTEP_REQUIRE_GPU").is_none(), "{error}");
            eprintln!("skipped: {error}");
            return None;
        }
        let wasm = wat::parse_str(PASSES_ITS_FRAME_ON).unwrap();
        Some((engine.load(&wasm, ModuleFormat::Emscripten4).unwrap(), wasm.into(), adapters))
    }

    #[test]
    fn several_adapters_share_a_group_and_keep_their_processes() {
        let Some((module, wasm, adapters)) = loaded() else { return };
        // One that is opened twice is as good as two.
        let mut devices = adapters.devices().unwrap();
        devices.truncate(1);
        devices.extend(Device::open(&Choice::Required).unwrap());
        let mut seated = Seated::new(devices.clone(), &module, &wasm).unwrap();
        assert!(seated.adapter().starts_with("2 x "), "{}", seated.adapter());
        let mut natives: Vec<_> = (0..150).map(|_| Instance::new(&module).unwrap()).collect();
        let mut expected = Instance::new(&module).unwrap();
        let mut places = Vec::new();
        for round in 0..3 {
            let memories: Vec<_> = natives.iter_mut().map(|native| native.memory().to_vec()).collect();
            let visits: Vec<_> = natives
                .iter()
                .zip(&memories)
                .map(|(native, memory)| Visit { stamp: native.stamp(), memory, call: call("x") })
                .collect();
            let came = seated.evaluate(&visits, Instant::now() + TIME_LIMIT).unwrap();
            let outcome = expected.evaluate(&call("x")).unwrap().outcome;
            for (native, came) in natives.iter_mut().zip(came) {
                let Came::Evaluated { evaluation, change: Some(change) } = came else { panic!("{came:?}") };
                assert_eq!(evaluation.outcome, outcome);
                native.take_over(&change).unwrap();
                assert!(native.memory() == expected.memory());
            }
            let now: Vec<_> = natives.iter().map(|native| seated.place_of(native.stamp()?)).collect();
            assert_eq!(now.iter().filter(|place| **place == Some(1)).count(), 75);
            assert!(round == 0 || now == places, "each stays where its memory is: {now:?}, not {places:?}");
            places = now;
            // They come in another order.
            natives.rotate_left(40);
            places.rotate_left(40);
        }
        devices[1].destroy();
        let visits = vec![Visit { stamp: None, memory: natives[0].memory(), call: call("x") }; 150];
        assert!(seated.evaluate(&visits, Instant::now() + TIME_LIMIT).is_err());
    }

    #[test]
    fn adapters_of_which_one_was_lost_are_opened_again() {
        let Some((module, wasm, adapters)) = loaded() else { return };
        let devices = adapters.devices().unwrap();
        let mut seated = Seated::new(devices.clone(), &module, &wasm).unwrap();
        let mut native = Instance::new(&module).unwrap();
        let visits = [Visit { stamp: None, memory: native.memory(), call: call("x") }];
        assert!(seated.evaluate(&visits, Instant::now() + TIME_LIMIT).is_ok());
        devices[0].destroy();
        assert!(seated.evaluate(&visits, Instant::now() + TIME_LIMIT).is_err());
        let mut seated = Seated::new(adapters.devices().unwrap(), &module, &wasm).unwrap();
        assert!(seated.evaluate(&visits, Instant::now() + TIME_LIMIT).is_ok());
    }

    #[test]
    fn a_module_that_passes_its_frames_on_is_compiled_again_and_stays_in_its_lanes() {
        let Some((module, wasm, adapters)) = loaded() else { return };
        let mut seating = Seated::new(adapters.devices().unwrap(), &module, &wasm).unwrap();
        let mut natives: Vec<_> = (0..32).map(|_| Instance::new(&module).unwrap()).collect();
        let mut visit = |seating: &mut dyn Seating, crooked: usize| -> Vec<bool> {
            let message = |at: usize| if at < crooked { "f" } else { "x" };
            let memories: Vec<_> = natives.iter_mut().map(|native| native.memory().to_vec()).collect();
            let visits: Vec<_> = (memories.iter().enumerate())
                .map(|(at, memory)| Visit { stamp: None, memory, call: call(message(at)) })
                .collect();
            let came = seating.evaluate(&visits, Instant::now() + TIME_LIMIT).unwrap();
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
        assert_eq!(visit(&mut seating, 8).iter().filter(|stayed| **stayed).count(), 24);
        assert_eq!(seating.complaint(), None);
        assert_eq!(visit(&mut seating, 32), [false; 32]);
        assert!(seating.complaint().is_some());
        seating.compile_again().unwrap();
        assert_eq!(seating.complaint(), None);
        assert_eq!(visit(&mut seating, 32), [true; 32]);
        assert_eq!(visit(&mut seating, 16), [true; 32]);
        assert_eq!(seating.complaint(), None);
    }
}
