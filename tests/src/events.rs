//! Reads an event stream as the SSE standard says (WHATWG HTML, section 9.2), event by event.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use chat_proto::api::messages::Message;
use chat_proto::event::{Event, EventEnvelope};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::AbortHandle;

use crate::api::runtime;

/// An event as it stands in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Its `id`: the cursor that resumes behind it.
    pub id: String,
    /// Its `event`: the type.
    pub name: String,
    /// Its `data`.
    pub data: String,
}

impl Raw {
    /// What it says.
    ///
    /// # Panics
    /// When that is not what the contract has.
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
pub struct Events {
    events: Receiver<Raw>,
    reading: AbortHandle,
    last: Option<String>,
}

impl Events {
    pub(crate) fn read(mut body: Incoming) -> Self {
        let (sender, events) = mpsc::channel();
        let reading = runtime().spawn(async move {
            let mut parser = Parser::default();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(bytes) = frame.into_data() else { continue };
                for event in parser.read(&bytes) {
                    if sender.send(event).is_err() {
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
    pub fn next(&mut self, deadline: Duration) -> Result<Raw, RecvTimeoutError> {
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
            | Event::Gap { .. } => None,
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Cuts a stream of bytes into events.
#[derive(Debug, Default)]
struct Parser {
    rest: Vec<u8>,
    id: String,
    name: String,
    data: Vec<String>,
}

impl Parser {
    fn read(&mut self, bytes: &[u8]) -> VecDeque<Raw> {
        self.rest.extend_from_slice(bytes);
        let mut events = VecDeque::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            events.extend(self.line(line.trim_end_matches(['\n', '\r'])));
        }
        events
    }

    fn line(&mut self, line: &str) -> Option<Raw> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            // Comments and a lone 'retry' make no event.
            return (!data.is_empty()).then(|| Raw { id: self.id.clone(), name, data: data.join("\n") });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = value.to_owned(),
            "event" => self.name = value.to_owned(),
            "data" => self.data.push(value.to_owned()),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_anywhere() {
        let stream =
            "retry: 1000\n\n: here\n\nid: a-1\nevent: gap\ndata: {\ndata: }\n\nid: a-2\r\nevent:x\r\ndata:y\r\n\r\n";
        let raw = |id: &str, name: &str, data: &str| Raw { id: id.into(), name: name.into(), data: data.into() };
        let expected = [raw("a-1", "gap", "{\n}"), raw("a-2", "x", "y")];
        assert_eq!(Parser::default().read(stream.as_bytes()), expected);
        let mut parser = Parser::default();
        let single: Vec<Raw> = stream.bytes().flat_map(|byte| parser.read(&[byte])).collect();
        assert_eq!(single, expected);
    }
}
