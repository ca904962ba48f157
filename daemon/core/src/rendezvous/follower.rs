//! Following: a peer watches the holder, suspects it, asks others about it and speaks up for it.
//!
//! A follower has at most one of these at a time, each a step further from trust:
//!
//! 1. nothing: the holder was heard within the window of the [`failure_detector`];
//! 2. a [`suspicion`]: the holder is pinged and the neighbours are asked, for at most a second;
//! 3. a vacancy ([`election`]): the holder is declared gone, and peers claim the role in the order of the succession.
//!
//! Any later sign of life that the cause does not explain leads back to 1. [`Following`] is the state; all methods take
//! the shared [`Context`] and return a [`Decision`] where this peer should claim the role or follow another claim. The
//! caller is [`Rendezvous`](super::Rendezvous): one method per frame and network event, `run_timers` after each input,
//! `due` for the next wake-up.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, Term};

use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::{Bid, Decision, HeldClaim, with_me};
use crate::rendezvous::events::{FrameChannel, RoleFault, RoleOutput};
use crate::rendezvous::protocol::frames::{Cause, RoleFrame};
use crate::rendezvous::protocol::offer::{Offer, Purpose};
use crate::rendezvous::protocol::signed::Opened;
use crate::rendezvous::protocol::succession::LinePlace;
use crate::types::RoleRequest;
use failure_detector::{Beat, BeatReply, Closeness, FailureDetector, TcpWatch};
use suspicion::{ASKED_MAX, Suspicion, SuspicionOutcome};

pub(crate) mod election;
pub(crate) mod failure_detector;
pub(crate) mod suspicion;

/// Maximum number of members of a room in which each of them opens a TCP watch: so the death of the holder's process is
/// noticed before there is a list, and when all of the list dies with it. The holder's port has places for many more.
const WATCHED_BY_ALL_MAX: usize = 16;

/// How long a listed peer that heard the holder goes on to expect its heartbeats without a connection to it: one that died
/// with its path is made anew within that time.
const CLOSE_WITHOUT_LINK: Duration = Duration::from_secs(2);

/// The state of a follower.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) detector: FailureDetector,
    /// Whether this peer is on the succession list.
    pub(crate) listed: bool,
    /// Whether it wants a TCP watch: on the list, and in a small room in any case.
    watches: bool,
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) vacancy: Option<Vacancy>,
    /// Peers that did not answer when the holder was last suspected.
    pub(crate) absent: BTreeSet<PeerId>,
    /// A higher claim by a minority that waits for the holder's answer.
    pub(crate) held: Option<HeldClaim>,
    /// The peer to which the holder last offered the role through this one: an offer is forwarded once.
    offer: Option<PeerId>,
}

/// The holder is gone and has no successor yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vacancy {
    pub(crate) reason: ChangeReason,
    /// Since when the role has no holder.
    pub(crate) lost_at: Duration,
    /// When this peer claims the role, unless a peer before it in line has.
    pub(crate) claim_at: Duration,
    /// Members in touch with this peer, itself included.
    pub(crate) component: u32,
}

impl Following {
    pub(crate) const fn new(holder: PeerId, term: Term, now: Duration) -> Self {
        Self {
            detector: FailureDetector::new(holder, term, now),
            listed: false,
            watches: false,
            suspicion: None,
            vacancy: None,
            absent: BTreeSet::new(),
            held: None,
            offer: None,
        }
    }

