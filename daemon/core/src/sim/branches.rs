//! Forks on a simulated disk: what lies beyond one is filed in a branch, as the store does.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::log::entry::{Entry, LogId, Seq, SignedEntry};
use crate::membership::authority::AuthorityClock;

/// Entries that were moved to a branch: those of a log, from a sequence number on.
pub(crate) struct Moved {
    pub(crate) from: LogId,
    pub(crate) since: Seq,
    pub(crate) branch: LogId,
}

/// Files what lies beyond the fork that an entry proves in the branch that begins with the first of it, and drops the clocks of
/// what was moved. `None` where nothing is to be moved.
pub(crate) fn file_branch(
    logs: &mut BTreeMap<LogId, Vec<Arc<Entry>>>,
    clocks: &mut Vec<(LogId, Seq, AuthorityClock)>,
    one: &SignedEntry,
) -> Option<Moved> {
    let proof = Entry::from_trusted(one.clone()).expect("a proof was verified");
    let place = |entry: &Entry| (entry.header().log, entry.seq(), entry.header().backlink);
    let first = logs.values().flatten().find(|entry| place(entry) == place(&proof))?;
    let (from, since, branch) = (first.log(), first.seq(), LogId::branch(first.author(), &first.hash()));
    if from == branch {
        return None;
    }
    let entries = logs.get_mut(&from).expect("it is there");
    let at = entries.iter().position(|entry| entry.seq() == since).expect("it is there");
    let moved = entries.split_off(at);
    if entries.is_empty() {
        logs.remove(&from);
    }
    let filed = moved.into_iter().map(|entry| Arc::new(entry.as_ref().clone().filed_in(branch)));
    assert!(logs.insert(branch, filed.collect()).is_none(), "a branch begins once");
    clocks.retain(|(log, seq, _)| *log != from || *seq < since);
    Some(Moved { from, since, branch })
}
