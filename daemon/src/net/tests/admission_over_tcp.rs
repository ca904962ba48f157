//! Strangers that reach a member over TCP only.

use std::net::{Ipv4Addr, SocketAddr};

use chat_core::admission::codec::{AdmissionAnswer, AdmissionRequest, Admitted, DenyReason};
use chat_core::input::AdmissionCall;
use chat_proto::ticket::{Ticket, TicketPeer};
use chat_proto::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::peers::*;
use crate::net::NetEvent;
use crate::net::admission::join::{JoinError, JoinedRoom};
use crate::net::admission::target::JoinTarget;
use crate::net::tcp::services::ADMISSION_LINE;

/// A way to the TCP port of a peer past its UDP port.
async fn tcp_only(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.expect("the peer listens");
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    addr
}

fn ticket(of: &NetPeer, at: SocketAddr) -> JoinTarget {
    let peers = vec![TicketPeer { peer: of.id(), addrs: vec![at] }];
    let expires = Timestamp::from_ms(u64::MAX);
    JoinTarget::Ticket(Box::new(Ticket { room: ROOM, room_name: "lab".into(), peers, seed: [77; 32], expires }))
}

async fn join(newcomer: &NetPeer, target: JoinTarget) -> Result<JoinedRoom, JoinError> {
    timeout(DEADLINE, newcomer.net.join(target, "bob", &|_| {})).await.expect("in time")
}

async fn asked(member: &mut NetPeer) -> AdmissionCall {
    let event = member.next().await;
    let NetEvent::Admission(call) = event else { panic!("not a request: {event:?}") };
    call
}

#[tokio::test]
async fn ticket_admits_over_tcp() {
    let mut member = members(1).await.remove(0);
    let newcomer = outsider(5).await;
    let target = ticket(&member, tcp_only(member.addr()).await);
    let answer = async {
        let call = asked(&mut member).await;
        assert_eq!((call.peer, call.observed), (newcomer.id(), None), "the address of a TCP connection says nothing");
        assert!(matches!(call.request, AdmissionRequest::Ticket { .. }));
        let admitted =
            Admitted { room: ROOM, room_name: "lab".into(), open: false, members: Vec::new(), observed: None };
        member.net.answer(call.id, AdmissionAnswer::Admitted(admitted));
    };
    let (joined, ()) = tokio::join!(join(&newcomer, target), answer);
    assert_eq!(joined.expect("admitted").door, id_of(&secret(0)));
}

#[tokio::test]
async fn knock_shows_the_same_words_over_tcp() {
    let mut member = members(1).await.remove(0);
    let newcomer = outsider(5).await;
    let target = JoinTarget::parse(&tcp_only(member.addr()).await.to_string()).expect("an address");
    let shown = std::sync::Mutex::new(String::new());
    let on_words = |words: &str| words.clone_into(&mut shown.lock().expect("not poisoned"));
    let answer = async {
        let call = asked(&mut member).await;
        member.net.answer(call.id, AdmissionAnswer::Waiting);
        member.net.answer(call.id, AdmissionAnswer::Denied(DenyReason::Refused));
        call.words
    };
    let joining = timeout(DEADLINE, newcomer.net.join(target, "bob", &on_words));
    let (joined, words) = tokio::join!(joining, answer);
    assert!(matches!(joined.expect("in time"), Err(JoinError::Denied(DenyReason::Refused))));
    assert!(!words.is_empty() && *shown.lock().expect("not poisoned") == words, "{words}");
}

#[tokio::test]
async fn newcomer_that_goes_over_tcp_is_reported() {
    let mut member = members(1).await.remove(0);
    let newcomer = outsider(5).await;
    let target = ticket(&member, tcp_only(member.addr()).await);
    let call = tokio::select! {
        joined = join(&newcomer, target) => panic!("nothing was answered: {joined:?}"),
        call = asked(&mut member) => call,
    };
    let event = member.next().await;
    assert!(matches!(event, NetEvent::AdmissionGone(id) if id == call.id), "{event:?}");
}

#[tokio::test]
async fn garbage_after_the_line_ends_the_connection() {
    let member = members(1).await.remove(0);
    let mut stream = TcpStream::connect(member.addr()).await.expect("connects");
    stream.write_all(ADMISSION_LINE).await.expect("writes");
    let mut proof = [0; 128];
    stream.read_exact(&mut proof).await.expect("the member proves its key");
    stream.write_all(&[7; 4_096]).await.expect("writes");
    let mut rest = Vec::new();
    // It may be reset.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(rest.is_empty());
}
