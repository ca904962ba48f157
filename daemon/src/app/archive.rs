//! Exports: a room as a file of JSON lines that any machine can verify without a network.
//!
//! The first line ([`Line::Export`]) names the room and where the export begins: nothing, or the heads at which an earlier
//! one ended. Each further line is an entry, after everything that it depends on, with the bytes that its author signed
//! ([`Line::Entry`]). The last line ([`Line::End`]) has the heads that were reached, and the exporting peer's signature over
//! all lines before it: a file that was cut is noticed.
//!
//! [`Archive::verify`] trusts nothing but signatures. Every log must lead from the head at which the export begins to the
//! one at which it ends, entry by entry, each naming the hash of the one before: nothing is left out in between. What an
//! entry depends on must come before it. The readable fields of a line must be what was signed. Logs that others
//! build on and that the file does not have are named: the exporting peer did not hold them, or left them out. Branches of
//! a forked log are logs of their own; the line of the first entry of each says so.

mod heads;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, Read as _, Write};

use chat_core::log::entry::{Control, Entry, EntryError, Hlc, LogId, MessageBody, Seq, SignedEntry};
use chat_core::signature::SignatureBytes;
use chat_proto::id::{EntryHash, MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;
use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

pub(crate) use heads::ArchiveHeads;

/// Version of the format.
const FORMAT: u32 = 1;

/// What the exporting peer signs begins with this.
const SIGN_CONTEXT: &[u8] = b"chatd export v1\0";

/// Maximum length of a line, in bytes (16 MiB): an entry of 64 KiB, or the heads of 50,000 logs.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The newest entry of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadView {
    /// The author of the log.
    pub(crate) author: PeerId,
    /// Its incarnation, in hexadecimal digits.
    pub(crate) incarnation: String,
    /// Sequence number of the newest entry.
    pub(crate) seq: u64,
    /// Its hash.
    pub(crate) hash: EntryHash,
    /// The time by which it is ordered, in hexadecimal digits.
    pub(crate) order: String,
}

/// A message as it can be read in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MessageView {
    /// Its id.
    pub(crate) id: MessageId,
    /// The text of a message to the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// The recipients of a direct message, which only they can read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) to: Vec<PeerId>,
}

/// A line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Line {
    /// The first line.
    Export {
        /// Version of the format.
        format: u32,
        /// The room.
        room: RoomId,
        /// Its name.
        room_name: String,
        /// The peer that exports.
        by: PeerId,
        /// When, by its clock.
        at: Timestamp,
        /// The heads after which the export begins; empty for the whole room.
        after: Vec<HeadView>,
    },
    /// An entry.
    Entry {
        /// Its author.
        author: PeerId,
        /// When it was written, by the author's clock.
        time: Timestamp,
        /// Its hash.
        hash: EntryHash,
        /// The messages in it; none in one about the membership, or where the texts are no longer kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        messages: Vec<MessageView>,
        /// The header as it was signed, in base 64.
        header: String,
        /// The author's signature, in base 64.
        signature: String,
        /// Whether it is the first entry of a branch of a forked log.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        branch: bool,
        /// The body, whose hash is in the header, in base 64; absent where it is no longer kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    /// The last line.
    End {
        /// Number of entries.
        entries: u64,
        /// The heads that were reached.
        heads: Vec<HeadView>,
        /// The exporting peer's signature over the BLAKE3 hash of all lines before, and this line without it.
        signature: String,
    },
}

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
    /// A line is not one of an export.
    #[error("line {line} is not a line of an export")]
    Syntax {
        /// Which, from 1.
        line: u64,
        /// Why.
        source: Option<serde_json::Error>,
    },
    /// It is of another version.
    #[error("the export has format {0}, and this chatd reads format {FORMAT}: update chatd")]
    Format(u32),
    /// The last line is missing.
    #[error("the export is cut: its last line is missing")]
    Cut,
    /// Something follows the last line.
    #[error("something follows the last line of the export")]
    Beyond,
    /// The entry is not what its author signed.
    #[error("line {line} is not what {author} signed", author = .author.tag())]
    Forged {
        /// The line.
        line: u64,
        /// Its author, as the line says.
        author: PeerId,
        /// Why, where the entry itself is at fault.
        source: Option<EntryError>,
    },
    /// Its content is not there, and it is not one of messages.
    #[error("line {line} lacks what {author} signed: only the texts of messages are ever left out", author = .author.tag())]
    LeftOut {
        /// The line.
        line: u64,
        /// The author.
        author: PeerId,
    },
    /// Entries are missing before this one.
    #[error("entries of {author} are missing before line {line}: it has number {seq}, and number {expected} was due", author = .author.tag())]
    Missing {
        /// The line.
        line: u64,
        /// The author.
        author: PeerId,
        /// The number it has.
        seq: u64,
        /// The number that was due.
        expected: u64,
    },
    /// It does not follow the entry before it.
    #[error("line {line} does not follow the entry of {author} before it", author = .author.tag())]
    Chain {
        /// The line.
        line: u64,
        /// The author.
        author: PeerId,
    },
    /// Something that it answers comes later.
    #[error("line {line} comes before an entry of {on} on which it depends", on = .on.tag())]
    Order {
        /// The line.
        line: u64,
        /// Author of the entry on which it depends.
        on: PeerId,
    },
    /// The heads or the number of entries are not those of the entries.
    #[error("the export does not end where its last line says")]
    Heads,
    /// The last line is not signed by the exporting peer.
    #[error("the export is not signed by {by}: lines were changed or left out", by = .0.tag())]
    Signature(PeerId),
}

