//! `lockstep eval`: the records of a vector file, evaluated in order on one process.

mod check;
mod copies;
mod lanes;
mod vectors;

use std::{
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use lockstep_jit::{
    Call, Engine, EngineSettings, Evaluation, GuestEnv, Instance, ModuleFormat, gpu::Choice, json::to_js_string,
    spawn_evaluator,
};
use sha2::{Digest, Sha256};

use self::{
    check::{Check, Seen},
    vectors::{Record, Vectors},
};
use crate::settings::Value as _;

/// Arguments of `lockstep eval`.
#[derive(Clone, clap::Args)]
pub struct Args {
    /// The module, a WebAssembly binary.
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// Its `Module-Format`.
    #[arg(long, value_name = "FORMAT")]
    format: ModuleFormat,
    /// Environment variables the guest sees: `reference` or `empty`.
    #[arg(long, value_name = "ENV", default_value = "reference", value_parser = guest_env)]
    guest_env: GuestEnv,
    /// What evaluates.
    #[arg(long, value_enum, default_value_t = EngineName::Native)]
    engine: EngineName,
    /// Compare with what the file expects; exit 1 on any difference.
    #[arg(long)]
    check: bool,
    /// Gas a message may use; without it, the `Compute-Limit` tag of the process or module, else 9e15.
    #[arg(long, value_name = "GAS")]
    gas_limit: Option<u64>,
    /// Wall-clock bound of one evaluation.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    time_limit: Duration,
    /// Directory to keep compiled code in; without it, the module is compiled anew.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Evaluate on this many processes at a time, on all cores or side by side on the GPU, and print the rate only: all must
    /// agree to the byte, and lanes with the native engine.
    #[arg(long, value_name = "N", visible_alias = "lanes", conflicts_with = "check")]
    copies: Option<std::num::NonZeroUsize>,
    /// Adapter for lanes: `required` is the best one, a program on the CPU if there is no better; or a part of its name.
    #[arg(long, value_name = "GPU", default_value = "required")]
    gpu: Choice,
    /// The vector file.
    #[arg(value_name = "VECTORS.json")]
    vectors: PathBuf,
}

/// Engines by name.
#[derive(Clone, Copy, clap::ValueEnum)]
enum EngineName {
    /// Machine code on the CPU.
    Native,
    /// Kernels on the GPU, a process in each lane; wants `--lanes`.
    Lanes,
}

fn guest_env(text: &str) -> Result<GuestEnv, String> {
    GuestEnv::parse(text).ok_or_else(|| format!("expected {}", GuestEnv::expected()))
}

fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).ok_or_else(|| format!("expected {}", Duration::expected()))
}

/// Runs `lockstep eval`.
pub fn run(args: Args) -> super::Ending {
    let evaluator =
        spawn_evaluator("eval".to_owned(), move || evaluate(&args, &mut BufWriter::new(std::io::stdout().lock())))?;
    evaluator.join().unwrap_or_else(|_| Err("evaluation panicked".into()))
}

fn evaluate(args: &Args, out: &mut impl Write) -> super::Ending {
    let wasm = std::fs::read(&args.module).map_err(|error| format!("module {}: {error}", args.module.display()))?;
    let vectors = Vectors::read(&args.vectors)?;
    let engine = Engine::new(EngineSettings {
        artifacts_dir: args.cache.clone(),
        guest_env: args.guest_env,
        ..EngineSettings::default()
    })?;
    let named = |error: lockstep_jit::Error| format!("{}: {error}", args.module.display());
    let module = engine.load(&wasm, args.format).map_err(named)?;
    if matches!(args.engine, EngineName::Lanes) {
        let copies = args.copies.ok_or("--engine lanes wants --lanes N: how many processes side by side")?;
        return lanes::evaluate(args, &vectors, &module, &wasm, copies);
    }
    if let Some(copies) = args.copies {
        return copies::evaluate(args.clone(), vectors, &module, copies);
    }
    let mut instance = Instance::new(&module).map_err(named)?;
    let mut check = args.check.then(|| Check::new(&vectors, args.format));
    let mut elapsed = Duration::ZERO;
    for (index, record) in vectors.records.iter().enumerate() {
        let mut memory = (0, String::new());
        let evaluation = instance
            .evaluate_observed(&args.call(&vectors, record), &mut |bytes| {
                memory = (bytes.len(), hex(&Sha256::digest(bytes)));
            })
            .map_err(|error| format!("record {index}: {error}"))?;
        elapsed += evaluation.elapsed;
        let (memory_bytes, memory_sha256) = (memory.0, (memory.0 > 0).then_some(memory.1));
        writeln!(out, "{}", line(index, &record.id, &evaluation, memory_bytes, memory_sha256.as_deref()))?;
        if let Some(check) = &mut check {
            let seen = Seen { evaluation: &evaluation, memory_sha256: memory_sha256.as_deref() };
            for difference in check.compare(index, record, &seen) {
                writeln!(out, "{difference}")?;
            }
        }
    }
    if let Some(check) = &check {
        if let Some(remark) = check.remark() {
            eprintln!("{remark}");
        }
        writeln!(out, "{check}")?;
    }
    out.flush()?;
    print_rate(vectors.records.len(), elapsed);
    let is_equal = check.as_ref().is_none_or(Check::is_equal);
    Ok(if is_equal { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

impl Args {
    /// The inputs of one record's evaluation.
    fn call<'a>(&self, vectors: &'a Vectors, record: &'a Record) -> Call<'a> {
        let environment = record.environment.as_ref().unwrap_or(&vectors.environment);
        Call {
            message: &record.message,
            environment: &environment.json,
            seed: &record.id,
            gas_limit: self.gas_limit.unwrap_or(environment.gas_limit),
            time_limit: self.time_limit,
        }
    }
}

/// The last line on standard error.
fn print_rate(count: usize, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    eprintln!("{count} messages in {seconds:.3} s, {rate:.1} messages/s");
}

/// The line printed for one record. Time is the engine's: hashing memory and printing are outside it.
fn line(index: usize, id: &str, evaluation: &Evaluation, memory_bytes: usize, memory_sha256: Option<&str>) -> String {
    let id = serde_json::Value::from(id);
    let members: Vec<_> = vectors::members(&evaluation.outcome)
        .into_iter()
        .map(|(name, value)| format!("\"{name}\":{}", to_js_string(value)))
        .collect();
    let hash = memory_sha256.map_or_else(|| "null".to_owned(), |hash| format!("\"{hash}\""));
    let thrown = evaluation
        .thrown
        .as_ref()
        .map_or(String::new(), |why| format!(",\"thrown\":{}", serde_json::Value::from(why.as_str())));
    format!(
        r#"{{"record":{index},"id":{id},"result":{{{}}},"gas":{},"kept":{},"memory_bytes":{memory_bytes},"memory_sha256":{hash},"microseconds":{}{thrown}}}"#,
        members.join(","),
        evaluation.gas_spent,
        evaluation.kept,
        evaluation.elapsed.as_micros(),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
