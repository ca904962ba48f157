//! The member's end of the admission protocol: strangers ask to join.
//!
//! A stranger opens one stream and sends one request: a ticket, or a knock that commits to a random number. For a knock both
//! ends exchange numbers first, and both can then show the same words; a peer in between would have had to know the
//! stranger's number before it was shown. The request goes to the room as [`NetEvent::Admission`], the room's answers come
//! back through [`Net::answer`](crate::net::Net::answer), and the last of them ends the conversation.
//!
//! Invariants: nothing here decides about membership. A bounded number of strangers is served at a time, most of them
//! knocks that wait for a person; each has a deadline for every message. A stranger that goes is reported as
//! [`NetEvent::AdmissionGone`], once.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chat_core::admission::codec::{AdmissionAnswer, AdmissionRequest, DenyReason, Reveal, commitment, words};
use chat_core::fair_share::network;
use chat_core::input::{AdmissionCall, AdmissionId};
use chat_proto::id::{PeerId, RoomId};
use iroh::SecretKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::net::admission::codec::{MessageError, read_message, write_message};
use crate::net::admission::limits::NetworkLimits;
use crate::net::admission::link::{AdmissionLink, AnswerReceiver, AnswerSender};
use crate::net::admission::sealed::SealedStream;
use crate::net::context::NetContext;
use crate::net::event_queue::NetEvent;
use crate::net::places::{Place, Places};
use crate::net::transport::close::CloseCode;

/// Maximum number of connected strangers. Most of them are knocks that wait for a person. A network with more than others
/// gives them up first.
const STRANGERS_MAX: usize = 128;

/// Timeout for each message of a stranger.
const MESSAGE_MAX: Duration = Duration::from_secs(5);

/// Timeout for a person's answer.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// Timeout for a stranger to close the connection after the last answer.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// Maximum number of queued answers per stranger: the room gives two at most, `Waiting` and the last.
const ANSWERS_MAX: usize = 4;

/// Serves strangers, and keeps those that wait for an answer.
#[derive(Debug)]
pub(crate) struct Admissions {
    ctx: NetContext,
    /// The key that this peer proves to newcomers over TCP.
    me: SecretKey,
    /// Attempts over TCP; those over QUIC are limited before their handshake.
    limits: NetworkLimits,
    begun: Instant,
    strangers: Arc<Places<Option<IpAddr>>>,
    ids: AtomicU64,
    pending: Mutex<HashMap<AdmissionId, mpsc::Sender<AdmissionAnswer>>>,
}

/// A request that waits for an answer; dropped, answers no longer reach it.
struct PendingRequest<'a> {
    id: AdmissionId,
    admissions: &'a Admissions,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.admissions.lock().remove(&self.id);
    }
}

/// What a stranger asks for, and the stream for the answers.
struct OpenRequest {
    send: AnswerSender,
    request: AdmissionRequest,
    words: String,
}

/// Why a stranger's request ended without an answer.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("the stranger sent nothing in time")]
    Silent,
    #[error("the stranger's number is not the one it committed to")]
    Commitment,
    #[error("the connection broke")]
    Connection,
    #[error("another network needed the place")]
    Displaced,
}

impl Admissions {
    pub(crate) fn new(ctx: NetContext, me: SecretKey) -> Self {
        Self {
            ctx,
            me,
            limits: NetworkLimits::default(),
            begun: Instant::now(),
            strangers: Places::new(STRANGERS_MAX),
            ids: AtomicU64::new(1),
            pending: Mutex::default(),
        }
    }

    /// Whether a newcomer's network may try again over TCP. Callers on this machine are not limited.
    pub(crate) fn may_try(&self, from: IpAddr) -> bool {
        from.is_loopback() || self.limits.take(network(from), self.begun.elapsed())
    }

    /// Proves this peer's key to a newcomer over TCP, and has it prove its own.
    ///
    /// # Errors
    /// When the newcomer is gone or proves no key.
    pub(crate) async fn accept_tcp(&self, stream: TcpStream) -> io::Result<SealedStream> {
        SealedStream::accept(&self.me, stream).await
    }

    /// Passes an answer to its stranger; one that has gone is not an error.
    pub(crate) fn answer(&self, id: AdmissionId, answer: AdmissionAnswer) {
        if let Some(stranger) = self.lock().get(&id)
            && stranger.try_send(answer).is_err()
        {
            debug!(?id, "answer to a stranger that has gone");
        }
    }

    /// Serves one stranger until it has its answer or goes, or its network gives the place up to another. `source` is the
    /// network, if no relay is in between.
    pub(crate) async fn serve(&self, link: AdmissionLink, source: Option<IpAddr>) {
        let place = self.strangers.enter(source);
        link.bound();
        let served = tokio::select! {
            served = self.converse(&link, &place) => served,
            () = self.ctx.token.cancelled() => return link.close(CloseCode::Stopping),
        };
        match served {
            Ok(()) => {}
            Err(ServeError::Displaced) => return link.close(CloseCode::Busy),
            Err(error) => {
                debug!(remote = %link.peer().short(), %error, "admission ended");
                return link.close(CloseCode::Protocol);
            }
        }
        // The stranger closes once it has read the last answer.
        let _ = timeout(CLOSE_MAX, link.closed()).await;
        link.close(CloseCode::Done);
    }

