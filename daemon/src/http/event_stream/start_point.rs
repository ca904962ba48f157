//! Start of an event stream: at a cursor, a time, the first stored event, or now.

use axum::http::HeaderMap;
use chat_proto::cursor::Cursor;
use chat_proto::time::{Timestamp, parse_duration};

use crate::clock::wall_clock;
use crate::http::extract::{QueryParams, header_text};
use crate::http::problem::Refusal;
use crate::store::Store;

/// The requested start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartPoint {
    /// New events only.
    Now,
    /// The first stored event.
    All,
    /// Behind this cursor.
    Cursor(Cursor),
    /// The first event recorded at this time or later.
    Time(Timestamp),
}

/// The resolved start of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamStart {
    /// The cursor that is sent first: a client that is cut off right after it resumes here.
    pub(super) told: Cursor,
    /// The last event before the stream.
    pub(super) position: u64,
    /// Where the cursor comes from.
    pub(super) from: CursorOrigin,
}

/// Where the start cursor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CursorOrigin {
    /// All stored events were requested: that older ones are missing is expected.
    Beginning,
    /// A cursor of this database.
    Here,
    /// A cursor that this database does not hold: the client must be informed.
    Elsewhere,
}

impl StartPoint {
    /// Parses `Last-Event-ID`, which takes precedence, and `since`.
    pub(super) fn of(headers: &HeaderMap, params: &QueryParams) -> Result<Self, Refusal> {
        let since = params.text("since")?.map(|text| Self::parse(text, wall_clock())).transpose()?;
        match header_text(headers, "last-event-id")?.filter(|id| !id.is_empty()) {
            Some(id) => Ok(Self::Cursor(id.parse()?)),
            None => Ok(since.unwrap_or(Self::Now)),
        }
    }

    fn parse(text: &str, now: Timestamp) -> Result<Self, Refusal> {
        if text == "all" {
            return Ok(Self::All);
        }
        let cursor = text.parse().map(Self::Cursor).ok();
        let span = || parse_duration(text).map(|span| Self::Time(now.before(span))).ok();
        let time = || text.parse().map(Self::Time).ok();
        cursor.or_else(span).or_else(time).ok_or_else(|| {
            Refusal::bad(format!("'since' is '{text}': expected a cursor, a duration, a time or 'all'")).hint(
                "a cursor is the id of an event, a duration is written like 10m, a time like 2026-01-31T12:00:00Z",
            )
        })
    }

    /// Resolves the start in the database.
    pub(super) async fn open(self, store: &Store) -> Result<StreamStart, Refusal> {
        let here = |event| StreamStart { told: store.cursor(event), position: event, from: CursorOrigin::Here };
        match self {
            Self::Now => Ok(here(store.cursor_now())),
            Self::All => Ok(StreamStart { from: CursorOrigin::Beginning, ..here(0) }),
            Self::Time(time) => Ok(here(store.cursor_at(time).await?)),
            Self::Cursor(told) => Ok(match store.position(told) {
                Some(event) => here(event),
                None => StreamStart { told, position: store.cursor_now(), from: CursorOrigin::Elsewhere },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::error::ErrorCode;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn since_parses_a_cursor_a_duration_a_time_or_all() {
        let now = Timestamp::from_ms(1_790_000_000_000);
        let parse = |text| StartPoint::parse(text, now).map_err(|refusal| refusal.problem().code);
        assert_eq!(parse("all"), Ok(StartPoint::All));
        assert_eq!(parse("0000000a-7"), Ok(StartPoint::Cursor(Cursor { run: 10, event: 7 })));
        assert_eq!(parse("10m"), Ok(StartPoint::Time(Timestamp::from_ms(1_789_999_400_000))));
        assert_eq!(parse("2026-09-21T14:13:20Z"), Ok(StartPoint::Time(now)));
        for bad in ["ALL", "10", "yesterday", "a-7", "-10m"] {
            assert_eq!(parse(bad), Err(ErrorCode::BadRequest), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_parses_without_panic(text: String) {
            let _ = StartPoint::parse(&text, Timestamp::from_ms(0));
        }
    }
}
