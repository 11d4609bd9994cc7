//! What is kept, what is dropped, and what survives.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_finished_results_are_answered_without_evaluating() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "inc"]);
    assert_eq!(world.count("p", 2).await, 2);
    let world = world.restart().await;
    let opened = world.network.streams_opened.load(Ordering::SeqCst);
    for nonce in [2, 1] {
        assert_eq!(world.count("p", nonce).await, nonce);
    }
    assert_eq!(count_of(&world.result("p", "p").await.unwrap()), 0);
    assert_eq!(world.engine.evaluations(), 0);
    assert_eq!(world.network.streams_opened.load(Ordering::SeqCst), opened);
    assert_eq!(world.metrics().results_from_store.get(), 3);
    // What is new replays the old, and changes none of it.
    world.network.append("p", "inc");
    assert_eq!(world.count("p", 3).await, 3);
    assert_eq!(world.engine.evaluations(), 4);
    assert_eq!(world.metrics().determinism_faults.get(), 0);
    assert_eq!(world.unit.status().results_stored, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_result_of_a_message_wins_and_another_is_counted() {
    let world = World::new().await;
    world.network.spawn("p", &["random"]);
    let first = world.result("p", &message_id("p", 1)).await.unwrap();
    let world = world.restart().await;
    // The new engine's first `random` is not what the old one's was.
    world.network.spawn("q", &["random"]);
    world.result("q", &message_id("q", 1)).await.unwrap();
    world.network.append("p", "inc");
    world.result("p", &message_id("p", 2)).await.unwrap();
    assert_eq!(world.metrics().determinism_faults.get(), 1);
    assert_eq!(world.result("p", &message_id("p", 1)).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_process_over_the_budget_is_dropped_and_replays() {
    let world = World::with(|s| s.process_memory_budget = 1500).await;
    world.network.spawn("a", &["grow 1000"]);
    world.network.spawn("b", &["grow 1000"]);
    assert_eq!(world.count("a", 1).await, 1);
    assert_eq!(world.unit.status().processes_live, 1);
    assert_eq!(world.count("b", 1).await, 1);
    eventually(|| world.unit.status().processes_live == 1).await;
    assert_eq!(world.unit.status().processes_live_bytes, 1000);
    assert_eq!(world.metrics().processes_dropped.get(), 1);
    // What is done is answered from the store; what is new is evaluated from the beginning, to the same end.
    assert_eq!(world.count("a", 1).await, 1);
    assert_eq!(world.engine.evaluations(), 4);
    world.network.append("a", "inc");
    assert_eq!(world.count("a", 2).await, 2);
    assert_eq!(world.engine.evaluations(), 7);
    assert_eq!(world.metrics().determinism_faults.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_larger_than_the_budget_stays() {
    let world = World::with(|s| s.process_memory_budget = 10).await;
    world.network.spawn("a", &["grow 1000"]);
    assert_eq!(world.count("a", 1).await, 1);
    world.network.append("a", "inc");
    assert_eq!(world.count("a", 2).await, 2);
    assert_eq!(world.engine.evaluations(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_nobody_asks_for_is_dropped_after_its_time() {
    let world = World::with(|s| s.process_memory_ttl = Duration::from_millis(50)).await;
    world.network.spawn("a", &["inc"]);
    assert_eq!(world.count("a", 1).await, 1);
    eventually(|| world.unit.status().processes_live == 0).await;
    assert_eq!(world.unit.status().processes_live_bytes, 0);
    world.network.append("a", "inc");
    assert_eq!(world.count("a", 2).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_evaluation_cache_results_are_whole_or_too_early_but_never_empty() {
    let world = World::with(|s| s.evaluation_cache = false).await;
    world.network.spawn("p", &["inc"]);
    world.unit.state("p", None).await.unwrap();
    assert_eq!(world.count("p", 1).await, 1);
    assert_eq!(world.count("p", 1).await, 1);
    assert_eq!(world.engine.evaluations(), 2);
    assert_eq!(world.unit.results("p", all()).await.unwrap().edges.len(), 0);
    for _ in 0..80 {
        world.network.append("p", "inc");
    }
    assert_eq!(world.count("p", 81).await, 81);
    let Err(Error::TooEarly(text)) = world.result("p", &message_id("p", 1)).await else { panic!() };
    assert_eq!(text, "message at nonce 1 not found cached, and earlier than latest known nonce 81");
    assert_eq!(world.unit.status().results_stored, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_what_is_in_flight_and_refuses_what_comes_later() {
    let world = World::new().await;
    world.network.spawn("p", &["sleep 200"]);
    let call = world.spawn_result("p", &message_id("p", 1));
    eventually(|| world.unit.0.metrics.evaluations_running.get() > 0).await;
    world.unit.shutdown().await;
    assert_eq!(count_of(&call.await.unwrap().unwrap()), 1);
    let Err(Error::Internal(text)) = world.result("p", "other").await else { panic!() };
    assert_eq!(text, "this unit is shutting down");
    assert_eq!(world.unit.status().processes_live, 0);
    let world = world.restart().await;
    assert_eq!(world.count("p", 1).await, 1);
    assert_eq!(world.engine.evaluations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("not-a-directory");
    std::fs::write(&file, b"").unwrap();
    let opened = Unit::start(settings(&file), Arc::new(Network::default()), Arc::new(Counters::default()));
    let Err(Error::Internal(text)) = opened.await else { panic!("opened") };
    assert!(text.contains("not-a-directory"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_unit_ends_its_processes() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    assert_eq!(world.count("p", 1).await, 1);
    let store = Arc::downgrade(&world.unit.0.store);
    drop(world);
    eventually(|| store.strong_count() == 0).await;
}
