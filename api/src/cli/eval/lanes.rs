//! `lockstep eval --engine lanes`: the same records on many processes at once, on the GPU, held against the native engine.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    process::ExitCode,
    time::{Duration, Instant},
};

use lockstep_jit::{
    Evaluation, Instance, Module,
    gpu::Device,
    lanes::{HandedBack, Lanes, Processes, Trust},
};

use super::{Args, print_rate, vectors::Vectors};
use crate::cli::Ending;

/// Evaluates all records on `copies` processes. Each result and each memory must be the native engine's.
pub fn evaluate(args: &Args, vectors: &Vectors, module: &Module, wasm: &[u8], copies: NonZeroUsize) -> Ending {
    let device = Device::open(&args.gpu)?.ok_or("--gpu off: lanes need an adapter")?;
    let begun = Instant::now();
    let lanes = Lanes::new(&device, module, wasm, Trust::FULL)?;
    let compiled = begun.elapsed();
    let longest = vectors.records.iter().map(|record| {
        let call = args.call(vectors, record);
        call.message.len() + call.environment.len()
    });
    let shape = lanes.shape(longest.max().unwrap_or(0), 0);
    let most = lanes.processes_max(&shape);
    if most == 0 {
        return Err(format!("{} has no room for a tile of this module's lanes", device.found.name).into());
    }
    let copies = u32::try_from(copies.get()).map_err(|_| "more processes than a group can number")?;
    let mut groups = Vec::new();
    let mut left = copies;
    while left > 0 {
        let count = left.min(most);
        groups.push(Processes::new(&lanes, shape, count)?);
        left -= count;
    }
    eprintln!(
        "{copies} lanes in {} groups on {} ({}), kernel compiled in {:.3} s",
        groups.len(),
        device.found.name,
        device.found.driver,
        compiled.as_secs_f64()
    );
    let mut native = Instance::new(module)?;
    let (mut elapsed, mut returned) = (Duration::ZERO, BTreeMap::<String, usize>::new());
    for (index, record) in vectors.records.iter().enumerate() {
        let call = args.call(vectors, record);
        let expected = native.evaluate(&call).map_err(|error| format!("record {index}: {error}"))?;
        for processes in &mut groups {
            let calls: Vec<_> = (0..processes.count()).map(|lane| (lane, call)).collect();
            let begun = Instant::now();
            let mut evaluations = Vec::with_capacity(calls.len());
            for ((lane, call), came) in calls.iter().zip(processes.evaluate(&calls)?) {
                evaluations.push(match came {
                    Ok(evaluation) => evaluation,
                    Err(why) => {
                        *returned.entry(reason(why)).or_default() += 1;
                        processes.evaluate_natively(*lane, call)?
                    }
                });
            }
            elapsed += begun.elapsed();
            agree(index, &evaluations, &expected)?;
            agree_in_memory(index, processes, native.memory())?;
        }
    }
    for (why, count) in &returned {
        eprintln!("handed back to the native engine: {count} ({why})");
    }
    print_rate(vectors.records.len() * copies as usize, elapsed);
    Ok(ExitCode::SUCCESS)
}

fn reason(why: HandedBack) -> String {
    match why {
        HandedBack::Trap(trap) => trap.text().to_owned(),
        why => why.name().to_owned(),
    }
}

fn agree(index: usize, lanes: &[Evaluation], native: &Evaluation) -> Result<(), String> {
    let difference = lanes.iter().enumerate().find_map(|(lane, own)| Some((lane, own.difference(native)?)));
    difference.map_or(Ok(()), |(lane, what)| {
        Err(format!("record {index}: lane {lane} does not agree with the native engine: {what}"))
    })
}

fn agree_in_memory(index: usize, processes: &Processes, native: &[u8]) -> Result<(), String> {
    match (0..processes.count()).find(|lane| processes.memory(*lane) != native) {
        None => Ok(()),
        Some(lane) => Err(format!("record {index}: the memory of lane {lane} is not the native engine's")),
    }
}
