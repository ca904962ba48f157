//! The forwarder between this peer's endpoint and the relay of the room.
//!
//! The endpoint is given one relay URL for ever, that of the forwarder on loopback. The forwarder connects it to the first
//! in an order of members whose relay runs and can be reached, cuts the stream when another one comes before, and holds new
//! connections while there is none: so the relay client never waits out a back-off, and relayed pairs go on as soon as the
//! next relay is reached.
//!
//! Peers that know different orders must still meet. Each relay says whether its own peer is at it; one whose peer is
//! elsewhere comes after all others. So whoever knows only that somebody of the room is there comes to where the room is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chat_proto::id::PeerId;
use iroh::RelayUrl;
use n0_future::{FuturesUnordered, StreamExt};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::net::tcp::services::{self, RELAY_LINE, Whereabouts};

mod probe;

/// Most connections of the endpoint to its relay: it uses one, and while one is being replaced two.
const CONNECTIONS_MAX: usize = 8;

/// How long the addresses of a relay may take to connect and to say that a relay runs.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// How much longer than the first relay that answers those before it in the order are waited for.
const GRACE: Duration = Duration::from_millis(300);

/// How long a holder that is believed gone may take to show that it is not.
const DOUBT_MAX: Duration = Duration::from_millis(400);

/// How long after a failed connection the next is tried, unless the order changes before.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// How often a better relay than the one in use is looked for.
const REVIEW_EVERY: Duration = Duration::from_secs(15);

/// How long a relay is used at least before it counts as one where nobody is: longer than a dial.
const USED_MIN: Duration = Duration::from_secs(6);

/// A relay that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whose it is.
    pub(crate) peer: PeerId,
    /// Where it is.
    pub(crate) at: At,
}

/// Where a relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// In this process, at this loopback address.
    Here(SocketAddr),
    /// At another member, at one of these addresses of its TCP port.
    Member(Vec<SocketAddr>),
}

/// Which relay is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The order in which they are tried; connections are held while it is empty.
    pub(crate) order: Vec<Place>,
    /// One that is used only while it answers.
    pub(crate) doubted: Option<PeerId>,
    /// Where nobody was to be reached: tried after all others.
    useless: Vec<PeerId>,
}

impl Target {
    pub(crate) const fn new(order: Vec<Place>, doubted: Option<PeerId>) -> Self {
        Self { order, doubted, useless: Vec::new() }
    }

    /// The places as they are to be tried.
    fn places(&self) -> Vec<&Place> {
        let mut places: Vec<&Place> = self.order.iter().collect();
        places.sort_by_key(|place| self.useless.contains(&place.peer));
        places
    }

    fn is_first(&self, peer: &PeerId) -> bool {
        self.places().first().is_some_and(|place| place.peer == *peer)
    }
}

/// The forwarder; its tasks end with the token they were started with.
#[derive(Debug)]
pub(crate) struct Forwarder {
    url: RelayUrl,
    target: watch::Sender<Target>,
    used: Arc<Used>,
}

/// The relay in use, and since when.
#[derive(Debug, Default)]
struct Used(Mutex<Option<(PeerId, Instant)>>);

impl Used {
    /// Says from when on a relay is in use.
    fn set(&self, peer: PeerId) -> Instant {
        let since = Instant::now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((peer, since));
        since
    }

    /// It is in use no more, unless another connection has taken its place.
    fn clear(&self, since: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(_, newest)| *newest == since);
    }

    fn get(&self) -> Option<(PeerId, Instant)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarder {
    /// Listens on loopback and begins to hold connections.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub(crate) async fn start(tracker: &TaskTracker, token: CancellationToken) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url: RelayUrl =
            format!("http://{}", listener.local_addr()?).parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let (target, targets) = watch::channel(Target::default());
        let used = Arc::new(Used::default());
        tracker.spawn(accept(listener, targets, used.clone(), tracker.clone(), token));
        Ok(Self { url, target, used })
    }

    /// The relay URL of every peer, as this endpoint sees it.
    pub(crate) fn url(&self) -> &RelayUrl {
        &self.url
    }

    /// Whether this peer itself is at its own relay, or at none.
    pub(crate) fn whereabouts(&self, me: &PeerId) -> Whereabouts {
        match self.used.get() {
            Some((peer, _)) if peer != *me => Whereabouts::Away,
            Some(_) | None => Whereabouts::Home,
        }
    }

    /// Wants other relays, or the same in another order.
    pub(crate) fn turn_to(&self, target: Target) {
        self.target.send_if_modified(|current| {
            let changed = current.order != target.order || current.doubted != target.doubted;
            if changed {
                *current = target;
            }
            changed
        });
    }

    /// Nobody can be reached at the relay in use: another one is tried, if there is one.
    pub(crate) fn nobody_there(&self) {
        let Some((peer, _)) = self.used.get().filter(|(_, since)| since.elapsed() >= USED_MIN) else { return };
        self.target.send_if_modified(|target| {
            let known = target.useless.contains(&peer) || target.order.iter().all(|place| place.peer != peer);
            if known || target.order.len() < 2 {
                return false;
            }
            target.useless.push(peer);
            if target.useless.len() == target.order.len() {
                // Once round: all are tried again, this one last.
                target.useless = vec![peer];
            }
            true
        });
    }
}

