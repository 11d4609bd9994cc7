//! What a module is and needs, found without running it: for people who wonder why a process does not start.

use std::collections::HashMap;

use wasmparser::{
    BinaryReaderError, CompositeInnerType, Encoding, ExternalKind, FuncType, Parser, Payload, TypeRef, Validator,
    WasmFeatures,
};

use crate::{
    Error, ModuleFormat, RESERVATION_BYTES, gas,
    guest::imports::{Import, find, needed_exports, provided, signature},
    instrument::FEATURES,
};

const PAGE_BYTES: u64 = 65_536;

/// What [`inspect`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Size of the module.
    pub bytes: usize,
    /// The formats it could be run under; those whose imports match type for type come first. A module's real format
    /// is a tag on the network, not part of it.
    pub format_guess: Vec<ModuleFormat>,
    /// What it imports, in its order.
    pub imports: Vec<ImportInfo>,
    /// Names it exports and what they are, in its order.
    pub exports: Vec<(String, String)>,
    /// Its memory, or the one it imports.
    pub memory: Option<MemoryInfo>,
    /// Finished WebAssembly proposals it uses beyond the first version.
    pub features: Vec<String>,
    /// Number of its own functions.
    pub functions: usize,
    /// Bytes of their bodies.
    pub code_bytes: usize,
    /// Bytes of its data segments.
    pub data_bytes: usize,
    /// Why it would be refused; empty if it would not.
    pub refusals: Vec<String>,
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportInfo {
    /// Module part of its name.
    pub module: String,
    /// The rest of its name.
    pub name: String,
    /// Its type as text: `func (i32) -> i32`, `memory`, ...
    pub ty: String,
    /// The formats that provide it.
    pub provided_by: Vec<ModuleFormat>,
}

/// A linear memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Size at start, in pages of 64 KiB.
    pub pages_min: u64,
    /// Most it may grow to, in pages.
    pub pages_max: Option<u64>,
    /// Whether addresses have 64 bits.
    pub is_64: bool,
}

/// Reads a module and says what it is.
///
/// A module that is well-formed but would be refused is no error here: [`Inspection::refusals`] says why.
///
/// # Errors
/// [`Error::Module`] if the bytes are not a WebAssembly module, or end too early.
pub fn inspect(wasm: &[u8]) -> Result<Inspection, Error> {
    let mut survey = Survey::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(malformed)?;
        if let Payload::Version { encoding: Encoding::Component, .. } = payload {
            return Err(Error::Module("is a WebAssembly component, not a module".into()));
        }
        survey.read(payload).map_err(malformed)?;
    }
    Ok(survey.conclude(wasm))
}

fn malformed(error: BinaryReaderError) -> Error {
    Error::Module(format!("not a WebAssembly module: {error}"))
}

/// What a first reading finds.
#[derive(Default)]
struct Survey {
    /// By type index; only functions have a text.
    types: Vec<Option<String>>,
    imports: Vec<ImportInfo>,
    /// Type indices of functions, imported ones first.
    functions: Vec<u32>,
    imported_functions: usize,
    exports: Vec<(String, String)>,
    export_kinds: HashMap<String, ExternalKind>,
    memory: Option<MemoryInfo>,
    imports_memory: bool,
    code_bytes: usize,
    data_bytes: usize,
    /// An instruction that load-time metering cannot read.
    unmeterable: Option<String>,
}

