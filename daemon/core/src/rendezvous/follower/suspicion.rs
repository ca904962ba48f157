//! A suspected holder: it is pinged, the others are asked, and at a deadline the suspicion is dropped or confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::rendezvous::protocol::frames::Cause;

/// Most neighbours that are asked: all of the list, and enough others to tell how much of the room is there.
pub(crate) const ASKED_MAX: usize = 16;

/// Pings that a suspected holder gets, over the first half of the time it has: each leaves half of it for the answer, and
/// on a path that loses a tenth of them all six fail once in a million.
const PINGS: u32 = 6;

/// A suspicion under way.
#[derive(Debug)]
pub(crate) struct Suspicion {
    pub(crate) cause: Cause,
    /// Since when nobody holds the role, if the suspicion is true.
    pub(crate) lost_at: Duration,
    /// Names this suspicion in questions, pings and answers.
    pub(crate) nonce: u64,
    asked: BTreeSet<PeerId>,
    answered: BTreeMap<PeerId, Option<Duration>>,
    /// Signs of life younger than this, of others, speak up for the holder.
    tolerance: Duration,
    started: Duration,
    deadline: Duration,
    pings_sent: u32,
}

/// How a suspicion stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SuspicionOutcome {
    /// Nothing is decided.
    Open,
    /// The holder lives, or others hear it.
    Dropped,
    /// Nobody hears it.
    Confirmed,
}

impl Suspicion {
    pub(crate) fn new(
        cause: Cause,
        lost_at: Duration,
        nonce: u64,
        asked: BTreeSet<PeerId>,
        tolerance: Duration,
        span: (Duration, Duration),
    ) -> Self {
        let (started, deadline) = span;
        Self { cause, lost_at, nonce, asked, answered: BTreeMap::new(), tolerance, started, deadline, pings_sent: 0 }
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Duration {
        self.ping_at().map_or(self.deadline, |at| at.min(self.deadline))
    }

    fn ping_at(&self) -> Option<Duration> {
        let step = (self.deadline - self.started) / (2 * PINGS);
        (self.pings_sent < PINGS).then(|| self.started + step * self.pings_sent)
    }

    /// Whether a ping is to be sent now; counts as sent, those that were missed included.
    pub(crate) fn ping(&mut self, now: Duration) -> bool {
        let before = self.pings_sent;
        while self.ping_at().is_some_and(|at| at <= now) {
            self.pings_sent += 1;
        }
        self.pings_sent > before
    }

    /// A neighbour answered: how long ago it heard the holder. Answers nobody asked for are ignored.
    pub(crate) fn answer(&mut self, peer: PeerId, heard: Option<Duration>) -> SuspicionOutcome {
        if !self.asked.contains(&peer) {
            return SuspicionOutcome::Open;
        }
        self.answered.insert(peer, heard);
        let speaks_up = heard.is_some_and(|age| age < self.tolerance);
        match self.cause {
            // Whoever heard a process a moment ago may have heard its last words; only its own answer refutes a closed
            // connection.
            Cause::Died => SuspicionOutcome::Open,
            Cause::Silent if speaks_up => SuspicionOutcome::Dropped,
            Cause::Silent => SuspicionOutcome::Open,
        }
    }

    /// A beat arrived on a path whose delay varies by less than `jitter`. A process may have sent it before it died, so for
    /// a dead one only a later beat counts.
    pub(crate) fn refuted_by_beat(&self, jitter: Duration, now: Duration) -> bool {
        match self.cause {
            Cause::Died => now > self.started + jitter,
            Cause::Silent => true,
        }
    }

    /// How it stands at `now`.
    pub(crate) fn outcome(&self, now: Duration) -> SuspicionOutcome {
        if now < self.deadline { SuspicionOutcome::Open } else { SuspicionOutcome::Confirmed }
    }

    /// Whether a neighbour was asked, and answered.
    pub(crate) fn answered(&self, peer: &PeerId) -> Option<bool> {
        self.asked.contains(peer).then(|| self.answered.contains_key(peer))
    }

    /// Who was asked and did not answer.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &PeerId> {
        self.asked.iter().filter(|peer| !self.answered.contains_key(peer))
    }

    /// Of so many others believed online, how many are in touch, as far as answers tell.
    pub(crate) fn in_touch(&self, others: usize) -> usize {
        if self.asked.is_empty() { 0 } else { (others * self.answered.len()).div_ceil(self.asked.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn suspicion(cause: Cause, asked: &[u8]) -> Suspicion {
        let asked = asked.iter().map(|n| peer(*n)).collect();
        Suspicion::new(cause, ms(900), 7, asked, ms(420), (ms(1_000), ms(1_120)))
    }

    #[test]
    fn pings_are_spread_over_half_the_time_there_is() {
        let mut suspicion = suspicion(Cause::Silent, &[]);
        let sent: Vec<u64> = (1_000..1_130).filter(|at| suspicion.ping(ms(*at))).collect();
        assert_eq!(sent, [1_000, 1_010, 1_020, 1_030, 1_040, 1_050]);
        assert_eq!(suspicion.due(), ms(1_120));
    }

    #[test]
    fn one_who_heard_the_holder_speaks_up_and_a_dead_process_has_no_advocates() {
        for (cause, heard, expected) in [
            (Cause::Silent, Some(ms(100)), SuspicionOutcome::Dropped),
            (Cause::Silent, Some(ms(500)), SuspicionOutcome::Open),
            (Cause::Silent, None, SuspicionOutcome::Open),
            (Cause::Died, Some(ms(1)), SuspicionOutcome::Open),
        ] {
            let mut suspicion = suspicion(cause, &[2, 3]);
            assert_eq!(suspicion.answer(peer(2), heard), expected, "{cause:?} {heard:?}");
            assert_eq!(suspicion.answer(peer(9), Some(ms(1))), SuspicionOutcome::Open, "nobody asked it");
        }
        let suspicion = suspicion(Cause::Silent, &[2]);
        assert_eq!(suspicion.outcome(ms(1_119)), SuspicionOutcome::Open);
        assert_eq!(suspicion.outcome(ms(1_120)), SuspicionOutcome::Confirmed);
    }

    #[test]
    fn last_words_of_a_dead_process_do_not_count_and_later_ones_do() {
        for (cause, at, expected) in
            [(Cause::Died, 1_010, false), (Cause::Died, 1_031, true), (Cause::Silent, 1_001, true)]
        {
            assert_eq!(suspicion(cause, &[]).refuted_by_beat(ms(30), ms(at)), expected, "{cause:?} {at}");
        }
    }

    #[test]
    fn answers_tell_how_much_of_the_room_is_there() {
        let mut some = suspicion(Cause::Silent, &[2, 3, 4, 5]);
        assert_eq!(some.in_touch(100), 0);
        some.answer(peer(2), None);
        some.answer(peer(3), None);
        assert_eq!(some.in_touch(100), 50);
        assert_eq!(
            (some.answered(&peer(2)), some.answered(&peer(5)), some.answered(&peer(9))),
            (Some(true), Some(false), None)
        );
        assert_eq!(suspicion(Cause::Died, &[]).in_touch(100), 0);
    }
}
