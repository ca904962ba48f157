//! The one task that owns the room, and the handle through which the other parts reach it.

pub mod driver;
mod effects;
pub mod handle;
