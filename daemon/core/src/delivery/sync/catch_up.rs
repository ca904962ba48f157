//! What is requested of a peer, in turn of the authors, and when the rest of an author that writes much is.

use std::collections::BTreeMap;

use chat_proto::id::PeerId;

use crate::context::timers::Timer;
use crate::delivery::sync::{SyncHandler, WANTS_PER_PEER_MAX};
use crate::log::entry::{LogId, Seq};

impl SyncHandler<'_> {
    /// Requests from a peer everything that it holds and this one lacks, except ranges requested of another; such a
    /// request gets a shorter timeout.
    pub(crate) fn fetch_from(&mut self, peer: PeerId) {
        let Some(connected) = self.peers.connections.get(&peer) else { return };
        let asked = self.sync.wants.keys().filter(|log| connected.known.contains_key(log));
        for log in asked.copied().collect::<Vec<_>>() {
            self.hurry(log);
        }
        let Some(connected) = self.peers.connections.get(&peer) else { return };
        let free = WANTS_PER_PEER_MAX.saturating_sub(self.sync.wants_of(&peer));
        let mut missing: Vec<(LogId, Seq)> = connected
            .known
            .iter()
            .filter(|(log, seq)| **seq > self.logs.heads.seq(log) && !self.sync.wants.contains_key(log))
            .filter_map(|(log, seq)| Some((*log, self.lacking(log, *seq)?)))
            .collect();
        // What others wait for comes first: every chain of causes leads to the founding. Then one log of each author, so that
        // no author's many logs come before what others wrote.
        let mut ranks: BTreeMap<PeerId, usize> = BTreeMap::new();
        missing.sort_by_cached_key(|(log, _)| {
            let rank = ranks.entry(log.author).or_default();
            *rank += 1;
            (self.logs.pending.awaited(log) == Seq::ZERO, *rank)
        });
        missing.retain_mut(|(log, to)| {
            *to = self.due(peer, log, *to);
            *to > self.logs.reach(log)
        });
        for (log, to) in missing.into_iter().take(free) {
            self.want(peer, log, to, Vec::new());
        }
    }

    /// The last entry of a log that is requested now: up to `to`, unless too much of its author waits for the disk or its author
    /// is over its budget; then up to what entries of others wait for.
    pub(super) fn due(&mut self, peer: PeerId, log: &LogId, to: Seq) -> Seq {
        let over_for = self.budgets.over_for(&log.author, &self.cx.settings.budget, self.cx.now.mono);
        if over_for.is_zero() && self.logs.disk.has_room_for(&log.author) {
            return to;
        }
        if !over_for.is_zero() {
            self.cx.set_earlier(Timer::Fetch(peer), over_for);
        }
        self.budgets.fall_behind(log.author);
        self.logs.pending.awaited_by_others(log).min(to)
    }

    /// Entries were written: requests what was not taken of authors of which little waits now.
    pub(crate) fn catch_up(&mut self) {
        for author in self.budgets.behind().copied().collect::<Vec<_>>() {
            let lacking = self.lacking_of(author);
            if lacking.is_empty() {
                self.budgets.catch_up(&author);
            }
            for (peer, log, to) in lacking {
                let asked = self.sync.wants.contains_key(&log) || self.sync.wants_of(&peer) >= WANTS_PER_PEER_MAX;
                let due = self.due(peer, &log, to);
                if !asked && due > self.logs.reach(&log) {
                    self.want(peer, log, due, Vec::new());
                }
            }
        }
    }

    /// The last entry that this peer lacks and accepts of a log that another holds up to `held`, unless fetching it has just failed.
    fn lacking(&self, log: &LogId, held: Seq) -> Option<Seq> {
        let (to, reach) = (self.logs.taken(log).min(held), self.logs.reach(log));
        (to > reach && !self.sync.has_failed(log, reach, self.cx.now.mono)).then_some(to)
    }

    /// What connected peers hold of an author's logs and this one lacks.
    fn lacking_of(&self, author: PeerId) -> Vec<(PeerId, LogId, Seq)> {
        let mut lacking = Vec::new();
        for (peer, connected) in self.peers.connections.connected() {
            for (log, seq) in connected.known.range(LogId::range_of(author)) {
                lacking.extend(self.lacking(log, *seq).map(|to| (*peer, *log, to)));
            }
        }
        lacking
    }
}
