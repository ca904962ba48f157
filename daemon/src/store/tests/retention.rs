//! Retention: old bodies go in steps, and nothing else does; bodies that come late take their place.

use std::collections::HashMap;
use std::sync::Arc;

use chat_core::input::{BatchId, LoadId};
use chat_core::log::entry::{Body, Control, Entry, Hlc, Seq};
use chat_core::output::{Batch, Changes, LoadScope};
use chat_proto::time::Timestamp;
use rusqlite::Connection;

use super::fixture::{StoreHome, THEN, TestAuthor, TestStore, room, shown, texts};
use crate::store::open::schema::EVENTS_V8;
use crate::store::read::check::check;
use crate::store::tables::models::{DROPPED_TEXT, HistoryFilter, StoredEventKind};
use crate::store::types::{StoreReport, Write};

const OLD: Timestamp = Timestamp::from_ms(2000);

/// Notes that everything written so far was held long ago.
async fn age(opened: &TestStore) {
    opened.pragma("INSERT INTO held SELECT max(id), 1000 FROM entries").await;
}

async fn drop_all(opened: &TestStore) {
    while opened.store.drop_bodies(OLD).await.expect("the disk works") {}
}

async fn found(opened: &TestStore, words: &str) -> usize {
    let filter = HistoryFilter { limit: 9, words: Some(words.into()), ..HistoryFilter::default() };
    opened.store.history(filter).await.expect("reads").messages.len()
}

/// Texts of the events of messages.
async fn told(opened: &TestStore) -> Vec<String> {
    let events = opened.store.events_after(0, 99).await.expect("reads").events;
    let text = |kind| if let StoredEventKind::Message(row) = kind { Some(row.text) } else { None };
    events.into_iter().filter_map(|event| text(event.kind)).collect()
}

async fn served(opened: &mut TestStore, author: &TestAuthor, scope: LoadScope) -> Vec<bool> {
    opened.store.load(LoadId(1), author.log, (Seq(1), Seq(9)), 1 << 20, scope);
    match opened.report().await {
        StoreReport::Loaded(_, entries) => entries.iter().map(|signed| signed.body.is_some()).collect(),
        report @ (StoreReport::Persisted(_)
        | StoreReport::PersistFailed(..)
        | StoreReport::Refiled(..)
        | StoreReport::Damaged(..)) => panic!("{report:?}"),
    }
}

fn bare(entry: &Arc<Entry>) -> Arc<Entry> {
    Arc::new(entry.as_ref().clone().without_body())
}

/// Writes bodies that came late.
async fn fill(opened: &mut TestStore, entries: &[&Arc<Entry>]) {
    let bodies = entries.iter().map(|entry| shown(entry)).collect();
    let batch = Batch { id: BatchId(99), entries: Vec::new(), bodies, changes: Changes::default() };
    opened.store.write(Write::Batch(batch, HashMap::new())).await.expect("the store is open");
    assert!(matches!(opened.report().await, StoreReport::Persisted(BatchId(99))));
}

#[tokio::test]
async fn old_texts_go_and_everything_else_stays() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let control = ann.write(Body::Control(Control::Rename { name: "anna".into() }));
    opened.persist(&[&control, &ann.say("red"), &ann.write(texts(&["green", "blue"]))]).await;
    assert_eq!(found(&opened, "green").await, 1);
    age(&opened).await;
    opened.persist(&[&ann.say("red again")]).await;
    drop_all(&opened).await;

    let shown = [DROPPED_TEXT, DROPPED_TEXT, DROPPED_TEXT, "red again"];
    assert_eq!(opened.texts().await, shown);
    assert_eq!(told(&opened).await, shown, "no cursor moves");
    assert_eq!(opened.store.messages_count(), 4);
    assert_eq!([found(&opened, "green").await, found(&opened, "red").await], [0, 1]);
    assert_eq!(served(&mut opened, &ann, LoadScope::All).await, [true, false, false, true]);
    assert_eq!(served(&mut opened, &ann, LoadScope::WithBodies).await, [true, true]);
    let restored = opened.store.restore().await.expect("reads").expect("a room");
    assert_eq!((restored.controls.len(), restored.lacking.len()), (1, 0), "nothing is asked for again");
    let report = check(&home.path()).expect("reads");
    assert!(report.is_sound() && report.entries == 4 && report.without_text == 2, "{report:?}");
}

#[tokio::test]
async fn dropping_goes_on_after_a_crash_between_two_steps() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let entries: Vec<_> = (0..300).map(|n| ann.say(&format!("{n} ").repeat(400))).collect();
    opened.persist(&entries.iter().collect::<Vec<_>>()).await;
    age(&opened).await;
    let gone = |texts: Vec<String>| texts.iter().filter(|text| *text == DROPPED_TEXT).count();
    assert!(opened.store.drop_bodies(OLD).await.expect("the disk works"), "one step is not all");
    let first = gone(opened.texts().await);
    assert!(0 < first && first < 300, "{first}");
    opened.store.close().await;
    let opened = home.open();
    assert_eq!(gone(opened.texts().await), first);
    drop_all(&opened).await;
    assert_eq!(gone(opened.texts().await), 300);
    let free: i64 = Connection::open(home.path())
        .and_then(|db| db.pragma_query_value(None, "freelist_count", |row| row.get(0)))
        .expect("reads");
    assert!(free > 100, "freed pages are there to be used again");
}

