//! What the rendezvous role asks of the network: watches, probes, the relay, and the way to the holder's relay.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chat_core::rendezvous::io::{ProbeOutcome, Switch};
use chat_proto::id::PeerId;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch as channel};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span, warn};

use super::NetEvent;
use crate::net::forwarder::{Forwarder, Target};
use crate::net::hello;
use crate::net::relay::Relay;
use crate::net::shared::Shared;
use crate::net::watch::{self, Watches};

/// Most connections that this peer's relay serves: one for each member of a room of some hundreds.
const RELAYED_MAX: usize = 512;

/// Most watches over this peer: those on the succession list, and room for lists that change.
const WATCHERS_MAX: usize = 64;

/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_millis(2_500);

/// What belongs to the role.
#[derive(Debug)]
pub(crate) struct Duties {
    watches: Arc<Watches>,
    forwarder: Forwarder,
    /// Ends the forwarder, which outlives all other tasks: the endpoint takes leave of its relay when it closes.
    forwarding: CancellationToken,
    holder: Mutex<Option<(PeerId, Vec<SocketAddr>)>>,
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
            holder: Mutex::default(),
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

    /// Who holds the role, and where its TCP port is.
    pub(crate) fn set_holder(&self, me: &PeerId, holder: Option<(PeerId, Vec<SocketAddr>)>) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
        self.retarget(me);
    }

    /// Ends the forwarder, once the endpoint is closed.
    pub(crate) fn end(&self) {
        self.forwarding.cancel();
    }

    fn retarget(&self, me: &PeerId) {
        let holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let own = *self.relay_addr.borrow();
        self.forwarder.turn_to(match holder {
            None => Target::Unknown,
            Some((peer, _)) if peer == *me => own.map_or(Target::Unknown, Target::Own),
            Some((_, addrs)) => Target::Member(addrs),
        });
    }
}

/// Starts and ends the relay as it is switched, until the daemon stops.
pub(crate) async fn run_relay(shared: Arc<Shared>) {
    let mut switches = shared.duties.relay.subscribe();
    let mut running: Option<Relay> = None;
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
        tokio::select! {
            changed = switches.changed() => if changed.is_err() { return },
            () = shared.token.cancelled() => return,
        }
    }
}

/// Watches a peer; tells what becomes of it.
pub(crate) fn watch(shared: &Arc<Shared>, peer: PeerId, addrs: Vec<SocketAddr>) {
    let task = shared.clone();
    let span = info_span!("watch", me = %shared.me.short(), remote = %peer.short());
    let watching = async move {
        let events = task.events.clone();
        let tell = |news| {
            let events = events.clone();
            async move {
                events.send(NetEvent::Watch(peer, news)).await;
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
        task.events.send(NetEvent::Probed(peer, outcome)).await;
    });
}

async fn knock(peer: PeerId, addrs: Vec<SocketAddr>) -> ProbeOutcome {
    let asking = async {
        for addr in &addrs {
            let begun = Instant::now();
            if hello::ask(*addr).await.is_ok_and(|hello| hello.peer == peer) {
                // Two round trips: one for the connection, one for the hello.
                return Some(ProbeOutcome::Answered { addr: *addr, rtt: begun.elapsed() / 2 });
            }
        }
        None
    };
    let answered = timeout(PROBE_MAX, asking).await.ok().flatten();
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
    client.set_nodelay(true)?;
    let mut relay = TcpStream::connect(at).await?;
    relay.set_nodelay(true)?;
    relay.write_all(said).await?;
    copy_bidirectional(&mut client, &mut relay).await?;
    Ok(())
}

/// Somebody on the TCP port watches this peer.
pub(crate) async fn serve_watch(shared: &Shared, watcher: TcpStream) {
    if let Ok(_place) = shared.duties.watchers.clone().try_acquire_owned() {
        watch::be_watched(watcher).await;
    }
}
