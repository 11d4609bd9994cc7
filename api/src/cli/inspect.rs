//! `lockstep inspect`: what a module is, needs, and would be refused for.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use lockstep_jit::{
    Inspection, ModuleFormat,
    lanes::{Form, Integers, Kernel, Trust},
};

/// Bytes of a WebAssembly page.
const PAGE_BYTES: u64 = 65_536;

/// Arguments of `lockstep inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// The module, a WebAssembly binary.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs `lockstep inspect`. Being refused is what it tells, not a failure of it; a file that is no module is one.
pub fn run(args: Args) -> super::Ending {
    let named = |why: String| format!("module {}: {why}", args.file.display());
    let wasm = std::fs::read(&args.file).map_err(|error| named(error.to_string()))?;
    let inspection = lockstep_jit::inspect(&wasm).map_err(|error| named(error.to_string()))?;
    std::io::stdout().write_all(render(&args.file, &wasm, &inspection).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn render(file: &Path, wasm: &[u8], module: &Inspection) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<10}{text}");
    };
    line("file", file.display().to_string());
    line("size", format!("{} bytes", grouped(module.bytes as u64)));
    line(
        "contents",
        format!(
            "{} functions, {} bytes of code, {} bytes of data",
            grouped(module.functions as u64),
            grouped(module.code_bytes as u64),
            grouped(module.data_bytes as u64)
        ),
    );
    line(
        "format",
        listed(&module.format_guess, "none of ao's: no format has its imports and memory", ModuleFormat::name),
    );
    line("memory", memory(module));
    line(
        "features",
        if module.features.is_empty() {
            "none beyond the first version".to_owned()
        } else {
            module.features.join(", ")
        },
    );
    line("refused", if module.refusals.is_empty() { "no".to_owned() } else { "yes".to_owned() });
    for why in &module.refusals {
        let _ = writeln!(out, "  {why}");
    }
    push_lanes(&mut out, wasm, &module.format_guess);
    let _ = writeln!(out, "\nimports {}, with the formats that provide them", module.imports.len());
    let rows: Vec<[String; 3]> = module
        .imports
        .iter()
        .map(|import| {
            let name = format!("{}.{}", import.module, import.name);
            [name, import.ty.clone(), listed(&import.provided_by, "nobody", short_name)]
        })
        .collect();
    push_table(&mut out, &rows);
    let _ = writeln!(out, "\nexports {}", module.exports.len());
    let rows: Vec<_> = module.exports.iter().map(|(name, ty)| [name.clone(), ty.clone()]).collect();
    push_table(&mut out, &rows);
    out
}

/// Whether the module's processes can be lanes of a GPU, and where they would be handed back.
fn push_lanes(out: &mut String, wasm: &[u8], formats: &[ModuleFormat]) {
    let Some(format) = formats.first() else { return };
    // What a message reaches is the same in all formats with the same names; the form of integers changes no answer.
    match Kernel::of_process(wasm, *format, Form { integers: Integers::Pairs, trust: Trust::FULL }) {
        Err(why) => {
            let _ = writeln!(out, "{:<10}no: {why}", "lanes");
        }
        Ok(kernel) => {
            let _ = writeln!(
                out,
                "{:<10}yes: {} states, {} memory accesses, {} words kept between dispatches",
                "lanes",
                kernel.states,
                kernel.accesses,
                kernel.kept_words()
            );
            for (function, what) in &kernel.refusals {
                let _ = writeln!(out, "  handed back where function {function} meets: {what}");
            }
        }
    }
}

fn memory(module: &Inspection) -> String {
    let Some(memory) = &module.memory else { return "none".to_owned() };
    let bytes = |pages: u64| format!("{} bytes", grouped(pages.saturating_mul(PAGE_BYTES)));
    let bits = if memory.is_64 { "64" } else { "32" };
    let max = memory.pages_max.map_or_else(|| "no maximum".to_owned(), bytes);
    format!("{bits}-bit addresses, {} at first, {max} at most", bytes(memory.pages_min))
}

