//! The model, driven by keys, events and answers.

use chat_client::chat_settings::{ChatSettings, Notify, OnOff};
use chat_client::{ClientError, FeedItem};
use chat_proto::error::{ErrorCode, Problem};
use chat_proto::event::{Event, KnockState};
use chat_proto::id::KnockId;
use crossterm::event::{KeyCode, KeyModifiers};

use super::fixture::{Stage, alice, bob, event, message, peer, sent};
use super::{Focus, ScreenInput};
use crate::error::CliError;
use crate::screen::compose::command::KnockDecision;
use crate::screen::effect::{Ask, DaemonAnswer, HistoryPart, RoomChange, ScreenEffect};
use crate::screen::timeline::{ENTRIES_MAX, More};

fn broken() -> CliError {
    ClientError::Broken { source: None }.into()
}

fn refused(detail: &str) -> CliError {
    ClientError::Refused(Box::new(Problem::new(ErrorCode::UnknownMember, detail))).into()
}

fn filled(count: u32) -> Stage {
    let messages = (0..count).map(|number| message(number, alice(), &format!("message {number}"))).collect();
    Stage::of(60, 12, messages)
}

#[test]
fn typed_message_is_shown_at_once_and_once() {
    let mut stage = Stage::of(60, 12, Vec::new());
    stage.enters("hello");
    assert!(stage.screen().contains("bob: hello …"), "{}", stage.screen());
    let posts = stage.posts();
    let [(ticket, to, text)] = posts.as_slice() else { panic!("one post: {posts:?}") };
    assert_eq!((to.as_slice(), text.as_str()), (&[][..], "hello"));
    // The stream is faster than the answer.
    stage.give(event(Event::Delivery { message: message(1, bob(), "").id, copies: 1, delivered: Vec::new() }));
    stage.arrives(message(1, bob(), "hello"));
    stage.give(ScreenInput::Answer(DaemonAnswer::Sent(*ticket, Ok(sent(message(1, bob(), "hello"), 0)))));
    let screen = stage.screen();
    assert_eq!(screen.matches("hello").count(), 1, "{screen}");
    assert!(screen.contains("bob: hello ✓1"), "{screen}");
    stage.give(event(Event::Delivery { message: message(1, bob(), "").id, copies: 2, delivered: Vec::new() }));
    assert!(stage.screen().contains("hello ✓2"));
    stage.arrives(message(2, bob(), "from elsewhere"));
    assert!(stage.screen().contains("from elsewhere"));
}

#[test]
fn messages_wait_for_a_daemon_that_is_away_and_keep_their_order() {
    let mut stage = Stage::of(60, 12, Vec::new());
    stage.enters("one");
    stage.enters("two");
    let posts = stage.posts();
    assert_eq!(posts.len(), 1, "one at a time: {posts:?}");
    stage.give(ScreenInput::Answer(DaemonAnswer::Sent(posts[0].0, Err(broken()))));
    stage.give(ScreenInput::Stream(FeedItem::Lost));
    assert!(stage.posts().is_empty());
    assert!(stage.screen().contains("the daemon is gone"));
    stage.give(ScreenInput::Stream(FeedItem::Back));
    let posts = stage.posts();
    assert_eq!(posts.iter().map(|(.., text)| text.as_str()).collect::<Vec<_>>(), ["one"]);
    stage.give(ScreenInput::Answer(DaemonAnswer::Sent(posts[0].0, Ok(sent(message(1, bob(), "one"), 0)))));
    assert_eq!(stage.posts().iter().map(|(.., text)| text.as_str()).collect::<Vec<_>>(), ["two"]);
}

