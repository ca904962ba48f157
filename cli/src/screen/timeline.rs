//! The part of the history that is in memory, and where the window on it is.
//!
//! Entries are numbered without gaps ([`Serial`]), so that the window stays where it is while entries are added at either
//! end. At most [`ENTRIES_MAX`] entries or [`TEXT_BYTES_LIMIT`] of text are kept: what is far from the window is dropped, and
//! read again when the window comes back to it.

pub(crate) mod entry;
pub(crate) mod layout;
pub(crate) mod reading;
pub(crate) mod window;

use std::collections::VecDeque;

use chat_proto::api::messages::Message;
use chat_proto::id::{KnockId, MessageId};
use chat_proto::time::Timestamp;

use self::entry::{DeliveryReport, QuietChange, Serial, Shown, TimelineEntry, TimelineKind};
use self::window::Window;

/// Maximum number of entries in memory.
pub(crate) const ENTRIES_MAX: usize = 3_000;

/// Bytes of text in memory beyond which entries are dropped.
const TEXT_BYTES_LIMIT: usize = 8 * 1024 * 1024;

/// Entries of one end that are never dropped for their length: more than any screen shows.
const ENTRIES_KEPT: usize = 400;

/// Maximum number of reports that wait for their message.
const REPORTS_MAX: usize = 256;

/// An end of what is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimelineEnd {
    /// The oldest entries.
    Old,
    /// The newest entries.
    New,
}

/// Whether the history goes on beyond an end of what is in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum More {
    /// It may.
    #[default]
    Maybe,
    /// It is being read.
    Asked,
    /// It does not.
    No,
}

/// The history in memory.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    entries: VecDeque<TimelineEntry>,
    first: Serial,
    text_bytes: usize,
    /// Beyond the oldest entry.
    pub(crate) older: More,
    /// Beyond the newest entry; `No` while new messages are appended as they arrive.
    pub(crate) newer: More,
    /// Where the screen is.
    pub(crate) window: Window,
    /// Reports on own messages that are not here yet: the stream may be faster than the answer to the post.
    reports: VecDeque<(MessageId, DeliveryReport)>,
    /// The first entry that is not read yet, and the number of messages from there on.
    pub(crate) unread: Option<(Serial, u32)>,
}

impl Timeline {
    /// Whether there is nothing in memory.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of the oldest entry.
    pub(crate) fn first(&self) -> Serial {
        self.first
    }

    /// The number behind the newest entry.
    pub(crate) fn end(&self) -> Serial {
        self.first + Serial::try_from(self.entries.len()).unwrap_or(Serial::MAX)
    }

    /// The entry of that number.
    pub(crate) fn get(&self, serial: Serial) -> Option<&TimelineEntry> {
        self.entries.get(usize::try_from(serial - self.first).ok()?)
    }

    fn get_mut(&mut self, serial: Serial) -> Option<&mut TimelineEntry> {
        self.entries.get_mut(usize::try_from(serial - self.first).ok()?)
    }

