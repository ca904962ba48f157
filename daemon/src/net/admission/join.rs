//! The newcomer's end of the admission protocol: asks to join a room.
//!
//! Called by [`Net::join`](crate::net::Net::join). A newcomer reaches a member over QUIC or, where no UDP passes, over TCP.
//! With a ticket, all members on it are dialled at once and asked one after the other. With an address, the hello on TCP
//! names the peer that listens there, and this peer knocks: both ends show the same words, and a person at the other end
//! decides. The words reveal a peer in between.
//!
//! Invariants: nothing is changed here before a member admits this peer; then the gate trusts that member until the log
//! arrives. Each step has a deadline. Of several failures the most useful one is reported: a member's reason before a
//! broken connection before silence.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use chat_core::admission::codec::{
    ADMISSION_ALPN, AdmissionAnswer, AdmissionRequest, Admitted, DenyReason, Reveal, commitment, ticket_request, words,
};
use chat_proto::PEER_PORT;
use chat_proto::id::{PeerId, RoomId};
use chat_proto::ticket::Ticket;
use iroh::Endpoint;
use iroh::endpoint::Connection;
use n0_future::{FuturesUnordered, StreamExt};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::net::admission::codec::{MessageError, read_message, write_message};
use crate::net::admission::link::{AdmissionLink, AnswerReceiver, AnswerSender};
use crate::net::admission::sealed::{SealedLink, SealedStream};
use crate::net::admission::target::{JoinTarget, is_host};
use crate::net::context::NetContext;
use crate::net::discovery::address_book::AddressBook;
use crate::net::tcp::hello::{self, HelloError};
use crate::net::tcp::services;
use crate::net::transport::close::CloseCode;
use crate::net::transport::framing::FramingError;

/// Maximum number of addresses tried for one host name.
const HOST_ADDRS_MAX: usize = 8;

/// Timeout for a connection to a member.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a member is tried over UDP alone.
const UDP_AHEAD: Duration = Duration::from_millis(300);

/// Timeout for finding out whether TCP passes where UDP does not.
const ASK_MAX: Duration = Duration::from_secs(2);

/// Timeout for a member's answer, while no person has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Timeout for a person's answer; the member gives up a little earlier and reports it.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60 + 15);

/// This peer was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedRoom {
    /// What a new member needs to start; address records with a wrong signature are left out.
    pub admitted: Admitted,
    /// The member that admitted us.
    pub door: PeerId,
}

/// Why this peer was not admitted. Nothing was changed here; each variant names what to do next.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No room on the local network has that name.
    #[error(
        "no room called '{name}' was found on the local network: check its spelling, or give a ticket or an address"
    )]
    UnknownRoom {
        /// The name.
        name: String,
    },
    /// Several rooms on the local network have that name.
    #[error("several rooms on the local network are called '{name}': give the address of a member, one of {addrs}")]
    SeveralRooms {
        /// The name.
        name: String,
        /// An address of each.
        addrs: String,
    },
    /// The host's name has no address.
    #[error(
        "'{host}' is neither a room on the local network nor a known host: check its spelling, or give an IP address"
    )]
    UnknownHost {
        /// The name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// No peer answered.
    #[error(
        "no peer could be reached at {tried}: check that chatd runs there and that firewalls allow UDP and TCP, then try again"
    )]
    Unreachable {
        /// The addresses tried.
        tried: String,
    },
    /// A peer answered over TCP that admits over UDP only, as version 0.1 does, and UDP does not pass.
    #[error(
        "{tried} answers over TCP, but admits over UDP only, which does not pass: update chatd there, or allow UDP to that port in the firewalls on both sides"
    )]
    NoUdp {
        /// The addresses tried.
        tried: String,
    },
    /// What answered does not speak this protocol.
    #[error("what listens at {tried} is not a compatible chatd: check the port, or update chatd")]
    NotChatd {
        /// The addresses tried.
        tried: String,
    },
    /// The peer there is not in a room yet.
    #[error("the chatd at {tried} is not in a room: start a room there first")]
    NoRoom {
        /// The addresses tried.
        tried: String,
    },
    /// The address leads back here.
    #[error("{tried} is this peer itself: give the address of another one")]
    Itself {
        /// The addresses tried.
        tried: String,
    },
    /// A member refused.
    #[error(transparent)]
    Denied(#[from] DenyReason),
    /// A member was reached, and its answer did not come in time.
    #[error("{tried} was reached and did not answer in time: try again")]
    TimedOut {
        /// The addresses tried.
        tried: String,
    },
    /// A member was reached, and the connection broke before its answer.
    #[error("the connection to {tried} broke before the answer: try again")]
    Broken {
        /// The addresses tried.
        tried: String,
    },
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Why one conversation did not end with an admission.
#[derive(Debug)]
enum ConversationError {
    Denied(DenyReason),
    NotUnderstood,
    TimedOut,
    Broken,
}

/// Called with the words when a person has to answer.
pub(crate) type OnWords<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// One attempt to join a room.
pub(crate) struct Joining<'a> {
    pub(crate) ctx: &'a NetContext,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) book: &'a AddressBook,
    /// The name that this peer asks for.
    pub(crate) name: &'a str,
    pub(crate) on_words: OnWords<'a>,
}

