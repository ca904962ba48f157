//! The driver: the one task that owns the room. It passes every event to the core, one at a time, and has the outputs
//! executed by `effects`.
//!
//! Sources, in one `select!`: events of the network, reports of the store, commands from the handle, and the core's timer.
//! For each, [`Node::handle`] runs once and its outputs are drained before the next event. The process starts the driver
//! when a room is opened and takes the network's events back from it when the room ends ([`EndedDriver`]).
//!
//! Invariants: the driver never waits for a peer, a client or the disk. Sends are queued or dropped with their connection,
//! writes are queued and reported, replies go to callers that still listen. It waits only for space in the store's queue;
//! meanwhile it reads nothing from the network, so that the pressure reaches the senders and not this machine's memory.
//! Timers and other sources get their turn after a bounded number of network events.

use std::time::Instant;

use chat_core::input::Input;
use chat_core::node::Node;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::net::{Net, NetEvent, NetEvents};
use crate::node::effects::Effects;
use crate::node::handle::Request;
use crate::store::types::StoreReport;
use crate::store::{Store, StoreReports};

/// Maximum number of network events handled before timers and other sources get their turn.
const TURN_MAX: usize = 64;

/// The parts that a driver connects.
#[derive(Debug)]
pub struct DriverParts {
    /// Commands from the API and the process.
    pub requests: mpsc::Receiver<Request>,
    /// The network.
    pub net: Net,
    /// Its events.
    pub net_events: NetEvents,
    /// The store.
    pub store: Store,
    /// Its reports.
    pub reports: StoreReports,
}

/// Why the driver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DriverEnd {
    /// The process requested it.
    #[error("the room was stopped")]
    Stopped,
    /// The store ended by itself.
    #[error("the store ended")]
    Store,
    /// The network ended by itself.
    #[error("the network ended")]
    Net,
}

/// A driver that has ended.
#[derive(Debug)]
pub struct EndedDriver {
    /// Why it ended.
    pub reason: DriverEnd,
    /// The network's events, for the driver of the next room.
    pub net_events: NetEvents,
}

/// Owns the room.
pub struct Driver {
    node: Node,
    clock: Clock,
    parts: DriverParts,
    effects: Effects,
    founded: Option<oneshot::Sender<()>>,
}

impl Driver {
    /// Creates the driver of a room. The receiver resolves when the first batch is on disk: a new room exists from then on.
    pub fn new(node: Node, clock: Clock, parts: DriverParts) -> (Self, oneshot::Receiver<()>) {
        let (founded, first_batch) = oneshot::channel();
        let effects = Effects::new(node.me(), parts.net.clone(), parts.store.clone());
        (Self { node, clock, parts, effects, founded: Some(founded) }, first_batch)
    }

    /// Runs until `stop` is cancelled, or the store or the network ends.
    pub async fn run(mut self, stop: CancellationToken) -> EndedDriver {
        let reason = self.work(stop).await;
        EndedDriver { reason, net_events: self.parts.net_events }
    }

    async fn work(&mut self, stop: CancellationToken) -> DriverEnd {
        self.input(Input::Addrs(self.parts.net.addrs()));
        loop {
            let wake = self.node.poll_timeout().map(|at| self.clock.instant(at));
            let blocked = self.effects.is_blocked();
            tokio::select! {
                () = stop.cancelled() => return DriverEnd::Stopped,
                report = self.parts.reports.recv() => match report {
                    Some(report) => self.report(report),
                    None => return DriverEnd::Store,
                },
                written = self.effects.unblock(), if blocked => {
                    if written.is_err() {
                        return DriverEnd::Store;
                    }
                    self.input(Input::Deaf);
                }
                event = self.parts.net_events.recv(), if !blocked => match event {
                    Some(event) => self.net_events(event).await,
                    None => return DriverEnd::Net,
                },
                request = self.parts.requests.recv(), if !blocked => match request {
                    Some(request) => self.request(request),
                    None => return DriverEnd::Stopped,
                },
                () = sleep_until(wake) => {
                    if blocked {
                        self.input(Input::Deaf);
                    }
                    self.input(Input::Tick);
                }
            }
        }
    }

    /// Handles an event, and those that have arrived with it.
    async fn net_events(&mut self, event: NetEvent) {
        self.net_event(event);
        for _ in 1..TURN_MAX {
            if self.effects.is_blocked() {
                return;
            }
            tokio::select! {
                biased;
                Some(event) = self.parts.net_events.recv() => self.net_event(event),
                () = std::future::ready(()) => return,
            }
        }
    }

    fn net_event(&mut self, event: NetEvent) {
        let input = match event {
            NetEvent::Up(peer, path) => Input::Up(peer, path),
            NetEvent::Path(peer, path) => Input::Path(peer, path),
            NetEvent::Down(peer, reason) => {
                tracing::debug!(remote = %peer.short(), ?reason, "connection ended");
                Input::Down(peer)
            }
            NetEvent::DialFailed(peer) => Input::DialFailed(peer),
            NetEvent::Frame(peer, frame) => Input::Frame(peer, frame),
            NetEvent::Admission(call) => Input::Admission(call),
            NetEvent::AdmissionGone(id) => Input::AdmissionGone(id),
            NetEvent::Addrs(addrs) => Input::Addrs(addrs),
            NetEvent::Role(event) => Input::Role(event),
        };
        self.input(input);
    }

    fn report(&mut self, report: StoreReport) {
        let input = match report {
            StoreReport::Persisted(batch) => {
                self.report_founded();
                Input::Persisted(batch)
            }
            StoreReport::PersistFailed(batch, error) => Input::PersistFailed(batch, error),
            StoreReport::Loaded(id, entries) => Input::Loaded(id, entries),
            StoreReport::Refiled(batch, restored) => Input::Refiled(batch, restored),
            StoreReport::Damaged(log, seq) => Input::Damaged(log, seq),
        };
        self.input(input);
    }

    fn report_founded(&mut self) {
        if let Some(founded) = self.founded.take() {
            // In a room that existed before, nothing waits for it.
            let _ = founded.send(());
        }
    }

    fn request(&mut self, request: Request) {
        let id = self.effects.expect_reply(request.reply, request.idempotency);
        self.input(Input::Command(id, request.command));
    }

    fn input(&mut self, input: Input) {
        let now = self.clock.now();
        self.node.handle(input, now);
        while let Some(output) = self.node.poll_output() {
            if let Some((id, command)) = self.effects.execute(output) {
                self.node.handle(Input::Command(id, command), now);
            }
        }
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("me", &self.node.me()).finish_non_exhaustive()
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
