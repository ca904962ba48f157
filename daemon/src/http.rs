//! The local API: HTTP and SSE on a Unix socket and on loopback TCP.
//!
//! [`serve`](server::serve) accepts on both [`Listeners`](listen::Listeners). A request passes, in this order: the guard
//! (who calls, from where: [`auth`]), the check of its shape (media type, query parameters), its handler. What goes wrong
//! anywhere becomes a problem document in one place. Handlers hold nothing of the room: they ask the node through its
//! handle and the store through its read connections; both stand in a [`RoomSlot`](state::RoomSlot), because a daemon can
//! move from one room to another while it runs.
//!
//! One table of calls is what the check of query parameters and the OpenAPI document follow.

pub mod api_state;
pub mod auth;
pub mod listen;
pub mod server;

mod calls;
mod event_stream;
mod extract;
mod handlers;
mod openapi;
mod problem;
mod routes;

#[cfg(test)]
mod tests;
