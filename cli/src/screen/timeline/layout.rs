//! Entries of the history as lines of the screen.

use chat_client::display::{clock_off, label, name};
use chat_proto::api::messages::Message;
use chat_proto::api::peers::PeerRef;
use chat_proto::id::PeerId;
use chat_proto::text::printable;
use chat_proto::time::Timestamp;
use jiff::tz::TimeZone;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;

use super::entry::{DeliveryReport, KnockLine, Serial, Shown, TimelineEntry, TimelineKind, TypedMessage, quiet_words};
use super::{More, Timeline};
use crate::screen::theme::{Theme, ThemePart};
use crate::text::render;
use crate::text::wrap::{columns, wrap};

/// Above the first message.
pub(crate) const BEGINNING: &str = "this is the beginning of the history";

/// Column where the second line of a text begins.
const INDENT: usize = 8;

/// How the history is shown.
pub(crate) struct Look<'a> {
    /// Columns.
    pub(crate) width: usize,
    /// Colours.
    pub(crate) theme: Theme,
    /// This peer.
    pub(crate) me: PeerId,
    /// Its name.
    pub(crate) my_name: &'a str,
    /// Words that are highlighted like the name.
    pub(crate) keywords: &'a [String],
    /// Zone of the times.
    pub(crate) zone: &'a TimeZone,
    /// What was searched for; shown as it was found.
    pub(crate) found: Option<Serial>,
}

