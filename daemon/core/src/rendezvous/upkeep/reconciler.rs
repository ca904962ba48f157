//! Keeps the TCP watch, the wanted connections and the relay in line with this peer's state.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::rendezvous::context::Context;
use crate::rendezvous::events::RoleOutput;
use crate::rendezvous::follower::failure_detector::TcpWatch;
use crate::rendezvous::follower::in_small_room;
use crate::rendezvous::state::RoleState;
use crate::rendezvous::upkeep::relay_order::wants_relay;
use crate::types::{RoleRequest, Switch};

/// What was last asked of the network, and the stance it was asked for.
#[derive(Debug)]
pub(crate) struct Reconciler {
    relay: Switch,
    /// When the relay ends, once it is no longer wanted.
    relay_until: Option<Duration>,
    kept: BTreeSet<PeerId>,
    stance: Option<Stance>,
}

/// What the watch, the connections and the relay depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stance {
    /// Version of the known claim and succession.
    known: u64,
    /// Whether every member watches the holder.
    small_room: bool,
    state: StanceState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StanceState {
    Seeking,
    Following { tcp: TcpWatch, vacant: bool },
    Holding,
    Gone,
}

impl Stance {
    fn of(state: &RoleState, cx: &Context) -> Self {
        let state = match state {
            RoleState::Seeking(_) => StanceState::Seeking,
            RoleState::Following(following) => {
                StanceState::Following { tcp: following.detector.tcp, vacant: following.vacancy.is_some() }
            }
            RoleState::Holding(_) => StanceState::Holding,
            RoleState::Gone => StanceState::Gone,
        };
        Self { known: cx.known.version(), small_room: in_small_room(cx), state }
    }

    /// Whether a failed TCP watch is tried again now.
    fn retries_watch(&self, now: Duration) -> bool {
        matches!(self.state, StanceState::Following { tcp: TcpWatch::Failed { retry_at, .. }, .. } if retry_at <= now)
    }
}

impl Reconciler {
    pub(crate) const fn new() -> Self {
        Self { relay: Switch::Off, relay_until: None, kept: BTreeSet::new(), stance: None }
    }

    /// When the relay ends.
    pub(crate) const fn due(&self) -> Option<Duration> {
        self.relay_until
    }

    /// Asks the network for what changed.
    pub(crate) fn reconcile(&mut self, state: &mut RoleState, cx: &mut Context) {
        let now = cx.now.mono;
        let stance = Stance::of(state, cx);
        let relay_ends = self.relay_until.is_some_and(|until| until <= now);
        if self.stance == Some(stance) && !stance.retries_watch(now) && !relay_ends {
            return;
        }
        self.stance = Some(stance);
        if let RoleState::Following(following) = state {
            following.reconcile_tcp_watch(cx);
        }
        let keep = wanted_connections(state, cx);
        if keep != self.kept {
            self.kept = keep.clone();
            cx.out.push_back(RoleOutput::Keep(keep));
        }
        if wants_relay(state, cx) {
            self.relay_until = None;
            self.switch_relay(Switch::On, cx);
        } else if self.relay == Switch::On {
            let until = *self.relay_until.get_or_insert(now + cx.settings.relay_linger);
            if until <= now {
                self.relay_until = None;
                self.switch_relay(Switch::Off, cx);
            }
        }
    }

    fn switch_relay(&mut self, to: Switch, cx: &mut Context) {
        if self.relay != to {
            self.relay = to;
            cx.out.push_back(RoleOutput::Net(RoleRequest::SwitchRelay(to)));
        }
    }
}

/// The holder and its list, where this peer is one of them.
fn wanted_connections(state: &RoleState, cx: &Context) -> BTreeSet<PeerId> {
    let listed = || cx.known.line().list.into_iter().filter(|peer| *peer != cx.me);
    match state {
        RoleState::Holding(_) => listed().collect(),
        RoleState::Following(following) if following.listed => listed().chain([following.detector.holder]).collect(),
        RoleState::Following(_) | RoleState::Seeking(_) | RoleState::Gone => BTreeSet::new(),
    }
}
