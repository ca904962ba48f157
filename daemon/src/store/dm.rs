//! Direct messages: double ratchets, so that only sender and recipients can read a message.
//!
//! Every database has one Olm account (a triple Diffie-Hellman as in X3DH, then the double ratchet of Perrin and
//! Marlinspike; `vodozemac`). Its identity and fallback key are published in the log, signed like any entry. A sender
//! opens a session from them, or continues the one that was used last, and seals the text once per recipient.
//!
//! State advances on the writer's thread only. A sealed message is returned after the advanced session is on disk, and
//! a decrypted text is written in the transaction that advances its session: a crash neither loses a text nor reuses a
//! key.
//!
//! Sessions heal. When a message cannot be decrypted (one of the two databases was lost), the sessions with its author
//! are retired, and the next message to it opens a new one. A peer that lost its database publishes a new identity key,
//! to which sessions with the old one are not used.
//!
//! `seal` and `unseal` are the two directions; `account` holds the keys that are published, `sessions` the ratchets,
//! `pickle` their encryption at rest, `plaintext` the content that binds a text to room, sender and recipients. Called
//! by the writer's transactions and by `tables`.

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
pub(super) use unseal::{OpenedMessage, Unsealer};

/// Stores that a peer published an identity key: a peer may open sessions with such keys only.
pub(super) fn publish_identity(connection: &Connection, peer: i64, identity: &[u8; 32]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO dm_identities (peer, identity) VALUES (?, ?) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![peer, identity])?;
    Ok(())
}

/// Whether a peer published this identity key, now or earlier: messages sealed under an earlier one may arrive late.
fn is_published(connection: &Connection, peer: i64, identity: &[u8; 32]) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM dm_identities WHERE peer = ? AND identity = ?";
    connection.prepare_cached(sql)?.exists(params![peer, identity])
}

/// Logs that stored state cannot be decrypted and is treated as lost: peers open new sessions with the new keys.
fn lost_state(what: &'static str, error: &dyn std::error::Error) {
    warn!(what, %error, "stored state of direct messages cannot be read and is discarded");
}

#[cfg(test)]
mod tests;
