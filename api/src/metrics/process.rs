//! This operating-system process's numbers, read from `/proc` at each scrape. Elsewhere than on Linux there are none.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks a second in `/proc`: the kernel's `USER_HZ`, 100 on every architecture Linux runs this on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads and shows the numbers.
#[derive(Debug)]
pub struct ProcessCollector;

struct Numbers {
    user_seconds: f64,
    system_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_fds: u64,
    max_fds: u64,
}

fn numbers() -> Option<Numbers> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields are counted from 1 and the first here is the third (`man proc`).
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok().map(|ticks| ticks / TICKS_PER_SECOND);
    let boot: f64 = fs::read_to_string("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    Some(Numbers {
        user_seconds: ticks(14)?,
        system_seconds: ticks(15)?,
        start_seconds: boot + ticks(22)?,
        resident_bytes: kib("VmRSS:")?,
        virtual_bytes: kib("VmSize:")?,
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        max_fds: max_fds.parse().unwrap_or(u64::MAX),
    })
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(numbers) = numbers() else {
            return Ok(());
        };
        let counters = [
            ("ao_cuprocess_cpu_user_seconds", "User CPU time, in seconds", numbers.user_seconds),
            ("ao_cuprocess_cpu_system_seconds", "System CPU time, in seconds", numbers.system_seconds),
            ("ao_cuprocess_cpu_seconds", "CPU time, in seconds", numbers.user_seconds + numbers.system_seconds),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let gauges = [
            ("ao_cuprocess_start_time_seconds", "Start, in seconds since 1970", numbers.start_seconds),
            ("ao_cuprocess_resident_memory_bytes", "Resident memory, in bytes", numbers.resident_bytes as f64),
            ("ao_cuprocess_virtual_memory_bytes", "Virtual memory, in bytes", numbers.virtual_bytes as f64),
            ("ao_cuprocess_open_fds", "Open files", numbers.open_fds as f64),
            ("ao_cuprocess_max_fds", "Files that may be open", numbers.max_fds as f64),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
