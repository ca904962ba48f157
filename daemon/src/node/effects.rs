//! Executes the outputs of the core: sends, dials, writes, replies.
//!
//! The driver calls [`Effects::execute`] for each output, in order. Nothing here waits: a write that does not fit into the
//! store's queue is kept back, with all writes after it, and the driver reads no further events until
//! [`Effects::unblock`] has delivered them.
//!
//! Two facts travel beside the core, keyed by the command: the sender for the reply, and the key of a retry, which the
//! store writes in the same transaction as the message. The daemon has one command of its own: when the roster shows
//! other keys for direct messages than the store holds, it publishes these.
//!
//! Invariants: writes reach the store in the order of the outputs. Each command is answered at most once, and its entries
//! in both maps are removed with the reply.

use std::collections::{HashMap, VecDeque};

use chat_core::input::{Command, CommandId};
use chat_core::membership::roster::{Roster, Sealing, SealingKeys};
use chat_core::output::{Batch, CommandError, Output, Reply};
use chat_proto::id::PeerId;
use tokio::sync::oneshot;

use crate::net::{Net, OutboxError};
use crate::store::Store;
use crate::store::error::{Closed, TryWriteError};
use crate::store::tables::models::{DmKeys, Idempotency};
use crate::store::types::Write;

type ReplySender = oneshot::Sender<Result<Reply, CommandError>>;

/// Executes outputs for the driver.
#[derive(Debug)]
pub(super) struct Effects {
    me: PeerId,
    net: Net,
    store: Store,
    replies: HashMap<CommandId, ReplySender>,
    keys: HashMap<CommandId, Idempotency>,
    /// Writes that did not fit into the store's queue. Bounded: while there are any, no new event is read.
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

    /// Assigns an id to a command and keeps where its reply goes.
    pub(super) fn expect_reply(&mut self, reply: ReplySender, idempotency: Option<Idempotency>) -> CommandId {
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

    /// Whether writes wait for space in the store's queue.
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

    /// Executes one output; may return a command of the daemon itself.
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
            Output::Load { id, log, from, to, bytes_max, scope } => {
                self.store.load(id, log, (from, to), bytes_max, scope);
            }
            Output::Reload(batch) => self.store.reload(batch),
            Output::Reply(id, reply) => self.reply(id, reply),
            Output::Admission(id, answer) => self.net.answer(id, answer),
            Output::Publish(event) => self.write(Write::Event(Box::new(event))),
            Output::Roster(roster) => {
                self.net.gate().set_roster(roster.clone());
                return self.keys_to_publish(&roster);
            }
            Output::StoreAddrs(records) => self.write(Write::Addrs(records)),
            Output::Repair(entry) => self.write(Write::Repair(entry)),
            Output::StoreSeen(seen) => self.write(Write::Seen(seen)),
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
                tracing::warn!(%error, "keys for direct messages could not be published");
            }
        }
        if let Some(answer) = self.replies.remove(&id) {
            // The caller may have gone.
            let _ = answer.send(reply);
        }
    }

    /// The command that publishes this peer's keys for direct messages, when the roster shows others or none.
    fn keys_to_publish(&mut self, roster: &Roster) -> Option<(CommandId, Command)> {
        let me = roster.people.get(&self.me).filter(|me| me.active)?;
        let keys = self.store.dm_keys();
        let DmKeys { identity, fallback, .. } = keys;
        // Keys that version 0.1 published do not say that padded messages are read here.
        let published = me.keys == Some(SealingKeys { identity, fallback, sealing: Sealing::Padded });
        if published || self.publishing_keys.is_some() {
            return None;
        }
        let id = self.next_id();
        self.publishing_keys = Some(id);
        Some((id, Command::PublishKeys(identity, fallback)))
    }
}

fn sent(peer: PeerId, sent: Result<(), OutboxError>) {
    match sent {
        Ok(()) | Err(OutboxError::NotConnected) => {}
        Err(error @ (OutboxError::Full | OutboxError::TooLong(_))) => {
            tracing::warn!(remote = %peer.short(), %error, "frame not sent");
        }
    }
}
