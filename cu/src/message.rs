//! The exact JSON texts that a guest sees. Their bytes decide where things land in guest memory, so key order, number
//! forms and escapes are those of the reference: `JSON.stringify` over its message schema.

use serde_json::{Map, Value};

use crate::{
    Error, js,
    module::ModuleInfo,
    schedule::Process,
    shape::{self, Field},
    tags::{Tag, Tags},
};

/// What stands under a key.
#[derive(Clone, Copy)]
enum Slot<'a> {
    Absent,
    Null,
    Text(&'a str),
    Number(f64),
    Flag(bool),
    Json(&'a Value),
    /// A message's tags, without those that a guest may not see.
    Tags(&'a Tags),
}

impl<'a> Slot<'a> {
    fn field(field: &'a Field) -> Self {
        match field {
            None => Slot::Absent,
            Some(None) => Slot::Null,
            Some(Some(text)) => Slot::Text(text),
        }
    }

    fn whole(number: u64) -> Self {
        Slot::Number(number as f64)
    }
}

/// The keys of a message in their order.
const KEYS: [&str; 16] = [
    "Id",
    "Signature",
    "Data",
    "Owner",
    "Target",
    "Anchor",
    "From",
    "Forwarded-By",
    "Tags",
    "Epoch",
    "Nonce",
    "Timestamp",
    "Block-Height",
    "Hash-Chain",
    "Cron",
    "Read-Only",
];

fn write_message(slots: [Slot<'_>; 16]) -> String {
    let mut out = String::from("{");
    for (key, slot) in KEYS.into_iter().zip(slots) {
        if matches!(slot, Slot::Absent) {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        js::push_string(&mut out, key);
        out.push(':');
        match slot {
            Slot::Absent => {}
            Slot::Null => out.push_str("null"),
            Slot::Text(text) => js::push_string(&mut out, text),
            Slot::Number(number) => js::push_number(&mut out, number),
            Slot::Flag(flag) => out.push_str(if flag { "true" } else { "false" }),
            Slot::Json(value) => js::push_value(&mut out, value),
            Slot::Tags(tags) => push_tags(&mut out, tags.visible()),
        }
    }
    out.push('}');
    out
}

fn push_tags<'a>(out: &mut String, tags: impl Iterator<Item = &'a Tag>) {
    out.push('[');
    for (i, tag) in tags.enumerate() {
        out.push_str(if i > 0 { ",{\"name\":" } else { "{\"name\":" });
        js::push_string(out, &tag.name);
        out.push_str(",\"value\":");
        js::push_string(out, &tag.value);
        out.push('}');
    }
    out.push(']');
}

/// Who a message is from: the process it was pushed for (first `From-Process` tag, if it has a value), else its owner.
pub(crate) fn from<'a>(tags: &'a Tags, owner: &'a str) -> &'a str {
    tags.first("From-Process").filter(|process| !process.is_empty()).unwrap_or(owner)
}

/// The parts of a message that come from its data item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub id: String,
    pub signature: Field,
    /// Left out, or any JSON (text for all but odd schedulers).
    pub data: Option<Value>,
    /// The signer's account.
    pub owner: String,
    pub target: String,
    pub anchor: Field,
    pub tags: Tags,
    /// Whether it came as a message, not as an assignment of an existing item. Only then a `From-Process` tag makes its
    /// signer the `Forwarded-By`.
    pub sent: bool,
}

impl Item {
    /// The messenger that pushed it on behalf of a process, if one did.
    pub fn forwarded_by(&self) -> Option<&str> {
        (self.sent && self.tags.first("From-Process").is_some()).then_some(self.owner.as_str())
    }
}

/// The parts of a message that come from its assignment.
#[derive(Clone, Copy)]
pub(crate) struct Slotting<'a> {
    pub epoch: u64,
    pub nonce: u64,
    pub timestamp: u64,
    pub block_height: u64,
    pub hash_chain: Option<&'a str>,
}

/// A scheduled or assigned message.
pub(crate) fn scheduled_json(item: &Item, at: Slotting<'_>) -> String {
    write_message([
        Slot::Text(&item.id),
        Slot::field(&item.signature),
        item.data.as_ref().map_or(Slot::Absent, Slot::Json),
        Slot::Text(&item.owner),
        Slot::Text(&item.target),
        Slot::field(&item.anchor),
        Slot::Text(from(&item.tags, &item.owner)),
        item.forwarded_by().map_or(Slot::Absent, Slot::Text),
        Slot::Tags(&item.tags),
        Slot::whole(at.epoch),
        Slot::whole(at.nonce),
        Slot::whole(at.timestamp),
        Slot::whole(at.block_height),
        at.hash_chain.map_or(Slot::Absent, Slot::Text),
        Slot::Flag(false),
        Slot::Flag(false),
    ])
}

/// The message of a cron. `timestamp` in ms.
pub(crate) fn cron_json(process: &Process, tags: &Tags, timestamp: u64, block_height: u64) -> String {
    write_message([
        Slot::Absent,
        Slot::Absent,
        Slot::Absent,
        Slot::Text(&process.owner),
        Slot::Text(&process.id),
        Slot::Absent,
        Slot::Text(&process.owner),
        Slot::Absent,
        Slot::Tags(tags),
        Slot::Absent,
        Slot::Absent,
        Slot::whole(timestamp),
        Slot::whole(block_height),
        Slot::Absent,
        Slot::Flag(true),
        Slot::Flag(false),
    ])
}

/// The process itself as the first message, where its scheduler does not supply it. `data`: its transaction's data.
pub(crate) fn process_json(process: &Process, data: &str) -> String {
    write_message([
        Slot::Text(&process.id),
        Slot::field(&process.signature),
        Slot::Text(data),
        Slot::Text(&process.owner),
        Slot::Text(&process.id),
        Slot::field(&process.anchor),
        Slot::Text(from(&process.tags, &process.owner)),
        Slot::Absent,
        Slot::Tags(&process.tags),
        Slot::Absent,
        Slot::Absent,
        Slot::whole(process.timestamp),
        Slot::whole(process.block_height),
        Slot::Absent,
        Slot::Flag(false),
        Slot::Flag(false),
    ])
}

/// The environment text: `{"Process":{"Id","Owner","Tags"},"Module":{"Id","Owner","Tags"}}`, tags unfiltered.
pub fn environment_json(process: &Process, module: &ModuleInfo) -> String {
    let mut out = String::from("{");
    for (name, id, owner, tags) in [
        ("\"Process\":", &process.id, &process.owner, &process.tags),
        (",\"Module\":", &module.id, &module.owner, &module.tags),
    ] {
        out.push_str(name);
        out.push_str("{\"Id\":");
        js::push_string(&mut out, id);
        out.push_str(",\"Owner\":");
        js::push_string(&mut out, owner);
        out.push_str(",\"Tags\":");
        push_tags(&mut out, tags.0.iter());
        out.push('}');
    }
    out.push('}');
    out
}

/// The message text of a dry run: `body` (the client's JSON object) over the defaults; keys that a message does not have
/// are dropped, `From` and `Read-Only` are always ours.
///
/// `last_timestamp` (ms) and `last_block_height` are of the last evaluated entry.
///
/// # Errors
/// [`Error::Invalid`]: `Owner` or `Tags` missing, a member of a wrong type, a number that is none.
pub fn dry_run_json(
    process_id: &str,
    body: &Map<String, Value>,
    last_timestamp: u64,
    last_block_height: u64,
) -> Result<String, Error> {
    let member = |key| Member { key, value: body.get(key) };
    let id = member("Id").field()?;
    let signature = member("Signature").field()?;
    let owner = member("Owner").text()?;
    if owner.is_empty() {
        return Err(Error::Invalid("'Owner': expected a string that is not empty, found an empty one.".to_owned()));
    }
    let target = if body.contains_key("Target") { member("Target").text()? } else { process_id };
    let anchor = member("Anchor").field()?;
    let forwarded_by = member("Forwarded-By").field()?;
    let tags = member("Tags").tags()?;
    let hash_chain = member("Hash-Chain").field()?;
    Ok(write_message([
        Slot::field(&id),
        Slot::field(&signature),
        body.get("Data").map_or(Slot::Absent, Slot::Json),
        Slot::Text(owner),
        Slot::Text(target),
        Slot::field(&anchor),
        Slot::Text(from(&tags, owner)),
        Slot::field(&forwarded_by),
        Slot::Tags(&tags),
        member("Epoch").number()?,
        member("Nonce").number()?,
        member("Timestamp").coerced(last_timestamp)?,
        member("Block-Height").coerced(last_block_height)?,
        Slot::field(&hash_chain),
        member("Cron").flag()?,
        Slot::Flag(true),
    ]))
}

/// A member of a dry run's body.
struct Member<'a> {
    key: &'static str,
    value: Option<&'a Value>,
}

