//! A stream of messages to the room: many on one connection, each answered, all in order, each posted once.
//!
//! [`Client::message_stream`] gives two ends. [`MessageWriter`] takes messages and waits while too many are not answered;
//! [`MessageAnswers`] gives the answer to each, in order. Between them a task holds the connection: one
//! `POST /v1/messages` with a line for each message. Messages do not wait for the answers before them, so that many of them
//! share a flush of the daemon's disk.
//!
//! Each message has the key of the stream and its number. When the connection ends, what was not answered is sent again under
//! the same keys on a new one, whose first line has the number of the first of these messages. A daemon of version 0.1 does not
//! know such streams: it is sent one message after the other, each in a request of its own.
//!
//! ```no_run
//! # async fn run(client: chat_client::Client, texts: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
//! use chat_client::Repeat;
//! use chat_proto::api::messages::SendRequest;
//!
//! let (writer, mut answers) = client.message_stream(Repeat::Patient);
//! tokio::spawn(async move {
//!     for text in texts {
//!         if !writer.send(SendRequest { text, ..SendRequest::default() }).await {
//!             break;
//!         }
//!     }
//! });
//! while let Some(answer) = answers.next().await {
//!     let answer = answer?;
//!     if let Some(problem) = answer.problem {
//!         println!("message {}: {}", answer.line, problem.detail);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chat_proto::api::messages::{SendRequest, SentLine, SentMessage};
use chat_proto::error::{ErrorCode, Problem};
use http_body::Frame;
use reqwest::Response;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::call::{Call, Repeat};
use crate::calls::OutgoingMessage;
use crate::client::Client;
use crate::error::ClientError;

/// Maximum number of messages that are not answered; as many as the daemon works on at a time.
pub const UNANSWERED_MAX: usize = 512;

/// Maximum number of messages between the writer and the task, which hands those that came together to the connection together.
const QUEUE: usize = 64;

/// Maximum number of bytes handed to the connection at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Maximum length of an answer: a problem quotes what was sent, escaped.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A connection on which nothing is under way is closed after this time.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// First and longest pause between two attempts, while the daemon restarts or is busy.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Takes the messages of a stream. Dropping it ends the stream behind the last one.
#[derive(Debug)]
pub struct MessageWriter(Sender<SendRequest>);

impl MessageWriter {
    /// Sends a message; waits while [`UNANSWERED_MAX`] are not answered. Returns false when the stream has ended: the answers
    /// say why. Cancel safe: when cancelled, the message is not sent.
    pub async fn send(&self, message: SendRequest) -> bool {
        self.0.send(message).await.is_ok()
    }
}

/// The answers to the messages of a stream. They must be read while messages are sent; dropping this ends the stream.
#[derive(Debug)]
pub struct MessageAnswers(Receiver<Result<SentLine, ClientError>>);

impl MessageAnswers {
    /// The next answer, in the order of the messages, whose numbers begin with 1; `None` when all are answered and the writer is
    /// dropped. Cancel safe.
    ///
    /// # Errors
    /// The stream ends with the error: the next message was not answered, nor any after it. Whether these were posted is not
    /// known if [`ClientError::is_outcome_unknown`].
    pub async fn next(&mut self) -> Option<Result<SentLine, ClientError>> {
        self.0.recv().await
    }
}

impl Client {
    /// Opens a stream of messages: many on one connection, in order, each answered and each posted once. Needs a runtime, on
    /// which its task runs.
    pub fn message_stream(&self, repeat: Repeat) -> (MessageWriter, MessageAnswers) {
        let (writer, requests) = channel(QUEUE);
        let (answers, reader) = channel(UNANSWERED_MAX);
        let key = OutgoingMessage::from(SendRequest::default()).key;
        let (waiting, number) = (VecDeque::new(), 0);
        let task = StreamTask { client: self.clone(), repeat, key, requests, answers, waiting, number, open: true };
        tokio::spawn(task.run());
        (MessageWriter(writer), MessageAnswers(reader))
    }
}

/// Why a connection was left.
enum Left {
    /// Nothing is under way on it.
    Idle,
    /// The daemon does not know such streams.
    NotKnown,
    /// It failed, or a message was refused for a reason that passes.
    Failed(ClientError),
    /// No one reads the answers.
    Unread,
}

