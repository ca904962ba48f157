//! What must hold in the role simulation after any faults.

use std::time::Duration;

use chat_proto::id::PeerId;

use crate::sim::groups::groups;
use crate::sim::role::network::Id;
use crate::sim::role::peer::ProcessState;
use crate::sim::role::world::RoleWorld;

impl RoleWorld {
    /// Running peers in groups that reach each other now, directly or through others.
    pub(super) fn components(&self) -> Vec<Vec<Id>> {
        let groups = groups((0..self.peers.len()).collect(), |a, b| {
            let runs = |id: Id| self.peers[id].life == ProcessState::Running;
            let near = self.mesh.is_none() || self.connected(a, b).is_some();
            runs(a) && runs(b) && near && self.net.both_ways(a, b)
        });
        groups.into_iter().filter(|group| self.peers[group[0]].life == ProcessState::Running).collect()
    }

    /// Whether every group agrees on one holder.
    pub(super) fn settled(&self) -> bool {
        self.components().iter().all(|group| self.agreed(group).is_some())
    }

    /// Lets time pass until every group agrees on a holder; fails if it takes longer.
    pub(super) fn must_settle(&mut self, within: Duration) {
        let end = self.now() + within;
        let settled = self.run_until(end, Self::settled);
        assert!(settled, "no single holder after {within:?}: {}", self.beliefs());
    }

    /// Fails if honest peers found faults in each other, or if a term went back.
    pub(super) fn must_be_sound(&self) {
        assert!(self.faults.is_empty(), "honest peers found faults: {:?}", self.faults);
        for peer in &self.peers {
            for pair in peer.changes.windows(2) {
                let [(_, before), (_, change)] = pair else { continue };
                // A claimant that restarted may have claimed its term before: one claim replaces the other.
                let restarted = self.index.get(&change.to).is_some_and(|id| self.peers[*id].run > 0);
                let again = before.to == change.to && before.term == change.term && restarted;
                // A restarted peer begins at whatever term it learns.
                let forward = before.term < change.term || change.from.is_some();
                assert!(peer.run > 0 || forward || again, "the term goes back from {before:?} to {change:?}");
            }
        }
    }

    /// Lets `span` pass and fails if the role moves in it.
    pub(super) fn must_stay(&mut self, span: Duration) {
        let before = self.changes();
        self.run_for(span);
        assert_eq!(self.changes(), before, "the role moves though nothing happens: {}", self.last_changes());
    }

    pub(super) fn last_changes(&self) -> String {
        let mut all: Vec<(Duration, Id, String)> = Vec::new();
        for (id, peer) in self.peers.iter().enumerate() {
            for (at, change) in peer.changes.iter().rev().take(5) {
                let name = |peer: &PeerId| self.index.get(peer).map_or_else(|| "?".into(), ToString::to_string);
                let from = change.from.as_ref().map_or_else(|| "-".into(), name);
                let text = format!("{id}: term {} {from}->{} {:?}", change.term, name(&change.to), change.reason);
                all.push((*at, id, text));
            }
        }
        all.sort();
        all.iter().map(|(at, _, text)| format!("\n  {} ms {text}", at.as_millis())).collect()
    }

    pub(super) fn beliefs(&self) -> String {
        let each = self.running().map(|id| format!("{id}:{:?}", self.believed(id).map(|(id, term)| (id, term.0))));
        format!("{}{}", each.collect::<Vec<_>>().join(" "), self.last_changes())
    }
}
