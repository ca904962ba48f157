//! The one task that owns the room, and the handle through which everybody else reaches it.

pub mod driver;
mod effects;
pub mod handle;
