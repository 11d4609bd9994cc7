//! Comparing evaluations with what a vector file expects.
//!
//! - Outputs: every member of the result but `GasUsed`, byte for byte as JSON, members of objects in order. An absent
//!   `Patches` equals an empty one: only newer loaders know it.
//! - Memory: the SHA-256 of linear memory as the message left it, also where it was then undone, and whether it was.
//! - Gas: `GasUsed`, unless the file was recorded in a format that meters differently from the one evaluated.

use std::fmt;

use lockstep_jit::{Evaluation, ModuleFormat, json::to_js_string};
use serde_json::Value;

use super::vectors::{Record, Vectors, members};

/// Longest text of a difference shown, bytes.
const SHOWN_MAX: usize = 400;

/// Comparisons so far.
pub struct Check {
    outputs: Count,
    memory: Count,
    gas: Count,
    is_gas_comparable: bool,
}

#[derive(Default)]
struct Count {
    equal: usize,
    all: usize,
}

impl Count {
    fn add(&mut self, is_equal: bool) {
        self.equal += usize::from(is_equal);
        self.all += 1;
    }
}

/// What came of a record.
pub struct Seen<'a> {
    /// The evaluation.
    pub evaluation: &'a Evaluation,
    /// SHA-256 of linear memory as the message left it.
    pub memory_sha256: Option<&'a str>,
}

impl Check {
    /// Nothing compared yet; `format` is what is evaluated.
    pub fn new(vectors: &Vectors, format: ModuleFormat) -> Self {
        let is_gas_comparable = vectors.format.is_none_or(|recorded| recorded.is_metered() == format.is_metered());
        Self { outputs: Count::default(), memory: Count::default(), gas: Count::default(), is_gas_comparable }
    }

    /// Compares one record; answers every difference as a line.
    pub fn compare(&mut self, index: usize, record: &Record, seen: &Seen<'_>) -> Vec<String> {
        let mut differences = Vec::new();
        let mut differ = |what: &str, expected: &str, found: &str| {
            differences.push(format!("record {index}: {what}: expected {}, found {}", shown(expected), shown(found)));
        };
        let evaluation = seen.evaluation;
        if let Some(result) = &record.result {
            let expected = outputs(result.iter().map(|(name, value)| (name.as_str(), value)));
            let found = outputs(members(&evaluation.outcome).into_iter());
            self.outputs.add(expected == found);
            for (name, text) in &expected {
                match found.iter().find(|(found, _)| found == name) {
                    Some((_, other)) if other == text => {}
                    Some((_, other)) => differ(name, text, other),
                    None => differ(name, text, "nothing"),
                }
            }
            for (name, text) in found.iter().filter(|(name, _)| expected.iter().all(|(other, _)| other != name)) {
                differ(name, "nothing", text);
            }
            if let Some(gas) = result.get("GasUsed").filter(|_| self.is_gas_comparable) {
                let found = evaluation.outcome.gas_used.map_or_else(|| "nothing".to_owned(), |gas| gas.to_string());
                let gas = to_js_string(gas);
                self.gas.add(gas == found);
                if gas != found {
                    differ("gas", &gas, &found);
                }
            }
        }
        let is_kept_as_expected = record.kept.is_none_or(|kept| kept == evaluation.kept);
        if !is_kept_as_expected {
            differ("kept", &(!evaluation.kept).to_string(), &evaluation.kept.to_string());
        }
        if let Some(hash) = &record.memory_sha256 {
            let is_equal = Some(hash.as_str()) == seen.memory_sha256;
            self.memory.add(is_equal && is_kept_as_expected);
            if !is_equal {
                differ("memory", hash, seen.memory_sha256.unwrap_or("nothing"));
            }
        }
        differences
    }

    /// Whether everything compared was equal.
    pub fn is_equal(&self) -> bool {
        [&self.outputs, &self.memory, &self.gas].iter().all(|count| count.equal == count.all)
    }

    /// What the reader of the last line should know.
    pub fn remark(&self) -> Option<&'static str> {
        let is_silent = self.is_gas_comparable;
        (!is_silent).then_some("gas is not compared: the file was recorded in a format that meters differently")
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outputs, memory, gas, .. } = self;
        write!(f, "{}/{} outputs, ", outputs.equal, outputs.all)?;
        write!(f, "{}/{} memory, {}/{} gas", memory.equal, memory.all, gas.equal, gas.all)
    }
}

/// Members to compare, by name, as JSON text. The order of the result's own members says nothing about a process: a
/// loader, not the guest, put them there.
fn outputs<'a>(members: impl Iterator<Item = (&'a str, &'a Value)>) -> Vec<(&'a str, String)> {
    let mut outputs: Vec<_> = members
        .filter(|(name, value)| match *name {
            "GasUsed" | "Memory" => false,
            "Patches" => value.as_array().is_none_or(|patches| !patches.is_empty()),
            _ => true,
        })
        .map(|(name, value)| (name, to_js_string(value)))
        .collect();
    outputs.sort();
    outputs
}

