//! What is known of a number before the program runs.

use wasmparser::Operator;

/// Frames are aligned so, as the tool conventions say; it is checked where it counts.
pub const STACK_ALIGNMENT: i32 = 16;

/// How far from the stack pointer an address may be and still be told apart.
const REACH: i32 = 1 << 20;

/// What is known of an operand or a local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// What it is.
    Number(i32),
    /// The stack pointer when the function was entered, and so many bytes.
    Frame(i32),
    /// Computed from the stack pointer, who knows how.
    Somewhere,
}

impl Known {
    /// What holds of both.
    pub fn join(self, other: Known) -> Known {
        match (self, other) {
            (a, b) if a == b => a,
            (Known::Frame(_) | Known::Somewhere, _) | (_, Known::Frame(_) | Known::Somewhere) => Known::Somewhere,
            _ => Known::Nothing,
        }
    }

    /// What remains when it may have been changed.
    pub fn changed(self) -> Known {
        self.join(Known::Nothing)
    }

    fn moved(self, by: Option<i32>) -> Known {
        match (self, by) {
            (Known::Frame(at), Some(by)) => match at.checked_add(by) {
                Some(at) if at.abs() <= REACH => Known::Frame(at),
                _ => Known::Somewhere,
            },
            (Known::Number(a), Some(b)) => Known::Number(a.wrapping_add(b)),
            (Known::Frame(_) | Known::Somewhere, None) | (Known::Somewhere, _) => Known::Somewhere,
            _ => Known::Nothing,
        }
    }

    fn number(self) -> Option<i32> {
        if let Known::Number(n) = self { Some(n) } else { None }
    }
}

/// What is known of an instruction's result.
pub fn computed(op: &Operator<'_>, operands: &[Known]) -> Known {
    use Known::{Frame, Nothing, Number, Somewhere};
    use Operator::*;
    match (op, operands) {
        (I32Const { value }, _) => Number(*value),
        (I32Add, [a, b]) => match (a.number(), b.number()) {
            (_, Some(b)) => a.moved(Some(b)),
            (Some(a), _) => b.moved(Some(a)),
            _ => a.moved(None).join(b.moved(None)),
        },
        (I32Sub, [Frame(a), Frame(b)]) => Number(a.wrapping_sub(*b)),
        (I32Sub, [a, Number(b)]) => a.moved(b.checked_neg()),
        (I32Sub, [a, _]) => a.moved(None),
        (I32Or, [Frame(at), Number(bits)] | [Number(bits), Frame(at)]) => {
            let is_sum = (0..STACK_ALIGNMENT).contains(bits) && at & bits == 0;
            if is_sum { Frame(*at).moved(Some(*bits)) } else { Somewhere }
        }
        (I32And, [Frame(at), Number(mask)] | [Number(mask), Frame(at)]) => {
            if matches!(mask, -16 | -8 | -4) {
                Frame(at & mask)
            } else {
                Nothing
            }
        }
        (I32Or | I32And, [Somewhere, _] | [_, Somewhere]) => Somewhere,
        (I32Eq, [Frame(a), Frame(b)]) => Number(i32::from(a == b)),
        (I32Ne, [Frame(a), Frame(b)]) => Number(i32::from(a != b)),
        (I32Eqz, [Number(a)]) => Number(i32::from(*a == 0)),
        (_, [Number(a), Number(b)]) => of_two(op, *a, *b).map_or(Nothing, Number),
        (Select, [a, _, Number(n)]) if *n != 0 => *a,
        (Select, [_, b, Number(0)]) => *b,
        (Select, [a, b, _]) => a.join(*b),
        _ => Nothing,
    }
}

fn of_two(op: &Operator<'_>, a: i32, b: i32) -> Option<i32> {
    use Operator::*;
    let (unsigned_a, unsigned_b) = (a as u32, b as u32);
    Some(match op {
        I32Mul => a.wrapping_mul(b),
        I32And => a & b,
        I32Or => a | b,
        I32Xor => a ^ b,
        I32Shl => a.wrapping_shl(unsigned_b),
        I32ShrU => unsigned_a.wrapping_shr(unsigned_b) as i32,
        I32ShrS => a.wrapping_shr(unsigned_b),
        I32Eq => i32::from(a == b),
        I32Ne => i32::from(a != b),
        I32LtS => i32::from(a < b),
        I32GtS => i32::from(a > b),
        I32LeS => i32::from(a <= b),
        I32GeS => i32::from(a >= b),
        I32LtU => i32::from(unsigned_a < unsigned_b),
        I32GtU => i32::from(unsigned_a > unsigned_b),
        I32LeU => i32::from(unsigned_a <= unsigned_b),
        I32GeU => i32::from(unsigned_a >= unsigned_b),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Known::*, *};

    #[test]
    fn addresses_are_followed_and_what_is_lost_is_remembered_as_a_frame_s() {
        assert_eq!(computed(&Operator::I32Add, &[Frame(-16), Number(4)]), Frame(-12));
        assert_eq!(computed(&Operator::I32Sub, &[Frame(0), Number(416)]), Frame(-416));
        assert_eq!(computed(&Operator::I32Or, &[Frame(-16), Number(12)]), Frame(-4));
        assert_eq!(computed(&Operator::I32Or, &[Frame(-12), Number(4)]), Somewhere);
        assert_eq!(computed(&Operator::I32Add, &[Frame(-16), Nothing]), Somewhere);
        assert_eq!(computed(&Operator::I32Add, &[Nothing, Number(1)]), Nothing);
        assert_eq!(computed(&Operator::I32Add, &[Frame(REACH), Number(1)]), Somewhere);
        assert_eq!(computed(&Operator::I32Sub, &[Frame(8), Number(i32::MIN)]), Somewhere);
        assert_eq!(computed(&Operator::I32Ne, &[Frame(8), Frame(8)]), Number(0));
        assert_eq!(computed(&Operator::I32Mul, &[Frame(8), Number(1)]), Nothing);
        assert_eq!(computed(&Operator::I32ShrU, &[Number(-1), Number(33)]), Number(i32::MAX));
        assert_eq!(Frame(4).join(Frame(8)), Somewhere);
        assert_eq!(Number(4).changed(), Nothing);
    }
}
