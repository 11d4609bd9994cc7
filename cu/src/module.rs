//! What a module's tags say, and whether this unit admits it for a process.

use lockstep_jit::ModuleFormat;

use crate::{
    Error, UnitSettings, js,
    schedule::Process,
    tags::{KEPT_BYTES_MAX, Tags},
};

/// A module this unit admits for one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Its id.
    pub id: String,
    /// The owner's address.
    pub owner: String,
    /// All its tags, unfiltered.
    pub tags: Tags,
    /// How it was built.
    pub format: ModuleFormat,
    /// `Memory-Limit` of the process or the module, bytes. An admission check only: the module's own maximum rules.
    pub memory_limit: u64,
    /// `Compute-Limit` of the process or the module: gas per message, where gas is metered.
    pub gas_limit: u64,
    /// `Extension` tags without repeats; each is one that the unit lists.
    pub extensions: Vec<String>,
}

/// What a unit admits.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub formats: Vec<ModuleFormat>,
    pub extensions: Vec<String>,
    /// bytes
    pub memory_max: u64,
    /// gas
    pub compute_max: u64,
}

impl Admission {
    pub fn new(settings: &UnitSettings) -> Self {
        Self {
            formats: settings.formats.clone(),
            extensions: settings.extensions.clone(),
            memory_max: settings.memory_max_limit,
            compute_max: settings.compute_max_limit,
        }
    }

    /// Checks a module's tags in the reference's order. Process tags override the limits.
    ///
    /// # Errors
    /// [`Error::Unprocessable`] (encodings, format, extensions), [`Error::LimitExceeded`] (limits missing, unreadable or
    /// above the unit's).
    pub fn admit(&self, process: &Process, id: &str, owner: String, tags: Tags) -> Result<ModuleInfo, Error> {
        let bytes = tags.bytes();
        if bytes > KEPT_BYTES_MAX {
            let text = format!("tags of module {id}: expected at most {KEPT_BYTES_MAX} bytes, found {bytes}");
            return Err(Error::Unprocessable(text));
        }
        for encoding in ["Input-Encoding", "Output-Encoding"] {
            if tags.first(encoding).is_none() {
                return Err(Error::Unprocessable(format!("{encoding} for module \"{id}\" is not supported")));
            }
        }
        let format = tags.only("Module-Format").and_then(|name| name.parse().ok());
        let format = format
            .filter(|format| self.formats.contains(format))
            .ok_or_else(|| Error::Unprocessable(format!("Module-Format for module \"{id}\" is not supported")))?;
        let memory_limit = limit("Memory-Limit", process, &tags, self.memory_max, |values| match values {
            [one] => parse_bytes(&one.replacen('-', "", 1)),
            // The reference fails on a repeated tag; none of its values is more right than another.
            _ => None,
        })?;
        // A repeated tag counts as its values joined by commas, of which `parseInt` reads the first.
        let gas_limit = limit("Compute-Limit", process, &tags, self.compute_max, |values| js::parse_int(values[0]))?;
        let mut extensions: Vec<String> = Vec::new();
        for extension in tags.all("Extension") {
            if !self.extensions.iter().any(|known| known == extension) {
                return Err(Error::Unprocessable(format!("Module Extensions for module \"{id}\" are not supported")));
            }
            if !extensions.iter().any(|known| known == extension) {
                extensions.push(extension.to_owned());
            }
        }
        Ok(ModuleInfo { id: id.to_owned(), owner, tags, format, memory_limit, gas_limit, extensions })
    }
}

/// Reads a limit: the process's tag if it has one, else the module's.
fn limit(
    name: &str,
    process: &Process,
    module: &Tags,
    max: u64,
    parse: impl Fn(&[&str]) -> Option<u64>,
) -> Result<u64, Error> {
    let values = |tags: &Tags| tags.all(name).map(str::to_owned).collect::<Vec<_>>();
    let of_process = values(&process.tags);
    let values = if of_process.is_empty() { values(module) } else { of_process };
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let wanted = if values.is_empty() { None } else { parse(&values) };
    let admitted = wanted.filter(|wanted| (1..=max).contains(wanted));
    admitted.ok_or_else(|| {
        let why = match values.len() {
            0 | 1 => " exceeds supported limit".to_owned(),
            n => format!(": expected one tag within the supported limit, found {n} tags"),
        };
        Error::LimitExceeded(format!("{name} for process \"{}\"{why}", process.id))
    })
}

/// A size in bytes: a decimal number, then optional spaces, then one of kb, mb, gb, tb, pb (1024 based, any case); or,
/// where that does not fit, the whole number in front. Fractions of a byte are dropped.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    for (unit, power) in [("kb", 1), ("mb", 2), ("gb", 3), ("tb", 4), ("pb", 5)] {
        let Some(number) = lower.strip_suffix(unit) else {
            continue;
        };
        let number = number.trim_end_matches(' ');
        let Some(number) = decimal(number.strip_prefix('+').unwrap_or(number)) else {
            continue;
        };
        let bytes = (number * 1024f64.powi(power)).floor();
        return (bytes <= js::SAFE_INTEGER_MAX as f64).then_some(bytes as u64);
    }
    js::parse_int(text)
}

