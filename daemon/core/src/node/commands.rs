//! Commands of users and programs on this machine.

use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::api::peers::MemberRole;
use chat_proto::id::{InviteId, MessageId, PeerId};
use chat_proto::text::check_member_name;
use chat_proto::ticket::{TICKET_ADDRS_MAX, Ticket, TicketPeer};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use rand::RngExt;

use crate::config::ENTRY_DEPS_MAX;
use crate::context::NodeContext;
use crate::delivery::drafts::{DraftMessage, DraftOrigin, Drafts, MESSAGE_BYTES_MAX, PostWait};
use crate::delivery::receipts::Receipts;
use crate::input::{Command, CommandId, Verdict};
use crate::log::entry::{Control, Dep, LogId, MessageBody, Seq};
use crate::log::heads::Heads;
use crate::log::local::{Life, Local};
use crate::membership::Membership;
use crate::membership::roster::ResolveError;
use crate::node::Node;
use crate::output::{CommandError, Output, Reply};
use crate::peers::Peers;
use crate::rendezvous::events::RoleInput;

/// Number of members whose addresses a new ticket carries: enough that one of them is online, and few enough that the line
/// fits on a screen and into a QR code.
const TICKET_PEERS: usize = 4;

/// Maximum wait for copies.
const WAIT_MAX: Duration = Duration::from_secs(3600);

impl Node {
    pub(super) fn on_command(&mut self, id: CommandId, command: Command) {
        if let Err(error) = self.execute(id, command) {
            self.cx.reply(id, Err(error));
        }
    }

    /// Carries a command out, or queues it; what is queued is answered when it is on disk.
    fn execute(&mut self, id: CommandId, command: Command) -> Result<(), CommandError> {
        let reply = match command {
            Command::Post { body, reply_to, wait, copies, timeout } => {
                let wait = PostWait { wait, copies: copies.max(1), timeout: timeout.min(WAIT_MAX) };
                return self.commands().post(id, (body, reply_to), wait);
            }
            Command::Invite { expires, uses } => return self.commands().invite(id, expires, uses),
            Command::Revoke(key) => return self.commands().revoke(id, key),
            Command::AnswerKnock(knock, verdict) => return self.door().answer_knock(id, knock, verdict),
            Command::Remove(peer) => return self.commands().remove(id, peer),
            Command::SetAdmin(peer, verdict) => return self.commands().set_admin(id, peer, verdict),
            Command::Rename(name) => {
                self.membership.may_write(&self.local)?;
                check_member_name(&name)?;
                return self.commands().write(id, Control::Rename { name });
            }
            Command::PublishKeys(identity, fallback) => {
                self.membership.may_write(&self.local)?;
                return self.commands().write(id, Control::Keys { identity, fallback });
            }
            Command::Leave => {
                self.membership.may_write(&self.local)?;
                return self.commands().write(id, Control::Leave);
            }
            Command::Stop if self.local.is_stopping() => Reply::Done,
            Command::Stop => {
                self.stop(id);
                return Ok(());
            }
            Command::Holders(log, seq) => Reply::Holders(self.views().holders(&log, seq)),
            Command::Peers => Reply::Peers(self.views().peers()),
            Command::Status => Reply::Status(self.views().status()),
            Command::Invites => Reply::Invites(self.views().invites()),
            Command::Knocks => Reply::Knocks(self.door.list_knocks(&self.membership)),
            Command::Rendezvous => Reply::Rendezvous(Box::new(self.views().role())),
        };
        self.cx.reply(id, Ok(reply));
        Ok(())
    }

    /// Answers all waiting commands, and hands the role over; then this peer says goodbye to its neighbours.
    fn stop(&mut self, id: CommandId) {
        self.local.life = Life::Stopping;
        self.delivery.receipts.answer_all(&self.peers.connections, &mut self.cx);
        let drafts = self.delivery.drafts.drain();
        self.refuse(drafts, &CommandError::Stopping);
        self.door().close_door();
        self.cx.push(Output::StoreSeen(self.peers.presence.seen()));
        self.role.release(id, &mut self.cx);
        self.tell_role(RoleInput::Leave);
    }

    fn commands(&mut self) -> CommandHandler<'_> {
        CommandHandler {
            local: &self.local,
            heads: &self.logs.heads,
            membership: &self.membership,
            peers: &self.peers,
            receipts: &self.delivery.receipts,
            drafts: &mut self.delivery.drafts,
            cx: &mut self.cx,
        }
    }
}

/// Checks commands that write: reads the room, and adds to the drafts.
struct CommandHandler<'a> {
    local: &'a Local,
    heads: &'a Heads,
    membership: &'a Membership,
    peers: &'a Peers,
    receipts: &'a Receipts,
    drafts: &'a mut Drafts,
    cx: &'a mut NodeContext,
}

