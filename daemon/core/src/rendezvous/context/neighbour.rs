//! A connected peer: what it knows of the role, and at what rate it may make this peer work.

use std::time::Duration;

use chat_proto::id::Term;

use crate::context::token_bucket::TokenBucket;
use crate::types::PathInfo;

/// Maximum rate of frames from a neighbour: the holder's heartbeats, pings and answers are far below.
const FRAMES_BURST: u32 = 200;
const FRAMES_PER_MINUTE: u32 = 6_000;

/// Maximum rate of signed frames from a neighbour; each costs a verification of 40 µs. Forwarded reports in a room of
/// thousands are below.
const SIGNED_BURST: u32 = 64;
const SIGNED_PER_MINUTE: u32 = 2_000;

/// Minimum time between two sendings of the whole state to a neighbour: time for the first to arrive.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Minimum time between two requests for the history of a neighbour; it answers twice as often.
const HISTORY_EVERY: Duration = Duration::from_secs(10);

/// The same while its history is unchanged since the last request: it holds a claim that this peer cannot accept.
const HISTORY_AGAIN: Duration = Duration::from_secs(600);

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) path: PathInfo,
    /// When it was last heard, or the connection opened.
    pub(crate) heard: Duration,
    /// Whether it was ever heard.
    pub(crate) speaks: bool,
    /// The term the neighbour last reported to follow, and when.
    pub(crate) follows: Option<(Term, Duration)>,
    /// When it was last pinged in turn.
    pub(super) pinged: Option<Duration>,
    told: Option<Duration>,
    history: Option<(u32, Duration)>,
    history_sent: Option<Duration>,
    frames: TokenBucket,
    signed: TokenBucket,
}

impl Neighbour {
    pub(super) fn new(path: PathInfo, now: Duration) -> Self {
        Self {
            path,
            heard: now,
            speaks: false,
            follows: None,
            pinged: None,
            told: None,
            history: None,
            history_sent: None,
            frames: TokenBucket::full(FRAMES_BURST, FRAMES_PER_MINUTE, now),
            signed: TokenBucket::full(SIGNED_BURST, SIGNED_PER_MINUTE, now),
        }
    }

    /// Whether a frame of this neighbour is within its rate.
    pub(crate) fn admits(&mut self, signed: bool, now: Duration) -> bool {
        self.frames.take(now) && (!signed || self.signed.take(now))
    }

    /// Whether the state may be sent again; marks it as sent.
    pub(crate) fn may_send_state(&mut self, now: Duration) -> bool {
        let due = self.told.is_none_or(|told| told + TELL_EVERY <= now);
        if due {
            self.told = Some(now);
        }
        due
    }

    /// Whether the history, which is long, may be sent; marks it as sent.
    pub(crate) fn may_send_history(&mut self, now: Duration) -> bool {
        let due = self.history_sent.is_none_or(|sent| sent + HISTORY_EVERY / 2 <= now);
        if due {
            self.history_sent = Some(now);
        }
        due
    }

    /// Whether to ask for its history, of which it sent the digest; marks it as asked.
    pub(crate) fn may_ask_history(&mut self, digest: u32, now: Duration) -> bool {
        let due = match self.history {
            None => true,
            Some((asked, at)) => at + if asked == digest { HISTORY_AGAIN } else { HISTORY_EVERY } <= now,
        };
        if due {
            self.history = Some((digest, now));
        }
        due
    }
}
