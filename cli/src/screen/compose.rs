//! What is typed: the text and its editing keys, what Up recalls, completion, what a line means, and what waits to
//! be posted.

pub(crate) mod command;
pub(crate) mod completion;
pub(crate) mod composer;
pub(crate) mod outbox;
pub(crate) mod recall;
