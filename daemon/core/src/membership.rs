//! Who belongs to the room: derived from the control entries that are held, and from nothing else.

pub(crate) mod facts;
pub(crate) mod names;
pub mod roster;
pub(crate) mod rules;
pub(crate) mod story;
