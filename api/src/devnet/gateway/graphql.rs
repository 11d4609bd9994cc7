//! Answering GraphQL queries: `transactions`, `transaction`, `blocks`, `block`, with the filters of Arweave's gateways.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json, json};

use lockstep_cu::item::{parse_id, to_base64url};

use super::query::{Field, Query, Selection, SyntaxError, Value, Variables, parse};
use crate::devnet::clock::{Block, FIRST_HEIGHT};
use crate::devnet::ledger::{Content, Ledger, Transaction};

/// Entries of a page that does not say how many it wants, and the most it can have: as on Arweave's gateways.
const PAGE_DEFAULT: usize = 10;
const PAGE_MAX: usize = 100;
/// Most fields in an answer's plan, spreads counted each time: a bound on fragments that include one another.
const FIELDS_MAX: usize = 2_000;
/// Winston in an AR.
const WINSTON_DIGITS: usize = 12;

/// Why a query is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It cannot be read.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// It asks for what is not there.
    #[error("Cannot query field \"{field}\" on type \"{on}\".")]
    Field {
        /// The field.
        field: String,
        /// The type it was asked of.
        on: &'static str,
    },
    /// An argument that cannot mean anything.
    #[error("Argument \"{0}\" has an invalid value.")]
    Argument(String),
    /// A fragment that is not there.
    #[error("Unknown fragment \"{0}\".")]
    Fragment(String),
    /// More fields than a query may have.
    #[error("A query can ask for {FIELDS_MAX} fields.")]
    TooMuch,
}

/// Answers a request's body (`query`, `variables`, `operationName`).
///
/// # Errors
/// Any [`QueryError`].
pub fn answer(ledger: &Ledger, request: &Json) -> Result<Json, QueryError> {
    let none = Map::new();
    let text = request["query"].as_str().ok_or_else(|| QueryError::Argument("query".into()))?;
    let query = parse(text, request["operationName"].as_str())?;
    let given = request["variables"].as_object().unwrap_or(&none);
    let variables = Variables { given, defaults: &query.defaults };
    let mut run = Run { ledger, query: &query, variables, fields_left: FIELDS_MAX };
    run.object(&query.selection, "Query", 0, |run, field| run.root(field)).map(|data| json!({ "data": data }))
}

/// One query being answered.
struct Run<'a> {
    ledger: &'a Ledger,
    query: &'a Query,
    variables: Variables<'a>,
    fields_left: usize,
}

