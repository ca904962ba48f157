//! The wall clock.

use std::time::SystemTime;

use chat_proto::time::Timestamp;

/// The current time; the epoch if the clock is set before it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
