//! What typed texts and the keys of windows do.

use chat_client::display::{label, name};
use chat_proto::api::messages::{HistoryQuery, Message, SendRequest};
use chat_proto::api::peers::MemberRole;
use chat_proto::id::KnockId;
use chat_proto::text::check_text;
use chat_proto::time::Timestamp;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::App;
use super::keys::edit;
use crate::screen::compose::command::{self, KnockDecision, TypedText};
use crate::screen::effect::{Ask, HistoryPart, RoomChange, ScreenEffect};
use crate::screen::overlay::{Overlay, Pager, Question, Search, SearchState, Yes};
use crate::screen::timeline::entry::{Serial, TimelineKind, TypedMessage};
use crate::screen::timeline::layout::{QUOTE_CHARS, start};
use crate::screen::timeline::{More, Timeline, TimelineEnd};
use crate::text::time_arg;

/// Number of messages that a search shows at once.
pub(crate) const FOUND_MAX: u32 = 100;

/// A point before every message.
const BEGINNING: &str = "1970-01-01T00:00:00.000Z";

impl App {
    /// Does what was typed. What cannot be done stays in the line.
    pub(super) fn submit(&mut self, now: Timestamp) {
        let text = self.composer.text().to_owned();
        let done = match command::parse(&text) {
            TypedText::Nothing => Ok(()),
            TypedText::Say { to, text } => self.say(SendRequest { to, text, ..SendRequest::default() }, None, now),
            TypedText::Reply { author, text } => self.reply(author.as_deref(), &text, now),
            TypedText::Show(page) => {
                self.ask(Ask::Show(page));
                Ok(())
            }
            TypedText::Knock(id, decision) => match id.parse::<KnockId>() {
                Ok(id) => {
                    self.ask(Ask::Change(RoomChange::Knock(id, decision)));
                    Ok(())
                }
                Err(_) => Err(format!("'{}' is not the number of a knock: /knocks lists them", label(&id))),
            },
            TypedText::Remove(member) => self.question_remove(member),
            TypedText::Role(member, role) => self.set_role(member, &role),
            TypedText::Trust(member) => {
                self.ask(Ask::Change(RoomChange::Trust(member)));
                Ok(())
            }
            TypedText::Name(name) => {
                self.ask(Ask::Change(RoomChange::Name(name)));
                Ok(())
            }
            TypedText::Search(words) => {
                self.search(&words);
                Ok(())
            }
            TypedText::Log(point) => self.go_to_point(&point),
            TypedText::Unread => {
                self.go_to_unread();
                Ok(())
            }
            TypedText::Newest => {
                self.go_to_newest();
                Ok(())
            }
            TypedText::Leave => {
                self.effects.push(ScreenEffect::Leave);
                Ok(())
            }
            TypedText::Invalid(reason) => Err(reason),
        };
        match done {
            Ok(()) => {
                self.composer.take();
                self.recall.add(&text);
            }
            Err(reason) => self.hint(reason),
        }
        self.completion = None;
    }

    /// Posts a message, or as soon as the daemon takes it; with the start of what it answers.
    fn say(&mut self, request: SendRequest, quote: Option<String>, now: Timestamp) -> Result<(), String> {
        check_text(&request.text).map_err(|error| error.to_string())?;
        if !self.outbox.has_room() {
            return Err(format!("not sent: {} messages wait for the daemon already", self.outbox.len()));
        }
        let SendRequest { to, text, .. } = request.clone();
        let ticket = self.outbox.add(request, quote.clone());
        self.go_to_newest();
        if self.timeline.is_live() {
            self.timeline.push(now, TimelineKind::Typed(TypedMessage { ticket, to, quote, text, refused: None }));
        }
        Ok(())
    }

    /// Answers the newest message of another member, or of this one: its start is shown above the text.
    fn reply(&mut self, author: Option<&str>, text: &str, now: Timestamp) -> Result<(), String> {
        let me = self.room.me.id;
        let fits = |message: &&Message| {
            message.from.id != me
                && author.is_none_or(|author| {
                    let known = message.from.name.to_lowercase();
                    known == author.to_lowercase() || message.from.tag.to_string() == author
                })
        };
        let found = self.timeline.iter().rev().filter_map(|(_, entry)| entry.message()).find(fits);
        let Some(answered) = found else {
            let by = author.map_or_else(String::new, |author| format!(" by {}", label(author)));
            return Err(format!("there is no message{by} on the screen to answer"));
        };
        let quote = format!("{}: {}", name(&answered.from), start(&answered.text, QUOTE_CHARS));
        let reply_to = Some(answered.id);
        // What was written to few is answered to them.
        let to = match answered.to.as_slice() {
            [] => Vec::new(),
            others => {
                let all = others.iter().chain([&answered.from]).filter(|peer| peer.id != me);
                all.map(|peer| self.room.current_name(peer)).collect()
            }
        };
        self.say(SendRequest { to, reply_to, text: text.to_owned(), ..SendRequest::default() }, Some(quote), now)
    }

