//! Rewriting a module before it is compiled, so that the host can count its gas (`counter.rs`), stop it and put its globals
//! back, and so that the machine code is fast: a 64-bit memory becomes a 32-bit one (`narrow.rs`), and what Asyncify added
//! is kept out of the usual way (`asyncify.rs`).
//!
//! Nothing a guest can observe changes, and no index moves. What is added comes behind the module's own: a global (gas,
//! when it is metered), a memory (the wall clock's byte), second versions of functions, and exports under names of ours.

mod asyncify;
mod body;
mod counter;
mod flow;
mod narrow;
mod survey;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use wasm_encoder::{
    BranchHint, BranchHints, CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, MemorySection, MemoryType, SectionId, ValType,
    reencode::{self, Reencode},
};
use wasmparser::{Parser, Payload, WasmFeatures};

use self::{
    asyncify::specialize,
    survey::{Survey, survey},
};
pub(crate) use self::{counter::charged, survey::is_usegas};
use crate::Error;

/// What the names of all our exports begin with.
const PREFIX: &str = "lockstep.";

/// Export of the gas counter: gas used minus the limit, so that the guest is out of gas while it is positive.
pub const GAS_EXPORT: &str = "lockstep.gas";

/// Prefix of the exports of a module's own mutable globals; their index follows.
const GLOBAL_EXPORT: &str = "lockstep.global.";

/// Which of the module's globals is exported by this name of ours.
pub fn global_index(export: &str) -> usize {
    let index = export.strip_prefix(GLOBAL_EXPORT).and_then(|index| index.parse().ok());
    index.expect("only names that the rewriting made are asked for")
}

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

/// Validates `wasm` against [`FEATURES`] and rewrites it. With `inject`, gas is metered as at load of a `-metering`
/// format; a module that imports `metering.usegas` is then refused, as the reference does.
///
/// # Errors
/// [`Error::Module`] for malformed or refused modules.
pub fn instrument(wasm: &[u8], inject: bool) -> Result<Instrumented, Error> {
    let survey = Arc::new(survey(wasm)?);
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
    let mut rewriter = Rewriter {
        gas_global: survey.globals,
        has_global_section: survey.has_global_section,
        has_export_section: survey.has_export_section,
        metering,
        survey,
        bodies: Vec::new(),
        twin_types: Vec::new(),
        hints: BranchHints::new(),
        has_hints: false,
    };
    let failed = |e| Error::Module(format!("cannot be rewritten: {e}"));
    rewriter.rewrite_bodies(wasm).map_err(failed)?;
    let mut module = wasm_encoder::Module::new();
    rewriter.parse_core_module(&mut module, Parser::new(0), wasm).map_err(failed)?;
    Ok(Instrumented { wasm: module.finish(), metering, globals, has_hidden_state })
}

struct Rewriter {
    survey: Arc<Survey>,
    has_global_section: bool,
    has_export_section: bool,
    metering: Metering,
    gas_global: u32,
    /// The bodies as they will be, in order; behind the module's own, those of the twins.
    bodies: Vec<Function>,
    /// For each twin, its type.
    twin_types: Vec<u32>,
    hints: BranchHints,
    has_hints: bool,
}

impl Rewriter {
    /// Rewrites all bodies: what is known of them goes into a section that comes before them.
    fn rewrite_bodies(&mut self, wasm: &[u8]) -> Result<(), reencode::Error> {
        let survey = self.survey.clone();
        let mut twins = Vec::new();
        let mut index = survey.imported_functions;
        for payload in Parser::new(0).parse_all(wasm) {
            let Payload::CodeSectionEntry(body) = payload? else { continue };
            let ops = body.get_operators_reader()?.into_iter().collect::<Result<Vec<_>, _>>()?;
            let ops = charged(ops, self.metering == Metering::Inject);
            let ty = survey.function_types[index as usize];
            let special = survey.asyncify.as_ref().and_then(|asyncify| specialize(asyncify, &survey, ty, &ops));
            let rewritten = match special {
                None => body::rewrite(self, index, &body, &ops, None)?,
                Some(special) => {
                    let twin = survey.function_types.len() + self.twin_types.len();
                    self.twin_types.push(ty);
                    twins.push(body::rewrite(self, index, &body, &ops, None)?);
                    body::rewrite(self, index, &body, &special, Some(twin as u32))?
                }
            };
            self.take(index, rewritten);
            index += 1;
        }
        (index..).zip(twins).for_each(|(index, twin)| self.take(index, twin));
        Ok(())
    }

    fn take(&mut self, index: u32, (function, hints): (Function, Vec<BranchHint>)) {
        if !hints.is_empty() {
            self.hints.function_hints(index, hints);
            self.has_hints = true;
        }
        self.bodies.push(function);
    }

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
        if !self.has_global_section && self.metering != Metering::None && gap(SectionId::Global) {
            self.has_global_section = true;
            let mut globals = GlobalSection::new();
            self.add_gas_global(&mut globals);
            module.section(&globals);
        }
        if !self.has_export_section && gap(SectionId::Export) {
            self.has_export_section = true;
            let mut exports = ExportSection::new();
            self.add_exports(&mut exports);
            module.section(&exports);
        }
        if before == Some(SectionId::Code) && self.has_hints {
            module.section(&self.hints);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        reencode::utils::parse_function_section(self, functions, section)?;
        for ty in &self.twin_types {
            functions.function(*ty);
        }
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        reencode::utils::parse_memory_section(self, memories, section)?;
        if self.survey.has_memory {
            memories.memory(MemoryType {
                minimum: 1,
                maximum: Some(1),
                memory64: false,
                shared: false,
                page_size_log2: None,
            });
        }
        Ok(())
    }

    fn memory_type(&mut self, ty: wasmparser::MemoryType) -> Result<MemoryType, reencode::Error> {
        if self.survey.is_narrowed { Ok(narrow::memory_type(ty)) } else { Ok(reencode::utils::memory_type(self, ty)) }
    }

    fn parse_data(&mut self, section: &mut DataSection, datum: wasmparser::Data<'_>) -> Result<(), reencode::Error> {
        if self.survey.is_narrowed {
            narrow::data(self, section, datum)
        } else {
            reencode::utils::parse_data(self, section, datum)
        }
    }

    fn parse_custom_section(
        &mut self,
        module: &mut wasm_encoder::Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        // Whatever the guest hints at lies elsewhere now.
        if section.name() == "metadata.code.branch_hint" {
            return Ok(());
        }
        reencode::utils::parse_custom_section(self, module, section)
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        _: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        for body in self.bodies.drain(..) {
            code.function(&body);
        }
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
