//! `lockstep verify`: whether the signatures in files hold.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Instant,
};

use lockstep_cu::verify::{
    Cpu, Outcome, Subject, Verdict,
    file::{self, Piece},
    settle,
};

/// Pieces that are checked together.
const BATCH_PIECES: usize = 4096;
/// Bytes that they hold at most, about.
const BATCH_BYTES: usize = 64 << 20;
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

/// What the reading thread hands over.
enum Handed {
    Batch(Vec<Piece>),
    /// The file's end, and what is wrong with it if something is.
    End(Result<(), String>),
}

/// Runs `lockstep verify`. What is invalid, and what cannot be read, is a failure; what is unverifiable is not.
pub fn run(args: Args) -> super::Ending {
    let begun = Instant::now();
    let cpu = Cpu::all();
    let mut count = Count::default();
    let mut out = BufWriter::new(io::stdout().lock());
    for path in &args.files {
        let written = check(path, cpu, &mut count, &mut out).and_then(|()| out.flush());
        match written {
            // Whoever reads has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    let all = count.valid + count.invalid + count.unverifiable;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{} valid, {} invalid, {} unverifiable, {} unreadable: {all} in {seconds:.2} s, {:.0} a second on {} threads",
        count.valid,
        count.invalid,
        count.unverifiable,
        count.broken,
        all as f64 / seconds.max(1e-9),
        cpu.0
    );
    let good = count.invalid == 0 && count.broken == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(super::FAILED) })
}

/// Reads a file on a thread of its own while what it read before is checked here.
fn check(path: &Path, cpu: Cpu, count: &mut Count, out: &mut impl Write) -> io::Result<()> {
    let (send, receive) = sync_channel(1);
    thread::scope(|scope| {
        scope.spawn(move || read(path, &send));
        take(path, receive, cpu, count, out)
    })
}

fn read(path: &Path, send: &SyncSender<Handed>) {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut take = |piece: Piece| {
        bytes += piece.weight();
        batch.push(piece);
        let full = batch.len() >= BATCH_PIECES || bytes >= BATCH_BYTES;
        if full {
            bytes = 0;
        }
        !full || send.send(Handed::Batch(std::mem::take(&mut batch))).is_ok()
    };
    let mut stream: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => match File::open(path) {
            Ok(file) => Box::new(BufReader::with_capacity(READ_BYTES, file)),
            Err(error) => {
                let _ = send.send(Handed::End(Err(error.to_string())));
                return;
            }
        },
    };
    let end = file::read(&mut *stream, &mut take);
    // If nobody takes it, nobody wants it.
    let _ = send.send(Handed::Batch(batch)).and_then(|()| send.send(Handed::End(end)));
}

fn take(path: &Path, handed: Receiver<Handed>, cpu: Cpu, count: &mut Count, out: &mut impl Write) -> io::Result<()> {
    let mut broken = |why: String| {
        count.broken += 1;
        eprintln!("lockstep: {}: {why}", path.display());
    };
    let mut counts = [0; 3];
    for handed in handed {
        match handed {
            Handed::End(end) => end.unwrap_or_else(&mut broken),
            Handed::Batch(pieces) => {
                let mut readable: Vec<Subject> = Vec::with_capacity(pieces.len());
                for subject in file::subjects(pieces, cpu.0) {
                    match subject {
                        Ok(subject) => readable.push(subject),
                        Err(why) => broken(why),
                    }
                }
                for verdict in settle(&cpu, readable) {
                    counts[match verdict.outcome {
                        Outcome::Valid => 0,
                        Outcome::Invalid(_) => 1,
                        Outcome::Unverifiable(_) => 2,
                    }] += 1;
                    write_line(&verdict, out)?;
                }
            }
        }
    }
    count.valid += counts[0];
    count.invalid += counts[1];
    count.unverifiable += counts[2];
    Ok(())
}

/// `valid|invalid|unverifiable ID TYPE [reason]`; `-` for what is not known.
fn write_line(verdict: &Verdict, out: &mut impl Write) -> io::Result<()> {
    let id = if verdict.id.is_empty() { "-" } else { &verdict.id };
    write!(out, "{} ", verdict.outcome.name())?;
    // Ids come from outside, and lines are read by programs.
    write!(out, "{} ", id.replace(|c: char| !c.is_ascii_graphic(), "?"))?;
    match verdict.signature_type {
        Some(number) => write!(out, "{number}")?,
        None => write!(out, "-")?,
    }
    match verdict.outcome.reason() {
        Some(why) => writeln!(out, " {}", why.replace(|c: char| c.is_control(), "?")),
        None => writeln!(out),
    }
}
