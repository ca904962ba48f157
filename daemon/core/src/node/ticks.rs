//! What is done at each deadline.

use std::time::Duration;

use crate::context::timers::Timer;
use crate::delivery::tree::TreeInput;
use crate::node::Node;
use crate::output::{CloseReason, Output};
use crate::peers::liveness::Finding;
use crate::rendezvous::events::RoleInput;
use crate::wire::Frame;

/// Interval at which the store receives when peers were last seen.
pub(super) const SEEN_EVERY: Duration = Duration::from_secs(60);

impl Node {
    /// Does what is due, each thing once: what is due again at once waits for the next tick, so that no tick lasts for ever.
    pub(super) fn on_tick(&mut self) {
        let now = self.cx.now.mono;
        for timer in self.cx.timers.due(now) {
            if self.cx.timers.take_due(&timer, now) {
                self.timer_due(timer);
            }
        }
    }

    fn timer_due(&mut self, timer: Timer) {
        match timer {
            Timer::AntiEntropy => self.exchange_vectors(),
            Timer::Links => {
                let frame = Frame::Links(self.peers.connections.report());
                self.peers.connections.send_to_all(&mut self.cx.out, &frame);
            }
            Timer::Seen => {
                self.cx.set(Timer::Seen, SEEN_EVERY);
                self.cx.push(Output::StoreSeen(self.peers.presence.seen()));
            }
            // What waits is written after this input.
            Timer::Retry => {}
            Timer::Confirm => self.own_log().decide_by_mark(),
            Timer::Repair => self.logs.repairs.fetch(&self.peers.connections, &mut self.cx),
            Timer::Bodies => self.logs.bodies.fetch(&self.peers.connections, &mut self.cx),
            Timer::Redial(peer) => self.dials().dial(peer),
            Timer::Fetch(peer) => self.sync().fetch_causes(peer),
            Timer::Want(log) => self.sync().ask_another(log),
            Timer::Compare(log) => self.logs.forks.forget_suspect(&log),
            Timer::Ping => self.ping_quiet_peers(),
            Timer::Role => self.tell_role(RoleInput::Tick),
            Timer::Release => {
                self.role.release_overdue();
                self.finish_stop();
            }
            Timer::Tree => self.disseminate(|tree| tree.input(TreeInput::Tick)),
            Timer::Rejoin => self.disseminate(|tree| tree.rejoin()),
            Timer::Alive => self.disseminate(|tree| tree.keep_alive()),
            Timer::Prune => self.prune(),
            Timer::Seek => self.disseminate(|tree| tree.seek()),
            Timer::Gone(peer) => {
                if self.dissemination().is_gone(&peer) {
                    self.presence_changed();
                    self.disseminate(|tree| tree.report_gone(peer));
                }
            }
            Timer::Receipts => self.receipts().acknowledge_due(),
            Timer::Wait(command) => {
                self.delivery.receipts.time_out(command, &self.peers.connections, &mut self.cx);
            }
        }
    }

    /// The periodic comparison of what is held with one neighbour.
    fn exchange_vectors(&mut self) {
        let spread = 0.8 + 0.4 * self.cx.jitter();
        self.cx.set(Timer::AntiEntropy, self.cx.settings.anti_entropy.mul_f64(spread));
        self.presence_changed();
        if let Some(peer) = self.sync().offer_digest() {
            self.dials().show_clock(&peer);
            self.logs.bodies.retry(peer, &mut self.cx);
        }
    }

    /// Pings quiet peers, and disconnects silent ones.
    fn ping_quiet_peers(&mut self) {
        let stretch = self.role.query().map_or(1, |role| role.stretch(self.cx.now));
        for (peer, finding) in self.peers.connections.check_liveness(stretch, self.cx.now.mono) {
            match finding {
                Finding::Ask(times) => self.peers.send_ping(&peer, times, &Frame::Ping(times), &mut self.cx),
                Finding::Gone => {
                    tracing::info!(remote = %peer.short(), "peer is silent, connection closed");
                    self.break_with(peer, CloseReason::Silent);
                }
            }
        }
        self.peers.plan_ping(&mut self.cx);
    }

    /// Closes connections that neither the tree nor the role needs.
    fn prune(&mut self) {
        if !self.dissemination().may_prune() {
            return;
        }
        for peer in self.peers.connections.connected_ids() {
            if !self.delivery.dissemination.needs(&peer) && !self.role.keep.contains(&peer) {
                self.break_with(peer, CloseReason::Surplus);
            }
        }
    }
}
