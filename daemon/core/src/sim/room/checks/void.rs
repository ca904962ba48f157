//! Which entries are void because a removal reaches them through those who admitted their author.

use chat_proto::id::PeerId;

use crate::log::entry::{AdmitBy, Control, Entry, LogId, Seq};
use crate::sim::room::machine::disk::HeldData;

/// Maximum number of admissions behind each other that are looked at.
const ADMISSIONS_MAX: u32 = 12;

/// Whether a removal may count.
pub(in crate::sim::room) type MayCount<'a> = &'a dyn Fn(&Entry) -> bool;

/// Whether a removal that `may_count` excludes an entry at this place, or every admission that its log began with, directly or
/// through others.
pub(in crate::sim::room) fn is_void(held: &HeldData, log: &LogId, seq: Seq, may_count: MayCount<'_>) -> bool {
    is_void_below(held, log, seq, ADMISSIONS_MAX, may_count)
}

fn is_void_below(held: &HeldData, log: &LogId, seq: Seq, depth: u32, may_count: MayCount<'_>) -> bool {
    // Of a void log not even the first entry need be held.
    if is_removed(held, log, seq, may_count) {
        return true;
    }
    let Some(first) = held.logs.get(log).and_then(|entries| entries.first()) else { return false };
    if depth == 0 || first.is_genesis() {
        return false;
    }
    !admissions(held, first, depth).into_iter().any(|admission| {
        let void = |entry: &Entry| is_void_below(held, &entry.log(), entry.seq(), depth - 1, may_count);
        let invite = invite_of(held, admission);
        !void(admission) && !invite.is_some_and(void)
    })
}

/// Whether a removal of the author leaves out this entry.
fn is_removed(held: &HeldData, log: &LogId, seq: Seq, may_count: MayCount<'_>) -> bool {
    let entries = held.logs.values().flatten().filter_map(|entry| Some((entry, entry.control()?)));
    let mut counted = entries.filter(|(entry, _)| may_count(entry));
    counted.any(|(_, control)| match control {
        Control::Remove { peer, cuts } if *peer == log.author => {
            cuts.iter().find(|cut| cut.log == *log).is_none_or(|cut| cut.seq < seq)
        }
        Control::Remove { .. }
        | Control::Genesis { .. }
        | Control::Invite { .. }
        | Control::Revoke { .. }
        | Control::Admit { .. }
        | Control::Rename { .. }
        | Control::Role { .. }
        | Control::Leave
        | Control::Keys { .. } => false,
    })
}

/// The admissions of its author that the first entry of a log names, directly or by a former log of the author.
fn admissions<'a>(held: &'a HeldData, first: &Entry, depth: u32) -> Vec<&'a Entry> {
    let author = first.author();
    let mut found = Vec::new();
    for dep in &first.header().deps {
        let entries = held.logs.get(&dep.log).into_iter().flatten().filter(|entry| entry.seq() <= dep.seq);
        found.extend(entries.map(AsRef::as_ref).filter(|entry| admits(entry, &author)));
        let former = held.logs.get(&dep.log).and_then(|entries| entries.first());
        if let Some(former) = former.filter(|former| former.author() == author && depth > 0) {
            found.extend(admissions(held, former, depth - 1));
        }
    }
    found
}

fn admits(entry: &Entry, author: &PeerId) -> bool {
    matches!(entry.control(), Some(Control::Admit { peer, .. }) if peer == author)
}

/// The invite that an admission makes use of.
fn invite_of<'a>(held: &'a HeldData, admission: &Entry) -> Option<&'a Entry> {
    let Some(Control::Admit { by: AdmitBy::Invite { key: used, .. }, .. }) = admission.control() else { return None };
    let is_it = |entry: &&Entry| matches!(entry.control(), Some(Control::Invite { key, .. }) if key == used);
    held.logs.values().flatten().map(AsRef::as_ref).find(is_it)
}
