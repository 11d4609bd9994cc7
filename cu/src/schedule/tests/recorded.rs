//! Schedules that real schedulers served, and what the reference made of one.

use super::*;
use crate::schedule::Kind;

/// A schedule from a recorded page. `process`: as the scheduler describes it, or made from the first element.
fn schedule(page: &str, process: Option<Value>) -> Schedule {
    let page: Value = serde_json::from_str(page).unwrap();
    let nodes: Vec<Value> = page["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()).collect();
    let process = process.or_else(|| page.get("process").cloned()).unwrap_or_else(|| {
        let first = &nodes[0];
        json!({
            "process_id": tag(first, "Process"), "owner": {"address": id("boss"), "key": ""},
            "block": tag(first, "Block-Height"), "timestamp": number(first, "Timestamp"), "signature": "", "anchor": null,
            "tags": tags(&[("Data-Protocol", "ao"), ("Type", "Process"), ("Module", &id("module"))]),
        })
    });
    Schedule { process, nodes }
}

#[tokio::test]
async fn real_schedules_are_read_whole_with_their_hash_chains() {
    for (name, page, count) in [
        ("rocksdb", include_str!("../../../tests/data/scheduler-page-rocksdb.json"), 15),
        ("postgres", include_str!("../../../tests/data/scheduler-page-postgres.json"), 12),
        ("no process", include_str!("../../../tests/data/scheduler-page-no-process-assignment.json"), 11),
    ] {
        let schedule = schedule(page, None);
        for quirks in [ROCKS, BY_TIME] {
            let net = Net::start(quirks, [schedule.clone()]).await;
            net.world.data.lock().unwrap().insert(schedule.id(), b"boot".to_vec());
            let mut entries = every(&net.paged(4), &schedule.id(), Start::Cold, End::Latest).await;
            if name == "no process" {
                assert_eq!(entries.remove(0).kind, Kind::Process, "{name}");
            }
            assert_eq!(nonces(&entries), (0..count).map(Some).collect::<Vec<_>>(), "{name}");
            // The formula holds from the first link on, whose seed is the process id.
            let seed = ids::encode(&Sha256::digest(ids::decode_leniently(&schedule.id())));
            assert_eq!(entries[0].hash_chain, Some(seed), "{name}");
        }
    }
}

#[tokio::test]
async fn a_recorded_process_gives_the_references_places_and_its_duplicate() {
    let text = include_str!("../../../tests/data/recorded-process.json");
    let recorded: Value = serde_json::from_str(text).unwrap();
    let schedule = schedule(text, Some(recorded["process"].clone()));
    // The recording's scheduler pages by time.
    let net = Net::start(BY_TIME, [schedule.clone()]).await;
    let entries = every(&net.paged(5), &schedule.id(), Start::Cold, End::Latest).await;
    assert_eq!(entries.len(), 18);
    let places: Vec<Value> = entries.iter().map(|e| json!([e.timestamp, e.ordinate])).collect();
    let rows = recorded["results"].as_array().unwrap();
    assert!(rows.iter().all(|row| places.contains(row)), "{rows:?}");
    // The reference skipped nonce 15.
    let key = entries[15].dedup_key.as_ref().expect("a pushed message");
    assert!(entries[..15].iter().any(|e| e.dedup_key.as_ref() == Some(key)));
    // Tags named From and Owner are not for the guest.
    let boot: Value = serde_json::from_str(&entries[0].message_json).unwrap();
    let names: Vec<&str> = boot["Tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    assert!(!names.contains(&"From") && !names.contains(&"Owner") && names.contains(&"Authority"), "{names:?}");
    assert_eq!(boot["From"], boot["Owner"]);
}
