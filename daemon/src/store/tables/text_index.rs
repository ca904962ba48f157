//! The text index: full-text search derived from the messages, filled when the writer is idle and before a search.

use rusqlite::{Connection, params};

use crate::store::tables::meta::{searchable, set_searchable};

/// Number of messages indexed in one transaction: about 10 ms, the longest that new messages wait for it.
const CHUNK: i64 = 500;

/// Maximum number of words of one search; each is looked up separately.
const WORDS_MAX: usize = 32;

/// Progress of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct IndexProgress {
    /// Row number of the newest message in the index.
    pub(in crate::store) reaches: i64,
    /// Whether messages may be missing in it.
    pub(in crate::store) more: bool,
}

/// Adds the next messages to the index.
pub(in crate::store) fn index_some(connection: &Connection) -> rusqlite::Result<IndexProgress> {
    let done = searchable(connection)?;
    let (last, count): (Option<i64>, i64) = connection
        .prepare_cached("SELECT max(id), count(*) FROM (SELECT id FROM messages WHERE id > ? ORDER BY id LIMIT ?)")?
        .query_row([done, CHUNK], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(IndexProgress { reaches: done, more: false }) };
    let sql = "INSERT INTO search (rowid, text) SELECT id, text FROM messages WHERE id > ? AND id <= ?";
    connection.prepare_cached(sql)?.execute([done, last])?;
    set_searchable(connection, last)?;
    Ok(IndexProgress { reaches: last, more: count == CHUNK })
}

/// Changes the text of a message, in its row and in the index.
pub(in crate::store) fn change_text(connection: &Connection, message: i64, text: &str) -> rusqlite::Result<()> {
    let indexed = message <= searchable(connection)?;
    if indexed {
        let sql = "INSERT INTO search (search, rowid, text) SELECT 'delete', id, text FROM messages WHERE id = ?";
        connection.prepare_cached(sql)?.execute([message])?;
    }
    connection.prepare_cached("UPDATE messages SET text = ? WHERE id = ?")?.execute(params![text, message])?;
    if indexed {
        connection.prepare_cached("INSERT INTO search (rowid, text) VALUES (?, ?)")?.execute(params![message, text])?;
    }
    Ok(())
}

/// Takes a message out of the index, before its row is deleted.
pub(in crate::store) fn remove(connection: &Connection, message: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO search (search, rowid, text) SELECT 'delete', id, text FROM messages
        WHERE id = ? AND id <= (SELECT searchable FROM facts)";
    connection.prepare_cached(sql)?.execute([message])?;
    Ok(())
}

/// Adds messages that got their rows after later ones were indexed: those of `count` rows from `first` on.
pub(in crate::store) fn add_late(connection: &Connection, first: i64, count: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO search (rowid, text) SELECT id, text FROM messages
        WHERE id >= ?1 AND id < ?1 + ?2 AND id <= (SELECT searchable FROM facts)";
    connection.prepare_cached(sql)?.execute([first, count])?;
    Ok(())
}

/// Empties the index, so that it is filled again.
pub(in crate::store) fn reset(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute("INSERT INTO search (search) VALUES ('delete-all')", [])?;
    set_searchable(&transaction, 0)?;
    transaction.commit()
}

/// Whether a search failed only because the index is damaged, which can be rebuilt.
pub(in crate::store) fn is_damage(error: &rusqlite::Error) -> bool {
    error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_CORRUPT_VTAB)
}

/// Turns typed words into an FTS5 expression: all words, in any order, none as an operator. `None` if there is no word.
pub(in crate::store) fn expression(words: &str) -> Option<String> {
    let quoted = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
    // A word without a letter or digit would match nothing, and with it the whole search.
    let words = words.split(|c: char| c.is_whitespace() || c.is_control());
    let words = words.filter(|word| word.chars().any(char::is_alphanumeric));
    let words: Vec<String> = words.take(WORDS_MAX).map(quoted).collect();
    if words.is_empty() { None } else { Some(words.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_operators_are_ordinary_words() {
        assert_eq!(expression("a OR b").as_deref(), Some("\"a\" \"OR\" \"b\""));
        assert_eq!(expression(" say \"hi\" ").as_deref(), Some("\"say\" \"\"\"hi\"\"\""));
        assert_eq!(expression("text:x* - ( !"), Some("\"text:x*\"".to_owned()));
        assert_eq!(expression(" ?! "), None);
    }
}