#[tokio::test]
async fn bodies_that_come_late_take_the_place_of_what_stood_for_them() {
    let (mut ann, mut bob) = (TestAuthor::new(1), TestAuthor::new(2));
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let old = [bob.write(texts(&["one", "two"])), bob.say("three")];
    let four = ann.write_at(texts(&["four"]), Hlc::from_wall(Timestamp::from_ms(THEN + 1000)));
    opened.persist(&[&bare(&old[0]), &bare(&old[1]), &four]).await;
    assert_eq!(opened.texts().await, [DROPPED_TEXT, DROPPED_TEXT, "four"]);
    assert_eq!(told(&opened).await, ["four"], "no reader is told of what may still come");
    assert_eq!((opened.store.messages_count(), found(&opened, "four").await), (3, 1));
    let lacking = |restored: Option<chat_core::restore::Restored>| restored.expect("a room").lacking;
    assert_eq!(lacking(opened.store.restore().await.expect("reads")), [(bob.log, Seq(1)), (bob.log, Seq(2))]);

    let mut forger = TestAuthor::new(2);
    let other = forger.say("another one");
    for _ in 0..2 {
        fill(&mut opened, &[&other, &old[0]]).await;
    }
    assert_eq!(opened.texts().await, ["one", "two", DROPPED_TEXT, "four"]);
    assert_eq!(told(&opened).await, ["four", "one", "two"]);
    assert_eq!([found(&opened, "one").await, found(&opened, "four").await], [1, 1]);
    assert_eq!(opened.store.messages_count(), 4);
    assert_eq!(lacking(opened.store.restore().await.expect("reads")), [(bob.log, Seq(2))]);

    age(&opened).await;
    drop_all(&opened).await;
    fill(&mut opened, &[&old[0], &old[1]]).await;
    assert_eq!(opened.texts().await, [DROPPED_TEXT; 4], "what was dropped here is not filled in");
    assert_eq!(told(&opened).await.len(), 3);
}

#[tokio::test]
async fn a_reader_that_resumes_at_what_stands_for_messages_misses_nothing() {
    let mut bob = TestAuthor::new(2);
    let home = StoreHome::new(TestAuthor::new(1).id());
    let mut opened = home.open_in_room().await;
    let old = bob.say("old");
    opened.persist(&[&bare(&old)]).await;
    let page = opened.store.history(HistoryFilter { limit: 9, ..HistoryFilter::default() }).await.expect("reads");
    let cursor = page.messages[0].event;
    assert!(cursor > 0 && page.messages[0].dropped);
    fill(&mut opened, &[&old]).await;
    let events = opened.store.events_after(cursor, 9).await.expect("reads").events;
    assert_eq!(events.len(), 1);
}

#[tokio::test]
async fn hidden_text_that_was_dropped_is_announced_to_no_one() {
    let mut bob = TestAuthor::new(2);
    let home = StoreHome::new(TestAuthor::new(1).id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&bob.say("shown")]).await;
    let hidden = bob.say("hidden");
    let item = chat_core::output::BatchEntry { visible: false, ..shown(&hidden) };
    opened.try_persist(vec![item]).await.expect("persists");
    age(&opened).await;
    drop_all(&opened).await;
    opened.cut(bob.log, Seq::MAX).await;
    assert_eq!(opened.texts().await, [DROPPED_TEXT; 2]);
    assert_eq!(told(&opened).await, [DROPPED_TEXT]);
}

#[tokio::test]
async fn messages_of_version_1_are_kept_as_their_headers_do_not_say_what_they_are() {
    let home = StoreHome::new(TestAuthor::new(1).id());
    Connection::open(home.path())
        .and_then(|db| db.execute_batch(include_str!("../../../fixtures/room-v1.sql")))
        .expect("the fixture is whole");
    let opened = home.open();
    assert_eq!(opened.store.room(), Some(room()));
    age(&opened).await;
    drop_all(&opened).await;
    assert_eq!(opened.texts().await, ["hello, old world", "heard", "a word in private"]);
}

#[tokio::test]
async fn database_of_version_7_keeps_all_texts_until_they_were_held_long_enough() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("before")]).await;
    opened.store.close().await;
    Connection::open(home.path())
        .and_then(|db| {
            db.execute_batch(EVENTS_V8)?;
            db.execute_batch(
                "PRAGMA user_version = 7; DROP TABLE lacking; DROP TABLE held;
                ALTER TABLE messages DROP COLUMN gone; ALTER TABLE facts DROP COLUMN dropped;",
            )
        })
        .expect("is as version 7 left it");
    let opened = home.open();
    assert_eq!(opened.set_aside, None);
    drop_all(&opened).await;
    assert_eq!(opened.texts().await, ["before"]);
    age(&opened).await;
    drop_all(&opened).await;
    assert_eq!(opened.texts().await, [DROPPED_TEXT]);
}
