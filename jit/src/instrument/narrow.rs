//! 64-bit memories made into 32-bit ones.
//!
//! A 32-bit memory whose whole address space is reserved needs no bounds checks: the hardware faults. A 64-bit memory
//! needs one at every access, and each delays its access, since what guards against speculation is part of the address.
//! So a memory that can never exceed [`PAGES_MAX`] becomes a 32-bit one, and what is left of the check is whether an
//! address has upper bits: if it has, the access is out of bounds whatever the memory's size. That is asked once for each
//! value, beside the access and not before it: [`Known`] follows which locals have been seen to have none.

use wasm_encoder::{
    BlockType, DataSection, DataSegment, DataSegmentMode, Instruction, MemArg, MemoryType, ValType, reencode::Reencode,
};
use wasmparser::{FrameKind, Operator};

use super::{
    flow::{Facts, Flow},
    survey::{Survey, small_offset},
    writer::{Scratch, Writer},
};

/// Most pages a memory may be allowed and still be narrowed: with one more, the address behind the last byte, which a
/// bulk instruction of length zero may name, would have upper bits.
pub const PAGES_MAX: u64 = 65_535;

/// Largest address without upper bits.
const NARROW_MAX: i64 = 0xffff_ffff;

/// Locals that are followed. Later ones count as unknown, so that a hostile body costs no more than its length.
const FOLLOWED: usize = 1024;

/// A set of followed locals.
#[derive(Clone, Copy)]
struct Locals([u64; FOLLOWED / 64]);

impl Locals {
    const NONE: Self = Self([0; FOLLOWED / 64]);
    const ALL: Self = Self([u64::MAX; FOLLOWED / 64]);

    fn contains(&self, local: u32) -> bool {
        (local as usize) < FOLLOWED && self.0[local as usize / 64] >> (local % 64) & 1 != 0
    }

    fn set(&mut self, local: u32, member: bool) {
        if (local as usize) < FOLLOWED {
            let bit = 1 << (local % 64);
            let word = &mut self.0[local as usize / 64];
            *word = if member { *word | bit } else { *word & !bit };
        }
    }

    fn map(&mut self, other: &Self, f: impl Fn(u64, u64) -> u64) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = f(*mine, *theirs);
        }
    }
}

impl Facts for Locals {
    fn meet(&mut self, other: &Self) {
        self.map(other, |a, b| a & b);
    }
}

/// What is known of a value on the operand stack.
#[derive(Clone, Copy, Default)]
enum Operand {
    #[default]
    Unknown,
    /// It has no upper bits.
    Narrow,
    /// It is what a local held after its `version`-th assignment.
    Local { index: u32, version: u32 },
    /// It is this constant.
    Constant(i64),
}

/// Follows one body, instruction by instruction: which operands and locals have no upper bits.
pub struct Known<'a> {
    /// The facts are the locals without upper bits.
    flow: Flow<'a, Operand, Locals>,
    versions: Vec<u32>,
    /// Locals assigned inside each loop, by the loops' order in the body.
    assigned: std::vec::IntoIter<Locals>,
}

