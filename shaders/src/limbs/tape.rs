//! Straight-line integer code, written once: printed as WGSL for the device and run on the CPU as its twin.
//!
//! A tape is built by calling its methods. Every value carries the largest number it can be, so building a tape is also
//! the proof that nothing in it overflows: an operation whose result might not fit panics while the tape is built, which
//! happens for the same few forms in every run and every test, never for an input.

use std::fmt::Write;

/// How many lanes the twin runs side by side. A constant so that the compiler makes vector code of the inner loops.
pub const LANES: usize = 32;

/// One 32-bit word of each lane of a block.
pub type Block = [u32; LANES];

/// A value on a [`Tape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(usize);

#[derive(Clone, Debug)]
enum Op {
    /// The input with this index.
    Input(usize),
    Constant(u64),
    Add(Node, Node),
    Sub(Node, Node),
    /// Both factors are below 2^32.
    Mul(Node, Node),
    Shr(Node, u32),
    Shl(Node, u32),
    And(Node, u64),
    /// The second if the first is 1, the third if it is 0.
    Select(Node, Node, Node),
}

#[derive(Clone, Debug)]
struct Value {
    op: Op,
    /// The largest number that this can be.
    max: u64,
    /// Whether WGSL holds it in a `u64`.
    wide: bool,
}

/// Straight-line integer code with named inputs and outputs.
#[derive(Clone, Debug)]
pub struct Tape {
    values: Vec<Value>,
    inputs: Vec<String>,
    outputs: Vec<(String, Node)>,
    wide: bool,
}

impl Tape {
    /// An empty tape. With `wide`, products and what is made of them are 64-bit; without, everything has to fit 32.
    pub fn new(wide: bool) -> Tape {
        Tape { values: Vec::new(), inputs: Vec::new(), outputs: Vec::new(), wide }
    }

    /// The largest number that `node` can be.
    pub fn max(&self, node: Node) -> u64 {
        self.values[node.0].max
    }

    fn push(&mut self, op: Op, max: u128, wide: bool) -> Node {
        let limit = if self.wide { u128::from(u64::MAX) } else { u128::from(u32::MAX) };
        assert!(max <= limit, "{op:?} can reach {max}, more than the tape's width holds");
        let max = max as u64;
        self.values.push(Value { op, max, wide: wide || max > u64::from(u32::MAX) });
        Node(self.values.len() - 1)
    }

    fn constant_of(&self, node: Node) -> Option<u64> {
        match self.values[node.0].op {
            Op::Constant(number) => Some(number),
            _ => None,
        }
    }

    fn is_wide(&self, node: Node) -> bool {
        self.values[node.0].wide
    }

    /// An input that is a `u32` variable or expression called `name` in WGSL and never more than `max`.
    pub fn input(&mut self, name: impl Into<String>, max: u64) -> Node {
        assert!(max <= u64::from(u32::MAX), "a 32-bit input holds no {max}");
        self.inputs.push(name.into());
        self.push(Op::Input(self.inputs.len() - 1), max.into(), false)
    }

    /// An input of the tape's accumulator width: a `u64` on a wide tape.
    pub fn input_accumulator(&mut self, name: impl Into<String>, max: u64) -> Node {
        self.inputs.push(name.into());
        self.push(Op::Input(self.inputs.len() - 1), max.into(), self.wide)
    }

    /// A number.
    pub fn constant(&mut self, number: u64) -> Node {
        self.push(Op::Constant(number), number.into(), false)
    }

    /// `a + b`.
    pub fn add(&mut self, a: Node, b: Node) -> Node {
        match (self.constant_of(a), self.constant_of(b)) {
            (Some(0), _) => b,
            (_, Some(0)) => a,
            _ => {
                let max = u128::from(self.max(a)) + u128::from(self.max(b));
                self.push(Op::Add(a, b), max, self.is_wide(a) || self.is_wide(b))
            }
        }
    }