impl CommandHandler<'_> {
    fn must_be_admin(&self) -> Result<(), CommandError> {
        self.membership.may_write(self.local)?;
        let me = self.membership.roster.people.get(&self.local.me);
        if me.is_some_and(|me| me.role == MemberRole::Admin) { Ok(()) } else { Err(CommandError::NotAdmin) }
    }

    fn must_be_there(&self, peer: &PeerId) -> Result<(), CommandError> {
        let roster = &self.membership.roster;
        if roster.is_member(peer) {
            return Ok(());
        }
        let name = roster.peer_ref(peer).name;
        let gone = roster.people.contains_key(peer);
        Err(if gone { ResolveError::Gone(name) } else { ResolveError::Unknown(name) }.into())
    }

    fn must_rank_above(&self, peer: &PeerId) -> Result<(), CommandError> {
        let may = self.membership.derived.may_strike(&self.local.me, peer);
        if may { Ok(()) } else { Err(CommandError::RanksAbove(self.membership.roster.peer_ref(peer).name)) }
    }

    fn write(&mut self, id: CommandId, control: Control) -> Result<(), CommandError> {
        let queued = self.drafts.push_control(control, DraftOrigin::Control(id));
        if queued { Ok(()) } else { Err(CommandError::Busy) }
    }

    fn post(
        &mut self,
        id: CommandId,
        (body, reply_to): (MessageBody, Option<MessageId>),
        wait: PostWait,
    ) -> Result<(), CommandError> {
        self.membership.may_write(self.local)?;
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
        if wait.wait != Wait::Stored && self.receipts.is_full() {
            return Err(CommandError::Busy);
        }
        let message = DraftMessage { body, reply_to, bytes };
        let queued = self.drafts.push_message(message, DraftOrigin::Post(id, wait));
        if queued { Ok(()) } else { Err(CommandError::Busy) }
    }

    fn invite(&mut self, id: CommandId, expires: Timestamp, uses: u32) -> Result<(), CommandError> {
        self.membership.may_write(self.local)?;
        let seed: [u8; 32] = self.cx.rng.random();
        let key = InviteId::from_bytes(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
        let ticket = Ticket {
            room: self.local.room,
            room_name: self.membership.roster.room_name.clone(),
            peers: self.ticket_peers(),
            seed,
            expires,
        };
        let control = Control::Invite { key, expires, uses };
        let queued = self.drafts.push_control(control, DraftOrigin::Invite(id, Box::new(ticket)));
        if queued { Ok(()) } else { Err(CommandError::Busy) }
    }

    /// Members for a ticket: this one first, then those online, then others whose addresses are known.
    fn ticket_peers(&self) -> Vec<TicketPeer> {
        let entry = |peer: PeerId, mut addrs: Vec<std::net::SocketAddr>| {
            // A record begins with interfaces and ends with what others observed: some of both.
            let (surplus, first) = (addrs.len().saturating_sub(TICKET_ADDRS_MAX), TICKET_ADDRS_MAX / 2);
            if surplus > 0 {
                addrs.drain(first..first + surplus);
            }
            TicketPeer { peer, addrs }
        };
        let Peers { addrs, presence, own_addrs, .. } = self.peers;
        let others = |peer: &PeerId| *peer != self.local.me && self.membership.is_member(peer);
        let members = || addrs.records().filter(|record| others(&record.peer) && !record.addrs.is_empty());
        let online = members().filter(|record| presence.is_online(&record.peer));
        let offline = members().filter(|record| !presence.is_online(&record.peer));
        std::iter::once(entry(self.local.me, own_addrs.clone()))
            .chain(online.chain(offline).map(|record| entry(record.peer, record.addrs.clone())))
            .take(TICKET_PEERS)
            .collect()
    }

    fn revoke(&mut self, id: CommandId, key: InviteId) -> Result<(), CommandError> {
        self.membership.may_write(self.local)?;
        let invite = self.membership.derived.invites().get(&key).ok_or(CommandError::UnknownInvite)?;
        if invite.by != self.local.me {
            self.must_be_admin()?;
        }
        self.write(id, Control::Revoke { key })
    }

    fn remove(&mut self, id: CommandId, peer: PeerId) -> Result<(), CommandError> {
        self.must_be_admin()?;
        self.must_be_there(&peer)?;
        self.must_rank_above(&peer)?;
        // A void log needs no name: what is not named is void. Of valid ones an author has few.
        let valid = |log: &&LogId| log.author == peer && self.heads.cut(log) != Some(Seq::ZERO);
        let logs = self.heads.logs().filter(valid).take(ENTRY_DEPS_MAX);
        let cuts = logs.map(|log| Dep { log: *log, seq: self.heads.seq(log) }).collect();
        self.write(id, Control::Remove { peer, cuts })
    }

    fn set_admin(&mut self, id: CommandId, peer: PeerId, verdict: Verdict) -> Result<(), CommandError> {
        self.must_be_admin()?;
        self.must_be_there(&peer)?;
        if verdict == Verdict::No {
            self.must_rank_above(&peer)?;
        }
        self.write(id, Control::Role { peer, admin: verdict == Verdict::Yes })
    }
}
