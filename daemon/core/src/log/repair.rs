//! Repair: entries whose copy on this peer's disk is damaged are fetched anew from a connected member.
//!
//! The store reports each damaged entry ([`Input::Damaged`](crate::input::Input::Damaged)) and serves it to no peer. One
//! member after the other is asked for it with an ordinary [`Frame::Want`], those first that are known to hold it. The
//! answer passes the checks of every received entry and goes to the store
//! ([`Output::Repair`](crate::output::Output::Repair)), which compares its hash with the chain on disk.

use std::collections::BTreeMap;
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::context::NodeContext;
use crate::context::timers::Timer;
use crate::log::entry::{Dep, Entry, Header, LogId, Seq, SignedEntry};
use crate::log::heads::Heads;
use crate::peers::connections::Connections;
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
    /// The damaged entry of which an entry with this header is a copy; the store compares their hashes.
    pub(crate) fn awaited(&self, header: &Header, heads: &Heads) -> Option<Dep> {
        let mut damaged = self.damaged.keys().filter(|place| place.seq == header.seq);
        damaged.find(|place| heads.signed(&place.log) == header.log).copied()
    }

    /// The store found an entry damaged.
    pub(crate) fn damaged(&mut self, place: Dep, cx: &mut NodeContext) {
        if self.damaged.len() < DAMAGED_MAX {
            self.damaged.entry(place).or_default();
            cx.set_earlier(Timer::Repair, Duration::ZERO);
        }
    }

    /// Reads a stored control entry of a log and its place. If it is damaged, a node starts without it and asks for it as
    /// soon as it is connected.
    pub(crate) fn read(
        &mut self,
        log: LogId,
        signed: SignedEntry,
        cx: &mut NodeContext,
    ) -> (Option<Dep>, Option<Entry>) {
        let header: Option<(Header, _)> = postcard::take_from_bytes(&signed.header).ok();
        let place = header.map(|(header, _)| Dep { log, seq: header.seq });
        let entry = Entry::from_trusted(signed);
        if let Err(error) = &entry {
            tracing::error!(%error, "a stored control entry is damaged and is fetched anew");
            place.into_iter().for_each(|place| self.damaged(place, cx));
        }
        (place, entry.ok().map(|entry| entry.filed_in(log)))
    }

    /// Entries beyond a fork were filed in branches, damaged ones with them: in which is not known, so those of all are fetched.
    pub(crate) fn refile(&mut self, heads: &Heads) {
        let moved: Vec<Dep> = self.damaged.keys().filter(|place| heads.seq(&place.log) < place.seq).copied().collect();
        for place in moved {
            self.damaged.remove(&place);
            let signed = heads.signed(&place.log);
            let holding = heads.logs().filter(|log| heads.signed(log) == signed && heads.seq(log) >= place.seq);
            self.damaged.extend(holding.map(|log| (Dep { log: *log, seq: place.seq }, Attempts::default())));
        }
    }

    /// A copy of a damaged entry arrived.
    pub(crate) fn repaired(&mut self, place: &Dep) {
        tracing::info!(author = %place.log.author.short(), seq = place.seq.0, "a damaged entry was fetched anew");
        self.damaged.remove(place);
    }

    /// Requests the damaged entries that are due.
    pub(crate) fn fetch(&mut self, connections: &Connections, cx: &mut NodeContext) {
        let now = cx.now.mono;
        let due = self.damaged.iter_mut().filter(|(_, attempts)| attempts.next <= now);
        for (place, attempts) in due.take(WANTED_MAX) {
            let holder = holder(connections, place, attempts.asked);
            if let Some(holder) = holder {
                let want = Frame::Want { log: place.log, from: place.seq, to: place.seq };
                connections.send(&mut cx.out, &holder, &want);
            }
            attempts.next = now + ASK_AGAIN * (1 << attempts.asked.min(DOUBLINGS_MAX));
            attempts.asked = attempts.asked.saturating_add(u32::from(holder.is_some()));
        }
        if let Some(next) = self.damaged.values().map(|attempts| attempts.next).min() {
            cx.timers.set(Timer::Repair, next.max(now + PAUSE));
        }
    }
}

/// The member that is asked for an entry after it was asked for this many times.
fn holder(connections: &Connections, place: &Dep, asked: u32) -> Option<PeerId> {
    let holds = |known: &BTreeMap<LogId, Seq>| known.get(&place.log).is_some_and(|seq| *seq >= place.seq);
    let (mut peers, others): (Vec<_>, Vec<_>) =
        connections.connected().partition(|(_, connected)| holds(&connected.known));
    peers.extend(others);
    let turn = usize::try_from(asked).unwrap_or_default().checked_rem(peers.len())?;
    Some(*peers[turn].0)
}
