//! Entries: writing batches of them with everything that follows from them, and reading them back for other peers.

use std::collections::HashMap;

use chat_core::input::CommandId;
use chat_core::log::entry::{Body, Control, Entry, LogId, Seq, SignedEntry};
use chat_core::output::{Batch, BatchEntry};
use chat_core::signature::SignatureBytes;
use chat_proto::id::{MessageId, PeerId, RoomId};
use chat_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use tracing::warn;

use crate::node::handle::Idempotency;
use crate::store::open::schema::MESSAGES_PER_ENTRY;
use crate::store::tables::events;
use crate::store::tables::idempotency;
use crate::store::tables::messages;
use crate::store::tables::models::{Room, StoredEvent, StoredEventKind};
use crate::store::tables::row_ids::{Heads, LogHead, find_log};
use crate::store::tables::sql_types::{counted, ordered};
use crate::store::{Secret, dm};

/// What the writer knows while it inserts.
pub(in crate::store) struct Scene<'a> {
    pub(in crate::store) connection: &'a Connection,
    pub(in crate::store) heads: &'a mut Heads,
    pub(in crate::store) me: PeerId,
    pub(in crate::store) room: Option<Room>,
    pub(in crate::store) secret: &'a Secret,
    pub(in crate::store) now: Timestamp,
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(in crate::store) struct Inserted {
    /// Message events, in order.
    pub(in crate::store) events: Vec<StoredEvent>,
    /// Row number of the newest message; 0 without one.
    pub(in crate::store) newest_message: i64,
    /// The room, where an entry told something new about it.
    pub(in crate::store) room: Option<Room>,
}

/// Why a batch was not inserted.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum InsertError {
    /// An entry does not follow the one before it: a log on disk has no holes.
    #[error("entry {seq:?} of {log:?} does not follow the newest one on disk")]
    Hole {
        /// The log.
        log: LogId,
        /// The place.
        seq: Seq,
    },
    /// SQLite failed.
    #[error("database")]
    Database(#[from] rusqlite::Error),
}

/// Inserts a batch. Entries that are held are passed over.
pub(in crate::store) fn insert_batch(
    scene: &mut Scene<'_>,
    batch: &Batch,
    keys: &HashMap<CommandId, Idempotency>,
) -> Result<Inserted, InsertError> {
    let mut inserted = Inserted::default();
    for item in &batch.entries {
        insert_entry(scene, item, keys, &mut inserted)?;
    }
    Ok(inserted)
}

fn insert_entry(
    scene: &mut Scene<'_>,
    item: &BatchEntry,
    keys: &HashMap<CommandId, Idempotency>,
    inserted: &mut Inserted,
) -> Result<(), InsertError> {
    let entry = item.entry.as_ref();
    let log = entry.log();
    let head = scene.heads.get(scene.connection, log)?;
    if entry.seq() <= head.seq {
        return Ok(check_held(scene.connection, entry, head)?);
    }
    if entry.seq() != head.seq.next() || entry.header().backlink != head.hash {
        return Err(InsertError::Hole { log, seq: entry.seq() });
    }
    let row = insert_row(scene.connection, entry, head)?;
    scene.heads.set(log, LogHead { seq: entry.seq(), hash: Some(entry.hash()), ..head });
    match entry.body() {
        Some(Body::Control(control)) => insert_control(scene, item, head, control, inserted)?,
        Some(Body::Messages(_)) => insert_messages(scene, item, head, row, keys, inserted)?,
        None => {}
    }
    Ok(())
}

fn insert_row(connection: &Connection, entry: &Entry, head: LogHead) -> rusqlite::Result<i64> {
    let signed = entry.signed();
    let sql = "INSERT INTO entries (log, seq, hash, hlc, control, header, signature, body)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    connection.prepare_cached(sql)?.insert(params![
        head.log,
        counted(entry.seq().0),
        entry.hash().as_bytes(),
        ordered(entry.header().time.0),
        entry.control().is_some(),
        signed.header,
        signed.signature.to_bytes(),
        signed.body,
    ])
}

