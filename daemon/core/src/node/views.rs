//! Views of the room for the API, and for simulations.

use std::time::Duration;

use chat_proto::api::invites::Invite;
use chat_proto::api::peers::{MemberLink, PathView, PeerList, PeerView, RoleView};
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::api::status::{RendezvousRef, RoomRef};
use chat_proto::id::{PeerId, Term};

use crate::admission::codec::safety_words;
use crate::config::BudgetSettings;
use crate::delivery::budget::Budgets;
use crate::delivery::receipts::Receipts;
use crate::delivery::sync::Sync;
use crate::input::Now;
use crate::log::Logs;
use crate::log::entry::{LogId, Seq};
use crate::log::local::Local;
use crate::membership::Membership;
use crate::membership::roster::Person;
use crate::node::Node;
use crate::output::NodeStatus;
use crate::peers::Peers;
use crate::rendezvous::query::RoleQuery;
use crate::wire::PeerLink;

impl Node {
    pub(super) fn views(&self) -> Views<'_> {
        Views {
            now: self.cx.now,
            local: &self.local,
            membership: &self.membership,
            peers: &self.peers,
            receipts: &self.delivery.receipts,
            sync: &self.delivery.sync,
            logs: &self.logs,
            budgets: &self.delivery.budgets,
            budget: &self.cx.settings.budget,
            role: self.role.query(),
        }
    }
}

/// Reads what the API shows.
pub(super) struct Views<'a> {
    now: Now,
    local: &'a Local,
    membership: &'a Membership,
    peers: &'a Peers,
    receipts: &'a Receipts,
    sync: &'a Sync,
    logs: &'a Logs,
    budgets: &'a Budgets,
    budget: &'a BudgetSettings,
    role: Option<RoleQuery<'a>>,
}

/// Maximum number of connections between others in an answer: more than a full mesh of 32 has.
const LINKS_MAX: usize = 512;

/// Milliseconds with two decimals.
fn rounded_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

impl Views<'_> {
    pub(super) fn peer(&self, peer: &PeerId) -> Option<PeerView> {
        self.membership.roster.people.get(peer).map(|person| self.view(person))
    }

    fn view(&self, person: &Person) -> PeerView {
        let id = person.peer.id;
        let me = id == self.local.me;
        let connected = self.peers.connections.get(&id);
        let path = match connected {
            _ if me => PathView::Direct,
            Some(connected) if connected.path.direct => PathView::Direct,
            Some(_) => PathView::Relayed,
            None => PathView::None,
        };
        let online = me || self.peers.presence.is_online(&id);
        PeerView {
            peer: person.peer.clone(),
            me,
            online,
            path,
            clock_off_ms: connected.and_then(|connected| connected.clock_off_ms),
            rtt_ms: connected.map(|connected| rounded_ms(connected.path.rtt)),
            last_seen: if online { Some(self.now.wall) } else { self.peers.presence.last_seen(&id) },
            role: self.role.map_or(RoleView::Member, |role| role.role_of(&id)),
            rank: self.role.and_then(|role| role.rank_of(&id)),
            member: person.role,
            safety_words: (!me).then(|| safety_words(&self.local.room, &self.local.me, &id)),
            used: self.budgets.view(&id, self.budget, self.now.mono),
            let_in_by: self.membership.derived.let_in_by(&id).map(|by| self.membership.roster.peer_ref(&by)),
        }
    }

    /// Every member, this peer first, then by name, and what they report of their connections to each other.
    pub(super) fn peers(&self) -> PeerList {
        let mut views: Vec<PeerView> = self.membership.roster.members().map(|person| self.view(person)).collect();
        views.sort_by(|a, b| b.me.cmp(&a.me).then_with(|| a.peer.name.to_lowercase().cmp(&b.peer.name.to_lowercase())));
        PeerList { peers: views, links: self.links() }
    }

    fn links(&self) -> Vec<MemberLink> {
        let (connections, roster) = (&self.peers.connections, &self.membership.roster);
        let all =
            connections.connected().flat_map(|(from, connected)| connected.links.values().map(|link| (*from, link)));
        let others = all.filter(|(_, link)| link.peer != self.local.me && roster.is_member(&link.peer));
        // Where both ends report it, the first one's word is given.
        let once = others.filter(|(from, link)| {
            let other = connections.get(&link.peer);
            *from < link.peer || other.is_none_or(|other| !other.links.contains_key(from))
        });
        let view = |(from, link): (PeerId, &PeerLink)| MemberLink {
            from,
            to: link.peer,
            direct: link.direct,
            rtt_ms: rounded_ms(Duration::from_micros(link.rtt_us.into())),
        };
        once.take(LINKS_MAX).map(view).collect()
    }

    pub(super) fn status(&self) -> NodeStatus {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut observed: Vec<_> = self.peers.connections.observed().collect();
        observed.sort_unstable();
        observed.dedup();
        let roster = &self.membership.roster;
        let holder = self.role.and_then(|role| role.holder());
        NodeStatus {
            clock_off_ms: self.peers.connections.own_clock_off_ms(),
            room: RoomRef { id: self.local.room, name: roster.room_name.clone(), open: roster.open },
            role: self.role.map_or(RoleView::Member, |role| role.role()),
            rendezvous: holder.map(|(peer, term)| RendezvousRef { peer: roster.peer_ref(&peer), term }),
            members: count(roster.members().count()),
            online: count(self.peers.presence.online().count() + usize::from(roster.is_member(&self.local.me))),
            observed,
            inbound: self.role.and_then(|role| role.inbound()),
            missing_entries: self.sync.missing(self.logs, &self.peers.connections),
        }
    }

    /// Peers that are known to hold an entry on disk.
    pub(super) fn holders(&self, log: &LogId, seq: Seq) -> Vec<PeerId> {
        let mut holders: Vec<PeerId> = self.peers.connections.holders(log, seq).collect();
        if *log == self.local.log {
            holders.extend(self.receipts.holders(log, seq));
        } else if log.author != self.local.me {
            holders.push(log.author);
        }
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// Every invite, the newest first.
    pub(super) fn invites(&self) -> Vec<Invite> {
        let invites = self.membership.derived.invites().iter().map(|(id, invite)| Invite {
            id: *id,
            by: self.membership.roster.peer_ref(&invite.by),
            created: invite.created.wall(),
            expires: invite.expires,
            uses: invite.uses,
            used: invite.used,
            revoked: invite.is_revoked(),
        });
        let mut invites: Vec<Invite> = invites.collect();
        invites.sort_by_key(|invite| std::cmp::Reverse(invite.created));
        invites
    }

    pub(super) fn role(&self) -> RendezvousView {
        match &self.role {
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
