//! Tests of the API over real sockets, against a real store and a room that is played.

mod arbitrary_requests;
mod callers;
mod event_streams;
mod figures;
mod history;
mod idempotent_sends;
mod limits;
mod message_lines;
mod openapi;
mod played_room;
mod problems;
mod starting;
pub(crate) mod test_api;
pub(crate) mod test_client;
mod web;
