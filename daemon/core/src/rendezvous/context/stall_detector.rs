//! Detects that this peer itself was stalled: its timers were late, or the wall clock ran on without it.
//!
//! A process that was suspended or starved of its processor has missed frames of other peers. It must not take that for
//! their silence, and if it held the role, another peer may hold it by now.

use std::time::Duration;

use crate::input::Now;

/// How much further than the monotonic clock the wall clock may move at once: a suspended machine may stop the former. A
/// clock that is set by hand looks the same; caution then costs one question.
const WALL_JUMP: Duration = Duration::from_millis(500);

/// How long timeouts are stretched after a stall: a starved peer stalls again before.
const STRETCHED_FOR: Duration = Duration::from_secs(2);

/// Time to read what arrived during a stall.
const JUST_WOKEN: Duration = Duration::from_millis(50);

/// Compares this peer's wake-ups with what it asked for.
#[derive(Debug)]
pub(crate) struct StallDetector {
    last: Now,
    due: Option<Duration>,
    slipped_at: Option<Duration>,
    stretched_until: Duration,
}

impl StallDetector {
    pub(crate) const fn new(now: Now) -> Self {
        Self { last: now, due: None, slipped_at: None, stretched_until: Duration::ZERO }
    }

    /// An input arrived at `now`. Returns how late it is where that exceeds `tolerance`.
    pub(crate) fn observe(&mut self, now: Now, tolerance: Duration) -> Option<Duration> {
        let late = self.due.map_or(Duration::ZERO, |due| now.mono.saturating_sub(due));
        let mono = now.mono.saturating_sub(self.last.mono);
        let wall = Duration::from_millis(now.wall.as_ms().saturating_sub(self.last.wall.as_ms()));
        let jumped = wall.saturating_sub(mono);
        self.last = now;
        let late = late.max(if jumped > WALL_JUMP { jumped } else { Duration::ZERO });
        if late <= tolerance {
            return None;
        }
        self.slipped_at = Some(now.mono);
        self.stretched_until = now.mono + STRETCHED_FOR;
        Some(late)
    }

    /// When this peer wants to be woken next.
    pub(crate) const fn expect(&mut self, due: Option<Duration>) {
        self.due = due;
    }

    /// Whether a stall has only just ended: what this peer reads now may be old.
    pub(crate) fn just_woke(&self, now: Duration) -> bool {
        self.slipped_at.is_some_and(|at| now < at + JUST_WOKEN)
    }

    /// Factor for timeouts on other peers.
    pub(crate) fn stretch(&self, now: Duration) -> u32 {
        if now < self.stretched_until { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_proto::time::Timestamp;

    fn now(mono_ms: u64, wall_ms: u64) -> Now {
        Now { mono: Duration::from_millis(mono_ms), wall: Timestamp::from_ms(1_000_000 + wall_ms) }
    }

    #[test]
    fn late_timer_and_lost_wall_time_are_stalls_and_a_clock_set_back_is_not() {
        let tolerance = Duration::from_millis(100);
        for (due, to, expected) in [
            (50, now(60, 60), None),
            (50, now(150, 150), None),
            (50, now(151, 151), Some(101)),
            (50, now(449, 449), Some(399)),
            (50, now(450, 450), Some(400)),
            (50, now(3_050, 3_050), Some(3_000)),
            (50, now(40, 530), None),
            (50, now(40, 60_040), Some(60_000)),
        ] {
            let mut guard = StallDetector::new(now(0, 0));
            guard.expect(Some(Duration::from_millis(due)));
            let late = guard.observe(to, tolerance);
            assert_eq!(late, expected.map(Duration::from_millis), "due {due}, came {to:?}");
            assert_eq!(guard.stretch(to.mono), if expected.is_some() { 2 } else { 1 });
            assert_eq!(guard.stretch(to.mono + STRETCHED_FOR), 1);
        }
        let mut guard = StallDetector::new(now(0, 90_000));
        assert_eq!(guard.observe(now(10, 0), tolerance), None);
    }
}