    async fn converse(&self, link: &AdmissionLink, place: &Place<Option<IpAddr>>) -> Result<(), ServeError> {
        let peer = link.peer();
        let asked = place.hold(self.read_request(link, peer)).await.ok_or(ServeError::Displaced)??;
        let Some(OpenRequest { mut send, request, words }) = asked else { return Ok(()) };
        // The room decides, at once or after a person has looked at the words.
        let (pending, answers) = self.start();
        let (id, observed) = (pending.id, link.observed());
        info!(remote = %peer.short(), ?observed, knock = !words.is_empty(), "a peer asks to join");
        self.ctx.events.send(NetEvent::Admission(AdmissionCall { id, peer, observed, request, words })).await;
        let answer = match place.hold(timeout(WAIT_MAX, pass_on(link, &mut send, answers))).await {
            Some(Ok(Ok(answer))) => return send_last(&mut send, answer).await,
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) => Ok(AdmissionAnswer::Denied(DenyReason::TimedOut)),
            None => Ok(AdmissionAnswer::Denied(DenyReason::Busy)),
        };
        drop(pending);
        self.ctx.events.send(NetEvent::AdmissionGone(id)).await;
        send_last(&mut send, answer?).await
    }

    /// Reads the request, and with a knock exchanges the numbers that give the words; `None` when there is no room.
    async fn read_request(&self, link: &AdmissionLink, peer: PeerId) -> Result<Option<OpenRequest>, ServeError> {
        let accepted = timeout(MESSAGE_MAX, link.accept()).await.map_err(|_| ServeError::Silent)?;
        let (mut send, mut recv) = accepted.ok_or(ServeError::Connection)?;
        let request: AdmissionRequest = receive(&mut recv).await?;
        let Some(room) = self.ctx.gate.roster().room else {
            send_last(&mut send, AdmissionAnswer::Denied(DenyReason::NotReady)).await?;
            return Ok(None);
        };
        let words = match &request {
            AdmissionRequest::Ticket { .. } => String::new(),
            AdmissionRequest::Knock { commitment, .. } => {
                self.exchange((&mut send, &mut recv), (peer, room), *commitment).await?
            }
        };
        Ok(Some(OpenRequest { send, request, words }))
    }

    /// Exchanges random numbers: the stranger shows its own after it has committed to it. Returns the words.
    async fn exchange(
        &self,
        (send, recv): (&mut AnswerSender, &mut AnswerReceiver),
        (peer, room): (PeerId, RoomId),
        committed: [u8; 32],
    ) -> Result<String, ServeError> {
        let nonce: [u8; 32] = rand::random();
        write_message(send, &AdmissionAnswer::Challenge { nonce, room }).await?;
        let reveal: Reveal = receive(recv).await?;
        if commitment(&reveal.nonce) != committed {
            return Err(ServeError::Commitment);
        }
        Ok(words(&room, &peer, &self.ctx.me, &reveal.nonce, &nonce))
    }

    fn start(&self) -> (PendingRequest<'_>, mpsc::Receiver<AdmissionAnswer>) {
        let id = AdmissionId(self.ids.fetch_add(1, Ordering::Relaxed));
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        self.lock().insert(id, sender);
        (PendingRequest { id, admissions: self }, answers)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AdmissionId, mpsc::Sender<AdmissionAnswer>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes the room's answers on and returns the last one; fails when the stranger goes before.
async fn pass_on(
    link: &AdmissionLink,
    send: &mut AnswerSender,
    mut answers: mpsc::Receiver<AdmissionAnswer>,
) -> Result<AdmissionAnswer, ServeError> {
    loop {
        let answer = tokio::select! {
            answer = answers.recv() => answer.ok_or(ServeError::Connection)?,
            () = link.closed() => return Err(ServeError::Connection),
        };
        match answer {
            AdmissionAnswer::Admitted(_) | AdmissionAnswer::Denied(_) => return Ok(answer),
            // The challenge is sent above; the room does not send one.
            AdmissionAnswer::Challenge { .. } => {}
            AdmissionAnswer::Waiting => write_message(send, &answer).await?,
        }
    }
}

async fn send_last(send: &mut AnswerSender, answer: AdmissionAnswer) -> Result<(), ServeError> {
    write_message(send, &answer).await?;
    // Fails only when the stream is finished or reset already.
    let _ = send.shutdown().await;
    Ok(())
}

async fn receive<T: serde::de::DeserializeOwned>(recv: &mut AnswerReceiver) -> Result<T, ServeError> {
    Ok(timeout(MESSAGE_MAX, read_message(recv)).await.map_err(|_| ServeError::Silent)??)
}
