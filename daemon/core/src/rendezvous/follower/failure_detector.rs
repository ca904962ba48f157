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
//! | heartbeats (here), to listed peers every 200 ms | three are missing, or say that the holder does not hear this peer: a hung process, a cut cable, a deaf holder | 0.62 to 1 s, by the jitter of the path; 0.4 s more for a deaf one | that it is suspected as *silent*, for 120 to 600 ms; a neighbour that heard it lately refutes that |
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

/// Maximum jitter that is noted, from which [`MARGIN_MAX`] follows: a heartbeat that is later than that shows an interruption,
/// which must not slow the next failover.
const JITTER_MAX: Duration = Duration::from_millis(260);

/// How long answers over TCP are valid for a holder that is not heard otherwise: another path to it is found by then, or
/// it never accepts this peer, as one of another half does whose history forbids it.
const CALLED_FOR: Duration = Duration::from_secs(60);

/// Maximum time between two attempts to open the TCP watch.
const TCP_RETRY_MAX: Duration = Duration::from_secs(60);

/// Every how many heartbeats one is answered, so that the holder can say when it last heard this peer. While it seems not
/// to, every heartbeat is answered.
const ACK_EVERY: u32 = 2;

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

/// A heartbeat of the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// The number of this heartbeat.
    pub(crate) seq: u64,
    /// For how long the holder had not heard this peer.
    pub(crate) unheard: Duration,
    /// How long an answer to the holder may take.
    pub(crate) patience: Duration,
}

/// Whether a heartbeat is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeatReply {
    Answer,
    Silence,
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

    /// A heartbeat of the holder arrived. A holder that sends and hears nothing is as good as a silent one: what proves life
    /// is that it heard this peer, so a heartbeat is worth no more than one from when that was due at the latest.
    pub(crate) fn receive_beat(&mut self, beat: Beat, settings: &RoleSettings, now: Duration) -> BeatReply {
        let Beat { seq, unheard, patience } = beat;
        if let Some((last, at)) = self.last_beat {
            if seq <= last {
                return BeatReply::Silence;
            }
            if let Some(beats) = u32::try_from(seq - last).ok().filter(|beats| *beats <= 10) {
                let off = now.saturating_sub(at).abs_diff(settings.beat * beats).min(JITTER_MAX);
                self.jitter = off.max(self.jitter - self.jitter / 32);
            }
        }
        self.last_beat = Some((seq, now));
        let overdue = unheard.saturating_sub(settings.beat * ACK_EVERY + patience + self.margin());
        self.note_heard(now.saturating_sub(overdue));
        let due = seq.is_multiple_of(ACK_EVERY.into()) || !overdue.is_zero();
        if due { BeatReply::Answer } else { BeatReply::Silence }
    }

    /// This peer heard the holder over a connection.
    pub(crate) fn note_heard(&mut self, at: Duration) {
        self.met = self.met.max(at);
        self.note_sign(at);
    }

    /// The holder answered a probe over TCP; returns whether that is valid.
    pub(crate) fn note_probe_answer(&mut self, now: Duration) -> bool {
        let valid = now.saturating_sub(self.met) < CALLED_FOR;
        if valid {
            self.note_sign(now);
        }
        valid
    }

    fn note_sign(&mut self, at: Duration) {
        self.heard = self.heard.max(Some(at));
        if self.fresh <= Some(at) {
            self.fresh = Some(at);
            self.via = None;
        }
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

    fn beat(seq: u64, unheard: Duration) -> Beat {
        Beat { seq, unheard, patience: ZERO }
    }

    /// A watch after a minute of beats, each `jitter(n)` ms late.
    fn watched(jitter: impl Fn(u64) -> u64) -> (FailureDetector, Duration) {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        let mut now = ZERO;
        for seq in 0..300 {
            now = ms(seq * 200 + jitter(seq));
            watch.receive_beat(beat(seq, ZERO), &settings, now);
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
    fn old_heartbeat_is_void_and_every_second_one_is_answered() {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        assert_eq!(watch.receive_beat(beat(4, ZERO), &settings, ms(0)), BeatReply::Answer);
        assert_eq!(watch.receive_beat(beat(3, ZERO), &settings, ms(10)), BeatReply::Silence);
        assert_eq!(watch.heard, Some(ms(0)));
        assert_eq!(watch.receive_beat(beat(5, ms(210)), &settings, ms(200)), BeatReply::Silence);
        assert_eq!(watch.receive_beat(beat(6, ms(410)), &settings, ms(400)), BeatReply::Answer);
        assert_eq!(watch.heard, Some(ms(400)));
    }

    #[test]
    fn deaf_holder_is_suspected_a_second_after_it_last_heard_this_peer() {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        for n in 0..=6 {
            // Since it became deaf at 0.
            let reply = watch.receive_beat(beat(100 + n, ms(200 * n)), &settings, ms(200 * n));
            let expected = if n > 2 || n % 2 == 0 { BeatReply::Answer } else { BeatReply::Silence };
            assert_eq!(reply, expected, "heartbeat {n}: while it seems deaf, all are answered");
        }
        assert_eq!(watch.alarm_at(Closeness::Close, &settings, 1), ms(420 + 620));
        let far = Beat { patience: ms(300), ..beat(107, ms(700)) };
        watch.receive_beat(far, &settings, ms(1_400));
        assert_eq!(watch.heard, Some(ms(1_400)), "answers take that long");
    }

    #[test]
    fn interruption_is_not_jitter_for_long() {
        let settings = RoleSettings::default();
        let (mut watch, now) = watched(|_| 0);
        let again = now + ms(1_600);
        watch.receive_beat(beat(301, ZERO), &settings, again);
        assert_eq!(watch.window(Closeness::Close, &settings, 1), ms(600 + 400), "it may have been jitter");
        for n in 1..=25 {
            watch.receive_beat(beat(301 + n, ZERO), &settings, again + ms(200 * n));
        }
        assert!(watch.window(Closeness::Close, &settings, 1) < ms(820));
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
