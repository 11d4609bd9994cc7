//! Paging: every element once, whatever the scheduler's ways.

use super::*;

const T: u64 = 1_750_000_000_000;

/// 23 messages, of which many share a millisecond.
fn crowded() -> Schedule {
    let timestamps = (0..23u64).map(|n| T + 10 + n / 5 * 3 + u64::from(n % 5 == 4));
    Schedule::new("crowded", T, 1_690_000, &[]).assigned().messages(timestamps)
}

#[tokio::test]
async fn every_page_size_and_every_scheduler_give_the_same_entries() {
    let schedule = crowded();
    let pid = schedule.id();
    let mut first: Option<Vec<Entry>> = None;
    for quirks in [ROCKS, POSTGRES, BY_TIME, BY_TIME_FULL] {
        let net = Net::start(quirks, [schedule.clone()]).await;
        for page_size in [0, 1, 2, 3, 5, 6, 8, 12, 24, 25, 1000] {
            let entries = every(&net.paged(page_size), &pid, Start::Cold, End::Latest).await;
            assert_eq!(nonces(&entries), (0..24).map(Some).collect::<Vec<_>>(), "page size {page_size}");
            assert_eq!(&entries, first.get_or_insert(entries.clone()));
        }
    }
}

#[tokio::test]
async fn going_on_after_any_entry_gives_the_rest() {
    let schedule = crowded();
    let pid = schedule.id();
    for quirks in [ROCKS, POSTGRES, BY_TIME, BY_TIME_FULL] {
        let net = Net::start(quirks, [schedule.clone()]).await;
        let whole = every(&net.upstream(), &pid, Start::Cold, End::Latest).await;
        for page_size in [2, 5, 7] {
            let up = net.paged(page_size);
            for (i, entry) in whole.iter().enumerate() {
                let rest = every(&up, &pid, after(&entry.checkpoint), End::Latest).await;
                assert_eq!(rest, whole[i + 1..], "page size {page_size}, after {i}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_ends_at_the_message_that_is_wanted() {
    let schedule = crowded();
    let pid = schedule.id();
    for quirks in [ROCKS, POSTGRES, BY_TIME, BY_TIME_FULL] {
        let net = Net::start(quirks, [schedule.clone()]).await;
        for page_size in [2, 1000] {
            let up = net.paged(page_size);
            let process = up.process(&pid).await.unwrap();
            for n in 0..24usize {
                let wanted = up.locate_message(&process, text(&schedule.nodes[n], "/message/id")).await.unwrap();
                let entries = every(&up, &pid, Start::Cold, End::Message(wanted)).await;
                assert_eq!(nonces(&entries), (0..=n as u64).map(Some).collect::<Vec<_>>());
                assert_eq!(entries[0].remaining, Some(n as u64));
                assert_eq!(entries[n].remaining, Some(0));
            }
        }
    }
}

#[tokio::test]
async fn a_stream_ends_at_the_time_that_is_wanted() {
    let schedule = crowded();
    let pid = schedule.id();
    for quirks in [ROCKS, POSTGRES, BY_TIME, BY_TIME_FULL] {
        let net = Net::start(quirks, [schedule.clone()]).await;
        let whole = every(&net.upstream(), &pid, Start::Cold, End::Latest).await;
        let up = net.paged(3);
        for to in T..T + 30 {
            let entries = every(&up, &pid, Start::Cold, End::Timestamp(to)).await;
            assert_eq!(entries, whole.iter().filter(|e| e.timestamp <= to).cloned().collect::<Vec<_>>(), "to {to}");
        }
    }
}

#[tokio::test]
async fn a_page_within_one_millisecond_is_asked_for_larger() {
    let schedule = Schedule::new("burst", T, 1_690_000, &[]).assigned().messages([T + 5; 40]).messages([T + 6]);
    let net = Net::start(BY_TIME, [schedule.clone()]).await;
    let entries = every(&net.paged(4), &schedule.id(), Start::Cold, End::Latest).await;
    assert_eq!(entries.len(), 42);
}

#[tokio::test]
async fn a_millisecond_that_no_page_reaches_beyond_is_an_error_not_a_loss() {
    let schedule = Schedule::new("burst", T, 1_690_000, &[]).assigned().messages([T + 5; 40]).messages([T + 6]);
    // It pages by time and gives 8 at most: what follows the eighth of a millisecond cannot be reached.
    let net = Net::start(Quirks { most: 8, ..BY_TIME }, [schedule.clone()]).await;
    let up = net.paged(8);
    let process = up.process(&schedule.id()).await.unwrap();
    let begun = std::time::Instant::now();
    let (entries, error) = all(&up, &process, Start::Cold, End::Latest).await;
    assert!(entries.len() >= 8 && entries.len() < 42);
    assert!(begun.elapsed() < Duration::from_secs(5));
    match error {
        Some(Error::Upstream(text)) => assert!(text.contains("none of them new"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pages_too_large_for_the_bound_are_asked_for_smaller() {
    let schedule = Schedule::new("heavy", T, 1_690_000, &[]).assigned().messages((1..40).map(|n| T + n));
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let settings = UnitSettings { upstream_json_max_bytes: 12_000, ..net.settings() };
    let entries = every(&Upstream::new(&settings).unwrap(), &schedule.id(), Start::Cold, End::Latest).await;
    assert_eq!(entries.len(), 40);
}

#[tokio::test]
async fn one_page_is_fetched_ahead_and_no_more() {
    let schedule = Schedule::new("long", T, 1_690_000, &[]).assigned().messages((1..200).map(|n| T + n));
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let up = net.paged(10);
    let process = up.process(&schedule.id()).await.unwrap();
    let mut stream = up.entries(process, Start::Cold, End::Latest);
    stream.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let pages = net.asked(&format!("/su/{}", schedule.id()));
    assert!((2..=3).contains(&pages), "{pages} pages asked for while the first is being consumed");

    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = net.asked("/su");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(net.asked("/su"), before, "a stream that was dropped asks for nothing");
}

#[tokio::test]
async fn a_growing_schedule_is_read_to_its_present_end() {
    let schedule = Schedule::new("growing", T, 1_690_000, &[]).assigned().messages([T + 1, T + 2]);
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    let up = net.upstream();
    let whole = every(&up, &schedule.id(), Start::Cold, End::Latest).await;
    let longer = schedule.messages([T + 2, T + 3]);
    net.world.schedules.lock().unwrap().insert(longer.id(), longer.clone());
    let rest = every(&up, &longer.id(), after(&whole[2].checkpoint), End::Latest).await;
    assert_eq!(nonces(&rest), [Some(3), Some(4)]);
    let none = every(&up, &longer.id(), after(&rest[1].checkpoint), End::Latest).await;
    assert!(none.is_empty());
}

#[test]
fn entries_can_be_taken_by_a_thread_outside_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let schedule = Schedule::new("plain", T, 1_690_000, &[]).assigned().messages([T + 1, T + 2]);
    let (mut stream, _net) = runtime.block_on(async {
        let net = Net::start(ROCKS, [schedule.clone()]).await;
        let up = net.upstream();
        let process = up.process(&schedule.id()).await.unwrap();
        (up.entries(process, Start::Cold, End::Latest), net)
    });
    let mut seen = 0;
    while let Some(entry) = stream.next_blocking() {
        assert_eq!(entry.unwrap().nonce, Some(seen));
        seen += 1;
    }
    assert_eq!(seen, 3);
}
