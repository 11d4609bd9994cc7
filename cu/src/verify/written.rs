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
    gateway,
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
    let found = signed_in(&document);
    let empty_page = document.get("edges").and_then(Value::as_array).is_some_and(Vec::is_empty);
    if found.is_empty() && !empty_page {
        return Err("expected a page of a schedule, processes, or transactions; found other JSON".to_owned());
    }
    Ok(found.into_iter().map(Found::placed).collect())
}

/// What a document says of the signed things with these places in [`read_json`]'s answer, ascending.
pub(super) fn said(json: &[u8], places: &[usize]) -> Vec<Said> {
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    let document: Value = serde_json::from_slice(json).unwrap_or_default();
    let wanted = signed_in(&document).into_iter().enumerate().filter(|(place, _)| places.binary_search(place).is_ok());
    wanted.map(|(_, found)| Said { place: found.place, value: found.value.clone() }).collect()
}

/// A signed thing in a document.
struct Found<'a> {
    place: &'static str,
    assignment: Option<&'a str>,
    /// The id that the assignment names, if the thing stands with one.
    named: Option<&'a str>,
    /// Whether it is written as nodes write transactions.
    is_layer1: bool,
    value: &'a Value,
}

impl Found<'_> {
    fn placed(self) -> Placed {
        let Self { place, assignment, named, is_layer1, value } = self;
        let mut subject = if is_layer1 { transaction(value) } else { subject(value, place) };
        // Both signatures may hold, and yet the scheduler never assigned this message.
        if let Some(named) = named.filter(|named| *named != subject.id) {
            let why = format!("its assignment names {named:.64}");
            subject.question = Question::Settled(Outcome::Invalid(why));
        }
        Placed { place, assignment: assignment.map(str::to_owned), subject }
    }
}

fn signed_in(document: &Value) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    collect(document, &mut found);
    if let (true, Some(members)) = (found.is_empty(), document.as_object()) {
        members.values().for_each(|member| collect(member, &mut found));
    }
    found
}

fn collect<'a>(value: &'a Value, found: &mut Vec<Found<'a>>) {
    let alone = |place, is_layer1| Found { place, assignment: None, named: None, is_layer1, value };
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
        found.push(alone("transaction", true));
    } else if has("owner") && has("tags") {
        found.push(alone(if has("process_id") { "process" } else { "transaction" }, false));
    }
}

/// `{message, assignment}`.
fn element(node: &Value) -> impl Iterator<Item = Found<'_>> {
    let (message, assignment) = (&node["message"], &node["assignment"]);
    let id = assignment["id"].as_str();
    let named = tag(assignment, "Message").or_else(|| tag(assignment, "Process"));
    let found = move |place, named, value| Found { place, assignment: id, named, is_layer1: false, value };
    let both = [found("message", named, message), found("assignment", None, assignment)];
    both.into_iter().filter(|found| !found.value.is_null())
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
    match rebuild(&written, Payload::Written(&value["data"]), place) {
        Ok(rebuilt) => rebuilt.subject(id),
        Err((signature_type, outcome)) => Subject::settled(id, signature_type, outcome),
    }
}

