//! The services on the TCP port of a peer, each named by its first line, and how to ask for them.
//!
//! The hello and admission are for every caller. The relay and the watch are for members: the answer to the first line carries a random
//! number, and the caller proves its key by a signature over it. Members of version 0.1 ask with an older line and prove
//! nothing; they share the few places of strangers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::id::PeerId;
use iroh::{PublicKey, SecretKey, Signature};
use n0_future::{FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::context::peer_id;

/// Asks for the peer and its room; see [`crate::net::tcp::hello`].
pub(crate) const HELLO_LINE: &[u8] = b"CHATD HELLO 1\n";

/// Asks to join; see [`crate::net::admission::sealed`].
pub(crate) const ADMISSION_LINE: &[u8] = b"CHATD ADMIT 1\n";

/// First byte of the answer of relay and watch, before the id of the peer that serves: a member's private address may lead
/// to another peer in this network, or back to the caller.
const SERVED: u8 = b'+';

/// First byte of the answer of a relay whose own peer uses another relay: a caller reaches the peers that use this one, but
/// not its owner.
const SERVED_FROM_AWAY: u8 = b'-';

/// First byte of the answer when the service is not available here.
const NOT_SERVED: u8 = b'!';

/// Length of an answer without a challenge: the first byte and an id.
const ANSWER_BYTES: usize = 33;

/// Context of the signature that proves a caller's key.
const PROOF_CONTEXT: &[u8] = b"chatd tcp caller v1\0";

/// Length of a proof: a key and a signature.
const PROOF_BYTES: usize = PublicKey::LENGTH + Signature::LENGTH;

/// Whether the peer that runs a relay uses it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whereabouts {
    /// It uses its own relay, or none.
    Home,
    /// It uses the relay of another peer.
    Away,
}

/// A service on the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The hello.
    Hello,
    /// Admission of a newcomer that reaches no member over UDP.
    Admission,
    /// A service for members.
    Member(MemberService, CallerProof),
}

/// A service for members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberService {
    /// Leads to the embedded relay, where one runs; see [`crate::net::tcp::relay`].
    Relay,
    /// Stays open and silent until this process ends; see [`crate::net::tcp::watch`].
    Watch,
}

/// How a caller shows that it is a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallerProof {
    /// By a signature over a challenge.
    Signed,
    /// Not at all: members of version 0.1.
    Absent,
}

impl Service {
    /// The service that a first line, without its line feed, names.
    pub(crate) fn named(line: &[u8]) -> Option<Self> {
        let members = [MemberService::Relay, MemberService::Watch].into_iter().flat_map(|service| {
            let with = |proof| (service.line(proof), Self::Member(service, proof));
            [with(CallerProof::Signed), with(CallerProof::Absent)]
        });
        let mut services = members.chain([(HELLO_LINE, Self::Hello), (ADMISSION_LINE, Self::Admission)]);
        services.find(|(known, _)| known.strip_suffix(b"\n") == Some(line)).map(|(_, service)| service)
    }
}

impl MemberService {
    /// The first line that asks for it.
    pub(crate) const fn line(self, proof: CallerProof) -> &'static [u8] {
        match (self, proof) {
            (Self::Relay, CallerProof::Signed) => b"CHATD RELAY 2\n",
            (Self::Relay, CallerProof::Absent) => b"CHATD RELAY 1\n",
            (Self::Watch, CallerProof::Signed) => b"CHATD WATCH 2\n",
            (Self::Watch, CallerProof::Absent) => b"CHATD WATCH 1\n",
        }
    }
}

/// What a caller signs: it asks this peer for this service, now.
fn proof_statement(service: MemberService, server: &PeerId, challenge: &[u8; 32]) -> Vec<u8> {
    [PROOF_CONTEXT, service.line(CallerProof::Signed), server.as_bytes(), challenge].concat()
}

/// A connection to a peer that gives the service.
#[derive(Debug)]
pub(crate) struct ServedStream {
    pub(crate) stream: TcpStream,
    /// Whether the peer uses its own relay.
    pub(crate) whereabouts: Whereabouts,
    /// Whether the peer asked for a proof.
    pub(crate) proof: CallerProof,
}

/// Asks a peer at one of its addresses for a service, as a member with this key.
///
/// # Errors
/// When no peer answers there, the service is not available, or another peer answers.
pub(crate) async fn ask_for(
    service: MemberService,
    me: &SecretKey,
    peer: &PeerId,
    addr: SocketAddr,
) -> io::Result<ServedStream> {
    let mut stream = connect(addr, service.line(CallerProof::Signed)).await?;
    match read_answer(&mut stream, peer).await {
        Ok(whereabouts) => {
            let mut challenge = [0; 32];
            stream.read_exact(&mut challenge).await?;
            let signature = me.sign(&proof_statement(service, peer, &challenge));
            stream.write_all(&[me.public().as_bytes().as_slice(), &signature.to_bytes()].concat()).await?;
            Ok(ServedStream { stream, whereabouts, proof: CallerProof::Signed })
        }
        // Version 0.1 closes when it does not know the line.
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            let mut stream = connect(addr, service.line(CallerProof::Absent)).await?;
            let whereabouts = read_answer(&mut stream, peer).await?;
            Ok(ServedStream { stream, whereabouts, proof: CallerProof::Absent })
        }
        Err(error) => Err(error),
    }
}

