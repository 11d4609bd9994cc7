//! Reading GraphQL queries: the language as clients write it (operations, variables, aliases, arguments, fragments,
//! `@skip` and `@include`), not the type system. Fields nobody knows are found out when the query runs.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

/// Longest query text taken, bytes.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of selections and of values.
const DEPTH_MAX: usize = 16;

/// Where and why a query cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Syntax Error at character {at}: {why}")]
pub struct SyntaxError {
    /// Offset in bytes.
    pub at: usize,
    /// What was expected or found.
    pub why: String,
}

/// A value in a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `$name`
    Variable(String),
    /// Everything else that is a leaf; an enum's name is a text.
    Leaf(Json),
    /// `[…]`
    List(Vec<Value>),
    /// `{…}`
    Object(Vec<(String, Value)>),
}

/// A field asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The name in the answer.
    pub alias: String,
    /// The field's name.
    pub name: String,
    /// Arguments in order.
    pub arguments: Vec<(String, Value)>,
    /// `(include?, condition)` of each `@include` and `@skip`.
    pub conditions: Vec<(bool, Value)>,
    /// What is asked of an object.
    pub selection: Vec<Selection>,
}

/// A part of a selection.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// A field.
    Field(Field),
    /// `...name`, with its conditions.
    Spread(String, Vec<(bool, Value)>),
    /// `... { … }`, with its conditions; types are not looked at.
    Inline(Vec<(bool, Value)>, Vec<Selection>),
}

/// A query, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What is asked.
    pub selection: Vec<Selection>,
    /// Defaults of variables.
    pub defaults: HashMap<String, Value>,
    /// Named fragments.
    pub fragments: HashMap<String, Vec<Selection>>,
}

/// Values of a query's variables.
pub struct Variables<'a> {
    /// As sent.
    pub given: &'a Map<String, Json>,
    /// As declared.
    pub defaults: &'a HashMap<String, Value>,
}

impl Variables<'_> {
    /// A value with its variables filled in; an unknown variable is null.
    pub fn resolve(&self, value: &Value) -> Json {
        match value {
            Value::Leaf(leaf) => leaf.clone(),
            Value::List(values) => values.iter().map(|value| self.resolve(value)).collect(),
            Value::Object(members) => {
                Json::Object(members.iter().map(|(name, value)| (name.clone(), self.resolve(value))).collect())
            }
            Value::Variable(name) => match (self.given.get(name), self.defaults.get(name)) {
                (Some(given), _) => given.clone(),
                // A default cannot mention variables, so this goes one step deep only.
                (None, Some(default @ (Value::Leaf(_) | Value::List(_) | Value::Object(_)))) => self.resolve(default),
                (None, _) => Json::Null,
            },
        }
    }

    /// Whether all of a part's conditions hold.
    pub fn wants(&self, conditions: &[(bool, Value)]) -> bool {
        conditions.iter().all(|(include, condition)| self.resolve(condition).as_bool().unwrap_or(false) == *include)
    }
}

