//! Processes side by side in lanes against the native engine on all cores, in one run: `MESA_SHADER_CACHE_DISABLE=true
//! cargo bench -p lockstep-jit --bench lanes -- [--quick] [--program NAME] [--metered]`.
//!
//! A group is so many processes, each with a message of its own. Lanes get all of them through `Processes::evaluate`,
//! in as few dispatches as the adapter's bindings allow, one after another: the time goes from the messages' texts to
//! results and memories on the host, with everything that came back evaluated natively. The native engine has an
//! instance for each process and a thread for each core, which takes the next process; its time goes from the same
//! texts to the same results. A group smaller than the number of cores leaves cores idle. Messages are the same for
//! both, and after the first of a process, of some lanes of each group, results, gas and memory are compared.
//!
//! Compiling is timed from WebAssembly to a kernel that has run. Mesa keeps what it compiled on disk unless told not
//! to.

mod programs;

use std::{
    num::NonZeroUsize,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};

use lockstep_jit::{
    Call, Engine, EngineSettings, Evaluation, Instance, Module, ModuleFormat, gas,
    gpu::{Choice, Device},
    lanes::{HandedBack, Lanes, Processes, Trust},
    spawn_evaluator,
};
use lockstep_shaders::llvmpipe;
use programs::Program;

/// Processes in a group.
const GROUPS: [u32; 7] = [1, 4, 16, 64, 256, 1024, 4096];
const GROUPS_QUICK: [u32; 3] = [1, 64, 1024];

/// A group is left out if the one before lets it be expected to take longer.
const EXPECTED_MAX: Duration = Duration::from_secs(20);

/// A measurement is repeated until it has taken so long, or so often.
const MEASURED_MIN: Duration = Duration::from_millis(800);
const REPEATS_MAX: u32 = 20;

/// Natively processes get messages in turn for so long: the rate does not go with their number.
const NATIVE_SPAN: Duration = Duration::from_millis(1500);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is asked for.
struct Options {
    is_quick: bool,
    format: ModuleFormat,
    program: Option<String>,
}

impl Options {
    fn parse() -> Result<Options, String> {
        let mut options = Options { is_quick: false, format: ModuleFormat::Emscripten4, program: None };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                // Cargo says so.
                "--bench" => {}
                "--quick" => options.is_quick = true,
                "--metered" => options.format = ModuleFormat::EmscriptenMetering,
                "--program" => options.program = Some(words.next().ok_or("--program wants a name")?),
                other => return Err(format!("{other}: expected --quick, --metered or --program NAME")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    // Before there is a second thread, and as the command does.
    llvmpipe::widen_vectors();
    let run = || Options::parse().map_err(Failure::from).and_then(|options| measure_all(&options));
    let ended = spawn_evaluator("bench".into(), run).map(|thread| thread.join());
    match ended {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(why))) => {
            eprintln!("lanes: {why}");
            ExitCode::FAILURE
        }
        Ok(Err(_)) | Err(_) => ExitCode::FAILURE,
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

fn load_average() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    all.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("?").to_owned()
}

fn measure_all(options: &Options) -> Result<(), Failure> {
    let device = Device::open(&Choice::Required)?.ok_or("there is no adapter")?;
    println!(
        "{} ({}), bindings of {} MiB; native on {} cores; load {}; {}",
        device.found.name,
        device.found.driver,
        device.found.max_binding_bytes >> 20,
        cores(),
        load_average(),
        options.format.name()
    );
    if std::env::var_os("MESA_SHADER_CACHE_DISABLE").is_none() {
        println!("MESA_SHADER_CACHE_DISABLE is not set: a kernel that was compiled before may come from Mesa's cache");
    }
    let programs: Vec<_> = Program::all()
        .into_iter()
        .filter(|program| options.program.as_ref().is_none_or(|name| name == program.name))
        .collect();
    if programs.is_empty() {
        let names: Vec<_> = Program::all().iter().map(|program| program.name).collect();
        return Err(format!("there is no such program; there are {}", names.join(", ")).into());
    }
    let engine = Engine::new(EngineSettings::default())?;
    for program in programs {
        measure(options, &device, &engine, &program).map_err(|why| format!("{}: {why}", program.name))?;
    }
    Ok(())
}

/// A program on both engines.
struct Both<'a> {
    program: &'a Program,
    work: u32,
    environment: String,
    module: Module,
    lanes: Lanes,
}