fn listed(formats: &[ModuleFormat], if_none: &str, name: impl Fn(ModuleFormat) -> &'static str) -> String {
    let missing: Vec<_> = ModuleFormat::ALL.into_iter().filter(|format| !formats.contains(format)).collect();
    match (formats, missing.as_slice()) {
        ([], _) => if_none.to_owned(),
        (_, []) => "all formats".to_owned(),
        (_, [one]) => format!("all but {}", name(*one)),
        (some, _) => some.iter().map(|&format| name(format)).collect::<Vec<_>>().join(", "),
    }
}

/// A format's name without what they have in common.
fn short_name(format: ModuleFormat) -> &'static str {
    match format {
        ModuleFormat::Wasm64 => "wasm64",
        ModuleFormat::Wasm64Metering => "wasm64-metering",
        format => format.name().trim_start_matches("wasm32-unknown-"),
    }
}

/// Rows with their columns aligned, indented.
fn push_table<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use lockstep_jit::{ImportInfo, MemoryInfo};

    use super::*;

    fn import(name: &str, provided_by: Vec<ModuleFormat>) -> ImportInfo {
        ImportInfo { module: "env".into(), name: name.into(), ty: "func (i32) -> i32".into(), provided_by }
    }

    fn module() -> Inspection {
        Inspection {
            bytes: 777_924,
            format_guess: vec![ModuleFormat::Wasm64, ModuleFormat::Wasm64Metering],
            imports: vec![
                import("exit", ModuleFormat::ALL.to_vec()),
                import("invoke_vjj", vec![ModuleFormat::Wasm64, ModuleFormat::Emscripten4]),
                import("fd_read", ModuleFormat::ALL[1..].to_vec()),
                import("launch_rocket", vec![]),
            ],
            exports: vec![("handle".into(), "func (i64, i64) -> i64".into()), ("memory".into(), "memory".into())],
            memory: Some(MemoryInfo { pages_min: 1088, pages_max: Some(8192), is_64: true }),
            features: vec!["memory64".into(), "sign extension".into()],
            functions: 605,
            code_bytes: 400_133,
            data_bytes: 363_162,
            refusals: vec!["nobody provides env.launch_rocket".into()],
        }
    }

    #[test]
    fn everything_asked_for_is_shown_and_aligned() {
        let expected = "\
file      a.wasm
size      777,924 bytes
contents  605 functions, 400,133 bytes of code, 363,162 bytes of data
format    wasm64-unknown-emscripten-draft_2024_02_15, wasm64-unknown-emscripten-draft_2024_10_16-metering
memory    64-bit addresses, 71,303,168 bytes at first, 536,870,912 bytes at most
features  memory64, sign extension
refused   yes
  nobody provides env.launch_rocket
lanes     no: module cannot run: not valid WebAssembly: unexpected end-of-file (at offset 0x4)

imports 4, with the formats that provide them
  env.exit           func (i32) -> i32  all formats
  env.invoke_vjj     func (i32) -> i32  wasm64, emscripten4
  env.fd_read        func (i32) -> i32  all but emscripten
  env.launch_rocket  func (i32) -> i32  nobody

exports 2
  handle  func (i64, i64) -> i64
  memory  memory
";
        assert_eq!(render(Path::new("a.wasm"), b"\0asm", &module()), expected);
    }

    #[test]
    fn a_module_without_memory_or_format_says_so() {
        let module = Inspection {
            memory: None,
            format_guess: vec![],
            features: vec![],
            refusals: vec![],
            imports: vec![],
            ..module()
        };
        let text = render(Path::new("a.wasm"), b"", &module);
        for line in ["format    none of ao's: no format has its imports and memory", "memory    none", "refused   no"] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn digits_are_grouped_in_threes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
