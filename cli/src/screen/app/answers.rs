//! What the daemon answers.

use std::ops::Range;

use chat_client::ClientError;
use chat_client::display::label;
use chat_proto::api::messages::SentMessage;
use chat_proto::id::MessageId;
use chat_proto::time::Timestamp;

use super::{App, More, TimelineEnd};
use crate::error::CliError;
use crate::screen::effect::{Ask, DaemonAnswer, HistoryPart, Messages};
use crate::screen::overlay::{Overlay, Pager, SearchState};
use crate::screen::timeline::entry::{DeliveryReport, Serial, Shown, TimelineEntry, TimelineKind, TypedMessage};

/// Maximum number of own messages whose copies are asked for at once.
const DELIVERIES_ASKED: usize = 30;

impl App {
    /// Takes an answer.
    pub(super) fn answer(&mut self, answer: DaemonAnswer, now: Timestamp) {
        match answer {
            DaemonAnswer::Sent(ticket, result) => self.sent(ticket, result, now),
            DaemonAnswer::History(part, Ok(messages)) => self.history(&part, messages, now),
            DaemonAnswer::History(part, Err(error)) => self.history_failed(&part, error),
            DaemonAnswer::Found(result) => self.found(result),
            DaemonAnswer::Peers(Ok(members)) => self.room.members = members,
            DaemonAnswer::Status(Ok(status)) => self.room.update(&status),
            DaemonAnswer::Knocks(Ok(knocks)) => self.room.set_knocks(&knocks),
            DaemonAnswer::Delivery(Ok(sent)) => self.spread(&sent),
            // They are asked for again.
            DaemonAnswer::Peers(Err(_))
            | DaemonAnswer::Status(Err(_))
            | DaemonAnswer::Knocks(Err(_))
            | DaemonAnswer::Delivery(Err(_)) => {}
            DaemonAnswer::Marked(Ok(())) => {}
            DaemonAnswer::Marked(Err(_)) => self.reading.failed(),
            DaemonAnswer::Shown(title, Ok(lines)) => {
                self.overlay = Some(Overlay::Pager(Pager { title, lines, top: 0 }))
            }
            DaemonAnswer::Shown(_, Err(error)) | DaemonAnswer::Changed(Err(error)) => self.failed(&error, now),
            DaemonAnswer::Changed(Ok(text)) => self.note(now, TimelineKind::Answer(text)),
        }
    }

    fn failed(&mut self, error: &CliError, now: Timestamp) {
        let text = error.lines();
        let text = text.strip_prefix("chat: ").unwrap_or(&text).to_owned();
        if self.timeline.is_live() { self.note(now, TimelineKind::Failure(text)) } else { self.hint(text) }
    }

    /// A message was posted, or refused, or the daemon is away.
    fn sent(&mut self, ticket: u64, result: Result<Box<SentMessage>, CliError>, now: Timestamp) {
        let serial = self.timeline.find_typed(ticket);
        let id = match result {
            Ok(sent) => {
                let id = sent.message.id;
                let delivery = Some(delivery(&sent));
                match (serial, self.timeline.find(id)) {
                    (Some(serial), None) => {
                        let shown = Shown { message: Box::new(sent.message), delivery };
                        self.timeline.replace(serial, TimelineKind::Message(shown));
                    }
                    // The history had it already.
                    (Some(serial), Some(_)) => self.timeline.remove(serial),
                    (None, _) => {}
                }
                self.timeline.apply_reports(id);
                if self.room.online() > 1 {
                    self.outbox.posted(id);
                }
                Some(id)
            }
            Err(CliError::Call(ref error) | CliError::Unsure { source: ref error, .. }) if error.passes_later() => {
                return self.outbox.hold();
            }
            Err(error) => {
                let text = error.lines().replace('\n', "; ");
                let reason = text.strip_prefix("chat: ").unwrap_or(&text).to_owned();
                let waiting = self.outbox.waiting().find(|typed| typed.ticket == ticket);
                let refused = waiting.map(|typed| TypedMessage { refused: Some(reason.clone()), ..typed });
                match (serial, refused) {
                    (Some(serial), Some(refused)) => self.timeline.replace(serial, TimelineKind::Typed(refused)),
                    (None, _) | (_, None) => self.hint(format!("not sent: {}", label(&reason))),
                }
                None
            }
        };
        self.outbox.done(ticket);
        for message in self.echo.end(id) {
            self.append(message, now);
        }
    }

