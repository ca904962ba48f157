//! The rendezvous role: who holds it, who follows, and when it moves.
//!
//! [`Rendezvous`] is one peer's part in it, a pure state machine inside the node: it is told what happens
//! ([`RoleInput`]), says what to do ([`RoleOutput`]) and when it wants to be woken. The role gives no authority, so two
//! holders at once do no harm; what follows keeps that short and rare.
//!
//! * **Terms and claims** ([`claim`], [`term`]). A peer takes the role by signing a claim of the next term and telling its
//!   neighbours, who pass it on once. No vote: it works with one peer left. The higher term wins; of equal terms the
//!   larger component, then rank, then key. Who loses steps down at sight. [`merge`] is the one exception: the holder of
//!   the larger half answers a small minority's higher term with a higher one still.
//! * **Succession** ([`succession`]). The holder signs a list of up to five who follow it, in order, with the ranking
//!   behind it, and publishes it when it changes and every 30 s.
//! * **Watch** ([`watch`], [`suspicion`]). Those on the list hold a plain TCP connection to the holder, which its kernel
//!   closes when the process dies, and get a heartbeat every 200 ms. A close that a ping confirms, or missing heartbeats
//!   that the others confirm, make the role vacant; the first of the list claims it, the next a little later, and so on.
//!   Everybody else gets signs of the holder's life with the pings that neighbours exchange anyway, and steps in, by rank
//!   and later still, when the whole list is gone.
//! * **Slips** ([`slip`]). A peer whose own timers come late was asleep or starved: it forgives others the silence, and
//!   if it held the role it asks whether it still does before it says so.
//! * **Neighbours compare** term, claim, serial and history with every ping; who is behind is told. So whatever a lost
//!   frame or a partition left undone is done soon after.
//!
//! Every table has a named bound, every neighbour a rate, every statement its author's signature over the room's id.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, RoomId};
use ed25519_dalek::SigningKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::connectivity::measure::Measures;
use crate::connectivity::sample::Sampler;
use crate::input::Now;
use crate::types::{RoleEvent, RoleRequest, Switch};

mod adopt;
mod claim;
mod follow;
mod frames;
mod gossip;
mod handover;
mod history;
mod hold;
#[cfg(test)]
mod inspect;
pub mod io;
mod ledger;
mod links;
mod merge;
mod observe;
mod part;
mod receive;
mod relays;
mod seek;
pub mod settings;
mod signed;
mod slip;
mod succession;
mod suspicion;
mod term;
mod vacancy;
mod view;
mod watch;

use crate::token_bucket::TokenBucket;
use frames::RoleFrame;
use history::History;
use io::{Delivery, RoleInput, RoleOutput};
use ledger::Ledger;
use links::Links;
use part::Part;
use seek::EarlyClaim;
use settings::RoleSettings;
use slip::SlipGuard;
use term::TermBound;
use watch::Tcp;

/// Claims that are taken from all neighbours together: a room moves its role now and then, not many times a second.
const CLAIMS_BURST: u32 = 32;
const CLAIMS_PER_MINUTE: u32 = 120;

/// Version of the ledger, kind of part, TCP watch, vacancy.
type Stance = (u64, u8, Option<Tcp>, bool);

/// One peer's part in the rendezvous role.
#[derive(Debug)]
pub struct Rendezvous {
    me: PeerId,
    room: RoomId,
    key: SigningKey,
    settings: RoleSettings,
    rng: ChaCha8Rng,
    started: Duration,
    members: BTreeSet<PeerId>,
    former: BTreeSet<PeerId>,
    /// Who is believed online, and since when.
    online: BTreeMap<PeerId, Duration>,
    addrs: Vec<SocketAddr>,
    links: Links,
    ledger: Ledger,
    terms: TermBound,
    claims: TokenBucket,
    history: History,
    part: Part,
    /// While it seeks: a claim of somebody who is no member as far as this peer knows.
    early: Option<EarlyClaim>,
    slip: SlipGuard,
    measures: Measures,
    sampler: Sampler,
    ping_at: Duration,
    report_at: Duration,
    sample_at: Duration,
    relay: Switch,
    /// When the relay ends, once it is no longer wanted.
    relay_until: Option<Duration>,
    kept: BTreeSet<PeerId>,
    /// What watch, connections and relay were last put in line with.
    stance: Option<Stance>,
    out: VecDeque<RoleOutput>,
    wake: Option<Duration>,
}