impl<'a> Member<'a> {
    fn wrong(&self, expected: &str) -> Error {
        if self.value.is_none() {
            return Error::Invalid(format!("'{}': Required.", self.key));
        }
        Error::Invalid(format!("'{}': Expected {expected}, received {}.", self.key, shape::describe(self.value)))
    }

    fn text(&self) -> Result<&'a str, Error> {
        self.value.and_then(Value::as_str).ok_or_else(|| self.wrong("string"))
    }

    fn field(&self) -> Result<Field, Error> {
        match self.value {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) => Ok(Some(Some(text.clone()))),
            Some(_) => Err(self.wrong("string")),
        }
    }

    fn tags(&self) -> Result<Tags, Error> {
        let tags = self.value.and_then(Value::as_array).ok_or_else(|| self.wrong("array"))?;
        let tags = tags.iter().map(|tag| {
            let text = |key| tag.get(key).and_then(Value::as_str);
            let (name, value) =
                text("name").zip(text("value")).ok_or_else(|| self.wrong("tags {name, value} of strings"))?;
            Ok(Tag::new(name, value))
        });
        tags.collect::<Result<_, Error>>().map(Tags)
    }

    /// A number that may be null or left out.
    fn number(&self) -> Result<Slot<'a>, Error> {
        match self.value {
            None => Ok(Slot::Absent),
            Some(Value::Null) => Ok(Slot::Null),
            Some(value) => value.as_f64().map(Slot::Number).ok_or_else(|| self.wrong("number")),
        }
    }

    /// A number, or what JavaScript's `Number` makes one.
    fn coerced(&self, default: u64) -> Result<Slot<'a>, Error> {
        let number = match self.value {
            None => Some(default as f64),
            Some(Value::Null) => Some(0.0),
            Some(Value::Bool(flag)) => Some(f64::from(u8::from(*flag))),
            Some(Value::Number(number)) => number.as_f64().filter(|n| n.is_finite()),
            Some(Value::String(text)) => js::number(text),
            Some(_) => None,
        };
        number.map(Slot::Number).ok_or_else(|| self.wrong("number"))
    }

    /// A flag; false where it is left out.
    fn flag(&self) -> Result<Slot<'a>, Error> {
        match self.value {
            None => Ok(Slot::Flag(false)),
            Some(value) => value.as_bool().map(Slot::Flag).ok_or_else(|| self.wrong("boolean")),
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_jit::ModuleFormat;
    use serde_json::json;
    use url::Url;

    use super::*;

    fn process() -> Process {
        Process {
            id: "pid".into(),
            owner: "boss".into(),
            tags: [("Name", "p"), ("From", "spoofed"), ("Owner", "spoofed")].into_iter().collect(),
            module_id: "mod".into(),
            block_height: 7,
            timestamp: 1_000,
            signature: Some(Some("sig".into())),
            anchor: Some(None),
            scheduler: Url::parse("http://su").unwrap(),
        }
    }

    fn item() -> Item {
        Item {
            id: "mid".into(),
            signature: Some(Some("s".into())),
            data: Some(json!("1984")),
            owner: "alice".into(),
            target: "pid".into(),
            anchor: Some(None),
            tags: [("Action", "Eval"), ("From", "spoofed"), ("Owner", "spoofed")].into_iter().collect(),
            sent: true,
        }
    }

    const AT: Slotting<'_> =
        Slotting { epoch: 0, nonce: 3, timestamp: 1_750_000_000_123, block_height: 1_690_000, hash_chain: Some("hc") };

    #[test]
    fn a_scheduled_message_has_these_keys_in_this_order() {
        assert_eq!(
            scheduled_json(&item(), AT),
            r#"{"Id":"mid","Signature":"s","Data":"1984","Owner":"alice","Target":"pid","Anchor":null,"From":"alice","Tags":[{"name":"Action","value":"Eval"}],"Epoch":0,"Nonce":3,"Timestamp":1750000000123,"Block-Height":1690000,"Hash-Chain":"hc","Cron":false,"Read-Only":false}"#
        );
    }

    #[test]
    fn a_pushed_message_is_from_its_process_and_forwarded_by_its_owner() {
        let mut pushed = item();
        pushed.tags = [("From-Process", "child"), ("From-Process", "other")].into_iter().collect();
        let text = scheduled_json(&pushed, AT);
        assert!(text.contains(r#""From":"child","Forwarded-By":"alice","Tags""#), "{text}");

        pushed.tags = [("From-Process", "")].into_iter().collect();
        let text = scheduled_json(&pushed, AT);
        assert!(text.contains(r#""From":"alice","Forwarded-By":"alice","Tags""#), "{text}");

        pushed.sent = false;
        assert!(!scheduled_json(&pushed, AT).contains("Forwarded-By"), "an assigned item is forwarded by nobody");
    }

    #[test]
    fn what_is_left_out_stays_out_and_null_stays_null() {
        let mut odd = item();
        (odd.signature, odd.data, odd.anchor) = (None, None, None);
        let text = scheduled_json(&odd, Slotting { hash_chain: None, ..AT });
        for key in ["Signature", "Data", "Anchor", "Hash-Chain"] {
            assert!(!text.contains(key), "{text}");
        }
        odd.data = Some(Value::Null);
        assert!(scheduled_json(&odd, AT).contains(r#""Data":null,"#));
    }

    #[test]
    fn a_cron_message_has_no_id_data_or_nonce() {
        let tags = [("Action", "Tick"), ("Owner", "x")].into_iter().collect();
        assert_eq!(
            cron_json(&process(), &tags, 5_000, 9),
            r#"{"Owner":"boss","Target":"pid","From":"boss","Tags":[{"name":"Action","value":"Tick"}],"Timestamp":5000,"Block-Height":9,"Cron":true,"Read-Only":false}"#
        );
    }

    #[test]
    fn the_prepended_process_has_no_epoch_nonce_or_hash_chain() {
        assert_eq!(
            process_json(&process(), "boot"),
            r#"{"Id":"pid","Signature":"sig","Data":"boot","Owner":"boss","Target":"pid","Anchor":null,"From":"boss","Tags":[{"name":"Name","value":"p"}],"Timestamp":1000,"Block-Height":7,"Cron":false,"Read-Only":false}"#
        );
    }

    #[test]
    fn the_environment_keeps_all_tags() {
        let module = ModuleInfo {
            id: "mod".into(),
            owner: "maker".into(),
            tags: [("Type", "Module")].into_iter().collect(),
            format: ModuleFormat::Wasm64,
            memory_limit: 1,
            gas_limit: 1,
            extensions: vec![],
        };
        assert_eq!(
            environment_json(&process(), &module),
            r#"{"Process":{"Id":"pid","Owner":"boss","Tags":[{"name":"Name","value":"p"},{"name":"From","value":"spoofed"},{"name":"Owner","value":"spoofed"}]},"Module":{"Id":"mod","Owner":"maker","Tags":[{"name":"Type","value":"Module"}]}}"#
        );
    }

    fn dry_run(body: Value) -> Result<String, Error> {
        dry_run_json("pid", body.as_object().unwrap(), 1_750_000_000_000, 1_690_000)
    }

    #[test]
    fn a_dry_run_takes_its_time_and_target_from_the_process_and_is_read_only() {
        let text = dry_run(json!({
            "Id": "1234", "Owner": "1234", "Data": {"b": 1.0, "1": 2}, "Anchor": "0", "Unknown": 1, "From": "me",
            "Read-Only": false, "Tags": [{"name": "Action", "value": "Info", "more": 1}, {"name": "Owner", "value": "x"}],
        }));
        assert_eq!(
            text.unwrap(),
            r#"{"Id":"1234","Data":{"1":2,"b":1},"Owner":"1234","Target":"pid","Anchor":"0","From":"1234","Tags":[{"name":"Action","value":"Info"}],"Timestamp":1750000000000,"Block-Height":1690000,"Cron":false,"Read-Only":true}"#
        );
    }

    #[test]
    fn a_dry_run_may_set_what_a_message_has() {
        let text = dry_run(json!({
            "Owner": "o", "Target": "t", "Tags": [{"name": "From-Process", "value": "p"}], "Timestamp": "12", "Block-Height": null,
            "Epoch": null, "Nonce": 1.5, "Hash-Chain": "h", "Forwarded-By": "f", "Cron": true, "Signature": null,
        }));
        assert_eq!(
            text.unwrap(),
            r#"{"Signature":null,"Owner":"o","Target":"t","From":"p","Forwarded-By":"f","Tags":[],"Epoch":null,"Nonce":1.5,"Timestamp":12,"Block-Height":0,"Hash-Chain":"h","Cron":true,"Read-Only":true}"#
                .replace(r#""Tags":[]"#, r#""Tags":[{"name":"From-Process","value":"p"}]"#)
        );
    }

    #[test]
    fn a_dry_run_of_a_wrong_shape_is_refused_by_name() {
        for (body, name) in [
            (json!({"Tags": []}), "'Owner': Required."),
            (json!({"Owner": "o"}), "'Tags': Required."),
            (json!({"Owner": null, "Tags": []}), "'Owner': Expected string, received null."),
            (json!({"Owner": "", "Tags": []}), "'Owner'"),
            (json!({"Owner": "o", "Tags": [{"name": "a"}]}), "'Tags'"),
            (json!({"Owner": "o", "Tags": [], "Target": null}), "'Target'"),
            (json!({"Owner": "o", "Tags": [], "Timestamp": "soon"}), "'Timestamp'"),
            (json!({"Owner": "o", "Tags": [], "Block-Height": {}}), "'Block-Height'"),
            (json!({"Owner": "o", "Tags": [], "Cron": 1}), "'Cron'"),
            (json!({"Owner": "o", "Tags": [], "Nonce": "1"}), "'Nonce'"),
        ] {
            match dry_run(body.clone()) {
                Err(Error::Invalid(text)) => assert!(text.starts_with(name), "{body}: {text}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }
}
