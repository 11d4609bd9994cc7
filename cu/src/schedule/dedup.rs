//! What tells that a pushed message came twice: the ANS-104 deep hash of its content, without its signer.
//!
//! The reference reads its owner-less item as if it had an owner of 512 bytes, so that about 18 bytes of a longer item do
//! not count. Its keys are shown nowhere; here all of the content counts, and no two different messages are taken for one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha384};

use crate::{ids, message::Item, tags::Tags};

/// Signature type that the network's units put in: RSA.
const SIGNATURE_TYPE: &[u8] = b"1";

/// Base64 of the deep hash (48 bytes) over the item's data, tags, target and anchor, its owner left empty. Data that is
/// no text counts as its JSON; none or null as empty.
pub(crate) fn deep_hash(item: &Item) -> String {
    let data = match &item.data {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let anchor = item.anchor.clone().flatten().unwrap_or_default();
    let target = ids::decode_leniently(&item.target);
    let parts: [&[u8]; 8] =
        [b"dataitem", b"1", SIGNATURE_TYPE, b"", &target, anchor.as_bytes(), &avro(&item.tags), data.as_bytes()];
    let mut hash = Sha384::digest(format!("list{}", parts.len()));
    for part in parts {
        let mut pair = hash.to_vec();
        pair.extend_from_slice(&blob(part));
        hash = Sha384::digest(pair);
    }
    STANDARD.encode(hash)
}

fn blob(bytes: &[u8]) -> [u8; 48] {
    let mut pair = [0; 96];
    pair[..48].copy_from_slice(&Sha384::digest(format!("blob{}", bytes.len())));
    pair[48..].copy_from_slice(&Sha384::digest(bytes));
    Sha384::digest(pair).into()
}

/// Tags as Avro: one block of pairs, then an empty block; nothing at all where there are none.
fn avro(tags: &Tags) -> Vec<u8> {
    let mut bytes = Vec::new();
    if tags.0.is_empty() {
        return bytes;
    }
    push_long(&mut bytes, tags.0.len() as u64);
    for tag in &tags.0 {
        for text in [&tag.name, &tag.value] {
            push_long(&mut bytes, text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes.push(0);
    bytes
}

/// An Avro long: zigzag, then seven bits a byte, lowest first.
fn push_long(bytes: &mut Vec<u8>, number: u64) {
    let mut zigzag = number << 1;
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str = "Wd2fjXQc3mJwpQrDMNHftGrVHWi4-2zL_Q_Ev4SbLXk";

    fn hash(data: &str, tags: Tags, anchor: Option<&str>) -> String {
        deep_hash(&Item {
            id: "any".into(),
            signature: None,
            data: Some(data.into()),
            owner: "any".into(),
            target: PROCESS.into(),
            anchor: Some(anchor.map(str::to_owned)),
            tags,
            sent: true,
        })
    }

    /// Expected values: `deepHash` and `serializeTags` of the npm package warp-arbundles 1.0.4 on the same parts.
    #[test]
    fn equals_the_deep_hash_of_the_parts_without_owner() {
        let tags = [("From-Process", PROCESS), ("Action", "Eval é")].into_iter().collect();
        assert_eq!(
            hash("return 1+1", tags, Some("00000000000000000000000000000042")),
            "Gtf8ld2/9ndvY+TAqNoRjKTA8YvP3WmPPn2fUqHnVlF80Lq61ZMzeFt+fA+OOvGU"
        );
        assert_eq!(hash("", Tags::default(), None), "fIDl8AQ0zFWcb8opYfzyTN30ylvMHGpvpFRPB/EAekp3WApqKjIyPuW0Xip/5MvU");
        let many = (0..70).map(|i| (format!("n{i}"), "v".repeat(i + 1))).collect();
        assert_eq!(
            hash(&"x".repeat(300), many, None),
            "o/bsCiNLkXmLryf6zzwRW48RjffWJb4VJ/0+sQL9XfXOYZ2/5Os9L26++gLxVdeO"
        );
    }

    #[test]
    fn data_that_is_missing_or_null_counts_as_empty() {
        let mut item = Item {
            id: "any".into(),
            signature: None,
            data: Some("".into()),
            owner: "any".into(),
            target: PROCESS.into(),
            anchor: None,
            tags: Tags::default(),
            sent: true,
        };
        let empty = deep_hash(&item);
        item.data = None;
        assert_eq!(deep_hash(&item), empty);
        item.data = Some(serde_json::Value::Null);
        assert_eq!(deep_hash(&item), empty);
        item.data = Some("x".into());
        assert_ne!(deep_hash(&item), empty);
    }
}
