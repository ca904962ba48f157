//! Liveness of connected peers: a quiet peer is pinged, and one that does not answer is gone.
//!
//! QUIC keeps a connection open for many seconds without a packet, and longer over a relay, because connections survive
//! role changes. Liveness is therefore inferred from received frames; any frame counts. A ping is sent only after a pause,
//! so that an idle connection costs about one packet a second. This detector decides about connections alone; the
//! rendezvous role has its own (`rendezvous/follower/failure_detector.rs`) and may suspect a peer here.
//!
//! State: one [`Liveness`] per connection: when its last frame arrived, or since when it is asked. The node calls it for
//! every frame and at every tick; a peer that is found gone is disconnected, and dialled anew.
//! Invariant: a peer that sends anything within the timeout is never found gone, however slow its pongs are.

use std::time::Duration;

/// Silence after which a peer is pinged; reduced by up to a quarter at random, so that not both ends ping at once.
const QUIET: Duration = Duration::from_secs(2);

/// Number of connections up to which that holds. With more, the silence is longer in proportion, so that a peer sends no more
/// pings in a larger room; the first of its neighbours that misses a peer makes the others ask it at once.
const QUIET_CROWD: u32 = 8;

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
pub(crate) const SLIP: Duration = Duration::from_millis(500);

/// What to do about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Ping it; the number counts unanswered pings.
    Ask(u64),
    /// It is gone.
    Gone,
}

/// Whether a peer was heard lately.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// It was.
    Heard { at: Duration },
    /// It is being asked.
    Asked { since: Duration, times: u64, answer: Duration },
}

/// The liveness of one connected peer. Times are monotonic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liveness {
    sign: Sign,
    /// Silence after which it is pinged.
    quiet: Duration,
}

impl Liveness {
    /// A connection is open. `jitter` is in 0..1.
    pub(crate) fn new(jitter: f64, now: Duration) -> Self {
        Self { sign: Sign::Heard { at: now }, quiet: QUIET.mul_f64(1.0 - jitter / 4.0) }
    }

    /// A frame from the peer arrived.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.sign = Sign::Heard { at: now };
    }

    /// The peer is suspected: it is pinged at once and has less time to answer.
    pub(crate) fn suspect(&mut self, now: Duration) {
        self.sign = match self.sign {
            Sign::Heard { .. } => Sign::Asked { since: now, times: 0, answer: ANSWER_SUSPECTED },
            Sign::Asked { since, times, answer } => {
                Sign::Asked { since, times, answer: answer.min(now.saturating_sub(since) + ANSWER_SUSPECTED) }
            }
        };
    }

    /// This peer itself could not receive: the silence of the other is measured from now on.
    pub(crate) fn forgive(&mut self, now: Duration) {
        if let Sign::Asked { since, times, .. } = &mut self.sign {
            (*since, *times) = (now, 0);
        }
    }

    /// When [`Liveness::tick`] is wanted: for the next ping; a peer's time runs out on one. `crowd` is the number of
    /// connections.
    pub(crate) fn due(&self, crowd: usize) -> Duration {
        match self.sign {
            Sign::Heard { at } => at + self.quiet_among(crowd),
            Sign::Asked { since, times, .. } => ask_at(since, times),
        }
    }

    /// Silence after which the peer is pinged.
    fn quiet_among(&self, crowd: usize) -> Duration {
        self.quiet * u32::try_from(crowd).unwrap_or(u32::MAX).max(QUIET_CROWD) / QUIET_CROWD
    }

    /// Returns what is due. `rtt` is the round-trip time of the path; `stretch` multiplies the time that the peer has.
    pub(crate) fn tick(&mut self, rtt: Duration, stretch: u32, crowd: usize, now: Duration) -> Option<Finding> {
        if let Sign::Heard { at } = self.sign
            && at + self.quiet_among(crowd) <= now
        {
            self.sign = Sign::Asked { since: now, times: 0, answer: ANSWER };
        }
        let Sign::Asked { since, times, answer } = &mut self.sign else { return None };
        let answer = (*answer).max(rtt * ROUND_TRIPS) * stretch;
        if *since + answer <= now {
            return Some(Finding::Gone);
        }
        (ask_at(*since, *times) <= now).then(|| {
            let number = *times;
            *times = u64::try_from(now.saturating_sub(*since).as_millis() / ASK_EVERY.as_millis()).unwrap_or(0) + 1;
            Finding::Ask(number)
        })
    }
}

