//! Opens the sockets: UDP for the endpoint and TCP for the services, on one port number.
//!
//! Called once at the start, by [`Net::bind`](crate::net::Net::bind). It picks the port, listens on TCP and configures
//! iroh: no name server, no port mapping, no lookup service and no relay but the members' own, so that packets go to peers
//! only. The one relay URL is that of the local forwarder, which leads to whichever relay the room uses.
//!
//! Invariants: UDP and TCP listen on the same addresses with the same port; the gate runs after every handshake on the
//! room protocol, dialled or accepted; the windows and counts of streams and datagrams are bounded here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chat_core::admission::codec::ADMISSION_ALPN;
use chat_core::wire::ROOM_ALPN;
use chat_proto::PEER_PORT;
use iroh::dns::DnsResolver;
use iroh::endpoint::{
    AfterHandshakeOutcome, BindOpts, Connection, EndpointHooks, IdleTimeout, NetReportConfig, PortmapperConfig,
    QuicTransportConfig, VarInt, presets,
};
use iroh::{Endpoint, RelayConfig, RelayMap, RelayMode, SecretKey};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::net::context::peer_id;
use crate::net::gate::Gate;
use crate::net::settings::{BindError, NetSettings};
use crate::net::transport::close::CloseCode;
use crate::net::transport::path::INITIAL_RTT;

/// Number of ports tried when [`PEER_PORT`] is taken, downwards, because the local API goes upwards from the port above.
const PORTS_BELOW: u16 = 16;

/// Number of attempts at any free port: both UDP and TCP must be free on it.
const ANY_PORT_TRIES: usize = 16;

/// How long a port that was requested by number may stay taken: a daemon that is being replaced, or an outgoing connection
/// that happens to use the number, releases it soon.
const TAKEN_MAX: Duration = Duration::from_secs(2);

/// Time between two attempts at such a port.
const TAKEN_PAUSE: Duration = Duration::from_millis(50);

/// Number of TCP connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 128;

/// Maximum bytes of one stream in flight (4 MiB): a connection has one stream of frames, which are up to 1 MiB
/// long, and the product of 100 Mbit/s and 300 ms fits.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Maximum bytes of waiting datagrams in one direction (64 KiB): they carry heartbeats, and an old one is worth nothing.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Maximum number of streams that the other end may have open: the protocols use one.
const STREAMS_MAX: u32 = 2;

/// Parameters of the endpoint.
#[derive(Debug)]
pub(crate) struct EndpointParams<'a> {
    pub(crate) settings: &'a NetSettings,
    pub(crate) secret: &'a SecretKey,
    pub(crate) hook: &'a GateHook,
    /// The only relay URL, which never changes: that of the local forwarder.
    pub(crate) relay: &'a iroh::RelayUrl,
}

/// Runs the gate after every handshake, of accepted and dialled connections alike.
#[derive(Clone, Debug)]
pub(crate) struct GateHook(pub(crate) Arc<Gate>);

impl EndpointHooks for GateHook {
    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        let members_only = connection.alpn() == ROOM_ALPN;
        if !members_only || self.0.admits_soon(&peer_id(connection.remote_id())).await {
            return AfterHandshakeOutcome::Accept;
        }
        AfterHandshakeOutcome::Reject { error_code: CloseCode::NotMember.var_int(), reason: Vec::new() }
    }
}

/// The open sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) endpoint: Endpoint,
    pub(crate) tcp: Vec<TcpListener>,
    pub(crate) port: u16,
}

enum OpenError {
    Taken(IpAddr),
    Failed(BindError),
}

/// Opens the sockets that the settings name.
pub(crate) async fn open(params: &EndpointParams<'_>) -> Result<Sockets, BindError> {
    let any = std::iter::repeat_n(0, ANY_PORT_TRIES);
    match params.settings.listen.port {
        Some(0) => first_free(params, any).await,
        Some(port) => this_one(params, port).await,
        None => {
            let usual = (PEER_PORT - PORTS_BELOW..=PEER_PORT).rev();
            first_free(params, usual.chain(any)).await
        }
    }
}

async fn first_free(params: &EndpointParams<'_>, candidates: impl Iterator<Item = u16>) -> Result<Sockets, BindError> {
    for port in candidates {
        match open_on(params, port).await {
            Ok(sockets) => return Ok(sockets),
            Err(OpenError::Failed(error)) => return Err(error),
            Err(OpenError::Taken(ip)) => debug!(port, %ip, "port is taken"),
        }
    }
    Err(BindError::NoFreePort)
}

