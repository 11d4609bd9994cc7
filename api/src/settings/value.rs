//! The types a setting can have, and how each is read from text.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use lockstep_cu::{settings::EngineChoice, verify::Policy};
use lockstep_jit::{GuestEnv, ModuleFormat};
use lockstep_shaders::device::Choice as GpuChoice;
use url::Url;

/// Something a setting's text can mean.
pub trait Value: Sized {
    /// Whether an empty text says something (`off`, `none`, an empty list). Where it does not, an empty environment
    /// variable counts as not set.
    const EMPTY_IS_A_VALUE: bool = false;
    /// Whether `--flag` alone, without a value, is allowed (and means `true`).
    const IS_SWITCH: bool = false;
    /// Whether the text must never be shown.
    const IS_SECRET: bool = false;
    /// What the text must be, as the end of "expected ...".
    fn expected() -> String;
    /// Reads the text; `None` if it is not what [`Value::expected`] says.
    fn parse(text: &str) -> Option<Self>;
    /// Reads the text of an environment variable, where the reference's rule differs from ours.
    fn parse_env(text: &str) -> Option<Self> {
        Self::parse(text)
    }
}

/// A whole number as the reference writes them: digits, with `_` anywhere between.
fn whole(text: &str) -> Option<u64> {
    let digits: String = text.trim().chars().filter(|&c| c != '_').collect();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// A whole number followed by one of `units` (or by nothing, for the first).
fn measured(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim();
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| *factor)?;
    whole(number)?.checked_mul(factor)
}

macro_rules! whole_number {
    ($($ty:ty: $expected:literal),*) => {$(
        impl Value for $ty {
            fn expected() -> String {
                $expected.to_owned()
            }
            fn parse(text: &str) -> Option<Self> {
                Self::try_from(whole(text)?).ok()
            }
        }
    )*};
}

whole_number!(
    u64: "a whole number (`_` allowed between digits)",
    u32: "a whole number below 4,294,967,296",
    usize: "a whole number"
);

impl Value for NonZeroUsize {
    fn expected() -> String {
        "a whole number of at least 1".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        Self::new(usize::parse(text)?)
    }
}

impl Value for NonZeroU32 {
    fn expected() -> String {
        "a whole number of at least 1".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        Self::new(u32::parse(text)?)
    }
}

/// A share in percent, 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

impl Value for Percent {
    fn expected() -> String {
        "a whole number from 1 to 100".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        whole(text).filter(|n| (1..=100).contains(n)).map(|n| Self(n as u8))
    }
}

impl Value for Duration {
    fn expected() -> String {
        "milliseconds, or a whole number with `ms`, `s`, `m` or `h`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        measured(text, &[("", 1), ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]).map(Self::from_millis)
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Value for Bytes {
    fn expected() -> String {
        "bytes, or a whole number with `KiB`, `MiB` or `GiB`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        measured(text, &[("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]).map(Self)
    }
}

impl Value for bool {
    const EMPTY_IS_A_VALUE: bool = true;
    const IS_SWITCH: bool = true;
    fn expected() -> String {
        "`true` or `false`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        match text {
            "true" => Some(true),
            "false" | "" => Some(false),
            _ => None,
        }
    }
    /// The reference's rule: set to anything at all is true, empty is false.
    fn parse_env(text: &str) -> Option<Self> {
        Some(!text.is_empty())
    }
}

/// Where to listen: `ADDRESS:PORT`, or a port alone for every IPv4 interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub SocketAddr);

impl Value for Listen {
    fn expected() -> String {
        "`ADDRESS:PORT` (an IP address), or a port".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(port) = text.parse::<u16>() {
            return Some(Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)));
        }
        text.parse().ok().map(Self)
    }
}

impl Value for Url {
    fn expected() -> String {
        "a URL beginning with `http://` or `https://`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    }
}

impl Value for PathBuf {
    fn expected() -> String {
        "a path".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }
}

impl Value for String {
    fn expected() -> String {
        "text".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }
}

impl<T: Value> Value for Option<T> {
    const EMPTY_IS_A_VALUE: bool = true;
    const IS_SECRET: bool = T::IS_SECRET;
    fn expected() -> String {
        T::expected()
    }
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }
}

/// A comma-separated list; spaces around entries and empty entries do not count.
impl<T: Value> Value for Vec<T> {
    const EMPTY_IS_A_VALUE: bool = true;
    fn expected() -> String {
        format!("a comma-separated list, each entry {}", T::expected())
    }
    fn parse(text: &str) -> Option<Self> {
        text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(T::parse).collect()
    }
}

impl Value for ModuleFormat {
    fn expected() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|format| format!("`{format}`")).collect();
        format!("one of {}", names.join(", "))
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for GuestEnv {
    fn expected() -> String {
        "`reference` or `empty`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        match text {
            "reference" => Some(Self::Reference),
            "empty" => Some(Self::Empty),
            _ => None,
        }
    }
}

impl Value for Policy {
    fn expected() -> String {
        "`off`, `report` or `enforce`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "report" => Some(Self::Report),
            "enforce" => Some(Self::Enforce),
            _ => None,
        }
    }
}

impl Value for EngineChoice {
    fn expected() -> String {
        "`auto`, `native` or `lanes`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(name, choice)| (name == text).then_some(choice))
    }
}

impl Value for GpuChoice {
    fn expected() -> String {
        "`auto`, `off`, `required`, or a part of an adapter's name".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| text.parse().unwrap_or_else(|never| match never {}))
    }
}

