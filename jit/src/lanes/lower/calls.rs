//! Calls: in place, to the machine, through tables.

use super::{Kind, Lowerer, Shape, kind};
use crate::lanes::{build::Value, ending::Bail, frames::GUARD, turn::COPY_IN};

impl Lowerer<'_, '_> {
    pub(super) fn call(&mut self, function: u32) {
        if function == COPY_IN {
            let (count, word, to) = (self.pop(), self.pop(), self.pop());
            self.guard_constants(to, count);
            self.out.run("copy_in", &[to, word, count]);
        } else if function == GUARD {
            let bad = self.pop();
            self.out.run("guard", &[bad]);
        } else if self.program.own(function).is_none() {
            self.call_host(function);
        } else if self.plan.is_in_place(function) {
            self.call_in_place(function);
        } else {
            let target = self.begins[&function];
            let target = self.out.word(target);
            let caller = self.context_mut().function;
            let reenters = self.plan.may_reenter(caller, function);
            self.call_machine(self.type_of(function), target, reenters);
        }
    }

    fn type_of(&self, function: u32) -> (Vec<Kind>, Vec<Kind>) {
        let ty = self.program.function_type(function);
        (super::kinds(ty.params()), super::kinds(ty.results()))
    }

    pub(super) fn call_indirect(&mut self, ty: u32, table: u32) {
        let wanted = self.program.canonical_type(ty) + 1;
        let ty = &self.program.types[ty as usize];
        let kinds = (super::kinds(ty.params()), super::kinds(ty.results()));
        let table_at = table as usize;
        let (length, is_64) = (self.program.tables[table_at].entries.len() as u32, self.program.tables[table_at].is_64);
        if self.program.tables[table_at].is_opaque {
            return self
                .refuse(Bail::Table, format!("calls through table {table}, whose entries only an instance knows"));
        }
        let mut at = self.pop();
        if is_64 {
            at = self.index_of_wide(at);
        }
        let arguments = [self.table_starts[table_at], length].map(|n| self.out.word(n));
        let wanted = self.out.word(wanted);
        let target = self.out.call("table_entry", &[arguments[0], arguments[1], at, wanted]);
        let caller = self.context_mut().function;
        let reenters = self.plan.is_cyclic(caller);
        self.call_machine(kinds, target, reenters);
    }

    /// A 64-bit index as a word; what does not fit is beyond any end.
    pub(super) fn index_of_wide(&mut self, value: Value) -> Value {
        let high = self.out.call("wide_high", &[value]);
        let low = self.out.call("wide_low", &[value]);
        let (zero, beyond) = (self.out.word(0), self.out.word(u32::MAX));
        let fits = self.out.binary(naga::BinaryOperator::Equal, high, zero);
        self.out.select(fits, low, beyond)
    }

    /// Leaves the state for that of a function, and goes on in a new one when it returns.
    fn call_machine(&mut self, (params, results): (Vec<Kind>, Vec<Kind>), target: Value, reenters: bool) {
        for (at, kind) in params.iter().enumerate().rev() {
            let value = self.pop();
            let variable = self.transfer(at, *kind);
            self.write(variable, value);
        }
        self.spill();
        let saved = if reenters { self.live() } else { Vec::new() };
        self.save(&saved);
        let resume = self.new_state();
        let word = self.out.word(resume);
        self.write(self.return_to, word);
        self.out.set(self.state, target);
        self.end_state();
        self.begin_state(resume);
        self.restore(&saved);
        for (at, kind) in results.iter().enumerate() {
            let variable = self.transfer(at, *kind);
            let value = self.read(variable);
            self.push(*kind, value);
        }
    }

    /// Every variable that a call must leave as it is.
    fn live(&mut self) -> Vec<(super::Variable, Kind)> {
        let operands: Vec<Kind> = self.context_mut().stack.iter().map(|operand| operand.kind).collect();
        let slots: Vec<_> = operands.into_iter().enumerate().map(|(at, kind)| (self.slot(at, kind), kind)).collect();
        let context = self.context_mut();
        let return_to = context.return_to.expect("only functions of the machine call the machine");
        let own = [(return_to, Kind::Word)];
        own.into_iter().chain(context.locals.iter().copied()).chain(slots).collect()
    }

    fn save(&mut self, saved: &[(super::Variable, Kind)]) {
        if saved.is_empty() {
            return;
        }
        let count = self.out.word(frame_words(saved));
        let frame = self.out.call("push_frame", &[count]);
        let mut at = 0;
        for (variable, kind) in saved {
            let value = self.read(*variable);
            for part in self.parts(*kind, value) {
                let place = self.out.word(at);
                self.out.run("set_frame_word", &[frame, place, part]);
                at += 1;
            }
        }
        self.accesses += at;
    }

    fn restore(&mut self, saved: &[(super::Variable, Kind)]) {
        if saved.is_empty() {
            return;
        }
        let count = self.out.word(frame_words(saved));
        let frame = self.out.call("pop_frame", &[count]);
        let mut at = 0;
        for (variable, kind) in saved {
            let mut word = || {
                let place = self.out.word(at);
                at += 1;
                self.out.call("frame_word", &[frame, place])
            };
            let low = word();
            let value = match kind {
                Kind::Word => low,
                Kind::Wide => {
                    let high = word();
                    self.out.call("wide", &[low, high])
                }
            };
            self.write(*variable, value);
        }
        self.accesses += at;
    }

    /// Compiles a function where it is called.
    fn call_in_place(&mut self, function: u32) {
        let ty = self.program.function_type(function).clone();
        let arguments: Vec<Value> = ty.params().iter().map(|_| self.pop()).collect();
        let context = self.context(function, true);
        for ((local, _), value) in context.locals.iter().zip(arguments.into_iter().rev()) {
            self.write(*local, value);
        }
        self.contexts.push(context);
        let label = self.new_label();
        let frame = self.function_frame(&ty, Shape::Inside { label });
        self.context_mut().frames.push(frame);
        self.clear_locals(ty.params().len());
        self.body(function);
        let results: Vec<(Kind, Value)> = ty
            .results()
            .iter()
            .enumerate()
            .map(|(at, ty)| (kind(*ty).unwrap_or(Kind::Word), self.operand(at)))
            .collect();
        let context = self.contexts.pop().expect("pushed above");
        self.release(context);
        for (kind, value) in results {
            self.push(kind, value);
        }
    }
}

fn frame_words(saved: &[(super::Variable, Kind)]) -> u32 {
    saved.iter().map(|(_, kind)| if *kind == Kind::Word { 1 } else { 2 }).sum()
}