    /// How far an own message has come.
    fn spread(&mut self, sent: &SentMessage) {
        let reached = delivery(sent);
        if usize::try_from(reached.copies).unwrap_or(usize::MAX) + 1 >= self.room.online() {
            self.outbox.confirmed(sent.message.id);
        }
        self.timeline.delivered(sent.message.id, &reached);
    }

    fn history(&mut self, part: &HistoryPart, read: Messages, now: Timestamp) {
        let more = |more: bool| if more { More::Maybe } else { More::No };
        match part {
            HistoryPart::Before(_) => {
                self.timeline.older = more(read.older);
                self.timeline.add_page(TimelineEnd::Old, read.messages);
                let owed = std::mem::take(&mut self.surface.owed);
                self.scroll(-isize::try_from(owed).unwrap_or(0));
            }
            HistoryPart::After(_) => {
                self.timeline.newer = more(read.newer || std::mem::take(&mut self.surface.missed));
                self.timeline.add_page(TimelineEnd::New, read.messages);
                self.add_waiting(now);
                if self.timeline.is_live() {
                    self.mark_unread();
                }
            }
            HistoryPart::Newest => self.newest(read, now),
            HistoryPart::Around(id) => {
                self.restart_timeline();
                (self.timeline.older, self.timeline.newer) = (more(read.older), more(read.newer));
                self.timeline.add_page(TimelineEnd::New, read.messages);
                self.add_waiting(now);
                if self.reading.left_off() == Some(*id) {
                    self.resume_reading(*id);
                } else if let Some(serial) = self.timeline.find(*id) {
                    self.surface.found = Some(serial);
                    self.show(serial);
                }
            }
            HistoryPart::From(_) => {
                if read.messages.is_empty() {
                    return self.hint("there is no message from there on");
                }
                self.restart_timeline();
                (self.timeline.older, self.timeline.newer) = (more(read.older), more(read.newer));
                self.timeline.add_page(TimelineEnd::New, read.messages);
                self.add_waiting(now);
                self.show(self.timeline.first());
            }
        }
        // A tall screen, or a window at the end of what was read, needs more.
        self.read_around();
    }

    /// The newest messages; where they join those in memory, these are kept.
    fn newest(&mut self, read: Messages, now: Timestamp) {
        let joins = read.messages.first().is_some_and(|first| self.timeline.find(first.id).is_some());
        let missed = std::mem::take(&mut self.surface.missed);
        if !joins {
            self.restart_timeline();
            self.timeline.older = if read.older { More::Maybe } else { More::No };
        }
        self.timeline.newer = if missed { More::Maybe } else { More::No };
        self.timeline.add_page(TimelineEnd::New, read.messages);
        self.add_waiting(now);
        self.mark_unread();
        if let Some(id) = self.reading.left_off() {
            // What is unread begins behind it, on this page or before.
            if self.timeline.find(id).is_some() { self.resume_reading(id) } else { self.go_to(HistoryPart::Around(id)) }
        }
    }

    /// Places the marker behind the message up to which an earlier run had read, and goes there if that is not on the screen.
    fn resume_reading(&mut self, id: MessageId) {
        self.reading.found();
        let Some(last) = self.timeline.find(id) else { return };
        let me = self.room.me.id;
        let others = (last + 1..self.timeline.end()).filter(|serial| {
            self.timeline.get(*serial).and_then(TimelineEntry::message).is_some_and(|message| message.from.id != me)
        });
        let count = u32::try_from(others.count()).unwrap_or(u32::MAX);
        if count == 0 {
            return;
        }
        self.timeline.unread = Some((last + 1, count));
        let areas = self.areas();
        let look = Self::look(&self.room, &self.settings, &self.surface, areas.history.width);
        if !self.timeline.visible(usize::from(areas.history.height), &look).contains(&(last + 1)) {
            self.show(last + 1);
        }
    }

