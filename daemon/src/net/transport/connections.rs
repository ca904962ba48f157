//! The open connections and the dials in progress, one slot for each peer.
//!
//! At most one connection per member is current; the newest decision wins, by the rules of `tie_break`. The tasks of
//! `dial`, `accept` and `connection` ask here and carry the decisions out: [`ConnectionTable::begin_dial`] before a dial,
//! [`ConnectionTable::dialled`] and [`ConnectionTable::accept`] when a connection was made, [`ConnectionTable::ended`]
//! when it is over.
//!
//! Invariants: decisions are made under one short lock that is never held across an await. A connection reports `Up` only
//! after the one before it has reported `Down` ([`CarryPermit::before`]). Slots exist for members only, and a slot has a
//! bounded number of connections that have not ended, so the table is as small as the room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat_core::output::CloseReason;
use chat_proto::id::PeerId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::net::gate::Gate;
use crate::net::tcp::forwarder::direct_peers::DirectPeers;
use crate::net::transport::close::{CloseRequest, DownReason};
use crate::net::transport::tie_break::{
    DialSeq, Dialler, Established, Greeting, Prefer, ProcessId, Welcome, prefer_accepted, prefer_dialled,
};

/// Maximum number of connections of one peer that have not ended: the current one and some that are ending or replacing
/// it. A member that dials faster than its old connections end is refused.
const CONNECTIONS_PER_PEER_MAX: usize = 4;

/// Maximum bytes of frames that were read and not yet handled, of all peers together (64 MiB): above it, reading pauses.
const INBOUND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// All connections and dials.
#[derive(Debug)]
pub(crate) struct ConnectionTable {
    me: PeerId,
    process: ProcessId,
    dials: AtomicU64,
    ids: AtomicU64,
    slots: Mutex<HashMap<PeerId, PeerSlot>>,
    /// Bytes of frames that may still be read.
    pub(crate) inbound: Arc<Semaphore>,
    /// Peers with a direct path.
    pub(crate) direct: Arc<DirectPeers>,
    queue_drops: AtomicU64,
}

/// The connections and the dial of one peer. Slots are made for members only and dropped when a peer is no longer one.
#[derive(Debug, Default)]
struct PeerSlot {
    /// The connection that was decided for last, unless it has ended.
    current: Option<CurrentConnection>,
    /// The dial in progress.
    dial: Option<Dialling>,
    /// Newest dial accepted from the peer, with its process.
    accepted: Option<(ProcessId, DialSeq)>,
    /// Fires when the last connection has reported `Down`; the next one reports `Up` after that.
    last_done: Option<CancellationToken>,
    /// Number of connections that have not ended.
    alive: usize,
}

#[derive(Debug)]
struct CurrentConnection {
    id: ConnectionSeq,
    facts: Established,
    close: CloseRequest,
}

/// A dial in progress.
#[derive(Clone, Debug)]
pub(crate) struct Dialling {
    pub(crate) seq: DialSeq,
    /// Its first bytes.
    pub(crate) greeting: Greeting,
    /// Gives the dial up.
    pub(crate) cancel: CancellationToken,
    /// Fires when the dial has ended, with or without success.
    done: CancellationToken,
}

/// Number of a connection within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionSeq(u64);

/// The right to carry one connection, after the one before it.
#[derive(Debug)]
pub(crate) struct CarryPermit {
    pub(crate) id: ConnectionSeq,
    /// Closes the connection.
    pub(crate) close: CloseRequest,
    /// Fires when the connection before it has reported `Down`.
    pub(crate) before: Option<CancellationToken>,
    /// To fire when this one has reported `Down`.
    pub(crate) done: CancellationToken,
}

/// Decision about a connection that the peer dialled.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// Welcome it.
    Keep(CarryPermit),
    /// Another one is current.
    Duplicate,
    /// A dial of ours is in progress and has priority: ask again when it has ended.
    AfterDial(CancellationToken),
    /// The peer is not a member.
    NotMember,
    /// Too many of its connections have not ended.
    Busy,
}

/// Decision about a dial that was welcomed.
#[derive(Debug)]
pub(crate) enum Dialled {
    /// Carry it.
    Keep(CarryPermit),
    /// Another connection is current.
    Duplicate,
    /// The peer is no longer a member, or too many of its connections have not ended.
    Failed,
}

/// Whether an accepted connection waits for a dial of ours that has priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Once.
    Wait,
    /// No longer.
    Over,
}

impl ConnectionTable {
    pub(crate) fn new(me: PeerId, direct: Arc<DirectPeers>) -> Self {
        Self {
            me,
            process: ProcessId(rand::random()),
            dials: AtomicU64::new(1),
            ids: AtomicU64::new(1),
            slots: Mutex::default(),
            inbound: Arc::new(Semaphore::new(INBOUND_BYTES_MAX)),
            direct,
            queue_drops: AtomicU64::new(0),
        }
    }

    /// The answer to a greeting whose connection is current.
    pub(crate) fn welcome(&self) -> Welcome {
        Welcome(self.process)
    }

    /// Starts a dial; `None` when a connection is open or a dial is in progress.
    pub(crate) fn begin_dial(&self, peer: PeerId) -> Option<Dialling> {
        let mut slots = self.lock();
        let slot = slots.entry(peer).or_default();
        if slot.current.is_some() || slot.dial.is_some() {
            return None;
        }
        let seq = DialSeq(self.dials.fetch_add(1, Ordering::Relaxed));
        let greeting = Greeting { process: self.process, dial: seq, accepted: slot.accepted };
        let dial = Dialling { seq, greeting, cancel: CancellationToken::new(), done: CancellationToken::new() };
        slot.dial = Some(dial.clone());
        Some(dial)
    }

