//! The rendezvous role: which peer holds it, which follow, and when it moves.
//!
//! [`Rendezvous`] is one peer's part in it, a pure state machine inside the node: it takes what happens ([`RoleInput`]),
//! gives out what to do ([`RoleOutput`]) and when it wants to be woken. The role gives no authority, so two holders at
//! once do no harm; the rules below keep that short and rare.
//!
//! * **Terms and claims** ([`protocol`], [`claims`]). A peer takes the role by signing a claim of the next term and sending
//!   it to its neighbours, which forward it once. No vote: it works with one peer left. The higher term wins; of equal
//!   terms the larger component, then rank, then key. The loser steps down at sight. [`claims::conflict`] is the one
//!   exception: the holder of the larger half answers a small minority's higher term with a higher one still.
//! * **Succession** ([`protocol::succession`]). The holder signs a list of up to five successors, in order, with the
//!   ranking behind it, and publishes it when it changes and every 30 s.
//! * **Failure detection** ([`follower::failure_detector`], [`follower::suspicion`]). Peers on the list, and in rooms of up to
//!   16 all members, hold a plain TCP connection to the holder, which its kernel closes when the process dies. Those on the
//!   list get a heartbeat every 200 ms. A close
//!   that a ping confirms, or missing heartbeats that other peers confirm, make the role vacant.
//! * **Stalls** ([`context::stall_detector`]). A peer whose own timers are late was asleep or starved: it forgives others the
//!   silence, and if it held the role it asks whether it still does before it acts as holder.
//! * **Neighbours compare** ([`upkeep::gossip`]) term, claim, serial and history with every ping; the one that is behind is sent
//!   the rest. So whatever a lost frame or a partition left undone is done soon after.
//!
//! The state of one peer is split by concern: [`context`] is what all share, with one record per other peer; [`state`] is the
//! part this peer plays ([`seeker`], [`follower`], [`holder`]); [`claims`] changes from one part to another; [`upkeep`] runs in
//! all of them; [`query`] is what others may read. None of these imports this module.
//!
//! Every table has a named bound, every neighbour a rate, every statement its author's signature over the room's id.
//!
//! # How the role moves
//!
//! What happens after `kill -9` of the holder's process, step by step, with the file of each:
//!
//! 1. The kernel of the dead process closes the TCP watch of each listed peer: `RoleEvent::WatchClosed`
//!    (`daemon/src/net/tcp/watch.rs`) passes driver and node unchanged and reaches [`Rendezvous::handle`].
//! 2. `Following::watch_closed` ([`follower`]) begins a suspicion: the holder gets six pings, the neighbours a question. A
//!    listed neighbour whose own watch is not open begins a suspicion, too.
//! 3. Nothing answers within 50 ms (up to 600 ms on slow paths): the [`suspicion`](follower::suspicion) is confirmed and
//!    `Following::declare_vacant` ([`follower::election`]) computes when this peer claims. For the first on the list that
//!    is at once.
//! 4. `ClaimHandler::claim` ([`claims::make`]) signs term + 1, becomes [`Holding`](holder::Holding) and floods the claim.
//! 5. Each follower checks it ([`claims::accept`]), weighs it ([`claims::conflict`]), forwards it, becomes `Following` and
//!    reports [`RoleOutput::Changed`]; the node publishes the event and turns the relay forwarder.
//! 6. The new holder ranks its neighbours ([`holder::ranking`]), publishes its succession and sends heartbeats; the
//!    listed peers open their TCP watches ([`upkeep::reconciler`]).
//!
//! The other ways differ in the first steps only. *Silence*: no heartbeat for 0.62 to 1 s, or no sign of life for 10 s off
//! the list; the neighbours are asked for 120 to 600 ms and one that heard the holder refutes it. *Leaving* and *a better
//! connected peer*: the holder offers the role ([`holder::handover`]) and goes on until it sees the claim. *Removal* and
//! *goodbye*: step 3 at once. *Partition*: the half without the holder does all of this; when the halves meet, step 5
//! settles it. *No holder known*: [`seeker`].

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, RoomId, Term};
use ed25519_dalek::SigningKey;

