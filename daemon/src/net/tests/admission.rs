//! Strangers that ask to join: by ticket, by knock, and against the protocol.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use chat_core::admission::codec::{
    ADMISSION_ALPN, AdmissionAnswer, AdmissionRequest, Admitted, DenyReason, Reveal, commitment, ticket_holds,
};
use chat_core::input::{AdmissionCall, AdmissionId};
use chat_core::peers::addrs::AddrRecord;
use chat_proto::api::status::RoomRef;
use chat_proto::id::{InviteId, PeerId, RoomId};
use chat_proto::ticket::{Ticket, TicketPeer};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use iroh::Endpoint;
use iroh::endpoint::presets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::peers::*;
use crate::net::NetEvent;
use crate::net::admission::codec::{read_message, write_message};
use crate::net::admission::join::{JoinError, JoinedRoom};
use crate::net::admission::target::JoinTarget;
use crate::net::tcp::hello::Hello;
use crate::net::tcp::services::HELLO_LINE;
use crate::net::transport::close::CloseCode;

const SEED: [u8; 32] = [77; 32];

/// A stranger's request as the member sees it.
struct Asked {
    id: AdmissionId,
    peer: PeerId,
    request: AdmissionRequest,
    words: String,
}

async fn asked(member: &mut NetPeer) -> Asked {
    let event = member.next().await;
    let NetEvent::Admission(AdmissionCall { id, peer, observed, request, words }) = event else {
        panic!("not a request: {event:?}");
    };
    assert!(observed.is_some_and(|addr| addr.ip().is_loopback()));
    Asked { id, peer, request, words }
}

fn admitted() -> Admitted {
    let key = SigningKey::from_bytes(&secret(0));
    let own = AddrRecord::sign(vec!["127.0.0.1:1".parse().expect("an address")], Timestamp::from_ms(1), &key);
    let forged = AddrRecord { time: Timestamp::from_ms(2), ..own.clone() };
    Admitted { room: ROOM, room_name: "lab".into(), open: false, members: vec![own, forged], observed: None }
}

fn ticket(peers: &[(PeerId, std::net::SocketAddr)]) -> JoinTarget {
    let peers = peers.iter().map(|(peer, addr)| TicketPeer { peer: *peer, addrs: vec![*addr] }).collect();
    let expires = Timestamp::from_ms(u64::MAX);
    JoinTarget::Ticket(Box::new(Ticket { room: ROOM, room_name: "lab".into(), peers, seed: SEED, expires }))
}

fn address(of: &NetPeer) -> JoinTarget {
    JoinTarget::parse(&of.addr().to_string()).expect("an address")
}

async fn join(newcomer: &NetPeer, target: JoinTarget) -> Result<JoinedRoom, JoinError> {
    let no_words = |words: &str| panic!("no person has to compare words: {words}");
    timeout(DEADLINE, newcomer.net.join(target, "bob", &no_words)).await.expect("in time")
}

#[tokio::test]
async fn ticket_admits_and_opens_the_door() {
    let mut member = members(1).await.remove(0);
    let mut newcomer = outsider(5).await;
    let target = ticket(&[(member.id(), member.addr())]);
    let answer = async {
        let Asked { id, peer, request, words } = asked(&mut member).await;
        assert_eq!(words, "");
        let AdmissionRequest::Ticket { room, name, key, signature } = request else { panic!("a ticket") };
        assert_eq!((room, name.as_str()), (ROOM, "bob"));
        assert_eq!(key, InviteId::from_bytes(SigningKey::from_bytes(&SEED).verifying_key().to_bytes()));
        assert!(ticket_holds(&key, &room, &peer, &name, signature));
        member.net.gate().set_roster(roster(&[member.id(), peer], false));
        member.net.answer(id, AdmissionAnswer::Admitted(admitted()));
    };
    let (joined, ()) = tokio::join!(join(&newcomer, target), answer);
    let joined = joined.expect("admitted");
    assert_eq!(joined.door, id_of(&secret(0)));
    assert_eq!(joined.admitted.members, admitted().members[..1], "a record with a wrong signature is left out");
    // The room protocol works before the log has arrived, in both directions.
    newcomer.dial(&member);
    newcomer.up(joined.door).await;
    member.up(newcomer.id()).await;
}

