//! Against items that the JavaScript signers made (`tests/items/make.mjs`), and against hostile bytes.

use proptest::prelude::*;
use serde::Deserialize;

use super::{bundle, *};

const GOLDEN: &str = include_str!("../../../tests/items/arbundles.json");

#[derive(Deserialize)]
struct Golden {
    jwk: serde_json::Value,
    items: Vec<GoldenItem>,
    bundle: GoldenBundle,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GoldenItem {
    name: String,
    id: String,
    signature_type: u16,
    signature: String,
    owner: String,
    target: String,
    anchor: String,
    tags: Vec<Tag>,
    data: String,
    raw: String,
}

#[derive(Deserialize)]
struct GoldenBundle {
    ids: Vec<String>,
    raw: String,
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN).unwrap()
}

fn wallet() -> Wallet {
    Wallet::from_jwk(&golden().jwk.to_string()).unwrap()
}

#[test]
fn items_made_in_javascript_read_the_same_here_and_write_back_the_same_bytes() {
    let golden = golden();
    assert_eq!(golden.items.len(), 24);
    for expected in golden.items {
        let raw = from_base64url(&expected.raw).unwrap();
        let item = DataItem::parse(&raw).unwrap();
        let name = &expected.name;
        assert_eq!(item.id_text(), expected.id, "{name}");
        assert_eq!(item.signature_type().number(), expected.signature_type, "{name}");
        assert_eq!(to_base64url(item.signature()), expected.signature, "{name}");
        assert_eq!(to_base64url(item.owner()), expected.owner, "{name}");
        assert_eq!(to_base64url(item.target().map_or(&[], |id| id)), expected.target, "{name}");
        assert_eq!(to_base64url(item.anchor().map_or(&[], |anchor| anchor)), expected.anchor, "{name}");
        assert_eq!(item.tags(), expected.tags, "{name}");
        assert_eq!(to_base64url(item.data()), expected.data, "{name}");
        assert!(item.to_bytes() == raw, "{name}");
    }
}

#[test]
fn signatures_made_in_javascript_verify_but_for_one_that_is_no_solana_signers() {
    for expected in golden().items {
        let item = DataItem::parse(&from_base64url(&expected.raw).unwrap()).unwrap();
        // `make.mjs` signs this one's deep hash itself, where Solana's signers and the verifier take its digits.
        let outcome = if expected.name == "solana" { Err(VerifyError::Invalid) } else { Ok(()) };
        assert_eq!(item.verify(), outcome, "{}", expected.name);
    }
}

