//! What must hold in the simulation, whatever happened.

use std::collections::BTreeMap;
use std::time::Duration;

use chat_proto::id::{PeerId, Term};

use crate::sim::groups::groups;
use crate::sim::role::network::Id;
use crate::sim::role::peer::Life;
use crate::sim::role::world::World;

impl World {
    /// Groups of running peers that can reach each other now, directly or through others.
    pub(super) fn components(&self) -> Vec<Vec<Id>> {
        let groups = groups((0..self.peers.len()).collect(), |a, b| {
            let runs = |id: Id| self.peers[id].life == Life::Running;
            let near = self.mesh.is_none() || self.connected(a, b).is_some();
            runs(a) && runs(b) && near && self.net.both_ways(a, b)
        });
        groups.into_iter().filter(|group| self.peers[group[0]].life == Life::Running).collect()
    }

    /// Whether every group has exactly one holder, on which it agrees.
    pub(super) fn settled(&self) -> bool {
        self.components().iter().all(|group| self.agreed(group).is_some())
    }

    /// Lets things settle, and fails if they do not.
    pub(super) fn must_settle(&mut self, within: Duration) {
        let end = self.now() + within;
        let settled = self.run_until(end, Self::settled);
        assert!(settled, "no single holder after {within:?}: {}", self.beliefs());
    }

    /// Fails if anything happened that must not: faults between honest peers, terms that go back, a role that moves
    /// when nothing happens.
    pub(super) fn must_be_sound(&self) {
        assert!(self.faults.is_empty(), "honest peers find no fault: {:?}", self.faults);
        for peer in &self.peers {
            let mut last = BTreeMap::<u64, Term>::new();
            for (_, change) in &peer.changes {
                let before = last.insert(0, change.term);
                // A restarted peer begins anew at whatever term it is told.
                assert!(peer.run > 0 || before.is_none_or(|before| before < change.term || change.from.is_some()));
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
