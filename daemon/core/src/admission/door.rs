//! The front door: admits strangers by ticket, lists their knocks, and answers them when a member decides.
//!
//! A valid ticket, or any knock in an open room, becomes an `Admit` entry; the stranger is answered when it is on disk. Any
//! other knock waits, and all neighbours learn of it, so that each member can answer it (`chat admit`, `chat deny`). A
//! knock ends when it is answered, when the stranger gives up, or when the member at which it waits is lost.
//!
//! State ([`Door`]): the strangers that wait here or, as they report, at other members; those whose admission is being
//! written or is on its way.
//!
//! Invariants: a stranger that receives "admitted" is admitted by an entry that is on this peer's disk. A "no" counts at the door of the
//! member that says it; at another's, only an admin's does. Every table is bounded, and where one is full the network or the
//! member with the largest share gives up its oldest place, so no stranger can close the door for others.
//!
//! Called by the node: commands of the user, requests from [`admission`](crate::admission), [`Frame::Knock`] from
//! neighbours, entries that reached the disk, connections that ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chat_proto::api::members::Knock;
use chat_proto::api::peers::MemberRole;
use chat_proto::event::{Event, KnockState};
use chat_proto::id::{InviteId, KnockId, PeerId, RoomId};
use chat_proto::time::Timestamp;
use ed25519_dalek::VerifyingKey;

use crate::admission::codec::{AdmissionAnswer, AdmissionRequest, Admitted, DenyReason, ticket_holds};
use crate::context::NodeContext;
use crate::context::fair_share::{network, place_to_give_up};
use crate::delivery::drafts::{DraftOrigin, Drafts};
use crate::input::{AdmissionCall, AdmissionId, CommandId, Verdict};
use crate::log::entry::{AdmitBy, Control, Dep};
use crate::log::heads::Heads;
use crate::log::local::Local;
use crate::log::signature::SignatureBytes;
use crate::membership::Membership;
use crate::output::{CommandError, Output, Reply};
use crate::peers::Peers;
use crate::wire::{Frame, KnockNews};

/// Maximum number of knocks that wait here. When it is reached, the network with most of them gives its oldest up, and if
/// all have one, further strangers are asked to try later.
const KNOCKS_MAX: usize = 32;

/// Maximum number of knocks that other members report: some doors may be full at a time. When it is reached, the member
/// that reports most gives its oldest up.
const REPORTED_MAX: usize = 256;

/// Maximum number of admissions that wait for the disk.
const ADMISSIONS_MAX: usize = 1024;

/// Strangers at the door.
#[derive(Debug, Default)]
pub(crate) struct Door {
    waiting: BTreeMap<KnockId, Knocker>,
    admitting: BTreeMap<AdmissionId, (PeerId, Option<SocketAddr>)>,
    /// Admitted by an entry that is not on disk yet.
    unwritten: Vec<(AdmissionId, Dep)>,
    next: u64,
}

#[derive(Debug)]
struct Knocker {
    peer: PeerId,
    name: String,
    words: String,
    since: Timestamp,
    at: KnockedAt,
}

/// The peer at which a stranger waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnockedAt {
    /// At this peer.
    Here(AdmissionId, Option<SocketAddr>),
    /// At another member.
    At(PeerId),
}

/// Runs the door: borrows what admissions read and the drafts that they add to.
pub(crate) struct DoorHandler<'a> {
    pub(crate) local: &'a Local,
    pub(crate) membership: &'a Membership,
    pub(crate) heads: &'a Heads,
    pub(crate) peers: &'a Peers,
    pub(crate) door: &'a mut Door,
    pub(crate) drafts: &'a mut Drafts,
    pub(crate) cx: &'a mut NodeContext,
}

