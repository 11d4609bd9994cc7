//! Crons in the stream: with the schedule, up to the present, and the same however often one stops in between.

use super::*;
use crate::schedule::Kind;

const T: u64 = 1_750_000_000_000;
const B: u64 = 1_690_000;

/// Two crons of time and two of blocks; messages here and there; blocks every 115 to 125 seconds.
fn busy(quirks: Quirks) -> (Schedule, impl Future<Output = Net>) {
    let crons = [
        ("Cron-Interval", "10-minutes"),
        ("Cron-Tag-Action", "Ten"),
        ("Cron-Interval", "3-blocks"),
        ("Cron-Tag-Action", "Three"),
        ("Cron-Tag-Owner", "hidden"),
        ("Cron-Interval", "45-seconds"),
        ("Cron-Interval", "1-block"),
    ];
    let mut schedule = Schedule::new("busy", T + 31, B, &crons).assigned();
    for (seconds, ms, block) in [(1, 31, 0), (2, 900, 0), (133, 7, 1), (134, 500, 1), (1205, 149, 10), (1205, 149, 10)]
    {
        schedule = schedule.message(T + seconds * 1000 + ms, B + block);
    }
    let start = schedule.clone();
    let net = async move {
        let net = Net::start(quirks, [start]).await;
        *net.world.blocks.lock().unwrap() = (0..40).map(|n| (B + n, T / 1000 + n * 120 - n % 3 * 2)).collect();
        *net.world.clock.lock().unwrap() = (T + 2_500_499, B + 20);
        net
    };
    (schedule, net)
}

fn crons(entries: &[Entry]) -> Vec<(u64, String, String, u64)> {
    let crons = entries.iter().filter(|e| e.kind == Kind::Cron);
    crons.map(|e| (e.timestamp - T, e.ordinate.clone(), e.cron.clone().unwrap(), e.block_height - B)).collect()
}

#[tokio::test]
async fn crons_fall_between_the_entries_of_the_schedule() {
    let (schedule, net) = busy(ROCKS);
    let net = net.await;
    let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    let fallen = crons(&entries);
    // Blocks at 118, 236, 360, 478, ... seconds; the process was born at 0.031.
    let first: Vec<_> = fallen.iter().take(12).map(|(t, o, c, b)| (*t, o.as_str(), c.as_str(), *b)).collect();
    assert_eq!(
        first,
        [
            (45_900, "2", "0-45-seconds", 0),
            (90_900, "2", "0-45-seconds", 0),
            (118_000, "2", "1-1-block", 1),
            (135_500, "4", "0-45-seconds", 1),
            (180_500, "4", "0-45-seconds", 1),
            (225_500, "4", "0-45-seconds", 1),
            (236_000, "4", "1-1-block", 2),
            (270_500, "4", "0-45-seconds", 2),
            (315_500, "4", "0-45-seconds", 2),
            (360_000, "4", "0-3-blocks", 3),
            (360_000, "4", "1-1-block", 3),
            (360_500, "4", "0-45-seconds", 3),
        ]
    );
    // Up to a second before the scheduler's present, in which a message may still be on its way.
    assert_eq!(fallen.last().unwrap().0, 2_475_149);
    let mut ordered = entries.clone();
    ordered.sort_by_key(|e| e.timestamp);
    assert_eq!(ordered, entries);

    let three = entries.iter().find(|e| e.cron.as_deref() == Some("0-3-blocks")).unwrap();
    let boss = id("boss");
    assert_eq!(
        three.message_json,
        format!(
            r#"{{"Owner":"{boss}","Target":"{}","From":"{boss}","Tags":[{{"name":"Action","value":"Three"}}],"Timestamp":{},"Block-Height":{},"Cron":true,"Read-Only":false}}"#,
            schedule.id(),
            T + 360_000,
            B + 3
        )
    );
    assert_eq!(
        (three.nonce, three.message_id.clone(), three.hash_chain.clone(), three.store),
        (None, None, None, true)
    );
}