impl Rendezvous {
    /// A peer that just started and knows of no holder. `key` signs claims, lists and reports; `seed` spreads timers.
    pub fn new(room: RoomId, key: SigningKey, settings: RoleSettings, seed: u64, now: Now) -> Self {
        let me = PeerId::from_bytes(key.verifying_key().to_bytes());
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sampler = Sampler::new(PeerId::from_bytes(rng.random()));
        let claim_at = now.mono + settings.settle;
        let sample_at = now.mono + settings.sample.mul_f64(rng.random_range(0.5..1.5));
        Self {
            me,
            room,
            key,
            rng,
            started: now.mono,
            members: BTreeSet::new(),
            former: BTreeSet::new(),
            online: BTreeMap::new(),
            addrs: Vec::new(),
            links: Links::default(),
            ledger: Ledger::default(),
            terms: TermBound::default(),
            claims: TokenBucket::full(CLAIMS_BURST, CLAIMS_PER_MINUTE, now.mono),
            history: History::default(),
            part: Part::Seeking { claim_at },
            early: None,
            slip: SlipGuard::new(now),
            measures: Measures::default(),
            sampler,
            ping_at: now.mono,
            report_at: now.mono + settings.report,
            sample_at,
            relay: Switch::Off,
            relay_until: None,
            kept: BTreeSet::new(),
            stance: None,
            out: VecDeque::new(),
            wake: Some(claim_at),
            settings,
        }
    }

    /// Takes one input; drain [`Rendezvous::poll_output`] afterwards.
    pub fn handle(&mut self, input: RoleInput, now: Now) {
        if matches!(self.part, Part::Gone) {
            if input == RoleInput::Leave {
                self.out.push_back(RoleOutput::Released);
            }
            return;
        }
        if let Some(late) = self.slip.observe(now, self.settings.beat / 2) {
            self.slipped(late, now);
        }
        self.take(input, now);
        self.run_timers(now);
        self.reconcile(now);
        self.wake = self.next_wake();
        self.slip.expect(self.wake);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<RoleOutput> {
        self.out.pop_front()
    }

    /// When [`RoleInput::Tick`] is wanted, in monotonic time; may change with every input.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.wake
    }

