//! Dry runs change nothing and are bounded.

use super::*;

pub(super) fn run(data: &str) -> DryRun {
    let Value::Object(body) = json!({ "Id": "1234", "Owner": "1234", "Data": data, "Tags": [], "Anchor": "0" }) else {
        unreachable!()
    };
    DryRun { body, to: None, max_age: None }
}

async fn dry(world: &World, run: DryRun) -> (u64, bool) {
    let (reply, cached) = world.unit.dry_run("p", run, None).await.unwrap();
    let Reply::Ready(outcome) = reply else { panic!("busy without a bound") };
    (count_of(&outcome), cached)
}

async fn uncached() -> World {
    World::with(|s| {
        s.dry_run_result_max_age = Duration::ZERO;
        s.dry_run_default_max_age = Duration::ZERO;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_sees_the_process_and_does_not_change_it() {
    let world = uncached().await;
    world.network.spawn("p", &["inc"]);
    assert_eq!(dry(&world, run("inc")).await, (2, false));
    assert_eq!(dry(&world, run("inc")).await, (2, false));
    assert_eq!(count_in(&world.unit.state("p", None).await.unwrap().memory), 1);
    world.network.append("p", "inc");
    assert_eq!(dry(&world, run("inc")).await, (3, false));
    assert_eq!(world.unit.results("p", all()).await.unwrap().edges.len(), 3);
    assert_eq!(world.metrics().evaluations.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_dry_runs_are_answered_from_the_cache_and_others_are_not() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    world.network.spawn("q", &["inc", "inc"]);
    assert_eq!(dry(&world, run("say")).await, (1, false));
    assert_eq!(dry(&world, run("say")).await, (1, true));
    assert_eq!(dry(&world, run("inc")).await, (2, false));
    let (reply, cached) = world.unit.dry_run("q", run("say"), None).await.unwrap();
    let Reply::Ready(outcome) = reply else { panic!() };
    assert_eq!((count_of(&outcome), cached), (2, false));
    let to = DryRun { to: Some(message_id("p", 1)), ..run("say") };
    assert_eq!(dry(&world, to.clone()).await, (1, false));
    assert_eq!(dry(&world, to).await, (1, true));
    assert_eq!(world.metrics().dry_runs_from_cache.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_used_again_until_it_is_too_old_for_the_one_who_asks() {
    let world = World::with(|s| s.dry_run_result_max_age = Duration::ZERO).await;
    world.network.spawn("p", &["inc"]);
    let aged = |ms| DryRun { max_age: Some(Duration::from_millis(ms)), ..run("say") };
    assert_eq!(dry(&world, aged(0)).await.0, 1);
    world.network.append("p", "inc");
    assert_eq!(dry(&world, aged(1_000_000)).await.0, 1);
    assert_eq!(dry(&world, aged(0)).await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_can_be_asked_for_at_a_message_that_is_not_yet_passed() {
    let world = uncached().await;
    world.network.spawn("p", &["inc", "inc", "inc"]);
    let at = |nonce| DryRun { to: Some(message_id("p", nonce)), ..run("say") };
    assert_eq!(dry(&world, at(1)).await.0, 1);
    assert_eq!(dry(&world, at(2)).await.0, 2);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(dry(&world, run("say")).await.0, 3);
    let boot = DryRun { to: Some("p".into()), ..run("say") };
    let Err(Error::TooEarly(text)) = world.unit.dry_run("p", boot, None).await else { panic!() };
    assert!(text.starts_with("message at timestamp "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_on_a_process_without_messages_is_answered() {
    let world = uncached().await;
    world.network.spawn_old("p", &[]);
    assert_eq!(dry(&world, run("inc")).await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_of_dry_runs_is_bounded() {
    let world = World::with(|s| s.dry_run_queue_max = 1).await;
    world.network.spawn("p", &["inc"]);
    world.count("p", 1).await;
    let wait = |n: u64| {
        let unit = world.unit.clone();
        tokio::spawn(async move { unit.dry_run("p", run(&format!("gate {n}")), None).await })
    };
    let first = wait(1);
    eventually(|| world.engine.waiting() == 1).await;
    let second = wait(2);
    eventually(|| world.unit.0.dry_runs.admit().is_err()).await;
    let Err(Error::TooMany(text)) = world.unit.dry_run("p", run("say"), None).await else { panic!() };
    assert_eq!(text, "Dry-Run enqueue limit exceeded");
    // Those who read do not hold up those who write.
    world.network.append("p", "inc");
    assert_eq!(world.count("p", 2).await, 2);
    world.engine.open_gate();
    for call in [first, second] {
        assert!(call.await.unwrap().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_message_is_refused_before_anything_is_evaluated() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    let refused = world.unit.dry_run("p", DryRun::default(), None).await;
    assert!(matches!(refused, Err(Error::Invalid(_))));
    assert_eq!(world.network.streams_opened.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_that_takes_too_long_is_busy() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    let (reply, cached) = world.unit.dry_run("p", run("gate"), Some(Duration::from_millis(50))).await.unwrap();
    assert_eq!((reply, cached), (Reply::Busy, false));
    world.engine.open_gate();
    eventually(|| world.engine.evaluations() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_dry_run_stay_with_it() {
    let world = uncached().await;
    world.network.spawn("p", &["inc"]);
    let Err(Error::Internal(text)) = world.unit.dry_run("p", run("panic-once"), None).await else { panic!() };
    assert!(text.contains("dry run of process p"), "{text}");
    let Err(Error::Internal(text)) = world.unit.dry_run("p", run("timeout"), None).await else { panic!() };
    assert!(text.contains("dry run of process p"), "{text}");
    assert_eq!(dry(&world, run("inc")).await.0, 2);
    world.network.append("p", "inc");
    assert_eq!(world.count("p", 2).await, 2);
    assert_eq!(world.engine.evaluations(), 4);
}
