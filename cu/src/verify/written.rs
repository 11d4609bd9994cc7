//! Signed things as schedulers and gateways write them in JSON.
//!
//! The JSON is lossy: bytes that are no text became U+FFFD, an anchor that is no text became null, the signature type is
//! left out, and tags lost how they were encoded. So an item is put together again from what there is. If its signature
//! holds, nothing was lost. If it does not, that counts against it only where nothing *could* have been lost; otherwise it
//! is unverifiable, for the reasons named.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::{Outcome, Question, Subject, failed};
use crate::{
    item::{
        Checks, Head, Id, SignatureType, address_of, deep_hash, from_base64url, parse_id, to_base64url,
        transaction::Transaction,
    },
    tags::Tag,
};

/// What stands where bytes were no text.
const REPLACEMENT: char = '\u{fffd}';

/// A signed thing, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// `message`, `assignment`, `process` or `transaction`.
    pub place: &'static str,
    /// On a page: the id of the assignment that it stands with, or is.
    pub assignment: Option<String>,
    /// The thing.
    pub subject: Subject,
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    /// Instead of an id, where a process is described.
    #[serde(borrow)]
    process_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
    #[serde(borrow)]
    owner: Option<Owner<'a>>,
    #[serde(borrow)]
    target: Option<Cow<'a, str>>,
    /// Instead of a target, as gateways call it.
    #[serde(borrow)]
    recipient: Option<Cow<'a, str>>,
    #[serde(borrow)]
    anchor: Option<Cow<'a, str>>,
    #[serde(default)]
    tags: Option<Vec<Tag>>,
}

impl Written<'_> {
    fn own_id(&self) -> Option<&str> {
        self.id.as_deref().or(self.process_id.as_deref())
    }
}

#[derive(Deserialize)]
struct Owner<'a> {
    #[serde(borrow)]
    address: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
}

/// The signed things of a document: a page of a schedule, one element of one, a process, a transaction, an object or an
/// array of such.
///
/// # Errors
/// What was expected and what was found.
pub fn read_json(json: &[u8]) -> Result<Vec<Placed>, String> {
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    let document: Value = serde_json::from_slice(json).map_err(|error| format!("not JSON: {error}"))?;
    let mut found = Vec::new();
    collect(&document, &mut found);
    if let (true, Some(members)) = (found.is_empty(), document.as_object()) {
        members.values().for_each(|member| collect(member, &mut found));
    }
    let empty_page = document.get("edges").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if found.is_empty() && !empty_page {
        return Err("expected a page of a schedule, processes, or transactions; found other JSON".to_owned());
    }
    Ok(found)
}

fn collect(value: &Value, found: &mut Vec<Placed>) {
    if let Some(items) = value.as_array() {
        return items.iter().for_each(|item| collect(item, found));
    }
    let has = |name: &str| value.get(name).is_some();
    if has("edges") {
        if let Some(process) = value.get("process") {
            collect(process, found);
        }
        let edges = value["edges"].as_array().map(Vec::as_slice).unwrap_or_default();
        edges.iter().for_each(|edge| collect(&edge["node"], found));
    } else if has("assignment") {
        found.extend(element(value));
    } else if has("format") && has("quantity") && has("signature") {
        found.push(Placed { place: "transaction", assignment: None, subject: transaction(value) });
    } else if has("owner") && has("tags") {
        let place = if has("process_id") { "process" } else { "transaction" };
        found.push(Placed { place, assignment: None, subject: subject(value, place) });
    }
}

/// `{message, assignment}`.
fn element(node: &Value) -> impl Iterator<Item = Placed> {
    let (message, assignment) = (&node["message"], &node["assignment"]);
    let id = assignment["id"].as_str().map(str::to_owned);
    let message = (!message.is_null()).then(|| {
        let mut subject = subject(message, "message");
        let named = tag(assignment, "Message").or_else(|| tag(assignment, "Process"));
        // Both signatures may hold, and yet the scheduler never assigned this message.
        if let Some(named) = named.filter(|named| *named != subject.id) {
            let why = format!("its assignment names {named:.64}");
            subject.question = Question::Settled(Outcome::Invalid(why));
        }
        Placed { place: "message", assignment: id.clone(), subject }
    });
    let assignment = (!assignment.is_null()).then(|| {
        let subject = subject(assignment, "assignment");
        Placed { place: "assignment", assignment: id, subject }
    });
    message.into_iter().chain(assignment)
}

