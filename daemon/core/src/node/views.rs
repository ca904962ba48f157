//! Views of the room for the API.

use chat_proto::api::invites::Invite;
use chat_proto::api::peers::{PathView, PeerView, RoleView};
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::api::status::{RendezvousRef, RoomRef};
use chat_proto::id::{PeerId, Term};

use crate::input::Now;
use crate::membership::roster::Person;
use crate::node::Node;
use crate::output::NodeStatus;

impl Node {
    pub(super) fn peer_view(&self, peer: &PeerId, now: Now) -> Option<PeerView> {
        self.membership.roster.people.get(peer).map(|person| self.view(person, now))
    }

    fn view(&self, person: &Person, now: Now) -> PeerView {
        let id = person.peer.id;
        let me = id == self.local.me;
        let connected = self.peers.connections.get(&id);
        let path = match connected {
            _ if me => PathView::Direct,
            Some(connected) if connected.path.direct => PathView::Direct,
            Some(_) => PathView::Relayed,
            None => PathView::None,
        };
        let online = me || self.peers.connections.is_online(&id);
        PeerView {
            peer: person.peer.clone(),
            me,
            online,
            path,
            clock_off_ms: connected.and_then(|connected| connected.clock_off_ms),
            rtt_ms: connected.map(|connected| (connected.path.rtt.as_secs_f64() * 100_000.0).round() / 100.0),
            last_seen: if online { Some(now.wall) } else { self.peers.connections.last_seen(&id) },
            role: self.rendezvous().map_or(RoleView::Member, |role| role.role_of(&id)),
            rank: self.rendezvous().and_then(|role| role.rank_of(&id)),
            member: person.role,
        }
    }

    pub(super) fn peer_views(&self, now: Now) -> Vec<PeerView> {
        let mut views: Vec<PeerView> = self.membership.roster.members().map(|person| self.view(person, now)).collect();
        views.sort_by(|a, b| b.me.cmp(&a.me).then_with(|| a.peer.name.to_lowercase().cmp(&b.peer.name.to_lowercase())));
        views
    }

    pub(super) fn status(&self) -> NodeStatus {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut observed: Vec<_> = self.peers.connections.observed().collect();
        observed.sort_unstable();
        observed.dedup();
        NodeStatus {
            clock_off_ms: self.peers.connections.own_clock_off_ms(),
            room: RoomRef {
                id: self.local.room,
                name: self.membership.roster.room_name.clone(),
                open: self.membership.roster.open,
            },
            role: self.rendezvous().map_or(RoleView::Member, |role| role.role()),
            rendezvous: self
                .rendezvous()
                .and_then(|role| role.holder())
                .map(|(peer, term)| RendezvousRef { peer: self.membership.roster.peer_ref(&peer), term }),
            members: count(self.membership.roster.members().count()),
            online: count(self.peers.connections.online().len() + usize::from(self.is_member())),
            observed,
            inbound: self.rendezvous().and_then(|role| role.inbound()),
        }
    }

    pub(super) fn invite_views(&self) -> Vec<Invite> {
        let mut invites: Vec<Invite> = self
            .membership
            .derived
            .invites
            .iter()
            .map(|(id, invite)| Invite {
                id: *id,
                by: self.membership.roster.peer_ref(&invite.by),
                created: invite.created.label.wall(),
                expires: invite.expires,
                uses: invite.uses,
                used: invite.used,
                revoked: invite.revoked,
            })
            .collect();
        invites.sort_by_key(|invite| std::cmp::Reverse(invite.created));
        invites
    }

    pub(super) fn rendezvous_view(&self) -> RendezvousView {
        match self.rendezvous() {
            Some(rendezvous) => rendezvous.view(&self.membership.roster),
            None => RendezvousView {
                term: Term::default(),
                holder: None,
                since: None,
                role: RoleView::Member,
                ranking: Vec::new(),
                succession: 0,
                history: Vec::new(),
            },
        }
    }
}
