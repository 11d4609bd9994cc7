//! One message in a lane: what the host does around `handle` on the CPU, as a function of the module.

use wasmparser::{FuncType, Operator, ValType};

use super::{
    layout::words_of,
    program::{Function, Program},
};
use crate::{Error, ModuleFormat, native::Names};

/// The name that [`add`] exports the function by.
pub const TURN: &str = "lockstep.turn";

/// What a call of this function does: writes bytes from the lane's inbox to memory (where, from which word, how many).
pub const COPY_IN: u32 = u32::MAX;

/// A message and its environment as the lane's inbox holds them, and the arguments that say so.
pub struct Inbox {
    /// Both texts with their NULs, each from a word on.
    pub words: Vec<u32>,
    /// The arguments of [`TURN`].
    pub arguments: Vec<u64>,
}

impl Inbox {
    /// Lays out a message and its environment.
    pub fn new(format: ModuleFormat, message: &str, environment: &str) -> Inbox {
        let mut words = Vec::new();
        let (mut allocated, mut counts) = (Vec::new(), Vec::new());
        let mut second = 0;
        for text in [message, environment] {
            second = words.len();
            allocated.push(Names::text_bytes(format, text) + 1);
            counts.push(text.len() as u64 + 1);
            let bytes = text.as_bytes();
            words.extend(words_of(bytes));
            if bytes.len() % 4 == 0 {
                words.push(0);
            }
        }
        let arguments = vec![allocated[0], allocated[1], counts[0], counts[1], second as u64];
        Inbox { words, arguments }
    }
}

/// Adds the function: `(allocate, allocate, count, count, second word) -> response`.
///
/// # Errors
/// [`Error::Module`] if the module lacks what its format's glue calls.
pub fn add(program: &mut Program<'_>, format: ModuleFormat) -> Result<(), Error> {
    let names = Names::of(format);
    let find = |name: &str| {
        let found = program.exports.get(name).copied();
        found.ok_or_else(|| Error::Module(format!("lanes cannot take it: it exports no function `{name}`")))
    };
    let [save, restore, allocate] = names.stack;
    let (save, restore, allocate, handle) = (find(save)?, find(restore)?, find(allocate)?, find(names.handle)?);
    let pointer = if format.is_64() { ValType::I64 } else { ValType::I32 };
    let get = |local_index| Operator::LocalGet { local_index };
    let call = |function_index| Operator::Call { function_index };
    let mut ops = vec![call(save), Operator::LocalSet { local_index: 7 }];
    for (text, pointer) in [(0, 5), (1, 6)] {
        ops.push(get(text));
        if format.is_64() {
            ops.push(Operator::I64ExtendI32U);
        }
        ops.extend([call(allocate), Operator::LocalTee { local_index: pointer }]);
        if format.is_64() {
            ops.push(Operator::I32WrapI64);
        }
        ops.push(if text == 0 { Operator::I32Const { value: 0 } } else { get(4) });
        ops.extend([get(2 + text), call(COPY_IN)]);
    }
    ops.extend([get(5), get(6), call(handle), get(7), call(restore), Operator::End]);
    let params = [ValType::I32; 5];
    let ty = program.types.len() as u32;
    program.types.push(FuncType::new(params, [pointer]));
    let index = (program.imports.len() + program.functions.len()) as u32;
    let locals = params.into_iter().chain([pointer; 3]).collect();
    program.functions.push(Function { ty, locals, ops: ops.into_iter().map(|op| (op, 0)).collect() });
    program.exports.insert(TURN.into(), index);
    Ok(())
}
