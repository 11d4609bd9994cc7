//! Reading JSON from outside into types: every step says where it stands, what it expected and what it found.

use serde_json::Value;

use crate::{
    js, owner,
    tags::{Tag, Tags},
};

/// A field that may be left out, null or text. (`None` left out, `Some(None)` null.)
pub type Field = Option<Option<String>>;

/// A place in a JSON document.
#[derive(Clone, Copy)]
pub struct At<'a> {
    value: Option<&'a Value>,
    path: Path<'a>,
}

#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Member(Path::Root, name) => f.write_str(name),
            Path::Member(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// `path: expected X, found Y`.
pub type Mismatch = String;

impl<'a> At<'a> {
    /// The whole document.
    pub fn root(value: &'a Value) -> Self {
        Self { value: Some(value), path: Path::Root }
    }

    /// A member; a place that holds nothing if this is no object or has no such member.
    pub fn member(&'a self, name: &'a str) -> At<'a> {
        At { value: self.value.and_then(|value| value.get(name)), path: Path::Member(&self.path, name) }
    }

    /// Whether there is something other than null.
    pub fn is_some(&self) -> bool {
        !matches!(self.value, None | Some(Value::Null))
    }

    /// What stands here.
    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// The items of an array.
    pub fn items(&'a self) -> Result<impl Iterator<Item = At<'a>>, Mismatch> {
        let items = self.value.and_then(Value::as_array).ok_or_else(|| self.mismatch("an array"))?;
        let path = &self.path;
        Ok(items.iter().enumerate().map(move |(i, item)| At { value: Some(item), path: Path::Item(path, i) }))
    }

    /// Text.
    pub fn text(&self) -> Result<&'a str, Mismatch> {
        self.value.and_then(Value::as_str).ok_or_else(|| self.mismatch("a string"))
    }

    /// Text that is not empty.
    pub fn some_text(&self) -> Result<&'a str, Mismatch> {
        self.text().ok().filter(|text| !text.is_empty()).ok_or_else(|| self.mismatch("a string that is not empty"))
    }

    /// Text, null, or left out.
    pub fn field(&self) -> Result<Field, Mismatch> {
        match self.value {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) => Ok(Some(Some(text.clone()))),
            Some(_) => Err(self.mismatch("a string or null")),
        }
    }

    /// A flag.
    pub fn flag(&self) -> Result<bool, Mismatch> {
        self.value.and_then(Value::as_bool).ok_or_else(|| self.mismatch("true or false"))
    }

    /// A whole number from 0 to 2^53 - 1, also as decimal text (schedulers pad some with zeros).
    pub fn whole(&self) -> Result<u64, Mismatch> {
        let whole = match self.value {
            Some(Value::String(text)) => js::parse_int(text),
            Some(Value::Number(number)) => number.as_u64().filter(|n| *n <= js::SAFE_INTEGER_MAX),
            _ => None,
        };
        whole.ok_or_else(|| self.mismatch("a whole number"))
    }

    /// An array of tags.
    pub fn tags(&'a self) -> Result<Tags, Mismatch> {
        let tags = self.items()?.map(|tag| {
            let name = tag.member("name").text()?.to_owned();
            let value = tag.member("value").text()?.to_owned();
            Ok(Tag { name, value })
        });
        tags.collect::<Result<_, Mismatch>>().map(Tags)
    }

    /// An owner `{address, key}`, as the account it stands for. (Gateways do not know every key.)
    pub fn account(&'a self) -> Result<String, Mismatch> {
        let address = self.member("address");
        let key = self.member("key").field()?.flatten().unwrap_or_default();
        let account = owner::account(address.text()?, &key);
        if account.is_empty() { Err(address.mismatch("an address")) } else { Ok(account) }
    }

    /// Says that something else was expected here.
    pub fn mismatch(&self, expected: &str) -> Mismatch {
        let path = self.path.to_string();
        let path = if path.is_empty() { "document".to_owned() } else { path };
        format!("{path}: expected {expected}, found {}", describe(self.value))
    }
}

/// A value in a few words.
pub fn describe(value: Option<&Value>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => format!("the number {number}"),
        Some(Value::String(text)) if text.chars().count() <= 48 => format!("the string {text:?}"),
        Some(Value::String(text)) => format!("a string of {} bytes", text.len()),
        Some(Value::Array(items)) => format!("an array of {}", items.len()),
        Some(Value::Object(members)) => format!("an object of {}", members.len()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mismatch_says_where_what_was_expected_and_what_was_found() {
        let doc = json!({"edges": [{"tags": [{"name": "A", "value": 5}]}]});
        let root = At::root(&doc);
        let edges = root.member("edges");
        let edge = edges.items().unwrap().next().unwrap();
        assert_eq!(
            edge.member("tags").tags().unwrap_err(),
            "edges[0].tags[0].value: expected a string, found the number 5"
        );
        assert_eq!(
            edge.member("owner").account().unwrap_err(),
            "edges[0].owner.address: expected a string, found nothing"
        );
    }

    #[test]
    fn whole_numbers_come_as_numbers_or_padded_text() {
        for (value, want) in
            [(json!(5), Some(5)), (json!("000005"), Some(5)), (json!(1.5), None), (json!(-1), None), (json!([]), None)]
        {
            assert_eq!(At::root(&value).whole().ok(), want, "{value}");
        }
    }
}
