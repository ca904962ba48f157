//! Clients of a machine's local API: a reader of the event stream, and sends that are repeated until they are answered.
//!
//! Both outlive the daemon. The reader resumes at its cursor, a position and the process that wrote the event there; where the
//! database has no such event any more there is a gap, and the reader begins anew. A send carries an idempotency key: its
//! client repeats it after a crash or an unknown outcome, and the store answers with the message that is there already.

use std::collections::{BTreeMap, BTreeSet};

use chat_proto::id::MessageId;

use crate::input::CommandId;
use crate::sim::room::machine::disk::{HeldData, SendKey};

/// The clients of one machine.
#[derive(Debug, Default)]
pub(in crate::sim::room) struct Clients {
    /// The position of the newest event that the reader has, from 1, and the process that wrote it.
    cursor: Option<(usize, u32)>,
    read: BTreeSet<MessageId>,
    /// Sends without an answer so far, and the command that carries each of them at the moment.
    pub(in crate::sim::room) open: BTreeMap<SendKey, Option<CommandId>>,
}

impl Clients {
    /// Reads the events after the cursor.
    ///
    /// # Panics
    /// When an event comes twice without a gap in between.
    pub(in crate::sim::room) fn read(&mut self, held: &HeldData) {
        let at = match self.cursor {
            Some((at, run)) if held.runs.get(at - 1) == Some(&run) => at,
            Some(_) | None => {
                (self.cursor, self.read) = (None, BTreeSet::new());
                0
            }
        };
        for (index, (id, run)) in held.shown.iter().zip(&held.runs).enumerate().skip(at) {
            assert!(self.read.insert(*id), "{id} is streamed twice, at {index}");
            self.cursor = Some((index + 1, *run));
        }
    }

    /// A message that is shown and that the reader does not have.
    pub(in crate::sim::room) fn missed(&self, mut shown: impl Iterator<Item = MessageId>) -> Option<MessageId> {
        shown.find(|id| !self.read.contains(id))
    }

    /// Where the reader is, for the message of a failure.
    pub(in crate::sim::room) fn position(&self) -> String {
        format!("the reader is at {:?} with {} events", self.cursor, self.read.len())
    }

    /// The key of the send that a command carries.
    pub(in crate::sim::room) fn key_of(&self, command: CommandId) -> Option<SendKey> {
        self.open.iter().find(|(_, carrier)| **carrier == Some(command)).map(|(key, _)| *key)
    }

    /// The process is gone: all open sends must be repeated.
    pub(in crate::sim::room) fn hang_up(&mut self) {
        self.open.values_mut().for_each(|carrier| *carrier = None);
    }
}
