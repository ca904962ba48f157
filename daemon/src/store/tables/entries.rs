//! Entries: inserts batches of them with all rows that follow from them, and reads them back for other peers.
//!
//! A batch is inserted entry by entry: the signed entry itself, then what its body says. A genesis entry binds the
//! database to its room, published keys are remembered for direct messages, and each message that this peer may read
//! gets a row, its idempotency key, and, if it is visible, an event.
//!
//! Invariants: a log on disk has no holes, and each entry links to the one before it (the core checks signatures and
//! forks, this file checks order and backlink again); an entry that is already stored is passed over, and a different
//! one with the same sequence number never replaces it. Entries are never deleted; their bodies may be (`retention`).
//!
//! Called by the transaction of the writer (`insert_batch`) and by [`Store::load`](crate::store::Store::load) (`load`).

use std::collections::HashMap;

use chat_core::input::CommandId;
use chat_core::log::entry::{Body, Control, Entry, Hlc, LogId, Seq, SignedEntry};
use chat_core::membership::authority::AuthorityClock;
use chat_core::output::{Batch, BatchEntry, LoadScope};
use chat_core::signature::SignatureBytes;
use chat_proto::id::{MessageId, RoomId};
use rusqlite::{Connection, OptionalExtension as _, params};
use tracing::warn;

use crate::store::dm;
use crate::store::tables::WriteContext;
use crate::store::tables::damage;
use crate::store::tables::events;
use crate::store::tables::idempotency;
use crate::store::tables::messages;
use crate::store::tables::messages::MESSAGES_PER_ENTRY;
use crate::store::tables::models::{Idempotency, RoomRecord, StoredEvent, StoredEventKind};
use crate::store::tables::row_ids::{LogRow, find_log, log_of};
use crate::store::tables::sql_types::{counted, ordered, uncounted, unordered};

/// Result of inserting a batch.
#[derive(Debug, Default)]
pub(in crate::store) struct Inserted {
    /// Events of the messages, in order.
    pub(in crate::store) events: Vec<StoredEvent>,
    /// Number of rows that stand for the messages of entries without bodies, less those that were replaced by the messages.
    pub(in crate::store) placeholders: i64,
    /// Row number of the newest message; 0 if there is none.
    pub(in crate::store) newest_message: i64,
    /// The room, if an entry of the batch bound the database to it.
    pub(in crate::store) room: Option<RoomRecord>,
}

/// Why a batch was not inserted.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum InsertError {
    /// The entry does not follow the newest stored one: a log on disk has no holes.
    #[error("entry {seq:?} of {log:?} does not follow the newest one on disk")]
    Hole {
        /// The log.
        log: LogId,
        /// The sequence number.
        seq: Seq,
    },
    /// SQLite failed.
    #[error("database")]
    Database(#[from] rusqlite::Error),
}

/// Inserts a batch. Entries that are stored already are passed over.
pub(in crate::store) fn insert_batch(
    context: &mut WriteContext<'_>,
    batch: &Batch,
    keys: &HashMap<CommandId, Idempotency>,
) -> Result<Inserted, InsertError> {
    let mut inserted = Inserted::default();
    for item in &batch.entries {
        // A batch with proofs that was reported as failed and is on disk after all filed its entries in branches.
        let may_be_filed = !batch.changes.forks.is_empty();
        if may_be_filed && log_of(context.connection, &item.entry.hash())?.is_some() {
            continue;
        }
        insert_entry(context, item, keys, &mut inserted)?;
    }
    Ok(inserted)
}

