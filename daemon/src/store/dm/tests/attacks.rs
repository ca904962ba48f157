//! Attacks by members: copied boxes, claimed identity keys, other rooms, garbage.

use std::sync::Arc;

use chat_core::log::entry::{Body, Control, Entry, MessageBody, SealedBox};
use chat_proto::id::{PeerId, RoomId};
use proptest::prelude::*;

use super::{DmPeer, introduce};
use crate::store::tables::models::{DmKeys, RoomRecord, UNREADABLE_TEXT};
use crate::store::tests::fixture::StoreHome;

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
async fn copied_box_is_not_shown_as_the_copiers_message() {
    let (mut ann, mut bob, mut eve) = (DmPeer::new(1).await, DmPeer::new(2).await, DmPeer::new(3).await);
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
async fn unpublished_identity_key_opens_no_session() {
    let (mut bob, mut eve) = (DmPeer::new(2).await, DmPeer::new(3).await);
    let entry = eve.seal(&[bob.address()], SECRET).await;
    assert_eq!(bob.read(&entry).await.as_deref(), Some(UNREADABLE_TEXT));
    let keys = eve.keys();
    bob.take(&keys).await;
    let entry = eve.seal(&[bob.address()], "now it is published").await;
    assert_eq!(bob.read(&entry).await.as_deref(), Some("now it is published"));
}

#[tokio::test]
async fn peer_that_claims_anothers_identity_key_reads_nothing() {
    let (mut ann, mut bob, mut eve) = (DmPeer::new(1).await, DmPeer::new(2).await, DmPeer::new(3).await);
    let keys = introduce(&mut [&mut ann, &mut bob]).await;
    for keys in &keys {
        eve.take(keys).await;
    }
    let DmKeys { identity, fallback, .. } = ann.opened.store.dm_keys();
    let claim = eve.author.write(Body::Control(Control::Keys { identity, fallback }));
    bob.take(&claim).await;
    let entry = ann.seal(&[bob.address()], SECRET).await;
    let copied = eve.author.write(sealed(boxes(&entry)));
    assert_eq!(bob.read(&copied).await.as_deref(), Some(UNREADABLE_TEXT));
    assert_eq!(bob.read(&entry).await.as_deref(), Some(SECRET));
    // Eve cannot decrypt what is sealed for her with the claimed keys, and Ann has no row of it.
    let entry = bob.seal(&[(eve.id(), ann.opened.store.dm_keys())], SECRET).await;
    eve.take(&claim).await;
    assert_eq!(eve.take(&entry).await[0].text, UNREADABLE_TEXT);
    assert_eq!(ann.take(&entry).await, []);
}

#[tokio::test]
async fn changed_recipients_or_room_make_a_message_unreadable() {
    let (mut ann, mut bob, mut cid) = (DmPeer::new(1).await, DmPeer::new(2).await, DmPeer::new(3).await);
    introduce(&mut [&mut ann, &mut bob, &mut cid]).await;
    // Ann writes to Bob and pretends that Cid is a recipient too.
    let body = ann.opened.store.seal(vec![bob.address()], SECRET.into(), None).await.expect("seals");
    let MessageBody::Sealed(mut forged) = body else { panic!("a sealed message") };
    forged.push(SealedBox { to: cid.id(), kind: 1, ciphertext: vec![1, 2, 3] });
    let entry = ann.author.write(sealed(forged));
    for peer in [&mut bob, &mut cid] {
        assert_eq!(peer.read(&entry).await.as_deref(), Some(UNREADABLE_TEXT));
    }

    let elsewhere = StoreHome::new(ann.id());
    let opened = elsewhere.open();
    let room = RoomRecord { id: RoomId::from_bytes([8; 32]), name: "elsewhere".into(), open: false };
    opened.store.begin(room, Vec::new()).await.expect("begins");
    ann.opened = opened;
    let keys = ann.keys();
    bob.take(&keys).await;
    let entry = ann.seal(&[bob.address()], SECRET).await;
    assert_eq!(bob.read(&entry).await.as_deref(), Some(UNREADABLE_TEXT));
}

#[tokio::test]
async fn entry_full_of_garbage_costs_few_attempts_and_breaks_nothing() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    let hello = ann.seal(&[bob.address()], "hello").await;
    bob.read(&hello).await.expect("reads");
    let body = ann.opened.store.seal(vec![bob.address()], SECRET.into(), None).await.expect("seals");
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
            let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
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