fn shown(text: &str) -> String {
    if text.len() <= SHOWN_MAX {
        return text.to_owned();
    }
    let mut end = SHOWN_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}... ({} bytes)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockstep_jit::Outcome;
    use serde_json::json;

    use super::*;
    use crate::cli::eval::vectors::Environment;

    fn vectors(format: Option<ModuleFormat>) -> Vectors {
        Vectors { format, environment: Environment { json: String::new(), gas_limit: 1 }, records: Vec::new() }
    }

    fn record(result: Value, memory: Option<&str>, kept: Option<bool>) -> Record {
        let result = result.as_object().cloned();
        let memory_sha256 = memory.map(str::to_owned);
        Record { message: String::new(), id: String::new(), environment: None, result, memory_sha256, kept }
    }

    fn evaluation(outcome: Outcome, kept: bool) -> Evaluation {
        Evaluation { outcome, kept, gas_spent: 0, elapsed: Duration::ZERO, thrown: None }
    }

    fn output(text: &str) -> Outcome {
        Outcome { output: Some(serde_json::from_str(text).unwrap()), gas_used: Some(3), ..Outcome::default() }
    }

    fn compare(check: &mut Check, record: &Record, outcome: Outcome, kept: bool, memory: Option<&str>) -> Vec<String> {
        check.compare(4, record, &Seen { evaluation: &evaluation(outcome, kept), memory_sha256: memory })
    }

    #[test]
    fn equal_records_count_and_show_nothing() {
        let mut check = Check::new(&vectors(None), ModuleFormat::Wasm64);
        let expected = record(json!({"Output": {"a": 1}, "Patches": [], "GasUsed": 3}), Some("aa"), Some(true));
        assert!(compare(&mut check, &expected, output(r#"{"a":1}"#), true, Some("aa")).is_empty());
        assert_eq!(check.to_string(), "1/1 outputs, 1/1 memory, 1/1 gas");
        assert!(check.is_equal());
    }

    #[test]
    fn key_order_is_compared() {
        let mut check = Check::new(&vectors(None), ModuleFormat::Wasm64);
        let expected = record(json!({"Output": {"a": 1, "b": 2}}), None, None);
        let differences = compare(&mut check, &expected, output(r#"{"b":2,"a":1}"#), true, None);
        assert_eq!(differences, [r#"record 4: Output: expected {"a":1,"b":2}, found {"b":2,"a":1}"#]);
        assert_eq!(check.to_string(), "0/1 outputs, 0/0 memory, 0/0 gas");
        assert!(!check.is_equal());
    }

    #[test]
    fn members_missing_or_in_excess_are_differences() {
        let mut check = Check::new(&vectors(None), ModuleFormat::Wasm64);
        let expected = record(json!({"Error": "x", "Messages": []}), None, None);
        let differences = compare(&mut check, &expected, output("1"), true, None);
        assert_eq!(
            differences,
            [
                "record 4: Error: expected \"x\", found nothing",
                "record 4: Messages: expected [], found nothing",
                "record 4: Output: expected nothing, found 1"
            ]
        );
    }

    #[test]
    fn wrong_memory_and_gas_are_counted_apart() {
        let mut check = Check::new(&vectors(None), ModuleFormat::Wasm64);
        let expected = record(json!({"Output": 1, "GasUsed": 4}), Some("aa"), Some(true));
        let differences = compare(&mut check, &expected, output("1"), true, Some("bb"));
        assert_eq!(differences, ["record 4: gas: expected 4, found 3", "record 4: memory: expected aa, found bb"]);
        assert_eq!(check.to_string(), "1/1 outputs, 0/1 memory, 0/1 gas");
    }

    #[test]
    fn memory_that_was_undone_is_compared_as_the_message_left_it() {
        let mut check = Check::new(&vectors(None), ModuleFormat::Wasm64);
        let undone = record(json!({"Error": 1}), Some("aa"), Some(false));
        let error = || Outcome { error: Some(json!(1)), ..Outcome::default() };
        assert!(compare(&mut check, &undone, error(), false, Some("aa")).is_empty());
        assert_eq!(compare(&mut check, &undone, error(), false, Some("bb")).len(), 1);
        assert_eq!(
            compare(&mut check, &undone, error(), true, Some("aa")),
            ["record 4: kept: expected false, found true"]
        );
        assert_eq!(check.to_string(), "3/3 outputs, 1/3 memory, 0/0 gas");
    }

    #[test]
    fn gas_is_not_compared_with_a_recording_that_metered_differently() {
        let mut check = Check::new(&vectors(Some(ModuleFormat::Wasm64)), ModuleFormat::Wasm64Metering);
        let expected = record(json!({"Output": 1, "GasUsed": 0}), None, None);
        assert!(compare(&mut check, &expected, output("1"), true, None).is_empty());
        assert_eq!(check.to_string(), "1/1 outputs, 0/0 memory, 0/0 gas");
        assert!(check.remark().is_some());
        assert!(Check::new(&vectors(Some(ModuleFormat::Wasm64)), ModuleFormat::Wasm64).remark().is_none());
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = "é".repeat(SHOWN_MAX);
        assert!(shown(&text).ends_with("... (800 bytes)"));
        assert_eq!(shown("short"), "short");
    }
}
