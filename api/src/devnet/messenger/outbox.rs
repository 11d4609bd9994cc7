//! What a result asks the messenger to send on, read as strictly as the real messenger reads it.
//!
//! A result is lost as a whole when one of its three arrays is missing, a spawn or an assignment is malformed, or `GasUsed` is
//! there and no number. A malformed message is left out alone. `Error` is not looked at.

use serde_json::Value;

use lockstep_cu::item::Tag;

/// A message to push.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// For whom.
    pub target: Option<String>,
    /// 32 characters, if the process follows the rules.
    pub anchor: Option<String>,
    /// As the process wrote them.
    pub tags: Vec<Tag>,
    /// As bytes.
    pub data: Vec<u8>,
}

/// A process to spawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Spawn {
    /// As the process wrote them.
    pub tags: Vec<Tag>,
    /// As bytes.
    pub data: Vec<u8>,
}

/// A message to assign.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// To these processes.
    pub processes: Vec<String>,
    /// Its id.
    pub message: String,
    /// It is a transaction of the base layer.
    pub base_layer: bool,
    /// Parts to leave out, comma-separated.
    pub exclude: Option<String>,
}

/// All of a result's errands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outbox {
    /// Messages, in order.
    pub messages: Vec<Message>,
    /// Spawns, in order.
    pub spawns: Vec<Spawn>,
    /// Assignments, in order.
    pub assignments: Vec<Assignment>,
    /// Messages left out because they are malformed.
    pub skipped: usize,
}

impl Outbox {
    /// Reads a result.
    ///
    /// # Errors
    /// What makes the whole result unusable.
    pub fn read(result: &Value) -> Result<Self, String> {
        if !matches!(result["GasUsed"], Value::Null | Value::Number(_)) {
            return Err("`GasUsed` is neither a number nor null".into());
        }
        let list = |name: &str| result[name].as_array().ok_or_else(|| format!("`{name}` is not an array"));
        let (messages, spawns, assignments) = (list("Messages")?, list("Spawns")?, list("Assignments")?);
        let read: Vec<Message> = messages.iter().filter_map(Message::read).collect();
        Ok(Self {
            skipped: messages.len() - read.len(),
            messages: read,
            spawns: spawns.iter().map(Spawn::read).collect::<Option<_>>().ok_or("a spawn is malformed")?,
            assignments: assignments
                .iter()
                .map(Assignment::read)
                .collect::<Option<_>>()
                .ok_or("an assignment is malformed")?,
        })
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.spawns.is_empty() && self.assignments.is_empty()
    }
}

impl Message {
    fn read(value: &Value) -> Option<Self> {
        let tags = tags(&value["Tags"])?;
        Some(Self {
            target: optional(&value["Target"])?,
            anchor: optional(&value["Anchor"])?,
            tags,
            data: data(&value["Data"]),
        })
    }
}

impl Spawn {
    fn read(value: &Value) -> Option<Self> {
        value["Anchor"].as_str()?;
        Some(Self { tags: tags(&value["Tags"])?, data: data(&value["Data"]) })
    }
}

impl Assignment {
    fn read(value: &Value) -> Option<Self> {
        let processes = texts(&value["Processes"])?;
        let exclude = texts(&value["Exclude"]).filter(|parts| !parts.is_empty()).map(|parts| parts.join(","));
        let message = value["Message"].as_str()?.to_owned();
        Some(Self { processes, message, base_layer: value["BaseLayer"] == true, exclude })
    }
}

/// Some text, no text, or `None` for what is neither.
fn optional(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        _ => None,
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

fn tags(value: &Value) -> Option<Vec<Tag>> {
    let tag = |tag: &Value| Some(Tag::new(tag["name"].as_str()?, tag["value"].as_str()?));
    value.as_array()?.iter().map(tag).collect()
}

/// Data as given; nothing becomes a space, since items for a process need data.
fn data(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => b" ".to_vec(),
        Value::String(text) if text.is_empty() => b" ".to_vec(),
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(tags: Value) -> Value {
        json!({ "Target": "t", "Anchor": "a", "Tags": tags, "Data": "d" })
    }

    #[test]
    fn a_result_without_one_of_its_arrays_is_lost() {
        assert_eq!(Outbox::read(&json!({ "Messages": [], "Spawns": [] })), Err("`Assignments` is not an array".into()));
        assert!(Outbox::read(&json!({ "message": "Evaluation of process \"P\" to \"M\" is in progress." })).is_err());
        let empty = Outbox::read(&json!({ "Messages": [], "Spawns": [], "Assignments": [], "Error": "x" })).unwrap();
        assert!(empty.is_empty());
    }

    #[test]
    fn gas_must_be_a_number_or_nothing() {
        let with = |gas: Value| {
            Outbox::read(&json!({ "Messages": [], "Spawns": [], "Assignments": [], "GasUsed": gas })).is_ok()
        };
        assert!(with(json!(1)) && with(json!(null)) && !with(json!("1")));
    }

    #[test]
    fn a_malformed_message_is_left_out_and_its_siblings_stay() {
        let good = message(json!([{ "name": "a", "value": "b" }]));
        let bad = message(json!([{ "name": "a", "value": 1 }]));
        let result = json!({ "Messages": [bad, good, { "Tags": [], "Target": 7 }], "Spawns": [], "Assignments": [] });
        let outbox = Outbox::read(&result).unwrap();
        assert_eq!((outbox.messages.len(), outbox.skipped), (1, 2));
        assert_eq!(outbox.messages[0].tags, [Tag::new("a", "b")]);
    }

    #[test]
    fn a_spawn_without_an_anchor_or_a_broken_assignment_loses_everything() {
        let with = |spawns: Value, assignments: Value| {
            Outbox::read(&json!({ "Messages": [message(json!([]))], "Spawns": spawns, "Assignments": assignments }))
        };
        assert!(with(json!([{ "Tags": [] }]), json!([])).is_err());
        assert!(with(json!([]), json!([{ "Processes": "p", "Message": "m" }])).is_err());
        let assigned = with(
            json!([]),
            json!([{ "Processes": ["p"], "Message": "m", "BaseLayer": true, "Exclude": ["Data", "Tags"] }]),
        );
        assert_eq!(
            assigned.unwrap().assignments[0],
            Assignment {
                processes: vec!["p".into()],
                message: "m".into(),
                base_layer: true,
                exclude: Some("Data,Tags".into())
            }
        );
    }

    #[test]
    fn no_data_becomes_a_space() {
        for empty in [json!(null), json!("")] {
            assert_eq!(data(&empty), b" ");
        }
        assert_eq!(data(&json!(5)), b"5");
    }
}