    /// Ends a dial that failed. Returns whether no other connection is open, so that the failure must be reported.
    pub(crate) fn dial_failed(&self, peer: &PeerId) -> bool {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(peer) else { return true };
        slot.end_dial();
        slot.current.is_none()
    }

    /// Ends a dial that was welcomed and keeps its connection, unless one that was accepted meanwhile is preferred.
    pub(crate) fn dialled(&self, gate: &Gate, peer: PeerId, seq: DialSeq, welcome: Welcome) -> Dialled {
        let mut slots = self.lock();
        let slot = slots.entry(peer).or_default();
        slot.end_dial();
        if let Some(current) = &slot.current
            && prefer_dialled(&self.me, &peer, &current.facts, welcome) == Prefer::Old
        {
            return Dialled::Duplicate;
        }
        // Under the same lock as `sweep`: a removal is either seen here or closes the connection there.
        if !gate.admits(&peer) || slot.alive >= CONNECTIONS_PER_PEER_MAX {
            return if slot.current.is_some() { Dialled::Duplicate } else { Dialled::Failed };
        }
        Dialled::Keep(self.keep(slot, Established { process: welcome.0, dialler: Dialler::Me, dial: seq }))
    }

    /// Decides about a connection that the peer dialled.
    pub(crate) fn accept(&self, gate: &Gate, peer: PeerId, greeting: &Greeting, patience: Patience) -> Accepted {
        let mut slots = self.lock();
        if !gate.admits(&peer) {
            return Accepted::NotMember;
        }
        let slot = slots.entry(peer).or_default();
        if let Some(current) = &slot.current {
            let me = (&self.me, self.process);
            if prefer_accepted(me, &peer, &current.facts, greeting) == Prefer::Old {
                return Accepted::Duplicate;
            }
        } else if let Some(dial) = &slot.dial
            && self.me < peer
            && patience == Patience::Wait
        {
            return Accepted::AfterDial(dial.done.clone());
        }
        if slot.alive >= CONNECTIONS_PER_PEER_MAX {
            return Accepted::Busy;
        }
        slot.accepted = Some((greeting.process, greeting.dial));
        let facts = Established { process: greeting.process, dialler: Dialler::Peer, dial: greeting.dial };
        Accepted::Keep(self.keep(slot, facts))
    }

    /// Removes a connection that is about to report `Down`: a dial may start from now on.
    pub(crate) fn ended(&self, peer: &PeerId, id: ConnectionSeq) {
        if let Some(slot) = self.lock().get_mut(peer) {
            slot.alive = slot.alive.saturating_sub(1);
            if slot.current.as_ref().is_some_and(|current| current.id == id) {
                slot.current = None;
            }
        }
    }

    /// Closes the connection of a peer and cancels its dial.
    pub(crate) fn close(&self, peer: &PeerId, reason: DownReason) {
        if let Some(slot) = self.lock().get(peer) {
            slot.close(reason);
        }
    }

    /// Number of open connections.
    pub(crate) fn open_count(&self) -> usize {
        self.lock().values().filter(|slot| slot.current.is_some()).count()
    }

    /// Counts a connection that was dropped because its queue was full.
    pub(crate) fn count_queue_drop(&self) {
        self.queue_drops.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of connections dropped since the start because their queue was full.
    pub(crate) fn queue_drops(&self) -> u64 {
        self.queue_drops.load(Ordering::Relaxed)
    }

    /// Closes all connections and cancels all dials.
    pub(crate) fn close_all(&self, reason: DownReason) {
        self.lock().values().for_each(|slot| slot.close(reason));
    }

    /// Closes the connections of peers that the gate no longer admits, and drops their slots once these are empty.
    pub(crate) fn sweep(&self, gate: &Gate) {
        self.lock().retain(|peer, slot| {
            let admitted = gate.admits(peer);
            if !admitted {
                slot.close(DownReason::Closed(CloseReason::NotMember));
            }
            admitted || slot.current.is_some() || slot.dial.is_some() || slot.alive > 0
        });
    }

    /// Fires when the dial in progress has ended.
    #[cfg(test)]
    pub(crate) fn dial_end(&self, peer: &PeerId) -> Option<CancellationToken> {
        self.lock().get(peer)?.dial.as_ref().map(|dial| dial.done.clone())
    }

    /// The current connection.
    #[cfg(test)]
    pub(crate) fn current(&self, peer: &PeerId) -> Option<Established> {
        self.lock().get(peer)?.current.as_ref().map(|current| current.facts)
    }

    fn keep(&self, slot: &mut PeerSlot, facts: Established) -> CarryPermit {
        let id = ConnectionSeq(self.ids.fetch_add(1, Ordering::Relaxed));
        let close = CloseRequest::default();
        if let Some(old) = slot.current.replace(CurrentConnection { id, facts, close: close.clone() }) {
            old.close.request(DownReason::Replaced);
        }
        slot.alive += 1;
        let done = CancellationToken::new();
        let before = slot.last_done.replace(done.clone());
        CarryPermit { id, close, before, done }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, PeerSlot>> {
        // A panic while holding the lock leaves whole slots behind: every change is a single step.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerSlot {
    fn end_dial(&mut self) {
        if let Some(dial) = self.dial.take() {
            dial.done.cancel();
        }
    }

    fn close(&self, reason: DownReason) {
        if let Some(current) = &self.current {
            current.close.request(reason);
        }
        if let Some(dial) = &self.dial {
            dial.cancel.cancel();
        }
    }
}
