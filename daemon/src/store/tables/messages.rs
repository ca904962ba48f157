//! Messages: what this peer may read of the entries, in the order that is the same at every peer.

use chat_core::log::entry::{Header, Hlc, MessageBody, Seq};
use chat_core::output::BatchEntry;
use chat_proto::id::{EntryHash, MessageId, PeerId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::store::dm;
use crate::store::open::schema::{MESSAGES_PER_ENTRY, SHOWN, UNTOLD};
use crate::store::tables::entries::Scene;
use crate::store::tables::models::{MessageRow, Position, UNREADABLE_TEXT};
use crate::store::tables::row_ids::{log_id, peer_row};
use crate::store::tables::sql_types::{ordered, uncounted, unordered};

/// What a message says to this peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Content {
    /// Recipients of a direct message.
    to: Vec<PeerId>,
    text: String,
}

impl Content {
    pub(in crate::store) fn into_row(self, id: MessageId, header: &Header) -> MessageRow {
        let Self { to, text } = self;
        MessageRow { id, log: header.log, seq: header.seq, time: header.time, to, text }
    }
}

/// What a message says to this peer; none for a direct message between others.
pub(in crate::store) fn content(
    scene: &Scene<'_>,
    item: &BatchEntry,
    body: &MessageBody,
    opener: &mut dm::Opener,
) -> rusqlite::Result<Option<Content>> {
    let author = item.entry.author();
    match body {
        MessageBody::Text(text) => Ok(Some(Content { to: Vec::new(), text: text.clone() })),
        MessageBody::Sealed(boxes) => {
            let mine = boxes.iter().find(|sealed| sealed.to == scene.me);
            let opened = match mine {
                _ if author == scene.me => dm::take_own(scene.connection, body)?,
                None => return Ok(None),
                // What lies past a cut is not shown, so it must not advance a session either.
                Some(_) if !item.visible => None,
                Some(sealed) => opener.open(scene, author, boxes, sealed)?,
            };
            let to = boxes.iter().map(|sealed| sealed.to).collect();
            Ok(Some(Content { to, text: opened.unwrap_or_else(|| UNREADABLE_TEXT.to_owned()) }))
        }
    }
}

/// Writes a message's row.
pub(in crate::store) fn insert(
    connection: &Connection,
    message: i64,
    author: i64,
    item: &BatchEntry,
    content: &Content,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO messages (id, author, hlc, visible, direct, text) VALUES (?, ?, ?, ?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![
        message,
        author,
        ordered(item.entry.header().time.0),
        if item.visible { SHOWN } else { UNTOLD },
        !content.to.is_empty(),
        content.text,
    ])?;
    for (place, peer) in (0i64..).zip(&content.to) {
        let peer = peer_row(connection, peer)?;
        let sql = "INSERT INTO recipients (message, place, peer) VALUES (?, ?, ?)";
        connection.prepare_cached(sql)?.execute(params![message, place, peer])?;
    }
    Ok(())
}

/// How many messages are shown.
pub(in crate::store) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT count(*) FROM messages INDEXED BY messages_order WHERE visible = 1", [], |row| row.get(0))
        .map(uncounted)
}

/// Row number of the newest message, shown or not.
pub(in crate::store) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(id), 0) FROM messages", [], |row| row.get(0))
}

/// Columns that [`read`] takes, of tables joined by [`JOINS`].
pub(in crate::store) const COLUMNS: &str = "m.id, n.hash, p.key, l.incarnation, n.seq, m.hlc, m.direct, m.text";

/// Brings a message together with its entry, log and author. `CROSS JOIN` keeps the messages outermost, so that their
/// index gives the order.
pub(in crate::store) const JOINS: &str = "CROSS JOIN entries n ON n.id = m.id / 1024 CROSS JOIN logs l ON l.id = n.log
    CROSS JOIN peers p ON p.id = m.author";

const _: () = assert!(MESSAGES_PER_ENTRY == 1024);

/// A message of [`COLUMNS`], beginning at a column.
pub(in crate::store) fn read(connection: &Connection, row: &Row<'_>, column: usize) -> rusqlite::Result<MessageRow> {
    let message: i64 = row.get(column)?;
    let direct: bool = row.get(column + 6)?;
    Ok(MessageRow {
        id: MessageId {
            entry: EntryHash::from_bytes(row.get(column + 1)?),
            index: u16::try_from(message % MESSAGES_PER_ENTRY).unwrap_or_default(),
        },
        log: log_id(row, column + 2)?,
        seq: Seq(uncounted(row.get(column + 4)?)),
        time: Hlc(unordered(row.get(column + 5)?)),
        to: if direct { recipients(connection, message)? } else { Vec::new() },
        text: row.get(column + 7)?,
    })
}

fn recipients(connection: &Connection, message: i64) -> rusqlite::Result<Vec<PeerId>> {
    let sql = "SELECT p.key FROM recipients r JOIN peers p ON p.id = r.peer WHERE r.message = ? ORDER BY r.place";
    connection.prepare_cached(sql)?.query_map([message], |row| row.get(0).map(PeerId::from_bytes))?.collect()
}

/// Row number that a message has or would have; none where its entry is not held.
fn row_of(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<i64>> {
    let entry: Option<i64> = connection
        .prepare_cached("SELECT id FROM entries WHERE hash = ?")?
        .query_row([id.entry.as_bytes()], |row| row.get(0))
        .optional()?;
    let index = i64::from(id.index);
    Ok(entry.filter(|_| index < MESSAGES_PER_ENTRY).map(|entry| entry * MESSAGES_PER_ENTRY + index))
}

/// A message that is shown.
pub(in crate::store) fn find(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<MessageRow>> {
    match row_of(connection, id)? {
        Some(message) => find_row(connection, message),
        None => Ok(None),
    }
}

/// The same by its row number.
pub(in crate::store) fn find_row(connection: &Connection, message: i64) -> rusqlite::Result<Option<MessageRow>> {
    let sql = format!("SELECT {COLUMNS} FROM messages m {JOINS} WHERE m.id = ? AND m.visible = 1");
    connection.prepare_cached(&sql)?.query_row([message], |row| read(connection, row, 0)).optional()
}

/// Where a message stands, also one that was hidden after somebody saw it.
pub(in crate::store) fn position(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<Position>> {
    let Some(message) = row_of(connection, id)? else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM messages m {JOINS} WHERE m.id = ?");
    let row = connection.prepare_cached(&sql)?.query_row([message], |row| read(connection, row, 0)).optional()?;
    Ok(row.map(|row| row.position()))
}