use crate::input::Now;
use crate::rendezvous::claims::{ClaimDesk, ClaimHandler};
use crate::rendezvous::context::Context;
use crate::rendezvous::events::{FrameChannel, RoleFault, RoleInput, RoleOutput};
use crate::rendezvous::protocol::frames::{Cause, RoleFrame, millis};
use crate::rendezvous::query::RoleQuery;
use crate::rendezvous::seeker::Seeking;
use crate::rendezvous::settings::RoleSettings;
use crate::rendezvous::state::RoleState;
use crate::rendezvous::upkeep::gossip::{Pinger, receive_ping, receive_pong};
use crate::rendezvous::upkeep::observer::{Observer, receive_report};
use crate::rendezvous::upkeep::reconciler::Reconciler;
use crate::types::RoleEvent;

mod claims;
mod context;
pub mod events;
mod follower;
mod holder;
pub(crate) mod protocol;
pub mod query;
mod seeker;
pub mod settings;
mod state;
mod upkeep;

/// One peer's part in the rendezvous role.
#[derive(Debug)]
pub struct Rendezvous {
    cx: Context,
    state: RoleState,
    claims: ClaimDesk,
    pinger: Pinger,
    observer: Observer,
    reconciler: Reconciler,
    wake: Option<Duration>,
}

impl Rendezvous {
    /// A peer that just started and knows of no holder. `key` signs claims, lists and reports; `seed` spreads timers.
    pub fn new(room: RoomId, key: SigningKey, settings: RoleSettings, seed: u64, now: Now) -> Self {
        let mut cx = Context::new(room, key, settings, seed, now);
        let observer = Observer::new(&mut cx);
        let claim_at = now.mono + cx.settings.settle;
        Self {
            claims: ClaimDesk::new(&cx),
            cx,
            state: RoleState::Seeking(Seeking { claim_at }),
            pinger: Pinger::new(now.mono),
            observer,
            reconciler: Reconciler::new(),
            wake: Some(claim_at),
        }
    }

    /// Takes one input; drain [`Rendezvous::poll_output`] afterwards.
    pub fn handle(&mut self, input: RoleInput, now: Now) {
        if matches!(self.state, RoleState::Gone) {
            if input == RoleInput::Leave {
                self.cx.out.push_back(RoleOutput::Released);
            }
            return;
        }
        self.cx.now = now;
        if let Some(late) = self.cx.stalls.observe(now, self.cx.settings.beat / 2) {
            self.recover_from_stall(late);
        }
        self.dispatch(input);
        self.run_timers();
        self.reconciler.reconcile(&mut self.state, &mut self.cx);
        self.wake = self.next_wake();
        self.cx.stalls.expect(self.wake);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<RoleOutput> {
        self.cx.out.pop_front()
    }

    /// When [`RoleInput::Tick`] is wanted, in monotonic time; may change with every input.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.wake
    }