/// Writes an export line by line.
pub(crate) struct ArchiveWriter<W> {
    to: W,
    hasher: blake3::Hasher,
    heads: ArchiveHeads,
    entries: u64,
}

impl<W: Write> ArchiveWriter<W> {
    /// Writes the first line.
    pub(crate) fn begin(
        to: W,
        (room, room_name): (RoomId, &str),
        by: PeerId,
        at: Timestamp,
        after: ArchiveHeads,
    ) -> io::Result<Self> {
        let (room_name, views) = (room_name.to_owned(), after.views());
        let mut writer = Self { to, hasher: blake3::Hasher::new(), heads: after, entries: 0 };
        writer.line(&Line::Export { format: FORMAT, room, room_name, by, at, after: views })?;
        Ok(writer)
    }

    /// Writes an entry.
    pub(crate) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let signed = entry.signed();
        self.line(&Line::Entry {
            author: entry.author(),
            time: entry.header().time.wall(),
            hash: entry.hash(),
            messages: messages(entry),
            branch: entry.begins() && entry.log() != entry.header().log,
            header: BASE64.encode(&signed.header),
            signature: BASE64.encode(&signed.signature.to_bytes()),
            body: signed.body.as_ref().map(|body| BASE64.encode(body)),
        })?;
        self.heads.advance(entry);
        self.entries += 1;
        Ok(())
    }

    /// Writes the last line; returns the number of entries.
    pub(crate) fn end(mut self, key: &SigningKey) -> io::Result<u64> {
        let (entries, heads) = (self.entries, self.heads.views());
        let statement = statement(&self.hasher, entries, &heads)?;
        let signature = BASE64.encode(&key.sign(&statement).to_bytes());
        self.line(&Line::End { entries, heads, signature })?;
        self.to.flush()?;
        Ok(entries)
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.hasher.update(&text);
        self.to.write_all(&text)
    }
}

/// What the exporting peer signs.
fn statement(lines: &blake3::Hasher, entries: u64, heads: &[HeadView]) -> io::Result<Vec<u8>> {
    let end = serde_json::to_vec(&(entries, heads))?;
    Ok([SIGN_CONTEXT, lines.finalize().as_bytes(), &end].concat())
}

/// The messages of an entry as its line has them.
fn messages(entry: &Entry) -> Vec<MessageView> {
    let id = |index| MessageId { entry: entry.hash(), index };
    let view = |(index, body): (u16, &MessageBody)| match body {
        MessageBody::Text(text) => MessageView { id: id(index), text: Some(text.clone()), to: Vec::new() },
        MessageBody::Sealed(boxes) => {
            MessageView { id: id(index), text: None, to: boxes.iter().map(|sealed| sealed.to).collect() }
        }
    };
    (0..).zip(entry.messages()).map(view).collect()
}

/// A message of a verified export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArchivedMessage {
    position: (Hlc, Hlc, LogId, Seq, u16),
    /// The message.
    pub(crate) view: MessageView,
}

impl ArchivedMessage {
    /// Its author.
    pub(crate) fn author(&self) -> PeerId {
        self.position.2.author
    }

