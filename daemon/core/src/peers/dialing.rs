//! Addresses and dials: which peers to connect to, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::delivery::dissemination::Dissemination;
use crate::log::local::Local;
use crate::membership::roster::Roster;
use crate::output::Output;
use crate::peers::Peers;
use crate::peers::addrs::{AddrRecord, RecordOwner};
use crate::peers::connections::Ended;
use crate::wire::Frame;

/// Maximum number of address records in one frame.
const RECORDS_PER_FRAME: usize = 512;

/// Delay before a lost connection is dialled again for the first time.
const REDIAL_AT_ONCE: Duration = Duration::from_millis(100);

/// Time after which a member that was last seen then, and did not say goodbye, is dialled less often: most outages are
/// short, and a room that was split should be one again soon after.
const LOST_LATELY: Duration = Duration::from_secs(10 * 60);

/// Minimum duration of a connection that proves that the peer is reachable and accepts this one; after a shorter one,
/// the next dial waits as after a failure.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// Decides about dials and spreads addresses: reads which connections are needed, and borrows what is known of peers.
pub(crate) struct DialHandler<'a> {
    pub(crate) local: &'a Local,
    pub(crate) roster: &'a Roster,
    pub(crate) dissemination: &'a Dissemination,
    /// Peers to which the role needs a connection.
    pub(crate) keep: &'a BTreeSet<PeerId>,
    pub(crate) peers: &'a mut Peers,
    pub(crate) cx: &'a mut NodeContext,
}

