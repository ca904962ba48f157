//! Commands of users and programs on this machine.

use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::id::{InviteId, PeerId};
use chat_proto::text::check_name;
use chat_proto::ticket::{TICKET_ADDRS_MAX, TICKET_PEERS_MAX, Ticket, TicketPeer};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use rand::RngExt;

use crate::delivery::drafts::{DraftOrigin, MESSAGE_BYTES_MAX, PostWait};
use crate::input::{Command, CommandId, Now, Verdict};
use crate::log::entry::{Control, Dep, LogId, MessageBody, Seq};
use crate::membership::roster::ResolveError;
use crate::node::{Life, Node};
use crate::output::{CommandError, Output, Reply};
use crate::wire::Frame;

/// Maximum wait for copies.
const WAIT_MAX: Duration = Duration::from_secs(3600);

impl Node {
    pub(super) fn on_command(&mut self, id: CommandId, command: Command, now: Now) {
        if let Err(error) = self.execute(id, command, now) {
            self.out.push_back(Output::Reply(id, Err(error)));
        }
    }

    /// Carries a command out, or queues it; what is queued is answered when it is on disk.
    fn execute(&mut self, id: CommandId, command: Command, now: Now) -> Result<(), CommandError> {
        let reply = match command {
            Command::Post { body, wait, copies, timeout } => {
                return self.post(id, body, PostWait { wait, copies: copies.max(1), timeout: timeout.min(WAIT_MAX) });
            }
            Command::Invite { expires, uses } => return self.invite(id, expires, uses),
            Command::Revoke(key) => return self.revoke(id, key),
            Command::AnswerKnock(knock, verdict) => {
                self.must_be_member()?;
                return self.door().answer_knock(id, knock, verdict);
            }
            Command::Remove(peer) => return self.remove(id, peer),
            Command::SetAdmin(peer, verdict) => return self.set_admin(id, peer, verdict),
            Command::Rename(name) => {
                self.must_be_member()?;
                check_name("name", &name)?;
                return self.write(id, Control::Rename { name });
            }
            Command::PublishKeys(identity, fallback) => {
                self.must_be_member()?;
                return self.write(id, Control::Keys { identity, fallback });
            }
            Command::Leave => {
                self.must_be_member()?;
                return self.write(id, Control::Leave);
            }
            Command::Stop if self.is_stopping() => Reply::Done,
            Command::Stop => {
                self.stop(id, now);
                return Ok(());
            }
            Command::Holders(log, seq) => Reply::Holders(self.holders(&log, seq)),
            Command::Peers => Reply::Peers(self.peer_views(now)),
            Command::Status => Reply::Status(self.status()),
            Command::Invites => Reply::Invites(self.invite_views()),
            Command::Knocks => Reply::Knocks(self.door.list_knocks()),
            Command::Rendezvous => Reply::Rendezvous(Box::new(self.rendezvous_view())),
        };
        self.out.push_back(Output::Reply(id, Ok(reply)));
        Ok(())
    }

    fn must_be_member(&self) -> Result<(), CommandError> {
        if self.is_stopping() {
            return Err(CommandError::Stopping);
        }
        if self.is_member() { Ok(()) } else { Err(CommandError::NotMember) }
    }

    fn must_be_admin(&self) -> Result<(), CommandError> {
        use chat_proto::api::peers::MemberRole;
        self.must_be_member()?;
        let admin = self.membership.roster.people.get(&self.local.me).is_some_and(|me| me.role == MemberRole::Admin);
        if admin { Ok(()) } else { Err(CommandError::NotAdmin) }
    }

    fn write(&mut self, id: CommandId, control: Control) -> Result<(), CommandError> {
        let queued = self.delivery.drafts.push_control(control, DraftOrigin::Control(id));
        if queued { Ok(()) } else { Err(CommandError::Busy) }
    }