    /// When there is something to do. A vacancy asks nothing of a peer that may not claim: a newcomer that does not know
    /// yet that it was admitted, or a removed member.
    pub(crate) fn due(&self, cx: &Context) -> Option<Duration> {
        let held = self.held.as_ref().map(|held| held.until);
        let tcp = match self.detector.tcp {
            TcpWatch::Failed { retry_at, .. } if self.watches && self.vacancy.is_none() => Some(retry_at),
            TcpWatch::Failed { .. } | TcpWatch::Off | TcpWatch::Opening | TcpWatch::Open => None,
        };
        let next = match (&self.vacancy, &self.suspicion) {
            (Some(vacancy), _) => cx.may_claim().then_some(vacancy.claim_at),
            (None, Some(suspicion)) => Some(suspicion.due()),
            (None, None) => Some(self.detector.alarm_at(self.closeness(cx), &cx.settings, cx.stretch())),
        };
        [held, tcp, next].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn run_timers(&mut self, cx: &mut Context) -> Option<Decision> {
        let now = cx.now.mono;
        if let Some(held) = self.held.take_if(|held| held.until <= now) {
            return Some(Decision::Adopt(Box::new(held)));
        }
        if self.vacancy.is_some() {
            return self.claim_when_due(cx);
        }
        if self.suspicion.is_some() {
            return self.pursue_suspicion(cx);
        }
        let closeness = self.closeness(cx);
        if now >= self.detector.alarm_at(closeness, &cx.settings, cx.stretch()) {
            let lost_at = self.detector.last_sign(closeness).unwrap_or(now);
            self.suspect(cx, Cause::Silent, lost_at, cx.settings.silent_probe);
        }
        None
    }

    /// How closely this peer watches its holder.
    pub(crate) fn closeness(&self, cx: &Context) -> Closeness {
        let linked = cx.peers.is_linked(&self.detector.holder);
        let lately = self.detector.heard.is_some_and(|at| cx.now.mono < at + CLOSE_WITHOUT_LINK);
        if self.listed && (linked || lately) { Closeness::Close } else { Closeness::Loose }
    }

    /// Whether nothing speaks against the holder.
    fn is_calm(&self) -> bool {
        self.suspicion.is_none() && self.vacancy.is_none()
    }

    /// Begins a suspicion that ends after `least`, or later where answers take longer.
    fn suspect(&mut self, cx: &mut Context, cause: Cause, lost_at: Duration, least: Duration) {
        let now = cx.now.mono;
        let nonce = cx.nonce();
        let holder = self.detector.holder;
        let stretch = cx.stretch();
        let tolerance = self.detector.tolerance(self.closeness(cx), &cx.settings);
        // Whom to ask: the list first, then other neighbours.
        let listed: Vec<PeerId> = cx.known.line().list;
        let others = cx.peers.linked().copied().filter(|peer| !listed.contains(peer));
        let asked: BTreeSet<PeerId> = listed
            .iter()
            .copied()
            .filter(|peer| cx.peers.is_linked(peer))
            .chain(others)
            .filter(|peer| *peer != holder && *peer != cx.me)
            .take(ASKED_MAX)
            .collect();
        // How long to wait: for the slowest answer that can change the outcome.
        let slowest = match cause {
            Cause::Died => cx.patience(&holder),
            // A probe over TCP takes two round trips.
            Cause::Silent => {
                let others = asked.iter().map(|peer| cx.patience(peer)).max().unwrap_or_default();
                others.max(cx.patience(&holder) * 2)
            }
        };
        let ceiling = cx.settings.probe_max.max(least);
        let span = (slowest + Duration::from_millis(10)).clamp(least, ceiling) * stretch;
        let (margin, silent) = (self.detector.margin(), now.saturating_sub(lost_at));
        tracing::info!(holder = %holder.short(), ?cause, ?silent, ?margin, stretch, ?span, "the holder is suspected");
        let question = RoleFrame::Suspect { term: cx.known.term(), nonce, cause };
        self.suspicion = Some(Suspicion::new(cause, lost_at, nonce, asked.clone(), tolerance, (now, now + span)));
        cx.send(asked.into_iter().collect(), &question, FrameChannel::Stream);
        self.ping_suspect(cx);
        if cause == Cause::Silent {
            // The path to it may have died, and not the holder: its process answers over TCP, a kernel alone does not.
            cx.out.push_back(RoleOutput::Net(RoleRequest::Probe(holder)));
        }
    }

    fn ping_suspect(&mut self, cx: &mut Context) {
        let now = cx.now.mono;
        let gossip = cx.gossip(self.detector.fresh, now);
        let holder = self.detector.holder;
        let Some(suspicion) = &mut self.suspicion else { return };
        let nonce = suspicion.nonce;
        if suspicion.ping(now) && cx.peers.is_linked(&holder) {
            cx.send(vec![holder], &RoleFrame::Ping { nonce, gossip }, FrameChannel::Datagram);
        }
    }

    /// Goes on with a suspicion.
    fn pursue_suspicion(&mut self, cx: &mut Context) -> Option<Decision> {
        self.ping_suspect(cx);
        let suspicion = self.suspicion.as_ref()?;
        if suspicion.outcome(cx.now.mono) != SuspicionOutcome::Confirmed {
            return None;
        }
        let reason = match suspicion.cause {
            Cause::Died => ChangeReason::Died,
            Cause::Silent => ChangeReason::Silent,
        };
        let lost_at = suspicion.lost_at;
        self.declare_vacant(cx, reason, lost_at)
    }

    /// A heartbeat arrived.
    pub(crate) fn receive_beat(&mut self, cx: &mut Context, peer: PeerId, term: Term, seq: u64, heard_ms: u32) {
        let known = cx.known.term();
        if term > known {
            return cx.ping(peer, self.detector.fresh);
        }
        if term < known || peer != self.detector.holder {
            return cx.send_state(peer);
        }
        let now = cx.now.mono;
        let unheard = Duration::from_millis(u64::from(heard_ms));
        let beat = Beat { seq, unheard, patience: cx.patience(&peer) };
        let reply = self.detector.receive_beat(beat, &cx.settings, now);
        if self.detector.heard == Some(now) {
            let jitter = self.detector.margin();
            self.suspicion.take_if(|suspicion| suspicion.refuted_by_beat(jitter, now));
            let refuted = |vacancy: &mut Vacancy| {
                let died = vacancy.reason == ChangeReason::Died;
                vacancy.reason == ChangeReason::Silent || (died && now > vacancy.lost_at + jitter)
            };
            if self.vacancy.take_if(refuted).is_some() {
                self.announce_back(cx);
            }
        }
        if reply == BeatReply::Answer {
            cx.send(vec![peer], &RoleFrame::BeatAck { term }, FrameChannel::Datagram);
        }
    }

    /// The holder answered a ping; `answers` is whether this peer had sent that ping to measure.
    pub(crate) fn receive_holder_pong(&mut self, nonce: u64, answers: bool, now: Duration) {
        let refuted = self.suspicion.take_if(|suspicion| suspicion.nonce == nonce).is_some();
        if refuted || answers {
            self.detector.note_heard(now);
        }
    }

    /// The holder answered a probe over TCP: it lives, whatever became of the connection to it. That refutes only
    /// silence: after a process died, another one may have taken the port.
    pub(crate) fn receive_holder_probe(&mut self, cx: &mut Context) {
        let died = self.suspicion.as_ref().is_some_and(|suspicion| suspicion.cause == Cause::Died)
            || self.vacancy.as_ref().is_some_and(|vacancy| vacancy.reason != ChangeReason::Silent);
        if died || !self.detector.note_probe_answer(cx.now.mono) {
            return;
        }
        self.suspicion = None;
        if self.vacancy.take().is_some() {
            self.announce_back(cx);
        }
    }

    /// Whether a probe of this peer asks whether the holder lives.
    pub(crate) fn doubts(&self, peer: &PeerId) -> bool {
        self.detector.holder == *peer && !self.is_calm()
    }

    fn announce_back(&self, cx: &mut Context) {
        cx.out.push_back(RoleOutput::Back { holder: self.detector.holder, term: self.detector.term });
    }

    /// A neighbour suspects the holder. It may have seen what this peer has no TCP watch to see: look at once.
    pub(crate) fn receive_suspicion(&mut self, cx: &mut Context, term: Term, cause: Cause) {
        let blind = self.detector.tcp != TcpWatch::Open;
        let linked = cx.peers.is_linked(&self.detector.holder);
        if term == cx.known.term() && cause == Cause::Died && self.watches && self.is_calm() && blind && linked {
            self.suspect(cx, Cause::Died, cx.now.mono, cx.settings.probe_min);
        }
    }

    /// A neighbour answered a suspicion of this peer.
    pub(crate) fn receive_verdict(
        &mut self,
        cx: &Context,
        peer: PeerId,
        nonce: u64,
        term: Term,
        heard_ms: Option<u32>,
    ) {
        let now = cx.now.mono;
        let window = self.detector.window(self.closeness(cx), &cx.settings, cx.stretch());
        let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| suspicion.nonce == nonce) else { return };
        let same_term = term == cx.known.term();
        let heard = heard_ms.filter(|_| same_term).map(|ms| Duration::from_millis(u64::from(ms)));
        if suspicion.answer(peer, heard) == SuspicionOutcome::Dropped {
            self.suspicion = None;
            // What the neighbour heard is worth as much as what this peer would have heard then.
            let heard_at = now.saturating_sub(heard.unwrap_or_default());
            self.detector.hold_off_until(heard_at + window);
            if heard.is_some() {
                self.detector.note_hearsay(heard_at, peer);
            }
        }
    }

