//! A page of a schedule, as schedulers serve it.

use serde_json::Value;

use super::fast_page;
use crate::{
    http, js, message,
    shape::{At, Mismatch},
    tags::Tags,
};

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    /// What the scheduler says about more to come. Some say yes whenever a page is full, some say no to a limit of 1.
    pub has_next: bool,
    /// How many elements the scheduler put on it.
    pub edges: usize,
    /// Its elements, up to the first that is broken.
    pub nodes: Vec<Node>,
    /// What is wrong with the first broken element.
    pub broken: Option<Mismatch>,
    /// The page as it came, if its signatures are going to be checked.
    pub body: Option<Vec<u8>>,
}

/// One element of a schedule.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub assignment: Assignment,
    /// `None`: an existing item was assigned, which the gateway has.
    pub item: Option<message::Item>,
}

/// What the scheduler signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub id: String,
    pub process: String,
    pub epoch: u64,
    pub nonce: u64,
    /// ms
    pub timestamp: u64,
    pub block_height: u64,
    pub hash_chain: Option<String>,
    /// Tag `Message`: the item assigned. Missing on a process's own assignment.
    pub message: Option<String>,
    /// Values of `Exclude`: parts of an assigned item that the process is not to see.
    pub exclude: Vec<String>,
}

impl Node {
    /// Id of the item: the message's, or the one that is assigned.
    pub fn message_id(&self) -> &str {
        match &self.item {
            Some(item) => &item.id,
            None => self.assignment.message.as_deref().unwrap_or_default(),
        }
    }

    /// Whether this is the process itself.
    pub fn is_process(&self) -> bool {
        self.item.as_ref().is_some_and(|item| item.tags.only("Type") == Some("Process"))
    }
}

/// Reads a page from an answer's body.
pub(crate) fn read_body(body: &[u8]) -> Result<Page, Mismatch> {
    match fast_page::read(body) {
        Some(page) => Ok(page),
        None => read_page(&http::read_json(body)?),
    }
}

/// The same, keeping the body.
pub(crate) fn read_and_keep_body(body: &[u8]) -> Result<Page, Mismatch> {
    read_body(body).map(|page| Page { body: Some(body.to_vec()), ..page })
}

/// Reads a page.
pub(crate) fn read_page(page: &Value) -> Result<Page, Mismatch> {
    let root = At::root(page);
    let info = root.member("page_info");
    let has_next = info.member("has_next_page").flag()?;
    let edges = root.member("edges");
    let mut page = Page { has_next, edges: 0, nodes: Vec::new(), broken: None, body: None };
    for edge in edges.items()? {
        page.edges += 1;
        if page.broken.is_some() {
            continue;
        }
        match read_node(&edge.member("node")) {
            Ok(node) => page.nodes.push(node),
            Err(mismatch) => page.broken = Some(mismatch),
        }
    }
    Ok(page)
}

/// Reads `{message, assignment}`.
pub(crate) fn read_node(node: &At<'_>) -> Result<Node, Mismatch> {
    let assignment = read_assignment(&node.member("assignment"))?;
    let message = node.member("message");
    if !message.is_some() {
        if !assignment.names_an_item() {
            return Err(message.mismatch("a message, or an assignment with a tag Message"));
        }
        return Ok(Node { assignment, item: None });
    }
    let tags = message.member("tags");
    let item = message::Item {
        id: message.member("id").some_text()?.to_owned(),
        signature: message.member("signature").field()?,
        data: message.member("data").value().cloned(),
        owner: message.member("owner").account()?,
        target: assignment.process.clone(),
        anchor: message.member("anchor").field()?,
        tags: if tags.is_some() { tags.tags()? } else { Tags::default() },
        sent: true,
    };
    Ok(Node { assignment, item: Some(item) })
}

/// Reads an assignment; its tags say everything but its id.
pub(crate) fn read_assignment(assignment: &At<'_>) -> Result<Assignment, Mismatch> {
    let id = assignment.member("id").some_text()?.to_owned();
    let at = assignment.member("tags");
    let tags = at.tags()?;
    Assignment::new(id, |name| tags.first(name), tags.all("Exclude"))
}