impl<'a> Run<'a> {
    /// Builds an object from a selection; `value` gives each field's value, or `None` for a field the type has not.
    fn object(
        &mut self,
        selection: &'a [Selection],
        on: &'static str,
        depth: usize,
        mut value: impl FnMut(&mut Self, &'a Field) -> Result<Option<Json>, QueryError>,
    ) -> Result<Json, QueryError> {
        let mut object = Map::new();
        let mut fields = Vec::new();
        self.flatten(selection, depth, &mut fields)?;
        for field in fields {
            let found = if field.name == "__typename" { Some(json!(on)) } else { value(self, field)? };
            let found = found.ok_or_else(|| QueryError::Field { field: field.name.clone(), on })?;
            object.insert(field.alias.clone(), found);
        }
        Ok(Json::Object(object))
    }

    fn flatten(
        &mut self,
        selection: &'a [Selection],
        depth: usize,
        out: &mut Vec<&'a Field>,
    ) -> Result<(), QueryError> {
        // Deeper than any query can nest without fragments that include themselves.
        if depth > 32 {
            return Err(QueryError::TooMuch);
        }
        for part in selection {
            self.fields_left = self.fields_left.checked_sub(1).ok_or(QueryError::TooMuch)?;
            match part {
                Selection::Field(field) if self.variables.wants(&field.conditions) => out.push(field),
                Selection::Inline(conditions, inner) if self.variables.wants(conditions) => {
                    self.flatten(inner, depth + 1, out)?;
                }
                Selection::Spread(name, conditions) if self.variables.wants(conditions) => {
                    let query: &'a Query = self.query;
                    let inner = query.fragments.get(name).ok_or_else(|| QueryError::Fragment(name.clone()))?;
                    self.flatten(inner, depth + 1, out)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn arguments(&self, field: &Field) -> Result<Arguments, QueryError> {
        let resolved = |(name, value): &(String, Value)| (name.clone(), self.variables.resolve(value));
        Ok(Arguments(field.arguments.iter().map(resolved).filter(|(_, value)| !value.is_null()).collect()))
    }

    fn root(&mut self, field: &'a Field) -> Result<Option<Json>, QueryError> {
        let arguments = self.arguments(field)?;
        Ok(Some(match field.name.as_str() {
            "transactions" => self.transactions(field, &arguments)?,
            "transaction" => {
                let found = arguments.text("id")?.and_then(|id| self.ledger.get(&parse_id(&id)?));
                found.map_or(Ok(Json::Null), |found| self.transaction(&field.selection, &found))?
            }
            "blocks" => self.blocks(field, &arguments)?,
            "block" => {
                let found = arguments.text("id")?.and_then(|id| self.every_block().find(|block| block.id == id));
                found.map_or(Ok(Json::Null), |found| self.block(&field.selection, &found))?
            }
            _ => return Ok(None),
        }))
    }

    fn transactions(&mut self, field: &'a Field, arguments: &Arguments) -> Result<Json, QueryError> {
        let filter = Filter::read(arguments)?;
        let first = arguments.first()?;
        let (after, backwards) = (arguments.after()?, arguments.backwards()?);
        let start = after.map(|after| if backwards { after.checked_sub(1) } else { Some(after.saturating_add(1)) });
        let mut found: Vec<Arc<Transaction>> = Vec::new();
        if start != Some(None) {
            let mut visit = |transaction: &Arc<Transaction>| {
                if filter.accepts(transaction) {
                    found.push(transaction.clone());
                }
                found.len() <= first
            };
            match &filter.ids {
                // Answered in the order of the ledger all the same, whatever order the ids came in.
                Some(ids) => {
                    let mut named: Vec<_> = ids.iter().filter_map(|id| self.ledger.get(&parse_id(id)?)).collect();
                    named.sort_by_key(|transaction| transaction.sequence);
                    named.dedup_by_key(|transaction| transaction.sequence);
                    if backwards {
                        named.reverse();
                    }
                    let from = start.flatten();
                    named.retain(|found| {
                        from.is_none_or(|from| if backwards { found.sequence <= from } else { found.sequence >= from })
                    });
                    let _ = named.iter().all(&mut visit);
                }
                None => self.ledger.walk(start.flatten(), backwards, &mut visit),
            }
        }
        let has_next = found.len() > first;
        found.truncate(first);
        let entries = found.into_iter().map(|transaction| (cursor(transaction.sequence), transaction)).collect();
        self.connection(field, entries, has_next, |run, selection, transaction| run.transaction(selection, transaction))
    }

    fn blocks(&mut self, field: &'a Field, arguments: &Arguments) -> Result<Json, QueryError> {
        let (min, max) = arguments.range("height")?;
        let ids = arguments.texts("ids")?;
        let first = arguments.first()?;
        let backwards = arguments.backwards()?;
        let newest = self.ledger.clock().height();
        let (mut low, mut high) = (min.unwrap_or(0).max(FIRST_HEIGHT), max.unwrap_or(u64::MAX).min(newest));
        if let Some(after) = arguments.after()? {
            let after = after as u64;
            if backwards { high = high.min(after.saturating_sub(1)) } else { low = low.max(after.saturating_add(1)) }
        }
        let in_order: Box<dyn Iterator<Item = u64>> =
            if backwards { Box::new((low..=high).rev()) } else { Box::new(low..=high) };
        let clock = self.ledger.clock().clone();
        let mut found: Vec<(String, Block)> = in_order
            .filter_map(|height| clock.block(height))
            .filter(|block| ids.as_ref().is_none_or(|ids| ids.contains(&block.id)))
            .take(first + 1)
            .map(|block| (cursor(block.height as usize), block))
            .collect();
        let has_next = found.len() > first;
        found.truncate(first);
        self.connection(field, found, has_next, |run, selection, block| run.block(selection, block))
    }

    fn connection<T>(
        &mut self,
        field: &'a Field,
        entries: Vec<(String, T)>,
        has_next: bool,
        node: impl Fn(&mut Self, &'a [Selection], &T) -> Result<Json, QueryError>,
    ) -> Result<Json, QueryError> {
        self.object(&field.selection, "Connection", 0, |run, field| {
            Ok(Some(match field.name.as_str() {
                "pageInfo" => run.object(&field.selection, "PageInfo", 0, |_, field| {
                    Ok((field.name == "hasNextPage").then(|| json!(has_next)))
                })?,
                "count" => json!(entries.len().to_string()),
                "edges" => {
                    let mut edges = Vec::with_capacity(entries.len());
                    for (cursor, entry) in &entries {
                        // What a page asks for, it asks of every entry: only the plan counts.
                        let left = run.fields_left;
                        edges.push(run.object(&field.selection, "Edge", 0, |run, field| {
                            Ok(match field.name.as_str() {
                                "cursor" => Some(json!(cursor)),
                                "node" => Some(node(run, &field.selection, entry)?),
                                _ => None,
                            })
                        })?);
                        run.fields_left = left;
                    }
                    Json::Array(edges)
                }
                _ => return Ok(None),
            }))
        })
    }

    fn transaction(&mut self, selection: &'a [Selection], transaction: &Transaction) -> Result<Json, QueryError> {
        let (quantity, fee) = match &transaction.content {
            Content::Item(_) => ("0", "0"),
            Content::Layer1(layer1) => (layer1.quantity.as_str(), layer1.reward.as_str()),
        };
        self.object(selection, "Transaction", 0, |run, field| {
            let inner = &field.selection;
            Ok(Some(match field.name.as_str() {
                "id" => json!(to_base64url(&transaction.id)),
                "anchor" => json!(to_base64url(transaction.anchor())),
                "signature" => json!(to_base64url(transaction.signature())),
                "recipient" => json!(to_base64url(transaction.recipient())),
                "ingested_at" => Json::Null,
                "owner" => run.leaves(inner, "Owner", |name| match name {
                    "address" => Some(json!(transaction.address())),
                    "key" => Some(json!(to_base64url(transaction.owner()))),
                    _ => None,
                })?,
                "fee" => run.leaves(inner, "Amount", |name| amount(fee, name))?,
                "quantity" => run.leaves(inner, "Amount", |name| amount(quantity, name))?,
                "data" => run.leaves(inner, "MetaData", |name| match name {
                    "size" => Some(json!(transaction.data().len().to_string())),
                    "type" => Some(json!(transaction.tag("Content-Type"))),
                    _ => None,
                })?,
                "tags" => {
                    let mut tags = Vec::with_capacity(transaction.tags().len());
                    for tag in transaction.tags() {
                        let left = run.fields_left;
                        tags.push(run.leaves(inner, "Tag", |name| match name {
                            "name" => Some(json!(tag.name)),
                            "value" => Some(json!(tag.value)),
                            _ => None,
                        })?);
                        run.fields_left = left;
                    }
                    Json::Array(tags)
                }
                "block" => match run.ledger.clock().block(transaction.height) {
                    Some(block) => run.block(inner, &block)?,
                    None => Json::Null,
                },
                "parent" | "bundledIn" => match &transaction.bundled_in {
                    Some(bundle) => {
                        run.leaves(inner, "Parent", |name| (name == "id").then(|| json!(to_base64url(bundle))))?
                    }
                    None => Json::Null,
                },
                _ => return Ok(None),
            }))
        })
    }

    fn block(&mut self, selection: &'a [Selection], block: &Block) -> Result<Json, QueryError> {
        self.leaves(selection, "Block", |name| match name {
            "id" => Some(json!(block.id)),
            "timestamp" => Some(json!(block.timestamp)),
            "height" => Some(json!(block.height)),
            "previous" => Some(json!(block.previous)),
            _ => None,
        })
    }

    fn leaves(
        &mut self,
        selection: &'a [Selection],
        on: &'static str,
        value: impl Fn(&str) -> Option<Json>,
    ) -> Result<Json, QueryError> {
        self.object(selection, on, 0, |_, field| Ok(value(&field.name)))
    }

    fn every_block(&self) -> impl Iterator<Item = Block> {
        let clock = self.ledger.clock().clone();
        (FIRST_HEIGHT..=clock.height()).filter_map(move |height| clock.block(height))
    }
}

fn amount(winston: &str, name: &str) -> Option<Json> {
    match name {
        "winston" => Some(json!(winston)),
        "ar" => {
            let padded = format!("{winston:0>width$}", width = WINSTON_DIGITS + 1);
            let (whole, part) = padded.split_at(padded.len() - WINSTON_DIGITS);
            Some(json!(format!("{whole}.{part}")))
        }
        _ => None,
    }
}

fn cursor(place: usize) -> String {
    STANDARD.encode(place.to_string())
}

/// A field's arguments, without those that are null.
struct Arguments(Map<String, Json>);

impl Arguments {
    fn wrong<T>(name: &str) -> Result<T, QueryError> {
        Err(QueryError::Argument(name.to_owned()))
    }

    fn text(&self, name: &str) -> Result<Option<String>, QueryError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.clone())),
            Some(_) => Self::wrong(name),
        }
    }

    /// A list of texts; one text stands for a list of one, as in GraphQL's coercion.
    fn texts(&self, name: &str) -> Result<Option<Vec<String>>, QueryError> {
        self.0.get(name).map(|value| texts(value).ok_or_else(|| QueryError::Argument(name.to_owned()))).transpose()
    }

    fn first(&self) -> Result<usize, QueryError> {
        match self.0.get("first") {
            None => Ok(PAGE_DEFAULT),
            Some(first) => match first.as_u64() {
                Some(first) => Ok(usize::try_from(first).unwrap_or(PAGE_MAX).min(PAGE_MAX)),
                None => Self::wrong("first"),
            },
        }
    }

    fn after(&self) -> Result<Option<usize>, QueryError> {
        let Some(text) = self.text("after")?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let place = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        place.map(Some).ok_or_else(|| QueryError::Argument("after".into()))
    }

    fn backwards(&self) -> Result<bool, QueryError> {
        match self.text("sort")?.as_deref() {
            None | Some("HEIGHT_DESC" | "INGESTED_AT_DESC") => Ok(true),
            Some("HEIGHT_ASC" | "INGESTED_AT_ASC") => Ok(false),
            Some(_) => Self::wrong("sort"),
        }
    }

    fn range(&self, name: &str) -> Result<(Option<u64>, Option<u64>), QueryError> {
        let Some(range) = self.0.get(name) else {
            return Ok((None, None));
        };
        let end = |end: &str| match &range[end] {
            Json::Null => Ok(None),
            // Below zero is below everything.
            number => match number.as_i64() {
                Some(number) => Ok(Some(u64::try_from(number).unwrap_or(0))),
                None => Self::wrong(name),
            },
        };
        if range.is_object() { Ok((end("min")?, end("max")?)) } else { Self::wrong(name) }
    }
}

fn texts(value: &Json) -> Option<Vec<String>> {
    match value {
        Json::String(text) => Some(vec![text.clone()]),
        Json::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// What a transaction must be.
struct Filter {
    ids: Option<Vec<String>>,
    owners: Option<Vec<String>>,
    recipients: Option<Vec<String>>,
    bundled_in: Option<Vec<String>>,
    tags: Vec<TagFilter>,
    height: (Option<u64>, Option<u64>),
}

struct TagFilter {
    name: String,
    values: Vec<String>,
    /// `NEQ`: no tag of the name may have one of the values.
    not: bool,
}

impl Filter {
    fn read(arguments: &Arguments) -> Result<Self, QueryError> {
        let wrong = || QueryError::Argument("tags".into());
        let tags = match arguments.0.get("tags") {
            None => Vec::new(),
            Some(Json::Array(tags)) => tags.iter().map(TagFilter::read).collect::<Option<_>>().ok_or_else(wrong)?,
            Some(tag) => vec![TagFilter::read(tag).ok_or_else(wrong)?],
        };
        // An empty list filters nothing, as on the gateways.
        let some = |name| arguments.texts(name).map(|values| values.filter(|values| !values.is_empty()));
        Ok(Self {
            ids: some("ids")?,
            owners: some("owners")?,
            recipients: some("recipients")?,
            bundled_in: some("bundledIn")?,
            tags,
            height: arguments.range("block")?,
        })
    }

    fn accepts(&self, transaction: &Transaction) -> bool {
        let among = |wanted: &Option<Vec<String>>, found: &dyn Fn() -> String| {
            wanted.as_ref().is_none_or(|wanted| wanted.contains(&found()))
        };
        self.height.0.is_none_or(|min| transaction.height >= min)
            && self.height.1.is_none_or(|max| transaction.height <= max)
            && self.tags.iter().all(|tag| tag.accepts(transaction))
            && among(&self.owners, &|| transaction.address())
            && among(&self.recipients, &|| to_base64url(transaction.recipient()))
            && among(&self.bundled_in, &|| transaction.bundled_in.map(|id| to_base64url(&id)).unwrap_or_default())
    }
}

impl TagFilter {
    fn read(value: &Json) -> Option<Self> {
        let not = match value["op"].as_str() {
            None | Some("EQ") => false,
            Some("NEQ") => true,
            Some(_) => return None,
        };
        Some(Self { name: value["name"].as_str()?.to_owned(), values: texts(&value["values"])?, not })
    }

    fn accepts(&self, transaction: &Transaction) -> bool {
        let found = transaction.tags().iter().any(|tag| tag.name == self.name && self.values.contains(&tag.value));
        found != self.not
    }
}
