//! Vector files: messages for one process, and what a loader answered to each.
//!
//! ```json
//! {"format": "...", "env": {"Process": {..}, "Module": {..}},
//!  "records": [{"msg": {..}, "result": {..}, "memory_sha256": "hex", "kept": true}]}
//! ```
//!
//! `format` says which format the answers were recorded in; a record may carry an `env` of its own. In a record only
//! `msg` is required. `memory_sha256` is of the linear memory after the message; where `kept` is false, of memory that
//! was then thrown away.

use std::{fs, path::Path};

use lockstep_jit::{ModuleFormat, Outcome, json::to_js_string};
use serde_json::{Map, Value};

/// The reference's default gas limit.
const GAS_LIMIT_DEFAULT: u64 = 9_000_000_000_000_000;

/// A vector file.
pub struct Vectors {
    /// The format its answers were recorded in, if it says so.
    pub format: Option<ModuleFormat>,
    /// The environment of every record that has none of its own.
    pub environment: Environment,
    /// In order.
    pub records: Vec<Record>,
}

/// The `Process` and `Module` a guest gets.
pub struct Environment {
    /// As `JSON.stringify` writes it.
    pub json: String,
    /// The `Compute-Limit` tag: the process's, else the module's, else the default.
    pub gas_limit: u64,
}

/// One message and what is expected of it.
pub struct Record {
    /// As `JSON.stringify` writes it.
    pub message: String,
    /// Its `Id`, or empty.
    pub id: String,
    /// This record's own environment.
    pub environment: Option<Environment>,
    /// The members of `result`, in order, if there is one.
    pub result: Option<Map<String, Value>>,
    /// SHA-256 of the memory after the message, hexadecimal.
    pub memory_sha256: Option<String>,
    /// Whether the message's state was kept.
    pub kept: Option<bool>,
}

impl Vectors {
    /// Reads a file.
    ///
    /// # Errors
    /// A text that names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |why: String| format!("vectors {}: {why}", path.display());
        let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(named)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file = lockstep_jit::json::parse(text).map_err(|error| error.to_string())?;
        let records = file.get("records").and_then(Value::as_array).ok_or("expected an array `records`")?;
        let format = match file.get("format") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.parse().map_err(|error| format!("`format`: {error}"))?),
            Some(_) => return Err("`format`: expected text".to_owned()),
        };
        let records = records
            .iter()
            .enumerate()
            .map(|(index, record)| Record::parse(record).map_err(|why| format!("record {index}: {why}")))
            .collect::<Result<_, _>>()?;
        let environment = Environment::of(file.get("env").unwrap_or(&Value::Object(Map::new())));
        Ok(Self { format, environment, records })
    }
}

impl Environment {
    fn of(env: &Value) -> Self {
        let limit = |of: &str| {
            let tag = env[of]["Tags"].as_array()?.iter().find(|tag| tag["name"] == "Compute-Limit")?;
            tag["value"].as_str()?.trim().parse().ok()
        };
        let gas_limit = limit("Process").or_else(|| limit("Module")).unwrap_or(GAS_LIMIT_DEFAULT);
        Self { json: to_js_string(env), gas_limit }
    }
}

impl Record {
    fn parse(record: &Value) -> Result<Self, String> {
        let message = record.get("msg").filter(|message| message.is_object()).ok_or("expected an object `msg`")?;
        let result = match record.get("result") {
            None | Some(Value::Null) => None,
            Some(Value::Object(members)) => Some(members.clone()),
            Some(_) => return Err("`result`: expected an object".to_owned()),
        };
        let memory_sha256 = match record.get("memory_sha256") {
            None | Some(Value::Null) => None,
            Some(Value::String(hash)) => Some(hash.to_ascii_lowercase()),
            Some(_) => return Err("`memory_sha256`: expected text".to_owned()),
        };
        Ok(Self {
            message: to_js_string(message),
            id: message["Id"].as_str().unwrap_or_default().to_owned(),
            environment: record.get("env").map(Environment::of),
            result,
            memory_sha256,
            kept: record.get("kept").and_then(Value::as_bool),
        })
    }
}

/// What an outcome carries besides gas, in the order the loader gives it; what is absent is left out.
pub fn members(outcome: &Outcome) -> Vec<(&'static str, &Value)> {
    let all = [
        ("Error", &outcome.error),
        ("Output", &outcome.output),
        ("Messages", &outcome.messages),
        ("Spawns", &outcome.spawns),
        ("Assignments", &outcome.assignments),
        ("Patches", &outcome.patches),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_the_guest_exactly_what_json_stringify_would() {
        let text = r#"{"format":"wasm32-unknown-emscripten4",
            "env": {"Process": {"Id": "p", "Tags": [{"name": "Compute-Limit", "value": "7"}]}, "Module": {"Tags": []}},
            "records": [{"msg": {"Id": "m", "B": 1.0, "A": "é\n"}, "kept": true, "memory_sha256": "AB"},
                        {"msg": {}, "env": {"Module": {"Tags": [{"name": "Compute-Limit", "value": "8"}]}}}]}"#;
        let vectors = Vectors::parse(text).unwrap();
        assert_eq!(vectors.format, Some(ModuleFormat::Emscripten4));
        assert_eq!(
            vectors.environment.json,
            r#"{"Process":{"Id":"p","Tags":[{"name":"Compute-Limit","value":"7"}]},"Module":{"Tags":[]}}"#
        );
        assert_eq!(vectors.environment.gas_limit, 7);
        let [first, second] = vectors.records.as_slice() else { panic!("two records") };
        assert_eq!(first.message, "{\"Id\":\"m\",\"B\":1,\"A\":\"é\\n\"}");
        assert_eq!((first.id.as_str(), first.kept, first.memory_sha256.as_deref()), ("m", Some(true), Some("ab")));
        assert_eq!((second.id.as_str(), second.kept), ("", None));
        assert_eq!(second.environment.as_ref().map(|env| env.gas_limit), Some(8));
    }

    #[test]
    fn without_a_compute_limit_the_reference_s_default_counts() {
        assert_eq!(Vectors::parse(r#"{"records":[]}"#).unwrap().environment.gas_limit, GAS_LIMIT_DEFAULT);
    }

    #[test]
    fn files_of_another_shape_are_errors_that_say_what_is_missing() {
        for (text, why) in [
            ("not json", "expected ident"),
            ("{}", "`records`"),
            (r#"{"records":{}}"#, "`records`"),
            (r#"{"records":[{}]}"#, "record 0: expected an object `msg`"),
            (r#"{"records":[{"msg":{},"result":1}]}"#, "record 0: `result`"),
            (r#"{"records":[{"msg":{},"memory_sha256":1}]}"#, "record 0: `memory_sha256`"),
            (r#"{"format":"wasm128","records":[]}"#, "`format`: module format `wasm128`"),
        ] {
            let error = Vectors::parse(text).err().unwrap();
            assert!(error.contains(why), "{text}: {error}");
        }
        let error = Vectors::read(Path::new("/nonexistent/v.json")).err().unwrap();
        assert!(error.starts_with("vectors /nonexistent/v.json: No such file"), "{error}");
    }
}
