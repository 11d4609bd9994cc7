//! A first reading of a module: validation, and what the rewriting has to know beforehand.

use wasmparser::{
    ConstExpr, DataKind, ElementItems, Export, ExternalKind, Global, Operator, Parser, Payload, SubType, TypeRef,
    ValidPayload, Validator,
};

use super::{
    FEATURES, PREFIX,
    asyncify::{Asyncify, Trace, Traces},
    narrow,
};
use crate::{Error, gas};

/// What a first reading of the module found.
#[derive(Default)]
pub struct Survey {
    pub usegas: Option<u32>,
    pub imported_functions: u32,
    pub function_types: Vec<u32>,
    pub types: Vec<SubType>,
    pub mutable_globals: Vec<u32>,
    pub globals: u32,
    pub has_global_section: bool,
    pub has_export_section: bool,
    pub has_hidden_state: bool,
    pub unmeterable: Option<String>,
    pub has_memory: bool,
    /// Whether the memory is a 64-bit one that can be made a 32-bit one: see [`narrow`].
    pub is_narrowed: bool,
    /// If Asyncify instrumented the module.
    pub asyncify: Option<Asyncify>,
}

impl Survey {
    /// The type of a function, by the function's index.
    pub fn function_type(&self, function: u32) -> Option<&wasmparser::FuncType> {
        let ty = self.types.get(*self.function_types.get(function as usize)? as usize)?;
        match &ty.composite_type.inner {
            wasmparser::CompositeInnerType::Func(ty) => Some(ty),
            _ => None,
        }
    }
}

/// Whether an import is the one by which modules that were metered when they were built charge gas.
pub fn is_usegas(module: &str, name: &str) -> bool {
    (module, name) == ("metering", "usegas")
}

/// Validates and reads.
pub fn survey(wasm: &[u8]) -> Result<Survey, Error> {
    let malformed = |e: wasmparser::BinaryReaderError| Error::Module(format!("not valid WebAssembly: {e}"));
    let mut survey = Survey::default();
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    let mut fits_32_bits = true;
    let mut traces = Traces::default();
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
                    survey.types.push(SubType::func(ty.map_err(malformed)?, false));
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import.map_err(malformed)?;
                    match import.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                            if is_usegas(import.module, import.name) {
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
            Payload::MemorySection(reader) => {
                for memory in reader {
                    survey.is_narrowed = narrow::fits(&memory.map_err(malformed)?);
                    survey.has_memory = true;
                }
            }
            Payload::DataSection(reader) => {
                for segment in reader {
                    if let DataKind::Active { offset_expr, .. } = segment.map_err(malformed)?.kind {
                        fits_32_bits &= small_offset(&offset_expr).is_some();
                    }
                }
            }
            Payload::GlobalSection(reader) => {
                survey.has_global_section = true;
                for global in reader {
                    let Global { ty, init_expr } = global.map_err(malformed)?;
                    references(&init_expr, &mut traces).map_err(malformed)?;
                    let begins_as_0 =
                        matches!(init_expr.get_operators_reader().read(), Ok(Operator::I32Const { value: 0 }));
                    if ty.mutable && begins_as_0 {
                        traces.zeros.insert(survey.globals);
                    }
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
                    let Export { name, kind, index } = export.map_err(malformed)?;
                    if kind == ExternalKind::Func {
                        traces.exports.insert(name.into(), index);
                    }
                    if name.starts_with(PREFIX) {
                        return Err(Error::Module(format!("exports `{name}`, a name that Lockstep keeps for itself")));
                    }
                }
            }
            Payload::StartSection { func, .. } => {
                traces.referenced.insert(func);
            }
            Payload::ElementSection(reader) => {
                for segment in reader {
                    match segment.map_err(malformed)?.items {
                        ElementItems::Functions(items) => {
                            for item in items {
                                traces.referenced.insert(item.map_err(malformed)?);
                            }
                        }
                        ElementItems::Expressions(_, items) => {
                            for item in items {
                                references(&item.map_err(malformed)?, &mut traces).map_err(malformed)?;
                            }
                        }
                    }
                }
            }
            Payload::CodeSectionEntry(body) => {
                let mut trace = Trace::default();
                let mut first = None;
                for (at, op) in body.get_operators_reader().map_err(malformed)?.into_iter().enumerate() {
                    let op = op.map_err(malformed)?;
                    match op {
                        Operator::I32Const { value } if at == 0 => first = Some(value),
                        Operator::GlobalSet { global_index } => {
                            trace.sets_first =
                                trace.sets_first.or(first.filter(|_| at == 1).map(|v| (global_index, v)));
                            trace.sets.insert(global_index);
                        }
                        Operator::Call { function_index } => drop(trace.calls.insert(function_index)),
                        Operator::CallIndirect { .. } => trace.calls_indirectly = true,
                        Operator::RefFunc { function_index } => drop(traces.referenced.insert(function_index)),
                        _ => {}
                    }
                    survey.has_hidden_state |= changes_hidden_state(&op);
                    fits_32_bits &= narrow::offset(&op).is_none_or(|offset| u32::try_from(offset).is_ok());
                    if survey.unmeterable.is_none() && !gas::is_meterable(&op) {
                        let name = format!("{op:?}");
                        survey.unmeterable = Some(name.split([' ', '{', '(']).next().unwrap_or_default().to_owned());
                    }
                }
                traces.bodies.push(trace);
            }
            _ => {}
        }
    }
    survey.is_narrowed &= fits_32_bits;
    survey.asyncify = Asyncify::find(&traces, survey.imported_functions, survey.usegas);
    Ok(survey)
}

/// Takes note of the functions that a constant expression refers to.
fn references(expression: &ConstExpr<'_>, traces: &mut Traces) -> Result<(), wasmparser::BinaryReaderError> {
    for op in expression.get_operators_reader() {
        if let Operator::RefFunc { function_index } = op? {
            traces.referenced.insert(function_index);
        }
    }
    Ok(())
}

/// Where an active segment goes, if that is a constant that fits 32 bits.
pub fn small_offset(offset: &ConstExpr<'_>) -> Option<u32> {
    let mut ops = offset.get_operators_reader();
    let Ok(Operator::I64Const { value }) = ops.read() else { return None };
    matches!(ops.read(), Ok(Operator::End)).then(|| u32::try_from(value).ok())?
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
