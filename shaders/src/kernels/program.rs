//! Programs of field operations: a signature scheme's formulas, written once and run by the kernel and by its twin
//! ([`super::curve`]).
//!
//! A curve's formulas as straight code would keep some twenty field elements alive and be compiled, unrolled, for
//! minutes. As a program they are data: the kernel has one body for each operation, few registers are live in it, and
//! elements lie in storage between steps. The price is that storage is read and written at every step.

use std::collections::HashMap;

use num_bigint::BigUint;

use crate::limbs::field::Field;

/// A field element in a program under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Element(usize);

/// A flag of each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(u32);

/// The flag that is always set.
pub const SET: Flag = Flag(31);
/// Where unwanted flags go.
const IGNORED: Flag = Flag(30);

/// Elements in consecutive registers, for [`Builder::look`].
#[derive(Clone, Copy, Debug)]
pub struct Group(usize);

/// Some bits of a lane's words.
#[derive(Clone, Copy, Debug)]
pub struct Bits {
    /// Which word.
    pub word: u32,
    /// The lowest bit.
    pub shift: u32,
    /// How many bits, at most 16 and none past the word's end.
    pub width: u32,
}

impl Bits {
    /// No bits: always 0.
    const NONE: Bits = Bits { word: 0, shift: 0, width: 0 };

    /// `width` bits at `position` of the number that starts at word `first`; windows do not cross words.
    pub fn window(first: u32, position: u32, width: u32) -> Bits {
        Bits { word: first + position / 32, shift: position % 32, width }
    }

    fn packed(self) -> u32 {
        self.word | self.shift << 16 | self.width << 24
    }

    /// The bits of `words`.
    pub fn of(packed: u32, word: impl Fn(u32) -> u32) -> u32 {
        (word(packed & 0xffff) >> ((packed >> 16) & 31)) & ((1 << (packed >> 24)) - 1)
    }
}

/// What a step does; the numbers are those of the constants in `wgsl/curve.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Operation {
    /// target = a * b
    Mul = 0,
    /// target = a + b
    Add = 1,
    /// target = a - b
    Sub = 2,
    /// target = a, canonical; flag b & 31 says whether it is zero, flag (b >> 8) & 31 whether it is odd
    Freeze = 3,
    /// target = register a + modifier * bits b
    Look = 4,
    /// target = table element a + modifier * bits b
    Table = 5,
    /// target = a if the flag `modifier` is set, else b
    Select = 6,
    /// target = a * a
    Square = 7,
    /// target = a * modifier
    Scale = 8,
    /// flag target = bits b; this and those below touch flags only
    Bit = 9,
    /// flag target = flag a and flag b
    And = 10,
    /// flag target = flag a or flag b
    Or = 11,
    /// flag target = flag a xor flag b
    Xor = 12,
}

impl Operation {
    /// In the order of their numbers.
    pub const ALL: [(Operation, &str); 13] = [
        (Operation::Mul, "MUL"),
        (Operation::Add, "ADD"),
        (Operation::Sub, "SUB"),
        (Operation::Freeze, "FREEZE"),
        (Operation::Look, "LOOK"),
        (Operation::Table, "TABLE"),
        (Operation::Select, "SELECT"),
        (Operation::Square, "SQUARE"),
        (Operation::Scale, "SCALE"),
        (Operation::Bit, "BIT"),
        (Operation::And, "AND"),
        (Operation::Or, "OR"),
        (Operation::Xor, "XOR"),
    ];
}

#[derive(Clone, Debug)]
enum Operand {
    Element(Element),
    /// The first register of a group, and an element of it.
    Group(Group, usize),
    Number(u32),
}

#[derive(Clone, Debug)]
struct Draft {
    operation: Operation,
    modifier: u32,
    target: Operand,
    a: Operand,
    b: Operand,
}

/// A program under construction. Elements are values: each is set once, and gives its register back after its last use.
#[derive(Debug, Default)]
pub struct Builder {
    drafts: Vec<Draft>,
    elements: usize,
    inputs: Vec<Element>,
    outputs: Vec<Element>,
    groups: Vec<Vec<Element>>,
    flags: u32,
    table: Vec<BigUint>,
    constants: HashMap<BigUint, Element>,
}

/// A finished program.
#[derive(Clone, Debug)]
pub struct Program {
    /// (operation | modifier << 8, target, a, b) a step.
    pub steps: Vec<[u32; 4]>,
    /// Registers of a lane. The first are the inputs.
    pub registers: usize,
    /// How many inputs a lane has.
    pub inputs: usize,
    /// The registers of the outputs, one after another from the first.
    pub first_output: usize,
    /// How many outputs a lane has.
    pub outputs: usize,
    /// Elements that all lanes share.
    pub table: Vec<BigUint>,
    /// The flag that is set where the signature holds.
    pub verdict: u32,
    /// Words of a lane.
    pub words: usize,
}

