//! Lines of a conversation: messages, changes of membership, and a line where the day changes.

use chat_proto::api::messages::Message;
use chat_proto::api::peers::PeerRef;
use chat_proto::event::{KnockState, MembershipAction, MembershipChange};
use chat_proto::id::{KnockId, PeerId};
use chat_proto::text::printable;
use chat_proto::time::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

use super::render::{self, label, name, zoned};
use crate::text::ui::Colour;
use crate::text::wrap::fold;

/// Colours of authors: each readable on dark and on light, none the red of errors.
const AUTHORS: [&str; 10] = ["32", "33", "34", "35", "36", "92", "93", "94", "95", "96"];

/// Characters of a message that an answer quotes.
const QUOTE_CHARS: usize = 60;

/// Style of everything that is not a message.
const DIM: &str = "2";

/// How much of its time is printed before a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// `14:05`; a line of its own has the day when it changes.
    Clock {
        /// The day that was printed last.
        day: Date,
    },
    /// `2026-11-22 14:05` on every line.
    Dated,
}

/// Writes a conversation line by line.
pub(crate) struct Transcript {
    me: PeerId,
    colour: Colour,
    zone: TimeZone,
    stamp: Stamp,
    /// Columns at which lines are wrapped, asked for each line.
    columns: fn() -> Option<usize>,
}

/// Columns below which nothing is wrapped: little would be left beside the indent.
const COLUMNS_MIN: usize = 30;

impl Transcript {
    /// A conversation as it happens, with clock times; the day of `now` is not printed.
    pub(crate) fn live(me: PeerId, colour: Colour, zone: TimeZone, now: Timestamp) -> Self {
        let day = zoned(now, &zone).date();
        Self { me, colour, zone, stamp: Stamp::Clock { day }, columns: || None }
    }

    /// A conversation from the history; every line has its date.
    pub(crate) fn dated(me: PeerId, colour: Colour, zone: TimeZone) -> Self {
        Self { me, colour, zone, stamp: Stamp::Dated, columns: || None }
    }

    /// The same, wrapped at words where the output has that many columns.
    pub(crate) fn folded(self, columns: fn() -> Option<usize>) -> Self {
        Self { columns, ..self }
    }

    fn width(&self) -> Option<usize> {
        (self.columns)().filter(|columns| *columns >= COLUMNS_MIN)
    }

    /// A message: `14:05 bob: text`, or `14:05 bob → you: text`; further lines are indented to where the text begins, so
    /// that none can pass for another message.
    pub(crate) fn message(&mut self, message: &Message) -> String {
        let (day, time) = self.stamp(message.time);
        let from = if message.to.is_empty() { name(&message.from) } else { self.short(&message.from) };
        let to: Vec<String> = message.to.iter().map(|peer| self.short(peer)).collect();
        let arrow = if to.is_empty() { String::new() } else { format!(" → {}", to.join(", ")) };
        let clock = message.clock_off_ms.map_or_else(String::new, |off| format!(" (clock {})", render::clock_off(off)));
        let indent = time.width() + 1 + from.width() + arrow.width() + clock.width() + 2;
        let plain = format!("{time} {from}{arrow}{clock}: ");
        let head = format!(
            "{} {}{}{}: ",
            self.colour.paint(DIM, &time),
            self.colour.paint(self.author(&message.from), &from),
            self.colour.paint("1", &arrow),
            self.colour.paint(DIM, &clock)
        );
        let text = printable(message.text.trim_end());
        let above = day + &self.answered(message, time.width() + 1);
        let Some(width) = self.width() else {
            return above + &head + &text.replace('\n', &format!("\n{}", " ".repeat(indent)));
        };
        // Beside a long name too little would be left: then to where the name begins.
        let indent = if indent + COLUMNS_MIN <= width { indent } else { time.width() + 1 };
        let mut lines = Vec::new();
        for (number, part) in text.split('\n').enumerate() {
            let start = if number == 0 { plain.clone() } else { " ".repeat(indent) };
            lines.extend(fold(&format!("{start}{part}"), width, indent));
        }
        if let Some(rest) = lines.first().and_then(|first| first.strip_prefix(&plain)) {
            lines[0] = format!("{head}{rest}");
        }
        above + &lines.join("\n")
    }

