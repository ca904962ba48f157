//! The text that is being typed, of several lines, with the editing keys of readline.

use ratatui::buffer::CellWidth;
use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer, WordAction};
use rustyline::{At, Word};
use unicode_segmentation::UnicodeSegmentation;

/// Maximum number of bytes; a message has at most half as many.
const BYTES_MAX: usize = 2 * chat_proto::TEXT_BYTES_MAX;

/// Number of steps that can be taken back.
const UNDO_STEPS: usize = 100;

/// An editing action that is not an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Ctrl-B, Left.
    Left,
    /// Ctrl-F is taken; Right.
    Right,
    /// Alt-B, Ctrl-Left.
    WordLeft,
    /// Alt-F, Ctrl-Right.
    WordRight,
    /// Ctrl-A, Home.
    LineStart,
    /// Ctrl-E, TimelineEnd.
    LineEnd,
    /// Ctrl-H, Backspace.
    Backspace,
    /// Ctrl-D, Delete.
    Delete,
    /// Ctrl-K.
    KillToEnd,
    /// Ctrl-U.
    KillToStart,
    /// Ctrl-W: back to the last blank.
    KillBlankLeft,
    /// Alt-Backspace: back to the start of the word.
    KillWordLeft,
    /// Alt-D.
    KillWordRight,
    /// Ctrl-Y.
    Yank,
    /// Ctrl-T.
    Transpose,
    /// Alt-T.
    TransposeWords,
    /// Alt-U.
    Upper,
    /// Alt-L.
    Lower,
    /// Alt-C.
    Capitalize,
    /// Ctrl-_.
    Undo,
}

/// The text and the cursor in it.
pub(crate) struct Composer {
    line: LineBuffer,
    killed: String,
    /// Whether the last action killed: the next one then adds to what was killed.
    killing: bool,
    undo: Vec<(String, usize)>,
    /// Whether the last action inserted one character: a word is taken back as one step.
    inserting: bool,
}

/// A line of the text as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ComposerRow {
    /// Where it begins in the text, in bytes.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
}

impl Default for Composer {
    fn default() -> Self {
        Self {
            line: LineBuffer::with_capacity(BYTES_MAX),
            killed: String::new(),
            killing: false,
            undo: Vec::new(),
            inserting: false,
        }
    }
}

impl Composer {
    /// The text.
    pub(crate) fn text(&self) -> &str {
        self.line.as_str()
    }

    /// Where the cursor is, in bytes.
    pub(crate) fn cursor(&self) -> usize {
        self.line.pos()
    }

    /// Whether there is no text.
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Inserts text at the cursor; returns whether there is room for it.
    pub(crate) fn insert(&mut self, text: &str) -> bool {
        if self.line.len() + text.len() > BYTES_MAX {
            return false;
        }
        let one = text.chars().count() == 1 && !text.contains(char::is_whitespace);
        if !(one && self.inserting) {
            self.remember();
        }
        (self.inserting, self.killing) = (one, false);
        self.line.yank(text, 1, &mut Deaf).is_some() || text.is_empty()
    }

    /// Replaces the text; the cursor is at its end.
    pub(crate) fn set(&mut self, text: &str) {
        self.remember();
        (self.inserting, self.killing) = (false, false);
        let text = &text[..text.floor_char_boundary(BYTES_MAX)];
        self.line.update(text, text.len(), &mut Deaf);
    }

    /// Takes the text out.
    pub(crate) fn take(&mut self) -> String {
        let text = self.text().to_owned();
        self.set("");
        self.undo.clear();
        text
    }

    /// Replaces the part from `start` to the cursor.
    pub(crate) fn replace_before_cursor(&mut self, start: usize, with: &str) {
        let end = self.cursor();
        self.remember();
        (self.inserting, self.killing) = (false, false);
        self.line.replace(start..end, with, &mut Deaf);
        self.line.set_pos(start + with.len());
    }