/// The core refuses forks before they come here; if one comes, what was first stays.
fn check_held(connection: &Connection, entry: &Entry, head: LogHead) -> rusqlite::Result<()> {
    let held: Option<[u8; 32]> = connection
        .prepare_cached("SELECT hash FROM entries WHERE log = ? AND seq = ?")?
        .query_row(params![head.log, counted(entry.seq().0)], |row| row.get(0))
        .optional()?;
    if held.as_ref() != Some(entry.hash().as_bytes()) {
        warn!(author = %entry.author().short(), seq = entry.seq().0, "another entry stands at this place and stays");
    }
    Ok(())
}

fn insert_control(
    scene: &mut Scene<'_>,
    item: &BatchEntry,
    head: LogHead,
    control: &Control,
    inserted: &mut Inserted,
) -> rusqlite::Result<()> {
    match control {
        Control::Genesis { room_name, open, .. } => {
            let id = RoomId::from_bytes(*item.entry.hash().as_bytes());
            let room = Room { id, name: room_name.clone(), open: *open };
            if scene.room.as_ref().is_none_or(|known| known.id == id) {
                let sql = "UPDATE facts SET room = ?, room_name = ?, room_open = ?";
                scene.connection.execute(sql, params![id.as_bytes(), room.name, room.open])?;
                scene.room = Some(room.clone());
                inserted.room = Some(room);
            } else {
                warn!(room = %id.short(), "the first entry of another room is kept and not used");
            }
        }
        // Also past a cut: the author signed them, and nothing more is asked of them.
        Control::Keys { identity, .. } => dm::publish_identity(scene.connection, head.author, identity)?,
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

fn insert_messages(
    scene: &mut Scene<'_>,
    item: &BatchEntry,
    head: LogHead,
    entry_row: i64,
    keys: &HashMap<CommandId, Idempotency>,
    inserted: &mut Inserted,
) -> rusqlite::Result<()> {
    let mut opener = dm::Opener::new(head.author);
    for (body, (index, message)) in item.entry.messages().iter().zip((0u16..).zip(entry_row * MESSAGES_PER_ENTRY..)) {
        let Some(content) = messages::content(scene, item, body, &mut opener)? else { continue };
        messages::insert(scene.connection, message, head.author, item, &content)?;
        inserted.newest_message = message;
        let origin = item.origins.get(usize::from(index));
        if let Some(idempotency) = origin.and_then(|command| keys.get(command)) {
            idempotency::insert(scene.connection, idempotency, message, scene.now)?;
        }
        if item.visible {
            let id = events::insert_message(scene.connection, message, scene.now)?;
            let row = content.into_row(MessageId { entry: item.entry.hash(), index }, item.entry.header());
            inserted.events.push(StoredEvent::new(id, scene.now, StoredEventKind::Message(row)));
        }
    }
    Ok(())
}

/// Entries of a log in order of place, up to about so many bytes and at least one.
pub(in crate::store) fn load(
    connection: &Connection,
    log: LogId,
    from: Seq,
    to: Seq,
    bytes_max: usize,
) -> rusqlite::Result<Vec<SignedEntry>> {
    let Some(row) = find_log(connection, log)? else { return Ok(Vec::new()) };
    let sql = "SELECT header, signature, body FROM entries WHERE log = ? AND seq BETWEEN ? AND ? ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![row, counted(from.0), counted(to.0)])?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let entry = signed_entry(row, 0)?;
        bytes += entry.len_bytes();
        if bytes > bytes_max && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// An entry as header, signature and body stand in a row, beginning at a column.
pub(in crate::store) fn signed_entry(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<SignedEntry> {
    Ok(SignedEntry {
        header: row.get(column)?,
        signature: SignatureBytes::from_bytes(&row.get(column + 1)?),
        body: row.get(column + 2)?,
    })
}
