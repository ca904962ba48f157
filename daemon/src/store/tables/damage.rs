//! Damage: stored entries that are no longer what their authors signed are found, and replaced by good copies.
//!
//! An entry is intact if its header, body and hash agree with each other and with its row, and the signature is its
//! author's. Entries that are read for other peers are checked except for the signature; [`check_some`] checks all of
//! each, some at a time, and the writer goes through the whole table with it while it is idle. A damaged entry is
//! reported to the node, which fetches a good copy from a member; [`repair`] writes it. What was derived from the entry
//! when it was intact (messages, events) stays.

use chat_core::log::entry::{Entry, Hlc, LogId, Seq, SignedEntry};
use chat_proto::id::EntryHash;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tracing::warn;

use crate::store::tables::entries::signed_entry;
use crate::store::tables::row_ids::{find_log, log_id};
use crate::store::tables::sql_types::{counted, ordered, uncounted, unordered};

/// Number of entries that are checked at a time: a few milliseconds, for which a message that arrives waits.
const ENTRIES_AT_A_TIME: u32 = 64;

/// Result of checking some entries.
#[derive(Debug, Default)]
pub(in crate::store) struct Checked {
    /// The damaged ones.
    pub(in crate::store) damaged: Vec<(LogId, Seq)>,
    /// Row of the last one; `None` if there was none to check.
    pub(in crate::store) last: Option<i64>,
    /// Number of entries whose bodies are not kept.
    pub(in crate::store) without_body: u64,
    /// Number of entries that were checked.
    pub(in crate::store) count: u64,
}

/// Checks the next entries after a row.
pub(in crate::store) fn check_some(connection: &Connection, after: i64) -> rusqlite::Result<Checked> {
    let sql = "SELECT n.id, p.key, l.incarnation, n.seq, n.hash, n.header, n.signature, n.body FROM entries n
        CROSS JOIN logs l ON l.id = n.log CROSS JOIN peers p ON p.id = l.author WHERE n.id > ? ORDER BY n.id LIMIT ?";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, ENTRIES_AT_A_TIME])?;
    let mut checked = Checked::default();
    while let Some(row) = rows.next()? {
        let (log, seq) = (log_id(row, 1)?, Seq(uncounted(row.get(3)?)));
        if !intact(row, 4, log, seq).is_some_and(|entry| entry.is_signed()) {
            checked.damaged.push((log, seq));
        }
        checked.without_body += u64::from(row.get_ref(7)? == ValueRef::Null);
        checked.last = Some(row.get(0)?);
        checked.count += 1;
    }
    Ok(checked)
}

/// Reads an entry from the columns hash, header, signature and body, starting at `column`; `None` if it is damaged.
pub(in crate::store) fn intact(row: &Row<'_>, column: usize, log: LogId, seq: Seq) -> Option<Entry> {
    let hash = row.get(column).map(EntryHash::from_bytes).ok()?;
    let entry = Entry::from_trusted(signed_entry(row, column + 1).ok()?).ok()?;
    // Only bodies of messages are ever dropped.
    if entry.lacks_body() && !entry.is_of_messages() {
        return None;
    }
    // Headers of entries in a branch name the log that was forked.
    (entry.author() == log.author && entry.seq() == seq && entry.hash() == hash).then(|| entry.filed_in(log))
}

/// Replaces the stored copy of an entry by a good one; returns whether it is the entry of this chain.
pub(in crate::store) fn repair(connection: &Connection, entry: &Entry) -> rusqlite::Result<bool> {
    let Some(log) = find_log(connection, entry.log())? else { return Ok(false) };
    let sql = "SELECT hash FROM entries WHERE log = ? AND seq = ?";
    let stored: Option<Vec<u8>> =
        connection.prepare_cached(sql)?.query_row(params![log, counted(entry.seq().0)], |row| row.get(0)).optional()?;
    let Some(stored) = stored else { return Ok(false) };
    if stored != entry.hash().as_bytes() && backlink_to(connection, log, entry.seq())? != Some(entry.hash()) {
        warn!(author = %entry.author().short(), seq = entry.seq().0, "the copy of a damaged entry is of another chain");
        return Ok(false);
    }
    let order = entry.header().order_after(order_before(connection, entry)?);
    let SignedEntry { header, signature, body } = entry.signed();
    // What is not kept stays so.
    let sql = "UPDATE entries SET hash = ?, hlc = ?, control = ?, header = ?, signature = ?,
        body = CASE WHEN body IS NULL AND ? THEN NULL ELSE ? END WHERE log = ? AND seq = ?";
    connection.prepare_cached(sql)?.execute(params![
        entry.hash().as_bytes(),
        ordered(order.0),
        entry.control().is_some(),
        header,
        signature.to_bytes(),
        entry.is_of_messages(),
        body,
        log,
        counted(entry.seq().0),
    ])?;
    Ok(true)
}

/// The hash that the entry after this one has for it.
fn backlink_to(connection: &Connection, log: i64, seq: Seq) -> rusqlite::Result<Option<EntryHash>> {
    let next = connection
        .prepare_cached("SELECT header, signature, body FROM entries WHERE log = ? AND seq = ?")?
        .query_row(params![log, counted(seq.next().0)], |row| signed_entry(row, 0))
        .optional()?;
    Ok(next.and_then(|next| Entry::from_trusted(next).ok()).and_then(|next| next.header().backlink))
}

/// The order time of the entry before this one.
fn order_before(connection: &Connection, entry: &Entry) -> rusqlite::Result<Option<Hlc>> {
    let Some(backlink) = entry.header().backlink else { return Ok(None) };
    connection
        .prepare_cached("SELECT hlc FROM entries WHERE hash = ?")?
        .query_row([backlink.as_bytes()], |row| Ok(Hlc(unordered(row.get(0)?))))
        .optional()
}

/// The row up to which entries were checked.
pub(in crate::store) fn checked(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT checked FROM facts", [], |row| row.get(0))
}

pub(in crate::store) fn set_checked(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    connection.execute("UPDATE facts SET checked = ?", [row])?;
    Ok(())
}
