//! Text as people type it, turned into values, and values turned into text that is safe on a terminal.

pub(crate) mod input;
pub(crate) mod recipients;
pub(crate) mod render;
pub(crate) mod table;
pub(crate) mod time_arg;
pub(crate) mod transcript;
pub(crate) mod ui;
pub(crate) mod wrap;
