//! Finding messages in schedules, and schedulers for processes.

use super::*;
use crate::schedule::Position;

const T: u64 = 1_750_000_000_000;
const B: u64 = 1_690_000;

fn plain(name: &str) -> Schedule {
    Schedule::new(name, T, B, &[]).assigned().messages((1..30).map(|n| T + n * 10))
}

fn uid(schedule: &Schedule, nonce: usize) -> String {
    text(&schedule.nodes[nonce], "/message/id").to_owned()
}

#[tokio::test]
async fn a_message_is_found_by_its_id_its_assignments_id_and_its_nonce() {
    for quirks in [ROCKS, BY_TIME] {
        let schedule = plain("p");
        let net = Net::start(quirks, [schedule.clone()]).await;
        for nonce in [0, 1, 7, 29] {
            let want = Position {
                timestamp: T + nonce as u64 * 10,
                nonce: Some(nonce as u64),
                message_id: Some(uid(&schedule, nonce)),
                assignment_id: Some(text(&schedule.nodes[nonce], "/assignment/id").to_owned()),
                is_process: nonce == 0,
            };
            // Each time one that knows nothing yet.
            for uid in [uid(&schedule, nonce), want.assignment_id.clone().unwrap(), nonce.to_string()] {
                let up = net.upstream();
                let process = up.process(&schedule.id()).await.unwrap();
                assert_eq!(up.locate_message(&process, &uid).await.unwrap(), want, "{uid}");
            }
        }
    }
}

#[tokio::test]
async fn what_was_seen_on_a_page_is_not_asked_for() {
    let schedule = plain("p");
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let up = net.upstream();
    every(&up, &schedule.id(), Start::Cold, End::Latest).await;
    let process = up.process(&schedule.id()).await.unwrap();
    let before = net.asked("/");
    for nonce in 0..30 {
        let found = up.locate_message(&process, &uid(&schedule, nonce)).await.unwrap();
        assert_eq!((found.nonce, found.timestamp), (Some(nonce as u64), T + nonce as u64 * 10));
    }
    assert_eq!(net.asked("/"), before);
}