impl DialHandler<'_> {
    /// Whether a connection to a peer is wanted.
    fn wants(&self, peer: &PeerId) -> bool {
        let me = self.local.me;
        let alone = !self.roster.members().any(|person| person.peer.id != me);
        let unsure = self.roster.unsure.contains(peer);
        let member = self.roster.is_member(peer) || unsure || alone || !self.roster.is_member(&me);
        let needed =
            !self.dissemination.is_tree() || unsure || self.dissemination.needs(peer) || self.keep.contains(peer);
        *peer != me && member && needed && !self.local.is_stopping()
    }

    /// Dials a peer now unless it is connected or a try is due soon by itself.
    pub(crate) fn consider(&mut self, peer: PeerId) {
        let known = self.peers.addrs.get(&peer).is_some();
        if self.wants(&peer) && !self.peers.connections.is_connected(&peer) && known {
            self.cx.set(Timer::Redial(peer), Duration::ZERO);
        }
    }

    pub(crate) fn consider_all(&mut self) {
        let known: Vec<PeerId> = self.peers.addrs.records().map(|record| record.peer).collect();
        for peer in known {
            self.consider(peer);
        }
    }

    pub(crate) fn dial(&mut self, peer: PeerId) {
        let connections = &self.peers.connections;
        // While a connection is being closed, the shell would not dial; when it is over, this is set again.
        if self.wants(&peer) && !connections.is_connected(&peer) && !connections.is_closing(&peer) {
            self.cx.push(Output::Dial(peer, self.peers.addrs.addrs(&peer)));
        }
    }

    /// A connection is over: the peer is dialled again where a connection to it is wanted.
    pub(crate) fn ended(&mut self, peer: PeerId, ended: Ended) {
        if !self.wants(&peer) || self.cx.timers.is_set(&Timer::Redial(peer)) {
            return;
        }
        if ended.lost && self.cx.now.mono.saturating_sub(ended.since) >= STEADY_AFTER {
            self.peers.addrs.reset(&peer);
            self.cx.set(Timer::Redial(peer), REDIAL_AT_ONCE);
        } else {
            let longest = if ended.lost { self.redial_ceiling(&peer) } else { self.cx.settings.redial_max };
            self.redial_later(peer, longest);
        }
    }

    /// Dialling failed.
    pub(crate) fn failed(&mut self, peer: PeerId) {
        if !self.peers.connections.is_connected(&peer) && self.wants(&peer) {
            self.redial_later(peer, self.redial_ceiling(&peer));
        }
    }

    /// The peer left in an orderly way: it is not dialled again at once.
    pub(crate) fn left(&mut self, peer: PeerId) {
        self.redial_later(peer, self.cx.settings.redial_max);
    }

    fn redial_later(&mut self, peer: PeerId, longest: Duration) {
        let jitter = self.cx.jitter();
        let wait = self.peers.addrs.backoff(peer, self.cx.settings.redial_min, longest, jitter);
        self.cx.set(Timer::Redial(peer), wait);
    }

    /// Maximum interval between two dials of an unreachable member. However many were lost lately, together they are
    /// not dialled more often than one alone would be.
    fn redial_ceiling(&self, peer: &PeerId) -> Duration {
        let settings = &self.cx.settings;
        let lost_lately_ms = u64::try_from(LOST_LATELY.as_millis()).unwrap_or(u64::MAX);
        let since = self.cx.now.wall.as_ms().saturating_sub(lost_lately_ms);
        let seen = |peer: &PeerId| self.peers.presence.last_seen(peer).is_some_and(|seen| seen.as_ms() > since);
        let lately = |peer: &PeerId| seen(peer) && !self.peers.addrs.has_left(peer);
        if !lately(peer) {
            return settings.redial_max;
        }
        let lost = |peer: &PeerId| !self.peers.connections.is_connected(peer) && lately(peer) && self.wants(peer);
        let lost = self.roster.members().filter(|person| lost(&person.peer.id)).count().max(1);
        settings.redial_lost.saturating_mul(u32::try_from(lost).unwrap_or(u32::MAX)).min(settings.redial_max)
    }

    /// This peer's addresses changed: signs them, and sends them to its neighbours.
    pub(crate) fn publish_own_addrs(&mut self) {
        let record = self.peers.sign_own_addrs(self.local, self.cx.now);
        if self.peers.addrs.add(record.clone(), RecordOwner::Member) {
            self.cx.push(Output::StoreAddrs(vec![record.clone()]));
            self.peers.connections.send_to_all(&mut self.cx.out, &Frame::Addrs(vec![record]));
        }
    }

    /// Takes over address records, and dials; returns those that are new.
    pub(crate) fn learn(&mut self, records: Vec<AddrRecord>) -> Vec<AddrRecord> {
        let newcomer = !self.roster.is_member(&self.local.me);
        let mut news = Vec::new();
        for record in records {
            let member = self.roster.is_member(&record.peer) || newcomer;
            let owner = if member { RecordOwner::Member } else { RecordOwner::Stranger };
            if record.peer != self.local.me && self.peers.addrs.add(record.clone(), owner) {
                news.push(record);
            }
        }
        if !news.is_empty() {
            self.cx.push(Output::StoreAddrs(news.clone()));
        }
        for record in &news {
            self.consider(record.peer);
        }
        news
    }

    /// Sends the address records of members to a new neighbour.
    pub(crate) fn send_records(&mut self, peer: &PeerId) {
        let member = |of: &PeerId| *of == self.local.me || self.roster.is_member(of);
        let records = self.peers.addrs.records().filter(|record| record.peer != *peer && member(&record.peer));
        let records: Vec<AddrRecord> = records.cloned().collect();
        for chunk in records.chunks(RECORDS_PER_FRAME) {
            self.peers.connections.send(&mut self.cx.out, peer, &Frame::Addrs(chunk.to_vec()));
        }
    }

    /// Sends a neighbour what this peer's clock shows, and the address at which it is seen.
    pub(crate) fn show_clock(&mut self, peer: &PeerId) {
        let observed = self.peers.connections.get(peer).and_then(|connected| connected.path.remote);
        let hello = Frame::Hello { time: self.cx.now.wall, observed };
        self.peers.connections.send(&mut self.cx.out, peer, &hello);
    }
}
