//! The daemon: shells around the pure room of `chat-core`.
//!
//! * [`node`]: the one task that owns the room, executes its outputs and answers everybody else through a handle.
//! * [`net`]: the iroh endpoint: connections, gates, bounded queues, admission, hello.
//! * [`store`]: SQLite on its own thread: entries, history, search, events, ratchets.
//! * [`plumtree`]: the broadcast tree of large rooms.
//! * [`http`]: the local API.
//! * `send`: the use case of sending a message.
//! * [`app`]: the process: command line, settings, home, start in the background, orderly shutdown.

pub mod app;
pub mod http;
pub mod net;
pub mod node;
pub mod plumtree;
pub mod store;

mod send;
mod wall_clock;