#[test]
fn refused_message_says_why_and_can_be_recalled() {
    let mut stage = Stage::of(60, 12, Vec::new());
    stage.enters("@bbo psst");
    let posts = stage.posts();
    assert_eq!(posts[0].1, ["bbo"]);
    stage.give(ScreenInput::Answer(DaemonAnswer::Sent(posts[0].0, Err(refused("no member is called 'bbo'")))));
    assert!(stage.screen().contains("✗ not sent: no member is called 'bbo'"), "{}", stage.screen());
    stage.press(KeyModifiers::NONE, KeyCode::Up);
    assert_eq!(stage.app.composer.text(), "@bbo psst");
    stage.ctrl('u');
    stage.enters("next");
    assert_eq!(stage.posts().len(), 1, "the next one goes on");
}

#[test]
fn ctrl_c_keeps_what_was_typed_and_leaves_only_when_pressed_twice_in_a_row() {
    let mut stage = Stage::of(60, 12, Vec::new());
    stage.ctrl('c');
    assert!(stage.screen().contains("press Ctrl-C again"));
    stage.types("half a line");
    stage.ctrl('c');
    assert!(!stage.is_asked(|effect| matches!(effect, ScreenEffect::Leave)));
    assert_eq!(stage.app.composer.text(), "");
    stage.press(KeyModifiers::NONE, KeyCode::Up);
    assert_eq!(stage.app.composer.text(), "half a line");
    stage.ctrl('u');
    stage.ctrl('c');
    stage.ctrl('c');
    assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Leave)));
}

#[test]
fn paste_is_inserted_asked_about_or_refused_by_its_size() {
    let mut stage = Stage::of(80, 24, Vec::new());
    stage.give(ScreenInput::Paste("one\r\ntwo".into()));
    assert_eq!(stage.app.composer.text(), "one\ntwo");
    stage.ctrl('c');
    let many: String = (0..500).map(|number| format!("line {number}\n")).collect();
    stage.give(ScreenInput::Paste(many.clone()));
    assert!(stage.screen().contains("Put the 500 pasted lines"), "{}", stage.screen());
    assert!(stage.app.composer.is_empty());
    stage.types("y");
    assert_eq!(stage.app.composer.text(), many.trim_end());
    stage.press(KeyModifiers::NONE, KeyCode::Enter);
    assert_eq!(stage.posts().iter().map(|(.., text)| text.lines().count()).collect::<Vec<_>>(), [500]);

    // A paste that is not bracketed may come in parts.
    stage.give(ScreenInput::Paste(many.clone()));
    stage.give(ScreenInput::Paste("and n\n".into()));
    stage.types("y");
    assert_eq!(stage.app.composer.text(), many + "and n");
    stage.ctrl('c');
    stage.give(ScreenInput::Paste("x".repeat(chat_proto::TEXT_BYTES_MAX + 1)));
    assert!(stage.screen().contains("chat send --split < FILE"), "{}", stage.screen());
    assert!(stage.app.composer.is_empty());
}

#[test]
fn scrolling_reads_older_messages_and_the_memory_is_bounded() {
    let mut stage = Stage::of(60, 12, Vec::new());
    let page = |from: u32| (from..from + 200).map(|number| message(number, alice(), &number.to_string())).collect();
    stage.app.timeline = Default::default();
    stage.history(HistoryPart::Newest, page(100_000), (true, false));
    let mut oldest = 100_000;
    for _ in 0..1_500 {
        stage.press(KeyModifiers::NONE, KeyCode::PageUp);
        let asked = stage
            .effects
            .drain(..)
            .any(|effect| matches!(effect, ScreenEffect::Ask(Ask::History(HistoryPart::Before(_)))));
        if asked {
            oldest -= 200;
            stage.history(HistoryPart::Before(message(oldest + 200, alice(), "").id), page(oldest), (true, false));
        }
        assert!(stage.app.timeline.iter().count() <= ENTRIES_MAX);
        assert!(!stage.screen().contains("reading"), "pages come before they are needed");
    }
    assert!(oldest < 90_000, "{oldest}");
    assert_eq!(stage.app.timeline.newer, More::Maybe, "the newest ones were dropped");
    // And back again, the same way.
    for _ in 0..200 {
        stage.press(KeyModifiers::NONE, KeyCode::PageDown);
        let asked = stage.effects.drain(..).find_map(|effect| {
            if let ScreenEffect::Ask(Ask::History(HistoryPart::After(id))) = effect { Some(id) } else { None }
        });
        if let Some(id) = asked {
            let number = u32::from_be_bytes(id.entry.as_bytes()[..4].try_into().expect("four"));
            stage.history(HistoryPart::After(id), page(number + 1), (true, true));
        }
    }
    stage.press(KeyModifiers::NONE, KeyCode::Esc);
    assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Ask(Ask::History(HistoryPart::Newest)))));
    stage.history(HistoryPart::Newest, page(100_000), (true, false));
    assert!(stage.app.timeline.is_live() && stage.screen().contains("alice: 100199"));
}

