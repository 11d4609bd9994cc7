//! The facts of the real scheduler (with PostgreSQL) that units and clients rely on, one test each, over HTTP.

use serde_json::Value;
use sha2::{Digest, Sha256};

use lockstep_cu::item::{DataItem, Draft, Id, SignatureType, from_base64url, parse_id, to_base64url};

use crate::devnet::Devnet;
use crate::devnet::testkit::{Answer, ask, get, id, message, network, post, process, tag, tags, text, user};

/// A network with one process and `messages` messages "0", "1", ...
async fn with_messages(messages: usize) -> (Devnet, Id, Vec<Id>) {
    let devnet = network(None).await;
    let process = process(b"boot data");
    assert_eq!(send(&devnet, &process).await.status, 200);
    let mut ids = Vec::new();
    for n in 0..messages {
        let item = message(&process.id(), n.to_string().as_bytes(), &[]);
        assert_eq!(send(&devnet, &item).await.status, 200);
        ids.push(item.id());
    }
    (devnet, process.id(), ids)
}

async fn send(devnet: &Devnet, item: &DataItem) -> Answer {
    post(&devnet.urls().scheduler, "/", item.to_bytes()).await
}

async fn su(devnet: &Devnet, path: &str) -> Answer {
    get(&devnet.urls().scheduler, path).await
}

/// A page: nonces, cursors, whether more follow.
async fn page(devnet: &Devnet, process: &Id, query: &str) -> (Vec<u64>, Vec<String>, bool) {
    let answer = su(devnet, &format!("/{}?process-id=x{query}", text(process))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let page = answer.json();
    let edges = page["edges"].as_array().unwrap();
    let nonces = edges.iter().map(|edge| tag(&edge["node"]["assignment"]["tags"], "Nonce").unwrap().parse().unwrap());
    let cursors = edges.iter().map(|edge| edge["cursor"].as_str().unwrap().to_owned());
    (nonces.collect(), cursors.collect(), page["page_info"]["has_next_page"].as_bool().unwrap())
}

/// Timestamps of all entries, the process first.
async fn timestamps(devnet: &Devnet, process: &Id) -> Vec<u64> {
    page(devnet, process, "").await.1.iter().map(|cursor| cursor.parse().unwrap()).collect()
}

fn error(text: &str) -> Value {
    serde_json::json!({ "error": text })
}

#[tokio::test]
async fn a_page_has_the_members_of_a_real_page_in_the_same_order() {
    /// Every path of members, in order; values left out.
    fn shape(value: &Value, path: &str, out: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                out.push(format!("{path}.{name}"));
                shape(value, &format!("{path}.{name}"), out);
            }),
            // Assignments have fixed tags in a fixed order; messages have their own.
            Value::Array(values) if path.ends_with("assignment.tags") => {
                out.extend(values.iter().map(|tag| format!("{path}.{}", tag["name"])));
            }
            Value::Array(_) if path.ends_with("tags") => {}
            Value::Array(values) => values.iter().for_each(|value| shape(value, path, out)),
            _ => {}
        }
    }
    let real: Value = serde_json::from_str(include_str!("../../../../tests/items/real-page.json")).unwrap();
    let (devnet, process, _) = with_messages(1).await;
    let ours = su(&devnet, &format!("/{}?process-id=x&show-anchor=1", text(&process))).await;
    assert_eq!(ours.kind, "application/json");
    let [mut of_real, mut of_ours] = [Vec::new(), Vec::new()];
    shape(&real, "", &mut of_real);
    shape(&ours.json(), "", &mut of_ours);
    assert_eq!(of_ours, of_real);
}

#[tokio::test]
async fn the_process_comes_first_its_assignment_has_no_message_and_no_anchor() {
    let (devnet, process, ids) = with_messages(1).await;
    let page = su(&devnet, &format!("/{}?process-id=x", text(&process))).await.json();
    let [first, second] = [&page["edges"][0]["node"], &page["edges"][1]["node"]];
    assert_eq!(id(&first["message"]["id"]), process);
    assert_eq!(first["message"]["target"], Value::Null);
    assert_eq!(first["message"]["data"], "boot data");
    assert_eq!(tag(&first["assignment"]["tags"], "Message"), None);
    assert_eq!(tag(&first["assignment"]["tags"], "Block-Height").unwrap().len(), 12);
    assert_eq!(id(&second["message"]["id"]), ids[0]);
    assert_eq!(tag(&second["assignment"]["tags"], "Message"), Some(text(&ids[0]).as_str()));
    for node in [first, second] {
        assert_eq!((&node["assignment"]["anchor"], &node["assignment"]["target"]), (&Value::Null, &Value::from("")));
    }
}

