//! The forwarder between this peer's endpoint and the relay of the room.
//!
//! The endpoint knows one relay URL, that of the forwarder on loopback, which never changes. The forwarder connects it to the
//! first relay of an order that runs and can be reached, cuts the stream when another one becomes preferred, and holds new
//! connections while there is none: so iroh's relay client never waits out a back-off, and relayed pairs continue as soon
//! as the next relay is reached.
//!
//! Peers that know different orders must still meet. Each relay announces whether its own peer uses it; a relay whose peer
//! uses another one comes after all others. So a peer that knows only one member finds the relay that the room uses.
//!
//! [`RoleServices`](crate::net::tcp::role_services::RoleServices) sets the order; a dial that fails while no connection is
//! open reports that the relay in use may be useless ([`Forwarder::no_peer_reached`]).
//!
//! Invariants: a doubted relay is used only while it answers. A stream is cut only when a better relay has answered. The
//! forwarder outlives all other tasks, since the endpoint says goodbye to its relay when it closes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chat_proto::id::PeerId;
use iroh::{RelayUrl, SecretKey};
use n0_future::{FuturesUnordered, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::net::tcp::services::{self, MemberService, Whereabouts};
use direct_peers::{DirectPeers, copy_needed, copy_noting};

pub(crate) mod direct_peers;
mod own_address;
mod probe;

/// Maximum number of connections of the endpoint to its relay: it uses one, and two while one is being replaced.
const CONNECTIONS_MAX: usize = 8;

/// Timeout for the addresses of a relay to connect and to confirm that a relay runs.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How long after the first answer the relays before it in the order are waited for.
const GRACE: Duration = Duration::from_millis(300);

/// Timeout for a doubted relay to answer.
const DOUBT_MAX: Duration = Duration::from_millis(400);

/// Pause after a failed connection, unless the order changes.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Interval between searches for a better relay than the one in use.
const REVIEW_EVERY: Duration = Duration::from_secs(15);

/// Minimum time in use before a relay can be considered useless: longer than a dial.
const USED_MIN: Duration = Duration::from_secs(6);

/// A relay that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelayCandidate {
    /// The peer that runs it.
    pub(crate) peer: PeerId,
    /// Its address.
    pub(crate) at: RelayAt,
}

/// The address of a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RelayAt {
    /// In this process, at this loopback address.
    Here(SocketAddr),
    /// Run by another member, at one of these addresses of its TCP port.
    Member(Vec<SocketAddr>),
}

/// The relays to use, in order of preference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RelayOrder {
    /// The order in which they are tried; connections are held while it is empty.
    pub(crate) order: Vec<RelayCandidate>,
    /// A relay that is used only while it answers.
    pub(crate) doubted: Option<PeerId>,
    /// Relays through which no peer was reached: tried after all others.
    useless: Vec<PeerId>,
}

impl RelayOrder {
    pub(crate) const fn new(order: Vec<RelayCandidate>, doubted: Option<PeerId>) -> Self {
        Self { order, doubted, useless: Vec::new() }
    }

    /// The candidates in the order in which they are tried.
    fn candidates(&self) -> Vec<&RelayCandidate> {
        let mut candidates: Vec<&RelayCandidate> = self.order.iter().collect();
        candidates.sort_by_key(|candidate| self.useless.contains(&candidate.peer));
        candidates
    }

    fn is_first(&self, peer: &PeerId) -> bool {
        self.candidates().first().is_some_and(|candidate| candidate.peer == *peer)
    }
}

/// The forwarder, which runs until [`Forwarder::end`], or until it is dropped.
#[derive(Debug)]
pub(crate) struct Forwarder {
    url: RelayUrl,
    relays: watch::Sender<RelayOrder>,
    used: Arc<UsedRelay>,
    direct: Arc<DirectPeers>,
    end: CancellationToken,
}

/// The relay in use, and since when.
#[derive(Debug, Default)]
struct UsedRelay(Mutex<Option<(PeerId, Instant)>>);

impl UsedRelay {
    /// Records that a relay is in use from now on; returns the time.
    fn set(&self, peer: PeerId) -> Instant {
        let since = Instant::now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((peer, since));
        since
    }