impl<'a> Known<'a> {
    /// At the begin of a body with `params` parameters. All other locals begin as zero.
    pub fn new<'o>(
        survey: &'a Survey,
        body_type: u32,
        params: u32,
        ops: impl Iterator<Item = &'o Operator<'o>>,
    ) -> Self {
        let mut narrow = Locals::ALL;
        for param in 0..params.min(FOLLOWED as u32) {
            narrow.set(param, false);
        }
        Self {
            flow: Flow::new(survey, body_type, narrow),
            versions: vec![0; FOLLOWED],
            assigned: assigned_in_loops(ops).into_iter(),
        }
    }

    /// Whether the operand `depth` below the top is known to have no upper bits.
    fn is_narrow(&self, depth: usize) -> bool {
        match self.peek(depth) {
            Operand::Unknown => false,
            Operand::Narrow => true,
            Operand::Local { index, .. } => self.flow.facts.contains(index),
            Operand::Constant(c) => (0..=NARROW_MAX).contains(&c),
        }
    }

    /// Takes note that the operand `depth` below the top has been checked.
    fn checked(&mut self, depth: usize) {
        if let Operand::Local { index, .. } = self.peek(depth) {
            self.flow.facts.set(index, true);
        }
    }

    fn peek(&self, depth: usize) -> Operand {
        match self.flow.peek(depth) {
            Operand::Local { index, version } if self.versions[index as usize] != version => Operand::Unknown,
            operand => operand,
        }
    }

    fn local(&self, index: u32) -> Operand {
        let version = self.versions.get(index as usize);
        version.map_or(Operand::Unknown, |version| Operand::Local { index, version: *version })
    }

    fn assign(&mut self, local: u32) {
        let narrow = self.is_narrow(0);
        self.flow.pop();
        self.flow.facts.set(local, narrow);
        if let Some(version) = self.versions.get_mut(local as usize) {
            *version += 1;
        }
    }

    /// Follows `op`.
    pub fn follow(&mut self, op: &Operator<'_>) {
        let arity = self.flow.arity(op);
        match *op {
            Operator::LocalGet { local_index } => self.flow.push(self.local(local_index)),
            Operator::LocalSet { local_index } => self.assign(local_index),
            Operator::LocalTee { local_index } => {
                self.assign(local_index);
                self.flow.push(self.local(local_index));
            }
            Operator::I64Const { value } => self.flow.push(Operand::Constant(value)),
            Operator::I64And => {
                let narrow = self.is_narrow(0) || self.is_narrow(1);
                self.flow.replace(arity, if narrow { Operand::Narrow } else { Operand::Unknown });
            }
            Operator::Block { blockty } => self.flow.enter(FrameKind::Block, blockty, arity.0, None),
            Operator::Loop { blockty } => {
                // At the head holds only what no assignment inside can change.
                let assigned = self.assigned.next().unwrap_or(Locals::ALL);
                self.flow.facts.map(&assigned, |known, assigned| known & !assigned);
                self.flow.enter(FrameKind::Loop, blockty, arity.0, None);
            }
            Operator::If { blockty } => {
                self.flow.pop();
                let facts = self.flow.facts;
                self.flow.enter(FrameKind::If, blockty, arity.0.saturating_sub(1), Some(facts));
            }
            Operator::Else => self.flow.otherwise(),
            Operator::End => drop(self.flow.end()),
            Operator::BrIf { relative_depth } => {
                self.flow.pop();
                let facts = self.flow.facts;
                self.flow.branch(relative_depth, &facts);
            }
            _ if self.flow.jump(op) => {}
            _ => self.flow.replace(arity, if gives_narrow(op) { Operand::Narrow } else { Operand::Unknown }),
        }
    }
}

fn gives_narrow(op: &Operator<'_>) -> bool {
    use Operator::*;
    matches!(op, I64ExtendI32U | I64Load8U { .. } | I64Load16U { .. } | I64Load32U { .. } | MemorySize { .. })
}

fn assigned_in_loops<'o>(ops: impl Iterator<Item = &'o Operator<'o>>) -> Vec<Locals> {
    let mut found: Vec<Locals> = Vec::new();
    // For each open block, whether it is a loop; and the open loops.
    let mut open: Vec<bool> = Vec::new();
    let mut loops: Vec<usize> = Vec::new();
    for op in ops {
        match op {
            Operator::Block { .. } | Operator::If { .. } => open.push(false),
            Operator::Loop { .. } => {
                open.push(true);
                loops.push(found.len());
                found.push(Locals::NONE);
            }
            Operator::End if open.pop() == Some(true) => {
                if let (Some(inner), Some(outer)) = (loops.pop(), loops.last()) {
                    let inner = found[inner];
                    found[*outer].map(&inner, |a, b| a | b);
                }
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                if let Some(innermost) = loops.last() {
                    found[*innermost].set(*local_index, true);
                }
            }
            _ => {}
        }
    }
    found
}