#[tokio::test]
async fn ticket_of_a_member_that_refuses_or_is_away_goes_to_the_next() {
    let [mut knows_nothing, mut knows, away] = members(3).await.try_into().ok().expect("three");
    let newcomer = outsider(5).await;
    let target = ticket(&[&away, &knows_nothing, &knows].map(|peer| (peer.id(), peer.addr())));
    away.stop().await;
    let deny = async {
        // The member that is reached first is asked first; this one may not be asked at all.
        if let NetEvent::Admission(AdmissionCall { id, .. }) = knows_nothing.next().await {
            knows_nothing.net.answer(id, AdmissionAnswer::Denied(DenyReason::UnknownInvite));
        }
        std::future::pending::<()>().await
    };
    let admit = async {
        let Asked { id, .. } = asked(&mut knows).await;
        knows.net.answer(id, AdmissionAnswer::Admitted(admitted()));
        std::future::pending::<()>().await
    };
    let joined = tokio::select! {
        joined = join(&newcomer, target) => joined.expect("admitted"),
        () = deny => unreachable!(),
        () = admit => unreachable!(),
    };
    assert_eq!(joined.door, id_of(&secret(1)));
}

#[tokio::test]
async fn refusal_carries_its_reason() {
    let mut member = members(1).await.remove(0);
    let newcomer = outsider(5).await;
    let target = ticket(&[(member.id(), member.addr())]);
    let (joined, ()) = tokio::join!(join(&newcomer, target), async {
        let Asked { id, .. } = asked(&mut member).await;
        member.net.answer(id, AdmissionAnswer::Denied(DenyReason::Expired));
    });
    assert!(matches!(joined, Err(JoinError::Denied(DenyReason::Expired))), "{joined:?}");
    assert!(!newcomer.net.gate().admits(&member.id()));
    // A member that names another room than the ticket's is not followed.
    let target = ticket(&[(member.id(), member.addr())]);
    let (joined, ()) = tokio::join!(join(&newcomer, target), async {
        let Asked { id, .. } = asked(&mut member).await;
        let room = chat_proto::id::RoomId::from_bytes([8; 32]);
        member.net.answer(id, AdmissionAnswer::Admitted(Admitted { room, ..admitted() }));
    });
    assert!(matches!(joined, Err(JoinError::Denied(DenyReason::OtherRoom))), "{joined:?}");
}

#[tokio::test]
async fn knock_shows_the_same_words_on_both_sides() {
    let mut member = members(1).await.remove(0);
    let newcomer = outsider(5).await;
    let target = address(&member);
    let shown = Mutex::new(Vec::new());
    let on_words = |words: &str| shown.lock().expect("not poisoned").push(words.to_owned());
    let (joined, there) = tokio::join!(timeout(DEADLINE, newcomer.net.join(target, "bob", &on_words)), async {
        let Asked { id, peer, request, words } = asked(&mut member).await;
        assert_eq!(peer, newcomer.id());
        assert!(matches!(request, AdmissionRequest::Knock { name, .. } if name == "bob"));
        member.net.answer(id, AdmissionAnswer::Waiting);
        member.net.answer(id, AdmissionAnswer::Admitted(admitted()));
        words
    });
    let joined = joined.expect("in time").expect("admitted");
    assert_eq!(joined.door, member.id());
    assert_eq!(shown.into_inner().expect("not poisoned"), std::slice::from_ref(&there));
    assert_eq!(there.split('-').count(), 3, "three groups: {there}");
}

#[tokio::test]
async fn knock_ends_when_the_stranger_goes() {
    let mut member = members(1).await.remove(0);
    let newcomer = outsider(5).await;
    let target = address(&member);
    let knock = newcomer.net.join(target, "bob", &|_| {});
    let id = tokio::select! {
        _ = knock => panic!("no member has answered"),
        asked = asked(&mut member) => asked.id,
    };
    assert!(matches!(member.next().await, NetEvent::AdmissionGone(gone) if gone == id));
    // An answer that comes too late does no harm.
    member.net.answer(id, AdmissionAnswer::Waiting);
}