    fn question_remove(&mut self, member: String) -> Result<(), String> {
        let text = format!("Remove {} from the room?", label(&member));
        self.overlay = Some(Overlay::Question(Question { text, yes: Yes::Change(RoomChange::Remove(member)) }));
        Ok(())
    }

    fn set_role(&mut self, member: String, role: &str) -> Result<(), String> {
        let role = match role {
            "admin" => MemberRole::Admin,
            "member" => MemberRole::Member,
            other => return Err(format!("'{}' is not a role: write admin or member", label(other))),
        };
        self.ask(Ask::Change(RoomChange::Role(member, role)));
        Ok(())
    }

    /// Answers the newest knock on the screen; admitting is asked about, since it lets a stranger in.
    pub(super) fn answer_knock(&mut self, decision: KnockDecision) {
        match self.timeline.waiting_knock() {
            None => self.hint("no newcomer asks for admission"),
            Some(id) => self.ask(Ask::Change(RoomChange::Knock(id, decision))),
        }
    }

    /// Opens a window with these lines.
    pub(super) fn tell(&mut self, lines: Vec<String>) {
        self.overlay = Some(Overlay::Pager(Pager { title: "chat", lines, top: 0 }));
    }

    pub(super) fn go_to_newest(&mut self) {
        self.surface.found = None;
        self.timeline.window.follow();
        if !self.timeline.is_live() && self.timeline.newer != More::Asked {
            self.go_to(HistoryPart::Newest);
        }
    }

    pub(super) fn go_to_beginning(&mut self) {
        self.go_to(HistoryPart::From(BEGINNING.into()));
    }

    /// Reads another part of the history; what is shown stays until it is there.
    pub(super) fn go_to(&mut self, part: HistoryPart) {
        self.ask(Ask::History(part));
    }

    fn go_to_point(&mut self, point: &str) -> Result<(), String> {
        if point.is_empty() {
            self.go_to_beginning();
            return Ok(());
        }
        let point = time_arg::history_point(point).map_err(|error| error.to_string())?;
        self.go_to(HistoryPart::From(point));
        Ok(())
    }

    pub(super) fn go_to_unread(&mut self) {
        match self.timeline.unread {
            Some((serial, _)) if serial >= self.timeline.first() => self.show(serial),
            Some(_) | None => self.hint("everything is read"),
        }
    }

    /// Goes to the mention or direct message before what is on the screen.
    pub(super) fn go_to_mention(&mut self) {
        let before = self.surface.found.unwrap_or(self.timeline.end());
        let areas = self.areas();
        let look = Self::look(&self.room, &self.settings, &self.surface, areas.history.width);
        let concerns = |(serial, entry): &(Serial, &crate::screen::timeline::entry::TimelineEntry)| {
            *serial < before && entry.message().is_some_and(|message| look.concerns(message))
        };
        let found = self.timeline.iter().rev().find(concerns).map(|(serial, _)| serial);
        match found {
            Some(serial) => {
                self.surface.found = Some(serial);
                self.show(serial);
            }
            None => {
                // The daemon knows the rest of the history.
                self.hint("no older mention is on the screen; the search looks through all messages");
                let name = self.room.me.name.split('~').next().unwrap_or_default().to_owned();
                self.search(&name);
            }
        }
    }

    /// Brings an entry onto the screen.
    pub(super) fn show(&mut self, serial: Serial) {
        let areas = self.areas();
        let look = Self::look(&self.room, &self.settings, &self.surface, areas.history.width);
        self.timeline.show(serial, usize::from(areas.history.height), &look);
        self.read_around();
    }

    /// Reads on where the screen is near an end of what is in memory.
    pub(super) fn read_around(&mut self) {
        self.scroll(0);
        if self.timeline.window.follows() && !self.timeline.is_live() {
            self.read_on(TimelineEnd::New);
        }
    }

    /// Opens the search with these words.
    pub(super) fn search(&mut self, words: &str) {
        let mut search = Search::default();
        search.words.set(words);
        self.overlay = Some(Overlay::Search(search));
        self.start_search();
    }

    fn start_search(&mut self) {
        let Some(Overlay::Search(search)) = &mut self.overlay else { return };
        let words = search.words.text().trim().to_owned();
        if words.is_empty() {
            return;
        }
        *search = Search { words: std::mem::take(&mut search.words), asked: Some(words.clone()), ..Search::default() };
        search.state = SearchState::Asked;
        let query = HistoryQuery { q: Some(words), limit: Some(FOUND_MAX), ..HistoryQuery::default() };
        self.ask(Ask::Search { query: Box::new(query) });
    }