fn measure(options: &Options, device: &Device, engine: &Engine, program: &Program) -> Result<(), Failure> {
    let module = engine.load(program.wasm, options.format)?;
    let begun = Instant::now();
    let lanes = Lanes::new(device, &module, program.wasm, Trust::FULL)?;
    let compiled = begun.elapsed();
    let work = if options.is_quick { program.work.div_ceil(8) } else { program.work };
    println!(
        "\n{}{}: kernel compiled in {:.1} s",
        program.name,
        if work == 0 { String::new() } else { format!(", {work} {} a message", program.unit) },
        compiled.as_secs_f64()
    );
    println!(
        "  {:>5} {:>10} {:>12} {:>12} {:>7} {:>5}",
        "group", "lanes s", "lanes msg/s", "native msg/s", "ratio", "load"
    );
    let both = Both { program, work, environment: program.environment(), module, lanes };
    let mut last: Option<(u32, Duration)> = None;
    for &count in if options.is_quick { &GROUPS_QUICK[..] } else { &GROUPS[..] } {
        if let Some((before, took)) = last {
            // Of as many lanes as the adapter runs in step, one takes as long as all.
            let (_, in_step) = device.found.subgroup_size;
            let vectors = |lanes: u32| lanes.div_ceil(in_step.max(1));
            let expected = took * (vectors(count) / vectors(before));
            if expected > EXPECTED_MAX {
                println!("  {count:>5} left out: about {} s are expected", expected.as_secs());
                continue;
            }
        }
        match both.row(count)? {
            Row::Measured { lanes, native, dispatches, handed_back } => {
                let rate = f64::from(count) / lanes.as_secs_f64();
                let mut notes = String::new();
                if dispatches > 1 {
                    notes += &format!("  in {dispatches} groups, one after another");
                }
                if handed_back > 0 {
                    notes += &format!("  {handed_back} handed back");
                }
                println!(
                    "  {count:>5} {:>10.4} {rate:>12.1} {native:>12.1} {:>7.2} {:>5}{notes}",
                    lanes.as_secs_f64(),
                    rate / native,
                    load_average()
                );
                last = Some((count, lanes));
            }
            Row::NoRoom { wanted, available } => {
                println!("  {count:>5} left out: {wanted} MiB are wanted, {available} MiB of memory are free");
            }
        }
    }
    Ok(())
}

enum Row {
    Measured {
        /// One message for each process, mean.
        lanes: Duration,
        /// Messages a second.
        native: f64,
        dispatches: usize,
        handed_back: usize,
    },
    NoRoom {
        wanted: u64,
        available: u64,
    },
}

