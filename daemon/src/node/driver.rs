//! The driver: feeds the room everything that happens, one thing at a time, and has its outputs executed.
//!
//! It never waits for a peer, a client or the disk: sends are queued or dropped with their connection, writes are queued
//! and reported, replies go to whoever still listens. The one thing it waits for is room in the store's queue, and while
//! it does it reads nothing from the network, so that pressure reaches the senders and not this machine's memory.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chat_core::input::{BatchId, Input, Now};
use chat_core::node::Node;
use chat_proto::time::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::net::{Net, NetEvent, NetEvents};
use crate::node::effects::Effects;
use crate::node::handle::Request;
use crate::store::types::StoreReport;
use crate::store::{Store, StoreReports};

/// Most events that are handled before timers and other sources get their turn.
const TURN_MAX: usize = 64;

/// What the driver works with.
#[derive(Debug)]
pub struct Parts {
    /// Commands from API and life of the process.
    pub requests: mpsc::Receiver<Request>,
    /// The network.
    pub net: Net,
    /// What happens there.
    pub net_events: NetEvents,
    /// The store.
    pub store: Store,
    /// What it reports.
    pub reports: StoreReports,
}

/// Why the driver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DriverEnd {
    /// It was told to.
    #[error("the room was stopped")]
    Stopped,
    /// The store ended before it was told to.
    #[error("the store ended")]
    Store,
    /// The network ended before it was told to.
    #[error("the network ended")]
    Net,
}

/// A driver that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub reason: DriverEnd,
    /// The network's events, for the driver of the next room.
    pub net_events: NetEvents,
}

/// A fixed start for monotonic time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time as the core wants it.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wall = Timestamp::from_ms(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Now { mono: self.start.elapsed(), wall }
    }
}

/// Owns the room.
pub struct Driver {
    node: Node,
    clock: Clock,
    parts: Parts,
    effects: Effects,
    founded: Option<oneshot::Sender<()>>,
}

impl Driver {
    /// A driver for a room. The receiver hears when the first batch is on disk: a new room exists from then on.
    pub fn new(node: Node, clock: Clock, parts: Parts) -> (Self, oneshot::Receiver<()>) {
        let (founded, first_batch) = oneshot::channel();
        let effects = Effects::new(node.me(), parts.net.clone(), parts.store.clone());
        (Self { node, clock, parts, effects, founded: Some(founded) }, first_batch)
    }

    /// Works until `stop` is cancelled, or a part it cannot do without ends.
    pub async fn run(mut self, stop: CancellationToken) -> Ended {
        let reason = self.work(stop).await;
        Ended { reason, net_events: self.parts.net_events }
    }

    async fn work(&mut self, stop: CancellationToken) -> DriverEnd {
        self.input(Input::Addrs(self.parts.net.addrs()));
        loop {
            let wake = self.node.poll_timeout().map(|at| self.clock.start + at);
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
                    Some(event) => self.turn(event).await,
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

    /// Handles an event, and what else came with it.
    async fn turn(&mut self, event: NetEvent) {
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
            NetEvent::Admission { id, peer, observed, request, words } => {
                Input::Admission { id, peer, observed, request, words }
            }
            NetEvent::AdmissionGone(id) => Input::AdmissionGone(id),
            NetEvent::Addrs(addrs) => Input::Addrs(addrs),
            NetEvent::Role(event) => Input::Role(event),
        };
        self.input(input);
    }

    fn report(&mut self, report: StoreReport) {
        let input = match report {
            StoreReport::Persisted(batch) => {
                self.first_batch_is_written(batch);
                Input::Persisted(batch)
            }
            StoreReport::PersistFailed(batch, error) => Input::PersistFailed(batch, error),
            StoreReport::Loaded(id, entries) => Input::Loaded(id, entries),
        };
        self.input(input);
    }

    fn first_batch_is_written(&mut self, _batch: BatchId) {
        if let Some(founded) = self.founded.take() {
            // Nobody waits for it in a room that existed before.
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
