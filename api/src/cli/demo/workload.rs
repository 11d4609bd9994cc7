//! What the demo runs: a module, the messages it gets, and what each must answer.

use std::borrow::Cow;

use lockstep_cu::item::{DataItem, Draft, Id, Tag};
use lockstep_jit::ModuleFormat;
use serde_json::Value;
use sha2::{Digest, Sha256};

const COUNTER: &[u8] = include_bytes!("../../../../tests/processes/counter.wasm");
const TOKEN: &[u8] = include_bytes!("../../../../tests/processes/token.wasm");
const MINER: &[u8] = include_bytes!("../../../../tests/processes/miner.wasm");
const PRICING: &[u8] = include_bytes!("../../../../tests/processes/pricing.wasm");
const MATVEC: &[u8] = include_bytes!("../../../../tests/processes/matvec.wasm");
const NBODY: &[u8] = include_bytes!("../../../../tests/processes/nbody.wasm");

/// Most nonces that the miner tries in one message.
pub const MINER_NONCES_MAX: u32 = 4_194_304;

/// Bytes of the header that the miner hashes, before the nonce.
const HEADER_BYTES: usize = 76;

/// Modules that come with Lockstep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shipped {
    /// Counts its messages
    Counter,
    /// Mints a token with each message
    Token,
    /// Looks for the smallest hash: double SHA-256, with other nonces in each message
    Miner,
    /// Prices an option on 5,000 random paths, in integers
    Pricing,
    /// Makes weights anew in each message, 160 x 160 bytes of memory
    Matvec,
    /// Moves planets by 1,000 steps, in 64-bit floats
    Nbody,
}

/// What an answer is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// `Output.data` is the number of messages so far.
    Count,
    /// `Output.data` is a nonce of those that were asked for, and its hash.
    Hash,
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
    /// Of a miner: nonces a message.
    nonces: u32,
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<Tag> {
    pairs.iter().map(|(name, value)| Tag::new(*name, *value)).collect()
}

impl Workload {
    /// A shipped module. All of them are metered, so that there is gas to show. A miner tries so many nonces a message.
    pub fn shipped(shipped: Shipped, nonces: u32) -> Self {
        let (name, wasm, tags, expected) = match shipped {
            Shipped::Counter => ("counter.wasm", COUNTER, pairs(&[("Action", "Increment")]), Expected::Count),
            // The supply is what has been minted: one a message.
            Shipped::Token => ("token.wasm", TOKEN, pairs(&[("Action", "Mint"), ("Quantity", "1")]), Expected::Count),
            Shipped::Miner => {
                let (header, count) = ("00".repeat(HEADER_BYTES), nonces.to_string());
                let tags = [("Action", "Mine"), ("Header", &header), ("Count", &count)];
                ("miner.wasm", MINER, pairs(&tags), Expected::Hash)
            }
            Shipped::Pricing => {
                let option = [("Spot", "100"), ("Strike", "105"), ("Volatility", "100"), ("Steps", "64")];
                let run = [("Action", "Price"), ("Paths", "5000"), ("Seed", "1")];
                ("pricing.wasm", PRICING, pairs(&[&option[..], &run].concat()), Expected::NoError)
            }
            Shipped::Matvec => ("matvec.wasm", MATVEC, pairs(&[("Action", "Load"), ("Seed", "1")]), Expected::NoError),
            Shipped::Nbody => {
                ("nbody.wasm", NBODY, pairs(&[("Action", "Advance"), ("Steps", "1000")]), Expected::NoError)
            }
        };
        let format = ModuleFormat::EmscriptenMetering;
        Self { name: name.to_owned(), wasm: Cow::Borrowed(wasm), format, tags, data: b" ".to_vec(), expected, nonces }
    }