async fn accept(
    listener: TcpListener,
    targets: watch::Receiver<Target>,
    used: Arc<Used>,
    tracker: TaskTracker,
    token: CancellationToken,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = token.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file handles, most likely: without a pause this would spin.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (targets, token, used) = (targets.clone(), token.clone(), used.clone());
        tracker.spawn(async move {
            tokio::select! {
                () = carry(stream, targets, &used) => {}
                () = token.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// Carries one connection of the endpoint until either side ends it or another relay is to be used.
async fn carry(mut client: TcpStream, mut targets: watch::Receiver<Target>, used: &Used) {
    // Relayed packets must not wait for others to fill a segment.
    let _ = client.set_nodelay(true);
    if probe::is_question(&client).await {
        if let Err(error) = probe::answer(client).await {
            debug!(%error, "the endpoint did not wait for an answer");
        }
        return;
    }
    loop {
        let target = targets.borrow_and_update().clone();
        let connected = tokio::select! {
            connected = first(&target) => connected,
            changed = targets.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = gone(&client) => return,
        };
        let Some((peer, mut relay)) = connected else { continue };
        debug!(relay = %peer.short(), "connected to a relay");
        let since = used.set(peer);
        tokio::select! {
            ended = copy_bidirectional(&mut client, &mut relay) => {
                if let Err(error) = ended {
                    debug!(%error, "connection to the relay ended");
                }
            }
            () = another(peer, &mut targets) => debug!("another relay is to be used"),
        }
        used.clear(since);
        return;
    }
}

/// Ends when another relay is to be used than that of `peer`.
async fn another(peer: PeerId, targets: &mut watch::Receiver<Target>) {
    loop {
        let target = targets.borrow_and_update().clone();
        if target.doubted == Some(peer) {
            let place = target.order.iter().find(|place| place.peer == peer);
            let answers = async { connect(place?).await };
            if !matches!(timeout(DOUBT_MAX, answers).await, Ok(Some(_))) {
                return;
            }
        } else if !target.is_first(&peer) {
            let best = tokio::select! {
                best = first(&target) => best,
                changed = targets.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            if best.is_some_and(|(best, _)| best != peer) {
                return;
            }
        }
        tokio::select! {
            changed = targets.changed() => if changed.is_err() { return },
            () = sleep(REVIEW_EVERY), if !target.is_first(&peer) => {}
        }
    }
}

/// Connects to all relays at once and takes the best: one whose peer is there itself, the first of these in the order.
/// Those before it that do not answer in time are not waited for. Waits before it says that there is none, and for ever
/// while none is known.
async fn first(target: &Target) -> Option<(PeerId, TcpStream)> {
    let places = target.places();
    if places.is_empty() {
        std::future::pending::<()>().await;
    }
    let mut trying: Vec<bool> = vec![true; places.len()];
    let connecting = places.iter().enumerate().map(|(index, place)| async move { (index, connect(place).await) });
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
            // The own relay is there at once; where it is the last resort, the others get the time that a far one takes.
            let last_resort = matches!(places[index].at, At::Here(_)) && index + 1 == places.len();
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
        Some(((_, index), stream)) => Some((places[index].peer, stream)),
        None => {
            sleep(RETRY_AFTER).await;
            None
        }
    }
}

/// Connects to one relay, at the first of its addresses that answers.
async fn connect(place: &Place) -> Option<(TcpStream, Whereabouts)> {
    let (addrs, whose) = match &place.at {
        At::Here(addr) => (std::slice::from_ref(addr), None),
        At::Member(addrs) => (addrs.as_slice(), Some(&place.peer)),
    };
    services::first_ok(addrs.iter().copied().map(|addr| async move { open(addr, whose).await.ok() }), CONNECT_MAX).await
}

async fn open(addr: SocketAddr, whose: Option<&PeerId>) -> io::Result<(TcpStream, Whereabouts)> {
    match whose {
        Some(peer) => services::ask_for(RELAY_LINE, peer, addr).await,
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
        // It has said something and waits for the relay; its end cannot be seen behind that.
        sleep(RETRY_AFTER).await;
    }
}

#[cfg(test)]
mod tests;