async fn connect(addr: SocketAddr, line: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    stream.write_all(line).await?;
    Ok(stream)
}

pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin), peer: &PeerId) -> io::Result<Whereabouts> {
    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await?;
    match answer[0] {
        SERVED | SERVED_FROM_AWAY if answer[1..] != peer.as_bytes()[..] => Err(io::ErrorKind::InvalidData.into()),
        SERVED => Ok(Whereabouts::Home),
        SERVED_FROM_AWAY => Ok(Whereabouts::Away),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Answers a caller of version 0.1 that the service is given, and by which peer.
///
/// # Errors
/// When the caller has gone.
pub(crate) async fn serve(stream: &mut TcpStream, me: &PeerId, whereabouts: Whereabouts) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(&answer(me, Some(whereabouts))).await
}

/// Answers a caller that the service is given, unless `whereabouts` is `None`, and returns the key that it proves.
///
/// # Errors
/// When the caller has gone, or its proof is not valid.
pub(crate) async fn challenge(
    stream: &mut TcpStream,
    me: &PeerId,
    service: MemberService,
    whereabouts: Option<Whereabouts>,
) -> io::Result<PeerId> {
    stream.set_nodelay(true)?;
    let challenge: [u8; 32] = rand::random();
    stream.write_all(&[answer(me, whereabouts).as_slice(), &challenge].concat()).await?;
    let mut proof = [0; PROOF_BYTES];
    stream.read_exact(&mut proof).await?;
    proved_key(&proof, &proof_statement(service, me, &challenge))
}

/// The key that a proof over this statement proves.
///
/// # Errors
/// When the proof is not valid.
pub(crate) fn proved_key(proof: &[u8], statement: &[u8]) -> io::Result<PeerId> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let (key, signature) = proof.split_first_chunk().ok_or_else(invalid)?;
    let key = PublicKey::from_bytes(key).map_err(|_| invalid())?;
    let signature = Signature::from_bytes(signature.try_into().map_err(|_| invalid())?);
    key.verify(statement, &signature).map_err(|_| invalid())?;
    Ok(peer_id(key))
}

fn answer(me: &PeerId, whereabouts: Option<Whereabouts>) -> [u8; ANSWER_BYTES] {
    let mut answer = [0; ANSWER_BYTES];
    answer[0] = match whereabouts {
        Some(Whereabouts::Home) => SERVED,
        Some(Whereabouts::Away) => SERVED_FROM_AWAY,
        None => NOT_SERVED,
    };
    answer[1..].copy_from_slice(me.as_bytes());
    answer
}

/// Runs all tries at once and returns the first success within `timeout_after`; the other tries are dropped. An address
/// that swallows packets must not delay the one that answers.
pub(crate) async fn first_ok<T>(
    tries: impl IntoIterator<Item: Future<Output = Option<T>>>,
    timeout_after: Duration,
) -> Option<T> {
    let mut tries: FuturesUnordered<_> = tries.into_iter().collect();
    let winner = async {
        while let Some(ended) = tries.next().await {
            if ended.is_some() {
                return ended;
            }
        }
        None
    };
    timeout(timeout_after, winner).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use n0_future::boxed::BoxFuture;
    use std::future::{Ready, pending, ready};

    #[test]
    fn first_line_names_its_service() {
        assert_eq!(Service::named(b"CHATD HELLO 1"), Some(Service::Hello));
        assert_eq!(Service::named(b"CHATD ADMIT 1"), Some(Service::Admission));
        let of_members = |line| Service::named(line).expect("a service");
        let (relay, watch) = (MemberService::Relay, MemberService::Watch);
        assert_eq!(of_members(b"CHATD RELAY 1"), Service::Member(relay, CallerProof::Absent));
        assert_eq!(of_members(b"CHATD RELAY 2"), Service::Member(relay, CallerProof::Signed));
        assert_eq!(of_members(b"CHATD WATCH 1"), Service::Member(watch, CallerProof::Absent));
        assert_eq!(of_members(b"CHATD WATCH 2"), Service::Member(watch, CallerProof::Signed));
        for other in [&b""[..], b"CHATD HELLO 2", b"CHATD HELLO 1\r", b"GET / HTTP/1.1\r"] {
            assert_eq!(Service::named(other), None);
        }
    }

    /// Longer than any of these tests takes.
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn first_success_does_not_wait_for_other_tries() {
        let tries: [BoxFuture<Option<u8>>; 4] =
            [Box::pin(ready(None)), Box::pin(pending()), Box::pin(ready(Some(7))), Box::pin(pending())];
        assert_eq!(first_ok(tries, LONG).await, Some(7));
    }

    #[tokio::test]
    async fn tries_without_success_end_in_none() {
        assert_eq!(first_ok([ready(None::<u8>), ready(None)], LONG).await, None);
        assert_eq!(first_ok(Vec::<Ready<Option<u8>>>::new(), LONG).await, None);
        assert_eq!(first_ok([pending::<Option<u8>>()], Duration::from_millis(5)).await, None);
    }
}
