//! Following: watching the holder, suspecting it, speaking up for it.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, Term};

use super::Rendezvous;
use super::frames::{Cause, RoleFrame};
use super::io::{Delivery, RoleOutput};
use super::part::{Following, Part, Vacancy};
use super::succession::Place;
use super::suspicion::{ASKED_MAX, Outcome, Suspicion};
use super::watch::{Beat, Closeness, Tcp};
use crate::input::Now;
use crate::types::RoleRequest;

impl Rendezvous {
    /// When a follower has something to do. A vacancy asks nothing of somebody who may not claim: a newcomer that does not
    /// know yet that it was let in, or a member that was removed.
    pub(super) fn follow_due(&self, following: &Following) -> Option<Duration> {
        let held = following.held.as_ref().map(|held| held.until);
        let tcp = match following.watch.tcp {
            Tcp::Failed { retry_at, .. } if following.listed && following.vacancy.is_none() => Some(retry_at),
            Tcp::Failed { .. } | Tcp::Off | Tcp::Opening | Tcp::Open => None,
        };
        let next = match (&following.vacancy, &following.suspicion) {
            (Some(vacancy), _) => self.may_claim().then_some(vacancy.claim_at),
            (None, Some(suspicion)) => Some(suspicion.due()),
            (None, None) => {
                let stretch = self.slip.stretch(self.slip.last());
                Some(following.watch.alarm_at(self.closeness(following), &self.settings, stretch))
            }
        };
        [held, tcp, next].into_iter().flatten().min()
    }

    /// What is due for a follower.
    pub(super) fn follow(&mut self, now: Now) {
        let Part::Following(following) = &mut self.part else { return };
        if let Some(held) = following.held.take_if(|held| held.until <= now.mono) {
            return self.adopt(held.claim, held.succession, Some(held.source), now);
        }
        if following.vacancy.is_some() {
            return self.claim_in_turn(now);
        }
        if following.suspicion.is_some() {
            return self.pursue(now);
        }
        let Part::Following(following) = &self.part else { return };
        let stretch = self.slip.stretch(now.mono);
        let closeness = self.closeness(following);
        if now.mono >= following.watch.alarm_at(closeness, &self.settings, stretch) {
            let sign = match closeness {
                Closeness::Close => following.watch.heard,
                Closeness::Loose => following.watch.fresh,
            };
            let lost_at = sign.unwrap_or(now.mono);
            self.suspect(Cause::Silent, lost_at, self.settings.silent_probe, now.mono);
        }
    }

    /// Begins a suspicion that ends after `least`, or later where answers take longer.
    pub(super) fn suspect(&mut self, cause: Cause, lost_at: Duration, least: Duration, now: Duration) {
        let nonce = self.nonce();
        let Part::Following(following) = &self.part else { return };
        let holder = following.watch.holder;
        let stretch = self.slip.stretch(now);
        let tolerance = following.watch.tolerance(self.closeness(following), &self.settings);
        let listed: Vec<PeerId> = self.ledger.line().list;
        let others = self.links.peers().copied().filter(|peer| !listed.contains(peer));
        let asked: BTreeSet<PeerId> = listed
            .iter()
            .copied()
            .filter(|peer| self.links.contains(peer))
            .chain(others)
            .filter(|peer| *peer != holder && *peer != self.me)
            .take(ASKED_MAX)
            .collect();
        let slowest = match cause {
            Cause::Died => self.patience(&holder),
            // A call over TCP takes two round trips.
            Cause::Silent => {
                let others = asked.iter().map(|peer| self.patience(peer)).max().unwrap_or_default();
                others.max(self.patience(&holder) * 2)
            }
        };
        let ceiling = self.settings.probe_max.max(least);
        let span = (slowest + Duration::from_millis(10)).clamp(least, ceiling) * stretch;
        let (margin, silent) = (following.watch.margin(), now.saturating_sub(lost_at));
        tracing::info!(holder = %holder.short(), ?cause, ?silent, ?margin, stretch, ?span, "the holder is suspected");
        let question = RoleFrame::Suspect { term: self.ledger.term(), nonce, cause };
        let suspicion = Suspicion::new(cause, lost_at, nonce, asked.clone(), tolerance, (now, now + span));
        if let Part::Following(following) = &mut self.part {
            following.suspicion = Some(suspicion);
        }
        self.send(asked.into_iter().collect(), &question, Delivery::Stream);
        self.ping_suspect(now);
        if cause == Cause::Silent {
            // It may be the way there that died, and not the holder: its process answers over TCP, a kernel alone does not.
            self.out.push_back(RoleOutput::Net(RoleRequest::Probe(holder)));
        }
    }

