//! Tests of signing, verification and bounds.

use super::*;
use proptest::prelude::*;

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn header(key: &SigningKey, room: RoomId) -> Header {
    Header {
        version: VERSION,
        room,
        log: LogId { author: PeerId::from_bytes(key.verifying_key().to_bytes()), incarnation: Incarnation(7) },
        seq: Seq(1),
        backlink: None,
        time: Hlc::from_wall(Timestamp::from_ms(1_790_000_000_000)),
        deps: Vec::new(),
        body_hash: [0; 32],
        body_bytes: 0,
    }
}

fn text(text: &str) -> Body {
    Body::Messages(vec![MessageBody::Text(text.into())])
}

const ROOM: RoomId = RoomId::from_bytes([9; 32]);

#[test]
fn what_was_signed_verifies_and_nothing_else_does() {
    let entry = Entry::sign(header(&key(1), ROOM), text("hello"), &key(1)).expect("signs");
    assert_eq!(Entry::verify(entry.signed().clone(), &ROOM), Ok(entry.clone()));

    let other = RoomId::from_bytes([8; 32]);
    assert_eq!(Entry::verify(entry.signed().clone(), &other), Err(EntryError::OtherRoom));

    let mut forged = entry.signed().clone();
    forged.body = Some(postcard::to_stdvec(&text("hullo")).expect("encodes"));
    assert_eq!(Entry::verify(forged, &ROOM), Err(EntryError::BodyHash));

    let stranger = Entry::sign(header(&key(1), ROOM), text("hello"), &key(2)).expect("signs");
    assert_eq!(Entry::verify(stranger.signed().clone(), &ROOM), Err(EntryError::Signature));
}

#[test]
fn a_body_can_be_dropped_and_the_entry_still_verifies() {
    let entry = Entry::sign(header(&key(1), ROOM), text("hello"), &key(1)).expect("signs");
    let mut dropped = entry.signed().clone();
    dropped.body = None;
    let bare = Entry::verify(dropped, &ROOM).expect("verifies without its body");
    assert_eq!(bare.hash(), entry.hash());
    assert_eq!(bare.body(), None);
}

/// Signs a header that is marked as one of messages over a body of any kind.
fn sign_marked(mut header: Header, body: &Body, key: &SigningKey) -> SignedEntry {
    let body = postcard::to_stdvec(body).expect("encodes");
    header.body_hash = *blake3::hash(&body).as_bytes();
    header.body_bytes = u32::try_from(body.len()).expect("short");
    let mut raw = postcard::to_stdvec(&header).expect("encodes");
    mark_messages(&mut raw);
    let signature = signature::sign(key, SIGN_CONTEXT, &raw);
    SignedEntry { header: raw, signature, body: Some(body) }
}

#[test]
fn a_header_alone_says_whether_it_is_one_of_messages() {
    for length in [1, 100, 127, 128, 300, 16 * 1024] {
        let entry = Entry::sign(header(&key(1), ROOM), text(&"x".repeat(length)), &key(1)).expect("signs");
        assert!(entry.is_of_messages() && entry.clone().without_body().is_of_messages(), "{length}");
        let (read, rest): (Header, _) = postcard::take_from_bytes(&entry.signed().header).expect("decodes");
        assert_eq!((&read, rest.len()), (entry.header(), 0), "every version reads the same header");
    }
    let control = Entry::sign(header(&key(1), ROOM), Body::Control(Control::Leave), &key(1)).expect("signs");
    assert!(!control.is_of_messages());
    // Version 0.1 wrote headers of messages without the mark.
    let marked = Entry::sign(header(&key(1), ROOM), text("hello"), &key(1)).expect("signs");
    let raw = postcard::to_stdvec(marked.header()).expect("encodes");
    let signature = signature::sign(&key(1), SIGN_CONTEXT, &raw);
    let old = SignedEntry { header: raw, signature, body: marked.signed().body.clone() };
    let old = Entry::verify(old, &ROOM).expect("still valid");
    assert!(!old.is_of_messages() && old.messages().len() == 1);
}

#[test]
fn a_control_item_under_a_header_of_messages_has_no_effect() {
    let marked = sign_marked(header(&key(1), ROOM), &Body::Control(Control::Leave), &key(1));
    let entry = Entry::verify(marked, &ROOM).expect("the log goes on");
    assert!(entry.is_of_messages() && !entry.lacks_body());
    assert_eq!((entry.body(), entry.control(), entry.messages().len()), (None, None, 0));
    let control = Control::Genesis { room_name: "lab".into(), open: false, name: "ann".into(), nonce: [1; 16] };
    let genesis = sign_marked(header(&key(1), RoomId::from_bytes([0; 32])), &Body::Control(control), &key(1));
    let room = RoomId::from_bytes(*hash_header(&genesis.header).as_bytes());
    assert_eq!(Entry::verify(genesis, &room), Err(EntryError::OutOfBounds));
}

