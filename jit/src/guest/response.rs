//! Folding a guest's response into an outcome, by the rules of the reference's evaluation worker.

use serde_json::Value;

use crate::{Outcome, json};

/// What a call of `handle` came to.
pub struct Folded {
    /// The result.
    pub outcome: Outcome,
    /// Whether memory after the message becomes the process's state.
    pub kept: bool,
    /// Why nothing was returned, if so.
    pub thrown: Option<String>,
}

/// A message that ended in an exception: its error, and nothing else.
pub fn threw(error: Value, why: String) -> Folded {
    Folded { outcome: Outcome { error: Some(error), ..Outcome::default() }, kept: false, thrown: Some(why) }
}

/// Folds the text that `handle` returned: `{"ok": bool, "response": ...}`.
pub fn fold(text: &str, gas_used: u64) -> Folded {
    let exception = |why: String| threw(Value::Object(Default::default()), why);
    let parsed = match json::parse(text) {
        Ok(parsed) => parsed,
        Err(e) => return exception(format!("the response is not JSON: {e}")),
    };
    let mut parsed = match parsed {
        Value::Object(members) => members,
        Value::Null => return exception("the response is null".into()),
        // Destructuring any other value finds no members: not ok, nothing thrown.
        _ => Default::default(),
    };
    let response = parsed.remove("response");
    if !parsed.get("ok").is_some_and(json::is_truthy) {
        let why = response.as_ref().map_or_else(|| "undefined".into(), json::to_js_string);
        return threw(response.unwrap_or(Value::Object(Default::default())), why);
    }
    let mut members = match response {
        Some(Value::Object(members)) => members,
        None | Some(Value::Null) => return exception("the response has no `response`".into()),
        Some(_) => Default::default(),
    };
    let mut take = |name: &str| members.shift_remove(name);
    let error = take("Error").filter(json::is_truthy);
    let outcome = Outcome {
        output: take("Output"),
        messages: take("Messages"),
        spawns: take("Spawns"),
        assignments: take("Assignments"),
        patches: take("Patches"),
        gas_used: Some(gas_used),
        error,
    };
    let kept = outcome.error.is_none() && !ran_out_of_memory(&outcome);
    Folded { outcome, kept, thrown: None }
}

/// Whether the guest says that it could not allocate: such a message leaves the state as it was, though it is no error.
fn ran_out_of_memory(outcome: &Outcome) -> bool {
    let output = outcome.output.as_ref();
    let text = match output {
        Some(Value::String(text)) => Some(text),
        Some(other) => match other.pointer("/data/output") {
            Some(Value::String(text)) => Some(text),
            _ => None,
        },
        None => None,
    };
    text.is_some_and(|text| text.ends_with("not enough memory for buffer allocation"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_result_keeps_its_messages_and_not_its_state() {
        let folded = fold(r#"{"ok":true,"response":{"Error":"no","Messages":[1],"Output":"x"}}"#, 7);
        assert!(!folded.kept);
        assert_eq!(folded.outcome.messages, Some(json!([1])));
        assert_eq!(folded.outcome.output, Some(json!("x")));
        assert_eq!(folded.outcome.gas_used, Some(7));
    }

    #[test]
    fn not_ok_is_thrown_and_leaves_only_the_error() {
        let folded = fold(r#"{"ok":false,"response":{"code":1}}"#, 7);
        assert_eq!(folded.outcome, Outcome { error: Some(json!({"code": 1})), ..Outcome::default() });
        assert!(!folded.kept);
    }

    #[test]
    fn an_output_that_ran_out_of_memory_is_no_error_but_is_not_kept() {
        for output in [
            r#""x: not enough memory for buffer allocation""#,
            r#"{"data":{"output":"not enough memory for buffer allocation"}}"#,
        ] {
            let folded = fold(&format!(r#"{{"ok":true,"response":{{"Output":{output}}}}}"#), 0);
            assert!(!folded.kept);
            assert_eq!(folded.outcome.error, None);
        }
    }

    #[test]
    fn a_falsy_error_is_none() {
        let folded = fold(r#"{"ok":true,"response":{"Error":"","Output":1}}"#, 0);
        assert!(folded.kept);
        assert_eq!(folded.outcome.error, None);
    }

    #[test]
    fn what_is_not_json_becomes_an_empty_error() {
        for text in ["", "nonsense", "null", r#"{"ok":true}"#, r#"{"ok":true,"response":null}"#] {
            let folded = fold(text, 0);
            assert_eq!(folded.outcome.error, Some(json!({})), "{text}");
        }
    }
}
