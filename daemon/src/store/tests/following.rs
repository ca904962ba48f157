//! Events: their order, and that who resumes at a cursor misses nothing and is told nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chat_core::log::entry::Seq;
use chat_proto::event::{Event, KnockState};
use chat_proto::id::KnockId;
use chat_proto::time::Timestamp;
use proptest::prelude::*;

use super::cast::{Author, DEADLINE, Desk, Home, texts};
use crate::store::read::follow::{Followed, Follower};
use crate::store::tables::events;
use crate::store::tables::models::{StoredEvent, StoredEventKind};
use crate::store::tables::sql_types::now;
use crate::store::{EVENTS_MAX, Write};

fn knock(n: u64) -> Event {
    Event::Knock { knock: KnockId(n), name: "eve".into(), words: "a-b-c".into(), state: KnockState::Waiting }
}

async fn publish(desk: &Desk, n: u64) {
    desk.store.write(Write::Event(Box::new(knock(n)))).await.expect("the store is open");
}

/// What an event says, in short.
fn said(event: &StoredEvent) -> String {
    match &event.kind {
        StoredEventKind::Message(row) => row.text.clone(),
        StoredEventKind::Other(Event::Knock { knock, .. }) => format!("knock {knock}"),
        StoredEventKind::Other(event) => event.name().to_owned(),
    }
}

async fn all_after(desk: &Desk, mut cursor: u64, limit: u32) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    loop {
        let page = desk.store.events_after(cursor, limit).await.expect("reads");
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
    fn who_resumes_anywhere_gets_the_rest(plan in prop::collection::vec(0..4usize, 1..20), limit in 1..6u32, cut: prop::sample::Index) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut ann = Author::new(1);
            let home = Home::new(ann.id());
            let mut desk = home.open_in_room().await;
            let mut follower = desk.store.follow(0);
            let (mut wanted, mut id) = (Vec::new(), 0);
            // 0 stands for another event, 1 to 3 for an entry of so many messages.
            for (step, messages) in plan.iter().enumerate() {
                let words: Vec<String> = (0..*messages).map(|n| format!("{step}.{n}")).collect();
                if words.is_empty() {
                    publish(&desk, step as u64).await;
                    wanted.push((id + 1, format!("knock {step}")));
                } else {
                    desk.persist(&[&ann.write(texts(&words.iter().map(String::as_str).collect::<Vec<_>>()))]).await;
                    wanted.extend((id + 1..).zip(words));
                }
                id = wanted.len() as u64;
            }
            desk.flush().await;
            assert_eq!(desk.store.cursor_now(), id);
            for event in &wanted {
                assert_eq!(&next_said(&mut follower).await, event);
            }
            let database = desk.store.database();
            desk.store.close().await;
            let desk = home.open();
            assert_eq!(desk.store.database(), database);
            let cursor = cut.index(wanted.len() + 1);
            assert_eq!(all_after(&desk, cursor as u64, limit).await, wanted[cursor..]);
            publish(&desk, 99).await;
            let mut follower = desk.store.follow(cursor as u64);
            for event in wanted[cursor..].iter().chain([&(id + 1, "knock 99".to_owned())]) {
                assert_eq!(&next_said(&mut follower).await, event);
            }
        });
    }
}

#[tokio::test]
async fn a_reader_that_lags_far_behind_misses_nothing() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    let mut follower = desk.store.follow(0);
    publish(&desk, 0).await;
    assert_eq!(next_said(&mut follower).await.0, 1);
    // It is live now, and then does not read for longer than the ring holds.
    let many = vec!["x"; 1000];
    let rounds = EVENTS_MAX / 1000 + 1;
    for _ in 0..rounds {
        desk.persist(&[&ann.write(texts(&many))]).await;
    }
    let last = 1 + 1000 * rounds as u64;
    for id in 2..=last {
        assert_eq!(next_said(&mut follower).await.0, id);
    }
    publish(&desk, 5).await;
    assert_eq!(next_said(&mut follower).await, (last + 1, "knock 5".into()));
    assert_eq!(follower.cursor(), last + 1);
}

#[tokio::test]
async fn who_waits_is_woken_and_told_of_the_end() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    let mut follower = desk.store.follow(desk.store.cursor_now());
    let waiting = tokio::spawn(async move { (next_said(&mut follower).await, follower) });
    desk.persist(&[&ann.say("now")]).await;
    let (first, mut follower) = waiting.await.expect("no panic");
    assert_eq!(first, (1, "now".into()));
    desk.store.close().await;
    assert!(follower.next().await.is_err());
}

#[tokio::test]
async fn pruned_events_are_told_as_a_gap_and_messages_stay() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    publish(&desk, 1).await;
    desk.persist(&[&ann.say("kept")]).await;
    publish(&desk, 3).await;
    publish(&desk, 4).await;
    desk.flush().await;
    desk.store.close().await;
    let connection = rusqlite::Connection::open(home.path()).expect("opens");
    connection.execute("UPDATE events SET at = 0 WHERE id <= 3", []).expect("changes");
    assert!(!events::prune(&connection, now()).expect("prunes"));
    drop(connection);

    let desk = home.open();
    let mut follower = desk.store.follow(0);
    let told = [next_said(&mut follower).await, next_said(&mut follower).await, next_said(&mut follower).await];
    assert_eq!(told, [(0, "gap".into()), (2, "kept".into()), (4, "knock 4".into())]);
    assert!(desk.store.events_after(2, 9).await.expect("reads").gap);
    assert!(!desk.store.events_after(3, 9).await.expect("reads").gap);
    publish(&desk, 5).await;
    assert_eq!(next_said(&mut follower).await, (5, "knock 5".into()), "the gap is told once");
}

#[tokio::test]
async fn a_cursor_from_the_future_is_a_gap_and_goes_on_with_what_is_new() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    desk.persist(&[&ann.say("old")]).await;
    let mut follower = desk.store.follow(7000);
    assert_eq!(next_said(&mut follower).await.1, "gap");
    desk.persist(&[&ann.say("new")]).await;
    assert_eq!(next_said(&mut follower).await, (2, "new".into()));
    let mut follower = desk.store.follow(u64::MAX);
    assert_eq!(next_said(&mut follower).await.1, "gap");
}

#[tokio::test]
async fn a_time_is_a_cursor_too() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    let before = now();
    assert_eq!(desk.store.cursor_at(before).await.expect("reads"), 0);
    desk.persist(&[&ann.say("one"), &ann.say("two")]).await;
    assert_eq!(desk.store.cursor_at(before).await.expect("reads"), 0);
    let later = Timestamp::from_ms(now().as_ms() + 60_000);
    assert_eq!(desk.store.cursor_at(later).await.expect("reads"), 2);
    // The clock was ahead when the first event was written, and was set back.
    desk.pragma(&format!("UPDATE events SET at = {} WHERE id = 1", later.as_ms())).await;
    assert_eq!(desk.store.cursor_at(later).await.expect("reads"), 0);
}

#[tokio::test]
async fn an_event_is_encoded_once_for_all() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    let (mut first, mut second) = (desk.store.subscribe(), desk.store.subscribe());
    desk.persist(&[&ann.say("hello")]).await;
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