#[test]
fn genesis_is_named_by_its_own_hash() {
    let control = Control::Genesis { room_name: "lab".into(), open: false, name: "ann".into(), nonce: [1; 16] };
    let zero = RoomId::from_bytes([0; 32]);
    let genesis = Entry::sign(header(&key(1), zero), Body::Control(control), &key(1)).expect("signs");
    let room = RoomId::from_bytes(*genesis.hash().as_bytes());
    assert!(Entry::verify(genesis.signed().clone(), &room).is_ok());
    assert_eq!(Entry::verify(genesis.signed().clone(), &ROOM), Err(EntryError::OtherRoom));
    assert_eq!(Entry::sign(header(&key(1), zero), text("no"), &key(1)), Err(EntryError::OutOfBounds));
}

#[test]
fn weak_keys_are_refused() {
    let mut weak = header(&key(1), ROOM);
    weak.log.author = PeerId::from_bytes({
        let mut identity = [0; 32];
        identity[0] = 1;
        identity
    });
    let entry = Entry::sign(weak, text("hello"), &key(1)).expect("signs");
    assert_eq!(Entry::verify(entry.signed().clone(), &ROOM), Err(EntryError::Signature));
}

#[test]
fn place_and_backlink_must_agree() {
    let mut second = header(&key(1), ROOM);
    second.seq = Seq(2);
    let entry = Entry::sign(second, text("hello"), &key(1)).expect("signs");
    assert_eq!(Entry::verify(entry.signed().clone(), &ROOM), Err(EntryError::Chain));
}

#[test]
fn order_time_follows_label_carried_order_and_log() {
    let at = |ms| Hlc::from_wall(Timestamp::from_ms(ms));
    let mut entry = header(&key(1), ROOM);
    entry.time = at(1000);
    assert_eq!(entry.order_after(None), at(1000));
    assert_eq!(entry.order_after(Some(at(2000))), at(2000).next(), "a log never runs back");
    entry.deps.push(Dep::order(entry.log.author, at(3000)));
    assert_eq!(entry.order_after(Some(at(2000))), at(3000));
    entry.time = at(4000);
    assert_eq!(entry.order_after(None), at(4000), "nor is an entry ordered before its date");
    entry.time = Hlc(u64::MAX);
    assert!(entry.order_after(None) < Hlc(u64::MAX / 2 + 2), "no date uses up the times");
}

proptest! {
    #[test]
    fn bytes_from_outside_never_panic(header: Vec<u8>, body: Option<Vec<u8>>) {
        let signature = SignatureBytes::from_bytes(&[3; 64]);
        let forged = SignedEntry { header, signature, body };
        prop_assert!(Entry::verify(forged, &ROOM).is_err());
    }

    #[test]
    fn one_flipped_bit_is_noticed(at in 0..4096usize, bit in 0..8u8) {
        let entry = Entry::sign(header(&key(1), ROOM), text("hello"), &key(1)).expect("signs");
        let mut raw = postcard::to_stdvec(entry.signed()).expect("encodes");
        let at = at % raw.len();
        raw[at] ^= 1 << bit;
        if let Ok((signed, [])) = postcard::take_from_bytes::<SignedEntry>(&raw)
            && let Ok(read) = Entry::verify(signed, &ROOM)
        {
            prop_assert_eq!(read.hash(), entry.hash());
            prop_assert!(read.body().is_none(), "only the body may be dropped");
        }
    }
}

#[test]
fn messages_of_an_entry_carry_what_they_answer_in_a_form_that_every_build_reads() {
    let answered = |number, index| MessageId { entry: EntryHash::from_bytes([number; 32]), index };
    let mut carrying = header(&key(1), ROOM);
    let me = carrying.log.author;
    let order = carrying.time.next().next();
    carrying.deps = vec![Dep::order(me, order), Dep::reply(1, answered(5, 1023)), Dep::reply(300, answered(6, 0))];
    let body = Body::Messages(vec![MessageBody::Text("x".into()); 400]);
    let entry = Entry::sign(carrying.clone(), body, &key(1)).expect("signs");
    let entry = Entry::verify(entry.signed().clone(), &ROOM).expect("verifies");
    let found: Vec<Option<MessageId>> = [0, 1, 299, 300].map(|index| entry.reply_to(index)).to_vec();
    assert_eq!(found, [None, Some(answered(5, 1023)), None, Some(answered(6, 0))]);
    assert_eq!(entry.header().order_after(None), order);
    // Earlier builds take the first of the carriers for the order time, whatever it carries: before every label.
    for dep in &carrying.deps[1..] {
        assert_eq!(dep.seq, Seq::ZERO);
        assert!(Hlc(dep.log.incarnation.0) < carrying.time);
    }
    carrying.deps.remove(0);
    assert_eq!(carrying.order_after(None), carrying.time);
}

/// Version 0.1 reads such a body as the same keys; only the number before them has a byte more than it needs.
#[test]
fn published_keys_say_that_padded_messages_are_read() {
    let keys = Body::Control(Control::Keys { identity: [1; 32], fallback: [2; 32] });
    let raw = kind::encode_body(&keys).expect("encodes");
    assert_eq!(postcard::from_bytes::<Body>(&raw), Ok(keys.clone()));
    let plain = postcard::to_stdvec(&keys).expect("encodes");
    assert_eq!((raw.len(), &raw[3..]), (plain.len() + 1, &plain[2..]));
}