/// An item's data, as far as it is there.
enum Payload<'a> {
    Written(&'a Value),
    Bytes(&'a [u8]),
}

/// The item of which a gateway gives this description and this data.
pub(super) fn subject_of_gateway(found: &gateway::Transaction, data: &[u8]) -> Subject {
    // Gateways that index only a part of an item say `<not-found>` for the rest.
    let known = |text: &str| !text.starts_with('<');
    let field = |field: &'_ Option<Option<String>>| field.clone().flatten().filter(|text| known(text)).map(Cow::Owned);
    let written = Written {
        id: Some(Cow::Borrowed(&found.id)),
        process_id: None,
        signature: field(&found.signature),
        owner: Some(Owner {
            address: Some(Cow::Borrowed(&found.address)),
            key: found.key.as_deref().filter(|key| known(key)).map(Cow::Borrowed),
        }),
        target: Some(Cow::Borrowed(&found.recipient)),
        recipient: None,
        anchor: field(&found.anchor),
        tags: Some(found.tags.0.clone()),
    };
    match rebuild(&written, Payload::Bytes(data), "gateway") {
        Ok(rebuilt) => rebuilt.subject(found.id.clone()),
        Err((signature_type, outcome)) => Subject::settled(found.id.clone(), signature_type, outcome),
    }
}

/// The base-layer transaction `value` that a gateway describes as `found`, with its data. Guests see the description, so
/// both must say the same.
pub(super) fn subject_of_layer1(found: &gateway::Transaction, data: &[u8], value: &Value) -> Subject {
    let of_type = SignatureType::Arweave.number();
    let invalid = |why: String| Subject::settled(found.id.clone(), Some(of_type), Outcome::Invalid(why));
    let mut transaction = match Transaction::parse(value.to_string().as_bytes()) {
        Ok(transaction) => transaction,
        Err(error) => return invalid(error.to_string()),
    };
    transaction.data = data.to_vec();
    let anchor = found.anchor.as_ref().and_then(Option::as_deref).filter(|anchor| !anchor.is_empty());
    let same_tags = transaction.tags.len() == found.tags.0.len()
        && transaction
            .tags
            .iter()
            .zip(&found.tags.0)
            .all(|([name, value], tag)| (&name[..], &value[..]) == (tag.name.as_bytes(), tag.value.as_bytes()));
    for (what, same) in [
        ("id", to_base64url(&transaction.id) == found.id),
        ("owner", to_base64url(&address_of(&transaction.owner)) == found.address),
        ("recipient", to_base64url(&transaction.target) == found.recipient),
        ("anchor", anchor.is_none_or(|anchor| to_base64url(&transaction.last_tx) == anchor)),
        ("tags", same_tags),
    ] {
        if !same {
            return invalid(format!("the gateway's index has another {what} than the transaction"));
        }
    }
    match transaction.checks() {
        Ok(checks) => Subject::open(found.id.clone(), of_type, checks),
        Err(error) => invalid(error.to_string()),
    }
}

/// What a scheduler says of an item.
#[derive(Clone, Debug)]
pub(super) struct Said {
    place: &'static str,
    value: Value,
}

impl Said {
    /// Everything of it as bytes, the same for the same words.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{} {}", self.place, self.value).into_bytes()
    }

    /// Whether it says what was signed: `found` and `data` are an item that verified. The losses of a scheduler's JSON are
    /// no differences (bytes that are no text are null, or have U+FFFD), and what is left out says nothing. Null for what
    /// is text does, for messages: guests would see null. Of a process that it did not assign, a scheduler gives no data.
    pub fn holds(&self, found: &gateway::Transaction, data: &[u8]) -> Outcome {
        let differs = |what: &str| Outcome::Invalid(format!("its {what} is not what the owner signed"));
        let Ok(written) = Written::deserialize(&self.value) else {
            return Outcome::Unverifiable("what the scheduler says of it cannot be read".to_owned());
        };
        let given = |text: &Option<Cow<'_, str>>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
        let same = |text: &str, other: Option<&str>| {
            text.trim_end_matches('=') == other.unwrap_or_default().trim_end_matches('=')
        };
        if written.own_id() != Some(&found.id) {
            return differs("id");
        }
        if given(&written.signature)
            .is_some_and(|text| !same(&text, found.signature.as_ref().and_then(Option::as_deref)))
        {
            return differs("signature");
        }
        let key = found.key.as_deref().and_then(|key| from_base64url(key.trim_end_matches('='))).unwrap_or_default();
        let (said_key, said_address) =
            written.owner.as_ref().map_or((None, None), |owner| (given(&owner.key), given(&owner.address)));
        if said_key.as_ref().is_some_and(|said| !same(said, found.key.as_deref())) {
            return differs("owner's key");
        }
        // With such a key at hand, the address is made from it whatever is written.
        let is_made = said_key.is_some() && key.len() == SignatureType::Ethereum.owner_bytes();
        let fits = |address: &str| {
            address == to_base64url(&address_of(&key)) || address == found.owner || address.as_bytes() == key
        };
        if !is_made && said_address.is_some_and(|address| !fits(&address)) {
            return differs("owner's address");
        }
        if written.target.as_ref().or(written.recipient.as_ref()).is_some_and(|said| *said != found.recipient) {
            return differs("target");
        }
        if written.tags.unwrap_or_default() != found.tags.0 {
            return differs("tags");
        }
        let is_message = self.place == "message";
        let signed = found.anchor.as_ref().and_then(Option::as_deref).and_then(read_anchor);
        let hidden = |bytes: &[u8]| is_message && !bytes.is_empty() && std::str::from_utf8(bytes).is_ok();
        match self.value.get("anchor") {
            None => {}
            Some(Value::String(text)) if read_anchor(text) == signed && (signed.is_some() || text.is_empty()) => {}
            Some(Value::Null) if !hidden(signed.as_ref().map_or(&[], |anchor| &anchor[..])) => {}
            Some(_) => return differs("anchor"),
        }
        match self.value.get("data") {
            None => Outcome::Valid,
            Some(Value::String(text)) if *text == String::from_utf8_lossy(data) => Outcome::Valid,
            Some(Value::Null) if !hidden(data) => Outcome::Valid,
            Some(Value::String(_) | Value::Null) => differs("data"),
            Some(_) => Outcome::Unverifiable("its data is not given as it was signed".to_owned()),
        }
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
        let checks = self.heads.iter().filter_map(|head| match Checks::of(head, &head.signed_bytes(&self.data)) {
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

fn rebuild(written: &Written<'_>, data: Payload<'_>, place: &'static str) -> Result<Rebuilt, Settled> {
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
                "gateway" => "its anchor is not given",
                _ => "its anchor is null, as one is that is no text",
            });
            None
        }
        Some("") => None,
        Some(text) => match read_anchor(text) {
            Some(anchor) => Some(anchor),
            // A transaction of the base layer may have it. An item never does.
            None if place == "gateway" => return Err(invalid("its anchor has not 32 bytes".to_owned())),
            None => return Err((of_type, Outcome::Unverifiable("its anchor has not 32 bytes".to_owned()))),
        },
    };
    let data = match data {
        Payload::Bytes(bytes) => bytes,
        Payload::Written(Value::String(text)) => {
            if text.contains(REPLACEMENT) {
                doubts.push("its data has U+FFFD, as bytes do that are no text");
            }
            text.as_bytes()
        }
        Payload::Written(Value::Null) if place == "assignment" => &[],
        Payload::Written(Value::Null) => {
            doubts.push("its data is not given");
            &[]
        }
        Payload::Written(_) => {
            return Err((of_type, Outcome::Unverifiable("its data is not given as it was signed".to_owned())));
        }
    };
    let tags = written.tags.clone().unwrap_or_default();
    if tags.iter().any(|tag| tag.name.contains(REPLACEMENT) || tag.value.contains(REPLACEMENT)) {
        doubts.push("a tag has U+FFFD, as bytes do that are no text");
    }
    let head =
        Head::assemble(*first, signature, key, target, anchor, tags).map_err(|error| invalid(error.to_string()))?;
    let heads = types.iter().filter_map(|signature_type| head.with_type(*signature_type)).collect();
    Ok(Rebuilt { heads, data: deep_hash::blob(data), doubts })
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
