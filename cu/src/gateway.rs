//! The gateway: transactions, their data, module bytes, block times.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use serde_json::{Value, json};
use url::Url;

use crate::{
    Error, UnitSettings,
    http::{self, Failure, Http},
    ids,
    module_files::ModuleFiles,
    shape::{At, Field, Mismatch},
    tags::Tags,
};

/// Waits before asking again for what the gateway does not have: schedulers answer before the gateway has an item.
const MISSING_DELAYS: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(750)];

/// Blocks asked for at a time.
const BLOCKS_PER_PAGE: u64 = 90;

/// Most block times kept in memory (about 1.9 years of blocks, 16 bytes each and the tree's own).
const BLOCKS_MAX: usize = 500_000;

/// A transaction's metadata.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub id: String,
    /// The owner's account.
    pub owner: String,
    /// The owner's address as the gateway writes it.
    pub address: String,
    /// The owner's public key, base64url, if the gateway knows it.
    pub key: Option<String>,
    pub signature: Field,
    pub anchor: Field,
    /// Empty where they were not asked for.
    pub tags: Tags,
    /// Empty where there is none.
    pub recipient: String,
}

/// What of a transaction is not wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Without {
    pub signature: bool,
    pub anchor: bool,
    pub tags: bool,
}

/// A `Scheduler-Location`: where a scheduler says it is.
pub(crate) struct Location {
    pub url: String,
    /// ms
    pub time_to_live: u64,
}

/// An Arweave block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its height.
    pub height: u64,
    /// ms since 1970 (whole seconds).
    pub timestamp: u64,
}

/// A gateway (and, for block times, several).
pub(crate) struct Gateway {
    http: Arc<Http>,
    graphql_url: Url,
    arweave_url: Url,
    block_urls: Vec<Url>,
    data_max: u64,
    module_files: ModuleFiles,
    blocks: Mutex<BTreeMap<u64, u64>>,
    pub queries: Family<QueryLabels, Counter>,
}

/// What a count of GraphQL queries is by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueryLabels {
    /// `GetTransactionMeta`, `GetSchedulerLocation` or `GetBlocks`.
    pub query_name: &'static str,
    /// `success` or `error`.
    pub result: &'static str,
}

impl Gateway {
    pub fn new(settings: &UnitSettings, http: Arc<Http>) -> Result<Self, Error> {
        http::check_url("the gateway's GraphQL URL", &settings.graphql_url)?;
        http::check_url("the gateway's URL", &settings.arweave_url)?;
        let mut block_urls = settings.block_graphql_urls.clone();
        if block_urls.is_empty() {
            block_urls.push(settings.graphql_url.clone());
        }
        for url in &block_urls {
            http::check_url("a GraphQL URL for blocks", url)?;
        }
        Ok(Self {
            http,
            graphql_url: settings.graphql_url.clone(),
            arweave_url: settings.arweave_url.clone(),
            block_urls,
            data_max: settings.upstream_data_max_bytes,
            module_files: ModuleFiles::new(settings.data_dir.join("modules")),
            blocks: Mutex::default(),
            queries: Family::default(),
        })
    }

    /// The gateway at this URL.
    #[cfg(test)]
    pub fn stand_in(url: &Url) -> Result<Self, Error> {
        Ok(Self {
            http: Arc::new(Http::new(Duration::from_secs(5), 1 << 20)?),
            graphql_url: http::join(url, &["graphql"]),
            arweave_url: url.clone(),
            block_urls: Vec::new(),
            data_max: 1 << 20,
            module_files: ModuleFiles::new(std::env::temp_dir().join("no-modules-here")),
            blocks: Mutex::default(),
            queries: Family::default(),
        })
    }

    /// A transaction's metadata; `None` if the gateway does not have it, even after a moment.
    pub async fn transaction(&self, id: &str, without: Without) -> Result<Option<Transaction>, Error> {
        let mut fields = String::from("id owner { address key } recipient");
        for (name, left_out) in
            [("signature", without.signature), ("anchor", without.anchor), ("tags { name value }", without.tags)]
        {
            if !left_out {
                fields.push(' ');
                fields.push_str(name);
            }
        }
        let query = format!(
            "query GetTransactions($ids: [ID!]!) {{ transactions(ids: $ids) {{ edges {{ node {{ {fields} }} }} }} }}"
        );
        let body = json!({ "query": query, "variables": { "ids": [id] } });
        for delay in MISSING_DELAYS.map(Some).into_iter().chain([None]) {
            let answer = self.graphql("GetTransactionMeta", &body, &format!("transaction {id}")).await?;
            let read = first_node(&answer, |node| {
                Ok(Transaction {
                    id: node.member("id").text()?.to_owned(),
                    owner: node.member("owner").account()?,
                    address: node.member("owner").member("address").text()?.to_owned(),
                    key: node.member("owner").member("key").field()?.flatten(),
                    signature: node.member("signature").field()?,
                    anchor: node.member("anchor").field()?,
                    tags: if node.member("tags").is_some() { node.member("tags").tags()? } else { Tags::default() },
                    recipient: node.member("recipient").field()?.flatten().unwrap_or_default(),
                })
            });
            match read.map_err(|e| self.odd(&format!("transaction {id}"), &e))? {
                Some(found) if found.id == id => return Ok(Some(found)),
                Some(other) => {
                    return Err(self.odd(&format!("transaction {id}"), &format!("found transaction {}", other.id)));
                }
                None => match delay {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => break,
                },
            }
        }
        Ok(None)
    }

