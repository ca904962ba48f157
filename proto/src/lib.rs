//! What `chatd`, `chat` and scripts say to each other.
//!
//! This crate holds the vocabulary of the local API and nothing else: identifiers, the text form of tickets, request and
//! response bodies, events, error codes. It does no IO, knows no clock and no runtime, so any client can depend on it.
//!
//! * [`id`]: peers, rooms, messages, invites: what things are called on the wire and on screen.
//! * [`time`]: timestamps and durations as people and scripts write them.
//! * [`ticket`]: the line of text that lets a newcomer in.
//! * [`cursor`]: a durable place in the event stream.
//! * [`event`]: what `GET /v1/events` streams.
//! * [`error`]: stable error codes, problem documents, exit codes.
//! * [`api`]: bodies of every call of the local API.

pub mod api;
pub mod cursor;
pub mod error;
pub mod event;
pub mod id;
pub mod text;
pub mod ticket;
pub mod time;

/// Longest text of one message, in bytes of UTF-8 (16 KiB).
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Longest name of a peer or a room, in characters.
pub const NAME_CHARS_MAX: usize = 32;

/// Most recipients of one direct message.
pub const RECIPIENTS_MAX: usize = 16;

/// Port that peers listen on, UDP and TCP: `CHATD` on a phone's keys.
pub const PEER_PORT: u16 = 24283;

/// Port of the local API on `127.0.0.1`.
pub const API_PORT: u16 = 24284;