async fn this_one(params: &EndpointParams<'_>, port: u16) -> Result<Sockets, BindError> {
    let deadline = Instant::now() + TAKEN_MAX;
    loop {
        match open_on(params, port).await {
            Ok(sockets) => return Ok(sockets),
            Err(OpenError::Failed(error)) => return Err(error),
            Err(OpenError::Taken(ip)) if Instant::now() >= deadline => return Err(BindError::PortTaken { port, ip }),
            Err(OpenError::Taken(_)) => sleep(TAKEN_PAUSE).await,
        }
    }
}

async fn open_on(params: &EndpointParams<'_>, port: u16) -> Result<Sockets, OpenError> {
    let settings = params.settings;
    let ips: Vec<IpAddr> = match settings.listen.ip {
        Some(ip) => vec![ip],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    let mut tcp = Vec::new();
    let mut port = port;
    for ip in ips {
        let addr = SocketAddr::new(ip, port);
        match listen(addr) {
            Ok(listener) => {
                port = listener.local_addr().map_err(|source| failed(addr, source))?.port();
                tcp.push(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(OpenError::Taken(ip)),
            // A machine without IPv6 listens on IPv4 only.
            Err(error) if ip.is_ipv6() && settings.listen.ip.is_none() => debug!(%error, "no IPv6"),
            Err(source) => return Err(failed(addr, source)),
        }
    }
    let addrs: Vec<SocketAddr> = tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let endpoint = bind(params, &addrs).await?;
    Ok(Sockets { endpoint, tcp, port })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            // IPv4 has its own socket.
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            socket
        }
    };
    // A port is free while the kernel still keeps its last connections in TIME-WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

fn failed(addr: SocketAddr, source: io::Error) -> OpenError {
    OpenError::Failed(BindError::Listen { addr, source })
}

/// Binds the endpoint: no relay but the members' own, no lookup service, no name server, no port mapping.
async fn bind(params: &EndpointParams<'_>, addrs: &[SocketAddr]) -> Result<Endpoint, OpenError> {
    // No QUIC address discovery: nothing answers it behind the forwarder, and its probes would delay the end of the
    // endpoint by a second.
    let relay = RelayConfig::new(params.relay.clone(), None);
    // The endpoint measures the latency to its relay, the forwarder answers, and so it has a home relay: it can be reached
    // there all the time, not only while it has something to send.
    let mut net_report = NetReportConfig::minimal();
    net_report.https_probes = true;
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(params.secret.clone())
        .alpns(vec![ROOM_ALPN.to_vec(), ADMISSION_ALPN.to_vec()])
        .relay_mode(RelayMode::Custom(RelayMap::from(relay)))
        .clear_address_lookup()
        .dns_resolver(DnsResolver::builder().disable_fallback().build())
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(net_report)
        .transport_config(transport(params.settings))
        .hooks(params.hook.clone())
        .clear_ip_transports();
    for addr in addrs {
        builder = builder
            .bind_addr_with_opts(*addr, BindOpts::default())
            .map_err(|error| failed(*addr, io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    }
    builder.bind().await.map_err(|error| {
        let in_use = matches!(&error, iroh::endpoint::BindError::Sockets { source, .. }
            if source.kind() == io::ErrorKind::AddrInUse);
        let ip = addrs.first().map_or(Ipv4Addr::UNSPECIFIED.into(), SocketAddr::ip);
        if in_use { OpenError::Taken(ip) } else { OpenError::Failed(BindError::Endpoint(Box::new(error))) }
    })
}

fn transport(settings: &NetSettings) -> QuicTransportConfig {
    // The settings are validated to be far below the bound of a QUIC integer.
    let idle = IdleTimeout::try_from(settings.idle_timeout).ok();
    QuicTransportConfig::builder()
        .max_idle_timeout(idle)
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(settings.keep_alive)
        .default_path_max_idle_timeout(settings.path_idle_timeout)
        .default_path_keep_alive_interval(settings.keep_alive)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(u64::from(STREAM_WINDOW_BYTES))
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES_MAX))
        .datagram_send_buffer_size(DATAGRAM_BYTES_MAX)
        .build()
}
