//! Asks to be let into a room: the newcomer's end of the admission protocol.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use chat_core::admission::codec::{
    ADMISSION_ALPN, AdmissionAnswer, AdmissionRequest, Admitted, DenyReason, Reveal, commitment, ticket_request, words,
};
use chat_proto::id::{PeerId, RoomId};
use chat_proto::ticket::Ticket;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use n0_future::{FuturesUnordered, StreamExt};
use tokio::time::timeout;
use tracing::debug;

use crate::net::admission::codec::{MessageError, read_message, write_message};
use crate::net::admission::target::JoinTarget;
use crate::net::context::{Shared, endpoint_id};
use crate::net::tcp::hello::{self, HelloError};
use crate::net::tcp::services;
use crate::net::transport::close::CloseCode;
use crate::net::transport::path::seen_at;

/// Most addresses of one host name that are tried.
const HOST_ADDRS_MAX: usize = 8;

/// How long a connection to a member may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long it may take to find out whether TCP passes where UDP does not.
const ASK_MAX: Duration = Duration::from_secs(2);

/// How long a member may take to answer, other than by letting us wait for a person.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long a person may take to answer; the member gives up a little earlier and says so.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60 + 15);

/// This peer was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What a new member needs to begin; address records that their peers did not sign are left out.
    pub admitted: Admitted,
    /// The member that let us in.
    pub door: PeerId,
}

