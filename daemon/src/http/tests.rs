//! Tests of the API over real sockets, against a real store and a room that is played.

mod anything;
pub(crate) mod client;
pub(crate) mod fixture;
mod guard;
mod history;
mod limits;
mod openapi;
mod played;
mod problems;
mod retries;
mod streams;
mod tally;