    /// Any module.
    pub fn of_module(name: String, wasm: Vec<u8>, format: ModuleFormat, action: &str, data: &str) -> Self {
        let tags = pairs(&[("Action", action)]);
        let data = data.as_bytes().to_vec();
        Self { name, wasm: Cow::Owned(wasm), format, tags, data, expected: Expected::NoError, nonces: 0 }
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

    /// The `nth` message of all, from 0, to a process.
    pub fn message(&self, process: &Id, nth: u64) -> Draft {
        let mut tags = pairs(&[("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Message")]);
        tags.extend(self.tags.iter().cloned());
        if self.expected == Expected::Hash {
            // Others than every other message's, until there are no more: nonces have 32 bits.
            let first = nth.wrapping_mul(self.nonces.into()) as u32;
            tags.push(Tag::new("First", first.to_string()));
        }
        Draft { target: Some(*process), anchor: None, tags, data: self.data.clone() }
    }

    /// Checks the answer to a process's `nth` message, from 1.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, nth: u64, message: &DataItem, answer: &Value) -> Result<(), String> {
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
            Expected::Hash => self.check_hash(message.tag("First"), data.as_str().unwrap_or_default()),
            _ => Ok(()),
        }
    }

    /// Whether an answer `nonce hash` is one to the message whose nonces begin with `first`. That no other nonce has a
    /// smaller hash is not looked at: that would be the miner's whole work.
    fn check_hash(&self, first: Option<&str>, data: &str) -> Result<(), String> {
        let first: u32 = first.and_then(|first| first.parse().ok()).ok_or("the message says no first nonce")?;
        let (nonce, found) =
            data.split_once(' ').ok_or_else(|| format!("expected a nonce and a hash, found {data:?}"))?;
        let nonce: u32 = nonce.parse().map_err(|_| format!("expected a nonce, found {nonce:?}"))?;
        if nonce.wrapping_sub(first) >= self.nonces {
            return Err(format!("nonce {nonce} is none of {} from {first} on", self.nonces));
        }
        let mut header = [0; HEADER_BYTES + 4];
        header[HEADER_BYTES..].copy_from_slice(&nonce.to_le_bytes());
        let hash = Sha256::digest(Sha256::digest(header));
        let expected: String = hash.iter().rev().map(|byte| format!("{byte:02x}")).collect();
        if found == expected { Ok(()) } else { Err(format!("the hash of {nonce} is {expected}, not {found}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: Id = [7; 32];

    fn signed(workload: &Workload, nth: u64) -> DataItem {
        crate::devnet::wallets::user().sign(workload.message(&ID, nth)).unwrap()
    }

    fn answer(output: Value) -> Value {
        json!({ "Messages": [], "Spawns": [], "Assignments": [], "Output": output })
    }

    #[test]
    fn a_counter_must_have_counted_right() {
        let counter = Workload::shipped(Shipped::Counter, 0);
        let message = signed(&counter, 0);
        assert_eq!(counter.check(5, &message, &answer(json!({ "data": "5" }))), Ok(()));
        assert_eq!(counter.check(5, &message, &answer(json!({ "data": "4" }))), Err("expected 5, found \"4\"".into()));
        assert!(counter.check(5, &message, &answer(json!("5"))).is_err());
    }

    #[test]
    fn a_miner_must_have_hashed_a_nonce_that_it_was_asked_for() {
        let miner = Workload::shipped(Shipped::Miner, 100);
        // The third message of all asks for nonces from 200 on.
        let message = signed(&miner, 2);
        let check = |data: String| miner.check(1, &message, &answer(json!({ "data": data })));
        // As node's SHA-256 has it.
        let right = "263699fdb487d34efaaba68a4e0c4f611307cb3461363c1868590a25b7b28de7";
        assert_eq!(check(format!("250 {right}")), Ok(()));
        assert!(check(format!("251 {right}")).unwrap_err().starts_with("the hash of 251"));
        for outside in [199, 300] {
            assert!(check(format!("{outside} {right}")).unwrap_err().starts_with("nonce "), "{outside}");
        }
        assert!(check(right.into()).is_err());
        assert!(check("x y".into()).is_err());
    }

    #[test]
    fn errors_and_answers_without_arrays_are_wrong_for_any_module() {
        let any = Workload::of_module("m".into(), vec![], ModuleFormat::Wasm64, "Eval", "return 1");
        let message = signed(&any, 0);
        assert_eq!(any.check(1, &message, &answer(json!({ "data": "x" }))), Ok(()));
        let mut error = answer(json!(""));
        error["Error"] = json!("boom");
        assert!(any.check(1, &message, &error).is_err());
        error["Error"] = json!({});
        assert!(any.check(1, &message, &error).is_err());
        assert!(any.check(1, &message, &json!({ "message": "in progress" })).is_err());
    }
}