    /// `a - b`, where the caller knows that `a` is never less.
    pub fn sub(&mut self, a: Node, b: Node) -> Node {
        let max = u128::from(self.max(a));
        self.push(Op::Sub(a, b), max, self.is_wide(a) || self.is_wide(b))
    }

    /// `a * b`, both below 2^32.
    pub fn mul(&mut self, a: Node, b: Node) -> Node {
        match (self.constant_of(a), self.constant_of(b)) {
            (Some(0), _) | (_, Some(1)) => a,
            (_, Some(0)) | (Some(1), _) => b,
            _ => {
                let (x, y) = (self.max(a), self.max(b));
                assert!(x <= u64::from(u32::MAX) && y <= u64::from(u32::MAX), "factors of at most 32 bits");
                self.push(Op::Mul(a, b), u128::from(x) * u128::from(y), self.wide)
            }
        }
    }

    /// `a >> bits`.
    pub fn shr(&mut self, a: Node, bits: u32) -> Node {
        match self.max(a) >> bits {
            0 => self.constant(0),
            _ if bits == 0 => a,
            max => self.push(Op::Shr(a, bits), max.into(), self.is_wide(a)),
        }
    }

    /// `a << bits`.
    pub fn shl(&mut self, a: Node, bits: u32) -> Node {
        if bits == 0 || self.max(a) == 0 {
            return a;
        }
        self.push(Op::Shl(a, bits), u128::from(self.max(a)) << bits, self.is_wide(a))
    }

    /// `a & mask`.
    pub fn and(&mut self, a: Node, mask: u64) -> Node {
        let max = self.max(a);
        if max <= mask && (mask + 1).is_power_of_two() && !self.is_wide(a) {
            return a;
        }
        self.push(Op::And(a, mask), max.min(mask).into(), false)
    }

    /// `yes` where `choice` is 1, `no` where it is 0.
    pub fn select(&mut self, choice: Node, yes: Node, no: Node) -> Node {
        let max = self.max(yes).max(self.max(no));
        self.push(Op::Select(choice, yes, no), max.into(), self.is_wide(yes) || self.is_wide(no))
    }

    /// Says that `node` is never more than `max`, which the caller knows from more than the tape does (that a whole number
    /// is below some bound, say). The twin checks it in tests.
    pub fn assume(&mut self, node: Node, max: u64) {
        let value = &mut self.values[node.0];
        value.max = value.max.min(max);
    }

    /// Gives a value to the variable called `name` in WGSL.
    pub fn output(&mut self, name: impl Into<String>, node: Node) {
        self.outputs.push((name.into(), node));
    }

    /// Multiplications on the tape, which is what its cost goes by.
    pub fn products(&self) -> usize {
        self.values.iter().filter(|value| matches!(value.op, Op::Mul(..))).count()
    }

    /// The tape as WGSL statements, one a line. Inputs and outputs are the variables of their names; an output of a wide
    /// tape is converted to `u32` if it always fits and `wide_outputs` is false. Outputs are written after everything
    /// else, so that an output may be an input's variable.
    pub fn wgsl(&self, wide_outputs: bool) -> String {
        let mut text = String::new();
        let used = self.used();
        for (index, value) in self.values.iter().enumerate().filter(|(index, _)| used[*index]) {
            if matches!(value.op, Op::Constant(_)) {
                continue;
            }
            let at = |node: &Node| self.as_width(*node, value.wide);
            let expression = match &value.op {
                Op::Input(input) => self.inputs[*input].clone(),
                Op::Constant(_) => unreachable!("constants are written where they are used"),
                Op::Add(a, b) => format!("{} + {}", at(a), at(b)),
                Op::Sub(a, b) => format!("{} - {}", at(a), at(b)),
                Op::Mul(a, b) => format!("{} * {}", at(a), at(b)),
                Op::Shr(a, bits) => format!("{} >> {bits}u", at(a)),
                Op::Shl(a, bits) => format!("{} << {bits}u", at(a)),
                Op::And(a, mask) => format!("{} & {mask}u", self.as_width(*a, false)),
                Op::Select(choice, yes, no) => {
                    format!("select({}, {}, {} == 1u)", at(no), at(yes), self.as_width(*choice, false))
                }
            };
            let _ = writeln!(text, "let v{index} = {expression};");
        }
        for (name, node) in &self.outputs {
            let _ = writeln!(text, "{name} = {};", self.as_width(*node, self.wide && wide_outputs));
        }
        text
    }

