//! Reads the pages that schedulers do serve straight into their types, several times faster than by way of a JSON tree.
//! Whatever is odd in the least is left to the careful reading, which says what is wrong and where.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::page::{Assignment, Node, Page};
use crate::{
    message::Item,
    owner,
    tags::{Tag, Tags},
};

#[derive(Deserialize)]
struct FastPage<'a> {
    page_info: FastInfo,
    #[serde(borrow)]
    edges: Vec<FastEdge<'a>>,
}

#[derive(Deserialize)]
struct FastInfo {
    has_next_page: bool,
}

#[derive(Deserialize)]
struct FastEdge<'a> {
    #[serde(borrow)]
    node: FastNode<'a>,
}

#[derive(Deserialize)]
struct FastNode<'a> {
    #[serde(borrow)]
    message: Option<FastMessage<'a>>,
    #[serde(borrow)]
    assignment: FastAssignment<'a>,
}

#[derive(Deserialize)]
struct FastMessage<'a> {
    id: String,
    #[serde(default, deserialize_with = "present")]
    signature: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    data: Option<Value>,
    #[serde(borrow)]
    owner: FastOwner<'a>,
    #[serde(default, deserialize_with = "present")]
    anchor: Option<Option<String>>,
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
struct FastOwner<'a> {
    #[serde(borrow)]
    address: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
}

#[derive(Deserialize)]
struct FastAssignment<'a> {
    id: String,
    #[serde(borrow)]
    tags: Vec<FastTag<'a>>,
}

#[derive(Deserialize)]
struct FastTag<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

/// Tells null from what is left out.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The page, if nothing about it is odd.
pub(crate) fn read(body: &[u8]) -> Option<Page> {
    // All of it: what is skipped over would not be checked.
    let text = std::str::from_utf8(body).ok()?;
    let page: FastPage<'_> = serde_json::from_str(text).ok()?;
    let edges = page.edges.len();
    let nodes = page.edges.into_iter().map(|edge| node(edge.node)).collect::<Option<Vec<_>>>()?;
    Some(Page { has_next: page.page_info.has_next_page, edges, nodes, broken: None, body: None })
}

fn node(node: FastNode<'_>) -> Option<Node> {
    let FastAssignment { id, tags } = node.assignment;
    let all = |name: &'static str| tags.iter().filter(move |tag| tag.name == name).map(|tag| &*tag.value);
    let assignment = Assignment::new(id, |name| all(name).next(), all("Exclude")).ok()?;
    let Some(message) = node.message else {
        return assignment.names_an_item().then_some(Node { assignment, item: None });
    };
    let owner = owner::account(&message.owner.address, &message.owner.key);
    if message.id.is_empty() || owner.is_empty() {
        return None;
    }
    let item = Item {
        id: message.id,
        signature: message.signature,
        data: message.data,
        owner,
        target: assignment.process.clone(),
        anchor: message.anchor,
        tags: Tags(message.tags.unwrap_or_default()),
        sent: true,
    };
    Some(Node { assignment, item: Some(item) })
}
