//! What the messenger does with results, with a compute unit that answers by rote.

use std::time::Duration;

use serde_json::{Value, json};

use lockstep_cu::item::{DataItem, Draft, Id, Tag};

use crate::devnet::Devnet;
use crate::devnet::testkit::{
    MODULE, StandIn, ask, eventually, get, id, message, network, nothing, post, process, tag, tags, text, user,
};

/// 32 characters that differ with `n`.
fn anchor(n: usize) -> String {
    format!("{n:032}")
}

fn mail(target: &str, n: usize, extra: &[(&str, &str)]) -> Value {
    let mut tags =
        tags(&[("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Message"), ("Reference", &n.to_string())]);
    tags.extend(extra.iter().map(|(name, value)| Tag::new(*name, *value)));
    json!({ "Target": target, "Anchor": anchor(n), "Data": format!("mail {n}"), "Tags": tags })
}

fn result(messages: Vec<Value>, spawns: Vec<Value>, assignments: Vec<Value>) -> Value {
    json!({ "Messages": messages, "Spawns": spawns, "Assignments": assignments, "Output": "", "GasUsed": 7 })
}

async fn send(devnet: &Devnet, item: &DataItem) -> String {
    let answer = post(&devnet.urls().messenger, "/", item.to_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// The nodes of a schedule, the process left out.
async fn schedule(devnet: &Devnet, process: &Id) -> Vec<Value> {
    let page =
        get(&devnet.urls().scheduler, &format!("/{}?process-id=x&from-nonce=0&limit=1000", text(process))).await.json();
    page["edges"].as_array().unwrap().iter().map(|edge| edge["node"].clone()).collect()
}

/// Waits until a schedule has this many messages.
async fn scheduled(devnet: &Devnet, process: &Id, count: usize) -> Vec<Value> {
    eventually(&format!("message {count}"), async || {
        Some(schedule(devnet, process).await).filter(|nodes| nodes.len() >= count)
    })
    .await
}

async fn idle(devnet: &Devnet) {
    eventually("an idle messenger", async || (devnet.messenger().errands() == 0).then_some(())).await;
}

fn names(tags: &Value) -> Vec<&str> {
    tags.as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn two_processes_play_ping_pong_through_the_messenger() {
    let (a, b) = (process(b"a"), process(b"b"));
    let (a_id, b_id) = (a.id(), b.id());
    let turns = std::sync::atomic::AtomicUsize::new(0);
    let cu = StandIn::start(move |path| {
        // Boots say nothing; every message is answered to the other side, ten times in all.
        let boots = path.starts_with(&format!("/result/{}", text(&a_id)))
            || path.starts_with(&format!("/result/{}", text(&b_id)));
        let turn = if boots { 10 } else { turns.fetch_add(1, std::sync::atomic::Ordering::SeqCst) };
        let other = if path.contains(&format!("process-id={}", text(&a_id))) { b_id } else { a_id };
        (200, if turn < 10 { result(vec![mail(&text(&other), turn, &[])], vec![], vec![]) } else { nothing() })
    })
    .await;
    let devnet = network(Some(cu.url.clone())).await;
    for item in [&a, &b] {
        send(&devnet, item).await;
    }
    let first = send(&devnet, &message(&a_id, b"serve", &[])).await;
    let (at_a, at_b) = (scheduled(&devnet, &a_id, 6).await, scheduled(&devnet, &b_id, 5).await);
    idle(&devnet).await;
    assert_eq!((at_a.len(), at_b.len()), (6, 5));
    for (turn, node) in at_b.iter().enumerate() {
        let pushed = &node["message"];
        assert_eq!(pushed["data"], format!("mail {}", 2 * turn));
        assert_eq!(pushed["anchor"], anchor(2 * turn));
        assert_eq!(pushed["owner"]["address"], devnet.messenger().address());
        // The process's tags but those that are the messenger's, then these.
        let order = ["Variant", "Reference", "Data-Protocol", "Type", "From-Process", "From-Module", "Pushed-For"];
        assert_eq!(names(&pushed["tags"]), order);
        assert_eq!(tag(&pushed["tags"], "From-Process"), Some(text(&a_id).as_str()));
        assert_eq!(tag(&pushed["tags"], "From-Module"), Some(MODULE));
        assert_eq!(tag(&pushed["tags"], "Pushed-For"), Some(first.as_str()));
    }
    assert!(cu.asked().iter().all(|path| path.ends_with("&no-busy=1")), "{:?}", cu.asked());
}

#[tokio::test]
async fn a_spawn_boots_the_child_and_tells_the_parent() {
    let parent = process(b"parent");
    let parent_id = parent.id();
    let cu = StandIn::start(move |path| {
        let spawn = json!({
            "Anchor": anchor(1), "Data": "child's data",
            "Tags": tags(&[("Data-Protocol", "ao"), ("Variant", "ao.TN.1"), ("Type", "Process"), ("From-Process", &text(&parent_id)),
                ("From-Module", "a lie"), ("Module", MODULE), ("Reference", "3")])
        });
        let is_boot = |id: &str| path.starts_with(&format!("/result/{id}?process-id={id}&"));
        if is_boot(&text(&parent_id)) {
            return (200, result(vec![], vec![spawn], vec![]));
        }
        // Any other boot is the child's: it writes to its parent.
        let id = path.trim_start_matches("/result/").split('?').next().unwrap();
        (200, if is_boot(id) { result(vec![mail(&text(&parent_id), 5, &[])], vec![], vec![]) } else { nothing() })
    })
    .await;
    let devnet = network(Some(cu.url.clone())).await;
    let first = send(&devnet, &parent).await;
    let at_parent = scheduled(&devnet, &parent_id, 2).await;
    idle(&devnet).await;
    let news = &at_parent[0]["message"];
    assert_eq!(tag(&news["tags"], "Action"), Some("Spawned"));
    assert_eq!(news["data"], " ");
    let order =
        ["From-Process", "From-Module", "Module", "Reference", "Data-Protocol", "Type", "Process", "Action", "Variant"];
    assert_eq!(names(&news["tags"]), order);
    assert_eq!(tag(&news["tags"], "From-Module"), Some(MODULE));
    let child = tag(&news["tags"], "Process").unwrap();
    let born = get(&devnet.urls().scheduler, &format!("/processes/{child}")).await.json();
    assert_eq!(born["data"], "child's data");
    let order = [
        "From-Process",
        "From-Module",
        "Module",
        "Reference",
        "Data-Protocol",
        "Type",
        "Variant",
        "From-Process",
        "Pushed-For",
        "Scheduler",
    ];
    assert_eq!(names(&born["tags"]), order);
    assert_eq!(tag(&born["tags"], "Pushed-For"), Some(first.as_str()));
    assert_eq!(tag(&born["tags"], "Scheduler"), Some(devnet.scheduler().address().as_str()));
    // What the child said at its boot came from the child.
    assert_eq!(tag(&at_parent[1]["message"]["tags"], "From-Process"), Some(child));
}

#[tokio::test]
async fn assignments_of_results_are_scheduled_and_their_results_asked_by_assignment_id() {
    let (a, b) = (process(b"a"), process(b"b"));
    let (a_id, b_id) = (a.id(), b.id());
    let item = message(&a_id, b"to share", &[]);
    let item_id = item.id_text();
    let shared = item_id.clone();
    let cu = StandIn::start(move |path| {
        let assign = json!({ "Processes": [text(&b_id), "no process"], "Message": shared, "Exclude": ["Data"] });
        (
            200,
            if path.starts_with(&format!("/result/{shared}?")) {
                result(vec![], vec![], vec![assign])
            } else {
                nothing()
            },
        )
    })
    .await;
    let devnet = network(Some(cu.url.clone())).await;
    for item in [&a, &b, &item] {
        send(&devnet, item).await;
    }
    let nodes = scheduled(&devnet, &b_id, 1).await;
    idle(&devnet).await;
    assert_eq!(nodes[0]["message"], Value::Null);
    let assignment = &nodes[0]["assignment"];
    assert_eq!(tag(&assignment["tags"], "Message"), Some(item_id.as_str()));
    assert_eq!(tag(&assignment["tags"], "Exclude"), Some("Data"));
    let asked = format!("/result/{}?process-id={}&no-busy=1", assignment["id"].as_str().unwrap(), text(&b_id));
    assert!(cu.asked().contains(&asked), "{asked} not in {:?}", cu.asked());
}

#[tokio::test]
async fn clients_assign_with_both_parameters_or_are_told() {
    let cu = StandIn::start(|_| (200, nothing())).await;
    let devnet = network(Some(cu.url.clone())).await;
    let (a, b) = (process(b"a"), process(b"b"));
    let item = message(&a.id(), b"x", &[]);
    for item in [&a, &b, &item] {
        send(&devnet, item).await;
    }
    let messenger = &devnet.urls().messenger;
    let answer = post(messenger, &format!("/?process-id={}&assign={}", b.id_text(), item.id_text()), Vec::new()).await;
    assert_eq!((answer.status, &answer.json()["message"]), (202, &json!("Processing Assignment")));
    let nodes = schedule(&devnet, &b.id()).await;
    assert_eq!(nodes[0]["assignment"]["id"], answer.json()["id"]);
    let answer = post(messenger, &format!("/?process-id={}", b.id_text()), Vec::new()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("both process-id and assign"), "{}", answer.text);
    let answer = post(messenger, &format!("/?process-id={}&assign=x", b.id_text()), Vec::new()).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn messages_for_wallets_go_to_the_gateway_and_no_further() {
    let a = process(b"a");
    let (a_id, wallet) = (a.id(), text(&[7; 32]));
    let target = wallet.clone();
    let cu = StandIn::start(move |path| {
        let boots = path.starts_with(&format!("/result/{}", text(&a_id)));
        (200, if boots { result(vec![mail(&target, 1, &[])], vec![], vec![]) } else { nothing() })
    })
    .await;
    let devnet = network(Some(cu.url.clone())).await;
    send(&devnet, &a).await;
    let asked = format!("{{ transactions(recipients: [\"{wallet}\"]) {{ edges {{ node {{ id }} }} }} }}");
    let found = eventually("the upload", async || {
        let body = json!({ "query": asked }).to_string().into_bytes();
        let answer = post(&devnet.urls().gateway, "/graphql", body).await.json();
        answer["data"]["transactions"]["edges"][0]["node"]["id"].as_str().map(str::to_owned)
    })
    .await;
    idle(&devnet).await;
    assert_eq!(get(&devnet.urls().gateway, &format!("/raw/{found}")).await.text, "mail 1");
    assert_eq!(cu.asked().len(), 1, "{:?}", cu.asked());
}

#[tokio::test]
async fn what_cannot_be_sent_does_not_keep_its_siblings() {
    let a = process(b"a");
    let a_id = a.id();
    let cu = StandIn::start(move |path| {
        let mut short = mail(&text(&a_id), 1, &[]);
        short["Anchor"] = json!("short");
        let mut nowhere = mail("nowhere", 2, &[]);
        nowhere["Target"] = json!("0xabc");
        let mut malformed = mail(&text(&a_id), 3, &[]);
        malformed["Tags"] = json!([{ "name": "a", "value": 1 }]);
        let mut untargeted = mail("", 4, &[]);
        untargeted["Target"] = Value::Null;
        let messages = vec![short, nowhere, malformed, untargeted, mail(&text(&a_id), 5, &[("Assignments", "x")])];
        let boots = path.starts_with(&format!("/result/{}", text(&a_id)));
        (200, if boots { result(messages, vec![], vec![]) } else { nothing() })
    })
    .await;
    let devnet = network(Some(cu.url.clone())).await;
    send(&devnet, &a).await;
    let nodes = scheduled(&devnet, &a_id, 1).await;
    idle(&devnet).await;
    assert_eq!(schedule(&devnet, &a_id).await.len(), 1);
    assert_eq!(nodes[0]["message"]["data"], "mail 5");
    assert_eq!(tag(&nodes[0]["message"]["tags"], "Assignments"), None);
}

#[tokio::test]
async fn errors_are_asked_again_and_answers_that_make_no_sense_are_not() {
    let (a, b) = (process(b"a"), process(b"b"));
    let (a_id, b_id) = (a.id(), b.id());
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let cu = StandIn::start(move |path| {
        if path.contains(&text(&b_id)) {
            // Busy: 202 is an answer to the messenger, and one without arrays.
            return (202, json!({ "message": "in progress" }));
        }
        let try_ = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let again = path.starts_with(&format!("/result/{}", text(&a_id))) && try_ >= 3;
        match try_ {
            0..3 => (500, json!({ "error": "not yet" })),
            _ if again => (200, result(vec![mail(&text(&a_id), 1, &[])], vec![], vec![])),
            _ => (200, nothing()),
        }
    })
    .await;
    let devnet = network(Some(cu.url.clone())).await;
    send(&devnet, &a).await;
    scheduled(&devnet, &a_id, 1).await;
    send(&devnet, &b).await;
    idle(&devnet).await;
    let count = |id: &Id| cu.asked().iter().filter(|path| path.contains(&format!("/result/{}", text(id)))).count();
    assert_eq!((count(&a_id), count(&b_id)), (4, 1));
}

#[tokio::test]
async fn a_process_flooding_itself_with_equal_mail_is_stopped_by_the_scheduler() {
    let a = process(b"a");
    let a_id = a.id();
    let cu = StandIn::start(move |_| (200, result(vec![mail(&text(&a_id), 1, &[])], vec![], vec![]))).await;
    let devnet = network(Some(cu.url.clone())).await;
    send(&devnet, &a).await;
    scheduled(&devnet, &a_id, 1).await;
    idle(&devnet).await;
    assert_eq!(schedule(&devnet, &a_id).await.len(), 1);
}

#[tokio::test]
async fn errands_wait_for_the_compute_unit_to_be_named() {
    let devnet = network(None).await;
    let a = process(b"a");
    let a_id = a.id();
    send(&devnet, &a).await;
    assert_eq!(devnet.messenger().errands(), 1);
    let cu = StandIn::start(move |path| {
        let boots = path.starts_with(&format!("/result/{}", text(&a_id)));
        (200, if boots { result(vec![mail(&text(&a_id), 1, &[])], vec![], vec![]) } else { nothing() })
    })
    .await;
    devnet.messenger().set_cu(cu.url.clone());
    scheduled(&devnet, &a_id, 1).await;
    idle(&devnet).await;
}

#[tokio::test]
async fn monitored_processes_are_polled_from_their_newest_result_on() {
    let a = process(b"a");
    let a_id = a.id();
    let cu = StandIn::start(move |path| {
        let edge = |cursor: &str, n| json!({ "cursor": cursor, "node": result(vec![mail(&text(&a_id), n, &[])], vec![], vec![]) });
        let a = text(&a_id);
        let body = match path {
            path if path == format!("/results/{a}?sort=DESC&limit=1&processId={a}") => json!({ "edges": [{ "cursor": "bmV3ZXN0==", "node": {} }] }),
            path if path == format!("/cron/{a}?from=bmV3ZXN0==&limit=50") => json!({ "edges": [edge("Yg==", 1), edge("Yw==", 2)] }),
            // One malformed message: the page is dropped, its cursor is not.
            path if path == format!("/cron/{a}?from=Yw==&limit=50") => {
                let mut bad = edge("ZA==", 3);
                bad["node"]["Messages"][0]["Tags"] = json!(5);
                json!({ "edges": [edge("x", 4), bad] })
            }
            path if path == format!("/cron/{a}?from=ZA==&limit=50") => json!({ "edges": [edge("ZQ==", 5)] }),
            path if path.starts_with("/cron") => json!({ "edges": [] }),
            _ => nothing(),
        };
        (200, body)
    })
    .await;
    let devnet = network(Some(cu.url.clone())).await;
    send(&devnet, &a).await;
    let path = format!("/monitor/{}", text(&a_id));
    let body = message(&a_id, b"monitor me", &[]).to_bytes();
    let answer = post(&devnet.urls().messenger, &path, body.clone()).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "Monitoring process"));
    let again = post(&devnet.urls().messenger, &path, body.clone()).await;
    assert_eq!((again.status, again.json()), (400, json!({ "error": "Process already being monitored" })));
    let nodes = scheduled(&devnet, &a_id, 3).await;
    let data: Vec<_> = nodes.iter().map(|node| node["message"]["data"].as_str().unwrap()).collect();
    assert_eq!(data, ["mail 1", "mail 2", "mail 5"]);
    assert!(nodes.iter().all(|node| tag(&node["message"]["tags"], "Pushed-For").is_none()));

    let ended = ask("DELETE", &devnet.urls().messenger, &path, Some(body.clone())).await;
    assert_eq!((ended.status, ended.text.as_str()), (200, "Process deleted"));
    tokio::time::sleep(Duration::from_millis(60)).await;
    let polls = cu.asked().len();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(cu.asked().len(), polls);
    let gone = ask("DELETE", &devnet.urls().messenger, &path, Some(body)).await;
    assert_eq!((gone.status, gone.json()), (400, json!({ "error": "Process monitor not found" })));
}

#[tokio::test]
async fn monitoring_takes_a_signed_item_for_that_process() {
    let devnet = network(None).await;
    let a = process(b"a");
    let path = format!("/monitor/{}", a.id_text());
    let other = message(&[3; 32], b"x", &[]).to_bytes();
    for (path, body, part) in [
        (path.as_str(), Vec::new(), "Signed data item is required"),
        (&path, b"rubbish".to_vec(), "valid and signed"),
        (&path, other, "another target"),
        ("/monitor/x", b"x".to_vec(), "process id"),
    ] {
        let answer = post(&devnet.urls().messenger, path, body).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text.contains(part), "{}", answer.text);
    }
}

#[tokio::test]
async fn posts_that_are_no_signed_item_or_that_the_scheduler_refuses_are_400() {
    let devnet = network(None).await;
    let item = message(&[1; 32], b"x", &[]);
    let mut forged = item.to_bytes();
    *forged.last_mut().unwrap() ^= 1;
    let untyped = user().sign(Draft { target: Some([1; 32]), ..Draft::default() }).unwrap();
    for (body, part) in [
        (Vec::new(), "A valid and signed data item must be provided as the body"),
        (forged, "Signature verification failed"),
        (untyped.to_bytes(), "Type tag not present"),
    ] {
        let answer = post(&devnet.urls().messenger, "/", body).await;
        assert_eq!(answer.status, 400);
        assert!(answer.json()["error"].as_str().unwrap().contains(part), "{}", answer.text);
    }
    assert_eq!(get(&devnet.urls().messenger, "/x").await.status, 404);
    let first = send(&devnet, &item).await;
    assert_eq!(id(&json!(first)), item.id());
    assert_eq!(post(&devnet.urls().messenger, "/", item.to_bytes()).await.status, 400);
}

#[tokio::test]
async fn a_stopped_network_answers_no_more_and_leaves_its_ports() {
    let devnet = network(None).await;
    let urls = devnet.urls().clone();
    send(&devnet, &process(b"a")).await;
    devnet.stop().await;
    for url in [urls.gateway, urls.bundler, urls.messenger, urls.scheduler] {
        let port = url.port().unwrap();
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
