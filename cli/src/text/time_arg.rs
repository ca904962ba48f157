//! Points in time as people type them, written as the API takes them.

use std::time::Duration;

use chat_proto::api::invites::INVITE_EXPIRES_MS;
use chat_proto::api::messages::SEND_TIMEOUT_MS;
use chat_proto::cursor::Cursor;
use chat_proto::id::MessageId;
use chat_proto::time::{ParseTimeError, Timestamp, parse_duration};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::text::render;

/// A local date (`2026-11-22`) or date and time (`2026-11-22 14:05`) as RFC 3339; everything else is left as it is for
/// the daemon to parse.
pub(crate) fn local(text: &str, zone: &TimeZone) -> String {
    let civil = text.parse::<Date>().map(|date| date.to_datetime(jiff::civil::Time::midnight()));
    let offset = text.ends_with(['Z', 'z', ']']) || text.get(11..).is_some_and(|time| time.contains(['+', '-']));
    let civil = if text.len() > 10 { text.parse::<DateTime>().map_err(|_| ()) } else { civil.map_err(|_| ()) };
    match civil.ok().filter(|_| !offset).and_then(|civil| civil.to_zoned(zone.clone()).ok()) {
        Some(zoned) => from_jiff(zoned.timestamp()).to_string(),
        None => text.to_owned(),
    }
}

/// The timeout of a send, for clap.
pub(crate) fn send_timeout(text: &str) -> Result<Duration, ParseSpanError> {
    span_within(text, SEND_TIMEOUT_MS)
}

/// How long an invite is valid, for clap.
pub(crate) fn invite_expiry(text: &str) -> Result<Duration, ParseSpanError> {
    span_within(text, INVITE_EXPIRES_MS)
}

fn span_within(text: &str, (least, most): (u64, u64)) -> Result<Duration, ParseSpanError> {
    let span = parse_duration(text)?;
    let within = (u128::from(least)..=u128::from(most)).contains(&span.as_millis());
    let words = |ms| chat_client::display::span(Duration::from_millis(ms));
    within.then_some(span).ok_or_else(|| ParseSpanError::Range { least: words(least), most: words(most) })
}

/// A text is no duration that is allowed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseSpanError {
    /// Not a duration.
    #[error(transparent)]
    Time(#[from] ParseTimeError),
    /// Too short or too long.
    #[error("write a duration from {least} to {most}")]
    Range {
        /// The shortest one.
        least: String,
        /// The longest one.
        most: String,
    },
}

/// A local time or date as [`local`], and a duration (`2h`) is that long before `now`.
pub(crate) fn point(text: &str, now: Timestamp, zone: &TimeZone) -> String {
    match parse_duration(text) {
        Ok(span) => now.before(span).to_string(),
        Err(_) => local(text, zone),
    }
}

/// A position in the history, for clap: a message id, a time, or a duration ago; as the API takes it.
pub(crate) fn history_point(text: &str) -> Result<String, ParsePointError> {
    let point = point(text, render::now(), &TimeZone::system());
    let valid = point.parse::<Timestamp>().is_ok() || point.parse::<MessageId>().is_ok();
    valid.then_some(point).ok_or(ParsePointError("a message id"))
}

/// A position in the event stream, for clap: a cursor, a duration ago, a time, or `all`; as the API takes it.
pub(crate) fn stream_point(text: &str) -> Result<String, ParsePointError> {
    let point = local(text, &TimeZone::system());
    let time = point.parse::<Timestamp>().is_ok() || parse_duration(&point).is_ok();
    let valid = time || point == "all" || point.parse::<Cursor>().is_ok();
    valid.then_some(point).ok_or(ParsePointError("'all', a cursor"))
}

/// `-5` as the number of messages, for clap.
pub(crate) fn minus_count(text: &str) -> Result<u64, ParseCountError> {
    text.strip_prefix('-').and_then(|count| count.parse().ok()).ok_or(ParseCountError)
}

/// A text is no position.
#[derive(Debug, thiserror::Error)]
#[error("write {0}, a time like '2026-11-22 14:05', or a duration like '10m'")]
pub(crate) struct ParsePointError(&'static str);

/// A text is no number of messages.
#[derive(Debug, thiserror::Error)]
#[error("write the number of messages like -5")]
pub(crate) struct ParseCountError;

fn from_jiff(time: jiff::Timestamp) -> Timestamp {
    Timestamp::from_ms(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn typed_point_becomes_a_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = "2026-11-22T12:00:00Z".parse().expect("a time");
        for (typed, sent) in [
            ("2h", "2026-11-22T10:00:00.000Z"),
            ("2026-11-22", "2026-11-21T22:00:00.000Z"),
            ("2026-11-22 14:05", "2026-11-22T12:05:00.000Z"),
            ("2026-11-22T14:05:09", "2026-11-22T12:05:09.000Z"),
            ("2026-11-22T14:05:09Z", "2026-11-22T14:05:09Z"),
            ("2026-11-22T14:05:09+01:00", "2026-11-22T14:05:09+01:00"),
            ("2026-11-22T14:05:09-01:00", "2026-11-22T14:05:09-01:00"),
            ("all", "all"),
            ("0000002a-7", "0000002a-7"),
            ("", ""),
        ] {
            assert_eq!(point(typed, now, &zone), sent, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            point(&text, Timestamp::from_ms(0), &TimeZone::UTC);
        }
    }
}
