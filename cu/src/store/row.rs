//! One evaluation as it lies in the store.

use lockstep_jit::{Outcome, json::is_truthy};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Place;

/// Everything the store keeps about one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where in the process's order it stands.
    pub place: Place,
    /// None for crons.
    pub message_id: Option<String>,
    /// None for crons, and for messages that a legacy scheduler gave no assignment id.
    pub assignment_id: Option<String>,
    /// Base64 of the SHA-384 deep hash, for forwarded messages.
    pub deep_hash: Option<String>,
    /// None for crons.
    pub nonce: Option<u64>,
    /// None for crons.
    pub epoch: Option<u64>,
    /// Arweave block height at the time of scheduling.
    pub block_height: u64,
    /// What the evaluation gave.
    pub outcome: Outcome,
    /// Milliseconds since 1970, by this machine's clock.
    pub evaluated_at: u64,
}

/// Layout of a row's value. Bump when it changes; a store holds rows of one layout.
const LAYOUT: u8 = 1;

/// Levels of nesting up to which a stored value is decoded: the deepest that an engine gives, and the row around it.
const DEPTH_MAX: usize = lockstep_jit::json::DEPTH_MAX + 8;
/// Levels up to which it is decoded right here. Decoding recurses, with more than 500 bytes of stack a level, and here
/// may be a thread of the runtime with 2 MiB.
const DEPTH_HERE_MAX: usize = 128;

/// A row's value as it is written. Absent members are left out; a member that is `null` is written as such.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assignment_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deep_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    block_height: u64,
    evaluated_at: u64,
    output: Members<'a>,
}

/// An outcome as it is written.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Members<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assignments: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spawns: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patches: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gas_used: Option<u64>,
}

impl<'a> Members<'a> {
    pub(super) fn of(outcome: &'a Outcome) -> Self {
        Self {
            messages: outcome.messages.as_ref(),
            assignments: outcome.assignments.as_ref(),
            spawns: outcome.spawns.as_ref(),
            output: outcome.output.as_ref(),
            patches: outcome.patches.as_ref(),
            error: outcome.error.as_ref(),
            gas_used: outcome.gas_used,
        }
    }
}

impl Row {
    pub(super) fn encode(&self) -> Vec<u8> {
        let written = Written {
            message_id: self.message_id.as_deref(),
            assignment_id: self.assignment_id.as_deref(),
            deep_hash: self.deep_hash.as_deref(),
            nonce: self.nonce,
            epoch: self.epoch,
            block_height: self.block_height,
            evaluated_at: self.evaluated_at,
            output: Members::of(&self.outcome),
        };
        let mut bytes = vec![LAYOUT];
        serde_json::to_writer(&mut bytes, &written).expect("a JSON value with text keys always serialises");
        bytes
    }

    /// None: the bytes are not a row of this layout.
    pub(super) fn decode(place: Place, bytes: &[u8]) -> Option<Self> {
        let (&layout, json) = bytes.split_first()?;
        if layout != LAYOUT {
            return None;
        }
        let mut row = parse_object(json)?;
        let mut text = |name: &str| match row.remove(name) {
            Some(Value::String(s)) => Some(s),
            _ => None,
        };
        let (message_id, assignment_id, deep_hash) = (text("messageId"), text("assignmentId"), text("deepHash"));
        let number = |name: &str| row.get(name).and_then(Value::as_u64);
        let (nonce, epoch) = (number("nonce"), number("epoch"));
        let (block_height, evaluated_at) = (number("blockHeight")?, number("evaluatedAt")?);
        let Some(Value::Object(output)) = row.remove("output") else {
            return None;
        };
        Some(Self {
            place,
            message_id,
            assignment_id,
            deep_hash,
            nonce,
            epoch,
            block_height,
            outcome: outcome_from_json(output)?,
            evaluated_at,
        })
    }
}

fn outcome_from_json(mut json: Map<String, Value>) -> Option<Outcome> {
    let gas_used = match json.remove("GasUsed") {
        None => None,
        Some(gas) => Some(gas.as_u64()?),
    };
    Some(Outcome {
        messages: json.remove("Messages"),
        assignments: json.remove("Assignments"),
        spawns: json.remove("Spawns"),
        output: json.remove("Output"),
        patches: json.remove("Patches"),
        error: json.remove("Error"),
        gas_used,
    })
}