impl Joining<'_> {
    /// Asks the members that the target names.
    pub(crate) async fn join(&self, target: &JoinTarget) -> Result<JoinedRoom, JoinError> {
        let joined = tokio::select! {
            joined = async {
                match target {
                    JoinTarget::Ticket(ticket) => self.show_ticket(ticket).await,
                    JoinTarget::Address { host, port } => self.knock(resolve(host, *port).await?).await,
                    JoinTarget::Name(name) => self.knock(self.look_up(name).await?).await,
                }
            } => joined?,
            () = self.ctx.token.cancelled() => return Err(JoinError::Stopping),
        };
        self.ctx.gate.open_door(joined.door);
        Ok(joined)
    }

    /// Dials every peer on the ticket at once and asks one after the other, in the order in which they are reached, until
    /// one admits us: asking all at once would make each of them write an admission.
    async fn show_ticket(&self, ticket: &Ticket) -> Result<JoinedRoom, JoinError> {
        let others: Vec<_> = ticket.peers.iter().filter(|peer| peer.peer != self.ctx.me).collect();
        let tried = || list(others.iter().flat_map(|peer| &peer.addrs));
        let mut dials: FuturesUnordered<_> =
            others.iter().map(|peer| async move { (peer, self.reach(&peer.peer, &peer.addrs).await) }).collect();
        let mut failure = JoinError::Unreachable { tried: tried() };
        let mut reached = VecDeque::new();
        loop {
            let (peer, link) = match reached.pop_front() {
                Some(next) => next,
                None => match dials.next().await {
                    Some((peer, Some(link))) => (peer, link),
                    Some((_, None)) => continue,
                    None if matches!(failure, JoinError::Unreachable { .. }) => {
                        let addrs = others.iter().flat_map(|peer| peer.addrs.iter().map(|addr| (peer.peer, *addr)));
                        let answers = answering(addrs.collect()).await;
                        return Err(answers.map_or(failure, |addr| JoinError::NoUdp { tried: addr.to_string() }));
                    }
                    None => return Err(failure),
                },
            };
            let conversation = Conversation { joining: self, link, member: peer.peer };
            let mut asked = pin!(conversation.with_ticket(ticket));
            let answer = loop {
                tokio::select! {
                    answer = &mut asked => break answer,
                    // The other dials go on meanwhile.
                    Some((peer, link)) = dials.next() => reached.extend(link.map(|made| (peer, made))),
                }
            };
            match answer {
                Ok(admitted) => return Ok(JoinedRoom { admitted, door: peer.peer }),
                Err(error) => {
                    debug!(member = %peer.peer.short(), ?error, "not admitted");
                    failure = worst(failure, error, &list(&peer.addrs));
                }
            }
        }
    }

    async fn knock(&self, addrs: Vec<SocketAddr>) -> Result<JoinedRoom, JoinError> {
        let (addr, member) = self.find(addrs).await?;
        let tried = addr.to_string();
        // It has just answered over TCP.
        let reached = self.reach(&member, &[addr]).await;
        let link = reached.ok_or_else(|| JoinError::NoUdp { tried: tried.clone() })?;
        let conversation = Conversation { joining: self, link, member };
        let admitted = conversation.by_knocking().await.map_err(|error| error.at(&tried))?;
        Ok(JoinedRoom { admitted, door: member })
    }

    /// The addresses of a member of the room of that name on the local network, else of the host of that name.
    async fn look_up(&self, name: &str) -> Result<Vec<SocketAddr>, JoinError> {
        let rooms = self.book.nearby().find(name).await;
        match &rooms[..] {
            [] if is_host(name) => resolve(name, PEER_PORT).await,
            [] => Err(JoinError::UnknownRoom { name: name.to_owned() }),
            [room] => Ok(room.addrs.clone()),
            several => {
                let addrs = list(several.iter().filter_map(|room| room.addrs.first()));
                Err(JoinError::SeveralRooms { name: name.to_owned(), addrs })
            }
        }
    }

    /// Finds out which peer listens there: asks at all addresses at once and takes the first answer.
    async fn find(&self, addrs: Vec<SocketAddr>) -> Result<(SocketAddr, PeerId), JoinError> {
        let tried = list(&addrs);
        let mut asked: FuturesUnordered<_> =
            addrs.iter().map(|addr| async { (*addr, hello::ask(*addr).await) }).collect();
        let mut failure = JoinError::Unreachable { tried };
        while let Some((addr, answer)) = asked.next().await {
            let tried = addr.to_string();
            failure = match answer {
                Ok(hello) if hello.peer == self.ctx.me => JoinError::Itself { tried },
                Ok(hello) if hello.room.is_none() => JoinError::NoRoom { tried },
                Ok(hello) => return Ok((addr, hello.peer)),
                Err(HelloError::NotChatd) => JoinError::NotChatd { tried },
                Err(HelloError::Unreachable) => continue,
            };
        }
        Err(failure)
    }

    /// Connects to a member: over QUIC, and where that takes long, over TCP as well.
    async fn reach(&self, member: &PeerId, addrs: &[SocketAddr]) -> Option<AdmissionLink> {
        let mut udp = pin!(self.dial(member, addrs));
        let mut tcp = pin!(async {
            sleep(UDP_AHEAD).await;
            self.call(member, addrs).await
        });
        let first = async {
            tokio::select! {
                link = &mut udp => match link {
                    Some(connection) => Some(AdmissionLink::Quic(connection)),
                    None => tcp.await.map(AdmissionLink::Tcp),
                },
                link = &mut tcp => match link {
                    Some(link) => Some(AdmissionLink::Tcp(link)),
                    None => udp.await.map(AdmissionLink::Quic),
                },
            }
        };
        timeout(CONNECT_MAX, first).await.ok().flatten()
    }

    async fn dial(&self, member: &PeerId, addrs: &[SocketAddr]) -> Option<Connection> {
        let addr = self.book.endpoint_addr(member, addrs)?;
        match self.endpoint.connect(addr, ADMISSION_ALPN).await {
            Ok(connection) => Some(connection),
            Err(error) => {
                debug!(member = %member.short(), %error, "not reached over UDP");
                None
            }
        }
    }

    async fn call(&self, member: &PeerId, addrs: &[SocketAddr]) -> Option<SealedLink> {
        let me = self.endpoint.secret_key();
        let calls = addrs.iter().copied().map(|addr| async move {
            let opened = SealedStream::open(me, member, addr).await;
            opened.inspect_err(|error| debug!(member = %member.short(), %addr, %error, "not reached over TCP")).ok()
        });
        services::first_ok(calls, CONNECT_MAX).await?.start(self.ctx).ok()
    }
}

