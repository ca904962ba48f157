//! The rendezvous role inside the node: passes inputs to it and carries out its outputs.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::event::Event;
use chat_proto::id::PeerId;

use crate::input::{CommandId, Now};
use crate::node::Node;
use crate::node::timers::Timer;
use crate::output::{CloseReason, Output, Relays, Reply};
use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::{FrameChannel, RoleInput, RoleOutput};
use crate::rendezvous::query::RoleQuery;
use crate::rendezvous::settings::RoleSettings;
use crate::types::Change;
use crate::wire::Frame;
use rand::RngExt;

/// Longest time that handing the role over may hold up a stop.
const RELEASE_MAX: Duration = Duration::from_millis(1_200);

/// Maximum number of members whose relay is tried: the holder and its list, then some of all members.
const RELAYS_MAX: usize = 16;

/// How far this peer is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handover {
    /// The role is being handed over.
    UnderWay,
    /// It is in other hands.
    Done,
    /// Time is up.
    Overdue,
}

/// This peer's part in the role and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Role {
    rendezvous: Option<Rendezvous>,
    keep: BTreeSet<PeerId>,
    /// Whose relay is used, as it was said last.
    relays: Relays,
    stop: Option<(CommandId, Handover)>,
}

impl Node {
    /// Begins to take part, once the room is known.
    pub(super) fn begin_role(&mut self, settings: RoleSettings, now: Now) {
        let seed = self.rng.random();
        self.role.rendezvous = Some(Rendezvous::new(self.local.room, self.local.key.clone(), settings, seed, now));
        self.role_members(now);
        self.tell_role(RoleInput::Addrs(self.peers.own_addrs.clone()), now);
    }

