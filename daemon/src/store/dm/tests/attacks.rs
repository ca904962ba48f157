//! What members may try: copied boxes, forged identities, other rooms, garbage.

use std::sync::Arc;

use chat_core::log::entry::{Body, Control, Entry, MessageBody, SealedBox};
use chat_proto::id::{PeerId, RoomId};
use proptest::prelude::*;

use super::{Peer, introduce};
use crate::store::tables::models::{DmKeys, Room, UNREADABLE_TEXT};
use crate::store::tests::cast::Home;

const SECRET: &str = "meet at the old lighthouse";

fn boxes(entry: &Arc<Entry>) -> Vec<SealedBox> {
    match entry.messages().first() {
        Some(MessageBody::Sealed(boxes)) => boxes.clone(),
        Some(MessageBody::Text(_)) | None => Vec::new(),
    }
}

fn sealed(boxes: Vec<SealedBox>) -> Body {
    Body::Messages(vec![MessageBody::Sealed(boxes)])
}

#[tokio::test]
async fn a_copied_box_is_not_read_as_the_thiefs() {
    let (mut ann, mut bob, mut eve) = (Peer::new(1).await, Peer::new(2).await, Peer::new(3).await);
    introduce(&mut [&mut ann, &mut bob, &mut eve]).await;
    let entry = ann.seal(&[bob.address()], SECRET).await;
    // Eve is quicker than Ann, first with a message that opens a session, then with one that continues it.
    let copied = eve.author.write(sealed(boxes(&entry)));
    assert_eq!(bob.read(&copied).await.as_deref(), Some(UNREADABLE_TEXT));
    assert_eq!(bob.read(&entry).await.as_deref(), Some(SECRET));
    let reply = bob.seal(&[ann.address()], "yes").await;
    ann.read(&reply).await.expect("reads");
    let entry = ann.seal(&[bob.address()], SECRET).await;
    let copied = eve.author.write(sealed(boxes(&entry)));
    assert_eq!(bob.read(&copied).await.as_deref(), Some(UNREADABLE_TEXT));
    assert_eq!(bob.read(&entry).await.as_deref(), Some(SECRET));
    assert!(!eve.holds(SECRET));
}

#[tokio::test]
async fn an_identity_that_was_not_published_opens_no_session() {
    let (mut bob, mut eve) = (Peer::new(2).await, Peer::new(3).await);
    let entry = eve.seal(&[bob.address()], SECRET).await;
    assert_eq!(bob.read(&entry).await.as_deref(), Some(UNREADABLE_TEXT));
    let keys = eve.keys();
    bob.take(&keys).await;
    let entry = eve.seal(&[bob.address()], "now it is published").await;
    assert_eq!(bob.read(&entry).await.as_deref(), Some("now it is published"));
}

#[tokio::test]
async fn who_claims_anothers_identity_key_gains_nothing() {
    let (mut ann, mut bob, mut eve) = (Peer::new(1).await, Peer::new(2).await, Peer::new(3).await);
    let keys = introduce(&mut [&mut ann, &mut bob]).await;
    for keys in &keys {
        eve.take(keys).await;
    }
    let DmKeys { identity, fallback } = ann.desk.store.dm_keys();
    let claim = eve.author.write(Body::Control(Control::Keys { identity, fallback }));
    bob.take(&claim).await;
    let entry = ann.seal(&[bob.address()], SECRET).await;
    let copied = eve.author.write(sealed(boxes(&entry)));
    assert_eq!(bob.read(&copied).await.as_deref(), Some(UNREADABLE_TEXT));
    assert_eq!(bob.read(&entry).await.as_deref(), Some(SECRET));
    // What is sealed for Eve with the claimed keys is closed to Eve, and Ann does not look at it.
    let entry = bob.seal(&[(eve.id(), ann.desk.store.dm_keys())], SECRET).await;
    eve.take(&claim).await;
    assert_eq!(eve.take(&entry).await[0].text, UNREADABLE_TEXT);
    assert_eq!(ann.take(&entry).await, []);
}

#[tokio::test]
async fn changed_recipients_and_other_rooms_are_noticed() {
    let (mut ann, mut bob, mut cid) = (Peer::new(1).await, Peer::new(2).await, Peer::new(3).await);
    introduce(&mut [&mut ann, &mut bob, &mut cid]).await;
    // Ann tells Bob something and pretends that Cid heard it too.
    let body = ann.desk.store.seal(vec![bob.address()], SECRET.into()).await.expect("seals");
    let MessageBody::Sealed(mut forged) = body else { panic!("a sealed message") };
    forged.push(SealedBox { to: cid.id(), kind: 1, ciphertext: vec![1, 2, 3] });
    let entry = ann.author.write(sealed(forged));
    for peer in [&mut bob, &mut cid] {
        assert_eq!(peer.read(&entry).await.as_deref(), Some(UNREADABLE_TEXT));
    }

    let elsewhere = Home::new(ann.id());
    let desk = elsewhere.open();
    let room = Room { id: RoomId::from_bytes([8; 32]), name: "elsewhere".into(), open: false };
    desk.store.begin(room, Vec::new()).await.expect("begins");
    ann.desk = desk;
    let keys = ann.keys();
    bob.take(&keys).await;
    let entry = ann.seal(&[bob.address()], SECRET).await;
    assert_eq!(bob.read(&entry).await.as_deref(), Some(UNREADABLE_TEXT));
}

#[tokio::test]
async fn an_entry_full_of_garbage_costs_little_and_breaks_nothing() {
    let (mut ann, mut bob) = (Peer::new(1).await, Peer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    let hello = ann.seal(&[bob.address()], "hello").await;
    bob.read(&hello).await.expect("reads");
    let body = ann.desk.store.seal(vec![bob.address()], SECRET.into()).await.expect("seals");
    let MessageBody::Sealed(mut boxes) = body else { panic!("a sealed message") };
    let genuine = boxes.remove(0);
    let spoilt = |n: usize| {
        let mut spoilt = genuine.clone();
        let at = n % spoilt.ciphertext.len();
        spoilt.ciphertext[at] ^= 1;
        MessageBody::Sealed(vec![spoilt])
    };
    let entry = ann.author.write(Body::Messages((0..100).map(spoilt).collect()));
    let rows = bob.take(&entry).await;
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().all(|row| row.text == UNREADABLE_TEXT));
    let entry = ann.author.write(sealed(vec![genuine]));
    assert_eq!(bob.read(&entry).await.as_deref(), Some(SECRET), "the genuine one is still read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_box_crashes_or_is_read(kinds in prop::collection::vec((0..4u8, prop::collection::vec(any::<u8>(), 0..200)), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut ann, mut bob) = (Peer::new(1).await, Peer::new(2).await);
            introduce(&mut [&mut ann, &mut bob]).await;
            let to: PeerId = bob.id();
            let messages = kinds.into_iter().map(|(kind, ciphertext)| MessageBody::Sealed(vec![SealedBox { to, kind, ciphertext }]));
            let entry = ann.author.write(Body::Messages(messages.collect()));
            let rows = bob.take(&entry).await;
            assert_eq!(rows.len(), entry.messages().len());
            assert!(rows.iter().all(|row| row.text == UNREADABLE_TEXT));
            let entry = ann.seal(&[bob.address()], "still fine").await;
            assert_eq!(bob.read(&entry).await.as_deref(), Some("still fine"));
        });
    }
}