#[tokio::test]
async fn stopping_after_any_entry_changes_nothing() {
    for quirks in [ROCKS, BY_TIME] {
        let (schedule, net) = busy(quirks);
        let net = net.await;
        let up = net.upstream();
        let whole = every(&up, &schedule.id(), Start::Cold, End::Latest).await;
        assert!(whole.len() > 80);
        for (i, entry) in whole.iter().enumerate() {
            let json = serde_json::to_string(&entry.checkpoint).unwrap();
            let kept: Checkpoint = serde_json::from_str(&json).unwrap();
            assert_eq!(
                every(&up, &schedule.id(), after(&kept), End::Latest).await,
                whole[i + 1..],
                "after {}",
                entry.name
            );
        }
    }
}

#[tokio::test]
async fn polling_at_any_pace_gives_what_one_request_gives() {
    let (schedule, net) = busy(ROCKS);
    let net = net.await;
    let whole = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    for pace in [700, 10_001, 61_234, 500_000] {
        // As time goes by: the clock, and the schedule as far as it was by then.
        let up = net.upstream();
        let mut polled: Vec<Entry> = Vec::new();
        let mut now = T + 1500;
        while now < T + 2_500_499 + pace {
            let by_now = now.min(T + 2_500_499);
            let mut part = schedule.clone();
            part.nodes.retain(|node| number(node, "Timestamp") <= by_now as i64);
            let nodes = part.nodes.len() as u64;
            net.world.schedules.lock().unwrap().insert(part.id(), part);
            *net.world.clock.lock().unwrap() = (by_now, B + (by_now - T) / 125_000);
            let start = polled.last().map_or(Start::Cold, |last| after(&last.checkpoint));
            polled.extend(every(&up, &schedule.id(), start, End::Latest).await);
            assert!(polled.iter().filter(|e| e.nonce.is_some()).count() as u64 == nodes);
            now += pace;
        }
        assert_eq!(polled, whole, "every {pace} ms");
    }
}

#[tokio::test]
async fn an_end_in_time_cuts_crons_exclusively_and_the_future_always() {
    let (schedule, net) = busy(ROCKS);
    let net = net.await;
    let up = net.upstream();
    let whole = every(&up, &schedule.id(), Start::Cold, End::Latest).await;
    for to in [T + 900, T + 45_900, T + 45_901, T + 118_000, T + 135_500, T + 1_300_000, T + 9_000_000] {
        let entries = every(&up, &schedule.id(), Start::Cold, End::Timestamp(to)).await;
        let want: Vec<_> = whole
            .iter()
            .filter(|e| if e.cron.is_some() { e.timestamp < to } else { e.timestamp <= to })
            .cloned()
            .collect();
        assert_eq!(crons(&entries), crons(&want), "to {to}");
        assert_eq!(entries, want);
    }
}

#[tokio::test]
async fn crons_before_a_wanted_message_come_with_it_and_the_present_is_not_asked_for() {
    let (schedule, net) = busy(ROCKS);
    let net = net.await;
    let up = net.upstream();
    let process = up.process(&schedule.id()).await.unwrap();
    let wanted = up.locate_message(&process, text(&schedule.nodes[3], "/message/id")).await.unwrap();
    let entries = every(&up, &schedule.id(), Start::Cold, End::Message(wanted)).await;
    assert_eq!(entries.last().unwrap().nonce, Some(3));
    assert_eq!(crons(&entries).len(), 3);
    assert_eq!(net.asked("/su/timestamp"), 0);
}

