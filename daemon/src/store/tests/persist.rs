//! What was reported as persisted is there after a restart: entries, controls, heads, keys, what a node starts with.

use std::collections::HashMap;
use std::net::SocketAddr;

use chat_core::input::{CommandId, LoadId, PersistError};
use chat_core::log::entry::{Body, Control, Hlc, Incarnation, LogId, Seq, SignedEntry};
use chat_core::output::BatchEntry;
use chat_core::peers::addrs::AddrRecord;
use chat_core::restore::{Restored, StoredHead};
use chat_proto::id::{MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;

use super::cast::{Author, Desk, Home, ROOM, THEN, room, shown, texts};
use crate::node::handle::Idempotency;
use crate::store::error::ChangeError;
use crate::store::tables::models::Room;
use crate::store::{Report, Write};

async fn restored(desk: &Desk) -> Restored {
    desk.store.restore().await.expect("reads").expect("in a room")
}

#[tokio::test]
async fn entries_survive_an_end_without_closing() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    let entries = [ann.say("one"), ann.say("two"), ann.write(Body::Control(Control::Rename { name: "zoe".into() }))];
    desk.persist(&entries.each_ref()).await;
    // A second process would see what a crash leaves: nothing is closed, the write-ahead log stands as it is.
    let copy = Home::new(ann.id());
    for file in ["room.db", "room.db-wal"] {
        std::fs::copy(home.dir.path().join(file), copy.dir.path().join(file)).expect("copies");
    }
    let after = copy.open();
    let restored = restored(&after).await;
    assert_eq!(restored.room, ROOM);
    let [first, .., last] = &entries;
    let (time, first) = (last.header().time, first.header().time);
    let head = StoredHead { log: ann.log, seq: Seq(3), hash: last.hash(), time, first };
    assert_eq!(restored.heads, [head]);
    assert_eq!(restored.controls, [last.signed().clone()]);
    assert_eq!(after.texts().await, ["one", "two"]);
    assert_eq!(after.store.messages_count(), 2);
}

#[tokio::test]
async fn everything_a_node_starts_with_comes_back() {
    let (mut ann, mut bob) = (Author::new(1), Author::with(2, Incarnation(u64::MAX)));
    let home = Home::new(ann.id());
    let record = |ms| AddrRecord::sign(vec![SocketAddr::from(([192, 0, 2, 1], 1))], Timestamp::from_ms(ms), &bob.key);
    let (old, new) = (record(1), record(2));
    let desk = home.open();
    assert!(desk.store.restore().await.expect("reads").is_none());
    desk.store.begin(room(), vec![old.clone()]).await.expect("begins");
    let incarnation = desk.store.incarnation();

    let first = bob.say("one way");
    let mut twin = Author::with(2, Incarnation(u64::MAX));
    let second = twin.say("the other way");
    let proof = (first.signed().clone(), second.signed().clone());
    for write in [
        Write::Addrs(vec![new.clone()]),
        Write::Addrs(vec![old]),
        Write::Fork(Box::new(proof.0.clone()), Box::new(proof.1.clone())),
        Write::Fork(Box::new(proof.1.clone()), Box::new(proof.0.clone())),
        Write::Seen(vec![(bob.id(), Timestamp::from_ms(7)), (ann.id(), Timestamp::from_ms(3))]),
        Write::Seen(vec![(bob.id(), Timestamp::from_ms(5))]),
    ] {
        desk.store.try_write(write).expect("room in the queue");
    }
    desk.store.close().await;

    let mut desk = home.open();
    assert_eq!(desk.store.room(), Some(room()));
    assert_eq!(desk.store.incarnation(), incarnation);
    let mut back = restored(&desk).await;
    back.seen.sort();
    let mut seen = [(bob.id(), Timestamp::from_ms(7)), (ann.id(), Timestamp::from_ms(3))];
    seen.sort();
    assert_eq!(back.addrs, [new]);
    assert_eq!(back.forks, [proof]);
    assert_eq!(back.seen, seen);
    assert_eq!(back.heads, []);
    assert_eq!(back.incarnation, incarnation);

    desk.store.try_write(Write::Incarnation(Incarnation(77))).expect("room in the queue");
    desk.persist(&[&ann.say("x")]).await;
    assert_eq!(desk.store.incarnation(), Incarnation(77));
    desk.store.close().await;
    assert_eq!(home.open().store.incarnation(), Incarnation(77));
}