    /// Places the marker of unread messages by their number, where they were not in memory so far.
    fn mark_unread(&mut self) {
        let elsewhere = |(serial, count): &(Serial, u32)| *count > 0 && *serial == Serial::MAX;
        let Some((_, count)) = self.timeline.unread.filter(elsewhere) else { return };
        let me = self.room.me.id;
        let others = self.timeline.iter().rev().filter(|(_, entry)| entry.message().is_some_and(|m| m.from.id != me));
        let place = others.take(usize::try_from(count).unwrap_or(usize::MAX)).last();
        let place = place.map(|(serial, _)| (serial, count));
        self.timeline.unread = place;
    }

    /// Puts what waits to be posted behind the newest message.
    fn add_waiting(&mut self, now: Timestamp) {
        if !self.timeline.is_live() {
            return;
        }
        for typed in self.outbox.waiting().collect::<Vec<_>>() {
            if self.timeline.find_typed(typed.ticket).is_none() {
                self.timeline.push(now, TimelineKind::Typed(typed));
            }
        }
    }

    fn history_failed(&mut self, part: &HistoryPart, error: ClientError) {
        match part {
            HistoryPart::Before(_) => self.timeline.older = More::Maybe,
            HistoryPart::After(_) => self.timeline.newer = More::Maybe,
            // What arrives is shown all the same.
            HistoryPart::Newest if self.timeline.newer == More::Asked => self.timeline.newer = More::No,
            HistoryPart::Around(id) if self.reading.left_off() == Some(*id) => self.reading.found(),
            HistoryPart::Newest | HistoryPart::Around(_) | HistoryPart::From(_) => {}
        }
        let text = CliError::from(error).lines();
        self.hint(text.replace('\n', "; "));
    }

    fn found(&mut self, result: Result<Messages, ClientError>) {
        let Some(Overlay::Search(search)) = &mut self.overlay else { return };
        match result {
            Ok(read) => {
                search.state = if read.older { SearchState::More } else { SearchState::Complete };
                search.found.extend(read.messages.into_iter().rev());
            }
            Err(error) => search.state = SearchState::Failed(CliError::from(error).lines().replace('\n', "; ")),
        }
    }

    /// Asks how far the newest own messages have come, where not every member is known to hold them.
    pub(super) fn ask_deliveries(&mut self) {
        let others = u32::try_from(self.room.members.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let newest = self.timeline.first()..self.timeline.end();
        self.ask_about(newest, |reached| reached.is_none_or(|reached| reached.copies < others));
    }

    /// Asks how far the own messages on the screen have come, where that is not known.
    pub(super) fn ask_unknown(&mut self) {
        let areas = self.areas();
        let look = Self::look(&self.room, &self.settings, &self.surface, areas.history.width);
        let visible = self.timeline.visible(usize::from(areas.history.height), &look);
        self.ask_about(visible, |reached| reached.is_none());
    }

    fn ask_about(&mut self, serials: Range<Serial>, is_open: impl Fn(Option<&DeliveryReport>) -> bool) {
        let me = self.room.me.id;
        let open = serials.rev().filter_map(|serial| match &self.timeline.get(serial)?.kind {
            TimelineKind::Message(shown) if shown.message.from.id == me && is_open(shown.delivery.as_ref()) => {
                Some(shown.message.id)
            }
            TimelineKind::Message(_)
            | TimelineKind::Typed(_)
            | TimelineKind::Quiet(_)
            | TimelineKind::Note(_)
            | TimelineKind::Answer(_)
            | TimelineKind::Failure(_)
            | TimelineKind::Knock(_) => None,
        });
        let ids: Vec<_> = open.take(DELIVERIES_ASKED).collect();
        for id in ids {
            self.ask(Ask::Delivery(id));
        }
    }
}

fn delivery(sent: &SentMessage) -> DeliveryReport {
    let to = &sent.message.to;
    let delivered = sent.state.held_by.iter().filter(|peer| to.iter().any(|other| other.id == peer.id)).count();
    DeliveryReport { copies: sent.state.copies, delivered: u32::try_from(delivered).unwrap_or(u32::MAX) }
}
