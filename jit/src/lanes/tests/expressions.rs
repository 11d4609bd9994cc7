//! Random expressions on both engines: instructions applied to each other and to numbers at which something changes, in every order.
//!
//! Random modules hardly ever put two instructions together that a driver's compiler has a rule for. Such rules can be wrong: Mesa
//! 22.3 compares numbers that were extended from 32 bits to constants and errs about most of them.

use super::*;

/// Numbers on both sides of where something changes, with their neighbours by a bit or by one.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    31,
    63,
    100,
    0x7f,
    0x80,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_8000_0000,
    0xffff_ffff_ffff_ff80,
    0x4340_0000_0000_0000,
];

/// Expressions of a function; arguments that it is called with.
const EXPRESSIONS: usize = 64;
const CALLS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ty {
    I32,
    I64,
    F32,
    F64,
}

impl Ty {
    fn name(self) -> &'static str {
        match self {
            Ty::I32 => "i32",
            Ty::I64 => "i64",
            Ty::F32 => "f32",
            Ty::F64 => "f64",
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Ty::F32 | Ty::F64)
    }
}

/// An endless row of numbers that a seed gives.
struct Numbers(blake3::OutputReader);

impl Numbers {
    fn new(what: &str) -> Numbers {
        Numbers(blake3::Hasher::new().update(what.as_bytes()).finalize_xof())
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn one<'a>(&mut self, words: &'a str) -> &'a str {
        let words: Vec<_> = words.split(' ').collect();
        words[self.below(words.len())]
    }

    /// An edge, or near one, or anything.
    fn edge(&mut self) -> u64 {
        let edge = EDGES[self.below(EDGES.len())];
        match self.below(8) {
            0 => edge.wrapping_add(1),
            1 => edge.wrapping_sub(1),
            2 => edge ^ 1 << self.below(64),
            3 => self.next() >> self.below(64),
            _ => edge,
        }
    }

    fn constant(&mut self, ty: Ty) -> String {
        let bits = self.edge();
        match ty {
            Ty::I32 => format!("(i32.const {})", bits as u32),
            Ty::I64 => format!("(i64.const {bits})"),
            Ty::F32 => format!("(f32.reinterpret_i32 (i32.const {}))", bits as u32),
            Ty::F64 => format!("(f64.reinterpret_i64 (i64.const {bits}))"),
        }
    }

    /// An expression of a type. What a NaN's bits are says no instruction that looks at them: that may differ.
    fn expression(&mut self, ty: Ty, depth: usize) -> String {
        if depth == 0 {
            let (narrow, wide) = (self.below(2), 2 + self.below(2));
            // Conversions are what rules of compilers are about.
            return match (self.below(6), ty) {
                (0, _) => self.constant(ty),
                (1, Ty::I32) => format!("(i32.wrap_i64 (local.get {wide}))"),
                (1 | 2, Ty::I64) => format!("(i64.extend_i32_{} (local.get {narrow}))", self.one("s u")),
                (_, Ty::I32) => format!("(local.get {narrow})"),
                (_, Ty::I64) => format!("(local.get {wide})"),
                (_, Ty::F32) => format!("(f32.reinterpret_i32 (local.get {narrow}))"),
                (_, Ty::F64) => format!("(f64.reinterpret_i64 (local.get {wide}))"),
            };
        }
        let name = ty.name();
        if ty.is_float() {
            return match self.below(7) {
                0..3 => {
                    let op = self.one("add sub mul div min max copysign");
                    let (left, right) = (self.operand(ty, depth), self.operand(ty, depth));
                    format!("({name}.{op} {left} {right})")
                }
                3 => format!(
                    "({name}.{} {})",
                    self.one("abs neg ceil floor trunc nearest sqrt"),
                    self.expression(ty, depth - 1)
                ),
                4 if ty == Ty::F32 => format!("(f32.demote_f64 {})", self.expression(Ty::F64, depth - 1)),
                4 => format!("(f64.promote_f32 {})", self.expression(Ty::F32, depth - 1)),
                5 => {
                    format!("({name}.convert_i32_{} {})", self.one("s u"), self.expression(Ty::I32, depth - 1))
                }
                _ => format!("({name}.convert_i64_{} {})", self.one("s u"), self.expression(Ty::I64, depth - 1)),
            };
        }
        let other = if ty == Ty::I32 { Ty::I64 } else { Ty::I32 };
        match self.below(24) {
            0..8 => {
                let op = self.one("add sub mul and or xor shl shr_s shr_u rotl rotr");
                let (left, right) = (self.operand(ty, depth), self.operand(ty, depth));
                format!("({name}.{op} {left} {right})")
            }
            8..10 => {
                // Never 0, never all ones.
                let divisor = 2 + self.edge() % 0x7fff_fff0;
                let op = self.one("div_s div_u rem_s rem_u");
                format!("({name}.{op} {} ({name}.const {divisor}))", self.expression(ty, depth - 1))
            }
            10..14 => {
                let ops = if ty == Ty::I32 {
                    "clz ctz popcnt extend8_s extend16_s"
                } else {
                    "clz ctz popcnt extend8_s extend16_s extend32_s"
                };
                format!("({name}.{} {})", self.one(ops), self.expression(ty, depth - 1))
            }
            14..17 if ty == Ty::I64 => {
                format!("(i64.extend_i32_{} {})", self.one("s u"), self.expression(Ty::I32, depth - 1))
            }
            14 => format!("(i32.wrap_i64 {})", self.expression(Ty::I64, depth - 1)),
            15..20 if ty == Ty::I32 => {
                let of = [Ty::I32, Ty::I64, Ty::I64][self.below(3)];
                let op = self.one("eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u");
                let (left, right) = (self.operand(of, depth), self.operand(of, depth));
                format!("({}.{op} {left} {right})", of.name())
            }
            20 if ty == Ty::I32 => format!("({}.eqz {})", other.name(), self.expression(other, depth - 1)),
            21 if ty == Ty::I32 => {
                let of = [Ty::F32, Ty::F64][self.below(2)];
                let op = self.one("eq ne lt gt le ge");
                let (left, right) = (self.operand(of, depth), self.operand(of, depth));
                format!("({}.{op} {left} {right})", of.name())
            }
            22 => {
                let of = [Ty::F32, Ty::F64][self.below(2)];
                let sign = self.one("s u");
                format!("({name}.trunc_sat_{}_{sign} {})", of.name(), self.expression(of, depth - 1))
            }
            _ => {
                let (no, yes) = (self.operand(ty, depth), self.operand(ty, depth));
                format!("(select {no} {yes} {})", self.expression(Ty::I32, depth - 1))
            }
        }
    }

    fn operand(&mut self, ty: Ty, depth: usize) -> String {
        match self.below(3) {
            0 => self.constant(ty),
            _ => self.expression(ty, depth - 1),
        }
    }
}

