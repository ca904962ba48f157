//! Connections between members: gate, frames, bounds, crossed dials, replacement, removal.

use std::time::Duration;

use bytes::Bytes;
use chat_core::config::FRAME_BYTES_MAX;
use chat_core::output::CloseReason;
use chat_core::wire::ROOM_ALPN;
use chat_proto::id::PeerId;
use iroh::Endpoint;
use iroh::endpoint::{Connection, QuicTransportConfig, RecvStream, SendStream, VarInt, presets};
use tokio::time::timeout;

use super::peers::*;
use crate::net::context::peer_id;
use crate::net::settings::{BindError, Listen, NetSettings};
use crate::net::transport::tie_break::{DialSeq, Dialler, Greeting, ProcessId, Welcome};
use crate::net::{DownReason, NetEvent, OutboxError};

#[tokio::test]
async fn members_exchange_frames_in_order() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    a.dial(&b);
    let out = a.up(b.id()).await;
    let inb = b.up(a.id()).await;
    assert!(out.direct && !out.inbound && inb.direct && inb.inbound);
    assert_eq!(out.remote, Some(b.addr()));
    assert_eq!(inb.remote, Some(a.addr()));
    let large = Bytes::from(vec![7; FRAME_BYTES_MAX]);
    assert_eq!(a.send(b.id(), "one"), Ok(()));
    assert_eq!(a.net.send(b.id(), large.clone()), Ok(()));
    assert_eq!(a.send(b.id(), "three"), Ok(()));
    assert_eq!(b.send(a.id(), "back"), Ok(()));
    assert_eq!(b.frame(a.id()).await, "one");
    assert_eq!(b.frame(a.id()).await, large);
    assert_eq!(b.frame(a.id()).await, "three");
    assert_eq!(a.frame(b.id()).await, "back");
}

#[tokio::test]
async fn datagrams_arrive_and_large_ones_are_queued() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    connect(&mut a, &mut b).await;
    assert_eq!(a.net.send_datagram(b.id(), Bytes::from_static(b"beat")), Ok(()));
    assert_eq!(b.frame(a.id()).await, "beat");
    let large = Bytes::from(vec![7; 100_000]);
    assert_eq!(a.net.send_datagram(b.id(), large.clone()), Ok(()));
    assert_eq!(b.frame(a.id()).await, large, "what does not fit goes through the queue");
    assert_eq!(a.net.send_datagram(id_of(&secret(5)), large), Err(OutboxError::NotConnected));
}

#[tokio::test]
async fn path_is_measured_again_and_again() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    connect(&mut a, &mut b).await;
    let measured = async {
        loop {
            if let Some(NetEvent::Path(peer, info)) = a.events.recv().await
                && info.rtt > Duration::ZERO
            {
                return (peer, info.direct);
            }
        }
    };
    assert_eq!(timeout(DEADLINE, measured).await.expect("in time"), (b.id(), true));
}

#[tokio::test]
async fn queued_frames_arrive_before_an_orderly_end() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    connect(&mut a, &mut b).await;
    for _ in 0..100 {
        assert_eq!(a.send(b.id(), "frame"), Ok(()));
    }
    assert_eq!(a.send(b.id(), "bye"), Ok(()));
    a.net.disconnect(b.id(), CloseReason::Surplus);
    assert_eq!(a.send(b.id(), "too late"), Err(OutboxError::NotConnected));
    for _ in 0..100 {
        assert_eq!(b.frame(a.id()).await, "frame");
    }
    assert_eq!(b.frame(a.id()).await, "bye");
    assert_eq!(b.down(a.id()).await, DownReason::ClosedByPeer);
    assert_eq!(a.down(b.id()).await, DownReason::Closed(CloseReason::Surplus));
    connect(&mut b, &mut a).await;
}

