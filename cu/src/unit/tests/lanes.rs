//! Messages that go to lanes, and those that come back.

use super::*;
use crate::settings::EngineChoice;

/// Processes side by side, each with these messages.
async fn world(engine: EngineChoice, processes: usize, messages: &[&str]) -> World {
    let world = World::with(|settings| settings.engine = engine).await;
    world.network.shared_module.store(true, Ordering::SeqCst);
    for at in 0..processes {
        world.network.spawn(&format!("p{at}"), messages);
    }
    world
}

/// A counter, by its name and labels.
fn metric(world: &World, name: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    world.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix("lockstep_")?.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

/// Asks every process for the count after its message at a nonce, all at once.
async fn counts(world: &World, processes: usize, nonce: u64) -> Vec<u64> {
    let asked: Vec<_> =
        (0..processes).map(|at| world.spawn_result(&format!("p{at}"), &message_id(&format!("p{at}"), nonce))).collect();
    let mut counts = Vec::new();
    for answer in asked {
        counts.push(count_of(&answer.await.unwrap().unwrap()));
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_evaluate_side_by_side_and_in_order() {
    let messages: Vec<&str> = ["sleep 5"; 12].to_vec();
    let world = world(EngineChoice::Lanes, 40, &messages).await;
    assert_eq!(counts(&world, 40, 12).await, [12; 40]);
    let in_lanes = world.engine.lane_evaluations();
    // All but the process's own entry.
    assert_eq!(in_lanes, 40 * 12);
    assert!(world.engine.lane_groups_max() > 20, "{}", world.engine.lane_groups_max());
    assert_eq!(world.engine.evaluations() - world.engine.fork_evaluations(), 40 * 13);
    assert_eq!(world.engine.lane_compilations(), 1);
    assert_eq!(world.metrics().evaluations.get(), 40 * 13);
    // Some were held against the native engine.
    assert!((1..100).contains(&world.engine.fork_evaluations()), "{}", world.engine.fork_evaluations());
    assert_eq!(
        metric(&world, r#"lanes_compared_total{module="module-shared"}"#),
        world.engine.fork_evaluations() as u64
    );
    assert_eq!(count_in(&world.unit.state("p7", None).await.unwrap().memory), 12);
    // A dry run sees the state that lanes left; a restart answers from the store.
    let world = world.restart().await;
    assert_eq!(counts(&world, 40, 12).await, [12; 40]);
    assert_eq!(world.engine.evaluations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_evaluated_natively_and_nothing_is_lost() {
    let world = world(EngineChoice::Lanes, 20, &["inc", "error", "lane-bail", "throw", "inc"]).await;
    assert_eq!(counts(&world, 20, 5).await, [3; 20]);
    for at in 0..20 {
        let pid = format!("p{at}");
        let error = world.result(&pid, &message_id(&pid, 2)).await.unwrap();
        assert_eq!((error.error, error.output), (Some(json!("an error of the process")), Some(json!("2"))));
        assert_eq!(world.result(&pid, &message_id(&pid, 4)).await.unwrap().error, Some(json!({})));
    }
    assert_eq!(world.engine.lane_evaluations(), 20 * 4);
    assert_eq!(metric(&world, r#"lanes_handed_back_total{module="module-shared",reason="host"}"#), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_fails_costs_time_and_no_result() {
    for failure in ["lane-lost", "lane-panic"] {
        let world = world(EngineChoice::Lanes, 10, &["inc", "inc", failure, "inc"]).await;
        assert_eq!(counts(&world, 10, 4).await, [4; 10], "{failure}");
        assert!(world.engine.lane_evaluations() > 0);
        world.unit.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_are_wrong_are_found_out_before_anyone_is_told() {
    for fault in ["lane-wrong", "lane-astray"] {
        let world = world(EngineChoice::Lanes, 40, &[fault, "inc", "inc"]).await;
        assert_eq!(counts(&world, 40, 3).await, [3; 40], "{fault}");
        for at in 0..40 {
            let pid = format!("p{at}");
            let told = world.result(&pid, &message_id(&pid, 1)).await.unwrap();
            assert_eq!(told.output, Some(json!("1")), "{fault}");
            assert_eq!(count_in(&world.unit.state(&pid, None).await.unwrap().memory), 3, "{fault}");
        }
        assert_eq!(metric(&world, r#"lanes_wrong_total{module="module-shared"}"#), 1, "{fault}");
        // They are not compiled a second time.
        (0..40).for_each(|at| drop(world.network.append(&format!("p{at}"), "inc")));
        assert_eq!(counts(&world, 40, 4).await, [4; 40], "{fault}");
        assert_eq!(world.engine.lane_compilations(), 1, "{fault}");
        // Nor are they used after a restart.
        let world = world.restart().await;
        (0..40).for_each(|at| drop(world.network.append(&format!("p{at}"), "inc")));
        assert_eq!(counts(&world, 40, 5).await, [5; 40], "{fault}");
        assert_eq!(world.engine.lane_evaluations(), 0, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_and_resets_pass_lanes_by() {
    let world = World::with(|settings| (settings.engine, settings.memory_reset) = (EngineChoice::Lanes, true)).await;
    world.network.spawn("p", &["inc", "inc"]);
    world.network.append_forwarded("p", "inc", "content");
    world.network.append_forwarded("p", "inc", "content");
    world.network.append("p", "inc");
    world.network.change_last("p", |entry| entry.action = Some("Reset-Memory".into()));
    world.network.append("p", "inc");
    assert_eq!(world.count("p", 6).await, 1);
    assert_eq!(world.metrics().duplicates_skipped.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_messages_never_see_lanes_unless_asked_to() {
    let world = world(EngineChoice::Auto, 40, &["inc"; 20]).await;
    assert_eq!(counts(&world, 40, 20).await, [20; 40]);
    assert_eq!((world.engine.lane_compilations(), world.engine.lane_evaluations()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_messages_of_many_processes_learn_to_go_to_lanes() {
    // Natively 40 of them keep two threads busy for 400 ms; in lanes they take 20 ms and what they wait for each other.
    let messages: Vec<&str> = ["sleep 20"; 20].to_vec();
    let world = world(EngineChoice::Auto, 40, &messages).await;
    assert_eq!(counts(&world, 40, 20).await, [20; 40]);
    assert_eq!(world.engine.lane_compilations(), 1);
    let all = world.engine.evaluations() - world.engine.fork_evaluations();
    let in_lanes = world.engine.lane_evaluations();
    assert_eq!(all, 40 * 21);
    assert!(in_lanes > 400, "{in_lanes} of {all}");
    // A restart knows.
    let world = world.restart().await;
    for at in 0..40 {
        (0..6).for_each(|_| drop(world.network.append(&format!("p{at}"), "sleep 20")));
    }
    assert_eq!(counts(&world, 40, 26).await, [26; 40]);
    let all = world.engine.evaluations() - world.engine.fork_evaluations();
    let in_lanes = world.engine.lane_evaluations();
    assert!(in_lanes > all / 2, "{in_lanes} of {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_are_compiled_again_are_measured_again() {
    // The first group comes back as a whole, which would have lanes left alone for long.
    let messages: Vec<&str> = ["lane-frame 20"; 20].to_vec();
    let world = world(EngineChoice::Auto, 40, &messages).await;
    assert_eq!(counts(&world, 40, 20).await, [20; 40]);
    assert_eq!(world.engine.lane_compilations(), 2);
    let all = world.engine.evaluations() - world.engine.fork_evaluations();
    let in_lanes = world.engine.lane_evaluations();
    assert_eq!(all, 40 * 21);
    assert!(in_lanes > 300, "{in_lanes} of {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_that_cannot_be_compiled_again_go_on_as_they_are() {
    let world = world(EngineChoice::Lanes, 20, &["lane-never", "lane-never"]).await;
    assert_eq!(counts(&world, 20, 2).await, [2; 20]);
    eventually(|| world.engine.lane_compilations() == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    (0..20).for_each(|at| drop(world.network.append(&format!("p{at}"), "inc")));
    assert_eq!(counts(&world, 20, 3).await, [3; 20]);
    assert_eq!((world.engine.lane_compilations(), world.engine.lane_evaluations()), (2, 20));
}
