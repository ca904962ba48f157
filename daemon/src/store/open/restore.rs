//! Reads the state a node starts with, and writes the parts of it that are not entries.

use chat_core::log::entry::{Header, Hlc, Incarnation, LogId, Seq, SignedEntry};
use chat_core::membership::authority::AuthorityClock;
use chat_core::peers::addrs::AddrRecord;
use chat_core::restore::{Restored, StoredHead};
use chat_proto::id::{EntryHash, PeerId, RoomId};
use chat_proto::time::Timestamp;
use rusqlite::{Connection, params};
use tracing::warn;

use crate::store::retention;
use crate::store::tables::entries::signed_entry;
use crate::store::tables::row_ids::{log_id, log_of, peer_row};
use crate::store::tables::sql_types::{counted, uncounted, unordered};

/// Reads the state a node starts with.
pub(in crate::store) fn restore(
    connection: &Connection,
    room: RoomId,
    incarnation: Incarnation,
    mark_agrees: bool,
) -> rusqlite::Result<Restored> {
    // One transaction, so that heads and control entries match.
    let snapshot = connection.unchecked_transaction()?;
    let restored = Restored {
        room,
        incarnation,
        heads: heads(&snapshot)?,
        controls: controls(&snapshot)?,
        clocks: clocks(&snapshot)?,
        addrs: addrs(&snapshot)?,
        forks: forks(&snapshot)?,
        seen: seen(&snapshot)?,
        mark_agrees,
        lacking: retention::lacking(&snapshot)?,
        hidden: hidden(&snapshot)?,
    };
    snapshot.finish()?;
    Ok(restored)
}

fn heads(connection: &Connection) -> rusqlite::Result<Vec<StoredHead>> {
    let sql = "SELECT p.key, l.incarnation, n.seq, n.hash, n.hlc, f.hlc, n.header, f.header FROM logs l
        JOIN entries n ON n.log = l.id AND n.seq = (SELECT max(seq) FROM entries WHERE log = l.id)
        JOIN entries f ON f.log = l.id AND f.seq = (SELECT min(seq) FROM entries WHERE log = l.id)
        JOIN peers p ON p.id = l.author";
    connection
        .prepare(sql)?
        .query_map([], |row| {
            let (log, order) = (log_id(row, 0)?, Hlc(unordered(row.get(4)?)));
            let header = postcard::take_from_bytes::<Header>(row.get_ref(6)?.as_blob()?);
            let began = postcard::take_from_bytes::<Header>(row.get_ref(7)?.as_blob()?).map(|(header, _)| header).ok();
            let backlink = began.as_ref().and_then(|header| header.backlink);
            Ok(StoredHead {
                log,
                seq: Seq(uncounted(row.get(2)?)),
                hash: EntryHash::from_bytes(row.get(3)?),
                label: header.map_or(order, |(header, _)| header.time),
                order,
                first: Hlc(unordered(row.get(5)?)),
                signed: began.as_ref().map_or(log, |header| header.log),
                roots: began.map(|header| header.deps).unwrap_or_default(),
                parent: backlink.map(|hash| log_of(connection, &hash)).transpose()?.flatten(),
            })
        })?
        .collect()
}

fn controls(connection: &Connection) -> rusqlite::Result<Vec<(LogId, SignedEntry, Hlc)>> {
    let sql = "SELECT p.key, l.incarnation, n.header, n.signature, n.body, n.hlc FROM entries n
        CROSS JOIN logs l ON l.id = n.log CROSS JOIN peers p ON p.id = l.author WHERE n.control = 1 ORDER BY n.id";
    connection
        .prepare(sql)?
        .query_map([], |row| Ok((log_id(row, 0)?, signed_entry(row, 2)?, Hlc(unordered(row.get(5)?)))))?
        .collect()
}