impl Door {
    /// Every knock that waits for an answer.
    pub(crate) fn list_knocks(&self, membership: &Membership) -> Vec<Knock> {
        let knock = |(id, waiting): (&KnockId, &Knocker)| Knock {
            id: *id,
            peer: waiting.peer,
            tag: waiting.peer.tag(),
            name: waiting.name.clone(),
            words: waiting.words.clone(),
            since: waiting.since,
            removed: membership.derived.is_removed(&waiting.peer),
        };
        self.waiting.iter().map(knock).collect()
    }
}

impl DoorHandler<'_> {
    pub(crate) fn on_admission(&mut self, call: AdmissionCall) {
        let AdmissionCall { id, peer, observed, request, words } = call;
        if !self.membership.roster.is_member(&self.local.me)
            || self.local.is_stopping()
            || self.door.admitting.len() >= ADMISSIONS_MAX
        {
            return self.deny(id, DenyReason::NotReady);
        }
        if is_weak(&peer) {
            return self.deny(id, DenyReason::Refused);
        }
        let outcome = match request {
            AdmissionRequest::Ticket { room, name, key, signature } => {
                self.by_ticket(id, peer, observed, (room, name, key, signature))
            }
            AdmissionRequest::Knock { name, .. } => self.by_knock(id, peer, observed, name, words),
        };
        if let Err(reason) = outcome {
            self.deny(id, reason);
        }
    }

    fn by_ticket(
        &mut self,
        id: AdmissionId,
        peer: PeerId,
        observed: Option<SocketAddr>,
        (room, name, key, signature): (RoomId, String, InviteId, SignatureBytes),
    ) -> Result<(), DenyReason> {
        if room != self.local.room {
            return Err(DenyReason::OtherRoom);
        }
        if !ticket_holds(&key, &room, &peer, &name, signature) {
            return Err(DenyReason::UnknownInvite);
        }
        if self.membership.roster.is_member(&peer) {
            self.door.admitting.insert(id, (peer, observed));
            self.answer_admitted(id);
            return Ok(());
        }
        let invite = self.membership.derived.invites().get(&key).ok_or(DenyReason::UnknownInvite)?;
        if invite.is_revoked() {
            return Err(DenyReason::Revoked);
        }
        if self.cx.now.wall > invite.expires {
            return Err(DenyReason::Expired);
        }
        if invite.used >= invite.uses {
            return Err(DenyReason::UsedUp);
        }
        if self.membership.derived.is_removed(&peer) {
            return Err(DenyReason::Removed);
        }
        self.admit(id, peer, observed, name, AdmitBy::Invite { key, signature })
    }

    fn by_knock(
        &mut self,
        id: AdmissionId,
        peer: PeerId,
        observed: Option<SocketAddr>,
        name: String,
        words: String,
    ) -> Result<(), DenyReason> {
        chat_proto::text::check_member_name(&name).map_err(|_| DenyReason::BadName)?;
        if self.membership.roster.is_member(&peer) {
            self.door.admitting.insert(id, (peer, observed));
            self.answer_admitted(id);
            return Ok(());
        }
        if self.membership.roster.open {
            if self.membership.derived.is_removed(&peer) {
                return Err(DenyReason::Removed);
            }
            return self.admit(id, peer, observed, name, AdmitBy::Member);
        }
        self.make_room_here(observed)?;
        self.cx.push(Output::Admission(id, AdmissionAnswer::Waiting));
        let frame = Frame::Knock { peer, name: name.clone(), words: words.clone(), state: KnockNews::Waiting };
        self.peers.connections.send_to_all(&mut self.cx.out, &frame);
        self.knock(Knocker { peer, name, words, since: self.cx.now.wall, at: KnockedAt::Here(id, observed) });
        Ok(())
    }

    fn admit(
        &mut self,
        id: AdmissionId,
        peer: PeerId,
        observed: Option<SocketAddr>,
        name: String,
        by: AdmitBy,
    ) -> Result<(), DenyReason> {
        chat_proto::text::check_member_name(&name).map_err(|_| DenyReason::BadName)?;
        self.door.admitting.insert(id, (peer, observed));
        if self.drafts.push_control(Control::Admit { peer, name, by }, DraftOrigin::Admission(id)) {
            return Ok(());
        }
        self.door.admitting.remove(&id);
        Err(DenyReason::Busy)
    }

    /// Makes room for a stranger from a network: one whose network has more knocks here is asked to try later.
    fn make_room_here(&mut self, observed: Option<SocketAddr>) -> Result<(), DenyReason> {
        let here = |(id, waiting): (&KnockId, &Knocker)| match waiting.at {
            KnockedAt::Here(_, observed) => Some((*id, observed.map(|addr| network(addr.ip())))),
            KnockedAt::At(_) => None,
        };
        let taken: Vec<_> = self.door.waiting.iter().filter_map(here).collect();
        if taken.len() < KNOCKS_MAX {
            return Ok(());
        }
        let given_up = place_to_give_up(taken, &observed.map(|addr| network(addr.ip()))).ok_or(DenyReason::Busy)?;
        if let Some(waiting) = self.door.waiting.remove(&given_up) {
            if let KnockedAt::Here(admission, _) = waiting.at {
                self.deny(admission, DenyReason::Busy);
            }
            self.knock_is_over(&waiting);
            self.tell_knock(given_up, &waiting, KnockState::Gone);
        }
        Ok(())
    }

    /// Makes room for a knock that a member reports; returns whether there is any.
    fn make_room_for_report(&mut self, member: &PeerId) -> bool {
        let reported = |(id, waiting): (&KnockId, &Knocker)| match waiting.at {
            KnockedAt::At(member) => Some((*id, member)),
            KnockedAt::Here(..) => None,
        };
        let taken: Vec<_> = self.door.waiting.iter().filter_map(reported).collect();
        if taken.len() < REPORTED_MAX {
            return true;
        }
        let Some(given_up) = place_to_give_up(taken, member) else { return false };
        if let Some(waiting) = self.door.waiting.remove(&given_up) {
            self.tell_knock(given_up, &waiting, KnockState::Gone);
        }
        true
    }

    fn knock(&mut self, waiting: Knocker) {
        self.door.next += 1;
        let id = KnockId(self.door.next);
        self.tell_knock(id, &waiting, KnockState::Waiting);
        self.door.waiting.insert(id, waiting);
    }

    fn tell_knock(&mut self, knock: KnockId, waiting: &Knocker, state: KnockState) {
        let (name, words) = (waiting.name.clone(), waiting.words.clone());
        self.cx.push(Output::Publish(Event::Knock { knock, name, words, state }));
    }

    fn deny(&mut self, id: AdmissionId, reason: DenyReason) {
        self.cx.push(Output::Admission(id, AdmissionAnswer::Denied(reason)));
    }

    pub(crate) fn admission_not_ready(&mut self, id: AdmissionId) {
        self.door.admitting.remove(&id);
        self.deny(id, DenyReason::NotReady);
    }

    /// The admission is on disk: the newcomer receives what it needs to begin.
    pub(crate) fn answer_admitted(&mut self, id: AdmissionId) {
        let Some((newcomer, observed)) = self.door.admitting.remove(&id) else { return };
        if !self.membership.roster.is_member(&newcomer) {
            return self.deny(id, DenyReason::UsedUp);
        }
        let own = self.peers.addrs.get(&self.local.me).cloned();
        let online = self.peers.addrs.records().filter(|record| self.peers.presence.is_online(&record.peer));
        let others = self.peers.addrs.records().filter(|record| !self.peers.presence.is_online(&record.peer));
        let members = own.into_iter().chain(
            online
                .chain(others)
                .filter(|record| {
                    record.peer != self.local.me
                        && record.peer != newcomer
                        && self.membership.roster.is_member(&record.peer)
                })
                .cloned(),
        );
        let admitted = Admitted {
            room: self.local.room,
            room_name: self.membership.roster.room_name.clone(),
            open: self.membership.roster.open,
            members: members.take(Admitted::MEMBERS_MAX).collect(),
            observed,
        };
        self.cx.push(Output::Admission(id, AdmissionAnswer::Admitted(admitted)));
    }

    /// A peer was admitted, here or elsewhere: if it waits here, it is answered once the entry is on disk.
    pub(crate) fn admitted_elsewhere(&mut self, peer: PeerId, entry: Dep) {
        for id in self.waiting_ids(|waiting| waiting.peer == peer) {
            let Some(waiting) = self.door.waiting.remove(&id) else { continue };
            if let KnockedAt::Here(admission, observed) = waiting.at {
                self.door.admitting.insert(admission, (peer, observed));
                self.knock_is_over(&waiting);
                self.door.unwritten.push((admission, entry));
            }
            self.tell_knock(id, &waiting, KnockState::Admitted);
        }
    }

    /// Answers strangers whose admission came from elsewhere, now that it is on disk.
    pub(crate) fn answer_delayed_admissions(&mut self) {
        let (written, unwritten) = std::mem::take(&mut self.door.unwritten)
            .into_iter()
            .partition(|(_, entry)| self.heads.durable_seq(&entry.log) >= entry.seq);
        self.door.unwritten = unwritten;
        let written: Vec<(AdmissionId, Dep)> = written;
        for (id, _) in written {
            self.answer_admitted(id);
        }
    }

    /// A member is no longer connected: the knocks that wait at it are unknown.
    pub(crate) fn forget_knocks_at(&mut self, member: &PeerId) {
        for id in self.waiting_ids(|waiting| waiting.at == KnockedAt::At(*member)) {
            if let Some(waiting) = self.door.waiting.remove(&id) {
                self.tell_knock(id, &waiting, KnockState::Gone);
            }
        }
    }

    /// This peer stops: strangers that wait here are sent elsewhere.
    pub(crate) fn close_door(&mut self) {
        for id in self.waiting_ids(|waiting| matches!(waiting.at, KnockedAt::Here(..))) {
            let Some(waiting) = self.door.waiting.remove(&id) else { continue };
            if let KnockedAt::Here(admission, _) = waiting.at {
                self.deny(admission, DenyReason::NotReady);
            }
            self.knock_is_over(&waiting);
            self.tell_knock(id, &waiting, KnockState::Gone);
        }
    }

    pub(crate) fn on_admission_gone(&mut self, admission: AdmissionId) {
        self.door.admitting.remove(&admission);
        for id in self.waiting_ids(|waiting| matches!(waiting.at, KnockedAt::Here(at, _) if at == admission)) {
            if let Some(waiting) = self.door.waiting.remove(&id) {
                self.knock_is_over(&waiting);
                self.tell_knock(id, &waiting, KnockState::Gone);
            }
        }
    }

    fn knock_is_over(&mut self, waiting: &Knocker) {
        let frame = Frame::Knock {
            peer: waiting.peer,
            name: waiting.name.clone(),
            words: waiting.words.clone(),
            state: KnockNews::Over,
        };
        self.peers.connections.send_to_all(&mut self.cx.out, &frame);
    }

    /// Sends the knocks that wait here to a new neighbour.
    pub(crate) fn send_knocks(&mut self, to: &PeerId) {
        let here = |w: &&Knocker| matches!(w.at, KnockedAt::Here(..));
        let frames: Vec<Frame> = self
            .door
            .waiting
            .values()
            .filter(here)
            .map(|w| Frame::Knock {
                peer: w.peer,
                name: w.name.clone(),
                words: w.words.clone(),
                state: KnockNews::Waiting,
            })
            .collect();
        for frame in frames {
            self.peers.connections.send(&mut self.cx.out, to, &frame);
        }
    }

    /// Another member reports a stranger that waits at it, or refuses one that waits here.
    pub(crate) fn on_knock_news(
        &mut self,
        from: PeerId,
        stranger: PeerId,
        name: String,
        words: String,
        news: KnockNews,
    ) {
        let at_door = |w: &Knocker| w.peer == stranger && w.at == KnockedAt::At(from);
        match news {
            KnockNews::Waiting => {
                let known = self.door.waiting.values().any(at_door);
                let allowed = chat_proto::text::check_recorded_name("name", &name).is_ok() && words.len() <= 64;
                let stranger_waits = !known && allowed && !self.membership.roster.is_member(&stranger);
                if stranger_waits && self.make_room_for_report(&from) {
                    self.knock(Knocker {
                        peer: stranger,
                        name,
                        words,
                        since: self.cx.now.wall,
                        at: KnockedAt::At(from),
                    });
                }
            }
            KnockNews::Over => {
                for id in self.waiting_ids(at_door) {
                    if let Some(waiting) = self.door.waiting.remove(&id) {
                        let member = self.membership.roster.is_member(&stranger);
                        let state = if member { KnockState::Admitted } else { KnockState::Gone };
                        self.tell_knock(id, &waiting, state);
                    }
                }
            }
            KnockNews::Denied if !self.is_admin(&from) => {
                tracing::debug!(remote = %from.short(), "only an admin refuses a knock at another member's door");
            }
            KnockNews::Denied => {
                let here = |w: &Knocker| w.peer == stranger && matches!(w.at, KnockedAt::Here(..));
                for id in self.waiting_ids(here) {
                    self.refuse_knock(id);
                }
            }
        }
    }

    fn is_admin(&self, member: &PeerId) -> bool {
        self.membership.roster.people.get(member).is_some_and(|person| person.role == MemberRole::Admin)
    }

    fn waiting_ids(&self, matches: impl Fn(&Knocker) -> bool) -> Vec<KnockId> {
        self.door.waiting.iter().filter(|(_, waiting)| matches(waiting)).map(|(id, _)| *id).collect()
    }

    fn refuse_knock(&mut self, id: KnockId) {
        let Some(waiting) = self.door.waiting.remove(&id) else { return };
        match waiting.at {
            KnockedAt::Here(admission, _) => {
                self.deny(admission, DenyReason::Refused);
                self.knock_is_over(&waiting);
            }
            KnockedAt::At(member) => {
                let frame = Frame::Knock {
                    peer: waiting.peer,
                    name: waiting.name.clone(),
                    words: waiting.words.clone(),
                    state: KnockNews::Denied,
                };
                self.peers.connections.send(&mut self.cx.out, &member, &frame);
            }
        }
        self.tell_knock(id, &waiting, KnockState::Denied);
    }

    /// `chat admit` and `chat deny`.
    pub(crate) fn answer_knock(
        &mut self,
        command: CommandId,
        id: KnockId,
        verdict: Verdict,
    ) -> Result<(), CommandError> {
        self.membership.may_write(self.local)?;
        let waiting = self.door.waiting.get(&id).ok_or(CommandError::UnknownKnock)?;
        let (peer, name) = (waiting.peer, waiting.name.clone());
        match verdict {
            Verdict::Yes => {
                if self.membership.derived.is_removed(&peer) && !self.is_admin(&self.local.me) {
                    return Err(CommandError::Removed);
                }
                let admit = Control::Admit { peer, name, by: AdmitBy::Member };
                let queued = self.drafts.push_control(admit, DraftOrigin::Control(command));
                if queued { Ok(()) } else { Err(CommandError::Busy) }
            }
            Verdict::No => {
                if matches!(waiting.at, KnockedAt::At(_)) && !self.is_admin(&self.local.me) {
                    return Err(CommandError::NotThisDoor);
                }
                self.refuse_knock(id);
                self.cx.reply(command, Ok(Reply::Done));
                Ok(())
            }
        }
    }
}

/// Whether signatures of a key prove nothing.
fn is_weak(peer: &PeerId) -> bool {
    VerifyingKey::from_bytes(peer.as_bytes()).is_ok_and(|key| key.is_weak())
}
