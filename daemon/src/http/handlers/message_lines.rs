//! `POST /v1/messages` with `Content-Type: application/x-ndjson`: a stream of messages on one connection.
//!
//! Each line is a request, and each is answered by a line ([`SentLine`]), in the same order and as soon as its answer is
//! known. Messages to the room are posted without waiting for the answers before them, [`IN_FLIGHT_MAX`] at most, so that
//! they share entries and flushes. What does not reach the room at once is waited for, so that none overtakes another: direct
//! messages, answers to others, and all of a stream with an idempotency key.
//!
//! Bounds: one line in the buffer and its answers in flight; a line that is too long is read over. A caller that does not read
//! its answers is not read from. The stream ends when the daemon leaves the room or stops, and when its token is revoked.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use chat_proto::api::messages::{SendRequest, SentLine};
use chat_proto::error::ErrorCode;
use futures_util::future::{BoxFuture, FutureExt, ready};
use futures_util::stream::{FuturesOrdered, StreamExt, unfold};
use tokio_util::sync::CancellationToken;

use crate::http::api_state::{Api, RoomHandle};
use crate::http::auth::CallerConnection;
use crate::http::extract::{BODY_BYTES_MAX, LINES, parse};
use crate::http::handlers::messages::status_of;
use crate::http::problem::Refusal;
use crate::send::{IdempotencyKey, ValidMessage};

/// Maximum number of messages that wait for their answers: enough to fill entries while a flush runs.
const IN_FLIGHT_MAX: usize = 512;

/// Number of bytes from which known answers are sent as a chunk; fewer are sent when no more are known.
const CHUNK_BYTES: usize = 16 * 1024;

/// Posts the messages of a body of lines.
pub(super) async fn post(
    api: &Arc<Api>,
    connection: &CallerConnection,
    key: Option<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let room = api.room().await?;
    if let Some(key) = &key {
        IdempotencyKey::parse(key)?;
    }
    let ends = [room.closed(), connection.ending.clone(), connection.revoked.clone()];
    let lines = MessageLines {
        api: Arc::clone(api),
        room,
        key,
        body: body.into_data_stream(),
        received: BytesMut::new(),
        skips: false,
        number: 0,
        at_end: false,
        answers: FuturesOrdered::new(),
    };
    let chunks = unfold((lines, ends), |(mut lines, ends)| async move {
        let chunk = tokio::select! {
            biased;
            () = any(&ends) => None,
            chunk = lines.next_chunk() => chunk,
        }?;
        Some((Ok::<_, std::convert::Infallible>(chunk), (lines, ends)))
    });
    Ok(([(header::CONTENT_TYPE, LINES)], Body::from_stream(chunks)).into_response())
}

async fn any([room, server, token]: &[CancellationToken; 3]) {
    tokio::select! {
        () = room.cancelled() => {}
        () = server.cancelled() => {}
        () = token.cancelled() => {}
    }
}

/// A body of lines, and the answers to those that were read.
struct MessageLines {
    api: Arc<Api>,
    room: Arc<RoomHandle>,
    key: Option<String>,
    body: BodyDataStream,
    received: BytesMut,
    /// Whether what arrives belongs to a line that is too long.
    skips: bool,
    /// Number of lines read.
    number: u64,
    at_end: bool,
    answers: FuturesOrdered<BoxFuture<'static, SentLine>>,
}

impl MessageLines {
    /// The next answers, those that are known; none at the end.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let mut chunk = encode(&self.next_answer().await?);
        while chunk.len() < CHUNK_BYTES {
            let Some(Some(answer)) = self.answers.next().now_or_never() else { break };
            chunk.extend(encode(&answer));
        }
        Some(chunk.into())
    }

    async fn next_answer(&mut self) -> Option<SentLine> {
        loop {
            if self.at_end || self.answers.len() >= IN_FLIGHT_MAX {
                return self.answers.next().await;
            }
            let line = tokio::select! {
                biased;
                line = next_line(&mut self.body, &mut self.received, &mut self.skips) => line,
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => return Some(answer),
            };
            match line {
                Ok(Some(line)) => self.begin(&line).await,
                Ok(None) => self.at_end = true,
                Err(refusal) => {
                    self.number += 1;
                    self.answers.push_back(ready(refused(self.number, refusal)).boxed());
                }
            }
        }
    }

    /// Begins to post the message of a line.
    async fn begin(&mut self, line: &[u8]) {
        self.number += 1;
        let number = self.number;
        if line.trim_ascii().is_empty() {
            return;
        }
        let request = match parse::<SendRequest>(line) {
            Ok(request) => request,
            Err(refusal) => return self.answers.push_back(ready(refused(number, refusal)).boxed()),
        };
        let waits = !request.to.is_empty() || request.reply_to.is_some() || self.key.is_some();
        let key = self.key.as_ref().map(|key| format!("{key}/{number}"));
        let mut posting = Self::send(Arc::clone(&self.api), Arc::clone(&self.room), number, request, key).boxed();
        // The first step hands a message to the room.
        let answer = match futures_util::poll!(&mut posting) {
            std::task::Poll::Ready(answer) => ready(answer).boxed(),
            std::task::Poll::Pending if waits => ready(posting.await).boxed(),
            std::task::Poll::Pending => posting,
        };
        self.answers.push_back(answer);
    }

    async fn send(
        api: Arc<Api>,
        room: Arc<RoomHandle>,
        number: u64,
        request: SendRequest,
        key: Option<String>,
    ) -> SentLine {
        let sent = async {
            let key = key.as_deref().map(IdempotencyKey::parse).transpose()?;
            let message = ValidMessage::validate(request)?;
            Ok::<_, Refusal>(room.sender.send(message, key, &api.tasks).await?)
        };
        match sent.await {
            Ok(sent) => SentLine {
                line: number,
                status: status_of(&sent).as_u16(),
                id: Some(sent.message.message.id),
                state: Some(sent.message.state),
                problem: None,
            },
            Err(refusal) => refused(number, refusal),
        }
    }
}

fn refused(line: u64, refusal: Refusal) -> SentLine {
    let problem = refusal.into_problem();
    SentLine { line, status: problem.status, id: None, state: None, problem: Some(problem) }
}

fn encode(answer: &SentLine) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The next line of a body, without its end; none behind the last one. Cancel safe.
async fn next_line(
    body: &mut BodyDataStream,
    received: &mut BytesMut,
    skips: &mut bool,
) -> Result<Option<Bytes>, Refusal> {
    let mut searched = 0;
    loop {
        if let Some(at) = received[searched..].iter().position(|byte| *byte == b'\n') {
            let line = received.split_to(searched + at + 1).freeze();
            let fits = !std::mem::take(skips) && line.len() <= BODY_BYTES_MAX;
            return if fits { Ok(Some(line.slice(..line.len() - 1))) } else { Err(too_long()) };
        }
        if received.len() > BODY_BYTES_MAX {
            received.clear();
            *skips = true;
        }
        searched = received.len();
        match body.next().await {
            Some(Ok(bytes)) => received.extend_from_slice(&bytes),
            // The caller is gone.
            Some(Err(_)) => return Ok(None),
            None if std::mem::take(skips) => {
                received.clear();
                return Err(too_long());
            }
            None if received.is_empty() => return Ok(None),
            None => return Ok(Some(received.split().freeze())),
        }
    }
}

fn too_long() -> Refusal {
    Refusal::new(ErrorCode::TooLong, format!("the line is longer than {BODY_BYTES_MAX} bytes"))
}
