//! Instructions that compute, and those that reach memory.

use naga::{BinaryOperator as B, MathFunction};
use wasmparser::{MemArg, Operator};

use super::{Kind, Lowerer, global_name, kind};
use crate::lanes::{
    build::Value,
    ending::{Bail, Trap},
    kernel::Alignment,
};

impl Lowerer<'_, '_> {
    pub(super) fn operator(&mut self, op: &Operator<'_>) {
        use Operator::*;
        match op {
            Drop => {
                self.pop();
            }
            Select | TypedSelect { .. } => {
                let condition = self.condition();
                let kind = self.top_kind();
                let (reject, accept) = (self.pop(), self.pop());
                let value = match kind {
                    Kind::Word => self.out.select(condition, accept, reject),
                    Kind::Wide => self.out.call("wide_select", &[reject, accept, condition]),
                };
                self.push(kind, value);
            }
            LocalGet { local_index } => {
                let (local, kind) = self.context_mut().locals[*local_index as usize];
                let value = self.read(local);
                self.push(kind, value);
            }
            LocalSet { local_index } | LocalTee { local_index } => {
                let (local, kind) = self.context_mut().locals[*local_index as usize];
                let value = self.pop();
                self.write(local, value);
                if matches!(op, LocalTee { .. }) {
                    self.push(kind, value);
                }
            }
            GlobalGet { global_index } => {
                let global = self.program.globals[*global_index as usize];
                let value = match (kind(global.ty), global.constant()) {
                    (None, _) => return self.refuse_instruction(op),
                    (Some(Kind::Word), Some(value)) => self.out.word(value as u32),
                    (Some(Kind::Wide), Some(value)) => self.out.wide(value),
                    (Some(_), None) => self.out.get_global(&global_name(*global_index)),
                };
                self.push(kind(global.ty).expect("matched above"), value);
            }
            GlobalSet { global_index } => {
                if kind(self.program.globals[*global_index as usize].ty).is_none() {
                    return self.refuse_instruction(op);
                }
                let value = self.pop();
                self.out.set_global(&global_name(*global_index), value);
            }
            I32Const { value } => {
                let value = self.out.word(*value as u32);
                self.push_word(value);
            }
            F32Const { value } => {
                let value = self.out.word(value.bits());
                self.push_word(value);
            }
            I64Const { value } => {
                let value = self.out.wide(*value as u64);
                self.push_wide(value);
            }
            F64Const { value } => {
                let value = self.out.wide(value.bits());
                self.push_wide(value);
            }
            MemorySize { .. } => {
                let pages = self.out.call("memory_size", &[]);
                self.push_pages(pages);
            }
            MemoryGrow { .. } => {
                let mut by = self.pop();
                if self.program.is_64 {
                    by = self.index_of_wide(by);
                }
                let before = self.out.call("memory_grow", &[by]);
                self.push_pages(before);
            }
            MemoryCopy { dst_mem: 0, src_mem: 0 } => {
                let [to, source, count] = self.three_indices();
                self.guard_constants(to, count);
                self.out.run("memory_copy", &[to, source, count]);
            }
            MemoryFill { mem: 0 } => {
                let (count, value, to) = (self.pop(), self.pop(), self.pop());
                let [to, count] = [to, count].map(|v| if self.program.is_64 { self.index_of_wide(v) } else { v });
                self.guard_constants(to, count);
                self.out.run("memory_fill", &[to, value, count]);
            }
            _ => {
                if !self.memory_access(op) && !self.word_arithmetic(op) && !self.wide_arithmetic(op) && !self.floats(op)
                {
                    self.refuse_instruction(op);
                }
            }
        }
    }

    fn top_kind(&mut self) -> Kind {
        self.context_mut().stack.last().expect("validated: there is an operand").kind
    }

    fn push_pages(&mut self, pages: Value) {
        if self.program.is_64 {
            // All ones, for no, keeps its sign.
            let pages = self.out.call("wide_from_signed", &[pages]);
            self.push_wide(pages);
        } else {
            self.push_word(pages);
        }
    }

    fn three_indices(&mut self) -> [Value; 3] {
        let (count, source, to) = (self.pop(), self.pop(), self.pop());
        [to, source, count].map(|value| if self.program.is_64 { self.index_of_wide(value) } else { value })
    }

