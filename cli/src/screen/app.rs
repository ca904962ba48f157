//! The model: what is on the screen and what follows from keys, events and answers. It does no IO: what is to be done comes
//! out as [`ScreenEffect`]s.

mod actions;
mod answers;
mod keys;
mod stream;

use std::time::Duration;

use chat_proto::time::Timestamp;
use crossterm::event::KeyEvent;
use jiff::tz::TimeZone;

use super::areas::{Areas, Column};
use super::compose::completion::{Completion, Known};
use super::compose::composer::Composer;
use super::compose::outbox::{PostAttempt, PostQueue};
use super::compose::recall::Recall;
use super::effect::{Ask, DaemonAnswer, HistoryPart, ScreenEffect};
use super::overlay::Overlay;
use super::room::{Link, Room};
use super::settings::Settings;
use super::timeline::entry::Serial;
use super::timeline::layout::Look;
use super::timeline::reading::ReadingMark;
use super::timeline::{More, Timeline, TimelineEnd};
use crate::interactive::echo_filter::EchoFilter;
use chat_client::FeedItem;
use chat_client::chat_settings::OnOff;

/// How often what changes without an event is asked for, while the screen is looked at.
const TICK_IDLE: Duration = Duration::from_secs(30);

/// The same while something is under way.
const TICK_BUSY: Duration = Duration::from_millis(500);

/// Columns in front of the text that is typed.
pub(crate) const PROMPT_COLUMNS: usize = 2;

/// What happened.
#[derive(Debug)]
pub(crate) enum ScreenInput {
    /// A key.
    Key(KeyEvent),
    /// Text that was pasted.
    Paste(String),
    /// The wheel of the mouse, by lines towards newer messages.
    Wheel(isize),
    /// The screen has this many columns and lines.
    Resize(u16, u16),
    /// The terminal is looked at, or no longer.
    Focus(Focus),
    /// An item of the event stream.
    Stream(FeedItem),
    /// An answer of the daemon.
    Answer(DaemonAnswer),
    /// Some time has passed.
    Tick,
}

/// Whether the terminal has the focus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Focus {
    /// It has, as far as is known.
    Here,
    /// It has not.
    Elsewhere,
}

/// The model.
pub(crate) struct App {
    /// The settings.
    pub(crate) settings: Settings,
    /// The room.
    pub(crate) room: Room,
    /// The history.
    pub(crate) timeline: Timeline,
    /// Where the person left off reading.
    pub(crate) reading: ReadingMark,
    /// What is typed.
    pub(crate) composer: Composer,
    /// What was typed.
    pub(crate) recall: Recall,
    /// What waits to be posted.
    pub(crate) outbox: PostQueue,
    /// Candidates for the word before the cursor.
    pub(crate) completion: Option<Completion>,
    /// The window over the history.
    pub(crate) overlay: Option<Overlay>,
    /// The terminal.
    pub(crate) surface: Surface,
    echo: EchoFilter,
    effects: Vec<ScreenEffect>,
}

/// What is known of the terminal.
#[derive(Debug)]
pub(crate) struct Surface {
    /// Columns and lines.
    pub(crate) size: (u16, u16),
    /// Whether it is looked at.
    pub(crate) focus: Focus,
    /// A word to the person, until the next key.
    pub(crate) hint: Option<String>,
    /// The entry that was searched for.
    pub(crate) found: Option<Serial>,
    /// Zone of the times.
    pub(crate) zone: TimeZone,
    title: String,
    /// Lines to scroll up once the messages there are read.
    owed: usize,
    refreshed: Timestamp,
    /// Whether Ctrl-C was the last key and nothing was typed.
    leaving: bool,
    /// Messages arrived while the newest page was being read.
    missed: bool,
}

impl App {
    /// A model that knows the room and nothing of its history.
    pub(crate) fn new(settings: Settings, room: Room, recall: Recall, size: (u16, u16), zone: TimeZone) -> Self {
        let surface = Surface {
            size,
            focus: Focus::Here,
            hint: None,
            found: None,
            zone,
            title: String::new(),
            owed: 0,
            refreshed: Timestamp::from_ms(0),
            leaving: false,
            missed: false,
        };
        let mut app = Self {
            settings,
            room,
            timeline: Timeline::default(),
            reading: ReadingMark::default(),
            composer: Composer::default(),
            recall,
            outbox: PostQueue::default(),
            completion: None,
            overlay: None,
            surface,
            echo: EchoFilter::default(),
            effects: Vec::new(),
        };
        app.timeline.newer = More::Asked;
        app.timeline.older = More::Asked;
        for ask in [Ask::History(HistoryPart::Newest), Ask::Peers, Ask::Knocks] {
            app.ask(ask);
        }
        app
    }

    /// Takes what happened; [`App::drain`] gives what is to be done.
    pub(crate) fn handle(&mut self, input: ScreenInput, now: Timestamp) {
        let marks = matches!(input, ScreenInput::Key(_) | ScreenInput::Tick);
        match input {
            ScreenInput::Key(key) => self.key(key, now),
            ScreenInput::Paste(text) => self.paste(&text),
            ScreenInput::Wheel(lines) => self.scroll(lines),
            ScreenInput::Resize(width, height) => self.resize(width, height),
            ScreenInput::Focus(focus) => self.surface.focus = focus,
            ScreenInput::Stream(item) => self.item(item, now),
            ScreenInput::Answer(answer) => self.answer(answer, now),
            ScreenInput::Tick => self.tick(now),
        }
        self.watch();
        if marks && let Some(id) = self.reading.take_mark() {
            self.ask(Ask::Mark(id));
        }
        self.post_next();
        self.title();
    }

