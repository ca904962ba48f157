//! The connections that stand and the dials under way, one slot for each peer.
//!
//! The decisions are made under one short lock that is never held across an await; the tasks of `peer` and `dial` carry
//! them out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chat_proto::id::PeerId;
use tokio_util::sync::CancellationToken;

use crate::net::gate::Gate;
use crate::net::transport::close::DownReason;
use crate::net::transport::close::Stop;
use crate::net::transport::tie_break::{
    DialSeq, Dialler, Greeting, Prefer, Process, Standing, Welcome, prefer_accepted, prefer_dialled,
};

/// Most connections of one peer that have not ended: the one that stands and some that end or take its place. A member
/// that dials faster than its old connections end is refused.
const LINKS_PER_PEER_MAX: usize = 4;

/// All connections and dials.
#[derive(Debug)]
pub(crate) struct Links {
    me: PeerId,
    process: Process,
    dials: AtomicU64,
    ids: AtomicU64,
    slots: Mutex<HashMap<PeerId, Slot>>,
}

/// What is known of one peer. Slots are made for members only and dropped when a peer is no longer one, so that there
/// are never more than members.
#[derive(Debug, Default)]
struct Slot {
    /// The connection that was decided for last and has not ended.
    standing: Option<Kept>,
    /// The dial under way.
    dial: Option<Dialling>,
    /// Newest dial accepted from the peer, and its process.
    accepted: Option<(Process, DialSeq)>,
    /// Fires when the last connection has said `Down`; the next one says `Up` after that.
    last_done: Option<CancellationToken>,
    /// Connections that have not ended.
    alive: usize,
}

#[derive(Debug)]
struct Kept {
    id: LinkId,
    facts: Standing,
    stop: Stop,
}

/// A dial under way.
#[derive(Clone, Debug)]
pub(crate) struct Dialling {
    pub(crate) seq: DialSeq,
    /// What to greet with.
    pub(crate) greeting: Greeting,
    /// Gives up.
    pub(crate) cancel: CancellationToken,
    /// Fires when the dial has ended in one way or another.
    done: CancellationToken,
}

/// Names a connection within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LinkId(u64);

/// The right to carry a connection, in its turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) id: LinkId,
    /// Ends the connection.
    pub(crate) stop: Stop,
    /// Fires when the connection before it has said `Down`.
    pub(crate) before: Option<CancellationToken>,
    /// To fire when this one has.
    pub(crate) done: CancellationToken,
}

/// What to do with a connection that the peer dialled.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// Welcome it.
    Keep(Turn),
    /// Another one stands, or is as good as there.
    Duplicate,
    /// A dial of ours is under way and goes first: look again when it has ended.
    AfterDial(CancellationToken),
    /// The peer is not a member.
    NotMember,
    /// Too many of its connections have not ended.
    Busy,
}

/// What becomes of a dial that was welcomed.
#[derive(Debug)]
pub(crate) enum Dialled {
    /// Carry it.
    Keep(Turn),
    /// Another connection stands.
    Duplicate,
    /// The peer is no longer a member, or too many of its connections have not ended.
    Failed,
}

/// Whether an accepted connection waits for a dial of ours that goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Once.
    Wait,
    /// No longer.
    Over,
}

impl Links {
    pub(crate) fn new(me: PeerId, process: Process) -> Self {
        Self { me, process, dials: AtomicU64::new(1), ids: AtomicU64::new(1), slots: Mutex::default() }
    }

    pub(crate) fn welcome(&self) -> Welcome {
        Welcome(self.process)
    }

    /// Begins a dial; `None` when a connection stands or a dial is under way.
    pub(crate) fn begin_dial(&self, peer: PeerId) -> Option<Dialling> {
        let mut slots = self.lock();
        let slot = slots.entry(peer).or_default();
        if slot.standing.is_some() || slot.dial.is_some() {
            return None;
        }
        let seq = DialSeq(self.dials.fetch_add(1, Ordering::Relaxed));
        let greeting = Greeting { process: self.process, dial: seq, accepted: slot.accepted };
        let dial = Dialling { seq, greeting, cancel: CancellationToken::new(), done: CancellationToken::new() };
        slot.dial = Some(dial.clone());
        Some(dial)
    }

    /// The dial failed. Says whether nothing else stands, so that the failure is worth telling.
    pub(crate) fn dial_failed(&self, peer: &PeerId) -> bool {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(peer) else { return true };
        slot.end_dial();
        slot.standing.is_none()
    }

