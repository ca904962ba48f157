//! Tests of opening: new, old, foreign, damaged and copied databases.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use chat_core::log::entry::{Entry, LogId, Seq, SignedEntry};
use chat_core::output::Changes;
use chat_core::peers::addrs::AddrRecord;
use chat_proto::cursor::Cursor;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use data_encoding::HEXLOWER;
use rusqlite::Connection;

use crate::store::error::OpenStoreError;
use crate::store::open::schema::EVENTS_V8;
use crate::store::tables::models::HistoryFilter;
use crate::store::tests::fixture::{StoreHome, TestAuthor, TestStore, room};
use crate::store::types::Absent;

/// Number of the database in the fixture of version 1.
const DATABASE_V1: u32 = 2_224_151_372;

fn record(n: u8) -> AddrRecord {
    let addr = SocketAddr::from(([192, 0, 2, n], 24283));
    AddrRecord::sign(vec![addr], Timestamp::from_ms(n.into()), &TestAuthor::new(n).key)
}

/// A home whose store has a room, some messages and an address.
async fn lived_in(me: &mut TestAuthor) -> StoreHome {
    let home = StoreHome::new(me.id());
    let mut opened = home.open();
    opened.store.begin(room(), vec![record(2)]).await.expect("begins");
    for n in 0..50 {
        opened.persist(&[&me.say(&format!("message {n} of a lively talk"))]).await;
    }
    opened.store.close().await;
    home
}

async fn assert_back_in_the_room(opened: &TestStore) {
    let restored = opened.store.restore().await.expect("reads").expect("knows its room");
    assert_eq!(restored.room, room().id);
    assert_eq!(restored.addrs, [record(2)]);
    assert_eq!(restored.heads, []);
    assert_eq!(opened.store.room(), Some(room()));
}

#[tokio::test]
async fn files_are_private() {
    let home = StoreHome::new(PeerId::from_bytes([1; 32]));
    fs::write(home.path(), "").expect("writes");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o666)).expect("changes");
    let opened = home.open_in_room().await;
    for file in ["room.db", "room.db-wal", "room.db-shm", "room.json", "head.mark"] {
        let mode = fs::metadata(home.dir.path().join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    drop(opened);
}

#[test]
fn missing_database_is_not_created_if_refused() {
    let home = StoreHome::new(PeerId::from_bytes([1; 32]));
    assert!(matches!(home.try_open(Absent::Refuse), Err(OpenStoreError::Missing(_))));
    assert!(!home.path().exists());
    let elsewhere = StoreHome { me: home.me, dir: tempfile::tempdir().expect("a directory") };
    fs::create_dir(elsewhere.path()).expect("creates");
    assert!(matches!(elsewhere.try_open(Absent::Create), Err(OpenStoreError::Io { .. })));
}

#[tokio::test]
async fn damaged_database_is_set_aside_and_returns_to_its_room() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("no database at all", |raw| *raw = b"this is no database, whatever its name says ".repeat(200)),
        ("a cut file", |raw| raw.truncate(raw.len() / 2 / 4096 * 4096)),
        ("overwritten pages", |raw| raw[8 * 4096..].fill(0xAB)),
        ("an overwritten schema", |raw| raw[100..4096].fill(0xFF)),
    ];
    for (name, damage) in damages {
        let mut me = TestAuthor::new(1);
        let home = lived_in(&mut me).await;
        let mut raw = fs::read(home.path()).expect("reads");
        damage(&mut raw);
        fs::write(home.path(), &raw).expect("writes");
        fs::write(home.dir.path().join("room.db-wal"), "left over").expect("writes");

        let mut opened = home.try_open(Absent::Refuse).expect(name);
        let aside = opened.set_aside.clone().expect(name);
        assert!(aside.to_string_lossy().contains("room.db.corrupt-"), "{name}");
        assert_eq!(fs::read(&aside).expect(name), raw, "{name}");
        assert_back_in_the_room(&opened).await;
        opened.persist(&[&TestAuthor::new(3).say("it works again")]).await;
        opened.store.close().await;
        assert_eq!(home.open().set_aside, None, "{name}");
    }
}

