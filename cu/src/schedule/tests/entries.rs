//! Entries: the process first, hash chain, assignments, duplicates' keys.

use super::*;
use crate::schedule::{Kind, Position};

const T: u64 = 1_750_000_000_000;
const B: u64 = 1_690_000;

fn json_of(entry: &Entry) -> Value {
    serde_json::from_str(&entry.message_json).unwrap()
}

#[tokio::test]
async fn a_process_that_its_scheduler_supplies_is_nonce_0_and_stored() {
    let schedule = Schedule::new("p", T, B, &[]).assigned().messages([T + 5]);
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    assert_eq!((entries[0].kind, entries[0].nonce, entries[0].store), (Kind::Scheduled, Some(0), true));
    assert_eq!(entries[0].message_id, Some(schedule.id()));
    assert_eq!(net.asked("/gw"), 0, "its data comes with it");
    let pid = schedule.id();
    let (hash_chain, boss) = (tag(&schedule.nodes[0], "Hash-Chain").unwrap(), id("boss"));
    assert_eq!(
        entries[0].message_json,
        format!(
            r#"{{"Id":"{pid}","Signature":"sig","Data":"boot","Owner":"{boss}","Target":"{pid}","Anchor":null,"From":"{boss}","Tags":{},"Epoch":0,"Nonce":0,"Timestamp":{T},"Block-Height":{B},"Hash-Chain":"{hash_chain}","Cron":false,"Read-Only":false}}"#,
            schedule.process["tags"]
        )
    );
    assert_eq!(entries[1].owner, id("alice"));
    assert_eq!(entries[1].action.as_deref(), Some("Eval"));
}

#[tokio::test]
async fn a_process_that_its_scheduler_does_not_supply_comes_first_and_is_not_stored() {
    for messages in [vec![], vec![T + 5, T + 6]] {
        let schedule = Schedule::new("old", T, B, &[]).messages(messages.clone());
        let net = Net::start(ROCKS, [schedule.clone()]).await;
        net.world.data.lock().unwrap().insert(schedule.id(), b"\xef\xbb\xbfboot \xff".to_vec());
        let up = net.upstream();
        let entries = every(&up, &schedule.id(), Start::Cold, End::Latest).await;
        assert_eq!(entries.len(), 1 + messages.len());
        let boot = &entries[0];
        assert_eq!((boot.kind, boot.nonce, boot.store, boot.ordinate.as_str()), (Kind::Process, None, false, "0"));
        assert_eq!(json_of(boot)["Data"], "boot \u{fffd}", "text as a browser reads it");
        assert!(json_of(boot).get("Nonce").is_none());
        let rest = every(&up, &schedule.id(), after(&boot.checkpoint), End::Latest).await;
        assert_eq!(rest, entries[1..]);
    }
}

#[tokio::test]
async fn a_first_assignment_or_a_first_cron_does_not_stand_in_for_the_process() {
    let schedule = Schedule::new("old", T, B, &[]).assignment("item", T + 5, B, &[]);
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    net.world.put("item", b"x", &[("Type", "Process")]);
    net.world.data.lock().unwrap().insert(schedule.id(), b"boot".to_vec());
    let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    assert_eq!(entries.iter().map(|e| e.kind).collect::<Vec<_>>(), [Kind::Process, Kind::Assignment]);

    // Assigned three seconds after its birth, with a cron of a second.
    let mut schedule = Schedule::new("late", T, B, &[("Cron-Interval", "1-second")]).assigned();
    schedule.process["timestamp"] = json!(T - 3000);
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    net.world.data.lock().unwrap().insert(schedule.id(), b"boot".to_vec());
    let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Timestamp(T)).await;
    let kinds: Vec<_> = entries.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [Kind::Process, Kind::Cron, Kind::Cron, Kind::Scheduled]);
}

