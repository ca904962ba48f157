//! What the rendezvous role asks of the network: watches, probes, the relay, and the way to the holder's relay.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chat_core::config::ADDRS_MAX;
use chat_core::output::Relays;
use chat_core::types::{ProbeOutcome, RoleEvent, Switch};
use chat_proto::id::PeerId;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch as channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::net::context::Shared;
use crate::net::event_queue::NetEvent;
use crate::net::tcp::forwarder::{At, Forwarder, Place, Target};
use crate::net::tcp::hello;
use crate::net::tcp::relay::Relay;
use crate::net::tcp::services;
use crate::net::tcp::watch::{self, Watches};

/// Most connections that this peer's relay serves: one for each member of a room of some hundreds.
const RELAYED_MAX: usize = 512;

/// Most watches over this peer: those on the succession list, and room for lists that change.
const WATCHERS_MAX: usize = 64;

/// How often the relay's clients are looked at besides when the roster changes: one that was let in just before it was
/// removed is found then.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_millis(2_500);

/// What belongs to the role.
#[derive(Debug)]
pub(crate) struct Duties {
    watches: Arc<Watches>,
    forwarder: Forwarder,
    /// Ends the forwarder, which outlives all other tasks: the endpoint takes leave of its relay when it closes.
    forwarding: CancellationToken,
    relays: Mutex<Relays>,
    relay: channel::Sender<Switch>,
    relay_addr: channel::Sender<Option<SocketAddr>>,
    relayed: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
}

impl Duties {
    /// Nothing is asked for yet; the forwarder holds connections.
    ///
    /// # Errors
    /// When no loopback port can be had for the forwarder.
    pub(crate) async fn new() -> io::Result<Self> {
        let forwarding = CancellationToken::new();
        Ok(Self {
            watches: Arc::default(),
            forwarder: Forwarder::start(&TaskTracker::new(), forwarding.clone()).await?,
            forwarding,
            relays: Mutex::default(),
            relay: channel::Sender::new(Switch::Off),
            relay_addr: channel::Sender::new(None),
            relayed: Arc::new(Semaphore::new(RELAYED_MAX)),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        })
    }

    /// The relay URL of every peer, as this endpoint sees it.
    pub(crate) fn relay_url(&self) -> &iroh::RelayUrl {
        self.forwarder.url()
    }

    /// Whether this peer runs the relay.
    pub(crate) fn switch_relay(&self, switch: Switch) {
        self.relay.send_replace(switch);
    }

    /// Whose relay is used, and where their TCP ports are.
    pub(crate) fn set_relays(&self, me: &PeerId, relays: Relays) {
        *self.relays.lock().unwrap_or_else(PoisonError::into_inner) = relays;
        self.retarget(me);
    }

    /// This peer reaches nobody by the relay in use.
    pub(crate) fn nobody_there(&self) {
        self.forwarder.nobody_there();
    }

    /// Ends the forwarder, once the endpoint is closed.
    pub(crate) fn end(&self) {
        self.forwarding.cancel();
    }

    fn retarget(&self, me: &PeerId) {
        let relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let own = *self.relay_addr.borrow();
        let place = |(peer, addrs): (PeerId, Vec<SocketAddr>)| {
            let at = if peer == *me { At::Here(own?) } else { At::Member(addrs) };
            Some(Place { peer, at })
        };
        self.forwarder.turn_to(Target::new(relays.order.into_iter().filter_map(place).collect(), relays.doubted));
    }
}