#[test]
fn screen_that_is_scrolled_back_stays_where_it_is_and_counts_what_arrives() {
    let mut stage = filled(50);
    stage.press(KeyModifiers::NONE, KeyCode::PageUp);
    let before = stage.lines();
    for number in 50..55 {
        stage.arrives(message(number, alice(), "new"));
    }
    let after = stage.lines();
    assert_eq!(before[..10], after[..10]);
    assert!(after[10].contains("5 unread"), "{after:?}");
    stage.press(KeyModifiers::ALT, KeyCode::Char('n'));
    assert!(stage.screen().contains("── new ──"), "{}", stage.screen());
    stage.press(KeyModifiers::NONE, KeyCode::Esc);
    assert_eq!(stage.app.unread(), 0, "seen");
}

#[test]
fn mention_and_direct_message_call_for_attention_as_the_settings_have_it() {
    let mention = || message(1, alice(), "bob: look");
    let direct = || chat_proto::api::messages::Message { to: vec![bob()], ..message(2, alice(), "psst") };
    for arriving in [mention(), direct()] {
        let mut stage = Stage::of(60, 12, Vec::new());
        stage.give(ScreenInput::Focus(Focus::Elsewhere));
        stage.arrives(arriving);
        assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Bell)));
        assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Notify(text) if text.starts_with("alice: "))));
        assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Title(title) if title == "(1) lab – chat")));
    }
    let mut stage = Stage::of(60, 12, Vec::new());
    stage.arrives(message(1, alice(), "nothing of interest, bobby"));
    assert!(!stage.is_asked(|effect| matches!(effect, ScreenEffect::Bell | ScreenEffect::Notify(_))));

    let quiet = ChatSettings { bell: OnOff::Off, notify: Notify::Off, title: OnOff::Off, ..ChatSettings::default() };
    let mut stage = Stage::with(quiet, 60, 12, Vec::new());
    stage.give(ScreenInput::Focus(Focus::Elsewhere));
    stage.arrives(mention());
    assert!(
        !stage
            .is_asked(|effect| matches!(effect, ScreenEffect::Bell | ScreenEffect::Notify(_) | ScreenEffect::Title(_)))
    );

    let keyword = ChatSettings { keywords: vec!["deploy".into()], ..ChatSettings::default() };
    let mut stage = Stage::with(keyword, 60, 12, Vec::new());
    stage.arrives(message(1, alice(), "the Deploy failed"));
    assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Bell)));
}

#[test]
fn knock_is_answered_where_it_is_shown() {
    let mut stage = Stage::of(160, 12, Vec::new());
    let id: KnockId = "3".parse().expect("a number");
    let knock = |state| Event::Knock { knock: id, name: "dave".into(), words: "apple river".into(), state };
    stage.give(event(knock(KnockState::Waiting)));
    assert!(stage.screen().contains("dave asks for admission, with the words 'apple river'"), "{}", stage.screen());
    stage.press(KeyModifiers::ALT, KeyCode::Char('a'));
    let admits = RoomChange::Knock(id, KnockDecision::Admit);
    assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Ask(Ask::Change(change)) if *change == admits)));
    stage.give(event(knock(KnockState::Admitted)));
    assert!(stage.screen().contains("dave was admitted"));
    stage.press(KeyModifiers::ALT, KeyCode::Char('d'));
    assert!(stage.screen().contains("no newcomer asks for admission"), "{}", stage.screen());
}

