//! The handlers of the calls, one module for each family; each translates a request for the room and its answer back.

pub(crate) mod invites;
pub(crate) mod members;
pub(crate) mod message_lines;
pub(crate) mod messages;
pub(crate) mod metrics;
pub(crate) mod peers;
pub(crate) mod read_marks;
pub(crate) mod readers;
pub(crate) mod status;
pub(crate) mod tokens;
pub(crate) mod web;