impl Survey {
    fn read(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(reader) => {
                for group in reader {
                    for ty in group?.into_types() {
                        self.types.push(match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(function_text(&ty)),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(reader) => {
                for import in reader.into_imports() {
                    let import = import?;
                    let ty = match import.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                            self.functions.push(ty);
                            self.imported_functions += 1;
                            self.type_text(ty)
                        }
                        TypeRef::Memory(memory) => {
                            self.imports_memory = true;
                            self.memory.get_or_insert(memory_info(&memory));
                            "memory".to_owned()
                        }
                        TypeRef::Table(_) => "table".to_owned(),
                        TypeRef::Global(global) => format!("global {}", global.content_type),
                        TypeRef::Tag(_) => "tag".to_owned(),
                    };
                    let (module, name) = (import.module.to_owned(), import.name.to_owned());
                    self.imports.push(ImportInfo { module, name, ty, provided_by: Vec::new() });
                }
            }
            Payload::FunctionSection(reader) => {
                for ty in reader {
                    self.functions.push(ty?);
                }
            }
            Payload::MemorySection(reader) => {
                for memory in reader {
                    self.memory.get_or_insert(memory_info(&memory?));
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader {
                    let export = export?;
                    let what = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => {
                            let ty = self.functions.get(export.index as usize).copied();
                            ty.map_or_else(|| "func".to_owned(), |ty| self.type_text(ty))
                        }
                        ExternalKind::Table => "table".to_owned(),
                        ExternalKind::Memory => "memory".to_owned(),
                        ExternalKind::Global => "global".to_owned(),
                        ExternalKind::Tag => "tag".to_owned(),
                    };
                    self.export_kinds.insert(export.name.to_owned(), export.kind);
                    self.exports.push((export.name.to_owned(), what));
                }
            }
            Payload::CodeSectionEntry(body) => {
                self.code_bytes += body.range().len();
                if self.unmeterable.is_none() {
                    self.unmeterable = first_unmeterable(&body)?;
                }
            }
            Payload::DataSection(reader) => {
                for data in reader {
                    self.data_bytes += data?.data.len();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn type_text(&self, ty: u32) -> String {
        let text = self.types.get(ty as usize).cloned().flatten();
        format!("func {}", text.unwrap_or_else(|| format!("of type {ty}")))
    }

    fn conclude(mut self, wasm: &[u8]) -> Inspection {
        for import in &mut self.imports {
            import.provided_by = providers(import);
        }
        let mut refusals = Vec::new();
        let features = match features_used(wasm) {
            Ok(features) => features,
            Err(why) => {
                refusals.extend(why);
                Vec::new()
            }
        };
        for import in self.imports.iter().filter(|import| import.provided_by.is_empty()) {
            refusals.push(format!(
                "imports `{}.{}` ({}), which no module format provides",
                import.module, import.name, import.ty
            ));
        }
        self.refuse_memory(&mut refusals);
        let mut guess = Vec::new();
        let mut lacks = Vec::new();
        for format in ModuleFormat::ALL {
            match self.why_not(format) {
                None => guess.push(format),
                Some(why) => lacks.push(format!("not {format}: {why}")),
            }
        }
        guess.sort_by_key(|format| !self.types_match(*format));
        if !refusals.is_empty() {
            guess.clear();
        } else if guess.is_empty() {
            refusals = lacks;
        }
        Inspection {
            bytes: wasm.len(),
            format_guess: guess,
            functions: self.functions.len() - self.imported_functions,
            imports: self.imports,
            exports: self.exports,
            memory: self.memory,
            features,
            code_bytes: self.code_bytes,
            data_bytes: self.data_bytes,
            refusals,
        }
    }

    fn refuse_memory(&self, refusals: &mut Vec<String>) {
        match self.memory {
            None => refusals.push("has no memory".to_owned()),
            // An imported one is refused as an import already.
            Some(_) if self.imports_memory => {}
            Some(MemoryInfo { pages_min, .. }) if pages_min > RESERVATION_BYTES / PAGE_BYTES => refusals.push(format!(
                "starts with {pages_min} pages of memory, above the {} that any unit can give",
                RESERVATION_BYTES / PAGE_BYTES
            )),
            Some(_) => {}
        }
    }

    /// Why the module cannot be of `format`.
    fn why_not(&self, format: ModuleFormat) -> Option<String> {
        let wide = self.memory.is_some_and(|memory| memory.is_64);
        if wide != format.is_64() {
            let bits = |wide| if wide { 64 } else { 32 };
            return Some(format!("its addresses have {} bits, not {}", bits(wide), bits(format.is_64())));
        }
        let strange = self.imports.iter().find(|import| !import.provided_by.contains(&format));
        if let Some(import) = strange {
            return Some(format!("imports `{}.{}`, which that does not provide", import.module, import.name));
        }
        let missing = needed_exports(format).iter().find(|name| !self.export_kinds.contains_key(**name));
        if let Some(name) = missing {
            return Some(format!("exports no `{name}`"));
        }
        let unmeterable = self.unmeterable.as_ref().filter(|_| format.is_metered());
        unmeterable.map(|op| format!("uses {op}, which cannot be metered"))
    }

    /// Whether every import has the type that `format` lists.
    fn types_match(&self, format: ModuleFormat) -> bool {
        self.imports.iter().all(|import| {
            let is_listed = |listed: &Import| import.ty == format!("func {}", listed.signature());
            find(format, &import.module, &import.name).any(is_listed)
        })
    }
}

/// The formats that provide an import. Any type will do: the host converts.
fn providers(import: &ImportInfo) -> Vec<ModuleFormat> {
    if !import.ty.starts_with("func ") {
        return Vec::new();
    }
    let provides = |format: &ModuleFormat| find(*format, &import.module, &import.name).next().is_some();
    ModuleFormat::ALL.into_iter().filter(provides).collect()
}

/// What the first format calls by a letter, under its full name; nothing for imports that say what they are.
pub fn meaning(import: &ImportInfo) -> Option<&'static str> {
    let listed = import.provided_by.first().and_then(|format| {
        provided(*format).iter().find(|listed| listed.module == import.module && listed.name == import.name)
    })?;
    (listed.meaning != listed.name).then_some(listed.meaning)
}

fn function_text(ty: &FuncType) -> String {
    let names = |types: &[wasmparser::ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (params, results) = (names(ty.params()), names(ty.results()));
    signature(params.iter().map(String::as_str), results.iter().map(String::as_str))
}

fn memory_info(memory: &wasmparser::MemoryType) -> MemoryInfo {
    MemoryInfo { pages_min: memory.initial, pages_max: memory.maximum, is_64: memory.memory64 }
}

fn first_unmeterable(body: &wasmparser::FunctionBody<'_>) -> Result<Option<String>, BinaryReaderError> {
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let operator = operators.read()?;
        if !gas::is_meterable(&operator) {
            let text = format!("{operator:?}");
            return Ok(Some(text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()));
        }
    }
    Ok(None)
}

fn validates(wasm: &[u8], features: WasmFeatures) -> Result<(), BinaryReaderError> {
    Validator::new_with_features(features).validate_all(wasm).map(drop)
}

/// The proposals without which the module is not valid; or, if it is not valid as it is, why.
fn features_used(wasm: &[u8]) -> Result<Vec<String>, Vec<String>> {
    if let Err(error) = validates(wasm, FEATURES) {
        return Err(refused_features(wasm).unwrap_or_else(|| vec![format!("not valid WebAssembly: {error}")]));
    }
    Ok(needed(wasm, FEATURES, FEATURES))
}

/// The proposals that the module is invalid without, and that are refused; nothing if it is invalid with all of them.
fn refused_features(wasm: &[u8]) -> Option<Vec<String>> {
    let all = WasmFeatures::all().difference(WasmFeatures::COMPONENT_MODEL);
    validates(wasm, all).ok()?;
    let refused = needed(wasm, all, all.difference(FEATURES));
    let text = |name| format!("uses {name}, which is refused");
    Some(refused.into_iter().map(text).collect()).filter(|refused: &Vec<String>| !refused.is_empty())
}

/// Which of `candidates` cannot be taken out of `features`.
fn needed(wasm: &[u8], features: WasmFeatures, candidates: WasmFeatures) -> Vec<String> {
    // Halves of other proposals, and what every module may use.
    let unnamed = WasmFeatures::CALL_INDIRECT_OVERLONG.union(WasmFeatures::BULK_MEMORY_OPT).union(WasmFeatures::FLOATS);
    candidates
        .iter_names()
        .filter(|(_, feature)| !unnamed.contains(*feature))
        .filter(|(_, feature)| validates(wasm, features.difference(*feature)).is_err())
        .map(|(name, _)| name.to_lowercase().replace('_', "-"))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COUNTER: &[u8] = include_bytes!("../../tests/processes/counter.wasm");

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("a module")
    }

    fn refusals(text: &str) -> Vec<String> {
        inspect(&wat(text)).expect("well-formed").refusals
    }

    #[test]
    fn a_real_module_is_of_the_format_it_was_built_for() {
        let found = inspect(COUNTER).expect("well-formed");
        assert_eq!(found.refusals, Vec::<String>::new());
        assert_eq!(found.format_guess, [ModuleFormat::Emscripten4, ModuleFormat::EmscriptenMetering]);
        assert_eq!(found.bytes, COUNTER.len());
        assert!(found.exports.contains(&("handle".into(), "func (i32, i32) -> i32".into())));
        assert!(found.memory.is_some_and(|memory| !memory.is_64));
        assert!(found.functions > 0 && found.code_bytes > 0);
    }

    #[test]
    fn bytes_that_are_no_module_are_an_error() {
        for bytes in [&b""[..], b"\0asm", b"not wasm at all", &COUNTER[..COUNTER.len() / 2]] {
            assert!(matches!(inspect(bytes), Err(Error::Module(_))));
        }
        assert!(inspect(&wat("(component)")).expect_err("a component").to_string().contains("component"));
    }

    #[test]
    fn an_import_that_nobody_provides_is_named() {
        let refusals = refusals(
            r#"(module (import "env" "launch" (func (param i64) (result f32))) (memory (export "memory") 1))"#,
        );
        assert_eq!(refusals, ["imports `env.launch` (func (i64) -> f32), which no module format provides"]);
    }

    #[test]
    fn only_functions_are_provided() {
        let refusals =
            refusals(r#"(module (import "env" "memory" (memory 1)) (import "env" "fd_close" (global i32)))"#);
        assert_eq!(
            refusals,
            [
                "imports `env.memory` (memory), which no module format provides",
                "imports `env.fd_close` (global i32), which no module format provides",
            ]
        );
    }

    #[test]
    fn refused_proposals_are_named() {
        let shared = refusals(r#"(module (memory (export "memory") 1 1 shared))"#);
        assert_eq!(shared, ["uses threads, which is refused"]);
        let two = refusals(r#"(module (memory (export "memory") 1) (memory 1) (func return_call 0))"#);
        assert_eq!(two, ["uses tail-call, which is refused", "uses multi-memory, which is refused"]);
    }

    #[test]
    fn what_is_not_valid_is_refused_with_the_place() {
        let refusals = refusals(r#"(module (memory (export "memory") 1) (func i32.add))"#);
        assert_eq!(refusals.len(), 1);
        assert!(refusals[0].starts_with("not valid WebAssembly: ") && refusals[0].contains("offset"), "{refusals:?}");
    }

    #[test]
    fn proposals_in_use_are_listed() {
        let module = wat(r#"(module (memory (export "memory") i64 1)
                (func (result i32) i64.const 0 i32.load i32.extend8_s)
                (func (param v128)))"#);
        assert_eq!(inspect(&module).expect("well-formed").features, ["sign-extension", "simd", "memory64"]);
    }

    #[test]
    fn a_memory_nobody_can_give_is_refused() {
        assert_eq!(
            refusals(r#"(module (memory (export "memory") i64 0x10001))"#),
            ["starts with 65537 pages of memory, above the 65536 that any unit can give"]
        );
        assert_eq!(refusals("(module)"), ["has no memory"]);
    }

    #[test]
    fn a_module_that_fits_no_format_is_told_why_for_each() {
        let refusals = refusals(
            r#"(module (import "env" "fd_close" (func (param i32) (result i32))) (memory (export "memory") 1))"#,
        );
        assert_eq!(refusals.len(), ModuleFormat::ALL.len());
        assert_eq!(refusals[0], "not wasm32-unknown-emscripten: imports `env.fd_close`, which that does not provide");
        assert_eq!(refusals[1], "not wasm32-unknown-emscripten2: exports no `__indirect_function_table`");
        assert!(refusals[5].ends_with("its addresses have 32 bits, not 64"), "{}", refusals[5]);
    }

    #[test]
    fn instructions_that_cannot_be_metered_leave_only_the_unmetered_format() {
        let module = wat(r#"(module (import "env" "_abort_js" (func))
                (memory (export "memory") 1) (table (export "__indirect_function_table") 1 funcref)
                (func (export "__wasm_call_ctors")) (func (export "handle") (param i32 i32) (result i32) i32.const 0)
                (func (export "emscripten_stack_init") i32.const 0 i32.const 0 i32.const 0 memory.fill)
                (func (export "emscripten_stack_get_end")) (func (export "emscripten_stack_get_current"))
                (func (export "_emscripten_stack_restore")) (func (export "_emscripten_stack_alloc")))"#);
        let found = inspect(&module).expect("well-formed");
        assert_eq!(found.format_guess, [ModuleFormat::Emscripten4]);
        assert_eq!(found.features, ["bulk-memory"]);
    }

    #[test]
    fn a_letter_has_a_meaning() {
        let import = |module: &str, name: &str, format| ImportInfo {
            module: module.into(),
            name: name.into(),
            ty: String::new(),
            provided_by: vec![format],
        };
        assert_eq!(meaning(&import("a", "c", ModuleFormat::Emscripten)), Some("fd_close"));
        assert_eq!(meaning(&import("env", "exit", ModuleFormat::Emscripten3)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn no_bytes_make_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            length in any::<prop::sample::Index>(),
            cut in any::<bool>(),
        ) {
            let mut bytes = COUNTER.to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(length.index(bytes.len()));
            }
            let _ = inspect(&bytes);
        }

        #[test]
        fn no_garbage_after_a_header_makes_it_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = inspect(&[b"\0asm\x01\0\0\0", &tail[..]].concat());
        }
    }
}
