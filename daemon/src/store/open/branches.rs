//! Forks: keeps their proofs, and files what lies beyond each in the branch that begins with the first of it.
//!
//! A branch is a log like others, but its first entry builds on the last one of another log, and the headers of its
//! entries name the log that was forked. Rows of entries move from one log to the other; what refers to them (messages,
//! events, cursors) stays as it is. The clocks of branches are not kept: no act of an admin is valid in one.

use chat_core::log::entry::{Entry, LogId, SignedEntry};
use chat_proto::id::EntryHash;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use rusqlite_migration::HookResult;
use tracing::warn;

use crate::store::tables::row_ids::{log_row, peer_row};
use crate::store::tables::sql_types::counted;

/// Keeps the proof of a fork, and files what lies beyond it. Doing it again changes nothing.
pub(in crate::store) fn store_fork(
    connection: &Connection,
    first: &SignedEntry,
    second: &SignedEntry,
) -> rusqlite::Result<()> {
    let (Ok(entry), Ok(raw_first), Ok(raw_second)) =
        (Entry::from_trusted(first.clone()), postcard::to_stdvec(first), postcard::to_stdvec(second))
    else {
        warn!("a proof of a fork cannot be decoded and is not stored");
        return Ok(());
    };
    let log = log_row(connection, peer_row(connection, &entry.author())?, entry.log().incarnation)?;
    let before = entry.header().backlink;
    let key: &[u8] = before.as_ref().map_or(&[], |hash| hash.as_bytes());
    let sql = "INSERT OR REPLACE INTO forks (log, before, first, second) VALUES (?, ?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![log, key, raw_first, raw_second])?;
    let forked = match before {
        Some(hash) => connection
            .prepare_cached("SELECT log FROM entries WHERE hash = ?")?
            .query_row([hash.as_bytes()], |row| row.get(0))
            .optional()?,
        None => Some(log),
    };
    match forked {
        Some(forked) => file_branch(connection, &entry, forked),
        None => Ok(()),
    }
}

/// Files the entries of a log from the sequence number of a proof on in a branch.
fn file_branch(connection: &Connection, proof: &Entry, forked: i64) -> rusqlite::Result<()> {
    let (author, seq) = (proof.author(), counted(proof.seq().0));
    let first: Option<[u8; 32]> = connection
        .prepare_cached("SELECT hash FROM entries WHERE log = ? AND seq = ?")?
        .query_row(params![forked, seq], |row| row.get(0))
        .optional()?;
    let Some(first) = first.map(EntryHash::from_bytes) else { return Ok(()) };
    let branch = LogId::branch(author, &first);
    let branch = log_row(connection, peer_row(connection, &author)?, branch.incarnation)?;
    if branch != forked {
        for sql in [
            "UPDATE entries SET log = ?3 WHERE log = ?1 AND seq >= ?2",
            "DELETE FROM clocks WHERE log IN (?1, ?3) AND seq >= ?2",
        ] {
            connection.prepare_cached(sql)?.execute(params![forked, seq, branch])?;
        }
    }
    Ok(())
}

/// Files what older versions hid beyond forks, of which they kept one for each log in `forks_by_log`.
pub(in crate::store) fn file_hidden_branches(transaction: &Transaction<'_>) -> HookResult {
    let mut proofs = transaction.prepare("SELECT first, second FROM forks_by_log")?;
    let mut rows = proofs.query([])?;
    while let Some(row) = rows.next()? {
        let [first, second] = [row.get::<_, Vec<u8>>(0)?, row.get(1)?].map(|raw| postcard::from_bytes(&raw));
        if let (Ok(first), Ok(second)) = (first, second) {
            store_fork(transaction, &first, &second)?;
        }
    }
    drop(rows);
    drop(proofs);
    transaction.execute_batch("DROP TABLE forks_by_log")?;
    Ok(())
}
