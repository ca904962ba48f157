//! The screen, drawn in memory at every size.

use chat_client::FeedItem;
use chat_proto::api::messages::Message;
use chat_proto::api::rendezvous::{ChangeReason, HolderChange};
use chat_proto::event::Event;
use chat_proto::id::Term;
use chat_proto::time::Timestamp;
use crossterm::event::{KeyCode, KeyModifiers};

use crate::screen::app::ScreenInput;
use crate::screen::app::fixture::{NOW, Stage, alice, bob, event, message, peer};
use crate::text::wrap::columns;

/// The sizes that every screen has to work at.
const SIZES: [(u16, u16); 5] = [(80, 24), (200, 50), (40, 10), (300, 100), (20, 4)];

fn conversation() -> Vec<Message> {
    let yesterday = Message { time: Timestamp::from_ms(NOW.as_ms() - 86_400_000), ..message(0, alice(), "good night") };
    let direct = Message { to: vec![bob()], ..message(3, peer(3, "carol"), "a word with you") };
    vec![
        yesterday,
        message(1, alice(), "this is a long message whose words are wrapped where the line ends, not in their middle"),
        message(2, bob(), "> alice: this is a long message\nI see\n    with code"),
        direct,
        message(4, alice(), "@bob: 漢字 e\u{301}\u{301} 👩‍👩‍👧‍👦 שלום \x1b[31mred\x1b[0m"),
        message(5, alice(), "/me waves"),
    ]
}

#[test]
fn every_size_shows_history_status_and_input() {
    for (width, height) in SIZES {
        let mut stage = Stage::of(width, height, conversation());
        stage.types("typing");
        let lines = stage.lines();
        assert!(lines.iter().all(|line| columns(line) <= usize::from(width)), "{lines:?}");
        assert_eq!(lines[usize::from(height) - 1], "> typing", "{width}×{height}");
        assert!(lines[usize::from(height) - 2].contains("lab"), "{width}×{height}: {lines:?}");
        assert!(lines.iter().any(|line| line.contains("* alice waves")), "{width}×{height}: {lines:?}");
    }
}

#[test]
fn history_is_wrapped_at_words_with_days_answers_and_direct_messages() {
    let screen = Stage::of(80, 24, conversation()).screen();
    for part in [
        "── Sunday, 2026-09-20 ──",
        "── Monday, 2026-09-21 ──",
        "14:14 alice: this is a long message whose words are wrapped\n",
        "\n        where the line ends, not in their middle\n",
        "      ╭ alice: this is a long message",
        "14:15 bob: I see",
        "            with code",
        "14:16 carol → you: a word with you",
        "14:17 alice: @bob: 漢字 e\u{301}\u{301} 👩👩👧👦 שלום red",
        "14:18 * alice waves",
    ] {
        let bare: String = screen
            .lines()
            .map(|line| line.split('│').next().unwrap_or_default().trim_end())
            .collect::<Vec<_>>()
            .join("\n");
        assert!(bare.contains(part), "{part:?} is missing:\n{screen}");
    }
}

#[test]
fn members_are_listed_with_presence_path_and_round_trip_time() {
    let stage = Stage::of(100, 24, Vec::new());
    let screen = stage.screen();
    for part in ["│◆ alice            0.4ms", "│◇ bob                you", "│  carol"] {
        assert!(screen.contains(part), "{part:?} is missing:\n{screen}");
    }
    assert!(!Stage::of(40, 10, Vec::new()).screen().contains('◆'), "a narrow screen has no column");
}

#[test]
fn status_line_says_what_matters_first() {
    let mut stage = Stage::of(80, 24, Vec::new());
    assert!(stage.lines()[22].starts_with(" lab │ 3/3 online │ alice holds the room"), "{:?}", stage.lines());
    let mut status = crate::screen::app::fixture::status();
    status.clock_off_ms = Some(-7_200_000);
    status.damaged_entries = 2;
    stage.give(ScreenInput::Answer(crate::screen::effect::DaemonAnswer::Status(Ok(Box::new(status)))));
    assert!(stage.lines()[22].contains("clock off by -2h") && stage.lines()[22].contains("disk: 2 damaged entries"));
    stage.give(ScreenInput::Stream(FeedItem::Lost));
    assert!(stage.lines()[22].starts_with(" the daemon is gone"), "{:?}", stage.lines());
}

#[test]
fn move_of_the_role_is_one_line() {
    let mut stage = Stage::of(100, 10, Vec::new());
    let change =
        HolderChange { term: Term(2), from: Some(alice()), to: bob(), at: NOW, reason: ChangeReason::Died, gap_ms: 71 };
    stage.give(event(Event::Rendezvous { change }));
    assert!(
        stage.screen().contains("14:13 -- bob holds the room now: alice's process died, 71ms"),
        "{}",
        stage.screen()
    );
}

#[test]
fn input_grows_with_its_lines_and_scrolls_beyond_a_third_of_the_screen() {
    let mut stage = Stage::of(80, 24, Vec::new());
    for number in 0..20 {
        stage.types(&number.to_string());
        stage.press(KeyModifiers::ALT, KeyCode::Enter);
    }
    stage.types("last");
    let lines = stage.lines();
    assert_eq!(lines[23], "  last");
    assert_eq!(lines[16], "  13", "{lines:?}");
    assert!(lines[15].contains("lab"), "{lines:?}");
    for _ in 0..20 {
        stage.press(KeyModifiers::NONE, KeyCode::Up);
    }
    assert_eq!(stage.lines()[16], "> 0");
}

#[test]
fn resize_leaves_no_copies_and_loses_nothing() {
    let mut stage = Stage::of(80, 24, conversation());
    stage.types(&"a half typed line that is longer than the narrow screen ".repeat(2));
    for (width, height) in SIZES.into_iter().chain(SIZES.into_iter().rev()) {
        stage.give(ScreenInput::Resize(width, height));
        let screen = stage.screen();
        assert!(screen.matches("> a half").count() <= 1, "{screen}");
    }
    assert_eq!(stage.app.composer.text().len(), 112);
}

#[test]
fn windows_fit_every_size() {
    for (width, height) in SIZES {
        let mut stage = Stage::of(width, height, conversation());
        stage.ctrl('f');
        stage.types("disk");
        assert!(stage.screen().contains("find: disk"), "{width}×{height}: {}", stage.screen());
        stage.press(KeyModifiers::NONE, KeyCode::Esc);
        stage.types("@");
        assert!(stage.screen().contains("@alice"), "{width}×{height}: {}", stage.screen());
        stage.ctrl('c');
        stage.give(ScreenInput::Paste("x\n".repeat(100)));
        assert!(stage.screen().contains("Put the 100"), "{width}×{height}: {}", stage.screen());
    }
}
