//! The scheduler's JSON: member order, nulls and lossy texts as the real one has them.
//!
//! What it loses is part of the contract: data that is not UTF-8 arrives with U+FFFD (a process's data as null), an anchor that
//! is not UTF-8 as null, unless it is an assignment's and the page was asked for with `show-anchor`.

use serde::Serialize;

use lockstep_cu::item::{DataItem, Tag, address_of, to_base64url};

use super::schedule::{Birth, Entry};

/// An owner.
#[derive(Serialize)]
pub struct Owner {
    address: String,
    key: String,
}

/// A message, or a process shaped as one.
#[derive(Serialize)]
pub struct Message<'a> {
    id: String,
    owner: Owner,
    data: Option<String>,
    tags: &'a [Tag],
    signature: String,
    anchor: Option<String>,
    target: Option<String>,
}

/// An assignment.
#[derive(Serialize)]
pub struct Assignment<'a> {
    id: String,
    owner: Owner,
    tags: &'a [Tag],
    signature: String,
    anchor: Option<String>,
    target: String,
}

/// A message and its assignment.
#[derive(Serialize)]
pub struct Node<'a> {
    message: Option<Message<'a>>,
    assignment: Assignment<'a>,
}

/// A node in a page.
#[derive(Serialize)]
pub struct Edge<'a> {
    /// The node.
    pub node: Node<'a>,
    /// Where the next page starts: a timestamp or a nonce.
    pub cursor: String,
}

/// Whether the page is the last.
#[derive(Serialize)]
pub struct PageInfo {
    /// Whether it is not.
    pub has_next_page: bool,
}

/// A page.
#[derive(Serialize)]
pub struct Page<'a> {
    /// See [`PageInfo`].
    pub page_info: PageInfo,
    /// In order.
    pub edges: Vec<Edge<'a>>,
}

/// `/processes/{id}`.
#[derive(Serialize)]
pub struct Process<'a> {
    process_id: String,
    block: &'a str,
    owner: Owner,
    tags: &'a [Tag],
    timestamp: u64,
    data: Option<String>,
    anchor: Option<String>,
    signature: String,
    target: Option<String>,
}

fn owner(item: &DataItem) -> Owner {
    Owner { address: to_base64url(&address_of(item.owner())), key: to_base64url(item.owner()) }
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn anchor(item: &DataItem) -> Option<String> {
    text(item.anchor()?)
}

fn assignment(item: &DataItem, show_anchor: bool) -> Assignment<'_> {
    let shown = || item.anchor().filter(|_| show_anchor).map(|bytes| to_base64url(bytes));
    Assignment {
        id: item.id_text(),
        owner: owner(item),
        tags: item.tags(),
        signature: to_base64url(item.signature()),
        anchor: anchor(item).or_else(shown),
        target: item.target().map(|id| to_base64url(id)).unwrap_or_default(),
    }
}

impl<'a> Node<'a> {
    /// A scheduled message or a bare assignment.
    pub fn of_entry(entry: &'a Entry, show_anchor: bool) -> Self {
        let message = entry.message.as_deref().map(|item| Message {
            id: item.id_text(),
            owner: owner(item),
            data: Some(String::from_utf8_lossy(item.data()).into_owned()),
            tags: item.tags(),
            signature: to_base64url(item.signature()),
            anchor: anchor(item),
            target: Some(item.target().map(|id| to_base64url(id)).unwrap_or_default()),
        });
        Self { message, assignment: assignment(&entry.assignment, show_anchor) }
    }

    /// The process, as the first of its schedule.
    pub fn of_birth(birth: &'a Birth, show_anchor: bool) -> Self {
        let item = &*birth.process;
        let message = Message {
            id: item.id_text(),
            owner: owner(item),
            data: text(item.data()),
            tags: item.tags(),
            signature: to_base64url(item.signature()),
            anchor: anchor(item),
            target: item.target().map(|id| to_base64url(id)),
        };
        Self { message: Some(message), assignment: assignment(&birth.assignment, show_anchor) }
    }
}

impl<'a> Process<'a> {
    /// The process, without its assignment.
    pub fn of_birth(birth: &'a Birth) -> Self {
        let item = &*birth.process;
        Self {
            process_id: item.id_text(),
            block: &birth.block,
            owner: owner(item),
            tags: item.tags(),
            timestamp: birth.timestamp,
            data: text(item.data()),
            anchor: anchor(item),
            signature: to_base64url(item.signature()),
            target: item.target().map(|id| to_base64url(id)),
        }
    }
}
