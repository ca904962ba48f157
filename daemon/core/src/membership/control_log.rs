//! The control entries of the room in the order that all peers agree on.

use std::collections::BTreeMap;

use chat_proto::id::{PeerId, RoomId};

use crate::admission::codec::ticket_holds;
use crate::log::entry::{AdmitBy, Control, Dep, Entry, Hlc, LogId, Seq};

/// Position of an entry in the shared order: order time first, so causes come before effects; the rest breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) order: Hlc,
    /// The entry's date.
    pub(crate) label: Hlc,
    pub(crate) log: LogId,
    pub(crate) seq: Seq,
}

/// A control entry.
#[derive(Clone, Debug)]
pub(crate) struct ControlItem {
    pub(crate) author: PeerId,
    pub(crate) control: Control,
}

/// All control entries that are held. None is dropped because another makes it obsolete: a cut or the proof of a fork
/// may take the newer one away again, and then all peers must go back to the same older one.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControlLog {
    in_order: BTreeMap<Position, ControlItem>,
}

impl ControlLog {
    /// Whether the entry at this place was added.
    pub(crate) fn holds(&self, place: &Dep) -> bool {
        self.in_order.keys().any(|position| position.log == place.log && position.seq == place.seq)
    }

    /// Adds a control entry with its order time; returns whether the membership has to be derived anew.
    pub(crate) fn add(&mut self, entry: &Entry, order: Hlc, room: &RoomId) -> bool {
        let Some(control) = entry.control() else { return false };
        if let Control::Admit { peer, name, by: AdmitBy::Invite { key, signature } } = control
            && !ticket_holds(key, room, peer, name, *signature)
        {
            return false;
        }
        let position = Position { order, label: entry.header().time, log: entry.log(), seq: entry.seq() };
        let item = ControlItem { author: entry.author(), control: control.clone() };
        self.in_order.insert(position, item);
        true
    }

    /// The same control log with one more item.
    #[cfg(test)]
    pub(crate) fn with(mut self, (position, item): (Position, ControlItem)) -> Self {
        self.in_order.insert(position, item);
        self
    }

    /// Every item, in the shared order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Position, &ControlItem)> {
        self.in_order.iter()
    }
}