    fn take(&mut self, input: RoleInput, now: Now) {
        match input {
            RoleInput::Frame(peer, raw) => self.frame(peer, &raw, now),
            RoleInput::Up(peer, path) => {
                if self.links.up(peer, path, now.mono) {
                    self.measures.path(peer, &path, now.mono);
                    self.tell(peer, now.mono);
                    self.rank_soon(now.mono);
                    self.sample_soon(now.mono);
                }
            }
            RoleInput::Path(peer, path) => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.path = path;
                    self.measures.path(peer, &path, now.mono);
                }
            }
            RoleInput::Down(peer) => {
                if self.links.down(&peer) {
                    self.measures.down(&peer);
                    self.rank_soon(now.mono);
                    self.holder_down(&peer, now.mono);
                }
            }
            RoleInput::Bye(peer) => self.holder_left(&peer, ChangeReason::HandedOver, now),
            RoleInput::Members { active, former } => self.membership(active, former, now),
            RoleInput::Online(online) => self.presence(&online, now.mono),
            RoleInput::Addrs(addrs) => self.addrs = addrs,
            RoleInput::Net(RoleEvent::WatchOpened(peer)) => self.watch_opened(&peer),
            RoleInput::Net(RoleEvent::WatchFailed(peer)) => self.watch_failed(&peer, now.mono),
            RoleInput::Net(RoleEvent::WatchClosed(peer)) => self.watch_closed(&peer, now.mono),
            RoleInput::Net(RoleEvent::Probed(peer, outcome)) => self.probed(peer, &outcome, now.mono),
            RoleInput::Deaf => self.deaf(now.mono),
            RoleInput::Leave => self.leave(now),
            RoleInput::Tick => {}
        }
    }

    fn run_timers(&mut self, now: Now) {
        self.seek(now);
        self.follow(now);
        self.hold(now);
        self.hand_over(now);
        self.ping_in_turn(now.mono);
        self.observe(now);
    }

    fn next_wake(&self) -> Option<Duration> {
        let part = match &self.part {
            Part::Seeking { claim_at } => self.may_claim().then(|| self.seek_due(*claim_at)),
            Part::Following(following) => self.follow_due(following),
            Part::Holding(holding) => Some(Self::hold_due(holding)),
            Part::Gone => return None,
        };
        let ping = (self.links.len() > 0).then_some(self.ping_at);
        [part, ping, self.relay_until, self.observe_due()].into_iter().flatten().min()
    }

    /// This peer slept for `late`: what it did not hear says nothing about others.
    fn slipped(&mut self, late: Duration, now: Now) {
        tracing::info!(?late, "this peer's timers come late");
        self.measures.forgive();
        let settle = self.settings.settle;
        match &mut self.part {
            Part::Seeking { claim_at } => *claim_at = (*claim_at).max(now.mono + settle / 2),
            Part::Following(_) => self.forgive(now.mono),
            Part::Holding(_) if late >= self.settings.beat * 2 => self.doubt(now.mono),
            Part::Holding(_) | Part::Gone => {}
        }
    }

    /// This peer hears nothing for now, for its own reasons.
    fn deaf(&mut self, now: Duration) {
        self.measures.forgive();
        if matches!(self.part, Part::Following(_)) {
            self.forgive(now);
        }
    }

    /// What timeouts for others are multiplied with: more than 1 while this peer itself comes late.
    pub(crate) fn stretch(&self, now: Now) -> u32 {
        self.slip.stretch(now.mono)
    }

    fn membership(&mut self, active: BTreeSet<PeerId>, former: BTreeSet<PeerId>, now: Now) {
        self.members = active;
        self.former = former;
        let members = &self.members;
        self.measures.retain(|peer| members.contains(peer));
        self.online.retain(|peer, _| members.contains(peer));
        if !self.members.contains(&self.me) {
            self.part = Part::Seeking { claim_at: now.mono + self.settings.settle };
            return;
        }
        if let Some(holder) = self.ledger.holder().filter(|holder| !self.members.contains(holder)) {
            self.holder_left(&holder, ChangeReason::Removed, now);
        }
        self.reconsider_early_claim(now);
        if matches!(self.part, Part::Seeking { .. }) {
            self.ask_neighbours(now.mono);
        }
        self.rank_soon(now.mono);
    }

    fn presence(&mut self, online: &BTreeSet<PeerId>, now: Duration) {
        let before = self.online.len();
        self.online.retain(|peer, _| online.contains(peer));
        let mut changed = self.online.len() != before;
        for peer in online.iter().filter(|peer| **peer != self.me && self.members.contains(*peer)) {
            self.online.entry(*peer).or_insert_with(|| {
                changed = true;
                now
            });
        }
        if changed {
            self.rank_soon(now);
        }
    }

    /// Whether this peer may claim the role at all.
    fn may_claim(&self) -> bool {
        self.members.contains(&self.me)
    }

    /// Puts watch, connections and relay in line with this peer's part, where that may have changed.
    fn reconcile(&mut self, now: Now) {
        let (kind, tcp, vacant) = match &self.part {
            Part::Seeking { .. } => (0, None, false),
            Part::Following(following) => (1, Some(following.watch.tcp), following.vacancy.is_some()),
            Part::Holding(_) => (2, None, false),
            Part::Gone => (3, None, false),
        };
        let stance = (self.ledger.version(), kind, tcp, vacant);
        let retry = matches!(tcp, Some(Tcp::Failed { retry_at, .. }) if retry_at <= now.mono);
        let relay_ends = self.relay_until.is_some_and(|until| until <= now.mono);
        if self.stance == Some(stance) && !retry && !relay_ends {
            return;
        }
        self.stance = Some(stance);
        self.reconcile_watch(now.mono);
        let keep = self.wanted_links();
        if keep != self.kept {
            self.kept = keep.clone();
            self.out.push_back(RoleOutput::Keep(keep));
        }
        if self.wants_relay() {
            self.relay_until = None;
            self.switch_relay(Switch::On);
        } else if self.relay == Switch::On {
            let until = *self.relay_until.get_or_insert(now.mono + self.settings.relay_linger);
            if until <= now.mono {
                self.relay_until = None;
                self.switch_relay(Switch::Off);
            }
        }
    }

    fn switch_relay(&mut self, to: Switch) {
        if self.relay != to {
            self.relay = to;
            self.out.push_back(RoleOutput::Net(RoleRequest::SwitchRelay(to)));
        }
    }

    fn wanted_links(&self) -> BTreeSet<PeerId> {
        match &self.part {
            Part::Holding(_) => self.ledger.line().list.into_iter().filter(|peer| *peer != self.me).collect(),
            Part::Following(following) if following.listed => {
                let line = self.ledger.line().list.into_iter().filter(|peer| *peer != self.me);
                line.chain([following.watch.holder]).collect()
            }
            Part::Following(_) | Part::Seeking { .. } | Part::Gone => BTreeSet::new(),
        }
    }

    fn send(&mut self, to: Vec<PeerId>, frame: &RoleFrame, delivery: Delivery) {
        if !to.is_empty() {
            self.out.push_back(RoleOutput::Send { to, frame: frame.encode().into(), delivery });
        }
    }

    /// To every neighbour but one.
    fn flood(&mut self, frame: &RoleFrame, except: Option<PeerId>) {
        let to = self.links.peers().copied().filter(|peer| Some(*peer) != except).collect();
        self.send(to, frame, Delivery::Stream);
    }

    fn nonce(&mut self) -> u64 {
        self.rng.random()
    }

    /// How many members other than this peer are believed online.
    fn others_online(&self) -> usize {
        self.online.len().max(self.links.len())
    }

    /// How long an answer over the connection to `peer` may take.
    fn patience(&self, peer: &PeerId) -> Duration {
        self.measures.get(peer).and_then(|measure| measure.rtt).map_or(Duration::ZERO, |rtt| rtt.patience())
    }

    fn tcp_open(&self) -> bool {
        matches!(&self.part, Part::Following(following) if following.watch.tcp == Tcp::Open)
    }
}

#[cfg(test)]
mod tests;
