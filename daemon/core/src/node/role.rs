//! The rendezvous role inside the node: passes inputs to it and carries out its outputs.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::event::Event;
use chat_proto::id::PeerId;
use rand::RngExt;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::input::CommandId;
use crate::log::local::Local;
use crate::membership::roster::Roster;
use crate::node::Node;
use crate::output::{CloseReason, Output, Relays, Reply};
use crate::peers::Peers;
use crate::peers::connections::Connections;
use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::{FrameChannel, RoleInput, RoleOutput};
use crate::rendezvous::query::RoleQuery;
use crate::types::Change;
use crate::wire::Frame;

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
    /// Peers to which the role needs a connection.
    pub(super) keep: BTreeSet<PeerId>,
    /// Whose relay is used, as the daemon knows it.
    relays: Relays,
    stop: Option<(CommandId, Handover)>,
}

impl Role {
    /// Begins to take part, once the room is known.
    pub(super) fn begin(&mut self, local: &Local, cx: &mut NodeContext) {
        let (seed, settings) = (cx.rng.random(), cx.settings.role.clone());
        self.rendezvous = Some(Rendezvous::new(local.room, local.key.clone(), settings, seed, cx.now));
    }

    /// The role as this peer knows it.
    pub(super) fn query(&self) -> Option<RoleQuery<'_>> {
        self.rendezvous.as_ref().map(Rendezvous::query)
    }

    fn poll_output(&mut self) -> Option<RoleOutput> {
        self.rendezvous.as_mut()?.poll_output()
    }

    /// Reports whose relay is to be used, when that or where they are has changed.
    pub(super) fn update_relays(&mut self, local: &Local, roster: &Roster, peers: &Peers, cx: &mut NodeContext) {
        let Some(rendezvous) = self.query() else { return };
        let me = local.me;
        let mut order = rendezvous.relays(cx.now.mono);
        // Every member may run a relay, or show by its absence which one does: all are tried in the end, also by peers
        // that know no holder.
        let others = peers.addrs.records().map(|record| record.peer);
        // A newcomer knows no members yet, only those that the one that admitted it named.
        let newcomer = !roster.is_member(&me);
        let others = others.filter(|peer| *peer != me && (newcomer || roster.is_member(peer)) && !order.contains(peer));
        let others: Vec<PeerId> = others.take(RELAYS_MAX.saturating_sub(order.len())).collect();
        let alone = peers.connections.connected().next().is_none();
        // Without any connection, this peer's own relay is the last.
        let own = order.iter().position(|peer| *peer == me).filter(|_| alone).unwrap_or(order.len());
        order.splice(own..own, others);
        order.truncate(RELAYS_MAX);
        let doubted = rendezvous.doubted_relay();
        let order = order.into_iter().map(|peer| (peer, peers.addrs.addrs(&peer))).collect();
        let relays = Relays { order, doubted };
        if relays != self.relays {
            self.relays = relays.clone();
            cx.push(Output::Relays(relays));
        }
    }

    /// Hands the role over before this peer stops; the command is answered when that is done.
    pub(super) fn release(&mut self, command: CommandId, cx: &mut NodeContext) {
        self.stop = Some((command, Handover::UnderWay));
        cx.set(Timer::Release, RELEASE_MAX);
    }

    /// Handing the role over, or the disk, takes too long.
    pub(super) fn release_overdue(&mut self) {
        self.advance(Handover::Overdue);
    }

    fn advance(&mut self, handover: Handover) {
        if let Some((_, stop)) = &mut self.stop {
            *stop = handover;
        }
    }
}

impl Node {
    /// Reports to the role that something happened, and does what it wants.
    pub(super) fn tell_role(&mut self, input: RoleInput) {
        let Some(rendezvous) = &mut self.role.rendezvous else { return };
        rendezvous.handle(input, self.cx.now);
        while let Some(output) = self.role.poll_output() {
            self.carry_out(output);
        }
        self.cx.set_at(Timer::Role, self.role.rendezvous.as_ref().and_then(Rendezvous::poll_timeout));
        self.role.update_relays(&self.local, &self.membership.roster, &self.peers, &mut self.cx);
    }

    fn carry_out(&mut self, output: RoleOutput) {
        match output {
            RoleOutput::Send { to, frame, delivery } => {
                send(&to, frame.to_vec(), delivery, &self.peers.connections, &mut self.cx);
            }
            RoleOutput::Net(request) => {
                let addrs = request.target().map(|peer| self.peers.addrs.addrs(&peer)).unwrap_or_default();
                self.cx.push(Output::Role(request, addrs));
            }
            RoleOutput::Keep(peers) => {
                self.role.keep.clone_from(&peers);
                for peer in peers {
                    self.dials().consider(peer);
                }
            }
            RoleOutput::Vacant { holder, .. } => {
                self.peers.suspect(&holder, &mut self.cx);
                self.dissemination().seek_soon();
            }
            // What follows from it for the relays is worked out after every input.
            RoleOutput::Back { .. } => {}
            RoleOutput::Changed(change) => self.role_moved(&change),
            RoleOutput::Released => {
                self.role.advance(Handover::Done);
                self.finish_stop();
            }
            RoleOutput::Fault(peer, fault) => {
                tracing::warn!(%fault, remote = %peer.short(), "bad frame of the role");
                self.break_with(peer, CloseReason::Protocol);
            }
        }
    }

    fn role_moved(&mut self, change: &Change) {
        if let Some(before) = change.from.filter(|_| change.reason.is_failure()) {
            self.peers.suspect(&before, &mut self.cx);
        }
        let (from, to) = (change.from.map(|peer| peer.short()), change.to.short());
        self.announce_observed(&change.to);
        tracing::info!(term = change.term.0, ?from, %to, reason = ?change.reason, "the rendezvous role moved");
        self.cx.push(Output::Publish(Event::Rendezvous { change: change.to_api(&self.membership.roster) }));
    }

    /// Reports the members to the role.
    pub(super) fn tell_role_members(&mut self) {
        let (active, former): (Vec<_>, Vec<_>) =
            self.membership.roster.people.values().partition(|person| person.active);
        let [active, former] = [active, former].map(|people| people.iter().map(|person| person.peer.id).collect());
        self.tell_role(RoleInput::Members { active, former });
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
            self.cx.timers.cancel(Timer::Release);
            self.peers.connections.send_to_all(&mut self.cx.out, &Frame::Bye);
            self.cx.reply(command, Ok(Reply::Done));
        }
    }
}

/// Sends a frame of the role to those peers that are connected.
fn send(to: &[PeerId], frame: Vec<u8>, channel: FrameChannel, connections: &Connections, cx: &mut NodeContext) {
    let Ok(frame) = Frame::Role(frame).encode() else { return };
    for peer in to.iter().filter(|peer| connections.is_connected(peer)) {
        cx.push(match channel {
            FrameChannel::Stream => Output::Send(*peer, frame.clone()),
            FrameChannel::Datagram => Output::Datagram(*peer, frame.clone()),
        });
    }
}
