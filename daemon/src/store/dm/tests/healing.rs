//! Lost and restored databases, rotated keys: lost messages stay lost, and the next one is readable.

use std::fs;
use std::time::Duration;

use super::{DmPeer, introduce, kinds};
use crate::store::tables::models::UNREADABLE_TEXT;
use crate::store::tests::fixture::{StoreHome, TestStore};

#[tokio::test]
async fn peer_that_lost_its_database_talks_with_new_keys() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    let keys = introduce(&mut [&mut ann, &mut bob]).await;
    let old = bob.address();
    let first = ann.seal(&[old], "before").await;
    bob.read(&first).await.expect("reads");
    let reply = bob.seal(&[ann.address()], "reply").await;
    ann.read(&reply).await.expect("reads");
    let in_transit = ann.seal(&[old], "in transit").await;
    assert_eq!(kinds(&in_transit), [1]);

    bob.lose(200).await;
    assert_eq!(bob.opened.store.room(), ann.opened.store.room());
    // Everything arrives again from the others, and old texts stay unreadable, its own among them.
    for (entry, text) in
        [(&keys[0], None), (&keys[1], None), (&first, Some(())), (&reply, Some(())), (&in_transit, Some(()))]
    {
        assert_eq!(bob.read(entry).await, text.map(|()| UNREADABLE_TEXT.to_owned()));
    }
    // Messages sealed before its new keys are known are lost; later ones are not.
    let keys = bob.keys();
    bob.take(&keys).await;
    ann.take(&keys).await;
    let fresh = ann.seal(&[bob.address()], "welcome back").await;
    assert_eq!(kinds(&fresh), [0], "a new identity needs a new session");
    assert_eq!(bob.read(&fresh).await.as_deref(), Some("welcome back"));
    let reply = bob.seal(&[ann.address()], "thanks").await;
    assert_eq!(kinds(&reply), [1]);
    assert_eq!(ann.read(&reply).await.as_deref(), Some("thanks"));
}

#[tokio::test]
async fn peer_that_lost_its_database_may_write_first() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    let keys = introduce(&mut [&mut ann, &mut bob]).await;
    let first = ann.seal(&[bob.address()], "before").await;
    bob.read(&first).await.expect("reads");
    bob.lose(200).await;
    bob.take(&keys[0]).await;
    bob.take(&first).await;
    let keys = bob.keys();
    let hello = bob.seal(&[ann.address()], "it is me again").await;
    ann.take(&keys).await;
    assert_eq!(ann.read(&hello).await.as_deref(), Some("it is me again"));
    let reply = ann.seal(&[bob.address()], "good").await;
    assert_eq!(bob.read(&reply).await.as_deref(), Some("good"));
}

#[tokio::test]
async fn undecryptable_message_makes_the_next_one_open_a_session() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    for _ in 0..2 {
        let entry = ann.seal(&[bob.address()], "question").await;
        bob.read(&entry).await.expect("reads");
        let entry = bob.seal(&[ann.address()], "answer").await;
        ann.read(&entry).await.expect("reads");
    }
    // Only Bob's sessions are lost: as if their rows could not be decrypted.
    bob.opened.pragma("UPDATE dm_sessions SET pickle = 'spoilt'").await;
    let lost = ann.seal(&[bob.address()], "lost").await;
    assert_eq!(kinds(&lost), [1]);
    assert_eq!(bob.read(&lost).await.as_deref(), Some(UNREADABLE_TEXT));
    let heal = bob.seal(&[ann.address()], "say that again").await;
    assert_eq!(kinds(&heal), [0]);
    assert_eq!(ann.read(&heal).await.as_deref(), Some("say that again"));
    let again = ann.seal(&[bob.address()], "here you are").await;
    assert_eq!(bob.read(&again).await.as_deref(), Some("here you are"));
}

