//! What the rendezvous role needs from the network: watches, probes, the relay of this peer, and the selection of the
//! relay that this peer uses.
//!
//! The role's requests arrive through [`Net::serve_role`](crate::net::Net::serve_role) and
//! [`Net::set_relays`](crate::net::Net::set_relays); the outcomes go to the driver as [`NetEvent::Role`]. The listener on
//! the TCP port passes on the connections of peers that want the relay or watch this peer.
//!
//! * A *watch* shows at once when the process of another peer ends.
//! * A *probe* is a hello over TCP, without any relay: it shows whether a peer accepts inbound connections.
//! * The *relay* runs in one task, [`RoleServices::run_relay`], which starts and stops it as it is switched.
//! * The *forwarder* connects this peer's endpoint to the first relay of the order that can be reached.
//!
//! Invariants: nothing here blocks its caller, and nothing decides about the role. Connections that are relayed and peers
//! that watch have places of their own, which only members take that have proved their keys; callers of version 0.1, which
//! prove nothing, keep the place that they have at the listener.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chat_core::config::ADDRS_MAX;
use chat_core::output::Relays;
use chat_core::types::{ProbeOutcome, RoleEvent, Switch};
use chat_proto::id::PeerId;
use iroh::SecretKey;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::watch as channel;
use tracing::{Span, debug, info, info_span, warn};

use crate::net::context::NetContext;
use crate::net::event_queue::NetEvent;
use crate::net::places::Places;
use crate::net::tcp::forwarder::{Forwarder, RelayAt, RelayCandidate, RelayOrder};
use crate::net::tcp::relay::RelayServer;
use crate::net::tcp::services::{CallerProof, MemberService, Whereabouts};
use crate::net::tcp::watch::{self, Watches};
use crate::net::tcp::{hello, services};

/// Maximum number of connections of members that this peer's relay serves: one for each member of a room of some hundreds.
/// A member with more than others gives them up first.
const RELAYED_MAX: usize = 512;

/// Maximum number of watches of members over this peer: those on the succession list, with spare ones for lists that
/// change. A member with more than others gives them up first.
const WATCHERS_MAX: usize = 64;

/// Interval between checks of the relay's clients, besides those on every change of the roster: finds a client that
/// connected just before it was removed.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// Timeout for a probe.
const PROBE_MAX: Duration = Duration::from_millis(2_500);

/// Services for the rendezvous role.
#[derive(Debug)]
pub(crate) struct RoleServices {
    ctx: NetContext,
    /// The key that this peer proves to others.
    me: SecretKey,
    watches: Watches,
    forwarder: Arc<Forwarder>,
    /// The relays that the role selected.
    relays: Mutex<Relays>,
    relay: channel::Sender<Switch>,
    /// Loopback address of this peer's relay while it runs.
    pub(in crate::net) relay_addr: channel::Sender<Option<SocketAddr>>,
    relayed: Arc<Places<PeerId>>,
    watchers: Arc<Places<PeerId>>,
}

impl RoleServices {
    /// Nothing is requested yet; the forwarder holds connections.
    pub(crate) fn new(ctx: NetContext, me: SecretKey, forwarder: Arc<Forwarder>) -> Self {
        Self {
            ctx,
            me,
            watches: Watches::default(),
            forwarder,
            relays: Mutex::default(),
            relay: channel::Sender::new(Switch::Off),
            relay_addr: channel::Sender::new(None),
            relayed: Places::new(RELAYED_MAX),
            watchers: Places::new(WATCHERS_MAX),
        }
    }

    /// Opens a watch over a peer. Replaces an earlier one over the same peer.
    pub(crate) fn open_watch(self: &Arc<Self>, peer: PeerId, addrs: Vec<SocketAddr>) {
        let role = self.clone();
        let span = info_span!("watch", me = %self.ctx.me.short(), remote = %peer.short());
        self.ctx.spawn(span, async move {
            tokio::select! {
                () = watch::watch(&role.watches, &role.ctx.events, &role.me, (peer, &addrs)) => {}
                () = role.ctx.token.cancelled() => {}
            }
        });
    }

    /// Ends a watch without an event.
    pub(crate) fn close_watch(&self, peer: &PeerId) {
        self.watches.end(peer);
    }

    /// Finds out whether a peer can be reached from here without a connection that it opened itself.
    pub(crate) fn probe(self: &Arc<Self>, peer: PeerId, addrs: Vec<SocketAddr>) {
        let ctx = self.ctx.clone();
        self.ctx.spawn(Span::none(), async move {
            let outcome = tokio::select! {
                outcome = probe_at(peer, addrs) => outcome,
                () = ctx.token.cancelled() => return,
            };
            ctx.events.send(NetEvent::Role(RoleEvent::Probed(peer, outcome))).await;
        });
    }

    /// Starts or stops the relay of this peer.
    pub(crate) fn switch_relay(&self, switch: Switch) {
        self.relay.send_replace(switch);
    }