#[tokio::test]
async fn shutdown_sends_what_is_queued_and_closes() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    connect(&mut a, &mut b).await;
    assert_eq!(a.send(b.id(), "bye"), Ok(()));
    let (a_id, port) = (a.id(), a.net.port());
    a.stop().await;
    assert_eq!(b.frame(a_id).await, "bye");
    assert_eq!(b.down(a_id).await, DownReason::ClosedByPeer);
    let again = NetSettings { listen: Listen { port: Some(port), ..settings().listen }, ..settings() };
    let again = start(secret(0), again, roster(&[b.id()], false)).await;
    assert_eq!(again.net.port(), port, "the port is free at once");
}

#[tokio::test]
async fn stranger_is_rejected_on_both_sides() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    let mut stranger = outsider(5).await;
    // It believes that it is a member.
    stranger.net.gate().set_roster(roster(&[a.id(), stranger.id()], false));
    stranger.dial(&a);
    assert!(matches!(stranger.next().await, NetEvent::DialFailed(peer) if peer == a.id()));
    // A member does not dial a stranger either.
    a.dial(&stranger);
    assert!(matches!(a.next().await, NetEvent::DialFailed(peer) if peer == stranger.id()));
    // And nothing of it was seen before the next connection.
    connect(&mut a, &mut b).await;
}

#[tokio::test]
async fn member_whose_admission_is_on_its_way_is_awaited() {
    let mut a = outsider(0).await;
    let mut b = outsider(1).await;
    let (a_id, b_id) = (a.id(), b.id());
    b.net.gate().set_roster(roster(&[a_id, b_id], false));
    b.dial(&a);
    let (info, ()) = tokio::join!(b.up(a_id), async {
        a.net.gate().set_roster(roster(&[a_id, b_id], false));
        a.up(b_id).await;
    });
    assert!(!info.inbound);
}

#[tokio::test]
async fn next_room_finds_no_connection_of_the_former_one() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    connect(&mut a, &mut b).await;
    assert_eq!(b.send(a.id(), "of the former room"), Ok(()));
    a.net.part(&mut a.events).await;
    assert_eq!(b.down(a.id()).await, DownReason::ClosedByPeer);
    a.dial(&b);
    a.up(b.id()).await;
    b.up(a.id()).await;
}

#[tokio::test]
async fn removed_member_is_disconnected() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    connect(&mut a, &mut b).await;
    a.net.gate().set_roster(roster(&[a.id()], false));
    assert_eq!(a.down(b.id()).await, DownReason::Closed(CloseReason::NotMember));
    assert_eq!(b.down(a.id()).await, DownReason::RefusedByPeer);
    b.dial(&a);
    assert!(matches!(b.next().await, NetEvent::DialFailed(peer) if peer == a.id()));
}

