//! A stand-in gateway that has what it is given, and what the witness makes of it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::{Value, json};
use url::Url;

use super::{
    super::{Cpu, SignatureLabels},
    *,
};
use crate::item::{DataItem, Draft, Tag, Wallet, to_base64url};

/// What an item's gateway answers: its description, its data, and its transaction of the base layer.
#[derive(Clone, Default)]
struct Entry {
    node: Value,
    data: Vec<u8>,
    layer1: Option<Value>,
}

struct StandIn {
    url: Url,
    asked: Arc<AtomicUsize>,
}

/// A gateway with one entry, or one that never answers.
fn gateway(entry: Option<Entry>) -> StandIn {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (entry, counter) = (entry.clone(), counter.clone());
            thread::spawn(move || {
                counter.fetch_add(1, Ordering::Relaxed);
                match entry {
                    Some(entry) => serve(stream.unwrap(), &entry),
                    None => thread::sleep(Duration::from_secs(60)),
                }
            });
        }
    });
    StandIn { url, asked }
}

fn serve(mut stream: TcpStream, entry: &Entry) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let id = entry.node["id"].as_str().unwrap_or("nothing");
    let text = String::from_utf8_lossy(&body);
    let answer = if head.starts_with("POST /graphql") {
        let edges = if text.contains(id) { vec![json!({"node": entry.node})] } else { Vec::new() };
        Some(json!({"data": {"transactions": {"edges": edges}}}).to_string().into_bytes())
    } else if head.starts_with(&format!("GET /raw/{id}")) {
        Some(entry.data.clone())
    } else if head.starts_with(&format!("GET /tx/{id}")) {
        entry.layer1.as_ref().map(|layer1| layer1.to_string().into_bytes())
    } else {
        None
    };
    let (status, body) = answer.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).unwrap();
}

fn witness(policy: Policy, gateway: &StandIn) -> Arc<Witness> {
    let gateway = Arc::new(Gateway::stand_in(&gateway.url).unwrap());
    Arc::new(Witness::new(policy, Box::new(Cpu::all()), gateway, 1 << 20).unwrap())
}

fn item(anchor: Option<[u8; 32]>, data: &[u8]) -> DataItem {
    let wallet = Wallet::from_jwk(include_str!("../../../../api/src/devnet/wallets/PUBLIC-user.json")).unwrap();
    let draft = Draft { target: Some([7; 32]), anchor, tags: vec![Tag::new("Type", "Message")], data: data.to_vec() };
    wallet.sign(draft).unwrap()
}

/// As gateways describe it.
fn entry(item: &DataItem) -> Entry {
    let node = json!({
        "id": item.id_text(), "signature": to_base64url(item.signature()), "recipient": to_base64url(item.target().unwrap()),
        "anchor": item.anchor().map_or(String::new(), |anchor| to_base64url(anchor)), "tags": item.tags(),
        "owner": {"address": to_base64url(&crate::item::address_of(item.owner())), "key": to_base64url(item.owner())},
    });
    Entry { node, data: item.data().to_vec(), layer1: None }
}

/// As schedulers write it, after a change.
fn page(item: &DataItem, change: impl Fn(&mut Value)) -> Vec<u8> {
    let Entry { node, .. } = entry(item);
    let anchor = item.anchor().and_then(|anchor| std::str::from_utf8(anchor).ok());
    let mut message = json!({
        "id": node["id"], "signature": node["signature"], "owner": node["owner"], "target": node["recipient"],
        "tags": node["tags"], "anchor": anchor, "data": String::from_utf8_lossy(item.data()),
    });
    change(&mut message);
    let assignment = json!({"id": "assignment", "tags": [{"name": "Message", "value": node["id"]}]});
    let edges = json!([{"node": {"message": message, "assignment": assignment}}]);
    json!({"page_info": {"has_next_page": false}, "edges": edges}).to_string().into_bytes()
}

async fn why(witness: &Arc<Witness>, page: Vec<u8>) -> Option<String> {
    witness.check_document(page).await.unwrap().why("assignment").await
}

fn counted(witness: &Witness, outcome: &'static str, place: &'static str) -> u64 {
    let of = |scheme| SignatureLabels { scheme, outcome, place };
    ["arweave", "unknown"].map(|scheme| witness.signatures().get_or_create(&of(scheme)).get()).iter().sum()
}

#[tokio::test]
async fn what_the_schedulers_words_lost_the_gateway_confirms_once() {
    for (anchor, data) in [(Some([0xff; 32]), &b"text"[..]), (None, b"\xff\xfe\0\x01"), (Some([b'a'; 32]), b"\xff")] {
        let item = item(anchor, data);
        let gateway = gateway(Some(entry(&item)));
        let witness = witness(Policy::Enforce, &gateway);
        assert_eq!(why(&witness, page(&item, |_| {})).await, None);
        assert_eq!(counted(&witness, "valid", "message"), 1);
        let asked = gateway.asked.load(Ordering::Relaxed);
        assert_eq!(why(&witness, page(&item, |_| {})).await, None);
        assert_eq!((counted(&witness, "valid", "message"), gateway.asked.load(Ordering::Relaxed)), (2, asked));
    }
}