    /// The holder answered a call over TCP: it lives, whatever became of the connection to it. That refutes only silence; of
    /// a process that died, another one may have taken the port.
    pub(super) fn holder_called(&mut self, now: Duration) {
        let Part::Following(following) = &mut self.part else { return };
        let died = following.suspicion.as_ref().is_some_and(|suspicion| suspicion.cause == Cause::Died)
            || following.vacancy.as_ref().is_some_and(|vacancy| vacancy.reason != ChangeReason::Silent);
        if died || !following.watch.called(now) {
            return;
        }
        following.suspicion = None;
        if following.vacancy.take().is_some() {
            let (holder, term) = (following.watch.holder, following.watch.term);
            self.out.push_back(RoleOutput::Back { holder, term });
        }
    }

    /// Whether a probe of this peer asks whether the holder lives.
    pub(super) fn doubts(&self, peer: &PeerId) -> bool {
        let Part::Following(following) = &self.part else { return false };
        following.watch.holder == *peer && (following.suspicion.is_some() || following.vacancy.is_some())
    }

    /// Goes on with a suspicion.
    fn pursue(&mut self, now: Now) {
        self.ping_suspect(now.mono);
        let Part::Following(following) = &self.part else { return };
        let Some(suspicion) = &following.suspicion else { return };
        if suspicion.outcome(now.mono) == Outcome::Confirmed {
            let reason = match suspicion.cause {
                Cause::Died => ChangeReason::Died,
                Cause::Silent => ChangeReason::Silent,
            };
            let lost_at = suspicion.lost_at;
            self.vacate(reason, lost_at, now);
        }
    }

    fn ping_suspect(&mut self, now: Duration) {
        let gossip = self.gossip(now);
        let Part::Following(following) = &mut self.part else { return };
        let holder = following.watch.holder;
        let Some(suspicion) = &mut following.suspicion else { return };
        let nonce = suspicion.nonce;
        if suspicion.ping(now) && self.links.contains(&holder) {
            self.send(vec![holder], &RoleFrame::Ping { nonce, gossip }, Delivery::Datagram);
        }
    }

    /// A beat arrived.
    pub(super) fn beat(&mut self, peer: PeerId, term: Term, seq: u64, heard_ms: u32, now: Now) {
        let known = self.ledger.term();
        let Part::Following(following) = &mut self.part else {
            return if term <= known { self.tell(peer, now.mono) } else { self.ping(peer, now.mono) };
        };
        if term > known {
            return self.ping(peer, now.mono);
        }
        if term < known || peer != following.watch.holder {
            return self.tell(peer, now.mono);
        }
        let heard = Duration::from_millis(u64::from(heard_ms));
        let beat = following.watch.beat(seq, heard, &self.settings, now.mono);
        if following.watch.heard == Some(now.mono) {
            let jitter = following.watch.margin();
            following.suspicion.take_if(|suspicion| suspicion.refuted_by_beat(jitter, now.mono));
            let refuted = |vacancy: &mut Vacancy| match vacancy.reason {
                ChangeReason::Silent => true,
                ChangeReason::Died => now.mono > vacancy.lost_at + jitter,
                ChangeReason::Founded
                | ChangeReason::HandedOver
                | ChangeReason::BetterConnected
                | ChangeReason::Merged
                | ChangeReason::Removed => false,
            };
            if following.vacancy.take_if(refuted).is_some() {
                self.out.push_back(RoleOutput::Back { holder: peer, term });
            }
        }
        if beat == Beat::Answer {
            self.send(vec![peer], &RoleFrame::BeatAck { term }, Delivery::Datagram);
        }
    }

    /// The suspected holder answered.
    pub(super) fn suspect_answered(&mut self, nonce: u64, now: Duration) {
        let Part::Following(following) = &mut self.part else { return };
        if following.suspicion.take_if(|suspicion| suspicion.nonce == nonce).is_some() {
            following.watch.lives(now);
        }
    }

    /// A neighbour suspects the holder and asks what this peer knows.
    pub(super) fn asked(&mut self, peer: PeerId, term: Term, nonce: u64, cause: Cause, now: Now) {
        let known = self.ledger.term();
        let heard = match &self.part {
            Part::Holding(holding) if holding.doubt.is_none() => Some(now.mono),
            Part::Following(following) => following.watch.heard,
            Part::Holding(_) | Part::Seeking { .. } | Part::Gone => None,
        };
        let heard_ms = heard.filter(|_| term == known).map(|at| millis(now.mono.saturating_sub(at)));
        self.send(vec![peer], &RoleFrame::Verdict { nonce, term: known, heard_ms }, Delivery::Stream);
        if term < known {
            return self.tell(peer, now.mono);
        }
        let blind = !self.tcp_open();
        let Part::Following(following) = &self.part else { return };
        let calm = following.listed && following.suspicion.is_none() && following.vacancy.is_none();
        if term == known && cause == Cause::Died && calm && blind && self.links.contains(&following.watch.holder) {
            // The neighbour saw what this peer has no connection to see: look at once.
            self.suspect(Cause::Died, now.mono, self.settings.probe_min, now.mono);
        }
    }

