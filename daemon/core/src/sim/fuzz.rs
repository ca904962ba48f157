//! Bodies of the fuzz targets of this crate: plain functions over bytes. `cargo fuzz` calls them with inputs that it makes
//! (`tests/fuzz`), and a test with inputs that were kept (`tests/fixtures/fuzz`).
//!
//! A function returns, whatever it is given, and panics where something that must hold does not.

use std::time::Duration;

use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;

use crate::log::entry::{Body, Entry, EntryError, Header, SignedEntry};
use crate::log::signature::SignatureBytes;
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::sim::room::{Plan, run_chosen};
use crate::wire::Frame;
use crate::wire::extension::Extension;

/// A frame of a member: what can be read can be written, and is the same when it is read again.
pub fn frame(data: &[u8]) {
    let Ok(frame) = Frame::decode(data) else { return };
    let raw = frame.encode().expect("what was read is within bounds");
    assert_eq!(Frame::decode(&raw).as_ref(), Ok(&frame));
    match frame {
        Frame::Entries(entries) | Frame::Chunk(entries) => {
            entries.into_iter().for_each(|signed| drop(Entry::from_trusted(signed)));
        }
        Frame::Fork(first, second) => [first, second].into_iter().for_each(|signed| drop(Entry::from_trusted(*signed))),
        Frame::Addrs(records) => records.iter().for_each(|record| {
            let _ = record.verify();
        }),
        Frame::Role(raw) => role_frame(&raw),
        Frame::Hello { .. }
        | Frame::Vector { .. }
        | Frame::Want { .. }
        | Frame::Held { .. }
        | Frame::Links(_)
        | Frame::Knock { .. }
        | Frame::Tree(_)
        | Frame::Ping(_)
        | Frame::Pong(_)
        | Frame::Bye
        | Frame::Digest { .. } => {}
    }
}

fn role_frame(raw: &[u8]) {
    if let Some(extension) = Extension::decode(raw) {
        let Frame::Role(again) = extension.to_frame() else { panic!("an extension is a frame of the role") };
        assert_eq!(Extension::decode(&again), Some(extension));
    }
    if let Ok(Some(frame)) = RoleFrame::decode(raw) {
        assert_eq!(RoleFrame::decode(&frame.encode()), Ok(Some(frame)));
    }
}

/// An entry, its header and body as they are given: with the hash that they have, with the right one, and signed.
pub fn entry(data: &[u8]) {
    let Some((&[low, high], rest)) = data.split_first_chunk() else { return };
    let (header, body) = rest.split_at(usize::from(u16::from_le_bytes([low, high])).min(rest.len()));
    let signature = SignatureBytes::from_bytes(&[7; 64]);
    let read = |header: &[u8], body: Option<&[u8]>| {
        Entry::from_trusted(SignedEntry { header: header.to_vec(), signature, body: body.map(<[u8]>::to_vec) })
    };
    let _ = read(header, None);
    let _ = read(header, Some(body));
    let Ok((mut header, [])) = postcard::take_from_bytes::<Header>(header) else { return };
    header.body_hash = *blake3::hash(body).as_bytes();
    header.body_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if let Ok(raw) = postcard::to_stdvec(&header) {
        let _ = read(&raw, Some(body));
    }
    if let Ok((body, [])) = postcard::take_from_bytes::<Body>(body) {
        signed_entry(header, body);
    }
}

/// What an author can sign, every other peer can read.
fn signed_entry(mut header: Header, body: Body) {
    let key = SigningKey::from_bytes(&[7; 32]);
    header.log.author = PeerId::from_bytes(key.verifying_key().to_bytes());
    let Ok(entry) = Entry::sign(header, body, &key) else { return };
    let room = if entry.is_genesis() { RoomId::from_bytes(*entry.hash().as_bytes()) } else { entry.header().room };
    match Entry::verify(entry.signed().clone(), &room) {
        Ok(read) => assert_eq!(read, entry),
        Err(EntryError::Chain) => {}
        Err(error) => panic!("{error}: {entry:?}"),
    }
}

/// A room with hostile members: the first two bytes choose the room, the others what the hostile members do in it, which ends
/// with the bytes. Everything that the simulation checks must hold.
pub fn room(data: &[u8]) {
    let Some((&[seed, kind], choices)) = data.split_first_chunk() else { return };
    let plan = Plan {
        busy: Duration::from_secs(5),
        open: kind & 1 > 0,
        hostile: 1 + usize::from(kind >> 1 & 1),
        trusts_hostile: kind & 4 > 0,
        ..Plan::calm(4)
    };
    run_chosen(u64::from(seed % 8), &plan, choices);
}

#[cfg(test)]
mod tests;
