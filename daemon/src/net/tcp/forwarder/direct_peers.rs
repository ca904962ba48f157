//! The peers that are connected directly: nothing is relayed to them.
//!
//! iroh keeps a path through the relay open beside each direct one and pings it every few seconds. In a room of N these are
//! N² pings through the machine that relays, and none of them is needed: a connection whose direct path dies is made anew
//! through the relay. The forwarder therefore drops what the endpoint sends to the relay for a peer that is connected
//! directly. Both ends then close the relayed path after its idle timeout of 30 s, and the relay carries nothing more.
//!
//! The task of a connection enters its peer once the direct path has lasted ([`DirectPeers::enter`]); the entry ends with
//! the path or the connection.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
const DATAGRAMS: [u8; 2] = [4, 5];

/// The peers that are connected directly, each with its number of connections: two while one replaces another.
#[derive(Debug, Default)]
pub(crate) struct DirectPeers(Mutex<HashMap<PeerId, usize>>);

/// A direct path to a peer; dropped, it is over.
#[derive(Debug)]
pub(crate) struct DirectPath {
    peers: Arc<DirectPeers>,
    peer: PeerId,
}

impl DirectPeers {
    /// Nothing is relayed to the peer until the result is dropped.
    pub(crate) fn enter(self: &Arc<Self>, peer: PeerId) -> DirectPath {
        *self.lock().entry(peer).or_default() += 1;
        DirectPath { peers: self.clone(), peer }
    }

    fn contains(&self, peer: &PeerId) -> bool {
        self.lock().contains_key(peer)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DirectPath {
    fn drop(&mut self) {
        let mut peers = self.peers.lock();
        if let Some(paths) = peers.get_mut(&self.peer) {
            *paths -= 1;
            if *paths == 0 {
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
    let (mut read, mut needed) = (BytesMut::new(), Vec::new());
    let mut head_matched = 0;
    loop {
        read.reserve(READ_BYTES);
        if client.read_buf(&mut read).await? == 0 {
            return relay.shutdown().await;
        }
        if head_matched < END_OF_HEAD.len() {
            let head = head_bytes(&read, &mut head_matched);
            needed.extend_from_slice(&read[..head]);
            read.advance(head);
        }
        while head_matched == END_OF_HEAD.len()
            && let Some(frame) = RelayFrame::first(&read)?
        {
            if !frame.destination(&read).is_some_and(|peer| direct.contains(&peer)) {
                needed.extend_from_slice(&read[..frame.bytes]);
            }
            read.advance(frame.bytes);
        }
        relay.write_all(&needed).await?;
        needed.clear();
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

/// A whole frame of a client (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RelayFrame {
    /// Where the mask begins, which the payload follows.
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

    /// The peer that a frame carries datagrams to.
    fn destination(self, read: &[u8]) -> Option<PeerId> {
        let masked = read[0] == BINARY && read[1] & 0x80 != 0;
        let (mask, payload) = read[self.mask..self.bytes].split_first_chunk::<4>().filter(|_| masked)?;
        let mut start: [u8; 33] = *payload.first_chunk()?;
        start.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let (kind, peer) = start.split_first()?;
        DATAGRAMS.contains(kind).then(|| peer.try_into().ok().map(PeerId::from_bytes))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::duplex;

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
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (mut client, mut inside) = duplex(piece);
            let (mut outside, mut relay) = duplex(1 << 20);
            let mut received = Vec::new();
            let (copied, _, _) = tokio::join!(
                async {
                    let copied = copy_needed(&mut inside, &mut outside, direct).await;
                    drop((inside, outside));
                    copied
                },
                async {
                    let _ = client.write_all(sent).await;
                    drop(client);
                },
                relay.read_to_end(&mut received),
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
        assert!(direct.contains(&NEAR) && !direct.contains(&FAR));
        drop(after);
        assert!(!direct.contains(&NEAR) && direct.lock().is_empty());
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
        }
    }
}