fn ask_at(since: Duration, times: u64) -> Duration {
    since + ASK_EVERY * u32::try_from(times).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use chat_proto::id::PeerId;

    use super::*;
    use crate::output::CloseReason;
    use crate::peers::connections::Connections;
    use crate::types::PathInfo;

    const PEER: PeerId = PeerId::from_bytes([1; 32]);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Ticks as requested until `end`; returns when a peer was pinged, and when it was given up.
    fn run(peers: &mut Connections, stretch: u32, end: Duration) -> (Vec<u64>, Option<u64>) {
        let mut asked = Vec::new();
        while let Some(now) = peers.next_ping().filter(|due| *due <= end) {
            for (peer, finding) in peers.check_liveness(stretch, now) {
                match finding {
                    Finding::Ask(_) => asked.push(now.as_millis() as u64),
                    Finding::Gone => {
                        peers.close(&peer, CloseReason::Silent);
                        return (asked, Some(now.as_millis() as u64));
                    }
                }
            }
        }
        (asked, None)
    }

    fn connected_over(rtt: Duration) -> Connections {
        let mut peers = Connections::default();
        let path = PathInfo { direct: true, rtt, loss: 0.0, remote: None, inbound: false };
        peers.up(PEER, path, 0.0, ms(0));
        peers
    }

    fn connected() -> Connections {
        connected_over(ms(1))
    }

    #[test]
    fn who_says_nothing_is_asked_and_given_up_within_five_seconds() {
        let (asked, gone) = run(&mut connected(), 1, ms(60_000));
        assert_eq!(asked, [2_000, 2_400, 2_800, 3_200, 3_600, 4_000]);
        assert_eq!(gone, Some(4_400));
    }

    #[test]
    fn one_answer_is_enough_and_who_talks_is_not_asked() {
        let mut peers = connected();
        let (asked, gone) = run(&mut peers, 1, ms(3_900));
        assert_eq!((asked.len(), gone), (5, None));
        peers.heard(&PEER, ms(3_950));
        assert_eq!(run(&mut peers, 1, ms(5_949)), (vec![], None));
        for at in (6_000..20_000).step_by(1_000) {
            peers.heard(&PEER, ms(at));
            assert_eq!(run(&mut peers, 1, ms(at + 999)), (vec![], None));
        }
    }

    #[test]
    fn a_peer_that_others_believe_gone_has_less_time() {
        let mut peers = connected();
        peers.suspect(&PEER, ms(500));
        assert_eq!(run(&mut peers, 1, ms(60_000)), (vec![500, 900, 1_300], Some(1_700)));
        let mut peers = connected();
        assert_eq!(run(&mut peers, 1, ms(2_000)).0, [2_000]);
        peers.suspect(&PEER, ms(2_200));
        assert_eq!(run(&mut peers, 1, ms(60_000)).1, Some(3_600));
    }

    #[test]
    fn peer_with_many_connections_sends_no_more_pings() {
        for many in [8u8, 16, 31] {
            let mut peers = Connections::default();
            let path = PathInfo { direct: true, rtt: ms(1), loss: 0.0, remote: None, inbound: false };
            (0..many).for_each(|n| peers.up(PeerId::from_bytes([n; 32]), path, 0.0, ms(0)));
            let mut pings = 0;
            while let Some(now) = peers.next_ping().filter(|due| *due <= ms(60_000)) {
                for (peer, _) in peers.check_liveness(1, now) {
                    pings += 1;
                    peers.heard(&peer, now);
                }
            }
            assert!((210..=240).contains(&pings), "{many}: {pings}");
        }
    }

    #[test]
    fn slow_paths_and_starved_processors_get_more_time() {
        let mut peers = connected_over(ms(900));
        assert_eq!(run(&mut peers, 1, ms(60_000)).1, Some(5_600));
        assert_eq!(run(&mut connected(), 2, ms(60_000)).1, Some(6_800));
    }

    #[test]
    fn who_slept_accuses_nobody() {
        let mut peers = connected();
        assert_eq!(run(&mut peers, 1, ms(2_900)).1, None);
        assert!(peers.next_ping().is_some());
        assert_eq!(peers.check_liveness(1, ms(30_000)), [(PEER, Finding::Ask(0))]);
        assert_eq!(run(&mut peers, 1, ms(60_000)).1, Some(32_400));
        let mut peers = connected();
        assert_eq!(run(&mut peers, 1, ms(2_900)).1, None);
        peers.forgive(ms(3_000));
        assert_eq!(run(&mut peers, 1, ms(60_000)).1, Some(5_400));
    }
}
