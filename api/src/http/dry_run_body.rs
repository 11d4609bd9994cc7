//! A dry run's body: types checked with the reference's words, what a guest cannot see dropped.

use serde_json::{Map, Value};

use super::number::{self, kind};

/// How one member is checked.
#[derive(Clone, Copy)]
enum Rule {
    /// A string; absent or null allowed.
    Text,
    /// A string; absent allowed, null not.
    TextIfThere,
    /// A string that must be there.
    RequiredText,
    /// Anything.
    Any,
    /// A list of `{name, value}` that must be there.
    Tags,
    /// A number, not coerced; absent or null allowed.
    Number,
    /// Anything that is a number to JavaScript; absent allowed, null is 0.
    Coerced,
    /// A boolean; absent allowed.
    Boolean,
}

/// Members that reach the guest, in the order of its message. `From` and `Read-Only` are made from the others.
const MEMBERS: [(&str, Rule); 14] = [
    ("Id", Rule::Text),
    ("Signature", Rule::Text),
    ("Data", Rule::Any),
    ("Owner", Rule::RequiredText),
    ("Target", Rule::TextIfThere),
    ("Anchor", Rule::Text),
    ("Forwarded-By", Rule::Text),
    ("Tags", Rule::Tags),
    ("Epoch", Rule::Number),
    ("Nonce", Rule::Number),
    ("Timestamp", Rule::Coerced),
    ("Block-Height", Rule::Coerced),
    ("Hash-Chain", Rule::Text),
    ("Cron", Rule::Boolean),
];

/// The members of `body` that reach the guest, coerced where the reference coerces.
///
/// # Errors
/// Every fault, as `'member': what.` joined by ` | `.
pub fn checked(body: Option<&Value>) -> Result<Map<String, Value>, String> {
    let body = match body {
        None => return Err("'dryRun': Required.".to_owned()),
        Some(Value::Object(body)) => body,
        Some(other) => {
            return Err(format!("'dryRun': Expected object, received {}.", kind(other)));
        }
    };
    let mut members = Map::new();
    let mut faults = Vec::new();
    for (name, rule) in MEMBERS {
        match apply(rule, body.get(name)) {
            Ok(Some(value)) => {
                members.insert(name.to_owned(), value);
            }
            Ok(None) => {}
            Err(what) => {
                faults.push(format!("'{name}': {what}."));
                // The sender follows from the owner.
                if name == "Owner" && body.get(name).is_none() && !has_from_process(body) {
                    faults.push("'From': Required.".to_owned());
                }
            }
        }
    }
    if faults.is_empty() { Ok(members) } else { Err(faults.join(" | ")) }
}

fn apply(rule: Rule, value: Option<&Value>) -> Result<Option<Value>, String> {
    let expected = |what: &str, value: &Value| Err(format!("Expected {what}, received {}", kind(value)));
    let Some(value) = value else {
        return match rule {
            Rule::RequiredText | Rule::Tags => Err("Required".to_owned()),
            _ => Ok(None),
        };
    };
    match (rule, value) {
        (Rule::Any, value) => Ok(Some(value.clone())),
        (Rule::Text | Rule::Number, Value::Null) => Ok(Some(Value::Null)),
        (Rule::RequiredText, Value::String(text)) if text.is_empty() => {
            Err("String must contain at least 1 character(s)".to_owned())
        }
        (Rule::Text | Rule::TextIfThere | Rule::RequiredText, Value::String(_)) => Ok(Some(value.clone())),
        (Rule::Text | Rule::TextIfThere | Rule::RequiredText, _) => expected("string", value),
        (Rule::Number, Value::Number(_)) => Ok(Some(value.clone())),
        (Rule::Number, _) => expected("number", value),
        (Rule::Boolean, Value::Bool(_)) => Ok(Some(value.clone())),
        (Rule::Boolean, _) => expected("boolean", value),
        (Rule::Coerced, value) => match number::to_json(number::from_value(value)) {
            Some(number) => Ok(Some(Value::Number(number))),
            None => Err("Expected number, received nan".to_owned()),
        },
        (Rule::Tags, Value::Array(tags)) => {
            tags.iter().map(tag).collect::<Result<_, _>>().map(|tags| Some(Value::Array(tags)))
        }
        (Rule::Tags, _) => expected("array", value),
    }
}

