//! Repair: entries whose copy on this peer's disk is damaged are fetched anew from a connected member.
//!
//! The store reports each damaged entry ([`Input::Damaged`](crate::input::Input::Damaged)) and serves it to no peer. One
//! member after the other is asked for it with an ordinary [`Frame::Want`], those first that are known to hold it. The
//! answer passes the checks of every received entry and goes to the store ([`Output::Repair`]), which compares its hash
//! with the chain on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::input::Now;
use crate::log::entry::{Dep, Entry, LogId, Seq, SignedEntry};
use crate::node::Node;
use crate::node::timers::Timer;
use crate::output::Output;
use crate::wire::Frame;

/// Maximum number of damaged entries that are remembered; the store reports further ones again.
const DAMAGED_MAX: usize = 1024;

/// Maximum number of entries that are requested at a time: what a peer serves besides other requests.
const WANTED_MAX: usize = 8;

/// Shortest time between two rounds of requests.
const PAUSE: Duration = Duration::from_millis(200);

/// Delay before another member is asked for an entry; doubled each time, up to [`DOUBLINGS_MAX`] times.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Bounds the delay to about half an hour.
const DOUBLINGS_MAX: u32 = 10;

/// Entries whose copy on disk is damaged.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    damaged: BTreeMap<Dep, Attempts>,
}

/// Attempts to fetch an entry.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    asked: u32,
    next: Duration,
}

impl Repairs {
    pub(super) fn awaits(&self, place: &Dep) -> bool {
        self.damaged.contains_key(place)
    }
}

impl Node {
    /// The store found an entry damaged.
    pub(super) fn on_damaged(&mut self, log: LogId, seq: Seq, now: Now) {
        let repairs = &mut self.logs.repairs;
        if repairs.damaged.len() < DAMAGED_MAX {
            repairs.damaged.entry(Dep { log, seq }).or_default();
            self.timers.set_earlier(Timer::Repair, now.mono);
        }
    }

    /// Requests the damaged entries that are due.
    pub(super) fn fetch_repairs(&mut self, now: Now) {
        let due = self.logs.repairs.damaged.iter().filter(|(_, attempts)| attempts.next <= now.mono);
        let due: Vec<(Dep, u32)> = due.take(WANTED_MAX).map(|(place, attempts)| (*place, attempts.asked)).collect();
        for (place, asked) in due {
            let holder = self.repair_from(&place, asked);
            if let Some(holder) = holder {
                self.send(&holder, &Frame::Want { log: place.log, from: place.seq, to: place.seq });
            }
            if let Some(attempts) = self.logs.repairs.damaged.get_mut(&place) {
                attempts.next = now.mono + ASK_AGAIN * (1 << asked.min(DOUBLINGS_MAX));
                attempts.asked = asked.saturating_add(u32::from(holder.is_some()));
            }
        }
        if let Some(next) = self.logs.repairs.damaged.values().map(|attempts| attempts.next).min() {
            self.timers.set(Timer::Repair, next.max(now.mono + PAUSE));
        }
    }

    /// The member that is asked for an entry after it was asked for this many times.
    fn repair_from(&self, place: &Dep, asked: u32) -> Option<PeerId> {
        let holds = |known: &BTreeMap<LogId, Seq>| known.get(&place.log).is_some_and(|seq| *seq >= place.seq);
        let (mut peers, others): (Vec<_>, Vec<_>) =
            self.peers.connections.connected().partition(|(_, connected)| holds(&connected.known));
        peers.extend(others);
        let turn = usize::try_from(asked).unwrap_or_default().checked_rem(peers.len())?;
        Some(*peers[turn].0)
    }

    /// A copy of a damaged entry arrived.
    pub(super) fn repair(&mut self, entry: Entry) {
        let place = Dep { log: entry.log(), seq: entry.seq() };
        tracing::info!(author = %place.log.author.short(), seq = place.seq.0, "a damaged entry was fetched anew");
        self.logs.repairs.damaged.remove(&place);
        let entry = Arc::new(entry);
        // A damaged control entry was passed over when this peer started. Authors carry an order time that is not the date,
        // so it follows from the entry alone.
        if entry.control().is_some() && !self.membership.controls.holds(&place) {
            let order = entry.header().order_after(None);
            self.apply_control(&entry, order);
        }
        self.out.push_back(Output::Repair(entry));
    }
}

/// What a node does without when it starts: an entry on its disk that is damaged. The store reports it again.
pub(super) fn intact(signed: SignedEntry) -> Option<Entry> {
    let entry = Entry::from_trusted(signed);
    entry.inspect_err(|error| tracing::error!(%error, "a stored control entry is damaged and is fetched anew")).ok()
}
