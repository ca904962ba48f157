//! The failure detector: when is the holder's silence too long?
//!
//! # Who decides that the holder is gone
//!
//! Many parts of the daemon notice that a peer is silent. Only one decides that the role is vacant: a confirmed
//! [`suspicion`](super::suspicion), or the holder's own goodbye or removal. All others give it signs of life, or reasons to
//! begin.
//!
//! | detector | sees | how fast | may decide alone |
//! |---|---|---|---|
//! | TCP watch (`daemon/src/net/tcp/watch.rs`), of listed peers, and of all in rooms of up to 16 | the kernel closes the connection: the process died or was stopped | a round trip | that the holder is suspected as *died*; it has 50 to 600 ms to answer a ping, and only its own answer refutes it |
//! | heartbeats (here), to listed peers every 200 ms | three are missing: a hung process, a cut cable | 0.62 to 1 s, by the jitter of the path | that it is suspected as *silent*, for 120 to 600 ms; a neighbour that heard it lately refutes that |
//! | pings of the role ([`gossip`](crate::rendezvous::upkeep::gossip)), 2 s a connection, 3/s in all | the newest sign of life that the neighbour knows; round-trip time and loss | 10 s without any sign | off the list, that it is suspected as *silent*; an unanswered ping alone is a figure in the ranking |
//! | end of a connection without a goodbye | `RoleInput::Down` of the holder, from any of the next four | at once | off the list, that it is suspected as *silent*, for a heartbeat window; listed peers go on to wait for heartbeats |
//! | direct path without answers (`daemon/src/net/transport/silence.rs`) | nothing comes back on a path on which something was sent | 0.4 s or four round trips, 1 s on a connection younger than 5 s; 2.5 s where the peer answered over TCP before and does not now | that the connection ends, and the peer is dialled through the relay as well |
//! | pings of the node (`peers/liveness.rs`), after 1.5 to 2 s without a frame, longer with more than eight connections | no answer for 2.4 s, 1.2 s once the role or a neighbour misses the peer | 2.7 to 4.4 s | that the connection is closed and the peer offline, for any peer |
//! | QUIC idle timeout | no packet on any path | 15 s | that the connection ended |
//! | path idle timeout, kept alive every 5 s | no packet on one path | 15 s | that the connection leaves this path; nothing about the peer |
//! | presence (`delivery/dissemination.rs`), in large rooms | a lost neighbour is reported 2 to 3 s later; members show life every 60 s or slower | seconds to minutes | nothing: it sets who is online, for the size of a component and the ranking |
//! | probe (TCP hello), with each suspicion of silence | the process answers at its port | 2.5 s at most | that silence is refuted, up to 60 s after the holder was last heard over a connection; no answer says nothing |
//! | relay forwarder (`daemon/src/net/tcp/forwarder.rs`) | end of the stream to the relay in use | a round trip | which relay is used; a holder that was declared gone has 0.4 s to show that its relay lives |
//! | [stall detector](crate::rendezvous::context::stall_detector) | this peer's own timers are late by 100 ms, or the wall clock jumped by 0.5 s | at the next input | that the silence so far is void and timeouts double for 2 s |
//!
//! [`FailureDetector`] is the second row and keeps what the others contribute: when the holder was heard by this peer,
//! when by any peer, and since when silence is relevant. It has no timer and no output; [`follower`](super) asks it for the
//! time of the next alarm.

use std::time::Duration;

use chat_proto::id::{PeerId, Term};

use crate::rendezvous::settings::RoleSettings;

/// Margin of the window on a network without jitter, for what schedulers add.
const MARGIN_MIN: Duration = Duration::from_millis(20);

/// Maximum margin that jitter can ask for: twice the beat, as in 200 ms of jitter on every heartbeat.
const MARGIN_MAX: Duration = Duration::from_millis(400);

/// A holder that did not hear this peer for this long cannot serve it: its heartbeats are void.
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// How long answers over TCP are valid for a holder that is not heard otherwise: another path to it is found by then, or
/// it never accepts this peer, as one of another half does whose history forbids it.
const CALLED_FOR: Duration = Duration::from_secs(60);

/// Maximum time between two attempts to open the TCP watch.
const TCP_RETRY_MAX: Duration = Duration::from_secs(60);

/// Every how many heartbeats one is answered: the holder learns within a second which peers hear it.
const ACK_EVERY: u64 = 4;