    fn post(&mut self, id: CommandId, body: MessageBody, wait: PostWait) -> Result<(), CommandError> {
        self.must_be_member()?;
        match &body {
            MessageBody::Text(text) => chat_proto::text::check_text(text)?,
            MessageBody::Sealed(boxes) if boxes.is_empty() || boxes.len() > chat_proto::RECIPIENTS_MAX => {
                return Err(CommandError::TooLong);
            }
            MessageBody::Sealed(_) => {}
        }
        let bytes = postcard::to_stdvec(&body).map_err(|_| CommandError::TooLong)?.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(CommandError::TooLong);
        }
        if wait.wait != Wait::Stored && self.delivery.receipts.is_full() {
            return Err(CommandError::Busy);
        }
        let queued = self.delivery.drafts.push_message(body, DraftOrigin::Post(id, wait), bytes);
        if queued { Ok(()) } else { Err(CommandError::Busy) }
    }

    fn invite(&mut self, id: CommandId, expires: Timestamp, uses: u32) -> Result<(), CommandError> {
        self.must_be_member()?;
        let seed: [u8; 32] = self.rng.random();
        let key = InviteId::from_bytes(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
        let ticket = Ticket {
            room: self.local.room,
            room_name: self.membership.roster.room_name.clone(),
            peers: self.ticket_peers(),
            seed,
            expires,
        };
        let control = Control::Invite { key, expires, uses };
        let queued = self.delivery.drafts.push_control(control, DraftOrigin::Invite(id, Box::new(ticket)));
        if queued { Ok(()) } else { Err(CommandError::Busy) }
    }

    /// Members for a ticket: this one first, then those online, then others whose addresses are known.
    fn ticket_peers(&self) -> Vec<TicketPeer> {
        let entry = |peer: PeerId, mut addrs: Vec<std::net::SocketAddr>| {
            addrs.truncate(TICKET_ADDRS_MAX);
            TicketPeer { peer, addrs }
        };
        let members = || {
            self.peers
                .addrs
                .records()
                .filter(|r| r.peer != self.local.me && self.membership.roster.is_member(&r.peer) && !r.addrs.is_empty())
        };
        let online = members().filter(|record| self.peers.connections.is_online(&record.peer));
        let others = members().filter(|record| !self.peers.connections.is_online(&record.peer));
        std::iter::once(entry(self.local.me, self.peers.own_addrs.clone()))
            .chain(online.chain(others).map(|record| entry(record.peer, record.addrs.clone())))
            .take(TICKET_PEERS_MAX)
            .collect()
    }

    pub(super) fn reply_invited(&mut self, command: CommandId, ticket: Ticket) {
        let key = InviteId::from_bytes(SigningKey::from_bytes(&ticket.seed).verifying_key().to_bytes());
        let invite = self.invite_views().into_iter().find(|invite| invite.id == key);
        let reply = invite.map(|invite| Reply::Invited(invite, ticket)).ok_or(CommandError::UnknownInvite);
        self.out.push_back(Output::Reply(command, reply));
    }

    fn revoke(&mut self, id: CommandId, key: InviteId) -> Result<(), CommandError> {
        self.must_be_member()?;
        let invite = self.membership.derived.invites.get(&key).ok_or(CommandError::UnknownInvite)?;
        if invite.by != self.local.me {
            self.must_be_admin()?;
        }
        self.write(id, Control::Revoke { key })
    }

    fn remove(&mut self, id: CommandId, peer: PeerId) -> Result<(), CommandError> {
        self.must_be_admin()?;
        self.must_be_there(&peer)?;
        let cuts = self
            .logs
            .heads
            .logs()
            .filter(|log| log.author == peer)
            .map(|log| Dep { log: *log, seq: self.logs.heads.seq(log) })
            .collect();
        self.write(id, Control::Remove { peer, cuts })
    }

    fn set_admin(&mut self, id: CommandId, peer: PeerId, verdict: Verdict) -> Result<(), CommandError> {
        self.must_be_admin()?;
        self.must_be_there(&peer)?;
        self.write(id, Control::Role { peer, admin: verdict == Verdict::Yes })
    }

    fn must_be_there(&self, peer: &PeerId) -> Result<(), CommandError> {
        if self.membership.roster.is_member(peer) {
            return Ok(());
        }
        let name = self.membership.roster.peer_ref(peer).name;
        Err(if self.membership.roster.people.contains_key(peer) {
            ResolveError::Gone(name)
        } else {
            ResolveError::Unknown(name)
        }
        .into())
    }

    fn holders(&self, log: &LogId, seq: Seq) -> Vec<PeerId> {
        let mut holders: Vec<PeerId> = self.peers.connections.holders(log, seq).collect();
        if *log == self.local.log {
            holders.extend(self.delivery.receipts.holders(log, seq));
        } else if log.author != self.local.me {
            holders.push(log.author);
        }
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// Answers all waiting commands, hands the role over, and says goodbye to the neighbours.
    fn stop(&mut self, id: CommandId, now: Now) {
        self.life = Life::Stopping;
        for (command, waiting) in self.delivery.receipts.drain() {
            self.reply_posted(command, &waiting);
        }
        self.refuse_drafts(&CommandError::Stopping);
        self.door().close_door();
        self.out.push_back(Output::StoreSeen(self.peers.connections.seen()));
        self.release_role(id, now);
    }

    pub(super) fn say_goodbye(&mut self) {
        for peer in self.peers.connections.connected_ids() {
            self.send(&peer, &Frame::Bye);
        }
    }
}
