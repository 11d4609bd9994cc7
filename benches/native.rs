//! What a message costs in the native engine: `cargo bench -p lockstep-jit --bench native`.
//!
//! Three ways of ending (kept, an error that is undone, an error right after messages that have to be replayed), with and
//! without metering, and what a process costs to make and to fork. The guest is the token ledger that the tests ship; an
//! aos module is measured too where `AOS_WASM` names one of format `wasm64-unknown-emscripten-draft_2024_02_15`.

use std::{hint::black_box, time::Duration};

use criterion::Criterion;
use lockstep_jit::{Call, Engine, EngineSettings, GuestEnv, Instance, ModuleFormat, gas, spawn_evaluator};
use serde_json::Value;

const TOKEN: &[u8] = include_bytes!("../tests/processes/token.wasm");
const TOKEN_VECTORS: &str = include_str!("../tests/processes/token.json");
const AOS_VECTORS: &str = include_str!("../tests/vectors/aos-2.0.6-wasm64.json");

struct Vectors {
    environment: String,
    messages: Vec<String>,
}

impl Vectors {
    fn parse(text: &str) -> Self {
        let file: Value = serde_json::from_str(text).expect("a vector file");
        let records = file["records"].as_array().expect("records");
        Self { environment: file["env"].to_string(), messages: records.iter().map(|r| r["msg"].to_string()).collect() }
    }

    fn call(&self, message: usize) -> Call<'_> {
        Call {
            message: &self.messages[message],
            environment: &self.environment,
            seed: "bench",
            gas_limit: gas::DEFAULT_LIMIT,
            time_limit: Duration::from_secs(60),
        }
    }
}

fn engine() -> Engine {
    let settings = EngineSettings { guest_env: GuestEnv::Empty, ..EngineSettings::default() };
    Engine::new(settings).expect("an engine")
}

fn evaluate(process: &mut Instance, call: &Call<'_>, kept: bool) {
    let evaluation = process.evaluate(black_box(call)).expect("no fault");
    assert_eq!(evaluation.kept, kept);
}

fn guest(
    c: &mut Criterion,
    name: &str,
    wasm: &[u8],
    format: ModuleFormat,
    vectors: &Vectors,
    kept: usize,
    failing: usize,
) {
    let module = engine().load(wasm, format).expect("the module loads");
    let started = || {
        let mut process = Instance::new(&module).expect("an instance");
        evaluate(&mut process, &vectors.call(0), true);
        process
    };
    let mut group = c.benchmark_group(name);
    group.bench_function("new", |b| b.iter(|| Instance::new(&module).expect("an instance")));
    let mut process = started();
    group.bench_function("fork", |b| b.iter(|| process.fork().expect("a fork")));
    group.bench_function("kept", |b| b.iter(|| evaluate(&mut process, &vectors.call(kept), true)));
    group.bench_function("undone", |b| b.iter(|| evaluate(&mut process, &vectors.call(failing), false)));
    group.bench_function("undone after eight kept", |b| {
        b.iter(|| {
            (0..8).for_each(|_| evaluate(&mut process, &vectors.call(kept), true));
            evaluate(&mut process, &vectors.call(failing), false);
        })
    });
    group.finish();
}

fn native(c: &mut Criterion) {
    let token = Vectors::parse(TOKEN_VECTORS);
    let (kept, failing) = endings(TOKEN_VECTORS);
    guest(c, "token", TOKEN, ModuleFormat::Emscripten4, &token, kept, failing);
    guest(c, "token, metered", TOKEN, ModuleFormat::EmscriptenMetering, &token, kept, failing);
    if let Some(path) = std::env::var_os("AOS_WASM") {
        let wasm = std::fs::read(&path).expect("AOS_WASM names a file");
        let aos = Vectors::parse(AOS_VECTORS);
        let (kept, failing) = endings(AOS_VECTORS);
        guest(c, "aos", &wasm, ModuleFormat::Wasm64, &aos, kept, failing);
        guest(c, "aos, metered", &wasm, ModuleFormat::Wasm64Metering, &aos, kept, failing);
    }
}

/// The first record after the boot whose state is kept, and the first whose is not.
fn endings(vectors: &str) -> (usize, usize) {
    let file: Value = serde_json::from_str(vectors).expect("a vector file");
    let records = file["records"].as_array().expect("records");
    let find = |kept: bool| {
        let found = records.iter().skip(1).position(|r| r["kept"] == kept);
        found.expect("both endings are among the records") + 1
    };
    (find(true), find(false))
}

/// Criterion runs on a thread with room for a guest, so that no evaluation has to start one.
fn main() {
    let run = || {
        let mut criterion = Criterion::default().configure_from_args().sample_size(20);
        native(&mut criterion);
        criterion.final_summary();
    };
    spawn_evaluator("bench".into(), run).expect("a thread").join().expect("the benches ran");
}