    /// The connection to a peer ended without a goodbye. A listed peer goes on to expect the holder's heartbeats for a while,
    /// since the path may have died and not the holder; the others hear the holder less often, and suspect it at once.
    pub(crate) fn connection_ended(&mut self, cx: &mut Context, peer: &PeerId) {
        if self.detector.holder == *peer && self.is_calm() && self.closeness(cx) == Closeness::Loose {
            let lost_at = self.detector.heard.unwrap_or(cx.now.mono);
            let patience = self.detector.window(Closeness::Close, &cx.settings, 1);
            self.suspect(cx, Cause::Silent, lost_at, patience);
        }
    }

    /// A connection to a peer opened: where that is a suspected holder, it is asked over it at once.
    pub(crate) fn connection_opened(&self, cx: &mut Context, peer: &PeerId) {
        if let Some(suspicion) = self.suspicion.as_ref().filter(|_| self.detector.holder == *peer) {
            let (nonce, gossip) = (suspicion.nonce, cx.gossip(self.detector.fresh, cx.now.mono));
            cx.send(vec![*peer], &RoleFrame::Ping { nonce, gossip }, FrameChannel::Stream);
        }
    }

    /// The TCP watch on a peer is open.
    pub(crate) fn watch_opened(&mut self, peer: &PeerId) {
        if self.detector.holder == *peer && self.detector.tcp == TcpWatch::Opening {
            self.detector.tcp = TcpWatch::Open;
        }
    }