#[tokio::test]
async fn peer_that_does_not_read_is_dropped() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    connect(&mut a, &mut b).await;
    // b's events are not read: its reader stops, then a's window closes, then a's queue fills.
    let frame = Bytes::from(vec![1; FRAME_BYTES_MAX]);
    let filled = async {
        loop {
            match a.net.send(b.id(), frame.clone()) {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    };
    assert_eq!(timeout(DEADLINE, filled).await.expect("in time"), OutboxError::Full);
    assert_eq!(a.down(b.id()).await, DownReason::QueueFull);
    assert_eq!(a.send(b.id(), "more"), Err(OutboxError::NotConnected));
    let reason = loop {
        let event = b.next().await;
        if let NetEvent::Down(_, reason) = event {
            break reason;
        }
        assert!(matches!(&event, NetEvent::Frame(_, received) if *received == frame), "{event:?}");
    };
    assert_eq!(reason, DownReason::ClosedByPeer);
    connect(&mut a, &mut b).await;
}

/// Waits until the dials of both are over and both report that the same connection is up, and works.
async fn settle(a: &mut NetPeer, b: &mut NetPeer) {
    let (a_id, b_id) = (a.id(), b.id());
    for (peer, other) in [(&*a, b_id), (&*b, a_id)] {
        if let Some(done) = peer.net.connections.dial_end(&other) {
            timeout(DEADLINE, done.cancelled()).await.expect("a dial ends");
        }
    }
    let on_a = a.net.connections.current(&b_id).expect("a connection is open");
    let on_b = b.net.connections.current(&a_id).expect("a connection is open");
    assert_eq!(on_a.dial, on_b.dial);
    assert_ne!(on_a.dialler, on_b.dialler);
    until_up(a, b_id, on_a.dialler).await;
    until_up(b, a_id, on_b.dialler).await;
    assert_eq!(a.send(b_id, "works"), Ok(()));
    assert_eq!(b.send(a_id, "works"), Ok(()));
    assert_eq!(b.frame(a_id).await, "works");
    assert_eq!(a.frame(b_id).await, "works");
}

async fn until_up(peer: &mut NetPeer, other: PeerId, dialler: Dialler) {
    let mut before = None;
    loop {
        let event = peer.next().await;
        if let NetEvent::Up(_, info) = event {
            assert_eq!(before.replace(info.inbound), None, "up never follows up");
            if info.inbound == (dialler == Dialler::Peer) {
                return;
            }
            continue;
        }
        assert!(matches!(event, NetEvent::Down(from, DownReason::Replaced) if from == other), "{event:?}");
        assert!(before.take().is_some(), "down follows up");
    }
}

#[tokio::test]
async fn crossed_dials_leave_one_connection() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    for round in 0..30 {
        let (first, second) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        first.dial(second);
        second.dial(first);
        settle(&mut a, &mut b).await;
        a.net.disconnect(b.id(), CloseReason::Surplus);
        assert_eq!(a.down(b.id()).await, DownReason::Closed(CloseReason::Surplus));
        assert_eq!(b.down(a.id()).await, DownReason::ClosedByPeer);
    }
}

#[tokio::test]
async fn restarted_peer_replaces_its_dead_connection() {
    for (survivor, mortal) in [(0, 1), (1, 0)] {
        let ids = [id_of(&secret(0)), id_of(&secret(1))];
        let mut survivor = start(secret(survivor), settings(), roster(&ids, false)).await;
        let mut dead = Mortal::start(secret(mortal), settings(), roster(&ids, false)).await;
        let mortal_id = dead.peer.id();
        connect(&mut survivor, &mut dead.peer).await;
        let port = dead.peer.net.port();
        dead.kill();
        let again = NetSettings { listen: Listen { port: Some(port), ..settings().listen }, ..settings() };
        let mut again = start(secret(mortal), again, roster(&ids, false)).await;
        again.dial(&survivor);
        again.up(survivor.id()).await;
        assert_eq!(survivor.down(mortal_id).await, DownReason::Replaced);
        survivor.up(mortal_id).await;
        assert_eq!(survivor.send(mortal_id, "welcome back"), Ok(()));
        assert_eq!(again.frame(survivor.id()).await, "welcome back");
    }
}

#[tokio::test]
async fn silent_peer_times_out() {
    let ids = [id_of(&secret(0)), id_of(&secret(1))];
    let short =
        NetSettings { idle_timeout: Duration::from_secs(1), keep_alive: Duration::from_millis(200), ..settings() };
    let mut survivor = start(secret(0), short.clone(), roster(&ids, false)).await;
    let mut dead = Mortal::start(secret(1), short, roster(&ids, false)).await;
    connect(&mut survivor, &mut dead.peer).await;
    let dead_id = dead.peer.id();
    dead.kill();
    assert_eq!(survivor.down(dead_id).await, DownReason::TimedOut);
}

