//! Persistence: what was reported as persisted is on disk after a restart, and comes back when a node starts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use chat_core::input::{CommandId, LoadId, PersistError};
use chat_core::log::entry::{Body, Control, Entry, Hlc, Incarnation, LogId, Seq, SignedEntry};
use chat_core::output::{BatchEntry, Changes, LoadScope};
use chat_core::peers::addrs::AddrRecord;
use chat_core::restore::{Restored, StoredHead};
use chat_proto::id::{MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;

use super::fixture::{ROOM, StoreHome, THEN, TestAuthor, TestStore, room, shown, texts};
use crate::store::error::ChangeError;
use crate::store::tables::models::{Idempotency, RoomRecord};
use crate::store::types::{StoreReport, Write};

async fn restored(opened: &TestStore) -> Restored {
    opened.store.restore().await.expect("reads").expect("in a room")
}

#[tokio::test]
async fn entries_survive_a_crash() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let entries = [ann.say("one"), ann.say("two"), ann.write(Body::Control(Control::Rename { name: "zoe".into() }))];
    opened.persist(&entries.each_ref()).await;
    // A copy of the files is what a crash leaves: nothing is closed, the write-ahead log is full.
    let copy = StoreHome::new(ann.id());
    for file in ["room.db", "room.db-wal"] {
        std::fs::copy(home.dir.path().join(file), copy.dir.path().join(file)).expect("copies");
    }
    let after = copy.open();
    let restored = restored(&after).await;
    assert_eq!(restored.room, ROOM);
    let [first, .., last] = &entries;
    let (label, order, first) = (last.header().time, last.header().time, first.header().time);
    let roots = Vec::new();
    let (signed, parent) = (ann.log, None);
    let head = StoredHead { log: ann.log, seq: Seq(3), hash: last.hash(), label, order, first, roots, signed, parent };
    assert_eq!(restored.heads, [head]);
    assert_eq!(restored.controls, [(ann.log, last.signed().clone(), order)]);
    assert_eq!(after.texts().await, ["one", "two"]);
    assert_eq!(after.store.messages_count(), 2);
}

/// Their authors hold them: what a loss of power takes is fetched again.
#[tokio::test]
async fn messages_of_others_are_shown_before_they_are_flushed() {
    let (mut ann, mut bob) = (TestAuthor::new(1), TestAuthor::new(2));
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    opened.persist(&[&ann.say("own")]).await;
    assert_eq!(opened.texts().await, ["own"]);
    let [log, aside] = ["room.db-wal", "aside"].map(|name| home.dir.path().join(name));
    // The log cannot be flushed by its name.
    std::fs::rename(&log, &aside).expect("renames");
    let entry = bob.say("theirs");
    assert_eq!(opened.try_persist(vec![shown(&entry)]).await, Err(PersistError::Failed));
    assert!(opened.texts().await.contains(&"theirs".into()));
    assert_eq!((opened.store.messages_count(), opened.store.cursor_now()), (2, 2));
    std::fs::rename(&aside, &log).expect("renames");
    opened.persist(&[&entry]).await;
    opened.persist(&[&bob.say("more"), &ann.say("own again")]).await;
    assert_eq!((opened.store.messages_count(), opened.store.cursor_now()), (4, 4), "none comes twice");
}

