//! Rewriting a module before it is compiled: gas as an inline counter, and globals that the host can put back.
//!
//! Nothing a guest can observe changes: no index moves, no function, type or memory is added. The rewritten module has
//! one more mutable global (gas, when it is metered) and exports, under names of ours, every mutable global.

use std::collections::HashMap;

use wasm_encoder::{
    BlockType, ConstExpr, ExportKind, ExportSection, Function, GlobalSection, GlobalType, Instruction, SectionId,
    ValType,
    reencode::{self, Reencode},
};
use wasmparser::{Operator, Parser, Payload, TypeRef, ValidPayload, Validator, WasmFeatures};

use crate::{Error, gas};

/// Export of the gas counter: gas used minus the limit, so that the guest is out of gas while it is positive.
pub const GAS_EXPORT: &str = "lockstep.gas";

/// Prefix of the exports of a module's own mutable globals; their index follows.
const GLOBAL_EXPORT: &str = "lockstep.global.";

/// The WebAssembly that Lockstep accepts: what Emscripten emits for ao, and the finished proposals without host state of
/// their own. Threads, garbage collection, exceptions, tail calls and several memories are refused.
pub const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::MEMORY64);

/// How gas is counted in a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// Not at all: the module neither asks for it nor carries it.
    None,
    /// Every segment is charged, as the `-metering` formats do at load.
    Inject,
    /// The module was metered when it was built and imports `metering.usegas`.
    BuiltIn,
}

/// A module ready to compile, and what the host must know of it.
#[derive(Debug)]
pub struct Instrumented {
    /// The rewritten module.
    pub wasm: Vec<u8>,
    /// How gas is counted in it.
    pub metering: Metering,
    /// Export names of its own mutable globals, to be read at rest and put back before each evaluation.
    pub globals: Vec<String>,
    /// Whether an instruction can change instance state that no snapshot of memory and globals holds (tables,
    /// dropped segments). Such a module gets a fresh instance for every evaluation.
    pub has_hidden_state: bool,
}

/// What a first reading of the module found.
#[derive(Default)]
struct Survey {
    usegas: Option<u32>,
    imported_functions: u32,
    function_types: Vec<u32>,
    /// By type index: how many parameters, and whether the first is an `i64`.
    params: HashMap<u32, (u32, bool)>,
    mutable_globals: Vec<u32>,
    globals: u32,
    has_global_section: bool,
    has_export_section: bool,
    has_hidden_state: bool,
    unmeterable: Option<String>,
}

/// Validates `wasm` against [`FEATURES`] and rewrites it. With `inject`, gas is metered as at load of a `-metering`
/// format; a module that imports `metering.usegas` is then refused, as the reference does.
///
/// # Errors
/// [`Error::Module`] for malformed or refused modules.
pub fn instrument(wasm: &[u8], inject: bool) -> Result<Instrumented, Error> {
    let survey = survey(wasm)?;
    let metering = match (inject, survey.usegas) {
        (true, Some(_)) => return Err(Error::Module("importing metering function is not allowed".into())),
        (true, None) => Metering::Inject,
        (false, Some(_)) => Metering::BuiltIn,
        (false, None) => Metering::None,
    };
    if metering == Metering::Inject
        && let Some(op) = &survey.unmeterable
    {
        return Err(Error::Module(format!(
            "metering formats allow the MVP and sign extension only; the module uses {op}"
        )));
    }
    let globals = survey.mutable_globals.iter().map(|g| format!("{GLOBAL_EXPORT}{g}")).collect();
    let has_hidden_state = survey.has_hidden_state;
    let mut rewriter = Rewriter { gas_global: survey.globals, next_function: 0, metering, survey };
    let mut module = wasm_encoder::Module::new();
    rewriter
        .parse_core_module(&mut module, Parser::new(0), wasm)
        .map_err(|e| Error::Module(format!("cannot be rewritten: {e}")))?;
    Ok(Instrumented { wasm: module.finish(), metering, globals, has_hidden_state })
}

