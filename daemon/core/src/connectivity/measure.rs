//! What this peer measured of each other member: reached directly or not, round-trip time, loss, dial-back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::PathInfo;

/// Maximum number of members that measurements are kept of; connected ones stay, of the others the oldest go. Members beyond are
/// measured again when the sample reaches them.
pub(crate) const MEASURES_MAX: usize = 1_024;

/// Time after which an unanswered ping is lost.
const PING_LOST_AFTER: Duration = Duration::from_secs(3);

/// Maximum number of pings to one peer in flight; with one ping in 2 s and a loss after 3 s, two are.
const PINGS_PENDING_MAX: usize = 8;

/// By how much a round trip must exceed what was to be expected to say more about the peer than about the path: it slept, or
/// its processor was busy elsewhere.
const OUTLIER_ABOVE: Duration = Duration::from_millis(100);

/// Time after which such round trips are taken for those of the path.
const OUTLIERS_FOR: Duration = Duration::from_secs(6);

/// How long a measurement of a member that is not connected is valid.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// Minimum number of ping outcomes for a share of loss.
const LOSS_PINGS_MIN: u32 = 8;

/// Number of ping outcomes that are remembered, up to 32: those of about half a minute, so that a link that becomes bad shows soon.
const LOSS_PINGS_MAX: u32 = 16;

/// Round-trip time, smoothed as in RFC 6298: mean with gain 1/8, deviation with gain 1/4; in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rtt {
    mean_us: i64,
    dev_us: i64,
}

impl Rtt {
    pub(crate) fn first(sample: Duration) -> Self {
        let us = micros(sample);
        Self { mean_us: us, dev_us: us / 2 }
    }

    pub(crate) fn add(&mut self, sample: Duration) {
        let error = micros(sample) - self.mean_us;
        self.mean_us += error / 8;
        self.dev_us += (error.abs() - self.dev_us) / 4;
    }

    pub(crate) fn mean(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.mean_us).unwrap_or(0))
    }

    /// By when an answer is to be expected.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.mean_us + 4 * self.dev_us).unwrap_or(0))
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros().min(60_000_000)).unwrap_or(60_000_000)
}

/// What is known of one member.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    /// Whether it is reached without a relay.
    pub(crate) direct: bool,
    /// Whether it is connected now.
    pub(crate) connected: bool,
    /// Round-trip time, once measured.
    pub(crate) rtt: Option<Rtt>,
    /// Whether it answered at its addresses without being in touch with the socket that asked, when we are outside its
    /// network.
    pub(crate) called: Option<bool>,
    /// When it was last measured.
    pub(crate) at: Duration,
    /// Whether it is only QUIC's estimate.
    estimated: bool,
    /// Since when round trips are far longer than expected.
    slow_since: Option<Duration>,
    path_loss: f32,
    /// The last pings, newest in the lowest bit; 1 is lost.
    lost: u32,
    pings: u32,
    pending: VecDeque<(u64, Duration)>,
}

