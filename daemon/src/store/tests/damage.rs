//! Entries that rot on disk: they are not served, they are reported, and a good copy replaces them.

use std::collections::BTreeSet;
use std::sync::Arc;

use chat_core::input::LoadId;
use chat_core::log::entry::{Entry, Seq};
use chat_core::output::LoadScope;

use super::fixture::{StoreHome, TestAuthor, TestStore};
use crate::store::types::{StoreReport, Write};

/// Reads the log as another peer would get it, and the damaged entries that were reported meanwhile.
async fn served(opened: &mut TestStore, ann: &TestAuthor) -> (usize, BTreeSet<u64>) {
    opened.store.load(LoadId(1), ann.log, (Seq(1), Seq(9)), 1 << 20, LoadScope::All);
    let mut damaged = BTreeSet::new();
    loop {
        match opened.report().await {
            StoreReport::Loaded(_, entries) => return (entries.len(), damaged),
            StoreReport::Damaged(log, seq) => {
                assert_eq!(log, ann.log);
                damaged.insert(seq.0);
            }
            report @ (StoreReport::Persisted(_) | StoreReport::PersistFailed(..) | StoreReport::Refiled(..)) => {
                panic!("{report:?}")
            }
        }
    }
}

async fn repair(opened: &TestStore, entry: &Arc<Entry>) {
    opened.store.write(Write::Repair(Arc::clone(entry))).await.expect("the store is open");
    opened.flush().await;
}

#[tokio::test]
async fn damaged_entry_is_not_served_until_a_good_copy_replaces_it() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let entries = [ann.say("one"), ann.say("two"), ann.say("three")];
    opened.persist(&entries.each_ref()).await;
    opened.pragma("UPDATE entries SET body = x'000102' WHERE seq = 2").await;
    assert_eq!(served(&mut opened, &ann).await, (1, [2].into()));
    assert_eq!(opened.store.damaged_count(), 1);

    let mut twin = TestAuthor::new(1);
    let others = [twin.say("one"), twin.say("another")];
    repair(&opened, &others[1]).await;
    assert_eq!(opened.store.damaged_count(), 1, "an entry of another chain is no good copy");
    repair(&opened, &entries[1]).await;
    assert_eq!(opened.store.damaged_count(), 0);
    assert_eq!(served(&mut opened, &ann).await.0, 3);
    assert_eq!(opened.texts().await, ["one", "two", "three"]);
}

#[tokio::test]
async fn idle_store_finds_whatever_part_of_an_entry_is_damaged() {
    let mut ann = TestAuthor::new(1);
    let home = StoreHome::new(ann.id());
    let mut opened = home.open_in_room().await;
    let entries: Vec<_> = (0..100).map(|n| ann.say(&format!("message {n}"))).collect();
    opened.persist(&entries.iter().collect::<Vec<_>>()).await;
    opened.store.close().await;
    let damage = "UPDATE entries SET body = NULL WHERE seq = 1;
        UPDATE entries SET body = zeroblob(length(body)) WHERE seq = 2;
        UPDATE entries SET header = zeroblob(length(header)) WHERE seq = 3;
        UPDATE entries SET hash = zeroblob(32) WHERE seq = 4;
        UPDATE entries SET signature = zeroblob(64) WHERE seq = 5;
        UPDATE entries SET signature = x'00' WHERE seq = 99;";
    rusqlite::Connection::open(home.path()).and_then(|db| db.execute_batch(damage)).expect("changes");

    let mut opened = home.open();
    let mut found = BTreeSet::new();
    while found.len() < 5 {
        if let StoreReport::Damaged(_, seq) = opened.report().await {
            found.insert(seq.0);
        }
    }
    assert_eq!(found, [2, 3, 4, 5, 99].into(), "a body may be dropped on purpose");
    assert_eq!(opened.store.damaged_count(), 5);
    for seq in found {
        let entry = &entries[usize::try_from(seq).expect("small") - 1];
        repair(&opened, entry).await;
    }
    assert_eq!(opened.store.damaged_count(), 0);
    assert_eq!(served(&mut opened, &ann).await.0, 9);
}