fn survey(wasm: &[u8]) -> Result<Survey, Error> {
    let malformed = |e: wasmparser::BinaryReaderError| Error::Module(format!("not valid WebAssembly: {e}"));
    let mut survey = Survey::default();
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    let mut types = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(malformed)?;
        if let ValidPayload::Func(func, body) = validator.payload(&payload).map_err(malformed)? {
            let mut func = func.into_validator(allocations);
            func.validate(&body).map_err(malformed)?;
            allocations = func.into_allocations();
        }
        match payload {
            Payload::TypeSection(reader) => {
                for ty in reader.into_iter_err_on_gc_types() {
                    let ty = ty.map_err(malformed)?;
                    let first_is_64 = ty.params().first() == Some(&wasmparser::ValType::I64);
                    survey.params.insert(types, (ty.params().len() as u32, first_is_64));
                    types += 1;
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import.map_err(malformed)?;
                    match import.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                            if (import.module, import.name) == ("metering", "usegas") {
                                survey.usegas = Some(survey.imported_functions);
                            }
                            survey.function_types.push(ty);
                            survey.imported_functions += 1;
                        }
                        other => {
                            return Err(Error::Module(format!(
                                "imports {}.{} of a kind no host provides ({other:?})",
                                import.module, import.name
                            )));
                        }
                    }
                }
            }
            Payload::FunctionSection(reader) => {
                for ty in reader {
                    survey.function_types.push(ty.map_err(malformed)?);
                }
            }
            Payload::GlobalSection(reader) => {
                survey.has_global_section = true;
                for global in reader {
                    let ty = global.map_err(malformed)?.ty;
                    if ty.mutable {
                        if !matches!(
                            ty.content_type,
                            wasmparser::ValType::I32
                                | wasmparser::ValType::I64
                                | wasmparser::ValType::F32
                                | wasmparser::ValType::F64
                                | wasmparser::ValType::V128
                        ) {
                            survey.has_hidden_state = true;
                        } else {
                            survey.mutable_globals.push(survey.globals);
                        }
                    }
                    survey.globals += 1;
                }
            }
            Payload::ExportSection(reader) => {
                survey.has_export_section = true;
                for export in reader {
                    let name = export.map_err(malformed)?.name;
                    if name == GAS_EXPORT || name.starts_with(GLOBAL_EXPORT) {
                        return Err(Error::Module(format!("exports `{name}`, a name that Lockstep keeps for itself")));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                for op in body.get_operators_reader().map_err(malformed)? {
                    let op = op.map_err(malformed)?;
                    survey.has_hidden_state |= changes_hidden_state(&op);
                    if survey.unmeterable.is_none() && !gas::is_meterable(&op) {
                        let name = format!("{op:?}");
                        survey.unmeterable = Some(name.split([' ', '{', '(']).next().unwrap_or_default().to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(survey)
}

fn changes_hidden_state(op: &Operator<'_>) -> bool {
    matches!(
        op,
        Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::DataDrop { .. }
    )
}

struct Rewriter {
    survey: Survey,
    metering: Metering,
    gas_global: u32,
    /// Index of the next body among the module's own functions.
    next_function: u32,
}

impl Rewriter {
    fn add_gas_global(&self, globals: &mut GlobalSection) {
        globals.global(GlobalType { val_type: ValType::I64, mutable: true, shared: false }, &ConstExpr::i64_const(0));
    }

    fn add_exports(&self, exports: &mut ExportSection) {
        for global in &self.survey.mutable_globals {
            exports.export(&format!("{GLOBAL_EXPORT}{global}"), ExportKind::Global, *global);
        }
        if self.metering != Metering::None {
            exports.export(GAS_EXPORT, ExportKind::Global, self.gas_global);
        }
    }
}

impl Reencode for Rewriter {
    type Error = std::convert::Infallible;

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        reencode::utils::parse_global_section(self, globals, section)?;
        if self.metering != Metering::None {
            self.add_gas_global(globals);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        reencode::utils::parse_export_section(self, exports, section)?;
        self.add_exports(exports);
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut wasm_encoder::Module,
        after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), reencode::Error> {
        // A section the module lacks goes in at the first place where everything before it comes earlier in the
        // format's order and everything after it later.
        let gap =
            |id: SectionId| after.is_none_or(|a| order(a) < order(id)) && before.is_none_or(|b| order(b) > order(id));
        if !self.survey.has_global_section && self.metering != Metering::None && gap(SectionId::Global) {
            self.survey.has_global_section = true;
            let mut globals = GlobalSection::new();
            self.add_gas_global(&mut globals);
            module.section(&globals);
        }
        if !self.survey.has_export_section && gap(SectionId::Export) {
            self.survey.has_export_section = true;
            let mut exports = ExportSection::new();
            self.add_exports(&mut exports);
            module.section(&exports);
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut wasm_encoder::CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), reencode::Error> {
        let index = self.survey.imported_functions + self.next_function;
        self.next_function += 1;
        if self.metering == Metering::None {
            return reencode::utils::parse_function_body(self, code, body);
        }
        let ops = body.get_operators_reader()?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let function = metered_body(self, index, &body, &ops)?;
        code.function(&function);
        Ok(())
    }
}

fn order(id: SectionId) -> u8 {
    match id {
        SectionId::Custom => 0,
        SectionId::Type => 1,
        SectionId::Import => 2,
        SectionId::Function => 3,
        SectionId::Table => 4,
        SectionId::Memory => 5,
        SectionId::Tag => 6,
        SectionId::Global => 7,
        SectionId::Export => 8,
        SectionId::Start => 9,
        SectionId::Element => 10,
        SectionId::DataCount => 11,
        SectionId::Code => 12,
        SectionId::Data => 13,
    }
}

/// Writes a body that counts gas.
///
/// What a function charges gathers in a local, and is added to the global before anything that leaves the function
/// (calls, returns, branches to the outermost label), so that host and callees always see the true count. The limit is
/// compared where a guest could go on for ever: at the head of every loop and on entry of every function that calls.
/// The reference compares at every segment; but the count only grows, an evaluation that ran out is undone as a whole,
/// and the host compares once more at the end, so the same evaluations run out, with the same result.
fn metered_body(
    rewriter: &mut Rewriter,
    index: u32,
    body: &wasmparser::FunctionBody<'_>,
    ops: &[Operator<'_>],
) -> Result<Function, reencode::Error> {
    let mut locals = Vec::new();
    let params = |function: u32| rewriter.survey.params[&rewriter.survey.function_types[function as usize]];
    let mut local_count = params(index).0;
    let amount_is_64 = rewriter.survey.usegas.is_some_and(|usegas| params(usegas).1);
    for pair in body.get_locals_reader()? {
        let (count, ty) = pair?;
        local_count += count;
        locals.push((count, rewriter.val_type(ty)?));
    }
    let charges = segment_charges(ops, rewriter.metering == Metering::Inject);
    let is_usegas = |op: &Operator<'_>| matches!(op, Operator::Call { function_index } if Some(*function_index) == rewriter.survey.usegas);
    let counts = charges.iter().any(|c| *c > 0) || ops.iter().any(&is_usegas);
    if counts {
        locals.push((1, ValType::I64));
    }
    let counter = Counter { local: local_count, global: rewriter.gas_global };
    let usegas_calls: Vec<bool> = ops.iter().map(&is_usegas).collect();

    let mut function = Function::new(locals);
    let calls =
        |op: &Operator<'_>| matches!(op, Operator::Call { .. } | Operator::CallIndirect { .. }) && !is_usegas(op);
    if counts && ops.iter().any(calls) {
        counter.check(&mut function);
    }
    let mut depth = 0u32;
    for (i, op) in ops.iter().enumerate() {
        if charges[i] > 0 {
            counter.charge_constant(&mut function, charges[i]);
        }
        if usegas_calls[i] {
            counter.charge_stack(&mut function, amount_is_64);
            continue;
        }
        let leaves = match op {
            Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::Return => true,
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => *relative_depth == depth,
            Operator::BrTable { targets } => {
                targets.default() == depth || targets.targets().any(|t| matches!(t, Ok(t) if t == depth))
            }
            Operator::End => depth == 0,
            _ => false,
        };
        if counts && leaves {
            counter.settle(&mut function);
        }
        match op {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => depth += 1,
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        function.instruction(&rewriter.instruction(op.clone())?);
        if counts && matches!(op, Operator::Loop { .. }) {
            counter.settle(&mut function);
            counter.check(&mut function);
        }
    }
    Ok(function)
}

/// For each instruction, the gas to charge before it: the whole cost of the segment it begins, or 0.
fn segment_charges(ops: &[Operator<'_>], inject: bool) -> Vec<u64> {
    let mut charges = vec![0; ops.len()];
    if !inject {
        return charges;
    }
    let mut begin = 0;
    let mut cost = 0;
    for (i, op) in ops.iter().enumerate() {
        cost += gas::cost(op);
        if gas::ends_segment(op) {
            if cost > 0 {
                charges[begin] = cost + gas::SEGMENT_OVERHEAD;
            }
            begin = i + 1;
            cost = 0;
        }
    }
    charges
}

/// The gas counter inside one function.
struct Counter {
    local: u32,
    global: u32,
}

impl Counter {
    /// Adds what has gathered to the global.
    fn settle(&self, f: &mut Function) {
        f.instruction(&Instruction::GlobalGet(self.global))
            .instruction(&Instruction::LocalGet(self.local))
            .instruction(&Instruction::I64Add)
            .instruction(&Instruction::GlobalSet(self.global))
            .instruction(&Instruction::I64Const(0))
            .instruction(&Instruction::LocalSet(self.local));
    }

    /// Traps if the guest is out of gas.
    fn check(&self, f: &mut Function) {
        f.instruction(&Instruction::GlobalGet(self.global))
            .instruction(&Instruction::I64Const(0))
            .instruction(&Instruction::I64GtS)
            .instruction(&Instruction::If(BlockType::Empty))
            .instruction(&Instruction::Unreachable)
            .instruction(&Instruction::End);
    }

    fn charge_constant(&self, f: &mut Function, amount: u64) {
        f.instruction(&Instruction::I64Const(amount as i64));
        self.add(f);
    }

    /// Charges the amount on top of the stack.
    fn charge_stack(&self, f: &mut Function, is_64: bool) {
        if !is_64 {
            f.instruction(&Instruction::I64ExtendI32S);
        }
        self.add(f);
    }

    fn add(&self, f: &mut Function) {
        f.instruction(&Instruction::LocalGet(self.local))
            .instruction(&Instruction::I64Add)
            .instruction(&Instruction::LocalSet(self.local));
    }
}
