//! A process can hurt only itself, and not for ever.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_names_the_message_keeps_the_state_and_is_tried_again() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "timeout-once", "inc"]);
    world.network.spawn("q", &["inc"]);
    let Err(Error::Internal(text)) = world.result("p", &message_id("p", 3)).await else { panic!() };
    assert!(text.contains(&message_id("p", 2)) && text.contains("process p"), "{text}");
    assert_eq!(world.metrics().time_limits_hit.get(), 1);
    assert_eq!(world.unit.results("p", all()).await.unwrap().edges.len(), 2);
    assert_eq!(world.count("q", 1).await, 1);
    assert_eq!(world.count("p", 3).await, 3);
    // 0 and 1 were not evaluated again.
    assert_eq!(world.engine.evaluations(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_always_times_out_hurts_what_is_behind_it_only() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "timeout", "inc"]);
    for tried in [1, 2, 2, 2] {
        let Err(Error::Internal(text)) = world.result("p", &message_id("p", 3)).await else { panic!() };
        assert!(text.contains(&message_id("p", 2)), "{text}");
        // After the second time in a row it has to wait; the error says so.
        assert_eq!(world.metrics().time_limits_hit.get(), tried);
    }
    assert_eq!(world.count("p", 1).await, 1);
    assert_eq!(count_in(&world.unit.state("p", Some(ORIGIN + 15)).await.unwrap().memory), 1);
    assert_eq!(world.engine.evaluations(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ran_out_of_time_is_tried_again_after_a_pause() {
    let world = World::with(|s| s.evaluation_time_limit = Duration::from_millis(50)).await;
    world.network.spawn("p", &["timeout"]);
    let uid = message_id("p", 1);
    for _ in 0..3 {
        assert!(world.result("p", &uid).await.is_err());
    }
    assert_eq!(world.metrics().time_limits_hit.get(), 2);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(world.result("p", &uid).await.is_err());
    assert_eq!(world.metrics().time_limits_hit.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_drops_that_process_which_replays_and_no_other() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "panic-once", "inc"]);
    world.network.spawn("q", &["inc", "inc"]);
    assert_eq!(world.count("q", 1).await, 1);
    let Err(Error::Internal(text)) = world.result("p", &message_id("p", 3)).await else { panic!() };
    assert!(text.contains(&message_id("p", 2)) && text.contains("a fault on purpose"), "{text}");
    assert_eq!(world.unit.status().processes_live, 1);
    assert_eq!(world.metrics().panics.get(), 1);
    assert_eq!(world.count("q", 2).await, 2);
    assert_eq!(world.count("p", 3).await, 3);
    assert_eq!(world.metrics().determinism_faults.get(), 0);
    assert_eq!(world.unit.status().processes_live, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_memory_the_host_lost_is_replayed() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "break-once", "inc"]);
    let Err(Error::Internal(text)) = world.result("p", &message_id("p", 3)).await else { panic!() };
    assert!(text.contains("no memory, on purpose"), "{text}");
    assert_eq!(world.unit.status().processes_live, 0);
    assert_eq!(world.count("p", 3).await, 3);
    assert_eq!(world.engine.evaluations(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_cannot_run_is_unprocessable_and_compiled_once() {
    let world = World::new().await;
    world.network.spawn("bad", &["inc"]);
    for _ in 0..3 {
        let Err(Error::Unprocessable(text)) = world.result("bad", &message_id("bad", 1)).await else { panic!() };
        assert!(text.contains("is not WebAssembly") && text.contains("module-bad"), "{text}");
    }
    assert_eq!(world.engine.loads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_does_not_start_up_is_tried_once_and_on_no_evaluating_thread() {
    let world = World::new().await;
    world.network.spawn("unstartable", &["inc"]);
    for _ in 0..3 {
        let Err(Error::Unprocessable(text)) = world.result("unstartable", "unstartable").await else { panic!() };
        assert!(text.contains("fails at start-up") && text.contains("module-unstartable"), "{text}");
    }
    assert_eq!((world.engine.loads(), world.metrics().modules_loaded.get()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_in_a_long_message_holds_up_no_other() {
    let world = World::new().await;
    world.network.spawn("p", &["gate"]);
    world.network.spawn("q", &["inc", "inc"]);
    let slow = world.spawn_result("p", &message_id("p", 1));
    eventually(|| world.engine.waiting() == 1).await;
    assert_eq!(world.count("q", 2).await, 2);
    world.engine.open_gate();
    assert_eq!(count_of(&slow.await.unwrap().unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_any_length_are_refused_or_answered_but_never_stored() {
    let world = World::new().await;
    let long = "x".repeat(100_000);
    assert!(matches!(world.result(&long, "m").await, Err(Error::Invalid(_))));
    assert!(matches!(world.result("p", &long).await, Err(Error::Invalid(_))));
    assert!(matches!(world.unit.results(&long, all()).await, Err(Error::Invalid(_))));
}
