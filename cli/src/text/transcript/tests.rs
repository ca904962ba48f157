//! Tests of the lines of a conversation.

use chat_proto::id::{EntryHash, MessageId};
use proptest::prelude::*;

use super::*;

fn peer(number: u8, name: &str) -> PeerRef {
    let id = PeerId::from_bytes([number; 32]);
    PeerRef { id, name: name.into(), tag: id.tag() }
}

fn message(from: PeerRef, to: Vec<PeerRef>, text: &str) -> Message {
    let id = MessageId { entry: EntryHash::from_bytes([9; 32]), index: 0 };
    Message {
        id,
        time: at("2026-11-22T14:05:59.999Z"),
        from,
        to,
        reply_to: None,
        quote: None,
        text: text.into(),
        dropped: false,
        clock_off_ms: None,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn live(colour: Colour) -> Transcript {
    Transcript::live(PeerId::from_bytes([1; 32]), colour, TimeZone::UTC, at("2026-11-22T00:00:00Z"))
}

#[test]
fn message_is_one_line_with_the_local_clock() {
    let line = live(Colour::Off).message(&message(peer(2, "bob"), vec![], "hello\n"));
    assert_eq!(line, "14:05 bob: hello");
    let zone = TimeZone::fixed(jiff::tz::offset(-10));
    let mut dated = Transcript::dated(PeerId::from_bytes([1; 32]), Colour::Off, zone);
    assert_eq!(dated.message(&message(peer(2, "bob"), vec![], "hello")), "2026-11-22 04:05 bob: hello");
}

#[test]
fn direct_message_names_its_recipients() {
    let mut live = live(Colour::Off);
    assert_eq!(live.message(&message(peer(2, "bob"), vec![peer(1, "alice")], "psst")), "14:05 bob → you: psst");
    let line = live.message(&message(peer(1, "alice"), vec![peer(2, "bob"), peer(3, "carol")], "psst"));
    assert_eq!(line, "14:05 you → bob, carol: psst");
}

#[test]
fn answer_has_the_start_of_what_it_answers_above_it() {
    let answered = MessageId { entry: EntryHash::from_bytes([8; 32]), index: 0 };
    let quote = chat_proto::api::messages::Quote { from: peer(3, "carol"), text: "how many\n\x1b[2Jdisks?".into() };
    let answer = Message { reply_to: Some(answered), quote: Some(quote), ..message(peer(2, "bob"), vec![], "three") };
    assert_eq!(live(Colour::Off).message(&answer), "      ╭ carol: how many disks?\n14:05 bob: three");
    let unknown = Message { quote: None, ..answer };
    assert_eq!(live(Colour::Off).message(&unknown), "      ╭ a message that is not here\n14:05 bob: three");
}

#[test]
fn message_is_wrapped_at_words_beside_its_author() {
    let mut narrow = live(Colour::On).folded(|| Some(44));
    let line = narrow.message(&message(peer(2, "bob"), vec![], "one two three four five six seven eight\nnine"));
    let lines: Vec<&str> = line.lines().collect();
    assert!(lines[0].starts_with("\x1b[2m14:05\x1b[0m ") && lines[0].ends_with(": one two three four five six seven"));
    assert_eq!(lines[1..], ["           eight", "           nine"]);
    // Beside a name that takes most of the line, too.
    let line = narrow.message(&message(peer(2, &"n".repeat(32)), vec![], "one two three four"));
    assert_eq!(line.lines().last(), Some("      two three four"), "{line}");
    let note = narrow.note(at("2026-11-22T14:05:00Z"), "alice holds the room now: bob's process died");
    assert_eq!(note.lines().last(), Some("         process died\x1b[0m"), "{note}");
}

#[test]
fn further_line_is_indented() {
    let line = live(Colour::Off).message(&message(peer(2, "bob"), vec![], "one\n14:05 alice: two"));
    assert_eq!(line, "14:05 bob: one\n           14:05 alice: two");
}

#[test]
fn name_and_text_cannot_drive_the_terminal() {
    let line = live(Colour::Off).message(&message(peer(2, "b\n\x1b[31mb"), vec![], "\x1b]0;x\x07"));
    assert_eq!(line, "14:05 b\u{FFFD}b: ");
}

#[test]
fn new_day_has_its_line() {
    let mut live = live(Colour::Off);
    let mut old = message(peer(2, "bob"), vec![], "late");
    old.time = at("2026-11-21T23:59:00Z");
    assert_eq!(live.message(&old), "-- 2026-11-21\n23:59 bob: late");
    assert_eq!(live.message(&message(peer(2, "bob"), vec![], "on")), "-- 2026-11-22\n14:05 bob: on");
    assert_eq!(live.message(&message(peer(2, "bob"), vec![], "and on")), "14:05 bob: and on");
}

#[test]
fn author_keeps_its_colour() {
    let mut live = live(Colour::On);
    let first = live.message(&message(peer(2, "bob"), vec![], "a"));
    assert!(first.starts_with("\x1b[2m14:05\x1b[0m \x1b[34mbob\x1b[0m"), "{first:?}");
    assert_ne!(live.message(&message(peer(3, "bob"), vec![], "a")), first);
    assert_eq!(live.message(&message(peer(2, "bob"), vec![], "a")), first);
}

#[test]
fn membership_change_and_knock_are_notes() {
    let mut live = live(Colour::Off);
    let change = |action| MembershipChange { action, peer: peer(2, "bob"), by: peer(3, "carol"), was: None };
    let time = at("2026-11-22T14:05:00Z");
    assert_eq!(live.membership(time, &change(MembershipAction::Admitted)), "14:05 -- bob was admitted by carol");
    assert_eq!(live.membership(time, &change(MembershipAction::Left)), "14:05 -- bob left the room");
    let renamed = MembershipChange { was: Some("alice".into()), ..change(MembershipAction::Renamed) };
    assert_eq!(live.membership(time, &renamed), "14:05 -- alice is now called bob");
    let knock = live.knock(time, (KnockId(3), KnockState::Waiting), "dan", "apple river");
    let expected = "14:05 -- dan asks for admission, with the words 'apple river': 'chat admit 3' or 'chat deny 3'";
    assert_eq!(knock.as_deref(), Some(expected));
}

proptest! {
    #[test]
    fn text_of_others_starts_no_line_and_no_sequence(
        name: String,
        text in "(?s)[a-z \n\x1b\u{9b}.]{0,60}",
        narrow: bool,
    ) {
        let columns: fn() -> Option<usize> = if narrow { || Some(30) } else { || None };
        let line = live(Colour::Off).folded(columns).message(&message(peer(2, &name), vec![], &text));
        for (number, part) in line.split('\n').enumerate() {
            prop_assert!(number == 0 || part.is_empty() || part.starts_with("      "), "{part:?}");
            prop_assert!(!part.chars().any(|c| c.is_control() && c != '\t'), "{part:?}");
        }
    }
}
