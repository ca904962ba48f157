//! Messages: what this peer may read of the entries, in the order that is the same at every peer.
//!
//! Each readable message of an entry has a row in `messages`; a direct message between other members has none. The row
//! number is the entry's times [`MESSAGES_PER_ENTRY`] plus the index in the entry, so that a message id is found
//! without an index of its own. Author, order time (`hlc`) and date (`label`) are copied into the row, so that the
//! indexes of the history give its order.
//!
//! `visible` is one of [`SHOWN`], [`HIDDEN`] (after a cut, and readers have seen its event) and [`UNANNOUNCED`] (after
//! a cut since it arrived). Every query asks for `visible = 1`.
//!
//! Invariant: the text of a sealed message is decrypted once, in the transaction that inserts its row, as the ratchet
//! deletes the key; a text that cannot be decrypted is [`UNREADABLE_TEXT`] for good.
//!
//! Called by `entries` and `visibility` (writing) and by the read pool (history, events, single messages).

use chat_core::log::entry::{Header, Hlc, MessageBody, Seq};
use chat_core::output::BatchEntry;
use chat_proto::api::messages::QUOTE_CHARS_MAX;
use chat_proto::id::{EntryHash, MessageId, PeerId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::store::dm::{self, OpenedMessage};
use crate::store::tables::WriteContext;
use crate::store::tables::models::{DROPPED_TEXT, MessagePosition, MessageRow, RepliedMessage, UNREADABLE_TEXT};
use crate::store::tables::row_ids::{log_id, peer_row};
use crate::store::tables::sql_types::{counted, ordered, uncounted, unordered};

/// A message's row number is its entry's, times this, plus its index in the entry.
pub(in crate::store) const MESSAGES_PER_ENTRY: i64 = 1024;

// The SQL in this folder has the number written out.
const _: () = assert!(MESSAGES_PER_ENTRY == 1024 && chat_core::config::ENTRY_MESSAGES_MAX == 1024);

/// `messages.visible`: shown to readers.
pub(in crate::store) const SHOWN: i64 = 1;

/// `messages.visible`: after a cut; its event was written before.
pub(in crate::store) const HIDDEN: i64 = 0;

/// `messages.visible`: after a cut since it arrived; it has no event yet.
pub(in crate::store) const UNANNOUNCED: i64 = -1;

/// `messages.gone`: the text was dropped here.
pub(in crate::store) const DROPPED: i64 = 1;

/// `messages.gone`: the entry came without its body, and the row stands for all its messages.
pub(in crate::store) const NEVER_HELD: i64 = 2;

/// Content of a message as this peer may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct MessageContent {
    /// Recipients of a direct message.
    to: Vec<PeerId>,
    text: String,
    reply_to: Option<MessageId>,
}

impl MessageContent {
    pub(in crate::store) fn into_row(
        self,
        connection: &Connection,
        id: MessageId,
        order: Hlc,
        item: &BatchEntry,
        event: u64,
    ) -> rusqlite::Result<MessageRow> {
        let Self { to, text, reply_to } = self;
        let (log, &Header { seq, time, .. }) = (item.entry.log(), item.entry.header());
        let reply_to = reply_to.map(|answered| replied(connection, answered)).transpose()?;
        Ok(MessageRow {
            id,
            log,
            seq,
            order,
            time,
            clock_off_ms: item.clock_off_ms,
            to,
            text,
            dropped: false,
            reply_to,
            event,
        })
    }
}

