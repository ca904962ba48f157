//! What must hold at every step: a reference model that sees what every machine does.
//!
//! An entry is written only after its dependencies; a message is shown only after what its author had read. Only a machine
//! whose whole home was rolled back may fork its log. A command is answered once, by its own machine. A message is
//! acknowledged after it was flushed, and the peers named as its holders really hold it. Frames about the room go to members
//! only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::id::{EntryHash, MessageId, PeerId};

use crate::input::{Command, CommandId};
use crate::log::entry::{Entry, Hlc, LogId, Seq, SignedEntry};
use crate::output::{BatchEntry, CloseReason, CommandError, Reply};
use crate::sim::room::machine::disk::{HeldData, SendKey};
use crate::sim::room::machine::{Host, Machine};
use crate::wire::Frame;

/// Where a node cuts a log.
pub(in crate::sim::room) type CutOf<'a> = &'a dyn Fn(&LogId) -> Option<Seq>;

/// A command without an answer so far.
#[derive(Debug)]
struct OpenCommand {
    host: Host,
    life: u32,
    at: Duration,
    what: Kind,
    /// What was shown on the machine when the command was given.
    view: BTreeMap<LogId, Seq>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Post(Wait, u32),
    Other(&'static str),
}

/// A message that was acknowledged to its sender.
#[derive(Clone, Debug)]
pub(in crate::sim::room) struct Acked {
    pub(in crate::sim::room) id: MessageId,
    pub(in crate::sim::room) log: LogId,
    pub(in crate::sim::room) seq: Seq,
    /// The author's machine, unless its disk was changed since.
    pub(in crate::sim::room) author: Option<Host>,
    /// Machines that the acknowledgement names as holders, and the author's; without those whose disks were changed since.
    pub(in crate::sim::room) holders: BTreeSet<Host>,
}

/// The reference model.
#[derive(Debug, Default)]
pub(in crate::sim::room) struct Checker {
    pub(in crate::sim::room) acked: Vec<Acked>,
    /// Logs that were forked because an old home came back.
    pub(in crate::sim::room) forked: BTreeSet<LogId>,
    next: u64,
    open: BTreeMap<CommandId, OpenCommand>,
    entries: BTreeMap<(LogId, Seq), (EntryHash, Hlc)>,
    positions: BTreeMap<EntryHash, (LogId, Seq)>,
    views: BTreeMap<EntryHash, BTreeMap<LogId, Seq>>,
    ever_held: BTreeMap<EntryHash, BTreeSet<Host>>,
    may_fork: BTreeSet<PeerId>,
    /// Machines that do as they please, and peers that they invented: nothing is expected of them.
    hostile: BTreeSet<Host>,
    hostile_ids: BTreeSet<PeerId>,
    sends: BTreeMap<SendKey, KeyedSend>,
}

/// A send that its client repeated until it was answered.
#[derive(Debug)]
struct KeyedSend {
    /// The machine, unless its disk was changed since: it may have lost the message and the key.
    host: Option<Host>,
    /// All messages that were written for it.
    posted: BTreeSet<MessageId>,
}

impl Checker {
    pub(in crate::sim::room) fn new(hostile: BTreeSet<Host>, invented: Vec<PeerId>, machines: &[Machine]) -> Self {
        let ids = hostile.iter().filter_map(|host| machines.get(host.0)).map(|machine| machine.id);
        let hostile_ids: BTreeSet<PeerId> = ids.chain(invented).collect();
        Self { may_fork: hostile_ids.clone(), hostile, hostile_ids, ..Self::default() }
    }

    /// A machine closes a connection; no honest one breaks the protocol.
    pub(in crate::sim::room) fn breaks(&self, host: Host, peer: Option<Host>, reason: CloseReason) {
        let honest = peer.is_some_and(|peer| !self.hostile.contains(&peer)) && !self.hostile.contains(&host);
        assert!(!honest || reason != CloseReason::Protocol, "{host:?} says that {peer:?} breaks the protocol");
    }

    pub(in crate::sim::room) fn ask(
        &mut self,
        host: Host,
        life: u32,
        at: Duration,
        command: &Command,
        view: BTreeMap<LogId, Seq>,
    ) -> CommandId {
        self.next += 1;
        let id = CommandId(self.next);
        self.open.insert(id, OpenCommand { host, life, at, what: kind(command), view });
        id
    }

    /// A machine sends a frame; nothing about the room goes to a peer that is not a member.
    pub(in crate::sim::room) fn sends(&self, from: &Machine, to: &PeerId, frame: &[u8]) {
        let roster = &from.roster;
        if !roster.is_member(&from.id) || from.admits(to) || self.hostile_ids.contains(&from.id) {
            return;
        }
        let about_room = matches!(
            Frame::decode(frame),
            Ok(Frame::Entries(_) | Frame::Chunk(_) | Frame::Vector { .. } | Frame::Addrs(_))
        );
        assert!(!about_room, "{} sends {}, which is not a member, a frame about the room", from.name, to.short());
    }

