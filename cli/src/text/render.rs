//! Times and figures as people read them; names and spans are those of `chat_client::display`.

pub(crate) use chat_client::display::{between, clock_off, count, label, name, span};
use chat_proto::time::Timestamp;
use jiff::tz::TimeZone;

/// A time as `2026-11-22 14:05` in the zone.
pub(crate) fn date_time(time: Timestamp, zone: &TimeZone) -> String {
    zoned(time, zone).strftime("%Y-%m-%d %H:%M").to_string()
}

/// A time as `2026-11-22 14:05:09` in the zone.
pub(crate) fn date_time_seconds(time: Timestamp, zone: &TimeZone) -> String {
    zoned(time, zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A time as `14:05` in the zone.
pub(crate) fn clock(time: Timestamp, zone: &TimeZone) -> String {
    zoned(time, zone).strftime("%H:%M").to_string()
}

/// The day of a time as `Sunday, 2026-11-22` in the zone.
pub(crate) fn weekday(time: Timestamp, zone: &TimeZone) -> String {
    zoned(time, zone).strftime("%A, %Y-%m-%d").to_string()
}

/// Now, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_ms(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// A round-trip time in milliseconds.
pub(crate) fn rtt(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}ms") } else { format!("{ms:.0}ms") }
}

/// A number of bytes, rounded.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let unit = (0..units.len()).rev().find(|unit| bytes >= 1 << (10 * unit)).unwrap_or(0);
    let value = bytes as f64 / (1u64 << (10 * unit)) as f64;
    if unit == 0 || value >= 10.0 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A share of 1 in per cent.
pub(crate) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value > 0.0 && value < 10.0 { format!("{value:.1}%") } else { format!("{value:.0}%") }
}

/// A time in the zone.
pub(super) fn zoned(time: Timestamp, zone: &TimeZone) -> jiff::Zoned {
    let ms = i64::try_from(time.as_ms()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(zone.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figure_is_rounded_by_its_size() {
        assert_eq!((rtt(0.42), rtt(12.6)), ("0.4ms".into(), "13ms".into()));
        assert_eq!((percent(1.0), percent(0.0), percent(0.0042)), ("100%".into(), "0%".into(), "0.4%".into()));
    }
}
