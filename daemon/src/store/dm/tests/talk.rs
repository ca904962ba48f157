//! Ordinary conversations: sender and recipients read, no other peer does, in any order of arrival.

use chat_core::log::entry::{Body, Entry, Incarnation, MessageBody, Seq};
use chat_core::membership::roster::Sealing;
use chat_core::output::Changes;
use chat_proto::RECIPIENTS_MAX;
use chat_proto::id::MessageId;

use super::{DmPeer, introduce, kinds};
use crate::store::error::SealError;
use crate::store::tables::models::{DmKeys, HistoryFilter, RepliedMessage, UNREADABLE_TEXT};
use crate::store::tests::fixture::{StoreHome, TestAuthor};

const SECRET: &str = "meet at the old lighthouse";

#[tokio::test]
async fn direct_message_is_readable_only_by_its_ends() {
    let (mut ann, mut bob, mut eve) = (DmPeer::new(1).await, DmPeer::new(2).await, DmPeer::new(3).await);
    introduce(&mut [&mut ann, &mut bob, &mut eve]).await;
    let entry = ann.seal(&[bob.address()], SECRET).await;
    for (peer, reads) in [(&mut ann, true), (&mut bob, true), (&mut eve, false)] {
        let rows = peer.take(&entry).await;
        assert_eq!(rows.iter().any(|row| row.text == SECRET), reads);
        assert_eq!(rows.len(), usize::from(reads), "other members have no row");
        let events = peer.opened.store.events_after(0, 9).await.expect("reads").events;
        assert_eq!(events.len(), usize::from(reads));
        assert!(peer.opened.store.history(search("lighthouse")).await.is_ok());
    }
    assert!(ann.holds(SECRET) && bob.holds(SECRET), "the search would find it");
    assert!(!eve.holds(SECRET) && !eve.holds("lighthouse"));
    eve.opened.store.close().await;
    assert!(!eve.holds(SECRET) && !eve.holds("lighthouse"));
    let found = bob.opened.store.history(search("lighthouse")).await.expect("reads").messages;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].log.author, found[0].to.as_slice()), (ann.id(), &[bob.id()][..]));
}

fn search(words: &str) -> HistoryFilter {
    HistoryFilter { limit: 9, words: Some(words.into()), ..HistoryFilter::default() }
}

#[tokio::test]
async fn conversation_continues_across_restarts() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    for round in 0..12 {
        let text = format!("question {round}");
        let entry = ann.seal(&[bob.address()], &text).await;
        assert_eq!(kinds(&entry), [u8::from(round > 0)]);
        assert_eq!(ann.read(&entry).await.as_deref(), Some(text.as_str()));
        assert_eq!(bob.read(&entry).await.as_deref(), Some(text.as_str()));
        if round % 4 == 1 {
            ann.restart().await;
            bob.restart().await;
        }
        let text = format!("answer {round}");
        let entry = bob.seal(&[ann.address()], &text).await;
        assert_eq!(kinds(&entry), [1]);
        assert_eq!(bob.read(&entry).await.as_deref(), Some(text.as_str()));
        assert_eq!(ann.read(&entry).await.as_deref(), Some(text.as_str()));
    }
    let with = HistoryFilter { limit: 100, with: Some(bob.id()), ..HistoryFilter::default() };
    assert_eq!(ann.opened.store.history(with.clone()).await.expect("reads").messages.len(), 24);
    let nobody = HistoryFilter { with: Some(TestAuthor::new(9).id()), ..with };
    assert_eq!(ann.opened.store.history(nobody).await.expect("reads").messages.len(), 0);
}

#[tokio::test]
async fn both_ends_may_open_a_session_at_once() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    for round in 0..4 {
        // Neither has received what the other has sent.
        let mut from_ann = Vec::new();
        let mut from_bob = Vec::new();
        for n in 0..3 {
            from_ann.push(ann.seal(&[bob.address()], &format!("ann {round}.{n}")).await);
            from_bob.push(bob.seal(&[ann.address()], &format!("bob {round}.{n}")).await);
        }
        for n in 0..3 {
            assert_eq!(bob.read(&from_ann[n]).await, Some(format!("ann {round}.{n}")));
            assert_eq!(ann.read(&from_bob[n]).await, Some(format!("bob {round}.{n}")));
            assert_eq!(ann.read(&from_ann[n]).await, Some(format!("ann {round}.{n}")));
            assert_eq!(bob.read(&from_bob[n]).await, Some(format!("bob {round}.{n}")));
        }
        assert_eq!(kinds(&from_ann[0]), [u8::from(round > 0)]);
    }
}

