//! A module's kernel: the prelude and the lowered machine, validated.

use std::collections::HashMap;

use naga::valid::{Capabilities, ValidationFlags, Validator};

use super::{
    build::Builder,
    frames,
    layout::{Header, ROW_WORDS},
    lower::{Entry, Lowerer, Refusals},
    plan::Plan,
    program::Program,
    turn::{self, TURN},
};
use crate::{Error, ModuleFormat};

/// How 64-bit integers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Integers {
    /// As the device's own.
    Native,
    /// As pairs of words.
    Pairs,
}

/// What is made of the alignments that a module's accesses hint at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// They are relied on: an access that is not aligned so hands its message back.
    Hinted,
    /// Any access may lie anywhere, which takes twice the accesses to words.
    Any,
}

/// Where loops keep the stack frames that they reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frames {
    /// In locals, where that can be done, and constants of the module's data in the code. What else reaches them hands its
    /// message back.
    InLocals,
    /// In memory, as the module says; so are constants.
    InMemory,
}

/// What is taken for granted of a module. Where it does not hold, messages are handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trust {
    /// How accesses are aligned.
    pub alignment: Alignment,
    /// How stack frames are used.
    pub frames: Frames,
}

impl Trust {
    /// As much as makes the fastest kernel.
    pub const FULL: Trust = Trust { alignment: Alignment::Hinted, frames: Frames::InLocals };
}

/// How a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// How 64-bit integers are computed.
    pub integers: Integers,
    /// What is taken for granted.
    pub trust: Trust,
}

/// Memory accesses that a kernel may have: drivers' compile time goes with the square of their number.
const ACCESSES_MAX: u32 = 1_500;

/// Expressions that a kernel may have, calls of the prelude written out. At 300,000, sums of floats, lavapipe compiled for 24 s
/// on a busy machine and took 450 MB; the largest of the shipped processes has 65,000.
pub const EXPRESSIONS_MAX: usize = 400_000;

/// States that a machine may have: every turn of it goes past all of them.
const STATES_MAX: u32 = 4_000;

/// Blocks that may be open inside each other: drivers go through them by recursion.
pub const LEVELS_MAX: usize = 250;

/// More globals than this do not fit a header.
const GLOBALS_MAX: usize = 512;

/// A module compiled for lanes, not yet by a driver.
#[derive(Debug)]
pub struct Kernel {
    /// The kernel; its entry point is `main`.
    pub module: naga::Module,
    /// What can be called, by export name.
    pub entries: HashMap<String, Entry>,
    /// The tables' entries, as the kernel reads them.
    pub tables: Vec<u32>,
    /// The globals as their declarations say, as bits; 0 where only an instance knows.
    pub initial_globals: Vec<u64>,
    /// Pages that its memory may grow to.
    pub pages_max: u32,
    /// What makes a lane bail if it is reached: by function, what.
    pub refusals: Refusals,
    /// Places that reach memory.
    pub accesses: u32,
    /// States of the machine.
    pub states: u32,
    /// Rows of words that a lane keeps from dispatch to dispatch.
    pub kept_rows: u32,
}

impl Kernel {
    /// Words that a lane keeps from dispatch to dispatch.
    pub fn kept_words(&self) -> u32 {
        self.kept_rows * ROW_WORDS
    }

    /// Compiles what the named exports reach.
    ///
    /// # Errors
    /// [`Error::Module`] for what is no valid module, has no such exports, or is too large for a kernel; it says which.
    pub fn compile(wasm: &[u8], inject: bool, form: Form, exports: &[&str]) -> Result<Kernel, Error> {
        Kernel::of_read(|| Program::read(wasm, inject), form, exports)
    }

    /// Compiles what a message to a process reaches.
    ///
    /// # Errors
    /// As [`Kernel::compile`].
    pub fn of_process(wasm: &[u8], format: ModuleFormat, form: Form) -> Result<Kernel, Error> {
        let read = || {
            let mut program = Program::read(wasm, format.is_metered())?;
            turn::add(&mut program, format)?;
            Ok(program)
        };
        Kernel::of_read(read, form, &[TURN])
    }

