//! Pings between neighbours: they measure the path, and they compare what both peers know of the role.

use std::cmp::Ordering;
use std::time::Duration;

use chat_proto::id::{PeerId, Term};
use rand::RngExt;

use crate::rendezvous::context::Context;
use crate::rendezvous::events::FrameChannel;
use crate::rendezvous::protocol::frames::{Gossip, RoleFrame};
use crate::rendezvous::state::RoleState;

/// Pings the connections, each in its turn.
#[derive(Debug)]
pub(crate) struct Pinger {
    /// When the next neighbour is pinged.
    ping_at: Duration,
}

impl Pinger {
    pub(crate) const fn new(now: Duration) -> Self {
        Self { ping_at: now }
    }

    /// When there is something to do.
    pub(crate) fn due(&self, cx: &Context) -> Option<Duration> {
        (cx.peers.links_len() > 0).then_some(self.ping_at)
    }

    /// Pings the connection whose turn it is.
    pub(crate) fn run_timers(&mut self, state: &RoleState, cx: &mut Context) {
        let now = cx.now.mono;
        if now < self.ping_at {
            return;
        }
        self.ping_at = now + cx.ping_every().mul_f64(cx.rng.random_range(0.8..1.2));
        if let Some(peer) = cx.peers.next_ping(now) {
            cx.ping(peer, state.newest_sign(now));
        }
    }
}

/// A ping arrived.
pub(crate) fn receive_ping(state: &mut RoleState, cx: &mut Context, peer: PeerId, nonce: u64, gossip: Gossip) {
    let now = cx.now.mono;
    let own = cx.gossip(state.newest_sign(now), now);
    cx.send(vec![peer], &RoleFrame::Pong { nonce, gossip: own }, FrameChannel::Datagram);
    receive_gossip(state, cx, peer, gossip);
}

/// A pong arrived.
pub(crate) fn receive_pong(state: &mut RoleState, cx: &mut Context, peer: PeerId, nonce: u64, gossip: Gossip) {
    let now = cx.now.mono;
    let answers = cx.peers.ponged(&peer, nonce, now);
    match state {
        RoleState::Following(following) if Some(peer) == cx.known.holder() => {
            following.receive_holder_pong(nonce, answers, now);
        }
        RoleState::Holding(holding) => holding.settle_doubt(cx, nonce, gossip.term),
        RoleState::Following(_) | RoleState::Seeking(_) | RoleState::Gone => {}
    }
    receive_gossip(state, cx, peer, gossip);
}

fn receive_gossip(state: &mut RoleState, cx: &mut Context, peer: PeerId, gossip: Gossip) {
    cx.note_follows(&peer, gossip.term);
    match gossip.term.cmp(&cx.known.term()) {
        // The neighbour learns so from this peer's answer or next ping, and sends its state.
        Ordering::Greater => {}
        Ordering::Less => cx.send_state(peer),
        Ordering::Equal if gossip.term == Term(0) => {}
        Ordering::Equal if gossip.claim != cx.known.claim_id() => cx.send_state(peer),
        Ordering::Equal => compare_details(state, cx, peer, gossip),
    }
}

/// Both know the same claim: compares the holder's signs of life, the succession and the history.
fn compare_details(state: &mut RoleState, cx: &mut Context, peer: PeerId, gossip: Gossip) {
    let now = cx.now.mono;
    if let RoleState::Following(following) = state
        && gossip.age_ms != u32::MAX
        && let Some(at) = now.checked_sub(Duration::from_millis(u64::from(gossip.age_ms)))
    {
        following.detector.note_hearsay(at, peer);
    }
    if gossip.serial < cx.known.serial() {
        cx.send_state(peer);
    }
    if gossip.digest != cx.history.digest()
        && cx.peers.link_mut(&peer).is_some_and(|link| link.may_ask_history(gossip.digest, now))
    {
        cx.send(vec![peer], &RoleFrame::HistoryWant, FrameChannel::Stream);
    }
}