impl Program {
    /// How many steps do `operation`.
    pub fn steps_of(&self, operation: Operation) -> usize {
        self.steps.iter().filter(|step| step[0] & 0xff == operation as u32).count()
    }
}

impl Builder {
    fn element(&mut self) -> Element {
        self.elements += 1;
        Element(self.elements - 1)
    }

    fn step(&mut self, operation: Operation, modifier: u32, a: Operand, b: Operand) -> Element {
        let target = self.element();
        self.drafts.push(Draft { operation, modifier, target: Operand::Element(target), a, b });
        target
    }

    fn set(&mut self, operation: Operation, a: u32, b: u32) -> Flag {
        let flag = self.flag();
        let (target, a, b) = (Operand::Number(flag.0), Operand::Number(a), Operand::Number(b));
        self.drafts.push(Draft { operation, modifier: 0, target, a, b });
        flag
    }

    /// How many more flags there can be.
    pub fn flags_left(&self) -> u32 {
        IGNORED.0 - self.flags
    }

    fn flag(&mut self) -> Flag {
        assert!(self.flags < IGNORED.0, "no flag is left");
        self.flags += 1;
        Flag(self.flags - 1)
    }

    /// The next input of a lane.
    pub fn input(&mut self) -> Element {
        let element = self.element();
        self.inputs.push(element);
        element
    }

    /// A number that is the same in all lanes.
    pub fn constant(&mut self, number: impl Into<BigUint>) -> Element {
        let number = number.into();
        if let Some(element) = self.constants.get(&number) {
            return *element;
        }
        let at = self.share([number.clone()]);
        let element = self.step(Operation::Table, 0, Operand::Number(at), Operand::Number(Bits::NONE.packed()));
        self.constants.insert(number, element);
        element
    }

    /// A number that is the same in all lanes, in a register that no other constant shares: for groups.
    pub fn constant_copy(&mut self, number: impl Into<BigUint>) -> Element {
        let at = self.share([number.into()]);
        self.step(Operation::Table, 0, Operand::Number(at), Operand::Number(Bits::NONE.packed()))
    }

    /// Adds elements to the table that all lanes share; where they start.
    pub fn share(&mut self, elements: impl IntoIterator<Item = BigUint>) -> u32 {
        let at = self.table.len();
        self.table.extend(elements);
        at as u32
    }

    /// `a * b`.
    pub fn mul(&mut self, a: Element, b: Element) -> Element {
        self.step(Operation::Mul, 0, Operand::Element(a), Operand::Element(b))
    }

    /// `a * a`.
    pub fn square(&mut self, a: Element) -> Element {
        self.step(Operation::Square, 0, Operand::Element(a), Operand::Number(0))
    }

    /// `a * factor`, for a factor of at most [`Field::LARGEST_FACTOR`].
    pub fn scale(&mut self, a: Element, factor: u32) -> Element {
        assert!(factor <= Field::LARGEST_FACTOR, "a small factor");
        self.step(Operation::Scale, factor, Operand::Element(a), Operand::Number(0))
    }

    /// `a^(2^times)`.
    pub fn squares(&mut self, a: Element, times: usize) -> Element {
        (0..times).fold(a, |a, _| self.square(a))
    }

    /// `a + b`.
    pub fn add(&mut self, a: Element, b: Element) -> Element {
        self.step(Operation::Add, 0, Operand::Element(a), Operand::Element(b))
    }

    /// `a - b`.
    pub fn sub(&mut self, a: Element, b: Element) -> Element {
        self.step(Operation::Sub, 0, Operand::Element(a), Operand::Element(b))
    }

    fn freeze_to(&mut self, a: Element, zero: Flag, odd: Flag) -> Element {
        self.step(Operation::Freeze, 0, Operand::Element(a), Operand::Number(zero.0 | odd.0 << 8))
    }

    /// `a`, canonical.
    pub fn freeze(&mut self, a: Element) -> Element {
        self.freeze_to(a, IGNORED, IGNORED)
    }

    /// Whether `a` is zero.
    pub fn is_zero(&mut self, a: Element) -> Flag {
        let flag = self.flag();
        self.freeze_to(a, flag, IGNORED);
        flag
    }

    /// Whether `a` and `b` are the same.
    pub fn equal(&mut self, a: Element, b: Element) -> Flag {
        let difference = self.sub(a, b);
        self.is_zero(difference)
    }