/// A tag with its two members in order and no other.
fn tag(tag: &Value) -> Result<Value, String> {
    let Value::Object(members) = tag else {
        return Err(format!("Expected object, received {}", kind(tag)));
    };
    let member = |name: &str| match members.get(name) {
        None => Err("Required".to_owned()),
        Some(Value::String(text)) => Ok((name.to_owned(), Value::from(text.as_str()))),
        Some(other) => Err(format!("Expected string, received {}", kind(other))),
    };
    Ok(Value::Object([member("name")?, member("value")?].into_iter().collect()))
}

fn has_from_process(body: &Map<String, Value>) -> bool {
    let Some(Value::Array(tags)) = body.get("Tags") else {
        return false;
    };
    tags.iter().any(|tag| tag["name"] == "From-Process" && tag["value"].as_str().is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: Value) -> Result<String, String> {
        checked(Some(&body)).map(|members| Value::Object(members).to_string())
    }

    #[test]
    fn what_aoconnect_sends_passes_in_the_guest_s_order() {
        let body = json!({"Id": "1234", "Owner": "1234", "Target": "p", "Data": "1234", "Tags": [{"value": "ao", "name": "Data-Protocol", "x": 1}], "Anchor": "0"});
        assert_eq!(
            check(body).unwrap(),
            r#"{"Id":"1234","Data":"1234","Owner":"1234","Target":"p","Anchor":"0","Tags":[{"name":"Data-Protocol","value":"ao"}]}"#
        );
    }

    #[test]
    fn unknown_members_and_those_made_here_are_dropped_and_the_rest_passes() {
        let body = json!({"Owner": "o", "Tags": [], "From": "x", "Read-Only": false, "Extra": 1, "Epoch": 1, "Nonce": null, "Hash-Chain": "h", "Forwarded-By": "f", "Cron": true, "Signature": null, "Data": [1, {"a": null}]});
        assert_eq!(
            check(body).unwrap(),
            r#"{"Signature":null,"Data":[1,{"a":null}],"Owner":"o","Forwarded-By":"f","Tags":[],"Epoch":1,"Nonce":null,"Hash-Chain":"h","Cron":true}"#
        );
    }

    #[test]
    fn times_and_heights_are_coerced() {
        let body = json!({"Owner": "o", "Tags": [], "Timestamp": "12", "Block-Height": null});
        assert_eq!(check(body).unwrap(), r#"{"Owner":"o","Tags":[],"Timestamp":12,"Block-Height":0}"#);
        let body = json!({"Owner": "o", "Tags": [], "Timestamp": "soon"});
        assert_eq!(check(body).unwrap_err(), "'Timestamp': Expected number, received nan.");
    }

    #[test]
    fn faults_are_named_in_the_reference_s_words() {
        for (body, fault) in [
            (json!({"Tags": []}), "'Owner': Required. | 'From': Required."),
            (json!({}), "'Owner': Required. | 'From': Required. | 'Tags': Required."),
            (json!({"Tags": [{"name": "From-Process", "value": "p"}]}), "'Owner': Required."),
            (json!({"Owner": null, "Tags": []}), "'Owner': Expected string, received null."),
            (json!({"Owner": "", "Tags": []}), "'Owner': String must contain at least 1 character(s)."),
            (json!({"Owner": "o", "Tags": {}}), "'Tags': Expected array, received object."),
            (json!({"Owner": "o", "Tags": [{"name": "a"}]}), "'Tags': Required."),
            (json!({"Owner": "o", "Tags": [{"name": "a", "value": 1}]}), "'Tags': Expected string, received number."),
            (json!({"Owner": "o", "Tags": ["a"]}), "'Tags': Expected object, received string."),
            (json!({"Owner": "o", "Tags": [], "Target": null}), "'Target': Expected string, received null."),
            (json!({"Owner": "o", "Tags": [], "Id": 5}), "'Id': Expected string, received number."),
            (json!({"Owner": "o", "Tags": [], "Nonce": "5"}), "'Nonce': Expected number, received string."),
            (json!({"Owner": "o", "Tags": [], "Cron": null}), "'Cron': Expected boolean, received null."),
            (json!("text"), "'dryRun': Expected object, received string."),
            (json!([]), "'dryRun': Expected object, received array."),
        ] {
            assert_eq!(check(body.clone()).unwrap_err(), fault, "{body}");
        }
        assert_eq!(checked(None).unwrap_err(), "'dryRun': Required.");
    }
}