fn insert_entry(
    context: &mut WriteContext<'_>,
    item: &BatchEntry,
    keys: &HashMap<CommandId, Idempotency>,
    inserted: &mut Inserted,
) -> Result<(), InsertError> {
    let entry = item.entry.as_ref();
    let log = entry.log();
    let head = context.heads.get(context.connection, log)?;
    if entry.seq() <= head.seq {
        return Ok(check_held(context.connection, entry, head)?);
    }
    let head = if entry.begins() { after_parent(context.connection, entry, head)? } else { head };
    if entry.seq() != head.seq.next() || entry.header().backlink != head.hash {
        return Err(InsertError::Hole { log, seq: entry.seq() });
    }
    let order = entry.header().order_after(head.order);
    let row = insert_row(context.connection, entry, head, order)?;
    if let Some(clock) = &item.clock {
        keep_clock(context.connection, head.log, entry.seq(), clock)?;
    }
    let head = LogRow { seq: entry.seq(), hash: Some(entry.hash()), order: Some(order), ..head };
    context.heads.set(log, head);
    match entry.body() {
        Some(Body::Control(control)) => insert_control(context, item, head, control, inserted)?,
        Some(Body::Messages(_)) => insert_messages(context, item, (head.author, order), row, keys, inserted)?,
        None if entry.lacks_body() => insert_placeholder(context, item, (head.author, order), row, inserted)?,
        None => {}
    }
    Ok(())
}

/// The head after which the first entry of a branch comes: that of the log on which the branch builds.
fn after_parent(connection: &Connection, entry: &Entry, head: LogRow) -> rusqlite::Result<LogRow> {
    let Some(backlink) = entry.header().backlink else { return Ok(head) };
    let before = connection
        .prepare_cached("SELECT seq, hlc FROM entries WHERE hash = ?")?
        .query_row([backlink.as_bytes()], |row| Ok((Seq(uncounted(row.get(0)?)), Hlc(unordered(row.get(1)?)))))
        .optional()?;
    Ok(before.map_or(head, |(seq, order)| LogRow { seq, hash: Some(backlink), order: Some(order), ..head }))
}

fn insert_row(connection: &Connection, entry: &Entry, head: LogRow, order: Hlc) -> rusqlite::Result<i64> {
    let signed = entry.signed();
    let sql = "INSERT INTO entries (log, seq, hash, hlc, control, header, signature, body)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    connection.prepare_cached(sql)?.insert(params![
        head.log,
        counted(entry.seq().0),
        entry.hash().as_bytes(),
        ordered(order.0),
        entry.control().is_some(),
        signed.header,
        signed.signature.to_bytes(),
        signed.body,
    ])
}

/// Keeps which acts an entry follows.
pub(in crate::store) fn keep_clock(
    connection: &Connection,
    log: i64,
    seq: Seq,
    clock: &AuthorityClock,
) -> rusqlite::Result<()> {
    let raw = postcard::to_stdvec(clock).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let sql = "INSERT OR REPLACE INTO clocks (log, seq, clock) VALUES (?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![log, counted(seq.0), raw])?;
    Ok(())
}

/// Warns if another entry is stored: the core rejects forks earlier, but if one arrives, the first entry stays.
fn check_held(connection: &Connection, entry: &Entry, head: LogRow) -> rusqlite::Result<()> {
    let held: Option<[u8; 32]> = connection
        .prepare_cached("SELECT hash FROM entries WHERE log = ? AND seq = ?")?
        .query_row(params![head.log, counted(entry.seq().0)], |row| row.get(0))
        .optional()?;
    if held.as_ref() != Some(entry.hash().as_bytes()) {
        warn!(author = %entry.author().short(), seq = entry.seq().0, "another entry with this sequence number is stored and stays");
    }
    Ok(())
}

fn insert_control(
    context: &mut WriteContext<'_>,
    item: &BatchEntry,
    head: LogRow,
    control: &Control,
    inserted: &mut Inserted,
) -> rusqlite::Result<()> {
    match control {
        Control::Genesis { room_name, open, .. } => {
            let id = RoomId::from_bytes(*item.entry.hash().as_bytes());
            let room = RoomRecord { id, name: room_name.clone(), open: *open };
            if context.room.as_ref().is_none_or(|known| known.id == id) {
                let sql = "UPDATE facts SET room = ?, room_name = ?, room_open = ?";
                context.connection.execute(sql, params![id.as_bytes(), room.name, room.open])?;
                context.room = Some(room.clone());
                inserted.room = Some(room);
            } else {
                warn!(room = %id.short(), "the genesis entry of another room is stored and ignored");
            }
        }
        // Also after a cut: the author signed them, which is all that is required.
        Control::Keys { identity, .. } => dm::publish_identity(context.connection, head.author, identity)?,
        Control::Invite { .. }
        | Control::Revoke { .. }
        | Control::Admit { .. }
        | Control::Remove { .. }
        | Control::Rename { .. }
        | Control::Role { .. }
        | Control::Leave => {}
    }
    Ok(())
}

