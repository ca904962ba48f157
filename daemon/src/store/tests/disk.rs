//! A disk that is full: clean failures, nothing half written, and everything works again afterwards.

use chat_core::input::PersistError;
use chat_core::log::entry::{Incarnation, Seq};
use chat_proto::event::Event;

use super::cast::{Author, Desk, Home, shown, texts};
use crate::store::error::{ChangeError, SealError};
use crate::store::tables::models::{DmKeys, HistoryFilter, StoredEventKind};
use crate::store::{Report, Write};

const LONG: usize = 15 * 1024;

/// Makes the database as large as it is now the largest it may be.
async fn fill(desk: &Desk) {
    let path = desk.store.shared.readers.path().to_owned();
    let pages: i64 = rusqlite::Connection::open(path)
        .and_then(|connection| connection.pragma_query_value(None, "page_count", |row| row.get(0)))
        .expect("reads");
    desk.pragma(&format!("PRAGMA max_page_count = {pages}")).await;
}

async fn free(desk: &Desk) {
    desk.pragma("PRAGMA max_page_count = 1000000").await;
}

#[tokio::test]
async fn a_full_disk_fails_batches_until_there_is_space() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    desk.persist(&[&ann.say("before")]).await;
    fill(&desk).await;
    let long = "x".repeat(LONG);
    let entries = [ann.say("first of the batch"), ann.write(texts(&[&long, &long, &long]))];
    for _ in 0..3 {
        let batch = entries.iter().map(shown).collect();
        assert_eq!(desk.try_persist(batch).await, Err(PersistError::DiskFull));
    }
    assert_eq!(desk.texts().await, ["before"], "nothing of a failed batch is shown");
    assert_eq!(desk.store.messages_count(), 1);
    assert_eq!(desk.store.cursor_now(), 1);
    free(&desk).await;
    desk.persist(&entries.each_ref()).await;
    assert_eq!(desk.store.messages_count(), 5);
    let restored = desk.store.restore().await.expect("reads").expect("in a room");
    assert_eq!(restored.heads.first().map(|head| head.seq), Some(Seq(3)));
    desk.store.close().await;
    assert_eq!(home.open().store.messages_count(), 5);
}

#[tokio::test]
async fn one_job_that_does_not_fit_does_not_fail_its_neighbours() {
    let (mut ann, mut bob) = (Author::new(1), Author::new(2));
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    desk.persist(&[&ann.say("a"), &bob.say("b")]).await;
    fill(&desk).await;
    let long = "x".repeat(LONG);
    let huge = ann.write(texts(&[&long, &long, &long]));
    let first = desk.give(vec![shown(&bob.say("small"))], Default::default()).await;
    let second = desk.give(vec![shown(&huge)], Default::default()).await;
    assert!(matches!(desk.report().await, Report::Persisted(id) if id == first));
    assert!(matches!(desk.report().await, Report::PersistFailed(id, PersistError::DiskFull) if id == second));
}

#[tokio::test]
async fn what_must_not_be_lost_is_written_when_there_is_space() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    desk.persist(&[&ann.say("one")]).await;
    desk.pragma("PRAGMA query_only = ON").await;
    desk.store.try_write(Write::Incarnation(Incarnation(5))).expect("room in the queue");
    desk.store.try_write(Write::Hide(ann.log, Seq(0))).expect("room in the queue");
    let event = Event::Gap { reason: "an event".into() };
    desk.store.try_write(Write::Event(Box::new(event))).expect("room in the queue");
    assert!(desk.try_persist(vec![shown(&ann.say("two"))]).await.is_err());
    assert!(matches!(desk.store.rotate_dm_keys().await, Err(ChangeError::Disk(PersistError::Failed))));
    assert_ne!(desk.store.incarnation(), Incarnation(5));
    desk.pragma("PRAGMA query_only = OFF").await;

    let mut bob = Author::new(2);
    desk.persist(&[&bob.say("three")]).await;
    desk.flush().await;
    assert_eq!(desk.store.incarnation(), Incarnation(5));
    assert_eq!(desk.texts().await, ["three"]);
    let events = desk.store.events_after(0, 9).await.expect("reads").events;
    let lost = |kind: &StoredEventKind| matches!(kind, StoredEventKind::Other(Event::Gap { reason }) if reason.contains("disk"));
    assert_eq!(events.iter().filter(|event| lost(&event.kind)).count(), 1, "readers are told that events are missing");
}

#[tokio::test]
async fn nothing_is_sealed_and_nothing_found_on_a_full_disk() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    let long = "word ".repeat(LONG / 5);
    desk.persist(&[&ann.write(texts(&[&long, &long]))]).await;
    let keys = other_keys().await;
    fill(&desk).await;
    let sealed = desk.store.seal(vec![(Author::new(2).id(), keys)], long).await;
    assert!(matches!(sealed, Err(SealError::Disk(PersistError::DiskFull))), "{sealed:?}");
    free(&desk).await;
    let filter = HistoryFilter { limit: 9, words: Some("word".into()), ..HistoryFilter::default() };
    assert_eq!(desk.store.history(filter).await.expect("reads").messages.len(), 2);
}

async fn other_keys() -> DmKeys {
    Home::new(Author::new(2).id()).open().store.dm_keys()
}