impl Both<'_> {
    fn call<'a>(&'a self, message: &'a str) -> Call<'a> {
        Call {
            message,
            environment: &self.environment,
            seed: "bench",
            gas_limit: gas::DEFAULT_LIMIT,
            time_limit: Duration::from_secs(120),
        }
    }

    fn row(&self, count: u32) -> Result<Row, Failure> {
        let messages: Vec<String> = (0..count).map(|process| self.program.message(process, self.work)).collect();
        let before = self.program.before();
        let longest = messages.iter().chain(&before).map(String::len).max().unwrap_or(0) + self.environment.len();
        let shape = self.lanes.shape(longest, 0);
        // On the device, and the memories of both engines on the host.
        let wanted = (u64::from(count) * 3 * 4 * u64::from(shape.lane_words)) >> 20;
        let available = available_mib();
        if wanted > available / 2 {
            return Ok(Row::NoRoom { wanted, available });
        }
        let most = self.lanes.processes_max(&shape);
        if most == 0 {
            return Err("the adapter has no room for a tile of lanes".into());
        }
        let groups = count.div_ceil(most);
        let mut all = Vec::new();
        for group in 0..groups {
            let (from, to) = (count * group / groups, count * (group + 1) / groups);
            all.push((from, Processes::new(&self.lanes, shape, to - from)?));
        }
        if let Some(before) = &before {
            let texts = vec![before.clone(); count as usize];
            self.evaluate(&mut all, &texts)?;
        }
        let begun = Instant::now();
        let (first, mut handed_back) = self.evaluate(&mut all, &messages)?;
        let mut lanes = begun.elapsed();
        self.compare(&all, &messages, before.as_deref(), &first)?;
        drop(first);
        let mut repeats = 1;
        while lanes < MEASURED_MIN && repeats < REPEATS_MAX {
            let begun = Instant::now();
            handed_back += self.evaluate(&mut all, &messages)?.1;
            lanes += begun.elapsed();
            repeats += 1;
        }
        drop(all);
        let native = self.native(messages, before)?;
        Ok(Row::Measured { lanes: lanes / repeats, native, dispatches: groups as usize, handed_back })
    }

    /// A message for each process; what came of them, and how many the lanes handed back.
    fn evaluate(
        &self,
        groups: &mut [(u32, Processes)],
        messages: &[String],
    ) -> Result<(Vec<Evaluation>, usize), Failure> {
        let (mut all, mut handed_back) = (Vec::with_capacity(messages.len()), 0);
        for (from, processes) in groups {
            let calls: Vec<_> =
                (0..processes.count()).map(|lane| (lane, self.call(&messages[(*from + lane) as usize]))).collect();
            for ((lane, call), came) in calls.iter().zip(processes.evaluate(&calls)?) {
                all.push(match came {
                    Ok(evaluation) => evaluation,
                    Err(HandedBack::Trap(trap)) => return Err(trap.text().into()),
                    Err(_) => {
                        handed_back += 1;
                        processes.evaluate_natively(*lane, call)?
                    }
                });
            }
        }
        Ok((all, handed_back))
    }

    /// The first, the last and some between, against instances that were told the same.
    fn compare(
        &self,
        groups: &[(u32, Processes)],
        messages: &[String],
        before: Option<&str>,
        came: &[Evaluation],
    ) -> Result<(), Failure> {
        let count = messages.len();
        let mut sample = vec![0, count / 7, count / 3, count / 2, count - 1];
        sample.dedup();
        for process in sample {
            let mut instance = Instance::new(&self.module)?;
            if let Some(before) = before {
                instance.evaluate(&self.call(before))?;
            }
            let native = instance.evaluate(&self.call(&messages[process]))?;
            if let Some(error) = &native.outcome.error {
                return Err(format!("process {process} answers an error: {error}").into());
            }
            let lane = &came[process];
            if (&lane.outcome, lane.kept, lane.gas_spent) != (&native.outcome, native.kept, native.gas_spent) {
                return Err(format!("lane {process}: {lane:?}, natively {native:?}").into());
            }
            let (from, processes) = groups.iter().rfind(|(from, _)| *from as usize <= process).expect("the first is 0");
            if processes.memory(process as u32 - from) != instance.memory() {
                return Err(format!("lane {process}: its memory is not what it is natively").into());
            }
        }
        Ok(())
    }

    /// Messages a second on all cores, or on as many as there are processes.
    fn native(&self, messages: Vec<String>, before: Option<String>) -> Result<f64, Failure> {
        let begin = |message| {
            let mut instance = Instance::new(&self.module)?;
            if let Some(before) = &before {
                instance.evaluate(&self.call(before))?;
            }
            Ok(Mutex::new((instance, message)))
        };
        let processes = messages.into_iter().map(begin).collect::<Result<Vec<_>, lockstep_jit::Error>>()?;
        let threads = cores().min(processes.len());
        let work = Arc::new(Work {
            processes,
            environment: self.environment.clone(),
            next: AtomicUsize::new(0),
            deadline: Instant::now() + NATIVE_SPAN,
        });
        let begun = Instant::now();
        let threads = (0..threads)
            .map(|n| {
                let work = work.clone();
                spawn_evaluator(format!("native-{n}"), move || work.run())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut evaluated = 0;
        for thread in threads {
            evaluated += thread.join().map_err(|_| "an evaluation panicked")??;
        }
        Ok(evaluated as f64 / begun.elapsed().as_secs_f64())
    }
}

/// What the native engine's threads share.
struct Work {
    processes: Vec<Mutex<(Instance, String)>>,
    environment: String,
    next: AtomicUsize,
    deadline: Instant,
}

impl Work {
    /// Takes processes in turn until time is up; how many messages were evaluated.
    fn run(&self) -> Result<usize, lockstep_jit::Error> {
        let mut evaluated = 0;
        while evaluated == 0 || Instant::now() < self.deadline {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let mut process = self.processes[at % self.processes.len()].lock().expect("nobody panics with it");
            let (instance, message) = &mut *process;
            instance.evaluate(&Call {
                message,
                environment: &self.environment,
                seed: "bench",
                gas_limit: gas::DEFAULT_LIMIT,
                time_limit: Duration::from_secs(120),
            })?;
            evaluated += 1;
        }
        Ok(evaluated)
    }
}

/// Memory that is free or can be freed.
fn available_mib() -> u64 {
    let all = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    // Where nobody says, the device does when it has no room.
    kib.map_or(u64::MAX, |kib| kib >> 10)
}