    // ---- Memory ------------------------------------------------------------------------------------------------------

    fn memory_access(&mut self, op: &Operator<'_>) -> bool {
        use Operator::*;
        match op {
            I32Load { memarg } | F32Load { memarg } => {
                let value = self.load(memarg, 4);
                self.push_word(value);
            }
            I64Load { memarg } | F64Load { memarg } => {
                let value = self.load(memarg, 8);
                self.push_wide(value);
            }
            I32Load8U { memarg } => self.load_short(memarg, 1, false, Kind::Word),
            I32Load8S { memarg } => self.load_short(memarg, 1, true, Kind::Word),
            I32Load16U { memarg } => self.load_short(memarg, 2, false, Kind::Word),
            I32Load16S { memarg } => self.load_short(memarg, 2, true, Kind::Word),
            I64Load8U { memarg } => self.load_short(memarg, 1, false, Kind::Wide),
            I64Load8S { memarg } => self.load_short(memarg, 1, true, Kind::Wide),
            I64Load16U { memarg } => self.load_short(memarg, 2, false, Kind::Wide),
            I64Load16S { memarg } => self.load_short(memarg, 2, true, Kind::Wide),
            I64Load32U { memarg } => self.load_short(memarg, 4, false, Kind::Wide),
            I64Load32S { memarg } => self.load_short(memarg, 4, true, Kind::Wide),
            I32Store { memarg } | F32Store { memarg } => self.store(memarg, 4, false),
            I32Store8 { memarg } => self.store(memarg, 1, false),
            I32Store16 { memarg } => self.store(memarg, 2, false),
            I64Store { memarg } | F64Store { memarg } => self.store(memarg, 8, false),
            I64Store8 { memarg } => self.store(memarg, 1, true),
            I64Store16 { memarg } => self.store(memarg, 2, true),
            I64Store32 { memarg } => self.store(memarg, 4, true),
            _ => return false,
        }
        true
    }

    /// Pops an address and gives the byte that an access begins at.
    fn place(&mut self, memarg: &MemArg, bytes: u32) -> Value {
        let at = self.pop();
        let Ok(offset) = u32::try_from(memarg.offset) else {
            self.trap(Trap::Memory);
            return self.out.word(0);
        };
        let (offset, bytes) = (self.out.word(offset), self.out.word(bytes));
        let name = if self.program.is_64 { "place_wide" } else { "place" };
        self.out.call(name, &[at, offset, bytes])
    }

    fn load(&mut self, memarg: &MemArg, bytes: u32) -> Value {
        let place = self.place(memarg, bytes);
        self.out.call(&self.accessor("load", memarg, bytes), &[place])
    }

    fn load_short(&mut self, memarg: &MemArg, bytes: u32, is_signed: bool, kind: Kind) {
        let mut value = self.load(memarg, bytes);
        if is_signed && bytes < 4 {
            value = self.extended(value, 32 - 8 * bytes);
        }
        match kind {
            Kind::Word => self.push_word(value),
            Kind::Wide => {
                let value = self.out.call(if is_signed { "wide_from_signed" } else { "wide_from" }, &[value]);
                self.push_wide(value);
            }
        }
    }

    fn store(&mut self, memarg: &MemArg, bytes: u32, is_narrowed: bool) {
        let mut value = self.pop();
        if is_narrowed {
            value = self.out.call("wide_low", &[value]);
        }
        let place = self.place(memarg, bytes);
        let count = self.out.word(bytes);
        self.guard_constants(place, count);
        self.out.run(&self.accessor("store", memarg, bytes), &[place, value]);
    }

    /// Sees to it that what is written is none of what functions take for constant.
    pub(super) fn guard_constants(&mut self, to: Value, count: Value) {
        if let Some((from, past)) = self.constants {
            let (from, past) = (self.out.word(from), self.out.word(past));
            self.out.run("guard_constants", &[to, count, from, past]);
        }
    }

