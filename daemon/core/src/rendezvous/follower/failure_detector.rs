//! Watching the holder: when is its silence too long?

use std::time::Duration;

use chat_proto::id::{PeerId, Term};

use crate::rendezvous::settings::RoleSettings;

/// Margin of the window on a network without jitter: what schedulers add.
const MARGIN_MIN: Duration = Duration::from_millis(20);

/// Largest margin that jitter can ask for: twice the beat, as in 200 ms of jitter on every heartbeat.
const MARGIN_MAX: Duration = Duration::from_millis(400);

/// A holder that heard nothing of this peer for so long cannot serve it: its heartbeats count no more.
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// For how long answers over TCP stand for a holder that is not heard otherwise: another way to it is found by then, or it
/// never takes this peer, as one of another half does whose history forbids it.
const CALLED_FOR: Duration = Duration::from_secs(60);

/// Longest time between two attempts to open the TCP watch.
const TCP_RETRY_MAX: Duration = Duration::from_secs(60);

/// Which beats are answered: the holder learns within a second who hears it.
const ACK_EVERY: u64 = 4;

/// What a follower knows of its holder's life.
#[derive(Debug)]
pub(crate) struct FailureDetector {
    pub(crate) holder: PeerId,
    pub(crate) term: Term,
    /// When the holder was last heard by this peer itself: a beat, or the answer to a ping.
    pub(crate) heard: Option<Duration>,
    /// When it was last heard by anybody, as far as this peer was told.
    pub(crate) fresh: Option<Duration>,
    /// Who told so: the way to the holder where there is no connection.
    pub(crate) via: Option<PeerId>,
    pub(crate) tcp: TcpWatch,
    /// Silence before this does not count: the watch began, or this peer itself slept.
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
    /// On its way.
    Opening,
    /// It stands: when the process dies, its kernel closes it.
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
    /// On the list, with a connection to the holder: heartbeats are due.
    Close,
    /// Otherwise: some sign, heard or passed on, is due now and then.
    Loose,
}

/// What a beat told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The holder lives and hears this peer; answer it.
    Answer,
    /// The holder lives and hears this peer.
    Heard,
    /// It proves nothing: an old one, or from a holder that hears nothing.
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

    /// A beat of the holder arrived.
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
            // Answered all the same: that is how a holder that hears again learns so.
            return if seq.is_multiple_of(ACK_EVERY) { Beat::Answer } else { Beat::Void };
        }
        self.note_heard(now);
        if seq.is_multiple_of(ACK_EVERY) { Beat::Answer } else { Beat::Heard }
    }

    /// The holder was heard by this peer itself.
    pub(crate) fn note_heard(&mut self, now: Duration) {
        self.met = now;
        self.note_sign(now);
    }

    /// The holder answered a call over TCP; says whether that counts.
    pub(crate) fn note_probe_answer(&mut self, now: Duration) -> bool {
        let counts = now.saturating_sub(self.met) < CALLED_FOR;
        if counts {
            self.note_sign(now);
        }
        counts
    }

    fn note_sign(&mut self, now: Duration) {
        self.heard = Some(now);
        self.fresh = Some(now);
        self.via = None;
    }

    /// A neighbour says that the holder was heard at `when`.
    pub(crate) fn note_hearsay(&mut self, when: Duration, from: PeerId) {
        if self.fresh.is_none_or(|fresh| fresh < when) {
            self.fresh = Some(when);
            self.via = Some(from);
        }
    }

    /// This peer itself slept, or was just put on the list: silence counts from now on.
    pub(crate) fn forgive(&mut self, now: Duration) {
        self.base = self.base.max(now);
    }

    /// The others have spoken up for the holder: no suspicion before `until`.
    pub(crate) fn hold_off_until(&mut self, until: Duration) {
        self.quiet_until = self.quiet_until.max(until);
    }

    /// How long the holder may be silent.
    pub(crate) fn window(&self, closeness: Closeness, settings: &RoleSettings, stretch: u32) -> Duration {
        match closeness {
            Closeness::Close => (settings.beat * settings.misses + self.margin()) * stretch,
            Closeness::Loose => settings.slow * stretch,
        }
    }

    /// How old a sign of life may be to speak up for a suspected holder.
    pub(crate) fn tolerance(&self, closeness: Closeness, settings: &RoleSettings) -> Duration {
        match closeness {
            Closeness::Close => settings.beat * (settings.misses - 1).max(1) + self.margin(),
            Closeness::Loose => settings.slow / 2,
        }
    }

    /// By how much beats may come late without anything being wrong.
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
    fn the_window_follows_the_jitter_of_the_network() {
        let settings = RoleSettings::default();
        let (calm, now) = watched(|_| 0);
        assert_eq!(calm.alarm_at(Closeness::Close, &settings, 1), now + ms(620));
        let (rough, _) = watched(|seq| seq * 7_919 % 200);
        let window = rough.window(Closeness::Close, &settings, 1);
        assert!((ms(750)..=ms(1_000)).contains(&window), "{window:?}");
        assert_eq!(rough.window(Closeness::Close, &settings, 2), window * 2);
    }

    #[test]
    fn old_beats_and_deaf_holders_prove_nothing() {
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
    fn hearsay_counts_for_those_who_watch_from_afar_only() {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        watch.note_hearsay(ms(5_000), PeerId::from_bytes([2; 32]));
        watch.note_hearsay(ms(4_000), PeerId::from_bytes([3; 32]));
        assert_eq!(watch.via, Some(PeerId::from_bytes([2; 32])));
        assert_eq!(watch.alarm_at(Closeness::Close, &settings, 1), ms(620));
        assert_eq!(watch.alarm_at(Closeness::Loose, &settings, 1), ms(15_000));
    }

    #[test]
    fn a_holder_that_only_answers_calls_counts_for_a_while() {
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
    fn who_slept_begins_anew_and_who_was_contradicted_waits() {
        let settings = RoleSettings::default();
        let mut watch = FailureDetector::new(HOLDER, Term(1), ZERO);
        watch.forgive(ms(2_000));
        assert_eq!(watch.alarm_at(Closeness::Close, &settings, 1), ms(2_620));
        assert_eq!(watch.heard, None, "to forgive is not to have heard");
        watch.hold_off_until(ms(9_000));
        assert_eq!(watch.alarm_at(Closeness::Close, &settings, 1), ms(9_000));
    }

    #[test]
    fn a_watch_that_fails_is_tried_ever_more_seldom() {
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
