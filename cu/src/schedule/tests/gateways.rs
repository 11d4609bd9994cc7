//! Modules: their tags, their bytes, and gateways that fail.

use super::*;

const T: u64 = 1_750_000_000_000;
const B: u64 = 1_690_000;
const MODULE: &[(&str, &str)] = &[
    ("Module-Format", "wasm32-unknown-emscripten4"),
    ("Input-Encoding", "JSON-V1"),
    ("Output-Encoding", "JSON-V1"),
    ("Memory-Limit", "1-gb"),
    ("Compute-Limit", "9000000000000"),
];

async fn net() -> (Net, String) {
    let schedule = Schedule::new("p", T, B, &[]).assigned();
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    net.world.put("module", b"wasm", MODULE);
    (net, schedule.id())
}

#[tokio::test]
async fn a_module_is_asked_for_once_and_its_environment_is_complete() {
    let (net, pid) = net().await;
    let up = net.upstream();
    let process = up.process(&pid).await.unwrap();
    let module = up.module(&process).await.unwrap();
    up.module(&process).await.unwrap();
    assert_eq!(net.asked("/gw/graphql"), 1);
    assert_eq!((module.id.as_str(), module.owner.as_str()), (id("module").as_str(), "carol"));
    let environment: Value = serde_json::from_str(&crate::message::environment_json(&process, &module)).unwrap();
    assert_eq!(environment["Process"]["Tags"], net.world.schedules.lock().unwrap()[&pid].process["tags"]);
    assert_eq!(environment["Module"]["Tags"], tags(MODULE));
}

#[tokio::test]
async fn a_module_that_the_gateway_lacks_has_the_references_words_in_less_than_two_seconds() {
    let (net, pid) = net().await;
    net.world.transactions.lock().unwrap().clear();
    let up = net.upstream();
    let process = up.process(&pid).await.unwrap();
    let begun = std::time::Instant::now();
    match up.module(&process).await {
        Err(Error::Upstream(text)) => {
            assert_eq!(text, format!("Gateway returned no transaction for '{}'", id("module")))
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    // It is not remembered as missing.
    net.world.put("module", b"wasm", MODULE);
    assert!(up.module(&process).await.is_ok());
}

#[tokio::test]
async fn module_bytes_are_fetched_once_and_again_if_the_file_is_damaged() {
    let (net, _) = net().await;
    let up = net.upstream();
    let raw = format!("/gw/raw/{}", id("module"));
    for _ in 0..3 {
        assert_eq!(&*up.module_bytes(&id("module")).await.unwrap(), b"wasm");
    }
    // Also by a unit that starts anew over the same directory.
    assert_eq!(&*net.upstream().module_bytes(&id("module")).await.unwrap(), b"wasm");
    assert_eq!(net.asked(&raw), 1);
    let file = net.settings().data_dir.join("modules").join(id("module")).with_extension("wasm");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(&*up.module_bytes(&id("module")).await.unwrap(), b"wasm");
    assert_eq!(net.asked(&raw), 2);
}

#[tokio::test]
async fn module_bytes_need_no_writable_directory() {
    let (net, _) = net().await;
    let file = net.settings().data_dir.join("file");
    std::fs::write(&file, "").unwrap();
    let up = Upstream::new(&UnitSettings { data_dir: file, ..net.settings() }).unwrap();
    assert_eq!(&*up.module_bytes(&id("module")).await.unwrap(), b"wasm");
}

#[tokio::test]
async fn module_bytes_beyond_the_bound_or_missing_are_errors() {
    let (net, _) = net().await;
    net.special(|asked| asked.path.ends_with("large").then_some(Answer::Endless));
    let up = net.upstream();
    match up.module_bytes("large").await {
        Err(Error::Upstream(text)) => assert!(text.contains("/gw/raw/large: expected at most 4194304 bytes"), "{text}"),
        other => panic!("{other:?}"),
    }
    let begun = std::time::Instant::now();
    assert!(matches!(up.module_bytes(&id("nothing")).await, Err(Error::Upstream(_))));
    assert!(begun.elapsed() < Duration::from_secs(2));
    for path in ["../secret", "a/b", ""] {
        assert!(matches!(up.module_bytes(path).await, Err(Error::Invalid(_))), "{path:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_fails_or_talks_nonsense_is_an_error_that_says_so() {
    for (answer, says) in [
        (Answer::Bytes(500, b"down".to_vec()), "500: down"),
        (Answer::Bytes(200, b"<html>".to_vec()), "/gw/graphql: expected JSON, found \"<html>\""),
        (
            Answer::Json(200, json!({"errors": [{"message": "bad query"}]})),
            "data.transactions.edges: expected an array, found nothing (bad query)",
        ),
        (
            Answer::Json(200, json!({"data": {"transactions": {"edges": [{"node": {"id": 5}}]}}})),
            "id: expected a string, found the number 5",
        ),
        (
            Answer::Json(
                200,
                json!({"data": {"transactions": {"edges": [{"node": {"id": "other", "owner": {"address": "a", "key": ""}}}]}}}),
            ),
            "found transaction other",
        ),
    ] {
        let (net, pid) = net().await;
        let answer = Mutex::new(answer);
        net.special(move |asked| {
            (asked.path == "/gw/graphql").then(|| match &*answer.lock().unwrap() {
                Answer::Json(code, value) => Answer::Json(*code, value.clone()),
                Answer::Bytes(code, bytes) => Answer::Bytes(*code, bytes.clone()),
                _ => Answer::Hang,
            })
        });
        let up = net.upstream();
        let process = up.process(&pid).await.unwrap();
        let begun = std::time::Instant::now();
        match up.module(&process).await {
            Err(Error::Upstream(text)) => assert!(text.contains(says), "{says}: {text}"),
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_gateway_that_hangs_is_an_error_when_time_is_up() {
    let (net, pid) = net().await;
    net.special(|asked| asked.path.starts_with("/gw").then_some(Answer::Hang));
    let settings = UnitSettings { upstream_timeout: Duration::from_millis(300), ..net.settings() };
    let up = Upstream::new(&settings).unwrap();
    let process = up.process(&pid).await.unwrap();
    let begun = std::time::Instant::now();
    for failed in [up.module(&process).await.err(), up.module_bytes(&id("module")).await.err()] {
        match failed {
            Some(Error::Upstream(text)) => {
                assert!(text.contains("no answer within 300ms"), "{text}")
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn settings_with_a_url_that_is_no_web_address_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (net, _) = runtime.block_on(net());
    let file = || Url::parse("file:///etc/passwd").unwrap();
    let mut all = vec![];
    all.push(UnitSettings { su_url: Some(file()), ..net.settings() });
    all.push(UnitSettings { su_router_url: Some(file()), ..net.settings() });
    all.push(UnitSettings { arweave_url: file(), ..net.settings() });
    all.push(UnitSettings { graphql_url: file(), ..net.settings() });
    all.push(UnitSettings { block_graphql_urls: vec![file()], ..net.settings() });
    for settings in all {
        assert!(matches!(Upstream::new(&settings), Err(Error::Invalid(_))));
    }
}
