//! Timestamps and durations as people and scripts write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::schema::text_schema;

/// Latest timestamp: the end of the year 9999.
const MS_MAX: u64 = 253_402_300_799_999;

/// Largest difference between two clocks that is taken for normal, in milliseconds.
pub const CLOCK_LEEWAY_MS: u64 = 10_000;

/// Whether a difference between two clocks, in milliseconds, shows that one of them is wrong.
pub fn is_clock_off(off_ms: &i64) -> bool {
    off_ms.unsigned_abs() > CLOCK_LEEWAY_MS
}

/// A point in time: milliseconds since the Unix epoch; as text, RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// Why a text is not a timestamp or a duration. The same text will fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTimeError {
    /// Not RFC 3339.
    #[error("'{0}' is not a time: write it like 2026-01-31T12:00:00Z")]
    Timestamp(String),
    /// Not a number with a unit.
    #[error("'{0}' is not a duration: write it like 90s, 15m, 2h or 7d")]
    Duration(String),
}

impl Timestamp {
    /// From milliseconds since the Unix epoch, at most the end of the year 9999.
    pub const fn from_ms(ms: u64) -> Self {
        Self(if ms > MS_MAX { MS_MAX } else { ms })
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The time `span` before this one, at the earliest the epoch.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

text_schema!(Timestamp, "RFC 3339, UTC, with milliseconds.", "format": "date-time");

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .and_then(|time| u64::try_from(time.as_millisecond()).ok())
            .map(Self::from_ms)
            .ok_or_else(|| ParseTimeError::Timestamp(printable(text)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self::from_ms)
        }
    }
}

/// Parses a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`, `w`.
///
/// # Errors
/// [`ParseTimeError::Duration`] if the number or the unit is invalid, or the duration exceeds 10,000 years.
pub fn parse_duration(text: &str) -> Result<Duration, ParseTimeError> {
    let fail = || ParseTimeError::Duration(printable(text));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| fail())?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return Err(fail()),
    };
    number.checked_mul(unit_ms).filter(|ms| *ms <= MS_MAX).map(Duration::from_millis).ok_or_else(fail)
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamp_displayed_is_rfc_3339_utc_with_milliseconds() {
        let time = Timestamp::from_ms(1_790_000_000_007);
        assert_eq!(time.to_string(), "2026-09-21T14:13:20.007Z");
        assert_eq!("2026-09-21T16:13:20.007+02:00".parse(), Ok(time));
    }

    #[test]
    fn duration_without_a_unit_is_rejected() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "5", "s", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615w", "1 s"] {
            assert!(parse_duration(bad).is_err(), "{bad} must be rejected");
        }
    }

    proptest! {
        #[test]
        fn timestamp_displayed_parses_back(ms in 0..=MS_MAX) {
            let time = Timestamp::from_ms(ms);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }

        #[test]
        fn arbitrary_text_parses_without_panic(text: String) {
            let _ = text.parse::<Timestamp>();
            let _ = parse_duration(&text);
        }
    }
}