#[tokio::test]
async fn every_error_is_400_with_the_real_text() {
    let (devnet, process, _) = with_messages(0).await;
    let unknown = "A".repeat(43);
    for (path, text) in [
        (format!("/processes/{unknown}"), "NotFound(\"Process not found\")"),
        (format!("/{unknown}/latest"), "Latest message not available"),
        (format!("/{unknown}?process-id={unknown}"), "Message or Process not found"),
        ("/5?process-id=x".into(), "Message or Process not found"),
        (
            format!("/{}?process-id=x&from=abc", text(&process)),
            "IntError(\"data store int error: invalid digit found in string\")",
        ),
        (
            format!("/{}?process-id=x&from-nonce=", text(&process)),
            "IntError(\"data store int error: cannot parse integer from empty string\")",
        ),
        (format!("/{}?process-id=x&limit=0", text(&process)), "DatabaseError(\"limit 0 is too small\")"),
    ] {
        let answer = su(&devnet, &path).await;
        assert_eq!((answer.status, answer.json()), (400, error(text)), "{path}");
    }
}

#[tokio::test]
async fn a_query_without_process_id_or_with_a_limit_that_is_no_number_is_400_in_plain_text() {
    let (devnet, process, _) = with_messages(0).await;
    for (query, text) in [
        ("", "Query deserialize error: missing field `process-id`"),
        ("?limit=1", "Query deserialize error: missing field `process-id`"),
        ("?process-id=x&limit=abc", "Query deserialize error: invalid digit found in string"),
    ] {
        let answer = su(&devnet, &format!("/{}{query}", super::super::testkit::text(&process))).await;
        assert_eq!((answer.status, answer.text.as_str()), (400, text));
        assert!(answer.kind.starts_with("text/plain"), "{}", answer.kind);
    }
}

#[tokio::test]
async fn latest_is_400_until_the_process_has_a_message() {
    let (devnet, process, _) = with_messages(0).await;
    let path = format!("/{}/latest", text(&process));
    assert_eq!(su(&devnet, &path).await.json(), error("Latest message not available"));
    for n in 1..3u8 {
        send(&devnet, &message(&process, &[b'0' + n], &[])).await;
        let latest = su(&devnet, &path).await.json();
        assert_eq!(tag(&latest["assignment"]["tags"], "Nonce"), Some(n.to_string().as_str()));
    }
}

#[tokio::test]
async fn process_id_must_be_there_and_is_ignored() {
    let (devnet, _, ids) = with_messages(1).await;
    let answer = su(&devnet, &format!("/{}?process-id=somebody-else", text(&ids[0]))).await;
    assert_eq!(id(&answer.json()["message"]["id"]), ids[0]);
}

#[tokio::test]
async fn messages_answer_to_their_id_and_their_assignments_processes_give_pages_to_both() {
    let (devnet, process, ids) = with_messages(1).await;
    let node = su(&devnet, &format!("/{}?process-id=x", text(&ids[0]))).await.json();
    let assignment = node["assignment"]["id"].as_str().unwrap();
    assert_eq!(su(&devnet, &format!("/{assignment}?process-id=x")).await.json(), node);
    let page = su(&devnet, &format!("/{}?process-id=x", text(&process))).await.json();
    let birth = page["edges"][0]["node"]["assignment"]["id"].as_str().unwrap();
    assert_eq!(su(&devnet, &format!("/{birth}?process-id=x")).await.json(), page);
}