#[tokio::test]
async fn state_of_a_node_is_restored_after_a_restart() {
    let (mut ann, mut bob) = (TestAuthor::new(1), TestAuthor::with(2, Incarnation(u64::MAX)));
    let home = StoreHome::new(ann.id());
    let record = |ms| AddrRecord::sign(vec![SocketAddr::from(([192, 0, 2, 1], 1))], Timestamp::from_ms(ms), &bob.key);
    let (old, new) = (record(1), record(2));
    let mut opened = home.open();
    assert!(opened.store.restore().await.expect("reads").is_none());
    opened.store.begin(room(), vec![old.clone()]).await.expect("begins");
    let incarnation = opened.store.incarnation();

    let first = bob.say("one way");
    let mut twin = TestAuthor::with(2, Incarnation(u64::MAX));
    let second = twin.say("the other way");
    let proof = (first.signed().clone(), second.signed().clone());
    for write in [
        Write::Addrs(vec![new.clone()]),
        Write::Addrs(vec![old]),
        Write::Seen(vec![(bob.id(), Timestamp::from_ms(7)), (ann.id(), Timestamp::from_ms(3))]),
        Write::Seen(vec![(bob.id(), Timestamp::from_ms(5))]),
    ] {
        opened.store.try_write(write).expect("room in the queue");
    }
    opened.change(Changes { forks: vec![proof.clone()], ..Changes::default() }).await;
    opened.store.close().await;

    let mut opened = home.open();
    assert_eq!(opened.store.room(), Some(room()));
    assert_eq!(opened.store.incarnation(), incarnation);
    let mut back = restored(&opened).await;
    back.seen.sort();
    let mut seen = [(bob.id(), Timestamp::from_ms(7)), (ann.id(), Timestamp::from_ms(3))];
    seen.sort();
    assert_eq!(back.addrs, [new]);
    assert_eq!(back.forks, [proof]);
    assert_eq!(back.seen, seen);
    assert_eq!(back.heads, []);
    assert_eq!(back.incarnation, incarnation);

    opened.change(Changes { incarnation: Some(Incarnation(77)), ..Changes::default() }).await;
    opened.persist(&[&ann.say("x")]).await;
    assert_eq!(opened.store.incarnation(), Incarnation(77));
    opened.store.close().await;
    assert_eq!(home.open().store.incarnation(), Incarnation(77));
}

#[tokio::test]
async fn genesis_entry_binds_the_database_to_its_room() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open();
    assert_eq!(opened.store.room(), None);
    let control = Control::Genesis { room_name: "lab".into(), open: true, name: "ann".into(), nonce: [1; 16] };
    let genesis = ann.write(Body::Control(control));
    opened.persist(&[&genesis]).await;
    let ours = RoomRecord { id: RoomId::from_bytes(*genesis.hash().as_bytes()), name: "lab".into(), open: true };
    assert_eq!(opened.store.room(), Some(ours.clone()));
    assert!(matches!(opened.store.begin(room(), Vec::new()).await, Err(ChangeError::OtherRoom)));
    opened.store.close().await;
    let opened = home.open();
    assert_eq!(opened.store.room(), Some(ours.clone()));
    assert_eq!(restored(&opened).await.controls, [(ann.log, genesis.signed().clone(), genesis.header().time)]);
    assert!(opened.store.begin(ours, Vec::new()).await.is_ok());
}

#[tokio::test]
async fn stored_entries_are_passed_over_and_holes_are_refused() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(PeerId::from_bytes([7; 32]));
    let mut opened = home.open_in_room().await;
    let (one, two, three) = (ann.say("one"), ann.say("two"), ann.say("three"));
    opened.persist(&[&one, &two]).await;
    opened.persist(&[&one, &two]).await;
    assert_eq!(opened.store.messages_count(), 2);
    assert_eq!(opened.store.cursor_now(), 2);

    let mut twin = TestAuthor::new(1);
    twin.say("one");
    let fork = twin.say("another two");
    opened.persist(&[&fork]).await;
    assert_eq!(restored(&opened).await.heads.first().map(|head| head.hash), Some(two.hash()), "the first entry stays");

    let four = ann.say("four");
    assert_eq!(opened.try_persist(vec![shown(&four)]).await, Err(PersistError::Failed));
    let stranger = twin.say("after the fork");
    assert_eq!(opened.try_persist(vec![shown(&stranger)]).await, Err(PersistError::Failed));
    opened.persist(&[&three, &four]).await;
    assert_eq!(opened.store.messages_count(), 4);
}