/// The task between the two ends.
struct StreamTask {
    client: Client,
    repeat: Repeat,
    key: String,
    requests: Receiver<SendRequest>,
    answers: Sender<Result<SentLine, ClientError>>,
    /// What is not answered yet, in order.
    waiting: VecDeque<SendRequest>,
    /// Number of messages answered.
    number: u64,
    /// Whether more may come.
    open: bool,
}

impl StreamTask {
    async fn run(mut self) {
        let (mut pause, longest) = PAUSES;
        let mut failing: Option<(Instant, u64)> = None;
        let (mut met, mut singly) = (false, false);
        let mut unsure = None;
        while self.take_first().await {
            let left = if singly { self.post_first().await } else { self.exchange().await };
            let error = match left {
                Left::Idle => continue,
                Left::NotKnown => {
                    singly = true;
                    continue;
                }
                Left::Unread => return,
                Left::Failed(error) => error,
            };
            met |= self.number > 0 || !matches!(error, ClientError::NoDaemon { .. });
            let since = match failing {
                Some((since, number)) if number == self.number => since,
                _ => {
                    (pause, unsure) = (PAUSES.0, None);
                    Instant::now()
                }
            };
            failing = Some((since, self.number));
            let allowed = match self.repeat {
                Repeat::Never => false,
                Repeat::Safe => met,
                Repeat::Patient => true,
            };
            if !allowed || !error.passes_later() || since.elapsed() + pause > self.client.repeats_for() {
                // That no daemon is there now does not show what the broken attempt did.
                let error = unsure.filter(|_| matches!(error, ClientError::NoDaemon { .. })).unwrap_or(error);
                let _ = self.answers.send(Err(error)).await;
                return;
            }
            if error.is_outcome_unknown() {
                unsure = Some(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Waits for a message that is not answered; returns false when there is none and none will come.
    async fn take_first(&mut self) -> bool {
        if self.waiting.is_empty() && self.open {
            match self.requests.recv().await {
                Some(request) => self.take(request),
                None => self.open = false,
            }
        }
        !self.waiting.is_empty()
    }

    /// Sends what waits on one connection, and what comes meanwhile, until nothing is under way.
    async fn exchange(&mut self) -> Left {
        let (lines, body) = LineBody::new();
        let first = FirstLine { line: (self.number > 0).then_some(self.number + 1) };
        let call = Call::lines(&["messages"], body).query(&first);
        let call = call.header("idempotency-key", &self.key);
        let mut response = match self.client.begin_lines(&call).await {
            Ok(response) => response,
            Err(ClientError::Refused(problem)) if problem.code == ErrorCode::UnsupportedMediaType => {
                return Left::NotKnown;
            }
            Err(error) => return Left::Failed(error),
        };
        let mut received = BytesMut::new();
        let mut handed = 0;
        loop {
            tokio::select! {
                biased;
                chunk = response.chunk() => match chunk {
                    Ok(Some(chunk)) => {
                        received.extend_from_slice(&chunk);
                        match self.answered(&mut received).await {
                            Ok(answered) => handed -= answered,
                            Err(left) => return left,
                        }
                    }
                    Ok(None) if self.waiting.is_empty() => return Left::Idle,
                    Ok(None) => return Left::Failed(ClientError::Broken { source: None }),
                    Err(error) => return Left::Failed(ClientError::broken(&error)),
                },
                request = self.requests.recv(), if self.open && self.waiting.len() < UNANSWERED_MAX => match request {
                    Some(request) => self.take(request),
                    None => self.open = false,
                },
                permit = lines.reserve(), if handed < self.waiting.len() => {
                    // A connection that has ended shows it in the answer.
                    let Ok(permit) = permit else { return self.drain(response, received).await };
                    let (chunk, count) = self.chunk(handed);
                    permit.send(chunk);
                    handed += count;
                }
                () = tokio::time::sleep(IDLE_MAX), if self.waiting.is_empty() => return Left::Idle,
            }
            if self.waiting.is_empty() && !self.open {
                return Left::Idle;
            }
        }
    }

    /// Takes a message, and those that came with it.
    fn take(&mut self, request: SendRequest) {
        self.waiting.push_back(request);
        while self.waiting.len() < UNANSWERED_MAX
            && let Ok(request) = self.requests.try_recv()
        {
            self.waiting.push_back(request);
        }
    }

    /// Lines of messages from the waiting one with this index on, and their number.
    fn chunk(&self, from: usize) -> (Bytes, usize) {
        let mut chunk = BytesMut::new();
        let mut count = 0;
        for request in self.waiting.iter().skip(from) {
            chunk.extend_from_slice(&serde_json::to_vec(request).unwrap_or_default());
            chunk.extend_from_slice(b"\n");
            count += 1;
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
        }
        (chunk.freeze(), count)
    }

    /// The connection takes nothing more: reads what was answered on it.
    async fn drain(&mut self, mut response: Response, mut received: BytesMut) -> Left {
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => received.extend_from_slice(&chunk),
                Ok(None) => return Left::Failed(ClientError::Broken { source: None }),
                Err(error) => return Left::Failed(ClientError::broken(&error)),
            }
            if let Err(left) = self.answered(&mut received).await {
                return left;
            }
        }
    }

    /// Hands the answers on that are there as a whole; returns their number.
    async fn answered(&mut self, received: &mut BytesMut) -> Result<usize, Left> {
        let mut count = 0;
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let line = received.split_to(end + 1);
            let unexpected =
                |source| Left::Failed(ClientError::Unexpected { call: "POST /v1/messages".into(), source });
            let answer: SentLine = serde_json::from_slice(&line).map_err(|error| unexpected(error.into()))?;
            let passes = answer.problem.clone().map(|problem| ClientError::Refused(Box::new(problem)));
            if let Some(error) = passes.filter(ClientError::passes_later) {
                return Err(Left::Failed(error));
            }
            self.hand_on(answer).await?;
            count += 1;
        }
        if received.len() > ANSWER_BYTES_MAX { Err(Left::Failed(ClientError::TooLong)) } else { Ok(count) }
    }

    /// The first message that waits is answered.
    async fn hand_on(&mut self, answer: SentLine) -> Result<(), Left> {
        self.number += 1;
        self.waiting.pop_front();
        let answer = SentLine { line: self.number, ..answer };
        self.answers.send(Ok(answer)).await.map_err(|_| Left::Unread)
    }

    /// Posts the first message that waits in a request of its own.
    async fn post_first(&mut self) -> Left {
        let Some(request) = self.waiting.front().cloned() else { return Left::Idle };
        let message = OutgoingMessage { request, key: format!("{}/{}", self.key, self.number + 1) };
        let answer = match self.client.send(&message, Repeat::Never).await {
            Ok(sent) => answer(201, Ok(sent)),
            Err(ClientError::WaitRanOut(sent)) => answer(202, Ok(*sent)),
            Err(ClientError::Refused(problem)) => match ClientError::Refused(problem.clone()) {
                error if error.passes_later() => return Left::Failed(error),
                _ => answer(problem.status, Err(*problem)),
            },
            Err(error) => return Left::Failed(error),
        };
        self.hand_on(answer).await.err().unwrap_or(Left::Idle)
    }
}

fn answer(status: u16, posted: Result<SentMessage, Problem>) -> SentLine {
    let (posted, problem) = match posted {
        Ok(sent) => (Some((sent.message.id, sent.state)), None),
        Err(problem) => (None, Some(problem)),
    };
    let (id, state) = posted.unzip();
    SentLine { line: 0, status, id, state, problem }
}

#[derive(Serialize)]
struct FirstLine {
    line: Option<u64>,
}

/// A body of lines that are written while it is sent. Clones are the same body: one connection reads it.
#[derive(Debug, Clone)]
pub(crate) struct LineBody(Arc<Mutex<Receiver<Bytes>>>);

impl LineBody {
    fn new() -> (Sender<Bytes>, Self) {
        let (lines, body) = channel(4);
        (lines, Self(Arc::new(Mutex::new(body))))
    }
}

impl http_body::Body for LineBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx);
        polled.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests;