fn clocks(connection: &Connection) -> rusqlite::Result<Vec<(LogId, Seq, AuthorityClock)>> {
    let sql = "SELECT p.key, l.incarnation, c.seq, c.clock FROM clocks c
        JOIN logs l ON l.id = c.log JOIN peers p ON p.id = l.author ORDER BY c.log, c.seq";
    let rows: Vec<(LogId, Seq, Vec<u8>)> = connection
        .prepare(sql)?
        .query_map([], |row| Ok((log_id(row, 0)?, Seq(uncounted(row.get(2)?)), row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let read = |(log, seq, raw): &(LogId, Seq, Vec<u8>)| {
        Some((*log, *seq, readable("clock of an entry", postcard::from_bytes(raw))?))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Address records, newest first.
pub(in crate::store) fn addrs(connection: &Connection) -> rusqlite::Result<Vec<AddrRecord>> {
    let raw: Vec<Vec<u8>> = connection
        .prepare("SELECT record FROM addrs ORDER BY time DESC")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(raw.iter().filter_map(|raw| readable("address record", postcard::from_bytes(raw))).collect())
}

fn forks(connection: &Connection) -> rusqlite::Result<Vec<(SignedEntry, SignedEntry)>> {
    let raw: Vec<(Vec<u8>, Vec<u8>)> = connection
        .prepare("SELECT first, second FROM forks ORDER BY log, before")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let pair = |(first, second): &(Vec<u8>, Vec<u8>)| {
        let first = readable("proof of a fork", postcard::from_bytes(first))?;
        Some((first, readable("proof of a fork", postcard::from_bytes(second))?))
    };
    Ok(raw.iter().filter_map(pair).collect())
}

fn seen(connection: &Connection) -> rusqlite::Result<Vec<(PeerId, Timestamp)>> {
    connection
        .prepare("SELECT p.key, s.time FROM seen s JOIN peers p ON p.id = s.peer")?
        .query_map([], |row| Ok((PeerId::from_bytes(row.get(0)?), Timestamp::from_ms(uncounted(row.get(1)?)))))?
        .collect()
}

fn hidden(connection: &Connection) -> rusqlite::Result<Vec<LogId>> {
    let sql = "SELECT DISTINCT p.key, l.incarnation FROM messages m INDEXED BY messages_hidden
        JOIN entries n ON n.id = m.id / 1024 JOIN logs l ON l.id = n.log JOIN peers p ON p.id = l.author
        WHERE m.visible <> 1";
    connection.prepare(sql)?.query_map([], |row| log_id(row, 0))?.collect()
}

/// A record that cannot be decoded is left out: it comes again from peers.
fn readable<T>(what: &'static str, read: Result<T, postcard::Error>) -> Option<T> {
    read.inspect_err(|error| warn!(what, %error, "a stored record cannot be read")).ok()
}

/// Stores records that are newer than the stored ones.
pub(in crate::store) fn store_addrs(connection: &Connection, records: &[AddrRecord]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO addrs (peer, time, record) VALUES (?, ?, ?)
        ON CONFLICT (peer) DO UPDATE SET time = excluded.time, record = excluded.record
        WHERE excluded.time > addrs.time";
    for record in records {
        let Ok(raw) = postcard::to_stdvec(record) else { continue };
        let peer = peer_row(connection, &record.peer)?;
        connection.prepare_cached(sql)?.execute(params![peer, counted(record.time.as_ms()), raw])?;
    }
    Ok(())
}

/// Stores the newest time of each peer.
pub(in crate::store) fn store_seen(connection: &Connection, seen: &[(PeerId, Timestamp)]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO seen (peer, time) VALUES (?, ?)
        ON CONFLICT (peer) DO UPDATE SET time = max(excluded.time, seen.time)";
    for (peer, time) in seen {
        let peer = peer_row(connection, peer)?;
        connection.prepare_cached(sql)?.execute(params![peer, counted(time.as_ms())])?;
    }
    Ok(())
}
