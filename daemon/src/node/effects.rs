//! Executes what the room wants: sends, dials, writes, replies.

use std::collections::{HashMap, VecDeque};

use chat_core::input::{Command, CommandId};
use chat_core::membership::roster::Roster;
use chat_core::output::{Batch, CommandError, Output, Reply};
use chat_proto::id::PeerId;
use tokio::sync::oneshot;

use crate::net::{Net, SendError};
use crate::store::Store;
use crate::store::error::{Closed, TryWriteError};
use crate::store::tables::models::Idempotency;
use crate::store::types::Write;

type Answer = oneshot::Sender<Result<Reply, CommandError>>;

/// Hands of the driver.
#[derive(Debug)]
pub(super) struct Effects {
    me: PeerId,
    net: Net,
    store: Store,
    replies: HashMap<CommandId, Answer>,
    keys: HashMap<CommandId, Idempotency>,
    /// Writes that did not fit into the store's queue. Bounded: while there are any, nothing new is read.
    blocked: VecDeque<Write>,
    next: u64,
    publishing_keys: Option<CommandId>,
}

impl Effects {
    pub(super) fn new(me: PeerId, net: Net, store: Store) -> Self {
        Self {
            me,
            net,
            store,
            replies: HashMap::new(),
            keys: HashMap::new(),
            blocked: VecDeque::new(),
            next: 0,
            publishing_keys: None,
        }
    }

    /// Names a command whose reply somebody waits for.
    pub(super) fn expect_reply(&mut self, reply: Answer, idempotency: Option<Idempotency>) -> CommandId {
        let id = self.next_id();
        self.replies.insert(id, reply);
        if let Some(idempotency) = idempotency {
            self.keys.insert(id, idempotency);
        }
        id
    }

    fn next_id(&mut self) -> CommandId {
        self.next += 1;
        CommandId(self.next)
    }

    /// Whether writes wait for room in the store's queue.
    pub(super) fn is_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Waits until the first blocked write fits. Cancel safe.
    pub(super) async fn unblock(&mut self) -> Result<(), Closed> {
        if let Some(write) = self.blocked.front() {
            self.store.write(write.clone()).await?;
            self.blocked.pop_front();
        }
        Ok(())
    }

    /// Executes one output; may give back a command of the daemon's own.
    pub(super) fn execute(&mut self, output: Output) -> Option<(CommandId, Command)> {
        match output {
            Output::Persist(batch) => self.persist(batch),
            Output::Observed(addr) => self.net.add_observed(addr),
            Output::Role(request, addrs) => self.net.serve_role(request, addrs),
            Output::Relays(relays) => self.net.set_relays(relays),
            Output::Send(peer, frame) => sent(peer, self.net.send(peer, frame)),
            Output::Datagram(peer, frame) => sent(peer, self.net.send_datagram(peer, frame)),
            Output::Dial(peer, addrs) => self.net.dial(peer, addrs),
            Output::Disconnect(peer, reason) => self.net.disconnect(peer, reason),
            Output::Load { id, log, from, to, bytes_max } => self.store.load(id, log, from, to, bytes_max),
            Output::Reply(id, reply) => self.reply(id, reply),
            Output::Admission(id, answer) => self.net.answer(id, answer),
            Output::Publish(event) => self.write(Write::Event(Box::new(event))),
            Output::Roster(roster) => {
                self.net.gate().set_roster(roster.clone());
                return self.keys_to_publish(&roster);
            }
            Output::Hide(log, seq) => self.write(Write::Hide(log, seq)),
            Output::StoreAddrs(records) => self.write(Write::Addrs(records)),
            Output::StoreFork(one, other) => self.write(Write::Fork(one, other)),
            Output::StoreSeen(seen) => self.write(Write::Seen(seen)),
            Output::StoreIncarnation(incarnation) => self.write(Write::Incarnation(incarnation)),
        }
        None
    }

    fn persist(&mut self, batch: Batch) {
        let origins = batch.entries.iter().flat_map(|entry| &entry.origins);
        let keys = origins.filter_map(|id| Some((*id, self.keys.get(id)?.clone()))).collect();
        self.write(Write::Batch(batch, keys));
    }

    fn write(&mut self, write: Write) {
        if self.is_blocked() {
            return self.blocked.push_back(write);
        }
        match self.store.try_write(write) {
            Ok(()) => {}
            Err(TryWriteError::Full(write)) => self.blocked.push_back(*write),
            Err(TryWriteError::Closed(_)) => tracing::error!("the store has ended, a write is lost"),
        }
    }

    fn reply(&mut self, id: CommandId, reply: Result<Reply, CommandError>) {
        self.keys.remove(&id);
        if self.publishing_keys == Some(id) {
            self.publishing_keys = None;
            if let Err(error) = &reply {
                tracing::warn!(%error, "keys for direct messages are not published");
            }
        }
        if let Some(answer) = self.replies.remove(&id) {
            // Whoever asked may have gone.
            let _ = answer.send(reply);
        }
    }

    /// The command that publishes this peer's keys for direct messages, when the roster shows others or none.
    fn keys_to_publish(&mut self, roster: &Roster) -> Option<(CommandId, Command)> {
        let me = roster.people.get(&self.me).filter(|me| me.active)?;
        let keys = self.store.dm_keys();
        let published = me.keys == Some((keys.identity, keys.fallback));
        if published || self.publishing_keys.is_some() {
            return None;
        }
        let id = self.next_id();
        self.publishing_keys = Some(id);
        Some((id, Command::PublishKeys(keys.identity, keys.fallback)))
    }
}

fn sent(peer: PeerId, sent: Result<(), SendError>) {
    match sent {
        Ok(()) | Err(SendError::NotConnected) => {}
        Err(error @ (SendError::Full | SendError::TooLong(_))) => {
            tracing::warn!(remote = %peer.short(), %error, "frame not sent");
        }
    }
}
