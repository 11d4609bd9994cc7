//! What the demo runs: a module, the messages it gets, and what each must answer.

use std::borrow::Cow;

use lockstep_cu::item::{Draft, Id, Tag};
use lockstep_jit::ModuleFormat;
use serde_json::Value;

const COUNTER: &[u8] = include_bytes!("../../../../tests/processes/counter.wasm");
const TOKEN: &[u8] = include_bytes!("../../../../tests/processes/token.wasm");
const MINER: &[u8] = include_bytes!("../../../../tests/processes/miner.wasm");

/// Nonces the miner tries in one message: about as much work as an aos evaluation.
const MINER_NONCES: &str = "512";

/// Modules that come with Lockstep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shipped {
    /// Counts its messages
    Counter,
    /// Mints a token with each message
    Token,
    /// Hashes: double SHA-256, 512 times a message
    Miner,
}

/// What an answer is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// `Output.data` is the number of messages so far.
    Count,
    /// There is an answer, and it is no error.
    NoError,
}

/// A module and its messages.
#[derive(Debug)]
pub struct Workload {
    /// The module's name.
    pub name: String,
    /// Its bytes.
    pub wasm: Cow<'static, [u8]>,
    /// Its format.
    pub format: ModuleFormat,
    tags: Vec<Tag>,
    data: Vec<u8>,
    expected: Expected,
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<Tag> {
    pairs.iter().map(|(name, value)| Tag::new(*name, *value)).collect()
}

impl Workload {
    /// A shipped module. All of them are metered, so that there is gas to show.
    pub fn shipped(shipped: Shipped) -> Self {
        let (name, wasm, tags, expected) = match shipped {
            Shipped::Counter => ("counter.wasm", COUNTER, pairs(&[("Action", "Increment")]), Expected::Count),
            // The supply is what has been minted: one a message.
            Shipped::Token => ("token.wasm", TOKEN, pairs(&[("Action", "Mint"), ("Quantity", "1")]), Expected::Count),
            Shipped::Miner => {
                let header = "00".repeat(76);
                let tags = [("Action", "Mine"), ("Header", &header), ("First", "0"), ("Count", MINER_NONCES)];
                ("miner.wasm", MINER, pairs(&tags), Expected::NoError)
            }
        };
        let format = ModuleFormat::EmscriptenMetering;
        Self { name: name.to_owned(), wasm: Cow::Borrowed(wasm), format, tags, data: b" ".to_vec(), expected }
    }

    /// Any module.
    pub fn of_module(name: String, wasm: Vec<u8>, format: ModuleFormat, action: &str, data: &str) -> Self {
        let tags = pairs(&[("Action", action)]);
        let data = data.as_bytes().to_vec();
        Self { name, wasm: Cow::Owned(wasm), format, tags, data, expected: Expected::NoError }
    }

    /// Tags of the module's item.
    pub fn module_tags(&self) -> Vec<Tag> {
        pairs(&[
            ("Data-Protocol", "ao"),
            ("Variant", "ao.TN.1"),
            ("Type", "Module"),
            ("Module-Format", self.format.name()),
            ("Input-Encoding", "JSON-V1"),
            ("Output-Encoding", "JSON-V1"),
            ("Memory-Limit", "1-gb"),
            ("Compute-Limit", "9000000000000"),
            ("Content-Type", "application/wasm"),
        ])
    }

    /// Tags of its processes.
    pub fn process_tags(&self, module: &str, scheduler: &str, authority: &str) -> Vec<Tag> {
        pairs(&[
            ("Data-Protocol", "ao"),
            ("Variant", "ao.TN.1"),
            ("Type", "Process"),
            ("Module", module),
            ("Scheduler", scheduler),
            ("Authority", authority),
            ("Name", &self.name),
        ])
    }

    /// A message to a process.
    pub fn message(&self, process: &Id) -> Draft {
        let mut tags = pairs(&[("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Message")]);
        tags.extend(self.tags.iter().cloned());
        Draft { target: Some(*process), anchor: None, tags, data: self.data.clone() }
    }

    /// Checks the answer to a process's `nth` message, from 1.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, nth: u64, answer: &Value) -> Result<(), String> {
        for list in ["Messages", "Spawns", "Assignments"] {
            if !answer[list].is_array() {
                return Err(format!("`{list}` is not an array in {answer}"));
            }
        }
        if !matches!(answer.get("Error"), None | Some(Value::Null | Value::Bool(false))) {
            return Err(format!("it is an error: {}", answer["Error"]));
        }
        let data = &answer["Output"]["data"];
        match self.expected {
            Expected::Count if data.as_str() != Some(&nth.to_string()) => Err(format!("expected {nth}, found {data}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(output: Value) -> Value {
        json!({ "Messages": [], "Spawns": [], "Assignments": [], "Output": output })
    }

    #[test]
    fn a_counter_must_have_counted_right() {
        let counter = Workload::shipped(Shipped::Counter);
        assert_eq!(counter.check(5, &answer(json!({ "data": "5" }))), Ok(()));
        assert_eq!(counter.check(5, &answer(json!({ "data": "4" }))), Err("expected 5, found \"4\"".into()));
        assert!(counter.check(5, &answer(json!("5"))).is_err());
    }

    #[test]
    fn errors_and_answers_without_arrays_are_wrong_for_any_module() {
        let any = Workload::of_module("m".into(), vec![], ModuleFormat::Wasm64, "Eval", "return 1");
        assert_eq!(any.check(1, &answer(json!({ "data": "x" }))), Ok(()));
        let mut error = answer(json!(""));
        error["Error"] = json!("boom");
        assert!(any.check(1, &error).is_err());
        error["Error"] = json!({});
        assert!(any.check(1, &error).is_err());
        assert!(any.check(1, &json!({ "message": "in progress" })).is_err());
    }
}
