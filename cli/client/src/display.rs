//! Names, spans and counts as short text; what other members wrote is made safe for a terminal here.

use std::time::Duration;

use chat_proto::api::peers::PeerRef;
use chat_proto::api::rendezvous::{ChangeReason, HolderChange};
use chat_proto::text::{isolated, printable};
use chat_proto::time::Timestamp;

/// Text of another member for use within one line: a name, a word, an address.
pub fn label(text: &str) -> String {
    printable(text).replace(['\n', '\t'], "\u{FFFD}")
}

/// A peer's name to be shown. Where a person edits it, use [`label`], which adds nothing.
pub fn name(peer: &PeerRef) -> String {
    isolated(label(&peer.name))
}

/// A span in its largest unit: `250ms`, `1.5s`, `42s`, `3m`, `5h`, `2d`.
pub fn span(span: Duration) -> String {
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
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(to.as_ms().saturating_sub(from.as_ms()))
}

/// `off by +1h`: how far a clock is ahead of another one, or behind it. Clocks are compared through the network, so an hour may
/// be measured as a few milliseconds less.
pub fn clock_off(off_ms: i64) -> String {
    let sign = if off_ms < 0 { '-' } else { '+' };
    let off = Duration::from_millis(off_ms.unsigned_abs());
    let off = if off < Duration::from_secs(50) { off } else { off + Duration::from_secs(1) };
    format!("off by {sign}{}", span(off))
}

/// `1 peer`, `2 peers`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Why the role moved, in words: `alice's process died`.
pub fn change_reason(change: &HolderChange) -> String {
    let from = change.from.as_ref().map_or_else(|| "the holder".into(), name);
    match change.reason {
        ChangeReason::Founded => "founded the room".into(),
        ChangeReason::Died => format!("{from}'s process died"),
        ChangeReason::Silent => format!("{from} fell silent"),
        ChangeReason::HandedOver => format!("{from} left and handed over"),
        ChangeReason::BetterConnected => format!("better connected than {from}"),
        ChangeReason::Merged => "two halves of the room merged".into(),
        ChangeReason::Removed => format!("{from} was removed or left for good"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_is_short() {
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
    fn label_stays_on_its_line() {
        assert_eq!(label("a\nb\tc\x1b[1m"), "a\u{FFFD}b\u{FFFD}c");
    }

    #[test]
    fn count_agrees_with_its_noun() {
        assert_eq!((count(1, "peer", "peers"), count(0, "peer", "peers")), ("1 peer".into(), "0 peers".into()));
    }
}