#[tokio::test]
async fn restored_backup_never_uses_a_key_twice() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    let first = ann.seal(&[bob.address()], "first").await;
    bob.read(&first).await.expect("reads");
    let reply = bob.seal(&[ann.address()], "reply").await;
    ann.take(&first).await;
    ann.read(&reply).await.expect("reads");
    ann.opened.store.close().await;
    let backup = StoreHome::new(ann.id());
    fs::copy(ann.home.path(), backup.path()).expect("copies");
    ann.opened = ann.home.open();
    let second = ann.seal(&[bob.address()], "second").await;
    assert_eq!(bob.read(&second).await.as_deref(), Some("second"));

    let restored: TestStore = backup.open();
    ann.opened = restored;
    ann.home = backup;
    let third = ann.seal(&[bob.address()], "third").await;
    assert_eq!(kinds(&third), [0], "a new session: what the old one sent since the backup is not known");
    assert_eq!(bob.read(&third).await.as_deref(), Some("third"));
    let reply = bob.seal(&[ann.address()], "and on").await;
    assert_eq!(ann.read(&reply).await.as_deref(), Some("and on"));
}

#[tokio::test]
async fn rotated_fallback_key_still_opens_messages_in_transit() {
    let (mut ann, mut bob, mut cid) = (DmPeer::new(1).await, DmPeer::new(2).await, DmPeer::new(3).await);
    introduce(&mut [&mut ann, &mut bob, &mut cid]).await;
    let old = bob.address();
    let from_ann = ann.seal(&[old], "sealed before the change").await;
    let from_cid = cid.seal(&[old], "sealed before two changes").await;
    let changed = bob.opened.store.rotate_dm_keys().await.expect("changes");
    assert_eq!(bob.opened.store.dm_keys(), changed);
    assert_eq!(changed.identity, old.1.identity);
    assert_ne!(changed.fallback, old.1.fallback);
    assert_eq!(bob.read(&from_ann).await.as_deref(), Some("sealed before the change"));
    bob.opened.store.rotate_dm_keys().await.expect("changes");
    assert_eq!(bob.read(&from_cid).await.as_deref(), Some(UNREADABLE_TEXT), "only one key before the newest is kept");
    bob.restart().await;
    assert_ne!(bob.opened.store.dm_keys(), changed);
    let fresh = bob.seal(&[cid.address()], "again, please").await;
    assert_eq!(cid.read(&fresh).await.as_deref(), Some("again, please"));
    let entry = ann.seal(&[bob.address()], "the session continues").await;
    assert_eq!(bob.read(&entry).await.as_deref(), Some("the session continues"));
}

#[tokio::test]
async fn old_fallback_key_is_rotated_by_maintenance() {
    let mut bob = DmPeer::new(2).await;
    let first = bob.opened.store.dm_keys();
    bob.restart().await;
    bob.opened.flush().await;
    assert_eq!(bob.opened.store.dm_keys(), first, "it is new");
    for strange in ["0", "9000000000000000000"] {
        let before = bob.opened.store.dm_keys();
        bob.opened.pragma(&format!("UPDATE dm_account SET made = {strange}")).await;
        bob.restart().await;
        let changed = async {
            while bob.opened.store.dm_keys() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), changed).await.expect("changed with the first maintenance");
        assert_eq!(bob.opened.store.dm_keys().identity, first.identity);
    }
}

#[tokio::test]
async fn many_lost_databases_leave_a_bounded_number_of_sessions() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    let keys = introduce(&mut [&mut ann, &mut bob]).await;
    for round in 0..12 {
        bob.lose(100 + round).await;
        bob.take(&keys[0]).await;
        let keys = bob.keys();
        let hello = bob.seal(&[ann.address()], "hello").await;
        ann.take(&keys).await;
        assert_eq!(ann.read(&hello).await.as_deref(), Some("hello"));
    }
    ann.opened.store.close().await;
    let count: i64 = rusqlite::Connection::open(ann.home.path())
        .and_then(|db| db.query_row("SELECT count(*) FROM dm_sessions", [], |row| row.get(0)))
        .expect("reads");
    assert_eq!(count, 8);
}

#[tokio::test]
async fn undecryptable_account_is_replaced() {
    let mut ann = DmPeer::new(1).await;
    let old = ann.opened.store.dm_keys();
    ann.restart().await;
    assert_eq!(ann.opened.store.dm_keys(), old);
    ann.opened.pragma("UPDATE dm_account SET pickle = 'spoilt'").await;
    ann.restart().await;
    assert_ne!(ann.opened.store.dm_keys().identity, old.identity);
    let mut bob = DmPeer::new(2).await;
    introduce(&mut [&mut ann, &mut bob]).await;
    let entry = bob.seal(&[ann.address()], "new keys, then").await;
    assert_eq!(ann.read(&entry).await.as_deref(), Some("new keys, then"));
}
