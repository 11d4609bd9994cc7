//! What an instruction costs, and where segments end: the metering of `@permaweb/wasm-metering` 0.2.2, to the unit.
//!
//! A segment is a run of instructions that ends with a branching one; its whole cost is charged before it runs, plus
//! the cost of charging itself. Source of the figures: the cost table that the package ships.

use wasmparser::Operator;

/// Gas added to every charged segment: the `const` and the `call` that the reference inserts.
pub const SEGMENT_OVERHEAD: u64 = 91;

/// Compute-Limit where neither module nor process names one (the JavaScript loader's default).
pub const DEFAULT_LIMIT: u64 = 9_000_000_000_000_000;

/// Whether a segment ends after this instruction.
pub fn ends_segment(op: &Operator<'_>) -> bool {
    matches!(
        op,
        Operator::MemoryGrow { .. }
            | Operator::End
            | Operator::Br { .. }
            | Operator::BrTable { .. }
            | Operator::BrIf { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::Return
            | Operator::Loop { .. }
    )
}

/// Gas of one instruction. The reference's table goes by the name without its type, so a float `add` costs what an
/// integer `add` does, and names that the table lacks (float division and ordering, conversions) cost nothing.
pub fn cost(op: &Operator<'_>) -> u64 {
    use Operator::*;
    match op {
        LocalGet { .. } | LocalSet { .. } | LocalTee { .. } | GlobalGet { .. } | GlobalSet { .. } => 120,
        I32Load { .. } | I64Load { .. } | F32Load { .. } | F64Load { .. } => 120,
        I32Load8S { .. } | I32Load8U { .. } | I32Load16S { .. } | I32Load16U { .. } => 120,
        I64Load8S { .. } | I64Load8U { .. } | I64Load16S { .. } | I64Load16U { .. } => 120,
        I64Load32S { .. } | I64Load32U { .. } => 120,
        I32Store { .. } | I64Store { .. } | F32Store { .. } | F64Store { .. } => 120,
        I32Store8 { .. } | I32Store16 { .. } => 120,
        I64Store8 { .. } | I64Store16 { .. } | I64Store32 { .. } => 120,
        Drop | Select | BrTable { .. } => 120,
        MemoryGrow { .. } | CallIndirect { .. } => 10_000,
        MemorySize { .. } => 100,
        Nop | Block { .. } | Loop { .. } | If { .. } | Unreachable => 1,
        I32Const { .. } | I64Const { .. } | F32Const { .. } | F64Const { .. } => 1,
        Else | Br { .. } | BrIf { .. } | Return | Call { .. } => 90,
        I32Add | I32Sub | I32Mul | I64Add | I64Sub | I64Mul => 45,
        F32Add | F32Sub | F32Mul | F64Add | F64Sub | F64Mul => 45,
        I32And | I32Or | I32Xor | I64And | I64Or | I64Xor => 45,
        I32Eq | I32Ne | I32Eqz | I64Eq | I64Ne | I64Eqz | F32Eq | F32Ne | F64Eq | F64Ne => 45,
        I32LtS | I32LtU | I32GtS | I32GtU | I32LeS | I32LeU | I32GeS | I32GeU => 45,
        I64LtS | I64LtU | I64GtS | I64GtU | I64LeS | I64LeU | I64GeS | I64GeU => 45,
        I32Clz | I32Ctz | I32Popcnt | I64Clz | I64Ctz | I64Popcnt => 45,
        I32DivS | I32DivU | I32RemS | I32RemU | I64DivS | I64DivU | I64RemS | I64RemU => 36_000,
        I32Shl | I32ShrS | I32ShrU | I64Shl | I64ShrS | I64ShrU => 67,
        I32Rotl | I32Rotr | I64Rotl | I64Rotr => 90,
        _ => 0,
    }
}

/// Whether the reference's metering tool can read the instruction at all: the MVP and sign extension. It crashes on
/// any other, so such modules cannot be used under a metering format.
pub fn is_meterable(op: &Operator<'_>) -> bool {
    use Operator::*;
    let mvp = cost(op) > 0
        || matches!(
            op,
            End | F32Lt
                | F32Gt
                | F32Le
                | F32Ge
                | F64Lt
                | F64Gt
                | F64Le
                | F64Ge
                | F32Abs
                | F32Neg
                | F32Ceil
                | F32Floor
                | F32Trunc
                | F32Nearest
                | F32Sqrt
                | F32Div
                | F32Min
                | F32Max
                | F32Copysign
                | F64Abs
                | F64Neg
                | F64Ceil
                | F64Floor
                | F64Trunc
                | F64Nearest
                | F64Sqrt
                | F64Div
                | F64Min
                | F64Max
                | F64Copysign
        );
    mvp || matches!(
        op,
        I32WrapI64
            | I32TruncF32S
            | I32TruncF32U
            | I32TruncF64S
            | I32TruncF64U
            | I64ExtendI32S
            | I64ExtendI32U
            | I64TruncF32S
            | I64TruncF32U
            | I64TruncF64S
            | I64TruncF64U
            | F32ConvertI32S
            | F32ConvertI32U
            | F32ConvertI64S
            | F32ConvertI64U
            | F32DemoteF64
            | F64ConvertI32S
            | F64ConvertI32U
            | F64ConvertI64S
            | F64ConvertI64U
            | F64PromoteF32
            | I32ReinterpretF32
            | I64ReinterpretF64
            | F32ReinterpretI32
            | F64ReinterpretI64
            | I32Extend8S
            | I32Extend16S
            | I64Extend8S
            | I64Extend16S
            | I64Extend32S
    )
}