    fn as_width(&self, node: Node, wide: bool) -> String {
        let value = &self.values[node.0];
        match (&value.op, value.wide, wide) {
            (Op::Constant(number), _, true) => format!("{number}lu"),
            (Op::Constant(number), _, false) => format!("{}u", *number as u32),
            (_, true, false) => format!("u32(v{})", node.0),
            (_, false, true) => format!("u64(v{})", node.0),
            _ => format!("v{}", node.0),
        }
    }

    fn used(&self) -> Vec<bool> {
        let mut used = vec![false; self.values.len()];
        for (_, node) in &self.outputs {
            used[node.0] = true;
        }
        for index in (0..self.values.len()).rev() {
            if !used[index] {
                continue;
            }
            match self.values[index].op {
                Op::Input(_) | Op::Constant(_) => {}
                Op::Add(a, b) | Op::Sub(a, b) | Op::Mul(a, b) => [a, b].iter().for_each(|node| used[node.0] = true),
                Op::Shr(a, _) | Op::Shl(a, _) | Op::And(a, _) => used[a.0] = true,
                Op::Select(a, b, c) => [a, b, c].iter().for_each(|node| used[node.0] = true),
            }
        }
        used
    }

    /// Runs the tape on a block of lanes: the CPU twin of [`Tape::wgsl`]. Inputs and outputs in the order in which they
    /// were declared.
    pub fn run<'a>(&self, inputs: &[[u64; LANES]], scratch: &'a mut Scratch) -> impl Iterator<Item = &'a [u64; LANES]> {
        assert_eq!(inputs.len(), self.inputs.len(), "as many inputs as were declared");
        scratch.values.resize(self.values.len(), [0; LANES]);
        for (index, value) in self.values.iter().enumerate() {
            let (before, after) = scratch.values.split_at_mut(index);
            let out = &mut after[0];
            let of = |node: &Node| &before[node.0];
            match &value.op {
                Op::Input(input) => *out = inputs[*input],
                Op::Constant(number) => *out = [*number; LANES],
                Op::Add(a, b) => zip(out, of(a), of(b), |a, b| a.wrapping_add(b)),
                Op::Sub(a, b) => zip(out, of(a), of(b), |a, b| a.wrapping_sub(b)),
                Op::Mul(a, b) => zip(out, of(a), of(b), |a, b| u64::from(a as u32) * u64::from(b as u32)),
                Op::Shr(a, bits) => zip(out, of(a), of(a), |a, _| a >> bits),
                Op::Shl(a, bits) => zip(out, of(a), of(a), |a, _| a << bits),
                Op::And(a, mask) => zip(out, of(a), of(a), |a, _| a & mask),
                Op::Select(choice, yes, no) => {
                    let choice = of(choice);
                    let (yes, no) = (of(yes), of(no));
                    for lane in 0..LANES {
                        out[lane] = if choice[lane] == 1 { yes[lane] } else { no[lane] };
                    }
                }
            }
            if cfg!(test) {
                assert!(out.iter().all(|number| *number <= value.max), "{:?} exceeds {}", value.op, value.max);
            }
        }
        let Scratch { values, outputs } = scratch;
        outputs.clear();
        outputs.extend(self.outputs.iter().map(|(_, node)| node.0));
        let values = &*values;
        outputs.iter().map(move |index| &values[*index])
    }
}

/// Room for a run of a tape; reused from run to run.
#[derive(Debug, Default)]
pub struct Scratch {
    values: Vec<[u64; LANES]>,
    outputs: Vec<usize>,
}

fn zip(out: &mut [u64; LANES], a: &[u64; LANES], b: &[u64; LANES], f: impl Fn(u64, u64) -> u64) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = f(*a, *b);
    }
}
