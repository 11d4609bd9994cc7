//! Who shares work with whom, and that nothing is done twice or at the same time.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_at_the_same_time_evaluate_once() {
    let world = World::new().await;
    world.network.spawn("p", &["gate"]);
    let calls: Vec<_> = (0..3).map(|_| world.spawn_result("p", &message_id("p", 1))).collect();
    eventually(|| world.engine.waiting() == 1).await;
    eventually(|| world.metrics().requests.get() == 3).await;
    world.engine.open_gate();
    for call in calls {
        assert_eq!(count_of(&call.await.unwrap().unwrap()), 1);
    }
    assert_eq!(world.engine.evaluations(), 2);
    assert_eq!(world.metrics().evaluations.get(), 2);
    assert_eq!(world.metrics().requests_coalesced.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_simultaneous_cold_requests_count_right_and_agree() {
    for round in 0..5 {
        let world = World::new().await;
        world.network.entry_delay_ms.store(round % 3, Ordering::SeqCst);
        world.network.spawn("p", &["inc"; 12]);
        let nonces: Vec<u64> = (1..=12).map(|n| (n * 5 + round) % 12 + 1).collect();
        let twice = nonces.iter().chain(nonces.iter());
        let calls: Vec<_> = twice.map(|n| (*n, world.spawn_result("p", &message_id("p", *n)))).collect();
        for (nonce, call) in calls {
            assert_eq!(count_of(&call.await.unwrap().unwrap()), nonce);
        }
        assert_eq!(world.engine.evaluations(), 13);
        assert_eq!(world.network.streams_open_max.load(Ordering::SeqCst), 1);
        assert_eq!(world.metrics().determinism_faults.get(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_never_has_two_streams_whatever_is_asked() {
    let world = World::with(|s| {
        s.dry_run_result_max_age = Duration::ZERO;
        s.dry_run_default_max_age = Duration::ZERO;
        s.dry_run_queue_max = 1000;
    })
    .await;
    world.network.entry_delay_ms.store(1, Ordering::SeqCst);
    world.network.spawn("p", &["inc"; 20]);
    let mut calls = Vec::new();
    for n in 0..60_u64 {
        let (unit, nonce) = (world.unit.clone(), n % 20 + 1);
        calls.push(tokio::spawn(async move {
            match n % 4 {
                0 => drop(unit.state("p", None).await.unwrap()),
                1 => drop(unit.cron("p", all()).await.unwrap()),
                2 => drop(unit.dry_run("p", dry_runs::run("say"), None).await.unwrap()),
                _ => drop(unit.result("p", &message_id("p", nonce), None).await.unwrap()),
            }
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(world.network.streams_open_max.load(Ordering::SeqCst), 1);
    assert_eq!(world.metrics().evaluations.get(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearer_goal_is_served_while_a_stream_passes_it() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "gate", "inc"]);
    let far = world.spawn_result("p", &message_id("p", 3));
    eventually(|| world.engine.waiting() == 1).await;
    let near = world.spawn_result("p", &message_id("p", 2));
    eventually(|| world.metrics().requests.get() == 2).await;
    world.engine.open_gate();
    assert_eq!(count_of(&near.await.unwrap().unwrap()), 2);
    assert_eq!(count_of(&far.await.unwrap().unwrap()), 3);
    assert_eq!(world.network.streams_opened.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_the_present_sees_what_was_scheduled_before_it_was_made() {
    let world = World::new().await;
    world.network.spawn("p", &["gate"]);
    let first = tokio::spawn({
        let unit = world.unit.clone();
        async move { unit.state("p", None).await }
    });
    eventually(|| world.engine.waiting() == 1).await;
    world.network.append("p", "inc");
    let second = tokio::spawn({
        let unit = world.unit.clone();
        async move { unit.state("p", None).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.engine.open_gate();
    assert!(count_in(&first.await.unwrap().unwrap().memory) >= 1);
    assert_eq!(count_in(&second.await.unwrap().unwrap().memory), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_one_module_share_its_compilation() {
    let world = World::new().await;
    world.network.shared_module.store(true, Ordering::SeqCst);
    for n in 0..6 {
        world.network.spawn(&format!("p{n}"), &["inc"]);
    }
    let calls: Vec<_> =
        (0..6).map(|n| format!("p{n}")).map(|pid| world.spawn_result(&pid, &message_id(&pid, 1))).collect();
    for call in calls {
        assert_eq!(count_of(&call.await.unwrap().unwrap()), 1);
    }
    assert_eq!(world.engine.loads(), 1);
    assert_eq!(world.network.module_fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_answer_leaves_the_evaluation_going() {
    let world = World::new().await;
    world.network.spawn("p", &["gate"]);
    let uid = message_id("p", 1);
    let busy = world.unit.result("p", &uid, Some(Duration::from_millis(30))).await.unwrap();
    assert_eq!(busy, Reply::Busy);
    world.engine.open_gate();
    eventually(|| world.engine.evaluations() == 2).await;
    assert_eq!(world.count("p", 1).await, 1);
    assert_eq!(world.engine.evaluations(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_far_beyond_a_process_at_work_is_told_to_come_back() {
    let world = World::with(|s| s.hydration_nonce_limit = 3).await;
    world.network.spawn("p", &["inc", "gate", "inc", "inc", "inc", "inc", "inc"]);
    let first = world.spawn_result("p", &message_id("p", 7));
    eventually(|| world.engine.waiting() == 1 && world.unit.0.processes.running_at("p") == Some(1)).await;
    let far = world.result("p", &message_id("p", 6)).await.unwrap_err();
    let Error::Hydrating(text) = far else { panic!("{far:?}") };
    assert_eq!(
        text,
        "Nonce limit exceeded: process p is currently hydrating with >3 nonces remaining (5 remaining). \
         Please try again later."
    );
    let dry = world.unit.dry_run("p", dry_runs::run("say"), None).await.unwrap_err();
    assert!(matches!(dry, Error::Hydrating(_)));
    let near = world.spawn_result("p", &message_id("p", 4));
    eventually(|| world.metrics().requests.get() == 3).await;
    world.engine.open_gate();
    assert_eq!(count_of(&near.await.unwrap().unwrap()), 4);
    assert_eq!(count_of(&first.await.unwrap().unwrap()), 7);
}