    /// The role as this peer knows it.
    pub(super) fn rendezvous(&self) -> Option<RoleQuery<'_>> {
        self.role.rendezvous.as_ref().map(Rendezvous::query)
    }

    /// Whether the role needs a connection to a peer.
    pub(super) fn role_needs(&self, peer: &PeerId) -> bool {
        self.role.keep.contains(peer)
    }

    /// Tells the role that something happened, and does what it wants.
    pub(super) fn tell_role(&mut self, input: RoleInput, now: Now) {
        let Some(rendezvous) = self.role.rendezvous.as_mut() else { return };
        rendezvous.handle(input, now);
        while let Some(output) = self.role.rendezvous.as_mut().and_then(Rendezvous::poll_output) {
            self.role_wants(output, now);
        }
        match self.role.rendezvous.as_ref().and_then(Rendezvous::poll_timeout) {
            Some(at) => self.timers.set(Timer::Role, at),
            None => self.timers.cancel(Timer::Role),
        }
        self.relays_changed(now);
    }

    /// Says whose relay is to be used, when that or where they are has changed.
    pub(super) fn relays_changed(&mut self, now: Now) {
        let Some(rendezvous) = self.rendezvous() else { return };
        let mut order = rendezvous.relays(now.mono);
        // Every member may run a relay, or show by its absence which one does: all are tried in the end, also by peers
        // that know no holder.
        let others = self.peers.addrs.records().map(|record| record.peer);
        let others = others
            .filter(|peer| *peer != self.local.me && self.membership.roster.is_member(peer) && !order.contains(peer));
        let others: Vec<PeerId> = others.take(RELAYS_MAX.saturating_sub(order.len())).collect();
        let alone = self.peers.connections.connected_ids().is_empty();
        // Without any connection, this peer's own relay is the last.
        let own = order.iter().position(|peer| *peer == self.local.me).filter(|_| alone).unwrap_or(order.len());
        order.splice(own..own, others);
        order.truncate(RELAYS_MAX);
        let doubted = rendezvous.doubted_relay();
        let order = order.into_iter().map(|peer| (peer, self.peers.addrs.addrs(&peer))).collect();
        let relays = Relays { order, doubted };
        if relays != self.role.relays {
            self.role.relays = relays.clone();
            self.out.push_back(Output::Relays(relays));
        }
    }

    fn role_wants(&mut self, output: RoleOutput, now: Now) {
        match output {
            RoleOutput::Send { to, frame, delivery } => self.role_sends(to, frame.to_vec(), delivery),
            RoleOutput::Net(request) => {
                let addrs = request.target().map(|peer| self.peers.addrs.addrs(&peer)).unwrap_or_default();
                self.out.push_back(Output::Role(request, addrs));
            }
            RoleOutput::Keep(peers) => {
                self.role.keep.clone_from(&peers);
                for peer in peers {
                    self.consider_dialling(peer, now);
                }
            }
            RoleOutput::Vacant { holder, .. } => self.doubt_pulse(&holder, now),
            // What follows from it for the relays is worked out after every input.
            RoleOutput::Back { .. } => {}
            RoleOutput::Changed(change) => self.role_moved(&change, now),
            RoleOutput::Released => self.released(),
            RoleOutput::Fault(peer, fault) => {
                tracing::warn!(%fault, remote = %peer.short(), "bad frame of the role");
                self.break_with(peer, CloseReason::Protocol, now);
            }
        }
    }

    fn role_sends(&mut self, to: Vec<PeerId>, frame: Vec<u8>, delivery: FrameChannel) {
        let Ok(frame) = Frame::Role(frame).encode() else { return };
        for peer in to.into_iter().filter(|peer| self.peers.connections.is_connected(peer)) {
            self.out.push_back(match delivery {
                FrameChannel::Stream => Output::Send(peer, frame.clone()),
                FrameChannel::Datagram => Output::Datagram(peer, frame.clone()),
            });
        }
    }

    fn role_moved(&mut self, change: &Change, now: Now) {
        if let Some(before) = change.from.filter(|_| change.reason.is_failure()) {
            self.doubt_pulse(&before, now);
        }
        let (from, to) = (change.from.map(|peer| peer.short()), change.to.short());
        tracing::info!(term = change.term.0, ?from, %to, reason = ?change.reason, "the rendezvous role moved");
        self.out.push_back(Output::Publish(Event::Rendezvous { change: change.to_api(&self.membership.roster) }));
    }

    /// The members, as the role has to know them.
    pub(super) fn role_members(&mut self, now: Now) {
        let ids = |active: bool| {
            self.membership
                .roster
                .people
                .values()
                .filter(move |person| person.active == active)
                .map(|person| person.peer.id)
        };
        let input = RoleInput::Members { active: ids(true).collect(), former: ids(false).collect() };
        self.tell_role(input, now);
    }

    /// Hands the role over before this peer stops; the command is answered when that is done.
    pub(super) fn release_role(&mut self, command: CommandId, now: Now) {
        self.role.stop = Some((command, Handover::UnderWay));
        self.timers.set(Timer::Release, now.mono + RELEASE_MAX);
        self.tell_role(RoleInput::Leave, now);
    }

    /// The role is in other hands.
    fn released(&mut self) {
        if let Some((_, handover)) = &mut self.role.stop {
            *handover = Handover::Done;
        }
        self.finish_stop();
    }

    /// Handing the role over, or the disk, takes too long.
    pub(super) fn release_overdue(&mut self) {
        if let Some((_, handover)) = &mut self.role.stop {
            *handover = Handover::Overdue;
        }
        self.finish_stop();
    }

    /// Says goodbye once the role is handed over and no own entry is being written.
    pub(super) fn finish_stop(&mut self) {
        let Some((command, handover)) = self.role.stop else { return };
        let ready = match handover {
            Handover::UnderWay => false,
            Handover::Done => !self.logs.disk.writes_own(),
            Handover::Overdue => true,
        };
        if ready {
            self.role.stop = None;
            self.timers.cancel(Timer::Release);
            self.say_goodbye();
            self.out.push_back(Output::Reply(command, Ok(Reply::Done)));
        }
    }
}
