//! Vocabulary of the local API, shared by `chatd`, `chat` and scripts.
//!
//! Identifiers, the text form of tickets, request and response bodies, events, error codes. The crate does no I/O and
//! depends on no clock and no runtime, so any client can use it. The bodies derive [`schemars::JsonSchema`]: the OpenAPI
//! document that the daemon serves is made from these types and their doc comments, so write the comments for its readers.
//!
//! * [`id`]: identifiers of peers, rooms, messages, invites.
//! * [`time`]: timestamps and durations.
//! * [`ticket`]: the line of text that admits a peer to a room.
//! * [`cursor`]: a durable position in the event stream.
//! * [`event`]: events of `GET /v1/events`.
//! * [`error`]: stable error codes, problem documents, exit codes.
//! * [`api`]: request and response bodies of the calls.
//! * [`text`]: checks on names and messages, and display of untrusted text.

pub mod api;
pub mod cursor;
pub mod error;
pub mod event;
pub mod id;
pub mod text;
pub mod ticket;
pub mod time;

mod schema;

/// Maximum length of a message, in bytes of UTF-8 (16 KiB).
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Maximum length of the name of a peer or a room, in characters.
pub const NAME_CHARS_MAX: usize = 32;

/// Maximum number of recipients of a direct message.
pub const RECIPIENTS_MAX: usize = 16;

/// UDP and TCP port that peers listen on by default: `CHATD` on a phone keypad.
pub const PEER_PORT: u16 = 24283;

/// Default TCP port of the local API on `127.0.0.1`.
pub const API_PORT: u16 = 24284;
