//! Liveness of connected peers: a quiet peer is pinged, and one that does not answer is gone.
//!
//! QUIC keeps a connection open for many seconds without a packet, and longer over a relay, because connections survive
//! role changes. Liveness is therefore inferred from received frames; any frame counts. A ping is sent only after a pause,
//! so that an idle connection costs about one packet a second. This detector decides about connections alone; the
//! rendezvous role has its own (`rendezvous/follower/failure_detector.rs`) and may suspect a peer here.

use std::collections::BTreeMap;
use std::time::Duration;

use chat_proto::id::PeerId;

/// Silence after which a peer is pinged; reduced by up to a quarter at random, so that not both ends ping at once.
const QUIET: Duration = Duration::from_secs(2);

/// Interval between pings to a peer that does not answer.
const ASK_EVERY: Duration = Duration::from_millis(400);

/// Timeout for an answer to the first ping, extended on slow paths: five pings are on their way by then.
const ANSWER: Duration = Duration::from_millis(2_400);

/// The same for a peer that others suspect.
const ANSWER_SUSPECTED: Duration = Duration::from_millis(1_200);

/// Number of round trips within which an answer arrives if it arrives at all.
const ROUND_TRIPS: u32 = 4;

/// Tolerated delay of this peer's own timer. A peer whose timer is later slept or was starved of CPU, and has missed
/// what others sent.
const SLIP: Duration = Duration::from_millis(500);

/// What to do about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Ping it; the number counts unanswered pings.
    Ask(PeerId, u64),
    /// It is gone.
    Gone(PeerId),
}

/// Whether a peer was heard lately.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// It was.
    Heard { at: Duration },
    /// It is being asked.
    Asked { since: Duration, times: u64, answer: Duration },
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    sign: Sign,
    rtt: Duration,
    /// After how much silence it is asked.
    quiet: Duration,
}

/// All connected peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Liveness {
    of: BTreeMap<PeerId, Watched>,
    due: Option<Duration>,
}

impl Liveness {
    /// A connection is open. `jitter` is in 0..1.
    pub(crate) fn up(&mut self, peer: PeerId, rtt: Duration, jitter: f64, now: Duration) {
        let quiet = QUIET.mul_f64(1.0 - jitter / 4.0);
        self.of.insert(peer, Watched { sign: Sign::Heard { at: now }, rtt, quiet });
    }

    /// The connection ended.
    pub(crate) fn down(&mut self, peer: &PeerId) {
        self.of.remove(peer);
    }

    /// The round-trip time of its path, as measured.
    pub(crate) fn path(&mut self, peer: &PeerId, rtt: Duration) {
        if let Some(watched) = self.of.get_mut(peer) {
            watched.rtt = rtt;
        }
    }

    /// A frame from a peer arrived.
    pub(crate) fn heard(&mut self, peer: &PeerId, now: Duration) {
        if let Some(watched) = self.of.get_mut(peer) {
            watched.sign = Sign::Heard { at: now };
        }
    }

    /// A peer is suspected: it is pinged at once and has less time to answer.
    pub(crate) fn suspect(&mut self, peer: &PeerId, now: Duration) {
        let Some(watched) = self.of.get_mut(peer) else { return };
        watched.sign = match watched.sign {
            Sign::Heard { .. } => Sign::Asked { since: now, times: 0, answer: ANSWER_SUSPECTED },
            Sign::Asked { since, times, answer } => {
                Sign::Asked { since, times, answer: answer.min(now.saturating_sub(since) + ANSWER_SUSPECTED) }
            }
        };
    }

    /// This peer itself could not receive: the silence of others is measured from now on.
    pub(crate) fn forgive(&mut self, now: Duration) {
        for watched in self.of.values_mut() {
            if let Sign::Asked { since, times, .. } = &mut watched.sign {
                (*since, *times) = (now, 0);
            }
        }
    }