impl Look<'_> {
    /// Number of lines of an entry.
    pub(crate) fn height(&self, timeline: &Timeline, serial: Serial) -> usize {
        self.lines(timeline, serial).len()
    }

    /// The lines of an entry, with the day in front when it is another one than before.
    pub(crate) fn lines(&self, timeline: &Timeline, serial: Serial) -> Vec<Line<'static>> {
        let Some(entry) = timeline.get(serial) else { return Vec::new() };
        let mut lines = Vec::new();
        if serial == timeline.first() && timeline.older == More::No {
            lines.push(Line::styled(BEGINNING, self.style(ThemePart::Quiet)));
        }
        let before = timeline.get(serial - 1).map(|before| self.day(before.at));
        let day = self.day(entry.at);
        if before.as_ref() != Some(&day) {
            lines.push(self.rule(&day, ThemePart::Quiet));
        }
        if timeline.unread.is_some_and(|(unread, _)| unread == serial) {
            lines.push(self.rule("new", ThemePart::Unread));
        }
        lines.extend(self.entry(entry, serial));
        lines
    }

    /// Whether a message is for the attention of this peer: a direct one, or with its name or a keyword.
    pub(crate) fn concerns(&self, message: &Message) -> bool {
        message.from.id != self.me && (!message.to.is_empty() || self.mentions(&message.text))
    }

    fn mentions(&self, text: &str) -> bool {
        let bare = self.my_name.split('~').next().unwrap_or_default();
        let words: Vec<&str> = [bare].into_iter().chain(self.keywords.iter().map(String::as_str)).collect();
        has_word(text, &words)
    }

    fn entry(&self, entry: &TimelineEntry, serial: Serial) -> Vec<Line<'static>> {
        let note = |part: ThemePart, text: &str| self.note(entry.at, part, text);
        match &entry.kind {
            TimelineKind::Message(shown) => self.message(shown, serial),
            TimelineKind::Typed(typed) => self.typed(entry.at, typed),
            TimelineKind::Quiet(changes) => note(ThemePart::Quiet, &quiet_words(changes)),
            TimelineKind::Note(text) => note(ThemePart::Quiet, text),
            TimelineKind::Answer(text) => note(ThemePart::Text, text),
            TimelineKind::Failure(text) => note(ThemePart::Failure, text),
            TimelineKind::Knock(knock) => self.knock(entry.at, knock),
        }
    }

    /// `14:05 bob: text`, or `14:05 bob → you: text`, or `14:05 * bob waves`; what it answers stands above it.
    fn message(&self, shown: &Shown, serial: Serial) -> Vec<Line<'static>> {
        let message = &*shown.message;
        let mine = message.from.id == self.me;
        let clock = message.clock_off_ms.map_or_else(String::new, |off| format!(" (clock {})", clock_off(off)));
        let head = MessageHead {
            at: message.time,
            author: (name(&message.from), if mine { ThemePart::Me } else { author(&message.from) }),
            to: message.to.iter().map(|peer| self.short(peer)).collect(),
            clock,
        };
        let part = if !mine && self.mentions(&message.text) { ThemePart::Mention } else { ThemePart::Text };
        let mark = shown.delivery.as_ref().map(|delivery| (delivery_mark(delivery, message), ThemePart::Mark));
        let quote = quote_of(message);
        let mut lines = self.text(&head, (quote.as_deref(), &message.text), part, mark);
        if self.found == Some(serial)
            && let Some(line) = lines.last_mut()
        {
            line.spans.push(Span::styled(" ◂", self.theme.style(ThemePart::Unread)));
        }
        lines
    }

    fn typed(&self, at: Timestamp, typed: &TypedMessage) -> Vec<Line<'static>> {
        let head = MessageHead {
            at,
            author: (label(self.my_name), ThemePart::Me),
            to: typed.to.iter().map(|name| label(name.strip_prefix('@').unwrap_or(name))).collect(),
            clock: String::new(),
        };
        let mark = match &typed.refused {
            None => ("…".to_owned(), ThemePart::Quiet),
            Some(reason) => (format!("✗ not sent: {}", label(reason)), ThemePart::Failure),
        };
        self.text(&head, (typed.quote.as_deref(), &typed.text), ThemePart::Text, Some(mark))
    }

    fn text(
        &self,
        head: &MessageHead,
        (answered, text): (Option<&str>, &str),
        part: ThemePart,
        mark: Option<(String, ThemePart)>,
    ) -> Vec<Line<'static>> {
        let text = printable(text.trim_end());
        // Answers of version 0.1 have the quote in front of the text.
        let (quote, text) = answered.map_or_else(|| quoted(&text), |answered| (Some(answered), text.as_str()));
        let mut lines = Vec::new();
        if let Some(quote) = quote {
            let quote = format!("      ╭ {quote}");
            lines.extend(wrap(&[(&quote, self.style(ThemePart::Quote))], self.width, INDENT).into_iter().take(1));
        }
        let time = self.time(head.at) + " ";
        let direct = if head.to.is_empty() { String::new() } else { format!(" → {}", head.to.join(", ")) };
        let (author, author_part) = &head.author;
        let action = text.strip_prefix("/me ");
        let (star, colon) = if action.is_some() { ("* ", " ") } else { ("", ": ") };
        let mut parts = action.unwrap_or(text).split('\n');
        let first = parts.next().unwrap_or_default();
        let style = self.style(part);
        let start = [
            (time.as_str(), self.style(ThemePart::Quiet)),
            (star, self.style(*author_part)),
            (author.as_str(), self.style(if head.to.is_empty() { *author_part } else { ThemePart::Direct })),
            (direct.as_str(), self.style(ThemePart::Direct)),
            (head.clock.as_str(), self.style(ThemePart::Quiet)),
            (colon, Style::new()),
            (first, style),
        ];
        let rest: Vec<&str> = parts.collect();
        let indent = " ".repeat(INDENT.min(self.width / 4));
        let mark = mark.map(|(text, part)| (format!(" {text}"), self.style(part)));
        let end = |last: bool| mark.as_ref().filter(|_| last).map(|(text, style)| (text.as_str(), *style));
        let mut spans: Vec<(&str, Style)> = start.to_vec();
        spans.extend(end(rest.is_empty()));
        lines.extend(wrap(&spans, self.width, INDENT));
        for (number, part) in rest.iter().enumerate() {
            let mut spans = vec![(indent.as_str(), Style::new()), (part, style)];
            spans.extend(end(number + 1 == rest.len()));
            lines.extend(wrap(&spans, self.width, INDENT));
        }
        lines
    }

    fn knock(&self, at: Timestamp, knock: &KnockLine) -> Vec<Line<'static>> {
        let (name, words, id) = (&knock.name, &knock.words, knock.id);
        match knock.ended {
            Some(how) => self.note(at, ThemePart::Quiet, &format!("{name} {how}")),
            None => {
                let text = format!(
                    "{name} asks for admission, with the words '{words}': Alt-A admits, Alt-D denies, or /admit {id}"
                );
                self.note(at, ThemePart::Question, &text)
            }
        }
    }

    /// Anything that is not a message: `14:05 -- text`.
    fn note(&self, at: Timestamp, part: ThemePart, text: &str) -> Vec<Line<'static>> {
        let time = self.time(at) + " ";
        let style = self.style(part);
        let mut lines = Vec::new();
        for (number, line) in text.split('\n').enumerate() {
            let head = if number == 0 { time.as_str() } else { "      " };
            lines.extend(wrap(
                &[(head, self.style(ThemePart::Quiet)), ("-- ", style), (line, style)],
                self.width,
                INDENT + 1,
            ));
        }
        lines
    }

    /// A line across the screen with a word in it.
    fn rule(&self, word: &str, part: ThemePart) -> Line<'static> {
        let left = "── ";
        let right = self.width.saturating_sub(columns(left) + columns(word) + 1);
        Line::from(Span::styled(format!("{left}{word} {}", "─".repeat(right)), self.style(part)))
    }

    fn day(&self, time: Timestamp) -> String {
        render::weekday(time, self.zone)
    }

    fn time(&self, time: Timestamp) -> String {
        render::clock(time, self.zone)
    }

    fn short(&self, peer: &PeerRef) -> String {
        if peer.id == self.me { "you".into() } else { name(peer) }
    }

    fn style(&self, part: ThemePart) -> Style {
        self.theme.style(part)
    }
}

