//! The deadlines of a node, and what is done at each.

use std::time::Duration;

use chat_proto::id::PeerId;

use crate::delivery::tree::TreeInput;
use crate::input::{CommandId, Now};
use crate::log::entry::LogId;
use crate::node::Node;
use crate::output::Output;
use crate::rendezvous::events::RoleInput;

/// How often last signs of life go to the store.
pub(super) const SEEN_EVERY: Duration = Duration::from_secs(60);

/// Time for which changes of connections are collected before neighbours receive them.
pub(super) const LINKS_DEBOUNCE: Duration = Duration::from_millis(50);

/// Names of deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Exchange version vectors with a neighbour.
    AntiEntropy,
    /// Tell neighbours about this peer's links.
    Links,
    /// Write down last signs of life.
    Seen,
    /// Try a failed write again.
    Retry,
    /// No member has said anything about this peer's log.
    Confirm,
    /// Request damaged entries of this peer's disk.
    Repair,
    /// Dial a member again.
    Redial(PeerId),
    /// Fetch what a peer is known to hold.
    Fetch(PeerId),
    /// A range that was asked for has not come.
    Want(LogId),
    /// What is to be compared of a suspicious log has not come.
    Compare(LogId),
    /// The role was not handed over in time: go all the same.
    Release,
    /// Ping quiet peers.
    Pulse,
    /// The role wants a tick.
    Role,
    /// The tree wants a tick.
    Tree,
    /// Join the tree again.
    Rejoin,
    /// Show that this member lives.
    Alive,
    /// Close connections that the tree does not need.
    Prune,
    /// Look for members that are not heard of.
    Seek,
    /// A lost neighbour has not come back.
    Gone(PeerId),
    /// A post has waited long enough.
    Wait(CommandId),
}

impl Node {
    /// Does what is due, each thing once: what is due again at once waits for the next tick, so that no tick lasts for ever.
    pub(super) fn on_tick(&mut self, now: Now) {
        for timer in self.timers.due(now.mono) {
            if self.timers.take_due(&timer, now.mono) {
                self.timer_due(timer, now);
            }
        }
    }

    fn timer_due(&mut self, timer: Timer, now: Now) {
        match timer {
            Timer::AntiEntropy => self.exchange_vectors(now),
            Timer::Links => self.tell_links(),
            Timer::Seen => {
                self.timers.set(Timer::Seen, now.mono + SEEN_EVERY);
                self.out.push_back(Output::StoreSeen(self.peers.connections.seen()));
            }
            Timer::Retry => {}
            Timer::Confirm => self.decide_by_mark(),
            Timer::Repair => self.fetch_repairs(now),
            Timer::Redial(peer) => self.dial(peer),
            Timer::Fetch(peer) => self.sync().fetch_causes(peer, now),
            Timer::Want(log) => self.sync().ask_another(log, now),
            Timer::Compare(log) => self.forget_suspect(&log),
            Timer::Pulse => self.feel_pulse(now),
            Timer::Role => self.tell_role(RoleInput::Tick, now),
            Timer::Release => self.release_overdue(),
            Timer::Tree => self.tree(TreeInput::Tick, now),
            Timer::Rejoin => self.rejoin(now),
            Timer::Alive => self.beacon(now),
            Timer::Prune => self.prune(now),
            Timer::Seek => self.seek(now),
            Timer::Gone(peer) => self.tell_gone(peer, now),
            Timer::Wait(command) => {
                if let Some(waiting) = self.delivery.receipts.take(command) {
                    self.reply_posted(command, &waiting);
                }
            }
        }
    }
}
