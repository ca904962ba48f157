//! A durable position in the event stream of one daemon.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::schema::text_schema;

/// A position in the event stream: the run of the database that wrote an event, and the event. Written
/// `<8 hex>-<number>`.
///
/// Events of one database are numbered from 1, and no number is used twice; every opening of the database begins a run
/// with a random number. A cursor stays valid across restarts of the daemon. A cursor of an event that the database
/// does not hold, because the home was replaced or rolled back, leads to a `gap` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    /// Random number of the run that wrote the event.
    pub run: u32,
    /// The last event that was read; 0 before the first.
    pub event: u64,
}

/// The text is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a cursor: use the id of an event from the stream")]
pub struct ParseCursorError(String);

text_schema!(Cursor, "A durable position in the event stream of one daemon.", "pattern": "^[0-9a-f]{8}-[0-9]+$");

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.event)
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let fail = || ParseCursorError(text.chars().filter(|c| !c.is_control()).take(40).collect());
        let (run, event) = text.split_once('-').ok_or_else(fail)?;
        let hex = run.len() == 8 && run.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let digits = !event.is_empty() && event.bytes().all(|b| b.is_ascii_digit());
        if !hex || !digits {
            return Err(fail());
        }
        let run = u32::from_str_radix(run, 16).map_err(|_| fail())?;
        let event = event.parse().map_err(|_| fail())?;
        Ok(Self { run, event })
    }
}

impl TryFrom<String> for Cursor {
    type Error = ParseCursorError;

    fn try_from(text: String) -> Result<Self, ParseCursorError> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursor_displayed_parses_back(run: u32, event: u64) {
            let cursor = Cursor { run, event };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn arbitrary_text_parses_without_panic(text: String) {
            let _ = text.parse::<Cursor>();
        }
    }
}
