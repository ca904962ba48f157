//! Connections and dials: which peers to connect to, and which are online.

use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::event::Event;
use chat_proto::id::PeerId;

use crate::input::Now;
use crate::log::entry::Head;
use crate::node::Node;
use crate::node::timers::{LINKS_DEBOUNCE, Timer};
use crate::output::{CloseReason, Output};
use crate::peers::addrs::AddrRecord;
use crate::peers::addrs::RecordOwner;
use crate::peers::connections::{Ended, noticeably_different};
use crate::rendezvous::events::RoleInput;
use crate::types::PathInfo;
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

impl Node {
    pub(super) fn on_up(&mut self, peer: PeerId, path: PathInfo, now: Now) {
        if self.peers.connections.down(&peer).is_some_and(|ended| ended.open) {
            self.link_ended(peer, now);
        }
        self.timers.cancel(Timer::Redial(peer));
        self.peers.connections.up(peer, path, now);
        self.peers.addrs.is_back(&peer);
        self.watch_pulse(peer, path.rtt, now);
        if !self.may_connect(&peer) {
            return self.break_with(peer, CloseReason::NotMember, now);
        }
        self.show_clock(&peer, now);
        self.sync().send_vector(&peer, crate::delivery::sync::Exchange::Answer);
        self.send_addr_records(&peer);
        self.door().send_knocks(&peer);
        self.send_forks(&peer);
        self.tree_up(&peer);
        self.seen_by(&peer, path.inbound, now);
        self.tell_role(RoleInput::Up(peer, path), now);
        self.links_changed(now);
    }

    /// Sends a neighbour what this peer's clock shows, and the address at which it is seen.
    pub(super) fn show_clock(&mut self, peer: &PeerId, now: Now) {
        let observed = self.peers.connections.get(peer).and_then(|connected| connected.path.remote);
        self.send(peer, &Frame::Hello { time: now.wall, observed });
    }

    pub(super) fn on_path(&mut self, peer: PeerId, path: PathInfo, now: Now) {
        let Some(connected) = self.peers.connections.get_mut(&peer) else { return };
        let news = noticeably_different(&connected.path, &path);
        let changed_kind = connected.path.direct != path.direct;
        let seen_elsewhere = path.remote.is_some() && connected.path.remote != path.remote;
        connected.path = path;
        self.peers.liveness.path(&peer, path.rtt);
        self.tell_role(RoleInput::Path(peer, path), now);
        if news {
            self.timers.set_earlier(Timer::Links, now.mono + LINKS_DEBOUNCE);
        }
        if changed_kind {
            self.publish_peer(&peer, now);
        }
        if seen_elsewhere {
            // It was relayed before, or its router gave it another address: newcomers must receive the new one.
            self.show_clock(&peer, now);
        }
    }

    pub(super) fn on_down(&mut self, peer: PeerId, now: Now) {
        let Some(Ended { since, open }) = self.peers.connections.down(&peer) else { return };
        if open {
            self.link_ended(peer, now);
        }
        if !self.wants_link(&peer) || self.timers.is_set(&Timer::Redial(peer)) {
            return;
        }
        if open && now.mono.saturating_sub(since) >= STEADY_AFTER {
            self.peers.addrs.reset(&peer);
            self.timers.set(Timer::Redial(peer), now.mono + REDIAL_AT_ONCE);
        } else {
            self.redial_later(peer, self.settings.redial_max, now);
        }
    }

    fn redial_later(&mut self, peer: PeerId, longest: Duration, now: Now) {
        let jitter = self.jitter();
        let wait = self.peers.addrs.backoff(peer, &self.settings, longest, jitter);
        self.timers.set(Timer::Redial(peer), now.mono + wait);
    }