#[tokio::test]
async fn the_boot_alone_can_be_wanted() {
    let with = Schedule::new("with", T, B, &[]).assigned().messages([T + 5]);
    let without = Schedule::new("without", T, B, &[]).messages([T + 5]);
    let bare = Schedule::new("bare", T, B, &[]);
    let net = Net::start(ROCKS, [with.clone(), without.clone(), bare.clone()]).await;
    let up = net.upstream();
    for schedule in [&with, &without, &bare] {
        net.world.data.lock().unwrap().insert(schedule.id(), b"boot".to_vec());
        let process = up.process(&schedule.id()).await.unwrap();
        let boot = up.locate_message(&process, &schedule.id()).await.unwrap();
        assert!(boot.is_process);
        assert_eq!(boot.nonce, (schedule.id() == with.id()).then_some(0));
        let entries = every(&up, &schedule.id(), Start::Cold, End::Message(boot)).await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].message_id, Some(schedule.id()));
        assert_eq!(entries[0].remaining, Some(0));
    }
}

#[tokio::test]
async fn a_broken_hash_chain_ends_a_stream_at_the_message_and_nothing_else() {
    let schedule =
        Schedule::new("p", T, B, &[]).assigned().messages([T + 1, T + 2, T + 3]).retag(2, "Hash-Chain", &id("x"));
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let up = net.upstream();
    let process = up.process(&schedule.id()).await.unwrap();
    for _ in 0..2 {
        let (entries, error) = all(&up, &process, Start::Cold, End::Latest).await;
        assert_eq!(nonces(&entries), [Some(0), Some(1)]);
        match error {
            Some(Error::Unprocessable(text)) => {
                assert_eq!(
                    text,
                    format!("HashChain invalid on message {}", super::text(&schedule.nodes[2], "/message/id"))
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // What comes before it is answered, also when going on from a checkpoint.
    let one = up.locate_message(&process, super::text(&schedule.nodes[1], "/message/id")).await.unwrap();
    assert_eq!(every(&up, &schedule.id(), Start::Cold, End::Message(one)).await.len(), 2);
    let (entries, _) = all(&up, &process, Start::Cold, End::Latest).await;
    let (rest, error) = all(&up, &process, after(&entries[1].checkpoint), End::Latest).await;
    assert!(rest.is_empty() && error.is_some());
}

#[tokio::test]
async fn the_chain_of_a_process_from_before_block_1440000_is_not_checked() {
    let schedule = Schedule::new("p", T, 1_439_999, &[]).assigned().messages([T + 1]).retag(1, "Hash-Chain", "x");
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    assert_eq!(every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await.len(), 2);
}

#[tokio::test]
async fn an_assigned_item_is_filled_in_from_the_gateway_without_what_is_excluded() {
    let full = json!({
        "Id": id("item"), "Signature": "sig", "Data": "the data", "Owner": "carol", "Target": "recipient",
        "Anchor": "anchor", "From": "q", "Tags": [{"name": "From-Process", "value": "q"}], "Epoch": 0, "Nonce": 1,
        "Timestamp": T + 5, "Block-Height": B, "Cron": false, "Read-Only": false,
    });
    let all = ["Data", "Tags", "Signature", "Anchor"];
    for exclude in [&[][..], &["Data"], &["Tags"], &["Signature", "Anchor"], &all, &["Owner", "Nonsense"]] {
        let schedule = Schedule::new("p", T, B, &[]).assigned().assignment("item", T + 5, B, exclude);
        let net = Net::start(ROCKS, [schedule.clone()]).await;
        net.world.put("item", b"the data", &[("From-Process", "q"), ("Owner", "spoofed")]);
        let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
        let mut want = full.clone();
        for part in exclude.iter().filter(|part| all.contains(part)) {
            want.as_object_mut().unwrap().remove(*part);
        }
        if exclude.contains(&"Tags") {
            (want["Tags"], want["From"]) = (json!([]), json!("carol"));
        }
        want["Hash-Chain"] = json!(tag(&schedule.nodes[1], "Hash-Chain"));
        assert_eq!(json_of(&entries[1]), want, "{exclude:?}");
        assert_eq!(entries[1].kind, Kind::Assignment);
        assert_eq!(entries[1].dedup_key, Some(id("item")));
        assert_eq!(net.asked("/gw/raw"), usize::from(!exclude.contains(&"Data")), "excluded data is not fetched");
    }
}

#[tokio::test]
async fn assigned_items_keep_their_order_whatever_the_gateway_is_first_with() {
    let mut schedule = Schedule::new("p", T, B, &[]).assigned();
    for n in 0..12 {
        schedule = schedule.assignment(&format!("item {n}"), T + 5 + n, B, &[]);
    }
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    for n in 0..12 {
        // Every third one is not there at first.
        if n % 3 != 0 {
            net.world.put(&format!("item {n}"), b"x", &[]);
        }
    }
    let world = net.world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        for n in (0..12).step_by(3) {
            world.put(&format!("item {n}"), b"x", &[]);
        }
    });
    let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    assert_eq!(nonces(&entries), (0..13).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_assigned_item_that_the_gateway_lacks_ends_the_stream_after_what_comes_before_it() {
    for (there, status) in [("metadata", "404"), ("data", "500")] {
        let schedule = Schedule::new("p", T, B, &[]).assigned().messages([T + 1]).assignment("item", T + 5, B, &[]);
        let net = Net::start(ROCKS, [schedule.clone()]).await;
        net.world.put("item", b"x", &[]);
        match there {
            "metadata" => net.world.data.lock().unwrap().clear(),
            _ => net.world.transactions.lock().unwrap().clear(),
        }
        let up = net.upstream();
        let process = up.process(&schedule.id()).await.unwrap();
        let begun = std::time::Instant::now();
        let (entries, error) = all(&up, &process, Start::Cold, End::Latest).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(entries.len(), 2);
        match (status, error) {
            ("404", Some(Error::NotFound(text))) => assert!(text.contains(&id("item")), "{text}"),
            ("500", Some(Error::Upstream(text))) => {
                assert_eq!(text, format!("Gateway returned no transaction for '{}'", id("item")));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn pushed_messages_have_a_key_by_content_and_others_none() {
    let pushed = &[("From-Process", "q"), ("Reference", "1")];
    let mut schedule = Schedule::new("p", T, B, &[])
        .assigned()
        .message_with("a", T + 1, B, pushed)
        .message_with("b", T + 2, B, pushed)
        .message_with("c", T + 3, B, &[("From-Process", "q"), ("Reference", "2")])
        .messages([T + 4]);
    schedule.nodes[2]["message"]["data"] = schedule.nodes[1]["message"]["data"].clone();
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let keys: Vec<_> = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest)
        .await
        .into_iter()
        .map(|e| e.dedup_key)
        .collect();
    assert!(keys[1].is_some());
    assert_eq!(keys[1], keys[2], "another id, the same content");
    assert_ne!(keys[1], keys[3]);
    assert_eq!((keys[0].clone(), keys[4].clone()), (None, None));
}

#[tokio::test]
async fn a_message_beyond_the_schedules_end_is_an_error() {
    let schedule = Schedule::new("p", T, B, &[]).assigned().messages([T + 1]);
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let up = net.upstream();
    let process = up.process(&schedule.id()).await.unwrap();
    let far = Position { timestamp: T + 9, nonce: Some(9), message_id: None, assignment_id: None, is_process: false };
    let (entries, error) = all(&up, &process, Start::Cold, End::Message(far)).await;
    assert_eq!(entries.len(), 2);
    match error {
        Some(Error::Upstream(text)) => {
            assert!(text.contains("ends at nonce 1") && text.contains(&schedule.id()), "{text}")
        }
        other => panic!("{other:?}"),
    }
}
