//! The succession: the peers that follow the holder, agreed in advance and signed by it.
//!
//! The holder publishes `(term, serial, list, ranking)` when it changes and every 30 s. The *list* has up to five peers
//! that are connected to the holder; they watch it closely and claim a vacant role one after the other. The *ranking* has
//! up to 32 rows with the figures that decided; after the list, its other peers are next in line, and every member can
//! show it with `chat why`.
//!
//! Invariants, checked when a succession is received: no peer twice, the holder not in its own list, both lengths within
//! bounds. A later serial of the same term replaces an earlier one. Until a new holder has published, the succession of an
//! earlier term is still in force, without the new holder: [`SuccessionLine::behind`] makes the line from it. The callers
//! are [`election`](crate::rendezvous::follower::election), which waits by it, and the reconciler, which opens the TCP
//! watch by it.

use std::collections::BTreeSet;

use chat_proto::id::{PeerId, RoomId, Term};
use chat_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::connectivity::rank::RankRow;
use crate::connectivity::report::ConnectivityReport;
use crate::rendezvous::protocol::signed::Statement;
use crate::rendezvous::settings::{LIST_MAX, ROWS_MAX};

/// What the holder publishes whenever it changes and every 30 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Succession {
    pub(crate) room: RoomId,
    pub(crate) term: Term,
    pub(crate) holder: PeerId,
    /// Grows with each publication of a term.
    pub(crate) serial: u64,
    pub(crate) at: Timestamp,
    /// Number of members that follow the holder, itself included.
    pub(crate) component: u32,
    /// The peers that watch the holder and follow it, in order; never the holder itself; at most [`LIST_MAX`].
    pub(crate) list: Vec<PeerId>,
    /// The ranking, best first, the holder included; at most [`ROWS_MAX`].
    pub(crate) rows: Vec<RankRow>,
}

impl Statement for Succession {
    const CONTEXT: &'static [u8] = b"chatd role succession v1\0";

    fn room(&self) -> &RoomId {
        &self.room
    }

    fn author(&self) -> &PeerId {
        &self.holder
    }

    fn fits(&self) -> bool {
        let mut listed = BTreeSet::from([&self.holder]);
        let mut ranked = BTreeSet::new();
        self.list.len() <= LIST_MAX
            && self.rows.len() <= ROWS_MAX
            && self.list.iter().all(|peer| listed.insert(peer))
            && self.rows.iter().all(|row| ranked.insert(&row.peer))
    }
}

impl Statement for ConnectivityReport {
    const CONTEXT: &'static [u8] = b"chatd role report v1\0";

    fn room(&self) -> &RoomId {
        &self.room
    }

    fn author(&self) -> &PeerId {
        &self.reporter
    }

    fn fits(&self) -> bool {
        Self::fits(self)
    }
}

impl Succession {
    /// A peer's rank, from 1.
    pub(crate) fn rank(&self, peer: &PeerId) -> Option<u16> {
        let place = self.rows.iter().position(|row| row.peer == *peer)?;
        u16::try_from(place + 1).ok()
    }
}

/// The list that a ranking gives: the first [`LIST_MAX`] that can follow, without the holder.
pub(crate) fn list(rows: &[RankRow], holder: &PeerId, eligible: &BTreeSet<PeerId>) -> Vec<PeerId> {
    let candidates = rows.iter().map(|row| row.peer).filter(|peer| peer != holder && eligible.contains(peer));
    candidates.take(LIST_MAX).collect()
}

/// The order in which peers claim a vacant role, as one peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SuccessionLine {
    /// The list, without the peer that is gone.
    pub(crate) list: Vec<PeerId>,
    /// The rest of the ranking.
    pub(crate) rest: Vec<PeerId>,
}

/// A peer's position in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinePlace {
    /// On the list, behind this number of peers.
    Listed(usize),
    /// Ranked after the list, with this number of peers in between.
    Ranked(usize),
    /// Not ranked.
    Any,
}

impl SuccessionLine {
    /// The line behind `gone`.
    pub(crate) fn behind(succession: Option<&Succession>, gone: Option<&PeerId>) -> Self {
        let Some(succession) = succession else { return Self { list: Vec::new(), rest: Vec::new() } };
        let stays = |peer: &PeerId| Some(peer) != gone;
        let list: Vec<PeerId> = succession.list.iter().copied().filter(|peer| stays(peer)).collect();
        let ranked = succession.rows.iter().map(|row| row.peer);
        let rest = ranked.filter(|peer| stays(peer) && !list.contains(peer)).collect();
        Self { list, rest }
    }

    pub(crate) fn place(&self, peer: &PeerId) -> LinePlace {
        let at = |list: &[PeerId]| list.iter().position(|listed| listed == peer);
        match (at(&self.list), at(&self.rest)) {
            (Some(place), _) => LinePlace::Listed(place),
            (None, Some(place)) => LinePlace::Ranked(place),
            (None, None) => LinePlace::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectivity::rank::Figures;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn succession(holder: u8, list: &[u8], rows: &[u8]) -> Succession {
        let row = |n: &u8| RankRow { peer: peer(*n), figures: Figures::default() };
        Succession {
            room: RoomId::from_bytes([9; 32]),
            term: Term(1),
            holder: peer(holder),
            serial: 1,
            at: Timestamp::from_ms(0),
            component: 1,
            list: list.iter().map(|n| peer(*n)).collect(),
            rows: rows.iter().map(row).collect(),
        }
    }

    #[test]
    fn succession_out_of_bounds_is_refused() {
        assert!(succession(1, &[2, 3], &[1, 2, 3]).fits());
        assert!(!succession(1, &[1, 2], &[]).fits(), "the holder does not follow itself");
        assert!(!succession(1, &[2, 2], &[]).fits());
        assert!(!succession(1, &[2, 3, 4, 5, 6, 7], &[]).fits());
        assert!(!succession(1, &[], &[2, 2]).fits());
        let many: Vec<u8> = (1..=33).collect();
        assert!(!succession(1, &[], &many).fits());
    }

    #[test]
    fn list_is_the_head_of_the_ranking_that_can_follow() {
        let rows = succession(1, &[], &[1, 2, 3, 4, 5, 6, 7, 8]).rows;
        let all: BTreeSet<PeerId> = (1..=8).map(peer).collect();
        assert_eq!(list(&rows, &peer(1), &all), [2, 3, 4, 5, 6].map(peer));
        let few = BTreeSet::from([peer(7), peer(3)]);
        assert_eq!(list(&rows, &peer(2), &few), [3, 7].map(peer));
    }

    #[test]
    fn line_leaves_out_the_peer_that_is_gone() {
        let succession = succession(1, &[2, 3], &[1, 2, 3, 4, 5]);
        let line = SuccessionLine::behind(Some(&succession), Some(&peer(1)));
        let places = [2, 3, 4, 5, 6].map(|n| line.place(&peer(n)));
        assert_eq!(
            places,
            [LinePlace::Listed(0), LinePlace::Listed(1), LinePlace::Ranked(0), LinePlace::Ranked(1), LinePlace::Any]
        );
        let shorter = SuccessionLine::behind(Some(&succession), Some(&peer(2)));
        assert_eq!(shorter.place(&peer(3)), LinePlace::Listed(0));
        assert_eq!(SuccessionLine::behind(None, None).place(&peer(1)), LinePlace::Any);
    }
}