/// Why this peer was not let in. Nothing was changed here; each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The host's name has no address.
    #[error("the host '{host}' is not known: check its spelling, or give its IP address")]
    UnknownHost {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// Nobody answered.
    #[error(
        "nobody could be reached at {tried}: check that chatd runs there and that UDP and TCP pass, then try again"
    )]
    Unreachable {
        /// Where it was tried.
        tried: String,
    },
    /// Somebody answered over TCP, and UDP does not pass.
    #[error(
        "{tried} answers over TCP and not over UDP, which joining takes: let UDP pass to that port, here and there, or join from another network"
    )]
    NoUdp {
        /// Where it was tried.
        tried: String,
    },
    /// Somebody answered who does not speak this protocol.
    #[error("what listens at {tried} is not a chatd that this one understands: check the port, or update")]
    NotChatd {
        /// Where it was tried.
        tried: String,
    },
    /// The peer there is in no room yet.
    #[error("the chatd at {tried} is in no room: start a room there first")]
    NoRoom {
        /// Where it was tried.
        tried: String,
    },
    /// The address leads back here.
    #[error("{tried} is this peer itself: give the address of another one")]
    Itself {
        /// Where it was tried.
        tried: String,
    },
    /// A member said no.
    #[error(transparent)]
    Denied(#[from] DenyReason),
    /// A member was reached, and its answer did not come in time.
    #[error("{tried} was reached and did not answer in time: try again")]
    TimedOut {
        /// Where it was tried.
        tried: String,
    },
    /// A member was reached, and the connection broke before its answer.
    #[error("the connection to {tried} broke before the answer: try again")]
    Broken {
        /// Where it was tried.
        tried: String,
    },
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Why one conversation did not end with being let in.
#[derive(Debug)]
enum TalkError {
    Denied(DenyReason),
    NotUnderstood,
    TimedOut,
    Broken,
}

/// Called with the words when a person has to answer.
pub(crate) type OnWords<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Asks whom the target names.
pub(crate) async fn join(
    shared: &Shared,
    target: &JoinTarget,
    name: &str,
    on_words: OnWords<'_>,
) -> Result<Joined, JoinError> {
    let joined = tokio::select! {
        joined = async {
            match target {
                JoinTarget::Ticket(ticket) => show_ticket(shared, ticket, name).await,
                JoinTarget::Address { host, port } => knock(shared, host, *port, name, on_words).await,
            }
        } => joined?,
        () = shared.token.cancelled() => return Err(JoinError::Stopping),
    };
    shared.gate.open_door(joined.door);
    Ok(joined)
}

/// Dials everybody on the ticket at once and asks one after the other, in the order in which they are reached, until one
/// lets us in: asking all at once would make each of them write an admission.
async fn show_ticket(shared: &Shared, ticket: &Ticket, name: &str) -> Result<Joined, JoinError> {
    let others: Vec<_> = ticket.peers.iter().filter(|peer| peer.peer != shared.me).collect();
    let tried = || list(others.iter().flat_map(|peer| &peer.addrs));
    let mut dials: FuturesUnordered<_> =
        others.iter().map(|peer| async move { (peer, dial(shared, &peer.peer, &peer.addrs).await) }).collect();
    let mut failure = JoinError::Unreachable { tried: tried() };
    let mut reached = VecDeque::new();
    loop {
        let (peer, connection) = match reached.pop_front() {
            Some(next) => next,
            None => match dials.next().await {
                Some((peer, Some(connection))) => (peer, connection),
                Some((_, None)) => continue,
                None if matches!(failure, JoinError::Unreachable { .. }) => {
                    let addrs = others.iter().flat_map(|peer| peer.addrs.iter().map(|addr| (peer.peer, *addr)));
                    let answers = answering(addrs.collect()).await;
                    return Err(answers.map_or(failure, |addr| JoinError::NoUdp { tried: addr.to_string() }));
                }
                None => return Err(failure),
            },
        };
        let talk = Talk { shared, connection, member: peer.peer };
        let mut asked = pin!(talk.with_ticket(ticket, name));
        let answer = loop {
            tokio::select! {
                answer = &mut asked => break answer,
                // The other dials go on meanwhile.
                Some((peer, connection)) = dials.next() => reached.extend(connection.map(|made| (peer, made))),
            }
        };
        match answer {
            Ok(admitted) => {
                return Ok(Joined { admitted, door: peer.peer });
            }
            Err(error) => {
                debug!(member = %peer.peer.short(), ?error, "not let in");
                failure = worst(failure, error, &list(&peer.addrs));
            }
        }
    }
}

/// What a person can act on best: a member's reason before a broken connection before silence.
fn worst(before: JoinError, error: TalkError, tried: &str) -> JoinError {
    if matches!(before, JoinError::Denied(_)) { before } else { error.at(tried) }
}

async fn knock(shared: &Shared, host: &str, port: u16, name: &str, on_words: OnWords<'_>) -> Result<Joined, JoinError> {
    let (addr, member) = find(shared, host, port).await?;
    let tried = addr.to_string();
    // It has just answered over TCP.
    let connection = dial(shared, &member, &[addr]).await.ok_or_else(|| JoinError::NoUdp { tried: tried.clone() })?;
    let talk = Talk { shared, connection, member };
    let admitted = talk.by_knocking(name, on_words).await.map_err(|error| error.at(&tried))?;
    Ok(Joined { admitted, door: member })
}

/// Finds out who listens at a host: at all its addresses at once, the first answer counts.
async fn find(shared: &Shared, host: &str, port: u16) -> Result<(SocketAddr, PeerId), JoinError> {
    let unknown = |source| JoinError::UnknownHost { host: host.to_owned(), source };
    let addrs: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(unknown)?.take(HOST_ADDRS_MAX).collect();
    let tried = list(&addrs);
    let mut asked: FuturesUnordered<_> = addrs.iter().map(|addr| async { (*addr, hello::ask(*addr).await) }).collect();
    let mut failure = JoinError::Unreachable { tried };
    while let Some((addr, answer)) = asked.next().await {
        let tried = addr.to_string();
        failure = match answer {
            Ok(hello) if hello.peer == shared.me => JoinError::Itself { tried },
            Ok(hello) if hello.room.is_none() => JoinError::NoRoom { tried },
            Ok(hello) => return Ok((addr, hello.peer)),
            Err(HelloError::NotChatd) => JoinError::NotChatd { tried },
            Err(HelloError::Unreachable) => continue,
        };
    }
    Err(failure)
}

/// Where one of these members answers over TCP, if one does soon.
async fn answering(addrs: Vec<(PeerId, SocketAddr)>) -> Option<SocketAddr> {
    let ask = |(member, addr)| async move { hello::is_at(&member, addr).await.then_some(addr) };
    services::first_ok(addrs.into_iter().map(ask), ASK_MAX).await
}

async fn dial(shared: &Shared, member: &PeerId, addrs: &[SocketAddr]) -> Option<Connection> {
    let addr = shared.endpoint_addr(endpoint_id(member)?, addrs);
    match timeout(CONNECT_MAX, shared.endpoint.connect(addr, ADMISSION_ALPN)).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            debug!(member = %member.short(), %error, "not reached");
            None
        }
        Err(_) => None,
    }
}

fn list<'a>(addrs: impl IntoIterator<Item = &'a SocketAddr>) -> String {
    let mut text = String::new();
    for addr in addrs {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{addr}");
    }
    if text.is_empty() { "any address".to_owned() } else { text }
}

