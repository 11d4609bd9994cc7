//! `lockstep verify`: whether the signatures in files hold.

use std::{
    fmt::Display,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use lockstep_cu::verify::{Cpu, Outcome, Verdict, verify};

/// Bytes read from a file at once.
const READ_BYTES: usize = 1 << 20;

/// Arguments of `lockstep verify`.
#[derive(clap::Args)]
pub struct Args {
    /// Data items, bundles, transactions or pages of a scheduler; `-` for the standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What was found in all files.
#[derive(Default)]
struct Count {
    valid: u64,
    invalid: u64,
    unverifiable: u64,
    /// Files and bundles that are none, or break off.
    broken: u64,
}

impl Count {
    fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Valid => &mut self.valid,
            Outcome::Invalid(_) => &mut self.invalid,
            Outcome::Unverifiable(_) => &mut self.unverifiable,
        } += 1;
    }

    fn broken(&mut self, path: &Path, why: &dyn Display) {
        self.broken += 1;
        eprintln!("lockstep: {}: {why}", path.display());
    }
}

/// Runs `lockstep verify`. What is invalid, and what cannot be read, is a failure; what is unverifiable is not.
pub fn run(args: Args) -> super::Ending {
    let begun = Instant::now();
    let Cpu(threads) = Cpu::all();
    let mut count = Count::default();
    let mut out = BufWriter::new(io::stdout().lock());
    for path in &args.files {
        let written = check(path, threads, &mut count, &mut out).and_then(|()| out.flush());
        match written {
            // Whoever reads has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    let all = count.valid + count.invalid + count.unverifiable;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{} valid, {} invalid, {} unverifiable, {} unreadable: {all} in {seconds:.2} s, {:.0} a second on {threads} threads",
        count.valid,
        count.invalid,
        count.unverifiable,
        count.broken,
        all as f64 / seconds.max(1e-9),
    );
    let good = count.invalid == 0 && count.broken == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

fn check(path: &Path, threads: NonZeroUsize, count: &mut Count, out: &mut impl Write) -> io::Result<()> {
    let mut stream: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => match File::open(path) {
            Ok(file) => Box::new(BufReader::with_capacity(READ_BYTES, file)),
            Err(error) => {
                count.broken(path, &error);
                return Ok(());
            }
        },
    };
    let mut written = Ok(());
    let end = verify(&mut *stream, threads, &mut |found| {
        match found {
            Ok(verdict) => {
                count.add(&verdict.outcome);
                written = write_line(&verdict, out);
            }
            Err(why) => count.broken(path, &why),
        }
        written.is_ok()
    });
    written?;
    if let Err(why) = end {
        count.broken(path, &why);
    }
    Ok(())
}

/// `valid|invalid|unverifiable ID TYPE [reason]`; `-` for what is not known.
fn write_line(verdict: &Verdict, out: &mut impl Write) -> io::Result<()> {
    let Verdict { id, signature_type, outcome } = verdict;
    out.write_all(outcome.name().as_bytes())?;
    out.write_all(b" ")?;
    match id.as_str() {
        "" => out.write_all(b"-")?,
        id if id.bytes().all(|byte| byte.is_ascii_graphic()) => out.write_all(id.as_bytes())?,
        // Ids come from outside, and lines are read by programs.
        id => write!(out, "{}", id.replace(|c: char| !c.is_ascii_graphic(), "?"))?,
    }
    match signature_type {
        Some(number) => write!(out, " {number}")?,
        None => out.write_all(b" -")?,
    }
    match outcome.reason() {
        Some(why) => writeln!(out, " {}", why.replace(|c: char| c.is_control(), "?")),
        None => writeln!(out),
    }
}