#[tokio::test]
async fn join_where_no_member_can_admit_fails_with_the_reason() {
    let member = members(1).await.remove(0);
    let newcomer = outsider(5).await;
    let roomless = outsider(6).await;
    let joined = join(&newcomer, address(&roomless)).await;
    assert!(matches!(joined, Err(JoinError::NoRoom { .. })), "{joined:?}");
    let joined = join(&newcomer, ticket(&[(roomless.id(), roomless.addr())])).await;
    assert!(matches!(joined, Err(JoinError::Denied(DenyReason::NotReady))), "{joined:?}");
    let joined = join(&member, address(&member)).await;
    assert!(matches!(joined, Err(JoinError::Itself { .. })), "{joined:?}");
    let (id, target) = ((member.id(), member.addr()), address(&member));
    member.stop().await;
    let joined = join(&newcomer, target).await;
    assert!(matches!(joined, Err(JoinError::Unreachable { .. })), "{joined:?}");
    let joined = join(&newcomer, ticket(&[id])).await;
    assert!(joined.is_err_and(|error| error.to_string().contains(&id.1.to_string())));
    let joined = join(&newcomer, JoinTarget::Address { host: "no-such-host.invalid".into(), port: 1 }).await;
    assert!(matches!(joined, Err(JoinError::UnknownHost { .. })), "{joined:?}");
}

#[tokio::test]
async fn join_where_only_tcp_passes_fails_with_the_reason() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
    let (addr, id) = (listener.local_addr().expect("bound"), outsider(7).await.id());
    let room = Some(RoomRef { id: RoomId::from_bytes([3; 32]), name: "r".into(), open: false });
    let mut answer = serde_json::to_vec(&Hello { chatd: 1, peer: id, room }).expect("JSON");
    answer.push(b'\n');
    let answering = async {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_exact(&mut [0; HELLO_LINE.len()]).await.expect("asks");
            stream.write_all(&answer).await.expect("listens");
        }
    };
    let newcomer = outsider(5).await;
    let joining = async {
        let target = JoinTarget::Address { host: addr.ip().to_string(), port: addr.port() };
        tokio::join!(join(&newcomer, target), join(&newcomer, ticket(&[(id, addr)])))
    };
    let joined = tokio::select! {
        joined = joining => joined,
        () = answering => panic!("it accepts"),
    };
    for joined in [joined.0, joined.1] {
        assert!(matches!(&joined, Err(JoinError::NoUdp { tried }) if *tried == addr.to_string()), "{joined:?}");
    }
}

#[tokio::test]
async fn peer_in_between_cannot_change_its_number() {
    let mut member = members(1).await.remove(0);
    let endpoint = Endpoint::bind(presets::Minimal).await.expect("binds");
    let addr = member.endpoint_addr();
    let connection = endpoint.connect(addr, ADMISSION_ALPN).await.expect("connects");
    let (mut send, mut recv) = connection.open_bi().await.expect("opens");
    let knock = AdmissionRequest::Knock { name: "eve".into(), commitment: commitment(&[1; 32]) };
    write_message(&mut send, &knock).await.expect("writes");
    let challenge: AdmissionAnswer = read_message(&mut recv).await.expect("reads");
    assert!(matches!(challenge, AdmissionAnswer::Challenge { room: ROOM, .. }));
    write_message(&mut send, &Reveal { nonce: [2; 32] }).await.expect("writes");
    let closed = timeout(DEADLINE, connection.closed()).await.expect("in time");
    assert!(CloseCode::Protocol.was_given(&closed), "{closed:?}");
    // It was not reported: the next event is another stranger's.
    let newcomer = outsider(5).await;
    let target = address(&member);
    let (_, ()) = tokio::join!(join(&newcomer, target), async {
        let Asked { id, peer, .. } = asked(&mut member).await;
        assert_eq!(peer, newcomer.id());
        member.net.answer(id, AdmissionAnswer::Denied(DenyReason::Refused));
    });
    endpoint.close().await;
}
