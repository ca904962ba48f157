//! The tables of the database, a file for each group of them; the schema itself is in `open/schema.rs`.

pub(in crate::store) mod entries;
pub(in crate::store) mod events;
pub(in crate::store) mod idempotency;
pub(in crate::store) mod messages;
pub(in crate::store) mod meta;
pub mod models;
pub(in crate::store) mod row_ids;
pub(in crate::store) mod sql_types;
pub(in crate::store) mod visibility;
