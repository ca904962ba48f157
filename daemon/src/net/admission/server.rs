//! Lets strangers ask to be let in: the member's end of the admission protocol.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_core::admission::codec::{
    ADMISSION_BYTES_MAX, AdmissionAnswer, AdmissionRequest, DenyReason, Reveal, commitment, words,
};
use chat_core::input::AdmissionId;
use chat_proto::id::{PeerId, RoomId};
use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::net::admission::codec::{MessageError, read_message, write_message};
use crate::net::context::{Shared, peer_id};
use crate::net::event_queue::NetEvent;
use crate::net::transport::close::CloseCode;
use crate::net::transport::path::seen_at;

/// Most strangers that are connected at a time. Most of them are knocks that wait for a person.
const STRANGERS_MAX: usize = 128;

/// How long a stranger may take to say something.
const SAY_MAX: Duration = Duration::from_secs(5);

/// How long a stranger waits for a person's answer.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60);

/// How long a stranger may take to close the connection after the last answer.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// Most answers that wait for one stranger: the room gives two at most, `Waiting` and the last.
const ANSWERS_MAX: usize = 4;

/// Strangers that wait for an answer.
#[derive(Debug)]
pub(crate) struct Admissions {
    places: Arc<Semaphore>,
    ids: AtomicU64,
    waiting: Mutex<HashMap<AdmissionId, mpsc::Sender<AdmissionAnswer>>>,
}

impl Default for Admissions {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(STRANGERS_MAX)), ids: AtomicU64::new(1), waiting: Mutex::default() }
    }
}

impl Admissions {
    /// Hands an answer to the stranger it is for; one that has gone is not an error.
    pub(crate) fn answer(&self, id: AdmissionId, answer: AdmissionAnswer) {
        if let Some(stranger) = self.lock().get(&id)
            && stranger.try_send(answer).is_err()
        {
            debug!(?id, "answer to a stranger that has gone");
        }
    }

    fn begin(&self) -> (Place<'_>, mpsc::Receiver<AdmissionAnswer>) {
        let id = AdmissionId(self.ids.fetch_add(1, Ordering::Relaxed));
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        self.lock().insert(id, sender);
        (Place { id, admissions: self }, answers)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AdmissionId, mpsc::Sender<AdmissionAnswer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stranger's place among those that wait; dropped, answers no longer reach it.
struct Place<'a> {
    id: AdmissionId,
    admissions: &'a Admissions,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.admissions.lock().remove(&self.id);
    }
}

/// Why a stranger's request ended without an answer.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("the stranger said nothing in time")]
    Silent,
    #[error("the stranger's number is not the one it committed to")]
    Commitment,
    #[error("the connection broke")]
    Connection,
}

/// Serves one stranger until it has its answer or goes.
pub(crate) async fn serve(shared: &Shared, connection: Connection) {
    let Ok(_place) = shared.admissions.places.clone().try_acquire_owned() else {
        return connection.close(CloseCode::Busy.var_int(), b"");
    };
    // One request and one reveal: a stranger needs no larger window.
    connection.set_receive_window(VarInt::from_u32(2 * ADMISSION_BYTES_MAX as u32));
    let peer = peer_id(connection.remote_id());
    let served = tokio::select! {
        served = converse(shared, &connection, peer) => served,
        () = shared.token.cancelled() => return connection.close(CloseCode::Stopping.var_int(), b""),
    };
    if let Err(error) = served {
        debug!(remote = %peer.short(), %error, "admission ended");
        return connection.close(CloseCode::Protocol.var_int(), b"");
    }
    // The stranger closes once it has read the last answer.
    let _ = timeout(CLOSE_MAX, connection.closed()).await;
    connection.close(CloseCode::Done.var_int(), b"");
}

async fn converse(shared: &Shared, connection: &Connection, peer: PeerId) -> Result<(), ServeError> {
    let accepted = timeout(SAY_MAX, connection.accept_bi()).await.map_err(|_| ServeError::Silent)?;
    let (mut send, mut recv) = accepted.map_err(|_| ServeError::Connection)?;
    let request: AdmissionRequest = said(&mut recv).await?;
    let Some(room) = shared.gate.roster().room else {
        return last(&mut send, AdmissionAnswer::Denied(DenyReason::NotReady)).await;
    };
    let words = match &request {
        AdmissionRequest::Ticket { .. } => String::new(),
        AdmissionRequest::Knock { commitment, .. } => {
            exchange(shared, (&mut send, &mut recv), (peer, room), *commitment).await?
        }
    };
    let (place, answers) = shared.admissions.begin();
    let observed = seen_at(connection);
    info!(remote = %peer.short(), ?observed, knock = !words.is_empty(), "somebody asks to be let in");
    let id = place.id;
    shared.events.send(NetEvent::Admission { id, peer, observed, request, words }).await;
    let answer = match timeout(WAIT_MAX, pass_on(connection, &mut send, answers)).await {
        Ok(Ok(answer)) => return last(&mut send, answer).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(AdmissionAnswer::Denied(DenyReason::TimedOut)),
    };
    drop(place);
    shared.events.send(NetEvent::AdmissionGone(id)).await;
    last(&mut send, answer?).await
}

/// Both sides show their random numbers, the stranger after it has committed to its own.
async fn exchange(
    shared: &Shared,
    (send, recv): (&mut SendStream, &mut RecvStream),
    (peer, room): (PeerId, RoomId),
    committed: [u8; 32],
) -> Result<String, ServeError> {
    let nonce: [u8; 32] = rand::random();
    write_message(send, &AdmissionAnswer::Challenge { nonce, room }).await?;
    let reveal: Reveal = said(recv).await?;
    if commitment(&reveal.nonce) != committed {
        return Err(ServeError::Commitment);
    }
    Ok(words(&room, &peer, &shared.me, &reveal.nonce, &nonce))
}

/// Passes the room's answers on and returns the last one, unless the stranger goes before.
async fn pass_on(
    connection: &Connection,
    send: &mut SendStream,
    mut answers: mpsc::Receiver<AdmissionAnswer>,
) -> Result<AdmissionAnswer, ServeError> {
    loop {
        let answer = tokio::select! {
            answer = answers.recv() => answer.ok_or(ServeError::Connection)?,
            _ = connection.closed() => return Err(ServeError::Connection),
        };
        match answer {
            AdmissionAnswer::Admitted(_) | AdmissionAnswer::Denied(_) => return Ok(answer),
            // The challenge was the shell's business; the room does not send one.
            AdmissionAnswer::Challenge { .. } => {}
            AdmissionAnswer::Waiting => write_message(send, &answer).await?,
        }
    }
}

async fn last(send: &mut SendStream, answer: AdmissionAnswer) -> Result<(), ServeError> {
    write_message(send, &answer).await?;
    // Fails only when the stream is finished or reset already.
    let _ = send.finish();
    Ok(())
}

async fn said<T: serde::de::DeserializeOwned>(recv: &mut RecvStream) -> Result<T, ServeError> {
    Ok(timeout(SAY_MAX, read_message(recv)).await.map_err(|_| ServeError::Silent)??)
}