    /// A word whose upper `bits` bits repeat the one below them.
    fn extended(&mut self, value: Value, bits: u32) -> Value {
        let bits = self.out.word(bits);
        let high = self.out.binary(B::ShiftLeft, value, bits);
        let high = self.out.signed(high);
        let value = self.out.binary(B::ShiftRight, high, bits);
        self.out.unsigned(value)
    }

    // ---- 32 bits -----------------------------------------------------------------------------------------------------

    fn word_arithmetic(&mut self, op: &Operator<'_>) -> bool {
        use Operator::*;
        match op {
            I32Add => self.word_binary(B::Add),
            I32Sub => self.word_binary(B::Subtract),
            I32Mul => self.word_binary(B::Multiply),
            I32And => self.word_binary(B::And),
            I32Or => self.word_binary(B::InclusiveOr),
            I32Xor => self.word_binary(B::ExclusiveOr),
            I32Shl | I32ShrU | I32ShrS => {
                let (amount, mut value, mask) = (self.pop(), self.pop(), self.out.word(31));
                let amount = self.out.binary(B::And, amount, mask);
                if matches!(op, I32ShrS) {
                    value = self.out.signed(value);
                }
                let way = if matches!(op, I32Shl) { B::ShiftLeft } else { B::ShiftRight };
                let mut value = self.out.binary(way, value, amount);
                if matches!(op, I32ShrS) {
                    value = self.out.unsigned(value);
                }
                self.push_word(value);
            }
            I32Rotl => self.call_prelude("rotl32", 2, Kind::Word),
            I32Rotr => self.call_prelude("rotr32", 2, Kind::Word),
            I32DivU => self.call_prelude("checked_div32", 2, Kind::Word),
            I32DivS => self.call_prelude("checked_div32_signed", 2, Kind::Word),
            I32RemU => self.call_prelude("checked_rem32", 2, Kind::Word),
            I32RemS => self.call_prelude("checked_rem32_signed", 2, Kind::Word),
            I32Clz => self.word_math(MathFunction::CountLeadingZeros),
            I32Ctz => self.word_math(MathFunction::CountTrailingZeros),
            I32Popcnt => self.word_math(MathFunction::CountOneBits),
            I32Eqz => {
                let (value, zero) = (self.pop(), self.out.word(0));
                let is_zero = self.out.binary(B::Equal, value, zero);
                self.push_truth(is_zero);
            }
            I32Eq => self.word_compare(B::Equal, false),
            I32Ne => self.word_compare(B::NotEqual, false),
            I32LtU => self.word_compare(B::Less, false),
            I32LtS => self.word_compare(B::Less, true),
            I32GtU => self.word_compare(B::Greater, false),
            I32GtS => self.word_compare(B::Greater, true),
            I32LeU => self.word_compare(B::LessEqual, false),
            I32LeS => self.word_compare(B::LessEqual, true),
            I32GeU => self.word_compare(B::GreaterEqual, false),
            I32GeS => self.word_compare(B::GreaterEqual, true),
            I32Extend8S | I32Extend16S => {
                let value = self.pop();
                let value = self.extended(value, if matches!(op, I32Extend8S) { 24 } else { 16 });
                self.push_word(value);
            }
            I32ReinterpretF32 | F32ReinterpretI32 | I64ReinterpretF64 | F64ReinterpretI64 => {}
            _ => return false,
        }
        true
    }

    fn two(&mut self) -> (Value, Value) {
        let (right, left) = (self.pop(), self.pop());
        (left, right)
    }

    fn word_binary(&mut self, op: B) {
        let (left, right) = self.two();
        let value = self.out.binary(op, left, right);
        self.push_word(value);
    }

    fn word_math(&mut self, function: MathFunction) {
        let value = self.pop();
        let value = self.out.math(function, value);
        self.push_word(value);
    }

    fn word_compare(&mut self, op: B, is_signed: bool) {
        let (mut left, mut right) = self.two();
        if is_signed {
            (left, right) = (self.out.signed(left), self.out.signed(right));
        }
        let truth = self.out.binary(op, left, right);
        self.push_truth(truth);
    }

    fn push_truth(&mut self, truth: Value) {
        let (one, zero) = (self.out.word(1), self.out.word(0));
        let value = self.out.select(truth, one, zero);
        self.push_word(value);
    }

