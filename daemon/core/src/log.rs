//! The log of the room: every author's chain of signed entries.

pub mod entry;
pub(crate) mod heads;
pub(crate) mod pending;