    /// Does an editing action.
    pub(crate) fn edit(&mut self, edit: Edit) {
        let changes = !matches!(
            edit,
            Edit::Left | Edit::Right | Edit::WordLeft | Edit::WordRight | Edit::LineStart | Edit::LineEnd | Edit::Undo
        );
        if changes {
            self.remember();
        }
        self.inserting = false;
        let mut killed = Killed::default();
        match edit {
            Edit::Left => drop(self.line.move_backward(1)),
            Edit::Right => drop(self.line.move_forward(1)),
            Edit::WordLeft => drop(self.line.move_to_prev_word(Word::Emacs, 1)),
            Edit::WordRight => drop(self.line.move_to_next_word(At::AfterEnd, Word::Emacs, 1)),
            Edit::LineStart => drop(self.line.move_home()),
            Edit::LineEnd => drop(self.line.move_end()),
            Edit::Backspace => drop(self.line.backspace(1, &mut Deaf)),
            Edit::Delete => drop(self.line.delete(1, &mut Deaf)),
            Edit::KillToEnd => drop(self.line.kill_line(&mut killed)),
            Edit::KillToStart => drop(self.line.discard_line(&mut killed)),
            Edit::KillBlankLeft => drop(self.line.delete_prev_word(Word::Big, 1, &mut killed)),
            Edit::KillWordLeft => drop(self.line.delete_prev_word(Word::Emacs, 1, &mut killed)),
            Edit::KillWordRight => drop(self.line.delete_word(At::AfterEnd, Word::Emacs, 1, &mut killed)),
            Edit::Yank => {
                let text = self.killed.clone();
                self.line.yank(&text, 1, &mut Deaf);
            }
            Edit::Transpose => drop(self.line.transpose_chars(&mut Deaf)),
            Edit::TransposeWords => drop(self.line.transpose_words(1, &mut Deaf)),
            Edit::Upper => drop(self.line.edit_word(WordAction::Uppercase, &mut Deaf)),
            Edit::Lower => drop(self.line.edit_word(WordAction::Lowercase, &mut Deaf)),
            Edit::Capitalize => drop(self.line.edit_word(WordAction::Capitalize, &mut Deaf)),
            Edit::Undo => {
                if let Some((text, cursor)) = self.undo.pop() {
                    self.line.update(&text, cursor, &mut Deaf);
                }
            }
        }
        self.keep_killed(killed);
    }

    fn keep_killed(&mut self, killed: Killed) {
        if killed.text.is_empty() {
            self.killing = false;
            return;
        }
        if !self.killing {
            self.killed.clear();
        }
        match killed.direction {
            Direction::Forward => self.killed.push_str(&killed.text),
            Direction::Backward => self.killed.insert_str(0, &killed.text),
        }
        self.killing = true;
    }

    fn remember(&mut self) {
        let step = (self.text().to_owned(), self.cursor());
        if self.undo.last() != Some(&step) {
            self.undo.push(step);
        }
        if self.undo.len() > UNDO_STEPS {
            self.undo.remove(0);
        }
    }

    /// The lines of the text as they are drawn at this width, and the line and column of the cursor. There is always room for
    /// the cursor.
    pub(crate) fn rows(&self, width: usize) -> (Vec<ComposerRow>, (usize, usize)) {
        let text = self.text();
        let width = width.max(2);
        let mut rows = Vec::new();
        let mut at = (0, 0);
        let mut start = 0;
        let mut column = 0;
        for (offset, cluster) in text.grapheme_indices(true) {
            let is_break = cluster == "\n" || cluster == "\r\n";
            let wide = if is_break { 0 } else { usize::from(cluster.cell_width()) };
            if column + wide >= width && !is_break {
                rows.push(ComposerRow { start, end: offset });
                (start, column) = (offset, 0);
            }
            if offset == self.cursor() {
                at = (rows.len(), column);
            }
            if is_break {
                rows.push(ComposerRow { start, end: offset });
                (start, column) = (offset + cluster.len(), 0);
            } else {
                column += wide;
            }
        }
        if self.cursor() >= text.len() {
            at = (rows.len(), column);
        }
        rows.push(ComposerRow { start, end: text.len() });
        (rows, at)
    }

