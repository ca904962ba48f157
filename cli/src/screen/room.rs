//! What is known of the room, its members and the daemon.

use chat_client::display::label;
use chat_proto::api::members::Knock;
use chat_proto::api::peers::{PeerRef, PeerView, RoleView};
use chat_proto::api::status::Status;
use chat_proto::time::{Timestamp, is_clock_off};

/// A message that arrives with a date older than this is caught up with.
const OLD_MS: u64 = 60_000;

/// The room.
#[derive(Debug)]
pub(crate) struct Room {
    /// This peer.
    pub(crate) me: PeerRef,
    /// Name of the room.
    pub(crate) name: String,
    /// The members, as the daemon lists them: this peer first.
    pub(crate) members: Vec<PeerView>,
    /// Numbers and names of the newcomers that wait.
    pub(crate) knocks: Vec<(String, String)>,
    /// Whether the daemon answers.
    pub(crate) link: Link,
    /// Number of messages in the history.
    pub(crate) messages: u64,
    /// Warnings for the status line.
    pub(crate) warnings: Vec<String>,
    /// Number of old messages that arrived without a new one in between.
    pub(crate) caught_up: u64,
}

/// The connection to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// It answers.
    Up,
    /// It is gone, and waited for.
    Lost,
}

impl Room {
    /// The room as the daemon's status has it.
    pub(crate) fn new(status: &Status) -> Self {
        let mut room = Self {
            me: status.peer.clone(),
            name: String::new(),
            members: Vec::new(),
            knocks: Vec::new(),
            link: Link::Up,
            messages: 0,
            warnings: Vec::new(),
            caught_up: 0,
        };
        room.update(status);
        room
    }

    /// Takes a new status.
    pub(crate) fn update(&mut self, status: &Status) {
        self.me = status.peer.clone();
        self.name = if status.room.name.is_empty() {
            status.room.id.short()
        } else {
            chat_client::display::label(&status.room.name)
        };
        self.messages = status.messages;
        self.warnings.clear();
        if status.removed {
            self.warnings.push("you were removed from this room".into());
        }
        if let Some(off) = status.clock_off_ms.filter(is_clock_off) {
            self.warnings.push(format!("clock {}", chat_client::display::clock_off(off)));
        }
        if status.damaged_entries > 0 {
            let count = chat_client::display::count(status.damaged_entries, "damaged entry", "damaged entries");
            self.warnings.push(format!("disk: {count}"));
        }
    }

    /// Takes the list of newcomers.
    pub(crate) fn set_knocks(&mut self, knocks: &[Knock]) {
        self.knocks =
            knocks.iter().map(|knock| (knock.id.to_string(), chat_client::display::label(&knock.name))).collect();
    }

    /// Takes the new state of a member; returns whether it came or went.
    pub(crate) fn set_member(&mut self, view: PeerView) -> Option<bool> {
        let Some(known) = self.members.iter_mut().find(|known| known.peer.id == view.peer.id) else {
            let online = view.online;
            self.members.push(view);
            return online.then_some(true);
        };
        let changed = (known.online != view.online && !view.me).then_some(view.online);
        *known = view;
        changed
    }

    /// The holder of the rendezvous role.
    pub(crate) fn holder(&self) -> Option<&PeerView> {
        self.members.iter().find(|member| member.role == RoleView::Holder)
    }

    /// Number of members that are online.
    pub(crate) fn online(&self) -> usize {
        self.members.iter().filter(|member| member.online).count()
    }

    /// Names of the other members.
    pub(crate) fn names(&self) -> Vec<String> {
        self.members.iter().filter(|member| !member.me).map(|member| label(&member.peer.name)).collect()
    }

    /// The name of a member as it is now; of a peer that is gone, its key.
    pub(crate) fn current_name(&self, peer: &PeerRef) -> String {
        let known = self.members.iter().find(|member| member.peer.id == peer.id);
        known.map_or_else(|| peer.id.to_string(), |member| member.peer.name.clone())
    }

    /// Notes the date of a message that arrived.
    pub(crate) fn arrived(&mut self, date: Timestamp, now: Timestamp) {
        let old = now.as_ms().saturating_sub(date.as_ms()) > OLD_MS;
        self.caught_up = if old { self.caught_up + 1 } else { 0 };
        self.messages = self.messages.saturating_add(1);
    }
}