    /// Maximum interval between two dials of an unreachable member. However many were lost lately, together they are
    /// not dialled more often than one alone would be.
    fn redial_ceiling(&self, peer: &PeerId, now: Now) -> Duration {
        let since = now.wall.as_ms().saturating_sub(u64::try_from(LOST_LATELY.as_millis()).unwrap_or(u64::MAX));
        let seen = |peer: &PeerId| self.peers.connections.last_seen(peer).is_some_and(|seen| seen.as_ms() > since);
        let lately = |peer: &PeerId| seen(peer) && !self.peers.addrs.has_left(peer);
        if !lately(peer) {
            return self.settings.redial_max;
        }
        let lost = |peer: &PeerId| !self.peers.connections.is_connected(peer) && lately(peer) && self.wants_link(peer);
        let lost = self.membership.roster.members().filter(|person| lost(&person.peer.id)).count().max(1);
        self.settings.redial_lost.saturating_mul(u32::try_from(lost).unwrap_or(u32::MAX)).min(self.settings.redial_max)
    }

    /// Ends the connection to a peer: no frame is accepted from it or sent to it any more. The daemon reports `Down`
    /// when it is closed.
    pub(super) fn break_with(&mut self, peer: PeerId, reason: CloseReason, now: Now) {
        if !self.peers.connections.close(&peer) {
            return;
        }
        self.out.push_back(Output::Disconnect(peer, reason));
        if reason == CloseReason::Protocol {
            self.peers.addrs.distrust(&peer);
        }
        self.link_ended(peer, now);
    }

    /// A connection ended: removes what depended on it.
    fn link_ended(&mut self, peer: PeerId, now: Now) {
        self.peers.liveness.down(&peer);
        self.tell_parted();
        self.sync().forget_wants_of(&peer, now);
        self.timers.cancel(Timer::Fetch(peer));
        self.door().forget_knocks_at(&peer);
        self.neighbour_lost(peer, now);
        self.tree_down(peer, now);
        self.tell_role(RoleInput::Down(peer), now);
        self.links_changed(now);
    }

    pub(super) fn on_dial_failed(&mut self, peer: PeerId, now: Now) {
        if !self.peers.connections.is_connected(&peer) {
            self.tree_down(peer, now);
        }
        if self.peers.connections.is_connected(&peer) || !self.wants_link(&peer) {
            return;
        }
        self.redial_later(peer, self.redial_ceiling(&peer, now), now);
    }

    /// A neighbour leaves in an orderly way: it is not dialled again at once.
    pub(super) fn on_bye(&mut self, peer: PeerId, now: Now) {
        if self.peers.connections.close(&peer) {
            self.peers.addrs.left(peer);
            self.link_ended(peer, now);
            self.redial_later(peer, self.settings.redial_max, now);
        }
    }

    pub(super) fn on_addrs(&mut self, addrs: Vec<SocketAddr>, now: Now) {
        self.peers.own_addrs.clone_from(&addrs);
        self.tell_role(RoleInput::Addrs(addrs), now);
        let record = self.sign_own_addrs(now);
        if self.peers.addrs.add(record.clone(), RecordOwner::Member) {
            self.out.push_back(Output::StoreAddrs(vec![record.clone()]));
            let frame = Frame::Addrs(vec![record]);
            self.peers.connections.send_to_all(&mut self.out, &frame);
        }
    }

    /// This peer's addresses, signed; newer than all that it signed before, also when its clock was set back since.
    pub(super) fn sign_own_addrs(&self, now: Now) -> AddrRecord {
        let held = self.peers.addrs.get(&self.local.me).map(|record| record.time);
        let after = held.map_or(0, |time| time.as_ms().saturating_add(1));
        let time = chat_proto::time::Timestamp::from_ms(now.wall.as_ms().max(after));
        AddrRecord::sign(self.peers.own_addrs.clone(), time, &self.local.key)
    }

    fn send_addr_records(&mut self, peer: &PeerId) {
        let records: Vec<AddrRecord> = self
            .peers
            .addrs
            .records()
            .filter(|record| {
                record.peer != *peer && (record.peer == self.local.me || self.membership.roster.is_member(&record.peer))
            })
            .cloned()
            .collect();
        for chunk in records.chunks(RECORDS_PER_FRAME) {
            self.send(peer, &Frame::Addrs(chunk.to_vec()));
        }
    }

