//! The forwarder with relays that are plain listeners.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::net::tcp::services::CallerProof;

const ME: PeerId = PeerId::from_bytes([1; 32]);
const HOLDER: PeerId = PeerId::from_bytes([2; 32]);
const STANDBY: PeerId = PeerId::from_bytes([3; 32]);
const SOON: Duration = Duration::from_secs(10);

/// A relay of this peer, on its TCP port.
struct Relay {
    peer: PeerId,
    listener: TcpListener,
}

impl Relay {
    async fn of(peer: PeerId) -> Self {
        Self { peer, listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback") }
    }

    fn candidate(&self) -> RelayCandidate {
        let addr = self.listener.local_addr().expect("bound");
        RelayCandidate { peer: self.peer, at: RelayAt::Member(vec![addr]) }
    }

    async fn accept(&self) -> TcpStream {
        timeout(SOON, self.listener.accept()).await.expect("a client connects").expect("accepts").0
    }

    /// The next connection, after its first line has been answered.
    async fn serve(&self) -> TcpStream {
        self.serve_from(Whereabouts::Home).await
    }

    async fn serve_from(&self, whereabouts: Whereabouts) -> TcpStream {
        let mut stream = self.accept().await;
        let line = MemberService::Relay.line(CallerProof::Signed);
        assert_eq!(read(&mut stream, line.len()).await, line);
        // A client that wants another peer gives no proof.
        let _ = services::challenge(&mut stream, &self.peer, MemberService::Relay, Some(whereabouts)).await;
        stream
    }
}

async fn client(forwarder: &Forwarder) -> TcpStream {
    let port = forwarder.url().port().expect("a port");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the forwarder listens");
    stream.write_all(b"hello").await.expect("sends");
    stream
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut raw = vec![0; bytes];
    timeout(SOON, stream.read_exact(&mut raw)).await.expect("in time").expect("bytes");
    raw
}

async fn is_cut(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.expect("cut in time").ok();
}

async fn forwarder() -> Forwarder {
    Forwarder::start(SecretKey::from_bytes(&[7; 32])).await.expect("starts")
}

fn order(relays: &[&Relay]) -> RelayOrder {
    RelayOrder::new(relays.iter().map(|relay| relay.candidate()).collect(), None)
}

#[tokio::test]
async fn connection_is_held_until_a_relay_is_known_and_cut_when_another_is_preferred() {
    let forwarder = forwarder().await;
    let (first, second) = (Relay::of(HOLDER).await, Relay::of(ME).await);

    let mut held = client(&forwarder).await;
    forwarder.use_relays(order(&[&first]));
    let mut relay = first.serve().await;
    assert_eq!(read(&mut relay, 5).await, b"hello", "what was said while it was held comes first");
    relay.write_all(b"hi").await.expect("answers");
    assert_eq!(read(&mut held, 2).await, b"hi");

    let here = RelayCandidate { peer: ME, at: RelayAt::Here(second.listener.local_addr().expect("bound")) };
    forwarder.use_relays(RelayOrder::new(vec![here, first.candidate()], None));
    is_cut(&mut held).await;
    let _looked = second.accept().await;
    let _next = client(&forwarder).await;
    let mut relay = second.accept().await;
    assert_eq!(read(&mut relay, 5).await, b"hello", "no first line on the way to the own relay");
}

#[tokio::test]
async fn relay_that_does_not_run_is_passed_over() {
    let forwarder = forwarder().await;
    let (holder, standby) = (Relay::of(HOLDER).await, Relay::of(STANDBY).await);
    forwarder.use_relays(order(&[&holder, &standby]));
    let _client = client(&forwarder).await;
    drop(holder.accept().await);
    let mut relay = standby.serve().await;
    assert_eq!(read(&mut relay, 5).await, b"hello");
}

#[tokio::test]
async fn relay_of_another_peer_at_the_same_address_is_not_used() {
    let forwarder = forwarder().await;
    let (other, standby) = (Relay::of(ME).await, Relay::of(STANDBY).await);
    let mistaken = RelayCandidate { peer: HOLDER, ..other.candidate() };
    forwarder.use_relays(RelayOrder::new(vec![mistaken, standby.candidate()], None));
    let _client = client(&forwarder).await;
    let (_other, mut relay) = tokio::join!(other.serve(), standby.serve());
    assert_eq!(read(&mut relay, 5).await, b"hello");
}

#[tokio::test]
async fn order_that_changes_behind_the_relay_in_use_cuts_nothing() {
    let forwarder = forwarder().await;
    let (holder, standby) = (Relay::of(HOLDER).await, Relay::of(STANDBY).await);
    forwarder.use_relays(order(&[&holder]));
    let mut client = client(&forwarder).await;
    let mut relay = holder.serve().await;
    assert_eq!(read(&mut relay, 5).await, b"hello");
    forwarder.use_relays(order(&[&holder, &standby]));
    relay.write_all(b"still").await.expect("answers");
    assert_eq!(read(&mut client, 5).await, b"still");
}

#[tokio::test]
async fn doubted_relay_is_kept_while_it_answers() {
    let forwarder = forwarder().await;
    let (holder, standby) = (Relay::of(HOLDER).await, Relay::of(STANDBY).await);
    forwarder.use_relays(order(&[&holder, &standby]));
    let mut client = client(&forwarder).await;
    let mut relay = holder.serve().await;
    assert_eq!(read(&mut relay, 5).await, b"hello");
    let doubted = || RelayOrder { doubted: Some(HOLDER), ..order(&[&holder, &standby]) };
    forwarder.use_relays(doubted());
    drop(holder.serve().await);
    relay.write_all(b"alive").await.expect("answers");
    assert_eq!(read(&mut client, 5).await, b"alive");

    forwarder.use_relays(order(&[&holder, &standby]));
    forwarder.use_relays(doubted());
    // Accepted by its kernel, and never answered: a process that hangs.
    let _silent = holder.accept().await;
    is_cut(&mut client).await;
}

#[tokio::test]
async fn useless_relay_is_replaced_by_the_next() {
    let forwarder = forwarder().await;
    let (holder, standby) = (Relay::of(HOLDER).await, Relay::of(STANDBY).await);
    forwarder.use_relays(order(&[&holder, &standby]));
    let mut stream = client(&forwarder).await;
    // All are called at once; the first of the order was there.
    let (mut relay, _called) = tokio::join!(holder.serve(), standby.accept());
    assert_eq!(read(&mut relay, 5).await, b"hello");
    forwarder.no_peer_reached();
    let since = Instant::now().checked_sub(USED_MIN).expect("the machine runs longer");
    *forwarder.used.0.lock().expect("not poisoned") = Some((HOLDER, since));
    forwarder.no_peer_reached();
    let (_looked, ()) = tokio::join!(standby.serve(), is_cut(&mut stream));
    let _next = client(&forwarder).await;
    let mut relay = standby.serve().await;
    assert_eq!(read(&mut relay, 5).await, b"hello");
    forwarder.no_peer_reached();
    assert_eq!(forwarder.relays.borrow().useless, [HOLDER], "a short use is no evidence");
}

#[tokio::test]
async fn relay_that_its_own_peer_uses_is_preferred() {
    let forwarder = forwarder().await;
    let (away, home) = (Relay::of(STANDBY).await, Relay::of(HOLDER).await);
    let _client = client(&forwarder).await;
    forwarder.use_relays(order(&[&away, &home]));
    let (_passed_over, mut relay) = tokio::join!(away.serve_from(Whereabouts::Away), home.serve());
    assert_eq!(read(&mut relay, 5).await, b"hello", "its peer uses it");
    assert_eq!(forwarder.whereabouts(&HOLDER), Whereabouts::Home);
    assert_eq!(forwarder.whereabouts(&STANDBY), Whereabouts::Away, "it uses another relay and announces it");
    drop(relay);
}

#[tokio::test]
async fn relay_that_its_own_peer_does_not_use_is_better_than_none() {
    let forwarder = forwarder().await;
    let away = Relay::of(STANDBY).await;
    let mut client = client(&forwarder).await;
    forwarder.use_relays(order(&[&away]));
    let mut relay = away.serve_from(Whereabouts::Away).await;
    assert_eq!(read(&mut relay, 5).await, b"hello");
    drop(relay);
    is_cut(&mut client).await;
    drop(client);
    let left = async {
        while forwarder.whereabouts(&ME) == Whereabouts::Away {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, left).await.expect("it uses no relay any more");
}

#[tokio::test]
async fn latency_probe_is_answered_while_no_relay_is_known() {
    let forwarder = forwarder().await;
    let port = forwarder.url().port().expect("a port");
    let mut asking = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the forwarder listens");
    asking.write_all(b"GET /ping HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("sends");
    let mut answer = String::new();
    timeout(SOON, asking.read_to_string(&mut answer)).await.expect("in time").expect("answers");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn dropped_forwarder_ends_its_connections() {
    let forwarder = forwarder().await;
    let mut client = client(&forwarder).await;
    drop(forwarder);
    is_cut(&mut client).await;
}