#[test]
fn answer_names_what_it_answers_and_stays_private_where_that_was() {
    let direct = chat_proto::api::messages::Message { to: vec![bob()], ..message(2, peer(3, "carol"), "psst") };
    let mut stage = Stage::of(60, 12, vec![message(1, alice(), "how many\ndisks?"), direct]);
    stage.enters("/reply @alice three");
    let posts = stage.requests();
    let request = &posts[0].1;
    assert_eq!(
        (request.to.len(), request.text.as_str(), request.reply_to),
        (0, "three", Some(message(1, alice(), "").id))
    );
    let screen = stage.screen();
    assert!(screen.contains("╭ alice: how many disks?") && screen.contains("bob: three"), "{screen}");
    stage.give(ScreenInput::Answer(DaemonAnswer::Sent(posts[0].0, Ok(sent(message(3, bob(), "x"), 0)))));
    stage.enters("/reply what?");
    assert_eq!(stage.posts()[0].1, ["carol"]);
    // Answers of others, to a message that is shown here and to one that is not.
    let answer = |number, quote| chat_proto::api::messages::Message {
        reply_to: Some(message(1, alice(), "").id),
        quote,
        ..message(number, alice(), "yes")
    };
    let quote = chat_proto::api::messages::Quote { from: bob(), text: "is it\nso?".into() };
    stage.arrives(answer(8, Some(quote)));
    stage.arrives(answer(9, None));
    let screen = stage.screen();
    assert!(screen.contains("╭ bob: is it so?") && screen.contains("╭ a message that is not here"), "{screen}");
}

#[test]
fn removal_asks_first() {
    let mut stage = Stage::of(60, 12, Vec::new());
    let removes = |effect: &ScreenEffect| matches!(effect, ScreenEffect::Ask(Ask::Change(RoomChange::Remove(name))) if name == "carol");
    stage.enters("/remove carol");
    assert!(stage.screen().contains("Remove carol from the room? [y/n]"), "{}", stage.screen());
    stage.types("n");
    assert!(!stage.is_asked(removes));
    stage.enters("/remove carol");
    stage.types("y");
    assert!(stage.is_asked(removes));
}

#[test]
fn search_finds_messages_and_goes_there() {
    let mut stage = filled(50);
    stage.ctrl('f');
    stage.enters("disk");
    let query = |effect: &ScreenEffect| matches!(effect, ScreenEffect::Ask(Ask::Search { query }) if query.q.as_deref() == Some("disk"));
    assert!(stage.is_asked(query));
    let found = vec![message(900, alice(), "the disk is full"), message(901, alice(), "a new disk")];
    let read = crate::screen::effect::Messages { messages: found, older: false, newer: false };
    stage.give(ScreenInput::Answer(DaemonAnswer::Found(Ok(read))));
    assert!(stage.screen().contains("alice: the disk is full"), "{}", stage.screen());
    stage.press(KeyModifiers::NONE, KeyCode::Down);
    stage.press(KeyModifiers::NONE, KeyCode::Enter);
    let id = message(900, alice(), "").id;
    let goes = |effect: &ScreenEffect| matches!(effect, ScreenEffect::Ask(Ask::History(HistoryPart::Around(around))) if *around == id);
    assert!(stage.is_asked(goes));
    let around = (850..950).map(|number| message(number, alice(), &format!("message {number}"))).collect();
    stage.history(HistoryPart::Around(id), around, (true, true));
    assert!(stage.screen().contains("message 900 ◂"), "{}", stage.screen());
    assert!(!stage.app.timeline.is_live());
}