    /// The line above a message that answers another one.
    fn answered(&self, message: &Message, indent: usize) -> String {
        if message.reply_to.is_none() {
            return String::new();
        }
        let start =
            message.quote.as_ref().map(|quote| format!("{}: {}", self.short(&quote.from), one_line(&quote.text)));
        let start = start.unwrap_or_else(|| "a message that is not here".into());
        self.colour.paint(DIM, &format!("{}╭ {start}", " ".repeat(indent))) + "\n"
    }

    /// A member admitted, renamed, removed, gone, or with new keys: `14:05 -- bob was admitted by alice`.
    pub(crate) fn membership(&mut self, at: Timestamp, change: &MembershipChange) -> String {
        self.note(at, &membership_words(change))
    }

    /// A log that was continued twice.
    pub(crate) fn fork(&mut self, at: Timestamp, author: &PeerRef) -> String {
        self.note(at, &fork_words(author))
    }

    /// A newcomer that knocks; none once it is admitted, which the membership change reports.
    pub(crate) fn knock(
        &mut self,
        at: Timestamp,
        (knock, state): (KnockId, KnockState),
        newcomer: &str,
        words: &str,
    ) -> Option<String> {
        let (newcomer, words) = (label(newcomer), label(words));
        let text = match state {
            KnockState::Waiting => {
                format!(
                    "{newcomer} asks for admission, with the words '{words}': 'chat admit {knock}' or 'chat deny {knock}'"
                )
            }
            KnockState::Gone => format!("{newcomer} no longer asks for admission"),
            KnockState::Denied => format!("{newcomer} was denied admission"),
            KnockState::Admitted => return None,
        };
        Some(self.note(at, &text))
    }

    /// Anything else worth a line.
    pub(crate) fn note(&mut self, at: Timestamp, text: &str) -> String {
        let (day, time) = self.stamp(at);
        let text = format!("{time} -- {text}");
        let lines = self.width().map_or_else(|| vec![text.clone()], |width| fold(&text, width, time.width() + 4));
        day + &self.colour.paint(DIM, &lines.join("\n"))
    }

    /// The line for a new day, if one has begun, and the time.
    fn stamp(&mut self, time: Timestamp) -> (String, String) {
        let time = zoned(time, &self.zone);
        match &mut self.stamp {
            Stamp::Dated => (String::new(), time.strftime("%Y-%m-%d %H:%M").to_string()),
            Stamp::Clock { day } => {
                let clock = time.strftime("%H:%M").to_string();
                if *day == time.date() {
                    return (String::new(), clock);
                }
                *day = time.date();
                (self.colour.paint(DIM, &format!("-- {day}")) + "\n", clock)
            }
        }
    }

    fn short(&self, peer: &PeerRef) -> String {
        if peer.id == self.me { "you".into() } else { name(peer) }
    }

    fn author(&self, peer: &PeerRef) -> &'static str {
        if peer.id == self.me { "1" } else { AUTHORS[usize::from(peer.id.as_bytes()[0]) % AUTHORS.len()] }
    }
}

/// The start of a text in one line.
/// What changed in the membership.
pub(crate) fn membership_words(change: &MembershipChange) -> String {
    let (peer, by) = (name(&change.peer), name(&change.by));
    match change.action {
        MembershipAction::Founded => format!("{peer} founded the room"),
        MembershipAction::Admitted if change.peer.id == change.by.id => format!("{peer} joined"),
        MembershipAction::Admitted => format!("{peer} was admitted by {by}"),
        MembershipAction::Removed => format!("{peer} was removed by {by}"),
        // Daemons did not always record the old name.
        MembershipAction::Renamed => match &change.was {
            Some(was) => format!("{} is now called {peer}", label(was)),
            None => format!("{} is now called {peer}", change.peer.tag),
        },
        MembershipAction::Role => format!("{by} changed the role of {peer}"),
        MembershipAction::Left => format!("{peer} left the room"),
        MembershipAction::Keys => format!("{peer} has new keys for direct messages: its data was lost or replaced"),
    }
}

/// What a log that was continued twice means.
pub(crate) fn fork_words(author: &PeerRef) -> String {
    format!("the data of {} went back to an older copy; what was written after it is kept", name(author))
}

fn one_line(text: &str) -> String {
    let line = label(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut characters = line.chars();
    let start: String = characters.by_ref().take(QUOTE_CHARS).collect();
    if characters.next().is_some() { start + "…" } else { start }
}

#[cfg(test)]
mod tests;