impl TalkError {
    fn at(self, tried: &str) -> JoinError {
        let tried = tried.to_owned();
        match self {
            Self::Denied(reason) => JoinError::Denied(reason),
            Self::NotUnderstood => JoinError::NotChatd { tried },
            Self::TimedOut => JoinError::TimedOut { tried },
            Self::Broken => JoinError::Broken { tried },
        }
    }
}

/// A conversation with one member.
struct Talk<'a> {
    shared: &'a Shared,
    connection: Connection,
    member: PeerId,
}

impl Talk<'_> {
    async fn with_ticket(&self, ticket: &Ticket, name: &str) -> Result<Admitted, TalkError> {
        let (mut send, mut recv) = self.open().await?;
        self.say(&mut send, &ticket_request(ticket, &self.shared.me, name)).await?;
        loop {
            match self.hear(&mut recv, ANSWER_MAX).await? {
                AdmissionAnswer::Waiting => {}
                AdmissionAnswer::Challenge { .. } => return Err(TalkError::NotUnderstood),
                AdmissionAnswer::Admitted(admitted) => return self.admitted(admitted, ticket.room),
                AdmissionAnswer::Denied(reason) => return Err(TalkError::Denied(reason)),
            }
        }
    }

    async fn by_knocking(&self, name: &str, on_words: OnWords<'_>) -> Result<Admitted, TalkError> {
        let (mut send, mut recv) = self.open().await?;
        let own: [u8; 32] = rand::random();
        let request = AdmissionRequest::Knock { name: name.to_owned(), commitment: commitment(&own) };
        self.say(&mut send, &request).await?;
        let (nonce, room) = match self.hear(&mut recv, ANSWER_MAX).await? {
            AdmissionAnswer::Challenge { nonce, room } => (nonce, room),
            AdmissionAnswer::Denied(reason) => return Err(TalkError::Denied(reason)),
            AdmissionAnswer::Waiting | AdmissionAnswer::Admitted(_) => return Err(TalkError::NotUnderstood),
        };
        self.say(&mut send, &Reveal { nonce: own }).await?;
        let mut patience = ANSWER_MAX;
        loop {
            match self.hear(&mut recv, patience).await? {
                AdmissionAnswer::Waiting => {
                    patience = WAIT_MAX;
                    on_words(&words(&room, &self.shared.me, &self.member, &own, &nonce));
                }
                AdmissionAnswer::Challenge { .. } => return Err(TalkError::NotUnderstood),
                AdmissionAnswer::Admitted(admitted) => return self.admitted(admitted, room),
                AdmissionAnswer::Denied(reason) => return Err(TalkError::Denied(reason)),
            }
        }
    }

    /// Takes over what the member says, within bounds, and remembers where it was reached: it may not know that address
    /// itself.
    fn admitted(&self, mut admitted: Admitted, room: RoomId) -> Result<Admitted, TalkError> {
        if admitted.room != room {
            return Err(TalkError::Denied(DenyReason::OtherRoom));
        }
        if let Some(addr) = seen_at(&self.connection) {
            self.shared.book.note(self.member, addr);
        }
        admitted.members.truncate(Admitted::MEMBERS_MAX);
        admitted.members.retain(chat_core::peers::addrs::AddrRecord::verify);
        Ok(admitted)
    }

    async fn open(&self) -> Result<(SendStream, RecvStream), TalkError> {
        self.connection.open_bi().await.map_err(|_| self.broken())
    }

    async fn say(&self, send: &mut SendStream, message: &impl serde::Serialize) -> Result<(), TalkError> {
        write_message(send, message).await.map_err(|_| self.broken())
    }

    async fn hear(&self, recv: &mut RecvStream, patience: Duration) -> Result<AdmissionAnswer, TalkError> {
        match timeout(patience, read_message(recv)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(MessageError::Stream(_))) => Err(self.broken()),
            Ok(Err(MessageError::TooLong(_) | MessageError::Malformed)) => Err(TalkError::NotUnderstood),
            Err(_) => Err(TalkError::TimedOut),
        }
    }

    fn broken(&self) -> TalkError {
        match self.connection.close_reason() {
            Some(error) if CloseCode::Busy.was_given(&error) => TalkError::Denied(DenyReason::Busy),
            Some(error) if CloseCode::Protocol.was_given(&error) => TalkError::NotUnderstood,
            Some(_) | None => TalkError::Broken,
        }
    }
}

impl Drop for Talk<'_> {
    fn drop(&mut self) {
        self.connection.close(CloseCode::Done.var_int(), b"");
    }
}