    /// Whether the canonical form of `a` is odd.
    pub fn is_odd(&mut self, a: Element) -> Flag {
        let flag = self.flag();
        self.freeze_to(a, IGNORED, flag);
        flag
    }

    /// `a` where `choice` is set, `b` elsewhere.
    pub fn select(&mut self, choice: Flag, a: Element, b: Element) -> Element {
        self.step(Operation::Select, choice.0, Operand::Element(a), Operand::Element(b))
    }

    /// Keeps elements in consecutive registers to the program's end, so that [`Builder::look`] finds them.
    pub fn group(&mut self, elements: Vec<Element>) -> Group {
        self.groups.push(elements);
        Group(self.groups.len() - 1)
    }

    /// Element `offset + stride * index` of a group.
    pub fn look(&mut self, group: Group, offset: usize, stride: u32, index: Bits) -> Element {
        self.step(Operation::Look, stride, Operand::Group(group, offset), Operand::Number(index.packed()))
    }

    /// Element `at + stride * index` of the shared table.
    pub fn look_shared(&mut self, at: u32, stride: u32, index: Bits) -> Element {
        self.step(Operation::Table, stride, Operand::Number(at), Operand::Number(index.packed()))
    }

    /// A bit of the lane's words.
    pub fn bit(&mut self, word: u32, shift: u32) -> Flag {
        self.set(Operation::Bit, 0, Bits { word, shift, width: 1 }.packed())
    }

    /// Both.
    pub fn and(&mut self, a: Flag, b: Flag) -> Flag {
        self.set(Operation::And, a.0, b.0)
    }

    /// Either or both.
    pub fn or(&mut self, a: Flag, b: Flag) -> Flag {
        self.set(Operation::Or, a.0, b.0)
    }

    /// One of the two.
    pub fn xor(&mut self, a: Flag, b: Flag) -> Flag {
        self.set(Operation::Xor, a.0, b.0)
    }

    /// Not.
    pub fn not(&mut self, a: Flag) -> Flag {
        self.xor(a, SET)
    }

    /// The program, with `verdict` as its answer, the registers of `outputs` to be read after it, and `words` words a lane.
    pub fn finish(mut self, verdict: Flag, outputs: Vec<Element>, words: usize) -> Program {
        self.outputs = outputs;
        let mut last_use = vec![0; self.elements];
        for (at, draft) in self.drafts.iter().enumerate() {
            for operand in [&draft.a, &draft.b] {
                if let Operand::Element(element) = operand {
                    last_use[element.0] = at;
                }
            }
        }
        // Inputs, outputs and groups have registers of their own.
        let mut register = vec![None; self.elements];
        let mut registers = 0;
        let mut starts = Vec::new();
        for fixed in [&self.inputs, &self.outputs].into_iter().chain(&self.groups) {
            starts.push(registers);
            for element in fixed {
                assert!(register[element.0].is_none(), "an element is in one place only");
                register[element.0] = Some(registers as u32);
                last_use[element.0] = usize::MAX;
                registers += 1;
            }
        }
        let mut free: Vec<u32> = Vec::new();
        let mut steps = Vec::with_capacity(self.drafts.len());
        for (at, draft) in self.drafts.iter().enumerate() {
            let place = |operand: &Operand| match operand {
                Operand::Number(number) => *number,
                Operand::Group(group, offset) => (starts[2 + group.0] + offset) as u32,
                Operand::Element(element) => register[element.0].expect("set before it is used"),
            };
            let (a, b) = (place(&draft.a), place(&draft.b));
            let mut given_back: Vec<usize> = [&draft.a, &draft.b]
                .into_iter()
                .filter_map(|operand| match operand {
                    Operand::Element(element) if last_use[element.0] == at => Some(element.0),
                    _ => None,
                })
                .collect();
            given_back.dedup();
            free.extend(given_back.into_iter().filter_map(|element| register[element]));
            let target = match &draft.target {
                Operand::Element(element) => *register[element.0].get_or_insert_with(|| {
                    free.pop().unwrap_or_else(|| {
                        registers += 1;
                        registers as u32 - 1
                    })
                }),
                other => place_number(other),
            };
            if let Operand::Element(element) = &draft.target
                && last_use[element.0] == 0
            {
                // Only its flags are wanted.
                free.push(target);
            }
            steps.push([draft.operation as u32 | draft.modifier << 8, target, a, b]);
        }
        Program {
            steps,
            registers,
            inputs: self.inputs.len(),
            first_output: starts[1],
            outputs: self.outputs.len(),
            table: self.table,
            verdict: verdict.0,
            words,
        }
    }
}

fn place_number(operand: &Operand) -> u32 {
    match operand {
        Operand::Number(number) => *number,
        _ => 0,
    }
}
