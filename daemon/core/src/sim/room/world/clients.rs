//! Clients of the local API: readers of the event stream, and sends that are repeated until they are answered.
//!
//! Promise P8: a stream that is resumed misses nothing and repeats nothing; a send with a key is posted once.

use std::time::Duration;

use chat_proto::api::messages::Wait;

use crate::input::{Command, CommandId};
use crate::log::entry::MessageBody;
use crate::output::{CommandError, Reply};
use crate::sim::room::machine::Host;
use crate::sim::room::machine::disk::SendKey;
use crate::sim::room::world::RoomWorld;

/// Delays between two readings, in milliseconds.
const READ_MS: (u64, u64) = (50, 3_000);

/// Delays before a send is repeated, in milliseconds.
const REPEAT_MS: (u64, u64) = (200, 3_000);

impl RoomWorld {
    /// A reader at each machine begins to follow its events.
    pub(in crate::sim::room) fn begin_following(&mut self) {
        for host in self.hosts() {
            self.follow(host);
        }
    }

    /// A reader follows the events of a machine.
    pub(super) fn follow(&mut self, host: Host) {
        if !self.troubled {
            return;
        }
        self.read(host);
        let pause = self.between_ms(READ_MS.0, READ_MS.1);
        self.schedule(pause, move |world| world.follow(host));
    }

    /// The reader of a machine reads what is new.
    pub(super) fn read(&mut self, host: Host) {
        let machine = self.machine(host);
        if let Some(held) = &machine.disk.held {
            machine.clients.read(held);
        }
    }

    /// A client sends a message that it repeats until it is answered.
    pub(super) fn send_once(&mut self, host: Host) {
        let key = self.checker.new_key(host);
        self.machine(host).clients.open.insert(key, None);
        self.repeat(host, key);
    }

    /// All sends without an answer are repeated: the daemon has started.
    pub(super) fn repeat_all(&mut self, host: Host) {
        let keys: Vec<SendKey> = self.at(host).clients.open.keys().copied().collect();
        for key in keys {
            self.repeat_later(host, key);
        }
    }

    fn repeat_later(&mut self, host: Host, key: SendKey) {
        let after = self.between_ms(REPEAT_MS.0, REPEAT_MS.1);
        self.schedule_for(host, after, move |world| world.repeat(host, key));
    }

    /// As the daemon does, it looks for the key in the store before it posts.
    fn repeat(&mut self, host: Host, key: SendKey) {
        let machine = self.machine(host);
        if machine.clients.open.get(&key) != Some(&None) {
            return;
        }
        if machine.disk.held.as_ref().is_some_and(|held| held.keys.contains_key(&key)) {
            machine.clients.open.remove(&key);
            return;
        }
        let (body, timeout) = (MessageBody::Text(format!("once {}", key.0)), Duration::from_secs(2));
        let command = Command::Post { body, reply_to: None, wait: Wait::Stored, copies: 1, timeout };
        let Some(id) = self.name_command(host, &command) else { return };
        self.machine(host).clients.open.insert(key, Some(id));
        self.give(host, id, command);
    }

    /// The answer to a command; where a keyed send was not posted, or perhaps not, its client repeats it.
    pub(super) fn answered_send(&mut self, host: Host, command: CommandId, reply: &Result<Reply, CommandError>) {
        let clients = &mut self.machine(host).clients;
        let Some(key) = clients.key_of(command) else { return };
        let again = match reply {
            Ok(_)
            | Err(
                CommandError::NotMember
                | CommandError::NotAdmin
                | CommandError::RanksAbove(_)
                | CommandError::Removed
                | CommandError::NotThisDoor
                | CommandError::UnknownInvite
                | CommandError::UnknownKnock
                | CommandError::Resolve(_)
                | CommandError::Text(_)
                | CommandError::TooLong,
            ) => false,
            Err(
                CommandError::Arriving
                | CommandError::Busy
                | CommandError::DiskFull
                | CommandError::StoreFailed
                | CommandError::Stopping,
            ) => true,
        };
        if again {
            clients.open.insert(key, None);
            self.repeat_later(host, key);
        } else {
            clients.open.remove(&key);
        }
    }
}