/// The first value of a tag.
fn tag<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    let tags = of["tags"].as_array()?;
    tags.iter().find(|tag| tag["name"] == *name)?["value"].as_str()
}

fn transaction(value: &Value) -> Subject {
    let id = value["id"].as_str().unwrap_or_default().to_owned();
    let of_type = Some(SignatureType::Arweave.number());
    let invalid = |why: String| Subject::settled(id.clone(), of_type, Outcome::Invalid(why));
    match Transaction::parse(value.to_string().as_bytes()) {
        Err(error) => invalid(error.to_string()),
        Ok(transaction) => match transaction.checks() {
            Ok(checks) => Subject::open(id, SignatureType::Arweave.number(), checks),
            Err(error) => invalid(error.to_string()),
        },
    }
}

/// The item that this was written from, as a subject.
fn subject(value: &Value, place: &'static str) -> Subject {
    let written = match Written::deserialize(value) {
        Ok(written) => written,
        Err(error) => {
            let id = value["id"].as_str().unwrap_or_default().to_owned();
            return Subject::settled(id, None, Outcome::Unverifiable(format!("it cannot be read: {error}")));
        }
    };
    let id = written.own_id().unwrap_or_default().to_owned();
    match rebuild(&written, &value["data"], place) {
        Ok(rebuilt) => rebuilt.subject(id),
        Err((signature_type, outcome)) => Subject::settled(id, signature_type, outcome),
    }
}

/// Everything of an item that could be put together again.
struct Rebuilt {
    heads: Vec<Head>,
    data: [u8; deep_hash::DEEP_HASH_BYTES],
    /// What may have been lost.
    doubts: Vec<&'static str>,
}

impl Rebuilt {
    fn subject(self, id: String) -> Subject {
        let signature_type = self.heads.first().map(|head| head.signature_type().number());
        let mut flaw = None;
        let checks = self.heads.iter().filter_map(|head| match Checks::of(head, &self.data) {
            Ok(checks) => Some((head.signature_type().number(), checks)),
            Err(found) => {
                flaw = Some(found);
                None
            }
        });
        let any_of: Vec<_> = checks.collect();
        let question = match flaw {
            Some(flaw) if any_of.is_empty() => Question::Settled(Outcome::Invalid(flaw.to_string())),
            _ if self.doubts.is_empty() => Question::Open { any_of, otherwise: failed() },
            _ => Question::Open { any_of, otherwise: Outcome::Unverifiable(self.doubts.join(", ")) },
        };
        Subject { id, signature_type, question }
    }
}

type Settled = (Option<u16>, Outcome);

