use super::*;
use serde_json::json;

fn place(timestamp: u64, ordinate: u64, cron: Option<&str>) -> Place {
    Place { timestamp, ordinate, cron: cron.map(str::to_owned) }
}

fn row(place: Place, output: &str) -> Row {
    let scheduled = place.cron.is_none();
    Row {
        message_id: scheduled.then(|| format!("message-{}", place.ordinate)),
        assignment_id: scheduled.then(|| format!("assignment-{}", place.ordinate)),
        deep_hash: None,
        nonce: scheduled.then_some(place.ordinate),
        epoch: scheduled.then_some(0),
        block_height: 1,
        outcome: Outcome { output: Some(json!(output)), gas_used: Some(0), ..Outcome::default() },
        evaluated_at: 5,
        place,
    }
}

fn offer(store: &Store, process_id: &str, row: &Row) -> Result<Saved, Error> {
    store.save(process_id, row, None)
}

fn failed(mut row: Row) -> Row {
    row.outcome.error = Some(json!({}));
    row
}

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("results")).unwrap();
    (dir, store)
}

fn all() -> Query {
    Query { from: None, to: None, descending: false, limit: 25, only_cron: false }
}

fn ordinates(rows: &Rows) -> Vec<u64> {
    rows.rows.iter().map(|r| r.place.ordinate).collect()
}

#[test]
fn a_row_is_found_by_place_message_id_and_assignment_id() {
    let (_dir, store) = open();
    let row = row(place(10, 4, None), "x");
    assert_eq!(offer(&store, "p", &row).unwrap(), Saved::First);
    assert_eq!(store.row("p", &row.place).unwrap(), Some(row.clone()));
    for id in ["message-4", "assignment-4"] {
        assert_eq!(store.named("p", id).unwrap(), Some(Known::Evaluated(Box::new(row.clone()))));
    }
    assert_eq!(store.named("q", "message-4").unwrap(), None);
    assert_eq!(store.count(), 1);
}

#[test]
fn the_first_result_wins_and_a_different_second_one_is_reported() {
    let (_dir, store) = open();
    let first = row(place(10, 4, None), "x");
    offer(&store, "p", &first).unwrap();
    assert_eq!(offer(&store, "p", &Row { evaluated_at: 99, ..first.clone() }).unwrap(), Saved::Same);
    let second = row(place(10, 4, None), "y");
    assert_eq!(offer(&store, "p", &second).unwrap(), Saved::Differs(Box::new(first.clone())));
    assert_eq!(store.row("p", &first.place).unwrap(), Some(first));
    assert_eq!(store.count(), 1);
}

