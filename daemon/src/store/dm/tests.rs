//! Direct messages between stores: who can read what, and how sessions heal.

mod attacks;
mod healing;
mod talk;

use std::sync::Arc;

use chat_core::log::entry::{Body, Control, Entry, Incarnation, MessageBody};
use chat_core::membership::roster::Sealing;
use chat_core::output::BatchEntry;
use chat_proto::id::{MessageId, PeerId};

use crate::store::tables::models::{DmKeys, MessageRow};
use crate::store::tests::fixture::{StoreHome, TestAuthor, TestStore, shown};

/// A peer with its store.
struct DmPeer {
    author: TestAuthor,
    opened: TestStore,
    // After the store, which must be closed before its files are removed.
    home: StoreHome,
}

impl DmPeer {
    async fn new(n: u8) -> Self {
        let author = TestAuthor::new(n);
        let home = StoreHome::new(author.id());
        let opened = home.open_in_room().await;
        Self { author, home, opened }
    }

    fn id(&self) -> PeerId {
        self.author.id()
    }

    fn address(&self) -> (PeerId, DmKeys) {
        (self.id(), self.opened.store.dm_keys())
    }

    /// The same as others see it that runs version 0.1.
    fn old_address(&self) -> (PeerId, DmKeys) {
        let (id, keys) = self.address();
        (id, DmKeys { sealing: Sealing::Plain, ..keys })
    }

    /// The entry that publishes its keys.
    fn keys(&mut self) -> Arc<Entry> {
        let DmKeys { identity, fallback, .. } = self.opened.store.dm_keys();
        self.author.write(Body::Control(Control::Keys { identity, fallback }))
    }

    /// Seals a text and signs an entry with it, which no store has yet.
    async fn seal(&mut self, to: &[(PeerId, DmKeys)], text: &str) -> Arc<Entry> {
        self.answer(to, text, None).await
    }

    /// The same for a text that answers a message.
    async fn answer(&mut self, to: &[(PeerId, DmKeys)], text: &str, reply_to: Option<MessageId>) -> Arc<Entry> {
        let body = self.opened.store.seal(to.to_vec(), text.into(), reply_to).await.expect("seals");
        self.author.write(Body::Messages(vec![body]))
    }

    /// Stores an entry; returns its messages that are shown to this peer.
    async fn take(&mut self, entry: &Arc<Entry>) -> Vec<MessageRow> {
        self.opened.try_persist(vec![shown(entry)]).await.expect("persists");
        self.rows(entry).await
    }

    /// Stores an entry with one message; returns its text.
    async fn read(&mut self, entry: &Arc<Entry>) -> Option<String> {
        self.take(entry).await.pop().map(|row| row.text)
    }

    async fn rows(&self, entry: &Arc<Entry>) -> Vec<MessageRow> {
        let mut rows = Vec::new();
        for index in 0..u16::try_from(entry.messages().len()).expect("few") {
            let id = MessageId { entry: entry.hash(), index };
            rows.extend(self.opened.store.message(id).await.expect("reads"));
        }
        rows
    }

    async fn take_hidden(&mut self, entry: &Arc<Entry>) {
        self.opened.try_persist(vec![BatchEntry { visible: false, ..shown(entry) }]).await.expect("persists");
    }

    /// Closes the store and opens it again.
    async fn restart(&mut self) {
        self.opened.store.close().await;
        self.opened = self.home.open();
    }

    /// Loses its database and returns to the room under another incarnation.
    async fn lose(&mut self, incarnation: u64) {
        self.opened.store.close().await;
        std::fs::remove_file(self.home.path()).expect("removes");
        let key = self.author.key.clone();
        self.author = TestAuthor::with(key.to_bytes()[0], Incarnation(incarnation));
        self.opened = self.home.open();
    }

    /// Whether its files contain these bytes.
    fn holds(&self, needle: &str) -> bool {
        std::fs::read_dir(self.home.dir.path()).expect("reads").any(|file| {
            let raw = std::fs::read(file.expect("reads").path()).expect("reads");
            raw.windows(needle.len()).any(|window| window == needle.as_bytes())
        })
    }
}

/// Every peer stores the keys of all; returns the entries that publish them.
async fn introduce(peers: &mut [&mut DmPeer]) -> Vec<Arc<Entry>> {
    let keys: Vec<_> = peers.iter_mut().map(|peer| peer.keys()).collect();
    for peer in peers.iter_mut() {
        for keys in &keys {
            peer.take(keys).await;
        }
    }
    keys
}

/// How each box of an entry's first message was sealed: 0 may open a session, 1 continues one.
fn kinds(entry: &Arc<Entry>) -> Vec<u8> {
    match entry.messages().first() {
        Some(MessageBody::Sealed(boxes)) => boxes.iter().map(|sealed| sealed.kind).collect(),
        Some(MessageBody::Text(_)) | None => Vec::new(),
    }
}