    /// What this peer knows of the role.
    pub fn query(&self) -> RoleQuery<'_> {
        RoleQuery { state: &self.state, cx: &self.cx }
    }

    fn claims(&mut self) -> ClaimHandler<'_> {
        let Self { cx, state, claims: desk, observer, .. } = self;
        ClaimHandler { cx, state, desk, observer }
    }

    fn dispatch(&mut self, input: RoleInput) {
        let now = self.cx.now.mono;
        match input {
            RoleInput::Frame(peer, raw) => self.receive_frame(peer, &raw),
            RoleInput::Up(peer, path) => {
                if self.cx.peers.up(peer, path, now) {
                    self.cx.send_state(peer);
                    if let RoleState::Following(following) = &self.state {
                        following.connection_opened(&mut self.cx, &peer);
                    }
                    self.state.rank_soon(now);
                    self.observer.sample_soon(&mut self.cx);
                }
            }
            RoleInput::Path(peer, path) => self.cx.peers.path(peer, path, now),
            RoleInput::Down(peer) => {
                if self.cx.peers.down(&peer) {
                    match &mut self.state {
                        RoleState::Following(following) => following.connection_ended(&mut self.cx, &peer),
                        RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone => self.state.rank_soon(now),
                    }
                }
            }
            RoleInput::Bye(peer) => self.peer_left(&peer, ChangeReason::HandedOver),
            RoleInput::Members { active, former } => self.set_members(active, former),
            RoleInput::Online(mut online) => {
                online.retain(|peer| *peer != self.cx.me && self.cx.members.contains(peer));
                if self.cx.peers.set_online(&online, now) {
                    self.state.rank_soon(now);
                }
            }
            RoleInput::Addrs(addrs) => self.observer.addrs = addrs,
            RoleInput::Net(event) => self.receive_event(&event),
            RoleInput::Deaf => self.forgive_silence(),
            RoleInput::Leave => {
                let decision = self.state.leave(&self.cx);
                self.claims().carry_out(decision);
            }
            RoleInput::Tick => {}
        }
    }

    /// The network reports the outcome of a request.
    fn receive_event(&mut self, event: &RoleEvent) {
        match (event, &mut self.state) {
            (RoleEvent::Probed(peer, outcome), state) => {
                self.observer.receive_probe(state, &mut self.cx, *peer, outcome);
            }
            (RoleEvent::WatchOpened(peer), RoleState::Following(following)) => following.watch_opened(peer),
            (RoleEvent::WatchFailed(peer), RoleState::Following(following)) => {
                following.watch_failed(peer, self.cx.now.mono);
            }
            (RoleEvent::WatchClosed(peer), RoleState::Following(following)) => {
                following.watch_closed(&mut self.cx, peer);
            }
            (
                RoleEvent::WatchOpened(_) | RoleEvent::WatchFailed(_) | RoleEvent::WatchClosed(_),
                RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone,
            ) => {}
        }
    }

    /// A frame arrived. What breaks the protocol is reported and changes nothing; what exceeds the rate is dropped.
    fn receive_frame(&mut self, peer: PeerId, raw: &[u8]) {
        let Some(link) = self.cx.peers.link_mut(&peer) else { return };
        let received = match RoleFrame::decode(raw) {
            Ok(None) => return,
            Ok(Some(frame)) => {
                if !link.admits(frame.is_signed(), self.cx.now.mono) {
                    tracing::debug!(peer = %peer.short(), "role frames exceed the rate, one is dropped");
                    return;
                }
                link.heard = self.cx.now.mono;
                link.speaks = true;
                self.dispatch_frame(peer, frame)
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = received {
            self.cx.out.push_back(RoleOutput::Fault(peer, fault));
        }
    }

    fn dispatch_frame(&mut self, peer: PeerId, frame: RoleFrame) -> Result<(), RoleFault> {
        let Self { cx, state, .. } = self;
        match frame {
            RoleFrame::State { claim: Some(claim), succession } => {
                self.claims().receive_claim(peer, claim, succession)?;
            }
            RoleFrame::State { claim: None, .. } => cx.send_state(peer),
            RoleFrame::Claim(claim) => self.claims().receive_claim(peer, claim, None)?,
            RoleFrame::Succession(succession) => self.claims().receive_succession(peer, succession)?,
            RoleFrame::Beat { term, seq, heard_ms } => match state {
                RoleState::Following(following) => following.receive_beat(cx, peer, term, seq, heard_ms),
                RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone if term > cx.known.term() => {
                    cx.ping(peer, state.newest_sign(cx.now.mono));
                }
                RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone => cx.send_state(peer),
            },
            RoleFrame::BeatAck { term } => cx.note_follows(&peer, term),
            RoleFrame::Ping { nonce, gossip } => receive_ping(state, cx, peer, nonce, gossip),
            RoleFrame::Pong { nonce, gossip } => receive_pong(state, cx, peer, nonce, gossip),
            RoleFrame::Suspect { term, nonce, cause } => self.answer_suspicion(peer, term, nonce, cause),
            RoleFrame::Verdict { nonce, term, heard_ms } => {
                if let RoleState::Following(following) = state {
                    following.receive_verdict(cx, peer, nonce, term, heard_ms);
                }
            }
            RoleFrame::Offer(offer) => {
                let decision = state.receive_offer(cx, peer, offer)?;
                self.claims().carry_out(decision);
            }
            RoleFrame::Report { hops, report } => receive_report(state, cx, peer, hops, report)?,
            RoleFrame::HistoryWant => cx.receive_history_want(peer),
            RoleFrame::History(claims) => self.claims().receive_history(peer, claims)?,
        }
        Ok(())
    }

    /// A neighbour suspects the holder and asks when this peer last heard it.
    fn answer_suspicion(&mut self, peer: PeerId, term: Term, nonce: u64, cause: Cause) {
        let Self { cx, state, .. } = self;
        let now = cx.now.mono;
        let known = cx.known.term();
        let heard_ms = state.heard(now).filter(|_| term == known).map(|at| millis(now.saturating_sub(at)));
        cx.send(vec![peer], &RoleFrame::Verdict { nonce, term: known, heard_ms }, FrameChannel::Stream);
        if term < known {
            cx.send_state(peer);
        } else if let RoleState::Following(following) = state {
            following.receive_suspicion(cx, term, cause);
        }
    }

    fn run_timers(&mut self) {
        let decision = match &mut self.state {
            RoleState::Seeking(seeking) => seeking.run_timers(&mut self.cx),
            RoleState::Following(following) => following.run_timers(&mut self.cx),
            RoleState::Holding(_) | RoleState::Gone => None,
        };
        self.claims().carry_out(decision);
        // A holder that only just became one ranks and sends heartbeats at once.
        if let RoleState::Holding(holding) = &mut self.state {
            let decision = holding.run_timers(&mut self.cx);
            self.claims().carry_out(decision);
        }
        self.pinger.run_timers(&self.state, &mut self.cx);
        self.observer.run_timers(&self.state, &mut self.cx);
    }

    fn next_wake(&self) -> Option<Duration> {
        let Self { cx, state, .. } = self;
        if matches!(state, RoleState::Gone) {
            return None;
        }
        let dues = [state.due(cx), self.pinger.due(cx), self.reconciler.due(), self.observer.due(state, cx)];
        dues.into_iter().flatten().min()
    }

    /// This peer was stalled for `late`: the silence of others proves nothing.
    fn recover_from_stall(&mut self, late: Duration) {
        tracing::info!(?late, "this peer's timers are late");
        self.cx.peers.forgive();
        match &mut self.state {
            RoleState::Seeking(seeking) => seeking.forgive_silence(&self.cx),
            RoleState::Following(following) => following.forgive_silence(&mut self.cx),
            RoleState::Holding(holding) if late >= self.cx.settings.beat * 2 => holding.begin_doubt(&mut self.cx),
            RoleState::Holding(_) | RoleState::Gone => {}
        }
    }

    /// This peer reads nothing for now, for its own reasons: the silence of others proves nothing.
    fn forgive_silence(&mut self) {
        self.cx.peers.forgive();
        if let RoleState::Following(following) = &mut self.state {
            following.forgive_silence(&mut self.cx);
        }
    }

    /// A peer left in order, or was removed.
    fn peer_left(&mut self, peer: &PeerId, reason: ChangeReason) {
        let decision = self.state.peer_left(&mut self.cx, peer, reason);
        self.claims().carry_out(decision);
    }

    fn set_members(&mut self, active: BTreeSet<PeerId>, former: BTreeSet<PeerId>) {
        let cx = &mut self.cx;
        cx.peers.set_members(&active);
        cx.members.active = active;
        cx.members.former = former;
        if !cx.may_claim() {
            // A newcomer whose own admission has not arrived follows, and cannot hold; one that was removed begins anew.
            let removed = cx.members.former.contains(&cx.me);
            if removed || !matches!(self.state, RoleState::Following(_)) {
                self.state = RoleState::Seeking(Seeking { claim_at: cx.now.mono + cx.settings.settle });
            }
            if removed {
                return;
            }
        }
        if let Some(holder) = cx.known.holder().filter(|holder| !cx.members.contains(holder)) {
            self.peer_left(&holder, ChangeReason::Removed);
        }
        self.claims().reconsider_early_claim();
        if matches!(self.state, RoleState::Seeking(_)) {
            self.cx.ask_neighbours(None);
        }
        self.state.rank_soon(self.cx.now.mono);
    }
}

/// Whether the role ignores a frame because of its version.
#[cfg(test)]
pub(crate) fn is_ignored_frame(raw: &[u8]) -> bool {
    matches!(RoleFrame::decode(raw), Ok(None))
}

#[cfg(test)]
mod tests;