impl Assignment {
    /// From its id, the first value of each of its tags, and all values of its tags `Exclude`.
    pub fn new<'a>(
        id: String,
        first: impl Fn(&'static str) -> Option<&'a str>,
        exclude: impl Iterator<Item = &'a str>,
    ) -> Result<Self, Mismatch> {
        let found = |name| first(name).map_or("nothing".to_owned(), |value| format!("{value:?}"));
        let odd =
            |name, expected: &str| format!("assignment {id}: tag {name}: expected {expected}, found {}", found(name));
        let whole = |name| first(name).and_then(js::parse_int).ok_or_else(|| odd(name, "a whole number"));
        let text = |name| first(name).map(str::to_owned);
        if id.is_empty() {
            return Err("assignment: expected an id, found an empty one".to_owned());
        }
        Ok(Self {
            process: text("Process").ok_or_else(|| odd("Process", "an id"))?,
            epoch: whole("Epoch")?,
            nonce: whole("Nonce")?,
            timestamp: whole("Timestamp")?,
            block_height: whole("Block-Height")?,
            hash_chain: text("Hash-Chain"),
            message: text("Message"),
            exclude: exclude.map(str::to_owned).collect(),
            id: id.clone(),
        })
    }

    /// Whether its tag `Message` names the item that it assigns.
    pub fn names_an_item(&self) -> bool {
        self.message.as_deref().is_some_and(|message| !message.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn assignment() -> Value {
        json!({"id": "a1", "owner": {"address": "su", "key": ""}, "tags": [
            {"name": "Process", "value": "P"}, {"name": "Epoch", "value": "0"}, {"name": "Nonce", "value": "7"},
            {"name": "Hash-Chain", "value": "hc"}, {"name": "Block-Height", "value": "000001690000"},
            {"name": "Timestamp", "value": "1750000000123"}, {"name": "Message", "value": "m1"},
        ], "signature": "s", "anchor": null, "target": ""})
    }

    fn scheduled() -> Value {
        json!({"assignment": assignment(), "message": {
            "id": "m1", "owner": {"address": "alice", "key": "AQAB"}, "data": "d", "tags": [{"name": "Type", "value": "Message"}],
            "signature": "s", "anchor": null, "target": "ignored",
        }})
    }

    fn page(node: Value) -> Value {
        json!({"page_info": {"has_next_page": false}, "edges": [{"cursor": "1", "node": node}]})
    }

    #[test]
    fn a_scheduled_message_is_read() {
        let node = read_page(&page(scheduled())).unwrap().nodes.remove(0);
        let a = &node.assignment;
        assert_eq!((a.epoch, a.nonce, a.timestamp, a.block_height), (0, 7, 1_750_000_000_123, 1_690_000));
        let item = node.item.as_ref().unwrap();
        assert_eq!((item.target.as_str(), item.owner.as_str()), ("P", "alice"), "the target is the process");
        assert_eq!(item.anchor, Some(None));
        assert_eq!(node.message_id(), "m1");
    }

    #[test]
    fn an_assignment_without_message_names_it_in_a_tag() {
        let mut node = scheduled();
        node["message"] = Value::Null;
        let mut tags = assignment()["tags"].as_array().unwrap().clone();
        tags.push(json!({"name": "Exclude", "value": "Data"}));
        node["assignment"]["tags"] = json!(tags);
        let one = read_page(&page(node.clone())).unwrap().nodes.remove(0);
        assert!(one.item.is_none());
        assert_eq!((one.message_id(), one.assignment.exclude.as_slice()), ("m1", &["Data".to_owned()][..]));

        tags.push(json!({"name": "Exclude", "value": "Anchor"}));
        node["assignment"]["tags"] = json!(tags);
        let two = read_page(&page(node)).unwrap().nodes.remove(0);
        assert_eq!(two.assignment.exclude, ["Data", "Anchor"]);
    }

    #[test]
    fn each_wrong_type_is_named_with_its_place() {
        let with = |pointer: &str, value: Value| {
            let mut page = page(scheduled());
            *page.pointer_mut(pointer).unwrap() = value;
            read_page(&page).map_or_else(|mismatch| mismatch, |page| page.broken.unwrap())
        };
        let node = "/edges/0/node";
        for (pointer, value, says) in [
            ("/page_info", json!(1), "page_info.has_next_page: expected true or false, found nothing"),
            ("/edges", json!({}), "edges: expected an array, found an object of 0"),
            (
                "/edges/0",
                json!(null),
                "edges[0].node.assignment.id: expected a string that is not empty, found nothing",
            ),
            (
                &format!("{node}/message/owner"),
                json!("alice"),
                "edges[0].node.message.owner.address: expected a string",
            ),
            (&format!("{node}/message/anchor"), json!(3), "edges[0].node.message.anchor: expected a string or null"),
            (
                &format!("{node}/message/tags/0/value"),
                json!(3),
                "edges[0].node.message.tags[0].value: expected a string",
            ),
            (
                &format!("{node}/assignment/tags/2/value"),
                json!("seven"),
                "assignment a1: tag Nonce: expected a whole number, found \"seven\"",
            ),
            (&format!("{node}/assignment/tags/5/value"), json!("99999999999999999999"), "assignment a1: tag Timestamp"),
            (&format!("{node}/assignment/tags/0/name"), json!("Prozess"), "assignment a1: tag Process"),
        ] {
            let error = with(pointer, value);
            assert!(error.starts_with(says), "{pointer}: {error}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[a-z0-9]{0,4}".prop_map(Value::from),
        ];
        let key = prop::sample::select(vec![
            "page_info",
            "has_next_page",
            "edges",
            "node",
            "message",
            "assignment",
            "id",
            "tags",
            "name",
            "value",
            "owner",
            "address",
            "key",
        ]);
        leaf.prop_recursive(6, 64, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_makes_reading_a_page_panic(value in any_json(), spot in 0..6usize) {
            let mut whole = page(scheduled());
            let spots = ["", "/page_info", "/edges", "/edges/0/node", "/edges/0/node/assignment/tags", "/edges/0/node/message"];
            *whole.pointer_mut(spots[spot]).unwrap() = value;
            let _ = read_page(&whole);
        }

        #[test]
        fn the_fast_reading_gives_what_the_careful_one_gives_or_nothing(value in any_json(), spot in 0..8usize) {
            let mut whole = page(scheduled());
            let spots = [
                "/edges/0/cursor", "/edges/0/node/message/anchor", "/edges/0/node/message/data",
                "/edges/0/node/message/signature", "/edges/0/node/message/owner/key", "/edges/0/node/message/tags",
                "/edges/0/node/message", "/edges/0/node/assignment/tags/6/value",
            ];
            *whole.pointer_mut(spots[spot]).unwrap() = value;
            let body = whole.to_string();
            if let (Some(fast), Ok(careful)) = (fast_page::read(body.as_bytes()), read_page(&whole)) {
                prop_assert_eq!(format!("{fast:?}"), format!("{careful:?}"));
            }
        }
    }

    #[test]
    fn usual_pages_are_read_fast() {
        let body = page(scheduled()).to_string();
        let fast = fast_page::read(body.as_bytes()).unwrap();
        assert_eq!(format!("{fast:?}"), format!("{:?}", read_page(&page(scheduled())).unwrap()));
        for (without, want) in [("signature", true), ("anchor", true), ("data", true), ("tags", true), ("id", false)] {
            let mut odd = page(scheduled());
            odd["edges"][0]["node"]["message"].as_object_mut().unwrap().remove(without);
            let fast = fast_page::read(odd.to_string().as_bytes());
            assert_eq!(fast.is_some(), want, "{without}");
            if let Some(fast) = fast {
                assert_eq!(format!("{fast:?}"), format!("{:?}", read_page(&odd).unwrap()), "{without}");
            }
        }
    }
}
