//! Strangers that take every place they can get, and the members and newcomers that must not notice.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use chat_core::admission::codec::{ADMISSION_ALPN, AdmissionAnswer, AdmissionRequest, DenyReason, Reveal, commitment};
use chat_core::input::AdmissionCall;
use chat_core::types::{RoleEvent, RoleRequest, Switch};
use iroh::endpoint::{BindOpts, Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, SecretKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::peers::*;
use super::relay::Guest;
use crate::net::NetEvent;
use crate::net::admission::codec::{read_message, write_message};
use crate::net::admission::join::JoinError;
use crate::net::admission::target::JoinTarget;
use crate::net::tcp::hello::ask;
use crate::net::tcp::services::{CallerProof, MemberService, ask_for, challenge, serve};
use crate::net::tcp::services::{ServedStream, Whereabouts};

/// More connections than a port has places for strangers.
const FLOOD: usize = 400;

/// A connection from another machine than that of the members.
async fn call(from: Ipv4Addr, to: SocketAddr, line: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("an address of loopback");
    let mut stream = timeout(DEADLINE, socket.connect(to)).await.expect("in time").expect("connects");
    // The other end may have closed it already.
    let _ = stream.write_all(line).await;
    stream
}

/// Everything that a stranger can say and hold open, from one address.
async fn flood(from: Ipv4Addr, to: SocketAddr) -> Vec<TcpStream> {
    let lines = [MemberService::Watch, MemberService::Relay]
        .into_iter()
        .flat_map(|service| [CallerProof::Absent, CallerProof::Signed].map(|proof| service.line(proof)))
        .chain([&b""[..], b"CHATD"]);
    let mut held = Vec::new();
    for line in lines {
        for _ in 0..FLOOD {
            held.push(call(from, to, line).await);
        }
    }
    held
}

async fn has_ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it is closed");
}

async fn watched(watcher: &mut NetPeer, host: &NetPeer) -> RoleEvent {
    watcher.net.serve_role(RoleRequest::OpenWatch(host.id()), vec![host.addr()]);
    let outcome = watcher.next().await;
    let NetEvent::Role(event) = outcome else { panic!("not the outcome of a watch: {outcome:?}") };
    event
}

#[tokio::test]
async fn stranger_that_takes_every_place_keeps_no_member_out() {
    let [host, mut watcher] = members(2).await.try_into().ok().expect("two");
    host.net.switch_relay(Switch::On);
    let _before = flood(Ipv4Addr::new(127, 0, 0, 2), host.addr()).await;
    assert_eq!(watched(&mut watcher, &host).await, RoleEvent::WatchOpened(host.id()));
    let guest = Guest::of(&host, secret(1)).await;
    guest.is_served().await;
    assert_eq!(ask(host.addr()).await.expect("answers").peer, host.id());

    // More of them, also from the member's own machine, displace no member that is served.
    let _after = flood(Ipv4Addr::LOCALHOST, host.addr()).await;
    assert_eq!(ask(host.addr()).await.expect("answers").peer, host.id());
    let ended = timeout(std::time::Duration::from_millis(300), watcher.next()).await;
    assert!(ended.is_err(), "the watch goes on: {ended:?}");
    guest.is_served().await;
    guest.endpoint.close().await;
    let id = host.id();
    host.stop().await;
    assert!(matches!(watcher.next().await, NetEvent::Role(RoleEvent::WatchClosed(peer)) if peer == id));
}

#[tokio::test]
async fn caller_that_proves_no_member_is_not_served() {
    let host = members(1).await.remove(0);
    host.net.switch_relay(Switch::On);
    let stranger = SecretKey::from_bytes(&[99; 32]);
    for service in [MemberService::Watch, MemberService::Relay] {
        let Ok(mut served) = ask_for(service, &stranger, &host.id(), host.addr()).await else { continue };
        assert_eq!(served.proof, CallerProof::Signed);
        has_ended(&mut served.stream).await;
        // A proof of the right key for another challenge.
        let line = service.line(CallerProof::Signed);
        let mut stream = call(Ipv4Addr::LOCALHOST, host.addr(), line).await;
        timeout(DEADLINE, stream.read_exact(&mut [0; 65])).await.expect("in time").expect("challenged");
        let key = SecretKey::from_bytes(&secret(0));
        let proof = [key.public().as_bytes().as_slice(), &key.sign(line).to_bytes()].concat();
        stream.write_all(&proof).await.expect("listens");
        has_ended(&mut stream).await;
    }
}

#[tokio::test]
async fn member_that_takes_every_place_keeps_no_other_member_out() {
    let [host, one, mut other] = members(3).await.try_into().ok().expect("three");
    let (id, addr, key) = (host.id(), host.addr(), SecretKey::from_bytes(&secret(1)));
    assert_eq!(one.id(), id_of(&secret(1)));
    let mut greedy = Vec::new();
    for _ in 0..100 {
        let mut served = ask_for(MemberService::Watch, &key, &id, addr).await.expect("served");
        served.stream.read_exact(&mut [0; 1]).await.expect("confirmed");
        greedy.push(served);
    }
    has_ended(&mut greedy[0].stream).await;
    assert_eq!(watched(&mut other, &host).await, RoleEvent::WatchOpened(id));
}

