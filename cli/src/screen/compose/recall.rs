//! What was typed before: recalled with Up, kept across runs in a file of the home.
//!
//! The file has one JSON value a line: a text that was sent, or `{"draft": …}`, a text that was not sent yet when the
//! program ended. It is readable by its owner alone, like the database beside it, which has the messages anyway.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Number of texts that are kept.
const TEXTS_MAX: usize = 500;

/// Maximum length of the file that is read, in bytes; a longer one begins anew.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Name of the file in the home.
const FILE: &str = "chat-input";

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Saved {
    Text(String),
    Draft { draft: String },
}

/// The texts that were typed, and which of them is shown.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    file: Option<PathBuf>,
    texts: Vec<String>,
    /// What is shown, counted from the newest, and what was being typed before it was recalled.
    shown: Option<(usize, String)>,
}

impl Recall {
    /// What was typed in earlier runs, and the draft that the last one left. A file that cannot be read is as good as none.
    pub(crate) fn load(home: Option<&Path>) -> (Self, Option<String>) {
        let file = home.map(|home| home.join(FILE));
        let saved = file.as_deref().map(read).unwrap_or_default();
        let mut draft = None;
        let mut recall = Self { file, ..Self::default() };
        for line in saved {
            match line {
                Saved::Text(text) => recall.keep(text),
                Saved::Draft { draft: text } => draft = Some(text),
            }
        }
        (recall, draft)
    }

    /// Notes a text that was typed.
    pub(crate) fn add(&mut self, text: &str) {
        self.shown = None;
        if text.trim().is_empty() || self.texts.last().is_some_and(|last| last == text) {
            return;
        }
        self.keep(text.to_owned());
        if let Some(file) = &self.file {
            // A home that cannot be written to keeps the history of this run alone.
            let _ = append(file, &Saved::Text(text.to_owned()));
        }
    }

    /// The text before the one that is shown; `current` is kept to come back to.
    pub(crate) fn older(&mut self, current: &str) -> Option<String> {
        let next = self.shown.as_ref().map_or(0, |(at, _)| at + 1);
        let text = self.texts.iter().rev().nth(next)?.clone();
        let draft = self.shown.take().map_or_else(|| current.to_owned(), |(_, draft)| draft);
        self.shown = Some((next, draft));
        Some(text)
    }

    /// The text behind the one that is shown; behind the newest, what was being typed.
    pub(crate) fn newer(&mut self) -> Option<String> {
        let (at, draft) = self.shown.take()?;
        let Some(next) = at.checked_sub(1) else { return Some(draft) };
        self.shown = Some((next, draft));
        self.texts.iter().rev().nth(next).cloned()
    }

    /// The text is edited: it is a new one.
    pub(crate) fn settle(&mut self) {
        self.shown = None;
    }

    /// The newest texts that contain these characters, newest first.
    pub(crate) fn matching(&self, part: &str, count: usize) -> Vec<String> {
        let part = part.to_lowercase();
        let mut found: Vec<String> = Vec::new();
        for text in self.texts.iter().rev() {
            if text.to_lowercase().contains(&part) && !found.contains(text) {
                found.push(text.clone());
            }
            if found.len() == count {
                break;
            }
        }
        found
    }

    /// Writes the file anew, shortened, with the draft. Texts of another run that goes on are kept.
    pub(crate) fn save(&self, draft: &str) {
        let Some(file) = &self.file else { return };
        let mut lines: Vec<Saved> = read(file).into_iter().filter(|line| matches!(line, Saved::Text(_))).collect();
        lines.drain(..lines.len().saturating_sub(TEXTS_MAX));
        if !draft.trim().is_empty() {
            lines.push(Saved::Draft { draft: draft.to_owned() });
        }
        let _ = rewrite(file, &lines);
    }

    fn keep(&mut self, text: String) {
        self.texts.push(text);
        if self.texts.len() > TEXTS_MAX {
            self.texts.remove(0);
        }
    }
}

fn read(file: &Path) -> Vec<Saved> {
    let short = fs::metadata(file).is_ok_and(|about| about.len() <= FILE_BYTES_MAX);
    let text = if short { fs::read_to_string(file).unwrap_or_default() } else { String::new() };
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn line(saved: &Saved) -> String {
    serde_json::to_string(saved).unwrap_or_default() + "\n"
}

fn append(file: &Path, saved: &Saved) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)?.write_all(line(saved).as_bytes())
}

fn rewrite(file: &Path, lines: &[Saved]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut out = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    out.write_all(lines.iter().map(line).collect::<String>().as_bytes())?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_recalled_and_what_was_being_typed_comes_back() {
        let mut recall = Recall::default();
        for text in ["one", "two", "two", " "] {
            recall.add(text);
        }
        assert_eq!(recall.older("half"), Some("two".into()));
        assert_eq!(recall.older("two"), Some("one".into()));
        assert_eq!(recall.older("one"), None);
        assert_eq!(recall.newer(), Some("two".into()));
        assert_eq!(recall.newer(), Some("half".into()));
        assert_eq!(recall.newer(), None);
        assert_eq!(recall.matching("O", 5), ["two", "one"]);
    }

    #[test]
    fn texts_and_draft_are_kept_across_runs() {
        let home = tempfile::tempdir().expect("a directory");
        let (mut recall, draft) = Recall::load(Some(home.path()));
        assert_eq!(draft, None);
        recall.add("two\nlines");
        recall.save("half a li");
        let (mut recall, draft) = Recall::load(Some(home.path()));
        assert_eq!(draft.as_deref(), Some("half a li"));
        assert_eq!(recall.older(""), Some("two\nlines".into()));
        recall.save("");
        assert_eq!(Recall::load(Some(home.path())).1, None, "a draft is restored once");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(home.path().join(FILE)).expect("it is there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