fn rebuild(written: &Written<'_>, data: &Value, place: &'static str) -> Result<Rebuilt, Settled> {
    let unverifiable = |why: &str| (None, Outcome::Unverifiable(why.to_owned()));
    let invalid = |why: String| (None, Outcome::Invalid(why));
    let present = |text: &Option<Cow<'_, str>>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);

    let signature = present(&written.signature).ok_or_else(|| unverifiable("its signature is not given"))?;
    let owner = written.owner.as_ref();
    let key =
        owner.and_then(|owner| present(&owner.key)).ok_or_else(|| unverifiable("its owner's key is not given"))?;
    let bytes = |what: &str, text: &str| {
        from_base64url(text.trim_end_matches('=')).ok_or_else(|| invalid(format!("{what} is not base64url")))
    };
    let (signature, key) = (bytes("its signature", &signature)?, bytes("its owner's key", &key)?);
    let types = types_of(key.len());
    let Some(first) = types.first() else {
        return Err(invalid(format!("its owner's key has {} bytes, which no signature type has", key.len())));
    };
    let of_type = Some(first.number());
    let invalid = |why: String| (of_type, Outcome::Invalid(why));
    if signature.len() != first.signature_bytes() {
        let (found, expected) = (signature.len(), first.signature_bytes());
        return Err(invalid(format!("its signature has {found} bytes, where its owner's key goes with {expected}")));
    }
    let hash = to_base64url(&address_of(&signature));
    if written.own_id().is_some_and(|id| id != hash) {
        return Err(invalid("its id is not the SHA-256 of its signature".to_owned()));
    }
    // The address is what guests see; where it is read from the key (65 bytes), what is written does not matter.
    let address = owner.and_then(|owner| present(&owner.address));
    let fits =
        |address: &str| address == to_base64url(&address_of(&key)) || (key.len() == 42 && address.as_bytes() == key);
    if key.len() != SignatureType::Ethereum.owner_bytes() && address.is_some_and(|address| !fits(&address)) {
        return Err(invalid("its owner's address is not that of the key".to_owned()));
    }

    let mut doubts = Vec::new();
    let target = match present(&written.target).or_else(|| present(&written.recipient)) {
        None => None,
        Some(text) => Some(parse_id(&text).ok_or_else(|| invalid("its target is no id".to_owned()))?),
    };
    let anchor = match written.anchor.as_deref() {
        None => {
            doubts.push(match place {
                "assignment" => "its anchor is not given (the page was asked for without show-anchor=1)",
                _ => "its anchor is null, as one is that is no text",
            });
            None
        }
        Some("") => None,
        Some(text) => match read_anchor(text) {
            Some(anchor) => Some(anchor),
            None => return Err((of_type, Outcome::Unverifiable("its anchor has not 32 bytes".to_owned()))),
        },
    };
    let data = match data {
        Value::String(text) => {
            if text.contains(REPLACEMENT) {
                doubts.push("its data has U+FFFD, as bytes do that are no text");
            }
            text.as_str()
        }
        Value::Null if place == "assignment" => "",
        Value::Null => {
            doubts.push("its data is not given");
            ""
        }
        _ => return Err((of_type, Outcome::Unverifiable("its data is not given as it was signed".to_owned()))),
    };
    let tags = written.tags.clone().unwrap_or_default();
    if tags.iter().any(|tag| tag.name.contains(REPLACEMENT) || tag.value.contains(REPLACEMENT)) {
        doubts.push("a tag has U+FFFD, as bytes do that are no text");
    }
    let head =
        Head::assemble(*first, signature, key, target, anchor, tags).map_err(|error| invalid(error.to_string()))?;
    let heads = types.iter().filter_map(|signature_type| head.with_type(*signature_type)).collect();
    Ok(Rebuilt { heads, data: deep_hash::blob(data.as_bytes()), doubts })
}

/// The signature types whose owners have so many bytes.
fn types_of(owner_bytes: usize) -> Vec<SignatureType> {
    (1..=7).filter_map(SignatureType::from_number).filter(|kind| kind.owner_bytes() == owner_bytes).collect()
}

