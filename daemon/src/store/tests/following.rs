//! Events: their order, and that a reader that resumes at a cursor gets each event exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chat_core::log::entry::Seq;
use chat_proto::event::{Event, KnockState};
use chat_proto::id::KnockId;
use chat_proto::time::Timestamp;
use proptest::prelude::*;

use super::fixture::{DEADLINE, StoreHome, TestAuthor, TestStore, texts};
use crate::clock::wall_clock;
use crate::store::EVENTS_MAX;
use crate::store::read::follow::{Followed, Follower};
use crate::store::tables::events;
use crate::store::tables::models::{StoredEvent, StoredEventKind};
use crate::store::types::Write;

fn knock(n: u64) -> Event {
    Event::Knock { knock: KnockId(n), name: "eve".into(), words: "a-b-c".into(), state: KnockState::Waiting }
}

async fn publish(opened: &TestStore, n: u64) {
    opened.store.write(Write::Event(Box::new(knock(n)))).await.expect("the store is open");
}

/// Short form of an event.
fn said(event: &StoredEvent) -> String {
    match &event.kind {
        StoredEventKind::Message(row) => row.text.clone(),
        StoredEventKind::Other(Event::Knock { knock, .. }) => format!("knock {knock}"),
        StoredEventKind::Other(event) => event.name().to_owned(),
    }
}

async fn all_after(opened: &TestStore, mut cursor: u64, limit: u32) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    loop {
        let page = opened.store.events_after(cursor, limit).await.expect("reads");
        assert!(!page.gap && page.events.len() <= limit as usize);
        let Some(last) = page.events.last() else { return all };
        cursor = last.id;
        all.extend(page.events.iter().map(|event| (event.id, said(event))));
    }
}

async fn next(follower: &mut Follower) -> Followed {
    tokio::time::timeout(DEADLINE, follower.next()).await.expect("an event in time").expect("the store is open")
}

async fn next_said(follower: &mut Follower) -> (u64, String) {
    match next(follower).await {
        Followed::Event(event) => (event.id, said(&event)),
        Followed::Gap => (0, "gap".into()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn reader_that_resumes_anywhere_gets_the_rest(plan in prop::collection::vec(0..4usize, 1..20), limit in 1..6u32, cut: prop::sample::Index) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut ann = TestAuthor::new(1);
            let home = StoreHome::new(ann.id());
            let mut opened = home.open_in_room().await;
            let mut follower = opened.store.follow(0);
            let (mut wanted, mut id) = (Vec::new(), 0);
            // 0 is an event other than a message, 1 to 3 an entry with that number of messages.
            for (step, messages) in plan.iter().enumerate() {
                let words: Vec<String> = (0..*messages).map(|n| format!("{step}.{n}")).collect();
                if words.is_empty() {
                    publish(&opened, step as u64).await;
                    wanted.push((id + 1, format!("knock {step}")));
                } else {
                    opened.persist(&[&ann.write(texts(&words.iter().map(String::as_str).collect::<Vec<_>>()))]).await;
                    wanted.extend((id + 1..).zip(words));
                }
                id = wanted.len() as u64;
            }
            opened.flush().await;
            assert_eq!(opened.store.cursor_now(), id);
            for event in &wanted {
                assert_eq!(&next_said(&mut follower).await, event);
            }
            let cursors: Vec<_> = (0..=id).map(|event| opened.store.cursor(event)).collect();
            opened.store.close().await;
            let opened = home.open();
            let cursor = cut.index(wanted.len() + 1);
            assert_eq!(opened.store.position(cursors[cursor]), Some(cursor as u64));
            assert_eq!(all_after(&opened, cursor as u64, limit).await, wanted[cursor..]);
            publish(&opened, 99).await;
            let mut follower = opened.store.follow(cursor as u64);
            for event in wanted[cursor..].iter().chain([&(id + 1, "knock 99".to_owned())]) {
                assert_eq!(&next_said(&mut follower).await, event);
            }
        });
    }
}

#[tokio::test]
async fn lagging_reader_misses_nothing() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let mut follower = opened.store.follow(0);
    publish(&opened, 0).await;
    assert_eq!(next_said(&mut follower).await.0, 1);
    // It is live now, and then lags by more events than the channel holds.
    let many = vec!["x"; 1000];
    let rounds = EVENTS_MAX / 1000 + 1;
    for _ in 0..rounds {
        opened.persist(&[&ann.write(texts(&many))]).await;
    }
    let last = 1 + 1000 * rounds as u64;
    for id in 2..=last {
        assert_eq!(next_said(&mut follower).await.0, id);
    }
    publish(&opened, 5).await;
    assert_eq!(next_said(&mut follower).await, (last + 1, "knock 5".into()));
    assert_eq!(follower.cursor(), last + 1);
}

