//! Names, spans and times as people read them; what others wrote is made safe for a terminal here.

use std::time::Duration;

use chat_proto::api::peers::PeerRef;
use chat_proto::text::printable;
use chat_proto::time::Timestamp;
use jiff::tz::TimeZone;

/// Somebody's text that stands on one line: a name, a word, an address.
pub(crate) fn label(text: &str) -> String {
    printable(text).replace(['\n', '\t'], "\u{FFFD}")
}

/// A peer's name.
pub(crate) fn name(peer: &PeerRef) -> String {
    label(&peer.name)
}

/// A span in its largest unit: `250ms`, `1.5s`, `42s`, `3m`, `5h`, `2d`.
pub(crate) fn span(span: Duration) -> String {
    let ms = span.as_millis();
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..10_000 if !ms.is_multiple_of(1_000) => format!("{:.1}s", span.as_secs_f64()),
        1_000..60_000 => format!("{}s", ms / 1_000),
        60_000..3_600_000 => format!("{}m", ms / 60_000),
        3_600_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// The span from `from` to `to`; zero where clocks disagree.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(to.as_ms().saturating_sub(from.as_ms()))
}

/// A time as `2026-11-22 14:05` in the zone.
pub(crate) fn date_time(time: Timestamp, zone: &TimeZone) -> String {
    zoned(time, zone).strftime("%Y-%m-%d %H:%M").to_string()
}

/// A time as `2026-11-22 14:05:09` in the zone.
pub(crate) fn date_time_seconds(time: Timestamp, zone: &TimeZone) -> String {
    zoned(time, zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Now, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_ms(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// A round-trip time in milliseconds.
pub(crate) fn rtt(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}ms") } else { format!("{ms:.0}ms") }
}

/// A share of 1 in per cent.
pub(crate) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value > 0.0 && value < 10.0 { format!("{value:.1}%") } else { format!("{value:.0}%") }
}

/// `1 peer`, `2 peers`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
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
    fn spans_are_short() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (7_200_000, "2h"),
            (172_799_999, "47h"),
            (172_800_000, "2d"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn labels_stay_on_their_line() {
        assert_eq!(label("a\nb\tc\x1b[1m"), "a\u{FFFD}b\u{FFFD}c\u{FFFD}[1m");
    }

    #[test]
    fn figures_keep_what_matters() {
        assert_eq!((rtt(0.42), rtt(12.6)), ("0.4ms".into(), "13ms".into()));
        assert_eq!((percent(1.0), percent(0.0), percent(0.0042)), ("100%".into(), "0%".into(), "0.4%".into()));
        assert_eq!((count(1, "peer", "peers"), count(0, "peer", "peers")), ("1 peer".into(), "0 peers".into()));
    }
}
