//! What keys do.

use chat_proto::text::TextError;
use chat_proto::time::Timestamp;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{App, PROMPT_COLUMNS};
use crate::screen::compose::command::{InfoPage, KnockDecision};
use crate::screen::compose::completion::Completion;
use crate::screen::compose::composer::Edit;
use crate::screen::effect::{Ask, ScreenEffect};
use crate::screen::overlay::{Overlay, Question, Search, Yes};

/// Lines from which a paste is inserted only after a question.
const PASTE_ASKS_FROM: usize = 10;

/// Number of earlier texts that Ctrl-R offers.
const RECALL_SHOWN: usize = 8;

impl App {
    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent, now: Timestamp) {
        let interrupt = key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('c');
        if !interrupt {
            self.surface.leaving = false;
        }
        self.surface.hint = None;
        match (key.modifiers, key.code) {
            (KeyModifiers::CONTROL, KeyCode::Char('c')) => self.interrupt(),
            (KeyModifiers::CONTROL, KeyCode::Char('z')) => self.effects.push(ScreenEffect::Suspend),
            (KeyModifiers::CONTROL, KeyCode::Char('l')) => self.effects.push(ScreenEffect::Redraw),
            _ if self.overlay.is_some() => self.overlay_key(key),
            _ if self.completion_key(key) => {}
            _ if self.history_key(key) => {}
            (_, KeyCode::Enter) if key.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SHIFT) => {
                self.insert("\n")
            }
            (KeyModifiers::CONTROL, KeyCode::Char('j')) => self.insert("\n"),
            (_, KeyCode::Enter) => self.submit(now),
            (KeyModifiers::CONTROL, KeyCode::Char('d')) if self.composer.is_empty() => {
                self.effects.push(ScreenEffect::Leave)
            }
            _ => self.edit_key(key),
        }
    }

    /// Ctrl-C closes what is open, then clears the line, which is kept, then leaves when pressed twice.
    fn interrupt(&mut self) {
        self.completion = None;
        if self.overlay.take().is_some() {
            return;
        }
        if !self.composer.is_empty() {
            let text = self.composer.take();
            self.recall.add(&text);
            self.hint("kept: Up brings it back");
        } else if self.surface.leaving {
            self.effects.push(ScreenEffect::Leave);
        } else {
            self.surface.leaving = true;
            self.hint("press Ctrl-C again, or Ctrl-D, to leave");
        }
    }

    /// Keys of the list of candidates; returns whether it was one.
    fn completion_key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers == KeyModifiers::NONE && key.code == KeyCode::Tab && self.completion.is_none() {
            self.complete();
        }
        let Some(completion) = &mut self.completion else {
            return key.code == KeyCode::Tab;
        };
        match (key.modifiers, key.code) {
            (KeyModifiers::NONE, KeyCode::Up) => completion.select(-1),
            (KeyModifiers::NONE, KeyCode::Down) => completion.select(1),
            (_, KeyCode::BackTab) => completion.select(-1),
            (KeyModifiers::NONE, KeyCode::Esc) => self.completion = None,
            (KeyModifiers::NONE, KeyCode::Tab) => {
                let (start, text) = (completion.start, completion.text().unwrap_or_default().to_owned());
                self.composer.replace_before_cursor(start, &text);
                self.complete();
            }
            _ => {
                self.completion = None;
                return false;
            }
        }
        true
    }

    /// Keys that move in the history; returns whether it was one.
    fn history_key(&mut self, key: KeyEvent) -> bool {
        let page = isize::try_from(self.areas().history.height).unwrap_or(1).saturating_sub(2).max(1);
        let none = self.composer.is_empty();
        match (key.modifiers, key.code) {
            (_, KeyCode::PageUp) => self.scroll(-page),
            (_, KeyCode::PageDown) => self.scroll(page),
            (KeyModifiers::CONTROL | KeyModifiers::SHIFT, KeyCode::Up) => self.scroll(-1),
            (KeyModifiers::CONTROL | KeyModifiers::SHIFT, KeyCode::Down) => self.scroll(1),
            (KeyModifiers::CONTROL, KeyCode::Home) | (KeyModifiers::ALT, KeyCode::Char('<')) => self.go_to_beginning(),
            (KeyModifiers::CONTROL, KeyCode::End) | (KeyModifiers::ALT, KeyCode::Char('>')) => self.go_to_newest(),
            (KeyModifiers::NONE, KeyCode::End) if none => self.go_to_newest(),
            (KeyModifiers::NONE, KeyCode::Esc) => self.go_to_newest(),
            (KeyModifiers::CONTROL, KeyCode::Char('f')) => self.overlay = Some(Overlay::Search(Search::default())),
            (KeyModifiers::NONE, KeyCode::F(1)) => self.ask(Ask::Show(InfoPage::Help)),
            (KeyModifiers::NONE, KeyCode::F(2)) => self.ask(Ask::Show(InfoPage::Peers)),
            (KeyModifiers::NONE, KeyCode::F(3)) => self.ask(Ask::Show(InfoPage::Why)),
            (KeyModifiers::ALT, KeyCode::Char('n')) => self.go_to_unread(),
            (KeyModifiers::ALT, KeyCode::Char('m')) => self.go_to_mention(),
            (KeyModifiers::ALT, KeyCode::Char('a')) => self.answer_knock(KnockDecision::Admit),
            (KeyModifiers::ALT, KeyCode::Char('d')) if none => self.answer_knock(KnockDecision::Deny),
            _ => return false,
        }
        true
    }

    /// Keys that edit the text.
    fn edit_key(&mut self, key: KeyEvent) {
        match edit(key) {
            Some(edit) => {
                self.recall.settle();
                self.composer.edit(edit);
            }
            None => match (key.modifiers, key.code) {
                (KeyModifiers::NONE, KeyCode::Up) => return self.up(),
                (KeyModifiers::CONTROL, KeyCode::Char('p')) => return self.up(),
                (KeyModifiers::NONE, KeyCode::Down) => return self.down(),
                (KeyModifiers::CONTROL, KeyCode::Char('n')) => return self.down(),
                (KeyModifiers::CONTROL, KeyCode::Char('r')) => return self.offer_earlier(),
                (KeyModifiers::NONE | KeyModifiers::SHIFT, KeyCode::Char(c)) => {
                    return self.insert(c.encode_utf8(&mut [0; 4]));
                }
                _ => return,
            },
        }
        self.complete();
    }

    fn width(&self) -> usize {
        usize::from(self.surface.size.0).saturating_sub(PROMPT_COLUMNS)
    }

    fn up(&mut self) {
        if self.composer.move_row(-1, self.width()) {
            return;
        }
        if let Some(text) = self.recall.older(self.composer.text()) {
            self.composer.set(&text);
        }
    }

    fn down(&mut self) {
        if self.composer.move_row(1, self.width()) {
            return;
        }
        if let Some(text) = self.recall.newer() {
            self.composer.set(&text);
        }
    }

    /// Offers earlier texts that contain what is typed.
    fn offer_earlier(&mut self) {
        let found = self.recall.matching(self.composer.text(), RECALL_SHOWN);
        if found.is_empty() {
            return self.hint("nothing like that was typed before");
        }
        self.composer.edit(Edit::LineEnd);
        let candidates = found.into_iter().map(|text| (text, String::new())).collect();
        self.completion = Some(Completion { start: 0, candidates, selected: 0 });
    }

    pub(super) fn insert(&mut self, text: &str) {
        self.recall.settle();
        if !self.composer.insert(text) {
            self.hint("the text is too long for one message");
        }
        self.complete();
    }

    /// Text was pasted: a little is inserted, much after a question, too much not at all.
    pub(super) fn paste(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        // A paste that comes in parts is one: the question about its first part waits.
        let begun = match self.overlay.take() {
            Some(Overlay::Question(Question { yes: Yes::Paste(begun), .. })) => begun + "\n",
            other => {
                self.overlay = other;
                String::new()
            }
        };
        let text = begun + text.trim_end_matches('\n');
        if let Some(Overlay::Search(search)) = &mut self.overlay {
            search.words.insert(&text.replace('\n', " "));
            return;
        }
        let (lines, bytes) = (text.lines().count(), text.len() + self.composer.text().len());
        if bytes > chat_proto::TEXT_BYTES_MAX {
            let reason = TextError::TextTooLong { bytes };
            return self.tell(vec![
                format!("The pasted text was not inserted: {reason}."),
                String::new(),
                "From a shell, a file can be sent as several messages, or its last part as one:".into(),
                "    chat send --split < FILE".into(),
                "    chat send --tail < FILE".into(),
            ]);
        }
        if lines >= PASTE_ASKS_FROM {
            let question = format!("Put the {lines} pasted lines ({bytes} bytes) into one message?");
            self.overlay = Some(Overlay::Question(Question { text: question, yes: Yes::Paste(text) }));
            return;
        }
        self.insert(&text);
    }
}