/// What a follower knows of its holder's signs of life.
#[derive(Debug)]
pub(crate) struct FailureDetector {
    pub(crate) holder: PeerId,
    pub(crate) term: Term,
    /// When the holder was last heard by this peer itself: a beat, or the answer to a ping.
    pub(crate) heard: Option<Duration>,
    /// When any peer last heard it, as far as this peer knows.
    pub(crate) fresh: Option<Duration>,
    /// The neighbour that reported so: the next hop to the holder where there is no connection.
    pub(crate) via: Option<PeerId>,
    pub(crate) tcp: TcpWatch,
    /// Silence before this is ignored: the watch began, or this peer itself was stalled.
    base: Duration,
    /// When the holder was last heard over a connection, or the watch began.
    met: Duration,
    quiet_until: Duration,
    last_beat: Option<(u64, Duration)>,
    jitter: Duration,
}

/// The plain TCP connection to the holder's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpWatch {
    /// Not wanted.
    Off,
    /// Being opened.
    Opening,
    /// Open: when the process dies, its kernel closes it.
    Open,
    /// It could not be opened.
    Failed {
        /// When to try again.
        retry_at: Duration,
        /// How long to wait after the next failure.
        next: Duration,
    },
}

/// How closely a peer watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closeness {
    /// On the list, with a connection to the holder now or a moment ago: heartbeats are due.
    Close,
    /// Otherwise: some sign of life, heard or reported, is due within a longer time.
    Loose,
}

/// What a heartbeat proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The holder is alive and hears this peer; answer it.
    Answer,
    /// The holder is alive and hears this peer.
    Heard,
    /// Nothing: an old one, or from a holder that does not hear this peer.
    Void,
}

impl FailureDetector {
    pub(crate) const fn new(holder: PeerId, term: Term, now: Duration) -> Self {
        Self {
            holder,
            term,
            heard: None,
            fresh: None,
            via: None,
            tcp: TcpWatch::Off,
            base: now,
            met: now,
            quiet_until: Duration::ZERO,
            last_beat: None,
            jitter: Duration::ZERO,
        }
    }

    /// A heartbeat of the holder arrived.
    pub(crate) fn receive_beat(&mut self, seq: u64, heard: Duration, settings: &RoleSettings, now: Duration) -> Beat {
        if let Some((last, at)) = self.last_beat {
            if seq <= last {
                return Beat::Void;
            }
            if let Some(beats) = u32::try_from(seq - last).ok().filter(|beats| *beats <= 10) {
                let off = now.saturating_sub(at).abs_diff(settings.beat * beats);
                self.jitter = off.max(self.jitter - self.jitter / 32);
            }
        }
        self.last_beat = Some((seq, now));
        if heard > DEAF_AFTER {
            // Answered all the same, so that a holder that hears again learns so.
            return if seq.is_multiple_of(ACK_EVERY) { Beat::Answer } else { Beat::Void };
        }
        self.note_heard(now);
        if seq.is_multiple_of(ACK_EVERY) { Beat::Answer } else { Beat::Heard }
    }

    /// This peer heard the holder over a connection.
    pub(crate) fn note_heard(&mut self, now: Duration) {
        self.met = now;
        self.note_sign(now);
    }

    /// The holder answered a probe over TCP; returns whether that is valid.
    pub(crate) fn note_probe_answer(&mut self, now: Duration) -> bool {
        let valid = now.saturating_sub(self.met) < CALLED_FOR;
        if valid {
            self.note_sign(now);
        }
        valid
    }

    fn note_sign(&mut self, now: Duration) {
        self.heard = Some(now);
        self.fresh = Some(now);
        self.via = None;
    }

    /// A neighbour reports that the holder was heard at `when`.
    pub(crate) fn note_hearsay(&mut self, when: Duration, from: PeerId) {
        if self.fresh.is_none_or(|fresh| fresh < when) {
            self.fresh = Some(when);
            self.via = Some(from);
        }
    }

    /// This peer itself was stalled, or was just listed: earlier silence is void.
    pub(crate) fn forgive(&mut self, now: Duration) {
        self.base = self.base.max(now);
    }

    /// Other peers refuted a suspicion: none before `until`.
    pub(crate) fn hold_off_until(&mut self, until: Duration) {
        self.quiet_until = self.quiet_until.max(until);
    }

    /// Maximum silence of the holder.
    pub(crate) fn window(&self, closeness: Closeness, settings: &RoleSettings, stretch: u32) -> Duration {
        match closeness {
            Closeness::Close => (settings.beat * settings.misses + self.margin()) * stretch,
            Closeness::Loose => settings.slow * stretch,
        }
    }

    /// Maximum age of a sign of life that refutes a suspicion.
    pub(crate) fn tolerance(&self, closeness: Closeness, settings: &RoleSettings) -> Duration {
        match closeness {
            Closeness::Close => settings.beat * (settings.misses - 1).max(1) + self.margin(),
            Closeness::Loose => settings.slow / 2,
        }
    }

    /// How late a heartbeat may be without a failure.
    pub(crate) fn margin(&self) -> Duration {
        (MARGIN_MIN + self.jitter * 3 / 2).min(MARGIN_MAX)
    }