    /// This peer's connections changed: reports them to neighbours soon, and updates presence.
    fn links_changed(&mut self, now: Now) {
        self.timers.set_earlier(Timer::Links, now.mono + LINKS_DEBOUNCE);
        self.presence_changed(now);
    }

    /// Reports this peer's connections to its neighbours.
    pub(super) fn tell_links(&mut self) {
        let frame = Frame::Links(self.peers.connections.report());
        self.peers.connections.send_to_all(&mut self.out, &frame);
    }

    /// Peers do not forward to a peer what its author sends it directly. When the two lose their connection, the peer
    /// receives the heads of that author: the author may have sent its last entries only to some.
    pub(super) fn tell_parted(&mut self) {
        let parted = self.peers.connections.take_parted();
        if parted.is_empty() || self.is_tree() {
            return;
        }
        let vector = self.logs.heads.vector();
        for (author, to) in parted {
            let Some(connected) = self.peers.connections.get(&to) else { continue };
            let lacks = |head: &&Head| connected.known.get(&head.log).is_none_or(|seq| *seq < head.seq);
            let heads: Vec<Head> =
                vector.iter().filter(|head| head.log.author == author).filter(lacks).copied().collect();
            if !heads.is_empty() {
                self.send(&to, &Frame::Vector { heads, reply: false });
            }
        }
    }

    /// Updates which members are online, and publishes the changes.
    pub(super) fn presence_changed(&mut self, now: Now) {
        let me = self.local.me;
        let members = self.membership.roster.clone();
        let others = members.members().map(|person| person.peer.id).filter(|peer| *peer != me);
        let changed = self.peers.connections.refresh_online(others, self.heard_for(), now);
        if !changed.is_empty() {
            self.tell_role(RoleInput::Online(self.peers.connections.online().clone()), now);
        }
        for peer in changed {
            self.publish_peer(&peer, now);
            if self.peers.connections.is_online(&peer) {
                if !self.peers.connections.is_connected(&peer) {
                    self.acknowledge_all(&peer);
                }
                self.consider_dialling(peer, now);
            }
        }
    }

    fn publish_peer(&mut self, peer: &PeerId, now: Now) {
        if let Some(peer) = self.peer_view(peer, now) {
            self.out.push_back(Output::Publish(Event::Peer { peer }));
        }
    }

    /// Whether a connection to a peer is wanted.
    pub(super) fn wants_link(&self, peer: &PeerId) -> bool {
        let me = self.local.me;
        let alone = !self.membership.roster.members().any(|person| person.peer.id != me);
        let member = self.membership.roster.is_member(peer) || alone || !self.is_member();
        let needed = !self.is_tree() || self.tree_needs(peer) || self.role_needs(peer);
        *peer != self.local.me && member && needed && !self.is_stopping()
    }

    /// Dials a peer now unless it is connected or a try is due soon by itself.
    pub(super) fn consider_dialling(&mut self, peer: PeerId, now: Now) {
        if self.wants_link(&peer)
            && !self.peers.connections.is_connected(&peer)
            && self.peers.addrs.get(&peer).is_some()
        {
            self.timers.set(Timer::Redial(peer), now.mono);
        }
    }

    pub(super) fn dial_everybody(&mut self, now: Now) {
        let known: Vec<PeerId> = self.peers.addrs.records().map(|record| record.peer).collect();
        for peer in known {
            self.consider_dialling(peer, now);
        }
    }

    pub(super) fn dial(&mut self, peer: PeerId) {
        // While a connection is being closed, the shell would not dial; when it is over, this is set again.
        if self.wants_link(&peer)
            && !self.peers.connections.is_connected(&peer)
            && !self.peers.connections.is_closing(&peer)
        {
            self.out.push_back(Output::Dial(peer, self.peers.addrs.addrs(&peer)));
        }
    }
}