    /// A neighbour answered.
    pub(super) fn verdict(&mut self, peer: PeerId, nonce: u64, term: Term, heard_ms: Option<u32>, now: Duration) {
        let same_term = term == self.ledger.term();
        let stretch = self.slip.stretch(now);
        let Part::Following(following) = &self.part else { return };
        let window = following.watch.window(self.closeness(following), &self.settings, stretch);
        let Part::Following(following) = &mut self.part else { return };
        let Some(suspicion) = following.suspicion.as_mut().filter(|suspicion| suspicion.nonce == nonce) else { return };
        let heard = heard_ms.filter(|_| same_term).map(|ms| Duration::from_millis(u64::from(ms)));
        if suspicion.answer(peer, heard) == Outcome::Dropped {
            following.suspicion = None;
            following.watch.quiet(now + window);
            if let Some(age) = heard {
                following.watch.hearsay(now.saturating_sub(age), peer);
            }
        }
    }

    /// The connection to a peer ended without a word.
    pub(super) fn holder_down(&mut self, peer: &PeerId, now: Duration) {
        let Part::Following(following) = &self.part else { return };
        if following.watch.holder == *peer && following.suspicion.is_none() && following.vacancy.is_none() {
            let lost_at = following.watch.heard.unwrap_or(now);
            let patience = following.watch.window(Closeness::Close, &self.settings, 1);
            self.suspect(Cause::Silent, lost_at, patience, now);
        }
    }

    pub(super) fn watch_opened(&mut self, peer: &PeerId) {
        if let Part::Following(following) = &mut self.part
            && following.watch.holder == *peer
            && following.watch.tcp == Tcp::Opening
        {
            following.watch.tcp = Tcp::Open;
        }
    }

    pub(super) fn watch_failed(&mut self, peer: &PeerId, now: Duration) {
        if let Part::Following(following) = &mut self.part
            && following.watch.holder == *peer
            && following.watch.tcp == Tcp::Opening
        {
            following.watch.tcp_failed(now);
        }
    }

    /// The holder's kernel closed the TCP watch: its process died, or it stopped to listen.
    pub(super) fn watch_closed(&mut self, peer: &PeerId, now: Duration) {
        let Part::Following(following) = &mut self.part else { return };
        if following.watch.holder != *peer || following.watch.tcp != Tcp::Open {
            return;
        }
        following.watch.tcp_failed(now);
        let known_dead = following.suspicion.as_ref().is_some_and(|suspicion| suspicion.cause == Cause::Died);
        if following.vacancy.is_none() && !known_dead {
            self.suspect(Cause::Died, now, self.settings.probe_min, now);
        }
    }

    /// Opens, closes and reopens the TCP watch as this peer's place on the list asks for.
    pub(super) fn reconcile_watch(&mut self, now: Duration) {
        let place = self.ledger.line().place(&self.me);
        let Part::Following(following) = &mut self.part else { return };
        let listed = matches!(place, Place::Listed(_));
        if listed && !following.listed {
            following.watch.forgive(now);
        }
        following.listed = listed;
        let open = match following.watch.tcp {
            Tcp::Off => listed,
            Tcp::Failed { retry_at, .. } => listed && following.vacancy.is_none() && retry_at <= now,
            Tcp::Opening | Tcp::Open => false,
        };
        if open {
            following.watch.tcp = Tcp::Opening;
            self.out.push_back(RoleOutput::Net(RoleRequest::OpenWatch(following.watch.holder)));
        } else if !listed {
            self.close_watch();
        }
    }

    /// This peer slept: it begins to listen anew. A closed connection stays closed, and is looked into again.
    pub(super) fn forgive(&mut self, now: Duration) {
        let Part::Following(following) = &mut self.part else { return };
        following.watch.forgive(now);
        let vacancy = following.vacancy.take();
        if vacancy.is_some() {
            let (holder, term) = (following.watch.holder, following.watch.term);
            self.out.push_back(RoleOutput::Back { holder, term });
        }
        let suspicion = following.suspicion.take();
        let died = vacancy.is_some_and(|vacancy| vacancy.reason == ChangeReason::Died)
            || suspicion.is_some_and(|suspicion| suspicion.cause == Cause::Died);
        if died {
            self.suspect(Cause::Died, now, self.settings.probe_min, now);
        }
    }
}

/// Milliseconds, as frames carry them.
pub(super) fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