#[tokio::test]
async fn dial_to_a_stopped_peer_fails_once() {
    let [mut a, mut b, c] = members(3).await.try_into().ok().expect("three");
    let (c_id, c_addr) = (c.id(), c.addr());
    c.stop().await;
    for _ in 0..3 {
        a.net.dial(c_id, vec![c_addr]);
    }
    assert!(matches!(a.next().await, NetEvent::DialFailed(peer) if peer == c_id));
    a.net.dial(c_id, Vec::new());
    assert!(matches!(a.next().await, NetEvent::DialFailed(peer) if peer == c_id));
    connect(&mut a, &mut b).await;
}

/// A member that speaks QUIC and nothing else of the protocol.
struct Raw {
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    _recv: RecvStream,
}

async fn raw(of: &NetPeer, secret: [u8; 32], greeting: &[u8]) -> Raw {
    raw_with(of, secret, greeting, QuicTransportConfig::default()).await
}

async fn raw_with(of: &NetPeer, secret: [u8; 32], greeting: &[u8], transport: QuicTransportConfig) -> Raw {
    let endpoint = Endpoint::builder(presets::Minimal).secret_key(iroh::SecretKey::from_bytes(&secret));
    let endpoint = endpoint.transport_config(transport);
    let endpoint = endpoint.bind().await.expect("binds");
    let addr = of.endpoint_addr();
    let connection = endpoint.connect(addr, ROOM_ALPN).await.expect("connects");
    let (mut send, recv) = connection.open_bi().await.expect("opens");
    send.write_all(greeting).await.expect("writes");
    Raw { endpoint, connection, send, _recv: recv }
}

async fn dial_raw(raw: &Raw, of: &NetPeer) -> (Connection, SendStream, RecvStream) {
    let addr = of.endpoint_addr();
    let connection = raw.endpoint.connect(addr, ROOM_ALPN).await.expect("connects");
    let (send, recv) = connection.open_bi().await.expect("opens");
    (connection, send, recv)
}

fn greeting() -> [u8; Greeting::BYTES] {
    Greeting { process: ProcessId(1), dial: DialSeq(1), accepted: None }.encode()
}

#[tokio::test]
async fn frame_that_is_too_long_ends_the_connection() {
    let [mut a, b] = members(2).await.try_into().ok().expect("two");
    let bad = b.id();
    b.stop().await;
    let mut raw = raw(&a, secret(1), &greeting()).await;
    assert_eq!(peer_id(raw.endpoint.id()), bad);
    a.up(bad).await;
    let length = u32::try_from(FRAME_BYTES_MAX + 1).expect("fits");
    raw.send.write_all(&length.to_be_bytes()).await.expect("writes");
    assert_eq!(a.down(bad).await, DownReason::Protocol);
    timeout(DEADLINE, raw.connection.closed()).await.expect("it was closed");
    raw.endpoint.close().await;
}

#[tokio::test]
async fn member_that_takes_no_welcome_does_not_block_its_next_connection() {
    let [mut a, b] = members(2).await.try_into().ok().expect("two");
    let bad = b.id();
    b.stop().await;
    let narrow = QuicTransportConfig::builder().stream_receive_window(VarInt::from_u32(0)).build();
    let stuck = raw_with(&a, secret(1), &greeting(), narrow).await;
    assert!(matches!(a.next().await, NetEvent::DialFailed(peer) if peer == bad), "it never came up");
    timeout(DEADLINE, stuck.connection.closed()).await.expect("it was closed");
    let mut b = start(secret(1), settings(), roster(&[a.id(), bad], false)).await;
    connect(&mut b, &mut a).await;
    stuck.endpoint.close().await;
}

