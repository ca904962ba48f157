//! A transcript for people: steps with titles, commands as they are typed, what they print, what was checked.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest line of a command that is shown whole: a ticket would fill the screen.
const LINE_CHARS_MAX: usize = 100;

/// Colours of the prompts, by peer.
const PROMPTS: [&str; 6] = ["1;32", "1;34", "1;35", "1;36", "1;33", "1;31"];

/// Writes a transcript to standard output.
#[derive(Debug)]
pub struct DemoTranscript {
    colour: bool,
    steps: AtomicUsize,
    checks: AtomicUsize,
}

impl DemoTranscript {
    /// A transcript in colour where standard output is a terminal and `NO_COLOR` does not forbid it.
    pub fn new() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: io::stdout().is_terminal() && !forbidden,
            steps: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
        }
    }

    /// Begins a step.
    pub fn step(&self, title: &str) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.write(&format!("\n{}\n", self.paint("1", &format!("{number}. {title}"))));
    }

    /// A command as it is typed at a peer's prompt; the names of the peers give the colours.
    pub fn command(&self, who: &str, line: &str) {
        let colour = PROMPTS[who.bytes().map(usize::from).sum::<usize>() % PROMPTS.len()];
        self.write(&format!("   {} {}\n", self.paint(colour, &format!("{who}$")), self.paint("1", &shortened(line))));
    }

    /// What a command printed.
    pub fn output(&self, text: &str) {
        for line in text.lines() {
            self.write(&format!("   {}\n", shortened(line)));
        }
    }

    /// What a command said beside its output.
    pub fn talk(&self, text: &str) {
        for line in text.lines() {
            self.write(&format!("   {}\n", self.paint("2", &shortened(line))));
        }
    }

    /// Something that was checked and holds.
    pub fn holds(&self, what: &str) {
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.write(&format!("   {} {what}\n", self.paint("32", "✓")));
    }

    /// Something that went wrong.
    pub fn fails(&self, why: &str) {
        let step = self.steps.load(Ordering::Relaxed);
        self.write(&format!("   {} step {step} failed: {why}\n", self.paint("1;31", "✗")));
    }

    /// A word at the beginning or the end.
    pub fn note(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    /// How many things were checked.
    pub fn checks(&self) -> usize {
        self.checks.load(Ordering::Relaxed)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        // A reader that has gone does not want to know how it ends.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Default for DemoTranscript {
    fn default() -> Self {
        Self::new()
    }
}

/// A line in which words that fill the screen are cut.
fn shortened(line: &str) -> String {
    if line.chars().count() <= LINE_CHARS_MAX {
        return line.to_owned();
    }
    let word = |word: &str| match word.char_indices().nth(LINE_CHARS_MAX / 2) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_cut_and_a_sentence_is_not() {
        let sentence = "a word after another, ".repeat(10);
        assert_eq!(shortened(&sentence), sentence);
        let line = format!("chatd start --join chat1{} --name bob", "a".repeat(400));
        assert_eq!(shortened(&line), format!("chatd start --join chat1{}… --name bob", "a".repeat(45)));
    }
}