#[tokio::test]
async fn waiting_reader_is_woken_by_an_event_and_by_the_end() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let mut follower = opened.store.follow(opened.store.cursor_now());
    let waiting = tokio::spawn(async move { (next_said(&mut follower).await, follower) });
    opened.persist(&[&ann.say("now")]).await;
    let (first, mut follower) = waiting.await.expect("no panic");
    assert_eq!(first, (1, "now".into()));
    opened.store.close().await;
    assert!(follower.next().await.is_err());
}

#[tokio::test]
async fn pruned_events_are_reported_as_a_gap_and_messages_stay() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    publish(&opened, 1).await;
    opened.persist(&[&ann.say("kept")]).await;
    publish(&opened, 3).await;
    publish(&opened, 4).await;
    opened.flush().await;
    opened.store.close().await;
    let connection = rusqlite::Connection::open(home.path()).expect("opens");
    connection.execute("UPDATE events SET at = 0 WHERE id <= 3", []).expect("changes");
    assert!(!events::prune(&connection, wall_clock()).expect("prunes"));
    drop(connection);

    let opened = home.open();
    let mut follower = opened.store.follow(0);
    let received = [next_said(&mut follower).await, next_said(&mut follower).await, next_said(&mut follower).await];
    assert_eq!(received, [(0, "gap".into()), (2, "kept".into()), (4, "knock 4".into())]);
    assert!(opened.store.events_after(2, 9).await.expect("reads").gap);
    assert!(!opened.store.events_after(3, 9).await.expect("reads").gap);
    publish(&opened, 5).await;
    assert_eq!(next_said(&mut follower).await, (5, "knock 5".into()), "the gap is reported once");
}

#[tokio::test]
async fn cursor_from_the_future_is_a_gap_then_new_events_follow() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("old")]).await;
    let mut follower = opened.store.follow(7000);
    assert_eq!(next_said(&mut follower).await.1, "gap");
    opened.persist(&[&ann.say("new")]).await;
    assert_eq!(next_said(&mut follower).await, (2, "new".into()));
    let mut follower = opened.store.follow(u64::MAX);
    assert_eq!(next_said(&mut follower).await.1, "gap");
}

#[tokio::test]
async fn time_is_turned_into_a_cursor() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let before = wall_clock();
    assert_eq!(opened.store.cursor_at(before).await.expect("reads"), 0);
    opened.persist(&[&ann.say("one"), &ann.say("two")]).await;
    assert_eq!(opened.store.cursor_at(before).await.expect("reads"), 0);
    let later = Timestamp::from_ms(wall_clock().as_ms() + 60_000);
    assert_eq!(opened.store.cursor_at(later).await.expect("reads"), 2);
    // The clock was ahead when the first event was written, and was set back.
    let at = later.as_ms();
    let set = format!("UPDATE events SET at = {at} WHERE id = 1; UPDATE event_times SET at = {at} WHERE event = 1;");
    let then = format!("INSERT INTO event_times (event, at) VALUES (2, {})", before.as_ms());
    opened.pragma(&(set + &then)).await;
    assert_eq!(opened.store.cursor_at(later).await.expect("reads"), 0);
}

#[tokio::test]
async fn event_is_encoded_once_for_all_readers() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let (mut first, mut second) = (opened.store.subscribe(), opened.store.subscribe());
    opened.persist(&[&ann.say("hello")]).await;
    let (first, second) = (first.recv().await.expect("an event"), second.recv().await.expect("an event"));
    let calls = AtomicU32::new(0);
    let encode = |event: &StoredEvent| {
        calls.fetch_add(1, Ordering::Relaxed);
        bytes::Bytes::from(event.id.to_string())
    };
    assert_eq!(first.encoded(encode), second.encoded(encode));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(Arc::ptr_eq(&first, &second));
    let StoredEventKind::Message(row) = &first.kind else { panic!("a message") };
    assert_eq!((row.log, row.seq), (ann.log, Seq(1)));
}

#[tokio::test]
async fn cursor_that_a_rolled_back_database_lost_has_no_position() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("one"), &ann.say("two")]).await;
    let kept = opened.store.cursor(2);
    opened.store.close().await;
    let older = std::fs::read(home.path()).expect("reads");

    let opened = home.open();
    publish(&opened, 3).await;
    publish(&opened, 4).await;
    opened.flush().await;
    let lost = opened.store.cursor(3);
    opened.store.close().await;
    std::fs::write(home.path(), older).expect("writes in place");

    let opened = home.open();
    assert_eq!(opened.set_aside, None);
    for n in 3..6 {
        publish(&opened, n).await;
    }
    opened.flush().await;
    assert_eq!(opened.store.cursor_now(), 5, "the numbers are used again");
    assert_eq!(opened.store.position(kept), Some(2));
    assert_eq!(opened.store.position(lost), None);
    assert_eq!(opened.store.position(opened.store.cursor(3)), Some(3));
}
