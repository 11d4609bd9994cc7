//! What is answered for messages, crons and states.

use super::*;

fn empty() -> Outcome {
    Outcome {
        messages: Some(json!([])),
        assignments: Some(json!([])),
        spawns: Some(json!([])),
        output: Some(json!("")),
        ..Outcome::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_found_by_message_assignment_and_process_id() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    assert_eq!(count_of(&world.result("p", "p").await.unwrap()), 0);
    assert_eq!(count_of(&world.result("p", "p-assignment-1").await.unwrap()), 1);
    assert_eq!(count_of(&world.result("p", &message_id("p", 1)).await.unwrap()), 1);
    assert_eq!(world.engine.evaluations(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_are_errors_are_stored_and_answered_like_any_other() {
    let world = World::new().await;
    world.network.spawn("p", &["error", "throw", "inc"]);
    let error = world.result("p", &message_id("p", 1)).await.unwrap();
    assert_eq!(error.error, Some(json!("an error of the process")));
    assert_eq!(error.output, Some(json!("1")));
    let thrown = world.result("p", &message_id("p", 2)).await.unwrap();
    assert_eq!((thrown.error, thrown.messages, thrown.gas_used), (Some(json!({})), None, None));
    assert_eq!(world.count("p", 3).await, 1);
    let world = world.restart().await;
    assert_eq!(world.result("p", &message_id("p", 1)).await.unwrap(), error);
    assert_eq!(world.engine.evaluations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_millisecond_each_have_their_own_result() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    for _ in 0..3 {
        world.network.append_at("p", "inc", ORIGIN + 500);
    }
    for nonce in [3, 2, 4, 1] {
        assert_eq!(world.count("p", nonce).await, nonce);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_ends_in_a_skipped_duplicate_goes_on() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    let first = world.network.append_forwarded("p", "inc", "content");
    let second = world.network.append_forwarded("p", "inc", "content");
    assert_eq!(count_of(&world.result("p", &first).await.unwrap()), 2);
    assert_eq!(world.result("p", &second).await.unwrap(), empty());
    assert_eq!(world.metrics().duplicates_skipped.get(), 1);
    assert_eq!(count_in(&world.unit.state("p", None).await.unwrap().memory), 2);
    world.network.append("p", "inc");
    assert_eq!(world.count("p", 4).await, 3);
    // Later, and after a restart, the skipped one still has its answer; no row is made for it.
    assert_eq!(world.result("p", &second).await.unwrap(), empty());
    let world = world.restart().await;
    assert_eq!(world.result("p", &second).await.unwrap(), empty());
    assert_eq!(world.engine.evaluations(), 0);
    assert_eq!(world.unit.results("p", all()).await.unwrap().edges.len(), 4);
    world.network.append("p", "inc");
    assert_eq!(world.count("p", 5).await, 4);
    assert_eq!(world.metrics().determinism_faults.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_sent_and_then_assigned_is_evaluated_once() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    world.network.append("p", "inc");
    let original = message_id("p", 1);
    world.network.change_last("p", |entry| {
        entry.kind = crate::schedule::Kind::Assignment;
        entry.dedup_key = Some(original.clone());
        entry.message_id = Some(original.clone());
    });
    assert_eq!(world.result("p", "p-assignment-2").await.unwrap(), empty());
    assert_eq!(count_of(&world.result("p", &original).await.unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_hash_chain_hurts_that_request_and_no_later_one() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "inc", "inc"]);
    world.network.break_chain("p", 2, true);
    for nonce in [2, 3] {
        let Err(Error::Unprocessable(text)) = world.result("p", &message_id("p", nonce)).await else { panic!() };
        assert_eq!(text, format!("HashChain invalid on message {}", message_id("p", 2)));
    }
    assert_eq!(world.count("p", 1).await, 1);
    assert_eq!(world.engine.evaluations(), 2);
    world.network.break_chain("p", 2, false);
    assert_eq!(world.count("p", 3).await, 3);
    assert_eq!(world.engine.evaluations(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_process_boots_first_and_its_boot_is_answered_but_not_stored() {
    let world = World::new().await;
    world.network.spawn_old("p", &["inc"]);
    assert_eq!(count_of(&world.result("p", "p").await.unwrap()), 1);
    assert_eq!(world.unit.results("p", all()).await.unwrap().edges.len(), 0);
    assert_eq!(world.metrics().evaluations.get(), 0);
    assert_eq!(world.count("p", 0).await, 2);
    assert_eq!(count_of(&world.result("p", "p").await.unwrap()), 1);
    assert_eq!(world.unit.results("p", all()).await.unwrap().edges.len(), 1);
    assert_eq!(world.engine.evaluations(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_results_are_full_and_walk_to_the_end() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "error", "error", "error", "inc", "inc", "throw", "inc", "error"]);
    world.result("p", &message_id("p", 9)).await.unwrap();
    let mut from = None;
    let mut walked = Vec::new();
    loop {
        let page = world.unit.results("p", Range { from: from.clone(), limit: 3, ..all() }).await.unwrap();
        let ordinates: Vec<_> = page.edges.iter().map(|e| e.cursor.ordinate.clone().unwrap()).collect();
        walked.push((ordinates.join(" "), page.has_next));
        if !page.has_next {
            break;
        }
        from = page.edges.last().map(|e| e.cursor.clone());
    }
    assert_eq!(walked, vec![("0 1 5".to_owned(), true), ("6 8".to_owned(), false)]);
    let newest = Range { sort: Sort::Desc, limit: 1, ..all() };
    let page = world.unit.results("p", newest).await.unwrap();
    assert_eq!((page.edges[0].cursor.ordinate.as_deref(), page.has_next), (Some("8"), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_evaluates_nothing() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    assert_eq!(world.unit.results("p", all()).await.unwrap(), Page { edges: vec![], has_next: false });
    assert_eq!(world.unit.results("unknown", all()).await.unwrap(), Page { edges: vec![], has_next: false });
    assert_eq!(world.network.streams_opened.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_cannot_be_is_invalid() {
    let world = World::new().await;
    let from = Some(Cursor { timestamp: 1, ordinate: Some("x".into()), cron: None });
    let bad = world.unit.results("p", Range { from, ..all() }).await.unwrap_err();
    assert!(matches!(bad, Error::Invalid(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_evaluates_up_to_its_end_and_gives_only_crons() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    world.network.append_cron("p", "inc", ORIGIN + 15, "0-1-second");
    world.network.append_at("p", "inc", ORIGIN + 20);
    world.network.append_cron("p", "inc", ORIGIN + 25, "0-1-second");
    let until = |timestamp| Range { to: Some(Cursor { timestamp, ordinate: None, cron: None }), ..all() };
    let page = world.unit.cron("p", until(ORIGIN + 20)).await.unwrap();
    assert_eq!(page.edges.len(), 1);
    assert_eq!(
        page.edges[0].cursor,
        Cursor { timestamp: ORIGIN + 15, ordinate: Some("1".into()), cron: Some("0-1-second".into()) }
    );
    assert_eq!(world.engine.evaluations(), 4);
    assert_eq!(world.unit.cron("p", all()).await.unwrap().edges.len(), 2);
    // What lies behind is answered from rows.
    let opened = world.network.streams_opened.load(Ordering::SeqCst);
    assert_eq!(world.unit.cron("p", until(ORIGIN + 20)).await.unwrap(), page);
    assert_eq!(world.network.streams_opened.load(Ordering::SeqCst), opened);
    let from = Some(page.edges[0].cursor.clone());
    assert_eq!(world.unit.cron("p", Range { from, ..all() }).await.unwrap().edges.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn crons_are_evaluated_by_any_request_that_passes_them() {
    let world = World::new().await;
    world.network.spawn("p", &["inc"]);
    world.network.append_cron("p", "inc", ORIGIN + 15, "0-1-second");
    world.network.append_at("p", "inc", ORIGIN + 20);
    assert_eq!(world.count("p", 2).await, 3);
    let page = world.unit.results("p", all()).await.unwrap();
    let crons: Vec<_> = page.edges.iter().map(|e| e.cursor.cron.is_some()).collect();
    assert_eq!(crons, vec![false, false, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_the_memory_at_a_time_with_what_was_evaluated_last() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "inc", "inc"]);
    let state = world.unit.state("p", Some(ORIGIN + 25)).await.unwrap();
    assert_eq!(count_in(&state.memory), 2);
    assert_eq!(
        (state.last_timestamp, state.last_ordinate.as_deref(), state.last_block_height),
        (Some(ORIGIN + 20), Some("2"), Some(1))
    );
    assert_eq!(count_in(&world.unit.state("p", Some(0)).await.unwrap().memory), 3);
    let early = world.unit.state("p", Some(ORIGIN + 25)).await.unwrap_err();
    let Error::TooEarly(text) = early else { panic!("{early:?}") };
    assert_eq!(
        text,
        format!("message at timestamp {} not found cached, and earlier than latest known nonce 3", ORIGIN + 25)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_taken_exactly_there_while_a_stream_goes_farther() {
    let world = World::new().await;
    world.network.spawn("p", &["gate", "inc", "inc", "inc"]);
    let far = world.spawn_result("p", &message_id("p", 4));
    eventually(|| world.engine.waiting() == 1).await;
    let unit = world.unit.clone();
    let state = tokio::spawn(async move { unit.state("p", Some(ORIGIN + 29)).await });
    // Longer than a turn, so that the gate's message ends its turn.
    tokio::time::sleep(Duration::from_millis(60)).await;
    world.engine.open_gate();
    assert_eq!(count_in(&state.await.unwrap().unwrap().memory), 2);
    assert_eq!(count_of(&far.await.unwrap().unwrap()), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_every_message_threw_has_no_memory_but_a_last_message() {
    let world = World::new().await;
    world.network.spawn("p", &[]);
    world.network.change_last("p", |entry| entry.message_json = r#"{"Data":"throw"}"#.into());
    let state = world.unit.state("p", None).await.unwrap();
    assert_eq!((state.memory, state.last_timestamp), (None, Some(ORIGIN)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_resets_the_memory_where_that_is_allowed() {
    let world = World::with(|s| s.memory_reset = true).await;
    world.network.spawn("p", &["inc", "inc"]);
    world.network.append("p", "inc");
    world.network.change_last("p", |entry| entry.action = Some("Reset-Memory".into()));
    world.network.append("p", "inc");
    world.network.append("p", "inc");
    world.network.change_last("p", |entry| {
        entry.action = Some("Reset-Memory".into());
        entry.owner = "somebody else".into();
    });
    assert_eq!(world.count("p", 5).await, 2);
    // The boot only speaks: its count is the reset's result.
    assert_eq!(world.count("p", 3).await, 0);
    assert_eq!(world.count("p", 2).await, 2);
    assert_eq!(world.count("p", 4).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn resetting_is_an_ordinary_message_where_it_is_not_allowed() {
    let world = World::new().await;
    world.network.spawn("p", &["inc", "inc"]);
    world.network.change_last("p", |entry| entry.action = Some("Reset-Memory".into()));
    assert_eq!(world.count("p", 2).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_process_or_message_is_an_error_that_names_it() {
    let world = World::new().await;
    world.network.spawn("p", &[]);
    let Err(Error::Upstream(text)) = world.result("unknown", "m").await else { panic!() };
    assert!(text.contains("unknown"));
    let Err(Error::Upstream(text)) = world.result("p", "nothing").await else { panic!() };
    assert!(text.contains("nothing"));
}
