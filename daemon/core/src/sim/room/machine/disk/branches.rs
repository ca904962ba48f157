//! Forks on a disk: what lies beyond one is filed in a branch, as the store does.

use std::sync::Arc;

use chat_proto::id::EntryHash;

use crate::log::entry::{Entry, LogId, SignedEntry};
use crate::sim::room::machine::disk::HeldData;

impl HeldData {
    /// The log in which an entry is filed.
    pub(super) fn log_of(&self, hash: &EntryHash) -> Option<LogId> {
        self.logs.values().flatten().find(|entry| entry.hash() == *hash).map(|entry| entry.log())
    }

    /// Files what lies beyond a fork in the branch that begins with the first of it.
    pub(super) fn file_branches(&mut self, (one, _): &(SignedEntry, SignedEntry)) {
        let proof = Entry::from_trusted(one.clone()).expect("a proof was verified");
        let place = |entry: &Entry| (entry.header().log, entry.seq(), entry.header().backlink);
        let Some(first) = self.logs.values().flatten().find(|entry| place(entry) == place(&proof)) else { return };
        let (from, branch) = (first.log(), LogId::branch(first.author(), &first.hash()));
        if from == branch {
            return;
        }
        let entries = self.logs.get_mut(&from).expect("it is there");
        let at = entries.iter().position(|entry| entry.seq() == proof.seq()).expect("it is there");
        let moved = entries.split_off(at);
        if entries.is_empty() {
            self.logs.remove(&from);
        }
        let filed = moved.into_iter().map(|entry| Arc::new(entry.as_ref().clone().filed_in(branch)));
        assert!(self.logs.insert(branch, filed.collect()).is_none(), "a branch begins once");
        self.clocks.retain(|(log, seq, _)| *log != from || *seq < proof.seq());
        let beyond = |signed: &SignedEntry| Entry::from_trusted(signed.clone()).is_ok_and(|e| e.seq() >= proof.seq());
        for (log, signed, _) in self.controls.iter_mut().filter(|(log, ..)| *log == from) {
            if beyond(signed) {
                *log = branch;
            }
        }
        for mut place in std::mem::take(&mut self.rotten) {
            if place.log == from && place.seq >= proof.seq() {
                place.log = branch;
            }
            self.rotten.insert(place);
        }
        for (mut position, message) in std::mem::take(&mut self.messages) {
            if position.2 == from && position.3 >= proof.seq() {
                position.2 = branch;
            }
            self.messages.insert(position, message);
        }
    }
}