/// Inserts what stands for the messages of an entry that came without its body. Its event gives it a place among the others
/// and is given to no reader: the messages may still come.
fn insert_placeholder(
    context: &WriteContext<'_>,
    item: &BatchEntry,
    (author, order): (i64, Hlc),
    entry_row: i64,
    inserted: &mut Inserted,
) -> rusqlite::Result<()> {
    let message = entry_row * MESSAGES_PER_ENTRY;
    let event = item.visible.then(|| events::insert_message(context.connection, message, context.now)).transpose()?;
    messages::insert_placeholder(context.connection, (message, event), author, order, item)?;
    context.connection.prepare_cached("INSERT INTO lacking (entry) VALUES (?)")?.execute([entry_row])?;
    inserted.newest_message = message;
    inserted.placeholders += i64::from(item.visible);
    Ok(())
}

pub(in crate::store) fn insert_messages(
    context: &mut WriteContext<'_>,
    item: &BatchEntry,
    (author, order): (i64, Hlc),
    entry_row: i64,
    keys: &HashMap<CommandId, Idempotency>,
    inserted: &mut Inserted,
) -> rusqlite::Result<()> {
    let mut unsealer = dm::Unsealer::new(author);
    for (body, (index, message)) in item.entry.messages().iter().zip((0u16..).zip(entry_row * MESSAGES_PER_ENTRY..)) {
        let Some(content) = messages::content(context, item, (index, body), &mut unsealer)? else { continue };
        let event =
            item.visible.then(|| events::insert_message(context.connection, message, context.now)).transpose()?;
        messages::insert(context.connection, (message, event), author, order, item, &content)?;
        inserted.newest_message = message;
        let origin = item.origins.get(usize::from(index));
        if let Some(idempotency) = origin.and_then(|command| keys.get(command)) {
            idempotency::insert(context.connection, idempotency, message, context.now)?;
        }
        if let Some(id) = event {
            let message = MessageId { entry: item.entry.hash(), index };
            let row = content.into_row(context.connection, message, order, item, id)?;
            inserted.events.push(StoredEvent::new(id, context.now, StoredEventKind::Message(row)));
        }
    }
    Ok(())
}

/// Entries that were read for another peer.
#[derive(Debug, Default)]
pub(in crate::store) struct LoadedEntries {
    pub(in crate::store) entries: Vec<SignedEntry>,
    /// The first damaged entry, which ends the reading.
    pub(in crate::store) damaged: Option<Seq>,
}

/// Entries of a log by sequence number, up to about `bytes_max` bytes and at least one, unless it is damaged.
pub(in crate::store) fn load(
    connection: &Connection,
    log: LogId,
    from: Seq,
    to: Seq,
    bytes_max: usize,
    scope: LoadScope,
) -> rusqlite::Result<LoadedEntries> {
    let mut loaded = LoadedEntries::default();
    let Some(row) = find_log(connection, log)? else { return Ok(loaded) };
    let sql = "SELECT seq, hash, header, signature, body FROM entries WHERE log = ? AND seq BETWEEN ? AND ?
        AND (? OR body IS NOT NULL) ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![row, counted(from.0), counted(to.0), scope == LoadScope::All])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let seq = Seq(uncounted(row.get(0)?));
        let Some(entry) = damage::intact(row, 1, log, seq) else {
            loaded.damaged = Some(seq);
            break;
        };
        bytes += entry.signed().len_bytes();
        if bytes > bytes_max && !loaded.entries.is_empty() {
            break;
        }
        loaded.entries.push(entry.signed().clone());
    }
    Ok(loaded)
}

/// Reads an entry from the columns header, signature and body, starting at `column`.
pub(in crate::store) fn signed_entry(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<SignedEntry> {
    Ok(SignedEntry {
        header: row.get(column)?,
        signature: SignatureBytes::from_bytes(&row.get(column + 1)?),
        body: row.get(column + 2)?,
    })
}