/// The addresses of a host.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, JoinError> {
    let unknown = |source| JoinError::UnknownHost { host: host.to_owned(), source };
    Ok(tokio::net::lookup_host((host, port)).await.map_err(unknown)?.take(HOST_ADDRS_MAX).collect())
}

/// The failure that a person can act on best: a member's reason before a broken connection before silence.
fn worst(before: JoinError, error: ConversationError, tried: &str) -> JoinError {
    if matches!(before, JoinError::Denied(_)) { before } else { error.at(tried) }
}

/// An address at which one of these members answers over TCP, if one does soon.
async fn answering(addrs: Vec<(PeerId, SocketAddr)>) -> Option<SocketAddr> {
    let ask = |(member, addr)| async move { hello::is_at(&member, addr).await.then_some(addr) };
    services::first_ok(addrs.into_iter().map(ask), ASK_MAX).await
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

impl ConversationError {
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
struct Conversation<'a> {
    joining: &'a Joining<'a>,
    link: AdmissionLink,
    member: PeerId,
}

impl Conversation<'_> {
    async fn with_ticket(&self, ticket: &Ticket) -> Result<Admitted, ConversationError> {
        let (mut send, mut recv) = self.open().await?;
        let request = ticket_request(ticket, &self.joining.ctx.me, self.joining.name);
        self.send(&mut send, &request).await?;
        loop {
            match self.receive(&mut recv, ANSWER_MAX).await? {
                AdmissionAnswer::Waiting => {}
                AdmissionAnswer::Challenge { .. } => return Err(ConversationError::NotUnderstood),
                AdmissionAnswer::Admitted(admitted) => return self.admitted(admitted, ticket.room),
                AdmissionAnswer::Denied(reason) => return Err(ConversationError::Denied(reason)),
            }
        }
    }

    async fn by_knocking(&self) -> Result<Admitted, ConversationError> {
        // Commit to a number, receive the member's, then show the own one: both ends can compute the words.
        let (mut send, mut recv) = self.open().await?;
        let own: [u8; 32] = rand::random();
        let request = AdmissionRequest::Knock { name: self.joining.name.to_owned(), commitment: commitment(&own) };
        self.send(&mut send, &request).await?;
        let (nonce, room) = match self.receive(&mut recv, ANSWER_MAX).await? {
            AdmissionAnswer::Challenge { nonce, room } => (nonce, room),
            AdmissionAnswer::Denied(reason) => return Err(ConversationError::Denied(reason)),
            AdmissionAnswer::Waiting | AdmissionAnswer::Admitted(_) => return Err(ConversationError::NotUnderstood),
        };
        self.send(&mut send, &Reveal { nonce: own }).await?;
        // Wait for the room, and after `Waiting` for a person.
        let mut patience = ANSWER_MAX;
        loop {
            match self.receive(&mut recv, patience).await? {
                AdmissionAnswer::Waiting => {
                    patience = WAIT_MAX;
                    (self.joining.on_words)(&words(&room, &self.joining.ctx.me, &self.member, &own, &nonce));
                }
                AdmissionAnswer::Challenge { .. } => return Err(ConversationError::NotUnderstood),
                AdmissionAnswer::Admitted(admitted) => return self.admitted(admitted, room),
                AdmissionAnswer::Denied(reason) => return Err(ConversationError::Denied(reason)),
            }
        }
    }

    /// Takes over the member's answer, within bounds, and remembers the address at which the member was reached: it may not
    /// know that address itself.
    fn admitted(&self, mut admitted: Admitted, room: RoomId) -> Result<Admitted, ConversationError> {
        if admitted.room != room {
            return Err(ConversationError::Denied(DenyReason::OtherRoom));
        }
        if let Some(addr) = self.link.member_addr() {
            self.joining.book.note_seen(self.member, addr);
        }
        admitted.members.truncate(Admitted::MEMBERS_MAX);
        admitted.members.retain(chat_core::peers::addrs::AddrRecord::verify);
        Ok(admitted)
    }

    async fn open(&self) -> Result<(AnswerSender, AnswerReceiver), ConversationError> {
        self.link.open().await.ok_or_else(|| self.broken())
    }

    async fn send(&self, send: &mut AnswerSender, message: &impl serde::Serialize) -> Result<(), ConversationError> {
        write_message(send, message).await.map_err(|_| self.broken())
    }

    async fn receive(
        &self,
        recv: &mut AnswerReceiver,
        patience: Duration,
    ) -> Result<AdmissionAnswer, ConversationError> {
        match timeout(patience, read_message(recv)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(MessageError::Frame(FramingError::Stream(_)))) => Err(self.broken()),
            Ok(Err(MessageError::Frame(_) | MessageError::Malformed)) => Err(ConversationError::NotUnderstood),
            Err(_) => Err(ConversationError::TimedOut),
        }
    }

    fn broken(&self) -> ConversationError {
        if self.link.was_closed_with(CloseCode::Busy) {
            ConversationError::Denied(DenyReason::Busy)
        } else if self.link.was_closed_with(CloseCode::Protocol) {
            ConversationError::NotUnderstood
        } else {
            ConversationError::Broken
        }
    }
}

impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        self.link.close(CloseCode::Done);
    }
}