#[tokio::test]
async fn an_unknown_message_is_refused_in_less_than_two_seconds_with_the_schedulers_words() {
    let net = Net::start(ROCKS, [plain("p")]).await;
    let up = net.upstream();
    let process = up.process(&plain("p").id()).await.unwrap();
    for unknown in [id("nobody"), "30".to_owned(), "x".to_owned()] {
        let begun = std::time::Instant::now();
        match up.locate_message(&process, &unknown).await {
            Err(Error::Upstream(text)) => {
                assert!(text.starts_with("Error Encountered when loading message from Scheduler Unit: "), "{text}");
                if unknown.len() == 43 {
                    assert!(text.ends_with("Unit: 400: {\"error\":\"Message or Process not found\"}"), "{text}");
                }
            }
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert!(matches!(up.locate_message(&process, "../../etc").await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn an_id_that_its_scheduler_stopped_resolving_is_found_in_the_schedule() {
    let schedule = plain("p");
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let lost = format!("/su/{}", uid(&schedule, 17));
    net.special(move |asked| {
        (asked.path == lost).then(|| Answer::Json(400, json!({"error": "Message or Process not found"})))
    });
    let up = net.paged(4);
    let process = up.process(&schedule.id()).await.unwrap();
    assert_eq!(up.locate_message(&process, &uid(&schedule, 17)).await.unwrap().nonce, Some(17));

    // From a checkpoint on, where the caller has one.
    let up = net.paged(4);
    let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    let from = |nonce: usize| after(&entries[nonce].checkpoint);
    let found = up.find_in_schedule(&process, &uid(&schedule, 17), &from(12)).await.unwrap();
    assert_eq!(found.unwrap().nonce, Some(17));
    let up = net.paged(4);
    assert_eq!(up.find_in_schedule(&process, &uid(&schedule, 17), &from(17)).await.unwrap(), None);
}

#[tokio::test]
async fn an_id_from_before_what_is_remembered_is_found_too() {
    let schedule = plain("p");
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let lost = format!("/su/{}", uid(&schedule, 3));
    net.special(move |asked| (asked.path == lost).then(|| Answer::Json(400, json!({}))));
    let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    // This one has seen the end of the schedule only.
    let up = net.upstream();
    every(&up, &schedule.id(), after(&entries[20].checkpoint), End::Latest).await;
    let process = up.process(&schedule.id()).await.unwrap();
    let found = up.locate_message(&process, &uid(&schedule, 3)).await.unwrap();
    assert_eq!(found.nonce, Some(3));
    // And has seen all of it now: an unknown id costs one page more, not the schedule.
    let pages = || net.asked(&format!("/su/{}?", schedule.id()));
    let before = pages();
    assert!(up.locate_message(&process, &id("nobody")).await.is_err());
    assert!(pages() - before <= 2, "{} pages", pages() - before);
}

#[tokio::test]
async fn another_process_message_is_not_taken_for_ones_own() {
    let (p, q) = (plain("p"), plain("q").assignment("shared", T + 999, B, &[]));
    let net = Net::start(ROCKS, [p.clone(), q.clone()]).await;
    let up = net.upstream();
    let process = up.process(&p.id()).await.unwrap();
    for stranger in [uid(&q, 3), q.id(), text(&q.nodes[0], "/assignment/id").to_owned()] {
        match up.locate_message(&process, &stranger).await {
            Err(Error::Upstream(text)) => {
                assert!(text.contains(&q.id()) || text.contains("400"), "{text}")
            }
            other => panic!("{other:?}"),
        }
    }
    // A message of p that was assigned to q as well stands in both, at different places.
    let q = q.assignment("x", T + 1000, B, &[]).retag(31, "Message", &uid(&p, 5));
    net.world.schedules.lock().unwrap().insert(q.id(), q.clone());
    let up = net.upstream();
    let process = up.process(&q.id()).await.unwrap();
    assert_eq!(up.locate_message(&process, &uid(&p, 5)).await.unwrap().nonce, Some(31));
}

#[tokio::test]
async fn the_flat_answers_of_old_schedulers_are_read() {
    let schedule = plain("p");
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let (flat, elsewhere) = (id("flat"), id("elsewhere"));
    let (pid, flat_path, elsewhere_path) = (schedule.id(), format!("/su/{flat}"), format!("/su/{elsewhere}"));
    net.special(move |asked| match &asked.path {
        path if *path == flat_path => {
            Some(Answer::Json(200, json!({"process_id": pid, "timestamp": T + 70, "nonce": 7})))
        }
        path if *path == elsewhere_path => {
            Some(Answer::Json(200, json!({"process_id": "Q", "timestamp": T, "nonce": 7})))
        }
        _ => None,
    });
    let up = net.upstream();
    let process = up.process(&schedule.id()).await.unwrap();
    let found = up.locate_message(&process, &flat).await.unwrap();
    assert_eq!((found.timestamp, found.nonce), (T + 70, Some(7)));
    assert_eq!(every(&up, &schedule.id(), Start::Cold, End::Message(found)).await.len(), 8);
    assert!(up.locate_message(&process, &elsewhere).await.is_err());
}

#[tokio::test]
async fn the_latest_of_a_process_without_messages_is_the_process() {
    let schedules = [plain("p"), Schedule::new("fresh", T, B, &[]).assigned(), Schedule::new("old", T, B, &[])];
    let net = Net::start(ROCKS, schedules.clone()).await;
    let up = net.upstream();
    for (schedule, want) in schedules.iter().zip([(Some(29), false), (Some(0), true), (None, true)]) {
        let process = up.process(&schedule.id()).await.unwrap();
        let latest = up.latest(&process).await.unwrap();
        assert_eq!((latest.nonce, latest.is_process), want);
        assert_eq!(up.now(&process).await.unwrap(), (1_750_000_100_000, B));
    }
}

#[tokio::test]
async fn a_scheduler_in_the_settings_needs_no_gateway_to_know_a_fresh_process() {
    let net = Net::start(ROCKS, [plain("p")]).await;
    let up = net.upstream();
    up.process(&plain("p").id()).await.unwrap();
    up.process(&plain("p").id()).await.unwrap();
    assert_eq!((net.asked("/gw"), net.asked("/su")), (0, 1), "asked once, then known");
    assert_eq!(net.asked("/su/processes"), 1);
}

/// A network whose schedulers must be found: the process and its scheduler's location on the gateway.
async fn to_be_found() -> (Net, UnitSettings, String) {
    let schedule = plain("p");
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let pid = schedule.id();
    let node = json!({
        "id": pid, "recipient": "", "owner": {"address": "o", "key": ""}, "tags": schedule.process["tags"],
    });
    let location = json!({"id": id("l"), "tags": tags(&[("Url", net.url.join("/su/").unwrap().as_str()), ("Time-To-Live", "60000")])});
    let mut transactions = net.world.transactions.lock().unwrap();
    transactions.insert(pid.clone(), node);
    transactions.insert(format!("location of {}", id("scheduler")), location);
    drop(transactions);
    let settings = UnitSettings { su_url: None, ..net.settings() };
    (net, settings, pid)
}

#[tokio::test]
async fn a_scheduler_is_found_by_the_processes_tag_and_its_location() {
    let (net, settings, pid) = to_be_found().await;
    let up = Upstream::new(&settings).unwrap();
    let process = up.process(&pid).await.unwrap();
    assert_eq!(process.scheduler.path(), "/su/");
    assert_eq!(every(&up, &pid, Start::Cold, End::Latest).await.len(), 30);
    assert_eq!(net.asked("/su/?process-id="), 1, "asked whether it redirects");
    assert!(!net.world.log.lock().unwrap().iter().any(|asked| asked.contains("//")), "slashes are trimmed");
}

#[tokio::test]
async fn a_router_is_asked_first_and_passed_over_where_it_does_not_help() {
    let (net, settings, pid) = to_be_found().await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    net.special(|asked| match asked.path.as_str() {
        "/router-404" => Some(Answer::Json(404, json!({"error": "Process scheduler not found"}))),
        "/router-500" => Some(Answer::Bytes(500, vec![])),
        "/router-hangs" => Some(Answer::Hang),
        _ => None,
    });
    for router in [
        format!("http://{gone}/"),
        net.url.join("/router-404").unwrap().to_string(),
        net.url.join("/router-500").unwrap().to_string(),
        net.url.join("/router-hangs").unwrap().to_string(),
    ] {
        let su_router_url = Some(Url::parse(&router).unwrap());
        let timeout = Duration::from_millis(800);
        let up = Upstream::new(&UnitSettings { su_router_url, upstream_timeout: timeout, ..settings.clone() }).unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(up.process(&pid).await.unwrap().scheduler.path(), "/su/", "{router}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_routers_yes_or_redirect_is_followed_without_graphql() {
    let (net, settings, pid) = to_be_found().await;
    // The origin of the redirect is what counts, so a second stand-in serves at its root.
    let origin = net.url.clone();
    net.special(move |asked| match asked.path.as_str() {
        "/redirects" => Some(Answer::Redirect(307, origin.join("/anything?x=1").unwrap().to_string())),
        path if path.starts_with("/processes/") => Some(Answer::Json(200, plain("p").process)),
        _ => None,
    });
    let su_router_url = Some(net.url.join("/redirects").unwrap());
    let up = Upstream::new(&UnitSettings { su_router_url, ..settings.clone() }).unwrap();
    assert_eq!(up.process(&pid).await.unwrap().scheduler, net.url);
    let su_router_url = Some(net.url.join("/su").unwrap());
    let up = Upstream::new(&UnitSettings { su_router_url, ..settings }).unwrap();
    assert_eq!(up.process(&pid).await.unwrap().scheduler.path(), "/su");
    assert_eq!(net.asked("/gw"), 0);
}

#[tokio::test]
async fn what_cannot_be_found_has_the_references_words() {
    let (net, settings, pid) = to_be_found().await;
    let fails = async || {
        let begun = std::time::Instant::now();
        let failed = Upstream::new(&settings).unwrap().process(&pid).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        match failed {
            Err(Error::Upstream(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    let location = format!("location of {}", id("scheduler"));
    let set = |id: &str, pointer: &str, value: Value| {
        let mut transactions = net.world.transactions.lock().unwrap();
        *transactions.get_mut(id).unwrap().pointer_mut(pointer).unwrap() = value;
    };
    set(&location, "/tags/0/value", json!("file:///etc"));
    assert!(fails().await.starts_with("InvalidSchedulerLocation: Url of"));
    set(&location, "/tags/0/name", json!("Uri"));
    assert_eq!(fails().await, "InvalidSchedulerLocation: No \"Url\" tag found on Scheduler-Location");
    set(&location, "/tags", tags(&[("Url", "http://x")]));
    assert_eq!(fails().await, "InvalidSchedulerLocation: No \"Time-To-Live\" tag found on Scheduler-Location");
    net.world.transactions.lock().unwrap().remove(&location);
    let wallet = id("scheduler");
    assert_eq!(
        fails().await,
        format!("TransactionNotFound: Could not find 'Scheduler-Location' owner by wallet {wallet}")
    );
    set(&pid, "/tags", json!([]));
    assert_eq!(fails().await, "SchedulerTagNotFound: No \"Scheduler\" tag found on process");
    net.world.transactions.lock().unwrap().remove(&pid);
    assert_eq!(fails().await, format!("TransactionNotFound: Process {pid} was not found on gateway"));
}

#[tokio::test]
async fn a_process_that_the_gateway_gets_within_a_second_is_waited_for() {
    let (net, settings, pid) = to_be_found().await;
    let node = net.world.transactions.lock().unwrap().remove(&pid).unwrap();
    let (world, fresh) = (net.world.clone(), pid.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(900)).await;
        world.transactions.lock().unwrap().insert(fresh, node);
    });
    assert!(Upstream::new(&settings).unwrap().process(&pid).await.is_ok());
}

#[tokio::test]
async fn a_process_whose_scheduler_is_gone_is_looked_up_anew() {
    let (net, settings, pid) = to_be_found().await;
    let up = Upstream::new(&settings).unwrap();
    let mut process = (*up.process(&pid).await.unwrap()).clone();
    let lookups = net.asked("/su/processes");
    process.scheduler = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
    };
    assert!(up.now(&process).await.is_err());
    up.process(&pid).await.unwrap();
    assert_eq!(net.asked("/su/processes"), lookups + 1);
}

#[tokio::test]
async fn owners_that_are_not_allowed_are_denied() {
    let net = Net::start(ROCKS, [plain("p")]).await;
    let allow = |owners: &[&str]| {
        let allow_owners = owners.iter().map(|owner| (*owner).to_owned()).collect();
        Upstream::new(&UnitSettings { allow_owners, ..net.settings() }).unwrap()
    };
    assert!(allow(&[&id("boss")]).process(&plain("p").id()).await.is_ok());
    match allow(&["someone"]).process(&plain("p").id()).await {
        Err(error) => assert_eq!(error.to_string(), format!("Access denied for process owner {}", id("boss"))),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unknown_process_has_the_schedulers_words_at_once() {
    let net = Net::start(ROCKS, [plain("p")]).await;
    let begun = std::time::Instant::now();
    match net.upstream().process(&id("nobody")).await {
        Err(Error::Upstream(text)) => {
            assert!(text.contains("400: {\"error\":\"NotFound("), "{text}")
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
}