/// A module whose function folds the values of expressions into one.
fn folding(expressions: &[(Ty, String)]) -> Both {
    let mut text = String::from(
        "(module (memory (export \"memory\") 1 1)
         (func (export \"f\") (param i32 i32 i64 i64) (result i64) (local i64)\n",
    );
    for (ty, expression) in expressions {
        let wide = if *ty == Ty::I32 { format!("(i64.extend_i32_u {expression})") } else { expression.clone() };
        text += &format!("(local.set 4 (i64.add (i64.mul (local.get 4) (i64.const 0x9e3779b97f4a7c15)) {wide}))\n");
    }
    text += "(local.get 4)))";
    Both::new(&wat::parse_str(text).unwrap(), false)
}

/// The calls of which lanes make something else than the native engine.
fn differing(device: &Device, integers: Integers, both: &Both, calls: &[(&str, Vec<u64>)]) -> Vec<usize> {
    let (before, _) = both.native("f", &calls[0].1);
    let lanes = both.lanes(device, Form { integers, trust: Trust::FULL }, &before, calls).unwrap();
    let differs = |(at, (ending, lane)): &(usize, (Ending, differential::Seen))| {
        !matches!(ending, Ending::Bail(_)) && lane.ended != both.native("f", &calls[*at].1).1.ended
    };
    lanes.into_iter().enumerate().filter(differs).map(|(at, _)| at).collect()
}

/// As many functions as `LOCKSTEP_FUZZ_EXPRESSIONS` says, from the seed that `LOCKSTEP_FUZZ_SEED` says on.
#[test]
fn random_expressions_have_the_same_values_in_lanes() {
    let Some(device) = device() else { return };
    let count = asked("LOCKSTEP_FUZZ_EXPRESSIONS").unwrap_or(30);
    let first = asked("LOCKSTEP_FUZZ_SEED").unwrap_or(0);
    let forms = forms(&device);
    let mut wrong = Vec::new();
    for seed in first..first + count {
        let mut numbers = Numbers::new(&format!("expressions {seed}"));
        let expressions: Vec<(Ty, String)> = (0..EXPRESSIONS)
            .map(|at| {
                let ty = [Ty::I32, Ty::I64][at % 2];
                let depth = 1 + numbers.below(3);
                (ty, numbers.expression(ty, depth))
            })
            .collect();
        let calls: Vec<(&str, Vec<u64>)> = (0..CALLS)
            .map(|_| {
                let [a, b, c, d] = [(); 4].map(|()| numbers.edge());
                ("f", vec![a & 0xffff_ffff, b & 0xffff_ffff, c, d])
            })
            .collect();
        let integers = forms[seed as usize % forms.len()];
        if differing(&device, integers, &folding(&expressions), &calls).is_empty() {
            continue;
        }
        // Which of them it is, and where.
        for expression in expressions {
            let both = folding(std::slice::from_ref(&expression));
            let at = differing(&device, integers, &both, &calls);
            if let Some(at) = at.first() {
                wrong.push(format!("seed {seed}, {integers:?}, at {:x?}: {}", calls[*at].1, expression.1));
            }
        }
        wrong.push(format!("seed {seed}, {integers:?}"));
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn extended_numbers_compare_with_constants_as_they_are() {
    let Some(device) = device() else { return };
    let mut expressions = Vec::new();
    for op in ["lt_s", "gt_s", "le_s", "ge_s", "lt_u", "ge_u", "eq"] {
        for constant in ["0", "1", "-1", "8192", "2147483648", "-5000000000"] {
            for sign in ["s", "u"] {
                let (constant, extended) =
                    (format!("(i64.const {constant})"), format!("(i64.extend_i32_{sign} (local.get 0))"));
                expressions.push((Ty::I32, format!("(i64.{op} {constant} {extended})")));
                expressions.push((Ty::I32, format!("(i64.{op} {extended} {constant})")));
            }
        }
    }
    let calls: Vec<_> = EDGES.iter().map(|edge| ("f", vec![edge & 0xffff_ffff, 0, 0, 0])).collect();
    for integers in forms(&device) {
        let wrong = differing(&device, integers, &folding(&expressions), &calls);
        assert!(wrong.is_empty(), "{integers:?}: calls {wrong:?}");
    }
}
