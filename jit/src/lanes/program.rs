//! A module as the lanes compiler reads it: lanes get its data with the memory of a native instance.

use std::collections::{BTreeSet, HashMap};

use wasmparser::{
    DataKind, ElementItems, ElementKind, ExternalKind, FuncType, Operator, Parser, Payload, TableInit, TypeRef,
    ValType, Validator,
};

use super::{frames::Access, layout::words_of};
use crate::{
    Error,
    instrument::{FEATURES, charged, is_usegas},
};

/// One function of the module itself.
pub struct Function<'a> {
    /// Its type's index.
    pub ty: u32,
    /// Types of its locals, parameters first.
    pub locals: Vec<ValType>,
    /// Its instructions, the last of which is its `end`; each with the gas to charge before it.
    pub ops: Vec<(Operator<'a>, u64)>,
}

/// What is imported as a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Gas, charged by a module that was metered when it was built.
    UseGas,
    /// Anything else: lanes have no host to call.
    Other,
}

/// A table's entry: what it calls, or nothing.
pub type Entry = Option<u32>;

/// A module's table of functions.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Its entries as instantiation leaves them.
    pub entries: Vec<Entry>,
    /// Whether the entries are not known: they come from the host or from values that only an instance has.
    pub is_opaque: bool,
    /// Whether its indices have 64 bits.
    pub is_64: bool,
}

/// A global.
#[derive(Clone, Copy, Debug)]
pub struct Global {
    /// Its type.
    pub ty: ValType,
    /// Whether instructions may set it.
    pub is_mutable: bool,
    /// What it is at first, as bits; none if only an instance knows.
    pub initial: Option<u64>,
}

impl Global {
    /// What it always is, if that is known.
    pub fn constant(&self) -> Option<u64> {
        self.initial.filter(|_| !self.is_mutable)
    }
}

/// A validated module.
pub struct Program<'a> {
    /// Function types; by index.
    pub types: Vec<FuncType>,
    /// For each imported function, its type and what it is.
    pub imports: Vec<(u32, Host)>,
    /// The module's own functions, numbered behind the imported ones.
    pub functions: Vec<Function<'a>>,
    /// Its tables.
    pub tables: Vec<Table>,
    /// Its globals, imported ones first.
    pub globals: Vec<Global>,
    /// Whether its memory has 64-bit addresses.
    pub is_64: bool,
    /// Most pages of 64 KiB that its memory may grow to; none if it has no memory.
    pub pages_max: Option<u64>,
    /// Pages at the start.
    pub pages_min: u64,
    /// Exported functions by name.
    pub exports: HashMap<String, u32>,
    /// Whether gas is counted.
    pub is_metered: bool,
    /// What instantiation writes to memory, in this order: from where on, and what.
    pub segments: Vec<(u32, &'a [u8])>,
    /// Offsets of instructions that write to memory.
    pub store_offsets: BTreeSet<u64>,
    /// Bytes of memory (from, to) that functions take for what the segments say. It has to be checked.
    pub constants: Option<(u32, u32)>,
}

/// Modules with more segments than this have nothing that is taken for constant.
const SEGMENTS_MAX: usize = 1_000;

/// Bytes that may be taken for constant: they are compared for each message.
const CONSTANTS_MAX: u32 = 8192;