impl Measure {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            direct: false,
            connected: false,
            rtt: None,
            estimated: false,
            called: None,
            at: now,
            slow_since: None,
            path_loss: 0.0,
            lost: 0,
            pings: 0,
            pending: VecDeque::new(),
        }
    }

    /// Share of what is sent one way that is lost, 0 to 1, by the pings that were not answered. A ping and its answer cross
    /// the path once each. The connection's own figure is used only until there were some pings: QUIC takes for lost what
    /// another packet overtook.
    pub(crate) fn loss(&self) -> f32 {
        if self.pings < LOSS_PINGS_MIN {
            return if self.path_loss.is_finite() { self.path_loss.clamp(0.0, 1.0) } else { 0.0 };
        }
        let lost = u16::try_from(self.lost.count_ones()).unwrap_or(32);
        let pings = u16::try_from(self.pings).unwrap_or(32);
        1.0 - (1.0 - f32::from(lost) / f32::from(pings)).max(0.0).sqrt()
    }

    /// A connection is open, or its path was measured.
    pub(crate) fn path(&mut self, path: &PathInfo, now: Duration) {
        if self.connected && self.direct != path.direct {
            self.rtt = None;
        }
        self.connected = true;
        self.direct = path.direct;
        self.path_loss = path.loss;
        self.at = now;
        // QUIC smooths its round-trip time, so that it is too long for many seconds after the other end was suspended: it is
        // the first estimate, and once pings were answered it can only shorten what they say.
        if path.rtt.is_zero() {
            return;
        }
        match self.rtt.filter(|_| !self.estimated) {
            None => (self.rtt, self.estimated) = (Some(Rtt::first(path.rtt)), true),
            Some(known) if path.rtt <= known.mean() => self.sample(path.rtt, now),
            Some(_) => {}
        }
    }

    /// The connection ended. What was measured stays for a while; pings on their way say nothing about the path.
    pub(crate) fn down(&mut self) {
        self.connected = false;
        self.pending.clear();
    }

    /// A ping leaves; the peer was last heard at `heard`. An earlier ping without an answer is lost, unless nothing at all has come
    /// from the peer since: what is cut or suspended says nothing about what the path loses otherwise.
    pub(crate) fn ping(&mut self, nonce: u64, heard: Duration, now: Duration) {
        while let Some((_, sent)) = self.pending.pop_front_if(|(_, sent)| *sent + PING_LOST_AFTER <= now) {
            if heard > sent {
                self.outcome(true);
            }
        }
        if self.pending.len() >= PINGS_PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((nonce, now));
    }

    /// A pong arrived; returns whether it answers a ping that was on its way.
    pub(crate) fn pong(&mut self, nonce: u64, now: Duration) -> bool {
        let Some(place) = self.pending.iter().position(|(sent, _)| *sent == nonce) else { return false };
        if let Some((_, sent)) = self.pending.remove(place) {
            self.sample(now.saturating_sub(sent), now);
            self.outcome(false);
            self.at = now;
        }
        true
    }

    /// This peer itself was asleep or starved: pings in flight prove nothing about the other.
    pub(crate) fn forgive(&mut self) {
        self.pending.clear();
    }

    /// A probe was answered, or not. `outside`: whether this peer is outside the other's network, where known.
    pub(crate) fn probed(&mut self, rtt: Option<Duration>, outside: Option<bool>, now: Duration) {
        self.at = now;
        if outside == Some(true) {
            self.called = Some(rtt.is_some());
        }
        if !self.connected {
            self.direct = rtt.is_some();
            self.rtt = rtt.map(Rtt::first);
        }
    }

    /// Whether it is still valid.
    pub(crate) fn is_current(&self, now: Duration) -> bool {
        self.connected || self.at + KEPT_FOR > now
    }

    fn sample(&mut self, rtt: Duration, now: Duration) {
        let estimated = std::mem::take(&mut self.estimated);
        let known = match &mut self.rtt {
            Some(known) if !estimated => known,
            // The first answer may come from a peer that slept.
            estimate => {
                *estimate = Some(Rtt::first(estimate.map_or(rtt, |known| known.mean().min(rtt))));
                return;
            }
        };
        if rtt <= known.patience() * 2 + OUTLIER_ABOVE {
            self.slow_since = None;
            known.add(rtt);
        } else if now.saturating_sub(*self.slow_since.get_or_insert(now)) >= OUTLIERS_FOR {
            self.slow_since = None;
            self.rtt = Some(Rtt::first(rtt));
        }
    }

    fn outcome(&mut self, lost: bool) {
        self.lost = (self.lost << 1 | u32::from(lost)) & ((1 << LOSS_PINGS_MAX) - 1);
        self.pings = (self.pings + 1).min(LOSS_PINGS_MAX);
    }
}

#[cfg(test)]
mod tests;