    /// A key while a window is open.
    pub(super) fn overlay_key(&mut self, key: KeyEvent) {
        let page = usize::from(self.areas().history.height).saturating_sub(2).max(1);
        match self.overlay.take() {
            None => {}
            Some(Overlay::Pager(pager)) => self.pager_key(pager, key, page),
            Some(Overlay::Question(question)) => self.question_key(question, key),
            Some(Overlay::Search(search)) => self.search_key(search, key),
        }
    }

    fn pager_key(&mut self, mut pager: Pager, key: KeyEvent, page: usize) {
        let last = pager.lines.len().saturating_sub(1);
        pager.top = match (key.modifiers, key.code) {
            (_, KeyCode::Up | KeyCode::Char('k')) => pager.top.saturating_sub(1),
            (_, KeyCode::Down | KeyCode::Char('j')) => (pager.top + 1).min(last),
            (_, KeyCode::PageUp) => pager.top.saturating_sub(page),
            (_, KeyCode::PageDown | KeyCode::Char(' ')) => (pager.top + page).min(last),
            (_, KeyCode::Home) => 0,
            (_, KeyCode::End) => last,
            // Any other key goes back, and is not lost where it is text.
            (KeyModifiers::NONE | KeyModifiers::SHIFT, KeyCode::Char(c)) if c != 'q' => {
                return self.insert(c.encode_utf8(&mut [0; 4]));
            }
            _ => return,
        };
        self.overlay = Some(Overlay::Pager(pager));
    }

    fn question_key(&mut self, question: Question, key: KeyEvent) {
        match (key.modifiers, key.code) {
            (_, KeyCode::Char('y' | 'Y')) => match question.yes {
                Yes::Paste(text) => self.insert(&text),
                Yes::Change(change) => self.ask(Ask::Change(change)),
            },
            (_, KeyCode::Char('n' | 'N') | KeyCode::Esc) => self.hint("nothing was done"),
            _ => self.overlay = Some(Overlay::Question(question)),
        }
    }

    fn search_key(&mut self, mut search: Search, key: KeyEvent) {
        let last = search.found.len().saturating_sub(1);
        match (key.modifiers, key.code) {
            (_, KeyCode::Esc) => return,
            (_, KeyCode::Up) | (KeyModifiers::CONTROL, KeyCode::Char('p')) => {
                search.selected = search.selected.saturating_sub(1);
            }
            (_, KeyCode::Down) | (KeyModifiers::CONTROL, KeyCode::Char('n')) => {
                search.selected = (search.selected + 1).min(last);
                if search.selected == last && search.state == SearchState::More {
                    self.search_on(&mut search);
                }
            }
            (_, KeyCode::PageUp) => search.selected = search.selected.saturating_sub(10),
            (_, KeyCode::PageDown) => search.selected = (search.selected + 10).min(last),
            (_, KeyCode::Enter) => {
                let is_asked = search.asked.as_deref() == Some(search.words.text().trim());
                match search.found.get(search.selected) {
                    Some(found) if is_asked => return self.go_to(HistoryPart::Around(found.id)),
                    Some(_) | None => {
                        self.overlay = Some(Overlay::Search(search));
                        return self.start_search();
                    }
                }
            }
            (KeyModifiers::NONE | KeyModifiers::SHIFT, KeyCode::Char(c)) => {
                search.words.insert(c.encode_utf8(&mut [0; 4]));
            }
            _ => {
                if let Some(edit) = edit(key) {
                    search.words.edit(edit);
                }
            }
        }
        self.overlay = Some(Overlay::Search(search));
    }

    /// Looks for messages before the last one that was found.
    fn search_on(&mut self, search: &mut Search) {
        let Some(oldest) = search.found.last() else { return };
        search.state = SearchState::Asked;
        let before = Some(oldest.id.to_string());
        let query = HistoryQuery { q: search.asked.clone(), before, limit: Some(FOUND_MAX), ..HistoryQuery::default() };
        self.ask(Ask::Search { query: Box::new(query) });
    }

    /// A history to be filled anew; what waits to be posted is put behind it.
    pub(super) fn restart_timeline(&mut self) {
        let unread = self.timeline.unread.filter(|(_, count)| *count > 0);
        self.timeline = Timeline::default();
        self.surface.found = None;
        self.surface.missed = false;
        // Its entry has another number now: only the count is kept.
        self.timeline.unread = unread.map(|(_, count)| (Serial::MAX, count));
    }
}