/// Content of a message as this peer may read it; `None` for a direct message between other members.
pub(in crate::store) fn content(
    context: &WriteContext<'_>,
    item: &BatchEntry,
    (index, body): (u16, &MessageBody),
    unsealer: &mut dm::Unsealer,
) -> rusqlite::Result<Option<MessageContent>> {
    let author = item.entry.author();
    match body {
        MessageBody::Text(text) => {
            let reply_to = item.entry.reply_to(usize::from(index));
            Ok(Some(MessageContent { to: Vec::new(), text: text.clone(), reply_to }))
        }
        MessageBody::Sealed(boxes) => {
            let mine = boxes.iter().find(|sealed| sealed.to == context.me);
            let opened = match mine {
                _ if author == context.me => dm::take_own(context.connection, body)?,
                None => return Ok(None),
                // A message after a cut is not shown, so it must not advance a session either.
                Some(_) if !item.visible => None,
                Some(sealed) => unsealer.open(context, author, boxes, sealed)?,
            };
            let to = boxes.iter().map(|sealed| sealed.to).collect();
            Ok(Some(match opened {
                Some(OpenedMessage { text, reply_to }) => MessageContent { to, text, reply_to },
                None => MessageContent { to, text: UNREADABLE_TEXT.to_owned(), reply_to: None },
            }))
        }
    }
}

/// Inserts the row of a message, with its event if it has one.
pub(in crate::store) fn insert(
    connection: &Connection,
    (message, event): (i64, Option<u64>),
    author: i64,
    order: Hlc,
    item: &BatchEntry,
    content: &MessageContent,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO messages (id, author, hlc, label, clock_off, visible, direct, text, reply, event)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![
        message,
        author,
        ordered(order.0),
        ordered(item.entry.header().time.0),
        item.clock_off_ms,
        if item.visible { SHOWN } else { UNANNOUNCED },
        !content.to.is_empty(),
        content.text,
        content.reply_to.map(id_bytes),
        event.map(counted),
    ])?;
    for (place, peer) in (0i64..).zip(&content.to) {
        let peer = peer_row(connection, peer)?;
        let sql = "INSERT INTO recipients (message, place, peer) VALUES (?, ?, ?)";
        connection.prepare_cached(sql)?.execute(params![message, place, peer])?;
    }
    Ok(())
}

/// Inserts the row that stands for the messages of an entry that came without its body.
pub(in crate::store) fn insert_placeholder(
    connection: &Connection,
    (message, event): (i64, Option<u64>),
    author: i64,
    order: Hlc,
    item: &BatchEntry,
) -> rusqlite::Result<()> {
    let nothing = MessageContent { to: Vec::new(), text: String::new(), reply_to: None };
    insert(connection, (message, event), author, order, item, &nothing)?;
    let sql = "UPDATE messages SET gone = ? WHERE id = ?";
    connection.prepare_cached(sql)?.execute(params![NEVER_HELD, message])?;
    Ok(())
}

/// Number of messages that are shown.
pub(in crate::store) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT count(*) FROM messages INDEXED BY messages_order WHERE visible = 1", [], |row| row.get(0))
        .map(uncounted)
}

/// Row number of the newest message, shown or not.
pub(in crate::store) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(id), 0) FROM messages", [], |row| row.get(0))
}

/// Columns that [`read`] needs, of tables joined by [`JOINS`].
pub(in crate::store) const COLUMNS: &str =
    "m.id, n.hash, p.key, l.incarnation, n.seq, m.hlc, m.label, m.clock_off, m.direct, m.text, m.reply, m.gone";

/// Joins a message with its entry, log and author. `CROSS JOIN` keeps the messages outermost, so that their index gives
/// the order.
pub(in crate::store) const JOINS: &str = "CROSS JOIN entries n ON n.id = m.id / 1024 CROSS JOIN logs l ON l.id = n.log
    CROSS JOIN peers p ON p.id = m.author";

/// Number of a message's event. No two events are about the same message.
pub(in crate::store) const EVENT: &str = "coalesce(m.event, 0)";

/// Reads a message from [`COLUMNS`], starting at `column`.
pub(in crate::store) fn read(
    connection: &Connection,
    row: &Row<'_>,
    column: usize,
    event: u64,
) -> rusqlite::Result<MessageRow> {
    let message: i64 = row.get(column)?;
    let direct: bool = row.get(column + 8)?;
    let answered = row.get::<_, Option<Vec<u8>>>(column + 10)?.and_then(|raw| id_of_bytes(&raw));
    let dropped = row.get::<_, i64>(column + 11)? != 0;
    Ok(MessageRow {
        id: MessageId {
            entry: EntryHash::from_bytes(row.get(column + 1)?),
            index: u16::try_from(message % MESSAGES_PER_ENTRY).unwrap_or_default(),
        },
        log: log_id(row, column + 2)?,
        seq: Seq(uncounted(row.get(column + 4)?)),
        order: Hlc(unordered(row.get(column + 5)?)),
        time: Hlc(unordered(row.get(column + 6)?)),
        clock_off_ms: row.get(column + 7)?,
        to: if direct { recipients(connection, message)? } else { Vec::new() },
        text: if dropped { DROPPED_TEXT.to_owned() } else { row.get(column + 9)? },
        dropped,
        reply_to: answered.map(|answered| replied(connection, answered)).transpose()?,
        event,
    })
}