#[tokio::test]
async fn an_assigned_message_answers_to_the_assignment_and_stays_where_it_was_first() {
    let (devnet, process, ids) = with_messages(1).await;
    let other = self::process(b"other");
    send(&devnet, &other).await;
    let path = format!("/?process-id={}&assign={}&exclude=Data,Tags", other.id_text(), text(&ids[0]));
    let answer = post(&devnet.urls().scheduler, &path, Vec::new()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let assignment = id(&answer.json()["id"]);
    let node = su(&devnet, &format!("/{}?process-id=x", text(&assignment))).await.json();
    assert_eq!(node["message"], Value::Null);
    let names: Vec<_> =
        node["assignment"]["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let order = [
        "Process",
        "Epoch",
        "Nonce",
        "Hash-Chain",
        "Block-Height",
        "Timestamp",
        "Data-Protocol",
        "Type",
        "Variant",
        "Message",
        "Exclude",
        "Exclude",
    ];
    assert_eq!(names, order);
    let original = su(&devnet, &format!("/{}?process-id={}", text(&ids[0]), other.id_text())).await.json();
    assert_eq!(tag(&original["assignment"]["tags"], "Process"), Some(text(&process).as_str()));
    // A second time the scheduler knows it.
    let again = post(&devnet.urls().scheduler, &path, Vec::new()).await;
    assert_eq!((again.status, again.json()), (400, error("MessageExists(\"Deep hash already exists\")")));
}

#[tokio::test]
async fn a_message_that_was_only_assigned_is_unknown_by_its_own_id() {
    let (devnet, process, _) = with_messages(0).await;
    let tags = tags(&[("Type", "Note")]);
    let note = user().sign(Draft { tags, data: b"note".to_vec(), ..Draft::default() }).unwrap();
    post(&devnet.urls().bundler, "/tx", note.to_bytes()).await;
    let path = format!("/?process-id={}&assign={}", text(&process), note.id_text());
    assert_eq!(post(&devnet.urls().scheduler, &path, Vec::new()).await.status, 200);
    let answer = su(&devnet, &format!("/{}?process-id={}", note.id_text(), text(&process))).await;
    assert_eq!((answer.status, answer.json()), (400, error("Message or Process not found")));
}

#[tokio::test]
async fn timestamps_page_after_from_up_to_to_and_the_process_is_there_iff_from_is_absent() {
    let (devnet, process, _) = with_messages(3).await;
    let at = timestamps(&devnet, &process).await;
    for (query, nonces) in [
        (String::new(), vec![0, 1, 2, 3]),
        (format!("&from={}", at[0]), vec![1, 2, 3]),
        (format!("&from={}", at[1]), vec![2, 3]),
        (format!("&from={}&to={}", at[1], at[2]), vec![2]),
        (format!("&to={}", at[2]), vec![0, 1, 2]),
        // The process is there even before its own time, and never with `from`.
        (format!("&to={}", at[0] - 1), vec![0]),
        ("&from=0".into(), vec![1, 2, 3]),
        (format!("&from={}", at[0] - 1), vec![1, 2, 3]),
        (format!("&from={}", at[3]), vec![]),
    ] {
        assert_eq!(page(&devnet, &process, &query).await.0, nonces, "{query}");
    }
}

#[tokio::test]
async fn nonces_page_the_same_way_with_nonces_as_cursors_and_switch_timestamps_off() {
    let (devnet, process, _) = with_messages(3).await;
    for (query, nonces) in [
        ("&from-nonce=-1", vec![0, 1, 2, 3]),
        ("&from-nonce=0", vec![1, 2, 3]),
        ("&from-nonce=1&to-nonce=2", vec![2]),
        ("&to-nonce=1", vec![0, 1]),
        ("&to-nonce=-1", vec![0]),
        ("&from-nonce=1&from=99999999999999&to=0", vec![2, 3]),
        ("&from-nonce=3", vec![]),
    ] {
        let (found, cursors, _) = page(&devnet, &process, query).await;
        assert_eq!(found, nonces, "{query}");
        assert_eq!(cursors, nonces.iter().map(u64::to_string).collect::<Vec<_>>(), "{query}");
    }
}

#[tokio::test]
async fn has_next_page_is_exact() {
    let (devnet, process, _) = with_messages(3).await;
    let at = timestamps(&devnet, &process).await;
    for (query, nonces, has_next) in [
        ("&limit=4".to_owned(), vec![0, 1, 2, 3], false),
        ("&limit=3".into(), vec![0, 1, 2], true),
        ("&limit=1".into(), vec![0], true),
        ("&from-nonce=-1&limit=1".into(), vec![0], true),
        (format!("&to={}&limit=2", at[1]), vec![0, 1], false),
        ("&from-nonce=0&limit=3".into(), vec![1, 2, 3], false),
        ("&from-nonce=0&limit=2".into(), vec![1, 2], true),
        // As the real one does: nothing, and more.
        ("&from-nonce=0&limit=0".into(), vec![], true),
    ] {
        let (found, _, next) = page(&devnet, &process, &query).await;
        assert_eq!((found, next), (nonces, has_next), "{query}");
    }
}

#[tokio::test]
async fn the_default_page_has_a_hundred_entries() {
    let (devnet, process, _) = with_messages(0).await;
    let scheduler = devnet.scheduler().clone();
    let items: Vec<_> = (0..100u32).map(|n| message(&process, &n.to_le_bytes(), &[])).collect();
    for item in items {
        scheduler.post(&item.to_bytes()).unwrap();
    }
    let (nonces, _, has_next) = page(&devnet, &process, "").await;
    assert_eq!((nonces.len(), has_next), (100, true));
}

/// Checks a whole schedule as a unit would, from the JSON alone.
async fn assert_chained(devnet: &Devnet, process: &Id, length: usize) {
    let page = su(devnet, &format!("/{}?process-id=x&limit=1000&show-anchor=1", text(process))).await.json();
    let edges = page["edges"].as_array().unwrap();
    assert_eq!(edges.len(), length);
    let mut expected: [u8; 32] = Sha256::digest(process).into();
    let mut timestamp = 0;
    for (nonce, edge) in edges.iter().enumerate() {
        let assignment = &edge["node"]["assignment"];
        let find = |name| tag(&assignment["tags"], name).unwrap();
        assert_eq!(find("Nonce"), nonce.to_string());
        assert_eq!(find("Epoch"), "0");
        assert_eq!(find("Hash-Chain"), to_base64url(&expected), "nonce {nonce}");
        let now: u64 = find("Timestamp").parse().unwrap();
        assert!(now > timestamp, "nonce {nonce}");
        timestamp = now;
        let own = parse_id(assignment["id"].as_str().unwrap()).unwrap();
        expected = Sha256::new().chain_update(own).chain_update(expected).finalize().into();
        assert_eq!(of_json(assignment, assignment["anchor"].as_str()).verify(), Ok(()), "nonce {nonce}");
    }
}

/// An item from the scheduler's JSON; the anchor as base64url.
fn of_json(node: &Value, anchor: Option<&str>) -> DataItem {
    let bytes = |text: &Value| from_base64url(text.as_str().unwrap()).unwrap();
    let draft = Draft {
        target: parse_id(node["target"].as_str().unwrap_or_default()),
        anchor: anchor.map(|anchor| from_base64url(anchor).unwrap().try_into().unwrap()),
        tags: serde_json::from_value(node["tags"].clone()).unwrap(),
        data: node["data"].as_str().unwrap_or_default().as_bytes().to_vec(),
    };
    DataItem::assemble(SignatureType::Arweave, bytes(&node["signature"]), bytes(&node["owner"]["key"]), draft).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_posted_at_once_get_a_schedule_without_gaps_that_is_chained_and_signed() {
    let (devnet, process, _) = with_messages(0).await;
    let posts = (0..24u8).map(|n| {
        let (url, item) = (devnet.urls().scheduler.clone(), message(&process, &[n], &[]));
        tokio::spawn(async move { post(&url, "/", item.to_bytes()).await.status })
    });
    for posted in posts.collect::<Vec<_>>() {
        assert_eq!(posted.await.unwrap(), 200);
    }
    assert_chained(&devnet, &process, 25).await;
}

#[tokio::test]
async fn bare_assignments_are_links_of_the_chain_like_messages() {
    let (devnet, process, ids) = with_messages(2).await;
    let other = self::process(b"other");
    send(&devnet, &other).await;
    for id in &ids {
        let path = format!("/?process-id={}&assign={}", other.id_text(), text(id));
        assert_eq!(post(&devnet.urls().scheduler, &path, Vec::new()).await.status, 200);
        send(&devnet, &message(&other.id(), b"between", &[("N", &text(id))])).await;
    }
    assert_chained(&devnet, &other.id(), 5).await;
    assert_chained(&devnet, &process, 3).await;
}

#[tokio::test]
async fn messages_with_text_verify_from_the_page_and_binary_data_and_anchors_are_lost_in_it() {
    let (devnet, process, _) = with_messages(0).await;
    let tags = tags(&[("Data-Protocol", "ao"), ("Type", "Message")]);
    let draft = |anchor: [u8; 32], data: &[u8]| Draft {
        target: Some(process),
        anchor: Some(anchor),
        tags: tags.clone(),
        data: data.to_vec(),
    };
    let plain = user().sign(draft(*b"00000000000000000000000000000007", "größe".as_bytes())).unwrap();
    let binary = user().sign(draft([0xff; 32], &[0xff, 0xfe, 0, 1, 2])).unwrap();
    for item in [&plain, &binary] {
        assert_eq!(send(&devnet, item).await.status, 200);
    }
    let plain = su(&devnet, &format!("/{}?process-id=x", plain.id_text())).await.json();
    let anchor = plain["message"]["anchor"].as_str().unwrap();
    assert_eq!(anchor, "00000000000000000000000000000007");
    assert_eq!(of_json(&plain["message"], Some(&to_base64url(anchor.as_bytes()))).verify(), Ok(()));
    let binary = su(&devnet, &format!("/{}?process-id=x&show-anchor=1", binary.id_text())).await.json();
    assert_eq!(binary["message"]["anchor"], Value::Null);
    assert_eq!(binary["message"]["data"], "\u{fffd}\u{fffd}\0\u{1}\u{2}");
    let process = self::process(&[0xff, 0xfe]);
    send(&devnet, &process).await;
    let found = su(&devnet, &format!("/processes/{}", process.id_text())).await.json();
    assert_eq!(found["data"], Value::Null);
}

#[tokio::test]
async fn a_process_is_described_with_the_block_as_text_and_the_time_as_a_number() {
    let (devnet, process, _) = with_messages(0).await;
    let found = su(&devnet, &format!("/processes/{}", text(&process))).await.json();
    let members: Vec<_> = found.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["process_id", "block", "owner", "tags", "timestamp", "data", "anchor", "signature", "target"]);
    assert_eq!(found["block"].as_str().unwrap().len(), 12);
    assert!(found["timestamp"].is_u64());
}

#[tokio::test]
async fn times_of_the_scheduler_are_texts_and_of_a_post_numbers() {
    let (devnet, process, _) = with_messages(0).await;
    let now = su(&devnet, "/timestamp").await.json();
    assert!(now["timestamp"].is_string());
    assert_eq!(now["block_height"].as_str().unwrap().len(), 12);
    let root = su(&devnet, &format!("/?process-id={}", text(&process))).await;
    assert_eq!(root.status, 200);
    assert!(root.json()["timestamp"].is_string());
    assert_eq!(root.json()["address"], devnet.scheduler().address());
    let posted = send(&devnet, &message(&process, b"x", &[])).await.json();
    assert_eq!(posted.as_object().unwrap().len(), 2);
    assert!(posted["timestamp"].is_u64() && posted["id"].is_string());
}

#[tokio::test]
async fn head_and_unknown_routes_are_404_and_empty() {
    let (devnet, process, _) = with_messages(0).await;
    for (method, path) in [
        ("HEAD", format!("/processes/{}", text(&process))),
        ("GET", "/a/b/c".into()),
        ("PUT", "/".into()),
        ("GET", "/metrics/x".into()),
    ] {
        let answer = ask(method, &devnet.urls().scheduler, &path, None).await;
        assert_eq!((answer.status, answer.text.as_str()), (404, ""), "{method} {path}");
    }
    assert_eq!(su(&devnet, "/health").await.status, 200);
}

#[tokio::test]
async fn what_is_no_good_item_is_refused_with_the_reason() {
    let (devnet, process, _) = with_messages(0).await;
    let signed = |pairs: &[(&str, &str)]| {
        let item = user().sign(Draft { target: Some(process), tags: tags(pairs), ..Draft::default() });
        item.unwrap().to_bytes()
    };
    let mut forged = message(&process, b"forged", &[]).to_bytes();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let bare = |text: &str| {
        format!("error in builder: BuilderError({:?})", format!("Byte error in builder: ByteError({text:?})"))
    };
    for (body, text) in [
        (vec![1, 0, 7], bare("data item of 3 bytes ends inside the signature, which needs 512 bytes from byte 2")),
        (forged, bare("Signature verification failed")),
        (signed(&[]), "Type tag not present".into()),
        (signed(&[("Type", "Module"), ("Data-Protocol", "ao")]), "Unsupported Type tag value".into()),
        (signed(&[("Type", "Message")]), "Data-Protocol tag not present".into()),
        (
            signed(&[("Type", "Message"), ("Data-Protocol", "ao"), ("a+link", "b")]),
            "Tag a+link cannot contain +link".into(),
        ),
        (
            signed(&[("Type", "Process"), ("Data-Protocol", "ao"), ("Module", "m")]),
            "Required Module and Scheduler tags for Process type not present".into(),
        ),
        (
            signed(&[
                ("Type", "Process"),
                ("Data-Protocol", "ao"),
                ("Module", "m"),
                ("Scheduler", "s"),
                ("On-Boot", "x"),
            ]),
            "Invalid tx id for On-Boot tag".into(),
        ),
    ] {
        let answer = post(&devnet.urls().scheduler, "/", body).await;
        assert_eq!((answer.status, answer.json()), (400, error(&text)));
    }
    // None of it took a place.
    assert_chained(&devnet, &process, 1).await;
}

#[tokio::test]
async fn the_same_item_is_not_scheduled_twice() {
    let (devnet, process, _) = with_messages(0).await;
    let item = message(&process, b"once", &[]);
    assert_eq!(send(&devnet, &item).await.status, 200);
    let again = send(&devnet, &item).await;
    assert_eq!((again.status, again.json()), (400, error("MessageExists(\"Message already exists\")")));
    let mut process_again = send(&devnet, &self::process(b"p")).await;
    assert_eq!(process_again.status, 200);
    let twice = self::process(b"twice");
    send(&devnet, &twice).await;
    process_again = send(&devnet, &twice).await;
    assert_eq!(process_again.status, 400);
    assert_chained(&devnet, &twice.id(), 1).await;
}

#[tokio::test]
async fn pushed_messages_of_equal_content_are_refused_whatever_they_were_pushed_for() {
    let (devnet, process, _) = with_messages(0).await;
    let pushed = |order: [(&str, &str); 2], pushed_for: &str| {
        message(&process, b"x", &[order[0], order[1], ("From-Process", "p"), ("Pushed-For", pushed_for)])
    };
    assert_eq!(send(&devnet, &pushed([("A", "1"), ("B", "2")], "one")).await.status, 200);
    // Other order of tags, other cause: still the same.
    let again = send(&devnet, &pushed([("B", "2"), ("A", "1")], "two")).await;
    assert_eq!((again.status, again.json()), (400, error("MessageExists(\"Deep hash already exists\")")));
    assert_eq!(send(&devnet, &pushed([("B", "2"), ("A", "other")], "two")).await.status, 200);
    // What people send may repeat: ids tell it apart.
    for _ in 0..2 {
        assert_eq!(send(&devnet, &message(&process, b"same", &[])).await.status, 200);
    }
}

#[tokio::test]
async fn a_message_to_a_process_nobody_has_seen_is_taken_and_starts_at_nonce_zero() {
    let devnet = network(None).await;
    let process: Id = [9; 32];
    let item = message(&process, b"x", &[]);
    assert_eq!(send(&devnet, &item).await.status, 200);
    let node = su(&devnet, &format!("/{}?process-id=x", item.id_text())).await.json();
    assert_eq!(tag(&node["assignment"]["tags"], "Nonce"), Some("0"));
    assert_eq!(tag(&node["assignment"]["tags"], "Hash-Chain"), Some(to_base64url(&Sha256::digest(process)).as_str()));
    let page = su(&devnet, &format!("/{}?process-id=x", text(&process))).await;
    assert_eq!((page.status, page.json()), (400, error("Message or Process not found")));
}

#[tokio::test]
async fn assignments_of_nothing_or_to_nothing_are_refused() {
    let (devnet, process, ids) = with_messages(1).await;
    let unknown = "B".repeat(43);
    let builder = |text: &str| format!("error in builder: BuilderError({text:?})");
    for (process, message, more, text) in [
        (unknown.clone(), text(&ids[0]), "", "NotFound(\"Process not found\")".to_owned()),
        (text(&process), unknown, "", builder("Transaction not found")),
        (text(&process), "short".into(), "", builder("assign param must be 43 characters")),
        (text(&process), text(&ids[0]), "&base-layer", builder("Not enough confirmations to assign")),
    ] {
        let path = format!("/?process-id={process}&assign={message}{more}");
        let answer = post(&devnet.urls().scheduler, &path, Vec::new()).await;
        assert_eq!((answer.status, answer.json()), (400, error(&text)), "{path}");
    }
    let path = format!("/?process-id={}", text(&process));
    let answer = post(&devnet.urls().scheduler, &path, Vec::new()).await;
    assert_eq!(answer.json(), error("If sending assign or process-id, you must send both."));
}

#[tokio::test]
async fn items_and_assignments_are_on_the_gateway_at_once() {
    let (devnet, process, ids) = with_messages(1).await;
    for id in [process, ids[0]] {
        assert_eq!(get(&devnet.urls().gateway, &format!("/raw/{}", text(&id))).await.status, 200);
    }
    let node = su(&devnet, &format!("/{}?process-id=x", text(&ids[0]))).await.json();
    let path = format!("/raw/{}", node["assignment"]["id"].as_str().unwrap());
    assert_eq!(get(&devnet.urls().gateway, &path).await.status, 200);
}
