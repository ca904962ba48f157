//! A suspicion: the holder is pinged, other peers are asked, and at a deadline the suspicion is dropped or confirmed.
//!
//! As in SWIM, a peer that misses the holder does not trust its own view alone. It sends the holder six pings over the
//! first half of the time, and asks up to sixteen neighbours when they last heard it; for a silent holder it also has its
//! TCP port probed. What refutes the suspicion depends on its cause:
//!
//! * [`Cause::Silent`]: an answer of the holder, a heartbeat, a neighbour that heard it within the tolerance, or an answer
//!   of its port. The path may be broken, and not the holder.
//! * [`Cause::Died`]: only an answer of the holder, or a heartbeat that was sent after the close. A neighbour may have heard
//!   the last words of the process.
//!
//! The answers also give the size of the component: how much of the room is in touch with this peer. The state has no
//! timer; [`Following`](crate::rendezvous::follower::Following) owns it and acts on its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::rendezvous::protocol::frames::Cause;

/// Maximum number of neighbours that are asked: all of the list, and enough others to estimate how much of the room is in
/// touch.
pub(crate) const ASKED_MAX: usize = 16;

/// Number of pings to a suspected holder, over the first half of its time: each leaves half of it for the answer, and on a
/// path that loses a tenth of them all six fail once in a million.
const PINGS: u32 = 6;

/// A suspicion under way.
#[derive(Debug)]
pub(crate) struct Suspicion {
    pub(crate) cause: Cause,
    /// Since when the role has no holder, if the suspicion is true.
    pub(crate) lost_at: Duration,
    /// Names this suspicion in questions, pings and answers.
    pub(crate) nonce: u64,
    asked: BTreeSet<PeerId>,
    answered: BTreeMap<PeerId, Option<Duration>>,
    /// Signs of life that others report refute the suspicion up to this age.
    tolerance: Duration,
    started: Duration,
    deadline: Duration,
    pings_sent: u32,
}

/// The outcome of a suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SuspicionOutcome {
    /// It is not decided.
    Open,
    /// The holder is alive, or others hear it.
    Dropped,
    /// No peer hears it.
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

    /// Whether a ping is due; marks it, and those that were missed, as sent.
    pub(crate) fn ping(&mut self, now: Duration) -> bool {
        let before = self.pings_sent;
        while self.ping_at().is_some_and(|at| at <= now) {
            self.pings_sent += 1;
        }
        self.pings_sent > before
    }

    /// A neighbour answered: how long ago it heard the holder. Answers that were not asked for are ignored.
    pub(crate) fn answer(&mut self, peer: PeerId, heard: Option<Duration>) -> SuspicionOutcome {
        if !self.asked.contains(&peer) {
            return SuspicionOutcome::Open;
        }
        self.answered.insert(peer, heard);
        let speaks_up = heard.is_some_and(|age| age < self.tolerance);
        match self.cause {
            // A neighbour may have heard the last words of the process; only its own answer refutes a closed connection.
            Cause::Died => SuspicionOutcome::Open,
            Cause::Silent if speaks_up => SuspicionOutcome::Dropped,
            Cause::Silent => SuspicionOutcome::Open,
        }
    }

    /// A heartbeat arrived on a path whose delay varies by less than `jitter`. A process may have sent it before it died, so
    /// for a dead one only a later heartbeat is valid.
    pub(crate) fn refuted_by_beat(&self, jitter: Duration, now: Duration) -> bool {
        match self.cause {
            Cause::Died => now > self.started + jitter,
            Cause::Silent => true,
        }
    }

    /// The outcome at `now`.
    pub(crate) fn outcome(&self, now: Duration) -> SuspicionOutcome {
        if now < self.deadline { SuspicionOutcome::Open } else { SuspicionOutcome::Confirmed }
    }

    /// Whether a neighbour was asked, and answered.
    pub(crate) fn answered(&self, peer: &PeerId) -> Option<bool> {
        self.asked.contains(peer).then(|| self.answered.contains_key(peer))
    }

    /// Peers that were asked and did not answer.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &PeerId> {
        self.asked.iter().filter(|peer| !self.answered.contains_key(peer))
    }

    /// Of `others` believed online, the number in touch, estimated from the answers.
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
    fn neighbour_that_heard_the_holder_refutes_silence_and_not_death() {
        for (cause, heard, expected) in [
            (Cause::Silent, Some(ms(100)), SuspicionOutcome::Dropped),
            (Cause::Silent, Some(ms(500)), SuspicionOutcome::Open),
            (Cause::Silent, None, SuspicionOutcome::Open),
            (Cause::Died, Some(ms(1)), SuspicionOutcome::Open),
        ] {
            let mut suspicion = suspicion(cause, &[2, 3]);
            assert_eq!(suspicion.answer(peer(2), heard), expected, "{cause:?} {heard:?}");
            assert_eq!(suspicion.answer(peer(9), Some(ms(1))), SuspicionOutcome::Open, "it was not asked");
        }
        let suspicion = suspicion(Cause::Silent, &[2]);
        assert_eq!(suspicion.outcome(ms(1_119)), SuspicionOutcome::Open);
        assert_eq!(suspicion.outcome(ms(1_120)), SuspicionOutcome::Confirmed);
    }

    #[test]
    fn heartbeat_refutes_death_only_when_sent_after_the_close() {
        for (cause, at, expected) in
            [(Cause::Died, 1_010, false), (Cause::Died, 1_031, true), (Cause::Silent, 1_001, true)]
        {
            assert_eq!(suspicion(cause, &[]).refuted_by_beat(ms(30), ms(at)), expected, "{cause:?} {at}");
        }
    }

    #[test]
    fn answers_estimate_how_much_of_the_room_is_in_touch() {
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
