//! Direct messages: what only the ends of a message can read, and the double ratchets that make it so.
//!
//! Every database has one Olm account (a triple Diffie-Hellman as in X3DH, then the double ratchet of Perrin and
//! Marlinspike; `vodozemac`). Its identity and fallback key are published in the log, signed like any entry. A sender
//! opens a session from them, or goes on with the one that was used last, and seals the text once for each recipient.
//!
//! State advances on the writer's thread only. A sealed message leaves after the advanced session is on disk, and an
//! opened text is written in the transaction that advances its session: a crash can lose neither a text nor reuse a key.
//!
//! Sessions heal. When something cannot be opened (this database was lost, or the other one), sessions with that peer
//! are retired, and the next message to it opens a new one. A peer that lost its database publishes a new identity key,
//! which retires sessions with the old one.

use rusqlite::{Connection, params};
use tracing::warn;

mod account;
mod pickle;
mod plaintext;
mod seal;
mod sessions;
mod unseal;

pub(super) use account::{ensure as ensure_account, keys, rotate as rotate_keys, rotation_due};
pub(super) use seal::{SealRequest, prune_outbox, seal, take_own};
pub(super) use sessions::retire_all as retire_sessions;
pub(super) use unseal::Opener;

/// Remembers that a peer published an identity key: only with such keys it may open sessions.
pub(super) fn publish_identity(connection: &Connection, peer: i64, identity: &[u8; 32]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO dm_identities (peer, identity) VALUES (?, ?) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![peer, identity])?;
    Ok(())
}

/// Whether a peer published this identity key. Earlier ones count: what was sealed under them may arrive late.
fn is_published(connection: &Connection, peer: i64, identity: &[u8; 32]) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM dm_identities WHERE peer = ? AND identity = ?";
    connection.prepare_cached(sql)?.exists(params![peer, identity])
}

/// State that cannot be read counts as lost: the other side opens a new session when it hears of new keys.
fn lost_state(what: &'static str, error: &dyn std::error::Error) {
    warn!(what, %error, "stored state of direct messages cannot be read and is given up");
}

#[cfg(test)]
mod tests;
