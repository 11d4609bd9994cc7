//! Schedulers that fail or lie: each a clear error, in time, after what was right.

use super::*;

const T: u64 = 1_750_000_000_000;
const B: u64 = 1_690_000;

fn plain() -> Schedule {
    Schedule::new("p", T, B, &[]).assigned().messages((1..8).map(|n| T + n * 10))
}

/// Reads a schedule to its end; gives what came before the error, and the error's text.
async fn broken(net: &Net, up: &Upstream) -> (Vec<Entry>, String) {
    let pid = net.world.schedules.lock().unwrap().keys().next().unwrap().clone();
    let process = up.process(&pid).await.unwrap();
    let begun = std::time::Instant::now();
    let (entries, error) = all(up, &process, Start::Cold, End::Latest).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    match error {
        Some(Error::Upstream(text)) => (entries, text),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_schedule_with_a_fault_is_read_up_to_it_and_the_error_names_process_and_nonce() {
    let pid = plain().id();
    let mut hole = plain();
    hole.nodes.remove(4);
    let mut other_again = plain();
    other_again.nodes[5] = other_again.nodes[4].clone();
    other_again.nodes[5]["assignment"]["id"] = json!(id("another"));
    let mut wrong_type = plain();
    wrong_type.nodes[4]["message"]["tags"] = json!([{"name": "A", "value": 1}]);
    let mut nothing = plain();
    nothing.nodes[4] = json!({"message": null, "assignment": plain().nodes[0]["assignment"]});
    let mut swapped = plain();
    swapped.nodes.swap(4, 5);
    let mut late_start = plain();
    late_start.nodes.remove(0);
    for (schedule, good, says) in [
        (hole, 4, "after nonce 3: expected nonce 4 after nonce 3, found nonce 5".to_owned()),
        (other_again, 5, format!("after nonce 4: nonce 4 is assignment {} now, and was", id("another"))),
        (
            wrong_type,
            4,
            "after nonce 3: edges[4].node.message.tags[0].value: expected a string, found the number 1".into(),
        ),
        (nothing, 4, "after nonce 3: edges[4].node.message: expected a message".into()),
        (swapped, 4, "after nonce 3: expected nonce 4 after nonce 3, found nonce 5".into()),
        (late_start, 0, "from the beginning: expected nonce 0 first, found nonce 1".into()),
        (plain().retag(4, "Process", "Q"), 4, "names process Q".into()),
        (plain().retag(4, "Timestamp", &(T + 1).to_string()), 4, "before 1750000000030 of nonce 3".into()),
        (plain().retag(4, "Timestamp", "soon"), 4, "tag Timestamp: expected a whole number, found \"soon\"".into()),
        (plain().retag(4, "Nonce", "-4"), 4, "tag Nonce: expected a whole number".into()),
        (plain().retag(4, "Block-Height", "1e400x"), 8, String::new()),
    ] {
        // In the order of its elements, whatever they say.
        let net = Net::start(ROCKS, [schedule.clone()]).await;
        let edges: Vec<Value> = schedule.nodes.iter().map(|node| json!({"node": node, "cursor": "x"})).collect();
        let page = json!({"page_info": {"has_next_page": false}, "edges": edges});
        let path = format!("/su/{pid}");
        net.special(move |asked| (asked.path == path).then(|| Answer::Json(200, page.clone())));
        if says.is_empty() {
            // "1e400x" begins with the number 1, and that is how the network reads it.
            assert_eq!(every(&net.upstream(), &pid, Start::Cold, End::Latest).await.len(), good);
            continue;
        }
        let (entries, text) = broken(&net, &net.upstream()).await;
        assert_eq!(nonces(&entries), (0..good as u64).map(Some).collect::<Vec<_>>(), "{text}");
        assert!(text.contains(&says), "{says}: {text}");
        assert!(text.contains(&pid), "{text}");
    }
}

#[tokio::test]
async fn a_repeat_with_the_same_assignment_is_dropped() {
    let mut schedule = plain();
    schedule.nodes.insert(4, schedule.nodes[3].clone());
    let pid = schedule.id();
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    assert_eq!(every(&net.upstream(), &pid, Start::Cold, End::Latest).await.len(), 8);
}

#[tokio::test]
async fn an_answer_that_is_no_page_is_an_error_that_shows_it() {
    let pid = plain().id();
    for (answer, says) in [
        (json!([]), "page_info.has_next_page: expected true or false, found nothing"),
        (json!({"page_info": {"has_next_page": "yes"}, "edges": []}), "found the string \"yes\""),
        (json!({"page_info": {"has_next_page": true}, "edges": {}}), "edges: expected an array"),
    ] {
        let net = Net::start(ROCKS, [plain()]).await;
        let path = format!("/su/{pid}");
        net.special(move |asked| (asked.path == path).then(|| Answer::Json(200, answer.clone())));
        let (none, text) = broken(&net, &net.upstream()).await;
        assert!(none.is_empty() && text.contains(says) && text.contains(&pid), "{text}");
    }
    for (bytes, says) in [
        (&b"<html>no</html>"[..], "expected JSON, found \"<html>no</html>\" (15 bytes"),
        (b"", "expected JSON, found \"\""),
        (b"{\"page_info\":{\"has_next_page\":false},\"edges\":[],\"x\":\"\xff\xfe\"}", "invalid unicode"),
        (b"{\"page_info\":{\"has_next_page\":false},\"edges\":[", "EOF"),
        (&[b'['; 100_000], "recursion limit"),
    ] {
        let net = Net::start(ROCKS, [plain()]).await;
        let path = format!("/su/{pid}");
        let bytes = bytes.to_vec();
        net.special(move |asked| (asked.path == path).then(|| Answer::Bytes(200, bytes.clone())));
        let (none, text) = broken(&net, &net.upstream()).await;
        assert!(none.is_empty() && text.contains(says) && text.contains(&format!("/su/{pid}")), "{says}: {text}");
    }
}

#[tokio::test]
async fn a_body_of_100_mb_or_without_end_is_left_at_its_bound() {
    let pid = plain().id();
    for endless in [false, true] {
        let net = Net::start(ROCKS, [plain()]).await;
        let path = format!("/su/{pid}");
        net.special(move |asked| {
            (asked.path == path).then(
                || {
                    if endless { Answer::Endless } else { Answer::Bytes(200, vec![b' '; 100 << 20]) }
                },
            )
        });
        // The smallest page is too large too.
        let (none, text) = broken(&net, &net.paged(2)).await;
        assert!(none.is_empty() && text.contains("expected at most 4194304 bytes"), "{text}");
    }
}

#[tokio::test]
async fn a_scheduler_that_fails_in_passing_is_asked_again() {
    let net = Net::start(ROCKS, [plain()]).await;
    let failures = std::sync::atomic::AtomicU32::new(0);
    net.special(move |asked| {
        let pages = asked.query.contains_key("limit");
        let n = if pages { failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed) } else { 9 };
        match n {
            0 => Some(Answer::Bytes(500, b"oh".to_vec())),
            1 => Some(Answer::Bytes(429, vec![])),
            2 => Some(Answer::Broken(b"{\"page_info\"".to_vec())),
            _ => None,
        }
    });
    assert_eq!(every(&net.upstream(), &plain().id(), Start::Cold, End::Latest).await.len(), 8);
}

#[tokio::test]
async fn a_scheduler_that_keeps_failing_is_an_error_in_a_few_seconds() {
    let net = Net::start(ROCKS, [plain()]).await;
    net.special(|asked| asked.query.contains_key("limit").then(|| Answer::Bytes(503, b"out of order".to_vec())));
    let (_, text) = broken(&net, &net.upstream()).await;
    assert!(text.ends_with("Scheduler Unit: 503: out of order"), "{text}");
    assert!(net.asked(&format!("/su/{}", plain().id())) <= 5);
}

#[tokio::test]
async fn a_scheduler_that_hangs_is_an_error_when_time_is_up() {
    let net = Net::start(ROCKS, [plain()]).await;
    net.special(|asked| asked.query.contains_key("limit").then_some(Answer::Hang));
    let settings = UnitSettings { upstream_timeout: Duration::from_millis(300), ..net.settings() };
    let begun = std::time::Instant::now();
    let (_, text) = broken(&net, &Upstream::new(&settings).unwrap()).await;
    assert!(text.contains("no answer within 300ms") && begun.elapsed() < Duration::from_secs(2), "{text}");
}

#[tokio::test]
async fn a_fault_further_down_does_not_take_earlier_pages_with_it() {
    let net = Net::start(ROCKS, [plain()]).await;
    net.special(|asked| {
        (asked.query.get("from-nonce").is_some_and(|nonce| nonce == "3")).then(|| Answer::Bytes(400, b"no".to_vec()))
    });
    let (entries, text) = broken(&net, &net.paged(4)).await;
    assert_eq!(entries.len(), 4);
    assert!(text.ends_with("400: no"), "{text}");
}

#[tokio::test]
async fn a_scheduler_that_is_not_there_is_an_error_in_a_few_seconds() {
    let net = Net::start(ROCKS, [plain()]).await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let su_url = Some(Url::parse(&format!("http://{gone}")).unwrap());
    let up = Upstream::new(&UnitSettings { su_url, ..net.settings() }).unwrap();
    let begun = std::time::Instant::now();
    match up.process(&plain().id()).await {
        Err(Error::Upstream(text)) => {
            assert!(
                text.starts_with("Error Encountered when loading process from Scheduler Unit: /processes/"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
}