    /// A function of the prelude over the top operands, in their order.
    fn call_prelude(&mut self, name: &str, operands: usize, kind: Kind) {
        let mut arguments: Vec<Value> = (0..operands).map(|_| self.pop()).collect();
        arguments.reverse();
        let value = self.out.call(name, &arguments);
        self.push(kind, value);
    }

    // ---- 64 bits -----------------------------------------------------------------------------------------------------

    fn wide_arithmetic(&mut self, op: &Operator<'_>) -> bool {
        use Operator::*;
        match op {
            I64Add => self.call_prelude("wide_add", 2, Kind::Wide),
            I64Sub => self.call_prelude("wide_sub", 2, Kind::Wide),
            I64Mul => self.call_prelude("wide_mul", 2, Kind::Wide),
            I64And => self.call_prelude("wide_and", 2, Kind::Wide),
            I64Or => self.call_prelude("wide_or", 2, Kind::Wide),
            I64Xor => self.call_prelude("wide_xor", 2, Kind::Wide),
            I64Shl => self.wide_shift("wide_shl"),
            I64ShrU => self.wide_shift("wide_shr"),
            I64ShrS => self.wide_shift("wide_shr_signed"),
            I64Rotl => self.wide_shift("wide_rotl"),
            I64Rotr => self.wide_shift("wide_rotr"),
            I64DivU => self.call_prelude("checked_wide_div", 2, Kind::Wide),
            I64DivS => self.call_prelude("checked_wide_div_signed", 2, Kind::Wide),
            I64RemU => self.call_prelude("checked_wide_rem", 2, Kind::Wide),
            I64RemS => self.call_prelude("checked_wide_rem_signed", 2, Kind::Wide),
            I64Clz => self.wide_count("wide_clz"),
            I64Ctz => self.wide_count("wide_ctz"),
            I64Popcnt => self.wide_count("wide_popcnt"),
            I64Eqz => self.wide_test("wide_is_zero", 1, false, false),
            I64Eq => self.wide_test("wide_eq", 2, false, false),
            I64Ne => self.wide_test("wide_eq", 2, false, true),
            I64LtU => self.wide_test("wide_lt", 2, false, false),
            I64GtU => self.wide_test("wide_lt", 2, true, false),
            I64LeU => self.wide_test("wide_lt", 2, true, true),
            I64GeU => self.wide_test("wide_lt", 2, false, true),
            I64LtS => self.wide_test("wide_lt_signed", 2, false, false),
            I64GtS => self.wide_test("wide_lt_signed", 2, true, false),
            I64LeS => self.wide_test("wide_lt_signed", 2, true, true),
            I64GeS => self.wide_test("wide_lt_signed", 2, false, true),
            I32WrapI64 => self.call_prelude("wide_low", 1, Kind::Word),
            I64ExtendI32U => self.call_prelude("wide_from", 1, Kind::Wide),
            I64ExtendI32S => self.call_prelude("wide_from_signed", 1, Kind::Wide),
            I64Extend8S | I64Extend16S | I64Extend32S => {
                let value = self.pop();
                let mut value = self.out.call("wide_low", &[value]);
                match op {
                    I64Extend8S => value = self.extended(value, 24),
                    I64Extend16S => value = self.extended(value, 16),
                    _ => {}
                }
                let value = self.out.call("wide_from_signed", &[value]);
                self.push_wide(value);
            }
            _ => return false,
        }
        true
    }

    fn wide_shift(&mut self, name: &str) {
        let (value, amount) = self.two();
        let amount = self.out.call("wide_low", &[amount]);
        let value = self.out.call(name, &[value, amount]);
        self.push_wide(value);
    }

    fn wide_count(&mut self, name: &str) {
        let value = self.pop();
        let count = self.out.call(name, &[value]);
        let count = self.out.call("wide_from", &[count]);
        self.push_wide(count);
    }

    /// A test of the top operands, turned round or denied.
    fn wide_test(&mut self, name: &str, operands: usize, is_turned: bool, is_denied: bool) {
        let mut arguments: Vec<Value> = (0..operands).map(|_| self.pop()).collect();
        if !is_turned {
            arguments.reverse();
        }
        let mut truth = self.out.call(name, &arguments);
        if is_denied {
            truth = self.out.not(truth);
        }
        self.push_truth(truth);
    }

