//! The whole unit on the whole development network: what it does about signatures that do not hold.

use std::sync::Arc;

use lockstep_cu::item::{DataItem, Draft, Id, SignatureType, Tag};
use serde_json::Value;

use super::{super::demo, Server};
use crate::{
    devnet::{Devnet, testkit},
    settings::Settings,
};

const ANCHOR: [u8; 32] = *b"an anchor has thirty-two bytes..";

/// A counter on a network, with three messages of which the second is not what its owner signed.
struct Network {
    devnet: Devnet,
    process: DataItem,
    messages: Vec<DataItem>,
}

async fn network() -> Network {
    let devnet = testkit::network(None).await;
    let module = demo::publish_counter(&devnet).await.unwrap();
    let messages = |process: &Id| (0..3).map(|nth| message(process, nth, nth == 1)).collect();
    scheduled(devnet, &module, messages)
}

/// A counter on a network whose gateway gives a module with a section more than its owner signed.
async fn network_with_another_module() -> Network {
    let devnet = testkit::network(None).await;
    let signed = demo::counter_module();
    // A custom section of no content, named x: the module does what it did.
    let data = [signed.data(), &[0, 2, 1, b'x']].concat();
    let (signature, owner) = (signed.signature().to_vec(), signed.owner().to_vec());
    let draft = Draft { tags: signed.tags().to_vec(), data, ..Draft::default() };
    let module = DataItem::assemble(SignatureType::Arweave, signature, owner, draft).unwrap();
    assert_eq!(module.id(), signed.id());
    devnet.scheduler().ledger().insert_item(Arc::new(module));
    scheduled(devnet, &signed.id_text(), |process| vec![message(process, 0, false)])
}

/// A process of this module and its messages.
fn scheduled(devnet: Devnet, module: &str, messages: impl FnOnce(&Id) -> Vec<DataItem>) -> Network {
    let tags = demo::counter_tags(module, &devnet);
    let process = testkit::user().sign(Draft { tags, data: b"boot".to_vec(), ..Draft::default() }).unwrap();
    devnet.scheduler().post(&process.to_bytes()).unwrap();
    let messages = messages(&process.id());
    for message in &messages {
        // As a scheduler would that checks nothing.
        devnet.scheduler().post_verified(Arc::new(message.clone())).unwrap();
    }
    Network { devnet, process, messages }
}

fn message(target: &Id, nth: u8, changed: bool) -> DataItem {
    let tags = [("Data-Protocol", "ao"), ("Type", "Message"), ("Action", "Increment")];
    let tags = tags.into_iter().map(|(name, value)| Tag::new(name, value)).collect();
    let draft = Draft { target: Some(*target), anchor: Some(ANCHOR), tags, data: vec![b'a' + 2 * nth] };
    let mut bytes = testkit::user().sign(draft).unwrap().to_bytes();
    if changed {
        *bytes.last_mut().unwrap() ^= 1;
    }
    DataItem::parse(&bytes).unwrap()
}

/// Status and body of each message's result, in order; and the metrics.
async fn results(network: &Network, policy: &'static str) -> (Vec<(u16, Value)>, String) {
    let directory = tempfile::tempdir().unwrap();
    let urls = network.devnet.urls();
    let settings = Settings::with(&[
        ("listen", "127.0.0.1:0"),
        ("data", directory.path().to_str().unwrap()),
        ("su_url", urls.scheduler.as_str()),
        ("gateway_url", urls.gateway.as_str()),
        ("verify", policy),
    ]);
    let unit = Server::start(&settings.unwrap()).await.unwrap();
    let url = format!("http://{}", unit.address()).parse().unwrap();
    let mut results = Vec::new();
    for message in &network.messages {
        let path = format!("/result/{}?process-id={}", message.id_text(), network.process.id_text());
        let answer = testkit::get(&url, &path).await;
        results.push((answer.status, answer.json()));
    }
    let metrics = testkit::get(&url, "/metrics").await.text;
    unit.stop().await;
    (results, metrics)
}

fn counted(metrics: &str, outcome: &str, place: &str) -> bool {
    let labels = format!("{{scheme=\"arweave\",outcome=\"{outcome}\",place=\"{place}\"}}");
    metrics.lines().any(|line| line.starts_with(&format!("lockstep_signatures_total{labels}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn enforced_a_message_with_a_flipped_bit_is_never_evaluated_and_named_to_whoever_asks() {
    let network = network().await;
    let (results, metrics) = results(&network, "enforce").await;
    assert_eq!((results[0].0, &results[0].1["Output"]["data"]), (200, &Value::from("1")), "{:?}", results[0]);
    let id = network.messages[1].id_text();
    for (status, body) in &results[1..] {
        assert!(*status >= 500, "{status} {body}");
        assert!(body.to_string().contains(&format!("message {id} is not signed as it stands")), "{body}");
    }
    assert!(counted(&metrics, "invalid", "message"), "{metrics}");
    for place in ["process", "message", "assignment"] {
        assert!(counted(&metrics, "valid", place), "{place}: {metrics}");
    }
    network.devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reported_or_not_looked_at_a_message_with_a_flipped_bit_is_evaluated_with_the_others() {
    let network = network().await;
    for policy in ["report", "off"] {
        let (results, metrics) = results(&network, policy).await;
        let counts: Vec<_> = results.iter().map(|(status, body)| (*status, body["Output"]["data"].clone())).collect();
        assert_eq!(counts, [(200, "1".into()), (200, "2".into()), (200, "3".into())], "{policy}");
        assert_eq!(counted(&metrics, "invalid", "message"), policy == "report", "{metrics}");
    }
    network.devnet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_not_what_was_signed_is_refused_where_that_is_enforced_and_else_reported() {
    let network = network_with_another_module().await;
    for policy in ["off", "report", "enforce"] {
        let (results, metrics) = results(&network, policy).await;
        let (status, body) = &results[0];
        if policy == "enforce" {
            assert!(*status >= 500, "{status} {body}");
            assert!(
                body.to_string().contains("module ") && body.to_string().contains("not signed as it stands"),
                "{body}"
            );
        } else {
            assert_eq!((*status, &body["Output"]["data"]), (200, &Value::from("1")), "{policy}: {body}");
        }
        // Nobody waits for what is only reported.
        if policy != "report" {
            assert_eq!(counted(&metrics, "invalid", "module"), policy == "enforce", "{policy}: {metrics}");
        }
    }
    network.devnet.stop().await;
}
