//! Instructions that reach memory, taken apart.

use wasmparser::{MemArg, Operator, ValType};

/// A load or a store.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The type of what it gives or takes.
    pub ty: ValType,
    /// Bytes of memory.
    pub bytes: u32,
    /// Whether it writes.
    pub is_store: bool,
    /// Whether it gives a number with a sign, from fewer bytes than its type has.
    pub is_signed: bool,
    /// Its offset, and how it says it is aligned.
    pub memarg: MemArg,
}

impl Access {
    /// What an instruction does with memory; none if it is no load or store of a scalar.
    pub fn of(op: &Operator<'_>) -> Option<Access> {
        use Operator::*;
        use ValType::{F32, F64, I32, I64};
        let load =
            |ty, bytes, is_signed, memarg: &MemArg| Access { ty, bytes, is_store: false, is_signed, memarg: *memarg };
        let store =
            |ty, bytes, memarg: &MemArg| Access { ty, bytes, is_store: true, is_signed: false, memarg: *memarg };
        Some(match op {
            I32Load { memarg } => load(I32, 4, false, memarg),
            F32Load { memarg } => load(F32, 4, false, memarg),
            I64Load { memarg } => load(I64, 8, false, memarg),
            F64Load { memarg } => load(F64, 8, false, memarg),
            I32Load8U { memarg } => load(I32, 1, false, memarg),
            I32Load8S { memarg } => load(I32, 1, true, memarg),
            I32Load16U { memarg } => load(I32, 2, false, memarg),
            I32Load16S { memarg } => load(I32, 2, true, memarg),
            I64Load8U { memarg } => load(I64, 1, false, memarg),
            I64Load8S { memarg } => load(I64, 1, true, memarg),
            I64Load16U { memarg } => load(I64, 2, false, memarg),
            I64Load16S { memarg } => load(I64, 2, true, memarg),
            I64Load32U { memarg } => load(I64, 4, false, memarg),
            I64Load32S { memarg } => load(I64, 4, true, memarg),
            I32Store { memarg } => store(I32, 4, memarg),
            F32Store { memarg } => store(F32, 4, memarg),
            I64Store { memarg } => store(I64, 8, memarg),
            F64Store { memarg } => store(F64, 8, memarg),
            I32Store8 { memarg } => store(I32, 1, memarg),
            I32Store16 { memarg } => store(I32, 2, memarg),
            I64Store8 { memarg } => store(I64, 1, memarg),
            I64Store16 { memarg } => store(I64, 2, memarg),
            I64Store32 { memarg } => store(I64, 4, memarg),
            _ => return None,
        })
    }
}