    // ---- Floats, as integers -----------------------------------------------------------------------------------------

    fn floats(&mut self, op: &Operator<'_>) -> bool {
        use Kind::{Wide, Word};
        use Operator::*;
        match op {
            F32Abs | F32Neg | F32Copysign => self.sign_of_word(op),
            F64Abs | F64Neg | F64Copysign => self.sign_of_wide(op),
            F32Eq | F32Ne | F32Lt | F32Gt | F32Le | F32Ge => self.float_compare("f32", op),
            F64Eq | F64Ne | F64Lt | F64Gt | F64Le | F64Ge => self.float_compare("f64", op),
            F32Add => self.float(op, "f32_add", 2, Word),
            F32Sub => self.float(op, "f32_sub", 2, Word),
            F32Mul => self.float(op, "f32_mul", 2, Word),
            F32Div => self.float(op, "f32_div", 2, Word),
            F32Min => self.float(op, "f32_min", 2, Word),
            F32Max => self.float(op, "f32_max", 2, Word),
            F32Sqrt => self.float(op, "f32_sqrt", 1, Word),
            F32Ceil => self.float(op, "f32_ceil", 1, Word),
            F32Floor => self.float(op, "f32_floor", 1, Word),
            F32Trunc => self.float(op, "f32_trunc", 1, Word),
            F32Nearest => self.float(op, "f32_nearest", 1, Word),
            F64Add => self.float(op, "f64_add", 2, Wide),
            F64Sub => self.float(op, "f64_sub", 2, Wide),
            F64Mul => self.float(op, "f64_mul", 2, Wide),
            F64Div => self.float(op, "f64_div", 2, Wide),
            F64Min => self.float(op, "f64_min", 2, Wide),
            F64Max => self.float(op, "f64_max", 2, Wide),
            F64Sqrt => self.float(op, "f64_sqrt", 1, Wide),
            F64Ceil => self.float(op, "f64_ceil", 1, Wide),
            F64Floor => self.float(op, "f64_floor", 1, Wide),
            F64Trunc => self.float(op, "f64_trunc", 1, Wide),
            F64Nearest => self.float(op, "f64_nearest", 1, Wide),
            F32DemoteF64 => self.float(op, "f32_demote", 1, Word),
            F64PromoteF32 => self.float(op, "f64_promote", 1, Wide),
            F32ConvertI32S => self.float(op, "f32_from_i32_s", 1, Word),
            F32ConvertI32U => self.float(op, "f32_from_i32_u", 1, Word),
            F32ConvertI64S => self.float(op, "f32_from_i64_s", 1, Word),
            F32ConvertI64U => self.float(op, "f32_from_i64_u", 1, Word),
            F64ConvertI32S => self.float(op, "f64_from_i32_s", 1, Wide),
            F64ConvertI32U => self.float(op, "f64_from_i32_u", 1, Wide),
            F64ConvertI64S => self.float(op, "f64_from_i64_s", 1, Wide),
            F64ConvertI64U => self.float(op, "f64_from_i64_u", 1, Wide),
            I32TruncSatF32S => self.float(op, "i32_sat_f32_s", 1, Word),
            I32TruncSatF32U => self.float(op, "i32_sat_f32_u", 1, Word),
            I32TruncSatF64S => self.float(op, "i32_sat_f64_s", 1, Word),
            I32TruncSatF64U => self.float(op, "i32_sat_f64_u", 1, Word),
            I64TruncSatF32S => self.float(op, "i64_sat_f32_s", 1, Wide),
            I64TruncSatF32U => self.float(op, "i64_sat_f32_u", 1, Wide),
            I64TruncSatF64S => self.float(op, "i64_sat_f64_s", 1, Wide),
            I64TruncSatF64U => self.float(op, "i64_sat_f64_u", 1, Wide),
            I32TruncF32S => self.truncate(op, "i32", "f32_s", Word),
            I32TruncF32U => self.truncate(op, "i32", "f32_u", Word),
            I32TruncF64S => self.truncate(op, "i32", "f64_s", Word),
            I32TruncF64U => self.truncate(op, "i32", "f64_u", Word),
            I64TruncF32S => self.truncate(op, "i64", "f32_s", Wide),
            I64TruncF32U => self.truncate(op, "i64", "f32_u", Wide),
            I64TruncF64S => self.truncate(op, "i64", "f64_s", Wide),
            I64TruncF64U => self.truncate(op, "i64", "f64_u", Wide),
            _ => return false,
        }
        true
    }

