//! What the event stream brings.

use chat_client::FeedItem;
use chat_client::chat_settings::{Notify, OnOff};
use chat_client::display::{change_reason, label, name, span};
use chat_proto::api::messages::Message;
use chat_proto::api::peers::PeerView;
use chat_proto::api::rendezvous::{ChangeReason, HolderChange};
use chat_proto::event::{Event, EventEnvelope, KnockState, MembershipAction, MembershipChange};
use chat_proto::id::KnockId;
use chat_proto::time::Timestamp;

use super::{App, Focus, More};
use crate::screen::effect::{Ask, HistoryPart, ScreenEffect};
use crate::screen::room::Link;
use crate::screen::timeline::entry::{DeliveryReport, KnockLine, QuietChange, Shown, TimelineKind};
use crate::screen::timeline::layout::start;
use crate::text::transcript::{fork_words, membership_words};

/// Messages older than this call for no attention: they are caught up with.
const ATTENTION_MS: u64 = 5 * 60 * 1_000;

/// Characters of a message in a notification.
const NOTIFIED_CHARS: usize = 120;

impl App {
    /// Takes an item of the event stream.
    pub(super) fn item(&mut self, item: FeedItem, now: Timestamp) {
        let received = match item {
            FeedItem::Event(received) => received,
            FeedItem::Lost => {
                self.room.link = Link::Lost;
                return;
            }
            FeedItem::Back => {
                self.room.link = Link::Up;
                self.outbox.resume();
                for ask in [Ask::Status, Ask::Peers, Ask::Knocks] {
                    self.ask(ask);
                }
                return;
            }
        };
        let Some(EventEnvelope { at, event, .. }) = received.envelope else { return };
        match event {
            Event::Message { message } => self.message(message, now),
            Event::Peer { peer } => self.presence(at, peer),
            Event::Membership { change } => self.membership(at, &change),
            Event::Rendezvous { change } => self.role_moved(at, &change),
            Event::Delivery { message, copies, delivered } => {
                let delivered = u32::try_from(delivered.len()).unwrap_or(u32::MAX);
                self.timeline.delivered(message, &DeliveryReport { copies, delivered });
            }
            Event::Knock { knock, name, words, state } => self.knock(at, knock, (&name, &words), state),
            Event::Fork { peer } => self.note(at, TimelineKind::Note(fork_words(&peer))),
            Event::Gap { reason } => {
                self.note(at, TimelineKind::Note(format!("the stream of events has a gap: {}", label(&reason))));
                self.go_to(HistoryPart::Newest);
            }
        }
    }

    fn message(&mut self, message: Message, now: Timestamp) {
        self.room.arrived(message.time, now);
        let message = if message.from.id == self.room.me.id {
            // What is being posted from here comes back by the stream as well.
            match self.echo.arrive(message) {
                Some(message) => message,
                None => return,
            }
        } else {
            message
        };
        self.append(message, now);
    }

    /// Shows a message that is new, and calls for attention where it concerns this peer.
    pub(super) fn append(&mut self, message: Message, now: Timestamp) {
        let mine = message.from.id == self.room.me.id;
        if !mine {
            self.attention(&message, now);
        }
        if !self.timeline.is_live() {
            self.surface.missed |= self.timeline.newer == More::Asked;
            if !mine {
                self.timeline.count_unread(i64::MAX);
            }
            return;
        }
        if self.timeline.find(message.id).is_some() {
            return;
        }
        let watched = self.is_watched();
        let serial = self
            .timeline
            .push(message.time, TimelineKind::Message(Shown { message: Box::new(message), delivery: None }));
        if !mine && !watched {
            self.timeline.count_unread(serial);
        }
    }

    fn attention(&mut self, message: &Message, now: Timestamp) {
        let look = Self::look(&self.room, &self.settings, &self.surface, 80);
        let recent = now.as_ms().saturating_sub(message.time.as_ms()) < ATTENTION_MS;
        if !recent || !look.concerns(message) {
            return;
        }
        // One bell for many messages is enough.
        let rings = self.effects.iter().any(|effect| matches!(effect, ScreenEffect::Bell));
        if self.settings.bell == OnOff::On && !rings {
            self.effects.push(ScreenEffect::Bell);
        }
        if self.settings.notify != Notify::Off && self.surface.focus == Focus::Elsewhere {
            let text = format!("{}: {}", name(&message.from), start(&message.text, NOTIFIED_CHARS));
            self.effects.push(ScreenEffect::Notify(text));
        }
    }

    fn presence(&mut self, at: Timestamp, peer: PeerView) {
        let who = name(&peer.peer);
        if let Some(here) = self.room.set_member(peer) {
            let change = if here { QuietChange::Here } else { QuietChange::Away };
            self.quiet(at, who, change);
            if here {
                // It fetches what it has missed.
                self.ask_deliveries();
            }
        }
    }

    fn quiet(&mut self, at: Timestamp, who: String, change: QuietChange) {
        if self.timeline.is_live() {
            self.timeline.push_quiet(at, who, change);
        }
    }

    fn membership(&mut self, at: Timestamp, change: &MembershipChange) {
        self.ask(Ask::Peers);
        self.ask(Ask::Status);
        match change.action {
            MembershipAction::Admitted => self.quiet(at, name(&change.peer), QuietChange::Joined),
            MembershipAction::Left => self.quiet(at, name(&change.peer), QuietChange::Left),
            MembershipAction::Founded
            | MembershipAction::Removed
            | MembershipAction::Renamed
            | MembershipAction::Role
            | MembershipAction::Keys => self.note(at, TimelineKind::Note(membership_words(change))),
        }
    }

    fn role_moved(&mut self, at: Timestamp, change: &HolderChange) {
        self.ask(Ask::Peers);
        self.note(at, TimelineKind::Note(role_words(change)));
    }

    fn knock(&mut self, at: Timestamp, id: KnockId, (name, words): (&str, &str), state: KnockState) {
        self.ask(Ask::Knocks);
        let how = match state {
            KnockState::Waiting => {
                let knock = KnockLine { id, name: label(name), words: label(words), ended: None };
                if self.settings.bell == OnOff::On {
                    self.effects.push(ScreenEffect::Bell);
                }
                return self.note(at, TimelineKind::Knock(knock));
            }
            KnockState::Admitted => "was admitted",
            KnockState::Denied => "was denied admission",
            KnockState::Gone => "no longer asks for admission",
        };
        self.timeline.knock_ended(id, how);
    }

    /// Adds a line behind the newest message, if that is in memory.
    pub(super) fn note(&mut self, at: Timestamp, kind: TimelineKind) {
        if self.timeline.is_live() {
            self.timeline.push(at, kind);
        }
    }
}

/// `bob holds the room now: alice's process died, 71ms`.
pub(crate) fn role_words(change: &HolderChange) -> String {
    let to = name(&change.to);
    if change.reason == ChangeReason::Founded {
        return format!("{to} founded the room and holds it");
    }
    let reason = change_reason(change);
    let gap = span(std::time::Duration::from_millis(change.gap_ms));
    format!("{to} holds the room now: {reason}, {gap}")
}