    /// It could not be opened.
    pub(crate) fn watch_failed(&mut self, peer: &PeerId, now: Duration) {
        if self.detector.holder == *peer && self.detector.tcp == TcpWatch::Opening {
            self.detector.tcp_failed(now);
        }
    }

    /// The holder's kernel closed the TCP watch: its process died, or it stopped listening.
    pub(crate) fn watch_closed(&mut self, cx: &mut Context, peer: &PeerId) {
        if self.detector.holder != *peer || self.detector.tcp != TcpWatch::Open {
            return;
        }
        self.detector.tcp_failed(cx.now.mono);
        let known_dead = self.suspicion.as_ref().is_some_and(|suspicion| suspicion.cause == Cause::Died);
        if self.vacancy.is_none() && !known_dead {
            self.suspect(cx, Cause::Died, cx.now.mono, cx.settings.probe_min);
        }
    }

    /// Opens, closes and reopens the TCP watch as this peer's place on the list and the size of the room ask for.
    pub(crate) fn reconcile_tcp_watch(&mut self, cx: &mut Context) {
        let now = cx.now.mono;
        let listed = matches!(cx.known.line().place(&cx.me), LinePlace::Listed(_));
        if listed && !self.listed {
            self.detector.forgive(now);
        }
        self.listed = listed;
        self.watches = listed || in_small_room(cx);
        let open = match self.detector.tcp {
            TcpWatch::Off => self.watches,
            TcpWatch::Failed { retry_at, .. } => self.watches && self.vacancy.is_none() && retry_at <= now,
            TcpWatch::Opening | TcpWatch::Open => false,
        };
        if open {
            self.detector.tcp = TcpWatch::Opening;
            cx.out.push_back(RoleOutput::Net(RoleRequest::OpenWatch(self.detector.holder)));
        } else if !self.watches {
            self.close_tcp_watch(cx);
        }
    }

