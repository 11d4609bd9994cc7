//! Everything that is on "Arweave": items and base-layer transactions by id, in the order they came. In memory.

use std::sync::{Arc, RwLock};

use dashmap::{DashMap, Entry};

use lockstep_cu::item::{DataItem, tags, to_base64url};
use lockstep_cu::item::{Id, Tag, address_of, bundle};

use super::{clock::Clock, layer1::Layer1};

/// Bundles inside bundles are opened to this depth.
const BUNDLE_DEPTH_MAX: usize = 4;

/// What was stored.
#[derive(Debug)]
pub enum Content {
    /// An ANS-104 data item.
    Item(Arc<DataItem>),
    /// A transaction of the base layer.
    Layer1(Box<Layer1>),
}

/// Something with an id.
#[derive(Debug)]
pub struct Transaction {
    /// Its id.
    pub id: Id,
    /// Its place in the ledger, from 0.
    pub sequence: usize,
    /// The block it counts as part of.
    pub height: u64,
    /// The bundle it came in.
    pub bundled_in: Option<Id>,
    /// The rest.
    pub content: Content,
}

impl Transaction {
    /// Its tags, in order.
    pub fn tags(&self) -> &[Tag] {
        match &self.content {
            Content::Item(item) => item.tags(),
            Content::Layer1(transaction) => &transaction.tags,
        }
    }

    /// The first value of a tag.
    pub fn tag(&self, name: &str) -> Option<&str> {
        tags::first(self.tags(), name)
    }

    /// Its payload.
    pub fn data(&self) -> &[u8] {
        match &self.content {
            Content::Item(item) => item.data(),
            Content::Layer1(transaction) => &transaction.data,
        }
    }

    /// The owner's public key.
    pub fn owner(&self) -> &[u8] {
        match &self.content {
            Content::Item(item) => item.owner(),
            Content::Layer1(transaction) => &transaction.owner,
        }
    }

    /// The owner's address, as it is written.
    pub fn address(&self) -> String {
        to_base64url(&address_of(self.owner()))
    }

    /// The target's bytes; empty without one.
    pub fn recipient(&self) -> &[u8] {
        match &self.content {
            Content::Item(item) => item.target().map_or(&[], |id| id),
            Content::Layer1(transaction) => &transaction.target,
        }
    }

    /// The anchor's bytes; empty without one.
    pub fn anchor(&self) -> &[u8] {
        match &self.content {
            Content::Item(item) => item.anchor().map_or(&[], |anchor| anchor),
            Content::Layer1(transaction) => &transaction.last_tx,
        }
    }

    /// The signature's bytes.
    pub fn signature(&self) -> &[u8] {
        match &self.content {
            Content::Item(item) => item.signature(),
            Content::Layer1(transaction) => &transaction.signature,
        }
    }
}

/// The store.
#[derive(Debug)]
pub struct Ledger {
    clock: Clock,
    by_id: DashMap<Id, Arc<Transaction>>,
    in_order: RwLock<Vec<Arc<Transaction>>>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(clock: Clock) -> Self {
        Self { clock, by_id: DashMap::new(), in_order: RwLock::default() }
    }

    /// The clock its blocks follow.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Stores an item (signatures are the callers' business) and, if it carries a bundle, what is in it.
    /// What is there already stays as it is.
    pub fn insert_item(&self, item: Arc<DataItem>) {
        self.insert_nested(item, None, 0);
    }

    /// Stores a base-layer transaction.
    pub fn insert_layer1(&self, transaction: Layer1) {
        self.insert(transaction.id, None, Content::Layer1(Box::new(transaction)));
    }

    /// What has this id.
    pub fn get(&self, id: &Id) -> Option<Arc<Transaction>> {
        self.by_id.get(id).map(|found| found.value().clone())
    }

    /// Whether something has this id.
    pub fn contains(&self, id: &Id) -> bool {
        self.by_id.contains_key(id)
    }

    /// Calls `visit` with the transactions from `from` on (in ledger order, or backwards) until it answers `false`.
    pub fn walk(&self, from: Option<usize>, backwards: bool, mut visit: impl FnMut(&Arc<Transaction>) -> bool) {
        let in_order = self.in_order.read().expect("no panics while the ledger's order is locked");
        if backwards {
            let end = from.map_or(in_order.len(), |from| (from + 1).min(in_order.len()));
            let _ = in_order[..end].iter().rev().all(&mut visit);
        } else {
            let start = from.unwrap_or(0).min(in_order.len());
            let _ = in_order[start..].iter().all(&mut visit);
        }
    }

    fn insert_nested(&self, item: Arc<DataItem>, bundled_in: Option<Id>, depth: usize) {
        let id = item.id();
        if !self.insert(id, bundled_in, Content::Item(item.clone())) {
            return;
        }
        if depth < BUNDLE_DEPTH_MAX && bundle::is_bundle(item.tags()) {
            // Not every item that calls itself a bundle is one; the item itself is stored all the same.
            for inner in bundle::read(item.data()).unwrap_or_default() {
                if inner.verify().is_ok() {
                    self.insert_nested(Arc::new(inner), Some(id), depth + 1);
                }
            }
        }
    }

    fn insert(&self, id: Id, bundled_in: Option<Id>, content: Content) -> bool {
        let mut in_order = self.in_order.write().expect("no panics while the ledger's order is locked");
        match self.by_id.entry(id) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                let height = self.clock.height();
                let transaction = Arc::new(Transaction { id, sequence: in_order.len(), height, bundled_in, content });
                vacant.insert(transaction.clone());
                in_order.push(transaction);
                true
            }
        }
    }
}