#[test]
fn message_that_arrives_while_the_newest_page_is_read_is_not_missed() {
    let mut stage = filled(50);
    stage.app.timeline.newer = More::Asked;
    stage.arrives(message(60, alice(), "in between"));
    stage.history(HistoryPart::After(message(49, alice(), "").id), Vec::new(), (true, false));
    assert!(
        stage.is_asked(|effect| matches!(effect, ScreenEffect::Ask(Ask::History(HistoryPart::After(_))))),
        "it asks again"
    );
    stage.history(
        HistoryPart::After(message(49, alice(), "").id),
        vec![message(60, alice(), "in between")],
        (true, false),
    );
    assert!(stage.screen().contains("in between") && stage.app.timeline.is_live());
}

#[test]
fn tab_completes_a_name_and_the_list_follows_the_typing() {
    let mut stage = Stage::of(60, 12, Vec::new());
    stage.types("hey @al");
    assert!(stage.screen().contains(" @alice"), "{}", stage.screen());
    stage.press(KeyModifiers::NONE, KeyCode::Tab);
    assert_eq!(stage.app.composer.text(), "hey @alice ");
    stage.enters("and");
    assert_eq!(stage.posts()[0].2, "hey @alice and");
    stage.enters("again");
    stage.types("x");
    stage.ctrl('u');
    stage.ctrl('r');
    assert!(stage.app.completion.as_ref().is_some_and(|list| list.candidates[0].0 == "again"));
}

#[test]
fn comings_and_goings_are_folded_into_one_line() {
    let mut stage = Stage::of(60, 12, Vec::new());
    for (name, online) in [("alice", false), ("carol", false), ("alice", true)] {
        let mut view = super::fixture::member(
            peer(if name == "alice" { 1 } else { 3 }, name),
            chat_proto::api::peers::RoleView::Member,
        );
        view.online = online;
        stage.give(event(Event::Peer { peer: view }));
    }
    let screen = stage.screen();
    assert!(screen.contains("-- alice is here; carol is away"), "{screen}");
    assert_eq!(screen.matches("--").count(), 1, "{screen}");
}

#[test]
fn reading_goes_on_where_the_last_run_left_off() {
    let messages = |range: std::ops::Range<u32>| {
        range.map(|number| message(number, alice(), &number.to_string())).collect::<Vec<_>>()
    };
    let left_off = message(20, alice(), "").id;
    let begin = || {
        let mut stage = Stage::of(60, 12, Vec::new());
        stage.app.timeline = Default::default();
        stage.app.reading.resume(Some(left_off));
        stage
    };
    // Few unread messages: they are on the screen, below the marker.
    let mut stage = begin();
    stage.history(HistoryPart::Newest, messages(0..24), (false, false));
    let screen = stage.screen();
    assert!(screen.contains("── new ──") && screen.contains("alice: 23"), "{screen}");
    stage.press(KeyModifiers::NONE, KeyCode::Esc);
    let newest = message(23, alice(), "").id;
    assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Ask(Ask::Mark(id)) if *id == newest)));
    // More than fit: the screen begins at the marker, and nothing is noted as read.
    let mut stage = begin();
    stage.history(HistoryPart::Newest, messages(0..100), (false, false));
    let screen = stage.screen();
    assert!(screen.contains("── new ──") && screen.contains("79 unread"), "{screen}");
    stage.give(ScreenInput::Tick);
    assert!(!stage.is_asked(|effect| matches!(effect, ScreenEffect::Ask(Ask::Mark(_)))));
    // Farther back than a page: that part of the history is read.
    let mut stage = begin();
    stage.history(HistoryPart::Newest, messages(300..500), (true, false));
    let around = HistoryPart::Around(left_off);
    assert!(stage.is_asked(|effect| matches!(effect, ScreenEffect::Ask(Ask::History(part)) if *part == around)));
    stage.history(around, messages(0..170), (false, true));
    let screen = stage.screen();
    assert!(screen.contains("── new ──") && screen.contains("149 unread"), "{screen}");
}