    /// With frames in locals if the form says so; if that is too large a kernel, without.
    fn of_read<'a>(
        read: impl Fn() -> Result<Program<'a>, Error>,
        form: Form,
        exports: &[&str],
    ) -> Result<Kernel, Error> {
        let mut program = read()?;
        if form.trust.frames == Frames::InLocals && frames::promote(&mut program) {
            if let Ok(kernel) = Kernel::of_program(&program, form, exports) {
                return Ok(kernel);
            }
            program = read()?;
        }
        Kernel::of_program(&program, form, exports)
    }

    pub(super) fn of_program(program: &Program<'_>, form: Form, exports: &[&str]) -> Result<Kernel, Error> {
        let refused = |why: String| Error::Module(format!("lanes cannot take it: {why}"));
        if program.globals.len() > GLOBALS_MAX {
            return Err(refused(format!("{} globals, of at most {GLOBALS_MAX}", program.globals.len())));
        }
        let mut functions = Vec::new();
        for name in exports {
            let function = program.exports.get(*name);
            let function = *function.ok_or_else(|| refused(format!("it exports no function `{name}`")))?;
            let ty = program.function_type(function);
            let values = ty.params().len().max(ty.results().len());
            if values > Header::VALUES_MAX {
                return Err(refused(format!(
                    "`{name}` takes or gives {values} values, of at most {}",
                    Header::VALUES_MAX
                )));
            }
            functions.push(function);
        }
        let plan = Plan::new(program, &functions);
        let mut builder = Builder::new(prelude(form.integers)?);
        let lowered = Lowerer::lower(program, &plan, form.trust.alignment, &mut builder, &functions);
        if let Some(why) = lowered.too_large {
            return Err(refused(why));
        }
        if lowered.states > STATES_MAX {
            return Err(refused(format!("{} calls and loops, of at most {STATES_MAX}", lowered.states)));
        }
        if lowered.accesses > ACCESSES_MAX {
            return Err(refused(format!("{} memory accesses, of at most {ACCESSES_MAX}", lowered.accesses)));
        }
        let mut module = builder.finish();
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SHADER_INT64);
        validator
            .validate(&module)
            .map_err(|e| refused(format!("the kernel is not valid: {}", e.emit_to_string(""))))?;
        naga::compact::compact(&mut module, naga::compact::KeepUnused::No);
        Ok(Kernel {
            module,
            entries: exports.iter().map(|name| (*name).to_owned()).zip(lowered.entries).collect(),
            tables: lowered.tables,
            initial_globals: program.globals.iter().map(|global| global.initial.unwrap_or(0)).collect(),
            pages_max: program.pages_max.unwrap_or(0).min(u64::from(u32::MAX)) as u32,
            refusals: lowered.refusals,
            accesses: lowered.accesses,
            states: lowered.states,
            kept_rows: lowered.kept_rows,
        })
    }
}

fn prelude(integers: Integers) -> Result<naga::Module, Error> {
    let wide = match integers {
        Integers::Native => include_str!("wgsl/wide_u64.wgsl"),
        Integers::Pairs => include_str!("wgsl/wide_pair.wgsl"),
    };
    let source = [
        wide,
        include_str!("wgsl/integers.wgsl"),
        include_str!("wgsl/float_words.wgsl"),
        include_str!("wgsl/float32.wgsl"),
        include_str!("wgsl/float64.wgsl"),
        include_str!("wgsl/float_convert.wgsl"),
        include_str!("wgsl/machine.wgsl"),
    ]
    .concat();
    naga::front::wgsl::parse_str(&source)
        .map_err(|e| Error::host("the lanes' prelude cannot be read", e.emit_to_string(&source)))
}
