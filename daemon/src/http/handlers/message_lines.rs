//! `POST /v1/messages` with `Content-Type: application/x-ndjson`: a stream of messages on one connection.
//!
//! Each line is a request, and each is answered by a line ([`SentLine`]), in the same order and as soon as its answer is
//! known. Messages to the room are posted without waiting for the answers before them, [`IN_FLIGHT_MAX`] at most, so that
//! they share entries and flushes. What does not reach the room at once is waited for, so that none overtakes another: direct
//! messages and answers to others.
//!
//! A stream with an idempotency key is resumed by a further one with the same key, whose first line has the number of the
//! first that was not answered: what was posted before is found under the key of its line. The keys of lines that arrive
//! together are looked up together. A task of its own waits for each message, so that one whose caller does not read, or hung
//! up, is posted like others and keeps nothing from them; a line of the next stream waits for it under its key.
//!
//! Bounds: one line in the buffer and its answers in flight; a line that is too long is read over. A caller that does not read
//! its answers is not read from, nor is any while all streams together have too many messages in flight
//! ([`RoomSender::places`]). The stream ends when the daemon leaves the room or stops, and when its token is revoked.

use std::sync::Arc;
use std::task::Poll;

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
use crate::send::{IdempotencyKey, RoomSender, SendError, StreamedSend, ValidMessage};

/// Maximum number of messages that wait for their answers: enough to fill entries while a flush runs.
const IN_FLIGHT_MAX: usize = 512;

/// Maximum number of lines that are looked at together.
const GROUP_MAX: usize = 64;

/// Number of bytes from which known answers are sent as a chunk; fewer are sent when no more are known.
const CHUNK_BYTES: usize = 16 * 1024;

/// Posts the messages of a body of lines; with the key of the stream, and the number of its first line.
pub(super) async fn post(
    api: &Arc<Api>,
    connection: &CallerConnection,
    (key, first): (Option<String>, u64),
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
        number: first - 1,
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
    /// Number of the last line that was read.
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
                Some(line) => self.begin(line).await,
                None => self.at_end = true,
            }
        }
    }

    /// Begins to post the message of a line, and those of further lines that have arrived.
    async fn begin(&mut self, line: Result<Bytes, Refusal>) {
        let mut group = vec![self.parse(line)];
        while group.len() < GROUP_MAX.min(IN_FLIGHT_MAX - self.answers.len())
            && let Some(line) = take_line(&mut self.received, &mut self.skips)
        {
            group.push(self.parse(line));
        }
        let mut lines = Vec::new();
        let mut keyed = Vec::new();
        for (number, parsed) in group.into_iter().flatten() {
            let key = self.key.as_ref().map(|key| IdempotencyKey::parse(&format!("{key}/{number}"))).transpose();
            let (waits, step) = match parsed.and_then(|message| Ok((message, key?))) {
                Ok((message, key)) => {
                    let waits = message.may_be_overtaken();
                    (waits, keyed_or_not(message, key, &mut keyed))
                }
                Err(refusal) => (false, Some(LineStep::Refused(refusal))),
            };
            lines.push((number, waits, step));
        }
        let places = self.room.sender.places(lines.len()).await;
        let mut looked_up = self.room.sender.look_up(keyed).await.into_iter();
        for ((number, waits, step), place) in lines.into_iter().zip(places) {
            let step = match step {
                Some(step) => step,
                None => match looked_up.next() {
                    Some(Ok(send)) => LineStep::LookedUp(send),
                    Some(Err(error)) => LineStep::Refused(error.into()),
                    None => continue,
                },
            };
            let posted = post_line(Arc::clone(&self.api), self.room.sender.clone(), number, step);
            let mut posting = async move {
                let answer = posted.await;
                drop(place);
                answer
            }
            .boxed();
            // The first step hands a message to the room.
            let answer = match futures_util::poll!(&mut posting) {
                Poll::Ready(answer) => ready(answer).boxed(),
                Poll::Pending => {
                    let ended =
                        self.api.tasks.spawn(posting).map(move |ended| {
                            ended.unwrap_or_else(|_| refused(number, SendError::UnexpectedReply.into()))
                        });
                    if waits { ready(ended.await).boxed() } else { ended.boxed() }
                }
            };
            self.answers.push_back(answer);
        }
    }

    /// Counts a line and reads its message; none for a blank line.
    fn parse(&mut self, line: Result<Bytes, Refusal>) -> Option<(u64, Result<ValidMessage, Refusal>)> {
        self.number += 1;
        let message = match line {
            Ok(line) if line.trim_ascii().is_empty() => return None,
            Ok(line) => parse::<SendRequest>(&line).and_then(|request| Ok(ValidMessage::validate(request)?)),
            Err(refusal) => Err(refusal),
        };
        Some((self.number, message))
    }
}

/// What is to be done for a line.
enum LineStep {
    /// It is refused.
    Refused(Refusal),
    /// Its message is posted.
    Post(ValidMessage),
    /// Its message is posted under a key, which was looked up.
    LookedUp(StreamedSend),
}

/// What is to be done for a message; none while its key is still to be looked up.
fn keyed_or_not(
    message: ValidMessage,
    key: Option<IdempotencyKey>,
    keyed: &mut Vec<(ValidMessage, IdempotencyKey)>,
) -> Option<LineStep> {
    match key {
        Some(key) => {
            keyed.push((message, key));
            None
        }
        None => Some(LineStep::Post(message)),
    }
}

async fn post_line(api: Arc<Api>, sender: RoomSender, number: u64, step: LineStep) -> SentLine {
    let sent = match step {
        LineStep::Refused(refusal) => return refused(number, refusal),
        LineStep::Post(message) => sender.send(message, None, &api.tasks).await,
        LineStep::LookedUp(send) => sender.send_looked_up(send).await,
    };
    match sent {
        Ok(sent) => SentLine {
            line: number,
            status: status_of(&sent).as_u16(),
            id: Some(sent.message.message.id),
            state: Some(sent.message.state),
            problem: None,
        },
        Err(error) => refused(number, error.into()),
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
) -> Option<Result<Bytes, Refusal>> {
    loop {
        if let Some(line) = take_line(received, skips) {
            return Some(line);
        }
        match body.next().await {
            Some(Ok(bytes)) => received.extend_from_slice(&bytes),
            // The caller is gone.
            Some(Err(_)) => return None,
            None if std::mem::take(skips) => {
                received.clear();
                return Some(Err(too_long()));
            }
            None if received.is_empty() => return None,
            None => return Some(Ok(received.split().freeze())),
        }
    }
}

/// A line that is there as a whole, without its end. Of one that is too long, all but its end is dropped.
fn take_line(received: &mut BytesMut, skips: &mut bool) -> Option<Result<Bytes, Refusal>> {
    let Some(end) = received.iter().position(|byte| *byte == b'\n') else {
        if received.len() > BODY_BYTES_MAX {
            received.clear();
            *skips = true;
        }
        return None;
    };
    let line = received.split_to(end + 1).freeze();
    let fits = !std::mem::take(skips) && line.len() <= BODY_BYTES_MAX;
    Some(if fits { Ok(line.slice(..end)) } else { Err(too_long()) })
}

fn too_long() -> Refusal {
    Refusal::new(ErrorCode::TooLong, format!("the line is longer than {BODY_BYTES_MAX} bytes"))
}