    fn float(&mut self, op: &Operator<'_>, name: &str, operands: usize, kind: Kind) {
        if self.out.knows(name) {
            self.call_prelude(name, operands, kind);
        } else {
            self.refuse_instruction(op);
        }
    }

    fn float_compare(&mut self, ty: &str, op: &Operator<'_>) {
        use Operator::*;
        let (test, is_turned, is_denied) = match op {
            F32Eq | F64Eq => ("eq", false, false),
            F32Ne | F64Ne => ("eq", false, true),
            F32Lt | F64Lt => ("lt", false, false),
            F32Gt | F64Gt => ("lt", true, false),
            F32Le | F64Le => ("le", false, false),
            _ => ("le", true, false),
        };
        let name = format!("{ty}_{test}");
        if self.out.knows(&name) {
            self.wide_test(&name, 2, is_turned, is_denied);
        } else {
            self.refuse_instruction(op);
        }
    }

    fn truncate(&mut self, op: &Operator<'_>, to: &str, from: &str, kind: Kind) {
        let (fault, value) = (format!("{to}_trunc_{from}_fault"), format!("{to}_sat_{from}"));
        if !self.out.knows(&fault) {
            return self.refuse_instruction(op);
        }
        let float = self.pop();
        let found = self.out.call(&fault, &[float]);
        self.out.run("converted", &[found]);
        let value = self.out.call(&value, &[float]);
        self.push(kind, value);
    }

    fn sign_of_word(&mut self, op: &Operator<'_>) {
        let sign_from = if matches!(op, Operator::F32Copysign) { Some(self.pop()) } else { None };
        let value = self.pop();
        let (sign, rest) = (self.out.word(1 << 31), self.out.word((1 << 31) - 1));
        let value = match (op, sign_from) {
            (Operator::F32Neg, _) => self.out.binary(B::ExclusiveOr, value, sign),
            (_, None) => self.out.binary(B::And, value, rest),
            (_, Some(from)) => {
                let (value, from) = (self.out.binary(B::And, value, rest), self.out.binary(B::And, from, sign));
                self.out.binary(B::InclusiveOr, value, from)
            }
        };
        self.push_word(value);
    }

    fn sign_of_wide(&mut self, op: &Operator<'_>) {
        let sign_from = if matches!(op, Operator::F64Copysign) { Some(self.pop()) } else { None };
        let value = self.pop();
        let (sign, rest) = (self.out.wide(1 << 63), self.out.wide((1 << 63) - 1));
        let value = match (op, sign_from) {
            (Operator::F64Neg, _) => self.out.call("wide_xor", &[value, sign]),
            (_, None) => self.out.call("wide_and", &[value, rest]),
            (_, Some(from)) => {
                let (value, from) =
                    (self.out.call("wide_and", &[value, rest]), self.out.call("wide_and", &[from, sign]));
                self.out.call("wide_or", &[value, from])
            }
        };
        self.push_wide(value);
    }

    /// An instruction that lanes do not have.
    fn refuse_instruction(&mut self, op: &Operator<'_>) {
        let name = format!("{op:?}");
        let name = name.split([' ', '{', '(']).next().unwrap_or_default().to_owned();
        self.refuse(Bail::Instruction, name);
    }

    /// The function of the prelude for an access.
    fn accessor(&self, way: &str, memarg: &MemArg, bytes: u32) -> String {
        // Two words are read one by one: 64 bits need no more than the alignment of a word.
        let natural = bytes.trailing_zeros().min(2) as u8;
        let is_aligned = self.alignment == Alignment::Hinted && memarg.align >= natural;
        let suffix = if is_aligned || bytes == 1 { "" } else { "_any" };
        format!("{way}{}{suffix}", 8 * bytes)
    }
}