/// Promise P2: what lies beyond a fork is filed in its branch, and stays what it was to readers.
#[tokio::test]
async fn entries_beyond_a_fork_are_filed_in_branches_with_the_proof() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(PeerId::from_bytes([7; 32]));
    let mut opened = home.open_in_room().await;
    let one = ann.say("one");
    let mut twin = ann.clone();
    let branch = [ann.say("two"), ann.say("three")];
    let other = [twin.say("another two"), twin.say("another three")];
    opened.persist(&[&one, &branch[0], &branch[1]]).await;
    let proof = (branch[0].signed().clone(), other[0].signed().clone());
    for _ in 0..2 {
        // A batch that was reported as failed may be on disk after all.
        opened.change(Changes { forks: vec![proof.clone()], ..Changes::default() }).await;
    }
    let filed = |of: &[Arc<Entry>]| -> Vec<Arc<Entry>> {
        let log = LogId::branch(ann.log.author, &of[0].hash());
        of.iter().map(|entry| Arc::new(entry.as_ref().clone().filed_in(log))).collect()
    };
    let (branch, other) = (filed(&branch), filed(&other));
    opened.persist(&[&other[0], &other[1]]).await;

    let texts = opened.texts().await;
    let mut sorted = texts.clone();
    sorted.sort();
    assert_eq!(sorted, ["another three", "another two", "one", "three", "two"]);
    assert_eq!(opened.store.cursor_now(), 5, "each message has one event");
    let mut heads = restored(&opened).await.heads;
    heads.sort_by_key(|head| head.log);
    let mut wanted = [(ann.log, one.clone()), (branch[0].log(), branch[1].clone()), (other[0].log(), other[1].clone())];
    wanted.sort_by_key(|(log, _)| *log);
    for (head, (log, entry)) in heads.iter().zip(&wanted) {
        assert_eq!((head.log, head.seq, head.hash, head.signed), (*log, entry.seq(), entry.hash(), ann.log));
        assert_eq!(head.parent, (*log != ann.log).then_some(ann.log));
    }
    assert_eq!(heads.len(), 3);
    opened.store.close().await;
    let opened = home.open();
    assert_eq!(opened.texts().await, texts);
    assert_eq!(restored(&opened).await.heads.len(), 3);
    assert_eq!(restored(&opened).await.forks, [proof]);
}

#[tokio::test]
async fn failed_batch_fails_batches_queued_before_its_report() {
    let (mut ann, mut bob) = (TestAuthor::new(1), TestAuthor::new(2));
    let home = StoreHome::new(PeerId::from_bytes([7; 32]));
    let mut opened = home.open_in_room().await;
    let (_missing, hole) = (ann.say("missing"), ann.say("hole"));
    let good = bob.say("good in itself");
    let first = opened.queue_batch(vec![shown(&hole)], HashMap::new()).await;
    let second = opened.queue_batch(vec![shown(&good)], HashMap::new()).await;
    for given in [first, second] {
        let report = opened.report().await;
        assert!(matches!(report, StoreReport::PersistFailed(id, PersistError::Failed) if id == given), "{report:?}");
    }
    opened.persist(&[&good]).await;
}

#[tokio::test]
async fn entries_are_loaded_in_order_and_within_bounds() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(PeerId::from_bytes([7; 32]));
    let mut opened = home.open_in_room().await;
    let entries: Vec<_> = (0..20).map(|n| ann.say(&format!("number {n}"))).collect();
    opened.persist(&entries.iter().collect::<Vec<_>>()).await;
    let signed = |range: std::ops::Range<usize>| -> Vec<SignedEntry> {
        entries[range].iter().map(|entry| entry.signed().clone()).collect()
    };
    let one = entries[1].signed().len_bytes();
    let stranger = LogId { author: ann.id(), incarnation: Incarnation(99) };
    for (log, from, to, bytes_max, wanted) in [
        (ann.log, 1, 20, usize::MAX, signed(0..20)),
        (ann.log, 5, u64::MAX, 1, signed(4..5)),
        (ann.log, 5, 9, 3 * (one + 8), signed(4..7)),
        (ann.log, 21, 30, usize::MAX, Vec::new()),
        (ann.log, 9, 5, usize::MAX, Vec::new()),
        (ann.log, 0, 2, usize::MAX, signed(0..2)),
        (stranger, 1, 9, usize::MAX, Vec::new()),
    ] {
        opened.store.load(LoadId(from), log, (Seq(from), Seq(to)), bytes_max, LoadScope::All);
        let StoreReport::Loaded(id, loaded) = opened.report().await else { panic!("entries were asked for") };
        assert_eq!((id, loaded), (LoadId(from), wanted));
    }
}