/// Digits, and maybe a point with digits after it.
fn decimal(text: &str) -> Option<f64> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let fits = match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    };
    if fits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    const MODULE: [(&str, &str); 5] = [
        ("Module-Format", "wasm32-unknown-emscripten4"),
        ("Input-Encoding", "JSON-V1"),
        ("Output-Encoding", "JSON-V1"),
        ("Memory-Limit", "1-gb"),
        ("Compute-Limit", "9000000000000"),
    ];

    fn admit(module: &[(&str, &str)], process: &[(&str, &str)]) -> Result<ModuleInfo, Error> {
        let process = Process {
            id: "P".into(),
            owner: "o".into(),
            tags: process.iter().copied().collect(),
            module_id: "M".into(),
            block_height: 0,
            timestamp: 0,
            signature: None,
            anchor: None,
            scheduler: Url::parse("http://su").unwrap(),
        };
        let admission = Admission {
            formats: ModuleFormat::ALL.to_vec(),
            extensions: vec!["WeaveDrive".into()],
            memory_max: 1 << 30,
            compute_max: 9_000_000_000_000,
        };
        admission.admit(&process, "M", "maker".into(), module.iter().copied().collect())
    }

    fn without(name: &str) -> Vec<(&'static str, &'static str)> {
        MODULE.into_iter().filter(|(n, _)| *n != name).collect()
    }

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        without(name).into_iter().chain([(name, value)]).collect()
    }

    #[test]
    fn a_complete_module_is_admitted() {
        let info = admit(&MODULE, &[]).unwrap();
        assert_eq!((info.memory_limit, info.gas_limit), (1 << 30, 9_000_000_000_000));
        assert_eq!(info.format, ModuleFormat::Emscripten4);
    }

    #[test]
    fn each_missing_or_strange_tag_has_its_own_refusal() {
        let unprocessable = |text: &str| Err(Error::Unprocessable(text.to_owned()));
        let limit = |text: &str| Err(Error::LimitExceeded(text.to_owned()));
        let same = |got: Result<ModuleInfo, Error>, want: Result<ModuleInfo, Error>| {
            assert_eq!(format!("{got:?}"), format!("{want:?}"));
        };
        same(admit(&without("Input-Encoding"), &[]), unprocessable("Input-Encoding for module \"M\" is not supported"));
        same(
            admit(&without("Output-Encoding"), &[]),
            unprocessable("Output-Encoding for module \"M\" is not supported"),
        );
        for module in [without("Module-Format"), with("Module-Format", "wasm128")] {
            same(admit(&module, &[]), unprocessable("Module-Format for module \"M\" is not supported"));
        }
        let twice: Vec<_> = MODULE.into_iter().chain([MODULE[0]]).collect();
        same(admit(&twice, &[]), unprocessable("Module-Format for module \"M\" is not supported"));
        for module in [
            without("Memory-Limit"),
            with("Memory-Limit", "2-gb"),
            with("Memory-Limit", "lots"),
            with("Memory-Limit", "0"),
        ] {
            same(admit(&module, &[]), limit("Memory-Limit for process \"P\" exceeds supported limit"));
        }
        for module in [without("Compute-Limit"), with("Compute-Limit", "9000000000001"), with("Compute-Limit", "many")]
        {
            same(admit(&module, &[]), limit("Compute-Limit for process \"P\" exceeds supported limit"));
        }
        same(
            admit(&with("Extension", "Foo"), &[]),
            unprocessable("Module Extensions for module \"M\" are not supported"),
        );
        assert_eq!(admit(&with("Extension", "WeaveDrive"), &[]).unwrap().extensions, ["WeaveDrive"]);
    }

    #[test]
    fn a_process_overrides_limits_in_both_directions() {
        assert_eq!(admit(&without("Memory-Limit"), &[("Memory-Limit", "500-mb")]).unwrap().memory_limit, 500 << 20);
        assert!(admit(&MODULE, &[("Memory-Limit", "5-gb")]).is_err());
        assert!(admit(&MODULE, &[("Memory-Limit", "")]).is_err(), "an empty tag overrides too");
        assert_eq!(admit(&MODULE, &[("Compute-Limit", "30000000000")]).unwrap().gas_limit, 30_000_000_000);
        assert!(admit(&MODULE, &[("Compute-Limit", "99000000000000")]).is_err());
    }

    #[test]
    fn repeated_limits_are_no_memory_limit_but_a_first_compute_limit() {
        let twice = [("Memory-Limit", "1-gb"), ("Memory-Limit", "2-gb")];
        match admit(&MODULE, &twice) {
            Err(Error::LimitExceeded(text)) => assert!(text.ends_with("found 2 tags"), "{text}"),
            other => panic!("{other:?}"),
        }
        let twice = [("Compute-Limit", "5"), ("Compute-Limit", "6")];
        assert_eq!(admit(&MODULE, &twice).unwrap().gas_limit, 5);
    }

    #[test]
    fn sizes_are_read_as_the_network_reads_them() {
        for (text, want) in [
            ("500mb", Some(500 << 20)),
            ("1gb", Some(1 << 30)),
            ("1.5GB", Some(3 << 29)),
            ("1 kb", Some(1024)),
            ("500", Some(500)),
            ("10b", Some(10)),
            ("12-mb", Some(12)),
            (".5gb", None),
            ("gb", None),
            ("-1mb", None),
            ("9pb", None),
            ("", None),
        ] {
            assert_eq!(parse_bytes(text), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_none(text in any::<String>()) {
            let _ = parse_bytes(&text);
        }
    }
}
