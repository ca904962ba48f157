//! The running daemon: its process, its services, its room, and its orderly end.

pub(crate) mod background;
pub(crate) mod daemon;
mod join;
mod leave;
mod open_room;
mod process;
mod retention;
mod running_room;
mod services;
pub(crate) mod shutdown;
