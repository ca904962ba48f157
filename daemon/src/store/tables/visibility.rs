//! Cuts: hides the messages of a removed author's log after a sequence number, and shows them again when the cut moves.
//!
//! The node decides which entries of a log are valid; this file applies the decision to `messages.visible` and writes
//! no other truth. Entries after a cut stay on disk, so that a cut can be lifted without asking other peers.
//!
//! Invariants:
//! * A message gets at most one event: when it is first shown. One that is hidden and shown again gets none.
//! * A direct message that arrived after a cut was not decrypted, as it must not advance a session; it is decrypted
//!   when it is first shown, and the text index follows.
//! * The result counts the messages that changed, so that the published count stays exact.
//!
//! Called by the writer's transaction for the cuts of a [`Write::Batch`](crate::store::types::Write::Batch).

use chat_core::log::entry::{Entry, LogId, MessageBody, Seq};
use chat_proto::id::PeerId;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::dm::Unsealer;
use crate::store::tables::WriteContext;
use crate::store::tables::entries::signed_entry;
use crate::store::tables::events;
use crate::store::tables::messages::{self, HIDDEN, MESSAGES_PER_ENTRY, SHOWN, UNANNOUNCED};
use crate::store::tables::models::{StoredEvent, StoredEventKind};
use crate::store::tables::row_ids::find_log;
use crate::store::tables::sql_types::counted;
use crate::store::tables::text_index;

/// Result of applying cuts.
#[derive(Debug, Default)]
pub(in crate::store) struct VisibilityChange {
    /// Number of messages that are no longer shown.
    pub(in crate::store) hidden: u64,
    /// Number of messages that are shown and were not.
    pub(in crate::store) shown: u64,
    /// Events of those messages that had none yet.
    pub(in crate::store) events: Vec<StoredEvent>,
}

/// Shows the messages of a log up to a sequence number and hides those after it.
pub(in crate::store) fn apply(
    context: &WriteContext<'_>,
    log: LogId,
    upto: Seq,
    change: &mut VisibilityChange,
) -> rusqlite::Result<()> {
    if let Some(row) = find_log(context.connection, log)? {
        change.hidden += hide(context.connection, row, upto)?;
        show(context, row, log.author, upto, change)?;
    }
    Ok(())
}

fn hide(connection: &Connection, log: i64, upto: Seq) -> rusqlite::Result<u64> {
    let mut entries = connection.prepare_cached("SELECT id FROM entries WHERE log = ? AND seq > ?")?;
    let mut hide =
        connection.prepare_cached("UPDATE messages SET visible = ? WHERE id BETWEEN ? AND ? AND visible = ?")?;
    let mut hidden = 0;
    for entry in entries.query_map(params![log, counted(upto.0)], |row| row.get::<_, i64>(0))? {
        let first = entry? * MESSAGES_PER_ENTRY;
        hidden += hide.execute(params![HIDDEN, first, first + MESSAGES_PER_ENTRY - 1, SHOWN])? as u64;
    }
    Ok(hidden)
}

/// A message that is not shown.
struct HiddenMessage {
    message: i64,
    /// Whether it has an event.
    announced: bool,
    direct: bool,
}

fn show(
    context: &WriteContext<'_>,
    log: i64,
    author: PeerId,
    upto: Seq,
    change: &mut VisibilityChange,
) -> rusqlite::Result<()> {
    let connection = context.connection;
    let sql = "SELECT m.id, m.visible, m.direct, m.author FROM messages m INDEXED BY messages_hidden
        JOIN entries n ON n.id = m.id / 1024 WHERE m.visible <> 1 AND n.log = ? AND n.seq <= ? ORDER BY m.id";
    let mut author_row = 0;
    let hidden: Vec<HiddenMessage> = connection
        .prepare_cached(sql)?
        .query_map(params![log, counted(upto.0)], |row| {
            author_row = row.get(3)?;
            Ok(HiddenMessage {
                message: row.get(0)?,
                announced: row.get::<_, i64>(1)? != UNANNOUNCED,
                direct: row.get(2)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut unsealer = Unsealer::new(author_row);
    for HiddenMessage { message, announced, direct } in hidden {
        if direct && !announced && author != context.me {
            unseal(context, author, message, &mut unsealer)?;
        }
        let event = (!announced).then(|| events::insert_message(connection, message, context.now)).transpose()?;
        let sql = "UPDATE messages SET visible = ?, event = coalesce(?, event) WHERE id = ?";
        connection.prepare_cached(sql)?.execute(params![SHOWN, event.map(counted), message])?;
        change.shown += 1;
        if let Some(id) = event
            && let Some(row) = messages::find_row(connection, message)?.filter(|row| !row.dropped)
        {
            change.events.push(StoredEvent::new(id, context.now, StoredEventKind::Message(row)));
        }
    }
    Ok(())
}

/// Decrypts a direct message that was not decrypted while it was hidden.
fn unseal(context: &WriteContext<'_>, author: PeerId, message: i64, unsealer: &mut Unsealer) -> rusqlite::Result<()> {
    let sql = "SELECT header, signature, body FROM entries WHERE id = ?";
    let signed = context
        .connection
        .prepare_cached(sql)?
        .query_row([message / MESSAGES_PER_ENTRY], |row| signed_entry(row, 0))
        .optional()?;
    let Some(entry) = signed.and_then(|signed| Entry::from_trusted(signed).ok()) else { return Ok(()) };
    let index = usize::try_from(message % MESSAGES_PER_ENTRY).unwrap_or(usize::MAX);
    let Some(MessageBody::Sealed(boxes)) = entry.messages().get(index) else { return Ok(()) };
    let Some(mine) = boxes.iter().find(|sealed| sealed.to == context.me) else { return Ok(()) };
    if let Some(opened) = unsealer.open(context, author, boxes, mine)? {
        text_index::change_text(context.connection, message, &opened.text)?;
        let sql = "UPDATE messages SET reply = ? WHERE id = ?";
        let reply = opened.reply_to.map(messages::id_bytes);
        context.connection.prepare_cached(sql)?.execute(params![reply, message])?;
    }
    Ok(())
}