    /// What is to be done.
    pub(crate) fn drain(&mut self) -> Vec<ScreenEffect> {
        std::mem::take(&mut self.effects)
    }

    /// The rectangles of the screen.
    pub(crate) fn areas(&self) -> Areas {
        let (width, height) = self.surface.size;
        let (rows, _) = self.composer.rows(usize::from(width).saturating_sub(PROMPT_COLUMNS));
        let column = if self.settings.members == OnOff::On { Column::Shown } else { Column::Hidden };
        Areas::of(width, height, rows.len(), column)
    }

    /// How the history is shown.
    pub(crate) fn look<'a>(room: &'a Room, settings: &'a Settings, surface: &'a Surface, width: u16) -> Look<'a> {
        Look {
            width: usize::from(width),
            theme: settings.theme,
            me: room.me.id,
            my_name: &room.me.name,
            keywords: &settings.keywords,
            zone: &surface.zone,
            found: surface.found,
        }
    }

    /// Whether unread messages are below the screen or the screen is not looked at.
    pub(crate) fn is_watched(&self) -> bool {
        self.surface.focus == Focus::Here && self.timeline.is_live() && self.timeline.window.follows()
    }

    /// Number of unread messages.
    pub(crate) fn unread(&self) -> u32 {
        self.timeline.unread.map_or(0, |(_, count)| count)
    }

    fn ask(&mut self, ask: Ask) {
        self.effects.push(ScreenEffect::Ask(ask));
    }

    /// Scrolls the history; older messages are read when its beginning comes near.
    fn scroll(&mut self, lines: isize) {
        let areas = self.areas();
        let height = usize::from(areas.history.height);
        let look = Self::look(&self.room, &self.settings, &self.surface, areas.history.width);
        let count = lines.unsigned_abs();
        let mut missing = 0;
        let at_end = if lines < 0 {
            missing = self.timeline.scroll_up(count, height, &look);
            // A few screens ahead, so that scrolling does not wait.
            self.timeline.top(height.saturating_mul(4), &look) == self.timeline.first()
        } else {
            self.timeline.scroll_down(count, &look)
        };
        self.surface.owed = missing.min(count);
        self.ask_unknown();
        if at_end {
            self.read_on(if lines < 0 { TimelineEnd::Old } else { TimelineEnd::New });
        }
    }

    /// Reads the history beyond an end of what is in memory, unless it ends there.
    fn read_on(&mut self, end: TimelineEnd) {
        let more = match end {
            TimelineEnd::Old => &mut self.timeline.older,
            TimelineEnd::New => &mut self.timeline.newer,
        };
        if *more != More::Maybe || self.room.link == Link::Lost {
            return;
        }
        *more = More::Asked;
        let part = match (self.timeline.message_at(end), end) {
            (Some(id), TimelineEnd::Old) => HistoryPart::Before(id),
            (Some(id), TimelineEnd::New) => HistoryPart::After(id),
            (None, _) => HistoryPart::Newest,
        };
        self.ask(Ask::History(part));
    }

    fn resize(&mut self, width: u16, height: u16) {
        self.surface.size = (width.max(1), height.max(1));
        self.effects.push(ScreenEffect::Redraw);
        // A larger screen may show more than is in memory.
        self.scroll(0);
    }

    /// Once the newest messages are looked at, they are read.
    fn watch(&mut self) {
        if self.is_watched() {
            self.timeline.all_read();
            self.reading.has_read(self.timeline.message_at(TimelineEnd::New));
        }
    }

    fn post_next(&mut self) {
        if let Some((ticket, message, attempt)) = self.outbox.next() {
            if attempt == PostAttempt::First {
                self.echo.begin();
            }
            self.ask(Ask::Send { ticket, message: Box::new(message) });
        }
    }

    /// How soon the next tick is due.
    pub(crate) fn pace(&self) -> Duration {
        if self.outbox.is_held() || self.outbox.has_unconfirmed() { TICK_BUSY } else { TICK_IDLE }
    }

    /// From time to time: what is measured changes without an event, and what was held is tried again.
    fn tick(&mut self, now: Timestamp) {
        self.outbox.resume();
        for id in self.outbox.unconfirmed() {
            self.ask(Ask::Delivery(id));
        }
        let old = now.before(TICK_IDLE) >= self.surface.refreshed;
        if old && self.room.link == Link::Up && self.surface.focus == Focus::Here {
            self.surface.refreshed = now;
            self.ask(Ask::Peers);
            self.ask(Ask::Status);
        }
    }

    fn title(&mut self) {
        let unread = self.unread();
        let count = if unread > 0 { format!("({unread}) ") } else { String::new() };
        let title = format!("{count}{} – chat", self.room.name);
        if self.settings.title == OnOff::On && title != self.surface.title {
            self.surface.title.clone_from(&title);
            self.effects.push(ScreenEffect::Title(title));
        }
    }

    fn hint(&mut self, text: impl Into<String>) {
        self.surface.hint = Some(text.into());
    }

    /// Looks for candidates for the word before the cursor.
    fn complete(&mut self) {
        let names = self.room.names();
        let known = Known { names: &names, knocks: &self.room.knocks };
        self.completion = Completion::find(self.composer.text(), self.composer.cursor(), known);
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