fn parse_object(json: &[u8]) -> Option<Map<String, Value>> {
    let parse = || {
        let mut parser = serde_json::Deserializer::from_slice(json);
        parser.disable_recursion_limit();
        serde::Deserialize::deserialize(&mut parser).ok()
    };
    match nesting(json) {
        depth if depth <= DEPTH_HERE_MAX => parse(),
        depth if depth <= DEPTH_MAX => std::thread::scope(|scope| {
            let roomy = std::thread::Builder::new().stack_size(lockstep_jit::STACK_BYTES);
            roomy.spawn_scoped(scope, parse).ok()?.join().ok()?
        }),
        _ => None,
    }
}

/// Deepest nesting of brackets outside strings.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The rule by which `/results` and `/cron` hide a row: an `Error` that JavaScript calls true.
pub(super) fn is_hidden(outcome: &Outcome) -> bool {
    outcome.error.as_ref().is_some_and(is_truthy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(outcome: Outcome) -> Row {
        Row {
            place: Place { timestamp: 7, ordinate: 3, cron: None },
            message_id: Some("m".into()),
            assignment_id: None,
            deep_hash: Some("d".into()),
            nonce: Some(3),
            epoch: Some(0),
            block_height: 1_500_000,
            outcome,
            evaluated_at: 1,
        }
    }

    #[test]
    fn rows_survive_encoding_with_absent_and_null_members_told_apart() {
        for outcome in [
            Outcome::default(),
            Outcome { output: Some(Value::Null), error: Some(json!({})), ..Outcome::default() },
            Outcome {
                messages: Some(json!([{"Target": "t", "Tags": []}])),
                assignments: Some(json!([])),
                spawns: Some(json!([])),
                output: Some(json!({"z": 1, "a": 2.5, "n": 1e300})),
                patches: Some(json!([])),
                error: None,
                gas_used: Some(u64::MAX),
            },
        ] {
            let row = row(outcome);
            assert_eq!(Row::decode(row.place.clone(), &row.encode()), Some(row));
        }
    }

    #[test]
    fn key_order_of_an_output_is_kept() {
        let text = r#"{"z":1,"a":{"y":[],"b":0}}"#;
        let row = row(Outcome { output: Some(serde_json::from_str(text).unwrap()), ..Outcome::default() });
        let back = Row::decode(row.place.clone(), &row.encode()).unwrap();
        assert_eq!(serde_json::to_string(&back.outcome.output.unwrap()).unwrap(), text);
    }

    #[test]
    fn the_deepest_output_an_engine_gives_is_read_back_on_a_small_stack() {
        let open = "[{\"a\":".repeat(lockstep_jit::json::DEPTH_MAX / 2);
        let text = format!("{open}1{}", "}]".repeat(lockstep_jit::json::DEPTH_MAX / 2));
        let deep = lockstep_jit::json::parse(&text).unwrap();
        let row = row(Outcome { output: Some(deep), ..Outcome::default() });
        let bytes = row.encode();
        let place = row.place.clone();
        let small = std::thread::Builder::new().stack_size(1 << 20);
        let read =
            small.spawn(move || Row::decode(place, &bytes).map(|row| row.clone().encode())).unwrap().join().unwrap();
        assert_eq!(read, Some(row.encode()));
    }

    #[test]
    fn bytes_that_are_no_row_are_refused_not_guessed() {
        let place = Place { timestamp: 7, ordinate: 3, cron: None };
        let good = row(Outcome::default()).encode();
        let mut other_layout = good.clone();
        other_layout[0] = LAYOUT + 1;
        for bytes in [&[][..], &good[..good.len() - 1], &other_layout, b"\x01[]", b"\x01{}"] {
            assert_eq!(Row::decode(place.clone(), bytes), None);
        }
    }

    #[test]
    fn only_errors_that_javascript_calls_true_hide_a_row() {
        let hidden = |error: Option<Value>| is_hidden(&Outcome { error, ..Outcome::default() });
        for error in [json!({}), json!([]), json!("no"), json!(1), json!(true)] {
            assert!(hidden(Some(error)));
        }
        for error in [json!(null), json!(""), json!(0), json!(false)] {
            assert!(!hidden(Some(error)));
        }
        assert!(!hidden(None));
    }
}
