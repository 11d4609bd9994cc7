//! `lockstep gpu`: the adapters, what is measured on one of them, and whether its kernels give the processor's answers.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use lockstep_shaders::{
    batch::{Calibration, Measured, crossover},
    cpu,
    device::{self, Choice, Found},
    gpu::{Gpu, Settings},
    self_test,
};

/// Arguments of `lockstep gpu`.
#[derive(clap::Args)]
pub struct Args {
    /// The adapter to measure: the best there is, programs on the processor included (`required`); the one that `serve`
    /// takes by default (`auto`); or a part of a name.
    #[arg(long, value_name = "required|auto|NAME", default_value = "required")]
    gpu: Choice,
    /// Signatures of each scheme in the self-test.
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    signatures: usize,
}

/// Runs `lockstep gpu`. That there is no GPU is what it tells, unless one is asked for by name; a kernel that disagrees
/// with the processor is a failure.
pub fn run(args: Args) -> super::Ending {
    let mut out = io::stdout().lock();
    let adapters = device::adapters();
    for adapter in &adapters {
        write_adapter(adapter, &mut out)?;
    }
    if adapters.is_empty() {
        writeln!(out, "no adapters: the processor verifies all signatures")?;
        if args.gpu == Choice::Required {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let Some(gpu) = Gpu::open(Settings { choice: args.gpu, ..Settings::default() })? else {
        writeln!(out, "none of them is taken unless asked for by name: the processor verifies all signatures")?;
        return Ok(ExitCode::SUCCESS);
    };
    writeln!(out, "measured   {}", gpu.found().name)?;
    writeln!(out, "variants   {}", gpu.variants())?;
    let threads = cpu::cores();
    // Nobody interrupts it.
    if let Some(measured) = Calibration::measure(&gpu, threads, || true)? {
        for (scheme, table) in measured.tables() {
            write_table(scheme, table, threads.get(), &mut out)?;
        }
    }
    writeln!(out, "\nself-test, half of the signatures changed")?;
    let outcomes = self_test::run(&gpu, args.signatures)?;
    for outcome in &outcomes {
        let self_test::Outcome { name, items, valid, disagreements } = outcome;
        writeln!(out, "  {name:<13} {items:>7} signatures, {valid} valid, {disagreements} disagreements")?;
    }
    let agree = outcomes.iter().all(|outcome| outcome.disagreements == 0);
    writeln!(out, "{}", if agree { "the GPU agrees with the processor" } else { "THE GPU IS WRONG: do not use it" })?;
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

fn write_adapter(found: &Found, out: &mut impl Write) -> io::Result<()> {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let (least, most) = found.subgroup_size;
    writeln!(out, "adapter    {}", found.name)?;
    writeln!(out, "  driver   {}, {}", found.backend, found.driver)?;
    writeln!(out, "  kind     {}", if found.software { "a program on the processor" } else { "hardware" })?;
    writeln!(
        out,
        "  features 64-bit integers {}, subgroups {} ({least} to {most} lanes)",
        yes(found.int64),
        yes(found.subgroups)
    )?;
    writeln!(out, "  limits   {} MiB in one storage binding\n", found.max_binding_bytes >> 20)
}

fn write_table(scheme: &str, table: &[Measured], threads: usize, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{scheme:<10} {:>14} {:>14}", format!("CPU, {threads} threads"), "GPU")?;
    let rate = |items: usize, time: Duration| format!("{:.0}/s", items as f64 / time.as_secs_f64().max(1e-9));
    for row in table {
        writeln!(out, "{:>10} {:>14} {:>14}", row.items, rate(row.items, row.cpu), rate(row.items, row.gpu))?;
    }
    match crossover(table) {
        Some(items) => writeln!(out, "  batches of {items} and more go to the GPU"),
        None => writeln!(out, "  all batches go to the processor"),
    }
}
