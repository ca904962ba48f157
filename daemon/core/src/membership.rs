//! Who belongs to the room.

pub mod roster;
