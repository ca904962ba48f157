//! A model without a terminal and a daemon, for tests: `bob` in a room with `alice`, who holds it, and `carol`.

use chat_client::chat_settings::ChatSettings;
use chat_client::{FeedItem, ReceivedEvent};
use chat_proto::api::messages::{Message, MessageState, SendRequest, SentMessage};
use chat_proto::api::peers::{MemberRole, PathView, PeerRef, PeerView, RoleView};
use chat_proto::api::status::{RoomRef, Status};
use chat_proto::cursor::Cursor;
use chat_proto::event::{Event, EventEnvelope};
use chat_proto::id::{EntryHash, MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::{App, ScreenInput};
use crate::screen::compose::recall::Recall;
use crate::screen::effect::{Ask, DaemonAnswer, HistoryPart, Messages, ScreenEffect};
use crate::screen::room::Room;
use crate::screen::settings::Settings;
use crate::screen::view;

/// 2026-09-21 14:13:20 UTC.
pub(crate) const NOW: Timestamp = Timestamp::from_ms(1_790_000_000_000);

/// A peer of that number.
pub(crate) fn peer(number: u8, name: &str) -> PeerRef {
    let id = PeerId::from_bytes([number; 32]);
    PeerRef { id, name: name.into(), tag: id.tag() }
}

/// The members.
pub(crate) fn alice() -> PeerRef {
    peer(1, "alice")
}

/// This peer.
pub(crate) fn bob() -> PeerRef {
    peer(2, "bob")
}

/// A member.
pub(crate) fn member(peer: PeerRef, role: RoleView) -> PeerView {
    PeerView {
        me: peer.name == "bob",
        rtt_ms: (peer.name != "bob").then_some(0.4),
        peer,
        online: true,
        path: PathView::Direct,
        last_seen: Some(NOW),
        role,
        rank: Some(1),
        member: MemberRole::Admin,
        clock_off_ms: None,
        let_in_by: None,
        used: None,
        safety_words: None,
    }
}

/// The daemon's status.
pub(crate) fn status() -> Status {
    let room = RoomRef { id: RoomId::from_bytes([1; 32]), name: "lab".into(), open: false };
    Status { members: 3, members_online: 3, ..Status::alone(bob(), room) }
}

/// A message of that number, a minute after the one before.
pub(crate) fn message(number: u32, from: PeerRef, text: &str) -> Message {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Message {
        id: MessageId { entry: EntryHash::from_bytes(bytes), index: 0 },
        time: Timestamp::from_ms(NOW.as_ms() + u64::from(number) * 60_000),
        from,
        to: Vec::new(),
        reply_to: None,
        quote: None,
        text: text.into(),
        dropped: false,
        clock_off_ms: None,
    }
}

/// The stream brings an event.
pub(crate) fn event(event: Event) -> ScreenInput {
    let envelope = EventEnvelope { cursor: Cursor { run: 1, event: 1 }, at: NOW, event };
    let received = ReceivedEvent { cursor: None, json: String::new(), envelope: Some(envelope) };
    ScreenInput::Stream(FeedItem::Event(Box::new(received)))
}

/// The daemon posted a message.
pub(crate) fn sent(message: Message, copies: u32) -> Box<SentMessage> {
    Box::new(SentMessage { message, state: MessageState { stored: true, copies, ..MessageState::default() } })
}

/// A model and the effects that were not looked at yet.
pub(crate) struct Stage {
    pub(crate) app: App,
    pub(crate) effects: Vec<ScreenEffect>,
}

impl Stage {
    /// A screen of this size with these messages.
    pub(crate) fn of(width: u16, height: u16, messages: Vec<Message>) -> Self {
        Self::with(ChatSettings::default(), width, height, messages)
    }

    /// The same with settings.
    pub(crate) fn with(settings: ChatSettings, width: u16, height: u16, messages: Vec<Message>) -> Self {
        let settings = Settings::from_file(settings, |_| None);
        let room = Room::new(&status());
        let app = App::new(settings, room, Recall::default(), (width, height), TimeZone::UTC);
        let mut stage = Self { app, effects: Vec::new() };
        let members = [(bob(), RoleView::Standby), (alice(), RoleView::Holder), (peer(3, "carol"), RoleView::Member)];
        let members = members.into_iter().map(|(peer, role)| member(peer, role)).collect();
        stage.give(ScreenInput::Answer(DaemonAnswer::Peers(Ok(members))));
        stage.history(HistoryPart::Newest, messages, (false, false));
        stage.effects.clear();
        stage
    }

    /// Something happens.
    pub(crate) fn give(&mut self, input: ScreenInput) {
        self.app.handle(input, NOW);
        self.effects.extend(self.app.drain());
    }

    /// The daemon gives a part of the history.
    pub(crate) fn history(&mut self, part: HistoryPart, messages: Vec<Message>, (older, newer): (bool, bool)) {
        self.give(ScreenInput::Answer(DaemonAnswer::History(part, Ok(Messages { messages, older, newer }))));
    }

    /// A message arrives.
    pub(crate) fn arrives(&mut self, message: Message) {
        self.give(event(Event::Message { message }));
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, modifiers: KeyModifiers, code: KeyCode) {
        self.give(ScreenInput::Key(KeyEvent::new(code, modifiers)));
    }

    /// Presses Ctrl and a letter.
    pub(crate) fn ctrl(&mut self, c: char) {
        self.press(KeyModifiers::CONTROL, KeyCode::Char(c));
    }

    /// Types a text.
    pub(crate) fn types(&mut self, text: &str) {
        for c in text.chars() {
            self.press(KeyModifiers::NONE, KeyCode::Char(c));
        }
    }

    /// Types a text and Enter.
    pub(crate) fn enters(&mut self, text: &str) {
        self.types(text);
        self.press(KeyModifiers::NONE, KeyCode::Enter);
    }

    /// The messages that are to be posted, with their numbers: recipients and text.
    pub(crate) fn posts(&mut self) -> Vec<(u64, Vec<String>, String)> {
        self.requests().into_iter().map(|(ticket, request)| (ticket, request.to, request.text)).collect()
    }

    /// The messages that are to be posted, with their numbers.
    pub(crate) fn requests(&mut self) -> Vec<(u64, SendRequest)> {
        let effects = std::mem::take(&mut self.effects);
        let posts = effects.into_iter().filter_map(|effect| match effect {
            ScreenEffect::Ask(Ask::Send { ticket, message }) => Some((ticket, message.request)),
            ScreenEffect::Ask(_)
            | ScreenEffect::Bell
            | ScreenEffect::Notify(_)
            | ScreenEffect::Title(_)
            | ScreenEffect::Suspend
            | ScreenEffect::Redraw
            | ScreenEffect::Leave => None,
        });
        posts.collect()
    }

    /// Whether an effect like this is to come.
    pub(crate) fn is_asked(&self, wanted: impl Fn(&ScreenEffect) -> bool) -> bool {
        self.effects.iter().any(wanted)
    }

    /// The lines on the screen, without spaces at their ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        let (width, height) = self.app.surface.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
        terminal.draw(|frame| view::draw(frame, &self.app)).expect("it can be drawn on");
        let buffer = terminal.backend().buffer();
        (0..height)
            .map(|y| {
                let mut line = String::new();
                let mut x = 0;
                while x < width {
                    let symbol = buffer[(x, y)].symbol();
                    line.push_str(symbol);
                    x += u16::try_from(crate::text::wrap::columns(symbol)).unwrap_or(1).max(1);
                }
                line.trim_end().to_owned()
            })
            .collect()
    }

    /// The screen as one text.
    pub(crate) fn screen(&self) -> String {
        self.lines().join("\n")
    }
}
