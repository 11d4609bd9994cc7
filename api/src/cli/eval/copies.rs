//! `lockstep eval --copies N`: the same records on many processes at a time, for the rate.

use std::{
    num::NonZeroUsize,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::Instant,
};

use lockstep_jit::{Instance, Module, json::to_js_string, spawn_evaluator};

use super::{Args, print_rate, vectors, vectors::Vectors};
use crate::cli::Ending;

/// What the evaluation threads share.
struct Work {
    args: Args,
    vectors: Vectors,
    /// Each is taken by one thread, which evaluates all records on it.
    processes: Vec<Mutex<Instance>>,
    next: AtomicUsize,
}

/// What one process came to: all results, as text, hashed.
type Answer = blake3::Hash;

/// Evaluates all records on `copies` processes, on as many threads as there are cores. The time is that of evaluating:
/// the processes are made before it runs.
pub fn evaluate(args: Args, vectors: Vectors, module: &Module, copies: NonZeroUsize) -> Ending {
    let processes = (0..copies.get())
        .map(|_| Ok(Mutex::new(Instance::new(module)?)))
        .collect::<Result<_, lockstep_jit::Error>>()?;
    let messages = vectors.records.len() * copies.get();
    let work = Arc::new(Work { args, vectors, processes, next: AtomicUsize::new(0) });
    let threads = available_parallelism().map_or(1, NonZeroUsize::get).min(copies.get());
    let begun = Instant::now();
    let threads = (0..threads)
        .map(|n| {
            let work = work.clone();
            spawn_evaluator(format!("eval-{n}"), move || work.run())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut answers = Vec::with_capacity(copies.get());
    for thread in threads {
        answers.extend(thread.join().map_err(|_| "evaluation panicked")??);
    }
    let elapsed = begun.elapsed();
    if answers.iter().any(|answer| answer != &answers[0]) {
        return Err("the processes do not agree: evaluation is not deterministic".into());
    }
    print_rate(messages, elapsed);
    Ok(ExitCode::SUCCESS)
}

impl Work {
    /// Takes processes until none is left.
    fn run(&self) -> Result<Vec<Answer>, String> {
        let mut answers = Vec::new();
        while let Some(process) = self.processes.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let mut process = process.lock().map_err(|_| "a thread panicked with this process")?;
            answers.push(self.run_one(&mut process)?);
        }
        Ok(answers)
    }

    fn run_one(&self, process: &mut Instance) -> Result<Answer, String> {
        let mut results = blake3::Hasher::new();
        for (index, record) in self.vectors.records.iter().enumerate() {
            let call = self.args.call(&self.vectors, record);
            let evaluation = process.evaluate(&call).map_err(|error| format!("record {index}: {error}"))?;
            for (name, value) in vectors::members(&evaluation.outcome) {
                results.update(name.as_bytes());
                results.update(to_js_string(value).as_bytes());
            }
        }
        Ok(results.finalize())
    }
}
