//! Notices that a direct path no longer carries anything, though the connection goes on.
//!
//! QUIC closes a path only after its idle timeout, and sends everything into it until then. A path on which packets that ask
//! for an answer were sent, and nothing has come back for 400 ms or four round trips, is given up here: the
//! connection ends, and the peer is dialled anew at all its addresses and through the relay. QUIC repeats its probes
//! several times within that time, so lost packets alone do not end a connection.
//!
//! A peer that is suspended or starved of CPU answers nothing either, and goes on with its connections when it wakes. Where a
//! peer was found to answer at its TCP port, it is asked there again: if it answers, the path is dead and not the peer. If
//! it does not, the connection ends after 2.5 s only, as the peer may be reached through the relay alone.
//!
//! Only what is sent is watched: a quiet connection costs nothing. A relayed path is left to the forwarder, which knows when
//! its relay is gone.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iroh::endpoint::Connection;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::net::context::peer_id;
use crate::net::tcp::hello;
use crate::net::transport::path::seen_at;

/// Minimum time without an answer.
const SILENT_AFTER: Duration = Duration::from_millis(400);

/// Number of round trips without an answer, where that is longer.
const ROUND_TRIPS: u32 = 4;

/// Maximum of both: the smoothed round-trip time of a path that was interrupted is far too long.
const SILENT_AFTER_MAX: Duration = Duration::from_secs(2);

/// The same for a connection that is younger than [`YOUNG_FOR`]: both ends are busy, and the round-trip time is not known well.
const SILENT_AFTER_YOUNG: Duration = Duration::from_secs(1);

/// Age up to which a connection is young.
const YOUNG_FOR: Duration = Duration::from_secs(5);

/// Silence of a peer that no longer answers over TCP either, after which its connection ends.
const GONE_AFTER: Duration = Duration::from_millis(2_500);

/// How long after the start the peer is called at its TCP port.
const CALL_AFTER: Duration = Duration::from_secs(1);

/// Timeout for its answer then.
const CALL_MAX: Duration = Duration::from_secs(3);

/// Timeout for its answer while it is silent on the path.
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// Minimum number of packets without an answer: the first and a probe at least.
const UNANSWERED_MIN: u64 = 2;

/// Interval between two looks while an answer is outstanding.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Tolerated delay of this peer's own timer; a peer whose timer is later was starved and may have missed the answer.
const SLIP: Duration = Duration::from_millis(100);

/// Packets of the direct paths of a connection, and the smallest round-trip time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PathTraffic {
    /// Frames sent that ask for an answer.
    asked: u64,
    /// Datagrams received.
    received: u64,
    /// Round-trip time of the path in use.
    rtt: Duration,
}

/// Whether answers come.
#[derive(Debug)]
pub(crate) struct AnswerWatch {
    begun: Instant,
    /// At the last reception.
    heard: PathTraffic,
    /// Since when answers are outstanding.
    asked_since: Option<Instant>,
    rtt_min: Duration,
}

/// What is known of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// All have come.
    Complete,
    /// Some are outstanding.
    Outstanding,
    /// None has come for too long.
    None,
}

impl AnswerWatch {
    fn new(now: Instant) -> Self {
        Self { begun: now, heard: PathTraffic::default(), asked_since: None, rtt_min: SILENT_AFTER_MAX }
    }

    /// Compares the traffic with what it was. `late` is by how much this look is later than planned.
    fn look(&mut self, seen: PathTraffic, late: Duration, now: Instant) -> Answers {
        if seen.received != self.heard.received || seen.asked < self.heard.asked {
            (self.heard, self.asked_since) = (seen, None);
            self.rtt_min = self.rtt_min.min(seen.rtt);
            return Answers::Complete;
        }
        if seen.asked == self.heard.asked {
            return Answers::Complete;
        }
        if late > SLIP {
            self.asked_since = None;
        }
        let since = *self.asked_since.get_or_insert(now);
        let asked = seen.asked - self.heard.asked;
        if asked >= UNANSWERED_MIN && now - since >= self.patience(now) { Answers::None } else { Answers::Outstanding }
    }

    /// Whether the peer had time enough to wake.
    fn is_gone(&self, now: Instant) -> bool {
        self.asked_since.is_some_and(|since| now - since >= GONE_AFTER)
    }

    fn patience(&self, now: Instant) -> Duration {
        let least = if now - self.begun < YOUNG_FOR { SILENT_AFTER_YOUNG } else { SILENT_AFTER };
        (self.rtt_min * ROUND_TRIPS).clamp(least, SILENT_AFTER_MAX)
    }
}

/// Waits until the direct path in use is dead. `sent` is notified when something was sent.
pub(crate) async fn silent(connection: &Connection, sent: &Notify) {
    let called = AtomicBool::new(false);
    tokio::select! {
        () = watch(connection, sent, &called) => {}
        () = call(connection, &called) => {}
    }
}

/// Finds out whether the peer answers at its TCP port; never ends.
async fn call(connection: &Connection, called: &AtomicBool) {
    sleep(CALL_AFTER).await;
    called.store(answers_over_tcp(connection, CALL_MAX).await, Ordering::Relaxed);
    pending().await
}

async fn answers_over_tcp(connection: &Connection, within: Duration) -> bool {
    let Some(addr) = seen_at(connection) else { return false };
    timeout(within, hello::is_at(&peer_id(connection.remote_id()), addr)).await.unwrap_or(false)
}

