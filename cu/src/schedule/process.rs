//! A process as its scheduler describes it, verified.

use serde_json::Value;
use url::Url;

use crate::{
    Error,
    shape::{At, Field, Mismatch},
    tags::{KEPT_BYTES_MAX, Tags},
};

/// A verified process: it speaks ao, is a process, and names a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: String,
    /// The owner's address (an Ethereum address where the key is one).
    pub owner: String,
    /// All its tags, unfiltered.
    pub tags: Tags,
    /// Id of its module (tag `Module`).
    pub module_id: String,
    /// Arweave block height at its birth, as the scheduler says.
    pub block_height: u64,
    /// Its birth, ms since 1970, as the scheduler says.
    pub timestamp: u64,
    /// `None`: the scheduler left it out; `Some(None)`: it is null.
    pub signature: Field,
    /// `None`: the scheduler left it out; `Some(None)`: it is null.
    pub anchor: Field,
    /// Where its schedule is.
    pub scheduler: Url,
}

impl Process {
    /// Reads the scheduler's answer to `/processes/{id}`.
    pub(crate) fn read(answer: &Value, id: &str, scheduler: Url) -> Result<Self, Mismatch> {
        let root = At::root(answer);
        let own = root.member("process_id");
        if own.is_some() && own.text()? != id {
            return Err(own.mismatch(&format!("process {id}")));
        }
        let tags = root.member("tags").tags()?;
        Ok(Self {
            id: id.to_owned(),
            owner: root.member("owner").account()?,
            module_id: tags.first("Module").unwrap_or_default().to_owned(),
            tags,
            block_height: root.member("block").whole()?,
            timestamp: root.member("timestamp").whole()?,
            signature: root.member("signature").field()?,
            anchor: root.member("anchor").field()?,
            scheduler,
        })
    }

    /// Refuses what is no process of ao.
    ///
    /// # Errors
    /// [`Error::Upstream`] `Tag 'X': ...`, as the reference has it; [`Error::Unprocessable`] for more than one module, or
    /// for tags without end.
    pub(crate) fn verified(self) -> Result<Self, Error> {
        let length = |field: &Field| field.iter().flatten().map(String::len).sum::<usize>();
        let bytes = self.tags.bytes() + length(&self.signature) + length(&self.anchor) + self.owner.len();
        if bytes > KEPT_BYTES_MAX {
            let text = format!(
                "process {}: expected at most {KEPT_BYTES_MAX} bytes of tags, signature and anchor, found {bytes}",
                self.id
            );
            return Err(Error::Unprocessable(text));
        }
        for (name, value) in [("Data-Protocol", "ao"), ("Type", "Process")] {
            if !self.tags.contains(name, value) {
                return Err(Error::Upstream(format!("Tag '{name}': value '{value}' was not found on process")));
            }
        }
        match self.tags.all("Module").count() {
            1 => Ok(self),
            0 => Err(Error::Upstream("Tag 'Module': was not found on process".to_owned())),
            n => Err(Error::Unprocessable(format!("Tag 'Module': expected one on process {}, found {n}", self.id))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(tags: &[(&str, &str)]) -> Value {
        let tags: Vec<_> = tags.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        json!({
            "process_id": "P", "block": "000001690000", "owner": {"address": "boss", "key": "AQAB"}, "tags": tags,
            "timestamp": 1_750_000_075_581u64, "data": "1984", "anchor": null, "signature": "sig", "target": null,
        })
    }

    fn read(tags: &[(&str, &str)]) -> Result<Process, Error> {
        Process::read(&answer(tags), "P", Url::parse("http://su").unwrap()).unwrap().verified()
    }

    #[test]
    fn a_process_is_read_with_its_padded_block() {
        let process =
            read(&[("Data-Protocol", "x"), ("Data-Protocol", "ao"), ("Type", "Process"), ("Module", "M")]).unwrap();
        assert_eq!((process.block_height, process.timestamp), (1_690_000, 1_750_000_075_581));
        assert_eq!((process.module_id.as_str(), process.owner.as_str()), ("M", "boss"));
        assert_eq!((process.signature, process.anchor), (Some(Some("sig".into())), Some(None)));
    }

    #[test]
    fn what_is_no_process_is_refused_by_its_tag() {
        for (tags, text) in [
            (&[("Type", "Process"), ("Module", "M")][..], "Tag 'Data-Protocol': value 'ao' was not found on process"),
            (&[("Data-Protocol", "ao"), ("Type", "Message")], "Tag 'Type': value 'Process' was not found on process"),
            (&[("Data-Protocol", "ao"), ("Type", "Process")], "Tag 'Module': was not found on process"),
        ] {
            match read(tags) {
                Err(Error::Upstream(found)) => assert_eq!(found, text),
                other => panic!("{other:?}"),
            }
        }
        let two = [("Data-Protocol", "ao"), ("Type", "Process"), ("Module", "M"), ("Module", "N")];
        assert!(matches!(read(&two), Err(Error::Unprocessable(_))));
        let long = "x".repeat(KEPT_BYTES_MAX);
        let large = [("Data-Protocol", "ao"), ("Type", "Process"), ("Module", "M"), ("Name", &long)];
        assert!(matches!(read(&large), Err(Error::Unprocessable(_))));
    }

    #[test]
    fn another_process_than_asked_for_is_refused() {
        let other = Process::read(&answer(&[]), "Q", Url::parse("http://su").unwrap());
        assert_eq!(other.unwrap_err(), "process_id: expected process Q, found the string \"P\"");
    }
}