    /// Whether its text is no longer kept.
    pub(crate) fn is_dropped(&self) -> bool {
        self.view.text.is_none() && self.view.to.is_empty()
    }

    /// When it was written, by its author's clock.
    pub(crate) fn time(&self) -> Timestamp {
        self.position.1.wall()
    }
}

/// A verified export.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The room.
    pub(crate) room: RoomId,
    /// Its name.
    pub(crate) room_name: String,
    /// The peer that exported it.
    pub(crate) by: PeerId,
    /// Whether it begins with the room.
    pub(crate) whole: bool,
    /// Number of entries.
    pub(crate) entries: u64,
    /// The messages, in the order that is the same at every peer; one for each entry whose texts are no longer kept.
    pub(crate) messages: Vec<ArchivedMessage>,
    /// Number of entries whose texts are no longer kept.
    pub(crate) dropped: u64,
    /// Names that entries give to peers; the newest of each.
    pub(crate) names: HashMap<PeerId, String>,
    /// Logs that entries build on and that are not there, with the newest such number.
    pub(crate) absent: BTreeMap<LogId, Seq>,
    /// Logs that are forked, as their branches show.
    forked: BTreeSet<LogId>,
    /// What entries build on that lies beyond the end of a log, with the lines that do: allowed where the log is forked.
    beyond: BTreeMap<LogId, u64>,
    /// Where it ends.
    pub(crate) heads: ArchiveHeads,
}

impl Archive {
    /// Reads an export and verifies all of it.
    ///
    /// # Errors
    /// The first [`Flaw`].
    pub(crate) fn verify(mut from: impl BufRead) -> Result<Self, Flaw> {
        let (mut hasher, mut number) = (blake3::Hasher::new(), 1);
        let (first, raw) = read_line(&mut from, number)?.ok_or(Flaw::Cut)?;
        hasher.update(&raw);
        let Line::Export { format, room, room_name, by, after, .. } = first else {
            return Err(Flaw::Syntax { line: 1, source: None });
        };
        if format != FORMAT {
            return Err(Flaw::Format(format));
        }
        let heads = ArchiveHeads::of(&after).ok_or(Flaw::Syntax { line: 1, source: None })?;
        let mut archive = Self {
            room,
            room_name,
            by,
            whole: after.is_empty(),
            entries: 0,
            messages: Vec::new(),
            dropped: 0,
            names: HashMap::new(),
            absent: BTreeMap::new(),
            forked: BTreeSet::new(),
            beyond: BTreeMap::new(),
            heads,
        };
        loop {
            number += 1;
            let (line, raw) = read_line(&mut from, number)?.ok_or(Flaw::Cut)?;
            match line {
                Line::Export { .. } => return Err(Flaw::Syntax { line: number, source: None }),
                Line::Entry { .. } => archive.entry(number, line)?,
                Line::End { entries, heads, signature } => {
                    archive.end(&hasher, entries, &heads, &signature)?;
                    return if read_line(&mut from, number + 1)?.is_none() { Ok(archive) } else { Err(Flaw::Beyond) };
                }
            }
            hasher.update(&raw);
        }
    }