#[tokio::test]
async fn idempotency_key_finds_the_message_of_its_command() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let entry = ann.write(texts(&["one", "two"]));
    let key = |key: &str, n| Idempotency { key: key.into(), request: [n; 32] };
    let keys = HashMap::from([(CommandId(6), key("second", 2)), (CommandId(9), key("never", 3))]);
    let item = BatchEntry { origins: vec![CommandId(5), CommandId(6)], ..shown(&entry) };
    opened.queue_batch(vec![item], keys).await;
    assert!(matches!(opened.report().await, StoreReport::Persisted(_)));
    let again = ann.say("again");
    let item = BatchEntry { origins: vec![CommandId(7)], ..shown(&again) };
    opened.queue_batch(vec![item], HashMap::from([(CommandId(7), key("second", 4))])).await;
    assert!(matches!(opened.report().await, StoreReport::Persisted(_)));
    opened.store.close().await;

    let opened = home.open();
    let found = opened.store.find_key("second").await.expect("reads").expect("known");
    assert_eq!(found.request, [2; 32], "the first one stays");
    assert_eq!(found.message, MessageId { entry: entry.hash(), index: 1 });
    assert_eq!(opened.store.find_key("never").await.expect("reads"), None);
    let row = opened.store.message(found.message).await.expect("reads").expect("shown");
    assert_eq!((row.text.as_str(), row.log, row.seq), ("two", ann.log, Seq(1)));
}

#[tokio::test]
async fn cut_hides_messages_and_lifting_it_shows_them_again() {
    let (mut ann, mut bob) = (TestAuthor::new(1), TestAuthor::new(2));
    let home = StoreHome::new(PeerId::from_bytes([7; 32]));
    let mut opened = home.open_in_room().await;
    let entries = [ann.say("one"), ann.say("two"), ann.say("three")];
    opened.persist(&entries.each_ref()).await;
    let time = Hlc::from_wall(Timestamp::from_ms(THEN + 9));
    opened.persist(&[&bob.write_at(texts(&["bob"]), time)]).await;
    opened.cut(ann.log, Seq(1)).await;
    let late = ann.say("late");
    opened.try_persist(vec![BatchEntry { visible: false, ..shown(&late) }]).await.expect("persists");
    assert_eq!(opened.store.messages_count(), 2);
    assert_eq!(opened.texts().await, ["one", "bob"]);
    let hidden = MessageId { entry: entries[2].hash(), index: 0 };
    assert_eq!(opened.store.message(hidden).await.expect("reads"), None);
    assert_eq!(event_ids(&opened).await, [1, 4], "a reader that resumes does not get hidden messages");
    assert_eq!(restored(&opened).await.heads.len(), 2);
    opened.store.close().await;

    let mut opened = home.open();
    assert_eq!(restored(&opened).await.hidden, [ann.log]);
    assert_eq!(opened.store.messages_count(), 2);
    let mut live = opened.store.subscribe();
    opened.cut(ann.log, Seq(2)).await;
    opened.cut(ann.log, Seq(u64::MAX)).await;
    assert_eq!(restored(&opened).await.hidden, []);
    opened.flush().await;
    assert_eq!(opened.texts().await, ["one", "two", "three", "late", "bob"]);
    assert_eq!(opened.store.messages_count(), 5);
    assert_eq!(event_ids(&opened).await, [1, 2, 3, 4, 5], "messages without an event get one now, once");
    assert_eq!(live.try_recv().expect("an event").id, 5);
    assert!(live.try_recv().is_err());
}

async fn event_ids(opened: &TestStore) -> Vec<u64> {
    opened.store.events_after(0, 100).await.expect("reads").events.iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn closed_store_has_written_its_queue_and_refuses_calls() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let time = Hlc::from_wall(Timestamp::from_ms(THEN));
    opened.queue_batch(vec![shown(&ann.write_at(texts(&["last words"]), time))], HashMap::new()).await;
    opened.store.close().await;
    assert!(matches!(opened.report().await, StoreReport::Persisted(_)));
    assert!(opened.reports.recv().await.is_none());
    assert!(opened.store.try_write(Write::Seen(Vec::new())).is_err());
    assert!(opened.store.events_after(0, 1).await.is_err());
    assert!(opened.store.seal(Vec::new(), "x".into(), None).await.is_err());
    assert!(!home.dir.path().join("room.db-wal").exists(), "the last checkpoint moved everything");
    opened.store.close().await;
    assert_eq!(home.open().store.messages_count(), 1);
}
