//! The daemon: everything around the pure room of `chat-core`.
//!
//! * [`node`]: the one task that owns the room, executes its outputs and serves the other parts through a handle.
//! * [`net`]: the iroh endpoint: connections, the gate, bounded queues, admission, services on TCP.
//! * [`store`]: SQLite on its own thread: entries, history, search, events, ratchets.
//! * [`clock`]: wall clock and monotonic time.
//! * [`plumtree`]: the broadcast tree of large rooms.
//! * [`http`]: the local API.
//! * `send`: the use case of sending a message.
//! * [`app`]: the process: command line, settings, home, start in the background, orderly shutdown.

pub mod app;
pub mod clock;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod http;
pub mod net;
pub mod node;
pub mod plumtree;
mod private_file;
pub mod store;

mod send;