    /// A machine writes the proof of a fork down: one of its two entries may never be written anywhere.
    pub(in crate::sim::room) fn forked(&mut self, one: &SignedEntry) {
        let entry = Entry::from_trusted(one.clone()).expect("nodes write entries that can be read");
        assert!(self.may_fork.contains(&entry.author()), "{:?} was forked", entry.header().log);
        self.forked.insert(entry.header().log);
    }

    /// A machine writes an entry to its disk with these contents; `cut` returns where its node cuts a log.
    pub(in crate::sim::room) fn stores(
        &mut self,
        host: Host,
        held: &HeldData,
        item: &BatchEntry,
        cut: Option<CutOf<'_>>,
    ) {
        let entry = &item.entry;
        let (header, hash) = (entry.header(), entry.hash());
        let at = (header.log, header.seq);
        let order = held.next_order(entry);
        let known = self.entries.entry(at).or_insert((hash, order)).0;
        if known != hash {
            assert!(self.may_fork.contains(&header.log.author), "{at:?} was forked: {known:?} and {hash:?}");
            self.forked.insert(header.log);
        }
        self.positions.insert(hash, at);
        self.ever_held.entry(hash).or_default().insert(host);
        let mut view: BTreeMap<LogId, Seq> = BTreeMap::new();
        // What was hidden from the author since it was read is no cause any more, and others may never hold it.
        let shown = |(log, seq): &(&LogId, &Seq)| cut.is_none_or(|cut| cut(log).is_none_or(|cut| cut >= **seq));
        for asked in item.origins.iter().filter_map(|origin| self.open.get(origin)) {
            for (log, seq) in asked.view.iter().filter(shown) {
                let seen = view.entry(*log).or_default();
                *seen = (*seen).max(*seq);
            }
        }
        if !view.is_empty() {
            self.views.insert(hash, view);
        }
        let Some(cut) = cut.filter(|_| !self.hostile.contains(&host)) else { return };
        // Beyond a fork the name means any branch, and is not waited for.
        let there = |log: &LogId, seq: Seq| {
            held.seq(log) >= seq || cut(log).is_some_and(|cut| cut < seq) || self.forked.contains(log)
        };
        let by_hostile = |log: &LogId| self.hostile_ids.contains(&log.author);
        for dep in header.deps.iter().filter(|dep| !by_hostile(&dep.log) && !by_hostile(&header.log)) {
            assert!(there(&dep.log, dep.seq), "{at:?} is written at {host:?} before {dep:?}, on which it builds");
        }
        // An entry that depends on a forked log may depend on a branch that is not held here.
        if !item.visible || entry.messages().is_empty() || !self.forked.is_empty() || by_hostile(&header.log) {
            return;
        }
        for (log, seq) in self.views.get(&hash).into_iter().flatten() {
            if *log == header.log || by_hostile(log) {
                continue;
            }
            assert!(there(log, *seq), "{at:?} is shown at {host:?} before {log:?} {seq:?}, which its author had read");
            // Where an older disk came back, it has its own entry there.
            let same = |known: &EntryHash| held.has(log, *seq, known);
            let earlier = self.entries.get(&(*log, *seq)).is_none_or(|(known, before)| *before < order || !same(known));
            assert!(earlier, "{at:?} comes before {log:?} {seq:?}, which its author had read");
        }
    }

    /// A machine answers a command; `disks` and `ids` are those of all machines.
    pub(in crate::sim::room) fn reply(
        &mut self,
        host: Host,
        command: CommandId,
        reply: &Result<Reply, CommandError>,
        disks: &[Option<&HeldData>],
        ids: &[PeerId],
    ) {
        let disk = |host: Host| disks.get(host.0).copied().flatten();
        let asked = self.open.remove(&command);
        let asked = asked.unwrap_or_else(|| panic!("{host:?} answers {command:?} twice: {reply:?}"));
        assert_eq!(asked.host, host, "another machine's command is answered");
        if self.hostile.contains(&host) {
            return;
        }
        let (Kind::Post(wait, copies), Ok(Reply::Posted { id, held_by, complete, .. })) = (asked.what, reply) else {
            return;
        };
        let at = self.positions.get(&id.entry).copied();
        let (log, seq) = at.unwrap_or_else(|| panic!("{id} was acknowledged and is on no disk"));
        assert!(disk(host).is_some_and(|held| held.holds(&log, seq)), "{id} was acknowledged before it was flushed");
        let ever = self.ever_held.get(&id.entry).cloned().unwrap_or_default();
        let mut holders = BTreeSet::from([host]);
        for peer in held_by.iter().filter(|peer| !self.hostile_ids.contains(peer)) {
            let holder = ids.iter().position(|id| id == peer).map(Host);
            let holder = holder.unwrap_or_else(|| panic!("{peer:?} is named as a holder of {id} and is no machine"));
            assert!(ever.contains(&holder), "{holder:?} is named as a holder of {id} and never held it");
            assert_ne!(holder, host, "the author is named as a holder of its own message");
            // Its disk may have been changed since it sent the receipt; then it is no holder any more.
            if disk(holder).is_some_and(|held| held.has(&log, seq, &id.entry)) {
                holders.insert(holder);
            }
        }
        let enough = match wait {
            Wait::Stored => true,
            Wait::Replicated => held_by.len() >= copies as usize,
            Wait::Delivered => *complete,
        };
        assert!(enough || !complete, "{id} is reported as complete with {} of {copies} copies", held_by.len());
        self.acked.push(Acked { id: *id, log, seq, author: Some(host), holders });
    }

