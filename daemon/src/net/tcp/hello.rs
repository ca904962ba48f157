//! The hello on the TCP port: names the peer and its room to a newcomer that knows only an address.
//!
//! The newcomer sends one line, `CHATD HELLO 1`, and receives one line of JSON. The answer is trusted on first use: the
//! connection that follows is made to the endpoint id in it, and the words of the knock reveal a peer in between. A probe
//! of the rendezvous role is a hello, too.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::api::status::RoomRef;
use chat_proto::id::PeerId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::net::context::NetContext;
use crate::net::tcp::services::HELLO_LINE;

/// Version of the hello.
const VERSION: u32 = 1;

/// Maximum length of an answer: a room's name and two ids take a tenth of it.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// Timeout for one side to send its line.
pub(crate) const LINE_MAX: Duration = Duration::from_secs(2);

/// Timeout for the TCP connection of a newcomer.
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Always [`VERSION`].
    pub(crate) chatd: u32,
    /// The peer that listens.
    pub(crate) peer: PeerId,
    /// Its room, if it is in one.
    pub(crate) room: Option<RoomRef>,
}

/// Why an address gave no hello.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    /// No process listens, or the packets do not pass.
    #[error("no answer")]
    Unreachable,
    /// Something else listens.
    #[error("what answers is not a chatd")]
    NotChatd,
}

/// Answers a hello.
pub(crate) async fn answer(ctx: &NetContext, stream: &mut TcpStream) -> io::Result<()> {
    let roster = ctx.gate.roster();
    let room = roster.room.map(|id| RoomRef { id, name: roster.room_name.clone(), open: roster.open });
    let mut line = serde_json::to_vec(&Hello { chatd: VERSION, peer: ctx.me, room })?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}

/// Asks which peer listens at an address.
pub(crate) async fn ask(addr: SocketAddr) -> Result<Hello, HelloError> {
    let connect = timeout(CONNECT_MAX, TcpStream::connect(addr)).await;
    let mut stream = connect.ok().and_then(Result::ok).ok_or(HelloError::Unreachable)?;
    let talk = async {
        stream.write_all(HELLO_LINE).await?;
        read_line(&mut stream, ANSWER_BYTES_MAX).await
    };
    let (line, _) = timeout(LINE_MAX, talk).await.ok().and_then(Result::ok).ok_or(HelloError::NotChatd)?;
    let hello: Hello = serde_json::from_slice(&line).map_err(|_| HelloError::NotChatd)?;
    if hello.chatd == VERSION { Ok(hello) } else { Err(HelloError::NotChatd) }
}

/// Whether `peer` listens at an address.
pub(crate) async fn is_at(peer: &PeerId, addr: SocketAddr) -> bool {
    ask(addr).await.is_ok_and(|hello| hello.peer == *peer)
}

/// Reads up to the first line feed: the line without it, and what came after it.
pub(crate) async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut line = Vec::new();
    loop {
        let mut piece = [0; 128];
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = piece[..read].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&piece[..end.unwrap_or(read)]);
        if line.len() > bytes_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(end) = end {
            return Ok((line, piece[end + 1..read].to_vec()));
        }
    }
}
