//! The room on the whole screen, in a terminal emulator and with real daemons.

mod room;
mod terminal;
mod typing;