/// Which routes a unit serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitMode {
    /// A compute unit: every route.
    Cu,
    /// A read unit: dry runs only.
    Ru,
}

impl UnitMode {
    /// The setting's text, and what `/status` shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cu => "cu",
            Self::Ru => "ru",
        }
    }
}

impl Value for UnitMode {
    fn expected() -> String {
        "`cu` or `ru`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        [Self::Cu, Self::Ru].into_iter().find(|mode| mode.name() == text)
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Value for LogFormat {
    fn expected() -> String {
        "`text` or `json`".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Which log lines are written: a level for everything, then `target=level` exceptions, as `tracing` filters read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl LogFilter {
    /// The `tracing` level for a level's name; the reference's extra names count as their nearest neighbours.
    fn level(name: &str) -> Option<&'static str> {
        Some(match name {
            "off" => "off",
            "error" => "error",
            "warn" => "warn",
            "info" | "http" => "info",
            "debug" | "verbose" => "debug",
            "trace" | "silly" => "trace",
            _ => return None,
        })
    }
}

impl Value for LogFilter {
    fn expected() -> String {
        "`off`, `error`, `warn`, `info`, `debug` or `trace`, or a comma-separated list with `target=level` entries"
            .to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        let directives: Option<Vec<String>> = text
            .split(',')
            .map(|entry| match entry.trim().split_once('=') {
                None => Self::level(entry.trim()).map(str::to_owned),
                Some((target, level)) => {
                    let named = !target.is_empty()
                        && target.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
                    if named { Self::level(level).map(|level| format!("{target}={level}")) } else { None }
                }
            })
            .collect();
        directives.map(|list| Self(list.join(",")))
    }
}

/// Text that is never shown: not in errors, not in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Value for Secret {
    const IS_SECRET: bool = true;
    fn expected() -> String {
        "a wallet: the JSON of an RSA JWK".to_owned()
    }
    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_take_underscores_and_nothing_else() {
        assert_eq!(u64::parse("9_000_000_000_000"), Some(9_000_000_000_000));
        assert_eq!(u64::parse(" 7 "), Some(7));
        for bad in ["", "_", "-1", "+1", "1.5", "1e3", "0x10", "12a", "99999999999999999999"] {
            assert_eq!(u64::parse(bad), None, "{bad}");
        }
        assert_eq!(u32::parse("4294967296"), None);
        assert_eq!(NonZeroUsize::parse("0"), None);
        assert_eq!(Percent::parse("0"), None);
        assert_eq!(Percent::parse("101"), None);
    }

    #[test]
    fn durations_are_milliseconds_unless_they_name_a_unit() {
        assert_eq!(Duration::parse("1_500"), Some(Duration::from_millis(1500)));
        assert_eq!(Duration::parse("5m"), Some(Duration::from_secs(300)));
        assert_eq!(Duration::parse("24 h"), Some(Duration::from_secs(86_400)));
        for bad in ["", "s", "5 minutes", "-5s", "1.5s", "18446744073709551615h"] {
            assert_eq!(Duration::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes_unless_they_name_a_unit() {
        assert_eq!(Bytes::parse("1_073_741_824"), Some(Bytes(1 << 30)));
        assert_eq!(Bytes::parse("1GiB"), Some(Bytes(1 << 30)));
        assert_eq!(Bytes::parse("64 mib"), Some(Bytes(64 << 20)));
        assert_eq!(Bytes::parse("1GB"), None);
    }

    #[test]
    fn switches_are_strict_on_the_command_line_and_lenient_in_the_environment() {
        assert_eq!(bool::parse("true"), Some(true));
        assert_eq!(bool::parse("yes"), None);
        assert_eq!(bool::parse_env("1"), Some(true));
        assert_eq!(bool::parse_env("false"), Some(true), "the reference reads any text as true");
        assert_eq!(bool::parse_env(""), Some(false));
    }

    #[test]
    fn a_port_alone_listens_on_every_interface() {
        assert_eq!(Listen::parse("8080"), Some(Listen("0.0.0.0:8080".parse().unwrap())));
        assert_eq!(Listen::parse("127.0.0.1:0"), Some(Listen("127.0.0.1:0".parse().unwrap())));
        assert_eq!(Listen::parse("[::1]:80"), Some(Listen("[::1]:80".parse().unwrap())));
        for bad in ["", "70000", "localhost", "127.0.0.1", "example:80"] {
            assert_eq!(Listen::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn urls_are_http_with_a_host() {
        assert!(Url::parse("https://arweave.net").is_ok());
        for bad in ["arweave.net", "ftp://x", "file:///etc/passwd", "http://"] {
            assert_eq!(<Url as Value>::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lists_split_at_commas_and_drop_empty_entries() {
        assert_eq!(Vec::<String>::parse(" a, b ,,c,"), Some(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!(Vec::<String>::parse(""), Some(vec![]));
        assert_eq!(Vec::<ModuleFormat>::parse("wasm32-unknown-emscripten,wasm"), None);
    }

    #[test]
    fn log_filters_name_levels_that_exist() {
        assert_eq!(LogFilter::parse("debug"), Some(LogFilter("debug".into())));
        assert_eq!(LogFilter::parse("silly"), Some(LogFilter("trace".into())));
        assert_eq!(
            LogFilter::parse("info, lockstep_cu::schedule=verbose"),
            Some(LogFilter("info,lockstep_cu::schedule=debug".into()))
        );
        for bad in ["", "loud", "x=loud", "=debug", "a b=info"] {
            assert_eq!(LogFilter::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "(secret)");
    }
}