    /// The newest `Scheduler-Location` of a scheduler's wallet.
    pub async fn scheduler_location(&self, wallet: &str) -> Result<Option<Location>, Error> {
        let query = "query GetSchedulerLocation($owner: String!) { transactions(owners: [$owner], tags: [\
                     { name: \"Data-Protocol\", values: [\"ao\"] }, { name: \"Type\", values: [\"Scheduler-Location\"] }], \
                     sort: HEIGHT_DESC, first: 1) { edges { node { tags { name value } } } } }";
        let body = json!({ "query": query, "variables": { "owner": wallet } });
        let what = format!("Scheduler-Location of {wallet}");
        let answer = self.graphql("GetSchedulerLocation", &body, &what).await?;
        let tags = first_node(&answer, |node| node.member("tags").tags()).map_err(|e| self.odd(&what, &e))?;
        let Some(tags) = tags else { return Ok(None) };
        let missing = |tag: &str| {
            Error::Upstream(format!("InvalidSchedulerLocation: No \"{tag}\" tag found on Scheduler-Location"))
        };
        let url = tags.first("Url").ok_or_else(|| missing("Url"))?.to_owned();
        let time_to_live = tags.first("Time-To-Live").ok_or_else(|| missing("Time-To-Live"))?;
        Ok(Some(Location { url, time_to_live: crate::js::parse_int(time_to_live).unwrap_or(0) }))
    }

    /// A transaction's data.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the gateway does not have it, even after a moment; [`Error::Upstream`].
    pub async fn data(&self, id: &str, max: u64) -> Result<Vec<u8>, Error> {
        ids::check("a transaction's id", id)?;
        let url = http::join(&self.arweave_url, &["raw", id]);
        let mut delays = MISSING_DELAYS.into_iter();
        loop {
            match self.http.get_bytes(url.clone(), max.min(self.data_max)).await {
                Ok(data) => return Ok(data),
                Err(Failure::Status(404, _)) => match delays.next() {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => {
                        return Err(Error::NotFound(format!("The gateway has no data of transaction '{id}'")));
                    }
                },
                Err(failure) => {
                    let text = format!("Error encountered when fetching transaction '{id}' from arweave: {failure}");
                    return Err(Error::Upstream(text));
                }
            }
        }
    }

    /// A base-layer transaction as nodes write it in JSON; `None`: the gateway has no such transaction.
    pub async fn base_layer(&self, id: &str) -> Result<Option<Value>, Error> {
        ids::check("a transaction's id", id)?;
        match self.http.get_json(http::join(&self.arweave_url, &["tx", id])).await {
            Ok(transaction) => Ok(Some(transaction)),
            Err(failure) if failure.is_refusal() => Ok(None),
            Err(failure) => Err(Error::Upstream(format!(
                "Error encountered when fetching transaction '{id}' from arweave: {failure}"
            ))),
        }
    }

    /// A module's bytes, from disk where they are whole.
    pub async fn module_bytes(&self, id: &str) -> Result<Arc<[u8]>, Error> {
        ids::check("Module tag", id)?;
        if let Some(bytes) = self.module_files.read(id).await {
            return Ok(bytes.into());
        }
        let bytes = self.data(id, self.data_max).await.map_err(|e| match e {
            // The reference's 404 is for assigned transactions only.
            Error::NotFound(text) => Error::Upstream(format!("module {id}: {text}")),
            other => other,
        })?;
        let bytes: Arc<[u8]> = bytes.into();
        self.module_files.write(id, bytes.clone()).await;
        Ok(bytes)
    }

    /// Drops a module's bytes from disk: they are not what was signed.
    pub async fn forget_module(&self, id: &str) {
        self.module_files.remove(id).await;
    }

