//! This peer's connections, as far as the role is concerned: what neighbours know, and what they may make this peer do.

use std::collections::BTreeMap;
use std::time::Duration;

use chat_proto::id::{PeerId, Term};

use crate::rendezvous::settings::LINKS_MAX;
use crate::token_bucket::TokenBucket;
use crate::types::PathInfo;

/// Frames a neighbour may send: the holder's heartbeats, pings and answers are far below.
const FRAMES_BURST: u32 = 200;
const FRAMES_PER_MINUTE: u32 = 6_000;

/// Signed frames a neighbour may send; each costs a verification of 40 µs. Reports passed on in a room of thousands are
/// below.
const SIGNED_BURST: u32 = 64;
const SIGNED_PER_MINUTE: u32 = 2_000;

/// Shortest time between telling a neighbour twice what it does not know: time for the first to arrive.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Shortest time between asking a neighbour twice for its history; it gives it twice as often.
const HISTORY_EVERY: Duration = Duration::from_secs(10);

/// The same while its history is still the one it had when it was asked: it holds something this peer cannot take.
const HISTORY_AGAIN: Duration = Duration::from_secs(600);

/// A connection.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) path: PathInfo,
    /// When anything was last heard over it; that it stands counts as the first.
    pub(crate) heard: Duration,
    /// Whether anything but that was.
    pub(crate) speaks: bool,
    /// The term the neighbour last said it follows, and when.
    pub(crate) follows: Option<(Term, Duration)>,
    pinged: Option<Duration>,
    told: Option<Duration>,
    history: Option<(u32, Duration)>,
    history_sent: Option<Duration>,
    frames: TokenBucket,
    signed: TokenBucket,
}

impl Neighbour {
    /// Whether a frame of this neighbour is taken.
    pub(crate) fn admits(&mut self, signed: bool, now: Duration) -> bool {
        self.frames.take(now) && (!signed || self.signed.take(now))
    }

    /// Whether it may be told again; counts as told.
    pub(crate) fn may_send_state(&mut self, now: Duration) -> bool {
        let due = self.told.is_none_or(|told| told + TELL_EVERY <= now);
        if due {
            self.told = Some(now);
        }
        due
    }

    /// Whether it may have the history, which is long; counts as sent.
    pub(crate) fn may_send_history(&mut self, now: Duration) -> bool {
        let due = self.history_sent.is_none_or(|sent| sent + HISTORY_EVERY / 2 <= now);
        if due {
            self.history_sent = Some(now);
        }
        due
    }

    /// Whether its history, of which it sent the digest, is to be asked for; counts as asked.
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

/// All connections; at most [`LINKS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    of: BTreeMap<PeerId, Neighbour>,
}

impl Neighbours {
    /// A connection stands. Returns whether it is kept track of.
    pub(crate) fn up(&mut self, peer: PeerId, path: PathInfo, now: Duration) -> bool {
        if self.of.len() >= LINKS_MAX && !self.of.contains_key(&peer) {
            return false;
        }
        let link = Neighbour {
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
        };
        self.of.insert(peer, link);
        true
    }

    pub(crate) fn down(&mut self, peer: &PeerId) -> bool {
        self.of.remove(peer).is_some()
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Neighbour> {
        self.of.get(peer)
    }

    pub(crate) fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Neighbour> {
        self.of.get_mut(peer)
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.of.contains_key(peer)
    }

    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &PeerId> {
        self.of.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Neighbour)> {
        self.of.iter()
    }

    /// The connection whose turn it is to be pinged; counts as pinged.
    pub(crate) fn next_ping(&mut self, now: Duration) -> Option<PeerId> {
        let (peer, link) = self.of.iter_mut().min_by_key(|(peer, link)| (link.pinged, **peer))?;
        link.pinged = Some(now);
        Some(*peer)
    }
}