    /// Records that the relay used since then is no longer in use, unless another connection has replaced it.
    fn clear(&self, since: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(_, newest)| *newest == since);
    }

    fn get(&self) -> Option<(PeerId, Instant)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarder {
    /// Listens on loopback and starts to hold connections. `me` is the key that it proves to other members' relays.
    ///
    /// # Errors
    /// When no loopback port is free.
    pub(crate) async fn start(me: SecretKey) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url: RelayUrl =
            format!("http://{}", listener.local_addr()?).parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let (relays, orders) = watch::channel(RelayOrder::default());
        let used = Arc::new(UsedRelay::default());
        let end = CancellationToken::new();
        let direct = Arc::new(DirectPeers::default());
        let carrier = StreamCarrier { me, orders, used: used.clone(), direct: direct.clone() };
        tokio::spawn(accept(listener, carrier, end.clone()));
        Ok(Self { url, relays, used, direct, end })
    }

    /// The peers to which nothing is relayed.
    pub(crate) fn direct_peers(&self) -> &Arc<DirectPeers> {
        &self.direct
    }

    /// The relay URL of every peer, as this endpoint sees it.
    pub(crate) fn url(&self) -> &RelayUrl {
        &self.url
    }

    /// Ends all connections and stops listening.
    pub(crate) fn end(&self) {
        self.end.cancel();
    }

    /// Whether this peer uses its own relay, or none.
    pub(crate) fn whereabouts(&self, me: &PeerId) -> Whereabouts {
        match self.used.get() {
            Some((peer, _)) if peer != *me => Whereabouts::Away,
            Some(_) | None => Whereabouts::Home,
        }
    }

    /// Replaces the order.
    pub(crate) fn use_relays(&self, relays: RelayOrder) {
        self.relays.send_if_modified(|current| {
            let changed = current.order != relays.order || current.doubted != relays.doubted;
            if changed {
                *current = relays;
            }
            changed
        });
    }

    /// No peer can be reached through the relay in use: another one is tried, if there is one.
    pub(crate) fn no_peer_reached(&self) {
        let Some((peer, _)) = self.used.get().filter(|(_, since)| since.elapsed() >= USED_MIN) else { return };
        self.relays.send_if_modified(|relays| {
            let known = relays.useless.contains(&peer) || relays.order.iter().all(|candidate| candidate.peer != peer);
            if known || relays.order.len() < 2 {
                return false;
            }
            relays.useless.push(peer);
            if relays.useless.len() == relays.order.len() {
                // All were useless: all are tried again, this one last.
                relays.useless = vec![peer];
            }
            true
        });
    }
}

/// A network that fails to open leaves no forwarder behind.
impl Drop for Forwarder {
    fn drop(&mut self) {
        self.end();
    }
}

/// What carries the connections of the endpoint.
#[derive(Clone)]
struct StreamCarrier {
    me: SecretKey,
    orders: watch::Receiver<RelayOrder>,
    used: Arc<UsedRelay>,
    direct: Arc<DirectPeers>,
}

async fn accept(listener: TcpListener, carrier: StreamCarrier, end: CancellationToken) {
    let tasks = TaskTracker::new();
    let permits = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file handles, most likely: without a pause this would spin.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
        let (carrier, end) = (carrier.clone(), end.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = carry(stream, carrier) => {}
                () = end.cancelled() => {}
            }
            drop(permit);
        });
    }
}

/// Carries one connection of the endpoint until either side ends it or another relay is to be used.
async fn carry(mut client: TcpStream, carrier: StreamCarrier) {
    let StreamCarrier { me, mut orders, used, direct } = carrier;
    // Relayed packets must not wait for others to fill a segment.
    let _ = client.set_nodelay(true);
    if probe::is_question(&client).await {
        if let Err(error) = probe::answer(client).await {
            debug!(%error, "the endpoint did not wait for an answer");
        }
        return;
    }
    loop {
        let relays = orders.borrow_and_update().clone();
        let connected = tokio::select! {
            connected = first(&me, &relays) => connected,
            changed = orders.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = gone(&client) => return,
        };
        let Some((peer, mut relay)) = connected else { continue };
        debug!(relay = %peer.short(), "connected to a relay");
        let since = used.set(peer);
        let own = relay.local_addr();
        tokio::select! {
            ended = relayed(&mut client, &mut relay, &direct) => {
                if let Err(error) = ended {
                    debug!(%error, "connection to the relay ended");
                }
            }
            () = another(&me, peer, &mut orders) => debug!("another relay is to be used"),
            () = lost(own) => debug!("this machine has another address"),
        }
        used.clear(since);
        return;
    }
}

/// Ends when the address of this end of a stream is no longer this machine's.
async fn lost(own: io::Result<SocketAddr>) {
    match own {
        Ok(own) => own_address::lost(own).await,
        // The stream is over already.
        Err(_) => std::future::pending().await,
    }
}