/// Reads a document and picks the operation of this name; with no name, its only one.
///
/// # Errors
/// [`SyntaxError`]; mutations, subscriptions and an unclear choice are errors too.
pub fn parse(text: &str, operation: Option<&str>) -> Result<Query, SyntaxError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(SyntaxError { at: QUERY_BYTES_MAX, why: format!("queries end after {QUERY_BYTES_MAX} bytes") });
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    let mut operations = Vec::new();
    let mut fragments = HashMap::new();
    while parser.peek()?.is_some() {
        if parser.eat("{")? {
            operations.push((None, HashMap::new(), parser.selection_rest()?));
            continue;
        }
        let keyword = parser.name()?;
        match keyword.as_str() {
            "fragment" => {
                let name = parser.name()?;
                parser.keyword("on")?;
                parser.name()?;
                parser.directives()?;
                fragments.insert(name, parser.selection()?);
            }
            "query" => {
                let name = parser.peek_name()?.then(|| parser.name()).transpose()?;
                let defaults = parser.variable_definitions()?;
                parser.directives()?;
                operations.push((name, defaults, parser.selection()?));
            }
            other => return Err(parser.error(format!("expected a query, found `{other}`"))),
        }
    }
    let chosen = match operation {
        Some(wanted) => operations.into_iter().find(|(name, ..)| name.as_deref() == Some(wanted)),
        None if operations.len() == 1 => operations.pop(),
        None => None,
    };
    let (_, defaults, selection) = chosen.ok_or_else(|| parser.error("expected exactly one query to run".into()))?;
    Ok(Query { selection, defaults, fragments })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, why: String) -> SyntaxError {
        SyntaxError { at: self.at, why }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips what means nothing and shows the next character.
    fn peek(&mut self) -> Result<Option<char>, SyntaxError> {
        loop {
            let rest = self.rest();
            let skipped = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',' || c == '\u{feff}');
            self.at += rest.len() - skipped.len();
            let Some(comment) = skipped.strip_prefix('#') else {
                return Ok(skipped.chars().next());
            };
            self.at += 1 + comment.find('\n').unwrap_or(comment.len());
        }
    }

    fn eat(&mut self, token: &str) -> Result<bool, SyntaxError> {
        self.peek()?;
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        Ok(found)
    }

    fn expect(&mut self, token: &str) -> Result<(), SyntaxError> {
        if self.eat(token)? { Ok(()) } else { Err(self.error(format!("expected `{token}`"))) }
    }

    fn peek_name(&mut self) -> Result<bool, SyntaxError> {
        Ok(self.peek()?.is_some_and(|c| c.is_ascii_alphabetic() || c == '_'))
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        if !self.peek_name()? {
            return Err(self.error("expected a name".into()));
        }
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    fn keyword(&mut self, word: &str) -> Result<(), SyntaxError> {
        let at = self.at;
        if self.name()? == word { Ok(()) } else { Err(SyntaxError { at, why: format!("expected `{word}`") }) }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, SyntaxError>) -> Result<T, SyntaxError> {
        if self.depth == DEPTH_MAX {
            return Err(self.error(format!("nesting ends at {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    fn selection(&mut self) -> Result<Vec<Selection>, SyntaxError> {
        self.expect("{")?;
        self.selection_rest()
    }

    fn selection_rest(&mut self) -> Result<Vec<Selection>, SyntaxError> {
        self.deeper(|parser| {
            let mut parts = Vec::new();
            while !parser.eat("}")? {
                parts.push(if parser.eat("...")? { parser.fragment()? } else { Selection::Field(parser.field()?) });
            }
            Ok(parts)
        })
    }

    fn fragment(&mut self) -> Result<Selection, SyntaxError> {
        if self.peek_name()? {
            let name = self.name()?;
            if name != "on" {
                return Ok(Selection::Spread(name, self.directives()?));
            }
            self.name()?;
        }
        Ok(Selection::Inline(self.directives()?, self.selection()?))
    }

    fn field(&mut self) -> Result<Field, SyntaxError> {
        let alias = self.name()?;
        let name = if self.eat(":")? { self.name()? } else { alias.clone() };
        let arguments = self.arguments()?;
        let conditions = self.directives()?;
        let selection = if self.peek()? == Some('{') { self.selection()? } else { Vec::new() };
        Ok(Field { alias, name, arguments, conditions, selection })
    }

    fn arguments(&mut self) -> Result<Vec<(String, Value)>, SyntaxError> {
        let mut arguments = Vec::new();
        if self.eat("(")? {
            while !self.eat(")")? {
                let name = self.name()?;
                self.expect(":")?;
                arguments.push((name, self.value()?));
            }
        }
        Ok(arguments)
    }

    fn directives(&mut self) -> Result<Vec<(bool, Value)>, SyntaxError> {
        let mut conditions = Vec::new();
        while self.eat("@")? {
            let name = self.name()?;
            let condition = self.arguments()?.into_iter().find(|(name, _)| name == "if").map(|(_, value)| value);
            match (name.as_str(), condition) {
                ("include", Some(condition)) => conditions.push((true, condition)),
                ("skip", Some(condition)) => conditions.push((false, condition)),
                _ => {
                    return Err(self.error(format!("expected @include(if:) or @skip(if:), found @{name}")));
                }
            }
        }
        Ok(conditions)
    }

    fn variable_definitions(&mut self) -> Result<HashMap<String, Value>, SyntaxError> {
        let mut defaults = HashMap::new();
        if self.eat("(")? {
            while !self.eat(")")? {
                self.expect("$")?;
                let name = self.name()?;
                self.expect(":")?;
                self.type_name()?;
                if self.eat("=")? {
                    defaults.insert(name, self.value()?);
                }
            }
        }
        Ok(defaults)
    }

    fn type_name(&mut self) -> Result<(), SyntaxError> {
        if self.eat("[")? {
            self.deeper(Self::type_name)?;
            self.expect("]")?;
        } else {
            self.name()?;
        }
        self.eat("!").map(|_| ())
    }

    fn value(&mut self) -> Result<Value, SyntaxError> {
        self.deeper(|parser| match parser.peek()? {
            Some('$') => {
                parser.at += 1;
                Ok(Value::Variable(parser.name()?))
            }
            Some('[') => {
                parser.at += 1;
                let mut values = Vec::new();
                while !parser.eat("]")? {
                    values.push(parser.value()?);
                }
                Ok(Value::List(values))
            }
            Some('{') => {
                parser.at += 1;
                let mut members = Vec::new();
                while !parser.eat("}")? {
                    let name = parser.name()?;
                    parser.expect(":")?;
                    members.push((name, parser.value()?));
                }
                Ok(Value::Object(members))
            }
            Some('"') => parser.text().map(|text| Value::Leaf(Json::String(text))),
            Some(c) if c == '-' || c.is_ascii_digit() => parser.number(),
            _ => Ok(Value::Leaf(match parser.name()?.as_str() {
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                "null" => Json::Null,
                word => Json::String(word.to_owned()),
            })),
        })
    }

    /// A text in quotes: JSON's escapes. (Block texts, in three quotes, no client needs.)
    fn text(&mut self) -> Result<String, SyntaxError> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.bytes().enumerate().skip(1).find_map(|(at, byte)| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends.then_some(at + 1)
        });
        let quoted = end.map(|end| &rest[..end]).ok_or_else(|| self.error("text without an end".into()))?;
        let text = serde_json::from_str(quoted).map_err(|error| self.error(format!("text: {error}")))?;
        self.at += quoted.len();
        Ok(text)
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(rest.len());
        let number = serde_json::from_str(&rest[..length]).map_err(|error| self.error(format!("number: {error}")))?;
        self.at += length;
        Ok(Value::Leaf(Json::Number(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fields(selection: &[Selection]) -> Vec<&Field> {
        selection
            .iter()
            .filter_map(|part| if let Selection::Field(field) = part { Some(field) } else { None })
            .collect()
    }

    #[test]
    fn reads_what_clients_write() {
        let query = parse(
            r#"query GetIt ($ids: [ID!]!, $limit: Int = 5, $no: Boolean!) {
                # only the newest
                mine: transactions (ids: $ids, first: $limit, tags: [{ name: "Type", values: ["A\n", "B"] }], sort: HEIGHT_DESC) {
                    edges { node { id @skip(if: $no) ...rest ... on Transaction @include(if: true) { anchor } } }
                }
            }
            fragment rest on Transaction { tags { name, value } }"#,
            None,
        )
        .unwrap();
        let field = fields(&query.selection)[0];
        assert_eq!((field.alias.as_str(), field.name.as_str()), ("mine", "transactions"));
        let given = json!({ "ids": ["x"] });
        let variables = Variables { given: given.as_object().unwrap(), defaults: &query.defaults };
        let arguments: Vec<_> =
            field.arguments.iter().map(|(name, value)| (name.as_str(), variables.resolve(value))).collect();
        assert_eq!(
            arguments,
            [
                ("ids", json!(["x"])),
                ("first", json!(5)),
                ("tags", json!([{ "name": "Type", "values": ["A\n", "B"] }])),
                ("sort", json!("HEIGHT_DESC"))
            ]
        );
        assert_eq!(fields(&query.fragments["rest"])[0].name, "tags");
    }

    #[test]
    fn picks_the_operation_that_is_named() {
        let text = "query A { a } query B { b }";
        assert_eq!(fields(&parse(text, Some("B")).unwrap().selection)[0].name, "b");
        assert!(parse(text, None).is_err());
        assert!(parse(text, Some("C")).is_err());
    }

    #[test]
    fn says_where_a_query_goes_wrong() {
        assert_eq!(parse("{ a( }", None).unwrap_err(), SyntaxError { at: 5, why: "expected a name".into() });
        assert!(parse("mutation { a }", None).unwrap_err().to_string().contains("found `mutation`"));
        assert!(parse(&"{a".repeat(50), None).unwrap_err().to_string().contains("nesting ends"));
        assert!(parse(&format!("{{ a(b: {}", "[".repeat(50)), None).unwrap_err().to_string().contains("nesting ends"));
        assert!(parse(&" ".repeat(QUERY_BYTES_MAX + 1), None).is_err());
        for cut in ["{", "{ a", "{ a(b: \"", "query ($", "query ($a: [", "fragment x", "{ ...", "{ a @"] {
            assert!(parse(cut, None).is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}()\\[\\]$:!@.,#\"\\\\a-c0-9 \né-]{0,80}") {
            let _ = parse(&text, None);
        }
    }
}
