//! Query parameters, checked with the reference's words.

use axum::http::Uri;
use url::form_urlencoded;

use super::{failure::Failure, number};

/// The parameters of one request, in order, decoded.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

/// One parameter, with every value it was given.
pub enum Param<'a> {
    /// Not there.
    Absent,
    /// There once.
    One(&'a str),
    /// There more than once.
    Many(Vec<&'a str>),
}

impl Query {
    /// The parameters of `uri`; bytes that are not UTF-8 become U+FFFD.
    pub fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Every value of `name`.
    pub fn param(&self, name: &str) -> Param<'_> {
        let values: Vec<_> = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        match values.as_slice() {
            [] => Param::Absent,
            [one] => Param::One(one),
            _ => Param::Many(values),
        }
    }

    /// Whether `name` is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// The values of `name` as JavaScript would print them: several joined by commas.
    pub fn joined(&self, name: &str) -> Option<String> {
        match self.param(name) {
            Param::Absent => None,
            Param::One(text) => Some(text.to_owned()),
            Param::Many(values) => Some(values.join(",")),
        }
    }

    /// A text that may not be empty: `field` and `if_empty` are for the error.
    pub fn text(&self, name: &str, field: &str, if_empty: &str) -> Result<Option<&str>, Failure> {
        match self.param(name) {
            Param::Absent => Ok(None),
            Param::One("") => Err(Failure::invalid(format!("'{field}': {if_empty}."))),
            Param::One(text) => Ok(Some(text)),
            Param::Many(_) => Err(Failure::invalid(format!("'{field}': Expected string, received array."))),
        }
    }

    /// Like [`Query::text`], for one that must be there.
    pub fn required(&self, name: &str, field: &str, if_empty: &str) -> Result<&str, Failure> {
        self.text(name, field, if_empty)?.ok_or_else(|| Failure::invalid(format!("'{field}': Required.")))
    }

    /// A number of things: at most `max`; absent: `default`; negative: 0.
    pub fn count(&self, name: &str, max: f64, default: u64) -> Result<u64, Failure> {
        let Some(text) = self.joined(name) else {
            return Ok(default);
        };
        let count = number::from_text(&text);
        let wrong = |what: String| Err(Failure::invalid(format!("'{name}': {what}.")));
        if count.is_nan() {
            return wrong("Expected number, received nan".to_owned());
        }
        if count > max {
            return wrong(format!("Number must be less than or equal to {max}"));
        }
        if count.fract() != 0.0 {
            return wrong("Expected integer, received float".to_owned());
        }
        Ok(number::to_u64(count).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn parameters_are_decoded_and_keep_raw_equals_signs() {
        assert_eq!(query("from=eyJ9==&limit=50").joined("from").as_deref(), Some("eyJ9=="));
        assert_eq!(query("from=eyJ9%3D%3D").joined("from").as_deref(), Some("eyJ9=="));
        assert_eq!(query("a=1+2&a=3").joined("a").as_deref(), Some("1 2,3"));
        assert!(query("no-busy").has("no-busy") && !query("x").has("no-busy"));
    }

    #[test]
    fn counts_are_whole_numbers_up_to_their_bound() {
        let count = |text: &str| query(text).count("limit", 1000.0, 500).ok();
        assert_eq!(count(""), Some(500));
        assert_eq!(count("limit="), Some(0));
        assert_eq!(count("limit=-1"), Some(0));
        assert_eq!(count("limit=1000"), Some(1000));
        assert_eq!(count("limit=1e2"), Some(100));
        for bad in ["limit=1001", "limit=2.5", "limit=abc", "limit=1&limit=2", "limit=Infinity"] {
            assert_eq!(count(bad), None, "{bad}");
        }
    }
}