#[tokio::test]
async fn the_first_entry_of_a_room_makes_it_ours() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open();
    assert_eq!(desk.store.room(), None);
    let control = Control::Genesis { room_name: "lab".into(), open: true, name: "ann".into(), nonce: [1; 16] };
    let genesis = ann.write(Body::Control(control));
    desk.persist(&[&genesis]).await;
    let ours = Room { id: RoomId::from_bytes(*genesis.hash().as_bytes()), name: "lab".into(), open: true };
    assert_eq!(desk.store.room(), Some(ours.clone()));
    assert!(matches!(desk.store.begin(room(), Vec::new()).await, Err(ChangeError::OtherRoom)));
    desk.store.close().await;
    let desk = home.open();
    assert_eq!(desk.store.room(), Some(ours.clone()));
    assert_eq!(restored(&desk).await.controls, [genesis.signed().clone()]);
    assert!(desk.store.begin(ours, Vec::new()).await.is_ok());
}

#[tokio::test]
async fn what_is_held_is_passed_over_and_holes_are_refused() {
    let mut ann = Author::new(1);
    let home = Home::new(PeerId::from_bytes([7; 32]));
    let mut desk = home.open_in_room().await;
    let (one, two, three) = (ann.say("one"), ann.say("two"), ann.say("three"));
    desk.persist(&[&one, &two]).await;
    desk.persist(&[&one, &two]).await;
    assert_eq!(desk.store.messages_count(), 2);
    assert_eq!(desk.store.cursor_now(), 2);

    let mut twin = Author::new(1);
    twin.say("one");
    let fork = twin.say("another two");
    desk.persist(&[&fork]).await;
    assert_eq!(restored(&desk).await.heads.first().map(|head| head.hash), Some(two.hash()), "what was first stays");

    let four = ann.say("four");
    assert_eq!(desk.try_persist(vec![shown(&four)]).await, Err(PersistError::Failed));
    let stranger = twin.say("after the fork");
    assert_eq!(desk.try_persist(vec![shown(&stranger)]).await, Err(PersistError::Failed));
    desk.persist(&[&three, &four]).await;
    assert_eq!(desk.store.messages_count(), 4);
}

#[tokio::test]
async fn a_failed_batch_fails_what_was_given_before_its_giver_heard() {
    let (mut ann, mut bob) = (Author::new(1), Author::new(2));
    let home = Home::new(PeerId::from_bytes([7; 32]));
    let mut desk = home.open_in_room().await;
    let (_missing, hole) = (ann.say("missing"), ann.say("hole"));
    let good = bob.say("good in itself");
    let first = desk.give(vec![shown(&hole)], HashMap::new()).await;
    let second = desk.give(vec![shown(&good)], HashMap::new()).await;
    for given in [first, second] {
        let report = desk.report().await;
        assert!(matches!(report, Report::PersistFailed(id, PersistError::Failed) if id == given), "{report:?}");
    }
    desk.persist(&[&good]).await;
}

#[tokio::test]
async fn entries_are_loaded_in_order_and_within_bounds() {
    let mut ann = Author::new(1);
    let home = Home::new(PeerId::from_bytes([7; 32]));
    let mut desk = home.open_in_room().await;
    let entries: Vec<_> = (0..20).map(|n| ann.say(&format!("number {n}"))).collect();
    desk.persist(&entries.iter().collect::<Vec<_>>()).await;
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
        desk.store.load(LoadId(from), log, Seq(from), Seq(to), bytes_max);
        let Report::Loaded(id, loaded) = desk.report().await else { panic!("entries were asked for") };
        assert_eq!((id, loaded), (LoadId(from), wanted));
    }
}

