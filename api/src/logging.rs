//! Logs: `tracing` events on standard error, as text or JSON lines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::{LogFilter, LogFormat};

/// The level of everything that is not Lockstep's own, unless a `target=level` entry names it: storage and network
/// libraries say much that concerns only themselves.
const OTHERS: &str = "warn";

/// Starts logging. A second call in one process changes nothing.
pub fn start(filter: &LogFilter, format: LogFormat) {
    let filter = EnvFilter::new(directives(filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error only says that logging was started before.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// The filter as `tracing` reads it, where a level alone means this program's own targets.
fn directives(filter: &LogFilter) -> String {
    let entry = |entry: &str| match entry {
        level if entry.contains('=') => level.to_owned(),
        "off" | "error" => entry.to_owned(),
        level => format!("{OTHERS},lockstep={level}"),
    };
    filter.0.split(',').map(entry).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Value as _;

    #[test]
    fn a_level_is_for_our_own_targets_and_entries_for_those_they_name() {
        let of = |text| directives(&LogFilter::parse(text).unwrap());
        assert_eq!(of("debug"), "warn,lockstep=debug");
        assert_eq!(of("error"), "error");
        assert_eq!(of("info,fjall=debug"), "warn,lockstep=info,fjall=debug");
    }
}
