//! Gas inside one function.

use wasm_encoder::Instruction;
use wasmparser::Operator;

use super::writer::Writer;
use crate::gas;

/// A body's instructions, each with the gas to charge before it: the whole cost of the segment it begins, or 0.
pub fn charged<'o>(ops: Vec<Operator<'o>>, inject: bool) -> Vec<(Operator<'o>, u64)> {
    let mut charged: Vec<_> = ops.into_iter().map(|op| (op, 0)).collect();
    if !inject {
        return charged;
    }
    let (mut begin, mut cost) = (0, 0);
    for at in 0..charged.len() {
        cost += gas::cost(&charged[at].0);
        if gas::ends_segment(&charged[at].0) {
            if cost > 0 {
                charged[begin].1 = cost + gas::SEGMENT_OVERHEAD;
            }
            (begin, cost) = (at + 1, 0);
        }
    }
    charged
}

/// The gas counter inside one function.
pub struct Counter {
    /// Gathers what the function charges.
    pub local: u32,
    /// The module's counter.
    pub global: u32,
}

impl Counter {
    /// Adds what has gathered to the global.
    pub fn settle(&self, out: &mut Writer) {
        out.put(&Instruction::GlobalGet(self.global))
            .put(&Instruction::LocalGet(self.local))
            .put(&Instruction::I64Add)
            .put(&Instruction::GlobalSet(self.global))
            .put(&Instruction::I64Const(0))
            .put(&Instruction::LocalSet(self.local));
    }

    /// Traps if the guest is out of gas.
    pub fn check(&self, out: &mut Writer) {
        out.put(&Instruction::GlobalGet(self.global))
            .put(&Instruction::I64Const(0))
            .put(&Instruction::I64GtS)
            .unlikely_if()
            .put(&Instruction::Unreachable)
            .put(&Instruction::End);
    }

    /// Charges `amount`.
    pub fn charge_constant(&self, out: &mut Writer, amount: u64) {
        out.put(&Instruction::I64Const(amount as i64));
        self.add(out);
    }

    /// Charges the amount on top of the stack.
    pub fn charge_stack(&self, out: &mut Writer, is_64: bool) {
        if !is_64 {
            out.put(&Instruction::I64ExtendI32S);
        }
        self.add(out);
    }

    fn add(&self, out: &mut Writer) {
        out.put(&Instruction::LocalGet(self.local)).put(&Instruction::I64Add).put(&Instruction::LocalSet(self.local));
    }
}