#[tokio::test]
async fn a_key_finds_the_message_of_its_command() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    let entry = ann.write(texts(&["one", "two"]));
    let key = |key: &str, n| Idempotency { key: key.into(), request: [n; 32] };
    let keys = HashMap::from([(CommandId(6), key("second", 2)), (CommandId(9), key("never", 3))]);
    let item = BatchEntry { entry: entry.clone(), origins: vec![CommandId(5), CommandId(6)], visible: true };
    desk.give(vec![item], keys).await;
    assert!(matches!(desk.report().await, Report::Persisted(_)));
    let again = ann.say("again");
    let item = BatchEntry { entry: again, origins: vec![CommandId(7)], visible: true };
    desk.give(vec![item], HashMap::from([(CommandId(7), key("second", 4))])).await;
    assert!(matches!(desk.report().await, Report::Persisted(_)));
    desk.store.close().await;

    let desk = home.open();
    let found = desk.store.find_key("second").await.expect("reads").expect("known");
    assert_eq!(found.request, [2; 32], "the first one stays");
    assert_eq!(found.message, MessageId { entry: entry.hash(), index: 1 });
    assert_eq!(desk.store.find_key("never").await.expect("reads"), None);
    let row = desk.store.message(found.message).await.expect("reads").expect("shown");
    assert_eq!((row.text.as_str(), row.log, row.seq), ("two", ann.log, Seq(1)));
}

#[tokio::test]
async fn a_cut_hides_and_a_lifted_cut_shows_again() {
    let (mut ann, mut bob) = (Author::new(1), Author::new(2));
    let home = Home::new(PeerId::from_bytes([7; 32]));
    let mut desk = home.open_in_room().await;
    let entries = [ann.say("one"), ann.say("two"), ann.say("three")];
    desk.persist(&entries.each_ref()).await;
    let time = Hlc::from_wall(Timestamp::from_ms(THEN + 9));
    desk.persist(&[&bob.write_at(texts(&["bob"]), time)]).await;
    desk.store.try_write(Write::Hide(ann.log, Seq(1))).expect("room in the queue");
    let late = ann.say("late");
    desk.try_persist(vec![BatchEntry { visible: false, ..shown(&late) }]).await.expect("persists");
    assert_eq!(desk.store.messages_count(), 2);
    assert_eq!(desk.texts().await, ["one", "bob"]);
    let hidden = MessageId { entry: entries[2].hash(), index: 0 };
    assert_eq!(desk.store.message(hidden).await.expect("reads"), None);
    assert_eq!(event_ids(&desk).await, [1, 4], "who resumes is not told of hidden messages");
    assert_eq!(restored(&desk).await.heads.len(), 2);
    desk.store.close().await;

    let desk = home.open();
    assert_eq!(desk.store.messages_count(), 2);
    let mut live = desk.store.subscribe();
    desk.store.try_write(Write::Hide(ann.log, Seq(2))).expect("room in the queue");
    desk.store.try_write(Write::Hide(ann.log, Seq(u64::MAX))).expect("room in the queue");
    desk.flush().await;
    assert_eq!(desk.texts().await, ["one", "two", "three", "late", "bob"]);
    assert_eq!(desk.store.messages_count(), 5);
    assert_eq!(event_ids(&desk).await, [1, 2, 3, 4, 5], "what nobody was told of is told now, once");
    assert_eq!(live.try_recv().expect("an event").id, 5);
    assert!(live.try_recv().is_err());
}

async fn event_ids(desk: &Desk) -> Vec<u64> {
    desk.store.events_after(0, 100).await.expect("reads").events.iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn a_closed_store_says_so_and_has_written_what_it_took() {
    let mut ann = Author::new(1);
    let home = Home::new(ann.id());
    let mut desk = home.open_in_room().await;
    let time = Hlc::from_wall(Timestamp::from_ms(THEN));
    desk.give(vec![shown(&ann.write_at(texts(&["last words"]), time))], HashMap::new()).await;
    desk.store.close().await;
    assert!(matches!(desk.report().await, Report::Persisted(_)));
    assert!(desk.reports.recv().await.is_none());
    assert!(desk.store.try_write(Write::Hide(ann.log, Seq(0))).is_err());
    assert!(desk.store.events_after(0, 1).await.is_err());
    assert!(desk.store.seal(Vec::new(), "x".into()).await.is_err());
    assert!(!home.dir.path().join("room.db-wal").exists(), "the last checkpoint took everything");
    desk.store.close().await;
    assert_eq!(home.open().store.messages_count(), 1);
}