    /// The dial was welcomed: the connection is kept, unless one that was accepted meanwhile goes first.
    pub(crate) fn dialled(&self, gate: &Gate, peer: PeerId, seq: DialSeq, welcome: Welcome) -> Dialled {
        let mut slots = self.lock();
        let slot = slots.entry(peer).or_default();
        slot.end_dial();
        if let Some(kept) = &slot.standing
            && prefer_dialled(&self.me, &peer, &kept.facts, welcome) == Prefer::Standing
        {
            return Dialled::Duplicate;
        }
        // Under the same lock as `sweep`: a removal is seen here or closes the connection there.
        if !gate.admits(&peer) || slot.alive >= LINKS_PER_PEER_MAX {
            return if slot.standing.is_some() { Dialled::Duplicate } else { Dialled::Failed };
        }
        Dialled::Keep(self.keep(slot, Standing { process: welcome.0, dialler: Dialler::Me, dial: seq }))
    }

    /// Decides about a connection that the peer dialled.
    pub(crate) fn accept(&self, gate: &Gate, peer: PeerId, greeting: &Greeting, patience: Patience) -> Accepted {
        let mut slots = self.lock();
        if !gate.admits(&peer) {
            return Accepted::NotMember;
        }
        let slot = slots.entry(peer).or_default();
        if let Some(kept) = &slot.standing {
            let me = (&self.me, self.process);
            if prefer_accepted(me, &peer, &kept.facts, greeting) == Prefer::Standing {
                return Accepted::Duplicate;
            }
        } else if let Some(dial) = &slot.dial
            && self.me < peer
            && patience == Patience::Wait
        {
            return Accepted::AfterDial(dial.done.clone());
        }
        if slot.alive >= LINKS_PER_PEER_MAX {
            return Accepted::Busy;
        }
        slot.accepted = Some((greeting.process, greeting.dial));
        let facts = Standing { process: greeting.process, dialler: Dialler::Peer, dial: greeting.dial };
        Accepted::Keep(self.keep(slot, facts))
    }

    /// The connection is over and about to say `Down`: a dial may begin from now on.
    pub(crate) fn ended(&self, peer: &PeerId, id: LinkId) {
        if let Some(slot) = self.lock().get_mut(peer) {
            slot.alive = slot.alive.saturating_sub(1);
            if slot.standing.as_ref().is_some_and(|kept| kept.id == id) {
                slot.standing = None;
            }
        }
    }

    /// Ends the connection and the dial of a peer.
    pub(crate) fn stop(&self, peer: &PeerId, reason: DownReason) {
        if let Some(slot) = self.lock().get(peer) {
            slot.stop(reason);
        }
    }

    /// How many connections stand.
    pub(crate) fn standing_count(&self) -> usize {
        self.lock().values().filter(|slot| slot.standing.is_some()).count()
    }

    /// Ends everything.
    pub(crate) fn stop_all(&self, reason: DownReason) {
        self.lock().values().for_each(|slot| slot.stop(reason));
    }

    /// Ends the connections of those whom the gate no longer admits, and forgets them once nothing is left of them.
    pub(crate) fn sweep(&self, gate: &Gate) {
        self.lock().retain(|peer, slot| {
            let admitted = gate.admits(peer);
            if !admitted {
                slot.stop(DownReason::Closed(chat_core::output::CloseReason::NotMember));
            }
            admitted || slot.standing.is_some() || slot.dial.is_some() || slot.alive > 0
        });
    }

    /// Fires when the dial under way has ended.
    #[cfg(test)]
    pub(crate) fn dial_end(&self, peer: &PeerId) -> Option<CancellationToken> {
        self.lock().get(peer)?.dial.as_ref().map(|dial| dial.done.clone())
    }

    /// The connection that was decided for.
    #[cfg(test)]
    pub(crate) fn standing(&self, peer: &PeerId) -> Option<Standing> {
        self.lock().get(peer)?.standing.as_ref().map(|kept| kept.facts)
    }

    fn keep(&self, slot: &mut Slot, facts: Standing) -> Turn {
        let id = LinkId(self.ids.fetch_add(1, Ordering::Relaxed));
        let stop = Stop::default();
        if let Some(old) = slot.standing.replace(Kept { id, facts, stop: stop.clone() }) {
            old.stop.request(DownReason::Replaced);
        }
        slot.alive += 1;
        let done = CancellationToken::new();
        let before = slot.last_done.replace(done.clone());
        Turn { id, stop, before, done }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Slot>> {
        // A panic while holding the lock leaves whole slots behind: every change is a single step.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn end_dial(&mut self) {
        if let Some(dial) = self.dial.take() {
            dial.done.cancel();
        }
    }

    fn stop(&self, reason: DownReason) {
        if let Some(kept) = &self.standing {
            kept.stop.request(reason);
        }
        if let Some(dial) = &self.dial {
            dial.cancel.cancel();
        }
    }
}