    /// Moves the cursor one drawn line up or down; returns whether there is one.
    pub(crate) fn move_row(&mut self, step: isize, width: usize) -> bool {
        let (rows, (row, column)) = self.rows(width);
        let Some(target) = row.checked_add_signed(step).and_then(|row| rows.get(row)) else { return false };
        let text = &self.text()[target.start..target.end];
        let mut used = 0;
        let mut position = target.end;
        for (offset, cluster) in text.grapheme_indices(true) {
            if used >= column {
                position = target.start + offset;
                break;
            }
            used += usize::from(cluster.cell_width());
        }
        self.line.set_pos(position);
        true
    }
}

/// Ignores changes.
struct Deaf;

impl DeleteListener for Deaf {
    fn delete(&mut self, _: usize, _: &str, _: Direction) {}
}

impl ChangeListener for Deaf {
    fn insert_char(&mut self, _: usize, _: char) {}
    fn insert_str(&mut self, _: usize, _: &str) {}
    fn replace(&mut self, _: usize, _: &str, _: &str) {}
}

/// Keeps what was deleted.
#[derive(Default)]
struct Killed {
    text: String,
    direction: Direction,
}

impl DeleteListener for Killed {
    fn delete(&mut self, _: usize, text: &str, direction: Direction) {
        self.text.push_str(text);
        self.direction = direction;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Composer {
        let mut composer = Composer::default();
        for c in text.chars() {
            composer.insert(&c.to_string());
        }
        composer
    }

    #[test]
    fn editing_keys_are_those_of_readline() {
        let mut composer = typed("one two three");
        composer.edit(Edit::KillBlankLeft);
        composer.edit(Edit::KillBlankLeft);
        assert_eq!(composer.text(), "one ");
        composer.edit(Edit::Yank);
        assert_eq!(composer.text(), "one two three", "two kills in a row are one");
        composer.edit(Edit::WordLeft);
        composer.edit(Edit::Upper);
        assert_eq!(composer.text(), "one two THREE");
        composer.edit(Edit::LineStart);
        composer.edit(Edit::KillWordRight);
        assert_eq!(composer.text(), " two THREE");
        composer.edit(Edit::Undo);
        assert_eq!(composer.text(), "one two THREE");
        composer.edit(Edit::LineEnd);
        composer.edit(Edit::KillToStart);
        assert!(composer.is_empty());
        composer.edit(Edit::Undo);
        assert_eq!(composer.text(), "one two THREE");
    }

    #[test]
    fn cursor_moves_and_deletes_by_what_people_see() {
        let mut composer = typed("ae\u{301}👩‍👩‍👧");
        composer.edit(Edit::Left);
        composer.edit(Edit::Backspace);
        assert_eq!(composer.text(), "a👩‍👩‍👧");
        composer.edit(Edit::Delete);
        assert_eq!(composer.text(), "a");
    }

    #[test]
    fn rows_are_drawn_at_the_width_and_the_cursor_always_fits() {
        let mut composer = typed("abcdef\n漢字漢");
        let (rows, at) = composer.rows(5);
        let texts: Vec<&str> = rows.iter().map(|row| &composer.text()[row.start..row.end]).collect();
        assert_eq!(texts, ["abcd", "ef", "漢字", "漢"]);
        assert_eq!(at, (3, 2));
        assert!(composer.move_row(-1, 5) && composer.move_row(-1, 5));
        assert_eq!(composer.rows(5).1, (1, 2));
        assert!(composer.move_row(-1, 5) && !composer.move_row(-1, 5));
        assert_eq!(composer.rows(5).1, (0, 2));
    }

    #[test]
    fn text_that_is_too_long_is_refused() {
        let mut composer = Composer::default();
        assert!(composer.insert(&"x".repeat(BYTES_MAX)));
        assert!(!composer.insert("x"));
        assert_eq!(composer.text().len(), BYTES_MAX);
    }
}