#[tokio::test]
async fn every_recipient_reads_and_sees_the_recipients() {
    let (mut ann, mut bob, mut cid, mut eve) =
        (DmPeer::new(1).await, DmPeer::new(2).await, DmPeer::new(3).await, DmPeer::new(4).await);
    introduce(&mut [&mut ann, &mut bob, &mut cid, &mut eve]).await;
    let to = [bob.address(), cid.address(), bob.address(), ann.address()];
    let entry = ann.seal(&to, SECRET).await;
    for peer in [&mut bob, &mut cid, &mut ann] {
        let rows = peer.take(&entry).await;
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].text.as_str(), rows[0].to.clone()), (SECRET, vec![to[0].0, to[1].0]));
    }
    assert_eq!(eve.take(&entry).await, []);
    assert!(!eve.holds(SECRET));
    let reply = cid.seal(&[ann.address(), bob.address()], "agreed").await;
    assert_eq!(kinds(&reply), [1, 0], "there is a session with only one of them");
    for peer in [&mut ann, &mut bob, &mut cid] {
        assert_eq!(peer.read(&reply).await.as_deref(), Some("agreed"));
    }
}

#[tokio::test]
async fn messages_of_one_entry_and_late_logs_are_read() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    let mut bodies = Vec::new();
    for n in 0..30 {
        let text = format!("part {n}");
        bodies.push(ann.opened.store.seal(vec![bob.address()], text, None).await.expect("seals"));
        bodies.push(MessageBody::Text(format!("public {n}")));
    }
    // Sealed, and the post was refused: a message key that is never used.
    ann.opened.store.seal(vec![bob.address()], "never posted".into(), None).await.expect("seals");
    let entry = ann.author.write(Body::Messages(bodies));
    for peer in [&mut ann, &mut bob] {
        let rows = peer.take(&entry).await;
        assert_eq!(rows.len(), 60);
        assert_eq!((rows[58].text.as_str(), rows[59].text.as_str()), ("part 29", "public 29"));
    }

    // The author continues under another incarnation; its two logs arrive in the other order.
    let first = ann.seal(&[bob.address()], "under the first").await;
    ann.opened.change(Changes { incarnation: Some(Incarnation(1000)), ..Changes::default() }).await;
    ann.author = TestAuthor::with(1, Incarnation(1000));
    let second = ann.seal(&[bob.address()], "under the second").await;
    assert_eq!(kinds(&second), [0], "sessions are retired with the incarnation");
    assert_eq!(bob.read(&second).await.as_deref(), Some("under the second"));
    assert_eq!(bob.read(&first).await.as_deref(), Some("under the first"));
}

#[tokio::test]
async fn sealed_text_waits_for_its_entry_across_a_restart() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    let entry = ann.seal(&[bob.address()], SECRET).await;
    ann.restart().await;
    assert_eq!(ann.read(&entry).await.as_deref(), Some(SECRET));
    assert_eq!(bob.read(&entry).await.as_deref(), Some(SECRET));
    let again = ann.author.write(Body::Messages(entry.messages().to_vec()));
    assert_eq!(ann.read(&again).await.as_deref(), Some(UNREADABLE_TEXT), "a sealed message is posted once");
    assert_eq!(bob.read(&again).await.as_deref(), Some(UNREADABLE_TEXT));
}

#[tokio::test]
async fn message_after_a_cut_is_decrypted_when_the_cut_is_lifted() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    let hidden = ann.seal(&[bob.address()], SECRET).await;
    bob.take_hidden(&hidden).await;
    assert_eq!(bob.rows(&hidden).await, []);
    assert!(!bob.holds(SECRET));
    // Indexed with the text it has now; found with the text it gets later.
    assert_eq!(bob.opened.store.history(search("lighthouse")).await.expect("reads").messages, []);
    bob.opened.cut(ann.author.log, Seq(u64::MAX)).await;
    bob.opened.flush().await;
    let rows = bob.rows(&hidden).await;
    assert_eq!(rows.first().map(|row| row.text.as_str()), Some(SECRET));
    assert_eq!(bob.opened.store.history(search("lighthouse")).await.expect("reads").messages, rows);
    assert_eq!(bob.opened.store.history(search("opened")).await.expect("reads").messages, []);
}

#[tokio::test]
async fn invalid_request_is_refused_and_changes_nothing() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    let (me, other) = (ann.address(), bob.address());
    let many = |n: usize| (0..n).map(|n| (TestAuthor::new(100 + n as u8).id(), other.1)).collect::<Vec<_>>();
    let store = &ann.opened.store;
    for to in [Vec::new(), vec![me], many(RECIPIENTS_MAX + 1)] {
        assert!(matches!(store.seal(to, "x".into(), None).await, Err(SealError::Recipients)));
    }
    for text in ["", " \n", &"x".repeat(16 * 1024 + 1)] {
        assert!(matches!(store.seal(vec![other], text.into(), None).await, Err(SealError::Text(_))));
    }
    assert!(matches!(store.seal(many(5), "x".repeat(16 * 1024), None).await, Err(SealError::TooLong)));
    assert!(store.seal(many(RECIPIENTS_MAX), "x".repeat(1024), None).await.is_ok());
    let zero = DmKeys { identity: [0; 32], fallback: [0; 32], sealing: Sealing::Padded };
    let refused = store.seal(vec![other, (TestAuthor::new(7).id(), zero)], "x".into(), None).await;
    assert!(matches!(refused, Err(SealError::BadKeys(peer)) if peer == TestAuthor::new(7).id()), "{refused:?}");

    let homeless = StoreHome::new(me.0).open();
    assert!(matches!(homeless.store.seal(vec![other], "x".into(), None).await, Err(SealError::NoRoom)));
    let entry = ann.seal(&[other], "fine").await;
    assert_eq!(bob.read(&entry).await.as_deref(), Some("fine"));
}