#[tokio::test]
async fn overwritten_bytes_anywhere_never_crash_the_start() {
    let mut me = TestAuthor::new(1);
    let home = lived_in(&mut me).await;
    let whole = fs::read(home.path()).expect("reads");
    let step = whole.len() / 61;
    for at in (0..whole.len()).step_by(step) {
        let copy = StoreHome::new(me.id());
        let mut raw = whole.clone();
        raw[at..(at + 40).min(whole.len())].fill(0x55);
        fs::write(copy.path(), raw).expect("writes");
        fs::copy(home.dir.path().join("room.json"), copy.dir.path().join("room.json")).expect("copies");
        match copy.try_open(Absent::Create) {
            Ok(opened) => {
                opened.store.restore().await.expect("what opens can be read");
                opened.store.close().await;
            }
            Err(OpenStoreError::Foreign(_) | OpenStoreError::TooNew(_) | OpenStoreError::OtherIdentity { .. }) => {}
            Err(error) => panic!("byte {at}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn lost_database_returns_to_its_room() {
    let mut me = TestAuthor::new(1);
    let home = lived_in(&mut me).await;
    fs::remove_file(home.path()).expect("removes");
    let opened = home.try_open(Absent::Refuse).expect("the room file names the room");
    assert_eq!(opened.set_aside, None);
    assert_back_in_the_room(&opened).await;
}

#[tokio::test]
async fn damaged_database_without_a_room_file_is_left_in_place() {
    let mut me = TestAuthor::new(1);
    let home = lived_in(&mut me).await;
    fs::remove_file(home.dir.path().join("room.json")).expect("removes");
    fs::write(home.path(), b"nothing ".repeat(1000)).expect("writes");
    assert!(matches!(home.try_open(Absent::Refuse), Err(OpenStoreError::Damaged(_))));
    assert!(home.path().exists());
    let opened = home.open();
    assert!(opened.set_aside.is_some());
    assert_eq!(opened.store.room(), None);
}

#[tokio::test]
async fn newer_or_foreign_database_is_left_alone() {
    let mut me = TestAuthor::new(1);
    let home = lived_in(&mut me).await;
    let change = |sql: &str| Connection::open(home.path()).and_then(|db| db.execute_batch(sql)).expect("changes");
    change("PRAGMA user_version = 99");
    assert!(matches!(home.try_open(Absent::Create), Err(OpenStoreError::TooNew(_))));
    change("PRAGMA user_version = 1; PRAGMA application_id = 77");
    assert!(matches!(home.try_open(Absent::Create), Err(OpenStoreError::Foreign(_))));

    let foreign = StoreHome::new(me.id());
    Connection::open(foreign.path()).and_then(|db| db.execute_batch("CREATE TABLE diary (day)")).expect("creates");
    let before = fs::read(foreign.path()).expect("reads");
    assert!(matches!(foreign.try_open(Absent::Create), Err(OpenStoreError::Foreign(_))));
    assert_eq!(fs::read(foreign.path()).expect("reads"), before);
}

#[tokio::test]
async fn database_of_another_identity_is_refused() {
    let mut me = TestAuthor::new(1);
    let home = lived_in(&mut me).await;
    let thief = StoreHome { me: TestAuthor::new(2).id(), dir: home.dir };
    let refused = thief.try_open(Absent::Create);
    assert!(matches!(refused, Err(OpenStoreError::OtherIdentity { owner, .. }) if owner == me.id()));
}

#[tokio::test]
async fn copied_database_gets_a_new_incarnation_and_a_moved_one_keeps_its() {
    let mut me = TestAuthor::new(1);
    let home = lived_in(&mut me).await;
    let opened = home.open();
    let incarnation = opened.store.incarnation();
    opened.store.close().await;
    let opened = home.open();
    assert_eq!(opened.store.incarnation(), incarnation);
    opened.store.close().await;

    let copy = StoreHome::new(me.id());
    fs::copy(home.path(), copy.path()).expect("copies");
    let opened = copy.open();
    assert_ne!(opened.store.incarnation(), incarnation);
    assert_eq!(opened.store.room(), Some(room()));
    assert_eq!(opened.store.messages_count(), 50);
    let renewed = opened.store.incarnation();
    opened.store.close().await;
    assert_eq!(copy.open().store.incarnation(), renewed);

    // A moved file is no copy.
    let moved = StoreHome::new(me.id());
    fs::rename(home.path(), moved.path()).expect("moves within the file system");
    assert_eq!(moved.open().store.incarnation(), incarnation);
}

#[tokio::test]
async fn database_of_version_1_keeps_loading() {
    let (me, bob) = (TestAuthor::new(1), TestAuthor::new(2));
    let home = StoreHome::new(me.id());
    Connection::open(home.path())
        .and_then(|db| db.execute_batch(include_str!("../../../fixtures/room-v1.sql")))
        .expect("the fixture is whole");
    let mut opened = home.open();
    assert_eq!(opened.set_aside, None);
    assert_eq!(opened.store.room(), Some(room()));
    assert_eq!(opened.texts().await, ["hello, old world", "heard", "a word in private"]);
    let identity = HEXLOWER.encode(&opened.store.dm_keys().identity);
    assert_eq!(identity, "0d4b79e072ec3cec6d5cc9de6cf961a5fcb6b56c5e0e32780d37bc455a6aaa09");

    let restored = opened.store.restore().await.expect("reads").expect("in a room");
    let mut heads: Vec<_> = restored.heads.iter().map(|head| (head.log, head.seq)).collect();
    heads.sort();
    let mut wanted = [(me.log, Seq(3)), (bob.log, Seq(3))];
    wanted.sort();
    assert_eq!(heads, wanted);
    assert_eq!((restored.controls.len(), restored.forks.len()), (3, 1));
    assert_eq!(restored.addrs.iter().map(|record| record.peer).collect::<Vec<_>>(), [bob.id()]);
    assert_eq!(restored.seen, [(bob.id(), Timestamp::from_ms(6))]);
    assert_eq!(opened.store.find_key("first").await.expect("reads").expect("known").request, [5; 32]);
    let events = opened.store.events_after(0, 9).await.expect("reads").events;
    assert_eq!(events.len(), 4);
    for event in events {
        let cursor = Cursor { run: DATABASE_V1, event: event.id };
        assert_eq!((opened.store.cursor(event.id), opened.store.position(cursor)), (cursor, Some(event.id)));
    }
    let filter = HistoryFilter { limit: 9, words: Some("private".into()), ..HistoryFilter::default() };
    assert_eq!(opened.store.history(filter).await.expect("reads").messages.len(), 1);

    // The next message of a session that existed when the fixture was written.
    let raw = HEXLOWER.decode(include_str!("../../../fixtures/entry-sealed-v1.hex").trim().as_bytes());
    let signed = postcard::from_bytes(&raw.expect("hexadecimal")).expect("an entry");
    let late = Arc::new(Entry::from_trusted(signed).expect("an entry"));
    opened.persist(&[&late]).await;
    assert_eq!(opened.texts().await.last().map(String::as_str), Some("sealed long ago"));
}

/// Older versions kept one fork of a log, and hid what lies beyond it.
#[tokio::test]
async fn messages_that_version_5_hid_beyond_a_fork_are_filed_in_a_branch() {
    let mut bob = TestAuthor::new(2);
    let home = StoreHome::new(TestAuthor::new(1).id());
    let mut opened = home.open_in_room().await;
    let one = bob.say("one");
    let mut twin = bob.clone();
    let (two, other) = (bob.say("two"), twin.say("another two"));
    opened.persist(&[&one, &two]).await;
    opened.change(Changes { cuts: [(bob.log, Seq(1))].into(), ..Changes::default() }).await;
    assert_eq!(opened.texts().await, ["one"]);
    opened.store.close().await;
    let raw = |entry: &Arc<Entry>| {
        postcard::to_stdvec(&SignedEntry { body: None, ..entry.signed().clone() }).expect("encodes")
    };
    let old = Connection::open(home.path()).expect("opens");
    old.execute_batch(EVENTS_V8).expect("is as version 8 left it");
    old.execute_batch(
        "DROP TABLE forks; PRAGMA user_version = 5; DROP TABLE lacking; DROP TABLE held;
        ALTER TABLE messages DROP COLUMN gone; ALTER TABLE facts DROP COLUMN dropped;
        ALTER TABLE messages DROP COLUMN reply; ALTER TABLE dm_outbox DROP COLUMN reply;
        CREATE TABLE forks (log INTEGER PRIMARY KEY REFERENCES logs, first BLOB NOT NULL, second BLOB NOT NULL) STRICT;",
    )
    .expect("is as version 5 left it");
    old.execute("INSERT INTO forks SELECT log, ?, ? FROM entries WHERE seq = 2", [raw(&two), raw(&other)])
        .expect("has the proof");
    drop(old);

    let opened = home.open();
    assert_eq!(opened.set_aside, None);
    let restored = opened.store.restore().await.expect("reads").expect("in a room");
    let branch = LogId::branch(bob.id(), &two.hash());
    let mut heads: Vec<_> = restored.heads.iter().map(|head| (head.log, head.seq)).collect();
    heads.sort();
    let mut wanted = [(bob.log, Seq(1)), (branch, Seq(2))];
    wanted.sort();
    assert_eq!(heads, wanted);
    assert_eq!(restored.forks.len(), 1);
    assert_eq!(restored.hidden, [branch], "the node shows what no cut hides");
}

#[test]
fn connection_flushes_every_commit() {
    let home = StoreHome::new(PeerId::from_bytes([1; 32]));
    fs::write(home.path(), "").expect("writes");
    let connection = super::connection::connect(&home.path()).expect("connects");
    let setting = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).expect("is set");
    assert_eq!(setting("synchronous"), 2, "FULL: flushed with every commit");
    assert_eq!(setting("foreign_keys"), 1);
    assert_eq!(setting("wal_autocheckpoint"), 0);
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("is set");
    assert_eq!(mode, "wal");
}

/// Promise P1: a database that was put back in place is older than what others hold, and its file does not show it.
#[tokio::test]
async fn database_rolled_back_in_place_begins_a_new_incarnation() {
    let home = StoreHome::new(TestAuthor::new(1).id());
    let mut opened = home.open_in_room().await;
    let incarnation = opened.store.incarnation();
    let mut me = TestAuthor::with(1, incarnation);
    opened.persist(&[&me.say("one")]).await;
    opened.store.close().await;
    let old = fs::read(home.path()).expect("reads");

    let mut opened = home.open();
    assert_eq!(opened.store.incarnation(), incarnation, "nothing happened to it");
    assert!(opened.store.restore().await.expect("reads").expect("a room").mark_agrees);
    opened.persist(&[&me.say("two")]).await;
    opened.store.close().await;

    fs::write(home.path(), old).expect("writes in place");
    let opened = home.open();
    let fresh = opened.store.incarnation();
    assert_ne!(fresh, incarnation);
    assert_eq!(opened.texts().await, ["one"]);
    opened.store.close().await;
    assert_eq!(home.open().store.incarnation(), fresh, "once is enough");
}

#[tokio::test]
async fn missing_or_damaged_mark_agrees_with_nothing_and_changes_nothing() {
    let home = StoreHome::new(TestAuthor::new(1).id());
    let mut opened = home.open_in_room().await;
    let incarnation = opened.store.incarnation();
    opened.persist(&[&TestAuthor::with(1, incarnation).say("one")]).await;
    opened.store.close().await;
    for content in [None, Some(""), Some("nothing that was ever written")] {
        let mark = home.dir.path().join("head.mark");
        match content {
            None => fs::remove_file(&mark).expect("removes"),
            Some(content) => fs::write(&mark, content).expect("writes"),
        }
        let opened = home.open();
        assert_eq!(opened.store.incarnation(), incarnation);
        assert!(!opened.store.restore().await.expect("reads").expect("a room").mark_agrees);
        opened.store.close().await;
    }
}

/// A crash may come between an entry and its mark, and a write that seemed to fail may be on the disk after all.
#[tokio::test]
async fn start_marks_the_newest_own_entry() {
    let home = StoreHome::new(TestAuthor::new(1).id());
    let path = home.dir.path().join("head.mark");
    let mut opened = home.open_in_room().await;
    let mut me = TestAuthor::with(1, opened.store.incarnation());
    opened.persist(&[&me.say("one")]).await;
    let behind = fs::read(&path).expect("reads");
    opened.persist(&[&me.say("two")]).await;
    opened.store.close().await;
    let newest = fs::read(&path).expect("reads");
    assert_ne!(behind, newest);
    fs::write(&path, behind).expect("writes");
    home.open().store.close().await;
    assert_eq!(fs::read(&path).expect("reads"), newest);
}