fn recipients(connection: &Connection, message: i64) -> rusqlite::Result<Vec<PeerId>> {
    let sql = "SELECT p.key FROM recipients r JOIN peers p ON p.id = r.peer WHERE r.message = ? ORDER BY r.place";
    connection.prepare_cached(sql)?.query_map([message], |row| row.get(0).map(PeerId::from_bytes))?.collect()
}

/// A message's id as a column has it: the entry's hash and two bytes for the index.
pub(in crate::store) fn id_bytes(id: MessageId) -> Vec<u8> {
    [id.entry.as_bytes().as_slice(), &id.index.to_be_bytes()].concat()
}

/// The id in a column; none if the column is damaged.
pub(in crate::store) fn id_of_bytes(raw: &[u8]) -> Option<MessageId> {
    let (entry, index) = raw.split_at_checked(32)?;
    let index = u16::from_be_bytes(index.try_into().ok()?);
    Some(MessageId { entry: EntryHash::from_bytes(entry.try_into().ok()?), index })
}

/// What a message answers, with its start if it is shown here.
fn replied(connection: &Connection, id: MessageId) -> rusqlite::Result<Box<RepliedMessage>> {
    let Some(message) = row_of(connection, id)? else { return Ok(Box::new(RepliedMessage { id, start: None })) };
    let sql = "SELECT p.key, CASE m.gone WHEN 0 THEN substr(m.text, 1, ?) ELSE ? END FROM messages m
        JOIN peers p ON p.id = m.author WHERE m.id = ? AND m.visible = 1";
    let start = connection
        .prepare_cached(sql)?
        .query_row(params![counted(QUOTE_CHARS_MAX as u64), DROPPED_TEXT, message], |row| {
            Ok((PeerId::from_bytes(row.get(0)?), row.get(1)?))
        })
        .optional()?;
    Ok(Box::new(RepliedMessage { id, start }))
}

/// Row number that a message has or would have; `None` if its entry is not stored.
fn row_of(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<i64>> {
    let entry: Option<i64> = connection
        .prepare_cached("SELECT id FROM entries WHERE hash = ?")?
        .query_row([id.entry.as_bytes()], |row| row.get(0))
        .optional()?;
    let index = i64::from(id.index);
    Ok(entry.filter(|_| index < MESSAGES_PER_ENTRY).map(|entry| entry * MESSAGES_PER_ENTRY + index))
}

/// A message, if it is shown.
pub(in crate::store) fn find(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<MessageRow>> {
    match row_of(connection, id)? {
        Some(message) => find_row(connection, message),
        None => Ok(None),
    }
}

/// A message by its row number, if it is shown.
pub(in crate::store) fn find_row(connection: &Connection, message: i64) -> rusqlite::Result<Option<MessageRow>> {
    let sql = format!("SELECT {EVENT}, {COLUMNS} FROM messages m {JOINS} WHERE m.id = ? AND m.visible = 1");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([message], |row| read(connection, row, 1, uncounted(row.get(0)?))).optional()
}

/// Position of a message in the history, including one that was hidden after a client had seen it.
pub(in crate::store) fn position(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<MessagePosition>> {
    let Some(message) = row_of(connection, id)? else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM messages m {JOINS} WHERE m.id = ?");
    let row = connection.prepare_cached(&sql)?.query_row([message], |row| read(connection, row, 0, 0)).optional()?;
    Ok(row.map(|row| row.position()))
}
