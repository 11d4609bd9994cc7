//! A body being written.

use wasm_encoder::{BlockType, BranchHint, Function, Instruction, ValType};

/// Locals of ours, behind the function's own.
#[derive(Clone, Copy, Default)]
pub struct Scratch {
    /// For addresses and lengths.
    pub i64s: [u32; 3],
    pub i32s: [u32; 2],
    pub f32: u32,
    pub f64: u32,
    pub v128: u32,
}

impl Scratch {
    /// Their declarations, in the order of [`Self::from`].
    pub const TYPES: [(u32, ValType); 5] =
        [(3, ValType::I64), (2, ValType::I32), (1, ValType::F32), (1, ValType::F64), (1, ValType::V128)];

    /// Those that [`Self::TYPES`] declares when `first` is the first of them.
    pub fn from(first: u32) -> Self {
        Self {
            i64s: [first, first + 1, first + 2],
            i32s: [first + 3, first + 4],
            f32: first + 5,
            f64: first + 6,
            v128: first + 7,
        }
    }

    /// One for a value of this type; not the one that addresses go through.
    pub fn of(&self, ty: ValType) -> u32 {
        match ty {
            ValType::I32 => self.i32s[0],
            ValType::F32 => self.f32,
            ValType::F64 => self.f64,
            ValType::V128 => self.v128,
            _ => self.i64s[1],
        }
    }
}

/// Takes instructions, and which branches are unlikely.
pub struct Writer {
    function: Function,
    hints: Vec<BranchHint>,
    pub scratch: Scratch,
}

impl Writer {
    /// A body with these locals.
    pub fn new(locals: Vec<(u32, ValType)>, scratch: Scratch) -> Self {
        Self { function: Function::new(locals), hints: Vec::new(), scratch }
    }

    /// Writes one instruction.
    pub fn put(&mut self, instruction: &Instruction<'_>) -> &mut Self {
        self.function.instruction(instruction);
        self
    }

    /// Begins a block that is entered on failures only, so that its code is kept out of the way.
    pub fn unlikely_if(&mut self) -> &mut Self {
        let branch_func_offset = self.function.byte_len() as u32;
        self.hints.push(BranchHint { branch_func_offset, branch_hint_value: 0 });
        self.put(&Instruction::If(BlockType::Empty))
    }

    /// The body, and its hints in the order of their offsets.
    pub fn finish(self) -> (Function, Vec<BranchHint>) {
        (self.function, self.hints)
    }
}