impl<'a> Program<'a> {
    /// Validates and reads. With `inject`, gas is charged as at load of a `-metering` format.
    ///
    /// # Errors
    /// [`Error::Module`] for what is no valid module of the features that Lockstep accepts.
    pub fn read(wasm: &'a [u8], inject: bool) -> Result<Self, Error> {
        let malformed = |e: wasmparser::BinaryReaderError| Error::Module(format!("not valid WebAssembly: {e}"));
        Validator::new_with_features(FEATURES).validate_all(wasm).map_err(malformed)?;
        let mut program = Program {
            types: Vec::new(),
            imports: Vec::new(),
            functions: Vec::new(),
            tables: Vec::new(),
            globals: Vec::new(),
            is_64: false,
            pages_max: None,
            pages_min: 0,
            exports: HashMap::new(),
            is_metered: inject,
            segments: Vec::new(),
            store_offsets: BTreeSet::new(),
            constants: None,
        };
        let mut declared = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            program.take(payload.map_err(malformed)?, inject, &mut declared).map_err(malformed)?;
        }
        Ok(program)
    }

    fn take(
        &mut self,
        payload: Payload<'a>,
        inject: bool,
        declared: &mut Vec<u32>,
    ) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::TypeSection(reader) => {
                for ty in reader.into_iter_err_on_gc_types() {
                    self.types.push(ty?);
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import?;
                    match import.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                            let host = if is_usegas(import.module, import.name) { Host::UseGas } else { Host::Other };
                            self.is_metered |= host == Host::UseGas;
                            self.imports.push((ty, host));
                        }
                        TypeRef::Global(ty) => {
                            self.globals.push(Global { ty: ty.content_type, is_mutable: ty.mutable, initial: None });
                        }
                        TypeRef::Table(ty) => {
                            self.tables.push(Table { entries: Vec::new(), is_opaque: true, is_64: ty.table64 });
                        }
                        TypeRef::Memory(memory) => self.take_memory(&memory),
                        TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::FunctionSection(reader) => {
                for ty in reader {
                    declared.push(ty?);
                }
            }
            Payload::TableSection(reader) => {
                for table in reader {
                    let table = table?;
                    let known = matches!(table.init, TableInit::RefNull) && table.ty.initial <= TABLE_ENTRIES_MAX;
                    let entries = if known { vec![None; table.ty.initial as usize] } else { Vec::new() };
                    self.tables.push(Table { entries, is_opaque: !known, is_64: table.ty.table64 });
                }
            }
            Payload::MemorySection(reader) => {
                for memory in reader {
                    self.take_memory(&memory?);
                }
            }
            Payload::GlobalSection(reader) => {
                for global in reader {
                    let global = global?;
                    let initial = self.constant(&global.init_expr)?;
                    let (ty, is_mutable) = (global.ty.content_type, global.ty.mutable);
                    self.globals.push(Global { ty, is_mutable, initial });
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    if export.kind == ExternalKind::Func {
                        self.exports.insert(export.name.into(), export.index);
                    }
                }
            }
            Payload::ElementSection(reader) => {
                for segment in reader {
                    self.take_element(segment?)?;
                }
            }
            Payload::CodeSectionEntry(body) => {
                let ty = declared[self.functions.len()];
                let mut locals = self.types[ty as usize].params().to_vec();
                for pair in body.get_locals_reader()? {
                    let (count, ty) = pair?;
                    locals.extend(std::iter::repeat_n(ty, count as usize));
                }
                let ops = body.get_operators_reader()?.into_iter().collect::<Result<Vec<_>, _>>()?;
                let ops = charged(ops, inject);
                for (op, _) in &ops {
                    if let Some(access) = Access::of(op)
                        && access.is_store
                    {
                        self.store_offsets.insert(access.memarg.offset);
                    }
                    match op {
                        Operator::TableSet { table }
                        | Operator::TableGrow { table }
                        | Operator::TableFill { table }
                        | Operator::TableCopy { dst_table: table, .. }
                        | Operator::TableInit { table, .. } => self.tables[*table as usize].is_opaque = true,
                        _ => {}
                    }
                }
                self.functions.push(Function { ty, locals, ops });
            }
            Payload::DataSection(reader) => {
                for data in reader {
                    let data = data?;
                    let DataKind::Active { offset_expr, .. } = data.kind else { continue };
                    // What only an instance knows may lie over the others. Hostile modules have very many.
                    match self.constant(&offset_expr)?.and_then(|offset| u32::try_from(offset).ok()) {
                        Some(offset) if self.segments.len() < SEGMENTS_MAX => self.segments.push((offset, data.data)),
                        _ => {
                            self.segments.clear();
                            break;
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What memory holds at first from one byte to another, where one segment says all of it.
    fn initial_bytes(&self, from: u32, to: u32) -> Option<&'a [u8]> {
        let touches =
            |(start, data): &&(u32, &[u8])| *start < to && u64::from(from) < u64::from(*start) + data.len() as u64;
        let (start, data) = self.segments.iter().rfind(touches)?;
        data.get(from.checked_sub(*start)? as usize..to.checked_sub(*start)? as usize)
    }

    /// A number in memory as it is at first, if that can be taken for constant.
    pub fn constant_number(&self, at: u32, bytes: u32) -> Option<u64> {
        let found = self.initial_bytes(at, at.checked_add(bytes)?)?;
        Some(found.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Whether bytes can be taken for constant: there are few enough, one segment says them, they are in memory from
    /// the beginning, and no instruction writes to a place among them by its offset alone.
    pub fn may_be_constant(&self, from: u32, to: u32) -> bool {
        let (from, to) = (from & !3, to.next_multiple_of(4));
        to - from <= CONSTANTS_MAX
            && u64::from(to) <= self.pages_min << 16
            && self.initial_bytes(from, to).is_some()
            && self.store_offsets.range(u64::from(from.saturating_sub(7))..u64::from(to)).next().is_none()
    }

    /// The constants as words, and where they begin.
    pub fn constant_words(&self) -> Option<(u32, Vec<u32>)> {
        let (from, to) = self.constants?;
        let (from, to) = (from & !3, to.next_multiple_of(4));
        Some((from, words_of(self.initial_bytes(from, to)?).collect()))
    }

    /// What a constant expression gives, as bits; none if only an instance knows.
    fn constant(&self, expression: &wasmparser::ConstExpr<'_>) -> Result<Option<u64>, wasmparser::BinaryReaderError> {
        let mut ops = expression.get_operators_reader();
        let value = match ops.read()? {
            Operator::I32Const { value } => Some(u64::from(value as u32)),
            Operator::I64Const { value } => Some(value as u64),
            Operator::F32Const { value } => Some(u64::from(value.bits())),
            Operator::F64Const { value } => Some(value.bits()),
            Operator::GlobalGet { global_index } => self.globals[global_index as usize].constant(),
            _ => None,
        };
        Ok(value.filter(|_| matches!(ops.read(), Ok(Operator::End))))
    }

    fn take_memory(&mut self, memory: &wasmparser::MemoryType) {
        let most = if memory.memory64 { u64::MAX } else { 65_536 };
        self.is_64 = memory.memory64;
        self.pages_min = memory.initial;
        self.pages_max = Some(memory.maximum.unwrap_or(most).min(most));
    }

    fn take_element(&mut self, segment: wasmparser::Element<'a>) -> Result<(), wasmparser::BinaryReaderError> {
        let ElementKind::Active { table_index, offset_expr } = segment.kind else { return Ok(()) };
        let offset = self.constant(&offset_expr)?;
        let table = &mut self.tables[table_index.unwrap_or(0) as usize];
        let Some(offset) = offset else {
            table.is_opaque = true;
            return Ok(());
        };
        let mut entries = Vec::new();
        match segment.items {
            ElementItems::Functions(items) => {
                for item in items {
                    entries.push(Some(item?));
                }
            }
            ElementItems::Expressions(_, items) => {
                for item in items {
                    entries.push(match item?.get_operators_reader().read()? {
                        Operator::RefFunc { function_index } => Some(function_index),
                        Operator::RefNull { .. } => None,
                        _ => {
                            table.is_opaque = true;
                            None
                        }
                    });
                }
            }
        }
        let end = offset.saturating_add(entries.len() as u64);
        match usize::try_from(offset) {
            Ok(start) if end <= table.entries.len() as u64 => {
                table.entries[start..start + entries.len()].copy_from_slice(&entries);
            }
            // Such a module traps when it is instantiated; if the table is not known, neither is this.
            _ => table.is_opaque = true,
        }
        Ok(())
    }

    /// The type of a function, imported or not.
    pub fn function_type(&self, function: u32) -> &FuncType {
        let function = function as usize;
        let ty = match self.imports.get(function) {
            Some((ty, _)) => *ty,
            None => self.functions[function - self.imports.len()].ty,
        };
        &self.types[ty as usize]
    }

    /// One of the module's own functions, by the index that counts imported ones first.
    pub fn own(&self, function: u32) -> Option<&Function<'a>> {
        self.functions.get((function as usize).checked_sub(self.imports.len())?)
    }

    /// The first type equal to this one: what types are compared by.
    pub fn canonical_type(&self, ty: u32) -> u32 {
        let wanted = &self.types[ty as usize];
        self.types.iter().position(|ty| ty == wanted).expect("the type is among them") as u32
    }
}

/// More entries than this are not laid out: no compiler makes such tables, and hostile modules declare them for
/// nothing.
const TABLE_ENTRIES_MAX: u64 = 1 << 16;
