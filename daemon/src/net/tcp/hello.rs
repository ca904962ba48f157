//! The hello on the TCP port: tells a newcomer who knows nothing but an address which peer and room it found.
//!
//! The newcomer sends one line, `CHATD HELLO 1`, and gets one line of JSON. What it says is trusted on first use: the
//! connection that follows is made to the endpoint id it names, and the words of the knock show whether somebody stood
//! between. Other services on this port are told apart by their first line.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat_proto::api::status::RoomRef;
use chat_proto::id::PeerId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{Instrument, debug, info_span};

use crate::net::context::Shared;
use crate::net::tcp::role_services;
use crate::net::tcp::services::{HELLO_LINE, Service};

/// Version of the hello.
const VERSION: u32 = 1;

/// Longest first line: the services on this port name themselves in less.
const LINE_BYTES_MAX: usize = 128;

/// Longest answer a newcomer reads: a room's name and two ids take a tenth of it.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// How long one side may take to say its line.
const LINE_MAX: Duration = Duration::from_secs(2);

/// How long a newcomer waits for the TCP connection.
const CONNECT_MAX: Duration = Duration::from_secs(4);

/// Most hellos at a time; further connections are closed at once.
const HELLOS_MAX: usize = 64;

/// Most hellos at a time from one address, so that one machine cannot keep out the others.
const HELLOS_PER_IP_MAX: usize = 16;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Always [`VERSION`].
    pub(crate) chatd: u32,
    /// Who listens.
    pub(crate) peer: PeerId,
    /// Its room; none while it is in none.
    pub(crate) room: Option<RoomRef>,
}

/// Why no hello came from an address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    /// Nobody listens, or the packets do not pass.
    #[error("nobody answers")]
    Unreachable,
    /// Something else listens.
    #[error("no chatd answers")]
    NotChatd,
}

/// Answers until the daemon stops.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let callers = Arc::new(Callers::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.token.cancelled() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, most likely: without a pause this would spin.
                debug!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(guard) = callers.enter(from.ip().to_canonical()) else { continue };
        let span = info_span!("hello", me = %shared.me.short());
        let task_shared = shared.clone();
        let task = async move {
            let served = tokio::select! {
                served = dispatch(&task_shared, stream, guard) => served,
                () = task_shared.token.cancelled() => Ok(()),
            };
            if let Err(error) = served {
                debug!(%error, "hello failed");
            }
        };
        shared.tracker.spawn(task.instrument(span));
    }
}

/// Reads the first line and serves whom it names. Services that last have their own bounds.
async fn dispatch(shared: &Shared, mut stream: TcpStream, caller: Caller) -> io::Result<()> {
    let (line, rest) = timeout(LINE_MAX, read_line(&mut stream, LINE_BYTES_MAX)).await??;
    match Service::named(&line) {
        Some(Service::Hello) => timeout(LINE_MAX, answer(shared, &mut stream)).await?,
        Some(Service::Relay) => {
            drop(caller);
            role_services::serve_relay(shared, stream, &rest).await
        }
        Some(Service::Watch) => {
            drop(caller);
            role_services::serve_watch(shared, stream).await;
            Ok(())
        }
        None => Ok(()),
    }
}

async fn answer(shared: &Shared, stream: &mut TcpStream) -> io::Result<()> {
    let roster = shared.gate.roster();
    let room = roster.room.map(|id| RoomRef { id, name: roster.room_name.clone(), open: roster.open });
    let mut line = serde_json::to_vec(&Hello { chatd: VERSION, peer: shared.me, room })?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}

/// Asks who listens at an address.
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

/// Whether `peer` is who listens at an address.
pub(crate) async fn is_at(peer: &PeerId, addr: SocketAddr) -> bool {
    ask(addr).await.is_ok_and(|hello| hello.peer == *peer)
}

/// Reads up to the first line feed: the line without it, and what came after it.
async fn read_line(stream: &mut TcpStream, bytes_max: usize) -> io::Result<(Vec<u8>, Vec<u8>)> {
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

/// Who is being answered.
#[derive(Debug, Default)]
struct Callers(Mutex<HashMap<IpAddr, usize>>);

/// One caller's place; dropped, it is free again.
#[derive(Debug)]
struct Caller {
    callers: Arc<Callers>,
    ip: IpAddr,
}

impl Callers {
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Caller> {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = callers.values().sum();
        let own = callers.entry(ip).or_default();
        if all >= HELLOS_MAX || *own >= HELLOS_PER_IP_MAX {
            callers.retain(|_, count| *count > 0);
            return None;
        }
        *own += 1;
        Some(Caller { callers: self.clone(), ip })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut callers = self.callers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = callers.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                callers.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_one_address_and_for_all() {
        let callers = Arc::new(Callers::default());
        let ip = |n: usize| IpAddr::from([192, 0, 2, u8::try_from(n).expect("a byte")]);
        let of_one: Vec<_> = (0..HELLOS_PER_IP_MAX + 1).filter_map(|_| callers.enter(ip(0))).collect();
        assert_eq!(of_one.len(), HELLOS_PER_IP_MAX);
        let of_others: Vec<_> = (1..=HELLOS_MAX).filter_map(|n| callers.enter(ip(n))).collect();
        assert_eq!(of_one.len() + of_others.len(), HELLOS_MAX);
        drop((of_one, of_others));
        assert!(callers.0.lock().expect("not poisoned").is_empty(), "free places leave nothing behind");
        assert!(callers.enter(ip(0)).is_some());
    }
}