    /// The last sign of life that is relevant for a peer that watches so closely.
    pub(crate) const fn last_sign(&self, closeness: Closeness) -> Option<Duration> {
        match closeness {
            Closeness::Close => self.heard,
            Closeness::Loose => self.fresh,
        }
    }

    /// When the silence becomes too long.
    pub(crate) fn alarm_at(&self, closeness: Closeness, settings: &RoleSettings, stretch: u32) -> Duration {
        let since = self.last_sign(closeness).unwrap_or_default().max(self.base);
        (since + self.window(closeness, settings, stretch)).max(self.quiet_until)
    }

    /// The TCP watch could not be opened, or was closed while the holder lives.
    pub(crate) fn tcp_failed(&mut self, now: Duration) {
        let wait = match self.tcp {
            TcpWatch::Failed { next, .. } => next,
            TcpWatch::Off | TcpWatch::Opening | TcpWatch::Open => Duration::from_secs(1),
        };
        self.tcp = TcpWatch::Failed { retry_at: now + wait, next: (wait * 2).min(TCP_RETRY_MAX) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: PeerId = PeerId::from_bytes([1; 32]);
    const ZERO: Duration = Duration::ZERO;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A watch after a minute of beats, each `jitter(n)` ms late.
    fn watched(jitter: impl Fn(u64) -> u64) -> (FailureDetector, Duration) {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        let mut now = ZERO;
        for seq in 0..300 {
            now = ms(seq * 200 + jitter(seq));
            watch.receive_beat(seq, ZERO, &settings, now);
        }
        (watch, now)
    }

    #[test]
    fn window_follows_the_jitter_of_the_network() {
        let settings = RoleSettings::default();
        let (calm, now) = watched(|_| 0);
        assert_eq!(calm.alarm_at(Closeness::Close, &settings, 1), now + ms(620));
        let (rough, _) = watched(|seq| seq * 7_919 % 200);
        let window = rough.window(Closeness::Close, &settings, 1);
        assert!((ms(750)..=ms(1_000)).contains(&window), "{window:?}");
        assert_eq!(rough.window(Closeness::Close, &settings, 2), window * 2);
    }

    #[test]
    fn heartbeat_of_an_old_or_deaf_holder_is_void() {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        assert_eq!(watch.receive_beat(4, ZERO, &settings, ms(0)), Beat::Answer);
        assert_eq!(watch.receive_beat(3, ZERO, &settings, ms(10)), Beat::Void);
        assert_eq!(watch.receive_beat(5, ms(2_999), &settings, ms(200)), Beat::Heard);
        assert_eq!(watch.receive_beat(6, ms(3_001), &settings, ms(400)), Beat::Void);
        assert_eq!(watch.receive_beat(8, ms(3_001), &settings, ms(800)), Beat::Answer);
        assert_eq!(watch.heard, Some(ms(200)));
    }

    #[test]
    fn hearsay_delays_the_alarm_of_loose_watchers_only() {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        watch.note_hearsay(ms(5_000), PeerId::from_bytes([2; 32]));
        watch.note_hearsay(ms(4_000), PeerId::from_bytes([3; 32]));
        assert_eq!(watch.via, Some(PeerId::from_bytes([2; 32])));
        assert_eq!(watch.alarm_at(Closeness::Close, &settings, 1), ms(620));
        assert_eq!(watch.alarm_at(Closeness::Loose, &settings, 1), ms(15_000));
    }

    #[test]
    fn holder_that_only_answers_probes_is_alive_for_a_minute() {
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        watch.note_heard(ms(1_000));
        assert!(watch.note_probe_answer(ms(60_999)));
        assert_eq!((watch.heard, watch.fresh), (Some(ms(60_999)), Some(ms(60_999))));
        assert!(!watch.note_probe_answer(ms(61_000)));
        assert_eq!(watch.heard, Some(ms(60_999)), "it has not been heard since");
        watch.note_heard(ms(62_000));
        assert!(watch.note_probe_answer(ms(70_000)));
    }

    #[test]
    fn stalled_peer_begins_anew_and_refuted_one_waits() {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        watch.forgive(ms(2_000));
        assert_eq!(watch.alarm_at(Closeness::Close, &settings, 1), ms(2_620));
        assert_eq!(watch.heard, None, "to forgive is not to have heard");
        watch.hold_off_until(ms(9_000));
        assert_eq!(watch.alarm_at(Closeness::Close, &settings, 1), ms(9_000));
    }

    #[test]
    fn failed_tcp_watch_is_retried_with_backoff() {
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        let mut waits = Vec::new();
        for _ in 0..8 {
            watch.tcp_failed(ZERO);
            if let TcpWatch::Failed { retry_at, .. } = watch.tcp {
                waits.push(retry_at.as_secs());
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
