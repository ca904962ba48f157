//! Connections: what follows when one opens, changes or ends.

use std::time::Duration;

use chat_proto::event::Event;
use chat_proto::id::PeerId;

use crate::context::timers::Timer;
use crate::delivery::sync::Exchange;
use crate::node::Node;
use crate::output::{CloseReason, Output};
use crate::peers::connections::noticeably_different;
use crate::rendezvous::events::RoleInput;
use crate::types::PathInfo;
use crate::wire::extension::Extension;

/// Time for which changes of connections are collected before neighbours receive them.
const LINKS_DEBOUNCE: Duration = Duration::from_millis(50);

/// Delay before the store receives that a peer was seen for the first time: it is a member to ask, should this peer's own
/// disk be damaged.
const SEEN_SOON: Duration = Duration::from_secs(2);

impl Node {
    pub(super) fn on_up(&mut self, peer: PeerId, path: PathInfo) {
        if self.peers.connections.down(&peer).is_some_and(|ended| ended.open) {
            self.link_ended(peer);
        }
        self.cx.timers.cancel(Timer::Redial(peer));
        self.peers.up(peer, path, &mut self.cx);
        if !self.membership.may_connect(&peer) {
            return self.break_with(peer, CloseReason::NotMember);
        }
        self.dials().show_clock(&peer);
        self.peers.connections.send(&mut self.cx.out, &peer, &Extension::Announced.to_frame());
        self.peers.connections.send(&mut self.cx.out, &peer, &Extension::GivesBodies.to_frame());
        self.peers.connections.send(&mut self.cx.out, &peer, &Extension::GroupsReceipts.to_frame());
        self.logs.bodies.met(peer, &mut self.cx);
        self.sync().send_vector(&peer, Exchange::Answer);
        self.dials().send_records(&peer);
        self.door().send_knocks(&peer);
        self.forks().send_proofs(&peer);
        self.disseminate(|tree| tree.peer_up(&peer, &path));
        self.tell_role(RoleInput::Up(peer, path));
        self.links_changed();
    }

    pub(super) fn on_path(&mut self, peer: PeerId, path: PathInfo) {
        let Some(connected) = self.peers.connections.get_mut(&peer) else { return };
        let before = std::mem::replace(&mut connected.path, path);
        self.tell_role(RoleInput::Path(peer, path));
        if noticeably_different(&before, &path) {
            self.cx.set_earlier(Timer::Links, LINKS_DEBOUNCE);
        }
        if before.direct != path.direct {
            self.publish_peer(&peer);
        }
        if path.remote.is_some() && before.remote != path.remote {
            // It was relayed before, or its router gave it another address: newcomers must receive the new one.
            self.dials().show_clock(&peer);
        }
    }

    pub(super) fn on_down(&mut self, peer: PeerId) {
        let Some(ended) = self.peers.connections.down(&peer) else { return };
        if ended.open {
            self.link_ended(peer);
        }
        self.dials().ended(peer, ended);
    }

    /// Ends the connection to a peer: no frame is accepted from it or sent to it any more. The daemon reports `Down`
    /// when it is closed.
    pub(super) fn break_with(&mut self, peer: PeerId, reason: CloseReason) {
        self.break_with_all(&[peer], reason);
    }

    /// The same for several peers: none of them receives anything that the end of another's connection causes.
    pub(super) fn break_with_all(&mut self, peers: &[PeerId], reason: CloseReason) {
        let open = peers.iter().filter(|peer| self.peers.connections.close(peer, reason)).copied().collect::<Vec<_>>();
        for peer in &open {
            self.cx.push(Output::Disconnect(*peer, reason));
            if reason == CloseReason::Protocol {
                self.peers.addrs.distrust(*peer);
            }
        }
        for peer in open {
            self.link_ended(peer);
        }
    }

    /// A neighbour leaves in an orderly way: it is not dialled again at once.
    pub(super) fn on_bye(&mut self, peer: PeerId) {
        if self.peers.connections.close(&peer, CloseReason::Stopping) {
            self.peers.addrs.left(&peer);
            self.link_ended(peer);
            self.dials().left(peer);
        }
    }

    /// A connection ended and its record is gone: each part forgets what depended on it.
    fn link_ended(&mut self, peer: PeerId) {
        self.tell_parted();
        self.sync().peer_lost(&peer);
        self.logs.bodies.lost(&peer, &mut self.cx);
        self.door().forget_knocks_at(&peer);
        self.disseminate(|tree| tree.peer_lost(peer));
        self.tell_role(RoleInput::Down(peer));
        self.links_changed();
    }

    /// This peer's connections changed: reports them to neighbours soon, and updates presence.
    fn links_changed(&mut self) {
        self.cx.set_earlier(Timer::Links, LINKS_DEBOUNCE);
        self.presence_changed();
    }

    pub(super) fn tell_parted(&mut self) {
        let mode = self.delivery.dissemination.mode();
        self.sync().tell_parted(mode);
    }

    /// Updates which members are online, and publishes the changes.
    pub(super) fn presence_changed(&mut self) {
        let heard_for = self.dissemination().heard_for();
        let members = self.membership.roster.members().map(|person| person.peer.id);
        let others = members.filter(|peer| *peer != self.local.me);
        let before = self.peers.presence.ever_seen();
        let changed = self.peers.presence.refresh(others, &self.peers.connections, heard_for, self.cx.now);
        if self.peers.presence.ever_seen() > before {
            self.cx.set_earlier(Timer::Seen, SEEN_SOON);
        }
        if !changed.is_empty() {
            self.tell_role(RoleInput::Online(self.peers.presence.online().collect()));
        }
        for peer in changed {
            self.publish_peer(&peer);
            if self.peers.presence.is_online(&peer) {
                if !self.peers.connections.is_connected(&peer) {
                    self.receipts().acknowledge_all(&peer);
                }
                self.dials().consider(peer);
            }
        }
    }

    fn publish_peer(&mut self, peer: &PeerId) {
        if let Some(peer) = self.views().peer(peer) {
            self.cx.push(Output::Publish(Event::Peer { peer }));
        }
    }
}