/// Writes `op` as it has to be over a narrowed memory; `encoded` is the same instruction as it was.
pub fn lower(known: &mut Known<'_>, out: &mut Writer, op: &Operator<'_>, encoded: &Instruction<'_>) {
    match access(op) {
        Some(Access::Load) => {
            address(known, out, 0);
            out.put(encoded);
            return;
        }
        Some(Access::Store(value)) => {
            let value = out.scratch.of(value);
            out.put(&Instruction::LocalSet(value));
            address(known, out, 1);
            out.put(&Instruction::LocalGet(value)).put(encoded);
            return;
        }
        None => {}
    }
    let Scratch { i64s: [a, b, c], i32s: [x, y], .. } = out.scratch;
    match op {
        Operator::MemorySize { .. } => {
            out.put(encoded).put(&Instruction::I64ExtendI32U);
        }
        Operator::MemoryGrow { .. } => {
            out.put(&Instruction::LocalTee(a)).put(&Instruction::I64Const(PAGES_MAX as i64)).put(&Instruction::I64GtU);
            out.put(&Instruction::If(BlockType::Result(ValType::I64)))
                .put(&Instruction::I64Const(-1))
                .put(&Instruction::Else)
                .put(&Instruction::LocalGet(a))
                .put(&Instruction::I32WrapI64)
                .put(encoded)
                .put(&Instruction::I64ExtendI32S)
                .put(&Instruction::End);
        }
        Operator::MemoryCopy { .. } => {
            out.put(&Instruction::LocalSet(c)).put(&Instruction::LocalSet(b)).put(&Instruction::LocalSet(a));
            wrapped(out, a);
            wrapped(out, b);
            wrapped(out, c);
            out.put(encoded);
        }
        Operator::MemoryFill { .. } => {
            out.put(&Instruction::LocalSet(c)).put(&Instruction::LocalSet(x)).put(&Instruction::LocalSet(a));
            wrapped(out, a);
            out.put(&Instruction::LocalGet(x));
            wrapped(out, c);
            out.put(encoded);
        }
        Operator::MemoryInit { .. } => {
            out.put(&Instruction::LocalSet(y)).put(&Instruction::LocalSet(x)).put(&Instruction::LocalSet(a));
            wrapped(out, a);
            out.put(&Instruction::LocalGet(x)).put(&Instruction::LocalGet(y)).put(encoded);
        }
        _ => {
            out.put(encoded);
        }
    }
}

/// Makes the address on top of the stack, which the body knows `depth` below its top, an `i32`.
fn address(known: &mut Known<'_>, out: &mut Writer, depth: usize) {
    if known.is_narrow(depth) {
        out.put(&Instruction::I32WrapI64);
        return;
    }
    let local = out.scratch.i64s[0];
    out.put(&Instruction::LocalSet(local));
    wrapped(out, local);
    known.checked(depth);
}

/// Puts an `i64` local on the stack as an `i32`; traps as an access out of bounds does if it has upper bits.
fn wrapped(out: &mut Writer, local: u32) {
    out.put(&Instruction::LocalGet(local)).put(&Instruction::I64Const(NARROW_MAX)).put(&Instruction::I64GtU);
    out.unlikely_if();
    // No memory of at most `PAGES_MAX` pages has this byte.
    out.put(&Instruction::I32Const(-1))
        .put(&Instruction::I32Load8U(MemArg { offset: 0xffff_ffff, align: 0, memory_index: 0 }))
        .put(&Instruction::Drop)
        .put(&Instruction::Unreachable)
        .put(&Instruction::End);
    out.put(&Instruction::LocalGet(local)).put(&Instruction::I32WrapI64);
}

/// The 32-bit memory in place of a 64-bit one.
pub fn memory_type(ty: wasmparser::MemoryType) -> MemoryType {
    MemoryType { minimum: ty.initial, maximum: ty.maximum, memory64: false, shared: false, page_size_log2: None }
}