/// Starts and ends the relay as it is switched, until the daemon stops.
pub(crate) async fn run_relay(shared: Arc<Shared>) {
    let mut switches = shared.duties.relay.subscribe();
    let mut roster = shared.gate.changes();
    let mut running: Option<Relay> = None;
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        let switch = *switches.borrow_and_update();
        match (switch, running.take()) {
            (Switch::On, None) => match Relay::start(shared.gate.clone()).await {
                Ok(relay) => {
                    info!("the relay runs");
                    running = Some(relay);
                }
                Err(error) => warn!(%error, "this peer cannot relay"),
            },
            (Switch::Off, Some(relay)) => {
                info!("the relay ends");
                relay.stop().await;
            }
            (Switch::On, some @ Some(_)) => running = some,
            (Switch::Off, None) => {}
        }
        shared.duties.relay_addr.send_replace(running.as_ref().map(Relay::addr));
        shared.duties.retarget(&shared.me);
        loop {
            tokio::select! {
                changed = switches.changed() => if changed.is_err() { return } else { break },
                changed = roster.changed() => if changed.is_err() { return },
                _ = sweep.tick(), if running.is_some() => {}
                () = shared.token.cancelled() => return,
            }
            if let Some(relay) = &running {
                relay.sweep();
            }
        }
    }
}

/// Watches a peer; tells what becomes of it.
pub(crate) fn watch(shared: &Arc<Shared>, peer: PeerId, addrs: Vec<SocketAddr>) {
    let task = shared.clone();
    let span = info_span!("watch", me = %shared.me.short(), remote = %peer.short());
    let watching = async move {
        let events = task.events.clone();
        let tell = |event| {
            let events = events.clone();
            async move {
                events.send(NetEvent::Role(event)).await;
            }
        };
        tokio::select! {
            () = watch::watch(task.duties.watches.clone(), peer, addrs, tell) => {}
            () = task.token.cancelled() => {}
        }
    };
    shared.tracker.spawn(watching.instrument(span));
}

/// Ends a watch without a word.
pub(crate) fn unwatch(shared: &Shared, peer: &PeerId) {
    shared.duties.watches.end(peer);
}

/// Asks at a peer's addresses, over TCP and without any relay, who listens: whether it can be reached from here without
/// being called first.
pub(crate) fn probe(shared: &Arc<Shared>, peer: PeerId, addrs: Vec<SocketAddr>) {
    let task = shared.clone();
    shared.tracker.spawn(async move {
        let outcome = tokio::select! {
            outcome = knock(peer, addrs) => outcome,
            () = task.token.cancelled() => return,
        };
        task.events.send(NetEvent::Role(RoleEvent::Probed(peer, outcome))).await;
    });
}

/// Calls all its addresses at once, which are as many as a record holds.
async fn knock(peer: PeerId, addrs: Vec<SocketAddr>) -> ProbeOutcome {
    let ask = |addr: SocketAddr| async move {
        let begun = Instant::now();
        let answered = hello::is_at(&peer, addr).await;
        // Two round trips: one for the connection, one for the hello.
        answered.then(|| ProbeOutcome::Answered { addr, rtt: begun.elapsed() / 2 })
    };
    let answered = services::first_ok(addrs.iter().copied().take(ADDRS_MAX).map(ask), PROBE_MAX).await;
    answered.unwrap_or(ProbeOutcome::Unanswered(addrs))
}

/// Somebody on the TCP port wants the relay: its stream goes on there, `said` first.
pub(crate) async fn serve_relay(shared: &Shared, mut client: TcpStream, said: &[u8]) -> io::Result<()> {
    let Ok(_place) = shared.duties.relayed.clone().try_acquire_owned() else { return Ok(()) };
    let mut addr = shared.duties.relay_addr.subscribe();
    let Some(at) = *addr.borrow_and_update() else {
        debug!("no relay runs here");
        return Ok(());
    };
    let mut relay = TcpStream::connect(at).await?;
    relay.set_nodelay(true)?;
    let whereabouts = shared.duties.forwarder.whereabouts(&shared.me);
    services::serve(&mut client, &shared.me, whereabouts).await?;
    relay.write_all(said).await?;
    copy_bidirectional(&mut client, &mut relay).await?;
    Ok(())
}

/// Somebody on the TCP port watches this peer.
pub(crate) async fn serve_watch(shared: &Shared, watcher: TcpStream) {
    if let Ok(_place) = shared.duties.watchers.clone().try_acquire_owned() {
        watch::be_watched(watcher, &shared.me).await;
    }
}
