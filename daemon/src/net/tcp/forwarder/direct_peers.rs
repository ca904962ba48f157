//! The peers that are connected directly: nothing is relayed to them.
//!
//! iroh keeps a path through the relay open beside each direct one and pings it every few seconds. In a room of N these are
//! N² pings through the machine that relays, and none of them is needed: a connection whose direct path dies is made anew
//! through the relay. The forwarder therefore drops what the endpoint sends to the relay for a peer that is connected
//! directly. Both ends then close the relayed path after its idle timeout of 30 s, and the relay carries nothing more.
//!
//! A peer that found the direct path dead calls through the relay while this end still trusts that path, for long where
//! this end has nothing to send. So whatever arrives from a peer through the relay may be answered through it for
//! [`ANSWERED_FOR`].
//!
//! The task of a connection enters its peer once the direct path has lasted ([`DirectPeers::enter`]); the entry ends with
//! the path or the connection.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use chat_proto::id::PeerId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read at once; several datagrams of a busy connection.
const READ_BYTES: usize = 64 * 1024;

/// Maximum length of a frame to the relay; iroh sends less.
const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;

/// End of the HTTP request that begins a connection to a relay.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// First byte of a frame that is one whole binary message (RFC 6455).
const BINARY: u8 = 0x82;

/// First byte of a message that carries one datagram to a peer, or several (`iroh_relay::protos::common::FrameType`).
const DATAGRAMS_TO: [u8; 2] = [4, 5];

/// The same for datagrams from a peer.
const DATAGRAMS_FROM: [u8; 2] = [6, 7];

/// How long after a datagram from a peer came through the relay datagrams to it are relayed: time for a handshake, and less
/// than the interval between keep-alives, so that these die out.
const ANSWERED_FOR: Duration = Duration::from_secs(2);

/// The peers that are connected directly.
#[derive(Debug, Default)]
pub(crate) struct DirectPeers(Mutex<HashMap<PeerId, DirectPeer>>);

/// A peer that is connected directly.
#[derive(Debug, Default)]
struct DirectPeer {
    /// Number of its direct paths: two while one connection replaces another.
    paths: usize,
    /// When something from it last came through the relay.
    relayed: Option<Instant>,
}

/// A direct path to a peer; dropped, it is over.
#[derive(Debug)]
pub(crate) struct DirectPath {
    peers: Arc<DirectPeers>,
    peer: PeerId,
}

impl DirectPeers {
    /// Nothing is relayed to the peer until the result is dropped.
    pub(crate) fn enter(self: &Arc<Self>, peer: PeerId) -> DirectPath {
        self.lock().entry(peer).or_default().paths += 1;
        DirectPath { peers: self.clone(), peer }
    }

    /// Whether a datagram to the peer is not relayed.
    fn drops(&self, peer: &PeerId, now: Instant) -> bool {
        let recently = |relayed: Instant| now.saturating_duration_since(relayed) < ANSWERED_FOR;
        self.lock().get(peer).is_some_and(|direct| !direct.relayed.is_some_and(recently))
    }

