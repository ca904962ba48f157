//! The control entries of the room in the order that all peers agree on.

use std::collections::BTreeMap;

use chat_proto::id::{EntryHash, PeerId, RoomId};

use crate::admission::ticket_holds;
use crate::log::entry::{AdmitBy, Control, Entry, Hlc, LogId, Seq};

/// Place of an entry in the shared order: time first, so causes come before effects; the rest breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) time: Hlc,
    pub(crate) log: LogId,
    pub(crate) seq: Seq,
}

/// A control entry.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) author: PeerId,
    pub(crate) control: Control,
    pub(crate) hash: EntryHash,
}

/// All control entries that are held, keys aside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    in_order: BTreeMap<Place, Fact>,
    renames: BTreeMap<PeerId, Place>,
    keys: BTreeMap<PeerId, (Place, PublishedKeys)>,
}

/// Curve25519 identity and fallback key.
pub(crate) type PublishedKeys = ([u8; 32], [u8; 32]);

impl Facts {
    /// Adds a control entry; says whether the membership has to be derived anew. Of renames and keys only the newest of
    /// each author is kept, so that neither grows with their number.
    pub(crate) fn add(&mut self, entry: &Entry, room: &RoomId) -> bool {
        let Some(control) = entry.control() else { return false };
        let place = Place { time: entry.header().time, log: entry.log(), seq: entry.seq() };
        let author = entry.author();
        match control {
            Control::Keys { identity, fallback } => {
                let newer = self.keys.get(&author).is_none_or(|(held, _)| *held < place);
                if newer {
                    self.keys.insert(author, (place, (*identity, *fallback)));
                }
                return newer;
            }
            Control::Rename { .. } => match self.renames.get(&author) {
                Some(held) if *held > place => return false,
                held => {
                    if let Some(held) = held {
                        self.in_order.remove(held);
                    }
                    self.renames.insert(author, place);
                }
            },
            Control::Admit { peer, name, by: AdmitBy::Invite { key, signature } } => {
                if !ticket_holds(key, room, peer, name, *signature) {
                    return false;
                }
            }
            Control::Genesis { .. }
            | Control::Invite { .. }
            | Control::Revoke { .. }
            | Control::Admit { by: AdmitBy::Member, .. }
            | Control::Remove { .. }
            | Control::Role { .. }
            | Control::Leave => {}
        }
        self.in_order.insert(place, Fact { author, control: control.clone(), hash: entry.hash() });
        true
    }

    /// Every fact, in the shared order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Place, &Fact)> {
        self.in_order.iter()
    }

    /// The newest keys of a peer.
    pub(crate) fn keys(&self, peer: &PeerId) -> Option<PublishedKeys> {
        self.keys.get(peer).map(|(_, keys)| *keys)
    }
}
