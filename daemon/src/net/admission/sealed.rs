//! Admission over TCP alone: a sealed stream between a newcomer and a member.
//!
//! Where no UDP passes, a newcomer asks at the TCP port of a member. After the line `CHATD ADMIT 1` the member sends its id, a
//! key that it made for this connection, and its signature over both. The newcomer answers with a key of its own and, sealed
//! for the member's, its id and a signature over both ids and keys. What follows is sealed by the channel between the two
//! keys (`vodozemac::ecies`: X25519, ChaCha20-Poly1305, counters as nonces), in frames. Inside runs the same conversation as over
//! QUIC ([`join`](crate::net::admission::join), [`server`](crate::net::admission::server)).
//!
//! Invariants: each end knows the other's key before anything else is read. A proof is valid for one connection, since it
//! covers the key that the other end made for it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_core::admission::codec::ADMISSION_BYTES_MAX;
use chat_proto::id::PeerId;
use iroh::{PublicKey, SecretKey, Signature};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vodozemac::Curve25519PublicKey;
use vodozemac::ecies::{
    Ecies, EstablishedEcies, InboundCreationResult, InitialMessage, Message, OutboundCreationResult,
};

use crate::net::context::{NetContext, peer_id};
use crate::net::tcp::services::ADMISSION_LINE;
use crate::net::transport::framing::read_frame;

/// Names the channel, so that its keys are those of no other protocol.
const CHANNEL: &str = "chatd admission v1";

/// Contexts of the signatures.
const MEMBER_CONTEXT: &[u8] = b"chatd tcp admission member v1\0";
const NEWCOMER_CONTEXT: &[u8] = b"chatd tcp admission newcomer v1\0";

/// Length of the member's proof and of the newcomer's: a key, the id and the signature.
const PROOF_BYTES: usize = 32 + PublicKey::LENGTH + Signature::LENGTH;

/// What sealing adds to a frame.
const SEAL_BYTES: usize = 16;

/// Maximum length of a piece before it is sealed.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// Bytes that wait between the conversation and the TCP stream: one message.
const WAITING_BYTES_MAX: usize = ADMISSION_BYTES_MAX;

/// How long after the end of the conversation the other end may close.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// A TCP stream whose ends have proved their keys.
#[derive(Debug)]
pub(crate) struct SealedStream {
    stream: TcpStream,
    channel: EstablishedEcies,
    /// The other end.
    pub(crate) peer: PeerId,
}

/// The inner end of a sealed stream, for the conversation.
#[derive(Debug)]
pub(crate) struct SealedLink {
    pub(crate) peer: PeerId,
    /// Address of the other end.
    pub(crate) addr: SocketAddr,
    inside: Mutex<Option<DuplexStream>>,
    /// Fires when the stream is over; ends it when it is cancelled.
    pub(crate) ended: CancellationToken,
}

