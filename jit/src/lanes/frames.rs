//! Frames become locals.
//!
//! C keeps arrays and whatever has an address on a stack in linear memory, where a lane's accesses are slow and each
//! costs the driver compile time. Here loops are rewritten so that the part of the stack which they reach at known
//! addresses is in locals for as long as they last: it is loaded before the loop and stored behind it. For that the
//! functions that a loop calls are compiled into it, and loops within whose turns are known beforehand are written out,
//! which makes addresses of an array's elements known. Loads of constants that the module brings along become these
//! constants.
//!
//! It is WebAssembly before and after, and does the same to the bit, gas and all memory included; what that rests on is
//! checked when a lane gets there, and where it does not hold the lane hands its message back: frames lie in memory,
//! and aligned; called functions have put the stack pointer back; nothing else in the loop reaches those bytes;
//! constants are what they were, and nothing writes there.

mod access;
mod known;
mod region;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashMap;

use wasmparser::{BinaryReader, BrTable, Operator, OperatorsReader, ValType};

pub use self::access::Access;
use self::walk::Walker;
use super::{plan, program::Program};

/// What a call of this function does: hands the message back if the number that it takes is not 0.
pub const GUARD: u32 = u32::MAX - 1;

/// Instructions that are looked at for one module, so that hostile ones do not take long.
const WORK_MAX: usize = 4_000_000;

/// Instructions that all rewritten functions may have.
const OPERATORS_MAX: usize = 100_000;

/// Functions with more locals, or instructions, are left as they are.
const LOCALS_MAX: usize = 1_000;
const FUNCTION_OPERATORS_MAX: usize = 50_000;

/// Blocks that may be open inside each other: kernels have no more.
const DEPTH_MAX: usize = super::kernel::LEVELS_MAX;

/// Rewrites a module's functions where that makes lanes reach memory in fewer places. Whether it did.
pub fn promote(program: &mut Program<'_>) -> bool {
    let Some(pointer) = stack_pointer(program) else { return false };
    if program.is_64 || program.pages_min == 0 {
        return false;
    }
    // Each of their locals would have to be saved across calls.
    let twice = plan::active_twice(program);
    let (mut work, mut operators, mut is_changed) = (WORK_MAX, 0, false);
    for (at, number) in (0..program.functions.len()).zip(program.imports.len() as u32..) {
        let function = &program.functions[at];
        if twice.contains(&number) || !is_candidate(function.locals.len(), &function.ops, pointer) {
            continue;
        }
        let walked = Walker::walk_function(program, pointer, function, program.constants, &mut work);
        let Some(walked) = walked else { continue };
        operators += walked.ops.len();
        if operators > OPERATORS_MAX {
            break;
        }
        program.constants = walked.constants;
        let function = &mut program.functions[at];
        (function.locals, function.ops, is_changed) = (walked.locals, walked.ops, true);
    }
    is_changed
}

/// Whether a function has a frame and a loop, and is not out of all proportion.
fn is_candidate(locals: usize, ops: &[(Operator<'_>, u64)], pointer: u32) -> bool {
    let is_pointer = |op: &Operator<'_>| matches!(op, Operator::GlobalGet { global_index } if *global_index == pointer);
    let (mut depth, mut deepest) = (0usize, 0);
    for (op, _) in ops {
        match op {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    locals <= LOCALS_MAX
        && ops.len() <= FUNCTION_OPERATORS_MAX
        && deepest <= DEPTH_MAX
        && ops.iter().any(|(op, _)| is_pointer(op))
        && ops.iter().any(|(op, _)| matches!(op, Operator::Loop { .. }))
}

/// The global that functions take their frames from, if there is one.
fn stack_pointer(program: &Program<'_>) -> Option<u32> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for function in &program.functions {
        for four in function.ops.windows(4) {
            if let [
                (Operator::GlobalGet { global_index }, _),
                (Operator::I32Const { .. }, _),
                (Operator::I32Sub, _),
                (Operator::LocalTee { .. } | Operator::LocalSet { .. }, _),
            ] = four
            {
                *counts.entry(*global_index).or_default() += 1;
            }
        }
    }
    let is_pointer = |global: &u32| {
        program.globals.get(*global as usize).is_some_and(|global| global.is_mutable && global.ty == ValType::I32)
    };
    let (global, _) =
        counts.into_iter().filter(|(global, _)| is_pointer(global)).max_by_key(|(g, n)| (*n, u32::MAX - g))?;
    Some(global)
}

/// An instruction that gives a number, by its bits; none for vectors and references.
fn number(ty: ValType, bits: u64) -> Option<Operator<'static>> {
    Some(match ty {
        ValType::I32 => Operator::I32Const { value: bits as i32 },
        ValType::I64 => Operator::I64Const { value: bits as i64 },
        ValType::F32 => Operator::F32Const { value: f32::from_bits(bits as u32).into() },
        ValType::F64 => Operator::F64Const { value: f64::from_bits(bits).into() },
        ValType::V128 | ValType::Ref(_) => return None,
    })
}

/// `br_table 0 1 2 ...`, as it stands in a module: its byte, how many targets, these, and the one for the rest.
const ASCENDING_MAX: usize = 40;
static ASCENDING: [[u8; ASCENDING_MAX + 3]; ASCENDING_MAX] = {
    let mut all = [[0; ASCENDING_MAX + 3]; ASCENDING_MAX];
    let mut count = 0;
    while count < ASCENDING_MAX {
        (all[count][0], all[count][1]) = (0x0e, count as u8);
        let mut target = 0;
        while target <= count {
            all[count][2 + target] = target as u8;
            target += 1;
        }
        count += 1;
    }
    all
};

/// Targets 0 up to `last`, which is also that of all greater numbers.
fn ascending(last: usize) -> BrTable<'static> {
    let bytes = ASCENDING.get(last).expect("more words than a loop keeps in locals");
    match OperatorsReader::new(BinaryReader::new(bytes, 0)).read() {
        Ok(Operator::BrTable { targets }) => targets,
        other => unreachable!("the bytes above are such an instruction: {other:?}"),
    }
}