#[tokio::test]
async fn what_the_scheduler_changed_of_an_item_without_anchor_is_caught() {
    let item = item(None, b"as it was signed");
    let gateway = gateway(Some(entry(&item)));
    for (what, change) in [
        ("data", (|m| m["data"] = json!("another")) as fn(&mut Value)),
        ("data", |m| m["data"] = Value::Null),
        ("tags", |m| m["tags"][0]["value"] = json!("Process")),
        ("target", |m| m["target"] = m["id"].clone()),
    ] {
        let witness = witness(Policy::Enforce, &gateway);
        let why = why(&witness, page(&item, change)).await.unwrap();
        let id = item.id_text();
        assert_eq!(why, format!("message {id} is not signed as it stands: its {what} is not what the owner signed"));
        assert_eq!(counted(&witness, "invalid", "message"), 1);
    }
    // Without the key nothing can be told from the page.
    let witness = witness(Policy::Enforce, &gateway);
    let keyless = |m: &mut Value| (m["owner"]["key"], m["owner"]["address"]) = (Value::Null, m["id"].clone());
    let why = why(&witness, page(&item, keyless)).await.unwrap();
    assert!(why.ends_with("its owner's address is not what the owner signed"), "{why}");
}

#[tokio::test]
async fn what_the_gateway_lacks_is_unverifiable_and_not_asked_for_again() {
    let item = item(None, b"as it was signed");
    let gateway = gateway(Some(Entry::default()));
    let witness = witness(Policy::Enforce, &gateway);
    let changed = || page(&item, |m| m["data"] = json!("another"));
    assert_eq!(why(&witness, changed()).await, None);
    let asked = gateway.asked.load(Ordering::Relaxed);
    assert_eq!(why(&witness, changed()).await, None);
    assert_eq!(gateway.asked.load(Ordering::Relaxed), asked);
    assert_eq!((counted(&witness, "unverifiable", "message"), counted(&witness, "invalid", "message")), (2, 0));
}

#[tokio::test]
async fn a_gateway_that_lies_confirms_and_accuses_nobody() {
    let item = item(None, b"as it was signed");
    let gateway = gateway(Some(Entry { data: b"another".to_vec(), ..entry(&item) }));
    let witness = witness(Policy::Enforce, &gateway);
    assert_eq!(why(&witness, page(&item, |m| m["data"] = json!("another"))).await, None);
    assert_eq!(counted(&witness, "unverifiable", "message"), 1);
}

#[tokio::test]
async fn reporting_waits_for_no_gateway() {
    let item = item(None, b"as it was signed");
    let gateway = gateway(None);
    let witness = witness(Policy::Report, &gateway);
    let begun = Instant::now();
    assert_eq!(why(&witness, page(&item, |m| m["data"] = json!("another"))).await, None);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for _ in 0..1000 {
        if counted(&witness, "unverifiable", "message") == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the gateway was waited for without end");
}

#[tokio::test]
async fn what_the_gateway_gives_is_checked_and_under_enforcement_refused_by_name() {
    let item = item(None, b"a module");
    let right = entry(&item);
    let mut other_tag = right.clone();
    other_tag.node["tags"][0]["value"] = json!("another");
    let mut keyless = right.clone();
    keyless.node["owner"]["key"] = json!("<not-found>");
    let other_data = Entry { data: b"another".to_vec(), ..right.clone() };
    for (entry, outcome) in
        [(right, "valid"), (other_tag, "invalid"), (other_data, "invalid"), (keyless, "unverifiable")]
    {
        let gateway = gateway(Some(entry.clone()));
        for policy in [Policy::Enforce, Policy::Report] {
            let witness = witness(policy, &gateway);
            let (asked, id) = (witness.gateway.clone(), item.id_text());
            let found = async move { Ok(asked.transaction(&id, Without::default()).await?.unwrap()) };
            let data: Arc<[u8]> = entry.data.clone().into();
            let given = witness.check_given("module", &item.id_text(), found, data).await.unwrap();
            let is_refused = policy == Policy::Enforce && outcome == "invalid";
            assert_eq!(given.is_err(), is_refused, "{outcome}");
            if let Err(why) = given {
                assert!(why.starts_with(&format!("module {} is not signed as it stands", item.id_text())), "{why}");
            }
            for _ in 0..500 {
                if counted(&witness, outcome, "module") == 1 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(counted(&witness, outcome, "module"), 1, "{outcome} {policy:?}");
        }
    }
}

#[tokio::test]
async fn base_layer_transactions_are_recognised() {
    let file: Value = serde_json::from_str(include_str!("../../../../tests/items/transactions.json")).unwrap();
    for (name, layer1) in ["transactions", "legacy"].iter().flat_map(|kind| file[kind].as_object().unwrap()) {
        let bytes = |text: &Value| crate::item::from_base64url(text.as_str().unwrap_or_default()).unwrap();
        let text = |value: &Value| String::from_utf8(bytes(value)).unwrap();
        let tags = layer1["tags"].as_array().unwrap().iter();
        let tags: Vec<_> = tags.map(|tag| json!({"name": text(&tag["name"]), "value": text(&tag["value"])})).collect();
        let data = bytes(&layer1["data"]);
        let owner = json!({"address": to_base64url(&Sha256::digest(bytes(&layer1["owner"]))), "key": layer1["owner"]});
        let node = json!({
            "id": layer1["id"], "signature": layer1["signature"], "recipient": layer1["target"],
            "anchor": layer1["last_tx"], "tags": tags, "owner": owner,
        });
        let gateway = gateway(Some(Entry { node, data: data.clone(), layer1: Some(layer1.clone()) }));
        let witness = witness(Policy::Enforce, &gateway);
        for changed in [false, true] {
            let mut data = data.clone();
            if changed && data.is_empty() {
                continue;
            }
            if changed {
                data[0] ^= 1;
            }
            let (asked, id) = (witness.gateway.clone(), layer1["id"].as_str().unwrap().to_owned());
            let of = id.clone();
            let found = async move { Ok(asked.transaction(&of, Without::default()).await?.unwrap()) };
            let given = witness.check_given("assigned", &id, found, data.into()).await.unwrap();
            assert_eq!(given.is_err(), changed, "{name}: {given:?}");
        }
    }
}