#[tokio::test]
async fn members_of_version_0_1_call_and_are_called() {
    let host = members(1).await.remove(0);
    let mut older = call(Ipv4Addr::LOCALHOST, host.addr(), b"CHATD WATCH 1\n").await;
    let mut answer = [0; 33];
    timeout(DEADLINE, older.read_exact(&mut answer)).await.expect("in time").expect("answers");
    assert_eq!((answer[0], &answer[1..]), (b'+', host.id().as_bytes().as_slice()));
    let open = timeout(std::time::Duration::from_millis(300), older.read(&mut [0; 1])).await;
    assert!(open.is_err(), "the watch stays open: {open:?}");

    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
    let (addr, id) = (listener.local_addr().expect("bound"), host.id());
    let older = async {
        let (mut stream, _) = listener.accept().await?;
        let mut line = [0; 14];
        stream.read_exact(&mut line).await?;
        assert_eq!(&line, b"CHATD WATCH 2\n");
        drop(stream);
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut line).await?;
        assert_eq!(&line, b"CHATD WATCH 1\n");
        serve(&mut stream, &id, Whereabouts::Home).await
    };
    let key = SecretKey::from_bytes(&secret(1));
    let (asked, answered): (io::Result<ServedStream>, _) =
        tokio::join!(ask_for(MemberService::Watch, &key, &id, addr), older);
    answered.expect("an older member answers");
    assert_eq!(asked.expect("served").proof, CallerProof::Absent);
}

#[tokio::test]
async fn challenge_names_the_key_that_signed_it() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
    let (addr, me) = (listener.local_addr().expect("bound"), id_of(&secret(0)));
    let key = SecretKey::from_bytes(&secret(1));
    let serving = async {
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut [0; 14]).await?;
        challenge(&mut stream, &me, MemberService::Relay, Some(Whereabouts::Away)).await
    };
    let (asked, proved) = tokio::join!(ask_for(MemberService::Relay, &key, &me, addr), serving);
    assert_eq!(asked.expect("served").whereabouts, Whereabouts::Away);
    assert_eq!(proved.expect("proved"), id_of(&secret(1)));
}

/// A stranger's endpoint at an address of its own.
async fn endpoint(at: Ipv4Addr) -> Endpoint {
    let builder =
        Endpoint::builder(presets::Minimal).secret_key(SecretKey::from_bytes(&[99; 32])).clear_ip_transports();
    let builder = builder.bind_addr_with_opts((at, 0), BindOpts::default()).expect("an address");
    builder.bind().await.expect("binds")
}

/// Knocks up to the point at which a person has to answer.
async fn knock(endpoint: &Endpoint, at: &NetPeer) -> (Connection, SendStream, RecvStream) {
    let knocking = async {
        let connection = endpoint.connect(at.endpoint_addr(), ADMISSION_ALPN).await.expect("connects");
        let (mut send, mut recv) = connection.open_bi().await.expect("opens");
        let knock = AdmissionRequest::Knock { name: "eve".into(), commitment: commitment(&[1; 32]) };
        write_message(&mut send, &knock).await.expect("writes");
        let challenge: AdmissionAnswer = read_message(&mut recv).await.expect("reads");
        assert!(matches!(challenge, AdmissionAnswer::Challenge { .. }));
        write_message(&mut send, &Reveal { nonce: [1; 32] }).await.expect("writes");
        (connection, send, recv)
    };
    timeout(DEADLINE, knocking).await.expect("in time")
}

#[tokio::test]
async fn stranger_that_knocks_without_end_keeps_no_newcomer_and_no_member_out() {
    let [mut a, mut b] = members(2).await.try_into().ok().expect("two");
    let endpoint = endpoint(Ipv4Addr::new(127, 0, 0, 2)).await;
    let mut knocks = Vec::new();
    for _ in 0..150 {
        knocks.push(knock(&endpoint, &a).await);
    }
    let answer: AdmissionAnswer =
        timeout(DEADLINE, read_message(&mut knocks[0].2)).await.expect("in time").expect("reads");
    assert_eq!(answer, AdmissionAnswer::Denied(DenyReason::Busy), "the oldest one gave its place up");

    let newcomer = outsider(5).await;
    let target = JoinTarget::parse(&a.addr().to_string()).expect("an address");
    let admit = async {
        loop {
            if let NetEvent::Admission(AdmissionCall { id, peer, .. }) = a.next().await
                && peer == newcomer.id()
            {
                return a.net.answer(id, AdmissionAnswer::Denied(DenyReason::Refused));
            }
        }
    };
    let (joined, ()) = tokio::join!(timeout(DEADLINE, newcomer.net.join(target, "bob", &|_| {})), admit);
    let joined = joined.expect("in time");
    assert!(matches!(joined, Err(JoinError::Denied(DenyReason::Refused))), "a person answered: {joined:?}");
    b.dial(&a);
    b.up(a.id()).await;
    endpoint.close().await;
}
