//! The tables of the database: one file per group of tables, with everything that reads and writes them.
//!
//! `entries`, `messages`, `events`, `visibility` and `idempotency` follow a batch of entries to its rows; `damage`
//! finds entries that rotted; `text_index` is the full text of the messages; `meta` the single row about the database; `runs` its openings; `row_ids` the row numbers of peers and
//! logs. [`models`] has the types that leave the store, `sql_types` the mapping of numbers and errors. The schema is in
//! `open/schema.rs`.

use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use rusqlite::Connection;

pub(in crate::store) mod damage;
pub(in crate::store) mod entries;
pub(in crate::store) mod events;
pub(in crate::store) mod idempotency;
pub(in crate::store) mod messages;
pub(in crate::store) mod meta;
pub mod models;
pub(in crate::store) mod row_ids;
pub(in crate::store) mod runs;
pub(in crate::store) mod sql_types;
pub(in crate::store) mod text_index;
pub(in crate::store) mod visibility;

use crate::store::types::Secret;
use models::RoomRecord;
use row_ids::HeadCache;

/// State that the writer has at hand while it inserts rows.
pub(in crate::store) struct WriteContext<'a> {
    pub(in crate::store) connection: &'a Connection,
    pub(in crate::store) heads: &'a mut HeadCache,
    pub(in crate::store) me: PeerId,
    pub(in crate::store) room: Option<RoomRecord>,
    pub(in crate::store) secret: &'a Secret,
    pub(in crate::store) now: Timestamp,
}
