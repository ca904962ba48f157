//! Encodes events, each once for all readers: a line of JSON is a part of the SSE block.

use std::io::Write;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use chat_core::membership::roster::Roster;
use chat_proto::cursor::Cursor;
use chat_proto::event::{Event, EventEnvelope};

use crate::http::extract::LINES;
use crate::send::message_view;
use crate::store::tables::models::{StoredEvent, StoredEventKind};

/// Format of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamFormat {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
    /// One JSON object per line.
    Lines,
}

const SSE: &str = "text/event-stream";

impl StreamFormat {
    /// The format that the client prefers: lines if `Accept` names them before SSE, otherwise SSE.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut names = accepted
            .flat_map(|value| value.split(','))
            .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        match names.find(|name| name == LINES || name == SSE) {
            Some(name) if name == LINES => Self::Lines,
            Some(_) | None => Self::Sse,
        }
    }

    /// The media type of the answer.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Sse => SSE,
            Self::Lines => LINES,
        }
    }

    /// The first bytes: the cursor at which the stream starts. Lines need none, each has its own cursor.
    pub(super) fn opening(self, cursor: Cursor) -> Option<Bytes> {
        match self {
            Self::Sse => Some(place(cursor)),
            Self::Lines => None,
        }
    }

    /// A keep-alive; with the cursor if events were skipped since `told`.
    pub(super) fn keep_alive(self, cursor: Cursor, told: Cursor) -> Bytes {
        match self {
            Self::Sse if cursor == told => Bytes::from_static(b": keep-alive\n\n"),
            Self::Sse => place(cursor),
            Self::Lines => Bytes::from_static(b"\n"),
        }
    }

    /// A block in this form.
    pub(super) fn cut(self, block: &Bytes) -> Bytes {
        match self {
            Self::Sse => block.clone(),
            Self::Lines => {
                // `data: ` follows the second line break, and the last byte is the block's empty line.
                let breaks = block.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
                let data = breaks.skip(1).map(|at| at + 1 + DATA.len()).next().unwrap_or_default();
                block.slice(data..block.len() - 1)
            }
        }
    }
}

const DATA: &str = "data: ";

fn place(cursor: Cursor) -> Bytes {
    format!("id: {cursor}\n\n").into()
}

/// An event as an SSE block.
pub(super) fn block(stored: &StoredEvent, cursor: Cursor, roster: &Roster) -> Bytes {
    let event = match &stored.kind {
        StoredEventKind::Message(row) => Event::Message { message: message_view(roster, row.clone()) },
        StoredEventKind::Other(event) => event.clone(),
    };
    envelope_block(&EventEnvelope { cursor, at: stored.at, event })
}

/// An event with its cursor as an SSE block.
pub(super) fn envelope_block(envelope: &EventEnvelope) -> Bytes {
    let mut block = Vec::with_capacity(512);
    let head = write!(block, "id: {}\nevent: {}\n{DATA}", envelope.cursor, envelope.event.name());
    head.and_then(|()| serde_json::to_writer(&mut block, envelope).map_err(Into::into))
        .expect("events have string keys, and memory takes every byte");
    block.extend_from_slice(b"\n\n");
    block.into()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use chat_proto::time::Timestamp;

    use super::*;

    fn gap() -> EventEnvelope {
        let event = Event::Gap { reason: "a\nb".into() };
        EventEnvelope { cursor: Cursor { run: 0xabc, event: 7 }, at: Timestamp::from_ms(0), event }
    }

    #[test]
    fn block_is_valid_sse_and_a_line_is_its_data() {
        let block = envelope_block(&gap());
        let json = r#"{"cursor":"00000abc-7","at":"1970-01-01T00:00:00.000Z","type":"gap","reason":"a\nb"}"#;
        assert_eq!(block, format!("id: 00000abc-7\nevent: gap\ndata: {json}\n\n"));
        assert_eq!(StreamFormat::Sse.cut(&block), block);
        assert_eq!(StreamFormat::Lines.cut(&block), format!("{json}\n"));
    }

    #[test]
    fn format_follows_the_accept_header() {
        let of = |accept: &'static str| {
            let headers = [(header::ACCEPT, HeaderValue::from_static(accept))];
            StreamFormat::of(&HeaderMap::from_iter(headers))
        };
        assert_eq!(StreamFormat::of(&HeaderMap::new()), StreamFormat::Sse);
        for (accept, format) in [
            ("*/*", StreamFormat::Sse),
            ("text/event-stream", StreamFormat::Sse),
            ("application/x-ndjson", StreamFormat::Lines),
            ("Application/X-NDJSON; q=0.9, */*", StreamFormat::Lines),
            ("text/event-stream, application/x-ndjson", StreamFormat::Sse),
            ("application/json", StreamFormat::Sse),
        ] {
            assert_eq!(of(accept), format, "{accept}");
        }
    }
}