    /// A datagram from the peer came through the relay.
    fn note_relayed(&self, peer: &PeerId, now: Instant) {
        if let Some(direct) = self.lock().get_mut(peer) {
            direct.relayed = Some(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, DirectPeer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DirectPath {
    fn drop(&mut self) {
        let mut peers = self.peers.lock();
        if let Some(direct) = peers.get_mut(&self.peer) {
            direct.paths -= 1;
            if direct.paths == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// Copies what the endpoint sends to its relay, without the datagrams for peers that are connected directly, until the
/// endpoint ends the connection.
///
/// # Errors
/// When either side is gone, or a frame is too long.
pub(super) async fn copy_needed(
    client: &mut (impl AsyncRead + Unpin),
    relay: &mut (impl AsyncWrite + Unpin),
    direct: &DirectPeers,
) -> io::Result<()> {
    let needed = |frame: RelayFrame, read: &[u8]| {
        !frame.destination(read).is_some_and(|peer| direct.drops(&peer, Instant::now()))
    };
    copy_frames(client, relay, needed).await
}

/// Copies what the relay sends to the endpoint, and notes which peers it comes from, until the relay ends the connection.
///
/// # Errors
/// When either side is gone, or a frame is too long.
pub(super) async fn copy_noting(
    relay: &mut (impl AsyncRead + Unpin),
    client: &mut (impl AsyncWrite + Unpin),
    direct: &DirectPeers,
) -> io::Result<()> {
    let note = |frame: RelayFrame, read: &[u8]| {
        if let Some(peer) = frame.source(read) {
            direct.note_relayed(&peer, Instant::now());
        }
        true
    };
    copy_frames(relay, client, note).await
}

/// Copies the HTTP head and the frames that are wanted, until the sender ends the connection.
async fn copy_frames(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    wanted: impl Fn(RelayFrame, &[u8]) -> bool,
) -> io::Result<()> {
    let (mut read, mut copied) = (BytesMut::new(), Vec::new());
    let mut head_matched = 0;
    loop {
        read.reserve(READ_BYTES);
        if from.read_buf(&mut read).await? == 0 {
            return to.shutdown().await;
        }
        if head_matched < END_OF_HEAD.len() {
            let head = head_bytes(&read, &mut head_matched);
            copied.extend_from_slice(&read[..head]);
            read.advance(head);
        }
        while head_matched == END_OF_HEAD.len()
            && let Some(frame) = RelayFrame::first(&read)?
        {
            if wanted(frame, &read) {
                copied.extend_from_slice(&read[..frame.bytes]);
            }
            read.advance(frame.bytes);
        }
        to.write_all(&copied).await?;
        copied.clear();
    }
}

/// Number of bytes that belong to the HTTP request; `matched` is how much of its end came before.
fn head_bytes(read: &[u8], matched: &mut usize) -> usize {
    for (index, byte) in read.iter().enumerate() {
        *matched = if *byte == END_OF_HEAD[*matched] { *matched + 1 } else { usize::from(*byte == END_OF_HEAD[0]) };
        if *matched == END_OF_HEAD.len() {
            return index + 1;
        }
    }
    read.len()
}

/// A whole frame (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RelayFrame {
    /// Where the mask begins, which the payload follows; the relay's frames have none.
    mask: usize,
    /// Length of the frame.
    bytes: usize,
}

impl RelayFrame {
    /// The frame at the start, if it has arrived whole.
    fn first(read: &[u8]) -> io::Result<Option<Self>> {
        let Some(short) = read.get(1).map(|byte| byte & 0x7f) else { return Ok(None) };
        let (mask, length) = match short {
            126 => match read.get(2..4).and_then(|raw| raw.try_into().ok()) {
                Some(raw) => (4, usize::from(u16::from_be_bytes(raw))),
                None => return Ok(None),
            },
            127 => match read.get(2..10).and_then(|raw| raw.try_into().ok()) {
                Some(raw) => (10, usize::try_from(u64::from_be_bytes(raw)).unwrap_or(usize::MAX)),
                None => return Ok(None),
            },
            short => (2, usize::from(short)),
        };
        let mask_bytes = if read[1] & 0x80 == 0 { 0 } else { 4 };
        if length > FRAME_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let bytes = mask + mask_bytes + length;
        Ok((bytes <= read.len()).then_some(Self { mask, bytes }))
    }

    /// The peer that a client's frame carries datagrams to.
    fn destination(self, read: &[u8]) -> Option<PeerId> {
        let masked = read[0] == BINARY && read[1] & 0x80 != 0;
        let (mask, payload) = read[self.mask..self.bytes].split_first_chunk::<4>().filter(|_| masked)?;
        let mut start: [u8; 33] = *payload.first_chunk()?;
        start.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        peer_of(start, DATAGRAMS_TO)
    }

    /// The peer that a relay's frame carries datagrams from.
    fn source(self, read: &[u8]) -> Option<PeerId> {
        let plain = read[0] == BINARY && read[1] & 0x80 == 0;
        let start = read[self.mask..self.bytes].first_chunk().filter(|_| plain)?;
        peer_of(*start, DATAGRAMS_FROM)
    }
}

/// The peer of a message of one of these kinds, from its first bytes.
fn peer_of(start: [u8; 33], kinds: [u8; 2]) -> Option<PeerId> {
    let (kind, peer) = start.split_first()?;
    kinds.contains(kind).then(|| peer.try_into().ok().map(PeerId::from_bytes))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{DuplexStream, duplex};

    const NEAR: PeerId = PeerId::from_bytes([1; 32]);
    const FAR: PeerId = PeerId::from_bytes([2; 32]);
    const HEAD: &[u8] = b"GET /relay HTTP/1.1\r\nHost: x\r\n\r\n";

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 0, 255, 90];
        let mut raw = vec![first];
        match u8::try_from(payload.len()) {
            Ok(short @ ..126) => raw.push(0x80 | short),
            Ok(_) | Err(_) => {
                raw.push(0x80 | 126);
                raw.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
            }
        }
        raw.extend(mask);
        raw.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        raw
    }

    fn datagram(peer: PeerId, bytes: usize) -> Vec<u8> {
        frame(BINARY, &[&[4], peer.as_bytes().as_slice(), &[0], &vec![9; bytes]].concat())
    }

    /// What reaches the relay when the client sends this in pieces.
    fn copied(sent: &[u8], piece: usize, direct: &DirectPeers) -> io::Result<Vec<u8>> {
        passed(sent, piece, async |client, relay| copy_needed(client, relay, direct).await)
    }

    /// What passes when this is sent in pieces.
    fn passed(
        sent: &[u8],
        piece: usize,
        copy: impl AsyncFnOnce(&mut DuplexStream, &mut DuplexStream) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (mut sender, mut inside) = duplex(piece);
            let (mut outside, mut receiver) = duplex(1 << 20);
            let mut received = Vec::new();
            let (copied, _, _) = tokio::join!(
                async {
                    let copied = copy(&mut inside, &mut outside).await;
                    drop((inside, outside));
                    copied
                },
                async {
                    let _ = sender.write_all(sent).await;
                    drop(sender);
                },
                receiver.read_to_end(&mut received),
            );
            copied.map(|()| received)
        })
    }

    #[test]
    fn datagrams_to_peers_that_are_connected_directly_are_dropped() {
        let direct = Arc::new(DirectPeers::default());
        let path = direct.enter(NEAR);
        let (one, two) = (datagram(FAR, 40), datagram(FAR, 1_200));
        let pong = frame(BINARY, &[10, 1, 2, 3, 4, 5, 6, 7, 8]);
        let sent = [HEAD, &one, &datagram(NEAR, 40), &pong, &datagram(NEAR, 1_200), &two].concat();
        let needed = [HEAD, &one, &pong, &two].concat();
        for piece in [1, 7, 100, 4_000] {
            assert_eq!(copied(&sent, piece, &direct).expect("copies"), needed, "pieces of {piece}");
        }
        drop(path);
        assert_eq!(copied(&sent, 100, &direct).expect("copies"), sent, "the direct path is over");
    }

    #[test]
    fn peer_is_direct_until_its_last_connection_ends() {
        let direct = Arc::new(DirectPeers::default());
        let (before, after) = (direct.enter(NEAR), direct.enter(NEAR));
        drop(before);
        let now = Instant::now();
        assert!(direct.drops(&NEAR, now) && !direct.drops(&FAR, now));
        drop(after);
        assert!(!direct.drops(&NEAR, now) && direct.lock().is_empty());
    }

    /// What reaches the client when the relay sends this in pieces.
    fn received(sent: &[u8], piece: usize, direct: &DirectPeers) -> io::Result<Vec<u8>> {
        passed(sent, piece, async |relay, client| copy_noting(relay, client, direct).await)
    }

    #[test]
    fn peer_that_calls_through_the_relay_is_answered_for_a_while() {
        let direct = Arc::new(DirectPeers::default());
        let _path = direct.enter(NEAR);
        let begun = Instant::now();
        let from = |peer: PeerId, bytes: usize| {
            let payload = [&[6], peer.as_bytes().as_slice(), &[0], &vec![9; bytes]].concat();
            let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
            [&[BINARY, 126], length.as_slice(), &payload].concat()
        };
        let head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let sent = [head.as_slice(), &from(FAR, 200), &[BINARY, 1, 9]].concat();
        for piece in [1, 100, 4_000] {
            assert_eq!(received(&sent, piece, &direct).expect("copies"), sent, "pieces of {piece}");
        }
        assert!(direct.drops(&NEAR, Instant::now()) && !direct.drops(&FAR, Instant::now()));
        let sent = [head.as_slice(), &from(NEAR, 1_200)].concat();
        assert_eq!(received(&sent, 100, &direct).expect("copies"), sent);
        assert!(!direct.drops(&NEAR, begun + ANSWERED_FOR), "it is answered");
        assert!(direct.drops(&NEAR, Instant::now() + ANSWERED_FOR), "not for ever");
    }

    #[test]
    fn frame_that_is_too_long_ends_the_connection() {
        let long = [HEAD, &[BINARY, 0xff], &u64::MAX.to_be_bytes()].concat();
        assert!(copied(&long, 4_000, &DirectPeers::default()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(mut raw: Vec<u8>) {
            raw.splice(0..0, HEAD.iter().copied());
            let direct = Arc::new(DirectPeers::default());
            let _path = direct.enter(NEAR);
            let _ = copied(&raw, 64, &direct);
            let _ = received(&raw, 64, &direct);
        }
    }
}
