//! Tags: an ordered list of names and values, repeats allowed.

use serde::{Deserialize, Serialize};

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Tag {
    /// A tag.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// Most bytes of a process's or a module's tags. (Data items may have 4096, base-layer transactions 2048.) They are kept
/// in memory and go into every evaluation.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 10;

/// Tags in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(pub Vec<Tag>);

impl Tags {
    /// The first value of `name`.
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Every value of `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |tag| tag.name == name).map(|tag| tag.value.as_str())
    }

    /// The value of `name` if it stands there exactly once.
    pub fn only<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Whether some tag has this name and value.
    pub fn contains(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|v| v == value)
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|tag| tag.name.len() + tag.value.len()).sum()
    }

    /// What the guest may see of a message's tags: all but those named exactly `From` or `Owner`, which would pass for
    /// the message's own `From` and `Owner`.
    pub fn visible(&self) -> impl Iterator<Item = &Tag> {
        self.0.iter().filter(|tag| tag.name != "From" && tag.name != "Owner")
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| Tag::new(name, value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_from_and_owner_to_the_letter_are_hidden() {
        let tags: Tags = [("From", "a"), ("from", "b"), ("Owner", "c"), ("Owner-Of", "d")].into_iter().collect();
        let left: Vec<_> = tags.visible().map(|t| t.name.as_str()).collect();
        assert_eq!(left, ["from", "Owner-Of"]);
    }

    #[test]
    fn a_repeated_tag_has_a_first_value_but_no_only_value() {
        let tags: Tags = [("A", "1"), ("A", "2"), ("B", "3")].into_iter().collect();
        assert_eq!(tags.first("A"), Some("1"));
        assert_eq!(tags.only("A"), None);
        assert_eq!(tags.only("B"), Some("3"));
        assert_eq!(tags.only("C"), None);
        assert!(tags.contains("A", "2") && !tags.contains("A", "3"));
    }
}
