//! A full disk: writes fail cleanly, nothing is half written, and everything works again when there is space.

use chat_core::input::PersistError;
use chat_core::log::entry::Seq;
use chat_proto::event::Event;
use chat_proto::time::Timestamp;

use super::fixture::{StoreHome, TestAuthor, TestStore, shown, texts};
use crate::store::error::{ChangeError, SealError};
use crate::store::tables::models::{DmKeys, HistoryFilter, StoredEventKind};
use crate::store::types::{StoreReport, Write};

const LONG: usize = 15 * 1024;

/// Limits the database to its present size.
async fn fill(opened: &TestStore) {
    let path = opened.store.context.readers.path().to_owned();
    let pages: i64 = rusqlite::Connection::open(path)
        .and_then(|connection| connection.pragma_query_value(None, "page_count", |row| row.get(0)))
        .expect("reads");
    opened.pragma(&format!("PRAGMA max_page_count = {pages}")).await;
}

async fn free(opened: &TestStore) {
    opened.pragma("PRAGMA max_page_count = 1000000").await;
}

#[tokio::test]
async fn full_disk_fails_batches_until_there_is_space() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("before")]).await;
    fill(&opened).await;
    let long = "x".repeat(LONG);
    let entries = [ann.say("first of the batch"), ann.write(texts(&[&long, &long, &long]))];
    for _ in 0..3 {
        let batch = entries.iter().map(shown).collect();
        assert_eq!(opened.try_persist(batch).await, Err(PersistError::DiskFull));
    }
    assert_eq!(opened.texts().await, ["before"], "nothing of a failed batch is shown");
    assert_eq!(opened.store.messages_count(), 1);
    assert_eq!(opened.store.cursor_now(), 1);
    free(&opened).await;
    opened.persist(&entries.each_ref()).await;
    assert_eq!(opened.store.messages_count(), 5);
    let restored = opened.store.restore().await.expect("reads").expect("in a room");
    assert_eq!(restored.heads.first().map(|head| head.seq), Some(Seq(3)));
    opened.store.close().await;
    assert_eq!(home.open().store.messages_count(), 5);
}

/// The content of the database and of its write-ahead log.
fn files(home: &StoreHome) -> [Option<Vec<u8>>; 2] {
    ["room.db", "room.db-wal"].map(|name| std::fs::read(home.dir.path().join(name)).ok())
}

#[tokio::test]
async fn opening_writes_nothing_until_the_first_write() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("before")]).await;
    opened.store.close().await;
    let before = files(&home)[0].clone();
    let mut opened = home.open();
    assert_eq!(opened.texts().await, ["before"]);
    let read = opened.store.cursor(1);
    assert_eq!(files(&home), [before, Some(Vec::new())]);
    opened.persist(&[&ann.say("after")]).await;
    let now = opened.store.cursor(2);
    assert_ne!(read.run, now.run, "each opening has a run of its own");
    opened.store.close().await;
    let again = home.open();
    assert_eq!([read, now].map(|cursor| again.store.position(cursor)), [Some(1), Some(2)]);
}

#[tokio::test]
async fn job_that_does_not_fit_fails_alone() {
    let (mut ann, mut bob) = (TestAuthor::new(1), TestAuthor::new(2));
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("a"), &bob.say("b")]).await;
    fill(&opened).await;
    let long = "x".repeat(LONG);
    let huge = ann.write(texts(&[&long, &long, &long]));
    let first = opened.queue_batch(vec![shown(&bob.say("small"))], Default::default()).await;
    let second = opened.queue_batch(vec![shown(&huge)], Default::default()).await;
    assert!(matches!(opened.report().await, StoreReport::Persisted(id) if id == first));
    assert!(matches!(opened.report().await, StoreReport::PersistFailed(id, PersistError::DiskFull) if id == second));
}

#[tokio::test]
async fn failed_writes_are_retried_when_there_is_space() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("one")]).await;
    opened.pragma("PRAGMA query_only = ON").await;
    let seen = vec![(ann.id(), Timestamp::from_ms(7))];
    opened.store.try_write(Write::Seen(seen.clone())).expect("room in the queue");
    let event = Event::Gap { reason: "an event".into() };
    opened.store.try_write(Write::Event(Box::new(event))).expect("room in the queue");
    assert!(opened.try_persist(vec![shown(&ann.say("two"))]).await.is_err());
    assert!(matches!(opened.store.rotate_dm_keys().await, Err(ChangeError::Disk(PersistError::Failed))));
    opened.pragma("PRAGMA query_only = OFF").await;

    let mut bob = TestAuthor::new(2);
    opened.persist(&[&bob.say("three")]).await;
    opened.flush().await;
    assert_eq!(opened.store.restore().await.expect("reads").expect("a room").seen, seen);
    assert_eq!(opened.texts().await.len(), 2);
    let events = opened.store.events_after(0, 9).await.expect("reads").events;
    let lost = |kind: &StoredEventKind| matches!(kind, StoredEventKind::Other(Event::Gap { reason }) if reason.contains("disk"));
    assert_eq!(events.iter().filter(|event| lost(&event.kind)).count(), 1, "readers are told that events are missing");
}

#[tokio::test]
async fn full_disk_refuses_sealing_until_there_is_space() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let long = "word ".repeat(LONG / 5);
    opened.persist(&[&ann.write(texts(&[&long, &long]))]).await;
    let keys = other_keys().await;
    fill(&opened).await;
    let sealed = opened.store.seal(vec![(TestAuthor::new(2).id(), keys)], long, None).await;
    assert!(matches!(sealed, Err(SealError::Disk(PersistError::DiskFull))), "{sealed:?}");
    free(&opened).await;
    let filter = HistoryFilter { limit: 9, words: Some("word".into()), ..HistoryFilter::default() };
    assert_eq!(opened.store.history(filter).await.expect("reads").messages.len(), 2);
}

async fn other_keys() -> DmKeys {
    StoreHome::new(TestAuthor::new(2).id()).open().store.dm_keys()
}
