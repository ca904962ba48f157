//! The Olm account of a database: its identity key and its fallback keys.

use std::time::Duration;

use chat_core::membership::roster::Sealing;
use chat_proto::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use vodozemac::olm::Account;

use super::lost_state;
use super::pickle::Pickled;
use crate::clock::wall_clock;
use crate::store::tables::models::DmKeys;
use crate::store::tables::sql_types::counted;
use crate::store::types::Secret;

/// How long a fallback key is published. The previous one is kept for as long again, for messages that are in transit:
/// the first message of a session that arrives even later cannot be decrypted.
const PUBLISHED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Creates the account of a new database, or replaces one that cannot be decrypted.
pub(in crate::store) fn ensure(connection: &Connection, secret: &Secret) -> rusqlite::Result<()> {
    if load(connection, secret)?.is_some() {
        return Ok(());
    }
    connection.execute("DELETE FROM dm_sessions", [])?;
    let mut account = Account::new();
    account.generate_fallback_key();
    save(connection, secret, &account).map(drop)
}

/// The keys to publish.
pub(in crate::store) fn keys(connection: &Connection) -> rusqlite::Result<DmKeys> {
    connection.query_row("SELECT identity, fallback FROM dm_account", [], |row| {
        Ok(DmKeys { identity: row.get(0)?, fallback: row.get(1)?, sealing: Sealing::Padded })
    })
}

/// Makes a new fallback key; the account keeps the previous one.
pub(in crate::store) fn rotate(connection: &Connection, secret: &Secret) -> rusqlite::Result<DmKeys> {
    ensure(connection, secret)?;
    match load(connection, secret)? {
        Some(mut account) => {
            account.generate_fallback_key();
            save(connection, secret, &account)
        }
        None => keys(connection),
    }
}

/// Whether the fallback key is older than [`PUBLISHED`], or was made in the future because a clock was wrong.
pub(in crate::store) fn rotation_due(connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
    let made: i64 = connection.query_row("SELECT made FROM dm_account", [], |row| row.get(0))?;
    Ok(!(counted(now.before(PUBLISHED).as_ms())..=counted(now.as_ms())).contains(&made))
}

/// The account; `None` if it is absent or cannot be decrypted.
pub(super) fn load(connection: &Connection, secret: &Secret) -> rusqlite::Result<Option<Account>> {
    let pickled = connection
        .query_row("SELECT salt, pickle FROM dm_account", [], |row| {
            Ok(Pickled { salt: row.get(0)?, pickle: row.get(1)? })
        })
        .optional()?;
    let read = |pickled: Pickled| pickled.to_account(secret).inspect_err(|error| lost_state("account", error)).ok();
    Ok(pickled.and_then(read))
}

fn save(connection: &Connection, secret: &Secret, account: &Account) -> rusqlite::Result<DmKeys> {
    // The fallback key is never marked as published, so the account always returns the newest one.
    let fallback = account.fallback_key().into_values().next().map_or([0; 32], |key| key.to_bytes());
    let keys = DmKeys { identity: account.curve25519_key().to_bytes(), fallback, sealing: Sealing::Padded };
    let Pickled { salt, pickle } = Pickled::account(account, secret);
    let sql = "INSERT INTO dm_account (id, salt, pickle, identity, fallback, made) VALUES (1, ?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (id) DO UPDATE SET salt = ?1, pickle = ?2, identity = ?3, fallback = ?4,
        made = iif(fallback = ?4, made, ?5)";
    connection.execute(sql, params![salt, pickle, keys.identity, keys.fallback, counted(wall_clock().as_ms())])?;
    Ok(keys)
}
