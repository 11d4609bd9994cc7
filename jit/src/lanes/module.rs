//! A module whose processes can be lanes: its kernel, and what every process begins with.

use std::sync::Arc;

use lockstep_shaders::device::Device;

use super::{
    group::Compiled,
    kernel::{Form, Integers, Kernel, Trust},
    layout::{PAGE_BYTES, Shape},
};
use crate::{Error, Module};

/// Words of nested calls that a lane has room for.
const STACK_WORDS: u32 = 2048;

/// A module compiled for a device. Cheap to clone.
#[derive(Clone)]
pub struct Lanes {
    pub(super) module: Module,
    pub(super) compiled: Arc<Compiled>,
    /// What every process begins with.
    pub(super) memory: Arc<Vec<u8>>,
    pub(super) globals: Arc<Vec<u64>>,
}

impl Lanes {
    /// Compiles a module for a device. Blocks: seconds for a large module.
    ///
    /// # Errors
    /// [`Error::Module`] if lanes cannot take the module, with the reason; [`Error::Host`] for the driver's refusal.
    pub fn new(device: &Device, module: &Module, wasm: &[u8], trust: Trust) -> Result<Lanes, Error> {
        let integers = if device.found.int64 { Integers::Native } else { Integers::Pairs };
        let kernel = Kernel::of_process(wasm, module.format(), Form { integers, trust })?;
        let begins = module.begins()?;
        let mut globals = kernel.initial_globals.clone();
        for (at, value) in begins.globals {
            globals[at] = value;
        }
        let compiled = Compiled::new(device, kernel).map_err(|e| Error::host("lanes", e))?;
        let (memory, globals) = (Arc::new(begins.memory), Arc::new(globals));
        Ok(Lanes { module: module.clone(), compiled, memory, globals })
    }

    /// Lanes with room for texts of so many bytes and a memory of so many, no less than what processes begin with.
    pub fn shape(&self, text_bytes: usize, memory_bytes: usize) -> Shape {
        let pages = memory_bytes.max(self.memory.len()).div_ceil(PAGE_BYTES as usize);
        let inbox = u32::try_from(text_bytes / 4 + 4).unwrap_or(u32::MAX);
        self.compiled.shape(inbox, STACK_WORDS, u32::try_from(pages).unwrap_or(u32::MAX))
    }

    /// How many processes of a shape fit one group.
    pub fn processes_max(&self, shape: &Shape) -> u32 {
        self.compiled.lanes_max(shape)
    }
}