async fn watch(connection: &Connection, sent: &Notify, called: &AtomicBool) {
    let mut watch = AnswerWatch::new(Instant::now());
    loop {
        sent.notified().await;
        let mut late = Duration::ZERO;
        while let Some(seen) = traffic(connection) {
            let now = Instant::now();
            match watch.look(seen, late, now) {
                Answers::Complete => break,
                Answers::Outstanding => {}
                Answers::None if !called.load(Ordering::Relaxed) || watch.is_gone(now) => return,
                Answers::None => {
                    if answers_over_tcp(connection, ANSWER_MAX).await {
                        // It may have woken just now: then answers have come over the path as well.
                        sleep(LOOK_EVERY).await;
                        let still = |seen| watch.look(seen, Duration::ZERO, Instant::now()) == Answers::None;
                        if traffic(connection).is_some_and(still) {
                            return;
                        }
                    } else {
                        sleep(ANSWER_MAX).await;
                    }
                }
            }
            let planned = Instant::now() + LOOK_EVERY;
            sleep(LOOK_EVERY).await;
            late = planned.elapsed();
        }
    }
}

/// The traffic of the direct paths; `None` while a relayed path is in use.
fn traffic(connection: &Connection) -> Option<PathTraffic> {
    let paths = connection.paths();
    let selected = paths.iter().find(|path| path.is_selected())?;
    if !selected.is_ip() {
        return None;
    }
    let mut seen = PathTraffic { rtt: selected.rtt(), ..PathTraffic::default() };
    for path in paths.iter().filter(|path| path.is_ip()) {
        let stats = path.stats();
        seen.asked += stats.frame_tx.stream + stats.frame_tx.datagram + stats.frame_tx.ping;
        seen.received += stats.udp_rx.datagrams;
    }
    Some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(asked: u64, received: u64) -> PathTraffic {
        PathTraffic { asked, received, rtt: Duration::from_millis(1) }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A connection that is no longer young.
    fn watch() -> (AnswerWatch, Instant) {
        let begun = Instant::now();
        let mut watch = AnswerWatch::new(begun);
        let now = begun + YOUNG_FOR;
        assert_eq!(watch.look(seen(10, 10), Duration::ZERO, now), Answers::Complete);
        (watch, now)
    }

    #[test]
    fn path_without_answers_is_silent_after_four_tenths_of_a_second() {
        let (mut watch, now) = watch();
        let outcomes: Vec<_> =
            (0..=8).map(|n| watch.look(seen(11 + n, 10), Duration::ZERO, now + ms(50 * n))).collect();
        assert_eq!(outcomes[..8], [Answers::Outstanding; 8]);
        assert_eq!(outcomes[8], Answers::None);
    }

    #[test]
    fn any_answer_begins_anew_and_nothing_sent_needs_none() {
        let (mut watch, now) = watch();
        assert_eq!(watch.look(seen(11, 10), Duration::ZERO, now), Answers::Outstanding);
        assert_eq!(watch.look(seen(13, 11), Duration::ZERO, now + ms(390)), Answers::Complete);
        assert_eq!(watch.look(seen(13, 11), Duration::ZERO, now + ms(9_000)), Answers::Complete);
        assert_eq!(watch.look(seen(14, 11), Duration::ZERO, now + ms(9_000)), Answers::Outstanding);
        assert_eq!(watch.look(seen(14, 11), Duration::ZERO, now + ms(9_500)), Answers::Outstanding, "one packet only");
        assert_eq!(watch.look(seen(15, 11), Duration::ZERO, now + ms(9_501)), Answers::None);
    }

    #[test]
    fn starved_peer_and_young_connection_wait_longer() {
        let (mut watch, now) = watch();
        assert_eq!(watch.look(seen(12, 10), Duration::ZERO, now), Answers::Outstanding);
        assert_eq!(watch.look(seen(13, 10), ms(2_000), now + ms(2_050)), Answers::Outstanding);
        assert_eq!(watch.look(seen(14, 10), Duration::ZERO, now + ms(2_449)), Answers::Outstanding);
        assert_eq!(watch.look(seen(14, 10), Duration::ZERO, now + ms(2_450)), Answers::None);

        let begun = Instant::now();
        let mut young = AnswerWatch::new(begun);
        assert_eq!(young.look(seen(3, 1), Duration::ZERO, begun), Answers::Complete);
        assert_eq!(young.look(seen(4, 1), Duration::ZERO, begun), Answers::Outstanding);
        assert_eq!(young.look(seen(9, 1), Duration::ZERO, begun + ms(999)), Answers::Outstanding);
        assert_eq!(young.look(seen(9, 1), Duration::ZERO, begun + ms(1_000)), Answers::None);
    }

    #[test]
    fn distant_peer_has_four_round_trips() {
        let begun = Instant::now();
        let mut watch = AnswerWatch::new(begun);
        let far = |asked, received| PathTraffic { asked, received, rtt: ms(250) };
        let now = begun + YOUNG_FOR;
        assert_eq!(watch.look(far(1, 1), Duration::ZERO, now), Answers::Complete);
        assert_eq!(watch.look(far(5, 1), Duration::ZERO, now), Answers::Outstanding);
        assert_eq!(watch.look(far(5, 1), Duration::ZERO, now + ms(999)), Answers::Outstanding);
        assert_eq!(watch.look(far(5, 1), Duration::ZERO, now + ms(1_000)), Answers::None);
    }
}