    /// A machine's process is gone, and with it the commands that waited for an answer.
    pub(in crate::sim::room) fn crashed(&mut self, host: Host, life: u32) {
        self.open.retain(|_, asked| asked.host != host || asked.life != life);
    }

    /// A process stopped in order with all writes flushed; all its commands must have an answer.
    pub(in crate::sim::room) fn exits(&self, host: Host, life: u32) {
        let left = self.open.values().find(|asked| asked.host == host && asked.life == life);
        assert!(left.is_none(), "{host:?} stopped without an answer to {left:?}");
    }

    /// The oldest command without an answer.
    pub(in crate::sim::room) fn unanswered(&self) -> Option<String> {
        self.open
            .values()
            .find(|asked| !self.hostile.contains(&asked.host))
            .map(|asked| format!("no answer to {:?} at {:?} since {:?}", asked.what, asked.host, asked.at))
    }

    /// A whole home was rolled back; the logs of this author may fork.
    pub(in crate::sim::room) fn may_fork(&mut self, author: PeerId) {
        self.may_fork.insert(author);
    }

    /// A machine has lost an entry that it had reported as written. Where no other machine ever held it, it never was.
    pub(in crate::sim::room) fn lost(&mut self, host: Host, entry: &Entry) {
        let (at, hash) = ((entry.log(), entry.seq()), entry.hash());
        let alone = self.ever_held.get(&hash).is_some_and(|holders| holders.iter().all(|holder| *holder == host));
        if alone && self.entries.get(&at).is_some_and(|(known, _)| *known == hash) {
            self.entries.remove(&at);
        }
    }

    /// A client of a machine begins a send.
    pub(in crate::sim::room) fn new_key(&mut self, host: Host) -> SendKey {
        let key = SendKey(self.sends.len() as u64);
        self.sends.insert(key, KeyedSend { host: Some(host), posted: BTreeSet::new() });
        key
    }

    /// A message is written for a send.
    pub(in crate::sim::room) fn posted(&mut self, key: SendKey, id: MessageId) {
        if let Some(send) = self.sends.get_mut(&key) {
            send.posted.insert(id);
        }
    }

    /// Fails if a send is shown twice.
    pub(in crate::sim::room) fn shown_once(&self, visible: &BTreeSet<MessageId>) {
        for (key, send) in self.sends.iter().filter(|(_, send)| send.host.is_some()) {
            let shown: Vec<&MessageId> = send.posted.intersection(visible).collect();
            assert!(shown.len() <= 1, "{key:?} was sent once and is shown as {shown:?}");
        }
    }

    /// The disk of a machine was changed.
    pub(in crate::sim::room) fn disk_changed(&mut self, host: Host, held: Option<&HeldData>) {
        for send in self.sends.values_mut() {
            send.host = send.host.filter(|of| *of != host);
        }
        for acked in &mut self.acked {
            let holds = held.is_some_and(|held| held.has(&acked.log, acked.seq, &acked.id.entry));
            if !holds {
                acked.holders.remove(&host);
                acked.author = acked.author.filter(|author| *author != host);
            }
        }
    }
}

fn kind(command: &Command) -> Kind {
    Kind::Other(match command {
        Command::Post { wait, copies, .. } => return Kind::Post(*wait, *copies),
        Command::Holders(..) => "holders",
        Command::Invite { .. } => "invite",
        Command::Revoke(_) => "revoke",
        Command::AnswerKnock(..) => "answer to a knock",
        Command::Remove(_) => "remove",
        Command::SetAdmin(..) => "role",
        Command::Rename(_) => "rename",
        Command::PublishKeys(..) => "keys",
        Command::Leave => "leave",
        Command::Stop => "stop",
        Command::Peers | Command::Status | Command::Invites | Command::Knocks | Command::Rendezvous => "question",
    })
}