#[derive(Deserialize)]
struct Signers {
    items: Vec<SignersItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignersItem {
    name: String,
    id: String,
    signature_type: u16,
    accepted: bool,
    raw: String,
}

fn signers() -> Vec<SignersItem> {
    let signers: Signers = serde_json::from_str(include_str!("../../../tests/items/signers.json")).unwrap();
    signers.items
}

/// What the network's verifier accepts and this one does not.
const STRICTER: [&str; 6] = [
    "multi aptos below its threshold",
    "multi aptos of nobody",
    "ethereum, v plus 2",
    "ethereum, the other v",
    "ethereum, v of 26",
    "typed ethereum, v plus 2",
];

#[test]
fn items_of_every_signer_verify_as_the_networks_verifier_says_but_for_a_list() {
    let items = signers();
    assert_eq!(items.len(), 50);
    for expected in &items {
        let item = DataItem::parse(&from_base64url(&expected.raw).unwrap()).unwrap();
        assert_eq!(item.signature_type().number(), expected.signature_type);
        assert_eq!(item.id_text(), expected.id);
        let valid = expected.accepted && !STRICTER.contains(&&*expected.name);
        assert_eq!(item.verify().is_ok(), valid, "{}: {:?}", expected.name, item.verify());
    }
    for stricter in STRICTER {
        assert!(items.iter().any(|item| item.name == stricter && item.accepted), "{stricter}");
    }
    let types: std::collections::BTreeSet<_> = items.iter().map(|item| item.signature_type).collect();
    assert_eq!(types.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn every_changed_bit_of_an_item_of_any_signer_breaks_its_signature() {
    // The second half is the same signers by the older library.
    let mut types = std::collections::BTreeSet::new();
    for expected in signers().into_iter().filter(|item| item.accepted) {
        let raw = from_base64url(&expected.raw).unwrap();
        if DataItem::parse(&raw).unwrap().verify().is_err() || !types.insert(expected.signature_type) {
            continue;
        }
        let bits = raw.len() * 8;
        for bit in 16..bits {
            let mut changed = raw.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // A change of the presence bytes, the lengths or the tags' encoding may be no item at all.
            let Ok(item) = DataItem::parse(&changed) else { continue };
            assert!(item.verify().is_err(), "{}: bit {bit} of {bits}", expected.name);
        }
    }
    assert_eq!(types.len(), 7);
}

#[test]
fn any_changed_byte_of_what_is_signed_breaks_the_signature() {
    let everything = golden().items.into_iter().find(|item| item.name == "everything").unwrap();
    let raw = from_base64url(&everything.raw).unwrap();
    // Signature, owner, target, anchor, a tag's value, data.
    for at in [10, 600, 1030, 1065, 1120, raw.len() - 1] {
        let mut changed = raw.clone();
        changed[at] ^= 1;
        let item = DataItem::parse(&changed).unwrap();
        assert_eq!(item.verify(), Err(VerifyError::Invalid), "byte {at}");
    }
}

#[test]
fn an_item_cut_anywhere_before_its_data_is_refused_with_the_place() {
    let everything = golden().items.into_iter().find(|item| item.name == "everything").unwrap();
    let raw = from_base64url(&everything.raw).unwrap();
    let item = DataItem::parse(&raw).unwrap();
    for length in 0..raw.len() - item.data().len() {
        let error = DataItem::parse(&raw[..length]).unwrap_err();
        assert!(matches!(error, ItemError::Truncated { length: found, .. } if found == length), "{length}: {error}");
    }
    assert_eq!(
        DataItem::parse(&raw[..600]).unwrap_err().to_string(),
        "data item of 600 bytes ends inside the owner, which needs 512 bytes from byte 514"
    );
}

#[test]
fn hostile_headers_are_refused_by_name() {
    let bare = golden().items.into_iter().find(|item| item.name == "bare").unwrap();
    let raw = from_base64url(&bare.raw).unwrap();
    let changed = |at: usize, bytes: &[u8]| {
        let mut raw = raw.clone();
        raw[at..at + bytes.len()].copy_from_slice(bytes);
        DataItem::parse(&raw).unwrap_err()
    };
    assert_eq!(changed(0, &[9, 1]), ItemError::UnknownSignatureType(265));
    assert_eq!(changed(1026, &[2]), ItemError::Presence { what: "target", at: 1026, found: 2 });
    assert_eq!(changed(1027, &[255]), ItemError::Presence { what: "anchor", at: 1027, found: 255 });
    assert_eq!(changed(1028, &[3]), ItemError::TagCount { announced: 3, found: 0 });
    assert!(matches!(changed(1036, &[255; 8]), ItemError::Tags { error: TagError::TooLong { found: u64::MAX }, .. }));
    assert!(matches!(changed(1036, &[200]), ItemError::Truncated { what: "the tags", at: 1044, needed: 200, .. }));
}

#[test]
fn a_wallet_signs_items_that_verify_here_and_in_arweave_rs() {
    let wallet = wallet();
    let draft =
        Draft { target: Some([7; 32]), anchor: Some([8; 32]), tags: vec![Tag::new("a", "b")], data: b"data".to_vec() };
    let item = wallet.sign(draft).unwrap();
    assert_eq!(item.verify(), Ok(()));
    arweave_rs::ArweaveSigner::verify(item.owner(), &item.signed_bytes(), item.signature()).unwrap();
    assert_eq!(DataItem::parse(&item.to_bytes()).unwrap(), item);
    assert_eq!(address_of(item.owner()), *wallet.address());
}

/// An item from the scheduler's JSON.
fn of_page(node: &serde_json::Value) -> DataItem {
    let text = |name: &str| node[name].as_str().unwrap_or_default();
    let bytes = |name: &str| from_base64url(text(name)).unwrap();
    let anchor = node["anchor"].as_str().map(|anchor| from_base64url(anchor).unwrap().try_into().unwrap());
    let draft = Draft {
        target: parse_id(text("target")),
        anchor,
        tags: serde_json::from_value(node["tags"].clone()).unwrap(),
        data: text("data").as_bytes().to_vec(),
    };
    let owner = from_base64url(node["owner"]["key"].as_str().unwrap()).unwrap();
    DataItem::assemble(SignatureType::Arweave, bytes("signature"), owner, draft).unwrap()
}

#[test]
fn messages_and_assignments_of_a_real_scheduler_page_verify() {
    let page: serde_json::Value = serde_json::from_str(include_str!("../../../tests/items/real-page.json")).unwrap();
    let edges = page["edges"].as_array().unwrap();
    assert_eq!(edges.len(), 2);
    for edge in edges {
        for part in ["message", "assignment"] {
            let node = &edge["node"][part];
            let item = of_page(node);
            assert_eq!(item.verify(), Ok(()), "{part}");
            assert_eq!(item.id_text(), node["id"], "{part}");
            assert_eq!(to_base64url(&address_of(item.owner())), node["owner"]["address"], "{part}");
        }
    }
}

#[test]
fn an_item_is_not_put_together_from_parts_of_wrong_lengths() {
    let assemble = |signature, owner| {
        DataItem::assemble(SignatureType::Ed25519, vec![0; signature], vec![0; owner], Draft::default())
    };
    assert!(assemble(64, 32).is_ok());
    assert!(matches!(assemble(63, 32), Err(ItemError::Length { what: "signature", expected: 64, found: 63, .. })));
    assert!(matches!(assemble(64, 512), Err(ItemError::Length { what: "owner", expected: 32, found: 512, .. })));
}

#[test]
fn a_wallet_signs_what_arweave_rs_would_with_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wallet.json");
    std::fs::write(&path, golden().jwk.to_string()).unwrap();
    let theirs = arweave_rs::ArweaveSigner::from_keypair_path(path).unwrap();
    let ours = wallet();
    assert_eq!(theirs.wallet_address().0, ours.address());
    assert_eq!(theirs.keypair_modulus().0, ours.owner());
    let signature = theirs.sign(b"message").unwrap().0;
    assert_eq!(signature::verify_rsa_pss(ours.owner(), b"message", &signature), Ok(()));
}

#[test]
fn a_signature_has_no_second_form_above_the_modulus() {
    // signature + modulus is the same number modulo the modulus: an item with two ids, if it were accepted.
    let wallet = wallet();
    let signature = (0..64).map(|_| wallet.sign_bytes(b"m")).find_map(|signature| {
        let mut sum = vec![0u8; signature.len()];
        let mut carry = 0u16;
        for at in (0..signature.len()).rev() {
            carry += u16::from(signature[at]) + u16::from(wallet.owner()[at]);
            sum[at] = carry as u8;
            carry >>= 8;
        }
        (carry == 0).then_some(sum)
    });
    let signature = signature.expect("a quarter of all signatures are small enough for this modulus");
    assert_eq!(signature::verify_rsa_pss(wallet.owner(), b"m", &signature), Err(VerifyError::Invalid));
}

#[test]
fn wallets_that_are_not_arweave_wallets_are_refused_by_reason() {
    let with = |name: &str, value: serde_json::Value| {
        let mut jwk = golden().jwk;
        jwk[name] = value;
        Wallet::from_jwk(&jwk.to_string()).unwrap_err()
    };
    assert!(matches!(Wallet::from_jwk("{}"), Err(WalletError::NotAJwk(_))));
    assert!(matches!(with("kty", "EC".into()), WalletError::NotAJwk(_)));
    assert_eq!(with("q", "!".into()), WalletError::NotBase64("q"));
    assert_eq!(with("n", "AQAB".into()), WalletError::NotArweave { bits: 24 });
    assert!(matches!(with("d", "AQAB".into()), WalletError::Inconsistent(_)));
    assert!(!format!("{:?}", wallet()).contains(golden().jwk["d"].as_str().unwrap()));
}

#[test]
fn a_bundle_made_in_javascript_reads_and_writes_back_the_same() {
    let golden = golden().bundle;
    let carrier = DataItem::parse(&from_base64url(&golden.raw).unwrap());
    // `bundleAndSignData` gives the bundle itself, not an item that carries it.
    assert!(carrier.is_err());
    let raw = from_base64url(&golden.raw).unwrap();
    let items = bundle::read(&raw).unwrap();
    assert_eq!(items.iter().map(DataItem::id_text).collect::<Vec<_>>(), golden.ids);
    assert!(bundle::write(&items) == raw);
    for length in 0..raw.len() {
        assert!(bundle::read(&raw[..length]).is_err(), "{length}");
    }
    let mut longer = raw.clone();
    longer.push(0);
    assert!(matches!(bundle::read(&longer), Err(bundle::BundleError::Trailing { trailing: 1, .. })));
    let mut other_id = raw.clone();
    other_id[70] ^= 1;
    assert!(matches!(bundle::read(&other_id), Err(bundle::BundleError::Id { index: 0, .. })));
    let mut huge = raw;
    huge[..32].fill(0xff);
    assert!(matches!(bundle::read(&huge), Err(bundle::BundleError::TooMany)));
}

#[test]
fn an_empty_bundle_is_a_bundle() {
    assert_eq!(bundle::read(&bundle::write(&[])).unwrap(), Vec::new());
}

#[test]
fn ids_are_43_characters_of_base64url_and_nothing_else() {
    let id = [0xfb; 32];
    assert_eq!(parse_id(&to_base64url(&id)), Some(id));
    for text in ["", "a", &"=".repeat(43), &"a".repeat(44), &"é".repeat(21)] {
        assert_eq!(parse_id(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn reading_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..1500), kind in 0u8..9) {
        let mut bytes = bytes;
        if bytes.len() > 1 {
            bytes[0] = kind;
            bytes[1] = 0;
        }
        let _ = DataItem::parse(&bytes);
        let _ = bundle::read(&bytes);
    }

    #[test]
    fn reading_a_damaged_item_never_panics_and_what_is_read_writes_back(at in 0usize..1200, byte in any::<u8>()) {
        let everything = golden().items.into_iter().find(|item| item.name == "everything").unwrap();
        let mut raw = from_base64url(&everything.raw).unwrap();
        let at = at % raw.len();
        raw[at] = byte;
        if let Ok(item) = DataItem::parse(&raw) {
            prop_assert!(item.to_bytes() == raw);
        }
    }
}
