//! Forks on a disk: what lies beyond one is filed in a branch, as the store does.

use chat_proto::id::EntryHash;

use crate::log::entry::{Entry, LogId, SignedEntry};
use crate::sim::branches::{Moved, file_branch};
use crate::sim::room::machine::disk::HeldData;

impl HeldData {
    /// The log in which an entry is filed.
    pub(super) fn log_of(&self, hash: &EntryHash) -> Option<LogId> {
        self.logs.values().flatten().find(|entry| entry.hash() == *hash).map(|entry| entry.log())
    }

    /// Files what lies beyond a fork in the branch that begins with the first of it.
    pub(super) fn file_branches(&mut self, (one, _): &(SignedEntry, SignedEntry)) {
        let Some(Moved { from, since, branch }) = file_branch(&mut self.logs, &mut self.clocks, one) else { return };
        let beyond = |signed: &SignedEntry| Entry::from_trusted(signed.clone()).is_ok_and(|e| e.seq() >= since);
        for (log, signed, _) in self.controls.iter_mut().filter(|(log, ..)| *log == from) {
            if beyond(signed) {
                *log = branch;
            }
        }
        for mut place in std::mem::take(&mut self.rotten) {
            if place.log == from && place.seq >= since {
                place.log = branch;
            }
            self.rotten.insert(place);
        }
        for (mut position, message) in std::mem::take(&mut self.messages) {
            if position.2 == from && position.3 >= since {
                position.2 = branch;
            }
            self.messages.insert(position, message);
        }
    }
}
