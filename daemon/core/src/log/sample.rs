//! An entry for the tests of this folder.

use chat_proto::id::{EntryHash, PeerId, RoomId};
use ed25519_dalek::SigningKey;

use crate::log::entry::{Body, Dep, Entry, Header, Hlc, Incarnation, LogId, MessageBody, Seq};

/// An entry in the middle of a log, with one message.
pub(crate) fn entry(seq: u64, text: &str) -> Entry {
    entry_of(1, seq, text, Vec::new())
}

/// The same of one of several authors, with what it depends on.
pub(crate) fn entry_of(author: u8, seq: u64, text: &str, deps: Vec<Dep>) -> Entry {
    let key = SigningKey::from_bytes(&[author; 32]);
    let author = PeerId::from_bytes(key.verifying_key().to_bytes());
    let header = Header {
        version: 1,
        room: RoomId::from_bytes([2; 32]),
        log: LogId { author, incarnation: Incarnation(1) },
        seq: Seq(seq),
        backlink: Some(EntryHash::from_bytes([3; 32])),
        time: Hlc(seq),
        deps,
        body_hash: [0; 32],
        body_bytes: 0,
    };
    Entry::sign(header, Body::Messages(vec![MessageBody::Text(text.to_owned())]), &key).expect("within bounds")
}