    fn entry(&mut self, number: u64, line: Line) -> Result<(), Flaw> {
        let Line::Entry { author, time, hash, messages: shown, branch, header, signature, body } = line else {
            return Err(Flaw::Syntax { line: number, source: None });
        };
        let forged = |source| Flaw::Forged { line: number, author, source };
        let bytes = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| forged(None));
        let signature = <[u8; 64]>::try_from(bytes(&signature)?).map_err(|_| forged(None))?;
        let signed = SignedEntry {
            header: bytes(&header)?,
            signature: SignatureBytes::from_bytes(&signature),
            body: body.as_deref().map(bytes).transpose()?,
        };
        let entry = Entry::verify(signed, &self.room).map_err(|error| forged(Some(error)))?;
        if entry.lacks_body() && !entry.is_of_messages() {
            return Err(Flaw::LeftOut { line: number, author });
        }
        let readable = (entry.author(), entry.header().time.wall(), entry.hash(), messages(&entry));
        if readable != (author, time, hash, shown) {
            return Err(forged(None));
        }
        let entry = self.heads.file(entry, branch);
        if entry.log() != entry.header().log {
            self.forked.insert(entry.header().log);
        }
        self.follows(number, &entry)?;
        let order = self.heads.advance(&entry);
        self.entries += 1;
        self.take_names(&entry);
        let position = |index| (order, entry.header().time, entry.log(), entry.seq(), index);
        let mut views = readable.3;
        if entry.lacks_body() {
            self.dropped += 1;
            let id = MessageId { entry: entry.hash(), index: 0 };
            views.push(MessageView { id, text: None, to: Vec::new() });
        }
        self.messages.extend(views.into_iter().map(|view| ArchivedMessage { position: position(view.id.index), view }));
        Ok(())
    }

    /// Whether an entry follows the one before it in its log, and what it depends on.
    fn follows(&mut self, number: u64, entry: &Entry) -> Result<(), Flaw> {
        let (header, author) = (entry.header(), entry.author());
        let reached = self.heads.before(entry);
        let expected = reached.map_or(Seq(1), |reached| reached.seq.next());
        // An earlier export may end beyond the fork, at an entry of a branch that was not known to be one.
        let ended_beyond = || self.heads.get(&header.log).is_some_and(|head| head.seq >= entry.seq());
        if reached.is_none() && entry.begins() && entry.log() != header.log && ended_beyond() {
            return Ok(());
        }
        if entry.seq() != expected {
            return Err(Flaw::Missing { line: number, author, seq: entry.seq().0, expected: expected.0 });
        }
        if header.backlink != reached.map(|reached| reached.hash) {
            return Err(Flaw::Chain { line: number, author });
        }
        for dep in header.deps.iter().filter(|dep| dep.seq > Seq::ZERO) {
            match self.heads.get(&dep.log) {
                Some(reached) if reached.seq >= dep.seq => {}
                Some(_) => {
                    self.beyond.entry(dep.log).or_insert(number);
                }
                None => {
                    let newest = self.absent.entry(dep.log).or_insert(dep.seq);
                    *newest = dep.seq.max(*newest);
                }
            }
        }
        // A log that begins after something was built on it is out of order.
        match self.absent.contains_key(&entry.log()) {
            true => Err(Flaw::Order { line: number, on: author }),
            false => Ok(()),
        }
    }

    fn take_names(&mut self, entry: &Entry) {
        match entry.control() {
            Some(Control::Genesis { name, .. } | Control::Rename { name }) => {
                self.names.insert(entry.author(), name.clone());
            }
            Some(Control::Admit { peer, name, .. }) => {
                self.names.insert(*peer, name.clone());
            }
            Some(
                Control::Invite { .. }
                | Control::Revoke { .. }
                | Control::Remove { .. }
                | Control::Role { .. }
                | Control::Leave
                | Control::Keys { .. },
            )
            | None => {}
        }
    }

    fn end(&mut self, lines: &blake3::Hasher, entries: u64, heads: &[HeadView], signature: &str) -> Result<(), Flaw> {
        if let Some((log, line)) = self.beyond.iter().find(|(log, _)| self.whole && !self.forked.contains(log)) {
            return Err(Flaw::Order { line: *line, on: log.author });
        }
        if entries != self.entries || heads != self.heads.views() {
            return Err(Flaw::Heads);
        }
        let raw = BASE64.decode(signature.as_bytes()).ok().and_then(|raw| <[u8; 64]>::try_from(raw).ok());
        let statement = statement(lines, entries, heads)?;
        let holds = |raw: &[u8; 64]| {
            let key = VerifyingKey::from_bytes(self.by.as_bytes());
            key.is_ok_and(|key| key.verify_strict(&statement, &Signature::from_bytes(raw)).is_ok())
        };
        if !raw.as_ref().is_some_and(holds) {
            return Err(Flaw::Signature(self.by));
        }
        self.messages.sort_by_key(|message| message.position);
        Ok(())
    }
}

/// The next line with its bytes; `None` at the end.
fn read_line(from: &mut impl BufRead, line: u64) -> Result<Option<(Line, Vec<u8>)>, Flaw> {
    let mut raw = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut raw)?;
    if raw.is_empty() {
        return Ok(None);
    }
    let parsed = serde_json::from_slice(&raw).map_err(|source| Flaw::Syntax { line, source: Some(source) })?;
    Ok(Some((parsed, raw)))
}

#[cfg(test)]
mod tests;
