//! The Olm account of a database: its identity key and its fallback keys.

use rusqlite::{Connection, OptionalExtension as _, params};
use vodozemac::olm::Account;

use super::lost_state;
use super::pickle::Pickled;
use crate::store::Secret;
use crate::store::rows::DmKeys;

/// Makes the account of a new database, or another one where it cannot be read any more.
pub(in crate::store) fn ensure(connection: &Connection, secret: &Secret) -> rusqlite::Result<()> {
    if load(connection, secret)?.is_some() {
        return Ok(());
    }
    connection.execute("DELETE FROM dm_sessions", [])?;
    let mut account = Account::new();
    account.generate_fallback_key();
    save(connection, secret, &account).map(drop)
}

/// Keys to publish.
pub(in crate::store) fn keys(connection: &Connection) -> rusqlite::Result<DmKeys> {
    connection.query_row("SELECT identity, fallback FROM dm_account", [], |row| {
        Ok(DmKeys { identity: row.get(0)?, fallback: row.get(1)? })
    })
}

/// Makes a new fallback key; the account keeps the one before it.
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

/// The account; none where it is absent or cannot be read.
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
    // The fallback key is never marked as published, so the account always tells the newest one.
    let fallback = account.fallback_key().into_values().next().map_or([0; 32], |key| key.to_bytes());
    let keys = DmKeys { identity: account.curve25519_key().to_bytes(), fallback };
    let Pickled { salt, pickle } = Pickled::account(account, secret);
    let sql = "INSERT INTO dm_account (id, salt, pickle, identity, fallback) VALUES (1, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET salt = excluded.salt, pickle = excluded.pickle,
        identity = excluded.identity, fallback = excluded.fallback";
    connection.execute(sql, params![salt, pickle, keys.identity, keys.fallback])?;
    Ok(keys)
}