    /// Ends the TCP watch, if there is one.
    pub(crate) fn close_tcp_watch(&mut self, cx: &mut Context) {
        match self.detector.tcp {
            TcpWatch::Opening | TcpWatch::Open => {
                self.detector.tcp = TcpWatch::Off;
                cx.out.push_back(RoleOutput::Net(RoleRequest::CloseWatch(self.detector.holder)));
            }
            TcpWatch::Off | TcpWatch::Failed { .. } => {}
        }
    }

    /// This peer was stalled: it begins to listen anew. A closed TCP watch stays closed, and is looked into again.
    pub(crate) fn forgive_silence(&mut self, cx: &mut Context) {
        let now = cx.now.mono;
        self.detector.forgive(now);
        // A holder that left or was removed does not come back because this peer was stalled.
        let vacancy = self.vacancy.take_if(|vacancy| vacancy.reason.is_failure());
        if vacancy.is_some() {
            self.announce_back(cx);
        }
        let suspicion = self.suspicion.take();
        let died = vacancy.is_some_and(|vacancy| vacancy.reason == ChangeReason::Died)
            || suspicion.is_some_and(|suspicion| suspicion.cause == Cause::Died);
        if died {
            self.suspect(cx, Cause::Died, now, cx.settings.probe_min);
        }
    }

    /// The holder offers the role, to this peer or another.
    pub(crate) fn receive_offer(
        &mut self,
        cx: &mut Context,
        source: PeerId,
        offer: Opened<Offer>,
    ) -> Result<Option<Decision>, RoleFault> {
        let (heir, purpose) = (offer.value().heir, offer.value().purpose);
        let current = offer.value().term == cx.known.term() && Some(offer.value().holder) == cx.known.holder();
        if !current || self.offer == Some(heir) || !cx.may_claim() {
            return Ok(None);
        }
        let offer = offer.verify()?;
        if heir != cx.me {
            self.offer = Some(heir);
            cx.send_towards(heir, &RoleFrame::Offer(offer.raw().clone()), Some(source));
            return Ok(None);
        }
        Ok((!cx.stalls.just_woke(cx.now.mono)).then(|| Decision::Claim(accepted_offer(purpose, cx))))
    }
}

/// Whether the room is so small that every member watches the holder.
pub(crate) fn in_small_room(cx: &Context) -> bool {
    cx.members.len() <= WATCHED_BY_ALL_MAX
}

/// The claim with which an heir takes the role over.
fn accepted_offer(purpose: Purpose, cx: &Context) -> Bid {
    let (reason, others) = match purpose {
        Purpose::Leaving => (ChangeReason::HandedOver, cx.others_online().saturating_sub(1)),
        Purpose::Better => (ChangeReason::BetterConnected, cx.others_online()),
    };
    Bid { reason, from: cx.known.holder(), gap: Duration::ZERO, component: with_me(others) }
}