/// Copies both ways until both ends are done.
async fn relayed(client: &mut TcpStream, relay: &mut TcpStream, direct: &DirectPeers) -> io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_relay, mut to_relay)) = (client.split(), relay.split());
    let back = copy_noting(&mut from_relay, &mut to_client, direct);
    tokio::try_join!(copy_needed(&mut from_client, &mut to_relay, direct), back).map(|_| ())
}

/// Ends when another relay than that of `peer` is preferred.
async fn another(me: &SecretKey, peer: PeerId, orders: &mut watch::Receiver<RelayOrder>) {
    loop {
        let relays = orders.borrow_and_update().clone();
        if relays.doubted == Some(peer) {
            let candidate = relays.order.iter().find(|candidate| candidate.peer == peer);
            let answers = async { connect(me, candidate?).await };
            if !matches!(timeout(DOUBT_MAX, answers).await, Ok(Some(_))) {
                return;
            }
        } else if !relays.is_first(&peer) {
            let best = tokio::select! {
                best = first(me, &relays) => best,
                changed = orders.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            if best.is_some_and(|(best, _)| best != peer) {
                return;
            }
        }
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            () = sleep(REVIEW_EVERY), if !relays.is_first(&peer) => {}
        }
    }
}

/// Connects to all relays at once and returns the best: a relay that its own peer uses, the first of these in the order.
/// Those before it that do not answer in time are not waited for. Waits before it returns `None`, and forever while no
/// relay is known.
async fn first(me: &SecretKey, relays: &RelayOrder) -> Option<(PeerId, TcpStream)> {
    let candidates = relays.candidates();
    if candidates.is_empty() {
        std::future::pending::<()>().await;
    }
    let mut trying: Vec<bool> = vec![true; candidates.len()];
    let connecting =
        candidates.iter().enumerate().map(|(index, candidate)| async move { (index, connect(me, candidate).await) });
    let mut connecting: FuturesUnordered<_> = connecting.collect();
    let mut best: Option<((Whereabouts, usize), TcpStream)> = None;
    let grace = sleep(CONNECT_MAX * 2);
    tokio::pin!(grace);
    loop {
        let (index, connected) = tokio::select! {
            next = connecting.next() => match next {
                Some(next) => next,
                None => break,
            },
            () = &mut grace => break,
        };
        trying[index] = false;
        if let Some((stream, whereabouts)) = connected
            && best.as_ref().is_none_or(|(before, _)| (whereabouts, index) < *before)
        {
            // The own relay answers at once; where it is the last resort, the others get the time that a distant one needs.
            let last_resort = matches!(candidates[index].at, RelayAt::Here(_)) && index + 1 == candidates.len();
            let until = tokio::time::Instant::now() + if last_resort { CONNECT_MAX } else { GRACE };
            if until < grace.deadline() {
                grace.as_mut().reset(until);
            }
            best = Some(((whereabouts, index), stream));
        }
        let settled = |best: &(Whereabouts, usize)| match best {
            (Whereabouts::Home, index) => !trying[..*index].contains(&true),
            (Whereabouts::Away, _) => !trying.contains(&true),
        };
        if best.as_ref().is_some_and(|(best, _)| settled(best)) {
            break;
        }
    }
    match best {
        Some(((_, index), stream)) => Some((candidates[index].peer, stream)),
        None => {
            sleep(RETRY_AFTER).await;
            None
        }
    }
}

/// Connects to one relay, at the first of its addresses that answers.
async fn connect(me: &SecretKey, candidate: &RelayCandidate) -> Option<(TcpStream, Whereabouts)> {
    let (addrs, whose) = match &candidate.at {
        RelayAt::Here(addr) => (std::slice::from_ref(addr), None),
        RelayAt::Member(addrs) => (addrs.as_slice(), Some(&candidate.peer)),
    };
    let tries = addrs.iter().copied().map(|addr| async move { open(me, addr, whose).await.ok() });
    services::first_ok(tries, CONNECT_MAX).await
}

async fn open(me: &SecretKey, addr: SocketAddr, whose: Option<&PeerId>) -> io::Result<(TcpStream, Whereabouts)> {
    match whose {
        Some(peer) => {
            let served = services::ask_for(MemberService::Relay, me, peer, addr).await?;
            Ok((served.stream, served.whereabouts))
        }
        None => {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok((stream, Whereabouts::Home))
        }
    }
}

/// Ends when the client has closed a connection that is still held.
async fn gone(client: &TcpStream) {
    let mut byte = [0; 1];
    while let Ok(read) = client.peek(&mut byte).await {
        if read == 0 {
            return;
        }
        // It has sent something and waits for the relay; its end cannot be seen behind that.
        sleep(RETRY_AFTER).await;
    }
}

#[cfg(test)]
mod tests;