#[tokio::test]
async fn a_cron_that_cannot_be_is_an_error() {
    for (interval, text) in [("500-Milliseconds", "time-based cron cannot be less than 1 second")] {
        let schedule = Schedule::new("p", T, B, &[("Cron-Interval", interval)]).assigned();
        let net = Net::start(ROCKS, [schedule.clone()]).await;
        let up = net.upstream();
        let process = up.process(&schedule.id()).await.unwrap();
        match all(&up, &process, Start::Cold, End::Latest).await {
            (none, Some(Error::Unprocessable(found))) => assert!(none.is_empty() && found == text),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_gateway_behind_the_scheduler_holds_crons_of_blocks_back() {
    let schedule = Schedule::new("p", T, B, &[("Cron-Interval", "1-block"), ("Cron-Interval", "1-minute")]).assigned();
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    *net.world.clock.lock().unwrap() = (T + 500_000, B + 4);
    let blocks: Vec<_> = (0..5).map(|n| (B + n, T / 1000 + n * 100)).collect();
    *net.world.blocks.lock().unwrap() = blocks[..3].to_vec();
    let up = net.upstream();
    let early = every(&up, &schedule.id(), Start::Cold, End::Latest).await;
    assert!(early.iter().all(|e| e.timestamp <= T + 200_000), "nothing behind the last known block");
    *net.world.blocks.lock().unwrap() = blocks;
    let late = every(&up, &schedule.id(), after(&early.last().unwrap().checkpoint), End::Latest).await;
    let whole = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    assert_eq!([early, late].concat(), whole);
    assert_eq!(crons(&whole).iter().filter(|(_, _, cron, _)| cron == "0-1-block").count(), 4);

    // A message beyond the gateway's blocks cannot be reached rightly.
    let schedule = schedule.message(T + 450_000, B + 9);
    net.world.schedules.lock().unwrap().insert(schedule.id(), schedule.clone());
    let up = net.upstream();
    let process = up.process(&schedule.id()).await.unwrap();
    let (_, error) = all(&up, &process, Start::Cold, End::Latest).await;
    match error {
        Some(Error::Upstream(text)) => {
            assert!(text.starts_with("Can not communicate with gateway to retrieve block metadata"), "{text}");
            assert!(text.contains(&format!("block {}", B + 5)) && text.contains("nonce 1"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn crons_of_time_do_not_wait_for_blocks() {
    let schedule = Schedule::new("p", T, B, &[("Cron-Interval", "1-minute")]).assigned();
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    *net.world.clock.lock().unwrap() = (T + 500_000, B + 4);
    let entries = every(&net.upstream(), &schedule.id(), Start::Cold, End::Latest).await;
    assert_eq!(crons(&entries).len(), 8);
    assert!(entries.iter().all(|e| e.block_height == B));
}

#[tokio::test]
async fn block_times_come_from_the_next_gateway_if_one_fails() {
    let schedule = Schedule::new("p", T, B, &[("Cron-Interval", "1-block")]).assigned();
    let net = Net::start(ROCKS, [schedule.clone()]).await;
    *net.world.clock.lock().unwrap() = (T + 500_000, B + 2);
    *net.world.blocks.lock().unwrap() = (0..3).map(|n| (B + n, T / 1000 + n * 100)).collect();
    net.special(|asked| (asked.path == "/broken").then(|| Answer::Json(400, json!({}))));
    let mut settings = net.settings();
    settings.block_graphql_urls.insert(0, net.url.join("/broken").unwrap());
    let up = Upstream::new(&settings).unwrap();
    assert_eq!(crons(&every(&up, &schedule.id(), Start::Cold, End::Latest).await).len(), 2);

    settings.block_graphql_urls.truncate(1);
    let up = Upstream::new(&settings).unwrap();
    let process = up.process(&schedule.id()).await.unwrap();
    match all(&up, &process, Start::Cold, End::Latest).await.1 {
        Some(Error::Upstream(text)) => {
            assert!(text.starts_with("Can not communicate with gateway to retrieve block metadata: 400"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_foreign_checkpoint_goes_on_from_itself() {
    let (schedule, net) = busy(ROCKS);
    let net = net.await;
    let up = net.upstream();
    let whole = every(&up, &schedule.id(), Start::Cold, End::Latest).await;
    let at = whole.iter().position(|e| e.cron.as_deref() == Some("0-45-seconds")).unwrap();
    let foreign = Checkpoint { last_scheduled: None, ..whole[at].checkpoint.clone() };
    let rest = every(&up, &schedule.id(), after(&foreign), End::Latest).await;
    let count = |entries: &[Entry]| entries.iter().filter(|e| e.nonce.is_some()).count();
    assert_eq!(count(&rest), count(&whole[at + 1..]), "every scheduled entry after it");
    assert!(rest[0].timestamp > foreign.timestamp, "{:?}", rest[0]);
}
