//! Reads an event stream, event by event, with the ids and names of the wire.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chat_client::sse::{Decoder, SseBlock};
use chat_proto::api::messages::Message;
use chat_proto::event::{Event, EventEnvelope};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::AbortHandle;

use crate::api::runtime;

/// An event as written in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// Its `id`: the cursor that resumes behind it.
    pub id: String,
    /// Its `event`: the type.
    pub name: String,
    /// Its `data`.
    pub data: String,
}

impl RawEvent {
    /// The event itself.
    ///
    /// # Panics
    /// When that is not an event of the contract.
    #[track_caller]
    pub fn envelope(&self) -> EventEnvelope {
        let envelope: EventEnvelope = match serde_json::from_str(&self.data) {
            Ok(envelope) => envelope,
            Err(error) => panic!("{error}: {}", self.data),
        };
        assert_eq!(envelope.cursor.to_string(), self.id, "the id is the cursor");
        assert_eq!(envelope.event.name(), self.name, "the event is the type");
        envelope
    }
}

/// A reader of an event stream. Its connection is cut when this is dropped.
#[derive(Debug)]
pub struct EventReader {
    events: Receiver<RawEvent>,
    reading: AbortHandle,
    last: Option<String>,
}

impl EventReader {
    pub(crate) fn read(mut body: Incoming) -> Self {
        let (sender, events) = mpsc::channel();
        let reading = runtime().spawn(async move {
            let (mut decoder, mut blocks) = (Decoder::default(), VecDeque::new());
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(bytes) = frame.into_data() else { continue };
                decoder.push(&bytes, &mut blocks).expect("chatd keeps the bounds of its stream");
                // A block without data has the start of the stream.
                for SseBlock { id, event, data } in blocks.drain(..).filter(|block| block.data.is_some()) {
                    let (id, name) = (id.unwrap_or_default(), event.unwrap_or_default());
                    if sender.send(RawEvent { id, name, data: data.unwrap_or_default() }).is_err() {
                        return;
                    }
                }
            }
        });
        Self { events, reading: reading.abort_handle(), last: None }
    }

    /// The next event.
    ///
    /// # Errors
    /// When none comes in time, or the stream ends.
    pub fn next(&mut self, deadline: Duration) -> Result<RawEvent, RecvTimeoutError> {
        let event = self.events.recv_timeout(deadline)?;
        if !event.id.is_empty() {
            self.last = Some(event.id.clone());
        }
        Ok(event)
    }

    /// The id of the last event that was taken: what resumes the stream.
    pub fn last_id(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// The first event for which `wanted` has something; others are passed over.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn find<T>(&mut self, deadline: Duration, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let end = Instant::now() + deadline;
        let mut seen = Vec::new();
        loop {
            match self.next(end.saturating_duration_since(Instant::now())) {
                Ok(raw) => match wanted(&raw.envelope().event) {
                    Some(found) => return found,
                    None => seen.push(raw.data),
                },
                Err(why) => panic!("the stream did not bring {what} ({why}); it brought {seen:#?}"),
            }
        }
    }

    /// The next message; other events are passed over.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn message(&mut self, deadline: Duration) -> Message {
        self.find(deadline, "a message", |event| match event {
            Event::Message { message } => Some(message.clone()),
            Event::Peer { .. }
            | Event::Membership { .. }
            | Event::Rendezvous { .. }
            | Event::Delivery { .. }
            | Event::Knock { .. }
            | Event::Fork { .. }
            | Event::Gap { .. } => None,
        })
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