    /// Selects the relays to use, with the addresses of their TCP ports.
    pub(crate) fn set_relays(&self, relays: Relays) {
        *self.relays.lock().unwrap_or_else(PoisonError::into_inner) = relays;
        self.update_forwarder();
    }

    /// Ends the forwarder, once the endpoint is closed.
    pub(crate) fn end(&self) {
        self.forwarder.end();
    }

    fn update_forwarder(&self) {
        let relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let own = *self.relay_addr.borrow();
        let candidate = |(peer, addrs): (PeerId, Vec<SocketAddr>)| {
            let at = if peer == self.ctx.me { RelayAt::Here(own?) } else { RelayAt::Member(addrs) };
            Some(RelayCandidate { peer, at })
        };
        let order = relays.order.into_iter().filter_map(candidate).collect();
        self.forwarder.use_relays(RelayOrder::new(order, relays.doubted));
    }

    /// Starts and stops the relay as it is switched, until the daemon stops.
    pub(crate) async fn run_relay(self: Arc<Self>) {
        let mut switches = self.relay.subscribe();
        let mut roster = self.ctx.gate.changes();
        let mut running: Option<RelayServer> = None;
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            let switch = *switches.borrow_and_update();
            match (switch, running.take()) {
                (Switch::On, None) => match RelayServer::start(self.ctx.gate.clone()).await {
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
            self.relay_addr.send_replace(running.as_ref().map(RelayServer::addr));
            self.update_forwarder();
            loop {
                tokio::select! {
                    changed = switches.changed() => if changed.is_err() { return } else { break },
                    changed = roster.changed() => if changed.is_err() { return },
                    _ = sweep.tick(), if running.is_some() => {}
                    () = self.ctx.token.cancelled() => return,
                }
                if let Some(relay) = &running {
                    relay.sweep();
                }
            }
        }
    }

    /// Whether this peer gives a service now, and which relay it uses itself.
    pub(crate) fn offers(&self, service: MemberService) -> Option<Whereabouts> {
        match service {
            MemberService::Relay if self.relay_addr.borrow().is_none() => None,
            MemberService::Relay => Some(self.forwarder.whereabouts(&self.ctx.me)),
            MemberService::Watch => Some(Whereabouts::Home),
        }
    }

    /// Serves a member that has proved its key, until it goes or another member needs the place more.
    pub(crate) async fn serve_member(&self, client: TcpStream, service: MemberService, member: PeerId) {
        let places = match service {
            MemberService::Relay => &self.relayed,
            MemberService::Watch => &self.watchers,
        };
        let Some(place) = places.try_enter(member) else {
            debug!(remote = %member.short(), ?service, "all places are taken");
            return;
        };
        let served = match service {
            MemberService::Relay => place.hold(self.relay(client, &[])).await,
            MemberService::Watch => place.hold(watch::be_watched(client, CallerProof::Signed)).await.map(Ok),
        };
        if let Some(Err(error)) = served {
            debug!(%error, "connection to the relay ended");
        }
    }

    /// Serves a caller that has proved nothing, in the place that it has at the listener; `received` is what it sent after
    /// the first line. The relay itself checks that its clients are members.
    pub(crate) async fn serve_older(
        &self,
        mut client: TcpStream,
        service: MemberService,
        received: &[u8],
    ) -> io::Result<()> {
        let Some(whereabouts) = self.offers(service) else { return Ok(()) };
        services::serve(&mut client, &self.ctx.me, whereabouts).await?;
        match service {
            MemberService::Relay => self.relay(client, received).await,
            MemberService::Watch => {
                watch::be_watched(client, CallerProof::Absent).await;
                Ok(())
            }
        }
    }

    /// Connects a client to the relay.
    async fn relay(&self, mut client: TcpStream, received: &[u8]) -> io::Result<()> {
        let Some(at) = *self.relay_addr.borrow() else { return Ok(()) };
        let mut relay = TcpStream::connect(at).await?;
        relay.set_nodelay(true)?;
        relay.write_all(received).await?;
        copy_bidirectional(&mut client, &mut relay).await?;
        Ok(())
    }
}

/// Sends a hello to all addresses of a peer at once; a record holds few.
async fn probe_at(peer: PeerId, addrs: Vec<SocketAddr>) -> ProbeOutcome {
    let ask = |addr: SocketAddr| async move {
        let begun = Instant::now();
        let answered = hello::is_at(&peer, addr).await;
        // Two round trips: one for the connection, one for the hello.
        answered.then(|| ProbeOutcome::Answered { addr, rtt: begun.elapsed() / 2 })
    };
    let answered = services::first_ok(addrs.iter().copied().take(ADDRS_MAX).map(ask), PROBE_MAX).await;
    answered.unwrap_or(ProbeOutcome::Unanswered(addrs))
}