/// What the newcomer signs: it asks this member, now.
fn newcomer_statement(newcomer: &[u8], member: &[u8], keys: [Curve25519PublicKey; 2]) -> Vec<u8> {
    [NEWCOMER_CONTEXT, newcomer, member, keys[0].as_bytes(), keys[1].as_bytes()].concat()
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// Whether `id` signed this; returns the id.
fn signed_by(id: &[u8; 32], statement: &[u8], signature: &[u8]) -> io::Result<PeerId> {
    let key = PublicKey::from_bytes(id).map_err(|_| invalid())?;
    let signature = Signature::from_bytes(signature.try_into().map_err(|_| invalid())?);
    key.verify(statement, &signature).map_err(|_| invalid())?;
    Ok(peer_id(key))
}

impl SealedStream {
    /// Asks a member at one of its addresses, as the newcomer with this key.
    ///
    /// # Errors
    /// When no member answers there, or another one, or a member that admits over QUIC only.
    pub(crate) async fn open(me: &SecretKey, member: &PeerId, addr: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        stream.write_all(ADMISSION_LINE).await?;
        let mut proof = [0; PROOF_BYTES];
        stream.read_exact(&mut proof).await?;
        let (id, rest) = proof.split_first_chunk::<32>().ok_or_else(invalid)?;
        let (theirs, signature) = rest.split_first_chunk::<32>().ok_or_else(invalid)?;
        if signed_by(id, &[MEMBER_CONTEXT, id, theirs].concat(), signature)? != *member {
            return Err(invalid());
        }
        let (ours, theirs) = (Ecies::with_info(CHANNEL), Curve25519PublicKey::from_bytes(*theirs));
        let own = me.public();
        let statement = newcomer_statement(own.as_bytes(), id, [theirs, ours.public_key()]);
        let proof = [own.as_bytes().as_slice(), &me.sign(&statement).to_bytes()].concat();
        let OutboundCreationResult { ecies, message } =
            ours.establish_outbound_channel(theirs, &proof).map_err(|_| invalid())?;
        stream.write_all(&[message.public_key.as_bytes().as_slice(), &message.ciphertext].concat()).await?;
        Ok(Self { stream, channel: ecies, peer: *member })
    }

    /// Answers a newcomer that has sent the line, as the member with this key.
    ///
    /// # Errors
    /// When the newcomer is gone or proves no key.
    pub(crate) async fn accept(me: &SecretKey, mut stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (ours, own) = (Ecies::with_info(CHANNEL), me.public());
        let key = ours.public_key();
        let signature = me.sign(&[MEMBER_CONTEXT, own.as_bytes(), key.as_bytes()].concat());
        let proof = [own.as_bytes().as_slice(), key.as_bytes(), &signature.to_bytes()].concat();
        stream.write_all(&proof).await?;
        let mut answer = [0; PROOF_BYTES + SEAL_BYTES];
        stream.read_exact(&mut answer).await?;
        let (theirs, ciphertext) = answer.split_first_chunk::<32>().ok_or_else(invalid)?;
        let theirs = Curve25519PublicKey::from_bytes(*theirs);
        let message = InitialMessage { public_key: theirs, ciphertext: ciphertext.to_vec() };
        let InboundCreationResult { ecies, message } =
            ours.establish_inbound_channel(&message).map_err(|_| invalid())?;
        let (id, signature) = message.split_first_chunk::<32>().ok_or_else(invalid)?;
        let statement = newcomer_statement(id, own.as_bytes(), [key, theirs]);
        let peer = signed_by(id, &statement, signature)?;
        Ok(Self { stream, channel: ecies, peer })
    }

    /// Seals what the conversation sends and opens what it receives, in a task of its own.
    pub(crate) fn start(self, ctx: &NetContext) -> io::Result<SealedLink> {
        let (inside, outside) = duplex(WAITING_BYTES_MAX);
        let ended = CancellationToken::new();
        let addr = self.stream.peer_addr()?;
        let link = SealedLink { peer: self.peer, addr, inside: Mutex::new(Some(inside)), ended: ended.clone() };
        let stopping = ctx.token.clone();
        ctx.spawn(tracing::Span::current(), async move {
            let _ended = ended.clone().drop_guard();
            tokio::select! {
                _ = self.carry(outside) => {}
                () = ended.cancelled() => {}
                () = stopping.cancelled() => {}
            }
        });
        Ok(link)
    }

    async fn carry(mut self, outside: DuplexStream) -> io::Result<()> {
        let channel = Arc::new(Mutex::new(self.channel));
        let (mut from_peer, mut to_peer) = self.stream.split();
        let (mut from_inside, mut to_inside) = split(outside);
        let inward = async {
            loop {
                let sealed = read_frame(&mut from_peer, PIECE_BYTES_MAX + SEAL_BYTES).await.map_err(|_| invalid())?;
                let opened = lock(&channel).decrypt(&Message { ciphertext: sealed }).map_err(|_| invalid())?;
                to_inside.write_all(&opened).await?;
            }
        };
        let outward = async {
            let mut piece = vec![0; PIECE_BYTES_MAX];
            loop {
                let read = from_inside.read(&mut piece).await?;
                if read == 0 {
                    return to_peer.shutdown().await;
                }
                let sealed = lock(&channel).encrypt(&piece[..read]).ciphertext;
                let length = u32::try_from(sealed.len()).map_err(|_| invalid())?;
                to_peer.write_all(&[length.to_be_bytes().as_slice(), &sealed].concat()).await?;
            }
        };
        let mut inward = std::pin::pin!(inward);
        let sent: io::Result<()> = tokio::select! {
            ended = &mut inward => return ended,
            sent = outward => sent,
        };
        sent?;
        timeout(CLOSE_MAX, inward).await.unwrap_or(Ok(()))
    }
}

fn lock(channel: &Mutex<EstablishedEcies>) -> std::sync::MutexGuard<'_, EstablishedEcies> {
    channel.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SealedLink {
    /// The stream of the conversation, for its first caller.
    pub(crate) fn take(&self) -> Option<DuplexStream> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_bytes(&[n; 32])
    }

    /// Both ends of a stream, each as it sees the other.
    async fn ends(expected: &PeerId) -> (io::Result<SealedStream>, io::Result<SealedStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let addr = listener.local_addr().expect("bound");
        let newcomer = key(2);
        let (member, newcomer) = tokio::join!(
            async {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let mut line = vec![0; ADMISSION_LINE.len()];
                stream.read_exact(&mut line).await.expect("reads");
                assert_eq!(line, ADMISSION_LINE);
                SealedStream::accept(&key(1), stream).await
            },
            SealedStream::open(&newcomer, expected, addr),
        );
        (member, newcomer)
    }

    #[tokio::test]
    async fn both_ends_prove_their_keys() {
        let (member, newcomer) = ends(&peer_id(key(1).public())).await;
        assert_eq!(member.expect("accepted").peer, peer_id(key(2).public()));
        assert_eq!(newcomer.expect("opened").peer, peer_id(key(1).public()));
    }

    #[tokio::test]
    async fn other_member_at_the_address_is_refused() {
        let (member, newcomer) = ends(&peer_id(key(3).public())).await;
        assert!(newcomer.is_err() && member.is_err());
    }

    #[tokio::test]
    async fn pieces_arrive_whole_and_sealed() {
        let (member, newcomer) = ends(&peer_id(key(1).public())).await;
        let (near, mut near_inside) = duplex(WAITING_BYTES_MAX);
        let (far, mut far_inside) = duplex(WAITING_BYTES_MAX);
        let text = vec![7; 3 * PIECE_BYTES_MAX];
        let talk = async {
            let mut received = vec![0; text.len()];
            let (sent, arrived) = tokio::join!(near_inside.write_all(&text), far_inside.read_exact(&mut received));
            assert!(sent.is_ok() && arrived.is_ok());
            assert_eq!(received, text);
            far_inside.write_all(b"thanks").await.expect("sends");
            let mut thanks = [0; 6];
            near_inside.read_exact(&mut thanks).await.expect("arrives");
            drop((near_inside, far_inside));
        };
        let both = async {
            let _ = tokio::join!(member.expect("accepted").carry(far), newcomer.expect("opened").carry(near));
        };
        timeout(Duration::from_secs(10), async { tokio::join!(talk, both) }).await.expect("in time");
    }
}