    /// The block after `height`, or, if the gateway has gaps, the next it has; `None` if it has none yet.
    pub async fn block_after(&self, height: u64) -> Result<Option<Block>, Error> {
        let wanted = height + 1;
        if let Some(&timestamp) = self.lock_blocks().get(&wanted) {
            return Ok(Some(Block { height: wanted, timestamp }));
        }
        let query = "query GetBlocks($min: Int!, $limit: Int!) { blocks(height: { min: $min }, first: $limit, \
                     sort: HEIGHT_ASC) { pageInfo { hasNextPage } edges { node { timestamp height } } } }";
        let body = json!({ "query": query, "variables": { "min": wanted, "limit": BLOCKS_PER_PAGE } });
        let blocks = self.fetch_blocks(&body, wanted).await?;
        let mut known = self.lock_blocks();
        for block in &blocks {
            known.insert(block.height, block.timestamp);
        }
        while known.len() > BLOCKS_MAX {
            known.pop_first();
        }
        Ok(blocks.first().copied())
    }

    async fn fetch_blocks(&self, body: &Value, wanted: u64) -> Result<Vec<Block>, Error> {
        let mut why = String::new();
        for url in &self.block_urls {
            let answer = self.http.post_json(url.clone(), body).await;
            self.count("GetBlocks", answer.is_ok());
            match answer {
                Ok(answer) => match read_blocks(&answer, wanted) {
                    Ok(blocks) => return Ok(blocks),
                    Err(mismatch) => why = format!("{}: {mismatch}", url.path()),
                },
                Err(failure) => why = failure.to_string(),
            }
        }
        Err(Error::Upstream(format!("Can not communicate with gateway to retrieve block metadata: {why}")))
    }

    fn lock_blocks(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, u64>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, query_name: &'static str, succeeded: bool) {
        let result = if succeeded { "success" } else { "error" };
        self.queries.get_or_create(&QueryLabels { query_name, result }).inc();
    }

    async fn graphql(&self, name: &'static str, body: &Value, what: &str) -> Result<Value, Error> {
        let answer = self.http.post_json(self.graphql_url.clone(), body).await;
        self.count(name, answer.is_ok());
        answer.map_err(|failure| {
            Error::Upstream(format!("Error Encountered when fetching {what} from gateway: {failure}"))
        })
    }

    fn odd(&self, what: &str, mismatch: &str) -> Error {
        Error::Upstream(format!(
            "Error Encountered when fetching {what} from gateway: {}: {mismatch}",
            self.graphql_url.path()
        ))
    }
}

/// Data as text: invalid UTF-8 becomes U+FFFD and a byte order mark goes, as in a browser.
pub(crate) fn text_of(data: &[u8]) -> String {
    String::from_utf8_lossy(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data)).into_owned()
}

/// Reads `data.transactions.edges[0].node`, if there is one.
fn first_node<T>(answer: &Value, read: impl Fn(&At<'_>) -> Result<T, Mismatch>) -> Result<Option<T>, Mismatch> {
    let root = At::root(answer);
    let data = root.member("data");
    let transactions = data.member("transactions");
    let edges = transactions.member("edges");
    let nodes = edges.items().map_err(|mismatch| with_errors(answer, mismatch))?;
    match nodes.into_iter().next() {
        Some(edge) => read(&edge.member("node")).map(Some),
        None => Ok(None),
    }
}

/// GraphQL's own errors come with status 200.
fn with_errors(answer: &Value, mismatch: Mismatch) -> Mismatch {
    match answer.pointer("/errors/0/message").and_then(Value::as_str) {
        Some(message) => format!("{mismatch} ({})", message.chars().take(200).collect::<String>()),
        None => mismatch,
    }
}

fn read_blocks(answer: &Value, min: u64) -> Result<Vec<Block>, Mismatch> {
    let root = At::root(answer);
    let data = root.member("data");
    let blocks = data.member("blocks");
    let edges = blocks.member("edges");
    let mut read: Vec<Block> = Vec::new();
    for edge in edges.items().map_err(|mismatch| with_errors(answer, mismatch))? {
        let node = edge.member("node");
        let height = node.member("height").whole()?;
        let timestamp = node.member("timestamp").whole()?;
        if height < read.last().map_or(min, |last| last.height + 1) {
            return Err(node.member("height").mismatch("ascending heights from the one asked for"));
        }
        let timestamp = timestamp.checked_mul(1000).filter(|ms| *ms <= crate::js::SAFE_INTEGER_MAX);
        let timestamp = timestamp.ok_or_else(|| node.member("timestamp").mismatch("seconds since 1970"))?;
        read.push(Block { height, timestamp });
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_in_milliseconds_and_ascending() {
        let page = |heights: [u64; 2]| {
            let edges = heights.map(|h| json!({"node": {"height": h, "timestamp": 1_750_000_000}}));
            json!({"data": {"blocks": {"edges": edges}}})
        };
        assert_eq!(read_blocks(&page([5, 6]), 5).unwrap()[0], Block { height: 5, timestamp: 1_750_000_000_000 });
        assert!(read_blocks(&page([6, 5]), 5).is_err());
        assert!(read_blocks(&page([4, 5]), 5).is_err());
        let refused = json!({"errors": [{"message": "no such field"}]});
        assert!(read_blocks(&refused, 5).unwrap_err().contains("no such field"));
    }
}
