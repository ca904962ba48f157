//! Cuts: which entries of a removed author count. Messages past a cut are hidden; a cut that is lifted shows them again.

use chat_core::log::entry::{Entry, LogId, MessageBody, Seq};
use chat_proto::id::PeerId;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::dm::Opener;
use crate::store::open::schema::{HIDDEN, MESSAGES_PER_ENTRY, SHOWN, UNTOLD};
use crate::store::read::search;
use crate::store::tables::entries::{Scene, signed_entry};
use crate::store::tables::events;
use crate::store::tables::messages;
use crate::store::tables::models::{StoredEvent, StoredEventKind};
use crate::store::tables::row_ids::find_log;
use crate::store::tables::sql_types::counted;

/// What a cut changed.
#[derive(Debug, Default)]
pub(in crate::store) struct Cut {
    /// So many messages are no longer shown.
    pub(in crate::store) hidden: u64,
    /// So many are shown that were not.
    pub(in crate::store) shown: u64,
    /// Events of those among them that nobody was told of yet.
    pub(in crate::store) events: Vec<StoredEvent>,
}

/// Lets the entries of a log count up to a place and not past it.
pub(in crate::store) fn apply(scene: &Scene<'_>, log: LogId, upto: Seq) -> rusqlite::Result<Cut> {
    let mut cut = Cut::default();
    if let Some(row) = find_log(scene.connection, log)? {
        cut.hidden = hide(scene.connection, row, upto)?;
        show(scene, row, log.author, upto, &mut cut)?;
    }
    Ok(cut)
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
struct Hidden {
    message: i64,
    /// Whether readers of the events were told of it before.
    told: bool,
    direct: bool,
}

fn show(scene: &Scene<'_>, log: i64, author: PeerId, upto: Seq, cut: &mut Cut) -> rusqlite::Result<()> {
    let connection = scene.connection;
    let sql = "SELECT m.id, m.visible, m.direct, m.author FROM messages m INDEXED BY messages_hidden
        JOIN entries n ON n.id = m.id / 1024 WHERE m.visible <> 1 AND n.log = ? AND n.seq <= ? ORDER BY m.id";
    let mut author_row = 0;
    let hidden: Vec<Hidden> = connection
        .prepare_cached(sql)?
        .query_map(params![log, counted(upto.0)], |row| {
            author_row = row.get(3)?;
            Ok(Hidden { message: row.get(0)?, told: row.get::<_, i64>(1)? != UNTOLD, direct: row.get(2)? })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut opener = Opener::new(author_row);
    for Hidden { message, told, direct } in hidden {
        if direct && !told && author != scene.me {
            open(scene, author, message, &mut opener)?;
        }
        let sql = "UPDATE messages SET visible = ? WHERE id = ?";
        connection.prepare_cached(sql)?.execute(params![SHOWN, message])?;
        cut.shown += 1;
        if !told {
            let id = events::insert_message(connection, message, scene.now)?;
            if let Some(row) = messages::find_row(connection, message)? {
                cut.events.push(StoredEvent::new(id, scene.now, StoredEventKind::Message(row)));
            }
        }
    }
    Ok(())
}

/// Opens a direct message that was left closed while it did not count.
fn open(scene: &Scene<'_>, author: PeerId, message: i64, opener: &mut Opener) -> rusqlite::Result<()> {
    let sql = "SELECT header, signature, body FROM entries WHERE id = ?";
    let signed = scene
        .connection
        .prepare_cached(sql)?
        .query_row([message / MESSAGES_PER_ENTRY], |row| signed_entry(row, 0))
        .optional()?;
    let Some(entry) = signed.and_then(|signed| Entry::from_trusted(signed).ok()) else { return Ok(()) };
    let index = usize::try_from(message % MESSAGES_PER_ENTRY).unwrap_or(usize::MAX);
    let Some(MessageBody::Sealed(boxes)) = entry.messages().get(index) else { return Ok(()) };
    let Some(mine) = boxes.iter().find(|sealed| sealed.to == scene.me) else { return Ok(()) };
    if let Some(text) = opener.open(scene, author, boxes, mine)? {
        search::change_text(scene.connection, message, &text)?;
    }
    Ok(())
}
