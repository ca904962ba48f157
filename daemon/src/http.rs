//! The local API: HTTP and SSE on a Unix socket and on loopback TCP.
//!
//! [`serve`](server::serve) accepts connections on both [`Listeners`](server::listen::Listeners). A request passes, in this order:
//! the guard that identifies the caller ([`auth`]), the check of its media type and query parameters against the table of
//! calls (`calls`), and its handler (`handlers`, `event_stream`). Every error becomes a problem document in one place
//! (`problem`).
//!
//! Handlers only translate: they ask the node through its handle, read the store, and send through the use case in
//! `crate::send`. They find the room in a [`RoomSlot`](api_state::RoomSlot), because a daemon can move to another room
//! while it runs, and ask the process through [`DaemonControl`](daemon_control::DaemonControl). Imports lead from here to
//! `send`, `node`, `net` and `store`, never back.

pub mod access_tokens;
pub mod api_state;
pub mod auth;
pub mod daemon_control;
pub mod server;

mod calls;
mod event_stream;
pub(crate) mod extract;
mod handlers;
mod problem;
mod routes;

#[cfg(test)]
mod tests;