#[test]
fn results_that_differ_only_in_key_order_differ() {
    let (_dir, store) = open();
    let mut a = row(place(10, 4, None), "");
    a.outcome.output = Some(serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap());
    let mut b = a.clone();
    b.outcome.output = Some(serde_json::from_str(r#"{"b":2,"a":1}"#).unwrap());
    offer(&store, "p", &a).unwrap();
    assert!(matches!(offer(&store, "p", &b).unwrap(), Saved::Differs(_)));
}

#[test]
fn rows_survive_a_restart() {
    let (dir, store) = open();
    let row = row(place(10, 4, None), "x");
    offer(&store, "p", &row).unwrap();
    store.see("p", "k", Seen { epoch: 0, nonce: 4 }).unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("results")).unwrap();
    assert_eq!(store.row("p", &row.place).unwrap(), Some(row));
    assert_eq!(store.seen("p", "k").unwrap(), Some(Seen { epoch: 0, nonce: 4 }));
    assert_eq!(store.count(), 1);
}

#[test]
fn a_skipped_message_is_known_as_such() {
    let (_dir, store) = open();
    let at = place(10, 4, None);
    store.skip("p", Duplicate { place: &at, message_id: Some("m"), assignment_id: Some("a") }).unwrap();
    assert_eq!(store.named("p", "m").unwrap(), Some(Known::Skipped(at.clone())));
    assert_eq!(store.named("p", "a").unwrap(), Some(Known::Skipped(at)));
    assert_eq!(store.page("p", &all()).unwrap().rows, vec![]);
}

#[test]
fn of_one_epoch_the_smallest_nonce_is_remembered() {
    let (_dir, store) = open();
    let seen = |epoch, nonce| Seen { epoch, nonce };
    store.see("p", "k", seen(0, 9)).unwrap();
    store.see("p", "k", seen(0, 12)).unwrap();
    assert_eq!(store.seen("p", "k").unwrap(), Some(seen(0, 9)));
    store.see("p", "k", seen(0, 5)).unwrap();
    assert_eq!(store.seen("p", "k").unwrap(), Some(seen(0, 5)));
    store.see("p", "k", seen(1, 2)).unwrap();
    assert_eq!(store.seen("p", "k").unwrap(), Some(seen(0, 5)));
    assert_eq!(store.seen("q", "k").unwrap(), None);
}

#[test]
fn a_row_and_its_deduplication_key_are_kept_together() {
    let (_dir, store) = open();
    store.save("p", &row(place(10, 4, None), "x"), Some("k")).unwrap();
    assert_eq!(store.seen("p", "k").unwrap(), Some(Seen { epoch: 0, nonce: 4 }));
}

#[test]
fn pages_are_filled_past_rows_with_errors_and_has_next_is_exact() {
    let (_dir, store) = open();
    for n in 0..12 {
        let row = row(place(100 + n, n, None), "x");
        let bad = matches!(n, 3 | 4 | 5 | 9 | 11);
        offer(&store, "p", &if bad { failed(row) } else { row }).unwrap();
    }
    let mut from = None;
    let mut walked = Vec::new();
    loop {
        let page = store.page("p", &Query { from: from.clone(), limit: 3, ..all() }).unwrap();
        walked.push((ordinates(&page), page.has_next));
        let Some(last) = page.rows.last() else { break };
        from = Some(PlacePrefix { timestamp: last.place.timestamp, ordinate: Some(last.place.ordinate), cron: None });
        if !page.has_next {
            break;
        }
    }
    assert_eq!(walked, vec![(vec![0, 1, 2], true), (vec![6, 7, 8], true), (vec![10], false)]);
}

#[test]
fn a_page_that_exactly_holds_what_is_left_is_the_last() {
    let (_dir, store) = open();
    for n in 0..3 {
        offer(&store, "p", &row(place(n, n, None), "x")).unwrap();
    }
    offer(&store, "p", &failed(row(place(3, 3, None), "x"))).unwrap();
    let page = store.page("p", &Query { limit: 3, ..all() }).unwrap();
    assert_eq!((page.rows.len(), page.has_next), (3, false));
}

#[test]
fn a_limit_of_zero_shows_nothing_and_says_whether_there_is_something() {
    let (_dir, store) = open();
    let none = Query { limit: 0, ..all() };
    assert_eq!(store.page("p", &none).unwrap(), Rows { rows: vec![], has_next: false });
    offer(&store, "p", &row(place(1, 1, None), "x")).unwrap();
    assert_eq!(store.page("p", &none).unwrap(), Rows { rows: vec![], has_next: true });
}

#[test]
fn descending_pages_walk_back_from_an_inclusive_end() {
    let (_dir, store) = open();
    for n in 0..5 {
        offer(&store, "p", &row(place(n, n, None), "x")).unwrap();
    }
    let to = Some(PlacePrefix { timestamp: 3, ordinate: Some(3), cron: None });
    let page = store.page("p", &Query { to, descending: true, limit: 2, ..all() }).unwrap();
    assert_eq!((ordinates(&page), page.has_next), (vec![3, 2], true));
}

#[test]
fn only_crons_can_be_asked_for_and_processes_do_not_mix() {
    let (_dir, store) = open();
    offer(&store, "p", &row(place(1, 1, None), "x")).unwrap();
    offer(&store, "p", &row(place(2, 1, Some("0-1-hour")), "c")).unwrap();
    offer(&store, "pp", &row(place(3, 1, Some("0-1-hour")), "other")).unwrap();
    let page = store.page("p", &Query { only_cron: true, ..all() }).unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(page.rows[0].outcome.output, Some(json!("c")));
}

#[test]
fn a_range_that_ends_before_it_begins_is_empty() {
    let (_dir, store) = open();
    offer(&store, "p", &row(place(5, 1, None), "x")).unwrap();
    let at = |timestamp| Some(PlacePrefix { timestamp, ordinate: None, cron: None });
    let page = store.page("p", &Query { from: at(9), to: at(2), ..all() }).unwrap();
    assert_eq!(page, Rows { rows: vec![], has_next: false });
}

#[test]
fn it_is_known_whether_anything_follows_a_timestamp() {
    let (_dir, store) = open();
    offer(&store, "p", &row(place(5, 1, None), "x")).unwrap();
    assert!(store.has_after("p", 4).unwrap());
    assert!(!store.has_after("p", 5).unwrap());
    assert!(!store.has_after("q", 0).unwrap());
}

#[test]
fn a_store_of_another_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results");
    {
        let database = Database::builder(&path).open().unwrap();
        let meta = database.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
        meta.insert("version", "lockstep-results-0").unwrap();
    }
    let Err(Error::Internal(text)) = Store::open(&path) else { panic!("opened a foreign store") };
    assert!(text.contains("lockstep-results-0") && text.contains("results"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let Err(Error::Internal(text)) = Store::open(&file.join("results")) else { panic!("opened") };
    assert!(text.contains("file/results"), "{text}");
}

#[test]
fn a_store_in_use_is_refused() {
    let (dir, _store) = open();
    let Err(Error::Internal(text)) = Store::open(&dir.path().join("results")) else { panic!("opened twice") };
    assert!(text.contains("another process"), "{text}");
}
