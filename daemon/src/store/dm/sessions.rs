//! Sessions with other peers: up to a few per peer, of which the one used last seals new messages.

use chat_core::membership::roster::Sealing;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use vodozemac::olm::{Session, SessionConfig};

use super::lost_state;
use super::pickle::Pickled;
use crate::store::tables::models::DmKeys;
use crate::store::types::Secret;

/// Maximum number of sessions with one peer: two arise when both ends start at once, and one more with each lost
/// database.
const SESSIONS_MAX: i64 = 8;

/// A session and the identity key it was opened with.
pub(super) struct PeerSession {
    pub(super) session: Session,
    pub(super) identity: [u8; 32],
}

/// Sessions with a peer, the one used last first, decrypted lazily.
pub(super) fn all(
    connection: &Connection,
    secret: &Secret,
    peer: i64,
) -> rusqlite::Result<impl Iterator<Item = PeerSession>> {
    let sql = "SELECT salt, pickle, identity FROM dm_sessions WHERE peer = ? ORDER BY used DESC";
    let rows: Vec<_> = connection.prepare_cached(sql)?.query_map([peer], pickled)?.collect::<rusqlite::Result<_>>()?;
    Ok(rows.into_iter().filter_map(move |row| readable(secret, row)))
}

/// The session with a peer that has this id.
pub(super) fn named(
    connection: &Connection,
    secret: &Secret,
    peer: i64,
    name: &str,
) -> rusqlite::Result<Option<PeerSession>> {
    let sql = "SELECT salt, pickle, identity FROM dm_sessions WHERE peer = ? AND session = ?";
    let row = connection.prepare_cached(sql)?.query_row(params![peer, name], pickled).optional()?;
    Ok(row.and_then(|row| readable(secret, row)))
}

/// The kind of session in which messages are sealed: the second one's messages carry a whole MAC.
pub(super) fn config(sealing: Sealing) -> SessionConfig {
    match sealing {
        Sealing::Plain => SessionConfig::version_1(),
        Sealing::Padded => SessionConfig::version_2(),
    }
}

/// The session that seals messages for a peer with these keys: of the kind that it reads, the one used last.
pub(super) fn sendable(
    connection: &Connection,
    secret: &Secret,
    peer: i64,
    keys: &DmKeys,
) -> rusqlite::Result<Option<PeerSession>> {
    let sql = "SELECT salt, pickle, identity FROM dm_sessions
        WHERE peer = ? AND identity = ? AND sendable = 1 ORDER BY used DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![peer, keys.identity], pickled)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut held = rows.into_iter().filter_map(|row| readable(secret, row));
    Ok(held.find(|held| held.session.session_config() == config(keys.sealing)))
}

fn pickled(row: &Row<'_>) -> rusqlite::Result<(Pickled, [u8; 32])> {
    Ok((Pickled { salt: row.get(0)?, pickle: row.get(1)? }, row.get(2)?))
}

fn readable(secret: &Secret, (pickled, identity): (Pickled, [u8; 32])) -> Option<PeerSession> {
    let session = pickled.to_session(secret).inspect_err(|error| lost_state("session", error)).ok()?;
    Some(PeerSession { session, identity })
}

/// What a session was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionUse {
    /// It sealed a message.
    Sealed,
    /// It decrypted a message: the other end certainly has it, so it seals the next messages.
    Opened,
}

/// Stores the state of a session. A new one seals the next messages.
pub(super) fn save(
    connection: &Connection,
    secret: &Secret,
    peer: i64,
    held: &PeerSession,
    done: SessionUse,
) -> rusqlite::Result<()> {
    let Pickled { salt, pickle } = Pickled::session(&held.session, secret);
    let name = held.session.session_id();
    let sql = "UPDATE dm_sessions SET salt = ?, pickle = ? WHERE peer = ? AND session = ?";
    let known = connection.prepare_cached(sql)?.execute(params![salt, pickle, peer, name])? > 0;
    if !known {
        let sql = "INSERT INTO dm_sessions (peer, session, identity, sendable, used, salt, pickle)
            VALUES (?, ?, ?, 1, 0, ?, ?)";
        connection.prepare_cached(sql)?.execute(params![peer, name, held.identity, salt, pickle])?;
    }
    if !known || done == SessionUse::Opened {
        let sql = "UPDATE dm_sessions SET used = (SELECT max(used) + 1 FROM dm_sessions)
            WHERE peer = ? AND session = ?";
        connection.prepare_cached(sql)?.execute(params![peer, name])?;
    }
    if !known {
        let sql = "DELETE FROM dm_sessions WHERE peer = ?1 AND id NOT IN
            (SELECT id FROM dm_sessions WHERE peer = ?1 ORDER BY used DESC LIMIT ?2)";
        connection.prepare_cached(sql)?.execute(params![peer, SESSIONS_MAX])?;
    }
    Ok(())
}

/// Stops sealing with the sessions of a peer; they still decrypt. Returns whether there were any.
pub(super) fn retire(connection: &Connection, peer: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE dm_sessions SET sendable = 0 WHERE peer = ? AND sendable = 1";
    Ok(connection.prepare_cached(sql)?.execute([peer])? > 0)
}

/// Stops sealing with all sessions, as this database may be older than what was sent from it.
pub(in crate::store) fn retire_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE dm_sessions SET sendable = 0", [])?;
    Ok(())
}