/// A data segment, placed by an `i32`.
pub fn data<R: Reencode<Error = std::convert::Infallible>>(
    reencoder: &mut R,
    section: &mut DataSection,
    datum: wasmparser::Data<'_>,
) -> Result<(), wasm_encoder::reencode::Error> {
    let wasmparser::DataKind::Active { memory_index, offset_expr } = &datum.kind else {
        return wasm_encoder::reencode::utils::parse_data(reencoder, section, datum);
    };
    let offset = small_offset(offset_expr).expect("the survey found every offset a small constant");
    let offset = wasm_encoder::ConstExpr::i32_const(offset as i32);
    let mode = DataSegmentMode::Active { memory_index: *memory_index, offset: &offset };
    section.segment(DataSegment { mode, data: datum.data.iter().copied() });
    Ok(())
}

enum Access {
    /// `[address, ...] -> [value]`, the address on top.
    Load,
    /// `[address, value] -> [...]`.
    Store(ValType),
}

fn access(op: &Operator<'_>) -> Option<Access> {
    use Operator::*;
    Some(match op {
        I32Load { .. } | I64Load { .. } | F32Load { .. } | F64Load { .. } => Access::Load,
        I32Load8S { .. } | I32Load8U { .. } | I32Load16S { .. } | I32Load16U { .. } => Access::Load,
        I64Load8S { .. } | I64Load8U { .. } | I64Load16S { .. } | I64Load16U { .. } => Access::Load,
        I64Load32S { .. } | I64Load32U { .. } | V128Load { .. } => Access::Load,
        V128Load8x8S { .. } | V128Load8x8U { .. } | V128Load16x4S { .. } | V128Load16x4U { .. } => Access::Load,
        V128Load32x2S { .. } | V128Load32x2U { .. } | V128Load32Zero { .. } | V128Load64Zero { .. } => Access::Load,
        V128Load8Splat { .. } | V128Load16Splat { .. } | V128Load32Splat { .. } | V128Load64Splat { .. } => {
            Access::Load
        }
        I32Store { .. } | I32Store8 { .. } | I32Store16 { .. } => Access::Store(ValType::I32),
        I64Store { .. } | I64Store8 { .. } | I64Store16 { .. } | I64Store32 { .. } => Access::Store(ValType::I64),
        F32Store { .. } => Access::Store(ValType::F32),
        F64Store { .. } => Access::Store(ValType::F64),
        // A load of one lane takes the vector it goes into from above the address, as a store does its value.
        V128Load8Lane { .. } | V128Load16Lane { .. } | V128Load32Lane { .. } | V128Load64Lane { .. } => {
            Access::Store(ValType::V128)
        }
        V128Store { .. } => Access::Store(ValType::V128),
        V128Store8Lane { .. } | V128Store16Lane { .. } | V128Store32Lane { .. } | V128Store64Lane { .. } => {
            Access::Store(ValType::V128)
        }
        _ => return None,
    })
}

/// Whether a 64-bit memory of this type can be narrowed.
pub fn fits(ty: &wasmparser::MemoryType) -> bool {
    ty.memory64 && !ty.shared && ty.page_size_log2.is_none() && ty.maximum.is_some_and(|max| max <= PAGES_MAX)
}

/// The constant offset of an instruction that has one.
pub fn offset(op: &Operator<'_>) -> Option<u64> {
    macro_rules! offset_in {
        (memarg $arg:ident) => {
            Some($arg.offset)
        };
        ($name:ident $arg:ident) => {{
            let _ = $arg;
            None
        }};
    }
    macro_rules! offset_of {
        ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
            match op {
                $(Operator::$op $({ $($arg),* })? => None$($(.or(offset_in!($arg $arg)))*)?,)*
                _ => None,
            }
        };
    }
    wasmparser::for_each_operator!(offset_of)
}

/// Whether narrowing a memory changes anything about this instruction.
pub fn concerns(op: &Operator<'_>) -> bool {
    use Operator::*;
    access(op).is_some()
        || matches!(
            op,
            MemorySize { .. } | MemoryGrow { .. } | MemoryCopy { .. } | MemoryFill { .. } | MemoryInit { .. }
        )
}