/// What is in front of a text.
struct MessageHead {
    at: Timestamp,
    author: (String, ThemePart),
    to: Vec<String>,
    clock: String,
}

/// The colour of an author's name, the same at every peer.
pub(crate) fn author(peer: &PeerRef) -> ThemePart {
    ThemePart::Author(peer.id.as_bytes()[0])
}

/// Author and start of what a message answers.
fn quote_of(message: &Message) -> Option<String> {
    let quote =
        message.quote.as_ref().map(|quote| format!("{}: {}", name(&quote.from), start(&quote.text, QUOTE_CHARS)));
    message.reply_to.map(|_| quote.unwrap_or_else(|| "a message that is not here".into()))
}

/// The line that a text answers, and the rest: `> bob: the start of what bob said` in front of an answer.
pub(crate) fn quoted(text: &str) -> (Option<&str>, &str) {
    let Some((first, rest)) = text.split_once('\n') else { return (None, text) };
    match first.strip_prefix("> ") {
        Some(quote) if !rest.trim().is_empty() && !rest.starts_with('>') => (Some(quote), rest),
        Some(_) | None => (None, text),
    }
}

/// Whether one of the words is in the text, as a whole word, whatever its case.
fn has_word(text: &str, words: &[&str]) -> bool {
    let text = text.to_lowercase();
    words.iter().filter(|word| !word.is_empty()).any(|word| {
        let word = word.to_lowercase();
        text.match_indices(&word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !inside(before) && !inside(after)
        })
    })
}

/// How far an own message has come: `✓` on this disk, `✓2` on those of two others, `✓✓` on those of all recipients.
fn delivery_mark(delivery: &DeliveryReport, message: &Message) -> String {
    let recipients = u32::try_from(message.to.len()).unwrap_or(u32::MAX);
    match delivery {
        DeliveryReport { delivered, .. } if recipients > 0 && *delivered >= recipients => "✓✓".into(),
        DeliveryReport { copies: 0, .. } => "✓".into(),
        DeliveryReport { copies, .. } => format!("✓{copies}"),
    }
}

/// Characters of a message that an answer quotes.
pub(crate) const QUOTE_CHARS: usize = 80;

/// The start of a text in one line of at most this many characters.
pub(crate) fn start(text: &str, clusters: usize) -> String {
    let (_, text) = quoted(text);
    let line = label(text.trim()).replace('\u{FFFD}', " ");
    let mut all = line.graphemes(true);
    let start: String = all.by_ref().take(clusters).collect();
    if all.next().is_some() { start + "…" } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_found_as_a_word() {
        for (text, found) in [
            ("bob: look", true),
            ("hi @Bob!", true),
            ("bobby is here", false),
            ("the lab-bob_ thing", false),
            ("no", false),
            ("ask BOB", true),
        ] {
            assert_eq!(has_word(text, &["bob"]), found, "{text}");
        }
        assert!(!has_word("anything", &[""]));
    }

    #[test]
    fn quote_is_the_first_line_of_an_answer() {
        assert_eq!(quoted("> bob: how many?\nthree"), (Some("bob: how many?"), "three"));
        for text in ["> only a quote", "> a\n> b\nc", "three", "> a\n "] {
            assert_eq!(quoted(text), (None, text));
        }
    }

    #[test]
    fn start_of_a_text_is_one_line() {
        assert_eq!(start("> bob: q\none\ntwo", 20), "one two");
        assert_eq!(start("one two", 3), "one…");
    }
}