/// Schedulers write an anchor as the text it is, or in base64url: one has 32 bytes, the other 43.
fn read_anchor(text: &str) -> Option<Id> {
    text.as_bytes().try_into().ok().or_else(|| parse_id(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Cpu, Verdict, settle};
    use super::*;
    use crate::item::DataItem;

    fn outcomes(json: &Value) -> Vec<(&'static str, Verdict)> {
        let placed = read_json(json.to_string().as_bytes()).unwrap();
        let places: Vec<_> = placed.iter().map(|placed| placed.place).collect();
        let subjects = placed.into_iter().map(|placed| placed.subject).collect();
        places.into_iter().zip(settle(&Cpu::all(), subjects)).collect()
    }

    fn page() -> Value {
        serde_json::from_str(include_str!("../../../tests/items/real-page.json")).unwrap()
    }

    /// The outcome for the second message of the real page, after a change.
    fn message_after(change: impl Fn(&mut Value)) -> Outcome {
        let mut page = page();
        let message = &mut page["edges"][1]["node"]["message"];
        // It has none, and its null leaves nothing in doubt then.
        message["anchor"] = json!("");
        change(message);
        let found = outcomes(&page).into_iter().filter(|(place, _)| *place == "message");
        found.map(|(_, verdict)| verdict.outcome).nth(1).unwrap()
    }

    #[test]
    fn messages_and_assignments_of_a_real_page_are_valid_and_of_their_type() {
        let found = outcomes(&page());
        let places: Vec<_> = found.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, ["message", "assignment", "message", "assignment"]);
        for (place, verdict) in found {
            assert_eq!((verdict.outcome, verdict.signature_type), (Outcome::Valid, Some(1)), "{place} {}", verdict.id);
        }
    }

    #[test]
    fn a_longer_real_page_has_nothing_wrong() {
        let page = serde_json::from_str(include_str!("../../../tests/items/real-page-15.json")).unwrap();
        let found = outcomes(&page);
        let valid = |place: &str| {
            found.iter().filter(|(found, verdict)| *found == place && verdict.outcome == Outcome::Valid).count()
        };
        assert_eq!(found.iter().filter(|(place, _)| *place == "assignment").count(), 15);
        assert_eq!(valid("assignment"), 0, "the page was asked for without show-anchor=1");
        for (place, verdict) in &found {
            assert!(!matches!(verdict.outcome, Outcome::Invalid(_)), "{place} {}: {:?}", verdict.id, verdict.outcome);
        }
        assert_eq!(valid("message"), 15);
    }

    #[test]
    fn a_lie_is_invalid_and_a_loss_unverifiable() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for (what, outcome) in [
            ("data", message_after(|m| m["data"] = json!("another"))),
            ("tags", message_after(|m| m["tags"][0]["value"] = json!("another"))),
            ("anchor", message_after(|m| m["anchor"] = json!("another anchor of thirty-two byte"[..32]))),
            ("target", message_after(|m| m["target"] = m["id"].clone())),
            ("id", message_after(|m| m["id"] = m["target"].clone())),
            ("address", message_after(|m| m["owner"]["address"] = m["target"].clone())),
            ("key", message_after(|m| m["owner"]["key"] = json!("AQAB"))),
            ("signature", message_after(|m| m["signature"] = json!("AQAB"))),
        ] {
            assert!(matches!(outcome, Outcome::Invalid(_)), "{what}: {outcome:?}");
        }
        for (what, outcome) in [
            ("signature", message_after(|m| m["signature"] = json!(""))),
            ("key", message_after(|m| m["owner"]["key"] = Value::Null)),
            ("anchor", message_after(|m| (m["anchor"], m["data"]) = (Value::Null, json!("another")))),
            ("data", message_after(|m| m["data"] = json!(text(&m["data"]) + "\u{fffd}"))),
            ("data null", message_after(|m| m["data"] = Value::Null)),
            ("data object", message_after(|m| m["data"] = json!({}))),
            ("tags", message_after(|m| m["tags"][0]["value"] = json!("\u{fffd}"))),
        ] {
            assert!(matches!(outcome, Outcome::Unverifiable(_)), "{what}: {outcome:?}");
        }
    }

    #[test]
    fn a_message_that_its_assignment_does_not_name_is_invalid() {
        let mut page = page();
        let (first, second) = (page["edges"][0]["node"].clone(), page["edges"][1]["node"].clone());
        page["edges"][1]["node"] = json!({"message": first["message"], "assignment": second["assignment"]});
        let found = outcomes(&page);
        assert!(matches!(&found[2].1.outcome, Outcome::Invalid(why) if why.starts_with("its assignment names")));
        assert_eq!(found[3].1.outcome, Outcome::Valid);
    }

    #[test]
    fn a_key_of_32_bytes_finds_its_type() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/items/signers.json")).unwrap();
        for item in file["items"].as_array().unwrap() {
            let parsed = DataItem::parse(&from_base64url(item["raw"].as_str().unwrap()).unwrap()).unwrap();
            if parsed.verify().is_err() {
                continue;
            }
            let written = json!([{
                "id": parsed.id_text(),
                "signature": to_base64url(parsed.signature()),
                "owner": {"key": to_base64url(parsed.owner())},
                "target": to_base64url(parsed.target().unwrap()),
                "anchor": std::str::from_utf8(parsed.anchor().unwrap()).unwrap(),
                "tags": parsed.tags(),
                "data": std::str::from_utf8(parsed.data()).unwrap(),
            }]);
            let (_, verdict) = outcomes(&written).remove(0);
            let expected = (Outcome::Valid, Some(parsed.signature_type().number()));
            assert_eq!((verdict.outcome, verdict.signature_type), expected, "{}", item["name"]);
        }
    }

    #[test]
    fn transactions_are_recognised_and_other_json_is_refused() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/items/transactions.json")).unwrap();
        let all: Vec<_> =
            ["transactions", "legacy"].iter().flat_map(|kind| file[kind].as_object().unwrap().values()).collect();
        let found = outcomes(&json!(all));
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|(_, verdict)| verdict.outcome == Outcome::Valid));
        for other in ["{}", "[]", "1", "\"x\"", "{\"a\": {\"b\": 1}}", "", "{"] {
            assert!(read_json(other.as_bytes()).is_err(), "{other}");
        }
        assert_eq!(read_json(br#"{"page_info": {"has_next_page": false}, "edges": []}"#), Ok(Vec::new()));
    }
}