#[tokio::test]
async fn answer_is_read_with_what_it_answers_and_no_one_else_learns_it() {
    let (mut ann, mut bob, mut eve) = (DmPeer::new(1).await, DmPeer::new(2).await, DmPeer::new(3).await);
    introduce(&mut [&mut ann, &mut bob, &mut eve]).await;
    let asked = ann.seal(&[bob.address()], SECRET).await;
    for peer in [&mut ann, &mut bob, &mut eve] {
        peer.take(&asked).await;
    }
    let id = MessageId { entry: asked.hash(), index: 0 };
    let answer = bob.answer(&[ann.address()], "yes", Some(id)).await;
    assert_eq!(answer.reply_to(0), None);
    let hash = asked.hash();
    let raw = [&answer.signed().header[..], answer.signed().body.as_deref().expect("whole")].concat();
    assert!(!raw.windows(8).any(|window| window == &hash.as_bytes()[..8]), "it is sealed, too");
    let start = Some((asked.author(), SECRET.to_owned()));
    for peer in [&mut ann, &mut bob] {
        let row = peer.take(&answer).await.remove(0);
        assert_eq!(
            (row.text.as_str(), row.reply_to),
            ("yes", Some(Box::new(RepliedMessage { id, start: start.clone() })))
        );
    }
    assert_eq!(eve.take(&answer).await, []);
    // An answer that came while its author was out is read with what it answers once that is undone.
    let late = bob.answer(&[ann.address()], "late", Some(id)).await;
    ann.take_hidden(&late).await;
    ann.opened.cut(bob.author.log, Seq(u64::MAX)).await;
    ann.opened.flush().await;
    assert_eq!(ann.rows(&late).await[0].reply_to, Some(Box::new(RepliedMessage { id, start })));
}

/// First byte and length of the ciphertext of each box. Of a message that continues a session, the first byte is the version.
fn ciphertexts(entry: &Entry) -> Vec<(u8, usize)> {
    match entry.messages().first() {
        Some(MessageBody::Sealed(boxes)) => {
            boxes.iter().map(|sealed| (sealed.ciphertext[0], sealed.ciphertext.len())).collect()
        }
        Some(MessageBody::Text(_)) | None => Vec::new(),
    }
}

#[tokio::test]
async fn message_in_a_mixed_room_is_sealed_for_each_as_it_reads_it() {
    let (mut ann, mut bob, mut carol) = (DmPeer::new(1).await, DmPeer::new(2).await, DmPeer::new(3).await);
    introduce(&mut [&mut ann, &mut bob, &mut carol]).await;
    let mut lengths = Vec::new();
    for text in ["open", "yes", &"y".repeat(100)] {
        let entry = ann.seal(&[bob.old_address(), carol.address()], text).await;
        assert_eq!(ann.read(&entry).await.as_deref(), Some(text));
        assert_eq!(bob.read(&entry).await.as_deref(), Some(text));
        assert_eq!(carol.read(&entry).await.as_deref(), Some(text));
        for (me, other) in [(&mut bob, ann.old_address()), (&mut carol, ann.address())] {
            let answer = me.seal(&[other], "got it").await;
            assert_eq!(ann.read(&answer).await.as_deref(), Some("got it"));
        }
        lengths.push(ciphertexts(&entry));
    }
    let (short, long) = (&lengths[1], &lengths[2]);
    assert_eq!((short[0].0, short[1].0), (3, 4), "the second has a whole MAC");
    assert!(short[0].1 < long[0].1, "version 0.1 has no padding");
    assert_eq!(short[1].1, long[1].1, "the length does not show");
}

#[tokio::test]
async fn member_that_updates_gets_a_new_session_and_reads_what_comes_in_the_old_one() {
    let (mut ann, mut bob) = (DmPeer::new(1).await, DmPeer::new(2).await);
    introduce(&mut [&mut ann, &mut bob]).await;
    let first = ann.seal(&[bob.old_address()], "old").await;
    let answer_to = ann.old_address();
    assert_eq!(bob.read(&first).await.as_deref(), Some("old"));
    let late = bob.seal(&[answer_to], "in the old session").await;
    let entry = ann.seal(&[bob.address()], "new").await;
    assert_eq!(kinds(&entry), [0], "a session of the new kind");
    assert_eq!(bob.read(&entry).await.as_deref(), Some("new"));
    assert_eq!(ann.read(&late).await.as_deref(), Some("in the old session"));
    let answer = bob.seal(&[ann.address()], "in the new session").await;
    assert_eq!((kinds(&answer), ciphertexts(&answer)[0].0), (vec![1], 4));
    assert_eq!(ann.read(&answer).await.as_deref(), Some("in the new session"));
}