    /// When [`Liveness::tick`] is wanted.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        self.due = self.of.values().map(Watched::due).min();
        self.due
    }

    /// Returns what is due. `stretch` multiplies the time that others have.
    pub(crate) fn tick(&mut self, stretch: u32, now: Duration) -> Vec<Finding> {
        if self.due.take().is_some_and(|due| now.saturating_sub(due) > SLIP) {
            self.forgive(now);
        }
        let mut findings = Vec::new();
        for (peer, watched) in &mut self.of {
            if let Sign::Heard { at } = watched.sign
                && at + watched.quiet <= now
            {
                watched.sign = Sign::Asked { since: now, times: 0, answer: ANSWER };
            }
            let rtt = watched.rtt;
            let Sign::Asked { since, times, answer } = &mut watched.sign else { continue };
            let answer = (*answer).max(rtt * ROUND_TRIPS) * stretch;
            if *since + answer <= now {
                findings.push(Finding::Gone(*peer));
            } else if ask_at(*since, *times) <= now {
                findings.push(Finding::Ask(*peer, *times));
                *times = u64::try_from(now.saturating_sub(*since).as_millis() / ASK_EVERY.as_millis()).unwrap_or(0) + 1;
            }
        }
        findings
    }
}

impl Watched {
    /// The next ping; a peer's time runs out on one.
    fn due(&self) -> Duration {
        match self.sign {
            Sign::Heard { at } => at + self.quiet,
            Sign::Asked { since, times, .. } => ask_at(since, times),
        }
    }
}

fn ask_at(since: Duration, times: u64) -> Duration {
    since + ASK_EVERY * u32::try_from(times).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId::from_bytes([1; 32]);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Ticks as requested until `end`; returns when a peer was pinged, and when it was given up.
    fn run(pulse: &mut Liveness, stretch: u32, end: Duration) -> (Vec<u64>, Option<u64>) {
        let mut asked = Vec::new();
        while let Some(now) = pulse.next().filter(|due| *due <= end) {
            for finding in pulse.tick(stretch, now) {
                match finding {
                    Finding::Ask(..) => asked.push(now.as_millis() as u64),
                    Finding::Gone(peer) => {
                        pulse.down(&peer);
                        return (asked, Some(now.as_millis() as u64));
                    }
                }
            }
        }
        (asked, None)
    }

    fn connected() -> Liveness {
        let mut pulse = Liveness::default();
        pulse.up(PEER, ms(1), 0.0, ms(0));
        pulse
    }

    #[test]
    fn who_says_nothing_is_asked_and_given_up_within_five_seconds() {
        let (asked, gone) = run(&mut connected(), 1, ms(60_000));
        assert_eq!(asked, [2_000, 2_400, 2_800, 3_200, 3_600, 4_000]);
        assert_eq!(gone, Some(4_400));
    }

    #[test]
    fn one_answer_is_enough_and_who_talks_is_not_asked() {
        let mut pulse = connected();
        let (asked, gone) = run(&mut pulse, 1, ms(3_900));
        assert_eq!((asked.len(), gone), (5, None));
        pulse.heard(&PEER, ms(3_950));
        assert_eq!(run(&mut pulse, 1, ms(5_949)), (vec![], None));
        for at in (6_000..20_000).step_by(1_000) {
            pulse.heard(&PEER, ms(at));
            assert_eq!(run(&mut pulse, 1, ms(at + 999)), (vec![], None));
        }
    }

    #[test]
    fn a_peer_that_others_believe_gone_has_less_time() {
        let mut pulse = connected();
        pulse.suspect(&PEER, ms(500));
        assert_eq!(run(&mut pulse, 1, ms(60_000)), (vec![500, 900, 1_300], Some(1_700)));
        let mut pulse = connected();
        assert_eq!(run(&mut pulse, 1, ms(2_000)).0, [2_000]);
        pulse.suspect(&PEER, ms(2_200));
        assert_eq!(run(&mut pulse, 1, ms(60_000)).1, Some(3_600));
    }

    #[test]
    fn slow_paths_and_starved_processors_get_more_time() {
        let mut pulse = connected();
        pulse.path(&PEER, ms(900));
        assert_eq!(run(&mut pulse, 1, ms(60_000)).1, Some(5_600));
        assert_eq!(run(&mut connected(), 2, ms(60_000)).1, Some(6_800));
    }

    #[test]
    fn who_slept_accuses_nobody() {
        let mut pulse = connected();
        assert_eq!(run(&mut pulse, 1, ms(2_900)).1, None);
        assert!(pulse.next().is_some());
        assert_eq!(pulse.tick(1, ms(30_000)), [Finding::Ask(PEER, 0)]);
        assert_eq!(run(&mut pulse, 1, ms(60_000)).1, Some(32_400));
        let mut pulse = connected();
        assert_eq!(run(&mut pulse, 1, ms(2_900)).1, None);
        pulse.forgive(ms(3_000));
        assert_eq!(run(&mut pulse, 1, ms(60_000)).1, Some(5_400));
    }
}