    /// The entries with their numbers, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Serial, &TimelineEntry)> {
        let number = move |at: usize| self.first + Serial::try_from(at).unwrap_or(Serial::MAX);
        self.entries.iter().enumerate().map(move |(at, entry)| (number(at), entry))
    }

    /// The number of the entry with this message.
    pub(crate) fn find(&self, id: MessageId) -> Option<Serial> {
        self.iter().rev().find(|(_, entry)| entry.message_id() == Some(id)).map(|(serial, _)| serial)
    }

    /// The oldest message in memory, or the newest one.
    pub(crate) fn message_at(&self, end: TimelineEnd) -> Option<MessageId> {
        let mut ids = self.entries.iter().filter_map(TimelineEntry::message_id);
        match end {
            TimelineEnd::Old => ids.next(),
            TimelineEnd::New => ids.next_back(),
        }
    }

    /// Whether what arrives belongs behind the newest entry in memory.
    pub(crate) fn is_live(&self) -> bool {
        self.newer == More::No
    }

    /// Appends an entry.
    pub(crate) fn push(&mut self, at: Timestamp, kind: TimelineKind) -> Serial {
        let entry = TimelineEntry { at, kind };
        self.text_bytes += entry.text_bytes();
        self.entries.push_back(entry);
        let serial = self.end() - 1;
        if self.is_too_large() {
            // What is on the screen stays in memory, even where messages pour in at the other end.
            let far = if self.window.is_near(self.first) { TimelineEnd::New } else { TimelineEnd::Old };
            self.drop_from(far);
        }
        serial
    }

    /// Appends a quiet change, folded into the one before it.
    pub(crate) fn push_quiet(&mut self, at: Timestamp, name: String, change: QuietChange) {
        if let Some(TimelineEntry { kind: TimelineKind::Quiet(changes), .. }) = self.entries.back_mut() {
            entry::fold(changes, name, change);
            return;
        }
        self.push(at, TimelineKind::Quiet(vec![(name, change)]));
    }

    /// Takes a page of the history at one end. Messages that are in memory already are left out.
    pub(crate) fn add_page(&mut self, end: TimelineEnd, page: Vec<Message>) {
        let known: std::collections::HashSet<MessageId> =
            self.entries.iter().filter_map(TimelineEntry::message_id).collect();
        let new = page.into_iter().filter(|message| !known.contains(&message.id));
        let entries: Vec<TimelineEntry> = new.map(of_message).collect();
        self.text_bytes += entries.iter().map(TimelineEntry::text_bytes).sum::<usize>();
        match end {
            TimelineEnd::Old => {
                for entry in entries.into_iter().rev() {
                    self.entries.push_front(entry);
                    self.first -= 1;
                }
            }
            TimelineEnd::New => self.entries.extend(entries),
        }
        if self.is_too_large() {
            self.drop_from(match end {
                TimelineEnd::Old => TimelineEnd::New,
                TimelineEnd::New => TimelineEnd::Old,
            });
        }
    }

    fn is_too_large(&self) -> bool {
        self.entries.len() > ENTRIES_MAX || (self.text_bytes > TEXT_BYTES_LIMIT && self.entries.len() > ENTRIES_KEPT)
    }

    /// Drops a tenth of the entries at one end.
    fn drop_from(&mut self, end: TimelineEnd) {
        let mut left = (self.entries.len() / 10).max(1);
        while left > 0 || (self.is_too_large() && self.entries.len() > ENTRIES_KEPT) {
            let dropped = match end {
                TimelineEnd::Old => self.entries.pop_front(),
                TimelineEnd::New => self.entries.pop_back(),
            };
            let Some(dropped) = dropped else { break };
            self.text_bytes = self.text_bytes.saturating_sub(dropped.text_bytes());
            match end {
                TimelineEnd::Old => {
                    self.first += 1;
                    self.older = More::Maybe;
                }
                TimelineEnd::New => self.newer = More::Maybe,
            }
            left = left.saturating_sub(1);
        }
    }

    /// Replaces an entry in its place: a typed message by the message that the daemon made of it.
    pub(crate) fn replace(&mut self, serial: Serial, kind: TimelineKind) {
        let (mut before, mut after) = (0, 0);
        if let Some(entry) = self.get_mut(serial) {
            before = entry.text_bytes();
            entry.kind = kind;
            after = entry.text_bytes();
        }
        self.text_bytes = (self.text_bytes + after).saturating_sub(before);
    }

    /// Takes an entry out; those behind it move up.
    pub(crate) fn remove(&mut self, serial: Serial) {
        let removed = usize::try_from(serial - self.first).ok().and_then(|at| self.entries.remove(at));
        self.text_bytes = self.text_bytes.saturating_sub(removed.map_or(0, |entry| entry.text_bytes()));
        self.window.removed(serial);
        if let Some((unread, _)) = &mut self.unread
            && *unread > serial
            && *unread < Serial::MAX
        {
            *unread -= 1;
        }
    }

    /// The number of a typed message.
    pub(crate) fn find_typed(&self, ticket: u64) -> Option<Serial> {
        let is_it = |entry: &TimelineEntry| matches!(&entry.kind, TimelineKind::Typed(typed) if typed.ticket == ticket);
        self.iter().rev().find(|(_, entry)| is_it(entry)).map(|(serial, _)| serial)
    }

    /// Notes how far an own message has come. Reports come in any order: none takes anything back.
    pub(crate) fn delivered(&mut self, id: MessageId, delivery: &DeliveryReport) {
        let Some(serial) = self.find(id) else {
            if self.reports.len() == REPORTS_MAX {
                self.reports.pop_front();
            }
            self.reports.push_back((id, delivery.clone()));
            return;
        };
        if let Some(TimelineEntry { kind: TimelineKind::Message(shown), .. }) = self.get_mut(serial) {
            let known = shown.delivery.get_or_insert(DeliveryReport { copies: 0, delivered: 0 });
            known.copies = known.copies.max(delivery.copies);
            known.delivered = known.delivered.max(delivery.delivered);
        }
    }

    /// Applies the reports that came before this message.
    pub(crate) fn apply_reports(&mut self, id: MessageId) {
        let (early, others) = std::mem::take(&mut self.reports).into_iter().partition(|(of, _)| *of == id);
        self.reports = others;
        for (id, delivery) in Vec::from(early) {
            self.delivered(id, &delivery);
        }
    }

    /// Notes how a knock ended.
    pub(crate) fn knock_ended(&mut self, id: KnockId, how: &'static str) {
        for entry in &mut self.entries {
            if let TimelineKind::Knock(knock) = &mut entry.kind
                && knock.id == id
                && knock.ended.is_none()
            {
                knock.ended = Some(how);
            }
        }
    }

    /// The newest knock that waits for an answer.
    pub(crate) fn waiting_knock(&self) -> Option<KnockId> {
        self.entries.iter().rev().find_map(|entry| match &entry.kind {
            TimelineKind::Knock(knock) if knock.ended.is_none() => Some(knock.id),
            TimelineKind::Knock(_)
            | TimelineKind::Message(_)
            | TimelineKind::Typed(_)
            | TimelineKind::Quiet(_)
            | TimelineKind::Note(_)
            | TimelineKind::Answer(_)
            | TimelineKind::Failure(_) => None,
        })
    }

    /// Counts a message as unread, unless one before it is.
    pub(crate) fn count_unread(&mut self, serial: Serial) {
        match &mut self.unread {
            Some((_, count)) if *count > 0 => *count = count.saturating_add(1),
            unread => *unread = Some((serial, 1)),
        }
    }

    /// All is read; the marker stays where it is until the next message that is not.
    pub(crate) fn all_read(&mut self) {
        if let Some((_, count)) = &mut self.unread {
            *count = 0;
        }
    }
}

/// The entry of a message that the history gave.
pub(crate) fn of_message(message: Message) -> TimelineEntry {
    TimelineEntry {
        at: message.time,
        kind: TimelineKind::Message(Shown { message: Box::new(message), delivery: None }),
    }
}