/// The editing action of a key, as readline has it.
pub(super) fn edit(key: KeyEvent) -> Option<Edit> {
    Some(match (key.modifiers, key.code) {
        (KeyModifiers::NONE, KeyCode::Left) | (KeyModifiers::CONTROL, KeyCode::Char('b')) => Edit::Left,
        (KeyModifiers::NONE, KeyCode::Right) => Edit::Right,
        (KeyModifiers::ALT, KeyCode::Char('b') | KeyCode::Left) | (KeyModifiers::CONTROL, KeyCode::Left) => {
            Edit::WordLeft
        }
        (KeyModifiers::ALT, KeyCode::Char('f') | KeyCode::Right) | (KeyModifiers::CONTROL, KeyCode::Right) => {
            Edit::WordRight
        }
        (KeyModifiers::NONE, KeyCode::Home) | (KeyModifiers::CONTROL, KeyCode::Char('a')) => Edit::LineStart,
        (KeyModifiers::NONE, KeyCode::End) | (KeyModifiers::CONTROL, KeyCode::Char('e')) => Edit::LineEnd,
        (KeyModifiers::NONE | KeyModifiers::SHIFT, KeyCode::Backspace)
        | (KeyModifiers::CONTROL, KeyCode::Char('h')) => Edit::Backspace,
        (KeyModifiers::NONE, KeyCode::Delete) | (KeyModifiers::CONTROL, KeyCode::Char('d')) => Edit::Delete,
        (KeyModifiers::CONTROL, KeyCode::Char('k')) => Edit::KillToEnd,
        (KeyModifiers::CONTROL, KeyCode::Char('u')) => Edit::KillToStart,
        (KeyModifiers::CONTROL, KeyCode::Char('w')) => Edit::KillBlankLeft,
        (KeyModifiers::ALT | KeyModifiers::CONTROL, KeyCode::Backspace) => Edit::KillWordLeft,
        (KeyModifiers::ALT, KeyCode::Char('d') | KeyCode::Delete) => Edit::KillWordRight,
        (KeyModifiers::CONTROL, KeyCode::Char('y')) => Edit::Yank,
        (KeyModifiers::CONTROL, KeyCode::Char('t')) => Edit::Transpose,
        (KeyModifiers::ALT, KeyCode::Char('t')) => Edit::TransposeWords,
        (KeyModifiers::ALT, KeyCode::Char('u')) => Edit::Upper,
        (KeyModifiers::ALT, KeyCode::Char('l')) => Edit::Lower,
        (KeyModifiers::ALT, KeyCode::Char('c')) => Edit::Capitalize,
        // Terminals send Ctrl-_ as the control character 31, which is Ctrl-7 as well.
        (KeyModifiers::CONTROL, KeyCode::Char('_' | '7')) => Edit::Undo,
        _ => return None,
    })
}