#[tokio::test]
async fn down_comes_before_the_next_up_even_when_the_end_takes_time() {
    let [mut a, b] = members(2).await.try_into().ok().expect("two");
    let slow = b.id();
    b.stop().await;
    // It takes no more than the welcome, so what is queued cannot be sent before the connection ends.
    let window = VarInt::from_u32(u32::try_from(Welcome::BYTES).expect("small"));
    let narrow = QuicTransportConfig::builder().stream_receive_window(window).build();
    let raw = raw_with(&a, secret(1), &greeting(), narrow).await;
    a.up(slow).await;
    assert_eq!(a.send(slow, "waits"), Ok(()));
    a.net.disconnect(slow, CloseReason::Surplus);
    let (connection, mut send, mut recv) = dial_raw(&raw, &a).await;
    send.write_all(&Greeting { process: ProcessId(1), dial: DialSeq(2), accepted: None }.encode())
        .await
        .expect("writes");
    recv.read_exact(&mut [0; Welcome::BYTES]).await.expect("it is welcome");
    assert_eq!(a.down(slow).await, DownReason::Closed(CloseReason::Surplus));
    a.up(slow).await;
    connection.close(VarInt::from_u32(0), b"");
    raw.endpoint.close().await;
}

#[tokio::test]
async fn member_that_dials_without_end_has_one_connection() {
    let [mut a, b] = members(2).await.try_into().ok().expect("two");
    let bad = b.id();
    b.stop().await;
    let raw = raw(&a, secret(1), &greeting()).await;
    a.up(bad).await;
    let mut connections = Vec::new();
    for n in 2..20 {
        let (connection, mut send, mut recv) = dial_raw(&raw, &a).await;
        let greeting = Greeting { process: ProcessId(1), dial: DialSeq(n), accepted: None };
        send.write_all(&greeting.encode()).await.expect("writes");
        recv.read_exact(&mut [0; Welcome::BYTES]).await.expect("each new dial says that the one before is lost");
        assert_eq!(a.down(bad).await, DownReason::Replaced);
        a.up(bad).await;
        connections.push((connection, send, recv));
    }
    let open = connections.iter().filter(|(connection, ..)| connection.close_reason().is_none()).count();
    assert!(open <= 2, "the old ones are closed: {open}");
    raw.endpoint.close().await;
}

#[tokio::test]
async fn taken_port_is_named_or_avoided() {
    let a = outsider(0).await;
    let taken = NetSettings { listen: Listen { port: Some(a.net.port()), ..settings().listen }, ..settings() };
    let gate = crate::net::gate::Gate::new(id_of(&secret(1)), tokio::sync::watch::Sender::default());
    let refused = crate::net::Net::bind(taken, secret(1), gate).await;
    assert!(matches!(refused, Err(BindError::PortTaken { port, .. }) if port == a.net.port()), "{refused:?}");
    // With TCP alone taken, too.
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = tcp.local_addr().expect("bound").port();
    let taken = NetSettings { listen: Listen { port: Some(port), ..settings().listen }, ..settings() };
    let gate = crate::net::gate::Gate::new(id_of(&secret(1)), tokio::sync::watch::Sender::default());
    let refused = crate::net::Net::bind(taken, secret(1), gate).await;
    assert!(matches!(refused, Err(BindError::PortTaken { .. })), "{refused:?}");
    // Without a port, both find one.
    let free = NetSettings { listen: Listen { port: None, ..settings().listen }, ..settings() };
    let c = start(secret(2), free.clone(), roster(&[], false)).await;
    let d = start(secret(3), free, roster(&[], false)).await;
    assert_ne!(c.net.port(), d.net.port());
    assert!(d.net.port_was_taken());
}

#[tokio::test]
async fn addresses_are_reported_and_observed_ones_added() {
    let mut a = outsider(0).await;
    assert_eq!(a.net.addrs(), [a.addr()]);
    let observed = "203.0.113.9:777".parse().expect("an address");
    a.net.add_observed(observed);
    let told = async {
        loop {
            if let Some(NetEvent::Addrs(addrs)) = a.events.recv().await
                && addrs.contains(&observed)
            {
                return addrs;
            }
        }
    };
    assert_eq!(timeout(DEADLINE, told).await.expect("in time").first(), Some(&observed));
    assert!(a.net.addrs().contains(&observed));
}
